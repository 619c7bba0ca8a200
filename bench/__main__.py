"""`python -m bench [names...] [--quick] [--json FILE]`: run benchmarks, print tables.

Exit code 0 whatever the figures are: they depend on the machine, and on who else uses it.
"""

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path

from bench import machine, show
from bench.results import Result, Setting

NAMES = {
    "throughput": "how near a burst comes to the ideal, beside two scripts",
    "latency": "from closing a file to the first byte at the server, beside two scripts",
    "cost": "CPU and memory for an image, beside curl",
    "backlog": "starting with many files waiting",
    "rest": "CPU and wake-ups with nothing to do, and with many files that are done",
    "growth": "what a long ledger slows down, and what a job takes on the disk",
    "starting": "commands, from the start to the end",
}
FORMAT = 1  # of the JSON


def main() -> int:
    """Run what is asked for."""
    parser = _parser()
    options = parser.parse_args()
    for name in options.names:  # argparse's `choices` refuse an empty list
        if name not in NAMES:
            parser.error(f"{name} is no benchmark; choose from {', '.join(NAMES)}")
    report: dict[str, object] = {
        "format": FORMAT,
        "quick": options.quick,
        "machine": machine.describe(),
    }
    benchmarks: dict[str, object] = {}
    for name in options.names or NAMES:
        print(f"{name}: {NAMES[name]} ...", file=sys.stderr, flush=True)
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
            setting = Setting(folder=Path(folder), quick=options.quick, repeat=options.repeat)
            result: Result = importlib.import_module(f"bench.{name}").run(setting)
        took_s = round(time.monotonic() - began_s, 1)
        benchmarks[name] = {"took_s": took_s} | result.as_json()
        show.table(f"{name}: {NAMES[name]}", result)
    report["benchmarks"] = benchmarks
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<11} {what}" for name, what in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure venice-watch against the simulator.",
        epilog=f"benchmarks (all of them unless named):\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run")
    parser.add_argument("--quick", action="store_true", help="show that it works, in seconds")
    parser.add_argument("--repeat", type=int, default=1, help="how often to measure; medians count")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--folder", type=Path, help="a local disk to work on; default: $TMPDIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
