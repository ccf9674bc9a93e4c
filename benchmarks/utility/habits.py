"""What one crossing's epsilon becomes for someone who crosses on many days, with our noise and with Laplace's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from math import exp
from statistics import NormalDist

import numpy as np
from murmure_privacy import accountant

from .errors import Errors
from .kernel import DELTA

DAYS = (1, 2, 3, 10, 30, 365)
LEVELS = 4


@dataclass(frozen=True, slots=True)
class Habit:
    """Someone who crosses once on each of `days` days: the epsilon of our noise and of Laplace noise on the same nodes
    (both promise the same for one crossing), and the daily error that Laplace would have at our epsilon."""

    days: int
    ours: float
    laplace: float
    laplace_error: float


def _laplace_epsilon(days: int, levels: int, scale_up: float, epsilon: float) -> float:
    """Returns the better of two proofs for `days` times `levels` Laplace releases: plain addition, and zCDP, where a
    release of pure epsilon costs rho = epsilon^2 / 2 (Bun, Steinke 2016, proposition 1.4)."""
    each = epsilon / levels / scale_up
    rho = Decimal(days * levels * each**2 / 2)
    return min(days * levels * each, float(accountant.epsilon(rho, Decimal(DELTA))))


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Returns where a falling function crosses zero."""
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def _rho(epsilon: str) -> Decimal:
    return Decimal(accountant.rho_micro(Decimal(epsilon), Decimal(DELTA))) / accountant.MICRO


def _ours(days: int, epsilon: str) -> float:
    """Returns the epsilon of our noise for someone who crosses once on each of the days."""
    return float(accountant.epsilon(days * _rho(epsilon), Decimal(DELTA)))


def growth(days: int, levels: int, epsilon: str) -> float:
    """Returns by what factor Laplace noise on so many levels must grow to promise her the same as ours does."""
    ours = _ours(days, epsilon)
    return _root(lambda scale: _laplace_epsilon(days, levels, scale, float(epsilon)) - ours, 0.01, 100)


def habits(epsilon: str, laplace_day_rmse: float) -> list[Habit]:
    """Returns a line for each number of days. `laplace_day_rmse`: its error with the same epsilon for one crossing."""
    return [
        Habit(
            days,
            _ours(days, epsilon),
            _laplace_epsilon(days, LEVELS, 1, float(epsilon)),
            laplace_day_rmse * growth(days, LEVELS, epsilon),
        )
        for days in DAYS
    ]


def laplace_exact_rmse(epsilon: float, lengths: tuple[int, ...]) -> dict[int, float]:
    """Returns, by block length, the exact error of Laplace noise per level after least squares (day of 96 leaves)."""
    leaves = lengths[-1]
    rows = [np.kron(np.eye(leaves // length), np.ones((1, length))) for length in lengths]
    scale = len(lengths) / epsilon
    covariance: Errors = 2 * scale**2 * np.linalg.inv(sum(row.T @ row for row in rows))
    return {
        length: float(np.sqrt(np.mean(np.diag(row @ covariance @ row.T))))
        for length, row in zip(lengths, rows, strict=True)
    }


def means_turn(ours: float, epsilon: str, levels: int) -> int:
    """Returns on how many days she must be there for Laplace noise to have the larger weighted error at our epsilon,
    hourly and daily means with weights 1 and 24. `ours`: our weighted error in units of 1/sqrt(2 rho); `levels`: 1, on
    hours alone, or 2, on hours and days."""
    alone = 2**0.5 / float(epsilon)
    exact = laplace_exact_rmse(float(epsilon), (1, 24)) if levels > 1 else {1: alone, 24: 24**0.5 * alone}
    laplace = float(np.sqrt((exact[1] ** 2 + 24 * (exact[24] / 24) ** 2) / 25))
    wanted = ours / float(2 * _rho(epsilon)) ** 0.5 / laplace
    return next(days for days in range(1, DAYS[-1]) if growth(days, levels, epsilon) > wanted)


def least_gaussian_sigma(epsilon: float) -> float:
    """Returns the least sigma of one Gaussian release for a change of one (Balle, Wang 2018): what a single release
    could have if nothing were ever composed."""
    delta = float(DELTA)

    def excess(sigma: float) -> float:
        lower = NormalDist().cdf(-1 / (2 * sigma) - epsilon * sigma)
        return NormalDist().cdf(1 / (2 * sigma) - epsilon * sigma) - exp(epsilon) * lower - delta

    return _root(excess, 0.1, 1000)
