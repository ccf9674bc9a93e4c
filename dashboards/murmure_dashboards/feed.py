"""Atom feeds (RFC 4287), and that of a neighbourhood: one entry for each day whose figures are final."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5
from xml.etree.ElementTree import Element, SubElement, tostring

from murmure_privacy.window import Window, utc

from murmure_dashboards import daily
from murmure_dashboards.codes import hours_file
from murmure_dashboards.config import City, Quartier
from murmure_dashboards.daily import Said
from murmure_dashboards.maker import Build
from murmure_dashboards.pages import address
from murmure_dashboards.wording import Language, capital

ATOM = "http://www.w3.org/2005/Atom"
_SINCE = "2026"  # of tag URIs (RFC 4151): a year in which the town had its name already


class Feed:
    """A feed of one folder of the site, being written: entries the newest first. Without the town's address, ids are
    UUIDs and links are relative to the feed."""

    def __init__(self, city: City, say: Language, folder: str, title: str, subtitle: str, before_s: int) -> None:
        """`folder`: below a language's root; `before_s`: when a feed without an entry changed last (seconds UTC)."""
        self._city, self._folder = city, address(say.code, folder)
        root = self._root = Element("feed", {"xmlns": ATOM, "xml:lang": say.code})
        _text(root, "id", self._id(""))
        _text(root, "title", title)
        _text(root, "subtitle", subtitle)
        self._updated = SubElement(root, "updated")
        self._newest_s: int | None = None
        self._before_s = before_s
        _text(SubElement(root, "author"), "name", city.publisher or city.city)
        _text(root, "rights", say(f"feed.rights_{city.licence}"))
        _link(root, "alternate", f"{city.address}{self._folder}" if city.address else "./", "text/html")
        if city.address:
            _link(root, "self", f"{city.address}{self._folder}atom.xml", "application/atom+xml")

    def entry(self, name: str, title: str, summary: str, updated_s: int, published_s: int | None, path: str) -> None:
        """Adds an entry. `name`: what tells it from the others for ever; `path`: of its page, below the folder."""
        self._newest_s = max(updated_s, self._newest_s or updated_s)
        entry = SubElement(self._root, "entry")
        _text(entry, "id", self._id(name))
        _text(entry, "title", title)
        if published_s is not None:
            _text(entry, "published", utc(published_s))
        _text(entry, "updated", utc(updated_s))
        href = f"{self._city.address}{self._folder}{path}" if self._city.address else path or "./"
        _link(entry, "alternate", href, "text/html")
        _text(entry, "summary", summary)

    def written(self) -> bytes:
        """Returns the file."""
        self._updated.text = utc(self._before_s if self._newest_s is None else self._newest_s)
        return bytes(tostring(self._root, encoding="utf-8", xml_declaration=True))

    def _id(self, name: str) -> str:
        path = f"{self._folder}{name}"
        if not self._city.address:
            return uuid5(NAMESPACE_URL, f"murmure:{self._city.city}/{path}").urn
        at = urlsplit(self._city.address)
        return f"tag:{at.hostname},{_SINCE}:{at.path.lstrip('/')}{path}"


def feed(ctx: Build, say: Language, quartier: Quartier, said: Mapping[Window, list[Said]]) -> bytes:
    """Returns the feed of a neighbourhood in one language. `said`: of the days that are over, the newest first. A day
    is told once it is final, keeps its id for ever, and is dated anew when late data or stewards change it."""
    title = say("feed.title", quartier=quartier.name, city=ctx.city.city)
    made = Feed(ctx.city, say, f"quartiers/{quartier.slug}/", title, say("feed.subtitle"), ctx.today.start_s)
    streams = [one.stream for site in ctx.city.sites_of(quartier.slug) for one in ctx.over_days(site.id)]
    for day, found in said.items():
        settled_s = daily.settled_s(ctx, quartier, day)
        if all(one.left for one in found) or not daily.final(ctx, quartier, day) or not ctx.arrivals.over(settled_s):
            continue
        where = f"{ctx.city.address}{hours_file(quartier.slug)}" if ctx.coded else ""
        sentences = [
            say("feed.place", place=site.name, sentences=" ".join(_sentence(say, one, where) for one in of_place))
            for site, of_place in daily.places(found)
        ]
        if ctx.city.simulated:
            sentences.insert(0, say("page.simulated"))
        made.entry(
            name=ctx.calendar.civil_day(day.start_s).isoformat(),
            title=say("feed.entry", quartier=quartier.name, date=say.date(day.start_s, ctx.calendar.zone)),
            summary="\n".join(sentences),
            updated_s=ctx.arrivals.changed_s(streams, day, settled_s),
            published_s=settled_s,
            path="semaine/",
        )
    return made.written()


def _sentence(say: Language, one: Said, where: str) -> str:
    """`where`: the file that has the codes of what is made of several figures, "" for none."""
    figure = f"{one.number} {one.detail}".strip()
    if one.code:
        figure = f"{figure}, {say('codes.one', code=one.code)}"
    elif one.told and where:
        figure = f"{figure}, {say('codes.several', where=where)}"
    return " ".join(filter(None, (say("feed.figure", label=one.label, figure=figure), capital(one.notes))))


def _text(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = text


def _link(parent: Element, rel: str, href: str, kind: str) -> None:
    SubElement(parent, "link", {"rel": rel, "href": href, "type": kind})
