"""The Atom feeds: valid by the rules of RFC 4287, one entry a final day, ids that stay."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import feedparser
import pytest
from murmure_dashboards import daily, decision_feed
from murmure_dashboards.arrivals import Arrivals
from murmure_dashboards.changes import changes
from murmure_dashboards.config import City
from murmure_dashboards.feed import feed as feed_of
from murmure_dashboards.maker import Build
from murmure_dashboards.wording import language
from murmure_privacy import policy as policies
from murmure_privacy.annotation import Annotation, Withdrawal

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
DECISIONS = "vie-privee/atom.xml"
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


def made(given: Callable[..., Build], archive: Any, city: City, now_s: int, code: str = "fr", slug: str = "") -> bytes:
    """Returns the feed of a neighbourhood (without one: of decisions), without the rest of the site."""
    ctx = given(archive, city, now_s)
    if not slug:
        return dict(decision_feed.files(ctx))[DECISIONS if code == "fr" else f"{code}/{DECISIONS}"]
    say, quartier = language(code), next(one for one in city.quartier if one.slug == slug)
    return feed_of(ctx, say, quartier, {day: daily.said(ctx, say, quartier, day) for day in ctx.days_over})


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


def test_ids_stay_from_build_to_build(
    given: Callable[..., Build], archive: Any, city: City, streets: SimpleNamespace
) -> None:
    """A reader never sees one day twice: tag URIs of the town's host, or UUIDs where it has no address yet."""

    def ids(city: City, now_s: int) -> dict[str, str]:
        text = made(given, archive, city, now_s, slug="centre")
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


def test_a_day_that_is_just_over_waits_for_what_is_on_its_way(
    given: Callable[..., Build], city: City, streets: SimpleNamespace
) -> None:
    """Until a quarter-hour after midnight its last nodes may still come."""
    midnight = streets.PARIS.day(streets.NOW_S).end_s

    def newest(told_s: int, now_s: int) -> str:
        text = made(given, streets.town(told_s), city, now_s, slug="centre")
        return str(ElementTree.fromstring(text).findtext(f"{ATOM}entry/{ATOM}title"))

    assert newest(midnight + 900, midnight + 899) == "Centre, vendredi 20 novembre 2026"
    assert newest(midnight + 900, midnight + 900) == "Centre, samedi 21 novembre 2026"
    assert newest(midnight, midnight + 9000) == "Centre, vendredi 20 novembre 2026", "nothing has come since: not over"


class Late:
    """The town's archive with rows of its own: a node's row is its end, but for some that came when all else was
    there. `waited`: rows that had waited for their last word."""

    def __init__(self, street: Any, streams: tuple[str, ...], day: Any, row: int, waited: frozenset[int]) -> None:
        self._street, self._streams, self._day, self._row, self._waited = street, streams, day, row, waited

    def __getattr__(self, name: str) -> Any:
        return getattr(self._street, name)

    def rows_after(self, row: int, streams: Any, from_s: int, to_s: int) -> list[int]:
        """Returns the rows as they came."""
        found = self._street.rows_after(row, streams, from_s, to_s)
        mine = from_s < self._day.end_s and to_s > self._day.start_s and set(streams) & set(self._streams)
        return sorted({*found, *([self._row] if mine and self._row > row else [])})

    def filed_late(self) -> set[int]:
        """Returns what had waited."""
        return set(self._waited)


def dated(given: Callable[..., Build], archive: Any, city: City, now_s: int, slug: str = "centre") -> dict[str, str]:
    text = made(given, archive, city, now_s, slug=slug)
    assert problems(text) == []
    root = ElementTree.fromstring(text)
    found = {str(e.findtext(f"{ATOM}title")): str(e.findtext(f"{ATOM}updated")) for e in root.findall(f"{ATOM}entry")}
    assert root.findtext(f"{ATOM}updated") == max(found.values()), "a feed is as new as its newest entry"
    return found


