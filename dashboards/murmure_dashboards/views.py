"""From the archive's outcomes to what a page can say of one stream over some days: amounts, hours, gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol, cast

from murmure_privacy.annotation import Annotation, Note
from murmure_privacy.estimate import Figure, Series
from murmure_privacy.frozen import quick
from murmure_privacy.policies import Rules
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.release import Node, Outcome, Withheld
from murmure_privacy.stream import QUANTITIES, Quantity
from murmure_privacy.window import LEVELS, PARTS, Calendar, Window

from murmure_dashboards.journal import LoggedArchive
from murmure_dashboards.left_out import FOR_EVER_S, History, LeftOut, history
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

    def began_s(self, stream: str) -> int | None:
        """Returns when the first node of a stream that ends ends (seconds UTC), or None without any."""
        ...


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
    measurement had not begun), `left` (the policy in force leaves the stream out), `across` (of a day: it is part of
    figures that reach beyond it), or the reason for which the gateway withheld it.
    `covered_from_s` is later than the start where observation began late."""

    start_s: int
    end_s: int
    state: str
    covered_from_s: int
    amount: Amount | None

    @property
    def missing(self) -> bool:
        """Returns whether there should be a value and is none."""
        return self.state not in ("figure", "awaited", "before", "left", "across")


_slot, _amount, _window = quick(Slot), quick(Amount), quick(Window)  # a town's week has hundreds of thousands


