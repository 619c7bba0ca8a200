"""What is asked of a process that decodes, by name: bytes by descriptor, all else as JSON."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

from venice_watch.images.channel import read_all
from venice_watch.images.prepare import prepare
from venice_watch.images.probe import Probe, check_readable, probe

SOURCE_BYTES_MAX = 400_000_000  # read into memory to be converted; Venice takes 25 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a task came to."""

    facts: dict[str, object]
    data: bytes | None = None


def _probe(files: list[int], *, check_pixels_max: int) -> Answer:
    data = read_all(files[0], SOURCE_BYTES_MAX)
    found = probe(data)
    checked = found.width * found.height <= check_pixels_max
    if checked:
        check_readable(data, found)
    return Answer(facts={"probe": asdict(found), "checked": checked})


def _prepare(
    files: list[int], *, probe: dict[str, object], width: int, height: int, frame: int, check: bool
) -> Answer:
    data = read_all(files[0], SOURCE_BYTES_MAX)
    found = Probe(**probe)  # type: ignore[arg-type] # made by `_probe`
    if check:
        check_readable(data, found)
    prepared = prepare(data, found, width=width, height=height, frame=frame)
    facts = asdict(prepared)
    del facts["data"]
    return Answer(facts=facts, data=prepared.data if prepared.converted else None)


TASKS: Mapping[str, Callable[..., Answer]] = MappingProxyType(
    {"probe": _probe, "prepare": _prepare}
)
