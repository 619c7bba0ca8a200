"""The service on a machine that boots: a real systemd starts, watches, restarts and stops it."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.service.machine import Machine, booted

UNIT = "venice-watch.service"
CONFIG = """\
api: {base_url: 'http://127.0.0.1:8099/api/v1', key_file: /etc/venice-watch/key}
state_dir: /var/lib/venice-watch
presets: {photo: {scale: 2}}
folders:
  - {name: photos, inbox: /srv/photos/inbox, outbox: /srv/photos/outbox,
     quarantine: /srv/photos/quarantine, archive: /srv/photos/originals, preset: photo}
"""
PROGRAM = "/opt/venice-watch/bin/venice-watch"
ODD = "/srv/odd %n %% \"q\" 's' \\n \\ $HOME; #ü :x"
QUICK = """\
[Service]
RestartSec=100ms
WatchdogSec=4s
TimeoutAbortSec=1s
"""


def _configuration(parent: str) -> str:
    """Return the configuration with its folders elsewhere."""
    roles = {"inbox": "inbox", "outbox": "outbox", "quarantine": "quarantine"}
    folder = {role: f"{parent}/{name}" for role, name in (roles | {"archive": "originals"}).items()}
    folder |= {"name": "photos", "preset": "photo"}
    return f"{CONFIG.partition('folders:')[0]}folders: {json.dumps([folder])}\n"


def _install(machine: Machine, *options: str) -> str:
    """Install the service with its own command; return what that said.

    The interpreter's own folder is mounted read-only here, so the program lies elsewhere than in
    it; nothing else of what was written is touched.
    """
    said = machine.run(PROGRAM, "service", "install", *options)
    path = f"/etc/systemd/system/{UNIT}.d/50-configuration.conf"
    text = machine.path(path).read_text()
    assert text.count("ExecStart=/opt/venice-watch/base/bin/venice-watch ") == 1
    machine.write(path, text.replace("/opt/venice-watch/base/bin/venice-watch", PROGRAM))
    return said


def _make_folders(machine: Machine, parent: str) -> None:
    for name in ("inbox", "outbox", "quarantine", "originals"):
        owner = ("-g", "venice-watch", "-o", "venice-watch")
        machine.run("install", "-d", "-m", "2775", *owner, f"{parent}/{name}")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Yield a machine on which the service was installed as the documents say."""
    with booted(tmp_path_factory.mktemp("machine")) as one:
        one.run("mkdir", "-p", "/etc/venice-watch")
        one.write("/etc/venice-watch/config.yaml", CONFIG)
        one.write("/etc/venice-watch/key", "a-key-without-any-value\n", 0o644)
        _install(one)
        one.write(f"/etc/systemd/system/{UNIT}.d/90-test.conf", QUICK)
        one.run("systemd-sysusers")
        one.run("systemd-tmpfiles", "--create")
        _make_folders(one, "/srv/photos")
        options = ("--port=8099", "--latency=0s", "--rpm=none", "--pixels=nearest", "--seed=1")
        one.run("systemd-run", "--unit=simulator", PROGRAM, "simulator", *options)
        one.run("systemctl", "daemon-reload")
        yield one


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """Yield the machine with the service started; start says when it is ready."""
    machine.run("systemctl", "start", UNIT)
    yield machine
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "reset-failed", check=False)


def _drop(machine: Machine, name: str, number: int, owner: int = 0) -> None:
    """Drop an image of its own content, as a user would: copied, then closed."""
    path = machine.path(f"/srv/photos/inbox/{name}")
    Image.effect_noise((300, 300), 20 + number).save(path)
    os.chown(path, owner, -1)


def _delivered(machine: Machine, name: str) -> bool:
    return machine.path(f"/srv/photos/outbox/{name}").exists()


def _ask_simulator(machine: Machine, name: str, *data: str) -> Any:  # noqa: ANN401 - JSON
    url = f"http://127.0.0.1:8099/_control/{name}"
    return json.loads(machine.run("curl", "--silent", "--fail", *data, url))


def _total(machine: Machine, name: str) -> int:
    """Return a sum of the simulator's bill."""
    number: int = _ask_simulator(machine, "bill")["totals"][name]
    return number


def _main_pid(machine: Machine) -> str:
    pid = machine.show(UNIT, "MainPID")
    assert pid != "0"
    return pid


