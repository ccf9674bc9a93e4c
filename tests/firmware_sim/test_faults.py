"""Every named fault does what its name says, and the same twice."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from murmure_firmware_sim.devices import DEVICES
from murmure_firmware_sim.devices.base import Piece
from murmure_firmware_sim.errors import SimError
from murmure_firmware_sim.faults import FAULTS, Fault, FaultyDevice, parse_fault
from murmure_firmware_sim.scenario import PortPlan, build_device
from murmure_firmware_sim.steady import Steady
from murmure_firmware_sim.street import Street

T0_MS = 1_794_600_000_000
MINUTES_10_MS = 600_000
REQUEST = bytes.fromhex("01 03 00 00 00 01 84 0a")
NSRT_LEVEL = bytes.fromhex("10 00 00 80 00 00 00 00 04 00 00 00")
SLEEP, WAKE = (bytes.fromhex(f"aa b4 06 01 0{on} {'00' * 10} ff ff 0{5 + on} ab") for on in (0, 1))
ANSWER = bytes.fromhex("01 03 02 02 18 b9 2e")


def device(name: str, *faults: str, seed: int = 1, street: bool = False) -> FaultyDevice:
    source = Street(seed, "plaza") if street else Steady((123, 261), 536, 30)
    plan = PortPlan("port", Path("unused"), name, {}, tuple(map(parse_fault, faults)), source, seed)
    made = build_device(plan, T0_MS)
    made.seek(T0_MS)
    return made


def said(pieces: Sequence[Piece]) -> bytes:
    return b"".join(data for data, _ in pieces)


def ten_minutes(name: str, *faults: str, seed: int = 1) -> list[Piece]:
    return device(name, *faults, seed=seed).advance(T0_MS + MINUTES_10_MS)


CLEAN = ten_minutes("sds011")
AT_START = {"unplug": "unplug:60/10", "unplug_renamed": "unplug_renamed:60/10", "disk_full": "disk_full:/mnt"}


def test_all_27_faults_have_a_name_and_stand_on_the_page() -> None:
    """Each number of the list has at least one; each name stands in the README, in the row of its number."""
    assert {kind.number for kind in FAULTS.values()} - {0} == set(range(1, 28))
    page = (Path(__file__).parents[2] / "firmware-sim" / "README.md").read_text()
    for name, kind in FAULTS.items():
        number = kind.number or "·"
        (row,) = [line for line in page.splitlines() if line.startswith("| ") and re.search(rf"`{name}[:`]", line)]
        assert row.startswith(f"| {number} |"), name


def test_every_fault_can_be_named_with_its_default() -> None:
    """What the README lists can be written without an argument, except what needs a time or a folder."""
    for name in FAULTS:
        assert parse_fault(AT_START.get(name, name)).name == name
        assert parse_fault(AT_START[name] if name == "disk_full" else name, at_once=True).from_s == 0


@pytest.mark.parametrize("fault", ["bit_flip:0.02", "drop:0.02", "insert:0.02", "duplicate:0.2", "burst:60"])
@pytest.mark.parametrize("name", ["sds011", "tfluna"])
def test_line_faults_are_drawn_from_the_seed(name: str, fault: str) -> None:
    """The same seed spoils the same bytes, however time is cut; another seed others."""
    once = ten_minutes(name, fault)
    cut = device(name, fault)
    pieces = [piece for step in range(1, 61) for piece in cut.advance(T0_MS + step * 10_000)]
    assert once == pieces
    assert said(once) != said(ten_minutes(name))
    assert said(once) != said(ten_minutes(name, fault, seed=2))


def test_bytes_are_flipped_dropped_and_inserted_at_the_rate_given() -> None:
    """Of 6,000 bytes about P in a hundred are hit (5 sigma)."""
    total = len(said(CLEAN))
    assert total == 6000
    flipped = sum(a != b for a, b in zip(said(CLEAN), said(ten_minutes("sds011", "bit_flip:0.05")), strict=True))
    dropped = total - len(said(ten_minutes("sds011", "drop:0.05")))
    inserted = len(said(ten_minutes("sds011", "insert:0.05"))) - total
    for count in (flipped, dropped, inserted):
        assert abs(count - 300) < 5 * 17


def test_silent_device_says_nothing_and_answers_nothing_but_time_goes_on() -> None:
    """Its seconds are there, empty."""
    assert {b""} == {data for data, _ in ten_minutes("sds011", "silent")}
    assert len(ten_minutes("sds011", "silent")) == 600
    assert device("modbus_noise", "silent").receive(REQUEST, T0_MS) == []


def test_scheduled_fault_begins_and_ends_on_its_second() -> None:
    """`silent@100-200` is 100 empty seconds among full ones."""
    pieces = ten_minutes("sds011", "silent@100-200")
    assert [s for s, (data, _) in enumerate(pieces) if not data] == list(range(100, 200))


def test_split_frame_comes_byte_by_byte_in_its_own_time() -> None:
    """Ten pieces of one byte, 50 ms apart, the last when the frame would have been whole."""
    pieces = device("sds011", "split").advance(T0_MS + 999)
    assert said(pieces) == CLEAN[0][0]
    assert [time_ms - T0_MS for _, time_ms in pieces] == list(range(50, 501, 50))


def test_stuck_device_repeats_its_first_value() -> None:
    """Hours of one value; a stuck beam shows nobody and counts nobody."""
    frames = {data for data, _ in device("sds011", "stuck", street=True).advance(T0_MS + MINUTES_10_MS)}
    assert len(frames) == 1
    beam = device("tfluna", "stuck")
    beam_bytes = said(beam.advance(T0_MS + MINUTES_10_MS))
    assert beam_bytes == beam_bytes[:9] * (len(beam_bytes) // 9)
    assert beam.crossings == 0


def test_warm_up_gives_zeros_and_then_values() -> None:
    """30 s of zero after power, with a right checksum."""
    frames = [data for data, _ in ten_minutes("sds011", "warmup_zeros:30")]
    assert frames[29] == bytes.fromhex("aa c0 00 00 00 00 a1 60 01 ab")
    assert frames[30:] == [data for data, _ in CLEAN[30:]]


def test_ffff_stands_where_a_value_should() -> None:
    """FFFF in the level, the particles, the distance."""
    answers = device("modbus_noise", "ffff").receive(REQUEST, T0_MS)
    assert said(answers)[:5] == bytes.fromhex("01 03 02 ff ff")
    assert ten_minutes("sds011", "ffff")[0][0][2:6] == b"\xff\xff\xff\xff"
    assert ten_minutes("tfluna", "ffff")[0][0][2:4] == b"\xff\xff"


def test_bus_faults_of_the_noise_transmitter() -> None:
    """Echo, another slave, an exception, a late answer: each as it looks on the bus."""
    assert said(device("modbus_noise").receive(REQUEST, T0_MS)) == ANSWER
    assert said(device("modbus_noise", "echo").receive(REQUEST, T0_MS)) == REQUEST + ANSWER
    assert said(device("modbus_noise", "other_slave").receive(REQUEST, T0_MS))[:3] == bytes.fromhex("02 03 02")
    assert said(device("modbus_noise", "exception:2").receive(REQUEST, T0_MS)).hex(" ") == "01 83 02 c0 f1"
    assert device("modbus_noise", "late:700").receive(REQUEST, T0_MS) == [(ANSWER, T0_MS + 720)]
    over = device("modbus_noise", "exception@0-10")
    assert said(over.receive(REQUEST, T0_MS + 11_000)) == ANSWER


def test_a_value_out_of_range_drifting_or_wrapped_is_well_formed() -> None:
    """500 dB; 53.6 dB two days later at a whole decibel a day; only its low byte."""
    levels = [
        int.from_bytes(said(device("modbus_noise", fault).receive(REQUEST, T0_MS + at_ms))[3:5])
        for fault, at_ms in (("out_of_range", 0), ("drift:1", 2 * 86_400_000), ("drift:-1", 86_400_000), ("wrap", 0))
    ]
    assert levels == [5000, 556, 526, 536 % 256]
    assert ten_minutes("tfluna", "out_of_range")[0][0][2:4] == (3000).to_bytes(2, "little")
    plantower = ten_minutes("pmsx003", "out_of_range")[0][0]
    assert int.from_bytes(plantower[12:14]) > 500


def test_floats_have_nan_where_others_have_ffff() -> None:
    """The SPS30 sends ten floats that are none, the NSRT a level that is none."""
    sps = device("sps30", "ffff")
    sps.receive(bytes.fromhex("7e 00 00 02 01 03 f9 7e"), T0_MS)
    data = said(sps.receive(bytes.fromhex("7e 00 03 00 fc 7e"), T0_MS + 2000))
    assert data[5:-2] == b"\xff" * 40
    level = said(device("nsrt_mk3", "ffff").receive(NSRT_LEVEL, T0_MS + 5000))
    assert math.isnan(struct.unpack("<f", level)[0])


def test_stuck_zero_and_absent_targets_of_a_radar() -> None:
    """Somebody who never moves; nobody; somebody far outside; and nobody is counted."""
    for fault, slot in (
        ("stuck", struct.pack("<4H", 0x8000, 0x8000 | 2500, 0x8000, 360)),
        ("warmup_zeros:900", bytes(8)),
        ("ffff", b"\xff" * 6 + struct.pack("<H", 360)),
        ("out_of_range", struct.pack("<4H", 0x8000, 0x8000 | 20_000, 0x8000, 360)),
    ):
        sensor = device("ld2450", fault)
        reports = said(sensor.advance(T0_MS + MINUTES_10_MS))
        assert reports == (b"\xaa\xff\x03\x00" + slot + bytes(16) + b"\x55\xcc") * (len(reports) // 30)
        assert sensor.crossings == 0


def test_zeros_come_again_after_power_and_after_waking() -> None:
    """Thirty seconds each time, from the power cycle and from the wake command."""
    sensor = device("sds011", "warmup_zeros:30")
    sensor.advance(T0_MS + 60_000)
    sensor.power_cycle(T0_MS + 60_000)
    frames = [data for data, _ in sensor.advance(T0_MS + 120_000)]
    assert [data[2:6] == bytes(4) for data in frames] == [True] * 30 + [False] * 30
    for command in (SLEEP, WAKE):
        sensor.receive(command, T0_MS + 120_000)
    frames = [data for data, _ in sensor.advance(T0_MS + 180_000)]
    assert [data[2:6] == bytes(4) for data in frames] == [True] * 30 + [False] * 30


def test_joined_frames_come_in_pairs() -> None:
    """One a second: those of two seconds together. Ten a second, alone on the wall clock: five pairs."""
    pieces = ten_minutes("sds011", "joined")
    assert {len(data) for data, _ in pieces} == {0, 20}
    assert said(pieces) == said(CLEAN)
    live = device("sds011", "joined")
    second = T0_MS // 1000
    assert [len(data) for s in range(4) for data, _ in live.frames_of(second + s)] == [20, 20]
    assert [len(data) for data, _ in device("tfluna", "joined").frames_of(second)] == [18] * 5


def test_trickle_is_a_tenth_of_the_frames_and_of_the_answers() -> None:
    """Of 6,000 frames and of 1,000 answers about 10 % (5 sigma), each whole."""
    frames = said(ten_minutes("tfluna", "trickle"))
    assert abs(len(frames) / 9 - 600) < 5 * 24
    assert all(frames[at : at + 2] == b"\x59\x59" for at in range(0, len(frames), 9))
    noise = device("modbus_noise", "trickle")
    answers = [said(noise.receive(REQUEST, T0_MS + 1000 * s)) for s in range(1000)]
    assert abs(len([answer for answer in answers if answer == ANSWER]) - 100) < 5 * 10
    assert set(answers) == {ANSWER, b""}


def test_second_half_of_an_answer_comes_late() -> None:
    """Two bytes now and two 1.5 s later: what follows is shifted where nothing frames it."""
    pieces = device("nsrt_mk3", "half:1").receive(NSRT_LEVEL, T0_MS + 5000)
    assert [(len(data), time_ms - T0_MS) for data, time_ms in pieces] == [(2, 5020), (2, 6520)]
    noise = device("modbus_noise", "half:0.5")
    whole = [noise.receive(REQUEST, T0_MS + 10_000 * s) for s in range(1, 200)]
    assert 60 < len([pieces for pieces in whole if len(pieces) == 2]) < 140


def test_second_reader_takes_whole_runs_of_bytes() -> None:
    """About half of what comes is gone, in runs; the rest is as it was sent."""
    left = said(ten_minutes("tfluna", "second_reader"))
    whole = len(said(ten_minutes("tfluna")))
    assert 0.4 * whole < len(left) < 0.6 * whole


def test_another_address_and_a_refusal_in_shdlc_and_on_a_radar() -> None:
    """SHDLC answers from address 1, or with state 67; the radar refuses with its status."""
    version = bytes.fromhex("7e 00 d1 00 2e 7e")
    assert said(device("sps30", "other_slave").receive(version, T0_MS))[1:3] == b"\x01\xd1"
    assert said(device("sps30", "exception:67").receive(version, T0_MS))[3] == 67
    enable = bytes.fromhex("fd fc fb fa 04 00 ff 00 01 00 04 03 02 01")
    assert said(device("ld2450", "exception:1").receive(enable, T0_MS)).hex(" ", 2)[15:24] == "ff01 0100"


def test_new_firmware_speaks_at_another_speed_until_it_is_told_otherwise() -> None:
    """From the instant on, after a power cycle too; the radar's own command sets it back."""
    sensor = device("ld2450", "new_baud@60-61")
    pieces = sensor.advance(T0_MS + 59_999)
    assert sensor.baud == 256000
    pieces = sensor.advance(T0_MS + 120_000)
    assert sensor.baud == 115200
    assert sensor.fault("new_baud", T0_MS + 60_000) is None
    sensor.power_cycle(T0_MS + 120_000)
    assert sensor.baud == 115200
    for command in ("ff 00 01 00", "a1 00 07 00", "a3 00"):
        body = bytes.fromhex(command)
        sensor.receive(b"\xfd\xfc\xfb\xfa" + len(body).to_bytes(2, "little") + body + b"\4\3\2\1", T0_MS + 121_000)
    sensor.advance(T0_MS + 130_000)
    assert sensor.baud == 256000
    assert len(pieces) == 60
    assert device("nsrt_mk3", "wrong_baud").baud == device("nsrt_mk3").baud


