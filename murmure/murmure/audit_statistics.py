"""What two samples of one number prove about a privacy claim: exact confidence bounds and the read-outs made of them.

No numpy and no scipy: the audit runs wherever the gateway's software does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from math import erf, erfc, exp, inf, lgamma, log, log1p, pi, prod, sqrt
from statistics import NormalDist

NORMAL = NormalDist()
_CANDIDATES = 200  # thresholds among which the first half chooses
_ORDERS = tuple(1 + exp(step / 8) for step in range(-40, 41))  # of Renyi divergences; any of them gives a valid bound
_TILTS = tuple(exp(step / 4) for step in range(-12, 29))  # of few squares; likewise
_SHRINKING = tuple(exp(step / 4) for step in range(1, 60))  # of a variance; likewise
_GAUSSIAN_FROM = 2.0  # sigma from which squares of discrete noise are summed as a Gaussian's
_SUMMED = 1000  # values that are summed one by one


def beta_cdf(x: float, a: float, b: float) -> float:
    """Returns the regularised incomplete beta function I_x(a, b), for a and b above 0, to about 1e-10.

    Lentz's evaluation of the continued fraction DLMF 8.17.22, which converges fast below the mean.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = exp(a * log(x) + b * log1p(-x) + lgamma(a + b) - lgamma(a) - lgamma(b)) / a
    above, below = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    fraction = below
    for m in count(1):
        change = 1.0
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            above, below = _not_zero(1 + term / above), 1 / _not_zero(1 + term * below)
            change = above * below
            fraction *= change
        if abs(change - 1) < 1e-15:
            break
    return front * fraction


def _not_zero(value: float) -> float:
    return value or 1e-300


