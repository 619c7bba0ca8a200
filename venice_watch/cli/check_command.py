"""`check`: everything that can be known before the first image, and what to do about it."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from venice_watch.cli.check_finding import Finding
from venice_watch.cli.options import config_option, json_option
from venice_watch.errors import KeyUnusableError

if TYPE_CHECKING:
    from venice_watch.cli.check_account import Account
    from venice_watch.config.model import Config, Folder

FREE_BYTES_MIN = 2_000_000_000  # of the spool's disk: dozens of the largest results
WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
FOLDERS_COUNTED_MAX = 1_000_000  # a tree beyond this is not counted to its end
FAILED = 1
UNREACHABLE = 69


@click.command("check", short_help="Check configuration, folders, key and account; spends nothing.")
@config_option
@click.option("--offline", is_flag=True, help="Ask the API nothing.")
@click.option("--notify", is_flag=True, help="Send a test to each receiver of notices.")
@json_option
def check_command(config_path: Path | None, *, offline: bool, notify: bool, as_json: bool) -> None:
    """Check the configuration, the folders, the key and the account. Never spends anything."""
    from venice_watch.cli.check_outside import check_outside, try_receivers
    from venice_watch.cli.options import load_config

    if offline and notify:
        raise click.UsageError("--notify asks the receivers and --offline nobody; take one out")

    config = load_config(config_path)
    findings = [
        Finding(level="ok", subject="configuration", message=f"{config.path}: no mistake found")
    ]
    findings += _check_state(config)
    for folder in config.folders:
        findings += _check_folder(folder)
    findings += _check_watches(config)
    found, key_findings = _check_key(config)
    findings += key_findings
    account = None
    if not offline and found is not None:
        from venice_watch.cli.check_account import check_account

        account = asyncio.run(check_account(config, *found))
        findings += account.findings
    findings += _check_presets(config, account)
    findings += check_outside(config)
    if notify:
        findings += asyncio.run(try_receivers(config))
    _show(findings, as_json=as_json)
    if account is not None and not account.usable:
        raise click.exceptions.Exit(UNREACHABLE)
    if any(finding.level == "error" for finding in findings):
        raise click.exceptions.Exit(FAILED)


def _show(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    marks = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("ERROR", "red")}
    for finding in findings:
        mark, colour = marks[finding.level]
        click.echo(f"{click.style(f'{mark:<8}', fg=colour)} {finding.subject}: {finding.message}")


def _check_state(config: "Config") -> Iterator[Finding]:
    from venice_watch.intake.mounts import NETWORK, file_system_of
    from venice_watch.service.lock import holder_of

    state_dir = config.state_dir
    subject = "state_dir"
    # os.path answers no where Path raises: below a folder that this user may not enter
    existing = next(path for path in (state_dir, *state_dir.parents) if os.path.exists(path))  # noqa: PTH110
    kind = file_system_of(existing)
    if kind in NETWORK or kind.startswith("fuse"):
        yield Finding(
            level="error",
            subject=subject,
            message=f"{state_dir} is on {kind}; the journal needs a local disk. Name another one.",
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        message = f"{existing} may not be written by this user; change its owner or name another"
        yield Finding(level="error", subject=subject, message=message)
        return
    free = shutil.disk_usage(existing).free
    if free < FREE_BYTES_MIN:
        yield Finding(
            level="warning",
            subject=subject,
            message=f"{state_dir} has {free / 1e9:.1f} GB left; results on their way need up to "
            "0.1 GB each. Make room.",
        )
    holder = holder_of(state_dir)
    in_use = f"; in use by {holder}" if holder else ""
    yield Finding(
        level="ok",
        subject=subject,
        message=f"{state_dir} ({kind}, {free / 1e9:.0f} GB free){in_use}",
    )


def _check_folder(folder: "Folder") -> Iterator[Finding]:
    from venice_watch.intake.mounts import TRUSTED, file_system_of

    subject = f"folder {folder.name}"
    healthy = True
    roots = {
        "inbox": folder.inbox,
        "outbox": folder.outbox,
        "quarantine": folder.quarantine,
        "archive": folder.archive,
    }
    for role, path in roots.items():
        if path is None:
            continue
        if not os.path.isdir(path):  # noqa: PTH112 - see above
            healthy = False
            message = f"the {role} {path} is not there. Make it, or mount its share."
            yield Finding(level="error", subject=subject, message=message)
        elif not os.access(path, os.R_OK | os.X_OK) or not (
            os.access(path, os.W_OK) or (role == "inbox" and folder.originals == "keep")
        ):
            healthy = False
            message = f"the {role} {path} may not be read and written by this user."
            yield Finding(level="error", subject=subject, message=message)
    if not healthy:
        return
    kind = file_system_of(folder.inbox)
    how = "watched" if kind in TRUSTED else "scanned every few seconds (events are not reliable)"
    device = folder.inbox.stat().st_dev
    moved = [
        role
        for role, path in roots.items()
        if path is not None and role in ("quarantine", "archive") and path.stat().st_dev != device
    ]
    note = f"; {' and '.join(moved)} on another file system: originals are copied" if moved else ""
    yield Finding(level="ok", subject=subject, message=f"{folder.inbox} ({kind}) is {how}{note}")


def _check_watches(config: "Config") -> Iterator[Finding]:
    needed = sum(
        _count_folders(folder) if folder.recursive else 1
        for folder in config.folders
        if os.access(folder.inbox, os.R_OK | os.X_OK)
    )
    try:
        limit, instances = int(WATCHES.read_text()), int(INSTANCES.read_text())
    except (OSError, ValueError):
        return
    if len(config.folders) > instances / 2:
        wanted = len(config.folders) * 4
        yield Finding(
            level="warning",
            subject="inotify",
            message=f"{len(config.folders)} folders need an inotify instance each, and {instances} "
            "are allowed to all programs of a user. Run: "
            f"sysctl fs.inotify.max_user_instances={wanted}",
        )
    level = "ok" if needed < limit / 2 else "warning"
    advice = "" if level == "ok" else f". Run: sysctl fs.inotify.max_user_watches={needed * 4}"
    yield Finding(
        level=level,
        subject="inotify",
        message=f"{needed:,} folders to watch, {limit:,} watches allowed{advice}",
    )


def _count_folders(folder: "Folder") -> int:
    from itertools import islice

    from venice_watch.intake.junk import Names

    left_alone = Names.of(folder)

    def walk() -> Iterator[str]:
        for path, names, _files in os.walk(folder.inbox):
            names[:] = [name for name in names if not left_alone.skips_folder(name)]
            yield path

    return sum(1 for _ in islice(walk(), FOLDERS_COUNTED_MAX))


def _check_key(config: "Config") -> tuple[tuple[str, str] | None, list[Finding]]:
    """Return the key with where it was found, and what is to be said of that."""
    from venice_watch.cli.key import find_key, readable_by_others

    try:
        key, place = find_key(config.api.key_file, os.environ)
    except KeyUnusableError as exc:
        return None, [Finding(level="error", subject="key", message=str(exc))]
    findings = [Finding(level="ok", subject="key", message=f"found in {place}")]
    key_file = config.api.key_file
    if key_file is not None and place != str(key_file):
        message = f"{key_file} could not be read, so the one in {place} is used. Is it the same?"
        findings.append(Finding(level="warning", subject="key", message=message))
    if key_file is not None and readable_by_others(key_file):
        message = f"{key_file} may be read by every user of this machine. Run: chmod 600 {key_file}"
        findings.append(Finding(level="warning", subject="key", message=message))
    return (key, place), findings


def _check_presets(config: "Config", account: "Account | None") -> Iterator[Finding]:
    """Compare what the presets set with the server's contract, if that can be known."""
    from venice_watch.cli.check_presets import find_unsupported
    from venice_watch.config.model import ContractChoice
    from venice_watch.parameters import Contract

    if config.api.contract is not ContractChoice.AUTO:
        yield from find_unsupported(config, Contract(config.api.contract.value))
    elif account is not None and account.contract_asked:
        yield from find_unsupported(config, account.contract)
