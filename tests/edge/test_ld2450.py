"""What is special to the LD2450: its signs, its dialogue at opening, its line; and that only counts leave it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import dist, hypot
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_edge.sensors import make_driver
from murmure_edge.sensors.base import SettingError
from murmure_edge.sensors.footfall import SETTLE_MS
from murmure_edge.sensors.ld2450 import ENABLE_TRIES, Ld2450

NOW_MS = 1_700_000_000_500
HEAD, TAIL = bytes.fromhex("aaff0300"), bytes.fromhex("55cc")
NOBODY = bytes(8)


def _word(value: int) -> bytes:
    return (value | 0x8000 if value >= 0 else -value).to_bytes(2, "little")


def _report(*targets: tuple[int, int]) -> bytes:
    slots = [_word(x) + _word(y) + _word(-16) + b"\x40\x01" for x, y in targets]
    return HEAD + b"".join((slots + [NOBODY] * 3)[:3]) + TAIL


def _ack(command: int, data: str = "") -> bytes:
    body = bytes((command, 1, 0, 0)) + bytes.fromhex(data)
    return bytes.fromhex("fdfcfbfa") + len(body).to_bytes(2, "little") + body + bytes.fromhex("04030201")


def _past(x_mm: int = 0, towards: bool = False) -> list[bytes]:
    """A report each of somebody who walks from 1.2 to 4.8 m away, or comes from there."""
    ys = range(1200, 4800, 120)
    return [_report((x_mm, y)) for y in (reversed(ys) if towards else ys)]


def _fed(driver: Ld2450, reports: Sequence[bytes], now_ms: int = NOW_MS) -> list[tuple[int, int]]:
    """Feeds a report at a time, a tenth of a second apart; returns times and values."""
    fed = [reading for at, each in enumerate(reports) for _, reading in driver.feed(each, now_ms + 100 * at)]
    return [(reading.time_ms, reading.value) for reading in fed]


def _count(driver: Ld2450, reports: Sequence[bytes], now_ms: int = NOW_MS) -> int:
    return sum(value for _, value in _fed(driver, reports, now_ms))


class Module:
    """The answers of a module, from docs/serial-protocols/ld2450.md: what it keeps, and what it was told to write."""

    def __init__(self, bluetooth: bool = True, multi: bool = True, zones: int = 0, obeys: bool = True) -> None:
        self.bluetooth, self.multi, self.zones, self.obeys = bluetooth, multi, zones, obeys
        self.after_restart = bluetooth
        self.enabled = False
        self.written: list[int] = []

    def answer(self, command: bytes) -> bytes:
        what, data = command[6], command[8:-4]
        if what == 0xFF:
            self.enabled = True
            return _ack(what, "01004000")
        if not self.enabled:
            return b""
        if what in (0x90, 0xC2, 0xA4):
            self.written.append(what)
            if self.obeys:
                self.multi = self.multi or what == 0x90
                self.zones = data[0] if what == 0xC2 else self.zones
                self.after_restart = bool(data[0]) if what == 0xA4 else self.after_restart
        if what in (0xFE, 0xA3):
            self.enabled = False
            if what == 0xA3:
                self.bluetooth = self.after_restart
        answers = {
            0x91: "0200" if self.multi else "0100",
            0xA0: "00000201 16240622",
            0xA5: "8f272eb80f65" if self.bluetooth else "080504030201",
            0xC1: f"{self.zones:02x}00" + "00" * 24,
        }
        return _ack(what, answers.get(what, ""))


def _open(driver: Ld2450, module: Module | None) -> int:
    """Plays an opening; returns the number of commands."""
    commands = 0
    for at, command in enumerate(driver.opening()):
        commands += 1
        if module is not None:
            driver.feed(module.answer(command), NOW_MS + 200 * at)
    return commands


def test_bluetooth_is_switched_off_with_a_restart_and_read_back() -> None:
    """A module as delivered is silenced at the first opening, and the port is told that it is so now."""
    driver, module = Ld2450(), Module()
    _open(driver, module)
    assert not module.bluetooth and not module.enabled
    assert driver.told.identity == {"firmware": "V1.02.22062416", "bluetooth": "off"}
    assert driver.told.mismatch == ""


def test_a_module_that_is_as_it_should_be_is_told_to_write_nothing() -> None:
    """Settings go to the module's flash: each opening asks, and none writes what is there already."""
    driver, module = Ld2450(), Module(bluetooth=False)
    for _ in range(3):
        _open(driver, module)
    assert module.written == []


