"""A faulty period on the pages: marked wherever a figure of it stands, in both languages, and no figure changes."""

from __future__ import annotations

import csv
import os
import re
import threading
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO, StringIO
from itertools import pairwise, product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_dashboards.charts import HATCHES, HEIGHT, _hatch
from murmure_dashboards.config import City
from murmure_dashboards.pages import MOST_ELEMENTS
from murmure_dashboards.pdf import PACKAGES, Press
from murmure_dashboards.server import serve
from murmure_dashboards.site import build, render
from murmure_dashboards.spoken import MOST_LETTERS
from murmure_dashboards.story import MOST_MARKS, Teller
from murmure_dashboards.views import view
from murmure_dashboards.wording import language
from murmure_privacy import wire
from murmure_privacy.annotation import Annotation, Withdrawal
from murmure_privacy.policies import Rules
from murmure_privacy.release import Release
from murmure_privacy.window import Window
from pypdf import PdfReader

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

ATOM = "{http://www.w3.org/2005/Atom}"
HOUR_S, DAY_S = 3600, 86_400
MIDNIGHT_S = 1_795_215_600  # 2026-11-21 00:00 in Paris
NOW_S = MIDNIGHT_S + 15 * HOUR_S + 900
ISSUED_S = NOW_S - 60
BOTH = Annotation(
    site="plaza",
    number=1,
    issued_s=ISSUED_S,
    sentence="L'échafaudage <cachait> le « capteur ».",
    stream="plaza/footfall",
    from_s=MIDNIGHT_S + 9 * HOUR_S,
    to_s=MIDNIGHT_S + 11 * HOUR_S,
    cause="obstructed",
    sentence_en="Scaffolding <hid> it.",
)
NOISE = replace(BOTH, number=2, stream="plaza/noise", sentence="Le micro prenait l'eau.", sentence_en="")
LONG = replace(
    BOTH, number=3, stream="plaza/pm2_5", from_s=MIDNIGHT_S - 20 * DAY_S, to_s=MIDNIGHT_S - 2 * DAY_S, cause="moved"
)
MISTAKE = replace(BOTH, number=4, from_s=MIDNIGHT_S, to_s=MIDNIGHT_S + HOUR_S, sentence="Jamais vu.")
BACK = Withdrawal("plaza", 5, ISSUED_S, "Erreur de lieu.", 4)
PAGES = ("index.html", "quartiers/centre/index.html", "quartiers/centre/semaine/index.html")
SPANS = ("quartiers/centre/mois/index.html", "quartiers/centre/annee/index.html")

# Everything that an annotation may add to a page, as the page writes it.
MARKS = (
    r'<p class="faulty">.*?</p>\n',
    r' <em class="faulty">.*?</em>',
    r", (?:dont [^<,]* de )?mesure faussée",
    r" \(mesure en partie faussée\)",
    r" Cette mesure est faussée\.",
    r"(?<=\.) \d+ intervalles? contien\w+ une mesure faussée\.",
    r'<path class="faulty"[^>]*/>',
    r' <span class="of-faulty">.*?</span>',
    r"<p><a [^>]*annotations\.csv.*?</p>\n",
    r", (?:\d+\u00a0h (?:\d\d )?of it faulty|faulty measurement)",
    r" \(measurement partly faulty\)",
    r" That measurement is faulty\.",
    r"(?<=\.) \d+ intervals? contains? a faulty measurement\.",
    r" (?:Mesure faussée, |Faulty measurement, )[^<]*?(?=</summary>)",
    r"(?:Cette page pèse|This page weighs)\D{1,2}\d+.[Kk][oB]\.",
    r"<updated>[^<]*</updated>",
    # In the place of a comparison that nobody makes with what is faulty.
    r"(?<=<p>)(?:La mesure est faussée\s: on|The measurement is faulty: it)[^.]*\.",
    r"(?<=<p>)(?:On ne peut pas dire (?:si c|ce qui)|Whether this is as usual|What is usual)[^.]*\.",
    r"(?<=\. )(?:Pour les \d+ jours comparés|For the \d+ days compared),[^.]*\.",
)


def drawn(archive: Any, city: City) -> dict[str, str]:
    files = dict(render(archive, city, NOW_S))
    texts = [path for path in files if not path.startswith("static") and path[-5:] not in (".cose", "rquet")]
    return {path: files[path].decode() for path in texts}


