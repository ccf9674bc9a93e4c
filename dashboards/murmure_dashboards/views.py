"""From the archive's outcomes to what a page can say of one stream over some days: amounts, hours, gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import hypot
from typing import Protocol

from murmure_privacy import policy as policies
from murmure_privacy.errors import ConfigError
from murmure_privacy.estimate import Figure, figures
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.release import Outcome, Release, Withheld
from murmure_privacy.stream import QUANTITIES, Quantity
from murmure_privacy.window import LEVELS, Calendar, Window

LATE_S = 900
"""A node that ended less than this ago and has not come is awaited; later it is a gap."""


class StreamInfo(Protocol):
    """What the archive says of a stream."""

    @property
    def site(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def quantity(self) -> str: ...


class ArchiveReader(Protocol):
    """What the pages need of `murmure_ingest.archive.Archive`."""

    def streams(self) -> Sequence[StreamInfo]:
        """Returns every stream that has ever sent a node."""
        ...

    def outcomes(self, stream: str, from_s: int, to_s: int) -> Sequence[Outcome]:
        """Returns the nodes of a stream that intersect `[from_s, to_s)`."""
        ...

    def policy(self, policy_hash: bytes) -> bytes | None:
        """Returns the bytes of a signed policy, or None where the archive has none with this hash."""
        ...


@dataclass(frozen=True, slots=True)
class Amount:
    """A total (counts) or a mean (levels, air) with its 95 % interval, over the seconds that were covered.

    `absent`: the largest share of them that can have gone without a reading; `fills`: what such moments count as, none
    for counts. `margin`: the half-width that the noise alone would give the interval."""

    estimate: float
    low: float
    high: float
    covered_s: int
    absent: float
    fills: tuple[float, ...]
    margin: float


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval of a stream. `state`: `figure`, `gap` (nothing came), `awaited` (too early to know), `before` (the
    first policy was not yet in force), or the reason for which the gateway withheld it. `covered_from_s` is later than
    the start where observation began late."""

    start_s: int
    end_s: int
    state: str
    covered_from_s: int
    amount: Amount | None

    @property
    def missing(self) -> bool:
        """Returns whether there should be a value and is none."""
        return self.state not in ("figure", "awaited", "before")


@dataclass(frozen=True, slots=True)
class StreamView:
    """One stream over a window of whole days. `outcomes` and `figures` are complete: the open data are written from
    them. `scalar` has the figures of the quantity's own indicator whose interval is defined, `withheld` the reasons,
    both by (level, start_s). `rule` is the newest signed policy that the nodes name and its part for the stream. Before
    `first_s` nothing was to be measured."""

    stream: str
    site: str
    quantity: Quantity
    window: Window
    outcomes: tuple[Outcome, ...]
    figures: tuple[Figure, ...]
    scalar: Mapping[tuple[str, int], Figure]
    withheld: Mapping[tuple[str, int], str]
    rule: tuple[Policy, StreamPolicy] | None
    first_s: int
    calendar: Calendar
    now_s: int

    def amount(self, window: Window) -> Amount | None:
        """Returns the total or mean of what was observed in the window, or None where nothing was.

        Adds up the largest nodes first. Two nodes that are added have no released node above them that would tie
        their noise together, since that one would have been taken instead: variances add.
        """
        chosen: list[Figure] = []
        for level in reversed(LEVELS):
            for figure in self.scalar.values():
                inside = window.start_s <= figure.start_s and figure.end_s <= window.end_s
                if (
                    inside
                    and figure.level == level
                    and all(
                        figure.end_s <= other.covered_from_s or other.end_s <= figure.covered_from_s for other in chosen
                    )
                ):
                    chosen.append(figure)
        return _combined(chosen, adds=self.quantity.kind == "count")

    def slots(self, window: Window) -> tuple[Slot, ...]:
        """Returns the window cut at the finest level of hours or coarser that the stream publishes."""
        found = {outcome.node.level for outcome in self.outcomes}
        level = next((level for level in LEVELS[1:] if level in found), "1h")
        slots: list[Slot] = []
        at_s = window.start_s
        while at_s < window.end_s:
            node = self.calendar.node(level, at_s)
            slots.append(self._slot(level, node))
            at_s = node.end_s
        return tuple(slots)

    def day_slot(self, window: Window) -> Slot:
        """Returns a civil day as one slot: what was observed of it, else the reason why there is nothing."""
        amount = self.amount(window)
        if amount is None:
            return self._slot("1d", window)
        return Slot(window.start_s, window.end_s, "figure", window.start_s, amount)

    def _slot(self, level: str, node: Window) -> Slot:
        reason = self.withheld.get((level, node.start_s))
        if reason is not None:
            return Slot(node.start_s, node.end_s, reason, node.start_s, None)
        figure = self.scalar.get((level, node.start_s))
        if figure is not None:
            return Slot(node.start_s, node.end_s, "figure", figure.covered_from_s, _combined([figure], adds=True))
        if node.end_s <= self.first_s:
            return Slot(node.start_s, node.end_s, "before", node.start_s, None)
        state = "awaited" if node.end_s > self.now_s - LATE_S else "gap"
        return Slot(node.start_s, node.end_s, state, node.start_s, None)


