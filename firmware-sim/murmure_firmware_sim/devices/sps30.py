"""Sensirion SPS30: particles by laser, 115200 baud, SHDLC, never speaks unasked.

host     7E  address  command  length  data  check  7E
device   7E  address  command  state  length  data  check  7E

The check is the inverted low byte of the sum between the flags; 7E, 7D, 11 and 13 between them are stuffed. Big-endian.
"""

from __future__ import annotations

import struct
from types import MappingProxyType

from .base import AIR, MS_PER_S, NO_VALUE, S_PER_MINUTE, Device, Source, sum8

_FLAG = 0x7E
_STUFFED = {0x7E: b"\x7d\x5e", 0x7D: b"\x7d\x5d", 0x11: b"\x7d\x31", 0x13: b"\x7d\x33"}
_PLAIN = {pair[1]: byte for byte, pair in _STUFFED.items()}
_LONGEST_FRAME = 64

_START, _STOP, _READ, _SLEEP, _WAKE = 0x00, 0x01, 0x03, 0x10, 0x11
_CLEAN, _INTERVAL, _INFORMATION, _VERSION, _STATUS, _RESET = 0x56, 0x80, 0xD0, 0xD1, 0xD2, 0xD3
_LENGTHS = {
    _START: (2,),
    _STOP: (0,),
    _READ: (0,),
    _SLEEP: (0,),
    _WAKE: (0,),
    _CLEAN: (0,),
    _INTERVAL: (1, 5),
    _INFORMATION: (1,),
    _VERSION: (0,),
    _STATUS: (1,),
    _RESET: (0,),
}
_WRONG_LENGTH, _UNKNOWN_COMMAND, _ILLEGAL_PARAMETER, _WRONG_STATE = 0x01, 0x02, 0x04, 0x43
_DEVICE_ERROR = 0x80
_LASER_FAILED = 1 << 5

_FLOATS, _WORDS = 3, 5
_PRODUCT_TYPE = b"00080000\0"
_FIRMWARE = bytes((2, 2, 0, 7, 0, 2, 0))
_A_WEEK_S = 604_800
_CLEANING_MS = 10_000
_LISTENS_MS = 100  # after a pulse on the line of one that sleeps

_IDLE, _MEASURING, _ASLEEP = "idle", "measuring", "asleep"


