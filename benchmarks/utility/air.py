"""PM2.5: what noise adds to the hourly and daily mean, and what clamping and silence add, beside the sensor's error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from murmure_privacy.estimate import figures
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.window import Calendar

from . import kernel
from .errors import Error, Errors, summary
from .recorded import Readings, Source, held, periods, read

NODES = '{ "1h" = 1, "1d" = 24 }'
DATASHEET_UG_M3 = 10.0
"""SDS011: the larger of 10 ug/m3 and 15 %, at 25 degrees and half-dry air."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A policy for one way of running the sensor. `up_to`: the level that bounds the unit, or None (clamped)."""

    name: str
    cadence_ms: int
    tail: int
    bounds: tuple[int, int]
    up_to: int | None

    def toml(self) -> str:
        """Returns the stream's part of the policy."""
        return kernel.AIR.format(
            up_to="" if self.up_to is None else f", up_to = {self.up_to}",
            cadence_ms=self.cadence_ms,
            tail=self.tail,
            nodes=NODES,
            bounds=list(self.bounds),
        )


STREAMING = Setting("every second, clamped to 0-100", 1000, 2, (0, 100), None)
SETTINGS = (
    STREAMING,
    Setting("every second, puffs of up to 50", 1000, 2, (0, 100), 50),
    Setting("every second, puffs of up to 25", 1000, 2, (0, 100), 25),
    Setting("every 150 s, clamped to 0-100", 150_000, 2, (0, 100), None),
)


class Means:
    """Mean of the readings of an interval, unclamped, over the slots that have one."""

    def __init__(self, readings: Readings) -> None:
        self._times = np.array([time_ms for time_ms, _ in readings])
        self._before = np.concatenate([[0], np.cumsum([value for _, value in readings])])

    def ug_m3(self, start_s: int, end_s: int) -> float:
        """Returns the mean of an interval in s UTC."""
        first, end = np.searchsorted(self._times, [start_s * 1000, end_s * 1000])
        return float((self._before[end] - self._before[first]) / max(1, end - first) / 10)


@dataclass(frozen=True, slots=True)
class Place:
    """One recorded sensor: whole days as exact aggregates, and what it read."""

    timezone: str
    spans: tuple[kernel.Span, ...]
    truth: Means


@dataclass(frozen=True, slots=True)
class Measured:
    """Errors in ug/m3 by level: what the noise alone did, and all together against the mean of what was read."""

    noise: Mapping[str, Error]
    whole: Mapping[str, Error]


def places(sources: Sequence[Source], settings: Sequence[Setting]) -> dict[str, list[Place]]:
    """Returns the sensors of a recording through the kernel's windows, each row held until the next one; by setting."""
    found: dict[str, list[Place]] = {setting.name: [] for setting in settings}
    for source in sources:
        made = {setting: kernel.planned(setting.toml(), "1", source.timezone) for setting in settings}
        rows = read(source, made[settings[0]].policy.streams[0])
        # A recording that says it is one day may lack its first and last minute.
        start_ms, end_ms = rows.start_ms - rows.step_ms, rows.end_ms + rows.step_ms
        wanted = list(periods(Calendar(source.timezone), ["1d"], start_ms, end_ms))
        for cadence_ms in dict.fromkeys(setting.cadence_ms for setting in settings):
            alike = [setting for setting in settings if setting.cadence_ms == cadence_ms]
            readings = held(rows, made[alike[0]].policy.streams[0])
            truth = Means(readings)
            for setting in alike:
                spans = tuple(kernel.observed(made[setting], readings, wanted))
                found[setting.name].append(Place(source.timezone, spans, truth))
    return found


def ours(
    measured: Sequence[Place], setting: Setting, epsilon: str, mechanism: DiscreteGaussian, repeats: int
) -> Measured:
    """Returns the errors of the final estimates over all days of all sensors, `repeats` draws each."""
    noise: dict[str, list[Errors]] = {}
    whole: dict[str, list[Errors]] = {}
    for place in measured:
        stream = kernel.planned(setting.toml(), epsilon, place.timezone).streams[kernel.STREAM]
        exact = {
            aggregate.node.key: aggregate.sums["mean"][0] / aggregate.node.slots / 10
            for span in place.spans
            for aggregate in span.aggregates
        }
        for released in kernel.releases(place.spans, stream, mechanism, repeats):
            off: dict[str, list[tuple[float, float]]] = {}
            for figure in figures(released, place.timezone, released[-1].node.end_s):
                held_to = exact[figure.stream, figure.level, figure.start_s]
                read_as = place.truth.ug_m3(figure.start_s, figure.end_s)
                off.setdefault(figure.level, []).append((figure.estimate - held_to, figure.estimate - read_as))
            for level, errors in off.items():
                noise.setdefault(level, []).append(np.array(errors)[:, 0])
                whole.setdefault(level, []).append(np.array(errors)[:, 1])
    return Measured(
        {level: summary(members) for level, members in noise.items()},
        {level: summary(members) for level, members in whole.items()},
    )


def disagreement_ug_m3(measured: Sequence[Place]) -> float:
    """Returns the root mean square difference, over sqrt 2, of the daily means of sensors side by side: what one of
    them is off by, apart from what all have in common."""
    days = [span.window for span in measured[0].spans]
    table = [[place.truth.ug_m3(day.start_s, day.end_s) for place in measured] for day in days]
    off = [left - right for row in table for at, left in enumerate(row) for right in row[at + 1 :]]
    return float(np.sqrt(np.mean(np.square(off)) / 2))


def stated_day_ug_m3(setting: Setting, epsilon: str) -> float:
    """Returns the standard error that the estimator states for an ordinary day, from the plan alone."""
    made = kernel.planned(setting.toml(), epsilon, "UTC")
    day = Calendar("UTC").day(0)
    blank = kernel.blank(kernel.observed(made, [], [day])[0], made.streams[kernel.STREAM])
    [whole] = [figure for figure in figures(blank, "UTC", day.end_s) if figure.level == "1d"]
    return whole.standard_error
