"""How an archive becomes one of the present version: a list of steps, each kept whole or not at all.

`user_version` of the file says how many of STEPS it has been through; a new archive goes through all of them, so that
it and an upgraded one have the same tables. A step adds (tables, columns with a default, indices), puts one trigger in
place of another, or fills what it has added from the signed messages; what was there it leaves as it was. A centre of
the version before that still runs goes on, or stops at its next batch, of which nothing was acknowledged, until it is
started again. Steps are never edited once released. To add one: append it here, and keep a dump of an archive of the
version before it under tests/ingest/archives.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from urllib.parse import quote

from murmure_privacy import log, wire
from murmure_privacy.errors import ConfigError, WireError
from murmure_privacy.plan import Plan
from murmure_privacy.succession import Key, Use, Uses

from murmure_ingest import logbook
from murmure_ingest.integers import Scale, keep_scale, packed, scale_of
from murmure_ingest.snapshot import snapshot

APPLICATION_ID = 0x4D55524D  # "MURM"

Step = tuple[str | Callable[[sqlite3.Connection], None], ...]
"""Statements, and what is to be done beside them, in order."""


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


def _word(column: str, longest: int = 40, others: str = "") -> str:
    """Returns the condition that a column is a name of letters, digits, - and _: no text has room for more."""
    return f"length({column}) BETWEEN 1 AND {longest} AND {column} NOT GLOB '*[^A-Za-z0-9_{others}-]*'"


def _reason(column: str) -> str:
    """Returns the condition that a column is a word of ours, or none: no digit, no value."""
    return f"length({column}) <= 40 AND {column} NOT GLOB '*[^a-z_:]*'"


def _one_of(column: str, *words: str) -> str:
    """Returns the condition that a column is one of these. SQLite would build a table for IN, at every row."""
    return "(" + " OR ".join(f"{column} = '{word}'" for word in words) + ")"


def _once(table: str, *keys: str) -> str:
    """Returns the condition that no row has one of these keys. A unique key alone lets `INSERT OR REPLACE` delete the
    row that was there, and no trigger hears of it."""
    return " AND ".join(
        f"NOT EXISTS (SELECT 1 FROM {table} WHERE ({key}) = ({', '.join(f'NEW.{c}' for c in key.split(', '))}))"
        for key in keys
    )


def _first_stays(table: str, *keys: str) -> str:
    """Returns the trigger by which a second row with one of these keys is passed over, whatever the statement says."""
    return (
        f"CREATE TRIGGER {table}_first BEFORE INSERT ON {table} WHEN NOT ({_once(table, *keys)}) "
        "BEGIN SELECT raise(IGNORE); END"
    )


def _fits(table: str, *conditions: str, changes: bool = False) -> Step:
    """Returns the triggers that refuse a row of a table unless it fits; `changes`: the table's rows may change."""
    return tuple(
        f"CREATE TRIGGER {table}_fit_{verb.lower()} BEFORE {verb} ON {table} WHEN ({' AND '.join(conditions)}) "
        "IS NOT TRUE BEGIN SELECT raise(ABORT, 'only releases fit, each once'); END"
        for verb in (("INSERT", "UPDATE") if changes else ("INSERT",))
    )


LONGEST_S = 170 * 3600  # a week with a clock change
_SEALED = 4096  # wire.MESSAGE_LIMIT

_NODES_FIT = (
    _word("NEW.stream", 81, "/"),
    _one_of("NEW.level", "15min", "1h", "6h", "1d", "1w", "day", "evening", "night"),
    _one_of("NEW.quantity", "footfall", "noise", "pm1", "pm2_5", "pm10"),
    "NEW.start_s % 900 = 0 AND NEW.end_s % 900 = 0 AND NEW.covered_from_s % 900 = 0",
    "NEW.start_s <= NEW.covered_from_s AND NEW.covered_from_s < NEW.end_s",
    f"NEW.end_s - NEW.start_s <= {LONGEST_S}",
    "NEW.present BETWEEN 0 AND 20 AND NEW.place BETWEEN 0 AND 1000 AND NEW.rho_micro >= 0",
    "(NEW.reason IS NULL) = (NEW.rho_micro > 0)",
    f"(NEW.reason IS NULL OR {_reason('NEW.reason')})",
    _once("nodes", "stream, level, start_s"),
)

