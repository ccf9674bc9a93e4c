"""The invented street is plausible, repeatable, and the same in any order."""

from __future__ import annotations

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_firmware_sim.devices import DEVICES
from murmure_firmware_sim.devices.base import Device
from murmure_firmware_sim.errors import SimError
from murmure_firmware_sim.street import PROFILES, Street

PARIS = ZoneInfo("Europe/Paris")
TUESDAY, WEDNESDAY = (2026, 11, 17), (2026, 11, 18)


def minute_of(day: tuple[int, int, int], hour: int, minute: int = 0) -> int:
    return int(datetime(*day, hour, minute, tzinfo=PARIS).timestamp()) // 60


def crossings(street: Street, day: tuple[int, int, int], hour: int) -> int:
    return sum(len(street.dip_slots(minute_of(day, hour, m))) for m in range(60))


def mean_level_db(street: Street, day: tuple[int, int, int], hour: int) -> float:
    """Energy mean of an hour: levels are never averaged as decibels."""
    levels = [level for m in range(60) for level in street.level_tenths(minute_of(day, hour, m)) if level is not None]
    return 10 * math.log10(sum(10 ** (level / 100) for level in levels) / len(levels))


@given(
    name=st.sampled_from(sorted(DEVICES)),
    seed=st.integers(0, 99),
    start_s=st.integers(1_790_000_000, 1_790_001_000),
    steps_ms=st.lists(st.integers(1, 400_000), min_size=1, max_size=6),
)
def test_chunking_cannot_change_a_byte_or_a_stamp(name: str, seed: int, start_s: int, steps_ms: list[int]) -> None:
    """However the time is cut, a device says the same bytes at the same times."""

    def made() -> Device:
        device = DEVICES[name](Street(seed, "street"), seed)
        device.seek(start_s * 1000)
        return device

    at_once, in_steps = made(), made()
    now_ms = start_s * 1000
    pieces = []
    for step_ms in steps_ms:
        now_ms += step_ms
        pieces += in_steps.advance(now_ms)
    assert at_once.advance(now_ms) == pieces
    assert (at_once.frames, at_once.crossings) == (in_steps.frames, in_steps.crossings)


@given(profile=st.sampled_from(sorted(PROFILES)), seed=st.integers(0, 999), minute=st.integers(29_000_000, 31_000_000))
def test_any_minute_is_possible_on_the_wire(profile: str, seed: int, minute: int) -> None:
    """PM2.5 never exceeds PM10 nor 999.9, levels are those of a street, dips have slots of their own."""
    street = Street(seed, profile)
    for pm in street.pm_tenths(minute):
        assert pm is not None
        assert 0 <= pm[0] <= pm[1] <= 9999
    for level in street.level_tenths(minute):
        assert level is not None
        assert 250 <= level <= 1200
    slots = street.dip_slots(minute)
    assert list(slots) == sorted(set(slots))
    assert all(0 <= slot < 150 for slot in slots)
    assert slots == Street(seed, profile).dip_slots(minute)


def test_weekday_has_two_humps_and_a_quiet_night() -> None:
    """Commuters at 8 and 17 outnumber noon's, and the night has a few per cent of them."""
    street = Street(1, "street")
    by_hour = [crossings(street, TUESDAY, hour) for hour in range(24)]
    assert by_hour[8] > by_hour[10] < by_hour[17]
    assert sum(by_hour[2:5]) < 0.2 * by_hour[17]


def test_market_morning_multiplies_footfall_and_noise() -> None:
    """On a market day the morning has at least twice the people of the day before."""
    street = Street(2, "plaza")
    assert crossings(street, WEDNESDAY, 10) > 2 * crossings(street, TUESDAY, 10)


def test_street_is_louder_by_day_and_a_residence_is_quieter() -> None:
    """62 to 70 dB(A) by day, 10 less at night; a residential street at least 6 less."""
    street = Street(3, "street")
    day_db, night_db = mean_level_db(street, TUESDAY, 9), mean_level_db(street, TUESDAY, 3)
    assert 60 <= day_db <= 75
    assert day_db - night_db >= 8
    assert day_db - mean_level_db(Street(3, "residential"), TUESDAY, 9) >= 6


def test_refuse_lorry_is_heard_at_ten_to_six() -> None:
    """Mondays and Thursdays, three minutes above 75 dB."""
    levels = Street(4, "residential").level_tenths(minute_of((2026, 11, 19), 5, 51))
    assert min(level for level in levels if level is not None) > 750


def test_lone_walker_passes_a_residence_every_day_at_0450() -> None:
    """The privacy case: exactly one crossing in that minute, every day."""
    street = Street(5, "residential")
    assert {1} == {len(street.dip_slots(minute_of((2026, 11, day), 4, 50))) for day in range(1, 29)}


def test_wood_smoke_comes_on_some_winter_evenings_only() -> None:
    """In winter some evenings exceed 30 ug/m3 of nearly pure PM2.5; summer evenings have none."""
    street = Street(6, "residential")

    def evening(month: int, day: int) -> tuple[int, int]:
        pm = street.pm_tenths(minute_of((2026, month, day), 20, 30))[0]
        assert pm is not None
        return pm

    winter = [evening(1, day) for day in range(1, 29)]
    smoky = [pm for pm in winter if pm[0] > 300]
    assert 3 <= len(smoky) <= 25
    assert all(0.75 < pm2_5 / pm10 < 0.97 for pm2_5, pm10 in smoky)
    assert max(evening(7, day)[0] for day in range(1, 29)) < 300


def test_unknown_profile_names_the_known_ones() -> None:
    """The error says what to write."""
    with pytest.raises(SimError, match="plaza, street, residential"):
        Street(1, "moon")
