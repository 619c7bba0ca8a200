"""Which pictures of a file are frames: animation frames and pages, in the order they are shown.

Rules: thumbnails, masks, layers, previews and depth maps are no frames; where every picture of a
TIFF says that it is one of these, all of them are pages. A frame is as large as the canvas it is
shown on; only pages have sizes of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from venice_watch.errors import ImageRefusedError
from venice_watch.images.counting import count_gif_frames
from venice_watch.images.decoder import decoding, open_image

FRAMED = frozenset({"gif", "png", "webp", "avif", "tiff"})
PAGES_MAX = 10_001  # that are walked through: one more than may be asked for

# TIFF 6.0, NewSubfileType and the older SubfileType
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE = 254, 255
_REDUCED_OR_MASK = 0b101  # bits of the first; bit 1 says that it is a page
_OLD_REDUCED = 2  # of the second
_WIDTH, _HEIGHT, _ORIENTATION = 256, 257, 274
_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame, and where a decoder finds it."""

    position: int  # among all pictures of the file, from 0
    width: int  # pixels, upright
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSet:
    """The frames of a file."""

    count: int  # as far as was counted: at least one more than was asked for
    frames: tuple[Frame, ...]  # none where there are more than was asked for


def find_frames(data: bytes, kind: str, *, canvas: tuple[int, int], count_max: int) -> FrameSet:
    """Return the frames of `data`, a file of format `kind`, if there are at most `count_max`.

    `canvas` is the upright (width, height) of its first picture, in pixels. Decodes no pixels.

    Raises:
        ImageRefusedError: `corrupt` or `incomplete` where they cannot be told.

    """
    if kind not in FRAMED:
        return FrameSet(count=1, frames=_alike(1, canvas))
    with decoding(data, kind), open_image(data, kind) as image:
        if kind == "tiff":
            found = tuple(pages(image))
            return FrameSet(count=len(found), frames=found if len(found) <= count_max else ())
        if kind == "gif":
            count = count_gif_frames(data, PAGES_MAX)
        else:
            count = max(1, int(getattr(image, "n_frames", 1)))
    return FrameSet(count=count, frames=_alike(count, canvas) if count <= count_max else ())


def pages(image: Image.Image) -> list[Frame]:
    """Walk the pages of an open TIFF, at most `PAGES_MAX`; leaves it at another one.

    Raises whatever Pillow does where the chain of pages is damaged: call in `decoding`.
    """
    every: list[Frame] = []
    shown: list[Frame] = []
    for position in range(PAGES_MAX):
        try:
            image.seek(position)
        except EOFError:
            break
        tags = getattr(image, "tag_v2", {})
        sides = [_whole(tags.get(tag), otherwise) for tag, otherwise in _sides(image)]
        if tags.get(_ORIENTATION) in _SIDEWAYS:
            sides.reverse()
        every.append(Frame(position=position, width=sides[0], height=sides[1]))
        reduced = _whole(tags.get(_SUBFILE_TYPE), 0) & _REDUCED_OR_MASK
        if not reduced and tags.get(_OLD_SUBFILE_TYPE) != _OLD_REDUCED:
            shown.append(every[-1])
    return shown or every


def check_frames(data: bytes, kind: str, frames: Sequence[Frame]) -> None:
    """Decode every frame, one after another, and keep nothing.

    Raises:
        ImageRefusedError: `incomplete`, `corrupt` or `too_large`, naming the frame.

    """
    with decoding(data, kind), open_image(data, kind) as image:
        for number, frame in enumerate(frames, start=1):
            try:
                with decoding(data, kind):
                    image.seek(frame.position)
                    image.load()
            except ImageRefusedError as exc:
                which = f"Frame {number} of {len(frames)}"
                raise ImageRefusedError(exc.code, f"{which}: {exc.message}") from exc


def _alike(count: int, canvas: tuple[int, int]) -> tuple[Frame, ...]:
    width, height = canvas
    return tuple(Frame(position=n, width=width, height=height) for n in range(count))


def _sides(image: Image.Image) -> tuple[tuple[int, int], tuple[int, int]]:
    return (_WIDTH, image.width), (_HEIGHT, image.height)


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise
