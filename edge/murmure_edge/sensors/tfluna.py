"""Benewake TF-Luna (TFmini-S and Plus alike): a beam's distance, 115200 8N1, little-endian, streams at its rate.

byte      0   1   2..3          4..5       6..7                     8
measure   59  59  distance cm   strength   (temperature + 256) x 8  sum of 0..7
reply     5A  length  id  data (length - 4 bytes)  sum of what goes before;  commands have the same shape
The distance must not be used if it is FFFF or the strength is below 100 or FFFF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from struct import Struct
from typing import ClassVar

from murmure_edge.reading import Reading
from murmure_edge.sensors.base import (
    CACHE_FRAMES,
    Counters,
    Decoded,
    FrameScanner,
    Plausible,
    SettingError,
    Told,
    checked_baud,
    checked_setting,
)
from murmure_edge.sensors.footfall import SETTLE_MS, UNUSABLE, CrossingCounter, LifeSigns

HEAD, FRAME_BYTES = 0x59, 9
REPLY_HEAD, REPLY_BYTES_MIN, REPLY_BYTES_MAX = 0x5A, 4, 8
WEAKEST_STRENGTH, NO_VALUE = 100, 0xFFFF
VERSION, SET_RATE, OUTPUT_FORMAT, OUTPUT, CHECKSUM = 0x01, 0x03, 0x05, 0x07, 0x08
REPLIES = {
    VERSION: "version",
    0x02: "soft_reset",
    SET_RATE: "set_rate",
    0x04: "trigger",
    OUTPUT_FORMAT: "output_format",
    OUTPUT: "output",
    CHECKSUM: "checksum",
    0x10: "factory_reset",
    0x11: "save",
}
CENTIMETRES = 1  # of the output formats
FASTEST_HZ = 250


# checksum
def _checksum(data: bytes) -> int:
    return sum(data) & 0xFF


def make_command(what: int, data: bytes) -> bytes:
    """Returns the bytes of one command."""
    body = bytes((REPLY_HEAD, 4 + len(data), what)) + data
    return body + bytes((_checksum(body),))


# decode
def _describe(frame: bytes) -> dict[str, object]:
    if frame[0] == HEAD:
        return {
            "kind": "measurement",
            "distance_cm": int.from_bytes(frame[2:4], "little"),
            "strength": int.from_bytes(frame[4:6], "little"),
            "temperature_c": int.from_bytes(frame[6:8], "little") / 8 - 256,
        }
    described: dict[str, object] = {"kind": "reply", "reply_to": REPLIES[frame[2]]}
    data = frame[3:-1]
    if frame[2] == VERSION:
        described["version"] = ".".join(str(byte) for byte in reversed(data))
    elif frame[2] == SET_RATE:
        described["hz"] = int.from_bytes(data, "little")
    elif data:
        described["value"] = int.from_bytes(data, "little")
    return described


def _distance_cm(frame: bytes) -> int:
    distance_cm = int.from_bytes(frame[2:4], "little")
    strength = int.from_bytes(frame[4:6], "little")
    if distance_cm == NO_VALUE or strength == NO_VALUE or strength < WEAKEST_STRENGTH:
        return UNUSABLE
    return distance_cm


# resync
def _length_at(data: bytes, start: int) -> int:
    have = len(data) - start
    if data[start] == HEAD:
        if have == 1:
            return 2
        return FRAME_BYTES if data[start + 1] == HEAD else 0
    if data[start] == REPLY_HEAD:
        if have < 3:
            return 3
        length = data[start + 1]
        if REPLY_BYTES_MIN <= length <= REPLY_BYTES_MAX and data[start + 2] in REPLIES:
            return length
    return 0


def _holds(frame: bytes) -> bool:
    return _checksum(frame[:-1]) == frame[-1]


class TfLuna:
    """Driver of a TF-Luna across a doorway: crossings counted from its distances.

    Setting `rate_hz`, a divisor of 500 up to 250: 10 is enough for walkers and what simulations use; 100 also
    sees runners. Each second with a good frame brings a reading of 0 (alive), each pass a reading of 1.
    """

    NAME: ClassVar[str] = "tfluna"
    QUANTITIES: ClassVar[tuple[str, ...]] = ("footfall",)
    PLAUSIBLE: ClassVar[Plausible] = Plausible(ranges={"distance_cm": (20, 800), "strength": (100, 65534)})

    def __init__(self, rate_hz: object = 10, baud: object = 115200) -> None:
        self.baud = checked_baud(baud)
        self.rate_hz = checked_setting("rate_hz", rate_hz, 1, FASTEST_HZ)
        if 500 % self.rate_hz:
            raise SettingError("rate_hz", f"the sensor cannot do {rate_hz} Hz", "write a divisor of 500, say 10 or 100")
        self.memory_readings: Mapping[str, int] = {"footfall": 0}
        self.silence_ms = 3_000
        self.warm_up_ms = 0
        self.counters = Counters()
        self.told = Told()
        self._scanner = self.scanner(self.counters)
        self._crossings = CrossingCounter(self.rate_hz)
        self._life_signs = LifeSigns(self.rate_hz)
        self._cache: dict[bytes, int] = {}
        # One call cuts a piece into frames, far faster than a loop of slices; a second's piece is the usual one.
        self._cutters: dict[int, Struct] = {
            count * FRAME_BYTES: Struct(f"{FRAME_BYTES}s" * count) for count in range(1, self.rate_hz + 2)
        }

    @staticmethod
    def scanner(counters: Counters) -> FrameScanner:
        """Measurements and replies."""
        return FrameScanner(_length_at, _holds, counters)

    @staticmethod
    def describe(frame: bytes) -> dict[str, object]:
        """See Driver.describe."""
        return _describe(frame)

    def opening(self) -> list[bytes]:
        """Who it is; rate, the 9-byte format in cm, checksums and output: each set, whoever used the sensor before.
        It answers a setting with what it has then."""
        return [
            make_command(VERSION, b""),
            make_command(SET_RATE, self.rate_hz.to_bytes(2, "little")),
            make_command(OUTPUT_FORMAT, bytes((CENTIMETRES,))),
            make_command(CHECKSUM, b"\x01"),
            make_command(OUTPUT, b"\x01"),
        ]

    def feed(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """See Driver.feed; only crossings and signs of life leave the driver, never a distance."""
        distances_cm = self._distances(data)
        if not distances_cm:
            return ()
        readings = [Reading(begin_ms, 1) for begin_ms in self._crossings.feed(distances_cm, now_ms)]
        readings += self._life_signs.feed(len(distances_cm), now_ms)
        readings.sort(key=itemgetter(0))
        return [("footfall", reading) for reading in readings]

    def settled_ms(self, now_ms: int) -> int:
        """See Driver.settled_ms: a pass is counted some frames after its begin."""
        return now_ms - SETTLE_MS

    def reset(self) -> None:
        """See Driver.reset: the background stays, for the wall does, and so does whoever was counted and is inside."""
        self._scanner.reset()
        self._crossings.interrupt()

    def _distances(self, data: bytes) -> list[int]:
        """Returns a distance, or UNUSABLE, for each measurement that `data` completes."""
        cutter = self._cutters.get(len(data))
        if cutter is not None and not self._scanner.pending:
            try:
                known = [*map(self._cache.__getitem__, cutter.unpack(data))]
            except KeyError:
                pass  # a frame never seen, or spoiled: the long way decides
            else:
                self.counters.frames += len(known)
                return known
        distances_cm = []
        for frame in self._scanner.feed(data):
            if frame[0] == HEAD:
                distance_cm = _distance_cm(frame)
                if len(self._cache) >= CACHE_FRAMES:
                    self._cache.clear()
                self._cache[frame] = distance_cm
                distances_cm.append(distance_cm)
            else:
                self._hear(_describe(frame))
        return distances_cm

    def _hear(self, reply: dict[str, object]) -> None:
        if "version" in reply:
            self.told.identity["firmware"] = str(reply["version"])
        elif reply.get("hz", self.rate_hz) != self.rate_hz:
            self.told.mismatch = f"it keeps a rate of {reply['hz']} Hz: write rate_hz = {reply['hz']}, or replace it"
        elif reply["reply_to"] == REPLIES[OUTPUT_FORMAT] and reply.get("value") != CENTIMETRES:
            self.told.mismatch = "it does not take the 9-byte format in cm: write the device that it is"
