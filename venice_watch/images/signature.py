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
# programs or read other files. docs/formats.md says of every other decoder why it is left out.
RASTERS = {
    "jpeg": Raster(plugin="JPEG", media_type="image/jpeg", extension="jpg"),
    "png": Raster(plugin="PNG", media_type="image/png", extension="png"),
    "webp": Raster(plugin="WEBP", media_type="image/webp", extension="webp"),
    "heic": Raster(plugin="HEIF", media_type="image/heic", extension="heic"),
    "avif": Raster(plugin="AVIF", media_type="image/avif", extension="avif"),
    "gif": Raster(plugin="GIF", media_type="image/gif", extension="gif"),
    "tiff": Raster(plugin="TIFF", media_type="image/tiff", extension="tif"),
    "bmp": Raster(plugin="BMP", media_type="image/bmp", extension="bmp"),
    "jp2": Raster(plugin="JPEG2000", media_type="image/jp2", extension="jp2"),
    "psd": Raster(plugin="PSD", media_type="image/vnd.adobe.photoshop", extension="psd"),
    "ico": Raster(plugin="ICO", media_type="image/vnd.microsoft.icon", extension="ico"),
    "icns": Raster(plugin="ICNS", media_type="image/icns", extension="icns"),
    "tga": Raster(plugin="TGA", media_type="image/x-tga", extension="tga"),
    "ppm": Raster(plugin="PPM", media_type="image/x-portable-anymap", extension="ppm"),
    "qoi": Raster(plugin="QOI", media_type="image/qoi", extension="qoi"),
    "dds": Raster(plugin="DDS", media_type="image/vnd-ms.dds", extension="dds"),
    "sgi": Raster(plugin="SGI", media_type="image/sgi", extension="sgi"),
    "pcx": Raster(plugin="PCX", media_type="image/x-pcx", extension="pcx"),
    "sun": Raster(plugin="SUN", media_type="image/x-sun-raster", extension="ras"),
    "xbm": Raster(plugin="XBM", media_type="image/x-xbitmap", extension="xbm"),
}

_TO_JPEG = "Convert it to JPEG or PNG first."
_EXPORT = "Export it as JPEG, PNG or 8-bit TIFF first."

# Formats that are recognised in order to refuse them helpfully: what to tell the owner.
UNREADABLE = {
    "jxl": f"This is a JPEG XL picture, and there is no decoder for it here. {_TO_JPEG}",
    "jxr": f"This is a JPEG XR picture, and there is no decoder for it here. {_TO_JPEG}",
    "svg": "This is an SVG drawing, which has no pixels. Export it as PNG first.",
    "eps": "This is PostScript, a program rather than a picture. Export it as PNG first.",
    "pdf": "This is a PDF document. Export its pages as PNG first.",
    "djvu": "This is a DjVu document. Export its pages as PNG first.",
    "wmf": "This is a Windows metafile, which has no pixels. Export it as PNG first.",
    "raw": f"This is a camera's raw file, whose preview is all that could be read. {_EXPORT}",
    "psb": f"This is a Photoshop large document (PSB). {_EXPORT}",
    "xcf": f"This is a GIMP project. {_EXPORT}",
    "exr": f"This is an OpenEXR picture, and there is no decoder for it here. {_EXPORT}",
    "hdr": f"This is a Radiance HDR picture, and there is no decoder for it here. {_EXPORT}",
    "fits": f"This is a FITS file: measurements that need a choice of black and white. {_EXPORT}",
    "xpm": "This is an XPM icon. Convert it to PNG first.",
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
    ("icns", 0, b"icns"),
    ("sun", 0, b"\x59\xa6\x6a\x95"),
    ("jxr", 0, b"II\xbc\x01"),
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
    ("hdr", 0, b"#?RADIANCE"),
    ("hdr", 0, b"#?RGBE"),
    ("fits", 0, b"SIMPLE  ="),
    ("djvu", 0, b"AT&TFORM"),
    ("xpm", 0, b"/* XPM */"),
    ("video", 0, b"\x1aE\xdf\xa3"),
    ("video", 8, b"AVI "),
)
_BRANDS = {
    "avif": (b"avif", b"avis"),
    "heic": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"mif1", b"msf1"),
    "raw": (b"crx ",),
}
_PORTABLE_ANYMAP = re.compile(rb"P[1-6Ff]\s")
# Two bytes are no signature: what follows them must make sense as well.
_SGI = re.compile(rb"\x01\xda[\x00\x01][\x01\x02]\x00[\x01-\x03]", re.DOTALL)
_PCX = re.compile(rb"\x0a[\x00\x02\x03\x05]\x01[\x01\x02\x04\x08].{60}\x00[\x01-\x04]", re.DOTALL)
_XBM = re.compile(rb"(?:\s*/\*[^*]{0,999}\*/)?\s*#define[ \t]+\w*_width[ \t]+\d{1,9}\s")
_PATTERNS = (("ppm", _PORTABLE_ANYMAP), ("sgi", _SGI), ("pcx", _PCX), ("xbm", _XBM))
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
    for name, pattern in _PATTERNS:
        if pattern.match(data):
            return name
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
