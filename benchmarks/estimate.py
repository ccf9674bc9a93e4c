"""How long do estimates take? Two passes over the tree beside the dense weighted least squares that give the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import date

import numpy as np
from murmure_privacy.estimate import Series
from murmure_privacy.release import Node, Noised, Release
from murmure_privacy.tree import Forest, Observation
from murmure_privacy.window import QUARTER_S, Calendar, Window
from numpy.typing import NDArray

CALENDAR = Calendar("Europe/Paris")
DAY_S = CALENDAR.midnight(date(2026, 11, 17))
SIGMA_MILLI = {"15min": 8356, "1h": 9458, "6h": 9103, "1d": 9475, "1w": 9800}
ROUNDS = 5
AFTER_S = 1 << 40


def nodes(levels: Sequence[str]) -> list[Release]:
    """Returns every node of the period of a footfall stream with these levels."""
    period = CALENDAR.period(levels, DAY_S)
    found: list[Release] = []
    for level in levels:
        at_s = period.start_s
        while at_s < period.end_s:
            span = CALENDAR.node(level, at_s)
            at_s = span.end_s
            node = Node(
                "plaza/footfall", "footfall", level, span.start_s, at_s, span.start_s, 20, 1000, (0, 0), bytes(32)
            )
            value = (span.end_s - span.start_s) // 60 + len(found) % 17
            found.append(Release(node, (Noised("crossings", (value,), SIGMA_MILLI[level], 1),)))
    return found


def dense(releases: Sequence[Release]) -> NDArray[np.float64]:
    """Returns estimate and standard error of every node by the normal equations over quarter-hours."""
    first_s = min(one.node.start_s for one in releases)
    quarters = (max(one.node.end_s for one in releases) - first_s) // QUARTER_S
    design = np.zeros((len(releases), quarters))
    for number, one in enumerate(releases):
        design[number, (one.node.start_s - first_s) // QUARTER_S : (one.node.end_s - first_s) // QUARTER_S] = 1
    weights = np.array([1e6 / one.noised[0].sigma_milli ** 2 for one in releases])
    observed = np.array([float(one.noised[0].integers[0]) for one in releases])
    covariance = np.linalg.inv(design.T @ (weights[:, None] * design))
    solution = covariance @ (design.T @ (weights * observed))
    return np.array([design @ solution, np.sqrt(np.einsum("ij,jk,ik->i", design, covariance, design, optimize=True))])


def best_s(call: Callable[[], object]) -> float:
    """Returns the CPU seconds of the best of a few calls."""
    found = float("inf")
    for _ in range(ROUNDS):
        began_s = time.process_time()
        call()
        found = min(found, time.process_time() - began_s)
    return found


def measure(name: str, levels: Sequence[str]) -> None:
    """Prints CPU milliseconds of both for one period, after it has compared what they say."""
    releases = nodes(levels)
    observations = [
        Observation(
            Window(one.node.start_s, one.node.end_s),
            one.noised[0].integers,
            (one.noised[0].sigma_milli / 1000) ** 2,
        )
        for one in releases
    ]
    forest, wanted = Forest(observations), dense(releases)
    ours = np.array([(sums[0], variance**0.5) for sums, variance in forest.estimates]).T
    passes_s, dense_s = best_s(lambda: Forest(observations)), best_s(lambda: dense(releases))
    whole_s = best_s(lambda: Series(releases, CALENDAR.timezone).figures(AFTER_S))
    series = Series(releases, CALENDAR.timezone)
    first_s = releases[0].node.start_s
    span = [Window(first_s + 5 * QUARTER_S, first_s + 77 * QUARTER_S)]
    range_s = best_s(lambda: series.over("crossings", span, AFTER_S))
    print(
        f"{name}: {len(releases)} nodes in {passes_s * 1e3:.2f} ms, {passes_s / dense_s:.2f} of dense least squares"
        f" ({dense_s * 1e3:.1f} ms, at most {np.abs(wanted - ours).max():.0e} apart);"
        f" with every figure written {whole_s * 1e3:.1f} ms; any range {range_s * 1e3:.2f} ms more"
    )


def main() -> None:
    """Prints one line for a day and one for a week."""
    measure("a day of four levels", ("15min", "1h", "6h", "1d"))
    measure("a week with its own node", ("15min", "1h", "6h", "1d", "1w"))


if __name__ == "__main__":
    main()
