"""Levels in decibels from noised energies and histograms, with their 95 % intervals, and the rule for showing one.

Pure functions of released values, their noise scales and the policy's bounds. A gateway carries this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    makes."""

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
    bin of `fill_db` instead. The end bins hold what lies beyond them too, as if it were at their outer edge.
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

    def exceeded(self, share: float) -> Estimate:
        """Returns the level exceeded during `share` (0 to 1) of the time.

        The interval holds every level at which the noised time below it differs from the wanted time by no more than
        1.96 of its own standard error: for any one true level, 19 times out of 20, if time is spread evenly within each
        5 dB bin. Nothing is assumed of the end bins: an interval that reaches into one reaches to its bound. Silent
        moments may have been at any level. The estimate is read off the nearest histogram that has no negative bin; its
        standard error is that of a normal law with the wider side of the interval without silence.
        """
        below_s = (1 - share) * self.whole_s
        bins = self.balanced()
        at = _place(_nearest(bins, self.whole_s), below_s)
        low, high = self._interval(bins, below_s, at, self.silent_s)
        alone = self._interval(bins, below_s, at, 0) if self.silent_s else (low, high)
        level = self._level(at)
        error = margin(level, *map(self._level, alone)) / NORMAL_95
        return Estimate(level, self._level(low), self._level(high), error)

    def _interval(self, bins: Sequence[float], below_s: float, at: float, silent_s: float) -> tuple[float, float]:
        count, fill = len(bins), self._bin(self.fill_db)
        low = self._first(bins, below_s, fill, silent_s)
        high = count - self._first(bins[::-1], self.whole_s - below_s, count - 1 - fill, silent_s)
        return min(low if low >= 1 else 0, at), max(high if high <= count - 1 else count, at)

    def share_over(self, level_db: float) -> Estimate | None:
        """Returns the share of the time above a level, or None where no bin begins there."""
        if level_db not in self.edges_db[:-1]:
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

    def _level(self, place: float) -> float:
        return self.edges_db[0] + place * (self.edges_db[1] - self.edges_db[0])

    def _first(self, bins: Sequence[float], wanted_s: float, fill: int, silent_s: float) -> float:
        """Returns the first place, in bins from the left, below which there may be `wanted_s`."""
        spread = (NORMAL_95 * self.sigma_s) ** 2
        widest_s = sqrt(spread * len(bins) / 4)

        def places() -> Iterator[float]:
            below_s = 0.0
            for number, held_s in enumerate(bins):
                # Silent moments stand in bin `fill`: of levels up to its end they may have been below.
                lacking_s = wanted_s - below_s - (silent_s if number <= fill else 0.0)
                if lacking_s - max(held_s, 0.0) <= widest_s:
                    within = _crossing(lacking_s, held_s, spread, number, len(bins))
                    yield from () if within is None else (number + within,)
                below_s += held_s

        return next(places(), float(len(bins)))


def _crossing(lacking_s: float, held_s: float, spread: float, number: int, count: int) -> float | None:
    """Returns the first t in [0, 1) with lacking - t held <= sqrt(spread v(t)), or None. v(t) is the variance of the
    time below t bins into bin `number`, in units of one bin's: of weights 1, ..., 1, t whose mean is known."""
    if lacking_s <= sqrt(spread * number * (1 - number / count)):
        return 0.0
    # (lacking - t held)^2 = spread v(t) as a t^2 + 2 half_b t + c = 0. Its discriminant is written so that large terms,
    # which cancel where there is hardly any noise, do not stand in it.
    a = held_s**2 - spread * (1 - 1 / count)
    half_b = spread * number / count - lacking_s * held_s
    c = lacking_s**2 - spread * number * (1 - number / count)
    root = spread * (
        held_s**2 * number * (1 - number / count)
        + lacking_s**2 * (1 - 1 / count)
        - 2 * number * lacking_s * held_s / count
        - spread * number * (1 - (number + 1) / count)
    )
    if root < 0:
        return None
    q = -half_b - sqrt(root) if half_b > 0 else -half_b + sqrt(root)
    found = (top / bottom for top, bottom in ((q, a), (c, q)) if bottom)
    return min((t for t in found if 0 <= t < 1 and lacking_s >= t * held_s), default=None)


def _nearest(bins: Sequence[float], whole_s: float) -> list[float]:
    """Returns the nearest histogram (least squares) that holds `whole_s` seconds and has no negative bin."""
    down = sorted(bins, reverse=True)
    # Of released integers as long as 62 bits nothing but the largest may be left of a sum; it then holds everything.
    kept = max((n for n, upto_s in enumerate(accumulate(down), 1) if n * down[n - 1] > upto_s - whole_s), default=1)
    spare = (sum(down[:kept]) - whole_s) / kept
    return [max(0.0, value - spare) for value in bins]


def _place(bins: Sequence[float], wanted_s: float) -> float:
    """Returns how many bins from the left hold `wanted_s` seconds, time spread evenly within each."""
    filled = (
        (number, held_s, upto_s) for number, (held_s, upto_s) in enumerate(zip(bins, accumulate(bins), strict=True))
    )
    places = (
        number + 1 - (upto_s - wanted_s) / held_s for number, held_s, upto_s in filled if held_s and upto_s >= wanted_s
    )
    return next(places, float(len(bins)))
