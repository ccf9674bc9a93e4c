"""One sealed message in, one word out: Stored, Duplicate, Heard or Refused. Nothing else files into the archive.

Checks come in an order in which each can trust the ones before: size, topic, register, canonical form and signature,
agreement of topic and payload and register, sequence and chain, policy, audit, place of every node.

What is refused is counted by reason. Whether it is also *remembered* decides what a receipt may say:

- `counted` only: whatever anybody could have sent or re-sent (no valid signature of this gateway, another topic). It
  must leave no trace, or a stranger could settle a gateway's message before the gateway does.
- `refused`: signed by the gateway and never acceptable, whatever happens later. Its hash is kept, so that the receipt
  settles it and lists it as an exception.
- `quarantined`: signed, kept whole, not filed: a person must look (`chain_broken`, `cloned`) or a policy is missing
  (`unknown_policy`; `reconsider` files it once the policy is there).
- `conflict`: signed, but its sequence number belongs to other bytes: evidence is kept, the first message stays.

A chain that broke, one number for two messages, or two releases of one node: two cards speak with one key, of which one
was cloned, or restored from a backup. Which of them stands at the site nobody here can know, so that nothing new of
either is filed any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from murmure_privacy import wire
from murmure_privacy.errors import WireError
from murmure_privacy.release import Message

from murmure_ingest.archive import Archive, Disposition, Enrolment, StoredHealth
from murmure_ingest.rules import Rules

REASONS = (
    "oversized",
    "bad_topic",
    "unknown_gateway",
    "revoked_gateway",
    "malformed",
    "not_canonical",
    "unknown_version",
    "bad_signature",
    "wrong_topic",
    "wrong_site",
    "sequence_conflict",
    "chain_broken",
    "cloned",
    "unknown_policy",
    "not_in_policy",
    "node_conflict",
    "stale_health",
)
"""Every word that a refusal can carry: the first eight are what strangers cause."""

_TOPIC = re.compile(r"murmure/v1/([a-z0-9][a-z0-9_-]{0,39})/([a-z0-9][a-z0-9_-]{0,39})/(release|health)")

Fate = Literal["counted", "refused", "quarantined", "conflict"]


@dataclass(frozen=True, slots=True)
class Stored:
    """The message is new and every node of it is filed."""

    gateway: str
    seq: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """These very bytes are settled already, whatever the word on them was."""

    gateway: str
    seq: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Heard:
    """A health report, kept in place of the one before."""

    gateway: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Not filed. `reason` is one of REASONS; `detail` is for a log and names no value; `gateway` and `seq` are given
    only once the signature was checked."""

    reason: str
    detail: str
    fate: Fate = "counted"
    gateway: str | None = None
    seq: int | None = None


Word = Stored | Duplicate | Heard | Refused
RulesOf = Callable[[bytes], Rules | None]


class Intake:
    """The door of the archive. `rules_of` gives the rules of a policy by its SHA-256, None for an unknown one."""

    def __init__(self, archive: Archive, rules_of: RulesOf) -> None:
        self._archive = archive
        self._rules_of = rules_of

    def accept(self, topic: str, payload: bytes) -> Word:
        """Judges and files one message, durably. Raises ArchiveError if the archive could not keep it."""
        return self.accept_many([(topic, payload)])[0]

    def accept_many(self, arrivals: Iterable[tuple[str, bytes]]) -> list[Word]:
        """Judges and files (topic, payload) pairs in one commit: all words hold together, or ArchiveError is raised
        and nothing was kept."""
        with self._archive.transaction():
            return [self._accept(topic, payload) for topic, payload in arrivals]

    def _accept(self, topic: str, payload: bytes) -> Word:
        try:
            word = self._judge(topic, payload)
        except WireError as error:
            word = Refused(error.reason, error.detail)
        if isinstance(word, Refused):
            self._archive.count(f"refused:{word.reason}")
        elif isinstance(word, Duplicate):
            self._archive.count("duplicates", word.nodes)
        return word

    def _judge(self, topic: str, payload: bytes) -> Word:
        if len(payload) > wire.MESSAGE_LIMIT:
            return Refused("oversized", f"{len(payload)} bytes")
        match = _TOPIC.fullmatch(topic)
        if match is None:
            return Refused("bad_topic", "not a topic that gateways publish on")
        quartier, gateway, kind = match.groups()
        enrolment = self._archive.enrolment(gateway)
        if enrolment is None:
            return Refused("unknown_gateway", "no such gateway in the register")
        if enrolment.status != "active":
            return Refused("revoked_gateway", "the gateway was revoked")
        if quartier != enrolment.quartier:
            return Refused("wrong_topic", "the quartier of the topic is not the registered one")
        if kind == "health":
            return self._hear(payload, enrolment)
        return self._settle(wire.open_message(payload, enrolment.record_key), payload, enrolment)

    def _hear(self, payload: bytes, enrolment: Enrolment) -> Word:
        health = wire.open_health(payload, enrolment.record_key)
        if (health.gateway, health.quartier) != (enrolment.gateway, enrolment.quartier):
            return Refused("wrong_topic", "the report is not from the gateway of its topic")
        report = StoredHealth(health.gateway, health.boot, health.uptime_s, health.at_s, payload)
        if not self._archive.put_health(report):
            return Refused("stale_health", "a later report is there already", gateway=health.gateway)
        return Heard(health.gateway)

    def _settle(self, message: Message, sealed: bytes, enrolment: Enrolment) -> Word:
        gateway, seq = message.gateway, message.seq
        if gateway != enrolment.gateway:
            return Refused("wrong_topic", "the message is not from the gateway of its topic")
        known = self._archive.find(gateway, seq)
        if known is not None:
            if known.hash == wire.digest(sealed):
                return Duplicate(gateway, seq, known.nodes)
            self._archive.put_conflict(message, sealed, "sequence_conflict")
            detail = "another message has this sequence number"
            return Refused("sequence_conflict", detail, "conflict", gateway, seq)
        refusal = self._objection(message, sealed, enrolment)
        if refusal is None:
            self._archive.put(message, sealed, enrolment, "filed")
            return Stored(gateway, seq, len(message.outcomes))
        reason, detail, disposition = refusal
        if reason == "node_conflict":
            self._keep_second(message, sealed)
        self._archive.put(message, sealed, enrolment, disposition, reason)
        return Refused(reason, detail, "refused" if disposition == "refused" else "quarantined", gateway, seq)

    def _objection(self, message: Message, sealed: bytes, enrolment: Enrolment) -> tuple[str, str, Disposition] | None:
        """Returns reason, detail and disposition of what stands against filing a new message of the gateway."""
        if (message.quartier, message.site) != (enrolment.quartier, enrolment.site):
            return "wrong_site", "quartier or site is not the registered one", "refused"
        if not self._chained(message, sealed):
            return "chain_broken", "it does not follow from its neighbours in the sequence", "quarantined"
        if self._archive.cloned(message.gateway):
            return "cloned", "two cards have spoken with its key; enrol the gateway anew", "quarantined"
        return self._content_objection(message)

    def _keep_second(self, message: Message, sealed: bytes) -> None:
        """Keeps a message with a node that has its release. A ledger closes a node once: a gateway that does it twice
        speaks from two cards, however far apart their numbers are; another's node is of one that was replaced."""
        forked = self._archive.released_before(message.outcomes, message.gateway)
        self._archive.put_conflict(message, sealed, "forked_node" if forked else "node_conflict")

    def _chained(self, message: Message, sealed: bytes) -> bool:
        gateway, seq = message.gateway, message.seq
        earlier, later = self._archive.find(gateway, seq - 1), self._archive.find(gateway, seq + 1)
        if seq == 1:
            before = message.previous == wire.FIRST_PREVIOUS
        else:
            before = earlier is None or earlier.hash == message.previous
        after = later is None or later.previous == wire.digest(sealed)
        # Across a hole no hash tells, but a gateway counts its boots, whatever its clock does.
        boot_beside = partial(self._archive.boot_beside, gateway, seq)
        least = boot_beside("before") if earlier is None else None
        most = boot_beside("after") if later is None else None
        return before and after and (least or 0) <= message.boot <= (message.boot if most is None else most)

    def _content_objection(self, message: Message) -> tuple[str, str, Disposition] | None:
        for outcome in message.outcomes:
            rules = self._rules_of(outcome.node.policy)
            if rules is None:
                return "unknown_policy", "the policy it names was never published here", "quarantined"
            if rules.site != message.site:
                return "not_in_policy", "the policy it names is for another site", "refused"
            objection = rules.check(outcome)
            if objection is not None:
                return "not_in_policy", objection, "refused"
        keys = [outcome.node.key for outcome in message.outcomes]
        if len(set(keys)) < len(keys) or self._archive.taken(message.outcomes):
            return "node_conflict", "a node of it has its release already", "refused"
        return None

    def reconsider(self) -> list[Word]:
        """Judges again, in one commit, what waits for a policy that may have been published since.

        Returns a word for each message that does not wait any longer.
        """
        waiting = self._archive.quarantined("unknown_policy")
        if not waiting:
            return []
        words: list[Word] = []
        with self._archive.transaction():
            for stored in waiting:
                enrolment = self._archive.enrolment_line(stored.enrolment)
                if enrolment is None or stored.sealed is None:  # pragma: no cover - foreign key and CHECK forbid it
                    continue
                message = wire.open_message(stored.sealed, enrolment.record_key)
                objection = self._content_objection(message)
                if objection is None:
                    self._archive.amend(stored, message, "filed")
                    words.append(Stored(stored.gateway, stored.seq, stored.nodes))
                elif objection[2] == "refused":
                    reason, detail, disposition = objection
                    if reason == "node_conflict":
                        self._keep_second(message, stored.sealed)
                    self._archive.amend(stored, message, disposition, reason)
                    self._archive.count(f"refused:{reason}")
                    words.append(Refused(reason, detail, "refused", stored.gateway, stored.seq))
        return words
