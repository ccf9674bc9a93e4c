"""The NSRT meter: no frame and no checksum, so every answer hangs on the question before it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge.sensors.nsrt_mk3 import NsrtMk3

NOW_MS = 1_700_000_000_500
LEQ = bytes.fromhex("110000800000000004000000")
ASK_WEIGHTING = bytes.fromhex("200000800000000001000000")
ANSWERS = [b"\x06", b"\x01", b"NSRT_mk3_Dev".ljust(32, b"\0"), b"A123".ljust(32, b"\0"), b"1.7".ljust(32, b"\0")]


def _values(driver: NsrtMk3, *pieces: bytes) -> list[int]:
    return [reading.value for piece in pieces for _, reading in driver.feed(piece, NOW_MS)]


def _opened(driver: NsrtMk3, answers: list[bytes]) -> list[bytes]:
    """Gives one answer after each command, and returns the commands."""
    commands = []
    for command, answer in zip(driver.opening(), answers, strict=False):
        commands.append(command)
        assert _values(driver, answer) == []
    return commands


def test_weighting_a_is_set_and_read_back_and_the_meter_named() -> None:
    """Each command goes out when the one before has been answered; the first LEQ is anybody's and not taken."""
    driver = NsrtMk3()
    commands = _opened(driver, [*ANSWERS, struct.pack("<f", 99.0)])
    assert [command.hex() for command in commands] == [
        "20000000000000000100000001",
        ASK_WEIGHTING.hex(),
        "310000800000000020000000",
        "320000800000000020000000",
        "330000800000000020000000",
        LEQ.hex(),
    ]
    assert driver.told.identity == {"model": "NSRT_mk3_Dev", "serial": "A123", "firmware": "1.7"}
    assert driver.told.mismatch == ""
    assert driver.request() == LEQ
    assert _values(driver, struct.pack("<f", 61.25)) == [612]


@pytest.mark.parametrize("answered", range(len(ANSWERS)))
def test_an_answer_that_is_missing_ends_the_opening(answered: int) -> None:
    """A late answer would be taken for the next one's: nothing more is asked until the port asks anew."""
    driver = NsrtMk3()
    commands = driver.opening()
    for answer in ANSWERS[:answered]:
        next(commands)
        driver.feed(answer, NOW_MS)
    next(commands)
    driver.feed(ANSWERS[answered][:-1], NOW_MS)
    assert list(commands) == []


def test_without_a_weighting_read_back_no_level_is_asked_for() -> None:
    """The question is repeated in the place of the next readings, and an answer to it is no level."""
    driver = NsrtMk3()
    list(driver.opening())
    assert driver.request() == ASK_WEIGHTING
    assert _values(driver, b"") == [] and driver.awaiting
    assert driver.request() == ASK_WEIGHTING
    assert _values(driver, b"\x01") == [] and not driver.awaiting
    assert driver.request() == LEQ
    assert driver.told.mismatch == ""


@pytest.mark.parametrize(("answer", "says"), [(b"\0", "(C)"), (b"\x02", "(Z)"), (b"$", "(something else)")])
def test_another_weighting_is_refused(answer: bytes, says: str) -> None:
    """A meter that keeps C or Z, or something that is no meter, gives no reading of noise."""
    driver = NsrtMk3()
    _opened(driver, [b"\x06", answer])
    assert "does not keep the weighting A" in driver.told.mismatch and says in driver.told.mismatch
    assert driver.request() == ASK_WEIGHTING


def test_another_make_is_refused() -> None:
    """The model is asked for: something else that answers 32 bytes is named."""
    driver = NsrtMk3()
    _opened(driver, [*ANSWERS[:2], b"$GPGGA,123519,4807.038,N,01131.0"])
    assert driver.told.mismatch.startswith("it calls itself '$GPGGA,123519,4807.038,N,01131.0'")


@given(level_db=st.floats(-200, 200, width=32))
def test_a_level_is_rounded_half_to_even_in_whole_tenths(level_db: float) -> None:
    """The tenths are those of the exact decimal."""
    driver = NsrtMk3()
    driver.request()
    numerator, denominator = level_db.as_integer_ratio()
    whole, rest = divmod(10 * numerator, denominator)
    expected = whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2))
    assert _values(driver, struct.pack("<f", level_db)) == [expected]


@pytest.mark.parametrize("no_number", [float("nan"), float("-inf"), float("inf")])
def test_what_is_no_number_is_refused(no_number: float) -> None:
    """NaN and minus infinity answer the request and bring no reading."""
    driver = NsrtMk3()
    driver.request()
    assert _values(driver, struct.pack("<f", no_number)) == [] and not driver.awaiting
    assert (driver.counters.frames, driver.counters.refused) == (1, 1)


def test_half_an_answer_waits_for_its_other_half() -> None:
    """An answer may come in two reads."""
    driver = NsrtMk3()
    driver.request()
    assert _values(driver, b"\0\0", b"\x51", b"\x42") == [522]
    assert driver.counters.frames == 1


def test_half_an_answer_is_forgotten_with_its_question() -> None:
    """Its rest would shift the next answer: a new question and a closed port drop it."""
    driver = NsrtMk3()
    driver.request()
    driver.feed(b"\0\0\x51", NOW_MS)
    driver.request()
    assert driver.counters.discarded_bytes == 3
    assert _values(driver, b"\0\0\x51\x42") == [522]
    driver.request()
    driver.feed(b"\0\0", NOW_MS)
    driver.reset()
    assert driver.counters.discarded_bytes == 5 and not driver.awaiting


def test_an_answer_that_is_too_long_is_none() -> None:
    """Over USB it comes in one piece: with one byte too many nobody knows which four are the level."""
    driver = NsrtMk3()
    driver.request()
    assert _values(driver, b"\0" + b"\0\0\x51\x42") == [] and driver.awaiting
    assert (driver.counters.frames, driver.counters.rejected, driver.counters.discarded_bytes) == (0, 1, 5)
    assert _values(driver, b"\0\0\x51\x42") == [522]


def test_what_nobody_asked_for_is_discarded() -> None:
    """One request brings one reading."""
    driver = NsrtMk3()
    assert _values(driver, b"\0\0\x51\x42") == []
    driver.request()
    assert _values(driver, b"\0\0\x51\x42", b"\0\0\x51\x42") == [522]
    assert (driver.counters.rejected, driver.counters.discarded_bytes) == (2, 8)


def test_an_answer_without_a_number_has_no_level() -> None:
    """NaN cannot be printed as JSON, and is no level."""
    answer = struct.pack("<f", float("nan"))
    assert NsrtMk3.describe(LEQ + answer) == {"kind": "reply", "reply_to": "leq_db"}
