"""Figures that agree with each other: least squares from released nodes alone, with honest margins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy.aggregate import Aggregate, energy
from murmure_privacy.estimate import Figure, equivalent_level, figures, total
from murmure_privacy.levels import NORMAL_95
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Node, Noised, Outcome, Release, Withheld
from murmure_privacy.window import PARTS, Calendar
from murmure_privacy.windowing import OpenWindows

PARIS = Calendar("Europe/Paris")
DAY_S = PARIS.midnight(date(2026, 6, 10))
NESTED = ("15min", "1h", "6h", "1d")
LATER_S = DAY_S + 40 * 86_400
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


def nodes_of_day(day_s: int, levels: Sequence[str], from_s: int = 0) -> list[Node]:
    """Returns every node of a civil day that ends after `from_s`, partial where it begins before."""
    end_s = PARIS.day(day_s).end_s
    found = []
    for level in levels:
        at_s = day_s
        while at_s < end_s:
            window = PARIS.node(level, at_s)
            if window.end_s > from_s:
                found.append(node(level, at_s, max(from_s, window.start_s)))
            at_s = window.end_s
    return found


def release(of: Node, value: int, sigma_milli: int | None = None, indicator: str = "crossings") -> Release:
    return Release(of, (Noised(indicator, (value,), sigma_milli or SIGMA_MILLI[of.level], 5590),))


def by_node(found: Sequence[Figure]) -> dict[tuple[str, int], Figure]:
    return {(figure.level, figure.start_s): figure for figure in found}


# --- against linear algebra written out ------------------------------------------------------------------------------


@settings(max_examples=max(30, settings().max_examples // 3))
@given(data=st.data(), levels=st.lists(st.sampled_from(NESTED[1:]), unique=True, min_size=1), late_h=st.integers(0, 20))
def test_estimates_equal_least_squares_by_hand(data: st.DataObject, levels: list[str], late_h: int) -> None:
    """For any released part of a day, estimate and standard error are those of weighted least squares written out;
    withheld nodes are absent."""
    members = nodes_of_day(DAY_S, levels, DAY_S + late_h * 3600)
    kept = data.draw(st.lists(st.booleans(), min_size=len(members), max_size=len(members)))
    values = [data.draw(st.integers(-50, 5000)) for _ in members]
    outcomes: list[Outcome] = [
        release(member, value) if keep else Withheld(member, "paused")
        for member, value, keep in zip(members, values, kept, strict=True)
    ]
    found = by_node(figures(outcomes, "Europe/Paris", LATER_S))
    hours = range(DAY_S, DAY_S + 86_400, 3600)

    def row(of: Node) -> list[float]:
        return [float(of.covered_from_s <= hour < of.end_s) for hour in hours]

    rows = [(row(m), v, SIGMA_MILLI[m.level] / 1000) for m, v, keep in zip(members, values, kept, strict=True) if keep]
    if not rows:
        assert found == {}
        return
    design = np.array([r for r, _, _ in rows])
    observed = np.array([v for _, v, _ in rows], dtype=float)
    weight = np.diag([1 / s**2 for _, _, s in rows])
    covariance = np.linalg.pinv(design.T @ weight @ design)
    solution = covariance @ design.T @ weight @ observed
    for member, value, keep in zip(members, values, kept, strict=True):
        wanted = np.array(row(member))
        figure = found.get((member.level, member.start_s))
        assert (figure is not None) == keep
        if figure is None:
            continue
        error = math.sqrt(wanted @ covariance @ wanted)
        assert figure.estimate == pytest.approx(wanted @ solution, rel=1e-6, abs=1e-6)
        assert figure.standard_error == pytest.approx(error, rel=1e-6)
        assert figure.low == pytest.approx(figure.estimate - NORMAL_95 * error, rel=1e-6, abs=1e-6)
        assert figure.high == pytest.approx(figure.estimate + NORMAL_95 * error, rel=1e-6, abs=1e-6)
        assert (figure.value, figure.sigma) == (value, SIGMA_MILLI[member.level] / 1000)
        assert (figure.absent, figure.fill) == (0, None)


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


# --- silence ---------------------------------------------------------------------------------------------------------

SILENT_DAYS = 200
HOUR_S = 3600


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


def noise_hour(mean: int, energy: int) -> Release:
    of = node("1h", DAY_S, quantity="noise")
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
