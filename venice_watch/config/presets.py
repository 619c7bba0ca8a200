"""Presets by name: what each comes to once everything it extends is laid beneath it.

Rules: every preset is checked whole, after merging; a mistake is reported where it was made, not
again in each preset that inherits it; a cycle or a stranger in `extends` hides nothing else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from venice_watch.config.fields import check_mapping, check_name
from venice_watch.config.findings import Finding, ValueRefusedError
from venice_watch.parameters import Parameters, find_problems, merged, nearest, quoted, shown

# Laid beneath what cannot be seen whole: with it, no value is wrong for lack of company.
ANYTHING_GOES: Mapping[str, object] = MappingProxyType({"enhance": True})
CYCLE_SHOWN_MAX = 5  # presets of a cycle in a message


@dataclass(slots=True, kw_only=True)
class Presets:
    """The usable presets, the names of all, and what is wrong with the rest."""

    names: tuple[str, ...] = ()
    usable: dict[str, Parameters] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def resolve(raw: object) -> Presets:
    """Resolve the value of the key `presets`."""
    found = Presets()
    if raw is None:
        return found
    try:
        sections = check_mapping(raw)
    except ValueRefusedError as exc:
        found.findings.append(Finding(path=("presets",), message=str(exc)))
        return found
    found.names = tuple(sections)
    own: dict[str, Mapping[str, object]] = {}
    for name, section in sections.items():
        try:
            check_name(name)
        except ValueRefusedError as exc:
            found.findings.append(Finding(path=("presets", name), message=str(exc), on_key=True))
        try:
            own[name] = check_mapping(section)
        except ValueRefusedError as exc:
            found.findings.append(Finding(path=("presets", name), message=str(exc)))
    whole = _Merger(own=own, names=found.names, findings=found.findings).merge_all()
    for name in own:
        found.findings.extend(_find_in_preset(name, own, whole))
        mapping = whole[name]
        if mapping is not None and not find_problems(mapping):
            found.usable[name] = Parameters.from_mapping(mapping)
    return found


@dataclass(slots=True, kw_only=True)
class _Merger:
    """Lays presets over what they extend; None stands for one whose ancestry is broken."""

    own: Mapping[str, Mapping[str, object]]
    names: tuple[str, ...]
    findings: list[Finding]
    whole: dict[str, dict[str, object] | None] = field(default_factory=dict)

    def merge_all(self) -> dict[str, dict[str, object] | None]:
        for name in self.own:
            self._merge(name)
        return self.whole

    def _merge(self, name: str) -> None:
        # From the child to the oldest not merged yet; a loop, as a file may chain thousands.
        chain: dict[str, None] = {}
        beneath: dict[str, object] | None = {}
        while name not in self.whole:
            if name in chain:
                links = list(chain)
                self._note_cycle(links[links.index(name) :])
                beneath = None
                break
            chain[name] = None
            parent = self.own[name].get("extends")
            if parent is None:
                break
            if not isinstance(parent, str) or parent not in self.own:
                self._note_stranger(name, parent)
                beneath = None
                break
            name = parent
        else:
            beneath = self.whole[name]
        for child in reversed(chain):
            beneath = None if beneath is None else merged(beneath, _without_parent(self.own[child]))
            self.whole[child] = beneath

    def _note_cycle(self, cycle: list[str]) -> None:
        shown_cycle = " extends ".join(
            quoted(name) for name in [*cycle[:CYCLE_SHOWN_MAX], cycle[0]]
        )
        for name in cycle:
            message = f"a cycle: {shown_cycle}; take one `extends` out"
            self.findings.append(Finding(path=("presets", name, "extends"), message=message))

    def _note_stranger(self, name: str, parent: object) -> None:
        path = ("presets", name, "extends")
        if not isinstance(parent, str):
            message = f"must be the name of a preset, not {shown(parent)}"
        elif parent in self.names:
            return  # it is there, and what is wrong with it has been said
        else:
            message = f"there is no preset {quoted(parent)}{nearest(parent, self.names)}"
        self.findings.append(Finding(path=path, message=message))


def _find_in_preset(
    name: str,
    own: Mapping[str, Mapping[str, object]],
    whole: Mapping[str, Mapping[str, object] | None],
) -> Iterator[Finding]:
    mine = _without_parent(own[name])
    mapping = whole[name]
    if mapping is None:
        problems = find_problems(merged(ANYTHING_GOES, mine))
        inherited: list[tuple[str, str]] = []
    else:
        problems = find_problems(mapping)
        parent = own[name].get("extends")
        inherited = find_problems(whole.get(parent) or {}) if isinstance(parent, str) else []
    for key, message in problems:
        if key in mine or (key, message) not in inherited:
            on_key = message.startswith("unknown")
            yield Finding(path=("presets", name, key), message=message, on_key=on_key)


def _without_parent(section: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in section.items() if key != "extends"}
