"""Run `once` over files that nobody here made, and ask where each of them went.

`python tests/samples.py FOLDER`, where FOLDER has folders of images; each is the inbox of its own.
The API is the simulator. Whatever is in the files, `once` ends with 0 or 1 and without a traceback,
and each file is afterwards in the archive with a result in the outbox, or in the quarantine with a
report, or in the inbox with its bytes and a reason.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from venice_watch.errors import Code

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLES = ("inbox", "outbox", "quarantine", "archive")
ONCE_S_MAX = 300.0
PROGRAM = (sys.executable, "-m", "venice_watch")
LEFT = " was left where it is: "


def main(samples: Path) -> int:
    """Run, print what became of the files, and return 1 if one of them is not accounted for."""
    with tempfile.TemporaryDirectory(prefix="venice-watch-samples-") as name, _simulator() as url:
        work = Path(name)
        folders = [path.name for path in sorted(samples.iterdir()) if path.is_dir()]
        config = _prepare(work, samples, folders, url)
        done = subprocess.run(
            [*PROGRAM, "once", "--config", config, "--log-format", "logfmt"],
            capture_output=True,
            text=True,
            check=False,
            timeout=ONCE_S_MAX,
        )
        faults = _find_faults(work, samples, folders, done.stdout)
        if done.returncode not in (0, 1):
            faults.append(f"exit code {done.returncode}")
        if "Traceback" in done.stderr or ".bug " in done.stderr:
            faults.append("a traceback in the log")
        if faults:
            sys.stderr.write(done.stderr)
    _say(done.stdout.strip(), *faults)
    return 1 if faults else 0


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


@contextmanager
def _simulator() -> "Iterator[str]":
    """Run a simulator without limits and yield its address."""
    command = [*PROGRAM, "simulator", "--latency", "0ms", "--rpm", "none", "--pixels", "nearest"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _prepare(work: Path, samples: Path, folders: list[str], url: str) -> Path:
    """Copy the samples into inboxes, and write the configuration for them (JSON is YAML)."""
    (work / "key").write_text("a-key-without-any-value\n", encoding="utf-8")
    for folder in folders:
        for role in ROLES[1:]:
            (work / folder / role).mkdir(parents=True)
        shutil.copytree(samples / folder, work / folder / "inbox")
    config = {
        "api": {"base_url": url, "key_file": "key", "concurrency": 8},
        "state_dir": "state",
        "presets": {"photo": {"scale": 2}},
        "folders": [
            {"name": folder, "preset": "photo", "settle": "200ms"}
            | {role: f"{folder}/{role}" for role in ROLES}
            for folder in folders
        ],
    }
    path = work / "venice-watch.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def _find_faults(work: Path, samples: Path, folders: list[str], said: str) -> list[str]:
    """Return what is wrong with where the files are now, and print where they are."""
    faults = []
    left = {line.split(LEFT)[0] for line in said.splitlines() if LEFT in line}
    for folder in folders:
        became: Counter[str] = Counter()
        roots = {role: work / folder / role for role in ROLES}
        sources = [path for path in sorted((samples / folder).rglob("*")) if path.is_file()]
        for source in sources:
            where, fault = _judge(source, source.relative_to(samples / folder), roots, left)
            became[where] += 1
            if fault:
                faults.append(f"{folder}/{source.name}: {fault}")
        results = sum(path.is_file() for path in roots["outbox"].rglob("*"))
        if results != became["archive"]:
            faults.append(f"{folder}: {results} results for {became['archive']} archived originals")
        counted = ", ".join(f"{count} {word}" for word, count in sorted(became.items()))
        _say(f"{folder}: {counted or 'nothing in it'}")
    return faults


def _judge(
    source: Path, relative: Path, roots: dict[str, Path], left: set[str]
) -> tuple[str, str | None]:
    """Return where a file is, and what is wrong with that."""
    there = [
        role for role in ("inbox", "quarantine", "archive") if (roots[role] / relative).exists()
    ]
    if len(there) != 1:
        return "lost", f"it is in {' and '.join(there) or 'none of the folders'}"
    [where] = there
    if (roots[where] / relative).read_bytes() != source.read_bytes():
        return where, "its bytes changed"
    if where == "quarantine":
        report = roots[where] / f"{relative}.error.json"
        code = json.loads(report.read_bytes()).get("code") if report.exists() else "no report"
        return f"quarantined as {code}", None if code in list(Code) else f"its report: {code}"
    if where == "inbox" and str(relative) not in left:
        return where, "it was left, and nobody says why"
    return where, None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
