"""Simulated time of a whole gateway beside its limit: bare Modbus-sized round trips through one pseudo-terminal.

One sound-level meter is asked once a simulated second, by Modbus a request of 8 bytes and an answer of 7; whatever else
a gateway does, it cannot be faster than that exchange between two processes.
"""

from __future__ import annotations

import multiprocessing
import os
import pty
import tempfile
import time
import tty
from pathlib import Path

from murmure_privacy.window import parse_utc

from murmure import city

HOURS = 6
START_S = parse_utc("2026-11-09T23:00:00Z")
TRIPS = 40_000


def answer(master: int) -> None:
    """The device's side: seven bytes for each eight."""
    for _ in range(TRIPS):
        got = b""
        while len(got) < 8:
            got += os.read(master, 8 - len(got))
        os.write(master, b"1234567")


def bare_trips_a_second() -> float:
    """Returns round trips a second through one pseudo-terminal, with nothing done on either side."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    device = multiprocessing.Process(target=answer, args=(master,))
    device.start()
    began = time.monotonic()
    for _ in range(TRIPS):
        os.write(slave, b"12345678")
        got = b""
        while len(got) < 7:
            got += os.read(slave, 7 - len(got))
    elapsed = time.monotonic() - began
    device.join()
    return TRIPS / elapsed


def main() -> None:
    limit = bare_trips_a_second()
    with tempfile.TemporaryDirectory() as folder:
        settings = city.Settings(1, True, 0, Path(folder) / "city", None, None, False)
        made = city.lay_out(settings, city.Span(START_S, START_S + HOURS * 3600))
        with city.Running(made, lambda _: None) as running:
            began: float | None = None
            while running.bench.ended is None:
                running.check()
                if began is None and running.bench.sim_ms > made.span.first_s * 1000:
                    began, from_ms = time.monotonic(), running.bench.sim_ms
                time.sleep(0.02)
            elapsed = time.monotonic() - (began or 0.0)
            played_s = (made.span.last_s * 1000 - from_ms) / 1000
    polls = len(city.SITES) * played_s / elapsed
    print(f"bare round trips    {limit:8,.0f} a second through one pseudo-terminal")
    print(
        f"three gateways      x{played_s / elapsed:,.0f} real time: {polls:,.0f} polls a second among all else they do,"
    )
    print(f"                    {polls / limit:.2f} of the bare limit")


if __name__ == "__main__":
    main()