def test_one_target_and_zones_are_undone() -> None:
    """Whoever used it before: several targets are followed, and no zone is left out."""
    driver, module = Ld2450(), Module(bluetooth=False, multi=False, zones=2)
    _open(driver, module)
    assert module.multi and module.zones == 0 and module.written == [0x90, 0xC2]
    assert driver.told.mismatch == ""


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Module(multi=False, obeys=False), "one target only"),
        (Module(zones=1, obeys=False), "a zone filter"),
    ],
)
def test_a_setting_that_does_not_hold_is_a_mismatch(module: Module, says: str) -> None:
    """What it does not keep is told in one sentence."""
    driver = Ld2450()
    _open(driver, module)
    assert says in driver.told.mismatch


def test_bluetooth_that_stays_on_is_told_and_not_written_again() -> None:
    """A module that goes on advertising is written to once, not at every opening, and the doctor can tell."""
    driver, module = Ld2450(), Module(obeys=False)
    for _ in range(3):
        _open(driver, module)
        assert driver.told.identity["bluetooth"] == "on"
        assert driver.told.mismatch == ""
    assert module.written == [0xA4]


def test_a_module_that_does_not_answer_ends_the_dialogue() -> None:
    """Without its answers (the gateway's TX is not wired) the opening ends, and nothing speaks against the sensor."""
    driver = Ld2450()
    assert _open(driver, None) == ENABLE_TRIES + 1
    assert driver.told.identity == {} and driver.told.mismatch == ""


def test_signs_are_magnitudes_with_the_bit_turned_round() -> None:
    """Bit 15 set is positive: two's complement would put everybody behind the radar."""
    described = Ld2450.describe(bytes.fromhex("aaff0300be8a478e110068010e03b1861000400100000000000000000055cc"[:60]))
    targets = described["targets"]
    assert isinstance(targets, list)
    assert [(t["x_mm"], t["y_mm"], t["speed_cm_s"]) for t in targets] == [(2750, 3655, -17), (-782, 1713, -16)]


@pytest.mark.parametrize("towards", [False, True])
def test_a_crossing_counts_one_in_either_direction(towards: bool) -> None:
    """In and out are one count; the direction stays with the driver, for the technician."""
    driver = Ld2450()
    assert _count(driver, _past(towards=towards)) == 1
    assert driver.directions == {1: int(not towards), -1: int(towards)}


def test_the_line_may_lie_along_the_view() -> None:
    """With `line_x_mm` whoever walks past counts, and whoever comes near and goes away on one side does not."""
    past = [_report((x, 2500)) for x in range(-2000, 2000, 120)]
    assert _count(Ld2450(line_x_mm=0), past) == 1
    assert _count(Ld2450(line_x_mm=0), _past(x_mm=800)) == 0
    assert _count(Ld2450(), past) == 0


def test_what_crosses_out_of_reach_is_not_counted() -> None:
    """A mirror image behind a shop window walks as people do: the line ends before it."""
    driver = Ld2450(reach_to_mm=1500)
    assert _count(driver, _past(x_mm=1200)) == 1
    assert _count(driver, _past(x_mm=1900)) == 0


def test_a_gap_in_the_stream_ends_all_tracks() -> None:
    """Reports that were lost for longer than tracks wait: who is seen after them may be anybody."""
    driver, reports = Ld2450(), _past()
    half = len(reports) // 2
    assert sum(value for _, value in _fed(driver, reports[:half])) == 0
    assert sum(value for _, value in _fed(driver, reports[half:], NOW_MS + 100 * half + 2_500)) == 0


