"""The supervisor of one port: it never dies, never holds a window up, and says what is the matter."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_edge.link import BenchGone, LinkDenied, LinkError, LinkLost
from murmure_edge.port import COMMAND_GAP_MS, Port
from murmure_edge.reading import PortBatch, PortState
from murmure_edge.sensors import make_driver
from murmure_edge.sensors.footfall import SETTLE_MS
from murmure_edge.sensors.modbus_noise import ModbusNoise
from murmure_edge.sensors.sds011 import Sds011
from murmure_edge.sensors.tfluna import TfLuna
from murmure_edge.serial_link import SerialLink

START_MS = 1_700_000_000_000
DUST = bytes.fromhex("aac0d4043a0aa1601dab")
NOISE = bytes.fromhex("0103020218b92e")


def _dust(tenths: int) -> bytes:
    data = 2 * tenths.to_bytes(2, "little") + b"\xa1\x60"
    return b"\xaa\xc0" + data + bytes((sum(data) & 0xFF, 0xAB))


class ScriptedLink:
    """A link in memory: bytes at instants, plug pulled and put back at instants, answers from a function."""

    def __init__(self, end_ms: int, answer: Callable[[int, bytes], list[tuple[int, bytes]]] | None = None) -> None:
        self.stop = threading.Event()
        self.end_ms = START_MS + end_ms
        self.now = START_MS
        self.coming: list[tuple[int, int, bytes]] = []
        self.away: list[tuple[int, int, LinkError]] = []
        self.answer = answer
        self.opened_at: list[int] = []
        self.written: list[tuple[int, bytes]] = []
        self.is_open = False

    def says(self, at_ms: int, data: bytes) -> None:
        heapq.heappush(self.coming, (START_MS + at_ms, len(self.coming), data))

    def goes(self, from_ms: int, to_ms: int, how: LinkError | None = None) -> None:
        self.away.append((START_MS + from_ms, START_MS + to_ms, how or LinkLost("beam: pulled out")))

    def _look(self) -> None:
        for from_ms, to_ms, how in self.away:
            if from_ms <= self.now < to_ms:
                raise how

    def _pass(self, until_ms: int) -> None:
        self.now = max(self.now, min(until_ms, self.end_ms))
        if self.now >= self.end_ms:
            self.stop.set()

    def open(self) -> None:
        self.opened_at.append(self.now - START_MS)
        self._look()
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def now_ms(self) -> int:
        return self.now

    def read(self, deadline_ms: int) -> tuple[bytes, int]:
        assert self.is_open
        self._look()
        until_ms = min([deadline_ms, *(f for f, _, _ in self.away if f > self.now)])
        if self.coming and self.coming[0][0] <= until_ms:
            at_ms, _, data = heapq.heappop(self.coming)
            self._pass(at_ms)
            return data, self.now
        self._pass(until_ms)
        self._look()
        return b"", self.now

    def write(self, data: bytes, answer_by_ms: int) -> None:
        self._look()
        assert answer_by_ms > self.now
        self.written.append((self.now - START_MS, data))
        for delay_ms, answer in self.answer(self.now - START_MS, data) if self.answer else []:
            self.says(self.now - START_MS + delay_ms, answer)

    def expect(self, until_ms: int) -> None:
        assert until_ms >= self.now

    def discard_input(self) -> int:
        dropped = 0
        while self.coming and self.coming[0][0] <= self.now:
            dropped += len(heapq.heappop(self.coming)[2])
        return dropped

    def wait(self, until_ms: int) -> None:
        self._pass(until_ms)


def _run(link: ScriptedLink, device: str, batch_ms: int = 60_000, **settings: object) -> list[PortBatch]:
    batches: list[PortBatch] = []
    if device == "modbus_noise":
        settings = {"profile": "renke", "baud": 9600}  # asks for no model: from the first second on it is polled
    port = Port("beam", link, make_driver(device, settings), batches.append, batch_ms=batch_ms, stop=link.stop)
    port.run()
    return batches


def _values(batches: list[PortBatch], quantity: str) -> list[tuple[int, int]]:
    return [(r.time_ms - START_MS, r.value) for b in batches for r in b.readings.get(quantity, [])]


def _answering(latency_ms: int = 20) -> Callable[[int, bytes], list[tuple[int, bytes]]]:
    return lambda now, data: [(latency_ms, NOISE)]


def test_readings_and_horizon_are_complete_at_every_batch() -> None:
    """Batches come at whole multiples of their length; no reading is ever before a horizon handed on earlier, and all
    are there from the end of the warm-up on."""
    link = ScriptedLink(600_000)
    for second in range(600):
        link.says(second * 1000 + 500, DUST)
    batches = _run(link, "sds011")
    assert batches[0].horizon_ms == START_MS and not batches[0].readings
    assert [at for at, _ in _values(batches, "pm2_5")] == [second * 1000 + 500 for second in range(30, 600)]
    assert len(_values(batches, "pm10")) == 570
    for before, after in pairwise(batches):
        assert before.horizon_ms <= after.horizon_ms
        assert all(r.time_ms >= before.horizon_ms for r in after.readings.get("pm2_5", []))
    assert {b.horizon_ms for b in batches} >= {START_MS + 60_000 * k - START_MS % 60_000 for k in range(1, 10)}
    assert batches[-1].health.state is PortState.OK and batches[-1].health.frames == 600


def test_an_absent_port_goes_on_telling_its_horizon_and_tries_ever_more_rarely() -> None:
    """No device: batches without readings up to the end, tries after 0.5, 1, 2, 4, 8, 16, 30, 30 ... seconds."""
    link = ScriptedLink(300_000)
    link.goes(0, 10**9)
    batches = _run(link, "tfluna")
    gaps = [b - a for a, b in pairwise(link.opened_at)]
    assert gaps[:8] == [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
    assert batches[-1].horizon_ms == START_MS + 300_000 - SETTLE_MS
    assert all(after.horizon_ms - before.horizon_ms <= 60_000 for before, after in pairwise(batches))
    assert {b.health.state for b in batches} == {PortState.ABSENT}
    assert batches[-1].health.lost_links == 0 and batches[-1].health.advice == "beam: pulled out"


@pytest.mark.parametrize("how", [LinkLost("dust: no such device"), LinkDenied("dust: another program holds it")])
def test_a_port_is_tried_for_ever_and_never_more_rarely_than_every_half_minute(how: LinkError) -> None:
    """Away for thirty days: it is opened within half a minute of being back, and read when it is warm."""
    month_ms = 30 * 86_400_000
    link = ScriptedLink(month_ms + 120_000)
    link.goes(0, month_ms, how)
    for second in range(120):
        link.says(month_ms + second * 1000 + 500, DUST)
    batches = _run(link, "sds011", batch_ms=3_600_000)
    gaps = [b - a for a, b in pairwise(link.opened_at)]
    assert max(gaps) == 30_000 and gaps == sorted(gaps)
    assert month_ms <= link.opened_at[-1] <= month_ms + 30_000
    assert len(_values(batches, "pm10")) >= 58 and batches[-1].health.lost_links == 0


def test_a_denied_port_says_so() -> None:
    """Without rights the state is denied, with the advice of the link."""
    link = ScriptedLink(10_000)
    link.goes(0, 10**9, LinkDenied("beam: not allowed; the device belongs to group plugdev"))
    batches = _run(link, "tfluna")
    assert {b.health.state for b in batches} == {PortState.DENIED}
    assert "plugdev" in batches[-1].health.advice


def test_after_a_replug_the_sensor_is_set_up_again_and_read_on() -> None:
    """Pulled out for ten minutes: the mode is set anew, what it says after its warm-up is there before and after, one
    loss counted."""
    link = ScriptedLink(1_200_000)
    link.goes(60_000, 660_000)
    for second in [*range(60), *range(700, 1200)]:
        link.says(second * 1000 + 500, DUST)
    batches = _run(link, "sds011")
    wakes = [at for at, data in link.written if data == next(iter(make_driver("sds011", {}).opening()))]
    assert wakes[0] == 0 and 660_000 <= min(at for at in wakes if at > 60_000) <= 690_000
    # It was silent until 700.5 s: then it was set up once more, and was warm half a minute later.
    assert 700_500 in wakes and max(wakes) == 700_500
    assert [at for at, _ in _values(batches, "pm10")] == [s * 1000 + 500 for s in (*range(30, 60), *range(730, 1200))]
    assert batches[-1].health.lost_links == 1 and batches[-1].health.state is PortState.OK


def test_the_halves_of_two_sessions_make_no_frame() -> None:
    """Half a frame before the plug was pulled and half a frame after it are not one frame."""
    link = ScriptedLink(60_000)
    link.says(10_000, DUST[:4])
    link.goes(20_000, 21_000)
    link.says(30_000, DUST[4:])
    batches = _run(link, "sds011")
    assert _values(batches, "pm10") == [] and batches[-1].health.discarded_bytes == 10


def test_a_pass_that_straddles_a_batch_is_not_before_its_horizon(luna_frame: Callable[..., bytes]) -> None:
    """A pass that begins just before a batch and is confirmed after it is not before that batch's horizon."""
    link = ScriptedLink(60_000)
    for tenth in range(600):
        short = tenth % 10 == 9  # its last five frames are short, and the next tenth's first five
        before, after = (180, 60) if short else (60 if tenth % 10 == 0 and tenth else 180, 180)
        link.says(100 * tenth + 100, luna_frame(before) * 5 + luna_frame(after) * 5)
    batches = _run(link, "tfluna", batch_ms=1_000, rate_hz=100)
    assert sum(value for _, value in _values(batches, "footfall")) == 59
    for earlier, later in pairwise(batches):
        assert all(r.time_ms >= earlier.horizon_ms for r in later.readings.get("footfall", []))


