"""Third part of a check: no span cost more than the `cap` of a policy, and the published ledger says what was spent.

Of days that were read, the nodes say what they cost at each instant. Of other days the accounts say how many nodes of
each level were released: where that is all of them, those that end together have an instant in common, so that at least
their sum was spent. Nobody is accused of more than that.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from murmure_privacy.plan import StreamPlan
from murmure_privacy.publication import DAY_S, Publication, date_of
from murmure_privacy.published import protects
from murmure_privacy.release import Outcome, Release, Withheld
from murmure_privacy.verify_log import Book, Ruled, ends_on
from murmure_privacy.verify_messages import Heard
from murmure_privacy.window import LEVELS, PARTS, Calendar, Window, calendar, parse_utc, utc

LEDGER = "donnees/ledger.jsonl"
_EARLIER = 7  # days (UTC) before a moment on which a node, the longest of which is a week, can have begun

Charge = tuple[int, int, int]
"""Begin and end (seconds UTC) of what a node has observed, and its micro-rho."""


class Spending:
    """What the nodes of a stream cost together."""

    def __init__(self, published: Publication, book: Book, heard: Heard) -> None:
        self.report = book.report
        self._published, self._book, self._heard = published, book, heard

    def caps(self) -> None:
        """No day under a policy with a cap is one too many: units squared times each day's largest spend, over its
        span, stay within it."""
        capped = [
            (policy, stream)
            for policy in self._book.policies.values()
            for stream in policy.plan.streams.values()
            if stream.cap_rho_micro is not None
        ]
        names = {stream.stream.id for _, stream in capped}
        if not names:
            return
        charges: dict[str, list[tuple[bytes, Charge]]] = defaultdict(list)
        least: dict[str, list[tuple[bytes, Charge]]] = defaultdict(list)
        for _, _, outcome in self._heard.nodes.values():
            node = outcome.node
            if node.stream in names:
                charge = node.covered_from_s, node.end_s, _charge(outcome)
                charges[node.stream].append((node.policy, charge))
        for gateway in self._book.gateways.values():
            for day, account in gateway.accounts.items():
                for (stream, version), levels in account.nodes.items():
                    policy = self._book.versions.get((gateway.site, version))
                    if policy is not None and stream in policy.plan.streams:
                        least[stream] += _at_least(policy, stream, day, levels)
        for policy, part in capped:
            name = part.stream.id
            first = next(_excesses(policy, part, charges[name], least=least[name]), None)
            if first is not None:
                where = f"{policy.site} {policy.version}: {name} {date_of(first[0])}"
                self.report.add("cap", f"{where}: {first[1]} > {part.cap_rho_micro}")

    def ledger(self, unread: Collection[int], shown: Collection[tuple[str, str, int]]) -> None:
        """Each line of the ledger about days that were read has what the nodes cost that stand in the tables
        (`shown`), and what their policy promises; and no line is missing of a stream that stands there."""
        data = self._published.read(LEDGER)
        if data is None:
            if shown:
                self.report.add("ledger_wrong", LEDGER)
            return
        nodes: dict[str, dict[int, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
        for key in shown:
            nodes[key[0]][key[2] // DAY_S].append(self._heard.nodes[key][2])
        seen: set[tuple[str, str, Window]] = set()
        for number, line in enumerate(data.splitlines(), 1):
            try:
                told = json.loads(line, object_pairs_hook=_once)
                stream, policy = str(told["stream"]), str(told["policy"] or "").removeprefix("sha256:")
                day = Window(parse_utc(told["start_utc"]), parse_utc(told["end_utc"]))
                read = self._heard.whole(stream, day, unread)
                right = not read or self._right(told, stream, bytes.fromhex(policy), day, nodes[stream])
            except (LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
                self.report.add("ledger_wrong", f"{number}")
                continue
            self.report.beside += read
            if not right or (stream, policy, day) in seen:
                self.report.add("ledger_wrong", f"{stream} {utc(day.start_s)}")
            seen.add((stream, policy, day))
        for stream, of_days in list(nodes.items()):
            for node in (outcome.node for of_day in of_days.values() for outcome in of_day):
                ruled = self._book.policies.get(node.policy)
                if ruled is None:  # it was named, and nobody knows the civil days of its site
                    continue
                days = [dates.day(node.start_s) for dates in self._dates(ruled)]
                if not any((stream, node.policy.hex(), day) in seen for day in days) and all(
                    self._heard.whole(stream, day, unread) for day in days
                ):
                    self.report.add("ledger_wrong", f"{stream} {utc(days[0].start_s)}")

    def _right(
        self, told: Mapping[str, Any], stream: str, policy: bytes, day: Window, nodes: Mapping[int, Sequence[Outcome]]
    ) -> bool:
        """Returns whether a line is of a whole civil day, says what its nodes cost and why they were withheld, and of
        its day, its site and its policy, as far as it says it, what is so. Of a policy that cannot be believed, which
        was named, nobody knows."""
        if _line(told) != _due(_near(nodes, day), policy, day):
            return False
        reasons = {one["node"]: one["reasons"] for one in told["nodes"] if "reasons" in one}
        if reasons and not reasons.items() <= _withheld(_near(nodes, day), policy, day).items():
            return False
        ruled = self._book.policies.get(policy)
        known = self._dates(ruled)
        part = ruled.plan.policy.stream(stream) if ruled else None
        due: dict[str, str | None] = dict.fromkeys(("protects", "epsilon", "delta"))
        if part is not None:
            due = {"protects": protects(part), "epsilon": str(part.epsilon), "delta": f"{part.delta:f}"}
        # Of a part of a day a line could say what that part cost, and pass for the day.
        named = [one.civil_day(day.start_s).isoformat() for one in known if one.day(day.start_s) == day]
        if known and not named:
            return False
        if ruled is not None:
            due["site"] = ruled.site
            if "day" in told and told["day"] not in named:
                return False
        return (ruled is None and policy != b"") or all(told.get(name, text) == text for name, text in due.items())

    def _dates(self, ruled: Ruled | None) -> list[Calendar]:
        """Returns the calendars by which the lines under a policy may be told: those that the site names, for it keeps
        the lines of months that are closed, and the policy's own where it names none."""
        zones = self._published.made.every()
        own = [ruled.plan.calendar] if ruled is not None and None in zones else []
        return [*(calendar(zone) for zone in zones if zone is not None), *own]


