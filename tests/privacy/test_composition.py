"""What all nodes together cost one instant, over restarts, clock changes and retries; and that noise is drawn once."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy.accountant import epsilon
from murmure_privacy.aggregate import Aggregate
from murmure_privacy.errors import AlreadyReleased, ConfigError
from murmure_privacy.gate import Gate, Tank
from murmure_privacy.ledger import SCHEMA, Ledger
from murmure_privacy.plan import IndicatorPlan, NodePlan, Plan, StreamPlan, plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Node, Outcome, Release, Withheld
from murmure_privacy.window import PARTS, QUARTER_S, Calendar, Window
from murmure_privacy.windowing import OpenWindows

FOREVER_S = 1 << 39
DAYS = [date(2026, 6, 10), date(2026, 3, 29), date(2026, 10, 25), date(2027, 3, 28), date(2027, 10, 31)]
ZONES = ["Europe/Paris", "UTC", "America/Havana", "Pacific/Auckland"]
FOOTFALL = """
id = "plaza/footfall"
quantity = "footfall"
protects = {{ crossings = {crossings} }}
epsilon = {epsilon}
nodes = {{ {nodes} }}
"""
AIR = """
id = "plaza/pm10"
quantity = "pm10"
protects = {{ seconds = {crossings} }}
readings = {{ cadence_ms = 1000, tail = 2 }}
epsilon = {epsilon}
nodes = {{ {nodes} }}
bounds = [0, 100]
"""


class Counted:
    """A mechanism that counts draws, for tests alone: noise here is zero."""

    def __init__(self) -> None:
        self.draws: Counter[tuple[int, ...]] = Counter()

    def prepare(self, indicator: IndicatorPlan) -> None:
        """Nothing to make ready."""

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        self.draws[exact] += 1
        return exact


def ledger(kind: type[Ledger] = Ledger) -> Ledger:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(SCHEMA)
    return kind(db)


def closed_nodes(windows: OpenWindows, until_s: int) -> list[Aggregate]:
    """Returns what closes until then, each node as if its sensor had always been there."""
    closed = [aggregate for _, aggregates in windows.close_due(until_s) for aggregate in aggregates]
    for aggregate in closed:
        aggregate.node = dataclasses.replace(aggregate.node, present=20)
    return closed


class Street:
    """Windows, gate and ledger of one gateway that is started again and again; twins change one method."""

    ledger_kind: type[Ledger] = Ledger

    def __init__(self, policy: Policy) -> None:
        self.policy, self.plan = policy, self.make_plan(policy)
        self.ledger = ledger(self.ledger_kind)

    def make_plan(self, policy: Policy) -> Plan:
        return plan(policy)

    def windows(self, from_s: int) -> OpenWindows:
        return OpenWindows(self.plan, from_s)

    def live(self, starts_s: Sequence[int], end_s: int) -> list[Outcome]:
        """Returns every outcome of a life that begins anew at each of the instants, in order."""
        outcomes: list[Outcome] = []
        gate = Gate(self.ledger, Counted())
        for number, start_s in enumerate(starts_s):
            until_s = starts_s[number + 1] if number + 1 < len(starts_s) else end_s
            for aggregate in closed_nodes(self.windows(start_s), until_s):
                if not self.ledger.closed(aggregate.node):
                    outcomes.append(gate.release(aggregate, self.plan, self.policy, FOREVER_S))
        return outcomes


def overspent(policy: Policy, outcomes: Sequence[Outcome]) -> list[str]:
    """Returns the quarter-hours whose releases cost more than the policy says, recomputed from noise and unit."""
    right = plan(policy)
    cost: dict[tuple[str, int], Fraction] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Release):
            continue
        node = outcome.node
        level = right.streams[node.stream].node(node.level)
        paid = Fraction(0)
        for noised, planned in zip(outcome.noised, level.indicators if level else (), strict=True):
            # Exact micro-rho of what was drawn, whatever the ledger says of it.
            paid += Fraction(planned.sensitivity_sq * 10**12, 2 * noised.sigma_milli**2)
        for at_s in range(node.covered_from_s, node.end_s, QUARTER_S):
            cost[node.stream, at_s] = cost.get((node.stream, at_s), Fraction(0)) + paid
    return [
        f"{stream} at {at_s}: {float(paid)} of {right.streams[stream].rho_micro}"
        for (stream, at_s), paid in cost.items()
        if paid > right.streams[stream].rho_micro
    ]


WEIGHT = st.one_of(
    st.integers(1, 1000).map(str), st.decimals("0.001", 10, places=3).map(str).filter(lambda text: float(text) > 0)
)
NODES = st.sampled_from([("15min", "1h", "6h", "1d", "1w"), ("15min", "1h", *PARTS)]).flatmap(
    lambda levels: st.dictionaries(st.sampled_from(levels), WEIGHT, min_size=1)
)


@settings(max_examples=max(40, settings().max_examples // 2))
@given(
    kind=st.sampled_from([FOOTFALL, AIR]),
    nodes=NODES,
    epsilon=st.sampled_from(["0.05", "0.5", "1", "3.7", "20"]),
    crossings=st.integers(1, 60),
    zone=st.sampled_from(ZONES),
    day=st.sampled_from(DAYS),
    starts_s=st.lists(st.integers(0, 2 * 86400), min_size=1, max_size=5).map(sorted),
)
def test_no_instant_is_spent_beyond_the_policy(
    write_policy: Callable[..., Policy],
    kind: str,
    nodes: dict[str, str],
    epsilon: str,
    crossings: int,
    zone: str,
    day: date,
    starts_s: list[int],
) -> None:
    """Whatever nodes, weights, restarts and clock changes: the releases that contain an instant cost its budget."""
    listed = ", ".join(f'"{level}" = {weight}' for level, weight in nodes.items())
    policy = write_policy(kind.format(nodes=listed, epsilon=epsilon, crossings=crossings), timezone=zone)
    try:
        street = Street(policy)
    except ConfigError:
        return  # a weight so small that its node gets less than a micro-rho is refused
    begin_s = Calendar(zone).midnight(day) - 86400
    days = 9 if "1w" in nodes else 3
    outcomes = street.live([begin_s + start_s for start_s in starts_s], begin_s + days * 86400 + 7200)
    assert overspent(policy, outcomes) == []
    assert [outcome for outcome in outcomes if isinstance(outcome, Withheld)] == []
    keys = [outcome.node.key for outcome in outcomes]
    assert len(keys) == len(set(keys))


# --- twins -----------------------------------------------------------------------------------------------------------


class LevelNotCharged(Street):
    """Its ledger lets quarter-hours go for nothing, and its plan spends on the others what that saved."""

    class ledger_kind(Ledger):
        def charge(self, node: Node, rho_micro: int, budget_rho_micro: int) -> None:
            if node.level != "15min":
                super().charge(node, rho_micro, budget_rho_micro)

    def make_plan(self, policy: Policy) -> Plan:
        right = plan(policy)
        stream = right.streams["plaza/footfall"]
        coarse = dataclasses.replace(policy.streams[0], nodes=policy.streams[0].nodes[1:])
        others = plan(dataclasses.replace(policy, streams=(coarse,))).streams["plaza/footfall"].nodes
        nodes = (*stream.nodes[:1], *others)
        return dataclasses.replace(right, streams={"plaza/footfall": dataclasses.replace(stream, nodes=nodes)})


class EdgeInTwoNodes(Street):
    """Each node begins a quarter-hour early, so that an edge lies in two; its ledger looks at instants only."""

    class ledger_kind(Ledger):
        def spent_rho_micro(self, stream: str, from_s: int, until_s: int) -> int:
            return super().spent_rho_micro(stream, from_s + QUARTER_S, until_s)

    def live(self, starts_s: Sequence[int], end_s: int) -> list[Outcome]:
        class Early(Calendar):
            def _node(self, level: str, at_s: int) -> Window:
                right = super()._node(level, at_s)
                return Window(right.start_s - QUARTER_S, right.end_s)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("murmure_privacy.windowing.Calendar", Early)
            return super().live(starts_s, end_s)


class OpensAgainFromTheStart(Street):
    """After a restart it forgets that a node was released, and covers its whole hours again."""

    class ledger_kind(Ledger):
        def closed(self, node: Node) -> bool:
            return False

        def charge(self, node: Node, rho_micro: int, budget_rho_micro: int) -> None:
            """Charges nothing."""

    def windows(self, from_s: int) -> OpenWindows:
        return super().windows(from_s - 7200)


@pytest.mark.parametrize("kind", [Street, LevelNotCharged, EdgeInTwoNodes, OpensAgainFromTheStart])
def test_a_street_that_overspends_is_caught(kind: type[Street], write_policy: Callable[..., Policy]) -> None:
    """The count of what instants cost fails on each twin, and on no real street."""
    policy = write_policy("footfall")
    begin_s = Calendar("Europe/Paris").midnight(DAYS[0])
    outcomes = kind(policy).live([begin_s, begin_s + 12 * 3600], begin_s + 86400)
    assert (overspent(policy, outcomes) == []) == (kind is Street)


@pytest.mark.parametrize("lost", [1, 5, 1000])
def test_an_older_ledger_spends_nothing_again(lost: int, write_policy: Callable[..., Policy]) -> None:
    """A card restored without its last lines overspends no instant: what opens after a start is yet to come."""

    class Restored(Street):
        def windows(self, from_s: int) -> OpenWindows:
            db = self.ledger._db
            db.execute("DROP TRIGGER IF EXISTS charges_keep")
            db.execute("DELETE FROM charges WHERE line > (SELECT max(line) FROM charges) - ?", (lost,))
            self.ledger.rewind()
            return super().windows(from_s)

    policy = write_policy("footfall")
    begin_s = Calendar("Europe/Paris").midnight(DAYS[0])
    outcomes = Restored(policy).live(
        [begin_s, begin_s + 40_000, begin_s + 41_000, begin_s + 86_400], begin_s + 2 * 86400
    )
    assert overspent(policy, outcomes) == []


def test_the_ledger_holds_where_the_plan_fails(write_policy: Callable[..., Policy]) -> None:
    """If a plan gives every level the whole budget, the ledger withholds what no longer fits (`cap`)."""

    class Generous(Street):
        def make_plan(self, policy: Policy) -> Plan:
            right = plan(policy)
            stream = right.streams["plaza/footfall"]
            alone = dataclasses.replace(policy.streams[0], nodes=policy.streams[0].nodes[:1])
            whole = plan(dataclasses.replace(policy, streams=(alone,))).streams["plaza/footfall"].nodes[0]
            nodes = tuple(NodePlan(node.level, whole.indicators) for node in stream.nodes)
            return dataclasses.replace(right, streams={"plaza/footfall": dataclasses.replace(stream, nodes=nodes)})

    policy = write_policy("footfall")
    begin_s = Calendar("Europe/Paris").midnight(DAYS[0])
    outcomes = Generous(policy).live([begin_s], begin_s + 86400)
    assert overspent(policy, outcomes) == []
    assert {outcome.node.level for outcome in outcomes if isinstance(outcome, Release)} == {"15min"}
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, Withheld)} == {"cap"}


def changed_at(first: Policy, second: Policy, change_s: int, begin_s: int, end_s: int) -> list[Outcome]:
    """Returns the outcomes of a street whose policy changes at an instant, in one ledger."""
    book, outcomes = ledger(), []
    for policy, from_s, until_s in ((first, begin_s, change_s), (second, change_s, end_s)):
        made = plan(policy)
        windows = OpenWindows(made, from_s)
        # Before midnight only a broken gateway would close what is open and go on under other scales.
        windows.until_s = until_s
        gate = Gate(book, Counted())
        for aggregate in closed_nodes(windows, until_s):
            if not book.closed(aggregate.node):
                outcomes.append(gate.release(aggregate, made, policy, FOREVER_S))
    return outcomes


def paid(outcomes: Sequence[Outcome], at_s: int) -> int:
    """Returns what the releases that contain an instant were charged."""
    return sum(
        noised.rho_micro
        for outcome in outcomes
        if isinstance(outcome, Release) and outcome.node.covered_from_s <= at_s < outcome.node.end_s
        for noised in outcome.noised
    )


@pytest.mark.parametrize("day", DAYS)
def test_a_policy_that_changes_at_midnight_overspends_nothing(write_policy: Callable[..., Policy], day: date) -> None:
    """Each instant is charged under the policy of its own day alone, also where days have 23 hours."""
    policies = {
        epsilon: write_policy("footfall", swap=(("epsilon = 1.0", f"epsilon = {epsilon}"),)) for epsilon in ("0.5", "3")
    }
    calendar = Calendar("Europe/Paris")
    midnight_s = calendar.midnight(day)
    begin_s, end_s = calendar.day(midnight_s - 1).start_s, calendar.day(midnight_s).end_s
    for old, new in (("0.5", "3"), ("3", "0.5")):
        outcomes = changed_at(policies[old], policies[new], midnight_s, begin_s, end_s)
        limits = {name: plan(policy).streams["plaza/footfall"].rho_micro for name, policy in policies.items()}
        for at_s in range(begin_s, end_s, QUARTER_S):
            limit = limits[old if at_s < midnight_s else new]
            assert 0.999 * limit <= paid(outcomes, at_s) <= limit


def test_a_policy_that_changes_at_noon_would_overspend(write_policy: Callable[..., Policy]) -> None:
    """The broken twin of the rule: nodes of new scales inside a day of old ones charge an instant beyond both budgets,
    though epsilon stays the same."""
    every = '{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }'
    fine = plan(write_policy("footfall", swap=((every, '{ "15min" = 1000, "1d" = 0.001 }'),)))
    coarse = plan(write_policy("footfall", swap=((every, '{ "15min" = 0.001, "1d" = 1000 }'),)))
    (quarter, _), (_, day) = fine.streams["plaza/footfall"].nodes, coarse.streams["plaza/footfall"].nodes
    budget = fine.streams["plaza/footfall"].rho_micro
    assert quarter.rho_micro + day.rho_micro > 1.9 * budget


# --- the cap ---------------------------------------------------------------------------------------------------------


def largest_spends(policy: Policy, outcomes: Sequence[Outcome], days: Sequence[Window]) -> list[int]:
    """Returns for each day the most that the releases of one instant of it were charged together."""
    found = []
    for day in days:
        near = [one for one in outcomes if one.node.covered_from_s < day.end_s and day.start_s < one.node.end_s]
        found.append(max(paid(near, at_s) for at_s in range(day.start_s, day.end_s, QUARTER_S)))
    return found


def stream_days(policy: Policy, from_s: int, until_s: int) -> list[Window]:
    levels = [level for level, _ in policy.streams[0].nodes if level != "1w"]
    calendar, days = Calendar(policy.timezone), []
    while from_s < until_s:
        days.append(calendar.period(levels, from_s))
        from_s = days[-1].end_s
    return days


def capped(write_policy: Callable[..., Policy], nodes: str, span: str, units: int, days: float) -> Policy:
    """Returns a policy whose cap lasts for so many whole days of one unit, squared, each."""
    budget = plan(write_policy(FOOTFALL.format(nodes=nodes, epsilon="1", crossings=1))).streams["plaza/footfall"]
    limit = epsilon(Decimal(budget.rho_micro) / 1_000_000 * Decimal(units * units * days), Decimal("1e-6"))
    cap = f'cap = {{ units_per_day = {units}, span = "{span}", epsilon = {limit + Decimal("1e-9"):f} }}'
    return write_policy(FOOTFALL.format(nodes=nodes, epsilon="1", crossings=1) + cap)


SPAN_DAYS = {"1d": 1, "1w": 7, "30d": 30, "1y": 365}
WHOLE_DAYS = ('"15min" = 1, "1d" = 1', '"6h" = 1, "1d" = 3', "evening = 1, night = 1, day = 1")


@settings(max_examples=max(15, settings().max_examples // 6), deadline=None)
@given(
    nodes=st.sampled_from([*WHOLE_DAYS, '"6h" = 1, "1w" = 3', '"1d" = 1, "1w" = 1']),
    span=st.sampled_from(["1d", "1w", "30d"]),
    units=st.integers(1, 3),
    days=st.sampled_from([1, 1.5, 2, 3.2, 6, 8]),
    day=st.sampled_from(DAYS),
    starts_s=st.lists(st.integers(0, 12 * 86400), min_size=1, max_size=4).map(sorted),
)
def test_no_span_of_days_is_spent_beyond_the_cap(
    write_policy: Callable[..., Policy],
    nodes: str,
    span: str,
    units: int,
    days: float,
    day: date,
    starts_s: list[int],
) -> None:
    """Over any such number of consecutive days, the squared units times each day's largest spend stay within the cap,
    and a day is published whole or withheld whole."""
    policy = capped(write_policy, nodes, span, units, days)
    begin_s = Calendar(policy.timezone).midnight(day)
    end_s = begin_s + 16 * 86400
    outcomes = Street(policy).live([begin_s + start_s for start_s in starts_s], end_s)
    every = stream_days(policy, begin_s, end_s)
    spends = largest_spends(policy, outcomes, every)
    limit = plan(policy).streams["plaza/footfall"].cap_rho_micro
    assert limit is not None and any(spends)
    for last in range(len(every)):
        assert units**2 * sum(spends[max(0, last + 1 - SPAN_DAYS[span]) : last + 1]) <= limit
    for window in every:
        words = {
            type(outcome)
            for outcome in outcomes
            if outcome.node.level != "1w" and window.start_s <= outcome.node.covered_from_s < window.end_s
        }
        assert len(words) <= 1


def test_a_tank_empties_and_fills_again(write_policy: Callable[..., Policy]) -> None:
    """Three days of seven: each day is published as soon as the seven days that end with it hold at most three."""
    policy = capped(write_policy, '"1h" = 1, "1d" = 1', "1w", 1, 3)
    begin_s = Calendar(policy.timezone).midnight(DAYS[0])
    outcomes = Street(policy).live([begin_s], begin_s + 16 * 86400)
    days = [type(outcome) is Release for outcome in outcomes if outcome.node.level == "1d"]
    assert days == [True] * 3 + [False] * 4 + [True] * 3 + [False] * 4 + [True] * 2
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, Withheld)} == {"cap"}


@pytest.mark.parametrize("wrong", ["charges what was spent so far", "forgets the open week", "a week at a time", None])
def test_a_tank_with_a_leak_is_caught(write_policy: Callable[..., Policy], wrong: str | None) -> None:
    """Twins: one looks at the day's spend so far instead of at the whole day, one at the days of an open week as if
    the week cost nothing, one counts by the calendar's weeks. The count over any seven days catches each."""
    nodes = '"6h" = 1, "1d" = 1, "1w" = 4' if wrong == "forgets the open week" else '"6h" = 1, "1d" = 1'
    policy = capped(write_policy, nodes, "1w", 1, 2.5 if wrong != "forgets the open week" else 6.7)
    begin_s = Calendar(policy.timezone).midnight(DAYS[0])
    real = Tank._before

    def leaky(self: Tank, day: Window, stream: StreamPlan, days: int, calendar: Calendar) -> int:
        if wrong == "charges what was spent so far":
            return real(self, day, stream, days, calendar) - stream.rho_micro
        if wrong == "forgets the open week":
            total = 0
            for _ in range(days - 1):
                day = calendar.day(day.start_s - 1)
                total += self._spent(stream, day)
            return total
        if wrong == "a week at a time":
            days = 1 + calendar.civil_day(day.start_s).weekday()
        return real(self, day, stream, days, calendar)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tank, "_before", leaky)
        outcomes = Street(policy).live([begin_s], begin_s + 16 * 86400)
    spends = largest_spends(policy, outcomes, stream_days(policy, begin_s, begin_s + 16 * 86400))
    limit = plan(policy).streams["plaza/footfall"].cap_rho_micro
    assert limit is not None
    over = any(sum(spends[max(0, last - 6) : last + 1]) > limit for last in range(len(spends)))
    assert over == (wrong is not None)


