"""What a file's first bytes claim it to be; names and endings count for nothing here.

Rules: a claim is only ever used to choose the one decoder that may look at the file, or to say
which program could read it instead. Nothing here decodes, and nothing here trusts a length.
"""

import re
from dataclasses import dataclass

HEAD_BYTES = 4_096  # where a text format (SVG, PostScript) must have shown itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Raster:
    """A format this program decodes."""

    plugin: str  # Pillow's name for the decoder, the only one that is let at the file
    media_type: str
    extension: str


# Only decoders that work on memory alone: PostScript, WMF, FlashPix and the like start other
# programs or read other files. Slow pure-Python decoders (QOI, DDS, XPM) are left out as well.
RASTERS = {
    "jpeg": Raster(plugin="JPEG", media_type="image/jpeg", extension="jpg"),
    "png": Raster(plugin="PNG", media_type="image/png", extension="png"),
    "webp": Raster(plugin="WEBP", media_type="image/webp", extension="webp"),
    "gif": Raster(plugin="GIF", media_type="image/gif", extension="gif"),
    "tiff": Raster(plugin="TIFF", media_type="image/tiff", extension="tif"),
    "bmp": Raster(plugin="BMP", media_type="image/bmp", extension="bmp"),
    "jp2": Raster(plugin="JPEG2000", media_type="image/jp2", extension="jp2"),
    "avif": Raster(plugin="AVIF", media_type="image/avif", extension="avif"),
    "psd": Raster(plugin="PSD", media_type="image/vnd.adobe.photoshop", extension="psd"),
    "ico": Raster(plugin="ICO", media_type="image/vnd.microsoft.icon", extension="ico"),
    "tga": Raster(plugin="TGA", media_type="image/x-tga", extension="tga"),
    "ppm": Raster(plugin="PPM", media_type="image/x-portable-anymap", extension="ppm"),
}

_TO_JPEG = "Convert it to JPEG or PNG first."
_EXPORT = "Export it as JPEG, PNG or 8-bit TIFF first."

# Formats that are recognised in order to refuse them helpfully: what to tell the owner.
UNREADABLE = {
    "heic": f"This is a HEIC picture, and there is no decoder for it here. {_TO_JPEG}",
    "jxl": f"This is a JPEG XL picture, and there is no decoder for it here. {_TO_JPEG}",
    "svg": "This is an SVG drawing, which has no pixels. Export it as PNG first.",
    "eps": "This is PostScript, a program rather than a picture. Export it as PNG first.",
    "pdf": "This is a PDF document. Export its pages as PNG first.",
    "wmf": "This is a Windows metafile, which has no pixels. Export it as PNG first.",
    "raw": f"This is a camera's raw file, whose preview is all that could be read. {_EXPORT}",
    "psb": f"This is a Photoshop large document (PSB). {_EXPORT}",
    "xcf": f"This is a GIMP project. {_EXPORT}",
    "exr": f"This is an OpenEXR picture, and there is no decoder for it here. {_EXPORT}",
    "dds": "This is a DirectDraw texture (DDS). Convert it to PNG or TGA first.",
    "qoi": f"This is a QOI picture, and there is no decoder for it here. {_TO_JPEG}",
    "video": "This is a video. Export single frames as JPEG or PNG first.",
}

# (format, offset, bytes); the first match wins.
_MAGIC: tuple[tuple[str, int, bytes], ...] = (
    ("jpeg", 0, b"\xff\xd8\xff"),
    ("png", 0, b"\x89PNG\r\n\x1a\n"),
    ("gif", 0, b"GIF87a"),
    ("gif", 0, b"GIF89a"),
    ("webp", 8, b"WEBP"),
    ("raw", 8, b"CR\x02\x00"),  # Canon, inside a TIFF
    ("tiff", 0, b"II*\x00"),
    ("tiff", 0, b"MM\x00*"),
    ("tiff", 0, b"II+\x00"),
    ("tiff", 0, b"MM\x00+"),
    ("bmp", 0, b"BM"),
    ("jp2", 0, b"\x00\x00\x00\x0cjP  \r\n\x87\n"),
    ("jp2", 0, b"\xff\x4f\xff\x51"),
    ("psb", 0, b"8BPS\x00\x02"),
    ("psd", 0, b"8BPS"),
    ("ico", 0, b"\x00\x00\x01\x00"),
    ("jxl", 0, b"\xff\x0a"),
    ("jxl", 0, b"\x00\x00\x00\x0cJXL \r\n\x87\n"),
    ("eps", 0, b"%!PS"),
    ("eps", 0, b"\xc5\xd0\xd3\xc6"),
    ("pdf", 0, b"%PDF"),
    ("wmf", 0, b"\xd7\xcd\xc6\x9a"),
    ("wmf", 40, b" EMF"),
    ("raw", 0, b"FUJIFILMCCD-RAW"),
    ("raw", 0, b"IIRO"),
    ("raw", 0, b"IIRS"),
    ("raw", 0, b"MMOR"),
    ("raw", 0, b"IIU\x00"),
    ("xcf", 0, b"gimp xcf"),
    ("exr", 0, b"v/1\x01"),
    ("dds", 0, b"DDS "),
    ("qoi", 0, b"qoif"),
    ("video", 0, b"\x1aE\xdf\xa3"),
    ("video", 8, b"AVI "),
)
_BRANDS = {
    "avif": (b"avif", b"avis"),
    "heic": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"mif1", b"msf1"),
    "raw": (b"crx ",),
}
_PORTABLE_ANYMAP = re.compile(rb"P[1-6Ff]\s")
_TGA_IMAGE_TYPES = (1, 2, 3, 9, 10, 11)
_TGA_DEPTHS = (8, 15, 16, 24, 32)
_TGA_HEADER_BYTES = 18


def identify(data: bytes) -> str | None:
    """Return the format that `data` claims: a key of `RASTERS` or of `UNREADABLE`, or None."""
    for name, offset, magic in _MAGIC:
        if data.startswith(magic, offset):
            return name
    if data[4:8] == b"ftyp":
        return _base_media(data)
    if _PORTABLE_ANYMAP.match(data):
        return "ppm"
    if _looks_like_svg(data[:HEAD_BYTES]):
        return "svg"
    return "tga" if _looks_like_tga(data) else None


def looks_like_web_page(data: bytes) -> bool:
    """Say whether a download went wrong and saved the site's error page instead."""
    head = data[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<!doctype html", b"<html", b"<head", b"<body"))


def _base_media(data: bytes) -> str:
    """Tell pictures from films in an ISO base media file, by its brands."""
    size = min(int.from_bytes(data[:4]), HEAD_BYTES)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}
    for name, known in _BRANDS.items():
        if not brands.isdisjoint(known):
            return name
    return "video"


def _looks_like_svg(head: bytes) -> bool:
    text = head.replace(b"\x00", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")  # UTF-16 as well
    return text.startswith(b"<") and b"<svg" in text.lower()


def _looks_like_tga(data: bytes) -> bool:
    """Judge a header that has no signature: every field must make sense."""
    if len(data) < _TGA_HEADER_BYTES:
        return False
    has_palette, image_type, depth = data[1], data[2], data[16]
    width = int.from_bytes(data[12:14], "little")
    height = int.from_bytes(data[14:16], "little")
    return (
        has_palette in {0, 1}
        and image_type in _TGA_IMAGE_TYPES
        and depth in _TGA_DEPTHS
        and (has_palette == 1) == (image_type in {1, 9})
        and min(width, height) > 0
        and (data[17] & 0xC0) == 0
    )
