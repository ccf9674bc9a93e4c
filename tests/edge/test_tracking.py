"""From targets to crossings: each body once, in its direction, and nothing that only trembles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge.sensors.tracking import COAST_REPORTS, TRACKS_LIMIT, Point, Tracker


def _walk(from_mm: float, to_mm: float, along_mm: float = 0.0, step_mm: float = 120.0) -> list[Point]:
    """Places, a report each, from one depth to another."""
    reports = max(int(abs(to_mm - from_mm) / step_mm), 1)
    return [Point(from_mm + (to_mm - from_mm) * at / reports, along_mm) for at in range(reports + 1)]


def _directions(reports: Iterable[Sequence[Point]], tracker: Tracker | None = None) -> list[int]:
    tracker = tracker or Tracker()
    return [crossing.direction for seen in reports for crossing in tracker.report(seen)]


def _alone(places: Iterable[Point]) -> list[list[Point]]:
    return [[place] for place in places]


def _noisy(places: Iterable[Point], rng: Random, noise_mm: float = 150.0) -> list[list[Point]]:
    return [[Point(rng.gauss(place.depth, noise_mm), rng.gauss(place.along, noise_mm))] for place in places]


@pytest.mark.parametrize("direction", [1, -1])
def test_who_walks_through_counts_once_in_their_direction(direction: int) -> None:
    """A straight walk over the line is one crossing, 1 away from the near side and -1 back."""
    assert _directions(_alone(_walk(-2500 * direction, 2500 * direction))) == [direction]


@given(seed=st.integers(0, 10**6), speed_mm=st.integers(70, 400))
def test_noise_of_15_cm_adds_no_crossing(seed: int, speed_mm: int) -> None:
    """From a stroll to a sprint, with 15 cm of noise in each report: never a second one, nor one the other way."""
    assert _directions(_noisy(_walk(-3000, 3000, step_mm=speed_mm), Random(seed))) in ([1], [])


def test_noise_takes_hardly_any_crossing() -> None:
    """Of a thousand noisy walkers at least 995 count, and none twice."""
    counts = [len(_directions(_noisy(_walk(-3000, 3000), Random(seed)))) for seed in range(1000)]
    assert set(counts) <= {0, 1} and sum(counts) >= 995


def test_the_order_of_slots_says_nothing() -> None:
    """Two side by side who change slots at every report are two crossings, one each."""
    one, other = _walk(-2000, 2000), _walk(-2000, 2000, along_mm=900)
    reports = [[a, b] if at % 2 else [b, a] for at, (a, b) in enumerate(zip(one, other, strict=True))]
    assert _directions(reports) == [1, 1]


def test_two_who_pass_each_other_at_the_line_are_two() -> None:
    """Opposite ways, an arm's length apart, at the same moment: one crossing in either direction."""
    reports = [[a, b] for a, b in zip(_walk(-2000, 2000), _walk(2000, -2000, along_mm=600), strict=True)]
    assert sorted(_directions(reports)) == [-1, 1]


def test_who_is_hidden_at_the_line_is_counted_behind_it() -> None:
    """A second without a report, exactly at the line, takes nothing away: the track goes on as it went."""
    reports = _alone(_walk(-2500, 2500))
    hidden = len(reports) // 2
    for at in range(hidden - 5, hidden + 5):
        reports[at] = []
    assert _directions(reports) == [1]


def test_who_is_away_for_longer_than_tracks_wait_is_somebody_else() -> None:
    """Before the line, then nothing for longer than two seconds, then behind it: no crossing was seen."""
    reports = _alone(_walk(-2000, -400)) + [[]] * (COAST_REPORTS + 1) + _alone(_walk(400, 2000))
    assert _directions(reports) == []


def test_a_handful_of_reports_is_no_person() -> None:
    """Four reports that cross the line are a flicker; five and a metre of way are a crossing."""
    flash = _alone([Point(-900, 0), Point(-500, 0), Point(0, 0), Point(500, 0)])
    assert _directions(flash + [[]] * 30) == []


def test_twenty_centimetres_beyond_the_line_are_needed() -> None:
    """Whoever comes up to the line, and a little over it, and turns round has not crossed."""
    assert _directions(_alone([*_walk(-2000, 100), *_walk(100, -2000)])) == []


@given(seed=st.integers(0, 10**6), sway_mm=st.integers(0, 250), period=st.integers(20, 50))
def test_who_sways_on_the_line_counts_once(seed: int, sway_mm: int, period: int) -> None:
    """Arrives, sways on the line for a minute and goes on: at most one crossing, whatever the sway."""
    swaying = [Point(sway_mm * math.sin(2 * math.pi * at / period), 0) for at in range(600)]
    places = [*_walk(-2500, 0), *swaying, *_walk(0, 2500)]
    assert len(_directions(_noisy(places, Random(seed), noise_mm=60))) <= 1


def test_a_fan_at_the_line_is_nobody() -> None:
    """A still thing that trembles by 15 cm and is seen three times in five counts nothing in an hour."""
    rng = Random(4)
    reports = [[Point(rng.gauss(80, 150), rng.gauss(0, 150))] if rng.random() < 0.6 else [] for _ in range(36_000)]
    assert len(_directions(reports)) <= 2


def test_a_real_return_is_a_second_crossing() -> None:
    """More than a metre beyond the line and back are two crossings; half a metre is a turn on the line."""
    assert _directions(_alone([*_walk(-2000, 1500), *_walk(1500, -2000)])) == [1, -1]
    assert _directions(_alone([*_walk(-2000, 500), *_walk(500, -700), *_walk(-700, 2000)])) == [1]


def test_interrupted_tracks_are_forgotten() -> None:
    """After an interruption who is seen behind the line may be anybody."""
    tracker = Tracker()
    assert _directions(_alone(_walk(-2000, -100)), tracker) == []
    tracker.interrupt()
    assert _directions(_alone(_walk(0, 2000)), tracker) == []


@given(
    reports=st.lists(
        st.lists(st.builds(Point, st.integers(-32_767, 32_767), st.integers(-32_767, 32_767)), max_size=3),
        max_size=200,
    )
)
def test_whatever_targets_say_memory_is_bounded(reports: list[list[Point]]) -> None:
    """Any places at all: no error, and never more tracks than there is room for."""
    tracker = Tracker()
    for seen in reports:
        tracker.report(seen)
        assert len(tracker._tracks) <= TRACKS_LIMIT
