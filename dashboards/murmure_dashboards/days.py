"""Civil days of a stream, each worked out once: what months, years and « as usual » are made of.

A day that is over is a function of its nodes alone, so it is kept in the store; what the signed policies say of one
without nodes is laid over it here, the stewards' annotations by whoever tells of it: both may come later.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from murmure_privacy.estimate import Figure, equivalent_level, total
from murmure_privacy.frozen import quick
from murmure_privacy.policies import Rules
from murmure_privacy.stream import QUANTITIES
from murmure_privacy.window import PARTS, Calendar, Window

from murmure_dashboards import codes as codes_of
from murmure_dashboards.codes import Run
from murmure_dashboards.left_out import History, history
from murmure_dashboards.store import Store
from murmure_dashboards.views import LATE_S, ArchiveReader, StreamInfo, begun, view

KIND = "day"
_ENERGY = "energy_mean"


@dataclass(frozen=True, slots=True)
class Day:
    """One civil day of a stream. `of`: what of the time is told of it, from 06 to 06 where a stream has parts of the
    day, else the civil day itself. `until_s`: from when on its figures are final. `first_s`: from when on it was
    measured. `state`: `figure`, or why there is none, as in `views.Slot`; `hole`: why some of it is missing, "" where
    nothing is. `policy`: the hash of the newest one that its nodes name, b"" for none. `covered`: what was observed.
    `amount` is the total or mean of that in the quantity's own indicator, `energy` the mean energy of a level; both
    begin so that they are as long as what they cover. `fills`: what silent moments count as. `parts`: mean energies of
    the day, of the evening and of the night that ends on it, each where all of it was observed. `codes`: a line for the
    short code of each node that together make the amount. `hours`: the nodes that a table of the day shows; `energies`:
    those that the parts are made of."""

    span: Window
    of: Window
    until_s: int
    first_s: int
    state: str
    hole: str = ""
    policy: bytes = b""
    covered: tuple[Window, ...] = ()
    fills: tuple[float, ...] = ()
    amount: Figure | None = None
    energy: Figure | None = None
    parts: tuple[Figure, ...] = ()
    codes: str = ""
    hours: tuple[Run, ...] = ()
    energies: tuple[Run, ...] = ()

    @property
    def covered_s(self) -> int:
        """Returns how many seconds were observed."""
        return sum(one.end_s - one.start_s for one in self.covered)

    @property
    def whole(self) -> bool:
        """Returns whether all of it was observed."""
        return self.covered_s == self.length_s

    @property
    def length_s(self) -> int:
        """Returns how long it is."""
        return self.of.end_s - self.of.start_s

    @property
    def expected_s(self) -> int:
        """Returns how much of it was to be measured."""
        return self.of.end_s - self.first_s

    @property
    def laeq(self) -> Figure | None:
        """Returns the LAeq of what was observed, or None where there is none."""
        return equivalent_level(self.energy) if self.energy else None

    def over(self, now_s: int) -> bool:
        """Returns whether its figures are final and what was late has had its time."""
        return max(self.until_s, self.of.end_s) + LATE_S <= now_s


_day, _window, _quick_figure = quick(Day), quick(Window), quick(Figure)  # a year of a town has a million


@dataclass(frozen=True, slots=True)
class Days:
    """Gives days, from the store or else from the archive."""

    archive: ArchiveReader
    rules: Rules
    calendar: Calendar
    now_s: int
    store: Store
    _decided: dict[str, History] = field(init=False, repr=False, compare=False, default_factory=dict)

    def decided(self, info: StreamInfo) -> History:
        """Returns what the signed policies of its site say of a stream."""
        if info.stream not in self._decided:
            signed = self.archive.policies(info.site)
            self._decided[info.stream] = history(self.rules, signed, info.stream, self.calendar)
        return self._decided[info.stream]

    def of(self, info: StreamInfo, window: Window) -> tuple[Day, ...]:
        """Returns the civil days of a window of whole days, in order, today's as far as it has come."""
        began_s = self.archive.began_s(info.stream)
        kept = self.store.read(KIND, info.stream, window)
        first_s = self._first_s(info, window, began_s)
        return tuple(
            _before(span)
            if span.end_s <= first_s
            else self._judged(info, self._kept(info, span, kept.get(span.start_s), began_s) or self._made(info, span))
            for span in self.calendar.days(window)
        )

    def _first_s(self, info: StreamInfo, window: Window, began_s: int | None) -> int:
        """Returns when the day begins on which a stream was measured first, if that is within the window; else one of
        its ends. `began_s`: when its first node ended, which may have begun on a day before: a night does, a week."""
        if began_s is None or began_s <= window.start_s:
            return window.end_s if began_s is None else window.start_s
        nodes = [one.node for one in self.archive.outcomes(info.stream, began_s - 1, began_s)]
        first_s = min((node.covered_from_s for node in nodes if node.end_s <= self.now_s), default=began_s - 1)
        return min(max(window.start_s, self.calendar.day(first_s).start_s), window.end_s)

    def waits(self, info: StreamInfo, at_s: int) -> bool:
        """Returns whether an instant lies in a week of a stream with weeks alone, which may still come: by its policy,
        and not by its nodes."""
        levels = self._levels(info, at_s)
        ends_s = [self.calendar.node(level, at_s).end_s for level in levels]
        return min(ends_s, default=0) + LATE_S > self.now_s

    def _levels(self, info: StreamInfo, at_s: int) -> Sequence[str]:
        in_force = [policy for span, policy in self.decided(info).in_force if at_s in span]
        part = in_force[0].stream(info.stream) if in_force else None
        return [level for level, _ in part.nodes] if part else []

    def _judged(self, info: StreamInfo, day: Day) -> Day:
        """Returns a day with what the policies say of it: where nothing has come, it may be that nothing was to come,
        or not yet. They may be signed later than the day is over, so this is not kept."""
        if day.amount is not None or day.state not in ("gap", "no_policy", "awaited"):
            return day
        if any(one.holds(day.of) for one in self.decided(info).left):
            return replace(day, state="left", first_s=day.of.end_s)
        if day.state == "gap" and self.waits(info, day.span.start_s):
            return replace(day, state="awaited")
        return day

    def _kept(self, info: StreamInfo, span: Window, value: bytes | None, began_s: int | None) -> Day | None:
        day = _read(info, span, value) if value is not None else None
        if day is None or not day.over(self.now_s):
            return None
        # What came late may have begun days before: the store drops the days that it is of, and this is none of them.
        earlier = began_s is not None and began_s <= day.of.start_s < day.first_s
        return None if earlier else day

    def _made(self, info: StreamInfo, span: Window) -> Day:
        day, of = worked_out(self.archive, self.rules, info, span, self.calendar, self.now_s)
        if day.over(self.now_s):
            self.store.keep(KIND, info.stream, span.start_s, of, _written(day))
        return day


