"""A Venice on this machine: real pixels, invented money, and every fault on demand.

Rules: imports nothing of the rest of the package and shares no code with the client, so that the
two check each other. `demo`, the tests and the benchmarks run against it; see `Simulator` for use
within a process, `run` for a process of its own, `control` for changing it while it runs.
"""

from venice_watch.simulator.bill import Bill, Record, Totals
from venice_watch.simulator.faults import FAULTS
from venice_watch.simulator.script import Scripted, parse_fault
from venice_watch.simulator.server import Simulator, run
from venice_watch.simulator.settings import Settings, describe_settings, read_setting

__all__ = [
    "FAULTS",
    "Bill",
    "Record",
    "Scripted",
    "Settings",
    "Simulator",
    "Totals",
    "describe_settings",
    "parse_fault",
    "read_setting",
    "run",
]
