"""From distances to crossings: every pass once, no pass that was none."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge.sensors import make_driver
from murmure_edge.sensors.footfall import SETTLE_MS, UNUSABLE, CrossingCounter

WALL_CM, PERSON_CM = 180, 60


def _count(counter: CrossingCounter, distances: list[int], chunk: int = 10, rate_hz: int = 10) -> list[int]:
    """Feeds a stream of distances from time 0 on, `chunk` at a time; returns the begins of the passes in ms."""
    begins = []
    for start in range(0, len(distances), chunk):
        piece = distances[start : start + chunk]
        begins += counter.feed(piece, (start + len(piece) - 1) * 1000 // rate_hz)
    return begins


def _street(passes: list[tuple[int, int]], rng: random.Random) -> list[int]:
    """Distances at 10 Hz: for each pass so many clear frames, then so many short ones, and a clear end."""
    distances: list[int] = []
    for clear, short in passes:
        distances += [WALL_CM + rng.choice((-1, 0, 1)) for _ in range(clear)]
        distances += [PERSON_CM + rng.choice((-2, 0, 2)) for _ in range(short)]
    return distances + [WALL_CM] * 10


def test_who_stands_in_the_beam_takes_the_passes_of_all_behind() -> None:
    """One body more is one pass in place of the five that it hides: a presence is more than one counted crossing."""
    five = _street([(20, 3)] * 5, random.Random(1))
    stands = five[:20] + [PERSON_CM] * 95 + five[115:]
    assert len(_count(CrossingCounter(10), five)) == 5
    assert len(_count(CrossingCounter(10), stands)) == 1


@given(
    passes=st.lists(st.tuples(st.integers(2, 40), st.integers(1, 30)), max_size=30),
    chunk=st.integers(1, 25),
    seed=st.integers(0, 99),
)
def test_each_pass_counts_once(passes: list[tuple[int, int]], chunk: int, seed: int) -> None:
    """At 10 Hz one short frame makes a pass and two clear ones end it: the count is exact, however read."""
    passes = [(10, 2), *passes]
    counter = CrossingCounter(10)
    assert len(_count(counter, _street(passes, random.Random(seed)), chunk)) == len(passes)


def test_a_pass_is_stamped_with_its_first_short_frame() -> None:
    """Whatever frame confirms it, a pass begins where the distance first fell."""
    counter = CrossingCounter(100)
    distances = [WALL_CM] * 100 + [PERSON_CM] * 20 + [WALL_CM] * 80
    assert _count(counter, distances, chunk=10, rate_hz=100) == [1000]


@pytest.mark.parametrize("between", ["unusable", "silence", "closed"])
def test_what_interrupts_a_pass_half_seen_ends_it(between: str) -> None:
    """At 100 Hz eight short frames count in a row only: not across an unusable one, silence, or a closed port."""
    counter = CrossingCounter(100)
    counter.feed([WALL_CM] * 100, 1_000)
    assert counter.feed([PERSON_CM] * 7, 1_070) == []
    now_ms = 1_080
    if between == "unusable":
        counter.feed([UNUSABLE], now_ms)
    elif between == "silence":
        now_ms += SETTLE_MS
    else:
        counter.interrupt()
    assert counter.feed([PERSON_CM] * 7, now_ms + 70) == []
    assert counter.feed([PERSON_CM], now_ms + 80) == [now_ms + 10]


def test_whoever_is_inside_while_the_port_closes_is_not_counted_twice() -> None:
    """A pass that was counted goes on after silence or a closed port: one person is never two passes."""
    counter = CrossingCounter(100)
    counter.feed([WALL_CM] * 100, 1_000)
    assert counter.feed([PERSON_CM] * 10, 1_100) == [1_010]
    counter.interrupt()
    assert counter.feed([PERSON_CM] * 10, 9_000) == []


@given(
    pieces=st.lists(
        st.tuples(
            st.lists(st.sampled_from([WALL_CM, PERSON_CM, PERSON_CM, UNUSABLE]), min_size=1, max_size=300),
            st.integers(-3_000, 9_000),
        ),
        max_size=20,
    ),
    rate_hz=st.sampled_from([10, 100, 250]),
)
def test_no_pass_begins_before_the_time_that_windows_wait(pieces: list[tuple[list[int], int]], rate_hz: int) -> None:
    """Whatever comes, after stalls and with a clock that jumps: a pass begins in the last two seconds."""
    counter = CrossingCounter(rate_hz)
    now_ms = 1_700_000_000_000
    assert counter.feed([WALL_CM] * rate_hz, now_ms) == []
    for distances_cm, later_ms in pieces:
        now_ms += later_ms
        assert all(now_ms - SETTLE_MS <= begin_ms <= now_ms for begin_ms in counter.feed(distances_cm, now_ms))


def test_the_first_piece_says_nothing_of_the_time_before() -> None:
    """What waited on the line before the first read is stamped with that read, not before the port began."""
    counter = CrossingCounter(10)
    assert counter.feed([WALL_CM] * 5 + [PERSON_CM] * 5, 9_000) == [9_000]


def test_a_burst_of_late_frames_is_not_stamped_into_the_past() -> None:
    """Frames that come in a burst are never dated before the read that came before them."""
    counter = CrossingCounter(10)
    counter.feed([WALL_CM] * 20, 1_000)
    assert counter.feed([WALL_CM] * 5 + [PERSON_CM] * 5, 1_010) == [1_000]


def test_ten_and_a_hundred_hertz_see_the_same_walkers(luna_frame: Callable[..., bytes]) -> None:
    """An hour of walkers with 0.2-0.3 s in the beam gives the same crossings at 10 Hz and at 100 Hz."""
    rng = random.Random(5)
    in_beam_ms: list[tuple[int, int]] = []
    at_ms = 5_000
    while at_ms < 3_595_000:
        in_beam_ms.append((at_ms, at_ms + rng.randrange(200, 300)))
        at_ms += rng.randrange(600, 20_000)
    counts = []
    for rate_hz in (10, 100):
        driver = make_driver("tfluna", {"rate_hz": rate_hz})
        wall, person = luna_frame(WALL_CM), luna_frame(PERSON_CM)
        step_ms, late, crossings = 1000 // rate_hz, 0, 0
        for second in range(3600):
            piece = []
            for at_ms in range(second * 1000, second * 1000 + 1000, step_ms):
                while late < len(in_beam_ms) and in_beam_ms[late][1] <= at_ms:
                    late += 1
                inside = late < len(in_beam_ms) and in_beam_ms[late][0] <= at_ms
                piece.append(person if inside else wall)
            crossings += sum(r.value for _, r in driver.feed(b"".join(piece), second * 1000 + 999))
        counts.append(crossings)
    assert counts == [len(in_beam_ms)] * 2


def test_a_flash_shorter_than_80_ms_is_no_pass() -> None:
    """At 100 Hz seven short frames are a leaf or a bird, eight a person."""
    counter = CrossingCounter(100)
    bird = [WALL_CM] * 100 + [PERSON_CM] * 7
    assert _count(counter, bird + [WALL_CM] * 93, rate_hz=100) == []
    assert _count(counter, [WALL_CM] * 92 + [PERSON_CM] * 8, rate_hz=100) == [920]


def test_a_swinging_arm_does_not_end_a_pass() -> None:
    """At 10 Hz one clear frame between two short ones is the same person."""
    counter = CrossingCounter(10)
    person = [PERSON_CM, PERSON_CM, WALL_CM, PERSON_CM]
    assert len(_count(counter, [WALL_CM] * 20 + person + [WALL_CM] * 10)) == 1


def test_between_the_two_thresholds_nothing_changes() -> None:
    """At 85 % of the background nobody enters, and nobody who is inside leaves."""
    between_cm = WALL_CM * 85 // 100
    counter = CrossingCounter(10)
    assert _count(counter, [WALL_CM] * 20 + [between_cm] * 50) == []
    assert len(_count(counter, [PERSON_CM] * 3 + [between_cm] * 20 + [PERSON_CM] * 3 + [WALL_CM] * 5)) == 1


def test_unusable_frames_neither_begin_nor_end_a_pass() -> None:
    """Frames that the sensor declares unusable are as if they had not come."""
    counter = CrossingCounter(10)
    blind = [UNUSABLE] * 5
    person = [PERSON_CM, *blind, PERSON_CM, *blind, WALL_CM, *blind, PERSON_CM]
    assert len(_count(counter, [WALL_CM] * 20 + blind + person + [WALL_CM] * 10)) == 1


def test_a_start_with_somebody_in_the_beam_is_soon_put_right() -> None:
    """The first distance is taken for the background; half a second of a farther one corrects it."""
    counter = CrossingCounter(10)
    assert _count(counter, [PERSON_CM] * 30 + [WALL_CM] * 10) == []
    assert len(_count(counter, [WALL_CM] * 10 + [PERSON_CM] * 2 + [WALL_CM] * 8)) == 1


def test_a_parked_van_counts_once_and_becomes_the_background() -> None:
    """What stays in the beam for 30 s is counted once; who passes in front of it is counted again."""
    counter = CrossingCounter(10)
    assert len(_count(counter, [WALL_CM] * 20 + [120] * 900)) == 1
    assert len(_count(counter, [120] * 20 + [PERSON_CM] * 2 + [120] * 20)) == 1
    assert _count(counter, [WALL_CM] * 20) == []  # it drives away
    assert len(_count(counter, [PERSON_CM] * 2 + [WALL_CM] * 8)) == 1


@pytest.mark.parametrize("drift_cm", [-60, 60])
def test_slow_drift_is_followed(drift_cm: int) -> None:
    """Snow that grows, a door that warps: over hours the background follows, and passes still count exactly."""
    counter = CrossingCounter(10)
    begins = []
    for minute in range(300):
        wall_cm = WALL_CM + drift_cm * minute // 300
        begins += _count(counter, [wall_cm] * 600)
    assert begins == []
    end_cm = WALL_CM + drift_cm
    assert len(_count(counter, [end_cm * 7 // 10] * 3 + [end_cm] * 10)) == 1