class Sps30(Device):
    """The device with its whole command set and its three states. A power cut leaves it idle."""

    name = "sps30"
    quantity = AIR
    baud = 115200
    frame_bytes = 47
    polled_only = True
    options = MappingProxyType({"measuring": "measuring"})
    memory = ("average_ms", 30_000)

    def __init__(self, source: Source, seed: int = 0, measuring: int = 0) -> None:
        super().__init__(source, seed)
        self.state = _MEASURING if measuring else _IDLE
        self._format = _FLOATS
        self._since_ms = 0
        self._read_index = 0
        self._cleaning_until_ms = 0
        self._interval_s = _A_WEEK_S
        self._status = 0
        self._listens_until_ms = 0
        self._heard = b""

    def say(self, minute: int) -> list[bytes]:
        """Nothing: it is only polled."""
        return [b""] * S_PER_MINUTE

    def answer(self, data: bytes, now_ms: int) -> list[bytes]:
        """Answers every whole frame with a right check; what stands between two flags and is none is lost."""
        if self.state == _ASLEEP and now_ms > self._listens_until_ms:
            data = self._pulse(data, now_ms)
        heard = self._heard + data
        answers = []
        while (start := heard.find(_FLAG)) >= 0:
            end = heard.find(_FLAG, start + 1)
            if end < 0:
                heard = heard[start : start + _LONGEST_FRAME]
                break
            request = _unstuffed(heard[start + 1 : end])
            # A flag ends a frame and may begin the next: after what was none it is taken for a beginning.
            heard = heard[end + 1 :] if _holds(request) else heard[end:]
            if _holds(request) and request[0] == 0:
                answers += self._obey(request[1], request[3:-1], now_ms)
        else:
            heard = b""
        self._heard = heard
        return answers

    @property
    def asleep(self) -> bool:  # type: ignore[override]
        return self.state == _ASLEEP

    def be_asleep(self) -> None:
        """As after command 10."""
        self.state = _ASLEEP

    def power_cycle(self, now_ms: int) -> None:
        """Idle; the cleaning interval is kept."""
        super().power_cycle(now_ms)
        self.state = _IDLE
        self._status = 0
        self._heard = b""

    def _pulse(self, data: bytes, now_ms: int) -> bytes:
        """Returns what is heard behind the byte or the frame that switches the line on."""
        self._heard = b""
        if data:
            self._listens_until_ms = now_ms + _LISTENS_MS
        end = data.find(_FLAG, 1) if data[:1] == bytes((_FLAG,)) else 0
        return data[end + 1 :] if end >= 0 else b""

    def _obey(self, what: int, data: bytes, now_ms: int) -> list[bytes]:
        if self.state == _ASLEEP and what != _WAKE:
            return []
        self._look_at_laser(now_ms)
        if what not in _LENGTHS:
            error, said = _UNKNOWN_COMMAND, b""
        elif len(data) not in _LENGTHS[what]:
            error, said = _WRONG_LENGTH, b""
        else:
            error, said = self._act(what, data, now_ms)
        if self.refuses_with is not None:
            error, said = self.refuses_with, b""
        return [frame(what, error | (_DEVICE_ERROR if self._status else 0), said, int(self.answers_strangely))]

    def _act(self, what: int, data: bytes, now_ms: int) -> tuple[int, bytes]:
        """Returns the error, and the answer's data."""
        needed = {_START: _IDLE, _SLEEP: _IDLE, _STOP: _MEASURING, _READ: _MEASURING, _CLEAN: _MEASURING}.get(what)
        if needed is not None and self.state != needed:
            return _WRONG_STATE, b""
        if what == _START:
            if data[0] != 1 or data[1] not in (_FLOATS, _WORDS):
                return _ILLEGAL_PARAMETER, b""
            self.state, self._format, self._since_ms, self._read_index = _MEASURING, data[1], now_ms, 0
        elif what in (_STOP, _RESET) or (what == _WAKE and self.state == _ASLEEP):
            self.state = _IDLE
        elif what == _READ:
            return 0, self._measurement(now_ms)
        elif what == _SLEEP:
            self.state = _ASLEEP
        elif what == _CLEAN:
            self._cleaning_until_ms = now_ms + _CLEANING_MS
        elif what == _INTERVAL:
            if data[0]:
                return _ILLEGAL_PARAMETER, b""
            if len(data) == 1:
                return 0, self._interval_s.to_bytes(4)
            self._interval_s = int.from_bytes(data[1:])
        elif what == _INFORMATION:
            text = {0: _PRODUCT_TYPE, 3: f"5A1D0000{self.seed % 10**8:08}\0".encode()}.get(data[0])
            return (_ILLEGAL_PARAMETER, b"") if text is None else (0, text)
        elif what == _VERSION:
            return 0, _FIRMWARE
        elif what == _STATUS:
            if data[0] > 1:
                return _ILLEGAL_PARAMETER, b""
            said = self._status.to_bytes(4) + b"\0"
            self._status = 0 if data[0] else self._status
            return 0, said
        return 0, b""

    def _measurement(self, now_ms: int) -> bytes:
        """Returns the newest of the values that come a second apart, counted from the start, if it was not read yet."""
        index = (now_ms - self._since_ms) // MS_PER_S
        if index <= self._read_index or now_ms < self._cleaning_until_ms:
            return b""
        pm = self.pm_at(self._since_ms // MS_PER_S + index)
        if pm is None:
            return b""
        self._read_index = index
        if NO_VALUE in pm:
            return b"\xff" * (40 if self._format == _FLOATS else 20)
        values = _values(pm[0] / 10, pm[1] / 10)
        if self._format == _FLOATS:
            return struct.pack(">10f", *values)
        *amounts, size_um = values
        return struct.pack(">10H", *(min(0xFFFF, round(amount)) for amount in amounts), round(1000 * size_um))

    def _look_at_laser(self, now_ms: int) -> None:
        if self.state == _MEASURING and NO_VALUE in (self.pm_at(now_ms // MS_PER_S) or ()):
            self._status |= _LASER_FAILED


def _values(fine: float, coarse: float) -> tuple[float, ...]:
    """Returns PM1, PM2.5, PM4, PM10 in ug/m3, five counts per cm3 from 0.3 um up to a size, the typical size in um."""
    pm1 = 0.7 * fine
    pm4 = (fine + coarse) / 2
    up_to_0_5 = 6.5 * pm1
    up_to_1 = up_to_0_5 + 1.2 * pm1
    up_to_2_5 = up_to_1 + fine - pm1
    up_to_4 = up_to_2_5 + 0.1 * max(0.0, pm4 - fine)
    up_to_10 = up_to_4 + 0.02 * max(0.0, coarse - pm4)
    size_um = 0.5 + 0.5 * max(0.0, coarse - fine) / coarse if coarse else 0.0
    return pm1, fine, pm4, coarse, up_to_0_5, up_to_1, up_to_2_5, up_to_4, up_to_10, size_um


def frame(command: int, state: int, data: bytes, address: int = 0) -> bytes:
    """Returns one answer, stuffed, with its flags."""
    body = bytes((address, command, state, len(data))) + data
    stuffed = b"".join(_STUFFED.get(byte, bytes((byte,))) for byte in body + bytes((sum8(body) ^ 0xFF,)))
    return b"\x7e" + stuffed + b"\x7e"


def _unstuffed(stuffed: bytes) -> bytes:
    """Returns the bytes between two flags; empty if they hold an escape that is none."""
    first, *others = stuffed.split(b"\x7d")
    plain = bytearray(first)
    for part in others:
        if not part or part[0] not in _PLAIN:
            return b""
        plain.append(_PLAIN[part[0]])
        plain += part[1:]
    return bytes(plain)


def _holds(request: bytes) -> bool:
    """Tells whether these are an address, a command, a length that is right, so many bytes and a right check."""
    return len(request) >= 4 and request[2] == len(request) - 4 and sum8(request) == 0xFF
