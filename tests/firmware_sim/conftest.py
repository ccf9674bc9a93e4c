"""Shared by the simulator's tests: its processes, and a small edge of our own that speaks the time line.

The edge here is written from docs/simulated-time.md and shares no line with `murmure_edge`.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

START_MS = 1_794_600_000_000
PATIENCE_S = 60.0  # of wall time, on a machine busy with other tests
REQUESTS = {
    "modbus_noise": bytes.fromhex("01 03 00 00 00 01 84 0a"),
    "sps30": bytes.fromhex("7e 00 03 00 fc 7e"),
    "nsrt_mk3": bytes.fromhex("11 00 00 80 00 00 00 00 04 00 00 00"),
}
"""What only speaks when asked, and how it is asked for its value."""

SimDevice = Callable[..., Path]
StartBench = Callable[[dict[str, Any]], "RunningBench"]


@pytest.fixture
def sim_device(tmp_path: Path) -> Iterator[SimDevice]:
    """Starts `murmure sim device NAME ...` and returns its link, once it is ready."""
    running: list[subprocess.Popen[str]] = []

    def start(name: str, *options: str) -> Path:
        link = tmp_path / f"{name}-{len(running)}"
        command = [sys.executable, "-m", "murmure.cli", "sim", "device", name, "--link", str(link), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == f"{link}\n"
        return link

    yield start
    for process in running:
        process.terminate()
        assert process.wait(10) == 0
        assert process.stdout is not None
        process.stdout.close()
    assert not [path for path in tmp_path.iterdir() if path.is_symlink()], "a link was left behind"


class FakePort:
    """The edge's side of one port: pseudo-terminal, marks, bell. Opens at 115200 what needs it, all else at 9600."""

    def __init__(self, directory: Path, index: int, plan: dict[str, Any], client_baud: int | None) -> None:
        self.name: str = plan["name"]
        self.link = Path(plan["link"])
        self.request = REQUESTS.get(plan["device"], b"")
        self.polled = plan["device"] in REQUESTS
        self.baud = client_baud or (115200 if plan["device"] in ("tfluna", "sps30") else 9600)
        self.tty = -1
        self.open()
        with (directory / "timeline.map").open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)
        assert self.map[:8] == b"MURMURE1"
        self.words = memoryview(self.map).cast("q")
        self.base = (4096 + index * 32768) // 8
        self.bell = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.bell.connect(str(directory / "timeline.sock"))
        self.bell.sendall(f"ATTACH {self.name}\n".encode())
        self.taken = self.read_marks = self.asked = 0
        self.now_ms = 0
        self.pieces: list[tuple[bytes, int]] = []

    def open(self) -> None:
        self.tty = os.open(self.link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.tty)
        attributes = termios.tcgetattr(self.tty)
        attributes[4] = attributes[5] = getattr(termios, f"B{self.baud}")
        termios.tcsetattr(self.tty, termios.TCSANOW, attributes)
        termios.tcflush(self.tty, termios.TCIFLUSH)

    def await_start(self) -> int:
        self.bell.settimeout(PATIENCE_S)
        line = b""
        while not line.endswith(b"\n"):
            byte = self.bell.recv(1)
            assert byte, "the bench closed the connection"
            line += byte
        word, epoch, start_ms = line.split()
        assert word == b"START"
        assert int(epoch) == self.words[2]
        assert int(start_ms) == self.words[3]
        termios.tcflush(self.tty, termios.TCIFLUSH)
        self.words[self.base + 2] = self.words[self.base + 5] = 0
        self.words[self.base + 1] = self.now_ms = int(start_ms)
        return int(start_ms)

    def go(self) -> None:
        self.bell.sendall(b"GO\n")
        self.bell.setblocking(False)

    def poll(self) -> bool:
        """Takes in every mark that is there; tells whether there was one."""
        count = self.words[self.base]
        if self.read_marks == count:
            return False
        while self.read_marks < count:
            entry = self.base + 512 + 2 * (self.read_marks % 1024)
            offset, time_ms = self.words[entry], self.words[entry + 1]
            assert offset >= self.taken
            assert time_ms >= self.now_ms
            self.now_ms = time_ms
            self.pieces.append((self._take(offset - self.taken), time_ms))
            self.read_marks += 1
        self.words[self.base + 1] = self.now_ms
        return True

    def ring(self) -> None:
        try:
            self.bell.send(b"\x01")
        except BlockingIOError:
            return  # it is full of bells

    def ask(self, data: bytes, at_ms: int, deadline_ms: int) -> tuple[bytes, int]:
        """Writes a request as of `at_ms` and returns the next piece, or nothing at the deadline."""
        self.asked += 1
        for word, value in ((3, at_ms), (4, deadline_ms), (2, self.asked)):
            self.words[self.base + word] = value
        os.write(self.tty, data)
        return self.await_piece(deadline_ms)

    def wait_until(self, until_ms: int) -> None:
        self.words[self.base + 5] = until_ms
        self.ring()
        assert self.await_piece(until_ms) == (b"", until_ms)

    def await_piece(self, deadline_ms: int) -> tuple[bytes, int]:
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            if self.read_marks < self.words[self.base]:
                entry = self.base + 512 + 2 * (self.read_marks % 1024)
                offset, time_ms = self.words[entry], self.words[entry + 1]
                if time_ms > deadline_ms:
                    return b"", deadline_ms
                self.read_marks += 1
                piece = self._take(offset - self.taken)
                self.now_ms = self.words[self.base + 1] = time_ms
                if piece or time_ms == deadline_ms:
                    return piece, time_ms
            else:
                select.select([self.tty, self.bell.fileno()], [], [], 0.005)
        raise AssertionError(f"{self.name}: no mark for {PATIENCE_S} s")

    def close(self) -> None:
        self.bell.close()
        os.close(self.tty)

    def _take(self, size: int) -> bytes:
        data = b""
        until_s = time.monotonic() + PATIENCE_S
        while len(data) < size and time.monotonic() < until_s:
            select.select([self.tty], [], [], 0.1)
            try:
                data += os.read(self.tty, size - len(data))
            except BlockingIOError:
                continue
        assert len(data) == size, f"{self.name}: a mark announced {size} bytes, {len(data)} came"
        self.taken += size
        return data


