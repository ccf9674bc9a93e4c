"""The audit's two streets: scripted readings that differ in one unit of privacy, and what that can move in a release.

Nothing here asks the kernel how it adds up: what a canary moves is worked out from the words of the policy.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from murmure_privacy import accountant
from murmure_privacy.aggregate import energy
from murmure_privacy.errors import ConfigError
from murmure_privacy.plan import Plan, StreamPlan, plan
from murmure_privacy.policy import DEFAULT_DELTA, Policy, StreamPolicy, parse
from murmure_privacy.stream import HISTOGRAM_STEP_TENTHS
from murmure_privacy.window import QUARTER_S, Calendar, Window

Placement = Literal["inside", "edge", "before"]
PLACEMENTS: tuple[Placement, ...] = ("inside", "edge", "before")
UNITS = ("crossings", "seconds", "up_to")
Reading = tuple[int, int]
Coordinate = tuple[str, str, int, str, int]
"""One released integer: stream, level, start of the node in seconds, indicator, place in the indicator."""
Coins = tuple[bool, ...]
"""Of each canary of a script, whether it is played."""

_HOUR_S = 3600
_LATE_S = 30  # readings come in batches that end a little after a quarter-hour, as they do from a port
_BELOW = 10  # how far the calm readings that it replaces lie below them
_LIFE_S = 2  # a counter gives a sign of life as often as it must to be published, which is in half of its slots

_STREET = """policy = 1
site = "audit"
version = {version}
timezone = "Europe/Paris"
decision = "murmure audit"
reason = "a street that never was"
valid_from = 2026-06-01
valid_until = 2026-06-21

[[stream]]
id = "audit/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = {epsilon}
nodes = {{ "15min" = {weight}, "1h" = 1, "6h" = 1, "1d" = 1, "1w" = 1 }}

[[stream]]
id = "audit/noise"
quantity = "noise"
protects = {{ seconds = 15 }}
readings = {{ cadence_ms = 5000, tail = 2 }}
epsilon = {epsilon}
nodes = {{ "1h" = {weight}, "1d" = 24 }}
bounds_db = [35, 85]

[[stream]]
id = "audit/noise_75"
quantity = "noise"
protects = {{ seconds = 15, up_to_db = 75 }}
readings = {{ cadence_ms = 5000, tail = 2 }}
epsilon = {epsilon}
nodes = {{ "1h" = {weight}, "1d" = 24 }}
bounds_db = [35, 85]

[[stream]]
id = "audit/pm2_5"
quantity = "pm2_5"
protects = {{ seconds = 60 }}
readings = {{ cadence_ms = 10000, tail = 1 }}
epsilon = {epsilon}
nodes = {{ "1h" = {weight}, "1d" = 24 }}
bounds = [0, 100]

[[stream]]
id = "audit/pm10_60"
quantity = "pm10"
protects = {{ seconds = 60, up_to = 60 }}
readings = {{ cadence_ms = 10000, tail = 1 }}
epsilon = {epsilon}
nodes = {{ "1h" = {weight}, "1d" = 24 }}
bounds = [0, 100]

[[stream]]
id = "audit/parts"
quantity = "noise"
protects = {{ seconds = 15, up_to_db = 75 }}
readings = {{ cadence_ms = 5000, tail = 2 }}
epsilon = {epsilon}
nodes = {{ "1h" = {weight}, day = 24, evening = 24, night = 24 }}
indicators = {{ energy = 1 }}
bounds_db = [35, 85]
"""


@dataclass(frozen=True, slots=True)
class Canary:
    """One unit of privacy of one stream: the instants `[from_s, until_s]` that it touches, and by how much it moves
    each released integer at most if the gateway keeps its promise."""

    stream: StreamPlan
    unit: str
    from_s: int
    until_s: int
    shifts: dict[Coordinate, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings of all streams up to `horizon_s`."""

    horizon_s: int
    readings: tuple[tuple[str, tuple[Reading, ...]], ...]


