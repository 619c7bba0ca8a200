"""What has been found in a file so far, and how much more may be looked at.

Rules: every byte that is copied or inflated is counted, whether it turns out to be of use or not,
so that neither a bomb nor a file of overlapping parts costs more than the limits say.
"""

import re
import zlib
from typing import Literal

from venice_watch.images import exif, ifd
from venice_watch.images.icc import plausible
from venice_watch.images.metadata import Metadata

METADATA_BYTES_MAX = 16_000_000  # taken out of a file; depth maps in XMP have about 5 MB
TEXTS_BYTES_MAX = 4_000_000  # of that; the workflows of image generators have about 0.5 MB
TEXTS_MAX = 1_000
STEPS_MAX = 2_000_000  # parts of a file that are walked over; a GIF of 400 MB has 1.6 million
DPI_MIN, DPI_MAX = 0.1, 1_000_000.0  # beyond them it is damage; electron microscopes reach 500,000

_IPTC_MARK = 0x1C  # each dataset starts with it
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")  # no format can carry them, and no storage either

Blob = Literal["exif", "xmp", "iptc", "icc"]


class Basket:
    """Collects what is found in `data`; of each kind the first one that makes sense."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.dpi: tuple[float, float] | None = None
        self._blobs: dict[Blob, bytes] = {}
        self._texts: list[tuple[str, str]] = []
        self._texts_left_bytes = TEXTS_BYTES_MAX
        self._left_bytes = METADATA_BYTES_MAX
        self._left_steps = STEPS_MAX

    @property
    def exif(self) -> bytes | None:
        """Return the EXIF structure found so far."""
        return self._blobs.get("exif")

    def has(self, kind: Blob) -> bool:
        """Say whether there is one of this kind already."""
        return kind in self._blobs

    def step(self) -> None:
        """Count a part of the file that is walked over.

        Raises:
            OverflowError: if there were too many.

        """
        self._left_steps -= 1
        if self._left_steps < 0:
            raise OverflowError

    def cut(self, at: int, size_bytes: int) -> bytes | None:
        """Return a part of the file, or None if it is not all there or over the limit."""
        if not 0 <= at <= at + size_bytes <= len(self.data) or size_bytes > self._left_bytes:
            return None
        self._left_bytes -= size_bytes
        return self.data[at : at + size_bytes]

    def inflate(self, packed: bytes) -> bytes | None:
        """Return what a zlib stream holds, or None if it is damaged or over the limit."""
        inflater = zlib.decompressobj()
        try:
            plain = inflater.decompress(packed, self._left_bytes + 1)
        except zlib.error:
            plain = b""
        over = len(plain) > self._left_bytes
        self._left_bytes = max(0, self._left_bytes - len(plain))
        return plain if inflater.eof and not over else None

    def put(self, kind: Blob, blob: bytes | None) -> None:
        """Keep `blob` if it is the first of its kind and looks like one."""
        if blob is None or kind in self._blobs:
            return
        usable = _CHECKS[kind](blob)
        if usable:
            self._blobs[kind] = usable

    def put_dpi(self, across: float, down: float) -> None:
        """Keep a resolution in pixels an inch, if it is the first and a possible one."""
        if self.dpi is None and all(DPI_MIN <= one <= DPI_MAX for one in (across, down)):
            self.dpi = (across, down)

    def put_text(self, keyword: str, text: str) -> None:
        """Keep a text, unless there are too many."""
        keyword, text = _FORBIDDEN.sub("", keyword), _FORBIDDEN.sub("", text)
        size_bytes = len(keyword.encode()) + len(text.encode())
        if not text or len(self._texts) >= TEXTS_MAX or size_bytes > self._texts_left_bytes:
            return
        self._texts_left_bytes -= size_bytes
        self._texts.append((keyword, text))

    def put_comment(self, raw: bytes | None) -> None:
        """Keep a comment whose encoding is not stated."""
        if raw:
            self.put_text("Comment", decode(raw).strip("\0"))

    def metadata(self) -> Metadata:
        """Return what was found."""
        return Metadata(
            exif=self._blobs.get("exif"),
            xmp=self._blobs.get("xmp"),
            iptc=self._blobs.get("iptc"),
            icc=self._blobs.get("icc"),
            dpi=self.dpi,
            texts=tuple(self._texts),
        )


def decode(raw: bytes) -> str:
    """Return text whose encoding is not stated: UTF-8 if it can be that, else Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _usable_exif(blob: bytes) -> bytes | None:
    bare = blob.removeprefix(exif.PREFIX)
    found = ifd.read_layout(bare)
    return bare if found is not None and not found[0].big else None


def _usable_xmp(blob: bytes) -> bytes | None:
    bare = blob if b"\0" in blob[:4] else blob.rstrip(b"\0")  # in UTF-16 they are no padding
    return bare if bare[:64].strip(b"\0 \t\r\n") else None


def _usable_iptc(blob: bytes) -> bytes | None:
    """Return datasets without padding; some writers swapped them as if they were numbers."""
    if blob[:1] and blob[0] != _IPTC_MARK:
        whole = blob[: len(blob) // 4 * 4]
        blob = b"".join(whole[at : at + 4][::-1] for at in range(0, len(whole), 4))
    return blob.rstrip(b"\0") if blob[:1] and blob[0] == _IPTC_MARK else None


_CHECKS = {"exif": _usable_exif, "xmp": _usable_xmp, "iptc": _usable_iptc, "icc": plausible}
