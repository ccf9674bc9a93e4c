"""What the centre writes into its transparency log, in the same commit as what it is about."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from murmure_ingest import gateways, logbook
from murmure_ingest.archive import Archive, StoredAnnotation, StoredPolicy
from murmure_ingest.inspection import inspect
from murmure_ingest.intake import Stored
from murmure_ingest.rules import RuleBook
from murmure_privacy import log, wire
from murmure_privacy.annotation import Annotation
from murmure_privacy.release import Withheld

MONDAY_S = 1_795_392_000
DAY_S = 86_400
QUARTERS = 96


def told(centre: Any, kind: str = "") -> list[dict[str, Any]]:
    """Returns the entries of a kind, oldest first."""
    entries = [json.loads(entry) for entry in centre.archive.log_entries()]
    return [entry for entry in entries if kind in ("", entry["kind"])]


def sound(centre: Any) -> bool:
    return inspect(centre.archive, RuleBook(centre.archive)).findings == []


def test_who_may_speak_and_what_stewards_signed_is_logged(centre: Any, policy_text: Any) -> None:
    """Enrolment, policy, annotation and revocation, in their order, with what anybody needs to check signatures."""
    gateway = centre.gateway()
    sealed = centre.signed(policy_text("plaza", 2))
    gateways.publish_policy(centre.archive, sealed, now_s=MONDAY_S)
    centre.intake.accept_many(gateway.history(4))
    note = Annotation("plaza", 1, MONDAY_S, "Bâche.", "plaza/footfall", MONDAY_S - 1800, MONDAY_S - 900, "works")
    signed = wire.seal_annotation(note, [("s", centre.steward[0])])
    with centre.archive.transaction():
        centre.archive.put_annotation(StoredAnnotation(note, signed, 1))
    gateways.revoke(centre.archive, "gw-plaza")
    entries = told(centre)
    assert [entry["kind"] for entry in entries] == [
        *("enrolment", "policy", "policy", "annotation", "spend", "revocation")
    ]
    enrolment, first, second, annotation, _, revocation = entries
    assert enrolment["record_key"] == wire.public_key(gateway.secret).hex()
    assert enrolment["stewards"] == [centre.steward[1].hex()]
    assert (first["published"], second["published"]) == (None, "2026-11-23T00:00:00Z")
    assert (second["version"], second["sealed"]) == (2, wire.digest(sealed).hex())
    assert second["hash"] == wire.digest(policy_text("plaza", 2)).hex()
    assert annotation["sealed"] == wire.digest(signed).hex()
    assert (revocation["gateway"], revocation["last"]) == ("gw-plaza", 4)
    assert sound(centre)


def test_an_account_is_closed_when_its_day_is_over(centre: Any) -> None:
    """One entry for each gateway and day, once the gateway has spoken of a later one: nodes, charges, last message."""
    gateway = centre.gateway()
    history = gateway.history(2 * QUARTERS + 1)
    centre.intake.accept_many(history[:QUARTERS])
    assert told(centre, "spend") == []
    centre.accept(*history[QUARTERS])
    (account,) = told(centre, "spend")
    assert (account["gateway"], account["day"], account["last"]) == ("gw-plaza", "2026-11-23", QUARTERS)
    assert account["hash"] == wire.digest(gateway.sealed[QUARTERS - 1]).hex()
    footfall = next(one for one in account["streams"] if one["stream"] == "plaza/footfall")
    assert footfall["policy"] == 1
    assert {level: nodes[:2] for level, nodes in footfall["nodes"].items()} == {
        "15min": [72, 24],
        "1h": [24, 0],
        "6h": [4, 0],
        "1d": [1, 0],
    }
    filed = [
        outcome
        for stream in centre.archive.streams()
        for outcome in centre.archive.outcomes(stream.stream, 0, MONDAY_S + DAY_S)
        if outcome.node.end_s <= MONDAY_S + DAY_S
    ]
    charged = sum(noised.rho_micro for outcome in filed for noised in getattr(outcome, "noised", ()))
    assert sum(nodes[2] for one in account["streams"] for nodes in one["nodes"].values()) == charged > 0
    centre.intake.accept_many(history)
    assert [entry["day"] for entry in told(centre, "spend")] == ["2026-11-23", "2026-11-24"]
    assert sound(centre)


def test_no_account_depends_on_a_value(centre: Any, tmp_path: Any, make_centre: Any) -> None:
    """Two streets with other counts have the same accounts, but for the hash of the message."""

    def accounts(place: Any, value: int) -> list[dict[str, Any]]:
        gateway = place.gateway()
        for number in range(QUARTERS + 1):
            closing_s = MONDAY_S + (number + 1) * 900
            place.accept(gateway.topic, gateway.seal(closing_s, outcomes=gateway.outcomes(closing_s, value)))
        return [{**entry, "hash": ""} for entry in told(place, "spend")]

    (tmp_path / "other").mkdir()
    other = make_centre(tmp_path / "other")
    quiet, busy = accounts(centre, 7), accounts(other, 70_000)
    other.archive.close()
    assert quiet == busy != []


def test_a_hole_keeps_accounts_open(centre: Any) -> None:
    """While a message is missing the days after it have no account; when it has come, all have."""
    gateway = centre.gateway()
    history = gateway.history(3 * QUARTERS)
    centre.intake.accept_many(history[:50] + history[51:])
    assert told(centre, "spend") == []
    centre.accept(*history[50])
    assert [entry["day"] for entry in told(centre, "spend")] == ["2026-11-23", "2026-11-24"]
    assert sound(centre)


def test_an_account_is_written_anew_when_what_had_waited_is_filed(centre: Any, policy_text: Any) -> None:
    """Messages under a policy that came late: the newest account of the day has them, and the first one stays."""
    gateway = centre.gateway(published=False)
    late, gateway.policy = gateway.policy, policy_text("plaza", 2)
    gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
    gateway.policy = late
    sealed = [gateway.seal(MONDAY_S + 900 * number) for number in (1, 2)]
    gateway.policy = policy_text("plaza", 2)
    sealed += [gateway.seal(MONDAY_S + 900 * number) for number in (3, QUARTERS + 1)]
    centre.intake.accept_many([(gateway.topic, one) for one in sealed])
    with centre.archive.transaction():
        centre.archive.put_policy(StoredPolicy(wire.digest(late), "plaza", 1, late, centre.signed(late)))
    centre.intake.reconsider()
    before, after = told(centre, "spend")
    assert [[one["policy"] for one in account["streams"]] for account in (before, after)] == [[2], [1, 2]]
    assert before["day"] == after["day"] == "2026-11-23"
    assert sound(centre)


def test_a_clock_that_was_put_forward_closes_no_day_early(centre: Any) -> None:
    """Nodes withheld for the clock may end on a later day; the account of the present one waits for its messages."""
    gateway = centre.gateway()
    for number in (1, 2):
        outcome = gateway.outcomes(MONDAY_S + DAY_S - 3600)[-1]
        ahead = replace(outcome.node, start_s=MONDAY_S + DAY_S - 3600, end_s=MONDAY_S + 2 * DAY_S - 3600)
        withheld = Withheld(replace(ahead, covered_from_s=ahead.start_s), "clock")
        closing_s = MONDAY_S + number * 900
        outcomes = (*gateway.outcomes(closing_s), withheld) if number == 1 else gateway.outcomes(closing_s)
        assert isinstance(centre.accept(gateway.topic, gateway.seal(closing_s, outcomes=outcomes)), Stored)
    assert told(centre, "spend") == []
    centre.accept(gateway.topic, gateway.seal(MONDAY_S + DAY_S + 900))
    assert [entry["day"] for entry in told(centre, "spend")] == ["2026-11-23"]


def test_the_log_is_one_of_all_who_write(centre: Any, policy_text: Any) -> None:
    """A command beside the centre adds its entry; the centre's next account follows it."""
    gateway = centre.gateway()
    history = gateway.history(QUARTERS + 1)
    centre.intake.accept_many(history[:QUARTERS])
    beside = Archive.open(centre.config.archive)
    gateways.publish_policy(beside, centre.signed(policy_text("plaza", 2)))
    assert beside.log_checkpoint() == centre.archive.log_checkpoint()
    beside.close()
    centre.accept(*history[-1])
    assert [entry["kind"] for entry in told(centre)] == ["enrolment", "policy", "policy", "spend"]
    assert sound(centre)