WALL_CM, PERSON_CM, UNUSABLE_CM = 180, 60, 65535
FRAMES = 600  # at 100 Hz


@dataclass(frozen=True, slots=True)
class Told:
    """What the rest of the gateway sees of a batch, but for passes: when it came, how far it reached, signs of life."""

    posted_ms: int
    horizon_ms: int
    alive_ms: tuple[int, ...]
    state: PortState


def _told(
    street: list[int], luna_frame: Callable[..., bytes], piece: int = 10, unplugged_ms: int | None = None
) -> list[Told]:
    """Reads a street at 100 Hz in pieces of so many frames, perhaps unplugged for good; returns what was told."""
    link = ScriptedLink(10 * FRAMES + 10_000)
    for start in range(0, FRAMES, piece):
        data = b"".join(luna_frame(distance_cm) for distance_cm in street[start : start + piece])
        link.says(10 * (start + piece), data)
    if unplugged_ms is not None:
        link.goes(unplugged_ms, 10**9)
    told: list[Told] = []

    def post(batch: PortBatch) -> None:
        readings = batch.readings.get("footfall", [])
        assert all(reading.time_ms >= (told[-1].horizon_ms if told else START_MS) for reading in readings)
        alive_ms = tuple(reading.time_ms for reading in readings if reading.value == 0)
        told.append(Told(link.now - START_MS, batch.horizon_ms - START_MS, alive_ms, batch.health.state))

    driver = make_driver("tfluna", {"rate_hz": 100})
    Port("beam", link, driver, post, batch_ms=1_000, stop=link.stop).run()
    return told