@lru_cache(maxsize=1024)  # of a year that has just begun, each stream asks for the same ones
def _before(span: Window) -> Day:
    return Day(span, span, span.end_s, span.end_s, "before")


def worked_out(
    archive: ArchiveReader, rules: Rules, info: StreamInfo, span: Window, calendar: Calendar, now_s: int
) -> tuple[Day, Window]:
    """Returns a civil day, and the span of the nodes that it was made of."""
    level = QUANTITIES[info.quantity].kind == "level"
    from_s = calendar.day(span.start_s - 1).start_s if level else span.start_s  # the night begins on the evening before
    seen = view(archive, rules, (), info, Window(from_s, span.end_s), calendar, now_s)
    heard = [one for one in seen.outcomes if one.node.end_s > span.start_s]
    of = calendar.period(PARTS, span.end_s - 1) if any(one.node.level in PARTS for one in heard) else span
    name, series = seen.quantity.printed, seen.series
    amount, covered = seen.amount(of), series.observed(name, of)
    reasons = Counter(reason for (_, start_s), reason in sorted(seen.withheld.items()) if start_s in of)
    why = reasons.most_common(1)[0][0] if reasons else seen.day_slot(of).state if amount is None else "gap"
    first_s, began_s = of.start_s, archive.began_s(info.stream)
    if began_s is not None and began_s > first_s:  # of one day of a stream
        began = begun(archive.outcomes(info.stream, of.start_s, of.end_s), began_s, of, now_s)
        first_s = began.at_s if began else first_s
    missing = sum(one.end_s - one.start_s for one in covered) < of.end_s - first_s and of.end_s + LATE_S <= now_s
    rule = rules.newest(info.stream, heard)
    held = series.observed(_ENERGY, of) if level else []
    parts = [(part, calendar.node(part, span.start_s)) for part in PARTS] if level else []
    whole = [(part, node) for part, node in parts if series.observed(_ENERGY, node) == [node]]
    in_order = sorted(whole, key=lambda part: part[1])
    energies = codes_of.Nodes.of_indicator(seen, _ENERGY) if whole else None
    day = Day(
        span=span,
        of=of,
        until_s=seen.whole.end_s,
        first_s=first_s,
        state="figure" if amount else why,
        hole=why if amount and missing else "",
        policy=rule[0].hash if rule else b"",
        covered=tuple(covered) if amount else (),
        fills=amount.fills if amount else (),
        amount=_as_day(series.over(name, covered, now_s), of, covered) if amount else None,
        energy=_as_day(series.over(_ENERGY, held, now_s), of, held) if held else None,
        parts=tuple(
            replace(figure, level=part, start_s=node.start_s, covered_from_s=node.start_s)
            for part, node in whole
            if (figure := series.over(_ENERGY, [node], now_s))
        ),
        codes=codes_of.day_lines(seen, of) if amount else "",
        hours=codes_of.hours(seen, of),
        energies=codes_of.runs(one for _, node in in_order for one in energies.tiling(node)) if energies else (),
    )
    return day, seen.whole


