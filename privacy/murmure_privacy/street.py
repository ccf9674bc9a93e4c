"""Streets on which a preview says what levels would show: two described here, or one that was recorded.

A street is how often each level occurs in each quarter-hour, and, of a recorded one, how loud the loudest moment of
each event is. Nothing here has seen a running gateway: a recording is one that the steward gives, public or already
published. Concentrations have streets too; what is said of levels in tenths of a decibel then holds for tenths of a
microgram.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import erf, gcd, log10, sqrt

from murmure_privacy import recording
from murmure_privacy.aggregate import energy
from murmure_privacy.policy import StreamPolicy
from murmure_privacy.window import PARTS, QUARTER_S, Calendar, Window

Levels = dict[int, float]
"""Share of the time, 0 to 1, by level in tenths of a decibel; the shares sum to one."""

_REACH = 4  # standard deviations, beyond which a described street has no level
_LEAST_PRESENT = 0.5  # of a node's slots, below which it would be withheld
_MOST_NODES = 1000  # of one level: years of quarter-hours say no more


@dataclass(frozen=True)
class Street:
    """`quarters`: by start of the quarter-hour, how many slots had which level; `slots` is what a whole one has.

    `events`: the loudest readings of events of the protected length, each as a share of all events, wherever they
    begin; None where only the levels are described and not what follows on what. `stream`: the one whose sensor might
    have recorded it, and whose unit is that length; None: any stream of levels.
    """

    name: str
    says: str
    calendar: Calendar
    quarters: Mapping[int, Mapping[int, float]]
    slots: int
    events: Levels | None = None
    stream: str | None = None

    @cached_property
    def whole(self) -> Levels:
        """The levels of all of its time."""
        return self._pooled(list(self.quarters))

    def nodes(self, level: str) -> list[Levels]:
        """Returns the levels of the nodes of a kind that would have been released, at most a thousand of them, spread
        evenly; those of the whole street, as if it went on like this, where it is too short for one."""
        inside: dict[Window, list[int]] = {}
        for start_s in self.quarters:
            window = self.calendar.node(level, start_s)
            if start_s in window:
                inside.setdefault(window, []).append(start_s)
        found = []
        for window, quarters in inside.items():
            nominal = (window.end_s - window.start_s) / QUARTER_S * self.slots
            if sum(sum(self.quarters[start_s].values()) for start_s in quarters) >= _LEAST_PRESENT * nominal:
                found.append(quarters)
        spread = min(len(found), _MOST_NODES)
        return [self._pooled(found[at * len(found) // spread]) for at in range(spread)] or [self.whole]

    def left_out(self, tenths: int, unit_readings: int) -> float:
        """Returns the share of events of so many readings that touch one above a level: what a promise up to that level
        leaves out. Without `events` the largest that it can be, as if no two louder readings were near each other."""
        if self.events is None:
            return min(1.0, unit_readings * louder(self.whole, tenths))
        return louder(self.events, tenths)

    def _pooled(self, quarters: list[int]) -> Levels:
        pooled: Levels = {}
        for start_s in quarters:
            for level, slots in self.quarters[start_s].items():
                pooled[level] = pooled.get(level, 0.0) + slots
        together = sum(pooled.values())
        return {level: slots / together for level, slots in sorted(pooled.items())}


def laeq_db(levels: Levels, low: int = 0, high: int = 1400) -> float:
    """Returns 10 lg of the mean energy, levels held between `low` and `high` tenths of a decibel first."""
    return 10 * log10(mean_energy(levels, low, high))


def mean_energy(levels: Levels, low: int, high: int) -> float:
    """Returns the mean of 10^(L/10), levels held between `low` and `high` tenths of a decibel first."""
    return sum(share * energy(min(max(level, low), high)) for level, share in levels.items())


def louder(levels: Levels, tenths: int) -> float:
    """Returns the share of the time above a level."""
    return sum(share for level, share in levels.items() if level > tenths)


def binned(levels: Levels, edges: tuple[int, ...]) -> list[float]:
    """Returns the share of the time in each bin; the end bins hold what lies beyond them."""
    bins = [0.0] * (len(edges) - 1)
    width = edges[1] - edges[0]
    for level, share in levels.items():
        bins[min(max((level - edges[0]) // width, 0), len(bins) - 1)] += share
    return bins


def described() -> list[Street]:
    """Returns the two streets of reference. In each part of the day their levels follow a normal law in decibels, of
    this median and standard deviation, cut at four of them; the LAeq of a day is then 46 and 65 dB."""
    return [
        _normal("quiet street", ("day", 45, 5), ("evening", 42, 5), ("night", 36, 4)),
        _normal("busy street", ("day", 64, 5), ("evening", 62, 5.5), ("night", 55, 7)),
    ]


@cache  # a studio previews many policies on the same two
def _normal(name: str, *parts: tuple[str, int, float]) -> Street:
    calendar = Calendar("UTC")
    laws = {part: _law(median, deviation) for part, median, deviation in parts}
    quarters: dict[int, Mapping[int, float]] = {}
    for start_s in range(0, 2 * 24 * 3600, QUARTER_S):  # two days, so that a night is whole
        quarters[start_s] = next(laws[part] for part in PARTS if start_s in calendar.node(part, start_s))
    said = ", ".join(f"{part} {median} ± {deviation:g}" for part, median, deviation in parts)
    return Street(name, f"levels by a normal law, median ± standard deviation in dB: {said}", calendar, quarters, 1)


def _law(median: int, deviation: float) -> Levels:
    def below(tenths: float) -> float:
        return erf(tenths / 10 / deviation / sqrt(2)) / 2

    reach = round(10 * _REACH * deviation)
    shares = {10 * median + off: below(off + 0.5) - below(off - 0.5) for off in range(-reach, reach + 1)}
    whole = sum(shares.values())
    return {level: share / whole for level, share in shares.items()}


class _Events:
    """Counts runs of `length` consecutive slots by the loudest reading in each; every run ends with a reading. Runs
    that begin before the first reading, or before one that follows on as long a silence, are left out: nobody knows how
    loud they were."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._began = self._last = -length
        self._high: deque[tuple[int, int]] = deque()  # readings of the run, each louder than all that follow it
        self._counts: dict[int, int] = {}
        self._loudest = 0  # no level of a policy is below

    def add(self, slot: int, level: int) -> None:
        """Adds the reading of a slot; slots come in order."""
        if not self._high or slot - self._last >= self._length:
            self._began = slot
        self._last = slot
        while self._high and self._high[-1][1] <= level:
            self._high.pop()
        self._high.append((slot, level))
        while self._high[0][0] <= slot - self._length:
            self._high.popleft()
        loudest = self._high[0][1]
        self._loudest = max(self._loudest, loudest)
        if slot - self._length + 1 >= self._began:
            self._counts[loudest] = self._counts.get(loudest, 0) + 1

    def shares(self) -> Levels:
        """Returns the share of runs by their loudest reading; a recording shorter than one run is a run."""
        counts = self._counts or {self._loudest: 1}
        return {level: count / sum(counts.values()) for level, count in sorted(counts.items())}


