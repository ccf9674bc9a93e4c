"""What may be filed, what is refused and counted, and what a refusal leaves behind."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_ingest import gateways
from murmure_ingest.archive import CONFLICTS_KEPT, Archive, ArchiveError, ArchiveWaits, StoredMessage, database
from murmure_ingest.intake import REASONS, Conflict, Duplicate, Heard, Intake, Refused, Stored, Word
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.release import Release

MONDAY_S = 1_795_392_000  # 2026-11-23 00:00 UTC
HOUR_S = MONDAY_S + 3600
QUARTERS = 8


def test_a_good_message_is_filed_with_all_its_nodes(centre: Any) -> None:
    """A message that its gateway signed under its policy is Stored, and its outcomes read back as they were sealed."""
    gateway = centre.gateway()
    message = gateway.message(HOUR_S)
    assert centre.accept(gateway.topic, gateway.seal(HOUR_S)) == Stored("gw-plaza", 1, len(message.outcomes))
    read = [o for s in centre.archive.streams() for o in centre.archive.outcomes(s.stream, 0, 1 << 40)]
    assert {o.node.key for o in read} == {o.node.key for o in message.outcomes}
    assert set(read) == set(message.outcomes)
    counts = centre.archive.counts()
    assert (counts["stored"], counts["withheld"], counts["refused"]) == (2, 1, {})


def test_the_same_bytes_again_are_a_duplicate(centre: Any) -> None:
    """A replay changes nothing and is counted in nodes."""
    gateway = centre.gateway()
    sealed = gateway.seal(HOUR_S)
    centre.accept(gateway.topic, sealed)
    before = centre.content()
    assert centre.accept(gateway.topic, sealed) == Duplicate("gw-plaza", 1, 3)
    assert centre.content() == before
    assert centre.archive.counts()["duplicates"] == 3


def unsigned(gateway: Any, _: Any) -> tuple[str, bytes]:
    parts = cbor2.loads(gateway.seal(HOUR_S)).value
    return gateway.topic, parts[2]


def empty_signature(gateway: Any, _: Any) -> tuple[str, bytes]:
    parts = cbor2.loads(gateway.seal(HOUR_S)).value
    return gateway.topic, cbor2.dumps(cbor2.CBORTag(18, [*parts[:3], b""]), canonical=True)


def signed_by_a_stranger(gateway: Any, _: Any) -> tuple[str, bytes]:
    gateway.secret = wire.new_key()[0]
    return gateway.topic, gateway.seal(HOUR_S)


def on_anothers_topic(gateway: Any, centre: Any) -> tuple[str, bytes]:
    return centre.gateway("gw-other", "other").topic, gateway.seal(HOUR_S)


def on_anothers_quartier(gateway: Any, _: Any) -> tuple[str, bytes]:
    return gateway.topic.replace("centre", "nord"), gateway.seal(HOUR_S)


def one_bit_flipped(gateway: Any, _: Any) -> tuple[str, bytes]:
    sealed = bytearray(gateway.seal(HOUR_S))
    sealed[-1] ^= 1
    return gateway.topic, bytes(sealed)


def trailing_bytes(gateway: Any, _: Any) -> tuple[str, bytes]:
    return gateway.topic, gateway.seal(HOUR_S) + b"\x00"


def one_mebibyte(gateway: Any, _: Any) -> tuple[str, bytes]:
    return gateway.topic, gateway.seal(HOUR_S) + bytes(1 << 20)


def one_mebibyte_from_nobody(gateway: Any, _: Any) -> tuple[str, bytes]:
    return gateway.topic.replace("gw-plaza", "gw-nobody"), bytes(1 << 20)


def nothing_at_all(gateway: Any, _: Any) -> tuple[str, bytes]:
    return gateway.topic, b""


def from_an_unknown_gateway(gateway: Any, _: Any) -> tuple[str, bytes]:
    return gateway.topic.replace("gw-plaza", "gw-nobody"), gateway.seal(HOUR_S, gateway="gw-nobody")


def on_nobodys_topic(gateway: Any, _: Any) -> tuple[str, bytes]:
    return gateway.topic.replace("gw-plaza", "gw-nobody"), gateway.seal(HOUR_S)


def forged_for_a_revoked_gateway(gateway: Any, centre: Any) -> tuple[str, bytes]:
    gateways.revoke(centre.archive, gateway.name)
    return signed_by_a_stranger(gateway, centre)


def from_a_revoked_gateway(gateway: Any, centre: Any) -> tuple[str, bytes]:
    gateways.revoke(centre.archive, gateway.name)
    return gateway.topic, gateway.seal(HOUR_S)


def on_a_strange_topic(gateway: Any, _: Any) -> tuple[str, bytes]:
    return gateway.topic + "/more", gateway.seal(HOUR_S)


def health_as_release(gateway: Any, _: Any) -> tuple[str, bytes]:
    return gateway.topic, gateway.health(10)[1]


def of_a_later_version(gateway: Any, _: Any) -> tuple[str, bytes]:
    fields = cbor2.loads(cbor2.loads(gateway.seal(HOUR_S)).value[2])
    payload = cbor2.dumps({**fields, 0: 2}, canonical=True)
    return gateway.topic, wire._seal1(payload, gateway.secret, gateway.name)


def in_anothers_name(gateway: Any, centre: Any) -> tuple[str, bytes]:
    centre.gateway("gw-other", "other")
    return gateway.topic, wire.seal_message(gateway.message(HOUR_S, gateway="gw-other"), gateway.secret)


COUNTED_ONLY: list[tuple[Callable[[Any, Any], tuple[str, bytes]], str]] = [
    (unsigned, "malformed"),
    (empty_signature, "bad_signature"),
    (signed_by_a_stranger, "bad_signature"),
    (on_anothers_topic, "wrong_topic"),
    (on_nobodys_topic, "wrong_topic"),
    (on_anothers_quartier, "wrong_topic"),
    (one_bit_flipped, "bad_signature"),
    (trailing_bytes, "not_canonical"),
    (one_mebibyte, "oversized"),
    (one_mebibyte_from_nobody, "oversized"),  # size comes first: nothing is looked up for it
    (nothing_at_all, "malformed"),
    (from_an_unknown_gateway, "unknown_gateway"),
    (from_a_revoked_gateway, "revoked_gateway"),
    (forged_for_a_revoked_gateway, "bad_signature"),
    (on_a_strange_topic, "bad_topic"),
    (health_as_release, "wrong_topic"),
    (of_a_later_version, "unknown_version"),
    (in_anothers_name, "bad_signature"),
]


@pytest.mark.parametrize(("bad", "reason"), COUNTED_ONLY, ids=[bad.__name__ for bad, _ in COUNTED_ONLY])
def test_what_the_gateway_did_not_say_here_is_counted_and_leaves_nothing(
    centre: Any, bad: Callable[[Any, Any], tuple[str, bytes]], reason: str
) -> None:
    """Bytes without the right signature on the right topic are refused, counted by reason and stored nowhere."""
    gateway = centre.gateway()
    topic, payload = bad(gateway, centre)
    word = centre.accept(topic, payload)
    assert isinstance(word, Refused)
    assert (word.reason, word.fate) == (reason, "counted")
    assert centre.refused() == {reason: 1}
    counts = centre.archive.counts()
    assert (counts["messages"], counts["conflicts"], counts["stored"] + counts["withheld"]) == (0, 0, 0)
    assert centre.archive.totals(gateway.name).settled_seq == 0


@pytest.mark.parametrize("bad", [bad for bad, _ in COUNTED_ONLY if "revoked" not in bad.__name__])
def test_a_strangers_message_does_not_keep_the_true_one_out(
    centre: Any, bad: Callable[[Any, Any], tuple[str, bytes]]
) -> None:
    """After any refusal that a stranger can cause, the gateway's own message is filed all the same."""
    gateway = centre.gateway()
    secret = gateway.secret
    centre.accept(*bad(gateway, centre))
    gateway.secret = secret
    gateway.sealed.clear()
    assert isinstance(centre.accept(gateway.topic, gateway.seal(HOUR_S)), Stored)