def unmarked(page: str) -> str:
    """Returns a page without what annotations may add. What hours that follow each other have in common is said once,
    and a mark parts them: without it they are one again."""
    for mark in MARKS:
        page = re.sub(mark, "", page)
    row = r'<tr><th scope="row">{} – {}</th><td>{}</td></tr>\n'
    same = row.format(r"([^<–]*)", r"([^<–]*)", r"([^<]*)") + row.format(r"\2", r"([^<–]*)", r"\3")
    while page != (page := re.sub(same, r'<tr><th scope="row">\1 – \4</th><td>\3</td></tr>\n', page)):
        pass
    return page


@pytest.fixture(scope="module")
def plain(archive: Any, city: City) -> dict[str, str]:
    return drawn(archive, city)


@pytest.fixture(scope="module")
def marked_archive(archive: Any) -> Any:
    return archive.annotate(BOTH, NOISE, LONG, MISTAKE, BACK)


@pytest.fixture(scope="module")
def marked(marked_archive: Any, city: City) -> dict[str, str]:
    return drawn(marked_archive, city)


def differing(one: dict[str, str], other: dict[str, str]) -> set[str]:
    """Returns the files that differ once the marks are taken off; the file of annotations is all marks."""
    assert one.keys() == other.keys()
    unlike = [path for path in one if one[path] != other[path]]  # to take marks off takes longer than to compare
    return {path for path in unlike if unmarked(one[path]) != unmarked(other[path])} - {"donnees/annotations.csv"}


def test_no_figure_changes(plain: dict[str, str], marked: dict[str, str], city: City) -> None:
    """With and without annotations each page is the same, byte by byte, but for the marks, and the open data are the
    same with them."""
    telling = {f"donnees/{name}" for name in ("annotations.csv", "datapackage.json", "catalogue.jsonld")}
    # Of sizes: that of the file of annotations, and those of all pages.
    telling |= {f"{code}{page}/index.html" for code in ("", "en/") for page in ("donnees", "empreinte")}
    telling |= {f"{code}vie-privee/atom.xml" for code in ("", "en/")}  # annotations are decisions
    assert differing(plain, marked) <= telling
    touched = {path for path in plain if plain[path] != marked[path]} - telling
    pages = [*PAGES, *SPANS, "quartiers/centre/atom.xml"]
    pages += [path for path in plain if path in ("capteurs/plaza/index.html", f"c/{city.site[0].code}/index.html")]
    assert touched == {f"{code}{page}" for code in ("", "en/") for page in pages}


def test_a_changed_figure_would_be_found(marked_archive: Any, plain: dict[str, str], city: City) -> None:
    """The twin: were one marked release a little otherwise, pages and files would differ beyond their marks."""
    other = marked_archive.annotate()
    nodes = list(other.nodes["plaza/footfall"])
    at, release = next(
        (at, o)
        for at, o in enumerate(nodes)
        if isinstance(o, Release) and (o.node.level, o.node.start_s) == ("1h", BOTH.from_s)
    )
    (count,) = release.noised
    nodes[at] = replace(release, noised=(replace(count, integers=(count.integers[0] + 60,)),))
    other.nodes = {**other.nodes, "plaza/footfall": nodes}
    found = differing(plain, drawn(other, city))
    assert {"donnees/centre-jour.csv", "quartiers/centre/index.html", "en/quartiers/centre/index.html"} <= found


def text_of(page: str) -> str:
    return page.replace("\u00a0", " ").replace("\u202f", " ")


