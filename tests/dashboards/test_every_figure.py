"""Every figure of the site leads to what was signed: by codes beside it, or by a sentence that says where they are.

The pages are looked for in the built site; one of a kind that nobody has judged yet may have no figure at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards.config import City
from murmure_dashboards.maker_statements import kind
from murmure_dashboards.packed import compressed
from murmure_dashboards.pages import MOST_ELEMENTS
from murmure_dashboards.site import render
from murmure_dashboards.wording import Language, language
from murmure_privacy.annotation import Annotation

CODE = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}\b")
# A number with its interval, alone or in a sentence, or what is said where nothing but the noise is left.
FIGURE = re.compile(
    r"\((?:entre|between) [^()]*?\d[^()]*\)|\d \((?:\d[\d .,]*|0) (?:à|to) \d|"
    r"(?:moins de|under) [\d .,]+(?: (?:passages?|crossings?|dB|µg)|<|$)"
)
UNIT = r"(?:passages?|crossings?|dB|µg/m³)"
_STORY = re.compile(r"<h3>(?P<heading>[^<]*)</h3>(?P<told>.*?)(?=<h3>|</section>|$)", re.S)
_KEY = re.compile(r'<p class="key"><strong>([^<]*)</strong> ([^<]*)</p>')
_ROW = re.compile(r'<tr><th scope="row">([^<]*)</th>((?:<td>[^<]*</td>)+)</tr>')
_OF_PLACE = re.compile(r'<p class="place" lang="fr">([^<]*)</p>|<p><span>([^<]*)</span>(.*?)</p>', re.S)
_LIST = re.compile(r'<pre class="codes">(.*?)</pre>', re.S)


def plain(page: str) -> str:
    """Returns a page with ordinary spaces."""
    return re.sub("[\u00a0\u202f]", " ", unescape(page)).replace("’", "'")


def said(say: Language, key: str, **values: object) -> str:
    return plain(say(key, **values))


def figured(cells: str) -> bool:
    """Returns whether cells of a table have a figure, and not only why there is none."""
    return bool(FIGURE.search(re.sub(r"</?td>", " <", cells)))


def named(text: str) -> set[str]:
    """Returns the names that have codes, or the words that lead to them, in a list of codes."""
    found, name = set(), ""
    for line in text.splitlines():
        name = line.strip() if line[:1] != " " and not CODE.search(line) else name
        first = re.split("  +", line)
        if line[:1] != " " and len(first) > 1:
            found.add(first[0].strip())
        elif CODE.search(line):
            found.add(name)
    return found


def of_stories(page: str, say: Language, period: str) -> Iterator[str]:
    """Yields what of the figures of a day or a week has no codes below its table, or in the list of the whole page."""
    whole = page.partition(f"<h2>{said(say, 'page.data')}</h2>")[2]
    listed = _LIST.search(whole)
    for story in _STORY.finditer(page.partition("</main>")[0]):
        heading, told = story["heading"], story["told"]
        own = _LIST.search(told) or (listed and re.search(rf"{re.escape(heading)}()\n(.*)", listed[1], re.S))
        names = named(own[0].rpartition("</pre>")[0] or own[0]) if own else set()
        key = _KEY.search(told)
        if key and FIGURE.search(f"{key[1]} {key[2]}") and said(say, f"codes.{period}") not in names:
            yield f"{heading}: {key[1]}"
        for name, cells in _ROW.findall(told):
            if figured(cells) and name not in names:
                yield f"{heading}: {name}"
        drawn = re.search(r"<desc[^>]*>\D*(\d+)(.*?)</desc>", told, re.S)
        if drawn and period == "week" and int(drawn[1]) > 7:  # hours, which are no rows
            for word in ("high", "low"):
                if plain(say.texts[f"chart.{word}"]).partition("{")[0] in drawn[2]:
                    yield from () if said(say, f"codes.{word}") in names else (f"{heading}: {word}",)


def without_lead(page: str, file: str, sentence: str = "") -> Iterator[str]:
    """Yields each figure of a page that has not the sentence that leads to a file of codes, and a link to this."""
    if not re.search(rf'donnees/[a-z0-9-]+-{file}\.csv" download', page) or sentence not in page:
        yield from FIGURE.findall(page)


def of_neighbourhood(page: str, say: Language, path: str) -> Iterator[str]:
    period = "week" if "/semaine/" in path else "so_far"
    yield from of_stories(page, say, period)
    yield from without_lead(page, "codes-heures", said(say, "codes.usual"))
    yield from without_lead(page, "codes")


def of_months(page: str, say: Language, path: str) -> Iterator[str]:
    yield from without_lead(page, "codes-annee", said(say, "codes.long"))
    shown = page.partition(f"<h2>{said(say, 'page.data')}</h2>")[0]
    if "/mois/" in path or "Lden" in shown:
        key = "codes.usual" if "/mois/" in path else "codes.hours"
        yield from without_lead(page, "codes-heures", said(say, key))
    if "/mois/" in path:
        names = {name for text in _LIST.findall(page) for name in named(text)}
        yield from (name for name, cells in _ROW.findall(page) if figured(cells) and name not in names)


def of_home(page: str, say: Language, path: str) -> Iterator[str]:
    listed = _LIST.search(page)
    names = named(listed[1]) if listed else set()
    for item in re.findall(r"<li><h2>.*?</li>", page, re.S):
        quartier = re.search(r'lang="fr">([^<]*)</a></h2>', item)
        place = ""
        for found in _OF_PLACE.finditer(item):
            place = found[1] or place
            if found[2] and FIGURE.search(found[3]) and quartier:
                name = f"{quartier[1]}, {place}, {found[2]}"
                yield from () if name in names else (name,)


def of_bulletin(page: str, say: Language, path: str) -> Iterator[str]:
    lead = said(say, "codes.site", address="[a-z.]+", file="donnees/[a-z0-9-]+-codes-heures.csv")
    file = re.search(lead, page)
    for story in _STORY.finditer(page.partition("</main>")[0]):
        rows = [name for name, cells in _ROW.findall(story["told"]) if figured(cells)]
        key = _KEY.search(story["told"])
        if key and FIGURE.search(f"{key[1]} {key[2]}") and not CODE.search(story["heading"]):
            rows.append(key[1])
        yield from () if file else rows
    yield from () if file else CODE.findall(page)  # it also says what they are for


def of_text(text: str, say: Language, path: str) -> Iterator[str]:
    """Of a message, a text to read out or a feed: a code after each figure, or the words that lead to them."""
    lead = {"message.txt": "message.codes", "telephone.txt": "spoken.codes", "atom.xml": "codes.several"}
    words = said(say, lead[path.rpartition("/")[2]], **({"where": ""} if path.endswith(".xml") else {}))
    if path.endswith(".xml"):
        for one in re.findall(rf"[^\n]*?: [^\n]*? {UNIT} \([^)]*\)[^.]*\.", text):
            yield from () if CODE.search(one) or words.strip() in one else (one,)
    elif re.sub(r"\s*:", ":", words) not in re.sub(r"\s*:", ":", text):
        told = re.findall(rf"\d[\d .,]* (?:{UNIT}|ug/m3) \([^)]*\)(?:, [^.,]*)??(, {CODE.pattern})?\.", text)
        yield from ("a figure" for code in told if not code)
        yield from re.findall(r"\d[^.,]*, (?:entre|between) \d", text)


# What makes of the figures of each kind of page those that lead nowhere; () for what has none.
JUDGES: Mapping[str, Callable[[str, Language, str], Iterator[str]]] = {
    "": of_home,
    "quartiers/*/": of_neighbourhood,
    "quartiers/*/semaine/": of_neighbourhood,
    "quartiers/*/mois/": of_months,
    "quartiers/*/annee/": of_months,
    "quartiers/*/bulletin.html": of_bulletin,
    "quartiers/*/bulletin-grand.html": of_bulletin,
}


def nowhere(path: str, text: str) -> list[str]:
    """Returns the figures of a page or text, by its path below the site's root, that lead nowhere."""
    code = "en" if path.startswith("en/") else "fr"
    say, page = language(code), plain(text)
    if path.endswith((".txt", ".xml")):
        return list(of_text(page, say, path)) if "quartiers/" in path else []
    of = kind(path.removeprefix("en/"))
    judge = JUDGES.get(of or "")
    if of is None or judge is None or (of == "" and "index.html" not in path):
        privacy = re.findall(r"<td>\d[\d,.]*</td>", page) if of == "vie-privee/*/" else []
        return [*FIGURE.findall(page), *(privacy if "ledger.jsonl" not in page else [])]
    return list(judge(page, say, path))


