"""Footfall: errors of each node on the recorded days, ours and the peers'."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from murmure_privacy.estimate import figures
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import Plan
from murmure_privacy.recording import Recording
from murmure_privacy.window import QUARTER_S, Calendar

from . import kernel
from .errors import Error, Errors, summary
from .peers import PEERS, Budget, Leaves
from .recorded import Source, periods, read

EQUAL = '{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }'
WITH_WEEK = '{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1, "1w" = 1 }'
LENGTHS = {"15min": 1, "1h": 4, "6h": 24, "1d": 96}
"""Leaves of a node on an ordinary day."""
ORDINARY_LEAVES = 96

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Truth:
    """What really passed, from the rows alone: instants in s UTC, and crossings before each."""

    starts_s: np.ndarray[tuple[int], np.dtype[np.int64]]
    before: np.ndarray[tuple[int], np.dtype[np.int64]]

    @classmethod
    def of(cls, rows: Recording) -> Truth:
        """Returns the truth of a recording."""
        values = np.array([value for _, value in rows.rows], dtype=np.int64)
        starts = np.array([start_ms // 1000 for start_ms, _ in rows.rows], dtype=np.int64)
        return cls(starts, np.concatenate([[0], np.cumsum(values)]))

    def crossings(self, start_s: int, end_s: int) -> int:
        """Returns the sum of the rows that start in the interval."""
        first, end = np.searchsorted(self.starts_s, [start_s, end_s])
        return int(self.before[end] - self.before[first])


@dataclass(frozen=True, slots=True)
class Street:
    """One recorded counter: its whole days (or weeks) as exact aggregates, and the truth."""

    timezone: str
    spans: tuple[kernel.Span, ...]
    truth: Truth


def streets(sources: Sequence[Source], nodes: str = EQUAL) -> list[Street]:
    """Returns the counters of a recording through the kernel's windows. A row's crossings fall where it starts."""
    found = []
    for source in sources:
        made = kernel.planned(kernel.FOOTFALL.format(crossings=1, nodes=nodes), "1", source.timezone)
        stream = made.policy.streams[0]
        rows = read(source, stream)
        calendar = Calendar(source.timezone)
        wanted = list(periods(calendar, [level for level, _ in stream.nodes], rows.start_ms, rows.end_ms))
        found.append(Street(source.timezone, tuple(kernel.observed(made, rows.rows, wanted)), Truth.of(rows)))
    return found


def some_of(measured: Sequence[Street], every: int) -> list[Street]:
    """Returns the same counters with each so-many-th of their days (or weeks)."""
    return [replace(street, spans=street.spans[::every]) for street in measured]


def plan_for(street: Street, epsilon: str, nodes: str = EQUAL, crossings: int = 1) -> Plan:
    """Returns the plan of the footfall policy at this epsilon."""
    return kernel.planned(kernel.FOOTFALL.format(crossings=crossings, nodes=nodes), epsilon, street.timezone)


def ours(
    measured: Sequence[Street], epsilon: str, mechanism: DiscreteGaussian, repeats: int, nodes: str = EQUAL
) -> dict[str, Error]:
    """Returns the error of the final estimate by level, over all days of all counters, `repeats` draws each."""
    clusters: dict[str, list[Errors]] = {}
    for street in measured:
        stream = plan_for(street, epsilon, nodes).streams[kernel.STREAM]
        for released in kernel.releases(street.spans, stream, mechanism, repeats):
            found: dict[str, list[float]] = {}
            for figure in figures(released, street.timezone, released[-1].node.end_s):
                exact = street.truth.crossings(figure.start_s, figure.end_s)
                found.setdefault(figure.level, []).append(figure.estimate - exact)
            for level, errors in found.items():
                clusters.setdefault(level, []).append(np.array(errors))
    return {level: summary(members) for level, members in clusters.items()}


def ordinary_leaves(measured: Sequence[Street]) -> Leaves:
    """Returns the exact quarter-hours of the days of 24 hours, days x 96."""
    days = [
        [
            street.truth.crossings(at_s, at_s + QUARTER_S)
            for at_s in range(span.window.start_s, span.window.end_s, QUARTER_S)
        ]
        for street in measured
        for span in street.spans
    ]
    return np.array([day for day in days if len(day) == ORDINARY_LEAVES], dtype=np.int64)


def peers(
    measured: Sequence[Street], epsilon: str, mechanism: DiscreteGaussian, repeats: int, names: Sequence[str] = ()
) -> Mapping[str, dict[str, Error]]:
    """Returns the errors by mechanism and level on the ordinary days, at the budget of our plan."""
    leaves = np.repeat(ordinary_leaves(measured), repeats, axis=0)
    rho_micro = plan_for(measured[0], epsilon).streams[kernel.STREAM].rho_micro
    budget = Budget(float(epsilon), rho_micro, 1)
    found = {}
    for name in names or PEERS:
        blocks = PEERS[name](leaves, budget, tuple(LENGTHS.values()), mechanism)
        found[name] = {level: summary(list(blocks[length])) for level, length in LENGTHS.items()}
    return found


def stated(epsilon: str) -> dict[str, float]:
    """Returns the standard error that the estimator states for each level on an ordinary day, from the plan alone."""
    made = kernel.planned(kernel.FOOTFALL.format(crossings=1, nodes=EQUAL), epsilon, "UTC")
    stream = made.streams[kernel.STREAM]
    day = Calendar("UTC").day(0)
    blank = kernel.blank(kernel.observed(made, [], [day])[0], stream)
    return {figure.level: figure.standard_error for figure in figures(blank, "UTC", day.end_s)}
