"""Noise transmitter on RS485: Modbus RTU, slave 1, 9600 baud, never speaks unasked.

    host     slave  03  register u16  count u16  CRC-16      slave  06  register u16  value u16  CRC-16
    device   slave  03  bytes  values  CRC-16                the same eight bytes
             slave  function|80  exception  CRC-16

Words of the protocol are big-endian, the CRC (A001, start FFFF) low byte first.
"""

from __future__ import annotations

from types import MappingProxyType

from .base import FAST_MS, MS_PER_S, NOISE, S_PER_MINUTE, Device, Source

LEVEL, MODEL, POINTS, ADDRESS, BAUD_CODE, MODE = 0x00, 0x64, 0x65, 0x66, 0x67, 0x68

BAUDS = (2400, 4800, 9600, 19200, 38400, 57600, 115200)
_WRITABLE = {ADDRESS: range(1, 250), BAUD_CODE: range(len(BAUDS)), MODE: range(2)}
_NO_FUNCTION, _NO_REGISTER, _BAD_VALUE = 1, 2, 3
_LONGEST_FRAME = 256
_MOST_REGISTERS = 125
_GAP_MS = 20


class ModbusNoise(Device):
    """The transmitter. A written address or speed holds from the next power cycle, as on the real board."""

    name = "modbus_noise"
    quantity = NOISE
    baud = 9600
    frame_bytes = 7
    polled_only = True
    options = MappingProxyType({"slave": "slave", "baud": "baud"})
    bauds = BAUDS
    memory = ("time_constant_ms", FAST_MS)

    def __init__(self, source: Source, seed: int = 0, slave: int = 1, baud: int = 9600) -> None:
        super().__init__(source, seed)
        self.slave = slave
        self.baud = baud
        self._registers = {
            MODEL: 7901,
            POINTS: 1,
            ADDRESS: slave,
            BAUD_CODE: BAUDS.index(baud),
            MODE: 0,
        }
        self._heard = b""
        self._heard_ms = 0
        self._level_request = with_crc(bytes((slave, 3, 0, LEVEL, 0, 1)))
        self._level_answer: dict[int, bytes] = {}

    def say(self, minute: int) -> list[bytes]:
        """Nothing: it is only polled."""
        return [b""] * S_PER_MINUTE

    def receive(self, data: bytes, now_ms: int) -> list[tuple[bytes, int]]:
        """As every device; the one request that a gateway repeats all day takes the short way."""
        usual = not self._heard and self.refuses_with is None and not self.answers_strangely
        if usual and data == self._level_request:
            level = self.level_at(now_ms // MS_PER_S)
            if level is None:
                return []
            answer = self._level_answer.get(level)
            if answer is None:
                answer = self._level_answer[level] = self._values([level])
            self.frames += 1
            return [(answer, now_ms + self.latency_ms)]
        return super().receive(data, now_ms)

    def answer(self, data: bytes, now_ms: int) -> list[bytes]:
        """Answers a request that came between two silences with a right CRC; anything else is not for it."""
        if now_ms - self._heard_ms > _GAP_MS:
            self._heard = b""
        self._heard_ms = now_ms
        request = self._heard + data
        if len(request) < 4 or crc16(request):
            self._heard = request if len(request) < _LONGEST_FRAME else b""
            return []
        self._heard = b""
        if request[0] != self.slave:
            return []
        if self.refuses_with is not None:
            return [self._exception(request[1], self.refuses_with)]
        if request[1] == 3 and len(request) == 8:
            return self._read(int.from_bytes(request[2:4]), int.from_bytes(request[4:6]), now_ms)
        if request[1] == 6 and len(request) == 8:
            return [self._write(request)]
        return [self._exception(request[1], _NO_FUNCTION)]

    def power_cycle(self, now_ms: int) -> None:
        """Takes up the written address and speed."""
        super().power_cycle(now_ms)
        self.slave = self._registers[ADDRESS]
        self.baud = BAUDS[self._registers[BAUD_CODE]]
        self._level_request = with_crc(bytes((self.slave, 3, 0, LEVEL, 0, 1)))
        self._level_answer.clear()
        self._heard = b""

    def _read(self, register: int, count: int, now_ms: int) -> list[bytes]:
        if not 1 <= count <= _MOST_REGISTERS:
            return [self._exception(3, _BAD_VALUE)]
        wanted = range(register, register + count)
        if any(r != LEVEL and r not in self._registers for r in wanted):
            return [self._exception(3, _NO_REGISTER)]
        values = [self.level_at(now_ms // MS_PER_S) if r == LEVEL else self._registers[r] for r in wanted]
        known = [value for value in values if value is not None]
        return [self._values(known)] if len(known) == count else []

    def _write(self, request: bytes) -> bytes:
        register, value = int.from_bytes(request[2:4]), int.from_bytes(request[4:6])
        if register not in _WRITABLE:
            return self._exception(6, _NO_REGISTER)
        if value not in _WRITABLE[register]:
            return self._exception(6, _BAD_VALUE)
        self._registers[register] = value
        return request

    def _values(self, values: list[int]) -> bytes:
        head = bytes((self._as(), 3, 2 * len(values)))
        return with_crc(head + b"".join(value.to_bytes(2) for value in values))

    def _exception(self, function: int, code: int) -> bytes:
        return with_crc(bytes((self._as(), function & 0x7F | 0x80, code)))

    def _as(self) -> int:
        return self.slave + self.answers_strangely


def crc16(data: bytes) -> int:
    """Returns the Modbus CRC of the bytes; 0 if the last two are the CRC of those before."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def with_crc(body: bytes) -> bytes:
    """Returns the bytes with their CRC behind, low byte first."""
    return body + crc16(body).to_bytes(2, "little")
