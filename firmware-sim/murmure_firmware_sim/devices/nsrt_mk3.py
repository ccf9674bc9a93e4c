"""Convergence Instruments NSRT_mk3_Dev: an integrating sound level meter on USB. No frame, no checksum. Little-endian.

host     command | 80000000 u32  address u32 (0)  bytes wanted u32
         command u32             address u32 (0)  bytes of data u32  data
device   as many bytes as were wanted; 06 for a write
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from types import MappingProxyType

from .base import FAST_MS, MS_PER_S, NO_VALUE, NOISE, S_PER_MINUTE, Device, Source

_READ = 0x80000000
_HEAD = struct.Struct("<III")
_LEVEL, _LEQ, _TEMPERATURE, _WEIGHTING, _RATE, _TAU = 0x10, 0x11, 0x12, 0x20, 0x21, 0x22
_MODEL, _SERIAL, _FIRMWARE, _CALIBRATED, _MADE, _USER_ID = 0x31, 0x32, 0x33, 0x34, 0x35, 0x36
_ACK = b"\x06"
_DATA_BYTES = {_WEIGHTING: 1, _RATE: 2, _TAU: 4}  # a client says 1 for all of them: the command decides
_LONGEST_TEXT, _MOST_WANTED = 32, 64
_RATES_HZ = (32_000, 48_000)
_LONGEST_TAU_S = 10.0
_GAP_MS = 100
_MADE_S, _CALIBRATED_S = 3_723_235_200, 3_726_000_000  # since 1904
_MORE_DB = {0: 8.0, 1: 0.0, 2: 9.0}  # what C and Z show of a street over A
_LONGEST_LEQ_MS = 600_000
_TAUS_REMEMBERED = 28


class NsrtMk3(Device):
    """The meter. Reading the LEQ starts the next one; settings survive a power cut."""

    name = "nsrt_mk3"
    quantity = NOISE
    baud = 115200
    frame_bytes = 4
    polled_only = True
    usb = True
    options = MappingProxyType({"time_constant_ms": "time_constant_ms"})

    def __init__(self, source: Source, seed: int = 0, time_constant_ms: int = FAST_MS) -> None:
        super().__init__(source, seed)
        self.weighting = 1
        self.rate_hz = _RATES_HZ[-1]
        self.tau_s = max(1, time_constant_ms) / MS_PER_S
        self.user_id = b""
        self._leq_since_ms: int | None = None
        self._heard = b""
        self._heard_ms = 0

    def say(self, minute: int) -> list[bytes]:
        """Nothing: it is only polled."""
        return [b""] * S_PER_MINUTE

    def answer(self, data: bytes, now_ms: int) -> list[bytes]:
        """Answers what is a whole command; what cannot be one takes everything heard with it."""
        heard = data if now_ms - self._heard_ms > _GAP_MS else self._heard + data
        self._heard_ms = now_ms
        answers = []
        while len(heard) >= _HEAD.size:
            command, address, count = _HEAD.unpack_from(heard)
            size = _HEAD.size + (0 if command & _READ else _DATA_BYTES.get(command, count))
            if address or count > _MOST_WANTED:
                heard = b""
                break
            if len(heard) < size:
                break
            if command & _READ:
                said = self._read(command ^ _READ, now_ms)
                answer = None if said is None else said[:count].ljust(count, b"\0")
            else:
                answer = _ACK if self._write(command, heard[_HEAD.size : size]) else None
            if answer is None:
                heard = b""
                break
            answers.append(answer)
            heard = heard[size:]
        self._heard = heard
        return answers

    def power_cycle(self, now_ms: int) -> None:
        """The integration begins anew."""
        super().power_cycle(now_ms)
        self._leq_since_ms = now_ms
        self._heard = b""

    def _read(self, what: int, now_ms: int) -> bytes | None:
        """Returns the value's bytes, or None if there is none: an unknown command, a hole in a recording."""
        read: dict[int, Callable[[], bytes | None]] = {
            _LEVEL: lambda: self._decibels(self._level_energy(now_ms)),
            _LEQ: lambda: self._decibels(self._leq_energy(now_ms)),
            _TEMPERATURE: lambda: struct.pack("<f", 21.5),
            _WEIGHTING: lambda: bytes((self.weighting,)),
            _RATE: lambda: self.rate_hz.to_bytes(2, "little"),
            _TAU: lambda: struct.pack("<f", self.tau_s),
            _MODEL: lambda: b"NSRT_mk3_Dev",
            _SERIAL: lambda: f"SIM{self.seed % 10**6:06}".encode(),
            _FIRMWARE: lambda: b"1.0",
            _CALIBRATED: lambda: _CALIBRATED_S.to_bytes(8, "little"),
            _MADE: lambda: _MADE_S.to_bytes(8, "little"),
            _USER_ID: lambda: self.user_id,
        }
        return read[what]() if what in read else None

    def _write(self, what: int, data: bytes) -> bool:
        """Takes a setting; tells whether it can be one."""
        if what == _WEIGHTING and data[0] in _MORE_DB:
            self.weighting = data[0]
        elif what == _RATE and int.from_bytes(data, "little") in _RATES_HZ:
            self.rate_hz = int.from_bytes(data, "little")
        elif what == _TAU and 0 < (tau_s := struct.unpack("<f", data)[0]) <= _LONGEST_TAU_S:
            self.tau_s = tau_s
        elif what == _USER_ID and len(data) <= _LONGEST_TEXT:
            self.user_id = data.partition(b"\0")[0]
        else:
            return False
        return True

    def _decibels(self, energy: float | None) -> bytes | None:
        if energy is None:
            return None
        return struct.pack("<f", 10 * math.log10(energy) + _MORE_DB[self.weighting])

    def _leq_energy(self, now_ms: int) -> float | None:
        """Returns the mean energy since the last time, and begins the next interval now."""
        since_ms = now_ms - MS_PER_S if self._leq_since_ms is None else self._leq_since_ms
        # Two reads in one millisecond: the interval has no length, and the second is its own.
        parts = self._parts(max(min(since_ms, now_ms - 1), now_ms - _LONGEST_LEQ_MS), now_ms)
        self._leq_since_ms = now_ms
        whole_ms = sum(end_ms - start_ms for start_ms, end_ms, _ in parts)
        if not whole_ms:
            return None
        return sum((end_ms - start_ms) * energy for start_ms, end_ms, energy in parts) / whole_ms

    def _level_energy(self, now_ms: int) -> float | None:
        """Returns the mean of energy with exponential weights, forgetting what is too old to show."""
        tau_ms = self.tau_s * MS_PER_S
        parts = self._parts(now_ms - min(_LONGEST_LEQ_MS, math.ceil(_TAUS_REMEMBERED * tau_ms)), now_ms)
        weights = [math.exp((end - now_ms) / tau_ms) - math.exp((start - now_ms) / tau_ms) for start, end, _ in parts]
        if not parts:
            return None
        return sum(weight * energy for weight, (_, _, energy) in zip(weights, parts, strict=True)) / sum(weights)

    def _parts(self, start_ms: int, end_ms: int) -> list[tuple[int, int, float]]:
        """Returns (start, end, energy) of each second's part in the interval; holes are left out."""
        parts = []
        for second in range(start_ms // MS_PER_S, -(-end_ms // MS_PER_S)):
            level = self.level_at(second)
            if level is not None:
                energy = math.nan if level == NO_VALUE else 10.0 ** (level / 100)
                parts.append((max(start_ms, second * MS_PER_S), min(end_ms, (second + 1) * MS_PER_S), energy))
        return parts
