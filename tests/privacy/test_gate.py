"""The single door: whether a node leaves is decided by policy, clock, ledger and presence, in that order."""

from __future__ import annotations

import dataclasses
import functools
import sqlite3
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_privacy.aggregate import Aggregate
from murmure_privacy.errors import AlreadyReleased, PrivacyError
from murmure_privacy.gate import PRESENT_AT_LEAST, Gate
from murmure_privacy.ledger import SCHEMA, Ledger
from murmure_privacy.plan import IndicatorPlan, NodePlan, Plan, plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Node, Noised, Release, Withheld

planned = functools.cache(plan)
HOUR_S = 1_790_000_000 - 1_790_000_000 % 3600


class Echo:
    """A mechanism for tests alone: it adds nothing and counts."""

    def __init__(self) -> None:
        self.drawn = 0

    def prepare(self, indicator: IndicatorPlan) -> None:
        """Nothing to make ready."""

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        self.drawn += 1
        return exact


class Door:
    def __init__(self, policy: Policy) -> None:
        self.policy, self.plan, self.echo = policy, planned(policy), Echo()
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.executescript(SCHEMA)
        self.ledger = Ledger(self.db)
        self.gate = Gate(self.ledger, self.echo)

    def hour(self, present: int = 20, stream: str = "plaza/footfall", level: str = "1h", value: int = 7) -> Aggregate:
        node = Node(stream, "footfall", level, HOUR_S, HOUR_S + 3600, HOUR_S, present, 1000, (0, 0), self.policy.hash)
        return Aggregate(node, {"crossings": (value,)})

    def ask(
        self, aggregate: Aggregate, newest: Policy | None = None, until_s: int = HOUR_S + 3600, plan: Plan | None = None
    ) -> Release | Withheld:
        return self.gate.release(aggregate, plan or self.plan, newest or self.policy, until_s)


@pytest.fixture
def door(write_policy: Callable[..., Policy]) -> Door:
    return Door(write_policy("footfall"))


def paused(policy: Policy) -> Policy:
    return dataclasses.replace(policy, paused=True)


def stream_paused(policy: Policy) -> Policy:
    return dataclasses.replace(policy, streams=(dataclasses.replace(policy.streams[0], paused=True),))


def dropped(policy: Policy) -> Policy:
    return dataclasses.replace(policy, streams=())


def test_a_node_is_charged_and_drawn(door: Door) -> None:
    """A release carries the drawn integers with sigma and charge of the plan, and the ledger has its line."""
    outcome = door.ask(door.hour())
    assert outcome == Release(door.hour().node, (Noised("crossings", (7,), 9458, 5590),))
    assert [(line.rho_micro, line.reason) for line in door.ledger.lines()] == [(5590, None)]


@pytest.mark.parametrize(
    ("newest", "until_s", "present", "full", "reason"),
    [
        (dropped, 0, 0, True, "no_policy"),
        (paused, 0, 0, True, "paused"),
        (stream_paused, 0, 0, True, "paused"),
        (None, HOUR_S + 3599, 0, True, "expired"),
        (None, HOUR_S + 3600, PRESENT_AT_LEAST - 1, True, "sensor_absent"),
        (None, HOUR_S + 3600, PRESENT_AT_LEAST, True, "cap"),
        (None, HOUR_S + 3600, PRESENT_AT_LEAST, False, None),
    ],
)
def test_reasons_come_in_order(
    door: Door,
    newest: Callable[[Policy], Policy] | None,
    until_s: int,
    present: int,
    full: bool,
    reason: str | None,
) -> None:
    """no_policy before paused before expired before sensor_absent before cap; what is withheld is never drawn."""
    if full:
        other = dataclasses.replace(door.hour().node, level="1d")
        door.ledger.charge(other, 24_355, 24_355)
    outcome = door.ask(door.hour(present), newest(door.policy) if newest else None, until_s)
    if reason is None:
        assert isinstance(outcome, Release) and door.echo.drawn == 1
    else:
        assert outcome == Withheld(door.hour(present).node, reason)
        assert door.echo.drawn == 0
        *_, line = door.ledger.lines()
        assert (line.reason, line.rho_micro) == (reason, 0)


def test_half_the_slots_must_have_brought_a_reading(door: Door) -> None:
    """Ten twentieths are published, nine are withheld as a sensor that was away."""
    end_s = HOUR_S + 3600
    late = dataclasses.replace(door.hour(9).node, start_s=end_s, end_s=end_s + 3600, covered_from_s=end_s)
    assert isinstance(door.ask(door.hour(10)), Release)
    assert door.ask(Aggregate(late, {"crossings": (7,)}), until_s=end_s + 3600) == Withheld(late, "sensor_absent")


@pytest.mark.parametrize("change", [paused, stream_paused])
def test_what_the_old_policy_pauses_stays_paused(door: Door, change: Callable[[Policy], Policy]) -> None:
    """A node that opened under a pause is not published because a newer policy lifted it."""
    old = change(door.policy)
    made = dataclasses.replace(door.plan, policy=old)
    assert door.ask(door.hour(), door.policy, plan=made) == Withheld(door.hour().node, "paused")


