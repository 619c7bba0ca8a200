"""The simulator as clients of the real API see it, which nobody here wrote.

What they take for a result, and which of their own errors they make of a refusal, is the best
witness there is of what Venice answers. Each runs in an environment of its own.
"""

import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.conftest import SimulatorProcess

HERE = Path(__file__).parent
PYTHON, NODE = "VENICE_WATCH_VENICE_PY", "VENICE_WATCH_NODE_CLIENT"
NONE = "none"  # what CI says where a machine cannot have it
ASK_S = 60.0  # for one call; an interpreter that starts on a busy machine
KEY = "sk-of-a-foreign-client"
TO_INSTALL = {
    PYTHON: (
        "venice-py is missing; to install it: python3 -m venv DIR && DIR/bin/pip install -r "
        f"tests/foreign/requirements.txt && export {PYTHON}=DIR/bin/python"
    ),
    NODE: (
        "@venice-dev-tools/core is missing; to install it: mkdir DIR && cp "
        "tests/foreign/package.json DIR && npm install --prefix DIR --no-package-lock && "
        f"export {NODE}=DIR"
    ),
}
MISSING = {
    PYTHON: "this machine has no Python that venice-py runs with",
    NODE: "this machine has no npm, or no Node.js with fetch",
}

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a picture of 300 x 256."""
    path = tmp_path_factory.mktemp("foreign") / "a.png"
    Image.linear_gradient("L").resize((300, 256)).convert("RGB").save(path)
    return str(path)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a picture with too few pixels."""
    path = tmp_path_factory.mktemp("foreign") / "small.png"
    Image.new("RGB", (200, 200)).save(path)
    return str(path)


def given(variable: str) -> str:
    """Return what a variable of the environment names; skip without it."""
    value = os.environ.get(variable, "")
    if value == NONE:
        pytest.skip(MISSING[variable])
    if not value:
        pytest.skip(TO_INSTALL[variable])
    return value


def asker(*command: str) -> Ask:
    """Return what makes one call in a process of its own, without our environment or a proxy."""
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}

    def ask(
        simulator: "SimulatorProcess", call: str, *, key: str = KEY, **arguments: object
    ) -> dict[str, Any]:
        done = subprocess.run(
            (*command, simulator.base_url, key, call, json.dumps(arguments)),
            capture_output=True, text=True, check=False, timeout=ASK_S, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    return ask


@pytest.fixture
def venice_py() -> Ask:
    """Return what asks with venice-py."""
    return asker(given(PYTHON), str(HERE / "ask_venice_py.py"))


@pytest.fixture
def core() -> Ask:
    """Return what asks with @venice-dev-tools/core."""
    folder = given(NODE)
    node = shutil.which("node")
    assert node is not None, "the package is there, and node is not on PATH"
    return asker(node, str(HERE / "ask_core.mjs"), folder)


def size_of(said: dict[str, Any]) -> tuple[int, int]:
    """Return the size of the PNG that was answered, decoded completely."""
    assert "answer" in said, said
    with Image.open(io.BytesIO(bytes.fromhex(said["answer"])), formats=("PNG",)) as image:
        image.load()
        return image.size


def charged(simulator: "SimulatorProcess") -> tuple[int, int]:
    """Return the number and the sum (micro-USD) of the charges."""
    totals = simulator.bill()["totals"]
    return totals["charges"], totals["charged_microusd"]


def the_record(simulator: "SimulatorProcess") -> dict[str, Any]:
    """Return the one line of the bill that is an upscale."""
    [record] = [one for one in simulator.bill()["records"] if one["upscale"]]
    assert isinstance(record, dict)
    return record


# venice-py: multipart through aiohttp, the newer contract.


@pytest.mark.parametrize("contract", ["enhance", "creativity"])
@pytest.mark.parametrize(
    ("scale", "size", "price"), [(2, (600, 512), 20_000), (4, (1200, 1024), 80_000)]
)
def test_venice_py_upscales(
    simulator: "SimulatorProcess", venice_py: Ask, image: str, contract: str, scale: int,
    size: tuple[int, int], price: int,
) -> None:  # fmt: skip
    """venice-py gets an image of the size it asked for, for one charge, from either contract."""
    simulator.change(contract=contract)
    assert size_of(venice_py(simulator, "image.upscale", image=image, scale=scale)) == size
    assert charged(simulator) == (1, price)
    record = the_record(simulator)
    assert record["image_sha256"] is not None
    assert record["fields"] == {"scale": scale}


def test_venice_pys_creativity_tells_the_contracts_apart(
    simulator: "SimulatorProcess", venice_py: Ask, image: str
) -> None:
    """The newer contract takes `creativity`; the older one refuses what it does not know."""
    simulator.change(contract="creativity")
    said = venice_py(simulator, "image.upscale", image=image, scale=2, creativity=0.02)
    assert size_of(said) == (600, 512)
    assert the_record(simulator)["fields"] == {"scale": 2, "creativity": 0.02}
    simulator.reset()
    said = venice_py(simulator, "image.upscale", image=image, scale=2, creativity=0.02)
    assert (said["error"], said["status_code"]) == ("InvalidRequestError", 400)
    assert "Unrecognized key(s) in object: 'creativity'" in said["message"]
    assert charged(simulator) == (0, 0)


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        ("bad_request", "InvalidRequestError", 400),
        ("payment_required", "PaymentRequiredError", 402),
        ("spend_limit", "PaymentRequiredError", 402),
        ("forbidden", "PermissionDeniedError", 403),
        ("rejected", "UnprocessableEntityError", 422),
        ("rate_limited", "RateLimitError", 429),
        ("server_error", "InternalServerError", 500),
        ("server_error_object", "InternalServerError", 500),
        ("bad_gateway", "InternalServerError", 502),
        ("unavailable", "ServiceUnavailableError", 503),
        ("html_524", "InternalServerError", 524),
    ],
)
def test_venice_py_knows_the_errors(
    simulator: "SimulatorProcess", venice_py: Ask, image: str, fault: str, error: str, status: int
) -> None:
    """Each refusal is the error that venice-py has for it, and costs nothing."""
    simulator.script({"fault": fault})
    said = venice_py(simulator, "image.upscale", image=image, scale=2)
    assert (said.get("error"), said.get("status_code")) == (error, status)
    assert charged(simulator) == (0, 0)


