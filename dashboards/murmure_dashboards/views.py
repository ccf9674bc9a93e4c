"""From the archive's outcomes to what a page can say of one stream over some days: amounts, hours, gaps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Protocol, runtime_checkable

from murmure_privacy.annotation import Annotation, Note
from murmure_privacy.estimate import Figure, Series
from murmure_privacy.policies import Rules
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.release import Node, Outcome, Withheld
from murmure_privacy.stream import QUANTITIES, Quantity
from murmure_privacy.window import LEVELS, PARTS, Calendar, Window

from murmure_dashboards.journal import LoggedArchive
from murmure_dashboards.months import OrderedArchive

_AFTER_ALL_S = 1 << 40
_HOUR_S = 3600
LATE_S = 900
"""A node that ended less than this ago and has not come is awaited; later it is a gap."""


class StreamInfo(Protocol):
    """What the archive says of a stream."""

    def __hash__(self) -> int: ...
    @property
    def site(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def quantity(self) -> str: ...


class SignedNote(Protocol):
    """A note of stewards, and the bytes that they signed."""

    @property
    def note(self) -> Note: ...
    @property
    def sealed(self) -> bytes: ...


class SignedPolicy(Protocol):
    """A policy of a site: `toml` is what was signed, `hash` the SHA-256 of it, `sealed` carries the signatures."""

    @property
    def hash(self) -> bytes: ...
    @property
    def site(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def toml(self) -> bytes: ...
    @property
    def sealed(self) -> bytes: ...


class NodeReader(Protocol):
    """Whoever has the nodes of streams."""

    def outcomes(self, stream: str, from_s: int, to_s: int) -> Sequence[Outcome]:
        """Returns the nodes of a stream that intersect `[from_s, to_s)`."""
        ...


@runtime_checkable
class Estimator(NodeReader, Protocol):
    """Whoever has the figures of the nodes of streams as well."""

    def figures_of(
        self, stream: str, period: Window, levels: frozenset[str], outcomes: Sequence[Outcome]
    ) -> Sequence[Figure]:
        """Returns the final figures of all nodes of a period of a stream."""
        ...


class ArchiveReader(NodeReader, OrderedArchive, LoggedArchive, Protocol):
    """What the pages need of `murmure_ingest.archive.Archive`."""

    def head_at(self, row: int) -> bytes | None:
        """Returns the running sum over all messages up to a row, or None where there is no such row."""
        ...

    def told_by(self, row: int) -> Iterator[tuple[str, int, int]]:
        """Yields stream, begin and end of the nodes that the filed message of a row brought."""
        ...

    def streams(self) -> Sequence[StreamInfo]:
        """Returns every stream that has ever sent a node."""
        ...

    def policy(self, policy_hash: bytes) -> bytes | None:
        """Returns the bytes of a signed policy, or None where the archive has none with this hash."""
        ...

    def policies(self, site: str | None = None) -> Sequence[SignedPolicy]:
        """Returns all policies (of a site), oldest version first."""
        ...

    def charges(self, site: str, from_s: int) -> Iterable[tuple[str, int, int, int]]:
        """Yields stream, begin, end and micro-rho of every charged node of a site that ends after an instant."""
        ...

    def complete_until(self, stream: str, at_s: int) -> bool:
        """Returns whether nothing of a stream that ends by an instant can come any more."""
        ...

    def annotations(self) -> Sequence[SignedNote]:
        """Returns what stewards said of faulty periods, and what they took back, by site and number."""
        ...


@dataclass(frozen=True, slots=True)
class Amount:
    """A total (counts) or a mean (levels, air) with its 95 % interval, over the seconds that were covered.

    `absent`: the largest share of them that can have gone without a reading; `fills`: what such moments count as, none
    for counts. `margin`: the half-width that the noise alone would give the interval. What is not `publishable` is
    too uncertain to be shown as a number. `faulty_s`: how many of the covered seconds stewards marked as faulty; they
    are in the estimate like the others."""

    estimate: float
    low: float
    high: float
    covered_s: int
    absent: float
    fills: tuple[float, ...]
    margin: float
    publishable: bool
    faulty_s: int


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
    """One stream over a window of whole days. `whole`: the periods that its figures come from. `outcomes` and `figures`
    are those of the nodes that begin in the window: for the open data. `scalar` has the figures of the quantity's own
    indicator whose interval is defined, `withheld` the reasons, both by (level, start_s), also of nodes that only reach
    into the window. `series` estimates any other range. `rule` is the newest signed policy that the nodes name and its
    part for the stream. `levels`: those that it has there, by its nodes and by the policies that these name, or where
    there is no node, by the signed policy in force; none where nobody knows. Before `first_s` nothing was to be
    measured. `marks`: the stewards' annotations that hold, by their beginning; they change no figure."""

    stream: str
    site: str
    quantity: Quantity
    window: Window
    whole: Window
    outcomes: tuple[Outcome, ...]
    figures: tuple[Figure, ...]
    series: Series
    scalar: Mapping[tuple[str, int], Figure]
    withheld: Mapping[tuple[str, int], str]
    rule: tuple[Policy, StreamPolicy] | None
    levels: frozenset[str]
    first_s: int
    marks: tuple[Annotation, ...]
    calendar: Calendar
    now_s: int
    _amounts: dict[Window, Amount | None] = field(init=False, repr=False, compare=False, default_factory=dict)
    _slots: dict[Window, tuple[Slot, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)
    _by_node: dict[tuple[str, int], list[Figure]] = field(init=False, repr=False, compare=False, default_factory=dict)

    @property
    def published(self) -> bool:
        """Returns whether there is any figure."""
        return bool(self.figures)

    def faulty(self, span: Window) -> tuple[Window, ...]:
        """Returns what of a span stewards marked as faulty: apart from each other, in order."""
        return faulty(self.marks, span)

    def faulty_s(self, spans: Iterable[Window]) -> int:
        """Returns how many seconds of these spans, which do not overlap, stewards marked as faulty."""
        return sum(part.end_s - part.start_s for span in spans for part in self.faulty(span))

    def figures_of(self, level: str, start_s: int) -> Sequence[Figure]:
        """Returns the figures that one node gave."""
        if not self._by_node:
            for figure in self.figures:
                self._by_node.setdefault((figure.level, figure.start_s), []).append(figure)
        return self._by_node.get((level, start_s), ())

    def amount(self, window: Window) -> Amount | None:
        """Returns the total or mean of what was observed in the window, or None where nothing was.

        All nodes together give the best estimate of it; a part for which nothing was released is left out. Pages,
        feeds and paper ask for the same ones, in each language.
        """
        if window not in self._amounts:
            self._amounts[window] = self._of(window)
        return self._amounts[window]

    def know(self, amounts: Iterable[tuple[Window, Amount | None]]) -> None:
        """Takes amounts that were worked out before."""
        self._amounts.update(amounts)

    def _of(self, window: Window) -> Amount | None:
        name = self.quantity.printed
        spans = self.series.observed(name, window)
        figure = self.series.over(name, spans, self.now_s)
        inside = [f for f in self.scalar.values() if window.start_s <= f.covered_from_s and f.end_s <= window.end_s]
        return self._amount(figure, spans, {f.fill for f in inside if f.absent}) if figure else None

    def slots(self, window: Window) -> tuple[Slot, ...]:
        """Returns the window cut at the finest level of hours or coarser that the stream publishes."""
        if window not in self._slots:
            self._slots[window] = self._cut(window)
        return self._slots[window]

    def _cut(self, window: Window) -> tuple[Slot, ...]:
        found = {level for level, _ in (*self.scalar, *self.withheld)}
        quarters = {LEVELS[0]}
        if found <= quarters <= self.levels and self.levels.isdisjoint(LEVELS[1:-2]):
            hours = range(window.start_s, window.end_s, _HOUR_S)
            return tuple(self._hour(Window(at_s, at_s + _HOUR_S)) for at_s in hours)
        # What has not come yet is cut as it is to come: a box that has nothing to send every hour is not silent.
        coarse = found - quarters or self.levels - quarters
        level = next((level for level in LEVELS[1:] if level in coarse), "1h")
        parts = [part for part in PARTS if part in found | self.levels] if level in PARTS else [level]
        slots: list[Slot] = []
        at_s = window.start_s
        while at_s < window.end_s:
            # Of the parts of a day, the one that is on or comes next: a policy may leave some out.
            node, part = min((self.calendar.node(part, at_s), part) for part in parts)
            if node.start_s < window.end_s:
                slots.append(self._slot(part, node))
            at_s = node.end_s
        return tuple(slots)

    def _hour(self, hour: Window) -> Slot:
        """Returns an hour of a stream that publishes none, of its quarter-hours up to its end."""
        spans = self.series.observed(self.quantity.printed, hour)
        amount = self.amount(hour) if [span.end_s for span in spans] == [hour.end_s] else None
        if amount is not None:
            return Slot(hour.start_s, hour.end_s, "figure", spans[0].start_s, amount)
        reasons = [why for (_, start_s), why in self.withheld.items() if start_s in hour]
        if reasons and hour.end_s <= self.now_s:
            return Slot(hour.start_s, hour.end_s, reasons[-1], hour.start_s, None)
        return self._slot("1h", hour)

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
            covered = [Window(figure.covered_from_s, figure.end_s)]
            amount = self._amount(figure, covered, (figure.fill,) if figure.absent else ())
            return Slot(node.start_s, node.end_s, "figure", figure.covered_from_s, amount)
        if node.end_s <= self.first_s:
            return Slot(node.start_s, node.end_s, "before", node.start_s, None)
        state = "gap" if self._late(node) else "awaited"
        return Slot(node.start_s, node.end_s, state, node.start_s, None)

    def _late(self, node: Window) -> bool:
        """Returns whether something of an interval that is over should have come by now."""
        late_s = self.now_s - LATE_S
        ends_s = [self.calendar.node(level, node.start_s).end_s for level in self.levels]
        return node.end_s <= late_s and min(ends_s, default=late_s) <= late_s

    def _amount(self, figure: Figure, covered: Sequence[Window], fills: Iterable[float | None]) -> Amount | None:
        if figure.low is None or figure.high is None:
            return None
        return Amount(
            estimate=figure.estimate,
            low=figure.low,
            high=figure.high,
            covered_s=sum(span.end_s - span.start_s for span in covered),
            absent=figure.absent,
            fills=tuple(sorted({fill for fill in fills if fill is not None})),
            margin=figure.margin,
            publishable=figure.publishable,
            faulty_s=self.faulty_s(covered),
        )


def view(
    archive: NodeReader,
    rules: Rules,
    marks: Sequence[Annotation],
    info: StreamInfo,
    window: Window,
    calendar: Calendar,
    now_s: int,
    signed: Sequence[SignedPolicy] = (),
) -> StreamView:
    """Returns one stream over a window of whole days, as of `now_s`. Its figures come from all nodes of the periods
    that the window touches: of whole weeks, where a stream has weeks. `marks`: those that hold, of any stream; they are
    shown beside the figures and change none. `signed`: the policies of its site, oldest version first; they tell what
    is to come where nothing has."""
    seen = archive.outcomes(info.stream, window.start_s, window.end_s)
    levels = rules.levels(info.stream, seen)
    wide = Window(calendar.period(levels, window.start_s).start_s, calendar.period(levels, window.end_s - 1).end_s)
    if wide != window:
        seen = archive.outcomes(info.stream, wide.start_s, wide.end_s)
    periods: dict[int, list[Outcome]] = {}
    for outcome in seen:
        if outcome.node.covered_from_s in wide and outcome.node.end_s <= now_s:
            periods.setdefault(calendar.period(levels, outcome.node.covered_from_s).start_s, []).append(outcome)
    nodes = tuple(outcome for _, members in sorted(periods.items()) for outcome in members)
    known: list[Figure] = []
    for start_s, members in sorted(periods.items()):
        period = calendar.period(levels, start_s)
        if isinstance(archive, Estimator) and period.end_s + LATE_S <= now_s:
            known += archive.figures_of(info.stream, period, levels, members)
        else:
            known += figures(tuple(members), calendar.timezone, levels, period.end_s <= now_s)
    quantity = QUANTITIES[info.quantity]
    outcomes = tuple(outcome for outcome in nodes if outcome.node.start_s in window)
    return StreamView(
        stream=info.stream,
        site=info.site,
        quantity=quantity,
        window=window,
        whole=wide,
        outcomes=outcomes,
        figures=tuple(figure for figure in known if figure.start_s in window),
        series=Series(nodes, calendar.timezone, levels),
        scalar={
            (f.level, f.start_s): f
            for f in known
            if f.indicator == quantity.printed and f.low is not None and f.high is not None and _touches(f, window)
        },
        withheld={
            (o.node.level, o.node.start_s): o.reason
            for o in nodes
            if isinstance(o, Withheld) and _touches(o.node, window)
        },
        rule=rules.newest(info.stream, outcomes),
        levels=rules.levels(info.stream, outcomes)
        or _to_come(rules, signed, info.stream, calendar.civil_day(min(now_s, window.end_s - 1))),
        first_s=_first_s(rules, outcomes, window, calendar),
        marks=marks_of(marks, info.stream, wide),
        calendar=calendar,
        now_s=now_s,
    )


def faulty(marks: Iterable[Annotation], span: Window) -> tuple[Window, ...]:
    """Returns what of a span some marks of one stream, by their beginning, are about: apart from each other, in
    order."""
    found: list[Window] = []
    for mark in marks:
        start_s, end_s = max(mark.from_s, span.start_s), min(mark.to_s, span.end_s)
        if found and start_s <= found[-1].end_s:
            start_s, end_s = found[-1].start_s, max(end_s, found.pop().end_s)
        if start_s < end_s:
            found.append(Window(start_s, end_s))
    return tuple(found)


def marks_of(marks: Iterable[Annotation], stream: str, window: Window) -> tuple[Annotation, ...]:
    """Returns the marks of a stream that reach into a window, by their beginning."""
    found = [m for m in marks if m.stream == stream and m.from_s < window.end_s and m.to_s > window.start_s]
    return tuple(sorted(found, key=lambda mark: (mark.from_s, mark.number)))


def _to_come(rules: Rules, signed: Sequence[SignedPolicy], stream: str, day: date) -> frozenset[str]:
    """Returns the levels of a stream by the policy that is in force on a civil day; none where nobody knows."""
    for one in reversed(signed):
        policy = rules.of(one.hash)
        if policy is not None and policy.valid_from <= day:
            part = policy.stream(stream)
            return frozenset(dict(part.nodes) if part else ())
    return frozenset()


def _touches(one: Figure | Node, window: Window) -> bool:
    return one.start_s < window.end_s and one.end_s > window.start_s


def _first_s(rules: Rules, outcomes: Sequence[Outcome], window: Window, calendar: Calendar) -> int:
    """Returns when the stream's first policy came into force, if that is within the window and nothing came earlier:
    what is not measured yet is no gap. A later version may have had one before it, so only the first one counts."""
    if not outcomes:
        return window.start_s
    policy = rules.of(outcomes[0].node.policy)
    if policy is None or policy.version != 1:
        return window.start_s
    return max(window.start_s, min(calendar.midnight(policy.valid_from), outcomes[0].node.covered_from_s))


@lru_cache(maxsize=1024)
def figures(outcomes: tuple[Outcome, ...], timezone: str, levels: frozenset[str], over: bool) -> tuple[Figure, ...]:
    """Returns the figures of a period. Periods are independent, and one that has not changed since the last page is not
    estimated again."""
    return tuple(Series(outcomes, timezone, levels).figures(_AFTER_ALL_S if over else 0))
