"""Damage pictures of one format in many ways, and look at each; run as a program of its own.

`python tests/fuzz/mutations.py KIND COUNT SEED` limits its own memory and the time of each picture,
and prints what came of it as JSON. A crash, a hang or an exception that is no refusal ends it, and
its last line on the error stream names the mutation.
"""

import io
import json
import random
import resource
import signal
import struct
import sys
import time
import zlib
from collections import Counter
from typing import TYPE_CHECKING

from PIL import Image

from venice_watch.errors import ImageRefusedError
from venice_watch.images.decoder import has_heif
from venice_watch.images.prepare import prepare
from venice_watch.images.probe import check_readable, probe, upright_size
from venice_watch.images.signature import RASTERS

if TYPE_CHECKING:
    from collections.abc import Callable

ADDRESS_SPACE_BYTES_MAX = 1_800_000_000  # of which a process without work already has a third
PICTURE_S_MAX = 5
SIZE = (150, 110)
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 20_000, 0x7FFFFFFF, 0xFFFFFFFF)


def picture(mode: str = "RGB") -> Image.Image:
    """Return a picture with detail and colour."""
    planes = [Image.effect_mandelbrot(SIZE, (-2, -1.2, shift, 1.2), 60) for shift in (1, 0.8, 0.6)]
    return Image.merge("RGB", planes).convert(mode)


def _saved(plugin: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, plugin, **options)
    return buffer.getvalue()


def _psd() -> bytes:
    """Return a Photoshop file without layers, packed as Photoshop does."""
    rows = []
    for plane in picture().split():
        pixels = plane.tobytes()
        for at in range(0, len(pixels), SIZE[0]):
            row = pixels[at : at + SIZE[0]]
            rows.append(b"\x7f" + row[:128] + bytes([SIZE[0] - 129]) + row[128:])
    body = b"".join(struct.pack(">H", len(row)) for row in rows) + b"".join(rows)
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, SIZE[1], SIZE[0], 8, 3)
    return header + bytes(12) + b"\0\1" + body


def _sun() -> bytes:
    header = struct.pack(">8I", 0x59A66A95, *SIZE, 24, 0, 3, 0, 0)  # 3: red first
    return header + picture().tobytes()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a maker"
    return exif


def _many(plugin: str, **options: object) -> bytes:
    return _saved(plugin, save_all=True, append_images=[picture().rotate(90)] * 3, **options)


def samples(kind: str) -> list[bytes]:
    """Return whole pictures of a format, the plainest first, in its decoder's variants."""
    deep = picture("L").convert("I").point(lambda value: value * 257).convert("I;16")
    makers: dict[str, Callable[[], list[bytes]]] = {
        "jpeg": lambda: [
            _saved("JPEG"),
            _saved("JPEG", exif=_exif()),
            _saved("JPEG", progressive=True),
            _saved("JPEG", picture("CMYK")),
            _saved("MPO", save_all=True, append_images=[picture()]),
        ],
        "png": lambda: [
            _saved("PNG"),
            _saved("PNG", exif=_exif()),
            _saved("PNG", picture().quantize(200)),
            _saved("PNG", deep),
            _many("PNG"),
        ],
        "webp": lambda: [
            _saved("WEBP"),
            _saved("WEBP", exif=_exif()),
            _saved("WEBP", picture("RGBA"), lossless=True),
            _many("WEBP"),
        ],
        "heic": lambda: [
            _saved("HEIF", quality=50),
            _saved("HEIF", picture("RGBA"), exif=_exif().tobytes()),
        ],
        "avif": lambda: [_saved("AVIF", speed=10, exif=_exif()), _many("AVIF", speed=10)],
        "gif": lambda: [_saved("GIF"), _many("GIF")],
        "tiff": lambda: [
            *(_saved("TIFF", compression=name) for name in ("raw", "tiff_lzw", "jpeg", "packbits")),
            _saved("TIFF", picture("1"), compression="group4"),
            _saved("TIFF", deep, tiffinfo={274: 6}),
            _saved("TIFF", picture("CMYK"), compression="tiff_adobe_deflate"),
            _many("TIFF"),
            _saved("TIFF", big_tiff=True),
        ],
        "bmp": lambda: [
            _saved("BMP"),
            _saved("BMP", picture().quantize(16)),
            _saved("BMP", picture("RGBA")),
        ],
        "jp2": lambda: [_saved("JPEG2000"), _saved("JPEG2000", irreversible=True, no_jp2=True)],
        "psd": lambda: [_psd()],
        "ico": lambda: [_saved("ICO", sizes=[(64, 64)]), _saved("ICO", bitmap_format="bmp")],
        "icns": lambda: [_saved("ICNS", picture().resize((128, 128)))],
        "tga": lambda: [_saved("TGA"), _saved("TGA", compression="tga_rle")],
        "ppm": lambda: [
            _saved("PPM"),
            b"P3 30 20 255 " + b" ".join(b"%d" % value for value in picture().tobytes()[:1_800]),
            b"P5 %d %d 65535 " % SIZE + picture("L").tobytes() * 2,
            b"P6 %d %d 100 " % SIZE + picture().tobytes(),
        ],
        "qoi": lambda: [_saved("QOI")],
        "dds": lambda: [
            _saved("DDS"),
            _saved("DDS", picture("RGBA"), pixel_format="DXT5"),
            _saved("DDS", picture("L")),
        ],
        "sgi": lambda: [_saved("SGI"), _saved("SGI", bpc=2)],
        "pcx": lambda: [_saved("PCX"), _saved("PCX", picture("1"))],
        "sun": lambda: [_sun()],
        "xbm": lambda: [_saved("XBM", picture("1"))],
    }
    return makers[kind]()


