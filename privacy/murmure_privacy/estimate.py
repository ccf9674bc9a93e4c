"""From released nodes alone to figures that agree with each other, with their standard errors. Pure post-processing.

Within a civil day the released nodes of a stream are noisy sums over quarter-hours. Weighted least squares gives the
best unbiased estimate of every node from all of them together; children then sum to their parents. Days are
independent. Nothing is clipped: negative estimates stay, only drawings may stop at zero.

Slots without a reading were filled with a public constant (contract 5), so a released sum is that of a filled series.
How many they were is public too (`present`), and so is how far they can have moved a mean: intervals are widened by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from murmure_privacy.aggregate import energy
from murmure_privacy.published import divisor, printed_name, unit
from murmure_privacy.release import Node, Noised, Outcome, Release
from murmure_privacy.stream import QUANTITIES
from murmure_privacy.window import LEVELS, Calendar

NORMAL_95 = 1.959964
_RANK_TOLERANCE = 1e-9

_TWENTIETHS = 20

Interval = tuple[int, int]
Spans = dict[str, dict[int, tuple[int, float]]]
"""By level and first covered second: the end of a node, and the most of it that went without a reading."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One published figure in printed units. `value` is what left the gateway (None where there is no such single
    number), `sigma` the noise on it; `estimate` and its `standard_error` come from all nodes of the day together.

    `absent`: the largest share, 0 to 1, of the covered time that can have gone without a reading. `fill`: what such
    moments count as, None for counts, which lack them. `low` to `high` holds, 19 times out of 20, the count of the
    sensor, or the mean that it would have shown had it never been silent: the noise's 95 % and, beyond them, as far as
    the filled moments can have moved the mean. `low` or `high` is None where the interval has no end (a level whose
    energy may be nothing). Times in seconds UTC."""

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
    state: Literal["provisional", "final"]
    absent: float
    fill: float | None

    @property
    def margin(self) -> float:
        """Returns the half-width of the 95 % interval that noise alone makes."""
        return NORMAL_95 * self.standard_error


class _Tree:
    """Least squares over one day's released nodes of one scalar indicator, in released integers."""

    def __init__(self, rows: Sequence[tuple[Interval, int, float]]) -> None:
        # Instants at which some node begins or ends cut the day into atoms, so a partial node needs no special case.
        cuts = sorted({at for (start_s, end_s), _, _ in rows for at in (start_s, end_s)})
        self._index = {at: i for i, at in enumerate(cuts)}
        design = np.zeros((len(rows), len(cuts) - 1))
        observed = np.zeros(len(rows))
        for number, ((start_s, end_s), value, sigma) in enumerate(rows):
            design[number, self._index[start_s] : self._index[end_s]] = 1 / sigma
            observed[number] = value / sigma
        left, singular, right = np.linalg.svd(design, full_matrices=False)
        kept = singular > singular[0] * _RANK_TOLERANCE
        self._right = right[kept]
        self._scale = 1 / singular[kept]
        self._solution: NDArray[np.float64] = self._right.T @ (self._scale * (left.T[kept] @ observed))

    def sum(self, interval: Interval) -> tuple[float, float]:
        """Returns estimate and standard error of the sum over an interval that is a row or a sum of rows."""
        weights = np.zeros(len(self._index) - 1)
        weights[self._index[interval[0]] : self._index[interval[1]]] = 1
        projected = self._right @ weights
        return float(weights @ self._solution), float(np.linalg.norm(self._scale * projected))


def _scalars(release: Release) -> list[Noised]:
    return [noised for noised in release.noised if len(noised.integers) == 1]


def _filling(node: Node, indicator: str) -> tuple[float | None, float, float]:
    """Returns, in printed units, what a slot without a reading counts as, and how far below and above it the reading
    may have been: (None, 0, 0) for counts, since nothing bounds who passed."""
    if indicator not in ("mean", "energy"):
        return None, 0.0, 0.0
    low, high = node.bounds
    if indicator == "energy":
        floor = energy(low)
        return float(floor), 0.0, float(energy(high) - floor)
    middle, per_unit = (low + high) // 2, QUANTITIES[node.quantity].per_unit
    return middle / per_unit, (middle - low) / per_unit, (high - middle) / per_unit


def _spans(members: Sequence[Outcome]) -> Spans:
    spans: Spans = {level: {} for level in LEVELS}
    for outcome in members:
        node = outcome.node
        silent = (_TWENTIETHS - node.present) / _TWENTIETHS
        spans.setdefault(node.level, {})[node.covered_from_s] = (node.end_s, silent)
    return spans


def _absent(node: Node, spans: Spans) -> float:
    """Returns the most of a node that can have gone without a reading: what its own `present` leaves open, or less
    where the nodes of a finer level, which say it piece by piece, tile it whole."""
    most = (_TWENTIETHS - node.present) / _TWENTIETHS
    finer = LEVELS[: LEVELS.index(node.level)] if node.level in LEVELS else ()
    for level in finer:
        at_s, silent_s = node.covered_from_s, 0.0
        while at_s < node.end_s and at_s in spans[level]:
            end_s, silent = spans[level][at_s]
            silent_s += silent * (end_s - at_s)
            at_s = end_s
        if at_s == node.end_s:
            most = min(most, silent_s / (node.end_s - node.covered_from_s))
    return most


