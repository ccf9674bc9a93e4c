"""From released nodes alone to figures that agree with each other, with their standard errors. Pure post-processing.

Released nodes are noisy sums over quarter-hours. Weighted least squares over their tree gives the best unbiased
estimate of every node, and of any other range they determine, from all of them together; children then sum to their
parents. Nodes of different periods (`Calendar.period`) share no observation. Each new node can only make a standard
error smaller; figures are provisional until their period is over. Nothing is clipped: negative estimates stay, only
drawings may stop at zero.

Slots without a reading were filled with a public constant (contract 5), so a released sum is that of a filled series.
How many they were is public too (`present`), and so is how far they can have moved a mean: intervals are widened by it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import sqrt
from typing import Literal

from murmure_privacy.frozen import quick
from murmure_privacy.levels import (
    EXCEEDED,
    LOUD_DB,
    NORMAL_95,
    SHARE_OVER,
    WIDEST_MARGIN_DB,
    Estimate,
    Histogram,
    decibels,
    equivalent,
    margin,
)
from murmure_privacy.published import divisor, filling, histogram, printed_name, unit
from murmure_privacy.release import Node, Noised, Outcome, Release
from murmure_privacy.tree import Forest, Observation, Silence, union
from murmure_privacy.window import LEVELS, PARTS, Calendar, Window

State = Literal["provisional", "final"]

_TWENTIETHS = 20
_LDEN_WEIGHTS = {"day": 12 / 24, "evening": 4 * 10**0.5 / 24, "night": 8 * 10 / 24}
"""Hours of each part with its penalty of 0, 5 and 10 dB (directive 2002/49/EC, annex I)."""
_NOT_LINEAR = {"laeq_db", "ln_db", "lden_db", *EXCEEDED}


@dataclass(frozen=True, slots=True)
class Figure:
    """One published figure in printed units. `value` is what left the gateway (None where there is no such single
    number), `sigma` the noise on it; `estimate` and its `standard_error` come from all nodes together. A level read off
    a histogram has no standard error of its own: it is given that of a normal law with the same 95 % interval.

    `absent`: the largest share, 0 to 1, of the covered time that can have gone without a reading. `fill`: what such
    moments count as, None for counts, which lack them. `low` to `high` holds, 19 times out of 20, the count of the
    sensor, or the mean that it would have shown had it never been silent: the noise's 95 % and, beyond them, as far as
    the filled moments can have moved the mean between the bounds of the histogram. `low` or `high` is None where the
    interval has no end (a level whose energy may be nothing, or that may lie beyond the bounds of the histogram). Times
    in seconds UTC."""

    stream: str
    quantity: str
    level: str
    start_s: int
    end_s: int
    covered_from_s: int
    indicator: str
    unit: str
    value: float | None
    sigma: float | None
    estimate: float
    standard_error: float
    low: float | None
    high: float | None
    state: State
    absent: float
    fill: float | None

    @property
    def margin(self) -> float:
        """Returns the half-width of the 95 % interval that noise alone makes."""
        return NORMAL_95 * self.standard_error

    @property
    def bound(self) -> bool:
        """Returns whether `estimate` is no estimate but the end that the interval has: a level exceeded during a share
        of the time that may lie in the first or in the last bin, and so anywhere beyond."""
        return self.indicator in EXCEEDED and (self.low is None or self.high is None)

    @property
    def publishable(self) -> bool:
        """Returns whether the figure may be shown as a number: one in dB only if its interval has two ends and neither
        is more than 3 dB away."""
        return self.unit != "dB" or margin(self.estimate, self.low, self.high) <= WIDEST_MARGIN_DB


_figure, _observation, _window = quick(Figure), quick(Observation), quick(Window)


@dataclass(frozen=True, slots=True)
class _Span:
    """What the figures of one interval share. `node`: one that is measured the same way."""

    node: Node
    level: str
    start_s: int
    end_s: int
    covered_from_s: int
    state: State
    absent: float

    def figure(
        self,
        indicator: str,
        unit: str,
        estimate: Estimate,
        fill: float | None,
        released: tuple[float, float] | None = None,
    ) -> Figure:
        """Returns a figure of printed name `indicator`. `released`: value and sigma as they left the gateway."""
        return _figure(
            *(self.node.stream, self.node.quantity, self.level, self.start_s, self.end_s, self.covered_from_s),
            *(indicator, unit, *(released or (None, None)), estimate.value, estimate.standard_error),
            *(estimate.low, estimate.high, self.state, self.absent, fill),
        )

    def scalar(
        self,
        indicator: str,
        summed: tuple[float, float],
        widened: tuple[float | None, float, float],
        released: tuple[float, float] | None = None,
    ) -> Figure:
        """Returns the figure of an estimate with its standard error. `widened`: what silent moments count as, and how
        far below and above it they may have been."""
        value, error = summed
        fill, below, above = widened
        low = value - NORMAL_95 * error - self.absent * below
        high = value + NORMAL_95 * error + self.absent * above
        estimate = Estimate(value, low, high, error)
        return self.figure(printed_name(self.node, indicator), unit(self.node, indicator), estimate, fill, released)

    def read_off(self, held: Histogram) -> list[Figure]:
        """Returns the levels exceeded during 10, 50 and 90 % of the time, and the share over 65 dB."""
        found = [self.figure(name, "dB", held.exceeded(share), held.fill_db) for name, share in EXCEEDED.items()]
        over = held.share_over(LOUD_DB)
        if over is not None:
            found.append(self.figure(SHARE_OVER, "1", over, held.fill_db))
        return found


class _Fit:
    """The released nodes of one indicator, each with its number among all nodes, and least squares over them."""

    def __init__(self, indicator: str, released: Sequence[tuple[int, Node, Noised]]) -> None:
        self.indicator = indicator
        self.released = released
        self.printed = printed_name(released[0][1], indicator)

    @cached_property
    def forest(self) -> Forest:
        return Forest(
            [
                _observation(
                    _covered(node), noised.integers, (noised.sigma_milli / 1000) ** 2, (node.cadence_ms, node.bounds)
                )
                for _, node, noised in self.released
            ]
        )

    @cached_property
    def covered(self) -> list[Window]:
        return sorted(_covered(node) for _, node, _ in self.released)


class Series:
    """All nodes of one stream that have closed so far, and what they say together.

    `levels`: those of the stream's policy, of which some may not have closed yet; the levels that are seen are added.
    A node that overlaps another without nesting, which no gateway of ours makes, is estimated from itself alone.
    """

    def __init__(self, outcomes: Sequence[Outcome], timezone: str, levels: Collection[str] = ()) -> None:
        self._calendar = Calendar(timezone)
        self._levels = {*levels, *(outcome.node.level for outcome in outcomes)}
        self._period = Window(0, 0)
        covered = [_covered(outcome.node) for outcome in outcomes]
        silent = [(_TWENTIETHS - o.node.present) / _TWENTIETHS * _length_s(o.node) for o in outcomes]
        self._silence = Silence(covered, silent)
        released: dict[str, list[tuple[int, Node, Noised]]] = {}
        for number, outcome in enumerate(outcomes):
            for noised in outcome.noised if isinstance(outcome, Release) else ():
                released.setdefault(noised.indicator, []).append((number, outcome.node, noised))
        self._fits = {indicator: _Fit(indicator, tuple(nodes)) for indicator, nodes in released.items()}

    def figures(self, now_s: int) -> list[Figure]:
        """Returns the figures of every released node: its own indicators, LAeq wherever its energy is positive, and
        L10, L50, L90 and the share over 65 dB of a histogram. Ordered by level, start and indicator. A withheld node
        has no figure, even where the others would determine one."""
        found: list[Figure] = []
        for indicator, fit in self._fits.items():
            for node, noised, sums, error, span in self._estimated(fit, now_s):
                if indicator == "histogram":
                    found += span.read_off(self._histogram(node, sums, error, span))
                    continue
                by = divisor(node, indicator)
                own = noised.integers[0] / by, noised.sigma_milli / 1000 / by
                figure = span.scalar(indicator, (sums[0], error), filling(node, indicator), own)
                found.append(figure)
                if indicator == "energy":
                    found += _present(equivalent_level(figure))
        order = {level: number for number, level in enumerate(LEVELS)}
        return sorted(found, key=lambda f: (order[f.level], f.start_s, f.indicator))

    def bins(self, now_s: int) -> list[Figure]:
        """Returns the time in each bin of every released histogram, in seconds: `histogram_s_55_60_db` from 55 dB up to
        60. The first bin also holds what is lower, the last one what is higher; all together are as long as the node.
        """
        found: list[Figure] = []
        fit = self._fits.get("histogram")
        for node, noised, sums, error, span in self._estimated(fit, now_s) if fit else ():
            held = self._histogram(node, sums, error, span)
            by = divisor(node, "histogram")
            for edges, estimate, value in zip(pairwise(held.edges_db), held.bins(), noised.integers, strict=True):
                name = "histogram_s_{:g}_{:g}_db".format(*edges)
                own = value / by, noised.sigma_milli / 1000 / by
                found.append(span.figure(name, "s", estimate, held.fill_db, own))
        return found

    def _estimated(self, fit: _Fit, now_s: int) -> Iterator[tuple[Node, Noised, list[float], float, _Span]]:
        """Yields each released node of an indicator, what was released, and in printed units the best estimate of its
        sums with the standard error of each."""
        for (sums, variance), (number, node, noised) in zip(fit.forest.estimates, fit.released, strict=True):
            absent = self._silence.most_s[number] / _length_s(node)
            state = self._state(_covered(node), now_s)
            span = _Span(node, node.level, node.start_s, node.end_s, node.covered_from_s, state, absent)
            by = divisor(node, fit.indicator)
            yield node, noised, [value / by for value in sums], sqrt(variance) / by, span

    @staticmethod
    def _histogram(node: Node, seconds: Sequence[float], error: float, span: _Span) -> Histogram:
        length_s = _length_s(node)
        return histogram(node, seconds, error, length_s, span.absent * length_s)

    def over(self, indicator: str, windows: Sequence[Window], now_s: int) -> Figure | None:
        """Returns the figure of all the windows together, with its exact standard error, or None where the released
        nodes do not determine it.

        `indicator`: a printed name, as in `Figure`. `windows`: of whole quarter-hours, in order, sharing no moment;
        they may span days and weeks. Counts add; means, levels and shares are those of the whole time. Also None for a
        LAeq whose energy is not positive, and for a level of a histogram whose bounds change within the windows.
        """
        fit = self._fit(indicator)
        parts = fit.forest.sums(windows) if fit else None
        if not fit or not parts:
            return None
        name = fit.indicator
        nodes = [_shortened(fit.released[part.root][1], part.length_s) for part in parts]
        whole_s = sum(part.length_s for part in parts)
        silent_s = self._silence.within(windows)
        state = self._state(Window(windows[0].start_s, windows[-1].end_s), now_s)
        start_s, end_s = windows[0].start_s, windows[-1].end_s
        span = _Span(nodes[0], "range", start_s, end_s, start_s, state, silent_s / whole_s)
        if name == "histogram":
            if any(node.bounds != nodes[0].bounds for node in nodes):
                return None
            by = [divisor(node, name) for node in nodes]
            columns = zip(*(part.sums for part in parts), strict=True)
            seconds = [sum(value / one for value, one in zip(column, by, strict=True)) for column in columns]
            sigma_s = sqrt(sum(part.variance / one**2 for part, one in zip(parts, by, strict=True)))
            held = histogram(nodes[0], seconds, sigma_s, whole_s, silent_s)
            return next((figure for figure in span.read_off(held) if figure.indicator == indicator), None)
        weights = [
            (1.0 if name == "crossings" else part.length_s / whole_s) / divisor(node, name)
            for part, node in zip(parts, nodes, strict=True)
        ]
        estimate = sum(weight * part.sums[0] for weight, part in zip(weights, parts, strict=True))
        variance = sum(weight**2 * part.variance for weight, part in zip(weights, parts, strict=True))
        fills = [filling(node, name) for node in nodes]
        fill = fills[0][0] if len({one[0] for one in fills}) == 1 else None
        widest = max(one[1] for one in fills), max(one[2] for one in fills)
        figure = span.scalar(name, (estimate, sqrt(variance)), (fill, *widest))
        return equivalent_level(figure) if indicator == "laeq_db" else figure

    def observed(self, indicator: str, window: Window) -> list[Window]:
        """Returns the parts of a window that released nodes inside it cover, in order."""
        fit = self._fit(indicator)
        covered = fit.covered if fit else []
        first = bisect_left(covered, window.start_s, key=lambda one: one.start_s)
        last = bisect_left(covered, window.end_s, key=lambda one: one.start_s)
        return union([one for one in covered[first:last] if one.end_s <= window.end_s])

    def since_midnight(self, indicator: str, now_s: int) -> Figure | None:
        """Returns the figure from the civil midnight before `now_s` to the last instant of the day at which a node had
        closed, or None where that is not determined (something in between was not released)."""
        day = self._calendar.day(now_s)
        closed = self.observed(indicator, Window(day.start_s, now_s))
        return self.over(indicator, [Window(day.start_s, closed[-1].end_s)], now_s) if closed else None

    def _fit(self, indicator: str) -> _Fit | None:
        """Returns the nodes from which a figure of this printed name comes."""
        read_off = {"laeq_db": "energy_mean", SHARE_OVER: "histogram_s"} | dict.fromkeys(EXCEEDED, "histogram_s")
        wanted = read_off.get(indicator, indicator)
        return next((fit for fit in self._fits.values() if fit.printed == wanted), None)

    def _state(self, window: Window, now_s: int) -> State:
        """A figure is final when no node that is not released yet can touch what it is about."""
        for at_s in (window.start_s, window.end_s - 1):
            if at_s not in self._period:
                self._period = self._calendar.period(self._levels, at_s)
        return "final" if self._period.end_s <= now_s else "provisional"


def figures(outcomes: Sequence[Outcome], timezone: str, now_s: int, levels: Collection[str] = ()) -> list[Figure]:
    """Returns the figures of one stream's released nodes as `Series.figures` does; arguments as those of `Series`."""
    return Series(outcomes, timezone, levels).figures(now_s)


