"""One contract for all drivers, on the frames that vendors' documents print, and what is special to each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge.sensors import DRIVERS, NOT_YET, make_driver
from murmure_edge.sensors.base import Driver, PolledDriver, SettingError

NOW_MS = 1_700_000_000_500
CAPTURES = {path.stem: json.loads(path.read_text("utf-8")) for path in Path(__file__).parent.glob("captures/*.json")}
"""By device: a `frame` printed in its vendor's document, the `values` it must give (in the readings' units), the
shortest and longest `frame_bytes` it sends, and which byte to spoil so that it no longer holds (`check_byte`; a device
whose answers have no frame has none). `once_a_second`: it streams faster, and one frame a second brings a reading."""
EXAMPLES = {name: (bytes.fromhex(capture["frame"]), capture["values"]) for name, capture in CAPTURES.items()}
FRAMED = sorted(name for name, capture in CAPTURES.items() if "check_byte" in capture and name in DRIVERS)
QUIET_RUBBISH = bytes.fromhex("00ff1337fe00")  # no header of any of them


def _fed(driver: Driver, *pieces: bytes, now_ms: int = NOW_MS) -> list[tuple[str, int]]:
    """Feeds each piece, a polled driver's after a request of its own, and returns quantities and values."""
    found = []
    if isinstance(driver, PolledDriver):
        driver.request()
    for piece in pieces:
        found += [(quantity, reading.value) for quantity, reading in driver.feed(piece, now_ms)]
    return found


@pytest.fixture(params=sorted(DRIVERS))
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


framed = pytest.mark.parametrize("device", FRAMED, indirect=True)


@pytest.fixture
def driver(device: str) -> Driver:
    return make_driver(device, {})


@pytest.fixture
def frame(device: str) -> bytes:
    return EXAMPLES[device][0]


@pytest.fixture
def values(device: str) -> list[tuple[str, int]]:
    return list(EXAMPLES[device][1].items())


def test_a_good_frame_gives_its_values(driver: Driver, frame: bytes, values: list[tuple[str, int]]) -> None:
    """The documents' example frame gives the documents' values, in tenths, and counts as one frame."""
    assert _fed(driver, frame) == values
    assert (driver.counters.frames, driver.counters.rejected, driver.counters.discarded_bytes) == (1, 0, 0)


def test_every_driver_has_its_page_and_its_capture() -> None:
    """A sensor is one driver, one line, one page and one capture: none is missing, none is left over."""
    pages = Path(__file__).parents[2] / "docs" / "serial-protocols"
    assert {path.stem for path in pages.glob("*.md")} - {"README"} >= set(DRIVERS)
    assert set(CAPTURES) == set(DRIVERS)


def test_every_driver_states_its_side_of_the_contract(driver: Driver, device: str) -> None:
    """A driver tells its name, its memory for each quantity, a speed and a silence to live with."""
    assert device == driver.NAME
    assert set(driver.memory_readings) == set(driver.QUANTITIES)
    assert driver.baud >= 1200 and driver.silence_ms >= 1000
    assert NOW_MS - 2_000 <= driver.settled_ms(NOW_MS) <= NOW_MS


@framed
def test_rubbish_before_a_frame_is_discarded(driver: Driver, frame: bytes, values: list[tuple[str, int]]) -> None:
    """Bytes of no frame are counted and skipped, and the frame after them is found."""
    assert _fed(driver, QUIET_RUBBISH + frame) == values
    assert driver.counters.discarded_bytes == len(QUIET_RUBBISH)


@framed
def test_half_a_frame_waits_for_its_other_half(driver: Driver, frame: bytes, values: list[tuple[str, int]]) -> None:
    """A frame may come in two reads; nothing is given before its end."""
    assert _fed(driver, frame[:4]) == []
    assert [(quantity, reading.value) for quantity, reading in driver.feed(frame[4:], NOW_MS)] == values


