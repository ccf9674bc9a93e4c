"""People in front of a radar, by scenes that are hard on a tracker. SIMULATED, never measured.

What is true of a scene is `crossings(minute)`: how many people have passed the line to go on beyond it, each once.
Every minute is a function of (seed, scene, minute).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random

from .devices.base import S_PER_MINUTE, SLOTS_PER_MINUTE
from .devices.walkers import CROSSING_STEP_MS, FIRST_CROSSING_MS, LINE_MM, Walk, straight, walks
from .errors import SimError
from .street import poisson

# Sizes of groups on foot, in per cent: free groups follow a truncated Poisson law (James 1953, Coleman 1961).
_GROUP_SIZES = ((1, 71), (2, 21), (3, 6), (4, 2))
_MINUTE_MS = 60_000
_EARLIEST_MS, _LATEST_MS = 500, 58_000
_LONG_STAY_MS = 20_000
_BESIDE_MM = 1200


class People:
    """One scene. Implements `Source` (crossings only) and `Scene`; `per_min` is the mean number of people a minute."""

    over_capacity = 0

    def __init__(self, seed: int, scene: str = "ordinary", per_min: float = 6.0) -> None:
        if scene not in SCENES:
            raise SimError("people", "scene", f"{scene!r} is unknown", f"write one of {', '.join(SCENES)}")
        self.seed = seed
        self._per_min = per_min
        self._draw = SCENES[scene]
        self._scene = scene
        self.walks = lru_cache(maxsize=8)(self._walks)

    def crossings(self, minute: int) -> tuple[int, int]:
        """Returns how many people of a minute came in over the line, and how many went out."""
        inwards = [walk.inwards for walk in self.walks(minute) if walk.crosses_ms is not None]
        return sum(inwards), len(inwards) - sum(inwards)

    def dip_slots(self, minute: int) -> Sequence[int]:
        """The slots nearest to the crossings; a beam that sees two in one of them sees one."""
        times_ms = [walk.crosses_ms for walk in self.walks(minute) if walk.crosses_ms is not None]
        slots = {round((time_ms - FIRST_CROSSING_MS) / CROSSING_STEP_MS) for time_ms in times_ms}
        return sorted(min(max(slot, 0), SLOTS_PER_MINUTE - 1) for slot in slots)

    def level_tenths(self, minute: int) -> Sequence[int | None]:
        """Nothing is heard."""
        return [None] * S_PER_MINUTE

    def pm_tenths(self, minute: int) -> Sequence[tuple[int, int] | None]:
        """Nothing is in the air."""
        return [None] * S_PER_MINUTE

    def _walks(self, minute: int) -> Sequence[Walk]:
        draw = Random(f"{self.seed}/{self._scene}/{minute}")
        return self._draw(draw, minute, self.seed, self._per_min)


def _ordinary(draw: Random, minute: int, seed: int, per_min: float) -> list[Walk]:
    """Single people and small groups in echelon."""
    taken: set[int] = set()
    for _ in range(poisson(draw, per_min / _MEAN_GROUP)):
        (size,) = draw.choices(*zip(*_GROUP_SIZES, strict=True))
        first = draw.randrange(SLOTS_PER_MINUTE - size)
        # Two groups are never nearer than two free slots, or they would be one.
        if taken.isdisjoint(range(first - 2, first + size + 2)):
            taken.update(range(first, first + size))
    return walks(sorted(taken), minute, seed)


def _groups(draw: Random, minute: int, seed: int, per_min: float) -> list[Walk]:
    """Two or three abreast, half a metre to three quarters apart, over the line within a quarter of a second."""
    found = []
    for at_ms in _moments(draw, per_min / 2.5, 4_000):
        inwards, speed_mm_s = draw.random() < 0.5, draw.uniform(1100, 1500)
        spacing_mm = draw.randrange(500, 750)
        size = draw.choice((2, 3))
        for place in range(size):
            x_mm = round((place - (size - 1) / 2) * spacing_mm)
            found.append(_passing(at_ms + draw.randrange(250), inwards, speed_mm_s, x_mm))
    return found


def _pacing(draw: Random, minute: int, seed: int, per_min: float) -> list[Walk]:
    """Somebody on the telephone goes to and fro over the line, and is one person; others pass beside."""
    turns = draw.randint(4, 8)
    start_ms = draw.randrange(_EARLIEST_MS, _LONG_STAY_MS)
    inwards = draw.random() < 0.5
    near, far = (LINE_MM + sign * draw.randrange(700, 1200) for sign in (-1, 1))
    ys = [far if (turn % 2 == 0) is inwards else near for turn in range(turns + 1)]
    times = [start_ms]
    for _ in range(turns):
        times.append(times[-1] + draw.randrange(2_000, 2_400))
    points = tuple((ms, draw.randrange(-150, 150), y_mm) for ms, y_mm in zip(times, ys, strict=True))
    share = (LINE_MM - ys[0]) / (ys[1] - ys[0])
    return [Walk(points, round(times[0] + share * (times[1] - times[0])), inwards), *_beside(draw, per_min)]


def _loitering(draw: Random, minute: int, seed: int, per_min: float) -> list[Walk]:
    """Somebody waits on the line, a hand's breadth to either side, and goes on or back; others pass beside."""
    start_ms = draw.randrange(_EARLIEST_MS, 8_000)
    inwards, goes_on = draw.random() < 0.5, draw.random() < 0.5
    sign = 1 if inwards else -1
    points = [(start_ms, 0, LINE_MM + sign * 1300)]
    at_ms = start_ms + 1_100
    for _ in range(draw.randint(8, 30)):
        points.append((at_ms, draw.randrange(-80, 80), LINE_MM + draw.randrange(-100, 100)))
        at_ms += draw.randrange(700, 1_300)
    points.append((at_ms, 0, LINE_MM + sign * 120))
    leaves_at = LINE_MM + (-sign if goes_on else sign) * 1300
    points.append((at_ms + 1_200, 0, leaves_at))
    crosses_ms = at_ms + 120 * 1_200 // 1420 if goes_on else None
    return [Walk(tuple(points), crosses_ms, inwards), *_beside(draw, per_min)]


