"""A week to try a policy on: made up here, or a recording that is public. Never readings that a gateway has seen.

The week becomes closed windows and these become releases by the code of a gateway: `recording.batches`, `OpenWindows`,
`Gate`, OpenDP's noise, and a ledger in memory that is thrown away. Nothing is stored, nothing is spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi, sin

from murmure_edge.gateway_db import GatewayDb
from murmure_privacy import street
from murmure_privacy.aggregate import Aggregate
from murmure_privacy.errors import ConfigError
from murmure_privacy.gate import Gate, Mechanism
from murmure_privacy.plan import IndicatorPlan, Plan
from murmure_privacy.policy import StreamPolicy
from murmure_privacy.recording import Recording, batches
from murmure_privacy.release import Outcome
from murmure_privacy.street import Levels
from murmure_privacy.window import QUARTER_S, Calendar, Window
from murmure_privacy.windowing import OpenWindows

DAYS = 7
INVENTED = ("animee", "calme")
RECORDED = "fichier"
_FOREVER_S = 1 << 40
_AT_ONCE = 256  # integers of noise that are drawn together
_DAY_S = 86_400

# Passages of a day at each hour, in thousandths: an ordinary day, a market on Saturday morning, a quiet Sunday.
_WORKDAY = (6, 4, 2, 2, 3, 8, 24, 62, 74, 46, 40, 52, 84, 76, 54, 50, 62, 88, 92, 66, 42, 30, 20, 13)
_SATURDAY = (14, 9, 6, 4, 3, 5, 12, 30, 66, 112, 128, 108, 62, 52, 56, 60, 62, 58, 50, 40, 28, 20, 16, 12)
_SUNDAY = (16, 10, 6, 4, 3, 4, 8, 14, 24, 40, 62, 76, 60, 52, 62, 74, 78, 66, 44, 30, 20, 14, 10, 6)
_PASSAGES = {"animee": 4200, "calme": 420}
_AIR_TENTHS = {"animee": 240, "calme": 90}
_COUNT_STEP_MS, _LEVEL_STEP_MS, _AIR_STEP_MS = QUARTER_S * 1000, 10_000, 60_000
_WEEKEND_TENTHS = 20  # by how much a weekend is quieter


@dataclass(frozen=True, slots=True)
class Week:
    """`rows` are those of a recording over `window`, whole civil days; `name` is INVENTED or RECORDED."""

    name: str
    rows: Recording
    window: Window


class Ahead:
    """The noise of a mechanism, drawn for many integers together: to ask OpenDP for each by itself takes ten times as
    long. Each integer of noise is used once. For draws that are thrown away, in one thread."""

    def __init__(self, mechanism: Mechanism) -> None:
        self._mechanism = mechanism
        self._noise: dict[IndicatorPlan, list[int]] = {}

    def prepare(self, indicator: IndicatorPlan) -> None:
        """Makes ready to draw. Raises MechanismError as the mechanism does."""
        self._mechanism.prepare(indicator)

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        """Returns the integers with fresh noise of the planned sigma on each. Raises MechanismError."""
        left = self._noise.setdefault(indicator, [])
        if len(left) < len(exact):
            many = replace(indicator, width=max(_AT_ONCE, len(exact)))
            left += self._mechanism.draw((0,) * many.width, many)
        return tuple(value + left.pop() for value in exact)


def monday_from(calendar: Calendar, at_s: int) -> int:
    """Returns the first Monday's midnight that is not earlier."""
    monday = calendar.node("1w", at_s)
    return monday.start_s if monday.start_s == at_s else monday.end_s


def invented(name: str, stream: StreamPolicy, calendar: Calendar, monday_s: int) -> Week:
    """Returns a made-up week from a Monday on. The same street gives the same week, whatever the policy."""
    window = Window(monday_s, calendar.node("1w", monday_s).end_s)
    make = {"count": _passages, "level": _levels, "mean": _air}[stream.quantity.kind]
    rows, step_ms = make(name, calendar, window)
    return Week(name, Recording(name, rows, step_ms, (stream.quantity.name,), ()), window)


