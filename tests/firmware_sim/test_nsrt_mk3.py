"""The NSRT_mk3_Dev answers as its protocol page says."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from murmure_firmware_sim.devices.nsrt_mk3 import NsrtMk3
from murmure_firmware_sim.steady import Steady

T0_MS = 1_794_600_000_000
LEVEL, LEQ = bytes.fromhex("10 00 00 80 00 00 00 00 04 00 00 00"), bytes.fromhex("11 00 00 80 00 00 00 00 04 00 00 00")


class Loud(Steady):
    """A street of 50 dB with one second of 90 dB, ten seconds after T0; and a hole twenty seconds after."""

    def level_tenths(self, minute: int) -> Sequence[int | None]:
        seconds = range(minute * 60 - T0_MS // 1000, minute * 60 - T0_MS // 1000 + 60)
        return [None if s == 20 else 900 if s == 10 else 500 for s in seconds]


def device(level_tenths: int = 536) -> NsrtMk3:
    return NsrtMk3(Steady((0, 0), level_tenths, 0), seed=7)


def said(sensor: NsrtMk3, data: bytes, at_ms: int = T0_MS) -> list[bytes]:
    return [answer for answer, _ in sensor.receive(data, at_ms)]


def read(sensor: NsrtMk3, what: int, count: int, at_ms: int = T0_MS) -> bytes:
    (answer,) = said(sensor, struct.pack("<III", what | 1 << 31, 0, count), at_ms)
    return answer


def decibels(sensor: NsrtMk3, request: bytes, at_ms: int) -> float:
    (answer,) = said(sensor, request, at_ms)
    (level,) = struct.unpack("<f", answer)
    return float(level)


@pytest.mark.shared
def test_commands_are_answered_as_in_the_collected_pairs(shared: Path) -> None:
    """Every command of the collection gets its reply, from a meter that sees the level and has the weighting."""
    pairs = json.loads((shared / "frames/nsrt_mk3.json").read_text())
    assert len(pairs) >= 5
    for pair in pairs:
        expected = pair["reply_expect"]
        sensor = NsrtMk3(Steady((0, 0), 0, 0))
        sensor.source = Steady((0, 0), 536, 0)
        sensor.weighting = "CAZ".index(expected.get("weighting", "A"))
        (answer,) = said(sensor, bytes.fromhex(pair["hex"]))
        if "leq_db" in expected:  # its 52.25 dB is not a whole number of tenths, as a source's level is
            assert len(answer) == 4
        else:
            assert answer == bytes.fromhex(pair["reply"]), pair["id"]


def test_reading_the_leq_starts_the_next_one() -> None:
    """A second of 90 dB in the middle of ten is 80 dB on the whole, in one LEQ and in no other."""
    sensor = NsrtMk3(Loud((0, 0), 0, 0))
    assert decibels(sensor, LEQ, T0_MS + 5_000) == pytest.approx(50.0)
    assert decibels(sensor, LEQ, T0_MS + 15_000) == pytest.approx(10 * math.log10((9e5 + 1e9) / 10), abs=1e-4)
    assert decibels(sensor, LEQ, T0_MS + 16_000) == pytest.approx(50.0)


def test_an_leq_weighs_parts_of_seconds_by_their_length() -> None:
    """Half of the loud second and half a quiet one: the mean of both energies."""
    sensor = NsrtMk3(Loud((0, 0), 0, 0))
    decibels(sensor, LEQ, T0_MS + 9_500)
    assert decibels(sensor, LEQ, T0_MS + 10_500) == pytest.approx(10 * math.log10((1e5 + 1e9) / 2), abs=1e-4)


def test_level_is_no_leq_and_falls_with_its_time_constant() -> None:
    """What stands above the street falls by 34.7 dB a second (FAST) or 4.3 (SLOW), and reading changes nothing."""
    for tau_s in (0.125, 1.0):
        sensor = NsrtMk3(Loud((0, 0), 0, 0))
        assert said(sensor, struct.pack("<IIIf", 0x22, 0, 4, tau_s)) == [b"\x06"]
        top, later = (10 ** (decibels(sensor, LEVEL, T0_MS + after_ms) / 10) - 1e5 for after_ms in (11_000, 12_000))
        assert 10 * math.log10(top / later) == pytest.approx(4.343 / tau_s, abs=0.01)
        assert 10 ** (decibels(sensor, LEVEL, T0_MS + 12_000) / 10) - 1e5 == later


def test_settings_are_read_back_and_kept_over_a_power_cut() -> None:
    """Weighting, rate, time constant and the user's name; each write is answered by 06."""
    sensor = device()
    writes = ((0x20, b"\x02"), (0x21, b"\x00\x7d"), (0x22, struct.pack("<f", 1.0)), (0x36, b"lamp 12\0"))
    for what, data in writes:
        assert said(sensor, struct.pack("<III", what, 0, len(data)) + data) == [b"\x06"]
    sensor.power_cycle(T0_MS)
    for what, data in writes:
        assert read(sensor, what, len(data)) == data
    assert read(sensor, 0x36, 32) == b"lamp 12".ljust(32, b"\0")


