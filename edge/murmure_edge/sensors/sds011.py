"""Nova SDS011: fine dust, 9600 8N1, little-endian, streams once a second.

byte      0   1                  2..3         4..5        6..7       8               9
measure   AA  C0                 PM2.5 x 10   PM10 x 10   device id  sum of 2..7     AB
reply     AA  C5                 what (2), set (3), value (4), -     sum of 2..7     AB
command   AA  B4 what set value, zeros to 12, new id 13..14, target id 15..16 (FF FF: any), sum of 2..16, AB
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
)

HEAD, TAIL = 0xAA, 0xAB
MEASUREMENT, REPLY, COMMAND = 0xC0, 0xC5, 0xB4
FRAME_BYTES = 10
REPORTING_MODE, DEVICE_ID, SLEEP_WORK, FIRMWARE, WORKING_PERIOD = 0x02, 0x05, 0x06, 0x07, 0x08
# What is set and read back, in this order: awake it hears the rest.
SETTINGS = {
    SLEEP_WORK: (1, "it goes back to sleep"),
    REPORTING_MODE: (0, "it speaks only when asked"),
    WORKING_PERIOD: (0, "it works with pauses"),
}


# checksum: the low byte only (the sum itself overflows a byte with ordinary values)
def _checksum(data: bytes) -> int:
    return sum(data) & 0xFF


def make_command(what: int, is_set: int = 0, value: int = 0) -> bytes:
    """Returns the bytes of one command."""
    body = bytes((what, is_set, value)) + bytes(10) + b"\xff\xff"
    return bytes((HEAD, COMMAND)) + body + bytes((_checksum(body), TAIL))


# decode
def _describe(frame: bytes) -> dict[str, object]:
    if frame[1] == MEASUREMENT:
        return {
            "kind": "measurement",
            "pm2_5_ug_m3": int.from_bytes(frame[2:4], "little") / 10,
            "pm10_ug_m3": int.from_bytes(frame[4:6], "little") / 10,
            "device_id": frame[6:8].hex(),
        }
    what, is_set, value = frame[2], frame[3], frame[4]
    operation = "set" if is_set else "query"
    if what == REPORTING_MODE:
        mode = "query" if value else "active"
        return {"kind": "reply", "reply_to": "reporting_mode", "op": operation, "mode": mode}
    if what == SLEEP_WORK:
        state = "work" if value else "sleep"
        return {"kind": "reply", "reply_to": "sleep_work", "op": operation, "state": state}
    if what == WORKING_PERIOD:
        return {"kind": "reply", "reply_to": "working_period", "op": operation, "minutes": value}
    if what == FIRMWARE:
        return {"kind": "reply", "reply_to": "firmware", "year": is_set, "month": value, "day": frame[5]}
    if what == DEVICE_ID:
        return {"kind": "reply", "reply_to": "device_id", "device_id": frame[6:8].hex()}
    return {"kind": "reply", "reply_to": what, "device_id": frame[6:8].hex()}


# resync
def _length_at(data: bytes, start: int) -> int:
    if data[start] != HEAD:
        return 0
    if start + 1 == len(data):
        return 2
    return FRAME_BYTES if data[start + 1] in (MEASUREMENT, REPLY) else 0


def _holds(frame: bytes) -> bool:
    return frame[9] == TAIL and _checksum(frame[2:8]) == frame[8]


class Sds011:
    """Driver of the SDS011 in continuous, active mode: one reading of PM2.5 and one of PM10 a second.

    Setting `average_s` 1-60: over how many seconds the sensor averages. The vendor gives a response time of 1 s, and
    "less than 10 s when the scene changes": who counts on the second writes 10. One reading more is for the sensor's
    own clock, whose second is not the gateway's.
    """

    NAME: ClassVar[str] = "sds011"
    QUANTITIES: ClassVar[tuple[str, ...]] = ("pm2_5", "pm10")
    PLAUSIBLE: ClassVar[Plausible] = Plausible(
        ranges={"pm2_5_ug_m3": (0, 999.9), "pm10_ug_m3": (0, 999.9)},
        rising=("pm2_5_ug_m3", "pm10_ug_m3"),
        floors={"pm2_5_ug_m3": 0, "pm10_ug_m3": 0},
    )

    def __init__(self, baud: object = 9600, average_s: object = 1) -> None:
        self.baud = checked_baud(baud)
        memory = checked_setting("average_s", average_s, 1, 60) + 1
        self.memory_readings: Mapping[str, int] = {"pm2_5": memory, "pm10": memory}
        self.silence_ms = 5_000
        self.warm_up_ms = 30_000
        self.counters = Counters()
        self.told = Told()
        self._scanner = self.scanner(self.counters)
        self._cache: dict[bytes, tuple[int, int]] = {}
        self._answered: set[int] = set()

    @staticmethod
    def scanner(counters: Counters) -> FrameScanner:
        """Measurements and replies."""
        return FrameScanner(_length_at, _holds, counters)

    @staticmethod
    def describe(frame: bytes) -> dict[str, object]:
        """See Driver.describe."""
        return _describe(frame)

    def opening(self) -> Iterator[bytes]:
        """Wake, then stream, then work without pauses: a previous program may have left it asleep. Then each is read
        back, and who it is. Where it answers at all, an answer that is missing was spoiled, and is asked for again."""
        for what, (value, _) in SETTINGS.items():
            yield make_command(what, 1, value)
        self._answered.clear()
        questions = (*SETTINGS, FIRMWARE)
        for what in questions:
            yield make_command(what)
        for what in questions:
            if self._answered and what not in self._answered:
                yield make_command(what)

    def feed(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """See Driver.feed; values in tenths of ug/m3."""
        if not self._scanner.pending:
            known = self._cache.get(data)
            if known is not None:
                self.counters.frames += 1
                return (("pm2_5", Reading(now_ms, known[0])), ("pm10", Reading(now_ms, known[1])))
        decoded: list[Decoded] = []
        for frame in self._scanner.feed(data):
            if frame[1] == MEASUREMENT:
                pm2_5, pm10 = int.from_bytes(frame[2:4], "little"), int.from_bytes(frame[4:6], "little")
                if len(self._cache) >= CACHE_FRAMES:
                    self._cache.clear()
                self._cache[frame] = (pm2_5, pm10)
                decoded.append(("pm2_5", Reading(now_ms, pm2_5)))
                decoded.append(("pm10", Reading(now_ms, pm10)))
            else:
                self._hear(frame)
        return decoded

    def _hear(self, reply: bytes) -> None:
        what, is_set, value = reply[2], reply[3], reply[4]
        self.told.identity["device_id"] = reply[6:8].hex()
        if what == FIRMWARE or not is_set:
            self._answered.add(what)
        if what == FIRMWARE:
            self.told.identity["firmware"] = f"20{is_set:02}-{value:02}-{reply[5]:02}"
        elif what in SETTINGS and not is_set:
            wanted, otherwise = SETTINGS[what]
            if value != wanted:
                self.told.mismatch = f"it does not keep its settings ({otherwise}): replace the sensor"

    def settled_ms(self, now_ms: int) -> int:
        """See Driver.settled_ms: a measurement carries the time of its bytes."""
        return now_ms

    def reset(self) -> None:
        """See Driver.reset."""
        self._scanner.reset()