def test_every_figure_of_the_period_says_so(marked: dict[str, str]) -> None:
    """Number, last figure, headline, table, picture with its description and its legend: on the city's page, the day
    and the week."""
    home, day, week = (text_of(marked[path]) for path in PAGES)
    head = "Mesure faussée, 9 h – 11 h : capteur masqué."
    assert home.count(head) == 2 and len(re.findall(r"de minuit à [^,]+, dont 2 h de mesure faussée", home)) == 2
    assert f'<p class="faulty"><strong>{head}</strong> L’échafaudage &lt;cachait&gt; le « capteur ».' in day
    assert "Les chiffres publiés restent tels quels ; ceux qui contiennent cette période le disent.</p>" in day
    assert len(re.findall(r"9 h – 1[01] h</th><td>[^<]*, mesure faussée</td>", day)) == 2
    assert len(re.findall(r"11 h – 12 h</th><td>[^<]*, mesure faussée</td>", day)) == 0
    assert len(re.findall(r'class="faulty" vector-effect', day)) == 2
    assert day.count('<span class="of-faulty">mesure faussée</span>') == 2
    assert day.count("2 intervalles contiennent une mesure faussée.") == 2
    assert len(re.findall(r"<figcaption><strong>[^<]* \(mesure en partie faussée\)\.</strong>", day)) == 2
    assert re.search(r"samedi 21</th><td>[^<]*, dont 2 h de mesure faussée, provisoire</td>", week)
    assert "Mesure faussée, sam. 21, 9 h – sam. 21, 11 h" not in week and "Mesure faussée, sam. 21, 9 h – 11 h" in week
    assert "en 7 jours, dont 2 h de mesure faussée" in week
    assert re.search(r"en moyenne sur 7 jours, dont 96 h de mesure faussée", week)
    assert "Mesure faussée, du dimanche 1er novembre 2026 à minuit au jeudi 19 novembre 2026 à minuit : capteur" in week
    assert "capteur déplacé" not in day + home, "it was over before today"
    month, year = (text_of(marked[path]) for path in SPANS)
    assert all("en moyenne depuis le 15 novembre 2026, dont 96 h de mesure faussée" in page for page in (month, year))
    assert len(re.findall(r"1[5-8] nov\.</th><td>[^<]*</td><td>[^<]*</td><td>[^<]*, mesure faussée</td>", month)) == 4
    assert "Pour les 2 jours comparés" in month and "capteur masqué" not in month + year, "today is not over"


def test_every_figure_says_so_in_english(marked: dict[str, str]) -> None:
    """The same, with the English sentence, or the French one marked as French where there is no other."""
    home, day, week = (text_of(marked[f"en/{path}"]) for path in PAGES)
    head = "Faulty measurement, 09:00 – 11:00: sensor obstructed."
    assert home.count(head) == 2
    assert f"<strong>{head}</strong> Scaffolding &lt;hid&gt; it. Published figures stay" in day
    assert f'<strong>{head}</strong> <span lang="fr">Le micro prenait l’eau.</span> Published figures' in day
    assert "09:00 – 10:00</th><td>" in day and day.count(", faulty measurement</td>") == 3, (
        "of noise, both hours in one"
    )
    assert "in 7 days, 2 h of it faulty" in week


def friday_marked(archive: Any, city: City, press: Press | None = None) -> dict[str, bytes]:
    """Returns the files of a town whose last day that is over is marked, on each stream of one place."""
    from_s = MIDNIGHT_S - DAY_S + 9 * HOUR_S
    marks = [
        replace(BOTH, number=number, stream=f"plaza/{name}", from_s=from_s, to_s=from_s + 2 * HOUR_S)
        for number, name in enumerate(("footfall", "noise", "pm2_5"), 1)
    ]
    return dict(render(archive.annotate(*marks), city, NOW_S, press=press))


PART = {"fr": ", dont 2 h de mesure faussée", "en": ", 2 h of it faulty"}
SHORT = {"fr": ", mesure faussée,", "en": ", measurement faulty,"}
HEAD = {"fr": "Mesure faussée, ", "en": "Faulty measurement, "}


@pytest.fixture(scope="module")
def friday(archive: Any, city: City) -> dict[str, bytes]:
    return friday_marked(archive, city)


def spoken_of(friday: dict[str, bytes], code: str, name: str) -> str:
    return text_of(friday[f"{'en/' if code == 'en' else ''}quartiers/centre/{name}"].decode())


