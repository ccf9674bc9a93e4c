"""The SPS30 answers as its protocol page says."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_firmware_sim.devices.sps30 import Sps30, frame
from murmure_firmware_sim.steady import Steady

T0_MS = 1_794_600_000_000
STUFFING = {b"\x7d\x5e": b"\x7e", b"\x7d\x31": b"\x11", b"\x7d\x33": b"\x13", b"\x7d\x5d": b"\x7d"}
START, START_WORDS = bytes.fromhex("7e 00 00 02 01 03 f9 7e"), bytes.fromhex("7e 00 00 02 01 05 f7 7e")
STOP, READ = bytes.fromhex("7e 00 01 00 fe 7e"), bytes.fromhex("7e 00 03 00 fc 7e")
SLEEP, WAKE = bytes.fromhex("7e 00 10 00 ef 7e"), bytes.fromhex("7e 00 7d 31 00 ee 7e")
CLEAN, STATUS = bytes.fromhex("7e 00 56 00 a9 7e"), bytes.fromhex("7e 00 d2 01 00 2c 7e")
STARTED = bytes.fromhex("7e 00 00 00 00 ff 7e")
REFUSED = bytes.fromhex("7e 00 00 43 00 bc 7e")


def device(fine_tenths: int = 123, coarse_tenths: int = 261, seed: int = 42) -> Sps30:
    return Sps30(Steady((fine_tenths, coarse_tenths), 0, 0), seed)


def said(sensor: Sps30, data: bytes, at_ms: int = T0_MS) -> list[bytes]:
    return [answer for answer, _ in sensor.receive(data, at_ms)]


def ask(sensor: Sps30, command: int, data: bytes = b"", at_ms: int = T0_MS) -> tuple[int, bytes]:
    """The state and the data of the one answer, taken apart by hand."""
    body = bytes((0, command, len(data))) + data
    body += bytes((~sum(body) & 0xFF,))
    (answer,) = said(sensor, b"\x7e" + stuffed(body) + b"\x7e", at_ms)
    plain = unstuffed(answer[1:-1])
    assert (answer[:1], answer[-1:], plain[:2]) == (b"\x7e", b"\x7e", bytes((0, command)))
    assert plain[3] == len(plain) - 5
    assert sum(plain) & 0xFF == 0xFF
    return plain[2], plain[4:-1]


def stuffed(plain: bytes) -> bytes:
    return b"".join({v: k for k, v in STUFFING.items()}.get(bytes((byte,)), bytes((byte,))) for byte in plain)


def unstuffed(data: bytes) -> bytes:
    plain, at = b"", 0
    while at < len(data):
        size = 2 if data[at] == 0x7D else 1
        piece = data[at : at + size]
        plain += STUFFING[piece] if size == 2 else piece
        at += size
    return plain


@pytest.mark.shared
def test_commands_are_answered_as_in_the_collected_pairs(shared: Path) -> None:
    """Every command of the collection with a reply gets exactly that reply, in the state that it needs."""
    frames = json.loads((shared / "frames/sps30.json").read_text())
    pairs = [each for each in frames if each["direction"] == "host_to_device"]
    assert len([pair for pair in pairs if pair["reply"]]) >= 3
    for pair in pairs:
        sensor = device()
        if pair["expect"]["cmd"] in ("stop_measurement", "read_measurement"):
            said(sensor, START)
        answers = said(sensor, bytes.fromhex(pair["hex"]), T0_MS + 1000)
        assert len(answers) == 1
        assert not pair["reply"] or answers == [bytes.fromhex(pair["reply"])], pair["id"]


def test_answer_is_stuffed_as_in_the_published_capture() -> None:
    """The capture on the page, made of its own floats, holds its `7D 33`; none of the four bytes is left between the
    flags of any answer."""
    capture = (
        "7e 00 03 00 28 40 a7 83 20 41 17 77 bb 41 4a 5f 83 41 54 8d dd 41 d2 83 3e 42 7d 33 fc 85 42 26 17 22 42 29 a4"
        "d9 42 2a 29 bc 3f 55 b7 e7 9e 7e"
    )
    floats = unstuffed(bytes.fromhex(capture)[1:-1])[4:-1]
    assert frame(3, 0, floats) == bytes.fromhex(capture)
    between = frame(3, 0, bytes(range(256))[:200])[1:-1]
    assert unstuffed(between)[4:-1] == bytes(range(200))
    assert not set(between.replace(b"\x7d\x5e", b"").replace(b"\x7d\x5d", b"").replace(b"\x7d", b"")) & {
        0x7E,
        0x11,
        0x13,
    }


def test_measurement_shows_the_air_once_a_second() -> None:
    """Nothing in the first second; ten floats with 12.3 and 26.1 ug/m3; nothing new until the next second."""
    sensor = device()
    assert said(sensor, START) == [STARTED]
    assert said(sensor, READ, T0_MS + 900) == [bytes.fromhex("7e 00 03 00 00 fc 7e")]
    state, data = ask(sensor, 3, at_ms=T0_MS + 1100)
    values = struct.unpack(">10f", data)
    assert state == 0
    assert values[1] == pytest.approx(12.3)
    assert values[3] == pytest.approx(26.1)
    assert ask(sensor, 3, at_ms=T0_MS + 1900) == (0, b"")
    assert len(ask(sensor, 3, at_ms=T0_MS + 2000)[1]) == 40


@given(st.integers(0, 9999), st.integers(0, 9999))
def test_masses_and_counts_never_fall_with_the_size(a: int, b: int) -> None:
    """PM1 <= PM2.5 <= PM4 <= PM10, and each count holds those of the smaller sizes; in u16 as in floats."""
    for start, form in ((START, ">10f"), (START_WORDS, ">10H")):
        sensor = device(min(a, b), max(a, b))
        said(sensor, start)
        values = struct.unpack(form, ask(sensor, 3, at_ms=T0_MS + 1000)[1])
        assert list(values[:4]) == sorted(values[:4])
        assert list(values[4:9]) == sorted(values[4:9])


def test_u16_format_has_whole_amounts_and_the_size_in_nanometres() -> None:
    """20 bytes: 12 and 26 ug/m3, and a size that the float format shows in micrometres."""
    sizes = []
    for start, form, per_um in ((START_WORDS, ">10H", 1000), (START, ">10f", 1)):
        sensor = device()
        said(sensor, start)
        values = struct.unpack(form, ask(sensor, 3, at_ms=T0_MS + 1000)[1])
        assert (round(values[1]), round(values[3])) == (12, 26)
        sizes.append(values[9] / per_um)
    assert sizes[0] == pytest.approx(sizes[1], abs=0.001)


def test_what_the_state_does_not_allow_is_refused_with_43() -> None:
    """Start while measuring; stop, read and clean while idle; sleep while measuring."""
    sensor = device()
    for command in (0x01, 0x03, 0x56):
        assert ask(sensor, command) == (0x43, b"")
    assert said(sensor, START + START) == [STARTED, REFUSED]
    assert ask(sensor, 0x10) == (0x43, b"")
    assert said(sensor, STOP + START) == [bytes.fromhex("7e 00 01 00 00 fe 7e"), STARTED]


def test_errors_say_what_was_wrong_with_a_command() -> None:
    """Length 01, unknown command 02, illegal parameter 04; a wrong check or another address is not answered."""
    sensor = device()
    assert ask(sensor, 0x00, b"\x01") == (0x01, b"")
    assert ask(sensor, 0x77) == (0x02, b"")
    assert ask(sensor, 0x00, b"\x01\x04") == (0x04, b"")
    assert ask(sensor, 0xD0, b"\x01") == (0x04, b"")
    assert said(sensor, START[:-2] + b"\xf8\x7e") == []
    assert said(sensor, bytes.fromhex("7e 01 00 02 01 03 f8 7e")) == []


def test_it_says_who_it_is() -> None:
    """Product type, a serial number of its own for each seed, and the version, as on the page."""
    sensor = device()
    assert ask(sensor, 0xD0, b"\x00") == (0, b"00080000\0")
    assert ask(sensor, 0xD0, b"\x03") == (0, b"5A1D000000000042\0")
    assert said(sensor, bytes.fromhex("7e 00 d1 00 2e 7e")) == [
        bytes.fromhex("7e 00 d1 00 07 02 02 00 07 00 02 00 1a 7e")
    ]


def test_asleep_the_line_is_off_until_a_pulse_and_then_hears_only_wake() -> None:
    """Wake alone is lost; FF and wake within 100 ms, in one piece or two, and wake twice, bring it back to idle."""
    for pieces, wakes in (
        ([(WAKE, 0)], False),
        ([(b"\xff", 0), (WAKE, 50)], True),
        ([(b"\xff", 0), (WAKE, 150)], False),
        ([(b"\xff" + WAKE, 0)], True),
        ([(WAKE, 0), (WAKE, 50)], True),
        ([(WAKE + WAKE, 0)], True),
        ([(b"\xff" + START + STATUS, 0)], False),
    ):
        sensor = device()
        assert len(said(sensor, SLEEP)) == 1
        answers = [answer for data, after_ms in pieces for answer in said(sensor, data, T0_MS + 1000 + after_ms)]
        assert answers == ([bytes.fromhex("7e 00 7d 31 00 00 ee 7e")] if wakes else []), pieces
        assert (said(sensor, START, T0_MS + 5000) == [STARTED]) == wakes


def test_cleaning_interval_is_kept_over_a_power_cut_and_measuring_is_not() -> None:
    """A week as delivered; what is written is read back; without power it falls idle."""
    sensor = device()
    assert said(sensor, bytes.fromhex("7e 00 80 01 00 7d 5e 7e")) == [bytes.fromhex("7e 00 80 00 04 00 09 3a 80 b8 7e")]
    assert ask(sensor, 0x80, b"\0\0\0\x0e\x10") == (0, b"")
    said(sensor, START)
    sensor.power_cycle(T0_MS)
    assert ask(sensor, 0x80, b"\0") == (0, b"\0\0\x0e\x10")
    assert ask(sensor, 0x03, at_ms=T0_MS + 5000) == (0x43, b"")


def test_reset_ends_a_measurement() -> None:
    """D3 answers, and leaves it idle."""
    sensor = device()
    said(sensor, START)
    assert ask(sensor, 0xD3) == (0, b"")
    assert said(sensor, START) == [STARTED]


def test_nothing_new_is_read_while_the_fan_is_cleaned() -> None:
    """For ten seconds after the command reads are empty."""
    sensor = device()
    said(sensor, START)
    assert ask(sensor, 0x56, at_ms=T0_MS + 2000) == (0, b"")
    assert ask(sensor, 3, at_ms=T0_MS + 11_000) == (0, b"")
    assert len(ask(sensor, 3, at_ms=T0_MS + 12_000)[1]) == 40


def test_failed_laser_shows_in_the_values_the_state_and_the_register() -> None:
    """NaN floats, bit 7 of every state, bit 5 of the register; cleared by D2 once the laser is well."""
    sensor = device(0xFFFF, 0xFFFF)
    said(sensor, START)
    assert ask(sensor, 3, at_ms=T0_MS + 1000) == (0x80, b"\xff" * 40)
    assert ask(sensor, 0xD2, b"\x00", T0_MS + 1000) == (0x80, b"\0\0\0\x20\0")
    sensor.source = Steady((123, 261), 0, 0)
    assert ask(sensor, 0xD2, b"\x01", T0_MS + 60_000) == (0, b"\0\0\0\x20\0")
    assert ask(sensor, 0xD2, b"\x00", T0_MS + 60_000) == (0, b"\0\0\0\0\0")


def test_one_that_was_left_measuring_refuses_a_start_and_can_be_read() -> None:
    """As another program left it: start gives 43, and a value is there at once."""
    sensor = Sps30(Steady((123, 261), 0, 0), measuring=1)
    assert said(sensor, START) == [REFUSED]
    assert len(ask(sensor, 3)[1]) == 40


def test_one_that_was_left_asleep_is_woken_by_a_power_cut() -> None:
    """As another program left it: no answer, until the power comes back."""
    sensor = device()
    sensor.be_asleep()
    assert said(sensor, START + STATUS) == []
    sensor.power_cycle(T0_MS)
    assert said(sensor, START) == [STARTED]


def test_command_after_rubbish_in_halves_is_heard() -> None:
    """Rubbish, a frame cut short and a flag too many are passed over; half a frame is waited for."""
    sensor = device()
    assert said(sensor, b"\x00\xff\x7e\x7e" + START[:4] + START[:3]) == []
    assert said(sensor, START[3:]) == [STARTED]
    assert said(sensor, b"\x7e" + bytes(5000)) == []
    assert said(sensor, STOP) == [bytes.fromhex("7e 00 01 00 00 fe 7e")]