class FakeEdge:
    """A gateway with all its ports, driven by hand or by `run`."""

    def __init__(self, gateway: dict[str, Any], poll_ms: int = 1000, client_baud: int | None = None) -> None:
        directory = Path(gateway["dir"])
        self.ports = {p["name"]: FakePort(directory, i, p, client_baud) for i, p in enumerate(gateway["ports"])}
        self.poll_ms = poll_ms
        self.start_ms = {port.await_start() for port in self.ports.values()}.pop()
        self.next_ask_ms = dict.fromkeys(self.ports, self.start_ms)
        self.answers: dict[str, list[tuple[bytes, int]]] = {name: [] for name in self.ports}
        for port in self.ports.values():
            port.go()

    def step(self, until_ms: int) -> None:
        """Takes what has come on the speaking ports and polls the others as far as those are."""
        horizons = [port.now_ms for port in self.ports.values() if not port.polled]
        for name, port in self.ports.items():
            if not port.polled:
                if not port.poll() and port.now_ms < until_ms:
                    port.ring()
                continue
            limit_ms = min([until_ms, *(horizon + 1000 for horizon in horizons)])
            while self.next_ask_ms[name] < limit_ms:
                at_ms = self.next_ask_ms[name]
                self.answers[name].append(port.ask(port.request, at_ms, at_ms + 200))
                self.next_ask_ms[name] += self.poll_ms
            if limit_ms == until_ms:
                port.words[port.base + 1] = until_ms

    def run(self, until_ms: int) -> None:
        """Goes on until every port has passed `until_ms`."""
        until_s = time.monotonic() + PATIENCE_S
        while any(
            (self.next_ask_ms[name] if port.polled else port.now_ms) < until_ms for name, port in self.ports.items()
        ):
            self.step(until_ms)
            time.sleep(0.0005)
            assert time.monotonic() < until_s, {name: port.now_ms for name, port in self.ports.items()}
        self.step(until_ms)

    def pieces(self, name: str) -> list[tuple[bytes, int]]:
        """All pieces of a port that held bytes."""
        return [piece for piece in self.ports[name].pieces + self.answers[name] if piece[0]]

    def close(self) -> None:
        for port in self.ports.values():
            port.close()


class RunningBench:
    """A bench process: its configuration, its events, its stdin."""

    def __init__(self, config: dict[str, Any], file: Path) -> None:
        self.config = config
        file.write_text(json.dumps(config))
        command = [sys.executable, "-m", "murmure_firmware_sim.bench", str(file)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        self.await_event("progress")

    def edge(self, index: int = 0, **options: Any) -> FakeEdge:
        return FakeEdge(self.config["gateways"][index], **options)

    def await_event(self, name: str) -> dict[str, Any]:
        """Returns the newest event of the name, waiting for the first."""
        until_s = time.monotonic() + PATIENCE_S
        with self._news:
            while not (found := [event for event in self.events if event["event"] == name]):
                assert self._news.wait(until_s - time.monotonic()), f"no event {name}"
        return found[-1]

    def tell(self, line: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def close(self) -> int:
        """Ends its stdin; returns its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(10)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()


@pytest.fixture
def start_bench(tmp_path: Path) -> Iterator[StartBench]:
    """Starts a bench with the given configuration; it must end cleanly and leave no link."""
    running: list[RunningBench] = []

    def start(config: dict[str, Any]) -> RunningBench:
        bench = RunningBench(config, tmp_path / f"bench-{len(running)}.json")
        running.append(bench)
        return bench

    yield start
    for bench in running:
        if bench.process.poll() is None:
            assert bench.close() == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()], "a link was left behind"


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Makes a bench configuration of one or more gateways with the ports named, `hours` long."""

    def make(*ports: str, gateways: int = 1, hours: float = 1, port: dict[str, Any] | None = None, **more: Any) -> Any:
        devices = {"beam": "tfluna", "noise": "modbus_noise", "dust": "sds011"}
        devices |= {"plantower": "pmsx003", "sps": "sps30", "meter": "nsrt_mk3", "module": "uart_decibel_bbaa"}
        return {
            "start_ms": START_MS,
            "end_ms": START_MS + int(hours * 3_600_000),
            **more,
            "gateways": [
                {
                    "gateway": f"gw-{g}",
                    "dir": str(tmp_path / f"gw-{g}"),
                    "ports": [
                        {
                            "name": name,
                            "link": str(tmp_path / f"gw-{g}-{name}"),
                            "device": devices[name],
                            "set": {"measuring": 1} if name == "sps" else {},
                            "source": {"kind": "street", "seed": g, "profile": "plaza"},
                            **(port or {}),
                        }
                        for name in ports
                    ],
                }
                for g in range(gateways)
            ],
        }

    return make
