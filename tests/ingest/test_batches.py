"""What keeps the centre fast, said without a clock: few statements a message, signatures before the transaction, one
receipt for many messages; and what it remembers is never older than the file."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from murmure_ingest import gateways, signatures
from murmure_ingest.archive import Archive, ArchiveError
from murmure_ingest.intake import Duplicate, Intake, Refused, Stored, open_sealed
from murmure_ingest.rules import RuleBook

GATEWAYS, QUARTERS = 10, 24


def city(centre: Any, count: int = GATEWAYS) -> list[tuple[str, bytes]]:
    """What some gateways said, as it comes: each quarter-hour of all, then the next."""
    histories = [centre.gateway(f"gw-{n}", f"site-{n}", f"q{n % 2}").history(QUARTERS) for n in range(count)]
    return [history[quarter] for quarter in range(QUARTERS) for history in histories]


class Counting(sqlite3.Connection):
    """Counts what is asked of SQLite, by the first word; many rows in one call are one."""

    calls: Counter[str]

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        self.calls[statement.split(None, 1)[0]] += 1
        return super().execute(statement, *values)

    def executemany(self, statement: str, *values: Any) -> sqlite3.Cursor:
        self.calls["many"] += 1
        return super().executemany(statement, *values)


def test_a_batch_is_one_commit_of_few_statements(centre: Any) -> None:
    """All places of nodes are looked at together, and all rows of a table go in together: a message costs no call."""
    arrivals = city(centre)
    before = len(arrivals) * 21 // 24  # by then nodes of every level have come that come in these hours
    db = sqlite3.connect(centre.config.archive, isolation_level=None, factory=Counting)
    assert isinstance(db, Counting)
    db.calls = Counter()
    archive = Archive(centre.config.archive, db)
    archive._prepare(read_only=False)
    intake = Intake(archive, RuleBook(archive), lambda: 1 << 40)
    intake.accept_many(arrivals[:before])
    opened = [open_sealed(arrival, intake.keys_of) for arrival in arrivals[before:]]
    db.calls.clear()
    words = intake.file(arrivals[before:], opened)
    assert all(isinstance(word, Stored) for word in words)
    nodes = sum(word.nodes for word in words if isinstance(word, Stored))
    assert (db.calls["BEGIN"], db.calls["COMMIT"]) == (1, 1)
    assert nodes > len(words) == len(arrivals) - before
    assert db.calls.total() <= 12
    archive.close()


def test_signatures_are_checked_before_the_transaction(centre: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever files checks nothing again."""
    arrivals = city(centre, 2)
    opened = [centre.intake.open(arrival) for arrival in arrivals]
    monkeypatch.setattr(signatures, "check", lambda *_: pytest.fail("a signature was checked while filing"))
    assert all(isinstance(word, Stored) for word in centre.intake.file(arrivals, opened))


def test_what_is_remembered_is_not_older_than_the_file(tmp_path: Path, make_centre: Callable[..., Any]) -> None:
    """Two centres on one archive, message by message in turn: each knows at once what the other has filed."""
    centre = make_centre(tmp_path)
    other = Archive.open(centre.config.archive)
    intakes = [centre.intake, Intake(other, RuleBook(other), lambda: 1 << 40)]
    arrivals = city(centre, 4)
    for number, arrival in enumerate(arrivals):
        turn = number % 3 % 2  # neither in step with the gateways nor with the quarters
        assert isinstance(intakes[turn].accept(*arrival), Stored)
        assert isinstance(intakes[1 - turn].accept(*arrival), Duplicate)
    one, two = (list(archive.messages()) for archive in (centre.archive, other))
    assert one == two
    assert len(one) == len(arrivals)
    for line in centre.archive.enrolments():
        assert centre.archive.totals(line.gateway) == other.totals(line.gateway)
        assert centre.archive.totals(line.gateway).settled_seq == QUARTERS
    other.close()
    centre.archive.close()


def test_a_revocation_beside_a_centre_holds_from_the_next_message(centre: Any) -> None:
    """Another process revokes a gateway that this one remembers well, even while its next messages are opened already:
    nothing more of it is filed, and others are."""
    arrivals = city(centre, 2)
    assert all(isinstance(word, Stored) for word in centre.intake.accept_many(arrivals[:10]))
    opened = [open_sealed(arrival, centre.intake.keys_of) for arrival in arrivals[10:14]]
    other = Archive.open(centre.config.archive)
    gateways.revoke(other, "gw-0")
    words = centre.intake.file(arrivals[10:14], opened)
    assert [word.reason for word in words[::2] if isinstance(word, Refused)] == ["revoked_gateway"] * 2
    assert all(isinstance(word, Stored) for word in words[1::2])
    assert isinstance(centre.accept(*arrivals[14]), Refused)
    other.close()


def test_a_failed_commit_leaves_nothing_remembered(centre: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rollback the same messages are new again, and are filed as if they had not been seen."""
    arrivals = city(centre, 2)
    centre.intake.accept_many(arrivals[:10])
    opened = [open_sealed(arrival, centre.intake.keys_of) for arrival in arrivals[10:]]
    with pytest.raises(ArchiveError), centre.archive.transaction():
        centre.intake.judge(opened)
        raise sqlite3.OperationalError("a plug is pulled")
    words = centre.intake.file(arrivals[10:], opened)
    assert all(isinstance(word, Stored) for word in words)
    assert centre.archive.counts()["messages"] == len(arrivals)
