"""From a policy to noise: shares by the closed form, integers by the contract's rounding."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy.accountant import charge_micro, rho_micro, sigma_milli
from murmure_privacy.aggregate import energy
from murmure_privacy.errors import ConfigError
from murmure_privacy.plan import VALUE_LIMIT, plan, sensitivity_sq, shares
from murmure_privacy.policy import Policy
from murmure_privacy.wire import SIGMA_LIMIT

EQUAL = tuple((level, Decimal(1)) for level in ("15min", "1h", "6h", "1d"))
LENGTHS = {"15min": 1, "1h": 4, "6h": 24, "1d": 96}
weights = st.decimals("0.001", "1000", places=3)


def test_four_equal_levels_have_the_published_shares() -> None:
    """The check values of the closed form."""
    found = {level: round(float(share), 5) for level, share in shares(EQUAL, counts=True).items()}
    assert found == {"15min": 0.29398, "1h": 0.22953, "6h": 0.24778, "1d": 0.22872}
    three = shares((EQUAL[0], EQUAL[1], EQUAL[3]), counts=True)
    assert [round(float(share), 5) for share in three.values()] == [0.36513, 0.28509, 0.34978]


def test_means_weigh_the_mean() -> None:
    """Check value of the contract: an hour at 1 and a day at 24 share 0.857 and 0.143."""
    found = shares((("1h", Decimal(1)), ("1d", Decimal(24))), counts=False)
    assert [round(float(share), 3) for share in found.values()] == [0.857, 0.143]


@given(st.dictionaries(st.sampled_from(list(LENGTHS)), weights, min_size=1), st.booleans())
def test_shares_are_a_whole(chosen: dict[str, Decimal], counts: bool) -> None:
    """Shares are positive and sum to exactly one, for every choice of levels and weights."""
    nodes = tuple((level, chosen[level]) for level in LENGTHS if level in chosen)
    found = shares(nodes, counts)
    assert sum(found.values()) == 1 and all(share > 0 for share in found.values())
    assert list(found) == [level for level, _ in nodes]


def weighted_error(nodes: tuple[tuple[str, Decimal], ...], found: dict[str, Fraction], counts: bool) -> float:
    """Returns the weighted mean squared error of the least squares estimates of a day, by plain linear algebra."""
    leaf = min(LENGTHS[level] for level, _ in nodes)
    atoms = 96 // leaf
    rows, precision = [], []
    for level, _ in nodes:
        size = LENGTHS[level] // leaf
        for start in range(0, atoms, size):
            row = np.zeros(atoms)
            row[start : start + size] = 1
            rows.append(row)
            precision.append(float(found[level]))
    design = np.array(rows)
    covariance = np.linalg.inv(design.T @ (np.array(precision)[:, None] * design))
    at, error = 0, 0.0
    for level, weight in nodes:
        count = 96 // LENGTHS[level]
        block = design[at : at + count]
        scale = 1 if counts else LENGTHS[level] ** 2
        error += float(weight) * float(np.trace(block @ covariance @ block.T)) / count / scale
        at += count
    return error


MOVED = 0.02
"""How much of the budget is moved from one level to another to look for a better plan."""


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("values", [(1, 1, 1, 1), (1, 1, 0, 24), (5, 1, 2, 0), (0, 1, 0, 24), (1, 100, 1, 1)])
def test_no_other_shares_are_better(values: tuple[int, ...], counts: bool) -> None:
    """Moving budget from any level to any other makes the weighted error of the final estimates larger."""
    nodes = tuple((level, Decimal(value)) for level, value in zip(LENGTHS, values, strict=True) if value)
    best = shares(nodes, counts)
    least = weighted_error(nodes, best, counts)
    for source, target in itertools.permutations(best, 2):
        moved = dict(best)
        moved[source] -= Fraction(MOVED) * best[source]
        moved[target] += Fraction(MOVED) * best[source]
        assert weighted_error(nodes, moved, counts) > least


def test_the_default_footfall_plan(write_policy: Callable[..., Policy]) -> None:
    """Epsilon 1 over four equal levels: an hour has sigma 9.458 for 5590 micro-rho."""
    stream = plan(write_policy("footfall")).streams["plaza/footfall"]
    assert stream.rho_micro == 24355
    hour = stream.node("1h")
    assert hour is not None and stream.node("1w") is None
    (crossings,) = hour.indicators
    assert (crossings.sigma_milli, crossings.rho_micro, crossings.width, crossings.sensitivity_sq) == (9458, 5590, 1, 1)


@settings(max_examples=max(25, settings().max_examples // 4))
@given(
    eps=st.sampled_from(["0.5", "1", "7.25"]),
    size=st.integers(1, 40),
    chosen=st.dictionaries(st.sampled_from(list(LENGTHS)), st.integers(5, 50), min_size=1),
    kind=st.sampled_from(["footfall", "noise"]),
)
def test_charges_follow_the_contract_to_the_last_integer(
    write_policy: Callable[..., Policy], eps: str, size: int, chosen: dict[str, int], kind: str
) -> None:
    """Budget rounded down, share floored once, sigma the smallest thousandth that fits, charge rounded up; and all
    charges that an instant meets fit the budget."""
    listed = "{ " + ", ".join(f'"{level}" = {weight}' for level, weight in chosen.items()) + " }"
    was = '{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }' if kind == "footfall" else '{ "1h" = 1, "1d" = 24 }'
    unit = ("crossings = 1", f"crossings = {size}") if kind == "footfall" else ("seconds = 15", f"seconds = {size}")
    policy = write_policy(kind, swap=((was, listed), ("epsilon = 1.0", f"epsilon = {eps}"), unit))
    made = plan(policy).streams[f"plaza/{kind}"]
    budget = rho_micro(Decimal(eps), Decimal("1e-6"))
    assert made.rho_micro == budget
    part = shares(made.stream.nodes, kind == "footfall")
    whole = sum(weight for _, weight in made.stream.indicators)
    for node in made.nodes:
        for indicator, (name, weight) in zip(node.indicators, made.stream.indicators, strict=True):
            allowed = int(budget * part[node.level] * Fraction(weight) / Fraction(whole))
            squared = sensitivity_sq(made.stream, name)
            assert indicator.sigma_milli == sigma_milli(squared, allowed)
            assert indicator.rho_micro == charge_micro(squared, indicator.sigma_milli) <= allowed
    assert sum(node.rho_micro for node in made.nodes) <= budget


def test_sensitivity_is_counted_in_readings(write_policy: Callable[..., Policy]) -> None:
    """n crossings move a count by n; n readings move a sum by n times the width, a histogram by sqrt(2) n."""
    policy = write_policy(swap=(("crossings = 1", "crossings = 4"),))
    footfall, noise, air = policy.streams
    assert sensitivity_sq(footfall, "crossings") == 16
    assert sensitivity_sq(noise, "histogram") == 2 * 27**2
    assert sensitivity_sq(noise, "mean") == (27 * 500) ** 2
    assert sensitivity_sq(noise, "energy") == (27 * (energy(850) - energy(350))) ** 2
    assert sensitivity_sq(air, "mean") == (63 * 1000) ** 2


def test_a_histogram_is_as_wide_as_its_bounds(write_policy: Callable[..., Policy]) -> None:
    """Bins of 5 dB between the bounds; every other indicator is one integer."""
    (node, _) = plan(write_policy("noise")).streams["plaza/noise"].nodes
    assert [(i.indicator, i.width) for i in node.indicators] == [("histogram", 10), ("mean", 1), ("energy", 1)]


@pytest.mark.parametrize(
    ("swap", "key", "problem"),
    [
        (
            (("epsilon = 1.0", "epsilon = 1e-6"),),
            "nodes.1h",
            "histogram gets less than a micro-rho; raise its weight, or epsilon",
        ),
        ((("energy = 1 }", "energy = 1e-9 }"),), "nodes.1h", "energy gets less than a micro-rho"),
        ((("[35, 85]", "[35, 140]"),), "bounds_db", "the sum of energy would not fit 64 bits; lower the upper bound"),
        (
            (("[35, 85]", "[35, 130]"), ("seconds = 15", "seconds = 86400")),
            "bounds_db",
            "the noise on energy would not fit 64 bits; lower the upper bound, or protect fewer seconds",
        ),
        (
            (("{ seconds = 15 }", "{ seconds = 15, up_to_db = 140 }"),),
            "protects.up_to_db",
            "the noise on energy would not fit 64 bits; lower it, or protect fewer seconds",
        ),
    ],
)
def test_a_plan_that_cannot_be_drawn_is_refused(
    write_policy: Callable[..., Policy], swap: tuple[tuple[str, str], ...], key: str, problem: str
) -> None:
    """A node without budget, or integers that noise does not fit, stop the steward, not the gateway."""
    with pytest.raises(ConfigError) as error:
        plan(write_policy("noise", swap=swap))
    assert str(error.value).startswith(f"policy: stream plaza/noise: {key}: {problem}")


def test_air_that_cannot_be_drawn_is_refused(write_policy: Callable[..., Policy]) -> None:
    """The same for means, whose key is `bounds`."""
    swap = (("[0, 100]", "[0, 5000]"), ("seconds = 60", "seconds = 86400"), ("epsilon = 1.0", "epsilon = 0.006"))
    with pytest.raises(ConfigError, match=r"less than a micro-rho|would not fit"):
        plan(write_policy("pm2_5", swap=(*swap, ("cadence_ms = 1000", "cadence_ms = 100"))))


def test_planned_noise_never_meets_the_end_of_64_bits(write_policy: Callable[..., Policy]) -> None:
    """The largest sum and 40 standard deviations of the largest noise fit a signed 64-bit integer."""
    assert VALUE_LIMIT + 40 * SIGMA_LIMIT // 1000 < 1 << 63
    loud = plan(write_policy("noise", swap=(("[35, 85]", "[35, 120]"),))).streams["plaza/noise"]
    day = loud.nodes[1].indicators[2]
    assert energy(1200) * 90_000 <= VALUE_LIMIT and day.sigma_milli <= SIGMA_LIMIT
