"""What a service manager hears of both processes, and that they start with nothing plugged in and nobody to talk to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from murmure_edge.config import load, load_trust
from murmure_edge.reading import PortBatch, PortHealth, PortState
from murmure_edge.send import run
from murmure_edge.supervisor import Supervisor

GONE = 'name = "{0}"\ndevice = "sds011"\npath = "/nowhere/{0}"\nstreams = {{ pm10 = "plaza/{0}" }}'
WATCHDOG_US = 3_000_000


class Manager:
    """The service manager's end of the line, and the process that it has started."""

    def __init__(self, folder: Path) -> None:
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.line.bind(str(folder / "notify"))
        self.line.settimeout(30)
        self.environment = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(WATCHDOG_US)}
        self.log = folder / "said"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, name: str, config: Path) -> None:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "murmure.cli", "edge", name, "--config", str(config)],
                env=os.environ | self.environment, stdout=log, stderr=log,
            )  # fmt: skip

    def hears(self) -> bytes:
        return self.line.recv(100)

    def hears_nothing(self, for_s: float) -> bool:
        self.line.settimeout(for_s)
        try:
            self.line.recv(100)
        except TimeoutError:
            return True
        finally:
            self.line.settimeout(30)
        return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    if manager.process is not None and manager.process.poll() is None:
        manager.process.kill()
        manager.process.wait()
    manager.line.close()


@pytest.mark.parametrize("name", ["sense", "send"])
def test_each_process_starts_with_nothing_around_it_and_shows_that_it_lives(
    name: str, enrolled: Any, manager: Manager, tmp_path: Path
) -> None:
    """No network, no broker, no sensor plugged in: ready all the same, alive within the manager's patience; one that
    hangs is silent, and SIGTERM ends it with 0."""
    manager.start(name, enrolled.write(GONE.format("dust"), GONE.format("coarse")))
    process = manager.process
    assert process is not None
    assert manager.hears() == b"READY=1"
    began = time.monotonic()
    assert {manager.hears() for _ in range(3)} == {b"WATCHDOG=1"}
    assert time.monotonic() - began < 3 * WATCHDOG_US / 1e6
    os.kill(process.pid, signal.SIGSTOP)
    while not manager.hears_nothing(2.5):
        pass
    os.kill(process.pid, signal.SIGCONT)
    assert manager.hears() == b"WATCHDOG=1"
    process.terminate()
    assert process.wait(30) == 0
    assert "Traceback" not in manager.log.read_text()


def test_without_a_manager_nothing_is_said(manager: Manager) -> None:
    """Started by hand there is nobody to tell; a manager that has gone, or never reads, stops nobody."""
    for environment in ({}, {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "1"}):
        supervisor = Supervisor(environment)
        supervisor.ready()
        supervisor.alive(0.0)
    assert manager.hears_nothing(0.1)
    deaf = Supervisor(manager.environment)
    for second in range(10_000):
        deaf.alive(float(second))
    assert manager.hears() == b"WATCHDOG=1"


def test_a_manager_without_a_watchdog_hears_that_it_is_ready_and_no_more(manager: Manager) -> None:
    """Type=notify without WatchdogSec=."""
    supervisor = Supervisor({"NOTIFY_SOCKET": manager.environment["NOTIFY_SOCKET"]})
    supervisor.alive(0.0)
    supervisor.ready()
    assert manager.hears() == b"READY=1" and manager.hears_nothing(0.1)


def test_an_abstract_address_is_spoken_to_as_well() -> None:
    """Some managers listen at a name without a file, written with an @."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(f"\0murmure-test-{os.getpid()}")
        Supervisor({"NOTIFY_SOCKET": f"@murmure-test-{os.getpid()}"}).ready()
        line.settimeout(5)
        assert line.recv(100) == b"READY=1"


class Counts(Supervisor):
    """Counts the signs of life."""

    def __init__(self) -> None:
        super().__init__({})
        self.times = 0

    def alive(self, now_s: float) -> None:
        self.times += 1


def test_a_port_that_hangs_is_told_by_silence(turned: Callable[..., Any]) -> None:
    """All windows wait for every port: after a minute without a word from one of them the main loop, which still turns,
    no longer says that all is well."""
    gateway = turned(GONE.format("dust"), GONE.format("coarse"))
    gateway.sense._supervisor = counts = Counts()
    now_s = 1000.0
    gateway.clock.monotonic = lambda: now_s
    for view in gateway.sense._views.values():
        view.heard_s = now_s
    for second in range(120):
        now_s = 1000.0 + second
        gateway.sense._batches.put(PortBatch("dust", {}, 1_000 * second, PortHealth(PortState.OK)))
        gateway.sense._turn()
    assert counts.times == 61
    gateway.sense._batches.put(PortBatch("coarse", {}, 0, PortHealth(PortState.ABSENT)))
    gateway.sense._turn()
    gateway.sense._batches.put(PortBatch("dust", {}, 0, PortHealth(PortState.OK)))
    gateway.sense._turn()
    assert counts.times == 62


def test_a_long_pause_between_two_brokers_is_full_of_signs_of_life(enrolled: Any) -> None:
    """`retry_cap_s` may be an hour; the manager hears of `send` every second of it."""
    config = load(enrolled.write())
    stop, beats = threading.Event(), []

    def alive() -> None:
        beats.append(time.monotonic())
        if len(beats) == 6:
            stop.set()

    thread = threading.Timer(30, stop.set)
    thread.start()
    run(config, load_trust(config), stop, lambda: 0, time.monotonic, lambda _: None, alive)
    thread.cancel()
    assert len(beats) == 6 and max(b - a for a, b in pairwise(beats)) < 5
