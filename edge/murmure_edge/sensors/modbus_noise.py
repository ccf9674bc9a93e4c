"""Sound level transmitter on Modbus RTU (SONBEST SM7901B and kin, Renke RS-ZS), big-endian, polled once a second.

request   slave  03  register (2)  count 00 01  CRC (2, low byte first)
reply     slave  03  02            level x 10   CRC
refusal   slave  83  code                       CRC
FFFF is the transmitter's word for "no value". CRC-16/Modbus: polynomial A001 reflected, start FFFF.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from murmure_edge.reading import Reading
from murmure_edge.sensors.base import (
    CACHE_FRAMES,
    Counters,
    Decoded,
    FrameScanner,
    Plausible,
    Told,
    checked_baud,
    checked_setting,
    meter_forgets_ms,
)

SLAVE, REGISTER, READ_HOLDING, REFUSED = 1, 0, 0x03, 0x80
NO_VALUE = 0xFFFF
REQUEST_BYTES, REPLY_BYTES, REFUSAL_BYTES = 8, 7, 5
BITS_PER_BYTE = 10  # start, eight data, stop
# A frame ends with 3.5 characters of silence, and one goes before and one after the answer.
SILENCES_BYTES = 7
# What the transmitters take to think, with a wide margin, and far below the period of one second.
DEVICE_LATENCY_MS = 250
# Three times the 125 ms of a FAST meter, nearly: most boards do not say what they have.
TIME_CONSTANT_MS = 360


# checksum
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0xA001 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC = _crc_table()


def _crc(data: bytes) -> bytes:
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


# decode
def _describe(frame: bytes) -> dict[str, object]:
    if frame[1] & REFUSED:
        function = frame[1] & ~REFUSED
        return {"kind": "exception", "slave": frame[0], "function": function, "exception_code": frame[2]}
    value = int.from_bytes(frame[3:5], "big")
    described: dict[str, object] = {
        "kind": "reply",
        "slave": frame[0],
        "function": frame[1],
        "registers": [value],
    }
    if value != NO_VALUE:
        described["level_db"] = value / 10
    return described


# resync
def _scanner(slave: int, counters: Counters) -> FrameScanner:
    """Finds answers of one slave to a request for one register; echoes and other slaves' frames are none."""

    def length_at(data: bytes, start: int) -> int:
        if data[start] != slave:
            return 0
        have = len(data) - start
        if have == 1:
            return 2
        if data[start + 1] == READ_HOLDING | REFUSED:
            return REFUSAL_BYTES
        if data[start + 1] != READ_HOLDING:
            return 0
        if have == 2:
            return 3
        return REPLY_BYTES if data[start + 2] == 2 else 0

    return FrameScanner(length_at, lambda frame: _crc(frame[:-2]) == frame[-2:], counters)


class ModbusNoise:
    """Driver of a sound level transmitter: asks for one register once a second, readings in tenths of a dB.

    Settings, for the makes differ: `slave` 1-247, `register` 0-65535, `baud`, `time_constant_ms` 1-10000: the time
    weighting that is set on the meter, which it does not tell. It falls by 4.3 dB in each time constant: a FAST one
    (125) forgets any sound in 4 readings, one that is left at the default 360 in 10, a SLOW one (1000) in 28. One
    reading more is for the meter's own clock.
    """

    NAME: ClassVar[str] = "modbus_noise"
    QUANTITIES: ClassVar[tuple[str, ...]] = ("noise",)
    PLAUSIBLE: ClassVar[Plausible] = Plausible(ranges={"level_db": (30, 130)}, floors={"level_db": 30}, stuck_s=60)

    def __init__(
        self,
        slave: object = SLAVE,
        register: object = REGISTER,
        baud: object = 9600,
        time_constant_ms: object = TIME_CONSTANT_MS,
    ) -> None:
        self.slave = checked_setting("slave", slave, 1, 247)
        register = checked_setting("register", register, 0, 0xFFFF)
        self.baud = checked_baud(baud)
        self.period_ms = 1000
        forgets_ms = meter_forgets_ms(time_constant_ms)
        self.memory_readings: Mapping[str, int] = {"noise": math.ceil(forgets_ms / self.period_ms) + 1}
        wire_bytes = REQUEST_BYTES + REPLY_BYTES + SILENCES_BYTES
        self.timeout_ms = DEVICE_LATENCY_MS + -(-1000 * BITS_PER_BYTE * wire_bytes // self.baud)
        self.silence_ms = 3 * self.period_ms
        self.warm_up_ms = 0
        self.awaiting = False
        self.counters = Counters()
        self.told = Told()
        self._scanner = _scanner(self.slave, self.counters)
        body = bytes((self.slave, READ_HOLDING)) + register.to_bytes(2, "big") + b"\x00\x01"
        self._request = body + _crc(body)
        self._cache: dict[bytes, int] = {}

    @staticmethod
    def scanner(counters: Counters) -> FrameScanner:
        """Answers of the slave with the usual address."""
        return _scanner(SLAVE, counters)

    @staticmethod
    def describe(frame: bytes) -> dict[str, object]:
        """See Driver.describe."""
        return _describe(frame)

    def opening(self) -> list[bytes]:
        """Nothing: the transmitter has no mode that could be left wrong."""
        return []

    def request(self) -> bytes:
        """See PolledDriver.request. Half an answer to the last request is dropped: it cannot be completed."""
        if self._scanner.pending:
            self._scanner.reset()
        self.awaiting = True
        return self._request

    def feed(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """See Driver.feed; a refusal and FFFF answer the request and bring no reading."""
        if not self._scanner.pending:
            known = self._cache.get(data)
            if known is not None and self.awaiting:
                self.counters.frames += 1
                self.awaiting = False
                return (("noise", Reading(now_ms, known)),)
        decoded: list[Decoded] = []
        for frame in self._scanner.feed(data):
            if not self.awaiting:
                continue  # a duplicate: one request brings one reading
            self.awaiting = False
            value = NO_VALUE if frame[1] & REFUSED else int.from_bytes(frame[3:5], "big")
            if value == NO_VALUE:
                self.counters.refused += 1
                continue
            if len(self._cache) >= CACHE_FRAMES:
                self._cache.clear()
            self._cache[frame] = value
            decoded.append(("noise", Reading(now_ms, value)))
        return decoded

    def settled_ms(self, now_ms: int) -> int:
        """See Driver.settled_ms: a level carries the time of its answer."""
        return now_ms

    def reset(self) -> None:
        """See Driver.reset."""
        self.awaiting = False
        self._scanner.reset()