@given(
    value=st.integers(-(2**70), 2**70),
    other=st.integers(-(2**70), 2**70),
    present=st.integers(0, 20),
    until_s=st.sampled_from([0, HOUR_S + 3600]),
    change=st.sampled_from([paused, stream_paused, dropped, lambda policy: policy]),
)
def test_no_value_decides(
    write_policy: Callable[..., Policy],
    value: int,
    other: int,
    present: int,
    until_s: int,
    change: Callable[[Policy], Policy],
) -> None:
    """Whatever was counted, a node leaves or is withheld for the same reason."""
    outcomes = []
    for counted in (value, other):
        door = Door(write_policy("footfall"))
        outcomes.append(door.ask(door.hour(present, value=counted), change(door.policy), until_s))
        door.db.close()
    one, two = outcomes
    assert type(one) is type(two)
    assert getattr(one, "reason", None) == getattr(two, "reason", None)


def test_a_node_out_of_its_plan_is_refused(door: Door) -> None:
    """Another stream, another level or another policy than the plan's stops the process, and nothing is written."""
    weekly = door.hour(level="1w")
    stray = door.hour(stream="plaza/other")
    foreign = door.hour()
    foreign.node = dataclasses.replace(foreign.node, policy=bytes(32))
    for aggregate in (weekly, stray, foreign):
        with pytest.raises(PrivacyError, match="not in the plan"):
            door.ask(aggregate)
    assert list(door.ledger.lines()) == []


def test_a_closed_node_is_refused(door: Door) -> None:
    """A second request raises before anything is drawn, whether the first was released or withheld."""
    door.ask(door.hour())
    with pytest.raises(AlreadyReleased):
        door.ask(door.hour())
    with pytest.raises(AlreadyReleased):
        door.gate.withhold(door.hour().node, "clock")
    assert door.echo.drawn == 1