def _charge(outcome: Outcome) -> int:
    return sum(noised.rho_micro for noised in outcome.noised) if isinstance(outcome, Release) else 0


# --- the ledger ------------------------------------------------------------------------------------------------------

Line = tuple[int, int, Mapping[str, tuple[int, int, int]]]
"""What is charged to the nodes that begin on a day, the largest spend of the day, and by level how many were released,
withheld, and their micro-rho."""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError where one name stands twice: of two values each reader would take another."""
    told = dict(pairs)
    if len(told) != len(pairs):
        raise ValueError("a name stands twice")
    return told


def _line(told: Mapping[str, Any]) -> Line:
    """Returns what a line says. Raises LookupError, TypeError; ValueError for a level that stands twice, of which
    readers would take one or the other."""
    levels = {one["node"]: (one["released"], one["withheld"], one["rho_micro"]) for one in told["nodes"]}
    if len(levels) != len(told["nodes"]):
        raise ValueError("a level twice")
    return told["charged_rho_micro"], told["spent_rho_micro"], levels


def _withheld(outcomes: Iterable[Outcome], policy: bytes, day: Window) -> Mapping[str, Mapping[str, int]]:
    """Returns how many nodes of a policy that begin on a day were withheld for which reason, by level."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        node = outcome.node
        if isinstance(outcome, Withheld) and node.start_s in day and node.policy == policy:
            found[node.level][outcome.reason] += 1
    return found


