"""The only source of noise and the only file that imports OpenDP: the discrete Gaussian on 64-bit integers.

OpenDP takes no seed and none is wanted: a draw cannot be repeated. `honest-but-curious` is never enabled.
"""

from __future__ import annotations

from typing import Any

import opendp.prelude as dp

from murmure_privacy.errors import MechanismError
from murmure_privacy.plan import VALUE_LIMIT, IndicatorPlan

dp.enable_features("contrib")

_SLACK = 1e-9  # a float's rounding, far below the micro-rho that charges are rounded up to


class DiscreteGaussian:
    """Draws noise for planned indicators. Measurements are built once each and their own privacy map is asked."""

    name = "discrete_gaussian"

    def __init__(self) -> None:
        self._measurements: dict[tuple[int, int, int], Any] = {}

    def prepare(self, indicator: IndicatorPlan) -> None:
        """Builds the measurement and compares what OpenDP says it costs with what the plan charges.

        Raises MechanismError if OpenDP's own bound is above the charge.
        """
        self._measurement(indicator)

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        """Returns the integers with fresh noise of the planned sigma on each, in the same order.

        Raises MechanismError for another number of integers than planned or for values outside 62 bits.
        """
        if len(exact) != indicator.width or any(abs(value) > VALUE_LIMIT for value in exact):
            raise MechanismError("the aggregate does not have the planned form; nothing was drawn")
        measurement = self._measurement(indicator)
        if indicator.width == 1:
            return (int(measurement(exact[0])),)
        return tuple(int(value) for value in measurement(list(exact)))

    def _measurement(self, indicator: IndicatorPlan) -> Any:
        key = (indicator.width, indicator.sensitivity_sq, indicator.sigma_milli)
        known = self._measurements.get(key)
        if known is None:
            if indicator.width == 1:
                space = dp.atom_domain(T="i64"), dp.absolute_distance(T="f64")
            else:
                space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
            measurement: Any = dp.m.make_gaussian(*space, scale=indicator.sigma_milli / 1000)
            states_rho = measurement.map(indicator.sensitivity_sq**0.5)
            if not states_rho * 1e6 <= indicator.rho_micro * (1 + _SLACK):
                raise MechanismError(
                    f"OpenDP states rho {states_rho}, the plan charges {indicator.rho_micro} micro-rho"
                )
            known = self._measurements[key] = measurement
        return known
