"""Privacy arithmetic against OpenDP's own, and the rounding rules to the last integer."""

from __future__ import annotations

import time
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from math import erfc, exp, sqrt

import opendp.prelude as dp
import pytest
from dp_accounting import DpEvent, GaussianDpEvent, SelfComposedDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy import accountant
from murmure_privacy.accountant import (
    MICRO,
    Rung,
    charge_micro,
    epsilon,
    ladder,
    odds,
    rho_micro,
    right_guesses,
    right_guesses_zcdp,
    sigma_milli,
)

dp.enable_features("contrib")
DELTA = Decimal("0.000001")
RHOS = ["0.000001", "0.00001", "0.0001", "0.0005", "0.001", "0.005", "0.02436", "0.05", "0.1", "0.5", "1", "3", "10"]
DELTAS = ["1e-3", "1e-5", "1e-6", "1e-9", "1e-12"]
# Orders close enough around the best one, at any rho and delta of the grid, for the least to be right to 1e-6.
ORDERS = [1 + exp(step / 500) for step in range(-2500, 6900)]


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


def dp_accounting_epsilon(event: DpEvent, delta: str) -> float:
    """Returns what the accountant of `dp-accounting` gives for an event, by Renyi divergences."""
    return float(RdpAccountant(ORDERS).compose(event).get_epsilon(float(delta)))


def gaussian(rho: float) -> DpEvent:
    """One Gaussian of this rho: sensitivity 1, sigma 1 / sqrt(2 rho)."""
    return GaussianDpEvent((0.5 / rho) ** 0.5)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("rho", RHOS)
def test_epsilon_is_that_of_dp_accounting_to_five_digits(rho: str, delta: str) -> None:
    """A third program, which adds Renyi divergences instead of rho, agrees (tiny rho: to 1e-7 in absolute terms)."""
    ours = float(epsilon(Decimal(rho), Decimal(delta)))
    assert ours == pytest.approx(dp_accounting_epsilon(gaussian(float(rho)), delta), rel=1e-5, abs=1e-7)


def exact_delta(rho: float, eps: float) -> float:
    """Returns the delta of a continuous Gaussian of this rho at eps: Balle, Wang 2018, theorem 8."""
    mu = sqrt(2 * rho)
    return (erfc((eps / mu - mu / 2) / sqrt(2)) - exp(eps) * erfc((eps / mu + mu / 2) / sqrt(2))) / 2


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("rho", RHOS)
def test_epsilon_is_never_below_the_gaussians_exact_one(rho: str, delta: str) -> None:
    """At the epsilon shown, the Gaussian's own delta is within the one shown: the conversion gives nothing away."""
    shown = float(epsilon(Decimal(rho), Decimal(delta)))
    assert exact_delta(float(rho), shown) <= float(delta)
    if shown:
        assert exact_delta(float(rho), 0.5 * shown) > float(delta), "the check itself can fail"


@pytest.mark.parametrize(("units", "days"), [(1, 7), (2, 1), (4, 30), (10, 365)])
@pytest.mark.parametrize("day_micro", [321, 24355, 311000])
def test_composition_is_that_of_dp_accounting(day_micro: int, units: int, days: int) -> None:
    """n units on each of D days: what the other accountant gives for n times the sensitivity, composed D times."""
    event = SelfComposedDpEvent(GaussianDpEvent((0.5e6 / day_micro) ** 0.5 / units), days)
    (rung,) = ladder(day_micro, DELTA, (units,), {"span": days})
    assert float(rung.epsilon) == pytest.approx(dp_accounting_epsilon(event, "1e-6"), rel=1e-5)