def _near(nodes: Mapping[int, Sequence[Outcome]], day: Window) -> Iterator[Outcome]:
    """Yields those that can share a moment with a civil day, of nodes by the day on which they begin. Raises ValueError
    for what is no such day."""
    if not 0 < day.end_s - day.start_s <= 2 * DAY_S:
        raise ValueError("no day")
    for number in range(day.start_s // DAY_S - _EARLIER, -(-day.end_s // DAY_S)):
        yield from nodes.get(number, ())


def _due(outcomes: Iterable[Outcome], policy: bytes, day: Window) -> Line:
    """Returns what the line of a day and a policy has to say. `outcomes`: all that share a moment with it."""
    levels: dict[str, tuple[int, int, int]] = {}
    spans = []
    for outcome in outcomes:
        node, rho = outcome.node, _charge(outcome)
        spans.append((max(node.covered_from_s, day.start_s), min(node.end_s, day.end_s), rho))
        if node.start_s in day and node.policy == policy:
            was = levels.get(node.level, (0, 0, 0))
            out = isinstance(outcome, Release)
            levels[node.level] = was[0] + out, was[1] + (not out), was[2] + rho
    return sum(rho for _, _, rho in levels.values()), _most_at_once(spans), levels


def _most_at_once(charges: Iterable[Charge]) -> int:
    """Returns the most that charges cost together at any instant; those without an instant cost nothing."""
    steps: list[tuple[int, int]] = []
    for from_s, until_s, rho in charges:
        steps += ((from_s, rho), (until_s, -rho)) if from_s < until_s else ()
    # At one instant what ends goes before what begins: nodes are half-open.
    return max(accumulate((rho for _, rho in sorted(steps)), initial=0))


# --- caps ------------------------------------------------------------------------------------------------------------


def _at_least(
    policy: Ruled, stream: str, day: int, levels: Mapping[str, tuple[int, int, int]]
) -> Iterator[tuple[bytes, Charge]]:
    """Yields what was spent at the end of the coarsest level of which all nodes that end on a day were released: every
    finer level of which all were released has a node that ends there. The parts of a day exclude each other."""
    part = policy.plan.streams[stream]
    charges = {}
    for level, (released, _, rho) in levels.items():
        ends = ends_on(policy.plan, level, day) if part.node(level) else ()
        if ends and released == len(ends):
            charges[level] = ends[-1], rho // released
    if charges:
        coarsest = max(charges, key=LEVELS.index)
        at_s = charges[coarsest][0]
        rho = sum(rho for level, (_, rho) in charges.items() if level == coarsest or level not in PARTS)
        yield policy.plan.policy.hash, (at_s - 1, at_s, rho)


def _excesses(
    policy: Ruled,
    part: StreamPlan,
    charges: Sequence[tuple[bytes, Charge]],
    *,
    least: Sequence[tuple[bytes, Charge]],
) -> Iterator[tuple[int, int]]:
    """Yields each day (since 1970, UTC, of its begin) with a charge under a policy that is too much, and what its span
    has cost by then, in order. `charges`: of the nodes that were read; `least`: what was spent at some instants. What
    comes after the last charge under the policy, on the same day too, spends nothing of its cap."""
    assert part.stream.cap is not None
    assert part.cap_rho_micro is not None
    dates, levels = policy.plan.calendar, [node.level for node in part.nodes if node.level != "1w"]
    mine: dict[int, int] = {}
    ends_s = max(
        (until_s for under, (_, until_s, rho) in [*charges, *least] if rho and under == policy.plan.policy.hash),
        default=0,
    )

    def by_day(told: Iterable[tuple[bytes, Charge]]) -> dict[int, int]:
        found: dict[int, list[Charge]] = defaultdict(list)
        for under, (from_s, until_s, rho) in told:
            at_s = from_s
            until_s = min(until_s, ends_s)
            while rho and at_s < until_s:
                day = dates.period(levels, at_s)
                number = dates.civil_day(day.start_s).toordinal()
                # What goes on beyond the day meets in it whatever it meets beyond it.
                found[number].append((at_s, until_s, rho))
                if under == policy.plan.policy.hash:
                    mine[number] = day.start_s
                at_s = day.end_s
        return {number: _most_at_once(of_day) for number, of_day in found.items()}

    # What an account says is not beside what the nodes of its day say: the larger of both holds.
    largest = Counter(by_day(charges)) | Counter(by_day(least))
    for number in sorted(mine):
        span = [rho for at, rho in largest.items() if number - part.stream.cap.days < at <= number]
        total = part.stream.cap.units_per_day**2 * sum(span)
        if total > part.cap_rho_micro:
            yield mine[number] // DAY_S, total
