"""`check` against the API: all that can be known of an account for nothing, and what to do then."""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from tests.component.odd_api import OddApi
from venice_watch.cli.check_account import Answers, find_trouble
from venice_watch.config.model import Api
from venice_watch.venice.client import KeyFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

DAY_S = 86_400
AUTO = {"contract": "auto", "requests_per_minute": "auto"}
PRESETS = {
    "poster": {"scale": 4},
    "gold": {"scale": 2, "enhance": True, "enhancePrompt": "gold"},
    "quiet": {"scale": 1.5},
}
Found = tuple[str, str]  # level and message


def _check(place: "Place", *arguments: str, code: int = 0) -> dict[str, list[Found]]:
    """Run `check`; return what it found by subject, having seen that it cost and told nothing."""
    before = place.venice.totals()
    program = place.run("check", "--json", *arguments)
    assert program.wait() == code, program.stdout + program.stderr
    after = place.venice.totals()
    assert after["charges"] == before["charges"]
    assert after["upscales"] - before["upscales"] <= 1  # the free question for the contract
    assert place.key_file.read_text().strip() not in program.stdout + program.stderr
    found: dict[str, list[Found]] = {}
    for one in json.loads(program.stdout):
        assert set(one) == {"level", "subject", "message"}
        assert one["message"].isprintable()
        found.setdefault(one["subject"], []).append((one["level"], one["message"]))
    return found


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _key_facts(**facts: object) -> tuple[bytes, bytes]:
    return b"200 OK", json.dumps({"data": {"accessPermitted": True, **facts}}).encode()


@pytest.fixture
def odd(place: "Place") -> Iterator[OddApi]:
    """Return a fake API, named in the place's configuration with `auto` for all it may tell."""
    with OddApi() as api:
        thread = threading.Thread(target=api.serve_forever, args=(0.05,))
        thread.start()
        place.write(api=AUTO | {"base_url": api.base_url})
        yield api
        api.shutdown()
        thread.join()


def test_all_that_is_known(place: "Place", venice: "Venice") -> None:
    """A sound account is told in full, each subject once, and nothing is amiss."""
    place.write(api=AUTO)
    venice.change(requests_per_minute=60, balance_usd=12.5, contract="creativity")
    found = _check(place)
    accepted = f"{venice.base_url}: the key is accepted and permitted, and never expires"
    assert found["account"] == [("ok", accepted)]
    assert found["rate"] == [("ok", "60 requests a minute")]
    assert found["balance"] == [("ok", "12.5 USD, 0 DIEM; nothing waits")]
    assert found["contract"] == [("ok", "creativity")]
    assert found["prices"] == [("ok", "2x 0.02 USD, 4x 0.08 USD")]
    assert found["clock"] == [("ok", "as the server's")]
    asked = [(one["method"], one["path"]) for one in venice.bill()["records"]]
    assert asked == [
        ("GET", "/api_keys/rate_limits"),
        ("GET", "/models"),
        ("POST", "/image/upscale"),
    ]


def test_offline_asks_nothing(place: "Place", venice: "Venice") -> None:
    """With `--offline` nobody is asked anything, and nothing is said of the account."""
    found = _check(place, "--offline")
    assert not found.keys() & {"account", "rate", "balance", "contract", "prices", "clock"}
    assert venice.totals()["requests"] == 0


# --- the key --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [
        (15, "ok", "the key is accepted and permitted until 20"),
        (13.5, "warning", "but expires in 13 d 12 h, at 20"),
        (-1, "error", "the key expired at 20"),
    ],
)
def test_key_that_ends(
    place: "Place", venice: "Venice", days: float, level: str, words: str
) -> None:
    """A key that ends within two weeks is a warning, and one that has ended an error."""
    venice.change(key_expires=_iso(time.time() + days * DAY_S + 60))
    [(said, message)] = _check(place, code=69 if level == "error" else 0)["account"]
    assert (said, words in message) == (level, True), message
    if level != "ok":
        assert (
            f"Make a new one at Venice (Settings, API keys) and put it into {place.key_file}."
            in message
        )


def test_key_ends_by_the_servers_clock(place: "Place", odd: OddApi) -> None:
    """A clock of ours that is behind does not make a key last longer."""
    ahead = time.time() + 30 * DAY_S
    odd.key_answer = _key_facts(keyExpiration=_iso(ahead + 3 * DAY_S))
    odd.free_headers = [(b"Date", formatdate(ahead, usegmt=True).encode())]
    [(level, message)] = _check(place)["account"]
    assert level == "warning"
    assert "expires in 3 d 0 h" in message


