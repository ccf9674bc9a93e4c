"""What a sensor still shows of the moments before: between the street and an emulated device.

A sound level meter shows the mean of sound energy with exponential weights, an SDS011 a mean over its last seconds.
Each second holds one value, that of the instant `phase_ms` into the second by the sensor's own clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from .devices.base import FAST_MS, MS_PER_S, S_PER_MINUTE, Source

AVERAGE_MS = 1000
"""Over how long an SDS011 averages: its vendor's response time."""

LONGEST_TIME_CONSTANT_MS, LONGEST_AVERAGE_MS = 2_000, 59_000
_HIGHEST_TENTHS = 30_000  # of a level whose energy is still a float

Pm = tuple[int, int]


class Memory:
    """A source seen through a sensor's memory. Implements `Source`.

    `time_constant_ms` (1 to 2,000) is that of a level, `average_ms` (1 to 59,000) that of particles. What came before
    a hole of the source is forgotten by a meter and left out of a mean; crossings have no memory. Every minute is a
    function of the source's same minute and the one before.
    """

    def __init__(
        self, source: Source, time_constant_ms: int = FAST_MS, average_ms: int = AVERAGE_MS, phase_ms: int = 500
    ) -> None:
        self._source = source
        self._levels = lru_cache(maxsize=4)(source.level_tenths)
        self._pm = lru_cache(maxsize=4)(source.pm_tenths)
        self._kept_a_second = math.exp(-MS_PER_S / time_constant_ms)
        self._kept_until_phase = math.exp(-phase_ms / time_constant_ms)
        self._weights_ms = _overlaps(average_ms, phase_ms)

    @property
    def over_capacity(self) -> int:
        """See Source."""
        return self._source.over_capacity

    def dip_slots(self, minute: int) -> Sequence[int]:
        """See Source."""
        return self._source.dip_slots(minute)

    def level_tenths(self, minute: int) -> Sequence[int | None]:
        """The level that a meter shows in each second."""
        means: list[float | None] = []
        mean: float | None = None  # of energy, when the second begins
        for level in [*self._levels(minute - 1), *self._levels(minute)]:
            if level is None:
                means.append(None)
                mean = None
                continue
            energy = 10.0 ** (min(level, _HIGHEST_TENTHS) / 100)
            above = 0.0 if mean is None else mean - energy
            means.append(energy + above * self._kept_until_phase)
            mean = energy + above * self._kept_a_second
        return [None if mean is None else round(100 * math.log10(mean)) for mean in means[S_PER_MINUTE:]]

    def pm_tenths(self, minute: int) -> Sequence[Pm | None]:
        """The mean that a sensor shows in each second, rounded half up."""
        seen = [*self._pm(minute - 1), *self._pm(minute)]
        return [self._mean(seen, at) for at in range(S_PER_MINUTE, 2 * S_PER_MINUTE)]

    def _mean(self, seen: Sequence[Pm | None], at: int) -> Pm | None:
        if seen[at] is None:
            return None
        whole = fine = coarse = 0
        for back, weight_ms in enumerate(self._weights_ms):
            pm = seen[at - back]
            if pm is not None:
                whole += weight_ms
                fine += weight_ms * pm[0]
                coarse += weight_ms * pm[1]
        return (2 * fine + whole) // (2 * whole), (2 * coarse + whole) // (2 * whole)


def _overlaps(average_ms: int, phase_ms: int) -> list[int]:
    """Returns how much of the present second, the one before, and so on lies in the mean."""
    weights = [min(average_ms, phase_ms)]
    while (left_ms := average_ms - sum(weights)) > 0:
        weights.append(min(left_ms, MS_PER_S))
    return weights
