"""What the balance pays for: how much there is, what waits for it, and whether it is enough."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from venice_watch.cli.words import count, printable, usd_text
from venice_watch.venice.figures import read_credit

if TYPE_CHECKING:
    from venice_watch.config.model import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How many images wait, and what they cost."""

    images: int
    microusd: int


def describe_balances(balances: Mapping[str, float]) -> str:
    """Return `12.5 USD, 0 DIEM`."""
    return printable(", ".join(f"{value:g} {name}" for name, value in balances.items()))


def describe_waiting(waiting: Waiting, about: str = "") -> str:
    """Return `2 images wait and cost 0.04 USD`."""
    one = waiting.images == 1
    verbs = ("waits", "costs") if one else ("wait", "cost")
    images = count(waiting.images, "image")
    return f"{images} {verbs[0]} and {verbs[1]} {about}{usd_text(waiting.microusd)} USD"


def find_shortage(
    balances: Mapping[str, float] | None, waiting: Waiting, about: str = ""
) -> str | None:
    """Return what to say of a balance that does not cover what waits, or None."""
    credit = read_credit(balances)
    if credit is None or waiting.microusd <= round(credit * 1_000_000):
        return None
    return (
        f"{describe_waiting(waiting, about)}, and the balance of {credit:g} USD does not cover "
        "that; sending stops when it is used up. Add credit at Venice, or take images out of the "
        "inbox."
    )


async def count_waiting(config: "Config", prices: Mapping[str, int]) -> Waiting:
    """Return what waits in the inboxes, priced by the folders' own presets; decodes nothing.

    So a rule that asks for another scale, an image that was paid for before, and one that will be
    refused are not seen. Raises StateUnusableError where the ledger cannot be read.
    """
    import time

    from venice_watch.cli.plan_images import Planner
    from venice_watch.cli.state import is_running, reading
    from venice_watch.images import decoders
    from venice_watch.intake.look import ignore_lease_breaks
    from venice_watch.parameters import price_microusd

    ignore_lease_breaks()
    images = microusd = 0
    with decoders.opened() as those:
        async with reading(config, "check") as ledger:
            planner = Planner(
                config,
                ledger,
                those,
                contract=None,
                prices=prices,
                running=is_running(config),
                now=time.time(),
            )
            for folder in config.folders:
                _, jobs = await planner.survey(folder)
                images += len(jobs)
                scale = config.presets[folder.preset].scale
                microusd += len(jobs) * price_microusd(scale, prices)
    return Waiting(images=images, microusd=microusd)
