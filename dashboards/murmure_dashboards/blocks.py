"""What each day of a stream gives to the open data: its rows and its lines of the ledger.

They are kept until a node comes that they follow from, which takes them out of the store, or one ends that they do not
tell yet. So at a quarter-hour the day that runs is worked out again only of streams of which something has come.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from murmure_privacy.policies import Rules
from murmure_privacy.release import Outcome
from murmure_privacy.window import Calendar, Window

from murmure_dashboards import codes, opendata, spending
from murmure_dashboards.packed import content_of, segment
from murmure_dashboards.store import Store
from murmure_dashboards.views import LATE_S, NodeReader, StreamInfo, StreamView, view

KIND, TOGETHER = "rows", "rows together"
"""In the store: of a day; of days that are over together."""
_HEAD = struct.Struct("<QQIII")
"""From when and until when it is so; how long the ledger, what is shown, the codes are."""
_HEAD_TOGETHER = struct.Struct("<QQ?32s")
"""Of days together: when the last ends, from when on nothing of them changes, whether they have a row, their sum."""
_LONGEST_S = 170 * 3600
"""A node, the longest of which is a week with a clock change."""
_DAYS_HELD = 1024
_EVER_S = 1 << 60
_BIN = "histogram_s_"


@dataclass(frozen=True, slots=True)
class Block:
    """One civil day of one stream. `packed`: its rows in the file of the month, as `packed.segment` gives them;
    `shown`: those without the bins of histograms, as they are in the files of a neighbourhood, and `codes`: the short
    codes of these, given alike. `ledger`: its lines of ledger.jsonl. `settled_s`: from when on nothing of it changes
    unless something comes late (seconds UTC), None where nobody can say."""

    packed: bytes
    ledger: bytes
    shown: bytes = b""
    codes: bytes = b""
    settled_s: int | None = None

    @property
    def rows(self) -> bytes:
        """Returns its rows as they are in the file of a neighbourhood."""
        return content_of(self.shown)


@dataclass(frozen=True, slots=True)
class Together:
    """Days of one stream. `sum`: of their rows in the file of the month; `begun`: whether there is one; `ledger`: their
    lines of ledger.jsonl."""

    sum: bytes
    begun: bool
    ledger: bytes


def _never(info: StreamInfo, day: Window) -> None:
    return None


class Blocks:
    """Gives the blocks of streams from the store, or else from the archive. Without `store` nothing is kept: for an
    archive as it once was. `seen`: gives the streams over a day that were looked at already."""

    def __init__(
        self,
        archive: NodeReader,
        rules: Rules,
        calendar: Calendar,
        now_s: int,
        store: Store | None,
        seen: Callable[[StreamInfo, Window], StreamView | None] = _never,
    ) -> None:
        self._archive, self._rules, self._calendar, self._now_s = archive, rules, calendar, now_s
        self._store, self._seen = store, seen
        self._held: dict[tuple[str, int], Block] = {}

    def of(self, info: StreamInfo, window: Window) -> Iterator[Block]:
        """Yields the days of a window of whole days that have begun. What the store has of them is read together."""
        until_s = min(window.end_s, self._now_s)  # of a window without a day, the calendar gives the one that it is in
        days = [day for day in self._calendar.days(window) if day.start_s < until_s]
        new = [day for day in days if (info.stream, day.start_s) not in self._held]
        found = self._kept(info.stream, Window(new[0].start_s, new[-1].end_s)) if new else {}
        for day in days:
            key = info.stream, day.start_s
            block = self._held.get(key) or found.get(day.start_s) or self._made(info, day)
            if len(self._held) >= _DAYS_HELD:
                self._held.clear()
            self._held[key] = block
            yield block

    def on(self, info: StreamInfo, day: Window) -> Block:
        """Returns one civil day, which has begun."""
        return next(self.of(info, day))

    def together(self, info: StreamInfo, window: Window) -> Together:
        """Returns what whole days that are over give together. Once nothing of them changes, that is kept as well: a
        month of a town has thirty thousand days of streams, which need not be read to find that they are the same."""
        key = TOGETHER, info.stream, Window(window.start_s, window.start_s + 1)
        kept = self._store.read(*key).get(window.start_s, b"") if self._store else b""
        if len(kept) >= _HEAD_TOGETHER.size:
            end_s, at_s, begun, of = _HEAD_TOGETHER.unpack_from(kept)
            if end_s == window.end_s and at_s + LATE_S <= self._now_s:
                return Together(of, begun, kept[_HEAD_TOGETHER.size :])
        digest, ledger, begun, settled_s = hashlib.sha256(), [], False, 0
        for block in self.of(info, window):
            digest.update(b"%d " % len(block.packed) + block.packed)
            ledger.append(block.ledger)
            begun = begun or bool(block.packed)
            settled_s = _EVER_S if block.settled_s is None else max(settled_s, block.settled_s)
        found = Together(digest.digest(), begun, b"".join(ledger))
        if self._store and settled_s + LATE_S <= self._now_s:
            head = _HEAD_TOGETHER.pack(window.end_s, settled_s, begun, found.sum)
            of_s = Window(window.start_s - _LONGEST_S, max(settled_s, window.end_s))
            self._store.keep(TOGETHER, info.stream, window.start_s, of_s, head + found.ledger)
        return found

    def _kept(self, stream: str, span: Window) -> dict[int, Block]:
        """Returns what the store has of the days of a span that is still so, by the begin of each."""
        found = {}
        for start_s, kept in self._store.read(KIND, stream, span).items() if self._store else ():
            if len(kept) >= _HEAD.size:
                from_s, until_s, *lengths = _HEAD.unpack_from(kept)
                if from_s <= self._now_s < until_s:
                    parts, at = [], _HEAD.size
                    for length in lengths:
                        parts.append(kept[at : at + length])
                        at += length
                    settled_s = from_s if until_s == _EVER_S else None
                    found[start_s] = Block(kept[at:], parts[0], parts[1], parts[2], settled_s)
        return found

    def _made(self, info: StreamInfo, day: Window) -> Block:
        rules, now_s = self._rules, self._now_s
        seen = self._archive.outcomes(info.stream, day.start_s, day.end_s)
        one = self._seen(info, day) or view(self._archive, rules, (), info, day, self._calendar, now_s)
        over = [outcome for outcome in seen if outcome.node.end_s <= now_s]
        lines = spending.lines(info.site, info.stream, over, day, rules, self._calendar)
        told = list(opendata.rows(one, rules, bins=True))
        shown = [row for row in told if not row[6].startswith(_BIN)]
        coded = codes.table(shown).partition(b"\r\n")[2]
        wide = self._archive.outcomes(info.stream, one.whole.start_s, one.whole.end_s) if one.whole != day else seen
        # A policy that the archive lacks may come, and no node with it.
        known = all(rules.of(outcome.node.policy) for outcome in wide if outcome.node.policy)
        from_s, until_s = self._same(rules.levels(info.stream, seen), wide)
        block = Block(
            packed=segment(opendata.lines(told)),
            ledger=b"".join(lines),
            shown=segment(opendata.lines(shown)),
            codes=segment(coded),
            settled_s=from_s if known and until_s == _EVER_S else None,
        )
        if self._store and known:
            of = Window(
                min([one.whole.start_s, *(outcome.node.start_s for outcome in wide)]),
                max([one.whole.end_s, *(outcome.node.end_s for outcome in wide)]),
            )
            parts = (block.ledger, block.shown, block.codes)
            head = _HEAD.pack(from_s, until_s, *map(len, parts))
            self._store.keep(KIND, info.stream, day.start_s, of, b"".join((head, *parts, block.packed)))
        return block

    def _same(self, known: frozenset[str], wide: Sequence[Outcome]) -> tuple[int, int]:
        """Returns from when and until when rows of a stream are the same, if no node of it comes: what they have of the
        clock is which nodes, and which periods, have ended. `known`: its levels on that day; `wide`: all nodes of these
        periods, also those that end later."""
        ends_s = _node_ends(wide) | _period_ends(wide, known, self._calendar)
        before = max((at_s for at_s in ends_s if at_s <= self._now_s), default=0)
        return before, min((at_s for at_s in ends_s if at_s > self._now_s), default=_EVER_S)


def _node_ends(wide: Sequence[Outcome]) -> set[int]:
    return {outcome.node.end_s for outcome in wide}


def _period_ends(wide: Sequence[Outcome], known: frozenset[str], calendar: Calendar) -> set[int]:
    found = set()
    for levels in {known | {outcome.node.level} for outcome in wide}:  # as nodes end, levels may be added
        period = Window(0, 0)
        for node in (outcome.node for outcome in wide):
            for at_s in (node.covered_from_s, node.end_s - 1):
                if at_s not in period:
                    period = calendar.period(levels, at_s)
                    found.add(period.end_s)
    return found
