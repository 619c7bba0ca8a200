"""Colour profiles: whether one is worth keeping, and one that fits a result of other channels.

Source: ICC.1:2022. Profiles are read by their tag table and written afresh; no colour management
is done here.
"""

from collections.abc import Callable, Mapping

PROFILE_BYTES_MAX = 16_000_000  # large press profiles have about 4 MB
_HEADER_BYTES, _TAG_BYTES, _TAGS_MAX = 128, 12, 100
_MARK = slice(36, 40)
_CLASSES = frozenset({b"mntr", b"scnr", b"prtr", b"spac"})
_D50 = (63_190, 65_536, 54_061)  # in 1/65,536, as the profile connection space has it
# sRGB's primaries adapted to D50 (Bradford), rounded so that each row adds up to white exactly:
# equal numbers are then as neutral as the grey they come from.
_PRIMARIES = {
    b"rXYZ": (28_579, 14_582, 913),
    b"gXYZ": (25_234, 46_981, 6_364),
    b"bXYZ": (9_377, 3_973, 46_784),
}
_CURVES = (b"rTRC", b"gTRC", b"bTRC")
_CARRIED = (b"desc", b"cprt", b"wtpt", b"bkpt", b"chad", b"dmnd", b"dmdd")
_TABLES = frozenset({b"A2B0", b"A2B1", b"A2B2", b"D2B0", b"D2B1", b"D2B2", b"D2B3"})
_SAMPLES = 4_096
_PARAMETERS = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}  # of a parametric curve, by its function


def plausible(icc: bytes) -> bytes | None:
    """Return a profile without what follows it, or None if it cannot be one."""
    size_bytes = int.from_bytes(icc[:4])
    count = int.from_bytes(icc[_HEADER_BYTES : _HEADER_BYTES + 4])
    table_end = _HEADER_BYTES + 4 + count * _TAG_BYTES
    fits = table_end <= size_bytes <= min(len(icc), PROFILE_BYTES_MAX)
    if not fits or icc[_MARK] != b"acsp" or not 0 < count <= _TAGS_MAX:
        return None
    return icc[:size_bytes]


def icc_for(icc: bytes, *, grey_result: bool) -> bytes | None:
    """Return the profile for a result whose source had `icc`, or None if none is right.

    One that fits is returned as it is. Grey becomes an RGB profile in which equal numbers look as
    that grey did; RGB becomes grey where its three curves are one. Inks and Lab have no such
    equivalent, nor have profiles that are tables.
    """
    whole = plausible(icc)
    if whole is None or whole[12:16] not in _CLASSES:
        return None
    space = whole[16:20]
    if space == (b"GRAY" if grey_result else b"RGB "):
        return whole
    tags = _read_tags(whole)
    if not _TABLES.isdisjoint(tags):
        return None
    if space == b"GRAY" and not grey_result:
        return _grey_to_rgb(whole, tags)
    if space == b"RGB " and grey_result:
        return _rgb_to_grey(whole, tags)
    return None


def _grey_to_rgb(icc: bytes, tags: Mapping[bytes, bytes]) -> bytes | None:
    curve = tags.get(b"kTRC")
    if curve is not None and icc[20:24] == b"Lab ":
        curve = _luminance(curve)  # there it gives lightness, in a matrix profile luminance
    if curve is None:
        return None
    carried = {name: tags[name] for name in _CARRIED if name in tags}
    primaries = {name: _xyz(*values) for name, values in _PRIMARIES.items()}
    white = {b"wtpt": tags.get(b"wtpt", _xyz(*_D50))}
    return _write(icc, b"RGB ", carried | white | primaries | dict.fromkeys(_CURVES, curve))


def _rgb_to_grey(icc: bytes, tags: Mapping[bytes, bytes]) -> bytes | None:
    curves = {tags.get(name) for name in _CURVES}
    curve = curves.pop()
    if curves or curve is None or icc[20:24] != b"XYZ ":
        return None
    carried = {name: tags[name] for name in _CARRIED if name in tags}
    white = {b"wtpt": tags.get(b"wtpt", _xyz(*_D50))}
    return _write(icc, b"GRAY", carried | white | {b"kTRC": curve})


