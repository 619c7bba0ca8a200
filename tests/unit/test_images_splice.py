"""A PNG with metadata put in: what it says then, and that the result can be had back from it."""

import hashlib
import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from venice_watch.files.pieces import read_pieces
from venice_watch.files.place import publish
from venice_watch.files.spool import has_result, restore
from venice_watch.images import splice as module
from venice_watch.images.harvest import harvest
from venice_watch.images.metadata import Metadata
from venice_watch.images.png import BrokenPngError, PngVerifier
from venice_watch.images.splice import Splice, splice

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OTHER = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + b"\0"
EXIF = b"MM\0*\0\0\0\x08\0\x01\x01\x0f\0\x02\0\0\0\x04Abc\0\0\0\0\0"
FULL = Metadata(
    exif=EXIF,
    xmp="<x:xmpmeta xmlns:x='adobe:ns:meta/'>ü</x:xmpmeta>".encode(),
    iptc=b"\x1c\x02\x5a\0\x05City!",
    icc=SRGB,
    dpi=(300.0, 72.0),
    texts=(("Comment", "hellö"), ("prompt", "a cat — nice")),
)


def png(mode: str = "RGB", **options: Any) -> bytes:  # noqa: ANN401 - Pillow's own
    """Return a result as the API sends it."""
    picture = Image.linear_gradient("L").resize((99, 70)).convert(mode)
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(data: bytes, *chunks: bytes, at: int = 33) -> bytes:
    """Return a PNG with more chunks, behind its header unless told where."""
    return data[:at] + b"".join(chunks) + data[at:]


def kinds(data: bytes) -> list[bytes]:
    """Return the types of a PNG's chunks in their order."""
    found, at = [], 8
    while at < len(data):
        found.append(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4])
    return found


def spliced(
    tmp_path: Path, data: bytes, metadata: Metadata, *, stripped: bool = False
) -> tuple[bytes, Splice]:
    """Return the finished PNG, which must be a whole one, and its plan."""
    (tmp_path / "1.png").write_bytes(data)
    descriptor = os.open(tmp_path / "1.png", os.O_RDONLY)
    try:
        plan = splice(descriptor, metadata, stripped=stripped)
        finished = b"".join(read_pieces(descriptor, plan.pieces))
    finally:
        os.close(descriptor)
    verifier = PngVerifier()
    verifier.feed(finished)
    verifier.finish()
    return finished, plan


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_says_all_of_it(tmp_path: Path, mode: str) -> None:
    """Every kind of metadata can be read from the finished PNG, and its pixels are the result's."""
    data = png(mode)
    finished, plan = spliced(tmp_path, data, FULL)
    assert plan.pure
    found = harvest(finished, "png")
    assert (found.exif, found.xmp, found.iptc) == (FULL.exif, FULL.xmp, FULL.iptc)
    assert dict(found.texts) == dict(FULL.texts)
    assert found.dpi == pytest.approx(FULL.dpi, rel=1e-3)
    assert found.icc is not None
    assert found.icc[16:20] == (b"GRAY" if mode in ("L", "LA") else b"RGB ")
    with Image.open(io.BytesIO(finished)) as one, Image.open(io.BytesIO(data)) as other:
        assert one.mode == other.mode
        assert one.tobytes() == other.tobytes()


