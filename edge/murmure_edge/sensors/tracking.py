"""From targets to crossings: bodies that a radar sees for a moment each are joined into tracks, and a track that gets
from one side of a line to the other is a crossing, with its direction.

Each report is joined to the tracks by nearest neighbour: of all pairs of a target and a track's expected place the
least surprising first, none beyond the gate. A track expects to go on as it went (a Kalman filter of steady walking)
and is kept for two seconds without a report, for slots change their order and bodies hide each other.

A track counts once it has five reports, has been 20 cm on one side of the line, is 20 cm on the other by a report of
its own, and has come a metre in the last three seconds: a fan, or somebody who sways on the line, gets nowhere. A track
counts once; it ends where it is a metre away from the line and begins anew there, so that whoever comes back counts
again, and whoever turns on the line does not. (Without that end a track that takes over another's body where two meet
keeps it from being counted: see docs/accuracy.md.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, log
from operator import itemgetter
from typing import NamedTuple

GATE_MM, GATE_SIGMAS = 900, 4  # 60 cm in 100 ms are a sprint; the rest is noise
HYSTERESIS_MM = 200
MIN_REPORTS, SETTLED_REPORTS = 5, 4  # before the fourth a place is as good as a single report
COAST_REPORTS = 20
TRAVEL_MM, LATELY_REPORTS = 1000, 30
ANEW_MM = 1000
NOISE_MM = 150  # of a target in a report
WALKING_MM, TURNING_MM = 250, 15  # a report: how fast somebody new may go, by how much that changes
TRACKS_LIMIT = 8
"""Three targets a report and two seconds' memory: more tracks than this are noise, and the longest unseen goes."""


class Point(NamedTuple):
    """A place in mm: `depth` from the line (negative on the near side), `along` the line."""

    depth: float
    along: float


class Crossing(NamedTuple):
    """`direction`: 1 away from the near side, -1 back. `along_mm`: where on the line."""

    direction: int
    along_mm: float


STILL = Point(0.0, 0.0)


@dataclass(slots=True)
class _Track:
    """One body, by a Kalman filter of steady walking whose two coordinates share their variances."""

    place: Point
    speed: Point = STILL  # mm a report
    place_variance: float = NOISE_MM**2
    speed_variance: float = WALKING_MM**2
    covariance: float = 0.0
    reports: int = 1
    unseen: int = 0
    depths: deque[float] = field(default_factory=lambda: deque(maxlen=LATELY_REPORTS))  # where it was lately
    side: int = 0  # where it came from; 0: has been on the line only
    counted: bool = False  # and not yet a metre away

    def expect(self) -> None:
        self.place = Point(self.place.depth + self.speed.depth, self.place.along + self.speed.along)
        self.place_variance += 2 * self.covariance + self.speed_variance
        self.covariance += self.speed_variance
        self.speed_variance += TURNING_MM**2
        self.unseen += 1

    def unlikeliness(self, seen: Point, gate_mm: int) -> float:
        """Returns how far a target is from where the track should be, as its surprise; infinite beyond the gate."""
        variance = self.place_variance + NOISE_MM**2
        squared = (self.place.depth - seen.depth) ** 2 + (self.place.along - seen.along) ** 2
        if squared > (gate_mm * self.unseen) ** 2 or squared > GATE_SIGMAS**2 * variance:
            return inf
        return squared / variance + 2 * log(variance)

    def meet(self, seen: Point) -> None:
        alpha = self.place_variance / (self.place_variance + NOISE_MM**2)
        beta = self.covariance / (self.place_variance + NOISE_MM**2)
        off = Point(seen.depth - self.place.depth, seen.along - self.place.along)
        self.place = Point(self.place.depth + alpha * off.depth, self.place.along + alpha * off.along)
        self.speed = Point(self.speed.depth + beta * off.depth, self.speed.along + beta * off.along)
        self.speed_variance -= beta * self.covariance
        self.covariance *= 1 - alpha
        self.place_variance *= 1 - alpha
        self.reports += 1
        self.unseen = 0
        if self.reports >= SETTLED_REPORTS:
            self.depths.append(self.place.depth)

    def travelled(self, side: int) -> float:
        """Returns how far it has come lately towards one side, in mm."""
        return max((side * (self.place.depth - depth) for depth in self.depths), default=0.0)


class Tracker:
    """Counts who crosses the line `depth == 0`, from one report to the next. Used by one driver; bounded memory."""

    def __init__(
        self, gate_mm: int = GATE_MM, hysteresis_mm: int = HYSTERESIS_MM, min_reports: int = MIN_REPORTS
    ) -> None:
        self._gate_mm, self._hysteresis_mm, self._min_reports = gate_mm, hysteresis_mm, min_reports
        self._tracks: list[_Track] = []

    def report(self, seen: Sequence[Point]) -> list[Crossing]:
        """Takes the places of all targets of one report; returns the crossings that are complete with it."""
        if not self._tracks and not seen:
            return []
        for track in self._tracks:
            track.expect()
        pairs = sorted(
            (
                (surprise, track, target)
                for track, each in enumerate(self._tracks)
                for target, place in enumerate(seen)
                if (surprise := each.unlikeliness(place, self._gate_mm)) < inf
            ),
            key=itemgetter(0),
        )
        met: dict[int, int] = {}
        for _, track_at, target in pairs:
            if track_at not in met and target not in met.values():
                met[track_at] = target
        crossings = []
        for track_at, target in met.items():
            track = self._tracks[track_at]
            track.meet(seen[target])
            if direction := self._crossed(track):
                crossings.append(Crossing(direction, track.place.along))
        self._tracks = [track for track in self._tracks if track.unseen <= COAST_REPORTS]
        new = [place for target, place in enumerate(seen) if target not in met.values()]
        self._tracks += [_Track(place) for place in new]
        while len(self._tracks) > TRACKS_LIMIT:
            self._tracks.remove(max(self._tracks, key=lambda track: track.unseen))
        return crossings

    def interrupt(self) -> None:
        """Forgets all tracks: who is seen next may be anybody."""
        self._tracks.clear()

    def _crossed(self, track: _Track) -> int:
        """Returns the direction in which this report completes a crossing, or 0."""
        depth = track.place.depth
        side = 1 if depth > 0 else -1
        if track.counted:
            if abs(depth) >= ANEW_MM:
                track.counted, track.side = False, side
        elif abs(depth) >= self._hysteresis_mm:
            if track.side == 0:
                track.side = side
            elif side != track.side and track.reports >= self._min_reports and track.travelled(side) >= TRAVEL_MM:
                track.counted = True
                return side
        return 0
