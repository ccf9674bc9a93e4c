"""What the pages of a neighbourhood's day and week show of each stream: told anew, or as a build before has told it.

A stream that closes its hours has nothing new to say at the quarter-hours between them. How it was told is kept in the
store, which drops it as soon as the archive has a node more of the weeks that it was told of; and it is kept until the
next instant at which it would be told otherwise without one: an hour that does not come, a day that is over.
"""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.stream import QUANTITIES, Quantity
from murmure_privacy.window import LEVELS, PARTS, QUARTER_S, Window

from murmure_dashboards import pages, weeks
from murmure_dashboards.answers import Answerer
from murmure_dashboards.chronicle import Chronicler
from murmure_dashboards.config import Quartier, Site
from murmure_dashboards.due import due, stopped
from murmure_dashboards.maker import Build
from murmure_dashboards.room import Room, no_data_elements, of_page
from murmure_dashboards.spans import stretches
from murmure_dashboards.story import Story, Teller
from murmure_dashboards.stretch import Stretch
from murmure_dashboards.usual import WEEKS
from murmure_dashboards.views import LATE_S, Amount, StreamInfo, StreamView
from murmure_dashboards.wording import LANGUAGES, language

KIND = "stories"
"""In the store: of a stream, on the pages of its day and of its week."""
_BEFORE_S = (WEEKS + 2) * 7 * 86_400
"""How long before a week it may be asked for: for what is usual on its first day, and two weeks more for the nodes
around that."""
_HOUR_S = 3600
_QUICK = 1  # level of zlib
_PAGES = (False, True)
"""Of the day, of the week."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One stream on one page. `rule` as in `StreamView`, `published`: whether it has figures there, of which the last
    ends at `last_s`; `due_s`: when nodes end that are awaited or open; `marks`: how many annotations it has, `marked`:
    whether some are told. `pieces`: how it is told, by language, as it stands on the page; there are none on a crowded
    one, where it depends on the others: `stories` then has what is told."""

    quantity: Quantity
    rule: tuple[Policy, StreamPolicy] | None
    published: bool
    last_s: int | None
    due_s: tuple[int, ...]
    marks: int
    marked: bool
    pieces: Mapping[str, str]
    stories: Mapping[str, Story] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A stream as it was told: on each page, with the room that there was. `stopped` as `due.stopped` says."""

    stopped: bool | None
    shown: Mapping[bool, tuple[Room, Shown]]


@dataclass(frozen=True)
class Streams:
    """The streams of a neighbourhood, as the pages of its day and of its week show them."""

    ctx: Build
    quartier: Quartier

    @cached_property
    def sites(self) -> Sequence[Site]:
        """Returns its places, in the order of a page."""
        return self.ctx.city.sites_of(self.quartier.slug)

    @cached_property
    def infos(self) -> Sequence[tuple[Site, StreamInfo]]:
        """Returns its streams with their places, in the order of a page."""
        return [(site, info) for site in self.sites for info in self.ctx.streams_of(site.id)]

    def standing(self, info: StreamInfo) -> tuple[Policy | None, bool | None]:
        """Returns of a stream the newest policy that today's nodes name, and whether it was stopped, None where nothing
        has come today."""
        kept = self._kept.get(info.stream)
        if kept is not None:
            rule = kept.shown[False][1].rule
            return rule and rule[0], kept.stopped
        view = self.ctx.seen(info)
        return view.rule and view.rule[0], stopped(view)

    @cached_property
    def rooms(self) -> Mapping[bool, Room]:
        """Returns the room of the page of the day (False) and of the week (True)."""
        measured = len({site.id for site, _ in self.infos})
        foot = pages.link_elements(self.ctx.links) + no_data_elements(len(self.sites) - measured)
        return {
            week: of_page(measured, [self._marks(info, week) for _, info in self.infos], week, foot) for week in _PAGES
        }

    @cached_property
    def shown(self) -> Mapping[bool, Mapping[str, Shown]]:
        """Returns, of the page of the day and of the week, what it shows of each stream."""
        found: dict[bool, dict[str, Shown]] = {week: {} for week in _PAGES}
        for number, (site, info) in enumerate(self.infos):
            kept = self._kept.get(info.stream)
            same = kept is not None and all(kept.shown[week][0] == self.rooms[week] for week in _PAGES)
            told = kept.shown if kept is not None and same else self._told(number, site, info)
            for week, (_, shown) in told.items():
                found[week][info.stream] = shown
        return found

    def _marks(self, info: StreamInfo, week: bool) -> int:
        kept = self._kept.get(info.stream)
        return kept.shown[week][1].marks if kept is not None else len(self._view(info, week).marks)

    def _view(self, info: StreamInfo, week: bool) -> StreamView:
        if not week:
            return self.ctx.seen(info)
        if info.stream not in self._weeks:
            self._weeks[info.stream] = self._week(info)
        return self._weeks[info.stream]

    @cached_property
    def _weeks(self) -> dict[str, StreamView]:
        return {}

    def _week(self, info: StreamInfo) -> StreamView:
        ctx, today = self.ctx, self.ctx.seen(info)
        before = self._before(info) if weeks.can_be_laid_before(today) else None
        whole = weeks.week(before, today, ctx.marks) if before is not None else None
        if whole is None:
            whole = ctx.view(info, ctx.week)
            whole.know(amounts(self._week_over(info), ctx.now_s))
            whole.know([(ctx.today, today.amount(ctx.today))])
        return whole

    def _told(self, number: int, site: Site, info: StreamInfo) -> Mapping[bool, tuple[Room, Shown]]:
        """Returns a stream told anew, and has it kept where that may be of use."""
        told = {week: (self.rooms[week], self._page(number, site, info, week)) for week in _PAGES}
        ctx, until_s = self.ctx, self._until_s(info)
        crowded = any(room.crowded for room in self.rooms.values())
        if ctx.kept is not None and not crowded and until_s > ctx.now_s + QUARTER_S:
            of = Window(ctx.week.start_s - _BEFORE_S, ctx.today.end_s)
            value = _written(self._key(number, site, info), ctx.now_s, until_s, stopped(ctx.seen(info)), told)
            ctx.kept.store.keep(KIND, info.stream, 0, of, value)
            ctx.keep_glance(site, info, of, until_s)
        return told

    def _page(self, number: int, site: Site, info: StreamInfo, week: bool) -> Shown:
        ctx, view, room = self.ctx, self._view(info, week), self.rooms[week]
        fact = None if week else ctx.fact(site, info)
        window = ctx.week if week else ctx.today
        stories = {}
        for code in LANGUAGES:
            say = language(code)
            teller = Teller(say, room.rows, room.brief, coded=ctx.coded)
            if week:
                habits = self._habits(info)[code]
                stories[code] = teller.week(view, site.name, f"c{number}", [habits] if habits else [])
            else:
                on = ctx.calendar.civil_day(window.end_s - 1)
                answers = Answerer(say, ctx.thresholds, ctx.calendar.zone, on).all(fact, site.dominant) if fact else ()
                stories[code] = teller.today(view, site.name, f"c{number}", answers)
        return Shown(
            quantity=view.quantity,
            rule=view.rule,
            published=view.published,
            last_s=max((figure.end_s for figure in view.scalar.values()), default=None),
            due_s=tuple(due(view)),
            marks=len(view.marks),
            marked=any(story.marks for story in stories.values()),
            pieces={}
            if room.crowded
            else {code: pages.story(language(code), story) for code, story in stories.items()},
            stories=stories,
        )

    def _week_over(self, info: StreamInfo) -> Stretch:
        if info.stream not in self._over:
            self._over[info.stream] = stretches(self.ctx, info, ("week",))["week"]
        return self._over[info.stream]

    @cached_property
    def _over(self) -> dict[str, Stretch]:
        return {}

    def _habits(self, info: StreamInfo) -> Mapping[str, str]:
        """Returns which days of the week that are over were unlike the same weekday of the weeks before, by language:
        those of the days before today, while it runs."""
        before = self._befores.get(info.stream)
        return before.habits if before is not None else self._habits_of(self._week_over(info))

    def _habits_of(self, over: Stretch) -> Mapping[str, str]:
        thresholds = self.ctx.thresholds
        return {code: Chronicler(language(code), thresholds=thresholds).usual(over) for code in LANGUAGES}

    def _before(self, info: StreamInfo) -> weeks.Before | None:
        """Returns a stream on the days of the week before today, as a build before has found it, or else anew; None
        where today cannot be told apart from them."""
        ctx, window = self.ctx, Window(self.ctx.week.start_s, self.ctx.today.start_s)
        key = ctx.key(ctx.follows_from(info))
        value = ctx.store.read(weeks.KIND, info.stream, Window(0, 1)).get(0) if ctx.store else None
        found = weeks.read(key, window, value) if value is not None else None
        if found is None:
            over = self._week_over(info)
            final = amounts(over, ctx.now_s)
            found = weeks.before(ctx.view(info, window), ctx.rules, final, self._habits_of(over))
            if found is not None and ctx.store:
                of = Window(ctx.week.start_s - _BEFORE_S, window.end_s)
                ctx.store.keep(weeks.KIND, info.stream, 0, of, weeks.written(key, found))
        self._befores[info.stream] = found
        return found

    @cached_property
    def _befores(self) -> dict[str, weeks.Before | None]:
        return {}

    # --- Kept ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _kept(self) -> Mapping[str, _Kept]:
        """Returns how builds before have told streams, of those of which the same is to be told now."""
        kept = self.ctx.kept
        if kept is None:
            return {}
        found = {}
        for number, (site, info) in enumerate(self.infos):
            value = kept.store.read(KIND, info.stream, Window(0, 1)).get(0)
            one = self._read(info, self._key(number, site, info), value) if value is not None else None
            if one is not None:
                found[info.stream] = one
        return found

    def _key(self, number: int, site: Site, info: StreamInfo) -> str:
        return self.ctx.key(self._made_of(number, site, info))

    def _made_of(self, number: int, site: Site, info: StreamInfo) -> Mapping[str, object]:
        """Returns all that a stream is told by, by name, besides its nodes of these weeks, the instant, and the room of
        a page."""
        return {"number": number, "coded": self.ctx.coded, **self.ctx.follows_from(info)}

    def _until_s(self, info: StreamInfo) -> int:
        """Returns the next instant at which a stream may be told otherwise though nothing has come: this one, while
        that may be at any time. What is compared with the clock begins or ends with a node, on the hour but for
        quarter-hours; what ended then has some minutes more to come."""
        ctx, week = self.ctx, self._view(info, True)
        levels = week.levels if week.outcomes else frozenset()
        hour_s = ctx.now_s - ctx.now_s % _HOUR_S
        if not levels or LEVELS[0] in levels:
            return ctx.now_s
        if ctx.now_s < hour_s + LATE_S and (self._day_ended(hour_s) or _awaited(week, levels, hour_s)):
            return ctx.now_s
        # What a page awaits by a policy that no node names yet will be late as well.
        if _shows_late(self._view(info, False)) or _shows_late(week):
            return ctx.now_s
        return hour_s + _HOUR_S

    def _day_ended(self, at_s: int) -> bool:
        """Returns whether a day, or a part of one, ended at an instant: it is over some minutes later."""
        return any(self.ctx.calendar.node(level, at_s).start_s == at_s for level in ("6h", *PARTS))

    def _read(self, info: StreamInfo, key: str, value: bytes) -> _Kept | None:
        try:
            held, made_s, until_s, was_stopped, told = marshal.loads(zlib.decompress(value))
            if held != key or not made_s <= self.ctx.now_s < until_s:
                return None
            return _Kept(was_stopped, {week: self._again(info, *of_page) for week, of_page in told.items()})
        except (ValueError, EOFError, TypeError, zlib.error):
            return None

    def _again(self, info: StreamInfo, room: tuple[int, bool], policy: bytes, *said: Any) -> tuple[Room, Shown]:
        """Returns what a page showed of a stream, from what `_written` has of it."""
        known = self.ctx.rules.of(policy) if policy else None
        part = known.stream(info.stream) if known else None
        return Room(*room), Shown(QUANTITIES[info.quantity], (known, part) if known and part else None, *said)


def _awaited(view: StreamView, levels: Iterable[str], at_s: int) -> bool:
    """Returns whether a node that ended at an instant has not come."""
    come = {(outcome.node.level, outcome.node.start_s) for outcome in view.outcomes}
    ended = [(level, view.calendar.node(level, at_s - 1)) for level in levels]
    return any(node.end_s == at_s and (level, node.start_s) not in come for level, node in ended)


def _shows_late(view: StreamView) -> bool:
    """Returns whether a page shows an interval as awaited that is over: some minutes later it is a gap."""
    return any(slot.state == "awaited" and slot.end_s <= view.now_s for slot in view.slots(view.window))


def amounts(over: Stretch, now_s: int) -> Iterator[tuple[Window, Amount | None]]:
    """Yields the civil days of a stretch that are final, each with what was worked out of it on the day it ended."""
    for day in over.days:
        if day.of == day.span and day.state != "before" and day.over(now_s):
            yield day.span, over.as_amount(day.amount, [day])


def _written(
    key: str, made_s: int, until_s: int, was_stopped: bool | None, told: Mapping[bool, tuple[Room, Shown]]
) -> bytes:
    of_pages = {
        week: (
            (room.rows, room.brief),
            one.rule[0].hash if one.rule else b"",
            *(one.published, one.last_s, one.due_s, one.marks, one.marked),
            dict(one.pieces),
        )
        for week, (room, one) in told.items()
    }
    return zlib.compress(marshal.dumps((key, made_s, until_s, was_stopped, of_pages)), _QUICK)
