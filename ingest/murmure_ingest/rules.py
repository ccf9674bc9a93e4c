"""What a signed policy allows, asked of the kernel: each policy is parsed and planned once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple, Protocol

from murmure_privacy.audit import Auditor
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import Policy, parse
from murmure_privacy.release import Outcome
from murmure_privacy.window import calendar

from murmure_ingest.integers import Part, Scale
from murmure_ingest.store import Policies

_POLICIES_CACHED = 20_000
_LATEST_S = 4_102_444_800  # 2100-01-01: beyond it no calendar of ours is worth asking


class Kind(NamedTuple):
    """What a policy wants of each release of one level of one stream, beside its alignment: `slots` are quantity,
    cadence and bounds, `parts` what is said of each indicator. It covers nothing before `first_s` and ends by `last_s`
    (seconds UTC). `kept` is what the index keeps of it: the scale, and what it costs in micro-rho."""

    slots: tuple[str, int, tuple[int, int]]
    parts: tuple[Part, ...]
    first_s: int
    last_s: int
    kept: tuple[Scale, int]


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

    @property
    def timezone(self) -> str:
        """The timezone of its site."""

    @property
    def kinds(self) -> Mapping[tuple[str, str], Kind]:
        """What it wants of a release, by stream and level; of what it pauses it wants none."""

    def check(self, outcome: Outcome) -> str | None:
        """Returns None if the policy allows this outcome, else one line saying what it does not allow."""


class PolicyRules:
    """A parsed and planned policy. Raises ConfigError if the bytes are no policy. `read` stands in for the parser."""

    def __init__(self, toml: bytes, source: str = "policy", read: Callable[[bytes, str], Policy] = parse) -> None:
        policy = read(toml, source)
        self.plan = plan(policy)
        self.site = policy.site
        self.version = policy.version
        self.timezone = policy.timezone
        self.capped = any(stream.cap_rho_micro is not None for stream in self.plan.streams.values())
        self._auditor = Auditor(self.plan, self.plan.calendar)
        self.kinds = _kinds(self.plan)

    def check(self, outcome: Outcome) -> str | None:
        """Returns None if the policy allows this outcome, else one line saying what it does not allow."""
        if outcome.node.end_s > _LATEST_S:
            return "the node lies beyond the year 2100"
        return self._auditor.check(outcome)


def _kinds(plan: Plan) -> dict[tuple[str, str], Kind]:
    """Returns what `Auditor.check` asks of a release, as one comparison. What it asks beside that (alignment, whole
    quarter-hours, presence, the policy's own hash) `Intake._file_usual` asks itself."""
    policy, midnight = plan.policy, plan.calendar.midnight
    first_s = midnight(policy.valid_from)
    last_s = min(midnight(policy.valid_until + timedelta(days=1)), _LATEST_S)
    found = {}
    for name, planned in plan.streams.items():
        stream = planned.stream
        if policy.paused or stream.paused:
            continue
        slots = stream.quantity.name, stream.cadence_ms, stream.bounds
        for level in planned.nodes:
            parts = tuple((i.indicator, i.width, i.sigma_milli, i.rho_micro) for i in level.indicators)
            scale = Scale(policy.hash, stream.cadence_ms, stream.bounds, parts)
            rho_micro = sum(i.rho_micro for i in level.indicators)
            found[name, level.level] = Kind(slots, parts, first_s, last_s, (scale, rho_micro))
    return found


@lru_cache(maxsize=4096)  # all gateways speak of the same few intervals
def aligned_end_s(timezone: str, level: str, start_s: int) -> int | None:
    """Returns where the node of a level that starts at an instant ends; None if none starts there."""
    window = calendar(timezone).node(level, start_s)
    return window.end_s if window.start_s == start_s else None


class RuleBook:
    """The rules of every policy in an archive, by hash; one that is filed later is found as soon as it is there. `read`
    stands in for the parser of policies."""

    def __init__(self, archive: Policies, read: Callable[[bytes, str], Policy] = parse) -> None:
        self._archive, self._read = archive, read
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
            known = self._known[policy_hash] = PolicyRules(toml, read=self._read)
        return known
