"""The days of a week that are over, as the page of the week needs them: worked out once, and laid before each today.

At every quarter-hour of a day the six days before it are the same. What their nodes say together is kept in the store,
which drops it with whatever comes late for one of them. Streams whose nodes reach over midnight, of parts of the day or
of weeks, are looked at whole: there the day that runs moves what was said of those before it.
"""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter

from murmure_privacy.annotation import Annotation
from murmure_privacy.estimate import Figure, total
from murmure_privacy.frozen import quick
from murmure_privacy.policies import Rules
from murmure_privacy.release import Release
from murmure_privacy.tree import union
from murmure_privacy.window import LEVELS, PARTS, Window

from murmure_dashboards.views import LATE_S, Amount, StreamView, marks_of

KIND = "days before"
"""In the store: of a stream, the days of a week before its last."""
_QUARTERS, _DAY = LEVELS[0], "1d"
_ACROSS = frozenset((*PARTS, "1w"))
"""Levels whose nodes may begin on one civil day and end on another."""
_QUICK = 1  # level of zlib
_figure, _window = quick(Figure), quick(Window)
_of_figure, _of_amount = (attrgetter(*(field.name for field in fields(of))) for of in (Figure, Amount))


@dataclass(frozen=True, slots=True)
class Before:
    """A stream on the days of a week before its last one, `window`, all of them final. `levels` and `first_s` as in
    `StreamView`; `bounds`: between which all its readings were held, the reading's unit. `scalar`: the figures of the
    quantity's own indicator, without those of quarter-hours that lie in another; `of_days`: all figures of the nodes
    of whole days; `withheld` as in `StreamView`. `days`: each day with its amount; `whole`: the figure of all that was
    observed, as long as that is; `covered`: that, in order; `fills`: what its silent moments count as. `habits`: by
    language, which days were unlike the same weekday of the weeks before, "" where that is not told."""

    window: Window
    levels: frozenset[str]
    first_s: int
    bounds: tuple[int, int]
    scalar: tuple[Figure, ...]
    of_days: tuple[Figure, ...]
    withheld: Mapping[tuple[str, int], str]
    days: tuple[tuple[Window, Amount | None], ...]
    whole: Figure | None
    covered: tuple[Window, ...]
    fills: tuple[float, ...]
    habits: Mapping[str, str]


def can_be_laid_before(today: StreamView) -> bool:
    """Returns whether a stream, as it is today, can be told together with days that were worked out before: something
    was released, the day runs, and what ended with the one before has had its time."""
    return (
        today.window.start_s + LATE_S <= today.now_s < today.window.end_s
        and _apart(today.levels)
        and any(isinstance(one, Release) for one in today.outcomes)
    )


def before(
    seen: StreamView, rules: Rules, amounts: Iterable[tuple[Window, Amount | None]], habits: Mapping[str, str]
) -> Before | None:
    """Returns what is to be kept of a stream over the days of a week before its last; None where these cannot be laid
    before another: nothing came, nodes reach over midnight, a policy may still come that explains them, levels or
    bounds changed, policies left the stream out, or a day is not final. `amounts`: of the days that are final, and have
    any."""
    bounds = {one.node.bounds for one in seen.outcomes}
    known = all(rules.of(one.node.policy) for one in seen.outcomes if one.node.policy)
    spans, final = seen.series.observed(seen.quantity.printed, seen.window), dict(amounts)
    days = [(day, final.get(day)) for day in seen.calendar.days(seen.window)]
    unknown = any(
        day not in final and any(span.start_s < day.end_s and span.end_s > day.start_s for span in spans)
        for day, _ in days
    )
    whole = _observed(seen, spans)
    if len(bounds) != 1 or not known or not _apart(seen.levels) or unknown or (spans and whole is None):
        return None
    if len({levels for _, levels in seen.eras}) > 1 or seen.left:
        return None
    longer = union([Window(one.covered_from_s, one.end_s) for one in seen.scalar.values() if one.level != _QUARTERS])
    return Before(
        window=seen.window,
        levels=seen.levels,
        first_s=seen.first_s,
        bounds=bounds.pop(),
        scalar=tuple(one for one in seen.scalar.values() if one.level != _QUARTERS or not _within(one, longer)),
        of_days=tuple(one for one in seen.figures if one.level == _DAY),
        withheld=seen.withheld,
        days=tuple(days),
        whole=whole,
        covered=tuple(spans),
        fills=_fills(seen),
        habits=habits,
    )


