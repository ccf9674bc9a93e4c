"""Levels in decibels from noised energies and histograms, with their 95 % intervals, and the rule for showing one.

Pure functions of released values, their noise scales and the policy's bounds. A gateway carries this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import log, log10, sqrt

NORMAL_95 = 1.959964
WIDEST_MARGIN_DB = 3.0
"""An indicator in dB whose 95 % margin is wider is not shown as a number."""

EXCEEDED = {"l10_db": 0.1, "l50_db": 0.5, "l90_db": 0.9}
"""Percentile levels: the share of the time during which each is exceeded."""

LOUD_DB = 65
SHARE_OVER = f"share_over_{LOUD_DB}_db"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, of which an end is None where it has none, and the standard error that the noise
    makes. A percentile level without an end has no `value` of its own: see `Histogram.exceeded`."""

    value: float
    low: float | None
    high: float | None
    standard_error: float

    @property
    def publishable(self) -> bool:
        """Returns whether a level in dB with this interval may be shown as a number."""
        return margin(self.value, self.low, self.high) <= WIDEST_MARGIN_DB


def margin(value: float, low: float | None, high: float | None) -> float:
    """Returns how far the interval reaches on its wider side, infinity where it has no end there."""
    return float("inf") if low is None or high is None else max(value - low, high - value)


def decibels(energy: float | None) -> float | None:
    """Returns 10 lg of an energy, or None where there is none or it is not positive."""
    return 10 * log10(energy) if energy is not None and energy > 0 else None


def equivalent(energy: float, error: float, low: float | None, high: float | None) -> Estimate | None:
    """Returns the level of a mean energy with standard error `error` and this interval, or None where the energy is not
    positive."""
    level = decibels(energy)
    return None if level is None else Estimate(level, decibels(low), decibels(high), 10 / log(10) * error / energy)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Noised time in each bin, in seconds; `sigma_s` is the noise on each, independent between bins.

    `edges_db`: one more than bins, evenly spaced. `whole_s`: the time that all bins hold together without their noise,
    which is public (every slot is in one bin). `silent_s`: the most of it that went without a reading and stands in the
    bin of `fill_db` instead. The end bins hold what lies beyond them too, so nothing is known of their outer edges.
    """

    seconds: Sequence[float]
    sigma_s: float
    edges_db: Sequence[float]
    whole_s: float
    silent_s: float
    fill_db: float

    def balanced(self) -> list[float]:
        """Returns the bins with the public total restored: the best estimate of each from all of them. The noise on
        the sum of j out of B bins then has the variance sigma^2 j (1 - j / B)."""
        spare_s = (self.whole_s - sum(self.seconds)) / len(self.seconds)
        return [value + spare_s for value in self.seconds]

    def bins(self) -> list[Estimate]:
        """Returns the time in each bin, in seconds. What stands in the bin of silent moments may have been in any
        other; noise may make a bin negative, and it stays so."""
        error = self.sigma_s * sqrt(1 - 1 / len(self.seconds))
        fill, noise = self._bin(self.fill_db), NORMAL_95 * error
        return [
            Estimate(
                value,
                value - noise - self.silent_s * (number == fill),
                value + noise + self.silent_s * (number != fill),
                error,
            )
            for number, value in enumerate(self.balanced())
        ]

    def exceeded(self, share: float) -> Estimate:
        """Returns the level exceeded during `share` (0 to 1) of the time: the middle of its interval, whose ends are
        edges of bins, for nothing is assumed of where in its bin a moment was.

        What can lie in the first bin may be lower than all of them, what can lie in the last one higher: the interval
        then has no such end, so the level is at most, or at least, the end that it has. This bound stands in `value`
        (the middle of all bins where there is neither); it is no estimate and is not to be told as one.

        A bin can hold the level if, within 1.96 standard errors of each, the time below its lower edge is at most the
        wanted one and the time below its upper edge at least that. The true bin fails one of the two tests at most once
        in 20 times. Silent moments may have been at any level. The standard error is that of a normal law as wide as
        the interval without silence.
        """
        below_s = (1 - share) * self.whole_s
        low, high = self._between(below_s, self.silent_s)
        alone = self._between(below_s, 0)
        ends = None if low == self.edges_db[0] else low, None if high == self.edges_db[-1] else high
        known = [end for end in ends if end is not None] or [low, high]
        return Estimate(sum(known) / len(known), *ends, (alone[1] - alone[0]) / 2 / NORMAL_95)

    def bound(self, share: float) -> tuple[float | None, float | None]:
        """Returns what the level exceeded during `share` of the time is at most, and at least, where it lies in the
        first bin alone or in the last one: so much may be told of it, as one bin in the middle may be told as a number.
        (None, None) for any other level."""
        level = self.exceeded(share)
        first, last = self.edges_db[1], self.edges_db[-2]
        if level.low is None and level.high == first:
            return first, None
        return (None, last) if level.high is None and level.low == last else (None, None)

    def _between(self, below_s: float, silent_s: float) -> tuple[float, float]:
        """Returns the lower edge of the first bin that can hold the level and the upper edge of the last one."""
        count, fill = len(self.seconds), self._bin(self.fill_db)
        until = [0.0, *accumulate(self.balanced())]
        noise = [NORMAL_95 * self.sigma_s * sqrt(n * (1 - n / count)) for n in range(count + 1)]
        # Moments that stand in bin `fill` may have been below an edge that is not above it, or above one that is.
        first = next(
            n for n in range(count) if n + 1 == count or until[n + 1] + noise[n + 1] + silent_s * (fill > n) >= below_s
        )
        last = next(
            n for n in reversed(range(count)) if n == 0 or until[n] - noise[n] - silent_s * (fill < n) <= below_s
        )
        return self.edges_db[first], self.edges_db[last + 1]

    def share_over(self, level_db: float) -> Estimate | None:
        """Returns the share of the time above a level, or None where no bin begins there. The first one does not: it
        holds what is lower too."""
        if level_db not in self.edges_db[1:-1]:
            return None
        first = self.edges_db.index(level_db)
        count = len(self.seconds)
        over = sum(self.balanced()[first:]) / self.whole_s
        error = self.sigma_s * sqrt((count - first) * first / count) / self.whole_s
        noise = NORMAL_95 * error
        silent = self.silent_s / self.whole_s
        counted = self._bin(self.fill_db) >= first
        return Estimate(over, over - noise - silent * counted, over + noise + silent * (not counted), error)

    def _bin(self, level_db: float) -> int:
        width_db = self.edges_db[1] - self.edges_db[0]
        return min(int((level_db - self.edges_db[0]) / width_db), len(self.seconds) - 1)