def range_figure(
    outcomes: Sequence[Outcome],
    indicator: str,
    from_s: int,
    until_s: int,
    timezone: str,
    now_s: int,
    levels: Collection[str] = (),
) -> Figure | None:
    """Returns the figure of `[from_s, until_s)`, whole quarter-hours, as `Series.over` does."""
    return Series(outcomes, timezone, levels).over(indicator, [Window(from_s, until_s)], now_s)


def equivalent_level(energy: Figure, indicator: str = "laeq_db") -> Figure | None:
    """Returns LAeq in dB from a figure of mean energy, with the interval's ends carried over, or None if the estimate
    is not positive. `low` is None where the energy's lower end is not positive. `indicator`: another name for it."""
    level = equivalent(energy.estimate, energy.standard_error, energy.low, energy.high)
    if level is None:
        return None
    return replace(
        energy,
        indicator=indicator,
        unit="dB",
        value=decibels(energy.value),
        sigma=None,
        estimate=level.value,
        standard_error=level.standard_error,
        low=level.low,
        high=level.high,
        fill=decibels(energy.fill),
    )


def total(days: Sequence[Figure]) -> Figure | None:
    """Returns one figure for several whole days of one stream and indicator: the sum of counts, or the mean weighted by
    the time covered. None for no days or for levels in decibels, which do not add.

    Squared errors add, as those of days do that are independent. Those of days within a released week are negatively
    correlated: the error is then too large, and `Series.over` has the exact one. What silence may have moved adds up as
    it is. `fill` is None where the days do not agree on it.
    """
    if not days or days[0].indicator in _NOT_LINEAR:
        return None
    covered_s = [day.end_s - day.covered_from_s for day in days]
    adds = days[0].quantity == "footfall"
    return _weighted([(1.0 if adds else part / sum(covered_s), day) for part, day in zip(covered_s, days, strict=True)])


