"""The nodes of days that are over, each signed message opened once and not at every build, and their figures.

Opening what was signed is most of what a page costs, and a week is asked for by many: pages, bulletins, open data, what
is usual. So the nodes of a stream that touch one civil day, or an hour of today, are kept in the store beside the site
as they were opened, until the archive has a message more for that day or hour. This is no index of the archive's:
whoever builds the site has checked each signature once, and whoever can write its store can write its pages.
"""

from __future__ import annotations

import marshal
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import fields
from functools import cache, lru_cache
from operator import attrgetter
from typing import cast

from murmure_privacy import wire
from murmure_privacy.estimate import Figure
from murmure_privacy.frozen import quick
from murmure_privacy.release import Message, Outcome
from murmure_privacy.window import Calendar, Window

from murmure_dashboards.store import Store
from murmure_dashboards.views import LATE_S, ArchiveReader, figures

KIND, OF_TODAY, FIGURES = "nodes", "hours", "figures"
_HOUR_S = 3600
_RECENT_S = {KIND: 8 * 86_400, OF_TODAY: 86_400 + 3600, FIGURES: 8 * 86_400}
"""A week and the day that runs, and of hours that day, which may be longer by one."""
_DAYS_HELD = 2048
_STREAMS_HELD = 48  # fewer days than are held: what was made since they were read is not asked for again
_QUICK = 1  # level of zlib


_Estimated = tuple[tuple[list[str], int], Sequence[Figure]]
"""The levels of a stream and how many nodes a period has, and the figures of these."""
_figure = quick(Figure)
_told = attrgetter(*(field.name for field in fields(Figure)))


class _Remembered:
    """An archive whose `outcomes` of days that are over come from the store; all else is as the archive says."""

    def __init__(self, archive: ArchiveReader, store: Store, calendar: Calendar, now_s: int) -> None:
        self._archive, self._store, self._calendar, self._now_s = archive, store, calendar, now_s
        self._estimated: dict[tuple[str, int], _Estimated] = {}
        self._recent = lru_cache(maxsize=_STREAMS_HELD)(self._newest)
        self._of_piece = lru_cache(maxsize=_DAYS_HELD)(self._nodes)
        self._not_over = lru_cache(maxsize=_STREAMS_HELD)(archive.outcomes)
        self.began_s = cache(archive.began_s)

    def __getattr__(self, name: str) -> object:
        return getattr(self._archive, name)

    def outcomes(self, stream: str, from_s: int, to_s: int) -> list[Outcome]:
        """Returns the nodes of a stream that intersect [from_s, to_s), as the archive does."""
        if from_s >= to_s:
            return []
        found: list[Outcome] = []
        beyond: Sequence[Outcome] = ()
        at_s = from_s
        while (piece := self._piece(at_s)).end_s <= min(to_s, self._now_s - LATE_S):
            ended, beyond = self._of_piece(stream, piece)
            found += [one for one in ended if one.node.end_s > from_s] if at_s == from_s else ended
            at_s = piece.end_s
        if at_s < to_s:
            beyond = [one for one in self._not_over(stream, at_s, to_s) if one.node.end_s > at_s]
        return [*found, *beyond]

    def figures_of(
        self, stream: str, period: Window, levels: frozenset[str], outcomes: Sequence[Outcome]
    ) -> Sequence[Figure]:
        """Returns the final figures of a period that is over, estimated once."""
        asked = sorted(levels), len(outcomes)
        found = self._estimated.get((stream, period.start_s))
        if found is None or found[0] != asked:
            kept = self._stored(FIGURES, stream, period.start_s)
            found = _read_figures(kept) if kept is not None else None
        if found is None or found[0] != asked:
            made = figures(tuple(outcomes), self._calendar.timezone, levels, True)
            found = asked, made
            ends = [(one.node.start_s, one.node.end_s) for one in outcomes]
            of = Window(
                min([period.start_s, *(start_s for start_s, _ in ends)]),
                max([period.end_s, *(end_s for _, end_s in ends)]),
            )
            self._store.keep(FIGURES, stream, period.start_s, of, _written_figures(asked, made))
        if len(self._estimated) >= _DAYS_HELD:
            self._estimated.clear()
        self._estimated[stream, period.start_s] = found
        return found[1]

    def _piece(self, at_s: int) -> Window:
        """Returns the day of an instant, its hour since midnight where the day is not over."""
        day = self._calendar.day(at_s)
        if day.end_s <= self._now_s - LATE_S:
            return day
        start_s = at_s - (at_s - day.start_s) % _HOUR_S
        return Window(start_s, min(start_s + _HOUR_S, day.end_s))

    def _stored(self, kind: str, stream: str, start_s: int) -> bytes | None:
        """Returns a row of the store. Those of the last days are asked for one after the other, and read together."""
        if start_s < self._now_s - _RECENT_S[kind]:
            return self._store.read(kind, stream, Window(start_s, start_s + 1)).get(start_s)
        return self._recent(kind, stream).get(start_s)

    def _newest(self, kind: str, stream: str) -> dict[int, bytes]:
        return self._store.read(kind, stream, Window(self._now_s - _RECENT_S[kind], self._now_s))

    def _nodes(self, stream: str, day: Window) -> tuple[Sequence[Outcome], Sequence[Outcome]]:
        """Returns the nodes that ended on a day, or in an hour, and those that had begun and ended later."""
        kind = KIND if day.end_s - day.start_s > _HOUR_S else OF_TODAY
        kept = self._stored(kind, stream, day.start_s)
        nodes = _read(kept) if kept is not None else None
        if nodes is None:
            nodes = self._archive.outcomes(stream, day.start_s, day.end_s)
            from_s = min((one.node.start_s for one in nodes), default=day.start_s)
            self._store.keep(kind, stream, day.start_s, Window(min(from_s, day.start_s), day.end_s), _written(nodes))
        ended = bisect_right(nodes, day.end_s, key=lambda one: one.node.end_s)
        return nodes[:ended], nodes[ended:]


def remembered(archive: ArchiveReader, store: Store, calendar: Calendar, now_s: int) -> ArchiveReader:
    """Returns the archive, of which no message of a day that is over is opened twice."""
    return cast(ArchiveReader, _Remembered(archive, store, calendar, now_s))


def _written(outcomes: Sequence[Outcome]) -> bytes:
    nobody = Message("", "", "", 0, 0, b"", 0, tuple(outcomes))
    return zlib.compress(marshal.dumps(wire.flatten(nobody)), _QUICK)


def _read(value: bytes) -> Sequence[Outcome] | None:
    try:
        said = wire.unflatten(marshal.loads(zlib.decompress(value)))
    except (ValueError, EOFError, TypeError, zlib.error):
        return None
    return said.outcomes if isinstance(said, Message) else None


def _written_figures(asked: tuple[list[str], int], made: Sequence[Figure]) -> bytes:
    return zlib.compress(marshal.dumps((asked, [_told(one) for one in made])), _QUICK)


def _read_figures(value: bytes) -> _Estimated | None:
    try:
        asked, told = marshal.loads(zlib.decompress(value))
        return asked, [_figure(*one) for one in told]
    except (ValueError, EOFError, TypeError, zlib.error):
        return None
