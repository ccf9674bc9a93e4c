"""Hi-Link HLK-LD2450 (Ai-Thinker Rd-03D alike): a radar's targets, 256000 or 115200 8N1, little-endian, ten reports a
second by itself.

byte      0..3         4..11   12..19  20..27  28..29
report    AA FF 03 00  slot 1  slot 2  slot 3  55 CC
slot      x mm  y mm  speed cm/s  resolution mm: u16 each; all zero: nobody. x, y and speed are sign and magnitude with
          the sign bit turned round: bit 15 set is positive
byte      0..3         4..5    6..7     8..                          the last four
ack       FD FC FB FA  length  command  status (0: done) u16, data   04 03 02 01
The length counts command to data; an ack's command has 01 in its high byte, a command itself (same shape, no status)
00. There is no checksum: header, length and tail are all there is. x is to the right as the radar looks, y away from
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import ClassVar

from murmure_edge.reading import Reading
from murmure_edge.sensors.base import (
    Counters,
    Decoded,
    FrameScanner,
    Plausible,
    SettingError,
    Told,
    checked_baud,
    checked_setting,
)
from murmure_edge.sensors.footfall import SETTLE_MS, LifeSigns
from murmure_edge.sensors.tracking import COAST_REPORTS, GATE_MM, HYSTERESIS_MM, MIN_REPORTS, Point, Tracker

REPORT_HEAD, REPORT_TAIL, REPORT_BYTES = b"\xaa\xff\x03\x00", b"\x55\xcc", 30
ACK_HEAD, ACK_TAIL, ACK_BYTES_AROUND = b"\xfd\xfc\xfb\xfa", b"\x04\x03\x02\x01", 10
ACK_LENGTH_MIN, ACK_LENGTH_MAX = 4, 30
SLOT_BYTES, SLOTS_FROM, SLOTS_TO = 8, 4, 28
NOBODY = bytes(SLOT_BYTES)
SIGN = 0x8000

ENABLE, END, MODE, FIRMWARE, MAC, ZONES = 0xFF, 0xFE, 0x91, 0xA0, 0xA5, 0xC1
MULTI_TARGET, SET_ZONES, BLUETOOTH, RESTART = 0x90, 0xC2, 0xA4, 0xA3
ACKS = {
    ENABLE: "enable_config",
    END: "end_config",
    0x80: "single_target",
    MULTI_TARGET: "multi_target",
    MODE: "target_mode",
    FIRMWARE: "firmware",
    0xA1: "baud",
    0xA2: "factory_reset",
    RESTART: "restart",
    BLUETOOTH: "bluetooth",
    MAC: "mac",
    ZONES: "zones",
    SET_ZONES: "set_zones",
}
MULTI, ZONES_BYTES = 2, 26
MAC_WITHOUT_BLUETOOTH = bytes.fromhex("080504030201")
ENABLE_TRIES = 12  # one each gap between commands: a restart takes about 1.5 s

RATE_HZ, REPORT_MS = 10, 100
FARTHEST_MM, DEFAULT_LINE_Y_MM = 6000, 3000


def _command(what: int, data: bytes = b"") -> bytes:
    body = what.to_bytes(2, "little") + data
    return ACK_HEAD + len(body).to_bytes(2, "little") + body + ACK_TAIL


# decode
def _signed(word: bytes) -> int:
    value = int.from_bytes(word, "little")
    return value - SIGN if value & SIGN else -value


def _targets(frame: bytes) -> list[tuple[int, bytes]]:
    """Returns number (1 to 3) and bytes of each slot that has a target."""
    slots = [frame[at : at + SLOT_BYTES] for at in range(SLOTS_FROM, SLOTS_TO, SLOT_BYTES)]
    return [(number, slot) for number, slot in enumerate(slots, 1) if slot != NOBODY]


def _describe(frame: bytes) -> dict[str, object]:
    if frame[:4] == REPORT_HEAD:
        return {
            "kind": "report",
            "targets": [
                {
                    "slot": number,
                    "x_mm": _signed(slot[0:2]),
                    "y_mm": _signed(slot[2:4]),
                    "speed_cm_s": _signed(slot[4:6]),
                    "resolution_mm": int.from_bytes(slot[6:8], "little"),
                }
                for number, slot in _targets(frame)
            ],
        }
    what, data = frame[6], frame[10:-4]
    described: dict[str, object] = {
        "kind": "ack",
        "ack": ACKS[what],
        "status": int.from_bytes(frame[8:10], "little"),
    }
    if what == ENABLE and len(data) >= 4:
        described["protocol"] = int.from_bytes(data[:2], "little")
        described["buffer"] = int.from_bytes(data[2:4], "little")
    elif what == MODE and len(data) >= 2:
        described["targets"] = "multi" if data[0] == MULTI else "single"
    elif what == FIRMWARE and len(data) >= 8:
        described["firmware"] = f"V{data[3]:X}.{data[2]:02X}.{data[7:3:-1].hex().upper()}"
    elif what == MAC and len(data) >= 6:
        described["bluetooth"] = data[:6] != MAC_WITHOUT_BLUETOOTH
    elif what == ZONES and len(data) >= 2:
        described["filter"] = int.from_bytes(data[:2], "little")
    return described


# resync
def _length_at(data: bytes, start: int) -> int:
    head = data[start : start + 4]
    if head == REPORT_HEAD:
        return REPORT_BYTES
    if head == ACK_HEAD:
        begins = data[start : start + 8]
        if len(begins) < 8:
            return 8
        length = int.from_bytes(begins[4:6], "little")
        if ACK_LENGTH_MIN <= length <= ACK_LENGTH_MAX and begins[6] in ACKS and begins[7] == 1:
            return ACK_BYTES_AROUND + length
        return 0
    # Only at the end of the data is a head shorter than four bytes.
    return 4 if REPORT_HEAD.startswith(head) or ACK_HEAD.startswith(head) else 0


def _holds(frame: bytes) -> bool:
    return frame.endswith(REPORT_TAIL if frame[:4] == REPORT_HEAD else ACK_TAIL)


class Ld2450:
    """Driver of an LD2450 over a pavement: crossings of a line, counted from its targets.

    The line is `line_y_mm`, that many mm in front of the radar and across its view, for people who come towards it and
    go away; or `line_x_mm`, along its view and that far to the right of it (negative: left), for people who walk past.
    `reach_from_mm` and `reach_to_mm` say which part of the line counts, by the other coordinate: end it before a shop
    window, whose mirror images walk as people do. `gate_mm`, `hysteresis_mm` and `min_reports` are those of the
    tracking. A crossing counts 1 in either direction; each second with a good report brings a reading of 0.
    """

    NAME: ClassVar[str] = "ld2450"
    QUANTITIES: ClassVar[tuple[str, ...]] = ("footfall",)
    PLAUSIBLE: ClassVar[Plausible] = Plausible(
        ranges={"x_mm": (-FARTHEST_MM, FARTHEST_MM), "y_mm": (0, FARTHEST_MM)}  # of each target
    )

    def __init__(
        self,
        line_y_mm: object = None,
        line_x_mm: object = None,
        reach_from_mm: object = -FARTHEST_MM,
        reach_to_mm: object = FARTHEST_MM,
        gate_mm: object = GATE_MM,
        hysteresis_mm: object = HYSTERESIS_MM,
        min_reports: object = MIN_REPORTS,
        baud: object = 256_000,
    ) -> None:
        if line_y_mm is not None and line_x_mm is not None:
            raise SettingError("line_x_mm", "there is a line_y_mm too", "write one of them: a radar counts at one line")
        self._beside = line_x_mm is not None
        self._line_mm = (
            checked_setting("line_x_mm", line_x_mm, -4000, 4000)
            if self._beside
            else checked_setting("line_y_mm", DEFAULT_LINE_Y_MM if line_y_mm is None else line_y_mm, 1000, 5000)
        )
        self._reach_mm = (
            checked_setting("reach_from_mm", reach_from_mm, -FARTHEST_MM, FARTHEST_MM),
            checked_setting("reach_to_mm", reach_to_mm, -FARTHEST_MM, FARTHEST_MM),
        )
        if self._reach_mm[0] >= self._reach_mm[1]:
            raise SettingError("reach_to_mm", "no part of the line is left", "write more than reach_from_mm")
        self.baud = checked_baud(baud)
        self.memory_readings: Mapping[str, int] = {"footfall": 0}
        self.silence_ms = 3_000
        self.warm_up_ms = 0
        self.counters = Counters()
        self.told = Told()
        self.directions = {1: 0, -1: 0}
        """Crossings since the start, by direction: away from the radar (or to the right) 1, back -1. An exact figure:
        for the technician's own screen while `sense` is stopped, and for nobody else."""
        self._scanner = self.scanner(self.counters)
        self._tracker = Tracker(
            checked_setting("gate_mm", gate_mm, 200, 1500),
            checked_setting("hysteresis_mm", hysteresis_mm, 50, 800),
            checked_setting("min_reports", min_reports, 2, 20),
        )
        self._life_signs = LifeSigns(RATE_HZ)
        self._last_ms = 0
        self._answers: dict[int, dict[str, object]] = {}  # the newest ack of each command in this opening
        self._silenced = False  # Bluetooth was switched off once: it writes to the module's flash

    @staticmethod
    def scanner(counters: Counters) -> FrameScanner:
        """Reports and acks."""
        return FrameScanner(_length_at, _holds, counters)

    @staticmethod
    def describe(frame: bytes) -> dict[str, object]:
        """See Driver.describe."""
        return _describe(frame)

    def opening(self) -> Iterator[bytes]:
        """Several targets, no zone filter, Bluetooth off: each is asked for first and set only where it is otherwise,
        for the module writes what it is told into its flash. Whether Bluetooth is on shows in the address that it
        tells, and switching it off takes a restart."""
        self.told = Told()
        yield from self._enable()
        if ENABLE not in self._answers:
            yield _command(END)  # no answer reaches us; it may have heard all the same
            return
        yield _command(MAC, b"\x01\x00")
        if self._answers.get(MAC, {}).get("bluetooth") and not self._silenced:
            self._silenced = True
            yield _command(BLUETOOTH, b"\x00\x00")
            yield _command(RESTART)
            yield from self._enable()
            yield _command(MAC, b"\x01\x00")
        yield _command(FIRMWARE)
        yield _command(MODE)
        if self._answers.get(MODE, {}).get("targets") != "multi":
            yield _command(MULTI_TARGET)
            yield _command(MODE)
        yield _command(ZONES)
        if self._answers.get(ZONES, {}).get("filter"):
            yield _command(SET_ZONES, bytes(ZONES_BYTES))
            yield _command(ZONES)
        yield _command(END)
        self._tell()

    def _enable(self) -> Iterator[bytes]:
        self._answers.clear()
        for _ in range(ENABLE_TRIES):
            yield _command(ENABLE, b"\x01\x00")
            if ENABLE in self._answers:
                return

    def _tell(self) -> None:
        firmware, mac = self._answers.get(FIRMWARE, {}), self._answers.get(MAC, {})
        if "firmware" in firmware:
            self.told.identity["firmware"] = str(firmware["firmware"])
        if "bluetooth" in mac:
            self.told.identity["bluetooth"] = "on" if mac["bluetooth"] else "off"
        if self._answers.get(MODE, {}).get("targets") == "single":
            self.told.mismatch = "it keeps following one target only: restore its factory settings, or replace it"
        elif self._answers.get(ZONES, {}).get("filter"):
            self.told.mismatch = "it keeps a zone filter: restore its factory settings, or replace it"

    def feed(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """See Driver.feed; only crossings and signs of life leave the driver, never a place or a direction."""
        reports = []
        for frame in self._scanner.feed(data):
            if frame[:4] == REPORT_HEAD:
                reports.append(frame)
            else:
                self._answers[frame[6]] = _describe(frame)
        if not reports:
            return ()
        if now_ms - self._last_ms - len(reports) * REPORT_MS > COAST_REPORTS * REPORT_MS:
            self._tracker.interrupt()
        readings = []
        for later, frame in enumerate(reports, 1 - len(reports)):
            for crossing in self._tracker.report([self._point(slot) for _, slot in _targets(frame)]):
                if self._reach_mm[0] <= crossing.along_mm <= self._reach_mm[1]:
                    self.directions[crossing.direction] += 1
                    # Never in the piece before, nor before the horizon; nobody knows how long the very first waited.
                    at_ms = max(self._last_ms or now_ms, now_ms + later * REPORT_MS, now_ms - SETTLE_MS)
                    readings.append(Reading(min(at_ms, now_ms), 1))
        self._last_ms = now_ms
        readings += self._life_signs.feed(len(reports), now_ms)
        readings.sort(key=itemgetter(0))
        return [("footfall", reading) for reading in readings]

    def settled_ms(self, now_ms: int) -> int:
        """See Driver.settled_ms: a crossing has the time of the report that completes it."""
        return now_ms - SETTLE_MS

    def reset(self) -> None:
        """See Driver.reset: who is seen after it may be anybody."""
        self._scanner.reset()
        self._tracker.interrupt()

    def _point(self, slot: bytes) -> Point:
        x_mm, y_mm = _signed(slot[0:2]), _signed(slot[2:4])
        return Point(x_mm - self._line_mm, y_mm) if self._beside else Point(y_mm - self._line_mm, x_mm)
