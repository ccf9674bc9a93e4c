"""A word to the service manager: that a process is ready, and that its main loop still turns. See sd_notify(3)."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from contextlib import suppress

_PER_PERIOD = 3  # signs of life while the manager waits for one


class Supervisor:
    """Who started this process, by its `environment`; without one every call does nothing. AF_UNIX and nothing else."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        period_us = environment.get("WATCHDOG_USEC", "")
        self._every_s = int(period_us) / 1e6 / _PER_PERIOD if period_us.isdecimal() else math.inf
        self._next_s = -math.inf

    def ready(self) -> None:
        """Says that the process has started, whether or not there is anything to read or to send to."""
        self._tell(b"READY=1")

    def alive(self, now_s: float) -> None:
        """Says that the main loop turns, as often as the manager wants to hear it. `now_s`: monotonic seconds."""
        if now_s >= self._next_s:
            self._next_s = now_s + self._every_s
            if self._every_s < math.inf:
                self._tell(b"WATCHDOG=1")

    def _tell(self, word: bytes) -> None:
        if not self._address:
            return
        # A manager that does not listen is no reason to stop, and none to wait.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line:
            line.sendto(word, self._address)


NOBODY = Supervisor({})
