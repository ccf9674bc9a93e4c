"""May a gateway still release under this policy, beside what it has released under newer ones of its site?

Which policies a gateway has heard of nobody can know: one that is offline goes on honestly, for weeks, under one that
was replaced, as long as its days last. But the first node that it makes under a newer policy shows that it has it, and
from then on its older ones end where `murmure_privacy.change` says, in the order of its own messages. What is withheld
tells nothing of anybody and binds nobody. docs/wire.md has the rule in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from murmure_privacy.change import last_s, protects_better, takes_over_s
from murmure_privacy.frozen import quick
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


_use = quick(Use)


class Uses:
    """How one gateway uses the policies of its site, told message by message in any order.

    `plan_of` gives the plan of a policy by its hash; `known` is what was kept of the messages so far.
    """

    def __init__(self, plan_of: Callable[[bytes], Plan], known: Iterable[Use] = ()) -> None:
        self._plan_of = plan_of
        self._known = {(use.stream, use.policy): use for use in known}

    def objection(self, message: Message) -> str | None:
        """Returns None if the gateway may have said this beside all that was added, else one line saying why not.

        Every node fits the policy that it names (`murmure_privacy.audit`).
        """
        policies = {policy for _, policy in self._known}
        policies.update([outcome.node.policy for outcome in message.outcomes])
        if len(policies) < 2:
            return None
        new = _uses_in(message).values()
        for use in new:
            for other in [*self._known.values(), *new]:
                if other.policy != use.policy:
                    older, newer = sorted((use, other), key=self._version)
                    if older.until_s and self._outlived(older, newer):
                        was, now = self._version(older), self._version(newer)
                        return f"{older.stream}: policy {was} was over at this gateway, which had {now}"
        return None

    def add(self, message: Message) -> list[Use]:
        """Adds a message to which there was no objection. Returns the uses that are to be kept anew."""
        changed = []
        for key, use in _uses_in(message).items():
            known = self._known.get(key)
            self._known[key] = use if known is None else _together(known, use)
            changed.append(self._known[key])
        return changed

    def _version(self, use: Use) -> int:
        return self._plan_of(use.policy).policy.version

    def _outlived(self, older: Use, newer: Use) -> bool:
        """Returns whether the last release under the older policy is one that the newer one does not leave room for."""
        if older.stream == newer.stream and older.until_s > newer.since_s:
            return True
        # It was sealed with or after a node under the newer policy, which the gateway had accepted by then.
        return older.last_seq >= newer.first_seq and older.until_s > self._ends_s(older, newer)

    def _ends_s(self, older: Use, newer: Use) -> int:
        """Returns until when the older policy may be released under by who has the newer one; 0: not at all."""
        old, new = self._plan_of(older.policy), self._plan_of(newer.policy)
        own, word = old.streams[older.stream], new.streams.get(older.stream)
        if word is None or new.policy.paused or word.stream.paused or protects_better(word, own):
            return 0
        return min(takes_over_s(own, old.calendar, newer.shown_s), last_s(new))


def _uses_in(message: Message) -> dict[Key, Use]:
    """Returns how one message uses policies."""
    found: dict[Key, Use] = {}
    for outcome in message.outcomes:
        node, seq = outcome.node, message.seq
        last = (node.end_s, seq) if isinstance(outcome, Release) else (0, 0)
        use = _use(node.stream, node.policy, node.covered_from_s, seq, node.covered_from_s, *last)
        key = node.stream, node.policy
        before = found.get(key)
        found[key] = use if before is None else _together(before, use)
    return found


def _together(one: Use, other: Use) -> Use:
    """Returns the use of a policy for a stream in both; the same whichever was there first."""
    first, last = one, one
    if other.first_seq < one.first_seq or (other.first_seq == one.first_seq and other.shown_s < one.shown_s):
        first = other
    if other.until_s > one.until_s or (other.until_s == one.until_s and other.last_seq > one.last_seq):
        last = other
    since_s = one.since_s if one.since_s < other.since_s else other.since_s
    return _use(one.stream, one.policy, since_s, first.first_seq, first.shown_s, last.until_s, last.last_seq)
