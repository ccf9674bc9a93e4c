"""Decibel module of the UART kind: sound level, 9600 8N1, little-endian, streams every 300 ms.

byte      0   1   2   3..4         5
measure   BB  AA  01  level x 10   sum of 0..4
It takes no commands, and tells neither its make nor its weighting.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from typing import ClassVar

from murmure_privacy.aggregate import energy
from murmure_privacy.stream import QUANTITIES

from murmure_edge.reading import Reading
from murmure_edge.sensors.base import (
    Counters,
    Decoded,
    FrameScanner,
    Plausible,
    Told,
    checked_baud,
    meter_forgets_ms,
)

HEAD = b"\xbb\xaa\x01"
FRAME_BYTES = 6
FRAME_MS, SECOND_MS = 300, 1000
LOUDEST_TENTHS = QUANTITIES["noise"].ceiling  # what is above it the windows take as this, and so does a mean
# As of the meters with a register, which do not say either: three times the 125 ms of a FAST one, nearly.
TIME_CONSTANT_MS = 360
FINE = 600  # tenths: energies in millionths, so that no two levels have the same


# checksum
def _checksum(data: bytes) -> int:
    return sum(data) & 0xFF


# decode
def _level_tenths(frame: bytes) -> int:
    return int.from_bytes(frame[3:5], "little")


def _describe(frame: bytes) -> dict[str, object]:
    return {"kind": "measurement", "level_db": _level_tenths(frame) / 10}


# resync
def _length_at(data: bytes, start: int) -> int:
    head = data[start : start + len(HEAD)]
    return FRAME_BYTES if HEAD.startswith(head) else 0


def _holds(frame: bytes) -> bool:
    return _checksum(frame[:-1]) == frame[-1]


@cache
def _energies() -> list[int]:
    return [energy(FINE + level) for level in range(LOUDEST_TENTHS + 2)]


def _mean_tenths(energy_sum: int, count: int) -> int:
    """Returns the level of the mean energy, to the nearest tenth. Integers only: the same on every machine."""
    energies = _energies()
    level = bisect_right(energies, energy_sum // count) - 1
    # Half a tenth above a level lies the geometric mean of its energy and the next one's.
    return level + (energy_sum**2 >= count**2 * energies[level] * energies[level + 1])


class UartDecibelBbaa:
    """Driver of a BB AA module: readings in tenths of a dB, the first frame of each second bringing one.

    It is the mean energy of the frames since the one before it, so that each frame counts once, and never a mean of
    decibels. When it comes is settled by the clock and the module's 300 ms alone.

    Setting `time_constant_ms` 1-10000: the module's time weighting, of which its maker says nothing. Until a sound is
    forgotten, and 300 ms more, for the first frame of a second is so late at most; one reading more is for the
    module's own clock.
    """

    NAME: ClassVar[str] = "uart_decibel_bbaa"
    QUANTITIES: ClassVar[tuple[str, ...]] = ("noise",)
    PLAUSIBLE: ClassVar[Plausible] = Plausible(ranges={"level_db": (30, 130)}, floors={"level_db": 30}, stuck_s=60)

    def __init__(self, baud: object = 9600, time_constant_ms: object = TIME_CONSTANT_MS) -> None:
        self.baud = checked_baud(baud)
        shown_ms = meter_forgets_ms(time_constant_ms) + FRAME_MS
        self.memory_readings: Mapping[str, int] = {"noise": math.ceil(shown_ms / SECOND_MS) + 1}
        self.silence_ms = 3_000
        self.warm_up_ms = 0
        self.counters = Counters()
        self.told = Told()
        self._scanner = self.scanner(self.counters)
        self._second = 0  # of the last reading
        self._energy_sum = self._count = 0  # of the frames since

    @staticmethod
    def scanner(counters: Counters) -> FrameScanner:
        """Measurements: it sends nothing else."""
        return FrameScanner(_length_at, _holds, counters)

    @staticmethod
    def describe(frame: bytes) -> dict[str, object]:
        """See Driver.describe."""
        return _describe(frame)

    def opening(self) -> list[bytes]:
        """Nothing: the module hears nothing. That its frames hold is all there is to know it by."""
        return []

    def feed(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """See Driver.feed; frames of a second that is over by more than one are left out, as after a silence."""
        decoded: list[Decoded] = []
        second = now_ms // SECOND_MS
        for frame in self._scanner.feed(data):
            fresh = second != self._second
            if fresh and second != self._second + 1:
                self._energy_sum = self._count = 0
            self._energy_sum += _energies()[min(_level_tenths(frame), LOUDEST_TENTHS)]
            self._count += 1
            if fresh:
                decoded.append(("noise", Reading(now_ms, _mean_tenths(self._energy_sum, self._count))))
                self._second, self._energy_sum, self._count = second, 0, 0
        return decoded

    def settled_ms(self, now_ms: int) -> int:
        """See Driver.settled_ms: a reading carries the time of its last frame."""
        return now_ms

    def reset(self) -> None:
        """See Driver.reset."""
        self._scanner.reset()
        self._energy_sum = self._count = 0
