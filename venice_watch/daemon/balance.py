"""Whether the balance will cover what waits: looked at now and then, told once."""

from collections.abc import Callable

from venice_watch.pipeline.passage import Parts, Shortfall
from venice_watch.venice.figures import read_credit

LOOK_S = 5.0  # at least between two looks


async def keep_watched(current: Callable[[], Parts]) -> None:
    """Compare the balance with what waits whenever the API tells another, until cancelled."""
    while True:
        parts = current()
        await parts.account.balance_told.wait()
        parts.account.balance_told.clear()
        await look(current())
        await parts.clock.sleep(LOOK_S)


async def look(parts: Parts) -> None:
    """Compare once; say so when the balance has become too little, or enough again."""
    before, parts.tally.shortfall = parts.tally.shortfall, await _find_shortfall(parts)
    now = parts.tally.shortfall
    if now is not None and before is None:
        parts.log.warning(
            "account.balance_short",
            balance=now.balance,
            waiting=now.waiting,
            needed=now.needed,
            next="what the balance covers is sent; add credit for the rest",
        )
    elif now is None and before is not None:
        parts.log.info("account.balance_enough")


async def _find_shortfall(parts: Parts) -> Shortfall | None:
    balance = read_credit(parts.account.balances)
    if balance is None:
        return None  # not told
    waiting, needed_microusd = 0, 0
    for name, count in (await parts.ledger.waiting()).items():
        folder = parts.folder_named(name)
        if folder is not None:
            scale = parts.config.presets[folder.preset].scale
            waiting += count
            needed_microusd += count * parts.account.price_microusd(scale)
    if needed_microusd <= balance * 1_000_000:
        return None
    return Shortfall(balance=balance, waiting=waiting, needed=needed_microusd / 1_000_000)