def walked(files: Mapping[str, bytes]) -> dict[str, list[str]]:
    """Returns what leads nowhere, by page."""
    pages = (path for path in files if path.endswith((".html", "message.txt", "telephone.txt", "atom.xml")))
    return {path: found for path in pages if (found := nowhere(path, files[path].decode()))}


@pytest.fixture(scope="module")
def files(archive: Any, city: City, streets: SimpleNamespace) -> Mapping[str, bytes]:
    """Every file of the town of the tests, in which sensors fall silent and one series is paused."""
    return dict(render(archive, city, streets.NOW_S))


def test_every_figure_of_every_page_leads_to_what_was_signed(files: Mapping[str, bytes]) -> None:
    """Pages, sheets, feeds, messages and texts to read out, in both languages."""
    assert walked(files) == {}
    seen = {kind(path) for path in files if path.endswith(".html") and not path.startswith("en/")}
    assert set(JUDGES) <= seen
    figures = {path: len(FIGURE.findall(plain(files[path].decode()))) for path in files if path.endswith(".html")}
    for root in ("", "en/"):
        assert figures[f"{root}index.html"] >= 7 and figures[f"{root}quartiers/centre/index.html"] >= 30
        assert all(figures[f"{root}quartiers/gare/{span}index.html"] for span in ("semaine/", "mois/", "annee/"))


