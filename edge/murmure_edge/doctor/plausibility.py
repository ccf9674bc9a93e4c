"""Whether what a sensor says can be true: range, order, stuck, floor. Only the doctor asks; no reading is ever dropped.

A verdict is a word, never a value: what was seen stays in this object and is forgotten with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import pairwise

from murmure_edge.sensors.base import Plausible

OK, RANGE, ORDER, STUCK, FLOOR = "ok", "range", "order", "stuck", "floor"
LEAST_FRAMES = 3  # before anything is said: one frame proves nothing
ONE_IN = 10  # of the frames must be out of range or order: a lone one may be a spoiled byte that its check let through
_LAST = 3


class Judge:
    """Judges the frames of one sensor, as `describe` gives them, by its PLAUSIBLE. `now_ms`: any clock's."""

    def __init__(self, plausible: Plausible) -> None:
        self._plausible = plausible
        self.recent: deque[str] = deque(maxlen=_LAST)
        """The verdicts on the last frames, newest last."""
        self.forget()

    def forget(self) -> None:
        """Begins anew: a warm-up is over."""
        self.frames = 0
        self._wrong = {RANGE: 0, ORDER: 0}
        self._names: dict[str, set[str]] = {RANGE: set(), ORDER: set()}
        self._last: dict[str, float] = {}
        self._last_since_ms = self._now_ms = 0
        self._always_floor = True
        self.recent.clear()

    def see(self, described: Mapping[str, object], now_ms: int) -> None:
        """Takes one measurement; what holds no value of those that can be judged is left out."""
        shown = list(_shown(described, self._plausible))
        if not shown:
            return
        self.frames += 1
        self._now_ms = now_ms
        verdict = OK
        for kind, names in (
            (RANGE, [name for values in shown for name in self._outside(values)]),
            (ORDER, [name for values in shown for name in self._falling(values)]),
        ):
            if names:
                verdict = kind
                self._wrong[kind] += 1
                self._names[kind].update(names)
        if shown[0] != self._last:
            self._last, self._last_since_ms = shown[0], now_ms
        floors = self._plausible.floors
        self._always_floor = (
            self._always_floor
            and bool(floors)
            and all(shown[0].get(name, low + 1) <= low for name, low in floors.items())
        )
        self.recent.append(verdict)

    @property
    def at_floor(self) -> bool:
        """Returns whether every frame so far showed what the sensor shows when it sees or hears nothing."""
        return self.frames > 0 and self._always_floor

    def verdicts(self) -> list[tuple[str, tuple[str, ...]]]:
        """Returns what cannot be true, with the names concerned; empty while nothing speaks against the sensor."""
        if self.frames < LEAST_FRAMES:
            return []
        found = [
            (kind, tuple(sorted(self._names[kind])))
            for kind, count in self._wrong.items()
            if count > 1 and count * ONE_IN >= self.frames
        ]
        if self.at_floor:
            found.append((FLOOR, tuple(self._plausible.floors)))
        elif self._last and self._now_ms - self._last_since_ms >= 1000 * self._plausible.stuck_s:
            found.append((STUCK, tuple(self._last)))
        return found

    def _outside(self, values: Mapping[str, float]) -> Iterator[str]:
        for name, (low, high) in self._plausible.ranges.items():
            if name in values and not low <= values[name] <= high:
                yield name

    def _falling(self, values: Mapping[str, float]) -> Iterator[str]:
        there = [name for name in self._plausible.rising if name in values]
        yield from (small for small, large in pairwise(there) if values[small] > values[large])


def _shown(described: Mapping[str, object], plausible: Plausible) -> Iterator[dict[str, float]]:
    """Yields the values to judge: those of the frame, or of each target in it."""
    wanted = {*plausible.ranges, *plausible.rising}
    targets = described.get("targets")
    for place in targets if isinstance(targets, list) else [described]:
        values = {
            name: float(value) for name, value in place.items() if name in wanted and isinstance(value, int | float)
        }
        if values:
            yield values
