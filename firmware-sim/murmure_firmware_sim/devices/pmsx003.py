"""Plantower PMS5003 and PMS7003: particles by laser, 9600 baud, big-endian, one frame a second.

device   42 4D  length u16 (001C)  thirteen words  sum16 of all before
         42 4D  length u16 (0004)  command  value  sum16 of all before
host     42 4D  command  value u16  sum16 of all before
"""

from __future__ import annotations

from .base import AIR, MS_PER_S, NO_VALUE, S_PER_MINUTE, Device, Source

_HEAD = b"\x42\x4d"
_COMMAND_BYTES = 7
_MODE, _READ, _SLEEP = 0xE1, 0xE2, 0xE4
_FAN_STARTS_S = 6
_VERSION = 0x97
_MOST_WORD = 0xFFFF
_SAME_UP_TO_UG_M3 = 30  # there the factory's calibration and that for the atmosphere part
_FRAMES_KEPT = 4096

Pm = tuple[int, int]


class Pmsx003(Device):
    """The device with its whole command set. A power cut wakes it, into active mode; waking keeps the mode."""

    name = "pmsx003"
    has_passive_mode = True
    quantity = AIR
    baud = 9600
    frame_bytes = 32
    memory = ("average_ms", 10_000)

    def __init__(self, source: Source, seed: int = 0) -> None:
        super().__init__(source, seed)
        self.active = True
        self.asleep = False
        self._fan_since_s: int | None = None  # None: it has been running for long
        self._heard = b""
        self._frame_of: dict[Pm, bytes] = {}

    def say(self, minute: int) -> list[bytes]:
        """One measurement a second in active mode; zeros while the fan starts."""
        if self.asleep or not self.active:
            return [b""] * S_PER_MINUTE
        seen = self.source.pm_tenths(minute)
        return [b"" if pm is None else self._measurement(pm, minute * S_PER_MINUTE + s) for s, pm in enumerate(seen)]

    def answer(self, data: bytes, now_ms: int) -> list[bytes]:
        """Answers every whole command; slides by one byte over what is none."""
        heard = self._heard + data
        answers = []
        while (start := heard.find(_HEAD[:1])) >= 0:
            heard = heard[start:]
            command = heard[:_COMMAND_BYTES]
            if len(command) < _COMMAND_BYTES and _HEAD.startswith(command[:2]):
                break
            if command[:2] != _HEAD or sum(command[:5]) != int.from_bytes(command[5:]):
                heard = heard[1:]
                continue
            heard = heard[_COMMAND_BYTES:]
            answers += self._obey(command[2], int.from_bytes(command[3:5]), now_ms // MS_PER_S)
        else:
            heard = b""
        self._heard = heard
        return answers

    def be_passive(self) -> None:
        """In passive mode."""
        self.active = False

    def be_asleep(self) -> None:
        """As after command E4."""
        self.asleep = True

    def power_cycle(self, now_ms: int) -> None:
        """Awake, active, and the fan starts again."""
        super().power_cycle(now_ms)
        self.active = True
        self.asleep = False
        self._fan_since_s = now_ms // MS_PER_S
        self._heard = b""

    def _obey(self, what: int, value: int, now_s: int) -> list[bytes]:
        if what == _SLEEP and value == 1:
            if self.asleep:
                self.asleep = False
                self._fan_since_s = now_s
            return []
        if self.asleep:
            return []
        if what == _SLEEP and value == 0:
            self.asleep = True
            return [_frame(bytes((what, value)))]
        if what == _MODE and value in (0, 1):
            self.active = value == 1
            return [_frame(bytes((what, value)))]
        if what == _READ and not self.active:
            pm = self.pm_at(now_s)
            return [] if pm is None else [self._measurement(pm, now_s)]
        return []

    def _measurement(self, pm: Pm, now_s: int) -> bytes:
        if self._fan_since_s is not None and now_s - self._fan_since_s < _FAN_STARTS_S:
            return _frame(bytes(26))
        frame = self._frame_of.get(pm)
        if frame is None:
            if len(self._frame_of) >= _FRAMES_KEPT:
                self._frame_of.clear()
            words = _words(*pm)
            data = b"".join(word.to_bytes(2) for word in words) + bytes((_VERSION, 0))
            frame = self._frame_of[pm] = _frame(data)
        return frame


def _words(fine_tenths: int, coarse_tenths: int) -> list[int]:
    """Returns words 1 to 12: PM1, PM2.5, PM10 as in the factory and in the atmosphere, and six counts."""
    if NO_VALUE in (fine_tenths, coarse_tenths):
        return [_MOST_WORD] * 12
    air = [_whole(fine_tenths * 7 // 10), _whole(fine_tenths), _whole(coarse_tenths)]
    factory = [ug_m3 + max(0, ug_m3 - _SAME_UP_TO_UG_M3) // 2 for ug_m3 in air]
    # From the largest size down, each count holds those above it.
    coarse_ug_m3 = max(0, air[2] - air[1])
    more = (coarse_ug_m3 // 20, coarse_ug_m3 // 8, coarse_ug_m3 // 2, 8 * air[1], 40 * air[1], 110 * air[1])
    counts = [min(_MOST_WORD, sum(more[:size])) for size in range(6, 0, -1)]
    return factory + air + counts


def _whole(tenths: int) -> int:
    return (tenths + 5) // 10


def _frame(data: bytes) -> bytes:
    body = _HEAD + (len(data) + 2).to_bytes(2) + data
    return body + sum(body).to_bytes(2)
