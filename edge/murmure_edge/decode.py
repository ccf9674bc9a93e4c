"""From bytes to JSON lines: what `murmure edge decode` prints for a capture, or for a port that is copied to it."""

from __future__ import annotations

import json
import os
import select
import signal
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator

from murmure_privacy.errors import ConfigError

from murmure_edge.sensors import DRIVERS
from murmure_edge.sensors.base import Counters, FrameScanner

CHUNK_BYTES = 1 << 16
HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


def decoded_lines(device: str, chunks: Iterable[bytes]) -> Iterator[str]:
    """Yields one JSON object a good frame, in order, and at last the summary.

    Every byte is in one of the frames or in `discarded_bytes`; `rejected` counts the places where a frame began and
    did not hold (wrong checksum or tail, or cut short by the end). `device` is a key of DRIVERS.
    """
    driver = DRIVERS[device]
    counters = Counters()
    scanner: FrameScanner = driver.scanner(counters)
    for chunk in chunks:
        for frame in scanner.feed(chunk):
            yield json.dumps(driver.describe(frame))
    for frame in scanner.finish():
        yield json.dumps(driver.describe(frame))
    yield json.dumps(
        {
            "kind": "summary",
            "frames": counters.frames,
            "rejected": counters.rejected,
            "discarded_bytes": counters.discarded_bytes,
        }
    )


def until_stopped(fd: int) -> Iterator[bytes]:
    """Yields what comes from a descriptor until its end, or until SIGINT or SIGTERM: a living port has no end.

    Takes both signals over for the rest of the process.
    """
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    while awake not in select.select([fd, awake], [], [])[0]:
        chunk = os.read(fd, CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def from_hex(chunks: Iterable[bytes], file: str) -> Iterator[bytes]:
    """Yields the bytes that hexadecimal text means; blanks and line ends may stand anywhere, and an editor's byte order
    mark before all.

    Raises ConfigError naming `file` at the first character that is neither, and for half a byte at the end.
    """
    half, mark = b"", BOM_UTF8
    for chunk in chunks:
        digits, mark = half + b"".join(chunk.removeprefix(mark).split()), b""
        if not HEX_DIGITS.issuperset(digits):
            wrong = next(digit for digit in digits if digit not in HEX_DIGITS)
            raise ConfigError(
                file, "--hex", f"{chr(wrong)!a} is no hexadecimal digit", "leave --hex out if the bytes are raw"
            )
        whole = len(digits) // 2 * 2
        half = digits[whole:]
        yield bytes.fromhex(digits[:whole].decode("ascii"))
    if half:
        raise ConfigError(file, "--hex", "it ends with half a byte", "write two digits for each byte")