@pytest.mark.parametrize("code", ["fr", "en"])
def test_every_page_of_a_day_that_is_over_says_so(friday: dict[str, bytes], code: str) -> None:
    """Week, month and year: the figure of the whole span, the day's own row with each of its three figures, the cause
    beside each, and the way to what was signed."""
    week, month, year = (spoken_of(friday, code, f"{name}/index.html") for name in ("semaine", "mois", "annee"))
    part, friday_is = PART[code], {"fr": "vendredi 20", "en": "Friday 20"}[code]
    assert len(re.findall(rf"{friday_is}</th><td>[^<]*{part}</td>", week)) == 3
    assert week.count(part) == month.count(part) == year.count(part) == 6, "three spans and three rows"
    for page in (week, month, year):
        assert page.count('<p class="faulty">') == page.count('<span class="of-faulty">') == 3
        assert len(re.findall(rf'<p class="key">[^\n]*{part}</p>', page)) == 3
        assert "donnees/annotations.csv" in page


def test_the_register_says_so(marked: dict[str, str], friday: dict[str, bytes]) -> None:
    """Each mark of the place that holds, whenever that was, the newest first; of what was taken back, and at another
    place, nothing. Both of its addresses say it."""
    page, english = (text_of(marked[f"{code}capteurs/plaza/index.html"]) for code in ("", "en/"))
    (told,) = re.findall(r'<p class="faulty">(.*?)</p>', page)
    of_day = "du samedi 21 novembre 2026 à 9 h au samedi 21 novembre 2026 à 11 h : capteur masqué. "
    assert told.startswith(f"Passages, mesure faussée {of_day}Niveau sonore, mesure faussée {of_day}Particules PM2,5, ")
    assert "du dimanche 1er novembre 2026 à minuit au jeudi 19 novembre 2026 à minuit : capteur déplacé." in told
    assert told.count("mesure faussée du") == 3 and "donnees/annotations.csv" in told
    assert english.count("faulty measurement from") == 3 and "at 11:00: sensor obstructed." in english
    assert not any('"faulty"' in marked[f"{code}capteurs/station/index.html"] for code in ("", "en/"))
    (short,) = [path for path in friday if re.fullmatch(r"c/[^/]+/index.html", path) and b'"faulty"' in friday[path]]
    assert text_of(friday[short].decode()).count("mesure faussée du vendredi 20 novembre 2026 à 9 h") == 3


@pytest.mark.parametrize("code", ["fr", "en"])
def test_message_telephone_and_feed_say_so(friday: dict[str, bytes], code: str) -> None:
    """Beside each figure that is told of the day: what has no room for the duration says that some of it is faulty."""
    message = spoken_of(friday, code, "message.txt")
    assert re.search(rf"1755 \w+ \([^)]*\){SHORT[code]}", message), message
    assert len(message) <= MOST_LETTERS
    telephone = spoken_of(friday, code, "telephone.txt")
    partly = {"fr": "Mesure en partie faussée.", "en": "The measurement was partly faulty."}[code]
    assert telephone.count(partly) == 3
    assert len(re.findall(rf"(?:entre|between) [\d ,.]+ (?:et|and) [\d ,.]+\. {partly}", telephone)) == 3
    feed = ElementTree.fromstring(friday[f"{'en/' if code == 'en' else ''}quartiers/centre/atom.xml"])
    for entry in feed.iter(f"{ATOM}entry"):
        told = text_of(str(entry.findtext(f"{ATOM}summary")))
        marked = 3 if str(entry.findtext(f"{ATOM}id")).endswith("2026-11-20") else 0
        assert told.count(PART[code]) == marked
        assert told.count(HEAD[code]) == marked
    assert len(list(feed.iter(f"{ATOM}entry"))) > 1


@pytest.mark.parametrize("code", ["fr", "en"])
@pytest.mark.parametrize("name", ["bulletin.html", "bulletin-grand.html"])
def test_the_bulletin_says_so(friday: dict[str, bytes], code: str, name: str) -> None:
    """In each figure's own line, and in words below it; on the picture, where there is one, too."""
    sheet = spoken_of(friday, code, name)
    assert len(re.findall(rf'<p class="key">[^\n]*{PART[code]}</p>', sheet)) == 3
    assert len(re.findall(rf"<p>{HEAD[code]}[^<]*</p>", sheet)) == 3
    drawn = re.findall(r"(?s)<figure>.*?</figure>", sheet)
    hatched = [one for one in drawn if 'class="faulty"' in one]
    assert len(hatched) == len(drawn) == (0 if "grand" in name else 1)


