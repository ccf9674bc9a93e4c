"""Plantower PMS5003, PMS7003 and kin: fine dust, 9600 8N1, big-endian, polled once a second (passive mode).

byte      0   1   2..3    4..9            10..15            16..27              28       29     last 2
measure   42  4D  00 1C   PM1, 2.5, 10    PM1, 2.5, 10      counts per 0.1 l,   version  error  sum of all before
                          of the factory  in air, ug/m3     6 sizes
ack       42  4D  00 04   command, value                                                        sum of 0..5
command   42  4D  command, value (2)                                                            sum of 0..4
The length in bytes 2..3 is what follows it; other models differ in it (40 bytes: with formaldehyde, 24: PMS3003).

Never in active mode: there the sensor speaks every 2.3 s, but every 0.2 to 0.8 s while the air changes, so when a
reading comes, and how many slots have one, would tell of the smoke that is passing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from murmure_edge.reading import Reading
from murmure_edge.sensors.base import (
    Counters,
    Decoded,
    FrameScanner,
    Plausible,
    Told,
    checked_baud,
    checked_setting,
)

HEAD, HEAD_BYTES = b"\x42\x4d", 4
MEASUREMENT_BYTES, ACK_BYTES, COMMAND_BYTES = 32, 8, 7
OTHER_MODELS = {24: "PMS3003", 40: "PMS5003ST"}
SET_MODE, READ, SLEEP_WAKE = 0xE1, 0xE2, 0xE4
PASSIVE, WAKE = 0, 1
WORDS = (
    *(f"pm{size}_{kind}_ug_m3" for kind in ("cf1", "atm") for size in ("1", "2_5", "10")),
    *(f"n_gt_{size}um_per_0_1l" for size in ("0_3", "0_5", "1_0", "2_5", "5_0", "10")),
)
IN_AIR = {"pm1": 10, "pm2_5": 12, "pm10": 14}
BITS_PER_BYTE = 10
# From a command to the first byte of its answer, with a wide margin, and the answer still far within the second.
DEVICE_LATENCY_MS = 500
DEAF_AFTER = 5  # measurements in the place of an acknowledgement
DEAF = "it speaks unasked and obeys no command: wire the gateway's TX to the sensor's RX"


# checksum: 16 bits, of all bytes that go before
def _checksum(data: bytes) -> bytes:
    return (sum(data) & 0xFFFF).to_bytes(2, "big")


def make_command(what: int, value: int = 0) -> bytes:
    """Returns the bytes of one command."""
    body = HEAD + bytes((what, 0, value))
    return body + _checksum(body)


# decode
def _describe(frame: bytes) -> dict[str, object]:
    if len(frame) == ACK_BYTES:
        what, value = frame[4], frame[5]
        if what == SET_MODE:
            return {"kind": "ack", "cmd": "set_mode", "mode": "active" if value else "passive"}
        if what == SLEEP_WAKE:
            return {"kind": "ack", "cmd": "wake" if value else "sleep"}
        return {"kind": "ack", "cmd": what, "value": value}
    if len(frame) != MEASUREMENT_BYTES:
        return {"kind": "other_model", "model": OTHER_MODELS[len(frame)]}
    words: dict[str, object] = {
        name: int.from_bytes(frame[at : at + 2], "big") for name, at in zip(WORDS, range(4, 28, 2), strict=True)
    }
    return {"kind": "measurement", **words, "version": frame[28], "error_code": frame[29]}


# resync
def _length_at(data: bytes, start: int) -> int:
    head = data[start : start + HEAD_BYTES]
    if not HEAD.startswith(head[:2]):
        return 0
    if len(head) < HEAD_BYTES:
        return HEAD_BYTES
    length = HEAD_BYTES + int.from_bytes(head[2:], "big")
    return length if length in (MEASUREMENT_BYTES, ACK_BYTES) or length in OTHER_MODELS else 0


def _holds(frame: bytes) -> bool:
    return _checksum(frame[:-2]) == frame[-2:]


class PmsX003:
    """Driver of a PMSx003: asks for one measurement a second, readings in tenths of ug/m3 (it gives whole ones).

    Setting `average_s` 3-60: for how long a value shows what has gone by. The vendor says "total response time at
    most 10 s", its own renewal every 2.3 s included. One reading more is for its clock, which is not the gateway's.

    The line to the sensor must be wired too: one that cannot be told to be passive is not taken.
    """

    NAME: ClassVar[str] = "pmsx003"
    QUANTITIES: ClassVar[tuple[str, ...]] = tuple(IN_AIR)
    PLAUSIBLE: ClassVar[Plausible] = Plausible(
        ranges={"pm1_atm_ug_m3": (0, 500), "pm2_5_atm_ug_m3": (0, 500), "pm10_atm_ug_m3": (0, 500)},
        rising=("pm1_atm_ug_m3", "pm2_5_atm_ug_m3", "pm10_atm_ug_m3"),
        floors={"pm1_atm_ug_m3": 0, "pm2_5_atm_ug_m3": 0, "pm10_atm_ug_m3": 0},
    )

    def __init__(self, baud: object = 9600, average_s: object = 10) -> None:
        self.baud = checked_baud(baud)
        memory = checked_setting("average_s", average_s, 3, 60) + 1
        self.memory_readings: Mapping[str, int] = dict.fromkeys(IN_AIR, memory)
        self.period_ms = 1000
        wire_bytes = COMMAND_BYTES + MEASUREMENT_BYTES
        self.timeout_ms = DEVICE_LATENCY_MS + -(-1000 * BITS_PER_BYTE * wire_bytes // self.baud)
        self.silence_ms = 5_000
        self.warm_up_ms = 30_000
        self.awaiting = False
        self.counters = Counters()
        self.told = Told()
        self._scanner = self.scanner(self.counters)
        self._asked = READ
        self._passive = True  # until something speaks against it
        self._heard_bytes = 0  # of `counters.discarded_bytes`, what was discarded here and not by the port
        self._deaf = 0

    @staticmethod
    def scanner(counters: Counters) -> FrameScanner:
        """Measurements, acknowledgements, and the measurements of other models."""
        return FrameScanner(_length_at, _holds, counters)

    @staticmethod
    def describe(frame: bytes) -> dict[str, object]:
        """See Driver.describe."""
        return _describe(frame)

    def opening(self) -> Iterator[bytes]:
        """Wake, which is not acknowledged, then the passive mode, which is: `request` repeats it until then."""
        self._passive, self.awaiting = False, False
        yield make_command(SLEEP_WAKE, WAKE)
        yield make_command(SET_MODE, PASSIVE)
        self._judge()

    def request(self) -> bytes:
        """See PolledDriver.request. What came unasked shows that it lost its mode with its power: it is set anew."""
        if self.counters.discarded_bytes != self._heard_bytes:
            self._passive = False
        if self._scanner.pending:
            self._scanner.reset()
        self._heard_bytes = self.counters.discarded_bytes
        self.awaiting = True
        self._asked = READ if self._passive else SET_MODE
        return make_command(READ) if self._passive else make_command(SET_MODE, PASSIVE)

    def feed(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """See Driver.feed; a request that had to set the mode brings no reading."""
        decoded: list[Decoded] = []
        for frame in self._scanner.feed(data):
            if len(frame) == ACK_BYTES:
                self._hear(frame)
            elif len(frame) != MEASUREMENT_BYTES:
                model = OTHER_MODELS[len(frame)]
                self.told.mismatch = (
                    f"its frames of {len(frame)} bytes are those of a {model}: use a PMS5003 or PMS7003"
                )
            else:
                self.told.identity["firmware"] = f"{frame[28]:02x}"
                if not self.awaiting:
                    continue  # a duplicate: one request brings one reading
                if self._asked == SET_MODE:
                    self._deaf += 1
                    self._judge()
                    continue
                self.awaiting = False
                for quantity, at in IN_AIR.items():
                    value = 10 * int.from_bytes(frame[at : at + 2], "big")
                    decoded.append((quantity, Reading(now_ms, value)))
        self._heard_bytes = self.counters.discarded_bytes
        return decoded

    def _hear(self, ack: bytes) -> None:
        if ack[4:6] == bytes((SET_MODE, PASSIVE)):
            self._passive, self._deaf = True, 0
            if self._asked == SET_MODE:
                self.awaiting = False

    def _judge(self) -> None:
        if not self._passive and self._deaf >= DEAF_AFTER:
            self.told.mismatch = DEAF

    def settled_ms(self, now_ms: int) -> int:
        """See Driver.settled_ms: a measurement carries the time of its answer."""
        return now_ms

    def reset(self) -> None:
        """See Driver.reset."""
        self.awaiting, self._deaf = False, 0
        self._scanner.reset()
        self._heard_bytes = self.counters.discarded_bytes
