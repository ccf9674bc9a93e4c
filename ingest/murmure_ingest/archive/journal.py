"""The transparency log as the archive keeps it: entries in order, and the checkpoints that the centre has signed."""

from __future__ import annotations

from collections.abc import Iterator

from murmure_privacy import log, wire
from murmure_privacy.log import Checkpoint

from murmure_ingest import logbook
from murmure_ingest.archive.database import Database
from murmure_ingest.archive.errors import explained

_PROOFS_KEPT = 256  # some 700 bytes each


class Journal(Database):
    """Entries are written by what they are about (`murmure_ingest.logbook`)."""

    _here = Checkpoint(0, log.EMPTY_ROOT)
    _proofs: tuple[int, dict[int, list[bytes]]] = 0, {}  # to one size, by where they start

    def log_checkpoint(self) -> Checkpoint:
        """Returns how far the log has come."""
        if logbook.size(self._db) != self._here.size:  # it only grows: what was asked for once stays true
            self._here = logbook.checkpoint(self._db)
        return self._here

    def log_root(self, size: int) -> bytes:
        """Returns the root of the first `size` entries, which are there."""
        query = "SELECT peak FROM log WHERE id = ?"
        return log.root_by_peaks(size, lambda place: bytes(self._rows(query, place)[0][0]))

    def _rolled_back(self) -> None:
        super()._rolled_back()
        self._here, self._proofs = Checkpoint(0, log.EMPTY_ROOT), (0, {})  # another entry may take the place of one

    def log_proof(self, since: int, size: int) -> list[bytes]:
        """Returns what proves that the first `since` entries are the beginning of the first `size`, both of which are
        there. Worked out once for all that ask from the same place. Raises IndexError."""
        if self._proofs[0] != size or len(self._proofs[1]) >= _PROOFS_KEPT:
            self._proofs = size, {}
        known = self._proofs[1]
        if since not in known:
            known[since] = logbook.proof(self._db, since, size)
        return known[since]

    def log_entries(self, up_to: int | None = None) -> Iterator[bytes]:
        """Yields the entries in order, the first `up_to` of them."""
        with explained(self.path):
            for (entry,) in self._db.execute(
                "SELECT entry FROM log WHERE id <= ? ORDER BY id", (1 << 62 if up_to is None else up_to,)
            ):
                yield bytes(entry)

    def log_rows(self) -> Iterator[tuple[int, str, str, int, bytes, bytes]]:
        """Yields place (from 1), kind, subject, number, entry and peak of every entry, in order."""
        with explained(self.path):
            yield from self._db.execute("SELECT id, kind, subject, number, entry, peak FROM log ORDER BY id")

    def accounts_due(self, gateway: str) -> dict[int, bytes]:
        """Returns, by day, the accounts that the log should hold of a gateway, as they follow from its nodes."""
        return logbook.due(self._db, gateway)

    def signed_checkpoint(self) -> tuple[int, bytes, bytes] | None:
        """Returns size, the centre's public key and the note of the newest checkpoint that it has signed, None before
        the first."""
        row = self._row("SELECT size, centre, signed FROM checkpoints ORDER BY size DESC LIMIT 1")
        return (int(row[0]), bytes(row[1]), bytes(row[2])) if row else None

    def sign_log(self, secret: bytes) -> Checkpoint:
        """Signs how far the log has come, unless that was done, durably. Returns it. Raises ArchiveWaits."""
        here = self.log_checkpoint()
        newest = self.signed_checkpoint()
        if newest is None or newest[0] < here.size:
            with self.transaction():
                here, newest = self.log_checkpoint(), self.signed_checkpoint()
                if newest is None or newest[0] < here.size:
                    self._db.execute(
                        "INSERT INTO checkpoints VALUES (?, ?, ?)",
                        (here.size, wire.public_key(secret), log.seal_checkpoint(here, secret)),
                    )
        return here

    def sealed_at(self, gateway: str, seq: int) -> bytes | None:
        """Returns a filed message as it was sealed, None where there is none with this number."""
        row = self._row(
            "SELECT m.sealed FROM messages m LEFT JOIN amendments a ON a.message = m.id WHERE m.gateway = ? "
            "AND m.seq = ? AND coalesce(a.disposition, m.disposition) = 'filed'",
            *(gateway, seq),
        )
        return bytes(row[0]) if row else None

    def days_with_nodes(self, row: int) -> list[int]:
        """Returns the days (since 1970, UTC) on which a node of the messages up to a row ends."""
        return [
            int(day)
            for (day,) in self._rows(
                "SELECT DISTINCT (end_s - 1) / 86400 FROM nodes WHERE message <= ? ORDER BY 1", row
            )
        ]

    def sealed_on(self, day: int, row: int) -> list[bytes]:
        """Returns the messages up to a row with a node that ends on a day (since 1970, UTC), as they were sealed, by
        gateway and number."""
        found: set[int] = set()
        for (stream,) in self._rows("SELECT DISTINCT stream FROM streams"):
            query = "SELECT DISTINCT message FROM nodes WHERE stream = ? AND end_s > ? AND end_s <= ? AND message <= ?"
            span = day * logbook.DAY_S, (day + 1) * logbook.DAY_S
            found.update(message for (message,) in self._rows(query, stream, *span, row))
        rows = [self._row("SELECT gateway, seq, sealed FROM messages WHERE id = ?", message) for message in found]
        return [bytes(one[2]) for one in sorted(one for one in rows if one)]
