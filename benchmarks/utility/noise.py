"""Noise: each indicator of an hour, a day and a night against the truth, under both units of privacy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log, log10

import numpy as np
from murmure_privacy.aggregate import Aggregate
from murmure_privacy.estimate import Figure, figures, lden, night_level
from murmure_privacy.levels import EXCEEDED, LOUD_DB, SHARE_OVER, WIDEST_MARGIN_DB
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.release import Release
from murmure_privacy.window import PARTS, Calendar, Window
from numpy.typing import NDArray

from . import kernel
from .errors import Error, summary
from .recorded import DUBLIN, LOUD_1S, QUIET_1MIN, QUIET_1S, Readings, Source, held, periods, read

HOURS_AND_DAY = '{ "1h" = 1, "1d" = 24 }'
HOURS_AND_PARTS = '{ "1h" = 1, day = 12, evening = 4, night = 8 }'
DAY_ONLY = '{ "1d" = 1 }'
DEFAULT_SHARES = "{ histogram = 6, mean = 3, energy = 1 }"
MEAN_ALONE = "{ mean = 1 }"
BOUNDS_DB = (35, 85)
PERIOD = "period"
"""The level under which Ln and Lden of days from 06 to 06 are filed."""
MONTH = "28 days"
INDICATORS = ("l10_db", "l50_db", "l90_db", "level_db_mean", "laeq_db", SHARE_OVER)
HOURS = {"day": 12, "evening": 4, "night": 8}
PENALTY_DB = {"day": 0, "evening": 5, "night": 10}
DAY_S = 86_400
SILENT_AT_MOST = 0.01

Levels = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """A noise policy for 15 s of sound. `up_to_db`: the level that bounds the unit (b), or None (a, clamped)."""

    up_to_db: int | None
    nodes: str = HOURS_AND_DAY
    shares: str = DEFAULT_SHARES
    bounds_db: tuple[int, int] = BOUNDS_DB

    @property
    def name(self) -> str:
        """Returns the unit in a few words."""
        if self.up_to_db is None:
            return f"(a) any sound, clamped at {self.bounds_db[1]} dB"
        return f"(b) sounds up to {self.up_to_db} dB"

    def toml(self) -> str:
        """Returns the stream's part of the policy."""
        return kernel.NOISE.format(
            up_to="" if self.up_to_db is None else f", up_to_db = {self.up_to_db}",
            nodes=self.nodes,
            indicators=self.shares,
            bounds=list(self.bounds_db),
        )


