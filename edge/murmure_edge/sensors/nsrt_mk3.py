"""Convergence Instruments NSRT_mk3_Dev and mk4_Dev: sound level, USB (the speed is ignored), little-endian, polled.

byte      0..3                            4..7      8..11           12..
command   what, bit 31 set for a reading  0         count of bytes  for a setting: its bytes
answer    to a reading: exactly so many bytes; to a setting: 06
There is no frame and no checksum: an answer is known by what was asked, its length, and that nothing came before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from typing import ClassVar

from murmure_edge.reading import Reading
from murmure_edge.sensors.base import Counters, Decoded, FrameScanner, Plausible, Told, checked_baud, tenths

READING = 1 << 31
COMMAND = Struct("<III")
FLOAT = Struct("<f")
LEVEL, LEQ, TEMPERATURE = 0x10 | READING, 0x11 | READING, 0x12 | READING
WEIGHTING = 0x20
MODEL, SERIAL, FIRMWARE = 0x31 | READING, 0x32 | READING, 0x33 | READING
FLOATS = {LEVEL: "level_db", LEQ: "leq_db", TEMPERATURE: "temperature_c"}
TEXTS = {MODEL: "model", SERIAL: "serial", FIRMWARE: "firmware"}
TEXT_BYTES = 32
WEIGHTINGS = {0: "C", 1: "A", 2: "Z"}
A_WEIGHTED = b"\x01"
ACK = b"\x06"
MAKE = "NSRT"
TIMEOUT_MS = 300  # over USB an answer takes a few milliseconds


def make_command(what: int, count: int, data: bytes = b"") -> bytes:
    """Returns the bytes of one command."""
    return COMMAND.pack(what, 0, count) + data


ASK_LEQ = make_command(LEQ, FLOAT.size)
SET_WEIGHTING = make_command(WEIGHTING, len(A_WEIGHTED), A_WEIGHTED)
ASK_WEIGHTING = make_command(WEIGHTING | READING, 1)


# decode
def answer_bytes(command: bytes) -> int:
    """Returns how many bytes answer a command."""
    what, _, count = COMMAND.unpack_from(command)
    return count if what & READING else len(ACK)


def _describe(exchange: bytes) -> dict[str, object]:
    what, _, count = COMMAND.unpack_from(exchange)
    answer = exchange[COMMAND.size :]
    if not what & READING:
        return {"kind": "ack", "ack": answer[count:] == ACK}
    if what in FLOATS:
        (value,) = FLOAT.unpack(answer)
        if tenths(value) is None:
            return {"kind": "reply", "reply_to": FLOATS[what]}
        return {"kind": "measurement", FLOATS[what]: round(value, 4)}
    if what == WEIGHTING | READING:
        return {"kind": "reply", "weighting": WEIGHTINGS.get(answer[0], "unknown")}
    if what in TEXTS:
        return {"kind": "reply", TEXTS[what]: _text(answer)}
    return {"kind": "reply", "reply_to": what & ~READING}


def _text(answer: bytes) -> str:
    return answer.split(b"\0")[0].decode("ascii", "replace").strip()


class NsrtMk3:
    """Driver of an NSRT meter: reads the LEQ since the last call once a second, readings in tenths of a dB(A).

    Reading it restarts the integration: nobody else may read the meter. The LEQ is integrated evenly, whatever time
    constant is set, so it remembers its own second only. One reading more is for the gateway's clock.
    """

    NAME: ClassVar[str] = "nsrt_mk3"
    QUANTITIES: ClassVar[tuple[str, ...]] = ("noise",)
    PLAUSIBLE: ClassVar[Plausible] = Plausible(ranges={"leq_db": (30, 130)}, floors={"leq_db": 30}, stuck_s=60)

    def __init__(self, baud: object = 115200) -> None:
        self.baud = checked_baud(baud)
        self.memory_readings: Mapping[str, int] = {"noise": 2}
        self.period_ms = 1000
        self.timeout_ms = TIMEOUT_MS
        self.silence_ms = 3 * self.period_ms
        self.warm_up_ms = 0
        self.awaiting = False
        self.counters = Counters()
        self.told = Told()
        self._asked = b""  # the command whose answer is waited for
        self._pending = b""
        self._weighted = True  # until something speaks against it

    @staticmethod
    def scanner(counters: Counters) -> FrameScanner:
        """Finds nothing: without the command before it an answer is any bytes."""
        return FrameScanner(lambda data, start: 0, lambda frame: False, counters)

    @staticmethod
    def describe(frame: bytes) -> dict[str, object]:
        """See Driver.describe; `frame` is a command and the answer to it."""
        return _describe(frame)

    def opening(self) -> Iterator[bytes]:
        """Weighting A, read back, who it is, and a first LEQ, which is of nobody knows how long and is not taken.

        An answer that is late would be taken for the next one, so the first that is missing ends the opening.
        """
        self._weighted = False
        for command in (
            SET_WEIGHTING,
            ASK_WEIGHTING,
            *(make_command(what, TEXT_BYTES) for what in TEXTS),
            ASK_LEQ,
        ):
            self._ask(command)
            yield command
            if self._asked:
                return

    def request(self) -> bytes:
        """See PolledDriver.request. Until the weighting has been read back it is asked for that."""
        self.awaiting = True
        return self._ask(ASK_LEQ if self._weighted else ASK_WEIGHTING)

    def feed(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """See Driver.feed; an answer comes in one piece of USB: one that is too long has something stray in it."""
        self._pending += data
        wanted = answer_bytes(self._asked) if self._asked else 0
        if len(self._pending) < wanted:
            return ()
        answer, self._pending = self._pending, b""
        if len(answer) > wanted or not wanted:
            self.counters.rejected += bool(answer)
            self.counters.discarded_bytes += len(answer)
            return ()
        self.counters.frames += 1
        asked, awaited = self._asked, self.awaiting
        self._asked, self.awaiting = b"", False
        if asked != ASK_LEQ:
            self._hear(asked, answer)
            return ()
        leq_tenths = tenths(*FLOAT.unpack(answer))
        if leq_tenths is None:
            self.counters.refused += 1
            return ()
        return (("noise", Reading(now_ms, leq_tenths)),) if awaited else ()

    def settled_ms(self, now_ms: int) -> int:
        """See Driver.settled_ms: a level carries the time of its answer."""
        return now_ms

    def reset(self) -> None:
        """See Driver.reset."""
        self.awaiting = False
        self._ask(b"")

    def _ask(self, command: bytes) -> bytes:
        """Half an answer to what was asked before is dropped: its rest may come or not, and would shift this one."""
        self.counters.discarded_bytes += len(self._pending)
        self._pending, self._asked = b"", command
        return command

    def _hear(self, asked: bytes, answer: bytes) -> None:
        """Takes in the answer to a command that measures nothing."""
        if asked == ASK_WEIGHTING:
            self._weighted = answer == A_WEIGHTED
            if not self._weighted:
                weighting = WEIGHTINGS.get(answer[0], "something else")
                self.told.mismatch = f"it does not keep the weighting A ({weighting}): is it an NSRT meter?"
        for what, name in TEXTS.items():
            if asked == make_command(what, TEXT_BYTES):
                self.told.identity[name] = _text(answer)
        if MAKE not in self.told.identity.get("model", MAKE).upper():
            self.told.mismatch = f"it calls itself {self.told.identity['model']!a}, not an NSRT meter: plug one in"
