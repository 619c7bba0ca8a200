"""The figures in what the free endpoints say: rates, prices, balances, dates.

Rules: pure; a server may say anything, and what is no sensible figure says nothing.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

CREDIT = ("USD", "DIEM")  # balances that pay for a request
EXPIRY_YEARS = range(1971, 9999)  # outside it stands what means "not set" and "never"


def read_expiry(value: object) -> float | None:
    """Return when a key ends (null: never), or None for what is no date since 1970."""
    if value is None:
        return math.inf
    try:
        date = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if date is None or date.year < EXPIRY_YEARS.start:
        return None
    if date.year >= EXPIRY_YEARS.stop:
        return math.inf
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def read_numbers(values: object) -> dict[str, float] | None:
    """Return what is a number in a mapping; None for what is no mapping."""
    if not isinstance(values, dict):
        return None
    return {
        name: number for name, value in values.items() if (number := _number(value)) is not None
    }


def read_rate(models: object) -> int | None:
    """Return the upscaler's requests a minute, or the lowest image limit that is named."""
    amounts: dict[str, int] = {}
    for model in models if isinstance(models, list) else []:
        limits = model.get("rateLimits") if isinstance(model, dict) else None
        for limit in limits if isinstance(limits, list) else []:
            if not isinstance(limit, dict) or limit.get("type") != "RPM":
                continue
            amount = _number(limit.get("amount"))
            if amount is not None and amount >= 1:
                amounts[str(model.get("apiModelId", ""))] = int(amount)
    upscalers = [amount for name, amount in amounts.items() if "upscal" in name.lower()]
    return min(upscalers or amounts.values(), default=None)


def read_prices(value: Mapping[str, object] | None) -> Mapping[str, int] | None:
    """Read `data[].model_spec.pricing.upscale.{2x,4x}.usd` into micro-USD."""
    data = (value or {}).get("data")
    for model in data if isinstance(data, list) else []:
        try:
            prices = model["model_spec"]["pricing"]["upscale"]
            usd = {name: _number(prices[name]["usd"]) for name in ("2x", "4x")}
        except (KeyError, TypeError):
            continue
        if all(one is not None and one > 0 for one in usd.values()):  # free is a mistake
            return {name: round(one * 1_000_000) for name, one in usd.items() if one is not None}
    return None


def _number(value: object) -> float | None:
    """Return a finite number of a server's JSON, or None: it may say anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def read_credit(balances: Mapping[str, float] | None) -> float | None:
    """Return what can be spent, in USD, where it is told: a DIEM is worth a dollar a day."""
    known = [amount for name, amount in (balances or {}).items() if name.upper() in CREDIT]
    return math.fsum(max(0.0, amount) for amount in known) if known else None
