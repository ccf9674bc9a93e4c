"""Two beams as one counter: a passage is what both saw, its direction is the order, and silence is never a zero."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_edge.reading import Reading
from murmure_edge.sensors import make_driver
from murmure_edge.sensors.two_beams import APART_MS, TwoBeams

START_MS = 1_700_000_000_000
PORTS = ("first", "second")


def _pair() -> TwoBeams:
    return TwoBeams("plaza/steps", *PORTS)


def _seen(passes_s: Sequence[float], seconds: int = 0) -> list[Reading]:
    """Passes at these seconds, and a sign of life in each of so many."""
    passes = [Reading(START_MS + round(1000 * at), 1) for at in passes_s]
    return passes + [Reading(START_MS + 1000 * at + 999, 0) for at in range(seconds)]


def _merged(pair: TwoBeams, first: list[Reading], second: list[Reading], until_s: int = 60) -> list[Reading]:
    horizon_ms = START_MS + 1000 * until_s
    return pair.add("first", first, horizon_ms) + pair.add("second", second, horizon_ms)


def _at(readings: Sequence[Reading], value: int) -> list[float]:
    return [(reading.time_ms - START_MS) / 1000 for reading in readings if reading.value == value]


def test_what_both_beams_saw_is_one_passage_from_the_first_to_the_second() -> None:
    """A pass of either within a moment is one crossing, with the time of the earlier and its direction."""
    pair = _pair()
    assert _at(_merged(pair, _seen([5.0, 20.3]), _seen([5.2, 20.1])), 1) == [5.0, 20.1]
    assert pair.directions == {1: 1, -1: 1}


def test_both_at_once_count_without_a_direction() -> None:
    """At ten frames a second a runner is in both beams at once: counted, and no direction is invented."""
    pair = _pair()
    assert _at(_merged(pair, _seen([5.0]), _seen([5.0])), 1) == [5.0]
    assert pair.directions == {1: 0, -1: 0}


def test_what_one_beam_saw_alone_is_nobody() -> None:
    """A leaf, or somebody who turns back between the two, is never half a passage."""
    assert _at(_merged(_pair(), _seen([5.0, 9.0]), _seen([30.0])), 1) == []
    apart_s = APART_MS / 1000
    assert _at(_merged(_pair(), _seen([5.0]), _seen([5.001 + apart_s])), 1) == []
    assert _at(_merged(_pair(), _seen([5.0]), _seen([5.0 + apart_s])), 1) == [5.0]


def test_a_pass_belongs_to_one_passage_only() -> None:
    """Two of one beam and one of the other are one passage; three walkers in a row are three."""
    assert len(_at(_merged(_pair(), _seen([5.0, 5.3]), _seen([5.2])), 1)) == 1
    row = [5.0, 5.7, 6.4]
    assert _at(_merged(_pair(), _seen(row), _seen([at + 0.25 for at in row])), 1) == row


def test_a_second_lives_only_where_both_beams_live() -> None:
    """While one beam is silent the pair has no valid second, whoever the other sees: a gap, and no half count."""
    readings = _merged(_pair(), _seen([3.0, 12.0], seconds=20), _seen([3.2], seconds=5))
    assert _at(readings, 0) == [0.999, 1.999, 2.999, 3.999, 4.999]
    assert _at(readings, 1) == [3.0]


def test_nothing_is_settled_before_both_ports_have_passed_it() -> None:
    """The pair waits for the slower port, and a fixed moment more."""
    pair = _pair()
    assert pair.add("first", _seen([5.0], seconds=30), START_MS + 30_000) == []
    assert pair.add("second", _seen([5.2], seconds=4), START_MS + 4_000) == _seen([], seconds=2)
    later = pair.add("second", [Reading(START_MS + 999 + 1000 * at, 0) for at in range(4, 30)], START_MS + 30_000)
    assert _at(later, 1) == [5.0]
    assert max(reading.time_ms for reading in later) < START_MS + 30_000 - APART_MS


def test_a_clock_put_forward_forgets_what_was_not_settled() -> None:
    """After it nothing of before it is paired."""
    pair = _pair()
    pair.add("first", _seen([5.0], seconds=6), START_MS + 6_000)
    pair.forget()
    assert _merged(pair, [], _seen([5.2], seconds=60)) == []


passes_of = st.lists(st.integers(0, 59_999), max_size=60)


@given(
    passes=st.tuples(passes_of, passes_of),
    silent=st.tuples(st.sets(st.integers(0, 59)), st.sets(st.integers(0, 59))),
    cuts=st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(1, 9)), max_size=60),
)
def test_when_a_second_lives_never_depends_on_who_passes(
    passes: tuple[list[int], list[int]], silent: tuple[set[int], set[int]], cuts: list[tuple[int, int]]
) -> None:
    """However ports are cut into batches: signs of life are an empty street's, batch by batch; nothing comes before
    what was settled; all batches together give what one batch gives; no more is counted than either beam saw."""
    told: list[list[list[int]]] = []
    crossings: list[int] = []
    for street in (passes, ([], [])):
        readings = [
            sorted(
                [Reading(START_MS + at, 1) for at in street[beam]]
                + [Reading(START_MS + 1000 * at + 999, 0) for at in range(60) if at not in silent[beam]]
            )
            for beam in (0, 1)
        ]
        pair, given_ms, at_ms, settled_ms = _pair(), [START_MS, START_MS], [START_MS, START_MS], 0
        zeros, count = [], 0
        for beam, seconds in [*cuts, (0, 99), (1, 99)]:
            at_ms[beam] = min(at_ms[beam] + 1000 * seconds, START_MS + 99_000)
            batch = [each for each in readings[beam] if given_ms[beam] <= each.time_ms < at_ms[beam]]
            given_ms[beam] = at_ms[beam]
            merged = pair.add(PORTS[beam], batch, at_ms[beam])
            assert all(each.time_ms >= settled_ms for each in merged)
            zeros.append([each.time_ms for each in merged if each.value == 0])
            count += sum(each.value for each in merged)
            settled_ms = max(settled_ms, min(at_ms) - APART_MS)
        told.append(zeros)
        crossings.append(count)
        whole = _pair()
        at_once = whole.add("first", readings[0], START_MS + 99_000) + whole.add(
            "second", readings[1], START_MS + 99_000
        )
        assert sum(each.value for each in at_once) == count <= min(len(street[0]), len(street[1]))
    assert told[0] == told[1]
    assert crossings[1] == 0


# --- one body more ----------------------------------------------------------------------------------------------------

crowded = st.lists(st.integers(0, 20_000), max_size=40)
"""Passes of one beam, in ms: up to two a second, so that they are paired again and again."""


def _passages(*beams: Iterable[int]) -> list[int]:
    """The pair's passages, in ms, of the passes of either beam, in ms."""
    first, second = ([Reading(START_MS + at, 1) for at in passes] for passes in beams)
    return [reading.time_ms - START_MS for reading in _merged(_pair(), first, second)]