def test_key_of_which_little_is_told(place: "Place", odd: OddApi) -> None:
    """What the server does not say is not made up."""
    odd.key_answer = (b"200 OK", b'{"data": {}}')
    found = _check(place)
    assert found["account"] == [("ok", f"{odd.base_url}: the key is accepted")]
    assert found["rate"] == [("ok", "unknown; the API's answers are followed")]
    assert found["balance"] == [("ok", "not told")]
    assert found["prices"] == [("ok", "not told; the usual ones count: 2x 0.02 USD, 4x 0.08 USD")]
    assert "clock" not in found


def test_key_that_is_not_permitted(place: "Place", venice: "Venice") -> None:
    """A key that is accepted and may not use the API is an error that names both."""
    venice.change(access_permitted=False)
    [(level, message)] = _check(place, code=69)["account"]
    assert level == "error"
    assert f"the key in {place.key_file} is accepted, but not permitted to use the API" in message
    assert "See at Venice whether" in message


PAGE = b"<html><head><title>Sign in</title></head></html>"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((b"401 Unauthorized", b'{"error": "Authentication failed."}'),
         "HTTP 401: Authentication failed. The key in {key_file} is not accepted: see that it"),
        ((b"401 Unauthorized", b""), "HTTP 401. The key in {key_file} is not accepted: see that"),
        ((b"401 Unauthorized", b"{}"),
         "revoked. Make a new one at Venice (Settings, API keys) and put it into {key_file}."),
        ((b"402 Payment Required", b'{"error": "API key DIEM spend limit exceeded"}'),
         "limit exceeded. Add credit at Venice, or raise the key's own spending limit there."),
        ((b"403 Forbidden", b""), "HTTP 403. The key or its account may not do this:"),
        ((b"403 Forbidden", PAGE),
         "HTTP 403: a web page, 'Sign in'. That is not the API but something in front of it"),
        ((b"200 OK", PAGE),
         "HTTP 200: a web page, 'Sign in'. That is not the API but something in front of it"),
        ((b"302 Found", PAGE), "That is not the API but something in front of it"),
        ((b"200 OK", b"hello"), "HTTP 200: hello. There is no API at this address:"),
        ((b"429 Too Many", b'{"error": "Rate limit exceeded"}'), "wait a minute and ask again."),
        ((b"500 Oh", b'{"error": "broken"}'), "The API is in trouble, which is not yours to mend"),
        ((b"502 Bad Gateway", PAGE), "What stands in front of the API is in trouble"),
    ],
)  # fmt: skip
def test_refusals(place: "Place", odd: OddApi, answer: tuple[bytes, bytes], words: str) -> None:
    """Each way of not being let in is an error that says what to do, and nothing more is asked."""
    odd.key_answer = answer
    found = _check(place, code=69)
    [(level, message)] = found["account"]
    assert level == "error"
    assert message.startswith(f"{odd.base_url}: HTTP ")
    assert words.format(key_file=place.key_file) in message
    assert not found.keys() & {"rate", "balance", "contract", "prices"}
    assert len(odd.heads) == 1


@pytest.mark.parametrize("contract", ["auto", "enhance"])
def test_wrong_address(place: "Place", venice: "Venice", contract: str) -> None:
    """An address where there is no API is an error that names the usual one."""
    nothing = venice.base_url.replace("/api/v1", "/nothing")
    place.write(api={"base_url": nothing, "contract": contract})
    [(level, message)] = _check(place, code=69)["account"]
    assert level == "error"
    assert message.startswith(f"{nothing}: HTTP 404")
    assert "see `api.base_url`; the usual one is https://api.venice.ai/api/v1." in message


def test_nobody_there(place: "Place") -> None:
    """An address where nobody listens is an error that says where to look."""
    place.write(api={"base_url": "http://127.0.0.1:9/api/v1"})
    [(level, message)] = _check(place, code=69)["account"]
    assert level == "error"
    assert message.startswith("http://127.0.0.1:9/api/v1: ConnectError: ")
    assert "Nobody answers: see `api.base_url`, and whether this machine may go there" in message


def test_certificate_that_is_not_believed() -> None:
    """A refused certificate sends one to the clock and the certificates, not to the network."""
    words = "ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate is not yet valid"
    facts = KeyFacts(status=None, words=words)
    message = find_trouble(Api(), Answers(facts=facts, asked_at=0, answered_at=0), "the key file")
    assert message is not None
    assert "see this machine's clock and its certificates (package ca-certificates)" in message


