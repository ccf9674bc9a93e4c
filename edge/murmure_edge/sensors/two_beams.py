"""Two beams 20 to 40 cm apart are one counter: a passage is what both have seen, and which one saw it first is its
direction.

A pass of one beam is paired with the earliest pass of the other within `APART_MS` of it; what stays alone (a leaf, a
hand, somebody who turns back between the two) counts nothing. A second is alive if it is so at both, so that the
stream has no valid second while one of them is silent. The pair lags behind the slower of the two by a fixed time,
whoever passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from operator import itemgetter

from murmure_edge.reading import Reading

COUNTED = "footfall"
APART_MS = 1_500
"""40 cm at 0.3 m/s, and a frame at 10 Hz on either side."""


class _Beam:
    """What one beam has told and the pair has not settled yet."""

    def __init__(self) -> None:
        self.horizon_ms: int | None = None
        self.passes_ms: deque[int] = deque()
        self.alive: dict[int, int] = {}  # second -> the instant of its sign of life


class TwoBeams:
    """Pairs the readings of two ports, by their names, for one stream. Used by the main thread."""

    def __init__(self, stream: str, first: str, second: str) -> None:
        self.stream = stream
        self._first = first
        self._beams = {first: _Beam(), second: _Beam()}
        self.directions = {1: 0, -1: 0}
        """Passages since the start by direction (1: first beam first; both at once are in neither): an exact figure,
        for the technician's own screen while `sense` is stopped, and for nobody else."""

    def add(self, port: str, readings: Iterable[Reading], horizon_ms: int) -> list[Reading]:
        """Takes what a port has handed over, and its horizon.

        Returns, by time, the pair's readings that are settled with it. Every reading of the pair that is earlier than
        both horizons less `APART_MS` has been returned.
        """
        beam = self._beams[port]
        beam.horizon_ms = horizon_ms
        for reading in sorted(readings, key=itemgetter(0)):
            if reading.value:
                beam.passes_ms.append(reading.time_ms)
            else:
                beam.alive[reading.time_ms // 1000] = reading.time_ms
        horizons = [each.horizon_ms for each in self._beams.values() if each.horizon_ms is not None]
        if len(horizons) < len(self._beams):
            return []
        settled_ms = min(horizons) - APART_MS
        return sorted([*self._passages(settled_ms), *self._alive(settled_ms)], key=itemgetter(0))

    def forget(self) -> None:
        """Drops what is not settled: the clock was put forward, and time begins anew."""
        self._beams = {port: _Beam() for port in self._beams}

    def _passages(self, settled_ms: int) -> list[Reading]:
        """Returns the passages that began before an instant, and forgets the passes that stay alone."""
        passages: list[Reading] = []
        while True:
            waiting = [beam for beam in self._beams.values() if beam.passes_ms]
            if not waiting:
                return passages
            earlier = min(waiting, key=lambda beam: beam.passes_ms[0])
            begin_ms = earlier.passes_ms[0]
            if begin_ms >= settled_ms:
                return passages
            earlier.passes_ms.popleft()
            (later,) = (beam for beam in self._beams.values() if beam is not earlier)
            if later.passes_ms and later.passes_ms[0] - begin_ms <= APART_MS:
                if later.passes_ms.popleft() != begin_ms:
                    self.directions[1 if earlier is self._beams[self._first] else -1] += 1
                passages.append(Reading(begin_ms, 1))

    def _alive(self, settled_ms: int) -> list[Reading]:
        """Returns a sign of life for each second before an instant in which both were alive."""
        first, second = (beam.alive for beam in self._beams.values())
        both = [Reading(max(first[at], second[at]), 0) for at in first.keys() & second.keys()]
        settled = [reading for reading in both if reading.time_ms < settled_ms]
        for beam in self._beams.values():
            beam.alive = {at: time_ms for at, time_ms in beam.alive.items() if time_ms >= settled_ms}
        return settled
