"""What may be deleted one day: bytes of what was put aside, and reports of health. Hashes and reasons stay.

Beside those hashes stands on which days something that a gateway had signed was never kept: a line for each gateway and
day, under a hash of both, so that whatever floods the archive adds no more than that.
"""

from __future__ import annotations

from murmure_privacy import wire

from murmure_ingest.archive.database import Database

_DAY_S = 86_400
_NOT_KEPT = "not_kept"


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

    def note_unkept(self, gateway: str, now_s: int) -> None:
        """Writes down that something that a gateway has signed is not kept today (within a transaction)."""
        self._db.execute(
            "INSERT OR IGNORE INTO forgotten VALUES (?, ?, ?)", (_day_mark(gateway, now_s), _NOT_KEPT, now_s)
        )

    def unkept_until(self, site: str) -> int | None:
        """Returns the end of the last day (UTC) on which something was not kept that a gateway of a site had signed,
        None if everything was. What it has spent can be anything until then."""
        gateways = [gateway for (gateway,) in self._rows("SELECT gateway FROM enrolments WHERE site = ?", site)]
        ends = [
            (at_s // _DAY_S + 1) * _DAY_S
            for mark, at_s in self._rows("SELECT hash, at_s FROM forgotten WHERE reason = ?", _NOT_KEPT)
            if any(mark == _day_mark(gateway, at_s) for gateway in gateways)
        ]
        return max(ends, default=None)

    def forgotten(self) -> set[bytes]:
        """Returns the hashes of what was forgotten."""
        return {message_hash for (message_hash,) in self._rows("SELECT hash FROM forgotten")}

    def forget_health_before(self, at_s: int) -> int:
        """Drops the reports from before an instant (within a transaction). Returns how many."""
        return self._db.execute("DELETE FROM health WHERE at_s < ?", (at_s,)).rowcount


def _day_mark(gateway: str, at_s: int) -> bytes:
    return wire.digest(f"{_NOT_KEPT} {gateway} {at_s // _DAY_S}".encode())
