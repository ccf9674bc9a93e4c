"""`ingest run` on a real disk that is full, and on one whose file system turns read-only: it refuses loudly, loses
nothing, and goes on by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.request import urlopen

import pytest
from murmure_ingest.embedded_broker import free_port

DISK_BYTES = 4 << 20
FIRST, ALL = 4, 40  # messages settled before the fault, and with those of the fault
UNIT = Path(__file__).resolve().parents[2] / "ingest" / "systemd" / "murmure-ingest.service"
NO_MORE = {"RestartPreventExitStatus", "StartLimitIntervalSec", "StartLimitBurst", "RestartMode", "SuccessExitStatus"}
COMMAND = [sys.executable, "-m", "murmure.cli", "ingest"]


class Disk:
    """An ext4 file system in a file. `path` is where it is mounted."""

    def __init__(self, folder: Path) -> None:
        self._image, self.path = folder / "image", folder / "disk"
        self._image.touch()
        os.truncate(self._image, DISK_BYTES)
        self.path.mkdir()
        self._do("mkfs.ext4", "-q", str(self._image))
        self.mount()

    def mount(self, options: str = "loop") -> None:
        self._do("mount", "-o", options, str(self._image), str(self.path))

    def abort(self) -> None:
        """What the kernel does itself after an error of the disk: from now on nothing can be written. What lies there
        for long, as settings and keys do, is on the disk."""
        self._do("sync", "-f", str(self.path))
        self._do("mount", "-o", "remount,abort", str(self.path))

    def mend(self) -> None:
        """Fails while anybody holds a file of it open."""
        self._do("umount", str(self.path))
        done = subprocess.run(["e2fsck", "-fy", str(self._image)], capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stdout

    def leave(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], capture_output=True, check=False)

    @staticmethod
    def _do(*command: str) -> None:
        subprocess.run(command, capture_output=True, check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 4 MiB. Skips where none can be mounted."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("mkfs.ext4", "e2fsck", "mount"))):
        pytest.skip("mounting a small disk needs root and e2fsprogs")
    try:
        disk = Disk(tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no disk can be mounted here: {error.stderr.decode().strip()}")
    yield disk
    disk.leave()


class Running:
    """`murmure ingest run`. Whenever it has ended it is started again, as often and as soon as its unit tells systemd.
    `ended`: with which status it ended, each time."""

    def __init__(self, config: str, log: Path) -> None:
        self._command, self._log = [*COMMAND, "run", "--config", config], log
        unit = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#")
        # Nothing keeps it down: no status, and no number of starts, of which systemd allows five in ten seconds.
        assert unit["Restart"] == "always" and unit.keys().isdisjoint(NO_MORE)
        self._again_s = int(unit["RestartSec"])
        assert self._again_s > 10 / 5
        self.ended: list[int] = []
        self._stopping = Event()
        self._log.write_text("")
        self._start()
        self._systemd = Thread(target=self._keep, daemon=True)
        self._systemd.start()

    def _start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._command, stderr=log)

    def _keep(self) -> None:
        while True:
            self.ended.append(self.process.wait())
            if self._stopping.wait(self._again_s):
                return
            self._start()

    def said(self, about: str) -> list[str]:
        return [line for line in self._log.read_text().splitlines() if about in line]

    def stop(self) -> int:
        """Ends it for good; returns its last status."""
        self._stopping.set()
        self.process.terminate()
        self._systemd.join(30)
        return self.ended[-1]

    def kill(self) -> None:
        self._stopping.set()
        with suppress(ProcessLookupError):
            self.process.kill()
        self._systemd.join(30)


@pytest.fixture
def town(
    disk: Disk, tmp_path: Path, make_centre: Callable[..., Any], broker: Any, connect: Any, until: Any
) -> Iterator[tuple[Any, Running, Any, list[tuple[str, bytes]]]]:
    """A centre at work on that disk, its gateway's link, and what the gateway has sealed; some of it is settled."""
    centre = make_centre(disk.path, port=broker.port, mqtt=broker.mqtt)
    page = free_port()
    with Path(centre.config.source).open("a") as settings:
        settings.write(f"[operations]\nport = {page}\n")
    centre.page = f"http://127.0.0.1:{page}/metrics"
    broker.start()
    gateway = centre.gateway()
    history = gateway.history(ALL)
    running = Running(centre.config.source, tmp_path / "log")
    peer = connect(gateway, broker)
    until(lambda: peer.settled(centre) == 0)
    peer.publish(*history[:FIRST])
    until(lambda: peer.settled(centre) == FIRST)
    centre.archive.close()
    yield centre, running, peer, history
    running.kill()


def verified(centre: Any) -> str:
    done = subprocess.run(
        [*COMMAND, "verify", "--archive", str(centre.config.archive), "--json"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


pytestmark = [
    pytest.mark.broker,
    pytest.mark.parametrize("broker", ["mosquitto-5"], indirect=True),
]


def test_a_full_disk_is_waited_for(disk: Disk, town: Any, until: Any) -> None:
    """One line and one series tell it, nothing is receipted; with room again all is filed once, by the same process."""
    centre, running, peer, history = town
    filler = disk.path / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    peer.publish(*history[FIRST:])
    until(lambda: running.said("the disk is full; make room, nothing was lost"))
    until(lambda: b"\nmurmure_archive_writable 0" in urlopen(centre.page, timeout=20).read())
    assert peer.settled(centre) == FIRST
    filler.unlink()
    until(lambda: peer.settled(centre) == ALL)
    assert b"\nmurmure_archive_writable 1" in urlopen(centre.page, timeout=20).read()
    assert len(running.said("archive:")) == 2
    assert running.ended == []
    assert running.stop() == 0
    assert f'"messages": {ALL}' in verified(centre)


def test_a_file_system_that_turned_read_only_is_let_go(disk: Disk, town: Any, until: Any) -> None:
    """The kernel's remedy for a failing disk: one line and exit 1, also at each later start on what cannot be written,
    so that nobody holds the disk while it is mended. Once it is, nobody has to start anything: all is filed, once."""
    centre, running, peer, history = town
    disk.abort()
    peer.publish(*history[FIRST:])
    until(lambda: running.ended)
    assert running.ended[0] == 1 and len(running.said("the disk refused")) == 1

    def mended() -> bool:
        try:
            disk.mend()
        except subprocess.CalledProcessError:
            return False  # it is just being tried
        return True

    until(mended)
    disk.mount("loop,ro")
    refused = len(running.said("Read-only file system"))
    until(lambda: len(running.said("Read-only file system")) > refused)
    until(lambda: running.ended[-1] == 1)
    assert peer.settled(centre) == FIRST
    until(mended)
    disk.mount()
    until(lambda: peer.settled(centre) == ALL)
    assert running.stop() == 0
    assert f'"messages": {ALL}' in verified(centre)