def changed(outcome: Release, **changes: object) -> Release:
    return Release(replace(outcome.node, **changes), outcome.noised)  # type: ignore[arg-type]


def less_noise(outcome: Release) -> Release:
    return Release(outcome.node, (replace(outcome.noised[0], sigma_milli=1), *outcome.noised[1:]))


def smaller_charge(outcome: Release) -> Release:
    return Release(outcome.node, (replace(outcome.noised[0], rho_micro=1), *outcome.noised[1:]))


def wider(outcome: Release) -> Release:
    return Release(outcome.node, (replace(outcome.noised[0], integers=(1, 2)), *outcome.noised[1:]))


NOT_IN_POLICY: dict[str, Callable[[Release], Release]] = {
    "another stream": lambda o: changed(o, stream="plaza/voices"),
    "another quantity": lambda o: changed(o, quantity="pm10"),
    "another level": lambda o: changed(o, level="1w"),
    "not aligned": lambda o: changed(o, start_s=o.node.start_s + 60, covered_from_s=o.node.start_s + 60),
    "not a whole node": lambda o: changed(o, end_s=o.node.end_s + 900),
    "covered not on a quarter-hour": lambda o: changed(o, covered_from_s=o.node.start_s + 60),
    "another cadence": lambda o: changed(o, cadence_ms=125),
    "other bounds": lambda o: changed(o, bounds=(0, 99)),
    "beyond all calendars": lambda o: changed(
        o, level="1d", start_s=(1 << 32) - 900, end_s=1 << 32, covered_from_s=(1 << 32) - 900
    ),
    "less noise than promised": less_noise,
    "a smaller charge": smaller_charge,
    "more figures": wider,
    "an indicator too many": lambda o: Release(o.node, (*o.noised, o.noised[0])),
}


