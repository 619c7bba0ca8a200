"""What is asked of a process that decodes, by name: bytes by descriptor, all else as JSON.

Each task is the inside of the method of `decoders.Decoders` that has its name.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from venice_watch.images import encode
from venice_watch.images.channel import read_all
from venice_watch.images.frames import Frame, check_frames, find_frames
from venice_watch.images.harvest import harvest
from venice_watch.images.metadata import Metadata, dumps, loads
from venice_watch.images.prepare import prepare
from venice_watch.images.probe import Probe, probe

SOURCE_BYTES_MAX = 400_000_000  # read into memory to be converted; Venice takes 25 MB
METADATA_BYTES_MAX = 40_000_000  # what `harvest` takes out of a file at most, and its own words


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a task came to."""

    facts: dict[str, object]
    data: bytes | None = None


def _look(files: list[int]) -> Answer:
    data = read_all(files[0], SOURCE_BYTES_MAX)
    found = probe(data)
    metadata = harvest(data, found.format)
    return Answer(
        facts={"probe": asdict(found)},
        data=None if metadata == Metadata() else dumps(metadata),
    )


def _find_frames(files: list[int], *, kind: str, canvas: list[int], count_max: int) -> Answer:
    data = read_all(files[0], SOURCE_BYTES_MAX)
    there = find_frames(data, kind, canvas=(canvas[0], canvas[1]), count_max=count_max)
    rows = [(frame.position, frame.width, frame.height) for frame in there.frames]
    return Answer(facts={"count": there.count, "frames": rows})


def _check_frames(files: list[int], *, kind: str, frames: list[list[int]]) -> Answer:
    data = read_all(files[0], SOURCE_BYTES_MAX)
    wanted = [Frame(position=at, width=width, height=height) for at, width, height in frames]
    check_frames(data, kind, wanted)
    return Answer(facts={})


def _prepare(
    files: list[int],
    *,
    probe: dict[str, object],
    position: int,
    width: int,
    height: int,
    flatten: list[int] | None,
) -> Answer:
    data = read_all(files[0], SOURCE_BYTES_MAX)
    prepared = prepare(
        data,
        _of_frame(data, Probe(**probe), position),  # type: ignore[arg-type] # made by `_look`
        width=width,
        height=height,
        frame=position,
        flatten=None if flatten is None else (flatten[0], flatten[1], flatten[2]),
    )
    facts = asdict(prepared)
    del facts["data"]
    profile = facts.pop("profile") or b""
    facts["profile_bytes"] = len(profile)
    return Answer(facts=facts, data=profile + (prepared.data if prepared.converted else b""))


def _of_frame(data: bytes, found: Probe, position: int) -> Probe:
    """Return what is known of one frame, given what is known of the first."""
    return probe(data, frame=position) if position else found


def _encode(
    files: list[int], *, kind: str, metadata_bytes: int, quality: int, background: list[int]
) -> Answer:
    metadata = loads(read_all(files[1], METADATA_BYTES_MAX)) if metadata_bytes else Metadata()
    red, green, blue = background
    try:
        encoded = encode.encode(
            Path(f"/proc/self/fd/{files[0]}"),
            kind,
            metadata,
            quality=quality,
            background=(red, green, blue),
        )
    except encode.EncodeError as exc:
        return Answer(facts={"failed": str(exc)})
    return Answer(facts={"left_out": encoded.left_out}, data=encoded.data)


def _decode_again(files: list[int], *, kind: str) -> Answer:
    data = read_all(files[0], SOURCE_BYTES_MAX)
    return Answer(facts={}, data=encode.decode_again(data, kind))


TASKS: Mapping[str, Callable[..., Answer]] = MappingProxyType(
    {
        "look": _look,
        "find_frames": _find_frames,
        "check_frames": _check_frames,
        "prepare": _prepare,
        "encode": _encode,
        "decode_again": _decode_again,
    }
)
