"""How likely is the audit to catch an error of a given size? Prints the table of docs/audit.md; takes some minutes.

The noise is OpenDP's at the scales of a plan, one node a run; the statistics are the audit's own. What an agent adds
between reading and message costs time and changes nothing of this.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from math import sqrt

from murmure.audit import CONFIDENCE, claim_of
from murmure_privacy import accountant
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import IndicatorPlan

from murmure import audit_statistics as statistics

DELTA = Decimal("1e-6")
UNIT = 100  # crossings that are protected together, so that sigma is far above one step at every rho
RHOS = (Decimal("0.025"), Decimal("0.1"), Decimal("0.5"))
ERRORS = (("none", 1.0), ("sensitivity x 1.41", sqrt(2)), ("sensitivity x 2", 2.0))
SIZES = (1000, 5000, 20_000)
REPEATS = 20
AT_ONCE = 2000  # draws in one call


def noise(sigma: float, count: int) -> list[int]:
    """So many draws of the discrete Gaussian, through the kernel's own door."""
    source = DiscreteGaussian()
    drawn = IndicatorPlan("crossings", AT_ONCE, 1, round(sigma * 1000), accountant.charge_micro(1, round(sigma * 1000)))
    return [value for _ in range(count // AT_ONCE) for value in source.draw((0,) * AT_ONCE, drawn)]


def caught(without: list[float], with_canary: list[float], rho_micro: int, sigma: float) -> bool:
    """Whether one audit of these runs fails, before the rule for running it again."""
    claim = claim_of(rho_micro, DELTA, sigma)
    risk = (1 - CONFIDENCE) / 3
    return (
        statistics.prove(without, with_canary, statistics.mu_bound, risk).bound > claim.mu
        or statistics.prove(without, with_canary, statistics.rho_bound, risk).bound > claim.rho
        or statistics.prove(
            without, with_canary, lambda hit, alarm: statistics.epsilon_bound(hit, alarm, claim.delta), risk
        ).bound
        > claim.epsilon
    )


def main() -> None:
    """Prints the share of audits that fail, as a table in Markdown."""
    print("| rho | error | " + " | ".join(f"n = {size}" for size in SIZES) + " |")
    print("| --- | --- |" + " ---: |" * len(SIZES))
    for rho in RHOS:
        rho_micro = int(rho * accountant.MICRO)
        sigma = accountant.sigma_milli(UNIT * UNIT, rho_micro) / 1000
        for name, factor in ERRORS:
            shares = []
            for size in SIZES:
                fails = 0
                for repeat in range(REPEATS):
                    print(f"\rrho {rho}, {name}, n {size}, {repeat} of {REPEATS} ", end="", file=sys.stderr, flush=True)
                    without = [value / sigma for value in noise(sigma, 2 * size)]
                    with_canary = [value + factor * UNIT / sigma for value in without[size:]]
                    fails += caught(without[:size], with_canary, rho_micro, sigma)
                shares.append(f"{fails / REPEATS:.2f}")
            print(f"| {rho} | {name} | " + " | ".join(shares) + " |", flush=True)


if __name__ == "__main__":
    main()
