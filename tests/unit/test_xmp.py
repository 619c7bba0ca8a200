import json
from xml.parsers import expat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tagged import counted_calls, faults, packet, said
from venice_watch.images import xmp
from venice_watch.images.xmp_walk import ELEMENTS_MAX

SIZE = {"width": 8000, "height": 6000}
PROVENANCE: dict[str, object] = {
    "program": "venice-watch",
    "version": "1.2.3",
    "preset": "photo",
    "parameters": {"scale": 2, "prompt": "a <b> & \"c\" 'd'\nnew"},
    "source_sha256": "ab" * 32,
    "scale": 2,
}
RECORD_BYTES = 1_000  # more than that record takes
FULL = packet(
    'tiff:Orientation="6" exif:PixelXDimension="4000" exif:GPSLatitude="48,51.5N" '
    "xmp:Rating='4' tiff:XResolution=\"72/1\"",
    "<tiff:YResolution>720000/10000</tiff:YResolution><tiff:ImageWidth>4000</tiff:ImageWidth>"
    "<exif:GPSLongitude>2,21E</exif:GPSLongitude><dc:format>image/jpeg</dc:format>"
    "<xmp:Thumbnails><rdf:Alt><rdf:li>AAAA</rdf:li></rdf:Alt></xmp:Thumbnails>"
    '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Cats &amp; dogs > é</rdf:li></rdf:Alt>'
    "</dc:title>",
)


def _corrected(data: bytes, **options: object) -> bytes:
    out = xmp.correct(data, **(SIZE | options))  # type: ignore[arg-type]
    assert out is not None
    return out


def test_size_and_orientation_are_the_results() -> None:
    """Attributes and elements alike say what is true for the result; the thumbnail goes."""
    before, after = said(FULL), said(_corrected(FULL))
    assert before["XMP-tiff:Orientation"] == 6
    assert after["XMP-tiff:Orientation"] == 1
    assert after["XMP-exif:ExifImageWidth"] == after["XMP-tiff:ImageWidth"] == 8000
    assert faults(_corrected(FULL)) == ""
    assert "Thumbnail" not in " ".join(after)
    for name in ("XMP-xmp:Rating", "XMP-dc:Title", "XMP-dc:Format", "XMP-exif:GPSLatitude"):
        assert after[name] == before[name]


def test_only_what_must_change_changes() -> None:
    """All other bytes are those of the original, in their order."""
    after = _corrected(packet("tiff:Orientation=\"6\" xmp:Rating='4'"))
    assert after == packet("tiff:Orientation=\"1\" xmp:Rating='4'")


@pytest.mark.parametrize(("scale", "expected"), [(2.0, 144), (1.5, 108)])
def test_resolution_is_scaled_where_asked(scale: float, expected: int) -> None:
    """Resolutions are multiplied, as attribute and as element."""
    after = said(_corrected(FULL, dpi_scale=scale))
    assert after["XMP-tiff:XResolution"] == after["XMP-tiff:YResolution"] == expected
    assert said(_corrected(FULL))["XMP-tiff:XResolution"] == 72


def test_positions_go_at_any_depth_under_any_prefix() -> None:
    """No name of a position is left, whoever made it and however deep it stands."""
    deep = packet(
        'xmlns:drone="http://www.dji.com/drone-dji/1.0/" drone:GpsLongtitude="+2.35" '
        'xmlns:e="http://ns.adobe.com/exif/1.0/" e:GPSAltitude="33/1" xmp:Rating="5"',
        '<xmp:Place xmlns:geo="http://www.w3.org/2003/01/geo/wgs84_pos#"><rdf:Bag>'
        '<rdf:li rdf:parseType="Resource"><exif:GPSLatitude>48,51N</exif:GPSLatitude>'
        "<xmp:City>Paris</xmp:City><geo:lat>48.85</geo:lat></rdf:li></rdf:Bag></xmp:Place>"
        "<exif:GPSVersionID/><dc:format>image/png</dc:format>",
    )
    after = _corrected(deep, gps=False)
    for trace in (b"GPS", b"Gps", b"48", b"2.35", b"33/1"):
        assert trace in deep
        assert trace not in after
    for kept in (b"Paris", b"image/png", b'xmp:Rating="5"'):
        assert kept in after
    assert faults(after) == ""


