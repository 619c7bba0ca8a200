"""The account: what the key may do, learned by free requests before anything is paid.

The gate stays shut until the API has answered once, and shuts again when a request is refused
for the account's sake; then the free endpoint is asked now and again until it is mended.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType

from structlog.typing import FilteringBoundLogger

from venice_watch.clock import Clock
from venice_watch.parameters import PRICES, Contract, price_microusd
from venice_watch.venice.client import ContractAnswer, KeyFacts, VeniceClient
from venice_watch.venice.figures import read_credit
from venice_watch.venice.gate import DrainingError, Gate
from venice_watch.venice.headers import read_allowance

PROBE_S = (5.0, 120.0)  # between these, doubling, while the account cannot send
KEEP_S = 3600.0  # between two questions for contract and prices, which are free
NO_SUCH_ENDPOINT = frozenset({404, 405, 501})  # a server without it says nothing of the key
REFUSED = frozenset({401, 402, 403})
FAILED_FROM = 400  # the statuses that the API counts as failures
MICROUSD = 1_000_000
BROKEN_FROM = 500  # those that say something of the server


class Account:
    """Keeps the gate in step with what the account may do."""

    def __init__(
        self,
        client: VeniceClient,
        gate: Gate,
        *,
        contract: Contract | None,
        clock: Clock,
        log: FilteringBoundLogger,
        prices: Mapping[str, int] = MappingProxyType({}),
        before_question: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.contract = contract
        self.balances: Mapping[str, float] = {}  # what the key can spend, as was said last
        self.succeeded_at = -math.inf  # when an image got through last, by the wall clock
        self.balance_told = asyncio.Event()  # since somebody cleared it
        self._asked = asyncio.Event()  # set once the first answer, good or bad, is there
        self.refused: str | None = None  # why the account cannot send, in words
        self._client = client
        self._gate = gate
        self._clock = clock
        self._log = log
        self._before_question = before_question  # one that counts against the rate
        self._own_prices = prices  # the configuration's, which stand whatever the API says
        self._charged: Mapping[str, int] = PRICES  # the API's
        self._prices = {**PRICES, **prices}  # what budgets count with
        self._finds_contract = contract is None
        self._contract_asked_at = -math.inf  # monotonic
        self._contract_told = True  # the question that was asked last was answered
        self._contract_lock = asyncio.Lock()
        self._endpoint_works = False  # the free one has answered well once
        self._probe_s = PROBE_S[0]
        self._changed = asyncio.Event()  # the key, or where it is asked
        self._probe_wanted = asyncio.Event()
        self._probe_wanted.set()

    @property
    def asked(self) -> bool:
        """Tell whether the API was asked once, whatever it said."""
        return self._asked.is_set()

    async def wait_asked(self) -> None:
        """Wait until the API was asked once."""
        await self._asked.wait()

    def price_microusd(self, scale: float) -> int:
        """Return what a result of this effective scale costs."""
        return price_microusd(scale, self._prices)

    # --- what requests tell ----------------------------------------------------------------------

    async def halt(self, reason: str) -> None:
        """Stop sending for everybody, and begin to ask when it may go on."""
        if self._gate.halted is None:
            self._log.error("account.refused", reason=reason, next="probing until it is mended")
        self.refused = reason
        await self._gate.halt(reason)
        self._probe_wanted.set()

    def succeeded(self) -> None:
        """Note that a paid request went through: probing starts afresh."""
        self._probe_s = PROBE_S[0]
        self.succeeded_at = self._clock.now()

    async def learn(self, headers: Mapping[str, str]) -> None:
        """Take over what the headers of an answer say of rate and balance."""
        allowance = read_allowance(headers, self._clock.now())
        if allowance.balances:
            self._learn_balances({**self.balances, **allowance.balances})
        await self._gate.learn(allowance)

    async def is_reachable(self) -> bool:
        """Ask for free whether the server is there at all; False makes the gate wait longer.

        While the service is down, this is what saves the next image from being in doubt. Raises
        DrainingError.
        """
        facts = await self._read_facts()
        if facts.status in REFUSED:
            await self.halt(f"HTTP {facts.status}: {facts.words}")
            return False
        silent = facts.status is None or facts.status >= BROKEN_FROM
        if silent and self._endpoint_works:
            self._gate.note_silence(facts.words)
            return False
        return True

    async def look_for_contract(self, *, sent_at: float) -> bool:
        """Ask again which contract the server has, if nobody has since `sent_at` (wall clock).

        False: the server could not tell just now. Raises DrainingError.
        """
        if not self._finds_contract:
            return True
        async with self._contract_lock:  # whoever comes second takes the first one's answer
            age_s = self._clock.now() - sent_at  # negative, so young, where a clock was set back
            if self._contract_asked_at <= self._clock.monotonic() - age_s:
                await self._find_contract()
            return self._contract_told

    async def adopt(
        self,
        client: VeniceClient,
        *,
        contract: Contract | None,
        prices: Mapping[str, int],
        ask: bool,
    ) -> None:
        """Go by another configuration; `ask`: by another key or address, before any more is sent.

        `contract`: the configured one, or None to find it out.
        """
        self._client = client
        self._own_prices = prices
        self._prices = {**self._charged, **prices}
        was_found, self._finds_contract = self._finds_contract, contract is None
        if contract is not None or ask or not was_found:
            self.contract = contract
        if ask or (self.contract is None and self._gate.halted is None):
            self._probe_s = PROBE_S[0]
            self._endpoint_works = False
            await self._gate.halt("the configuration has changed; the API is asked again")
            self._probe_wanted.set()
            self._changed.set()

    # --- asking ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask whenever the gate is shut, until cancelled."""
        first = True
        while True:
            await self._probe_wanted.wait()
            if not first:
                await self._wait_to_probe()
            first = False
            self._probe_wanted.clear()  # before asking: a refusal meanwhile asks for another probe
            if not await self._try_probe():
                self._probe_wanted.set()
            self._asked.set()

    async def _wait_to_probe(self) -> None:
        """Be patient, and more so each time, unless there is something new to ask with."""
        sleeping = asyncio.ensure_future(self._clock.sleep(self._probe_s))
        changed = asyncio.ensure_future(self._changed.wait())
        self._probe_s = min(PROBE_S[1], self._probe_s * 2)
        try:
            await asyncio.wait((sleeping, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            changed.cancel()
        self._changed.clear()

    async def keep_current(self) -> None:
        """Ask for contract and prices now and again, until cancelled."""
        while True:
            await self._clock.sleep(KEEP_S)
            if self._gate.halted is None:
                # the newer contract ignores in silence what it does not know: nothing else tells
                with contextlib.suppress(DrainingError):
                    await self.look_for_contract(sent_at=self._clock.now())
                    await self._read_prices()

    async def _read_facts(self) -> KeyFacts:
        async with self._gate.question():
            facts = await self._client.read_key_facts()
        if facts.status is None or facts.status >= FAILED_FROM:
            self._gate.count_failure()
        elif facts.status == HTTPStatus.OK:
            self._endpoint_works = True
            if facts.balances is not None:
                self._learn_balances(facts.balances)
        return facts

    def _learn_balances(self, balances: Mapping[str, float]) -> None:
        self.balances = balances
        self.balance_told.set()

    async def _read_prices(self) -> None:
        self._charged = await self._client.read_prices() or self._charged
        self._prices = {**self._charged, **self._own_prices}

    async def _find_contract(self) -> ContractAnswer:
        """Ask for the contract; the API counts it as a request, and as a failed one."""
        async with self._gate.question(rated=True):
            if self._before_question is not None:
                await self._before_question()
            self._contract_asked_at = self._clock.monotonic()
            answer = await self._client.find_contract()
            self._contract_told = not answer.failed
            if answer.status is None or answer.status >= FAILED_FROM:
                self._gate.count_failure()
        await self.learn(answer.headers)
        if answer.contract is not None and answer.contract != self.contract:
            if self.contract is not None:
                self._log.warning(
                    "account.contract_changed", before=self.contract, now=answer.contract
                )
            self.contract = answer.contract
        return answer

    async def _try_probe(self) -> bool:
        try:
            return await self._probe()
        except DrainingError:
            return False
        except Exception:  # noqa: BLE001 - nothing a server says may end the daemon
            self._log.exception("account.bug")
            return False

    async def _probe(self) -> bool:
        """Ask once; open the gate and return True if images may be sent."""
        facts = await self._read_facts()
        if not facts.usable and not self._says_nothing(facts):
            reason = facts.words or "the key is not permitted to use the API"
            where = self._client.base_url if facts.status is None else f"HTTP {facts.status}"
            return await self._stay_shut(f"{where}: {reason}")
        balances = facts.balances or {}
        credit, least = read_credit(balances), min(self._charged.values())
        if credit is not None and round(credit * MICROUSD) < least:
            told = ", ".join(f"{amount:g} {name}" for name, amount in balances.items())
            return await self._stay_shut(
                f"the balance is used up: {told}, and an image costs {least / MICROUSD:g} USD or "
                "more. Add credit."
            )
        if facts.requests_per_minute is not None:  # else what the headers told still stands
            await self._gate.learn_rate(facts.requests_per_minute)
        if self.contract is None:
            answer = await self._find_contract()
            if answer.failed:
                where = self._client.base_url if answer.status is None else f"HTTP {answer.status}"
                return await self._stay_shut(f"{where}: {answer.words}")
        await self._read_prices()
        self._log.info(
            "account.ready",
            contract=self.contract or "unknown",
            requests_per_minute=self._gate.requests_per_minute or "unlimited",
            balances=dict(balances) or None,
        )
        self.refused = None
        await self._gate.lift()
        return True

    def _says_nothing(self, facts: KeyFacts) -> bool:
        """Tell whether the answer is about the endpoint and not about the key.

        After a refusal only a good answer counts; at the start the first image will tell.
        """
        if facts.status is None:
            return False
        broken = facts.status >= BROKEN_FROM and self.refused is None
        return facts.status in NO_SUCH_ENDPOINT or broken

    async def _stay_shut(self, reason: str) -> bool:
        if reason != self.refused:
            self._log.error("account.unusable", reason=reason, next="probing until it is mended")
        self.refused = reason
        await self._gate.halt(reason)
        return False