def test_charge_comes_before_the_draw(door: Door) -> None:
    """If the mechanism fails, the charge stands in the open transaction: noise is never drawn on credit."""

    def broken(exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        assert [line.rho_micro for line in door.ledger.lines()] == [5590]
        raise PrivacyError("no entropy")

    door.echo.draw = broken  # type: ignore[method-assign]
    with pytest.raises(PrivacyError, match="no entropy"):
        door.ask(door.hour())
    assert door.ledger.closed(door.hour().node)


def test_a_node_of_several_indicators_is_charged_their_sum(write_policy: Callable[..., Policy]) -> None:
    """Histogram, mean and energy of one node are one line in the ledger, at the sum of their costs."""
    door = Door(write_policy("noise"))
    level = door.plan.streams["plaza/noise"].nodes[0]
    assert isinstance(level, NodePlan)
    node = dataclasses.replace(
        door.hour().node, stream="plaza/noise", quantity="noise", bounds=(350, 850), level=level.level
    )
    outcome = door.ask(Aggregate(node, {"histogram": (0,) * 10, "mean": (1,), "energy": (2,)}))
    assert isinstance(outcome, Release)
    assert [noised.indicator for noised in outcome.noised] == ["histogram", "mean", "energy"]
    assert [line.rho_micro for line in door.ledger.lines()] == [sum(noised.rho_micro for noised in outcome.noised)]


def test_each_sum_is_drawn_under_its_own_plan(write_policy: Callable[..., Policy]) -> None:
    """Histogram, mean and energy each get the noise that the plan has for them, in the plan's order."""
    door = Door(write_policy("noise"))
    level = door.plan.streams["plaza/noise"].nodes[0]
    node = dataclasses.replace(
        door.hour().node, stream="plaza/noise", quantity="noise", bounds=(350, 850), level=level.level
    )
    sums = {"histogram": (0,) * 10, "mean": (1,), "energy": (2,)}
    drawn: list[tuple[tuple[int, ...], IndicatorPlan]] = []

    def noted(exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        drawn.append((exact, indicator))
        return exact

    door.echo.draw = noted  # type: ignore[method-assign]
    door.ask(Aggregate(node, sums))
    assert drawn == [(sums[indicator.indicator], indicator) for indicator in level.indicators] and len(drawn) == 3


# --- the cap: what a day may cost after the days before it -----------------------------------------------------------

RHO_MICRO = 24_355
DAY_S = 86_400
WEDNESDAY_S = int(datetime(2026, 6, 10, tzinfo=timezone(timedelta(hours=2))).timestamp())
CAP = """epsilon = 1.0
cap = { units_per_day = UNITS, span = "1w", epsilon = 90 }"""


class _Tank:
    """A gate before a stream whose cap is given in micro-rho, at noon of a Wednesday."""

    def __init__(
        self, write_policy: Callable[..., Policy], limit_micro: int, levels: str = '"1h" = 1', units: int = 1
    ) -> None:
        nodes = 'nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }'
        swap = (("epsilon = 1.0", CAP.replace("UNITS", str(units))), (nodes, f"nodes = {{ {levels} }}"))
        policy = write_policy("footfall", swap=swap)
        made = plan(policy)
        self.id = policy.streams[0].id
        stream = dataclasses.replace(made.streams[self.id], cap_rho_micro=limit_micro)
        self.plan = dataclasses.replace(made, streams={self.id: stream})
        self.door = Door(policy)

    def node(self, start_s: int, end_s: int, level: str = "1h") -> Node:
        return Node(self.id, "footfall", level, start_s, end_s, start_s, 20, 1000, (0, 0), self.door.policy.hash)

    def spent(self, rho_micro: int, start_s: int, end_s: int) -> None:
        """Enters what an earlier policy charged."""
        self.door.ledger.charge(self.node(start_s, end_s, "earlier"), rho_micro, 10**9)

    def noon(self, newest: Policy | None = None, at_s: int = WEDNESDAY_S + DAY_S // 2) -> str | None:
        """Returns why an hour of this Wednesday is withheld, or None if it is released."""
        hour = Aggregate(self.node(at_s, at_s + 3600), {"crossings": (7,)})
        outcome = self.door.ask(hour, newest, at_s + 3600, self.plan)
        return outcome.reason if isinstance(outcome, Withheld) else None


ONE_TOO_LITTLE = [(0, None), (-1, "cap")]


@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize(("more", "reason"), ONE_TOO_LITTLE)
def test_a_day_is_published_if_it_fits_to_the_last_micro_rho(
    write_policy: Callable[..., Policy], more: int, reason: str | None, units: int
) -> None:
    """The squared units times the day's budget and what six days before it spent: equal fits, one more does not."""
    tank = _Tank(write_policy, units**2 * (RHO_MICRO + 5 + 6) + more, units=units)
    for days, rho_micro in [(1, 5), (6, 6), (7, 10_000)]:
        tank.spent(rho_micro, WEDNESDAY_S - days * DAY_S, WEDNESDAY_S - days * DAY_S + 3600)
    assert tank.noon() == reason


@pytest.mark.parametrize(("more", "reason"), ONE_TOO_LITTLE)
def test_a_day_that_has_cost_more_already_counts_with_it(
    write_policy: Callable[..., Policy], more: int, reason: str | None
) -> None:
    """Where an earlier policy charged today above the budget of this one, that is what today costs."""
    tank = _Tank(write_policy, RHO_MICRO + 1000 + more)
    tank.spent(RHO_MICRO + 1000, WEDNESDAY_S, WEDNESDAY_S + 3600)
    assert tank.noon() == reason


@pytest.mark.parametrize(("more", "reason"), ONE_TOO_LITTLE)
def test_the_days_of_an_open_week_count_whole(
    write_policy: Callable[..., Policy], more: int, reason: str | None
) -> None:
    """With `1w`, Monday and Tuesday count with the whole budget, whatever is charged so far; Sunday with its spend."""
    tank = _Tank(write_policy, 3 * RHO_MICRO + 5 + more, '"1h" = 1, "1w" = 1')
    for days, rho_micro in [(1, 100), (3, 5)]:
        tank.spent(rho_micro, WEDNESDAY_S - days * DAY_S, WEDNESDAY_S - days * DAY_S + 3600)
    assert tank.noon() == reason


def test_an_empty_tank_is_the_last_reason(write_policy: Callable[..., Policy]) -> None:
    """A pause is told as a pause, also where the cap would have withheld the day."""
    tank = _Tank(write_policy, RHO_MICRO - 1)
    assert tank.noon(paused(tank.door.policy)) == "paused"
    assert tank.noon(at_s=WEDNESDAY_S + 3600) == "cap"


def test_the_days_before_are_looked_up_once(
    write_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a day that has begun, what came before it is asked of the ledger once, also where streams take turns."""
    asked: list[tuple[str, int]] = []
    real = Ledger.spent_rho_micro

    def counted(self: Ledger, stream: str, from_s: int, until_s: int) -> int:
        asked.append((stream, until_s))
        return real(self, stream, from_s, until_s)

    monkeypatch.setattr(Ledger, "spent_rho_micro", counted)
    one = _Tank(write_policy, 10**9)
    other = dataclasses.replace(one.plan.streams[one.id].stream, id="plaza/other")
    streams = {one.id: one.plan.streams[one.id]}
    streams[other.id] = dataclasses.replace(streams[one.id], stream=other)
    one.door.policy = dataclasses.replace(one.door.policy, streams=(*one.door.policy.streams, other))
    one.plan = dataclasses.replace(one.plan, policy=one.door.policy, streams=streams)
    for hour in range(3):
        for one.id in streams:
            assert one.noon(at_s=WEDNESDAY_S + 3600 * hour) is None
    assert Counter(stream for stream, until_s in asked if until_s <= WEDNESDAY_S) == dict.fromkeys(streams, 6)
