"""The real link: bytes from a serial port, stamped as they come. The only user of pyserial.

Nobody else in a port's thread sleeps, or asks what time it is.
"""

from __future__ import annotations

import errno
import grp
import os
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import serial

from murmure_edge.clock import wall_ms
from murmure_edge.link import LinkDenied, LinkLost

SerialPort = serial.Serial

READ_SLICE_S = 1.0  # how long a read may hold its thread before it looks whether it should stop
GATHER_S = 0.01  # the rest of a burst comes in this time: one read for it instead of one per byte
WRITE_TIMEOUT_S = 2.0
CORRECTED_MS = 100  # a clock that is slowed down by its last digit was not put back


def open_port(address: str, baud: int) -> SerialPort:
    """Opens a device path or a pyserial URL (rfc2217://host:port, socket://host:port), for this process alone.

    The caller keeps the object: when it goes out of scope its descriptor closes. Opening drops earlier input.
    Raises LinkDenied if the operator must change something, LinkLost if the device is not there.
    """
    try:
        port = serial.serial_for_url(address, do_not_open=True, baudrate=baud, timeout=0, write_timeout=WRITE_TIMEOUT_S)
        if "://" not in address:
            port.exclusive = True  # two readers would each get half of the bytes
        port.open()
    except (OSError, termios.error, ValueError) as error:
        # pyserial says "busy" and "not allowed" with the error number alone.
        number = getattr(error, "errno", None)
        if number in (errno.EACCES, errno.EPERM):
            raise LinkDenied(f"{address}: not allowed; {_whom_to_join(address)}") from error
        if number in (errno.EAGAIN, errno.EBUSY):
            raise LinkDenied(f"{address}: another program holds it; stop that program") from error
        raise LinkLost(f"{address}: cannot be opened ({_reason(error)}); is it plugged in?") from error
    return port


def _whom_to_join(path: str) -> str:
    """Names the group that owns the device: on one system it is dialout, on the next plugdev or tty."""
    try:
        group_id = os.stat(path).st_gid  # noqa: PTH116 (a path and a bare number suffice)
    except OSError:
        return "let this user reach its folder"
    try:
        name = grp.getgrgid(group_id).gr_name
    except KeyError:
        name = str(group_id)
    return f"the device belongs to group {name}: add this service's user to it"


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error).splitlines()[0]


class SerialLink:
    """A serial port in living time; see `murmure_edge.link.Link`. `now_ms`: UTC milliseconds, `sense`'s own clock.

    `stop` ends waiting early: who sets it gets the port's thread back within a second.
    """

    def __init__(self, address: str, baud: int, stop: threading.Event, now_ms: Callable[[], int] = wall_ms) -> None:
        self._address = address
        self._baud = baud
        self._stop = stop
        self._now_ms = now_ms
        self._latest_ms = 0
        self._port: SerialPort | None = None

    def open(self) -> None:
        """See Link.open."""
        self.close()
        self._port = open_port(self._address, self._baud)

    def close(self) -> None:
        """See Link.close."""
        port, self._port = self._port, None
        if port is not None:
            with suppress(OSError, termios.error):  # the device may have gone first
                port.close()

    def now_ms(self) -> int:
        """See Link.now_ms."""
        now_ms = self._now_ms()
        if not now_ms < self._latest_ms <= now_ms + CORRECTED_MS:
            self._latest_ms = now_ms
        return self._latest_ms

    def read(self, deadline_ms: int) -> tuple[bytes, int]:
        """See Link.read."""
        port = self._opened()
        left_s = min(max(0.0, (deadline_ms - self.now_ms()) / 1000), READ_SLICE_S)
        try:
            port.timeout = left_s
            data = port.read(1)
            if data:
                time.sleep(GATHER_S)
                data += port.read(port.in_waiting)
        except (OSError, termios.error, TypeError) as error:
            # TypeError is what pyserial raises if its descriptor vanishes under it.
            raise LinkLost(f"{self._address}: pulled out ({_reason(error)})") from error
        now_ms = self.now_ms()
        return (data, now_ms) if data else (b"", min(now_ms, deadline_ms))

    def write(self, data: bytes, answer_by_ms: int) -> None:
        """See Link.write; the wire knows no deadline."""
        try:
            self._opened().write(data)
        except (OSError, termios.error) as error:
            raise LinkLost(f"{self._address}: cannot be written ({_reason(error)})") from error

    def expect(self, until_ms: int) -> None:
        """See Link.expect."""

    def discard_input(self) -> int:
        """See Link.discard_input. What arrives between the count and the flush is lost uncounted."""
        port = self._opened()
        try:
            waiting: int = port.in_waiting
            if waiting:
                port.reset_input_buffer()
        except (OSError, termios.error) as error:
            raise LinkLost(f"{self._address}: pulled out ({_reason(error)})") from error
        return waiting

    def wait(self, until_ms: int) -> None:
        """See Link.wait."""
        left_s = (until_ms - self.now_ms()) / 1000
        if left_s > 0:
            self._stop.wait(left_s)

    def _opened(self) -> SerialPort:
        if self._port is None:
            raise LinkLost(f"{self._address}: not open")
        return self._port
