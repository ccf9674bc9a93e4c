"""Other mechanisms on the same exact counts, for the same budget: what they would have published.

Each takes whole days of exact leaf sums (days x leaves), the most by which one protected unit changes one leaf, and
the block lengths wanted; and returns the error of each block. Gaussian noise is the kernel's own (OpenDP, integers).
Blocks are those of an ordinary day; days with a clock change are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import opendp.prelude as dp
from murmure_privacy import accountant
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import IndicatorPlan
from numpy.typing import NDArray

from .errors import Error, Errors, summary
from .kernel import STREAM, Span, draw, planned

TOEPLITZ_BITS = 8

Leaves = NDArray[np.int64]
Blocks = Mapping[int, Errors]
"""By block length in leaves: errors, days x blocks."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What every mechanism of a table may spend on one protected unit that changes one leaf by `sensitivity`."""

    epsilon: float
    rho_micro: int
    sensitivity: int


Peer = Callable[[Leaves, Budget, Sequence[int], DiscreteGaussian], Blocks]


def _gaussian(exact: Leaves, sensitivity_sq: int, rho_micro: int, mechanism: DiscreteGaussian) -> Leaves:
    """Returns the integers with the least noise that hides the sensitivity at this rho."""
    sigma_milli = accountant.sigma_milli(sensitivity_sq, rho_micro)
    charge = accountant.charge_micro(sensitivity_sq, sigma_milli)
    planned = IndicatorPlan("peer", 1, sensitivity_sq, sigma_milli, charge)
    flat = [int(value) for value in exact.ravel()]
    return np.array(draw(flat, planned, mechanism), dtype=np.int64).reshape(exact.shape)


def _laplace(exact: Leaves, scale: float) -> Errors:
    """Returns floats with OpenDP's Laplace noise, as the first example of a tutorial has it."""
    space = dp.vector_domain(dp.atom_domain(T=float, nan=False)), dp.l1_distance(T=float)
    noisy = dp.m.make_laplace(*space, scale=scale)([float(value) for value in exact.ravel()])
    return np.array(noisy).reshape(exact.shape)


