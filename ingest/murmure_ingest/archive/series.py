"""Messages and series out: what was signed, opened again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from murmure_privacy import wire
from murmure_privacy.errors import WireError
from murmure_privacy.policy import parse
from murmure_privacy.release import Outcome

from murmure_ingest import migrations
from murmure_ingest.archive.database import Database
from murmure_ingest.archive.errors import ArchiveDamaged, damage_text, explained
from murmure_ingest.archive.filing import MESSAGE_COLUMNS
from murmure_ingest.archive.rows import StoredMessage, StreamInfo, charge_of
from murmure_ingest.integers import NodeRow, Scale, read_scale, unpacking

_MESSAGES_CACHED = 8192
_STREAMS_TOLD = 60  # of a site, unless more are filed: a new gateway believes no longer a list


class Series(Database):
    """What readers ask for."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        super().__init__(path, db)
        self._outcomes_of = lru_cache(maxsize=_MESSAGES_CACHED)(self._open_outcomes)

    def messages(self, gateway: str | None = None, after: int = 0) -> Iterator[StoredMessage]:
        """Yields the settled messages of a gateway by sequence number; without one, all in the order of filing, from
        the one that follows row `after`."""
        where, order, value = ("m.id > ?", "m.id", after) if gateway is None else ("m.gateway = ?", "m.seq", gateway)
        with explained(self.path):
            for row in self._db.execute(f"SELECT {MESSAGE_COLUMNS} WHERE {where} ORDER BY {order}", (value,)):
                yield StoredMessage(*row)

    def filed_late(self) -> set[int]:
        """Returns the rows of the messages that waited before they were filed: they are older than their filing."""
        return {row for (row,) in self._rows("SELECT message FROM amendments WHERE disposition = 'filed'")}

    def nodes(self, stream: str, level: str, from_s: int, to_s: int) -> list[NodeRow]:
        """Returns the nodes of a level of a stream that begin in [from_s, to_s) (seconds UTC), by begin, as the index
        has them: fast, and only as true as `ingest verify` says that the index is. `outcomes` opens what was signed.

        Raises ArchiveDamaged if a row has integers that are none of ours.
        """
        read = _Reading(self)
        with explained(self.path):
            rows = self._db.execute(
                "SELECT start_s, end_s, covered_from_s, present, reason, scale, integers FROM nodes "
                "WHERE stream = ? AND level = ? AND start_s >= ? AND start_s < ?",
                (stream, level, from_s, to_s),
            )
            return [
                (
                    start_s,
                    end_s,
                    covered_s,
                    present,
                    reason,
                    scale,
                    () if held is None else read[scale, len(held)](held),
                )
                for start_s, end_s, covered_s, present, reason, scale, held in rows
            ]

    def scale(self, row: int) -> Scale:
        """Returns what the integers of nodes with this scale are. Raises ArchiveDamaged if there is none such."""
        found = self._row("SELECT policy, cadence_ms, low, high, parts FROM scales WHERE id = ?", row)
        try:
            return read_scale(found or ())
        except ValueError as error:
            raise ArchiveDamaged(damage_text(self.path, f"scale {row}: {error}")) from error

    def opened(self, stored: StoredMessage) -> Sequence[Outcome]:
        """Returns the nodes that a message has filed, if it is filed. Raises ArchiveDamaged as `outcomes` does."""
        return self._outcomes_of(stored.id) if stored.disposition == "filed" else ()

    def streams(self) -> list[StreamInfo]:
        """Returns every stream that has a node, with the gateway that began to speak of it last."""
        rows = self._rows("SELECT gateway, quartier, site, stream, quantity, max(since) FROM streams GROUP BY stream")
        return [StreamInfo(*row[:5]) for row in rows]

    def outcomes(self, stream: str, from_s: int, to_s: int) -> list[Outcome]:
        """Returns the nodes of a stream that intersect [from_s, to_s) (seconds UTC), by end, then by level.

        Raises ArchiveDamaged if a stored message does not open any more.
        """
        if from_s >= to_s:
            return []
        rows = self._rows(
            "SELECT message, place FROM nodes WHERE stream = ? AND end_s > ? AND start_s < ?", stream, from_s, to_s
        )
        found = [self._outcomes_of(message)[place] for message, place in rows]
        return sorted(found, key=lambda o: (o.node.end_s, wire.LEVEL_CODES.index(o.node.level), o.node.start_s))

    def _open_outcomes(self, row_id: int) -> Sequence[Outcome]:
        row = self._row(
            "SELECT m.sealed, e.record_key FROM messages m JOIN enrolments e ON e.id = m.enrolment WHERE m.id = ?",
            row_id,
        )
        if row is None or row[0] is None:
            raise ArchiveDamaged(damage_text(self.path, f"message {row_id} is missing"))
        try:
            return wire.open_message(row[0], row[1]).outcomes
        except WireError as error:
            raise ArchiveDamaged(damage_text(self.path, f"message {row_id}: {error}")) from error

    def complete_until(self, stream: str, at_s: int) -> bool:
        """Returns whether nothing that ends by an instant can come any more from the gateway that spoke of the stream
        then: a later node of its is filed, and everything that it sent before that is settled and does not wait. One
        that was withheld for the clock says nothing of how late it is: it was closed before its end."""
        return bool(
            self._rows(
                "SELECT EXISTS (SELECT 1 FROM "
                "(SELECT m.gateway, m.seq FROM nodes n JOIN messages m ON m.id = n.message "
                "WHERE n.stream = ? AND n.end_s >= ? AND n.reason IS NOT 'clock' ORDER BY n.end_s LIMIT 1) last "
                "JOIN totals t ON t.gateway = last.gateway WHERE t.settled_seq >= last.seq AND NOT EXISTS "
                "(SELECT 1 FROM messages w LEFT JOIN amendments a ON a.message = w.id WHERE w.gateway = last.gateway "
                "AND w.seq < last.seq AND w.disposition = 'quarantined' AND w.sealed <> x'' AND a.message IS NULL))",
                *(stream, at_s),
            )[0][0]
        )

    def streams_of(self, site: str) -> set[str]:
        """Returns the streams of a site that have a node or stand in a policy that was published."""
        filed = {str(stream) for (stream,) in self._rows("SELECT stream FROM streams WHERE site = ?", site)}
        policies = [parse(toml, "policy") for (toml,) in self._rows("SELECT toml FROM policies WHERE site = ?", site)]
        return filed | {stream.id for policy in policies for stream in policy.streams}

    def charges(self, site: str, from_s: int, also: Iterable[str] = ()) -> Iterator[tuple[str, int, int, int]]:
        """Yields stream, begin, end and micro-rho of every charged node of a site that ends after an instant, whichever
        gateway released it.

        What was put aside (quarantined, or kept as evidence) was charged and sent as well, and counts, whatever the
        word on it became: whoever stole a key can add to this. What is not kept is not in it, and `unkept_until` says
        up to when there was such; nor are streams beyond sixty that nobody knows: that are not filed, in a published
        policy or among `also`.
        """
        with explained(self.path):
            yield from self._db.execute(
                "SELECT stream, covered_from_s, end_s, rho_micro FROM nodes WHERE rho_micro > 0 AND end_s > ? "
                "AND stream IN (SELECT stream FROM streams WHERE site = ?)",
                (from_s, site),
            )
        streams = self.streams_of(site).union(also)
        for outcome in self._put_aside(site):
            node = outcome.node
            # Nobody has judged these: a stream of another place would be carried to a gateway that has no such stream,
            # and streams, or nodes of years, without number to one that then believes nothing.
            if (
                charge_of(outcome)
                and node.end_s > from_s
                and node.end_s - node.start_s <= migrations.LONGEST_S
                and node.stream.partition("/")[0] == site
                and (node.stream in streams or len(streams) < _STREAMS_TOLD)
            ):
                streams.add(node.stream)
                yield node.stream, node.covered_from_s, node.end_s, charge_of(outcome)

    def closed_after(self, site: str, at_s: int, most: int) -> list[tuple[str, str, int, int]]:
        """Returns stream, level, begin and end of the nodes of a site that have their place and end after an instant,
        whichever gateway spoke of them, the first to end first, so many at most."""
        rows = self._rows(
            "SELECT stream, level, start_s, end_s FROM nodes WHERE end_s > ? "
            "AND stream IN (SELECT stream FROM streams WHERE site = ?) ORDER BY end_s, stream, level, start_s LIMIT ?",
            *(at_s, site, most),
        )
        return [(str(stream), str(level), int(start_s), int(end_s)) for stream, level, start_s, end_s in rows]

    def _put_aside(self, site: str) -> Iterator[Outcome]:
        """Yields, once each, what is kept and not filed of the messages for a site."""
        for (row_id,) in self._rows(
            "SELECT m.id FROM messages m JOIN enrolments e ON e.id = m.enrolment "
            "LEFT JOIN amendments a ON a.message = m.id "
            "WHERE e.site = ? AND m.disposition = 'quarantined' AND coalesce(a.disposition, '') <> 'filed' "
            "AND m.sealed <> x'' ORDER BY m.id",
            site,
        ):
            yield from self._open_outcomes(row_id)  # read once, and too many to remember
        # Evidence names no line of the register: it is under the one whose key opens it.
        for sealed, record_key in self._rows(
            "SELECT DISTINCT c.sealed, e.record_key FROM conflicts c JOIN enrolments e ON e.gateway = c.gateway "
            "WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.gateway = c.gateway AND m.hash = c.hash "
            "AND m.sealed <> x'')"
        ):
            try:
                message = wire.open_message(sealed, record_key)
            except WireError:
                continue
            if message.site == site:
                yield from message.outcomes


class _Reading(dict[tuple[int, int], Callable[[bytes], tuple[int, ...]]]):
    """By scale and length in bytes, how integers are read; each is looked up once."""

    def __init__(self, archive: Series) -> None:
        self._archive = archive

    def __missing__(self, key: tuple[int, int]) -> Callable[[bytes], tuple[int, ...]]:
        scale, length = key
        try:
            self[key] = unpacking(self._archive.scale(scale).width, length)
        except ValueError as error:
            raise ArchiveDamaged(damage_text(self._archive.path, f"scale {scale}: {error}")) from error
        return self[key]
