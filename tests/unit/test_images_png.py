import io
import os
import struct
import tempfile
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from venice_watch.images.png import BrokenPngError, PngFacts, PngVerifier, verify_file


def _png(mode: str = "RGB", size: tuple[int, int] = (23, 17)) -> bytes:
    picture = Image.radial_gradient("L").resize(size).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _made_of(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


WHOLE = _png()
IHDR = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
IDAT = _chunk(b"IDAT", zlib.compress(b"\0\x80"))
IEND = _chunk(b"IEND", b"")
TEXT = _chunk(b"tEXt", b"Comment\0x")
POINTS = st.lists(st.integers(0, len(WHOLE)), max_size=40)


def _verify(data: bytes) -> PngFacts:
    verifier = PngVerifier()
    verifier.feed(data)
    return verifier.finish()


@given(points=POINTS)
def test_any_split_of_a_whole_png_passes(points: list[int]) -> None:
    """A whole PNG passes, in whatever pieces it arrives, empty ones included."""
    verifier = PngVerifier()
    edges = [0, *sorted(points), len(WHOLE)]
    for start, end in pairwise(edges):
        verifier.feed(WHOLE[start:end])
    assert verifier.finish() == PngFacts(width=23, height=17, bits=8, colour_type=2)


@given(at=st.integers(0, len(WHOLE) - 1), flip=st.integers(1, 255))
def test_any_changed_byte_is_found(at: int, flip: int) -> None:
    """One changed byte anywhere is found."""
    broken = bytearray(WHOLE)
    broken[at] ^= flip
    with pytest.raises(BrokenPngError):
        _verify(bytes(broken))


@given(length=st.integers(0, len(WHOLE) - 1))
def test_any_truncation_is_found(length: int) -> None:
    """A PNG cut anywhere is found when no more bytes come."""
    with pytest.raises(BrokenPngError):
        _verify(WHOLE[:length])


@given(more=st.binary(min_size=1, max_size=20))
def test_anything_appended_is_found(more: bytes) -> None:
    """Bytes after the end are found, in the same piece or the next."""
    with pytest.raises(BrokenPngError):
        _verify(WHOLE + more)
    verifier = PngVerifier()
    verifier.feed(WHOLE)
    with pytest.raises(BrokenPngError):
        verifier.feed(more)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_passes(mode: str) -> None:
    """Every colour type that is written passes, with the right facts."""
    kinds = {"1": (1, 0), "L": (8, 0), "LA": (8, 4), "P": (8, 3), "RGB": (8, 2), "RGBA": (8, 6)}
    facts = _verify(_png(mode))
    assert (facts.bits, facts.colour_type) == kinds.get(mode, (16, 0))


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ((IDAT, IHDR, IEND), "first chunk"),
        ((IHDR, IHDR, IDAT, IEND), "comes twice"),
        ((IHDR, IDAT, TEXT, IDAT, IEND), "interrupted"),
        ((IHDR, TEXT, IEND), "no image data"),
        ((IHDR, IDAT), "end is missing"),
        ((IHDR, _chunk(b"PLTE", b"abc"), IDAT, IEND), "palette"),
        ((_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 3, 0, 0, 0)), IDAT, IEND), "palette"),
        ((_chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 1, 8, 0, 0, 0, 0)), IDAT, IEND), "0 x 1"),
        ((_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 7, 0, 0, 0, 0)), IDAT, IEND), "7 bits"),
        ((_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 2)), IDAT, IEND), "interlace"),
        ((_chunk(b"IHDR", b"short"), IDAT, IEND), "5 bytes"),
        ((IHDR, IDAT, _chunk(b"IEND", b"x")), "1 bytes"),
        ((IHDR, _chunk(b"ABCD", b""), IDAT, IEND), "unknown chunk"),
        ((IHDR, _chunk(b"a\0cd", b""), IDAT, IEND), "impossible type"),
        ((IHDR, b"\xff\xff\xff\xffIDAT"), "claims"),
    ],
)
def test_a_wrong_order_or_header_is_named(chunks: tuple[bytes, ...], why: str) -> None:
    """Chunks whose checksums are right but that make no image are refused, each for its reason."""
    with pytest.raises(BrokenPngError, match=why):
        _verify(_made_of(*chunks))


def test_text_between_the_chunks_passes() -> None:
    """Chunks that may be ignored are, before and after the image data."""
    assert _verify(_made_of(IHDR, TEXT, IDAT, IDAT, TEXT, IEND)).width == 1


def test_a_file_is_verified_by_path_and_by_descriptor(tmp_path: Path) -> None:
    """A file passes by path and by descriptor, whose position stays, and a cut one does not."""
    path = tmp_path / "answer.png"
    path.write_bytes(WHOLE)
    with tempfile.TemporaryFile() as spool:
        spool.write(WHOLE)
        spool.flush()
        position = os.lseek(spool.fileno(), 0, os.SEEK_CUR)
        assert verify_file(spool.fileno()) == verify_file(path)
        assert os.lseek(spool.fileno(), 0, os.SEEK_CUR) == position
    path.write_bytes(WHOLE[:-1])
    with pytest.raises(BrokenPngError, match="end is missing"):
        verify_file(path)


def test_nothing_is_kept_of_a_large_answer() -> None:
    """A large body leaves nothing behind in the verifier."""
    verifier = PngVerifier()
    body = os.urandom(1 << 20)
    verifier.feed(_made_of(IHDR)[:33] + struct.pack(">I", 64 << 20) + b"IDAT")
    for _ in range(63):
        verifier.feed(body)
    held = sum(len(v) for v in vars(verifier).values() if isinstance(v, bytes | bytearray))
    assert held < 64
