"""The profiles of Modbus meters: what differs from make to make is one word, and each piece can be overridden."""

from __future__ import annotations

from typing import Any

import pytest
from murmure_edge.sensors import make_driver
from murmure_edge.sensors.base import SettingError
from murmure_edge.sensors.modbus_noise import PROFILES, ModbusNoise

NOW_MS = 1_700_000_000_500


def _crc(body: bytes) -> bytes:
    crc = 0xFFFF
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 * (crc & 1)
    return crc.to_bytes(2, "little")


def _sealed(text: str) -> bytes:
    body = bytes.fromhex(text)
    return body + _crc(body)


def _opened(answer: bytes, **settings: Any) -> ModbusNoise:
    driver = ModbusNoise(**settings)
    for _ in driver.opening():
        assert list(driver.feed(answer, NOW_MS)) == []
    return driver


@pytest.mark.parametrize(
    ("profile", "request_", "baud", "range_db"),
    [
        ("sonbest", "010300000001", 9600, (30, 130)),
        ("renke", "010300000001", 4800, (30, 120)),
        ("register_000e", "0103000e0001", 9600, (30, 130)),
    ],
)
def test_a_profile_names_register_speed_and_range(
    profile: str, request_: str, baud: int, range_db: tuple[int, int]
) -> None:
    """What a make needs is one word in the configuration."""
    driver = ModbusNoise(profile=profile)
    assert (driver.request(), driver.baud) == (_sealed(request_), baud)
    assert driver.PLAUSIBLE.ranges == {"level_db": range_db} and driver.PLAUSIBLE.floors == {"level_db": range_db[0]}
    assert set(PROFILES) == {"sonbest", "renke", "register_000e"}


def test_each_setting_overrides_its_profile() -> None:
    """A make that is in no profile is described piece by piece."""
    driver = ModbusNoise(profile="renke", slave=2, register=52, baud=9600, min_db=25, max_db=110)
    assert (driver.request(), driver.baud) == (_sealed("020300340001"), 9600)
    assert driver.PLAUSIBLE.ranges == {"level_db": (25, 110)}


@pytest.mark.parametrize(
    ("scale", "raw", "tenths"),
    [(1, 53, 530), (0.1, 536, 536), (0.01, 5_364, 536), (0.01, 5_365, 536), (0.01, 5_375, 538), (0.01, 5_366, 537)],
)
def test_a_count_is_a_tenth_unless_the_meter_counts_otherwise(scale: float, raw: int, tenths: int) -> None:
    """Whole decibels, tenths and hundredths become tenths, halves going to the even one; known frames the same."""
    driver = ModbusNoise(scale=scale)
    for _ in range(2):
        driver.request()
        assert [r.value for _, r in driver.feed(_sealed(f"010302{raw:04x}"), NOW_MS)] == [tenths]


def test_the_model_is_asked_for_with_the_register_behind_it() -> None:
    """Two registers make an answer of another length, which no level can be mistaken for."""
    assert [command.hex() for command in ModbusNoise().opening()] == [_sealed("010300640002").hex()]
    assert list(ModbusNoise(profile="renke").opening()) == []
    driver = _opened(_sealed("0103041edd0001"))
    assert driver.told.identity == {"profile": "sonbest", "weighting": "A", "model": "7901"}
    assert driver.told.mismatch == ""
    driver.request()
    assert list(driver.feed(_sealed("0103041edd0001"), NOW_MS)) == [] and driver.awaiting
    assert [r.value for _, r in driver.feed(_sealed("0103020218"), NOW_MS)] == [536]


def test_another_model_is_refused_and_its_mend_takes_it() -> None:
    """A register that names another model speaks against the meter, until the technician names that one."""
    driver = _opened(_sealed("0103041f400001"))
    assert driver.told.mismatch == (
        "it is a model 8000, not 7901 or 6365 or 8765: write model = 8000 if that is the meter"
    )
    assert _opened(_sealed("0103041f400001"), model=8000).told.mismatch == ""
    assert "not 8000" in _opened(_sealed("0103041edd0001"), model=8000).told.mismatch


def test_a_meter_without_the_register_is_taken() -> None:
    """An exception to the question for the model proves nothing, and silence neither."""
    for answer in (_sealed("018302"), b""):
        driver = _opened(answer)
        assert driver.told.mismatch == "" and "model" not in driver.told.identity
        driver.request()
        assert [r.value for _, r in driver.feed(_sealed("0103020218"), NOW_MS)] == [536]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"profile": "bruel"}, "profile: 'bruel' is none; write one of sonbest, renke, register_000e"),
        ({"profile": 1}, "profile: 1 is none"),
        ({"scale": 0.2}, "scale: 0.2 is none; write how many dB one count is: 1, 0.1 or 0.01"),
        ({"scale": True}, "scale: True is none"),
        ({"scale": "0.1"}, "scale: '0.1' is none"),
        ({"min_db": 80, "max_db": 80}, "from 81 to 140"),
        ({"model_register": 65535}, "from 0 to 65534"),
        ({"model": -1}, "from 0 to 65535"),
        ({"time_constant_ms": 0}, "from 1 to 10000"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_mend(settings: dict[str, object], says: str) -> None:
    """What no meter can be is said before a port is opened."""
    with pytest.raises(SettingError) as caught:
        make_driver("modbus_noise", settings)
    assert says in str(caught.value)
