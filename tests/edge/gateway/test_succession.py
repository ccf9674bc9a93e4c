"""A gateway that holds on to a policy which its own messages show to be over is found out; an honest one never is.

What honest gateways do, in any order of days, clocks and policies, is asked in test_publisher_model.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from murmure_edge.publisher import Publisher
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Message, Release
from murmure_privacy.succession import Key, Use, Uses
from murmure_privacy.window import parse_utc

DAY_S = 86_400
START_S = parse_utc("2026-05-04T22:00:00Z")  # midnight in Paris
LOOSE, TIGHT = {"epsilon": "2.0"}, {"epsilon": "0.5"}
BOTH = ("dust", "sound")
NODES = '{ "1h" = 1, "1d" = 24 }'


class Deaf(Publisher):
    """Broken on purpose: it takes a newer policy for the streams that are new in it, and goes on with the rest as it
    was, for as long as the older one lasts."""

    def adopt(self, policy: Policy, now_s: int) -> None:
        kept = [(era, era.windows.until_s) for era in self._eras]
        super().adopt(policy, now_s)
        older = {era.stream for era, _ in kept}
        self._eras = [era for era in self._eras if era.stream not in older]
        for era, until_s in kept:
            era.windows.until_s = until_s
            self._eras.append(era)


class Deafer(Deaf):
    """And it withholds nothing that a newer policy wants withheld."""

    def _orders(self, era: Any) -> tuple[Policy, int]:
        return era.plan.policy, era.publish_until_s


class Backslider(Publisher):
    """Broken on purpose: it takes the newer policy, and goes back to the older one some days later."""

    def adopt(self, policy: Policy, now_s: int) -> None:
        super().adopt(policy, now_s)
        first = self._accepted[0][1]
        (stream,) = first.streams
        self._open(stream, first, now_s + 3 * DAY_S, None)
        next(era for era in self._eras if era.plan.policy is policy).windows.until_s = now_s + 3 * DAY_S

    def _orders(self, era: Any) -> tuple[Policy, int]:
        return era.plan.policy, era.publish_until_s


Lived = tuple[list[Message], dict[bytes, Policy]]


@pytest.fixture
def lived(rig: Callable[..., Any], make_policy: Callable[..., Policy]) -> Callable[..., Lived]:
    """lived(kind, first, second, hour=…) -> the messages of eight days under a policy, replaced on the second day."""

    def lived(kind: type[Publisher], first: dict[str, Any], second: dict[str, Any], hour: int = 10) -> Lived:
        gateway = rig(kind=kind)
        policies = [make_policy(number + 1, nodes=NODES, **what) for number, what in enumerate((first, second))]
        gateway.publisher.start(START_S)
        gateway.publisher.adopt(policies[0], START_S)
        heard_s = START_S + DAY_S + hour * 3600
        gateway.fill(START_S, heard_s, streams=BOTH)
        gateway.publisher.adopt(policies[1], heard_s)
        gateway.fill(heard_s, START_S + 8 * DAY_S, streams=BOTH)
        return [message for message, _ in gateway.messages], {policy.hash: policy for policy in policies}

    return lived


def refused(messages: list[Message], policies: dict[bytes, Policy]) -> list[tuple[int, str]]:
    """Returns (seq, what stands against it) of each message that a centre would refuse, told in this order."""
    uses = Uses(cache(lambda policy: plan(policies[policy])))
    found = []
    for message in messages:
        objection = uses.objection(message)
        if objection is None:
            uses.add(message)
        else:
            found.append((message.seq, objection))
    return found


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the same streams, tighter": ({"streams": BOTH, **LOOSE}, {"streams": BOTH, **TIGHT}),
    "the same streams, looser": ({"streams": BOTH, **TIGHT}, {"streams": BOTH, **LOOSE}),
    "one stream more": ({"streams": ("dust",)}, {"streams": BOTH}),
    "one stream for another": ({"streams": ("dust",)}, {"streams": ("sound",)}),
    "paused": ({"streams": BOTH}, {"streams": BOTH, "extra": "paused = true"}),
    "over before the older one": ({"streams": BOTH}, {"streams": BOTH, "valid": ("2026-01-01", "2026-05-06")}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_honest_gateway_is_not_objected_to(lived: Callable[..., Lived], case: str) -> None:
    """Whichever way a policy changes, and in whatever order the messages come."""
    messages, policies = lived(Publisher, *CASES[case])
    assert {node.policy for message in messages for node in [outcome.node for outcome in message.outcomes]} <= set(
        policies
    )
    source = random.Random(case)
    for order in (messages, messages[::-1], *(source.sample(messages, len(messages)) for _ in range(5))):
        assert refused(order, policies) == []


@pytest.mark.parametrize("case", ["one stream more", "one stream for another"])
def test_an_older_policy_ends_where_another_stream_shows_the_newer_one(lived: Callable[..., Lived], case: str) -> None:
    """Whoever measures one stream under the newer policy has it: the others go over to it at their next boundary."""
    messages, policies = lived(Deafer, *CASES[case])
    against = refused(messages, policies)
    assert against and all(word == "plaza/dust: policy 1 was over at this gateway, which had 2" for _, word in against)
    # "One stream for another" ends at once; else the day on which it was heard is still the older policy's.
    until_s = START_S + (DAY_S + 10 * 3600 if case == "one stream for another" else 2 * DAY_S)
    late = [
        message.seq
        for message in messages
        if any(
            isinstance(o, Release)
            and o.node.policy == min(policies, key=lambda h: policies[h].version)
            and o.node.end_s > until_s
            for o in message.outcomes
        )
    ]
    assert [seq for seq, _ in against] == late


def test_what_is_kept_of_each_use_judges_like_all_messages(lived: Callable[..., Lived]) -> None:
    """A centre keeps one line a stream and policy, the newest that it was told, and has it back after a restart."""
    messages, policies = lived(Deafer, *CASES["one stream more"])
    plan_of = cache(lambda policy: plan(policies[policy]))
    uses, against, seen = Uses(plan_of), 0, set[Key]()
    kept: dict[Key, Use] = {}
    for message in messages:
        objection = uses.objection(message)
        assert Uses(plan_of, kept.values()).objection(message) == objection
        if objection is not None:
            against += 1
            continue
        kept |= {use.key: use for use in uses.add(message)}
        seen |= {(outcome.node.stream, outcome.node.policy) for outcome in message.outcomes}
        assert kept.keys() == seen
    assert against and sorted(stream for stream, _ in kept) == ["plaza/dust", "plaza/sound"]


def test_nobody_goes_back_to_an_older_policy(lived: Callable[..., Lived]) -> None:
    """A stream that was measured under version 2 is never again released under version 1."""
    older, newer = {"streams": ("dust",), **LOOSE}, {"streams": ("dust",), **TIGHT}
    assert refused(*lived(Publisher, older, newer)) == []
    assert refused(*lived(Backslider, older, newer, hour=0))
