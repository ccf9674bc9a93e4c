"""What is published is as close to the truth as theory allows: the targets of docs/utility.md, at small size."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from math import pi, sin, sqrt
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from murmure_privacy import plan as planning
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import IndicatorPlan
from murmure_privacy.window import Window

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # benchmarks/ is installed nowhere

from benchmarks.utility import __main__ as command  # noqa: E402
from benchmarks.utility import air, bound, footfall, habits, kernel, noise, peers, recorded, report  # noqa: E402
from benchmarks.utility.errors import Error, summary  # noqa: E402

ABOVE_AT_MOST = 0.01
ROUNDING = 1e-9
STANDARD_ERRORS = 5.5  # of a mean of thousands: beyond it once in 26 million
PEER_DAYS = 200
LEVEL_REPEATS = 100
LOUD_DAYS_EVERY = 60


@pytest.fixture(scope="module")
def mechanism() -> DiscreteGaussian:
    return DiscreteGaussian()


class Doubled(DiscreteGaussian):
    """A twin that adds its noise twice."""

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        return super().draw(super().draw(exact, indicator), indicator)


def mean_square_off(error: Error, sigma: float) -> float:
    """Returns how many standard errors the mean of squares is from sigma squared, if the clusters were one figure each
    (those of a day have more, so the truth is closer)."""
    return abs(error.rmse**2 / sigma**2 - 1) / sqrt(2 / error.clusters)


@pytest.mark.parametrize(("nodes", "means"), command.WEIGHTINGS)
def test_weighted_error_is_within_a_hundredth_of_the_bound(nodes: str, means: bool) -> None:
    """No unbiased linear Gaussian mechanism has a weighted error more than 1 % below that of the published figures, and
    none that is below the bound exists."""
    found = bound.gap(nodes, means)
    assert -ROUNDING < found.above < ABOVE_AT_MOST


def test_equal_shares_are_caught_by_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: with the budget shared out equally, the weighted error of hours and days is further off than that."""

    def equal(nodes: Sequence[tuple[str, Decimal]], counts: bool) -> Mapping[str, Fraction]:
        return {level: Fraction(1, len(nodes)) for level, _ in nodes}

    monkeypatch.setattr(planning, "shares", equal)
    monkeypatch.setattr(planning, "_budgets", inspect.unwrap(planning._budgets))  # nothing remembered of the true ones
    assert bound.gap(air.NODES, means=True).above > ABOVE_AT_MOST


@pytest.mark.parametrize("leaves", [24, 96])
def test_the_bound_of_prefix_sums_is_the_known_one(leaves: int) -> None:
    """For running totals the bound at equal weights is the closed sum over singular values; the ascent only raises it,
    and no further than a mechanism that exists."""
    blocks = [bound.Block(0, end, 1 / leaves) for end in range(1, leaves + 1)]
    rows = bound.workload(blocks, leaves, means=False)
    closed = sum(1 / (2 * sin((2 * j - 1) * pi / (4 * leaves + 2))) for j in range(1, leaves + 1)) / leaves
    assert bound.least_rms(rows) == pytest.approx(closed, rel=1e-9)
    column = [1.0]
    for k in range(1, leaves):
        column.append(column[-1] * (2 * k - 1) / (2 * k))
    squares = np.cumsum(np.square(column))
    toeplitz_rms = sqrt(squares[-1] * squares.mean())
    assert closed < bound.least_rms(rows, steps=20) < toeplitz_rms


def test_footfall_is_as_close_as_promised() -> None:
    """At epsilon 1, one crossing and equal weights, quarter-hours and hours are off by less than 8 persons, days by
    less than 9, and by less than a fifth of what independent noise makes of them."""
    stated = footfall.stated("1")
    made = kernel.planned(kernel.FOOTFALL.format(crossings=1, nodes='{ "15min" = 1 }'), "1", "UTC")
    [alone] = made.streams[kernel.STREAM].nodes
    independent = sqrt(footfall.ORDINARY_LEAVES) * alone.indicators[0].sigma_milli / 1000
    assert max(stated["15min"], stated["1h"]) < 8
    assert stated["1d"] < 9
    assert independent / stated["1d"] > 5


