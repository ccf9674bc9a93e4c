"""For those who watch: counts, without opening what is counted."""

from __future__ import annotations

from typing import Any

from murmure_ingest.archive.database import Database
from murmure_ingest.archive.filing import FORKS
from murmure_ingest.archive.rows import Holding, StoredHealth


class Watching(Database):
    """What metrics, alerts and the operators' pages read."""

    def health(self) -> list[StoredHealth]:
        """Returns the last report of every gateway that sent one."""
        return [StoredHealth(*row) for row in self._rows("SELECT * FROM health ORDER BY gateway")]

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
                "SELECT count(*) FROM messages m WHERE disposition <> 'filed' AND disposition = 'quarantined' "
                "AND NOT EXISTS (SELECT 1 FROM amendments WHERE message = m.id)"
            )[0][0],
            "conflicts": self._rows("SELECT count(*) FROM conflicts")[0][0],
            "refused": _by_reason(counters, "refused:"),
            "conflicting": _by_reason(counters, "conflict:"),
        }

    def conflicts(self) -> list[tuple[str, int, bytes, str]]:
        """Returns what was kept as evidence: (gateway, seq, hash, reason)."""
        return [(g, s, h, r) for g, s, h, r in self._rows("SELECT gateway, seq, hash, reason FROM conflicts")]

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
            f"SELECT gateway FROM conflicts WHERE reason IN {FORKS} UNION "
            "SELECT gateway FROM messages WHERE disposition <> 'filed' AND reason = 'chain_broken'"
        )
        return {gateway for (gateway,) in rows}

    def waiting(self) -> dict[str, int]:
        """Returns by reason how many messages are quarantined."""
        return dict(
            self._rows(
                "SELECT reason, count(*) FROM messages m WHERE disposition <> 'filed' AND disposition = 'quarantined' "
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

    def holdings(self, after_s: int, until_s: int) -> dict[str, Holding]:
        """Returns by stream what is held of nodes that end in `(after_s, until_s]` (seconds UTC); a stream of which
        there is none is left out."""
        rows = self._rows(
            "SELECT stream, min(covered_from_s), max(end_s), count(*) - count(reason), count(reason) "
            "FROM (SELECT DISTINCT stream FROM streams) JOIN nodes USING (stream) "
            "WHERE end_s > ? AND end_s <= ? GROUP BY stream",
            *(after_s, until_s),
        )
        return {stream: Holding(*held) for stream, *held in rows}

    def spoken(self, after_s: int, until_s: int) -> dict[str, int]:
        """Returns by gateway how many of its filed messages have a node that ends in `(after_s, until_s]`."""
        rows = self._rows(
            "SELECT gateway, count(*) FROM messages WHERE id IN (SELECT message "
            "FROM (SELECT DISTINCT stream FROM streams) JOIN nodes USING (stream) "
            "WHERE end_s > ? AND end_s <= ?) GROUP BY gateway",
            *(after_s, until_s),
        )
        return dict(rows)

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


def _by_reason(counters: dict[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): value for name, value in counters.items() if name.startswith(prefix)}
