"""The time of a living gateway: trusted before anything begins, then counted from the machine's own oscillator.

Readings are stamped, and windows closed, by the time since boot and an offset to UTC that is fixed once the time can be
trusted. Small corrections of the wall clock are followed slowly, so that no second is lived twice or left out; a step
is told to `sense`, which withholds what was open. Nobody who moves the wall clock can hurry the budget of another day.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

STEP_MS = 5_000  # a wall clock further off than this was stepped, not slewed
CORRECTION = 1_000  # a correction is followed by one part in so many: twice what a kernel slews
EARLIEST_MS = 1_767_225_600_000  # 2026-01-01: a clock that says less has never been set
AUTO, NTP, RTC, ANY = "auto", "ntp", "rtc", "any"
SOURCES = (AUTO, NTP, RTC, ANY)
# systemd-timesyncd makes the first once it has set the clock. Inside the unit it is the only witness, for there the
# kernel answers no question about its clock.
SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
RTC_TIME = Path("/sys/class/rtc/rtc0/since_epoch")
_STATUS_AT, _TIMEX_BYTES = 40, 512
_STA_UNSYNC = 0x0040


class Clock(Protocol):
    """How `sense` learns of time beside what its readings carry."""

    def monotonic(self) -> float:
        """Returns seconds that never fall, for pauses between looks at the inbox."""

    def trusted(self) -> bool:
        """Returns whether somebody vouches for the time at present."""

    def begin(self) -> None:
        """Takes the wall clock's time for true: from now on `now_ms` counts from it."""

    def stepped_forward(self) -> bool:
        """Returns whether the clock that stamps readings was put forward since the last call."""

    def now_ms(self) -> int:
        """Returns that clock's instant, UTC milliseconds, after `begin`."""


def wall_ms() -> int:
    """Returns what the wall clock says, UTC milliseconds."""
    return time.time_ns() // 1_000_000


def boot_ms() -> int:
    """Returns milliseconds since boot, sleep included: nobody can set them."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def pause(seconds: float) -> None:
    """Waits so many seconds."""
    time.sleep(seconds)


def kernel_synchronised() -> bool:
    """Returns whether the kernel counts its clock as synchronised, whatever daemon did it; False also where it may not
    be asked. Source: adjtimex(2), struct timex of 64-bit Linux."""
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: only asks
    if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
        return False
    return not int.from_bytes(timex.raw[_STATUS_AT : _STATUS_AT + 4], "little") & _STA_UNSYNC


def rtc_ms(path: Path = RTC_TIME) -> int | None:
    """Returns what the real-time clock says, UTC milliseconds in whole seconds; None without one, or if its battery is
    empty (then its driver gives an error)."""
    try:
        return int(path.read_text("ascii")) * 1000
    except (OSError, ValueError):
        return None


def vouched_for(
    source: str,
    wall: Callable[[], int] = wall_ms,
    synchronised: Callable[[], bool] = lambda: SYNCHRONISED.exists() or kernel_synchronised(),
    rtc: Callable[[], int | None] = rtc_ms,
) -> bool:
    """Returns whether what `source` names vouches for the wall clock. `auto`: the network's time or a real-time clock;
    `ntp` or `rtc`: that one alone; `any`: nobody is asked. A real-time clock vouches for the time that is its own."""
    now_ms = wall()
    if source == ANY:
        return True
    if now_ms < EARLIEST_MS:
        return False
    if source in (AUTO, NTP) and synchronised():
        return True
    theirs_ms = rtc() if source in (AUTO, RTC) else None
    return theirs_ms is not None and abs(theirs_ms - now_ms) <= STEP_MS


class LiveClock:
    """The real one. `source` is the `clock` of gateway.toml; `vouch`, `wall` and `boot` are for tests.

    The main thread corrects the offset, the ports' threads read it: one whole number, so that none sees half of it.
    """

    def __init__(
        self,
        source: str,
        vouch: Callable[[str], bool] = vouched_for,
        wall: Callable[[], int] = wall_ms,
        boot: Callable[[], int] = boot_ms,
    ) -> None:
        self._source, self._vouch, self._wall, self._boot = source, vouch, wall, boot
        self.begin()

    def begin(self) -> None:
        """See Clock.begin."""
        self._looked_ms = self._boot()
        self._offset_ms = self._wall() - self._looked_ms

    def monotonic(self) -> float:
        """See Clock.monotonic."""
        return self._boot() / 1000

    def trusted(self) -> bool:
        """See Clock.trusted."""
        return self._vouch(self._source)

    def now_ms(self) -> int:
        """See Clock.now_ms."""
        return self._boot() + self._offset_ms

    def stepped_forward(self) -> bool:
        """See Clock.stepped_forward. A clock that was put back is followed at once as well: time is lived twice then,
        and what falls before the ports' horizons is dropped."""
        now_ms = self._boot()
        off_ms = self._wall() - now_ms - self._offset_ms
        if abs(off_ms) > STEP_MS:
            self._looked_ms = now_ms
            self._offset_ms += off_ms
            return off_ms > 0
        most_ms = (now_ms - self._looked_ms) // CORRECTION
        if most_ms:
            self._looked_ms = now_ms
            self._offset_ms += max(-most_ms, min(most_ms, off_ms))
        return False
