"""The noise: OpenDP's discrete Gaussian and no other, re-checked against the plan, tested as a distribution."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import murmure_privacy
import pytest
from murmure_privacy.errors import MechanismError
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import VALUE_LIMIT, IndicatorPlan, plan
from murmure_privacy.policy import Policy

HOUR = IndicatorPlan("crossings", 1, 1, 9458, 5590)
BINS = IndicatorPlan("histogram", 10, 2 * 27**2, 400_000, 4557)

SAMPLES = 20_000
STANDARD_ERRORS = 5.0
"""A true sampler fails a test at this distance once in 1.7 million runs."""


def gaussian_weights(sigma: float, reach: int) -> list[float]:
    """Returns the probabilities of -reach..reach under the discrete Gaussian, from its definition."""
    raw = [math.exp(-(k**2) / (2 * sigma**2)) for k in range(-reach, reach + 1)]
    return [weight / math.fsum(raw) for weight in raw]


def misfits(draws: list[int], sigma: float) -> list[str]:
    """Returns what does not fit the discrete Gaussian: mean, variance, or chi-square over bins of 20 and more."""
    n = len(draws)
    reach = int(12 * sigma)
    expected = dict(zip(range(-reach, reach + 1), gaussian_weights(sigma, reach), strict=True))
    variance = math.fsum(k * k * p for k, p in expected.items())
    fourth = math.fsum(k**4 * p for k, p in expected.items())
    found = []
    if abs(sum(draws) / n) > STANDARD_ERRORS * math.sqrt(variance / n):
        found.append("mean")
    spread = sum(draw * draw for draw in draws) / n
    if abs(spread - variance) > STANDARD_ERRORS * math.sqrt((fourth - variance**2) / n):
        found.append("variance")
    counts = Counter(draws)
    statistic, cells = 0.0, 0
    rest, rest_expected = n, float(n)
    for value, probability in expected.items():
        if n * probability >= 20:
            statistic += (counts[value] - n * probability) ** 2 / (n * probability)
            rest, rest_expected, cells = rest - counts[value], rest_expected - n * probability, cells + 1
    if rest_expected > 5:
        statistic, cells = statistic + (rest - rest_expected) ** 2 / rest_expected, cells + 1
    freedom = cells - 1
    # Wilson and Hilferty: the cube root of a chi-square over its freedom is nearly normal.
    normal = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    if normal > STANDARD_ERRORS:
        found.append("shape")
    return found


class HalfNoise(DiscreteGaussian):
    """Draws noise half as large as planned."""

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        quarter = dataclasses.replace(indicator, sigma_milli=indicator.sigma_milli // 2, rho_micro=10**9)
        return super().draw(exact, quarter)


class Biased(DiscreteGaussian):
    """Rounds what is negative up."""

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        return tuple(max(value, 0) for value in super().draw(exact, indicator))


class EvenOnly(DiscreteGaussian):
    """Draws a variance as planned, on even numbers only."""

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        return tuple(value - value % 2 for value in super().draw(exact, indicator))


@pytest.mark.parametrize("kind", [DiscreteGaussian, HalfNoise, Biased, EvenOnly])
def test_noise_is_the_discrete_gaussian(kind: type[DiscreteGaussian]) -> None:
    """Mean, variance and shape of 20,000 draws fit the definition at 5 standard errors; broken samplers do not."""
    source = kind()
    many = dataclasses.replace(HOUR, width=200)
    draws = [value for _ in range(SAMPLES // many.width) for value in source.draw((0,) * many.width, many)]
    assert (misfits(draws, HOUR.sigma_milli / 1000) == []) == (kind is DiscreteGaussian)


def test_single_integers_get_the_same_noise() -> None:
    """2,000 draws of one integer each, the form that counts take, fit it too."""
    source = DiscreteGaussian()
    assert misfits([source.draw((0,), HOUR)[0] for _ in range(SAMPLES // 10)], HOUR.sigma_milli / 1000) == []


@pytest.mark.long
@pytest.mark.parametrize("sigma_milli", [400, 1000, 2345, 9458, 50_000])
def test_noise_is_the_discrete_gaussian_at_every_scale(sigma_milli: int) -> None:
    """The same with 400,000 draws, from sigma 0.4 to 50."""
    source = DiscreteGaussian()
    indicator = IndicatorPlan("crossings", 400, 1, sigma_milli, 10**9)
    draws = [value for _ in range(1000) for value in source.draw((0,) * 400, indicator)]
    assert misfits(draws, sigma_milli / 1000) == []


def test_each_integer_gets_noise_of_its_own() -> None:
    """Within a histogram and between draws, noise is independent: correlations stay within 5 standard errors."""
    source = DiscreteGaussian()
    rows = [source.draw((0,) * BINS.width, BINS) for _ in range(SAMPLES // 20)]
    sigma = BINS.sigma_milli / 1000
    limit = STANDARD_ERRORS / math.sqrt(len(rows))
    for one in range(BINS.width):
        for other in range(one):
            assert abs(math.fsum(row[one] * row[other] for row in rows) / len(rows) / sigma**2) < limit
        later = math.fsum(a[one] * b[one] for a, b in pairwise(rows)) / (len(rows) - 1)
        assert abs(later / sigma**2) < limit


def test_noise_is_added_to_the_exact_integers() -> None:
    """The mean over many draws is the exact value, at 5 standard errors, in the order given."""
    exact = tuple(1000 * bin_number for bin_number in range(BINS.width))
    source = DiscreteGaussian()
    rows = [source.draw(exact, BINS) for _ in range(500)]
    for place, value in enumerate(exact):
        mean = sum(row[place] for row in rows) / len(rows)
        assert abs(mean - value) < STANDARD_ERRORS * BINS.sigma_milli / 1000 / math.sqrt(len(rows))
        assert all(type(row[place]) is int for row in rows)


@pytest.mark.parametrize("indicator", [HOUR, BINS])
def test_a_plan_that_charges_too_little_is_refused(indicator: IndicatorPlan) -> None:
    """OpenDP is asked what a draw costs: the planned charge is enough, half of it stops the gateway."""
    DiscreteGaussian().prepare(indicator)
    cheap = dataclasses.replace(indicator, rho_micro=indicator.rho_micro // 2)
    for attempt in (DiscreteGaussian().prepare, lambda plan: DiscreteGaussian().draw((0,) * plan.width, plan)):
        with pytest.raises(MechanismError, match="OpenDP states rho"):
            attempt(cheap)


def test_a_plan_for_a_larger_unit_is_another_plan() -> None:
    """What was checked for one sensitivity is not taken as checked for another."""
    source = DiscreteGaussian()
    source.prepare(HOUR)
    with pytest.raises(MechanismError):
        source.prepare(dataclasses.replace(HOUR, sensitivity_sq=16))


def test_every_planned_indicator_passes(write_policy: Callable[..., Policy]) -> None:
    """OpenDP's own bound is within the charge for each indicator of a full policy, and one draw has its width."""
    source = DiscreteGaussian()
    for stream in plan(write_policy()).streams.values():
        for node in stream.nodes:
            for indicator in node.indicators:
                source.prepare(indicator)
                assert len(source.draw((0,) * indicator.width, indicator)) == indicator.width


