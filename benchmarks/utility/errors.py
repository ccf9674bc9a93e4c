"""Errors gathered over spans and repeats, with the standard error of each figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BATCHES = 20

Errors = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Error:
    """Bias, root mean square and 95th percentile of the absolute error, in the unit of the errors, each with its
    standard error; `count` figures of `clusters` independent spans (those of one day share nodes, so are not)."""

    count: int
    clusters: int
    bias: float
    bias_se: float
    rmse: float
    rmse_se: float
    p95: float
    p95_se: float


def summary(clusters: Sequence[Errors]) -> Error:
    """Returns the summary of errors in independent clusters. Standard errors come from 20 interleaved batches."""
    every = np.concatenate(clusters)
    batches = [np.concatenate(clusters[first::BATCHES]) for first in range(min(BATCHES, len(clusters)))]

    def spread(values: Sequence[float]) -> float:
        return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")

    return Error(
        count=len(every),
        clusters=len(clusters),
        bias=float(every.mean()),
        bias_se=spread([float(batch.mean()) for batch in batches]),
        rmse=rms(every),
        rmse_se=spread([rms(batch) for batch in batches]),
        p95=p95(every),
        p95_se=spread([p95(batch) for batch in batches]),
    )


def rms(values: Errors) -> float:
    """Returns the root mean square."""
    return float(np.sqrt(np.mean(values**2)))


def p95(values: Errors) -> float:
    """Returns what 19 of 20 absolute values do not exceed."""
    return float(np.quantile(np.abs(values), 0.95))