def test_composition_is_opendps() -> None:
    """The parts of a budget, composed by OpenDP, cost what their sum converts to."""
    micros = (5590, 5590, 7000, 6175)
    parts = [
        dp.m.make_gaussian(dp.atom_domain(T="i64"), dp.absolute_distance(T="f64"), scale=(0.5e6 / micro) ** 0.5)
        for micro in micros
    ]
    whole = dp.c.make_zCDP_to_approxDP(dp.c.make_composition(parts))
    ours = epsilon(Decimal(sum(micros)) / MICRO, DELTA)
    assert float(ours) == pytest.approx(float(whole.map(1.0).epsilon(1e-6)), rel=1e-5)


# --- ladder and odds -------------------------------------------------------------------------------------------------


def test_the_ladder_squares_units_and_adds_days() -> None:
    """n units a day over D days cost D n^2 rho: for epsilon 1 a year of single crossings is about 30."""
    rungs = ladder(24355, DELTA)
    assert [(rung.span, rung.units) for rung in rungs] == [
        (span, units) for span in ("1d", "1w", "30d", "1y") for units in (1, 2, 4, 10)
    ]
    by_name = {(rung.span, rung.units): rung for rung in rungs}
    assert by_name["1d", 1] == Rung(1, "1d", 24355, Decimal("0.999979"), Decimal("2.71823"))
    assert by_name["1w", 4].rho_micro == 7 * 16 * 24355
    assert by_name["1y", 10].rho_micro == 365 * 100 * 24355
    assert [round(float(by_name[span, 1].epsilon), 2) for span in ("1w", "30d", "1y")] == [2.87, 6.48, 29.81]