def week(days: Before, today: StreamView, marks: Sequence[Annotation]) -> StreamView | None:
    """Returns a stream over the days of a week and its last one, today; None where these were not measured alike. Its
    `outcomes` are today's alone, and `amount` gives the whole, each day, and any part of today. `marks`: as in
    `views.view`."""
    last = _observed(today, today.series.observed(today.quantity.printed, today.window))
    alike = {levels for _, levels in today.eras} == {days.levels} and not today.left
    alike = alike and all(one.node.bounds == days.bounds for one in today.outcomes)
    if last is None or not alike:
        return None
    window = Window(days.window.start_s, today.window.end_s)
    # All else is today's: also the newest policy, since something was released today.
    found = replace(
        today,
        window=window,
        whole=window,
        figures=(*days.of_days, *today.figures),
        scalar={**{(one.level, one.start_s): one for one in days.scalar}, **today.scalar},
        withheld={**days.withheld, **today.withheld},
        first_s=days.first_s,
        marks=marks_of(marks, today.stream, window),
    )
    found.know([*days.days, (today.window, today.amount(today.window)), (window, _together(days, last, today, found))])
    return found


def _apart(levels: frozenset[str]) -> bool:
    """Returns whether nodes of these levels keep within civil days, and are drawn as they are: hours that are made of
    quarter-hours need all of these."""
    return levels.isdisjoint(_ACROSS) and bool(levels) and (_QUARTERS not in levels or "1h" in levels)


def _observed(seen: StreamView, spans: Sequence[Window]) -> Figure | None:
    """Returns the figure of some spans of a stream, which begins so that it is as long as they are."""
    figure = seen.series.over(seen.quantity.printed, spans, seen.now_s)
    return figure and replace(figure, covered_from_s=figure.end_s - _length_s(spans))


def _together(days: Before, last: Figure, today: StreamView, whole: StreamView) -> Amount | None:
    """Returns the amount of all days. No node tells of two of them, so that their noise is independent."""
    figure = total([part for part in (days.whole, last) if part is not None])
    if figure is None or figure.low is None or figure.high is None:
        return None
    covered = [*days.covered, *today.series.observed(today.quantity.printed, today.window)]
    return Amount(
        estimate=figure.estimate,
        low=figure.low,
        high=figure.high,
        covered_s=_length_s(covered),
        absent=figure.absent,
        fills=tuple(sorted({*days.fills, *_fills(today)})),
        margin=figure.margin,
        publishable=figure.publishable,
        faulty_s=whole.faulty_s(covered),
    )


def _fills(view: StreamView) -> tuple[float, ...]:
    return tuple(sorted({one.fill for one in view.scalar.values() if one.absent and one.fill is not None}))


def _within(one: Figure, spans: Iterable[Window]) -> bool:
    return any(span.start_s <= one.covered_from_s and one.end_s <= span.end_s for span in spans)


def _length_s(spans: Iterable[Window]) -> int:
    return sum(span.end_s - span.start_s for span in spans)


def written(key: str, days: Before) -> bytes:
    """Returns these days as they are kept. `key`: the sum of what they follow from besides their nodes."""
    told = (
        *(key, _span(days.window), [*days.levels], days.first_s, days.bounds),
        [_of_figure(one) for one in days.scalar],
        [_of_figure(one) for one in days.of_days],
        dict(days.withheld),
        [(_span(day), _of_amount(amount) if amount else None) for day, amount in days.days],
        _of_figure(days.whole) if days.whole else None,
        *([_span(one) for one in days.covered], days.fills, dict(days.habits)),
    )
    return zlib.compress(marshal.dumps(told), _QUICK)


def read(key: str, window: Window, value: bytes) -> Before | None:
    """Returns the days of a window that were written, None where they were of another key or window, or otherwise."""
    try:
        held, of, levels, first_s, bounds, *told = marshal.loads(zlib.decompress(value))
        if held != key or of != _span(window):
            return None
        scalar, of_days, withheld, days, whole, covered, fills, habits = told
        return Before(
            *(window, frozenset(levels), first_s, bounds),
            tuple(_figure(*one) for one in scalar),
            tuple(_figure(*one) for one in of_days),
            withheld,
            tuple((_window(*day), Amount(*amount) if amount else None) for day, amount in days),
            _figure(*whole) if whole else None,
            *(tuple(_window(*one) for one in covered), fills, habits),
        )
    except (ValueError, EOFError, TypeError, zlib.error):
        return None


def _span(window: Window) -> tuple[int, int]:
    return window.start_s, window.end_s
