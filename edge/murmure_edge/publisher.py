"""From readings to sealed messages: windows, gate, ledger and outbox of one gateway, in time that is passed in.

`sense` and `edge replay` run this very code. One closing instant is one transaction: every node that closes then is
charged, drawn, sealed and put in the outbox together, or none is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter

from murmure_privacy.aggregate import Aggregate
from murmure_privacy.change import last_s, protects_better, takes_over_s
from murmure_privacy.gate import Gate, Mechanism
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import Policy, parse
from murmure_privacy.release import Message, Node, Outcome
from murmure_privacy.window import Calendar
from murmure_privacy.windowing import OpenWindows
from murmure_privacy.wire import largest_message, seal_message

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
    """One stream's time under one policy: its windows and the instant after which the policy's validity is over."""

    stream: str
    plan: Plan
    windows: OpenWindows
    publish_until_s: int


@dataclass(frozen=True, slots=True)
class _Span:
    """From `from_s` on, a stream is measured under this plan, or under none; before `until_s` if that is not None."""

    from_s: int
    until_s: int | None
    plan: Plan | None


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
        self._refused: dict[int, Policy] = {}  # what cannot be kept here, by version
        self.waiting: tuple[Plan, ...] = ()  # newer ones that were believed and may not hold yet, by version
        self._now_s: int | None = None
        self._full = False
        self.newest_told = db.told().policy_version  # of which a receipt has told, or the signatures under one refused
        self.waits_until_s = 0  # the clock is behind the newest charge until then: nothing is open

    @property
    def policy(self) -> Policy | None:
        """Returns the newest accepted policy."""
        return self._accepted[-1][1].policy if self._accepted else None

    @property
    def newest(self) -> Plan | None:
        """Returns the plan of the newest accepted policy."""
        return self._accepted[-1][1] if self._accepted else None

    @property
    def awaited(self) -> int | None:
        """Returns the version of a newer policy that there is and that is not known here, None if there is none. Until
        it is, or a still newer one, everything is withheld (`no_policy`): it may pause or drop any stream."""
        ours = max((made.policy.version for made in (*self.waiting, self.newest) if made is not None), default=0)
        return self.newest_told if self.newest_told > ours else None

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
        refused: set[bytes] = set()
        for stream in _streams(self._accepted):
            for span in _spans(stream, self._accepted):
                if span.plan is None or (span.until_s is not None and span.until_s <= now_s):
                    continue
                policy = span.plan.policy
                why_not = refusal(policy)
                if why_not is None:
                    self._open(stream, span.plan, max(span.from_s, now_s), span.until_s)
                elif policy.hash not in refused:
                    refused.add(policy.hash)
                    self._say(f"policy {policy.version}: no node is opened under it: {why_not}")

    def _planned(self, policy: Policy) -> Plan:
        made = plan(policy)
        for stream in made.streams.values():
            for node in stream.nodes:
                for indicator in node.indicators:
                    self._mechanism.prepare(indicator)
        return made

    def _open(self, stream: str, made: Plan, from_s: int, until_s: int | None) -> None:
        closed_s = self._db.ledger.high_water_s(made.streams)
        if closed_s > max(from_s, self.waits_until_s):
            self._say(f"clock: {closed_s - from_s} s behind the newest charge; nothing opens until that has passed")
            self.waits_until_s = closed_s
        ends_s = last_s(made) if self._judge_dates else _FOREVER_S
        windows = OpenWindows(made, max(from_s, closed_s), (stream,))
        windows.until_s = until_s
        self._eras.append(_Era(stream, made, windows, ends_s))

    @staticmethod
    def first_day_s(policy: Policy) -> int:
        """Returns the instant at which the policy's first day begins."""
        return Calendar(policy.timezone).midnight(policy.valid_from)

    def adopt(self, policy: Policy, now_s: int) -> None:
        """Accepts a newer policy. The first one holds from now (or its first day), another from where no node is open,
        stream by stream. Until then the old scales hold, and what any newer one pauses, drops, ends earlier or protects
        better is withheld, even if the next one takes that back."""
        made = self._planned(policy)  # what has no plan is not stored either: every later start would stop at it
        begins_s = max(now_s, self.first_day_s(policy)) if self._judge_dates else now_s
        self._db.store_policy(policy.version, begins_s, policy.text)
        self._accepted.append((begins_s, made))
        for stream in _streams(self._accepted):
            span = _spans(stream, self._accepted)[-1]
            others = [era for era in self._eras if era.stream != stream]
            mine = [era for era in self._eras if era.stream == stream and era.windows.opened_s < span.from_s]
            if mine:
                # Only the last one: those before it end where their own successor begins.
                mine[-1].windows.until_s = span.from_s
            self._eras = [*others, *mine]
            if span.plan is made:
                self._open(stream, made, span.from_s, None)

    def heed(self, version: int) -> None:
        """Takes the centre's word, signed, that this is the newest policy there is; kept for every later start.

        Raises DiskFull if it cannot be kept yet: until the next start it counts all the same.
        """
        self.newest_told = max(self.newest_told, version)
        told = self._db.told()
        if version > told.policy_version:
            self._db.remember(replace(told, policy_version=version))

    def refuse(self, policy: Policy) -> None:
        """Takes note of a newer policy that was signed as it must be and that cannot be kept here. It never holds, but
        what it replaces is over all the same: until a newer one is accepted, what it pauses is withheld as `paused`,
        and everything else as under one that is awaited, also after a restart.

        Raises DiskFull as `heed` does.
        """
        self._refused[policy.version] = policy
        self.heed(policy.version)

    def longest_message(self, policy: Policy) -> int:
        """Returns the length of the longest message there can be while a newer policy takes over, stream by stream."""
        old = {era.plan.policy.hash: era.plan for era in self._eras}
        return largest_message(*old.values(), plan(policy))

    def add(self, stream: str, readings: Sequence[tuple[int, int]]) -> None:
        """Adds readings (time_ms, value in the quantity's reading unit) in the order they came."""
        for era in self._eras:
            era.windows.add(stream, readings)

    def advance(self, now_s: int) -> None:
        """Closes, charges, seals and commits everything that is due by `now_s`; every port has passed that instant."""
        self._now_s = now_s
        due: dict[int, list[tuple[_Era, Aggregate]]] = {}
        for era in self._eras:
            for closing_s, aggregates in era.windows.close_due(now_s):
                due.setdefault(closing_s, []).extend((era, aggregate) for aggregate in aggregates)
        for closing_s, closed in sorted(due.items(), key=itemgetter(0)):
            self._waiting.append(_Closing(closing_s, partial(self._released, closed)))
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

    def _released(self, closed: Sequence[tuple[_Era, Aggregate]]) -> list[Outcome]:
        return [
            self._gate.release(aggregate, era.plan, *self._orders(era))
            for era, aggregate in closed
            # After a restart a partial node can meet one that was withheld for the clock: it is closed for ever.
            if not self._db.ledger.closed(aggregate.node)
        ]

    def _orders(self, era: _Era) -> tuple[Policy, int]:
        """Returns what every policy since the era's own says of its stream together, and until when it may publish.

        A stream that any of them drops is missing, one that any of them pauses or protects better is paused: a node of
        the era that is still open would otherwise publish, after a pause was lifted, what happened during it. It is
        missing too while a newer policy is awaited, and where one was never seen: versions grow by one, and the one
        that is not there may have paused or dropped any stream. What a refused one pauses is paused. What waits for its
        notice has its say as well: only what it loosens has to wait.
        """
        policy, publish_until_s = era.plan.policy, era.publish_until_s
        newer = [plan for _, plan in self._accepted if plan.policy.version > policy.version]
        newer += self.waiting
        own = era.plan.streams[era.stream]
        words = [plan.streams.get(era.stream) for plan in newer]
        streams = []
        unseen = max((plan.policy.version for plan in newer), default=policy.version) - policy.version - len(newer)
        if any(_pauses(one, era.stream) for one in self._refused.values() if one.version > policy.version):
            streams.append(replace(own.stream, paused=True))
        elif None not in words and self.awaited is None and not unseen:
            paused = any(word.stream.paused or protects_better(word, own) for word in words if word is not None)
            streams.append(replace(own.stream, paused=own.stream.paused or paused))
        if self._judge_dates:
            publish_until_s = min([publish_until_s, *map(last_s, newer)])
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


