"""One closing instant is one message and one commit; policies, clocks and restarts never draw a node twice."""

from __future__ import annotations

import inspect
import os
import signal
import sqlite3
from collections.abc import Callable
from datetime import timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import murmure_edge.publisher
import murmure_privacy.window
import pytest
from murmure_edge.gateway_db import DiskFull, GatewayDb, Told
from murmure_edge.publisher import Publisher
from murmure_privacy.change import holds
from murmure_privacy.errors import ConfigError, LedgerDamaged
from murmure_privacy.ledger import Ledger
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy, parse
from murmure_privacy.release import Release, Withheld
from murmure_privacy.window import Calendar, parse_utc
from murmure_privacy.wire import FIRST_PREVIOUS, digest

MakeRig = Callable[..., Any]
MakePolicy = Callable[..., Policy]

MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")  # the 15th of January in Paris
HOUR_S, DAY_S = 3600, 86_400


def spans(gateway: Any, level: str, stream: str = "plaza/dust") -> list[tuple[int, int, str]]:
    """(covered from, end, released or why not) of each node of a level, in hours after midnight."""
    return [
        (
            (outcome.node.covered_from_s - MIDNIGHT_S) / HOUR_S,
            (outcome.node.end_s - MIDNIGHT_S) / HOUR_S,
            outcome.reason if isinstance(outcome, Withheld) else "released",
        )
        for outcome in gateway.outcomes()
        if outcome.node.level == level and outcome.node.stream == stream
    ]


def started(gateway: Any, policy: Policy, at_s: int) -> None:
    gateway.publisher.start(at_s)
    gateway.publisher.adopt(policy, at_s)


# --- messages --------------------------------------------------------------------------------------------------------


def test_one_message_per_closing_instant_holds_every_node_that_closes_then(
    rig: MakeRig, make_policy: MakePolicy
) -> None:
    """A day of two streams is 96 messages, and midnight's holds all four levels of both."""
    gateway = rig()
    started(gateway, make_policy(streams=("dust", "sound")), MIDNIGHT_S)
    for hour in range(24):
        start_s = MIDNIGHT_S + hour * HOUR_S
        gateway.fill(start_s, start_s + HOUR_S, streams=("dust", "sound"))
    messages = [message for message, _ in gateway.messages]
    assert [message.closing_s for message in messages] == list(range(MIDNIGHT_S + 900, MIDNIGHT_S + DAY_S + 1, 900))
    for message in messages:
        assert {outcome.node.end_s for outcome in message.outcomes} == {message.closing_s}
    assert [(o.node.stream, o.node.level) for o in messages[-1].outcomes] == [
        (stream, level) for stream in ("plaza/dust", "plaza/sound") for level in ("15min", "1h", "6h", "1d")
    ]
    assert gateway.stored() == messages


def test_messages_are_numbered_and_each_names_the_one_before_it(rig: MakeRig, make_policy: MakePolicy) -> None:
    """Numbers grow by one and hashes chain, through a restart and after all receipts have come."""
    gateway = rig()
    started(gateway, make_policy(), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 2 * HOUR_S)
    gateway.db.settle(max(gateway.db.rows()))
    gateway.restart(MIDNIGHT_S + 2 * HOUR_S + 60)
    gateway.fill(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 4 * HOUR_S)
    assert [message.seq for message, _ in gateway.messages] == list(range(1, len(gateway.messages) + 1))
    assert gateway.messages[0][0].previous == FIRST_PREVIOUS
    for (_, before), (message, _) in pairwise(gateway.messages):
        assert message.previous == digest(before)
    assert {message.boot for message, _ in gateway.messages} == {1, 2}


