import pytest

from tests.unit.tagged import LATITUDE, packet, said, structure
from venice_watch.images.adapt import adapt
from venice_watch.images.metadata import KINDS, Metadata, MetadataRules

FOUND = Metadata(
    exif=structure("big"),
    xmp=packet('tiff:Orientation="6" tiff:XResolution="72/1" exif:GPSLatitude="48,51.5N"'),
    iptc=b"\x1c\x02\x78\x00\x07a title",
    icc=b"a profile",
    dpi=(72.0, 36.0),
    texts=(("Title", "a house"), ("exif:GPSLatitude", "48/1, 51/1"), ("Note", "Latitude: N 48.85")),
)
PROVENANCE = {"program": "venice-watch", "scale": 4}


def _adapted(
    rules: MetadataRules, found: Metadata = FOUND, provenance: dict[str, object] | None = None
) -> Metadata:
    return adapt(found, rules, width=16_000, height=12_000, scale=4.0, provenance=provenance)


def test_everything_is_true_for_the_result() -> None:
    """EXIF and XMP are corrected, and everything else is as it was."""
    out = _adapted(MetadataRules())
    assert out.exif is not None
    assert out.xmp is not None
    exif, xmp = said(out.exif), said(out.xmp)
    assert exif["IFD0:Orientation"] == xmp["XMP-tiff:Orientation"] == 1
    assert exif["ExifIFD:ExifImageWidth"] == 16_000
    assert exif["GPS:GPSLatitude"] == pytest.approx(48.85, abs=0.01)
    assert (out.iptc, out.icc, out.dpi, out.texts) == (
        FOUND.iptc,
        FOUND.icc,
        FOUND.dpi,
        FOUND.texts,
    )


def test_resolutions_are_scaled_alike() -> None:
    """The print stays as large: the file's resolution, EXIF's and XMP's are all multiplied."""
    out = _adapted(MetadataRules(dpi_scaled=True))
    assert out.exif is not None
    assert out.xmp is not None
    assert out.dpi == (288.0, 144.0)
    assert said(out.exif)["IFD0:XResolution"] == 288
    assert said(out.xmp)["XMP-tiff:XResolution"] == 288


def test_positions_go_everywhere() -> None:
    """Without positions none is left in EXIF, XMP or the texts; other texts stay."""
    out = _adapted(MetadataRules(gps=False))
    assert out.exif is not None
    assert out.xmp is not None
    assert LATITUDE not in out.exif
    assert b"GPS" not in out.xmp
    assert out.texts == (("Title", "a house"),)
    broken = Metadata(exif=b"II*\0broken GPS", xmp=b"<broken GPS")
    assert _adapted(MetadataRules(gps=False), broken) == Metadata()
    assert _adapted(MetadataRules(), broken) == broken


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_that_is_left_out_goes(kind: str) -> None:
    """Each kind can be left out alone, and all of them together."""
    out = _adapted(MetadataRules(kinds=KINDS - {kind}))
    names = {name for name in KINDS if getattr(out, name)}
    assert names == KINDS - {kind}
    assert _adapted(MetadataRules(kinds=frozenset())) == Metadata()


def test_provenance_is_recorded_whatever_is_kept() -> None:
    """A record is added to the packet there is, or to one of its own."""
    both = _adapted(MetadataRules(), provenance=PROVENANCE)
    alone = _adapted(MetadataRules(kinds=frozenset()), provenance=PROVENANCE)
    for out in (both, alone):
        assert out.xmp is not None
        assert said(out.xmp)["XMP-vw:Program"] == "venice-watch"
    assert alone.xmp is not None
    assert b"tiff" not in alone.xmp