@framed
def test_half_a_frame_is_forgotten_when_the_port_closes(
    driver: Driver, frame: bytes, values: list[tuple[str, int]]
) -> None:
    """After a reset the half is discarded and counted, and the next frame stands alone."""
    assert _fed(driver, frame[:4]) == []
    driver.reset()
    assert driver.counters.discarded_bytes == 4
    assert _fed(driver, frame) == values


@framed
def test_two_frames_at_once_are_two(driver: Driver, frame: bytes, values: list[tuple[str, int]]) -> None:
    """Two frames in one read are two frames; one request, though, has one answer."""
    found = _fed(driver, frame + frame)
    assert driver.counters.frames == 2
    # One request has one answer; a count tells once a second that it lives.
    once = isinstance(driver, PolledDriver) or "footfall" in driver.QUANTITIES
    once |= "once_a_second" in CAPTURES[driver.NAME]
    assert len(found) == len(values) * (1 if once else 2)


@framed
@pytest.mark.parametrize("warm", [False, True], ids=["first", "known"])
def test_a_wrong_checksum_drops_the_reading(driver: Driver, frame: bytes, warm: bool) -> None:
    """A frame with one bit wrong in its checksum gives nothing, and is counted, also beside a known good one."""
    if warm:
        _fed(driver, frame)
    spoiled = bytearray(frame)
    spoiled[CAPTURES[driver.NAME]["check_byte"]] ^= 1
    assert _fed(driver, bytes(spoiled)) == []
    assert driver.counters.rejected == 1
    assert driver.counters.frames == int(warm)


@framed
def test_a_good_frame_inside_a_spoiled_one_is_found(
    driver: Driver, frame: bytes, values: list[tuple[str, int]]
) -> None:
    """After a frame that was cut short the scanner slides by one byte, so the whole one behind it is not lost."""
    assert _fed(driver, frame[:5] + frame) == values
    assert driver.counters.discarded_bytes == 5


@framed
def test_byte_by_byte_is_the_same_as_all_at_once(device: str, frame: bytes) -> None:
    """How bytes are cut into reads changes no value and no counter."""
    stream = QUIET_RUBBISH + frame + frame[:3] + frame + QUIET_RUBBISH
    whole, dripped = make_driver(device, {}), make_driver(device, {})
    assert _fed(whole, stream) == _fed(dripped, *(stream[i : i + 1] for i in range(len(stream))))
    assert whole.counters == dripped.counters


def test_silence_gives_nothing(driver: Driver) -> None:
    """No bytes, no reading, nothing counted."""
    assert list(driver.feed(b"", NOW_MS)) == []
    assert driver.counters.frames == driver.counters.discarded_bytes == 0


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=5))
@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_every_byte_is_in_a_frame_or_discarded_or_waiting(name: str, data: bytes, cuts: list[int]) -> None:
    """Whatever comes, in whatever pieces: no error, and no byte is lost from the count."""
    driver = make_driver(name, {})
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    _fed(driver, *(data[a:b] for a, b in pairwise(edges)))
    driver.reset()
    counters = driver.counters
    shortest, longest = CAPTURES[name]["frame_bytes"]
    assert counters.frames * shortest <= len(data) - counters.discarded_bytes <= counters.frames * longest


@given(prefix=st.binary(max_size=40))
@pytest.mark.parametrize("name", FRAMED)
def test_after_any_rubbish_frames_are_found_again(name: str, prefix: bytes) -> None:
    """Whatever stood before: of three good frames in a row the last is always read."""
    frame, values = EXAMPLES[name]
    driver = make_driver(name, {})
    _fed(driver, prefix)
    before = driver.counters.frames
    for _ in range(3):
        _fed(driver, frame, now_ms=NOW_MS)
    assert driver.counters.frames > before
    assert values


def _commands(data: Iterable[bytes]) -> Iterator[str]:
    return (command.hex() for command in data)


def test_the_dust_sensor_is_woken_and_set_to_stream() -> None:
    """An SDS011 that another program left asleep and in query mode is put right at every open, and read back."""
    assert list(_commands(make_driver("sds011", {}).opening())) == [
        "aab406010100000000000000000000ffff06ab",
        "aab402010000000000000000000000ffff01ab",
        "aab408010000000000000000000000ffff07ab",
        "aab406000000000000000000000000ffff04ab",
        "aab402000000000000000000000000ffff00ab",
        "aab408000000000000000000000000ffff06ab",
        "aab407000000000000000000000000ffff05ab",
    ]


