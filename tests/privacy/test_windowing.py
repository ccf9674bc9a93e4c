"""Readings in, aggregates out: one reading a slot, clamped, public constants where nothing came."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy.aggregate import Aggregate, Cell, energy
from murmure_privacy.plan import VALUE_LIMIT, plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Node
from murmure_privacy.window import QUARTER_S, Calendar
from murmure_privacy.windowing import OpenWindows, _Stream

DAY = date(2026, 6, 10)
DAY_S = Calendar("Europe/Paris").midnight(DAY)
COARSE = ("cadence_ms = 1000", "cadence_ms = 60000")
FLOOR_TENTHS, TOP_TENTHS, MIDDLE_TENTHS = 350, 850, 600


@pytest.fixture(scope="module")
def opened(write_policy: Callable[..., Policy]) -> Callable[..., OpenWindows]:
    """Returns windows over one stream, with a slot a minute where there are slots."""
    made = {
        "footfall": plan(write_policy("footfall")),
        "noise": plan(write_policy("noise", swap=(COARSE,))),
        "pm2_5": plan(write_policy("pm2_5", swap=(COARSE,))),
        "loud": plan(write_policy("noise", swap=(COARSE, ("seconds = 15", "seconds = 15, up_to_db = 75")))),
        "thick": plan(write_policy("pm2_5", swap=(COARSE, ("seconds = 60", "seconds = 60, up_to = 50")))),
    }
    return lambda stream, from_s=DAY_S: OpenWindows(made[stream], from_s)


def closed(windows: OpenWindows, until_s: int) -> dict[tuple[str, int], Aggregate]:
    return {
        (aggregate.node.level, aggregate.node.start_s): aggregate
        for _, aggregates in windows.close_due(until_s)
        for aggregate in aggregates
    }


def test_the_first_hour_of_noise(opened: Callable[..., OpenWindows]) -> None:
    """Readings are clamped one by one, binned, summed as levels and as energies; empty slots take the constants."""
    windows = opened("noise")
    values = [FLOOR_TENTHS - 900, 410, 600, TOP_TENTHS, 10**30, TOP_TENTHS - 1]
    windows.add("plaza/noise", [(DAY_S * 1000 + 60_000 * slot, value) for slot, value in enumerate(values)])
    hour = closed(windows, DAY_S + 3600)["1h", DAY_S]
    clamped = [FLOOR_TENTHS, 410, 600, TOP_TENTHS, TOP_TENTHS, TOP_TENTHS - 1]
    empty = 60 - len(values)
    assert hour.sums["mean"] == (sum(clamped) + empty * MIDDLE_TENTHS,)
    assert hour.sums["energy"] == (sum(map(energy, clamped)) + empty * energy(FLOOR_TENTHS),)
    assert hour.sums["histogram"] == (1, 1, 0, 0, 0, 1 + empty, 0, 0, 0, 3)
    assert hour.node.present == 20 * len(values) // 60 == 2


def test_without_an_upper_clamp_loud_readings_count_whole(opened: Callable[..., OpenWindows]) -> None:
    """Where a level bounds the unit, readings are raised to the floor and enter mean and energy as they are; the
    histogram keeps its end bins, and what no sensor can say is held at the ceiling of the quantity."""
    windows = opened("loud")
    values = [FLOOR_TENTHS - 900, 600, 901, 1400, 10**30]
    windows.add("plaza/noise", [(DAY_S * 1000 + 60_000 * slot, value) for slot, value in enumerate(values)])
    hour = closed(windows, DAY_S + 3600)["1h", DAY_S]
    held, empty = [FLOOR_TENTHS, 600, 901, 1400, 1400], 60 - len(values)
    assert hour.sums["mean"] == (sum(held) + empty * MIDDLE_TENTHS,)
    assert hour.sums["energy"] == (sum(map(energy, held)) + empty * energy(FLOOR_TENTHS),)
    assert hour.sums["histogram"] == (1, 0, 0, 0, 0, 1 + empty, 0, 0, 0, 3)
    windows = opened("thick")
    windows.add("plaza/pm2_5", [(DAY_S * 1000, -5), (DAY_S * 1000 + 60_000, 13_610), (DAY_S * 1000 + 120_000, 10**9)])
    assert closed(windows, DAY_S + 3600)["1h", DAY_S].sums == {"mean": (13_610 + 100_000 + 57 * 500,)}


def test_a_sum_without_an_upper_clamp_stops_where_it_can_be_drawn(write_policy: Callable[..., Policy]) -> None:
    """A day at 140 dB, ten times a second, is too much for 62 bits: the sum stops there, and the release leaves."""
    swap = (
        ("cadence_ms = 1000, tail = 11", "cadence_ms = 100, tail = 100"),
        ("seconds = 15", "seconds = 1, up_to_db = 40"),
    )
    windows = OpenWindows(plan(write_policy("noise", swap=swap)), DAY_S)
    for hour in range(24):
        begin_ms = (DAY_S + 3600 * hour) * 1000
        windows.add("plaza/noise", [(begin_ms + offset_ms, 1400) for offset_ms in range(0, 3_600_000, 100)])
    day = closed(windows, DAY_S + 86_400)["1d", DAY_S]
    assert day.sums["energy"] == (VALUE_LIMIT,) and 864_000 * energy(1400) > VALUE_LIMIT


def test_a_slot_takes_its_first_reading(opened: Callable[..., OpenWindows]) -> None:
    """A second reading in a slot, or one for a slot that time has passed, is left out, whatever its value."""
    windows = opened("pm2_5")
    start_ms = DAY_S * 1000
    windows.add("plaza/pm2_5", [(start_ms + 1, 100), (start_ms + 59_999, 900), (start_ms + 120_000, 200)])
    windows.add("plaza/pm2_5", [(start_ms + 60_000, 900), (start_ms + 179_999, 900)])
    hour = closed(windows, DAY_S + 3600)["1h", DAY_S]
    assert hour.sums == {"mean": (100 + 200 + 58 * 500,)}
    assert windows.refused == 0


def test_counts_add_up_within_a_slot(opened: Callable[..., OpenWindows]) -> None:
    """Two people in one second are two crossings."""
    windows = opened("footfall")
    readings = [(DAY_S * 1000 + offset_ms, value) for offset_ms, value in [(0, 0), (10, 1), (20, 1), (5000, 3)]]
    windows.add("plaza/footfall", readings)
    assert closed(windows, DAY_S + 900)["15min", DAY_S].sums == {"crossings": (5,)}


def test_a_pass_is_no_sign_of_life(opened: Callable[..., OpenWindows]) -> None:
    """Only readings of 0 make a counter's slots present: passes, however many, leave `present` as it was."""
    for alive_s in (0, 450):
        windows = opened("footfall")
        windows.add("plaza/footfall", [(1000 * (DAY_S + second), 0) for second in range(alive_s)])
        windows.add("plaza/footfall", [(1000 * (DAY_S + second) + 500, 1) for second in range(900)])
        quarter = closed(windows, DAY_S + 900)["15min", DAY_S]
        assert quarter.sums == {"crossings": (900,)} and quarter.node.present == 20 * alive_s // 900


