"""The SDS011 answers as its protocol sheet says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from murmure_firmware_sim.devices.sds011 import Sds011
from murmure_firmware_sim.steady import Steady

T0_MS = 1_794_600_000_000
MEASUREMENT = bytes.fromhex("aa c0 d4 04 3a 0a a1 60 1d ab")


def device() -> Sds011:
    """One that sees 123.6 and 261.8 ug/m3, switched on at T0."""
    made = Sds011(Steady((1236, 2618), 536, 0))
    made.seek(T0_MS)
    return made


def command(what: int, op: int = 0, value: int = 0, target: bytes = b"\xff\xff", new_id: bytes = b"\0\0") -> bytes:
    body = bytes((what, op, value)) + bytes(8) + new_id + target
    assert len(body) == 15
    return b"\xaa\xb4" + body + bytes((sum(body) & 0xFF, 0xAB))


def test_measurement_is_the_documented_frame() -> None:
    """123.6 and 261.8 ug/m3 of device A160 is the frame printed in the protocol."""
    assert device().advance(T0_MS + 999) == [(MEASUREMENT, T0_MS + 500)]


@pytest.mark.shared
def test_commands_are_answered_as_in_the_collected_pairs(shared: Path) -> None:
    """Every command of the collection with a reply gets exactly that reply."""
    frames = json.loads((shared / "frames/sds011.json").read_text())
    pairs = [frame for frame in frames if frame["direction"] == "host_to_device" and "reply" in frame]
    assert len(pairs) >= 6
    for pair in pairs:
        answers = device().receive(bytes.fromhex(pair["hex"]), T0_MS)
        assert [bytes.fromhex(pair["reply"])] == [said for said, _ in answers], pair["id"]


def test_query_mode_ends_the_stream_and_active_mode_begins_it_again() -> None:
    """In query mode nothing comes unasked."""
    sensor = device()
    sensor.advance(T0_MS + 1000)
    sensor.receive(command(2, 1, 1), T0_MS + 1000)
    assert all(said == b"" for said, _ in sensor.advance(T0_MS + 5000))
    assert [said for said, _ in sensor.receive(command(4), T0_MS + 5000)] == [MEASUREMENT]
    sensor.receive(command(2, 1, 0), T0_MS + 5000)
    assert [said for said, _ in sensor.advance(T0_MS + 6000)] == [MEASUREMENT]


def test_asleep_it_hears_only_the_wake_command() -> None:
    """Sleep silences stream and commands; only command 06 is answered."""
    sensor = device()
    assert [said.hex() for said, _ in sensor.receive(command(6, 1, 0), T0_MS)] == ["aac506010000a16008ab"]
    assert sensor.receive(command(7), T0_MS) == []
    assert all(said == b"" for said, _ in sensor.advance(T0_MS + 3000))
    assert [said.hex() for said, _ in sensor.receive(command(6, 1, 1), T0_MS + 3000)] == ["aac506010100a16009ab"]
    assert [said for said, _ in sensor.advance(T0_MS + 4000)] == [MEASUREMENT]


def test_working_period_gives_one_frame_a_cycle() -> None:
    """A period of 2 minutes works for 30 s, says one frame, and sleeps for 90 s."""
    sensor = device()
    sensor.receive(command(8, 1, 2), T0_MS)
    spoken = [time_ms - T0_MS for said, time_ms in sensor.advance(T0_MS + 360_000) if said]
    assert spoken == [29_500, 149_500, 269_500]


def test_new_id_is_taken_and_the_old_one_no_longer_heard() -> None:
    """After command 05 frames carry the new id and only it (or FFFF) is answered."""
    sensor = device()
    sensor.receive(command(5, new_id=b"\x12\x34"), T0_MS)
    assert sensor.advance(T0_MS + 999)[0][0][6:8] == b"\x12\x34"
    assert sensor.receive(command(7, target=b"\xa1\x60"), T0_MS) == []
    assert sensor.receive(command(7, target=b"\x12\x34"), T0_MS)


def test_command_after_rubbish_in_halves_is_heard() -> None:
    """Rubbish, a spoiled command and a command cut in two are slid over or waited for."""
    sensor = device()
    spoiled = bytearray(command(7))
    spoiled[17] ^= 1
    assert sensor.receive(b"\x00\xff\xaa\xb4\x07" + bytes(spoiled) + command(7)[:9], T0_MS) == []
    assert len(sensor.receive(command(7)[9:], T0_MS + 5)) == 1


def test_power_cut_wakes_it_in_the_mode_it_had() -> None:
    """Mode survives a power cut, sleep does not."""
    sensor = device()
    sensor.be_passive()
    sensor.receive(command(6, 1, 0), T0_MS)
    sensor.power_cycle(T0_MS)
    assert all(said == b"" for said, _ in sensor.advance(T0_MS + 2000))
    assert sensor.receive(command(4), T0_MS + 2000)