def test_a_cap_counts_what_an_older_policy_spent_in_the_same_week(write_policy: Callable[..., Policy]) -> None:
    """The days of a week that is still open count with what they really cost where that is more than the budget now."""
    first = write_policy(FOOTFALL.format(nodes='"1h" = 1, "1d" = 1', epsilon="2", crossings=1))
    second = capped(write_policy, '"1h" = 1, "1w" = 1', "1w", 1, 3)
    calendar = Calendar("Europe/Paris")
    monday_s = calendar.node("1w", calendar.midnight(DAYS[0])).start_s
    outcomes = changed_at(first, second, monday_s + 86_400, monday_s, monday_s + 3 * 86_400)
    assert plan(first).streams["plaza/footfall"].rho_micro > 3 * plan(second).streams["plaza/footfall"].rho_micro
    assert {type(outcome) for outcome in outcomes if outcome.node.policy == first.hash} == {Release}
    mine = [outcome for outcome in outcomes if outcome.node.policy == second.hash]
    assert mine and {getattr(outcome, "reason", "released") for outcome in mine} == {"cap"}


def test_a_cap_without_room_for_a_day_is_refused(write_policy: Callable[..., Policy]) -> None:
    """One line names the stream and the key."""
    with pytest.raises(ConfigError, match=r"stream plaza/footfall: cap.epsilon: no day fits"):
        plan(capped(write_policy, '"1h" = 1', "1y", 2, 0.9))


