"""A month day by day, a year month by month: what they say, beside what is usual and the limits of the same time."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from datetime import date
from itertools import pairwise
from math import log10
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_dashboards import chronicle, maker_quartier, pages
from murmure_dashboards.chronicle import Chronicler, Counted, Held, allowed, beside, groups_of
from murmure_dashboards.config import City
from murmure_dashboards.days import Days
from murmure_dashboards.limits import applying, load, verdict
from murmure_dashboards.maker import Build
from murmure_dashboards.store import Store
from murmure_dashboards.stretch import Stretch, stretch
from murmure_dashboards.wording import language
from murmure_privacy.annotation import Annotation
from murmure_privacy.policies import Rules
from murmure_privacy.window import Calendar, Window

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PARIS = Calendar("Europe/Paris")
DAY_S = 86_400
OUT = Window(PARIS.midnight(date(2026, 4, 3)), PARIS.midnight(date(2026, 4, 9)) + 6 * 3600)
FETE = date(2026, 11, 14)
COARSE = (
    ('nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }', 'nodes = { "6h" = 1, "1d" = 1 }'),
    (
        'epsilon = 1.0\nnodes = { "1h" = 1, "1d" = 24 }\nbounds_db',
        "epsilon = 8.0\nnodes = { day = 1, evening = 1, night = 1 }\nindicators = { mean = 1, energy = 4 }\nbounds_db",
    ),
    ('nodes = { "1h" = 1, "1d" = 24 }\nbounds =', 'nodes = { "1d" = 1 }\nbounds ='),
)
MONTH, YEAR = "quartiers/centre/mois/", "quartiers/centre/annee/"


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u202f", " ").replace("’", "'")


class Year:
    """A year and two months of one site with coarse nodes, a gap in April, a fête in November."""

    def __init__(self, streets: SimpleNamespace, city: City) -> None:
        self.now_s = streets.NOW_S
        self.archive = streets.Street()
        day = PARIS.day(self.now_s - 1)
        fete = PARIS.day(PARIS.midnight(FETE))
        for window, busy in (
            (Window(PARIS.midnight(date(2025, 9, 15)), fete.start_s), 1.0),
            (fete, 2.0),
            (Window(fete.end_s, day.end_s), 1.0),
        ):
            part = streets.Street()
            streets.add(
                part, "plaza", window, busy=busy, silent=(OUT,), version=1, valid_from="2025-09-15", swap=COARSE
            )
            self.archive.infos, self.archive.signed = part.infos, self.archive.signed | part.signed
            self.archive.exact |= part.exact
            for stream, nodes in part.nodes.items():
                self.archive.nodes.setdefault(stream, []).extend(nodes)
        self.city = replace(city, quartier=city.quartier[:1], site=city.site[:1], request=())
        self.store = Store(None)

    def stretch(
        self, stream: str, span: str, marks: Any = (), archive: Any = None, now_s: int | None = None
    ) -> Stretch:
        archive, now_s = archive or self.archive, now_s or self.now_s
        info = next(info for info in archive.infos if info.stream == f"plaza/{stream}")
        end_s = PARIS.day(now_s - 1).start_s
        last = PARIS.civil_day(end_s)
        year = Window(PARIS.midnight(last.replace(year=last.year - 1)), end_s)
        month = Window(PARIS.day(end_s - 30 * DAY_S + 43_200).start_s, end_s)
        days = Days(archive, Rules(archive), PARIS, now_s, self.store).of(info, year)
        window = {"year": year, "month": month}[span]
        return stretch(info, days, window, Rules(archive), marks, PARIS, now_s, span == "year")

    def told(self, stream: str, span: str, code: str = "fr", **more: Any) -> str:
        """Returns what a page says of a stream, before its chart."""
        teller = Chronicler(language(code), thresholds=load(None))
        site = replace(self.city.site[0], **{key: more.pop(key) for key in ("dominant",) if key in more})
        one = self.stretch(stream, span, **more)
        story = teller.month(one, site, "c0") if span == "month" else teller.year(one, site, "c0")
        return plain(" ".join([story.number, story.detail, *story.answers, *story.notes]))

    def built(self, archive: Any = None, **changes: Any) -> dict[str, bytes]:
        archive = archive or self.archive
        ctx = Build(
            archive=archive,
            city=replace(self.city, **changes),
            rules=Rules(archive),
            calendar=PARIS,
            now_s=self.now_s,
            today=PARIS.day(self.now_s - 1),
            week=Window(PARIS.day(self.now_s - 1).start_s - 6 * DAY_S, PARIS.day(self.now_s - 1).end_s),
            streams=archive.streams(),
            marks=(),
            editions=[],
            ledger=[],
            octets=defaultdict(int),
            heaviest={},
            links=(),
            store=self.store,
        )
        return dict(maker_quartier.MAKER.files(ctx))


@pytest.fixture(scope="module")
def year(streets: SimpleNamespace, city: City) -> Year:
    """The year; tests only read it."""
    return Year(streets, city)


@pytest.fixture(scope="module")
def built(year: Year) -> dict[str, bytes]:
    """The neighbourhood's pages in both languages."""
    return year.built()


