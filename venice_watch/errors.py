"""What can go wrong, as types that carry their facts.

Rules: an error's text says what happened and what to do next; a caller that can act catches the
type, and the command line turns whatever is left into an exit code (the class's `exit_code`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Code(StrEnum):
    """Why an image was given up, in its report's stable words (the quarantine's contract)."""

    CORRUPT = "corrupt"  # says it is an image, cannot be read as one
    INCOMPLETE = "incomplete"  # its end is missing, and nobody has written to it for a long time
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    TOO_MANY_FRAMES = "too_many_frames"  # more than the folder takes: see `frames`
    UNSUPPORTED_FORMAT = "unsupported_format"
    UNKNOWN_FILE = "unknown_file"  # no image, in a folder with `unknown_files: quarantine`
    REJECTED = "rejected"  # the server refused it: its words are in the report
    FAILED = "failed"  # the server failed at it, every time
    IN_DOUBT = "in_doubt"  # it may have been paid for, and no result came
    NOT_DELIVERED = "not_delivered"  # the result is paid for and cannot be put anywhere


class VeniceWatchError(Exception):
    """The root of everything this program raises on purpose."""

    exit_code: ClassVar[int] = 70


class ImageRefusedError(VeniceWatchError):
    """An image that must not be sent: `code` for programs, `message` for its owner."""

    exit_code = 1

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in a configuration, and where it stands."""

    file: str
    line: int  # 1-based
    column: int  # 1-based
    key: str  # dotted, e.g. folders.photos.preset
    message: str  # what is wrong and what to do

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ConfigError(VeniceWatchError):
    """A configuration that cannot be used: every mistake in it, in the order of the file."""

    exit_code = 78

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class StateLockedError(VeniceWatchError):
    """Another process works on this state folder."""

    exit_code = 75


class StateUnusableError(VeniceWatchError):
    """The state folder cannot hold a journal: not writable, or made by a newer version."""

    exit_code = 77


class StateTroubleError(StateUnusableError):
    """The state folder's disk is full or fails: that may pass."""

    exit_code = 75


class KeyUnusableError(VeniceWatchError):
    """There is no API key, or it cannot be read. Never carries the key."""

    exit_code = 77
