"""What is sent of an image: its very bytes where the API takes them, else the nearest it takes.

Rules: nothing is converted that need not be; a conversion loses no more than it must (lossless
first, colours through their profile, depth scaled and never clipped); the result is upright, of
the size asked for, and below the API's limit. Every byte is looked at before it is sent, once.
"""

from dataclasses import dataclass

from venice_watch.images.damage import jpeg_end
from venice_watch.images.decoder import decoding, open_image
from venice_watch.images.pixels import BITS_SENT, decode, find_profile
from venice_watch.images.probe import (
    UPRIGHT,
    Probe,
    check_readable,
    check_whole,
    upright_size,
)
from venice_watch.images.signature import RASTERS
from venice_watch.images.upload import encode
from venice_watch.parameters import UPLOAD_BYTES_MAX

SENT_AS_IS = frozenset({"jpeg", "png", "webp"})

# Four inks and 16-bit grey are taken by the API's document, but common servers invert the one and
# clip the other to white, and the result has been paid for by then.
_MODES_AS_IS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The bytes to send, and what was done to get them."""

    data: bytes
    media_type: str
    extension: str  # without a dot
    width: int  # pixels
    height: int
    converted: bool  # False: `data` are the file's own bytes
    note: str  # what was changed, for the journal; empty if nothing was
    profile: bytes | None = None  # ICC, of the pixels that are sent; None for sRGB and for unknown


def prepare(
    data: bytes,
    probe: Probe,
    *,
    width: int,
    height: int,
    frame: int = 0,
    flatten: tuple[int, int, int] | None = None,
) -> Prepared:
    """Return what to send of `data` for an upload of `width` x `height` pixels, upright.

    `frame` counts all pictures of the file from 0, and `probe` is of that one; `flatten` is the
    colour (red, green, blue, 0 to 255) that whatever is transparent is laid on. What is returned
    has been checked as `check_readable` does: there is no need to call both.

    Raises:
        ImageRefusedError: `too_large` if no encoding fits or it cannot be decoded on this machine,
            `corrupt` or `incomplete` if it is damaged.

    """
    upright = upright_size(probe)
    assert 0 < width <= upright[0], "the source is only ever reduced"
    assert 0 < height <= upright[1], "the source is only ever reduced"
    flattens = flatten is not None and probe.has_alpha
    if _may_go_as_is(probe) and upright == (width, height) and not flattens:
        whole = _below_the_limit(data, probe)
        if whole is not None:
            return _as_it_is(data, whole, probe)
    check_whole(data, probe)
    with decoding(data, probe.format):
        pixels = decode(data, probe, width=width, height=height, frame=frame, flatten=flatten)
        assert pixels.image.size == (width, height), "what is sent is what was planned"
        encoded, kind = encode(pixels.image, pixels.profile)
    steps = (
        *_what_was_taken(probe, kind, frame),
        *pixels.steps,
        *_what_was_moved(probe, (width, height), source_bytes=len(data)),
    )
    return Prepared(
        data=encoded,
        media_type=RASTERS[kind].media_type,
        extension=RASTERS[kind].extension,
        width=width,
        height=height,
        converted=True,
        note=", ".join(steps),
        profile=pixels.profile,
    )


def _may_go_as_is(probe: Probe) -> bool:
    return (
        probe.format in SENT_AS_IS
        and probe.frames == 1
        and probe.orientation == UPRIGHT
        and probe.mode in _MODES_AS_IS
    )


def _below_the_limit(data: bytes, probe: Probe) -> bytes | None:
    """Return the file's bytes, without what a phone put behind its picture if that is too much."""
    if len(data) <= UPLOAD_BYTES_MAX:
        return data
    end = jpeg_end(data) if probe.format == "jpeg" else 0
    return data[:end] if 0 < end <= UPLOAD_BYTES_MAX else None


def _as_it_is(data: bytes, sent: bytes, probe: Probe) -> Prepared:
    check_readable(sent, probe)
    with decoding(sent, probe.format), open_image(sent, probe.format) as image:
        profile = find_profile(sent, probe.format, image)
    steps = []
    if probe.bits > BITS_SENT:
        steps.append(f"{probe.bits} bits a channel, of which a result has {BITS_SENT}")
    if sent is not data:
        left_out = len(data) - len(sent)
        steps.append(f"without the {left_out:,} bytes behind the picture's end")
    return Prepared(
        data=sent,
        media_type=probe.media_type,
        extension=RASTERS[probe.format].extension,
        width=probe.width,
        height=probe.height,
        converted=sent is not data,
        note=", ".join(steps),
        profile=profile,
    )


def _what_was_taken(probe: Probe, kind: str, frame: int) -> list[str]:
    steps = []
    if probe.frames > 1:
        which = f"frame {frame + 1}" if frame else "first"
        steps.append(f"{which} of {probe.frames} frames")
    if probe.format != kind or probe.mode not in _MODES_AS_IS:
        steps.append(f"{probe.format} {probe.mode} as {kind}")
    return steps


def _what_was_moved(probe: Probe, size: tuple[int, int], *, source_bytes: int) -> list[str]:
    steps = []
    if probe.orientation != UPRIGHT:
        steps.append("turned upright")
    if size != upright_size(probe):
        before = upright_size(probe)
        steps.append(f"reduced from {before[0]} x {before[1]} to {size[0]} x {size[1]}")
    if source_bytes > UPLOAD_BYTES_MAX:
        steps.append(f"encoded again, its {source_bytes:,} bytes being over {UPLOAD_BYTES_MAX:,}")
    return steps