def test_a_month_holds_what_was_counted(year: Year) -> None:
    """The sum over thirty days, and the mean of dust, lie within their intervals; the table has each day."""
    month = year.stretch("footfall", "month")
    amount = month.amount(month.days)
    exact = year.archive.exact
    true = sum(exact["plaza/footfall", "1d", day.span.start_s] for day in month.days)
    assert amount is not None and len(month.days) == 30 and amount.low <= true <= amount.high
    assert amount.high - amount.low < 0.01 * true, "thirty days are surer than one"
    story = Chronicler(language("fr"), thresholds=load(None)).month(month, year.city.site[0], "c0")
    assert story.chart is not None and len(story.chart.table.rows) == 30
    for day, (name, cell) in zip(month.days, story.chart.table.rows, strict=True):
        one = month.amount([day])
        assert one is not None and cell == language("fr").cell("footfall", one.estimate, one.low, one.high)
        assert plain(name).endswith(f"{PARIS.civil_day(day.span.start_s).day} nov.") or "oct." in name or "1er" in name


@pytest.mark.parametrize("stream", ["footfall", "pm2_5"])
def test_months_hold_the_truth_as_often_as_they_say(year: Year, stream: str) -> None:
    """Of thirteen means of a day over a month, at most three are outside, since each holds 19 times out of 20."""
    one, outside = year.stretch(stream, "year"), 0
    for days in one.months():
        whole = [day for day in days if day.whole]
        amount = one.per_day(whole)
        true = [year.archive.exact[f"plaza/{stream}", "1d", day.span.start_s] for day in whole]
        assert amount is not None
        outside += not amount.low <= sum(true) / len(true) <= amount.high
    assert outside <= 3


def test_lden_is_the_formula_over_days_measured_whole(year: Year) -> None:
    """Energies of day, evening and the night that follows, weighted by hand; days that the gap touches are left out."""
    one = year.stretch("noise", "year")
    (level, days), (night, nights) = one.lden, one.night
    assert level is not None and night is not None and level.low is not None and level.high is not None
    parts = {(part.level, part.start_s): part for day in one.days for part in day.parts}
    energies = []
    for (name, _), day in parts.items():
        evening = parts.get(("evening", day.end_s)) if name == "day" else None
        dark = parts.get(("night", evening.end_s)) if evening else None
        if evening and dark:
            energies.append((12 * day.estimate + 4 * 10**0.5 * evening.estimate + 8 * 10 * dark.estimate) / 24)
    # The gap and the day before, whose night it cuts; two nights beside the fête; the last, which is not over.
    assert days == len(energies) == 365 - 7 - 2 - 1
    assert level.estimate == pytest.approx(10 * log10(sum(energies) / days), abs=1e-9)
    quiet = [(part.end_s - part.start_s, part.estimate) for (name, _), part in parts.items() if name == "night"]
    mean = sum(length_s * energy for length_s, energy in quiet) / sum(length_s for length_s, _ in quiet)
    assert night.estimate == pytest.approx(10 * log10(mean), abs=1e-9) and nights == len(quiet)
    assert level.high - level.low < 2


