"""What a check adds up against a cap, from nodes what the centre does, from accounts never more than was spent; and the
published ledger, line by line."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_dashboards import spending
from murmure_ingest.budgets import Budgets
from murmure_privacy import verify_spending
from murmure_privacy.audit import Auditor
from murmure_privacy.findings import Report
from murmure_privacy.plan import plan
from murmure_privacy.policies import Rules
from murmure_privacy.policy import parse
from murmure_privacy.publication import Made, Publication
from murmure_privacy.release import Node, Noised, Outcome, Release, Withheld
from murmure_privacy.verify_log import Account, Book, Ruled, Speaker, ends_on
from murmure_privacy.verify_messages import Heard
from murmure_privacy.verify_spending import Charge, Spending
from murmure_privacy.window import QUARTER_S, Calendar, Window, parse_utc, utc

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


def written(levels: Iterable[str], span: str, epsilon: str, version: int = 1, each: str = "1.0") -> bytes:
    nodes = ", ".join(f'"{level}" = 1' for level in levels)
    return POLICY.format(nodes=nodes, span=span, epsilon=epsilon, version=version, each=each).encode()


def ruled(levels: Iterable[str], span: str, epsilon: str, version: int = 1, each: str = "1.0") -> Ruled:
    made = plan(parse(written(levels, span, epsilon, version, each), "test"))
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
    return dict(verify_spending._excesses(policy, policy.plan.streams[STREAM], told, least=least))


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


def test_what_was_withheld_spends_nothing_of_a_cap() -> None:
    """Nor is it a node up to which what others spent is held against its policy, or a day on which it is."""
    policy = ruled(("6h",), "1w", "1.0")
    cap = policy.plan.streams[STREAM].cap_rho_micro
    assert cap is not None
    own, first_s = policy.plan.policy.hash, CHANGE.start_s
    spent, kept = (own, (first_s, first_s + 60, 1)), (own, (first_s + 120, first_s + 180, 0))
    other = b"another", (first_s + 60, first_s + 120, cap + 1)
    assert days(policy, [spent, other, kept], []) == {}
    late_s = first_s + 30 * DAY_S
    late = own, (late_s, late_s + 60, 1)
    assert days(policy, [(own, (first_s, first_s + 180, 0)), other, late], []) == {}


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
    """An hour was withheld, and the day; or no node of a level ends on it; or the policy has no such level."""
    policy = ruled(("1h", "1d", "1w"), "1w", "3.0")
    day = CHANGE.start_s // DAY_S + 1
    for levels in (
        {"1h": (23, 1, 23), "x": (1, 0, 1)},
        *({level: counts} for level, counts in (("1w", (0, 0, 0)), ("1w", (1, 0, 9)), ("15min", (96, 0, 96)))),
    ):
        assert list(verify_spending._at_least(policy, STREAM, day, levels)) == []


def test_an_account_is_of_the_end_of_its_coarsest_level() -> None:
    """Two hours later, at midnight of UTC, the civil day that it counts is over, and a node of the next may hold; and
    of a sum that its nodes do not divide nobody is accused of the rest."""
    policy = ruled(("1h", "1d", "1w"), "1w", "3.0")
    friday, sunday = CHANGE.start_s // DAY_S + 1, CHANGE.start_s // DAY_S + 3
    whole = {"1h": (24, 0, 24 * 5 + 23), "1d": (1, 0, 7)}
    own, midnight_s = policy.plan.policy.hash, CHANGE.start_s + DAY_S
    assert list(verify_spending._at_least(policy, STREAM, friday, whole)) == [(own, (midnight_s - 1, midnight_s, 12))]
    end_s = PARIS.node("1w", CHANGE.start_s).end_s
    week = [*verify_spending._at_least(policy, STREAM, sunday, {**whole, "1w": (1, 0, 100)})]
    assert week == [(own, (end_s - 1, end_s, 112))]
    end_s = (friday + 1) * DAY_S
    hours = [*verify_spending._at_least(policy, STREAM, friday, {"1h": whole["1h"]})]
    assert hours == [(own, (end_s - 1, end_s, 5))]
    parts = ruled(("1h", "day", "evening", "night"), "1w", "3.0")
    told = {"1h": whole["1h"], "day": (1, 0, 20), "evening": (1, 0, 300), "night": (1, 0, 4000)}
    end_s = PARIS.node("night", CHANGE.start_s).end_s
    night = [*verify_spending._at_least(parts, STREAM, friday, told)]
    assert night == [(parts.plan.policy.hash, (end_s - 1, end_s, 4005))]


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
    assert list(verify_spending._near({}, Window(began_s, began_s + 1))) == []
    for until_s in (began_s, began_s + 2 * DAY_S + 1, began_s + 8000 * 365 * DAY_S):
        with pytest.raises(ValueError, match="no day"):
            list(verify_spending._near({}, Window(began_s, until_s)))


def test_a_day_has_a_moment_with_every_node_that_lasts_into_it() -> None:
    """The longest week, of 169 hours: its line costs what it costs from its first day to its last second, by whichever
    calendar a day is told, and not before or after."""
    policy = ruled(("1w",), "1w", "9.0")
    week = outcome(policy, "1w", CHANGE.start_s)
    nodes, (cost,) = (
        {week.node.start_s // DAY_S: [week]},
        {node.rho_micro for node in policy.plan.streams[STREAM].nodes},
    )
    first_s, end_s = week.node.start_s, week.node.end_s
    assert end_s - first_s == 169 * 3600
    for at_s, spent in (
        (first_s - DAY_S, 0),
        *((first_s + 1800 - DAY_S + 3600 * hour, cost) for hour in range(169 + 24)),
        (end_s, 0),
    ):
        day = Window(at_s, at_s + DAY_S)
        assert verify_spending._due(verify_spending._near(nodes, day), b"another", day) == (0, spent, {})


def test_what_lasts_over_midnight_meets_only_what_is_in_the_day() -> None:
    """The nodes beside a day are those that can last into it: what they cost together before or after is not its."""
    day = Window(CHANGE.start_s, CHANGE.start_s + DAY_S)
    policy = ruled(("1h", "1w"), "1w", "9.0")
    hour, week = (node.rho_micro for node in policy.plan.streams[STREAM].nodes)
    for beside_s in (day.start_s - 3600, day.end_s):
        outcomes = [outcome(policy, "1w", beside_s), outcome(policy, "1h", beside_s)]
        assert verify_spending._due(outcomes, b"another", day)[1] == week
    inside = [outcome(policy, "1w", day.start_s), outcome(policy, "1h", day.start_s)]
    assert verify_spending._due(inside, b"another", day)[1] == week + hour


# --- the published ledger --------------------------------------------------------------------------------------------

LEVELS = "1h", "1d"
TEXTS = [written(LEVELS, "1w", "9.0"), written(LEVELS, "1w", "9.0", 2, "0.5")]
POLICIES = [ruled(LEVELS, "1w", "9.0"), ruled(LEVELS, "1w", "9.0", 2, "0.5")]
NOON_S = CHANGE.start_s + 12 * 3600


def outcome(policy: Ruled, level: str, start_s: int, reason: str = "") -> Outcome:
    """A node of a policy, released or withheld."""
    window = PARIS.node(level, start_s)
    part = policy.plan.streams[STREAM]
    about = window.start_s, window.end_s, window.start_s, 20, 900_000, part.stream.bounds, policy.plan.policy.hash
    node, charged = Node(STREAM, "footfall", level, *about), part.node(level)
    assert charged is not None
    if reason:
        return Withheld(node, reason)
    return Release(node, tuple(Noised(i.indicator, (7,), i.sigma_milli, i.rho_micro) for i in charged.indicators))


def two_days() -> list[Outcome]:
    """Released and withheld under two policies, of which the second takes over at a noon, in the first of two days."""
    found: list[Outcome] = []
    for number in range(48):
        at_s = CHANGE.start_s + 3600 * number
        reason = {3: "clock", 4: "sensor_absent", 5: "clock", 13: "clock", 30: "paused"}.get(number, "")
        found.append(outcome(POLICIES[at_s >= NOON_S], "1h", at_s, reason))
    return [*found, outcome(POLICIES[0], "1d", CHANGE.start_s), outcome(POLICIES[1], "1d", NOON_S + DAY_S, "paused")]


def ledger(
    outcomes: Sequence[Outcome], known: Iterable[Ruled] = POLICIES, dates: Calendar = PARIS
) -> list[dict[str, Any]]:
    """As the pages write it, but the policies in their order."""
    texts = {one.plan.policy.hash: text for one, text in zip(POLICIES, TEXTS, strict=True) if one in known}
    rules = Rules(SimpleNamespace(policy=texts.get))
    window = Window(CHANGE.start_s, CHANGE.start_s + 2 * DAY_S)
    lines = [json.loads(line) for line in spending.lines("plaza", STREAM, outcomes, window, rules, dates)]
    return sorted(lines, key=lambda line: (line["start_utc"], -float(line["epsilon"] or 0)))


def judged(
    lines: list[dict[str, Any]],
    outcomes: Sequence[Outcome],
    *,
    known: Iterable[Ruled] = POLICIES,
    unread: Iterable[int] = (),
    shown: bool = True,
    told: str | None = None,
    there: bool = True,
    made: Made | None = None,
) -> tuple[list[str], int]:
    """Returns where a ledger is found wrong, and how many of its lines were looked at. `told`: its text instead;
    `there`: whether there is one."""
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines) if told is None else told.encode()
    files = {"donnees/ledger.jsonl": data} if there else {}
    published = Publication(b"", b"", [], {}, [], [], [], None, made=made or Made(), read=files.get)
    book = Book(published, Report())
    book.policies.update({one.plan.policy.hash: one for one in known})
    heard = Heard(published, book)
    heard.nodes.update({one.node.key: ("gw-plaza", 1, one) for one in outcomes})
    Spending(published, book, heard).ledger(set(unread), heard.nodes if shown else ())
    assert {one.kind for one in book.report.findings} <= {"ledger_wrong"}
    return [one.where for one in book.report.findings], book.report.beside


def test_the_ledger_of_the_pages_is_right() -> None:
    """Three lines: two policies on the first day, one on the second; read, or left because a day of theirs was not."""
    outcomes = two_days()
    lines = ledger(outcomes)
    first = CHANGE.start_s // DAY_S
    assert len(lines) == 3 and judged(lines, outcomes) == ([], 3)
    assert judged(lines, outcomes, unread=[first]) == ([], 1)  # 22:00 of the day before (UTC) begins the first
    assert judged(lines, outcomes, unread=[first + 1]) == ([], 0)
    assert judged(lines, outcomes, unread=[first + 3]) == ([], 3)
    # Nothing of a stream without rows is missing; what stands there is wrong all the same.
    assert judged([], outcomes, shown=False) == ([], 0) and len(judged(lines, outcomes, shown=False)[0]) == 2


def test_a_ledger_that_is_not_there_is_named_where_its_nodes_are() -> None:
    """By its file; whoever publishes no table has no ledger either."""
    outcomes = two_days()
    assert judged([], outcomes, there=False) == (["donnees/ledger.jsonl"], 0)
    assert judged([], outcomes, shown=False, there=False) == ([], 0)


def test_a_line_is_not_judged_by_less_than_all_of_its_day() -> None:
    """Where its nodes were not read nobody says that it is wrong, and where they were it is."""
    lines, first = ledger(two_days()), CHANGE.start_s // DAY_S
    assert judged(lines, [], unread=range(first - 9, first + 9)) == ([], 0)
    assert len(judged(lines, [])[0]) == 2


def test_a_line_is_of_a_day_by_a_calendar_that_the_site_names() -> None:
    """That of its policy counts where a part of the site names none; half a day is no day, though it says what that
    half has cost."""
    outcomes = [outcome(POLICIES[0], "1h", CHANGE.start_s + 3600 * hour) for hour in (0, 13)]
    (line,) = ledger(outcomes)
    utc_days = ledger(outcomes, dates=Calendar("UTC"))
    named = [f"{STREAM} {one['start_utc']}" for one in (line, *utc_days)]
    every, utc_only = Made(1, "", "UTC", {("2026-09", 1): None}), Made(1, "", "UTC")
    assert judged([line], outcomes) == judged([line], outcomes, made=every) == ([], 1)
    assert judged(utc_days, outcomes, made=utc_only) == judged(utc_days, outcomes, made=every) == ([], 2)
    assert judged([line], outcomes, made=utc_only)[0] == [named[0], *named[1:]]
    assert judged(utc_days, outcomes)[0] == [*named[1:], named[0]]
    assert judged([], outcomes, made=every)[0] == sorted({*named[1:]})
    half = {**line, "end_utc": utc(NOON_S)}
    cost = POLICIES[0].plan.streams[STREAM].nodes[0].rho_micro
    half |= {"charged_rho_micro": cost, "nodes": [{**half["nodes"][0], "released": 1, "rho_micro": cost}]}
    for told in (half, {name: said for name, said in half.items() if name != "day"}):
        assert judged([line, told], outcomes) == ([named[0]], 2)


def changed(line: int, **fields: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda lines: lines[line].update(fields)


def level(line: int, number: int, **fields: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda lines: lines[line]["nodes"][number].update(fields)


def without(name: str) -> Callable[[list[dict[str, Any]]], None]:
    def change(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line.pop(name, None)
            for one in line["nodes"]:
                one.pop(name, None)

    return change


@pytest.mark.parametrize(
    ("old", "new"), [('"epsilon"', '"epsilon": "0.1", "epsilon"'), ('"nodes"', '"nodes": [], "nodes"')]
)
def test_a_name_that_stands_twice_in_a_line_is_found(old: str, new: str) -> None:
    """Of two values each reader would take another."""
    outcomes = two_days()
    told = [json.dumps(line) for line in ledger(outcomes)]
    assert judged([], outcomes, told="\n".join(told)) == ([], 3)
    assert judged([], outcomes, told="\n".join([told[0].replace(old, new, 1), *told[1:]]))[0][:1] == ["1"]


@pytest.mark.parametrize(
    "change",
    [
        *(changed(0, **{name: text}) for name, text in (("epsilon", "0.1"), ("delta", "0.1"), ("protects", "x"))),
        *(changed(0, **{name: text}) for name, text in (("day", "2026-10-22"), ("site", "moon"), ("epsilon", None))),
        *(changed(2, **{name: 1}) for name in ("charged_rho_micro", "spent_rho_micro")),
        *(level(0, 0, **{name: 1}) for name in ("released", "withheld", "rho_micro")),
        *(level(0, 0, reasons=told) for told in ({}, {"clock": 3}, {"clock": 1, "sensor_absent": 2}, None)),
        level(0, 1, reasons={"clock": 1}),
        level(1, 0, reasons={"paused": 1}),
        lambda lines: lines[0]["nodes"].insert(0, {**lines[0]["nodes"][0], "released": 999}),
        lambda lines: lines[0]["nodes"].pop(),
    ],
)
def test_a_line_of_the_ledger_says_nothing_that_is_not_so(change: Callable[[list[dict[str, Any]]], None]) -> None:
    """What a day has cost, what its policy promises, and why there is nothing: one word altered is a finding; of two
    lines for one level readers would take one or the other."""
    outcomes = two_days()
    lines = ledger(outcomes)
    named = f"{STREAM} {lines[0]['start_utc']}", f"{STREAM} {lines[2]['start_utc']}", "1"
    change(lines)
    assert judged(lines, outcomes)[0][0] in named


@pytest.mark.parametrize("name", ["day", "site", "protects", "epsilon", "delta", "reasons"])
def test_a_ledger_may_say_less(name: str) -> None:
    """Older lines lack a word, and say nothing wrong."""
    outcomes = two_days()
    lines = ledger(outcomes)
    without(name)(lines)
    assert judged(lines, outcomes) == ([], 3)


def test_a_line_stands_once_and_none_is_missing() -> None:
    """Of each stream, policy and day that has nodes; the day is told."""
    outcomes = two_days()
    lines = ledger(outcomes)
    days = [f"{STREAM} {line['start_utc']}" for line in lines]
    for at, day in enumerate(days):
        assert judged([*lines, lines[at]], outcomes)[0] == [day]
        assert judged(lines[:at] + lines[at + 1 :], outcomes)[0] == [day]
    assert judged(lines[:2], outcomes, unread=[CHANGE.start_s // DAY_S + 2])[0] == []
    assert judged([], outcomes)[0] == sorted({*days})  # all lines of a stream are missed as one of them is


def test_a_ledger_tells_nothing_of_a_policy_that_nobody_has() -> None:
    """Without a name it promises nothing; one that is not in the log, which was named, may promise anything."""
    outcomes = two_days()
    lines = ledger(outcomes)
    nameless = {**lines[0], **dict.fromkeys(("policy", "protects", "epsilon", "delta")), "nodes": []}
    nameless |= {"start_utc": utc(CHANGE.start_s - DAY_S), "end_utc": lines[0]["start_utc"], "charged_rho_micro": 0}
    nameless["spent_rho_micro"] = 0
    assert judged([*lines, nameless], outcomes) == ([], 4)
    day = f"{STREAM} {nameless['start_utc']}"
    for name in ("protects", "epsilon", "delta"):
        assert judged([*lines, {**nameless, name: "1.0"}], outcomes) == ([day], 4)
    lines = ledger([outcome(POLICIES[1], "1h", NOON_S)])
    lines[0]["epsilon"] = "0.1"
    assert judged(lines, [outcome(POLICIES[1], "1h", NOON_S)])[0] == [f"{STREAM} {lines[0]['start_utc']}"]
    # The days of its site are not known either: no line of it is said to be missing.
    assert judged(lines, [outcome(POLICIES[1], "1h", NOON_S)], known=POLICIES[:1]) == ([], 1)


def test_a_stream_that_its_policy_lacks_is_promised_nothing() -> None:
    """As the pages write it; the stream itself was named."""
    withheld = outcome(POLICIES[0], "1h", CHANGE.start_s, "no_policy")
    other = [Withheld(replace(withheld.node, stream="plaza/other"), "no_policy")]
    lines = [{**line, "stream": "plaza/other"} for line in ledger(other, known=())]
    assert (lines[0]["epsilon"], judged(lines, other)) == (None, ([], 1))
    lines[0]["epsilon"] = "1.0"
    assert judged(lines, other)[0] == [f"plaza/other {lines[0]['start_utc']}"]


def test_a_line_that_cannot_be_read_is_told_by_its_number() -> None:
    """And those beside it are read."""
    outcomes = two_days()
    lines = ledger(outcomes)
    end = utc(parse_utc(lines[1]["start_utc"]) + 2 * DAY_S + 1)
    assert judged([lines[0], lines[1], lines[2], {"stream": STREAM}], outcomes) == (["4"], 3)
    assert judged([lines[0], {**lines[1], "end_utc": end}, lines[2]], outcomes)[0][0] == "2"


# --- caps, from nodes and accounts together ---------------------------------------------------------------------------


def capped(
    policies: Sequence[Ruled], outcomes: Iterable[Outcome] = (), accounts: Mapping[int, Account] | None = None
) -> list[tuple[str, str]]:
    """Returns what a check finds of caps, from the nodes of some days and the accounts of others."""
    published = Publication(b"", b"", [], {}, [], [], [], None)
    book = Book(published, Report())
    for one in policies:
        book.policies[one.plan.policy.hash] = book.versions[one.site, one.version] = one
    book.gateways["gw-plaza"] = Speaker("centre", "plaza", accounts=dict(accounts or {}))
    heard = Heard(published, book)
    heard.nodes.update({one.node.key: ("gw-plaza", 1, one) for one in outcomes})
    Spending(published, book, heard).caps()
    return [(one.kind, one.where) for one in book.report.findings]


def whole_days(policy: Ruled, count: int) -> list[Outcome]:
    hours = [outcome(policy, "1h", CHANGE.start_s + 3600 * number) for number in range(24 * count)]
    return [*hours, *(outcome(policy, "1d", CHANGE.start_s + DAY_S * number) for number in range(count))]


def accounts_of(outcomes: Iterable[Outcome], stream: str = STREAM, version: int = 1) -> dict[int, Account]:
    levels: dict[int, dict[str, tuple[int, int, int]]] = defaultdict(dict)
    for one in outcomes:
        of_day = levels[(one.node.end_s - 1) // DAY_S]
        was = of_day.get(one.node.level, (0, 0, 0))
        cost = sum(noised.rho_micro for noised in one.noised) if isinstance(one, Release) else 0
        of_day[one.node.level] = was[0] + (cost > 0), was[1] + (cost == 0), was[2] + cost
    return {day: Account(1, bytes(32), {(stream, version): told}, ()) for day, told in levels.items()}


def test_a_cap_that_is_passed_is_told_once() -> None:
    """With the first day that is one too many and what its span has cost, by nodes, or by accounts where nobody read
    them; a tank that holds both days, and what was withheld, is fine."""
    small, large = ruled(LEVELS, "1w", "1.1"), ruled(LEVELS, "1w", "1.7")
    cap, cost = small.plan.streams[STREAM].cap_rho_micro, small.plan.streams[STREAM].rho_micro
    days = whole_days(small, 3)
    per_day = sum(node.rho_micro for node in small.plan.streams[STREAM].nodes)
    assert cap is not None and per_day <= cost < cap < 2 * per_day
    second = f"plaza 1: {STREAM} 2026-10-23: {2 * per_day} > {cap}"
    assert capped([small], days) == [("cap", second)]
    assert capped([small], days, accounts_of(days)) == [("cap", second)]
    first_day = [one for one in days if one.node.end_s <= CHANGE.start_s + DAY_S]
    assert capped([small], first_day) == []
    by_account = capped([small], [], accounts_of(days))
    assert [kind for kind, _ in by_account] == ["cap"]
    assert capped([large], whole_days(large, 2)) == capped([large], [], accounts_of(whole_days(large, 2))) == []
    kept = [Withheld(one.node, "cap") for one in days]
    assert capped([small], kept) == capped([small], [], accounts_of(kept)) == []


def test_the_span_of_a_cap_ends_before_the_day_a_week_later() -> None:
    """Six days later both count, seven days later each for itself."""
    policy = ruled(LEVELS, "1w", "1.1")
    cap = policy.plan.streams[STREAM].cap_rho_micro
    assert cap is not None
    own, first_s = policy.plan.policy.hash, PARIS.midnight(date(2026, 11, 2))
    for later, found in ((6, 1), (7, 0)):
        told = [(own, (at_s, at_s + 3600, cap)) for at_s in (first_s, first_s + later * DAY_S)]
        assert len(days(policy, told, [])) == found


def test_the_first_day_that_is_too_much_is_told_first() -> None:
    """In whatever order the gateways were heard."""
    policy = ruled(LEVELS, "1w", "1.1")
    cap = policy.plan.streams[STREAM].cap_rho_micro
    assert cap is not None
    own, later_s = policy.plan.policy.hash, CHANGE.start_s + DAY_S
    told = [(own, (at_s, at_s + 3600, cap + 1)) for at_s in (later_s, CHANGE.start_s)]
    assert list(days(policy, told, [])) == [CHANGE.start_s // DAY_S, later_s // DAY_S]


def test_units_of_a_day_count_squared() -> None:
    """Two of them cost four times as much as one."""
    made = plan(parse(written(LEVELS, "1w", "9.0").replace(b"units_per_day = 1", b"units_per_day = 2"), "test"))
    policy = Ruled("plaza", 1, made, Auditor(made, made.calendar), b"", None, 0)
    cap = made.streams[STREAM].cap_rho_micro
    assert cap is not None
    own = made.policy.hash
    assert days(policy, [(own, (NOON_S, NOON_S + 3600, cap // 4))], []) == {}
    assert list(days(policy, [(own, (NOON_S, NOON_S + 3600, cap // 4 + 1))], []).values()) == [4 * (cap // 4 + 1)]


def test_a_cap_is_of_its_own_stream_and_of_policies_that_are_known() -> None:
    """Without a cap nothing is added up; nor an account of another stream, or of a version that nobody has."""
    small = ruled(LEVELS, "1w", "1.1")
    days = whole_days(small, 2)
    text = written(LEVELS, "1w", "1.1").decode()
    free = plan(parse(text[: text.index("cap = ")].encode(), "test"))
    open_ended = Ruled("plaza", 1, free, Auditor(free, free.calendar), b"", None, 0)
    assert capped([open_ended], whole_days(open_ended, 3), accounts_of(days)) == []
    assert capped([small], [], accounts_of(days, version=2)) == capped([small], [], accounts_of(days, "x/y")) == []
    others = [replace(one, node=replace(one.node, stream="plaza/other")) for one in days]
    assert capped([small], others) == []
