"""The audit's bounds are what other libraries and closed forms say they are."""

from __future__ import annotations

import importlib
from decimal import Decimal
from itertools import pairwise
from math import comb, erfc, exp, inf, isclose, log, sqrt
from random import Random

import pytest
from murmure.audit import claim_of
from murmure_privacy.accountant import charge_micro, epsilon

from murmure import audit_statistics as statistics

SIZES = [(0, 10), (10, 10), (1, 10), (7, 50), (499, 1000), (3, 2500), (2497, 2500), (31_000, 50_000)]
RISKS = [0.025, 1e-4, 1e-7]
MUS = [0.2, 1.0, 3.0]
THRESHOLDS = [step / 20 for step in range(-60, 121)]
DELTA = Decimal("1e-6")
SEED, REPEATS = 20260601, 100
# Of 100 repeats at risk 0.05 each, more than 19 are wrong by chance once in ten million times.
RISK, WRONG_AT_MOST = 0.05, 19


def sides(mu: float, threshold: float) -> tuple[float, float]:
    """How often a unit Gaussian shifted by mu, and one that is not, pass a threshold."""
    return erfc((threshold - mu) / sqrt(2)) / 2, erfc(threshold / sqrt(2)) / 2


@pytest.mark.parametrize(("hits", "runs"), SIZES)
@pytest.mark.parametrize("risk", RISKS)
def test_clopper_pearson_is_scipys(hits: int, runs: int, risk: float) -> None:
    """Both bounds are the quantiles of the beta distribution, to nine digits."""
    beta = importlib.import_module("scipy.stats").beta
    low, high = statistics.clopper_pearson(hits, runs, risk)
    assert low == pytest.approx(beta.ppf(risk, hits, runs - hits + 1) if hits else 0, abs=1e-9)
    assert high == pytest.approx(beta.ppf(1 - risk, hits + 1, runs - hits) if hits < runs else 1, abs=1e-9)


@pytest.mark.parametrize("truth", [0.001, 0.02, 0.3, 0.5, 0.97])
def test_clopper_pearson_is_wrong_no_more_often_than_it_says(truth: float) -> None:
    """Summed over everything that can be counted in 60 runs, each bound is on the wrong side with at most its risk."""
    runs, risk = 60, 0.01
    too_high = too_low = 0.0
    for hits in range(runs + 1):
        likely = comb(runs, hits) * truth**hits * (1 - truth) ** (runs - hits)
        low, high = statistics.clopper_pearson(hits, runs, risk)
        too_high += likely * (low > truth)
        too_low += likely * (high < truth)
    assert max(too_high, too_low) <= risk


@pytest.mark.parametrize("mu", MUS)
def test_the_bound_on_epsilon_reaches_the_exact_one_and_never_passes_it(mu: float) -> None:
    """For Gaussian noise the best threshold gives dp-accounting's exact epsilon, and no threshold gives more."""
    delta = 1e-6
    exact = importlib.import_module("dp_accounting.pld.privacy_loss_distribution")
    known = exact.from_gaussian_mechanism(1 / mu, value_discretization_interval=1e-4).get_epsilon_for_delta(delta)
    fine = [step / 100 for step in range(-600, 1000)]
    best = max(statistics.epsilon_bound(*sides(mu, threshold), delta) for threshold in fine)
    assert best == pytest.approx(known, rel=2e-3)
    assert best <= known * (1 + 1e-4)


@pytest.mark.parametrize("mu", MUS)
def test_gaussian_noise_shows_its_own_mu_and_never_more_than_its_rho(mu: float) -> None:
    """At every threshold mu is found exactly, and rho stays below mu squared by two."""
    for threshold in THRESHOLDS:
        hit, alarm = sides(mu, threshold)
        if alarm > 1e-9 and hit < 1 - 1e-9:
            assert statistics.mu_bound(hit, alarm) == pytest.approx(mu, abs=1e-5)
            assert 0 <= statistics.rho_bound(hit, alarm) <= mu * mu / 2 * (1 + 1e-9)


def test_randomised_response_shows_its_own_epsilon() -> None:
    """An answer that is true with e^epsilon to one shows epsilon without delta, either way round."""
    true = exp(1.5) / (1 + exp(1.5))
    assert statistics.epsilon_bound(true, 1 - true, 0.0) == pytest.approx(1.5)
    # Bun and Steinke: epsilon-DP is epsilon^2/2-zCDP.
    assert statistics.rho_bound(true, 1 - true) <= 1.5**2 / 2