@pytest.mark.parametrize("name", sorted(DEVICES))
def test_fault_begins_and_ends_while_the_device_runs(name: str) -> None:
    """Two minutes as it should be, one silent, one as it should be: switched on and off where it has got to."""
    sensor, clean = device(name), device(name)
    frames, expected = [], []
    for minute, on in ((1, None), (2, True), (3, False), (4, None)):
        until_ms = T0_MS + minute * 60_000 - 1
        frames.append(said(sensor.advance(until_ms)))
        expected.append(said(clean.advance(until_ms)))
        if on is not None:
            assert sensor.switch(parse_fault("silent"), on) == until_ms
    assert frames == [*expected[:2], b"", expected[3]]
    assert sensor.polled_only or all(expected)


def test_switch_acts_inside_the_minute_that_is_already_drawn() -> None:
    """A value that is stuck, set, or zero from this second on."""
    sensor = device("modbus_noise")
    assert said(sensor.receive(REQUEST, T0_MS + 5_000)) == ANSWER
    sensor.switch(parse_fault("ffff"), True)
    assert said(sensor.receive(REQUEST, T0_MS + 6_000))[3:5] == b"\xff\xff"
    sensor.switch(parse_fault("ffff"), False)
    assert said(sensor.receive(REQUEST, T0_MS + 7_000)) == ANSWER
    sensor.switch(Fault("set", values=Steady((0, 0), 720, 0)), True)
    assert int.from_bytes(said(sensor.receive(REQUEST, T0_MS + 8_000))[3:5]) == 720
    sensor.switch(Fault("set"), False)
    assert said(sensor.receive(REQUEST, T0_MS + 9_000)) == ANSWER


