"""Privacy arithmetic: zero-concentrated DP inside (integer micro-rho), (epsilon, delta) outside.

Everything is exact or in fixed-precision decimals, so that a gateway, the centre and an auditor on other hardware
compute the same integers from the same policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from functools import lru_cache
from math import isqrt

MICRO = 1_000_000
UNITS = (1, 2, 4, 10)
SPAN_DAYS: Mapping[str, int] = {"1d": 1, "1w": 7, "30d": 30, "1y": 365}
_CONTEXT = Context(prec=40)
_UP_30 = Context(prec=30, rounding=ROUND_CEILING)  # ten digits fewer: above every rounding made with forty
_UP_6 = Context(prec=6, rounding=ROUND_CEILING)
_CLOSE = Decimal("1e-20")


def _best_alpha(rho: Decimal, log_inverse_delta: Decimal) -> Decimal:
    """Returns the alpha of the least bound. Its derivative is zero where rho (alpha - 1)^2 + ln alpha = ln(1/delta).

    In u = ln alpha the left side is convex and grows, so that Newton's steps from beyond the root fall towards it.
    """
    u = min(log_inverse_delta, (1 + (log_inverse_delta / rho).sqrt()).ln())
    step = Decimal(1)
    while step > _CLOSE:
        alpha = u.exp()
        step = (rho * (alpha - 1) ** 2 + u - log_inverse_delta) / (2 * rho * (alpha - 1) * alpha + 1)
        u -= step
    return u.exp()


def _bound(rho: Decimal, alpha: Decimal, log_inverse_delta: Decimal) -> Decimal:
    return rho * alpha + (log_inverse_delta + alpha * (1 - 1 / alpha).ln() - (alpha - 1).ln()) / (alpha - 1)


def epsilon(rho: Decimal, delta: Decimal) -> Decimal:
    """Returns an epsilon with which rho-zCDP is (epsilon, delta)-DP, rounded up at its 30th digit; 0 < delta < 1.

    The optimised conversion of Canonne, Kamath, Steinke 2020 (proposition 12): the least over alpha > 1 of
    rho alpha + (ln(1/delta) + alpha ln(1 - 1/alpha) - ln(alpha - 1)) / (alpha - 1). Any alpha proves its bound, so
    that what is shown is never too small.
    """
    if rho <= 0:
        return Decimal(0)
    with localcontext(_CONTEXT):
        log_inverse_delta = -delta.ln()
        least = _bound(rho, _best_alpha(rho, log_inverse_delta), log_inverse_delta)
    return max(Decimal(0), _UP_30.plus(least))


@lru_cache(maxsize=1024)  # a town writes the same few epsilons into thousands of policies
def rho_micro(epsilon_limit: Decimal, delta: Decimal) -> int:
    """Returns the largest micro-rho whose conversion stays within (epsilon, delta): what a policy may spend."""
    if epsilon_limit <= 0:
        return 0
    with localcontext(_CONTEXT):
        log_inverse_delta = -delta.ln()
        # From the textbook's looser rho + 2 sqrt(rho ln(1/delta)); epsilon is concave in rho with slope alpha, so
        # that Newton's steps rise towards the root and never pass it.
        rho = (epsilon_limit / ((log_inverse_delta + epsilon_limit).sqrt() + log_inverse_delta.sqrt())) ** 2
        step = Decimal(1)
        while step > _CLOSE:
            alpha = _best_alpha(rho, log_inverse_delta)
            step = (epsilon_limit - _bound(rho, alpha, log_inverse_delta)) / alpha
            rho += step
        below = int(rho * MICRO)
    return below + (epsilon(Decimal(below + 1) / MICRO, delta) <= epsilon_limit)


@dataclass(frozen=True, slots=True)
class Rung:
    """What `units` units of privacy on each day of a span cost together.

    `rho_micro` is exact; `epsilon` is rounded up to 6 digits; `odds`: see `odds`.
    """

    units: int
    span: str
    rho_micro: int
    epsilon: Decimal
    odds: Decimal | None


def ladder(
    day_rho_micro: int, delta: Decimal, units: Sequence[int] = UNITS, span_days: Mapping[str, int] = SPAN_DAYS
) -> list[Rung]:
    """Returns a rung for each span and number of units, spans outermost.

    n units on each of D days cost D n^2 times what one unit costs: charges of n units at once add like n^2 (group
    privacy of zCDP), those of different days add. `day_rho_micro`: the price of one unit of privacy.
    """
    rungs = []
    for span, days in span_days.items():
        for count in units:
            micro = days * count * count * day_rho_micro
            shown = _UP_6.plus(epsilon(Decimal(micro) / MICRO, delta))
            rungs.append(Rung(count, span, micro, shown, odds(shown, delta)))
    return rungs


def odds(epsilon_shown: Decimal, delta: Decimal) -> Decimal | None:
    """Returns e^epsilon, rounded up to 6 digits: the most by which what is published can raise the odds of "she passed
    by" against "she did not", but for delta. None where that is 1/delta or more: nothing worth the name is promised.

    At epsilon 1 even odds, 50 to 50, rise to 2.72 to 1, 73 to 27. See `right_guesses` for what that bounds exactly.
    """
    if epsilon_shown >= -delta.ln():
        return None
    return _UP_6.next_plus(_UP_6.exp(epsilon_shown))  # `exp` takes the nearest, whatever the context says


def right_guesses(epsilon_shown: Decimal, delta: Decimal) -> Decimal:
    """Returns the most often, as a share rounded up to 6 digits, that anybody guesses right who before seeing all that
    is published held "she passed by" and "she did not" for equally likely: (e^epsilon + delta) / (1 + e^epsilon).

    Source: Kairouz, Oh, Viswanath 2015, theorem 2.1 (the operating curve of an (epsilon, delta)-private mechanism).
    """
    with localcontext(_CONTEXT):
        inverse = (-epsilon_shown).exp()  # e^epsilon itself may have no end
        share = (1 + delta * inverse) / (1 + inverse)
    return _UP_6.plus(share)


def right_guesses_zcdp(rho: Decimal) -> Decimal:
    """Returns the same share from rho itself: tighter, and without a delta.

    Half of one plus the total variation distance, which rho-zCDP bounds through the Kullback-Leibler divergence, at
    most rho: by sqrt(rho / 2) (Pinsker) and by sqrt(1 - e^-rho) (Bretagnolle, Huber 1979).
    """
    with localcontext(_CONTEXT):
        share = (1 + min(rho / 2, 1 - (-rho).exp()).sqrt()) / 2
    return _UP_6.plus(share)


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
