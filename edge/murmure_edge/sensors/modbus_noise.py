"""Sound level transmitter on Modbus RTU (SONBEST SM7901B and kin, Renke RS-ZS), big-endian, polled once a second.

request   slave  03  register (2)  count 00 01  CRC (2, low byte first)
reply     slave  03  02            level x 10   CRC
model     slave  03  04            model, more  CRC    two registers, lest it be taken for a level
refusal   slave  83  code                       CRC
FFFF is the transmitter's word for "no value". CRC-16/Modbus: polynomial A001 reflected, start FFFF.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    meter_forgets_ms,
)

SLAVE, READ_HOLDING, REFUSED = 1, 0x03, 0x80
NO_VALUE = 0xFFFF
REQUEST_BYTES, REPLY_BYTES, MODEL_BYTES, REFUSAL_BYTES = 8, 7, 9, 5
BITS_PER_BYTE = 10  # start, eight data, stop
# A frame ends with 3.5 characters of silence, and one goes before and one after the answer.
SILENCES_BYTES = 7
# What the transmitters take to think, with a wide margin, and far below the period of one second.
DEVICE_LATENCY_MS = 250
# Three times the 125 ms of a FAST meter, nearly: most boards do not say what they have.
TIME_CONSTANT_MS = 360
SCALES = {1: 1, 0.1: 10, 0.01: 100}  # dB in one count -> counts in one dB


@dataclass(frozen=True, slots=True)
class Profile:
    """What is particular to one make. `min_db`, `max_db`: its range. `model_register`: what holds the model, with one
    register more behind it; `models`: those that it may hold, any if there is none."""

    register: int
    baud: int
    min_db: int
    max_db: int
    scale: float = 0.1
    weighting: str = "A"
    model_register: int | None = None
    models: tuple[int, ...] = ()


PROFILES = {
    "sonbest": Profile(0x0000, 9600, 30, 130, model_register=0x0064, models=(7901, 6365, 8765)),
    "renke": Profile(0x0000, 4800, 30, 120),
    "register_000e": Profile(0x000E, 9600, 30, 130),
}
"""SONBEST SM7901B, SM6365B, SM8765B; Renke RS-ZS and RT-ZS-BZ; a make without a name that keeps its level elsewhere."""


# checksum
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0xA001 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC = _crc_table()


def crc(data: bytes) -> bytes:
    """Returns the two bytes that end a frame."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value.to_bytes(2, "little")


# decode
def _describe(frame: bytes) -> dict[str, object]:
    if frame[1] & REFUSED:
        function = frame[1] & ~REFUSED
        return {"kind": "exception", "slave": frame[0], "function": function, "exception_code": frame[2]}
    value = int.from_bytes(frame[3:5], "big")
    described: dict[str, object] = {
        "kind": "reply",
        "slave": frame[0],
        "function": frame[1],
        "registers": [value],
    }
    if value != NO_VALUE:
        described["level_db"] = value / 10
    return described


# resync
def answers_of(slave: int, counters: Counters, has_model: bool = False) -> FrameScanner:
    """Finds answers of one slave to a request for one register; echoes and other slaves' frames are none."""
    reply_bytes = {2: REPLY_BYTES, 4: MODEL_BYTES} if has_model else {2: REPLY_BYTES}

    def length_at(data: bytes, start: int) -> int:
        if data[start] != slave:
            return 0
        have = len(data) - start
        if have == 1:
            return 2
        if data[start + 1] == READ_HOLDING | REFUSED:
            return REFUSAL_BYTES
        if data[start + 1] != READ_HOLDING:
            return 0
        if have == 2:
            return 3
        return reply_bytes.get(data[start + 2], 0)

    return FrameScanner(length_at, lambda frame: crc(frame[:-2]) == frame[-2:], counters)


