"""The ledger: append-only, chained, and closed to whoever would spend twice."""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_privacy.errors import AlreadyReleased, BudgetExceeded, LedgerDamaged
from murmure_privacy.ledger import SCHEMA, Charge, Ledger
from murmure_privacy.release import Node

STREAM = "plaza/footfall"
QUARTER_S = 900
BASE = Node(STREAM, "footfall", "15min", 0, 900, 0, 20, 1000, (0, 0), bytes(32))


def node(start_s: int, end_s: int, level: str = "15min", covered_from_s: int | None = None) -> Node:
    covered = start_s if covered_from_s is None else covered_from_s
    return dataclasses.replace(BASE, level=level, start_s=start_s, end_s=end_s, covered_from_s=covered)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    connection.executescript(SCHEMA)
    yield connection
    connection.close()


@pytest.fixture
def filled(db: sqlite3.Connection) -> sqlite3.Connection:
    """A database with five lines, the third withheld."""
    ledger = Ledger(db)
    for number in range(5):
        if number == 2:
            ledger.withhold(node(number * 900, number * 900 + 900), "paused")
        else:
            ledger.charge(node(number * 900, number * 900 + 900), 100 + number, 1000)
    return db


def test_a_line_says_what_was_charged(filled: sqlite3.Connection) -> None:
    """Lines are read back in the order written, withheld ones at no cost and with their reason."""
    lines = list(Ledger(filled).lines())
    assert lines[1] == Charge(2, STREAM, "15min", 900, 1800, 900, 101, None, bytes(32))
    assert lines[2] == Charge(3, STREAM, "15min", 1800, 2700, 1800, 0, "paused", bytes(32))
    assert [line.line for line in lines] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE charges SET rho_micro = 0",
        "UPDATE charges SET reason = 'cap' WHERE line = 3",
        "DELETE FROM charges",
        "DELETE FROM charges WHERE line = 5",
    ],
)
def test_no_line_is_changed_or_deleted(filled: sqlite3.Connection, statement: str) -> None:
    """The database itself refuses to touch a line that is written."""
    before = list(Ledger(filled).lines())
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        filled.execute(statement)
    assert list(Ledger(filled).lines()) == before


FREE = "DROP TRIGGER charges_stay; DROP TRIGGER charges_keep; "
ROW = "INSERT INTO charges SELECT {line}, stream, '1h', start_s, end_s, covered_from_s, 1, NULL, policy, chain"


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE charges SET rho_micro = 1 WHERE line = 2",
        "UPDATE charges SET stream = 'plaza/other' WHERE line = 1",
        "UPDATE charges SET level = '1h' WHERE line = 4",
        "UPDATE charges SET start_s = 901 WHERE line = 2",
        "UPDATE charges SET end_s = 901 WHERE line = 5",
        "UPDATE charges SET covered_from_s = 1 WHERE line = 1",
        "UPDATE charges SET reason = NULL WHERE line = 3",
        "UPDATE charges SET policy = zeroblob(31) WHERE line = 5",
        "UPDATE charges SET chain = zeroblob(32) WHERE line = 5",
        "DELETE FROM charges WHERE line = 1",
        "DELETE FROM charges WHERE line = 3",
        "DELETE FROM charges WHERE line = 3; UPDATE charges SET line = line - 1 WHERE line > 3",
        "UPDATE charges SET line = 7 WHERE line = 5",
        ROW.format(line=6) + " FROM charges WHERE line = 5",
        ROW.format(line=0) + " FROM charges WHERE line = 5",
        "UPDATE charges SET line = 9 WHERE line = 2; UPDATE charges SET line = 2 WHERE line = 3;"
        " UPDATE charges SET line = 3 WHERE line = 9",
    ],
)
def test_a_ledger_that_was_touched_stops_the_gateway(filled: sqlite3.Connection, tampering: str) -> None:
    """A changed, deleted, inserted, renumbered or reordered line is found when the ledger is opened again."""
    Ledger(filled)
    filled.executescript(FREE + tampering)
    with pytest.raises(LedgerDamaged, match=r"^ledger: line \d: .* nothing more is published"):
        Ledger(filled)


def test_an_unreadable_ledger_stops_the_gateway() -> None:
    """A database without the table is no empty ledger: its past is unknown, which counts as spent."""
    with pytest.raises(LedgerDamaged, match="no such table"):
        Ledger(sqlite3.connect(":memory:"))


