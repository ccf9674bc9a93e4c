"""What a preview promises is what a stranger's arithmetic, the estimator and real noise make of the same policy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from math import comb, inf, log10, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from murmure_privacy import accountant, preview, recording, street
from murmure_privacy.aggregate import energy
from murmure_privacy.errors import ConfigError
from murmure_privacy.estimate import figures, lden
from murmure_privacy.levels import NORMAL_95, Histogram
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import StreamPlan, plan
from murmure_privacy.policy import Policy, StreamPolicy, parse
from murmure_privacy.release import Noised, Release
from murmure_privacy.window import ORDINARY_QUARTERS, QUARTER_S, Calendar

TODAY = date(2026, 11, 22)
MONDAY_NOON_S = int(datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp())
DRAWS = 800
FALSE_ALARM = 1e-6

NOISE = """
id = "plaza/noise"
quantity = "noise"
protects = {{ seconds = 15{up_to} }}
readings = {{ cadence_ms = 1000, tail = {tail} }}
{epsilon}
nodes = {{ {nodes} }}
indicators = {{ {indicators} }}
bounds_db = [{low}, 85]
"""
COUNTS = """
id = "plaza/f"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = 1.0
nodes = {{ {nodes} }}
"""
LEVELS = (
    '"15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1',
    '"1h" = 1, "1d" = 24',
    '"1h" = 2, "6h" = 1, "1d" = 1, "1w" = 3',
    '"1d" = 1, "1w" = 1',
    '"6h" = 1',
    '"1h" = 1, "day" = 2, "evening" = 1, "night" = 1',
    '"1h" = 1, "night" = 1',
)

Write = Callable[..., Policy]


def noise(
    nodes: str = '"1h" = 1, "1d" = 24',
    indicators: str = "histogram = 6, mean = 3, energy = 1",
    up_to: int | None = None,
    tail: int = 11,
    low: int = 35,
    epsilon: str = "epsilon = 1.0",
) -> str:
    level = "" if up_to is None else f", up_to_db = {up_to}"
    return NOISE.format(nodes=nodes, indicators=indicators, up_to=level, tail=tail, low=low, epsilon=epsilon)


def only(policy: Policy) -> tuple[StreamPolicy, StreamPlan]:
    [made] = plan(policy).streams.values()
    return made.stream, made


def shown(policy: Policy, streets: list[street.Street] | None = None) -> dict[str, Any]:
    return preview.preview(policy, "policy.toml", street.described() if streets is None else streets, TODAY)


def rows(found: dict[str, Any], **wanted: object) -> list[dict[str, Any]]:
    every = [row for stream in found["streams"] for row in stream["nodes"]]
    return [row for row in every if all(row[key] == value for key, value in wanted.items())]


def row(found: dict[str, Any], **wanted: object) -> dict[str, Any]:
    [one] = rows(found, **wanted)
    return one


def loud(*levels: int) -> street.Street:
    """Two days on which these levels, in tenths, take turns second by second."""
    quarter = {level: 900 / len(levels) for level in levels}
    return street.Street("by hand", "", Calendar("UTC"), dict.fromkeys(range(0, 2 * 86_400, QUARTER_S), quarter), 900)


def whole_period(made: StreamPlan) -> list[tuple[str, int, int]]:
    """Every node of an ordinary period, written out from the contract: (level, start, end) in quarter-hours."""
    found = []
    week = any(node.level == "1w" for node in made.nodes)
    starts = {"day": 0, "evening": 48, "night": 64}
    for node in made.nodes:
        length = ORDINARY_QUARTERS[node.level]
        if node.level in starts:
            found.append((node.level, starts[node.level], starts[node.level] + length))
        else:
            found += [(node.level, at, at + length) for at in range(0, 672 if week else 96, length)]
    return found


@pytest.mark.parametrize("levels", LEVELS)
def test_errors_are_those_of_dense_least_squares(levels: str, write_policy: Write) -> None:
    """The standard error of each figure is the one that a matrix of all nodes of the period gives: the largest of its
    level."""
    stream = COUNTS.format(nodes=levels)
    _, made = only(write_policy(stream))
    nodes = whole_period(made)
    sigma = {node.level: node.indicators[0].sigma_milli / 1000 for node in made.nodes}
    leaf = min(end - start for _, start, end in nodes)
    design = np.array(
        [[start <= at < end for at in range(0, max(end for *_, end in nodes), leaf)] for _, start, end in nodes], float
    )
    weight = np.array([sigma[level] for level, *_ in nodes])
    covariance = np.linalg.pinv((design.T / weight**2) @ design)
    variances = np.einsum("ij,jk,ik->i", design, covariance, design)
    found = preview.standard_errors(made)
    for level in sigma:
        dense = max(v for v, (of, *_) in zip(variances, nodes, strict=True) if of == level)
        assert found[level, "crossings"] == pytest.approx(sqrt(dense), rel=1e-9)


@pytest.mark.parametrize("levels", ['"1h" = 1, "1d" = 24', '"1h" = 1, "day" = 2, "evening" = 1, "night" = 1'])
def test_errors_are_those_that_pages_will_show(levels: str, write_policy: Write) -> None:
    """On an ordinary complete day the estimator says of each figure what the preview said: error, unit and name."""
    policy = write_policy(noise(levels), timezone="UTC")
    stream, made = only(policy)
    calendar = Calendar("UTC")
    period = calendar.period([node.level for node in made.nodes], MONDAY_NOON_S)
    outcomes = []
    for node in made.nodes:
        at_s = period.start_s
        while (window := calendar.node(node.level, at_s)).start_s < period.end_s:
            at_s = window.end_s
            whole = replace(preview.ordinary(stream, node.level), start_s=window.start_s, end_s=window.end_s)
            slots = whole.slots
            exact = {"mean": (450 * slots,), "energy": (10**7 * slots,), "histogram": (slots // 10,) * 10}
            noised = [
                Noised(one.indicator, exact[one.indicator], one.sigma_milli, one.rho_micro) for one in node.indicators
            ]
            outcomes.append(Release(replace(whole, covered_from_s=window.start_s), tuple(noised)))
    largest: dict[tuple[str, str], float] = {}
    for figure in figures(outcomes, "UTC", period.end_s):
        if figure.indicator in ("level_db_mean", "energy_mean", "share_over_65_db"):
            key = figure.level, figure.indicator
            largest[key] = max(largest.get(key, 0.0), figure.standard_error)
    found = shown(policy)
    assert len(largest) == 3 * len(made.nodes)
    for (level, indicator), error in largest.items():
        assert row(found, node=level, indicator=indicator)["error_95"] == pytest.approx(NORMAL_95 * error, rel=1e-5)


def test_the_figures_of_the_contract(write_policy: Write) -> None:
    """Footfall at epsilon 1 has sigma and errors of the closed form, in the names of contract 6."""
    found = shown(write_policy("footfall"))
    [stream] = found["streams"]
    assert {"id", "epsilon", "delta", "rho_micro", "nodes", "ladder"} <= stream.keys()
    assert stream["rho_micro"] == 24355 == found["site"]["rho_micro"]
    assert row(found, node="1h") == {
        "node": "1h", "indicator": "crossings", "sigma": 9.458, "error_95": 14.9291, "unit": "1", "rho_micro": 5590,
        "sensor_error": None, "publishable": None, "at": None,
    }  # fmt: skip
    sigma0 = 1 / sqrt(2 * 24355e-6)
    for level, in_sigma0 in (("15min", 1.652), ("1h", 1.681), ("6h", 1.649), ("1d", 1.816)):
        assert row(found, node=level)["error_95"] == pytest.approx(1.96 * in_sigma0 * sigma0, rel=1e-3)
    assert stream["ladder"][0] == {"units": 1, "span": "1d", "epsilon": 0.999979, "odds": 2.71823}
    assert [(rung["span"], rung["units"]) for rung in stream["ladder"]] == list(
        itertools.product(("1d", "1w", "30d", "1y"), (1, 2, 4, 10))
    )


def test_released_costs_add_up_and_what_is_derived_is_free(write_policy: Write) -> None:
    """The charges shown sum to what a crossing of the day pays; percentiles and LAeq cost nothing more."""
    found = shown(write_policy("noise"))
    assert sum(one["rho_micro"] for one in rows(found)) <= found["streams"][0]["rho_micro"]
    assert sum(one["rho_micro"] for one in rows(found)) > found["streams"][0]["rho_micro"] - 6
    assert {one["rho_micro"] for one in rows(found) if one["sigma"] is None} == {0}
    assert {one["at"] for one in rows(found, indicator="laeq_db")} == {"quiet street", "busy street"}


def test_nothing_in_decibels_beyond_three_is_publishable(write_policy: Write) -> None:
    """A margin above 3 dB, or one without end, is marked as never shown; other units have no such rule."""
    found = shown(write_policy("noise"))
    for one in rows(found):
        within = one["error_95"] is not None and one["error_95"] <= 3
        assert one["publishable"] is (within if one["unit"] == "dB" else None), one
    assert {row(found, node="1h", indicator="level_db_mean")["publishable"]} == {False}
    assert {row(found, node="1d", indicator="level_db_mean")["publishable"]} == {True}


def test_real_noise_stays_within_the_margin(write_policy: Write) -> None:
    """19 times out of 20, or more often, a percentile or an LAeq with OpenDP's noise is as near as the preview says."""
    policy = write_policy(noise('"1d" = 1'))
    stream, made = only(policy)
    levels = street.described()[1].whole
    found = shown(policy)
    slots = preview.ordinary(stream, "1d").slots
    mechanism = DiscreteGaussian()
    misses = dict.fromkeys(("l10_db", "l50_db", "l90_db", "share_over_65_db"), 0)
    [planned] = [one for one in made.nodes[0].indicators if one.indicator == "histogram"]
    mechanism.prepare(planned)
    edges = [35 + 5 * at for at in range(11)]
    exact = tuple(round(slots * share) for share in street.binned(levels, tuple(10 * edge for edge in edges)))

    def read(bins: tuple[int, ...]) -> dict[str, float]:
        held = Histogram([float(value) for value in bins], planned.sigma_milli / 1000, edges, slots, 0, 60)
        over = held.share_over(65)
        assert over is not None
        by = {"l10_db": 0.1, "l50_db": 0.5, "l90_db": 0.9}
        return {name: held.exceeded(share).value for name, share in by.items()} | {"share_over_65_db": over.value}

    true = read(exact)
    margins = {}
    for name in misses:
        at = None if name == "share_over_65_db" else "busy street"
        margins[name] = row(found, node="1d", indicator=name, at=at)["error_95"]
    for _ in range(DRAWS):
        for name, value in read(mechanism.draw(exact, planned)).items():
            misses[name] += abs(value - true[name]) > margins[name]
    allowed = next(
        k
        for k in range(DRAWS)
        if sum(comb(DRAWS, j) * 0.05**j * 0.95 ** (DRAWS - j) for j in range(k + 1)) > 1 - FALSE_ALARM
    )
    assert max(misses.values()) <= allowed, misses
    # A margin of half the size would be caught.
    assert misses["share_over_65_db"] > DRAWS * 0.05 / 3