def test_the_printed_bulletin_says_so(archive: Any, city: City, tmp_path: Path) -> None:
    """The text that is read out of the PDF, usual and large, in both languages; the sheet keeps its number of pages."""
    press = Press(tmp_path)
    files = friday_marked(archive, replace(city, quartier=city.quartier[:1], site=city.site[:1]), press)
    if press.missing and os.environ.get("MURMURE_PACKAGES_REQUIRED") != "1":
        pytest.skip(f"{press.missing} (Debian packages {' '.join(PACKAGES)})")
    assert (press.missing, press.refused, press.waiting) == ("", [], 0)
    for code, (name, most) in product(("fr", "en"), (("bulletin.pdf", 1), ("bulletin-grand.pdf", 2))):
        pages = PdfReader(BytesIO(files[f"{'en/' if code == 'en' else ''}quartiers/centre/{name}"])).pages
        told = re.sub(r"\s+", " ", " ".join(page.extract_text() for page in pages))
        assert len(pages) <= most
        assert told.count(PART[code]) >= 3 and told.count(HEAD[code]) == 3, (code, name)


def test_what_is_taken_back_or_not_issued_yet_is_on_no_page(
    archive: Any, city: City, plain: dict[str, str], marked: dict[str, str]
) -> None:
    """A withdrawn mark stays in the file alone; pages as of an earlier instant do not know a later mark."""
    assert not any("Jamais vu" in content for path, content in marked.items() if path.endswith(".html"))
    later = drawn(archive.annotate(replace(BOTH, issued_s=NOW_S + 1)), city)
    sizes = {f"{code}{page}/index.html" for code in ("", "en/") for page in ("donnees", "empreinte")}
    told = {f"donnees/{name}" for name in ("annotations.csv", "datapackage.json", "catalogue.jsonld")}
    assert {path for path in plain if plain[path] != later[path]} <= told | sizes
    assert later.keys() == plain.keys() and not any(BOTH.sentence in later[path] for path in sizes)


def test_the_last_figure_says_so(archive: Any, streets: SimpleNamespace) -> None:
    """Where the newest hour is faulty, the sentence about it says it; a mark on earlier hours is none on this one."""
    info = next(info for info in archive.streams() if info.stream == BOTH.stream)
    day = streets.PARIS.day(NOW_S)
    for mark, said in ((replace(BOTH, to_s=MIDNIGHT_S + 15 * HOUR_S), True), (BOTH, False)):
        seen = view(archive, Rules(archive), [mark], info, day, streets.PARIS, NOW_S)
        assert ("Cette mesure est faussée." in Teller(language("fr")).today(seen, "Ici", "c0").notes) == said
        assert ("That measurement is faulty." in Teller(language("en")).today(seen, "Here", "c0").notes) == said


def test_the_daily_level_says_so(streets: SimpleNamespace) -> None:
    """LAeq is another figure of the same day: marked in its sentence and in its column; one that is not shown, not."""
    day = streets.PARIS.day(MIDNIGHT_S)
    street = streets.Street()
    streets.add(street, "plaza", day, now_s=day.end_s, streams=("noise",))
    seen = view(street, Rules(street), [NOISE], street.infos[0], day, streets.PARIS, day.end_s)
    energy = next(f for f in seen.figures if f.level == "1d" and f.indicator == "energy_mean")
    shown = replace(energy, indicator="laeq_db", unit="dB", estimate=60.0, low=59.0, high=61.0)
    teller = Teller(language("fr"))
    for level, said in ((shown, True), (replace(shown, high=64.0), False)):
        source = replace(seen, figures=(energy, level))
        assert text_of(teller.laeq(source, day)).endswith(", dont 2 h de mesure faussée") == said
        told = text_of(teller.today(source, "Ici", "c0").detail)
        assert told.endswith("sur la journée, dont 2 h de mesure faussée") == said


def lines_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text)))


