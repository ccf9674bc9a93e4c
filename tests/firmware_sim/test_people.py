"""Scenes in front of a radar: each minute has one answer, and what is true of it is known."""

from __future__ import annotations

from itertools import pairwise

import pytest
from murmure_firmware_sim.devices.ld2450 import Ld2450
from murmure_firmware_sim.devices.walkers import LINE_MM, Walk
from murmure_firmware_sim.errors import SimError
from murmure_firmware_sim.people import SCENES, People

T0_MS = 1_794_600_000_000
FIRST = T0_MS // 60_000
MINUTES = range(FIRST, FIRST + 120)


def all_walks(scene: str, seed: int = 7) -> list[Walk]:
    people = People(seed, scene)
    return [walk for minute in MINUTES for walk in people.walks(minute)]


def radar(scene: str) -> tuple[Ld2450, int]:
    """A radar after two hours of a scene, and how many people have truly crossed."""
    people = People(7, scene)
    sensor = Ld2450(people, 7)
    sensor.seek(T0_MS)
    sensor.advance(T0_MS + len(MINUTES) * 60_000 - 1)
    return sensor, sum(sum(people.crossings(minute)) for minute in MINUTES)


@pytest.mark.parametrize("scene", SCENES)
def test_walks_are_whole_and_drawn_from_the_seed(scene: str) -> None:
    """Each lies inside its minute and goes on in time; asked backwards they are the same, from another seed others."""
    walks = all_walks(scene)
    for walk in walks:
        times = [ms for ms, _, _ in walk.points]
        assert times[0] >= 0
        assert times[-1] < 60_000
        assert all(before < after for before, after in pairwise(times))
    backwards = People(7, scene)
    again = [backwards.walks(minute) for minute in reversed(MINUTES)]
    assert [walk for minute in reversed(again) for walk in minute] == walks
    assert all_walks(scene, seed=8) != walks


@pytest.mark.parametrize("scene", SCENES)
def test_who_crosses_is_on_the_other_side_afterwards(scene: str) -> None:
    """A true crossing changes sides at its instant; who has none never gets 200 mm beyond the line."""
    crossed = 0
    for walk in all_walks(scene):
        ys = [y_mm - LINE_MM for _, _, y_mm in walk.points]
        if walk.crosses_ms is None:
            assert ys[0] * ys[-1] > 0 or max(ys) - min(ys) < 200
            assert min(max(ys), -min(ys)) < 200
            continue
        crossed += 1
        _, y_mm, _, _ = walk.at(walk.crosses_ms)
        assert abs(y_mm - LINE_MM) < 15
        before, after = (walk.at(walk.crosses_ms + ms)[1] - LINE_MM for ms in (-100, 100))
        assert (before > 0 > after) is walk.inwards
    assert crossed > 100


def test_ordinary_street_is_within_three_per_cent() -> None:
    """What a radar shows of single people and small groups: all but those who are a fourth."""
    sensor, truth = radar("ordinary")
    assert sensor.crossings + sensor.over_capacity == truth
    assert sensor.over_capacity <= 0.03 * truth


def test_crowd_saturates_it() -> None:
    """Of sixty people a minute a good part is never seen."""
    sensor, truth = radar("crowd")
    assert sensor.crossings + sensor.over_capacity == truth
    assert sensor.over_capacity > 0.1 * truth


@pytest.mark.parametrize("scene", ["pacing", "loitering", "ghosts"])
def test_scene_holds_more_bodies_or_more_turns_than_crossings(scene: str) -> None:
    """Somebody turns on the line, stays on it, or is only a reflection."""
    walks = all_walks(scene)
    turns = sum(
        (y0 - LINE_MM) * (y1 - LINE_MM) < 0 for walk in walks for (_, _, y0), (_, _, y1) in pairwise(walk.points)
    )
    truth = sum(walk.crosses_ms is not None for walk in walks)
    assert turns > 1.2 * truth or len(walks) > 1.2 * truth


def test_unknown_scene_says_which_there_are() -> None:
    """One line with the mend."""
    with pytest.raises(SimError, match="write one of ordinary, groups"):
        People(1, "ballet")
