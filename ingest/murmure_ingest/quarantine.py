"""Refused bytes, for a person to look at: `quarantine.db` beside the archive, which never grows beyond a bound.

The archive only grows and holds what gateways are answerable for. What anybody can send has no place there; it is kept
here, as it came, in rings: one for each reason and, once a signature was checked, for each gateway. A ring holds so
many messages and so many bytes, the oldest go first. When all together are too much, the largest ring gives way:
whoever sends a lot of rubbish drives out their own, and nobody else's. Evidence of two cards with one key is in the
archive.

Losing this file loses no release. So nobody waits for the disk here (a power cut takes the last of it), and if it
cannot be written that is said once and intake goes on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from murmure_privacy import wire
from murmure_privacy.errors import ConfigError, MurmureError

from murmure_ingest.intake import Kept

RING_MESSAGES = 100
RING_BYTES = 128 * 1024
TOTAL_BYTES = 16 * 1024 * 1024
KEPT_BYTES = 8192
"""Of one message no more than this; its length and its hash are those of the whole."""

_OVERHEAD_BYTES = 256  # what a row costs beside its bytes, so that empty messages do not come free
_TOPIC_CHARACTERS = 256
_BUSY_TIMEOUT_S = 2.0

_REFUSED = """CREATE TABLE IF NOT EXISTS refused (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  reason TEXT NOT NULL, gateway TEXT NOT NULL, topic TEXT,
  hash BLOB NOT NULL, length INTEGER NOT NULL, bytes BLOB NOT NULL,
  first_s INTEGER NOT NULL, last_s INTEGER NOT NULL, times INTEGER NOT NULL, size INTEGER NOT NULL,
  UNIQUE (reason, gateway, hash)
) STRICT"""
# How much there is of each ring, and of all, stands beside the rows, whatever changes them: a batch costs as little in
# a full quarantine as in an empty one.
_SUMS = (
    "CREATE INDEX refused_by_age ON refused (reason, gateway, last_s, id)",
    """CREATE TABLE rings (
  reason TEXT NOT NULL, gateway TEXT NOT NULL, messages INTEGER NOT NULL, size INTEGER NOT NULL,
  PRIMARY KEY (reason, gateway)
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX rings_by_size ON rings (size)",
    "CREATE TABLE whole (size INTEGER NOT NULL) STRICT",
    "INSERT INTO rings SELECT reason, gateway, count(*), sum(size) FROM refused GROUP BY reason, gateway",
    "INSERT INTO whole SELECT coalesce(sum(size), 0) FROM refused",
    """CREATE TRIGGER refused_more AFTER INSERT ON refused BEGIN
  INSERT INTO rings VALUES (NEW.reason, NEW.gateway, 1, NEW.size) ON CONFLICT DO UPDATE SET
    messages = messages + 1, size = size + excluded.size;
  UPDATE whole SET size = size + NEW.size;
END""",
    """CREATE TRIGGER refused_less AFTER DELETE ON refused BEGIN
  UPDATE rings SET messages = messages - 1, size = size - OLD.size WHERE (reason, gateway) = (OLD.reason, OLD.gateway);
  DELETE FROM rings WHERE (reason, gateway) = (OLD.reason, OLD.gateway) AND messages = 0;
  UPDATE whole SET size = size - OLD.size;
END""",
    "PRAGMA user_version = 1",
)
_COLUMNS = "id, reason, gateway, topic, hash, length, bytes, first_s, last_s, times FROM refused"


class QuarantineError(MurmureError):
    """The quarantine cannot be read."""


@dataclass(frozen=True, slots=True)
class Item:
    """One refused message. `gateway` is the one whose key signed it, "" for anybody's; `topic` None for what was
    carried by hand. `bytes` are the first KEPT_BYTES of `length`, `hash` the SHA-256 of all. It came `times` times
    between two instants (seconds UTC, by the centre's clock)."""

    id: int
    reason: str
    gateway: str
    topic: str | None
    hash: bytes
    length: int
    bytes: bytes
    first_s: int
    last_s: int
    times: int


