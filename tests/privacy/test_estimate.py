"""Figures that agree with each other: least squares from released nodes alone, with honest margins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy.aggregate import Aggregate, energy
from murmure_privacy.estimate import (
    Figure,
    Series,
    equivalent_level,
    figures,
    lden,
    night_level,
    range_figure,
    total,
)
from murmure_privacy.levels import NORMAL_95
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Node, Noised, Outcome, Release, Withheld
from murmure_privacy.window import PARTS, SHARE_QUARTERS, Calendar, Window
from murmure_privacy.windowing import OpenWindows
from numpy.typing import NDArray

PARIS = Calendar("Europe/Paris")
DAY_S = PARIS.midnight(date(2026, 6, 10))
NESTED = ("15min", "1h", "6h", "1d")
LATER_S = DAY_S + 400 * 86_400
HOUR_S = 3600
Matrix = NDArray[np.float64]
SIGMA_MILLI = {"15min": 8356, "1h": 9458, "6h": 9103, "1d": 9475, "1w": 9800, **dict.fromkeys(PARTS, 9300)}


def node(
    level: str, start_s: int, covered_from_s: int | None = None, quantity: str = "footfall", present: int = 20
) -> Node:
    window = PARIS.node(level, start_s)
    covered = window.start_s if covered_from_s is None else max(window.start_s, covered_from_s)
    bounds = {"footfall": (0, 0), "noise": (350, 850)}.get(quantity, (0, 1000))
    return Node(
        f"plaza/{quantity}", quantity, level, window.start_s, window.end_s, covered, present, 1000, bounds, bytes(32)
    )


def nodes_of(window: Window, levels: Sequence[str], starts: Sequence[int] = ()) -> list[Node]:
    """Returns every node of a window that closes in it, by closing instant. `starts`: when the gateway began anew: what
    was open then is lost, and each level opens a partial node; before the first of them there is nothing."""
    found = []
    for level in levels:
        at_s = window.start_s
        while at_s < window.end_s:
            aligned = PARIS.node(level, at_s)
            at_s = aligned.end_s
            began = [start_s for start_s in starts if start_s < aligned.end_s]
            if aligned.start_s in window and at_s <= window.end_s and (began or not starts):
                found.append(node(level, aligned.start_s, max([aligned.start_s, *began])))
    return sorted(found, key=lambda one: one.end_s)


def nodes_of_day(day_s: int, levels: Sequence[str], from_s: int = 0) -> list[Node]:
    """Returns every node of a civil day that ends after `from_s`, partial where it begins before."""
    found = nodes_of(PARIS.day(day_s), levels, [from_s] if from_s else ())
    return sorted(found, key=lambda one: (levels.index(one.level), one.start_s))


def release(of: Node, value: int, sigma_milli: int | None = None, indicator: str = "crossings") -> Release:
    return Release(of, (Noised(indicator, (value,), sigma_milli or SIGMA_MILLI[of.level], 5590),))


def by_node(found: Sequence[Figure]) -> dict[tuple[str, int], Figure]:
    return {(figure.level, figure.start_s): figure for figure in found}


# --- against linear algebra written out ------------------------------------------------------------------------------


def dense(rows: Sequence[tuple[Node, int]], hours: range) -> tuple[Matrix, Matrix, Matrix]:
    """Returns, hour by hour, solution, covariance and the projection on what the nodes determine."""
    design = np.array([row(Window(one.covered_from_s, one.end_s), hours) for one, _ in rows])
    weight = np.diag([1e6 / SIGMA_MILLI[one.level] ** 2 for one, _ in rows])
    normal = design.T @ weight @ design
    covariance = np.linalg.pinv(normal, rcond=1e-11, hermitian=True)
    solution = covariance @ design.T @ weight @ np.array([float(value) for _, value in rows])
    return solution, covariance, covariance @ normal


def row(window: Window, hours: range) -> Matrix:
    return np.array([float(hour in window) for hour in hours])


@st.composite
def periods(draw: st.DrawFn) -> tuple[Window, list[tuple[Node, int]], list[Outcome]]:
    """Returns a period of a stream with hours and longer nodes, ordinary or with a change of clocks, after up to two
    restarts, some nodes withheld: the window, what was released, and all outcomes."""
    levels = draw(st.lists(st.sampled_from(NESTED[1:]), unique=True, min_size=1))
    longer = draw(st.sampled_from([[], ["1w"], list(PARTS), ["night"]]))
    if longer and "1w" not in longer:
        levels = [level for level in levels if level == "1h"]
    levels += longer
    day = draw(st.sampled_from([date(2026, 6, 10), date(2026, 3, 29), date(2026, 10, 25)]))
    period = PARIS.period(levels, PARIS.midnight(day))
    hours = (period.end_s - period.start_s) // HOUR_S
    starts = [period.start_s + HOUR_S * at for at in draw(st.lists(st.integers(0, hours - 1), max_size=2))]
    members = nodes_of(period, levels, starts)
    lost = draw(st.lists(st.integers(0, max(0, len(members) - 1)), max_size=4))
    salt = draw(st.integers(1, 10**6))
    rows = [(one, salt * n % 5050 - 50) for n, one in enumerate(members) if n not in lost]
    outcomes: list[Outcome] = [release(one, value) for one, value in rows]
    return period, rows, outcomes + [Withheld(one, "paused") for n, one in enumerate(members) if n in lost]


@settings(max_examples=max(40, settings().max_examples // 3))
@given(periods(), st.lists(st.tuples(st.integers(0, 169), st.integers(1, 60)), min_size=6, max_size=6))
def test_estimates_equal_least_squares_by_hand(
    period: tuple[Window, list[tuple[Node, int]], list[Outcome]], asked: list[tuple[int, int]]
) -> None:
    """For any released part of a day, a week with its own node or a noise day, with clock changes, restarts and
    withheld nodes: estimate and standard error of each node, and of any range of hours that they determine, are those
    of weighted least squares written out; no other range has a figure."""
    window, rows, outcomes = period
    series = Series(outcomes, "Europe/Paris")
    found = by_node(series.figures(LATER_S))
    assert set(found) == {(one.level, one.start_s) for one, _ in rows}
    hours = range(window.start_s, window.end_s, HOUR_S)
    solution, covariance, determined = dense(rows, hours) if rows else (np.zeros(0), np.zeros(0), np.zeros(0))
    for one, value in rows:
        wanted = row(Window(one.covered_from_s, one.end_s), hours)
        figure = found[one.level, one.start_s]
        error = math.sqrt(wanted @ covariance @ wanted)
        assert figure.estimate == pytest.approx(wanted @ solution, rel=1e-6, abs=1e-6)
        assert figure.standard_error == pytest.approx(error, rel=1e-6)
        assert figure.low == pytest.approx(figure.estimate - NORMAL_95 * error, rel=1e-6, abs=1e-6)
        assert figure.high == pytest.approx(figure.estimate + NORMAL_95 * error, rel=1e-6, abs=1e-6)
        assert (figure.value, figure.sigma) == (value, SIGMA_MILLI[one.level] / 1000)
        assert (figure.absent, figure.fill, figure.state) == (0, None, "final")
    for first, length in asked:
        span = Window(hours[first % len(hours)], min(hours[first % len(hours)] + HOUR_S * length, window.end_s))
        ranged = series.over("crossings", [span], LATER_S)
        wanted = row(span, hours)
        known = bool(rows) and np.abs(determined @ wanted - wanted).max() < 1e-7
        assert (ranged is not None) == known
        if ranged is not None:
            assert ranged.estimate == pytest.approx(wanted @ solution, rel=1e-6, abs=1e-6)
            assert ranged.standard_error == pytest.approx(math.sqrt(wanted @ covariance @ wanted), rel=1e-6)
            assert (ranged.level, ranged.start_s, ranged.end_s) == ("range", span.start_s, span.end_s)


@pytest.mark.parametrize(
    ("levels", "errors"),
    [
        (NESTED, {"15min": 1.652, "1h": 1.681, "6h": 1.649, "1d": 1.816}),
        (("15min", "1h", "1d"), {"15min": 1.488, "1h": 1.597, "1d": 1.654}),
    ],
)
def test_errors_are_those_of_the_table(
    write_policy: Callable[..., Policy], levels: tuple[str, ...], errors: dict[str, float]
) -> None:
    """With equal weights a day's figures have the published errors, in units of 1 / sqrt(2 rho)."""
    was = '{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }'
    chosen = "{ " + ", ".join(f'"{level}" = 1' for level in levels) + " }"
    stream = plan(write_policy("footfall", swap=((was, chosen),))).streams["plaza/footfall"]
    sigma = {level.level: level.indicators[0].sigma_milli for level in stream.nodes}
    sigma0 = 1 / math.sqrt(2 * stream.rho_micro / 1e6)
    outcomes = [release(member, 0, sigma[member.level]) for member in nodes_of_day(DAY_S, levels)]
    for figure in figures(outcomes, "Europe/Paris", LATER_S):
        assert figure.standard_error / sigma0 == pytest.approx(errors[figure.level], abs=1.5e-3)


