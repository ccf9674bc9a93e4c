"""What every emulated device has in common: a source of values, pieces of bytes, commands.

A device is a state machine in simulated time. It never reads a clock: `advance(to_ms)` asks what it said by itself,
`receive(data, now_ms)` tells it what the host wrote. What a device says in one second is a function of
(source, state, second), so chunking cannot change a byte.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Protocol

Piece = tuple[bytes, int]
"""Bytes, and the time (ms, UTC epoch) at which the last of them had arrived; `b""` tells of silence until then."""

SLOT_MS = 400
DIP_MS = 200
"""A body shadows the beam for the first DIP_MS of its slot; the rest of the slot is clear, so two never touch."""
SLOTS_PER_MINUTE = 60_000 // SLOT_MS

MS_PER_S = 1000
S_PER_MINUTE = 60

FOOTFALL, NOISE, AIR = "footfall", "noise", "air"
FAST_MS = 125
"""Time constant of the time weighting F of IEC 61672-1; S has 1000."""
NO_VALUE = 0xFFFF
"""What a source shows, in tenths, where a sensor is broken and has no value: each device says so in its own way."""


class Source(Protocol):
    """The street as a device sees it. Any minute (since 1970, UTC) can be asked, in any order, with one answer."""

    @property
    def over_capacity(self) -> int:
        """Crossings that the recording holds and the beam cannot show, among the minutes asked so far."""

    def pm_tenths(self, minute: int) -> Sequence[tuple[int, int] | None]:
        """60 entries (PM2.5, PM10) in tenths of ug/m3, one a second; None where there is a hole."""

    def level_tenths(self, minute: int) -> Sequence[int | None]:
        """60 levels in tenths of dB(A), one a second; None where there is a hole."""

    def dip_slots(self, minute: int) -> Sequence[int]:
        """Ascending numbers (0 to 149) of the minute's slots in which a body crosses the beam."""


