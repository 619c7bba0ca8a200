"""Whatever a user, the API, the disk and the power do in whatever order: nothing is lost.

A machine of hypothesis drops, rewrites and renames files, breaks the API and the program, and
looks after each step at what must hold at any moment; in the end, at where everything is.
VENICE_WATCH_EXAMPLES says how many such lives are lived; then one that ends badly is made as short
as it can be, which takes minutes. Threads race in each run: what a rule draws may not depend on
what a run came to, or hypothesis could not repeat a life; a rule without anything to do does
nothing.
"""

import errno
import itertools
import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.component.conftest import Venice
from tests.crash.world import DONE, REPORT, Lane, Picture, Run, World, files_below, new_picture

if TYPE_CHECKING:
    from tests.conftest import SimulatorProcess
    from tests.crash.world import Zygote

BUDGETS = True  # a rule changes them, and no sum of charges is ever above one
REUSE = True  # the same bytes with the same parameters are charged once, unless in doubt
EXAMPLES_ASKED = os.environ.get("VENICE_WATCH_EXAMPLES")
EXAMPLES = int(EXAMPLES_ASKED or 25)
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
STEPS = 30  # of one life
RUNS_TO_END = 8  # faults that are still scripted strike the first of them
PRICE_MICROUSD = 20_000
LANES = ("left", "right")
NAMES = ("a.png", "b.png", "sub/a.png", "sub/deep/c.png")
UNREACHABLE = 69
STEP = st.integers(0, 240)  # in which something happens to a run; most have as many
BUDGET = st.none() | st.integers(0, 3)  # images a month
# each costs no time; those that charge without telling (500 and charged) cannot be accounted for
FAULTS = (
    "overloaded=0 unauthorized payment_required forbidden bad_request rejected too_large_at_once "
    "server_error server_error_empty server_error_gzip unavailable unavailable_html bad_gateway "
    "gateway_timeout timeout_524 html_520 html_521 html_522 ok_json ok_html ok_empty "
    "ok_jpeg_as_png ok_damaged wrong_size whole_chunked whole_close truncated truncated_chunked "
    "truncated_close reset_in_upload close_after_body close_after_body_charged stale_keepalive "
    "echo_key echo_key_500"
).split()


