"""The audit's bounds are what other libraries and closed forms say they are."""

from __future__ import annotations

import importlib
from decimal import Decimal
from itertools import pairwise, product
from math import comb, erfc, exp, inf, isclose, log, prod, sqrt
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


DRAWS = 100_000
SMALL_SIGMAS = [0.25, 0.4, 0.7, 1.0, 1.9]


def discrete(sigma: float) -> dict[int, float]:
    """The exact distribution of discrete Gaussian noise."""
    reach = int(12 * sigma) + 3
    weights = {z: exp(-z * z / (2 * sigma * sigma)) for z in range(-reach, reach + 1)}
    whole = sum(weights.values())
    return {z: weight / whole for z, weight in weights.items()}


@pytest.mark.parametrize("sigma", [*SMALL_SIGMAS, 2.0, 3.3, 40.0])
def test_coincidences_and_middles_are_those_of_the_discrete_gaussian(sigma: float) -> None:
    """The closed forms are the sums over the distribution, at every sigma."""
    noise = discrete(sigma)
    assert statistics.collision(sigma) == pytest.approx(sum(share * share for share in noise.values()), rel=1e-12)
    for reach in (0, 1, 3):
        within = sum(share for z, share in noise.items() if abs(z) <= reach)
        assert statistics.central(sigma, reach) == pytest.approx(within, rel=1e-12)


def test_the_middle_of_wide_noise_is_bounded_from_above() -> None:
    """Where it is not summed the bound is above the sum, by next to nothing."""
    sigma, reach = 4000.0, 1500
    exact = sum(share for z, share in discrete(sigma).items() if abs(z) <= reach)
    assert exact <= statistics.central(sigma, reach) <= exact * 1.001


@pytest.mark.parametrize("sigma", [0.4, 0.7, 1.5])
def test_a_small_spread_of_little_noise_is_as_rare_as_said(sigma: float) -> None:
    """Over everything that two groups of three draws can be, each risk is undercut with no more than that probability,
    wherever the unknown sums are."""
    noise = [(z, share) for z, share in discrete(sigma).items() if share > 1e-9]
    squares: dict[int, float] = {}
    examples: dict[int, list[int]] = {}
    for draws in product(noise, repeat=3):
        group = [z for z, _ in draws]
        square = sum((z - round(sum(group) / 3)) ** 2 for z in group)
        squares[square] = squares.get(square, 0.0) + prod(share for _, share in draws)
        examples[square] = group
    told = []
    for (one, likely), (other, too) in product(squares.items(), repeat=2):
        risk, _ = statistics.spread_risk([examples[one], examples[other]], sigma)
        told.append((risk, likely * too))
    passed = 0.0
    for risk, likely in sorted(told):
        passed += likely
        assert passed <= risk * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("sigma", SMALL_SIGMAS)
def test_little_noise_has_its_own_variance(sigma: float) -> None:
    """A hundred thousand draws in the proportions of the distribution are not odd, half the sigma and twice are; by the
    variance of a continuous Gaussian what is right would be condemned below sigma 0.7."""
    draws = [z for z, share in discrete(sigma).items() for _ in range(round(DRAWS * share))]
    risk, ratio = statistics.spread_risk([draws, draws], sigma)
    assert risk > 0.1
    assert ratio == pytest.approx(1, abs=0.02)
    assert statistics.spread_risk([draws, draws], 2 * sigma)[0] < 1e-6
    if sigma > 0.25:  # a draw of half of that is never moved
        assert statistics.spread_risk([draws, draws], sigma / 2)[0] < 1e-6
    variance = sum(z * z for z in draws) / len(draws) / sigma**2
    if sigma < 0.7:
        assert statistics.two_sided(statistics.spread_z(variance, DRAWS)) < 1e-6


@pytest.mark.parametrize("sigmas", [(0.6,), (0.6, 1.1), (2.5, 0.9, 1.4)])
@pytest.mark.parametrize("radius", [0.0, 0.3, 1.0, 1.7])
def test_no_point_has_more_noise_near_it_than_said(sigmas: tuple[float, ...], radius: float) -> None:
    """About whole numbers, halves and anything between, what lies within the radius is no likelier than the bound."""
    bound = statistics.near_chance(sigmas, radius)
    for place in ([0.0] * 3, [0.5] * 3, [0.25, 0.5, 0.0], [1.0, 0.1, -0.4]):
        near = sum(
            prod(share for _, share in draws)
            for draws in product(*(discrete(sigma).items() for sigma in sigmas))
            if sum(((z - at) / sigma) ** 2 for (z, _), at, sigma in zip(draws, place, sigmas, strict=False))
            <= radius * radius
        )
        assert near <= bound * (1 + 1e-9)
    if radius == 0:
        assert bound == pytest.approx(prod(discrete(sigma)[0] for sigma in sigmas), rel=1e-6)


@pytest.mark.parametrize("freedom", [1, 5, 60])
def test_a_quantile_of_a_chi_square_is_near_scipys(freedom: int) -> None:
    """Near enough to choose a radius by."""
    chi2 = importlib.import_module("scipy.stats").chi2
    assert statistics.chi_square_quantile(0.99, freedom) == pytest.approx(chi2.ppf(0.99, freedom), rel=0.02)


def test_binomial_risk_is_scipys() -> None:
    """So many or more, also where that is far out."""
    binom = importlib.import_module("scipy.stats").binom
    for seen, tries, chance in ((0, 10, 0.1), (1, 60, 1e-12), (3, 60, 0.01), (40, 5000, 0.002), (900, 5000, 0.15)):
        assert statistics.binomial_risk(seen, tries, chance) == pytest.approx(
            binom.sf(seen - 1, tries, chance), rel=1e-6
        )


@pytest.mark.parametrize("sigma", [0.3, 0.8, 3.0])
def test_sums_of_noise_stray_no_further_than_said(sigma: float) -> None:
    """Of one draw and of the sum of two with weights, exactly: the bound is never below."""
    noise = discrete(sigma)
    for weights in ((1, 0), (1, 1), (2, -1)):
        spread = sigma * sqrt(sum(weight * weight for weight in weights))
        for far in (0.5, 1, 2, 4, 6):
            exact = sum(
                one * two
                for (x, one), (y, two) in product(noise.items(), repeat=2)
                if abs(weights[0] * x + weights[1] * y) >= far * spread
            )
            assert exact <= statistics.subgaussian_risk(far * spread, spread)


def test_a_proof_is_made_at_the_risk_it_is_given() -> None:
    """Each of its two rates is bounded with half of the risk, and exactly with that."""
    proof = statistics.prove([0.0, 1.0] * 50, [1.0, 1.0, 0.0, 1.0] * 25, statistics.mu_bound, RISK)
    assert (proof.hits, proof.alarms, proof.runs) == (37, 25, 50)
    hits = sum(comb(50, n) * proof.hit_low**n * (1 - proof.hit_low) ** (50 - n) for n in range(37, 51))
    alarms = sum(comb(50, n) * proof.alarm_high**n * (1 - proof.alarm_high) ** (50 - n) for n in range(26))
    assert hits == pytest.approx(RISK / 2, rel=1e-9)
    assert alarms == pytest.approx(RISK / 2, rel=1e-9)


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
