"""What a neighbourhood says elsewhere than on its pages: in a feed, on paper, by telephone.

All of it is about days that are over. So it is made once a day, and again only where something came late, stewards said
something, or the town's own words have changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from murmure_privacy.window import Window

from murmure_dashboards import daily
from murmure_dashboards.bulletin import STYLE, bulletin, printed, style
from murmure_dashboards.config import Quartier
from murmure_dashboards.daily import Said
from murmure_dashboards.facts import Fact
from murmure_dashboards.feed import feed
from murmure_dashboards.kept import PAST, Words
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.pages import Link, address
from murmure_dashboards.paging import parts
from murmure_dashboards.spoken import message, telephone
from murmure_dashboards.usual import WEEKS
from murmure_dashboards.views import LATE_S, StreamView
from murmure_dashboards.wording import LANGUAGES, Language, language

FOLLOW = "suivre/"
QUARTIERS_A_PAGE = 50
_BEFORE_S = (WEEKS + 1) * 7 * 86_400
"""How far back a day that is over may ask: for what is usual on it, and a week more for the nodes around that."""


def outputs(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the outputs of each neighbourhood in each language."""
    yield STYLE, style()
    since_s = ctx.days_over[0].start_s - _BEFORE_S if ctx.days_over else 0
    words = Words(ctx.kept.store, since_s, ctx.kept.draw) if ctx.kept and ctx.days_over else None
    everywhere = _everywhere(ctx)
    for quartier in ctx.city.quartier:
        told = _Told(ctx, quartier, words, everywhere)
        yield from ctx.unless_kept(quartier.slug, told.made_of, told.spoken(), PAST, told.lasts)
        for code in LANGUAGES:
            for large in (False, True):
                sheet = printed(code, quartier, large)
                if ctx.press:
                    ctx.press.spare(sheet)
                of = told.made_of and (told.made_of, ctx.press is None)
                yield from ctx.unless_kept(sheet, of, told.paper(language(code), large), PAST, told.lasts_on_paper)


@dataclass(frozen=True)
class _Told:
    """What one neighbourhood says. `words`: of what the archive has of its streams, None where nothing is kept.
    `everywhere`: as `_everywhere` gives it."""

    ctx: Build
    quartier: Quartier
    words: Words | None
    everywhere: str

    @cached_property
    def made_of(self) -> Mapping[str, object] | None:
        """Returns all that it follows from, by name, None where nothing is kept."""
        ctx = self.ctx
        if self.words is None:
            return None
        sites = [site.id for site in ctx.city.sites_of(self.quartier.slug)]
        return {
            "everywhere": self.everywhere,
            "words": self._words,
            "began": [self.ctx.archive.began_s(stream) for stream in self._words],
            "notes": [note for note in ctx.notes if note.site in sites],
            "policies": [policy.hash for site in sites for policy in ctx.policies(site)],
        }

    @cached_property
    def _words(self) -> Mapping[str, str]:
        infos = [info for site in self.ctx.city.sites_of(self.quartier.slug) for info in self.ctx.streams_of(site.id)]
        return {info.stream: self.words.of(info.stream) for info in infos} if self.words else {}

    def lasts(self, paths: Collection[str]) -> bool:
        """Returns whether only what comes late, or is said of these days, can change it any more."""
        ctx = self.ctx
        views = [view for site in ctx.city.sites_of(self.quartier.slug) for view in ctx.over_days(site.id)]
        ends_s = [daily.settled_s(ctx, self.quartier, day) for day in ctx.days_over]
        until_s = max([*ends_s, *(view.whole.end_s for view in views)])
        if self.words is None or until_s + LATE_S > ctx.now_s or not ctx.arrivals.over(until_s):
            return False
        for view in views:
            self.words.keep(view.stream, self._words[view.stream], view.whole.end_s)
        return True

    def lasts_on_paper(self, paths: Collection[str]) -> bool:
        """Returns the same of a bulletin: the page will lead to a sheet that is still to be printed."""
        return (self.ctx.press is None or any(path.endswith(".pdf") for path in paths)) and self.lasts(paths)

    def spoken(self) -> Iterator[tuple[str, bytes]]:
        """Yields what is followed, sent and read out."""
        ctx, quartier = self.ctx, self.quartier
        for code in LANGUAGES:
            say = language(code)
            folder = address(code, f"quartiers/{quartier.slug}/")
            found = self._of_day(say)
            yield f"{folder}atom.xml", feed(ctx, say, quartier, self._said(say))
            yield f"{folder}message.txt", f"{message(ctx, say, quartier, self._day, found)}\n".encode()
            told = telephone(ctx, say, quartier, self._day, found, self._brief(say))
            yield f"{folder}telephone.txt", ("\n\n".join(told) + "\n").encode()

    def paper(self, say: Language, large: bool) -> Iterator[tuple[str, bytes]]:
        """Yields a bulletin."""
        of = self._day, self._of_day(say), self._brief(say), self._views
        yield from bulletin(self.ctx, say, self.quartier, *of, large)

    @property
    def _day(self) -> Window | None:
        return next(iter(self.ctx.days_over), None)

    def _said(self, say: Language) -> Mapping[Window, list[Said]]:
        if say.code not in self._known:
            days = self.ctx.days_over
            self._known[say.code] = {day: daily.said(self.ctx, say, self.quartier, day) for day in days}
        return self._known[say.code]

    @cached_property
    def _known(self) -> dict[str, Mapping[Window, list[Said]]]:
        return {}

    def _of_day(self, say: Language) -> list[Said]:
        return self._said(say)[self._day] if self._day else []

    def _brief(self, say: Language) -> str:
        found = self._of_day(say)
        return daily.in_brief(self.ctx, say, self.quartier, self._day, self._facts) if self._day and found else ""

    @cached_property
    def _views(self) -> Mapping[str, Sequence[StreamView]]:
        sites = [site.id for site in self.ctx.city.sites_of(self.quartier.slug)]
        return self.ctx.views(self._day, sites) if self._day else {}

    @cached_property
    def _facts(self) -> Mapping[str, Fact | None]:
        return daily.known(self.ctx, self._views)


def _everywhere(ctx: Build) -> str:
    """Returns what the outputs of all neighbourhoods follow from, as one sum."""
    late = sorted(ctx.archive.filed_late())  # the order in which all came dates what has changed
    of = ctx.today, ctx.days_over, ctx.heard, late, ctx.coded
    return hashlib.sha256(repr(of).encode()).hexdigest()


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the pages that lead to the outputs."""
    for code in LANGUAGES:
        say = language(code)
        title = say("bulletin.page_title", city=ctx.city.city)
        for part in parts(FOLLOW, ctx.city.quartier, QUARTIERS_A_PAGE):
            numbered = say("register.numbered", number=part.number, of=len(part.of)) if part.number > 1 else ""
            yield ctx.page("follow.html", say, part.path, title=f"{title}{numbered}", part=part)


OUTPUTS = Maker(outputs)
MAKER = Maker(files, (Link("bulletin.link", FOLLOW),))