def test_the_open_data_have_what_was_signed(streets: SimpleNamespace, city: City, marked: dict[str, str]) -> None:
    """One line for each mark and each withdrawal, with the bytes that anyone can verify; of other sites than those
    that are listed, too, since the log names them."""
    rows = lines_of(marked["donnees/annotations.csv"])
    assert [(row["number"], row["in_force"], row["withdraws"]) for row in rows] == [
        ("1", "yes", ""),
        ("2", "yes", ""),
        ("3", "yes", ""),
        ("4", "no", ""),
        ("5", "", "4"),
    ]
    assert (rows[0]["start_utc"], rows[0]["end_utc"], rows[0]["cause"], rows[0]["sentence_fr"]) == (
        "2026-11-21T08:00:00Z",
        "2026-11-21T10:00:00Z",
        "obstructed",
        BOTH.sentence,
    )
    public = wire.public_key(bytes(range(32)))
    notes = [wire.open_annotation(b64decode(row["cose_base64"]), [public], 1) for row in rows]
    assert notes == [BOTH, NOISE, LONG, MISTAKE, BACK]
    elsewhere = drawn(streets.Street().annotate(replace(BOTH, site="moon")), city)
    assert [row["site"] for row in lines_of(elsewhere["donnees/annotations.csv"])] == ["moon"]


def test_what_a_clock_that_is_ahead_has_issued_is_in_the_open_data(streets: SimpleNamespace, city: City) -> None:
    """The log names it from the moment it is published, and whoever misses it there accuses the town."""
    early = replace(BOTH, issued_s=NOW_S + 300)
    (row,) = lines_of(drawn(streets.Street().annotate(early), city)["donnees/annotations.csv"])
    assert (row["issued_utc"], row["in_force"]) == ("2026-11-21T14:20:00Z", "yes")


@pytest.mark.parametrize(("sites", "each"), [(1, 5), (3, 1), (3, 5)])
def test_many_marks_stay_within_the_budget(streets: SimpleNamespace, city: City, sites: int, each: int) -> None:
    """Up to eight streams: marks shorten the tables, then lose their sentences; beyond three of a stream the rest is
    counted and left to the file."""
    street, notes = streets.Street(), []
    day = streets.PARIS.day(NOW_S)
    for number in range(sites):
        streams = ("footfall", "noise") if number == 2 else ("footfall", "noise", "pm2_5")
        streets.add(street, f"s{number}", streets.week_of(day.end_s), now_s=day.end_s, streams=streams)
    for number, info in enumerate(street.infos):
        for mark in range(each):
            from_s = MIDNIGHT_S + 2 * mark * HOUR_S
            one = replace(BOTH, site=info.site, number=each * number + mark + 1, stream=info.stream, sentence_en="")
            notes.append(replace(one, issued_s=day.end_s, from_s=from_s, to_s=from_s + HOUR_S))
    places = tuple(replace(city.site[0], id=f"s{n}", name=f"Place {n}") for n in range(sites))
    one_quartier = replace(city, quartier=city.quartier[:1], site=places)
    pages = dict(render(street.annotate(*notes), one_quartier, day.end_s))
    for path, content in pages.items():
        if path.endswith(".html"):
            page = re.sub(r"(<svg[^>]*>).*?</svg>", r"\1", content.decode())
            assert len(re.findall(r"<[a-z]", page)) <= MOST_ELEMENTS, path
    told = text_of(pages["quartiers/centre/index.html"].decode())
    assert told.count('<p class="faulty">') == len(street.infos) * (min(each, MOST_MARKS) if sites == 1 else 1)
    assert told.count("capteur masqué.") == len(street.infos) * min(each, MOST_MARKS)
    assert told.count("Et 2 autres périodes, dans le fichier.") == (len(street.infos) if each == 5 else 0)
    home = text_of(pages["index.html"].decode())
    assert home.count("Et 2 autres périodes, dans le fichier.") == (len(street.infos) if each == 5 else 0)
    register = text_of(pages["capteurs/s0/index.html"].decode())
    assert register.count("mesure faussée du") == min(3 * each, MOST_MARKS)
    assert (f"Et {3 * each - MOST_MARKS} autres périodes, dans le fichier." in register) == (3 * each > MOST_MARKS)
    assert ("L’échafaudage" in told) == (sites == 1), "where there is no room the cause alone is told"


quarters = st.integers(0, 96)


