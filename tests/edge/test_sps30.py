"""The SPS30: stuffed frames, stale errors, and a status that decides what a value never does."""

from __future__ import annotations

import struct
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge.sensors.base import Counters
from murmure_edge.sensors.sps30 import Sps30

NOW_MS = 1_700_000_000_500
READ, START, STOP = (bytes.fromhex(text) for text in ("7e000300fc7e", "7e0000020103f97e", "7e000100fe7e"))
STATUS = bytes.fromhex("7e00d201012b7e")
STARTED, REFUSED_START, NOTHING_NEW = (
    bytes.fromhex(text) for text in ("7e00000000ff7e", "7e00004300bc7e", "7e00030000fc7e")
)
CLEAN_AIR = (1.0, 2.0, 3.0, 4.0)
AS_READ = {"pm1": 10, "pm2_5": 20, "pm10": 40}


def _answer(what: int, data: bytes = b"", state: int = 0) -> bytes:
    content = bytes((0, what, state, len(data))) + data
    content += bytes((255 - sum(content) % 256,))
    stuffed = b""
    for byte in content:
        stuffed += bytes((0x7D, byte ^ 0x20)) if byte in (0x7E, 0x7D, 0x11, 0x13) else bytes((byte,))
    return b"~" + stuffed + b"~"


def _measured(*masses: float, state: int = 0) -> bytes:
    return _answer(3, struct.pack(">10f", *masses, *[1.0] * (10 - len(masses))), state)


def _values(driver: Sps30, data: bytes, now_ms: int = NOW_MS) -> dict[str, int]:
    return {quantity: reading.value for quantity, reading in driver.feed(data, now_ms)}


def _polled(driver: Sps30, data: bytes) -> dict[str, int]:
    assert driver.request() == READ
    return _values(driver, data)


def test_it_is_woken_asked_stopped_and_started() -> None:
    """Whatever a program before left: asleep, measuring, in whole numbers. Who it is is told by its answers."""
    driver = Sps30()
    commands = driver.opening()
    assert [command.hex() for command in islice(commands, 2)] == ["ff7e007d3100ee7e", "7e00d001002e7e"]
    driver.feed(_answer(0xD0, b"00080000\0"), NOW_MS)
    assert next(commands).hex() == "7e00d1002e7e"
    driver.feed(_answer(0xD1, bytes((2, 3, 0, 7, 0, 2, 0))), NOW_MS)
    assert next(commands).hex() == "7e00d001032b7e"
    driver.feed(_answer(0xD0, b"8CCABCFAE3201F49\0"), NOW_MS)
    assert list(commands) == [STOP, START]
    assert driver.told.identity == {"product": "00080000", "firmware": "2.3", "serial": "8CCABCFAE3201F49"}
    assert driver.told.mismatch == ""


def test_another_product_is_refused() -> None:
    """An SHDLC device that is no SPS30 says so itself."""
    driver = Sps30()
    list(islice(driver.opening(), 2))
    driver.feed(_answer(0xD0, b"00090000\0"), NOW_MS)
    assert driver.told.mismatch.startswith("it calls itself '00090000'")


def test_a_late_answer_to_one_question_is_none_to_another() -> None:
    """The product type that comes when the version was asked for names nobody."""
    driver = Sps30()
    list(islice(driver.opening(), 3))
    driver.feed(_answer(0xD0, b"00080000\0"), NOW_MS)
    assert driver.told.identity == {}


def test_a_running_sensor_may_refuse_to_start() -> None:
    """Error 43 to a start means that it measures; the error that waits before an answer is not taken for it."""
    driver = Sps30()
    list(driver.opening())
    assert _values(driver, REFUSED_START) == {}
    assert _polled(driver, REFUSED_START + _measured(*CLEAN_AIR)) == AS_READ
    assert (driver.counters.frames, driver.counters.refused) == (3, 0)


@given(masses=st.lists(st.floats(0, 2000, width=32), min_size=4, max_size=4))
def test_masses_are_rounded_half_to_even_in_whole_tenths(masses: list[float]) -> None:
    """Whatever has to be stuffed, the tenths are those of the exact decimal."""
    found = _polled(Sps30(), _measured(*masses))
    for quantity, mass in zip(("pm1", "pm2_5", "pm10"), (masses[0], masses[1], masses[3]), strict=True):
        numerator, denominator = mass.as_integer_ratio()
        whole, rest = divmod(10 * numerator, denominator)
        assert found[quantity] == whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2))


def test_half_a_tenth_goes_to_the_even_one() -> None:
    """0.25 is 2 tenths, 0.75 is 8."""
    assert _polled(Sps30(), _measured(0.25, 0.75, 0.0, 1.25)) == {"pm1": 2, "pm2_5": 8, "pm10": 12}