def test_a_closed_port_ends_all_tracks() -> None:
    """Half a walk before the plug was pulled and half after it are no crossing."""
    driver, reports = Ld2450(), _past()
    half = len(reports) // 2
    _fed(driver, reports[:half])
    driver.reset()
    assert sum(value for _, value in _fed(driver, reports[half:], NOW_MS + 100 * half)) == 0


@given(
    street=st.lists(st.sampled_from([*range(0, 6000, 700)]), min_size=120, max_size=120),
    walks=st.booleans(),
    cuts=st.lists(st.tuples(st.integers(1, 40), st.integers(-500, 4_000)), max_size=12),
)
def test_signs_of_life_are_the_same_whoever_passes(street: list[int], walks: bool, cuts: list[tuple[int, int]]) -> None:
    """In whatever pieces, after whatever stalls: readings of 0 have the times of an empty street's, and nothing comes
    before what the driver said is settled."""
    alive = []
    there = [_report((0, y), (900, 6000 - y)) for y in street]
    if walks:
        there = (_past() + _past(towards=True)) * 2
    for reports in (there, [_report()] * len(there)):
        driver, now_ms, at, zeros, told_ms = Ld2450(), NOW_MS, 0, [], 0
        for count, stall_ms in cuts:
            now_ms += 100 * count + max(stall_ms, 0)
            piece = b"".join(reports[at : at + count])
            at += count
            readings = [reading for _, reading in driver.feed(piece, now_ms)]
            assert all(told_ms <= reading.time_ms <= now_ms and reading.value in (0, 1) for reading in readings)
            zeros += [reading.time_ms for reading in readings if reading.value == 0]
            told_ms = driver.settled_ms(now_ms)
        alive.append(zeros)
    assert alive[0] == alive[1]


def test_what_is_settled_lags_by_a_fixed_time() -> None:
    """However busy the street, the horizon is as far behind."""
    driver = Ld2450()
    _fed(driver, _past())
    assert driver.settled_ms(NOW_MS) == NOW_MS - SETTLE_MS == Ld2450().settled_ms(NOW_MS)


def test_a_street_of_noise_counts_what_walks() -> None:
    """Two hundred walkers with 15 cm of noise, one report in twenty lost: within two of the truth."""
    rng, driver, count = Random(8), Ld2450(), 0
    for at in range(200):
        reports = [
            _report((round(rng.gauss(0, 150)), max(round(y + rng.gauss(0, 150)), 1)))
            if rng.random() < 0.95
            else _report()
            for y in range(600, 5600, 125)
        ]
        count += sum(value for _, value in _fed(driver, reports + [_report()] * 25, NOW_MS + 10_000 * at))
    assert abs(count - 200) <= 2


# --- one body more ----------------------------------------------------------------------------------------------------

Body = tuple[int, int]
MERGED_MM, TARGETS = 400, 3
"""What the vendor's radar does before a report is there: docs/accuracy.md, what it is supposed to tell."""
SLOT_REPORTS = 60  # a walk of 30 reports, and longer nobody than a track waits


def _radar(bodies: Iterable[Body]) -> bytes:
    """The nearest three of all bodies, and of two close to each other the nearer."""
    told: list[Body] = []
    for body in sorted(bodies, key=lambda each: hypot(*each)):
        if all(dist(body, each) >= MERGED_MM for each in told):
            told.append(body)
    return _report(*told[:TARGETS])


def _walkers(slots: Iterable[Body | None], standing: Sequence[Body] = ()) -> list[int]:
    """The crossings counted in each slot of six seconds, in which one body at most walks through: its place along the
    line and by how much it is later; beside it others stand."""
    driver, counted = Ld2450(), []
    for number, slot in enumerate(slots):
        walk: list[list[Body]] = [[]] * SLOT_REPORTS
        if slot is not None:
            x_mm, later = slot
            walk = [[], *([[]] * later), *([(x_mm, y)] for y in range(1200, 4800, 120))]
            walk += [[]] * (SLOT_REPORTS - len(walk))
        reports = [_radar([*bodies, *standing]) for bodies in walk]
        counted.append(_count(driver, reports, NOW_MS + 100 * SLOT_REPORTS * number))
    return counted


