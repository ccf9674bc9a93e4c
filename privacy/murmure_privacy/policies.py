"""The signed policies that released nodes name, as whoever estimates and explains the nodes asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from murmure_privacy.errors import ConfigError
from murmure_privacy.policy import Policy, StreamPolicy, parse
from murmure_privacy.release import Outcome, Release


class PolicyReader(Protocol):
    """Whoever keeps signed policies by hash, as the archive does."""

    def policy(self, policy_hash: bytes) -> bytes | None:
        """Returns the bytes of a signed policy, or None where there is none with this hash."""
        ...


class Rules:
    """The signed policies that the archive's nodes name, each parsed once. `read` stands in for the parser."""

    def __init__(self, archive: PolicyReader, read: Callable[[bytes, str], Policy] = parse) -> None:
        self._archive, self._read = archive, read
        self._known: dict[bytes, Policy | None] = {}

    def of(self, policy_hash: bytes) -> Policy | None:
        """Returns the policy, or None where the archive lacks it or a later version wrote it: pages then say that they
        cannot explain it."""
        if policy_hash not in self._known:
            text = self._archive.policy(policy_hash)
            try:
                self._known[policy_hash] = self._read(text, "archive") if text is not None else None
            except ConfigError:
                self._known[policy_hash] = None
        return self._known[policy_hash]

    def levels(self, stream: str, outcomes: Sequence[Outcome]) -> frozenset[str]:
        """Returns the levels that a stream has, by its nodes and by the policies that these name: some may have no node
        yet."""
        found = {outcome.node.level for outcome in outcomes}
        for policy_hash in {outcome.node.policy for outcome in outcomes}:
            policy = self.of(policy_hash)
            part = policy.stream(stream) if policy else None
            found |= {level for level, _ in part.nodes} if part else set()
        return frozenset(found)

    def newest(self, stream: str, outcomes: Sequence[Outcome]) -> tuple[Policy, StreamPolicy] | None:
        """Returns the policy of the last node that was released, and its part for the stream."""
        released = [outcome.node for outcome in outcomes if isinstance(outcome, Release)]
        if not released:
            return None
        policy = self.of(max(released, key=lambda node: node.end_s).policy)
        part = policy.stream(stream) if policy else None
        return (policy, part) if policy and part else None