def test_a_dust_sensor_tells_who_it_is() -> None:
    """Its number and the day of its firmware, from the replies (the vendor's example: 15-7-10, A160)."""
    driver = make_driver("sds011", {})
    _fed(driver, bytes.fromhex("aac5070f070aa16028ab"))
    assert (driver.told.identity, driver.told.mismatch) == ({"device_id": "a160", "firmware": "2015-07-10"}, "")


@pytest.mark.parametrize("lost", [2, 6, 8, 7])
def test_a_dust_sensors_answer_that_was_spoiled_is_asked_for_again(lost: int) -> None:
    """Once, and only that one: the wire may have eaten the answer, and a setting that nobody has read back is not kept
    for sure."""
    replies = {6: "aac506000100a16008ab", 2: "aac502000000a16003ab", 8: "aac508000000a16009ab"}
    replies[7] = "aac5070f070aa16028ab"
    driver, asked = make_driver("sds011", {}), []
    for command in driver.opening():
        asked.append((command[2], command[3]))
        if not command[3] and (command[2] != lost or asked.count((lost, 0)) > 1):
            _fed(driver, bytes.fromhex(replies[command[2]]))
    assert asked == [(6, 1), (2, 1), (8, 1), (6, 0), (2, 0), (8, 0), (7, 0), (lost, 0)]
    assert driver.told.identity["firmware"] == "2015-07-10" and not driver.told.mismatch


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("aac502000100a16004ab", "it speaks only when asked"),
        ("aac506000000a16007ab", "it goes back to sleep"),
        ("aac508000500a1600eab", "it works with pauses"),
        ("aac502000000a16003ab", ""),
        ("aac502010100a16005ab", ""),  # the echo of a command is no read-back
    ],
)
def test_a_dust_sensor_that_reads_back_another_setting_is_not_taken(reply: str, said: str) -> None:
    """Mode, state and period are read back at every open: one that differs speaks against the sensor."""
    driver = make_driver("sds011", {})
    _fed(driver, bytes.fromhex(reply))
    assert (said in driver.told.mismatch) and bool(said) == bool(driver.told.mismatch)


def test_the_beam_is_given_its_rate_and_format() -> None:
    """A TF-Luna is asked who it is and told its rate, the 9-byte format, checksums and output at every open."""
    commands = list(_commands(make_driver("tfluna", {"rate_hz": 10}).opening()))
    assert commands == ["5a04015f", "5a06030a006d", "5a05050165", "5a05080168", "5a05070167"]


def test_a_beam_tells_who_it_is_and_what_it_keeps() -> None:
    """The version is its identity; a rate or a format other than what was set speaks against it."""
    for reply, firmware, said in (
        ("5a070102000367", "3.0.2", ""),
        ("5a06030a006d", None, ""),
        ("5a06036400c7", None, "it keeps a rate of 100 Hz: write rate_hz = 100"),
        ("5a05050165", None, ""),
        ("5a0505066a", None, "it does not take the 9-byte format in cm"),
    ):
        driver = make_driver("tfluna", {"rate_hz": 10})
        _fed(driver, bytes.fromhex(reply))
        assert driver.counters.frames == 1
        assert driver.told.identity.get("firmware") == firmware
        assert driver.told.mismatch.startswith(said) and bool(said) == bool(driver.told.mismatch)


def test_a_request_asks_for_one_register_of_one_slave() -> None:
    """The request is that of the vendor's page; slave and register are settings."""
    driver = make_driver("modbus_noise", {})
    assert isinstance(driver, PolledDriver)
    assert driver.request().hex() == "010300000001840a"
    other = make_driver("modbus_noise", {"slave": 80, "register": 52})
    assert isinstance(other, PolledDriver)
    assert other.request().hex() == "500300340001c845"


