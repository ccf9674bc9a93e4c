"""A message that is wrong in two ways is refused for what is looked at first: each check may trust those before it.

DEFECTS is the order, a line a check; what stands there is made with the real policy, plan, wire and archive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import cbor2
import pytest
from murmure_ingest import gateways
from murmure_ingest.intake import AHEAD_S, REASONS, Conflict, Intake, Opened, Refused, Stored
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.release import Message, Release

FIRST_S = 1_795_392_000 + 900


@dataclass
class Wrong:
    """Message 2 of `gateway` in the making: one quarter-hour, after a message 1 that is filed."""

    centre: Any
    gateway: Any
    message: Message
    topic: str
    secret: bytes
    payload: Callable[[bytes], bytes] = lambda payload: payload
    envelope: list[Callable[[bytes], bytes]] = field(default_factory=list)
    revoke: bool = False
    early: bool = False

    def send(self) -> tuple[str, bytes]:
        payload = self.payload(wire._message_payload(self.message))
        sealed = wire._seal1(payload, self.secret, self.message.gateway)
        for change in self.envelope:
            sealed = change(sealed)
        if self.revoke:
            gateways.revoke(self.centre.archive, self.gateway.name)
        if self.early:
            self.centre.now_s = self.message.closing_s - AHEAD_S - 1
        return self.topic, sealed

    def with_node(self, **changes: Any) -> None:
        (outcome,) = self.message.outcomes
        assert isinstance(outcome, Release)
        noised = tuple(replace(noised, **changes) for noised in outcome.noised)
        self.message = replace(self.message, outcomes=(replace(outcome, noised=noised),))

    def with_field(self, number: int, value: object) -> None:
        inner = self.payload

        def changed(payload: bytes) -> bytes:
            return inner(cbor2.dumps({**cbor2.loads(payload), number: value}, canonical=True))

        self.payload = changed


def too_long(wrong: Wrong) -> None:
    wrong.envelope.append(lambda sealed: sealed + bytes(wire.MESSAGE_LIMIT))


def bytes_after_the_end(wrong: Wrong) -> None:
    wrong.envelope.insert(0, lambda sealed: sealed + b"\x00")


def a_field_out_of_order(wrong: Wrong) -> None:
    inner = wrong.payload

    def turned(payload: bytes) -> bytes:
        fields = cbor2.loads(inner(payload))
        return cbor2.dumps(dict(reversed(fields.items())))

    wrong.payload = turned


def of_nobody(wrong: Wrong) -> None:
    wrong.message = replace(wrong.message, gateway="gw-nobody")


def forged(wrong: Wrong) -> None:
    wrong.secret = wire.new_key()[0]


def of_a_later_version(wrong: Wrong) -> None:
    wrong.with_field(0, 2)


def with_a_field_more(wrong: Wrong) -> None:
    wrong.with_field(11, 0)


def revoked(wrong: Wrong) -> None:
    wrong.revoke = True


def on_another_topic(wrong: Wrong) -> None:
    wrong.topic = wrong.topic.replace("centre", "nord")


def of_another_site(wrong: Wrong) -> None:
    wrong.message = replace(wrong.message, site="other")


def with_a_number_that_is_taken(wrong: Wrong) -> None:
    taken = wrong.gateway.message(FIRST_S + 900 * 2)
    assert isinstance(wrong.centre.accept(wrong.gateway.topic, wire.seal_message(taken, wrong.gateway.secret)), Stored)


def after_another_message(wrong: Wrong) -> None:
    wrong.message = replace(wrong.message, previous=b"x" * 32)


def by_two_cards(wrong: Wrong) -> None:
    for closing_s in (FIRST_S + 900 * 8, FIRST_S + 900 * 9):
        later = wrong.gateway.message(closing_s, seq=9, previous=b"y" * 32)
        wrong.centre.accept(wrong.gateway.topic, wire.seal_message(later, wrong.gateway.secret))
    assert wrong.centre.archive.cloned(wrong.gateway.name)


def before_its_time(wrong: Wrong) -> None:
    wrong.early = True


def under_a_policy_that_nobody_knows(wrong: Wrong) -> None:
    (outcome,) = wrong.message.outcomes
    node = replace(outcome.node, policy=b"z" * 32)
    wrong.message = replace(wrong.message, outcomes=(replace(outcome, node=node),))


def with_less_noise(wrong: Wrong) -> None:
    wrong.with_node(sigma_milli=1)


def for_a_place_that_is_taken(wrong: Wrong) -> None:
    older = wrong.centre.gateway("gw-older")
    assert isinstance(wrong.centre.accept(older.topic, older.seal(FIRST_S + 900)), Stored)


DEFECTS: dict[Callable[[Wrong], None], str] = {
    too_long: "oversized",
    bytes_after_the_end: "not_canonical",
    a_field_out_of_order: "not_canonical",
    of_nobody: "unknown_gateway",
    forged: "bad_signature",
    of_a_later_version: "unknown_version",
    with_a_field_more: "malformed",
    revoked: "revoked_gateway",
    on_another_topic: "wrong_topic",
    of_another_site: "wrong_site",
    with_a_number_that_is_taken: "sequence_conflict",
    after_another_message: "chain_broken",
    by_two_cards: "cloned",
    before_its_time: "too_early",
    under_a_policy_that_nobody_knows: "unknown_policy",
    with_less_noise: "not_in_policy",
    for_a_place_that_is_taken: "node_conflict",
}
PAIRS = list(combinations(DEFECTS, 2))


def said(centre: Any, *defects: Callable[[Wrong], None], intake: Intake | None = None) -> str:
    """Returns the reason that a message with these defects gets, "" if it is filed."""
    gateway = centre.gateway()
    assert isinstance(centre.accept(gateway.topic, gateway.seal(FIRST_S)), Stored)
    wrong = Wrong(centre, gateway, gateway.message(FIRST_S + 900), gateway.topic, gateway.secret)
    for defect in defects:
        defect(wrong)
    word = (intake or centre.intake).accept(*wrong.send())
    assert isinstance(word, Stored | Refused | Conflict)
    return "" if isinstance(word, Stored) else word.reason


def test_a_message_without_a_defect_is_filed(centre: Any) -> None:
    """What the defects are made from is good."""
    assert said(centre) == ""


@pytest.mark.parametrize(("defect", "reason"), DEFECTS.items(), ids=[defect.__name__ for defect in DEFECTS])
def test_each_defect_alone_has_its_reason(centre: Any, defect: Callable[[Wrong], None], reason: str) -> None:
    """No check hides behind another."""
    assert said(centre, defect) == reason


@pytest.mark.parametrize(
    ("first", "second"), PAIRS, ids=[f"{first.__name__}-and-{second.__name__}" for first, second in PAIRS]
)
def test_of_two_defects_the_first_is_said(
    centre: Any, first: Callable[[Wrong], None], second: Callable[[Wrong], None]
) -> None:
    """Size, form, signature, gateway, topic, register, number, chain, time, policy, place: in this order, pair by
    pair."""
    assert said(centre, first, second) == DEFECTS[first]


def test_the_order_is_the_one_that_is_written_down() -> None:
    """REASONS lists the words in the order of the checks."""
    assert [reason for reason in REASONS if reason in DEFECTS.values() and reason != "malformed"] == [
        reason for reason in dict.fromkeys(DEFECTS.values()) if reason != "malformed"
    ]


class Hasty(Intake):
    """Broken on purpose: it asks who may speak before it asks whether it was they who spoke."""

    def open(self, arrival: tuple[str | None, bytes]) -> Opened | Refused:
        line = self._archive.enrolment((arrival[0] or "").split("/")[3])
        if line is not None and line.status != "active":
            return Refused("revoked_gateway", "the gateway was revoked")
        return super().open(arrival)


def test_an_intake_with_another_order_is_found_out(centre: Any) -> None:
    """The twin: a forged message in the name of a gateway that was revoked would count as that gateway's."""
    hasty = Hasty(centre.archive, RuleBook(centre.archive), lambda: centre.now_s)
    assert said(centre, forged, revoked, intake=hasty) != DEFECTS[forged]
