"""One figure, wherever it is said: read back from page, feed, message, telephone, paper and CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from html import unescape
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pypdf
import pytest
from murmure_dashboards.wording import rounded
from murmure_privacy.window import utc

Said = tuple[Decimal, Decimal, Decimal]  # estimate, low, high
Facts = dict[tuple[str, str], Said]  # by place and unit

ATOM = "{http://www.w3.org/2005/Atom}"
PLACES = {
    "centre": {"plaza": "Place de la République"},
    "gare": {"station": "Parvis de la gare", "alley": "Passage des Tanneurs"},
}
UNITS = {"crossings": "passages", "laeq_db": "dB", "level_db_mean": "dB", "pm2_5_ug_m3": "µg/m³"}
WORDS = {
    "passages": r"passages?|crossings?",
    "dB": r"dB|d[ée]cibels",
    "µg/m³": r"[µu]g/m[³3]|microgrammes par mètre cube|micrograms per cubic metre",
}
NUMBER = r"((?:\d{1,3}(?:[\s,]\d{3})+|\d+)(?:[.,]\d+)?)"
FRIDAY = date(2026, 11, 20)
WIDEST_DB = 3


def number(text: str, english: bool) -> Decimal:
    plain = re.sub(r"\s", "", text)
    return Decimal(plain.replace(",", "") if english else plain.replace(",", "."))


def figures(text: str, english: bool) -> dict[str, Said]:
    """Returns estimate and interval by unit: `N unit (entre A et B` or `N unit, entre A et B`."""
    found = {}
    for unit, words in WORDS.items():
        said = re.search(rf"{NUMBER}\s(?:{words}),? \(?(?:entre|between) {NUMBER} (?:et|and) {NUMBER}", text)
        if said:
            found[unit] = tuple(number(said[n], english) for n in (1, 2, 3))
    return found  # type: ignore[return-value]


def of_text(text: str, slug: str, english: bool) -> Facts:
    """Returns the facts of a text that names its places, if there are several, each before its figures."""
    names = list(PLACES[slug].values())
    parts = re.split("|".join(map(re.escape, names)), text)
    heads = re.findall("|".join(map(re.escape, names)), text)
    if not heads:
        heads, parts = names[:1], ["", text]
    found: Facts = {}
    for name, part in zip(heads, parts[1:], strict=True):
        found |= {(name, unit): said for unit, said in figures(part, english).items()}
    return found


def of_page(html: str, slug: str, day: date, english: bool) -> Facts:
    """Returns the facts of a day in the tables of a week's page; of noise the LAeq, where it is shown."""
    found: Facts = {}
    for section in re.split(r'<h2 lang="fr">', html)[1:]:
        place = unescape(section.partition("</h2>")[0])
        for story in section.split("<h3>")[1:]:
            unit = next((u for u, w in (("dB", "dB"), ("µg/m³", "µg/m³")) if w in story), "passages")
            row = re.search(rf'<tr><th scope="row">\w+ {day.day}</th>(.*?)</tr>', story)
            for cell in re.findall(r"<td>([^<]*)", row[1]) if row else ():
                said = re.match(rf"{NUMBER} \({NUMBER} (?:à|to) {NUMBER}\)", unescape(cell))
                if said:
                    found[place, unit] = tuple(number(said[n], english) for n in (1, 2, 3))  # type: ignore[assignment]
    return found


def of_pdf(pdf: bytes) -> str:
    """Returns the text of a sheet in its order, without the tables beside the pictures."""
    text = "\n".join(page.extract_text() for page in pypdf.PdfReader(BytesIO(pdf)).pages)
    return re.sub(r"\s+", " ", re.sub(r"(?m)^\d\d?(?::00| h) – .*$", "", text))


def of_feed(xml: bytes, slug: str, day: date, english: bool) -> Facts:
    for entry in ElementTree.fromstring(xml).iter(f"{ATOM}entry"):
        if str(entry.findtext(f"{ATOM}id")).endswith(day.isoformat()):
            return of_text(str(entry.findtext(f"{ATOM}summary")), slug, english)
    return {}


def of_csv(file: Path, slug: str, day: date, streets: SimpleNamespace) -> Facts:
    """Returns the facts of the nodes of a day, rounded as their interval bears; what is not printed is left out."""
    found: Facts = {}
    window = streets.PARIS.day(streets.PARIS.midnight(day))
    with file.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["node"] == "1d" and row["start_utc"] == utc(window.start_s)]
    # The LAeq after the mean, whose place it takes.
    for row in sorted(rows, key=lambda one: one["indicator"] == "laeq_db"):
        unit = UNITS.get(row["indicator"])
        if not unit or "" in (row["estimate"], row["ci95_low"], row["ci95_high"]):
            continue
        ends = [float(row[key]) for key in ("estimate", "ci95_low", "ci95_high")]
        if unit == "dB" and max(ends[0] - ends[1], ends[2] - ends[0]) > WIDEST_DB:
            continue
        printed = rounded(ends[0], ends[1], ends[2], finest=0 if unit == "passages" else -1)
        if printed.estimate > 0:
            low = printed.low if unit == "dB" else max(printed.low, Decimal(0))
            found[PLACES[slug][row["site"]], unit] = (printed.estimate, low, printed.high)
    return found


