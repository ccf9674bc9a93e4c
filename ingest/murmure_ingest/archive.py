"""The centre's memory: an append-only SQLite file in which every node has one place, for ever.

Sealed messages are kept as they arrived; nodes point into them, so that whatever is read from the archive was signed
by a gateway and is opened again by the wire. Rows of messages, nodes, enrolments, policies, amendments, annotations
and conflicts are never changed nor deleted (triggers see to it); what can be derived from them (`totals`, `streams`)
may be updated within the same transaction.

One process files messages at a time in ordinary life, but nothing breaks if a second one (import, enrol, publish)
writes beside it: every check that a writer relies on is made inside its own BEGIN IMMEDIATE.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from murmure_privacy import wire
from murmure_privacy.annotation import Note
from murmure_privacy.errors import ConfigError, MurmureError, WireError
from murmure_privacy.release import Message, Outcome, Release, Withheld
from murmure_privacy.succession import Key, Use

from murmure_ingest import migrations

CONFLICTS_KEPT = 100  # per gateway and reason: evidence, not a way to fill the disk
EXCEPTIONS_LISTED = 256  # what a receipt can carry
FIRST_HEAD = bytes(32)
_MESSAGES_CACHED = 8192
_STANDINGS_KEPT = 20_000
_STREAMS_TOLD = 60  # of a site, unless more are filed: a new gateway believes no longer a list
_CACHE_KIB = 64 * 1024
_CHECKPOINT_PAGES = 8192  # 32 MiB: at a full queue a page is written many times over, and copied into the file once
_RHO_PLACE = 8  # in `index_row`
_BUSY_TIMEOUT_S = 10.0

_FORKS = "('sequence_conflict', 'forked_node')"  # evidence that one key speaks from two cards

Disposition = Literal["filed", "refused", "quarantined"]


class ArchiveError(MurmureError):
    """The archive cannot be read or written: nothing of the present batch was kept."""


class ArchiveWaits(ArchiveError):
    """Nothing is wrong with the file: worth trying again; nothing was lost, since nothing was acknowledged."""


class ArchiveFull(ArchiveWaits):
    """No space for the commit: make room."""


class ArchiveBusy(ArchiveWaits):
    """Another process has been writing for longer than anybody waits in one go."""


class ArchiveDamaged(ArchiveError):
    """The file does not read as it was written: stop, and restore it from a backup."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One line of the register: who may speak. Keys are 32-byte Ed25519 public keys. The newest line of a gateway
    holds; a message stays bound to the line (`id`) under which it was accepted."""

    gateway: str
    quartier: str
    site: str
    record_key: bytes
    stewards: tuple[bytes, ...]
    signatures_required: int
    status: Literal["active", "revoked"] = "active"
    id: int = 0


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of the archive and the gateway that spoke of it last."""

    gateway: str
    quartier: str
    site: str
    stream: str
    quantity: str


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One settled message. `sealed` is None for a refused one, of which only the hash is remembered, and empty for one
    that was put aside and forgotten since; `disposition` and `reason` are the newest word on it. `nodes`: how many
    nodes it carries."""

    id: int
    gateway: str
    seq: int
    hash: bytes
    previous: bytes
    disposition: Disposition
    reason: str
    nodes: int
    enrolment: int
    head: bytes
    sealed: bytes | None


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """One signed policy: `hash` is the SHA-256 of `toml`, `sealed` carries the signatures."""

    hash: bytes
    site: str
    version: int
    toml: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class StoredAnnotation:
    """What stewards said of a period of a stream, or took back. `sealed` carries their signatures, `enrolment` is the
    line of the register whose stewards they are."""

    note: Note
    sealed: bytes
    enrolment: int


@dataclass(frozen=True, slots=True)
class StoredHealth:
    """The last health report of a gateway, as it was signed."""

    gateway: str
    boot: int
    uptime_s: int
    at_s: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Totals:
    """What a receipt says of a gateway: all of 1..settled_seq is settled; the sum of rho filed, in micro-rho."""

    settled_seq: int
    settled_hash: bytes
    charged_rho_micro: int


@dataclass(slots=True)
class _Standing:
    """What the next message of a gateway is judged by. `last`: the one with the highest number so far. `uses`: of the
    policies of its site, by stream and policy."""

    last: StoredMessage | None
    settled_seq: int
    cloned: bool
    uses: dict[Key, Use]


@dataclass(slots=True)
class _Pending:
    """Rows of the present transaction that are not in the tables yet, so that many go in together."""

    messages: list[tuple[Any, ...]] = field(default_factory=list)
    nodes: dict[tuple[str, str, int], tuple[Any, ...]] = field(default_factory=dict)  # by key
    totals: list[tuple[str, int, int]] = field(default_factory=list)
    uses: dict[tuple[str, Key], tuple[Any, ...]] = field(default_factory=dict)  # by gateway and key


@dataclass(slots=True)
class _Remembered:
    """What a writer knows without asking, until somebody else writes or a commit fails: all of it is in the file."""

    enrolments: dict[str, Enrolment | None] = field(default_factory=dict)
    standings: dict[str, _Standing] = field(default_factory=dict)
    speakers: set[tuple[str, str]] = field(default_factory=set)  # stream and gateway
    newest: tuple[int, bytes] | None = None  # id and head of the message that was filed last
    signs: tuple[Any, ...] | None = None  # whatever else there is that judges a message, when others wrote last


_LOOKED_UP = 128
_PLACES = (
    f"SELECT n.stream, n.level, n.start_s FROM (VALUES {', '.join(['(?, ?, ?)'] * _LOOKED_UP)}) k CROSS JOIN nodes n "
    "ON n.stream = k.column1 AND n.level = k.column2 AND n.start_s = k.column3"
)

_MESSAGE_COLUMNS = (
    "m.id, m.gateway, m.seq, m.hash, m.previous, coalesce(a.disposition, m.disposition), coalesce(a.reason, m.reason),"
    " m.nodes, m.enrolment, m.head, m.sealed FROM messages m LEFT JOIN amendments a ON a.message = m.id"
)


class Archive:
    """The store of releases. Open with `Archive.open`; use from one thread."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._connection = db
        self._pending: _Pending | None = None
        self._mark = -1
        self._places: dict[tuple[Any, ...], bool] = {}  # keys of nodes, and whether there is one, in this transaction
        self._writing = False  # within `transaction`: what is remembered holds
        self._remembered = _Remembered()
        self._outcomes_of = lru_cache(maxsize=_MESSAGES_CACHED)(self._open_outcomes)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Archive:
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
        with _explained(path):
            db = _connect_reader(path) if read_only else _connect(f"file:{quote(str(path))}?mode=rwc")
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

    def _flush(self, pending: _Pending) -> None:
        self._pending = None
        insert = self._connection.executemany
        insert(
            "INSERT INTO messages (id, gateway, seq, hash, previous, enrolment, disposition, reason, nodes, head, "
            "sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            pending.messages,
        )
        # In the order of the tree: neighbours of a stream are on one page.
        rows = [pending.nodes[key] for key in sorted(pending.nodes)]
        insert("INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        insert(
            "INSERT INTO totals VALUES (?, ?, ?) ON CONFLICT (gateway) DO UPDATE SET "
            "settled_seq = excluded.settled_seq, charged_rho_micro = charged_rho_micro + excluded.charged_rho_micro",
            pending.totals,
        )
        insert("INSERT OR REPLACE INTO uses VALUES (?, ?, ?, ?, ?, ?, ?, ?)", pending.uses.values())

    def _later(self) -> _Pending:
        """Returns where rows wait; only within `transaction`, whose commit takes them along."""
        assert self._writing
        if self._pending is None:
            self._pending = _Pending()
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
            raise ArchiveDamaged(_damage_text(self.path, str(damage).replace("\n", " ")))

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is kept together, durably, or not at all. Raises ArchiveWaits, ArchiveDamaged."""
        with _explained(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._writing, self._places = True, {}
                self._recall()  # nobody else can write from here on
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._remembered, self._pending = _Remembered(), None
                # SQLite has already rolled back by itself after some errors (disk full, input/output).
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._writing = False

    def _recall(self) -> None:
        """Forgets of what is remembered what others may have changed since."""
        known = self._remembered
        mark = self.change_mark()
        if mark == self._mark and len(known.standings) <= _STANDINGS_KEPT:
            return
        self._mark = mark
        if known.newest is None or len(known.standings) > _STANDINGS_KEPT:
            self._remembered = _Remembered()
            return
        signs = self._row(
            "SELECT (SELECT max(id) FROM enrolments), (SELECT max(id) FROM conflicts), "
            "(SELECT count(*) FROM amendments)"
        )
        if signs != known.signs:
            self._remembered = _Remembered(signs=signs)
            return
        # A centre beside this one has filed what its own gateways said.
        for (gateway,) in self._rows("SELECT DISTINCT gateway FROM messages WHERE id > ?", known.newest[0]):
            known.standings.pop(gateway, None)
        known.newest = None

    def change_mark(self) -> int:
        """Returns a number that changes whenever another process has committed to the file."""
        return int(self._rows("PRAGMA data_version")[0][0])

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _explanation(self.path, error) from error

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        rows = self._rows(query, *values)
        return rows[0] if rows else None

    # --- register ----------------------------------------------------------------------------------------------------

    def enrol(self, enrolment: Enrolment) -> Enrolment:
        """Adds a line to the register (within a transaction) and returns it with its id."""
        e = enrolment
        cursor = self._db.execute(
            "INSERT INTO enrolments (gateway, quartier, site, record_key, stewards, signatures_required, status) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (e.gateway, e.quartier, e.site, e.record_key, b"".join(e.stewards), e.signatures_required, e.status),
        )
        self._remembered.enrolments.pop(enrolment.gateway, None)
        return replace(enrolment, id=cursor.lastrowid or 0)

    def enrolment(self, gateway: str) -> Enrolment | None:
        """Returns the newest line of the register for a gateway."""
        known = self._remembered.enrolments
        if self._writing and gateway in known:
            return known[gateway]
        found = self._newest_line(gateway)
        if self._writing:
            known[gateway] = found
        return found

    def _newest_line(self, gateway: str) -> Enrolment | None:
        row = self._row("SELECT * FROM enrolments WHERE gateway = ? ORDER BY id DESC LIMIT 1", gateway)
        return _enrolment(row) if row else None

    def enrolments(self) -> list[Enrolment]:
        """Returns the newest line of every gateway, by gateway."""
        return [
            _enrolment(row)
            for row in self._rows(
                "SELECT * FROM enrolments WHERE id IN (SELECT max(id) FROM enrolments GROUP BY gateway) "
                "ORDER BY gateway"
            )
        ]

    def enrolment_lines(self) -> list[Enrolment]:
        """Returns every line of the register, oldest first."""
        return [_enrolment(row) for row in self._rows("SELECT * FROM enrolments ORDER BY id")]

    def enrolment_line(self, line: int) -> Enrolment | None:
        """Returns one line of the register, whether or not it still holds."""
        row = self._row("SELECT * FROM enrolments WHERE id = ?", line)
        return _enrolment(row) if row else None

    # --- changes of keys ---------------------------------------------------------------------------------------------

    def put_rotation(self, gateway: str, record_key: bytes, statement: bytes, signature: bytes) -> None:
        """Files a gateway's signed word that `record_key` will speak for it (within a transaction)."""
        self._db.execute(
            "INSERT INTO rotations (gateway, record_key, statement, signature) VALUES (?, ?, ?, ?)",
            (gateway, record_key, statement, signature),
        )

    def named_keys(self, gateway: str) -> list[bytes]:
        """Returns the keys that a gateway has named so, newest first."""
        query = "SELECT record_key FROM rotations WHERE gateway = ? ORDER BY id DESC"
        return [bytes(key) for (key,) in self._rows(query, gateway)]

    def rotations(self, gateway: str, record_key: bytes) -> list[tuple[bytes, bytes]]:
        """Returns (statement, signature) of each word by which a gateway named this key, newest first."""
        query = "SELECT statement, signature FROM rotations WHERE gateway = ? AND record_key = ? ORDER BY id DESC"
        return [(bytes(statement), bytes(signature)) for statement, signature in self._rows(query, gateway, record_key)]

    def lines_of(self, gateway: str) -> list[Enrolment]:
        """Returns every line of the register for a gateway, newest first."""
        rows = self._rows("SELECT * FROM enrolments WHERE gateway = ? ORDER BY id DESC", gateway)
        return [_enrolment(row) for row in rows]

    def forget_health(self, gateway: str) -> None:
        """Drops the last report of a gateway (within a transaction): its key is not the gateway's any more."""
        self._db.execute("DELETE FROM health WHERE gateway = ?", (gateway,))

    # --- policies ----------------------------------------------------------------------------------------------------

    def put_policy(self, policy: StoredPolicy) -> None:
        """Files a signed policy (within a transaction); a second one of the same site and version is an error."""
        self._db.execute(
            "INSERT INTO policies (hash, site, version, toml, sealed) VALUES (?, ?, ?, ?, ?)",
            (policy.hash, policy.site, policy.version, policy.toml, policy.sealed),
        )

    def policy(self, policy_hash: bytes) -> bytes | None:
        """Returns the exact TOML bytes of the policy with this SHA-256."""
        row = self._row("SELECT toml FROM policies WHERE hash = ?", policy_hash)
        return bytes(row[0]) if row else None

    def policies(self, site: str | None = None) -> list[StoredPolicy]:
        """Returns all filed policies (of a site), oldest version first."""
        rows = self._rows(
            "SELECT hash, site, version, toml, sealed FROM policies WHERE site = ? OR ? IS NULL ORDER BY site, version",
            site,
            site,
        )
        return [StoredPolicy(*row) for row in rows]

    def newest_policy(self, site: str) -> StoredPolicy | None:
        """Returns the policy of a site with the highest version."""
        row = self._row(
            "SELECT hash, site, version, toml, sealed FROM policies WHERE site = ? ORDER BY version DESC LIMIT 1", site
        )
        return StoredPolicy(*row) if row else None

    # --- annotations -------------------------------------------------------------------------------------------------

    def put_annotation(self, annotation: StoredAnnotation) -> None:
        """Files a signed note of stewards (within a transaction); a second one of its site and number is an error."""
        self._db.execute(
            "INSERT INTO annotations (site, number, enrolment, sealed) VALUES (?, ?, ?, ?)",
            (annotation.note.site, annotation.note.number, annotation.enrolment, annotation.sealed),
        )

    def annotations(self, site: str | None = None) -> list[StoredAnnotation]:
        """Returns all notes of stewards (on a site), by site and number; `annotation.in_force` says which marks hold.

        Raises ArchiveDamaged if one does not open any more with the keys of its line of the register.
        """
        lines = {line.id: line for line in self.enrolment_lines()}
        found = []
        for row_site, number, line, sealed in self.annotation_rows(site):
            name, signers = f"annotation {number} of {row_site}", lines.get(line)
            if signers is None:
                raise ArchiveDamaged(_damage_text(self.path, f"{name}: its line of the register is missing"))
            try:
                note = wire.open_annotation(sealed, signers.stewards, signers.signatures_required)
            except WireError as error:
                raise ArchiveDamaged(_damage_text(self.path, f"{name}: {error}")) from error
            if (note.site, note.number) != (row_site, number):
                raise ArchiveDamaged(_damage_text(self.path, f"{name}: it says of itself {note.number} of {note.site}"))
            found.append(StoredAnnotation(note, sealed, line))
        return found

    def annotation_rows(self, site: str | None = None) -> list[tuple[str, int, int, bytes]]:
        """Returns (site, number, line of the register, sealed bytes) of all notes (on a site), nothing verified."""
        return [
            (str(row[0]), int(row[1]), int(row[2]), bytes(row[3]))
            for row in self._rows(
                "SELECT site, number, enrolment, sealed FROM annotations WHERE site = ? OR ? IS NULL "
                "ORDER BY site, number",
                *(site, site),
            )
        ]

    # --- messages ----------------------------------------------------------------------------------------------------

    def find(self, gateway: str, seq: int) -> StoredMessage | None:
        """Returns the settled message of a gateway with this sequence number."""
        if self._writing:
            last = self._standing(gateway).last
            if last is None or seq >= last.seq:
                return last if last and seq == last.seq else None
        return self._message("m.gateway = ? AND m.seq = ?", gateway, seq)

    def _message(self, where: str, *values: object) -> StoredMessage | None:
        row = self._row(f"SELECT {_MESSAGE_COLUMNS} WHERE {where}", *values)
        return StoredMessage(*row) if row else None

    def messages(self, gateway: str | None = None, after: int = 0) -> Iterator[StoredMessage]:
        """Yields the settled messages of a gateway by sequence number; without one, all in the order of filing, from
        the one that follows row `after`."""
        where, order, value = ("m.id > ?", "m.id", after) if gateway is None else ("m.gateway = ?", "m.seq", gateway)
        with _explained(self.path):
            for row in self._db.execute(f"SELECT {_MESSAGE_COLUMNS} WHERE {where} ORDER BY {order}", (value,)):
                yield StoredMessage(*row)

    def filed_late(self) -> set[int]:
        """Returns the rows of the messages that waited before they were filed: they are older than their filing."""
        return {row for (row,) in self._rows("SELECT message FROM amendments WHERE disposition = 'filed'")}

    def complete_until(self, stream: str, at_s: int) -> bool:
        """Returns whether nothing that ends by an instant can come any more from the gateway that spoke of the stream
        then: a later node of its is filed, and everything that it sent before that is settled and does not wait."""
        return bool(
            self._rows(
                "SELECT EXISTS (SELECT 1 FROM "
                "(SELECT m.gateway, m.seq FROM nodes n JOIN messages m ON m.id = n.message "
                "WHERE n.stream = ? AND n.end_s >= ? ORDER BY n.end_s LIMIT 1) last "
                "JOIN totals t ON t.gateway = last.gateway WHERE t.settled_seq >= last.seq AND NOT EXISTS "
                "(SELECT 1 FROM messages w LEFT JOIN amendments a ON a.message = w.id WHERE w.gateway = last.gateway "
                "AND w.seq < last.seq AND w.disposition = 'quarantined' AND w.sealed <> x'' AND a.message IS NULL))",
                *(stream, at_s),
            )[0][0]
        )

    def quarantined(self, reason: str) -> list[StoredMessage]:
        """Returns the messages that still wait for a mend of `reason`, by gateway and sequence number."""
        rows = self._rows(
            f"SELECT {_MESSAGE_COLUMNS} WHERE m.disposition = 'quarantined' AND m.reason = ? AND a.message IS NULL "
            "AND m.sealed <> x'' ORDER BY m.gateway, m.seq",
            reason,
        )
        return [StoredMessage(*row) for row in rows]

    def taken(self, outcomes: Iterable[Outcome]) -> tuple[str, str, int] | None:
        """Returns the key of the first node that has its place already, if any."""
        query = "SELECT 1 FROM nodes WHERE stream = ? AND level = ? AND start_s = ?"
        for outcome in outcomes:
            key = outcome.node.key
            known = self._places.get(key) if self._writing else None
            if known or (known is None and self._row(query, *key)):
                return key
        return None

    def foresee(self, outcomes: Iterable[Outcome]) -> None:
        """Looks up together the places that `taken` will be asked for (within a transaction)."""
        keys = list({outcome.node.key for outcome in outcomes})
        self._places |= dict.fromkeys(keys, False)
        for at in range(0, len(keys), _LOOKED_UP):
            part = keys[at : at + _LOOKED_UP]
            part += [part[-1]] * (_LOOKED_UP - len(part))  # one statement, that SQLite reads once, for any number
            for row in self._rows(_PLACES, *chain.from_iterable(part)):
                self._places[row] = True

    def released_before(self, outcomes: Iterable[Outcome], gateway: str) -> bool:
        """Returns whether a node of these has its place already by a message of the same gateway."""
        return any(
            self._row(
                "SELECT 1 FROM nodes n JOIN messages m ON m.id = n.message "
                "WHERE n.stream = ? AND n.level = ? AND n.start_s = ? AND m.gateway = ?",
                *(*outcome.node.key, gateway),
            )
            for outcome in outcomes
        )

    def boot_beside(self, gateway: str, seq: int, side: Literal["before", "after"]) -> int | None:
        """Returns the boot count in the nearest message before or after a number, holes left out, that is kept whole;
        None if there is none. A gateway's boots count on when its key changes."""
        if side == "after" and self._writing:
            last = self._standing(gateway).last
            if last is None or seq >= last.seq:
                return None
        nearest = "m.seq < ? ORDER BY m.seq DESC" if side == "before" else "m.seq > ? ORDER BY m.seq"
        row = self._row(
            "SELECT m.sealed, e.record_key FROM messages m JOIN enrolments e ON e.id = m.enrolment "
            f"WHERE m.gateway = ? AND m.sealed <> x'' AND {nearest} LIMIT 1",
            *(gateway, seq),
        )
        return wire.open_message(*row).boot if row else None

    def put(
        self, message: Message, sealed: bytes, enrolment: Enrolment, disposition: Disposition, reason: str = ""
    ) -> None:
        """Settles a message (within a transaction): its row, its nodes if it is filed, and what follows from them."""
        gateway, seq, message_hash = message.gateway, message.seq, wire.digest(sealed)
        standing = self._standing(gateway)
        before, head = self._remembered.newest or self._newest()
        stored = StoredMessage(
            before + 1,
            *(gateway, seq, message_hash, message.previous, disposition, reason, len(message.outcomes), enrolment.id),
            next_head(head, message_hash),
            None if disposition == "refused" else sealed,
        )
        last_seq = standing.last.seq if standing.last else 0
        self._remembered.newest = stored.id, stored.head
        row = (
            *(stored.id, gateway, seq, message_hash, message.previous, enrolment.id, disposition, reason),
            *(stored.nodes, stored.head, stored.sealed),
        )
        self._later().messages.append(row)
        charged = self._put_nodes(stored.id, message) if disposition == "filed" else 0
        if disposition == "filed" and seq == standing.settled_seq + 1 == last_seq + 1:
            standing.settled_seq, standing.last = seq, stored
            self._later().totals.append((gateway, seq, charged))
        else:
            self._settle(gateway, charged)

    def _newest(self) -> tuple[int, bytes]:
        return self._row("SELECT id, head FROM messages ORDER BY id DESC LIMIT 1") or (0, FIRST_HEAD)

    def amend(self, stored: StoredMessage, message: Message, disposition: Disposition, reason: str = "") -> None:
        """Gives a quarantined message its last word (within a transaction)."""
        self._remembered.standings.pop(message.gateway, None)
        self._db.execute("INSERT INTO amendments VALUES (?, ?, ?)", (stored.id, disposition, reason))
        if disposition == "filed":
            self._settle(message.gateway, self._put_nodes(stored.id, message))

    def _put_nodes(self, row_id: int, message: Message) -> int:
        """Returns what the nodes cost together, in micro-rho."""
        rows = {outcome.node.key: index_row(outcome, row_id, place) for place, outcome in enumerate(message.outcomes)}
        self._later().nodes.update(rows)
        self._places |= dict.fromkeys(rows, True)
        speakers = self._remembered.speakers
        for outcome in message.outcomes:
            if (outcome.node.stream, message.gateway) in speakers:
                continue
            speakers.add((outcome.node.stream, message.gateway))
            self._connection.execute(
                "INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    outcome.node.stream,
                    message.gateway,
                    message.quartier,
                    message.site,
                    outcome.node.quantity,
                    row_id,
                ),
            )
        return sum(row[_RHO_PLACE] for row in rows.values())

    def _standing(self, gateway: str) -> _Standing:
        """Returns what the next message of a gateway is judged by (within a transaction)."""
        standings = self._remembered.standings
        if gateway not in standings:
            last = self._message("m.gateway = ? ORDER BY m.seq DESC LIMIT 1", gateway)
            settled = self._row("SELECT settled_seq FROM totals WHERE gateway = ?", gateway)
            uses = {use.key: use for use in self.uses(gateway)}
            standings[gateway] = _Standing(last, settled[0] if settled else 0, self.cloned(gateway), uses)
        return standings[gateway]

    def _settle(self, gateway: str, charged_rho_micro: int) -> None:
        self._remembered.standings.pop(gateway, None)
        self._db.execute("INSERT INTO totals VALUES (?, 0, 0) ON CONFLICT DO NOTHING", (gateway,))
        (settled,) = self._db.execute("SELECT settled_seq FROM totals WHERE gateway = ?", (gateway,)).fetchone()
        while self._row("SELECT 1 FROM messages WHERE gateway = ? AND seq = ?", gateway, settled + 1):
            settled += 1
        self._db.execute(
            "UPDATE totals SET settled_seq = ?, charged_rho_micro = charged_rho_micro + ? WHERE gateway = ?",
            (settled, charged_rho_micro, gateway),
        )

    def put_conflict(self, message: Message, sealed: bytes, reason: str) -> None:
        """Keeps a message that contradicts the archive as evidence, beside it (within a transaction)."""
        self._remembered.standings.pop(message.gateway, None)
        # Counted by reason: a hundred of one kind must not hide the first of another.
        query = "SELECT count(*) FROM conflicts WHERE gateway = ? AND reason = ?"
        (kept,) = self._rows(query, message.gateway, reason)[0]
        if kept < CONFLICTS_KEPT:
            self._db.execute(
                "INSERT INTO conflicts (gateway, seq, hash, reason, sealed) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (message.gateway, message.seq, wire.digest(sealed), reason, sealed),
            )

    def conflicts(self) -> list[tuple[str, int, bytes, str]]:
        """Returns what was kept as evidence: (gateway, seq, hash, reason)."""
        return [(g, s, h, r) for g, s, h, r in self._rows("SELECT gateway, seq, hash, reason FROM conflicts")]

    def uses(self, gateway: str) -> list[Use]:
        """Returns how a gateway has used the policies of its site, by its filed messages."""
        if self._writing and gateway in self._remembered.standings:
            return list(self._remembered.standings[gateway].uses.values())
        rows = self._rows(
            "SELECT stream, policy, since_s, first_seq, shown_s, until_s, last_seq FROM uses WHERE gateway = ?", gateway
        )
        return [Use(*row) for row in rows]

    def put_use(self, gateway: str, use: Use) -> None:
        """Keeps the use of a policy for a stream (within a transaction) in place of what was known of it."""
        self._standing(gateway).uses[use.key] = use
        self._later().uses[gateway, use.key] = (
            *(gateway, use.stream, use.policy, use.since_s),
            *(use.first_seq, use.shown_s, use.until_s, use.last_seq),
        )

    def head(self) -> bytes:
        """Returns the running SHA-256 over all messages in the order of filing; 32 zero bytes when empty."""
        return self._newest()[1]

    def totals(self, gateway: str) -> Totals:
        """Returns how far a gateway is settled, and what was charged by its filed nodes."""
        row = self._row("SELECT settled_seq, charged_rho_micro FROM totals WHERE gateway = ?", gateway)
        if row is None:
            return Totals(0, bytes(32), 0)
        settled = self.find(gateway, row[0])
        return Totals(row[0], settled.hash if settled else bytes(32), row[1])

    def missing(self, gateway: str) -> list[tuple[int, int]]:
        """Returns the (first, last) numbers that are not there although later ones are, as many ranges as a receipt
        carries, the oldest first."""
        settled = self.totals(gateway).settled_seq
        rows = self._rows(
            "SELECT before + 1, seq - 1 FROM (SELECT seq, lag(seq, 1, ?) OVER (ORDER BY seq) AS before FROM messages "
            "WHERE gateway = ? AND seq > ?) WHERE seq > before + 1 ORDER BY seq LIMIT ?",
            *(settled, gateway, settled, wire.AGAIN_LIMIT),
        )
        return [(first, last) for first, last in rows]

    def cloned(self, gateway: str) -> bool:
        """Returns whether two cards have spoken with the gateway's key: two messages with one number, two for one node,
        or one that does not follow from the others. The evidence stays, and so does the word."""
        if self._writing and gateway in self._remembered.standings:
            return self._remembered.standings[gateway].cloned
        return bool(
            self._rows(
                f"SELECT EXISTS (SELECT 1 FROM conflicts WHERE gateway = ? AND reason IN {_FORKS}) OR EXISTS "
                "(SELECT 1 FROM messages WHERE gateway = ? AND disposition <> 'filed' AND reason = 'chain_broken')",
                *(gateway, gateway),
            )[0][0]
        )

    def exceptions(self, gateway: str, up_to_seq: int) -> list[tuple[int, str]]:
        """Returns the newest settled numbers that are not simply filed, as many as a receipt carries, ascending.

        `forked` is one for which there were two messages, one that broke the chain or had a node again that the same
        key had released, and each that came after that: it tells each of two cards, as nothing else of its own does,
        that there is another.
        """
        rows = self._rows(
            "SELECT seq, min(word) FROM ("  # 'forked' is the least of the words
            "SELECT m.seq, iif(m.reason IN ('chain_broken', 'cloned'), 'forked', coalesce(a.disposition, "
            "m.disposition)) AS word FROM messages m LEFT JOIN amendments a ON a.message = m.id "
            "WHERE m.gateway = ? AND m.disposition <> 'filed' AND word <> 'filed' "
            f"UNION SELECT seq, 'forked' FROM conflicts WHERE gateway = ? AND reason IN {_FORKS}"
            ") WHERE seq <= ? GROUP BY seq ORDER BY seq DESC LIMIT ?",
            *(gateway, gateway, up_to_seq, EXCEPTIONS_LISTED),
        )
        return [(seq, word) for seq, word in reversed(rows)]

    # --- health and counters -----------------------------------------------------------------------------------------

    def put_health(self, report: StoredHealth) -> bool:
        """Keeps the report if it is newer by boot and uptime (clocks may step) than the one kept; says if it did."""
        r = report
        cursor = self._db.execute(
            "INSERT INTO health VALUES (?, ?, ?, ?, ?) ON CONFLICT (gateway) DO UPDATE SET boot = excluded.boot, "
            "uptime_s = excluded.uptime_s, at_s = excluded.at_s, sealed = excluded.sealed "
            "WHERE (excluded.boot, excluded.uptime_s) > (health.boot, health.uptime_s)",
            (r.gateway, r.boot, r.uptime_s, r.at_s, r.sealed),
        )
        return cursor.rowcount > 0

    def health(self) -> list[StoredHealth]:
        """Returns the last report of every gateway that sent one."""
        return [StoredHealth(*row) for row in self._rows("SELECT * FROM health ORDER BY gateway")]

    def count(self, name: str, by: int = 1) -> None:
        """Adds to a counter (within a transaction)."""
        self._db.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, by),
        )

    # --- reading -----------------------------------------------------------------------------------------------------

    def streams(self) -> list[StreamInfo]:
        """Returns every stream that has a node, with the gateway that began to speak of it last."""
        rows = self._rows("SELECT gateway, quartier, site, stream, quantity, max(since) FROM streams GROUP BY stream")
        return [StreamInfo(*row[:5]) for row in rows]

    def charges(self, site: str, from_s: int) -> list[tuple[str, int, int, int]]:
        """Returns stream, begin, end and micro-rho of every charged node of a site that ends after an instant, by
        stream, whichever gateway released it.

        What was put aside (quarantined, or kept as evidence) was charged and sent as well, and counts, whatever the
        word on it became. Whoever stole a key can make this more, never less. Messages that were refused are not kept,
        and do not count.
        """
        rows = self._rows(
            "SELECT stream, covered_from_s, end_s, rho_micro FROM nodes WHERE rho_micro > 0 AND end_s > ? "
            "AND stream IN (SELECT stream FROM streams WHERE site = ?)",
            from_s,
            site,
        )
        streams = {stream for (stream,) in self._rows("SELECT stream FROM streams WHERE site = ?", site)}
        for outcome in self._put_aside(site):
            node = outcome.node
            # Nobody has judged these: a stream of another place would be carried to a gateway that has no such stream,
            # and streams, or nodes of years, without number to one that then believes nothing.
            if (
                charge_of(outcome)
                and node.end_s > from_s
                and node.end_s - node.start_s <= migrations.LONGEST_S
                and node.stream.partition("/")[0] == site
                and (node.stream in streams or len(streams) < _STREAMS_TOLD)
            ):
                streams.add(node.stream)
                rows.append((node.stream, node.covered_from_s, node.end_s, charge_of(outcome)))
        return [(str(stream), int(begin_s), int(end_s), int(rho)) for stream, begin_s, end_s, rho in sorted(rows)]

    def _put_aside(self, site: str) -> Iterator[Outcome]:
        """Yields, once each, what is kept and not filed of the messages for a site."""
        for (row_id,) in self._rows(
            "SELECT m.id FROM messages m JOIN enrolments e ON e.id = m.enrolment "
            "LEFT JOIN amendments a ON a.message = m.id "
            "WHERE e.site = ? AND m.disposition = 'quarantined' AND coalesce(a.disposition, '') <> 'filed' "
            "AND m.sealed <> x'' ORDER BY m.id",
            site,
        ):
            yield from self._outcomes_of(row_id)
        # Evidence names no line of the register: it is under the one whose key opens it.
        for sealed, record_key in self._rows(
            "SELECT DISTINCT c.sealed, e.record_key FROM conflicts c JOIN enrolments e ON e.gateway = c.gateway "
            "WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.gateway = c.gateway AND m.hash = c.hash "
            "AND m.sealed <> x'')"
        ):
            try:
                message = wire.open_message(sealed, record_key)
            except WireError:
                continue
            if message.site == site:
                yield from message.outcomes

    def outcomes(self, stream: str, from_s: int, to_s: int) -> list[Outcome]:
        """Returns the nodes of a stream that intersect [from_s, to_s) (seconds UTC), by end, then by level.

        Raises ArchiveDamaged if a stored message does not open any more.
        """
        if from_s >= to_s:
            return []
        rows = self._rows(
            "SELECT message, place FROM nodes WHERE stream = ? AND end_s > ? AND start_s < ?", stream, from_s, to_s
        )
        found = [self._outcomes_of(message)[place] for message, place in rows]
        return sorted(found, key=lambda o: (o.node.end_s, wire.LEVEL_CODES.index(o.node.level), o.node.start_s))

    def opened(self, stored: StoredMessage) -> Sequence[Outcome]:
        """Returns the nodes that a message has filed, if it is filed. Raises ArchiveDamaged as `outcomes` does."""
        return self._outcomes_of(stored.id) if stored.disposition == "filed" else ()

    def _open_outcomes(self, row_id: int) -> Sequence[Outcome]:
        row = self._row(
            "SELECT m.sealed, e.record_key FROM messages m JOIN enrolments e ON e.id = m.enrolment WHERE m.id = ?",
            row_id,
        )
        if row is None or row[0] is None:
            raise ArchiveDamaged(_damage_text(self.path, f"message {row_id} is missing"))
        try:
            return wire.open_message(row[0], row[1]).outcomes
        except WireError as error:
            raise ArchiveDamaged(_damage_text(self.path, f"message {row_id}: {error}")) from error

    def counts(self) -> dict[str, Any]:
        """Returns what came in.

        In nodes: `stored` (with values), `withheld`, `duplicates` (of messages that came again). In messages:
        `messages` (settled), `quarantined` (still waiting), `conflicts` (kept as evidence), and by reason `refused` and
        `conflicting` (all that ever were).
        """
        stored, withheld = self._rows("SELECT count(*) - count(reason), count(reason) FROM nodes")[0]
        counters = dict(self._rows("SELECT name, value FROM counters ORDER BY name"))
        return {
            "stored": stored,
            "withheld": withheld,
            "duplicates": counters.get("duplicates", 0),
            "messages": self._rows("SELECT count(*) FROM messages")[0][0],
            "quarantined": self._rows(
                "SELECT count(*) FROM messages m WHERE disposition = 'quarantined' "
                "AND NOT EXISTS (SELECT 1 FROM amendments WHERE message = m.id)"
            )[0][0],
            "conflicts": self._rows("SELECT count(*) FROM conflicts")[0][0],
            "refused": _by_reason(counters, "refused:"),
            "conflicting": _by_reason(counters, "conflict:"),
        }

    # --- for those who watch -----------------------------------------------------------------------------------------

    def progress(self) -> dict[str, tuple[int, int]]:
        """Returns by gateway up to which number all is settled, and how many messages are missing before the last."""
        rows = self._rows(
            "SELECT gateway, settled_seq, (SELECT max(seq) - t.settled_seq - count(*) FROM messages m "
            "WHERE m.gateway = t.gateway AND m.seq > t.settled_seq) FROM totals t"
        )
        return {gateway: (settled, missing or 0) for gateway, settled, missing in rows}

    def newest_ends(self, by_s: int) -> dict[str, int]:
        """Returns by stream the end of its newest node among those that ended by an instant."""
        rows = self._rows(
            "SELECT stream, (SELECT max(end_s) FROM nodes n WHERE n.stream = s.stream AND end_s <= ?) AS newest "
            "FROM (SELECT DISTINCT stream FROM streams) s WHERE newest IS NOT NULL",
            by_s,
        )
        return dict(rows)

    def all_cloned(self) -> set[str]:
        """Returns every gateway of which `cloned` is true."""
        rows = self._rows(
            f"SELECT gateway FROM conflicts WHERE reason IN {_FORKS} UNION "
            "SELECT gateway FROM messages WHERE disposition <> 'filed' AND reason = 'chain_broken'"
        )
        return {gateway for (gateway,) in rows}

    def waiting(self) -> dict[str, int]:
        """Returns by reason how many messages are quarantined."""
        return dict(
            self._rows(
                "SELECT reason, count(*) FROM messages m WHERE disposition = 'quarantined' "
                "AND NOT EXISTS (SELECT 1 FROM amendments WHERE message = m.id) GROUP BY reason ORDER BY reason"
            )
        )

    def tallies(self) -> tuple[int, int, dict[str, int]]:
        """Returns how many messages are settled, how many are kept as evidence, and every counter, without reading
        the tables."""
        (messages, conflicts) = self._rows(
            "SELECT (SELECT coalesce(max(id), 0) FROM messages), (SELECT count(*) FROM conflicts)"
        )[0]
        return messages, conflicts, dict(self._rows("SELECT name, value FROM counters ORDER BY name"))

    def policy_versions(self) -> dict[str, list[bytes]]:
        """Returns by site the hashes of its policies, the newest version first."""
        found: dict[str, list[bytes]] = {}
        for site, policy_hash in self._rows("SELECT site, hash FROM policies ORDER BY site, version DESC"):
            found.setdefault(site, []).append(policy_hash)
        return found

    def largest_spend(self, stream: str, from_s: int, until_s: int) -> int:
        """Returns the most micro-rho that filed nodes cost at any instant of `[from_s, until_s)`, as the gateway's
        ledger counts it: what ends goes before what begins at the same instant."""
        # Steps of an instant are added one by one, falls first: no sum on the way is above the one after the last.
        row = self._row(
            "SELECT max(spent) FROM (SELECT sum(step) OVER (ORDER BY at_s, step ROWS UNBOUNDED PRECEDING) AS spent "
            "FROM (SELECT max(covered_from_s, ?2) AS at_s, rho_micro AS step FROM nodes "
            "WHERE stream = ?1 AND end_s > ?2 AND covered_from_s < ?3 AND rho_micro > 0 UNION ALL "
            "SELECT end_s, -rho_micro FROM nodes "
            "WHERE stream = ?1 AND end_s > ?2 AND covered_from_s < ?3 AND end_s < ?3 AND rho_micro > 0))",
            *(stream, from_s, until_s),
        )
        return int(row[0]) if row and row[0] is not None else 0

    # --- for the full check ------------------------------------------------------------------------------------------

    def integrity(self) -> list[str]:
        """Returns what SQLite finds wrong with the file; empty when it is sound."""
        return [text for (text,) in self._rows("PRAGMA integrity_check(20)") if text != "ok"]

    def node_count(self) -> int:
        """Returns how many nodes have their place."""
        return int(self._rows("SELECT count(*) FROM nodes")[0][0])

    def message_count(self) -> int:
        """Returns how many messages are settled."""
        return int(self._rows("SELECT count(*) FROM messages")[0][0])

    def links(self, gateway: str) -> Iterator[tuple[int, bytes, bytes, bool]]:
        """Yields number, hash, hash of the one before, and whether it is filed, of a gateway's messages by number."""
        with _explained(self.path):
            yield from self._db.execute(
                "SELECT m.seq, m.hash, m.previous, coalesce(a.disposition, m.disposition) = 'filed' FROM messages m "
                "LEFT JOIN amendments a ON a.message = m.id WHERE m.gateway = ? ORDER BY m.seq",
                (gateway,),
            )

    def evidence(self) -> Iterator[tuple[str, int, bytes, bytes]]:
        """Yields gateway, number, hash and bytes of what is kept beside the messages."""
        with _explained(self.path):
            yield from self._db.execute("SELECT gateway, seq, hash, sealed FROM conflicts ORDER BY id")

    def charged(self, stream: str) -> Iterator[tuple[int, int, int]]:
        """Yields begin, end and micro-rho of every charged node that is filed of a stream, by begin."""
        with _explained(self.path):
            yield from self._db.execute(
                "SELECT covered_from_s, end_s, rho_micro FROM nodes WHERE stream = ? AND rho_micro > 0 "
                "ORDER BY covered_from_s",
                (stream,),
            )

    def node_row(self, key: tuple[str, str, int]) -> tuple[Any, ...] | None:
        """Returns the index row of a node, as `index_row` makes it from its outcome."""
        return self._row("SELECT * FROM nodes WHERE stream = ? AND level = ? AND start_s = ?", *key)

    # --- forgetting --------------------------------------------------------------------------------------------------

    def aside(self) -> list[tuple[str, int, str, bytes, str, bytes]]:
        """Returns what is kept and not filed: table, row, gateway, hash, reason and bytes."""
        return [
            (str(row[0]), int(row[1]), str(row[2]), bytes(row[3]), str(row[4]), bytes(row[5]))
            for row in self._rows(
                "SELECT 'messages', m.id, m.gateway, m.hash, coalesce(a.reason, m.reason), m.sealed FROM messages m "
                "LEFT JOIN amendments a ON a.message = m.id WHERE m.disposition = 'quarantined' "
                "AND coalesce(a.disposition, '') <> 'filed' AND m.sealed <> x'' "
                "UNION ALL SELECT 'conflicts', id, gateway, hash, reason, sealed FROM conflicts WHERE sealed <> x''"
            )
        ]

    def forget(self, table: str, row: int, message_hash: bytes, reason: str, now_s: int) -> None:
        """Drops the bytes of one of `aside` (within a transaction); its row stays, and so does its hash."""
        self._db.execute("INSERT OR IGNORE INTO forgotten VALUES (?, ?, ?)", (message_hash, reason, now_s))
        self._db.execute(f"UPDATE {table} SET sealed = x'' WHERE id = ?", (row,))

    def forgotten(self) -> set[bytes]:
        """Returns the hashes of what was forgotten."""
        return {message_hash for (message_hash,) in self._rows("SELECT hash FROM forgotten")}

    def forget_health_before(self, at_s: int) -> int:
        """Drops the reports from before an instant (within a transaction). Returns how many."""
        return self._db.execute("DELETE FROM health WHERE at_s < ?", (at_s,)).rowcount

    @contextmanager
    def wiping(self) -> Iterator[None]:
        """What is deleted inside is overwritten in the file, and gone from the log beside it if nobody reads there."""
        with _explained(self.path):
            self._db.execute("PRAGMA secure_delete = ON")
            yield
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # --- every row, for copies as files -------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside is of one instant."""
        with _explained(self.path):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def tables(self) -> list[str]:
        """Returns the names of all tables."""
        rows = self._rows(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
        )
        return [name for (name,) in rows]

    def row_count(self, table: str) -> int:
        """Returns how many rows one of `tables` has."""
        return int(self._rows(f"SELECT count(*) FROM {table}")[0][0])

    def rows_of(self, table: str, span: tuple[int, int] | None = None) -> Iterator[dict[str, Any]]:
        """Yields the rows of one of `tables` by its key; of messages, and what hangs on them, only those filed with a
        node that ends in the span (from, to], if there is one."""
        columns = self._columns(table)
        on = {"messages": "id", "amendments": "message", "nodes": "message"}.get(table) if span else None
        where = f"WHERE {on} IN (SELECT message FROM nodes WHERE end_s > ? AND end_s <= ?)" if on else ""
        keys = ", ".join(name for name, _, place in sorted(columns, key=lambda column: column[2]) if place)
        names = [name for name, _, _ in columns]
        with _explained(self.path):
            found = self._db.execute(
                f"SELECT {', '.join(names)} FROM {table} {where} ORDER BY {keys}", span if on and span else ()
            )
            for row in found:
                yield dict(zip(names, row, strict=True))

    def refill(self, table: str, rows: Iterable[dict[str, Any]]) -> int:
        """Puts back rows of one of `tables`, blobs in base64 (within a transaction). Returns how many.

        Raises ValueError for a row that the table does not take.
        """
        self._db.execute("PRAGMA defer_foreign_keys = ON")
        self._remembered = _Remembered()
        columns = self._columns(table)
        blobs = {name for name, kind, _ in columns if kind == "BLOB"}
        statement = f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})"
        count = 0
        for row in rows:
            if row.keys() != {name for name, _, _ in columns}:
                raise ValueError(f"{table}: other columns")
            try:
                values = [
                    base64.b64decode(row[name], validate=True) if name in blobs and row[name] is not None else row[name]
                    for name, _, _ in columns
                ]
                self._db.execute(statement, values)
            except (sqlite3.IntegrityError, sqlite3.ProgrammingError, OverflowError, TypeError) as error:
                raise ValueError(f"{table}: {error}") from error
            count += 1
        return count

    def _columns(self, table: str) -> list[tuple[str, str, int]]:
        """Returns name, type and place in the key (from 1; 0: none) of each column of one of `tables`."""
        return [(row[1], row[2], row[5]) for row in self._rows(f"PRAGMA table_info({table})")]