@pytest.mark.parametrize(("seconds", "present"), [(0, 0), (44, 0), (45, 1), (449, 9), (450, 10), (899, 19), (900, 20)])
def test_presence_is_rounded_down(opened: Callable[..., OpenWindows], seconds: int, present: int) -> None:
    """`present` is the twentieths of the covered slots that brought a reading, rounded down."""
    windows = opened("footfall")
    windows.add("plaza/footfall", [(1000 * (DAY_S + second), 0) for second in range(seconds)])
    assert closed(windows, DAY_S + 900)["15min", DAY_S].node.present == present


@pytest.mark.parametrize(("value", "crossings"), [(10**30, 1 << 53), (-(10**30), 0), (-1, 0)])
def test_no_count_is_beyond_drawing(opened: Callable[..., OpenWindows], value: int, crossings: int) -> None:
    """Whatever a broken sensor counts, the aggregate is an integer that noise can be drawn for."""
    windows = opened("footfall")
    windows.add("plaza/footfall", [(DAY_S * 1000, value)])
    nodes = closed(windows, DAY_S + 900)
    assert nodes["15min", DAY_S].sums == {"crossings": (crossings,)}


def test_time_decides_what_is_refused(opened: Callable[..., OpenWindows]) -> None:
    """Readings before the first quarter-hour, of closed time, or after the end of a policy are dropped and counted."""
    windows = opened("footfall", DAY_S + 1)
    assert windows.opened_s == DAY_S + 900
    windows.until_s = DAY_S + 86_400
    at = [DAY_S + 899, DAY_S + 900, DAY_S + 86_399, DAY_S + 86_400]
    windows.add("plaza/footfall", [(1000 * second + 999, 1) for second in at])
    assert windows.refused == 2
    windows.close_due(DAY_S + 1800)
    windows.add("plaza/footfall", [(1000 * (DAY_S + 1799), 1), (1000 * (DAY_S + 1800), 1)])
    assert windows.refused == 3
    windows.add("plaza/other", [(1000 * (DAY_S + 1800), 1)])
    assert windows.refused == 3
    windows.until_s = None
    windows.add("plaza/footfall", [(1000 * (DAY_S + 90_000), 1), (1 << 62, 1)])
    assert windows.refused == 4