def test_the_month_says_what_is_usual_and_which_day_is_not(year: Year) -> None:
    """The fête stands out by name, the others are as usual; chance is named, and a marked day is not compared."""
    said = year.told("footfall", "month")
    assert "Plus que d'habitude : samedi 14 novembre." in said and "Comme d'habitude : " in said
    assert "Le hasard seul en sort un jour sur vingt." in said
    assert "More than usual: Saturday 14 November." in year.told("footfall", "month", "en")
    fete = PARIS.day(PARIS.midnight(FETE))
    mark = Annotation("plaza", 1, fete.end_s, "Fête.", "plaza/footfall", fete.start_s, fete.end_s, "works", "")
    marked = year.told("footfall", "month", marks=(mark,))
    assert "samedi 14 novembre." not in marked and "dont 24 h de mesure faussée" in marked
    early = year.told("footfall", "month", now_s=PARIS.midnight(date(2025, 10, 2)))
    assert "On ne peut pas dire ce qui est d'habitude : il faut 4 semaines comparables." in early


def test_a_week_says_what_is_usual(built: dict[str, bytes]) -> None:
    """The six days of the week that are over, as the month does."""
    text = plain(built["quartiers/centre/semaine/index.html"].decode())
    assert text.count("C'est comme d'habitude, pour les 6 jours qu'on peut comparer.") >= 2


def test_a_year_limit_is_never_compared_with_a_day_nor_a_day_limit_with_a_year() -> None:
    """Only the same quantity over the same time is a pair, whatever the figures."""
    for threshold in load(None):
        for quantity in ("pm2_5", "pm10", "lden", "ln", "noise", "footfall"):
            for averaging in ("", "1d", "1y"):
                found = verdict(Held(quantity, averaging, (900.0, 950.0)), threshold, 1.0)
                assert (found == "above") == ((quantity, averaging) == (threshold.quantity, threshold.averaging))
                assert found in ("above", None)


def test_a_month_names_no_limit_of_a_year(year: Year) -> None:
    """Of noise it leads to the year, of dust it counts days beside the limit of a day."""
    assert "portent sur une année" in year.told("noise", "month") and "68 dB" not in year.told("noise", "month")
    air = year.told("pm2_5", "month")
    assert "L'OMS conseille au plus 15 µg/m³ pour un jour." in air and "une année" not in air and "25 µg" not in air
    assert "Pour les 30 jours comparés, on ne peut pas conclure." in air


def test_a_year_of_air_is_beside_law_and_who(year: Year) -> None:
    """Both limits of a year, the one to come, and the days; the sensor's own error is within."""
    said = year.told("pm2_5", "year")
    assert "Pour une année, la loi fixe au plus 25 µg/m³ et l'OMS conseille au plus 5 µg/m³." in said
    assert "À partir de 2030, elle fixera 10 µg/m³." in said
    assert "pour la loi, au-dessous du repère ; pour l'OMS, on ne peut pas conclure." in said
    assert "Pour les 359 jours comparés" in said and "L'appareil peut ajouter ± 10 µg/m³" in said
    assert "Pas de chiffre, 3 avril – 8 avril : aucun chiffre vérifié n'est arrivé du boîtier" in said


