"""What may be deleted one day: bytes of what was put aside, and reports of health. Hashes and reasons stay."""

from __future__ import annotations

from murmure_ingest.archive.database import Database


class Forgetting(Database):
    """What `murmure_ingest.retention` does, row by row."""

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
        self._remembered.unfiled.clear()
        self._db.execute(f"UPDATE {table} SET sealed = x'' WHERE id = ?", (row,))

    def forgotten(self) -> set[bytes]:
        """Returns the hashes of what was forgotten."""
        return {message_hash for (message_hash,) in self._rows("SELECT hash FROM forgotten")}

    def forget_health_before(self, at_s: int) -> int:
        """Drops the reports from before an instant (within a transaction). Returns how many."""
        return self._db.execute("DELETE FROM health WHERE at_s < ?", (at_s,)).rowcount
