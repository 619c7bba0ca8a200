"""What a command line costs before it does anything: which modules are loaded, not how long."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("httpx", "h11", "PIL", "rich", "watchdog", "pydantic", "yaml", "structlog", "sqlite3")
SEES = """\
import sys
sys.argv[1:] = {arguments!r}
from venice_watch.cli import main
try:
    main()
except SystemExit as exc:
    assert not exc.code, exc.code
loaded = {{name.partition(".")[0] for name in sys.modules}}
print("LOADED", *sorted(loaded & set({heavy!r})))
"""


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["run", "--help"], set()),
        (["demo", "--help"], set()),
        (["simulator", "--help"], set()),
        (["service", "install", "--help"], set()),
        (["schema"], {"pydantic", "yaml"}),
    ],
)
def test_nothing_heavy_is_loaded(arguments: list[str], allowed: set[str]) -> None:
    """A command that only says something loads no library that it does not need."""
    program = SEES.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    assert set(line.split()[1:]) <= allowed


def test_the_names_are_right() -> None:
    """What is looked for is really there: a misspelled name would never be found."""
    for name in HEAVY:
        __import__(name)