def test_what_is_handed_over_has_been_committed(rig: MakeRig, make_policy: MakePolicy) -> None:
    """When a message is handed over, another connection finds it and its charges in the file."""
    gateway = rig()
    found: list[tuple[int, int]] = []

    def look(message: Any, sealed: bytes) -> None:
        beside = sqlite3.connect(gateway.path)
        rows = beside.execute("SELECT count(*) FROM outbox WHERE sealed = ?", (sealed,)).fetchone()[0]
        charges = beside.execute("SELECT count(*) FROM charges WHERE end_s = ?", (message.closing_s,)).fetchone()[0]
        beside.close()
        found.append((rows, charges - len(message.outcomes)))

    gateway.publisher._committed = look
    started(gateway, make_policy(), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
    assert found == [(1, 0)] * 4


# --- policies --------------------------------------------------------------------------------------------------------


def test_without_a_policy_there_is_no_node_and_no_message(rig: MakeRig) -> None:
    """Readings come, time passes, nothing is written."""
    gateway = rig()
    gateway.publisher.start(MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + DAY_S)
    assert (gateway.messages, list(gateway.db.ledger.lines()), gateway.publisher.policy) == ([], [], None)


def test_the_first_policy_opens_partial_nodes_at_the_next_quarter_hour(rig: MakeRig, make_policy: MakePolicy) -> None:
    """Adopted at 14:07, every level begins at 14:15 and ends where it always does."""
    gateway = rig()
    started(gateway, make_policy(), MIDNIGHT_S + 14 * HOUR_S + 420)
    gateway.fill(MIDNIGHT_S + 14 * HOUR_S, MIDNIGHT_S + DAY_S)
    assert spans(gateway, "15min")[0] == (14.25, 14.5, "released")
    assert spans(gateway, "1h")[:2] == [(14.25, 15, "released"), (15, 16, "released")]
    assert spans(gateway, "6h") == [(14.25, 18, "released"), (18, 24, "released")]
    assert spans(gateway, "1d") == [(14.25, 24, "released")]


@pytest.mark.parametrize(("judge_dates", "first_hour"), [(True, 24.0), (False, 0.0)])
def test_before_its_first_day_a_policy_opens_nothing(
    rig: MakeRig, make_policy: MakePolicy, judge_dates: bool, first_hour: float
) -> None:
    """`valid_from` is tomorrow: nothing until midnight. A replay that does not judge dates begins at once."""
    gateway = rig(judge_dates=judge_dates)
    started(gateway, make_policy(valid=("2026-01-16", "2026-12-31")), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 2 * DAY_S)
    assert spans(gateway, "1h")[0][0] == first_hour


@pytest.mark.parametrize(("judge_dates", "reason"), [(True, "expired"), (False, "released")])
def test_after_its_last_day_publication_stops_by_itself(
    rig: MakeRig, make_policy: MakePolicy, judge_dates: bool, reason: str
) -> None:
    """`valid_until` is today: tomorrow's nodes are withheld as expired, and cost nothing."""
    gateway = rig(judge_dates=judge_dates)
    started(gateway, make_policy(valid=("2026-01-01", "2026-01-15")), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 2 * DAY_S)
    assert {reason for _, end, reason in spans(gateway, "1h") if end <= 24} == {"released"}
    assert {reason for _, end, reason in spans(gateway, "1h") if end > 24} == {reason}
    expired = [line for line in gateway.db.ledger.lines() if line.reason == "expired"]
    assert all(line.rho_micro == 0 for line in expired)


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ('{ "1h" = 1, "1d" = 24 }', '{ "1h" = 1, night = 8 }', 24),
        ('{ "1h" = 1, "1d" = 24 }', '{ "1h" = 1, "1w" = 8 }', 24),
        ('{ "1h" = 1, night = 8 }', '{ "1h" = 1, "1d" = 24 }', 30),
        ('{ "1h" = 1, day = 8, evening = 1 }', '{ "1h" = 1, night = 8 }', 30),
        # The 15th of January 2026 is a Thursday.
        ('{ "1h" = 1, "1w" = 8 }', '{ "1h" = 1, "1d" = 24 }', 4 * 24),
    ],
)
def test_scales_change_where_no_node_of_the_stream_is_open(
    rig: MakeRig, make_policy: MakePolicy, old: str, new: str, change: int
) -> None:
    """At civil midnight, at 06:00 for a stream with parts of the day, on Monday for one with weeks; each stream by its
    own old nodes, and one message holds both policies' nodes meanwhile."""
    gateway = rig()
    started(gateway, make_policy(1, ("dust",), nodes=old), MIDNIGHT_S + 8 * HOUR_S)
    gateway.fill(MIDNIGHT_S + 8 * HOUR_S, MIDNIGHT_S + 10 * HOUR_S)
    second = make_policy(2, ("dust", "sound"), nodes=new)
    gateway.publisher.adopt(second, MIDNIGHT_S + 10 * HOUR_S)
    for hour in range(10, 5 * 24):
        start_s = MIDNIGHT_S + hour * HOUR_S
        gateway.fill(start_s, start_s + HOUR_S, streams=("dust", "sound"))
    new_from = [
        (outcome.node.covered_from_s - MIDNIGHT_S) / HOUR_S
        for outcome in gateway.outcomes()
        if outcome.node.stream == "plaza/dust" and outcome.node.policy == second.hash
    ]
    assert min(new_from) == change
    assert spans(gateway, "1h", "plaza/sound")[0] == (10, 11, "released")
    hours = spans(gateway, "1h")
    assert [(a, b) for a, b, _ in hours] == [(hour, hour + 1) for hour in range(8, 5 * 24)]
    assert {reason for _, _, reason in hours} == {"released"}
    both = [message for message in gateway.stored() if len({o.node.policy for o in message.outcomes}) == 2]
    assert both and all(message.closing_s <= MIDNIGHT_S + change * HOUR_S for message in both)


def test_a_restart_does_not_hasten_a_change(rig: MakeRig, make_policy: MakePolicy) -> None:
    """The instant at which each stream's scales change is the same before and after a restart."""
    weekly, daily = '{ "1h" = 1, "1w" = 8 }', '{ "1h" = 1, "1d" = 24 }'
    for restarts in ((), (60,), (60, 30 * HOUR_S, 90 * HOUR_S)):
        gateway = rig()
        started(gateway, make_policy(1, nodes=weekly), MIDNIGHT_S)
        gateway.fill(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
        second = make_policy(2, nodes=daily)
        gateway.publisher.adopt(second, MIDNIGHT_S + HOUR_S)
        at_s = MIDNIGHT_S + HOUR_S
        for stop_s in (*restarts, 5 * DAY_S):
            gateway.fill(at_s, MIDNIGHT_S + HOUR_S + stop_s)
            at_s = MIDNIGHT_S + HOUR_S + stop_s
            gateway.restart(at_s)
        new = [outcome.node for outcome in gateway.outcomes() if outcome.node.policy == second.hash]
        assert min(node.start_s for node in new) == MIDNIGHT_S + 4 * DAY_S


def test_a_stream_that_comes_back_after_it_was_dropped_begins_at_once(rig: MakeRig, make_policy: MakePolicy) -> None:
    """Dropped on one day and named again on the next, a stream opens partial nodes where none is open; named again on
    the same day, it waits for the end of the nodes that are still open."""
    for hours, first in ((26, 26), (12, 24)):
        gateway = rig()
        started(gateway, make_policy(1, ("dust", "sound")), MIDNIGHT_S)
        gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 10 * HOUR_S, streams=("dust", "sound"))
        gateway.publisher.adopt(make_policy(2, ("sound",)), MIDNIGHT_S + 10 * HOUR_S)
        gateway.fill(MIDNIGHT_S + 10 * HOUR_S, MIDNIGHT_S + hours * HOUR_S, streams=("dust", "sound"))
        third = make_policy(3, ("dust", "sound"))
        gateway.publisher.adopt(third, MIDNIGHT_S + hours * HOUR_S)
        gateway.fill(MIDNIGHT_S + hours * HOUR_S, MIDNIGHT_S + 3 * DAY_S, streams=("dust", "sound"))
        released = [(a, b) for a, b, word in spans(gateway, "1h") if word == "released"]
        assert released == [(hour, hour + 1) for hour in (*range(10), *range(first, 72))]


