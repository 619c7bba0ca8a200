"""A mistake before it is a problem: by the keys that lead to it, not yet by line and column."""

from dataclasses import dataclass

KeyPath = tuple[str | int, ...]  # from the root: keys, and indices of lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in the text, both numbers from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One mistake, by the path of keys that leads to it."""

    path: KeyPath
    message: str
    on_key: bool = False  # points at the key rather than at its value
    mark: Mark | None = None  # where the path alone does not say it


class ValueRefusedError(ValueError):
    """A value that its key cannot have; each argument is a sentence for the user."""