FAULTS = {
    "a line of the home page": ("index.html", r"(Centre, Place de la République, Passages)\n  .*\n", ""),
    "the list of the home page": ("en/index.html", r'(?s)<pre class="codes">.*?</pre>', ""),
    "a row of a day": ("quartiers/centre/index.html", r"\n13\W+h\W+14\W+h +\S+", ""),
    "the number of a week": ("en/quartiers/centre/semaine/index.html", r"\nThe\W7\Wdays +", "\n"),
    "the highest hour of a week": ("quartiers/centre/semaine/index.html", r"\nLe\Wplus\Whaut +\S+", ""),
    "the year's file": ("quartiers/gare/annee/index.html", r'codes-annee\.csv"', 'x.csv"'),
    "the hours' sentence": ("en/quartiers/centre/annee/index.html", r"Lden and Ln are made of the hours\.", ""),
    "a day of a month": ("quartiers/centre/mois/index.html", r"\nmar\.\W17\Wnov\. +\S+", ""),
    "the foot of a bulletin": ("quartiers/centre/bulletin.html", r"donnees/centre-codes-heures\.csv", ""),
    "what a code on paper is for": ("quartiers/centre/bulletin-grand.html", r"Vérifier\W+un\W+code", "Lire"),
    "the words of a message": ("quartiers/centre/message.txt", r" Codes: site\.", ""),
    "the last paragraph": ("en/quartiers/gare/telephone.txt", r"The codes of these figures.*", ""),
    "the codes of a feed": ("quartiers/centre/atom.xml", r", code \S+\.", "."),
    "a figure on another page": ("capteurs/index.html", "</h1>", "</h1><p>12 passages (entre 3 et 21)</p>"),
    "the ledger": ("vie-privee/plaza/index.html", "ledger", "x"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_figure_that_leads_nowhere_is_found(files: Mapping[str, bytes], fault: str) -> None:
    """Broken twins: a page without one of its codes, or without a sentence or a file that leads to them."""
    path, old, new = FAULTS[fault]
    text, count = re.subn(old, new, files[path].decode())
    assert count >= 1, "the fault was planted"
    assert nowhere(path, text) != [] and nowhere(path, files[path].decode()) == []


class Elements(HTMLParser):
    """Counts the elements of a page outside of its pictures."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.many, self._drawn = 0, False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.many += not self._drawn
        self._drawn = self._drawn or tag == "svg"

    def handle_endtag(self, tag: str) -> None:
        self._drawn = self._drawn and tag != "svg"


@pytest.mark.parametrize(("sites", "streams", "each"), [(2, 6, 3), (3, 8, 3), (4, 8, 2)])
def test_a_crowded_page_has_its_codes_too(
    streets: SimpleNamespace, city: City, sites: int, streams: int, each: int
) -> None:
    """With annotations on each of as many streams as a neighbourhood can have; and it stays within its budget."""
    street, at_s = streets.Street(), streets.PARIS.day(streets.NOW_S).start_s
    for number in range(sites):
        few = ("footfall", "noise", "pm2_5")[: min(each, streams - each * number)]
        streets.add(street, f"s{number}", streets.week_of(streets.NOW_S), streams=few)
    assert len(street.infos) == streams
    notes = [
        Annotation(info.site, number, streets.NOW_S, "Panne.", info.stream, at_s - 7200, at_s + 7200, "moved")
        for number, info in enumerate(street.infos, 1)
    ]
    places = tuple(replace(city.site[0], id=f"s{number}", name=f"Place {number}") for number in range(sites))
    one = replace(city, quartier=city.quartier[:1], site=places, request=())
    made = dict(render(street.annotate(*notes), one, streets.NOW_S))
    assert walked(made) == {}
    for root in ("", "en/"):
        for span in ("", "semaine/", "mois/", "annee/"):
            page = made[f"{root}quartiers/centre/{span}index.html"]
            assert Elements(page).many <= MOST_ELEMENTS, (root, span)
            assert len(compressed(page)) <= 26_000, "with sheet and icon at most 30 kB"
            assert "murmure verify CODE" in page.decode() or span in ("mois/", "annee/")
        week = made[f"{root}quartiers/centre/semaine/index.html"].decode()
        if streams == 8:  # one legend for all charts, which also explains what only one of them shows
            assert week.count('class="legend"') == 1 and 'class="of-faulty"' in week and 'class="of-line"' in week