@pytest.mark.parametrize("change", NOT_IN_POLICY.values(), ids=NOT_IN_POLICY.keys())
def test_what_the_signed_policy_does_not_allow_refuses_the_whole_message(
    centre: Any, change: Callable[[Release], Release]
) -> None:
    """One node outside the policy, and no node of the message is filed; the receipt settles it as an exception."""
    gateway = centre.gateway()
    first, *others = gateway.outcomes(HOUR_S - 900)
    sealed = gateway.seal(HOUR_S - 900, outcomes=(change(first), *others))
    word = centre.accept(gateway.topic, sealed)
    assert isinstance(word, Refused)
    assert (word.reason, word.fate, word.seq) == ("not_in_policy", "refused", 1)
    assert centre.refused() == {"not_in_policy": 1}
    assert centre.archive.counts()["stored"] == 0
    assert centre.archive.find(gateway.name, 1).sealed is None
    assert centre.archive.exceptions(gateway.name, 1) == [(1, "refused")]
    assert centre.archive.totals(gateway.name).settled_seq == 1
    assert isinstance(centre.accept(gateway.topic, sealed), Duplicate)
    assert isinstance(centre.accept(gateway.topic, gateway.seal(HOUR_S)), Stored)


def test_a_policy_of_another_site_does_not_cover_this_one(centre: Any) -> None:
    """Naming another site's published policy refuses the message."""
    gateway = centre.gateway()
    gateway.policy = centre.gateway("gw-other", "other").policy
    word = centre.accept(gateway.topic, gateway.seal(HOUR_S))
    assert isinstance(word, Refused)
    assert (word.reason, word.fate) == ("not_in_policy", "refused")


@pytest.mark.parametrize("change", [{"quartier": "nord"}, {"site": "other"}])
def test_a_gateway_speaks_only_for_its_own_place(centre: Any, change: dict[str, str]) -> None:
    """Quartier and site inside the message must be the registered ones."""
    gateway = centre.gateway()
    word = centre.accept(gateway.topic, gateway.seal(HOUR_S, **change))
    assert isinstance(word, Refused)
    assert (word.reason, word.fate) == ("wrong_site", "refused")


def test_a_second_message_under_one_number_is_kept_as_a_conflict(centre: Any) -> None:
    """The first message of a sequence number stays; the other is evidence, once, and never more than so many."""
    gateway = centre.gateway()
    centre.accept(gateway.topic, gateway.seal(HOUR_S))
    before = centre.content()[:3]
    others = [
        (gateway.topic, wire.seal_message(gateway.message(HOUR_S + n * 900, seq=1, previous=bytes(32)), gateway.secret))
        for n in range(1, CONFLICTS_KEPT + 5)
    ]
    for word in centre.intake.accept_many(others * 2):
        assert isinstance(word, Conflict)
        assert (word.reason, word.seq) == ("sequence_conflict", 1)
    assert centre.content()[:3] == before
    assert centre.archive.counts()["conflicts"] == CONFLICTS_KEPT


@pytest.mark.parametrize("early", [True, False], ids=["after its successor", "after its predecessor"])
def test_a_broken_chain_is_put_aside_whole(centre: Any, early: bool) -> None:
    """A message whose neighbours name other hashes is quarantined, whichever came first."""
    gateway = centre.gateway()
    first, second = gateway.seal(HOUR_S), gateway.seal(HOUR_S + 900, previous=b"x" * 32)
    order = [second, first] if early else [first, second]
    assert isinstance(centre.accept(gateway.topic, order[0]), Stored)
    word = centre.accept(gateway.topic, order[1])
    assert isinstance(word, Refused)
    assert (word.reason, word.fate) == ("chain_broken", "quarantined")
    assert centre.archive.counts()["quarantined"] == 1
    assert centre.archive.find(gateway.name, 1 if early else 2).sealed == order[1]
    assert [word for _, word in centre.archive.exceptions(gateway.name, 2)] == ["forked"]