def _read_tags(icc: bytes) -> dict[bytes, bytes]:
    """Return the contents of the tags that lie inside the profile."""
    tags: dict[bytes, bytes] = {}
    for number in range(int.from_bytes(icc[128:132])):
        at = _HEADER_BYTES + 4 + number * _TAG_BYTES
        start, size_bytes = (int.from_bytes(icc[p : p + 4]) for p in (at + 4, at + 8))
        if _HEADER_BYTES <= start <= start + size_bytes <= len(icc):
            tags[icc[at : at + 4]] = icc[start : start + size_bytes]
    return tags


def _write(source: bytes, space: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """Return a profile with the header of `source` but for its space, and these tags."""
    at = _HEADER_BYTES + 4 + len(tags) * _TAG_BYTES
    table, body = bytearray(len(tags).to_bytes(4)), bytearray()
    places: dict[bytes, int] = {}  # equal contents are stored once
    for name, content in tags.items():
        if content not in places:
            places[content] = at + len(body)
            body += content + bytes(-len(content) % 4)
        table += name + places[content].to_bytes(4) + len(content).to_bytes(4)
    header = bytearray(source[:_HEADER_BYTES])
    header[0:4] = (at + len(body)).to_bytes(4)
    header[12:16] = b"mntr"  # not every class allows both spaces
    header[16:20], header[20:24] = space, b"XYZ "
    header[84:100] = bytes(16)  # the digest was another profile's
    return bytes(header + table + body)


def _xyz(*values: int) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(value.to_bytes(4) for value in values)


def _luminance(curve: bytes) -> bytes | None:
    """Return a curve to lightness (of 100) as one to luminance (of 1), by samples."""
    lightness = _read_curve(curve)
    if lightness is None:
        return None
    out = bytearray(b"curv" + bytes(4) + _SAMPLES.to_bytes(4))
    for number in range(_SAMPLES):
        level = min(1.0, max(0.0, lightness(number / (_SAMPLES - 1)))) * 100
        part = ((level + 16) / 116) ** 3 if level > 8 else level / 903.3  # noqa: PLR2004 - CIE 1976
        out += round(part * 65_535).to_bytes(2)
    return bytes(out)


def _read_curve(curve: bytes) -> Callable[[float], float] | None:
    if curve[:4] == b"curv":
        return _sampled(curve)
    if curve[:4] == b"para":
        return _parametric(curve)
    return None


def _sampled(curve: bytes) -> Callable[[float], float] | None:
    count = int.from_bytes(curve[8:12])
    if len(curve) < 12 + 2 * count:
        return None
    points = [int.from_bytes(curve[12 + 2 * n : 14 + 2 * n]) for n in range(count)]
    if count == 0:
        return lambda x: x
    if count == 1:
        return lambda x: x ** (points[0] / 256)

    def interpolated(x: float) -> float:
        below = min(int(x * (count - 1)), count - 2)
        share = x * (count - 1) - below
        return (points[below] * (1 - share) + points[below + 1] * share) / 65_535

    return interpolated


def _parametric(curve: bytes) -> Callable[[float], float] | None:
    count = _PARAMETERS.get(int.from_bytes(curve[8:10]))
    if count is None or len(curve) < 12 + 4 * count:
        return None
    numbers = [
        int.from_bytes(curve[p : p + 4], signed=True) / 65_536 for p in range(12, 12 + 4 * count, 4)
    ]
    gamma, a, b, c, d, e, f = _spread(numbers)

    def computed(x: float) -> float:
        if x < d:
            return c * x + f
        try:
            return float(max(0.0, a * x + b) ** gamma + e)
        except (OverflowError, ZeroDivisionError):  # no curve of this world
            return 1.0

    return computed


def _spread(numbers: list[float]) -> tuple[float, ...]:
    """Return (g, a, b, c, d, e, f) of the general function that a shorter one stands for."""
    gamma, a, b = (*numbers, 1.0, 0.0)[:3] if len(numbers) == 1 else numbers[:3]
    edge = -b / a if a else 0.0
    match numbers[3:]:
        case []:
            return gamma, a, b, 0.0, edge, 0.0, 0.0
        case [level]:
            return gamma, a, b, 0.0, edge, level, level
        case [c, d]:
            return gamma, a, b, c, d, 0.0, 0.0
        case [c, d, e, f]:
            return gamma, a, b, c, d, e, f
    raise AssertionError(numbers)
