"""Everything about an image that can be known for free: its rule, its parameters, its price.

What is found wrong here costs nothing. `plan` and the daemon ask the same questions here.
"""

import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from venice_watch import admission, rules
from venice_watch.config import folder_file
from venice_watch.config.model import Alpha, Config, Folder, OnUnsupported, Originals
from venice_watch.errors import Code, ConfigError, ImageRefusedError, VeniceWatchError
from venice_watch.files.source import SourceGoneError, UnsafeSourceError, opened_source
from venice_watch.images.decoders import Decoders
from venice_watch.images.metadata import Metadata
from venice_watch.images.prepare import Prepared
from venice_watch.images.probe import Probe, upright_size
from venice_watch.images.tasks import SOURCE_BYTES_MAX
from venice_watch.intake.content import HEAD_BYTES, is_candidate
from venice_watch.job import Job
from venice_watch.parameters import Contract, Parameters
from venice_watch.pipeline import frames

RESULT_BYTES_PER_PIXEL = 3  # an RGB image that does not compress at all
SPOOL_SPARE_BYTES = 16_000_000  # on the spool's disk beside the results, for the ledger
SCALE_MIN = {Contract.ENHANCE: 1.01, Contract.CREATIVITY: 2.0}  # without `enhance`


class HeldError(VeniceWatchError):
    """An image must wait for a person: sending would pay for something else than was asked."""


class FolderHeldError(HeldError):
    """All of its folder must wait; at least `look_s` seconds (None: the usual), until a look.

    `refused`: by the server, so that looking is not enough.
    """

    def __init__(self, why: str, look_s: float | None = None, *, refused: bool = False) -> None:
        super().__init__(why)
        self.look_s = look_s
        self.refused = refused


class SkippedError(VeniceWatchError):
    """A rule, or the folder's settings, leave this image alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """An image that may be sent, what will be asked for, and the very bytes."""

    parameters: Parameters
    fit: admission.Fit
    prepared: Prepared
    contract: Contract | None  # of the server, as it was known then


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What the folder's rules and the inbox's own file ask for."""

    default_preset: str
    overlay: Mapping[str, object] = field(default_factory=dict)