@pytest.mark.parametrize(("measured", "compared"), [(273, False), (274, True)])
def test_a_year_is_compared_from_three_quarters_on(year: Year, measured: int, compared: bool) -> None:
    """With less the page says which share is measured and how much it takes, and gives no verdict."""
    one = year.stretch("pm2_5", "year")
    gone = [replace(day, state="gap", covered=(), amount=None) for day in one.days]
    kept = [day for day in one.days if day.whole][:measured]
    short = replace(one, days=tuple(day if day in kept else gap for day, gap in zip(one.days, gone, strict=True)))
    teller = Chronicler(language("fr"), thresholds=load(None))
    said = plain(" ".join(teller.year(short, year.city.site[0], "c0").answers))
    assert ("On ne peut pas conclure : 74 % de l'année est mesuré, il en faut 75 %." in said) == (not compared)
    assert ("pour la loi, au-dessous du repère" in said) == compared


def test_noise_is_compared_only_where_its_source_is_declared(year: Year) -> None:
    """With the limits of that source, law and WHO together, as an indication; else with none."""
    said = year.told("noise", "year")
    assert "de Lden sur un an" in said and "La nuit, de 22 h à 6 h (Ln) : " in said
    assert "Pour le Lden de la route, la loi fixe 68 dB et l'OMS conseille 53 dB." in said
    assert "Pour la nuit (Ln), la loi fixe 62 dB et l'OMS conseille 45 dB." in said
    assert "La loi vise un calcul devant une façade" in said
    other = year.told("noise", "year", dominant="")
    assert "n'est pas déclaré : on ne compare à aucune limite." in other and "68 dB" not in other


def test_what_counts_louder_noise_as_the_bound_is_never_below(year: Year) -> None:
    """With an upper clamp the truth may be higher: 53 to 59 dB are not said to be below 68; without one they are."""
    assert "pour la loi, on ne peut pas conclure" in year.told("noise", "year")
    assert "Un bruit de plus de 85 dB compte pour 85 dB" in year.told("noise", "year")
    one = year.stretch("noise", "year")
    assert one.rule is not None
    policy, part = one.rule
    free = replace(one, rule=(policy, replace(part, up_to=750)))
    teller = Chronicler(language("fr"), thresholds=load(None))
    said = plain(" ".join(teller.year(free, year.city.site[0], "c0").answers))
    assert "pour la loi, au-dessous du repère" in said and "compte pour" not in said


def test_faulty_parts_of_a_year_are_not_compared(year: Year) -> None:
    """The figure stays and says so; no verdict."""
    day = PARIS.day(year.now_s - 90 * DAY_S)
    mark = Annotation("plaza", 1, day.end_s, "Travaux.", "plaza/pm2_5", day.start_s, day.end_s, "works", "")
    said = year.told("pm2_5", "year", marks=(mark,))
    assert "dont 24 h de mesure faussée" in said and "Une partie de la mesure est faussée" in said
    assert "pour la loi" not in said and "Pour les 358 jours comparés" in said