def _differs(luna_frame: Callable[..., bytes], what: str, frames: int) -> bool:
    """Puts somebody before the beam for so many frames, then `what`, at each phase of a batch; returns whether what
    is told differs from an empty street's anywhere."""
    for phase in range(300, 401):
        street = [WALL_CM] * FRAMES
        street[phase : phase + frames] = [PERSON_CM] * frames
        empty = [WALL_CM] * FRAMES
        unplugged_ms = None
        if what == "unusable":
            for each in (street, empty):
                each[phase + frames :] = [UNUSABLE_CM] * (FRAMES - phase - frames)
        elif what == "unplugged":
            unplugged_ms = 10 * (phase + frames) // 100 * 100 + 101
        if _told(street, luna_frame, 10, unplugged_ms) != _told(empty, luna_frame, 10, unplugged_ms):
            return True
    return False


@pytest.mark.parametrize("frames", [1, 7, 9])
@pytest.mark.parametrize("what", ["walks on", "unusable", "unplugged"])
def test_nobody_moves_a_horizon(luna_frame: Callable[..., bytes], what: str, frames: int) -> None:
    """At 100 Hz, at every phase of a batch, before rubbish and before the plug is pulled: batches come when an empty
    street's come and reach as far, so that the time of a message tells of nobody."""
    assert not _differs(luna_frame, what, frames)