class Device(ABC):
    """One device behind one serial port.

    `baud` is the speed of its line, `frame_bytes` the length of one spontaneous frame, `polled_only` says that it never
    speaks unasked, `usb` that its line has no speed to be wrong about. `frames` and `crossings` count what it has sent
    by itself or answered. `quantity` is what it shows of a source.
    """

    name: str
    quantity: str
    baud: int
    frame_bytes: int
    polled_only = False
    has_passive_mode = False
    """That it can be told to speak only when asked. While it keeps to that, its port is one that is polled."""
    usb = False
    options: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Settings that are keywords of the constructor, whole numbers: the setting to the keyword."""
    bauds: tuple[int, ...] = ()
    """The speeds that the setting `baud` may have."""
    memory: tuple[str, int] | None = None
    """The setting of what it remembers of its source (`time_constant_ms` or `average_ms`), and the usual value."""
    marks_per_s = 1
    """Pieces of a second's speech; more than one only if a fault splits it."""
    latency_ms = 20
    """From the end of a command to the end of its answer."""
    asleep = False
    refuses_with: int | None = None
    """A fault: the code with which every request is refused, where the protocol has such codes."""
    answers_strangely = False
    """A fault: answers come from the next address, where the protocol has addresses."""

    def __init__(self, source: Source, seed: int = 0) -> None:
        self.source = source
        self.seed = seed
        self.frames = 0
        self.crossings = 0
        self._next_s = 0
        self._minute = -1
        self._said: list[bytes] = []
        self._pm_minute = self._level_minute = -1
        self._pm: Sequence[tuple[int, int] | None] = ()
        self._levels: Sequence[int | None] = ()

    @property
    def over_capacity(self) -> int:
        """Crossings of a recording that the beam could not show."""
        return self.source.over_capacity

    def seek(self, now_ms: int) -> None:
        """Goes to the first whole second not before `now_ms`; what it would have said until then is never said."""
        self._next_s = -(-now_ms // MS_PER_S)

    def advance(self, to_ms: int) -> list[Piece]:
        """Returns what the device said by itself since the last call: one piece a second, the last not after `to_ms`.

        A piece's time is that of its last frame, inside the second; a silent second has an empty piece.
        """
        if self.polled_only:
            return []
        last_frame_ms = self.frame_offset_ms(self.frames_per_s() - 1)
        last_s = (to_ms - last_frame_ms) // MS_PER_S
        pieces: list[Piece] = []
        while self._next_s <= last_s:
            minute, first = divmod(self._next_s, S_PER_MINUTE)
            end = min(S_PER_MINUTE, first + last_s - self._next_s + 1)
            self._need(minute)
            start_ms = minute * S_PER_MINUTE * MS_PER_S + last_frame_ms
            said = [(self._said[s], start_ms + s * MS_PER_S) for s in range(first, end)]
            self.frames += sum(len(piece) for piece, _ in said) // self.frame_bytes
            self._count(minute, first, end)
            self._next_s += end - first
            pieces += said
        return pieces

    def frames_of(self, second: int) -> list[Piece]:
        """Returns the frames of one second, each with its own time: for a device that lives on the wall clock."""
        minute, s = divmod(second, S_PER_MINUTE)
        self._need(minute)
        said = self._said[s]
        size = self.frame_bytes
        return [
            (said[at : at + size], second * MS_PER_S + self.frame_offset_ms(at // size))
            for at in range(0, len(said), size)
        ]

    def is_quiet(self, second: int) -> bool:
        """Returns whether it says nothing by itself in one second."""
        minute, s = divmod(second, S_PER_MINUTE)
        self._need(minute)
        return not self._said[s]

    def receive(self, data: bytes, now_ms: int) -> list[Piece]:
        """Takes what the host wrote by `now_ms` and returns the answers, in order; usually one or none."""
        answers = [(answer, now_ms + self.latency_ms) for answer in self.answer(data, now_ms)]
        self.frames += len(answers)
        self._minute = -1  # a command may have changed what the device says from now on
        return answers

    def look_again(self) -> None:
        """Forgets what it has seen of the present minute: its source may show something else from now on."""
        self._minute = self._pm_minute = self._level_minute = -1

    def frames_per_s(self) -> int:
        """Returns how many frames a second of speech holds, at least 1."""
        return 1

    def frame_offset_ms(self, index: int) -> int:
        """Returns when frame `index` of a second is complete, in ms after the second's start."""
        return 500

    def pm_at(self, second: int) -> tuple[int, int] | None:
        """Returns the source's PM2.5 and PM10 in one second, in tenths of ug/m3; None in a hole."""
        minute, s = divmod(second, S_PER_MINUTE)
        if minute != self._pm_minute:
            self._pm, self._pm_minute = self.source.pm_tenths(minute), minute
        return self._pm[s]

    def level_at(self, second: int) -> int | None:
        """Returns the source's level in one second, in tenths of dB; None in a hole."""
        minute, s = divmod(second, S_PER_MINUTE)
        if minute != self._level_minute:
            self._levels, self._level_minute = self.source.level_tenths(minute), minute
        return self._levels[s]

    def be_passive(self) -> None:
        """Says nothing until it is asked, as a program before this one left it."""
        return

    def be_asleep(self) -> None:
        """Sleeps, as a program before this one left it; only what has a sleep can."""
        return

    def reflash(self, baud: int) -> None:
        """Has another firmware from now on, which speaks at another speed."""
        self.baud = baud

    def bent(self, said: bytes, fault: str) -> bytes:
        """Returns whole frames with a value as a fault of it shows (`stuck`, `warmup_zeros`, `ffff`, `out_of_range`).

        Only for values that are no source's: levels and particles are bent where the device sees them.
        """
        return said

    def unplugged(self) -> tuple[int, ...]:
        """Returns when the plug is pulled and put back, by turns (ms); empty if never."""
        return ()

    @abstractmethod
    def answer(self, data: bytes, now_ms: int) -> list[bytes]:
        """Takes bytes of the host, changes state, and returns the answers as of `now_ms`."""

    @abstractmethod
    def say(self, minute: int) -> list[bytes]:
        """Returns the 60 pieces of a minute in the present state."""

    @abstractmethod
    def power_cycle(self, now_ms: int) -> None:
        """Loses what a power cut loses: settings that were not saved. To be called by every device's own."""
        self._minute = -1

    def _count(self, minute: int, first: int, end: int) -> None:
        """Counts the crossings of the seconds [first, end) of a minute just said; only a beam has any."""
        return

    def _need(self, minute: int) -> None:
        if minute != self._minute:
            self._said = self.say(minute)
            self._minute = minute


def sum8(data: bytes) -> int:
    """Returns the low byte of the ordinary sum."""
    return sum(data) & 0xFF
