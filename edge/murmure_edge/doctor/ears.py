"""What the doctor overhears on a sensor's line while the sensor's own driver works: frames, as `decode` describes them.

What was heard is kept for as long as it is needed to recognise another device, and never leaves the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from murmure_edge.link import Link
from murmure_edge.sensors import ld2450
from murmure_edge.sensors.base import Counters, Driver
from murmure_edge.sensors.modbus_noise import NO_VALUE, READ_HOLDING, ModbusNoise, answers_of
from murmure_edge.sensors.nsrt_mk3 import NsrtMk3, answer_bytes

KEPT_BYTES = 4096
# What an LD2450 is told with these is written into its flash, or makes it start anew.
_LASTING = {ld2450.MULTI_TARGET, ld2450.SET_ZONES, ld2450.BLUETOOTH, ld2450.RESTART}


class Values(dict[str, object]):
    """What a sensor said last. It shows itself to nobody by accident: who prints it must ask for its items."""

    def __repr__(self) -> str:
        return "Values(…)"

    __str__ = __repr__


_CALIBRATED = {
    "noise": ("level_db", "leq_db"),
    "pm1": ("pm1_ug_m3", "pm1_atm_ug_m3"),
    "pm2_5": ("pm2_5_ug_m3", "pm2_5_atm_ug_m3"),
    "pm10": ("pm10_ug_m3", "pm10_atm_ug_m3"),
}
"""What a quantity is called in the frames of those that measure it."""


def calibrated(described: Mapping[str, object], offsets: Mapping[str, int]) -> Values:
    """Returns what a sensor said with the port's offsets (tenths, by quantity) applied, as `sense` applies them."""
    values = Values(described)
    for quantity, tenths in offsets.items():
        for name in _CALIBRATED[quantity]:
            value = values.get(name)
            if isinstance(value, int | float):
                values[name] = value + tenths / 10
    return values


class Ears:
    """Overhears one driver's line. `frames`: good ones so far, whether or not the driver could still use them."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._scanner = (
            answers_of(driver.slave, Counters()) if isinstance(driver, ModbusNoise) else driver.scanner(Counters())
        )
        self._command = b""  # the last one: an NSRT's answers have no frame, and are known by what was asked
        self.frames = 0
        self.bytes = 0
        self.raw = b""
        """The last bytes, to recognise another device by."""

    def wrote(self, command: bytes) -> None:
        """Takes what went out: the answer to it comes next."""
        self._command = command

    def heard(self, data: bytes) -> list[dict[str, object]]:
        """Takes what came in; returns the frames that it completes, described."""
        self.bytes += len(data)
        self.raw = (self.raw + data)[-KEPT_BYTES:]
        found = [self._described(frame) for frame in self._frames(data)]
        self.frames += len(found)
        return found

    def _frames(self, data: bytes) -> list[bytes]:
        if not isinstance(self._driver, NsrtMk3):
            return self._scanner.feed(data)
        command, self._command = self._command, b""
        # Over USB an answer comes in one piece; what is longer or shorter is none.
        return [command + data] if command and len(data) == answer_bytes(command) else []

    def _described(self, frame: bytes) -> dict[str, object]:
        driver = self._driver
        if isinstance(driver, ModbusNoise) and frame[1] == READ_HOLDING:
            value = int.from_bytes(frame[3:5], "big")
            return {} if value == NO_VALUE else {"level_db": value / driver.counts_per_db}
        return driver.describe(frame)


class TappedLink:
    """A link with the doctor's ears on it; see `murmure_edge.link.Link`.

    `heard(data, now_ms)` is told what comes. `lasting`: commands that a sensor would keep for good go out as well;
    without, they are withheld, and `withheld` says that there were some.
    """

    def __init__(
        self, link: Link, ears: Ears, heard: Callable[[list[dict[str, object]], int], None], lasting: bool
    ) -> None:
        self._link, self._ears, self._heard, self._lasting = link, ears, heard, lasting
        self.withheld = False

    def open(self) -> None:
        """See Link.open."""
        self._link.open()

    def close(self) -> None:
        """See Link.close."""
        self._link.close()

    def now_ms(self) -> int:
        """See Link.now_ms."""
        return self._link.now_ms()

    def read(self, deadline_ms: int) -> tuple[bytes, int]:
        """See Link.read."""
        data, now_ms = self._link.read(deadline_ms)
        if data:
            self._heard(self._ears.heard(data), now_ms)
        return data, now_ms

    def write(self, data: bytes, answer_by_ms: int) -> None:
        """See Link.write."""
        if not self._lasting and is_lasting(data):
            self.withheld = True
            return
        self._ears.wrote(data)
        self._link.write(data, answer_by_ms)

    def expect(self, until_ms: int) -> None:
        """See Link.expect."""
        self._link.expect(until_ms)

    def discard_input(self) -> int:
        """See Link.discard_input."""
        dropped = self._link.discard_input()
        self._ears.bytes += dropped
        return dropped

    def wait(self, until_ms: int) -> None:
        """See Link.wait."""
        self._link.wait(until_ms)


def is_lasting(command: bytes) -> bool:
    """Returns whether a sensor would keep for good, beyond its next start, what it is told."""
    return command.startswith(ld2450.ACK_HEAD) and command[6] in _LASTING
