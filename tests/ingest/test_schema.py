"""Only releases fit the archive: a reading has nowhere to go, whoever opens the file; and what is there stays."""

from __future__ import annotations

import ast
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from murmure_ingest import migrations
from murmure_ingest.archive import Archive
from murmure_ingest.intake import REASONS
from murmure_privacy import release
from murmure_privacy.stream import QUANTITIES
from murmure_privacy.window import LEVELS

ROOT = Path(__file__).resolve().parent.parent.parent
DUMP = Path(__file__).with_name("archives") / "v4.sql"
MONDAY_S = 1_795_392_000

READING = "2026-11-23T14:00:01Z,plaza,laeq_1s,57.3,dB"
RAW: tuple[Any, ...] = (57.3, "57.3", "57,3 dB", READING, '{"laeq_1s": 57.3}', b"57.3", READING.encode() * 100)
"""One second's level, in the forms in which somebody might want to keep it."""

SIGNED = {
    ("enrolments", "stewards"),
    ("rotations", "statement"),
    ("policies", "toml"),
    ("policies", "sealed"),
    ("annotations", "sealed"),
}
"""Bytes of any length, which an operator or a steward puts there, and which are verified before."""

SEALED = {("messages", "sealed"), ("conflicts", "sealed"), ("health", "sealed")}
"""At most 4096 bytes that the intake has opened with the gateway's key before."""

RELEASED = {("nodes", "integers")}
"""At most 512 bytes of what was in them; `ingest verify` compares them with what was signed."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive with a row in every table, brought to this version."""
    path = tmp_path / "archive.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(DUMP.read_text("utf-8"))
    archive = Archive.open(path)
    with archive.transaction():
        archive.put_rotation("gw-a", bytes(32), b"statement", bytes(64))
        archive._db.execute("INSERT INTO annotations VALUES ('a', 1, 1, x'00')")
        archive._db.execute("INSERT INTO forgotten VALUES (zeroblob(32), 'chain_broken', 1)")
    archive.sign_log(bytes(32))
    archive.close()
    return path


@pytest.fixture
def beside(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program with the file open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


def columns_of(db: sqlite3.Connection) -> dict[str, list[str]]:
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in tables}


def insert(db: sqlite3.Connection, table: str, row: list[Any], how: str = "INSERT") -> None:
    db.execute(f"{how} INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def taken(db: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Returns (table, column, form) of every raw reading that the file takes in place of a true value."""
    found = set()
    for table, columns in columns_of(db).items():
        for trigger in (f"{table}_no_delete", f"{table}_no_update"):
            db.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        row = list(db.execute(f"SELECT * FROM {table} ORDER BY 1 DESC").fetchone())
        db.execute("BEGIN")
        db.execute(f"DELETE FROM {table}")
        db.execute("SAVEPOINT emptied")
        insert(db, table, row)  # the true row has its place: what is refused below is refused for the reading in it
        for place, column in enumerate(columns):
            for raw in RAW:
                db.execute("ROLLBACK TO emptied")
                try:
                    insert(db, table, [*row[:place], raw, *row[place + 1 :]])
                except sqlite3.IntegrityError:
                    continue
                found.add((table, column, "a short one" if raw == b"57.3" else str(type(raw).__name__)))
        db.execute("ROLLBACK")
    return found


def test_a_reading_has_nowhere_to_go(beside: sqlite3.Connection) -> None:
    """Table by table and column by column: no number with a fraction, no text, no bytes but those that were verified,
    and of a gateway's at most a message long."""
    short = {(*column, "a short one") for column in SIGNED | SEALED | RELEASED}
    assert taken(beside) == short | {(*column, "bytes") for column in SIGNED}


def test_the_form_before_took_readings(beside: sqlite3.Connection) -> None:
    """The twin: without the triggers of the step, texts and bytes find a place."""
    for (name,) in beside.execute(
        "SELECT name FROM sqlite_master WHERE name LIKE '%\\_fit\\_%' ESCAPE '\\'"
    ).fetchall():
        beside.execute(f"DROP TRIGGER {name}")
    found = taken(beside)
    assert {("nodes", "stream", "str"), ("counters", "name", "str"), ("messages", "reason", "str")} <= found
    assert ("nodes", "present", "float") not in found, "STRICT alone keeps fractions out of numbers"


SECONDS = {
    "as nodes of a second": [(f"{s}", s, s + 1, s) for s in range(MONDAY_S, MONDAY_S + 5)],
    "as what was covered": [("15min", MONDAY_S + 9000, MONDAY_S + 9900, MONDAY_S + 9057)],
    "as levels of ours": [("1s", MONDAY_S + 9000, MONDAY_S + 9900, MONDAY_S + 9000)],
    "as nodes without an end": [("1w", MONDAY_S + 9000, MONDAY_S + 900 * 57_300, MONDAY_S + 9000)],
    "backwards": [("15min", MONDAY_S + 9900, MONDAY_S + 9000, MONDAY_S + 9900)],
}


@pytest.mark.parametrize("rows", SECONDS.values(), ids=SECONDS.keys())
def test_a_series_of_readings_is_no_series_of_nodes(beside: sqlite3.Connection, rows: list[Any]) -> None:
    """Intervals are quarter-hours and more, aligned, of the levels that are released."""
    for level, start_s, end_s, covered_s in rows:
        with pytest.raises(sqlite3.IntegrityError, match="only releases fit"):
            insert(beside, "nodes", ["a/x", level, start_s, end_s, covered_s, "noise", 20, None, 57, 1, 0, b"\7", 1])
    insert(beside, "nodes", ["a/x", "15min", 9000, 9900, 9000, "noise", 20, None, 57, 1, 0, b"\7", 1])


@pytest.mark.parametrize(
    ("present", "reason", "rho_micro", "place"),
    [(57, None, 5, 0), (-1, None, 5, 0), (20, None, 0, 0), (20, "cap", 5, 0), (20, None, 5, -1), (20, "57 dB", 0, 0)],
)
def test_a_number_has_its_range(
    beside: sqlite3.Connection, present: int, reason: Any, rho_micro: int, place: int
) -> None:
    """Presence is in twentieths; what is released was paid for, what is withheld was not and has a reason."""
    row = ["a/x", "15min", 9000, 9900, 9000, "noise", present, reason, rho_micro, 1, place]
    with pytest.raises(sqlite3.IntegrityError, match="only releases fit"):
        insert(beside, "nodes", [*row, b"\7" if reason is None else None, 1])


@pytest.mark.parametrize(
    ("reason", "integers", "scale"),
    [(None, None, 1), ("cap", b"\7", 1), (None, b"", 1), (None, b"\7" * 513, 1), (None, b"\7", None)],
)
def test_what_was_withheld_has_no_integer(beside: sqlite3.Connection, reason: Any, integers: Any, scale: Any) -> None:
    """What was released has some, and room for no more than a node's."""
    row = ["a/x", "15min", 9000, 9900, 9000, "noise", 20, reason, 5 if reason is None else 0, 1, 0]
    with pytest.raises(sqlite3.IntegrityError, match="only releases fit"):
        insert(beside, "nodes", [*row, integers, scale])


def test_every_word_of_ours_fits(beside: sqlite3.Connection) -> None:
    """Whoever adds a level, a quantity or a reason adds a step that lets it in."""
    for number, (level, quantity, reason) in enumerate(
        (level, quantity, reason) for level in LEVELS for quantity in QUANTITIES for reason in release.REASONS
    ):
        start_s = number * 900
        insert(beside, "nodes", ["a/x", level, start_s, start_s + 900, start_s, quantity, 0, reason, 0, 1, 0, None, 1])
    for number, word in enumerate(REASONS, 1):
        insert(beside, "counters", [f"refused:{word}:new", 1])
        insert(beside, "messages", [None, "gw-x", number, *[bytes(32)] * 2, 1, "refused", word, 0, bytes(32), None])
    for table in columns_of(beside):
        assert beside.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (f"{table}_fit_insert",)).fetchone(), table


