"""A serial port that is not there: a raw pseudo-terminal behind a stable symbolic link.

What a pseudo-terminal lacks against a wire is added here: bytes are lost while nobody listens, a wrong line speed turns
them to rubbish in both directions, and the plug can be pulled.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios
import tty
from functools import lru_cache
from pathlib import Path

_TCGETS2, _TCSETS2 = 0x802C542A, 0x402C542B
_TERMIOS2 = struct.Struct("=4IB19B2I")
_CBAUD, _BOTHER = 0o010017, 0o010000
_READ_BYTES = 4096


class PtyPort:
    """The device's end of one port. Opens at once; `baud` is what a client finds if it sets no speed of its own."""

    def __init__(self, link: Path, baud: int) -> None:
        self.link = link
        self.baud = baud
        self.master = -1
        self._poll = select.poll()
        self.plug()

    def plug(self) -> None:
        """Makes a new pseudo-terminal and lets the link name it, replaced as one act."""
        self.master, slave = os.openpty()
        try:
            # Raw before the first byte: a cooked slave would echo them back as if the host had sent them.
            tty.setraw(slave)
            _set_speed(slave, self.baud)
            target = os.ttyname(slave)
        finally:
            # Our own copy must go, or the hang-up of the last reader would never show.
            os.close(slave)
        os.set_blocking(self.master, False)
        self._poll.register(self.master, select.POLLIN)
        beside = self.link.with_name(f".{self.link.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        beside.replace(self.link)

    def rename(self) -> None:
        """The next plug gets another link, beside the present one."""
        self.link = self.link.with_name(f"{self.link.name}-2")

    def open_slave(self) -> int:
        """Returns a descriptor of the client's end, as another program would open it; never waits to read."""
        return os.open(self.link.readlink(), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def unplug(self) -> None:
        """Pulls the plug: the link goes, and whoever has the port open sees it hang up."""
        if self.master >= 0:
            self.link.unlink(missing_ok=True)
            self._poll.unregister(self.master)
            os.close(self.master)
            self.master = -1

    close = unplug

    def heard(self) -> bool:
        """Tells whether somebody has the port open."""
        return self.master >= 0 and not any(event & select.POLLHUP for _, event in self._poll.poll(0))

    def wait(self, timeout_s: float) -> bool:
        """Waits for bytes of the client; returns False at once if nobody has the port open."""
        if not self.heard():
            return False
        self._poll.poll(1000 * timeout_s)
        return True

    def client_baud(self) -> int:
        """Returns the line speed that the client has set."""
        raw = fcntl.ioctl(self.master, _TCGETS2, bytes(_TERMIOS2.size))
        return int(_TERMIOS2.unpack(raw)[-1])

    def write(self, data: bytes) -> int:
        """Writes without waiting; returns how many bytes the pseudo-terminal took (0 if it is full or unplugged)."""
        try:
            return os.write(self.master, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno in (errno.EIO, errno.EBADF):
                return 0
            raise

    def read(self) -> bytes:
        """Returns what the client has written and nobody has read yet, `b""` if nothing or unplugged."""
        try:
            return os.read(self.master, _READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            # EIO: nobody has the slave open and nothing is left.
            if error.errno in (errno.EIO, errno.EBADF):
                return b""
            raise

    def drain(self) -> None:
        """Throws away what the client has written."""
        while self.read():
            pass


def _set_speed(fd: int, baud: int) -> None:
    fields = list(_TERMIOS2.unpack(fcntl.ioctl(fd, _TCGETS2, bytes(_TERMIOS2.size))))
    fields[2] = fields[2] & ~_CBAUD | _BOTHER | termios.CS8
    fields[-2] = fields[-1] = baud
    fcntl.ioctl(fd, _TCSETS2, _TERMIOS2.pack(*fields))


@lru_cache(maxsize=4096)
def resampled(data: bytes, sent_baud: int, heard_baud: int) -> bytes:
    """Returns what a receiver at `heard_baud` makes of bytes sent at `sent_baud`, back to back, 8N1.

    The line idles high; a byte is a start bit (low), eight bits lowest first, a stop bit. The receiver starts at a
    falling edge and looks at the middle of each of its own bits. A missing stop bit is passed on, as most UARTs do.
    """
    if sent_baud == heard_baud or not data:
        return data
    bits = [1]
    for byte in data:
        bits += [0, *(byte >> n & 1 for n in range(8)), 1]

    def line(at: float) -> int:
        index = int(at)
        return bits[index] if index < len(bits) else 1

    heard = bytearray()
    ratio = sent_baud / heard_baud
    step = min(1.0, ratio) / 4
    at = 0.0
    while at < len(bits):
        if line(at):
            at += step
            continue
        heard.append(sum(line(at + ratio * (1.5 + n)) << n for n in range(8)))
        at += ratio * 9.5
    return bytes(heard)
