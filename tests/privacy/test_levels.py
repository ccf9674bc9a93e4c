"""Levels read off noised histograms and energies: intervals that hold the truth as often as they say, and the 3 dB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy.levels import EXCEEDED, NORMAL_95, Histogram, decibels, equivalent, margin
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import IndicatorPlan

EDGES = tuple(35.0 + 5 * place for place in range(11))
HOUR = (50, 200, 600, 900, 850, 500, 300, 150, 40, 10)
WHOLE_S = float(sum(HOUR))
STANDARD_ERRORS = 5.5  # two sides: passed by chance once in 26 million
DRAWS = 3000


def level_at(seconds: Sequence[float], below_s: float) -> float:
    """Returns the level below which there are so many seconds, time spread evenly within each bin."""
    return float(np.interp(below_s, [0, *accumulate(seconds)], EDGES))


def noised(sigma_s: float, draws: int) -> list[list[int]]:
    """Returns histograms with real noise; nothing is protected here, so any charge covers it."""
    plan = IndicatorPlan("histogram", len(HOUR) * draws, 1, round(sigma_s * 1000), 10**6)
    flat = DiscreteGaussian().draw(HOUR * draws, plan)
    return [list(flat[at : at + len(HOUR)]) for at in range(0, len(flat), len(HOUR))]


def held(share: float, draws: Sequence[Sequence[float]], sigma_s: float, claimed_s: float | None = None) -> int:
    """Returns in how many histograms the interval of the level exceeded during a share holds the true one."""
    true = level_at(HOUR, (1 - share) * WHOLE_S)
    found = 0
    for seconds in draws:
        level = Histogram(seconds, claimed_s or sigma_s, EDGES, WHOLE_S, 0, 60).exceeded(share)
        assert level.low is not None and level.high is not None
        found += level.low <= true <= level.high
    return found


@pytest.mark.parametrize("sigma_s", [15.0, 120.0])
def test_intervals_of_percentiles_hold_the_truth_19_times_in_20(sigma_s: float) -> None:
    """Real noise, 3000 hours: not less often than said, and, where no end bin widens them, not more; the broken twin
    that takes the noise for a fifth smaller is found out."""
    draws = noised(sigma_s, DRAWS)
    spread = STANDARD_ERRORS * math.sqrt(DRAWS * 0.95 * 0.05)
    for share in EXCEEDED.values():
        assert held(share, draws, sigma_s) >= 0.95 * DRAWS - spread
    assert held(0.5, draws, sigma_s) <= 0.95 * DRAWS + spread
    assert held(0.5, draws, sigma_s, claimed_s=0.8 * sigma_s) < 0.95 * DRAWS - spread


def test_the_share_over_a_level_is_unbiased_and_as_sure_as_it_says() -> None:
    """Real noise, 3000 hours: mean error nought, spread as the standard error, 19 intervals in 20 hold the truth; the
    known total of the bins makes it smaller than that of four bins by themselves."""
    sigma_s, true = 60.0, sum(HOUR[6:]) / WHOLE_S
    z, inside = [], 0
    for seconds in noised(sigma_s, DRAWS):
        over = Histogram(seconds, sigma_s, EDGES, WHOLE_S, 0, 60).share_over(65)
        assert over is not None and over.low is not None and over.high is not None
        assert over.standard_error == pytest.approx(sigma_s * math.sqrt(4 * 6 / 10) / WHOLE_S)
        z.append((over.value - true) / over.standard_error)
        inside += over.low <= true <= over.high
    assert abs(np.mean(z)) < STANDARD_ERRORS / math.sqrt(DRAWS)
    assert abs(np.mean(np.square(z)) - 1) < STANDARD_ERRORS * math.sqrt(2 / DRAWS)
    assert abs(inside / DRAWS - 0.95) < STANDARD_ERRORS * math.sqrt(0.95 * 0.05 / DRAWS)


@given(
    st.lists(st.integers(0, 300), min_size=10, max_size=10).filter(any),
    st.lists(st.integers(0, 9), max_size=200),
    st.sampled_from([*EXCEEDED.values(), 0.01, 0.99]),
)
@settings(max_examples=max(200, settings().max_examples))
def test_silence_hides_no_level(true: list[int], hidden: list[int], share: float) -> None:
    """Seconds that were silent stand in the bin of 60 dB, whatever they would have been: without any noise the interval
    holds the percentile and the share that an unbroken sensor would have shown."""
    whole = [seconds + hidden.count(place) for place, seconds in enumerate(true)]
    seen = [*true[:5], true[5] + len(hidden), *true[6:]]
    one = Histogram(seen, 1e-9, EDGES, sum(whole), len(hidden), 60)
    level, over = one.exceeded(share), one.share_over(65)
    assert level.low is not None and level.high is not None
    below_s = (1 - share) * sum(whole)
    # Where no time is spent a percentile is anywhere in between.
    lowest, highest = level_at(whole, below_s - 1e-6), level_at(whole, below_s + 1e-6)
    assert level.low <= highest + 1e-3 and lowest <= level.high + 1e-3
    assert over is not None and over.low is not None and over.high is not None
    assert over.low - 1e-9 <= sum(whole[6:]) / sum(whole) <= over.high + 1e-9
    loud = Histogram(seen, 1e-9, EDGES, sum(whole), len(hidden), 60).share_over(60)
    assert loud is not None and loud.low is not None and loud.high is not None
    assert loud.low - 1e-9 <= sum(whole[5:]) / sum(whole) <= loud.high + 1e-9


def test_silence_widens_a_share_to_one_side() -> None:
    """Silent seconds stand below 65 dB, at 60: the share above can only have been larger; of that above 55 they are
    part, so that it can only have been smaller."""
    one = Histogram(HOUR, 1.0, EDGES, WHOLE_S, 360, 60)
    for level_db, below, above in ((65, 0, 360), (55, 360, 0)):
        over, deaf = one.share_over(level_db), Histogram(HOUR, 1.0, EDGES, WHOLE_S, 0, 60).share_over(level_db)
        assert over is not None and deaf is not None and deaf.low is not None and deaf.high is not None
        assert over.low == pytest.approx(deaf.low - below / WHOLE_S)
        assert over.high == pytest.approx(deaf.high + above / WHOLE_S)


def test_silence_that_is_not_allowed_for_is_found() -> None:
    """Broken twin: the same histogram that says nothing of its silent quarter-hour leaves out the true level."""
    quiet = Histogram((0, 2700, 0, 0, 0, 900, 0, 0, 0, 0), 1.0, EDGES, 3600, 900, 60)
    level = quiet.exceeded(0.1)
    assert level.low is not None and level.low <= 45 and level.standard_error < 1
    deaf = Histogram(quiet.seconds, 1.0, EDGES, 3600, 0, 60).exceeded(0.1)
    assert deaf.low is not None and deaf.low > 60


@given(
    st.lists(st.integers(-400, 1200), min_size=10, max_size=10),
    st.floats(0.5, 400),
    st.sampled_from(list(EXCEEDED.values())),
)
@settings(max_examples=max(200, settings().max_examples))
def test_an_interval_is_the_hull_of_what_the_noise_allows(seconds: list[int], sigma_s: float, share: float) -> None:
    """By a fine search over levels: those at which the noised time below differs from the wanted one by at most 1.96
    standard errors; an end bin counts whole."""
    one = Histogram(seconds, sigma_s, EDGES, WHOLE_S, 0, 60)
    bins = one.balanced()
    places = np.linspace(0, 10, 20_001)
    below = np.interp(places, range(11), [0, *accumulate(bins)])
    number = np.minimum(places.astype(int), 9)
    t = places - number
    error = sigma_s * np.sqrt(np.maximum(0, number + t**2 - (number + t) ** 2 / 10))
    allowed = places[np.abs(below - (1 - share) * WHOLE_S) <= NORMAL_95 * error]
    level = one.exceeded(share)
    assert level.low is not None and level.high is not None
    assert EDGES[0] <= level.low <= level.value <= level.high <= EDGES[-1]
    if len(allowed):
        low, high = allowed.min(), allowed.max()
        assert level.low <= 35 + 5 * low + 1e-6 and level.high >= 35 + 5 * high - 1e-6
        at = (level.value - 35) / 5
        # Two steps of the search, or the estimate itself where the bins that it is read off lie outside.
        assert level.low >= 35 + 5 * min(low if low > 1 else 0, at) - 6e-3
        assert level.high <= 35 + 5 * max(high if high < 9 else 10, at) + 6e-3


def test_nothing_is_assumed_of_an_end_bin() -> None:
    """It holds what lies beyond it too: a level in it may be anywhere up to the bound, and is then mostly not shown."""
    quiet = Histogram((3600, 0, 0, 0, 0, 0, 0, 0, 0, 0), 1.0, EDGES, 3600, 0, 60).exceeded(0.1)
    assert quiet.low == 35 and quiet.value == pytest.approx(39.5) and not quiet.publishable
    loud = Histogram((0, 0, 0, 0, 0, 0, 0, 0, 0, 3600), 1.0, EDGES, 3600, 0, 60).exceeded(0.1)
    assert loud.high == 85 and loud.value == pytest.approx(84.5) and loud.publishable


def test_an_empty_histogram_says_nothing() -> None:
    """More noise than time: the interval is the whole range and the level is not shown."""
    level = Histogram((-5,) * 10, 1000.0, EDGES, 3600, 0, 60).exceeded(0.5)
    assert (level.low, level.high) == (35, 85) and not level.publishable


@given(
    st.lists(st.one_of(st.integers(-(1 << 62), 1 << 62), st.integers(-4000, 4000)), min_size=10, max_size=10),
    st.floats(1e-3, 1e15),
    st.integers(0, 3600),
    st.sampled_from([*EXCEEDED.values(), 0.0, 1.0]),
)
def test_any_integers_that_a_gateway_may_sign_have_an_interval(
    seconds: list[int], sigma_s: float, silent_s: int, share: float
) -> None:
    """Pages are built from what is in the archive, however odd: no error, and a level between the bounds."""
    level = Histogram(seconds, sigma_s, EDGES, 3600, silent_s, 60).exceeded(share)
    assert level.low is not None and level.high is not None
    assert EDGES[0] <= level.low <= level.value <= level.high <= EDGES[-1] and level.standard_error >= 0


def test_no_share_is_made_up_where_no_bin_begins() -> None:
    """65 dB must be an edge, and not the last one."""
    assert Histogram(HOUR, 1.0, EDGES, WHOLE_S, 0, 60).share_over(66) is None
    assert Histogram(HOUR, 1.0, EDGES, WHOLE_S, 0, 60).share_over(85) is None


def test_levels_of_energies() -> None:
    """Ends that are not positive are no ends; an energy that is not positive has no level."""
    level = equivalent(1e6, 1e4, 9.8e5, 1.02e6)
    assert level is not None and level.value == pytest.approx(60) and level.publishable
    assert level.standard_error == pytest.approx(10 / math.log(10) * 0.01)
    open_ended = equivalent(1e6, 1e6, -1e6, 3e6)
    assert open_ended is not None and open_ended.low is None and not open_ended.publishable
    assert equivalent(0, 1, -2, 2) is None and decibels(None) is None and decibels(0) is None


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(57, 63, True), (56.9, 60, False), (60, 63.1, False), (None, 60, False), (60, None, False)],
)
def test_a_level_is_shown_up_to_a_margin_of_3_db(low: float | None, high: float | None, shown: bool) -> None:
    """The wider side of its 95 % interval decides; an interval without an end is wider than anything."""
    assert (margin(60, low, high) <= 3) == shown