# Only releases fit. What a gateway can fill is a name of the register or of its policy, a word of ours, a whole number
# in its range, or bytes that the intake has verified. Readings have no place: intervals are of quarter-hours.
_FITTING: Step = (
    *_fits(
        "enrolments",
        _word("NEW.gateway"),
        _word("NEW.quartier"),
        _word("NEW.site"),
        "length(NEW.record_key) = 32",
        _once("enrolments", "id"),
    ),
    *_fits(
        "policies",
        "length(NEW.hash) = 32",
        _word("NEW.site"),
        "NEW.version > 0",
        _once("policies", "hash", "site, version"),
    ),
    *_fits(
        "messages",
        _word("NEW.gateway"),
        _reason("NEW.reason"),
        "NEW.seq > 0 AND NEW.nodes BETWEEN 0 AND 1000",
        "length(NEW.hash) = 32 AND length(NEW.previous) = 32 AND length(NEW.head) = 32",
        f"coalesce(length(NEW.sealed), 0) <= {_SEALED}",
        _once("messages", "id", "gateway, seq"),
    ),
    *_fits("amendments", _reason("NEW.reason"), _once("amendments", "message")),
    *_fits("nodes", *_NODES_FIT),
    *_fits(
        "conflicts",
        _word("NEW.gateway"),
        _reason("NEW.reason"),
        f"NEW.seq > 0 AND length(NEW.hash) = 32 AND length(NEW.sealed) <= {_SEALED}",
    ),
    _first_stays("conflicts", "id", "gateway, hash"),
    *_fits("forgotten", _reason("NEW.reason"), "length(NEW.hash) = 32 AND NEW.at_s >= 0"),
    _first_stays("forgotten", "hash"),
    *_fits(
        "rotations",
        _word("NEW.gateway"),
        "length(NEW.record_key) = 32 AND length(NEW.signature) = 64",
        _once("rotations", "id"),
    ),
    *_fits("annotations", _word("NEW.site"), "NEW.number > 0", _once("annotations", "site, number")),
    *_fits(
        "streams",
        _word("NEW.stream", 81, "/"),
        *map(_word, ("NEW.gateway", "NEW.quartier", "NEW.site", "NEW.quantity")),
        changes=True,
    ),
    *_fits("totals", _word("NEW.gateway"), "NEW.settled_seq >= 0 AND NEW.charged_rho_micro >= 0", changes=True),
    *_fits("counters", _reason("NEW.name"), "NEW.value >= 0", changes=True),
    *_fits("health", _word("NEW.gateway"), f"length(NEW.sealed) <= {_SEALED}", changes=True),
    *_fits("uses", _word("NEW.gateway"), _word("NEW.stream", 81, "/"), "length(NEW.policy) = 32", changes=True),
)


def _fill(db: sqlite3.Connection) -> None:
    """Puts what is derived from filed messages beside their nodes, and all their uses of policies, whichever version
    filed them. Raises WireError for a message that does not open."""

    def none(_: bytes) -> Plan:
        raise AssertionError("nothing is judged here")

    scales: dict[Scale, int] = {}
    uses: dict[str, Uses] = {}
    told: dict[tuple[str, Key], Use] = {}
    filed = db.execute(
        "SELECT m.sealed, e.record_key, m.gateway FROM messages m JOIN enrolments e ON e.id = m.enrolment "
        "LEFT JOIN amendments a ON a.message = m.id WHERE coalesce(a.disposition, m.disposition) = 'filed'"
    )
    for sealed, record_key, gateway in filed:
        message = wire.open_message(sealed, record_key)
        for outcome in message.outcomes:
            scale = scale_of(outcome)
            if scale not in scales:
                scales[scale] = keep_scale(db, scale)
            db.execute(
                "UPDATE nodes SET integers = ?, scale = ? WHERE stream = ? AND level = ? AND start_s = ?",
                (packed(outcome), scales[scale], *outcome.node.key),
            )
        for use in uses.setdefault(gateway, Uses(none)).add(message):
            told[gateway, use.key] = use
    db.executemany(
        "INSERT OR REPLACE INTO uses VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (gateway, u.stream, u.policy, u.since_s, u.first_seq, u.shown_s, u.until_s, u.last_seq)
            for (gateway, _), u in told.items()
        ],
    )


_INTEGERS_BYTES = 512  # 30 of a level with bounds of 0 and 140 dB are 240

