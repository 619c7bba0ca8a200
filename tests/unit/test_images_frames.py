"""Which pictures of a file are frames, how large each is, and what damage is found beforehand."""

import io
import struct
import zlib
from collections.abc import Sequence

import pytest
from PIL import Image

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images.frames import Frame, FrameSet, check_frames, find_frames
from venice_watch.images.prepare import prepare
from venice_watch.images.probe import probe, upright_size
from venice_watch.images.signature import identify

COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10))
NEW_SUBFILE_TYPE, OLD_SUBFILE_TYPE, ORIENTATION = 254, 255, 274


def picture(number: int, size: tuple[int, int] = (300, 280)) -> Image.Image:
    """Return a picture of one colour, each number its own."""
    return Image.new("RGB", size, COLOURS[number])


def film(kind: str, count: int = 3, **options: object) -> bytes:
    """Return an animation whose frames have a colour each."""
    out = io.BytesIO()
    rest = [picture(number) for number in range(1, count)]
    picture(0).save(out, kind, save_all=True, append_images=rest, **options)
    return out.getvalue()


def document(
    sizes: Sequence[tuple[int, int]], tags: Sequence[dict[int, int]] | None = None
) -> bytes:
    """Return a TIFF with a page of each size."""
    out = io.BytesIO()
    pages = [picture(number, size) for number, size in enumerate(sizes)]
    for page, more in zip(pages, tags or [{}] * len(pages), strict=True):
        page.encoderinfo = {"tiffinfo": more}
    first, *rest = pages
    first.save(out, "TIFF", save_all=True, append_images=rest, tiffinfo=(tags or [{}])[0])
    return out.getvalue()


def find(data: bytes, count_max: int = 100) -> FrameSet:
    """Return the frames of a file as the pipeline asks for them."""
    kind = identify(data)
    assert kind is not None
    return find_frames(data, kind, canvas=upright_size(probe(data)), count_max=count_max)


def sent(data: bytes, frame: Frame) -> Image.Image:
    """Return the picture that would be sent of a frame."""
    found = probe(data, frame=frame.position)
    width, height = upright_size(found)
    prepared = prepare(data, found, width=width, height=height, frame=frame.position)
    image = Image.open(io.BytesIO(prepared.data)).convert("RGB")
    assert image.size == (frame.width, frame.height)
    return image


def looks_like(image: Image.Image, number: int) -> bool:
    """Tell whether a picture has the colour of this number, whatever compression made of it."""
    pixel = image.getpixel((5, 5))
    assert isinstance(pixel, tuple)
    return all(abs(a - b) < 20 for a, b in zip(pixel, COLOURS[number], strict=True))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_each_frame_is_sent_as_it_is_shown(kind: str) -> None:
    """All frames are found, in their order, and each is sent by itself."""
    data = film(kind)
    found = find(data)
    assert found.count == 3
    assert [(one.width, one.height) for one in found.frames] == [(300, 280)] * 3
    for number, frame in enumerate(found.frames):
        assert looks_like(sent(data, frame), number)
    check_frames(data, probe(data).format, found.frames)


def test_frames_are_composed() -> None:
    """A frame that changes a part of the one before is sent with the rest of it."""
    second = picture(0)
    second.paste(COLOURS[1], (100, 100, 140, 140))
    third = second.copy()
    third.paste(COLOURS[2], (200, 200, 240, 240))
    out = io.BytesIO()
    picture(0).save(out, "GIF", save_all=True, append_images=[second, third])
    data = out.getvalue()
    assert len(data) < len(film("GIF")), "only what differs is stored"
    image = sent(data, find(data).frames[2])
    assert [image.getpixel(at) for at in ((5, 5), (120, 120), (220, 220))] == list(COLOURS[:3])


def test_a_frame_beyond_the_canvas() -> None:
    """A frame that is larger than what the file shows is cut to that, and not squeezed into it."""
    parts = []
    for number, size in ((0, (300, 280)), (1, (400, 400))):
        out = io.BytesIO()
        image = picture(number, size)
        image.paste(COLOURS[2], (300, 280, 400, 400))
        image.quantize(4).save(out, "GIF")
        parts.append(out.getvalue())
    first, second = parts
    colours = second[13 : 13 + (3 << (second[10] & 7) + 1)]
    at = second.index(b"\x2c\0\0\0\0")
    frame = second[at : at + 9] + bytes([0x80 | second[10] & 7]) + colours + second[at + 10 :]
    data = first[:-1] + frame
    found = find(data)
    assert (found.count, found.frames[1].width, found.frames[1].height) == (2, 300, 280)
    image = sent(data, found.frames[1])
    corner = image.getpixel((298, 278))
    assert corner == COLOURS[1], "what lies beyond is not seen"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "PPM", "TIFF", "GIF"])
def test_a_picture_is_one_frame(kind: str) -> None:
    """What has one picture has one frame, as large as that."""
    out = io.BytesIO()
    picture(0).save(out, kind)
    frame = Frame(position=0, width=300, height=280)
    assert find(out.getvalue()) == FrameSet(count=1, frames=(frame,))