@pytest.mark.parametrize("no_number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", range(4))
def test_what_is_no_number_is_refused(no_number: float, place: int) -> None:
    """After a fault of the laser the floats are FFFFFFFF: the sensor's own word for no value."""
    driver = Sps30()
    masses = [*CLEAN_AIR]
    masses[place] = no_number
    assert _polled(driver, _measured(*masses)) == {} and not driver.awaiting
    assert driver.counters.refused == 1
    assert _polled(driver, NOTHING_NEW) == {}


def test_where_nothing_is_new_the_last_values_stand_once_more() -> None:
    """Its second may be longer than ours; but a sensor that renews nothing has no value."""
    driver = Sps30()
    assert _polled(driver, NOTHING_NEW) == {}
    assert _polled(driver, _measured(*CLEAN_AIR)) == AS_READ
    assert [_polled(driver, NOTHING_NEW) for _ in range(3)] == [AS_READ, {}, {}]
    assert driver.counters.refused == 3


def test_an_idle_sensor_is_started_again_and_given_time_to_warm_up() -> None:
    """It lost its power for less than a stall: the next request starts it, and 30 s bring no reading."""
    driver = Sps30()
    assert _polled(driver, _measured(*CLEAN_AIR)) == AS_READ
    assert _polled(driver, _answer(3, state=0x43)) == {}
    assert driver.request() == START
    assert _values(driver, STARTED, NOW_MS) == {} and not driver.awaiting
    for later_ms, found in ((1_000, {}), (29_999, {}), (30_000, AS_READ), (-60_000, AS_READ)):
        assert driver.request() == READ
        assert _values(driver, _measured(*CLEAN_AIR), NOW_MS + later_ms) == found


def test_whole_numbers_are_not_taken_for_floats() -> None:
    """Another program started it in the other format: it is stopped and started."""
    driver = Sps30()
    assert _polled(driver, _answer(3, bytes(20))) == {}
    assert driver.request() == STOP
    assert _values(driver, _answer(1)) == {}
    assert driver.request() == START


@pytest.mark.parametrize(
    ("register", "says"),
    [(1 << 4, "the fan does not turn"), (1 << 5, "the laser fails"), (1 << 21, "the fan's speed is out of range")],
)
def test_while_the_sensor_says_that_it_is_broken_nothing_is_read(register: int, says: str) -> None:
    """The status decides, whatever the values: it is read and cleared until it stays away."""
    driver = Sps30()
    for _ in range(2):
        assert _polled(driver, _measured(*CLEAN_AIR, state=0x80)) == {}
        assert driver.request() == STATUS
        assert _values(driver, _answer(0xD2, struct.pack(">IB", register, 0), 0x80)) == {}
    assert driver.told.identity["status"] == says
    assert driver.counters.refused == 2
    assert _polled(driver, _measured(*CLEAN_AIR)) == AS_READ


def test_a_flag_shared_or_alone_begins_no_frame() -> None:
    """A flag that closed a spoiled frame is discarded, not rejected; the whole frame behind one is found."""
    counters = Counters()
    scanner = Sps30.scanner(counters)
    spoiled = _measured(*CLEAN_AIR)[:-2] + b"\x00~"
    assert scanner.feed(spoiled) == [] and scanner.feed(STARTED) == [STARTED]
    assert (counters.rejected, counters.discarded_bytes) == (1, len(spoiled))
    assert scanner.feed(spoiled) == [] and scanner.finish() == []
    assert (counters.rejected, counters.discarded_bytes) == (2, 2 * len(spoiled))


@pytest.mark.parametrize("content", ["0003007d", "00030000fc7d", "00030000", "000300287dfc", "01030000fb"])
def test_what_breaks_off_or_lies_about_its_length_is_no_answer(content: str) -> None:
    """A lone escape, a length that does not fit, another address: rejected or skipped, never raised."""
    driver = Sps30()
    assert _polled(driver, b"~" + bytes.fromhex(content) + b"~") == {}
    assert driver.counters.frames == 0


def test_a_line_that_never_closes_a_frame_fills_no_memory() -> None:
    """The longest frame is 92 bytes with everything stuffed: what is longer is none."""
    driver = Sps30()
    driver.request()
    driver.feed(b"~" + b"\x55" * 10_000, NOW_MS)
    driver.reset()
    assert driver.counters.discarded_bytes == 10_001
    assert _polled(driver, b"~" + b"\x55" * 91) == {} and driver.counters.discarded_bytes == 10_001 + 92
