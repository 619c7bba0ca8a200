"""What is wrong between the keys of a configuration, each of them right by itself.

Rules: works on the plain values, so that a mistake in one key hides none in another; a value that
cannot be read is passed over here, as its own check has spoken; folders are compared by where
they really lead.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from venice_watch.config import outside
from venice_watch.config.findings import Finding, KeyPath, ValueRefusedError
from venice_watch.config.model import FOLDERS_MAX, Api, Originals, Retries
from venice_watch.config.places import Surroundings, read_path, real
from venice_watch.config.presets import ANYTHING_GOES, Presets
from venice_watch.config.units import parse_duration
from venice_watch.parameters import find_problems, merged, nearest, quoted

LIMIT_PAIRS = ("pixels", "width", "height", "bytes")  # each with _min and _max
_FILLED = ("outbox", "archive", "quarantine")  # the folders we put images into


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A folder of the configuration, and where it really is."""

    path: KeyPath
    label: str  # for messages, e.g. the inbox of "photos"
    real: Path


def find(
    root: Mapping[str, object], presets: Presets, surroundings: Surroundings
) -> Iterator[Finding]:
    """Yield every mistake between keys; `root` is a configuration's plain values."""
    folders = _folders(root)
    yield from _find_in_api(root, folders)
    yield from _find_in_budgets(root, folders)
    yield from _find_in_list(root)
    yield from _find_in_names(folders)
    for path, folder in folders:
        yield from _find_in_archive(path, folder)
        yield from _find_in_preset_name(path, folder, presets)
        yield from _find_in_rules(path, folder, presets)
    yield from _find_in_places(root, folders, surroundings)
    yield from outside.find(root)


def label(path: KeyPath, folder: Mapping[str, object]) -> str:
    """Return how a message calls a folder."""
    name = folder.get("name")
    return quoted(name) if isinstance(name, str) and name else f"number {path[-1]}"


_Folders = list[tuple[KeyPath, Mapping[str, object]]]


def _folders(root: Mapping[str, object]) -> _Folders:
    listed = root.get("folders")
    items = listed[:FOLDERS_MAX] if isinstance(listed, list) else []
    return [(("folders", i), item) for i, item in enumerate(items) if isinstance(item, Mapping)]


def _find_in_list(root: Mapping[str, object]) -> Iterator[Finding]:
    listed = root.get("folders")
    if isinstance(listed, list) and not 1 <= len(listed) <= FOLDERS_MAX:
        message = f"has {len(listed):,} folders; 1 to {FOLDERS_MAX} are possible"
        yield Finding(path=("folders",), message=message)


def _find_in_api(root: Mapping[str, object], folders: _Folders) -> Iterator[Finding]:
    api = _mapping(root.get("api"))
    retries = _mapping(api.get("retries"))
    base_s = _duration(retries, "base", Retries().base_s)
    max_s = _duration(retries, "max", Retries().max_s)
    if base_s is not None and max_s is not None and base_s > max_s:
        key = "base" if "base" in retries else "max"
        message = "the first wait (base) is longer than the longest (max); swap them"
        yield Finding(path=("api", "retries", key), message=message)
    total = api.get("concurrency", Api().concurrency)
    for path, folder in folders:
        mine = folder.get("concurrency")
        if _is_count(mine) and _is_count(total) and mine > total:
            message = f"{mine} is more than the {total} of api.concurrency; raise that, or lower it"
            yield Finding(path=(*path, "concurrency"), message=message)


def _find_in_budgets(root: Mapping[str, object], folders: _Folders) -> Iterator[Finding]:
    total = _mapping(root.get("budget"))
    for path, section in ((), root), *folders:
        mine = _mapping(section.get("budget"))
        for key in ("per_day_usd", "per_month_usd"):
            amount, all_together = mine.get(key), total.get(key)
            if path and _is_amount(amount) and _is_amount(all_together) and amount > all_together:
                message = f"{amount:g} is more than the {all_together:g} of all folders together"
                advice = "raise that, or lower it"
                yield Finding(path=(*path, "budget", key), message=f"{message}; {advice}")
        day, month = mine.get("per_day_usd"), mine.get("per_month_usd")
        if _is_amount(day) and _is_amount(month) and day > month:
            message = f"{day:g} a day is more than {month:g} a month; swap them, or lower it"
            yield Finding(path=(*path, "budget", "per_day_usd"), message=message)


def _find_in_names(folders: _Folders) -> Iterator[Finding]:
    seen: set[str] = set()
    for path, folder in folders:
        name = folder.get("name")
        if isinstance(name, str) and name in seen:
            message = f"another folder is called {quoted(name)} already; names must differ"
            yield Finding(path=(*path, "name"), message=message)
        elif isinstance(name, str):
            seen.add(name)


def _find_in_archive(path: KeyPath, folder: Mapping[str, object]) -> Iterator[Finding]:
    originals = folder.get("originals", Originals.ARCHIVE)
    if originals == Originals.ARCHIVE and "archive" not in folder:
        message = (
            "is missing, and originals go there; "
            "add it, or choose `originals: keep` or `originals: delete`"
        )
        yield Finding(path=(*path, "archive"), message=message)


