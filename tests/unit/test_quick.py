"""The daemon asked without reading the configuration: where that goes, and where it does not."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_import_budget import HEAVY, SEES
from venice_watch.cli.quick import ask_quickly
from venice_watch.service.control import Caller, encode, serving


def answered(folder: Path, text: str, *arguments: str) -> Any:  # noqa: ANN401 - any JSON
    """Return what is answered with this configuration while a daemon listens in `state`."""
    (folder / "state").mkdir()
    config = folder / "config.yaml"
    config.write_text(text, encoding="utf-8")

    async def answer(request: Mapping[str, Any], _caller: Caller) -> bytes:
        return encode({"asked": request["verb"]})

    async def scenario() -> Any:  # noqa: ANN401 - any JSON
        async with serving(folder / "state", answer):
            if arguments:
                return await asyncio.to_thread(loaded_by, *arguments, "--config", str(config))
            return await asyncio.to_thread(ask_quickly, config, {"verb": "status"})

    return asyncio.run(scenario())


def loaded_by(*arguments: str) -> set[str]:
    """Return which of the large libraries a command loads."""
    done = subprocess.run(
        [sys.executable, "-c", SEES.format(arguments=list(arguments), heavy=HEAVY)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    return set(" ".join(lines).split()) if lines else {done.stderr}


@pytest.mark.parametrize(
    "line",
    [
        "state_dir: state",
        "state_dir:   'state'   # here",
        'state_dir: "state"',
        "api: {}\nstate_dir: ./state\nfolders: []",
    ],
)
def test_plain(tmp_path: Path, line: str) -> None:
    """A state folder that is written plainly is found, beside the configuration."""
    assert answered(tmp_path, line + "\n") == {"asked": "status"}


@pytest.mark.parametrize(
    "line",
    [
        "state_dir: ${HOME}/state",
        "state_dir: &there state",
        '{"state_dir": "state"}',
        "  state_dir: state",
        "state_dir: state\nstate_dir: elsewhere",
        "state_dir: >\n  state",
        "state_dir: elsewhere",
        "",
    ],
)
def test_not_plain(tmp_path: Path, line: str) -> None:
    """Whatever is not that plain, or leads to nobody, is left to the long way."""
    assert answered(tmp_path, line + "\n") is None


def test_no_configuration(tmp_path: Path) -> None:
    """A configuration that is not there is not complained of here."""
    assert ask_quickly(tmp_path / "none.yaml", {"verb": "status"}) is None


def test_what_it_loads(tmp_path: Path) -> None:
    """To ask the daemon how things stand no large library is loaded."""
    facts = answered(tmp_path, "state_dir: state\n", "status", "--json")
    assert facts == {"LOADED"}
