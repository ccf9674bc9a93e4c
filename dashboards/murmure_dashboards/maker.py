"""What every maker of files is given, and what it gives: pages, and where the foot of each page leads to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from murmure_privacy.annotation import Annotation, Note
from murmure_privacy.policies import Rules
from murmure_privacy.window import Calendar, Window

from murmure_dashboards import glances, limits
from murmure_dashboards.arrivals import Arrivals
from murmure_dashboards.blocks import Blocks
from murmure_dashboards.config import City, Quartier, Site
from murmure_dashboards.days import Days
from murmure_dashboards.due import due
from murmure_dashboards.facts import Fact, of_day
from murmure_dashboards.glances import Glance as Glance
from murmure_dashboards.kept import PAGES, Kept, key
from murmure_dashboards.months import Edition
from murmure_dashboards.pages import Link, address, filled
from murmure_dashboards.pdf import Press
from murmure_dashboards.store import Store
from murmure_dashboards.usual import Past
from murmure_dashboards.views import LATE_S, ArchiveReader, SignedPolicy, StreamInfo, StreamView, view
from murmure_dashboards.wording import Language


@dataclass(frozen=True)
class Build:
    """One build of the site, as of `now_s`. `today`: the civil day that it shows, `week`: the seven that end with it.
    `streams`: those of the archive in the order of a page. `marks`: the annotations that hold. `editions`:
    the files of all months, oldest first, and `ledger`: the lines of ledger.jsonl, both once they are made. `octets`:
    the size of every file that was made before the maker's turn, by its path; `heaviest`: of these the longest French
    page of each kind. `links`: where the foot of each page leads. `press`: prints sheets of paper; without one there
    are none. `store`: what builds before worked out of finished days; without one, everything is worked out. `only`:
    the neighbourhoods whose pages are made here, where others are made by another process; `streams` are theirs.
    `kept`: what the build before has written; without it, everything is written. `glances`: by stream, what others
    have looked at already."""

    archive: ArchiveReader
    city: City
    rules: Rules
    calendar: Calendar
    now_s: int
    today: Window
    week: Window
    streams: Sequence[StreamInfo]
    marks: Sequence[Annotation]
    editions: list[Edition]
    ledger: list[bytes]
    octets: Mapping[str, int]
    heaviest: Mapping[str, bytes]
    links: Sequence[Link]
    press: Press | None = None
    store: Store | None = None
    only: Collection[str] | None = None
    kept: Kept | None = None
    glances: dict[str, Glance] = field(init=False, default_factory=dict)

    def unless_kept(
        self,
        group: str,
        of: object | None,
        made: Iterable[tuple[str, bytes]],
        kind: str = PAGES,
        lasts: Callable[[Collection[str]], bool] = lambda paths: True,
    ) -> Iterable[tuple[str, bytes]]:
        """Returns what `made` gives, or nothing where the build before made it of the same. `of`: what it is made of
        besides city, limits and links, said whole by its `repr`; None for what changes with every instant. `kind` and
        `lasts` as in `Kept.files`."""
        if self.kept is None or of is None:
            return made
        return self.kept.files(group, (self._common, of), made, kind, lasts)

    def key(self, of: object) -> str:
        """Returns the sum of `of`, and of what all pages are made with, of and for: software, city, limits, links."""
        return key((self._common, of))

    @cached_property
    def _common(self) -> str:
        return hashlib.sha256(repr((self.city, self.thresholds, self.links)).encode()).hexdigest()

    @property
    def quartiers(self) -> Sequence[Quartier]:
        """Returns the neighbourhoods whose pages are made here."""
        return [one for one in self.city.quartier if self.only is None or one.slug in self.only]

    @cached_property
    def _by_site(self) -> Mapping[str, Sequence[StreamInfo]]:
        found: dict[str, list[StreamInfo]] = {}
        for info in self.streams:
            found.setdefault(info.site, []).append(info)
        return found

    def streams_of(self, site: str) -> Sequence[StreamInfo]:
        """Returns the streams of a site, in the order of a page."""
        return self._by_site.get(site, ())

    def policies(self, site: str) -> Sequence[SignedPolicy]:
        """Returns all policies of a site, oldest version first."""
        if site not in self._policies:
            self._policies[site] = self.archive.policies(site)
        return self._policies[site]

    @cached_property
    def _policies(self) -> dict[str, Sequence[SignedPolicy]]:
        return {}

    def glance(self, site: Site, info: StreamInfo) -> Glance:
        """Returns what pages of the whole town tell of a stream of a site, which is looked at once, here or by another
        process, now or by a build before."""
        if info.stream not in self.glances:
            self.glances[info.stream] = self._glance_kept(info) or self._glanced(site, info)
        return self.glances[info.stream]

    def keep_glance(self, site: Site, info: StreamInfo, of: Window, until_s: int) -> None:
        """Has that kept until an instant, unless a node comes that intersects `of`: what it follows from."""
        if self.kept is not None:
            value = glances.written(self._glance_key(info), self.now_s, until_s, self.glance(site, info))
            self.kept.store.keep(glances.KIND, info.stream, 0, of, value)

    def _glanced(self, site: Site, info: StreamInfo) -> Glance:
        one, fact = self.seen(info), self.fact(site, info)
        rule = one.rule[0].hash if one.rule else None
        expected = fact is not None or any(slot.missing for slot in one.slots(self.today))
        return Glance(fact, tuple(due(one)), rule, expected)

    def _glance_kept(self, info: StreamInfo) -> Glance | None:
        found = self.kept.store.read(glances.KIND, info.stream, Window(0, 1)).get(0) if self.kept else None
        return glances.read(self._glance_key(info), self.now_s, found) if found is not None else None

    def _glance_key(self, info: StreamInfo) -> str:
        return self.key(("glance", self.follows_from(info)))

    def follows_from(self, info: StreamInfo) -> Mapping[str, object]:
        """Returns all that what is told of a stream follows from, by name, besides its nodes and what `key` has.
        `began`: days before the measurement have no gaps."""
        return {
            "marks": [mark for mark in self.marks if mark.stream == info.stream],
            "policies": [policy.hash for policy in self.policies(info.site)],
            "began": self.archive.began_s(info.stream),
        }

    def shown(self, site: str) -> Sequence[StreamView]:
        """Returns the streams of a site today."""
        return [self.seen(info) for info in self.streams_of(site)]

    def views(self, window: Window, sites: Iterable[str] | None = None) -> Mapping[str, Sequence[StreamView]]:
        """Returns the streams over whole days, by site id: of all sites, or of some."""
        infos = [(site, self.streams_of(site)) for site in (self._by_site if sites is None else sites)]
        return {site: [self.view(info, window) for info in of_site] for site, of_site in infos if of_site}

    def view(self, info: StreamInfo, window: Window) -> StreamView:
        """Returns a stream over whole days."""
        signed = self.policies(info.site)
        return view(self.archive, self.rules, self.marks, info, window, self.calendar, self.now_s, signed)

    def seen(self, info: StreamInfo) -> StreamView:
        """Returns a stream today, looked at once."""
        if info.stream not in self._seen:
            self._seen[info.stream] = self.view(info, self.today)
        return self._seen[info.stream]

    @cached_property
    def _seen(self) -> dict[str, StreamView]:
        return {}

    @cached_property
    def days_over(self) -> Sequence[Window]:
        """Returns the days of the week that are over and have had their time to arrive, newest first; none where
        nothing is measured."""
        days = self.calendar.days(self.week) if self.streams else ()
        return [day for day in reversed([*days]) if day.end_s + LATE_S <= self.now_s]

    def over_days(self, site: str) -> Sequence[StreamView]:
        """Returns the streams of a site over these days alone: nothing of the day that runs is in them."""
        if site not in self._over_days and self.days_over:
            whole = Window(self.days_over[-1].start_s, self.days_over[0].end_s)
            self._over_days[site] = self.views(whole, (site,)).get(site, ())
        return self._over_days.get(site, ())

    @cached_property
    def _over_days(self) -> dict[str, Sequence[StreamView]]:
        return {}

    @cached_property
    def notes(self) -> Sequence[Note]:
        """Returns what stewards have said by now, also what was taken back."""
        return [one.note for one in self.archive.annotations() if one.note.issued_s <= self.now_s]

    @cached_property
    def days(self) -> Days:
        """Returns what gives the days of streams."""
        return Days(self.archive, self.rules, self.calendar, self.now_s, self.store or Store(None))

    @cached_property
    def blocks(self) -> Blocks:
        """Returns what gives the days of streams to the open data."""
        return Blocks(self.archive, self.rules, self.calendar, self.now_s, self.store, self._looked_at)

    def _looked_at(self, info: StreamInfo, day: Window) -> StreamView | None:
        return self.seen(info) if day == self.today and info in self.streams_of(info.site) else None

    def fact(self, site: Site, info: StreamInfo) -> Fact | None:
        """Returns what is known of a stream of a site today, None where nothing is."""
        if info.stream not in self._facts:
            self._facts[info.stream] = of_day(self.seen(info), site, self._past)
        return self._facts[info.stream]

    @cached_property
    def _facts(self) -> dict[str, Fact | None]:
        return {}

    @cached_property
    def _past(self) -> Past:
        return Past(self.archive, self.rules, self.marks, self.calendar, self.now_s, self.store)

    @cached_property
    def arrivals(self) -> Arrivals:
        """Returns when what is told of the days of the week came."""
        return Arrivals.of(self.archive, self.heard, Window(self.week.start_s, self.now_s), self.notes)

    @cached_property
    def heard(self) -> Sequence[str]:
        """Returns the streams by which it is told what is over, one of each site."""
        return list({info.site: info.stream for info in reversed(self.streams)}.values())

    @cached_property
    def coded(self) -> bool:
        """Returns whether figures have codes: only a log that the centre has signed can be checked."""
        return self.archive.signed_checkpoint() is not None

    @cached_property
    def thresholds(self) -> Sequence[limits.Threshold]:
        """Returns the limits that figures are held against."""
        return limits.load(self.city.thresholds)

    def page(self, template: str, say: Language, path: str, **values: object) -> tuple[str, bytes]:
        """Returns the file of the page at `path` below a language's root, and its content."""
        page = filled(template, say, path, self.city, "", self.links, **values)
        return f"{address(say.code, path)}index.html", page


@dataclass(frozen=True, slots=True)
class Maker:
    """`files` gives (path below the site's root, content) of everything that it makes; `links` lead to pages of it.
    `apart`: whether what it makes of a neighbourhood depends on no other, and on no other maker; then another process
    may make it."""

    files: Callable[[Build], Iterable[tuple[str, bytes]]]
    links: tuple[Link, ...] = ()
    apart: bool = False
