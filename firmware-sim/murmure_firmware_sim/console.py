"""What is told to a device while it runs: one command a line, on its standard input.

fault NAME[:ARG] on|off        a fault begins or ends now
set KEY=VALUE [KEY=VALUE]      constant values from now on
set off                        what was there before
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass

from .errors import SimError
from .faults import SETTING, Fault, FaultyDevice, parse_fault
from .host import check_host
from .scenario import check_values, steady_source

_WHERE = "stdin"
_MEND = "write fault NAME[:ARG] on|off, or set KEY=VALUE"


@dataclass(frozen=True)
class Switch:
    """A fault that begins (`on`) or ends now."""

    fault: Fault
    on: bool


class Console:
    """Reads lines from a descriptor without ever waiting for them; deaf for good once it has ended."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._line = b""
        self.ended = False

    def lines(self) -> list[str]:
        """Returns the whole lines that have come since the last call."""
        if self.ended or not select.select([self._fd], [], [], 0)[0]:
            return []
        try:
            data = os.read(self._fd, 4096)
        except OSError:
            data = b""
        if not data:
            self.ended = True
        *lines, self._line = (self._line + data).split(b"\n")
        return [line.decode("utf-8", "replace").strip() for line in lines if line.strip()]


def parse_command(line: str, device: FaultyDevice) -> Switch:
    """Reads one command to a device. Raises SimError."""
    verb, *words = line.split()
    if verb == "fault" and len(words) == 2 and words[1] in ("on", "off"):
        fault = parse_fault(words[0], _WHERE, "fault", at_once=True)
        check_host(_WHERE, fault, bench=False)
        return Switch(fault, words[1] == "on")
    if verb == "set" and words == ["off"]:
        return Switch(Fault(SETTING), False)
    if verb == "set" and words:
        if device.has_people:
            raise SimError(_WHERE, verb, "has no meaning among people", "begin without that source")
        settings = {}
        for word in words:
            key, _, value = word.partition("=")
            try:
                settings[key] = float(value)
            except ValueError:
                raise SimError(_WHERE, key, f"{value!r} is no number", "write a number") from None
        return Switch(Fault(SETTING, values=steady_source(check_values(_WHERE, "set ", device.name, settings))), True)
    raise SimError(_WHERE, verb, f"{line!r} is no command", _MEND)