@pytest.mark.parametrize("restart", [False, True])
def test_a_policy_that_was_never_seen_counts_as_a_pause(rig: MakeRig, make_policy: MakePolicy, restart: bool) -> None:
    """Versions grow by one: where one is missing it may have paused or dropped the stream, so what is open then is
    withheld to the end of its day, also after a restart; from then on the newest holds."""
    gateway = rig()
    started(gateway, make_policy(1), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 10 * HOUR_S)
    gateway.publisher.adopt(make_policy(3), MIDNIGHT_S + 10 * HOUR_S)
    if restart:
        gateway.restart(MIDNIGHT_S + 10 * HOUR_S)
    gateway.fill(MIDNIGHT_S + 10 * HOUR_S, MIDNIGHT_S + 2 * DAY_S)
    hours = [reason for *_, reason in spans(gateway, "1h")]
    assert hours == ["released"] * 10 + ["no_policy"] * 14 + ["released"] * 24
    assert [reason for *_, reason in spans(gateway, "1d")] == ["no_policy", "released"]


@pytest.mark.parametrize(
    ("old", "new", "withheld"),
    [
        ("", 'cap = { units_per_day = 1, span = "1y", epsilon = 30 }', True),
        (
            'cap = { units_per_day = 1, span = "1y", epsilon = 30 }',
            'cap = { units_per_day = 1, span = "1y", epsilon = 20 }',
            True,
        ),
        (
            'cap = { units_per_day = 1, span = "1y", epsilon = 30 }',
            'cap = { units_per_day = 2, span = "1y", epsilon = 60 }',
            True,
        ),
        (
            'cap = { units_per_day = 1, span = "30d", epsilon = 30 }',
            'cap = { units_per_day = 1, span = "1y", epsilon = 30 }',
            True,
        ),
        (
            'cap = { units_per_day = 1, span = "1y", epsilon = 20 }',
            'cap = { units_per_day = 1, span = "1y", epsilon = 30 }',
            False,
        ),
        ('cap = { units_per_day = 1, span = "1y", epsilon = 20 }', "", False),
    ],
)
def test_a_tighter_cap_acts_at_once(rig: MakeRig, make_policy: MakePolicy, old: str, new: str, withheld: bool) -> None:
    """A newer policy that caps more withholds whole nodes until it holds; one that caps less waits."""
    gateway = rig()
    started(gateway, make_policy(1, in_stream=old), MIDNIGHT_S)
    gateway.publisher.adopt(make_policy(2, in_stream=new), MIDNIGHT_S + HOUR_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 2 * DAY_S)
    assert [reason for *_, reason in spans(gateway, "1d")] == ["paused" if withheld else "released", "released"]


def test_a_unit_that_hides_louder_sounds_acts_at_once(rig: MakeRig, make_policy: MakePolicy) -> None:
    """From 65 dB to 75 dB, or to any level: what is open is withheld. The other way round waits for midnight."""
    for old, new, first in ((65, 75, "paused"), (65, None, "paused"), (75, 65, "released"), (None, 75, "released")):
        texts = ["seconds = 15" if level is None else f"seconds = 15, up_to_db = {level}" for level in (old, new)]
        policies = [
            parse(make_policy(version, ("sound",)).text.replace(b"seconds = 15", text.encode()), "policy")
            for version, text in enumerate(texts, 1)
        ]
        gateway = rig()
        started(gateway, policies[0], MIDNIGHT_S)
        gateway.publisher.adopt(policies[1], MIDNIGHT_S + HOUR_S)
        gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 2 * DAY_S, streams=("sound",))
        assert [reason for *_, reason in spans(gateway, "1d", "plaza/sound")] == [first, "released"]


def test_another_policy_holds_from_civil_midnight_and_the_old_scales_until_then(
    rig: MakeRig, make_policy: MakePolicy
) -> None:
    """No node lives under two scales: each keeps the sigma of the policy under which it opened."""
    gateway = rig()
    first, second = make_policy(1), make_policy(2, epsilon="2.0")
    started(gateway, first, MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 10 * HOUR_S + 60)
    gateway.publisher.adopt(second, MIDNIGHT_S + 10 * HOUR_S + 60)
    gateway.fill(MIDNIGHT_S + 10 * HOUR_S + 900, MIDNIGHT_S + 2 * DAY_S)
    under = {
        (outcome.node.end_s <= MIDNIGHT_S + DAY_S, outcome.node.level, outcome.noised[0].sigma_milli)
        for outcome in gateway.outcomes()
    }
    assert len(under) == 8
    for outcome in gateway.outcomes():
        assert outcome.node.policy == (first if outcome.node.end_s <= MIDNIGHT_S + DAY_S else second).hash
    assert spans(gateway, "1d") == [(0, 24, "released"), (24, 48, "released")]