@pytest.mark.parametrize(("what", "data"), [(0x21, b"\x00\x7d"), (0x22, b"\x00\x00\x80\x3f")])
def test_a_count_of_one_before_two_or_four_bytes_is_taken(what: int, data: bytes) -> None:
    """A client of others counts wrong; what follows is not shifted by it."""
    sensor = device()
    assert said(sensor, struct.pack("<III", what, 0, 1) + data + LEVEL)[0] == b"\x06"
    assert read(sensor, what, len(data)) == data


def test_c_and_z_show_more_of_a_street_than_a() -> None:
    """Who forgets to set the weighting sees another level."""
    sensor = device(500)
    levels = []
    for weighting in range(3):
        said(sensor, struct.pack("<III", 0x20, 0, 1) + bytes((weighting,)))
        levels.append(decibels(sensor, LEVEL, T0_MS))
    assert levels == pytest.approx([58.0, 50.0, 59.0])


def test_it_says_who_it_is() -> None:
    """Texts end with zeros and are cut or filled to what was wanted; dates are seconds since 1904."""
    sensor = device()
    assert read(sensor, 0x31, 32) == b"NSRT_mk3_Dev".ljust(32, b"\0")
    assert read(sensor, 0x32, 32) == b"SIM000007".ljust(32, b"\0")
    assert read(sensor, 0x33, 3) == b"1.0"
    made_s, calibrated_s = (int.from_bytes(read(sensor, what, 8), "little") - 2_082_844_800 for what in (0x35, 0x34))
    assert 1_500_000_000 < made_s < calibrated_s < T0_MS / 1000


@pytest.mark.parametrize(
    "request_hex",
    [
        "99 00 00 80 00 00 00 00 04 00 00 00",
        "11 00 00 80 01 00 00 00 04 00 00 00",
        "11 00 00 80 00 00 00 00 00 01 00 00",
        "20 00 00 00 00 00 00 00 01 00 00 00 03",
        "22 00 00 00 00 00 00 00 04 00 00 00 00 00 c0 7f",
        "31 00 00 00 00 00 00 00 01 00 00 00 41",
    ],
)
def test_what_makes_no_sense_is_not_answered_and_leaves_nothing_behind(request_hex: str) -> None:
    """An unknown command, an address, too many bytes, a weighting of 3, a NaN, a write to the model."""
    sensor = device()
    assert said(sensor, bytes.fromhex(request_hex)) == []
    assert len(said(sensor, LEVEL)) == 1


def test_half_a_command_is_waited_for_only_so_long() -> None:
    """Its other half 50 ms later belongs to it, one 150 ms later does not."""
    sensor = device()
    assert said(sensor, LEVEL[:5]) == []
    assert len(said(sensor, LEVEL[5:], T0_MS + 50)) == 1
    assert said(sensor, LEVEL[:5], T0_MS + 1000) == []
    assert said(sensor, LEVEL[5:], T0_MS + 1150) == []
    assert len(said(sensor, LEVEL, T0_MS + 2000)) == 1


def test_a_hole_in_a_recording_is_left_out_of_an_leq_and_is_silence_by_itself() -> None:
    """Nothing is filled in: no LEQ of nothing."""
    sensor = NsrtMk3(Loud((0, 0), 0, 0))
    decibels(sensor, LEQ, T0_MS + 19_000)
    assert decibels(sensor, LEQ, T0_MS + 20_500) == pytest.approx(50.0)
    assert said(sensor, LEQ, T0_MS + 20_900) == []


def test_no_value_is_no_number() -> None:
    """A broken microphone gives NaN as level and as LEQ."""
    sensor = device(0xFFFF)
    assert math.isnan(decibels(sensor, LEVEL, T0_MS))
    assert math.isnan(decibels(sensor, LEQ, T0_MS))
