"""docs/sensitivity.md, searched: raw readings of two neighbours through the real windows, exact integers compared.

For each level and each indicator the squared distance of everything released may not exceed the sensitivity that the
plan pays for; an example attains it; and windows with one thing wrong exceed it on a pair that the real ones keep.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from itertools import count, cycle
from math import log, log10
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st
from murmure_privacy import windowing
from murmure_privacy.aggregate import Aggregate, energy
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.window import PARTS, QUARTER_S, Calendar
from murmure_privacy.windowing import OpenWindows

WritePolicy = Callable[..., Policy]
Readings = list[tuple[int, int]]
Sums = dict[tuple[str, int], Aggregate]

STREAM = """
id = "plaza/it"
quantity = "{quantity}"
protects = {{ {protects} }}
epsilon = 1.0
nodes = {{ {nodes} }}
"""
SLOTS = """
readings = {{ cadence_ms = {cadence_ms}, tail = 2 }}
{bounds}
"""
NESTED = ("15min", "1h", "6h", "1d", "1w")
IN_PARTS = ("15min", "1h", *PARTS)
# Mondays of ordinary weeks, and of those whose Sunday has 23 and 25 hours.
MONDAYS = [date(2026, 6, 8), date(2026, 3, 23), date(2026, 10, 19)]
DAY_S = 86_400


@dataclass(frozen=True)
class Unit:
    """A quantity under one unit of privacy: `level` in the policy's words, or None where any event is protected."""

    quantity: str
    level: int | None = None

    def policy(self, write: WritePolicy, levels: tuple[str, ...], seconds: int, cadence_ms: int) -> Policy:
        nodes = ", ".join(f'"{level}" = {weight}' for weight, level in enumerate(levels, 1))
        key = "up_to_db" if self.quantity == "noise" else "up_to"
        limit = "" if self.level is None else f", {key} = {self.level}"
        bounds = "bounds_db = [35, 85]" if self.quantity == "noise" else "bounds = [0, 100]"
        counts = self.quantity == "footfall"
        protects = f"crossings = {seconds}" if counts else f"seconds = {seconds}{limit}"
        text = STREAM.format(quantity=self.quantity, protects=protects, nodes=nodes)
        return write(text if counts else text + SLOTS.format(cadence_ms=cadence_ms, bounds=bounds))


UNITS = {
    "sound": Unit("noise"),
    "sound up to 60 dB": Unit("noise", 60),
    "sound up to 110 dB": Unit("noise", 110),
    "puff": Unit("pm2_5"),
    "puff up to 40": Unit("pm2_5", 40),
    "puff up to 900": Unit("pm2_5", 900),
}