def test_a_checkpoint_is_signed_once_for_each_size(centre: Any, policy_text: Any) -> None:
    """It is what the entries add up to, and the one before stays."""
    centre.gateway()
    first = centre.archive.sign_log(centre.secret)
    assert centre.archive.sign_log(centre.secret) == first
    gateways.publish_policy(centre.archive, centre.signed(policy_text("plaza", 2)))
    second = centre.archive.sign_log(centre.secret)
    size, key, note = centre.archive.signed_checkpoint()
    assert (first.size, second.size, size) == (2, 3, 3)
    leaves = [log.leaf_hash(entry) for entry in centre.archive.log_entries()]
    assert key == wire.public_key(centre.secret)
    assert log.open_checkpoint(note, key) == second == log.Checkpoint(3, log.root(leaves))
    assert log.proves_consistency(2, first.root, 3, second.root, log.consistency_proof(leaves, 2))
    assert [len(list(centre.archive.log_entries(up_to))) for up_to in (0, 2)] == [0, 2]


@pytest.mark.parametrize("table", ["log", "checkpoints"])
def test_nothing_is_taken_out_of_the_log(centre: Any, table: str) -> None:
    """The file refuses to change or delete an entry or a checkpoint."""
    centre.gateway()
    centre.archive.sign_log(centre.secret)
    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = rowid + 1"):
        with pytest.raises(Exception, match="only grows"), centre.archive.transaction():
            centre.archive._db.execute(statement)


