"""The BB AA module: its frames of a second become one reading, as energies, at a moment that tells of nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge.sensors.uart_decibel_bbaa import UartDecibelBbaa

SECOND_MS = 1_700_000_000_000
LEVELS = st.integers(300, 1300)


def _frame(tenths: int) -> bytes:
    body = b"\xbb\xaa\x01" + tenths.to_bytes(2, "little")
    return body + bytes((sum(body) % 256,))


def _heard(*frames: tuple[int, int]) -> list[tuple[int, int]]:
    """Feeds (milliseconds, tenths) one by one, and returns the readings in the same form."""
    driver = UartDecibelBbaa()
    found = []
    for at_ms, tenths in frames:
        readings = driver.feed(_frame(tenths), SECOND_MS + at_ms)
        found += [(reading.time_ms - SECOND_MS, reading.value) for _, reading in readings]
    return found


def _mean_tenths(levels: list[int]) -> float:
    return 100 * math.log10(sum(10 ** (level / 100) for level in levels) / len(levels))


def test_the_first_frame_of_a_second_brings_its_reading() -> None:
    """One reading a second, at the pace of the module, whatever is heard; each frame counts once."""
    times_ms = range(0, 3_000, 300)
    assert _heard(*((at, 500) for at in times_ms)) == [(0, 500), (1_200, 500), (2_100, 500)]
    assert [at for at, _ in _heard(*((at, 1300 if at in (300, 1_500) else 300) for at in times_ms))] == [
        0,
        1_200,
        2_100,
    ]


def test_energies_are_averaged_and_never_decibels() -> None:
    """One of four frames at 90 dB among 50 dB is 84 dB, not 60."""
    assert _heard((0, 500), (300, 500), (600, 900), (900, 500), (1_200, 500)) == [(0, 500), (1_200, 840)]


@given(levels=st.lists(LEVELS, min_size=1, max_size=4), first=LEVELS)
def test_the_mean_is_that_of_the_energies_to_the_nearest_tenth(levels: list[int], first: int) -> None:
    """The integers agree with logarithms wherever these are not within a hair of half a tenth."""
    frames = [(300 * at, level) for at, level in enumerate([first, *levels[:-1]])] + [(1_200, levels[-1])]
    mean = _mean_tenths(levels)
    found = _heard(*frames)[-1][1]
    assert found in (math.floor(mean + 0.5 - 1e-6), math.floor(mean + 0.5 + 1e-6))


@given(level=st.integers(0, 1400), count=st.integers(1, 4))
def test_a_steady_level_is_its_own_mean(level: int, count: int) -> None:
    """Down to 0 and up to the highest that the windows take."""
    assert {value for _, value in _heard(*((at * 900 // count, level) for at in range(count)), (1_000, level))} == {
        level
    }


def test_what_no_sound_can_be_is_taken_as_the_highest() -> None:
    """6553.5 dB is a broken module's word; the windows would take it as 140 dB, and so does a mean."""
    assert _heard((0, 65535)) == [(0, 1400)]


def test_frames_of_long_ago_are_left_out() -> None:
    """After a silence of more than a second, or a closed port, what was heard before is not mixed in."""
    assert _heard((0, 500), (300, 1300), (2_000, 500)) == [(0, 500), (2_000, 500)]
    assert _heard((0, 500), (300, 1300), (-5_000, 500)) == [(0, 500), (-5_000, 500)]
    driver = UartDecibelBbaa()
    driver.feed(_frame(500) + _frame(1300), SECOND_MS)
    driver.reset()
    assert [reading.value for _, reading in driver.feed(_frame(500), SECOND_MS + 1_000)] == [500]


def test_nothing_comes_before_what_is_settled() -> None:
    """A reading carries the time of its last frame: the horizon is the present."""
    driver = UartDecibelBbaa()
    assert driver.settled_ms(SECOND_MS) == SECOND_MS
    assert list(driver.opening()) == []


@pytest.mark.parametrize(("ms", "readings"), [(125, 5), (360, 12), (1000, 29)])
def test_the_memory_counts_the_delay_of_the_first_frame(ms: int, readings: int) -> None:
    """What the meter shows of a sound that is over, 300 ms, and one reading for its clock."""
    assert UartDecibelBbaa(time_constant_ms=ms).memory_readings == {"noise": readings}
