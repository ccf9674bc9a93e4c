"""Readings, and what a port hands to the main thread: batches of them with a horizon."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Reading(NamedTuple):
    """One value of one quantity, in the sensor's own integer units.

    `time_ms` is UTC since 1970. `value` is, by quantity: footfall, crossings counted (0 = the beam is alive,
    nobody passed; at most one such reading a second); noise, tenths of a dB; pm2_5 and pm10, tenths of ug/m3.
    """

    time_ms: int
    value: int


class PortState(StrEnum):
    """Where a port stands.

    absent (no such device, or it was pulled out) -> opening (open, no good frame yet) -> warming (frames arrive and
    are dropped, for the sensor's warm-up is not over) -> ok. From any open state: degraded (for a minute more than one
    frame in a hundred was spoiled), stalled (open, but silent for longer than the driver allows), wrong-device (what
    answers is not the sensor that was asked for, or does not keep its settings: nothing of it is taken). denied: the
    device is there and may not be opened (rights, or another program holds it). From each the port goes back to
    opening by itself.
    """

    ABSENT = "absent"
    OPENING = "opening"
    WARMING = "warming"
    OK = "ok"
    DEGRADED = "degraded"
    STALLED = "stalled"
    WRONG_DEVICE = "wrong-device"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class PortHealth:
    """The state of one port and what it has counted since its thread started; never a value that was measured.

    `frames`, `rejected`, `discarded_bytes`, `refused`: see `sensors.base.Counters`. `timeouts`: requests without an
    answer in time. `overruns`: requests skipped for want of time. `lost_links`: how often the device went away.
    """

    state: PortState
    frames: int = 0
    rejected: int = 0
    discarded_bytes: int = 0
    refused: int = 0
    timeouts: int = 0
    overruns: int = 0
    lost_links: int = 0
    last_good_ms: int | None = None
    advice: str = ""


@dataclass(frozen=True, slots=True)
class PortBatch:
    """All readings of one port up to an instant.

    `readings` maps a quantity to its readings as they came (a pass is counted some frames after its begin).
    `horizon_ms`: every reading before it has been handed over, with this batch or an earlier one; it never falls
    but with the wall clock. A port without a working sensor goes on sending batches without readings, so that no
    window waits for it. `fault` is set on a port's last batch if it had to stop for ever (only in simulated
    time: its bench is gone).
    """

    port: str
    readings: dict[str, list[Reading]]
    horizon_ms: int
    health: PortHealth
    fault: str | None = None
