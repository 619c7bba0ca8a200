"""The documents say what the code does: events, commands, states, formats, codes, links."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from venice_watch import errors
from venice_watch.cli import INTERRUPTED, commands
from venice_watch.cli.run_commands import UNREACHABLE
from venice_watch.config.load import loads
from venice_watch.daemon.measures import METRICS
from venice_watch.errors import Code, VeniceWatchError
from venice_watch.images.signature import RASTERS, UNREADABLE
from venice_watch.job import ACTIVE, FINAL, TRANSITIONS
from venice_watch.notice import Kind
from venice_watch.service.exposition import process_families

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = (README, ROOT / "CHANGELOG.md", ROOT / "bench" / "README.md", *ROOT.glob("docs/*.md"))
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error"}
LEVELS |= {"exception": "error"}
BOUND = {"folder", "path"}  # by the log of a folder or of an image
USAGE = 2  # click's own


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, its head left out."""
    below = text.split(f"\n{heading}\n", 1)[1]
    lines = [line for line in below.split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


def _words(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


# --- events -------------------------------------------------------------------------------------


def _calls() -> Iterator[tuple[str, str, set[str]]]:
    """Yield (event, level, fields) of every call that logs an event."""
    for path in sorted((ROOT / "venice_watch").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                for argument in node.args[:2]:
                    name = argument.value if isinstance(argument, ast.Constant) else None
                    if isinstance(name, str) and re.fullmatch(r"[a-z]+\.[a-z_]+", name):
                        yield from _call(name, node.func.attr, node)


def _call(name: str, method: str, node: ast.Call) -> Iterator[tuple[str, str, set[str]]]:
    fields = {one.arg for one in node.keywords if one.arg is not None}
    traceback = "exc_info" in fields or method == "exception"
    fields = fields - {"exc_info"} | ({"exception"} if traceback else set())
    if method in LEVELS:
        yield name, LEVELS[method], fields
    elif method == "log":
        yield name, "any", fields


def _command(name: str) -> click.Command:
    found = commands.get_command(click.Context(commands), name)
    assert found is not None
    return found


def test_every_event_is_documented_and_every_documented_event_exists() -> None:
    """docs/events.md lists the events of the code with their levels, and no others."""
    code: dict[str, set[str]] = {}
    for name, level, _ in _calls():
        code.setdefault(name, set()).add(level)
    rows = _rows(_text("docs/events.md"), "## Events")
    documented = {row[0].strip("`"): set(row[1].split(", ")) for row in rows}
    assert len(rows) == len(documented), "an event is listed twice"
    assert documented == code


def test_every_field_of_an_event_is_documented() -> None:
    """docs/events.md lists the fields that the code gives each event."""
    code: dict[str, set[str]] = {}
    for name, _, fields in _calls():
        code.setdefault(name, set()).update(fields)
    for row in _rows(_text("docs/events.md"), "## Events"):
        documented = _words(row[2])
        assert documented - BOUND == code[row[0].strip("`")] - BOUND, row[0]


# --- the command line ---------------------------------------------------------------------------


def test_the_readme_lists_every_command() -> None:
    """The README's table has every command, each with options that it really takes."""
    rows = _rows(_text("README.md"), "## Commands")
    listed = {row[0].strip("`").split()[0]: row for row in rows}
    assert set(listed) == set(commands.list_commands(click.Context(commands)))
    for name, row in listed.items():
        taken = {word for one in _command(name).params for word in one.opts}
        mentioned = set(re.findall(r"--[a-z-]+", " ".join(row)))
        assert mentioned <= taken, name


def _exit_codes(kind: type[VeniceWatchError]) -> set[int]:
    return {kind.exit_code}.union(*(_exit_codes(inner) for inner in kind.__subclasses__()))


def test_the_readme_lists_every_exit_code() -> None:
    """The README's table has the codes of all errors, of success and of an interruption."""
    listed = {int(row[0].strip("`")) for row in _rows(_text("README.md"), "## Exit codes")}
    assert listed == _exit_codes(errors.VeniceWatchError) | {0, USAGE, UNREACHABLE, INTERRUPTED}


def test_the_readmes_configuration_is_one() -> None:
    """The configuration shown in the README is accepted as it stands."""
    [shown] = re.findall(r"```yaml\n(.*?)```", _text("README.md"), re.DOTALL)
    config = loads(shown, ROOT / "venice-watch.yaml", {})
    assert [folder.name for folder in config.folders] == ["photos"]


@pytest.mark.parametrize(
    "beginning", ["python3 -m venv .venv && ", ".venv/bin/pip install -e '.[dev]' && "]
)
def test_the_readme_has_each_command_that_is_run_from_it_once(beginning: str) -> None:
    """`.ci/run` takes the newcomer's and the test command from the README: one line each."""
    lines = [line for line in _text("README.md").splitlines() if line.startswith(beginning)]
    assert len(lines) == 1


# --- tables of the code -------------------------------------------------------------------------


def _diagram() -> str:
    """Return the state diagram that the table of transitions makes."""
    steps = [
        f"    {source} --> {step.target}: {verb}"
        for verb, step in TRANSITIONS.items()
        for source in step.sources
    ]
    ends = [f"    {state} --> [*]" for state in FINAL]
    lines = ["stateDiagram-v2", f"    [*] --> {ACTIVE[0]}: enqueue", *steps, *ends]
    return "```mermaid\n" + "\n".join(lines) + "\n```"


def test_the_state_diagram_is_made_from_the_table() -> None:
    """docs/architecture.md shows exactly the transitions there are."""
    assert _diagram() in _text("docs/architecture.md"), f"paste this:\n{_diagram()}"


def test_the_floors_are_those_that_are_enforced() -> None:
    """docs/architecture.md lists the floors of pyproject.toml, from the top down."""
    contracts = tomllib.loads(_text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    enforced = [set(layer.split(" | ")) for layer in contracts[0]["layers"]]
    rows = _rows(_text("docs/architecture.md"), "## Floors")
    assert [_words(row[0]) for row in rows] == enforced


def test_every_quarantine_code_is_explained() -> None:
    """docs/operation.md explains every code of a report, and no others."""
    rows = _rows(_text("docs/operation.md"), "## The quarantine")
    assert {row[0].strip("`") for row in rows} == {code.value for code in Code}


def test_every_format_is_in_the_table() -> None:
    """docs/formats.md lists every format that is read, and every one that is named and refused."""
    rows = _rows(_text("docs/formats.md"), "## What is read")
    assert set().union(*(_words(row[0]) for row in rows)) == set(RASTERS)
    rows = _rows(_text("docs/formats.md"), "## What is recognised and refused")
    assert set().union(*(_words(row[0]) for row in rows)) == set(UNREADABLE)


# --- links --------------------------------------------------------------------------------------


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """A link to a file of the project, and its anchor, exist."""
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            there = (document.parent / path).resolve() if path else document
            assert there.exists(), target
            assert not anchor or anchor in _anchors(there.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_is_named_exists(document: Path) -> None:
    """A path of the project in a code span exists."""
    prose = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = _words(prose)
    for word in named:
        if re.match(r"(venice_watch|tests|docs|systemd|bench|\.ci)/[\w./-]*$", word):
            assert (ROOT / word).exists(), word


# --- monitoring and notices ----------------------------------------------------------------------


def _metrics() -> dict[str, str]:
    return {name: kind for name, (kind, _help) in METRICS.items()} | {
        family.name: family.kind for family in process_families()
    }


def test_every_metric_is_documented() -> None:
    """docs/metrics.md lists every metric with its type, and no others."""
    rows = _rows(_text("docs/metrics.md"), "## Metrics")
    assert {row[0].strip("`"): row[1] for row in rows} == _metrics()


def test_the_alerts_ask_for_metrics_that_exist() -> None:
    """docs/alerts.yml parses, each rule is whole, and asks for nothing that is not there."""
    [group] = yaml.safe_load(_text("docs/alerts.yml"))["groups"]
    assert len(group["rules"]) > 5
    elsewhere = {"up", "node_textfile_mtime_seconds"}
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["annotations"]["summary"].endswith((".", "?", ")."))
        named = set(re.findall(r"\b(?:venice_watch|process|node)_[a-z_]+|\bup\b", rule["expr"]))
        assert named, rule["alert"]
        assert named <= elsewhere | set(_metrics()), rule["alert"]


def test_every_kind_of_notice_is_documented() -> None:
    """docs/notifications.md lists what is told, and the keys of a webhook's JSON."""
    rows = _rows(_text("docs/notifications.md"), "## What is told")
    kinds = [kind.value for kind in Kind]
    assert [row[0].strip("`") for row in rows[: len(kinds)]] == kinds
