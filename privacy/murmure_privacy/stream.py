"""What is measured: quantities, their integer units inside and their printed units outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["count", "level", "mean"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One measurable quantity.

    `kind`: a `count` adds up (crossings), a `level` is in decibels (mean, histogram and energy are released), a `mean`
    is averaged (air). Readings are integers: `per_unit` of them make one printed unit (10: tenths). `ceiling`: the
    largest reading that is not a broken sensor's, in reading units; where nothing else bounds a reading, it does.
    """

    name: str
    kind: Kind
    unit: str
    per_unit: int
    printed: str  # the key of its mean or count in `values`
    ceiling: int


QUANTITIES: dict[str, Quantity] = {
    q.name: q
    for q in (
        Quantity("footfall", "count", "1", 1, "crossings", 0),
        Quantity("noise", "level", "dB", 10, "level_db_mean", 1400),
        Quantity("pm1", "mean", "ug/m3", 10, "pm1_ug_m3", 100_000),
        Quantity("pm2_5", "mean", "ug/m3", 10, "pm2_5_ug_m3", 100_000),
        Quantity("pm10", "mean", "ug/m3", 10, "pm10_ug_m3", 100_000),
    )
}

INDICATORS: dict[Kind, tuple[str, ...]] = {
    "count": ("crossings",),
    "level": ("histogram", "mean", "energy"),
    "mean": ("mean",),
}
"""What a node of each kind releases, in the order in which it stands on the wire."""

HISTOGRAM_STEP_TENTHS = 50  # 5 dB bins: the finest that an hour can afford (privacy.md 3.2)


def histogram_edges_tenths(low_tenths: int, high_tenths: int) -> tuple[int, ...]:
    """Returns the edges of the 5 dB bins between the bounds, in tenths of a decibel, both bounds included."""
    return tuple(range(low_tenths, high_tenths + 1, HISTOGRAM_STEP_TENTHS))
