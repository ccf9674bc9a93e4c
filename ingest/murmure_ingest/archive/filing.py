"""The writer's side: messages settled one after the other, and what each is judged by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal

from murmure_privacy import wire
from murmure_privacy.release import Message, Outcome
from murmure_privacy.succession import Key, Use

from murmure_ingest import logbook
from murmure_ingest.archive.database import Database, Pending, Standing
from murmure_ingest.archive.errors import explained
from murmure_ingest.archive.rows import (
    FIRST_HEAD,
    Disposition,
    Enrolment,
    NodeKey,
    StoredHealth,
    StoredMessage,
    Turn,
    Unfiled,
    index_row,
    next_head,
)
from murmure_ingest.integers import Scale, keep_scale, packed_integers, scale_of

CONFLICTS_KEPT = 100  # per gateway and reason: evidence, not a way to fill the disk
_RHO_PLACE = 8  # in `index_row`
_SEQ_PLACE, _HASH_PLACE = 2, 3  # in the row of a message
FORKS = "('sequence_conflict', 'forked_node')"  # evidence that one key speaks from two cards

_LOOKED_UP = 128
_PLACES = (
    f"SELECT n.stream, n.level, n.start_s FROM (VALUES {', '.join(['(?, ?, ?)'] * _LOOKED_UP)}) k CROSS JOIN nodes n "
    "ON n.stream = k.column1 AND n.level = k.column2 AND n.start_s = k.column3"
)

MESSAGE_COLUMNS = (
    "m.id, m.gateway, m.seq, m.hash, m.previous, coalesce(a.disposition, m.disposition), coalesce(a.reason, m.reason),"
    " m.nodes, m.enrolment, m.head, m.sealed FROM messages m LEFT JOIN amendments a ON a.message = m.id"
)

_WAITS = (  # the first condition is that of the index of what is put aside, which without it nothing would be found by
    "m.disposition <> 'filed' AND m.disposition = 'quarantined' AND m.reason = ? AND a.message IS NULL "
    "AND m.sealed <> x''"
)


class Filing(Database):
    """Everything here that writes does so within a transaction of the caller's."""

    def find(self, gateway: str, seq: int) -> StoredMessage | None:
        """Returns the settled message of a gateway with this sequence number."""
        if self._writing:
            last = self._standing(gateway).last
            if last is None or seq >= last.seq:
                return last if last and seq == last.seq else None
        return self._message("m.gateway = ? AND m.seq = ?", gateway, seq)

    def _message(self, where: str, *values: object) -> StoredMessage | None:
        row = self._row(f"SELECT {MESSAGE_COLUMNS} WHERE {where}", *values)
        return StoredMessage(*row) if row else None

    def taken(self, outcomes: Iterable[Outcome]) -> tuple[str, str, int] | None:
        """Returns the key of the first node that has its place already, if any."""
        query = "SELECT 1 FROM nodes WHERE stream = ? AND level = ? AND start_s = ?"
        for outcome in outcomes:
            key = outcome.node.key
            known = self._places.get(key) if self._writing else None
            if known or (known is None and self._row(query, *key)):
                return key
        return None

    def free(self, keys: Collection[NodeKey]) -> bool:
        """Returns whether no two nodes with these keys are one, and each, foreseen, has its place to itself (within a
        transaction)."""
        if len(keys) > 1 and len(set(keys)) < len(keys):
            return False
        places = self._places
        return not any(places.get(key, True) for key in keys)

    def foresee(self, gateways: Iterable[str], keys: Iterable[NodeKey]) -> None:
        """Looks up together what will be judged (within a transaction): how each gateway stands, and the places that
        will be asked for. A question in between would have what was put so far written first."""
        for gateway in gateways:
            self._standing(gateway)
        keys = list(keys)
        self._places |= dict.fromkeys(keys, False)
        for at in range(0, len(keys), _LOOKED_UP):
            part = keys[at : at + _LOOKED_UP]
            part += [part[-1]] * (_LOOKED_UP - len(part))  # one statement, that SQLite reads once, for any number
            for row in self._rows(_PLACES, *chain.from_iterable(part)):
                self._places[row] = True

    def released_before(self, outcomes: Iterable[Outcome], gateway: str) -> bool:
        """Returns whether a node of these has its place already by a message of the same gateway."""
        return any(
            self._row(
                "SELECT 1 FROM nodes n JOIN messages m ON m.id = n.message "
                "WHERE n.stream = ? AND n.level = ? AND n.start_s = ? AND m.gateway = ?",
                *(*outcome.node.key, gateway),
            )
            for outcome in outcomes
        )

    def beside(self, gateway: str, seq: int, side: Literal["before", "after"]) -> Message | None:
        """Returns the nearest message before or after a number, holes left out, that is kept whole; None if there is
        none. A gateway's boots count on when its key changes."""
        if self._writing:
            last = self._standing(gateway).last
            if last is None or (side == "after" and seq >= last.seq):
                return None
        nearest = "m.seq < ? ORDER BY m.seq DESC" if side == "before" else "m.seq > ? ORDER BY m.seq"
        row = self._row(
            "SELECT m.sealed, e.record_key FROM messages m JOIN enrolments e ON e.id = m.enrolment "
            f"WHERE m.gateway = ? AND m.sealed <> x'' AND {nearest} LIMIT 1",
            *(gateway, seq),
        )
        return wire.open_message(*row) if row else None

    def cloned(self, gateway: str) -> bool:
        """Returns whether two cards have spoken with the gateway's key: two messages with one number, two for one node,
        or one that does not follow from the others. The evidence stays, and so does the word."""
        if self._writing and gateway in self._remembered.standings:
            return self._remembered.standings[gateway].cloned
        return bool(
            self._rows(
                f"SELECT EXISTS (SELECT 1 FROM conflicts WHERE gateway = ? AND reason IN {FORKS}) OR EXISTS "
                "(SELECT 1 FROM messages WHERE gateway = ? AND disposition <> 'filed' AND reason = 'chain_broken')",
                *(gateway, gateway),
            )[0][0]
        )

    def notes(self, site: str) -> dict[tuple[str, bytes], Any]:
        """Returns where a judge may keep, from message to message, what it has worked out of those that are filed of a
        site (within a transaction). It is gone as soon as others have filed one."""
        return self._remembered.notes.setdefault(site, {})

    def charged(self, stream: str, since_s: int = 0) -> Iterator[tuple[int, int, int]]:
        """Yields begin, end and micro-rho of every charged node that is filed of a stream and ends after an instant, by
        begin."""
        with explained(self.path):
            yield from self._db.execute(
                "SELECT covered_from_s, end_s, rho_micro FROM nodes WHERE stream = ? AND end_s > ? AND rho_micro > 0 "
                "ORDER BY covered_from_s",
                (stream, since_s),
            )

    def uses(self, gateway: str) -> list[Use]:
        """Returns how a gateway has used the policies of its site, by its filed messages."""
        rows = self._standing(gateway).uses.values() if self._writing else self._kept_uses(gateway)
        return [Use(*row[1:]) for row in rows]

    def _kept_uses(self, gateway: str) -> list[tuple[Any, ...]]:
        return self._rows(
            "SELECT gateway, stream, policy, since_s, first_seq, shown_s, until_s, last_seq FROM uses "
            "WHERE gateway = ?",
            gateway,
        )

    def put_use(self, gateway: str, use: Use) -> None:
        """Keeps the use of a policy for a stream (within a transaction) in place of what was known of it."""
        standing = self._standing(gateway)
        row = (
            *(gateway, use.stream, use.policy, use.since_s),
            *(use.first_seq, use.shown_s, use.until_s, use.last_seq),
        )
        _keep_use(standing, self._later(), (use.stream, use.policy), row)

    def waiters(self, reason: str) -> dict[str, int]:
        """Returns the gateways of which messages still wait for a mend of `reason`, and the row of the newest."""
        return dict(
            self._rows(
                "SELECT m.gateway, max(m.id) FROM messages m LEFT JOIN amendments a ON a.message = m.id "
                f"WHERE {_WAITS} GROUP BY m.gateway",
                reason,
            )
        )

    def quarantined(self, reason: str, gateways: Iterable[str] | None = None) -> list[StoredMessage]:
        """Returns the messages (of some gateways) that still wait for a mend of `reason`, by gateway and sequence
        number."""
        if gateways is None:
            rows = self._rows(f"SELECT {MESSAGE_COLUMNS} WHERE {_WAITS} ORDER BY m.gateway, m.seq", reason)
            return [StoredMessage(*row) for row in rows]
        query = f"SELECT {MESSAGE_COLUMNS} WHERE {_WAITS} AND m.gateway = ? ORDER BY m.seq"
        return [StoredMessage(*row) for gateway in sorted(gateways) for row in self._rows(query, reason, gateway)]

    def put(
        self, message: Message, sealed: bytes, enrolment: Enrolment, disposition: Disposition, reason: str = ""
    ) -> None:
        """Settles a message (within a transaction): its row, its nodes if it is filed, and what follows from them."""
        gateway, seq, message_hash = message.gateway, message.seq, wire.digest(sealed)
        standing = self._standing(gateway)
        before, head = self._remembered.newest or self._newest()
        row_id, new_head, kept = before + 1, next_head(head, message_hash), None if disposition == "refused" else sealed
        nodes, previous, line = len(message.outcomes), message.previous, enrolment.id
        row = (row_id, gateway, seq, message_hash, previous, disposition, reason, nodes, line, new_head, kept)
        last_seq = standing.row[_SEQ_PLACE] if standing.row else 0
        self._remembered.newest = row_id, new_head
        self._later().messages.append(row)
        charged = self._put_nodes(row_id, message) if disposition == "filed" else 0
        if self._remembered.days.get(gateway) != logbook.day_of(message):
            self._remembered.days[gateway] = logbook.day_of(message)
            self._spoken.add(gateway)
        unfiled = self._remembered.unfiled
        if disposition != "filed" and gateway in unfiled:
            messages, aside_bytes = unfiled[gateway]
            unfiled[gateway] = Unfiled(messages + 1, aside_bytes + len(kept or b""))
        if disposition == "filed" and seq == standing.settled_seq + 1 == last_seq + 1:
            standing.settled_seq, standing.row = seq, row
            self._add(gateway, seq, charged, new=last_seq == 0)
        else:
            self._settle(gateway, charged)

    def turn(self, gateway: str) -> Turn | None:
        """Returns which message of a gateway is the next one (within a transaction), None if numbers are missing or two
        cards speak with its key."""
        standing = self._standing(gateway)
        seq, last_hash = (
            (0, wire.FIRST_PREVIOUS) if standing.row is None else standing.row[_SEQ_PLACE : _HASH_PLACE + 1]
        )
        if standing.cloned or standing.settled_seq != seq:
            return None
        return seq + 1, last_hash, standing.policies

    def put_next(
        self, said: wire.Flat, keys: Sequence[NodeKey], kept: Sequence[tuple[Scale, int]], sealed: bytes, line: int
    ) -> None:
        """Files the message whose turn it is (within a transaction), all of it releases: what `put` and, for the uses
        of their policies, `put_use` would write. `said` is the message flattened; `keys` and `kept` are key, scale and
        micro-rho of each node, `line` is that of the register."""
        gateway, quartier, site, _, seq, previous, closing_s, outcomes = said
        remembered, message_hash = self._remembered, wire.digest(sealed)
        standing, speakers, scales = self._standing(gateway), remembered.speakers, remembered.scales
        before, head = remembered.newest or self._newest()
        later, places = self._later(), self._places
        row_id, head = before + 1, next_head(head, message_hash)
        row = (row_id, gateway, seq, message_hash, previous, "filed", "", len(outcomes), line, head, sealed)
        later.messages.append(row)
        remembered.newest = row_id, head
        uses, charged = standing.uses, 0
        for place, ((node, noised), key, (scale, rho_micro)) in enumerate(zip(outcomes, keys, kept, strict=True)):
            stream, quantity, level, start_s, end_s, covered_from_s, present, _, _, policy = node
            integers = noised[0][1] if len(noised) == 1 else [integer for one in noised for integer in one[1]]
            if (stream, gateway) not in speakers:
                self._speaks(stream, gateway, quartier, site, quantity, row_id)
            scale_row = scales.get(scale) or self._scale(scale)
            later.nodes.append(
                (
                    *(stream, level, start_s, end_s, covered_from_s, quantity, present, None, rho_micro),
                    *(row_id, place, packed_integers(integers), scale_row),
                )
            )
            places[key] = True
            charged += rho_micro
            of = stream, policy
            since_s = shown_s = covered_from_s
            first_seq = last_seq = seq
            until_s = end_s
            if of in uses:  # no message so far has a higher number
                _, _, _, began_s, first_seq, showed_s, ended_s, ended_seq = uses[of]
                if began_s < since_s:
                    since_s = began_s
                if first_seq < seq or showed_s < shown_s:
                    shown_s = showed_s
                if ended_s > until_s:
                    until_s, last_seq = ended_s, ended_seq
            _keep_use(standing, later, of, (gateway, stream, policy, since_s, first_seq, shown_s, until_s, last_seq))
        day = (closing_s - 1) // logbook.DAY_S
        if remembered.days.get(gateway) != day:
            remembered.days[gateway] = day
            self._spoken.add(gateway)
        standing.settled_seq, standing.row = seq, row
        self._add(gateway, seq, charged, new=seq == 1)

    def _add(self, gateway: str, seq: int, charged: int, *, new: bool) -> None:
        """Settles the next number of a gateway; `new`: its first."""
        later = self._later()
        rows = later.new_totals if new or gateway in later.new_totals else later.totals
        rows[gateway] = gateway, seq, charged + (rows[gateway][2] if gateway in rows else 0)

    def unfiled(self, gateway: str) -> Unfiled:
        """Returns what is settled of a gateway and not filed."""
        known = self._remembered.unfiled if self._writing else {}
        if gateway not in known:
            row = self._row(
                "SELECT count(*), coalesce(sum(length(m.sealed)), 0) FROM messages m LEFT JOIN amendments a "
                "ON a.message = m.id WHERE m.gateway = ? AND m.disposition <> 'filed' "
                "AND coalesce(a.disposition, '') <> 'filed'",
                gateway,
            )
            known[gateway] = Unfiled(*(row or (0, 0)))
        return known[gateway]

    def amend(self, stored: StoredMessage, message: Message, disposition: Disposition, reason: str = "") -> None:
        """Gives a quarantined message its last word (within a transaction)."""
        self._remembered.standings.pop(message.gateway, None)
        self._remembered.unfiled.pop(message.gateway, None)
        self._db.execute("INSERT INTO amendments VALUES (?, ?, ?)", (stored.id, disposition, reason))
        if disposition == "filed":
            self._settle(message.gateway, self._put_nodes(stored.id, message))
            days = {(outcome.node.end_s - 1) // logbook.DAY_S for outcome in message.outcomes}
            self._corrected.setdefault(message.gateway, set()).update(days)

    def _put_nodes(self, row_id: int, message: Message) -> int:
        """Returns what the nodes cost together, in micro-rho."""
        rows = [
            (*index_row(outcome, row_id, place), self._scale(scale_of(outcome)))
            for place, outcome in enumerate(message.outcomes)
        ]
        self._later().nodes.extend(rows)
        self._places |= dict.fromkeys([outcome.node.key for outcome in message.outcomes], True)
        speakers, gateway = self._remembered.speakers, message.gateway
        for node in [outcome.node for outcome in message.outcomes]:
            if (node.stream, gateway) not in speakers:
                self._speaks(node.stream, gateway, message.quartier, message.site, node.quantity, row_id)
        return sum([row[_RHO_PLACE] for row in rows])

    def _speaks(self, stream: str, gateway: str, quartier: str, site: str, quantity: str, row_id: int) -> None:
        """Keeps that a gateway has spoken of a stream."""
        self._remembered.speakers.add((stream, gateway))
        self._connection.execute(
            "INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (stream, gateway, quartier, site, quantity, row_id),
        )

    def _scale(self, scale: Scale) -> int:
        known = self._remembered.scales
        if scale not in known:
            known[scale] = keep_scale(self._connection, scale)
        return known[scale]

    def _standing(self, gateway: str) -> Standing:
        """Returns what the next message of a gateway is judged by (within a transaction)."""
        standings = self._remembered.standings
        if gateway not in standings:
            last = self._row(f"SELECT {MESSAGE_COLUMNS} WHERE m.gateway = ? ORDER BY m.seq DESC LIMIT 1", gateway)
            settled = self._row("SELECT settled_seq FROM totals WHERE gateway = ?", gateway)
            uses = {(row[1], row[2]): row for row in self._kept_uses(gateway)}
            policies = {policy for _, policy in uses}
            standings[gateway] = Standing(last, settled[0] if settled else 0, self.cloned(gateway), uses, policies)
        return standings[gateway]

    def _newest(self) -> tuple[int, bytes]:
        return self._row("SELECT id, head FROM messages ORDER BY id DESC LIMIT 1") or (0, FIRST_HEAD)

    def _settle(self, gateway: str, charged_rho_micro: int) -> None:
        self._remembered.standings.pop(gateway, None)
        self._db.execute("INSERT INTO totals VALUES (?, 0, 0) ON CONFLICT DO NOTHING", (gateway,))
        (settled,) = self._db.execute("SELECT settled_seq FROM totals WHERE gateway = ?", (gateway,)).fetchone()
        while self._row("SELECT 1 FROM messages WHERE gateway = ? AND seq = ?", gateway, settled + 1):
            settled += 1
        self._db.execute(
            "UPDATE totals SET settled_seq = ?, charged_rho_micro = charged_rho_micro + ? WHERE gateway = ?",
            (settled, charged_rho_micro, gateway),
        )

    def put_conflict(self, message: Message, sealed: bytes, reason: str) -> bool:
        """Keeps a message that contradicts the archive as evidence, beside it (within a transaction). Returns whether
        it is there: beyond a hundred of a reason no more are."""
        self._remembered.standings.pop(message.gateway, None)
        # Counted by reason: a hundred of one kind must not hide the first of another.
        query = "SELECT count(*) FROM conflicts WHERE gateway = ? AND reason = ?"
        (kept,) = self._rows(query, message.gateway, reason)[0]
        if kept < CONFLICTS_KEPT:
            self._db.execute(
                "INSERT INTO conflicts (gateway, seq, hash, reason, sealed) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (message.gateway, message.seq, wire.digest(sealed), reason, sealed),
            )
            return True
        query = "SELECT 1 FROM conflicts WHERE gateway = ? AND hash = ?"
        return self._row(query, message.gateway, wire.digest(sealed)) is not None

    def last_health(self, gateway: str) -> StoredHealth | None:
        """Returns the report of a gateway that is kept."""
        row = self._row("SELECT * FROM health WHERE gateway = ?", gateway)
        return StoredHealth(*row) if row else None

    def put_health(self, report: StoredHealth) -> None:
        """Keeps a report in place of the one before (within a transaction)."""
        r = report
        self._db.execute(
            "INSERT INTO health VALUES (?, ?, ?, ?, ?) ON CONFLICT (gateway) DO UPDATE SET boot = excluded.boot, "
            "uptime_s = excluded.uptime_s, at_s = excluded.at_s, sealed = excluded.sealed",
            (r.gateway, r.boot, r.uptime_s, r.at_s, r.sealed),
        )

    def forget_health(self, gateway: str) -> None:
        """Drops the last report of a gateway (within a transaction): its key is not the gateway's any more."""
        self._db.execute("DELETE FROM health WHERE gateway = ?", (gateway,))

    def count(self, name: str, by: int = 1) -> None:
        """Adds to a counter (within a transaction)."""
        self._db.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, by),
        )


def _keep_use(standing: Standing, later: Pending, key: Key, row: tuple[Any, ...]) -> None:
    place = row[0], key
    rows = later.uses if key in standing.uses and place not in later.new_uses else later.new_uses
    standing.uses[key] = rows[place] = row
    standing.policies.add(key[1])