def _as_day(figure: Figure | None, of: Window, covered: Sequence[Window]) -> Figure | None:
    if figure is None:
        return None
    covered_s = sum(one.end_s - one.start_s for one in covered)
    return replace(figure, level="1d", start_s=of.start_s, end_s=of.end_s, covered_from_s=of.end_s - covered_s)


def together(figures: Sequence[Figure | None]) -> Figure | None:
    """Returns one figure for those of several days: a sum of counts, a mean by the time covered; None for none.

    Of days within one released week the error is an upper bound (`estimate.total`)."""
    known = [figure for figure in figures if figure is not None]
    return known[0] if len(known) == 1 else total(known)


def _written(day: Day) -> bytes:
    told: list[Any] = [[day.of.start_s, day.of.end_s], day.until_s, day.first_s, day.state, day.hole, day.policy.hex()]
    told.append([[one.start_s, one.end_s] for one in day.covered])
    told.append(day.fills)
    told += [_figure(one) if one else None for one in (day.amount, day.energy)]
    told += [[_figure(one) for one in day.parts], day.codes, day.hours, day.energies]
    return json.dumps(told, separators=(",", ":")).encode()


def _figure(one: Figure) -> list[Any]:
    return [
        *(one.level, one.indicator, one.unit, one.start_s, one.end_s, one.covered_from_s),
        *(one.estimate, one.standard_error, one.low, one.high, one.absent, one.fill),
    ]


def _read(info: StreamInfo, span: Window, value: bytes) -> Day | None:
    """Returns a day that was written, or None where it was written otherwise."""
    try:
        *told, parts, codes, hours_of, energies_of = json.loads(value)
        of, until_s, first_s, state, hole, policy, covered, fills, amount, energy = told
        hours, energies = (
            tuple((level, at_s, length_s, count) for level, at_s, length_s, count in one)
            for one in (hours_of, energies_of)
        )
        return _day(
            span,
            _window(*of),
            until_s,
            first_s,
            state,
            hole,
            bytes.fromhex(policy),
            tuple(_window(*one) for one in covered),
            tuple(fills),
            _drawn(info, amount) if amount else None,
            _drawn(info, energy) if energy else None,
            tuple(_drawn(info, one) for one in parts),
            codes,
            hours,
            energies,
        )
    except (ValueError, TypeError):
        return None


def _drawn(info: StreamInfo, told: Sequence[Any]) -> Figure:
    level, indicator, unit, start_s, end_s, covered_from_s, estimate, error, low, high, absent, fill = told
    whose = (info.stream, info.quantity, level, start_s, end_s, covered_from_s, indicator, unit, None, None)
    return _quick_figure(*whose, estimate, error, low, high, "final", absent, fill)