def test_a_slow_line_is_given_more_time_to_answer() -> None:
    """The time-out counts the bytes of request and answer at the line's speed."""
    fast, slow = make_driver("modbus_noise", {}), make_driver("modbus_noise", {"baud": 2400})
    assert isinstance(fast, PolledDriver) and isinstance(slow, PolledDriver)
    assert fast.timeout_ms < slow.timeout_ms < slow.period_ms


@pytest.mark.parametrize(
    ("answer", "frames"),
    [
        ("010302ffffb9f4", 1),  # the transmitter's "no value"
        ("018302c0f1", 1),  # refused: no such register
    ],
)
def test_a_refusal_answers_and_brings_no_reading(answer: str, frames: int) -> None:
    """An exception and FFFF end the wait, prove the sensor alive and give no reading."""
    driver = make_driver("modbus_noise", {})
    assert _fed(driver, bytes.fromhex(answer)) == []
    assert isinstance(driver, PolledDriver) and not driver.awaiting
    assert driver.counters.frames == frames


def test_an_echo_and_another_slave_are_not_the_answer() -> None:
    """The adapter's echo of the request and another slave's answer are skipped; the answer behind them counts."""
    driver = make_driver("modbus_noise", {})
    assert isinstance(driver, PolledDriver)
    echo, other = driver.request(), bytes.fromhex("020302021800fd")
    assert _fed(driver, echo + other) == []
    assert driver.awaiting
    assert [r.value for _, r in driver.feed(bytes.fromhex("0103020218b92e"), NOW_MS)] == [536]
    assert driver.counters.discarded_bytes == len(echo) + len(other)


def test_a_second_answer_to_one_request_is_no_second_reading() -> None:
    """A duplicate, or an answer that nobody waited for, is counted as a frame and gives nothing."""
    frame, values = EXAMPLES["modbus_noise"]
    driver = make_driver("modbus_noise", {})
    assert _fed(driver, frame, frame) == list(values.items())
    assert list(driver.feed(frame, NOW_MS)) == []


def test_no_value_is_too_odd_for_a_reading() -> None:
    """Values outside every datasheet are readings all the same: only protocol and silence may drop one."""
    dust = make_driver("sds011", {})
    assert _fed(dust, bytes.fromhex("aac0ffff00000000feab")) == [("pm2_5", 65535), ("pm10", 0)]
    noise = make_driver("modbus_noise", {})
    assert _fed(noise, bytes.fromhex("0103020000b844")) == [("noise", 0)]


def test_a_dust_frame_without_its_tail_is_none() -> None:
    """A right sum is not enough: the last byte must be the tail."""
    driver = make_driver("sds011", {})
    assert _fed(driver, EXAMPLES["sds011"][0][:-1] + b"\xac") == []
    assert driver.counters.rejected == 1


def test_a_known_frame_behind_a_spare_byte_is_no_short_cut() -> None:
    """The fast path for known frames is taken only where nothing waits before them."""
    frame, _ = EXAMPLES["tfluna"]
    driver = make_driver("tfluna", {})
    _fed(driver, frame, b"Y", frame)
    assert (driver.counters.frames, driver.counters.discarded_bytes) == (2, 1)


def test_an_unusable_distance_still_proves_the_beam_alive(luna_frame: Callable[..., bytes]) -> None:
    """Too weak, too strong or FFFF: the distance is not used (nobody is counted), and the second counts as covered."""
    driver = make_driver("tfluna", {})
    found = _fed(driver, luna_frame(180) * 10, now_ms=1_000)
    found += _fed(driver, (luna_frame(60, 99) + luna_frame(60, 65535)) * 3, now_ms=2_000)
    found += _fed(driver, luna_frame(65535) * 10, now_ms=2_500)
    found += _fed(driver, luna_frame(180) * 10, now_ms=3_000)
    assert found == [("footfall", 0)] * 3


def test_a_second_brings_one_sign_of_life() -> None:
    """However many frames a second has, it brings one reading of 0."""
    frame, _ = EXAMPLES["tfluna"]
    driver = make_driver("tfluna", {"rate_hz": 100})
    found = [_fed(driver, frame * 10, now_ms=1_000 + 100 * i) for i in range(20)]
    assert sum(len(each) for each in found) == 2