@pytest.mark.shared
def test_recorded_days_are_off_by_what_is_stated(mechanism: DiscreteGaussian) -> None:
    """Figures of recorded days, drawn from OpenDP, are off by their stated standard error, and unbiased; noise added
    twice is caught."""
    streets = footfall.streets(recorded.MUENSTER[:1])
    stated = footfall.stated("1")
    found = footfall.ours(streets, "1", mechanism, repeats=2)
    for level, sigma in stated.items():
        assert mean_square_off(found[level], sigma) < STANDARD_ERRORS, level
        assert abs(found[level].bias) < STANDARD_ERRORS * sigma / sqrt(found[level].clusters), level
    twin = footfall.ours(streets, "1", Doubled(), repeats=2)
    assert max(mean_square_off(twin[level], sigma) for level, sigma in stated.items()) > STANDARD_ERRORS


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # quarter-hour, hour, six hours, day, in units of 1/sqrt(2 rho), from the matrices
        ("independent", (1.0, 2.0, 4.899, 9.798)),
        ("binary tree", (2.061, 1.620, 2.092, 2.056)),
        ("square-root Toeplitz", (1.788, 2.303, 2.733, 2.518)),
    ],
)
def test_other_mechanisms_are_measured_fairly(
    name: str, expected: Sequence[float], mechanism: DiscreteGaussian
) -> None:
    """The mechanisms beside ours have the errors that their matrices give them at our rho."""
    leaves = np.full((PEER_DAYS, footfall.ORDINARY_LEAVES), 20, dtype=np.int64)
    rho_micro = kernel.planned(kernel.FOOTFALL.format(crossings=1, nodes=footfall.EQUAL), "1", "UTC")
    budget = peers.Budget(1.0, rho_micro.streams[kernel.STREAM].rho_micro, 1)
    lengths = tuple(footfall.LENGTHS.values())
    blocks = peers.PEERS[name](leaves, budget, lengths, mechanism)
    unit = sqrt(1e6 / (2 * budget.rho_micro))
    for length, factor in zip(lengths, expected, strict=True):
        assert mean_square_off(summary(list(blocks[length])), factor * unit) < STANDARD_ERRORS, length


def test_laplace_is_better_for_one_crossing_and_worse_for_a_habit() -> None:
    """At equal epsilon for one crossing, Laplace noise on the same nodes is closer; at equal epsilon for someone who
    crosses on ten days or more, ours is."""
    lengths = tuple(footfall.LENGTHS.values())
    laplace, ours = habits.laplace_exact_rmse(1.0, lengths)[96], footfall.stated("1")["1d"]
    by_days = {habit.days: habit.laplace_error for habit in habits.habits("1", laplace)}
    assert by_days[1] == pytest.approx(laplace, rel=1e-4)
    assert laplace < ours
    assert all(error > ours for days, error in by_days.items() if days >= 10)


def test_for_a_habit_ours_is_better_by_weight_but_laplace_keeps_the_day_of_means() -> None:
    """Of hourly and daily means, weights 1 and 24, Laplace noise per level at equal epsilon for an event on each day of
    a year has the larger weighted error and the larger hour, and still the smaller day."""
    setting = air.STREAMING
    budget = peers.budget_of_mean(setting.toml(), "1")
    grown = habits.growth(365, 2, "1")
    laplace = habits.laplace_exact_rmse(1.0, (1, 24))
    day_ug_m3 = grown * laplace[24] * budget.sensitivity / (24 * 3600 * 10)
    ours = bound.gap(air.NODES, means=True).ours
    assert day_ug_m3 < air.stated_day_ug_m3(setting, "1")
    assert grown == pytest.approx(sqrt(1e6 / (2 * budget.rho_micro)) / sqrt(2), rel=1e-3)
    assert 1 < habits.means_turn(ours, "1", 2) < habits.means_turn(ours, "1", 1) < 30
    weighted = grown * sqrt((laplace[1] ** 2 + 24 * (laplace[24] / 24) ** 2) / 25)
    assert weighted > ours * sqrt(1e6 / (2 * budget.rho_micro))


def test_a_peer_of_the_mean_hides_what_the_plan_hides() -> None:
    """The other mechanisms of a mean hide the sensitivity that the plan hides, with the whole of its rho."""
    for text in (air.STREAMING.toml(), noise.Setting(None, shares=noise.MEAN_ALONE).toml()):
        made = kernel.planned(text, "1", "UTC").streams[kernel.STREAM]
        budget = peers.budget_of_mean(text, "1")
        for node in made.nodes:
            assert [one.sensitivity_sq for one in node.indicators] == [budget.sensitivity**2]
        assert sum(one.rho_micro for node in made.nodes for one in node.indicators) <= budget.rho_micro


@pytest.mark.shared
def test_daily_laeq_of_loud_streets_is_close(mechanism: DiscreteGaussian) -> None:
    """On recorded days of 60 dB or more, daily LAeq is within 0.3 dB RMSE at epsilon 1 for sounds up to 75 dB, with six
    tenths of the budget on energy, and unbiased."""
    days, _ = noise.dublin_days(LOUD_DAYS_EVERY, recorded.DUBLIN[2:3])
    sounds = [(day, noise.observed(day, noise.TARGET)) for day in days]
    table = noise.ours(sounds, noise.TARGET, "1", mechanism, LEVEL_REPEATS, ("energy",))
    found = table["1d", "laeq_db"]
    assert found.error is not None
    assert found.silent == 0
    assert found.error.rmse < 0.3
    assert abs(found.error.bias) < STANDARD_ERRORS * found.error.rmse / sqrt(found.error.count)


