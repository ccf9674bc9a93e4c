"""From readings to sealed messages: windows, gate, ledger and outbox of one gateway, in time that is passed in.

`sense` and `edge replay` run this very code. One closing instant is one transaction: every node that closes then is
charged, drawn, sealed and put in the outbox together, or none is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from murmure_privacy.aggregate import Aggregate
from murmure_privacy.gate import Gate, Mechanism
from murmure_privacy.plan import Plan, StreamPlan, plan
from murmure_privacy.policy import Policy, parse
from murmure_privacy.release import Message, Node, Outcome
from murmure_privacy.window import Calendar
from murmure_privacy.windowing import OpenWindows
from murmure_privacy.wire import seal_message

from murmure_edge.gateway_db import DiskFull, GatewayDb

_FOREVER_S = 1 << 40


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: the ids the centre knows and the 32-byte secret that signs."""

    gateway: str
    quartier: str
    site: str
    secret: bytes


@dataclass(slots=True)
class _Era:
    """The time under one policy: its windows and the instant after which its validity is over."""

    plan: Plan
    windows: OpenWindows
    publish_until_s: int


@dataclass(frozen=True, slots=True)
class _Closing:
    """What closed at one instant and waits for its commit; `decide` charges and draws, inside the transaction."""

    closing_s: int
    decide: Callable[[], list[Outcome]]