def test_layers_previews_and_a_phones_second_picture_are_no_frames() -> None:
    """MPO, icons and PSD have one frame."""
    out = io.BytesIO()
    picture(0).save(out, "MPO", save_all=True, append_images=[picture(1)])
    assert find(out.getvalue()).count == 1
    out = io.BytesIO()
    picture(0, (256, 256)).save(out, "ICO", sizes=[(64, 64), (256, 256)])
    assert find(out.getvalue()).count == 1


def test_pages_have_sizes_of_their_own() -> None:
    """Every page of a TIFF is as large as itself, and sent so."""
    data = document([(300, 280), (500, 400), (260, 600)])
    found = find(data)
    assert [(one.width, one.height) for one in found.frames] == [(300, 280), (500, 400), (260, 600)]
    for number, frame in enumerate(found.frames):
        assert looks_like(sent(data, frame), number)


def test_a_turned_page() -> None:
    """A page with an orientation of its own is as large as it is shown."""
    data = document([(300, 280), (500, 400)], [{}, {ORIENTATION: 6}])
    first, second = find(data).frames
    assert (first.width, first.height, second.width, second.height) == (300, 280, 400, 500)
    assert looks_like(sent(data, second), 1)


@pytest.mark.parametrize(
    "tag",
    [{NEW_SUBFILE_TYPE: 1}, {NEW_SUBFILE_TYPE: 4}, {NEW_SUBFILE_TYPE: 5}, {OLD_SUBFILE_TYPE: 2}],
)
def test_thumbnails_and_masks_are_no_pages(tag: dict[int, int]) -> None:
    """A page that says it is a thumbnail or a mask is none, and the others keep their places."""
    data = document([(300, 280), (64, 64), (500, 400)], [{}, tag, {NEW_SUBFILE_TYPE: 2}])
    found = find(data)
    assert (found.count, [one.position for one in found.frames]) == (2, [0, 2])
    assert probe(data).frames == 2
    assert looks_like(sent(data, found.frames[1]), 2)


def test_nothing_but_thumbnails() -> None:
    """A file whose pages all say that they are thumbnails has these for pages."""
    data = document([(300, 280), (300, 280)], [{NEW_SUBFILE_TYPE: 1}] * 2)
    assert find(data).count == 2


def test_more_than_asked_for() -> None:
    """Beyond the limit only the number is told."""
    for kind in ("GIF", "TIFF"):
        assert find(film(kind, 4), count_max=3) == FrameSet(count=4, frames=())
        assert len(find(film(kind, 4), count_max=4).frames) == 4


def test_a_header_that_boasts_takes_no_memory() -> None:
    """A count of four thousand millions in a header is a number, not a list."""
    data = film("PNG")
    at = data.index(b"acTL") + 4
    body = b"acTL" + struct.pack(">II", 2**31 - 1, 0)
    checksum = struct.pack(">I", zlib.crc32(body))
    boasting = data[: at - 4] + body + checksum + data[at + 12 :]
    assert find(boasting) == FrameSet(count=2**31 - 1, frames=())


def test_more_than_was_asked_for() -> None:
    """A film with more frames than are wanted says how many it has."""
    data = film("GIF", 4)
    assert find(data, count_max=2) == FrameSet(count=4, frames=())
    assert len(find(data, count_max=4).frames) == 4


def _cut_gif(data: bytes) -> bytes:
    return data[: len(data) * 9 // 10] + b"\x00;"


def _break_last_page(data: bytes) -> bytes:
    """Let the last page's pixels lie behind the end of the file."""
    with Image.open(io.BytesIO(data)) as image:
        image.seek(2)
        offset = image.tag_v2[273][0]  # type: ignore[attr-defined]
    packed = struct.pack("<I", offset)
    at = data.rindex(packed)
    return data[:at] + struct.pack("<I", len(data) + 1_000) + data[at + 4 :]


@pytest.mark.parametrize(
    "data", [_cut_gif(film("GIF")), _break_last_page(film("TIFF"))], ids=["gif", "tiff"]
)
def test_damage_behind_the_first_frame_is_found(data: bytes) -> None:
    """A frame that cannot be decoded is named before anything is paid."""
    kind = probe(data).format
    with pytest.raises(ImageRefusedError, match=r"Frame [23] of 3: ") as refused:
        check_frames(data, kind, find(film("GIF" if kind == "gif" else "TIFF")).frames)
    assert refused.value.code in (Code.CORRUPT, Code.INCOMPLETE)


def test_a_broken_chain_of_pages() -> None:
    """Where the pages behind the first cannot be walked, nobody says that there is one."""
    data = film("TIFF")
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    at = first + 2 + 12 * entries
    broken = data[:at] + struct.pack("<I", len(data) - 1) + data[at + 4 :]
    assert probe(broken).frames == 1  # good enough where the first is all that is wanted
    with pytest.raises(ImageRefusedError) as refused:
        find(broken)
    assert refused.value.code in (Code.CORRUPT, Code.INCOMPLETE)
