"""Privacy arithmetic against OpenDP's own, and the rounding rules to the last integer."""

from __future__ import annotations

from decimal import Decimal

import opendp.prelude as dp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy.accountant import MICRO, charge_micro, epsilon, rho_micro, sigma_milli

dp.enable_features("contrib")
DELTA = Decimal("0.000001")
RHOS = ["0.000001", "0.0005", "0.001", "0.005", "0.02436", "0.05", "0.1", "0.5", "1", "3", "12"]
DELTAS = ["1e-3", "1e-5", "1e-6", "1e-9", "1e-12"]


def opendp_epsilon(rho: str, delta: str) -> float:
    """Returns OpenDP's epsilon for an integer Gaussian that costs this rho."""
    gaussian = dp.m.make_gaussian(
        dp.atom_domain(T="i64"), dp.absolute_distance(T="f64"), scale=(0.5 / float(rho)) ** 0.5
    )
    profile = dp.c.make_zCDP_to_approxDP(gaussian).map(1.0)
    return float(profile.epsilon(float(delta)))


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("rho", RHOS)
def test_epsilon_is_opendps_to_five_digits(rho: str, delta: str) -> None:
    """Our conversion agrees with OpenDP's to 5 digits (tiny rho: to 1e-7 in absolute terms)."""
    ours = float(epsilon(Decimal(rho), Decimal(delta)))
    assert ours == pytest.approx(opendp_epsilon(rho, delta), rel=1e-5, abs=1e-7)


# rho -> epsilon at delta 1e-6, three implementations agreeing (privacy notes, section 5).
KNOWN = {"0.0005": 0.127, "0.001": 0.183, "0.005": 0.430, "0.01": 0.622, "0.02436": 1.000, "0.05": 1.472} | {
    "0.1": 2.142,
    "0.5": 5.222,
    "1": 7.766,
}


@pytest.mark.parametrize("rho", KNOWN)
def test_epsilon_is_the_known_one(rho: str) -> None:
    """Values that three programs agreed on."""
    assert round(float(epsilon(Decimal(rho), DELTA)), 3) == KNOWN[rho]


def exact_log_delta(rho: Decimal, alpha: Decimal, eps: Decimal) -> Decimal:
    """Returns ln delta that this alpha proves for (rho, eps): Canonne, Kamath, Steinke 2020, proposition 12."""
    return (alpha - 1) * (alpha * rho - eps) + alpha * (1 - 1 / alpha).ln() - (alpha - 1).ln()


@settings(max_examples=max(20, settings().max_examples // 5))
@given(st.decimals("0.000001", "60", places=6), st.sampled_from(DELTAS))
def test_epsilon_never_under_reports(rho: Decimal, delta: str) -> None:
    """For the epsilon shown, some alpha proves delta; for one a thousandth smaller, none on a fine grid does."""
    shown = epsilon(rho, Decimal(delta))
    grid = [1 + (Decimal(step) / 10).exp() for step in range(-100, 152)]
    tight = shown * Decimal("0.999")
    if shown > 0:
        assert min(exact_log_delta(rho, alpha, tight) for alpha in grid) > Decimal(delta).ln()
    # The least over a finer neighbourhood reaches delta up to the grid's own coarseness.
    best = min(grid, key=lambda alpha: exact_log_delta(rho, alpha, shown))
    fine = [1 + (best - 1) * (Decimal(step) / 1000).exp() for step in range(-110, 111)]
    slack = Decimal("1e-4") * (1 + shown)
    assert min(exact_log_delta(rho, alpha, shown) for alpha in fine) <= Decimal(delta).ln() + slack


@pytest.mark.parametrize("nothing", ["0", "-1"])
def test_no_spend_is_epsilon_zero(nothing: str) -> None:
    """No rho, no loss."""
    assert epsilon(Decimal(nothing), DELTA) == 0


@settings(max_examples=max(40, settings().max_examples // 2))
@given(st.decimals("0.0001", "100", places=4), st.sampled_from(DELTAS))
def test_a_budget_is_rounded_down(limit: Decimal, delta: str) -> None:
    """The micro-rho of a policy convert to at most its epsilon, and one more would pass it."""
    micro = rho_micro(limit, Decimal(delta))
    assert epsilon(Decimal(micro) / MICRO, Decimal(delta)) <= limit
    # Both searches find the least to ten digits and more: the next integer is beyond, up to that.
    assert epsilon(Decimal(micro + 1) / MICRO, Decimal(delta)) > limit * (1 - Decimal("1e-9"))


@pytest.mark.parametrize(
    ("eps", "micro"), [("0.1", 321), ("0.25", 1800), ("0.5", 6640), ("1", 24355), ("2", 88200), ("4", 311000)]
)
def test_known_budgets(eps: str, micro: int) -> None:
    """Epsilon 1 at delta 1e-6 is 24355 micro-rho; the others as published, to three digits."""
    assert rho_micro(Decimal(eps), DELTA) == pytest.approx(micro, rel=3e-3, abs=0 if eps == "1" else 1)
    assert rho_micro(Decimal(1), DELTA) == 24355


def test_an_epsilon_that_buys_nothing_is_zero() -> None:
    """A budget below a millionth of rho is none."""
    assert rho_micro(Decimal("1e-30"), DELTA) == 0


@given(st.integers(1, 10**20), st.integers(1, 10**15))
def test_a_charge_is_rounded_up(sensitivity_sq: int, sigma: int) -> None:
    """A charge is the least whole micro-rho that is not below sensitivity^2 / (2 sigma^2), and at least one."""
    charge = charge_micro(sensitivity_sq, sigma)
    assert charge >= 1
    assert charge * 2 * sigma**2 >= sensitivity_sq * 10**12 > (charge - 1) * 2 * sigma**2


@given(st.integers(1, 10**20), st.integers(1, 10**8))
def test_sigma_is_the_smallest_thousandth_that_fits(sensitivity_sq: int, budget: int) -> None:
    """The charge of sigma fits the budget; that of a thousandth less does not."""
    sigma = sigma_milli(sensitivity_sq, budget)
    assert charge_micro(sensitivity_sq, sigma) <= budget
    assert sigma == 1 or charge_micro(sensitivity_sq, sigma - 1) > budget


def test_a_perfect_square_needs_no_rounding() -> None:
    """Where the root is whole, it is taken as it is."""
    assert sigma_milli(2, 10**6) == 1000 and charge_micro(2, 1000) == 10**6
