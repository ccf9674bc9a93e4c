"""The transparency log as the archive keeps it: entries in order, and the checkpoints that the centre has signed."""

from __future__ import annotations

from collections.abc import Iterator

from murmure_privacy import log
from murmure_privacy.log import Checkpoint

from murmure_ingest import logbook
from murmure_ingest.archive.database import Database
from murmure_ingest.archive.errors import explained


class Journal(Database):
    """Entries are written by what they are about (`murmure_ingest.logbook`)."""

    _here = Checkpoint(0, log.EMPTY_ROOT)

    def log_checkpoint(self) -> Checkpoint:
        """Returns how far the log has come."""
        if logbook.size(self._db) != self._here.size:  # it only grows: what was asked for once stays true
            self._here = logbook.checkpoint(self._db)
        return self._here

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

    def signed_checkpoint(self) -> tuple[int, bytes] | None:
        """Returns size and note of the newest checkpoint that the centre has signed, None before the first."""
        row = self._row("SELECT size, signed FROM checkpoints ORDER BY size DESC LIMIT 1")
        return (int(row[0]), bytes(row[1])) if row else None

    def sign_log(self, secret: bytes) -> Checkpoint:
        """Signs how far the log has come, unless that was done, durably. Returns it. Raises ArchiveWaits."""
        here = self.log_checkpoint()
        newest = self.signed_checkpoint()
        if newest is None or newest[0] < here.size:
            with self.transaction():
                here, newest = self.log_checkpoint(), self.signed_checkpoint()
                if newest is None or newest[0] < here.size:
                    self._db.execute(
                        "INSERT INTO checkpoints VALUES (?, ?)", (here.size, log.seal_checkpoint(here, secret))
                    )
        return here
