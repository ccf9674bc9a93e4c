"""Privacy arithmetic: zero-concentrated DP inside (integer micro-rho), (epsilon, delta) outside.

Everything is exact or in fixed-precision decimals, so that a gateway, the centre and an auditor on other hardware
compute the same integers from the same policy.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from math import isqrt

MICRO = 1_000_000
_CONTEXT = Context(prec=40)
_GOLDEN = Decimal("0.6180339887498948482045868343656381177203")
_STEPS = 110


def _g(alpha: Decimal, delta: Decimal) -> Decimal:
    return ((1 / delta).ln() + alpha * (1 - 1 / alpha).ln() - (alpha - 1).ln()) / (alpha - 1)


def _minimum(value: Callable[[Decimal], Decimal]) -> Decimal:
    """Golden-section search over alpha = 1 + e^u. Any alpha is a valid bound; a better one is only tighter."""
    low, high = Decimal(-12), Decimal(16)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = value(1 + left.exp()), value(1 + right.exp())
    for _ in range(_STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = value(1 + left.exp())
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = value(1 + right.exp())
    return min(at_left, at_right)


def epsilon(rho: Decimal, delta: Decimal) -> Decimal:
    """Returns an epsilon with which rho-zCDP is (epsilon, delta)-DP: at least the exact one, tight to 10 digits.

    The optimised conversion of Canonne, Kamath, Steinke 2020 (proposition 12): the least over alpha > 1 of
    rho alpha + (ln(1/delta) + alpha ln(1 - 1/alpha) - ln(alpha - 1)) / (alpha - 1).
    """
    if rho <= 0:
        return Decimal(0)
    with localcontext(_CONTEXT):
        return max(Decimal(0), _minimum(lambda alpha: rho * alpha + _g(alpha, delta)))


def rho_micro(epsilon_limit: Decimal, delta: Decimal) -> int:
    """Returns the largest micro-rho whose conversion stays within (epsilon, delta), rounded down."""
    with localcontext(_CONTEXT):
        rho = -_minimum(lambda alpha: (_g(alpha, delta) - epsilon_limit) / alpha)
        return max(0, int(rho * MICRO))


def charge_micro(sensitivity_sq: int, sigma_milli: int) -> int:
    """Returns what a release costs in micro-rho, rounded up: ceil(10^6 sensitivity^2 / (2 sigma^2)).

    `sensitivity_sq`: squared L2 sensitivity in squared integer units; `sigma_milli`: thousandths of such a unit.
    """
    return -(-(MICRO * MICRO * sensitivity_sq) // (2 * sigma_milli * sigma_milli))


def sigma_milli(sensitivity_sq: int, budget_micro: int) -> int:
    """Returns the smallest sigma, in thousandths, whose charge fits the budget of micro-rho (at least 1)."""
    least_sq = -(-(MICRO * MICRO * sensitivity_sq) // (2 * budget_micro))
    root = isqrt(least_sq)
    return max(1, root if root * root == least_sq else root + 1)
