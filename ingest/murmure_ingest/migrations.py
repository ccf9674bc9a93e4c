"""How an archive becomes one of the present version: a list of steps, each kept whole or not at all.

`user_version` of the file says how many of STEPS it has been through; a new archive goes through all of them, so that
it and an upgraded one have the same tables. A step adds (tables, columns with a default, indices), or puts one trigger
in place of another; it touches no row: a centre of the version before that still runs can go on until it is restarted.
Steps are never edited once released. To add one: append it here, and keep a dump of an archive of the version before it
under tests/ingest/archives.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from murmure_privacy.errors import ConfigError

from murmure_ingest.snapshot import snapshot

APPLICATION_ID = 0x4D55524D  # "MURM"

Step = tuple[str, ...]


def only_grows(*tables: str) -> Step:
    """Returns the triggers that refuse to change or delete a row of these tables."""
    return tuple(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        "BEGIN SELECT raise(ABORT, 'the archive only grows'); END"
        for table in tables
        for verb in ("UPDATE", "DELETE")
    )


_RELEASES: Step = (
    """CREATE TABLE enrolments (
  id INTEGER PRIMARY KEY,
  gateway TEXT NOT NULL, quartier TEXT NOT NULL, site TEXT NOT NULL,
  record_key BLOB NOT NULL, stewards BLOB NOT NULL, signatures_required INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('active', 'revoked'))
) STRICT""",
    "CREATE INDEX enrolments_by_gateway ON enrolments (gateway, id)",
    """CREATE TABLE policies (
  hash BLOB PRIMARY KEY, site TEXT NOT NULL, version INTEGER NOT NULL, toml BLOB NOT NULL, sealed BLOB NOT NULL,
  UNIQUE (site, version)
) STRICT""",
    """CREATE TABLE messages (
  id INTEGER PRIMARY KEY,
  gateway TEXT NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, previous BLOB NOT NULL,
  enrolment INTEGER NOT NULL REFERENCES enrolments (id),
  disposition TEXT NOT NULL CHECK (disposition IN ('filed', 'refused', 'quarantined')), reason TEXT NOT NULL,
  nodes INTEGER NOT NULL, head BLOB NOT NULL,
  sealed BLOB CHECK ((sealed IS NULL) = (disposition = 'refused')),
  UNIQUE (gateway, seq)
) STRICT""",
    "CREATE INDEX messages_put_aside ON messages (gateway, seq) WHERE disposition <> 'filed'",
    """CREATE TABLE amendments (
  message INTEGER PRIMARY KEY REFERENCES messages (id),
  disposition TEXT NOT NULL CHECK (disposition IN ('filed', 'refused')), reason TEXT NOT NULL
) STRICT""",
    """CREATE TABLE nodes (
  stream TEXT NOT NULL, level TEXT NOT NULL, start_s INTEGER NOT NULL,
  end_s INTEGER NOT NULL, covered_from_s INTEGER NOT NULL, quantity TEXT NOT NULL, present INTEGER NOT NULL,
  reason TEXT, rho_micro INTEGER NOT NULL,
  message INTEGER NOT NULL REFERENCES messages (id), place INTEGER NOT NULL,
  PRIMARY KEY (stream, level, start_s)
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX nodes_by_end ON nodes (stream, end_s)",
    """CREATE TABLE conflicts (
  id INTEGER PRIMARY KEY,
  gateway TEXT NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, reason TEXT NOT NULL, sealed BLOB NOT NULL,
  UNIQUE (gateway, hash)
) STRICT""",
    """CREATE TABLE streams (
  stream TEXT NOT NULL, gateway TEXT NOT NULL, quartier TEXT NOT NULL, site TEXT NOT NULL, quantity TEXT NOT NULL,
  since INTEGER NOT NULL, PRIMARY KEY (stream, gateway)
) STRICT""",
    """CREATE TABLE totals (
  gateway TEXT PRIMARY KEY, settled_seq INTEGER NOT NULL, charged_rho_micro INTEGER NOT NULL
) STRICT""",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT",
    """CREATE TABLE health (
  gateway TEXT PRIMARY KEY, boot INTEGER NOT NULL, uptime_s INTEGER NOT NULL, at_s INTEGER NOT NULL,
  sealed BLOB NOT NULL
) STRICT""",
    *only_grows("enrolments", "policies", "messages", "amendments", "nodes", "conflicts"),
)

# A gateway's word, signed by its record key, that another key speaks for it from now on (rotation.py).
_ROTATIONS: Step = (
    """CREATE TABLE rotations (
  id INTEGER PRIMARY KEY,
  gateway TEXT NOT NULL, record_key BLOB NOT NULL, statement BLOB NOT NULL, signature BLOB NOT NULL
) STRICT""",
    "CREATE INDEX rotations_by_gateway ON rotations (gateway, id)",
    *only_grows("rotations"),
)

# What stewards say afterwards of a period of a stream, under the line of the register whose stewards signed it.
_ANNOTATIONS: Step = (
    """CREATE TABLE annotations (
  site TEXT NOT NULL, number INTEGER NOT NULL,
  enrolment INTEGER NOT NULL REFERENCES enrolments (id),
  sealed BLOB NOT NULL,
  PRIMARY KEY (site, number)
) STRICT, WITHOUT ROWID""",
    *only_grows("annotations"),
)

