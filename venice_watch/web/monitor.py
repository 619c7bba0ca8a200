"""What monitoring asks: whether it moves, whether it works, and the figures."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MEASURE_S = 10.0  # for all figures: a scraper gives up by then


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is told: each is asked anew for every request."""

    hang: Callable[[], str | None]  # what stands still, in a few words; None: all moves
    unready: Callable[[], str | None]  # why no images are taken now; None: they are
    metrics: Callable[[], Awaitable[str]]


def routes(facts: Facts) -> list[Route]:
    """Return the three addresses."""

    def healthz(_request: Request) -> Response:
        return _word(facts.hang())

    def readyz(_request: Request) -> Response:
        return _word(facts.unready())

    async def metrics(_request: Request) -> Response:
        try:
            async with asyncio.timeout(MEASURE_S):
                text = await facts.metrics()
        except TimeoutError:
            return _word("the ledger does not answer")
        return PlainTextResponse(text, media_type=METRICS_TYPE)

    return [
        Route("/healthz", _in_the_loop(healthz)),
        Route("/readyz", _in_the_loop(readyz)),
        Route("/metrics", metrics),
    ]


def _in_the_loop(
    answer: Callable[[Request], Response],
) -> Callable[[Request], Awaitable[Response]]:
    """Keep Starlette from using a thread: that the loop answers is what is asked."""

    async def endpoint(request: Request) -> Response:
        return answer(request)

    return endpoint


def _word(trouble: str | None) -> Response:
    status = HTTPStatus.OK if trouble is None else HTTPStatus.SERVICE_UNAVAILABLE
    return PlainTextResponse(f"{trouble or 'ok'}\n", status, {"Cache-Control": "no-store"})
