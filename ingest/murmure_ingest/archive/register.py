"""Who may speak, with which keys: the register of gateways and their changes of key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from murmure_privacy import log
from murmure_privacy.log import Checkpoint

from murmure_ingest import logbook
from murmure_ingest.archive.database import Database
from murmure_ingest.archive.rows import Enrolment


class Register(Database):
    """Lines are added and never changed; the newest of a gateway holds."""

    def enrol(self, enrolment: Enrolment, pinned: Mapping[str, object] | None = None) -> Enrolment:
        """Adds a line to the register (within a transaction) and returns it with its id. `pinned`: what the log says
        besides of a new gateway."""
        line = self._add_line(enrolment)
        logbook.enrolled(self._db, line, pinned)
        return replace(enrolment, id=line)

    def adopt_log(self, entries: Iterable[bytes], here: Checkpoint, centre: bytes, note: bytes) -> None:
        """Adds the entries of a published log that follow on those that are there, each with its line of the register,
        and its signed checkpoint (within a transaction). Raises ValueError for what is no entry."""
        for entry in entries:
            enrolment = self._told(log.read_entry(entry))
            logbook.adopt(self._db, entry, self._add_line(enrolment) if enrolment else 0)
        self._db.execute("INSERT INTO checkpoints VALUES (?, ?, ?)", (here.size, centre, note))

    def _told(self, fields: Mapping[str, Any]) -> Enrolment | None:
        """Returns the line of the register that an entry of the log is about, None if it is about something else."""
        try:
            if fields["kind"] == "enrolment":
                stewards = tuple(map(bytes.fromhex, fields["stewards"]))
                who = fields["gateway"], fields["quartier"], fields["site"], bytes.fromhex(fields["record_key"])
                return Enrolment(*who, stewards, fields["signatures_required"])
            if fields["kind"] == "revocation":
                line = self._newest_line(fields["gateway"])
                if line is None:
                    raise ValueError("it revokes a gateway that it does not enrol")
                return replace(line, status="revoked")
        except (LookupError, TypeError) as error:
            raise ValueError("no entry of ours") from error
        return None

    def adopted_lines(self) -> set[int]:
        """Returns the lines of the register that were added from a published log."""
        query = "SELECT number - ?1 FROM log WHERE kind = 'enrolment' AND number > ?1"
        return {int(line) for (line,) in self._rows(query, logbook.ADOPTED)}

    def _add_line(self, enrolment: Enrolment) -> int:
        e = enrolment
        cursor = self._db.execute(
            "INSERT INTO enrolments (gateway, quartier, site, record_key, stewards, signatures_required, status) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (e.gateway, e.quartier, e.site, e.record_key, b"".join(e.stewards), e.signatures_required, e.status),
        )
        self._remembered.enrolments.pop(enrolment.gateway, None)
        self._remembered.sites = None
        return cursor.lastrowid or 0

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

    def newest_line(self) -> int:
        """Returns the id of the line that was added last; 0 if there is none."""
        return int(self._rows("SELECT coalesce(max(id), 0) FROM enrolments")[0][0])

    def enrolment_line(self, line: int) -> Enrolment | None:
        """Returns one line of the register, whether or not it still holds."""
        row = self._row("SELECT * FROM enrolments WHERE id = ?", line)
        return _enrolment(row) if row else None

    def lines_of(self, gateway: str) -> list[Enrolment]:
        """Returns every line of the register for a gateway, newest first."""
        rows = self._rows("SELECT * FROM enrolments WHERE gateway = ? ORDER BY id DESC", gateway)
        return [_enrolment(row) for row in rows]

    def gateways_of(self, site: str) -> Sequence[str]:
        """Returns every gateway that the register has or had for a site."""
        found = self._remembered.sites if self._writing else None
        if found is None:
            found = {}
            for place, gateway in self._rows("SELECT DISTINCT site, gateway FROM enrolments ORDER BY gateway"):
                found.setdefault(place, []).append(gateway)
            if self._writing:
                self._remembered.sites = found
        return found.get(site, [])

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


def _enrolment(row: tuple[Any, ...]) -> Enrolment:
    line, gateway, quartier, site, record_key, stewards, required, status = row
    keys = tuple(stewards[at : at + 32] for at in range(0, len(stewards), 32))
    return Enrolment(gateway, quartier, site, record_key, keys, required, status, line)
