"""The single door: from an exact aggregate to a release, or to the public fact that there is none.

Whether a node is published depends on policy, clock, ledger and device health, never on a value. Order inside the
caller's transaction: decide, charge, then draw. If the transaction is rolled back, what was drawn was never seen.
"""

from __future__ import annotations

from typing import Protocol

from murmure_privacy.aggregate import Aggregate
from murmure_privacy.errors import BudgetExceeded, PrivacyError
from murmure_privacy.ledger import Ledger
from murmure_privacy.plan import IndicatorPlan, Plan, StreamPlan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Node, Noised, Outcome, Release, Withheld
from murmure_privacy.window import Calendar, Window

PRESENT_AT_LEAST = 10  # twentieths
_DAYS_KEPT = 255  # of the days whose past is known: a week of every stream that a policy can name


class Mechanism(Protocol):
    """What the gate asks of a noise source; `DiscreteGaussian` is the only one outside tests."""

    def prepare(self, indicator: IndicatorPlan) -> None:
        """Makes ready to draw, and raises MechanismError if the source's own bound is above the plan's charge."""

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        """Returns the integers with noise of the planned sigma on each."""


class Gate:
    """Turns aggregates into outcomes and writes the one line that each node gets in the ledger."""

    def __init__(self, ledger: Ledger, mechanism: Mechanism) -> None:
        self._ledger = ledger
        self._mechanism = mechanism
        self._tank = Tank(ledger)

    def release(self, aggregate: Aggregate, plan: Plan, newest: Policy, publish_until_s: int) -> Outcome:
        """Returns the release of a closed node, charged and drawn, or the node withheld with its reason.

        `plan`: of the policy under which the node opened. `newest`: what that policy and all accepted since say of it
        together: what any of them pauses or drops is withheld at once, looser terms wait for their day.
        `publish_until_s`: the earliest end of their validity.
        Raises AlreadyReleased if the node has its line, and PrivacyError if plan and node do not belong together.
        """
        node = aggregate.node
        stream = plan.streams.get(node.stream)
        level = stream.node(node.level) if stream else None
        if stream is None or level is None or node.policy != plan.policy.hash:
            raise PrivacyError(f"{node.stream}: {node.level} is not in the plan it is released under")
        reason = _reason(node, plan.policy, newest, publish_until_s)
        if reason is None and not self._tank.holds(node, stream, plan.calendar):
            reason = "cap"
        if reason is not None:
            return self.withhold(node, reason)
        try:
            self._ledger.charge(node, level.rho_micro, stream.rho_micro)
        except BudgetExceeded:
            return self.withhold(node, "cap")
        return Release(
            node,
            tuple(
                Noised(
                    indicator.indicator,
                    self._mechanism.draw(aggregate.sums[indicator.indicator], indicator),
                    indicator.sigma_milli,
                    indicator.rho_micro,
                )
                for indicator in level.indicators
            ),
        )

    def withhold(self, node: Node, reason: str) -> Withheld:
        """Returns the node withheld for a reason known before the data, and closes it in the ledger."""
        self._ledger.withhold(node, reason)
        return Withheld(node, reason)


class Tank:
    """The optional cap: a day is published whole or withheld whole, by what the days before it have spent.

    A day counts with its largest spend. One of a week that is still open counts with the whole budget of the stream,
    for the week's own node is charged at its end.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._earlier: dict[tuple[str, bytes, Window], int] = {}

    def holds(self, node: Node, stream: StreamPlan, calendar: Calendar) -> bool:
        """Returns whether every day that the node observes fits the cap (True without one)."""
        at_s = node.covered_from_s
        while at_s < node.end_s:
            day = self.day(at_s, stream, calendar)
            if not self.holds_day(day, node.policy, stream, calendar):
                return False
            at_s = day.end_s
        return True

    def holds_day(self, day: Window, policy: bytes, stream: StreamPlan, calendar: Calendar) -> bool:
        """Returns whether a day of a stream under a policy (its hash) fits the cap beside the days before it."""
        cap, limit = stream.stream.cap, stream.cap_rho_micro
        if cap is None or limit is None:
            return True
        key = (stream.stream.id, policy, day)
        if key not in self._earlier:
            # Nothing is added to the days before once this one has begun, so they are looked at once.
            self._earlier = {
                **dict(list(self._earlier.items())[-_DAYS_KEPT:]),
                key: self._before(day, stream, cap.days, calendar),
            }
        spent = self._earlier[key] + max(stream.rho_micro, self._spent(stream, day))
        return cap.units_per_day**2 * spent <= limit

    def day(self, at_s: int, stream: StreamPlan, calendar: Calendar) -> Window:
        """Returns the day that an instant counts in."""
        return calendar.period([level.level for level in stream.nodes if level.level != "1w"], at_s)

    def _before(self, day: Window, stream: StreamPlan, days: int, calendar: Calendar) -> int:
        """Returns the most that the days before this one cost, as far as they lie in one span with it."""
        whole = calendar.period([level.level for level in stream.nodes], day.start_s)
        total, earlier = 0, day
        for _ in range(days - 1):
            earlier = self.day(earlier.start_s - 1, stream, calendar)
            spent = self._spent(stream, earlier)
            # The week that contains this day is still open: its node will be charged to all of its days.
            total += max(stream.rho_micro, spent) if earlier.start_s >= whole.start_s else spent
        return total

    def _spent(self, stream: StreamPlan, day: Window) -> int:
        return self._ledger.spent_rho_micro(stream.stream.id, day.start_s, day.end_s)


def _reason(node: Node, policy: Policy, newest: Policy, publish_until_s: int) -> str | None:
    latest = newest.stream(node.stream)
    if latest is None:
        return "no_policy"
    stream = policy.stream(node.stream)
    if newest.paused or latest.paused or policy.paused or (stream is not None and stream.paused):
        return "paused"
    if node.end_s > publish_until_s:
        return "expired"
    if node.present < PRESENT_AT_LEAST:
        return "sensor_absent"
    return None