# --- once, for ever --------------------------------------------------------------------------------------------------


class RedrawsOnRetry(Gate):
    """Answers a second request for a node with fresh noise."""

    def release(self, aggregate: Aggregate, plan: Plan, newest: Policy, publish_until_s: int) -> Outcome:
        try:
            return super().release(aggregate, plan, newest, publish_until_s)
        except AlreadyReleased:
            return super().release(
                Aggregate(dataclasses.replace(aggregate.node, start_s=aggregate.node.start_s + 1), aggregate.sums),
                plan,
                newest,
                publish_until_s,
            )


class ForgetsWhatItWrote(Ledger):
    """Looks for a node by where it begins to be covered, so that a restart makes another node of it."""

    def closed(self, node: Node) -> bool:
        return any((line.stream, line.covered_from_s) == (node.stream, node.covered_from_s) for line in self.lines())

    def charge(self, node: Node, rho_micro: int, budget_rho_micro: int) -> None:
        if self.closed(node):
            raise AlreadyReleased("closed")
        start_s = node.covered_from_s
        self._append(dataclasses.replace(node, start_s=start_s), rho_micro, None)


def draws_of_one_node(gate_kind: type[Gate], ledger_kind: type[Ledger], policy: Policy) -> int:
    """Returns how often noise is drawn for one hour that is asked for twice, then again after a restart inside it."""
    made = plan(policy)
    mechanism = Counted()
    gate = gate_kind(ledger(ledger_kind), mechanism)
    begin_s = Calendar("Europe/Paris").midnight(DAYS[0])
    for start_s in (begin_s, begin_s, begin_s + 1800):
        hour = next(a for a in closed_nodes(OpenWindows(made, start_s), begin_s + 3600) if a.node.level == "1h")
        hour.sums = {"crossings": (77,)}
        try:
            gate.release(hour, made, policy, FOREVER_S)
        except AlreadyReleased:
            continue
    return mechanism.draws[(77,)]


@pytest.mark.parametrize(
    ("gate_kind", "ledger_kind", "draws"),
    [(Gate, Ledger, 1), (RedrawsOnRetry, Ledger, 2), (Gate, ForgetsWhatItWrote, 2)],
)
def test_a_node_is_drawn_once_for_ever(
    gate_kind: type[Gate], ledger_kind: type[Ledger], draws: int, write_policy: Callable[..., Policy]
) -> None:
    """Asked again, or after a restart, a node is refused before anything is drawn; twins draw a second time."""
    assert draws_of_one_node(gate_kind, ledger_kind, write_policy("footfall")) == draws
