"""The entries of the transparency log: what is written into the archive's log, and when. docs/log.md lists the fields.

Whoever enrols, revokes, publishes or annotates writes the entry in the same transaction. What gateways spend is written
day by day (UTC): the account of a day is closed once all their messages up to one that closes on a later day are
settled. Nothing in an entry depends on a measured value. The functions take a connection, since an upgrade, too, writes
entries for what an archive already holds.

Entries that the centre had published and an older backup lacks can be taken over (`adopt`), with the lines of the
register that they are about. Policies and annotations come back after them, and are not written twice then.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from murmure_privacy import log, wire
from murmure_privacy.log import Checkpoint
from murmure_privacy.publication import day_of as day_number
from murmure_privacy.release import Message
from murmure_privacy.window import utc

DAY_S = 86_400
_RANGES = 64
_SEQ, _TIMELY = 7, 8  # in a row of `_spent`
ADOPTED = 1 << 40
"""Added to the number of a line of the register under which an entry stands that was taken over with its line."""
KINDS = ("enrolment", "revocation", "policy", "annotation", "spend")


def day_of(message: Message) -> int:
    """Returns the day (since 1970, UTC) on whose account a message is."""
    return (message.closing_s - 1) // DAY_S


def size(db: sqlite3.Connection) -> int:
    """Returns how many entries the log has."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM log").fetchone()[0])


def checkpoint(db: sqlite3.Connection) -> Checkpoint:
    """Returns how far the log has come."""
    entries = size(db)
    return Checkpoint(entries, log.root_by_peaks(entries, lambda place: _peak(db, place)))


def proof(db: sqlite3.Connection, since: int, entries: int) -> list[bytes]:
    """Returns what proves that the log of `since` entries is the beginning of that of `entries`. Raises IndexError."""

    def entry_at(place: int) -> bytes:
        return bytes(db.execute("SELECT entry FROM log WHERE id = ?", (place,)).fetchone()[0])

    return log.consistency_by_peaks(since, entries, lambda place: _peak(db, place), entry_at)