@pytest.mark.parametrize("what", ["walks on", "unusable", "unplugged"])
def test_a_horizon_that_waits_for_a_pass_half_seen_is_caught(
    luna_frame: Callable[..., bytes], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above fails on a driver whose horizon is the begin of a pass that is not yet counted."""

    def waits(self: TfLuna, now_ms: int) -> int:
        counter = self._crossings
        return counter._begin_ms if counter._run and not counter._inside else now_ms - SETTLE_MS

    monkeypatch.setattr(TfLuna, "settled_ms", waits)
    assert _differs(luna_frame, what, 1)


@settings(max_examples=max(40, settings().max_examples // 3))
@given(
    street=st.lists(
        st.tuples(st.sampled_from([WALL_CM, PERSON_CM, UNUSABLE_CM]), st.integers(1, 60)), min_size=1, max_size=30
    ),
    piece=st.sampled_from([1, 4, 10, 50, 100]),
    unplugged_ms=st.none() | st.integers(1, 6_000),
)
def test_windows_wait_two_seconds_and_no_longer(
    luna_frame: Callable[..., bytes], street: list[tuple[int, int]], piece: int, unplugged_ms: int | None
) -> None:
    """Whatever a beam sees, and when it is unplugged: batches go on and reach two seconds back, and the first one tells
    when the port began."""
    distances_cm = [distance_cm for distance_cm, frames in street for _ in range(frames)]
    distances_cm = (distances_cm * FRAMES)[:FRAMES]
    told = _told(distances_cm, luna_frame, piece, unplugged_ms)
    assert all(each.horizon_ms == max(0, each.posted_ms - SETTLE_MS) for each in told)
    assert told[0].posted_ms == 0
    posted_ms = [each.posted_ms for each in told if each.posted_ms]
    # In the second after 3 s of silence the sensor is being woken, and a batch waits for that.
    assert posted_ms[0] <= 3_000 and posted_ms[-1] == 16_000
    assert all(after - before <= 2_000 for before, after in pairwise(posted_ms))


def test_after_a_stall_no_pass_is_lost_before_the_horizon(luna_frame: Callable[..., bytes]) -> None:
    """Ten seconds' frames that come at once, long after horizons were told: who passed in them is counted."""
    link = ScriptedLink(20_000)
    link.says(1_000, luna_frame(180) * 10)
    link.says(14_500, luna_frame(180) * 20 + luna_frame(60) * 5 + luna_frame(180) * 75)
    batches = _run(link, "tfluna", batch_ms=1_000)
    assert sum(value for _, value in _values(batches, "footfall")) == 1
    for earlier, later in pairwise(batches):
        assert all(r.time_ms >= earlier.horizon_ms for r in later.readings.get("footfall", []))


def test_a_good_frame_makes_the_next_tries_quick_again() -> None:
    """Back-off starts anew after a session that brought a frame."""
    link = ScriptedLink(200_000)
    link.goes(0, 60_000)
    link.says(70_000, DUST)
    link.goes(75_000, 10**9)
    _run(link, "sds011")
    lost = link.opened_at.index(next(at for at in link.opened_at if at > 75_000))
    assert link.opened_at[lost] == 75_500


def test_a_silent_sensor_is_woken_ever_more_rarely_and_called_stalled() -> None:
    """Silence brings the opening commands again, at growing distances up to a minute, and time goes on."""
    link = ScriptedLink(1_200_000)
    batches = _run(link, "sds011")
    wakes = [at for at, data in link.written if data == next(iter(make_driver("sds011", {}).opening()))]
    gaps = [b - a for a, b in pairwise(wakes)]
    assert gaps == sorted(gaps) and gaps[0] < 7_000 and 60_000 <= gaps[-1] < 62_000
    assert batches[-1].health.state is PortState.STALLED
    assert batches[-1].health.advice == "nothing comes: check power, cable and address"
    assert batches[-1].horizon_ms == START_MS + 1_200_000


def test_bytes_without_frames_point_to_the_baud_rate() -> None:
    """Garbage is counted byte for byte, and the advice names the usual reason."""
    link = ScriptedLink(100_000)
    for second in range(100):
        link.says(second * 1000 + 500, bytes.fromhex("98e600809e"))
    batches = _run(link, "sds011")
    assert batches[-1].health.state is PortState.STALLED
    assert batches[-1].health.discarded_bytes == 500
    assert "baud rate" in batches[-1].health.advice


def test_spoiled_frames_make_a_port_degraded_until_they_end() -> None:
    """More than one spoiled frame in a hundred over a minute: degraded; a clean minute: ok again."""
    link = ScriptedLink(600_000)
    for second in range(600):
        spoiled = second < 200 and second % 10 == 0
        link.says(second * 1000 + 500, DUST[:-2] + b"\x00\xab" if spoiled else DUST)
    batches = _run(link, "sds011")
    states = [b.health.state for b in batches]
    assert PortState.DEGRADED in states and states[-1] is PortState.OK
    assert batches[-1].health.rejected == 20


@pytest.mark.parametrize("spoken_ms", [0, 20_000, 50_000])
def test_a_warm_up_is_a_fixed_time_from_the_opening_whatever_is_said(spoken_ms: int) -> None:
    """Half a minute of a dust sensor is dropped and shown as warming, be its values high or low; after a silence the
    half-minute begins when it speaks again."""
    kept = []
    for frame in (DUST, _dust(0)):
        link = ScriptedLink(120_000)
        for second in range(spoken_ms // 1000, 120):
            link.says(second * 1000 + 500, frame)
        batches = _run(link, "sds011", batch_ms=1_000)
        states = [b.health.state for b in batches]
        assert states.index(PortState.WARMING) < states.index(PortState.OK)
        assert states.count(PortState.WARMING) in range(28, 32)  # the opening takes 1.4 s of them
        kept.append([at for at, _ in _values(batches, "pm10")])
    assert kept[0] == kept[1] == [s * 1000 + 500 for s in range(spoken_ms // 1000 + 30, 120)]


def test_a_sensor_that_was_silent_is_warmed_up_and_set_up_again_when_it_speaks() -> None:
    """A dust sensor that lost its power for twenty seconds: its first half-minute is dropped like that of an opening,
    and it is given its commands at once, for it may have lost its settings."""
    link = ScriptedLink(180_000)
    for second in (*range(60), *range(80, 180)):
        link.says(second * 1000 + 500, DUST)
    batches = _run(link, "sds011", batch_ms=1_000)
    assert [at for at, _ in _values(batches, "pm10")] == [s * 1000 + 500 for s in (*range(30, 60), *range(110, 180))]
    assert 80_500 in [at for at, data in link.written if data == next(iter(make_driver("sds011", {}).opening()))]
    assert batches[-1].health.lost_links == 0


# --- who answers -----------------------------------------------------------------------------------------------------

QUERY_MODE = bytes.fromhex("aac502000100a16004ab")  # the read-back of a sensor that stays in query mode
READ_MODE = bytes.fromhex("aab402000000000000000000000000ffff00ab")


def test_a_sensor_that_does_not_keep_its_settings_gives_no_reading() -> None:
    """Wrong device, and why: nothing of it is taken, and the opening is tried again once a minute."""
    link = ScriptedLink(300_000, lambda now, data: [(20, QUERY_MODE)] if data == READ_MODE else [])
    for second in range(300):
        link.says(second * 1000 + 500, DUST)
    batches = _run(link, "sds011", batch_ms=1_000)
    assert _values(batches, "pm10") == []
    assert batches[-1].health.state is PortState.WRONG_DEVICE
    assert batches[-1].health.advice == "it does not keep its settings (it speaks only when asked): replace the sensor"
    asked = [at for at, data in link.written if data == READ_MODE]
    assert len(asked) == 5 and all(60_000 <= b - a <= 62_000 for a, b in pairwise(asked))


def test_the_right_sensor_in_place_of_a_wrong_one_is_taken() -> None:
    """Somebody swaps it while the port stays open: at the next try it is met, warmed up and read."""
    link = ScriptedLink(300_000, lambda now, data: [(20, QUERY_MODE)] if data == READ_MODE and now < 100_000 else [])
    for second in range(300):
        link.says(second * 1000 + 500, DUST)
    batches = _run(link, "sds011", batch_ms=1_000)
    met_ms = next(at for at, data in link.written if data == READ_MODE and at > 100_000)
    first_ms = min(at for at, _ in _values(batches, "pm10"))
    assert met_ms + 28_000 <= first_ms <= met_ms + 32_000
    assert batches[-1].health.state is PortState.OK and batches[-1].health.advice == ""


def test_nothing_is_taken_before_the_opening_is_through(luna_frame: Callable[..., bytes]) -> None:
    """A beam has no warm-up, but until it has been asked who it is, what it says is anybody's."""
    link = ScriptedLink(10_000)
    for tenth in range(100):
        link.says(100 * tenth + 50, luna_frame(180))
    alive = [at for at, value in _values(_run(link, "tfluna", batch_ms=1_000), "footfall") if value == 0]
    opening_ms = COMMAND_GAP_MS * len(list(make_driver("tfluna", {}).opening()))
    assert 0 < opening_ms <= alive[0] <= opening_ms + 1_000


class Asks(Sds011):
    """Asks a second question that hangs on the answer to the first."""

    def opening(self) -> Iterator[bytes]:
        yield READ_MODE
        yield self.told.identity.get("device_id", "nobody").encode()


def test_the_answer_to_one_command_is_known_before_the_next() -> None:
    """The opening may go on as the sensor answers; what was told at the opening before is forgotten."""
    link = ScriptedLink(20_000, lambda now, data: [(20, bytes.fromhex("aac502000000a16003ab"))] if now < 5_000 else [])
    Port("dust", link, Asks(), lambda _: None, batch_ms=1_000, stop=link.stop).run()
    said = [data for _, data in link.written]
    assert said[:4] == [READ_MODE, b"a160", READ_MODE, b"nobody"]


class Set(ModbusNoise):
    """A polled sensor that must be set up."""

    def opening(self) -> Iterator[bytes]:
        yield b"be loud"


def test_a_polled_sensor_that_was_silent_is_set_up_again() -> None:
    """Its opening goes out at the start, ever more rarely while it is silent, and at once when it answers again."""
    link = ScriptedLink(60_000, lambda now, data: [] if data == b"be loud" or 10_000 <= now < 30_000 else [(20, NOISE)])
    Port("noise", link, Set(), lambda _: None, batch_ms=1_000, stop=link.stop).run()
    sent = [at for at, data in link.written if data == b"be loud"]
    assert sent[0] == 0 and 12_000 <= sent[1] <= 14_000 and sent[-1] == 31_000
    assert [b - a for a, b in pairwise(sent[1:-1])] == sorted(b - a for a, b in pairwise(sent[1:-1]))


def test_polls_are_due_on_the_second() -> None:
    """One request at every whole second from the start on, one reading each, stamped with its answer."""
    link = ScriptedLink(100_000, _answering())
    link.now += 300
    batches = _run(link, "modbus_noise")
    assert [at for at, _ in link.written] == list(range(1_000, 100_000, 1_000))
    assert _values(batches, "noise") == [(at + 20, 536) for at in range(1_000, 100_000, 1_000)]


def test_each_silent_poll_is_one_time_out_and_the_schedule_holds() -> None:
    """A sensor that never answers: as many time-outs as polls, on the same seconds, and stalled."""
    link = ScriptedLink(100_000, lambda now, data: [])
    batches = _run(link, "modbus_noise")
    assert batches[-1].health.timeouts == len(link.written) == 100
    assert [at for at, _ in link.written] == list(range(0, 100_000, 1_000))
    assert batches[-1].health.state is PortState.STALLED


def test_a_late_answer_is_dropped_before_the_next_request() -> None:
    """An answer after its time-out is discarded and counted, and is not taken for the next one."""
    link = ScriptedLink(10_000, lambda now, data: [(900, NOISE)] if now == 3_000 else [(20, NOISE)])
    batches = _run(link, "modbus_noise")
    assert [at for at, _ in _values(batches, "noise")] == [k * 1000 + 20 for k in range(10) if k != 3]
    assert batches[-1].health.timeouts == 1 and batches[-1].health.discarded_bytes == len(NOISE)


def test_a_spoiled_answer_is_a_time_out_and_costs_no_other_poll() -> None:
    """One wrong CRC: that second has no reading, the next one has."""
    link = ScriptedLink(5_000, lambda now, data: [(20, NOISE[:-1] + b"\x00" if now == 2_000 else NOISE)])
    batches = _run(link, "modbus_noise")
    assert [at for at, _ in _values(batches, "noise")] == [20, 1_020, 3_020, 4_020]
    assert (batches[-1].health.rejected, batches[-1].health.timeouts) == (1, 1)


def test_an_answer_in_two_pieces_is_one_answer() -> None:
    """A split frame is put together within its deadline."""
    link = ScriptedLink(5_000, lambda now, data: [(20, NOISE[:3]), (60, NOISE[3:])])
    assert len(_values(_run(link, "modbus_noise"), "noise")) == 5


def test_overruns_skip_seconds_and_are_counted() -> None:
    """If time jumps ahead (a suspended gateway), missed polls are skipped, not caught up, and counted."""

    class Suspended(ScriptedLink):
        def wait(self, until_ms: int) -> None:
            super().wait(until_ms + 5_400 if until_ms == START_MS + 3_000 else until_ms)

    link = Suspended(12_000, _answering())
    batches = _run(link, "modbus_noise")
    assert [at for at, _ in link.written] == [0, 1_000, 2_000, 8_400, 9_000, 10_000, 11_000]
    assert batches[-1].health.overruns == 5


def test_a_clock_set_back_stops_nothing() -> None:
    """One hour back: polls, batches and states go on in the new time at once."""

    class SetBack(ScriptedLink):
        def wait(self, until_ms: int) -> None:
            super().wait(until_ms)
            if until_ms == START_MS + 60_000 and len(self.written) == 60:
                self.now -= 3_600_000

    link = SetBack(30_000, _answering())
    link.end_ms = START_MS + 70_000
    written_by = threading.Timer(20, link.stop.set)
    written_by.start()

    def count(batch: PortBatch) -> None:
        batches.append(batch)
        if len(link.written) > 200:
            link.stop.set()

    batches: list[PortBatch] = []
    driver = make_driver("modbus_noise", {})
    Port("noise", link, driver, count, batch_ms=10_000, stop=link.stop).run()
    written_by.cancel()
    back = [at for at, _ in link.written if at < 0]
    assert back[:3] == [-3_540_000, -3_539_000, -3_538_000]
    assert batches[-1].horizon_ms < START_MS and batches[-1].health.state is PortState.OK


def test_a_defect_is_told_and_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the thread fails for a reason that nobody foresaw, the main thread learns it from the last batch."""
    link = ScriptedLink(10_000)
    driver = make_driver("sds011", {})

    def broken(data: bytes, now_ms: int) -> list[object]:
        raise ZeroDivisionError

    monkeypatch.setattr(driver, "feed", broken)
    link.says(100, DUST)
    batches: list[PortBatch] = []
    with pytest.raises(ZeroDivisionError):
        Port("dust", link, driver, batches.append, batch_ms=1_000, stop=link.stop).run()
    assert batches[-1].fault is not None and not link.is_open


def test_a_bench_that_left_ends_the_port_with_a_reason() -> None:
    """In simulated time the last batch says that the bench is gone; when asked to stop anyway, it does not."""
    link = ScriptedLink(10_000)
    link.goes(5_000, 10**9, BenchGone("the bench has left"))
    assert _run(link, "sds011")[-1].fault == "the bench has left"
    link = ScriptedLink(10_000)
    link.goes(5_000, 10**9, BenchGone("the bench has left"))
    link.end_ms = START_MS + 5_000
    assert _run(link, "sds011")[-1].fault is None


@pytest.fixture
def living(tiny_port: Any) -> Any:
    """A port of the wall clock on a real pseudo-terminal, in its thread; .batches grows, .close() ends it."""

    class Living:
        def __init__(self) -> None:
            self.batches: list[PortBatch] = []
            self.stop = threading.Event()
            driver = make_driver("sds011", {})
            driver.warm_up_ms = 0
            link = SerialLink(str(tiny_port.link), driver.baud, self.stop)
            port = Port("dust", link, driver, self.batches.append, batch_ms=100, stop=self.stop)
            self.thread = threading.Thread(target=port.run)
            self.thread.start()

        def count(self) -> int:
            return sum(len(b.readings.get("pm10", [])) for b in self.batches)

    living = Living()
    yield living
    living.stop.set()
    living.thread.join(5)
    assert not living.thread.is_alive()


def test_a_real_device_may_come_and_go(living: Any, tiny_port: Any, eventually: Callable[..., None]) -> None:
    """On a real pseudo-terminal: read, pulled out, put back at another place, read again, set up each time."""
    assert tiny_port.heard(19)[:3] == b"\xaa\xb4\x06"
    eventually(lambda: tiny_port.say(b"\x00\xff" + DUST) or living.count() > 0)
    tiny_port.pull_out()
    eventually(lambda: living.batches[-1].health.state is PortState.ABSENT)
    horizon_ms = living.batches[-1].horizon_ms
    eventually(lambda: living.batches[-1].horizon_ms > horizon_ms + 200)
    tiny_port.plug_in()
    assert tiny_port.heard(19)[:3] == b"\xaa\xb4\x06"
    before = living.count()
    eventually(lambda: tiny_port.say(DUST) or living.count() > before)
    assert living.batches[-1].health.lost_links == 1


def test_readings_of_a_real_port_are_stamped_now(living: Any, tiny_port: Any, eventually: Callable[..., None]) -> None:
    """On the wall clock a reading carries the time of its bytes, and is never ahead of its batch's horizon."""
    before_ms = time.time_ns() // 1_000_000
    eventually(lambda: tiny_port.say(DUST) or living.count() > 0)
    batch = next(b for b in living.batches if b.readings)
    assert before_ms <= batch.readings["pm10"][0].time_ms <= batch.horizon_ms