@dataclass(frozen=True, slots=True)
class StreamView:
    """One stream over a window of whole days. `whole`: the periods that its figures come from. `outcomes` and `figures`
    are those of the nodes that begin in the window: for the open data. `scalar` has the figures of the quantity's own
    indicator whose interval is defined, `withheld` the reasons, both by (level, start_s), also of nodes that only reach
    into the window. `series` estimates any other range. `rule` is the newest signed policy that the nodes name and its
    part for the stream. `eras`: from when on it had which levels, in order, by its nodes and by the policies that these
    name, and where nothing has come, by the signed policies in force; none where nobody knows. Before `first_s` nothing
    was measured yet; `left`: when the policies left it out. `marks`: the stewards' annotations that hold, by their
    beginning; they change no figure."""

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
    eras: tuple[tuple[int, frozenset[str]], ...]
    first_s: int
    left: tuple[LeftOut, ...]
    marks: tuple[Annotation, ...]
    calendar: Calendar
    now_s: int
    _amounts: dict[Window, Amount | None] = field(init=False, repr=False, compare=False, default_factory=dict)
    _slots: dict[Window, tuple[Slot, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)
    _by_node: dict[tuple[str, int], list[Figure]] = field(init=False, repr=False, compare=False, default_factory=dict)

    @property
    def levels(self) -> frozenset[str]:
        """Returns the levels that the stream has, or had, in the window or the periods around it."""
        return frozenset[str]().union(*(levels for _, levels in self.eras))

    @property
    def published(self) -> bool:
        """Returns whether there is any figure."""
        return bool(self.figures)

    def faulty(self, span: Window) -> tuple[Window, ...]:
        """Returns what of a span stewards marked as faulty: apart from each other, in order."""
        return faulty(self.marks, span)

    def faulty_s(self, spans: Iterable[Window]) -> int:
        """Returns how many seconds of these spans, which do not overlap, stewards marked as faulty."""
        return sum(part.end_s - part.start_s for span in spans for part in self.faulty(span)) if self.marks else 0

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

    def across(self, window: Window) -> list[Window]:
        """Returns what of a window is in no amount of it although it was measured: of a stream of parts of the day
        alone, what nodes have that reach over an end of it."""
        if not self.levels <= frozenset(PARTS):
            return []
        spans = [Window(one.covered_from_s, one.end_s) for one in self.scalar.values()]
        over = [one for one in spans if any(one.start_s < at_s < one.end_s for at_s in (window.start_s, window.end_s))]
        return [Window(max(one.start_s, window.start_s), min(one.end_s, window.end_s)) for one in over]

    def slots(self, window: Window) -> tuple[Slot, ...]:
        """Returns the window cut at the finest level of hours or coarser that the stream publishes."""
        if window not in self._slots:
            self._slots[window] = self._cut(window)
        return self._slots[window]

    def _cut(self, window: Window) -> tuple[Slot, ...]:
        slots: list[Slot] = []
        at_s = window.start_s
        eras = self.eras or ((window.start_s, frozenset[str]()),)
        ends_s = [*(from_s for from_s, _ in eras[1:]), window.end_s]
        for (_, levels), end_s in zip(eras, ends_s, strict=True):
            end_s = min(end_s, window.end_s)
            if at_s < end_s:
                at_s = self._cut_by(levels, Window(at_s, end_s), window, slots)
        return tuple(slots)

    def _cut_by(self, levels: frozenset[str], span: Window, window: Window, slots: list[Slot]) -> int:
        """Adds the slots of a span of a window in which the stream has these levels, and returns where they end."""
        at_s = span.start_s
        nodes = (*self.scalar, *self.withheld)
        if len(self.eras) > 1:  # else all of them are of the one that there is
            nodes = tuple((level, start_s) for level, start_s in nodes if self._reaches(level, start_s, span))
        found = {level for level, _ in nodes}
        found = found & levels or found
        if LEVELS[0] in found | levels and "1h" not in found | levels:  # hours are made of its quarter-hours
            hours = range(at_s, span.end_s, _HOUR_S)
            slots += (self._hour(Window(start_s, start_s + _HOUR_S), levels) for start_s in hours)
            return hours[-1] + _HOUR_S
        # What has not come yet is cut as it is to come: a box that has nothing to send every hour is not silent.
        coarse = (found or levels) - {LEVELS[0]}
        level = next((level for level in LEVELS[1:] if level in coarse), "1h")
        parts = tuple(part for part in PARTS if part in found | levels) if level in PARTS else (level,)
        for node, part in _nodes(self.calendar, parts, span):
            if node.start_s < span.end_s:
                slot = self._slot(part, node, levels)
                if window.start_s < at_s and node.start_s < at_s:  # the levels before it have told what it overlaps
                    slot = replace(slot, start_s=at_s, covered_from_s=max(at_s, slot.covered_from_s))
                slots.append(slot)
            at_s = node.end_s
        return at_s

    def _reaches(self, level: str, start_s: int, span: Window) -> bool:
        return start_s < span.end_s and self.calendar.node(level, start_s).end_s > span.start_s

    def _hour(self, hour: Window, levels: frozenset[str]) -> Slot:
        """Returns an hour of a stream that publishes none, of its quarter-hours up to its end."""
        spans = self.series.observed(self.quantity.printed, hour)
        amount = self.amount(hour) if [span.end_s for span in spans] == [hour.end_s] else None
        if amount is not None:
            return Slot(hour.start_s, hour.end_s, "figure", spans[0].start_s, amount)
        reasons = [why for (level, start_s), why in self.withheld.items() if level == LEVELS[0] and start_s in hour]
        if reasons and hour.end_s <= self.now_s and not self._no_more(hour, reasons[-1]):
            return Slot(hour.start_s, hour.end_s, reasons[-1], hour.start_s, None)
        return self._slot("1h", hour, levels)

    def day_slot(self, window: Window) -> Slot:
        """Returns a civil day as one slot: what was observed of it, else the reason why there is nothing."""
        amount = self.amount(window)
        if amount is not None:
            return Slot(window.start_s, window.end_s, "figure", window.start_s, amount)
        slot = self._slot("1d", window, self._levels(window))
        return replace(slot, state=self._why(window)) if slot.state == "gap" else slot

    def _why(self, window: Window) -> str:
        """Returns why a day that is over has no figure and no node of its own: the commonest reason of its parts."""
        inside = [one for one in self.slots(self.window) if one.start_s < window.end_s and one.end_s > window.start_s]
        missing = Counter(one.state for one in inside if one.missing)
        if missing:
            return missing.most_common(1)[0][0]
        states = {one.state for one in inside}
        return "across" if "figure" in states else "awaited" if "awaited" in states else "gap"

    def to_have(self, level: str, window: Window) -> bool:
        """Returns whether a window is to have a node of a level at its end."""
        return level in self._levels(window) and not self._no_more(window)

    def _levels(self, window: Window) -> frozenset[str]:
        """Returns the levels that the stream has at the end of a window."""
        begun = [levels for from_s, levels in self.eras if from_s < window.end_s]
        return begun[-1] if begun else frozenset()

    def left_s(self, window: Window) -> int:
        """Returns for how many seconds of a part of its window the stream was to have no figures, since the policies
        left it out."""
        slots = [slot for slot in self.slots(self.window) if slot.state == "left"] if self.left else []
        spans = [(max(one.start_s, window.start_s), min(one.end_s, window.end_s)) for one in slots]
        return sum(max(0, end_s - start_s) for start_s, end_s in spans)

    def _slot(self, level: str, node: Window, levels: frozenset[str]) -> Slot:
        reason = self.withheld.get((level, node.start_s))
        if reason is not None and not self._no_more(node, reason):
            return _slot(node.start_s, node.end_s, reason, node.start_s, None)
        figure = self.scalar.get((level, node.start_s))
        if figure is not None:
            covered = [_window(figure.covered_from_s, figure.end_s)]
            amount = self._amount(figure, covered, (figure.fill,) if figure.absent else ())
            return _slot(node.start_s, node.end_s, "figure", figure.covered_from_s, amount)
        if node.end_s <= self.first_s:
            return Slot(node.start_s, node.end_s, "before", node.start_s, None)
        state = "left" if self._no_more(node) else "gap" if self._late(node, levels) else "awaited"
        return Slot(node.start_s, node.end_s, state, node.start_s, None)

    def _no_more(self, node: Window, reason: str = "no_policy") -> bool:
        """Returns whether an interval has no figure since the policy in force leaves the stream out."""
        return reason == "no_policy" and any(one.holds(node) for one in self.left)

    def _late(self, node: Window, levels: frozenset[str]) -> bool:
        """Returns whether something of an interval that is over should have come by now."""
        late_s = self.now_s - LATE_S
        ends_s = [self.calendar.node(level, node.start_s).end_s for level in levels]
        return node.end_s <= late_s and min(ends_s, default=late_s) <= late_s

    def _amount(self, figure: Figure, covered: Sequence[Window], fills: Iterable[float | None]) -> Amount | None:
        if figure.low is None or figure.high is None:
            return None
        return _amount(
            *(figure.estimate, figure.low, figure.high),
            sum(span.end_s - span.start_s for span in covered),
            figure.absent,
            tuple(sorted({fill for fill in fills if fill is not None})),
            *(figure.margin, figure.publishable),
            self.faulty_s(covered),
        )


@lru_cache(maxsize=64)  # all streams of a town are cut at the same instants
def _nodes(calendar: Calendar, parts: tuple[str, ...], span: Window) -> tuple[tuple[Window, str], ...]:
    """Returns the nodes of a span with their level: of the parts of a day, the one that is on or comes next, since a
    policy may leave some out."""
    found, at_s = [], span.start_s
    while at_s < span.end_s:
        found.append(min((calendar.node(part, at_s), part) for part in parts))
        at_s = found[-1][0].end_s
    return tuple(found)


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
        # By its begin: in a town whose policies have another timezone, observation may begin in the period after it.
        if outcome.node.start_s in wide and outcome.node.end_s <= now_s:
            periods.setdefault(calendar.period(levels, outcome.node.start_s).start_s, []).append(outcome)
    nodes = tuple(outcome for _, members in sorted(periods.items()) for outcome in members)
    known: list[Figure] = []
    for start_s, members in sorted(periods.items()):
        period = calendar.period(levels, start_s)
        if hasattr(archive, "figures_of") and period.end_s + LATE_S <= now_s:
            known += cast(Estimator, archive).figures_of(info.stream, period, levels, members)
        else:
            known += figures(tuple(members), calendar.timezone, levels, period.end_s <= now_s)
    quantity = QUANTITIES[info.quantity]
    told = history(rules, signed, info.stream, calendar)
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
        eras=_eras(rules, told, info.stream, nodes, window, calendar),
        first_s=_first_s(rules, begun(seen, archive.began_s(info.stream), window, now_s), told.first_s, window),
        left=tuple(one for one in told.left if one.span.start_s < window.end_s and one.span.end_s > window.start_s),
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


def _eras(
    rules: Rules, told: History, stream: str, nodes: Sequence[Outcome], window: Window, calendar: Calendar
) -> tuple[tuple[int, frozenset[str]], ...]:
    """Returns from when on a stream has which levels: by the policies that its nodes name, each from its first node on,
    and after the last one by those in force, of which nothing has come. Where one takes over, no node is open."""
    begun: dict[bytes, int] = {}
    named: dict[bytes, set[str]] = {}
    last_s = 0
    for outcome in nodes:
        node = outcome.node
        if node.covered_from_s < begun.get(node.policy, FOR_EVER_S):
            begun[node.policy] = node.covered_from_s
        named.setdefault(node.policy, set()).add(node.level)
        if node.end_s > last_s:
            last_s = node.end_s
    known = {found: policy for found in begun if (policy := rules.of(found))}
    for found, policy in known.items():
        part = policy.stream(stream)
        named[found].update(dict(part.nodes) if part else ())
    eras = [(from_s, frozenset(named[found])) for found, from_s in sorted(begun.items(), key=lambda era: era[1])]
    newest = max((policy.version for policy in known.values()), default=0)
    for span, policy in told.in_force:
        part = policy.stream(stream)
        begin_s = max(span.start_s, last_s)
        if eras:  # the one before it holds until no node of it is open
            period = calendar.period(eras[-1][1], begin_s)
            begin_s = begin_s if begin_s == period.start_s else period.end_s
        if part and begin_s < min(span.end_s, window.end_s) and policy.version > newest:
            eras.append((begin_s, frozenset(dict(part.nodes))))
    return tuple(eras)


def _touches(one: Figure | Node, window: Window) -> bool:
    return one.start_s < window.end_s and one.end_s > window.start_s


@dataclass(frozen=True, slots=True)
class Begun:
    """When the measurement of a stream began, within a window or at an end of it, and the policy that it began by: b""
    where that is not told, as it was before the window or after it."""

    at_s: int
    policy: bytes = b""


def begun(seen: Iterable[Outcome], began_s: int | None, window: Window, now_s: int) -> Begun | None:
    """Returns when the measurement of a stream began: at the first instant that any of its nodes covers. None as long
    as none has ended. `seen`: those that intersect the window; `began_s`: when the first of all that ends ends."""
    if began_s is None or began_s > now_s:
        return None
    if began_s <= window.start_s:
        return Begun(window.start_s)
    nodes = [one.node for one in seen if one.node.end_s <= now_s]
    first = min(nodes, key=lambda node: node.covered_from_s, default=None)
    if first is None or first.covered_from_s >= window.end_s:
        return Begun(window.end_s)
    return Begun(max(window.start_s, first.covered_from_s), first.policy)


def _first_s(rules: Rules, began: Begun | None, decided_s: int | None, window: Window) -> int:
    """Returns since when a stream is measured, if that is within the window: what is not measured yet is no gap. A box
    may be mounted days after its policy came into force, so nothing but the stream's own beginning counts, whatever
    policy is newer. `decided_s`: when the first policy with it came into force, which counts for as long as nothing has
    come. None where the policies before are not held: only a first version tells then that nothing was lost."""
    if began is None:
        return window.start_s if decided_s is None else min(max(window.start_s, decided_s), window.end_s)
    if decided_s is None and began.policy and not _is_first(rules.of(began.policy)):
        return window.start_s
    return began.at_s


def _is_first(policy: Policy | None) -> bool:
    return policy is not None and policy.version == 1


@lru_cache(maxsize=1024)
def figures(outcomes: tuple[Outcome, ...], timezone: str, levels: frozenset[str], over: bool) -> tuple[Figure, ...]:
    """Returns the figures of a period. Periods are independent, and one that has not changed since the last page is not
    estimated again."""
    return tuple(Series(outcomes, timezone, levels).figures(_AFTER_ALL_S if over else 0))
