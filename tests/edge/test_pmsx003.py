"""The PMSx003: passive, so that the moment of a reading tells of nothing, and only the model that was asked for."""

from __future__ import annotations

import pytest
from murmure_edge.sensors.pmsx003 import DEAF_AFTER, PmsX003

NOW_MS = 1_700_000_000_500
WAKE, PASSIVE, READ = (bytes.fromhex(text) for text in ("424de400010174", "424de100000170", "424de200000171"))
PASSIVE_ACK = bytes.fromhex("424d0004e1000174")


def _frame(pm1: int, pm2_5: int, pm10: int, words: int = 13) -> bytes:
    """A measurement with these in the air, more by the factory's scale, and version 97."""
    values = [pm1 + 1, pm2_5 + 2, pm10 + 3, pm1, pm2_5, pm10, *[0] * (words - 7), 0x9700]
    body = b"BM" + (2 * words + 2).to_bytes(2, "big") + b"".join(value.to_bytes(2, "big") for value in values)
    return body + sum(body).to_bytes(2, "big")


def _values(driver: PmsX003, data: bytes) -> dict[str, int]:
    return {quantity: reading.value for quantity, reading in driver.feed(data, NOW_MS)}


@pytest.fixture
def driver() -> PmsX003:
    """A driver whose sensor has just confirmed the passive mode."""
    driver = PmsX003()
    assert list(driver.opening()) == [WAKE, PASSIVE]
    driver.feed(PASSIVE_ACK, NOW_MS)
    return driver


def test_the_words_of_the_air_are_read_in_tenths(driver: PmsX003) -> None:
    """The atmospheric words count, in whole ug/m3; the factory's are for comparisons only."""
    assert driver.request() == READ
    assert _values(driver, _frame(5, 65533, 130)) == {"pm1": 50, "pm2_5": 655_330, "pm10": 1_300}
    assert driver.told.identity == {"firmware": "97"}


def test_all_zeros_are_a_reading_like_any_other(driver: PmsX003) -> None:
    """A frame of zeros may be a fan that starts: the fixed warm-up leaves it out, never its values."""
    driver.request()
    assert _values(driver, _frame(0, 0, 0)) == {"pm1": 0, "pm2_5": 0, "pm10": 0}
    assert driver.warm_up_ms == 30_000


def test_until_the_passive_mode_is_confirmed_nothing_is_read() -> None:
    """In active mode the pace of the frames follows the air: they bring no reading, and the command is repeated."""
    driver = PmsX003()
    list(driver.opening())
    for _ in range(DEAF_AFTER - 1):
        assert driver.request() == PASSIVE
        assert _values(driver, _frame(1, 2, 3)) == {} and driver.awaiting
    assert driver.told.mismatch == ""
    assert driver.request() == PASSIVE
    assert _values(driver, _frame(1, 2, 3) + PASSIVE_ACK) == {} and not driver.awaiting
    assert driver.request() == READ
    assert _values(driver, _frame(1, 2, 3)) == {"pm1": 10, "pm2_5": 20, "pm10": 30}


def test_a_sensor_that_speaks_and_does_not_hear_is_refused() -> None:
    """Only its TX is wired: it goes on streaming. Said again after each opening, until it is closed."""
    driver = PmsX003()
    list(driver.opening())
    for _ in range(DEAF_AFTER):
        driver.request()
        driver.feed(_frame(1, 2, 3), NOW_MS)
    assert "wire the gateway's TX" in driver.told.mismatch
    driver.told.mismatch = ""
    list(driver.opening())
    assert "wire the gateway's TX" in driver.told.mismatch
    driver.told.mismatch = ""
    driver.reset()
    list(driver.opening())
    assert driver.told.mismatch == ""


def test_a_sensor_that_lost_its_mode_with_its_power_is_set_again(driver: PmsX003) -> None:
    """Bytes that the port dropped between two requests came unasked: the next request sets the mode."""
    driver.request()
    driver.feed(_frame(1, 2, 3), NOW_MS)
    assert driver.request() == READ
    driver.feed(_frame(1, 2, 3), NOW_MS)
    driver.counters.discarded_bytes += 32
    assert driver.request() == PASSIVE
    driver.feed(PASSIVE_ACK, NOW_MS)
    assert driver.request() == READ


def test_a_spoiled_answer_is_no_sign_of_a_lost_mode(driver: PmsX003) -> None:
    """What is discarded of an answer was asked for."""
    driver.request()
    assert _values(driver, b"\x00" + _frame(1, 2, 3)[:-1] + b"\x00") == {}
    assert (driver.counters.rejected, driver.counters.discarded_bytes) == (1, 33)
    assert driver.request() == READ
    driver.feed(_frame(1, 2, 3)[:20], NOW_MS)
    assert driver.request() == READ


def test_an_acknowledgement_is_no_measurement(driver: PmsX003) -> None:
    """The length drives the parser: an 8-byte answer before the 32 bytes takes nothing of them."""
    driver.request()
    assert _values(driver, PASSIVE_ACK + _frame(7, 8, 9)) == {"pm1": 70, "pm2_5": 80, "pm10": 90}
    assert driver.counters.frames == 3


@pytest.mark.parametrize(("words", "model"), [(9, "PMS3003"), (17, "PMS5003ST")])
def test_another_model_is_refused_by_the_length_of_its_frames(driver: PmsX003, words: int, model: str) -> None:
    """A frame of 24 or 40 bytes holds other things."""
    driver.request()
    assert _values(driver, _frame(1, 2, 3, words)) == {}
    assert model in driver.told.mismatch and "; " not in driver.told.mismatch


@pytest.mark.parametrize(("average_s", "readings"), [(10, 11), (3, 4), (60, 61)])
def test_the_memory_is_the_vendors_response_time_and_one_reading(average_s: int, readings: int) -> None:
    """Ten seconds unless the technician has measured another."""
    assert PmsX003().memory_readings == PmsX003(average_s=10).memory_readings
    assert set(PmsX003(average_s=average_s).memory_readings.values()) == {readings}


def test_a_slow_line_is_given_more_time_to_answer() -> None:
    """The time-out counts the bytes of command and answer at the line's speed, and ends within the second."""
    assert PmsX003().timeout_ms < PmsX003(baud=2400).timeout_ms < PmsX003().period_ms