def test_what_was_settled_and_not_filed_is_accounted_for(centre: Any) -> None:
    """A number without a filed message is named in the account, so that nobody takes it for one that was dropped."""
    gateway = centre.gateway()
    for number in range(1, QUARTERS + 2):
        elsewhere = {"site": "moon"} if number in (5, 6, 9) else {}
        centre.accept(gateway.topic, gateway.seal(MONDAY_S + number * 900, **elsewhere))
    (account,) = told(centre, "spend")
    assert account["without"] == [[5, 6], [9, 9]]
    assert sound(centre)


def test_what_was_filed_is_found_again_by_day_and_by_number(centre: Any) -> None:
    """As it was sealed, up to a row of the archive."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(QUARTERS + 2))
    row, day = centre.archive.newest_row(), MONDAY_S // DAY_S
    assert centre.archive.days_with_nodes(row) == [day, day + 1]
    assert centre.archive.sealed_on(day, row) == gateway.sealed[:QUARTERS]
    assert centre.archive.sealed_on(day + 1, row) == gateway.sealed[QUARTERS:]
    assert centre.archive.sealed_on(day + 1, row - 1) == gateway.sealed[QUARTERS:-1]
    assert centre.archive.sealed_at("gw-plaza", 3) == gateway.sealed[2]
    assert centre.archive.sealed_at("gw-plaza", 999) is None


def test_what_was_rolled_back_is_not_remembered(centre: Any) -> None:
    """Whoever asks within a transaction that fails hears of an entry that never was: another may take its place."""
    archive = centre.archive
    centre.gateway()
    with pytest.raises(RuntimeError), archive.transaction():
        logbook.annotated(archive._db, "plaza", 77, b"x")
        here = archive.log_checkpoint()
        archive.log_proof(1, here.size)
        raise RuntimeError
    with archive.transaction():
        logbook.annotated(archive._db, "plaza", 78, b"y")
    assert archive.log_checkpoint() == logbook.checkpoint(archive._db) != here
    assert archive.log_proof(1, here.size) == logbook.proof(archive._db, 1, here.size)