def _sums(leaves: NDArray[np.generic], length: int) -> NDArray[np.generic]:
    days, whole = leaves.shape
    summed: NDArray[np.generic] = leaves.reshape(days, whole // length, length).sum(axis=2)
    return summed


def _errors(estimate: NDArray[np.generic], exact: Leaves, lengths: Sequence[int]) -> Blocks:
    off = estimate.astype(np.float64) - exact
    return {length: _sums(off, length).astype(np.float64) for length in lengths}


def independent(exact: Leaves, budget: Budget, lengths: Sequence[int], mechanism: DiscreteGaussian) -> Blocks:
    """Gaussian noise on each leaf alone; longer blocks are their sums."""
    noisy = _gaussian(exact, budget.sensitivity**2, budget.rho_micro, mechanism)
    return _errors(noisy, exact, lengths)


def _ladder(whole: int) -> list[int]:
    """Returns the block lengths of a binary tree over the leaves: 1, 2, 4, ... as far as they divide, and the whole."""
    found = [1]
    while whole % (2 * found[-1]) == 0:
        found.append(2 * found[-1])
    return found if found[-1] == whole else [*found, whole]


def _least_squares(levels: Sequence[Errors], lengths: Sequence[int]) -> Errors:
    """Returns the leaves that fit noisy blocks of equal noise best (days x leaves)."""
    leaves = levels[lengths.index(1)].shape[1]
    rows = np.vstack([np.kron(np.eye(leaves // length), np.ones((1, length))) for length in lengths])
    fitted: Errors = np.concatenate(levels, axis=1) @ np.linalg.pinv(rows).T
    return fitted


def binary_tree(exact: Leaves, budget: Budget, lengths: Sequence[int], mechanism: DiscreteGaussian) -> Blocks:
    """Equal Gaussian noise on every node of a binary tree, then least squares over all of them."""
    ladder = _ladder(exact.shape[1])
    sensitivity_sq = len(ladder) * budget.sensitivity**2  # one unit is in one node of each level
    levels = [
        _gaussian(_sums(exact, length).astype(np.int64), sensitivity_sq, budget.rho_micro, mechanism).astype(float)
        for length in ladder
    ]
    return _errors(_least_squares(levels, ladder), exact, lengths)


def toeplitz(exact: Leaves, budget: Budget, lengths: Sequence[int], mechanism: DiscreteGaussian) -> Blocks:
    """Square root of the prefix-sum matrix (Fichtenberger, Henzinger, Upadhyay 2023), rounded to 8 bits so that
    integers stay integers; noise on each row of its product with the counts."""
    leaves = exact.shape[1]
    column = np.ones(leaves)
    for k in range(1, leaves):
        column[k] = column[k - 1] * (2 * k - 1) / (2 * k)
    rounded = np.rint(column * 2**TOEPLITZ_BITS).astype(np.int64)
    matrix = np.array([[rounded[i - j] if i >= j else 0 for j in range(leaves)] for i in range(leaves)])
    sensitivity_sq = int((matrix.astype(object) ** 2).sum(axis=0).max()) * budget.sensitivity**2
    noisy = _gaussian(exact @ matrix.T, sensitivity_sq, budget.rho_micro, mechanism)
    return _errors(np.linalg.solve(matrix.astype(np.float64), noisy.T.astype(np.float64)).T, exact, lengths)


def laplace_per_window(exact: Leaves, budget: Budget, lengths: Sequence[int], _: DiscreteGaussian) -> Blocks:
    """Float Laplace noise of scale sensitivity/epsilon on each leaf; longer blocks are their sums. A unit is in one
    leaf, so all leaves together cost epsilon (parallel composition), with delta = 0."""
    return _errors(_laplace(exact, budget.sensitivity / budget.epsilon), exact, lengths)


def laplace_split_over_day(exact: Leaves, budget: Budget, lengths: Sequence[int], _: DiscreteGaussian) -> Blocks:
    """The same by someone who shares epsilon out among the leaves of the day, since every release "costs"."""
    return _errors(_laplace(exact, exact.shape[1] * budget.sensitivity / budget.epsilon), exact, lengths)


def laplace_per_level(exact: Leaves, budget: Budget, lengths: Sequence[int], _: DiscreteGaussian) -> Blocks:
    """Laplace noise on the same nodes as ours, epsilon shared out equally among the levels, then least squares."""
    scale = len(lengths) * budget.sensitivity / budget.epsilon
    levels = [_laplace(_sums(exact, length).astype(np.int64), scale) for length in lengths]
    return _errors(_least_squares(levels, lengths), exact, lengths)


PEERS: dict[str, Peer] = {
    "independent": independent,
    "binary tree": binary_tree,
    "square-root Toeplitz": toeplitz,
    "Laplace per window": laplace_per_window,
    "Laplace, epsilon split over the day": laplace_split_over_day,
    "Laplace per level": laplace_per_level,
}


def budget_of_mean(stream: str, epsilon: str) -> Budget:
    """Returns what a peer may spend on the mean of a stream (its part of the policy) that publishes nothing else."""
    made = planned(stream, epsilon, "UTC")
    policy = made.policy.streams[0]
    reach = policy.unit_readings * (policy.highest - policy.bounds[0])
    return Budget(float(epsilon), made.streams[STREAM].rho_micro, reach)


def hours(spans: Sequence[Span]) -> Leaves:
    """Returns the exact hourly sums of the days of 24 hours, days x 24, in the reading's unit times slots."""
    days = [[a.sums["mean"][0] for a in span.aggregates if a.node.level == "1h"] for span in spans]
    return np.array([sums for sums in days if len(sums) == 24], dtype=np.int64)


def of_means(exact: Leaves, budget: Budget, per_mean: int, mechanism: DiscreteGaussian) -> dict[str, dict[str, Error]]:
    """Returns the errors of hourly and daily means by mechanism and level. `per_mean`: what an hour's sum is over its
    mean, slots times reading units in a printed one."""
    found = {}
    for name, peer in PEERS.items():
        blocks = peer(exact, budget, (1, 24), mechanism)
        found[name] = {"1h": summary(list(blocks[1] / per_mean)), "1d": summary(list(blocks[24] / per_mean / 24))}
    return found
