"""`gateway.db`: charges, outbox and policies of one gateway in one SQLite file that belongs to `sense` alone.

WAL with `synchronous=FULL`: what a commit has said is on the disk. `wal/normal` lost acknowledged rows in half of the
simulated power cuts that were tried, `wal/full` in none.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from murmure_privacy.errors import LedgerDamaged, MurmureError
from murmure_privacy.ledger import SCHEMA, Ledger
from murmure_privacy.wire import FIRST_PREVIOUS, digest

_SCHEMA = (
    SCHEMA
    + """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY,
    closing_s INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS policies (
    version INTEGER PRIMARY KEY,
    from_s INTEGER NOT NULL,
    toml BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    boot INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
INSERT OR IGNORE INTO head VALUES (1, 0, 0, zeroblob(32));
"""
)


class DiskFull(MurmureError):
    """The transaction was rolled back for want of room: keep it in memory and try again when there is some."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy that was accepted, with the instant from which its noise scales hold."""

    version: int
    from_s: int
    toml: bytes


class GatewayDb:
    """One open `gateway.db`. One thread uses it."""

    def __init__(self, connection: sqlite3.Connection, where: str) -> None:
        self._db = connection
        self._where = where
        self._lock: int | None = None
        try:
            connection.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;"
            )
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise LedgerDamaged(_damaged(where, verdict))
            connection.executescript(_SCHEMA)
            self.ledger = Ledger(connection)
        except sqlite3.OperationalError as error:
            raise MurmureError(f"{where}: {error}; stop the other `sense`, or make room, and start again") from error
        except sqlite3.DatabaseError as error:
            raise LedgerDamaged(_damaged(where, str(error))) from error

    @classmethod
    def open(cls, path: Path) -> GatewayDb:
        """Opens or makes the file (mode 0600) and holds it alone: two processes on one ledger are refused.

        Raises LedgerDamaged for a file that does not read as it was written, MurmureError if it is in use or cannot be
        made.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
            connection = sqlite3.connect(path, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise MurmureError(f"{path}: cannot be opened: {error}; mend the folder's rights or room") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MurmureError(f"{path}: another process has it; stop the other `sense` first") from error
        db = cls(connection, str(path))
        db._lock = lock
        with db.transaction():
            connection.execute("UPDATE head SET boot = boot + 1")
        return db

    @classmethod
    def in_memory(cls) -> GatewayDb:
        """Returns a ledger for a replay that keeps none."""
        return cls(sqlite3.connect(":memory:", isolation_level=None), "memory")

    def close(self) -> None:
        """Closes the file; everything committed is in it."""
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Makes what happens inside one commit: all of it, on the disk, or nothing.

        Raises DiskFull if there is no room; any other failure of the disk is not survived (a failed sync may have
        lost what a second one would call written).
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self.ledger.rewind()
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise DiskFull(
                    f"{self._where}: no room on the disk; nothing is lost while there is power, make room"
                ) from error
            if isinstance(error, sqlite3.DatabaseError):
                raise LedgerDamaged(_damaged(self._where, str(error))) from error
            raise

    def kept_secret(self, fresh: bytes) -> bytes:
        """Returns the secret of a replay that this file was begun with, or keeps `fresh` as that (`edge replay` only:
        a gateway's own key is in a file of its own)."""
        with self.transaction():
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS replay_key (one INTEGER PRIMARY KEY CHECK (one = 1), secret BLOB)"
            )
            self._db.execute("INSERT OR IGNORE INTO replay_key VALUES (1, ?)", (fresh,))
            secret: bytes = self._db.execute("SELECT secret FROM replay_key").fetchone()[0]
        return secret

    def boot(self) -> int:
        """Returns how often the file was opened."""
        return int(self._db.execute("SELECT boot FROM head").fetchone()[0])

    def next_message(self) -> tuple[int, bytes]:
        """Returns the number of the next message and the hash of the one before it (32 zero bytes for the first)."""
        seq, previous = self._db.execute("SELECT seq, hash FROM head").fetchone()
        return int(seq) + 1, bytes(previous) if seq else FIRST_PREVIOUS

    def put(self, seq: int, closing_s: int, sealed: bytes) -> None:
        """Adds a sealed message; inside the transaction of its charges."""
        self._db.execute("INSERT INTO outbox VALUES (?, ?, ?)", (seq, closing_s, sealed))
        self._db.execute("UPDATE head SET seq = ?, hash = ?", (seq, digest(sealed)))

    def rows(self) -> dict[int, bytes]:
        """Returns the messages without a receipt, by number."""
        return dict(self._db.execute("SELECT seq, sealed FROM outbox ORDER BY seq").fetchall())

    def message(self, seq: int) -> bytes | None:
        """Returns one message that has no receipt yet."""
        row = self._db.execute("SELECT sealed FROM outbox WHERE seq = ?", (seq,)).fetchone()
        return row[0] if row else None

    def depth(self) -> int:
        """Returns how many messages wait for their receipt."""
        return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def clear(self, seqs: list[int]) -> None:
        """Forgets messages that the centre has settled; their charges stay."""
        with self.transaction():
            self._db.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in seqs])

    def policies(self) -> list[StoredPolicy]:
        """Returns every accepted policy by version."""
        rows = self._db.execute("SELECT version, from_s, toml FROM policies ORDER BY version")
        return [StoredPolicy(*row) for row in rows]

    def store_policy(self, version: int, from_s: int, toml: bytes) -> None:
        """Accepts a policy; one that had not begun to hold by then is replaced by it."""
        with self.transaction():
            self._db.execute("DELETE FROM policies WHERE from_s >= ?", (from_s,))
            self._db.execute("INSERT INTO policies VALUES (?, ?, ?)", (version, from_s, toml))


def _damaged(where: str, what: str) -> str:
    return f"{where}: damaged ({what}); nothing is published: keep the card for inspection and enrol the gateway anew"
