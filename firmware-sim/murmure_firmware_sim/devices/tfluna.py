"""Benewake TF-Luna: one point of distance by light, 115200 baud.

device   59 59  distance u16  strength u16  temperature u16 (C = t/8 - 256)  sum8 of bytes 0-7
both     5A  length  id  data  sum8 of all before        (commands and their replies)
"""

from __future__ import annotations

from random import Random
from types import MappingProxyType

from .base import DIP_MS, FOOTFALL, MS_PER_S, NO_VALUE, S_PER_MINUTE, SLOT_MS, Device, Source, sum8
from .walkers import passers

_VERSION, _RESET, _RATE, _TRIGGER, _FORMAT, _OUTPUT, _CHECK, _FACTORY, _SAVE = 1, 2, 3, 4, 5, 7, 8, 16, 17
_CM, _MM = 1, 6
_FASTEST_HZ = 250
_LENGTHS = {_VERSION: 4, _RESET: 4, _RATE: 6, _TRIGGER: 4, _FORMAT: 5, _OUTPUT: 5, _CHECK: 5, _FACTORY: 4, _SAVE: 4}

IDLE_CM = 180
BODY_CM = 60
_IDLE_STRENGTH, _BODY_STRENGTH = 1500, 3200
_TEMPERATURE_C = 25
# Codes of one reading each: 0-2 the far wall and a centimetre either side, 3-7 a body at slightly different distances.
_WALL_OFFSETS_CM = (0, -1, 1)
_BODY_OFFSETS_CM = (0, 2, -2, 4, -4)
_JITTER = bytes((0, 0, 1, 2)[value % 4] for value in range(256))