def test_a_policy_adopted_at_midnight_holds_at_once(rig: MakeRig, make_policy: MakePolicy) -> None:
    """At midnight no node is open, so there is nothing to wait for."""
    gateway = rig()
    started(gateway, make_policy(1), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + DAY_S)
    gateway.publisher.adopt(make_policy(2), MIDNIGHT_S + DAY_S)
    gateway.fill(MIDNIGHT_S + DAY_S, MIDNIGHT_S + DAY_S + HOUR_S)
    assert gateway.outcomes()[-1].node.policy == make_policy(2).hash


def test_a_policy_that_has_not_begun_is_replaced_by_a_newer_one(rig: MakeRig, make_policy: MakePolicy) -> None:
    """Of two policies accepted on one day only the newer one ever holds, also after a restart."""
    gateway = rig()
    started(gateway, make_policy(1), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
    gateway.publisher.adopt(make_policy(2, epsilon="2.0"), MIDNIGHT_S + HOUR_S)
    gateway.publisher.adopt(make_policy(3, epsilon="0.5"), MIDNIGHT_S + HOUR_S)
    assert [item.version for item in gateway.db.policies()] == [1, 2, 3]
    gateway.restart(MIDNIGHT_S + HOUR_S)
    gateway.fill(MIDNIGHT_S + HOUR_S, MIDNIGHT_S + 2 * DAY_S)
    assert {o.node.policy for o in gateway.outcomes()} == {make_policy(1).hash, make_policy(3, epsilon="0.5").hash}


@pytest.mark.parametrize("restarts", [False, True])
def test_a_policy_for_later_leaves_the_one_that_begins_at_midnight_in_its_place(
    rig: MakeRig, make_policy: MakePolicy, broken_promise: Callable[..., str | None], restarts: bool
) -> None:
    """First until midnight, second from midnight, third from its own day on: never two at a time."""
    gateway = rig()
    policies = [
        make_policy(1, epsilon="2.0"),
        make_policy(2, epsilon="1.0"),
        make_policy(3, epsilon="0.5", valid=("2026-01-17", "2026-12-31")),
    ]
    started(gateway, policies[0], MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
    gateway.publisher.adopt(policies[1], MIDNIGHT_S + HOUR_S)
    gateway.publisher.adopt(policies[2], MIDNIGHT_S + HOUR_S)
    if restarts:
        gateway.restart(MIDNIGHT_S + HOUR_S)
    gateway.fill(MIDNIGHT_S + HOUR_S, MIDNIGHT_S + 3 * DAY_S)
    held = [(policies.index(policy) + 1) for policy in policies for _ in range(96)]
    found = [
        next(policy.version for policy in policies if policy.hash == outcome.node.policy)
        for outcome in gateway.outcomes()
        if outcome.node.level == "15min"
    ]
    assert found == held
    assert broken_promise(gateway.db, {policy.hash: policy for policy in policies}) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"extra": "paused = true"}, "paused"),
        ({"in_stream": "paused = true"}, "paused"),
        ({"streams": ("sound",)}, "no_policy"),
    ],
)
def test_a_pause_and_a_dropped_stream_act_at_once(
    rig: MakeRig, make_policy: MakePolicy, change: dict[str, Any], reason: str
) -> None:
    """From the next closing on nodes are withheld whole, though the old scales hold until midnight."""
    gateway = rig()
    started(gateway, make_policy(1), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 10 * HOUR_S)
    gateway.publisher.adopt(make_policy(2, **change), MIDNIGHT_S + 10 * HOUR_S)
    gateway.fill(MIDNIGHT_S + 10 * HOUR_S, MIDNIGHT_S + DAY_S)
    assert {why for _, end, why in spans(gateway, "1h") if end <= 10} == {"released"}
    assert {why for _, end, why in spans(gateway, "1h") if end > 10} == {reason}
    assert spans(gateway, "1d") == [(0, 24, reason)]


@pytest.mark.parametrize(
    ("nodes", "change"),
    [
        ('{ "15min" = 1, "1d" = 1 }', {"epsilon": "0.5"}),
        ('{ "15min" = 1, "1w" = 1 }', {"epsilon": "0.5"}),
        ('{ "15min" = 1, day = 1, night = 1 }', {"epsilon": "0.5"}),
        ('{ "15min" = 1, "1d" = 1 }', {"epsilon": "2.0"}),
        ('{ "15min" = 1, "1d" = 1 }', {"version": 3}),
        ('{ "15min" = 1, "1d" = 1 }', {"extra": "paused = true"}),
        ('{ "15min" = 1, "1d" = 1 }', {"in_stream": "paused = true"}),
        ('{ "15min" = 1, "1d" = 1 }', {"streams": ("sound",)}),
    ],
)
def test_what_policy_check_says_is_withheld_is_withheld(
    rig: MakeRig, make_policy: MakePolicy, nodes: str, change: dict[str, Any]
) -> None:
    """A policy that comes on Thursday for Saturday: the quarter-hours that `--after` foretells are withheld for the
    reason it gives, and no others."""
    gateway = rig()
    at_s, until_s = MIDNIGHT_S + 10 * HOUR_S, MIDNIGHT_S + 6 * DAY_S
    older = make_policy(nodes=nodes)
    newer = make_policy(**{"version": 2, "nodes": nodes, "valid": ("2026-01-17", "2026-12-31")} | change)
    started(gateway, older, MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, at_s)
    gateway.publisher.adopt(newer, at_s)
    gateway.fill(at_s, until_s)
    foretold = holds(plan(older), plan(newer), at_s)
    assert [hold.reason for hold in foretold if hold.stream == "plaza/dust"] or change == {"epsilon": "2.0"}
    for start, end, why in spans(gateway, "15min"):
        reasons = {
            hold.reason
            for hold in foretold
            if hold.from_s <= start * HOUR_S + MIDNIGHT_S and (hold.until_s or until_s) >= end * HOUR_S + MIDNIGHT_S
        }
        assert {why} == (reasons or {"released"}), (start, why)


