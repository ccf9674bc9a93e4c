"""The grey box: two streets that differ in one protected unit, with the noise replaced by a recorder.

What leaves may then differ only in the integers that noise would have covered, and those by no more than the policy
pays for. Each check is also run on broken twins of the kernel, which it must catch.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy import plan as planning
from murmure_privacy import wire
from murmure_privacy.aggregate import Aggregate
from murmure_privacy.gate import Gate, Mechanism
from murmure_privacy.ledger import SCHEMA, Ledger
from murmure_privacy.plan import IndicatorPlan, Plan, plan
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.release import Message, Outcome
from murmure_privacy.window import QUARTER_S, Calendar
from murmure_privacy.windowing import OpenWindows

SECRET = bytes(32)
FOREVER_S = 1 << 39
# Ordinary days, and those with 23 and 25 hours.
DAYS = [date(2026, 6, 10), date(2026, 3, 29), date(2026, 10, 25), date(2027, 3, 28), date(2027, 10, 31)]
AIR = """
id = "plaza/pm2_5"
quantity = "pm2_5"
protects = {{ seconds = {seconds}{level} }}
readings = {{ cadence_ms = {cadence_ms}, tail = {tail} }}
epsilon = 1.0
nodes = {{ {nodes} }}
bounds = [0, 100]
"""
SOUND = """
id = "plaza/noise"
quantity = "noise"
protects = {{ seconds = {seconds}{level} }}
readings = {{ cadence_ms = {cadence_ms}, tail = {tail} }}
epsilon = 1.0
nodes = {{ {nodes} }}
bounds_db = [35, 85]
"""
FEET = """
id = "plaza/footfall"
quantity = "footfall"
protects = {{ crossings = {crossings} }}
epsilon = 1.0
nodes = {{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }}
"""
NODES = '"15min" = 1, "1h" = 1, "6h" = 2, "1d" = 24'
NESTINGS = [NODES, '"15min" = 1, "1d" = 2, "1w" = 24', '"1h" = 1, day = 2, evening = 3, night = 2']
LEVELS_OF = {AIR: ["", ", up_to = 40", ", up_to = 900"], SOUND: ["", ", up_to_db = 60", ", up_to_db = 110"]}
Readings = list[tuple[int, int]]


class Recorder:
    """A mechanism that adds nothing and remembers what it was given. For tests alone."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, ...], IndicatorPlan]] = []

    def prepare(self, indicator: IndicatorPlan) -> None:
        """Nothing to make ready."""

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        self.asked.append((exact, indicator))
        return exact


@dataclass
class Seen:
    """What an observer has of a run (times, nodes, lengths), and what noise would have covered."""

    outside: list[object]
    exact: list[tuple[tuple[int, ...], IndicatorPlan]]


@dataclass
class Kernel:
    """The parts of the kernel between reading and sealed bytes; a twin exchanges one of them for a broken one."""

    windows: Callable[[Plan, int], OpenWindows] = OpenWindows
    gate: Callable[[Ledger, Mechanism], Gate] = Gate
    plan: Callable[[Policy], Plan] = plan
    seal: Callable[[Message, bytes], bytes] = wire.seal_message

    def run(self, policy: Policy, readings: Readings, from_s: int, until_s: int, restart_s: int = 0) -> Seen:
        """Plays one stream's readings in arrival order, with windows closed each quarter-hour."""
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.executescript(SCHEMA)
        recorder, made = Recorder(), self.plan(policy)
        gate = self.gate(Ledger(db), recorder)
        windows = self.windows(made, from_s)
        outside: list[object] = []
        stream = policy.streams[0].id
        at = 0
        for now_s in range(from_s + QUARTER_S, until_s + 1, QUARTER_S):
            begin = at
            while at < len(readings) and readings[at][0] < now_s * 1000:
                at += 1
            windows.add(stream, readings[begin:at])
            for closing_s, aggregates in windows.close_due(now_s):
                outcomes = tuple(gate.release(aggregate, made, policy, FOREVER_S) for aggregate in aggregates)
                message = Message("gw-a", "centre", policy.site, 1, len(outside) + 1, bytes(32), closing_s, outcomes)
                nodes = [(type(outcome), outcome.node, getattr(outcome, "reason", None)) for outcome in outcomes]
                outside.append((closing_s, len(self.seal(message, SECRET)), nodes))
            if restart_s and now_s >= restart_s:
                windows, restart_s = self.windows(made, restart_s), 0
        db.close()
        return Seen(outside, recorder.asked)


