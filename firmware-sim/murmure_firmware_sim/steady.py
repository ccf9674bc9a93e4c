"""A source that holds the values it is given: for somebody who tests a driver and wants to know what to expect."""

from __future__ import annotations

from collections.abc import Sequence

from .devices.base import S_PER_MINUTE, SLOTS_PER_MINUTE


class Steady:
    """Constant level and particles, crossings at even distances. Implements `Source`."""

    def __init__(self, pm_tenths: tuple[int, int], level_tenths: int, crossings_per_min: int) -> None:
        self.over_capacity = 0
        self._pm = pm_tenths
        self._level = level_tenths
        self._slots = [at * SLOTS_PER_MINUTE // crossings_per_min for at in range(crossings_per_min)]

    def dip_slots(self, minute: int) -> Sequence[int]:
        """The same slots every minute."""
        return self._slots

    def level_tenths(self, minute: int) -> Sequence[int | None]:
        """The one level."""
        return [self._level] * S_PER_MINUTE

    def pm_tenths(self, minute: int) -> Sequence[tuple[int, int] | None]:
        """The one pair."""
        return [self._pm] * S_PER_MINUTE
