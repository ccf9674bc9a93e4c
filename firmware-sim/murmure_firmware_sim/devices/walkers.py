"""Bodies on their way through a view, and how each crossing of a street becomes one.

Distances in mm from the sensor: y straight ahead, x to the side; times in ms into the minute. Every walk begins and
ends in its minute, so any minute can be asked in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, runtime_checkable

LINE_MM = 3000
FIRST_CROSSING_MS, CROSSING_STEP_MS = 1500, 380
"""Slot n of a minute crosses the line at FIRST + n * STEP: the last 1.88 s before the next minute."""
IN_VIEW_MS = 1000
_SLOWEST_MM_S, _FASTEST_MM_S = 1400, 1700
_LANE_MM, _LANES, _FIRST_LANE_MM, _WANDER_MM = 600, 3, 500, 200
_NOON, _MINUTES_PER_DAY, _IN_BEFORE_NOON = 13 * 60, 1440, 0.6


@dataclass(frozen=True)
class Walk:
    """One body's way: `points` are (ms, x, y), straight lines between them.

    `crosses_ms` is when it first passes the line to go on beyond it, None if it never does; `inwards` whether it then
    came nearer.
    """

    points: tuple[tuple[int, int, int], ...]
    crosses_ms: int | None = None
    inwards: bool = False

    def at(self, ms: int) -> tuple[float, float, float, float]:
        """Returns x, y (mm) and their speeds (mm/s) at an instant between the first point and the last."""
        after = next(index for index, point in enumerate(self.points) if index and point[0] >= ms)
        (start_ms, x0, y0), (end_ms, x1, y1) = self.points[after - 1], self.points[after]
        share = (ms - start_ms) / (end_ms - start_ms)
        per_s = 1000 / (end_ms - start_ms)
        return x0 + share * (x1 - x0), y0 + share * (y1 - y0), (x1 - x0) * per_s, (y1 - y0) * per_s


@runtime_checkable
class Scene(Protocol):
    """A source that knows how its bodies move."""

    def walks(self, minute: int) -> Sequence[Walk]:
        """The bodies of one minute, those that never cross included."""


@dataclass(frozen=True)
class Passer:
    """Somebody who crosses in a slot: `lane` counts those side by side in one group."""

    slot: int
    inwards: bool
    speed_mm_s: float
    x_mm: int


def passers(slots: Sequence[int], minute: int, seed: int) -> Iterator[Passer]:
    """Yields who crosses in each of a minute's slots. Neighbouring slots are one group: one direction, one speed."""
    group: list[int] = []
    for slot in slots:
        if group and slot != group[-1] + 1:
            yield from _group(group, minute, seed)
            group = []
        group.append(slot)
    if group:
        yield from _group(group, minute, seed)


def walks(slots: Sequence[int], minute: int, seed: int) -> list[Walk]:
    """Returns the walk of each passer, seen for IN_VIEW_MS on either side of the line."""
    return [straight(each.slot, each.inwards, each.speed_mm_s, each.x_mm) for each in passers(slots, minute, seed)]


def straight(slot: int, inwards: bool, speed_mm_s: float, x_mm: int, in_view_ms: int = IN_VIEW_MS) -> Walk:
    """Returns a walk along y that crosses the line at the slot's instant."""
    crosses_ms = FIRST_CROSSING_MS + slot * CROSSING_STEP_MS
    reach_mm = round(speed_mm_s * in_view_ms / 1000) * (-1 if inwards else 1)
    ends = ((crosses_ms - in_view_ms, x_mm, LINE_MM - reach_mm), (crosses_ms + in_view_ms, x_mm, LINE_MM + reach_mm))
    return Walk(ends, crosses_ms, inwards)


def _group(slots: Sequence[int], minute: int, seed: int) -> Iterator[Passer]:
    draw = Random(f"{seed}/passers/{minute}/{slots[0]}")
    before_noon = minute % _MINUTES_PER_DAY < _NOON
    inwards = draw.random() < (_IN_BEFORE_NOON if before_noon else 1 - _IN_BEFORE_NOON)
    speed_mm_s = draw.uniform(_SLOWEST_MM_S, _FASTEST_MM_S)
    wander_mm = draw.randrange(_WANDER_MM)
    for index, slot in enumerate(slots):
        x_mm = _FIRST_LANE_MM + _LANE_MM * (index % _LANES) + wander_mm
        yield Passer(slot, inwards, speed_mm_s, -x_mm if inwards else x_mm)
