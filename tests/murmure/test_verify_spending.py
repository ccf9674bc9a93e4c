"""What a check adds up against a cap: from nodes what the centre does, from accounts never more than was spent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_ingest.budgets import Budgets
from murmure_privacy import verify_spending
from murmure_privacy.audit import Auditor
from murmure_privacy.plan import plan
from murmure_privacy.policy import parse
from murmure_privacy.release import Node
from murmure_privacy.verify_log import Ruled, ends_on
from murmure_privacy.verify_spending import Charge
from murmure_privacy.window import QUARTER_S, Calendar, Window

DAY_S = 86_400
STREAM = "plaza/footfall"
PARIS = Calendar("Europe/Paris")
CHANGE = Window(PARIS.midnight(date(2026, 10, 23)), PARIS.midnight(date(2026, 10, 28)))  # the 25th has 25 hours

POLICY = """policy = 1
site = "plaza"
version = {version}
timezone = "Europe/Paris"
decision = "D"
reason = "R."
valid_from = 2026-10-01
valid_until = 2027-09-30

[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = {each}
nodes = {{ {nodes} }}
cap = {{ units_per_day = 1, span = "{span}", epsilon = {epsilon} }}
"""


def ruled(levels: Iterable[str], span: str, epsilon: str, version: int = 1, each: str = "1.0") -> Ruled:
    nodes = ", ".join(f'"{level}" = 1' for level in levels)
    text = POLICY.format(nodes=nodes, span=span, epsilon=epsilon, version=version, each=each)
    made = plan(parse(text.encode(), "test"))
    return Ruled("plaza", version, made, Auditor(made, made.calendar), b"", None, 0)


@st.composite
def spent(draw: st.DrawFn) -> tuple[Ruled, list[Node]]:
    """A policy, and the nodes that were released under it in some days around a clock change: whole levels of a day
    mostly, some from a restart on, some withheld."""
    levels = draw(
        st.sampled_from(
            [
                *(("15min", "1h", "1d"), ("1h", "6h", "1d"), ("1h", "1d", "1w"), ("6h", "1d", "1w")),
                *(("1h", "day", "evening", "night"), ("15min", "night"), ("1d",), ("1w",)),
            ]
        )
    )
    policy = ruled(levels, draw(st.sampled_from(["1w", "30d"])), draw(st.sampled_from(["1.0", "1.3", "1.8", "9.0"])))
    part = policy.plan.streams[STREAM].stream
    gone = draw(st.sets(st.tuples(st.sampled_from(levels), st.integers(0, 4)), max_size=4))
    restart_s = CHANGE.start_s + QUARTER_S * draw(st.integers(0, 200))
    lost = draw(st.sets(st.integers(0, 60), max_size=3))
    found: list[Node] = []
    for level in levels:
        at_s = CHANGE.start_s
        while (window := PARIS.node(level, at_s)).start_s < CHANGE.end_s:
            at_s, number = window.end_s, len(found)
            if (level, (window.start_s - CHANGE.start_s) // DAY_S) in gone or number in lost or at_s <= restart_s:
                continue
            begin_s = max(window.start_s, restart_s)
            about = window.start_s, window.end_s, begin_s, 20, 900_000, part.bounds, policy.plan.policy.hash
            found.append(Node(STREAM, "footfall", level, *about))
    return policy, found


def charges(policy: Ruled, nodes: list[Node]) -> list[tuple[bytes, Charge]]:
    part = policy.plan.streams[STREAM]
    rho = {node.level: node.rho_micro for node in part.nodes}
    return [(node.policy, (node.covered_from_s, node.end_s, rho[node.level])) for node in nodes]


def by_account(policy: Ruled, nodes: list[Node]) -> list[tuple[bytes, Charge]]:
    part = policy.plan.streams[STREAM]
    rho = {node.level: node.rho_micro for node in part.nodes}
    accounts: dict[int, dict[str, tuple[int, int, int]]] = defaultdict(dict)
    for node in nodes:
        account = accounts[(node.end_s - 1) // DAY_S]
        was = account.get(node.level, (0, 0, 0))
        account[node.level] = was[0] + 1, 0, was[2] + rho[node.level]
    return [one for day, levels in accounts.items() for one in verify_spending._at_least(policy, STREAM, day, levels)]


def days(policy: Ruled, told: list[tuple[bytes, Charge]], least: list[tuple[bytes, Charge]]) -> dict[int, int]:
    return dict(verify_spending._excesses(policy, policy.plan.streams[STREAM], told, least))


@given(spent())
def test_the_days_that_are_too_much_are_those_that_the_centre_finds(case: tuple[Ruled, list[Node]]) -> None:
    """Two programs that share no line of it."""
    policy, nodes = case
    budgets = Budgets()
    for node in nodes:
        budgets.note(node, policy.plan)
    told = charges(policy, nodes)
    ordered = sorted(charge for _, charge in told)
    found = {at_s // DAY_S for at_s, what in budgets.excesses(STREAM, ordered) if "above the cap" in what}
    assert set(days(policy, told, [])) == found


@given(spent(), st.integers(0, 480), st.sampled_from(["0.5", "1.0", "2.0"]), st.sampled_from(["2.0", "3.0", "9.0"]))
def test_a_policy_that_was_followed_is_judged_as_the_centre_judges_it(
    case: tuple[Ruled, list[Node]], quarters: int, each: str, cap: str
) -> None:
    """A gateway speaks until an instant, its successor from then on under another policy."""
    first, nodes = case
    handover_s = CHANGE.start_s + QUARTER_S * quarters
    second = ruled([node.level for node in first.plan.streams[STREAM].nodes], "1w", cap, 2, each)
    before = [node for node in nodes if node.end_s <= handover_s]
    after = [
        replace(node, covered_from_s=max(node.covered_from_s, handover_s), policy=second.plan.policy.hash)
        for node in nodes
        if node.end_s > handover_s
    ]
    told = charges(first, before) + charges(second, after)
    for judged in (first, second):
        budgets = Budgets()
        for node in before + after:
            if node.policy == judged.plan.policy.hash:
                budgets.note(node, judged.plan)
        ordered = sorted(charge for _, charge in told)
        found = {at_s // DAY_S for at_s, what in budgets.excesses(STREAM, ordered) if "above the cap" in what}
        assert set(days(judged, told, [])) == found


def test_the_day_of_a_handover_is_not_held_against_the_first_policy() -> None:
    """What came after its last node is its successor's; as much before that would be too much."""
    policy = ruled(("6h",), "1w", "1.0")
    cap = policy.plan.streams[STREAM].cap_rho_micro
    assert cap is not None
    own, noon_s = policy.plan.policy.hash, CHANGE.start_s + 12 * 3600
    until_noon = own, (CHANGE.start_s, noon_s, 1)
    later = b"another", (noon_s, noon_s + 3600, cap + 1)
    assert days(policy, [until_noon, later], []) == {}
    assert days(policy, [until_noon], [later]) == {}
    sooner = b"another", (noon_s - 1, noon_s + 3600, cap)
    assert days(policy, [until_noon, sooner], []) == {CHANGE.start_s // DAY_S: cap + 1}


@given(spent())
def test_an_account_says_no_more_than_was_spent(case: tuple[Ruled, list[Node]]) -> None:
    """Nobody is accused by it who kept to the cap; what the nodes say is not changed by it."""
    policy, nodes = case
    told, least = charges(policy, nodes), by_account(policy, nodes)
    for _, (from_s, until_s, rho) in least:
        assert rho <= sum(cost for _, (begin_s, end_s, cost) in told if begin_s <= from_s and until_s <= end_s)
    whole = days(policy, told, [])
    assert days(policy, told, least) == whole
    by_least = days(policy, [], least)
    assert all(day in whole and total <= whole[day] for day, total in by_least.items())


def test_an_account_of_a_day_without_a_whole_level_says_nothing() -> None:
    """An hour was withheld, and the day."""
    policy = ruled(("1h", "1d"), "1w", "3.0")
    day = CHANGE.start_s // DAY_S + 1
    assert list(verify_spending._at_least(policy, STREAM, day, {"1h": (23, 1, 23), "x": (1, 0, 1)})) == []


def test_a_sum_of_levels_that_were_not_whole_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: where the hours before midnight were withheld, it adds them to the day, and accuses too much."""
    policy = ruled(("1h", "1d"), "1w", "2.0")
    cost = {node.level: node.rho_micro for node in policy.plan.streams[STREAM].nodes}
    account = {"1h": (20, 4, 20 * cost["1h"]), "1d": (1, 0, cost["1d"])}
    day = CHANGE.start_s // DAY_S + 1
    ((_, (at_s, _, rho)),) = verify_spending._at_least(policy, STREAM, day, account)
    assert (at_s + 1, rho) == (CHANGE.start_s + DAY_S, cost["1d"])
    monkeypatch.setattr(
        verify_spending, "ends_on", lambda made, level, day: ends_on(made, level, day)[-account[level][0] :]
    )
    ((_, (_, _, rho)),) = verify_spending._at_least(policy, STREAM, day, account)
    assert rho == cost["1d"] + cost["1h"]


def test_a_line_that_is_no_day_is_not_looked_for() -> None:
    """Whoever writes a ledger that ends in the year 9999 keeps no checker busy; the longest civil day may be."""
    began_s = CHANGE.start_s
    assert list(verify_spending._near({}, Window(began_s, began_s + 2 * DAY_S))) == []
    for until_s in (began_s + 2 * DAY_S + 1, began_s + 8000 * 365 * DAY_S):
        with pytest.raises(ValueError, match="no day"):
            list(verify_spending._near({}, Window(began_s, until_s)))
