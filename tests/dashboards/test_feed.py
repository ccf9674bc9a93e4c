"""The Atom feeds: valid by the rules of RFC 4287, one entry a final day, ids that stay."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City

ATOM = "{http://www.w3.org/2005/Atom}"
FEED = {"author", "category", "contributor", "generator", "icon", "id", "link", "logo", "rights", "subtitle", "title"}
ENTRY = {
    "author",
    "category",
    "content",
    "contributor",
    "id",
    "link",
    "published",
    "rights",
    "source",
    "summary",
    "title",
}
ONCE = ("id", "title", "updated")
AT_MOST_ONCE = ("generator", "icon", "logo", "rights", "subtitle", "content", "published", "source", "summary")
PATHS = [f"{start}quartiers/{slug}/atom.xml" for start in ("", "en/") for slug in ("centre", "gare", "parc")]


def problems(text: bytes) -> list[str]:
    """Returns what RFC 4287 (sections 3 and 4) forbids in a feed."""
    root = ElementTree.fromstring(text)
    if root.tag != f"{ATOM}feed":
        return ["the root is no feed"]
    entries = root.findall(f"{ATOM}entry")
    wrong = _children(root, FEED | {"updated", "entry"})
    for entry in entries:
        wrong += _children(entry, ENTRY | {"updated"})
        if entry.find(f"{ATOM}author") is None and root.find(f"{ATOM}author") is None:
            wrong.append("entry without author")
        alternate = [link for link in entry.findall(f"{ATOM}link") if link.get("rel", "alternate") == "alternate"]
        if entry.find(f"{ATOM}content") is None and not alternate:
            wrong.append("entry without content and without alternate")
    ids = [one.findtext(f"{ATOM}id") for one in entries]
    if len(set(ids)) < len(ids):
        wrong.append("two entries with one id")
    return wrong


def _children(of: ElementTree.Element, known: set[str]) -> list[str]:
    wrong = [f"unknown {one.tag}" for one in of if one.tag.removeprefix(ATOM) not in known]
    for name in ONCE:
        if len(of.findall(f"{ATOM}{name}")) != 1:
            wrong.append(f"not one {name}")
    wrong += [f"more than one {name}" for name in AT_MOST_ONCE if len(of.findall(f"{ATOM}{name}")) > 1]
    for one in of.findall(f"{ATOM}id"):
        if not urlsplit(one.text or "").scheme:
            wrong.append("id is no IRI")
    for name in ("updated", "published"):
        for one in of.findall(f"{ATOM}{name}"):
            # RFC 3339, with a capital T and Z or an offset.
            if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", one.text or ""):
                wrong.append(f"{name} is no date")
    for name in ("title", "subtitle", "summary", "rights"):
        for one in of.findall(f"{ATOM}{name}"):
            if one.get("type", "text") != "text" or len(one) or not (one.text or "").strip():
                wrong.append(f"{name} is no text")
    for one in of.findall(f"{ATOM}author"):
        if not one.findtext(f"{ATOM}name"):
            wrong.append("author without name")
    seen = set()
    for link in of.findall(f"{ATOM}link"):
        if "href" not in link.attrib:
            wrong.append("link without href")
        key = (link.get("rel", "alternate"), link.get("type"), link.get("hreflang"))
        if key[0] == "alternate" and key in seen:
            wrong.append("two alternates of one kind")
        seen.add(key)
    return wrong


def feed(site: Path, path: str) -> ElementTree.Element:
    return ElementTree.fromstring((site / path).read_bytes())


@pytest.mark.parametrize("path", PATHS)
def test_every_quartier_has_a_valid_feed_in_both_languages(site: Path, path: str) -> None:
    """At the address of the contract; without an entry where nothing is measured."""
    text = (site / path).read_bytes()
    assert problems(text) == []
    root = ElementTree.fromstring(text)
    assert root.get("{http://www.w3.org/XML/1998/namespace}lang") == ("en" if path.startswith("en/") else "fr")
    assert (root.find(f"{ATOM}entry") is None) == ("parc" in path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (r"<id>[^<]*</id>", "", "not one id"),
        (r"<id>[^<]*</id>", "<id>centre</id>", "id is no IRI"),
        (r"<updated>[^<]*</updated>", "<updated>21 nov.</updated>", "updated is no date"),
        (r"<published>", "<published>2026-11-01T00:00:00Z</published><published>", "more than one published"),
        (r"(?s)<author>.*?</author>", "", "entry without author"),
        (r"(<entry>.*?)<link [^>]*/>", r"\1", "entry without content and without alternate"),
        (r"(?s)(<entry>.*?</entry>)", r"\1\1", "two entries with one id"),
        (r"<summary>", "<summary type='html'>", "summary is no text"),
        (r"<link [^>]*/>", "<link rel='alternate'/>", "link without href"),
        (r"<rights>", "<licence/><rights>", "unknown"),
    ],
)
def test_a_feed_that_breaks_a_rule_is_found(site: Path, old: str, new: str, said: str) -> None:
    """The validator sees each rule broken in a feed of ours."""
    text = (site / PATHS[0]).read_text(encoding="utf-8")
    broken, times = re.subn(old, new, text, count=1)
    assert times == 1
    assert any(one.startswith(said) for one in problems(broken.encode()))


def test_one_entry_a_final_day_newest_first(site: Path) -> None:
    """Today is not told: its figures still move. Each day is told once, dated by its end."""
    root = feed(site, PATHS[0])
    titles = [entry.findtext(f"{ATOM}title") for entry in root.findall(f"{ATOM}entry")]
    assert titles == [
        f"Centre, {day} novembre 2026"
        for day in ("vendredi 20", "jeudi 19", "mercredi 18", "mardi 17", "lundi 16", "dimanche 15")
    ]
    ends = [datetime.fromisoformat(str(e.findtext(f"{ATOM}updated"))) for e in root.findall(f"{ATOM}entry")]
    assert ends == sorted(ends, reverse=True) and ends[0].isoformat() == "2026-11-20T23:00:00+00:00"
    assert root.findtext(f"{ATOM}updated") == "2026-11-20T23:00:00Z"


def test_an_entry_says_its_figures_with_their_intervals(site: Path) -> None:
    """The sentences of the page: number, interval, how often it holds; a day without a figure says so."""
    root = feed(site, PATHS[0])
    said = str(root.find(f"{ATOM}entry/{ATOM}summary").text).replace("\u202f", "").replace("\u00a0", " ")  # type: ignore[union-attr]
    assert said.startswith("Données simulées")
    assert re.search(r"Place de la République\. Passages : \d+ passages \(entre \d+ et \d+, 19 fois sur 20\)", said)
    gare = feed(site, "en/quartiers/gare/atom.xml")
    assert any("no figure" in str(one.text) for one in gare.iter(f"{ATOM}summary"))


def test_ids_stay_from_build_to_build(archive: Any, city: City, site: Path, streets: SimpleNamespace) -> None:
    """A reader never sees one day twice: tag URIs of the town's host, or UUIDs where it has no address yet."""

    def ids(city: City, now_s: int) -> dict[str, str]:
        text = dict(site_module.render(archive, city, now_s))[PATHS[0]]
        assert problems(text) == []
        entries = ElementTree.fromstring(text).findall(f"{ATOM}entry")
        return {str(one.findtext(f"{ATOM}title")): str(one.findtext(f"{ATOM}id")) for one in entries}

    here = ids(city, streets.NOW_S)
    tomorrow = ids(city, streets.NOW_S + 86_400)
    assert len(here.keys() & tomorrow.keys()) == 5
    assert all(tomorrow.get(title, one) == one for title, one in here.items())
    assert here["Centre, vendredi 20 novembre 2026"] == "tag:capteurs.demo.example,2026:quartiers/centre/2026-11-20"
    nowhere = replace(city, address="")
    without = ids(nowhere, streets.NOW_S)
    assert all(one.startswith("urn:uuid:") for one in without.values())
    assert len(set(without.values())) == len(here) and not set(without.values()) & set(here.values())


def test_a_day_that_is_just_over_waits_for_what_is_on_its_way(city: City, streets: SimpleNamespace) -> None:
    """Until a quarter-hour after midnight its last nodes may still come."""
    midnight = streets.PARIS.day(streets.NOW_S).end_s
    town = streets.town(midnight)

    def newest(now_s: int) -> str:
        text = dict(site_module.render(town, city, now_s))[PATHS[0]]
        return str(ElementTree.fromstring(text).findtext(f"{ATOM}entry/{ATOM}title"))

    assert newest(midnight + 899) == "Centre, vendredi 20 novembre 2026"
    assert newest(midnight + 900) == "Centre, samedi 21 novembre 2026"
