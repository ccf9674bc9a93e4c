"""Recordings as the source of an emulated device, and the choice among them.

A recording is a CSV, optionally gzip, with the header `timestamp_utc,site,metric,value,unit`. Nothing is filled: a hole
in the recording is a hole on the wire.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median_low
from typing import NamedTuple
from zoneinfo import ZoneInfo

from .devices.base import AIR, FOOTFALL, MS_PER_S, NOISE, S_PER_MINUTE, SLOT_MS, SLOTS_PER_MINUTE
from .errors import SimError

_HEADER = ["timestamp_utc", "site", "metric", "value", "unit"]
# Which metrics make a series, best first; the second of a pair is taken where the recording has it.
_WANTED: dict[str, tuple[tuple[str, ...], ...]] = {
    FOOTFALL: (("in", "out"), ("pedestrians",), ("bicycles",)),
    NOISE: (("laeq_1s",), ("laeq_1min",), ("laeq_1h",)),
    AIR: (("pm2_5", "pm10"),),
}
_MS_PER_MINUTE = S_PER_MINUTE * MS_PER_S
_MOST_TENTHS = {NOISE: 65_534, AIR: 9_999}
_YEARS = range(1970, 2100)
_MOST_COUNTED = 1_000_000
_LONGEST_STEP_MS = 7 * 86_400_000  # rows further apart are no series: there is a hole between

DayTable = list[tuple[int, int, int]]
"""(source start, source end, shown from), all ms UTC: the recording's [start, end) is played from the third on."""


class Series(NamedTuple):
    """One site's recording of one quantity; `metrics` as in the file."""

    file: Path
    site: str
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """One metric of one site, by time. `step_ms` is the median distance between rows."""

    times_ms: array[int]
    values: array[float]
    step_ms: int

    @property
    def end_ms(self) -> int:
        """The end of the last row's interval."""
        return self.times_ms[-1] + self.step_ms


