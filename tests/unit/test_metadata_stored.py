import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venice_watch.images.metadata import Metadata, dumps, loads

BLOBS = st.none() | st.binary(max_size=200)
SIDES = st.floats(min_value=0.01, max_value=1e6)
METADATA = st.builds(
    Metadata,
    exif=BLOBS,
    xmp=BLOBS,
    iptc=BLOBS,
    icc=BLOBS,
    dpi=st.none() | st.tuples(SIDES, SIDES),
    texts=st.lists(st.tuples(st.text(), st.text()), max_size=4).map(tuple),
)
STORED = dumps(
    Metadata(exif=b"II*\0", xmp=b"<x/>", icc=b"\0" * 9, dpi=(72.0, 300.0), texts=(("a", "é"),))
)


def _forged(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4)


def _with_header(header: bytes, rest: bytes = b"") -> bytes:
    return _forged(b"venice-watch metadata 1\n" + len(header).to_bytes(4) + header + rest)


@given(metadata=METADATA)
def test_what_is_stored_is_read_back(metadata: Metadata) -> None:
    """Whatever is stored comes back equal."""
    assert loads(dumps(metadata)) == metadata


@given(at=st.integers(0, len(STORED) - 1), flip=st.integers(1, 255))
def test_every_changed_byte_is_noticed(at: int, flip: int) -> None:
    """A stored form with one byte changed is refused, whichever it is."""
    damaged = bytearray(STORED)
    damaged[at] ^= flip
    with pytest.raises(ValueError, match="read the file again"):
        loads(bytes(damaged))


@pytest.mark.parametrize("size_bytes", range(len(STORED)))
def test_every_short_form_is_refused(size_bytes: int) -> None:
    """A stored form that stops early is refused, wherever it stops."""
    with pytest.raises(ValueError, match="read the file again"):
        loads(STORED[:size_bytes])


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"[" * 100_000,
        b'{"sizes_bytes": {"exif": 5}, "dpi": null, "texts": []}',
        b'{"sizes_bytes": {"exif": -1}, "dpi": null, "texts": []}',
        b'{"sizes_bytes": {"exif": true}, "dpi": null, "texts": []}',
        b'{"sizes_bytes": {"__class__": 0}, "dpi": null, "texts": []}',
        b'{"sizes_bytes": {}, "dpi": [NaN, 1], "texts": []}',
        b'{"sizes_bytes": {}, "dpi": [0, 1], "texts": []}',
        b'{"sizes_bytes": {}, "dpi": [1], "texts": []}',
        b'{"sizes_bytes": {}, "dpi": null, "texts": [["a"]]}',
        b'{"sizes_bytes": {}, "dpi": null, "texts": null}',
        b'{"sizes_bytes": {}, "dpi": null}',
    ],
)
def test_a_forged_header_is_refused(header: bytes) -> None:
    """A form whose checksum is right and whose header makes no sense is refused."""
    with pytest.raises(ValueError, match="read the file again"):
        loads(_with_header(header))


def test_left_over_bytes_are_refused() -> None:
    """Bytes that belong to nothing are refused."""
    header = b'{"sizes_bytes": {}, "dpi": null, "texts": []}'
    assert loads(_with_header(header)) == Metadata()
    with pytest.raises(ValueError, match="1 bytes too many"):
        loads(_with_header(header, b"x"))


def test_a_resolution_that_is_no_number_is_refused() -> None:
    """Infinity, which JSON of this kind can carry, is no resolution."""
    with pytest.raises(ValueError, match="resolution"):
        loads(dumps(Metadata(dpi=(math.inf, 1.0))))
