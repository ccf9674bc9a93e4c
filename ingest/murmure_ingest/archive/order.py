"""What the archive knew when: it keeps no dates of filing, but everything in the order in which it came.

The open data are closed by what has come, never by a clock, so that a restored archive closes them alike: a day is
over for the archive with the first message that tells of a later instant. Nobody can tell of one that has not come
(the intake sees to it), and what was withheld for the clock, which is closed before its end, tells of nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from murmure_privacy import wire
from murmure_privacy.release import Outcome

from murmure_ingest.archive.errors import explained
from murmure_ingest.archive.series import Series


class Order(Series):
    """What the site's months are closed by. A row is that of a message."""

    def newest_row(self) -> int:
        """Returns the row of the message that was settled last, 0 without any."""
        return int(self._rows("SELECT coalesce(max(id), 0) FROM messages")[0][0])

    def head_at(self, row: int) -> bytes | None:
        """Returns the running SHA-256 over all messages up to a row, or None where there is no such row."""
        found = self._rows("SELECT head FROM messages WHERE id = ?", row)
        return bytes(found[0][0]) if found else None

    def began_s(self, stream: str) -> int | None:
        """Returns when the first node of a stream that ends ends (seconds UTC), or None without any."""
        found = self._rows("SELECT min(end_s) FROM nodes WHERE stream = ?", stream)[0][0]
        return None if found is None else int(found)

    def first_to_tell(self, streams: Iterable[str], instants: Sequence[int]) -> list[int | None]:
        """Returns, for each of some instants in order, the row of the first filed message with a node of these streams
        that ends then or later; None where there is none. The nodes after the first instant are gone through once."""
        found: list[int | None] = [None] * len(instants)
        query = (
            "SELECT end_s, message FROM nodes WHERE stream = ? AND end_s >= ? AND reason IS NOT 'clock' "
            "ORDER BY end_s DESC"
        )
        for stream in streams if instants else ():
            least: int | None = None
            at = len(instants) - 1
            with explained(self.path):
                for end_s, row in self._db.execute(query, (stream, instants[0])):
                    while end_s < instants[at]:
                        found[at] = _earlier(found[at], least)
                        at -= 1
                    least = _earlier(least, row)
            for place in range(at + 1):
                found[place] = _earlier(found[place], least)
        return found

    def outcomes_by(self, row: int, stream: str, from_s: int, to_s: int) -> list[Outcome]:
        """Returns the nodes of `outcomes` that the messages up to a row brought."""
        found = [
            self._outcomes_of(message)[place]
            for message, place in self._rows(
                "SELECT message, place FROM nodes WHERE stream = ? AND end_s > ? AND start_s < ? AND message <= ?",
                *(stream, from_s, to_s, row),
            )
        ]
        return sorted(found, key=lambda o: (o.node.end_s, wire.LEVEL_CODES.index(o.node.level), o.node.start_s))

    def rows_after(self, row: int, streams: Iterable[str], from_s: int, to_s: int) -> list[int]:
        """Returns the rows beyond one whose messages brought nodes of these streams that intersect [from_s, to_s)."""
        query = "SELECT message FROM nodes WHERE stream = ? AND end_s > ? AND start_s < ? AND message > ?"
        return sorted({int(found) for stream in streams for (found,) in self._rows(query, stream, from_s, to_s, row)})

    def told_after(self, row: int) -> Iterator[tuple[str, int, int]]:
        """Yields stream, begin and end of every node that messages beyond a row brought."""
        for stored in self.messages(after=row):
            for outcome in self.opened(stored):
                yield outcome.node.stream, outcome.node.start_s, outcome.node.end_s

    def told_by(self, row: int) -> Iterator[tuple[str, int, int]]:
        """Yields stream, begin and end of every node that the filed message of a row brought."""
        for outcome in self._outcomes_of(row):
            yield outcome.node.stream, outcome.node.start_s, outcome.node.end_s

    def delivered(self, row: int, streams: Iterable[str], since_s: int, end_s: int) -> bool:
        """Returns whether by a row every gateway that told of a node of these streams ending after `since_s` had sent
        everything that ends by `end_s`: one message that tells of a later instant, and all that are numbered before."""
        spoke: dict[str, int | None] = {}
        for stream in streams:
            for gateway, later_s, seq in self._rows(
                "SELECT m.gateway, n.end_s >= ?, min(m.seq) FROM nodes n JOIN messages m ON m.id = n.message "
                "WHERE n.stream = ? AND n.end_s > ? AND n.message <= ? AND n.reason IS NOT 'clock' "
                "GROUP BY m.gateway, n.end_s >= ?",
                *(end_s, stream, since_s, row, end_s),
            ):
                known = spoke.setdefault(str(gateway), None)
                if later_s:
                    spoke[str(gateway)] = int(seq) if known is None else min(known, int(seq))
        return all(
            seq is not None
            and self._rows(
                "SELECT count(*) FROM messages WHERE gateway = ? AND seq <= ? AND id <= ?", gateway, seq, row
            )[0][0]
            == seq
            for gateway, seq in spoke.items()
        )

    def waits(self, row: int, streams: Iterable[str], from_s: int, to_s: int) -> bool:
        """Returns whether a message up to a row still waits for its last word that has a node of these streams which
        intersects [from_s, to_s)."""
        wanted = set(streams)
        waiting = self._rows(
            "SELECT m.id FROM messages m LEFT JOIN amendments a ON a.message = m.id "
            "WHERE m.disposition <> 'filed' AND m.disposition = 'quarantined' AND a.message IS NULL "
            "AND m.sealed <> x'' AND m.id <= ?",
            row,
        )
        return any(
            outcome.node.stream in wanted and outcome.node.end_s > from_s and outcome.node.start_s < to_s
            for (found,) in waiting
            for outcome in self._outcomes_of(found)
        )


def _earlier(one: int | None, other: int | None) -> int | None:
    return min((row for row in (one, other) if row is not None), default=None)