def recorded(rows: recording.Recording, stream: StreamPolicy, timezone: str) -> Street:
    """Returns a recording as a street: one reading a slot, as a gateway would have had. A slot is as long as a step of
    the recording where that is a multiple of the policy's; an event then begins at each of the policy's slots."""
    step_ms = gcd(rows.step_ms, QUARTER_S * 1000)
    times = step_ms // stream.cadence_ms if step_ms % stream.cadence_ms == 0 else 1
    cadence_ms = times * stream.cadence_ms
    # n readings touch `short` steps or one more, depending on where in a step they begin.
    short, longer = divmod(stream.unit_readings - 1, times)
    lengths = {short + 1: (times - longer) / times, short + 2: longer / times}
    events = [(_Events(length), weight) for length, weight in lengths.items() if weight]
    quarters: dict[int, dict[int, float]] = {}
    last_slot = -1
    for _, readings in recording.batches(rows, replace(stream, cadence_ms=cadence_ms)):
        for time_ms, level in readings:
            slot = time_ms // cadence_ms
            if slot > last_slot:
                last_slot = slot
                quarter = quarters.setdefault(time_ms // (QUARTER_S * 1000) * QUARTER_S, {})
                quarter[level] = quarter.get(level, 0) + 1
                for one, _ in events:
                    one.add(slot, level)
    says = f"recorded, one reading every {rows.step_ms / 1000:g} s"
    if rows.step_ms > stream.cadence_ms:
        says += ", so that what is shorter is not in it"
    loudest: Levels = {}
    for one, weight in events:
        for level, share in one.shares().items():
            loudest[level] = loudest.get(level, 0.0) + weight * share
    slots = QUARTER_S * 1000 // cadence_ms
    return Street(rows.site, says, Calendar(timezone), quarters, slots, loudest, stream.id)