@pytest.mark.parametrize("exact", [(), (1, 2), (VALUE_LIMIT + 1,), (-VALUE_LIMIT - 1,)])
def test_an_aggregate_of_another_form_is_not_drawn(exact: tuple[int, ...]) -> None:
    """Another number of integers, or one beyond 62 bits, is refused, and the refusal shows no value."""
    with pytest.raises(MechanismError, match=r"^the aggregate does not have the planned form; nothing was drawn$"):
        DiscreteGaussian().draw(exact, HOUR)


def test_the_largest_sum_gets_noise() -> None:
    """At the end of the range nothing saturates."""
    (drawn,) = DiscreteGaussian().draw((VALUE_LIMIT,), HOUR)
    assert abs(drawn - VALUE_LIMIT) < 20 * HOUR.sigma_milli / 1000


DRAW = """
import json
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import IndicatorPlan
print(json.dumps(DiscreteGaussian().draw((0,) * 64, IndicatorPlan("histogram", 64, 2, 9458, 11180))))
"""


def test_two_processes_draw_differently() -> None:
    """A fresh start is no repetition: 64 integers of two processes are not the same."""
    drawn = [
        json.loads(subprocess.run([sys.executable, "-c", DRAW], capture_output=True, check=True, text=True).stdout)
        for _ in range(2)
    ]
    assert drawn[0] != drawn[1] and len(set(drawn[0])) > 8


def test_nothing_else_makes_noise() -> None:
    """The kernel imports no generator of random numbers, and OpenDP lends it nothing unproved."""
    folder = Path(murmure_privacy.__file__).parent
    for path in folder.glob("*.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for found in ast.walk(module):
            names = [alias.name for alias in found.names] if isinstance(found, ast.Import | ast.ImportFrom) else []
            origin = [found.module or ""] if isinstance(found, ast.ImportFrom) else []
            for name in names + origin:
                assert name.split(".")[0] not in {"random", "secrets"} and "random" not in name, path.name
                assert not name.startswith("opendp") or path.name == "mechanism.py"
            if isinstance(found, ast.Call) and ast.unparse(found.func).endswith("enable_features"):
                assert [ast.unparse(argument) for argument in found.args] == ["'contrib'"]
