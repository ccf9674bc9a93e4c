"""Half-open intervals of time and how nodes are aligned (contract 5). Instants are whole seconds since 1970, UTC."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from murmure_privacy.errors import MurmureError

QUARTER_S = 900
PARTS = ("day", "evening", "night")
"""Parts of the noise day, 06-18, 18-22 and 22-06 civil: together one level, of which a policy may name some."""

LEVELS = ("15min", "1h", "6h", *PARTS, "1d", "1w")
"""Every kind of node, finer ones first."""

SHARE_QUARTERS = {"15min": 1, "1h": 4, "6h": 24, "day": 32, "evening": 32, "night": 32, "1d": 96, "1w": 672}
"""Length of each level in the shares of the budget, in quarter-hours: that of the ordinary 24-hour day on every day,
and for the parts of a day their mean, since they share one share."""

ORDINARY_QUARTERS = {**SHARE_QUARTERS, "day": 48, "evening": 16}
"""Length of a node of each level on the ordinary 24-hour day, in quarter-hours."""

_PART_HOURS = {"day": (6, 18), "evening": (18, 22), "night": (22, 30)}
_WEEK = 7


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """`[start_s, end_s)`."""

    start_s: int
    end_s: int

    def __contains__(self, at_s: int) -> bool:
        return self.start_s <= at_s < self.end_s


class BadTimezone(MurmureError):
    """A timezone that does not exist here or whose offset is not whole hours: write another name."""

    exit_status = 2


class Calendar:
    """Aligned nodes of one site: quarter-hours and hours in UTC, six hours and days in civil time.

    A civil block with a clock change has 5 or 7 hours, a civil day 23 or 25; every boundary is on a whole hour UTC, so
    levels nest on every day. Raises BadTimezone for a name that is unknown.
    """

    def __init__(self, timezone: str) -> None:
        try:
            self.zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise BadTimezone(
                f"timezone {timezone!r} is unknown; write a name such as Europe/Paris (Debian package tzdata)"
            ) from error
        self.timezone = timezone
        self._last: dict[str, Window] = {}

    def require_whole_hours(self, first: date, last: date) -> None:
        """Raises BadTimezone if the offset is not whole hours on any civil day from `first` to `last`."""
        day = _uneven_day(self.zone, first, last)
        if day is not None:
            raise BadTimezone(f"timezone {self.timezone!r} is not whole hours from UTC on {day}; write one that is")

    def midnight(self, day: date) -> int:
        """Returns the instant at which the civil day begins."""
        return _instant(self.zone, day, 0)

    def civil_day(self, at_s: int) -> date:
        """Returns the civil date of an instant."""
        return datetime.fromtimestamp(at_s, self.zone).date()

    def day(self, at_s: int) -> Window:
        """Returns the civil day that contains the instant: 23, 24 or 25 hours."""
        return self.node("1d", at_s)

    def days(self, window: Window) -> list[Window]:
        """Returns the civil days that intersect a window, in order."""
        return [*_days(self, window)]

    def period(self, levels: Iterable[str], at_s: int) -> Window:
        """Returns the span around the instant at whose ends no node of a stream with these levels is open.

        A civil day; the week from Monday with `1w`; from 06:00 to 06:00 with parts of the day. Noise scales change
        there, and nodes of different periods share no observation.
        """
        named = set(levels)
        if "1w" in named:
            return self.node("1w", at_s)
        if named.isdisjoint(PARTS):
            return self.day(at_s)
        day = self.civil_day(at_s)
        spans = (
            Window(self._civil(day + timedelta(days=shift), 6), self._civil(day + timedelta(days=shift), 30))
            for shift in (-1, 0)
        )
        return next(window for window in spans if at_s in window)

    def node(self, level: str, at_s: int) -> Window:
        """Returns the aligned node of this level that contains the instant; of a part of the day that does not contain
        it, the next one."""
        last = self._last.get(level)
        if last is None or at_s not in last:
            last = self._last[level] = self._node(level, at_s)
        return last

    def _node(self, level: str, at_s: int) -> Window:
        if level in ("15min", "1h"):
            length_s = QUARTER_S * ORDINARY_QUARTERS[level]
            start_s = at_s - at_s % length_s
            return Window(start_s, start_s + length_s)
        day = self.civil_day(at_s)
        if level == "1w":
            monday = day - timedelta(days=day.weekday())
            return Window(self.midnight(monday), self.midnight(monday + timedelta(days=_WEEK)))
        if level in PARTS:
            first, last = _PART_HOURS[level]
            spans = (
                Window(self._civil(day + timedelta(days=shift), first), self._civil(day + timedelta(days=shift), last))
                for shift in (-1, 0, 1)
            )
            return next(window for window in spans if at_s < window.end_s)
        if level == "1d":
            return Window(self.midnight(day), self.midnight(day + timedelta(days=1)))
        edges = [self._civil(day, hour) for hour in (0, 6, 12, 18, 24)]
        return next(Window(*pair) for pair in pairwise(edges) if at_s < pair[1])

    def _civil(self, day: date, hour: int) -> int:
        """Returns the instant of an hour of a civil day; from 24 on, of the days after it."""
        return _instant(self.zone, day, hour)


# The centre asks for the same few nodes, days and midnights on behalf of thousands of sites.


@lru_cache(maxsize=64)
def calendar(timezone: str) -> Calendar:
    """Returns the calendar of a timezone, one for all sites. Raises BadTimezone."""
    return Calendar(timezone)


@lru_cache(maxsize=64)
def _days(of: Calendar, window: Window) -> tuple[Window, ...]:
    found = [of.day(window.start_s)]
    while found[-1].end_s < window.end_s:
        found.append(of.day(found[-1].end_s))
    return tuple(found)


@lru_cache(maxsize=4096)
def _instant(zone: ZoneInfo, day: date, hour: int) -> int:
    on = day + timedelta(days=hour // 24)
    return int(datetime.combine(on, time(hour % 24), zone).timestamp())


@lru_cache(maxsize=1024)
def _uneven_day(zone: ZoneInfo, first: date, last: date) -> date | None:
    """Returns the first civil day whose offset is not whole hours."""
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    offsets = ((day, datetime.combine(day, time(12), zone).utcoffset()) for day in days)
    return next((day for day, offset in offsets if offset is None or offset % timedelta(hours=1)), None)


def next_quarter(at_s: int) -> int:
    """Returns the first quarter-hour that is not earlier."""
    return -(-at_s // QUARTER_S) * QUARTER_S


@lru_cache(maxsize=4096)
def utc(at_s: int) -> str:
    """Returns an instant as text, e.g. `2026-11-21T14:00:00Z`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_utc(text: str) -> int:
    """Returns the instant of a text such as `2026-11-21T14:00:00Z`. Raises ValueError without the `Z`."""
    if not text.endswith("Z"):
        raise ValueError(f"{text!r} is not UTC with a Z at its end")
    return int(datetime.fromisoformat(text).timestamp())
