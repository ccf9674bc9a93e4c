"""Is a node one that the signed policy allows? Asked by the centre before filing and by anyone afterwards."""

from __future__ import annotations

from datetime import timedelta

from murmure_privacy.gate import PRESENT_AT_LEAST
from murmure_privacy.plan import Plan
from murmure_privacy.release import Outcome, Release
from murmure_privacy.window import QUARTER_S, Calendar


class Auditor:
    """What one policy allows, looked up once for all its nodes."""

    def __init__(self, plan: Plan, calendar: Calendar) -> None:
        self._policy, self._calendar = plan.policy.hash, calendar
        self._first_s = calendar.midnight(plan.policy.valid_from)
        self._last_s = calendar.midnight(plan.policy.valid_until + timedelta(days=1))
        self._due = {
            (name, level.level): (
                (stream.stream.quantity.name, stream.stream.cadence_ms, stream.stream.bounds),
                plan.policy.paused or stream.stream.paused,
                [(i.indicator, i.width, i.sigma_milli, i.rho_micro) for i in level.indicators],
            )
            for name, stream in plan.streams.items()
            for level in stream.nodes
        }

    def check(self, outcome: Outcome) -> str | None:
        """Returns None if the node fits the plan of its policy, else one line saying what does not.

        Stream, quantity, level, alignment, covered span, cadence, bounds, indicators and their widths, sigma and rho
        are compared as integers: nothing is recomputed from a value. Whether the policy was still in force at the
        gateway that made the node is for `murmure_privacy.succession` to say, which has its other nodes.
        """
        node = outcome.node
        if node.policy != self._policy:
            return "the node names another policy"
        due = self._due.get((node.stream, node.level))
        if due is None:
            return f"the policy has no {node.level} of {node.stream}"
        slots, paused, indicators = due
        if (node.quantity, node.cadence_ms, node.bounds) != slots:
            return "quantity, cadence or bounds are not the policy's"
        aligned = self._calendar.node(node.level, node.start_s)
        if node.start_s != aligned.start_s or node.end_s != aligned.end_s:
            return "the node is not aligned"
        if node.covered_from_s % QUARTER_S:
            return "the covered part does not begin on a quarter-hour"
        # No gateway opens a node before the first day, not even one that it withholds; after the last they are
        # `expired`.
        if node.covered_from_s < self._first_s:
            return "the node begins before the policy's first day"
        if isinstance(outcome, Release):
            if node.end_s > self._last_s:
                return "the node ends after the policy's last day"
            if paused:
                return "the policy pauses the stream"
            if node.present < PRESENT_AT_LEAST:
                return "the sensor was absent for too long"
            said = [(n.indicator, len(n.integers), n.sigma_milli, n.rho_micro) for n in outcome.noised]
            if said != indicators:
                return "indicators, sigma or charge are not those of the policy"
        return None


def check(outcome: Outcome, plan: Plan, calendar: Calendar) -> str | None:
    """Returns what an Auditor says of one node."""
    return Auditor(plan, calendar).check(outcome)
