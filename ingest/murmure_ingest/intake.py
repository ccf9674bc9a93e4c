"""One sealed message in, one word out: Stored, Duplicate, Conflict, Heard or Refused. Nothing else files into the
archive.

`open_sealed` is the first half, pure and without an archive: size, canonical form, signature over the bytes as they
came. The key is that of whom the message names as its speaker, not of the topic it came on: so a true message in a
wrong place is told from a forged one, and a courier, who has no topic, takes the same way. `Intake` is the second half,
inside one transaction, in an order in which each check can trust those before: gateway and its key in the register;
topic, message and register agree; number and chain; its time has come; every node under a policy that was in force for
it; its place is free. A message that is wrong in two ways is refused for the first.

What mostly comes takes a shorter way, `_file_usual`, through the same checks to the same word and the same rows.
Whoever adds a check to `_judge`, or to the kernel's `Auditor`, adds it there too. `ingest verify` does not go that way:
it asks the `Auditor` of every node that was filed.

What is refused is counted by reason and its bytes are handed to `keep`. Whether it is also *remembered* decides what a
receipt may say:

- `counted` only: whatever anybody could have sent or re-sent (no valid signature of this gateway, another topic, a key
  that was revoked, or that another one has followed). It must leave no trace in the archive, or a stranger could settle
  a gateway's message before the gateway does. And what speaks of a time that has not come (`too_early`): if it is our
  clock that is wrong, the gateway sends the same again later, and it is filed.
- `refused`: signed by the gateway and never acceptable, whatever happens later. Its hash is kept, so that the receipt
  settles it and lists it as an exception.
- `quarantined`: signed, kept whole in the archive, not filed: a person must look (`chain_broken`, `cloned`) or a policy
  is missing (`unknown_policy`; `reconsider` files it once the policy is there).

Whoever has stolen a key can sign without end. Beyond `MOST_UNFILED` of one gateway (`aside_full`) what would be
quarantined is refused, so that only its hash is kept and nothing can file it any more; and beyond the number of
messages it is counted only. What was signed, so charged and sent, and is not kept to be read again (this, what its
policy does not allow, evidence beyond a hundred of a kind) is noted by day: until then the site counts as fully spent
for its next gateway (`enrolment.spent_before`).

A Conflict contradicts what is filed: its number belongs to other bytes, or a node of it has its release. The first
stays, the second is evidence.

Beyond the cap of its policy a stream's day is refused like whatever its policy does not allow (`over_cap`): an honest
gateway withholds it.

A chain that broke, one number for two messages, or two releases of one node: two cards speak with one key, of which one
was cloned, or restored from a backup. Which of them stands at the site nobody here can know, so that nothing new of
either is filed any more.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Literal, NamedTuple

from murmure_privacy import wire
from murmure_privacy.errors import WireError
from murmure_privacy.frozen import quick
from murmure_privacy.gate import PRESENT_AT_LEAST
from murmure_privacy.plan import Plan
from murmure_privacy.release import Health, Message, Release, Withheld
from murmure_privacy.succession import Key, Use, Uses
from murmure_privacy.window import QUARTER_S, utc

from murmure_ingest import rotation
from murmure_ingest.archive import Enrolment, NodeKey, StoredHealth, Unfiled, charge_of
from murmure_ingest.budgets import Charge, Tank, first_excess, spending
from murmure_ingest.logbook import DAY_S
from murmure_ingest.opener import open_by
from murmure_ingest.rules import Rules, aligned_end_s
from murmure_ingest.store import Filing

REASONS = (
    "oversized",
    "malformed",
    "not_canonical",
    "unknown_gateway",
    "bad_signature",
    "unknown_version",
    "revoked_gateway",
    "retired_key",
    "bad_topic",
    "wrong_topic",
    "wrong_site",
    "sequence_conflict",
    "chain_broken",
    "cloned",
    "too_early",
    "unknown_policy",
    "aside_full",
    "not_in_policy",
    "node_conflict",
    "over_cap",
    "stale_health",
)
"""Every word that a Refused or a Conflict can carry, in the order of the checks. All down to `wrong_topic` strangers
can cause. `malformed` is said before the signature of what is no message, and after it of a field."""

_TOPIC = re.compile(r"murmure/v1/([a-z0-9][a-z0-9_-]{0,39})/([a-z0-9][a-z0-9_-]{0,39})/(release|health)")

Fate = Literal["counted", "refused", "quarantined"]

AHEAD_S = 900
"""How far a gateway's clock may be ahead of the centre's."""

MOST_UNFILED = Unfiled(messages=100_000, aside_bytes=64 * 1024 * 1024)
"""Of one gateway, and no more of what a stolen key can say. An honest one says 96 messages a day. This holds a year of
them if they have 1,900 bytes in the mean (eight streams with quarter-hours have 1,200), and 170 days under any policy,
since no message has more than 4 KiB (`wire.MESSAGE_LIMIT`)."""

_POLICY = 9  # in a node that is flat

BOOTS = 3
"""How often a gateway may have started since its newest message, whatever its clock says: it may be behind."""

_Objection = tuple[str, str, Fate]
_Span = tuple[bytes, int, int]  # a policy, and from when until when a stream is released under it
_REFUSED: Fate = "refused"
_CLONED: _Objection = "cloned", "two cards have spoken with its key; enrol the gateway anew", "quarantined"
_EARLY: _Objection = "too_early", "it speaks of a time that has not come; this clock may be behind", "counted"
_UNKEPT = ("not_in_policy", "over_cap")
_ELSEWHERE = "quartier or site is not the registered one"


@dataclass(frozen=True, slots=True)
class Stored:
    """The message is new and every node of it is filed."""

    gateway: str
    seq: int
    nodes: int


_stored = quick(Stored)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """These very bytes are settled already, whatever the word on them was."""

    gateway: str
    seq: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """The gateway has signed it, and other bytes have its number (`sequence_conflict`) or a node of it its release
    (`node_conflict`): those stay, this is kept as evidence."""

    gateway: str
    seq: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A health report, kept in place of the one before. `log`: of how many entries it remembers the log, if it says."""

    gateway: str
    log: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Not filed. `reason` is one of REASONS; `detail` is for a log and names no value; `gateway` is given once its
    signature was checked, `seq` with it if the receipt settles the message."""

    reason: str
    detail: str
    fate: Fate = "counted"
    gateway: str | None = None
    seq: int | None = None


Word = Stored | Duplicate | Conflict | Heard | Refused
RulesOf = Callable[[bytes], Rules | None]
KeysOf = Callable[[str], Iterable[bytes]]
Arrival = tuple[str | None, bytes]
"""The topic and the payload; no topic for what was carried by hand."""


class Opened(NamedTuple):
    """What `key` has signed in the name of a gateway; `flat`: as `wire.flatten` gives it. Whether that key still speaks
    for it is not judged yet."""

    topic: str | None
    sealed: bytes
    key: bytes
    flat: wire.Flat

    @property
    def said(self) -> Message | Health:
        """Returns it, made anew each time."""
        return wire.unflatten(self.flat)


def open_sealed(arrival: Arrival, keys_of: KeysOf) -> Opened | Refused:
    """Returns what was signed, or why it is no message. Pure, if `keys_of` is: the keys that may have signed for a
    gateway, none for an unknown one."""
    topic, sealed = arrival
    try:
        return Opened(topic, sealed, *open_by(sealed, keys_of, wire.open_flat))
    except WireError as error:
        return Refused(error.reason, error.detail)


@dataclass(frozen=True, slots=True)
class Kept:
    """Refused bytes for a person to look at. `gateway` is the one that signed them, None for anybody's."""

    reason: str
    gateway: str | None
    topic: str | None
    sealed: bytes


