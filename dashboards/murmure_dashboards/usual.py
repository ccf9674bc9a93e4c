"""Whether a day is as usual: beside the same weekday and hours of the weeks before, and never on the noise's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Literal

from murmure_privacy.annotation import Annotation
from murmure_privacy.estimate import Series
from murmure_privacy.policies import Rules
from murmure_privacy.window import Calendar, Window

from murmure_dashboards.views import NodeReader, StreamView

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


def same_weekdays(calendar: Calendar, span: Window) -> list[Window | None]:
    """Returns the same hours of the same weekday, from its midnight on, in each of the eight weeks before, newest
    first; None in place of a day that is longer or shorter, since its clock was changed."""
    day = calendar.day(span.start_s)
    found: list[Window | None] = []
    for week in range(1, WEEKS + 1):
        then = calendar.day(day.start_s + 43_200 - week * 7 * 86_400)
        same = then.end_s - then.start_s == day.end_s - day.start_s
        found.append(Window(then.start_s, then.start_s + span.end_s - span.start_s) if same else None)
    return found


@dataclass(frozen=True, slots=True)
class Past:
    """Looks at the weeks before, in the archive. `marks`: the annotations that hold."""

    archive: NodeReader
    rules: Rules
    marks: Sequence[Annotation]
    calendar: Calendar
    now_s: int

    def usual(self, view: StreamView, indicator: str, span: Window) -> Usual:
        """Returns what the same weekday and hours of the last eight weeks lead to expect of a span of one day, from its
        midnight on. `indicator`: a printed name. Only final figures count, of spans that were measured (counts: all of
        it) between the same bounds and that nobody marked as faulty."""
        before = same_weekdays(self.calendar, span)
        found = [self._value(view, indicator, one) for one in before if one is not None]
        return expected([value for value in found if value is not None])

    def _value(self, view: StreamView, indicator: str, span: Window) -> float | None:
        marked = any(m.stream == view.stream and m.from_s < span.end_s and m.to_s > span.start_s for m in self.marks)
        day = self.calendar.day(span.start_s)
        seen = [] if marked else self.archive.outcomes(view.stream, day.start_s, day.end_s)
        if not seen:
            return None
        then = self.rules.newest(view.stream, seen)
        if then is None or view.rule is None or then[1].clamp != view.rule[1].clamp:
            return None  # readings that are held otherwise make another mean
        levels = self.rules.levels(view.stream, seen)
        if self.calendar.period(levels, day.end_s - 1).end_s > self.now_s:
            return None
        series = Series(tuple(seen), self.calendar.timezone, levels)
        spans = series.observed(indicator, span)
        least = 1.0 if view.quantity.kind == "count" else LEAST_COVERAGE
        if sum(one.end_s - one.start_s for one in spans) < least * (span.end_s - span.start_s):
            return None
        figure = series.over(indicator, spans, self.now_s)
        return None if figure is None else figure.estimate