def _streams(accepted: Sequence[tuple[int, Plan]]) -> list[str]:
    """Returns every stream that a policy names or has named, in a fixed order."""
    return list(dict.fromkeys(stream for _, made in accepted for stream in made.streams))


def _spans(stream: str, accepted: Sequence[tuple[int, Plan]]) -> list[_Span]:
    """Returns under which of the accepted (instant from which it was to hold, plan) a stream is measured, and when.

    A policy takes over at once where none is in force, else at the end of a period of the one that is: there no node
    is open. One that had not begun when its successor did never holds.
    """
    begun: list[tuple[int, Plan | None]] = []
    for base_s, made in accepted:
        from_s = base_s
        in_force = next((plan for begins_s, plan in reversed(begun) if begins_s < base_s), None)
        if in_force is not None:
            from_s = takes_over_s(in_force.streams[stream], in_force.calendar, base_s)
        plan = made if stream in made.streams else None
        begun = [(begins_s, other) for begins_s, other in begun if begins_s < from_s]
        begun.append((from_s, plan))
    ends = [*(from_s for from_s, _ in begun[1:]), None]
    return [_Span(from_s, until_s, plan) for (from_s, plan), until_s in zip(begun, ends, strict=True)]


def plan_at(stream: str, accepted: Sequence[tuple[int, Plan]], at_s: int) -> Plan | None:
    """Returns the plan under which a stream is measured at an instant, None if it is under none.

    `accepted`: (instant from which it was to hold, plan) of every policy, by version.
    """
    for span in _spans(stream, accepted):
        if span.from_s <= at_s and (span.until_s is None or at_s < span.until_s):
            return span.plan
    return None


def _pauses(policy: Policy, stream: str) -> bool:
    part = policy.stream(stream)
    return policy.paused or (part is not None and part.paused)