def test_crossings_are_set_while_a_beam_runs() -> None:
    """Thirty a minute, then sixty for two minutes, then thirty again; the counter agrees."""
    beam = device("tfluna")
    beam.advance(T0_MS + 120_000 - 1)
    at_ms = beam.switch(Fault("set", values=Steady((0, 0), 0, 60), to_s=120), True)
    beam.advance(at_ms + 240_000)
    assert at_ms == T0_MS + 120_000 - 1
    assert beam.crossings == 2 * 30 + 2 * 60 + 2 * 30


def test_sleeping_sensor_is_woken_by_the_wake_command_only() -> None:
    """As the program before left it."""
    sensor = device("sds011", "sleeping")
    assert said(sensor.advance(T0_MS + 5000)) == b""
    wake = bytes.fromhex("aa b4 06 01 01 00 00 00 00 00 00 00 00 00 00 ff ff 06 ab")
    assert len(sensor.receive(wake, T0_MS + 5000)) == 1
    assert len(said(sensor.advance(T0_MS + 10_000))) == 50


def test_wrong_baud_is_half_the_speed_or_the_one_given() -> None:
    """The port does the rest."""
    assert device("sds011", "wrong_baud").baud == 4800
    assert device("tfluna", "wrong_baud:9600").baud == 9600
    assert device("sds011").baud == 9600