def _meeting(draw: Random, minute: int, seed: int, per_min: float) -> list[Walk]:
    """Two pass each other shoulder to shoulder, on the line or near it."""
    found = []
    for at_ms in _moments(draw, per_min / 2, 4_000):
        x_mm, beside_mm = draw.randrange(-500, 500), draw.randrange(400, 700)
        found.append(_passing(at_ms, True, draw.uniform(1100, 1600), x_mm))
        found.append(_passing(at_ms + draw.randrange(-400, 400), False, draw.uniform(1100, 1600), x_mm + beside_mm))
    return found


def _ghosts(draw: Random, minute: int, seed: int, per_min: float) -> list[Walk]:
    """A fan on the line that comes and goes, and short reflections of those who pass, behind a pane of glass."""
    found = _ordinary(draw, minute, seed, per_min)
    for walk in tuple(found):
        if draw.random() < 0.5:
            seen_ms = draw.randrange(walk.points[0][0], walk.points[0][0] + 1_500)
            x_mm, y_mm, _, _ = walk.at(seen_ms)
            found.append(_standing(seen_ms, draw.randrange(100, 300), round(x_mm) + 1_800, round(y_mm) + 900))
    fan_mm = LINE_MM + draw.randrange(-60, 60)
    at_ms = _EARLIEST_MS
    while at_ms < _LATEST_MS:
        stays_ms = draw.randrange(300, 3_000)
        found.append(_standing(at_ms, stays_ms, -2_600, fan_mm))
        at_ms += stays_ms + draw.randrange(2_000, 9_000)
    return found


def _runners(draw: Random, minute: int, seed: int, per_min: float) -> list[Walk]:
    """One at a time, at 2.8 to 4.2 m/s."""
    return [
        _passing(at_ms, draw.random() < 0.5, draw.uniform(2800, 4200), draw.randrange(-800, 800), in_view_ms=650)
        for at_ms in _moments(draw, per_min, 2_500)
    ]


def _crowd(draw: Random, minute: int, seed: int, per_min: float) -> list[Walk]:
    """Ten times as many: more than three at once, most of the time."""
    slots = sorted(draw.sample(range(SLOTS_PER_MINUTE), min(SLOTS_PER_MINUTE, poisson(draw, 10 * per_min))))
    return walks(slots, minute, seed)


_MEAN_GROUP = sum(size * share for size, share in _GROUP_SIZES) / 100
SCENES: dict[str, Callable[[Random, int, int, float], list[Walk]]] = {
    "ordinary": _ordinary,
    "groups": _groups,
    "pacing": _pacing,
    "loitering": _loitering,
    "meeting": _meeting,
    "ghosts": _ghosts,
    "runners": _runners,
    "crowd": _crowd,
}
"""Each draws the bodies of one minute from (its random numbers, the minute, the seed, people a minute)."""


def _moments(draw: Random, mean: float, apart_ms: int) -> list[int]:
    """Returns some moments of a minute, at least so far from each other and from the minute's edges."""
    places = range(apart_ms, _LATEST_MS - apart_ms, apart_ms)
    jitter_ms = apart_ms // 4
    chosen = draw.sample(places, min(len(places), poisson(draw, mean)))
    return sorted(at_ms + draw.randrange(-jitter_ms // 2, jitter_ms // 2) for at_ms in chosen)


def _passing(at_ms: int, inwards: bool, speed_mm_s: float, x_mm: int, in_view_ms: int = 1_000) -> Walk:
    """Returns a straight walk over the line at an instant of its own."""
    walk = straight(0, inwards, speed_mm_s, x_mm, in_view_ms)
    later_ms = at_ms - FIRST_CROSSING_MS
    return Walk(tuple((ms + later_ms, x, y) for ms, x, y in walk.points), at_ms, inwards)


def _beside(draw: Random, per_min: float) -> list[Walk]:
    """People who pass well to the side of somebody who stays."""
    found = []
    for at_ms in _moments(draw, per_min, 3_000):
        inwards = draw.random() < 0.5
        found.append(_passing(at_ms, inwards, draw.uniform(1200, 1600), -_BESIDE_MM if inwards else _BESIDE_MM))
    return found


def _standing(at_ms: int, for_ms: int, x_mm: int, y_mm: int) -> Walk:
    return Walk(((at_ms, x_mm, y_mm), (min(at_ms + for_ms, _MINUTE_MS - 1), x_mm, y_mm)))