class ModbusNoise:
    """Driver of a sound level transmitter: asks for one register once a second, readings in tenths of a dB.

    Settings, for the makes differ: `profile`, a name in PROFILES; `slave` 1-247; and what overrides the profile:
    `register` 0-65535, `baud`, `scale` (1, 0.1 or 0.01 dB a count), `min_db`, `max_db`, `model_register` 0-65534 and
    `model` 0-65535, the only one that is taken.

    `time_constant_ms` 1-10000: the time weighting that is set on the meter, which it does not tell. It falls by 4.3 dB
    in each time constant: a FAST one (125) forgets any sound in 4 readings, one that is left at the default 360 in 10,
    a SLOW one (1000) in 28. One reading more is for the meter's own clock.
    """

    NAME: ClassVar[str] = "modbus_noise"
    QUANTITIES: ClassVar[tuple[str, ...]] = ("noise",)

    def __init__(
        self,
        profile: object = "sonbest",
        slave: object = SLAVE,
        register: object = None,
        baud: object = None,
        scale: object = None,
        min_db: object = None,
        max_db: object = None,
        model_register: object = None,
        model: object = None,
        time_constant_ms: object = TIME_CONSTANT_MS,
    ) -> None:
        make = PROFILES.get(str(profile))
        if make is None:
            raise SettingError("profile", f"{profile!r} is none", f"write one of {', '.join(PROFILES)}")
        self.slave = checked_setting("slave", slave, 1, 247)
        register = checked_setting("register", _either(register, make.register), 0, 0xFFFF)
        self.baud = checked_baud(_either(baud, make.baud))
        self.counts_per_db = _checked_scale(_either(scale, make.scale))
        lowest = checked_setting("min_db", _either(min_db, make.min_db), 0, 139)
        highest = checked_setting("max_db", _either(max_db, make.max_db), lowest + 1, 140)
        self.PLAUSIBLE = Plausible(ranges={"level_db": (lowest, highest)}, floors={"level_db": lowest}, stuck_s=60)
        self._about = {"profile": str(profile), "weighting": make.weighting}
        self._model_register = make.model_register
        if model_register is not None:
            self._model_register = checked_setting("model_register", model_register, 0, 0xFFFE)
        self._models = make.models if model is None else (checked_setting("model", model, 0, 0xFFFF),)
        self.period_ms = 1000
        forgets_ms = meter_forgets_ms(time_constant_ms)
        self.memory_readings: Mapping[str, int] = {"noise": math.ceil(forgets_ms / self.period_ms) + 1}
        wire_bytes = REQUEST_BYTES + REPLY_BYTES + SILENCES_BYTES
        self.timeout_ms = DEVICE_LATENCY_MS + -(-1000 * BITS_PER_BYTE * wire_bytes // self.baud)
        self.silence_ms = 3 * self.period_ms
        self.warm_up_ms = 0
        self.awaiting = False
        self.counters = Counters()
        self.told = Told()
        self._scanner = answers_of(self.slave, self.counters, has_model=self._model_register is not None)
        self._request = self._reading(register, 1)
        self._cache: dict[bytes, int] = {}

    @staticmethod
    def scanner(counters: Counters) -> FrameScanner:
        """Answers of the slave with the usual address."""
        return answers_of(SLAVE, counters)

    @staticmethod
    def describe(frame: bytes) -> dict[str, object]:
        """See Driver.describe; at the usual scale."""
        return _describe(frame)

    def opening(self) -> Iterator[bytes]:
        """Which model it is, where the profile knows: the transmitter has no mode that could be left wrong."""
        self.awaiting = False
        self.told.identity.update(self._about)
        if self._model_register is not None:
            yield self._reading(self._model_register, 2)

    def request(self) -> bytes:
        """See PolledDriver.request. Half an answer to the last request is dropped: it cannot be completed."""
        if self._scanner.pending:
            self._scanner.reset()
        self.awaiting = True
        return self._request

    def feed(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """See Driver.feed; a refusal and FFFF answer the request and bring no reading."""
        if not self._scanner.pending:
            known = self._cache.get(data)
            if known is not None and self.awaiting:
                self.counters.frames += 1
                self.awaiting = False
                return (("noise", Reading(now_ms, known)),)
        decoded: list[Decoded] = []
        for frame in self._scanner.feed(data):
            value = NO_VALUE if frame[1] & REFUSED else int.from_bytes(frame[3:5], "big")
            if len(frame) == MODEL_BYTES:
                self._hear(value)
                continue
            if not self.awaiting:
                continue  # a duplicate: one request brings one reading
            self.awaiting = False
            if value == NO_VALUE:
                self.counters.refused += 1
                continue
            level_tenths = round(10 * value / self.counts_per_db)  # half to even: halves are exact
            if len(self._cache) >= CACHE_FRAMES:
                self._cache.clear()
            self._cache[frame] = level_tenths
            decoded.append(("noise", Reading(now_ms, level_tenths)))
        return decoded

    def _reading(self, register: int, count: int) -> bytes:
        body = bytes((self.slave, READ_HOLDING)) + register.to_bytes(2, "big") + count.to_bytes(2, "big")
        return body + crc(body)

    def _hear(self, model: int) -> None:
        self.told.identity["model"] = str(model)
        if self._models and model not in self._models:
            named = " or ".join(map(str, self._models))
            self.told.mismatch = f"it is a model {model}, not {named}: write model = {model} if that is the meter"

    def settled_ms(self, now_ms: int) -> int:
        """See Driver.settled_ms: a level carries the time of its answer."""
        return now_ms

    def reset(self) -> None:
        """See Driver.reset."""
        self.awaiting = False
        self._scanner.reset()


def _either(setting: object, usual: object) -> object:
    return usual if setting is None else setting


def _checked_scale(value: object) -> int:
    """Returns the counts in one dB."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value in SCALES:
        return SCALES[value]
    raise SettingError("scale", f"{value!r} is none", "write how many dB one count is: 1, 0.1 or 0.01")