def test_brown_out_cuts_a_frame_and_loses_what_was_not_saved() -> None:
    """The frame at the reset is cut; a mode set by command and not saved is gone."""
    beam = device("tfluna", "reset:60")
    beam.receive(bytes.fromhex("5a 06 03 14 00 77"), T0_MS)
    pieces = beam.advance(T0_MS + 120_000)
    lengths = [len(data) for data, _ in pieces]
    assert lengths[0] == 180
    assert lengths[-1] == 90
    assert [length for length in lengths if length % 9]


def test_unplug_tells_when() -> None:
    """`unplug:60/10`: pulled after a minute, back ten seconds later."""
    assert device("sds011", "unplug:60/10").unplugged() == (T0_MS + 60_000, T0_MS + 70_000)
    assert device("sds011").unplugged() == ()


@pytest.mark.parametrize("name", sorted(DEVICES))
@pytest.mark.parametrize("fault", sorted({AT_START.get(name, name) for name in FAULTS}))
def test_any_fault_on_any_device_only_changes_bytes(name: str, fault: str) -> None:
    """No combination stops a device or moves its time backwards."""
    made = device(name, fault)
    pieces = made.advance(T0_MS + 120_000)
    made.receive(REQUEST, T0_MS + 120_000)
    times = [time_ms for _, time_ms in pieces]
    assert times == sorted(times)
    assert all(time_ms <= T0_MS + 120_000 for time_ms in times)


@pytest.mark.parametrize(
    "wrong",
    ["gremlin", "drop:2", "drop:x", "drop:-1", "silent:3", "unplug", "unplug:5", "unplug:0/1", "burst:0", "drop@9-3",
     "drop@x", "unplug:1/2/3", "reset:0", "unplug_renamed", "disk_full", "trickle:0", "wrap:0", "half:2", "drop:nan",
     "drift:nan", "late:-1"],
)  # fmt: skip
def test_wrong_fault_says_what_to_write(wrong: str) -> None:
    """One line with the mend."""
    with pytest.raises(SimError, match="write ") as caught:
        parse_fault(wrong)
    assert "\n" not in str(caught.value)