def _solve(falls: Callable[[float], bool]) -> tuple[float, float]:
    """Returns a bracket of the point up to which `falls` is true, on [0, 1]."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if falls(middle):
            low = middle
        else:
            high = middle
    return low, high


def clopper_pearson(hits: int, runs: int, risk: float) -> tuple[float, float]:
    """Returns one-sided bounds of a probability, each wrong with probability at most `risk`, from `hits` of `runs`.

    Exact for any probability and number of runs. Clopper, Pearson 1934.
    """
    low = 0.0 if hits == 0 else _solve(lambda p: beta_cdf(p, hits, runs - hits + 1) < risk)[0]
    high = 1.0 if hits == runs else _solve(lambda p: beta_cdf(p, hits + 1, runs - hits) < 1 - risk)[1]
    return low, high


def epsilon_bound(hit: float, false_alarm: float, delta: float) -> float:
    """Returns the epsilon that (epsilon, delta)-DP must at least have if some event happens with probability `hit` or
    more on one side and `false_alarm` or less on the other; 0 if that says nothing. Kairouz, Oh, Viswanath 2015."""
    best = 0.0
    for more, less in ((hit, false_alarm), (1 - false_alarm, 1 - hit)):
        if more - delta > less:
            best = max(best, log((more - delta) / less) if less > 0 else inf)
    return best


def mu_bound(hit: float, false_alarm: float) -> float:
    """Returns the distance in standard deviations of two Gaussians that are told apart as well, at least 0.

    mu-Gaussian DP of Dong, Roth, Su 2022: rho-zCDP by Gaussian noise has mu = sqrt(2 rho).
    """
    if not false_alarm < hit:
        return 0.0
    if hit == 1 or false_alarm == 0:
        return inf
    return NORMAL.inv_cdf(hit) - NORMAL.inv_cdf(false_alarm)


def rho_bound(hit: float, false_alarm: float) -> float:
    """Returns the rho that zero-concentrated DP must at least have for these two probabilities, whatever the noise.

    No test of what leaves can have a Renyi divergence above that of what leaves, alpha rho at order alpha.
    The data-processing inequality; Bun, Steinke 2016.
    """
    if not false_alarm < hit:
        return 0.0
    if hit == 1 or false_alarm == 0:
        return inf
    return max(max(_renyi(hit, false_alarm, order), _renyi(false_alarm, hit, order)) / order for order in _ORDERS)


def _renyi(p: float, q: float, order: float) -> float:
    """Returns the Renyi divergence of two coins, in nats, for p and q strictly between 0 and 1."""
    parts = (order * log(p) + (1 - order) * log(q), order * log1p(-p) + (1 - order) * log1p(-q))
    top = max(parts)
    return max(0.0, (top + log(sum(exp(part - top) for part in parts))) / (order - 1))


@dataclass(frozen=True, slots=True)
class Proof:
    """One read-out: how often the statistic passed `threshold` with the canary (`hits`) and without (`alarms`) in
    `runs` runs of each, the exact bounds of both, and the `bound` that these prove."""

    threshold: float
    runs: int
    hits: int
    alarms: int
    hit_low: float
    alarm_high: float
    bound: float


def prove(
    without: Sequence[float], canary: Sequence[float], bound: Callable[[float, float], float], risk: float
) -> Proof:
    """Returns a lower bound that is wrong with probability at most `risk`, from equally many runs of both inputs.

    The first half chooses the threshold, the second half proves: what chooses must not also count.
    """
    half = len(without) // 2
    threshold = _threshold(sorted(without[:half]), sorted(canary[:half]), bound, risk)
    runs = len(without) - half
    hits = sum(value >= threshold for value in canary[half:])
    alarms = sum(value >= threshold for value in without[half:])
    hit_low, _ = clopper_pearson(hits, runs, risk / 2)
    _, alarm_high = clopper_pearson(alarms, runs, risk / 2)
    return Proof(threshold, runs, hits, alarms, hit_low, alarm_high, bound(hit_low, alarm_high))


def _threshold(
    without: Sequence[float], canary: Sequence[float], bound: Callable[[float, float], float], risk: float
) -> float:
    """Returns the threshold with the best bound on sorted samples; Wilson's interval is near enough to choose by."""
    runs = len(without)
    pooled = sorted((*without, *canary))
    z = NORMAL.inv_cdf(1 - risk / 2)

    def promise(threshold: float) -> float:
        hits, alarms = runs - bisect_left(canary, threshold), runs - bisect_left(without, threshold)
        return bound(_wilson(hits, runs, -z), _wilson(alarms, runs, z))

    middle = pooled[len(pooled) // 2]
    candidates = {pooled[len(pooled) * number // _CANDIDATES] for number in range(_CANDIDATES)}
    return max(sorted(candidates), key=lambda threshold: (promise(threshold), -abs(threshold - middle)))


def _wilson(hits: int, runs: int, z: float) -> float:
    share = hits / runs
    centre = share + z * z / (2 * runs)
    spread = z * sqrt(share * (1 - share) / runs + z * z / (4 * runs * runs))
    return min(1.0, max(0.0, (centre + spread) / (1 + z * z / runs)))


def two_sided(z: float) -> float:
    """Returns the probability that a standard normal is further from 0 than `z`."""
    return erfc(abs(z) / sqrt(2))


def theta(variance: float) -> float:
    """Returns the sum of exp(-z^2 / (2 `variance`)) over all whole z, by which a discrete Gaussian is divided.

    Poisson summation: the integral differs from it by 2 exp(-2 pi^2 variance), relatively, and is taken where that is
    below a float's rounding.
    """
    if variance > 4:
        return sqrt(2 * pi * variance)
    return 1 + 2 * sum(exp(-z * z / (2 * variance)) for z in range(1, int(10 * sqrt(variance)) + 2))


def collision(sigma: float) -> float:
    """Returns the probability that two draws of discrete Gaussian noise are equal."""
    return theta(sigma * sigma / 2) / theta(sigma * sigma) ** 2


def central(sigma: float, reach: int) -> float:
    """Returns the probability that a draw of discrete Gaussian noise is at most `reach` from 0, or a bound just above
    it. No other 2 `reach` + 1 values are as likely."""
    if reach > _SUMMED:
        return min(
            1.0, 1 / theta(sigma * sigma) + erf(reach / (sigma * sqrt(2)))
        )  # a falling sum is below its integral
    either_side = sum(exp(-z * z / (2 * sigma * sigma)) for z in range(1, reach + 1))
    return min(1.0, (1 + 2 * either_side) / theta(sigma * sigma))


def near_chance(sigmas: Sequence[float], radius: float) -> float:
    """Returns a bound on the probability that independent discrete Gaussians lie so near to any one point, wherever it
    is. `radius`: the root of the sum of squares, each in units of its own sigma.

    Both the box about the ball and Chernoff's bound are largest about 0, the second by Poisson summation.
    """
    box = prod(central(sigma, int(radius * sigma + 0.5)) for sigma in sigmas)
    ball = min(
        (shrinking - 1) / 2 * radius * radius
        + sum(log(theta(sigma * sigma / shrinking) / theta(sigma * sigma)) for sigma in sigmas)
        for shrinking in _SHRINKING
    )
    return min(box, exp(min(0.0, ball)))


def chi_square_quantile(share: float, freedom: int) -> float:
    """Returns about what a chi-square is below with probability `share`. Wilson, Hilferty 1931."""
    step = 2 / (9 * freedom)
    return float(freedom * (1 - step + NORMAL.inv_cdf(share) * sqrt(step)) ** 3)


def subgaussian_risk(distance: float, sigma: float) -> float:
    """Returns a bound on the probability that a sum of independent discrete Gaussians, each with a fixed weight, is so
    far from its mean. `sigma`: that of the same sum of continuous ones. Canonne, Kamath, Steinke 2020."""
    return min(1.0, 2 * exp(-((distance / sigma) ** 2) / 2))


def binomial_risk(seen: int, tries: int, chance: float) -> float:
    """Returns the probability that `seen` or more of `tries` succeed."""
    return 1.0 if seen == 0 else beta_cdf(chance, seen, tries - seen + 1)


def spread_risk(groups: Sequence[Sequence[int]], sigma: float) -> tuple[float, float]:
    """Returns a bound on the probability that discrete Gaussian noise spreads so far, or so little, and the squares as
    multiples of those due. `groups`: integers that share one unknown sum each.

    From sigma 2 on the squares are a chi-square's, as nearly as can be told. Below it steps and tails are not a
    Gaussian's, and Chernoff's bounds are taken of the noise itself.
    """
    gaussian = sigma >= _GAUSSIAN_FROM
    squares = 0.0
    for group in groups:
        # Sums of 64-bit integers are exact in Python; the mean is taken of what is left of the first value.
        first = group[0]
        mean = sum(value - first for value in group) / len(group)
        middle = mean if gaussian else round(mean)
        squares += sum((value - first - middle) ** 2 for value in group)
    draws = sum(map(len, groups))
    if gaussian:
        freedom = draws - len(groups)
        ratio = squares / freedom / sigma**2
        return two_sided(spread_z(ratio, freedom)), ratio
    units = squares / sigma**2
    wide = min(draws * grown - tilt * units for tilt, grown in _grown(sigma))
    # About the whole number that fits best there are fewer squares than about the sum. To the bound of few squares that
    # adds those about all other numbers.
    shrunk = [_shrunk(sigma, len(group)) for group in groups]
    narrow = min(tilt * units + sum(column) for tilt, *column in zip(_TILTS, *shrunk, strict=True))
    return min(1.0, 2 * exp(min(0.0, wide, narrow))), units / draws / _variance_share(sigma)


def _variance_share(sigma: float) -> float:
    """Returns the variance of a discrete Gaussian as a multiple of sigma squared."""
    reach = range(1, int(10 * sigma) + 2)
    return 2 * sum(z * z * exp(-z * z / (2 * sigma * sigma)) for z in reach) / theta(sigma * sigma) / sigma**2


@cache
def _grown(sigma: float) -> list[tuple[float, float]]:
    """Returns (t, logarithm of the mean of exp(t Z^2 / sigma^2)) for some t."""
    return [
        ((1 - 1 / growth) / 2, log(theta(sigma * sigma * growth) / theta(sigma * sigma)))
        for growth in (exp(step / 8) for step in range(1, 33))
    ]


@cache
def _shrunk(sigma: float, size: int) -> list[float]:
    """Returns, for each of _TILTS, the logarithm of the mean of exp(-t sum (Z - c)^2 / sigma^2) over `size` draws,
    summed over all whole c."""
    reach = int(10 * sigma) + 2
    found = []
    for tilt in _TILTS:
        means = [
            sum(exp(-(z * z / 2 + tilt * (z - c) ** 2) / sigma**2) for z in range(-reach, reach + 1))
            for c in range(reach + 1)
        ]
        others = 2 * sum((mean / means[0]) ** size for mean in means[1:])
        found.append(size * log(means[0] / theta(sigma * sigma)) + log1p(others))
    return found


def spread_z(ratio: float, freedom: int) -> float:
    """Returns how many standard deviations a sample variance, as a multiple of the true one, is from it.

    Wilson, Hilferty 1931: the cube root of a chi-square is nearly normal, far into its tails.
    """
    step = 2 / (9 * freedom)
    return float((max(ratio, 0.0) ** (1 / 3) - (1 - step)) / sqrt(step))


def coincidence_risk(seen: int, expected: float) -> float:
    """Returns a bound on the probability of `seen` or more coincidences where `expected` are due: Chernoff's."""
    if seen <= expected:
        return 1.0
    return exp(seen - expected - seen * log(seen / expected)) if expected > 0 else 0.0