class TfLuna(Device):
    """The beam across a doorway: the far wall, and now and then a body in between.

    `offset_cm` makes it a second beam, so much further in: who comes in reaches it later than the first, who goes out
    earlier, each at their own speed; two beams of one source and seed see the same bodies.
    """

    name = "tfluna"
    quantity = FOOTFALL
    baud = 115200
    frame_bytes = 9
    latency_ms = 5
    options = MappingProxyType(
        {"distance_cm": "idle_cm", "body_cm": "body_cm", "rate_hz": "rate_hz", "offset_cm": "offset_cm"}
    )

    def __init__(
        self,
        source: Source,
        seed: int = 0,
        idle_cm: int = IDLE_CM,
        body_cm: int = BODY_CM,
        rate_hz: int = 10,
        offset_cm: int = 0,
    ) -> None:
        super().__init__(source, seed)
        self._offset_mm = 10 * offset_cm
        self.idle_cm = idle_cm
        self.body_cm = body_cm
        self._factory_hz = rate_hz
        self._factory()
        self._saved = self._settings()
        self._heard = b""
        self._dips_per_s: list[int] = []
        self._dips_minute = -1

    def say(self, minute: int) -> list[bytes]:
        """`rate_hz` frames a second, at k/rate_hz of it; a body in the slot's first 200 ms."""
        dips = self._dips(minute)
        self._dips_per_s = [0] * S_PER_MINUTE
        self._dips_minute = minute
        if not self.output_on or self.rate_hz == 0:
            return [b""] * S_PER_MINUTE
        hz = self.rate_hz
        codes = bytearray(Random(self.seed << 32 | minute).randbytes(S_PER_MINUTE * hz).translate(_JITTER))
        for start_ms, body in dips:
            first = max(0, -(-start_ms * hz // MS_PER_S))
            end = min(len(codes), -(-(start_ms + DIP_MS) * hz // MS_PER_S))
            codes[first:end] = bytes((body,)) * (end - first)
            if 0 <= start_ms < S_PER_MINUTE * MS_PER_S:
                self._dips_per_s[start_ms // MS_PER_S] += 1
        table = self._table()
        said = b"".join([table[code] for code in codes])
        size = hz * self.frame_bytes
        return [said[at : at + size] for at in range(0, S_PER_MINUTE * size, size)]

    def frames_per_s(self) -> int:
        """The rate set by command; one place a second is kept for silence."""
        return self.rate_hz or 1

    def frame_offset_ms(self, index: int) -> int:
        """Evenly spread from the second's start; a silent beam's second ends as a 10 Hz one does."""
        return index * MS_PER_S // self.rate_hz if self.rate_hz else 900

    def answer(self, data: bytes, now_ms: int) -> list[bytes]:
        """Answers every whole command; slides by one byte over what is none."""
        heard = self._heard + data
        answers = []
        while (start := heard.find(b"\x5a")) >= 0:
            heard = heard[start:]
            if len(heard) < 3:
                break
            size = _LENGTHS.get(heard[2])
            if heard[1] != size:
                heard = heard[1:]
                continue
            if len(heard) < size:
                break
            command = heard[:size]
            if self.check and sum8(command[:-1]) != command[-1]:
                heard = heard[1:]
                continue
            heard = heard[size:]
            answers += self._obey(command[2], command[3:-1], now_ms)
        else:
            heard = b""
        self._heard = heard
        return answers

    def be_passive(self) -> None:
        """In trigger mode, and saved so."""
        self.rate_hz = 0
        self._saved = self._settings()

    def power_cycle(self, now_ms: int) -> None:
        """Back to the settings last saved."""
        super().power_cycle(now_ms)
        self.rate_hz, self.output_on, self.check, self.format = self._saved
        self._heard = b""

    def bent(self, said: bytes, fault: str) -> bytes:
        """The far wall and nothing else, zeros, the word for no distance, or 30 m."""
        point = {"stuck": (180, 1500), "warmup_zeros": (0, 0), "ffff": (NO_VALUE, 1500), "out_of_range": (3000, 1500)}
        if not said.startswith(b"\x59\x59") or fault not in point:
            return said
        return frame(*point[fault]) * (len(said) // self.frame_bytes)

    def _obey(self, what: int, data: bytes, now_ms: int) -> list[bytes]:
        if what == _VERSION:
            return [_command(what, bytes((2, 0, 3)))]  # 3.0.2, lowest first
        if what == _RATE:
            hz = int.from_bytes(data, "little")
            if hz <= _FASTEST_HZ:
                self.rate_hz = hz
            return [_command(what, self.rate_hz.to_bytes(2, "little"))]
        if what == _TRIGGER:
            return [self._point(now_ms)] if self.rate_hz == 0 else []
        if what == _FORMAT:
            if data[0] in (_CM, _MM):
                self.format = data[0]
            return [_command(what, bytes((self.format,)))]
        if what == _OUTPUT:
            self.output_on = data[0] == 1
        elif what == _CHECK:
            self.check = data[0] == 1
        elif what == _SAVE:
            self._saved = self._settings()
            data = b"\0"
        elif what == _FACTORY:
            self._factory()
            data = b"\0"
        elif what == _RESET:
            self.power_cycle(now_ms)
            data = b"\0"
        return [_command(what, data)]

    def _point(self, now_ms: int) -> bytes:
        minute, ms = divmod(now_ms, S_PER_MINUTE * MS_PER_S)
        shadowed = any(start_ms <= ms < start_ms + DIP_MS for start_ms, _ in self._dips(minute))
        return self._table()[3 if shadowed else _JITTER[(now_ms * 2654435761 >> 12) & 0xFF]]

    def _dips(self, minute: int) -> list[tuple[int, int]]:
        """Returns when bodies step into the beam (ms into the minute), and the code of each reading of them."""
        if not self._offset_mm:
            return [(slot * SLOT_MS, _body(slot, minute)) for slot in self.source.dip_slots(minute)]
        dips = []
        for other in (minute - 1, minute, minute + 1):  # a step further may be in the next minute
            for each in passers(self.source.dip_slots(other), other, self.seed):
                later_ms = round(self._offset_mm / each.speed_mm_s * MS_PER_S) * (1 if each.inwards else -1)
                start_ms = (other - minute) * S_PER_MINUTE * MS_PER_S + each.slot * SLOT_MS + later_ms
                if -DIP_MS < start_ms < S_PER_MINUTE * MS_PER_S:
                    dips.append((start_ms, _body(each.slot, other)))
        return dips

    def _count(self, minute: int, first: int, end: int) -> None:
        if minute == self._dips_minute:
            self.crossings += sum(self._dips_per_s[first:end])

    def _table(self) -> list[bytes]:
        wall = [(self.idle_cm + offset, _IDLE_STRENGTH) for offset in _WALL_OFFSETS_CM]
        body = [(self.body_cm + offset, _BODY_STRENGTH) for offset in _BODY_OFFSETS_CM]
        per_cm = 10 if self.format == _MM else 1
        return [frame(min(max(cm, 0) * per_cm, 0xFFFF), strength) for cm, strength in wall + body]

    def _factory(self) -> None:
        self.rate_hz, self.output_on, self.check, self.format = self._factory_hz, True, True, _CM

    def _settings(self) -> tuple[int, bool, bool, int]:
        return self.rate_hz, self.output_on, self.check, self.format


def _body(slot: int, minute: int) -> int:
    return 3 + (slot * 7 + minute) % len(_BODY_OFFSETS_CM)


def frame(distance: int, strength: int, temperature_c: float = _TEMPERATURE_C) -> bytes:
    """Returns the nine bytes of one point; distance in the unit of the output format (cm as delivered)."""
    words = (distance, strength, int((temperature_c + 256) * 8))
    body = b"\x59\x59" + b"".join(word.to_bytes(2, "little") for word in words)
    return body + bytes((sum8(body),))


def _command(what: int, data: bytes) -> bytes:
    body = bytes((0x5A, len(data) + 4, what)) + data
    return body + bytes((sum8(body),))