def mutated(chance: random.Random, whole: bytes, other: bytes) -> bytes:
    """Return `whole` with one to four kinds of damage."""
    data = bytearray(whole)
    for _ in range(chance.randint(1, 4)):
        # headers decide most, and are small: half of the damage goes there
        at = chance.randrange(min(len(data), chance.choice((64, 600, len(data)))) or 1)
        match chance.randrange(6):
            case 0:
                for _ in range(chance.randint(1, 8)):
                    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            case 1:
                data = data[: chance.randrange(8, len(data) + 1)] if len(data) > 8 else data
            case 2:
                start = chance.randrange(len(other))
                piece = other[start : start + chance.randint(1, 400)]
                data[at : at + chance.choice((0, len(piece)))] = piece
            case 3:
                value, order = chance.choice(EXTREMES), chance.choice("<>")
                size = 2 if value <= 0xFFFF and chance.random() < 0.5 else 4
                data[at : at + size] = struct.pack(order + ("H" if size == 2 else "I"), value)
            case 4:
                data[at : at + 40] = bytes(40)
            case _:
                del data[at : at + chance.randint(1, 40)]
        if len(data) < 9:
            return bytes(data)
    return _with_checksums(bytes(data)) if chance.random() < 0.7 else bytes(data)


def _with_checksums(data: bytes) -> bytes:
    """Make a PNG's checksums right again, so that what is damaged is met by the decoder."""
    if not data.startswith(b"\x89PNG"):
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4])
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4)
        at = end + 4
    return bytes(out)


def look_at(data: bytes, chance: random.Random) -> str:
    """Do with `data` all that is done with a file before it is sent; return what came of it."""
    try:
        found = probe(data)
        check_readable(data, found)
        width, height = upright_size(found)
        share = chance.choice((1, 1, 0.6, 0.13))
        prepared = prepare(
            data,
            found,
            width=max(1, int(width * share)),
            height=max(1, int(height * share)),
            frame=chance.randrange(found.frames) if chance.random() < 0.3 else 0,
            flatten=chance.choice((None, (255, 255, 255))),
        )
    except ImageRefusedError as refusal:
        return str(refusal.code)
    return "converted" if prepared.converted else "as it is"


def main(kind: str, count: int, seed: int) -> None:
    """Run `count` mutations and print the sums."""
    assert kind in RASTERS
    has_heif()  # before its pictures are made
    wholes = samples(kind)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES_MAX, ADDRESS_SPACE_BYTES_MAX))
    became: Counter[str] = Counter()
    slowest_s = 0.0
    for number in range(count):
        chance = random.Random(f"{seed} {kind} {number}")
        data = mutated(chance, chance.choice(wholes), chance.choice(wholes))
        sys.stderr.write(f"\rmutation {number} of {kind}, seed {seed}, {len(data)} bytes ")
        sys.stderr.flush()
        begin = time.monotonic()
        signal.alarm(PICTURE_S_MAX)  # nobody handles it: it ends the process
        became[look_at(data, chance)] += 1
        signal.alarm(0)
        slowest_s = max(slowest_s, time.monotonic() - begin)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
    print(json.dumps({"became": became, "slowest_s": slowest_s, "peak_bytes": peak_bytes}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