# The released integers beside their place, so that many are read without opening messages (murmure_ingest.integers).
_INTEGERS: Step = (
    """CREATE TABLE scales (
  id INTEGER PRIMARY KEY,
  policy BLOB NOT NULL, cadence_ms INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL, parts TEXT NOT NULL,
  UNIQUE (policy, cadence_ms, low, high, parts)
) STRICT""",
    *only_grows("scales"),
    *_fits(
        "scales",
        "length(NEW.policy) = 32",
        "length(NEW.parts) <= 200 AND NEW.parts NOT GLOB '*[^a-z0-9_; ]*'",
        "(NEW.parts = '' OR NEW.parts GLOB '[a-z]* [0-9]* [0-9]* [0-9]*')",
        _once("scales", "id", "policy, cadence_ms, low, high, parts"),
    ),
    "ALTER TABLE nodes ADD COLUMN integers BLOB",
    "ALTER TABLE nodes ADD COLUMN scale INTEGER REFERENCES scales (id)",
    "DROP TRIGGER nodes_no_update",
    _fill,
    only_grows("nodes")[0],
    "DROP TRIGGER nodes_fit_insert",
    *_fits(
        "nodes",
        *_NODES_FIT,
        "NEW.scale IS NOT NULL AND (NEW.integers IS NULL) = (NEW.reason IS NOT NULL)",
        f"coalesce(length(NEW.integers), 1) BETWEEN 1 AND {_INTEGERS_BYTES}",
    ),
)

# The transparency log (murmure_ingest.logbook), and what the centre has signed of it. `peak` is the hash of the largest
# perfect subtree that ends with the entry: the root above any number of entries follows from a few of them.
_LOG: Step = (
    """CREATE TABLE log (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL, subject TEXT NOT NULL, number INTEGER NOT NULL, entry BLOB NOT NULL, peak BLOB NOT NULL
) STRICT""",
    "CREATE INDEX log_by_subject ON log (kind, subject, number)",
    "CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, centre BLOB NOT NULL, signed BLOB NOT NULL) STRICT",
    *only_grows("log", "checkpoints"),
    *_fits(
        "log",
        _one_of("NEW.kind", *logbook.KINDS),
        _word("NEW.subject"),
        "NEW.number >= 0 AND length(NEW.peak) = 32",
        f"length(NEW.entry) <= {log.ENTRY_LIMIT} AND json_valid(CAST(NEW.entry AS TEXT))",
        "json_extract(CAST(NEW.entry AS TEXT), '$.kind') = NEW.kind",
        _once("log", "id"),
    ),
    *_fits(
        "checkpoints",
        "NEW.size >= 0 AND length(NEW.centre) = 32",
        f"length(NEW.signed) <= {log.NOTE_LIMIT} AND CAST(NEW.signed AS TEXT) GLOB 'murmure/*'",
        _once("checkpoints", "size"),
    ),
    logbook.fill,
)

STEPS: tuple[Step, ...] = (_RELEASES, _ROTATIONS, _ANNOTATIONS, _USES, _FORGETTING, _FITTING, _INTEGERS, _LOG)
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
                try:
                    _take(db, version)
                except WireError as error:
                    problem = f"it must be upgraded, and a filed message does not open ({error})"
                    mend = "restore it from a backup; nothing was changed"
                    raise ConfigError(str(path), "archive", problem, mend) from error
        version = _pragma(db, "user_version")


def copies(path: Path) -> list[Path]:
    """Returns what upgrades have left of earlier versions beside an archive, finished or not."""
    return sorted(path.parent.glob(f"{path.name}.before-v*")) + sorted(path.parent.glob(f".{path.name}.before-v*"))


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


class _OvertakenError(Exception):
    """What should be kept is not there any more."""


def _keep_before(path: Path, version: int) -> None:
    copy = path.with_name(f"{path.name}.before-v{version}")

    def is_older(made: Path) -> None:
        with closing(sqlite3.connect(f"file:{quote(str(made))}?mode=ro&immutable=1", uri=True)) as db:
            if _pragma(db, "user_version") >= version:
                raise _OvertakenError

    try:
        snapshot(path, copy, is_older)
    except _OvertakenError:
        return  # another process was here since, and has kept what was: its copy must not become the new version
    except OSError as error:
        problem = f"it must be upgraded, and no copy can be made before ({error.strerror or error})"
        raise ConfigError(str(copy), "archive", problem, "make room in that folder; nothing was changed") from error


def _take(db: sqlite3.Connection, version: int) -> None:
    for statement in STEPS[version]:
        if isinstance(statement, str):
            db.execute(statement)
        else:
            statement(db)
    db.execute(f"PRAGMA user_version = {version + 1}")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
