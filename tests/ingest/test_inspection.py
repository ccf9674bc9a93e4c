"""The full check finds whatever was changed behind the centre's back."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from murmure_ingest import gateways
from murmure_ingest.archive import Archive, ArchiveDamaged
from murmure_ingest.inspection import Report, inspect
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.wire import seal_policy

QUARTERS = 8
MONDAY_S = 1_795_392_000


@pytest.fixture
def lived(centre: Any) -> Any:
    """A centre with a life behind it: two gateways, one revoked, refusals, quarantine, conflicts, a late policy."""
    first, second = centre.gateway("gw-a", "a"), centre.gateway("gw-b", "b", published=False)
    centre.intake.accept_many(first.history(QUARTERS) + second.history(QUARTERS) * 2)
    centre.accept(first.topic, wire.seal_message(first.message(MONDAY_S, seq=1), first.secret))
    centre.accept(first.topic, first.seal(MONDAY_S + 900 * 20, site="moon", seq=9))
    centre.accept(first.topic, first.seal(MONDAY_S + 900 * 21, seq=10, previous=bytes(32)))
    centre.accept(first.topic, first.seal(MONDAY_S + 900 * 22, seq=13))
    gateways.publish_policy(centre.archive, centre.signed(second.policy))
    centre.intake.reconsider()
    gateways.revoke(centre.archive, "gw-b")
    return centre


def report_of(centre: Any) -> Report:
    archive = Archive.open(centre.config.archive, read_only=True)
    try:
        return inspect(archive, RuleBook(archive))
    finally:
        archive.close()


def test_what_intake_filed_is_sound(lived: Any) -> None:
    """Refusals, quarantine, conflicts and gaps are part of a sound archive; gaps are told."""
    report = report_of(lived)
    assert report.findings == []
    assert (report.messages, report.policies, report.gaps) == (2 * QUARTERS + 3, 2, {"gw-a": 2})
    counts = lived.archive.counts()
    assert report.nodes == counts["stored"] + counts["withheld"] > 0


DAMAGE = {
    "a node is gone": ("nodes", "DELETE FROM nodes WHERE rho_micro > 0 AND level = '1h'", "not in the index"),
    "a node is moved": ("nodes", "UPDATE nodes SET end_s = end_s + 900", "not in the index"),
    "a reason is edited": ("nodes", "UPDATE nodes SET reason = 'clock' WHERE reason IS NOT NULL", "not in the index"),
    "a node is invented": (
        "nodes",
        "INSERT INTO nodes SELECT stream, level, start_s + 9, end_s, covered_from_s, quantity, present, reason, "
        "rho_micro, message, place FROM nodes LIMIT 1",
        "index: it holds",
    ),
    "a message is gone": ("messages", "DELETE FROM messages WHERE seq = 5", "running hash breaks"),
    "a hash is edited": ("messages", "UPDATE messages SET hash = zeroblob(32) WHERE seq = 3", "do not have the hash"),
    "two messages change names": (
        "messages",
        "UPDATE messages SET seq = CASE seq WHEN 2 THEN 102 ELSE seq END",
        "its row or the register says otherwise",
    ),
    "a message is edited": (
        "messages",
        "UPDATE messages SET sealed = CAST(sealed || x'00' AS BLOB) WHERE seq = 1",
        "it does not open",
    ),
    "a refusal is forgotten": (
        "messages",
        "UPDATE messages SET disposition = 'filed', sealed = x'00' WHERE disposition = 'refused'",
        "it does not open",
    ),
    "a chain is cut": (
        "messages",
        "UPDATE messages SET previous = zeroblob(32) WHERE seq = 3",
        "name the message before",
    ),
    "a gateway changes place": ("enrolments", "UPDATE enrolments SET quartier = 'nord'", "the register says otherwise"),
    "a key is exchanged": ("enrolments", "UPDATE enrolments SET record_key = zeroblob(32)", "it does not open"),
    "a register line is gone": ("enrolments", "DELETE FROM enrolments WHERE id = 1", "line of the register is missing"),
    "a policy is edited": (
        "policies",
        "UPDATE policies SET toml = CAST(replace(CAST(toml AS TEXT), '1.0', '9.0') AS BLOB)",
        "do not have the hash",
    ),
    "a policy is no policy": ("policies", "UPDATE policies SET toml = x'00'", "policy a version 1"),
    "a policy changes its version": ("policies", "UPDATE policies SET version = 9", "says of itself a version 1"),
    "a policy is gone": ("policies", "DELETE FROM policies", "the policy it names is not in the archive"),
    "stewards are exchanged": ("enrolments", "UPDATE enrolments SET stewards = zeroblob(32)", "not enough signatures"),
    "a charge is forgotten": (
        "totals",
        "UPDATE totals SET charged_rho_micro = charged_rho_micro - 1",
        "settled or charged",
    ),
    "a receipt goes too far": ("totals", "UPDATE totals SET settled_seq = settled_seq + 1", "settled or charged"),
}


@pytest.mark.parametrize(("table", "statement", "finding"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_change_behind_the_back_is_found(lived: Any, table: str, statement: str, finding: str) -> None:
    """Whatever table is edited with the triggers taken away, the check says so in a line."""
    with sqlite3.connect(lived.config.archive) as db:
        for verb in ("update", "delete"):
            db.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")
        assert db.execute(statement).rowcount != 0
    db.close()
    report = report_of(lived)
    assert any(finding in line for line in report.findings), report.findings
    assert all("\n" not in line for line in report.findings)


def test_a_policy_that_nobody_signed_is_found(lived: Any) -> None:
    """The signatures are checked again, not the fact that it was filed."""
    toml = lived.archive.policies()[0].toml
    with sqlite3.connect(lived.config.archive) as db:
        db.execute("DROP TRIGGER policies_no_update")
        db.execute("UPDATE policies SET sealed = ? WHERE site = 'a'", (seal_policy(toml, [("x", wire.new_key()[0])]),))
    db.close()
    assert report_of(lived).findings == ["policy a version 1: not enough signatures of the stewards in the register"]


def test_many_findings_are_listed_in_part(lived: Any) -> None:
    """A hundred lines are enough to see that a file is not sound; the others are counted."""
    report = Report()
    for number in range(150):
        report.add(str(number))
    assert (len(report.findings), report.left_out) == (100, 50)


def test_a_page_overwritten_is_found(lived: Any) -> None:
    """What SQLite itself finds is part of the report, or stops it in one line."""
    lived.archive.close()
    with lived.config.archive.open("r+b") as file:
        size = lived.config.archive.stat().st_size
        file.seek(size - 4096)
        file.write(b"\xff" * 4096)
    try:
        assert report_of(lived).findings
    except ArchiveDamaged as error:
        assert "\n" not in str(error)
