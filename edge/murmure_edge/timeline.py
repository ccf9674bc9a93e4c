"""The simulated link: bytes from a bench's pseudo-terminal, stamped by the time line beside it.

Both sides are written down in docs/simulated-time.md; this is the gateway's. A time line can move a gateway's clock,
so only the demo's and the tests' composition makes one: no key of `gateway.toml` leads here.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import threading
from contextlib import suppress
from pathlib import Path

from murmure_edge.link import BenchGone, LinkLost
from murmure_edge.serial_link import SerialPort, open_port

MAGIC = int.from_bytes(b"MURMURE1", "little", signed=True)
WORD = 8
PORTS_AT, START_MS_AT = 1, 3  # in words, as all places below
FIRST_PORT, PORT_WORDS = 4096 // WORD, 32768 // WORD
MARK_COUNT, DONE_MS, ASK_COUNT, ASK_MS, ASK_DEADLINE_MS, WAIT_UNTIL_MS, RING = 0, 1, 2, 3, 4, 5, 4096 // WORD
RING_ENTRIES = 1024
READ_BYTES = 1 << 16  # a pseudo-terminal gives 4,095 at the most
# Wall time. After the first a reader gets the word, to hand on what it has; after the second a mark whose
# bytes have not come will never be kept.
PATIENCE_MS, GONE_AFTER_MS = 250, 30_000
STEP_MS = 1_000  # the least credit that a bench gives


class TimelineLink:
    """A bench's port `index`, called `name`, and its time line in `directory`; see `murmure_edge.link.Link`.

    The first `open` attaches and returns when all ports of the gateway are attached: each needs its own thread.
    """

    def __init__(self, directory: Path, index: int, name: str, address: str, baud: int, stop: threading.Event) -> None:
        self._directory = directory
        self._index = index
        self._name = name
        self._address = address
        self._baud = baud
        self._stop = stop
        self._port: SerialPort | None = None
        self._fd = -1
        self._bell: socket.socket | None = None
        self._words: memoryview = memoryview(b"")
        self._base = FIRST_PORT + index * PORT_WORDS
        self._ring = self._base + RING
        self._poller = select.poll()
        self._now_ms = 0
        self._next_mark = 0
        self._known_marks = 0
        self._taken = 0  # offset of the bytes handed out, or lost with an unplugged port
        self._chunk = b""
        self._chunk_at = 0
        self._asked = 0
        self._answer_owed = False

    def open(self) -> None:
        """See Link.open. Raises BenchGone as well if the bench leaves before all ports are attached."""
        self._close_port()
        try:
            self._port = open_port(self._address, self._baud)
        except LinkLost as error:
            if self._bell is None:  # no port, no time: there is no instant yet at which to try again
                raise BenchGone(error.advice) from error
            raise
        self._fd = self._port.fileno()
        os.set_blocking(self._fd, False)
        if self._bell is None:
            self._attach()
        self._poller.register(self._fd, select.POLLIN)

    def close(self) -> None:
        """See Link.close. The time line stays attached, for time goes on at an unplugged port; until `stop` is set."""
        self._close_port()
        if self._bell is not None and self._stop.is_set():
            self._bell.close()
            self._bell = None

    def now_ms(self) -> int:
        """See Link.now_ms: the last mark passed, or the last deadline."""
        return self._now_ms

    def read(self, deadline_ms: int) -> tuple[bytes, int]:
        """See Link.read."""
        words = self._words
        words[self._base + DONE_MS] = self._now_ms  # whoever asks for more has dealt with what came before
        while True:
            if self._next_mark == self._known_marks:
                self._known_marks = words[self._base + MARK_COUNT]
                if self._next_mark == self._known_marks:
                    if self._wait_for_mark():
                        continue
                    return b"", self._now_ms
            entry = self._ring + 2 * (self._next_mark % RING_ENTRIES)
            time_ms: int = words[entry + 1]
            if time_ms > deadline_ms:
                # Nothing more comes before the deadline: a time-out that nobody had to wait for.
                self._now_ms = max(self._now_ms, deadline_ms)
                return b"", self._now_ms
            self._answer_owed = False
            size = words[entry] - self._taken
            piece = self._take(size) if size else b""
            self._next_mark += 1
            if time_ms > self._now_ms:
                self._now_ms = time_ms
            if piece or time_ms == deadline_ms:
                return piece, self._now_ms
            words[self._base + DONE_MS] = self._now_ms

    def write(self, data: bytes, answer_by_ms: int) -> None:
        """See Link.write."""
        words, base = self._words, self._base
        self._asked += 1
        words[base + ASK_MS] = self._now_ms
        words[base + ASK_DEADLINE_MS] = answer_by_ms
        words[base + ASK_COUNT] = self._asked
        self._answer_owed = True
        try:
            os.write(self._fd, data)
        except OSError as error:
            raise LinkLost(f"{self._address}: cannot be written ({error.strerror})") from error

    def expect(self, until_ms: int) -> None:
        """See Link.expect."""
        self._words[self._base + WAIT_UNTIL_MS] = until_ms
        self._answer_owed = False
        self._ring_bell()

    def discard_input(self) -> int:
        """See Link.discard_input; never tcflush, which would lose count of the offsets."""
        dropped = 0
        words = self._words
        while self._next_mark < words[self._base + MARK_COUNT]:
            entry = self._ring + 2 * (self._next_mark % RING_ENTRIES)
            if words[entry + 1] > self._now_ms:
                break
            size = words[entry] - self._taken
            if size:
                dropped += len(self._take(size))
            self._next_mark += 1
            self._known_marks = max(self._known_marks, self._next_mark)
        return dropped

    def wait(self, until_ms: int) -> None:
        """See Link.wait."""
        if self._fd >= 0 or self._bell is None:
            self._now_ms = max(self._now_ms, until_ms)
            return
        while self._now_ms < until_ms and not self._stop.is_set():
            # In steps that any credit allows: a longer one would wait for a bench that waits for DONE.
            self._wait_unplugged(min(until_ms, self._now_ms + STEP_MS))

    def _attach(self) -> None:
        words = self._map()
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(self._directory, os.O_PATH)
        try:
            # By way of the folder's descriptor, for a socket's own path may have 107 bytes only.
            bell.connect(f"/proc/self/fd/{folder}/timeline.sock")
            bell.sendall(f"ATTACH {self._name}\n".encode())
            start_ms = self._await_start(bell)
        except OSError as error:
            bell.close()
            raise BenchGone(f"{self._directory}: no bench at its time line ({error.strerror})") from error
        finally:
            os.close(folder)
        if self._port is not None:
            # The bench has dropped what it had not sent; this drops what had come since `open`.
            self._port.reset_input_buffer()
        words[self._base + ASK_COUNT] = words[self._base + WAIT_UNTIL_MS] = 0
        words[self._base + DONE_MS] = start_ms
        self._now_ms = start_ms
        self._words = words
        bell.sendall(b"GO\n")
        bell.setblocking(False)
        self._bell = bell
        self._poller.register(bell, select.POLLIN)

    def _map(self) -> memoryview:
        path = self._directory / "timeline.map"
        try:
            with path.open("r+b") as file:
                words = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        except (OSError, ValueError) as error:
            raise BenchGone(f"{path}: no time line there; is the bench running?") from error
        if words[0] != MAGIC or self._index >= words[PORTS_AT]:
            raise BenchGone(f"{path}: no time line of version 1 with a port {self._index}")
        return words

    def _await_start(self, bell: socket.socket) -> int:
        bell.settimeout(PATIENCE_MS / 1000)
        line = b""
        while not line.endswith(b"\n"):
            if self._stop.is_set():
                raise BenchGone(f"{self._name}: asked to stop before all ports were attached")
            try:
                byte = bell.recv(1)
            except TimeoutError:
                continue  # the other ports are still opening
            if not byte:
                raise BenchGone(f"{self._name}: the bench refused the attachment or left")
            line += byte
        word, _, rest = line.decode(errors="replace").partition(" ")
        try:
            _epoch, start_ms = (int(number) for number in rest.split())
        except ValueError:
            word = ""
        if word != "START":
            raise BenchGone(f"{self._name}: the bench said {line!r} where START was due")
        return start_ms

    def _wait_for_mark(self) -> bool:
        """Blocks in wall time until there may be news; False when patience ended before."""
        if not self._answer_owed:
            self._ring_bell()  # a bench out of credit waits for this; one that owes an answer is awake
        events = self._poller.poll(PATIENCE_MS)
        for fd, event in events:
            if fd != self._fd:
                self._hear_bell()
            elif event & (select.POLLHUP | select.POLLERR) and self._words[self._base + MARK_COUNT] == (
                self._known_marks
            ):
                raise LinkLost(f"{self._address}: pulled out")
        return bool(events)

    def _ring_bell(self) -> None:
        if self._bell is None:
            raise LinkLost(f"{self._address}: not open")
        try:
            self._bell.send(b"\x01")
        except BlockingIOError:
            pass  # as many bells as a socket holds are loud enough
        except OSError as error:
            raise BenchGone(f"{self._name}: the bench has left") from error

    def _hear_bell(self) -> None:
        try:
            heard = self._bell.recv(4096) if self._bell else b""
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if not heard:
            raise BenchGone(f"{self._name}: the bench has left; time cannot go on without it")

    def _take(self, size: int) -> bytes:
        """Returns the next `size` bytes: their mark is there, so they come, at once or from a writer's next turn."""
        start, end = self._chunk_at, self._chunk_at + size
        if end > len(self._chunk):
            self._chunk = self._read_until(size, self._chunk[start:])
            start, end = 0, size
        self._chunk_at = end
        self._taken += size
        return self._chunk[start:end]

    def _read_until(self, size: int, data: bytes) -> bytes:
        while len(data) < size:
            try:
                more = os.read(self._fd, READ_BYTES)
            except OSError:
                more = b""
            if more:
                data = data + more if data else more
            else:
                self._await_bytes()  # a terminal's read says "nothing yet" and "no more" alike
        return data

    def _await_bytes(self) -> None:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        events = poller.poll(GONE_AFTER_MS)
        if not events:
            raise BenchGone(f"{self._name}: the bench announced bytes and sent none")
        if events[0][1] & (select.POLLHUP | select.POLLERR):
            self._taken = self._words[self._ring + 2 * (self._next_mark % RING_ENTRIES)]
            raise LinkLost(f"{self._address}: pulled out")

    def _wait_unplugged(self, until_ms: int) -> None:
        """Passes time without a port: it asks the bench for nothing but the time."""
        words, base = self._words, self._base
        words[base + DONE_MS] = self._now_ms
        self.expect(until_ms)
        while self._now_ms < until_ms and not self._stop.is_set():
            self._known_marks = words[base + MARK_COUNT]
            if self._next_mark == self._known_marks:
                self._wait_for_mark()
                continue
            entry = self._ring + 2 * (self._next_mark % RING_ENTRIES)
            if words[entry + 1] > until_ms:
                self._now_ms = until_ms
                break
            self._taken = words[entry]  # what was sent to nobody is lost
            self._now_ms = max(self._now_ms, words[entry + 1])
            self._next_mark += 1
            words[base + DONE_MS] = self._now_ms

    def _close_port(self) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        fd, self._fd = self._fd, -1
        with suppress(KeyError):  # it failed between opening and attaching
            self._poller.unregister(fd)
        port.close()
        self._chunk, self._chunk_at = b"", 0
