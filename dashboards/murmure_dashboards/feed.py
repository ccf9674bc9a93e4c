"""The Atom feed (RFC 4287) of a neighbourhood: one entry for each day whose figures are final."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5
from xml.etree.ElementTree import Element, SubElement, tostring

from murmure_privacy.window import Window, utc

from murmure_dashboards import daily
from murmure_dashboards.config import City, Quartier
from murmure_dashboards.daily import Said
from murmure_dashboards.maker import Build
from murmure_dashboards.pages import address
from murmure_dashboards.wording import Language, capital

ATOM = "http://www.w3.org/2005/Atom"
_SINCE = "2026"  # of tag URIs (RFC 4151): a year in which the town had its name already


def feed(ctx: Build, say: Language, quartier: Quartier, said: Mapping[Window, list[Said]]) -> bytes:
    """Returns the feed in one language. `said`: of the days that are over, the newest first. A day is told once it is
    final, and keeps its id for ever. Without the town's address, ids are UUIDs and links are relative to the feed."""
    city, folder = ctx.city, address(say.code, f"quartiers/{quartier.slug}/")
    root = Element("feed", {"xmlns": ATOM, "xml:lang": say.code})
    told = [(day, found) for day, found in said.items() if found and daily.final(ctx, quartier, day)]
    _text(root, "id", _id(city, folder))
    _text(root, "title", say("feed.title", quartier=quartier.name, city=city.city))
    _text(root, "subtitle", say("feed.subtitle"))
    _text(root, "updated", utc(told[0][0].end_s if told else ctx.today.start_s))
    _text(SubElement(root, "author"), "name", city.publisher or city.city)
    _text(root, "rights", say(f"feed.rights_{city.licence}"))
    _link(root, "alternate", f"{city.address}{folder}" if city.address else "./", "text/html")
    if city.address:
        _link(root, "self", f"{city.address}{folder}atom.xml", "application/atom+xml")
    for day, found in told:
        _entry(root, ctx, say, quartier, day, found)
    return bytes(tostring(root, encoding="utf-8", xml_declaration=True))


def _entry(root: Element, ctx: Build, say: Language, quartier: Quartier, day: Window, found: list[Said]) -> None:
    folder = address(say.code, f"quartiers/{quartier.slug}/")
    entry = SubElement(root, "entry")
    civil = ctx.calendar.civil_day(day.start_s).isoformat()
    _text(entry, "id", _id(ctx.city, f"{folder}{civil}"))
    date = say.date(day.start_s, ctx.calendar.zone)
    _text(entry, "title", say("feed.entry", quartier=quartier.name, date=date))
    _text(entry, "published", utc(day.end_s))
    _text(entry, "updated", utc(day.end_s))
    _link(entry, "alternate", f"{ctx.city.address}{folder}semaine/" if ctx.city.address else "semaine/", "text/html")
    sentences = [
        say("feed.place", place=site.name, sentences=" ".join(_sentence(say, one) for one in of_place))
        for site, of_place in daily.places(found)
    ]
    if ctx.city.simulated:
        sentences.insert(0, say("page.simulated"))
    _text(entry, "summary", "\n".join(sentences))


def _sentence(say: Language, one: Said) -> str:
    figure = f"{one.number} {one.detail}".strip()
    return " ".join(filter(None, (say("feed.figure", label=one.label, figure=figure), capital(one.notes))))


def _id(city: City, path: str) -> str:
    if not city.address:
        return uuid5(NAMESPACE_URL, f"murmure:{city.city}/{path}").urn
    at = urlsplit(city.address)
    return f"tag:{at.hostname},{_SINCE}:{at.path.lstrip('/')}{path}"


def _text(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = text


def _link(parent: Element, rel: str, href: str, kind: str) -> None:
    SubElement(parent, "link", {"rel": rel, "href": href, "type": kind})