def test_a_start_opens_partial_nodes_of_every_level(opened: Callable[..., OpenWindows]) -> None:
    """At the first quarter-hour not earlier each level opens until its normal end; what is covered is said."""
    windows = opened("footfall", DAY_S + 7 * 3600 + 1000)
    opened_s = DAY_S + 7 * 3600 + 1800
    nodes = {node.level: node for node in windows.open_nodes()}
    assert {level: (node.start_s - DAY_S, node.end_s - DAY_S) for level, node in nodes.items()} == {
        "15min": (7 * 3600 + 1800, 7 * 3600 + 2700),
        "1h": (7 * 3600, 8 * 3600),
        "6h": (6 * 3600, 12 * 3600),
        "1d": (0, 24 * 3600),
    }
    assert {node.covered_from_s for node in nodes.values()} == {opened_s}
    assert all(node.present == 0 for node in nodes.values())
    seconds = range(opened_s, DAY_S + 9 * 3600)
    windows.add("plaza/footfall", [(1000 * second, value) for second in seconds for value in (0, 1)])
    done = closed(windows, DAY_S + 9 * 3600)
    assert done["1h", DAY_S + 7 * 3600].sums == {"crossings": (1800,)}
    assert done["1h", DAY_S + 7 * 3600].node.present == 20
    assert done["1h", DAY_S + 8 * 3600].node.covered_from_s == DAY_S + 8 * 3600


def test_nodes_close_in_order_and_together(opened: Callable[..., OpenWindows]) -> None:
    """Each closing instant comes once, in order, with every node that ends then, and never beyond the policy's end."""
    windows = opened("footfall")
    windows.until_s = DAY_S + 86_400
    due = windows.close_due(DAY_S + 2 * 86_400)
    instants = [closing_s for closing_s, _ in due]
    assert instants == list(range(DAY_S + 900, DAY_S + 86_400 + 1, 900))
    levels = {closing_s - DAY_S: [a.node.level for a in aggregates] for closing_s, aggregates in due}
    assert levels[900] == ["15min"]
    assert levels[3600] == ["15min", "1h"]
    assert levels[6 * 3600] == ["15min", "1h", "6h"]
    assert levels[86_400] == ["15min", "1h", "6h", "1d"]
    assert windows.close_due(DAY_S + 3 * 86_400) == []


def test_what_is_closed_is_forgotten(opened: Callable[..., OpenWindows]) -> None:
    """No quarter-hour stays in memory longer than a node needs it."""
    windows = opened("noise")
    for day in range(2):
        begin_s = DAY_S + day * 86_400
        windows.add("plaza/noise", [(1000 * second, 500) for second in range(begin_s, begin_s + 86_400, 600)])
        windows.close_due(begin_s + 86_399)
        (stream,) = windows._streams.values()
        assert len(stream.cells) == 96
        windows.close_due(begin_s + 86_400)
        assert stream.cells == {}


