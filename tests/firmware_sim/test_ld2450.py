"""The LD2450 speaks as its protocol page says, and shows each walker crossing the line."""

from __future__ import annotations

import itertools
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from murmure_firmware_sim.devices.base import Source
from murmure_firmware_sim.devices.ld2450 import Ld2450, Target, report
from murmure_firmware_sim.devices.walkers import LINE_MM
from murmure_firmware_sim.replay import Replay, Series
from murmure_firmware_sim.steady import Steady
from murmure_firmware_sim.street import Street

T0_MS = 1_794_600_000_000
MINUTE_MS = 60_000
ENABLE, END = bytes.fromhex("fdfcfbfa0400ff00010004030201"), bytes.fromhex("fdfcfbfa0200fe0004030201")
Seen = tuple[int, int, int]


def device(crossings_per_min: int = 0, source: Source | None = None, **options: int) -> Ld2450:
    made = Ld2450(source or Steady((0, 0), 0, crossings_per_min), 1, **options)
    made.seek(T0_MS)
    return made


def command(what: int, data: bytes = b"") -> bytes:
    return b"\xfd\xfc\xfb\xfa" + struct.pack("<HH", 2 + len(data), what) + data + b"\x04\x03\x02\x01"


def ask(sensor: Ld2450, what: int, data: bytes = b"", at_ms: int = T0_MS) -> bytes:
    """Sends one command and returns the one reply's data, its command checked."""
    (reply,) = sensor.answer(command(what, data), at_ms)
    assert reply[:4] == b"\xfd\xfc\xfb\xfa"
    length, echoed = struct.unpack("<HH", reply[4:8])
    assert (length, echoed) == (len(reply) - 10, what | 0x100)
    assert reply[-4:] == b"\x04\x03\x02\x01"
    return reply[8:-4]


def targets(said: bytes) -> list[list[Seen]]:
    """The targets of whole reports, by this test's own reading of sign and magnitude."""
    reports = []
    for at in range(0, len(said), 30):
        one = said[at : at + 30]
        assert one[:4] == b"\xaa\xff\x03\x00"
        assert one[28:] == b"\x55\xcc"
        seen = []
        for slot in range(4, 28, 8):
            if any(one[slot : slot + 8]):
                words = struct.unpack("<3H", one[slot : slot + 6])
                x, y, speed = (word & 0x7FFF if word & 0x8000 else -word for word in words)
                seen.append((x, y, speed))
        reports.append(seen)
    return reports


def passages(reports: list[list[Seen]]) -> tuple[int, int]:
    """How many come in and go out, by the simplest tracker: who is within 400 mm of where somebody was."""
    tracks: list[list[Seen]] = []
    done = [0, 0]
    for seen in [*reports, []]:
        left = list(seen)
        going_on = []
        for track in tracks:
            near = [each for each in left if abs(each[0] - track[-1][0]) + abs(each[1] - track[-1][1]) < 400]
            if near:
                left.remove(near[0])
                going_on.append([*track, near[0]])
            elif len(track) >= 5 and (track[0][1] - LINE_MM) * (track[-1][1] - LINE_MM) < 0:
                done[track[-1][1] > LINE_MM] += 1
        tracks = going_on + [[each] for each in left]
    return done[0], done[1]


def said(sensor: Ld2450, until_ms: int) -> bytes:
    return b"".join(piece for piece, _ in sensor.advance(until_ms))


