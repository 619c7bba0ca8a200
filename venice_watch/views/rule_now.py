"""Which rule applies to a file as the configuration is now; the ledger keeps what it led to."""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from venice_watch.errors import ImageRefusedError
from venice_watch.images.decoders import Decoders
from venice_watch.images.tasks import SOURCE_BYTES_MAX
from venice_watch.pipeline import consider
from venice_watch.pipeline.consider import HeldError, SkippedError

if TYPE_CHECKING:
    from venice_watch.config.model import Config, Folder
    from venice_watch.job import Job


def rule_now(config: "Config", job: "Job", decoders: Decoders) -> dict[str, Any] | None:
    """Return what the folder's rules make of the file now; None where nobody can say; blocks."""
    folder = next((one for one in config.folders if one.name == job.folder), None)
    data = None if folder is None else _read(folder, job)
    if folder is None or data is None:
        return None
    try:
        found, _ = consider.look(decoders, job, data)
        choice = consider.choose(config, folder, job, found)
    except SkippedError as exc:
        return {"rule": None, "preset": None, "message": str(exc)}
    except (ImageRefusedError, HeldError) as exc:
        return {"rule": None, "preset": None, "message": f"no rule was reached: {exc}"}
    rule = None if choice.rule is None else choice.rule + 1
    return {"rule": rule, "preset": choice.preset, "message": None}


def _read(folder: "Folder", job: "Job") -> bytes | None:
    """Return the file's bytes, from the inbox or where its original went."""
    places = [folder.inbox / job.path]
    places += [] if job.original_path is None else [Path(job.original_path)]
    for place in places:
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_size > SOURCE_BYTES_MAX:
                    continue
                if status.st_size == job.signature.size_bytes:
                    return file.read()
        except OSError:
            continue
    return None