def test_a_margin_is_the_wider_side_on_the_median_node(write_policy: Write) -> None:
    """Three days of different levels: what is shown is the day in the middle, and the side that reaches further."""
    policy = write_policy(noise('"1d" = 1', "histogram = 1, energy = 1", 60, epsilon="epsilon = 0.3"))
    _, made = only(policy)
    middle = {420: 27.0, 470: 27.0, 520: 27.0, 570: 27.0, 620: 792.0}
    of_days = {400: 900.0}, {700: 900.0}, middle
    days = {at * QUARTER_S: of_days[at // 96] for at in range(3 * 96)}
    found = shown(policy, [street.Street("three", "", Calendar("UTC"), days, 900)])
    errors = preview.standard_errors(made)
    mean = sum(slots * energy(level) for level, slots in middle.items()) / 900
    down = -10 * log10(1 - NORMAL_95 * errors["1d", "energy"] / mean)
    laeq = row(found, indicator="laeq_db")
    assert laeq["error_95"] == pytest.approx(down, rel=1e-4)
    assert laeq["share_publishable"] == pytest.approx(2 / 3, rel=1e-5)
    bins = [0.0] + [96 * slots for slots in middle.values()] + [0.0] * 4
    held = Histogram(bins, errors["1d", "histogram"], [35.0 + 5 * at for at in range(11)], 86_400, 0, 60)
    read = held.exceeded(0.9)
    assert read.low is not None and read.high is not None
    half = (read.high - read.low) / 2
    assert half > 5
    alone = street.Street("one", "", Calendar("UTC"), dict.fromkeys(range(0, 86_400, QUARTER_S), middle), 900)
    assert row(shown(policy, [alone]), indicator="l90_db")["error_95"] == pytest.approx(half, rel=1e-4)


def test_an_hour_of_a_short_part_is_not_better_than_said(write_policy: Write) -> None:
    """Where hours of a day and of an evening differ, the larger error is shown."""
    _, made = only(write_policy(noise('"1h" = 1, "day" = 1, "evening" = 1, "night" = 1')))
    _, day_only = only(write_policy(noise('"1h" = 1, "evening" = 1')))
    hour = next(node for node in made.nodes if node.level == "1h").indicators[1].sigma_milli / 1000
    error = preview.standard_errors(made)["1h", "mean"] * 3600 * 10
    assert error < hour
    bare = next(node for node in day_only.nodes if node.level == "1h").indicators[1].sigma_milli / 1000
    assert preview.standard_errors(day_only)["1h", "mean"] * 3600 * 10 == pytest.approx(bare)


def test_a_month_is_better_by_a_root_of_thirty(write_policy: Write) -> None:
    """LAeq of thirty days has the margin of its mean energy, whose error is that of one day over sqrt(30)."""
    policy = write_policy(noise(up_to=75))
    _, made = only(policy)
    found = shown(policy, [loud(600)])
    [month] = [one for one in found["streams"][0]["monthly"] if one["indicator"] == "laeq_db"]
    error = preview.standard_errors(made)["1d", "energy"] / sqrt(30)
    assert month["error_95"] == pytest.approx(10 * log10(1 / (1 - NORMAL_95 * error / 1e6)), rel=1e-5)
    assert (month["node"], month["days"], month["at"]) == ("1d", 30, "by hand")


def test_nights_are_worse_than_months_of_nights(write_policy: Write) -> None:
    """On a busy street one night's level is not shown, and thirty nights' Ln is."""
    found = shown(write_policy(noise('"day" = 1, "evening" = 1, "night" = 1', up_to=75)))
    night = row(found, node="night", indicator="laeq_db", at="busy street")
    [month] = [
        one for one in found["streams"][0]["monthly"] if (one["indicator"], one["at"]) == ("ln_db", "busy street")
    ]
    assert (night["publishable"], month["publishable"]) == (False, True)


def test_lden_has_the_margin_of_the_estimator(write_policy: Write) -> None:
    """The margin of Lden on a street is the one that the estimator gives the same energies."""
    policy = write_policy(noise('"day" = 1, "evening" = 1, "night" = 1', up_to=70), timezone="UTC")
    stream, made = only(policy)
    busy = street.described()[1]
    outcomes = []
    for node in made.nodes:
        window = Calendar("UTC").node(node.level, MONDAY_NOON_S)
        whole = replace(
            preview.ordinary(stream, node.level),
            start_s=window.start_s, covered_from_s=window.start_s, end_s=window.end_s,
        )  # fmt: skip
        [one] = [one for one in node.indicators if one.indicator == "energy"]
        mean = street.mean_energy(busy.nodes(node.level)[0], *stream.clamp)
        outcomes.append(Release(whole, (Noised("energy", (round(mean * whole.slots),), one.sigma_milli, 1),)))
    level = lden(figures(outcomes, "UTC", MONDAY_NOON_S + 86_400))
    assert level is not None and level.low is not None
    found = row(shown(policy), indicator="lden_db", at="busy street")
    assert found["error_95"] == pytest.approx(level.estimate - level.low, rel=1e-3)
    assert found["node"] == "day+evening+night"


@pytest.mark.parametrize(("nodes", "dearest"), [('"1h" = 1, "1d" = 1', False), ('"1d" = 1, "1w" = 1', True)])
def test_a_habit_is_priced_in_its_dearest_alignment(nodes: str, dearest: bool, write_policy: Write) -> None:
    """No way to lay days over weeks costs more than what is shown, and one costs that much; a ladder that adds days up
    would say too little with a weekly node."""
    stream = COUNTS.format(nodes=nodes)
    _, made = only(write_policy(stream))
    week = made.node("1w")
    weekly = week.rho_micro if week else 0
    for days in (1, 2, 6, 7, 8, 13, 14, 15, 30, 365):
        prices = []
        for monday in range(7):
            within: dict[int, int] = {}
            for day in range(days):
                within[(day + monday) // 7] = within.get((day + monday) // 7, 0) + 1
            together = sum(count * count for count in within.values()) * weekly
            prices.append(days * (made.rho_micro - weekly) + together)
        assert preview.habit_rho_micro(made, days) == max(prices)
        assert (max(prices) > days * made.rho_micro) is (dearest and days > 1)
    year = next(rung for rung in preview.ladder(made) if rung["span"] == "1y" and rung["units"] == 4)
    rho = Decimal(16 * preview.habit_rho_micro(made, 365)) / accountant.MICRO
    assert year["epsilon"] == pytest.approx(float(accountant.epsilon(rho, made.stream.delta)), rel=1e-5)


def test_the_described_streets_are_what_they_say() -> None:
    """A quiet street has an LAeq of 46 dB and a busy one of 65, computed from the levels that are stated; nights are
    quieter."""
    quiet, busy = street.described()
    assert [round(street.laeq_db(one.whole)) for one in (quiet, busy)] == [46, 65]
    assert "day 45 ± 5, evening 42 ± 5, night 36 ± 4" in quiet.says
    for one in (quiet, busy):
        assert sum(one.whole.values()) == pytest.approx(1)
        assert street.laeq_db(one.nodes("night")[0]) < street.laeq_db(one.nodes("day")[0]) - 5
        # The normal law's own formula: LAeq = median + ln(10)/20 deviation^2.
    assert street.laeq_db(quiet.nodes("day")[0]) == pytest.approx(45 + np.log(10) / 20 * 25, abs=0.05)


def test_a_proposal_is_the_lowest_level_that_leaves_little_out(write_policy: Write) -> None:
    """Of the 5-dB steps, the first that leaves out at most 1 % of events, not the first that at most 1 % of the time
    exceeds; lower ones leave more out, higher ones have more noise."""
    stream, _ = only(write_policy(noise(up_to=80)))
    found = preview.fit(write_policy(noise(up_to=80)), stream, street.described()[1])
    assert found is not None
    steps = {step["up_to_db"]: step for step in found["steps"]}
    proposed = found["proposed"]
    assert proposed == steps[85] and proposed["events"] <= 0.01 < steps[80]["events"]
    assert steps[75]["louder"] <= 0.01 < steps[70]["louder"]
    assert found["of_policy"] == steps[80] and not steps[80]["publishable"]
    assert found["highest_publishable"] == steps[75]
    shares = [step["events"] for step in found["steps"]]
    assert shares == sorted(shares, reverse=True)
    errors = [step["error_95"] for step in found["steps"] if step["error_95"] is not None]
    assert errors == sorted(errors)
    assert found["share_of_budget"] == 0.1


def test_a_level_that_does_not_fit_is_said_with_the_best_there_is(write_policy: Write) -> None:
    """Where the proposed level's margin is above 3 dB, the highest one within it is named too."""
    policy = write_policy(noise())
    found = preview.fit(policy, policy.streams[0], street.described()[0])
    assert found is not None and found["of_policy"] is None
    assert (found["proposed"]["up_to_db"], found["proposed"]["publishable"]) == (65, False)
    assert found["highest_publishable"]["up_to_db"] == 55


def test_clamping_biases_what_a_level_does_not(write_policy: Write) -> None:
    """A street at 60 and 95 dB in turn: clamped at 85 its LAeq loses 10 dB, unit (b) loses nothing."""
    policy = write_policy(noise(indicators="energy = 1"))
    found = preview.fit(policy, policy.streams[0], loud(600, 950))
    assert found is not None
    assert found["clamped"]["bias_db"] == pytest.approx(-9.99, abs=0.01)
    assert found["floor_bias_db"] == 0
    assert found["steps"][-1]["up_to_db"] == 95
    louder = {step["up_to_db"]: step["louder"] for step in found["steps"]}
    assert (louder[55], louder[60], louder[90], louder[95]) == (1, 0.5, 0.5, 0)


@pytest.mark.parametrize("level", [-50, 2000, 100_000])
def test_a_broken_recording_ends_in_figures_too(level: int, write_policy: Write) -> None:
    """Levels that no meter shows give a preview, not a traceback."""
    assert shown(write_policy("noise"), [loud(level)])["streams"][0]["up_to"]


def test_a_histogram_alone_has_no_level_to_propose(write_policy: Write) -> None:
    """Its sensitivity does not depend on one, and a policy that names one is told so."""
    policy = write_policy(noise(indicators="histogram = 1", up_to=75))
    found = shown(policy)
    assert found["streams"][0]["up_to"] == []
    assert "up_to_db: makes a histogram no better" in found["warnings"][0]
    mean_only = write_policy(noise(indicators="mean = 1"))
    assert shown(mean_only)["streams"][0]["up_to"][0]["indicator"] == "level_db_mean"


@pytest.mark.shared
def test_the_quiet_recording_has_the_error_that_was_foreseen(shared: Path, write_policy: Write) -> None:
    """Twelve recorded hours of 46 dB, FAST meter, the whole budget of epsilon 1 on the energy of the half day: up to
    60 dB the error is 0.18 dB (one standard error); up to 75 dB it is 32 times as much, and not shown."""
    whole = noise('"day" = 1', "energy = 1", 60, 0)
    policy = write_policy(whole)
    stream, _ = only(policy)
    file = shared / "data/noise/monitor_m1_laeq1s_2025-03-22_am.csv.gz"
    recorded = street.recorded(recording.read(file, stream, None, None), stream, policy.timezone)
    assert recorded.name == "monitor-m1"
    levels = recorded.whole
    assert street.laeq_db(levels) == pytest.approx(46.1, abs=0.05)
    mean = street.mean_energy(levels, *stream.clamp)
    errors = {}
    for up_to in (600, 750):
        trial = replace(policy, streams=(replace(stream, up_to=up_to),))
        errors[up_to] = preview.standard_errors(plan(trial).streams[stream.id])["day", "energy"] / mean
    assert 10 / np.log(10) * errors[600] == pytest.approx(0.18, abs=0.005)
    assert 10 / np.log(10) * errors[750] == pytest.approx(5.7, abs=0.1)
    found = preview.fit(policy, stream, recorded)
    assert found is not None
    assert found["proposed"]["up_to_db"] == 60 and found["highest_publishable"]["up_to_db"] == 65


def test_a_recording_is_taken_slot_by_slot(tmp_path: Path, write_policy: Write) -> None:
    """One reading a slot, the first; coarse rows are held, holes stay holes; a node counts from half its slots on."""
    stream, _ = only(write_policy(noise()))
    file = tmp_path / "r.csv"
    lines = [",".join(recording.HEADER)]
    for second in (0, 1, 1.5, 2, 1799, 1800, 7200):
        at = datetime.fromtimestamp(MONDAY_NOON_S + second, UTC).isoformat().replace("+00:00", "Z")
        lines.append(f"{at},pole,laeq_1s,{50 + second % 1800:g},dB")
    file.write_text("\n".join(lines) + "\n")
    found = street.recorded(recording.read(file, stream, None, None), stream, "UTC")
    assert found.name == "pole"
    assert found.quarters == {
        MONDAY_NOON_S: {500: 1, 510: 1, 520: 2},
        MONDAY_NOON_S + 900: {18490: 1},
        MONDAY_NOON_S + 1800: {500: 2},
        MONDAY_NOON_S + 7200: {500: 1},
    }
    assert found.nodes("1h") == [found.whole], "nothing is whole, so the street goes on like this"
    half = {MONDAY_NOON_S: {500: 900.0}, MONDAY_NOON_S + 900: {600: 900.0}, MONDAY_NOON_S + 3600: {700: 900.0}}
    levels = replace(found, quarters=half).nodes("1h")
    assert levels == [{500: 0.5, 600: 0.5}]


def test_a_coarse_recording_says_so(tmp_path: Path, write_policy: Write) -> None:
    """Levels of a minute hold nothing that is shorter, and the street's description says it."""
    stream, _ = only(write_policy(noise()))
    file = tmp_path / "r.csv"
    minutes = (f"2026-01-05T12:{minute:02}:00Z,pole,laeq_1min,50,dB" for minute in range(30))
    file.write_text("\n".join([",".join(recording.HEADER), *minutes]) + "\n")
    found = street.recorded(recording.read(file, stream, None, None), stream, "UTC")
    assert found.says == "recorded, one reading every 60 s, so that what is shorter is not in it"
    assert found.quarters[MONDAY_NOON_S] == {500: 15} and found.slots == 15


def levels_of(tmp_path: Path, levels: dict[int, float], stream: StreamPolicy, metric: str = "laeq_1s") -> street.Street:
    """Returns a recording of these levels, by second after noon, as a street."""
    file = tmp_path / "levels.csv"
    lines = [",".join(recording.HEADER)]
    for second, level in levels.items():
        at = datetime.fromtimestamp(MONDAY_NOON_S + second, UTC).isoformat().replace("+00:00", "Z")
        lines.append(f"{at},pole,{metric},{level},dB")
    file.write_text("\n".join(lines) + "\n")
    return street.recorded(recording.read(file, stream, None, None), stream, "UTC")


def brute(levels: dict[int, float], length: int, above: float) -> float:
    """Returns the share of runs of `length` seconds that touch a reading above a level. Runs end with a reading and
    begin after no silence as long as they are; a second without a reading repeats the one before it."""
    heard = {at + 1: level for at, level in levels.items() if at < max(levels)} | levels
    runs, began, before = [], -1, -length
    for last in sorted(heard):
        began = last if last - before >= length else began
        before = last
        if last - length + 1 >= began:
            runs.append(any(heard.get(at, 0) > above for at in range(last - length + 1, last + 1)))
    return sum(runs) / len(runs)


def test_one_loud_second_leaves_out_every_event_around_it(tmp_path: Path, write_policy: Write) -> None:
    """Ten minutes with one loud second: 1 reading in 600, but 27 of the 574 events of 27 readings."""
    stream, _ = only(write_policy(noise()))
    levels = {second: 80.0 if second == 300 else 50.0 for second in range(600)}
    found = levels_of(tmp_path, levels, stream)
    assert stream.unit_readings == 27
    assert found.left_out(750, 27) == pytest.approx(27 / 574)
    assert found.left_out(800, 27) == 0 and found.left_out(799, 27) > 0 and found.left_out(490, 27) == 1
    assert street.louder(found.whole, 750) == pytest.approx(1 / 600)
    fit = preview.fit(write_policy(noise()), stream, found)
    assert fit is not None and fit["events_exact"] and fit["unit_readings"] == 27
    steps = {step["up_to_db"]: (step["events"], step["louder"]) for step in fit["steps"]}
    assert steps[75] == (pytest.approx(27 / 574, rel=1e-5), pytest.approx(1 / 600, rel=1e-5))
    assert fit["proposed"]["up_to_db"] == 80, "0.17 % of the readings are above 50 dB, 4.7 % of the events touch one"


@pytest.mark.parametrize("salt", range(6))
def test_events_are_those_counted_by_hand(salt: int, tmp_path: Path, write_policy: Write) -> None:
    """Random levels with short and long holes: the share of events above any level is that of a plain count."""
    stream, _ = only(write_policy(noise(tail=salt)))
    draw = np.random.default_rng(salt)
    levels = {at: float(draw.integers(40, 90)) for at in range(700) if draw.random() > 0.05 and not 300 < at < 330}
    found = levels_of(tmp_path, levels, stream)
    for above in (45, 60, 75, 85, 88, 89):
        assert found.left_out(above * 10, 16 + salt) == pytest.approx(brute(levels, 16 + salt, above)), above


def test_events_of_a_coarse_recording_begin_anywhere_in_a_step(tmp_path: Path, write_policy: Write) -> None:
    """Levels held for a minute: of events of 27 s that begin at any of its seconds, 26 in 60 reach into the next."""
    stream, _ = only(write_policy(noise()))
    levels = {60 * minute: 80.0 if minute == 10 else 50.0 for minute in range(30)}
    found = levels_of(tmp_path, levels, stream, "laeq_1min")
    assert found.left_out(700, 27) == pytest.approx(34 / 60 * 1 / 30 + 26 / 60 * 2 / 29)


def test_a_recording_shorter_than_an_event_is_one(tmp_path: Path, write_policy: Write) -> None:
    """Ten seconds of which one is loud: an event that touches them all is left out."""
    stream, _ = only(write_policy(noise()))
    found = levels_of(tmp_path, {second: 80.0 if second == 3 else 50.0 for second in range(10)}, stream)
    assert (found.left_out(750, 27), found.left_out(800, 27)) == (1, 0)


def test_a_described_street_tells_the_most_that_can_be_left_out(write_policy: Write) -> None:
    """Without an order of moments: as if each loud moment spoilt events of its own, never more than all of them."""
    stream, _ = only(write_policy(noise()))
    by_hand = replace(loud(600), quarters={0: {600: 899.0, 800: 1.0}})
    assert by_hand.left_out(700, 27) == pytest.approx(27 / 900)
    assert by_hand.left_out(500, 27) == 1 and by_hand.left_out(800, 27) == 0
    fit = preview.fit(write_policy(noise()), stream, by_hand)
    assert fit is not None and not fit["events_exact"]


AIR = """
id = "plaza/pm10"
quantity = "pm10"
protects = {{ seconds = 60{up_to} }}
readings = {{ cadence_ms = 1000, tail = 2 }}
epsilon = 1.0
nodes = {{ "1h" = 1, "1d" = 24 }}
bounds = [0, 100]
"""


def test_a_level_for_air_is_proposed_by_events_too(tmp_path: Path, write_policy: Write) -> None:
    """Of 1, 2, 5, 10, 20, 50, ... micrograms, the first that leaves out at most 1 % of events of 63 readings; errors
    grow with the level, and the rule of 3 dB has no say."""
    policy = write_policy(AIR.format(up_to=", up_to = 30"))
    stream, _ = only(policy)
    levels = {second: 45.0 if second == 1000 else 7.0 for second in range(2000)}
    found = preview.fit(policy, stream, levels_of(tmp_path, levels, stream, "pm10"))
    assert found is not None and (found["indicator"], found["unit"]) == ("pm10_ug_m3", "ug/m3")
    steps = {step["up_to"]: step for step in found["steps"]}
    assert list(steps) == [1, 2, 5, 10, 20, 50]
    assert [steps[up_to]["events"] for up_to in (5, 10, 50)] == [1, pytest.approx(63 / 1938, rel=1e-5), 0]
    assert found["proposed"] == steps[50] and found["highest_publishable"] is None
    assert found["of_policy"]["up_to"] == 30 and steps[50]["error_95"] == pytest.approx(5 * steps[10]["error_95"], 1e-3)
    assert found["clamped"]["high"] == 100 and found["clamped"]["bias"] == 0 and found["floor_bias"] == 0
    dusty = preview.fit(policy, stream, levels_of(tmp_path, dict.fromkeys(range(200), 130.0), stream, "pm10"))
    assert dusty is not None and dusty["clamped"]["bias"] == -30


def test_an_end_bin_is_previewed_as_a_bound(write_policy: Write) -> None:
    """A street of 31 and 99 dB in turn with bounds from 35 to 85: L90 is told as at most 40 dB, L10 as at least 80,
    neither as a number."""
    found = shown(write_policy(noise('"1d" = 1')), [loud(310, 990)])
    l90, l10 = (row(found, node="1d", indicator=name) for name in ("l90_db", "l10_db"))
    assert (l90["at_most_db"], l90["at_least_db"], l90["publishable"], l90["error_95"]) == (40, None, False, None)
    assert (l10["at_most_db"], l10["at_least_db"], l10["publishable"]) == (None, 80, False)
    assert row(found, node="1d", indicator="laeq_db")["at_most_db"] is None
    monthly = {one["indicator"]: one for one in found["streams"][0]["monthly"]}
    assert (monthly["l90_db"]["at_most_db"], monthly["l10_db"]["at_least_db"]) == (40, 80)


def test_years_are_looked_at_in_a_thousand_places() -> None:
    """Of a long recording the nodes looked at are spread evenly over it."""
    days = {at * QUARTER_S: {at: 1.0} for at in range(96 * 30)}
    found = street.Street("long", "", Calendar("UTC"), days, 1).nodes("15min")
    assert len(found) == 1000
    assert [next(iter(levels)) for levels in found[:4]] == [0, 2, 5, 8]
    assert [next(iter(levels)) for levels in found[-1:]] == [96 * 30 - 3]


def test_the_rows_and_the_fit_speak_of_the_same_node(write_policy: Write) -> None:
    """What the fit says of the policy's own level is the margin of LAeq in the rows."""
    found = shown(write_policy(noise(up_to=60)))
    for fit in found["streams"][0]["up_to"]:
        assert fit["of_policy"]["error_95"] == row(found, node="1d", indicator="laeq_db", at=fit["at"])["error_95"]


def test_dates_pauses_caps_and_lengths_are_warned_about(write_policy: Write) -> None:
    """A preview says what would keep a policy from being published, and goes on."""
    cap = 'epsilon = 1.0\ncap = { units_per_day = 2, span = "1y", epsilon = 30 }\npaused = true'
    ends = "valid_until = 2028-12-31", "valid_until = 2026-01-31\npaused = true"
    policy = write_policy("footfall", swap=(("epsilon = 1.0", cap), ends))
    found = shown(policy)
    [stream] = found["streams"]
    assert stream["cap"]["days"] == stream["cap"]["rho_micro"] // (4 * 24355) == 92
    assert [warning.split("; ")[-1] for warning in found["warnings"]] == [
        "valid_until 2026-01-31 is past: nothing would be published",
        "paused: nothing would be published",
        "plaza/footfall: paused: nothing of it would be published",
        "the policy ends before, after 31",
    ]
    longer = shown(write_policy("footfall", swap=(("epsilon = 1.0", cap),)))
    assert longer["warnings"][-1] == (
        "plaza/footfall: cap: lasts for 92 of the 365 days of its span; later days are withheld"
    )


def test_a_cap_of_weeks_says_what_a_habit_costs(write_policy: Write) -> None:
    """With a weekly node a daily habit costs more than the cap adds up, and the preview gives its true epsilon."""
    cap = ("epsilon = 1.0", 'epsilon = 1.0\ncap = { units_per_day = 1, span = "1y", epsilon = 30 }')
    policy = write_policy("footfall", swap=(cap, ('"1d" = 1 }', '"1d" = 1, "1w" = 1 }')))
    _, made = only(policy)
    [warning] = shown(policy)["warnings"]
    epsilon = next(rung["epsilon"] for rung in preview.ladder(made) if (rung["units"], rung["span"]) == (1, "1y"))
    assert warning.endswith(f"over 1y epsilon {epsilon:.3g}") and epsilon > 40


def test_habits_in_every_stream_of_a_site_add_up(write_policy: Write) -> None:
    """Each rung of a site is that of its streams' sums, at the largest delta; days under a cap are of the one that has
    it, and never more than its span."""
    cap = ("crossings = 1 }", 'crossings = 1 }\ncap = { units_per_day = 1, span = "1y", epsilon = 5 }')
    made = plan(write_policy("footfall", "noise", swap=(cap, ('"6h" = 1, "1d" = 1', '"6h" = 1, "1d" = 1, "1w" = 1'))))
    delta = max(one.delta for one in made.policy.streams)
    days = {"1d": 1, "1w": 7, "30d": 30, "1y": 365}
    rungs = preview.site_ladder(made)
    assert [(rung["span"], rung["units"]) for rung in rungs] == list(itertools.product(days, (1, 2, 4, 10)))
    for rung in rungs:
        together = sum(preview.habit_rho_micro(one, days[rung["span"]]) for one in made.streams.values())
        exact = accountant.epsilon(Decimal(rung["units"] ** 2 * together) / accountant.MICRO, delta)
        assert rung["epsilon"] == pytest.approx(float(exact), rel=1e-5) and rung["epsilon"] >= float(exact) * (
            1 - 1e-12
        )
        assert (rung["odds"] is None) == (exact >= -delta.ln())
    for one in made.streams.values():
        fits = preview.cap_days(one)
        assert (fits is None) == (one.stream.cap is None)
        if fits is not None:
            limit = accountant.rho_micro(Decimal(5), one.stream.delta)
            assert 0 < fits * one.rho_micro <= limit < (fits + 1) * one.rho_micro


def test_a_plan_too_long_for_a_message_is_warned_about(write_policy: Write) -> None:
    """What `check` refuses for its length is previewed with a warning."""
    streams = [
        noise('"15min" = 1, "1h" = 1, "6h" = 1, "1d" = 24').replace("plaza/noise", f"plaza/n{n}") for n in range(9)
    ]
    assert any(
        "bytes of 4096: check refuses it" in warning for warning in shown(write_policy(*streams), [])["warnings"]
    )


def with_target(text: str, target: str) -> bytes:
    return text.replace("epsilon = 1.0", target, 1).encode()


@pytest.mark.parametrize(
    ("stream", "node", "error_95"),
    [
        ("footfall", "1h", 15),
        ("footfall", "15min", 3.5),
        ("pm2_5", "1d", 0.5),
        ("noise", "1h", 4),
        ("footfall", "1d", 2000),
    ],
)
def test_a_target_takes_the_smallest_epsilon(
    stream: str, node: str, error_95: float, policy_text: Callable[..., str], write_policy: Write
) -> None:
    """The epsilon has three digits, meets the target, and the one below does not, or leaves a node without budget."""
    text = policy_text(stream)
    policy, solved = preview.read(
        with_target(text, f'target = {{ node = "{node}", error_95 = {error_95} }} # wanted'), "policy.toml"
    )
    [target] = solved.values()
    [made] = plan(policy).streams.values()
    assert policy == parse(with_target(text, f"{target.line} # wanted"), "policy.toml")
    assert made.stream.epsilon == target.epsilon
    indicator = "crossings" if stream == "footfall" else "mean"

    def reached(epsilon: Decimal) -> float:
        try:
            [trial] = plan(replace(policy, streams=(replace(made.stream, epsilon=epsilon),))).streams.values()
        except ConfigError:
            return inf
        return NORMAL_95 * preview.standard_errors(trial)[node, indicator]

    assert reached(target.epsilon) <= error_95
    step = Decimal(1).scaleb(target.epsilon.adjusted() - 2)
    assert len(target.epsilon.normalize().as_tuple().digits) <= 3
    below = target.epsilon - (step if target.epsilon.as_tuple().digits[:3] != (1, 0, 0) else step / 10)
    assert reached(below) > error_95


def test_two_targets_are_solved_each_for_itself(policy_text: Callable[..., str]) -> None:
    """Each line becomes the epsilon of its own stream; a cap beside a target plays no part in solving it."""
    text = policy_text("footfall", "noise", "pm2_5").replace(
        "epsilon = 1.0",
        'target = { node = "1h", error_95 = 15 }\ncap = { units_per_day = 1, span = "1y", epsilon = 40 }',
        1,
    )
    head, _, tail = text.rpartition("epsilon = 1.0")
    policy, solved = preview.read(f'{head}target = {{ node = "1d", error_95 = 1 }}{tail}'.encode(), "policy.toml")
    assert list(solved) == ["plaza/footfall", "plaza/pm2_5"]
    by_id = {stream.id: stream.epsilon for stream in policy.streams}
    assert {name: by_id[name] for name in solved} == {name: target.epsilon for name, target in solved.items()}
    assert by_id["plaza/noise"] == 1


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ('target = { node = "1h", error_95 = 0.001 }', "target.error_95: 0.001 takes an epsilon above 100"),
        ('target = { node = "1w", error_95 = 15 }', "target.node: is no node of the stream; write one of 15min, 1h"),
        ('target = { node = "1h", error_95 = 0 }', "target.error_95: is no positive number"),
        ('target = { node = "1h", error_95 = true }', "target.error_95: is no positive number"),
        ('target = { node = "1h", error_95 = "x" }', "target.error_95: is no positive number"),
        ('target = { node = "1h", error_95 = inf }', "target.error_95: is no positive number"),
        ('target = { node = ["1h"], error_95 = 1 }', "target.node: is no node of the stream"),
        ('target = { node = "1h", error_95 = nan }', "target"),
        ('target = { node = "1h" }', "target: is not a node and an error_95"),
        ("target = 15", "target"),
        ('target.node = "1h"\ntarget.error_95 = 15', "target: does not stand on a line of its own"),
        ('epsilon = 1.0\ntarget = { node = "1h", error_95 = 15 }', "target: stands beside epsilon"),
    ],
)
def test_a_target_that_cannot_be_is_one_line(target: str, said: str, policy_text: Callable[..., str]) -> None:
    """A target that is written wrong, or that no epsilon meets, names file and key."""
    with pytest.raises(ConfigError) as refused:
        preview.read(with_target(policy_text("footfall"), target), "policy.toml")
    assert str(refused.value).startswith("policy.toml: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_levels_without_a_mean_have_no_target(policy_text: Callable[..., str]) -> None:
    """What depends on the street has no error that an epsilon alone decides."""
    text = policy_text(noise(indicators="energy = 1", epsilon='target = { node = "1h", error_95 = 1 }'))
    with pytest.raises(ConfigError, match="levels have an error of their own only as means"):
        preview.read(text.encode(), "policy.toml")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"stream = 5",
        b"stream = [1]",
        b"[[stream]]\ntarget = 1",
        b"= 3",
        b'[[stream]]\ntarget = {a=1}\nid = "\\n"',
    ],
)
def test_a_file_that_is_no_policy_is_one_line(data: bytes) -> None:
    """Whatever the bytes: file, key and mend."""
    with pytest.raises(ConfigError) as refused:
        preview.read(data, "policy.toml")
    assert "\n" not in str(refused.value)


def test_energies_are_those_of_the_kernel() -> None:
    """A street's mean energy is the kernel's own function of each level, held between floor and ceiling."""
    assert street.mean_energy({300: 0.25, 600: 0.5, 900: 0.25}, 350, 850) == (
        energy(350) / 4 + energy(600) / 2 + energy(850) / 4
    )
    assert street.binned({-10: 0.25, 350: 0.25, 399: 0.25, 900: 0.25}, (350, 400, 450)) == [0.75, 0.25]