def test_the_end_of_a_pause_waits_for_midnight(rig: MakeRig, make_policy: MakePolicy) -> None:
    """What loosens is never sooner than the next civil day."""
    gateway = rig()
    started(gateway, make_policy(1, extra="paused = true"), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
    gateway.publisher.adopt(make_policy(2), MIDNIGHT_S + HOUR_S)
    gateway.fill(MIDNIGHT_S + HOUR_S, MIDNIGHT_S + 26 * HOUR_S)
    assert {why for _, end, why in spans(gateway, "1h") if end <= 24} == {"paused"}
    assert {why for _, end, why in spans(gateway, "1h") if end > 24} == {"released"}


def test_a_policy_without_a_plan_is_not_stored(rig: MakeRig, make_policy: MakePolicy) -> None:
    """What cannot be planned would stop every later start: it is refused before anything is written."""
    gateway = rig()
    gateway.publisher.start(MIDNIGHT_S)
    with pytest.raises(ConfigError, match="less than a micro-rho"):
        gateway.publisher.adopt(make_policy(epsilon="0.001"), MIDNIGHT_S)
    assert (gateway.db.policies(), gateway.publisher.policy) == ([], None)


def test_a_stored_policy_that_these_sensors_cannot_keep_opens_nothing(rig: MakeRig, make_policy: MakePolicy) -> None:
    """A sensor may have been changed while the gateway was off; a fit policy then holds from midnight on."""
    gateway = rig()
    started(gateway, make_policy(1), MIDNIGHT_S)
    gateway.restart(MIDNIGHT_S + HOUR_S)
    gateway.publisher.start(MIDNIGHT_S + HOUR_S, lambda policy: "its memory is longer")
    gateway.fill(MIDNIGHT_S + HOUR_S, MIDNIGHT_S + 2 * HOUR_S)
    assert gateway.messages == []
    assert gateway.said == ["policy 1: no node is opened under it: its memory is longer"]
    gateway.publisher.adopt(make_policy(2), MIDNIGHT_S + 2 * HOUR_S)
    gateway.fill(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + DAY_S + HOUR_S)
    assert spans(gateway, "1h") == [(24, 25, "released")]


# --- presence --------------------------------------------------------------------------------------------------------


def test_a_silent_sensor_is_withheld_and_costs_nothing(rig: MakeRig, make_policy: MakePolicy) -> None:
    """Below half of the slots a node is `sensor_absent`, for presence only and whatever was measured."""
    gateway = rig()
    started(gateway, make_policy(nodes='{ "1h" = 1 }'), MIDNIGHT_S)
    for hour, slots in enumerate((0, 1, 2, 4)):
        start_s = MIDNIGHT_S + hour * HOUR_S
        gateway.fill(start_s, start_s + slots * 900)
        gateway.publisher.advance(start_s + HOUR_S)
    assert [why for _, _, why in spans(gateway, "1h")] == ["sensor_absent", "sensor_absent", "released", "released"]
    assert [outcome.node.present for outcome in gateway.outcomes()] == [0, 5, 10, 20]


# --- restarts and clocks ---------------------------------------------------------------------------------------------


def test_a_restart_loses_what_was_open_and_never_draws_again(
    rig: MakeRig, make_policy: MakePolicy, broken_promise: Callable[..., str | None]
) -> None:
    """After a start at 10:20 every level goes on from 10:30; what had closed stays closed."""
    gateway = rig()
    started(gateway, make_policy(), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 10 * HOUR_S + 1000)
    gateway.restart(MIDNIGHT_S + 10 * HOUR_S + 1200)
    gateway.fill(MIDNIGHT_S + 10 * HOUR_S + 1200, MIDNIGHT_S + DAY_S)
    assert spans(gateway, "15min")[40:42] == [(10, 10.25, "released"), (10.5, 10.75, "released")]
    assert spans(gateway, "1h")[9:12] == [(9, 10, "released"), (10.5, 11, "released"), (11, 12, "released")]
    assert spans(gateway, "6h")[:2] == [(0, 6, "released"), (10.5, 12, "released")]
    assert spans(gateway, "1d") == [(10.5, 24, "released")]
    assert broken_promise(gateway.db, {make_policy().hash: make_policy()}) is None


def test_a_start_on_a_quarter_hour_opens_at_that_quarter_hour(rig: MakeRig, make_policy: MakePolicy) -> None:
    """The first quarter-hour not earlier than 10:15:00 is 10:15."""
    gateway = rig()
    started(gateway, make_policy(), MIDNIGHT_S + 10 * HOUR_S + 900)
    gateway.fill(MIDNIGHT_S + 10 * HOUR_S, MIDNIGHT_S + 11 * HOUR_S)
    assert spans(gateway, "1h") == [(10.25, 11, "released")]


def test_a_clock_behind_the_newest_charge_waits(rig: MakeRig, make_policy: MakePolicy) -> None:
    """Started with a clock two hours slow, the gateway says so and opens nothing until that time has passed."""
    gateway = rig()
    started(gateway, make_policy(), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 10 * HOUR_S)
    before = len(gateway.messages)
    gateway.restart(MIDNIGHT_S + 8 * HOUR_S)
    assert gateway.said == ["clock: 7200 s behind the newest charge; nothing opens until that has passed"]
    gateway.fill(MIDNIGHT_S + 8 * HOUR_S, MIDNIGHT_S + 10 * HOUR_S)
    assert len(gateway.messages) == before
    gateway.fill(MIDNIGHT_S + 10 * HOUR_S, MIDNIGHT_S + 12 * HOUR_S)
    assert spans(gateway, "1h")[-2:] == [(10, 11, "released"), (11, 12, "released")]
    assert spans(gateway, "6h") == [(0, 6, "released"), (10, 12, "released")]


def test_a_clock_put_forward_withholds_what_was_open_and_goes_on_at_the_next_quarter_hour(
    rig: MakeRig, make_policy: MakePolicy, broken_promise: Callable[..., str | None]
) -> None:
    """One message says `clock` for the open nodes; those stay closed, the others go on."""
    gateway = rig()
    started(gateway, make_policy(), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 10 * HOUR_S + 120)
    gateway.publisher.withhold_open()
    assert [(o.node.level, getattr(o, "reason", "")) for o in gateway.messages[-1][0].outcomes] == [
        (level, "clock") for level in ("15min", "1h", "6h", "1d")
    ]
    gateway.publisher.start(MIDNIGHT_S + 11 * HOUR_S + 60)
    gateway.fill(MIDNIGHT_S + 11 * HOUR_S, MIDNIGHT_S + 2 * DAY_S)
    assert spans(gateway, "1h")[10:13] == [(10, 11, "clock"), (11.25, 12, "released"), (12, 13, "released")]
    assert spans(gateway, "6h")[1:3] == [(6, 12, "clock"), (12, 18, "released")]
    assert spans(gateway, "1d") == [(0, 24, "clock"), (24, 48, "released")]
    assert gateway.said == []
    assert broken_promise(gateway.db, {make_policy().hash: make_policy()}) is None


def test_a_node_that_had_not_begun_is_not_withheld_for_the_clock(rig: MakeRig, make_policy: MakePolicy) -> None:
    """A policy of tomorrow has no open node today, and a gateway that has not started has none at all."""
    gateway = rig()
    gateway.publisher.withhold_open()
    started(gateway, make_policy(valid=("2026-01-16", "2026-12-31")), MIDNIGHT_S)
    gateway.publisher.withhold_open()
    assert gateway.messages == []


def test_on_days_of_a_clock_change_every_node_is_there_once(
    rig: MakeRig, make_policy: MakePolicy, broken_promise: Callable[..., str | None]
) -> None:
    """A day of 23 and one of 25 hours: blocks of five and seven hours, each instant in one node of each level."""
    for day_text, hours in (("2026-03-29", 23), ("2026-10-25", 25)):
        gateway = rig()
        day = Calendar("Europe/Paris").day(parse_utc(f"{day_text}T10:00:00Z"))
        started(gateway, make_policy(), day.start_s)
        gateway.fill(day.start_s, day.end_s)
        levels = [outcome.node.level for outcome in gateway.outcomes()]
        assert [levels.count(level) for level in ("15min", "1h", "6h", "1d")] == [4 * hours, hours, 4, 1]
        assert broken_promise(gateway.db, {make_policy().hash: make_policy()}) is None


# --- the disk --------------------------------------------------------------------------------------------------------


def hold_to_its_size(db: GatewayDb) -> None:
    pages = db._db.execute("PRAGMA page_count").fetchone()[0]
    db._db.execute(f"PRAGMA max_page_count = {pages}")


def give_room(db: GatewayDb) -> None:
    db._db.execute("PRAGMA max_page_count = 1000000")


def test_a_full_disk_keeps_closed_nodes_in_memory_until_there_is_room(
    rig: MakeRig, make_policy: MakePolicy, broken_promise: Callable[..., str | None]
) -> None:
    """Nothing is charged and nothing handed over meanwhile; then all of it, in order, and it is said twice in all."""
    gateway = rig()
    started(gateway, make_policy(), MIDNIGHT_S)
    hold_to_its_size(gateway.db)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 20 * HOUR_S)
    assert gateway.publisher.owes
    charged, sent = len(list(gateway.db.ledger.lines())), len(gateway.messages)
    gateway.publisher.advance(MIDNIGHT_S + 20 * HOUR_S + 60)
    assert (len(list(gateway.db.ledger.lines())), len(gateway.messages)) == (charged, sent)
    give_room(gateway.db)
    gateway.publisher.advance(MIDNIGHT_S + 20 * HOUR_S + 120)
    assert not gateway.publisher.owes
    assert len(spans(gateway, "15min")) == 80
    assert gateway.said == [
        f"{gateway.path}: no room on the disk; nothing is lost while there is power, make room",
        "disk: there is room again; nothing was lost",
    ]
    assert broken_promise(gateway.db, {make_policy().hash: make_policy()}) is None