@pytest.mark.shared
def test_a_clamp_biases_a_loud_street_and_a_level_does_not() -> None:
    """Beside a busy road the clamped daily LAeq is too low; under the unit that is bounded by a level it is exact."""
    street = noise.loud()
    off = {}
    for setting in (noise.Setting(None, noise.DAY_ONLY, bounds_db=(35, 75)), noise.Setting(75, noise.DAY_ONLY)):
        [span] = noise.observed(street, setting)
        [day] = span.aggregates
        exact = 10 ** (noise.laeq_db(street.between(span.window)) / 10)
        off[setting.up_to_db] = day.sums["energy"][0] / day.node.slots / exact - 1
    assert off[None] < -0.4
    assert abs(off[75]) < 1e-6


def test_air_noise_is_below_a_tenth_of_the_sensor() -> None:
    """At epsilon 1, with a reading a second, the noise on daily PM2.5 is below a tenth of the datasheet's error."""
    assert air.stated_day_ug_m3(air.STREAMING, "1") < air.DATASHEET_UG_M3 / 10


@pytest.mark.shared
def test_recorded_air_is_off_by_what_is_stated(mechanism: DiscreteGaussian) -> None:
    """Daily PM2.5 of recorded sensors, drawn from OpenDP, is off by the stated standard error."""
    places = air.places(recorded.COLOCATED[:1], [air.STREAMING])
    found = air.ours(places[air.STREAMING.name], air.STREAMING, "1", mechanism, repeats=200)
    assert mean_square_off(found.noise["1d"], air.stated_day_ug_m3(air.STREAMING, "1")) < STANDARD_ERRORS


def test_the_page_says_that_every_target_is_met() -> None:
    """docs/utility.md, written by the command, misses no target and shows each of its pictures."""
    text = (ROOT / "docs" / "utility.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| (yes|\*\*no\*\*) \|$", text, re.MULTILINE)
    assert rows == ["yes"] * 6
    for name in report.PICTURES:
        assert f"(pictures/{name}.svg)" in text


@pytest.mark.parametrize("name", report.PICTURES)
def test_pictures_speak_for_themselves(name: str) -> None:
    """Each picture is well-formed, has a title and a description, and colours for a dark page."""
    text = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    for part in ("title", "desc"):
        found = root.find(space + part)
        assert found is not None
        assert found.text
    assert root.get("role") == "img"
    assert "prefers-color-scheme: dark" in text


def test_the_truth_of_a_sound_is_computed_once(mechanism: DiscreteGaussian, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many settings and epsilons a sound is measured at: it takes longer than the noise."""
    asked: list[Window] = []
    real = noise.truth

    def counted(sound: noise.Sound, window: Window) -> dict[str, float]:
        asked.append(window)
        return real(sound, window)

    monkeypatch.setattr(noise, "truth", counted)
    sound = noise.Sound("a slope", 0, np.linspace(40.0, 80.0, 86_400))
    louder = sound.louder(5)
    for up_to_db in (None, 75):
        setting = noise.Setting(up_to_db)
        days = noise.observed(sound, setting)
        for epsilon in ("0.5", "1"):
            noise.ours([(sound, days)], setting, epsilon, mechanism, repeats=2, only=("mean", "energy"))
    assert len(asked) == len(set(asked)) == 24 + 1
    assert louder.exact == {} and sound.louder(5).exact == {}, "another sound has a truth of its own"


def test_a_small_share_of_the_draws_takes_fewer_days() -> None:
    """Two draws of each 25th day are the fiftieth part of four draws of each; all days from half of the draws on."""
    assert [command.every("footfall", draws) for draws in (0.02, 0.1, 0.5, 1, 3)] == [25, 5, 1, 1, 1]
    assert [command.every("weeks", draws) for draws in (0.02, 1)] == [8, 1]
    truth = footfall.Truth(np.array([0]), np.array([0, 1]))
    days = tuple(kernel.Span(Window(at, at + 1), ()) for at in range(51))
    [few] = footfall.some_of([footfall.Street("UTC", days, truth)], 25)
    assert [span.window.start_s for span in few.spans] == [0, 25, 50] and few.truth is truth


@pytest.mark.long
@pytest.mark.shared
def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a few draws the command measures all it names and writes page and pictures."""
    command.main(["--draws", "0.02", "--out", str(tmp_path)])
    text = (tmp_path / "utility.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.count("\n") == 6
    assert "nan" not in text.lower().split()
    assert sorted(path.stem for path in (tmp_path / "pictures").iterdir()) == sorted(report.PICTURES)
