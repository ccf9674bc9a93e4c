"""Sensors with faults, machines with faults, and a doctor who looks at both in this process."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from murmure.cli import build_parser
from murmure_edge.clock import wall_ms
from murmure_edge.doctor.command import Doctor, Surroundings, Wish, parse_settings
from murmure_edge.doctor.machine import Machine
from murmure_edge.link import Link
from murmure_edge.serial_link import SerialLink

HEAD = (
    'gateway = "gw-x"\ndata = "data"\noutbox = "spool/outbox"\ninbox = "spool/inbox"\n'
    'send_data = "send"\ntrust = "trust.toml"\n'
)


class Sensors:
    """`murmure sim device` processes behind links in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()

    def start(self, words: str) -> Path:
        """Returns the link of one that is ready."""
        with self._lock:
            link = self._folder / f"sensor-{len(self._running)}"
            process = self._begin(words, link)
            self._running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == f"{link}\n"
        return link

    def _begin(self, words: str, link: Path) -> subprocess.Popen[str]:
        name, *options = shlex.split(words)
        command = [sys.executable, "-m", "murmure.cli", "sim", "device", name, "--link", str(link), *options]
        return subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def type(self, link: Path, line: str) -> None:
        """Tells a running sensor something on its standard input."""
        process = self._running[int(link.name.rpartition("-")[2])]
        assert process.stdin is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()

    def stop(self, link: Path) -> None:
        """Ends one of them early."""
        self._running[int(link.name.rpartition("-")[2])].terminate()

    def end(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(10)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def faster(factor: int) -> Callable[[str, int, threading.Event], Link]:
    """Lines on which time passes so many times as fast, as it does in a simulator with --speed."""
    began_ms, began_s = wall_ms(), time.monotonic()

    def now_ms() -> int:
        return began_ms + int(1000 * factor * (time.monotonic() - began_s))

    return lambda path, baud, stop: SerialLink(path, baud, stop, now_ms)


def plant(root: Path, files: Mapping[str, str], modes: Mapping[str, str] | None = None) -> Path:
    """Makes a small machine: path -> text; "-> target" a link, "NOW" the time in seconds."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text.removeprefix("-> "))
        else:
            path.write_text(str(wall_ms() // 1000) if text == "NOW" else text)
    for name, mode in (modes or {}).items():
        (root / name).chmod(int(mode, 8))
    return root


def wish_of(words: str) -> Wish:
    """What the command line would ask for."""
    args = build_parser().parse_args(["edge", "doctor", *shlex.split(words)])
    return Wish(
        args.config, args.port, args.device, parse_settings(args.set), args.lang, args.json, args.watch, args.scan,
        args.fix, args.yes, args.seconds, args.root,
    )  # fmt: skip


class Screen(io.StringIO):
    """A stdout that says that it is a terminal, or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def visit(words: str, out: Screen | None = None, **around: Any) -> tuple[int, str]:
    """One visit in this process: exit status and what was printed."""
    out = out or Screen(terminal=False)
    machine = around.pop("machine", None)
    status = Doctor(wish_of(words), Surroundings(out=out, **around), machine).run()
    return status, out.getvalue()


def findings(words: str, **around: Any) -> dict[str, dict[str, Any]]:
    """The findings of one visit with --json, by code."""
    _, printed = visit(f"{words} --json", **around)
    return {finding["code"]: finding for finding in json.loads(printed)["findings"]}


class Clinic:
    """All of it in one folder."""

    HEAD = HEAD
    faster = staticmethod(faster)
    plant = staticmethod(plant)
    wish_of = staticmethod(wish_of)
    visit = staticmethod(visit)
    findings = staticmethod(findings)
    Screen = Screen

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sensors = Sensors(folder)
        self.machines = 0

    def start(self, words: str) -> Path:
        """Starts an emulated sensor, such as "sds011 --fault silent"; returns its link."""
        return self.sensors.start(words)

    def machine(self, files: Mapping[str, str], modes: Mapping[str, str] | None = None, **how: Any) -> Machine:
        """A planted machine."""
        self.machines += 1
        return Machine(plant(self.folder / f"machine-{self.machines}", {"proc/version": "", **files}, modes), **how)

    def gateway(self, *ports: tuple[str, str, Path | str], more: str = "") -> Path:
        """A gateway.toml with ports given as name, device, path."""
        quantity = {"sds011": "pm2_5", "pmsx003": "pm2_5", "sps30": "pm2_5", "tfluna": "footfall", "ld2450": "footfall"}
        file = self.folder / "gateway.toml"
        file.write_text(
            HEAD
            + more
            + "".join(
                f'[[port]]\nname = "{name}"\ndevice = "{device}"\npath = "{path}"\n'
                f'streams = {{ {quantity.get(device, "noise")} = "plaza/{name}" }}\n'
                for name, device, path in ports
            )
        )
        return file


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    """Emulated sensors, planted machines, and a doctor in this process."""
    made = Clinic(tmp_path)
    yield made
    made.sensors.end()


@pytest.fixture(scope="session")
def large_clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """The same for many sensors at once."""
    made = Clinic(tmp_path_factory.mktemp("clinic"))
    yield made
    made.sensors.end()