def recorded(rows: Recording, calendar: Calendar, monday_s: int) -> Week:
    """Returns the first seven whole civil days of a recording, moved by whole days so that they lie in the week from a
    Monday on, each on its weekday. Raises ConfigError where not one day is whole."""
    first = calendar.day(rows.start_ms // 1000)
    if first.start_s * 1000 < rows.start_ms:
        first = calendar.day(first.end_s)
    days = [first]
    while len(days) < DAYS:
        days.append(calendar.day(days[-1].end_s))
    days = [day for day in days if day.end_s * 1000 <= rows.end_ms]
    if not days:
        raise ConfigError(rows.site, "readings", "hold no whole day", "give a recording of some days, best a week")
    weekday = calendar.civil_day(days[0].start_s).weekday()
    target = [calendar.day(monday_s)]
    for _ in range(weekday + len(days) - 1):
        target.append(calendar.day(target[-1].end_s))
    moved: list[tuple[int, int]] = []
    for day, onto in zip(days, target[weekday:], strict=True):
        shift_ms = (onto.start_s - day.start_s) * 1000
        moved += [(at + shift_ms, v) for at, v in rows.rows if day.start_s * 1000 <= at < day.end_s * 1000]
    window = Window(target[weekday].start_s, target[-1].end_s)
    moved = [(at, value) for at, value in moved if at < window.end_s * 1000]
    return Week(RECORDED, replace(rows, rows=sorted(dict(moved).items())), window)


def closed(week: Week, made: Plan, stream_id: str) -> list[Aggregate]:
    """Returns the exact nodes of a week under a plan, as a gateway would have closed them, started as it begins."""
    stream = made.streams[stream_id].stream
    windows = OpenWindows(made, week.window.start_s, [stream_id])
    found: list[Aggregate] = []
    for horizon_ms, readings in batches(week.rows, stream):
        windows.add(stream_id, readings)
        for _, aggregates in windows.close_due(min(horizon_ms // 1000, week.window.end_s)):
            found += aggregates
    return found


def under(aggregates: Sequence[Aggregate], made: Plan) -> list[Aggregate]:
    """Returns the same nodes as opened under another policy, which measures the stream in the same way."""
    return [Aggregate(replace(one.node, policy=made.policy.hash), one.sums) for one in aggregates]


def drawn(aggregates: Sequence[Aggregate], made: Plan, mechanism: Mechanism) -> list[Outcome]:
    """Returns what leaves the gate: one draw of the whole week, charged to a ledger that is then forgotten."""
    db = GatewayDb.in_memory()
    try:
        gate = Gate(db.ledger, mechanism)
        with db.transaction():
            return [gate.release(one, made, made.policy, _FOREVER_S) for one in aggregates]
    finally:
        db.close()


def _passages(name: str, calendar: Calendar, window: Window) -> tuple[list[tuple[int, int]], int]:
    rows = []
    for at_s in range(window.start_s, window.end_s, QUARTER_S):
        day = calendar.day(at_s)
        weekday = calendar.civil_day(at_s).weekday()
        shape = _SATURDAY if weekday == 5 else _SUNDAY if weekday == 6 else _WORKDAY
        number = (at_s - window.start_s) // QUARTER_S
        thousandths = shape[min(23, (at_s - day.start_s) // 3600)] * (
            1 + 0.2 * sin(number * 1.7) + 0.03 * (weekday % 3)
        )
        rows.append((at_s * 1000, round(_PASSAGES[name] * thousandths / 4000)))
    return rows, _COUNT_STEP_MS


def _levels(name: str, calendar: Calendar, window: Window) -> tuple[list[tuple[int, int]], int]:
    """The described streets of `policy preview`, each quarter-hour with all of its law's levels, somewhat quieter at
    weekends and not the same at each hour."""
    described = dict(zip(("calme", "animee"), street.described(), strict=True))[name]
    per_quarter = QUARTER_S * 1000 // _LEVEL_STEP_MS
    quantiles: dict[int, list[int]] = {}
    rows = []
    for at_s in range(window.start_s, window.end_s, QUARTER_S):
        second = (at_s - calendar.day(at_s).start_s) % _DAY_S
        law = described.quarters[_DAY_S + second]
        known = quantiles.setdefault(id(law), _quantiles(dict(law), per_quarter))
        weekday = calendar.civil_day(at_s).weekday()
        shift = round(15 * sin(2 * pi * (second / _DAY_S * 3 + weekday / 7))) - _WEEKEND_TENTHS * (weekday > 4)
        rows += [(at_s * 1000 + place * _LEVEL_STEP_MS, known[place] + shift) for place in range(per_quarter)]
    return rows, _LEVEL_STEP_MS


def _quantiles(law: Levels, count: int) -> list[int]:
    found, below, levels = [], 0.0, sorted(law.items())
    at = 0
    for place in range(count):
        while below + levels[at][1] < (place + 0.5) / count and at + 1 < len(levels):
            below += levels[at][1]
            at += 1
        found.append(levels[at][0])
    return found


def _air(name: str, calendar: Calendar, window: Window) -> tuple[list[tuple[int, int]], int]:
    rows = []
    middle = _AIR_TENTHS[name]
    for at_ms in range(window.start_s * 1000, window.end_s * 1000, _AIR_STEP_MS):
        days = (at_ms / 1000 - window.start_s) / _DAY_S
        share = 1 + 0.45 * sin(2 * pi * days / DAYS + 1) + 0.25 * sin(4 * pi * days) + 0.1 * sin(37 * days)
        rows.append((at_ms, max(0, round(middle * share))))
    return rows, _AIR_STEP_MS