def test_a_pass_brings_no_second_that_would_be_empty_without_it(luna_frame: Callable[..., bytes]) -> None:
    """After a stall one piece may hold several seconds: which of them had a frame is the same, whoever passed."""
    seconds = []
    for distances_cm in ([180] * 30, [180] * 7 + [60] * 4 + [180] * 19):
        driver = make_driver("tfluna", {})
        _fed(driver, luna_frame(180) * 10, now_ms=10_950)
        found = driver.feed(b"".join(luna_frame(distance_cm) for distance_cm in distances_cm), 13_950)
        assert sum(reading.value for _, reading in found) == (60 in distances_cm)
        assert [reading.time_ms for _, reading in found] == sorted(reading.time_ms for _, reading in found)
        seconds.append({reading.time_ms // 1000 for _, reading in found})
    assert seconds[0] == seconds[1] == {11, 12, 13}


def test_a_closed_port_ends_a_pass_half_seen(luna_frame: Callable[..., bytes]) -> None:
    """At 100 Hz seven short frames before the plug was pulled and seven after it are no pass."""
    driver = make_driver("tfluna", {"rate_hz": 100})
    _fed(driver, luna_frame(180) * 100)
    found = _fed(driver, luna_frame(60) * 7, now_ms=NOW_MS + 70)
    driver.reset()
    found += _fed(driver, luna_frame(60) * 7, now_ms=NOW_MS + 140)
    assert found == []
    assert _fed(driver, luna_frame(60), now_ms=NOW_MS + 150) == [("footfall", 1)]


@given(
    street=st.lists(st.sampled_from([180, 180, 60, 65535]), min_size=200, max_size=200),
    cuts=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 4_000)), max_size=12),
)
def test_signs_of_life_are_the_same_whoever_passes(
    luna_frame: Callable[..., bytes], street: list[int], cuts: list[tuple[int, int]]
) -> None:
    """In whatever pieces, after whatever stalls: the beam's readings of 0 have the times of an empty street's, and
    nothing comes before what the driver said is settled."""
    alive = []
    for distances_cm in (street, [180] * len(street)):
        driver = make_driver("tfluna", {"rate_hz": 20})
        now_ms, at, zeros, told_ms = NOW_MS, 0, [], 0
        for frames, stall_ms in cuts:
            now_ms += 50 * frames + stall_ms
            piece = b"".join(map(luna_frame, distances_cm[at : at + frames]))
            at += frames
            readings = [reading for _, reading in driver.feed(piece, now_ms)]
            assert all(told_ms <= reading.time_ms <= now_ms for reading in readings)
            zeros += [reading.time_ms for reading in readings if reading.value == 0]
            told_ms = driver.settled_ms(now_ms)
        alive.append(zeros)
    assert alive[0] == alive[1]


@pytest.mark.parametrize("name", sorted(NOT_YET))
def test_devices_of_later_versions_are_refused_with_the_names_there_are(name: str) -> None:
    """A device without a driver is refused in words that name the ones there are."""
    with pytest.raises(SettingError, match="this version has no driver for it; write one of sds011"):
        make_driver(name, {})


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("nonsense", {}, "no such device"),
        ("tfluna", {"rate_hz": 7}, "divisor of 500"),
        ("tfluna", {"rate_hz": "10"}, "from 1 to 250"),
        ("tfluna", {"slave": 1}, "tfluna knows rate_hz, baud"),
        ("modbus_noise", {"slave": 0}, "from 1 to 247"),
        ("modbus_noise", {"slave": True}, "from 1 to 247"),
        ("modbus_noise", {"register": 65536}, "from 0 to 65535"),
        ("sds011", {"baud": 300}, "from 1200"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_mend(name: str, settings: dict[str, object], says: str) -> None:
    """What a driver cannot do is said before a port is opened, with what to write instead."""
    with pytest.raises(SettingError, match=says):
        make_driver(name, settings)
