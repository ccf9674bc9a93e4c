"""Sensirion SPS30: fine dust, 115200 8N1, SHDLC, big-endian, polled once a second.

byte      0   1    2        3      4       5..           last 2
answer    7E  adr  command  state  length  data          check  7E
command   7E  adr  command  length         data          check  7E
check     the low byte of the sum of all between the flags, inverted; before stuffing
stuffing  between the flags, check included: 7E -> 7D 5E, 7D -> 7D 5D, 11 -> 7D 31, 13 -> 7D 33
state     bit 7: a bit of the status register (command D2) is set; bits 0..6: error, 43 = not in this state
measured  10 floats: PM1, 2.5, 4, 10 ug/m3; particles of 0.5, 1, 2.5, 4, 10 um per cm3; typical size um;
          or no data: nothing new since the last reading
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
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
    tenths,
)

FLAG, ADDRESS = 0x7E, 0
START, STOP, READ, WAKE, INFORMATION, VERSION, STATUS = 0x00, 0x01, 0x03, 0x11, 0xD0, 0xD1, 0xD2
AS_FLOATS = b"\x01\x03"
PRODUCT, SERIAL = b"\x00", b"\x03"
PRODUCT_TYPE = "00080000"
CLEAR = b"\x01"
DEVICE_FLAG, NOT_IN_THIS_STATE = 0x80, 0x43
ERRORS = {
    0x01: "wrong length",
    0x02: "unknown command",
    0x04: "illegal parameter",
    0x28: "internal function argument",
    NOT_IN_THIS_STATE: "command not allowed in current state",
}
STATUS_BITS = {1 << 21: "the fan's speed is out of range", 1 << 5: "the laser fails", 1 << 4: "the fan does not turn"}
FLOATS = Struct(">10f")
MEASURED = (
    *(f"pm{size}_ug_m3" for size in ("1", "2_5", "4", "10")),
    *(f"nc{size}_per_cm3" for size in ("0_5", "1_0", "2_5", "4_0", "10")),
    "typical_size_um",
)
QUANTITIES, MASSES = {"pm1": 0, "pm2_5": 1, "pm10": 3}, 4  # where they stand among the four masses
AROUND_DATA = 5  # address, command, state, length and check
ANSWER_BYTES_MIN, ANSWER_BYTES_MAX = AROUND_DATA + 2, 2 * (AROUND_DATA + FLOATS.size) + 2  # every byte stuffed
STUFFED = {0x7E: b"\x7d\x5e", 0x7D: b"\x7d\x5d", 0x11: b"\x7d\x31", 0x13: b"\x7d\x33"}
MEANT = {stuffed: bytes((byte,)) for byte, stuffed in STUFFED.items()}
ESCAPE = re.compile(rb"\x7d.?", re.DOTALL)
TIMEOUT_MS = 300  # an answer takes 20 ms at most, the longest 8 ms on the line


# checksum
def _checksum(content: bytes) -> int:
    return ~sum(content) & 0xFF


def make_command(what: int, data: bytes = b"") -> bytes:
    """Returns the bytes of one command."""
    content = bytes((ADDRESS, what, len(data))) + data
    content += bytes((_checksum(content),))
    return bytes((FLAG,)) + b"".join(STUFFED.get(byte, bytes((byte,))) for byte in content) + bytes((FLAG,))


# decode
def _content(frame: bytes) -> bytes:
    """Returns what stands between the flags, unstuffed; an escape that stands for nothing is left as it is."""
    return ESCAPE.sub(lambda escape: MEANT.get(escape[0], escape[0]), frame[1:-1])


def _describe(frame: bytes) -> dict[str, object]:
    content = _content(frame)
    what, state, data = content[1], content[2], content[4:-1]
    if what == READ and state == 0 and len(data) == FLOATS.size:
        values = zip(MEASURED, FLOATS.unpack(data), strict=True)
        return {
            "kind": "measurement",
            "address": content[0],
            "cmd": what,
            "state": state,
            **{name: round(value, 4) for name, value in values if math.isfinite(value)},
        }
    described: dict[str, object] = {"kind": "reply", "cmd": what, "state": state}
    error = state & ~DEVICE_FLAG
    if error:
        described["error"] = ERRORS.get(error, "unknown error")
    if state & DEVICE_FLAG:
        described["device_error"] = True
    if what == INFORMATION and data:
        described["text"] = _text(data)
    return described


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("ascii", "replace")


# resync
def _length_at(data: bytes, start: int) -> int:
    if data[start] != FLAG:
        return 0
    end = data.find(FLAG, start + 1, start + ANSWER_BYTES_MAX)
    if end < 0:
        have = len(data) - start
        return have + 1 if have < ANSWER_BYTES_MAX else 0
    length = end + 1 - start
    return length if length >= ANSWER_BYTES_MIN else 0


def _holds(frame: bytes) -> bool:
    content = _content(frame)
    if len(content) < AROUND_DATA or len(content) != AROUND_DATA + content[3]:
        return False
    return content[0] == ADDRESS and _checksum(content[:-1]) == content[-1]


class _Scanner(FrameScanner):
    def finish(self) -> list[bytes]:
        """See FrameScanner.finish. A flag with nothing behind it closed what went before, and begins no frame."""
        if self.pending == bytes((FLAG,)):
            self.reset()
        return super().finish()


class Sps30:
    """Driver of an SPS30: asks for one measurement a second, readings in tenths of ug/m3.

    Setting `average_s` 1-60: over how many seconds the sensor averages; it renews its values once a second. One
    reading more is for its own clock, which may be off by 4 %: where a second of the gateway's brings nothing new,
    the last values stand once more, as they do in a sensor that has no word for "not new".

    A status bit (fan, laser) means no reading, whatever the values are; it is read and cleared, and told, until it
    stays away.
    """

    NAME: ClassVar[str] = "sps30"
    QUANTITIES: ClassVar[tuple[str, ...]] = tuple(QUANTITIES)
    PLAUSIBLE: ClassVar[Plausible] = Plausible(
        ranges={"pm1_ug_m3": (0, 1000), "pm2_5_ug_m3": (0, 1000), "pm10_ug_m3": (0, 1000)},
        rising=("pm1_ug_m3", "pm2_5_ug_m3", "pm4_ug_m3", "pm10_ug_m3"),
        floors={"pm1_ug_m3": 0, "pm2_5_ug_m3": 0, "pm10_ug_m3": 0},
    )

    def __init__(self, baud: object = 115200, average_s: object = 30) -> None:
        self.baud = checked_baud(baud)
        memory = checked_setting("average_s", average_s, 1, 60) + 1
        self.memory_readings: Mapping[str, int] = dict.fromkeys(QUANTITIES, memory)
        self.period_ms = 1000
        self.timeout_ms = TIMEOUT_MS
        self.silence_ms = 5_000
        self.warm_up_ms = 30_000
        self.awaiting = False
        self.counters = Counters()
        self.told = Told()
        self._scanner = self.scanner(self.counters)
        self._asked: tuple[int, bytes] = (READ, b"")
        self._mends: list[tuple[int, bytes]] = []  # commands that go out instead of the next requests
        self._warm_ms = 0
        self._last: tuple[int, ...] = ()

    @staticmethod
    def scanner(counters: Counters) -> FrameScanner:
        """Every answer of the sensor with the usual address."""
        return _Scanner(_length_at, _holds, counters)

    @staticmethod
    def describe(frame: bytes) -> dict[str, object]:
        """See Driver.describe."""
        return _describe(frame)

    def opening(self) -> Iterator[bytes]:
        """Wake (a lone FF opens its ears), ask who it is, and start anew with floats, whoever used it before. It may
        refuse to be woken, stopped or started where there is nothing to wake, stop or start."""
        self.awaiting, self._mends, self._last = False, [], ()
        yield b"\xff" + self._ask(WAKE)
        yield self._ask(INFORMATION, PRODUCT)
        yield self._ask(VERSION)  # between the two of one command: a late answer to the first is none to the second
        yield self._ask(INFORMATION, SERIAL)
        yield self._ask(STOP)
        yield self._ask(START, AS_FLOATS)

    def request(self) -> bytes:
        """See PolledDriver.request. What must be mended goes first, one command a second."""
        if self._scanner.pending:
            self._scanner.reset()
        self.awaiting = True
        return self._ask(*(self._mends.pop(0) if self._mends else (READ, b"")))

    def feed(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """See Driver.feed; an answer to another command than the last is a stale one and answers nothing."""
        decoded: list[Decoded] = []
        for frame in self._scanner.feed(data):
            content = _content(frame)
            what, state, answer = content[1], content[2], content[4:-1]
            if what != self._asked[0]:
                continue
            if what != READ:
                self._hear(state, answer, now_ms)
            elif self.awaiting:
                values = self._values(state, answer)
                if not values:
                    self.counters.refused += 1
                elif not 0 < self._warm_ms - now_ms <= self.warm_up_ms:
                    decoded += [(quantity, Reading(now_ms, values[at])) for quantity, at in QUANTITIES.items()]
            self.awaiting = False
        return decoded

    def settled_ms(self, now_ms: int) -> int:
        """See Driver.settled_ms: a measurement carries the time of its answer."""
        return now_ms

    def reset(self) -> None:
        """See Driver.reset."""
        self.awaiting = False
        self._scanner.reset()

    def _ask(self, what: int, data: bytes = b"") -> bytes:
        self._asked = what, data
        return make_command(what, data)

    def _values(self, state: int, data: bytes) -> tuple[int, ...]:
        """Returns the masses in tenths, or nothing if the sensor gives none; only its status and NaN decide."""
        if not state and not data:
            values, self._last = self._last, ()
            return values
        self._last = ()
        if state & DEVICE_FLAG:
            self._mends = [(STATUS, CLEAR)]
        elif state == NOT_IN_THIS_STATE:
            self._mends = [(START, AS_FLOATS)]  # it lost its power for a moment
        elif not state and len(data) == FLOATS.size:
            masses = [tenths(value) for value in FLOATS.unpack(data)[:MASSES]]
            self._last = tuple(mass for mass in masses if mass is not None)
            if len(self._last) < MASSES:
                self._last = ()
        elif not state:
            self._mends = [(STOP, b""), (START, AS_FLOATS)]  # another program had it send whole numbers
        return self._last

    def _hear(self, state: int, data: bytes, now_ms: int) -> None:
        """Takes in the answer to a command that measures nothing."""
        identity = self.told.identity
        if self._asked == (START, AS_FLOATS) and not state:
            self._warm_ms = now_ms + self.warm_up_ms
        elif self._asked == (INFORMATION, PRODUCT) and data:
            identity["product"] = _text(data)
            if identity["product"] != PRODUCT_TYPE:
                self.told.mismatch = (
                    f"it calls itself {identity['product']!a}, not an SPS30 ({PRODUCT_TYPE}): plug one in"
                )
        elif self._asked == (INFORMATION, SERIAL) and data:
            identity["serial"] = _text(data)
        elif self._asked[0] == VERSION and len(data) >= 2:
            identity["firmware"] = f"{data[0]}.{data[1]}"
        elif self._asked[0] == STATUS and len(data) >= 4:
            register = int.from_bytes(data[:4], "big")
            identity["status"] = ", ".join(says for bit, says in STATUS_BITS.items() if register & bit)
