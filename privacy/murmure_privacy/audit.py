"""Is a node one that the signed policy allows? Asked by the centre before filing and by anyone afterwards."""

from __future__ import annotations

from datetime import timedelta

from murmure_privacy.gate import PRESENT_AT_LEAST
from murmure_privacy.plan import Plan
from murmure_privacy.release import Outcome, Release
from murmure_privacy.window import QUARTER_S, Calendar


def check(outcome: Outcome, plan: Plan, calendar: Calendar) -> str | None:
    """Returns None if the node fits the plan of its policy, else one line saying what does not.

    Stream, quantity, level, alignment, covered span, cadence, bounds, indicators and their widths, sigma and rho are
    compared as integers: nothing is recomputed from a value. Whether the policy was still in force at the gateway that
    made the node is for `murmure_privacy.succession` to say, which has its other nodes.
    """
    node = outcome.node
    if node.policy != plan.policy.hash:
        return "the node names another policy"
    stream = plan.streams.get(node.stream)
    level = stream.node(node.level) if stream else None
    if stream is None or level is None:
        return f"the policy has no {node.level} of {node.stream}"
    if (node.quantity, node.cadence_ms, node.bounds) != (
        stream.stream.quantity.name,
        stream.stream.cadence_ms,
        stream.stream.bounds,
    ):
        return "quantity, cadence or bounds are not the policy's"
    aligned = calendar.node(node.level, node.start_s)
    if (node.start_s, node.end_s) != (aligned.start_s, aligned.end_s):
        return "the node is not aligned"
    if node.covered_from_s % QUARTER_S:
        return "the covered part does not begin on a quarter-hour"
    # No gateway opens a node before the first day, not even one that it withholds; after the last they are `expired`.
    if node.covered_from_s < calendar.midnight(plan.policy.valid_from):
        return "the node begins before the policy's first day"
    if isinstance(outcome, Release):
        if node.end_s > calendar.midnight(plan.policy.valid_until + timedelta(days=1)):
            return "the node ends after the policy's last day"
        if plan.policy.paused or stream.stream.paused:
            return "the policy pauses the stream"
        if node.present < PRESENT_AT_LEAST:
            return "the sensor was absent for too long"
        said = [(n.indicator, len(n.integers), n.sigma_milli, n.rho_micro) for n in outcome.noised]
        due = [(i.indicator, i.width, i.sigma_milli, i.rho_micro) for i in level.indicators]
        if said != due:
            return "indicators, sigma or charge are not those of the policy"
    return None
