"""From distances to crossings: somebody who passes a beam makes the distance short for a moment.

A pass begins when the distance stays below 80 % of the background for 80 ms and ends when it stays above 90 % for
150 ms; it counts once, with no direction, stamped with its first short frame. An unusable distance, silence or a
closed port before those 80 ms are over makes it none. The background is learned: the first distance is taken at once,
it then follows slow drift, a wall that moved away (half a second beyond 110 %), and an obstacle that came to stay
(30 s in the beam, counted once).
"""

from __future__ import annotations

from collections.abc import Sequence

from murmure_edge.reading import Reading

UNUSABLE = -1
"""In place of a distance that the sensor itself declares unusable: neither short nor clear, but a sign of life."""

ENTER_MS, LEAVE_MS = 80, 150
ENTER_PERCENT, LEAVE_PERCENT, FAR_PERCENT = 80, 90, 110
FAR_MS, STAYS_MS = 500, 30_000
SETTLE_MS = 2_000
"""How far behind the present a pass may begin when it is counted: `ENTER_MS` and the longest piece of bytes, amply.

Windows wait for so long whoever is in the beam: if they waited for a pass half seen, the time of each message would
tell whether somebody stepped in at that very instant.
"""
# The background is kept in 64ths of a millimetre and moves by a 64th of the difference each second.
SLOWNESS = 64


class LifeSigns:
    """One reading of 0 for each second with a good frame, whoever passes. Used by one driver."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._second = 0

    def feed(self, frames: int, now_ms: int) -> list[Reading]:
        """Takes the number of consecutive good frames, at least one, the last of which arrived at `now_ms`.

        Each second that the piece reaches into is told: `present` must not tell that somebody passed in one of them.
        But none that was told before, nor one before the horizon; the very first piece may have waited long.
        """
        second = now_ms // 1000
        if second == self._second:
            return []
        reach_ms = min((frames - 1) * 1000 // self._rate_hz, SETTLE_MS)
        told, self._second = self._second, second
        first = max((now_ms - reach_ms) // 1000, told + 1) if 0 < told < second else second
        return [Reading(min(at * 1000 + 999, now_ms), 0) for at in range(first, second + 1)]


class CrossingCounter:
    """Counts passes in distances that come at a fixed rate. Used by one driver."""

    def __init__(self, rate_hz: int) -> None:
        self._frame_ms = 1000 / rate_hz
        self._rate_hz = rate_hz
        self._enter_frames = -(-ENTER_MS * rate_hz // 1000)
        self._leave_frames = -(-LEAVE_MS * rate_hz // 1000)
        self._far_frames = -(-FAR_MS * rate_hz // 1000)
        self._stays_frames = -(-STAYS_MS * rate_hz // 1000)
        self._background_64mm = 0  # 0: nothing learned yet
        self._enter_cm = self._leave_cm = self._far_cm = 0
        self._inside = False
        self._run = 0  # consecutive frames that speak for leaving the present state
        self._far_run = 0
        self._inside_frames = 0
        self._begin_ms = 0
        self._clear_sum_cm = self._clear_frames = 0
        self._last_ms = 0

    def feed(self, distances_cm: Sequence[int], now_ms: int) -> list[int]:
        """Takes consecutive distances (or UNUSABLE), the last of which arrived at `now_ms`.

        Returns the instants (ms) at which passes began: not before `now_ms - SETTLE_MS`, and not before the first feed.
        """
        if now_ms - self._last_ms > SETTLE_MS:
            self.interrupt()
        if (
            self._run == 0
            and not self._inside
            and self._background_64mm
            and min(distances_cm) >= self._enter_cm
            and max(distances_cm) <= self._far_cm
        ):
            # Nobody near, as nearly always: what `_step` would do, at a tenth of its cost.
            self._far_run = 0
            self._clear_sum_cm += sum(distances_cm)
            self._clear_frames += len(distances_cm)
            begins: list[int] = []
        else:
            begins = self._step(distances_cm, now_ms)
        if self._clear_frames >= self._rate_hz:
            self._follow_drift()
        self._last_ms = now_ms
        return begins

    def interrupt(self) -> None:
        """Forgets what is not yet long enough for a pass: what comes next is no part of it."""
        if not self._inside:
            self._run = 0

    def _step(self, distances_cm: Sequence[int], now_ms: int) -> list[int]:
        begins = []
        later_frames = len(distances_cm)
        for distance_cm in distances_cm:
            later_frames -= 1
            if distance_cm == UNUSABLE:
                self.interrupt()
                continue
            if not self._background_64mm:
                self._learn(distance_cm)
            if self._inside:
                self._inside_frames += 1
                self._run = self._run + 1 if distance_cm > self._leave_cm else 0
                if self._run >= self._leave_frames:
                    self._inside, self._run = False, 0
                elif self._inside_frames >= self._stays_frames:
                    self._learn(distance_cm)
            elif distance_cm < self._enter_cm:
                if self._run == 0:
                    # Never in the piece before; and nobody knows how long the very first one waited.
                    begin_ms = now_ms - int(later_frames * self._frame_ms)
                    self._begin_ms = max(self._last_ms or now_ms, begin_ms)
                self._run += 1
                self._far_run = 0
                if self._run >= self._enter_frames:
                    self._inside, self._run, self._inside_frames = True, 0, 0
                    # Held to the horizon after a stall, and to the present if the wall clock was set back.
                    begins.append(min(max(self._begin_ms, now_ms - SETTLE_MS), now_ms))
            else:
                self._run = 0
                self._far_run = self._far_run + 1 if distance_cm > self._far_cm else 0
                if self._far_run >= self._far_frames:
                    self._learn(distance_cm)
                elif not self._far_run:
                    self._clear_sum_cm += distance_cm
                    self._clear_frames += 1
        return begins

    def _learn(self, distance_cm: int) -> None:
        """Takes a distance as the background, whatever was learned before; nobody is in the beam then."""
        self._inside, self._run, self._far_run = False, 0, 0
        self._clear_sum_cm = self._clear_frames = 0
        self._set_background(max(distance_cm, 1) * 10 * SLOWNESS)

    def _follow_drift(self) -> None:
        mean_mm = 10 * self._clear_sum_cm // self._clear_frames
        self._clear_sum_cm = self._clear_frames = 0
        self._set_background(self._background_64mm + mean_mm - self._background_64mm // SLOWNESS)

    def _set_background(self, background_64mm: int) -> None:
        self._background_64mm = background_64mm
        per_cm = 10 * SLOWNESS * 100
        self._enter_cm = -(-background_64mm * ENTER_PERCENT // per_cm)  # up: "below" stays exact in whole cm
        self._leave_cm = background_64mm * LEAVE_PERCENT // per_cm
        self._far_cm = background_64mm * FAR_PERCENT // per_cm
