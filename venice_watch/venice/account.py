"""The account: what the key may do, learned by free requests before anything is paid.

The gate stays shut until the API has answered once, and shuts again when a request is refused
for the account's sake; then the free endpoint is asked now and again until it is mended.
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from structlog.typing import FilteringBoundLogger

from venice_watch.clock import Clock
from venice_watch.parameters import PRICES, Contract, price_microusd
from venice_watch.venice.client import KeyFacts, VeniceClient
from venice_watch.venice.gate import Gate

PROBE_S = (5.0, 300.0)  # between these, doubling, while the account cannot send
PRICES_S = 3600.0  # between two questions for the prices, which are free
NO_SUCH_ENDPOINT = frozenset({404, 405, 501})  # a server without it says nothing of the key


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
    ) -> None:
        self.contract = contract
        self.facts: KeyFacts | None = None
        self._asked = asyncio.Event()  # set once the first answer, good or bad, is there
        self.refused: str | None = None  # why the account cannot send, in words
        self._client = client
        self._gate = gate
        self._clock = clock
        self._log = log
        self._own_prices = prices  # the configuration's, which stand whatever the API says
        self._prices = {**PRICES, **prices}
        self._probe_s = PROBE_S[0]
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

    async def run(self) -> None:
        """Ask whenever the gate is shut, until cancelled."""
        first = True
        while True:
            await self._probe_wanted.wait()
            if not first:
                await self._clock.sleep(self._probe_s)
                self._probe_s = min(PROBE_S[1], self._probe_s * 2)
            first = False
            self._probe_wanted.clear()  # before asking: a refusal meanwhile asks for another probe
            if not await self._try_probe():
                self._probe_wanted.set()
            self._asked.set()

    async def keep_prices(self) -> None:
        """Ask for the prices now and again, until cancelled: budgets count with them."""
        while True:
            await self._clock.sleep(PRICES_S)
            await self._read_prices()

    async def _read_prices(self) -> None:
        told = await self._client.read_prices() or {}
        self._prices |= {**told, **self._own_prices}

    async def _try_probe(self) -> bool:
        try:
            return await self._probe()
        except Exception:  # noqa: BLE001 - nothing a server says may end the daemon
            self._log.exception("account.bug")
            return False

    async def _probe(self) -> bool:
        """Ask once; open the gate and return True if images may be sent."""
        self.facts = facts = await self._client.read_key_facts()
        if not facts.usable and not self._says_nothing(facts):
            reason = facts.words or "the key is not permitted to use the API"
            reason = reason if facts.status is None else f"HTTP {facts.status}: {reason}"
            return await self._stay_shut(reason)
        balances = facts.balances or {}
        if balances and max(balances.values()) <= 0:
            return await self._stay_shut(f"the balance is used up: {dict(balances)}")
        if facts.requests_per_minute is not None:  # else what the headers told still stands
            await self._gate.learn_rate(facts.requests_per_minute)
        if self.contract is None:
            answer = await self._client.find_contract()
            if answer.failed:
                where = "" if answer.status is None else f"HTTP {answer.status}: "
                return await self._stay_shut(f"{where}{answer.words}")
            self.contract = answer.contract
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
        broken = facts.status >= 500 and self.refused is None  # noqa: PLR2004 - HTTP's own
        return facts.status in NO_SUCH_ENDPOINT or broken

    async def _stay_shut(self, reason: str) -> bool:
        if reason != self.refused:
            self._log.error("account.unusable", reason=reason, next="probing until it is mended")
        self.refused = reason
        await self._gate.halt(reason)
        return False