@settings(max_examples=max(20, settings().max_examples // 5))
@given(st.integers(1, 10**7), st.sampled_from(DELTAS))
def test_the_ladder_never_under_reports(day_micro: int, delta: str) -> None:
    """Each figure is rounded up, by less than one in its sixth digit."""
    for rung in ladder(day_micro, Decimal(delta)):
        exact = epsilon(Decimal(rung.rho_micro) / MICRO, Decimal(delta))
        assert exact <= rung.epsilon <= exact * Decimal("1.00001")
        if rung.odds is not None:
            assert exact.exp() <= rung.odds <= exact.exp() * Decimal("1.0001") * (rung.epsilon - exact).exp()


LADDER_S = 0.3  # a page that shows one must not be waited for; one takes about 5 ms


def test_a_ladder_is_quick() -> None:
    """Sixteen rungs come within a third of a second on any machine of ours."""
    began_s = time.process_time()
    assert len(ladder(24355, DELTA)) == 16
    assert time.process_time() - began_s < LADDER_S


@pytest.mark.parametrize(
    ("eps", "share"), [("0.1", "0.525"), ("0.5", "0.622"), ("1", "0.731"), ("2", "0.881"), ("5", "0.993")]
)
def test_even_odds_rise_to_the_known_ones(eps: str, share: str) -> None:
    """From 50 : 50 to at most 73 : 27 at epsilon 1; odds and the share of right guesses are one statement."""
    factor = odds(Decimal(eps), DELTA)
    assert factor is not None
    right = right_guesses(Decimal(eps), DELTA)
    assert round(right, 3) == Decimal(share)
    assert right == pytest.approx(factor / (1 + factor), abs=Decimal("1e-5"))


def test_odds_beyond_delta_are_not_told() -> None:
    """Where e^epsilon passes 1/delta, the bound promises nothing; no number of any size is made up."""
    assert odds(Decimal("13.8"), DELTA) is not None
    assert odds(Decimal("13.9"), DELTA) is None
    assert odds(Decimal(10**9), DELTA) is None
    assert right_guesses(Decimal(10**9), DELTA) == 1


@pytest.mark.parametrize("rho", RHOS)
def test_the_best_guesser_of_a_gaussian_stays_below_both_bounds(rho: str) -> None:
    """Whoever sees the sum under Gaussian noise and knows both streets is right Phi(sqrt(2 rho) / 2) of the time."""
    best = erfc(-sqrt(2 * float(rho)) / 2 / sqrt(2)) / 2
    by_rho = float(right_guesses_zcdp(Decimal(rho)))
    by_epsilon = float(right_guesses(epsilon(Decimal(rho), DELTA), DELTA))
    assert best <= by_rho <= by_epsilon
    assert by_rho - best < 0.1  # and the bound is of use


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
@given(st.integers(1, 10**9), st.sampled_from(DELTAS))
def test_a_budget_comes_back_from_its_epsilon(micro: int, delta: str) -> None:
    """rho to epsilon and back gives never more, and nothing is lost on the way (an epsilon of zero buys nothing)."""
    shown = epsilon(Decimal(micro) / MICRO, Decimal(delta))
    back = rho_micro(shown, Decimal(delta))
    assert back == (micro if shown else 0)


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
    assert rho_micro(Decimal(0), DELTA) == 0


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


# --- the last digit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", ["1e-3", "1e-9"])
@pytest.mark.parametrize("rho", ["0.0001", "0.024355", "1", "10"])
def test_epsilon_is_right_to_its_thirtieth_digit(rho: str, delta: str) -> None:
    """What is shown is the exact least bound rounded up at its 30th digit: here found by halving, with 80 digits."""
    with localcontext(Context(prec=80)):
        exact_rho, log_inverse_delta = Decimal(rho), -Decimal(delta).ln()
        low, high = Decimal(0), log_inverse_delta
        for _ in range(160):
            u = (low + high) / 2
            if exact_rho * (u.exp() - 1) ** 2 + u < log_inverse_delta:
                low = u
            else:
                high = u
        alpha = high.exp()
        least = exact_rho * alpha + (log_inverse_delta + alpha * (1 - 1 / alpha).ln() - (alpha - 1).ln()) / (alpha - 1)
    assert epsilon(Decimal(rho), Decimal(delta)) == Context(prec=30, rounding=ROUND_CEILING).plus(least)


@pytest.mark.parametrize("micro", [3, 1000])
def test_a_search_that_ends_early_costs_no_budget(monkeypatch: pytest.MonkeyPatch, micro: int) -> None:
    """If Newton's last step leaves the root just below a whole micro-rho, that one is tried and taken."""
    limit = epsilon(Decimal(micro) / MICRO, DELTA)
    monkeypatch.setattr(accountant, "_CLOSE", Decimal("1e-6"))
    assert rho_micro(limit, DELTA) == micro


def test_sigma_is_never_rounded_down() -> None:
    """A least variance between 1 and 2 needs sigma 2, though 1 is a whole root; nothing needs less than 1."""
    assert sigma_milli(1, 3 * 10**11) == 2 and charge_micro(1, 1) > 3 * 10**11 >= charge_micro(1, 2)
    assert sigma_milli(1, 10**12) == sigma_milli(0, 5) == 1


def test_odds_end_at_one_in_delta() -> None:
    """Where e^epsilon is 1/delta to the digit, nothing is promised any more."""
    end = -DELTA.ln()
    assert odds(end, DELTA) is None and odds(end.next_minus(), DELTA) is not None


def test_right_guesses_by_hand() -> None:
    """Delta adds to what is guessed right; small rho are bounded by Pinsker: (1 + sqrt(rho / 2)) / 2."""
    assert right_guesses(Decimal(0), Decimal("0.001")) == Decimal("0.5005")
    assert right_guesses_zcdp(Decimal("0.02")) == Decimal("0.55")
    assert right_guesses_zcdp(Decimal(1000)) == 1


@pytest.mark.parametrize("micro", [1, 321, 24_355, 311_000])
def test_a_budget_one_digit_short_buys_one_less(micro: int) -> None:
    """An epsilon that is one in the 30th digit below the price of so many micro-rho does not pay for the last one."""
    price = epsilon(Decimal(micro) / MICRO, Decimal("1e-9"))
    assert rho_micro(price, Decimal("1e-9")) == micro
    assert rho_micro(price.next_minus(Context(prec=30)), Decimal("1e-9")) == micro - 1
