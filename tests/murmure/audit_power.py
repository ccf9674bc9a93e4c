"""How likely is the audit to catch an error of a given size, or one that is rare? Prints the tables of docs/audit.md.

The first is computed at once, the second takes some minutes. There the noise is OpenDP's at the scales of a plan, one
node a run; the statistics are the audit's own. What an agent adds between reading and message costs time and changes
nothing of this.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from math import sqrt

from murmure.audit import CHECK_RISK, CONFIDENCE, claim_of
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
RARELY = (50, 500, 5000)  # closings of which one is sent without noise
RUNS = (60, 114, 500, 1000, 5000, 20_000)
# Of integers that leave together: how many, their sigma, and of what street; with so many comparisons in an audit.
CLOSINGS = (
    (57, 8.0, 1, "57, the last closing of the audit's own street"),
    (24, 8.0, 1, "24, of a noise meter's hour and day"),
    (5, 2.236, 1, "5, of a beam's five levels at rho 0.5"),
    (1, 2.236, 1, "1, of a beam's quarter-hour at rho 0.5"),
    (1, 2.236, 5, "1, in five such quarter-hours together"),
)
COMPARISONS = 90


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


def rare() -> None:
    """Prints how likely the look `noiseless` finds one closing in so many that is sent without noise."""
    print("| integers in a closing | one in | " + " | ".join(f"n = {runs}" for runs in RUNS) + " |")
    print("| --- | ---: |" + " ---: |" * len(RUNS))
    for count, sigma, closings, name in CLOSINGS:
        for rarely in RARELY:
            shares = (found(count, sigma, closings, 1 / rarely, runs) for runs in RUNS)
            print(f"| {name} | {rarely} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")


def found(count: int, sigma: float, closings: int, share: float, runs: int) -> float:
    """The probability that one of the two halves of the runs tells; each half has `runs` runs of both streets."""
    sure = sigma / sqrt(runs / 2) * 3 < 0.5
    radius = 0.0 if sure else sqrt(statistics.chi_square_quantile(0.99, count) / (runs / 2))
    chance = statistics.near_chance([sigma] * count, radius)
    tries = closings * runs

    def risk(seen: int) -> float:
        if closings > 1:
            return statistics.coincidence_risk(seen, tries * chance)
        return statistics.binomial_risk(seen, tries, chance)

    least = next(seen for seen in range(1, tries + 2) if seen > tries or risk(seen) < CHECK_RISK / COMPARISONS)
    if least > tries:
        return 0.0
    seen = statistics.binomial_risk(least, tries, share * (1.0 if sure else 0.99) + (1 - share) * chance)
    return 1 - (1 - seen) ** 2


def main() -> None:
    """Prints both tables in Markdown; of the second, the share of audits that fail."""
    rare()
    print()
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