def _figure(
    node: Node,
    indicator: str,
    summed: tuple[float, float],
    released: Noised,
    absent: float,
    state: Literal["provisional", "final"],
) -> Figure:
    by = divisor(node, indicator)
    estimate, error = summed[0] / by, summed[1] / by
    fill, below, above = _filling(node, indicator)
    return Figure(
        stream=node.stream,
        quantity=node.quantity,
        level=node.level,
        start_s=node.start_s,
        end_s=node.end_s,
        covered_from_s=node.covered_from_s,
        indicator=printed_name(node, indicator),
        unit=unit(node, indicator),
        value=released.integers[0] / by,
        sigma=released.sigma_milli / 1000 / by,
        estimate=estimate,
        standard_error=error,
        low=estimate - NORMAL_95 * error - absent * below,
        high=estimate + NORMAL_95 * error + absent * above,
        state=state,
        absent=absent,
        fill=fill,
    )


def equivalent_level(energy: Figure) -> Figure | None:
    """Returns LAeq in dB from a figure of mean energy, with the interval's ends carried over, or None if the estimate
    is not positive. `low` is None where the energy's lower end is not positive."""
    if energy.estimate <= 0:
        return None

    def decibels(value: float | None) -> float | None:
        return 10 * log10(value) if value is not None and value > 0 else None

    level = 10 * log10(energy.estimate)
    return Figure(
        stream=energy.stream,
        quantity=energy.quantity,
        level=energy.level,
        start_s=energy.start_s,
        end_s=energy.end_s,
        covered_from_s=energy.covered_from_s,
        indicator="laeq_db",
        unit="dB",
        value=decibels(energy.value),
        sigma=None,
        estimate=level,
        standard_error=10 / np.log(10) * energy.standard_error / energy.estimate,
        low=decibels(energy.low),
        high=decibels(energy.high),
        state=energy.state,
        absent=energy.absent,
        fill=decibels(energy.fill),
    )


def figures(outcomes: Sequence[Outcome], timezone: str, now_s: int) -> list[Figure]:
    """Returns the figures of one stream: every scalar indicator of every released node, ordered by level, start and
    indicator; LAeq is added wherever its energy is positive. A withheld node has no figure, even where the others of
    its day would determine one.

    `outcomes`: all nodes of the days wanted. A day is `final` once it has ended by `now_s`.
    """
    calendar = Calendar(timezone)
    days: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        days.setdefault(calendar.day(outcome.node.start_s).start_s, []).append(outcome)
    found: list[Figure] = []
    for day_s, members in sorted(days.items()):
        state: Literal["provisional", "final"] = "final" if calendar.day(day_s).end_s <= now_s else "provisional"
        indicators = dict.fromkeys(
            noised.indicator for member in members if isinstance(member, Release) for noised in _scalars(member)
        )
        for indicator in indicators:
            found.extend(_day_figures(members, indicator, state))
    order = {level: number for number, level in enumerate(("15min", "1h", "6h", "1d"))}
    return sorted(found, key=lambda f: (order.get(f.level, 9), f.start_s, f.indicator))


def _day_figures(members: Sequence[Outcome], indicator: str, state: Literal["provisional", "final"]) -> list[Figure]:
    released = [
        (outcome.node, noised)
        for outcome in members
        if isinstance(outcome, Release)
        for noised in outcome.noised
        if noised.indicator == indicator
    ]
    tree = _Tree(
        [
            ((node.covered_from_s, node.end_s), noised.integers[0], noised.sigma_milli / 1000)
            for node, noised in released
        ]
    )
    spans = _spans(members)
    found = []
    for node, noised in released:
        summed = tree.sum((node.covered_from_s, node.end_s))
        figure = _figure(node, indicator, summed, noised, _absent(node, spans), state)
        found.append(figure)
        if indicator == "energy":
            level = equivalent_level(figure)
            if level is not None:
                found.append(level)
    return found


def total(days: Sequence[Figure]) -> Figure | None:
    """Returns one figure for several whole days of one stream and indicator: the sum of counts, or the mean weighted by
    the time covered. None for no days or for levels in decibels (which do not add).

    Days are independent, so squared errors add; what silence may have moved adds up as it is. `fill` is None where the
    days do not agree on it.
    """
    if not days or days[0].indicator == "laeq_db":
        return None
    first = days[0]
    covered = [day.end_s - day.covered_from_s for day in days]
    shares = [part / sum(covered) for part in covered]
    weights = [1.0 for _ in days] if first.quantity == "footfall" else shares
    pairs = list(zip(weights, days, strict=True))
    estimate = sum(weight * day.estimate for weight, day in pairs)
    error = sqrt(sum((weight * day.standard_error) ** 2 for weight, day in pairs))
    below = sum(w * (day.estimate - day.margin - day.low) for w, day in pairs if day.low is not None)
    above = sum(w * (day.high - day.estimate - day.margin) for w, day in pairs if day.high is not None)
    return Figure(
        stream=first.stream,
        quantity=first.quantity,
        level="range",
        start_s=min(day.start_s for day in days),
        end_s=max(day.end_s for day in days),
        covered_from_s=min(day.covered_from_s for day in days),
        indicator=first.indicator,
        unit=first.unit,
        value=None,
        sigma=None,
        estimate=estimate,
        standard_error=error,
        low=estimate - NORMAL_95 * error - below,
        high=estimate + NORMAL_95 * error + above,
        state="final" if all(day.state == "final" for day in days) else "provisional",
        absent=sum(share * day.absent for share, day in zip(shares, days, strict=True)),
        fill=first.fill if all(day.fill == first.fill for day in days) else None,
    )
