"""What `check` learns of the account by free requests: key, rate, balance, contract, prices, clock.

Rules: everything is asked first and judged then; whatever is amiss says what to do next.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from venice_watch.cli.check_finding import Finding
from venice_watch.cli.credit import (
    count_waiting,
    describe_balances,
    describe_waiting,
    find_shortage,
)
from venice_watch.cli.words import count, duration, printable, usd_text
from venice_watch.config.model import BASE_URL, ContractChoice
from venice_watch.errors import StateUnusableError
from venice_watch.parameters import PRICES, Contract
from venice_watch.venice.account import MICROUSD, NO_SUCH_ENDPOINT
from venice_watch.venice.client import ContractAnswer, KeyFacts, VeniceClient
from venice_watch.venice.figures import read_credit
from venice_watch.views.notation import when

if TYPE_CHECKING:
    from venice_watch.config.model import Api, Config

EXPIRY_WARNING_S = 14 * 86_400.0  # time to make a new key, holidays included
CLOCK_OFF_S = 30.0  # NTP leaves far less, and a clock that is set by hand about that
NEW_KEY = "Make a new one at Venice (Settings, API keys) and put it into {place}"
ADVICE: Mapping[int, str] = {
    401: "The key in {place} is not accepted: see that it is whole and was not revoked. " + NEW_KEY,
    402: "Add credit at Venice, or raise the key's own spending limit there",
    403: "The key or its account may not do this: see what Venice allows the key in {place}, and "
    "whether the subscription runs",
    429: "The account made too many requests just now: wait a minute and ask again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the API said, and when by this machine's clock."""

    facts: KeyFacts
    asked_at: float
    answered_at: float
    prices: Mapping[str, int] | None = None
    contract: ContractAnswer | None = None  # None: not asked

    @property
    def is_venice(self) -> bool:
        """Tell whether anything answered as only the API does."""
        asked = self.contract
        return self.prices is not None or (asked is not None and asked.contract is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What is said of the account, and what the server's contract is."""

    findings: tuple[Finding, ...]
    usable: bool
    contract_asked: bool = False  # and answered, if only by saying nothing of it
    contract: Contract | None = None


async def check_account(config: "Config", key: str, key_place: str) -> Account:
    """Ask the API, free of charge, and return what is to be said."""
    answers = await ask(config.api, key)
    clock = tuple(_find_clock(answers))
    if trouble := find_trouble(config.api, answers, key_place):
        error = Finding(level="error", subject="account", message=printable(trouble))
        return Account(findings=(error, *clock), usable=False)
    findings = [
        *_find_key(config.api, answers, key_place),
        *_find_rate(config.api, answers.facts),
        *await _find_balance(config, answers),
        *_find_contract(config.api, answers),
        *_find_prices(config.api, answers),
        *clock,
    ]
    asked = answers.contract
    return Account(
        findings=tuple(findings),
        usable=not any(finding.level == "error" for finding in findings),
        contract_asked=asked is not None and not asked.failed,
        contract=None if asked is None else asked.contract,
    )


async def ask(api: "Api", key: str) -> Answers:
    """Ask for the key, then, unless it is refused, for the prices and for an unknown contract."""
    async with VeniceClient.for_api(api, key, connections_max=1) as client:
        asked_at = time.time()
        facts = await client.read_key_facts()
        answers = Answers(facts=facts, asked_at=asked_at, answered_at=time.time())
        if not _speaks_of_the_key(facts) and facts.status not in NO_SUCH_ENDPOINT:
            return answers
        auto = api.contract is ContractChoice.AUTO
        return replace(
            answers,
            prices=await client.read_prices(),
            contract=await client.find_contract() if auto else None,
        )


def _speaks_of_the_key(facts: KeyFacts) -> bool:
    """Tell whether this is the answer that was hoped for; a login page may be a 200 too."""
    return facts.usable and not facts.words


# --- what keeps the account from being used -------------------------------------------------------


def find_trouble(api: "Api", answers: Answers, key_place: str) -> str | None:
    """Return why the API cannot be used and what to do about it, or None."""
    facts = answers.facts
    if _speaks_of_the_key(facts) or (facts.status in NO_SUCH_ENDPOINT and answers.is_venice):
        return None
    if facts.permitted is False:
        return (
            f"{api.base_url}: the key in {key_place} is accepted, but not permitted to use the "
            "API. See at Venice whether the subscription runs and what the key may do."
        )
    words = facts.words.rstrip(". ")
    status = "" if facts.status is None else f"HTTP {facts.status}"
    said = words if words.startswith(status) else f"{status}: {words}"
    return f"{api.base_url}: {said}. {_advise(facts).format(place=key_place)}."


def _advise(facts: KeyFacts) -> str:
    """Return what to do about an answer, or none, that does not speak of the key."""
    status = facts.status
    if status is None:
        if "CERTIFICATE" in facts.words.upper():
            return (
                "The server's certificate is not believed: see this machine's clock and its "
                "certificates (package ca-certificates)"
            )
        return (
            "Nobody answers: see `api.base_url`, and whether this machine may go there (network, "
            "name resolution, firewall, HTTPS_PROXY)"
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in NO_SUCH_ENDPOINT:
        who = "What stands in front of the API" if facts.is_page else "The API"
        return f"{who} is in trouble, which is not yours to mend: try again in some minutes"
    if facts.is_page and status not in NO_SUCH_ENDPOINT:
        return (
            "That is not the API but something in front of it, such as a proxy, a firewall or a "
            "login page: see whether this machine may go there, and `api.base_url`"
        )
    return ADVICE.get(
        status, f"There is no API at this address: see `api.base_url`; the usual one is {BASE_URL}"
    )


# --- one subject after the other ------------------------------------------------------------------


def _find_key(api: "Api", answers: Answers, key_place: str) -> Iterator[Finding]:
    facts = answers.facts
    if not _speaks_of_the_key(facts):
        yield Finding(
            level="warning",
            subject="account",
            message=f"{api.base_url} is the API, but tells nothing of the key (HTTP "
            f"{facts.status}): whether it is accepted, the first image will show",
        )
        return
    state = "accepted and permitted" if facts.permitted else "accepted"
    message = f"{api.base_url}: the key is {state}"
    ends_at = facts.expires_at
    if ends_at is None:
        yield Finding(level="ok", subject="account", message=message)
        return
    # by the server's clock where it tells it: ours may be wrong
    left_s = ends_at - (facts.server_time or answers.answered_at)
    if ends_at == float("inf"):
        yield Finding(level="ok", subject="account", message=f"{message}, and never expires")
    elif left_s > EXPIRY_WARNING_S:
        message = f"{message} until {when(ends_at)}"
        yield Finding(level="ok", subject="account", message=message)
    elif left_s > 0:
        message = (
            f"{message}, but expires in {duration(left_s)}, at {when(ends_at)}; nothing is sent "
            f"from then on. {NEW_KEY.format(place=key_place)}."
        )
        yield Finding(level="warning", subject="account", message=message)
    else:
        message = f"the key expired at {when(ends_at)}. {NEW_KEY.format(place=key_place)}."
        yield Finding(level="error", subject="account", message=message)


def _find_rate(api: "Api", facts: KeyFacts) -> Iterator[Finding]:
    wanted, allowed = api.requests_per_minute, facts.requests_per_minute
    told = "unknown" if allowed is None else count(allowed, "request") + " a minute"
    if wanted is None:
        note = "; the API's answers are followed" if allowed is None else ""
        yield Finding(level="ok", subject="rate", message=f"{told}{note}")
    elif allowed is None or wanted <= allowed:
        limit = "" if allowed is None else f"; the key may make {allowed:,}"
        message = f"{count(wanted, 'request')} a minute, as configured{limit}"
        yield Finding(level="ok", subject="rate", message=message)
    else:
        message = (
            f"`api.requests_per_minute` is {wanted:,}, and the key may make {told}: the rest is "
            "refused, and each refusal makes all wait. Set it to `auto`, or lower it."
        )
        yield Finding(level="warning", subject="rate", message=message)


async def _find_balance(config: "Config", answers: Answers) -> list[Finding]:
    balances = answers.facts.balances
    if not balances:
        return [Finding(level="ok", subject="balance", message="not told")]
    told = describe_balances(balances)
    credit = read_credit(balances)
    if credit is None:
        return [Finding(level="ok", subject="balance", message=told)]
    charged = {**PRICES, **(answers.prices or {})}
    prices = charged | config.api.prices.by_name()
    least = min(charged.values())
    if round(credit * MICROUSD) < least:  # by what Venice takes, whatever budgets count
        message = (
            f"the balance is used up: {told}, and an image costs {usd_text(least)} USD or more. "
            "Nothing is sent: add credit at Venice."
        )
        return [Finding(level="error", subject="balance", message=message)]
    try:
        waiting = await count_waiting(config, prices)
    except StateUnusableError as exc:
        message = f"{told}; what waits for it is not known: {exc}"
        return [Finding(level="warning", subject="balance", message=message)]
    if short := find_shortage(balances, waiting, about="about "):
        return [Finding(level="warning", subject="balance", message=f"{told}: {short}")]
    enough = describe_waiting(waiting, about="about ") if waiting.images else "nothing waits"
    return [Finding(level="ok", subject="balance", message=f"{told}; {enough}")]


def _find_contract(api: "Api", answers: Answers) -> Iterator[Finding]:
    asked = answers.contract
    if asked is None:
        message = f"{api.contract} (configured, not asked)"
        yield Finding(level="ok", subject="contract", message=message)
    elif asked.contract is not None:
        yield Finding(level="ok", subject="contract", message=str(asked.contract))
    else:
        why = "the server does not tell"
        if asked.failed:
            status = "" if asked.status is None else f"HTTP {asked.status}: "
            why = printable(f"it could not be asked: {status}{asked.words}")
        message = f"{why}; set `api.contract` to enhance or creativity"
        yield Finding(level="warning", subject="contract", message=message)


def _find_prices(api: "Api", answers: Answers) -> Iterator[Finding]:
    told, own = answers.prices, api.prices.by_name()
    used = _describe_prices({**PRICES, **(told or {}), **own})
    if told is None:
        which = "those configured" if len(own) == len(PRICES) else "the usual ones"
        message = f"not told; {which} count: {used}"
        yield Finding(level="ok", subject="prices", message=message)
        return
    other = {name: price for name, price in told.items() if own.get(name, price) != price}
    if not other:
        yield Finding(level="ok", subject="prices", message=used)
        return
    message = (
        f"`api.prices` has {_describe_prices({name: own[name] for name in other})}, and the API "
        f"says {_describe_prices(other)}; budgets count with yours. Correct it, or leave it out."
    )
    yield Finding(level="warning", subject="prices", message=message)


def _describe_prices(prices: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {usd_text(price)} USD" for name, price in prices.items())


def _find_clock(answers: Answers) -> Iterator[Finding]:
    ahead_s = _clock_ahead_s(answers)
    if ahead_s is None:
        return
    if abs(ahead_s) <= CLOCK_OFF_S:
        yield Finding(level="ok", subject="clock", message="as the server's")
        return
    where = "ahead of" if ahead_s > 0 else "behind"
    message = (
        f"this machine's clock is {duration(abs(ahead_s))} {where} the server's; dates in names "
        "and the days of budgets follow it. Set it, or let it be set: timedatectl set-ntp true"
    )
    yield Finding(level="warning", subject="clock", message=message)


def _clock_ahead_s(answers: Answers) -> float | None:
    """Return how far this machine's clock is ahead at least (negative: behind), or None.

    The server read its own, cut to the second, somewhere between question and answer.
    """
    date = answers.facts.server_time
    if date is None:
        return None
    least_s, most_s = answers.asked_at - (date + 1), answers.answered_at - date
    return max(0.0, least_s) or min(0.0, most_s)
