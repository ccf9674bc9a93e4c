"""Whose word the time rests on, and how a living gateway counts it. Clocks are told, never waited for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge.clock import (
    CORRECTION,
    EARLIEST_MS,
    SOURCES,
    STEP_MS,
    LiveClock,
    rtc_ms,
    vouched_for,
)
from murmure_edge.serial_link import SerialLink

NOW_MS = EARLIEST_MS + 10**9


class Machine:
    """A wall clock that anybody may set and a time since boot that nobody can."""

    def __init__(self) -> None:
        self.boot, self.wall = 5_000, NOW_MS
        self.clock = LiveClock("ntp", lambda _: True, lambda: self.wall, lambda: self.boot)

    def passes(self, ms: int, gains: int = 0) -> bool:
        """Lets time pass, the wall clock gaining on it; returns whether the clock was put forward then."""
        self.boot += ms
        self.wall += ms + gains
        return self.clock.stepped_forward()


# --- trust -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "rtc_ms", "vouches"),
    [
        (True, None, {"auto", "ntp", "any"}),
        (False, NOW_MS, {"auto", "rtc", "any"}),
        (False, NOW_MS - STEP_MS, {"auto", "rtc", "any"}),
        (False, NOW_MS + STEP_MS + 1, {"any"}),
        (True, NOW_MS - 86_400_000, {"auto", "ntp", "any"}),
        (False, None, {"any"}),
    ],
)
def test_time_rests_on_the_word_of_the_source_that_is_named(
    network: bool, rtc_ms: int | None, vouches: set[str]
) -> None:
    """The network's time or a real-time clock that agrees, whichever the technician chose; "any" asks nobody."""
    given = {source for source in SOURCES if vouched_for(source, lambda: NOW_MS, lambda: network, lambda: rtc_ms)}
    assert given == vouches


def test_a_clock_that_was_never_set_is_not_trusted_though_a_dead_battery_agrees() -> None:
    """A real-time clock without its battery hands 1970 or 2000 to the kernel, and then the two agree."""
    for at_ms in (0, 946_684_800_000, EARLIEST_MS - 1):
        wall = partial(int, at_ms)
        assert not vouched_for("auto", wall, lambda: True, wall)


@pytest.mark.parametrize(("text", "ms"), [("1794000000\n", 1_794_000_000_000), ("", None), ("x", None), (None, None)])
def test_the_real_time_clock_is_read_where_the_kernel_shows_it(
    text: str | None, ms: int | None, tmp_path: Path
) -> None:
    """Seconds since 1970; none without the device, or if its driver has nothing to say."""
    if text is not None:
        (tmp_path / "since_epoch").write_text(text)
    assert rtc_ms(tmp_path / "since_epoch") == ms


@pytest.mark.strace
def test_the_kernel_is_asked_and_never_told(tmp_path: Path) -> None:
    """Its answer is that of adjtimex(2), called with no mode to set."""
    program = shutil.which("strace")
    assert program is not None
    code = "from murmure_edge.clock import kernel_synchronised; print(kernel_synchronised())"
    trace = ["-f", "-v", "-e", "trace=adjtimex,clock_adjtime", "-o", str(tmp_path / "calls")]
    told = subprocess.run([program, *trace, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (call,) = [line for line in (tmp_path / "calls").read_text().splitlines() if "adjtime" in line]
    assert "{modes=0," in call
    assert told.stdout.strip() == str("STA_UNSYNC" not in call)


# --- counting --------------------------------------------------------------------------------------------------------


def test_time_is_counted_from_the_boot_clock() -> None:
    """Between two looks nothing that is done to the wall clock moves a stamp."""
    machine = Machine()
    machine.boot += 60_000
    machine.wall += 86_400_000
    assert machine.clock.now_ms() == NOW_MS + 60_000
    assert machine.clock.monotonic() == 65.0


def test_what_was_said_before_the_time_was_trusted_is_forgotten() -> None:
    """From `begin` on the wall clock of then counts, and that is no step."""
    machine = Machine()
    machine.wall += 10**10
    machine.clock.begin()
    assert machine.clock.now_ms() == NOW_MS + 10**10
    assert not machine.passes(1_000)


@pytest.mark.parametrize("gains", [-STEP_MS, -700, 0, 1, 3_000, STEP_MS])
def test_a_small_correction_is_followed_slowly_and_to_its_end(gains: int) -> None:
    """Up to five seconds either way: no step, at most one part in a thousand, and in the end the wall clock's time."""
    machine = Machine()
    assert not machine.passes(1_000, gains)
    stamps = [machine.clock.now_ms()]
    for _ in range(abs(gains) + 2):
        assert not machine.passes(1_000)
        stamps.append(machine.clock.now_ms())
    assert all(999 <= after - before <= 1_001 for before, after in pairwise(stamps))
    assert stamps[-1] == machine.wall


@pytest.mark.parametrize("gains", [STEP_MS + 1, 86_400_000, 400 * 86_400_000])
def test_a_step_forward_is_told_once(gains: int) -> None:
    """`sense` learns of it before any stamp shows it, and stamps go on from there."""
    machine = Machine()
    machine.wall += gains
    assert machine.clock.now_ms() == NOW_MS
    assert machine.passes(1_000)
    assert machine.clock.now_ms() == machine.wall
    assert not machine.passes(1_000)


def test_a_clock_put_back_is_followed_and_is_no_step_forward() -> None:
    """An hour back: stamps are an hour back, and waiting is the ledger's business."""
    machine = Machine()
    assert not machine.passes(1_000, -3_600_000)
    assert machine.clock.now_ms() == machine.wall == NOW_MS + 1_000 - 3_600_000


def test_time_cannot_be_hurried_by_small_steps() -> None:
    """Four seconds each second, each too small for a step of its own: together they are told as steps."""
    machine = Machine()
    steps = 0
    for _ in range(100):
        before_ms = machine.clock.now_ms()
        stepped = machine.passes(1_000, 4_000)
        steps += stepped
        assert stepped or machine.clock.now_ms() - before_ms <= 1_001
    assert steps >= 40


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(-6_000, 6_000)), max_size=50))
def test_stamps_fall_only_with_a_step_back(turns: list[tuple[int, int]]) -> None:
    """Whatever is done to the wall clock: without a step of more than five seconds no stamp is before an earlier one,
    nor further from it than the time that passed and its thousandth."""
    machine = Machine()
    since_ms = 0
    for ms, gains in turns:
        before_ms, before_off = machine.clock.now_ms(), machine.wall + gains - machine.boot
        stepping = abs(before_off - (before_ms - machine.boot)) > STEP_MS
        stepped = machine.passes(ms, gains)
        since_ms += ms
        if stepping:
            assert machine.clock.now_ms() == machine.wall
            assert stepped == (machine.clock.now_ms() > before_ms + ms)
            since_ms = 0
        else:
            assert abs(machine.clock.now_ms() - before_ms - ms) <= since_ms // CORRECTION
            since_ms = 0 if since_ms >= CORRECTION else since_ms


def test_a_port_takes_a_slowed_clock_for_no_step_back() -> None:
    """A thread that read the clock just before it was slowed down by a millisecond sees no time go back; an hour it
    does see."""
    told = iter([10**6, 10**6 - 1, 10**6 - 100, 10**6 + 1, 10**6 + 1 - 3_600_000])
    link = SerialLink("nowhere", 9600, threading.Event(), lambda: next(told))
    assert [link.now_ms() for _ in range(5)] == [10**6, 10**6, 10**6, 10**6 + 1, 10**6 + 1 - 3_600_000]