def test_provenance_is_recorded_once() -> None:
    """A record is added, survives exiftool, and replaces an earlier one of ours."""
    once = _corrected(FULL, provenance=PROVENANCE)
    again = _corrected(once, provenance=PROVENANCE | {"scale": 4})
    answer = said(again)
    assert faults(again) == ""
    assert answer["XMP-vw:Scale"] == 4
    assert answer["XMP-vw:Source_sha256"] == "ab" * 32
    assert json.loads(answer["XMP-vw:Parameters"]) == PROVENANCE["parameters"]
    assert again.count(b"vw:scale") == 1
    assert len(again) == len(once)
    assert _corrected(once) == once  # without a new record the earlier one stays


def test_a_record_that_another_program_rewrote_is_replaced() -> None:
    """Ours is recognised by its name, written as elements among others', too."""
    ours = 'xmlns:q="https://venice-watch.invalid/ns/1.0/"'
    rewritten = packet(ours, "<q:scale>2</q:scale><q:preset>old</q:preset><dc:format>x</dc:format>")
    after = _corrected(rewritten, provenance=PROVENANCE)
    assert b"old" not in after
    assert b"<dc:format>x</dc:format>" in after
    assert [v for name, v in said(after).items() if name.endswith(":Preset")] == ["photo"]


def test_all_descriptions_are_about_the_same() -> None:
    """The record describes what the packet's other descriptions do; Adobe refuses a mixture."""
    named = packet().replace(b'rdf:about=""', b'rdf:about="uuid:a&amp;b"')
    after = _corrected(named, provenance=PROVENANCE)
    assert after.count(b'rdf:about="uuid:a&amp;b"') == 2


def test_a_packet_is_made_where_there_was_none() -> None:
    """A record alone is a packet that others can read and that is corrected like any other."""
    made = xmp.build(PROVENANCE)
    assert made.startswith(b"<?xpacket begin=")
    assert made.endswith(b'<?xpacket end="w"?>')
    answer = said(made)
    assert faults(made) == ""
    assert answer["XMP-vw:Program"] == "venice-watch"
    assert _corrected(made, provenance=PROVENANCE) == made


def test_an_empty_rdf_takes_a_record() -> None:
    """An RDF element without content is opened for the record."""
    empty = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/'
        b'22-rdf-syntax-ns#" /></x:xmpmeta>'
    )
    assert said(_corrected(empty, provenance=PROVENANCE))["XMP-vw:Preset"] == "photo"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("declaration", ["", '<?xml version="1.0"?>\n'])
def test_every_encoding_is_read(encoding: str, declaration: str) -> None:
    """A packet in another encoding comes back in UTF-8, wrapped."""
    text = (
        declaration
        + packet('tiff:Orientation="6"', "<dc:format>é</dc:format>", wrapped=False).decode()
    )
    after = _corrected(text.encode(encoding))
    assert after.startswith(b'<?xpacket begin="\xef\xbb\xbf"')
    assert said(after)["XMP-dc:Format"] == "é"
    assert said(after)["XMP-tiff:Orientation"] == 1


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"no xml",
        b"<a>",
        b"<a/>",
        b"\xff\xff\xff",
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + packet(wrapped=False),
        b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>" + packet(wrapped=False),
        packet("", "<xmp:a>" * 500 + "</xmp:a>" * 500),
        packet("", "<undeclared:a/>"),
        packet()[:-60],
    ],
)
def test_what_cannot_be_parsed_is_kept_as_it_is(hostile: bytes) -> None:
    """Such a packet is no reason to lose it, except where a position could be in it."""
    assert xmp.correct(hostile, **SIZE, provenance=PROVENANCE) == hostile
    assert xmp.correct(hostile, **SIZE, gps=False) is None


def test_a_packet_over_the_limit_is_kept_as_it_is() -> None:
    """What is too large to be parsed is not."""
    large = packet("", "<xmp:a>" + "b" * xmp.PACKET_BYTES_MAX + "</xmp:a>")
    assert xmp.correct(large, **SIZE) is large


