"""What goes wrong on the host's side of one port: who may open it, who else has it, a disk that is full.

The host is this machine, so these are the real thing: a mode, a lock, a file. They end with the fault or the process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from .errors import SimError
from .faults import Fault
from .pty_port import PtyPort

_MOST_BYTES = 256 << 20
_BLOCK = bytes(1 << 16)
_FILLER = ".murmure-sim-fills-this"


class Host:
    """The host's side of one port, looked after from a single thread."""

    def __init__(self, port: PtyPort, seed: int = 0) -> None:
        self._port = port
        self._draw = Random(f"{seed}/host")
        self._master = -1
        self._reader = -1
        self._filled: Path | None = None
        self._usual_mode: int | None = None  # of a port that nobody may open now

    def look(self, fault: Callable[[str], Fault | None]) -> None:
        """Begins and ends what `fault(name)` says is, or is no longer, the case."""
        if self._port.master != self._master:  # another pts behind the link: nothing of the old one holds
            self._forget_port()
            self._master = self._port.master
        if self._master >= 0:
            self._set_mode(forbidden=fault("permission") is not None)
            self._set_reader(wanted=fault("second_reader") is not None)
        self._fill(fault("disk_full"))

    def steal(self, share: float) -> None:
        """The second reader reads, in so many of the cases, all that its rival has not taken yet."""
        if self._reader >= 0 and self._draw.random() < share:
            with suppress(OSError):
                os.read(self._reader, 4096)

    def close(self) -> None:
        """Ends everything that it has begun."""
        self._forget_port()
        self._fill(None)

    def _forget_port(self) -> None:
        if self._reader >= 0:
            os.close(self._reader)
        self._reader = -1
        self._usual_mode = None

    def _set_mode(self, forbidden: bool) -> None:
        if forbidden and self._usual_mode is None:
            self._usual_mode = stat.S_IMODE(self._port.link.stat().st_mode)
            self._port.link.chmod(0)
        elif not forbidden and self._usual_mode is not None:
            self._port.link.chmod(self._usual_mode)
            self._usual_mode = None

    def _set_reader(self, wanted: bool) -> None:
        if wanted and self._reader < 0:
            self._reader = self._port.open_slave()
            with suppress(BlockingIOError):  # its rival was there first
                fcntl.flock(self._reader, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif not wanted and self._reader >= 0:
            os.close(self._reader)
            self._reader = -1

    def _fill(self, fault: Fault | None) -> None:
        if fault is not None and self._filled is None:
            _check_small("disk_full", fault.text)
            self._filled = Path(fault.text) / _FILLER
            with self._filled.open("wb", buffering=0) as file:
                size = len(_BLOCK)
                while size:
                    try:
                        file.write(_BLOCK[:size])
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                        size //= 2
        elif fault is None and self._filled is not None:
            self._filled.unlink(missing_ok=True)
            self._filled = None


def check_host(file: str, fault: Fault, bench: bool) -> None:
    """Raises SimError for a fault that this host cannot have."""
    if fault.name == "clock" and not bench:
        mend = "give it to a bench, or set this machine's clock (date -s)"
        raise SimError(file, "clock", "is only for simulated time", mend)
    if fault.name == "disk_full":
        _check_small(file, fault.text)


def _check_small(file: str, folder: str) -> None:
    """Raises SimError unless the folder is the root of a tmpfs of at most 256 MiB, so that nothing else is filled."""
    mounts = Path("/proc/self/mounts").read_text("utf-8").splitlines()
    kinds = [fields[2] for line in mounts if len(fields := line.split()) > 2 and fields[1] == folder.rstrip("/")]
    mend = "mount one for the test: mount -t tmpfs -o size=1m none FOLDER"
    if kinds[-1:] != ["tmpfs"]:
        raise SimError(file, folder, "is not where a tmpfs is mounted", mend)
    space = os.statvfs(folder)
    if space.f_blocks * space.f_frsize > _MOST_BYTES:
        raise SimError(file, folder, "is larger than 256 MiB", mend)