Keep = Callable[[Sequence[Kept]], None]


@dataclass(slots=True)
class _Waiting:
    """What waits of a gateway for policies, when it was looked at last: its newest message, the line of the register
    that held, the policies that nobody knew, and whether one waits for its time."""

    row: int
    line: int
    wanted: set[bytes]
    early: bool = False


class Intake:
    """The door of the archive. `rules_of` gives the rules of a policy by its SHA-256, None for an unknown one; `now_s`
    the seconds since 1970; `keep` takes the bytes of what was refused, before the commit, and must not raise; of
    one gateway no more than `most_unfiled` is kept in the archive."""

    def __init__(
        self,
        archive: Filing,
        rules_of: RulesOf,
        now_s: Callable[[], float],
        keep: Keep = lambda _: None,
        most_unfiled: Unfiled = MOST_UNFILED,
    ) -> None:
        self._archive = archive
        self._rules_of = rules_of
        self._now_s = now_s
        self._keep = keep
        self._most_unfiled = most_unfiled
        self._latest_s = 0.0  # of what may be spoken in this batch
        self.left_early = False  # of what `reconsider` has looked at last, something waits for its time
        self._tanks: dict[Key, Tank] = {}  # by stream and policy, with what the message that is judged would add
        self._waiting: dict[str, _Waiting] = {}  # by gateway

    def accept(self, topic: str | None, payload: bytes) -> Word:
        """Judges and files one message, durably. Raises ArchiveError if the archive could not keep it."""
        return self.accept_many([(topic, payload)])[0]

    def accept_many(self, arrivals: Iterable[Arrival]) -> list[Word]:
        """Judges and files (topic, payload) pairs in one commit: all words hold together, or ArchiveError is raised
        and nothing was kept."""
        arrivals = list(arrivals)
        return self.file(arrivals, [self.open(arrival) for arrival in arrivals])

    def open(self, arrival: Arrival) -> Opened | Refused:
        """Returns what `open_sealed` makes of an arrival with the keys of the register."""
        return open_sealed(arrival, self.keys_of)

    def keys_of(self, gateway: str) -> Iterator[bytes]:
        """Yields every key that may have signed for a gateway, the likeliest first; none for an unknown one."""
        return rotation.known_keys(self._archive, gateway)

    def file(self, arrivals: Sequence[Arrival], opened: Sequence[Opened | Refused]) -> list[Word]:
        """The second half of `accept_many`, with what `open_sealed` has made of each arrival, at any time before."""
        with self._archive.transaction():
            words = self.judge(opened)
            kept = [
                Kept(word.reason, word.gateway, *arrival)
                for arrival, word in zip(arrivals, words, strict=True)
                if isinstance(word, Refused) and word.fate != "quarantined"
            ]
            if kept:
                self._keep(kept)
            return words

    def file_logged(self, opened: Iterable[Opened]) -> list[Word]:
        """Files, in one commit, messages of which the town's own log says that they were filed, by gateway and number:
        that the gateway was revoked since, or has another key, is no objection to them. All others hold."""
        archive, words = self._archive, list[Word]()
        self._latest_s = self._now_s() + AHEAD_S
        with archive.transaction():
            for one in sorted(opened, key=lambda one: (one.flat[0], one.flat[4])):
                said, lines = one.said, archive.lines_of(one.flat[0])
                line = next((line for line in lines if (line.record_key, line.status) == (one.key, "active")), None)
                if isinstance(said, Message) and line is not None:
                    words.append(self._settle(said, one.sealed, line))
                else:
                    words.append(self._judge(one))
            self._count(words)
        return words

    def judge(self, opened: Iterable[Opened | Refused]) -> list[Word]:
        """Judges, counts and files what was opened, within a transaction of the caller's."""
        opened = list(opened)
        self._latest_s = self._now_s() + AHEAD_S
        gateways, policies, keys = set[str](), set[bytes](), list[list[NodeKey]]()
        for one in opened:
            its: list[NodeKey] = []
            if isinstance(one, Opened) and not wire.is_health(one.flat):
                gateways.add(one.flat[0])
                for node, _ in one.flat[-1]:
                    its.append((node[0], node[2], node[3]))  # as Node.key
                    policies.add(node[_POLICY])
            keys.append(its)
        self._archive.foresee(gateways, chain.from_iterable(keys))
        for gateway in gateways:
            self._archive.enrolment(gateway)
        for policy in policies:
            self._rules_of(policy)
        words = [
            (self._file_usual(one, its) if its else None) or self._judge(one) if isinstance(one, Opened) else one
            for one, its in zip(opened, keys, strict=True)
        ]
        self._count(words)
        return words

    def _count(self, words: Iterable[Word]) -> None:
        counts: Counter[str] = Counter()
        for word in words:
            if isinstance(word, Refused):
                counts[f"refused:{word.reason}"] += 1
            elif isinstance(word, Conflict):
                counts[f"conflict:{word.reason}"] += 1
            elif isinstance(word, Duplicate):
                counts["duplicates"] += word.nodes
        for name, number in counts.items():
            self._archive.count(name, number)

    def _file_usual(self, opened: Opened, keys: Sequence[NodeKey]) -> Stored | None:
        """Files a message that is in every way what mostly comes: the next one of a gateway that is alone at its site,
        all of it releases under the one policy, without a cap, that it has ever used. None for whatever is otherwise,
        without a word on it: `_judge` begins from the start. No check is left out that could go against such a message,
        and tests/ingest/test_usual.py holds both ways against each other."""
        archive, latest_s = self._archive, self._latest_s
        gateway, quartier, site, _, seq, previous, closing_s, outcomes = opened.flat
        line, turn = archive.enrolment(gateway), archive.turn(gateway)
        if (
            line is None
            or turn is None
            or line.status != "active"
            or line.record_key != opened.key
            or line.quartier != quartier
            or line.site != site
            or closing_s > latest_s
        ):
            return None
        number, last_hash, used = turn
        policy = outcomes[0][0][_POLICY]
        rules = self._rules_of(policy)
        if (
            number != seq
            or last_hash != previous
            or rules is None
            or rules.plan.policy.hash != policy
            or rules.site != site
            or rules.capped
            or (used and (len(used) > 1 or policy not in used))
            or (opened.topic is not None and opened.topic != f"murmure/v1/{quartier}/{gateway}/release")
            or len(archive.gateways_of(site)) > 1
            or archive.notes(site)
            or not archive.free(keys)
        ):
            return None
        kinds, timezone, kept = rules.kinds, rules.timezone, []
        for node, said in outcomes:
            stream, quantity, level, start_s, end_s, covered_from_s, present, cadence_ms, bounds, of = node
            kind = kinds.get((stream, level))
            if kind is None or isinstance(said, str) or of != policy:
                return None
            slots, parts, first_s, last_s, scale_and_rho = kind
            if (
                (quantity, cadence_ms, bounds) != slots
                or end_s != aligned_end_s(timezone, level, start_s)
                or covered_from_s < first_s
                or end_s > last_s
                or end_s > latest_s
                or covered_from_s % QUARTER_S
                or present < PRESENT_AT_LEAST
                or len(said) != len(parts)
            ):
                return None
            for (indicator, integers, sigma_milli, rho_micro), part in zip(said, parts, strict=True):
                if (indicator, len(integers), sigma_milli, rho_micro) != part:
                    return None
            kept.append(scale_and_rho)
        archive.put_next(opened.flat, keys, kept, opened.sealed, line.id)
        return _stored(gateway, seq, len(outcomes))

    def _judge(self, opened: Opened) -> Word:
        said = opened.said
        gateway = said.gateway
        newest = self._archive.enrolment(gateway)
        if newest is None:
            return Refused("unknown_gateway", "no such gateway in the register")
        if newest.status != "active":
            return Refused("revoked_gateway", "the gateway was revoked", gateway=gateway)
        enrolment = rotation.line_of(self._archive, newest, opened.key, said, opened.sealed)
        if enrolment is None:
            return Refused("retired_key", "the gateway has another key now, and this did not wait when it came")
        objection = _misplaced(opened.topic, said, enrolment)
        if objection is not None:
            return Refused(*objection, gateway=gateway)
        if isinstance(said, Health):
            return self._hear(said, opened.sealed, enrolment)
        return self._settle(said, opened.sealed, enrolment)

    def _hear(self, health: Health, sealed: bytes, enrolment: Enrolment) -> Word:
        if health.quartier != enrolment.quartier:
            return Refused("wrong_site", "the quartier is not the registered one", gateway=health.gateway)
        if health.at_s > self._latest_s:
            return Refused("too_early", "it is dated in the future", gateway=health.gateway)
        report = StoredHealth(health.gateway, health.boot, health.uptime_s, health.at_s, sealed)
        kept = self._archive.last_health(health.gateway)
        if kept is None or self._follows(report, kept):
            self._archive.put_health(report)
        elif kept.sealed != sealed:  # MQTT may bring the same twice
            return Refused("stale_health", "a later report is there already", gateway=health.gateway)
        return Heard(health.gateway, health.log)

    def _follows(self, report: StoredHealth, kept: StoredHealth) -> bool:
        """Returns whether a report is newer than the kept one: by boot, then by its date, with which the uptime begins
        anew when the clock is put forward. One that cannot be true (it counts more boots since the newest message than
        seconds have gone by, or is dated later than any that could come now) is older than all that can be: else a
        thief's would be the last."""
        newest = self._archive.beside(report.gateway, sys.maxsize, "before")
        boots, since_s = (newest.boot, newest.closing_s) if newest else (0, 0)

        def rank(one: StoredHealth) -> tuple[bool, int, int, int]:
            by_s = one.at_s + AHEAD_S  # it is dated down to the quarter-hour
            possible = one.at_s <= self._latest_s and one.boot <= boots + max(BOOTS, by_s - since_s)
            return possible, one.boot, one.at_s, one.uptime_s

        return rank(report) > rank(kept)

    def _settle(self, message: Message, sealed: bytes, enrolment: Enrolment) -> Word:
        gateway, seq = message.gateway, message.seq
        known = self._archive.find(gateway, seq)
        if known is not None and known.hash == wire.digest(sealed):
            return Duplicate(gateway, seq, known.nodes)
        elsewhere = (message.quartier, message.site) != (enrolment.quartier, enrolment.site)
        if known is not None:
            if not self._archive.put_conflict(message, sealed, "sequence_conflict"):
                self._note_unkept(gateway)
            if elsewhere:
                return Refused("wrong_site", _ELSEWHERE, gateway=gateway)
            return Conflict(gateway, seq, "sequence_conflict", "another message has this sequence number")
        uses = self._uses(gateway)
        refusal = ("wrong_site", _ELSEWHERE, _REFUSED) if elsewhere else self._objection(message, sealed, uses)
        if refusal is None:
            self._archive.put(message, sealed, enrolment, "filed")
            self._note_uses(message, uses)
            return _stored(gateway, seq, len(message.outcomes))
        reason, detail, fate = refusal
        if fate == "counted":
            return Refused(reason, detail, gateway=gateway)
        unfiled, aside_bytes = self._archive.unfiled(gateway)
        if unfiled >= self._most_unfiled.messages:
            self._note_unkept(gateway)
            return Refused("aside_full", f"{reason}: too many of its gateway are not filed", gateway=gateway)
        if fate == "quarantined" and aside_bytes + len(sealed) > self._most_unfiled.aside_bytes:
            # Its row says why it was put aside: a fork is told by that.
            self._archive.put(message, sealed, enrolment, "refused", reason)
            self._note_unkept(gateway)
            return _told(message, ("aside_full", f"{reason}: no more of its gateway is put aside", _REFUSED))
        if reason in _UNKEPT or (reason == "node_conflict" and not self._keep_second(message, sealed)):
            self._note_unkept(gateway)
        self._archive.put(message, sealed, enrolment, fate, reason)
        return _told(message, refusal)

    def _objection(self, message: Message, sealed: bytes, uses: Uses) -> _Objection | None:
        """Returns reason, detail and fate of what stands against filing a new message of the gateway."""
        if not self._chained(message, sealed):
            return "chain_broken", "it does not follow from its neighbours in the sequence", "quarantined"
        if self._archive.cloned(message.gateway):
            return _CLONED
        if is_early(message, self._latest_s):
            return _EARLY
        return self._content_objection(message, uses)

    def _note_unkept(self, gateway: str) -> None:
        """Notes that the gateway said, charged and sent something today that nobody will be able to read again: what
        its site has spent is unknown up to now, and its next gateway must know that."""
        self._archive.note_unkept(gateway, int(self._now_s()))

    def _keep_second(self, message: Message, sealed: bytes) -> bool:
        """Keeps a message with a node that has its release, and returns whether it did. A ledger closes a node once: a
        gateway that does it twice speaks from two cards, however far apart their numbers are; another's node is of one
        that was replaced."""
        forked = self._archive.released_before(message.outcomes, message.gateway)
        return self._archive.put_conflict(message, sealed, "forked_node" if forked else "node_conflict")

    def _chained(self, message: Message, sealed: bytes) -> bool:
        gateway, seq = message.gateway, message.seq
        earlier, later = self._archive.find(gateway, seq - 1), self._archive.find(gateway, seq + 1)
        if seq == 1:
            before = message.previous == wire.FIRST_PREVIOUS
        else:
            before = earlier is None or earlier.hash == message.previous
        after = later is None or later.previous == wire.digest(sealed)
        # Across a hole no hash tells, but a gateway counts its boots, whatever its clock does.
        least = self._archive.beside(gateway, seq, "before") if earlier is None else None
        most = self._archive.beside(gateway, seq, "after") if later is None else None
        boot = message.boot
        return before and after and (least.boot if least else 0) <= boot <= (most.boot if most else boot)

    def _objection_now(self, message: Message, uses: Uses) -> _Objection | None:
        """Returns what stands today against filing a message that waits."""
        newest = self._archive.enrolment(message.gateway)
        if newest is None or newest.status != "active":
            return "revoked_gateway", "the gateway was revoked while this waited", _REFUSED
        if self._archive.cloned(message.gateway):
            return _CLONED
        if is_early(message, self._latest_s):
            return _EARLY
        return self._content_objection(message, uses)

    def _content_objection(self, message: Message, uses: Uses) -> _Objection | None:
        rules, policy = None, b""
        for outcome in message.outcomes:
            if outcome.node.policy != policy:
                policy = outcome.node.policy
                rules = self._rules_of(policy)
            if rules is None:
                return "unknown_policy", "the policy it names was never published here", "quarantined"
            if rules.site != message.site:
                return "not_in_policy", "the policy it names is for another site", _REFUSED
            objection = rules.check(outcome)
            if objection is not None:
                return "not_in_policy", objection, _REFUSED
        objection = uses.objection(message)
        if objection is not None:
            return "not_in_policy", objection, _REFUSED
        keys = [outcome.node.key for outcome in message.outcomes]
        if len(set(keys)) < len(keys) or self._archive.taken(message.outcomes):
            return "node_conflict", "a node of it has its release already", _REFUSED
        excess = self._excess(message)
        if excess is not None:
            return "not_in_policy", excess, _REFUSED
        excess = self._over_cap(message)
        return None if excess is None else ("over_cap", excess, _REFUSED)

    def _beside(self, message: Message) -> list[Use]:
        """Returns how other gateways of the site have used its policies."""
        gateways = self._archive.gateways_of(message.site)
        if len(gateways) < 2:
            return []
        return [use for other in gateways if other != message.gateway for use in self._archive.uses(other)]

    def _excess(self, message: Message) -> str | None:
        """Returns what a message would spend too much beside other gateways of its site, None if nothing. Its own
        policies leave a gateway no node to do so with."""
        beside = self._beside(message)
        if not beside:
            return None
        released = [outcome for outcome in message.outcomes if isinstance(outcome, Release)]
        shared = {
            use.stream
            for use in beside
            for node in (outcome.node for outcome in released)
            if use.stream == node.stream and use.since_s < node.end_s and node.covered_from_s < use.until_s
        }
        for stream in sorted(shared):
            own = [outcome for outcome in released if outcome.node.stream == stream]
            spans = _spans(
                own, [use for use in (*beside, *self._archive.uses(message.gateway)) if use.stream == stream]
            )
            excess = first_excess(
                _charges(own),
                [(begin_s, end_s, self._plan_of(of).streams[stream].rho_micro) for of, begin_s, end_s in spans],
                partial(self._archive.largest_spend, stream),
            )
            if excess is not None:
                at_s, cost, budget = excess
                return f"{stream}: with other gateways of its site, {cost} micro-rho of {budget} at {utc(at_s)}"
        return None

    def _over_cap(self, message: Message) -> str | None:
        """Returns what a message would spend beyond the cap of a policy of its site, None if nothing. Days are looked
        at only where a tank can be full at all, and once: what is filed, by whichever gateway, is added to them."""
        self._tanks = {}
        beside, known = self._beside(message), self._archive.uses(message.gateway)
        policies = {use.policy for use in (*known, *beside)} | {outcome.node.policy for outcome in message.outcomes}
        if not any(self._capped(policy) for policy in policies):
            return None
        notes = self._archive.notes(message.site)
        released = [outcome for outcome in message.outcomes if isinstance(outcome, Release)]
        for stream in sorted({outcome.node.stream for outcome in released}):
            own = [outcome for outcome in released if outcome.node.stream == stream]
            spans = _spans(own, [use for use in (*known, *beside) if use.stream == stream])
            for policy in sorted({of for of, _, _ in spans}):
                held = [span for span in spans if span[0] == policy]
                from_s, until_s = min(begin_s for _, begin_s, _ in held), max(end_s for _, _, end_s in held)
                from_s = max(from_s, min(one.node.covered_from_s for one in own))  # what was before is not its doing
                if from_s >= until_s:  # what comes after a policy spends nothing of its cap
                    continue
                tank = self._filled(stream, policy, own, spans, notes)
                over = next(tank.full(from_s, until_s), None) if tank else None
                if tank and over:
                    return f"{stream}: {over[1]} micro-rho in {tank.days} days, its cap is {tank.limit_rho_micro}"
        return None

    def _filled(
        self,
        stream: str,
        policy: bytes,
        own: Sequence[Release],
        spans: Sequence[tuple[bytes, int, int]],
        notes: dict[Key, Tank],
    ) -> Tank | None:
        """Returns the tank of a policy's cap with what a message would add; None without a cap, or if none of the
        policies that the stream has had can fill it in the time that it has spoken."""
        plan = self._plan_of(policy)
        cap = plan.streams[stream].stream.cap
        if cap is None:
            return None
        first_s, known = min(one.node.covered_from_s for one in own), notes.get((stream, policy))
        if known is None or known.since_s > first_s - (cap.days + 1) * DAY_S:
            # From a fixed day on: whoever signs ever earlier nodes has days looked at once in a span, not each time.
            since_s = first_s - first_s % (cap.days * DAY_S) - (cap.days + 1) * DAY_S
            known = Tank(plan.streams[stream], plan.calendar, since_s)
            most = max(self._plan_of(of).streams[stream].rho_micro for of, _, _ in spans)
            if known.fits_always(most, max(end_s for _, _, end_s in spans) - min(begin_s for _, begin_s, _ in spans)):
                return None
            for span in spending(self._archive.charged(stream, since_s)):
                known.add(*span)
            notes[stream, policy] = known  # a refusal changes nothing of it
        tank = known.copy()
        tank.charge(_charges(own), partial(self._archive.largest_spend, stream))
        self._tanks[stream, policy] = tank
        return tank

    def _capped(self, policy: bytes) -> bool:
        rules = self._rules_of(policy)
        return rules is not None and rules.capped

    def _plan_of(self, policy: bytes) -> Plan:
        rules = self._rules_of(policy)
        assert rules is not None  # it was published when a node under it was filed, and none is ever taken back
        return rules.plan

    def _uses(self, gateway: str) -> Uses:
        return Uses(self._plan_of, self._archive.uses(gateway))

    def _note_uses(self, message: Message, uses: Uses) -> None:
        """Keeps how the gateway uses its policies, and what its site spent of their caps, once a message is filed."""
        for use in uses.add(message):
            self._archive.put_use(message.gateway, use)
        notes = self._archive.notes(message.site)
        if notes:
            released = {outcome.node.stream for outcome in message.outcomes if isinstance(outcome, Release)}
            for key in [key for key in notes if key[0] in released]:
                del notes[key]  # of a policy that was over: it does not know this message
            notes.update(self._tanks)

    def reconsider(self) -> list[Word]:
        """Judges again, in one commit, what waits for a policy that was published since, as if it came today: of a
        gateway that was revoked meanwhile nothing more is filed, of one that was cloned it goes on waiting, and what
        speaks of a time that has not come waits for it: `left_early` says if any does. What was looked at before, and
        whose policies are unknown still and whose gateway has the same line in the register, is not opened again.

        Returns a word for each message that does not wait any longer. Raises ArchiveWaits if others write for long.
        """
        self.left_early = False
        if not self._concerned():
            return []
        self._latest_s = self._now_s() + AHEAD_S
        words: list[Word] = []
        with self._archive.transaction():
            # Asked again: whoever shares the archive hears of a policy at the same time, and may have been here first.
            concerned = self._concerned()
            waiting = {gateway: self._looked_at(gateway, row) for gateway, row in concerned.items()}
            for stored in self._archive.quarantined("unknown_policy", concerned):
                if stored.id <= concerned[stored.gateway]:
                    continue
                looked = waiting[stored.gateway]
                looked.row = max(looked.row, stored.id)
                enrolment = self._archive.enrolment_line(stored.enrolment)
                if enrolment is None or stored.sealed is None:  # pragma: no cover - foreign key and CHECK forbid it
                    continue
                message = wire.open_message(stored.sealed, enrolment.record_key)
                uses = self._uses(message.gateway)
                objection = self._objection_now(message, uses)
                if objection is None:
                    self._archive.amend(stored, message, "filed")
                    self._note_uses(message, uses)
                    words.append(Stored(stored.gateway, stored.seq, stored.nodes))
                elif objection[2] == "refused":
                    reason = objection[0]
                    if reason == "node_conflict":
                        self._keep_second(message, stored.sealed)
                    self._archive.amend(stored, message, "refused", reason)
                    words.append(_told(message, objection))
                looked.early = looked.early or objection == _EARLY
                named = {outcome.node.policy for outcome in message.outcomes}
                looked.wanted.update(policy for policy in named if self._rules_of(policy) is None)
            self._count(words)
        self._waiting.update(waiting)
        self.left_early = any(looked.early for looked in waiting.values())
        return words

    def _concerned(self) -> dict[str, int]:
        """Returns the gateways of which a message waits that may be judged otherwise than when it was looked at last,
        and the row up to which it is not one of theirs."""
        found: dict[str, int] = {}
        for gateway, newest in self._archive.waiters("unknown_policy").items():
            looked = self._waiting.get(gateway)
            if looked is None or looked.early or looked.line != self._line(gateway) or self._knows(looked.wanted):
                found[gateway] = 0
            elif newest > looked.row:
                found[gateway] = looked.row
        return found

    def _knows(self, policies: Iterable[bytes]) -> bool:
        return any(self._rules_of(policy) is not None for policy in policies)

    def _looked_at(self, gateway: str, row: int) -> _Waiting:
        """Returns what is known of what waits of a gateway up to a row, to be added to."""
        return _Waiting(row, self._line(gateway), set(self._waiting[gateway].wanted) if row else set())

    def _line(self, gateway: str) -> int:
        enrolment = self._archive.enrolment(gateway)
        return enrolment.id if enrolment else 0