def test_venice_py_knows_its_key_and_its_image_to_be_bad(
    simulator: "SimulatorProcess", venice_py: Ask, image: str, small: str
) -> None:
    """A key that is refused is 401, and too few pixels 400, with the server's words."""
    said = venice_py(simulator, "image.upscale", key="bad-key", image=image, scale=2)
    assert (said["error"], said["status_code"]) == ("AuthenticationError", 401)
    said = venice_py(simulator, "image.upscale", image=small, scale=2)
    assert (said["error"], said["status_code"]) == ("InvalidRequestError", 400)
    assert "65536 pixels" in said["message"]
    assert charged(simulator) == (0, 0)


def test_venice_py_tells_one_429_from_the_other(
    simulator: "SimulatorProcess", venice_py: Ask, image: str
) -> None:
    """The rate names its reset, overload its Retry-After, the error budget that it is one."""
    simulator.change(requests_per_minute=0)
    rate = venice_py(simulator, "image.upscale", image=image, scale=2)
    assert (rate["error"], rate["is_error_budget"]) == ("RateLimitError", False)
    assert rate["remaining_requests"] == 0
    assert 0 < rate["reset_requests_timestamp"] - time.time() <= 61
    simulator.change(requests_per_minute=None, clock_offset_s=-120)
    simulator.script({"fault": "overloaded", "value": "date"})
    overload = venice_py(simulator, "image.upscale", image=image, scale=2)
    assert (overload["error"], overload["is_error_budget"]) == ("RateLimitError", False)
    assert 28 <= overload["retry_after_seconds"] <= 30, "by the server's own clock"
    simulator.script({"fault": "error_budget"})
    budget = venice_py(simulator, "image.upscale", image=image, scale=2)
    assert (budget["error"], budget["is_error_budget"]) == ("RateLimitError", True)
    assert "retry_after_seconds" not in budget
    assert charged(simulator) == (0, 0)


def test_venice_py_reads_what_is_free(simulator: "SimulatorProcess", venice_py: Ask) -> None:
    """Rate limits, balance and prices pass venice-py's own checks of their form."""
    simulator.change(requests_per_minute=7, spend_limit_usd=5)
    limits = venice_py(simulator, "api_keys.get_rate_limits")["answer"]["data"]
    assert limits["accessPermitted"] is True
    assert limits["balances"]["USD"] == 5
    assert [one["rateLimits"] for one in limits["rateLimits"]] == [[{"type": "RPM", "amount": 7}]]
    balance = venice_py(simulator, "billing.get_balance")["answer"]
    assert balance["balances"]["usd"] == 100
    [model] = venice_py(simulator, "models.list", type="upscale")["answer"]["data"]
    prices = model["model_spec"]["pricing"]["upscale"]
    assert [prices[scale]["usd"] for scale in ("x2", "x4")] == [0.02, 0.08]
    said = venice_py(simulator, "api_keys.get_rate_limits", key="bad-key")
    assert said["error"] == "AuthenticationError"
    assert charged(simulator) == (0, 0)