@dataclass(frozen=True, slots=True)
class Sound:
    """What a meter showed once a second, in dB, from an instant in s UTC on. `exact`: the truth of those intervals that
    were asked for, which takes longer than to draw noise for them and is asked for at each epsilon again."""

    name: str
    start_s: int
    levels_db: Levels
    timezone: str = "UTC"
    exact: dict[Window, dict[str, float]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def readings(self) -> Readings:
        """Returns the readings in tenths of a decibel."""
        tenths = np.rint(self.levels_db * 10).astype(int)
        return [((self.start_s + at) * 1000, int(value)) for at, value in enumerate(tenths)]

    def between(self, window: Window) -> Levels:
        """Returns the levels of an interval."""
        return self.levels_db[window.start_s - self.start_s : window.end_s - self.start_s]

    def louder(self, by_db: float) -> Sound:
        """Returns the same sound with every reading so much higher."""
        return Sound(self.name, self.start_s, self.levels_db + by_db, self.timezone)


def _played(source: Source) -> Sound:
    """Returns a recording held to one reading a second; without holes, or it could not be a list of seconds."""
    made = kernel.planned(Setting(None).toml(), "1", source.timezone)
    stream = made.policy.streams[0]
    readings = held(read(source, stream), stream)
    by_second = {time_ms // 1000: value / 10 for time_ms, value in readings}
    start_s, end_s = min(by_second), max(by_second) + 1
    assert len(by_second) == end_s - start_s
    return Sound(source.site, start_s, np.array([by_second[at] for at in range(start_s, end_s)]), source.timezone)


def _whole_days(sound: Sound, days: int, name: str) -> Sound:
    """Returns a sound played again and again from a midnight on, until it fills the days and the night before."""
    midnight_s = sound.start_s - sound.start_s % DAY_S
    times = -(-days * DAY_S // len(sound.levels_db))
    return Sound(name, midnight_s, np.tile(sound.levels_db, times)[: days * DAY_S], sound.timezone)


def quiet(days: int = 1) -> Sound:
    """Returns the quiet place: 12 recorded hours (LAeq 46 dB) until the days are full."""
    return _whole_days(_played(QUIET_1S), days, "quiet place")


def loud(days: int = 1) -> Sound:
    """Returns the loud street: 30 recorded minutes (LAeq 76 dB) until the days are full."""
    return _whole_days(_played(LOUD_1S), days, "loud street")


def quiet_week() -> Sound:
    """Returns five whole days recorded minute by minute, each minute held (LAeq 49 to 54 dB)."""
    return _played(QUIET_1MIN)


def truth(sound: Sound, window: Window) -> dict[str, float]:
    """Returns the exact indicators of an interval; Ln and Lden, of use for whole days from 06 to 06, among them."""
    levels_db = sound.between(window)
    exact = {
        "level_db_mean": float(levels_db.mean()),
        "laeq_db": laeq_db(levels_db),
        SHARE_OVER: float(np.mean(levels_db >= LOUD_DB)),
    }
    for name, share in EXCEEDED.items():
        exact[name] = float(np.quantile(levels_db, 1 - share))
    if len(levels_db) % DAY_S == 0:
        cuts = np.cumsum([HOURS[part] * 3600 for part in PARTS])[:-1]
        days = [np.split(day, cuts) for day in np.split(levels_db, len(levels_db) // DAY_S)]
        energies = {part: [10 ** (laeq_db(day[at]) / 10) for day in days] for at, part in enumerate(PARTS)}
        exact["ln_db"] = 10 * log10(float(np.mean(energies["night"])))
        exact["lden_db"] = 10 * log10(
            sum(HOURS[part] / 24 * 10 ** (PENALTY_DB[part] / 10) * float(np.mean(energies[part])) for part in PARTS)
        )
    return exact


def whole(sound: Sound) -> Window:
    """Returns the interval of a sound."""
    return Window(sound.start_s, sound.start_s + len(sound.levels_db))


def laeq_db(levels_db: Levels) -> float:
    """Returns the level of the mean energy."""
    return 10 * log10(float(np.mean(10 ** (levels_db / 10))))


@dataclass(frozen=True, slots=True)
class Measured:
    """Error of one indicator in dB (of a share: 0 to 1), of the cases that gave a number.

    `silent`: the share of cases without one, because noise left no positive energy or because the level may lie in an
    end bin and only a bound is known. `shown`: the share that a page would show, since the margin computed from what
    was released is at most 3 dB; `held`: how often the interval that is released with the figure holds the truth.
    """

    error: Error | None
    silent: float
    shown: float
    held: float

    @property
    def error_95(self) -> float:
        """Returns what the absolute error does not exceed 19 times out of 20, infinite where that has no number."""
        return float("inf") if self.error is None or self.silent > SILENT_AT_MOST else self.error.p95

    @property
    def accurate(self) -> bool:
        """Returns whether that is at most 3 dB. (A share of time is no level, and is judged by its reader.)"""
        return self.error_95 <= WIDEST_MARGIN_DB


Key = tuple[str, str]
"""Level and indicator."""
Table = Mapping[Key, Measured]


def observed(sound: Sound, setting: Setting) -> list[kernel.Span]:
    """Returns the whole periods of a sound through the kernel's windows."""
    made = kernel.planned(setting.toml(), "1", sound.timezone)
    levels = [level for level, _ in made.policy.streams[0].nodes]
    within = whole(sound)
    wanted = list(periods(Calendar(sound.timezone), levels, within.start_s * 1000, within.end_s * 1000))
    return kernel.observed(made, sound.readings(), wanted)


def ours(
    sounds: Sequence[tuple[Sound, Sequence[kernel.Span]]],
    setting: Setting,
    epsilon: str,
    mechanism: DiscreteGaussian,
    repeats: int,
    only: Sequence[str] | None = None,
) -> Table:
    """Returns the errors over all periods of some sounds, `repeats` draws each. `only`: the released sums wanted."""
    cases: dict[Key, list[list[_Case]]] = {}
    for sound, spans in sounds:
        stream = kernel.planned(setting.toml(), epsilon, sound.timezone).streams[kernel.STREAM]
        exact = sound.exact
        for released in kernel.releases(spans, stream, mechanism, repeats, only):
            mine: dict[Key, list[_Case]] = {}
            for level, window, indicator, figure in _read(released, sound.timezone):
                if window not in exact:
                    exact[window] = truth(sound, window)
                mine.setdefault((level, indicator), []).append(_case(figure, exact[window][indicator]))
            for key, members in mine.items():
                cases.setdefault(key, []).append(members)
    return {key: _measured(members) for key, members in cases.items()}


@dataclass(frozen=True, slots=True)
class _Case:
    error: float | None
    shown: bool
    held: bool


def _case(figure: Figure | None, exact: float) -> _Case:
    if figure is None:
        return _Case(None, False, True)
    above = figure.low is None or figure.low <= exact
    error = None if figure.bound else figure.estimate - exact
    return _Case(error, figure.publishable, above and (figure.high is None or exact <= figure.high))


def _measured(clusters: Sequence[Sequence[_Case]]) -> Measured:
    every = [case for members in clusters for case in members]
    numbers = [[case.error for case in members if case.error is not None] for members in clusters]
    arrays = [np.array(members) for members in numbers if members]
    return Measured(
        summary(arrays) if len(arrays) > 1 else None,
        sum(case.error is None for case in every) / len(every),
        sum(case.shown for case in every) / len(every),
        sum(case.held for case in every) / len(every),
    )


def _read(released: Sequence[Release], timezone: str) -> Iterator[tuple[str, Window, str, Figure | None]]:
    """Yields level, interval, indicator and figure as a reader of the releases computes them; None where the energy
    came out negative, so that there is no level."""
    end_s = max(release.node.end_s for release in released)
    found = figures(released, timezone, end_s)
    levels = {(figure.level, figure.start_s) for figure in found if figure.indicator == "laeq_db"}
    for figure in found:
        window = Window(figure.start_s, figure.end_s)
        if figure.indicator == "energy_mean":
            if (figure.level, figure.start_s) not in levels:
                yield figure.level, window, "laeq_db", None
        else:
            yield figure.level, window, figure.indicator, figure
    if any(figure.level == "night" and figure.indicator == "energy_mean" for figure in found):
        whole = Window(min(release.node.start_s for release in released), end_s)
        yield PERIOD, whole, "ln_db", night_level(found)
        yield PERIOD, whole, "lden_db", lden(found)


TARGET_SHARES = "{ histogram = 3, mean = 1, energy = 6 }"
TARGET_SHARE = 0.6
TARGET = Setting(75, DAY_ONLY, TARGET_SHARES)
"""The policy of the target for daily LAeq: nothing but days, six tenths of the budget for the energy."""
TARGET_LEAST_DB = 60.0
TARGET_LAEQ_DB = 0.3


def dublin_days(every: int, sources: Sequence[Source] = DUBLIN) -> tuple[list[Sound], int]:
    """Returns each so-many-th recorded civil day of 60 dB or more with all its hours, and how many such days there are.

    Hourly levels, each held for its hour: right for the energy of a day, of no use for percentiles.
    """
    found: list[Sound] = []
    for source in sources:
        made = kernel.planned(TARGET.toml(), "1", source.timezone)
        rows = read(source, made.policy.streams[0])
        by_hour = {start_ms // 1000: value / 10 for start_ms, value in rows.rows}
        for day in periods(Calendar(source.timezone), ["1d"], rows.start_ms, rows.end_ms):
            hours = [by_hour.get(at_s) for at_s in range(day.start_s, day.end_s, 3600)]
            levels = np.array([level for level in hours if level is not None])
            if len(levels) == len(hours) and laeq_db(levels) >= TARGET_LEAST_DB:
                found.append(Sound(source.site, day.start_s, np.repeat(levels, 3600), source.timezone))
    return found[::every], len(found)


def repeated(span: kernel.Span, days: int) -> kernel.Span:
    """Returns the same day from 06 to 06 so many days in a row, of which Ln and Lden are then read off together."""
    aggregates = []
    for day in range(days):
        for aggregate in span.aggregates:
            node, shift_s = aggregate.node, day * DAY_S
            moved = replace(
                node,
                start_s=node.start_s + shift_s,
                end_s=node.end_s + shift_s,
                covered_from_s=node.covered_from_s + shift_s,
            )
            aggregates.append(Aggregate(moved, aggregate.sums))
    return kernel.Span(Window(span.window.start_s, span.window.start_s + days * DAY_S), tuple(aggregates))


@dataclass(frozen=True, slots=True)
class AtLevel:
    """A street of some daily LAeq: bias that the clamp alone makes, and the error with noise; None without a number."""

    laeq_db: float
    bias_db: float
    rmse_db: float | None


def by_level(
    street: Sound, louder_db: Sequence[float], setting: Setting, epsilon: str, mechanism: DiscreteGaussian, repeats: int
) -> list[AtLevel]:
    """Returns the error of the daily LAeq of one street made louder and quieter as a whole."""
    found = []
    for by_db in louder_db:
        sound = street.louder(by_db)
        spans = observed(sound, setting)
        [day] = [aggregate for aggregate in spans[0].aggregates if aggregate.node.level == "1d"]
        clamped_db = 10 * log10(day.sums["energy"][0] / day.node.slots)
        exact_db = laeq_db(sound.between(spans[0].window))
        measured = ours([(sound, spans)], setting, epsilon, mechanism, repeats, ("energy",))["1d", "laeq_db"]
        usable = measured.error is not None and measured.silent <= SILENT_AT_MOST
        rmse_db = measured.error.rmse if usable and measured.error else None
        found.append(AtLevel(exact_db, clamped_db - exact_db, rmse_db))
    return found


def half_day(epsilon: str, up_to_db: int, mechanism: DiscreteGaussian, repeats: int) -> Measured:
    """Returns the error of the LAeq of the quiet place's 12 recorded hours, from 06 to 18, whole budget on it alone."""
    setting = Setting(up_to_db, "{ day = 1 }", "{ energy = 1 }")
    recorded = _played(QUIET_1S)
    start_s = recorded.start_s - recorded.start_s % DAY_S + 6 * 3600
    sound = Sound(recorded.name, start_s, np.tile(recorded.levels_db, 2))
    return ours([(sound, observed(sound, setting))], setting, epsilon, mechanism, repeats)["day", "laeq_db"]


def stated_at_db(level_db: float, setting: Setting, epsilon: str) -> float:
    """Returns the standard error in dB that the noise scale gives the daily LAeq of a day of this level."""
    made = kernel.planned(setting.toml(), epsilon, "UTC")
    [node] = made.streams[kernel.STREAM].nodes
    [energy] = [one for one in node.indicators if one.indicator == "energy"]
    return 10 / log(10) * energy.sigma_milli / 1000 / DAY_S / 10 ** (level_db / 10)