def test_a_clock_put_forward_on_a_full_disk_is_told_when_there_is_room(rig: MakeRig, make_policy: MakePolicy) -> None:
    """The nodes that were open are withheld late, before those that opened after them."""
    gateway = rig()
    started(gateway, make_policy(), MIDNIGHT_S)
    hold_to_its_size(gateway.db)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 20 * HOUR_S + 60)
    gateway.publisher.withhold_open()
    gateway.publisher.start(MIDNIGHT_S + 21 * HOUR_S)
    assert gateway.publisher.owes
    give_room(gateway.db)
    gateway.fill(MIDNIGHT_S + 21 * HOUR_S, MIDNIGHT_S + DAY_S)
    assert spans(gateway, "1d") == [(0, 24, "clock")]
    assert spans(gateway, "1h")[19:22] == [(19, 20, "released"), (20, 21, "clock"), (21, 22, "released")]
    assert [message.seq for message in gateway.stored()] == list(range(1, len(gateway.messages) + 1))


def test_only_numbers_that_were_drawn_for_a_node_are_published_for_it(rig: MakeRig, make_policy: MakePolicy) -> None:
    """A draw of a transaction that was rolled back is never published: the node is drawn anew, once."""
    gateway = rig()
    started(gateway, make_policy(nodes='{ "15min" = 1 }'), MIDNIGHT_S)
    hold_to_its_size(gateway.db)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 20 * HOUR_S)
    give_room(gateway.db)
    gateway.publisher.advance(MIDNIGHT_S + 20 * HOUR_S)
    values = [o.noised[0].integers[0] for o in gateway.outcomes() if isinstance(o, Release)]
    assert len(values) == len(set(values)) == 80
    assert max(values) > 80