@given(st.data(), st.sampled_from([date(2026, 6, 10), date(2026, 3, 29), date(2026, 10, 25)]))
@settings(max_examples=max(10, settings().max_examples // 10))
def test_children_sum_to_their_parents(data: st.DataObject, day: date) -> None:
    """On whole days of 23, 24 and 25 hours every node's estimate is the sum of those within it."""
    day_s = PARIS.midnight(day)
    salt = data.draw(st.integers(1, 10**6))
    members = nodes_of_day(day_s, NESTED)
    found = by_node(
        figures([release(m, salt * n % 977) for n, m in enumerate(members)], "Europe/Paris", day_s + 86_400)
    )
    assert len(found) == len(members)
    for child, parent in (("15min", "1h"), ("1h", "6h"), ("6h", "1d")):
        sums: dict[int, float] = {}
        for (level, start_s), figure in found.items():
            if level == child:
                above = PARIS.node(parent, start_s).start_s
                sums[above] = sums.get(above, 0) + figure.estimate
        for start_s, summed in sums.items():
            assert found[parent, start_s].estimate == pytest.approx(summed, abs=1e-6)


# --- as nodes close ---------------------------------------------------------------------------------------------------


def at_close(sigma: dict[str, float], quarters: dict[str, int]) -> dict[str, float]:
    """Returns the standard error that a node of each level has when it closes and nothing above it has: the inverse
    variances of its own release and of the sum of its parts add up. For an hour: 1 / sqrt(a_2 + a_1 / 4)."""
    precision, before, found = 0.0, 0, dict[str, float]()
    for level, length in quarters.items():
        precision = 1 / sigma[level] ** 2 + (precision * before / length if before else 0.0)
        found[level], before = 1 / math.sqrt(precision), length
    return found


@pytest.mark.parametrize("levels", [NESTED, (*NESTED, "1w")])
def test_a_figure_is_as_sure_as_the_closed_form_at_its_close_and_never_less_sure_later(
    write_policy: Callable[..., Policy], levels: tuple[str, ...]
) -> None:
    """A day, and the last day of a week with its own node, closing by closing: each standard error begins at the closed
    form, none ever grows, parents are always the sum of their parts, and nothing is final before the period is over."""
    was = '{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }'
    chosen = "{ " + ", ".join(f'"{level}" = 1' for level in levels) + " }"
    stream = plan(write_policy("footfall", swap=((was, chosen),))).streams["plaza/footfall"]
    sigma = {one.level: one.indicators[0].sigma_milli for one in stream.nodes}
    closed_form = at_close(
        {level: milli / 1000 for level, milli in sigma.items()}, {level: SHARE_QUARTERS[level] for level in levels}
    )
    if "1w" not in levels:
        sigma0, shares = 1 / math.sqrt(2 * stream.rho_micro / 1e6), (0.29398, 0.22953)
        assert closed_form["15min"] == pytest.approx(sigma0 / math.sqrt(shares[0]), rel=1e-3)
        assert closed_form["1h"] == pytest.approx(sigma0 / math.sqrt(shares[1] + shares[0] / 4), rel=1e-3)
    period = PARIS.period(levels, DAY_S)
    members = nodes_of(period, levels)
    closings = sorted({one.end_s for one in members})
    before: dict[tuple[str, int], float] = {}
    for closing_s in closings if period == PARIS.day(DAY_S) else closings[-30:]:
        closed = [one for one in members if one.end_s <= closing_s]
        outcomes = [release(one, (one.start_s + one.end_s) % 977, sigma[one.level]) for one in closed]
        found = by_node(figures(outcomes, "Europe/Paris", closing_s, levels))
        assert {figure.state for figure in found.values()} == {"final" if closing_s == period.end_s else "provisional"}
        largest = max((one for one in closed if one.end_s == closing_s), key=lambda one: levels.index(one.level))
        assert found[largest.level, largest.start_s].standard_error == pytest.approx(
            closed_form[largest.level], rel=1e-9
        )
        for key, figure in found.items():
            assert figure.standard_error <= before.get(key, math.inf) * (1 + 1e-12)
            before[key] = figure.standard_error
        for finer, coarser in pairwise(levels):
            sums: dict[int, float] = {}
            for (level, start_s), figure in found.items():
                if level == finer:
                    above = PARIS.node(coarser, start_s).start_s
                    sums[above] = sums.get(above, 0) + figure.estimate
            for start_s, summed in sums.items():
                if (coarser, start_s) in found:
                    assert found[coarser, start_s].estimate == pytest.approx(summed, abs=1e-6)


def test_a_week_that_has_not_closed_keeps_its_days_provisional() -> None:
    """The node of the week will still move them: known from the policy, before any such node has come."""
    outcomes = [release(node("1d", DAY_S), 100)]
    after = DAY_S + 86_400
    assert figures(outcomes, "Europe/Paris", after)[0].state == "final"
    assert figures(outcomes, "Europe/Paris", after, ["1d", "1w"])[0].state == "provisional"
    assert figures(outcomes, "Europe/Paris", PARIS.node("1w", DAY_S).end_s, ["1d", "1w"])[0].state == "final"


def test_a_noise_day_ends_at_six() -> None:
    """Figures of a stream with parts of the day are final when the night is over."""
    evening = release(node("evening", DAY_S + 20 * HOUR_S, quantity="noise"), 1, indicator="energy")
    six = DAY_S + 30 * HOUR_S
    assert {f.state for f in figures([evening], "Europe/Paris", six - 1)} == {"provisional"}
    assert {f.state for f in figures([evening], "Europe/Paris", six)} == {"final"}


# --- as a statistic --------------------------------------------------------------------------------------------------

MONTE_CARLO_DAYS = 400
STANDARD_ERRORS = 5.0


def test_estimates_are_unbiased_and_their_errors_right(write_policy: Callable[..., Policy]) -> None:
    """Over 400 days of real noise each node's mean error is nought and its spread as said, at 5 standard errors; the
    95 % interval holds the truth as often as it says."""
    was = '{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }'
    stream = plan(write_policy("footfall", swap=((was, '{ "6h" = 1, "1d" = 1 }'),))).streams["plaza/footfall"]
    source = DiscreteGaussian()
    members = nodes_of_day(DAY_S, ("6h", "1d"))
    truth = {m.key: 100 * (m.end_s - m.start_s) // 3600 for m in members}
    draws = {}
    for planned in stream.nodes:
        wide = dataclasses.replace(planned.indicators[0], width=MONTE_CARLO_DAYS)
        for member in members:
            if member.level == planned.level:
                draws[member.key] = source.draw((truth[member.key],) * MONTE_CARLO_DAYS, wide)
    sigma = {level.level: level.indicators[0].sigma_milli for level in stream.nodes}
    errors: dict[tuple[str, int], list[float]] = {}
    covered = 0
    for day in range(MONTE_CARLO_DAYS):
        outcomes = [release(m, draws[m.key][day], sigma[m.level]) for m in members]
        for (level, start_s), figure in by_node(figures(outcomes, "Europe/Paris", LATER_S)).items():
            true = truth["plaza/footfall", level, start_s]
            errors.setdefault((level, start_s), []).append((figure.estimate - true) / figure.standard_error)
            covered += (figure.low or -math.inf) <= true <= (figure.high or math.inf)
    for standardised in errors.values():
        assert abs(np.mean(standardised)) < STANDARD_ERRORS / math.sqrt(MONTE_CARLO_DAYS)
        # The variance of a sample variance of normal draws is 2 / n.
        assert abs(np.mean(np.square(standardised)) - 1) < STANDARD_ERRORS * math.sqrt(2 / MONTE_CARLO_DAYS)
    share = covered / MONTE_CARLO_DAYS / len(members)
    # Nodes of one day are not independent: as if there were only one a day.
    assert abs(share - 0.95) < STANDARD_ERRORS * math.sqrt(0.95 * 0.05 / MONTE_CARLO_DAYS)


RANGE_DRAWS = 2000
RANGE_ERRORS = 5.5  # two sides, 12 checks: a right estimator fails once in two million runs
RANGES_H = ((3, 10), (0, 9), (20, 31), (1, 47))
"""Ranges in hours of two days: within one, since midnight, over midnight, nearly all."""


def range_draws(write_policy: Callable[..., Policy], draws: int, clip: bool = False) -> list[list[float]]:
    """Returns, for each range, the standardised errors of drawings of two empty days: hours, blocks and days with
    real noise, one hour withheld, a restart at noon of the second day."""
    stream = plan(write_policy("footfall", swap=(('"15min" = 1, ', ""),))).streams["plaza/footfall"]
    levels = NESTED[1:]
    days = Window(DAY_S, DAY_S + 2 * 86_400)
    first = [one for one in nodes_of(days, levels) if one.end_s <= DAY_S + 36 * HOUR_S]
    later = [one for one in nodes_of(days, levels, [DAY_S + 36 * HOUR_S]) if one.end_s > DAY_S + 36 * HOUR_S]
    members = [one for one in first + later if (one.level, one.start_s) != ("1h", DAY_S + 5 * HOUR_S)]
    source, drawn, sigma = DiscreteGaussian(), {}, {}
    for planned in stream.nodes:
        sigma[planned.level] = planned.indicators[0].sigma_milli
        wide = dataclasses.replace(planned.indicators[0], width=draws)
        for one in members:
            if one.level == planned.level:
                drawn[one.key] = source.draw((0,) * draws, wide)
    found: list[list[float]] = [[] for _ in RANGES_H]
    for draw in range(draws):
        values = [(one, max(0, drawn[one.key][draw]) if clip else drawn[one.key][draw]) for one in members]
        series = Series([release(one, value, sigma[one.level]) for one, value in values], "Europe/Paris")
        for errors, (from_h, until_h) in zip(found, RANGES_H, strict=True):
            figure = series.over("crossings", [Window(DAY_S + from_h * HOUR_S, DAY_S + until_h * HOUR_S)], LATER_S)
            assert figure is not None
            errors.append(figure.estimate / figure.standard_error)
    return found


def test_any_range_is_unbiased_and_as_sure_as_it_says(write_policy: Callable[..., Policy]) -> None:
    """2000 drawings of OpenDP's noise on streets where nobody passes: of ranges within a day, over midnight and over a
    restart the mean error is nought, the spread is the standard error, and 19 intervals in 20 hold the truth."""
    for errors in range_draws(write_policy, RANGE_DRAWS):
        assert abs(np.mean(errors)) < RANGE_ERRORS / math.sqrt(RANGE_DRAWS)
        assert abs(np.mean(np.square(errors)) - 1) < RANGE_ERRORS * math.sqrt(2 / RANGE_DRAWS)
        inside = np.mean(np.abs(errors) <= NORMAL_95)
        assert abs(inside - 0.95) < RANGE_ERRORS * math.sqrt(0.95 * 0.05 / RANGE_DRAWS)


def test_clipping_is_found(write_policy: Callable[..., Policy]) -> None:
    """Broken twin: counts that stop at zero are biased, and a tenth of the drawings shows it."""
    draws = RANGE_DRAWS // 10
    worst = max(np.mean(errors) for errors in range_draws(write_policy, draws, clip=True))
    assert worst > RANGE_ERRORS / math.sqrt(draws)


# --- silence ---------------------------------------------------------------------------------------------------------

SILENT_DAYS = 200


def aggregates(policy: Policy, stream: str, silent: Sequence[tuple[int, int]], reading: int) -> list[Aggregate]:
    """Returns the closed nodes of a day on which every slot reads the same, but for those of the silent seconds."""
    windows = OpenWindows(plan(policy), DAY_S)
    heard = (s for s in range(86_400) if not any(start <= s < end for start, end in silent))
    windows.add(stream, [((DAY_S + s) * 1000, reading) for s in heard])
    return [a for _, closed in windows.close_due(DAY_S + 86_400) for a in closed if a.node.stream == stream]


@pytest.mark.parametrize("reading", [0, 100, 1000])
@pytest.mark.parametrize(
    "silent",
    [
        [(7 * HOUR_S, 8 * HOUR_S)],
        [(0, HOUR_S // 20 - 1), (9 * HOUR_S, 9 * HOUR_S + 1700), (12 * HOUR_S, 15 * HOUR_S - 700)],
    ],
)
def test_intervals_hold_the_mean_whatever_the_silent_moments_hid(
    write_policy: Callable[..., Policy], reading: int, silent: list[tuple[int, int]]
) -> None:
    """Real windows, real noise, 200 days of 2.5 µm dust that stands still, silent for an hour or here and there: the
    intervals hold what an unbroken sensor would have shown at least 19 times in 20, at 5 standard errors; and only
    they do, since the noise alone leaves it out."""
    stream = plan(write_policy("pm2_5")).streams["plaza/pm2_5"]
    exact = aggregates(write_policy("pm2_5"), "plaza/pm2_5", silent, reading)
    source, sigma, draws = DiscreteGaussian(), dict[str, int](), {}
    for planned in stream.nodes:
        (one,) = planned.indicators
        sigma[planned.level] = one.sigma_milli
        wide = dataclasses.replace(one, width=SILENT_DAYS)
        for a in exact:
            if a.node.level == planned.level:
                draws[a.node.key] = source.draw(a.sums["mean"] * SILENT_DAYS, wide)
    held: dict[tuple[str, int], int] = {}
    by_noise: dict[tuple[str, int], int] = {}
    for day in range(SILENT_DAYS):
        outcomes: list[Outcome] = [
            release(a.node, draws[a.node.key][day], sigma[a.node.level], "mean")
            if a.node.present >= 10
            else Withheld(a.node, "sensor_absent")
            for a in exact
        ]
        for key, figure in by_node(figures(outcomes, "Europe/Paris", LATER_S)).items():
            assert figure.low is not None and figure.high is not None
            held[key] = held.get(key, 0) + (figure.low <= reading / 10 <= figure.high)
            by_noise[key] = by_noise.get(key, 0) + (abs(figure.estimate - reading / 10) <= figure.margin)
    withheld = {(a.node.level, a.node.start_s) for a in exact if a.node.present < 10}
    assert withheld and held.keys() == {(a.node.level, a.node.start_s) for a in exact} - withheld
    least = SILENT_DAYS * 0.95 - STANDARD_ERRORS * math.sqrt(SILENT_DAYS * 0.95 * 0.05)
    assert min(held.values()) >= least
    assert by_noise["1d", DAY_S] < least


@pytest.mark.parametrize("reading", [350, 600, 850])
def test_an_energy_can_only_have_been_higher(write_policy: Callable[..., Policy], reading: int) -> None:
    """Silent slots count as the floor: the energy's interval grows upward alone, the mean's to both sides, by what the
    bounds allow; an unbroken sensor's figures lie inside without any noise."""
    exact = aggregates(write_policy("noise"), "plaza/noise", [(0, 360)], reading)
    outcomes = [
        Release(a.node, tuple(Noised(name, sums, 1, 1) for name, sums in a.sums.items() if name != "histogram"))
        for a in exact
    ]
    found = {(f.level, f.start_s, f.indicator): f for f in figures(outcomes, "Europe/Paris", LATER_S)}
    for level, absent in (("1h", 0.1), ("1d", 0.1 / 24)):
        power, mean = (found[level, DAY_S, name] for name in ("energy_mean", "level_db_mean"))
        laeq = found[level, DAY_S, "laeq_db"]
        assert power.absent == mean.absent == laeq.absent == pytest.approx(absent)
        assert (mean.fill, power.fill) == (60, energy(350))
        assert laeq.fill == pytest.approx(35, abs=1e-3)
        assert power.low is not None and power.high is not None and mean.low is not None and mean.high is not None
        assert power.low == pytest.approx(power.estimate - power.margin)
        assert power.high == pytest.approx(power.estimate + power.margin + absent * (energy(850) - energy(350)))
        assert mean.low == pytest.approx(mean.estimate - mean.margin - absent * 25)
        assert mean.high == pytest.approx(mean.estimate + mean.margin + absent * 25)
        assert power.low - 1e-6 <= energy(reading) <= power.high * (1 + 1e-12)
        assert mean.low - 1e-9 <= reading / 10 <= mean.high + 1e-9


def test_a_count_is_what_the_sensor_counted() -> None:
    """Nothing bounds who passed while it was silent: the interval stays, the share is said."""
    whole, broken = (release(node("1h", DAY_S, present=present), 100) for present in (20, 13))
    (one,), (other,) = (figures([outcome], "Europe/Paris", LATER_S) for outcome in (whole, broken))
    assert one.absent == 0 and other.absent == pytest.approx(0.35)
    assert other == dataclasses.replace(one, absent=other.absent)


@given(
    st.lists(st.integers(0, 900), min_size=48, max_size=48),
    st.integers(0, 40),
    st.sampled_from([("15min", "1h", "6h", "1d"), ("1h", "1d"), ("6h", "1d")]),
    st.sampled_from([None, "15min", "1h", "6h"]),
)
def test_absent_is_never_less_than_the_silence(
    heard_s: list[int], late: int, levels: tuple[str, ...], holed: str | None
) -> None:
    """Whatever was heard, the bound is at least the true share, at most that of the node's own `present`, and at most
    that of any finer level; withheld nodes count, the time of a node that is missing counts whole."""
    from_s = DAY_S + late * 900
    heard = {from_s + n * 900: s for n, s in enumerate(heard_s)}
    members = []
    for bare in nodes_of_day(DAY_S, levels, from_s):
        covered = range(bare.covered_from_s, bare.end_s, 900)
        share = sum(heard.get(at, 0) for at in covered) / (bare.end_s - bare.covered_from_s)
        members.append(dataclasses.replace(bare, present=math.floor(20 * share + 1e-12)))
    last = [m for m in members if m.level == holed][-1:]
    there = [m for m in members if m not in last]
    outcomes = [release(m, 1) if m.present >= 10 else Withheld(m, "sensor_absent") for m in there]
    for figure in figures(outcomes, "Europe/Paris", LATER_S):
        length_s = figure.end_s - figure.covered_from_s
        silent_s = sum(900 - heard.get(at, 0) for at in range(figure.covered_from_s, figure.end_s, 900))
        assert silent_s / length_s - 1e-9 <= figure.absent
        bounds = []
        for level in NESTED[: NESTED.index(figure.level) + 1]:
            inside = [
                m
                for m in there
                if m.level == level and figure.covered_from_s <= m.covered_from_s and m.end_s <= figure.end_s
            ]
            spans = [m.end_s - m.covered_from_s for m in inside]
            said = sum((20 - m.present) / 20 * span for m, span in zip(inside, spans, strict=True))
            bounds.append((said + length_s - sum(spans)) / length_s)
        assert figure.absent <= min(bounds) + 1e-9


def test_silence_of_several_days_adds_up_as_it_is() -> None:
    """Noise of independent days partly cancels, silence need not: shares are averaged, their widening too."""
    starts = [DAY_S, DAY_S + 86_400]
    found = [
        figure
        for at_s, present in zip(starts, (20, 18), strict=True)
        for figure in figures(
            [release(node("1d", at_s, quantity="pm10", present=present), 86_400 * 100, indicator="mean")],
            "Europe/Paris",
            LATER_S,
        )
    ]
    both = total(found)
    assert both is not None and both.low is not None and both.high is not None
    assert both.absent == pytest.approx(0.05) and both.fill == 50
    assert both.estimate - both.low == pytest.approx(both.margin + 0.05 * 50)
    assert both.high - both.estimate == pytest.approx(both.margin + 0.05 * 50)
    mixed = total([found[0], dataclasses.replace(found[1], fill=40.0)])
    assert mixed is not None and mixed.fill is None


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_a_withheld_node_has_no_figure() -> None:
    """Even where siblings and parent, which keep theirs, would determine one: it would be partly made up."""
    blocks = nodes_of_day(DAY_S, ("6h",))
    whole = node("1d", DAY_S)
    outcomes: list[Outcome] = [release(block, 10) for block in blocks[1:]]
    outcomes += [Withheld(blocks[0], "sensor_absent"), release(whole, 100)]
    found = by_node(figures(outcomes, "Europe/Paris", LATER_S))
    assert set(found) == {("1d", DAY_S)} | {("6h", block.start_s) for block in blocks[1:]}
    assert found["1d", DAY_S].estimate == pytest.approx(100)


def test_a_partial_node_is_estimated_for_what_it_covers() -> None:
    """After a start at noon, the day's node and its last two blocks are about the same twelve hours."""
    members = nodes_of_day(DAY_S, ("6h", "1d"), DAY_S + 12 * 3600)
    assert [m.covered_from_s - DAY_S for m in members] == [12 * 3600, 18 * 3600, 12 * 3600]
    found = figures([release(m, v) for m, v in zip(members, (10, 20, 40), strict=True)], "Europe/Paris", LATER_S)
    first, second, day = (f.estimate for f in found)
    assert first + second == pytest.approx(day) and 30 < day < 40


def test_before_and_after_a_restart_are_estimated_apart() -> None:
    """Blocks before a restart belong to no day's node; the day's node covers what came after."""
    early = nodes_of_day(DAY_S, ("6h",))[:1]
    late = nodes_of_day(DAY_S, ("6h", "1d"), DAY_S + 12 * 3600)
    outcomes = [release(m, 10) for m in early] + [release(m, v) for m, v in zip(late, (10, 20, 30), strict=True)]
    found = by_node(figures(outcomes, "Europe/Paris", LATER_S))
    assert found["6h", DAY_S].estimate == 10
    assert found["6h", DAY_S].standard_error == pytest.approx(SIGMA_MILLI["6h"] / 1000)


def test_a_day_is_final_when_it_is_over() -> None:
    """Figures of a day that goes on are provisional; days are told apart by their own midnight."""
    outcomes = [release(node("1h", DAY_S + 86_399), 5), release(node("1h", DAY_S + 86_400), 6)]
    states = {f.start_s: f.state for f in figures(outcomes, "Europe/Paris", DAY_S + 86_400)}
    assert states == {DAY_S + 82_800: "final", DAY_S + 86_400: "provisional"}
    assert {f.state for f in figures(outcomes, "Europe/Paris", DAY_S + 86_399)} == {"provisional"}


def test_no_node_no_figure() -> None:
    """Nothing, or withheld nodes alone, give nothing."""
    assert figures([], "Europe/Paris", LATER_S) == []
    assert figures([Withheld(node("1h", DAY_S), "paused")], "Europe/Paris", LATER_S) == []


def noise_hour(mean: int, energy: int, at_s: int = DAY_S) -> Release:
    of = node("1h", at_s, quantity="noise")
    return Release(
        of,
        (
            Noised("histogram", (1,) * 10, 1000, 3),
            Noised("mean", (mean,), 3_600_000, 2),
            Noised("energy", (energy,), 36_000_000_000, 1),
        ),
    )


def test_noise_has_a_mean_an_energy_and_a_level() -> None:
    """Scalars become figures in printed units, by name; LAeq follows its energy, percentiles the histogram."""
    found = figures([noise_hour(3600 * 521, 3600 * 10**6)], "Europe/Paris", LATER_S)
    read_off = ["l10_db", "l50_db", "l90_db"]
    assert [f.indicator for f in found] == ["energy_mean", *read_off, "laeq_db", "level_db_mean", "share_over_65_db"]
    energy, _, _, _, level, mean, share = found
    assert [f.estimate for f in (energy, level, mean, share)] == pytest.approx([10**6, 60, 52.1, 0.4])
    assert (mean.value, mean.unit, mean.sigma) == (52.1, "dB", 0.1)
    assert (energy.value, energy.unit, energy.sigma) == (10**6, "1", 10**4)
    assert (level.value, level.unit, level.sigma) == (60, "dB", None)
    assert level.low == pytest.approx(10 * math.log10(10**6 - NORMAL_95 * 10**4))
    assert level.high == pytest.approx(10 * math.log10(10**6 + NORMAL_95 * 10**4))
    assert level.standard_error == pytest.approx(10 / math.log(10) * 0.01)


def test_no_share_over_65_where_no_bin_begins_there() -> None:
    """Bounds from 37 dB on have edges at 62 and 67: the figures leave the share out and keep the percentiles."""
    hour = noise_hour(3600 * 521, 3600 * 10**6)
    odd = dataclasses.replace(hour, node=dataclasses.replace(hour.node, bounds=(370, 870)))
    found = {figure.indicator for figure in figures([odd], "Europe/Paris", LATER_S)}
    assert found == {"energy_mean", "l10_db", "l50_db", "l90_db", "laeq_db", "level_db_mean"}


def test_an_energy_that_may_be_nothing_has_an_open_end() -> None:
    """Where the interval of the energy reaches zero, the level has no lower end; where its estimate does, no level."""
    loose = figures([noise_hour(0, 3600 * 100)], "Europe/Paris", LATER_S)
    level = next(f for f in loose if f.indicator == "laeq_db")
    assert level.low is None and level.high is not None and level.estimate == pytest.approx(20)
    assert "laeq_db" not in {f.indicator for f in figures([noise_hour(0, -1)], "Europe/Paris", LATER_S)}
    energy = next(f for f in loose if f.indicator == "energy_mean")
    unseen = equivalent_level(dataclasses.replace(energy, value=None))
    assert unseen is not None and unseen.value is None


def days(quantity: str, indicator: str, values: Sequence[int], starts: Sequence[int]) -> list[Figure]:
    found = []
    for start_s, value in zip(starts, values, strict=True):
        outcome = release(node("1d", start_s, quantity=quantity), value, indicator=indicator)
        found += figures([outcome], "Europe/Paris", LATER_S)
    return found


def test_days_add_up() -> None:
    """Counts of several days are summed and their errors too, as squares; the state is that of the youngest day."""
    found = days("footfall", "crossings", [100, 200, 300], [DAY_S + n * 86_400 for n in range(3)])
    week = total(found)
    assert week is not None
    assert (week.level, week.value, week.state) == ("range", None, "final")
    assert week.estimate == pytest.approx(600)
    assert week.standard_error == pytest.approx(math.sqrt(3) * 9.475)
    assert week.low == pytest.approx(600 - NORMAL_95 * week.standard_error)
    assert (week.start_s, week.end_s) == (DAY_S, DAY_S + 3 * 86_400)
    young = total([*found[:2], dataclasses.replace(found[2], state="provisional")])
    assert young is not None and young.state == "provisional"


def test_means_are_weighted_by_the_time_they_cover() -> None:
    """A day of 25 hours weighs more in a mean than one of 24."""
    start_s = PARIS.midnight(date(2026, 10, 25))
    values = [25 * 3600 * 100, 24 * 3600 * 200]
    found = days("pm10", "mean", values, [start_s, start_s + 25 * 3600])
    assert [f.estimate for f in found] == [pytest.approx(10), pytest.approx(20)]
    both = total(found)
    assert both is not None and both.estimate == pytest.approx((25 * 10 + 24 * 20) / 49)
    assert both.standard_error == pytest.approx(
        math.hypot(*(w / 49 * f.standard_error for w, f in zip((25, 24), found, strict=True)))
    )


def test_levels_do_not_add() -> None:
    """No total of decibels, and none of nothing."""
    found = figures([noise_hour(1, 3600 * 10**6)], "Europe/Paris", LATER_S)
    assert total([f for f in found if f.indicator == "laeq_db"]) is None
    assert total([]) is None


# --- ranges ----------------------------------------------------------------------------------------------------------


def test_a_range_is_a_sum_and_means_are_weighted_by_time() -> None:
    """Two days of 24 and 25 hours: counts add, their squared errors too; means weigh by time; a range of one node is
    that node's figure."""
    start_s = PARIS.midnight(date(2026, 10, 24))
    day, next_day = PARIS.day(start_s), PARIS.day(start_s + 86_400)
    assert (day.end_s - day.start_s, next_day.end_s - next_day.start_s) == (24 * HOUR_S, 25 * HOUR_S)
    counts = [release(node("1d", one.start_s), value) for one, value in ((day, 100), (next_day, 200))]
    both = range_figure(counts, "crossings", day.start_s, next_day.end_s, "Europe/Paris", LATER_S)
    assert both is not None and both.estimate == pytest.approx(300)
    assert both.standard_error == pytest.approx(9.475 * math.sqrt(2))
    whole = [
        release(node("1d", one.start_s, quantity="pm10"), (one.end_s - one.start_s) * value, indicator="mean")
        for one, value in ((day, 100), (next_day, 200))
    ]
    mean = range_figure(whole, "pm10_ug_m3", day.start_s, next_day.end_s, "Europe/Paris", LATER_S)
    assert mean is not None and mean.estimate == pytest.approx((24 * 10 + 25 * 20) / 49)
    assert mean.standard_error == pytest.approx(9.475 * math.sqrt(2) / (49 * HOUR_S * 10))
    alone = range_figure(whole, "pm10_ug_m3", day.start_s, day.end_s, "Europe/Paris", LATER_S)
    (figure, _) = figures(whole, "Europe/Paris", LATER_S)
    assert alone == dataclasses.replace(figure, level="range", value=None, sigma=None)


def test_what_no_node_determines_has_no_figure() -> None:
    """Half of an hour, a day of which one hour is missing, an indicator that was not released, nothing at all."""
    hours = [release(node("1h", DAY_S + HOUR_S * hour), 10) for hour in (0, 1, 3)]
    series = Series(hours, "Europe/Paris")
    for from_s, until_s in ((0, 1800), (0, 4 * HOUR_S), (2 * HOUR_S, 3 * HOUR_S), (30 * HOUR_S, 31 * HOUR_S)):
        assert series.over("crossings", [Window(DAY_S + from_s, DAY_S + until_s)], LATER_S) is None
    assert series.over("energy_mean", [Window(DAY_S, DAY_S + HOUR_S)], LATER_S) is None
    assert series.over("crossings", [], LATER_S) is None
    assert series.observed("energy_mean", Window(DAY_S, LATER_S)) == []
    apart = series.observed("crossings", Window(DAY_S, LATER_S))
    assert apart == [Window(DAY_S, DAY_S + 2 * HOUR_S), Window(DAY_S + 3 * HOUR_S, DAY_S + 4 * HOUR_S)]
    both = series.over("crossings", apart, LATER_S)
    assert both is not None and both.estimate == pytest.approx(30)


def test_since_midnight_reaches_to_the_last_node_that_closed() -> None:
    """By the best nodes there are; not across something that was not released; not into another day."""
    members = [one for one in nodes_of_day(DAY_S, NESTED) if one.end_s <= DAY_S + 7 * HOUR_S + 1800]
    now_s = DAY_S + 7 * HOUR_S + 1900
    figure = Series([release(one, 10) for one in members], "Europe/Paris").since_midnight("crossings", now_s)
    assert figure is not None
    assert (figure.start_s, figure.end_s, figure.state) == (DAY_S, DAY_S + 7 * HOUR_S + 1800, "provisional")
    block = next(one for one in members if one.level == "6h")
    without = [release(one, 10) for one in members if one is not block]
    coarser = Series(without, "Europe/Paris").since_midnight("crossings", now_s)
    assert coarser is not None and figure.standard_error < coarser.standard_error
    early = [release(one, 10) for one in members if one.start_s > DAY_S]
    assert Series(early, "Europe/Paris").since_midnight("crossings", now_s) is None
    assert Series(without, "Europe/Paris").since_midnight("crossings", now_s + 86_400) is None


def test_a_policy_with_another_cadence_or_bounds_begins_another_tree() -> None:
    """Before and after midnight sums mean something else: they are averaged as printed, never compared as integers; the
    fill and a histogram are none where the bounds changed."""
    old = noise_hour(3600 * 500, 3600 * 10**5, DAY_S)
    new = noise_hour(1800 * 600, 1800 * 10**6, DAY_S + HOUR_S)
    new = dataclasses.replace(new, node=dataclasses.replace(new.node, cadence_ms=2000, bounds=(400, 900)))
    series = Series([old, new], "Europe/Paris")
    both = [Window(DAY_S, DAY_S + 2 * HOUR_S)]
    mean = series.over("level_db_mean", both, LATER_S)
    assert mean is not None and mean.estimate == pytest.approx(55) and mean.fill is None
    level = series.over("laeq_db", both, LATER_S)
    assert level is not None and level.estimate == pytest.approx(10 * math.log10((10**5 + 10**6) / 2))
    assert series.over("l50_db", both, LATER_S) is None
    assert series.over("l50_db", [Window(DAY_S, DAY_S + HOUR_S)], LATER_S) is not None
    # The last hour of a day that was measured otherwise, which a restart left with the same hour alone.
    last_s = DAY_S + 23 * HOUR_S
    day = release(node("1d", DAY_S, last_s, quantity="noise"), 3600 * 500, indicator="mean")
    hour = dataclasses.replace(new, node=dataclasses.replace(node("1h", last_s, quantity="noise"), bounds=(400, 900)))
    beside = figures([day, hour], "Europe/Paris", LATER_S)
    assert beside == [*figures([hour], "Europe/Paris", LATER_S), *figures([day], "Europe/Paris", LATER_S)]


def test_silence_in_a_range_is_that_of_its_parts() -> None:
    """The bound of a range uses the parts that say more than the whole day."""
    silent = [
        release(node("1h", DAY_S + HOUR_S * hour, quantity="pm10", present=20 - hour), 1, indicator="mean")
        for hour in range(4)
    ]
    whole = release(node("1d", DAY_S, quantity="pm10", present=19), 1, indicator="mean")
    figure = Series([*silent, whole], "Europe/Paris").over("pm10_ug_m3", [Window(DAY_S, DAY_S + 4 * HOUR_S)], LATER_S)
    assert figure is not None and figure.absent == pytest.approx(0.3 / 4) and figure.fill == 50
    assert figure.high is not None
    assert figure.high - figure.estimate == pytest.approx(figure.margin + 0.3 / 4 * 50)


# --- levels ----------------------------------------------------------------------------------------------------------


def noise_release(of: Node, level_db: float, sigma_s: float = 20.0) -> Release:
    """Returns a node on which every second had about one level: its bin, its energy, and noise of this size."""
    bins = [0] * 10
    bins[int((level_db - 35) // 5)] = of.slots
    power = round(10 ** (level_db / 10))
    return Release(
        of,
        (
            Noised("histogram", tuple(bins), round(sigma_s * 1000), 3),
            Noised("energy", (power * of.slots,), round(0.05 * power * of.slots * 1000), 1),
        ),
    )


def test_percentiles_of_a_day_come_from_all_its_nodes() -> None:
    """Twenty-four hours and their day know the share over 65 dB better than the day alone and no percentile worse; an
    hour's own histogram leaves as much open as with the day beside it, or more."""
    hours = [
        noise_release(node("1h", DAY_S + HOUR_S * hour, quantity="noise"), 42 if hour < 8 else 57, 90.0)
        for hour in range(24)
    ]
    held = [sum(column) for column in zip(*(hour.noised[0].integers for hour in hours), strict=True)]
    whole = Release(node("1d", DAY_S, quantity="noise"), (Noised("histogram", tuple(held), 90_000, 3),))
    alone = by_indicator(figures([whole], "Europe/Paris", LATER_S), "1d")
    together = by_indicator(figures([*hours, whole], "Europe/Paris", LATER_S), "1d")
    for name in ("l10_db", "l50_db", "l90_db", "share_over_65_db"):
        assert together[name].estimate == pytest.approx(alone[name].estimate, abs=1e-6)
        assert together[name].standard_error <= alone[name].standard_error
    name = "share_over_65_db"
    assert together[name].standard_error < alone[name].standard_error
    hour = by_indicator(figures([hours[0]], "Europe/Paris", LATER_S), "1h")["l50_db"]
    beside = by_indicator(figures([*hours, whole], "Europe/Paris", LATER_S), "1h")["l50_db"]
    assert hour.margin >= beside.margin
    series = Series([*hours, whole], "Europe/Paris")
    night = series.over("l50_db", [Window(DAY_S, DAY_S + 8 * HOUR_S)], LATER_S)
    assert night is not None and 40 <= night.estimate <= 45 and night.value is None and night.fill == 60
    share = series.over("share_over_65_db", [Window(DAY_S, DAY_S + 8 * HOUR_S)], LATER_S)
    assert share is not None and share.unit == "1" and share.publishable


def test_bins_of_a_histogram_come_from_all_its_nodes() -> None:
    """A row for each bin, named by its edges; the hours' bins add up to the day's, each is known better than from its
    own node, and what left the gateway stands beside it."""
    hours = [
        noise_release(node("1h", DAY_S + HOUR_S * hour, quantity="noise"), 42 if hour < 8 else 57, 90.0)
        for hour in range(24)
    ]
    held = [sum(column) + 500 for column in zip(*(hour.noised[0].integers for hour in hours), strict=True)]
    whole = Release(node("1d", DAY_S, quantity="noise"), (Noised("histogram", tuple(held), 90_000, 3),))
    series = Series([*hours, whole], "Europe/Paris")
    found = series.bins(LATER_S)
    assert len(found) == 25 * 10 and {(one.unit, one.state) for one in found} == {("s", "final")}
    day = {one.indicator: one for one in found if one.level == "1d"}
    assert list(day) == [f"histogram_s_{low}_{low + 5}_db" for low in range(35, 85, 5)]
    assert sum(one.estimate for one in day.values()) == pytest.approx(86_400)
    for place, (name, one) in enumerate(day.items()):
        mine = [hour for hour in found if hour.level == "1h" and hour.indicator == name]
        assert sum(hour.estimate for hour in mine) == pytest.approx(one.estimate)
        assert (one.value, one.sigma) == (held[place], 90)
        alone = Series([hours[0]], "Europe/Paris").bins(LATER_S)[place]
        assert mine[0].standard_error < alone.standard_error < 90
    assert Series([release(node("1h", DAY_S), 10)], "Europe/Paris").bins(LATER_S) == []
    assert {one.state for one in series.bins(DAY_S)} == {"provisional"}


def by_indicator(found: Sequence[Figure], level: str) -> dict[str, Figure]:
    return {figure.indicator: figure for figure in reversed(found) if figure.level == level}


def test_a_level_with_a_margin_above_3_db_is_not_publishable() -> None:
    """The wider side counts, and an open end; counts and shares are no levels."""
    (one,) = figures([release(node("1h", DAY_S), 10)], "Europe/Paris", LATER_S)
    assert one.publishable
    level = dataclasses.replace(one, unit="dB", estimate=60.0, low=57.0, high=63.0)
    assert level.publishable
    assert not dataclasses.replace(level, high=63.1).publishable
    assert not dataclasses.replace(level, low=56.9).publishable
    assert not dataclasses.replace(level, low=None).publishable


def test_a_level_beyond_the_bins_has_no_estimate_of_its_own() -> None:
    """An hour in the first bin, or in the last one: one end of the interval is missing and what stands as the estimate
    is the other, a bound; of an hour in between nothing is, and an LAeq without a lower end keeps its estimate."""
    for level_db, low, high in ((37, None, 40), (82, 80, None)):
        found = by_indicator(
            figures([noise_release(node("1h", DAY_S, quantity="noise"), level_db)], "Europe/Paris", LATER_S), "1h"
        )
        for name in ("l10_db", "l50_db", "l90_db"):
            assert (found[name].low, found[name].high) == (low, high)
            assert found[name].bound and found[name].estimate == (low or high) and not found[name].publishable
        assert not found["laeq_db"].bound and not found["energy_mean"].bound
        assert not dataclasses.replace(found["laeq_db"], low=None).bound
    between = figures([noise_release(node("1h", DAY_S, quantity="noise"), 52)], "Europe/Paris", LATER_S)
    assert not any(figure.bound for figure in between)


def parts_of(day_s: int, levels_db: tuple[float, float, float]) -> list[Release]:
    hours = zip(PARTS, (8, 20, 23), levels_db, strict=True)
    return [noise_release(node(part, day_s + HOUR_S * hour, quantity="noise"), level) for part, hour, level in hours]


def test_lden_is_that_of_the_directive() -> None:
    """Evening and night count 5 and 10 dB more, over 12, 4 and 8 hours; days are averaged as energies; the margin is
    that of independent errors by these weights, and Ln the energy mean of the nights."""
    first, second = parts_of(DAY_S, (65, 60, 50)), parts_of(DAY_S + 86_400, (62, 61, 55))
    found = figures([*first, *second], "Europe/Paris", LATER_S)
    one = lden(
        [figure for figure in found if figure.start_s < DAY_S + 30 * HOUR_S and figure.end_s <= DAY_S + 30 * HOUR_S]
    )

    def energy_of(day: float, evening: float, night: float) -> float:
        return (12 * 10 ** (day / 10) + 4 * 10 ** ((evening + 5) / 10) + 8 * 10 ** ((night + 10) / 10)) / 24

    assert one is not None and one.indicator == "lden_db" and one.unit == "dB"
    assert one.estimate == pytest.approx(10 * math.log10(energy_of(65, 60, 50)), abs=1e-3)
    both = lden(found)
    assert both is not None and (both.start_s, both.end_s) == (DAY_S + 6 * HOUR_S, DAY_S + 54 * HOUR_S)
    power = (energy_of(65, 60, 50) + energy_of(62, 61, 55)) / 2
    assert both.estimate == pytest.approx(10 * math.log10(power), abs=1e-3)
    errors = [
        0.05 * hours * 10 ** ((level + extra) / 10) / 24 / 2
        for day in ((65, 60, 50), (62, 61, 55))
        for level, hours, extra in zip(day, (12, 4, 8), (0, 5, 10), strict=True)
    ]
    assert both.standard_error == pytest.approx(10 / math.log(10) * math.hypot(*errors) / power, rel=1e-3)
    night = night_level(found)
    assert night is not None and night.indicator == "ln_db"
    assert night.estimate == pytest.approx(10 * math.log10((10**5 + 10**5.5) / 2), abs=1e-3)


def test_a_day_without_one_of_its_parts_has_no_lden() -> None:
    """A withheld night, or a part that was measured from its middle on: the day is left out; the others count."""
    first, second = parts_of(DAY_S, (65, 60, 50)), parts_of(DAY_S + 86_400, (62, 61, 55))
    assert lden(figures(first[:2], "Europe/Paris", LATER_S)) is None
    late = dataclasses.replace(first[0], node=dataclasses.replace(first[0].node, covered_from_s=DAY_S + 9 * HOUR_S))
    rest = lden(figures([late, *first[1:], *second], "Europe/Paris", LATER_S))
    assert rest == lden(figures(second, "Europe/Paris", LATER_S)) is not None
    assert night_level(figures(first[:2], "Europe/Paris", LATER_S)) is None


@given(st.lists(st.tuples(st.floats(40, 80), st.floats(40, 80), st.floats(40, 80)), min_size=1, max_size=4))
def test_lden_lies_between_its_days(days: list[tuple[float, float, float]]) -> None:
    """An energy mean is never outside of what it averages, and never below the level of the day without penalties."""
    releases = [parts_of(DAY_S + 86_400 * number, levels) for number, levels in enumerate(days)]
    single = [lden(figures(one, "Europe/Paris", LATER_S)) for one in releases]
    whole = lden(figures([part for one in releases for part in one], "Europe/Paris", LATER_S))
    assert whole is not None
    known = [one.estimate for one in single if one is not None]
    assert len(known) == len(days)
    assert min(known) - 1e-6 <= whole.estimate <= max(known) + 1e-6