def test_an_extended_packet_is_joined() -> None:
    """The parts of an extended packet are in the one that is left, under their own prefixes."""
    main = packet('xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="0123" xmp:Rating="3"')
    more = packet(
        "",
        '<dc:format>far away</dc:format><t:Make xmlns:t="http://ns.adobe.com/tiff/1.0/">M</t:Make>',
        wrapped=False,
    )
    joined = xmp.join(main, more)
    answer = said(joined)
    assert faults(joined) == ""
    assert answer["XMP-dc:Format"] == "far away"
    assert answer["XMP-tiff:Make"] == "M"
    assert answer["XMP-xmp:Rating"] == 3
    assert b"HasExtended" not in joined
    assert xmp.join(main, b"<broken") == main


def test_a_property_said_twice_is_said_once() -> None:
    """RDF forbids saying a property twice; the second is taken out, so that nothing can grow."""
    twice = packet("", "<tiff:Orientation>6</tiff:Orientation>" * 2)
    assert _corrected(twice) == packet("", "<tiff:Orientation>1</tiff:Orientation>")


def test_prefixes_that_are_declared_again_are_declared_once() -> None:
    """A description that declares what was declared around it is joined without a repetition."""
    again = 'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="far"'
    joined = xmp.join(FULL.replace(b"dc:format", b"dc:type"), packet(again, wrapped=False))
    assert said(joined)["XMP-dc:Format"] == "far"


def test_a_joined_packet_can_be_corrected() -> None:
    """An extension that would make the packet too much to walk is not joined."""
    half = packet("", "<xmp:a/>" * (ELEMENTS_MAX // 2))
    assert xmp.join(half, half) is half


def test_joining_does_not_multiply() -> None:
    """Prefixes that would be repeated for every description until memory is full are not joined."""
    spaces = "".join(f' xmlns:q{number}="{number}"' for number in range(1_000))
    head = f'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"{spaces}>'
    few, many = (f"{head}{'<rdf:Description/>' * count}</rdf:RDF>" for count in (2, 2_000))
    assert len(xmp.join(FULL, few.encode())) > len(head) * 2
    assert xmp.join(FULL, many.encode()) == FULL


def test_more_elements_than_an_editor_writes_are_not_walked() -> None:
    """A packet of nothing but elements is kept as it is, after a bounded number of them."""
    costs = []
    for count in (ELEMENTS_MAX + 1, 2 * ELEMENTS_MAX):
        many = packet("", "<xmp:a/>" * count)
        with counted_calls() as calls:
            assert xmp.correct(many, **SIZE) is many
        costs.append(calls())
    assert costs[1] - costs[0] < 1_000


@given(data=st.data())
def test_nothing_raises_and_nothing_grows(data: st.DataObject) -> None:
    """Whatever a packet has become, it is corrected into XML or kept, and never much larger."""
    made = bytearray(FULL)
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(made)))
        span = data.draw(st.integers(0, 12))
        pieces = [
            b"<",
            b">",
            b'"',
            b"<rdf:RDF>",
            b"</rdf:Description>",
            b"<!--",
            b'tiff:Orientation="1"',
        ]
        pieces += [
            b"<tiff:Orientation>",
            b"<exif:GPSa/>",
            b"<rdf:Description/>",
            b"/>",
            b"\0",
            b"\xff",
        ]
        made[at : at + span] = data.draw(st.sampled_from(pieces) | st.binary(max_size=5))
    out = xmp.correct(bytes(made), **SIZE, dpi_scale=2.0, provenance=PROVENANCE)
    assert out is not None
    assert len(out) <= len(made) + RECORD_BYTES
    cleaned = xmp.correct(bytes(made), **SIZE, gps=False)
    if cleaned is not None:
        expat.ParserCreate().Parse(cleaned, True)  # noqa: FBT003 - expat's own signature
        assert said_positions(cleaned) == []
    xmp.join(bytes(made), FULL)
    xmp.join(FULL, bytes(made))


def said_positions(data: bytes) -> list[str]:
    """Return the names of positions in a packet, found by another way through expat."""
    names: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        names.extend(one for one in (name, *attributes) if "gps" in one.lower())

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.Parse(data, True)  # noqa: FBT003 - expat's own signature
    return [name for name in names if not name.startswith("xmlns")]