def documented() -> Iterator[dict[str, str]]:
    shared = Path(os.environ.get("MURMURE_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    file = shared / "frames" / "ld2450.json"
    if not file.is_file():
        if os.environ.get("MURMURE_SHARED_REQUIRED") == "1":
            raise FileNotFoundError(file)
        pytest.skip(f"{file} is not here")
    frames = json.loads(file.read_text())
    yield from (each for each in frames if each["direction"] == "host_to_device" and each["well_formed"])


def test_reports_are_the_documented_ones() -> None:
    """The vendor's two worked examples, but for the resolution of the first."""
    first = report([Target(-782, 1713, -16)])
    assert first[:10].hex(" ") == "aa ff 03 00 0e 03 b1 86 10 00"
    second = report([Target(2750, 3655, -17)])
    assert second.hex(" ") == "aa ff 03 00 be 8a 47 8e 11 00 68 01" + 16 * " 00" + " 55 cc"
    assert report([]) == b"\xaa\xff\x03\x00" + bytes(24) + b"\x55\xcc"


def test_ten_reports_a_second_each_in_its_time() -> None:
    """One piece a second, stamped with its last report; each report alone has its tenth of a second."""
    pieces = device(30).advance(T0_MS + 10_000 - 1)
    assert [len(piece) for piece, _ in pieces] == [300] * 10
    assert [T0_MS + 1000 * s + 900 for s in range(10)] == [time_ms for _, time_ms in pieces]
    frames = device(30).frames_of(T0_MS // 1000)
    assert [time_ms - T0_MS for _, time_ms in frames] == list(range(0, 1000, 100))


def test_crossings_of_a_street_are_the_walkers_on_the_wire() -> None:
    """Three hours of a market square: a tracker of four lines finds exactly those the device has counted, and with
    those that three slots could not show exactly those that the street has."""
    street = Street(3, "plaza")
    sensor = device(source=street)
    found = passages(targets(said(sensor, T0_MS + 3 * 3_600_000 - 1)))
    drawn = sum(len(street.dip_slots(T0_MS // MINUTE_MS + minute)) for minute in range(180))
    assert sum(found) == sensor.crossings
    assert sensor.crossings + sensor.over_capacity == drawn
    assert sensor.over_capacity < drawn / 10
    assert min(found) > drawn / 4


def test_no_crossing_is_near_a_minutes_edge() -> None:
    """Each is wholly inside its minute, so no window can take another's."""
    sensor = device(60)
    for reports in (targets(said(sensor, T0_MS + minute * MINUTE_MS - 1)) for minute in range(1, 6)):
        assert passages(reports) != (0, 0)
        assert sum(passages(reports)) == 60
        assert reports[:4] == reports[-4:] == [[]] * 4


def test_a_fourth_walker_is_not_seen() -> None:
    """At 150 a minute, and with one slot in single mode, the rest is over capacity."""
    sensor = device(150)
    reports = targets(said(sensor, T0_MS + MINUTE_MS - 1))
    assert max(map(len, reports)) == 3
    assert sum(passages(reports)) == sensor.crossings < 150
    assert sensor.crossings + sensor.over_capacity == 150
    single = device(60)
    assert ask(single, 0xFF, b"\x01\x00") == bytes.fromhex("00 00 01 00 40 00")
    ask(single, 0x80)
    ask(single, 0xFE)
    reports = targets(said(single, T0_MS + MINUTE_MS - 1))
    assert max(map(len, reports)) == 1
    assert sum(passages(reports)) == single.crossings < 60


def test_speed_is_negative_when_somebody_comes_nearer() -> None:
    """Sign and size agree with how the distance changes."""
    reports = targets(said(device(10), T0_MS + 5 * MINUTE_MS))
    nearing = [
        (b[0][1] - a[0][1]) * a[0][2]
        for a, b in itertools.pairwise(reports)
        if len(a) == len(b) == 1 and abs(b[0][1] - a[0][1]) > 60
    ]
    assert len(nearing) > 200
    assert min(nearing) > 0


def test_commands_are_answered_as_documented() -> None:
    """Each command of the collection that has a reply there gets it; enable and firmware are the vendor's bytes."""
    for each in documented():
        sensor = device()
        if each["hex"] != ENABLE.hex(" "):
            assert sensor.answer(ENABLE, T0_MS)
        answers = sensor.answer(bytes.fromhex(each["hex"]), T0_MS)
        assert len(answers) == 1
        if each["reply"]:
            assert answers[0].hex(" ") == each["reply"]


def test_vendors_printed_replies() -> None:
    """Firmware and address, byte for byte."""
    sensor = device()
    sensor.answer(ENABLE, T0_MS)
    assert ask(sensor, 0xA0).hex(" ") == "00 00 00 00 02 01 16 24 06 22"
    assert ask(sensor, 0xA5, b"\x01\x00").hex(" ") == "00 00 8f 27 2e b8 0f 65"


def test_nothing_but_enable_is_heard_outside_configuration() -> None:
    """And the stream pauses from its reply to that of the end."""
    sensor = device(30)
    assert sensor.answer(command(0xA0), T0_MS) == []
    assert sensor.answer(END, T0_MS) == []
    sensor.receive(ENABLE, T0_MS)
    assert said(sensor, T0_MS + 5000) == b""
    sensor.receive(END, T0_MS + 5000)
    assert len(said(sensor, T0_MS + 10_000)) == 300 * 5


def test_bluetooth_is_off_after_the_restart_and_stays_off() -> None:
    """A4 holds from the restart, survives a power cut, and shows in the address."""
    sensor = device()
    sensor.answer(ENABLE, T0_MS)
    assert ask(sensor, 0xA4, b"\x00\x00") == b"\0\0"
    assert ask(sensor, 0xA5, b"\x01\x00")[2:].hex() == "8f272eb80f65"
    assert ask(sensor, 0xA3) == b"\0\0"
    assert sensor.answer(ENABLE, T0_MS + 500) == []
    for at_ms in (T0_MS + 1000, T0_MS + 9000):
        sensor.answer(ENABLE, at_ms)
        assert ask(sensor, 0xA5, b"\x01\x00", at_ms)[2:].hex() == "080504030201"
        sensor.power_cycle(at_ms)
    assert device(bluetooth=0).settings.bluetooth is False


def test_speed_changes_with_the_restart_and_not_before() -> None:
    """The replies still come at the old speed; factory settings bring 256000 back, after another restart."""
    sensor = device(30)
    sensor.receive(ENABLE, T0_MS)
    assert ask(sensor, 0xA1, b"\x05\x00") == b"\0\0"
    ask(sensor, 0xA3, at_ms=T0_MS + 1500)
    sensor.advance(T0_MS + 1900)
    assert sensor.baud == 256000
    assert len(said(sensor, T0_MS + 4000)) == 300 * 2
    assert sensor.baud == 115200
    sensor.answer(ENABLE, T0_MS + 4000)
    ask(sensor, 0xA2, at_ms=T0_MS + 4000)
    assert sensor.baud == 115200
    ask(sensor, 0xA3, at_ms=T0_MS + 4000)
    assert len(sensor.frames_of(T0_MS // 1000 + 5)) == 10
    assert sensor.baud == 256000


def test_zones_hide_what_is_outside_or_inside() -> None:
    """Mode 1 keeps the near half of the view, mode 2 the far one; either hides every crossing, and C1 tells."""
    near = struct.pack("<12h", -3000, 0, 3000, LINE_MM, *bytes(8))
    for mode, kept in ((1, lambda y: y <= LINE_MM), (2, lambda y: y > LINE_MM)):
        sensor = device(20)
        sensor.receive(ENABLE, T0_MS)
        assert ask(sensor, 0xC2, struct.pack("<H", mode) + near) == b"\0\0"
        assert ask(sensor, 0xC1)[2:] == struct.pack("<H", mode) + near
        sensor.receive(END, T0_MS)
        seen = [y for each in targets(said(sensor, T0_MS + 2 * MINUTE_MS)) for _, y, _ in each]
        assert len(seen) > 100
        assert all(map(kept, seen))
        assert sensor.crossings == 0


@pytest.mark.parametrize(
    ("what", "data"),
    [(0xA1, b"\x09\x00"), (0xA1, b"\x01"), (0xA4, b"\x02\x00"), (0xC2, b"\x03" + bytes(25)), (0x55, b"")],
)
def test_what_it_cannot_do_is_refused(what: int, data: bytes) -> None:
    """Status 1, and nothing changes."""
    sensor = device()
    sensor.answer(ENABLE, T0_MS)
    before = sensor.saved
    assert ask(sensor, what, data) == b"\1\0"
    assert sensor.saved == before


def test_command_is_found_in_rubbish_and_in_pieces() -> None:
    """A false beginning, a wrong tail, a length beyond the buffer, one byte at a time: the true one is answered."""
    sensor = device()
    rubbish = b"\xfd\xfc\xfd\xfc\xfb\xfa\xff\xff" + ENABLE[:-1] + b"\x00" + b"\xfd"
    answers = [answer for byte in rubbish + ENABLE for answer in sensor.answer(bytes((byte,)), T0_MS)]
    assert answers == [bytes.fromhex("fdfcfbfa0800ff0100000100400004030201")]


def test_recording_is_shown_as_far_as_three_slots_allow(tmp_path: Path) -> None:
    """Ten people in one quarter-hour, 600 in the next: what is not shown is over capacity, none is squeezed in."""
    file = tmp_path / "r.csv"
    rows = [f"2026-11-13T20:{minute:02}:00Z,here,{metric},{count},n" for minute, count in ((0, 5), (15, 300))
            for metric in ("in", "out")]  # fmt: skip
    file.write_text("\n".join(["timestamp_utc,site,metric,value,unit", *rows, ""]))
    recording = Replay(Series(file, "here", ("in", "out")))
    sensor = Ld2450(recording)
    sensor.seek(recording.start_ms)
    sensor.advance(recording.start_ms + 15 * MINUTE_MS - 1)
    assert (sensor.crossings, sensor.over_capacity) == (10, 0)
    sensor.advance(recording.start_ms + 30 * MINUTE_MS - 1)
    assert sensor.crossings + sensor.over_capacity == 610
    assert 10 < sensor.over_capacity < 120


def test_bench_plays_and_counts_it(start_bench: Callable[..., Any], scenario: Callable[..., dict[str, Any]]) -> None:
    """An hour of a plaza in simulated time: the same bytes, and counters that add up to the street's crossings."""
    bench = start_bench(scenario("beam", port={"device": "ld2450", "set": {"baud": 115200}}))
    edge = bench.edge(client_baud=115200)
    edge.run(bench.config["end_ms"])
    street = Street(0, "plaza")
    alone = Ld2450(street, 0)
    alone.seek(T0_MS)
    assert b"".join(piece for piece, _ in edge.pieces("beam")) == said(alone, bench.config["end_ms"])
    counters = bench.await_event("end")["ports"]["gw-0/beam"]
    drawn = sum(len(street.dip_slots(T0_MS // MINUTE_MS + minute)) for minute in range(60))
    assert counters["crossings"] + counters["over_capacity"] == drawn
    assert counters["frames"] == 36_000
    edge.close()


def test_installer_turns_bluetooth_off_and_the_speed_down(sim_device: Callable[..., Path]) -> None:
    """Over a real pseudo-terminal, at 256000 baud and then at 115200, as an installer's program would."""
    link = sim_device("ld2450", "--set", "crossings_per_min=60")

    def ask(port: serial.Serial, what: int, data: bytes = b"") -> bytes:
        port.write(command(what, data))
        return port.read_until(b"\x04\x03\x02\x01")

    with serial.Serial(str(link), 256000, timeout=3) as port:
        _, _, rest = port.read(400).partition(b"\xaa\xff\x03\x00")  # it may be opened in the middle of a report
        assert len(targets(rest[26:][:300])) == 10
        ask(port, 0xFF, b"\x01\x00")
        for what, data in ((0xA4, b"\x00\x00"), (0xA1, b"\x05\x00"), (0xA3, b"")):
            assert ask(port, what, data)[7:10] == b"\x01\x00\x00"
    with serial.Serial(str(link), 115200, timeout=3) as port:
        assert b"\xaa\xff\x03\x00" in port.read(60)
        ask(port, 0xFF, b"\x01\x00")
        assert ask(port, 0xA5, b"\x01\x00")[10:16].hex() == "080504030201"


def test_any_minute_has_one_answer() -> None:
    """Asked late, early, twice, cut small: the same bytes."""
    street = Street(3, "plaza")
    whole = said(device(source=street), T0_MS + 5 * MINUTE_MS)
    cut = device(source=street)
    assert b"".join(said(cut, T0_MS + step * 7000) for step in range(1, 43)) + said(cut, T0_MS + 5 * MINUTE_MS) == whole
    late = device(source=street)
    late.seek(T0_MS + 4 * MINUTE_MS)
    assert whole.endswith(said(late, T0_MS + 5 * MINUTE_MS))
