"""A link: how a port's thread gets bytes and passes time. Real: `serial_link`; simulated: `timeline`.

Both keep one contract (`tests/edge/test_link_contract.py`). Nothing above a link reads a clock or sleeps.
"""

from __future__ import annotations

from typing import Protocol


class LinkError(Exception):
    """A link does not work. `advice` is one line for the operator."""

    def __init__(self, advice: str) -> None:
        super().__init__(advice)
        self.advice = advice


class LinkLost(LinkError):
    """The device is not there, or was pulled out: open again, with back-off."""


class LinkDenied(LinkError):
    """The device is there and may not be opened: open again with back-off, and say what to change."""


class BenchGone(LinkError):
    """Only in simulated time: whoever makes the time has left. Stop; never invent time."""


class Link(Protocol):
    """One serial port and its clock. All instants are UTC milliseconds; used by one thread."""

    def open(self) -> None:
        """Opens the port and forgets input of before. Raises LinkLost, LinkDenied or BenchGone."""

    def close(self) -> None:
        """Closes the port; `now_ms` and `wait` go on working, and `open` may be called again."""

    def now_ms(self) -> int:
        """The instant up to which the caller has seen everything."""

    def read(self, deadline_ms: int) -> tuple[bytes, int]:
        """Returns the next bytes, at least one, and the instant by which they had arrived.

        Without bytes up to the deadline: b"" and the deadline. It may return b"" and an earlier instant, so
        that the caller can hand on what it has and look whether it should stop. Raises LinkLost or BenchGone.
        """

    def write(self, data: bytes, answer_by_ms: int) -> None:
        """Sends `data` now; an answer is of use until `answer_by_ms`. Raises LinkLost or BenchGone."""

    def expect(self, until_ms: int) -> None:
        """Says that the caller goes on reading until `until_ms`, though an answer has come: what came was spoiled.

        The wall clock gets there by itself; in simulated time somebody must be asked to bring it there.
        """

    def discard_input(self) -> int:
        """Drops what has arrived until now, a late answer for instance; returns how many bytes that was."""

    def wait(self, until_ms: int) -> None:
        """Lets time pass until `until_ms`; may return earlier when asked to stop. Raises BenchGone."""
