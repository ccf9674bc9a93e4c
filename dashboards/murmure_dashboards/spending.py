"""`ledger.jsonl`: what the published nodes have cost, a line for each stream, civil day and policy.

A node is charged on the day on which it begins. `spent_rho_micro` is the most that all charged nodes of the stream
together cost at one instant of that day, whichever policy they name: what a person who was there then has spent.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from murmure_privacy.policies import Rules
from murmure_privacy.published import protects
from murmure_privacy.release import Outcome, Release, Withheld
from murmure_privacy.window import LEVELS, Calendar, Window, utc


def lines(
    site: str, stream: str, outcomes: Sequence[Outcome], window: Window, rules: Rules, calendar: Calendar
) -> Iterator[bytes]:
    """Yields the lines of one stream of the days of a window. `outcomes`: those that intersect it."""
    for day in calendar.days(window):
        mine: dict[bytes, list[Outcome]] = {}
        for outcome in outcomes:
            if outcome.node.start_s in day:
                mine.setdefault(outcome.node.policy, []).append(outcome)
        near = [one for one in outcomes if one.node.covered_from_s < day.end_s and one.node.end_s > day.start_s]
        for policy_hash, members in sorted(mine.items()):
            policy = rules.of(policy_hash)
            part = policy.stream(stream) if policy else None
            nodes = [_level(level, members) for level in sorted({o.node.level for o in members}, key=LEVELS.index)]
            told = {
                "day": calendar.civil_day(day.start_s).isoformat(),
                "start_utc": utc(day.start_s),
                "end_utc": utc(day.end_s),
                "site": site,
                "stream": stream,
                "policy": f"sha256:{policy_hash.hex()}" if policy_hash else None,
                "protects": protects(part) if part else None,
                "epsilon": str(part.epsilon) if part else None,
                "delta": f"{part.delta:f}" if part else None,
                "nodes": nodes,
                "charged_rho_micro": sum(_charge(outcome) for outcome in members),
                "spent_rho_micro": spent(near, day),
            }
            yield json.dumps(told, separators=(",", ":")).encode() + b"\n"


def _level(level: str, members: Iterable[Outcome]) -> dict[str, object]:
    mine = [outcome for outcome in members if outcome.node.level == level]
    released = sum(isinstance(outcome, Release) for outcome in mine)
    reasons = Counter(outcome.reason for outcome in mine if isinstance(outcome, Withheld))
    told = {
        "node": level,
        "released": released,
        "withheld": len(mine) - released,
        "rho_micro": sum(map(_charge, mine)),
    }
    return told | ({"reasons": dict(sorted(reasons.items()))} if reasons else {})


def spent(outcomes: Iterable[Outcome], window: Window) -> int:
    """Returns the most micro-rho that nodes cost at one instant of a window: the sum of those that contain it."""
    steps: dict[int, int] = {}
    for outcome in outcomes:
        node, charge = outcome.node, _charge(outcome)
        start_s, end_s = max(node.covered_from_s, window.start_s), min(node.end_s, window.end_s)
        if charge and start_s < end_s:
            steps[start_s] = steps.get(start_s, 0) + charge
            steps[end_s] = steps.get(end_s, 0) - charge
    return max(accumulate(steps[at_s] for at_s in sorted(steps)), default=0)


def _charge(outcome: Outcome) -> int:
    return sum(noised.rho_micro for noised in outcome.noised) if isinstance(outcome, Release) else 0