def _more(fewer: Sequence[int], more: Sequence[int]) -> list[int]:
    """How many more passages began up to each instant at which one began in either street."""
    return [sum(at <= end for at in more) - sum(at <= end for at in fewer) for end in sorted({*fewer, *more})] or [0]


@settings(max_examples=100)
@given(first=crowded, second=crowded, extra=st.integers(2_000, 20_000))
def test_one_pass_more_is_at_most_one_passage_more_up_to_any_instant(
    first: list[int], second: list[int], extra: int
) -> None:
    """A pass more at one beam never takes a passage from the count up to an instant, and adds one at most; it alters
    nothing earlier than a moment before it, nor behind the first moment in which neither beam saw anybody."""
    without, with_it = _passages(first, second), _passages([*first, extra], second)
    assert set(_more(without, with_it)) <= {0, 1}
    passes = sorted({*first, *second, extra, 60_000})
    calm = next(at for at, after in pairwise(passes) if at >= extra and after - at > APART_MS)
    one, more = Counter(without), Counter(with_it)
    assert all(extra - APART_MS <= at <= calm for at in (one - more) + (more - one))


@settings(max_examples=100)
@given(first=crowded, second=crowded, at=st.integers(2_000, 20_000), later=st.integers(-2 * APART_MS, 2 * APART_MS))
def test_one_body_more_alters_the_count_of_any_span_by_two_at_most(
    first: list[int], second: list[int], at: int, later: int
) -> None:
    """A body that is one pass more at each beam is between none and two passages more up to any instant: so no span of
    time counts more than two more, or two fewer. If it got from one to the other in time, it is one at least in all."""
    more = _more(_passages(first, second), _passages([*first, at], [*second, at + later]))
    assert set(more) <= {0, 1, 2}
    assert more[-1] >= (abs(later) <= APART_MS)


@pytest.mark.parametrize(
    ("first", "second", "body", "more"),
    [
        ([3_500], [1_800], (2_000, 2_300), [1, 2]),  # two who turned back, each alone: with the third both count
        ([3_100, 4_000], [5_100], (3_800, 3_400), [1, 2, 1]),  # two more before 4.0 s, and one fewer from there on
    ],
)
def test_one_body_more_can_alter_more_than_one_passage(
    first: list[int], second: list[int], body: tuple[int, int], more: list[int]
) -> None:
    """A passer-by pairs what would have stayed alone, and takes the partner of somebody who comes after: across the
    end of a quarter-hour this is three counted crossings."""
    assert _more(_passages(first, second), _passages([*first, body[0]], [*second, body[1]])) == more


def test_one_pass_more_can_move_every_passage_of_a_crowd() -> None:
    """While somebody passes every second without a pause, one pass that one beam saw alone pairs all who come after it
    anew: as many passages and one earlier each, so that the end of a quarter-hour may fall between."""
    row = range(1_000, 21_000, 1_000)
    without, with_it = (_passages(row, [*extra, *(at + 200 for at in row)]) for extra in ([], [500]))
    assert len(without) == len(with_it) == len(row)
    assert not {*without} & {*with_it}
    assert set(_more(without, with_it)) == {0, 1}


def test_two_real_drivers_tell_both_ways(luna_frame: Callable[..., bytes]) -> None:
    """Walkers of 1.2 m/s through two beams 30 cm apart, at ten frames a second: each counted, each with its way."""
    pair = _pair()
    drivers = {port: make_driver("tfluna", {"rate_hz": 10}) for port in PORTS}
    ways = [1, 1, -1, 1, -1]
    count = 0
    for second in range(10 * len(ways) + 10):
        for number, (port, driver) in enumerate(drivers.items()):
            frames = b""
            for tick in range(10):
                at = second + tick / 10
                walker, since = divmod(at - 5, 10)
                way = ways[int(walker)] if 0 <= walker < len(ways) else 0
                enters = 0.25 * (number if way > 0 else 1 - number)
                frames += luna_frame(60 if way and enters <= since < enters + 0.25 else 180)
            now_ms = START_MS + 1000 * second + 999
            readings = [reading for _, reading in driver.feed(frames, now_ms)]
            count += sum(each.value for each in pair.add(port, readings, driver.settled_ms(now_ms)))
    assert count == len(ways)
    assert pair.directions == {1: 3, -1: 2}