@pytest.mark.parametrize("status", ["404 Not Found", "405 Not Allowed", "501 Not Implemented"])
def test_no_such_endpoint(place: "Place", odd: OddApi, status: str) -> None:
    """A server that is the API, but without this endpoint, is a warning: images may go through."""
    odd.key_answer = (status.encode(), b"{}")
    found = _check(place)
    [(level, message)] = found["account"]
    assert level == "warning"
    assert f"{odd.base_url} is the API, but tells nothing of the key (HTTP {status[:3]})" in message
    assert found["contract"] == [("ok", "enhance")]


def test_server_that_repeats_the_key(place: "Place", venice: "Venice") -> None:
    """A server's words are shown without the key in them."""
    for fault in ("echo_key", "echo_key_500"):
        venice.fail(fault, path="/api_keys/rate_limits", times=1)
        [(_, message)] = _check(place, code=69)["account"]  # which looks for the key
        assert "[key removed]" in message


# --- rate, prices, contract, clock ----------------------------------------------------------------


def test_rate(place: "Place", venice: "Venice") -> None:
    """A configured rate above what the key may do is a warning, and one within is not."""
    venice.change(requests_per_minute=20)
    place.write(api={"requests_per_minute": 21})
    [(level, message)] = _check(place)["rate"]
    assert level == "warning"
    assert "is 21, and the key may make 20 requests a minute" in message
    assert "Set it to `auto`, or lower it." in message
    place.write(api={"requests_per_minute": 20})
    expected = "20 requests a minute, as configured; the key may make 20"
    assert _check(place)["rate"] == [("ok", expected)]
    venice.change(requests_per_minute=None)
    assert _check(place)["rate"] == [("ok", "20 requests a minute, as configured")]


def test_prices(place: "Place", venice: "Venice") -> None:
    """Configured prices other than the API's are a warning with both, and equal ones are not."""
    venice.change(price_2x_usd=0.025)
    place.write(api={"prices": {"2x": 0.02, "4x": 0.08}})
    [(level, message)] = _check(place)["prices"]
    assert level == "warning"
    assert "`api.prices` has 2x 0.02 USD, and the API says 2x 0.025 USD;" in message
    assert "4x" not in message
    place.write(api={"prices": {"2x": 0.025}})
    assert _check(place)["prices"] == [("ok", "2x 0.025 USD, 4x 0.08 USD")]


def test_contract_as_configured(place: "Place", venice: "Venice") -> None:
    """A configured contract is not asked for, and that is said."""
    place.write(api={"contract": "creativity"})
    assert _check(place)["contract"] == [("ok", "creativity (configured, not asked)")]
    assert venice.totals()["upscales"] == 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((b"422 No", b'{"error": "no"}'), "the server does not tell; set `api.contract`"),
        ((b"503 No", b'{"error": "full"}'), "it could not be asked: HTTP 503: full; set"),
    ],
)
def test_contract_that_is_not_told(
    place: "Place", odd: OddApi, answer: tuple[bytes, bytes], words: str
) -> None:
    """A contract that cannot be found out is a warning."""
    odd.contract_answer = answer
    [(level, message)] = _check(place)["contract"]
    assert (level, words in message) == ("warning", True), message


@pytest.mark.parametrize(
    ("off_s", "words"),
    [
        (-7_260, "this machine's clock is 2 h 1 min ahead of the server's"),
        (600, "this machine's clock is 10 min behind the server's"),
        (-20, None),
        (20, None),
    ],
)
@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized"])
def test_clock(place: "Place", odd: OddApi, off_s: float, words: str | None, status: str) -> None:
    """A clock that is off by more than half a minute is a warning, whatever else is answered."""
    odd.key_answer = (status.encode(), odd.key_answer[1])
    odd.free_headers = [(b"Date", formatdate(time.time() + off_s, usegmt=True).encode())]
    [(level, message)] = _check(place, code=0 if status == "200 OK" else 69)["clock"]
    if words is None:
        assert (level, message) == ("ok", "as the server's")
    else:
        assert level == "warning"
        assert words in message
        assert "timedatectl set-ntp true" in message


def test_no_clock(place: "Place", odd: OddApi) -> None:
    """A Date that is nonsense tells no time, so nothing is said of the clock."""
    odd.free_headers = [(b"Date", b"the day after tomorrow")]
    assert "clock" not in _check(place)


# --- the balance ----------------------------------------------------------------------------------