def lden(energies: Iterable[Figure]) -> Figure | None:
    """Returns the day-evening-night level of one or more noise days (06 to 06) from figures of mean energy of a stream
    with nodes `day`, `evening` and `night`; other levels and indicators are passed over.

    10 lg of the mean over the days of (12 E(day) + 4 10^0.5 E(evening) + 8 10 E(night)) / 24: energies first, decibels
    last; the weights are 12, 4 and 8 hours also when the clocks change. Only days of which all three parts were
    measured whole count. None where there is none, or where noise made the energy negative.
    """
    parts = {part: dict[int, Figure]() for part in PARTS}
    for figure in energies:
        if figure.indicator == "energy_mean" and figure.level in parts and figure.covered_from_s == figure.start_s:
            parts[figure.level][figure.start_s] = figure
    whole = []
    for day in parts["day"].values():
        evening = parts["evening"].get(day.end_s)
        night = parts["night"].get(evening.end_s) if evening else None
        if evening and night:
            whole.append((day, evening, night))
    if not whole:
        return None
    return equivalent_level(
        _weighted([(_LDEN_WEIGHTS[part.level] / len(whole), part) for day in whole for part in day]), "lden_db"
    )


def night_level(energies: Iterable[Figure]) -> Figure | None:
    """Returns Ln, the LAeq of the nights (22 to 06), from figures of mean energy of level `night`: the mean of the
    energies, then decibels. None where there is no night, or where noise made the energy negative."""
    nights = total([one for one in energies if one.indicator == "energy_mean" and one.level == "night"])
    return equivalent_level(nights, "ln_db") if nights else None


