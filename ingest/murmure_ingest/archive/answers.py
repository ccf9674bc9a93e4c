"""What receipts say: how far a gateway is settled, and with which exceptions."""

from __future__ import annotations

from murmure_privacy import wire

from murmure_ingest.archive.filing import FORKS, Filing
from murmure_ingest.archive.rows import Totals

EXCEPTIONS_LISTED = 256  # what a receipt can carry


class Answers(Filing):
    """Durable up to here."""

    def head(self) -> bytes:
        """Returns the running SHA-256 over all messages in the order of filing; 32 zero bytes when empty."""
        return self._newest()[1]

    def totals(self, gateway: str) -> Totals:
        """Returns how far a gateway is settled, and what was charged by its filed nodes."""
        row = self._row(
            "SELECT t.settled_seq, coalesce(m.hash, zeroblob(32)), t.charged_rho_micro FROM totals t "
            "LEFT JOIN messages m ON m.gateway = t.gateway AND m.seq = t.settled_seq WHERE t.gateway = ?",
            gateway,
        )
        return Totals(*row) if row else Totals(0, bytes(32), 0)

    def missing(self, gateway: str) -> list[tuple[int, int]]:
        """Returns the (first, last) numbers that are not there although later ones are, as many ranges as a receipt
        carries, the oldest first."""
        rows = self._rows(
            "SELECT before + 1, seq - 1 FROM (SELECT m.seq AS seq, lag(m.seq, 1, t.settled_seq) OVER (ORDER BY m.seq) "
            "AS before FROM totals t JOIN messages m ON m.gateway = t.gateway AND m.seq > t.settled_seq "
            "WHERE t.gateway = ?) WHERE seq > before + 1 ORDER BY seq LIMIT ?",
            *(gateway, wire.AGAIN_LIMIT),
        )
        return [(first, last) for first, last in rows]

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
            f"UNION SELECT seq, 'forked' FROM conflicts WHERE gateway = ? AND reason IN {FORKS}"
            ") WHERE seq <= ? GROUP BY seq ORDER BY seq DESC LIMIT ?",
            *(gateway, gateway, up_to_seq, EXCEPTIONS_LISTED),
        )
        return [(seq, word) for seq, word in reversed(rows)]
