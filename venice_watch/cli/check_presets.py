"""What `check` says of presets that the server's contract would ignore: paid for, and not done."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from venice_watch import rules
from venice_watch.cli.check_finding import Finding
from venice_watch.pipeline import consider
from venice_watch.pipeline.consider import FolderHeldError, HeldError

if TYPE_CHECKING:
    from venice_watch.config.model import Config, Folder
    from venice_watch.parameters import Contract


def find_unsupported(config: "Config", contract: "Contract | None") -> Iterator[Finding]:
    """Yield what of each folder's presets and rules the server of this contract lacks.

    None: the server does not tell, so only what both contracts have is sent. Of the files in an
    inbox that choose presets, only the one at its top is read.
    """
    for folder in config.folders:
        if folder.inbox.is_dir():  # else nothing can come of it, and that is said already
            for level, message in dict.fromkeys(_find(config, folder, contract)):
                yield Finding(level=level, subject=f"folder {folder.name}", message=message)


def _find(
    config: "Config", folder: "Folder", contract: "Contract | None"
) -> Iterator[tuple[str, str]]:
    try:
        ask = consider.read_ask(config, folder, "")
    except HeldError as exc:
        yield "error", str(exc)
        ask = consider.Ask(default_preset=folder.preset)
    for index in (None, *range(len(folder.rules))):
        where = "" if index is None else f"rule {index + 1}: "
        try:
            choice = rules.outcome(
                folder.rules,
                index,
                default_preset=ask.default_preset,
                presets=config.presets,
                overlay=ask.overlay,
            )
            kept = consider.keep_to_contract(folder, choice, contract)
        except (FolderHeldError, rules.PresetUnusableError) as exc:
            yield "error", f"{where}{exc}"
            continue
        dropped = choice.parameters.as_mapping().keys() - kept.as_mapping().keys()
        if dropped:
            message = (
                f"{where}preset {choice.preset!r} sets {', '.join(sorted(dropped))}, which the "
                f"server's contract ({contract}) does not have; it is sent without, as "
                "`on_unsupported: drop` says."
            )
            yield "warning", message