class Life(RuleBasedStateMachine):
    """Two folders, one preset, and everything that can happen to them."""

    def __init__(self, root: Path, venice: Venice, zygote: "Zygote") -> None:
        super().__init__()
        venice.reset()
        venice.change(latency_s=0.0)
        self.world = World(root, venice, zygote)
        self.world.lanes = [_make_lane(root / name) for name in LANES]
        self.budget_microusd: int | None = None
        self.edited = False  # a file that came back from the quarantine may be another one now
        self.good = True  # nothing was found yet
        self.write_config()

    def write_config(self) -> None:
        """Write the configuration as it is now."""
        root = self.world.place.root
        folders: list[dict[str, object]] = [
            {
                "name": lane.name,
                "preset": "photo",
                "settle": "50ms",
                **{role: str(root / lane.name / role) for role in ("inbox", "outbox")},
                **{role: str(root / lane.name / role) for role in ("quarantine", "archive")},
            }
            for lane in self.world.lanes
        ]
        self.world.place.write(folders=folders)
        if self.budget_microusd is not None:
            facts = json.loads(self.world.place.config.read_text())
            facts["budget"] = {"per_month_usd": self.budget_microusd / 1_000_000}
            self.world.place.config.write_text(json.dumps(facts))

    def put(self, path: Path, picture: Picture) -> None:
        """Write a file where one may be already."""
        if path.exists():
            self.world.take(path)
            self.edited = True
        self.world.drop(path, picture)

    def waiting(self) -> list[Path]:
        """Return what lies in the inboxes, for everybody to see."""
        files = [path for lane in self.world.lanes for path in files_below(lane.inbox)]
        return [path for path in files if not path.name.startswith(".")]

    def is_busy(self) -> bool:
        """Tell whether a run has anything to do."""
        return bool(self.waiting() or self.world.active())

    @initialize(names=st.sets(st.sampled_from(NAMES), min_size=1), images=BUDGET)
    def begin(self, names: set[str], images: int | None) -> None:
        """Begin with images, and with a budget or without one."""
        for lane in range(len(LANES)):
            self.drop(lane, names)
        if BUDGETS:
            self.change_budget(images)

    # --- a user ----------------------------------------------------------------------------------

    @rule(lane=st.integers(0, 1), names=st.sets(st.sampled_from(NAMES), min_size=1))
    def drop(self, lane: int, names: set[str]) -> None:
        """Drop images that are new."""
        for name in sorted(names):
            self.put(self.world.lanes[lane].inbox / name, new_picture())

    @rule(lane=st.integers(0, 1), name=st.sampled_from(NAMES))
    def drop_damaged(self, lane: int, name: str) -> None:
        """Drop a damaged image."""
        self.put(self.world.lanes[lane].inbox / name, new_picture(sound=False))

    @rule(
        lane=st.integers(0, 1), name=st.sampled_from(("d.png", *NAMES)), which=st.integers(0, 100)
    )
    def drop_again(self, lane: int, name: str, which: int) -> None:
        """Drop an image that was there before, under whatever name."""
        pictures = list(self.world.pictures.values())
        self.put(self.world.lanes[lane].inbox / name, pictures[which % len(pictures)])

    @rule(which=st.integers(0, 100))
    def rewrite(self, which: int) -> None:
        """Write another image into a file that waits."""
        if files := self.waiting():
            self.put(files[which % len(files)], new_picture())

    @rule(which=st.integers(0, 100), name=st.sampled_from(("moved.png", "sub/moved.png")))
    def rename(self, which: int, name: str) -> None:
        """Rename a file that waits."""
        if not (files := self.waiting()):
            return
        path = files[which % len(files)]
        lane = next(lane for lane in self.world.lanes if lane.inbox in path.parents)
        self.move(path, lane.inbox / name)

    @rule(which=st.integers(0, 100))
    def take_back(self, which: int) -> None:
        """Move a file from the quarantine into the inbox again."""
        if files := self.world.quarantined():
            lane, path = files[which % len(files)]
            self.move(path, lane.inbox / path.relative_to(lane.quarantine))

    def move(self, path: Path, target: Path) -> None:
        """Rename a file to a name that is free."""
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        self.world.appear(path)
        path.rename(target)

    @precondition(lambda _self: BUDGETS)
    @rule(images=BUDGET)
    def change_budget(self, images: int | None) -> None:
        """Allow so many images a month, those that were sent included, or any number."""
        self.budget_microusd = None if images is None else images * PRICE_MICROUSD
        self.write_config()

    # --- the world -------------------------------------------------------------------------------

    @rule(fault=st.sampled_from(FAULTS), times=st.integers(1, 2), after=st.integers(0, 2))
    def break_api(self, fault: str, times: int, after: int) -> None:
        """Let some of the next requests fail."""
        name, _, value = fault.partition("=")
        entry: dict[str, object] = {"times": times, "after": after}
        self.world.venice.fail(name, **entry | ({"value": value} if value else {}))

    # --- the program -----------------------------------------------------------------------------

    def once(self, **plan: object) -> Run:
        """Run `once`, within the budget of now; with something to do."""
        if not self.is_busy():
            self.put(self.world.lanes[0].inbox / NAMES[0], new_picture())
        before = self.spent()
        self.good = False
        with self.world.told():
            run = self.world.once(**plan)
            if BUDGETS and self.budget_microusd is not None:
                most = max(before, self.budget_microusd)
                assert self.spent() <= most, "above the budget"
                assert self.world.bill()[1] <= most, "billed above the budget"
        self.good = True
        return run

    def spent(self) -> int:
        """Return what counts as spent, by the ledger."""
        query = "SELECT ifnull(sum(microusd), 0) FROM attempts WHERE charge <> 'none'"
        return sum(value for (value,) in self.world.ask(query))

    @rule()
    def run(self) -> None:
        """Run to the end."""
        run = self.once()
        assert run.code in (*DONE, UNREACHABLE), str(run)

    @rule(at=STEP)
    def run_killed(self, at: int) -> None:
        """Kill a run at some step."""
        run = self.once(at=at)
        assert run.code in (*DONE, UNREACHABLE, -signal.SIGKILL), str(run)

    @rule(at=STEP, error=st.sampled_from((errno.ENOSPC, errno.EIO)))
    def run_with_a_bad_disk(self, at: int, error: int) -> None:
        """Let a disk fail once in a run."""
        run = self.once(mode="fail", at=at, error=error)
        assert run.code in (*DONE, UNREACHABLE), str(run)

    @rule(at=STEP)
    def run_stopped(self, at: int) -> None:
        """Stop a run as systemd does: it leaves no request open."""
        run = self.once(mode="stop", at=at)
        # it may not have got as far as to listen for signals
        assert run.code in (*DONE, UNREACHABLE, -signal.SIGTERM), str(run)
        if run.survived:
            assert self.world.ask("SELECT id FROM attempts WHERE ended_at IS NULL") == []

    # --- what must hold --------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        """Look at what must hold at any moment."""
        self.good = False
        with self.world.told():
            self.world.check(charged_once=REUSE)
        self.good = True

    def teardown(self) -> None:
        """Let everything come to its end, unless something was found."""
        root = self.world.place.root
        if self.good:
            with self.world.told():
                self.end()
        shutil.rmtree(root)

    def end(self) -> None:
        """Run undisturbed until nothing is left, and look at where everything is."""
        self.budget_microusd = None
        self.write_config()
        for _ in range(RUNS_TO_END):
            run = self.world.once()
            assert run.code in (*DONE, UNREACHABLE), str(run)
            if not self.waiting() and not self.world.active():
                break
        self.world.check(charged_once=REUSE)
        self.world.check_nothing_left()
        assert self.waiting() == []
        for lane in self.world.lanes:
            self.check_lane(lane)

    def check_lane(self, lane: Lane) -> None:
        """Assert that each archived image has a result, and each quarantined one a report."""
        archived = Counter(self.world.picture_of(path) for path in files_below(lane.archive))
        results = Counter(self.world.results(lane).values())
        for picture, times in archived.items():
            assert picture.sound, f"a damaged image is in the archive: {picture.number}"
            assert results[picture.colour] >= times, f"{picture.number} has no result"
        reports = {path for path in files_below(lane.quarantine) if path.name.endswith(REPORT)}
        wanted = set()
        for _, path in [one for one in self.world.quarantined() if one[0] is lane]:
            report = path.with_name(path.name + REPORT)
            wanted.add(report)
            code = json.loads(report.read_text())["code"]
            sound = self.world.picture_of(path).sound
            assert code in (("in_doubt", "rejected", "failed") if sound else ("corrupt",)), code
        if not self.edited:
            assert reports == wanted, "a report without its file"


def _make_lane(root: Path) -> Lane:
    for role in ("inbox", "outbox", "quarantine", "archive"):
        (root / role).mkdir(parents=True)
    return Lane(
        name=root.name,
        inbox=root / "inbox",
        outbox=root / "outbox",
        quarantine=root / "quarantine",
        archive=root / "archive",
    )


@pytest.mark.timeout(1_800)  # as many lives as were asked for; each run has its own deadline
def test_lives(tmp_path: Path, simulator: "SimulatorProcess", zygote: "Zygote") -> None:
    """Whatever happens in whatever order, all that must hold does."""
    numbers = itertools.count()
    venice = Venice(simulator)

    def live() -> Life:
        root = tmp_path / f"life{next(numbers)}"
        root.mkdir()
        return Life(root, venice, zygote)

    run_state_machine_as_test(
        live,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            phases=(*PHASES, Phase.shrink) if EXAMPLES_ASKED else PHASES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