def test_works(service: Machine) -> None:
    """It is ready when started, takes another user's file by its lease, and says how it stands."""
    assert service.show(UNIT, "ActiveState") == "active"
    _drop(service, "one.png", 1, owner=65_534)
    service.wait_for(UNIT, lambda: _delivered(service, "one.png"), "a result")
    original = service.path("/srv/photos/originals/one.png")
    service.wait_for(UNIT, original.exists, "the original is in the archive")
    service.wait_for(
        UNIT,
        lambda: re.fullmatch(
            r"0 waiting, 0 in flight, 0\.(?!00)\d\d USD today", service.show(UNIT, "StatusText")
        ),
        "a status in words",
    )
    log = service.journal(UNIT)
    assert "by=native" in log
    assert not [line for line in log.splitlines() if "level=error" in line or "Traceback" in line]
    user = service.run("stat", "-c", "%U:%G %a", "/var/lib/venice-watch").strip()
    assert user == "venice-watch:venice-watch 710"
    status = service.run("cat", f"/proc/{_main_pid(service)}/status")
    assert "CapEff:\t0000000010000000" in status  # CAP_LEASE and nothing else


def test_comes_back(service: Machine) -> None:
    """After `kill -9` it is started again and goes on."""
    before = _main_pid(service)
    service.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    service.wait_for(
        UNIT,
        lambda: (
            service.show(UNIT, "ActiveState") == "active"
            and service.show(UNIT, "MainPID") not in (before, "0")
        ),
        "another process",
    )
    _drop(service, "two.png", 2)
    service.wait_for(UNIT, lambda: _delivered(service, "two.png"), "a result after the restart")


def test_watchdog(service: Machine) -> None:
    """When the loop stands still systemd ends it and starts another."""
    before = _main_pid(service)
    service.run("kill", "-STOP", before)
    service.wait_for(
        UNIT,
        lambda: service.show(UNIT, "MainPID") not in (before, "0"),
        "another process",
    )
    log = service.journal(UNIT)
    assert "Watchdog timeout" in log
    assert "Fatal Python error: Aborted" in log  # and where each thread was
    _drop(service, "three.png", 3)
    service.wait_for(UNIT, lambda: _delivered(service, "three.png"), "a result after the hang")


def test_reloads(service: Machine) -> None:
    """`systemctl reload` lets the same process go by another configuration."""
    before = _main_pid(service)
    service.write("/etc/venice-watch/config.yaml", CONFIG.replace("scale: 2", "scale: 3"))
    try:
        service.run("systemctl", "reload", UNIT)
        service.wait_for(
            UNIT, lambda: "config.reloaded" in service.journal(UNIT), "another configuration"
        )
        _drop(service, "reloaded.png", 5)
        service.wait_for(UNIT, lambda: _delivered(service, "reloaded.png"), "a result")
        with Image.open(service.path("/srv/photos/outbox/reloaded.png")) as result:
            assert result.size == (900, 900)
        assert service.show(UNIT, "ActiveState") == "active"
        assert _main_pid(service) == before
    finally:
        service.write("/etc/venice-watch/config.yaml", CONFIG)


def test_drains(service: Machine) -> None:
    """A stop waits for what is under way and being paid for, longer than the watchdog's time."""
    charged = _total(service, "charged_microusd")
    _ask_simulator(service, "settings", "--data", '{"latency_s": 6.0}')
    _drop(service, "four.png", 4)
    try:
        service.wait_for(UNIT, lambda: _total(service, "in_flight") == 1, "a request")
        service.run("systemctl", "stop", UNIT)
    finally:
        _ask_simulator(service, "settings", "--data", '{"latency_s": 0.0}')
    assert _delivered(service, "four.png")
    assert service.show(UNIT, "Result") == "success"
    assert _total(service, "charged_microusd") == charged + 20_000


def test_wrong_configuration(service: Machine) -> None:
    """A mistake in the configuration is not started again and again."""
    service.run("systemctl", "stop", UNIT)
    service.write("/etc/venice-watch/config.yaml", CONFIG + "nonsense: 1\n")
    try:
        service.run("systemctl", "start", UNIT, check=False)
        assert service.show(UNIT, "ActiveState") == "failed"
        assert service.show(UNIT, "ExecMainStatus") == "78"
        assert service.show(UNIT, "NRestarts") == "0"
    finally:
        service.write("/etc/venice-watch/config.yaml", CONFIG)