def _combined(chosen: Sequence[Figure], adds: bool) -> Amount | None:
    covered_s = sum(figure.end_s - figure.covered_from_s for figure in chosen)
    if not covered_s:
        return None
    estimate = margin = below = above = absent = 0.0
    for figure in chosen:
        share = (figure.end_s - figure.covered_from_s) / covered_s
        weight = 1.0 if adds else share
        if figure.low is None or figure.high is None:
            return None
        estimate += weight * figure.estimate
        margin = hypot(margin, weight * figure.margin)
        # Noise partly cancels; what silent moments hid may all lie on one side.
        below += weight * (figure.estimate - figure.margin - figure.low)
        above += weight * (figure.high - figure.estimate - figure.margin)
        absent += share * figure.absent
    return Amount(
        estimate=estimate,
        low=estimate - margin - max(0.0, below),
        high=estimate + margin + max(0.0, above),
        covered_s=covered_s,
        absent=absent,
        fills=tuple(sorted({f.fill for f in chosen if f.absent and f.fill is not None})),
        margin=margin,
    )


class Rules:
    """The signed policies that the archive's nodes name, each parsed once."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._archive = archive
        self._known: dict[bytes, Policy | None] = {}

    def of(self, policy_hash: bytes) -> Policy | None:
        """Returns the policy, or None where the archive lacks it or a later version wrote it: pages then say that they
        cannot explain it."""
        if policy_hash not in self._known:
            text = self._archive.policy(policy_hash)
            try:
                self._known[policy_hash] = policies.parse(text, "archive") if text is not None else None
            except ConfigError:
                self._known[policy_hash] = None
        return self._known[policy_hash]

    def newest(self, stream: str, outcomes: Sequence[Outcome]) -> tuple[Policy, StreamPolicy] | None:
        """Returns the policy of the last node that was released, and its part for the stream."""
        released = [outcome.node for outcome in outcomes if isinstance(outcome, Release)]
        if not released:
            return None
        policy = self.of(max(released, key=lambda node: node.end_s).policy)
        part = policy.stream(stream) if policy else None
        return (policy, part) if policy and part else None


def view(
    archive: ArchiveReader, rules: Rules, info: StreamInfo, window: Window, calendar: Calendar, now_s: int
) -> StreamView:
    """Returns one stream over a window of whole days: the nodes that begin in it and had ended by `now_s`."""
    days: dict[int, list[Outcome]] = {}
    for outcome in archive.outcomes(info.stream, window.start_s, window.end_s):
        if outcome.node.start_s in window and outcome.node.end_s <= now_s:
            days.setdefault(calendar.day(outcome.node.start_s).start_s, []).append(outcome)
    outcomes = tuple(outcome for _, members in sorted(days.items()) for outcome in members)
    known = tuple(
        figure
        for day_s, members in sorted(days.items())
        for figure in _figures_of_day(tuple(members), calendar.timezone, calendar.day(day_s).end_s <= now_s)
    )
    quantity = QUANTITIES[info.quantity]
    return StreamView(
        stream=info.stream,
        site=info.site,
        quantity=quantity,
        window=window,
        outcomes=outcomes,
        figures=known,
        scalar={
            (f.level, f.start_s): f
            for f in known
            if f.indicator == quantity.printed and f.low is not None and f.high is not None
        },
        withheld={(o.node.level, o.node.start_s): o.reason for o in outcomes if isinstance(o, Withheld)},
        rule=rules.newest(info.stream, outcomes),
        first_s=_first_s(rules, outcomes, window, calendar),
        calendar=calendar,
        now_s=now_s,
    )


def _first_s(rules: Rules, outcomes: Sequence[Outcome], window: Window, calendar: Calendar) -> int:
    """Returns when the stream's first policy came into force, if that is within the window and nothing came earlier:
    what is not measured yet is no gap. A later version may have had one before it, so only the first one counts."""
    if not outcomes:
        return window.start_s
    policy = rules.of(outcomes[0].node.policy)
    if policy is None or policy.version != 1:
        return window.start_s
    return max(window.start_s, min(calendar.midnight(policy.valid_from), outcomes[0].node.start_s))


@lru_cache(maxsize=1024)
def _figures_of_day(outcomes: tuple[Outcome, ...], timezone: str, over: bool) -> tuple[Figure, ...]:
    """Days are estimated one by one, and a day that has not changed since the last page is not estimated again."""
    day = Calendar(timezone).day(outcomes[0].node.start_s)
    return tuple(figures(outcomes, timezone, day.end_s if over else day.start_s))
