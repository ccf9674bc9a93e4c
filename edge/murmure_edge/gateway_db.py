"""`gateway.db`: charges, outbox and policies of one gateway in one SQLite file that belongs to `sense` alone.

WAL with `synchronous=FULL`: what a commit has said is on the disk. `wal/normal` lost acknowledged rows in half of the
simulated power cuts that were tried, `wal/full` in none.

Charges are chained; every other row carries a mark, the SHA-256 of itself, since SQLite checks the form of a page and
not what stands in it: one flipped bit could make an epsilon of 1.0 one of 3.0. The mark of the head covers the ends of
the other tables too, so that none of them can lose its newest rows, or all of them, unseen.

A message that is settled stays for as long as there is room for `keep` of them: the centre may ask for it again. How
far they are settled is written with the next commit, so that a window costs the card one; a power cut in between
forgets it, and the receipt says it again. How far the centre's log had come has a commit of its own, some once a day:
who forgot it would believe another log.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from murmure_privacy.errors import LedgerDamaged, MurmureError
from murmure_privacy.ledger import SCHEMA, Ledger
from murmure_privacy.log import Checkpoint
from murmure_privacy.release import Node
from murmure_privacy.wire import FIRST_PREVIOUS, digest

from murmure_edge import clock
from murmure_edge.config import KEEP_MESSAGES

_SCHEMA = (
    SCHEMA
    + """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY,
    sealed BLOB NOT NULL,
    mark BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS policies (
    version INTEGER PRIMARY KEY,
    from_s INTEGER NOT NULL,
    toml BLOB NOT NULL,
    mark BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS candidates (
    version INTEGER PRIMARY KEY,
    seen_s INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    mark BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    boot INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    settled INTEGER NOT NULL,
    mark BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS told (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    policy_version INTEGER NOT NULL,
    older_copy TEXT,
    mark BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS lived (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    until_s INTEGER NOT NULL,
    mark BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS journal (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    mark BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS forgotten (
    number INTEGER PRIMARY KEY,
    at_s INTEGER NOT NULL,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    mark BLOB NOT NULL
) STRICT;
"""
)
CARRIED = "carried"
"""The level of a charge that another gateway of the site made: not a node, only a day with what it cost at the most."""

_DAY_S = 86_400
_connect = partial(sqlite3.connect, isolation_level=None)
_DROPPED = 64  # at most so many old messages with a new one: on a full disk a commit must stay small
_IN_USE = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY),
)
_TRIES, _TRY_S = 5, 0.1  # who asks whether `sense` runs (`edge export`) holds the lock for an instant
_PASSING = sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT
_SHM_BYTES = 32768
_BORN = b"1"  # in the lock file, once the tables are made: an empty database beside it has lost its past


class DiskFull(MurmureError):
    """The transaction was rolled back for want of room: keep it in memory and try again when there is some."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy that was accepted, with the instant from which its noise scales hold."""

    version: int
    from_s: int
    toml: bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy that was believed and does not hold, as it came: it waits, or cannot be kept here. `seen_s`: when it
    was first seen; its notice is counted from then. It moves with the clock: see `GatewayDb.live_on`."""

    version: int
    seen_s: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """What the centre's receipts have told and no later loss of them may undo: the newest policy that it has, and, if
    it is so, how they show that this file is an older copy."""

    policy_version: int = 0
    older_copy: str | None = None


class GatewayDb:
    """One open `gateway.db`. One thread uses it."""

    def __init__(
        self, connection: sqlite3.Connection, where: str, has_past: bool = False, keep: int = KEEP_MESSAGES
    ) -> None:
        """Makes the tables, or finds them right; with `has_past` they must be there. `keep`: how many messages stay,
        at least, the settled ones with those that wait."""
        self._db = connection
        self._where = where
        self._keep = keep
        self._closing = ExitStack()
        self._closing.callback(connection.close)
        try:
            connection.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;"
            )
            # The quick check would not compare an index with its table, and the gate asks an index what is spent.
            verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if verdict != "ok":
                raise _judged(where, verdict)
            if has_past and connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'head'").fetchone() is None:
                raise LedgerDamaged(_damaged(where, "its tables are gone"))
            connection.executescript(_SCHEMA)
            self.ledger = Ledger(connection)
            first = (0, 0, FIRST_PREVIOUS, 0)
            connection.execute(
                "INSERT OR IGNORE INTO head VALUES (1, ?, ?, ?, ?, ?)", (*first, _mark(*first, bytes(32), None))
            )
            self._verify_marks()
            self.settled = int(connection.execute("SELECT settled FROM head").fetchone()[0])
            known = connection.execute("SELECT size, root FROM journal").fetchone()
            self.log = Checkpoint(*known) if known else None
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise _translated(where, error) from error

    def _verify_marks(self) -> None:
        heads = self._db.execute("SELECT boot, seq, hash, settled, mark FROM head").fetchall()
        policies = self._db.execute("SELECT version, from_s, toml, mark FROM policies").fetchall()
        told = self._db.execute("SELECT policy_version, older_copy, mark FROM told").fetchall()
        right = all(mark == _mark(*fields, *self._ends()) for *fields, mark in heads) and len(heads) == 1
        candidates = self._db.execute("SELECT version, seen_s, sealed, mark FROM candidates").fetchall()
        known = self._db.execute("SELECT size, root, mark FROM journal").fetchall()
        lived = self._db.execute("SELECT until_s, mark FROM lived").fetchall()
        forgotten = self._db.execute("SELECT number, at_s, size, root, mark FROM forgotten").fetchall()
        rows = (*policies, *candidates, *told, *known, *lived, *forgotten)
        right = right and all(mark == _mark(*fields) for *fields, mark in rows)
        if not right or not self._messages_right(*heads[0][1:4]):
            raise LedgerDamaged(_damaged(self._where, "a row is not what was written"))

    def _messages_right(self, newest: int, newest_hash: bytes, settled: int) -> bool:
        """Returns whether all that was not settled is there, and what is there follows one another. Row by row: a year
        of messages need not fit into memory."""
        following, last = None, newest_hash
        for seq, sealed, mark in self._db.execute("SELECT seq, sealed, mark FROM outbox ORDER BY seq"):
            if mark != _mark(seq, sealed) or seq != (following or seq) or (not following and seq > settled + 1):
                return False
            following, last = seq + 1, digest(sealed)
        return (following or settled + 1) == newest + 1 and last == newest_hash

    @classmethod
    def open(
        cls,
        path: Path,
        connect: Callable[[Path], sqlite3.Connection] = _connect,
        keep: int = KEEP_MESSAGES,
        pause: Callable[[float], None] = clock.pause,
    ) -> GatewayDb:
        """Opens or makes the file (mode 0600) and holds it alone: two processes on one ledger are refused.

        Raises LedgerDamaged for a file that does not read as it was written, MurmureError if it is in use or cannot be
        made, DiskFull if there is no room to note the start. `connect` makes the connection, in autocommit mode;
        `pause` waits some seconds for whoever only looks whether the file is in use.
        """
        with ExitStack() as opened:
            try:
                if path.exists() and not path.is_file():
                    raise MurmureError(f"{path}: is no file; name a file that may be made there")
                path.parent.mkdir(exist_ok=True, mode=0o700)
                size = path.stat().st_size if path.exists() else None
                # A power cut in the very first write leaves half a page, and beside it the journal that takes it back.
                if size and not _is_sqlite(path) and not path.with_name(path.name + "-journal").exists():
                    raise LedgerDamaged(_damaged(str(path), "it is no database"))
                lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
                opened.callback(os.close, lock)
                _hold(lock, pause)
                has_past = size is not None and os.pread(lock, 1, 0) == _BORN
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
                if size is None:
                    path.chmod(0o600)
                connection = connect(path)
            except BlockingIOError as error:
                raise MurmureError(f"{path}: another process has it; stop the other `sense` first") from error
            except (OSError, sqlite3.Error) as error:
                raise MurmureError(f"{path}: cannot be opened: {error}; mend the folder's rights or room") from error
            opened.callback(connection.close)
            db = cls(connection, str(path), has_past, keep)
            with db.transaction():
                connection.execute("UPDATE head SET boot = boot + 1")
                db._renew_head()
            os.pwrite(lock, _BORN, 0)
            db._closing = opened.pop_all()
        return db

    @classmethod
    def in_memory(cls) -> GatewayDb:
        """Returns a ledger for a replay that keeps none."""
        return cls(sqlite3.connect(":memory:", isolation_level=None), "memory")

    def close(self) -> None:
        """Closes the file; everything committed is in it."""
        self._closing.close()

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
            if isinstance(error, sqlite3.DatabaseError):
                translated = _translated(self._where, error)
                if isinstance(translated, DiskFull):
                    self._keep = 0  # settled messages make room for new ones
                raise translated from error
            raise

    def kept_secret(self, fresh: bytes) -> bytes:
        """Returns the secret of a replay that this file was begun with, or keeps `fresh` as that (`edge replay` only:
        a gateway's own key is in a file of its own). Raises MurmureError for the ledger of a real gateway."""
        begun = self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'replay_key'").fetchone()
        if begun is None and (self.next_message()[0] > 1 or self.policies()):
            raise MurmureError(f"{self._where}: is the ledger of a gateway, no replay's; give a fresh --db")
        with self.transaction():
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS replay_key"
                " (one INTEGER PRIMARY KEY CHECK (one = 1), secret BLOB NOT NULL, mark BLOB NOT NULL) STRICT"
            )
            self._db.execute("INSERT OR IGNORE INTO replay_key VALUES (1, ?, ?)", (fresh, _mark(fresh)))
            secret, mark = self._db.execute("SELECT secret, mark FROM replay_key").fetchone()
        if mark != _mark(secret):
            raise LedgerDamaged(_damaged(self._where, "a row is not what was written"))
        return bytes(secret)

    def boot(self) -> int:
        """Returns how often the file was opened."""
        return int(self._db.execute("SELECT boot FROM head").fetchone()[0])

    def next_message(self) -> tuple[int, bytes]:
        """Returns the number of the next message and the hash of the one before it (32 zero bytes for the first)."""
        seq, previous = self._db.execute("SELECT seq, hash FROM head").fetchone()
        return int(seq) + 1, bytes(previous) if seq else FIRST_PREVIOUS

    def put(self, seq: int, sealed: bytes) -> None:
        """Adds a sealed message, and drops the oldest settled beyond `keep`; inside the transaction of its charges."""
        self._db.execute("INSERT INTO outbox VALUES (?, ?, ?)", (seq, sealed, _mark(seq, sealed)))
        last = min(self.settled, seq - self._keep, self.oldest() + _DROPPED - 1)
        self._db.execute("DELETE FROM outbox WHERE seq <= ?", (last,))
        self._put_log()
        self._set_head(self.boot(), seq, digest(sealed))

    def _put_log(self) -> None:
        if self.log is not None:
            known = (self.log.size, self.log.root)
            self._db.execute("INSERT OR REPLACE INTO journal VALUES (1, ?, ?, ?)", (*known, _mark(*known)))

    def _set_head(self, boot: int, seq: int, newest: bytes) -> None:
        fields = (boot, seq, newest, self.settled)
        mark = _mark(*fields, *self._ends())
        self._db.execute("UPDATE head SET boot = ?, seq = ?, hash = ?, settled = ?, mark = ?", (*fields, mark))

    def _renew_head(self) -> None:
        self._set_head(*self._db.execute("SELECT boot, seq, hash FROM head").fetchone())

    def _ends(self) -> list[object]:
        """Where each table ends: the newest charge, the oldest message, every policy and candidate, what was told, how
        far the log had come, until when candidates have waited, each log that was forgotten."""
        charge = self._db.execute("SELECT chain FROM charges ORDER BY line DESC LIMIT 1").fetchone()
        oldest = self._db.execute("SELECT min(seq) FROM outbox").fetchone()
        marks = self._db.execute("SELECT mark FROM policies ORDER BY version").fetchall()
        marks += self._db.execute("SELECT mark FROM candidates ORDER BY version").fetchall()
        marks += self._db.execute("SELECT mark FROM told").fetchall()
        marks += self._db.execute("SELECT mark FROM journal").fetchall()
        marks += self._db.execute("SELECT mark FROM lived").fetchall()
        marks += self._db.execute("SELECT mark FROM forgotten ORDER BY number").fetchall()
        return [charge[0] if charge else bytes(32), oldest[0], *(mark for (mark,) in marks)]

    def rows(self) -> dict[int, bytes]:
        """Returns the messages without a receipt, by number, all at once: for a ledger that is not a year old."""
        query = "SELECT seq, sealed FROM outbox WHERE seq > ? ORDER BY seq"
        return dict(self._db.execute(query, (self.settled,)).fetchall())

    def message(self, seq: int) -> bytes | None:
        """Returns a message that has no receipt yet or was kept, None if it is not there."""
        row = self._db.execute("SELECT sealed FROM outbox WHERE seq = ?", (seq,)).fetchone()
        return row[0] if row else None

    def hash_of(self, seq: int) -> bytes | None:
        """Returns the hash of a message, None if it is not kept any more; that of the newest is always known."""
        following, newest_hash = self.next_message()
        if seq == following - 1 > 0:
            return newest_hash
        sealed = self.message(seq)
        return None if sealed is None else digest(sealed)

    def oldest(self) -> int:
        """Returns the number of the oldest message that is there, that of the next one if there is none."""
        return int(self._db.execute("SELECT coalesce(min(seq), (SELECT seq + 1 FROM head)) FROM outbox").fetchone()[0])

    def charged_rho_micro(self) -> int:
        """Returns the sum of all own charges, sent or not: the centre cannot have filed more."""
        query = "SELECT coalesce(sum(rho_micro), 0) FROM charges WHERE level <> ?"
        return int(self._db.execute(query, (CARRIED,)).fetchone()[0])

    def carry(
        self, spans: Iterable[tuple[str, int, int, int]], closed: Iterable[tuple[str, str, int, int]] = ()
    ) -> None:
        """Enters what gateways before this one spent on its site, as (stream, from, until, micro-rho at the most at any
        instant): caps count it, and no node opens before its end. A line a day: the ledger looks no further ahead.

        `closed`: (stream, level, start, end) of nodes that were spoken of before their end. No second word comes.
        """
        with self.transaction():
            for stream, level, start_s, end_s in closed:
                node = Node(stream, "", level, start_s, end_s, start_s, 0, 1000, (0, 0), bytes(32))
                self.ledger.withhold(node, "clock")
            for stream, from_s, until_s, rho_micro in spans:
                for start_s in range(from_s, until_s, _DAY_S):
                    end_s = min(start_s + _DAY_S, until_s)
                    node = Node(stream, "", CARRIED, start_s, end_s, start_s, 0, 1000, (0, 0), bytes(32))
                    self.ledger.charge(node, rho_micro, rho_micro)
            self._renew_head()

    def depth(self) -> int:
        """Returns how many messages wait for their receipt."""
        return self.next_message()[0] - 1 - self.settled

    def settle(self, up_to: int) -> None:
        """The centre has settled all messages up to this one: from now on in memory, on the disk with the next
        message. They stay as long as there is room; their charges stay for ever."""
        self.settled = max(self.settled, up_to)

    def follow(self, here: Checkpoint) -> bool:
        """The centre's log has come this far: from now on in memory, on the disk by `keep_log` or a message.
        Returns whether that is further than before."""
        grew = self.log is None or here.size > self.log.size
        if grew:
            self.log = here
        return grew

    def keep_log(self) -> None:
        """Writes how far the centre's log has come, where that is not on the disk yet. Raises DiskFull."""
        kept = self._db.execute("SELECT size FROM journal").fetchone()
        if self.log is not None and kept != (self.log.size,):
            with self.transaction():
                self._put_log()
                self._renew_head()

    def forget_log(self, at_s: int) -> None:
        """Forgets how far the centre's log had come, so that the next one that is told is believed, and keeps for ever
        that it was forgotten, and when (UTC seconds). Without a log it changes nothing. Raises DiskFull."""
        if self.log is None:
            return
        with self.transaction():
            number = self._db.execute("SELECT count(*) + 1 FROM forgotten").fetchone()[0]
            fields = (number, at_s, self.log.size, self.log.root)
            self._db.execute("INSERT INTO forgotten VALUES (?, ?, ?, ?, ?)", (*fields, _mark(*fields)))
            self._db.execute("DELETE FROM journal")
            self._renew_head()
        self.log = None

    def forgotten(self) -> list[tuple[int, Checkpoint]]:
        """Returns each log that was forgotten, with the instant (UTC seconds), oldest first."""
        rows = self._db.execute("SELECT at_s, size, root FROM forgotten ORDER BY number")
        return [(int(at_s), Checkpoint(size, root)) for at_s, size, root in rows]

    def policies(self) -> list[StoredPolicy]:
        """Returns every accepted policy by version."""
        return policies_of(self._db)

    def store_policy(self, version: int, from_s: int, toml: bytes) -> None:
        """Accepts a policy, which is no candidate any more, nor is an older one. None is ever forgotten: what one has
        paused stays paused until the next one begins."""
        with self.transaction():
            self._db.execute("DELETE FROM candidates WHERE version <= ?", (version,))
            fields = (version, from_s, toml)
            self._db.execute("INSERT INTO policies VALUES (?, ?, ?, ?)", (*fields, _mark(*fields)))
            self._renew_head()

    def candidates(self) -> list[Candidate]:
        """Returns every policy that was believed and does not hold, by version."""
        return candidates_of(self._db)

    def note_candidate(self, candidate: Candidate) -> None:
        """Keeps a policy that was believed, with the instant at which it was first seen. Raises DiskFull."""
        with self.transaction():
            fields = (candidate.version, candidate.seen_s, candidate.sealed)
            self._db.execute("INSERT OR REPLACE INTO candidates VALUES (?, ?, ?, ?)", (*fields, _mark(*fields)))
            self._renew_head()

    def lived_until(self) -> int | None:
        """Returns the last instant until which it is certain that candidates have waited, None if there was none."""
        row = self._db.execute("SELECT until_s FROM lived").fetchone()
        return int(row[0]) if row else None

    def live_on(self, until_s: int, seen: Mapping[int, int]) -> None:
        """Keeps that candidates have waited until this instant, and when each was first seen, by version, as the clock
        says it now: what the clock has leapt is no time of waiting. Raises DiskFull: nothing has changed then."""
        with self.transaction():
            for one in self.candidates():
                if seen.get(one.version, one.seen_s) != one.seen_s:
                    fields = (one.version, seen[one.version], one.sealed)
                    self._db.execute("REPLACE INTO candidates VALUES (?, ?, ?, ?)", (*fields, _mark(*fields)))
            self._db.execute("REPLACE INTO lived VALUES (1, ?, ?)", (until_s, _mark(until_s)))
            self._renew_head()

    def told(self) -> Told:
        """Returns what the centre's receipts have told so far."""
        row = self._db.execute("SELECT policy_version, older_copy FROM told").fetchone()
        return Told(*row) if row else Told()

    def remember(self, told: Told) -> None:
        """Keeps what a receipt has told, in place of what was known before."""
        with self.transaction():
            fields = (told.policy_version, told.older_copy)
            self._db.execute("INSERT OR REPLACE INTO told VALUES (1, ?, ?, ?)", (*fields, _mark(*fields)))
            self._renew_head()


def told_version_of(connection: sqlite3.Connection) -> int:
    """Returns the newest policy version of which the centre has told, 0 if it has told of none."""
    row = connection.execute("SELECT policy_version FROM told").fetchone()
    return int(row[0]) if row else 0


def candidates_of(connection: sqlite3.Connection) -> list[Candidate]:
    """Returns every candidate that a gateway's file holds, by version; none in a file of before."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'candidates'").fetchone() is None:
        return []
    return [Candidate(*row) for row in connection.execute("SELECT version, seen_s, sealed FROM candidates ORDER BY 1")]


def policies_of(connection: sqlite3.Connection) -> list[StoredPolicy]:
    """Returns every policy that a gateway's file holds, by version; also for who only reads it beside `sense`."""
    rows = connection.execute("SELECT version, from_s, toml FROM policies ORDER BY version")
    return [StoredPolicy(*row) for row in rows]


def inspected(path: Path) -> str | None:
    """Looks whether a file reads as it was written. Returns how receipts have shown that it is an older copy, None if
    none has. Raises what `copied` does."""
    with copied(path) as db:
        return db.told().older_copy


@contextmanager
def copied(path: Path) -> Iterator[GatewayDb]:
    """Opens a copy in memory, as `GatewayDb.open` does; the file stays as it is, also beside a running `sense`.

    Raises OSError if it is not there or may not be read, LedgerDamaged, or MurmureError if it cannot be opened."""
    where, lock = str(path), path.with_name(path.name + ".lock")
    if path.stat().st_size and not _is_sqlite(path):
        raise LedgerDamaged(_damaged(where, "it is no database"))
    log = path.with_name(path.name + "-wal")
    # Whoever reads a file with a log writes beside it. Without one, that is after `sense` has ended, it need not.
    how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True)) as file:
            file.backup(copy)
    except sqlite3.DatabaseError as error:
        copy.close()
        raise _translated(where, error) from error
    with closing(GatewayDb(copy, where, has_past=lock.exists() and lock.read_bytes()[:1] == _BORN)) as db:
        yield db


def _hold(lock: int, pause: Callable[[float], None]) -> None:
    """Takes the lock for as long as the descriptor is open. Raises BlockingIOError if another keeps it."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
            pause(_TRY_S)


def _is_sqlite(path: Path) -> bool:
    """Asked before anything is made beside the file: a mistyped path must change nothing."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _translated(where: str, error: sqlite3.DatabaseError | UnicodeDecodeError) -> MurmureError:
    """Returns what an error of SQLite means here: room can be made, a reader can be closed, the rest is damage."""
    whole = getattr(error, "sqlite_errorcode", 0)  # Python raises some of its own
    code = whole & 0xFF
    if code == sqlite3.SQLITE_FULL or (whole == sqlite3.SQLITE_IOERR_SHMSIZE and _no_room(where)):
        return DiskFull(f"{where}: no room on the disk; nothing is lost while there is power, make room")
    if code in _IN_USE:
        return MurmureError(f"{where}: {error}; stop what else uses it, or mend its rights, and start again")
    if code in _PASSING:
        return _once_more(where, str(error))
    return LedgerDamaged(_damaged(where, str(error)))


def _no_room(where: str) -> bool:
    """Returns whether the disk has less than the file beside a database takes (`-shm`): SQLite calls that an error of
    the disk."""
    try:
        disk = os.statvfs(where)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _SHM_BYTES


def _judged(where: str, verdict: str) -> MurmureError:
    """Returns what a verdict of the integrity check means that is not ok: it tells of a page that could not be read in
    words, as of one that is wrong. A freelist's it names without a code, and after it has looked at its number."""
    unread = re.search(r"unable to get the page\. error code=(\d+)|failed to get page", verdict)
    if unread and (unread[1] is None or int(unread[1]) & 0xFF in _PASSING):
        return _once_more(where, verdict)
    return LedgerDamaged(_damaged(where, verdict))


def _once_more(where: str, what: str) -> MurmureError:
    """Returns an error after which what was committed is whole: a new start may do."""
    return MurmureError(f"{where}: {_one_line(what)}; start again, and replace the card if this comes back")


def _mark(*fields: object) -> bytes:
    return hashlib.sha256(repr(fields).encode()).digest()


def _damaged(where: str, what: str) -> str:
    mend = "nothing is published: keep the card for inspection and enrol the gateway anew"
    return f"{where}: damaged ({_one_line(what)}); {mend}"


def _one_line(what: str) -> str:
    return "".join(c if c.isprintable() else " " for c in what)  # SQLite quotes what is damaged
