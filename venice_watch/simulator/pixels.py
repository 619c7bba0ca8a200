"""The only place that touches pictures: what one is, and its enlargement as PNG.

Rules: runs in worker threads, keeps nothing. The result is made from the raw pixels: orientation
is not applied, metadata and profiles are dropped, 8 bits, alpha kept (as the real server does). A
flawed result is made here too, because only here is it cheap to make it wrong in one point only.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from PIL import Image, ImageFilter

PixelsName = Literal["real", "nearest", "canned"]

OPENED = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")  # known by name
HUGE_BYTES = 80_000_000  # about what 16.7 megapixels of RGBA noise weigh
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")  # a picture by its first bytes

# Decoders meet hostile bytes here, and this is what they are known to raise.
_DECODE_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, OverflowError, LookupError, TypeError,
    struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


class Flaw(StrEnum):
    """What is wrong with a result that is sent as if it were right."""

    NONE = "none"
    SMALLER = "smaller"  # half the width and height that were asked for
    JPEG = "jpeg"  # still called image/png
    DAMAGED = "damaged"  # one byte of the pixels changed: the chunk's CRC no longer fits
    HUGE = "huge"  # padded with a private chunk to HUGE_BYTES; otherwise in order


class UnreadableError(Exception):
    """Bytes that are no picture (`known` False) or a broken one."""

    def __init__(self, *, known: bool) -> None:
        super().__init__("corrupt" if known else "not a known picture format")
        self.known = known


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a picture's header says; sizes in pixels."""

    width: int
    height: int
    format: str


def identify(image: bytes) -> Picture:
    """Return what `image` is, from its header; raise UnreadableError."""
    try:
        with Image.open(io.BytesIO(image), formats=OPENED) as opened:
            name = "JPEG" if opened.format == "MPO" else str(opened.format)
            return Picture(width=opened.width, height=opened.height, format=name)
    except _DECODE_ERRORS as exc:
        raise UnreadableError(known=image.startswith(MAGIC)) from exc


def render(
    image: bytes,
    size: tuple[int, int],
    *,
    strength: int,
    pixels: PixelsName = "real",
    flaw: Flaw = Flaw.NONE,
) -> bytes:
    """Return `image` as a PNG of `size` (px), sharpened by `strength` (percent)."""
    try:
        with Image.open(io.BytesIO(image), formats=OPENED) as opened:
            source = _plain(opened)
    except _DECODE_ERRORS as exc:
        raise UnreadableError(known=True) from exc
    if flaw is Flaw.SMALLER:
        size = (max(1, size[0] // 2), max(1, size[1] // 2))
    if pixels != "real":
        result = source.resize(size, Image.Resampling.NEAREST)
    else:
        # Before enlarging: the same look for a quarter of the time.
        result = _sharpen(source, strength).resize(size, Image.Resampling.BICUBIC)
    result.info.clear()  # Pillow would write the source's profile into the PNG
    if flaw is Flaw.JPEG:
        return _encode(result.convert("RGB"), "JPEG")
    return _spoil(_encode(result, "PNG"), flaw)


def _plain(opened: Image.Image) -> Image.Image:
    """Return the decoded pixels as 8-bit L, RGB or RGBA."""
    opened.load()
    if opened.mode in {"LA", "PA", "La", "RGBa"} or "transparency" in opened.info:
        return opened.convert("RGBA")
    if opened.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip at 255
        return opened.convert("I").point(lambda level: level * (1 / 256)).convert("L")
    if opened.mode in {"L", "RGB", "RGBA"}:
        return opened.copy()
    return opened.convert("L" if opened.mode in {"1", "F"} else "RGB")


def _sharpen(picture: Image.Image, strength: int) -> Image.Image:
    """Return the picture with more local contrast, its alpha untouched."""
    mask = ImageFilter.UnsharpMask(radius=1, percent=strength, threshold=1)
    if picture.mode != "RGBA":
        return picture.filter(mask)
    sharp = picture.convert("RGB").filter(mask)
    sharp.putalpha(picture.getchannel("A"))
    return sharp


def _encode(picture: Image.Image, name: Literal["PNG", "JPEG"]) -> bytes:
    out = io.BytesIO()
    if name == "PNG":
        picture.save(out, "PNG", compress_level=1)  # speed: nobody keeps these
    else:
        picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def _spoil(png: bytes, flaw: Flaw) -> bytes:
    """Return the PNG with a flaw that shows only in its bytes."""
    if flaw is Flaw.DAMAGED:
        middle = len(png) // 2
        return png[:middle] + bytes([png[middle] ^ 0xFF]) + png[middle + 1 :]
    if flaw is Flaw.HUGE:
        kind, padding = b"paDd", bytes(max(0, HUGE_BYTES - len(png) - 12))
        crc = zlib.crc32(padding, zlib.crc32(kind))
        end = len(png) - 12  # IEND: length, name, CRC
        chunk = struct.pack(">I", len(padding)) + kind + padding + struct.pack(">I", crc)
        return png[:end] + chunk + png[end:]
    return png
