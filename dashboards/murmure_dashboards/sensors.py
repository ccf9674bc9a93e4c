"""How far sensors of levels and of air are off by themselves, without any noise of ours, as their data sheets say."""

from __future__ import annotations

from collections.abc import Mapping

from murmure_privacy.preview import SENSORS

LEVEL_DB = 2.0
"""Of the RS-485 modules that hang in streets: 3 %, about 2 dB in the middle of their range. Class 2 is better."""
SHARES: Mapping[str, float] = {"pm1": 0.10, "pm2_5": 0.15, "pm10": 0.15}
"""The share of the value from which on it is the larger error: PMS5003 and SPS30 for PM1, SDS011 for the others."""


def own_error(quantity: str, value: float) -> float:
    """Returns by how much, in the quantity's printed unit, a sensor that shows `value` may be wrong to either side."""
    if quantity == "noise":
        return LEVEL_DB
    return max(float(SENSORS[quantity].error), SHARES[quantity] * value)
