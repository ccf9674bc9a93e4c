"""Was more spent than was signed? All charges of a stream on one line of time, beside the policies they name."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import chain, pairwise

from murmure_privacy.plan import Plan, StreamPlan
from murmure_privacy.release import Node
from murmure_privacy.window import PARTS, Calendar, Window

_FOR_EVER_S = 1 << 62
_SHORTEST_DAY_S = 23 * 3600

Charge = tuple[int, int, int]
"""Begin and end (seconds UTC) of what a node has observed, and its micro-rho."""

Charged = tuple[int, int]
"""An instant (seconds UTC), and what is spent at it, in micro-rho."""


@dataclass(frozen=True, slots=True)
class _Spell:
    """From the first to the last instant that a stream's nodes under one policy have observed."""

    plan: StreamPlan
    calendar: Calendar
    from_s: int
    until_s: int


class Budgets:
    """What each stream may have spent: told of every charged node, then asked about all charges of a stream."""

    def __init__(self) -> None:
        self._spells: dict[str, dict[bytes, _Spell]] = defaultdict(dict)

    def note(self, node: Node, plan: Plan) -> None:
        """Notes the policy that a charged node names."""
        stream = plan.streams.get(node.stream)
        if stream is None:
            return
        spells = self._spells[node.stream]
        known = spells.get(node.policy)
        if known is None:
            spells[node.policy] = _Spell(stream, plan.calendar, node.covered_from_s, node.end_s)
        elif node.covered_from_s < known.from_s or node.end_s > known.until_s:
            from_s, until_s = min(known.from_s, node.covered_from_s), max(known.until_s, node.end_s)
            spells[node.policy] = replace(known, from_s=from_s, until_s=until_s)

    def streams(self) -> list[str]:
        """Returns the streams with a charge."""
        return sorted(self._spells)

    def excesses(self, stream: str, charges: Iterable[Charge]) -> Iterator[tuple[int, str]]:
        """Yields an instant and what was too much there: the spending of that instant against the largest budget of the
        policies that hold then, and the days up to it against their caps. `charges` come by their begin."""
        spells = list(self._spells[stream].values())
        capped = [(s, Tank(s.plan, s.calendar)) for s in spells if s.plan.cap_rho_micro is not None]
        for from_s, to_s, spent in spending(charges):
            budget = max((s.plan.rho_micro for s in spells if s.from_s <= from_s < s.until_s), default=0)
            if spent > budget:
                yield from_s, f"spent {spent} micro-rho of {budget}"
            for _, tank in capped:
                tank.add(from_s, to_s, spent)
        for spell, tank in capped:
            for at_s, total in tank.full(spell.from_s, spell.until_s):
                yield at_s, f"{total} micro-rho in {tank.days} days, above the cap of {tank.limit_rho_micro}"


def spending(charges: Iterable[Charge]) -> Iterator[Charge]:
    """Yields the spans over which the same charges hold, with their sum. `charges` come by their begin."""
    ends: list[tuple[int, int]] = []
    at_s = spent = 0
    for begin_s, end_s, rho_micro in chain(charges, [(_FOR_EVER_S, _FOR_EVER_S, 0)]):
        while ends and ends[0][0] <= begin_s:
            until_s, paid = heappop(ends)
            if until_s > at_s:
                yield at_s, until_s, spent
                at_s = until_s
            spent -= paid
        if begin_s > at_s:
            if spent:
                yield at_s, begin_s, spent
            at_s = begin_s
        spent += rho_micro
        heappush(ends, (end_s, rho_micro))


def first_excess(
    charges: Sequence[Charge], limits: Sequence[Charge], spent: Callable[[int, int], int]
) -> tuple[int, int, int] | None:
    """Returns the first instant at which new charges would cost too much, with the cost and the budget there; None if
    they fit. `limits`: from when until when each policy is used, those of the charges included, and its budget.
    `spent(from_s, until_s)`: the most that is charged already at any instant of a span."""
    edges = sorted({at_s for begin_s, end_s, _ in (*charges, *limits) for at_s in (begin_s, end_s)})
    for from_s, until_s in pairwise(edges):
        new = sum(rho for begin_s, end_s, rho in charges if begin_s <= from_s < end_s)
        if new:
            cost = new + spent(from_s, until_s)
            budget = max(rho for begin_s, end_s, rho in limits if begin_s <= from_s < end_s)
            if cost > budget:
                return from_s, cost, budget
    return None


class Tank:
    """The largest spend of each civil day of a stream, against the cap of one policy (contract 6). `since_s`: what
    ended before is not told to it."""

    def __init__(self, plan: StreamPlan, calendar: Calendar, since_s: int = 0) -> None:
        self.since_s = since_s
        cap, limit = plan.stream.cap, plan.cap_rho_micro
        assert cap is not None and limit is not None
        self._calendar, self.days, self._squared, self.limit_rho_micro = calendar, cap.days, cap.units_per_day**2, limit
        self._parts = not {node.level for node in plan.nodes}.isdisjoint(PARTS)
        # By civil day: from which instant on it has cost how much, rising.
        self._largest: dict[int, tuple[Window, tuple[Charged, ...]]] = {}

    def copy(self) -> Tank:
        """Returns one to which can be added without a change to this one."""
        made = copy(self)
        made._largest = dict(self._largest)
        return made

    def fits_always(self, most_rho_micro: int, span_s: int) -> bool:
        """Returns whether no day can be too much as long as none costs more than that, all within a span of time."""
        days = min(self.days, span_s // _SHORTEST_DAY_S + 2)
        return self._squared * days * most_rho_micro <= self.limit_rho_micro

    def add(self, from_s: int, to_s: int, spent: int) -> None:
        """Counts what was spent at every instant of a span."""
        while from_s < to_s:
            day = self._day(from_s)
            number = self._calendar.civil_day(day.start_s).toordinal()
            _, steps = self._largest.get(number, (day, ()))
            if not any(at_s <= from_s and had >= spent for at_s, had in steps):
                beside = [(at_s, had) for at_s, had in steps if at_s < from_s or had > spent]
                self._largest[number] = day, tuple(sorted([*beside, (from_s, spent)]))
            from_s = day.end_s

    def charge(self, charges: Sequence[Charge], spent: Callable[[int, int], int]) -> None:
        """Counts new charges beside what is charged already, `spent` as in `first_excess`."""
        edges = sorted({at_s for begin_s, end_s, _ in charges for at_s in (begin_s, end_s)})
        for from_s, until_s in pairwise(edges):
            new = sum(rho for begin_s, end_s, rho in charges if begin_s <= from_s < end_s)
            while new and from_s < until_s:
                to_s = min(until_s, self._day(from_s).end_s)
                self.add(from_s, to_s, new + spent(from_s, to_s))
                from_s = to_s

    def full(self, from_s: int, until_s: int) -> Iterator[tuple[int, int]]:
        """Yields the begin of each day within a span that was too much, and what the days up to it have cost. What came
        after the span, on its last day too, is no longer spent under the policy of this cap."""
        span: deque[tuple[int, int]] = deque()
        total = 0
        for number, (day, steps) in sorted(self._largest.items()):
            spent = (
                max((had for at_s, had in steps if at_s < until_s), default=0) if day.end_s > until_s else steps[-1][1]
            )
            span.append((number, spent))
            total += spent
            while span[0][0] <= number - self.days:
                total -= span.popleft()[1]
            if day.start_s < until_s and from_s < day.end_s and self._squared * total > self.limit_rho_micro:
                yield day.start_s, self._squared * total

    def _day(self, at_s: int) -> Window:
        return self._calendar.period(PARTS if self._parts else (), at_s)