@given(st.lists(st.tuples(quarters, st.integers(1, 30)), max_size=5), quarters, st.integers(1, 40))
def test_what_is_faulty_is_counted_once(
    archive: Any, streets: SimpleNamespace, periods: list[tuple[int, int]], first: int, length: int
) -> None:
    """Marks may overlap, touch, or reach over the span: each quarter-hour counts once."""
    marks = [
        replace(BOTH, number=n, from_s=MIDNIGHT_S + 900 * at, to_s=MIDNIGHT_S + 900 * (at + long))
        for n, (at, long) in enumerate(periods, 1)
    ]
    info = next(info for info in archive.streams() if info.stream == BOTH.stream)
    day = Window(MIDNIGHT_S, MIDNIGHT_S + DAY_S)
    seen = view(archive, Rules(archive), marks, info, day, streets.PARIS, NOW_S)
    span = Window(MIDNIGHT_S + 900 * first, MIDNIGHT_S + 900 * (first + length))
    parts = seen.faulty(span)
    quarter_hours = {q for at, long in periods for q in range(at, at + long)} & set(
        range(first, min(96, first + length))
    )
    told = {q for part in parts for q in range((part.start_s - MIDNIGHT_S) // 900, (part.end_s - MIDNIGHT_S) // 900)}
    assert {q for q in told if q < 96} == quarter_hours
    assert all(one.end_s < other.start_s for one, other in pairwise(parts))
    assert seen.faulty_s([span]) == 900 * len(told)


@given(quarters, st.integers(1, 96))
def test_the_hatch_stays_in_its_frame(first: int, length: int) -> None:
    """Every line is inside the marked period and steep alike, from edge to edge; a quarter-hour has one as well."""
    day = Window(MIDNIGHT_S, MIDNIGHT_S + DAY_S)
    length = min(length, 96 - first) or 1
    first = min(first, 96 - length)
    path = _hatch(Window(MIDNIGHT_S + 900 * first, MIDNIGHT_S + 900 * (first + length)), day)
    lines = [tuple(map(int, line)) for line in re.findall(r"M(\d+),(\d+)L(\d+),(\d+)", path)]
    assert path.startswith(f"M{first},0h{length}v{HEIGHT}h-{length}z") and lines
    for x1, y1, x2, y2 in lines:
        assert first <= x2 < x1 <= first + length and 0 <= y1 < y2 <= HEIGHT
        assert y2 - y1 == (x1 - x2) * HEIGHT // (4 * (96 // HATCHES))
        assert y1 == 0 or x1 == first + length
        assert y2 == HEIGHT or x2 == first


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(marked_archive: Any, city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    out: Path = tmp_path_factory.mktemp("marked") / "site"
    build(marked_archive, city, out, NOW_S)
    with serve(out, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


COLOURS = """() => {
  const colour = (q, p) => getComputedStyle(document.querySelector(q))[p];
  return {hatch: colour('path.faulty', 'stroke'), frame: colour('p.faulty', 'borderTopColor'),
          paper: colour('body', 'backgroundColor'), band: colour('.band', 'fill')};
}"""


@pytest.mark.browser
@pytest.mark.parametrize(
    ("path", "schemes"),
    [("", ["light"]), ("quartiers/centre/", ["light", "dark"]), ("en/quartiers/centre/semaine/", ["light"])],
)
def test_a_marked_page_can_be_read_by_everyone(
    browser: Browser, served: str, path: str, schemes: list[Any], contrast: Any
) -> None:
    """At 320 px nothing scrolls sideways, axe finds nothing in either theme, the hatch can be seen on paper and band,
    and what the hatch says stands in the table and the box, as text."""
    from axe_playwright_python.sync_playwright import Axe

    for scheme in schemes:
        page = browser.new_page(viewport={"width": 320, "height": 800}, color_scheme=scheme, bypass_csp=True)
        page.goto(f"{served}/{path}")
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        # Of letters on a picture axe never knows the ground.
        found = Axe().run(page, context={"exclude": [[".map text"]]})
        assert found.violations_count == 0, found.generate_report()
        assert [one["id"] for one in found.response["incomplete"]] == []
        assert page.locator(".faulty").first.is_visible()
        if "quartiers" in path:
            colours = page.evaluate(COLOURS)
            for ground in ("paper", "band"):
                assert contrast(colours["hatch"], colours[ground]) >= 3, (scheme, ground)
            assert contrast(colours["frame"], colours["paper"]) >= 3
            words = "faulty" if path.startswith("en/") else "mesure faussée"
            assert page.locator("td", has_text=words).first.is_visible()
        page.close()
