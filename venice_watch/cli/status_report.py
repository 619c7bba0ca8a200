"""How `status` is told to a person: what is wrong first, then folders, pace, budgets, last."""

from collections.abc import Iterator
from typing import Any

from venice_watch.cli.words import amount, duration, printable

Facts = dict[str, Any]


def describe(facts: Facts) -> list[str]:
    """Return the lines that are printed."""
    lines = [_describe_running(facts)]
    lines += [printable(f"  ! {one['subject']}: {one['why']}") for one in facts["troubles"]]
    if facts["paused"] is not None:
        lines.append(printable(f"  everything is paused, {_by_whom(facts['paused'])}"))
    lines += ["", *_folder_table(facts["folders"])]
    for folder in facts["folders"]:
        lines += [printable(f"  {line}") for line in _folder_notes(folder, facts)]
    lines += [line for section in _sections(facts) for line in ("", *section)]
    return lines


def _describe_running(facts: Facts) -> str:
    running, daemon = facts["running"], facts["daemon"]
    if running is None:
        return "nothing is running: start it with `venice-watch run`"
    about = f"process {running['pid']}, {running['command']}"
    if daemon is not None:
        about += f" {daemon['version']}, {daemon['config_file']} as of {daemon['loaded_at']}"
    return printable(f"running since {running['since']} ({about})")


def _by_whom(paused: Facts) -> str:
    return f"by {paused['by']} since {paused['since']}"


def _folder_table(folders: list[Facts]) -> Iterator[str]:
    width = max((len(folder["name"]) for folder in folders), default=6)
    yield (
        f"{'folder':<{width}}  waiting  in flight  in doubt  to deliver  done  quarantined      USD"
    )
    for folder in folders:
        yield (
            f"{folder['name']:<{width}}  {folder['waiting']:>7}  {folder['in_flight']:>9}  "
            f"{folder['in_doubt']:>8}  {folder['staged']:>10}  {folder['completed']:>4}  "
            f"{folder['quarantined']:>11}  {folder['spent_usd']:>7.2f}"
        )


def _folder_notes(folder: Facts, facts: Facts) -> Iterator[str]:
    """Yield what a table has no room for; nothing of a folder in which all is as usual."""
    name = folder["name"]
    if folder["paused"] is not None and facts["paused"] is None:
        yield f"{name} is paused, {_by_whom(folder['paused'])}"
    if folder["held"] is not None and not _is_told(folder["held"], facts["troubles"]):
        yield f"{name} is held: {folder['held']}"
    if folder["oldest_waiting_s"] is not None:
        yield f"{name}: the oldest has waited for {duration(folder['oldest_waiting_s'])}"
    if folder["quarantine"]:
        codes = ", ".join(f"{count:,} {code}" for code, count in folder["quarantine"].items())
        yield f"in the quarantine of {name}: {codes}"
    watch, scan = folder["watch"], folder["last_scan"]
    if watch is not None and watch["why"] is not None:
        yield f"{name} is looked through, not watched: {watch['why']}"
    if scan is not None:
        took = f"{scan['took_s']:.1f} s for {scan['files']:,} files"
        yield f"{name} was looked through at {scan['at']}, {took}"
    if folder["pending"]:
        yield f"not complete yet in {name}: {folder['pending']:,}"
    left = folder["left_alone"] or {"names": {}, "no_images": 0}
    alone = [f"{count:,} {reason}" for reason, count in sorted(left["names"].items())]
    alone += [f"{left['no_images']:,} no image"] if left["no_images"] else []
    if alone:
        yield f"left alone in {name}: {', '.join(alone)}"


def _is_told(why: str, troubles: list[Facts]) -> bool:
    return any(one["why"] == why for one in troubles)


def _sections(facts: Facts) -> Iterator[list[str]]:
    if facts["contract"] is not None or facts["balances"]:
        yield [printable(_describe_account(facts))]
    if facts["daemon"] is not None:
        yield [_describe_pace(facts)]
    if facts["budgets"]:
        yield ["budgets:", *map(_describe_budget, facts["budgets"])]
    if facts["recent"]:
        yield ["last:", *map(_describe_job, facts["recent"])]


def _describe_account(facts: Facts) -> str:
    rate = facts["requests_per_minute"]
    parts = ["no limit of requests a minute is known" if rate is None else f"{rate} a minute"]
    if facts["paused_s"]:
        parts.append(f"paused, {facts['paused_s']} s more")
    parts.append(f"contract {facts['contract'] or 'unknown'}")
    balances = ", ".join(
        f"{balance:.2f} {name}" for name, balance in (facts["balances"] or {}).items()
    )
    parts.append(f"balance {balances or 'not told'}")
    return f"account: {'; '.join(parts)}"


def _describe_pace(facts: Facts) -> str:
    rate, eta_s = facts["requests_per_minute"], facts["eta_s"]
    of = "" if rate is None else f" of {rate}"
    parts = [f"{facts['requests_last_minute']}{of} requests in the last minute"]
    parts.append(f"up to {facts['concurrency']} at once")
    if eta_s is None:
        parts.append("when what waits will be done is not known")
    elif eta_s:
        parts.append(f"what waits takes about {duration(eta_s)}")
    return f"pace: {'; '.join(parts)}"


def _describe_budget(budget: Facts) -> str:
    whose = "all folders" if budget["folder"] is None else f"folder {budget['folder']}"
    return (
        f"  {whose}, {budget['days']}: {amount(budget['spent_usd'])} of "
        f"{amount(budget['limit_usd'])} USD spent or under way, {amount(budget['left_usd'])} left"
    )


def _describe_job(job: Facts) -> str:
    why = f": {job['message']}" if job["message"] else ""
    frame = f", frame {job['frame']} of {job['frames']}" if job["frames"] > 1 else ""
    line = f"  {job['at']}  {job['state']:<10} {job['folder']}/{job['path']}{frame}{why}"
    return printable(line)
