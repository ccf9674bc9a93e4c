"""Levels read off noised histograms and energies: intervals that hold the truth as often as they say, and the 3 dB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy.levels import EXCEEDED, NORMAL_95, Estimate, Histogram, decibels, equivalent, margin
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import IndicatorPlan

EDGES = tuple(35.0 + 5 * place for place in range(11))
HOUR = (50, 200, 600, 900, 850, 500, 300, 150, 40, 10)
WHOLE_S = float(sum(HOUR))
STANDARD_ERRORS = 5.5  # two sides: passed by chance once in 26 million
DRAWS = 3000


def noised(sigma_s: float, draws: int) -> list[list[int]]:
    """Returns histograms with real noise; nothing is protected here, so any charge covers it."""
    plan = IndicatorPlan("histogram", len(HOUR) * draws, 1, round(sigma_s * 1000), 10**6)
    flat = DiscreteGaussian().draw(HOUR * draws, plan)
    return [list(flat[at : at + len(HOUR)]) for at in range(0, len(flat), len(HOUR))]


def bins_at(seconds: Sequence[float], below_s: float) -> tuple[int, int]:
    """Returns the first and the last bin in which a level below which there are so many seconds can lie."""
    until = [0.0, *accumulate(seconds)]
    can = [place for place in range(len(seconds)) if until[place] <= below_s <= until[place + 1]]
    return can[0], can[-1]


def ends(level: Estimate) -> tuple[float, float]:
    """Returns the interval of a level, without end where it has none."""
    return (-math.inf if level.low is None else level.low), (math.inf if level.high is None else level.high)


def held(share: float, draws: Sequence[Sequence[float]], sigma_s: float, claimed_s: float | None = None) -> int:
    """Returns in how many histograms the interval of the level exceeded during a share holds the whole true bin."""
    first, last = bins_at(HOUR, (1 - share) * WHOLE_S)
    found = 0
    for seconds in draws:
        low, high = ends(Histogram(seconds, claimed_s or sigma_s, EDGES, WHOLE_S, 0, 60).exceeded(share))
        found += low <= EDGES[first] and EDGES[last + 1] <= high
    return found


def test_intervals_of_bins_hold_the_truth_19_times_in_20() -> None:
    """Real noise, 3000 hours: of each bin as often as said, also where its time is negative; all together are as long
    as the hour. The twin that forgets that the total is known has intervals that hold more often than they say."""
    sigma_s, kept = 60.0, [0] * len(HOUR)
    wide = 0
    for seconds in noised(sigma_s, DRAWS):
        found = Histogram(seconds, sigma_s, EDGES, WHOLE_S, 0, 60).bins()
        assert sum(one.value for one in found) == pytest.approx(WHOLE_S)
        for place, one in enumerate(found):
            assert one.low is not None and one.high is not None
            kept[place] += one.low <= HOUR[place] <= one.high
            wide += abs(one.value - HOUR[place]) <= NORMAL_95 * sigma_s
    spread = STANDARD_ERRORS * math.sqrt(0.95 * 0.05 / DRAWS)
    assert all(abs(found / DRAWS - 0.95) <= spread + 0.002 for found in kept), kept
    assert wide / (DRAWS * len(HOUR)) > 0.95 + 0.005


def test_silent_moments_may_have_been_in_any_bin() -> None:
    """The bin that they were put into may hold less, each other one more, and by no more than there were."""
    heard = Histogram(HOUR, 10.0, EDGES, WHOLE_S, 0, 60).bins()
    silent = Histogram(HOUR, 10.0, EDGES, WHOLE_S, 120, 60).bins()
    for place, (one, other) in enumerate(zip(heard, silent, strict=True)):
        assert one.low is not None and other.low is not None and one.high is not None and other.high is not None
        moved = (one.low - other.low, other.high - one.high)
        assert moved == pytest.approx((120, 0) if EDGES[place] == 60 else (0, 120))
        assert one.value == other.value


AT_AN_EDGE = 1 - (sum(HOUR[:5]) + 1) / WHOLE_S
"""A share whose level lies just above the edge of 60 dB: one of the two tests of its bin fails once in 40 times."""


@pytest.mark.parametrize("sigma_s", [15.0, 120.0])
def test_intervals_of_percentiles_hold_the_truth_19_times_in_20(sigma_s: float) -> None:
    """Real noise, 3000 hours, wherever in its bin the level is: not less often than said; at an edge not more than one
    test of it allows. The broken twin that takes the noise for a fifth smaller is found out."""
    draws = noised(sigma_s, DRAWS)
    for share in EXCEEDED.values():
        assert held(share, draws, sigma_s) >= 0.95 * DRAWS - STANDARD_ERRORS * math.sqrt(DRAWS * 0.95 * 0.05)
    spread = STANDARD_ERRORS * math.sqrt(DRAWS * 0.975 * 0.025)
    assert abs(held(AT_AN_EDGE, draws, sigma_s) - 0.975 * DRAWS) <= spread
    assert held(AT_AN_EDGE, draws, sigma_s, claimed_s=0.7 * sigma_s) < 0.975 * DRAWS - spread


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
    (low, high), over = ends(one.exceeded(share)), one.share_over(65)
    # A percentile on an edge is in either bin; floats may tell it apart from the wanted time, so both are asked for.
    below_s = (1 - share) * sum(whole)
    first, last = bins_at(whole, below_s)
    assert low <= EDGES[first + 1] and EDGES[last] <= high
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
    assert level.low is not None and level.low <= 45 and level.standard_error < 1.3
    deaf = Histogram(quiet.seconds, 1.0, EDGES, 3600, 0, 60).exceeded(0.1)
    assert deaf.low is not None and deaf.low >= 60


@given(
    st.lists(st.integers(-400, 1200), min_size=10, max_size=10),
    st.floats(0.5, 400),
    st.sampled_from(list(EXCEEDED.values())),
)
@settings(max_examples=max(200, settings().max_examples))
def test_an_interval_is_the_hull_of_the_bins_that_the_noise_allows(
    seconds: list[int], sigma_s: float, share: float
) -> None:
    """Bin by bin: time below its lower edge not significantly more, time below its upper edge not significantly less
    than wanted. The level is the middle, and one bin alone may be shown; the first and the last have no outer end."""
    one = Histogram(seconds, sigma_s, EDGES, WHOLE_S, 0, 60)
    until, wanted = [0.0, *accumulate(one.balanced())], (1 - share) * WHOLE_S
    error = [NORMAL_95 * sigma_s * math.sqrt(n * (10 - n) / 10) for n in range(11)]
    can = [n for n in range(10) if until[n] - error[n] <= wanted <= until[n + 1] + error[n + 1]]
    level = one.exceeded(share)
    low, high = EDGES[can[0]], EDGES[can[-1] + 1]
    assert level.low == (low if can[0] > 0 else None) and level.high == (high if can[-1] < 9 else None)
    known = [end for end in (level.low, level.high) if end is not None] or [low, high]
    assert level.value == sum(known) / len(known)
    assert level.publishable == (can[0] == can[-1] and 0 < can[0] < 9)
    assert one.bound(share) == ((40, None) if can == [0] else (None, 80) if can == [9] else (None, None))
    assert level.standard_error == pytest.approx((high - low) / 2 / NORMAL_95)


def test_where_in_a_bin_the_time_was_is_not_assumed() -> None:
    """All of an hour at 51 dB, or all of it at 54: the histogram is the same, and the interval holds both."""
    level = Histogram((0, 0, 0, 3600, 0, 0, 0, 0, 0, 0), 1.0, EDGES, 3600, 0, 60).exceeded(0.1)
    assert (level.low, level.value, level.high, level.publishable) == (50, 52.5, 55, True)


def test_an_empty_histogram_says_nothing() -> None:
    """More noise than time: the interval has no end and the level is not shown."""
    nothing = Histogram((-5,) * 10, 1000.0, EDGES, 3600, 0, 60)
    level = nothing.exceeded(0.5)
    assert (level.low, level.high) == (None, None) and not level.publishable
    assert nothing.bound(0.5) == (None, None)


@pytest.mark.parametrize(
    ("seconds", "low", "high", "bound"),
    [
        ((3600, 0, 0, 0, 0, 0, 0, 0, 0, 0), None, 40, (40, None)),
        ((0, 0, 0, 0, 0, 0, 0, 0, 0, 3600), 80, None, (None, 80)),
        ((1800, 1800, 0, 0, 0, 0, 0, 0, 0, 0), None, 45, (None, None)),
        ((0, 0, 0, 0, 0, 0, 0, 0, 1800, 1800), 75, None, (None, None)),
    ],
)
def test_a_level_in_an_end_bin_has_no_outer_end(
    seconds: tuple[int, ...], low: float | None, high: float | None, bound: tuple[float | None, float | None]
) -> None:
    """A true L50 of 31 dB counts in the bin from 35 to 40: the interval must not begin at 35. Only that it is at most
    40 dB is told, and of a level in the last bin that it is at least 80 dB."""
    one = Histogram(seconds, 30.0, EDGES, 3600, 0, 60)
    level = one.exceeded(0.5)
    assert (level.low, level.high) == (low, high) and not level.publishable
    assert level.value == (high if low is None else low)
    assert one.bound(0.5) == bound
    if bound != (None, None):
        assert ends(level)[0] <= (31 if low is None else 99) <= ends(level)[1]


def test_bins_that_are_all_end_bins_say_what_they_can() -> None:
    """Of two bins each is an end bin; one bin alone says nothing."""
    assert Histogram((3600, 0), 1.0, (60.0, 65.0, 70.0), 3600, 0, 62).bound(0.5) == (65, None)
    assert Histogram((0, 3600), 1.0, (60.0, 65.0, 70.0), 3600, 0, 62).bound(0.5) == (None, 65)
    alone = Histogram((3600,), 1.0, (60.0, 65.0), 3600, 0, 62)
    assert alone.bound(0.5) == (None, None) and ends(alone.exceeded(0.5)) == (-math.inf, math.inf)


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
    low, high = ends(level)
    assert max(EDGES[0], low) <= level.value <= min(high, EDGES[-1]) and level.standard_error >= 0


def test_no_share_is_made_up_where_no_bin_begins() -> None:
    """65 dB must be an edge, and neither the last one nor the first: that bin holds what is below it too."""
    for level_db in (66, 85, 35):
        assert Histogram(HOUR, 1.0, EDGES, WHOLE_S, 0, 60).share_over(level_db) is None


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
