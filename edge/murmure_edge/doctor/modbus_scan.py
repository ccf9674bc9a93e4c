"""Who answers on a Modbus line, address by address; only on demand, and only by the question for a reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from murmure_edge.link import Link
from murmure_edge.sensors.modbus_noise import READ_HOLDING, REFUSED, ModbusNoise, crc

ADDRESSES = range(1, 17)
ANSWERS, EXCEPTION, OTHER, SPOILED, SILENT = "answers", "exception", "other_slave", "crc", "silent"


def scan(
    link: Link, make: Callable[[int], ModbusNoise], addresses: Iterable[int] = ADDRESSES
) -> Iterator[tuple[int, str]]:
    """Yields each address with what came of asking it. `make(address)` returns its driver. The line is open for as long
    as the answers are taken. Raises LinkError."""
    link.open()
    try:
        for address in addresses:
            driver = make(address)
            link.discard_input()
            deadline_ms = link.now_ms() + driver.timeout_ms
            request, raw, now_ms = driver.request(), b"", 0
            link.write(request, deadline_ms)
            while now_ms < deadline_ms and verdict(raw.removeprefix(request), address) != ANSWERS:
                data, now_ms = link.read(deadline_ms)
                raw += data
            yield address, verdict(raw.removeprefix(request), address)
    finally:
        link.close()


def verdict(raw: bytes, address: int) -> str:
    """Returns what the bytes that came after a question to an address are."""
    others = False
    for start in range(len(raw)):
        frame = _frame_at(raw, start)
        if not frame:
            continue
        if frame[0] == address:
            return EXCEPTION if frame[1] & REFUSED else ANSWERS
        others = True
    if others:
        return OTHER
    return SPOILED if raw else SILENT


def _frame_at(raw: bytes, start: int) -> bytes:
    """Returns the answer of any slave that begins there, b"" if none does."""
    if len(raw) - start < 5 or not 0 < raw[start] <= 247 or raw[start + 1] & ~REFUSED != READ_HOLDING:
        return b""
    length = 5 if raw[start + 1] & REFUSED else 5 + raw[start + 2]
    frame = raw[start : start + length]
    return frame if len(frame) == length and crc(frame[:-2]) == frame[-2:] else b""