@pytest.mark.parametrize("balance", ["0", "0.0199"])
def test_balance_is_used_up(place: "Place", venice: "Venice", balance: str) -> None:
    """A balance that pays for no image is an error, whether or not anything waits."""
    venice.change(balance_usd=float(balance))
    [(level, message)] = _check(place, code=69)["balance"]
    assert level == "error"
    assert message == (
        f"the balance is used up: {balance} USD, 0 DIEM, and an image costs 0.02 USD or more. "
        "Nothing is sent: add credit at Venice."
    )
    venice.change(balance_usd=0.02)
    assert _check(place)["balance"][0][0] == "ok"


def test_balance_and_what_waits(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A balance that does not cover the images that wait is a warning, to the cent."""
    place.write(presets=PRESETS, preset="poster")
    for number in range(3):
        place.drop(f"sub/{number}.png", draw(number))
    place.drop("notes.txt", b"for myself")
    place.drop(".hidden.png", draw(4))
    venice.change(balance_usd=0.23)
    [(level, message)] = _check(place)["balance"]
    assert level == "warning"
    assert message == (
        "0.23 USD, 0 DIEM: 3 images wait and cost about 0.24 USD, and the balance of 0.23 USD does "
        "not cover that; sending stops when it is used up. Add credit at Venice, or take images "
        "out of the inbox."
    )
    venice.change(balance_usd=0.24)
    told = "0.24 USD, 0 DIEM; 3 images wait and cost about 0.24 USD"
    assert _check(place)["balance"] == [("ok", told)]
    assert not place.ledger.exists()


def test_what_is_done_waits_no_more(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """What the ledger has as done is not counted, and what it has waiting is counted once."""
    place.write(originals="keep")
    place.drop("done.png", draw(1))
    assert place.once()[0] == 0
    place.drop("waits.png", draw(2))
    venice.fail("unauthorized", times=1)
    assert place.once()[0] == 69
    assert place.ask("SELECT path, state FROM jobs WHERE state = 'available'") == [
        (b"waits.png", "available")
    ]
    place.drop("new.png", draw(3))
    [(level, message)] = _check(place)["balance"]
    assert level == "ok"
    assert message.endswith("2 images wait and cost about 0.04 USD")


@pytest.mark.parametrize(("diem", "level"), [(0.02, "warning"), (0.03, "ok")])
def test_two_kinds_of_balance(
    place: "Place", odd: OddApi, draw: "Draw", diem: float, level: str
) -> None:
    """USD and DIEM pay together, and nothing else does."""
    odd.key_answer = _key_facts(balances={"USD": 0.01, "DIEM": diem, "POINTS": 9})
    for number in range(2):
        place.drop(f"{number}.png", draw(number))
    [(said, message)] = _check(place)["balance"]
    assert said == level
    assert message.startswith(f"0.01 USD, {diem:g} DIEM, 9 POINTS")
    assert "2 images wait and cost about 0.04 USD" in message
    assert level == "ok" or "the balance of 0.03 USD does not cover that" in message


def test_own_prices_count(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """What waits is priced as the daemon would: the configuration's word stands."""
    venice.change(balance_usd=0.03)
    place.drop("a.png", draw(1))
    assert _check(place)["balance"][0][0] == "ok"
    place.write(api={"prices": {"2x": 0.031}})
    assert "1 image waits and costs about 0.031 USD" in _check(place)["balance"][0][1]


def test_ledger_that_cannot_be_read(place: "Place", draw: "Draw") -> None:
    """Where the ledger cannot be read, what waits is unknown: a warning with the reason."""
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    with contextlib.closing(sqlite3.connect(place.ledger)) as connection:
        connection.execute("PRAGMA user_version = 999")
    [(level, message)] = _check(place)["balance"]
    assert level == "warning"
    assert "what waits for it is not known" in message
    assert "written by a newer venice-watch" in message


# --- presets and the contract ---------------------------------------------------------------------


def _folder(place: "Place", **facts: Any) -> dict[str, list[Found]]:  # noqa: ANN401 - settings
    """Check one folder against a server of the newer contract."""
    place.venice.change(contract="creativity")
    place.write(api=AUTO, presets=PRESETS, **facts)
    program = place.run("check", "--json")
    levels = {one["level"] for one in json.loads(program.stdout)}
    return _check(place, code=1 if "error" in levels else 0)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"preset": "gold"}, "preset 'gold' sets enhance, enhancePrompt, which"),
        ({"preset": "quiet"}, "preset 'quiet' sets scale, which"),
        ({"rules": [{"match": {"name": "*.gif"}, "skip": True},
                    {"match": {"name": "*.png"}, "preset": "gold"}]},
         "rule 2: preset 'gold' sets enhance, enhancePrompt, which"),
        ({"rules": [{"match": {"name": "*.png"}, "set": {"replication": 0.5}}]},
         "rule 1: preset 'photo' sets replication, which"),
        ({"preset": "quiet", "on_unsupported": "drop"}, "preset 'quiet' sets scale, which"),
    ],
)  # fmt: skip
def test_preset_beyond_the_contract(
    place: "Place", facts: dict[str, object], expected: str
) -> None:
    """A preset or rule with what the server lacks is an error: its folder would be held."""
    found = _folder(place, **facts)
    [message] = [message for level, message in found["folder photos"] if level == "error"]
    assert message.startswith(expected)
    assert "the server's contract (creativity) does not have" in message
    assert "Change the preset, or set `on_unsupported: drop`" in message
    assert found["account"][0][0] == "ok"


