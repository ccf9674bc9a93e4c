"""Hi-Link HLK-LD2450: a radar that tracks up to three people, 256000 baud, ten reports a second.

device   AA FF 03 00  three of (x, y, speed, resolution; u16 each)  55 CC     x, y, speed: bit 15 set is positive
both     FD FC FB FA  length u16  command u16  data  04 03 02 01              (replies: command + 0100h, status u16)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot
from random import Random
from types import MappingProxyType

from .base import FOOTFALL, MS_PER_S, S_PER_MINUTE, Device, Piece, Source
from .walkers import Scene, Walk, walks

BAUDS = {1: 9600, 2: 19200, 3: 38400, 4: 57600, 5: 115200, 6: 230400, 7: 256000, 8: 460800}
REPORT_MS = 100
_ENABLE, _END, _SINGLE, _SEVERAL, _MODE = 0xFF, 0xFE, 0x80, 0x90, 0x91
_FIRMWARE, _BAUD, _FACTORY, _RESTART, _BLUETOOTH, _MAC, _ZONES, _SET_ZONES = (
    0xA0,
    0xA1,
    0xA2,
    0xA3,
    0xA4,
    0xA5,
    0xC1,
    0xC2,
)
_DATA_BYTES = {_ENABLE: 2, _BAUD: 2, _BLUETOOTH: 2, _MAC: 2, _SET_ZONES: 26}
_REPORT, _REPORT_TAIL = b"\xaa\xff\x03\x00", b"\x55\xcc"
_HEADER, _TAIL = b"\xfd\xfc\xfb\xfa", b"\x04\x03\x02\x01"
_LONGEST = 64
_DONE, _REFUSED = b"\0\0", b"\1\0"
_ADDRESS = bytes.fromhex("8f 27 2e b8 0f 65")
_NO_ADDRESS = bytes.fromhex("08 05 04 03 02 01")
_NO_ZONES = bytes(26)
_ONLY_INSIDE, _NEVER_INSIDE = 1, 2

_SLOTS = 3
_RESOLUTION_MM = 360
_MERGED_MM = 300
_JITTER_MM = 30
_SIDE_PER_AHEAD = 1.732  # the tangent of 60 degrees
_FARTHEST_MM = 6000
_LEAST_REPORTS = 5


@dataclass(frozen=True)
class Target:
    """One slot of a report: mm, mm, cm/s (negative: comes nearer)."""

    x_mm: int
    y_mm: int
    speed_cm_s: int


_FFFF = Target(0x7FFF, 0x7FFF, 0x7FFF)
_NOWHERE = Target(0, 20_000, 0)


@dataclass(frozen=True)
class Settings:
    """What survives a power cut; the zones as command C2 carries them."""

    baud: int = 256000
    bluetooth: bool = True
    several: bool = True
    zones: bytes = _NO_ZONES


class Ld2450(Device):
    """The radar: each walker is a target while in view, three at the most, nearest first.

    `settings` are those in force, `saved` those after the next restart. A crossing counts where the reports show it:
    five on either side of the line; a walker who finds three others in view is never shown, and `over_capacity`.
    """

    name = "ld2450"
    quantity = FOOTFALL
    frame_bytes = 30
    latency_ms = 5
    options = MappingProxyType({"baud": "baud", "bluetooth": "bluetooth"})
    bauds = tuple(BAUDS.values())

    def __init__(self, source: Source, seed: int = 0, baud: int = 256000, bluetooth: int = 1) -> None:
        super().__init__(source, seed)
        self.settings = self.saved = Settings(baud, bluetooth == 1)
        self.configuring = False
        self._restart_ms: int | None = None
        self._heard = b""
        self._shown_per_s = [0] * S_PER_MINUTE
        self._lost_per_s = [0] * S_PER_MINUTE
        self._lost = 0

    @property
    def baud(self) -> int:  # type: ignore[override]
        return self.settings.baud

    @property
    def over_capacity(self) -> int:
        return self.source.over_capacity + self._lost

    def advance(self, to_ms: int) -> list[Piece]:
        restart_ms = self._restart_ms
        if restart_ms is None or to_ms < restart_ms:
            return super().advance(to_ms)
        before = super().advance(restart_ms - 1)
        self.power_cycle(restart_ms)
        return before + super().advance(to_ms)

    def frames_of(self, second: int) -> list[Piece]:
        if self._restart_ms is not None and second * MS_PER_S >= self._restart_ms:
            self.power_cycle(self._restart_ms)
        return super().frames_of(second)

    def say(self, minute: int) -> list[bytes]:
        """Ten reports a second, at k * 100 ms of it; none while it is configured."""
        self._shown_per_s = [0] * S_PER_MINUTE
        self._lost_per_s = [0] * S_PER_MINUTE
        if self.configuring:
            return [b""] * S_PER_MINUTE
        reports: dict[int, list[Target]] = {}
        draw = Random(f"{self.seed}/ld2450/{minute}")
        for walk in self._admitted(minute):
            self._watch(walk, reports, draw)
        frames = [_NOBODY] * (S_PER_MINUTE * MS_PER_S // REPORT_MS)
        for index, targets in reports.items():
            frames[index] = report(_separate(targets)[: self._slots])
        per_s = MS_PER_S // REPORT_MS
        return [b"".join(frames[at : at + per_s]) for at in range(0, len(frames), per_s)]

    def frames_per_s(self) -> int:
        return MS_PER_S // REPORT_MS

    def frame_offset_ms(self, index: int) -> int:
        return index * REPORT_MS

    def answer(self, data: bytes, now_ms: int) -> list[bytes]:
        """Answers every whole command; slides by one byte over what is none."""
        if self._restart_ms is not None:
            if now_ms < self._restart_ms:
                return []  # it is starting
            self.power_cycle(self._restart_ms)
        heard = self._heard + data
        answers = []
        while (start := heard.find(_HEADER[0])) >= 0:
            heard = heard[start:]
            if len(heard) < 6:
                if _HEADER.startswith(heard[:4]):
                    break
                heard = heard[1:]
                continue
            size = 6 + int.from_bytes(heard[4:6], "little")
            if heard[:4] != _HEADER or not 2 <= size - 6 <= _LONGEST:
                heard = heard[1:]
                continue
            if len(heard) < size + len(_TAIL):
                break
            if heard[size : size + len(_TAIL)] != _TAIL:
                heard = heard[1:]
                continue
            command, heard = heard[6:size], heard[size + len(_TAIL) :]
            answers += self._obey(command[0], command[2:], now_ms)
        else:
            heard = b""
        self._heard = heard
        return answers

    def power_cycle(self, now_ms: int) -> None:
        """Everything set is kept, and what waited for a restart holds."""
        super().power_cycle(now_ms)
        self.settings = self.saved
        self.configuring = False
        self._restart_ms = None
        self._heard = b""

    def reflash(self, baud: int) -> None:
        """As after command A1 and a restart."""
        self.settings = replace(self.settings, baud=baud)
        self.saved = replace(self.saved, baud=baud)

    def bent(self, said: bytes, fault: str) -> bytes:
        """Somebody who never moves, nobody, or one where nobody can be."""
        targets = {"stuck": [Target(0, 2500, 0)], "warmup_zeros": [], "ffff": [_FFFF], "out_of_range": [_NOWHERE]}
        if not said.startswith(_REPORT) or fault not in targets:
            return said
        return report(targets[fault]) * (len(said) // self.frame_bytes)

    def _obey(self, what: int, data: bytes, now_ms: int) -> list[bytes]:
        if not self.configuring and what != _ENABLE:
            return []
        if self.refuses_with is not None:
            return [_reply(what, self.refuses_with.to_bytes(2, "little"))]
        if len(data) != _DATA_BYTES.get(what, 0):
            return [_reply(what, _REFUSED)]
        value = int.from_bytes(data[:2], "little")
        said = _DONE
        if what == _ENABLE:
            self.configuring = True
            said += b"\x01\x00\x40\x00"
        elif what == _END:
            self.configuring = False
        elif what in (_SINGLE, _SEVERAL):
            self.settings = replace(self.settings, several=what == _SEVERAL)
            self.saved = replace(self.saved, several=what == _SEVERAL)
        elif what == _MODE:
            said += b"\x02\x00" if self.settings.several else b"\x01\x00"
        elif what == _FIRMWARE:
            said += bytes.fromhex("00 00 02 01 16 24 06 22")  # V1.02.22062416
        elif what == _BAUD and value in BAUDS:
            self.saved = replace(self.saved, baud=BAUDS[value])
        elif what == _FACTORY:
            self.saved = Settings()
        elif what == _RESTART:
            self._restart_ms = (now_ms // MS_PER_S + 1) * MS_PER_S
        elif what == _BLUETOOTH and value in (0, 1):
            self.saved = replace(self.saved, bluetooth=value == 1)
        elif what == _MAC:
            said += _ADDRESS if self.settings.bluetooth else _NO_ADDRESS
        elif what == _ZONES:
            said += self.settings.zones
        elif what == _SET_ZONES and value in (0, _ONLY_INSIDE, _NEVER_INSIDE):
            self.settings = replace(self.settings, zones=data)
            self.saved = replace(self.saved, zones=data)
        else:
            said = _REFUSED
        return [_reply(what, said)]

    @property
    def _slots(self) -> int:
        return _SLOTS if self.settings.several else 1

    def _admitted(self, minute: int) -> list[Walk]:
        """The walks that find a free slot when they come into view; they keep it until they leave."""
        source = self.source
        seen = source.walks(minute) if isinstance(source, Scene) else walks(source.dip_slots(minute), minute, self.seed)
        free_ms = [-1] * self._slots
        admitted = []
        for walk in sorted(seen, key=lambda walk: walk.points):
            earliest = min(range(len(free_ms)), key=free_ms.__getitem__)
            if free_ms[earliest] < walk.points[0][0]:
                free_ms[earliest] = walk.points[-1][0]
                admitted.append(walk)
            elif walk.crosses_ms is not None:
                self._lost_per_s[walk.crosses_ms // MS_PER_S] += 1
        return admitted

    def _watch(self, walk: Walk, reports: dict[int, list[Target]], draw: Random) -> None:
        """Puts a walker into the reports made while it is in view, and counts it if they show it cross."""
        before = after = 0
        for index in range(-(-walk.points[0][0] // REPORT_MS), walk.points[-1][0] // REPORT_MS + 1):
            x_mm, y_mm, x_mm_s, y_mm_s = walk.at(index * REPORT_MS)
            x_mm += draw.uniform(-_JITTER_MM, _JITTER_MM)
            y_mm += draw.uniform(-_JITTER_MM, _JITTER_MM)
            away_mm = hypot(x_mm, y_mm)
            if abs(x_mm) > y_mm * _SIDE_PER_AHEAD or away_mm > _FARTHEST_MM or not self._in_zone(x_mm, y_mm):
                continue
            speed_cm_s = round((x_mm * x_mm_s + y_mm * y_mm_s) / away_mm / 10)
            reports.setdefault(index, []).append(Target(round(x_mm), round(y_mm), speed_cm_s))
            if walk.crosses_ms is not None:
                before += index * REPORT_MS < walk.crosses_ms
                after += index * REPORT_MS > walk.crosses_ms
        if walk.crosses_ms is not None and min(before, after) >= _LEAST_REPORTS:
            self._shown_per_s[walk.crosses_ms // MS_PER_S] += 1

    def _in_zone(self, x_mm: float, y_mm: float) -> bool:
        if self.settings.zones[0] == 0:
            return True
        mode, *corners = struct.unpack("<H12h", self.settings.zones)
        inside = any(
            min(x0, x1) <= x_mm <= max(x0, x1) and min(y0, y1) <= y_mm <= max(y0, y1)
            for x0, y0, x1, y1 in (corners[at : at + 4] for at in range(0, len(corners), 4))
        )
        return inside is (mode == _ONLY_INSIDE)

    def _count(self, minute: int, first: int, end: int) -> None:
        self.crossings += sum(self._shown_per_s[first:end])
        self._lost += sum(self._lost_per_s[first:end])


def report(targets: Sequence[Target]) -> bytes:
    """Returns the 30 bytes of one report of up to three targets."""
    slots = [
        struct.pack("<4H", *map(_signed, (each.x_mm, each.y_mm, each.speed_cm_s)), _RESOLUTION_MM) for each in targets
    ]
    return _REPORT + b"".join(slots).ljust(8 * _SLOTS, b"\0") + _REPORT_TAIL


_NOBODY = report(())


def _separate(targets: list[Target]) -> list[Target]:
    """Nearest first; of two bodies closer than the radar can tell apart it sees the nearer."""
    apart: list[Target] = []
    for target in sorted(targets, key=lambda target: hypot(target.x_mm, target.y_mm)):
        if all(hypot(target.x_mm - each.x_mm, target.y_mm - each.y_mm) >= _MERGED_MM for each in apart):
            apart.append(target)
    return apart


def _signed(value: int) -> int:
    return value | 0x8000 if value >= 0 else -value


def _reply(what: int, data: bytes) -> bytes:
    return _HEADER + (2 + len(data)).to_bytes(2, "little") + bytes((what, 1)) + data + _TAIL