def complaints(policy: Policy, one: Seen, other: Seen) -> list[str]:
    """Returns what tells the two runs apart beyond what the policy pays for."""
    found = []
    if one.outside != other.outside:
        found.append("messages differ in set, order, times, nodes or lengths")
    if len(one.exact) != len(other.exact):
        return [*found, "another number of draws"]
    # In exact fractions of a micro-rho: the sum over releases of |difference|^2 / (2 sigma^2).
    spent = Fraction(0)
    for (mine, indicator), (theirs, same) in zip(one.exact, other.exact, strict=True):
        if indicator != same:
            return [*found, "draws in another order"]
        distance_sq = sum((a - b) ** 2 for a, b in zip(mine, theirs, strict=True))
        spent += Fraction(distance_sq * 10**12, 2 * indicator.sigma_milli**2)
    budget = plan(policy).streams[policy.streams[0].id].rho_micro
    if spent > budget:
        found.append(f"{float(spent):.1f} micro-rho where {budget} are promised")
    return found


def steady(stream: StreamPolicy, from_s: int, until_s: int, salt: int, twice: bool) -> Readings:
    """Returns readings for every slot (two where `twice`), values all over the range and beyond it."""
    low, high = stream.bounds
    wide = 3 * (high - low) + 7
    step = stream.cadence_ms
    readings = []
    for time_ms in range(from_s * 1000, until_s * 1000, step):
        value = crc32(b"%d %d" % (salt, time_ms)) % wide + low - (high - low)
        readings.append((time_ms + salt % step // 2, value))
        if twice:
            readings.append((time_ms + step - 1, high - value))
    return readings


def event(readings: Readings, stream: StreamPolicy, at_ms: int, values: Iterable[int]) -> Readings:
    """Returns the readings with those of n consecutive slots from `at_ms` on replaced by other values."""
    begin_ms = at_ms - at_ms % stream.cadence_ms
    until_ms = begin_ms + stream.unit_readings * stream.cadence_ms
    fresh = iter(values)
    return [(t, next(fresh) if begin_ms <= t < until_ms else value) for t, value in readings]


def endless(pattern: list[int]) -> Iterator[int]:
    while True:
        yield from pattern


def crossings(readings: Readings, at_ms: Iterable[int]) -> Readings:
    """Returns the readings with one pass more at each of the instants, a reading of its own as drivers give it."""
    return sorted([*readings, *((time_ms, 1) for time_ms in at_ms)])


def beam(from_s: int, until_s: int, silent: int) -> Readings:
    """Returns a counter's readings: a sign of life in all but every `silent`-th minute, and passes now and then."""
    minutes = range(from_s * 1000, until_s * 1000, 60_000)
    alive = [(time_ms, 0) for number, time_ms in enumerate(minutes) if number % silent]
    return sorted(alive + [(time_ms + 7, 1 + time_ms % 3) for time_ms in minutes[::4]])


def span(policy: Policy, day: date) -> tuple[int, int]:
    """Returns the day before's last hours, the day, and the next day's first hours: every kind of edge is inside."""
    calendar = Calendar(policy.timezone)
    return calendar.midnight(day) - 6 * 3600, calendar.day(calendar.midnight(day)).end_s + 25 * 3600


# Offsets in seconds from the day's midnight at which an hour, a quarter, six hours or the day ends.
EDGES_S = st.sampled_from([0, 900, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 22 * 3600, 23 * 3600, 24 * 3600, 25 * 3600])
VALUE = st.one_of(st.sampled_from([-(10**12), 10**12, 0, 350, 850, 1000]), st.integers(-2000, 2000))
FEWER = settings(max_examples=max(20, settings().max_examples // 5))
# A signature has one length: for a property over many runs the signed bytes tell the lengths apart as well.
UNSIGNED = Kernel(seal=lambda message, secret: wire._message_payload(message))


@FEWER
@given(
    kind=st.sampled_from([AIR, SOUND]).flatmap(lambda kind: st.tuples(st.just(kind), st.sampled_from(LEVELS_OF[kind]))),
    nodes=st.sampled_from(NESTINGS),
    day=st.sampled_from(DAYS),
    edge_s=EDGES_S,
    before_readings=st.integers(0, 40),
    seconds=st.sampled_from([60, 300, 1800]),
    tail=st.integers(0, 3),
    pattern=st.lists(VALUE, min_size=1, max_size=4),
    salt=st.integers(0, 10**6),
    twice=st.booleans(),
    restart_s=st.sampled_from([0, 1000, 8 * 3600, 20 * 3600 + 1]),
)
def test_any_sound_or_puff_of_the_protected_length_is_paid_for(
    write_policy: Callable[..., Policy],
    kind: tuple[str, str],
    nodes: str,
    day: date,
    edge_s: int,
    before_readings: int,
    seconds: int,
    tail: int,
    pattern: list[int],
    salt: int,
    twice: bool,
    restart_s: int,
) -> None:
    """n consecutive readings replaced by anything, anywhere, change nothing outside and cost at most the budget; where
    the unit is bounded by a level, by anything up to it in place of anything up to it."""
    text, level = kind
    policy = write_policy(text.format(seconds=seconds, level=level, cadence_ms=60_000, tail=tail, nodes=nodes))
    stream = policy.streams[0]
    highest = 10**12 if stream.up_to is None else stream.up_to
    from_s, until_s = span(policy, day)
    base = steady(stream, from_s, until_s, salt, twice)
    at_ms = (from_s + 6 * 3600 + edge_s) * 1000 - before_readings * stream.cadence_ms
    if stream.up_to is not None:
        base = event(base, stream, at_ms, (min(value, highest) for value in endless(pattern[::-1])))
    changed = event(base, stream, at_ms, (min(value, highest) for value in endless(pattern)))
    restart_s = restart_s and from_s + restart_s
    kernel = UNSIGNED
    seen = kernel.run(policy, base, from_s, until_s, restart_s)
    assert complaints(policy, seen, kernel.run(policy, changed, from_s, until_s, restart_s)) == []


@FEWER
@given(
    day=st.sampled_from(DAYS),
    places_ms=st.lists(st.integers(0, 54 * 3_600_000), min_size=1, max_size=3),
    together=st.booleans(),
    silent=st.sampled_from([2, 3, 15]),
    restart_s=st.sampled_from([0, 1000, 8 * 3600, 20 * 3600 + 1]),
)
def test_any_crossings_are_paid_for(
    write_policy: Callable[..., Policy], day: date, places_ms: list[int], together: bool, silent: int, restart_s: int
) -> None:
    """The protected number of crossings, in one instant or scattered, changes nothing outside and fits the budget."""
    policy = minutely(write_policy(FEET.format(crossings=len(places_ms))))
    from_s, until_s = span(policy, day)
    base = beam(from_s, until_s, silent)
    more = crossings(
        base, [from_s * 1000 + at_ms for at_ms in (places_ms[:1] * len(places_ms) if together else places_ms)]
    )
    restart_s = restart_s and from_s + restart_s
    seen = UNSIGNED.run(policy, base, from_s, until_s, restart_s)
    assert complaints(policy, seen, UNSIGNED.run(policy, more, from_s, until_s, restart_s)) == []


def minutely(policy: Policy) -> Policy:
    """Returns a counting policy whose presence goes by the minute instead of by the second: the same rules, faster."""
    stream = dataclasses.replace(policy.streams[0], cadence_ms=60_000)
    return dataclasses.replace(policy, streams=(stream,))


# --- twins: the same kernel with one thing wrong ---------------------------------------------------------------------


def halved_sensitivity(policy: Policy) -> Plan:
    with pytest.MonkeyPatch.context() as patch:
        right = planning.sensitivity_sq
        patch.setattr(planning, "sensitivity_sq", lambda stream, indicator: max(1, right(stream, indicator) // 4))
        return plan(policy)


def forgotten_tail(policy: Policy) -> Plan:
    streams = tuple(dataclasses.replace(stream, tail=0) for stream in policy.streams)
    made = plan(dataclasses.replace(policy, streams=streams))
    return dataclasses.replace(made, policy=policy)


@contextmanager
def other_rules(windows: OpenWindows, **changes: object) -> Iterator[None]:
    """Lets each stream be added to under other rules than the policy's."""
    streams = windows._streams.values()
    right = [stream.stream for stream in streams]
    for stream in streams:
        stream.stream = dataclasses.replace(stream.stream, **changes)  # type: ignore[arg-type]
    yield
    for stream, policy in zip(streams, right, strict=True):
        stream.stream = policy


class ClampsTheSum(OpenWindows):
    """Adds readings as they come and clamps what they add up to."""

    def add(self, stream_id: str, readings: Iterable[tuple[int, int]]) -> None:
        with other_rules(self, bounds=(-(10**15), 10**15)):
            super().add(stream_id, readings)

    def close_due(self, now_s: int) -> list[tuple[int, list[Aggregate]]]:
        due = super().close_due(now_s)
        for _, aggregates in due:
            for aggregate in aggregates:
                low, high = (bound * aggregate.node.slots for bound in aggregate.node.bounds)
                aggregate.sums = {"mean": (min(max(aggregate.sums["mean"][0], low), high),)}
        return due


class KeepsBelowTheFloor(OpenWindows):
    """Adds readings as they are where only the upper clamp should be missing."""

    def add(self, stream_id: str, readings: Iterable[tuple[int, int]]) -> None:
        with other_rules(self, bounds=(-(10**15), 10**15)):
            super().add(stream_id, readings)


class CountsEveryReading(OpenWindows):
    """Takes a second reading in a slot as a reading of its own."""

    def add(self, stream_id: str, readings: Iterable[tuple[int, int]]) -> None:
        with other_rules(self, cadence_ms=30_000):
            super().add(stream_id, readings)


class LooksAway(OpenWindows):
    """Drops readings that look implausible, so that `present` tells of values."""

    def add(self, stream_id: str, readings: Iterable[tuple[int, int]]) -> None:
        super().add(stream_id, [(time_ms, value) for time_ms, value in readings if value <= 1000])


class HidesFew(Gate):
    """Withholds where little was counted."""

    def release(self, aggregate: Aggregate, plan: Plan, newest: Policy, publish_until_s: int) -> Outcome:
        if sum(aggregate.sums[next(iter(aggregate.sums))]) < 100:
            return self.withhold(aggregate.node, "sensor_absent")
        return super().release(aggregate, plan, newest, publish_until_s)


def short_integers(message: Message, secret: bytes) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_integers", lambda values: b"".join(b"%d " % value for value in values))
        return wire.seal_message(message, secret)


class TakesAPassForLife(OpenWindows):
    """Counts a slot as present because somebody passed."""

    def add(self, stream_id: str, readings: Iterable[tuple[int, int]]) -> None:
        super().add(stream_id, [(time_ms, kept) for time_ms, value in readings for kept in {value, 0}])


FEET_TWINS = {
    "real": Kernel(),
    "sensitivity halved": Kernel(plan=halved_sensitivity),
    "a pass taken for a sign of life": Kernel(windows=TakesAPassForLife),
}


@pytest.mark.parametrize("which", FEET_TWINS)
def test_a_counting_kernel_with_one_thing_wrong_is_caught(which: str, write_policy: Callable[..., Policy]) -> None:
    """The check on crossings fails on each twin with one thing wrong."""
    policy = minutely(write_policy(FEET.format(crossings=6)))
    from_s = Calendar(policy.timezone).midnight(DAYS[0])
    until_s = from_s + 86400
    base = beam(from_s, until_s, silent=2)
    more = crossings(base, [(from_s + 3600) * 1000 + 120_000 * number for number in range(6)])
    one, other = (FEET_TWINS[which].run(policy, readings, from_s, until_s) for readings in (base, more))
    assert (complaints(policy, one, other) == []) == (which == "real")


AIR_TWINS = {
    "real": Kernel(),
    "sensitivity halved": Kernel(plan=halved_sensitivity),
    "memory of the sensor forgotten": Kernel(plan=forgotten_tail),
    "clamp after the sum": Kernel(windows=ClampsTheSum),
    "second reading of a slot counted": Kernel(windows=CountsEveryReading),
    "implausible readings dropped": Kernel(windows=LooksAway),
    "suppression by value": Kernel(gate=HidesFew),
    "length by value": Kernel(seal=short_integers),
}


@pytest.mark.parametrize("which", AIR_TWINS)
def test_a_kernel_with_one_thing_wrong_is_caught(which: str, write_policy: Callable[..., Policy]) -> None:
    """The check that the kernel passes fails on each twin with one thing wrong."""
    policy = write_policy(AIR.format(seconds=300, level="", cadence_ms=60_000, tail=2, nodes=NODES))
    stream = policy.streams[0]
    calendar = Calendar(policy.timezone)
    from_s = calendar.midnight(DAYS[0])
    until_s = from_s + 86400
    quiet = [(t * 1000 + offset, 0) for t in range(from_s, until_s, 60) for offset in (0, 30_000)]
    loud = event(quiet, stream, (from_s + 12 * 3600) * 1000, endless([100_000]))
    kernel = AIR_TWINS[which]
    one, other = (kernel.run(policy, readings, from_s, until_s) for readings in (quiet, loud))
    assert (complaints(policy, one, other) == []) == (which == "real")


LEVEL_TWINS = {
    "real": Kernel(),
    "louder than the level promised": Kernel(),
    "floor not raised": Kernel(windows=KeepsBelowTheFloor),
}


@pytest.mark.parametrize("which", LEVEL_TWINS)
def test_a_level_bounded_kernel_with_one_thing_wrong_is_caught(which: str, write_policy: Callable[..., Policy]) -> None:
    """Up to the level nothing is learned; above it is outside of the promise, and the check says so; so it does where
    readings below the floor count as less than the floor."""
    policy = write_policy(AIR.format(seconds=300, level=", up_to = 40", cadence_ms=60_000, tail=2, nodes=NODES))
    stream = policy.streams[0]
    from_s = Calendar(policy.timezone).midnight(DAYS[0])
    until_s = from_s + 86400
    base = [(t * 1000, 900) for t in range(from_s, until_s, 60)]
    noon_ms = (from_s + 12 * 3600) * 1000
    most = 401 if which == "louder than the level promised" else 400
    least = -900 if which == "floor not raised" else 0
    quiet, loud = (event(base, stream, noon_ms, endless([value])) for value in (least, most))
    one, other = (LEVEL_TWINS[which].run(policy, readings, from_s, until_s) for readings in (quiet, loud))
    assert (complaints(policy, one, other) == []) == (which == "real")