METADATA = st.builds(
    Metadata,
    exif=st.none() | st.binary(min_size=1, max_size=99),
    xmp=st.none() | st.binary(min_size=1, max_size=99),
    iptc=st.none() | st.binary(min_size=1, max_size=99),
    icc=st.none() | st.just(SRGB) | st.binary(max_size=99),
    dpi=st.none() | st.tuples(st.floats(), st.floats()),
    texts=st.lists(st.tuples(st.text(max_size=99), st.text(max_size=99)), max_size=3).map(tuple),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@example(metadata=Metadata(dpi=(1e308, 300.0)))  # more than any number, in metres
@given(metadata=METADATA)
def test_the_result_can_be_had_back(tmp_path: Path, metadata: Metadata) -> None:
    """Whatever is put in, the result is found in the delivered file and is restored from it."""
    data = png()
    finished, plan = spliced(tmp_path, data, metadata)
    assert plan.pure
    delivered = tmp_path / "delivered.png"
    delivered.write_bytes(finished)
    digest = hashlib.sha256(data).digest()
    assert has_result(delivered, sha256=digest, size_bytes=len(data))
    assert restore(tmp_path, "2.png", delivered, sha256=digest, size_bytes=len(data))
    assert (tmp_path / "2.png").read_bytes() == data


def test_nothing_to_say(tmp_path: Path) -> None:
    """Without metadata the finished file is the result itself."""
    data = png()
    finished, plan = spliced(tmp_path, data, Metadata())
    assert (finished, plan.pure, len(plan.pieces)) == (data, True, 1)


@pytest.mark.parametrize("kind", [b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP"])
def test_what_the_answer_says_of_its_colours_stands(tmp_path: Path, kind: bytes) -> None:
    """Where the result itself says what its colours mean, no profile is put beside it."""
    own = chunk(b"iCCP", b"own\0\0" + zlib.compress(OTHER)) if kind == b"iCCP" else None
    data = with_chunks(png(), own or chunk(kind, b"\0" * (32 if kind == b"cHRM" else 4)))
    finished, plan = spliced(tmp_path, data, FULL)
    assert plan.pure
    assert kinds(finished).count(b"iCCP") == (kind == b"iCCP")
    assert b"eXIf" in kinds(finished)


def test_what_is_said_already_gives_way(tmp_path: Path) -> None:
    """The result's own resolution, EXIF and texts of the same name give way; the rest stays."""
    data = with_chunks(
        png(),
        chunk(b"pHYs", struct.pack(">IIB", 1, 1, 1)),
        chunk(b"tEXt", b"Comment\0theirs"),
        chunk(b"zTXt", b"prompt\0\0" + zlib.compress(b"theirs")),
        chunk(b"tEXt", b"Software\0theirs"),
        chunk(b"tIME", b"\x07\xe8\x01\x01\0\0\0"),
    )
    data = with_chunks(data, chunk(b"eXIf", b"II*\0theirs"), at=len(data) - 12)
    finished, plan = spliced(tmp_path, data, FULL)
    assert not plan.pure
    found = harvest(finished, "png")
    assert found.exif == EXIF
    assert dict(found.texts) == {**dict(FULL.texts), "Software": "theirs"}
    for kind in (b"pHYs", b"eXIf", b"tIME"):
        assert kinds(finished).count(kind) == 1
    finished, plan = spliced(tmp_path, data, Metadata(icc=SRGB))
    assert dict(harvest(finished, "png").texts)["prompt"] == "theirs", "what is not replaced stays"
    finished, plan = spliced(tmp_path, data, Metadata(), stripped=True)
    assert kinds(finished) == [b"IHDR", b"pHYs", b"tIME", b"IDAT", b"IEND"]


@pytest.mark.parametrize(
    "theirs",
    [
        chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta>a position</x:xmpmeta>"),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 0\n\n")),
    ],
)
def test_the_answer_turns_nothing(tmp_path: Path, theirs: bytes) -> None:
    """What an answer says of its turn and its place does not stay, whatever else is said."""
    for found in (Metadata(), Metadata(dpi=(300, 300)), FULL):
        finished, plan = spliced(tmp_path, with_chunks(png(), theirs), found)
        assert theirs not in finished
        assert not plan.pure


def test_one_block(tmp_path: Path) -> None:
    """What is put in stands in one piece behind the header, the profile before a palette."""
    finished, plan = spliced(tmp_path, png("P"), FULL)
    assert [type(one).__name__ for one in plan.pieces] == ["Span", "bytes", "Span"]
    assert kinds(finished)[:2] == [b"IHDR", b"iCCP"]


@pytest.mark.parametrize(
    ("keyword", "written"),
    [
        ("  two   spaces ", b"two spaces"),
        ("line\nfeed\0nul", b"line feed nul"),
        ("", b"Comment"),
        ("\0\n ", b"Comment"),
        ("кот", b"???"),
        ("k" * 200, b"k" * 79),
        ("k" * 78 + " more", b"k" * 78),
    ],
)
def test_keywords(tmp_path: Path, keyword: str, written: bytes) -> None:
    """A keyword that PNG does not allow is made one that it does."""
    finished, _ = spliced(tmp_path, png(), Metadata(texts=((keyword, "text\0with nul"),)))
    assert finished[33 + 8 :].partition(b"\0")[0] == written
    assert b"textwith nul" in finished


@pytest.mark.parametrize(
    "dpi", [(0.0, 72.0), (-1.0, 1.0), (1e300, 1.0), (float("nan"), 1.0), (float("inf"), 1.0)]
)
def test_resolutions_that_are_none(tmp_path: Path, dpi: tuple[float, float]) -> None:
    """A resolution that no PNG can state is left out."""
    finished, _ = spliced(tmp_path, png(), Metadata(dpi=dpi, xmp=b"x"))
    assert b"pHYs" not in kinds(finished)


def test_only_headers_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large result eight bytes a chunk are read, and none of its pixels."""
    body = os.urandom(8_192)
    data = with_chunks(png(), *[chunk(b"IDAT", body)] * 999)
    (tmp_path / "1.png").write_bytes(data)
    read_bytes = 0
    pread = os.pread

    def counted(descriptor: int, count: int, at: int) -> bytes:
        nonlocal read_bytes
        found = pread(descriptor, count, at)
        read_bytes += len(found)
        return found

    descriptor = os.open(tmp_path / "1.png", os.O_RDONLY)
    monkeypatch.setattr(module.os, "pread", counted)
    try:
        splice(descriptor, FULL)
    finally:
        os.close(descriptor)
    assert read_bytes < 10 * len(kinds(data))


@pytest.mark.parametrize("cut", [0, 7, 20, 60, -1, -12])
def test_what_is_no_whole_png(tmp_path: Path, cut: int) -> None:
    """A file that is none, or whose chunks do not come to an end, is no plan's subject."""
    (tmp_path / "1.png").write_bytes(png()[:cut] if cut != -1 else b"\x89PNX" + png()[4:])
    descriptor = os.open(tmp_path / "1.png", os.O_RDONLY)
    try:
        with pytest.raises(BrokenPngError):
            splice(descriptor, FULL)
    finally:
        os.close(descriptor)


def test_finishing_takes_no_memory(tmp_path: Path) -> None:
    """A result of 36 MB is finished in a few hundred kilobytes: it passes through the kernel."""
    data = with_chunks(png(), *[chunk(b"IDAT", os.urandom(8_192))] * 4_400)
    assert len(data) > 36_000_000
    result, outbox = tmp_path / "1.png", tmp_path / "outbox"
    result.write_bytes(data)
    outbox.mkdir()
    digest, size_bytes = hashlib.sha256(data).digest(), len(data)
    del data
    tracemalloc.start()
    try:
        descriptor = os.open(result, os.O_RDONLY)
        plan = splice(descriptor, FULL)
        os.close(descriptor)
        target = outbox / "a.png"
        publish(result, target, plan.pieces, root=outbox, mode=0o664, overwrite=False)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8_000_000
    assert has_result(target, sha256=digest, size_bytes=size_bytes)
