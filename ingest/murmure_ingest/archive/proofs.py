"""For the full check: everything that can be compared with the signed messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from murmure_ingest.archive.database import Database
from murmure_ingest.archive.errors import explained
from murmure_ingest.integers import Scale, read_scale


class Proofs(Database):
    """What `murmure_ingest.inspection` reads."""

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
        with explained(self.path):
            yield from self._db.execute(
                "SELECT m.seq, m.hash, m.previous, coalesce(a.disposition, m.disposition) = 'filed' FROM messages m "
                "LEFT JOIN amendments a ON a.message = m.id WHERE m.gateway = ? ORDER BY m.seq",
                (gateway,),
            )

    def evidence(self) -> Iterator[tuple[str, int, bytes, bytes]]:
        """Yields gateway, number, hash and bytes of what is kept beside the messages."""
        with explained(self.path):
            yield from self._db.execute("SELECT gateway, seq, hash, sealed FROM conflicts ORDER BY id")

    def node_row(self, key: tuple[str, str, int]) -> tuple[tuple[Any, ...], Scale | None] | None:
        """Returns the index row of a node, as `index_row` makes it from its outcome, and its scale, None for one that
        cannot be read."""
        row = self._row(
            "SELECT n.*, s.policy, s.cadence_ms, s.low, s.high, s.parts FROM nodes n LEFT JOIN scales s "
            "ON s.id = n.scale WHERE stream = ? AND level = ? AND start_s = ?",
            *key,
        )
        if row is None:
            return None
        try:
            return row[:-6], read_scale(row[-5:])
        except (ValueError, AttributeError):
            return row[:-6], None