class Publisher:
    """Owns the open windows; every committed message is handed to `committed(message, sealed)`.

    `judge_dates`: whether `valid_from` and `valid_until` are looked at (always, but in a replay without --dates).
    """

    def __init__(
        self,
        db: GatewayDb,
        identity: Identity,
        mechanism: Mechanism,
        committed: Callable[[Message, bytes], None],
        say: Callable[[str], None],
        judge_dates: bool = True,
    ) -> None:
        self._db, self._identity, self._committed, self._say = db, identity, committed, say
        self._mechanism = mechanism
        self._gate = Gate(db.ledger, mechanism)
        self._judge_dates = judge_dates
        self._eras: list[_Era] = []
        self._waiting: list[_Closing] = []
        self._accepted: list[tuple[int, Plan]] = []  # (instant from which it holds, plan), by version
        self._now_s: int | None = None
        self._full = False
        self.waits_until_s = 0  # the clock is behind the newest charge until then: nothing is open

    @property
    def policy(self) -> Policy | None:
        """Returns the newest accepted policy."""
        return self._accepted[-1][1].policy if self._accepted else None

    @property
    def owes(self) -> bool:
        """Returns whether something has closed and waits for room on the disk."""
        return bool(self._waiting)

    def start(self, now_s: int, refusal: Callable[[Policy], str | None] = lambda _: None) -> None:
        """Opens windows as of `now_s`, under the policies in the database, never before what the ledger has closed.

        `refusal` says why these sensors cannot keep a policy's promise, or None: the sensors may have been changed
        since it was accepted. No node is opened under one that is refused.
        """
        stored = self._db.policies()
        policies = [(item.from_s, parse(item.toml, f"policy {item.version}")) for item in stored]
        self.start_under(policies, now_s, refusal)

    def start_under(
        self,
        policies: Sequence[tuple[int, Policy]],
        now_s: int,
        refusal: Callable[[Policy], str | None] = lambda _: None,
    ) -> None:
        """Opens windows as of `now_s` under (instant from which it holds, policy) in that order; see `start`."""
        self._now_s = now_s
        self._accepted = [(begins_s, self._planned(policy)) for begins_s, policy in policies]
        self._eras = []
        in_force = _in_force(self._accepted)
        for number, (begins_s, made) in enumerate(in_force):
            until_s = in_force[number + 1][0] if number + 1 < len(in_force) else None
            if until_s is None or until_s > now_s:
                why_not = refusal(made.policy)
                if why_not is None:
                    self._open(made, max(begins_s, now_s), until_s)
                else:
                    self._say(f"policy {made.policy.version}: no node is opened under it: {why_not}")

    def _planned(self, policy: Policy) -> Plan:
        made = plan(policy)
        for stream in made.streams.values():
            for node in stream.nodes:
                for indicator in node.indicators:
                    self._mechanism.prepare(indicator)
        return made

    def _open(self, made: Plan, from_s: int, until_s: int | None) -> None:
        policy = made.policy
        closed_s = self._db.ledger.high_water_s(stream.id for stream in policy.streams)
        if closed_s > from_s:
            self._say(f"clock: {closed_s - from_s} s behind the newest charge; nothing opens until that has passed")
            self.waits_until_s = closed_s
        last_s = _last_s(made) if self._judge_dates else _FOREVER_S
        windows = OpenWindows(made, max(from_s, closed_s))
        windows.until_s = until_s
        self._eras.append(_Era(made, windows, last_s))

    @staticmethod
    def first_day_s(policy: Policy) -> int:
        """Returns the instant at which the policy's first day begins."""
        return Calendar(policy.timezone).midnight(policy.valid_from)

    def adopt(self, policy: Policy, now_s: int) -> None:
        """Accepts a newer policy. The first one holds from now (or its first day), another from a civil midnight on:
        there no node is open. Until then the old scales hold, and what any newer one pauses, drops, ends earlier or
        protects better is withheld, even if the next one takes that back."""
        made = self._planned(policy)  # what has no plan is not stored either: every later start would stop at it
        begins_s = max(now_s, self.first_day_s(policy)) if self._judge_dates else now_s
        begun = [plan for from_s, plan in _in_force(self._accepted) if from_s < begins_s]
        if begun:
            day = Calendar(begun[-1].policy.timezone).day(begins_s)
            begins_s = begins_s if begins_s == day.start_s else day.end_s
        self._db.store_policy(policy.version, begins_s, policy.text)
        self._accepted.append((begins_s, made))
        self._eras = [era for era in self._eras if era.windows.opened_s < begins_s]
        if self._eras:
            # Only the last one: those before it end where their own successor begins.
            self._eras[-1].windows.until_s = begins_s
        self._open(made, begins_s, None)

    def add(self, stream: str, readings: Sequence[tuple[int, int]]) -> None:
        """Adds readings (time_ms, value in the quantity's reading unit) in the order they came."""
        for era in self._eras:
            era.windows.add(stream, readings)

    def advance(self, now_s: int) -> None:
        """Closes, charges, seals and commits everything that is due by `now_s`; every port has passed that instant."""
        self._now_s = now_s
        for era in self._eras:
            for closing_s, aggregates in era.windows.close_due(now_s):
                self._waiting.append(_Closing(closing_s, partial(self._released, era, aggregates)))
        self._eras = [era for era in self._eras if era.windows.until_s is None or era.windows.until_s > now_s]
        self._commit_waiting()

    def withhold_open(self) -> None:
        """The clock was put forward: what was open is withheld (`clock`), and nothing is open until `start`."""
        seen_s = self._now_s
        if seen_s is None:
            return
        nodes = [node for era in self._eras for node in era.windows.open_nodes() if node.covered_from_s <= seen_s]
        self._eras = []
        self._waiting.append(_Closing(seen_s, partial(self._withheld, nodes)))
        self._commit_waiting()

    def _commit_waiting(self) -> None:
        while self._waiting:
            closing = self._waiting[0]
            try:
                done = self._commit(closing)
            except DiskFull as error:
                # The aggregates stay in memory and nothing was charged: the next turn tries again.
                if not self._full:
                    self._full = True
                    self._say(str(error))
                return
            if self._full:
                self._full = False
                self._say("disk: there is room again; nothing was lost")
            self._waiting.pop(0)
            if done is not None:
                self._committed(*done)

    def _commit(self, closing: _Closing) -> tuple[Message, bytes] | None:
        with self._db.transaction():
            outcomes = closing.decide()
            return self._seal(closing.closing_s, outcomes) if outcomes else None

    def _released(self, era: _Era, aggregates: Sequence[Aggregate]) -> list[Outcome]:
        orders, publish_until_s = self._orders(era)
        return [
            self._gate.release(aggregate, era.plan, orders, publish_until_s)
            for aggregate in aggregates
            # After a restart a partial node can meet one that was withheld for the clock: it is closed for ever.
            if not self._db.ledger.closed(aggregate.node)
        ]

    def _orders(self, era: _Era) -> tuple[Policy, int]:
        """Returns what every policy since the era's own says of it together, and until when it may publish.

        A stream that any of them drops is missing, one that any of them pauses or protects better is paused: a node of
        the era that is still open would otherwise publish, after a pause was lifted, what happened during it.
        """
        policy, publish_until_s = era.plan.policy, era.publish_until_s
        newer = [plan for _, plan in self._accepted if plan.policy.version > policy.version]
        streams = []
        for stream in policy.streams:
            words = [plan.streams.get(stream.id) for plan in newer]
            own = era.plan.streams[stream.id]
            if None not in words:
                paused = any(word.stream.paused or _protects_better(word, own) for word in words if word is not None)
                streams.append(replace(stream, paused=stream.paused or paused))
        if self._judge_dates:
            publish_until_s = min([publish_until_s, *map(_last_s, newer)])
        paused = policy.paused or any(plan.policy.paused for plan in newer)
        return replace(policy, streams=tuple(streams), paused=paused), publish_until_s

    def _withheld(self, nodes: Sequence[Node]) -> list[Outcome]:
        return [self._gate.withhold(node, "clock") for node in nodes if not self._db.ledger.closed(node)]

    def _seal(self, closing_s: int, outcomes: Iterable[Outcome]) -> tuple[Message, bytes]:
        seq, previous = self._db.next_message()
        who = self._identity
        message = Message(
            gateway=who.gateway,
            quartier=who.quartier,
            site=who.site,
            boot=self._db.boot(),
            seq=seq,
            previous=previous,
            closing_s=closing_s,
            outcomes=tuple(outcomes),
        )
        sealed = seal_message(message, who.secret)
        self._db.put(seq, sealed)
        return message, sealed


def _in_force(accepted: Sequence[tuple[int, Plan]]) -> list[tuple[int, Plan]]:
    """Returns the policies that ever hold: one that had not begun when its successor did never does."""
    return [
        (from_s, made)
        for number, (from_s, made) in enumerate(accepted)
        if all(later_s > from_s for later_s, _ in accepted[number + 1 :])
    ]


def _last_s(made: Plan) -> int:
    """Returns the instant at which a policy's last day is over."""
    return Calendar(made.policy.timezone).midnight(made.policy.valid_until + timedelta(days=1))


def _protects_better(word: StreamPlan, own: StreamPlan) -> bool:
    """Returns whether a newer policy allows less to be learned of a stream, or hides a larger unit of it."""
    return word.rho_micro < own.rho_micro or word.stream.protects[1] > own.stream.protects[1]
