"""What a driver is, and the one way in which all of them find frames again after spoiled bytes.

The resync rule: where a frame seems to begin (its header is right) but its checksum or tail is wrong, the scanner
slides on by one byte, never by a frame, for the true frame may begin inside the false one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from murmure_edge.reading import Reading

Decoded = tuple[str, Reading]
"""A quantity and one reading of it."""

CACHE_FRAMES = 1 << 12
"""A street shows the same few thousand frames again; at this size (a megabyte) a driver's cache starts anew."""

# A sound leaves a reading alone once what is left of it moves the level by less than half of the last digit. It is
# taken as 100 dB over the street, the whole range of these meters (30 to 130 dB): ln(10^10 / (10^0.005 - 1)).
FORGOTTEN_AFTER = math.log(10 ** (100 / 10) / (10 ** (0.05 / 10) - 1))  # 27.5 time constants


class SettingError(ValueError):
    """A driver's setting is wrong: stop, and show the operator the setting and the mend."""

    def __init__(self, key: str, problem: str, mend: str) -> None:
        super().__init__(f"{key}: {problem}; {mend}")
        self.key, self.problem, self.mend = key, problem, mend


@dataclass(slots=True)
class Counters:
    """What came over the line. Every byte is in exactly one frame, or discarded, or still waiting for its frame.

    `rejected` counts the places where a frame began (header right) and did not hold: wrong checksum, wrong tail,
    or, at the end of a file, cut short. `discarded_bytes` counts all bytes that are in no good frame, those of
    rejected frames included. `refused` counts good frames by which a sensor says that it has no value.
    """

    frames: int = 0
    rejected: int = 0
    discarded_bytes: int = 0
    refused: int = 0


@dataclass(slots=True)
class Told:
    """What a sensor has told of itself since its port was opened; never a value that was measured.

    `identity`: make, model, serial number, firmware, by name, as far as it answered. `mismatch`: in one sentence, why
    it is not the device, or does not keep the settings, that were asked for; "" while nothing speaks against it. While
    it stands no reading is taken from the port.
    """

    identity: dict[str, str] = field(default_factory=dict)
    mismatch: str = ""


@dataclass(frozen=True, slots=True)
class Plausible:
    """What a working sensor says in a living street, by the names that `describe` gives.

    `ranges`: name -> (lowest, highest) of the datasheet. `rising`: names whose values never fall in this order (PM1,
    PM2.5, PM10). `floors`: name -> what it shows when it hears or sees nothing. `stuck_s`: for how long no street gives
    the same value. Only the doctor judges by it, on the technician's own screen: it depends on the street, so `sense`
    neither looks nor tells, and no reading is ever dropped for it.
    """

    ranges: Mapping[str, tuple[float, float]]
    rising: tuple[str, ...] = ()
    floors: Mapping[str, float] = field(default_factory=dict)
    stuck_s: int = 600


class FrameScanner:
    """Cuts good frames out of a stream of bytes that may begin, break and end anywhere.

    `length_at(data, start)` returns the length of the frame that may begin at `start`, 0 if none can begin
    there, or more than there are bytes if they are too few to tell. `holds(frame)` judges checksum and tail.
    """

    def __init__(
        self, length_at: Callable[[bytes, int], int], holds: Callable[[bytes], bool], counters: Counters
    ) -> None:
        self._length_at = length_at
        self._holds = holds
        self.counters = counters
        self.pending = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the frames that `data` completes, in order."""
        return self._scan(self.pending + data, at_end=False)

    def finish(self) -> list[bytes]:
        """Ends the input: what waits for more bytes is no frame, but a shorter one may stand inside it."""
        return self._scan(self.pending, at_end=True)

    def reset(self) -> None:
        """Drops half a frame: what comes next is not its other half."""
        self.counters.discarded_bytes += len(self.pending)
        self.pending = b""

    def _scan(self, data: bytes, at_end: bool) -> list[bytes]:
        frames: list[bytes] = []
        start, size, counters = 0, len(data), self.counters
        while start < size:
            length = self._length_at(data, start)
            if length > size - start:
                if not at_end:
                    break
                counters.rejected += 1
            elif length:
                frame = data[start : start + length]
                if self._holds(frame):
                    frames.append(frame)
                    start += length
                    continue
                counters.rejected += 1
            start += 1
            counters.discarded_bytes += 1
        counters.frames += len(frames)
        self.pending = data[start:]
        return frames


class Driver(Protocol):
    """One kind of sensor: its bytes on one side, readings on the other. Used by one port's thread.

    `memory_readings`: per quantity, how many later readings a sound or a puff of smoke goes on changing after it
    is over, the sensor's own clock included (the policy's `tail` must be at least this). A count has none: a passage
    is one reading.
    """

    NAME: ClassVar[str]
    QUANTITIES: ClassVar[tuple[str, ...]]
    memory_readings: Mapping[str, int]
    baud: int
    silence_ms: int  # without a good frame for so long: stalled, and `opening` is sent again
    warm_up_ms: int  # of every opening's readings the first so many milliseconds are discarded, whatever they say
    counters: Counters
    told: Told

    @property
    def PLAUSIBLE(self) -> Plausible:
        """A constant of its class, but where a setting names the make."""

    @staticmethod
    def scanner(counters: Counters) -> FrameScanner:
        """Returns a scanner for everything that this device sends."""

    @staticmethod
    def describe(frame: bytes) -> dict[str, object]:
        """Returns a good frame as the JSON object that `murmure edge decode` prints."""

    def opening(self) -> Iterable[bytes]:
        """Yields the commands that wake it, set mode and period, read them back and ask who it is, at every open,
        whoever used the sensor before. `told` begins anew. What it answers to one command has been through `feed`
        before the next one is asked for."""

    def feed(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """Takes bytes that had arrived by `now_ms`; returns the readings they complete."""

    def settled_ms(self, now_ms: int) -> int:
        """Returns the instant before which no reading can come any more, after bytes up to `now_ms`.

        It is a fixed time before `now_ms`, whatever the sensor has seen: windows close by it, and when they close must
        tell nothing of anybody.
        """

    def reset(self) -> None:
        """Forgets half a frame, for the port was closed; keeps what was learned about the place."""


@runtime_checkable
class PolledDriver(Driver, Protocol):
    """A sensor that speaks when asked."""

    period_ms: int
    timeout_ms: int
    awaiting: bool  # asked, and neither a value nor a refusal has come

    def request(self) -> bytes:
        """Returns the bytes to send; until `feed` has met the answer, `awaiting` is true."""


def checked_setting(key: str, value: object, low: int, high: int) -> int:
    """Returns the integer setting. Raises SettingError if it is none or outside low..high."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SettingError(key, f"{value!r} is out of range", f"write a whole number from {low} to {high}")
    return value


def checked_baud(value: object) -> int:
    """Returns the line speed. Raises SettingError if no serial line has it."""
    return checked_setting("baud", value, 1200, 4_000_000)


def meter_forgets_ms(time_constant_ms: object) -> float:
    """Returns for how long a level meter with exponential weights shows a sound that is over (docs/sensitivity.md 2).

    `time_constant_ms` is the setting of that name, 125 on a FAST meter. Raises SettingError outside 1-10000.
    """
    return FORGOTTEN_AFTER * checked_setting("time_constant_ms", time_constant_ms, 1, 10_000)


def tenths(value: float) -> int | None:
    """Returns the nearest whole number of tenths, half to even; None for what is no number (NaN, infinite).

    Exact for what a sensor sends in 32 bits: times ten it still fits the 53 bits of a double.
    """
    return round(value * 10) if math.isfinite(value) else None
