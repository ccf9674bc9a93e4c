"""Tiny devices on real pseudo-terminals, and a bench of one port that keeps the time line's page to the letter."""

from __future__ import annotations

import mmap
import os
import select
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest


class TinyPort:
    """A raw pseudo-terminal behind a stable link, as a USB stick behind /dev/serial/by-id."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.master = -1
        self.plug_in()

    def plug_in(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        beside = self.link.with_suffix(".new")
        beside.symlink_to(os.ttyname(slave))
        beside.replace(self.link)
        os.close(slave)

    def pull_out(self) -> None:
        self.link.unlink()
        os.close(self.master)
        self.master = -1

    def say(self, data: bytes) -> None:
        assert os.write(self.master, data) == len(data)

    def heard(self, at_least: int = 1, timeout_s: float = 5.0) -> bytes:
        """Returns what the host has written, once it is at least so many bytes."""
        data, patience = b"", time.monotonic() + timeout_s
        while len(data) < at_least and time.monotonic() < patience:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    data += os.read(self.master, 4096)
                except OSError:
                    time.sleep(0.01)  # nobody has it open
        return data

    def close(self) -> None:
        if self.master >= 0:
            self.pull_out()


class TinyBench:
    """The bench's side of one time line, written from docs/simulated-time.md alone (byte offsets, no names)."""

    START_MS = 1_000_000

    def __init__(self, directory: Path, device: TinyPort, starts: bool = True) -> None:
        self.directory = directory
        self.device = device
        self.offset = 0
        self.marks = 0
        self.going = threading.Event()
        self.connection: socket.socket | None = None
        directory.mkdir(mode=0o700, parents=True)
        with (directory / "timeline.map").open("w+b") as file:
            file.truncate(4096 + 32768)
            self.map = mmap.mmap(file.fileno(), 0)
        self.map[0:8] = b"MURMURE1"
        self.put(8, 1)
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(directory, os.O_PATH)
        self.server.bind(f"/proc/self/fd/{folder}/timeline.sock")
        os.close(folder)
        self.server.listen()
        if starts:
            threading.Thread(target=self.attend, daemon=True).start()

    def put(self, at: int, value: int) -> None:
        self.map[at : at + 8] = value.to_bytes(8, "little", signed=True)

    def get(self, at: int) -> int:
        return int.from_bytes(self.map[at : at + 8], "little", signed=True)

    def attend(self) -> None:
        with suppress(OSError):  # closed before anybody came, or meanwhile
            self.connection, _ = self.server.accept()
            assert self.connection.recv(100) == b"ATTACH beam\n"
            self.put(24, self.START_MS)
            self.connection.sendall(f"START 1 {self.START_MS}\n".encode())
            if self.connection.recv(3) == b"GO\n":
                self.going.set()

    def announce(self, size: int, at_ms: int) -> None:
        """A mark: first its entry, then the count; the bytes are the caller's."""
        self.offset += size
        entry = 4096 + 4096 + 16 * (self.marks % 1024)
        self.put(entry, self.offset)
        self.put(entry + 8, at_ms)
        self.marks += 1
        self.put(4096, self.marks)

    def say(self, data: bytes, at_ms: int) -> None:
        """A mark and its bytes, or a bare mark and a bell."""
        assert self.going.wait(5) and self.connection is not None
        self.announce(len(data), at_ms)
        if data:
            self.device.say(data)
        else:
            self.connection.sendall(b"!")

    def leave(self) -> None:
        assert self.connection is not None
        self.connection.close()

    def close(self) -> None:
        for each in (self.connection, self.server):
            if each is not None:
                each.close()


def _luna(distance_cm: int, strength: int = 1500) -> bytes:
    body = b"YY" + distance_cm.to_bytes(2, "little") + strength.to_bytes(2, "little") + b"\xc8\x08"
    return body + bytes([sum(body) % 256])


@pytest.fixture
def tiny_port(tmp_path: Path) -> Iterator[TinyPort]:
    """A device on a pseudo-terminal, plugged in at `tiny_port.link`."""
    port = TinyPort(tmp_path / "beam")
    yield port
    port.close()


@pytest.fixture
def tiny_bench(tmp_path: Path, tiny_port: TinyPort) -> Iterator[TinyBench]:
    """A time line for `tiny_port`, as port 0 called beam."""
    bench = TinyBench(tmp_path / "gw", tiny_port)
    yield bench
    bench.close()


@pytest.fixture(scope="session")
def luna_frame() -> Callable[..., bytes]:
    """luna_frame(distance_cm, strength=1500) -> the 9 bytes of a TF-Luna."""
    return _luna


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """eventually(condition) waits in wall time, at most 10 s, until the condition holds."""

    def wait(condition: Callable[[], object]) -> None:
        patience = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < patience, "it never came true"
            time.sleep(0.01)

    return wait
