"""What a sensor keeps of the moments before, as the emulated ones do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_firmware_sim.devices.base import Source
from murmure_firmware_sim.devices.sds011 import Sds011
from murmure_firmware_sim.faults import FaultyDevice, parse_fault
from murmure_firmware_sim.memory import Memory
from murmure_firmware_sim.replay import Replay, Series
from murmure_firmware_sim.scenario import PortPlan, build_device
from murmure_firmware_sim.steady import Steady
from murmure_firmware_sim.street import Street

MINUTE = 29_910_000
STEP_AT = 20  # the level falls, and the air clears, when this second begins
REQUEST = bytes.fromhex("01 03 00 00 00 01 84 0a")


class Step:
    """100 dB and 500 ug/m3 up to a second of MINUTE, 0 dB and 10 ug/m3 from there on. Implements `Source`."""

    over_capacity = 0

    def __init__(self, at: int = STEP_AT, hole: int | None = None) -> None:
        self._at_s = MINUTE * 60 + at
        self._hole = hole

    def level_tenths(self, minute: int) -> Sequence[int | None]:
        return [None if s == self._hole else 1000 if self._before(minute, s) else 0 for s in range(60)]

    def pm_tenths(self, minute: int) -> Sequence[tuple[int, int] | None]:
        return [None if s == self._hole else (5000, 6000) if self._before(minute, s) else (100, 200) for s in range(60)]

    def dip_slots(self, minute: int) -> Sequence[int]:
        return [3]

    def _before(self, minute: int, s: int) -> bool:
        return minute * 60 + s < self._at_s


@pytest.mark.parametrize(("time_constant_ms", "db_per_s"), [(125, 34.7), (1000, 4.34)])
def test_a_meter_falls_as_fast_as_its_time_weighting_says(time_constant_ms: int, db_per_s: float) -> None:
    """FAST by 34.7 dB a second, SLOW by 4.3: 10 lg e over the time constant (IEC 61672-1)."""
    levels = Memory(Step(), time_constant_ms=time_constant_ms).level_tenths(MINUTE)
    first, second = levels[STEP_AT], levels[STEP_AT + 1]
    assert levels[STEP_AT - 1] == 1000 and first is not None and second is not None
    assert first == round(1000 - 5 * db_per_s) and abs(first - second - 10 * db_per_s) <= 1


def test_a_mean_forgets_after_its_span() -> None:
    """Of 2 s, in the middle of a second: 3/4 of the old at first, then 1/4, then nothing; halves are rounded up."""
    pm = Memory(Step(), average_ms=2000).pm_tenths(MINUTE)
    assert pm[STEP_AT - 1 : STEP_AT + 3] == [(5000, 6000), (3775, 4550), (1325, 1650), (100, 200)]


def test_memory_reaches_into_the_minute_before_in_any_order() -> None:
    """A sound that ended with a minute is remembered in the next, whichever minute was asked first."""
    early, late = Memory(Step(at=0), 2000, 10_000), Memory(Step(at=0), 2000, 10_000)
    minutes = [MINUTE, MINUTE + 1]
    forward = [(early.level_tenths(m), early.pm_tenths(m)) for m in minutes]
    backward = [(late.level_tenths(m), late.pm_tenths(m)) for m in reversed(minutes)]
    assert forward == backward[::-1]
    levels, pm = forward[0]
    assert (levels[0], pm[0]) == (1000 - round(10 * 0.5 * 4.343 / 2), (4755, 5710))


def test_a_hole_stays_a_hole_and_holds_no_memory() -> None:
    """A second without a value has none afterwards; a meter begins anew behind it, a mean leaves it out."""
    heard = Memory(Step(hole=STEP_AT), time_constant_ms=1000, average_ms=2000)
    levels, pm = heard.level_tenths(MINUTE), heard.pm_tenths(MINUTE)
    assert levels[STEP_AT - 1 : STEP_AT + 2] == [1000, None, 0]
    assert pm[STEP_AT : STEP_AT + 2] == [None, (2550, 3100)]  # half a second of the old and half of the new


@given(level=st.integers(0, 65_534), pm=st.integers(0, 9_999), phase_ms=st.integers(1, 1000))
def test_what_never_changes_is_shown_as_it_is(level: int, pm: int, phase_ms: int) -> None:
    """A constant street looks the same through any memory, up to the loudest that a float of energy holds."""
    heard = Memory(Steady((pm, pm), level, 0), 1000, 10_000, phase_ms)
    assert heard.level_tenths(MINUTE) == [min(level, 30_000)] * 60
    assert heard.pm_tenths(MINUTE) == [(pm, pm)] * 60


def test_crossings_have_no_memory() -> None:
    """The beam sees through."""
    assert Memory(Step()).dip_slots(MINUTE) == [3]
    assert Memory(Step()).over_capacity == 0


def _device(name: str, source: Source, **settings: float) -> FaultyDevice:
    return build_device(PortPlan("port", Path("unused"), name, settings, (), source, 0), MINUTE * 60_000)


@pytest.mark.parametrize(
    ("name", "metric", "key"), [("modbus_noise", "laeq_1s", "time_constant_ms"), ("sds011", "pm2_5", "average_ms")]
)
def test_only_an_invented_street_is_remembered(name: str, metric: str, key: str, tmp_path: Path) -> None:
    """A recording holds the memory of the meter that made it: it is played as it is, unless a memory is asked for."""
    file = tmp_path / "rec.csv"
    file.write_text(f"timestamp_utc,site,metric,value,unit\n2026-11-14T00:00:00Z,plaza,{metric},40,x\n")
    recorded, street = Replay(Series(file, "plaza", (metric,))), Street(1)
    assert _device(name, recorded).source is recorded
    assert isinstance(_device(name, recorded, **{key: 1500}).source, Memory)
    assert isinstance(_device(name, street).source, Memory)
    assert _device(name, street, **{key: 0}).source is street
    assert _device("tfluna", street).source is street


def test_what_is_wrong_with_a_value_is_wrong_with_what_is_shown() -> None:
    """FFFF in one second is no loud sound that the next ones remember."""
    plan = PortPlan("port", Path("unused"), "modbus_noise", {}, (parse_fault("ffff@20-21"),), Street(1), 0)
    device, start_ms = build_device(plan, MINUTE * 60_000), MINUTE * 60_000
    answers = [device.receive(REQUEST, start_ms + 1000 * s)[0][0] for s in range(60)]
    shown = [int.from_bytes(answer[3:5]) for answer in answers]
    expected = list(Memory(Street(1)).level_tenths(MINUTE))
    assert shown == [*expected[:20], 0xFFFF, *expected[21:]]


def test_a_dust_sensor_that_is_asked_shows_the_mean_too() -> None:
    """In query mode the answer of a second is the frame it would have sent."""
    sensor = Sds011(Memory(Step()))
    sensor.seek(MINUTE * 60_000)
    streamed = sensor.advance((MINUTE + 1) * 60_000)[STEP_AT][0]
    query = bytes.fromhex("aab404000000000000000000000000ffff02ab")
    at_ms = (MINUTE * 60 + STEP_AT) * 1000
    assert [data for data, _ in sensor.receive(query, at_ms)] == [streamed]
