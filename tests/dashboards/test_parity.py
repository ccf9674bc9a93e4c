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
from murmure_privacy.window import Window, parse_utc, utc

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


def three(said: re.Match[str], english: bool) -> tuple[Decimal, Decimal, Decimal]:
    """Returns an estimate and the ends of its interval."""
    return number(said[1], english), number(said[2], english), number(said[3], english)


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
                    found[place, unit] = three(said, english)
    return found


def of_keys(html: str, english: bool) -> Facts:
    """Returns the facts in the first lines of each stream of a neighbourhood's page: of all of its span."""
    found: Facts = {}
    for section in re.split(r'<h2 lang="fr">', html)[1:]:
        place = unescape(section.partition("</h2>")[0])
        for line in re.findall(r'<p class="key">(.*?)</p>', section):
            text = unescape(re.sub(r"<[^>]*>", "", line))
            found |= {(place, unit): said for unit, said in figures(text, english).items()}
    return found


def of_home(html: str, english: bool) -> Facts:
    """Returns the facts of the list on the city's page."""
    found: Facts = {}
    for section in re.split(r'<p class="place"[^>]*>', html.partition("</ul>\n<h2>")[0])[1:]:
        place, _, lines = section.partition("</li>")[0].partition("</p>")
        for line in lines.split("</p>"):
            text = unescape(re.sub(r"<[^>]*>", "", line))
            found |= {(unescape(place), unit): said for unit, said in figures(text, english).items()}
    return found


def of_month(html: str, day: date, english: bool) -> Facts:
    """Returns the facts of a day in the tables of a month's page, one column a stream."""
    found: Facts = {}
    for section in re.split(r'<h2 lang="fr">', html)[1:]:
        place = unescape(section.partition("</h2>")[0])
        heads = re.findall(r'<th scope="col">([^<]*)</th>', section)[1:]
        row = re.search(rf'<tr><th scope="row">\w+\.? {day.day} \w+\.?</th>(.*?)</tr>', section.replace("\u00a0", " "))
        for head, cell in zip(heads, re.findall(r"<td>([^<]*)", row[1]) if row else (), strict=bool(row)):
            unit = next((u for u in ("dB", "µg/m³") if u in head), "passages")
            said = re.match(rf"{NUMBER} \({NUMBER} (?:à|to) {NUMBER}\)", unescape(cell))
            if said:
                found[place, unit] = three(said, english)
    return found


