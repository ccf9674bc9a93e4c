"""The durable, append-only record of charges. One line closes one node for ever, released or withheld.

The ledger lives in its owner's SQLite database and joins its transactions: a charge, the noise it pays for and the
sealed message commit together or not at all. Lines are chained by SHA-256, so that a changed, lost or inserted one is
seen at the next start; an unknown past counts as fully spent, and the agent stops.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from murmure_privacy.errors import AlreadyReleased, BudgetExceeded, LedgerDamaged
from murmure_privacy.release import Node

SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    line INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    level TEXT NOT NULL,
    start_s INTEGER NOT NULL,
    end_s INTEGER NOT NULL,
    covered_from_s INTEGER NOT NULL,
    rho_micro INTEGER NOT NULL CHECK (rho_micro >= 0),
    reason TEXT,
    policy BLOB NOT NULL,
    chain BLOB NOT NULL,
    UNIQUE (stream, level, start_s)
) STRICT;
CREATE INDEX IF NOT EXISTS charges_by_end ON charges (stream, end_s);
CREATE TRIGGER IF NOT EXISTS charges_stay BEFORE UPDATE ON charges BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS charges_keep BEFORE DELETE ON charges BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""

# A week with the autumn change of Troll in Antarctica, the only zone that puts its clocks back by two hours.
_LONGEST_S = 170 * 3600 + 1


@dataclass(frozen=True, slots=True)
class Charge:
    """One line: node, its price in micro-rho (0 if withheld, then with a reason) and the policy it was under."""

    line: int
    stream: str
    level: str
    start_s: int
    end_s: int
    covered_from_s: int
    rho_micro: int
    reason: str | None
    policy: bytes


class Ledger:
    """Charges of one gateway. Every method works inside the caller's transaction; none commits."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._chain = self._verified_chain()

    def rewind(self) -> None:
        """Forgets what a rolled-back transaction had appended: the chain goes on from what is stored."""
        row = self._db.execute("SELECT chain FROM charges ORDER BY line DESC LIMIT 1").fetchone()
        self._chain = row[0] if row else bytes(32)

    def closed(self, node: Node) -> bool:
        """Returns whether this node already has its line, so that nothing may ever be drawn for it again."""
        row = self._db.execute(
            "SELECT 1 FROM charges WHERE stream = ? AND level = ? AND start_s = ?", node.key
        ).fetchone()
        return row is not None

    def high_water_s(self, streams: Iterable[str]) -> int:
        """Returns the latest end of a closed node of these streams, 0 if none: nothing before may open again.

        A node withheld for the clock was closed before its end, which says nothing of how late it is.
        """
        latest = "SELECT max(end_s) FROM charges WHERE stream = ? AND reason IS NOT 'clock'"
        found = [self._db.execute(latest, (stream,)).fetchone()[0] for stream in streams]
        return max((int(end_s) for end_s in found if end_s is not None), default=0)

    def spent_rho_micro(self, stream: str, from_s: int, until_s: int) -> int:
        """Returns the largest spend at any instant of `[from_s, until_s)`: the sum of the charges that cover it."""
        # No node is longer than a week with a clock change: what ends later than that has not begun yet.
        rows = self._db.execute(
            "SELECT covered_from_s, end_s, rho_micro FROM charges"
            " WHERE stream = ? AND end_s > ? AND end_s < ? AND covered_from_s < ? AND rho_micro > 0",
            (stream, from_s, until_s + _LONGEST_S, until_s),
        ).fetchall()
        steps = [(max(start_s, from_s), int(rho)) for start_s, _, rho in rows]
        steps += [(end_s, -int(rho)) for _, end_s, rho in rows if end_s < until_s]
        # At one instant what ends goes before what begins: nodes are half-open.
        return max(accumulate((rho for _, rho in sorted(steps)), initial=0))

    def charge(self, node: Node, rho_micro: int, budget_rho_micro: int) -> None:
        """Appends the charge of a node about to be released.

        Raises AlreadyReleased if the node has its line, BudgetExceeded if at some instant it covers the sum of charges
        would pass the budget; the ledger is then unchanged.
        """
        if self.closed(node):
            raise AlreadyReleased(f"{node.stream}: {node.level} from {node.start_s} is already closed")
        spent = self.spent_rho_micro(node.stream, node.covered_from_s, node.end_s)
        if rho_micro < 1 or spent + rho_micro > budget_rho_micro:
            raise BudgetExceeded(node.stream, rho_micro, budget_rho_micro - spent)
        self._append(node, rho_micro, None)

    def withhold(self, node: Node, reason: str) -> None:
        """Appends the line of a node that is closed without a release. Raises AlreadyReleased."""
        if self.closed(node):
            raise AlreadyReleased(f"{node.stream}: {node.level} from {node.start_s} is already closed")
        self._append(node, 0, reason)

    def lines(self) -> Iterator[Charge]:
        """Yields every line in the order written."""
        for row in self._db.execute(
            "SELECT line, stream, level, start_s, end_s, covered_from_s, rho_micro, reason, policy"
            " FROM charges ORDER BY line"
        ):
            yield Charge(*row)

    def _append(self, node: Node, rho_micro: int, reason: str | None) -> None:
        fields = (*node.key, node.end_s, node.covered_from_s, rho_micro, reason, node.policy)
        chain = _link(self._chain, fields)
        self._db.execute(
            "INSERT INTO charges (stream, level, start_s, end_s, covered_from_s, rho_micro, reason, policy, chain)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*fields, chain),
        )
        self._chain = chain

    def _verified_chain(self) -> bytes:
        chain = bytes(32)
        expected_line = 1
        try:
            rows = self._db.execute(
                "SELECT line, stream, level, start_s, end_s, covered_from_s, rho_micro, reason, policy, chain"
                " FROM charges ORDER BY line"
            )
            for line, *fields, stored in rows:
                chain = _link(chain, tuple(fields))
                if line != expected_line or chain != stored:
                    raise LedgerDamaged(
                        f"ledger: line {expected_line}: does not follow from the one before it; nothing more is "
                        "published: keep the card, enrol the gateway anew"
                    )
                expected_line += 1
        except sqlite3.DatabaseError as error:
            raise LedgerDamaged(
                f"ledger: database: {error}; nothing more is published: keep the card, enrol the gateway anew"
            ) from error
        return chain


def _link(chain: bytes, fields: tuple[object, ...]) -> bytes:
    return hashlib.sha256(chain + repr(fields).encode()).digest()