@dataclass(frozen=True, slots=True)
class Script:
    """A gateway's last hours before `ends_s`, where every node that holds a canary closes; then a restart.

    `without` and `with_canary` are the two streets. `newer` is adopted at `adopts_s`, inside nodes that are open.
    """

    placement: Placement
    plan: Plan
    newer: Plan | None
    boots_s: int
    adopts_s: int
    ends_s: int
    canaries: tuple[Canary, ...]
    without: tuple[Batch, ...]
    with_canary: tuple[Batch, ...]

    def street(self, coins: Coins) -> tuple[Batch, ...]:
        """Returns the street on which only these canaries are played."""
        played = {canary.stream.stream.id for canary, coin in zip(self.canaries, coins, strict=True) if coin}
        return tuple(
            Batch(
                calm.horizon_s,
                tuple(
                    other if other[0] in played else one
                    for one, other in zip(calm.readings, canary.readings, strict=True)
                ),
            )
            for calm, canary in zip(self.without, self.with_canary, strict=True)
        )

    def rounds(self, number: int) -> tuple[Coins, Coins]:
        """Returns the two streets of a round: none and all canaries if `number` is even, else some and the others.

        The odd rounds go through Walsh's functions: over each full turn every canary is played as often with as
        without any other one, so that what one moves is not put down to another.
        """
        some = tuple(
            bool(number % 2 and (number // 2 & code).bit_count() % 2) for code in range(1, len(self.canaries) + 1)
        )
        return some, tuple(not coin for coin in some)


def street(rho: Decimal) -> tuple[Policy, Policy]:
    """Returns the policy of the audit's own street, at `rho` for one unit, and a newer one with other weights.

    All three units of privacy are in it. Its rho is at most the one asked for, to six digits.
    """
    epsilon = accountant.epsilon(rho, DEFAULT_DELTA).quantize(Decimal("1e-9"))
    first, second = (
        parse(_STREET.format(version=version, epsilon=epsilon, weight=weight).encode(), "the audit's own street")
        for version, weight in ((1, 1), (2, 1000))
    )
    return first, second


def unit_of(stream: StreamPolicy) -> str:
    """Returns which of UNITS a stream protects."""
    if stream.quantity.kind == "count":
        return "crossings"
    return "seconds" if stream.up_to is None else "up_to"


def scripts(policy: Policy, newer: Policy | None, streams: Sequence[str], source: str) -> list[Script]:
    """Returns the scripts that audit these streams of a policy: for each placement and each instant at which their
    nodes all close (midnight before a Monday, or 06:00 for parts of the day) one.

    Raises ConfigError if a stream publishes nothing or if none of its nodes can close within the policy's days.
    """
    made = plan(policy, source)
    later = None if newer is None else plan(newer, source)
    ends: dict[int, list[StreamPlan]] = {}
    for stream_id in streams:
        stream = made.streams[stream_id]
        if policy.paused or stream.stream.paused:
            raise ConfigError(source, f"stream {stream_id}", "paused: nothing leaves", "audit another with --stream")
        ends.setdefault(_end(policy, stream.stream, source), []).append(stream)
    found = []
    for placement in PLACEMENTS:
        for ends_s, group in sorted(ends.items()):
            chosen = [
                stream
                for stream in group
                if placement == "inside"
                or _leaf(policy, stream.stream, ends_s).end_s - _leaf(policy, stream.stream, ends_s).start_s <= _HOUR_S
            ]
            if chosen:
                found.append(_script(placement, made, later, chosen, ends_s))
    return found


def _end(policy: Policy, stream: StreamPolicy, source: str) -> int:
    """Returns the first end of a week, else of a day, at which all nodes of a stream close, within its validity."""
    calendar = Calendar(policy.timezone)
    last_s = calendar.midnight(policy.valid_until + timedelta(days=1))
    days = [policy.valid_from + timedelta(days=number) for number in range(1, 15)]
    for day in sorted(days, key=lambda day: day.weekday() != 0):
        ends_s = calendar.period([level for level, _ in stream.nodes], calendar.midnight(day) - 1).end_s
        if ends_s <= last_s:
            return ends_s
    raise ConfigError(source, "valid_until", f"no node of {stream.id} closes before it", "write a later date")


def _leaf(policy: Policy, stream: StreamPolicy, ends_s: int) -> Window:
    """Returns the finest node of a stream that closes at this instant."""
    calendar = Calendar(policy.timezone)
    nodes = [calendar.node(level, ends_s - 1) for level, _ in stream.nodes]
    return max(node for node in nodes if node.end_s == ends_s)


def _script(placement: Placement, made: Plan, newer: Plan | None, streams: Sequence[StreamPlan], ends_s: int) -> Script:
    calendar = Calendar(made.policy.timezone)
    moments = {
        stream.stream.id: _moments(placement, stream.stream, _leaf(made.policy, stream.stream, ends_s))
        for stream in streams
    }
    first_s = min(moment // 1000 for moments_ms in moments.values() for moment in moments_ms)
    boots_s = min(first_s - first_s % QUARTER_S, ends_s - QUARTER_S) - QUARTER_S
    horizons = range(boots_s + QUARTER_S + _LATE_S, ends_s + 2 * QUARTER_S + _LATE_S + 1, QUARTER_S)
    without, with_canary = (
        _batches(
            {
                stream.stream.id: list(
                    _readings(stream.stream, moments[stream.stream.id], canary, boots_s, horizons[-1])
                )
                for stream in streams
            },
            horizons,
        )
        for canary in (False, True)
    )
    canaries = tuple(
        Canary(
            stream,
            unit_of(stream.stream),
            min(moments[stream.stream.id]) // 1000,
            max(moments[stream.stream.id]) // 1000,
            _shifts(stream.stream, moments[stream.stream.id], calendar),
        )
        for stream in streams
    )
    adopts_s = ends_s - QUARTER_S - _LATE_S
    return Script(placement, made, newer, boots_s, adopts_s, ends_s, canaries, without, with_canary)


def _moments(placement: Placement, stream: StreamPolicy, leaf: Window) -> list[int]:
    """Returns when (in ms) the readings come that one unit of privacy adds or changes.

    `inside`: as late as can be before the end, so that all lie in one node of each level if they fit in one. `edge`:
    crossings at the very instant at which a node ends and the next begins, events half on either side of it. `before`:
    as `inside`, an hour earlier, so that nodes close after it that must not know of it.
    """
    n, cadence_ms = stream.unit_readings, stream.cadence_ms
    last_s = leaf.end_s - _HOUR_S if placement == "before" else leaf.end_s
    if stream.quantity.kind == "count":
        return [leaf.start_s * 1000 if placement == "edge" else (last_s - QUARTER_S // 2) * 1000 + 250] * n
    first_ms = leaf.start_s * 1000 - n // 2 * cadence_ms if placement == "edge" else last_s * 1000 - n * cadence_ms
    return [first_ms + number * cadence_ms + cadence_ms // 3 for number in range(n)]


def _readings(
    stream: StreamPolicy, moments_ms: Sequence[int], canary: bool, from_s: int, until_s: int
) -> Iterator[Reading]:
    """Yields one street's readings of a stream in order of time."""
    if stream.quantity.kind == "count":
        passing = [(at_s * 1000 + 500, 1) for at_s in range(from_s, until_s, 7 * 60)]
        life = [(at_s * 1000, 0) for at_s in range(from_s, until_s) if at_s % _LIFE_S == 0]
        yield from sorted([*life, *passing, *((moment, 1) for moment in moments_ms if canary)])
        return
    low, high = stream.bounds
    # An event of any height goes three times as far beyond the bounds as they are wide; one up to a level just there.
    event = stream.highest + (3 * (high - low) if stream.up_to is None else 0)
    changed = set(moments_ms)
    for number, time_ms in enumerate(range(from_s * 1000 + stream.cadence_ms // 3, until_s * 1000, stream.cadence_ms)):
        if time_ms in changed:
            yield time_ms, event if canary else low - _BELOW
        else:
            # Anything may be around it, now and then far beyond bounds and protected level; but the mean stays well
            # within the bounds, where a clamp of the whole sum would not hide how far the event has moved it.
            loud = 2 * (high - low) if number % 16 == 0 else 0
            yield time_ms, low - _BELOW + number * 37 % (high - low) + loud


def _batches(played: dict[str, list[Reading]], horizons: Sequence[int]) -> tuple[Batch, ...]:
    found = []
    begin = dict.fromkeys(played, 0)
    for horizon_s in horizons:
        part = []
        for stream, readings in played.items():
            end = bisect_left(readings, (horizon_s * 1000,))
            part.append((stream, tuple(readings[begin[stream] : end])))
            begin[stream] = end
        found.append(Batch(horizon_s, tuple(part)))
    return tuple(found)


def _shifts(stream: StreamPolicy, moments_ms: Sequence[int], calendar: Calendar) -> dict[Coordinate, int]:
    """Returns by how much the canary may move each released integer.

    What happens at the instant between two nodes is looked for in both of them.
    """
    shifts: dict[Coordinate, int] = {}
    for level, _ in stream.nodes:
        held: Counter[int] = Counter()
        for moment_ms in moments_ms:
            at_s = moment_ms // 1000
            node = calendar.node(level, at_s)
            if at_s in node:
                held[node.start_s] += 1
            if moment_ms == node.start_s * 1000:
                held[calendar.node(level, at_s - 1).start_s] += 1
        for start_s, count in held.items():
            for indicator, _ in stream.indicators:
                for index, step in _steps(stream, indicator):
                    shifts[stream.id, level, start_s, indicator, index] = count * step
    return shifts


def _steps(stream: StreamPolicy, indicator: str) -> Iterator[tuple[int, int]]:
    """Yields (place, change) for one reading that rises from the floor to the highest that is protected."""
    low, high = stream.bounds
    if indicator == "crossings":
        yield 0, 1
    elif indicator == "mean":
        yield 0, stream.highest - low
    elif indicator == "energy":
        yield 0, energy(stream.highest) - energy(low)
    else:
        place = (min(stream.highest, high - 1) - low) // HISTOGRAM_STEP_TENTHS
        if place:
            yield from ((0, -1), (place, 1))