@pytest.mark.parametrize("slug", PLACES)
@pytest.mark.parametrize("code", ["fr", "en"])
def test_page_feed_and_file_say_the_same_figures(site: Path, streets: SimpleNamespace, slug: str, code: str) -> None:
    """On each of the six days that are over; where a day has a node of its own in the file, the file too."""
    english, folder = code == "en", site / ("en" if code == "en" else "") / f"quartiers/{slug}"
    html = (folder / "semaine/index.html").read_text(encoding="utf-8")
    xml = (folder / "atom.xml").read_bytes()
    in_file = 0
    for ago in range(6):
        day = FRIDAY - timedelta(days=ago)
        page, feed = of_page(html, slug, day, english), of_feed(xml, slug, day, english)
        assert page and page == feed, day
        file = of_csv(site / f"donnees/{slug}-semaine.csv", slug, day, streets)
        assert {key: said for key, said in file.items() if page.get(key) != said} == {}, day
        in_file += len(file)
    assert in_file >= 15


@pytest.mark.parametrize("slug", PLACES)
@pytest.mark.parametrize("code", ["fr", "en"])
@pytest.mark.parametrize("name", ["message.txt", "telephone.txt", "bulletin.html", "bulletin-grand.html"])
def test_message_telephone_and_paper_say_the_figures_of_the_page(site: Path, slug: str, code: str, name: str) -> None:
    """Of the last day that is over: telephone and paper all of them, a message those that it has room for."""
    english, folder = code == "en", site / ("en" if code == "en" else "") / f"quartiers/{slug}"
    page = of_page((folder / "semaine/index.html").read_text(encoding="utf-8"), slug, FRIDAY, english)
    text = (folder / name).read_text(encoding="utf-8")
    if name.endswith(".html"):  # without the captions of the pictures, which name the place again
        text = unescape(
            re.sub(r"(\s*<[^>]*>\s*)+", " ", re.sub(r"(?s)<head>.*?</head>|<figure>.*?</figure>", "", text))
        )
    said = of_text(text, slug, english)
    assert said and said.items() <= page.items()
    assert name == "message.txt" or said == page


@pytest.mark.parametrize("slug", PLACES)
@pytest.mark.parametrize("code", ["fr", "en"])
@pytest.mark.parametrize("name", ["bulletin.pdf", "bulletin-grand.pdf"])
def test_a_printed_sheet_says_the_figures_of_the_page(
    site: Path, printed: Mapping[str, bytes], slug: str, code: str, name: str
) -> None:
    """All of them, as they are read out of the PDF; one changed digit on the page, and the two no longer agree."""
    english, folder = code == "en", f"{'en/' if code == 'en' else ''}quartiers/{slug}"
    html = (site / folder / "semaine/index.html").read_text(encoding="utf-8")
    said = of_text(of_pdf(printed[f"{folder}/{name}"]), slug, english)
    assert said and said == of_page(html, slug, FRIDAY, english)
    day = f"{'Friday' if english else 'vendredi'} 20</th><td>"
    assert said != of_page(html.replace(day, f"{day}9"), slug, FRIDAY, english)


def test_another_figure_is_found(site: Path, streets: SimpleNamespace) -> None:
    """One changed digit, wherever it stands, and the outputs no longer agree."""
    folder = site / "quartiers/centre"
    html = (folder / "semaine/index.html").read_text(encoding="utf-8")
    page = of_page(html, "centre", FRIDAY, False)
    file = of_csv(site / "donnees/centre-semaine.csv", "centre", FRIDAY, streets)
    assert page == file and len(page) == 3
    for name in ("message.txt", "telephone.txt"):
        text = (folder / name).read_text(encoding="utf-8")
        for said in re.findall(r"\d+(?= (?:dB|décibels|passages|\())|\d+(?= et)", text):
            assert of_text(text.replace(f"{said} ", f"9{said} "), "centre", False) != page
    feed = (folder / "atom.xml").read_text(encoding="utf-8")
    assert of_feed(feed.replace(" passages (entre ", "1 passages (entre ").encode(), "centre", FRIDAY, False) != page
    assert of_page(html.replace("vendredi 20</th><td>", "vendredi 20</th><td>9"), "centre", FRIDAY, False) != page
