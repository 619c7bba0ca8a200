"""Pictures to send: as many different ones as wanted, quick to make.

Rules: they differ in their pixels, and not in metadata, which may be left out of what is sent. A
PNG is a first row of its own and a common rest that is compressed once; a JPEG is encoded anew.
"""

import io
import random
import struct
import zlib
from pathlib import Path

from PIL import Image, ImageCms, ImageFilter

MEGAPIXEL = (1250, 800)
SIDES = {1: MEGAPIXEL, 8: (3464, 2309), 24: (6000, 4000)}  # pixels, by megapixels
SMALL = (256, 256)  # the least that the API takes
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NUMBER_BYTES = 8
_GRAIN = 24  # strength of the noise: a photograph's PNG has about one byte for each pixel of it


def drawing(size: tuple[int, int]) -> Image.Image:
    """Return an RGB picture with flat areas, small as a file, always the same."""
    return photograph(size, grain=0).point(lambda level: level & 0xE0)


def photograph(size: tuple[int, int], *, grain: int = _GRAIN) -> Image.Image:
    """Return an RGB picture with soft shapes and some grain, always the same."""
    width, height = size
    chance = random.Random(0)  # noqa: S311 - a picture, no secret
    blobs = Image.new("RGB", (12, 8))
    blobs.putdata([tuple(chance.randbytes(3)) for _ in range(12 * 8)])
    soft = blobs.resize(size, Image.Resampling.BICUBIC)
    if not grain:
        return soft
    small = (max(1, width // 3), max(1, height // 3))
    noise = Image.frombytes("L", small, chance.randbytes(small[0] * small[1]))
    noise = noise.filter(ImageFilter.BoxBlur(1)).resize(size, Image.Resampling.BILINEAR)
    return Image.blend(soft, Image.merge("RGB", (noise, noise, noise)), grain / 255)


class PngMaker:
    """PNGs of one size: the n-th is always the same, and no other one is like it."""

    def __init__(self, picture: Image.Image) -> None:
        width, height = picture.size
        out = io.BytesIO()
        picture.save(out, "PNG", compress_level=1)
        rows = zlib.decompress(_image_data(out.getvalue()))  # each with its filter in front
        stride = 1 + width * len(picture.getbands())
        self._first, self._rest = rows[:stride], rows[stride:]
        packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._packed = packer.compress(self._rest) + packer.flush()
        self._header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def make(self, number: int) -> bytes:
        """Return the n-th picture's file."""
        mark = number.to_bytes(_NUMBER_BYTES)
        first = self._first[:1] + mark + self._first[1 + _NUMBER_BYTES :]
        packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        head = packer.compress(first) + packer.flush(zlib.Z_FULL_FLUSH)
        check = zlib.adler32(self._rest, zlib.adler32(first))
        data = b"\x78\x9c" + head + self._packed + struct.pack(">I", check)
        return (
            _SIGNATURE
            + _chunk(b"IHDR", self._header)
            + _chunk(b"IDAT", data)
            + _chunk(b"IEND", b"")
        )


class JpegMaker:
    """JPEGs of one size with the metadata of a camera."""

    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture
        self._profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = "Bench", "One"  # make, model
        exif[0x0132] = "2026:01:31 12:00:00"
        self._exif = exif.tobytes()

    def make(self, number: int) -> bytes:
        """Return the n-th picture's file."""
        marks = number.to_bytes(_NUMBER_BYTES)
        for at, value in enumerate(marks):
            colour = (value, 255 - value, value * 7 % 256)
            self._picture.paste(colour, (at * 16, 0, at * 16 + 16, 16))  # whole blocks
        out = io.BytesIO()
        self._picture.save(out, "JPEG", quality=90, exif=self._exif, icc_profile=self._profile)
        return out.getvalue()


def fill(folder: Path, maker: PngMaker | JpegMaker, count: int, *, suffix: str = "png") -> int:
    """Write so many pictures into a folder; return the size of the last in bytes."""
    size_bytes = 0
    for number in range(count):
        data = maker.make(number)
        (folder / f"p{number:06}.{suffix}").write_bytes(data)
        size_bytes = len(data)
    return size_bytes


def _image_data(png: bytes) -> bytes:
    """Return what is in a PNG's IDAT chunks."""
    found, at = bytearray(), len(_SIGNATURE)
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            found += png[at + 8 : at + 8 + length]
        at += length + 12
    return bytes(found)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
