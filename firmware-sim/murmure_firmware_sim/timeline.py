"""The bench's side of the time line: marks in a mapped file, a bell a port. Bytes in docs/simulated-time.md."""

from __future__ import annotations

import mmap
import os
import socket
from array import array
from pathlib import Path

_HEAD_BYTES, _PORT_BYTES, _PORT_HEAD_BYTES = 4096, 32768, 4096
_WORD = 8
RING = 1024
OUTSTANDING = 1000
_LONGEST_SOCKET_PATH = 100


class TimelineMap:
    """`timeline.map` of one gateway, as signed 64-bit words."""

    def __init__(self, directory: Path, ports: int) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        path = directory / "timeline.map"
        path.unlink(missing_ok=True)  # a process that still maps the last run's file keeps that one
        size = _HEAD_BYTES + ports * _PORT_BYTES
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(fd, size)
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self.words = memoryview(self._map).cast("q")
        self.words[1] = ports
        self._map[:_WORD] = b"MURMURE1"

    def start(self, start_ms: int) -> int:
        """Announces a START and returns its epoch."""
        self.words[3] = start_ms
        self.words[2] += 1
        return self.words[2]


class PortMarks:
    """One port's part of the map: the marks written here, the three words and DONE read here."""

    def __init__(self, timeline: TimelineMap, index: int) -> None:
        base = (_HEAD_BYTES + index * _PORT_BYTES) // _WORD
        self._words = timeline.words
        self._count_at = base
        self._done_at = base + 1
        self._ask_at = base + 2
        self._ring = base + _PORT_HEAD_BYTES // _WORD
        self.count = 0
        self.offset = 0
        self.last_ms = 0
        self._clock_ms = 0

    def start(self, start_ms: int, clock_ms: int = 0) -> None:
        """Forgets everything: offsets and marks from 0, time at `start_ms`; the host's clock is `clock_ms` ahead.

        Times given and returned are the street's, those in the map the host's.
        """
        self._clock_ms = clock_ms
        self._words[self._count_at] = 0
        self.count = 0
        self.offset = 0
        self.last_ms = start_ms

    def issue(self, marks: array[int]) -> None:
        """Publishes marks, given as end offset and time by turns: entries first, then their count."""
        words, ring, count = self._words, self._ring, self.count
        self.offset, self.last_ms = marks[-2], marks[-1]
        if self._clock_ms:
            marks = array("q", [each + self._clock_ms * (at % 2) for at, each in enumerate(marks)])
        done = 0
        total = len(marks) // 2
        while done < total:
            at = count % RING
            some = min(total - done, RING - at)
            words[ring + 2 * at : ring + 2 * (at + some)] = memoryview(marks)[2 * done : 2 * (done + some)]
            done += some
            count += some
        self.count = count
        words[self._count_at] = count

    def issue_one(self, length: int, time_ms: int) -> None:
        """Publishes one mark `length` bytes on, not earlier than the last."""
        words, count = self._words, self.count
        at = self._ring + 2 * (count % RING)
        self.offset += length
        if time_ms > self.last_ms:
            self.last_ms = time_ms
        words[at] = self.offset
        words[at + 1] = self.last_ms + self._clock_ms
        self.count = words[self._count_at] = count + 1

    def room(self) -> int:
        """Returns how many more marks may be issued before a thousand lie beyond DONE."""
        words, count = self._words, self.count
        done_ms = words[self._done_at]  # the host's, as the times of the ring are
        low, high = max(0, count - OUTSTANDING), count
        while low < high:  # the first mark later than DONE; times never fall
            middle = (low + high) // 2
            if words[self._ring + 2 * (middle % RING) + 1] > done_ms:
                high = middle
            else:
                low = middle + 1
        return OUTSTANDING - (count - low)

    @property
    def done_ms(self) -> int:
        return self._words[self._done_at] - self._clock_ms

    @property
    def ask_count(self) -> int:
        return self._words[self._ask_at]

    @property
    def ask_ms(self) -> int:
        return self._words[self._ask_at + 1] - self._clock_ms

    @property
    def ask_deadline_ms(self) -> int:
        return self._words[self._ask_at + 2] - self._clock_ms

    @property
    def wait_until_ms(self) -> int:
        return self._words[self._ask_at + 3] - self._clock_ms


def listen(directory: Path) -> socket.socket:
    """Returns the listening `timeline.sock` of a gateway's directory."""
    path = directory / "timeline.sock"
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        server.bind(str(path))
    else:
        # A socket's address holds 107 bytes; through the directory's descriptor any depth fits.
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            server.bind(f"/proc/self/fd/{fd}/timeline.sock")
        finally:
            os.close(fd)
    server.setblocking(False)
    server.listen(64)
    return server
