"""The policies that stewards have signed for a site, and what the newest of them says of publication now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from murmure_privacy.policies import Rules
from murmure_privacy.policy import Policy

from murmure_dashboards.views import ArchiveReader


@dataclass(frozen=True, slots=True)
class Decisions:
    """A site's policies, newest version first; one that this program cannot read is left out."""

    policies: tuple[Policy, ...]

    def in_force(self, today: date) -> Policy | None:
        """Returns the newest policy that has begun, None before the first. It may be over."""
        return next((policy for policy in self.policies if policy.valid_from <= today), None)

    def pausing(self, stream: str) -> Policy | None:
        """Returns the newest policy where it pauses a stream: a pause acts as soon as it has reached the gateway, also
        before the day from which the policy is valid."""
        newest = self.policies[0] if self.policies else None
        part = newest.stream(stream) if newest else None
        return newest if newest and (newest.paused or (part and part.paused)) else None

    def paused(self, streams: Sequence[str]) -> list[str]:
        """Returns which of these streams are paused."""
        return [stream for stream in streams if self.pausing(stream)]


def decisions(archive: ArchiveReader, rules: Rules, site: str) -> Decisions:
    """Returns what was decided for a site."""
    known = [rules.of(signed.hash) for signed in archive.policies(site)]
    return Decisions(tuple(sorted((one for one in known if one), key=lambda one: one.version, reverse=True)))