def _charges(released: Iterable[Release]) -> list[Charge]:
    return [(one.node.covered_from_s, one.node.end_s, charge_of(one)) for one in released]


def _spans(released: Iterable[Release], uses: Iterable[Use]) -> list[_Span]:
    """Returns from when until when policies are released under: by these nodes, and as it is known."""
    new = [(one.node.policy, one.node.covered_from_s, one.node.end_s) for one in released]
    return new + [(use.policy, use.since_s, use.until_s) for use in uses if use.until_s]


def _misplaced(topic: str | None, said: Message | Health, enrolment: Enrolment) -> tuple[str, str] | None:
    """Returns reason and detail if a message has come on another topic than its own; anybody can have put it there."""
    if topic is None:
        return None
    kind = "health" if isinstance(said, Health) else "release"
    if topic == f"murmure/v1/{enrolment.quartier}/{enrolment.gateway}/{kind}":
        return None
    if _TOPIC.fullmatch(topic) is None:
        return "bad_topic", "not a topic that gateways publish on"
    return "wrong_topic", "the topic is not the one of its gateway, quartier and kind"


def is_early(message: Message, latest_s: float) -> bool:
    """Returns whether nobody can have said this by an instant. A node ends before it is spoken of, but one that is
    withheld since the clock was put forward had only begun."""
    if message.closing_s > latest_s:
        return True
    for outcome in message.outcomes:
        if outcome.node.end_s > latest_s:
            begun = isinstance(outcome, Withheld) and outcome.reason == "clock"
            if not begun or outcome.node.covered_from_s > latest_s:
                return True
    return False


def _told(message: Message, objection: _Objection) -> Conflict | Refused:
    reason, detail, fate = objection
    if reason == "node_conflict":
        return Conflict(message.gateway, message.seq, reason, detail)
    return Refused(reason, detail, fate, message.gateway, message.seq)
