"""What a gateway says of itself: an allow-list, in steps so coarse that no field can tell of a person or of a value.

Clock, boots, ports, disk and temperature of the board, how long the centre's log was; never a count of frames, readings
or crossings, since those move with the street.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from murmure_privacy.release import Health
from murmure_privacy.wire import CLOCK_STATES, PORT_STATES

from murmure_edge.config import Trust

PERIOD_S = 900  # one report each quarter-hour, on the quarter-hour: its moment says nothing; others follow receipts
TEMPERATURE_STEP_C = 5
_MINUTE_S = 60
_THERMAL_ZONE = Path("/sys/class/thermal/thermal_zone0/temp")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the board is asked. `temperature_milli_c`: thousandths of a degree, None without a sensor.
    `free_bytes`: room left where gateway.db lies. `software`: what is installed."""

    temperature_milli_c: Callable[[], int | None]
    free_bytes: Callable[[], int]
    software: str


def board(data: Path) -> Sources:
    """Returns the sources of the board that this program runs on; `data` lies on the disk that is asked."""
    return Sources(
        temperature_milli_c=lambda: read_temperature(_THERMAL_ZONE),
        free_bytes=lambda: free_bytes(data),
        software=software(),
    )


def read_temperature(path: Path) -> int | None:
    """Returns what a Linux thermal zone says, in thousandths of a degree; None where there is none."""
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def free_bytes(folder: Path) -> int:
    """Returns the room for ordinary users on the disk of `folder`, 0 if it cannot be asked."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize


def software() -> str:
    """Returns the name and version that the health report carries."""
    try:
        return f"murmure {version('murmure')}"
    except PackageNotFoundError:
        return "murmure"


def temperature_step_c(milli_c: int | None) -> int | None:
    """Returns the temperature in steps of 5 degrees, rounded down; None for none and for what no board survives."""
    if milli_c is None or not -60_000 <= milli_c <= 150_000:
        return None
    return milli_c // (1000 * TEMPERATURE_STEP_C) * TEMPERATURE_STEP_C


def storage_step_mb(free: int) -> int:
    """Returns the free storage in MB (10^6 bytes), rounded down to a power of two; 0 below one."""
    megabytes = free // 1_000_000
    return 1 << (megabytes.bit_length() - 1) if megabytes > 0 else 0


def is_due(now_s: int, last_s: int | None) -> bool:
    """Returns whether a quarter-hour has begun since the report of `last_s` (UTC seconds; None: no report yet)."""
    return last_s is None or now_s // PERIOD_S != last_s // PERIOD_S


def same_minute(uptime_s: int, last_s: int) -> bool:
    """Returns whether two reports of a quarter-hour would say one uptime: the centre could not tell the newer one."""
    return uptime_s // _MINUTE_S == last_s // _MINUTE_S


def report(
    trust: Trust,
    sources: Sources,
    *,
    at_s: int,
    uptime_s: int,
    boot: int,
    ports: Mapping[str, str],
    outbox_depth: int,
    clock: str,
    log: int,
) -> Health:
    """Returns the report of one instant. `uptime_s` is rounded down to minutes, `at_s` to the quarter-hour;
    `log` is the number of entries of the centre's log that is remembered, 0 for none.

    Raises ValueError for a state that is not on the list: what is not listed does not leave.
    """
    for state in ports.values():
        if state not in PORT_STATES:
            raise ValueError(f"{state!r} is no state of a port")
    if clock not in CLOCK_STATES:
        raise ValueError(f"{clock!r} is no state of a clock")
    return Health(
        gateway=trust.gateway,
        quartier=trust.quartier,
        at_s=at_s - at_s % PERIOD_S,
        uptime_s=uptime_s - uptime_s % _MINUTE_S,
        boot=boot,
        software=sources.software,
        ports=tuple(sorted(ports.items())),
        outbox_depth=outbox_depth,
        clock=clock,
        temperature_c=temperature_step_c(sources.temperature_milli_c()),
        free_storage_mb=storage_step_mb(sources.free_bytes()),
        log=log,
    )