def test_limits_that_are_mixed_up_are_found_out(year: Year, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twins: a day held against the limit of a year, a level below in spite of its bound, a year of few days."""
    real = applying
    with monkeypatch.context() as patch:
        patch.setattr(chronicle, "applying", lambda found, name, averaging, *of: real(found, name, "1y", *of))
        with pytest.raises(AssertionError):
            test_a_month_names_no_limit_of_a_year(year)
    with monkeypatch.context() as patch:
        patch.setattr(Stretch, "clamped", None)
        with pytest.raises(AssertionError):
            test_what_counts_louder_noise_as_the_bound_is_never_below(year)
    with monkeypatch.context() as patch:
        patch.setattr(chronicle, "LEAST_COVERAGE", 0.0)
        with pytest.raises(AssertionError):
            test_a_year_is_compared_from_three_quarters_on(year, 273, False)


@given(st.integers(0, 366), st.integers(0, 366), st.integers(0, 366), st.integers(1, 40))
def test_a_count_of_days_is_told_only_when_the_unknown_days_cannot_turn_it(a: int, b: int, u: int, most: int) -> None:
    """Above: more are above than allowed. Below: not even with all days that are not known to be below."""
    if a + b + u > 366:
        return
    found = allowed(Counted(a, b, u), most, 366)
    least, worst = a, 366 - b
    assert (found == "above") == (least > most) and (found == "below") == (worst <= most)


def test_days_with_little_measured_or_marked_are_not_counted(year: Year) -> None:
    """Each day of at least 18 hours, one of which is just that, is on one side or cannot be told; 17 are too few."""
    one = year.stretch("pm2_5", "year")
    who = applying(load(None), "pm2_5", "1d", date(2026, 11, 20))["who"]
    whole = beside(one, who)
    assert whole.above + whole.below + whole.unknown == sum(day.whole for day in one.days) + 1 == 359
    few = replace(one.days[0], covered=(Window(one.days[0].span.start_s, one.days[0].span.start_s + 17 * 3600),))
    less = beside(replace(one, days=(few, *one.days[1:])), who)
    assert less.above + less.below + less.unknown == 358


def test_pages_keep_to_their_weight(year: Year, streets: SimpleNamespace) -> None:
    """Up to eight streams in three places, months and years, with room for the links of the foot: 430 elements."""
    street = streets.Street()
    day = PARIS.day(year.now_s - 1)
    window = Window(PARIS.midnight(date(2026, 9, 1)), day.end_s)
    for number in range(3):
        few = ("footfall", "pm2_5") if number == 2 else ("footfall", "noise", "pm2_5")
        streets.add(street, f"s{number}", window, streams=few, swap=COARSE)
    sites = tuple(replace(year.city.site[0], id=f"s{number}", name=f"Place {number}") for number in range(3))
    made = year.built(street, site=sites)
    for path in (MONTH, YEAR, f"en/{MONTH}"):
        text = made[f"{path}index.html"].decode()
        elements = len(re.findall(r"<[a-z]", re.sub(r"(?s)(<svg[^>]*>).*?</svg>", r"\1", text)))
        assert elements <= pages.MOST_ELEMENTS - 30, (path, elements)
        assert len(text) < 60_000
    rows = re.findall(r'<th scope="row">([^<]*)', plain(made[f"{MONTH}index.html"].decode()))
    assert len(rows) % 3 == 0 and rows[-1].endswith(" – 20 nov."), "all days are there, in rows of several"


def test_no_table_is_long_and_rows_are_those_of_each_stream(built: dict[str, bytes]) -> None:
    """Two tables of fifteen days with a column for each stream; thirteen rows for a year."""
    for path, sizes in ((MONTH, [15, 15]), (YEAR, [13]), (f"en/{YEAR}", [13])):
        text = built[f"{path}index.html"].decode()
        tables = re.findall(r"(?s)<tbody>(.*?)</tbody>", text)
        assert [table.count("<tr>") for table in tables] == sizes
        assert all(row.count("<td>") == 3 for table in tables for row in table.split("</tr>")[:-1])


def test_a_first_day_that_began_at_noon_says_so(year: Year) -> None:
    """What was not to be measured yet is no gap, and half a day is no quiet day."""
    one = year.stretch("footfall", "month")
    first, *others = one.days
    noon_s = first.span.start_s + 43_200
    half = replace(first, first_s=noon_s, covered=(Window(noon_s, first.span.end_s),))
    story = Chronicler(language("fr"), thresholds=load(None)).month(
        replace(one, days=(half, *others)), year.city.site[0], "c0"
    )
    assert story.chart is not None and plain(story.chart.table.rows[0][1]).endswith(", 12 h sur 24 h")
    assert story.chart.description.startswith("29 intervalles avec une valeur, 0 sans."), "nor is it drawn as one"
    assert "Mesure incomplète" not in " ".join(story.notes) and "Mesuré" not in " ".join(story.notes)


def test_the_year_is_that_of_twelve_months_and_draws_them(year: Year) -> None:
    """From the day after this one a year ago to yesterday; the first and the last month in part."""
    one = year.stretch("footfall", "year")
    assert len(one.days) == 365 and len(groups_of(one, "year")) == 13
    story = Chronicler(language("fr"), thresholds=load(None)).year(one, year.city.site[0], "c0")
    assert story.chart is not None
    names = [plain(row[0]) for row in story.chart.table.rows]
    assert names[0] == "21–30 nov. 2025" and names[1] == "déc. 2025" and names[-1] == "1–20 nov. 2026"
    april = dict(zip(names, (plain(row[1]) for row in story.chart.table.rows), strict=True))["avril 2026"]
    assert april.endswith(", 79 % mesuré")


@pytest.mark.parametrize("days", [1, 2, 5, 6, 7, 11, 29, 30, 200, 365])
def test_dates_below_a_picture_are_equally_far_apart(year: Year, days: int) -> None:
    """Also of a measurement that is six days old; each stands where its day begins, and none where it has no room."""
    one = year.stretch("footfall", "year")
    since = one.days[-days:]
    one = replace(one, days=since, window=Window(since[0].span.start_s, one.window.end_s))
    say = language("fr")
    teller, names = Chronicler(say, thresholds=load(None)), [say.short_date(d.span.start_s, PARIS.zone) for d in since]
    story = teller.year(one, year.city.site[0], "c0")
    ticks = story.chart.ticks if story.chart else ()
    shown = [tick.label.replace(" ", "\u00a0") for tick in ticks]
    at = [names.index(label) for label in shown if label]
    assert 1 <= len(at) <= 4 and len({b - a for a, b in pairwise(at)}) <= 1
    whole = sum(tick.hours for tick in ticks)
    for number, offset in enumerate(at):
        assert abs(sum(tick.hours for tick in ticks[:number]) / whole - offset / days) < 0.01
    widths = set(re.findall(r"\.x \.h(\d+) { flex: \1 \1 0; }", pages.static("murmure.css").decode())) | {"24"}
    assert {str(tick.hours) for tick in ticks} <= widths
    if days == 1 and story.chart:
        assert plain(story.chart.table.rows[0][0]) == "20 nov. 2026"
        assert plain(story.chart.title).endswith(", 20 novembre 2026")


def test_pages_lead_to_each_other_in_both_languages(built: dict[str, bytes]) -> None:
    """Day, week, month and year, on each of them; the one that is open says so."""
    for root in ("", "en/"):
        for folder in ("", "semaine/", "mois/", "annee/"):
            text = built[f"{root}quartiers/centre/{folder}index.html"].decode()
            nav = re.search(r'(?s)<nav class="periods".*?</nav>', text)
            assert nav is not None
            links = re.findall(r'href="[./]*(?:en/)?quartiers/centre/([a-z/]*)"( aria-current="page")?', nav[0])
            assert [link for link, _ in links] == ["", "semaine/", "mois/", "annee/"]
            assert [link for link, here in links if here] == [folder]


@pytest.mark.browser
@pytest.mark.parametrize("path", [MONTH, YEAR, f"en/{YEAR}"])
def test_a_month_and_a_year_can_be_read_by_everyone(
    browser: Browser, built: dict[str, bytes], tmp_path: Path, path: str
) -> None:
    """Own checks and axe find nothing on the smallest telephone, with the tables open; on paper they are not folded."""
    from axe_playwright_python.sync_playwright import Axe

    for name, content in built.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for name in pages.STATIC:
        (tmp_path / "static").mkdir(exist_ok=True)
        (tmp_path / "static" / name).write_bytes(pages.static(name))
    page = browser.new_page(viewport={"width": 320, "height": 800})
    page.goto(f"file://{tmp_path / path / 'index.html'}")
    page.emulate_media(media="print")
    assert page.locator("tbody tr").first.is_visible() and not page.locator(".periods").is_visible()
    page.emulate_media(media="screen")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    checks = (Path(__file__).parent / "own_checks.js").read_text(encoding="utf-8")
    assert page.evaluate(checks, {"text": 4.5, "graphic": 3.0, "target": 24}) == []
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.context.close()