def test_the_chain_can_be_followed_by_anyone(filled: sqlite3.Connection) -> None:
    """Each link is the SHA-256 of the one before it and of the line's own fields."""
    chain = bytes(32)
    for line, *fields, stored in filled.execute(
        "SELECT line, stream, level, start_s, end_s, covered_from_s, rho_micro, reason, policy, chain FROM charges"
        " ORDER BY line"
    ):
        chain = hashlib.sha256(chain + repr(tuple(fields)).encode()).digest()
        assert (line, stored) == (line, chain)


@pytest.mark.parametrize("second", ["charge", "withhold"])
@pytest.mark.parametrize("first", ["charge", "withhold"])
def test_a_node_has_one_line_for_ever(db: sqlite3.Connection, first: str, second: str) -> None:
    """Charged or withheld, whole or partial: a second line for a node is refused and nothing changes."""
    ledger = Ledger(db)

    def write(what: str, covered_from_s: int) -> None:
        hour = node(0, 3600, "1h", covered_from_s)
        ledger.charge(hour, 10, 1000) if what == "charge" else ledger.withhold(hour, "paused")

    write(first, 0)
    before = list(ledger.lines())
    with pytest.raises(AlreadyReleased, match="plaza/footfall: 1h from 0"):
        write(second, 900)
    assert list(ledger.lines()) == before
    assert ledger.closed(node(0, 3600, "1h", 1800)) and not ledger.closed(node(3600, 7200, "1h"))
    Ledger(db)


def test_a_charge_beyond_the_budget_changes_nothing(db: sqlite3.Connection) -> None:
    """What does not fit is refused with what is left, and the ledger stays as it was, its chain included."""
    ledger = Ledger(db)
    ledger.charge(node(0, 900), 600, 1000)
    before = list(ledger.lines())
    with pytest.raises(BudgetExceeded) as refused:
        ledger.charge(node(0, 3600, "1h"), 401, 1000)
    assert (refused.value.stream, refused.value.wanted_rho_micro, refused.value.left_rho_micro) == (STREAM, 401, 400)
    assert list(ledger.lines()) == before
    ledger.charge(node(0, 3600, "1h"), 400, 1000)
    assert len(list(Ledger(db).lines())) == 2


@pytest.mark.parametrize("nothing", [0, -5])
def test_a_release_for_nothing_is_refused(db: sqlite3.Connection, nothing: int) -> None:
    """A charge of zero or less is not a charge."""
    with pytest.raises(BudgetExceeded):
        Ledger(db).charge(node(0, 900), nothing, 1000)


def test_a_rolled_back_charge_was_never_there(db: sqlite3.Connection) -> None:
    """After a rollback and a rewind the chain goes on from what is stored; without the rewind it would break."""
    ledger = Ledger(db)
    ledger.rewind()  # of an empty ledger: nothing
    ledger.charge(node(0, 900), 10, 1000)
    db.execute("BEGIN IMMEDIATE")
    ledger.charge(node(900, 1800), 10, 1000)
    db.execute("ROLLBACK")
    ledger.rewind()
    assert not ledger.closed(node(900, 1800))
    ledger.charge(node(900, 1800), 20, 1000)
    assert [line.rho_micro for line in Ledger(db).lines()] == [10, 20]


def test_the_high_water_mark_is_the_last_end(filled: sqlite3.Connection) -> None:
    """Nothing may open before the latest end of a closed node of the same streams; 0 where there is none."""
    ledger = Ledger(filled)
    assert ledger.high_water_s([STREAM, "plaza/other"]) == 4500
    assert ledger.high_water_s(["plaza/other"]) == 0
    assert ledger.high_water_s([]) == 0


def test_a_node_withheld_for_the_clock_is_no_mark(filled: sqlite3.Connection) -> None:
    """What a wrong clock closed before its end does not hold back the right time."""
    ledger = Ledger(filled)
    ledger.withhold(node(86_400, 172_800, "1d"), "clock")
    assert ledger.high_water_s([STREAM]) == 4500


NODES = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10), st.integers(0, 9), st.integers(1, 50)), max_size=12)