# --- the power -------------------------------------------------------------------------------------------------------


class Hasty(Publisher):
    """Broken on purpose: the charge is one commit and the message another."""

    def _commit(self, closing: Any) -> Any:
        with self._db.transaction():
            outcomes = closing.decide()
        with self._db.transaction():
            return self._seal(closing.closing_s, outcomes) if outcomes else None


def broken_after_some_cut(
    make: MakeRig, mortal: Callable[..., Any], policy: Policy, kind: type[Publisher], broken: Callable[..., str | None]
) -> set[str]:
    """Cuts the power before every statement of two closings in turn, starts again, and returns what was broken."""
    found: set[str] = set()
    for cut in range(1, 200):
        gateway = make(kind=kind)
        started(gateway, policy, MIDNIGHT_S)
        gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 900)
        gateway.db.close()
        child = fork_and_die(gateway, mortal, cut)
        try:
            gateway.restart(MIDNIGHT_S + 2000)
            gateway.fill(MIDNIGHT_S + 2000, MIDNIGHT_S + 2 * HOUR_S)
            verdict = broken(gateway.db, {policy.hash: policy})
        except LedgerDamaged:
            verdict = "the start refuses what the end has left"
        if verdict is not None:
            found.add(verdict)
        if not child:
            return found
    raise AssertionError("the child never came to its end")


def fork_and_die(gateway: Any, mortal: Callable[..., Any], cut: int) -> bool:
    """Goes on in another process until the statement `cut`, which kills it; False if it came to its end first."""
    child = os.fork()
    if child == 0:
        try:
            connection, gateway.db = mortal(gateway.path)
            gateway.mechanism = type(gateway.mechanism)(1_000_000)  # no number of the parent's
            gateway.publisher = gateway.new_publisher()
            gateway.publisher.start(MIDNIGHT_S + 900)
            first = connection.statements
            connection.before = lambda n: os.kill(os.getpid(), signal.SIGKILL) if n - first == cut else None
            gateway.fill(MIDNIGHT_S + 900, MIDNIGHT_S + 2700)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_power_cut_between_charge_and_outbox_spends_nothing(
    rig: MakeRig, mortal: Callable[..., Any], make_policy: MakePolicy, broken_promise: Callable[..., str | None]
) -> None:
    """Killed before any statement of a closing, a gateway has all of it or nothing, and goes on."""
    policy = make_policy(nodes='{ "15min" = 1 }')
    assert broken_after_some_cut(rig, mortal, policy, Publisher, broken_promise) == set()


def test_a_publisher_that_charges_in_a_commit_of_its_own_is_found_out(
    rig: MakeRig, mortal: Callable[..., Any], make_policy: MakePolicy, broken_promise: Callable[..., str | None]
) -> None:
    """The twin: the same cuts leave a charge without its message, which the next start does not accept."""
    policy = make_policy(nodes='{ "15min" = 1 }')
    assert broken_after_some_cut(rig, mortal, policy, Hasty, broken_promise) == {
        "the start refuses what the end has left"
    }


def test_the_file_is_named_by_the_test(tmp_path: Path) -> None:
    """Nothing is written outside of the folder given."""
    GatewayDb.open(tmp_path / "a" / "gateway.db").close()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["gateway.db", "gateway.db.lock"]


# --- what a newer policy takes away stays away until the next midnight -----------------------------------------------


def test_a_pause_that_is_lifted_on_the_same_day_publishes_nothing_of_it(rig: MakeRig, make_policy: MakePolicy) -> None:
    """Nodes that were open during a pause are withheld whole, also after the pause was lifted and after a restart."""
    gateway = rig()
    started(gateway, make_policy(1), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 10 * HOUR_S)
    gateway.publisher.adopt(make_policy(2, extra="paused = true"), MIDNIGHT_S + 10 * HOUR_S)
    gateway.fill(MIDNIGHT_S + 10 * HOUR_S, MIDNIGHT_S + 11 * HOUR_S - 60)
    gateway.publisher.adopt(make_policy(3), MIDNIGHT_S + 11 * HOUR_S - 60)
    gateway.restart(MIDNIGHT_S + 12 * HOUR_S)
    gateway.fill(MIDNIGHT_S + 12 * HOUR_S, MIDNIGHT_S + DAY_S + HOUR_S)
    paused_from_s = MIDNIGHT_S + 10 * HOUR_S
    fates = {
        (outcome.node.end_s > paused_from_s and outcome.node.start_s < MIDNIGHT_S + DAY_S, isinstance(outcome, Release))
        for outcome in gateway.outcomes()
    }
    assert fates == {(False, True), (True, False)}
    assert {outcome.reason for outcome in gateway.outcomes() if isinstance(outcome, Withheld)} == {"paused"}


def test_a_tighter_policy_withholds_whole_nodes_until_its_midnight(rig: MakeRig, make_policy: MakePolicy) -> None:
    """From the moment a stream is protected better nothing more is released under the old scales."""
    gateway = rig()
    started(gateway, make_policy(1), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 10 * HOUR_S)
    gateway.publisher.adopt(make_policy(2, epsilon="0.1"), MIDNIGHT_S + 10 * HOUR_S)
    gateway.fill(MIDNIGHT_S + 10 * HOUR_S, MIDNIGHT_S + DAY_S + HOUR_S)
    for outcome in gateway.outcomes():
        after = MIDNIGHT_S + 10 * HOUR_S < outcome.node.end_s <= MIDNIGHT_S + DAY_S
        assert isinstance(outcome, Withheld) == after


