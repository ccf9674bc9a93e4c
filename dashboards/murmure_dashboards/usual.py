"""Whether a day is as usual: beside the same weekday and hours of the weeks before, and never on the noise's word."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import fmean, stdev
from typing import Literal

from murmure_privacy.annotation import Annotation
from murmure_privacy.estimate import Series
from murmure_privacy.policies import Rules
from murmure_privacy.window import QUARTER_S, Calendar, Window

from murmure_dashboards.store import Store
from murmure_dashboards.views import LATE_S, NodeReader, StreamView

KINDS = ("usual", "usual laeq")
"""In the store: of a quantity's own indicator, and of the LAeq of a level."""
WEEKS, LEAST_WEEKS = 8, 4
LEAST_COVERAGE = 0.75
"""18 hours of a day: less of it is too little to say how the day was."""
STUDENT_95 = (3.182, 2.776, 2.571, 2.447, 2.365)
"""The two-sided 95 % of Student's t with 3 to 7 degrees of freedom: of 4 to 8 weeks."""


Place = Literal["more", "less", "usual", "unknown"]


@dataclass(frozen=True, slots=True)
class Usual:
    """What the weeks before lead to expect. `weeks`: how many could be used; with fewer than LEAST_WEEKS, `low` and
    `high` are None. Else a day like those lies between them 19 times out of 20: their scatter is that of the street and
    of the noise together."""

    weeks: int
    low: float | None
    high: float | None

    def place(self, low: float, high: float) -> Place:
        """Returns where an interval lies: only one that is wholly outside is more or less than usual."""
        if self.low is None or self.high is None:
            return "unknown"
        return "more" if low > self.high else "less" if high < self.low else "usual"


def expected(values: Sequence[float]) -> Usual:
    """Returns the prediction interval of the next value after these, which are as many as weeks."""
    if len(values) < LEAST_WEEKS:
        return Usual(len(values), None, None)
    middle = fmean(values)
    half = STUDENT_95[len(values) - LEAST_WEEKS] * stdev(values) * sqrt(1 + 1 / len(values))
    return Usual(len(values), middle - half, middle + half)


@lru_cache(maxsize=1024)  # all streams of a town ask for those of the same days
def same_weekdays(calendar: Calendar, span: Window) -> tuple[Window | None, ...]:
    """Returns the same hours of the same weekday, from its midnight on, in each of the eight weeks before, newest
    first; None in place of a day that is longer or shorter, since its clock was changed."""
    day = calendar.day(span.start_s)
    found: list[Window | None] = []
    for week in range(1, WEEKS + 1):
        then = calendar.day(day.start_s + 43_200 - week * 7 * 86_400)
        same = then.end_s - then.start_s == day.end_s - day.start_s
        found.append(Window(then.start_s, then.start_s + span.end_s - span.start_s) if same else None)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Past:
    """Looks at the weeks before, in the archive. `marks`: the annotations that hold. `store`: keeps what a day gave
    from its midnight to each of its quarter-hours, which a page asks for one after the other."""

    archive: NodeReader
    rules: Rules
    marks: Sequence[Annotation]
    calendar: Calendar
    now_s: int
    store: Store | None = None

    def usual(self, view: StreamView, indicator: str, span: Window) -> Usual:
        """Returns what the same weekday and hours of the last eight weeks lead to expect of a span of one day, from its
        midnight on. `indicator`: a printed name. Only final figures count, of spans that were measured (counts: all of
        it) between the same bounds and that nobody marked as faulty."""
        before = same_weekdays(self.calendar, span)
        found = [self._value(view, indicator, one) for one in before if one is not None]
        return expected([value for value in found if value is not None])

    def _value(self, view: StreamView, indicator: str, span: Window) -> float | None:
        marked = any(m.stream == view.stream and m.from_s < span.end_s and m.to_s > span.start_s for m in self.marks)
        length_s = span.end_s - span.start_s
        told = None if marked else self._told(view.stream, indicator, self.calendar.day(span.start_s), length_s)
        if told is None:
            return None
        policy_hash, by_length = told
        policy = self.rules.of(policy_hash)
        then = policy.stream(view.stream) if policy else None
        if then is None or view.rule is None or then.clamp != view.rule[1].clamp:
            return None  # readings that are held otherwise make another mean
        covered_s, estimate = by_length.get(length_s, (0, None))
        least = 1.0 if view.quantity.kind == "count" else LEAST_COVERAGE
        return estimate if covered_s >= least * length_s else None

    def _told(self, stream: str, indicator: str, day: Window, length_s: int) -> _Told | None:
        """Returns what is final of a day, at least of its first so many seconds; None where nothing is."""
        kind = KINDS[indicator == "laeq_db"]
        kept = self.store.read(kind, stream, Window(day.start_s, day.start_s + 1)) if self.store else {}
        if day.start_s in kept:
            until_s, policy_hash, by_length = marshal.loads(kept[day.start_s])
            if until_s + LATE_S <= self.now_s:
                return policy_hash, by_length
        seen = self.archive.outcomes(stream, day.start_s, day.end_s)
        newest = self.rules.newest(stream, seen)
        if newest is None:
            return None
        levels = self.rules.levels(stream, seen)
        until_s = self.calendar.period(levels, day.end_s - 1).end_s
        if until_s > self.now_s:
            return None
        lengths = range(QUARTER_S, day.end_s - day.start_s + 1, QUARTER_S) if self.store else (length_s,)
        series = Series(tuple(seen), self.calendar.timezone, levels)
        told = newest[0].hash, _by_length(series, indicator, day, lengths)
        known = all(self.rules.of(one.node.policy) for one in seen if one.node.policy)  # else it may come
        if self.store and known and until_s + LATE_S <= self.now_s:
            begin_s = min(day.start_s, *(one.node.start_s for one in seen))
            of = Window(begin_s, max(until_s, *(one.node.end_s for one in seen)))
            self.store.keep(kind, stream, day.start_s, of, marshal.dumps((until_s, *told)))
        return told


_Told = tuple[bytes, Mapping[int, tuple[int, float | None]]]
"""Of a day: the newest policy, and from midnight on for so many seconds how many were observed, and the estimate."""


def _by_length(
    series: Series, indicator: str, day: Window, lengths: Iterable[int]
) -> dict[int, tuple[int, float | None]]:
    found: dict[int, tuple[int, float | None]] = {}
    before: list[Window] = []
    last: tuple[int, float | None] = (0, None)
    for length_s in lengths:
        spans = series.observed(indicator, Window(day.start_s, day.start_s + length_s))
        if spans != before:
            figure = series.over(indicator, spans, day.end_s)
            last = sum(one.end_s - one.start_s for one in spans), None if figure is None else figure.estimate
            before = spans
        found[length_s] = last
    return found
