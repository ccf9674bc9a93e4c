"""An invented street: people, traffic and air, drawn from a seed, a minute at a time. SIMULATED, never measured.

Every minute is a function of (seed, profile, minute), so a run can start anywhere, twice, in any order. The day curves
are plausible, not calibrated: humps of commuters, a market, sirens, the refuse lorry, wood smoke on winter evenings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from random import Random
from zoneinfo import ZoneInfo

from .devices.base import S_PER_MINUTE, SLOTS_PER_MINUTE
from .errors import SimError

_MINUTES_PER_HOUR = 60
_TIMEZONE = ZoneInfo("Europe/Paris")
_MOST_PM_TENTHS = 9999


@dataclass(frozen=True)
class Profile:
    """What makes one place differ from another.

    `peak_per_minute` is the mean number of crossings at the height of a weekday, `road_per_minute` of vehicles,
    `road_db` the usual peak of a vehicle passing by, `floor_db` the level of the deepest night.
    """

    peak_per_minute: float
    road_per_minute: float
    road_db: float
    floor_db: float
    pm2_5_ug_m3: float
    market: bool = False
    concerts: bool = False
    lone_walker: bool = False


PROFILES = {
    "plaza": Profile(14.0, 5.0, 65.0, 42.0, 9.0, market=True, concerts=True),
    "street": Profile(8.0, 9.0, 67.0, 43.0, 11.0),
    "residential": Profile(2.0, 2.5, 62.0, 34.0, 8.0, lone_walker=True),
}

# (hour of the hump, its width in hours, its height as a share of the weekday peak)
_WEEKDAY_WALK = ((8.5, 0.8, 0.9), (12.5, 1.0, 0.6), (17.6, 1.3, 1.0), (20.5, 1.5, 0.25))
_SATURDAY_WALK = ((11.5, 1.5, 0.7), (14.0, 2.2, 0.8), (16.8, 1.6, 0.8), (21.0, 1.8, 0.35))
_SUNDAY_WALK = ((11.2, 1.5, 0.5), (15.5, 2.2, 0.5))
_WEEKDAY_ROAD = ((8.3, 1.3, 1.0), (13.0, 3.0, 0.55), (17.8, 1.7, 1.0), (21.0, 1.5, 0.3))
_WEEKEND_ROAD = ((11.5, 2.0, 0.55), (16.5, 3.0, 0.6), (22.0, 2.0, 0.3))
_NIGHT_SHARE = 0.02
_MARKET_DAYS, _MARKET_HOURS, _MARKET_FACTOR = (2, 5), (7.0, 13.0), 3.5
_LORRY_DAYS, _LORRY_MINUTE, _LORRY_MINUTES = (0, 3), 5 * 60 + 50, 3
_CONCERT_HOURS, _CONCERT_CHANCE = (20.0, 24.0), 0.25
_RAIN_CHANCE, _RAIN_FACTOR = 0.08, 0.6
_SIREN_PER_HOUR = 0.04
_SMOKE_MONTHS, _SMOKE_CHANCE, _SMOKE_HOURS = (11, 12, 1, 2), 0.4, (18.0, 23.0)
_LONE_MINUTE = 4 * 60 + 50
_HOURS_REMEMBERED, _REMEMBERED = 24, 0.8


@dataclass(frozen=True)
class _Clock:
    """Local time at the start of a minute."""

    day: int
    weekday: int
    month: int
    minute: int

    @property
    def hour(self) -> float:
        return self.minute / _MINUTES_PER_HOUR


class Street:
    """One invented place. Implements `Source`."""

    over_capacity = 0

    def __init__(self, seed: int, profile: str = "street") -> None:
        if profile not in PROFILES:
            raise SimError("street", "profile", f"{profile!r} is unknown", f"write one of {', '.join(PROFILES)}")
        self.seed = seed
        self.profile = PROFILES[profile]
        self._vehicles = lru_cache(maxsize=8)(self._draw_vehicles)
        self._hourly_air = lru_cache(maxsize=64)(self._draw_hourly_air)

    def dip_slots(self, minute: int) -> Sequence[int]:
        """Groups of 1 to 4 in neighbouring slots; the minute's number is negative binomial, variance twice the mean."""
        draw = self._random("walk", minute)
        clock = _clock(minute)
        mean = self._walkers(clock)
        if self.profile.lone_walker and clock.minute == _LONE_MINUTE:
            return [draw.randrange(SLOTS_PER_MINUTE)]
        # Gamma-Poisson: with shape = mean and scale 1 the variance is twice the mean.
        left = min(poisson(draw, draw.gammavariate(mean, 1.0)), SLOTS_PER_MINUTE // 2)
        taken: set[int] = set()
        while left > 0:
            group = min(left, 1 if draw.random() < 0.7 else draw.randint(2, 4))
            at = draw.randrange(SLOTS_PER_MINUTE - group + 1)
            slots = range(at, at + group)
            if taken.isdisjoint(slots):
                taken.update(slots)
                left -= group
        return sorted(taken)

    def level_tenths(self, minute: int) -> Sequence[int | None]:
        """Energy sum of the ground noise, vehicles passing by, voices and events, a second at a time."""
        draw = self._random("sound", minute)
        clock = _clock(minute)
        floor = self.profile.floor_db + 8.0 * min(1.0, self._road_share(clock))
        energies = [10 ** ((floor + draw.gauss(0, 0.8)) / 10) for _ in range(S_PER_MINUTE)]
        for before in (-1, 0, 1):
            for at_s, peak_db, width_s in self._vehicles(minute + before):
                _add_bell(energies, at_s + before * S_PER_MINUTE, peak_db, width_s)
        voices = 10 ** (4.6 + 0.3 * math.log10(1 + self._walkers(clock)))
        for slot in self.dip_slots(minute):
            energies[slot * 2 // 5] += voices * (0.5 + draw.random())
        self._add_events(energies, minute, clock)
        return [round(100 * math.log10(energy)) for energy in energies]

    def pm_tenths(self, minute: int) -> Sequence[tuple[int, int] | None]:
        """AR(1) by the hour, rush-hour bumps and smoke, with the sensor's own jitter of a few per cent."""
        draw = self._random("air", minute)
        clock = _clock(minute)
        hour, past = divmod(minute, _MINUTES_PER_HOUR)
        share = past / _MINUTES_PER_HOUR
        base = self._hourly_air(hour) * (1 - share) + self._hourly_air(hour + 1) * share
        fine = base * (1 + 0.25 * self._road_share(clock))
        smoke = self._smoke_ug_m3(clock)
        coarse = fine / (0.6 + 0.1 * math.sin(minute / 900)) + smoke / 0.9
        fine += smoke
        said: list[tuple[int, int] | None] = []
        for _ in range(S_PER_MINUTE):
            wobble = 1 + draw.uniform(-0.04, 0.04)
            pm2_5 = min(_MOST_PM_TENTHS, round(10 * fine * wobble))
            pm10 = min(_MOST_PM_TENTHS, round(10 * coarse * (wobble + draw.uniform(-0.02, 0.02))))
            said.append((pm2_5, max(pm2_5, pm10)))
        return said

    def _walkers(self, clock: _Clock) -> float:
        humps = {5: _SATURDAY_WALK, 6: _SUNDAY_WALK}.get(clock.weekday, _WEEKDAY_WALK)
        share = _NIGHT_SHARE + _humps(clock.hour, humps)
        if self.profile.market and clock.weekday in _MARKET_DAYS and _within(clock.hour, _MARKET_HOURS):
            share = max(share, 0.4) * _MARKET_FACTOR
        if self._chance("rain", clock.day * 24 + clock.minute // 60, _RAIN_CHANCE):
            share *= _RAIN_FACTOR
        return self.profile.peak_per_minute * share

    def _road_share(self, clock: _Clock) -> float:
        humps = _WEEKEND_ROAD if clock.weekday >= 5 else _WEEKDAY_ROAD
        return _NIGHT_SHARE + _humps(clock.hour, humps)

    def _draw_vehicles(self, minute: int) -> list[tuple[float, float, float]]:
        draw = self._random("road", minute)
        count = poisson(draw, self.profile.road_per_minute * self._road_share(_clock(minute)))
        return [
            (draw.uniform(0, S_PER_MINUTE), draw.gauss(self.profile.road_db, 3.5), draw.uniform(2.0, 4.5))
            for _ in range(count)
        ]

    def _add_events(self, energies: list[float], minute: int, clock: _Clock) -> None:
        draw = self._random("event", minute)
        since_lorry = clock.minute - _LORRY_MINUTE
        if clock.weekday in _LORRY_DAYS and 0 <= since_lorry < _LORRY_MINUTES:
            for s in range(S_PER_MINUTE):
                energies[s] += 10 ** draw.uniform(7.8, 8.5)
        concert_hour = self.profile.concerts and clock.weekday == 5 and _within(clock.hour, _CONCERT_HOURS)
        if concert_hour and self._chance("concert", clock.day, _CONCERT_CHANCE):
            for s in range(S_PER_MINUTE):
                energies[s] += 10 ** draw.uniform(7.2, 7.9)
        hour = minute // _MINUTES_PER_HOUR
        for siren_hour in (hour - 1, hour):
            if self._chance("siren", siren_hour, _SIREN_PER_HOUR):
                self._add_siren(energies, minute, siren_hour)

    def _add_siren(self, energies: list[float], minute: int, siren_hour: int) -> None:
        draw = self._random("siren course", siren_hour)
        start_s = siren_hour * 3600 + draw.randrange(3600) - minute * S_PER_MINUTE
        ramp_s, hold_s, top_db = draw.randint(8, 12), draw.randint(15, 40), draw.uniform(90, 100)
        for s in range(max(0, start_s), min(S_PER_MINUTE, start_s + 2 * ramp_s + hold_s)):
            into_s = s - start_s
            from_top_s = max(0, ramp_s - into_s, into_s - ramp_s - hold_s)
            energies[s] += 10 ** ((top_db - 30.0 * from_top_s / ramp_s) / 10)

    def _draw_hourly_air(self, hour: int) -> float:
        # AR(1) written as a sum over its last day of shocks, so that any hour can be asked first.
        wander = sum(
            _REMEMBERED**back * self._random("shock", hour - back).gauss(0, 1) for back in range(_HOURS_REMEMBERED)
        )
        return self.profile.pm2_5_ug_m3 * math.exp(0.18 * wander)

    def _smoke_ug_m3(self, clock: _Clock) -> float:
        if clock.month not in _SMOKE_MONTHS or not _within(clock.hour, _SMOKE_HOURS):
            return 0.0
        if not self._chance("smoke", clock.day, _SMOKE_CHANCE):
            return 0.0
        top = self._random("smoke top", clock.day).uniform(30, 120)
        start, end = _SMOKE_HOURS
        return top * math.sin(math.pi * (clock.hour - start) / (end - start))

    def _random(self, what: str, index: int) -> Random:
        return Random(f"{self.seed}/{what}/{index}")

    def _chance(self, what: str, index: int, probability: float) -> bool:
        return self._random(what, index).random() < probability


def _humps(hour: float, humps: Sequence[tuple[float, float, float]]) -> float:
    return sum(height * math.exp(-0.5 * ((hour - at) / width) ** 2) for at, width, height in humps)


def _within(hour: float, hours: tuple[float, float]) -> bool:
    return hours[0] <= hour < hours[1]


def _add_bell(energies: list[float], at_s: float, peak_db: float, width_s: float) -> None:
    peak = 10 ** (peak_db / 10)
    for s in range(max(0, int(at_s - 5 * width_s)), min(S_PER_MINUTE, int(at_s + 5 * width_s) + 1)):
        # A point source that passes: its energy falls with the square of the distance.
        energies[s] += peak / (1 + ((s - at_s) / width_s) ** 2)


def poisson(draw: Random, mean: float) -> int:
    """Returns a Poisson number of that mean."""
    limit, product, count = math.exp(-mean), draw.random(), 0
    while product > limit:
        product *= draw.random()
        count += 1
    return count


@lru_cache(maxsize=512)
def _clock(minute: int) -> _Clock:
    local = datetime.fromtimestamp(minute * S_PER_MINUTE, UTC).astimezone(_TIMEZONE)
    return _Clock(local.toordinal(), local.weekday(), local.month, local.hour * 60 + local.minute)
