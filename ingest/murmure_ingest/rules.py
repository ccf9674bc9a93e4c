"""What a signed policy allows, asked of the kernel: each policy is parsed and planned once."""

from __future__ import annotations

from typing import Protocol

from murmure_privacy.audit import Auditor
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import parse
from murmure_privacy.release import Outcome

from murmure_ingest.store import Policies

_POLICIES_CACHED = 20_000
_LATEST_S = 4_102_444_800  # 2100-01-01: beyond it no calendar of ours is worth asking


class Rules(Protocol):
    """One policy as a judge of outcomes."""

    @property
    def site(self) -> str:
        """The one site that the policy is for."""

    @property
    def plan(self) -> Plan:
        """Its noise scales."""

    @property
    def capped(self) -> bool:
        """Whether a stream of it has a cap."""

    def check(self, outcome: Outcome) -> str | None:
        """Returns None if the policy allows this outcome, else one line saying what it does not allow."""


class PolicyRules:
    """A parsed and planned policy. Raises ConfigError if the bytes are no policy."""

    def __init__(self, toml: bytes, source: str = "policy") -> None:
        policy = parse(toml, source)
        self.plan = plan(policy)
        self.site = policy.site
        self.version = policy.version
        self.capped = any(stream.cap_rho_micro is not None for stream in self.plan.streams.values())
        self._auditor = Auditor(self.plan, self.plan.calendar)

    def check(self, outcome: Outcome) -> str | None:
        """Returns None if the policy allows this outcome, else one line saying what it does not allow."""
        if outcome.node.end_s > _LATEST_S:
            return "the node lies beyond the year 2100"
        return self._auditor.check(outcome)


class RuleBook:
    """The rules of every policy in an archive, by hash; one that is filed later is found as soon as it is there."""

    def __init__(self, archive: Policies) -> None:
        self._archive = archive
        self._known: dict[bytes, PolicyRules] = {}  # a policy is never taken back

    def __call__(self, policy_hash: bytes) -> PolicyRules | None:
        """Returns the rules of the policy with this SHA-256, None if the archive does not hold it."""
        known = self._known.get(policy_hash)
        if known is None:
            toml = self._archive.policy(policy_hash)
            if toml is None:
                return None
            if len(self._known) >= _POLICIES_CACHED:
                self._known.clear()
            known = self._known[policy_hash] = PolicyRules(toml)
        return known