walker = st.tuples(st.integers(-1000, 1000), st.integers(0, 8))


@settings(max_examples=50)
@given(street=st.lists(st.none() | walker, min_size=1, max_size=6), extra=walker, data=st.data())
def test_a_body_that_is_in_view_alone_is_one_crossing_more(
    street: list[Body | None], extra: Body, data: st.DataObject
) -> None:
    """Who comes two seconds after the last body and goes two before the next one adds 1 and alters nobody's count."""
    at = data.draw(st.integers(0, len(street)))
    without, with_it = (_walkers([*street[:at], more, *street[at:]]) for more in (None, extra))
    assert [more - one for one, more in zip(without, with_it, strict=True)] == [
        int(slot == at) for slot in range(len(street) + 1)
    ]


@pytest.mark.parametrize("walkers", [1, 2, 5])
def test_a_body_more_near_the_radar_can_take_the_crossings_of_all_behind_it(walkers: int) -> None:
    """Two stand before the radar and are told with whoever walks by; a third body there, and nobody who walks behind
    the three is told or counted, for as long as it stays."""
    street, near = [(0, 0)] * walkers, [(-800, 900), (800, 900)]
    assert _walkers(street, near) == [1] * walkers
    assert _walkers(street, [*near, (0, 500)]) == [0] * walkers


def test_a_body_more_can_pass_and_take_anothers_crossing() -> None:
    """Two stand near, one walks over the line, and a fourth who is nearer and crosses no line takes that crossing."""
    near = [(-800, 900), (800, 900)]
    walk = [(0, y) for y in range(1200, 4800, 120)]
    by = [(x, 500) for x in range(-1500, 1500, 100)]
    without = [_radar([*near, each]) for each in walk]
    with_it = [_radar([*near, each, fourth]) for each, fourth in zip(walk, by, strict=True)]
    assert (_count(Ld2450(), without), _count(Ld2450(), with_it)) == (1, 0)


def test_a_body_more_beside_another_can_add_nothing() -> None:
    """Two who walk an arm's length apart or nearer are one target, and one crossing."""
    abreast = [_radar([(0, y), (300, y)]) for y in range(1200, 4800, 120)]
    assert _count(Ld2450(), abreast) == _count(Ld2450(), _past()) == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"line_y_mm": 2000, "line_x_mm": 0}, "line_x_mm: there is a line_y_mm too; write one of them"),
        ({"line_y_mm": 200}, "from 1000 to 5000"),
        ({"line_x_mm": 9000}, "from -4000 to 4000"),
        ({"reach_from_mm": 500, "reach_to_mm": 500}, "write more than reach_from_mm"),
        ({"gate_mm": True}, "from 200 to 1500"),
        ({"min_reports": 1}, "from 2 to 20"),
        ({"rate_hz": 10}, "ld2450 knows line_y_mm"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_mend(settings: dict[str, object], says: str) -> None:
    """What the driver cannot do is said before a port is opened, with what to write instead."""
    with pytest.raises(SettingError, match=says):
        make_driver("ld2450", settings)


def _acks() -> Iterable[tuple[str, dict[str, object]]]:
    yield "fdfcfbfa0600910100000200 04030201", {"ack": "target_mode", "status": 0, "targets": "multi"}
    yield (
        "fdfcfbfa0c00a0010000000002011624062204030201",
        {
            "ack": "firmware",
            "status": 0,
            "firmware": "V1.02.22062416",
        },
    )
    yield "fdfcfbfa0a00a50100008f272eb80f6504030201", {"ack": "mac", "status": 0, "bluetooth": True}
    yield "fdfcfbfa0400a401010004030201", {"ack": "bluetooth", "status": 1}


@pytest.mark.parametrize(("data", "expected"), list(_acks()))
def test_acks_are_never_reports(data: str, expected: dict[str, object]) -> None:
    """An ack is described as one, with what it says; the module's address, which is on the air, is not printed."""
    driver = Ld2450()
    (frame,) = driver.scanner(driver.counters).feed(bytes.fromhex(data))
    assert driver.describe(frame) == {"kind": "ack", **expected}