def test_the_rarer_side_counts_too() -> None:
    """A canary that hides one outcome in a hundred thousand is seen by its absence."""
    assert statistics.epsilon_bound(1 - 1e-5, 0.9, 0.0) == pytest.approx(log(0.1 / 1e-5))


def test_no_difference_proves_nothing_and_a_certain_one_everything() -> None:
    """Bounds that cross prove 0; an outcome that never happens without the canary proves any epsilon."""
    for bound in (statistics.mu_bound, statistics.rho_bound):
        assert (bound(0.4, 0.5), bound(1.0, 0.5)) == (0.0, inf)
    assert statistics.epsilon_bound(0.4, 0.5, 0.0) == 0
    assert statistics.epsilon_bound(0.4, 0.0, 1e-6) == inf


def test_proofs_are_wrong_no_more_often_than_they_say() -> None:
    """On Gaussian samples with a known mu the proved bound passes it in no more than its share of repeats."""
    random = Random(SEED)
    wrong = 0
    for _ in range(REPEATS):
        without = [random.gauss(0, 1) for _ in range(200)]
        canary = [random.gauss(1, 1) for _ in range(200)]
        wrong += statistics.prove(without, canary, statistics.mu_bound, RISK).bound > 1
    assert wrong <= WRONG_AT_MOST


def test_what_chooses_the_threshold_does_not_count() -> None:
    """Two halves that contradict each other prove nothing: only the second one is counted."""
    proof = statistics.prove([0.0] * 50 + [1.0] * 50, [1.0] * 50 + [0.0] * 50, statistics.mu_bound, RISK)
    assert (proof.threshold, proof.runs, proof.hits, proof.alarms, proof.bound) == (1.0, 50, 0, 50, 0.0)


@pytest.mark.parametrize("freedom", [50, 400, 10_000])
def test_a_variance_far_out_is_as_rare_as_scipy_says(freedom: int) -> None:
    """In the tails that the check uses, the normal form of a chi-square is right within a factor of two."""
    chi2 = importlib.import_module("scipy.stats").chi2
    for risk in (1e-4, 1e-8):
        for ratio in (chi2.ppf(risk, freedom) / freedom, chi2.isf(risk, freedom) / freedom):
            said = statistics.two_sided(statistics.spread_z(ratio, freedom)) / 2
            assert 0.5 < said / risk < 2


def test_coincidences_are_bounded_from_above() -> None:
    """The bound is never below the binomial tail, and falls fast."""
    binom = importlib.import_module("scipy.stats").binom
    for seen in (3, 5, 12, 40):
        assert statistics.coincidence_risk(seen, 2.0) >= binom.sf(seen - 1, 200, 0.01)
    assert statistics.coincidence_risk(40, 2.0) < 1e-30
    assert (statistics.coincidence_risk(0, 0.0), statistics.coincidence_risk(1, 0.0)) == (1.0, 0.0)


@pytest.mark.parametrize("sigma", [1.0, 1.3, 1.845, 2.0, 5.0, 40.0])
def test_the_steps_of_a_discrete_gaussian_are_in_the_claim(sigma: float) -> None:
    """No threshold tells a discrete Gaussian from itself one step on better than the mu that is claimed for it."""
    reach = int(12 * sigma) + 3
    weights = [exp(-(x * x) / (2 * sigma * sigma)) for x in range(-reach, reach + 1)]
    whole = sum(weights)
    tails = [1.0]
    for weight in weights:
        tails.append(tails[-1] - weight / whole)
    shown = max(
        statistics.mu_bound(with_it, without)
        for with_it, without in pairwise(tails)
        if without > 1e-8 and with_it < 1 - 1e-8
    )
    rho_micro = charge_micro(1, round(1000 * sigma))
    claim = claim_of(rho_micro, DELTA, sigma)
    assert 1 / sigma <= shown <= claim.mu * (1 + 1e-6)
    assert isclose(claim.epsilon, float(epsilon(Decimal(rho_micro) / 1_000_000, DELTA)), rel_tol=1e-9)


def test_noise_below_one_step_has_no_mu_to_judge() -> None:
    """There the form of the noise is no Gaussian's, and only epsilon and rho are held against the claim."""

    assert claim_of(2_000_000, DELTA, 0.9).mu == inf