class Replay:
    """A recording, shown at the times of a day table (or its own). Implements `Source`.

    A footfall row's count becomes that many dips at random slots of its interval, drawn from (seed, row); what the beam
    cannot show is counted in `over_capacity`. Levels and particles are held until the next row, for at most 1.5 median
    steps.
    """

    def __init__(self, series: Series, seed: int = 0, days: DayTable | None = None) -> None:
        rows = load(series.file)
        found = [rows.get((series.site, metric)) for metric in series.metrics]
        self._rows = [each for each in found if each is not None]
        if not self._rows:
            raise SimError(
                str(series.file),
                "metric",
                f"holds no {' or '.join(series.metrics)} of {series.site}",
                "name a site and metric of the file",
            )
        self._seed = seed
        own = (min(r.times_ms[0] for r in self._rows), max(r.end_ms for r in self._rows))
        self.days: DayTable = sorted(days or [(own[0], own[1], own[0])], key=lambda day: day[2])
        self._shown_from = [day[2] for day in self.days]
        self._over: dict[int, int] = {}
        self._intervals = sorted(self._shown_intervals()) if series.metrics[0] in _FOOTFALL_METRICS else []
        self._starts = [interval[0] for interval in self._intervals]
        self._longest_ms = max((end - start for start, end, _ in self._intervals), default=0)
        self._placed = lru_cache(maxsize=64)(self._place)

    @property
    def over_capacity(self) -> int:
        """Crossings in the intervals asked so far that found no free slot."""
        return sum(self._over.values())

    @property
    def start_ms(self) -> int:
        """The first instant that it shows."""
        return self._shown_from[0]

    @property
    def end_ms(self) -> int:
        """The end of what it shows."""
        return max(shown + end - start for start, end, shown in self.days)

    def dip_slots(self, minute: int) -> Sequence[int]:
        """The slots of this minute that any row's interval has put a dip into."""
        start_ms = minute * _MS_PER_MINUTE
        first_slot = minute * SLOTS_PER_MINUTE
        slots: set[int] = set()
        at = bisect_right(self._starts, start_ms - self._longest_ms)
        while at < len(self._intervals) and self._intervals[at][0] < start_ms + _MS_PER_MINUTE:
            taken = self._placed(at)
            low = bisect_right(taken, first_slot - 1)
            high = bisect_right(taken, first_slot + SLOTS_PER_MINUTE - 1)
            slots.update(slot - first_slot for slot in taken[low:high])
            at += 1
        return sorted(slots)

    def level_tenths(self, minute: int) -> Sequence[int | None]:
        """The recorded level, held; only what two bytes cannot say is clipped."""
        return self._held(self._rows[0], minute, _MOST_TENTHS[NOISE])

    def pm_tenths(self, minute: int) -> Sequence[tuple[int, int] | None]:
        """Recorded PM2.5 and PM10, held; without a PM10 of its own the frame repeats PM2.5."""
        fine = self._held(self._rows[0], minute, _MOST_TENTHS[AIR])
        coarse = self._held(self._rows[-1], minute, _MOST_TENTHS[AIR])
        return [
            None if pm2_5 is None else (pm2_5, pm2_5 if pm10 is None else pm10)
            for pm2_5, pm10 in zip(fine, coarse, strict=True)
        ]

    def _held(self, rows: Rows, minute: int, most: int) -> list[int | None]:
        start_ms = minute * _MS_PER_MINUTE
        hold_ms = rows.step_ms * 3 // 2
        held: list[int | None] = []
        for shown_ms in range(start_ms, start_ms + _MS_PER_MINUTE, MS_PER_S):
            source_ms = self._source_ms(shown_ms)
            at = -1 if source_ms is None else bisect_right(rows.times_ms, source_ms) - 1
            if source_ms is None or at < 0 or source_ms - rows.times_ms[at] >= hold_ms:
                held.append(None)
            else:
                held.append(min(max(round(10 * rows.values[at]), 0), most))
        return held

    def _source_ms(self, shown_ms: int) -> int | None:
        at = bisect_right(self._shown_from, shown_ms) - 1
        if at < 0:
            return None
        start, end, shown = self.days[at]
        source_ms = start + shown_ms - shown
        return source_ms if source_ms < end else None

    def _shown_intervals(self) -> Iterator[tuple[int, int, int]]:
        counts: dict[int, int] = {}
        for rows in self._rows:
            for time_ms, value in zip(rows.times_ms, rows.values, strict=True):
                counts[time_ms] = counts.get(time_ms, 0) + max(0, round(value))
        times = sorted(counts)
        step_ms = min(rows.step_ms for rows in self._rows)
        for start, end, shown in self.days:
            low, high = bisect_right(times, start - 1), bisect_right(times, end - 1)
            for at in range(low, high):
                time_ms = times[at]
                until = min(time_ms + step_ms, end, times[at + 1] if at + 1 < len(times) else end)
                if counts[time_ms]:
                    yield shown + time_ms - start, shown + until - start, counts[time_ms]

    def _place(self, index: int) -> list[int]:
        start, end, count = self._intervals[index]
        free = range(-(-start // SLOT_MS), end // SLOT_MS)
        shown = min(count, len(free))
        self._over[index] = count - shown
        return sorted(Random(f"{self._seed}/{start}").sample(free, shown))


_FOOTFALL_METRICS = frozenset(metric for group in _WANTED[FOOTFALL] for metric in group)


@lru_cache(maxsize=64)
def load(file: Path) -> dict[tuple[str, str], Rows]:
    """Reads a recording: (site, metric) to its rows, by time.

    A row that stands there twice counts once. Raises SimError naming the file, the line and the mend for a wrong
    header, time or value, and for two rows of one instant that differ.
    """
    rows: dict[tuple[str, str], dict[int, float]] = {}
    instants: dict[str, int] = {}
    try:
        with file.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        opener = gzip.open if zipped else open
        with opener(file, "rt", encoding="utf-8-sig", newline="") as text:
            lines = csv.reader(text)
            if next(lines, None) != _HEADER:
                raise SimError(str(file), "line 1", "the header is another", f"write {','.join(_HEADER)}")
            for line in lines:
                if not line:
                    continue
                number = lines.line_num
                try:
                    stamp, site, metric, value_text, _ = line
                    instant = instants.get(stamp)
                    if instant is None:
                        instant = instants[stamp] = parse_instant_ms(stamp)
                    if not value_text.isascii() or "_" in value_text:  # which Python would read
                        raise ValueError(value_text)
                    value = float(value_text)
                except ValueError:
                    raise SimError(
                        str(file), f"line {number}", "is not a row", "write 2026-01-31T12:00:00Z,site,metric,1.5,unit"
                    ) from None
                if not math.isfinite(value):
                    raise SimError(str(file), f"line {number}", "the value is not finite", "leave the row out")
                if metric in _FOOTFALL_METRICS and not 0 <= value <= _MOST_COUNTED:
                    mend = f"write how many passed, 0 to {_MOST_COUNTED}, or leave the row out"
                    raise SimError(str(file), f"line {number}", f"the value {value:g} is no count", mend)
                held = rows.setdefault((site, metric), {})
                if held.setdefault(instant, value) != value:
                    problem = "another row has the same instant and another value"
                    raise SimError(str(file), f"line {number}", problem, "leave one of the two out")
    except OSError as error:
        raise SimError(str(file), "file", error.strerror or str(error), "name a recording") from None
    except UnicodeDecodeError:
        raise SimError(str(file), "bytes", "are not UTF-8 text", "save it as UTF-8") from None
    except (EOFError, zlib.error, csv.Error):
        raise SimError(str(file), "bytes", "is no CSV or gzip'd CSV", "name a recording") from None
    return {key: _by_time(held) for key, held in rows.items()}


def parse_instant_ms(stamp: str) -> int:
    """Returns `2026-01-31T12:00:00[.5]Z` in ms since 1970 UTC. Raises ValueError for anything else."""
    if not stamp.endswith("Z"):
        raise ValueError(stamp)
    # In integers from the epoch: a float of seconds would put some milliseconds one too low.
    instant = datetime.fromisoformat(stamp)
    if instant.year not in _YEARS:
        raise ValueError(stamp)
    since = instant.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(milliseconds=1)


def _by_time(held: dict[int, float]) -> Rows:
    times_ms = array("q", sorted(held))
    steps = [after - before for before, after in pairwise(times_ms)]
    step_ms = min(median_low(steps), _LONGEST_STEP_MS) if steps else 3_600_000
    return Rows(times_ms, array("d", [held[time_ms] for time_ms in times_ms]), step_ms)


def find_series(directory: Path, quantity: str) -> list[Series]:
    """Returns the series of a quantity (footfall, noise, air) in the recordings below a directory, by site and file."""
    found = []
    for file in sorted(directory.rglob("*.csv")) + sorted(directory.rglob("*.csv.gz")):
        held: dict[str, set[str]] = {}
        for site, metric in load(file):
            held.setdefault(site, set()).add(metric)
        for site, metrics in held.items():
            for group in _WANTED[quantity]:
                if group[0] in metrics or (quantity == FOOTFALL and not metrics.isdisjoint(group)):
                    found.append(Series(file, site, tuple(metric for metric in group if metric in metrics)))
                    break
    return sorted(found, key=lambda series: (series.site, str(series.file)))


def played_metrics(quantity: str) -> list[str]:
    """Returns the metrics that make a series of a quantity (footfall, noise, air)."""
    return [metric for group in _WANTED[quantity] for metric in group]


def ignored_metrics(directory: Path) -> list[tuple[Path, str, str]]:
    """Returns (file, site, metric) of every metric below a directory that no device here can play."""
    played = {metric for groups in _WANTED.values() for group in groups for metric in group}
    files = sorted(directory.rglob("*.csv")) + sorted(directory.rglob("*.csv.gz"))
    return [(file, site, metric) for file in files for site, metric in sorted(load(file)) if metric not in played]


def choose_series(directory: Path, quantity: str, days: int, timezone: str = "Europe/Paris") -> list[Series]:
    """Returns the series to play: those that hold `days` whole consecutive local days first, then by site's name."""
    return sorted(
        find_series(directory, quantity),
        key=lambda series: (whole_days(series, timezone) < days, series.site, str(series.file)),
    )


def whole_days(series: Series, timezone: str = "Europe/Paris") -> int:
    """Returns how many whole local days lie between the series' first row and its last row's end."""
    zone = ZoneInfo(timezone)
    start_ms, end_ms = _span_ms(series)
    first = _first_whole_day(start_ms, zone)
    last = datetime.fromtimestamp(end_ms / MS_PER_S, zone).date()
    return max(0, (last - first).days)


def shift_days(series: Series, days: int, last_day: date, timezone: str = "Europe/Paris") -> DayTable:
    """Returns the table that plays the series' first `days` local days on the ones that end with `last_day`.

    Local midnight falls on local midnight: a day that is an hour longer than its source ends in an hour's hole, one
    that is shorter loses the last hour. A series without that many whole days begins with the day of its first row.
    """
    zone = ZoneInfo(timezone)
    start_ms, _ = _span_ms(series)
    if whole_days(series, timezone) >= days:
        first = _first_whole_day(start_ms, zone)
    else:
        first = datetime.fromtimestamp(start_ms / MS_PER_S, zone).date()
    table = []
    for back in range(days):
        source = first + timedelta(days=back)
        shown = last_day - timedelta(days=days - 1 - back)
        source_start, source_end = _midnight_ms(source, zone), _midnight_ms(source + timedelta(days=1), zone)
        shown_start, shown_end = _midnight_ms(shown, zone), _midnight_ms(shown + timedelta(days=1), zone)
        length_ms = min(source_end - source_start, shown_end - shown_start)
        table.append((source_start, source_start + length_ms, shown_start))
    return table


def _span_ms(series: Series) -> tuple[int, int]:
    rows = load(series.file)
    held = [rows[series.site, metric] for metric in series.metrics]
    return min(each.times_ms[0] for each in held), max(each.end_ms for each in held)


def _first_whole_day(start_ms: int, zone: ZoneInfo) -> date:
    day = datetime.fromtimestamp(start_ms / MS_PER_S, zone).date()
    return day if _midnight_ms(day, zone) >= start_ms else day + timedelta(days=1)


def _midnight_ms(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * MS_PER_S