# How each gateway has used each policy (murmure_privacy.succession), by what was filed since this step. It is derived:
# its rows change.
_USES: Step = (
    """CREATE TABLE uses (
  gateway TEXT NOT NULL, stream TEXT NOT NULL, policy BLOB NOT NULL,
  since_s INTEGER NOT NULL, first_seq INTEGER NOT NULL, shown_s INTEGER NOT NULL,
  until_s INTEGER NOT NULL, last_seq INTEGER NOT NULL,
  PRIMARY KEY (gateway, stream, policy)
) STRICT, WITHOUT ROWID""",
)

# What was put aside may be forgotten one day (murmure_ingest.retention): its row stays, its bytes become none. That is
# the one change that a row of these tables knows, and only of a hash that was written down before.
_FORGETTING: Step = (
    """CREATE TABLE forgotten (
  hash BLOB PRIMARY KEY, reason TEXT NOT NULL, at_s INTEGER NOT NULL
) STRICT""",
    *only_grows("forgotten"),
    "DROP TRIGGER messages_no_update",
    """CREATE TRIGGER messages_no_update BEFORE UPDATE ON messages WHEN NOT (
  OLD.disposition = 'quarantined' AND NEW.sealed = x'' AND EXISTS (SELECT 1 FROM forgotten WHERE hash = OLD.hash)
  AND NOT EXISTS (SELECT 1 FROM amendments WHERE message = OLD.id AND disposition = 'filed')
  AND (NEW.id, NEW.gateway, NEW.seq, NEW.hash, NEW.previous, NEW.enrolment, NEW.disposition, NEW.reason, NEW.nodes,
       NEW.head)
  IS (OLD.id, OLD.gateway, OLD.seq, OLD.hash, OLD.previous, OLD.enrolment, OLD.disposition, OLD.reason, OLD.nodes,
      OLD.head)
) BEGIN SELECT raise(ABORT, 'the archive only grows'); END""",
    "DROP TRIGGER conflicts_no_update",
    """CREATE TRIGGER conflicts_no_update BEFORE UPDATE ON conflicts WHEN NOT (
  NEW.sealed = x'' AND EXISTS (SELECT 1 FROM forgotten WHERE hash = OLD.hash)
  AND (NEW.id, NEW.gateway, NEW.seq, NEW.hash, NEW.reason) IS (OLD.id, OLD.gateway, OLD.seq, OLD.hash, OLD.reason)
) BEGIN SELECT raise(ABORT, 'the archive only grows'); END""",
)

STEPS: tuple[Step, ...] = (_RELEASES, _ROTATIONS, _ANNOTATIONS, _USES, _FORGETTING)
"""Statements that lead from version n to n + 1, at place n."""


def prepare(db: sqlite3.Connection, path: Path, transaction: Callable[[], AbstractContextManager[None]]) -> None:
    """Makes an archive of an empty file, or leads one of an earlier version to the present one.

    Before the first step of an upgrade the file is copied to `NAME.before-vN` beside it, N being the next version.
    Raises ConfigError for what is no archive, for a newer one, and where there is no room for the copy.
    """
    with transaction():
        if _pragma(db, "user_version") == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for version in range(len(STEPS)):
                _take(db, version)
    version = _require_archive(db, path)
    if version < len(STEPS):
        _keep_before(path, version + 1)
    while version < len(STEPS):
        with transaction():
            # Another process may have been here since.
            if _pragma(db, "user_version") == version:
                _take(db, version)
        version = _pragma(db, "user_version")


def require_present(db: sqlite3.Connection, path: Path) -> None:
    """Raises ConfigError unless the file is an archive of the present version."""
    if _require_archive(db, path) < len(STEPS):
        raise ConfigError(
            str(path),
            "archive",
            "it was written by an earlier version of Murmure",
            "let the centre open it once with 'murmure gateway list', which upgrades it",
        )


def _require_archive(db: sqlite3.Connection, path: Path) -> int:
    """Returns the version of the file."""
    if _pragma(db, "application_id") != APPLICATION_ID:
        raise ConfigError(str(path), "archive", "this is not an archive of Murmure", "give an archive.db")
    version = _pragma(db, "user_version")
    if not 0 < version <= len(STEPS):
        raise ConfigError(
            str(path),
            "archive",
            f"it is of version {version}, from another version of Murmure than this",
            "install that version, or restore the copy that the upgrade has left beside it",
        )
    return version


def _keep_before(path: Path, version: int) -> None:
    copy = path.with_name(f"{path.name}.before-v{version}")
    try:
        snapshot(path, copy)
    except OSError as error:
        problem = f"it must be upgraded, and no copy can be made before ({error.strerror or error})"
        raise ConfigError(str(copy), "archive", problem, "make room in that folder; nothing was changed") from error


def _take(db: sqlite3.Connection, version: int) -> None:
    for statement in STEPS[version]:
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {version + 1}")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