def test_template(machine: Machine) -> None:
    """An instance has a configuration and a state of its own."""
    unit = "venice-watch@more.service"
    shipped = Path(__file__).parents[2] / "systemd" / "venice-watch@.service"
    machine.write("/etc/systemd/system/venice-watch@.service", shipped.read_text())
    text = CONFIG.replace("/srv/photos", "/srv/more").replace(
        "/var/lib/venice-watch", "/var/lib/venice-watch-more"
    )
    machine.write("/etc/venice-watch/more.yaml", text)
    _make_folders(machine, "/srv/more")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", unit)
    try:
        Image.effect_noise((300, 300), 90).save(machine.path("/srv/more/inbox/a.png"))
        out = machine.path("/srv/more/outbox/a.png")
        machine.wait_for(unit, out.exists, "a result of the instance")
        assert machine.path("/var/lib/venice-watch-more/ledger.sqlite3").exists()
    finally:
        machine.run("systemctl", "stop", unit)


def test_odd_paths(machine: Machine) -> None:
    """Whatever a path holds that means something to systemd, the service works there."""
    folder = ODD  # without ${}, which a configuration expands itself; its own name may have it
    config = f"{folder}/venice ${{HOME}} watch.yaml"
    roles = ("inbox", "outbox", "quarantine", "originals")
    _make_folders(machine, folder)
    machine.write(
        config,
        json.dumps(
            {
                "api": {"base_url": "http://127.0.0.1:8099/api/v1"},
                "state_dir": f"{folder}/state",
                "presets": {"photo": {"scale": 2}},
                "folders": [
                    {"name": "odd", "preset": "photo"}
                    | {role.replace("originals", "archive"): f"{folder}/{role}" for role in roles}
                ],
            }
        ),
    )
    machine.run("install", "-d", "-m", "700", "-o", "venice-watch", f"{folder}/state")
    _install(machine, "--config", config)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", UNIT)
    try:
        Image.effect_noise((300, 300), 70).save(machine.path(f"{folder}/inbox/a.png"))
        out = machine.path(f"{folder}/outbox/a.png")
        machine.wait_for(UNIT, out.exists, "a result")
        assert machine.path(f"{folder}/state/ledger.sqlite3").exists()
    finally:
        machine.run("systemctl", "stop", UNIT)
        _install(machine)
        machine.run("systemctl", "daemon-reload")


def test_home(machine: Machine) -> None:
    """Folders in somebody's home are seen and written, and nothing else of it is."""
    home, name = "/home/alice", "my %n: pictures"
    pictures = f"{home}/{name}"
    machine.run("useradd", "--create-home", "alice")
    machine.run("chmod", "700", home)
    _make_folders(machine, pictures)
    machine.write(f"{home}/secret", "x", 0o644)
    machine.write("/etc/venice-watch/home.yaml", _configuration(pictures))
    _install(machine, "--config", "/etc/venice-watch/home.yaml")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", UNIT)
    try:
        Image.effect_noise((300, 300), 60).save(machine.path(f"{pictures}/inbox/a.png"))
        out = machine.path(f"{pictures}/outbox/a.png")
        machine.wait_for(UNIT, out.exists, "a result")
        inside = f"/proc/{_main_pid(machine)}/root{home}"
        assert machine.run("ls", inside).splitlines() == [name]
    finally:
        machine.run("systemctl", "stop", UNIT)
        _install(machine)
        machine.run("systemctl", "daemon-reload")


def test_installing_again(machine: Machine) -> None:
    """What is as it should be is left alone, and only root may install."""
    machine.run("cp", "-a", "/etc/systemd/system", "/before")
    said = machine.run(PROGRAM, "service", "install", "--user", "nobody", "--dry-run")
    assert "changed    /etc/systemd/system/venice-watch.service.d/50-configuration.conf" in said
    options = ("--reuid=65534", "--regid=65534", "--clear-groups")
    said = machine.run("setpriv", *options, PROGRAM, "service", "install", check=False)
    assert "only root may install a unit" in said
    machine.run("diff", "-r", "/etc/systemd/system", "/before")


def test_a_configuration_that_may_not_be_read(machine: Machine) -> None:
    """Who may not look into /etc/venice-watch is told that, and not that there is nothing."""
    options = ("--reuid=65534", "--regid=65534", "--clear-groups")
    said = machine.run("setpriv", *options, PROGRAM, "status", check=False)
    assert "/etc/venice-watch/config.yaml" in said
    assert "Permission denied" in said