@pytest.mark.parametrize("fork", ["two messages with one number", "a broken chain"])
def test_after_a_fork_nothing_of_the_gateway_is_filed(centre: Any, fork: str) -> None:
    """Two cards speak with one key: all that is new is put aside whole, settled as forked, and never reconsidered."""
    gateway, other = centre.gateway(), centre.gateway("gw-other", "other")
    centre.accept(gateway.topic, gateway.seal(HOUR_S))
    assert not centre.archive.cloned(gateway.name)
    if fork == "a broken chain":
        centre.accept(gateway.topic, gateway.seal(HOUR_S + 900, previous=b"x" * 32))
    else:
        twin = wire.seal_message(gateway.message(HOUR_S + 900, seq=1, previous=bytes(32)), gateway.secret)
        centre.accept(gateway.topic, twin)
    assert centre.archive.cloned(gateway.name) and not centre.archive.cloned(other.name)
    filed = centre.archive.counts()["stored"]
    for hour in (2, 3):
        word = centre.accept(gateway.topic, gateway.seal(HOUR_S + hour * 3600))
        assert (word.reason, word.fate) == ("cloned", "quarantined")
    assert centre.archive.counts()["stored"] == filed and centre.intake.reconsider() == []
    settled = centre.archive.totals(gateway.name).settled_seq
    assert settled == len(gateway.sealed)
    assert [seq for seq, word in centre.archive.exceptions(gateway.name, settled) if word == "forked"][-2:] == [
        settled - 1,
        settled,
    ]
    assert isinstance(centre.accept(other.topic, other.seal(HOUR_S)), Stored)


def test_a_first_message_names_nothing_before_it(centre: Any) -> None:
    """Sequence number 1 carries 32 zero bytes as the hash before it."""
    gateway = centre.gateway()
    word = centre.accept(gateway.topic, gateway.seal(HOUR_S, previous=b"x" * 32))
    assert isinstance(word, Refused)
    assert word.reason == "chain_broken"


def test_a_node_has_one_release_for_ever(centre: Any) -> None:
    """A second release of a node refuses its message, keeps it as evidence, and the first stays."""
    gateway = centre.gateway()
    centre.accept(gateway.topic, gateway.seal(HOUR_S))
    before = centre.content()[1]
    word = centre.accept(gateway.topic, gateway.seal(HOUR_S, outcomes=gateway.outcomes(HOUR_S, value=8)))
    assert isinstance(word, Conflict)
    assert word.reason == "node_conflict"
    assert centre.content()[1] == before
    assert [reason for *_, reason in centre.archive.conflicts()] == ["forked_node"]


def test_two_releases_of_one_node_are_two_cards(centre: Any) -> None:
    """A thief who leaves holes in the numbers is known by the first interval of which both speak, and both are told."""
    gateway = centre.gateway()
    for number in (1, 2):
        centre.accept(gateway.topic, gateway.seal(HOUR_S + number * 900))
    thief = gateway.message(HOUR_S + 3 * 900, seq=1000, previous=b"x" * 32)
    assert isinstance(centre.accept(gateway.topic, wire.seal_message(thief, gateway.secret)), Stored)
    assert not centre.archive.cloned(gateway.name)
    word = centre.accept(gateway.topic, gateway.seal(HOUR_S + 3 * 900))
    assert word.reason == "node_conflict"
    assert centre.archive.cloned(gateway.name)
    assert centre.archive.exceptions(gateway.name, 3) == [(3, "forked")]
    more = replace(thief, seq=1002, closing_s=HOUR_S + 4 * 900, outcomes=gateway.outcomes(HOUR_S + 4 * 900))
    assert centre.accept(gateway.topic, wire.seal_message(more, gateway.secret)).reason == "cloned"


def test_a_gateway_that_repeats_its_forerunner_is_no_clone(centre: Any) -> None:
    """A node that another key has released is refused and kept, and the gateway goes on."""
    first, second = centre.gateway("gw-old"), centre.gateway("gw-new")
    centre.accept(first.topic, first.seal(HOUR_S))
    assert centre.accept(second.topic, second.seal(HOUR_S)).reason == "node_conflict"
    assert [reason for *_, reason in centre.archive.conflicts()] == ["node_conflict"]
    assert not centre.archive.cloned("gw-old") and not centre.archive.cloned("gw-new")
    assert isinstance(centre.accept(second.topic, second.seal(HOUR_S + 900)), Stored)


def test_evidence_of_one_kind_does_not_hide_another(centre: Any) -> None:
    """However many conflicts of nodes were kept before, the first second message under a number shows the clone."""
    first, second = centre.gateway("gw-old"), centre.gateway("gw-new")
    centre.accept(first.topic, first.seal(HOUR_S))
    for _ in range(CONFLICTS_KEPT + 1):
        centre.accept(second.topic, second.seal(HOUR_S))
    assert not centre.archive.cloned("gw-new")
    twin = wire.seal_message(second.message(HOUR_S + 900, seq=2, previous=bytes(32)), second.secret)
    assert centre.accept(second.topic, twin).reason == "sequence_conflict"
    assert centre.archive.cloned("gw-new")
    assert len(centre.archive.conflicts()) == CONFLICTS_KEPT + 1


