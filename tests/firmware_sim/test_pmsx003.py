"""The PMSx003 answers as its protocol page says."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_firmware_sim.devices.pmsx003 import Pmsx003
from murmure_firmware_sim.steady import Steady

T0_MS = 1_794_600_000_000
ZEROS = bytes.fromhex("42 4d 00 1c" + "00" * 26 + "00 ab")
PASSIVE, ACTIVE = bytes.fromhex("42 4d e1 00 00 01 70"), bytes.fromhex("42 4d e1 00 01 01 71")
READ = bytes.fromhex("42 4d e2 00 00 01 71")
SLEEP, WAKE = bytes.fromhex("42 4d e4 00 00 01 73"), bytes.fromhex("42 4d e4 00 01 01 74")


def device(fine_tenths: int = 123, coarse_tenths: int = 261) -> Pmsx003:
    """One that sees 12.3 and 26.1 ug/m3, switched on long before T0."""
    made = Pmsx003(Steady((fine_tenths, coarse_tenths), 0, 0))
    made.seek(T0_MS)
    return made


def said(sensor: Pmsx003, data: bytes, at_ms: int = T0_MS) -> list[bytes]:
    return [answer for answer, _ in sensor.receive(data, at_ms)]


def words(frame: bytes) -> list[int]:
    """The thirteen words of a measurement whose length and sum were checked by hand."""
    assert (len(frame), frame[:4].hex()) == (32, "424d001c")
    assert sum(frame[:30]) == frame[30] * 256 + frame[31]
    return [frame[at] * 256 + frame[at + 1] for at in range(4, 30, 2)]


def test_measurement_holds_the_air_in_the_atmospheric_words() -> None:
    """12 and 26 ug/m3 in words 5 and 6, once a second, with version 97 and error 0."""
    ((frame, time_ms),) = device().advance(T0_MS + 999)
    assert words(frame)[3:6] == [9, 12, 26]
    assert words(frame)[:3] == [9, 12, 26]
    assert words(frame)[12] == 0x9700
    assert time_ms == T0_MS + 500


@given(st.integers(0, 9999), st.integers(0, 9999))
def test_smaller_particles_never_weigh_more_and_larger_sizes_never_count_more(a: int, b: int) -> None:
    """PM1 <= PM2.5 <= PM10 in both calibrations, and each count holds those of the sizes above it."""
    ((frame, _),) = device(min(a, b), max(a, b)).advance(T0_MS + 999)
    every = words(frame)
    for masses in (every[:3], every[3:6]):
        assert masses == sorted(masses)
    assert all(more >= fewer for more, fewer in pairwise(every[6:12]))
    assert all(factory >= air for factory, air in zip(every[:3], every[3:6], strict=True))


@pytest.mark.shared
def test_commands_are_answered_as_in_the_collected_pairs(shared: Path) -> None:
    """Every command of the collection with a reply gets exactly that reply; wake gets none, a read one measurement."""
    frames = json.loads((shared / "frames/pmsx003.json").read_text())
    pairs = [frame for frame in frames if frame["direction"] == "host_to_device"]
    assert len(pairs) >= 4
    for pair in pairs:
        sensor = device()
        if pair["expect"]["cmd"] == "passive_read":
            sensor.be_passive()
            assert len(words(said(sensor, bytes.fromhex(pair["hex"]))[0])) == 13
        else:
            answers = said(sensor, bytes.fromhex(pair["hex"]))
            assert answers == ([bytes.fromhex(pair["reply"])] if pair["reply"] else []), pair["id"]


def test_passive_mode_ends_the_stream_and_active_mode_begins_it_again() -> None:
    """In passive mode a measurement comes when it is asked for, and in active mode only by itself."""
    sensor = device()
    assert said(sensor, READ) == []
    assert said(sensor, PASSIVE) == [bytes.fromhex("42 4d 00 04 e1 00 01 74")]
    assert all(piece == b"" for piece, _ in sensor.advance(T0_MS + 3000))
    assert words(said(sensor, READ, T0_MS + 3000)[0])[4] == 12
    assert said(sensor, ACTIVE, T0_MS + 3000) == [bytes.fromhex("42 4d 00 04 e1 01 01 75")]
    assert [len(piece) for piece, _ in sensor.advance(T0_MS + 5000)] == [32, 32]


def test_asleep_it_hears_only_the_wake_command_and_then_shows_zeros() -> None:
    """Sleep is acknowledged, wake is not; while the fan starts, six frames of zeros hold their sum."""
    sensor = device()
    assert said(sensor, SLEEP) == [bytes.fromhex("42 4d 00 04 e4 00 01 77")]
    assert said(sensor, PASSIVE + READ + SLEEP) == []
    assert all(piece == b"" for piece, _ in sensor.advance(T0_MS + 3000))
    assert said(sensor, WAKE, T0_MS + 3000) == []
    pieces = [piece for piece, _ in sensor.advance(T0_MS + 11_000)]
    assert pieces[:6] == [ZEROS] * 6
    assert [words(piece)[4] for piece in pieces[6:]] == [12, 12]


def test_waking_keeps_the_mode_and_a_power_cut_does_not() -> None:
    """Passive stays passive over a sleep; after a power cut it streams, zeros first, whatever it was."""
    sensor = device()
    said(sensor, PASSIVE + SLEEP + WAKE)
    assert all(piece == b"" for piece, _ in sensor.advance(T0_MS + 2000))
    sensor.power_cycle(T0_MS + 2000)
    assert [piece for piece, _ in sensor.advance(T0_MS + 8000)] == [ZEROS] * 6
    sensor.be_asleep()
    sensor.power_cycle(T0_MS + 8000)
    assert sensor.advance(T0_MS + 8999)[0][0] == ZEROS


def test_wake_while_awake_changes_nothing() -> None:
    """The fan of one that runs does not start again."""
    sensor = device()
    assert said(sensor, WAKE) == []
    assert words(sensor.advance(T0_MS + 999)[0][0])[4] == 12


def test_no_value_is_ffff_in_every_word() -> None:
    """A broken sensor's words are FFFF, and the frame holds."""
    assert words(device(0xFFFF, 0xFFFF).advance(T0_MS + 999)[0][0]) == [0xFFFF] * 12 + [0x9700]


def test_command_after_rubbish_in_halves_is_heard() -> None:
    """Rubbish, a spoiled command and a spare 42 are slid over; half a command is waited for."""
    sensor = device()
    spoiled = PASSIVE[:-1] + b"\x71"
    assert said(sensor, b"\x00\x42\xff" + spoiled + b"\x42" + PASSIVE[:1]) == []
    assert said(sensor, PASSIVE[1:4]) == []
    assert said(sensor, PASSIVE[4:]) == [bytes.fromhex("42 4d 00 04 e1 00 01 74")]