def parts(file: Path, site: str, indicator: str, days: Window) -> list[tuple[Window, float]]:
    """Returns what a file estimates of the hours within some days, and of quarter-hours that are in none of these. A
    longer node may know less: of one that was cut short the file has the rest alone."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = [
            (Window(parse_utc(row["start_utc"]), parse_utc(row["end_utc"])), float(row["estimate"]))
            for row in csv.DictReader(lines)
            if (row["site"], row["indicator"]) == (site, indicator)
            and row["estimate"]
            and row["node"] in ("1h", "15min")
        ]
    found: list[tuple[Window, float]] = []
    for span, estimate in sorted(rows, key=lambda row: row[0].start_s - row[0].end_s):
        apart = all(span.end_s <= one.start_s or one.end_s <= span.start_s for one, _ in found)
        if days.start_s <= span.start_s and span.end_s <= days.end_s and apart:
            found.append((span, estimate))
    return found


def off(said: Said, true: float) -> bool:
    """Whether an estimate is not what a number is in the steps in which it is printed with its interval."""
    step = min(Decimal(10) ** _places(one) for one in said)
    return abs(Decimal(true) - said[0]) > step / 2


def _places(shown: Decimal) -> int:
    exponent = shown.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent


def unlike(facts: Facts, slug: str, file: Path, days: Window, each_day: bool = False) -> list[tuple[str, str]]:
    """Returns which facts of a span are not the sum, or the mean, of the file's own estimates of its hours.
    `each_day`: crossings are told by day. Means, and crossings by day, only where nothing is missing in the file."""
    found = []
    for site, place in PLACES[slug].items():
        for unit, indicator in (("passages", "crossings"), ("dB", "level_db_mean"), ("µg/m³", "pm2_5_ug_m3")):
            of = parts(file, site, indicator, days)
            measured_s = sum(span.end_s - span.start_s for span, _ in of)
            said = facts.get((place, unit))
            if said is None or not known(slug, site, unit, each_day):
                continue
            by_s = sum((span.end_s - span.start_s) * estimate for span, estimate in of) / measured_s
            true = by_s if unit != "passages" else sum(estimate for _, estimate in of)
            if off(said, true * 86_400 / measured_s if each_day and unit == "passages" else true):
                found.append((place, unit))
    return found


def known(slug: str, site: str, unit: str, each_day: bool) -> bool:
    """Whether a figure of a place can be made of the file alone: not where a gateway was away, since the file does not
    say of how much of its time a node that was cut knows."""
    return slug == "centre" or (unit == "passages" and not (each_day and site == "station"))


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
        days = [row for row in csv.DictReader(lines) if row["node"] == "1d" and row["start_utc"] == utc(window.start_s)]
    rows = [row for row in days if row["site"] in PLACES[slug]]
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


def spans(streets: SimpleNamespace) -> Mapping[str, Window]:
    """Returns the days that a page is about: today so far, those up to today, and those that are over."""
    today, first = streets.PARIS.day(streets.NOW_S), streets.PARIS.midnight(FRIDAY - timedelta(days=5))
    over = Window(first, today.start_s)
    return {"": today, "semaine/": Window(first, today.end_s), "mois/": over, "annee/": over}


@pytest.mark.parametrize("slug", PLACES)
@pytest.mark.parametrize("code", ["fr", "en"])
def test_home_says_the_figures_of_the_day_page(site: Path, slug: str, code: str) -> None:
    """Of each place, in both languages, those since midnight."""
    english, root = code == "en", site / ("en" if code == "en" else "")
    home = of_home((root / "index.html").read_text(encoding="utf-8"), english)
    day = of_keys((root / f"quartiers/{slug}/index.html").read_text(encoding="utf-8"), english)
    of_slug = {key: said for key, said in home.items() if key[0] in PLACES[slug].values()}
    assert day == of_slug and len(day) == 3


@pytest.mark.parametrize("slug", PLACES)
@pytest.mark.parametrize("code", ["fr", "en"])
@pytest.mark.parametrize("page", ["", "semaine/", "mois/", "annee/"])
def test_the_figure_of_a_span_is_made_of_those_of_the_file(
    site: Path, streets: SimpleNamespace, tmp_path: Path, slug: str, code: str, page: str
) -> None:
    """Today so far, seven days, the days of the month and of the year: what the file estimates of their parts, summed
    or averaged, is the figure that heads the page."""
    root, month = site / ("en" if code == "en" else ""), tmp_path / "town.csv"
    of_month, of_today = (site / f"donnees/releases-{name}.csv" for name in ("2026-11", "jour-en-cours"))
    month.write_bytes(of_month.read_bytes() + of_today.read_bytes().partition(b"\r\n")[2])
    html = (root / f"quartiers/{slug}/{page}index.html").read_text(encoding="utf-8")
    facts, span = of_keys(html, code == "en"), spans(streets)[page]
    assert len(facts) >= 3
    assert unlike(facts, slug, month, span, page == "annee/") == []
    if page in ("", "semaine/"):
        own = site / f"donnees/{slug}-{'semaine' if page else 'jour'}.csv"
        assert unlike(facts, slug, own, span) == []
    # One last figure that is another, and it is seen.
    for key, (estimate, low, high) in facts.items():
        step = Decimal(10) ** min(map(_places, (estimate, low, high)))
        wrong = unlike({**facts, key: (estimate + step, low, high)}, slug, month, span, page == "annee/")
        place = next(name for name, told in PLACES[slug].items() if told == key[0])
        assert wrong == ([key] if known(slug, place, key[1], page == "annee/") else [])


@pytest.mark.parametrize("slug", PLACES)
@pytest.mark.parametrize("code", ["fr", "en"])
def test_the_days_of_a_month_are_those_of_the_week_and_of_the_file(
    site: Path, streets: SimpleNamespace, slug: str, code: str
) -> None:
    """Each row of the month's table says what the week says of that day, and the town's own file."""
    english, folder = code == "en", site / ("en" if code == "en" else "") / f"quartiers/{slug}"
    week, month = ((folder / f"{name}/index.html").read_text(encoding="utf-8") for name in ("semaine", "mois"))
    in_file = 0
    for ago in range(6):
        day = FRIDAY - timedelta(days=ago)
        told = of_month(month, day, english)
        of_week = of_page(week, slug, day, english)
        # Of a day cut short the week tells the mean and no LAeq; the month, with one column, the LAeq of its hours.
        cut = {("Parvis de la gare", "dB")} if day.day in (16, 17) else set()
        differing = {key for key in told.keys() | of_week.keys() if told.get(key) != of_week.get(key)}
        assert told and differing <= cut, day
        file = of_csv(site / "donnees/releases-2026-11.csv", slug, day, streets)
        assert {key: said for key, said in file.items() if told.get(key) != said and key not in cut} == {}, day
        in_file += len(file)
    assert in_file >= 15
    row = f"{'Fri 20 Nov' if english else 'ven. 20 nov.'}</th><td>"
    assert row in month.replace("\u00a0", " ")
    changed = month.replace("\u00a0", " ").replace(row, f"{row}9")
    assert of_month(changed, FRIDAY, english) != of_page(week, slug, FRIDAY, english)


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