class Quarantine:
    """The writer's side, which an intake is given as `keep`. `now` tells the time; `say` is told when the file cannot
    be written, and when it can again."""

    def __init__(self, path: Path, now: Callable[[], datetime], say: Callable[[str], None]) -> None:
        self.path = path
        self._now, self._say = now, say
        self._db: sqlite3.Connection | None = None
        self._complained = False

    def __call__(self, kept: Sequence[Kept]) -> None:
        """Keeps refused messages, bounded. Never raises: what cannot be kept is lost."""
        try:
            self._keep(kept)
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                if self._db is not None and self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            self.close()
            if not self._complained:
                self._say(f"{self.path}: quarantine: {error}; refused bytes are not kept: make room or remove it")
            self._complained = True
        else:
            if self._complained:
                self._say(f"{self.path}: quarantine: refused bytes are kept again")
            self._complained = False

    def close(self) -> None:
        """Closes the file."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()

    def _keep(self, kept: Sequence[Kept]) -> None:
        if self._db is None:
            self._db = _connect(self.path)
        db, now_s = self._db, int(self._now().timestamp())
        db.execute("BEGIN IMMEDIATE")
        rings: dict[tuple[str, str], list[Kept]] = {}
        for one in kept:
            rings.setdefault((one.reason, one.gateway or ""), []).append(one)
        for ring, mine in rings.items():
            # A flood fills one batch with what the ring could not hold: only its end is written at all.
            for one in mine[-RING_MESSAGES:]:
                _put(db, one, ring[1], now_s)
            _trim(db, *ring)
        while db.execute("SELECT size FROM whole").fetchone()[0] > TOTAL_BYTES:
            _halve_the_largest(db)
        db.execute("COMMIT")


def _put(db: sqlite3.Connection, one: Kept, gateway: str, now_s: int) -> None:
    topic = None if one.topic is None else one.topic[:_TOPIC_CHARACTERS]
    data = one.sealed[:KEPT_BYTES]
    db.execute(
        "INSERT INTO refused (reason, gateway, topic, hash, length, bytes, first_s, last_s, times, size) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?) "
        "ON CONFLICT DO UPDATE SET times = times + 1, last_s = excluded.last_s",
        (
            *(one.reason, gateway, topic, wire.digest(one.sealed), len(one.sealed), data),
            *(now_s, now_s, len(data) + _OVERHEAD_BYTES),
        ),
    )


def _trim(db: sqlite3.Connection, reason: str, gateway: str) -> None:
    held = "SELECT messages, size FROM rings WHERE (reason, gateway) = (?, ?)"
    while True:
        messages, size = db.execute(held, (reason, gateway)).fetchone()
        if messages <= RING_MESSAGES and size <= RING_BYTES:
            return
        _drop_oldest(db, reason, gateway, max(1, messages - RING_MESSAGES))


def _halve_the_largest(db: sqlite3.Connection) -> None:
    largest = "SELECT reason, gateway, (messages + 1) / 2 FROM rings ORDER BY size DESC LIMIT 1"
    _drop_oldest(db, *db.execute(largest).fetchone())


def _drop_oldest(db: sqlite3.Connection, reason: str, gateway: str, count: int) -> None:
    db.execute(
        "DELETE FROM refused WHERE id IN "
        "(SELECT id FROM refused WHERE reason = ? AND gateway = ? ORDER BY last_s, id LIMIT ?)",
        (reason, gateway, count),
    )


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
    try:
        db.execute("PRAGMA auto_vacuum = FULL")  # before the first table: what is deleted gives its room back
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")  # of two processes the second finds what the first has made
        db.execute(_REFUSED)
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _SUMS:
                db.execute(statement)
        db.execute("COMMIT")
        path.chmod(0o600)
    except BaseException:
        db.close()
        raise
    return db


def items(path: Path, reason: str | None = None, gateway: str | None = None) -> Iterator[Item]:
    """Yields what is kept, oldest first, of a reason and of a gateway if they are given; nothing without a file.

    Raises QuarantineError if the file cannot be read.
    """
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)) as db:
            wanted = "(?1 IS NULL OR reason = ?1) AND (?2 IS NULL OR gateway = ?2)"
            rows = db.execute(f"SELECT {_COLUMNS} WHERE {wanted} ORDER BY last_s, id", (reason, gateway))
            yield from (Item(*row) for row in rows)
    except sqlite3.Error as error:
        raise QuarantineError(f"{path}: quarantine: {error}; remove the file: no release is in it") from error


def item(path: Path, number: int) -> Item:
    """Returns one by its number. Raises ConfigError if there is none."""
    for one in items(path):
        if one.id == number:
            return one
    raise ConfigError(str(path), str(number), "nothing of that number is kept", "see 'murmure ingest quarantine list'")