def _find_in_preset_name(
    path: KeyPath, section: Mapping[str, object], presets: Presets
) -> Iterator[Finding]:
    name = section.get("preset")
    if isinstance(name, str) and name and name not in presets.names:
        hint = nearest(name, presets.names) or "; add it to `presets`"
        message = f"there is no preset {quoted(name)}{hint}"
        yield Finding(path=(*path, "preset"), message=message)


def _find_in_rules(
    path: KeyPath, folder: Mapping[str, object], presets: Presets
) -> Iterator[Finding]:
    listed = folder.get("rules")
    for i, rule in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(rule, Mapping):
            here = (*path, "rules", i)
            yield from _find_in_preset_name(here, rule, presets)
            yield from _find_in_match(here, rule)
            yield from _find_in_set(here, rule, rule.get("preset", folder.get("preset")), presets)


def _find_in_match(path: KeyPath, rule: Mapping[str, object]) -> Iterator[Finding]:
    match = rule.get("match")
    if not isinstance(match, Mapping):
        return
    if not match:
        message = 'has no condition; write at least one, such as name: "*" for every image'
        yield Finding(path=(*path, "match"), message=message)
    for pair in LIMIT_PAIRS:
        low, high = match.get(f"{pair}_min"), match.get(f"{pair}_max")
        if _is_count(low) and _is_count(high) and low > high:
            message = f"{low:,} is more than {pair}_max, {high:,}; nothing can match"
            yield Finding(path=(*path, "match", f"{pair}_min"), message=message)


def _find_in_set(
    path: KeyPath, rule: Mapping[str, object], preset: object, presets: Presets
) -> Iterator[Finding]:
    laid = rule.get("set")
    if rule.get("skip") is True:
        for key in ("preset", "set"):
            if key in rule:
                message = "means nothing beside `skip: true`; take one of the two out"
                yield Finding(path=(*path, key), message=message, on_key=True)
    if not isinstance(laid, Mapping):
        return
    usable = presets.usable.get(preset) if isinstance(preset, str) else None
    beneath = ANYTHING_GOES if usable is None else usable.as_mapping()
    for key, message in find_problems(merged(beneath, laid)):
        on_key = message.startswith("unknown")
        yield Finding(path=(*path, "set", key), message=message, on_key=on_key)


def _find_in_places(
    root: Mapping[str, object], folders: _Folders, surroundings: Surroundings
) -> Iterator[Finding]:
    inboxes: list[_Place] = []
    filled: list[_Place] = []
    for path, folder in folders:
        for key in ("inbox", *_FILLED):
            whose = f"the {key} of {label(path, folder)}"
            place = _place((*path, key), folder.get(key), whose, surroundings)
            if place is not None:
                (inboxes if key == "inbox" else filled).append(place)
    state = _place(("state_dir",), root.get("state_dir"), "state_dir", surroundings)
    for place in (*filled, *((state,) if state else ())):
        yield from _find_inside_an_inbox(place, inboxes)
    for i, inbox in enumerate(inboxes):
        yield from _find_shared_inbox(inbox, inboxes[:i], inboxes[i + 1 :])
        yield from _find_inbox_inside(inbox, filled)


def _find_inside_an_inbox(place: _Place, inboxes: list[_Place]) -> Iterator[Finding]:
    for inbox in inboxes:
        if _is_inside(place.real, inbox.real):
            what = "is the same folder as" if place.real == inbox.real else "lies inside"
            message = (
                f"{what} {inbox.label}; what is written there would be taken "
                "for new images; choose a folder outside every inbox"
            )
            yield Finding(path=place.path, message=message)
            return


def _find_shared_inbox(
    inbox: _Place, before: list[_Place], after: list[_Place]
) -> Iterator[Finding]:
    for other in (*before, *after):
        if inbox.real == other.real:
            if other in before:
                message = f"is the same folder as {other.label}; an inbox has one owner"
                yield Finding(path=inbox.path, message=message)
                return
        elif _is_inside(inbox.real, other.real):
            message = f"lies inside {other.label}; inboxes must not overlap, move one out"
            yield Finding(path=inbox.path, message=message)
            return


def _find_inbox_inside(inbox: _Place, filled: list[_Place]) -> Iterator[Finding]:
    for place in filled:
        if inbox.real != place.real and _is_inside(inbox.real, place.real):
            message = (
                f"lies inside {place.label}; results or originals put there would be "
                "upscaled again; choose a folder outside"
            )
            yield Finding(path=inbox.path, message=message)
            return


def _place(path: KeyPath, value: object, whose: str, surroundings: Surroundings) -> _Place | None:
    try:
        return _Place(path=path, label=whose, real=real(read_path(value, surroundings)))
    except ValueRefusedError:
        return None  # the field's own check says why


def _is_inside(inner: Path, outer: Path) -> bool:
    return inner.is_relative_to(outer)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_amount(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _duration(section: Mapping[str, object], key: str, default_s: float) -> float | None:
    try:
        return parse_duration(section[key]) if key in section else default_s
    except ValueRefusedError:
        return None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
