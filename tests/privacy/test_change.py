"""From one policy to the next: what a steward is told of the gap is what the rules of time make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from murmure_privacy.change import Hold, holds, takes_over_s, warning
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import Cap, Policy
from murmure_privacy.policy_words import Both
from murmure_privacy.window import Calendar, parse_utc

Write = Callable[..., Policy]
NOON_S = parse_utc("2026-11-25T11:00:00Z")  # a Wednesday, 12:00 in Paris
DECEMBER_S = parse_utc("2026-11-30T23:00:00Z")
FROM = date(2026, 12, 1)


def followed(older: Policy, version: int = 2, paused: bool = False, **stream: Any) -> Plan:
    """Returns the plan of a policy that follows another one in December, its only stream changed."""
    [own] = older.streams
    return plan(replace(older, version=version, valid_from=FROM, paused=paused, streams=(replace(own, **stream),)))


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ({"epsilon": Decimal(2)}, False),
        ({}, False),
        ({"epsilon": Decimal("0.5")}, True),
        ({"tail": 12}, True),
        ({"tail": 10}, False),
        ({"protects": ("seconds", 30)}, True),
        ({"up_to": 750}, False),
        ({"cap": Cap(1, "1y", Decimal(30))}, True),
    ],
)
def test_what_protects_better_is_withheld_until_it_begins(
    write_policy: Write, change: dict[str, Any], held: bool
) -> None:
    """A tighter policy that is sent out in November for December withholds the stream meanwhile; a looser one, or the
    same, withholds nothing."""
    older = write_policy("noise")
    why: Both = {"fr": "la règle 2 protège mieux que la 1", "en": "policy 2 protects better than 1"}
    expected = [Hold("plaza/noise", "paused", why, NOON_S, DECEMBER_S)] if held else []
    assert holds(plan(older), followed(older, **change), NOON_S) == expected


def test_a_level_that_is_raised_or_taken_away_is_withheld_for(write_policy: Write) -> None:
    """A unit that hides louder sounds protects better: up to 80 dB instead of 75, or any sound at all."""
    older = write_policy("noise", swap=(("{ seconds = 15 }", "{ seconds = 15, up_to_db = 75 }"),))
    for up_to, held in ((800, True), (None, True), (750, False), (700, False)):
        assert bool(holds(plan(older), followed(older, up_to=up_to), NOON_S)) is held


CAPS = [
    (Cap(1, "1y", Decimal(20)), True),
    (Cap(2, "1y", Decimal(60)), True),
    (Cap(1, "1w", Decimal(30)), False),
    (Cap(1, "1y", Decimal(30)), False),
    (None, False),
]


@pytest.mark.parametrize(("cap", "held"), CAPS)
def test_a_tighter_cap_is_withheld_for(write_policy: Write, cap: Cap | None, held: bool) -> None:
    """Less over the span, or more units a day; a shorter span, the same cap and none at all are no tighter."""
    own = ("epsilon = 1.0", 'epsilon = 1.0\ncap = { units_per_day = 1, span = "1y", epsilon = 30 }')
    older = write_policy("footfall", swap=(own,))
    assert bool(holds(plan(older), followed(older, cap=cap), NOON_S)) is held


def test_a_pause_and_a_dropped_stream_have_no_end(write_policy: Write) -> None:
    """Their words are those that will stand in the data; they act when the policy comes, whatever its first day."""
    older = write_policy("noise")
    [own], same = older.streams, followed(older)
    for newer, reason, why in (
        (followed(older, paused=True), "paused", "policy 2 pauses it"),
        (plan(replace(same.policy, streams=(replace(own, paused=True),))), "paused", "policy 2 pauses it"),
        (plan(replace(write_policy("pm2_5"), version=2)), "no_policy", "policy 2 has no such stream"),
    ):
        [hold] = holds(plan(older), newer, NOON_S)
        assert hold == Hold("plaza/noise", reason, hold.why, NOON_S, None) and hold.why["en"] == why
        assert hold.why["fr"].startswith("la règle 2 ")


def test_a_pause_of_what_is_yet_to_come_acts_at_once(write_policy: Write) -> None:
    """On the policy before it, which is in force; where there is none, from the day on which something would have been
    published. A stream that is dropped is as one that is paused; what protects better waits for its own day."""
    for nodes in ('"1h" = 1, "1d" = 24', '"1h" = 1, "1w" = 24', '"1h" = 1, day = 12'):
        coming = replace(write_policy("noise", swap=(('"1h" = 1, "1d" = 24', nodes),)), valid_from=FROM)
        for version, from_s in ((1, DECEMBER_S), (2, NOON_S)):
            older = replace(coming, version=version)
            gone = plan(replace(write_policy("pm2_5"), version=version + 1, valid_from=FROM))
            for newer in (followed(older, version + 1, paused=True), gone):
                [hold] = holds(plan(older), newer, NOON_S)
                assert (hold.from_s, hold.until_s) == (from_s, None)
            after = holds(plan(older), followed(older, version + 1, epsilon=Decimal("0.5")), NOON_S)
            assert [hold.from_s for hold in after] == [DECEMBER_S] * ("1d" not in nodes)
            ended = replace(older, valid_from=date(2026, 11, 1), valid_until=date(2026, 11, 24))
            assert holds(plan(ended), followed(ended, version + 1, paused=True), NOON_S) == []


def test_a_version_that_is_left_out_counts_as_a_pause(write_policy: Write) -> None:
    """Policy 3 after policy 1: the one between may have paused the stream, and a gateway that missed it withholds."""
    older = write_policy("noise")
    [hold] = holds(plan(older), followed(older, version=3), NOON_S)
    assert (hold.reason, hold.until_s) == ("no_policy", DECEMBER_S)
    assert hold.why == {
        "fr": "la règle 2, qu'un boîtier doit voir avant la 3, a pu le suspendre",
        "en": "policy 2, which a gateway has to see before 3, may have paused it",
    }


def test_what_was_withheld_anyway_is_not_told(write_policy: Write) -> None:
    """Under a pause, after the last day, or before the first one there is nothing to lose."""
    older = write_policy("noise")
    newer = followed(older, epsilon=Decimal("0.5"))
    [own] = older.streams
    for quiet in (
        replace(older, paused=True),
        replace(older, streams=(replace(own, paused=True),)),
        replace(older, valid_until=date(2026, 11, 24)),
        replace(older, valid_from=FROM),
    ):
        assert holds(plan(quiet), newer, NOON_S) == []
    ends = replace(older, valid_until=date(2026, 11, 27))
    [hold] = holds(plan(ends), newer, NOON_S)
    assert hold.until_s == parse_utc("2026-11-27T23:00:00Z")
    begins = replace(older, valid_from=date(2026, 11, 28))
    [hold] = holds(plan(begins), newer, NOON_S)
    assert hold.from_s == parse_utc("2026-11-27T23:00:00Z")


def test_a_policy_takes_over_where_no_node_is_open(write_policy: Write) -> None:
    """At once on a border of the stream's periods, else at the end of the one that is on: midnight, Monday, 06:00."""
    paris = Calendar("Europe/Paris")
    for nodes, ends in (
        ('"1h" = 1, "1d" = 24', "2026-11-25T23:00:00Z"),
        ('"1h" = 1, "1w" = 24', "2026-11-29T23:00:00Z"),
        ('"1h" = 1, day = 12', "2026-11-26T05:00:00Z"),
    ):
        policy = write_policy("noise", swap=(('"1h" = 1, "1d" = 24', nodes),))
        [stream] = plan(policy).streams.values()
        assert takes_over_s(stream, paris, NOON_S) == parse_utc(ends) == takes_over_s(stream, paris, parse_utc(ends))


def test_a_hold_is_one_line_with_civil_times() -> None:
    """What, why, the word in the data, from when to when; without an end there is nothing to wait for."""
    paris = Calendar("Europe/Paris")
    why: Both = {"fr": "la règle 2 protège mieux que la 1", "en": "policy 2 protects better than 1"}
    hold = Hold("plaza/noise", "paused", why, NOON_S, DECEMBER_S)
    assert warning(hold, paris) == {
        "fr": "plaza/noise : la règle 2 protège mieux que la 1 : publiée maintenant, elle fait retenir ce flux "
        "(paused) à partir du 2026-11-25 12:00 et jusqu'au 2026-12-01 00:00 (Europe/Paris) ; plus tard elle est "
        "publiée, plus c'est court",
        "en": "plaza/noise: policy 2 protects better than 1: published now, it is withheld (paused) from 2026-11-25 "
        "12:00 until 2026-12-01 00:00 (Europe/Paris); the later it is published, the shorter that is",
    }
    endless = warning(replace(hold, until_s=None), paris)
    assert endless["en"].endswith("it is withheld (paused) from 2026-11-25 12:00 on")
    assert endless["fr"].endswith("à partir du 2026-11-25 12:00 ; à partir de là, rien n'en est publié")
