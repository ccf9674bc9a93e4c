"""The file itself: how it is opened, how something is written to it whole or not at all, and what a writer remembers.

One process files messages at a time in ordinary life, but nothing breaks if a second one (import, enrol, publish)
writes beside it: every check that a writer relies on is made inside its own BEGIN IMMEDIATE.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from murmure_privacy.errors import ConfigError
from murmure_privacy.succession import Key

from murmure_ingest import logbook, migrations
from murmure_ingest.archive.errors import ArchiveDamaged, damage_text, explained, explanation
from murmure_ingest.archive.rows import Enrolment, StoredMessage, Unfiled
from murmure_ingest.integers import Scale

_STANDINGS_KEPT = 20_000
_CACHE_KIB = 64 * 1024
_CHECKPOINT_PAGES = 8192  # 32 MiB: at a full queue a page is written many times over, and copied into the file once
_BUSY_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Standing:
    """What the next message of a gateway is judged by. `row`: that of the message with the highest number so far, as a
    StoredMessage has it. `uses`: the rows of how it has used the policies of its site, by stream and policy;
    `policies`: all that stand in them."""

    row: tuple[Any, ...] | None
    settled_seq: int
    cloned: bool
    uses: dict[Key, tuple[Any, ...]]
    policies: set[bytes]

    @property
    def last(self) -> StoredMessage | None:
        """Returns the message with the highest number so far."""
        return None if self.row is None else StoredMessage(*self.row)


@dataclass(slots=True)
class Pending:
    """Rows of the present transaction that are not in the tables yet, so that many go in together."""

    messages: list[tuple[Any, ...]] = field(default_factory=list)
    nodes: list[tuple[Any, ...]] = field(default_factory=list)
    totals: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # by gateway: what is added to its charge
    uses: dict[tuple[str, Key], tuple[Any, ...]] = field(default_factory=dict)  # by gateway and key
    new_totals: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # of which the tables have no row
    new_uses: dict[tuple[str, Key], tuple[Any, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class Remembered:
    """What a writer knows without asking, until somebody else writes or a commit fails: all of it is in the file."""

    enrolments: dict[str, Enrolment | None] = field(default_factory=dict)
    sites: dict[str, list[str]] | None = None  # every gateway that the register has had for each
    standings: dict[str, Standing] = field(default_factory=dict)
    notes: dict[str, dict[Key, Any]] = field(default_factory=dict)  # by site: see `Filing.notes`
    speakers: set[tuple[str, str]] = field(default_factory=set)  # stream and gateway
    unfiled: dict[str, Unfiled] = field(default_factory=dict)
    scales: dict[Scale, int] = field(default_factory=dict)
    days: dict[str, int] = field(default_factory=dict)  # of the message of each gateway that was filed last
    newest: tuple[int, bytes] | None = None  # id and head of the message that was filed last
    signs: tuple[Any, ...] | None = None  # whatever else there is that judges a message, when others wrote last


class Database:
    """The archive's file, open. Use from one thread."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._connection = db
        self._pending: Pending | None = None
        self._mark = -1
        self._places: dict[tuple[Any, ...], bool] = {}  # keys of nodes, and whether there is one, in this transaction
        self._writing = False  # within `transaction`: what is remembered holds
        self._remembered = Remembered()
        self._spoken: set[str] = set()  # gateways that came to another day in this transaction
        self._corrected: dict[str, set[int]] = {}  # and days of which a message had waited, by gateway

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Returns the archive in `path`; for a writer it is made if need be, or led to the present version.

        Raises ConfigError if there is nothing to read, if it is no archive or one of another version, ArchiveDamaged
        if it is no database.
        """
        if read_only and not path.is_file():
            raise ConfigError(
                str(path), "archive", "there is no such file", "give the archive.db of a centre's data_dir"
            )
        if not read_only and not path.parent.is_dir():
            raise ConfigError(str(path.parent), "data_dir", "there is no such folder", "create it first")
        with explained(path):
            db = _connect_reader(path) if read_only else connect(f"file:{quote(str(path))}?mode=rwc")
            archive = cls(path, db)
            try:
                archive._prepare(read_only)
            except BaseException:
                db.close()
                raise
        return archive

    @property
    def _db(self) -> sqlite3.Connection:
        """Returns the connection, for a statement that may read what has been put: nothing is pending after this."""
        if self._pending is not None:
            self._flush(self._pending)
        return self._connection

    def _flush(self, pending: Pending) -> None:
        self._pending = None
        insert = self._connection.executemany
        insert(
            "INSERT INTO messages (id, gateway, seq, hash, previous, disposition, reason, nodes, enrolment, head, "
            "sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            pending.messages,
        )
        # In the order of the tree: neighbours of a stream are on one page. No two have the same three first columns.
        pending.nodes.sort()
        insert("INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", pending.nodes)
        insert("INSERT INTO totals VALUES (?, ?, ?)", pending.new_totals.values())
        insert("INSERT INTO uses VALUES (?, ?, ?, ?, ?, ?, ?, ?)", pending.new_uses.values())
        # A row that is known to be there is changed in its place: an upsert would have it judged, and found, twice.
        self._change(
            "UPDATE totals SET settled_seq = ?2, charged_rho_micro = charged_rho_micro + ?3 WHERE gateway = ?1",
            pending.totals.values(),
        )
        self._change(
            "UPDATE uses SET since_s = ?4, first_seq = ?5, shown_s = ?6, until_s = ?7, last_seq = ?8 "
            "WHERE gateway = ?1 AND stream = ?2 AND policy = ?3",
            pending.uses.values(),
        )

    def _change(self, statement: str, rows: Collection[tuple[Any, ...]]) -> None:
        """Changes one row for each of `rows`. Raises ArchiveDamaged if one is not there."""
        if rows and self._connection.executemany(statement, rows).rowcount != len(rows):
            raise ArchiveDamaged(damage_text(self.path, "a row that was there is missing"))

    def _later(self) -> Pending:
        """Returns where rows wait; only within `transaction`, whose commit takes them along."""
        assert self._writing
        if self._pending is None:
            self._pending = Pending()
        return self._pending

    def _prepare(self, read_only: bool) -> None:
        if read_only:
            return migrations.require_present(self._db, self.path)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._db.execute("PRAGMA foreign_keys = ON")
        return migrations.prepare(self._db, self.path, self.transaction)

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def require_sound(self) -> None:
        """Reads the whole file once, as a centre does before it writes for weeks. Raises ArchiveDamaged."""
        damage = self._rows("PRAGMA quick_check(1)")[0][0]
        if damage != "ok":
            raise ArchiveDamaged(damage_text(self.path, str(damage).replace("\n", " ")))

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is kept together, durably, or not at all. Raises ArchiveWaits, ArchiveDamaged."""
        with explained(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._writing, self._places = True, {}
                self._recall()  # nobody else can write from here on
                self._spoken, self._corrected = set(), {}
                yield
                self._keep_log()
                self._db.execute("COMMIT")
            except BaseException:
                self._rolled_back()
                # SQLite has already rolled back by itself after some errors (disk full, input/output).
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._writing = False

    def _rolled_back(self) -> None:
        """Forgets what was seen of a transaction that is not kept."""
        self._remembered, self._pending = Remembered(), None

    def _keep_log(self) -> None:
        """Writes what the log says of this transaction, into it."""
        for gateway in sorted(self._spoken):
            logbook.close_days(self._db, gateway)
        for gateway, days in sorted(self._corrected.items()):
            logbook.correct_days(self._db, gateway, days)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside is of one instant."""
        with explained(self.path):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    @contextmanager
    def wiping(self) -> Iterator[None]:
        """What is deleted inside is overwritten in the file, and gone from the log beside it if nobody reads there."""
        with explained(self.path):
            self._db.execute("PRAGMA secure_delete = ON")
            yield
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _recall(self) -> None:
        """Forgets of what is remembered what others may have changed since."""
        known = self._remembered
        mark = self.change_mark()
        if mark == self._mark and len(known.standings) <= _STANDINGS_KEPT:
            return
        self._mark = mark
        if known.newest is None or len(known.standings) > _STANDINGS_KEPT:
            self._remembered = Remembered()
            return
        signs = self._row(
            "SELECT (SELECT max(id) FROM enrolments), (SELECT max(id) FROM conflicts), "
            "(SELECT count(*) FROM amendments), (SELECT max(rowid) FROM forgotten)"
        )
        if signs != known.signs:
            self._remembered = Remembered(signs=signs)
            return
        # A centre beside this one has filed what its own gateways said.
        for gateway, site in self._rows(
            "SELECT DISTINCT m.gateway, e.site FROM messages m JOIN enrolments e ON e.id = m.enrolment WHERE m.id > ?",
            known.newest[0],
        ):
            known.notes.pop(site, None)
            known.standings.pop(gateway, None)
            known.unfiled.pop(gateway, None)
        known.newest = None

    def change_mark(self) -> int:
        """Returns a number that changes whenever another process has committed to the file."""
        return int(self._rows("PRAGMA data_version")[0][0])

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise explanation(self.path, error) from error

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        rows = self._rows(query, *values)
        return rows[0] if rows else None


def connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)


def _connect_reader(path: Path) -> sqlite3.Connection:
    db = connect(f"file:{quote(str(path))}?mode=ro")
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # Without a writer, in a folder that this user may not write, SQLite cannot make its shared index: the file
        # is then at rest and can be read as it lies.
        db.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        db = connect(f"file:{quote(str(path))}?mode=ro&immutable=1")
    return db
