"""When the next figures of a stream can be there: no promise, since gateways and the centre may stand still."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from murmure_privacy.policies import Rules
from murmure_privacy.policy import Policy
from murmure_privacy.release import Withheld
from murmure_privacy.window import Calendar

from murmure_dashboards.days import Day
from murmure_dashboards.views import LATE_S, StreamView

STOPPED = ("no_policy", "expired", "paused", "cap")
"""Why nothing is released until somebody decides otherwise, or a budget's period ends."""


def due(one: StreamView) -> Iterator[int]:
    """Yields the ends (seconds UTC) of the nodes that are awaited or open now, where the signed policy still holds then
    and nothing has stopped the stream."""
    if one.rule is None or _stopped(one):
        return
    policy, stream = one.rule
    until_s = one.calendar.midnight(policy.valid_until + timedelta(days=1))
    until_s = min([until_s, *(left.span.start_s for left in one.left if left.span.end_s > one.now_s)])
    come = {(outcome.node.level, outcome.node.start_s) for outcome in one.outcomes}
    for level in dict(stream.nodes):
        ended, is_open = (one.calendar.node(level, at_s) for at_s in (one.now_s - LATE_S, one.now_s))
        awaited = ended.end_s <= one.now_s and ended.start_s in one.window and (level, ended.start_s) not in come
        end_s = ended.end_s if awaited else is_open.end_s
        if end_s <= until_s:
            yield end_s


def next_day(policy: Policy | None, was_stopped: bool | None, last: Day, calendar: Calendar, rules: Rules) -> bool:
    """Returns whether the day after `last`, the newest that is over, is to have figures. `policy`: the newest that the
    nodes of the day that the site shows name, `was_stopped`: whether the stream is stopped by these (`stopped`)."""
    policy = policy or (rules.of(last.policy) if last.policy else None)
    if policy is None or policy.valid_until < calendar.civil_day(last.span.end_s):
        return False
    return not ({last.state, last.hole} & set(STOPPED) if was_stopped is None else was_stopped)


def stopped(one: StreamView) -> bool | None:
    """Returns whether the newest node of a stream says that nothing is released until somebody decides otherwise; None
    where nothing has come."""
    return _stopped(one) if one.outcomes else None


def _stopped(one: StreamView) -> bool:
    last = max(one.outcomes, key=lambda outcome: outcome.node.end_s, default=None)
    return isinstance(last, Withheld) and last.reason in STOPPED