def rules_digest(config: Config, folder: Folder) -> str:
    """Return a digest of all that decides whether a file of this folder is skipped."""
    output = (
        folder.outbox,
        folder.output.name,
        folder.output.format,
        folder.output.on_conflict,
    )
    settings = (folder.rules, folder.preset, folder.duplicates, folder.frames, output)
    text = repr((settings, sorted(config.presets)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def refuse_size(size_bytes: int) -> None:
    """Refuse a file that is too large to be read into memory."""
    if size_bytes > SOURCE_BYTES_MAX:
        raise ImageRefusedError(
            Code.TOO_LARGE,
            f"It has {size_bytes:,} bytes; files of up to {SOURCE_BYTES_MAX:,} are converted for "
            "Venice. Save it smaller.",
        )


def look(decoders: Decoders, job: Job, data: bytes) -> tuple[Probe, Metadata]:
    """Return what the file's first picture is, and what is said beside its pixels; blocks.

    Raises ImageRefusedError.
    """
    _refuse_what_is_no_image(job, data)
    return decoders.look(data)


def choose(config: Config, folder: Folder, job: Job, found: Probe) -> rules.Choice:
    """Return what the folder's rules make of a file; blocks. Raises SkippedError or HeldError."""
    width, height = upright_size(found)
    facts = rules.Facts(
        name=job.path,
        format=found.format,
        width=width,
        height=height,
        size_bytes=job.signature.size_bytes,
    )
    ask = read_ask(config, folder, job.path)
    try:
        choice = rules.choose(
            folder.rules,
            facts,
            default_preset=ask.default_preset,
            presets=config.presets,
            overlay=ask.overlay,
        )
    except rules.PresetUnusableError as exc:
        raise HeldError(str(exc)) from exc
    if choice.skip:
        raise SkippedError(f"rule {(choice.rule or 0) + 1} of the folder says skip")
    return choice


def admit(
    decoders: Decoders,
    folder: Folder,
    data: bytes,
    found: Probe,
    choice: rules.Choice,
    contract: Contract | None,
    wanted: frames.Wanted,
    number: int = 0,
) -> Admitted:
    """Return what will be sent of frame `number` (from 0); blocks while it is decoded.

    `found` is the file's first picture; with the first frame all of them are looked at. Raises
    ImageRefusedError or HeldError: what would be refused is not sent.
    """
    parameters = keep_to_contract(folder, choice, contract)
    fit_of = fitting(folder, parameters, contract)
    frame = wanted.frames[number]
    fit = fit_of(frame.width, frame.height)
    if number == 0:
        frames.check(decoders, data, found.format, wanted.frames, fit_of)
    return Admitted(
        parameters=Parameters.from_mapping(parameters.as_mapping() | {"scale": fit.scale}),
        fit=fit,
        prepared=decoders.prepare(
            data,
            found,
            position=frame.position,
            width=fit.width,
            height=fit.height,
            flatten=folder.output.background if folder.alpha is Alpha.FLATTEN else None,
        ),
        contract=contract,
    )


def fitting(
    folder: Folder, parameters: Parameters, contract: Contract | None
) -> Callable[[int, int], admission.Fit]:
    """Return what makes of a width and a height what to send, or raises ImageRefusedError."""
    return functools.partial(
        admission.fit,
        scale=parameters.scale,
        oversize=folder.oversize.value,
        scale_min=1.0 if parameters.enhance else SCALE_MIN[contract or Contract.CREATIVITY],
    )


def targets(folder: Folder) -> dict[str, Path]:
    """Return the folders that images of this folder are put into, by what they are called."""
    roots = {"outbox": folder.outbox, "quarantine": folder.quarantine}
    if folder.originals is Originals.ARCHIVE and folder.archive is not None:
        roots["archive"] = folder.archive
    return roots


def result_bytes_max(fit: admission.Fit) -> int:
    """Return what a result may need on the disk."""
    return fit.result_width * fit.result_height * RESULT_BYTES_PER_PIXEL


def hold_unless_ready(
    folder: Folder, job: Job, fit: admission.Fit, spool: Path, *, spool_bytes: int
) -> None:
    """Find out for free that a paid result could not be kept or delivered; blocks.

    `spool_bytes`: what all that may be under way needs in the spool.
    """
    for role, root in targets(folder).items():
        if not root.is_dir():
            raise FolderHeldError(f"the {role} {root} is not there. Make it, or mount its share.")
        if not os.access(root, os.W_OK | os.X_OK):
            raise FolderHeldError(
                f"the {role} {root} may not be written by this user. Change its owner, or mount "
                "its share writable."
            )
    for role, root, needed in (
        ("spool", spool, spool_bytes),
        ("outbox", folder.outbox, result_bytes_max(fit)),
    ):
        free = shutil.disk_usage(root).free
        if free < needed:
            raise FolderHeldError(
                f"the disk of the {role} {root} has {free / 1e6:.1f} MB left, and a result may "
                f"need {needed / 1e6:.1f}. Make room."
            )
    _hold_unless_folder(folder.outbox, job.path)


def _hold_unless_folder(outbox: Path, path: str) -> None:
    """Hold an image whose sub-folder in the outbox cannot be had or written."""
    folder = outbox
    for part in path.split("/")[:-1]:
        folder /= part
        if not os.path.lexists(folder):
            return
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise HeldError(
                f"{folder} is not a folder that this user may write, and results of {path} "
                "belong there. Move it away, or change its owner."
            )


def work_key(sent: bytes, parameters: Parameters, contract: Contract | None) -> bytes:
    """Return the identity of a piece of paid work: bytes, parameters, contract."""
    digest = hashlib.sha256(hashlib.sha256(sent).digest())
    digest.update(f"{parameters.identity()}\n{contract or ''}".encode())
    return digest.digest()


def _refuse_what_is_no_image(job: Job, data: bytes) -> None:
    name = job.path.rpartition("/")[2]
    if not is_candidate(name, data[:HEAD_BYTES]):
        raise ImageRefusedError(
            Code.UNKNOWN_FILE,
            "It is no image, by its name and by its content, and `unknown_files` of this folder "
            "is `quarantine`.",
        )
    if not data:
        raise ImageRefusedError(
            Code.INCOMPLETE,
            "It is empty (0 bytes), and nobody is writing to it any more. Copy the image again.",
        )
    if job.incomplete:
        raise ImageRefusedError(
            Code.INCOMPLETE,
            f"Its end is missing after {len(data):,} bytes, and nobody is writing to it any more. "
            "The copy was probably interrupted; copy the image again.",
        )


def keep_to_contract(folder: Folder, choice: rules.Choice, contract: Contract | None) -> Parameters:
    """Return parameters that the server will honour, or hold the folder."""
    # an unknown contract may be either: send only what both have
    contracts = (contract,) if contract is not None else tuple(Contract)
    unsupported = sorted({name for one in contracts for name in choice.parameters.unsupported(one)})
    if not unsupported:
        return choice.parameters
    droppable = [name for name in unsupported if name != "scale"]
    may_drop = folder.on_unsupported is OnUnsupported.DROP and contract is not None
    if may_drop and droppable == unsupported:
        return choice.parameters.without(unsupported)
    server = f"the server's contract ({contract})" if contract else "one of the API's contracts"
    raise FolderHeldError(
        f"preset {choice.preset!r} sets {', '.join(unsupported)}, which {server} does not have; "
        "it would be paid for and ignored. Change the preset, or set `on_unsupported: drop`"
        + ("" if contract else ", or name the contract in `api.contract`")
        + "."
    )


def read_ask(config: Config, folder: Folder, path: str) -> Ask:
    """Return the folder's preset, or what `.venice-watch.yaml` files on the way to `path` ask for.

    The nearest file that names a preset wins; parameters add up from the inbox downwards.
    """
    if not folder.folder_presets:
        return Ask(default_preset=folder.preset)
    preset, overlay = folder.preset, dict[str, object]()
    parts = path.split("/")[:-1]
    for depth in range(len(parts) + 1):
        where = "/".join([*parts[:depth], folder_file.NAME])
        found = _read_folder_file(config, folder, where)
        if found is None:
            continue
        if found.preset is not None:
            preset, overlay = found.preset, {}
        overlay |= found.parameters
    return Ask(default_preset=preset, overlay=overlay)


def _read_folder_file(config: Config, folder: Folder, where: str) -> folder_file.FolderFile | None:
    try:
        with opened_source(folder.inbox, where) as descriptor:
            text = os.read(descriptor, folder_file.TEXT_BYTES_MAX + 1).decode()
    except SourceGoneError:
        return None
    except (UnsafeSourceError, OSError, UnicodeDecodeError) as exc:
        raise HeldError(f"{folder.inbox / where} cannot be read: {exc}") from exc
    try:
        return folder_file.loads(text, folder.inbox / where, config.presets)
    except ConfigError as exc:
        raise HeldError(str(exc)) from exc