def test_a_day_that_late_data_change_is_dated_anew(
    given: Callable[..., Build],
    archive: Any,
    city: City,
    streets: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Readers see an entry again when its figures are others: by when its last message came in the archive's order,
    never by a clock, so that every build says the same. Other days, other neighbourhoods keep their date."""
    tuesday = streets.PARIS.day(streets.NOW_S - 4 * 86_400)
    came_s = tuesday.end_s + 40 * 3600 + 600
    late = Late(archive, ("plaza/noise",), tuesday, came_s, frozenset())
    before, after = (dated(given, one, city, streets.NOW_S) for one in (archive, late))
    changed = {title for title in before if before[title] != after[title]}
    assert changed == {"Centre, mardi 17 novembre 2026"}
    assert after["Centre, mardi 17 novembre 2026"] == "2026-11-19T14:15:00Z", "the last quarter past that had been told"
    assert dated(given, late, city, streets.NOW_S + 7200) == after
    monkeypatch.setattr(Arrivals, "changed_s", lambda self, streams, day, settled_s: settled_s)
    assert dated(given, late, city, streets.NOW_S) == before, "a feed that keeps its dates would be found"
    monkeypatch.undo()
    assert dated(given, late, city, streets.NOW_S, "gare") == dated(given, archive, city, streets.NOW_S, "gare")


def test_a_day_of_which_something_had_waited_is_dated_anew(
    given: Callable[..., Build], archive: Any, city: City, streets: SimpleNamespace
) -> None:
    """A message that was put aside and filed later keeps its place in the order: each counts as a second."""
    tuesday = streets.PARIS.day(streets.NOW_S - 4 * 86_400)
    waited = Late(archive, ("plaza/noise",), tuesday, tuesday.start_s + 3600, frozenset({tuesday.start_s + 3600}))
    before, after = (dated(given, one, city, streets.NOW_S) for one in (archive, waited))
    assert {title: date for title, date in after.items() if before[title] != date} == {
        "Centre, mardi 17 novembre 2026": "2026-11-17T23:00:01Z"
    }


def test_a_day_that_stewards_mark_is_dated_anew(
    given: Callable[..., Build], archive: Any, city: City, streets: SimpleNamespace
) -> None:
    """By when they signed it, and again when they take it back."""
    tuesday = streets.PARIS.day(streets.NOW_S - 4 * 86_400)
    mark = Annotation(
        "plaza",
        1,
        tuesday.end_s + 7200,
        "Le capteur était masqué.",
        "plaza/noise",
        tuesday.start_s,
        tuesday.end_s,
        "obstructed",
    )
    back = Withdrawal("plaza", 2, tuesday.end_s + 9000, "C'était une autre rue.", 1)
    title = "Centre, mardi 17 novembre 2026"
    plain, marked, unmarked = (
        dated(given, one, city, streets.NOW_S)
        for one in (archive, archive.annotate(mark), archive.annotate(mark, back))
    )
    assert (plain[title], marked[title], unmarked[title]) == (
        "2026-11-17T23:00:00Z",
        "2026-11-18T01:00:00Z",
        "2026-11-18T01:30:00Z",
    )
    assert [one for one in plain if plain[one] != marked[one]] == [title]


# --- decisions -------------------------------------------------------------------------------------------------------

POLICY_LINE = b'{"hash":"%s","kind":"policy","published":"2026-11-20T09:00:00Z","site":"plaza","version":8}'
LOG = (
    b'{"gateway":"gw-station","kind":"enrolment","quartier":"gare","site":"station"}',
    b'{"day":"2026-11-19","gateway":"gw-station","kind":"spend"}',
    b'{"gateway":"gw-station","kind":"revocation","last":812}',
)


@pytest.fixture
def decided(streets: SimpleNamespace) -> Any:
    """The town with a stricter policy of the square that the log knows, one that pauses it from next month on, a note
    that was taken back, and a box that was withdrawn."""
    street = streets.town()
    first = street.policies("plaza")[0].toml
    stricter = first.replace(b"version = 7", b"version = 8").replace(b"epsilon = 1.0", b"epsilon = 0.5", 1)
    paused = stricter.replace(b"version = 8", b"version = 9\npaused = true").replace(
        b"valid_from = 2026-01-01", b"valid_from = 2026-12-01"
    )
    for text in (stricter, paused):
        street.signed[policies.parse(text, "test").hash] = text
    start_s = streets.PARIS.day(streets.NOW_S).start_s
    street.log = [*LOG, POLICY_LINE % policies.parse(stricter, "test").hash.hex().encode()]
    mark = Annotation(
        "plaza",
        1,
        start_s + 3600,
        "Le capteur était masqué.",
        "plaza/noise",
        start_s,
        start_s + 1800,
        "obstructed",
        "The sensor was covered.",
    )
    return street.annotate(mark, Withdrawal("plaza", 2, start_s + 7200, "C'était une autre rue.", 1))


def unread(text: bytes) -> list[str]:
    """Returns what keeps a reader that people use from a feed; ids and dates are those that stand there."""
    read = feedparser.parse(text)
    wrong = [str(read.bozo_exception)] if read.bozo else []
    wrong += [] if read.version == "atom10" else [f"version {read.version}"]
    entries = list(ElementTree.fromstring(text).iter(f"{ATOM}entry")) if not read.bozo else []
    stand = [(one.findtext(f"{ATOM}id"), one.findtext(f"{ATOM}updated")) for one in entries]
    return wrong + ([] if stand == [(one.get("id"), one.get("updated")) for one in read.entries] else ["entries"])


def test_a_reader_that_people_use_reads_every_feed(site: Path) -> None:
    """Each Atom file of the site, in both languages; with a planted fault it is refused."""
    feeds = {path: path.read_bytes() for path in sorted(site.resolve().rglob("*.xml"))}
    assert len(feeds) >= len(PATHS) + 2
    assert {path.name: wrong for path, text in feeds.items() if (wrong := unread(text))} == {}
    text = (site / PATHS[0]).read_bytes()
    for old, new in (
        (b"</entry>", b""),
        (b"http://www.w3.org/2005/Atom", b"http://x.example/"),
        (b"<updated>", b"<updatd>"),
    ):
        assert unread(text.replace(old, new, 1)), old
    assert unread(b"<rss version='2.0'><channel/></rss>")


@pytest.mark.parametrize("path", [DECISIONS, f"en/{DECISIONS}"])
def test_decisions_have_a_valid_feed(
    given: Callable[..., Build], decided: Any, city: City, streets: SimpleNamespace, path: str
) -> None:
    """By the rules of RFC 4287 and for a reader that people use; ids and dates are the same in the next build."""
    code = "en" if path.startswith("en/") else "fr"
    one, again = (made(given, decided, city, now_s, code) for now_s in (streets.NOW_S, streets.NOW_S + 3600))
    assert one == again and problems(one) == []
    read = feedparser.parse(one)
    assert not read.bozo and read.version == "atom10"
    assert len(read.entries) == 8 and all(
        told.id.startswith("tag:capteurs.demo.example,2026:") for told in read.entries
    )
    assert all(told.updated <= "2026-11-21T14:15:00Z" for told in read.entries), "nothing is dated after now"
    for told in read.entries:
        assert told.link.startswith(f"https://capteurs.demo.example/{path.removesuffix('atom.xml')}")


def test_every_decision_is_told_with_reference_reason_and_what_it_changes(
    given: Callable[..., Build], decided: Any, city: City, streets: SimpleNamespace
) -> None:
    """Policies, pauses, notes and what was taken back, withdrawn boxes: newest first, dated by what bears a date."""
    text = made(given, decided, city, streets.NOW_S).decode().replace("\u00a0", " ")
    entries = ElementTree.fromstring(text).findall(f"{ATOM}entry")
    told = [(str(e.findtext(f"{ATOM}title")), str(e.findtext(f"{ATOM}updated"))[:10]) for e in entries]
    assert told == [
        ("Place de la République : note 1 retirée", "2026-11-21"),
        ("Place de la République : mesure signalée fausse, Niveau sonore", "2026-11-21"),
        ("Place de la République : règle 8", "2026-11-20"),
        ("Parvis de la gare : boîtier retiré", "2026-11-20"),
        ("Parvis de la gare : règle 7", "2025-12-31"),
        ("Place de la République : publication suspendue par la règle 9", "2025-12-31"),
        ("Place de la République : règle 7", "2025-12-31"),
        ("Passage des Tanneurs : règle 7", "2025-12-31"),
    ]
    said = {title: str(e.findtext(f"{ATOM}summary")) for (title, _), e in zip(told, entries, strict=True)}
    rule = said["Place de la République : règle 8"]
    assert "Décision : Délibération 2026-11-03 n° 42." in rule and "Motif : Mesurer la place." in rule
    assert "Plus stricte pour : Passages (budget ε de 1 à 0,5, plus de brouillage)." in rule
    assert "Moins stricte" not in rule and all("Données simulées" in one for one in said.values())
    assert "Suspend : Passages" in said["Place de la République : publication suspendue par la règle 9"]
    assert "Le capteur était masqué." in said["Place de la République : mesure signalée fausse, Niveau sonore"]


def test_the_privacy_pages_lead_to_the_feed_of_decisions(site: Path) -> None:
    """In words, and where programs look for it; the link is a file of the site."""
    for root in ("", "en/"):
        for page, up in (("vie-privee/", "../"), ("vie-privee/plaza/", "../../")):
            text = (site / root / page / "index.html").read_text(encoding="utf-8")
            there = re.findall(r'<link rel="alternate" type="application/atom\+xml"[^>]*href="([^"]+)"', text)
            assert len(there) == 1 and text.count(f'href="{there[0]}"') == 2
            assert (site / root / page / there[0]).resolve() == (site / root / DECISIONS).resolve() and up in there[0]


def test_what_a_policy_loosens_and_takes_up_again_is_said(streets: SimpleNamespace) -> None:
    """In each direction and each respect in its own words; a gap between versions is no stream's."""
    old = policies.parse(streets.town().policies("plaza")[0].toml, "test")

    def said(*swap: tuple[str, str]) -> str:
        text = old_text
        for one, other in swap:
            assert one in text
            text = text.replace(one, other, 1)
        return " ".join(changes(language("fr"), policies.parse(text.encode(), "test"), old)).replace("\u00a0", " ")

    old_text = streets.town().policies("plaza")[0].toml.decode()
    assert said(("epsilon = 1.0", "epsilon = 2.0")) == (
        "Moins stricte pour : Passages (budget ε de 1 à 2, moins de brouillage)."
    )
    assert "Passages (on cache plus long ou plus fort, plus de brouillage)" in said(("crossings = 1", "crossings = 2"))
    assert "valeurs extrêmes moins rognées" in said(("[0, 100]", "[0, 200]"))
    assert said(("2027-11-30", "2028-11-30")).startswith("Elle vaut plus longtemps : jusqu’au")
    assert said(("2027-11-30", "2027-10-30")).startswith("Elle vaut moins longtemps")
    assert "Retire : Particules PM2,5." in said((old_text[old_text.index('\n[[stream]]\nid = "plaza/pm2_5"') :], ""))
    paused = policies.parse(old_text.replace("version = 7", "version = 7\npaused = true").encode(), "test")
    assert any(one.startswith("Reprend") for one in changes(language("fr"), old, paused))