def enrolled(db: sqlite3.Connection, line: int, pinned: Mapping[str, object] | None = None) -> None:
    """Writes that a line of the register was added: who may speak from now on, with which key, or who may no more.
    `pinned`: by what a new gateway judges policies, which is in the log alone, for anybody to judge by afterwards."""
    gateway, quartier, site, key, stewards, required, status = db.execute(
        "SELECT gateway, quartier, site, record_key, stewards, signatures_required, status FROM enrolments "
        "WHERE id = ?",
        (line,),
    ).fetchone()
    if status == "revoked":
        close_days(db, gateway, whole=True)
        (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM messages WHERE gateway = ?", (gateway,)).fetchone()
        _append(db, "revocation", gateway, line, {"gateway": gateway, "last": last})
        return
    fields = {
        "gateway": gateway,
        "quartier": quartier,
        "site": site,
        "record_key": key.hex(),
        "stewards": [stewards[at : at + 32].hex() for at in range(0, len(stewards), 32)],
        "signatures_required": required,
        **(pinned or {}),
    }
    _append(db, "enrolment", gateway, line, fields)


def published(
    db: sqlite3.Connection, site: str, version: int, policy_hash: bytes, sealed: bytes, at_s: int | None
) -> None:
    """Writes that a policy was published, at an instant by the centre's clock if that is known."""
    told = {"hash": policy_hash.hex(), "sealed": wire.digest(sealed).hex()}
    if any(told.items() <= json.loads(one).items() for one in _entries(db, "policy", site, version)):
        return
    when = {"published": None if at_s is None else utc(at_s)}
    _append(db, "policy", site, version, {"site": site, "version": version, **told, **when})


def annotated(db: sqlite3.Connection, site: str, number: int, sealed: bytes) -> None:
    """Writes that stewards said something of a period."""
    told = {"site": site, "number": number, "sealed": wire.digest(sealed).hex()}
    if any(told.items() <= json.loads(one).items() for one in _entries(db, "annotation", site, number)):
        return
    _append(db, "annotation", site, number, told)


def close_days(db: sqlite3.Connection, gateway: str, *, whole: bool = False) -> None:
    """Writes the accounts of a gateway's days that are over: those before the day of its newest settled message; with
    `whole` also that one, since it will not speak again."""
    rows = _spent(db, gateway, _logged(db, gateway), None)
    # What was withheld when the clock was put forward may end later than anything that was said yet.
    newest = max((row[0] for row in rows if row[_TIMELY]), default=0)
    for day, fields in _accounts(db, gateway, [row for row in rows if whole or row[0] < newest]):
        _append(db, "spend", gateway, day, fields)


def correct_days(db: sqlite3.Connection, gateway: str, days: Iterable[int]) -> None:
    """Writes accounts anew to which a message was added that had waited: the newest account of a day holds.

    None is written of fewer messages than the newest one is of: after a restore the archive may not have them back."""
    logged = _logged(db, gateway)
    for day in sorted(days):
        if day <= logged:
            for _, fields in _accounts(db, gateway, _spent(db, gateway, day - 1, day)):
                newest = [log.read_entry(entry) for entry in _entries(db, "spend", gateway, day)[-1:]]
                account = {"kind": "spend", **fields}
                if all(one != account and one["last"] <= fields["last"] for one in newest):
                    _append(db, "spend", gateway, day, fields)


def due(db: sqlite3.Connection, gateway: str) -> dict[int, bytes]:
    """Returns, by day, the accounts that the log should hold of a gateway, as they follow from its nodes."""
    rows = _spent(db, gateway, -1, _logged(db, gateway))
    return {day: log.entry({"kind": "spend", **fields}) for day, fields in _accounts(db, gateway, rows)}


def _logged(db: sqlite3.Connection, gateway: str) -> int:
    """Returns the last day of a gateway that has an account, -1 before the first."""
    query = "SELECT coalesce(max(number), -1) FROM log WHERE kind = 'spend' AND subject = ?"
    return int(db.execute(query, (gateway,)).fetchone()[0])


def _spent(db: sqlite3.Connection, gateway: str, after: int, until: int | None) -> list[tuple[Any, ...]]:
    """Returns, for the days after one, up to another, by day, stream, policy version and level: how many nodes were
    released and withheld, what they cost, the highest number of their messages, and whether the clock was right."""
    settled = db.execute("SELECT settled_seq FROM totals WHERE gateway = ?", (gateway,)).fetchone()
    found = []
    for (stream,) in db.execute("SELECT stream FROM streams WHERE gateway = ? ORDER BY stream", (gateway,)).fetchall():
        found += db.execute(
            "SELECT (n.end_s - 1) / 86400 AS day, n.stream, coalesce(p.version, 0) AS version, n.level, "
            "sum(n.reason IS NULL), sum(n.reason IS NOT NULL), sum(n.rho_micro), max(m.seq), "
            "max(n.reason IS NOT 'clock') "
            "FROM nodes n JOIN messages m ON m.id = n.message JOIN scales s ON s.id = n.scale "
            "LEFT JOIN policies p ON p.hash = s.policy "
            "WHERE n.stream = ? AND n.end_s > ? AND n.end_s <= ? AND m.gateway = ? AND m.seq <= ? "
            "GROUP BY day, version, n.level ORDER BY day, version, min(n.end_s - n.start_s), n.level",
            (stream, (after + 1) * DAY_S, (1 << 40 if until is None else (until + 1) * DAY_S), gateway, settled[0]),
        ).fetchall()
    return found


def _accounts(
    db: sqlite3.Connection, gateway: str, rows: list[tuple[Any, ...]]
) -> Iterator[tuple[int, dict[str, object]]]:
    """Yields each day in these rows with the fields of its account."""
    for day in sorted({row[0] for row in rows}):
        streams: dict[tuple[str, int], dict[str, list[int]]] = {}
        for _, stream, version, level, released, withheld, rho_micro, *_ in (row for row in rows if row[0] == day):
            streams.setdefault((stream, version), {})[level] = [released, withheld, rho_micro]
        last = max(row[_SEQ] for row in rows if row[0] == day)
        query = "SELECT hash FROM messages WHERE gateway = ? AND seq = ?"
        (message_hash,) = db.execute(query, (gateway, last)).fetchone()
        fields: dict[str, object] = {
            "gateway": gateway,
            "day": utc(day * DAY_S)[:10],
            "last": last,
            "hash": message_hash.hex(),
            "streams": [
                {"stream": stream, "policy": version, "nodes": nodes} for (stream, version), nodes in streams.items()
            ],
        }
        without = _without(db, gateway, last)
        yield day, {**fields, "without": without} if without else fields


def _without(db: sqlite3.Connection, gateway: str, last: int) -> list[list[int]]:
    """Returns the (first, last) numbers up to one that were settled and not filed, the newest that fit an entry."""
    rows = db.execute(
        "SELECT m.seq FROM messages m LEFT JOIN amendments a ON a.message = m.id WHERE m.gateway = ? AND m.seq <= ? "
        "AND m.disposition <> 'filed' AND coalesce(a.disposition, '') <> 'filed' ORDER BY m.seq",
        (gateway, last),
    )
    found: list[list[int]] = []
    for (seq,) in rows:
        if found and found[-1][1] == seq - 1:
            found[-1][1] = seq
        else:
            found.append([seq, seq])
    return found[-_RANGES:]


def adopt(db: sqlite3.Connection, entry: bytes, line: int = 0) -> None:
    """Adds an entry as it was published. `line`: that of the register which it is about and which was added from it,
    0 for the other kinds: `ADOPTED` tells such a line apart, since no word of a change of key came with it. Raises
    ValueError for what is no entry of ours."""
    fields = log.read_entry(entry)
    try:
        kind, number = fields["kind"], ADOPTED + line
        subject = fields["site" if kind in ("policy", "annotation") else "gateway"]
        if kind in ("policy", "annotation"):
            number = fields["version" if kind == "policy" else "number"]
        elif kind == "spend":
            number = day_number(fields["day"])
        _insert(db, str(kind), str(subject), int(number), entry)
    except (LookupError, TypeError) as error:
        raise ValueError("no entry of ours") from error


def _entries(db: sqlite3.Connection, kind: str, subject: str, number: int) -> list[bytes]:
    query = "SELECT entry FROM log WHERE kind = ? AND subject = ? AND number = ? ORDER BY id"
    return [bytes(entry) for (entry,) in db.execute(query, (kind, subject, number))]


def _append(db: sqlite3.Connection, kind: str, subject: str, number: int, fields: dict[str, object]) -> None:
    _insert(db, kind, subject, number, log.entry({"kind": kind, **fields}))


def _insert(db: sqlite3.Connection, kind: str, subject: str, number: int, entry: bytes) -> None:
    place = size(db) + 1
    peak = log.peak(entry, place, lambda before: _peak(db, before))
    db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", (place, kind, subject, number, entry, peak))


def _peak(db: sqlite3.Connection, place: int) -> bytes:
    return bytes(db.execute("SELECT peak FROM log WHERE id = ?", (place,)).fetchone()[0])


def fill(db: sqlite3.Connection) -> None:
    """Writes the entries of an archive that had no log: its register, policies and annotations, and then the days of
    every gateway. When each was published nobody has written down."""
    gateways: dict[str, None] = {}
    revoked = []
    for line, gateway, status in db.execute("SELECT id, gateway, status FROM enrolments ORDER BY id").fetchall():
        gateways[gateway] = None
        if status == "revoked":
            revoked.append(line)
        else:
            enrolled(db, line)
    for site, version, policy_hash, sealed in db.execute(
        "SELECT site, version, hash, sealed FROM policies ORDER BY site, version"
    ).fetchall():
        published(db, site, version, policy_hash, sealed, None)
    for site, number, sealed in db.execute(
        "SELECT site, number, sealed FROM annotations ORDER BY site, number"
    ).fetchall():
        annotated(db, site, number, sealed)
    for gateway in gateways:
        close_days(db, gateway)
    for line in revoked:
        enrolled(db, line)