def test_a_validity_that_is_cut_short_ends_publication_at_once(rig: MakeRig, make_policy: MakePolicy) -> None:
    """The earlier of the two last days counts, not that of the policy still in force."""
    gateway = rig()
    started(gateway, make_policy(1), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 10 * HOUR_S)
    gateway.publisher.adopt(make_policy(2, valid=("2026-01-01", "2026-01-14")), MIDNIGHT_S + 10 * HOUR_S)
    gateway.fill(MIDNIGHT_S + 10 * HOUR_S, MIDNIGHT_S + DAY_S)
    late = [outcome for outcome in gateway.outcomes() if outcome.node.end_s > MIDNIGHT_S + 10 * HOUR_S]
    assert late
    assert {getattr(outcome, "reason", None) for outcome in late} == {"expired"}


def test_a_policy_that_comes_just_after_a_restart_waits_for_midnight(rig: MakeRig, make_policy: MakePolicy) -> None:
    """No window is open yet, but the day has begun under the old scales."""
    gateway = rig()
    started(gateway, make_policy(1), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 10 * HOUR_S)
    gateway.restart(MIDNIGHT_S + 10 * HOUR_S + 60)
    gateway.publisher.adopt(make_policy(2, epsilon="20.0"), MIDNIGHT_S + 10 * HOUR_S + 120)
    gateway.fill(MIDNIGHT_S + 10 * HOUR_S + 120, MIDNIGHT_S + DAY_S + HOUR_S)
    scales = {
        outcome.noised[0].sigma_milli: outcome.node.start_s >= MIDNIGHT_S + DAY_S
        for outcome in gateway.outcomes()
        if isinstance(outcome, Release) and outcome.node.level == "15min"
    }
    assert sorted(scales.items(), reverse=True)[0][1] is False and sorted(scales.items())[0][1] is True
    assert len(scales) == 2


def test_what_is_told_of_newer_policies_only_grows(
    rig: MakeRig, make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older receipt takes nothing back; without room to keep it, it counts until the next start all the same."""
    gateway = rig()
    started(gateway, make_policy(2), MIDNIGHT_S)
    for told, awaited in ((2, None), (4, 4), (3, 4)):
        gateway.publisher.heed(told)
        assert gateway.publisher.awaited == awaited
    gateway.restart(MIDNIGHT_S)
    assert gateway.publisher.awaited == 4

    def full(_: Told) -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(gateway.db, "remember", full)
    with pytest.raises(DiskFull):
        gateway.publisher.heed(5)
    assert gateway.publisher.awaited == 5
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
    assert spans(gateway, "1h") == [(0, 1, "no_policy")]


# --- twins -----------------------------------------------------------------------------------------------------------


def full_nodes_again(self: Publisher, now_s: int, *refusal: Any, start: Any = Publisher.start) -> None:
    """A restart that opens what a gateway would have had that had never stopped."""
    start(self, Calendar("Europe/Paris").day(now_s).start_s, *refusal)


TWINS: dict[str, tuple[Any, str, Any, Callable[..., None], dict[str, Any]]] = {
    "a clock behind is followed": (
        Ledger,
        "high_water_s",
        lambda *_: 0,
        test_a_clock_behind_the_newest_charge_waits,
        {},
    ),
    "a clock put forward forgets what was open": (
        Publisher,
        "withhold_open",
        lambda self: self._eras.clear(),
        test_a_clock_put_forward_withholds_what_was_open_and_goes_on_at_the_next_quarter_hour,
        {},
    ),
    "a restart goes on as if there had been none": (
        Publisher,
        "start",
        full_nodes_again,
        test_a_restart_loses_what_was_open_and_never_draws_again,
        {},
    ),
    "every day has 24 hours": (
        murmure_privacy.window,
        "ZoneInfo",
        lambda _: timezone(timedelta(hours=1)),
        test_on_days_of_a_clock_change_every_node_is_there_once,
        {},
    ),
    "a policy has no end": (
        murmure_edge.publisher,
        "last_s",
        lambda _: 1 << 40,
        test_after_its_last_day_publication_stops_by_itself,
        {"judge_dates": True, "reason": "expired"},
    ),
    "a pause waits for midnight": (
        Publisher,
        "_orders",
        lambda _, era: (era.plan.policy, era.publish_until_s),
        test_a_pause_and_a_dropped_stream_act_at_once,
        {"change": {"extra": "paused = true"}, "reason": "paused"},
    ),
    "only the newest policy is asked": (
        Publisher,
        "_orders",
        lambda self, era: (self.policy, era.publish_until_s),
        test_a_pause_that_is_lifted_on_the_same_day_publishes_nothing_of_it,
        {},
    ),
    "better protection waits for midnight": (
        murmure_edge.publisher,
        "protects_better",
        lambda *_: False,
        test_a_tighter_policy_withholds_whole_nodes_until_its_midnight,
        {},
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_gateway_with_one_rule_of_time_missing_is_caught(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each rule's own test turns red when that rule is taken out."""
    where, what, wrong, rule, given = TWINS[name]
    asked = inspect.signature(rule).parameters.keys() - given.keys()
    fixtures = {fixture: request.getfixturevalue(fixture) for fixture in sorted(asked)}
    monkeypatch.setattr(where, what, wrong)
    with pytest.raises(AssertionError):
        rule(**fixtures, **given)