def test_preset_that_loses_something(place: "Place") -> None:
    """With `on_unsupported: drop` it is a warning that says what is left out."""
    found = _folder(place, preset="gold", on_unsupported="drop")
    [message] = [message for level, message in found["folder photos"] if level == "warning"]
    assert message == (
        "preset 'gold' sets enhance, enhancePrompt, which the server's contract (creativity) does "
        "not have; it is sent without, as `on_unsupported: drop` says."
    )
    assert "error" not in dict(found["folder photos"])


def test_preset_within_the_contract(place: "Place") -> None:
    """What the server knows, and presets that no folder uses, are not spoken of."""
    rules = [{"match": {"name": "*.png"}, "set": {"creativity": 0.01}}]
    found = _folder(place, preset="poster", rules=rules)
    assert [level for level, _ in found["folder photos"]] == ["ok"]


def test_preset_of_the_inbox(place: "Place") -> None:
    """The file in an inbox that chooses a preset is heard, and one that cannot be used is told."""
    chooser = place.inbox / ".venice-watch.yaml"
    chooser.write_text("preset: gold\n")
    found = _folder(place, folder_presets=True)
    assert [level for level, _ in found["folder photos"]] == ["ok", "error"]
    assert "preset 'gold' sets" in found["folder photos"][1][1]
    chooser.write_text("replication: 0.5\n")
    found = _folder(place, folder_presets=True)
    assert "preset 'photo' sets replication" in found["folder photos"][1][1]
    chooser.write_text("preset: golden\n")
    found = _folder(place, folder_presets=True)
    assert [level for level, _ in found["folder photos"]] == ["ok", "error"]
    assert "there is no preset 'golden'" in found["folder photos"][1][1]


def test_contract_that_nobody_knows(place: "Place", odd: OddApi) -> None:
    """Where the server does not tell, only what both contracts have would be sent."""
    odd.contract_answer = (b"422 No", b'{"error": "no"}')
    place.write(api=AUTO | {"base_url": odd.base_url}, presets=PRESETS, preset="gold")
    found = _check(place, code=1)
    [message] = [message for level, message in found["folder photos"] if level == "error"]
    assert "one of the API's contracts does not have" in message
    assert "name the contract in `api.contract`" in message


def test_contract_that_could_not_be_asked(place: "Place", odd: OddApi) -> None:
    """A busy server is asked again later, so the presets are not judged by its silence."""
    odd.contract_answer = (b"503 No", b'{"error": "full"}')
    place.write(api=AUTO | {"base_url": odd.base_url}, presets=PRESETS, preset="gold")
    assert [level for level, _ in _check(place)["folder photos"]] == ["ok"]


def test_contract_is_compared_offline(place: "Place") -> None:
    """A configured contract is enough to find presets beyond it, without asking or a key."""
    place.write(api={"contract": "creativity"}, presets=PRESETS, preset="gold")
    found = _check(place, "--offline", code=1)
    assert [level for level, _ in found["folder photos"]] == ["ok", "error"]
    place.write(api=AUTO, presets=PRESETS, preset="gold")
    found = _check(place, "--offline")
    assert [level for level, _ in found["folder photos"]] == ["ok"]


def test_error_for_people(place: "Place", venice: "Venice") -> None:
    """On a screen an error stands out, one line for each subject."""
    venice.change(balance_usd=0)
    program = place.run("check")
    assert program.wait() == 69
    assert "ERROR    balance: the balance is used up: 0 USD, 0 DIEM," in program.stdout