def _by_reason(counters: dict[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): value for name, value in counters.items() if name.startswith(prefix)}


def index_row(outcome: Outcome, message: int, place: int) -> tuple[Any, ...]:
    """Returns how an outcome stands in the index of nodes: row `message`, `place` within it."""
    node = outcome.node
    return (
        *node.key,
        node.end_s,
        node.covered_from_s,
        node.quantity,
        node.present,
        outcome.reason if isinstance(outcome, Withheld) else None,
        charge_of(outcome),
        message,
        place,
    )


def charge_of(outcome: Outcome) -> int:
    """Returns what a node cost, in micro-rho."""
    return sum(n.rho_micro for n in outcome.noised) if isinstance(outcome, Release) else 0


def next_head(head: bytes, message_hash: bytes) -> bytes:
    """Returns the running hash after one more message."""
    return hashlib.sha256(head + message_hash).digest()


def _enrolment(row: tuple[Any, ...]) -> Enrolment:
    line, gateway, quartier, site, record_key, stewards, required, status = row
    keys = tuple(stewards[at : at + 32] for at in range(0, len(stewards), 32))
    return Enrolment(gateway, quartier, site, record_key, keys, required, status, line)


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)


def _connect_reader(path: Path) -> sqlite3.Connection:
    db = _connect(f"file:{quote(str(path))}?mode=ro")
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # Without a writer, in a folder that this user may not write, SQLite cannot make its shared index: the file
        # is then at rest and can be read as it lies.
        db.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        db = _connect(f"file:{quote(str(path))}?mode=ro&immutable=1")
    return db


def _damage_text(path: Path, detail: str) -> str:
    return f"{path}: archive: the file is damaged ({detail}); restore it from a backup, gateways send the rest again"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _explanation(path, error) from error


def _explanation(path: Path, error: sqlite3.Error) -> ArchiveError:
    """Returns what SQLite says as one line that an operator can act on."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return ArchiveFull(f"{path}: archive: the disk is full; make room, nothing was lost")
    if code == sqlite3.SQLITE_IOERR:
        # Not waited for: what was written may be forgotten after a failed sync, and a file system that turned read-only
        # is mended only once nobody holds its files. Whoever starts the process again reads from the disk.
        return ArchiveError(
            f"{path}: archive: the disk refused ({error}): full, read-only or failing; nothing was lost"
        )
    if code == sqlite3.SQLITE_BUSY:
        return ArchiveBusy(f"{path}: archive: another process has been writing to it for long; trying again")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return ArchiveDamaged(_damage_text(path, str(error)))
    return ArchiveError(f"{path}: archive: {error}; check who may read and write this file and its folder")
