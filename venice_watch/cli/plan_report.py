"""How a plan is told: tables and sums for people, the same as JSON for programs."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from venice_watch.cli.credit import Waiting, describe_balances, find_shortage
from venice_watch.cli.plan_cases import FolderPlan, Planned, Verdict
from venice_watch.cli.words import (
    count,
    describe_budget,
    duration,
    printable,
    table,
    usd_text,
)
from venice_watch.venice.figures import read_credit
from venice_watch.views.notation import usd, when, when_or_none
from venice_watch.views.standings import Standing

if TYPE_CHECKING:
    from venice_watch.cli.plan_terms import Terms
    from venice_watch.config.model import Config
    from venice_watch.parameters import Parameters

ROWS_MAX = 50  # of one folder's table; --json has all
REQUEST_S = 15.0  # one request, where none was made yet; Venice's take about that
PROMPT_CHARACTERS = 24  # of a prompt in a table
_WORDS = {
    Verdict.SEND: "send",
    Verdict.FREE: "free",
    Verdict.SAME: "free",
    Verdict.SKIP: "skip",
    Verdict.QUARANTINE: "quarantine",
    Verdict.HOLD: "hold",
    Verdict.INCOMPLETE: "not complete",
    Verdict.UNDER_WAY: "under way",
    Verdict.DELIVER: "to deliver",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be done now, and on what terms."""

    config: "Config"
    terms: "Terms"
    offline: bool
    running: bool
    folders: list[FolderPlan]
    budgets: list[Standing]
    request_s: float | None  # how long a request takes, by experience

    def counts(self) -> Counter[Verdict]:
        """Return how many files have which verdict."""
        return Counter(one.verdict for plan in self.folders for one in plan.files)

    def to_send(self) -> list[tuple[str, Planned]]:
        """Return (folder, file) of what would be paid for, in the order of sending."""
        folders = sorted(self.folders, key=lambda plan: -plan.folder.priority)
        return [
            (plan.folder.name, one)
            for plan in folders
            for one in plan.files
            if one.verdict is Verdict.SEND
        ]

    @property
    def images(self) -> int:
        """Return how many images would be sent, each frame of a file being one."""
        return sum(len(one.prices) for _, one in self.to_send())

    @property
    def microusd(self) -> int:
        """Return what all of it would cost."""
        return sum(one.microusd for _, one in self.to_send())

    @property
    def seconds(self) -> float:
        """Return how long sending takes: by the rate, or by what may be under way at a time."""
        wanted: Counter[str] = Counter()
        for folder, one in self.to_send():
            wanted[folder] += len(one.prices)
        total = wanted.total()
        if not total:
            return 0.0
        request_s = REQUEST_S if self.request_s is None else self.request_s
        at_once = self.config.api.concurrency
        # the frames of one file are sent one after another
        waves = max(-(-total // at_once), *(len(one.prices) for _, one in self.to_send()))
        for plan in self.folders:
            limit = plan.folder.concurrency
            if limit is not None:
                waves = max(waves, -(-wanted[plan.folder.name] // min(limit, at_once)))
        from venice_watch.venice.gate import WINDOW_S

        rate = self.terms.requests_per_minute
        # a minute's requests go out at once, then those of the next minute
        by_rate_s = 0.0 if rate is None else (total - 1) // rate * WINDOW_S + request_s
        return max(by_rate_s, waves * request_s)

    def fitting(self, standing: Standing) -> tuple[int, int]:
        """Return how many of this budget's images fit into what it has left, and how many not."""
        prices = [
            price
            for folder, one in self.to_send()
            if standing.budget.limit.folder in (None, folder)
            for price in one.prices
        ]
        left, fit = standing.left_microusd, 0
        for price in prices:
            if price > left:
                break
            left -= price
            fit += 1
        return fit, len(prices) - fit

    def shortage(self) -> str | None:
        """Return what to say where the balance does not cover this plan, or None."""
        to_send = Waiting(images=self.images, microusd=self.microusd)
        return find_shortage(self.terms.balances, to_send)


# --- for programs --------------------------------------------------------------------------------


def facts(plan: Plan) -> dict[str, Any]:
    """Return what `--json` prints."""
    terms, counts = plan.terms, plan.counts()
    return {
        "offline": plan.offline,
        "running": plan.running,
        "contract": terms.contract,
        "contract_from": terms.contract_from,
        "requests_per_minute": terms.requests_per_minute,
        "rate_from": terms.rate_from,
        "prices_usd": {name: usd(price) for name, price in terms.prices.items()},
        "balances": None if terms.balances is None else dict(terms.balances),
        "credit_usd": read_credit(terms.balances),
        "api_trouble": terms.trouble,
        "folders": [_folder_facts(one) for one in plan.folders],
        "totals": {verdict.value: counts[verdict] for verdict in Verdict}
        | {"usd": usd(plan.microusd), "seconds": round(plan.seconds, 1)},
        "budgets": [
            standing.facts() | dict(zip(("fit", "do_not_fit"), plan.fitting(standing), strict=True))
            for standing in plan.budgets
        ],
        "warnings": list(_warnings(plan)),
    }


def _folder_facts(plan: FolderPlan) -> dict[str, Any]:
    return {
        "name": plan.folder.name,
        "inbox": str(plan.folder.inbox),
        "trouble": plan.trouble,
        "held": plan.held,
        "done": plan.done,
        "ignored": plan.ignored,
        "files": [_file_facts(one) for one in plan.files],
    }


def _file_facts(one: Planned) -> dict[str, Any]:
    return {
        "path": one.path,
        "bytes": one.size_bytes,
        "verdict": one.verdict.value,
        "code": one.code,
        "message": one.message or None,
        "rule": one.rule,
        "preset": one.preset,
        "parameters": None if one.parameters is None else one.parameters.as_mapping(),
        "format": one.format,
        "size": _size_facts(one.size),
        "sent_size": _size_facts(one.sent_size),
        "result_size": _size_facts(one.result_size),
        "notes": list(one.notes),
        "not_before": when_or_none(one.not_before),
        "frames": one.frames,
        "usd": usd(one.microusd),
    }


def _size_facts(size: tuple[int, int] | None) -> dict[str, int] | None:
    return None if size is None else {"width": size[0], "height": size[1]}


# --- for people ----------------------------------------------------------------------------------


def describe(plan: Plan) -> list[str]:
    """Return the lines that are printed."""
    lines: list[str] = []
    for one in plan.folders:
        lines += [*_describe_folder(one), ""]
    counts = plan.counts()
    free = counts[Verdict.FREE] + counts[Verdict.SAME]
    files = "" if plan.images == counts[Verdict.SEND] else f" of {counts[Verdict.SEND]:,} files"
    parts = [f"{count(plan.images, 'image')}{files} to send for {usd_text(plan.microusd)} USD"]
    for number, words in (
        (free, "free (the same image again)"),
        (counts[Verdict.QUARANTINE], "to quarantine"),
        (counts[Verdict.SKIP], "skipped"),
        (counts[Verdict.HOLD], "held"),
        (counts[Verdict.INCOMPLETE], "not complete"),
        (counts[Verdict.UNDER_WAY], "under way"),
        (counts[Verdict.DELIVER], "to deliver"),
    ):
        parts += [f"{number:,} {words}"] if number else []
    lines.append(", ".join(parts))
    lines += _describe_terms(plan)
    for standing in plan.budgets:
        fit, waiting = plan.fitting(standing)
        said = describe_budget(standing.facts())
        wait = f"; {fit or 'none'} of these {fit + waiting:,} images fit" if waiting else ""
        lines.append(printable(f"{said}{wait}{', the rest waits' if fit and waiting else ''}"))
    lines += [printable(f"warning: {warning}") for warning in _warnings(plan)]
    return lines


def _describe_terms(plan: Plan) -> Iterator[str]:
    terms = plan.terms
    rate = terms.requests_per_minute
    said = {"configuration": "set in the configuration", "api": "says the API"}
    pace = (
        "no limit to the rate"
        if rate is None
        else f"{rate:,} requests a minute ({said.get(terms.rate_from, 'assumed')})"
    )
    if plan.microusd:
        yield f"takes about {duration(plan.seconds)}: {pace}, {plan.config.api.concurrency} at once"
    else:
        yield f"{pace}, {plan.config.api.concurrency} at once"
    prices = ", ".join(f"{name} {usd_text(price)} USD" for name, price in terms.prices.items())
    yield f"contract: {terms.contract or 'unknown'}; prices: {prices}"
    if terms.balances:
        yield f"balance: {describe_balances(terms.balances)}"


def _warnings(plan: Plan) -> Iterator[str]:
    terms = plan.terms
    if terms.trouble is not None:
        yield f"the API could not be asked: {terms.trouble}"
    if terms.contract is None:
        why = "offline, it was not asked" if plan.offline else "the server does not tell"
        yield (
            f"which parameters the server knows is not known ({why}); what it may not know is held."
            " Name the contract in `api.contract`."
        )
    if short := plan.shortage():
        yield short
    for one in plan.folders:
        if one.held is not None:
            yield f"folder {one.folder.name} would be held: {one.held}"
        if one.trouble is not None:
            yield f"folder {one.folder.name}: {one.trouble}"
    if plan.running and plan.microusd:
        yield "a daemon is running: it is doing this already"


def _describe_folder(plan: FolderPlan) -> Iterator[str]:
    folder = plan.folder
    yield printable(f"{folder.name}: {folder.inbox}")
    if plan.files:
        head = ("file", "image", "rule", "preset", "result", "USD", "")
        shown = plan.files[:ROWS_MAX]
        yield from table(head, [_row(one) for one in shown], right=(5,))
        if len(plan.files) > ROWS_MAX:
            yield f"... and {len(plan.files) - ROWS_MAX:,} more (--json lists all)"
    else:
        yield "nothing to do"
    beside = [f"{plan.done:,} dealt with already"] if plan.done else []
    beside += [f"{number:,} {why}" for why, number in sorted(plan.ignored.items())]
    if beside:
        yield printable(f"left alone: {', '.join(beside)}")


def _row(one: Planned) -> list[str]:
    image = "" if one.size is None else f"{one.format} {one.size[0]}x{one.size[1]}"
    rule = "" if one.preset is None else "default" if one.rule is None else str(one.rule)
    result = "" if one.result_size is None else f"{one.result_size[0]}x{one.result_size[1]}"
    paid = one.verdict is Verdict.SEND
    cost = usd_text(one.microusd) if paid else ""
    said = [_WORDS[one.verdict] + (f" ({one.code})" if one.code else "")]
    said += [one.message] if one.message else []
    said += one.notes
    if one.not_before is not None and one.verdict is Verdict.SEND:
        said.append(f"not before {when(one.not_before)}")
    asked = "" if one.preset is None else f"{one.preset}{_asked(one.parameters)}"
    return [one.path, image, rule, asked, result, cost, "; ".join(said)]


def _asked(parameters: "Parameters | None") -> str:
    """Return parameters in a few words."""
    if parameters is None:
        return ""
    mapping: Mapping[str, object] = parameters.as_mapping()
    return " (" + ", ".join(f"{name} {_short(value)}" for name, value in mapping.items()) + ")"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= PROMPT_CHARACTERS else text[:PROMPT_CHARACTERS] + "..."
