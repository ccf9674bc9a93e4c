"""The TF-Luna speaks as its manual says, and shows each body as a dip."""

from __future__ import annotations

import itertools

import pytest
from murmure_firmware_sim.devices.tfluna import TfLuna, frame
from murmure_firmware_sim.devices.walkers import passers
from murmure_firmware_sim.steady import Steady
from murmure_firmware_sim.street import Street

T0_MS = 1_794_600_000_000
MINUTE_MS = 60_000


def device(crossings_per_min: int = 0, rate_hz: int = 10) -> TfLuna:
    made = TfLuna(Steady((0, 0), 0, crossings_per_min), rate_hz=rate_hz)
    made.seek(T0_MS)
    return made


def distances(said: bytes) -> list[int]:
    """The distances of whole frames, each checked."""
    frames = [said[at : at + 9] for at in range(0, len(said), 9)]
    for each in frames:
        assert each[:2] == b"\x59\x59"
        assert sum(each[:8]) & 0xFF == each[8]
    return [int.from_bytes(each[2:4], "little") for each in frames]


def dips(values: list[int]) -> list[int]:
    """The lengths of the runs below 80 % of 180 cm."""
    return [len(list(run)) for low, run in itertools.groupby(values, lambda cm: cm < 144) if low]


def command(what: int, *data: int) -> bytes:
    body = bytes((0x5A, len(data) + 4, what, *data))
    return body + bytes((sum(body) & 0xFF,))


def test_frames_are_the_documented_ones() -> None:
    """300 cm at 1200 and 25.0 C, and 180 cm at 1500, are the bytes of the collection."""
    assert frame(300, 1200).hex(" ") == "59 59 2c 01 b0 04 c8 08 63"
    assert frame(180, 1500).hex(" ") == "59 59 b4 00 dc 05 c8 08 17"


@pytest.mark.parametrize("rate_hz", [1, 3, 10, 100, 250])
def test_a_second_holds_as_many_frames_as_its_rate(rate_hz: int) -> None:
    """One piece a second, stamped with its last frame, inside the second."""
    pieces = device(rate_hz=rate_hz).advance(T0_MS + 10_000 - 1)
    assert [9 * rate_hz] * 10 == [len(said) for said, _ in pieces]
    offset_ms = (rate_hz - 1) * 1000 // rate_hz
    assert [T0_MS + 1000 * s + offset_ms for s in range(10)] == [time_ms for _, time_ms in pieces]


@pytest.mark.parametrize(("rate_hz", "frames"), [(10, 2), (25, 5), (100, 20)])
def test_each_crossing_is_one_dip_of_200_ms(rate_hz: int, frames: int) -> None:
    """At the beam's full capacity of 150 a minute every dip still stands alone."""
    sensor = device(150, rate_hz)
    said = b"".join(piece for piece, _ in sensor.advance(T0_MS + 2 * MINUTE_MS - 1))
    assert [frames] * 300 == dips(distances(said))
    assert sensor.crossings == 300


def test_idle_beam_shows_the_wall_to_a_centimetre() -> None:
    """Nobody there: 179 to 181 cm."""
    said = b"".join(piece for piece, _ in device().advance(T0_MS + MINUTE_MS))
    assert {179, 180, 181} == set(distances(said))


def test_second_beam_sees_the_same_bodies_later_or_earlier() -> None:
    """Thirty centimetres further in at 100 Hz: as many dips, each 170 to 220 ms after the first beam's or before it,
    as the body comes in or goes out; every dip still stands alone."""
    street = Street(3, "plaza")
    minutes = range(T0_MS // MINUTE_MS, T0_MS // MINUTE_MS + 60)
    expected = [each.inwards for m in minutes for each in passers(street.dip_slots(m), m, 1)]
    starts = []
    for offset_cm in (0, 30):
        beam = TfLuna(street, 1, rate_hz=100, offset_cm=offset_cm)
        beam.seek(T0_MS)
        seen = distances(b"".join(piece for piece, _ in beam.advance(T0_MS + 60 * MINUTE_MS - 1)))
        starts.append([at for at in range(1, len(seen)) if seen[at] < 144 <= seen[at - 1]])
        assert beam.crossings == len(starts[-1])
    later_ms = [10 * (second - first) for first, second in zip(*starts, strict=True)]
    assert [ms > 0 for ms in later_ms] == expected
    assert all(170 <= abs(ms) <= 220 for ms in later_ms)
    assert len(later_ms) > 50


def test_commands_are_answered_by_their_like() -> None:
    """Rate, output, checksum, format, version, save, factory and reset answer in the manual's form."""
    sensor = device()
    for sent, expected in (
        (command(3, 100, 0), command(3, 100, 0)),
        (command(7, 0), command(7, 0)),
        (command(8, 1), command(8, 1)),
        (command(5, 6), command(5, 6)),
        (command(1), command(1, 2, 0, 3)),
        (command(17), command(17, 0)),
        (command(16), command(16, 0)),
        (command(2), command(2, 0)),
    ):
        assert [expected] == [said for said, _ in sensor.receive(sent, T0_MS)]
    assert command(3, 10, 0).hex() == "5a06030a006d"


def test_impossible_rate_is_answered_with_the_one_in_force() -> None:
    """251 Hz cannot be set."""
    assert [command(3, 10, 0)] == [said for said, _ in device().receive(command(3, 251, 0), T0_MS)]


def test_output_off_is_silent_and_rate_0_answers_only_triggers() -> None:
    """Both stop the stream; a trigger gives one frame in rate 0 and none else."""
    sensor = device()
    sensor.receive(command(7, 0), T0_MS)
    assert b"".join(said for said, _ in sensor.advance(T0_MS + 2000)) == b""
    sensor.receive(command(7, 1), T0_MS + 2000)
    assert sensor.receive(command(4), T0_MS + 2000) == []
    sensor.receive(command(3, 0, 0), T0_MS + 2000)
    assert b"".join(said for said, _ in sensor.advance(T0_MS + 4000)) == b""
    assert len(distances(sensor.receive(command(4), T0_MS + 4000)[0][0])) == 1


def test_unsaved_settings_are_lost_with_the_power() -> None:
    """Only what was saved survives."""
    sensor = device()
    sensor.receive(command(3, 50, 0), T0_MS)
    sensor.power_cycle(T0_MS)
    assert sensor.rate_hz == 10
    sensor.receive(command(3, 50, 0) + command(17), T0_MS)
    sensor.power_cycle(T0_MS)
    assert sensor.rate_hz == 50


def test_spoiled_command_is_slid_over() -> None:
    """A wrong checksum changes nothing, and the next command is heard."""
    sensor = device()
    spoiled = command(3, 50, 0)[:-1] + b"\x00"
    assert [command(3, 20, 0)] == [said for said, _ in sensor.receive(spoiled + command(3, 20, 0), T0_MS)]


def test_crossings_of_the_street_are_the_dips_on_the_wire() -> None:
    """An hour of an invented market street: as many dips as were drawn."""
    street = Street(3, "plaza")
    sensor = TfLuna(street)
    sensor.seek(T0_MS)
    said = b"".join(piece for piece, _ in sensor.advance(T0_MS + 3_600_000 - 1))
    drawn = sum(len(street.dip_slots(T0_MS // MINUTE_MS + m)) for m in range(60))
    assert drawn == len(dips(distances(said))) == sensor.crossings
    assert drawn > 10