GROWING = [
    "enrolments",
    "rotations",
    "policies",
    "annotations",
    "messages",
    "amendments",
    "nodes",
    "conflicts",
    "forgotten",
    "scales",
]


@pytest.mark.parametrize("table", GROWING)
def test_what_is_there_stays(beside: sqlite3.Connection, table: str) -> None:
    """A second program is refused UPDATE and DELETE, and REPLACE, which no trigger on DELETE hears of."""
    before = beside.execute(f"SELECT * FROM {table}").fetchall()
    assert before
    column = columns_of(beside)[table][0]
    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = {column}"):
        with pytest.raises(sqlite3.IntegrityError, match="only grows"):
            beside.execute(statement)
    for how in ("INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE", "INSERT"):
        try:
            insert(beside, table, list(before[0]), how)
        except sqlite3.IntegrityError as error:
            assert "each once" in str(error)
    assert beside.execute(f"SELECT * FROM {table}").fetchall() == before
    assert beside.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_form_before_could_be_replaced(beside: sqlite3.Connection) -> None:
    """The twin: with the triggers on UPDATE and DELETE alone, REPLACE changes a node."""
    beside.execute("DROP TRIGGER nodes_fit_insert")
    row = list(beside.execute("SELECT * FROM nodes").fetchone())
    insert(beside, "nodes", [*row[:6], row[6] - 1, *row[7:]], "INSERT OR REPLACE")
    assert beside.execute("SELECT present FROM nodes LIMIT 1").fetchone()[0] == row[6] - 1


DOORS = {
    "put": {"intake.py"},
    "amend": {"intake.py"},
    "put_conflict": {"intake.py"},
    "note_unkept": {"intake.py"},
    "put_health": {"intake.py"},
    "put_use": {"intake.py"},
    "put_policy": {"gateways.py", "adoption.py"},
    "put_annotation": {"annotations.py", "adoption.py"},
    "put_rotation": {"rotation.py"},
    "refill": {"transfer.py"},
    "forget": {"retention.py"},
}
"""Who may write what into an archive. `refill` is followed by the full check within its transaction; what is adopted is
a policy whose text and whose text with its signatures are those that a log of the centre names by their hashes, or an
annotation whose hash such a log names and whose signatures are stewards' of its site."""


def test_every_way_in_goes_through_its_door() -> None:
    """What is called on an archive, in all our code: bytes of a gateway come by the intake and nowhere else, and only
    the archive itself holds its connection."""
    found: dict[str, set[str]] = {name: set() for name in DOORS}
    for path in ROOT.glob("*/murmure*/**/*.py"):
        text = path.read_text("utf-8")
        ours = path.relative_to(ROOT).parts[0] != "tests"
        for node in ast.walk(ast.parse(text)) if ours and "archive." in text else ():
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if owner.lstrip("_") == "archive" and node.attr in found:
                found[node.attr].add(path.name)
            assert not (owner.lstrip("_") == "archive" and node.attr == "_db"), path
    assert found == DOORS


def test_an_upgraded_archive_has_the_same_guards(tmp_path: Path) -> None:
    """They are a step of the upgrade, the last before this test was written."""
    assert any("only releases fit" in str(statement) for step in migrations.STEPS for statement in step)
    Archive.open(tmp_path / "archive.db").close()
    with closing(sqlite3.connect(tmp_path / "archive.db")) as db, pytest.raises(sqlite3.IntegrityError):
        insert(db, "counters", ["plaza 57.3 dB", 1])
