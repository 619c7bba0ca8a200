"""On what terms images would be sent now: contract, rate, prices, balance.

Rules: the configuration's word stands; else the API's, asked by free requests; else the usual.
What the API does not tell is treated as the daemon treats it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from venice_watch.errors import KeyUnusableError
from venice_watch.parameters import PRICES, Contract

if TYPE_CHECKING:
    from venice_watch.config.model import Config

NO_KEY = 1  # exit codes, as `check` has them
UNREACHABLE = 69


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is known; `*_from` says who says so: configuration, api, or default."""

    contract: Contract | None
    contract_from: str
    requests_per_minute: int | None  # None: the API names no limit
    rate_from: str
    prices: Mapping[str, int]  # micro-USD by the API's names
    balances: Mapping[str, float] | None = None
    asked: bool = False  # the API answered
    trouble: str | None = None  # why the API could not be asked
    exit_code: int = 0


def assume(config: "Config") -> Terms:
    """Return the terms as far as they are known without asking."""
    from venice_watch.config.model import ContractChoice
    from venice_watch.venice.gate import DEFAULT_REQUESTS_PER_MINUTE

    chosen, rate = config.api.contract, config.api.requests_per_minute
    known = chosen is not ContractChoice.AUTO
    return Terms(
        contract=Contract(chosen.value) if known else None,
        contract_from="configuration" if known else "unknown",
        requests_per_minute=DEFAULT_REQUESTS_PER_MINUTE if rate is None else rate,
        rate_from="default" if rate is None else "configuration",
        prices=MappingProxyType({**PRICES, **config.api.prices.by_name()}),
    )


async def ask(config: "Config") -> Terms:
    """Return the terms after asking the API, free of charge; its trouble is part of them."""
    from venice_watch.cli.key import read_key
    from venice_watch.venice.account import NO_SUCH_ENDPOINT
    from venice_watch.venice.client import VeniceClient

    terms = assume(config)
    try:
        key = read_key(config.api.key_file, os.environ)
    except KeyUnusableError as exc:
        return replace(terms, trouble=str(exc), exit_code=NO_KEY)
    async with VeniceClient.for_api(config.api, key, connections_max=1) as client:
        facts = await client.read_key_facts()
        if not facts.usable and facts.status not in NO_SUCH_ENDPOINT:
            status = "" if facts.status is None else f"HTTP {facts.status}: "
            words = f"{config.api.base_url}: {status}{facts.words or 'the key is not permitted'}"
            return replace(terms, trouble=words, exit_code=UNREACHABLE)
        terms = replace(terms, asked=True, balances=facts.balances)
        if terms.rate_from != "configuration" and facts.requests_per_minute is not None:
            terms = replace(terms, requests_per_minute=facts.requests_per_minute, rate_from="api")
        if terms.contract is None:
            contract = (await client.find_contract()).contract
            told = "unknown" if contract is None else "api"
            terms = replace(terms, contract=contract, contract_from=told)
        prices = {**PRICES, **(await client.read_prices() or {}), **config.api.prices.by_name()}
        return replace(terms, prices=MappingProxyType(prices))
