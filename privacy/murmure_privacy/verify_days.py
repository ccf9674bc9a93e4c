"""Estimates by the days of a town whose policies have another timezone: which nodes a site estimates together.

A gateway closes its days, weeks and parts of the day by the timezone of its policy, and a site tells its figures by the
days of its town. Where the two differ, a node may reach from one such day into the next; it is estimated with those of
the period in which it begins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from murmure_privacy.estimate import Figure, Series
from murmure_privacy.publication import DAY_S
from murmure_privacy.release import Outcome
from murmure_privacy.verify_log import Ruled
from murmure_privacy.window import Calendar, Window

_LONGEST_S = 8 * DAY_S  # of a node: a week, and a clock change
_AFTER_ALL_S = 1 << 62


class Days:
    """All nodes of a stream, by the civil days of a calendar. `policies`: those that are known, by their hash."""

    def __init__(self, outcomes: Iterable[Outcome], calendar: Calendar, policies: Mapping[bytes, Ruled]) -> None:
        self._outcomes = sorted(outcomes, key=_start)
        self._calendar, self._policies = calendar, policies
        self._whole: dict[int, tuple[Window, frozenset[str]]] = {}
        self._known: dict[tuple[int, frozenset[str]], list[Figure]] = {}

    def whole(self, at_s: int) -> Window:
        """Returns the span of which every node has to be known for the figures that begin on the day of an instant."""
        return self._around(self._calendar.day(at_s))[0]

    def figures(self) -> Iterator[Figure]:
        """Yields the figures of all nodes, as a site has them."""
        for start_s in sorted({self._calendar.day(outcome.node.start_s).start_s for outcome in self._outcomes}):
            day = self._calendar.day(start_s)
            whole, levels = self._around(day)
            periods: dict[int, list[Outcome]] = defaultdict(list)
            members = self._beginning(whole)
            for outcome in members:
                periods[self._calendar.period(levels, outcome.node.start_s).start_s].append(outcome)
            for at_s, of_period in periods.items():
                if (at_s, levels) not in self._known:
                    self._known[at_s, levels] = self._series(of_period).figures(_AFTER_ALL_S)
                yield from (one for one in self._known[at_s, levels] if one.start_s in day)
            yield from (one for one in self._series(members).bins(_AFTER_ALL_S) if one.start_s in day)

    def _series(self, outcomes: Sequence[Outcome]) -> Series:
        return Series(outcomes, self._calendar.timezone)

    def _around(self, day: Window) -> tuple[Window, frozenset[str]]:
        """Returns the periods that a day touches, and the levels by which they are such."""
        if day.start_s not in self._whole:
            near = self._beginning(Window(day.start_s - _LONGEST_S, day.end_s))
            levels = frozenset(level for one in near if one.node.end_s > day.start_s for level in self._levels(one))
            first, last = (self._calendar.period(levels, at_s) for at_s in (day.start_s, day.end_s - 1))
            self._whole[day.start_s] = Window(first.start_s, last.end_s), levels
        return self._whole[day.start_s]

    def _beginning(self, span: Window) -> Sequence[Outcome]:
        """Returns the nodes that begin in a span."""
        first, last = (bisect_left(self._outcomes, at_s, key=_start) for at_s in (span.start_s, span.end_s))
        return self._outcomes[first:last]

    def _levels(self, outcome: Outcome) -> Iterator[str]:
        """Yields the levels that a stream has by one of its nodes: some may have none yet."""
        yield outcome.node.level
        policy = self._policies.get(outcome.node.policy)
        part = policy.plan.policy.stream(outcome.node.stream) if policy else None
        yield from (level for level, _ in part.nodes) if part else ()


def _start(outcome: Outcome) -> int:
    return outcome.node.start_s
