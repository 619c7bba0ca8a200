"""The account behind the keys: who may, how often, and for how much.

Rules: pure but for its own memory; times come in as arguments (`now_s` monotonic, `now_wall_s` for
headers). Money is whole micro-USD. A price is taken from the balance when the work begins and
given back if it comes to nothing, so several in flight cannot spend the same dollar.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from venice_watch.simulator import faults
from venice_watch.simulator.answers import Answer, RefusalError, data, error
from venice_watch.simulator.contract import CHEAP_SCALE_MAX
from venice_watch.simulator.settings import Settings

MICROUSD = 1_000_000
BAD_KEY_PREFIX = "bad"  # refused where no list of keys is given
FINGERPRINT_CHARS = 12
PAST_S = 3_600  # how far back the "past" reset header lies

Headers = tuple[tuple[str, str], ...]


def microusd(usd: float) -> int:
    """Return whole micro-USD."""
    return round(usd * MICROUSD)


def read_key(authorization: str) -> str:
    """Return the key of an Authorization header, "" without one."""
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def fingerprint(key: str) -> str:
    """Return what may be shown of a key."""
    return hashlib.sha256(key.encode()).hexdigest()[:FINGERPRINT_CHARS] if key else ""


@dataclass(slots=True)
class Reservation:
    """A price taken from the balance; kept only if it is settled."""

    microusd: int
    settled: bool = False


class Account:
    """What one Venice account remembers from request to request."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.balance_microusd = microusd(settings.balance_usd)
        self._spent_microusd: Counter[str] = Counter()  # by the key's fingerprint
        self._admitted_s: deque[float] = deque()  # upscales within the rate window
        self._failed_s: deque[float] = deque()  # failures within theirs
        self._blocked_until_s = 0.0

    def change(self, settings: Settings) -> None:
        """Go on under other settings, the balance as it is."""
        self._settings = settings

    def refill(self) -> None:
        """Make the balance what the settings say."""
        self.balance_microusd = microusd(self._settings.balance_usd)

    def check_key(self, authorization: str) -> None:
        """Refuse a request without a key (402) or with one that is not accepted (401)."""
        key = read_key(authorization)
        if not key:
            raise RefusalError(_no_key())
        keys = self._settings.keys
        accepted = key in keys if keys is not None else not key.startswith(BAD_KEY_PREFIX)
        if not accepted:
            raise RefusalError(error(401, "Authentication failed", bare=True))

    def check_failures(self, now_s: float) -> None:
        """Refuse everything while the error budget is overdrawn."""
        most = self._settings.failures_max
        if most is not None and now_s < self._blocked_until_s:
            raise RefusalError(faults.error_budget(most))

    def count_failure(self, now_s: float) -> None:
        """Spend the error budget; overdrawn, it blocks, and afterwards begins anew."""
        most = self._settings.failures_max
        if most is None or now_s < self._blocked_until_s:
            return
        self._failed_s.append(now_s)
        self._forget(now_s)
        if len(self._failed_s) > most:
            self._failed_s.clear()
            self._blocked_until_s = now_s + self._settings.failures_block_s

    def admit(self, now_s: float) -> None:
        """Take a place in the rate window, or refuse; a refusal takes none."""
        self._forget(now_s)
        most = self._settings.requests_per_minute
        if most is not None and len(self._admitted_s) >= most:
            raise RefusalError(error(429, "Rate limit exceeded"))
        self._admitted_s.append(now_s)

    def price_microusd(self, scale: float) -> int:
        """Return the price of one image by its effective scale."""
        settings = self._settings
        return microusd(
            settings.price_2x_usd if scale <= CHEAP_SCALE_MAX else settings.price_4x_usd
        )

    @contextmanager
    def reserve(self, price_microusd: int, key_fingerprint: str) -> Iterator[Reservation]:
        """Take a price for the length of the work; refuse (402) what cannot be paid."""
        limit = self._settings.spend_limit_usd
        spent = self._spent_microusd[key_fingerprint]
        if limit is not None and spent + price_microusd > microusd(limit):
            raise RefusalError(faults.spend_limit())
        if price_microusd > self.balance_microusd:
            raise RefusalError(faults.payment_required())
        self.balance_microusd -= price_microusd
        self._spent_microusd[key_fingerprint] += price_microusd
        reservation = Reservation(price_microusd)
        try:
            yield reservation
        finally:
            if not reservation.settled:
                self.balance_microusd += price_microusd
                self._spent_microusd[key_fingerprint] -= price_microusd

    def spendable_microusd(self, key_fingerprint: str) -> int:
        """Return what a key can spend: the balance, or what is left of the key's own limit."""
        limit = self._settings.spend_limit_usd
        if limit is None:
            return self.balance_microusd
        left = microusd(limit) - self._spent_microusd[key_fingerprint]
        return max(0, min(self.balance_microusd, left))

    def headers(
        self, now_s: float, now_wall_s: float, *, spendable_microusd: int, blocked: bool
    ) -> Headers:
        """Return the rate and balance headers; `spendable_microusd` is from before the request.

        The error budget's refusal (`blocked`) speaks of the error budget instead of the rate: by
        that clients tell one 429 from the other.
        """
        self._forget(now_s)
        headers: Headers = () if blocked else self._rate_headers(now_s, now_wall_s)
        if blocked or self._settings.failure_headers == "always":
            headers += self._failure_headers(now_s, now_wall_s, blocked=blocked)
        return (
            *headers,
            ("x-venice-balance-usd", str(spendable_microusd / MICROUSD)),
            ("x-venice-balance-diem", "0"),
        )

    def describe(self, key_fingerprint: str, now_wall_s: float) -> Answer:
        """Return what `GET /api_keys/rate_limits` says."""
        settings = self._settings
        amount = settings.requests_per_minute
        limits = [] if amount is None else [{"amount": amount, "type": "RPM"}]
        return data(
            {
                "data": {
                    "accessPermitted": settings.access_permitted,
                    "apiTier": {"id": "paid", "isCharged": True},
                    "balances": {
                        "USD": self.spendable_microusd(key_fingerprint) / MICROUSD,
                        "DIEM": 0,
                    },
                    "keyExpiration": None,
                    "nextEpochBegins": _next_midnight(now_wall_s),
                    "rateLimits": [{"apiModelId": "upscaler", "rateLimits": limits}],
                }
            }
        )

    def describe_balance(self) -> Answer:
        """Return what `GET /billing/balance` says."""
        return data(
            {
                "canConsume": self.balance_microusd > 0,
                "consumptionCurrency": "USD",
                "balances": {"usd": self.balance_microusd / MICROUSD, "diem": 0},
                "diemEpochAllocation": 0,
            }
        )

    def _forget(self, now_s: float) -> None:
        """Drop what has left its window."""
        for times, window_s in (
            (self._admitted_s, self._settings.rate_window_s),
            (self._failed_s, self._settings.failures_window_s),
        ):
            while times and times[0] <= now_s - window_s:
                times.popleft()

    def _rate_headers(self, now_s: float, now_wall_s: float) -> Headers:
        settings = self._settings
        most = settings.requests_per_minute
        if most is None or settings.reset_format == "missing":
            return ()
        oldest_s = self._admitted_s[0] if self._admitted_s else now_s
        reset_wall_s = now_wall_s + oldest_s + settings.rate_window_s - now_s
        reset = {
            "seconds": str(int(reset_wall_s) + 1),  # rounded down it would lie in the window
            "ms": str(int(reset_wall_s * 1000) + 1),
            "past": str(int(now_wall_s) - PAST_S),
            "garbage": "soon",
        }[settings.reset_format]
        garbage = settings.reset_format == "garbage"
        remaining = str(max(0, most - len(self._admitted_s)))
        return (
            ("x-ratelimit-limit-requests", "many" if garbage else str(most)),
            ("x-ratelimit-remaining-requests", "NaN" if garbage else remaining),
            ("x-ratelimit-reset-requests", reset),
        )

    def _failure_headers(self, now_s: float, now_wall_s: float, *, blocked: bool) -> Headers:
        settings = self._settings
        most = settings.failures_max
        if most is None and not blocked:
            return ()
        block_s = self._blocked_until_s - now_s
        if blocked and block_s <= 0:  # a scripted refusal: nothing was counted
            block_s = settings.failures_block_s
        oldest_s = self._failed_s[0] if self._failed_s else now_s
        rest_s = block_s if block_s > 0 else oldest_s + settings.failures_window_s - now_s
        remaining = 0 if block_s > 0 or most is None else most - len(self._failed_s)
        return (
            ("x-ratelimit-remaining", str(remaining)),
            ("x-ratelimit-resets", str(int((now_wall_s + rest_s) * 1000))),
        )


def _next_midnight(now_wall_s: float) -> str:
    """Return when the day turns, in UTC, as JavaScript writes a time."""
    day = datetime.fromtimestamp(now_wall_s, UTC).date() + timedelta(days=1)
    return f"{day.isoformat()}T00:00:00.000Z"


def _no_key() -> Answer:
    """Return the payment protocol's invitation to pay for a single request."""
    answer = data(
        {"x402Version": 1, "error": "Payment required: no API key given", "accepts": []}, 402
    )
    return Answer(status=402, body=answer.body, bare=True)
