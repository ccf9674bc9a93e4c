"""The least weighted error that any unbiased linear Gaussian mechanism can have: the dual of the matrix mechanism.

For a workload W (one row a printed figure, scaled by the root of its weight) every factorisation W = L C has
max_j |C e_j|^2 |L|_F^2 >= |W diag(sqrt v)|_*^2 for every probability vector v over the leaves, | |_* the sum of the
singular values (Li and others 2015; Henzinger, Upadhyay, Upadhyay 2023). So any v certifies a bound; nothing here
knows the closed form of the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from murmure_privacy.estimate import figures
from murmure_privacy.window import Calendar, parse_utc
from numpy.typing import NDArray

from . import kernel

_ORDINARY_S = parse_utc("2026-03-11T12:00:00Z")

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Block:
    """One printed figure: its leaves (first, end) and the weight of its mean squared error."""

    first: int
    end: int
    weight: float


def workload(blocks: Sequence[Block], leaves: int, means: bool) -> Matrix:
    """Returns one row a block: its sum or mean over leaves, times the root of the block's weight."""
    rows = np.zeros((len(blocks), leaves))
    for row, block in zip(rows, blocks, strict=True):
        row[block.first : block.end] = np.sqrt(block.weight) / ((block.end - block.first) if means else 1)
    return rows


def least_rms(rows: Matrix, steps: int = 0) -> float:
    """Returns a lower bound on the root of the summed weighted squared errors, in units of 1/sqrt(2 rho).

    `steps`: of the fixed-point ascent over v, which begins at the uniform vector (optimal for blocks of equal length).
    """
    gram = rows.T @ rows
    v = np.full(len(gram), 1 / len(gram))
    best = 0.0
    for _ in range(steps + 1):
        root = np.sqrt(v)
        values, vectors = np.linalg.eigh(root[:, None] * gram * root[None, :])
        singular = np.sqrt(np.clip(values, 0, None))
        best = max(best, float(singular.sum()))
        pull = np.einsum("ij,j,ij->i", vectors, singular, vectors)  # diagonal of the matrix square root
        v = pull / pull.sum()
    return best


@dataclass(frozen=True, slots=True)
class Gap:
    """The weighted root mean square error of the published estimates of a policy's nodes, in units of 1/sqrt(2 rho)
    times what one unit of privacy moves a leaf by, beside the least that is possible."""

    nodes: str
    means: bool
    ours: float
    least: float

    @property
    def above(self) -> float:
        """Returns by what share ours is above the bound."""
        return self.ours / self.least - 1


def gap(nodes: str, means: bool, steps: int = 0) -> Gap:
    """Returns the gap of the plan for these weights on an ordinary day or week.

    Ours: from the standard errors that the estimator states, so from the noise scales as rounded for release, not from
    a formula. `means`: an air stream (weights act on means), else a footfall stream. `steps`: see `least_rms`.
    """
    text = (
        kernel.AIR.format(up_to="", cadence_ms=1000, tail=2, nodes=nodes, bounds=[0, 100])
        if means
        else kernel.FOOTFALL.format(crossings=1, nodes=nodes)
    )
    made = kernel.planned(text, "1", "UTC")
    stream = made.streams[kernel.STREAM]
    policy = stream.stream
    weights = {level: float(weight) for level, weight in policy.nodes}
    period = Calendar("UTC").period(weights, _ORDINARY_S)
    [span] = kernel.observed(made, [], [period])
    found = figures(kernel.blank(span, stream), "UTC", period.end_s)
    often = Counter(figure.level for figure in found)
    leaf_s = min(figure.end_s - figure.start_s for figure in found)
    leaf_moves = (
        policy.unit_readings * (policy.highest - policy.bounds[0]) / policy.quantity.per_unit / leaf_s if means else 1
    )
    unit = leaf_moves / (2 * stream.rho_micro / 1e6) ** 0.5
    squared = sum(weights[f.level] / often[f.level] * (f.standard_error / unit) ** 2 for f in found)
    blocks = [
        Block(
            (figure.start_s - period.start_s) // leaf_s,
            (figure.end_s - period.start_s) // leaf_s,
            weights[figure.level] / often[figure.level],
        )
        for figure in found
    ]
    least = least_rms(workload(blocks, (period.end_s - period.start_s) // leaf_s, means), steps)
    whole = sum(weights.values()) ** 0.5
    return Gap(nodes, means, squared**0.5 / whole, least / whole)