@given(nodes=NODES, start=st.integers(0, 25), length=st.integers(1, 25))
def test_spent_is_the_dearest_instant(nodes: list[tuple[int, int, int, int]], start: int, length: int) -> None:
    """The spend of a span is the largest sum of charges at any of its instants, counted one instant at a time."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(SCHEMA)
    ledger = Ledger(db)
    cost = [0] * 64
    for number, (begin, size, late, rho) in enumerate(nodes):
        covered = begin + min(late, size - 1)
        ledger.charge(node(begin, begin + size, f"level {number}", covered), rho, 10**6)
        for at in range(covered, begin + size):
            cost[at] += rho
    ledger.withhold(node(0, 60, "withheld"), "paused")
    assert ledger.spent_rho_micro(STREAM, start, start + length) == max(cost[start : start + length], default=0)
    assert ledger.spent_rho_micro("plaza/other", 0, 64) == 0
    db.close()


COLUMNS = {
    "line": 9,
    "stream": STREAM,
    "level": "15min",
    "start_s": 9000,
    "end_s": 9900,
    "covered_from_s": 9000,
    "rho_micro": 1,
    "policy": bytes(32),
    "chain": bytes(32),
}


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        *((column, None, f"NOT NULL constraint failed: charges.{column}") for column in COLUMNS if column != "line"),
        ("rho_micro", -1, "CHECK constraint failed"),
        ("start_s", 900, "UNIQUE constraint failed: charges.stream, charges.level, charges.start_s"),
        ("end_s", "late", "cannot store TEXT value in INTEGER column"),
    ],
)
def test_the_table_itself_refuses_a_wrong_line(
    filled: sqlite3.Connection, column: str, value: object, rule: str
) -> None:
    """A line with something missing, a price below zero or a node that has its line never enters the table."""
    values = COLUMNS | {column: value}
    insert = f"INSERT INTO charges ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
    with pytest.raises(sqlite3.IntegrityError, match=rule):
        filled.execute(insert, tuple(values.values()))
    filled.execute(insert, tuple(COLUMNS.values()))


def test_a_node_is_closed_in_its_own_stream_alone(filled: sqlite3.Connection) -> None:
    """The same interval of another stream, another level or another time has its own line."""
    ledger, done = Ledger(filled), node(900, 1800)
    others = [dataclasses.replace(done, stream="plaza/other"), node(900, 4500, "1h"), node(4500, 5400)]
    assert ledger.closed(done) and not any(ledger.closed(other) for other in others)
    for other in others:
        ledger.charge(other, 1, 1000)
    assert all(ledger.closed(other) for other in others)


def test_a_rewind_goes_back_to_the_last_stored_line(filled: sqlite3.Connection) -> None:
    """After a rollback the chain goes on from the newest of many lines."""
    ledger = Ledger(filled)
    filled.execute("BEGIN IMMEDIATE")
    ledger.charge(node(4500, 5400), 10, 1000)
    filled.execute("ROLLBACK")
    ledger.rewind()
    ledger.charge(node(4500, 5400), 20, 1000)
    assert [line.line for line in Ledger(filled).lines()] == [1, 2, 3, 4, 5, 6]


def test_the_latest_of_several_streams_is_the_mark(filled: sqlite3.Connection) -> None:
    """The mark is the latest end over all streams asked for, in whatever order they are named."""
    ledger = Ledger(filled)
    other = dataclasses.replace(node(9000, 9900), stream="plaza/other")
    ledger.charge(other, 1, 1000)
    assert ledger.high_water_s([STREAM, "plaza/other"]) == ledger.high_water_s(["plaza/other", STREAM]) == 9900


def test_the_longest_node_is_seen_from_its_first_second(db: sqlite3.Connection) -> None:
    """A week with two hours of autumn twice (Troll), 170 hours, counts from its first instant."""
    ledger = Ledger(db)
    week_s = 170 * 3600
    ledger.charge(node(1000, 1000 + week_s, "1w"), 7, 1000)
    spans = [(1000, 1001), (0, 1001), (1000 + week_s - 1, 1000 + week_s), (1000, 1000 + week_s)]
    assert [ledger.spent_rho_micro(STREAM, *span) for span in spans] == [7, 7, 7, 7]
    assert ledger.spent_rho_micro(STREAM, 0, 1000) == ledger.spent_rho_micro(STREAM, 1000 + week_s, 10**9) == 0


def test_a_span_is_looked_up_in_the_index(filled: sqlite3.Connection) -> None:
    """What a span has spent is read between two ends in an index: a charge costs the same in a ledger of years."""
    asked: list[str] = []
    ledger = Ledger(filled)
    filled.set_trace_callback(asked.append)
    ledger.spent_rho_micro(STREAM, 900, 1800)
    filled.set_trace_callback(None)
    ((*_, plan),) = filled.execute(f"EXPLAIN QUERY PLAN {asked[0]}")
    assert plan == "SEARCH charges USING INDEX charges_by_end (stream=? AND end_s>? AND end_s<?)"