# @venice-dev-tools/core: multipart through fetch and the rest through axios, the older contract.


@pytest.mark.parametrize("contract", ["enhance", "creativity"])
@pytest.mark.parametrize("call", ["imageUpscale.upscale", "images.upscale"])
def test_core_upscales(
    simulator: "SimulatorProcess", core: Ask, image: str, contract: str, call: str
) -> None:
    """The JavaScript client gets its image for one charge; the newer contract ignores the rest."""
    simulator.change(contract=contract)
    fields = {
        "scale": 2, "enhance": True, "enhanceCreativity": 0.3, "enhancePrompt": "gold",
        "replication": 0.35,
    }  # fmt: skip
    assert size_of(core(simulator, call, image=image, **fields)) == (600, 512)
    assert charged(simulator) == (1, 20_000)
    assert the_record(simulator)["fields"] == fields | {"enhance": "true"}


@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        ("payment_required", 402, "Insufficient USD or Diem balance to complete request."),
        ("forbidden", 403, "Access to this API is disabled."),
        ("rejected", 422, "Your image violates the content policy."),
        ("rate_limited", 429, "Rate limit exceeded"),
        ("server_error", 500, "UPSCALE_FAILED"),
        ("bad_gateway", 502, "HTTP error 502"),
        ("unavailable", 503, "The model is at capacity. Please try again later."),
    ],
)
def test_core_knows_the_errors(
    simulator: "SimulatorProcess", core: Ask, image: str, fault: str, status: int, message: str
) -> None:
    """Each refusal is the JavaScript client's error with status and words, and costs nothing."""
    simulator.script({"fault": fault})
    said = core(simulator, "imageUpscale.upscale", image=image, scale=2)
    assert said == {"error": "VeniceApiError", "message": message, "status": status}
    assert charged(simulator) == (0, 0)


def test_core_knows_its_key_and_its_image_to_be_bad(
    simulator: "SimulatorProcess", core: Ask, image: str, small: str
) -> None:
    """A refused key and too few pixels are errors with status; a bad field has its details."""
    said = core(simulator, "imageUpscale.upscale", key="bad-key", image=image, scale=2)
    assert (said["error"], said["status"]) == ("VeniceApiError", 401)
    said = core(simulator, "imageUpscale.upscale", image=small, scale=2)
    assert (said["status"], said["message"]) == (400, "Image must be at least 65536 pixels")
    said = core(simulator, "imageUpscale.upscale", image=image, scale=2, enhanceCreativity=7)
    assert said["status"] == 400
    assert said["details"]["enhanceCreativity"]["_errors"]
    assert charged(simulator) == (0, 0)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("unauthorized", "VeniceAuthError"),
        ("payment_required", "VenicePaymentRequiredError"),
        ("error_budget", "VeniceRateLimitError"),
        ("unavailable", "VeniceCapacityError"),
        ("server_error", "VeniceApiError"),
    ],
)
def test_core_has_classes_for_what_is_free(
    simulator: "SimulatorProcess", core: Ask, fault: str, error: str
) -> None:
    """Where the JavaScript client has a class for a refusal, ours becomes one."""
    simulator.script({"fault": fault, "path": "/api_keys/rate_limits"})
    assert core(simulator, "keys.getRateLimits").get("error") == error


def test_core_reads_what_is_free(simulator: "SimulatorProcess", core: Ask) -> None:
    """Rate limits, balance and the list of models are read by the JavaScript client."""
    simulator.change(requests_per_minute=7)
    limits = core(simulator, "keys.getRateLimits")["answer"]["data"]
    assert limits["rateLimits"][0]["rateLimits"] == [{"amount": 7, "type": "RPM"}]
    assert core(simulator, "billing.getBalance")["answer"]["balances"]["usd"] == 100
    [model] = core(simulator, "models.list", type="all")["answer"]["data"]
    assert model["model_spec"]["pricing"]["upscale"]["4x"]["usd"] == 0.08
    assert charged(simulator) == (0, 0)


# How they are found.


@pytest.mark.parametrize("variable", [PYTHON, NODE])
def test_a_client_that_is_missing_is_no_success(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Without a client a skip says how to install it; where that cannot be, only that."""
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(pytest.skip.Exception, match="to install it: "):
        given(variable)
    monkeypatch.setenv(variable, NONE)
    with pytest.raises(pytest.skip.Exception) as skipped:
        given(variable)
    assert "to install it" not in str(skipped.value)
