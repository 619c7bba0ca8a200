"""The web server of a real daemon: what monitoring is told, who may ask, and who cannot harm it."""

import contextlib
import http.client
import json
import re
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.component.conftest import wait_until
from venice_watch.web.server import CONNECTIONS_MAX, HEADER_BYTES_MAX, REQUEST_S

if TYPE_CHECKING:
    from tests.component.conftest import Place, Program, Venice

TOKEN = "a-token-for-monitoring"
SLOW = 1_000  # connections


def configure(place: "Place", **facts: object) -> None:
    """Add keys to the top of a place's configuration."""
    config = json.loads(place.config.read_text())
    place.config.write_text(json.dumps({**config, **facts}))


def serving(place: "Place", **web: object) -> tuple["Program", str, int]:
    """Start a daemon with a web server on any free port; return where it is."""
    configure(place, web={"listen": "127.0.0.1:0", **web})
    daemon = place.ready()
    host, _, port = daemon.wait_event("web.listening")["address"].rpartition(":")
    return daemon, host, int(port)


def get(host: str, port: int, path: str, *, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Return status and text of one request."""
    connection = http.client.HTTPConnection(host, port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return the values of a metrics page, by name and labels, as Prometheus' own parser has it."""
    found: dict[str, dict[Any, float]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            found.setdefault(one.name, {})[tuple(sorted(one.labels.items()))] = one.value
    return found


def test_metrics_tell_what_happened(place: "Place", venice: "Venice") -> None:
    """Jobs, requests, money and budgets are the simulator's bill, and go on over a restart."""
    configure(place, budget={"per_day_usd": 5})
    daemon, host, port = serving(place)
    place.drop("bad.jpg", b"no image at all")
    venice.fail("server_error", times=1)
    pictures = place.drop_many(3)
    place.wait_names("outbox", set(pictures))
    place.wait_rows("SELECT 1 FROM jobs WHERE original_path IS NOT NULL", 4)
    status, text = get(host, port, "/metrics")
    assert status == 200
    found = samples(text)
    photos = ("folder", "photos")
    assert found["venice_watch_jobs"][photos, ("state", "completed")] == 3
    assert found["venice_watch_jobs"][photos, ("state", "discarded")] == 1
    assert found["venice_watch_quarantined"][("code", "corrupt"), photos] == 1
    assert found["venice_watch_charged_usd_total"][photos,] == pytest.approx(0.06)
    requests = found["venice_watch_requests_total"]
    assert requests[photos, ("outcome", "succeeded")] == 3
    assert sum(requests.values()) == 4 == found["venice_watch_request_seconds_count"][()]
    assert found["venice_watch_budget_limit_usd"][("period", "day"),] == 5
    assert found["venice_watch_budget_spent_usd"][("period", "day"),] == pytest.approx(0.06)
    assert found["venice_watch_folder_up"][photos,] == 1
    assert found["venice_watch_account_usable"][()] == 1
    assert found["venice_watch_moving"][()] == 1
    assert found["venice_watch_spool_bytes"][()] > 1000
    assert found["process_resident_memory_bytes"][()] > 10_000_000
    assert abs(found["process_start_time_seconds"][()] - time.time()) < 120
    assert "p001" not in text
    assert "bad" not in text
    assert daemon.stop() == 0
    daemon, host, port = serving(place)
    again = samples(get(host, port, "/metrics")[1])
    assert again["venice_watch_requests_total"] == requests
    assert again["venice_watch_charged_usd_total"] == found["venice_watch_charged_usd_total"]
    assert again["venice_watch_request_seconds_count"][()] == 0
    place.drop("late.png", place.draw(77))
    place.wait_names("outbox", {"late.png"})

    def succeeded() -> bool:
        more = samples(get(host, port, "/metrics")[1])["venice_watch_requests_total"]
        return more[photos, ("outcome", "succeeded")] == 4

    wait_until(succeeded, "the fourth request is counted")


def test_readiness_and_health(place: "Place", venice: "Venice") -> None:
    """It is ready while it watches, not while it drains, and healthy all along."""
    venice.change(latency_s=3.0)
    daemon, host, port = serving(place)
    assert get(host, port, "/readyz") == (200, "ok\n")
    assert get(host, port, "/healthz") == (200, "ok\n")
    place.drop("a.png", place.draw(1))
    venice.wait(in_flight=1)
    daemon.signal(signal.SIGTERM)
    daemon.wait_event("daemon.draining")
    assert get(host, port, "/readyz") == (503, "stopping\n")
    assert get(host, port, "/healthz") == (200, "ok\n")
    assert daemon.wait() == 0
    assert place.names("outbox") == {"a.png"}


def test_who_may_ask(place: "Place") -> None:
    """Another name is refused, and so is whoever lacks the token; nothing but GET is answered."""
    token = place.root / "token"
    token.write_text(TOKEN + "\n")
    daemon, host, port = serving(place, token_file=str(token), hosts=["watch.example.org"])
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert get(host, port, "/healthz", **bearer)[0] == 200
    assert get(host, port, "/metrics", **bearer, Host=f"localhost:{port}")[0] == 200
    assert get(host, port, "/healthz", **bearer, Host="Watch.example.org")[0] == 200
    assert get(host, port, "/healthz", **bearer, Host="evil.example")[0] == 421
    for wrong in ("", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        assert get(host, port, "/metrics", Authorization=wrong)[0] == 401
    assert get(host, port, "/metrics")[0] == 401
    assert get(host, port, "/nothing", **bearer)[0] == 404
    assert get(host, port, "/metrics", method="POST", **bearer)[0] == 405
    assert daemon.stop() == 0
    assert TOKEN not in daemon.stderr


def test_open_to_the_network_without_a_token_is_refused(place: "Place") -> None:
    """Exit code 78, with the place in the file."""
    configure(place, web={"listen": "0.0.0.0:8765"})
    daemon = place.start()
    assert daemon.wait() == 78
    assert re.search(r"web\.listen: other machines reach this address.*token_file", daemon.stderr)


def test_a_taken_port_stops_no_image(place: "Place") -> None:
    """Where it cannot listen, images are done all the same, and `status` says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        configure(place, web={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        daemon = place.ready()
        daemon.wait_event("web.unavailable")
        place.drop("a.png", place.draw(1))
        place.wait_names("outbox", {"a.png"})
        [trouble] = json.loads(place.run("status", "--json").stdout)["troubles"]
        assert trouble["subject"] == "web"
        assert daemon.stop() == 0


def test_the_limits_hold(place: "Place") -> None:
    """A request that never ends is cut off in time, and one with too large a head at once."""
    daemon, host, port = serving(place)
    with (
        socket.create_connection((host, port)) as slow,
        socket.create_connection((host, port)) as large,
    ):
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        large.settimeout(20)
        large.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * (HEADER_BYTES_MAX + 100_000))
        with contextlib.suppress(ConnectionError):
            assert b" 400 " in large.recv(4096)
        begun = time.monotonic()
        slow.settimeout(REQUEST_S + 20)
        with contextlib.suppress(ConnectionError):
            assert slow.recv(4096) == b""
        assert time.monotonic() - begun < REQUEST_S + 5
    assert daemon.stop() == 0


def test_a_thousand_slow_connections_harm_nobody(place: "Place") -> None:
    """Most are cut off at once, images are done meanwhile, and it answers again afterwards."""
    daemon, host, port = serving(place)
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(SLOW):
            one = stack.enter_context(socket.create_connection((host, port), timeout=20))
            with contextlib.suppress(ConnectionError):
                one.sendall(b"GET /metrics HTTP/1.1\r\n")
            held.append(one)
        pictures = place.drop_many(5)
        place.wait_names("outbox", set(pictures))
        descriptors = len(list((_proc(daemon) / "fd").iterdir()))
        assert descriptors < CONNECTIONS_MAX + 100
    wait_until(lambda: _answers(host, port), "it answers again")
    assert daemon.stop() == 0
    assert daemon.find("outside.bug") == []


def _answers(host: str, port: int) -> bool:
    try:
        return get(host, port, "/healthz")[0] == 200
    except (ConnectionError, http.client.HTTPException):
        return False


def _proc(daemon: "Program") -> Any:  # noqa: ANN401
    from pathlib import Path

    return Path(f"/proc/{daemon.pid}")


def test_metrics_without_a_port(place: "Place") -> None:
    """`metrics_file` has the same figures, readable by others, and nothing else beside it."""
    folder = place.root / "textfile"
    folder.mkdir()
    configure(place, metrics_file="textfile/venice-watch.prom")
    daemon = place.ready()
    path = folder / "venice-watch.prom"
    wait_until(path.exists, "the file is there")
    assert samples(path.read_text())["venice_watch_build_info"]
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in folder.iterdir()] == [path.name]
    assert daemon.stop() == 0


def test_metrics_that_cannot_be_written_stop_no_image(place: "Place") -> None:
    """A folder that is not there is said, once, and in `status`."""
    configure(place, metrics_file="nowhere/venice-watch.prom")
    daemon = place.ready()
    daemon.wait_event("metrics.unwritable")
    place.drop("a.png", place.draw(1))
    place.wait_names("outbox", {"a.png"})
    [trouble] = json.loads(place.run("status", "--json").stdout)["troubles"]
    assert trouble["subject"] == "metrics_file"
    assert daemon.stop() == 0