def _weighted(pairs: Sequence[tuple[float, Figure]]) -> Figure:
    """The sum of independent figures by weight."""
    of = [figure for _, figure in pairs]
    first = of[0]
    estimate = sum(weight * figure.estimate for weight, figure in pairs)
    error = sqrt(sum((weight * figure.standard_error) ** 2 for weight, figure in pairs))
    below = sum(w * (figure.estimate - figure.margin - figure.low) for w, figure in pairs if figure.low is not None)
    above = sum(w * (figure.high - figure.estimate - figure.margin) for w, figure in pairs if figure.high is not None)
    covered_s = [figure.end_s - figure.covered_from_s for figure in of]
    absent = sum(part * figure.absent for part, figure in zip(covered_s, of, strict=True)) / sum(covered_s)
    return replace(
        first,
        level="range",
        start_s=min(figure.start_s for figure in of),
        end_s=max(figure.end_s for figure in of),
        covered_from_s=min(figure.covered_from_s for figure in of),
        value=None,
        sigma=None,
        estimate=estimate,
        standard_error=error,
        low=estimate - NORMAL_95 * error - below,
        high=estimate + NORMAL_95 * error + above,
        state="final" if all(figure.state == "final" for figure in of) else "provisional",
        absent=absent,
        fill=first.fill if all(figure.fill == first.fill for figure in of) else None,
    )


def _covered(node: Node) -> Window:
    return _window(node.covered_from_s, node.end_s)


def _length_s(node: Node) -> int:
    return node.end_s - node.covered_from_s


def _shortened(node: Node, length_s: int) -> Node:
    """The node as if it covered this long: what its sums are divided by follows from that."""
    return replace(node, covered_from_s=node.end_s - length_s)


def _present(figure: Figure | None) -> list[Figure]:
    return [] if figure is None else [figure]