def test_weeks_and_parts_of_the_day_open_and_close(write_policy: Callable[..., Policy]) -> None:
    """A start at noon opens what contains it in part and what comes later whole; a stream without the part that is now
    drops its readings without a trace."""
    parts = plan(write_policy("footfall", swap=(('"6h" = 1, "1d" = 1', "evening = 1, night = 1"),)))
    windows = OpenWindows(parts, DAY_S + 12 * 3600)
    nodes = {n.level: ((n.start_s - DAY_S) // 3600, (n.end_s - DAY_S) // 3600) for n in windows.open_nodes()}
    assert nodes == {"15min": (12, 12), "1h": (12, 13), "evening": (18, 22), "night": (22, 30)}
    seconds = range(DAY_S + 12 * 3600, DAY_S + 31 * 3600, 60)
    windows.add("plaza/footfall", [(1000 * second, 1) for second in seconds])
    done = closed(windows, DAY_S + 31 * 3600)
    assert done["evening", DAY_S + 18 * 3600].sums == {"crossings": (240,)}
    assert done["night", DAY_S + 22 * 3600].sums == {"crossings": (480,)}
    weeks = plan(write_policy("footfall", swap=(('"6h" = 1, "1d" = 1', '"1w" = 1'),)))
    windows = OpenWindows(weeks, DAY_S + 12 * 3600, ("plaza/footfall",))
    (week,) = [node for node in windows.open_nodes() if node.level == "1w"]
    monday = Calendar("Europe/Paris").midnight(date(2026, 6, 15))
    assert (week.start_s, week.covered_from_s, week.end_s) == (monday - 7 * 86_400, DAY_S + 12 * 3600, monday)


readings = st.lists(st.tuples(st.integers(-1000, 3 * 3600 * 1000), st.integers(-1000, 2000)), max_size=60)


@settings(max_examples=max(50, settings().max_examples // 2))
@given(
    kind=st.sampled_from(["footfall", "noise", "pm2_5", "loud", "thick"]),
    raw=readings,
    shuffled=st.booleans(),
    start_s=st.integers(0, 4000),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_aggregates_equal_a_count_by_hand(
    opened: Callable[..., OpenWindows],
    kind: str,
    raw: list[tuple[int, int]],
    shuffled: bool,
    start_s: int,
    cuts: list[int],
) -> None:
    """In whatever pieces and order readings come, each node is what one would count by hand, and within its bounds."""
    came = [(DAY_S * 1000 + time_ms, value) for time_ms, value in (raw if shuffled else sorted(raw))]
    windows = opened(kind, DAY_S + start_s)
    edges = [0, *sorted(min(cut, len(came)) for cut in cuts), len(came)]
    for begin, end in pairwise(edges):
        windows.add(windows.plan.policy.streams[0].id, came[begin:end])
    nodes = closed(windows, DAY_S + 3 * 3600)
    assert nodes
    stream = windows.plan.policy.streams[0]
    low, high = stream.bounds
    top = {"loud": 1400, "thick": 100_000}.get(kind, high)
    middle = (low + high) // 2
    for aggregate in nodes.values():
        node = aggregate.node
        last_slot: dict[int, int] = {}
        counted, taken = 0, []
        for time_ms, value in came:
            if node.covered_from_s * 1000 <= time_ms < node.end_s * 1000:
                counted += value
                quarter, slot = time_ms // (QUARTER_S * 1000), time_ms // node.cadence_ms
                alive = value == 0 or kind != "footfall"
                if alive and slot > last_slot.get(quarter, -1):
                    last_slot[quarter] = slot
                    taken.append(min(max(value, low), top))
        assert node.present == 20 * len(taken) // node.slots
        if kind == "footfall":
            assert aggregate.sums == {"crossings": (max(counted, 0),)}
            continue
        slots = taken + [middle] * (node.slots - len(taken))
        assert aggregate.sums["mean"] == (sum(slots),)
        assert node.slots * low <= aggregate.sums["mean"][0] <= node.slots * top
        if stream.quantity.kind == "level":
            bins = [0] * 10
            for level in slots:
                bins[min((level - low) // 50, 9)] += 1
            assert aggregate.sums["histogram"] == tuple(bins) and sum(bins) == node.slots
            floor = energy(low) * (node.slots - len(taken))
            assert aggregate.sums["energy"] == (sum(map(energy, taken)) + floor,)


@pytest.mark.parametrize(("kind", "quantity"), [("footfall", "footfall"), ("loud", "noise"), ("pm2_5", "pm2_5")])
def test_a_node_says_what_it_is(opened: Callable[..., OpenWindows], kind: str, quantity: str) -> None:
    """Open or closed, a node carries stream, quantity, slots, histogram bounds and policy of the words it is under."""
    windows = opened(kind, DAY_S + 900)
    policy = windows.plan.policy
    stream = policy.streams[0]
    hour = Node(
        stream=f"plaza/{quantity}",
        quantity=quantity,
        level="1h",
        start_s=DAY_S,
        end_s=DAY_S + 3600,
        covered_from_s=DAY_S + 900,
        present=0,
        cadence_ms=stream.cadence_ms,
        bounds=stream.bounds,
        policy=policy.hash,
    )
    assert [node for node in windows.open_nodes() if node.level == "1h"] == [hour]
    assert closed(windows, DAY_S + 3600)["1h", DAY_S].node == hour


@pytest.mark.parametrize(("bounds", "bins"), [("[35, 45]", (1, 59)), ("[30, 45]", (0, 58, 2))])
def test_empty_slots_of_a_narrow_range_take_the_bin_of_its_middle(
    write_policy: Callable[..., Policy], bounds: str, bins: tuple[int, ...]
) -> None:
    """An edge belongs to the bin above it, half a bin to its own; a top reading does not fall out of the last one."""
    narrow = write_policy("noise", swap=(COARSE, ("[35, 85]", bounds)))
    windows = OpenWindows(plan(narrow), DAY_S)
    start_ms = DAY_S * 1000
    windows.add("plaza/noise", [(start_ms, 399), (start_ms + 60_000, 450), (start_ms + 120_000, 400)])
    assert closed(windows, DAY_S + 3600)["1h", DAY_S].sums["histogram"] == bins


def test_a_late_reading_enters_no_node_that_is_still_open(opened: Callable[..., OpenWindows]) -> None:
    """A reading of a quarter-hour that has closed is refused for the hour and the day around it too."""
    windows = opened("footfall")
    windows.add("plaza/footfall", [(DAY_S * 1000, 1)])
    windows.close_due(DAY_S + 900)
    windows.add("plaza/footfall", [(DAY_S * 1000 + 1, 5), (DAY_S * 1000 + 900_000, 2), (DAY_S * 1000 + 2, 5)])
    assert windows.refused == 2
    assert closed(windows, DAY_S + 3600)["1h", DAY_S].sums == {"crossings": (3,)}


def test_any_time_to_come_is_open(opened: Callable[..., OpenWindows]) -> None:
    """Without an end of the policy the last millisecond that 62 bits can say is taken."""
    windows = opened("footfall")
    windows.add("plaza/footfall", [((1 << 62) - 1, 1)])
    assert windows.refused == 0


def test_only_the_streams_asked_for_are_opened(write_policy: Callable[..., Policy]) -> None:
    """Of a policy with three streams, a window over one opens and closes nodes of that one alone."""
    windows = OpenWindows(plan(write_policy()), DAY_S, ["plaza/pm2_5"])
    assert {node.stream for node in windows.open_nodes()} == {"plaza/pm2_5"}
    windows.add("plaza/footfall", [(DAY_S * 1000, 1)])
    assert {level for level, _ in closed(windows, DAY_S + 86_400)} == {"1h", "1d"}


def test_a_run_of_readings_looks_its_quarter_up_once(
    opened: Callable[..., OpenWindows], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replay needs the speed: within one call, a quarter-hour is looked up when it changes, not for each reading."""
    asked: list[int] = []
    real = _Stream._cell

    def counted(self: _Stream, start_s: int) -> Cell:
        asked.append(start_s)
        return real(self, start_s)

    monkeypatch.setattr(_Stream, "_cell", counted)
    windows = opened("footfall")
    offsets_ms = [0, 0, 1, 899_999, 900_000, 900_000, 1_799_999]
    windows.add("plaza/footfall", [(DAY_S * 1000 + offset_ms, 1) for offset_ms in offsets_ms])
    assert asked == [DAY_S, DAY_S + 900]
