"""The house rules that a machine can check: floors, style, types, and the length of modules."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "venice_watch"
LINES_MAX = 400  # of a module: what can be read at one sitting
TOOLS = {
    "ruff check": ("ruff", ["-m", "ruff", "check", "."]),
    "ruff format": ("ruff", ["-m", "ruff", "format", "--check", "."]),
    "mypy": ("mypy", ["-m", "mypy"]),
    "import-linter": (
        "importlinter",
        ["-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
    ),
}


@pytest.mark.parametrize("name", TOOLS)
def test_tool(name: str) -> None:
    """Each tool that keeps the house finds nothing to say about the whole project."""
    module, arguments = TOOLS[name]
    if importlib.util.find_spec(module) is None:
        pytest.skip("to install it: pip install -e '.[dev]'")
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{name}:\n{done.stdout}{done.stderr}"


def test_modules_are_short() -> None:
    """No module has more lines than can be read at one sitting."""
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert len(lengths) > 50
    assert {path: lines for path, lines in lengths.items() if lines > LINES_MAX} == {}


def test_no_drawer_for_everything() -> None:
    """No module is named for not knowing where its contents belong."""
    names = {path.stem for path in PACKAGE.rglob("*.py")}
    assert "job" in names
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc"}


def test_modules_say_what_they_own() -> None:
    """Every module opens with a sentence."""
    silent = [
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*.py")
        if not path.read_text("utf-8").startswith('"""') and path.name != "__main__.py"
    ]
    assert silent == []