@pytest.mark.parametrize("boots", [(2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("late", [True, False], ids=["the hole's near side comes late", "in order"])
def test_boots_are_counted_across_a_hole(centre: Any, boots: tuple[int, int], late: bool) -> None:
    """No hash joins two messages with a hole between; a later number from an earlier boot is another card all the
    same."""
    gateway = centre.gateway()
    near, _, far = (gateway.seal(HOUR_S + n * 900, boot=boots[n // 2]) for n in (0, 1, 2))
    words = [centre.accept(gateway.topic, sealed) for sealed in ((far, near) if late else (near, far))]
    assert isinstance(words[0], Stored)
    assert getattr(words[1], "reason", "filed") == ("chain_broken" if boots[0] > boots[1] else "filed")
    assert centre.archive.cloned(gateway.name) == (boots[0] > boots[1])


def test_a_hole_that_nobody_can_fill_stops_the_receipts_and_nothing_else(centre: Any) -> None:
    """What comes after it is filed, and asked for is the hole alone; the gateway that replaces this one begins at 1."""
    first = centre.gateway("gw-first")
    history = first.history(6)
    words = centre.intake.accept_many([one for number, one in enumerate(history, 1) if number != 3])
    assert {type(word) for word in words} == {Stored}
    assert centre.archive.totals("gw-first").settled_seq == 2
    assert centre.archive.missing("gw-first") == [(3, 3)]
    gateways.revoke(centre.archive, "gw-first")
    second = centre.gateway("gw-second")
    words = [centre.accept(second.topic, second.seal(MONDAY_S + number * 900)) for number in (7, 8)]
    assert [type(word) for word in words] == [Stored, Stored]
    assert centre.archive.totals("gw-second").settled_seq == 2
    assert isinstance(centre.accept(*history[2]), Refused)


def test_a_node_twice_in_one_message_is_refused(centre: Any) -> None:
    """Two outcomes for one node contradict each other."""
    gateway = centre.gateway()
    outcomes = gateway.outcomes(HOUR_S)
    word = centre.accept(gateway.topic, gateway.seal(HOUR_S, outcomes=(*outcomes, outcomes[0])))
    assert isinstance(word, Conflict)
    assert word.reason == "node_conflict"


def test_a_policy_that_is_over_at_its_gateway_is_refused(centre: Any, policy_text: Any) -> None:
    """Until it has used the newer one, a gateway may be offline and honest, for weeks; afterwards it does not go back,
    not by another order of arrival either, and not in the dark of a policy that came late."""
    gateway, newer = centre.gateway(), policy_text("plaza", 2, epsilon="0.5")
    gateways.publish_policy(centre.archive, centre.signed(newer))
    day = [MONDAY_S + 86_400 * number for number in range(30)]
    sealed = [gateway.seal(day[number] + 900) for number in range(20)]
    older, gateway.policy = gateway.policy, newer
    sealed += [gateway.seal(day[20] + 900)]
    gateway.policy = older
    sealed += [gateway.seal(day[21] + 900), gateway.seal(day[21] + 1800)]
    words = centre.intake.accept_many([(gateway.topic, one) for one in sealed])
    assert [type(word) for word in words] == [Stored] * 21 + [Refused] * 2
    assert {(word.reason, word.detail) for word in words[21:]} == {
        ("not_in_policy", "plaza/footfall: policy 1 was over at this gateway, which had 2")
    }
    assert centre.archive.exceptions(gateway.name, 23) == [(22, "refused"), (23, "refused")]


def test_an_older_policy_that_came_first_keeps_the_newer_one_out(centre: Any, policy_text: Any) -> None:
    """Of two messages that contradict each other the first to arrive is filed, whichever it is."""
    gateway, newer = centre.gateway(), policy_text("plaza", 2, epsilon="0.5")
    gateways.publish_policy(centre.archive, centre.signed(newer))
    late = gateway.seal(MONDAY_S + 86_400 * 2)
    gateway.policy = newer
    early = gateway.seal(MONDAY_S + 86_400)
    assert isinstance(centre.accept(gateway.topic, late), Stored)
    assert centre.accept(gateway.topic, early).reason == "not_in_policy"


def test_what_waited_shows_a_policy_as_well(centre: Any, policy_text: Any) -> None:
    """A message that is filed once its policy is there ends the older one from then on."""
    gateway, newer = centre.gateway(), policy_text("plaza", 2, epsilon="0.5")
    older, gateway.policy = gateway.policy, newer
    assert centre.accept(gateway.topic, gateway.seal(HOUR_S)).reason == "unknown_policy"
    gateways.publish_policy(centre.archive, centre.signed(newer))
    assert [type(word) for word in centre.intake.reconsider()] == [Stored]
    gateway.policy = older
    assert centre.accept(gateway.topic, gateway.seal(HOUR_S + 86_400)).reason == "not_in_policy"


def test_what_names_an_unpublished_policy_waits_for_it(centre: Any) -> None:
    """Unknown policy: quarantined and settled; filed as if nothing had been once the policy is published."""
    gateway = centre.gateway(published=False)
    history = gateway.history(QUARTERS)
    words = centre.intake.accept_many(history)
    assert {(w.reason, w.fate) for w in words} == {("unknown_policy", "quarantined")}
    totals = centre.archive.totals(gateway.name)
    assert (totals.settled_seq, totals.charged_rho_micro) == (QUARTERS, 0)
    assert centre.intake.reconsider() == []
    gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
    assert [type(word) for word in centre.intake.reconsider()] == [Stored] * QUARTERS
    assert centre.archive.exceptions(gateway.name, QUARTERS) == []
    assert centre.archive.totals(gateway.name).charged_rho_micro > 0
    assert centre.archive.counts()["quarantined"] == 0
    assert isinstance(centre.accept(*history[0]), Duplicate)
    assert centre.intake.reconsider() == []


def test_what_waited_is_judged_like_any_other(centre: Any) -> None:
    """Once its policy is there, a message in quarantine can still be refused, for good."""
    gateway = centre.gateway(published=False)
    (quarter,) = gateway.outcomes(HOUR_S - 900)
    centre.accept(gateway.topic, gateway.seal(HOUR_S - 900, outcomes=(less_noise(quarter),)))
    centre.accept(gateway.topic, gateway.seal(HOUR_S + 3600))
    centre.accept(gateway.topic, gateway.seal(HOUR_S + 3600, outcomes=gateway.outcomes(HOUR_S + 3600, value=9)))
    gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
    words = centre.intake.reconsider()
    assert [getattr(word, "reason", "stored") for word in words] == ["not_in_policy", "stored", "node_conflict"]
    assert centre.archive.exceptions(gateway.name, 3) == [(1, "refused"), (3, "forked")]
    assert centre.refused() == {"unknown_policy": 3, "not_in_policy": 1}
    assert centre.archive.counts()["conflicting"] == {"node_conflict": 1}


class Trusting(Intake):
    """Broken on purpose: what waited is filed, whatever became of its gateway meanwhile."""

    _objection_now = Intake._content_objection


def reconsidered(centre: Any, kind: type[Intake], meanwhile: str) -> list[str]:
    """Two messages wait for their policy; their gateway is cloned or revoked, and the policy is published. Returns what
    the intake says of them then."""
    gateway, other = centre.gateway(published=False), centre.gateway("gw-other", published=False)
    for number in (1, 2):
        assert centre.accept(gateway.topic, gateway.seal(HOUR_S + number * 900)).reason == "unknown_policy"
    if meanwhile == "cloned":
        twin = wire.seal_message(gateway.message(HOUR_S + 2700, seq=2, previous=bytes(32)), gateway.secret)
        assert centre.accept(gateway.topic, twin).reason == "sequence_conflict"
    else:
        gateways.revoke(centre.archive, gateway.name)
    gateways.publish_policy(centre.archive, centre.signed(other.policy))
    intake = kind(centre.archive, RuleBook(centre.archive), lambda: centre.now_s)
    return [getattr(word, "reason", "filed") for word in intake.reconsider()]


def test_what_waited_for_a_policy_goes_on_waiting_if_its_gateway_was_cloned(centre: Any) -> None:
    """Which of two cards has sealed it nobody can know: it stays for a person to look at, for good."""
    assert reconsidered(centre, Intake, "cloned") == [] == centre.intake.reconsider()
    assert centre.archive.waiting() == {"unknown_policy": 2}
    assert centre.archive.counts()["stored"] == 0
    gateways.revoke(centre.archive, "gw-plaza")
    assert [word.reason for word in centre.intake.reconsider()] == ["revoked_gateway"] * 2


def test_what_waited_for_a_policy_is_refused_if_its_gateway_was_revoked(centre: Any) -> None:
    """A revocation holds for what is not filed yet, and waits for nothing: that is the last word on it. Its bytes stay,
    and what they cost counts."""
    assert reconsidered(centre, Intake, "revoked") == ["revoked_gateway"] * 2
    assert centre.archive.waiting() == {} and centre.intake.reconsider() == []
    assert centre.archive.exceptions("gw-plaza", 2) == [(1, "refused"), (2, "refused")]
    assert centre.refused() == {"unknown_policy": 2, "revoked_gateway": 2}
    assert centre.archive.counts()["stored"] == 0
    assert len(sorted(centre.archive.charges("plaza", 0))) == 2


@pytest.mark.parametrize("meanwhile", ["cloned", "revoked"])
def test_an_intake_that_files_what_waited_of_anybody_is_found_out(centre: Any, meanwhile: str) -> None:
    """The twin: the word of a card that nobody believes any more becomes the town's figure."""
    assert reconsidered(centre, Trusting, meanwhile) == ["filed", "filed"]


class Overtaken(Archive):
    """Another centre, woken by the same policy, files what waits just before this one writes."""

    other: Intake | None = None
    files = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self.other is not None:
            assert len(self.other.reconsider()) == self.files
        with super().transaction():
            yield


class Remembering(Overtaken):
    """Broken on purpose: what waits is what it was before the transaction."""

    _found: list[StoredMessage] | None = None
    _of: dict[str, int] | None = None

    def waiters(self, reason: str) -> dict[str, int]:
        if self._of is None:
            self._of, self._found = super().waiters(reason), super().quarantined(reason)
        return self._of

    def quarantined(self, reason: str, gateways: Iterable[str] | None = None) -> list[StoredMessage]:
        return self._found or []


def overtaken(centre: Any, kind: type[Overtaken]) -> list[Word]:
    """Two messages wait, their policy is published, and two centres file them. Returns the words of the second."""
    gateway = centre.gateway(published=False)
    centre.intake.accept_many(gateway.history(2))
    archive = kind.open(centre.config.archive)
    gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
    archive.other, archive.files = centre.intake, 2
    try:
        return Intake(archive, RuleBook(archive), lambda: centre.now_s).reconsider()
    finally:
        archive.close()


def test_of_two_centres_that_share_an_archive_one_files_what_waited(centre: Any) -> None:
    """The other finds that nothing waits any more, and goes on."""
    assert overtaken(centre, Overtaken) == []
    assert (centre.archive.counts()["stored"], centre.archive.counts()["quarantined"]) == (2, 0)


def test_a_centre_that_looks_what_waits_before_its_turn_is_found_out(centre: Any) -> None:
    """The twin files a second time what is filed, and the archive stops it."""
    with pytest.raises(ArchiveError):
        overtaken(centre, Remembering)


class Restless(Intake):
    """Broken on purpose: it opens all that waits, whatever has changed."""

    def _concerned(self) -> dict[str, int]:
        return dict.fromkeys(super()._concerned() or self._archive.waiters("unknown_policy"), 0)


class Deaf(Intake):
    """Broken on purpose: it does not hear of the register."""

    def _line(self, gateway: str) -> int:
        return 0


def opened_by(centre: Any, kind: type[Intake], monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """Two sites wait with three messages each. Returns how many messages each look opens, and its words: a first look,
    one when nothing has changed, one after a fourth message, after a policy of one site, after the other's revocation,
    and a last one."""
    first, second = (centre.gateway(f"gw-{n}", f"site-{n}", published=False) for n in range(2))
    histories = [gateway.history(4) for gateway in (first, second)]
    intake = kind(centre.archive, centre.intake._rules_of, lambda: centre.now_s)
    intake.accept_many([*histories[0][:3], *histories[1][:3]])
    count = Counter[str]()
    really = wire.open_message

    def counting(sealed: bytes, public: bytes) -> Any:
        count["opened"] += 1
        return really(sealed, public)

    monkeypatch.setattr(wire, "open_message", counting)
    found = []
    for change in (
        lambda: None,
        lambda: None,
        lambda: intake.accept_many(histories[0][3:]),
        lambda: gateways.publish_policy(centre.archive, centre.signed(second.policy)),
        lambda: gateways.revoke(centre.archive, first.name),
        lambda: None,
    ):
        change()
        count.clear()
        words = intake.reconsider()
        found.append((count["opened"], [getattr(word, "reason", "filed") for word in words]))
    monkeypatch.undo()
    return found


LOOKS = [(6, []), (0, []), (1, []), (3, ["filed"] * 3), (4, ["revoked_gateway"] * 4), (0, [])]


def test_only_what_a_change_can_concern_is_opened_again(centre: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what another site waits for, nor what was looked at since."""
    assert opened_by(centre, Intake, monkeypatch) == LOOKS


@pytest.mark.parametrize("kind", [Restless, Deaf])
def test_intakes_that_open_too_much_or_too_little_are_found_out(
    centre: Any, monkeypatch: pytest.MonkeyPatch, kind: type[Intake]
) -> None:
    """The twins: one opens other sites' messages again, the other leaves those of a revoked gateway waiting."""
    assert opened_by(centre, kind, monkeypatch) != LOOKS


def test_a_centre_that_another_keeps_from_its_turn_tries_again(centre: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody writes for long: that is worth waiting for, and is filed then."""
    gateway = centre.gateway(published=False)
    centre.intake.accept_many(gateway.history(2))
    gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.05)
    second = Archive.open(centre.config.archive)
    intake = Intake(second, RuleBook(second), lambda: centre.now_s)
    with centre.archive.transaction(), pytest.raises(ArchiveWaits):
        intake.reconsider()
    assert [type(word) for word in intake.reconsider()] == [Stored] * 2
    second.close()


def test_health_keeps_the_last_report_only(centre: Any) -> None:
    """Reports are ordered by boot first, so that a clock that is put back or a replay changes nothing. What is brought
    twice is no word against anybody."""
    gateway = centre.gateway()
    assert centre.accept(*gateway.health(100)) == Heard("gw-plaza")
    assert centre.accept(*gateway.health(200)) == Heard("gw-plaza")
    old = centre.accept(*gateway.health(100))
    assert isinstance(old, Refused)
    assert old.reason == "stale_health"
    assert centre.accept(*gateway.health(5, boot=2, at_s=1)) == Heard("gw-plaza")
    assert centre.accept(*gateway.health(5, boot=2, at_s=1)) == Heard("gw-plaza")
    (kept,) = centre.archive.health()
    assert (kept.boot, kept.uptime_s, kept.at_s) == (2, 5, 1)
    assert centre.refused() == {"stale_health": 1}


def test_health_of_another_place_is_refused(centre: Any) -> None:
    """A report must be from the gateway and quartier of its topic, and signed by it."""
    gateway = centre.gateway()
    for topic, payload, reason in (
        (*gateway.health(1, quartier="nord"), "wrong_site"),
        (*gateway.health(1, gateway="gw-other"), "unknown_gateway"),
        (gateway.health(1)[0], gateway.seal(HOUR_S), "wrong_topic"),
    ):
        word = centre.accept(topic, payload)
        assert isinstance(word, Refused)
        assert word.reason == reason
    assert centre.archive.health() == []


def test_every_reason_of_the_wire_is_one_of_ours(centre: Any) -> None:
    """Whatever bytes come, the reason counted is a listed one: counters cannot be invented by a sender."""
    gateway = centre.gateway()
    good = gateway.seal(HOUR_S)
    source = random.Random(1)
    arrivals = []
    for _ in range(2000):
        sealed = bytearray(good)
        for _ in range(source.randint(1, 3)):
            sealed[source.randrange(len(sealed))] = source.randrange(256)
        cut = len(sealed) if source.random() < 0.7 else source.randrange(len(sealed))
        arrivals.append((gateway.topic, bytes(sealed[:cut])))
    for (_, payload), word in zip(arrivals, centre.intake.accept_many(arrivals), strict=True):
        assert isinstance(word, Refused) == (payload != good)
        if isinstance(word, Refused):
            assert word.reason in REASONS
            assert word.fate == "counted"


def test_a_batch_is_kept_whole_or_not_at_all(centre: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure in the middle of a batch leaves nothing of it, and the same batch goes through afterwards."""
    gateway = centre.gateway()
    history = gateway.history(QUARTERS)
    before = centre.content()
    put, calls = centre.archive.put_next, []

    def failing(*args: Any) -> None:
        calls.append(1)
        if len(calls) == QUARTERS // 2:
            raise RuntimeError("power cut")
        put(*args)

    monkeypatch.setattr(centre.archive, "put_next", failing)
    with pytest.raises(RuntimeError):
        centre.intake.accept_many(history)
    assert centre.content() == before
    monkeypatch.undo()
    assert [type(word) for word in centre.intake.accept_many(history)] == [Stored] * QUARTERS


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, make_centre: Callable[[Path], Any]) -> Iterator[tuple[Any, bytes]]:
    """A centre that was told two gateways' histories in order, and its archive as it was before."""
    centre = make_centre(tmp_path_factory.mktemp("told"))
    centre.gateways = [centre.gateway("gw-a", "a"), centre.gateway("gw-b", "b")]
    centre.archive.close()
    blank = centre.config.archive.read_bytes()
    centre.archive = Archive.open(centre.config.archive)
    centre.intake = Intake(centre.archive, RuleBook(centre.archive), lambda: 1 << 40)
    for gateway in centre.gateways:
        centre.intake.accept_many(gateway.history(QUARTERS))
    yield centre, blank
    centre.archive.close()


@settings(max_examples=40)
@given(data=st.data())
def test_any_order_with_repeats_gives_the_same_archive(told: tuple[Any, bytes], data: st.DataObject) -> None:
    """Permuted, repeated, cut into any batches: messages, nodes, totals and conflicts come out the same."""
    centre, blank = told
    history = [(g.topic, sealed) for g in centre.gateways for sealed in g.sealed]
    order = data.draw(st.permutations(range(len(history))))
    repeats = data.draw(st.lists(st.sampled_from(range(len(history))), max_size=len(history)))
    sequence = [*order, *repeats]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sequence) - 1), max_size=4)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "archive.db"
        path.write_bytes(blank)
        archive = Archive.open(path)
        intake = Intake(archive, RuleBook(archive), lambda: 1 << 40)
        for start, end in zip([0, *cuts], [*cuts, len(sequence)], strict=True):
            intake.accept_many([history[at] for at in sequence[start:end]])
        assert replace(centre, archive=archive).content() == centre.content()
        archive.close()
