"""From released nodes alone to figures that agree with each other, with their standard errors. Pure post-processing.

Within a civil day the released nodes of a stream are noisy sums over quarter-hours. Weighted least squares gives the
best unbiased estimate of every node from all of them together; children then sum to their parents. Days are
independent. Nothing is clipped: negative estimates stay, only drawings may stop at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from murmure_privacy.published import divisor, printed_name, unit
from murmure_privacy.release import Node, Noised, Outcome, Release
from murmure_privacy.window import Calendar

NORMAL_95 = 1.959964
_RANK_TOLERANCE = 1e-9

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Figure:
    """One published figure in printed units. `value` is what left the gateway (None where only the estimate exists),
    `sigma` the noise on it; `estimate` and its 95 % interval come from all nodes of the day together. `low` or `high`
    is None where the interval has no end (a level whose energy may be nothing). Times in seconds UTC."""

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


class _Tree:
    """Least squares over one day's released nodes of one scalar indicator, in released integers."""

    def __init__(self, rows: Sequence[tuple[Interval, int, float]]) -> None:
        # Instants at which some node begins or ends cut the day into atoms, so a partial node needs no special case.
        cuts = sorted({at for (start_s, end_s), _, _ in rows for at in (start_s, end_s)})
        self.cuts = cuts
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

    def sum(self, interval: Interval) -> tuple[float, float] | None:
        """Returns estimate and standard error of the sum over an interval, or None if the nodes do not determine it."""
        start, end = self._index.get(interval[0]), self._index.get(interval[1])
        if start is None or end is None:
            return None
        weights = np.zeros(len(self.cuts) - 1)
        weights[start:end] = 1
        projected = self._right @ weights
        if np.linalg.norm(self._right.T @ projected - weights) > 1e-6 * np.linalg.norm(weights):
            return None
        return float(weights @ self._solution), float(np.linalg.norm(self._scale * projected))


def _scalars(release: Release) -> list[Noised]:
    return [noised for noised in release.noised if len(noised.integers) == 1]


def _figure(
    node: Node,
    indicator: str,
    summed: tuple[float, float],
    released: Noised | None,
    state: Literal["provisional", "final"],
) -> Figure:
    by = divisor(node, indicator)
    estimate, error = summed[0] / by, summed[1] / by
    low: float | None = estimate - NORMAL_95 * error
    high: float | None = estimate + NORMAL_95 * error
    return Figure(
        stream=node.stream,
        quantity=node.quantity,
        level=node.level,
        start_s=node.start_s,
        end_s=node.end_s,
        covered_from_s=node.covered_from_s,
        indicator=printed_name(node, indicator),
        unit=unit(node, indicator),
        value=None if released is None else released.integers[0] / by,
        sigma=None if released is None else released.sigma_milli / 1000 / by,
        estimate=estimate,
        standard_error=error,
        low=low,
        high=high,
        state=state,
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
    )


def figures(outcomes: Sequence[Outcome], timezone: str, now_s: int) -> list[Figure]:
    """Returns the figures of one stream: every scalar indicator of every node that is released or that the others of
    its day determine, ordered by level, start and indicator; LAeq is added wherever its energy is positive.

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
    released = {
        outcome.node.key: noised
        for outcome in members
        if isinstance(outcome, Release)
        for noised in outcome.noised
        if noised.indicator == indicator
    }
    tree = _Tree(
        [
            (
                (o.node.covered_from_s, o.node.end_s),
                released[o.node.key].integers[0],
                released[o.node.key].sigma_milli / 1000,
            )
            for o in members
            if o.node.key in released
        ]
    )
    found = []
    for outcome in members:
        node = outcome.node
        summed = tree.sum((node.covered_from_s, node.end_s))
        if summed is None:
            continue
        figure = _figure(node, indicator, summed, released.get(node.key), state)
        found.append(figure)
        if indicator == "energy":
            level = equivalent_level(figure)
            if level is not None:
                found.append(level)
    return found


def total(days: Sequence[Figure]) -> Figure | None:
    """Returns one figure for several whole days of one stream and indicator: the sum of counts, or the mean weighted by
    the time covered. None for no days or for levels in decibels (which do not add).

    Days are independent, so squared errors add.
    """
    if not days or days[0].indicator == "laeq_db":
        return None
    first = days[0]
    if first.quantity == "footfall":
        weights = [1.0 for _ in days]
    else:
        covered = [day.end_s - day.covered_from_s for day in days]
        weights = [part / sum(covered) for part in covered]
    estimate = sum(weight * day.estimate for weight, day in zip(weights, days, strict=True))
    error = sqrt(sum((weight * day.standard_error) ** 2 for weight, day in zip(weights, days, strict=True)))
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
        low=estimate - NORMAL_95 * error,
        high=estimate + NORMAL_95 * error,
        state="final" if all(day.state == "final" for day in days) else "provisional",
    )