def passed_through(
    windows: Callable[[Plan, int], OpenWindows],
    made: Plan,
    readings: Readings,
    from_s: int,
    until_s: int,
    restart_s: int,
) -> Sums:
    """Returns the aggregates of all nodes that close, by level and first instant covered; of both lives if it restarts.

    Readings are handed over by the half-day and what is due is closed after each.
    """
    found: Sums = {}
    at = 0
    for begin_s, end_s in ((from_s, restart_s), (restart_s, until_s)) if restart_s else ((from_s, until_s),):
        open_windows = windows(made, begin_s)
        for now_s in sorted({*range(begin_s, end_s, DAY_S // 2), end_s}):
            first = at
            while at < len(readings) and readings[at][0] < now_s * 1000:
                at += 1
            open_windows.add(made.policy.streams[0].id, readings[first:at])
            for _, aggregates in open_windows.close_due(now_s):
                for aggregate in aggregates:
                    found[aggregate.node.level, aggregate.node.covered_from_s] = aggregate
    return found


def distances_sq(one: Sums, other: Sums) -> dict[tuple[str, str], int]:
    """Returns the squared L2 distance of all nodes of a level together, by level and indicator."""
    assert one.keys() == other.keys()
    found: dict[tuple[str, str], int] = {}
    for key, mine in one.items():
        theirs = other[key]
        assert mine.node == theirs.node, "presence told them apart"
        for indicator, sums in mine.sums.items():
            distance_sq = sum((a - b) ** 2 for a, b in zip(sums, theirs.sums[indicator], strict=True))
            found[key[0], indicator] = found.get((key[0], indicator), 0) + distance_sq
    return found


def paid_sq(made: Plan) -> dict[tuple[str, str], int]:
    """Returns the squared sensitivity of the plan, by level and indicator."""
    nodes = made.streams[made.policy.streams[0].id].nodes
    return {(node.level, item.indicator): item.sensitivity_sq for node in nodes for item in node.indicators}


def spent(made: Plan, distances: dict[tuple[str, str], int]) -> Fraction:
    """Returns the micro-rho that these distances cost under the plan's noise: sum of D^2 / (2 sigma^2)."""
    sigmas = {
        (node.level, item.indicator): item.sigma_milli
        for node in made.streams[made.policy.streams[0].id].nodes
        for item in node.indicators
    }
    return sum((Fraction(sq * 10**12, 2 * sigmas[key] ** 2) for key, sq in distances.items()), Fraction(0))


def covered(made: Plan, distances: dict[tuple[str, str], int]) -> bool:
    """Tells whether the plan pays for these distances, one by one and together."""
    paid = paid_sq(made)
    budget = made.streams[made.policy.streams[0].id].rho_micro
    return all(sq <= paid[key] for key, sq in distances.items()) and spent(made, distances) <= budget


def event(readings: Readings, stream: StreamPolicy, at_ms: int, values: Iterable[int]) -> Readings:
    """Returns the readings with all those in n slots from the one of `at_ms` on replaced by other values."""
    begin_ms = at_ms - at_ms % stream.cadence_ms
    until_ms = begin_ms + stream.unit_readings * stream.cadence_ms
    fresh = iter(values)
    return [(t, next(fresh) if begin_ms <= t < until_ms else value) for t, value in readings]


def patchy(stream: StreamPolicy, from_s: int, until_s: int, salt: int) -> Readings:
    """Returns readings all over the range and far beyond it: most slots have one, some two, some none."""
    low, high = stream.bounds
    step_ms = stream.cadence_ms
    readings = []
    for time_ms in range(from_s * 1000, until_s * 1000, step_ms):
        drawn = crc32(b"%d %d" % (salt, time_ms))
        value = [low, high, stream.highest, 10**12, -(10**12)][drawn % 31] if drawn % 31 < 5 else drawn % (2 * high)
        for number in range((0, 1, 1, 1, 1, 2)[drawn // 64 % 6]):
            readings.append((time_ms + number * (step_ms // 2), value))
    return readings


def span(policy: Policy, monday: date) -> tuple[int, int]:
    """Returns six hours more than the civil week, at both ends."""
    calendar = Calendar(policy.timezone)
    week = calendar.node("1w", calendar.midnight(monday))
    return week.start_s - QUARTER_S * 24, week.end_s + QUARTER_S * 24


# Where an event begins, in seconds from Monday's midnight: at the ends of hours, parts, days and of the week.
EDGES_S = st.sampled_from([0, 3600, 6 * 3600, 18 * 3600, 22 * 3600, DAY_S, 6 * DAY_S + 2 * 3600, 7 * DAY_S])
CONTENTS = ("far below", "floor", "highest", "far above", "anything")


def contents(what: str, stream: StreamPolicy, salt: int) -> Iterator[int]:
    """Yields what an event brings: the same again and again, or anything; up to the level, where the unit has one."""
    low, highest = stream.bounds[0], stream.highest
    most = highest if stream.up_to is not None else 10**12
    steady = {"far below": -(10**12), "floor": low, "highest": highest, "far above": 10**12}
    for number in count():
        yield min(most, steady[what] if what in steady else crc32(b"%d %d" % (salt, number)) % (2 * highest) - low)


@dataclass(frozen=True)
class Pair:
    """Where two neighbours differ, what they hold there, and what else may matter: holes by `salt`, a restart, and a
    `limit` at which sums stop, or None for the real one."""

    levels: tuple[str, ...]
    monday: date
    edge_s: int
    before: int
    seconds: int
    one: str
    other: str
    salt: int
    restart_s: int
    limit: int | None


PAIRS = st.builds(
    Pair,
    levels=st.sampled_from([NESTED, IN_PARTS, ("1d",)]),
    monday=st.sampled_from(MONDAYS),
    edge_s=EDGES_S,
    before=st.integers(-3, 9),
    seconds=st.sampled_from([1, 1800, 5400]),
    one=st.sampled_from(CONTENTS),
    other=st.sampled_from(CONTENTS),
    salt=st.integers(0, 10**6),
    restart_s=st.sampled_from([0, 7 * 3600 + 11, 3 * DAY_S]),
    limit=st.sampled_from([None, None, 10**6, 10**10, 10**13]),
)


def search(write_policy: WritePolicy, name: str, where: Pair) -> None:
    policy = UNITS[name].policy(write_policy, where.levels, where.seconds, cadence_ms=900_000)
    stream, made = policy.streams[0], plan(policy)
    from_s, until_s = span(policy, where.monday)
    at_ms = (from_s + QUARTER_S * 24 + where.edge_s) * 1000 - where.before * stream.cadence_ms
    street = patchy(stream, from_s, until_s, where.salt)
    pair = [event(street, stream, at_ms, contents(what, stream, where.salt)) for what in (where.one, where.other)]
    restart_s = where.restart_s and from_s + where.restart_s
    with pytest.MonkeyPatch.context() as patch:
        if where.limit is not None:
            patch.setattr(windowing, "VALUE_LIMIT", where.limit)
        distances = distances_sq(*(passed_through(OpenWindows, made, x, from_s, until_s, restart_s) for x in pair))
    assert covered(made, distances)
    paid = paid_sq(made)
    target(float(max(Fraction(sq, paid[key]) for key, sq in distances.items())))


@pytest.mark.parametrize("name", UNITS)
@settings(max_examples=settings().max_examples // 4)
@given(where=PAIRS)
def test_no_two_neighbours_are_further_apart_than_the_plan_pays(
    write_policy: WritePolicy, name: str, where: Pair
) -> None:
    """Any two contents of n consecutive slots, under each unit, at any edge, over holes, twice-filled slots, restarts
    and sums that stop at their limit: each indicator at each level within its sensitivity, and all within the budget.
    """
    search(write_policy, name, where)


@pytest.mark.long
@pytest.mark.parametrize("name", UNITS)
@settings(max_examples=max(200, settings().max_examples))
@given(where=PAIRS)
def test_a_long_search_finds_no_two_neighbours_further_apart(write_policy: WritePolicy, name: str, where: Pair) -> None:
    """The same, twelve hundred times and more."""
    search(write_policy, name, where)


@settings(max_examples=settings().max_examples // 4)
@given(
    monday=st.sampled_from(MONDAYS),
    places_s=st.lists(st.integers(0, 8 * DAY_S), min_size=1, max_size=4),
    together=st.booleans(),
    many=st.integers(0, 2**60),
    restart_s=st.sampled_from([0, 7 * 3600 + 11, 3 * DAY_S]),
)
def test_no_two_neighbours_in_passers_by_are_further_apart(
    write_policy: WritePolicy, monday: date, places_s: list[int], together: bool, many: int, restart_s: int
) -> None:
    """So many crossings more, in one place or scattered over the week, in an empty street or at the counter's limit."""
    policy = Unit("footfall").policy(write_policy, NESTED, len(places_s), 0)
    made = plan(policy)
    from_s, until_s = span(policy, monday)
    street = [(time_s * 1000, 1 + many * (time_s % 7 == 0)) for time_s in range(from_s, until_s, 3600)]
    places_s = places_s[:1] * len(places_s) if together else places_s
    more = sorted([*street, *((min(from_s + at_s, until_s - 1) * 1000, 1) for at_s in places_s)])
    restart_s = restart_s and from_s + restart_s
    distances = distances_sq(
        *(passed_through(OpenWindows, made, x, from_s, until_s, restart_s) for x in (street, more))
    )
    assert covered(made, distances)


# --- the bound is attained -------------------------------------------------------------------------------------------


def worst(made: Plan, from_s: int, split: int = 0) -> tuple[Readings, Readings]:
    """Returns a day at the floor, and the same with n readings at the highest that the unit allows: within one
    quarter-hour at noon, or with `split` of them before the end of the civil day."""
    stream = made.policy.streams[0]
    low = stream.bounds[0]
    quiet = [(time_s * 1000, low) for time_s in range(from_s, from_s + 3 * DAY_S, stream.cadence_ms // 1000)]
    day = made.calendar.day(from_s + DAY_S)
    at_ms = day.end_s * 1000 - split * stream.cadence_ms if split else (day.start_s + DAY_S // 2) * 1000
    return quiet, event(quiet, stream, at_ms, cycle([stream.highest]))


@pytest.mark.parametrize("levels", [("15min", "1h", "6h", "1d"), IN_PARTS], ids=["nested", "parts"])
@pytest.mark.parametrize("name", UNITS)
def test_the_worst_neighbours_attain_the_sensitivity(
    write_policy: WritePolicy, name: str, levels: tuple[str, ...]
) -> None:
    """n readings from the floor to the highest, in one quarter-hour: each indicator at each level that holds them
    differs by exactly its sensitivity, and together they cost the budget but for the rounding of sigma."""
    policy = UNITS[name].policy(write_policy, levels, 600, cadence_ms=60_000)
    made = plan(policy)
    from_s = Calendar(policy.timezone).midnight(MONDAYS[0])
    quiet, loud = worst(made, from_s)
    distances = distances_sq(
        *(passed_through(OpenWindows, made, x, from_s, from_s + 3 * DAY_S, 0) for x in (quiet, loud))
    )
    elsewhere = ("evening", "night")
    assert {key: sq for key, sq in distances.items() if key[0] not in elsewhere} == {
        key: sq for key, sq in paid_sq(made).items() if key[0] not in elsewhere
    }
    budget = made.streams["plaza/it"].rho_micro
    assert Fraction(999, 1000) * budget < spent(made, distances) <= budget


def test_crossings_at_one_place_attain_the_sensitivity(write_policy: WritePolicy) -> None:
    """Four crossings in one quarter-hour cost the budget of four; scattered over four nights they cost a quarter."""
    policy = Unit("footfall").policy(write_policy, ("15min", "1h", "1d"), 4, 0)
    made = plan(policy)
    from_s = Calendar(policy.timezone).midnight(MONDAYS[0])
    for apart_s, part in ((1, Fraction(1)), (DAY_S, Fraction(1, 4))):
        more = [((from_s + 3600 + number * apart_s) * 1000, 1) for number in range(4)]
        distances = distances_sq(
            *(passed_through(OpenWindows, made, x, from_s, from_s + 5 * DAY_S, 0) for x in ([], more))
        )
        assert distances == {key: part * sq for key, sq in paid_sq(made).items()}


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_across_an_edge_costs_less(write_policy: WritePolicy, name: str) -> None:
    """5 of 13 readings before midnight, 8 after it: (25 + 64) / 169 of the sensitivity, at each level and indicator."""
    policy = UNITS[name].policy(write_policy, ("15min", "1h", "1d"), 600, cadence_ms=60_000)
    made = plan(policy)
    from_s = Calendar(policy.timezone).midnight(MONDAYS[0])
    pair = worst(made, from_s, split=5)
    distances = distances_sq(*(passed_through(OpenWindows, made, x, from_s, from_s + 3 * DAY_S, 0) for x in pair))
    assert distances == {key: Fraction(25 + 64, 169) * sq for key, sq in paid_sq(made).items()}


@pytest.mark.parametrize("indicator", ["mean", "energy"])
def test_a_limit_between_two_sums_brings_them_no_further_apart(write_policy: WritePolicy, indicator: str) -> None:
    """Sums stop at the limit: one below it and one above it come closer. A sum that began again at 0 is caught."""
    policy = UNITS["sound"].policy(write_policy, ("1d",), 600, cadence_ms=60_000)
    made = plan(policy)
    from_s = Calendar(policy.timezone).midnight(MONDAYS[0])
    pair = worst(made, from_s)

    def sums() -> tuple[Sums, Sums]:
        quiet, loud = (passed_through(OpenWindows, made, x, from_s, from_s + 3 * DAY_S, 0) for x in pair)
        return quiet, loud

    of_the_day = ("1d", from_s + DAY_S)
    low, high = (each[of_the_day].sums[indicator][0] for each in sums())
    limit = (low + high) // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windowing, "VALUE_LIMIT", limit)
        quiet, loud = sums()
    assert (quiet[of_the_day].sums[indicator], loud[of_the_day].sums[indicator]) == ((low,), (limit,))
    assert covered(made, distances_sq(quiet, loud))
    if indicator == "mean":  # whose sum, 1440 readings at the floor, is many times what 13 of them can change
        loud[of_the_day].sums[indicator] = (high % limit,)
        assert not covered(made, distances_sq(quiet, loud))


def test_the_energy_of_a_reading_is_one_monotone_integer_function() -> None:
    """From silence to the loudest that a reading may be, in tenths of a decibel: integers that never fall, and the most
    that one reading can move an energy sum under the level-bounded unit lies between the floor and the level."""
    energies = [energy(level) for level in range(1401)]
    assert all(type(value) is int for value in energies)
    assert energies == sorted(energies)
    assert (energies[0], energies[350], energies[750], energies[1400]) == (1, 3162, 31_622_777, 10**14)


# --- what the level-bounded unit leaves out --------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "louder"), [("sound up to 60 dB", 601), ("puff up to 40", 401)])
def test_what_is_louder_than_the_level_is_not_covered(write_policy: WritePolicy, name: str, louder: int) -> None:
    """As docs/sensitivity.md says: a pair with readings a tenth above the level, in one of them or in both, is further
    apart than the plan pays for. The same event lower by a tenth is covered."""
    policy = UNITS[name].policy(write_policy, ("1h", "1d"), 600, cadence_ms=60_000)
    made = plan(policy)
    stream = policy.streams[0]
    from_s = Calendar(policy.timezone).midnight(MONDAYS[0])
    quiet, _ = worst(made, from_s)
    at_ms = (from_s + DAY_S // 2) * 1000

    def apart(one: int, other: int) -> bool:
        pair = [event(quiet, stream, at_ms, cycle([value])) for value in (one, other)]
        distances = distances_sq(*(passed_through(OpenWindows, made, x, from_s, from_s + 2 * DAY_S, 0) for x in pair))
        return not covered(made, distances)

    assert not apart(stream.bounds[0], louder - 1)
    assert apart(stream.bounds[0], louder)
    # A lorry of 90 dB, and a voice that adds a decibel to it: the same n readings, both above the level.
    assert apart(9 * louder // 6, 9 * louder // 6 + 2 * louder)


# --- twins: the same windows with one thing wrong --------------------------------------------------------------------


class RoundsByTurns(OpenWindows):
    """Rounds energies to one digit, up and down by turns: no longer monotone."""

    def __init__(self, made: Plan, from_s: int) -> None:
        super().__init__(made, from_s)
        for stream in self._streams.values():
            stream.energies = [self._round(level, exact) for level, exact in enumerate(stream.energies)]

    @staticmethod
    def _round(level: int, exact: int) -> int:
        step = int("1" + "0" * (len(str(exact)) - 1))
        return (exact // step + level % 2) * step


class KeepsTheFloorDown(OpenWindows):
    """Adds readings below the floor as they are."""

    def __init__(self, made: Plan, from_s: int) -> None:
        streams = tuple(dataclasses.replace(stream, bounds=(0, stream.bounds[1])) for stream in made.policy.streams)
        super().__init__(dataclasses.replace(made, policy=dataclasses.replace(made.policy, streams=streams)), from_s)


class CountsTheEdgeTwice(OpenWindows):
    """Lets an hour begin a quarter-hour early."""

    def __init__(self, made: Plan, from_s: int) -> None:
        super().__init__(made, from_s)
        for stream in self._streams.values():
            stream.close = self._early(stream)  # type: ignore[method-assign, assignment]

    @staticmethod
    def _early(stream: windowing._Stream) -> Callable[[str], Aggregate]:
        right = stream.close

        def close(level: str) -> Aggregate:
            before = stream.cells.get(stream.next[level].start_s - QUARTER_S)
            aggregate = right(level)
            if before is not None and level == "1h":
                aggregate.sums["mean"] = (aggregate.sums["mean"][0] + before.total,)
            return aggregate

        return close


class FillsHolesWithTheLast(OpenWindows):
    """Lets a slot without a reading repeat the last one instead of a constant fixed in advance."""

    def add(self, stream_id: str, readings: Iterable[tuple[int, int]]) -> None:
        super().add(stream_id, self._filled(readings, self._streams[stream_id].stream.cadence_ms))

    @staticmethod
    def _filled(readings: Iterable[tuple[int, int]], cadence_ms: int) -> Iterator[tuple[int, int]]:
        last: tuple[int, int] | None = None
        for time_ms, value in readings:
            if last is not None:
                yield from ((at_ms, last[1]) for at_ms in range(last[0] + cadence_ms, time_ms, cadence_ms))
            last = (time_ms, value)
            yield last


def paid_for_one_bin(made: Plan) -> Plan:
    """Returns a plan that takes a reading which changes its bin for one change instead of two."""
    right = made.streams["plaza/it"]
    nodes = tuple(
        dataclasses.replace(
            node,
            indicators=tuple(
                dataclasses.replace(item, sensitivity_sq=item.sensitivity_sq // 2) if item.width > 1 else item
                for item in node.indicators
            ),
        )
        for node in right.nodes
    )
    return dataclasses.replace(made, streams={"plaza/it": dataclasses.replace(right, nodes=nodes)})


def same(made: Plan) -> Plan:
    return made


TWINS: dict[str, tuple[Callable[[Plan, int], OpenWindows], Callable[[Plan], Plan], tuple[int, int]]] = {
    "energy rounded by turns": (RoundsByTurns, same, (350, 599)),
    "floor not raised": (KeepsTheFloorDown, same, (0, 600)),
    "an edge counted twice": (CountsTheEdgeTwice, same, (350, 600)),
    "holes filled with the last reading": (FillsHolesWithTheLast, same, (350, 600)),
    "a bin left for nothing": (OpenWindows, paid_for_one_bin, (350, 600)),
}


@pytest.mark.parametrize("which", TWINS)
def test_windows_with_one_thing_wrong_are_caught(write_policy: WritePolicy, which: str) -> None:
    """Two contents of n slots, both at most 60 dB, before the end of an hour and a hole: covered by the real windows
    under the real plan, and not once one thing is wrong."""
    policy = UNITS["sound up to 60 dB"].policy(write_policy, ("15min", "1h", "1d"), 600, cadence_ms=60_000)
    made, stream = plan(policy), policy.streams[0]
    from_s = Calendar(policy.timezone).midnight(MONDAYS[0])
    end_ms = (from_s + 10 * 3600) * 1000
    street = [(t, v) for t, v in worst(made, from_s)[0] if not end_ms <= t < end_ms + 300_000]
    windows, planned, levels = TWINS[which]
    at_ms = end_ms - stream.unit_readings * stream.cadence_ms
    pair = [event(street, stream, at_ms, cycle([level])) for level in levels]
    for rules, pays, right in ((OpenWindows, same, True), (windows, planned, False)):
        sums = (passed_through(rules, made, x, from_s, from_s + 2 * DAY_S, 0) for x in pair)
        assert covered(pays(made), distances_sq(*sums)) is right


# --- the page --------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sensitivity.md"
RECORDINGS = {
    "monitor_m1, 12 h": ("monitor_m1_laeq1s_2025-03-22_am.csv.gz", 43_200),
    "basel_roadside, 30 min": ("basel_roadside_1s_2016-02-24.csv.gz", 86_400),
}
ONE_DAY_OF_ENERGY = """
id = "plaza/noise"
quantity = "noise"
protects = {{ seconds = 15{limit} }}
readings = {{ cadence_ms = 1000, tail = {tail} }}
epsilon = 1.0
nodes = {{ "1d" = 1 }}
indicators = {{ energy = 1 }}
bounds_db = [35, 85]
"""


def sigma(write_policy: WritePolicy, limit: str, tail: int = 11) -> float:
    """Returns the noise on the energy sum of a day, for sounds of 15 s at epsilon 1."""
    (stream,) = plan(write_policy(ONE_DAY_OF_ENERGY.format(limit=limit, tail=tail))).streams.values()
    return stream.nodes[0].indicators[0].sigma_milli / 1000


@pytest.mark.shared
def test_the_table_of_both_units_is_what_the_plan_gives(write_policy: WritePolicy, shared: Path) -> None:
    """Bias, error and what is left out (events of 27 readings, and readings), of each recording under each unit,
    recomputed from plan and recordings."""
    found = {}
    for name, (file, slots) in RECORDINGS.items():
        with gzip.open(shared / "data" / "noise" / file, "rt") as text:
            levels = [float(row["value"]) for row in csv.DictReader(text) if row["metric"] == "laeq_1s"]
        means = {top: sum(10 ** (min(level, top) / 10) for level in levels) / len(levels) for top in (85, 140)}
        row = [f"{10 * log10(means[140]):.2f}", f"{10 * log10(means[85] / means[140]):.2f}"]
        row.append(f"{10 / log(10) * sigma(write_policy, '') / slots / means[85]:.2f}")
        for level in (60, 75):
            row.append(f"{10 / log(10) * sigma(write_policy, f', up_to_db = {level}') / slots / means[140]:.2f}")
            events = [max(levels[at : at + 27]) > level for at in range(len(levels) - 26)]
            row.append(f"{sum(events) / len(events):.2%}".replace("%", " %"))
            row.append(f"{sum(each > level for each in levels) / len(levels):.2%}".replace("%", " %"))
        found[name] = row
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    shown = {line[0]: [cell.replace("−", "-") for cell in line[1:]] for line in lines if line[0] in RECORDINGS}
    assert shown == {name: [cell.replace("-0.00", "0.00") for cell in row] for name, row in found.items()}
    assert round(1 - sigma(write_policy, "", 5) / sigma(write_policy, ""), 2) == 0.22


def test_the_page_names_tests_that_are_there() -> None:
    """Each test named on docs/sensitivity.md is a function of the file that it is said to be in."""
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    named = re.findall(r"(?:`(tests/[\w/]+\.py)`: )?`(test_\w+)`", text)
    functions = {
        name: path.relative_to(PAGE.parents[1]).as_posix()
        for path in sorted(PAGE.parents[1].glob("tests/**/test_*.py"), reverse=True)
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) > 20
    for file, name in named:
        assert name in functions and (not file or functions[name] == file), name
