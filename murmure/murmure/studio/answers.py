"""What a scenario would make people read: how often a message is right, which days change places, when a cap is full.

Expected numbers are in closed form: a published figure is the exact one with a normal error of the size that `policy
preview` states. Beside them stands what was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import combinations
from math import sqrt
from statistics import NormalDist

from murmure_privacy.aggregate import Aggregate
from murmure_privacy.estimate import Series
from murmure_privacy.gate import PRESENT_AT_LEAST
from murmure_privacy.plan import StreamPlan
from murmure_privacy.preview import standard_errors
from murmure_privacy.published import divisor
from murmure_privacy.release import Outcome
from murmure_privacy.window import LEVELS

_FOREVER_S = 1 << 40
_BUSY_SHARE = 0.15
_NORMAL = NormalDist()
APART = {"count": 0.05, "mean": 0.05, "level": 1.0}
"""By how much two neighbourhoods differ whose order is looked at: a share of a count or a concentration, or dB."""


@dataclass(frozen=True, slots=True)
class Point:
    """One node with its figure in the printed unit."""

    level: str
    start_s: int
    end_s: int
    value: float


@dataclass(frozen=True, slots=True)
class Message:
    """How many of so many intervals are above a threshold, how many of those are seen, how many missed, and how many
    are said to be above and are not. Whole numbers where they were counted, expectations where not."""

    of: int
    above: int
    seen: float
    missed: float
    invented: float

    @property
    def wrong(self) -> float:
        """Returns the share of intervals told wrong."""
        return (self.missed + self.invented) / max(1, self.of)


def own_indicator(made: StreamPlan) -> str | None:
    """Returns the indicator that a page shows of the stream, None where its policy leaves it out."""
    names = [name for name, _ in made.stream.indicators]
    return next((name for name in ("crossings", "mean") if name in names), None)


def told_level(made: StreamPlan, node: str) -> str:
    """Returns the level of which a page would tell one interval after another where a steward looks at `node`: itself,
    but hours rather than quarter-hours."""
    levels = [planned.level for planned in made.nodes]
    return next((level for level in LEVELS[1:] if level in levels), node) if node == LEVELS[0] else node


def day_level(made: StreamPlan) -> str | None:
    """Returns the level whose nodes of a week are put in order: days, else nights or other parts, None without any."""
    levels = [node.level for node in made.nodes]
    return next((level for level in ("1d", "night", "day", "evening") if level in levels), None)


def exact(aggregates: Sequence[Aggregate], levels: Sequence[str], indicator: str) -> list[Point]:
    """Returns what was counted or measured in the nodes of some levels, in order; a node with too few readings, which
    is withheld, and one that the week has only the end of are left out."""
    found = [
        Point(a.node.level, a.node.start_s, a.node.end_s, a.sums[indicator][0] / divisor(a.node, indicator))
        for a in aggregates
        if a.node.level in levels and a.node.present >= PRESENT_AT_LEAST and a.node.covered_from_s == a.node.start_s
    ]
    return sorted(found, key=lambda point: point.start_s)


def published(outcomes: Sequence[Outcome], made: StreamPlan, timezone: str, levels: Sequence[str]) -> list[Point]:
    """Returns the figures that a page shows of one draw, from all its nodes together."""
    series = Series(outcomes, timezone, [node.level for node in made.nodes])
    found = [
        Point(figure.level, figure.start_s, figure.end_s, figure.estimate)
        for figure in series.figures(_FOREVER_S)
        if figure.level in levels and figure.indicator == made.stream.quantity.printed
    ]
    return sorted(found, key=lambda point: point.start_s)


def threshold(points: Sequence[Point]) -> Decimal:
    """Returns a threshold that about one interval in seven of a week is above, two digits of it."""
    ranked = sorted((point.value for point in points), reverse=True)
    value = Decimal(ranked[int(len(ranked) * _BUSY_SHARE)])
    return max(value.normalize(Context(prec=2, rounding=ROUND_HALF_EVEN)), Decimal("0.1"))


def expected(points: Sequence[Point], errors: dict[str, float], limit: float) -> Message:
    """Returns what a message about a threshold is expected to be. `errors`: standard error by level."""
    above = seen = missed = invented = 0.0
    for point in points:
        said = _NORMAL.cdf((point.value - limit) / errors[point.level])
        if point.value > limit:
            above, seen, missed = above + 1, seen + said, missed + 1 - said
        else:
            invented += said
    return Message(len(points), int(above), seen, missed, invented)


def counted(points: Sequence[Point], shown: Sequence[Point], limit: float) -> Message:
    """Returns what it was with one draw: `shown` are its figures. What a cap withheld is not told at all."""
    pairs = [(point.value > limit, other.value > limit) for point, other in matched(points, shown)]
    return Message(
        len(pairs),
        sum(true for true, _ in pairs),
        sum(true and said for true, said in pairs),
        sum(true and not said for true, said in pairs),
        sum(said and not true for true, said in pairs),
    )


def matched(points: Sequence[Point], shown: Sequence[Point]) -> list[tuple[Point, Point]]:
    """Returns the nodes that both have, as pairs."""
    known = {(point.level, point.start_s): point for point in shown}
    return [(point, known[at]) for point in points if (at := (point.level, point.start_s)) in known]


def apart_error(made: StreamPlan, level: str, indicator: str) -> float:
    """Returns the standard error of the difference between two nodes of a level. That the week's own node draws days
    of one week together cancels in their difference."""
    alone = replace(made, nodes=tuple(node for node in made.nodes if node.level != "1w" or level == "1w"))
    return sqrt(2) * standard_errors(alone)[level, indicator]


def swapped(points: Sequence[Point], error: float) -> tuple[float, int]:
    """Returns how many pairs of nodes are expected to be told in the wrong order, and how many pairs differ. `error`:
    see `apart_error`."""
    pairs = [abs(a.value - b.value) for a, b in combinations(points, 2) if a.value != b.value]
    return sum(_NORMAL.cdf(-gap / error) for gap in pairs), len(pairs)


def swapped_in(points: Sequence[Point], shown: Sequence[Point]) -> int:
    """Returns how many pairs one draw tells in the wrong order."""
    both = matched(points, shown)
    return sum((a.value - b.value) * (c.value - d.value) < 0 for (a, c), (b, d) in combinations(both, 2))


def wrong_order(points: Sequence[Point], error: float, kind: str) -> float:
    """Returns how often, 0 to 1, a neighbourhood that is APART above one like this is told to be below it, on an
    ordinary node. `error`: see `apart_error`."""
    mean = sum(point.value for point in points) / len(points)
    gap = APART[kind] * (1 if kind == "level" else mean)
    return _NORMAL.cdf(-gap / error)


@dataclass(frozen=True, slots=True)
class Month:
    """A month of a cap's calendar: how many of its days are published and how many withheld."""

    first: date
    published: int
    withheld: int


def calendar_of(cap_days: int, span_days: int, valid_from: date, valid_until: date) -> list[Month]:
    """Returns what a cap leaves of each month of a policy's validity. `cap_days`: how many days fit into a span of
    `span_days`; every day spends its whole budget, and a day is free again as soon as the span has moved past one that
    was published."""
    months: list[Month] = []
    published_on: list[date] = []
    day = valid_from
    while day <= valid_until:
        while published_on and (day - published_on[0]).days >= span_days:
            published_on.pop(0)
        free = len(published_on) < cap_days
        if free:
            published_on.append(day)
        if not months or (months[-1].first.year, months[-1].first.month) != (day.year, day.month):
            months.append(Month(day, 0, 0))
        last = months[-1]
        months[-1] = Month(last.first, last.published + free, last.withheld + (not free))
        day += timedelta(days=1)
    return months
