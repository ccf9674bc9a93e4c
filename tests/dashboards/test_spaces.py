"""French spaces: no line of a page ends within a number, before its unit or a sign, after n° or within « »."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards.config import City
from murmure_dashboards.site import render
from murmure_dashboards.wording import FIXED, language
from murmure_privacy.annotation import Annotation

UNITS = r"%|dB|µg/m³|[kKMG]?o|h|min|ms|s|km|m|cm|mm|k?Hz|°C|€"
MAY_BREAK = {
    "within a number": re.compile(r"\d \d{3}(?!\d)"),
    "before a unit": re.compile(rf"\d (?:{UNITS})(?![\w’])"),
    "between hours and minutes": re.compile(r"\d\sh \d"),
    "after n°": re.compile(r"[nN]° "),
    "before a sign": re.compile(r" [:;!?»](?!\w)"),
    "within quotes": re.compile("« "),
    "within a telephone number": re.compile(r"(?:\d\d ){2}\d\d"),
}
TYPED = "Arrêté n° 7 : « sur 1 200 m » ; pourquoi ? À 80 dB, dès 7 h 30 ! Tél. 01 23 45 67 89."
PHONE = "01 23 45 67 89"
WITHIN = ("strong", "em", "a", "b", "abbr", "time")
"""Elements within a sentence."""
NOT_PROSE = ("pre", "code", "script", "style", "textarea")


class Prose(HTMLParser):
    """The French sentences of a page, of its attributes too."""

    def __init__(self) -> None:
        super().__init__()
        self.found, self._said = list[str](), ""
        self._within: list[tuple[str, bool]] = []
        """The open elements, and whether each is French prose."""

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        outer = self._within[-1][1] if self._within else True
        french = (of.get("lang") == "fr" if "lang" in of else outer) and tag not in NOT_PROSE
        if tag not in WITHIN:
            self.end()
        if french:
            self.found += [said for name in ("title", "alt", "aria-label") if (said := of.get(name))]
        if tag not in ("meta", "link", "br", "img", "input", "hr"):
            self._within.append((tag, french))

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Of a picture: it has no text."""

    def handle_endtag(self, tag: str) -> None:
        if tag not in WITHIN:
            self.end()
        while self._within and self._within.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not self._within or self._within[-1][1]:
            self._said += data

    def end(self) -> None:
        """Ends a sentence: the next element is no part of it."""
        if said := re.sub(r"[ \t\r\n]+", " ", self._said).strip():
            self.found.append(said)
        self._said = ""


def broken(page: str) -> Iterator[str]:
    """Yields where a line of the French text of a page may end although it must not."""
    prose = Prose()
    prose.feed(page)
    prose.close()
    prose.end()
    for said in prose.found:
        for name, sign in MAY_BREAK.items():
            yield from (f"{name}: {said[max(0, m.start() - 30) : m.end() + 20]}" for m in sign.finditer(said))


def french(files: Mapping[str, bytes]) -> dict[str, str]:
    """Returns the French pages of a site."""
    return {path: content.decode() for path, content in files.items() if path.endswith(".html") and path[:3] != "en/"}


def test_no_french_page_breaks_a_line_where_it_must_not(site: Path) -> None:
    """Of the whole site of a town, bulletins included."""
    root = site.resolve()
    pages = french({str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*.html")})
    assert len(pages) > 30
    assert {path: found for path, page in pages.items() if (found := list(broken(page)))} == {}


def test_what_people_type_is_set_with_the_same_spaces(street: Any, city: City, streets: SimpleNamespace) -> None:
    """In the town's description, in policies, and of what stewards marked as faulty: nobody types what does not
    break."""
    day = streets.PARIS.day(streets.NOW_S)
    note = Annotation("plaza", 1, streets.NOW_S, TYPED, "plaza/noise", day.start_s, day.start_s + 7200, "moved")
    street.notes = street.annotate(note).notes
    made = streets.Street()
    streets.add(
        made,
        "plaza",
        streets.week_of(streets.NOW_S),
        swap=[("Mesurer la place.", TYPED), ("Délibération 2026-11-03 n° 42", TYPED)],
    )
    made.notes = street.notes
    sensors = tuple(replace(one, method=TYPED, computes=TYPED, leaves=TYPED) for one in city.site[0].sensor)
    place = replace(city.site[0], sensor=sensors, purpose=TYPED, owner=TYPED, contact=TYPED)
    sites = (replace(place, street=TYPED, legal_basis=TYPED),)
    town = replace(city, site=sites, help=TYPED, postal=TYPED, publisher=TYPED, phone=PHONE)
    town = replace(town, request=tuple(replace(one, answer=one.answer and TYPED) for one in town.request))
    files = dict(render(made, town, streets.NOW_S))
    english = {path: content.decode() for path, content in files.items() if path[:3] == "en/" and path[-5:] == ".html"}
    assert sum(page.count("Tél.") for page in english.values()) > 30
    for pages in (french(files), english):  # of English pages what is in French
        assert {path: found for path, page in pages.items() if (found := list(broken(page)))} == {}
    assert [path for path, page in english.items() if PHONE in page] == []


@pytest.mark.parametrize(
    "mended",
    [
        *("Délibération n°\u00a042", "2\u202f266\u00a0Ko", "7\u00a0h\u00a030", "«\u00a0ici\u00a0»", "ici\u202f;"),
        *("ici\u00a0:", "01\u00a000\u00a012\u00a034\u00a056", "+33\u00a01\u00a000\u00a012\u00a034\u00a056"),
    ],
)
def test_ordinary_spaces_are_found_out(mended: str) -> None:
    """The twin; English text on a French page is left alone."""
    typed = mended.replace("\u00a0", " ").replace("\u202f", " ")
    assert list(broken(f"<p>Voir <strong>{typed}</strong> là.</p>"))
    assert not list(broken(f"<p>Voir <strong>{mended}</strong> là.</p>"))
    assert not list(broken(f'<p>Voir <span lang="en">{typed}</span> là.</p><pre>{typed}</pre>'))
    assert language("fr").typeset("en 2026 350 capteurs") == "en 2026 350 capteurs", "two numbers"
    assert language("fr").typeset(typed) == language("en").typeset(typed) == mended


@pytest.mark.parametrize(
    "number", ["+33 (0)1 23 45 67 89", "(+33) 1 23 45 67 89", "+33 1 23 45 67 89", "01 23 45 67 89"]
)
def test_a_number_to_call_stays_on_its_line(number: str) -> None:
    """Whichever way the town writes it."""
    said = language("fr").typeset(f"Mairie, {number}, le matin")
    assert said == f"Mairie, {number.replace(' ', FIXED)}, le matin"
