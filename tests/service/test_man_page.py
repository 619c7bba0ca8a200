"""The man page says what the commands say, groff has no complaint, and shells complete commands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from venice_watch.cli import commands

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "man" / "venice-watch.1"
PROGRAM = Path(sys.prefix, "bin", "venice-watch")


def test_it_is_up_to_date() -> None:
    """The page is what its script makes of the commands."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "man/build.py"]
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    assert made.stdout.decode() == PAGE.read_text(encoding="utf-8"), (
        "run: python man/build.py > man/venice-watch.1"
    )


def test_groff_has_no_complaint() -> None:
    """What groff formats is whole: no warning, and every command is in it."""
    if shutil.which("groff") is None:
        pytest.skip("groff is missing; to install it: apt-get install groff-base")
    command = ["groff", "-ww", "-man", "-Tascii", "-P-cbou", PAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    for name in commands.commands:
        assert f"   venice-watch {name} " in done.stdout
    assert "--log-format [auto|console|logfmt|json]" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete(shell: str) -> None:
    """The variable that docs/commands.md names prints a shell's completion, and it completes."""
    if not PROGRAM.exists():
        pytest.skip("the package is not installed; to install it: pip install -e '.[dev]'")
    told = f"_VENICE_WATCH_COMPLETE={shell}_source venice-watch"
    assert told in (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    script = _complete(f"{shell}_source", environment)
    assert "_VENICE_WATCH_COMPLETE" in script
    words = {"COMP_WORDS": "venice-watch st", "COMP_CWORD": "1"}
    if shell == "fish":  # which asks with the unfinished word apart
        words = {"COMP_WORDS": "venice-watch st", "COMP_CWORD": "st"}
    assert "status" in _complete(f"{shell}_complete", environment | words)


def _complete(instruction: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [PROGRAM],
        env=environment | {"_VENICE_WATCH_COMPLETE": instruction},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout
