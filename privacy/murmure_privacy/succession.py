"""May a gateway still release under this policy, beside what it has released under newer ones of its site?

Which policies a gateway has heard of nobody can know: one that is offline goes on honestly, for weeks, under one that
was replaced, as long as its days last. But the first node that it makes under a newer policy shows that it has it, and
from then on its older ones end where `murmure_privacy.change` says, in the order of its own messages. What is withheld
tells nothing of anybody and binds nobody. docs/wire.md has the rule in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from murmure_privacy.change import last_s, protects_better, takes_over_s
from murmure_privacy.plan import Plan
from murmure_privacy.release import Message, Release

Key = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Use:
    """How a gateway has used a policy for a stream, over all its messages so far; instants in seconds UTC.

    `since_s`: the first that a node under it covers. `first_seq`: its first message with such a node, and `shown_s` the
    first instant that one of that message covers. `until_s`: the last that a release covers, 0 if all was withheld, and
    `last_seq` the message in which it came.
    """

    stream: str
    policy: bytes
    since_s: int
    first_seq: int
    shown_s: int
    until_s: int = 0
    last_seq: int = 0

    @property
    def key(self) -> Key:
        """Returns what there is one use of in a gateway's life."""
        return self.stream, self.policy


def uses_in(message: Message) -> list[Use]:
    """Returns how one message uses policies: one for each stream and policy in it."""
    found: dict[Key, Use] = {}
    for outcome in message.outcomes:
        node, seq = outcome.node, message.seq
        use = Use(node.stream, node.policy, node.covered_from_s, seq, node.covered_from_s)
        if isinstance(outcome, Release):
            use = replace(use, until_s=node.end_s, last_seq=seq)
        found[use.key] = together(found[use.key], use) if use.key in found else use
    return list(found.values())


def together(one: Use, other: Use) -> Use:
    """Returns the use of a policy for a stream in both; the same whichever was there first."""
    shown_s, first_seq = min(one.shown_s, other.shown_s), one.first_seq
    if one.first_seq != other.first_seq:
        first_seq, shown_s = min((one.first_seq, one.shown_s), (other.first_seq, other.shown_s))
    until_s, last_seq = max((one.until_s, one.last_seq), (other.until_s, other.last_seq))
    return Use(one.stream, one.policy, min(one.since_s, other.since_s), first_seq, shown_s, until_s, last_seq)


def objection(new: Iterable[Use], known: Iterable[Use], plan_of: Callable[[bytes], Plan]) -> str | None:
    """Returns None if a gateway may have said this beside what is known of it, else one line saying why not.

    `new` are the uses of one message whose nodes fit their policies, `known` those of all others, in any order of
    arrival. `plan_of` gives the plan of a policy by its hash.
    """
    new = list(new)
    plans = {use.policy: plan_of(use.policy) for use in new}
    for other in [*known, *new]:
        for use in new:
            if other.policy == use.policy:
                continue
            if other.policy not in plans:
                plans[other.policy] = plan_of(other.policy)
            older, newer = sorted((use, other), key=lambda one: plans[one.policy].policy.version)
            if older.until_s and _outlived(older, newer, plans[older.policy], plans[newer.policy]):
                versions = plans[older.policy].policy.version, plans[newer.policy].policy.version
                return f"{older.stream}: policy {versions[0]} was over at this gateway, which had {versions[1]}"
    return None


def _outlived(older: Use, newer: Use, older_plan: Plan, newer_plan: Plan) -> bool:
    """Returns whether the last release under the older policy is one that the newer one does not leave room for."""
    if older.stream == newer.stream and older.until_s > newer.since_s:
        return True
    # It was sealed after (or with) a node under the newer policy, which the gateway had accepted by then.
    return older.last_seq >= newer.first_seq and older.until_s > _ends_s(older.stream, older_plan, newer_plan, newer)


def _ends_s(stream: str, older: Plan, newer: Plan, shown: Use) -> int:
    """Returns until when a stream may be released under the older policy by who has the newer one; 0: not at all."""
    own, word = older.streams[stream], newer.streams.get(stream)
    if word is None or newer.policy.paused or word.stream.paused or protects_better(word, own):
        return 0
    return min(takes_over_s(own, older.calendar, shown.shown_s), last_s(newer))
