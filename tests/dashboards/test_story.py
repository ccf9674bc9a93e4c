"""Sentences that the noise cannot have made, and none that says more than is known."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import pytest
from murmure_dashboards.opendata import rows
from murmure_dashboards.story import Story, Teller
from murmure_dashboards.views import StreamView, view
from murmure_dashboards.wording import language
from murmure_privacy.annotation import in_force
from murmure_privacy.policies import Rules
from murmure_privacy.window import Window

FRENCH = Teller(language("fr"))
REPEATS = 40
MOST_FALSE = 7  # a headline may be wrong once in twenty: of 40 more than 7 wrong ones happen once in 1,400 runs


def seen(streets: SimpleNamespace, archive: object, stream: str, window: Window, now_s: int) -> StreamView:
    info = next(info for info in archive.streams() if info.stream == stream)  # type: ignore[attr-defined]
    marks = in_force([one.note for one in archive.annotations()], now_s)  # type: ignore[attr-defined]
    return view(archive, Rules(archive), marks, info, window, streets.PARIS, now_s)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def today(streets: SimpleNamespace, archive: object) -> dict[str, Story]:
    day = streets.PARIS.day(streets.NOW_S)
    return {
        info.stream: FRENCH.today(seen(streets, archive, info.stream, day, streets.NOW_S), "Ici", "c0")
        for info in archive.streams()  # type: ignore[attr-defined]
    }


@pytest.fixture(scope="session")
def week(streets: SimpleNamespace, archive: object) -> dict[str, Story]:
    window = streets.week_of(streets.NOW_S)
    return {
        info.stream: FRENCH.week(seen(streets, archive, info.stream, window, streets.NOW_S), "Ici", "c0")
        for info in archive.streams()  # type: ignore[attr-defined]
    }


def plain(text: str) -> str:
    return text.replace("\u202f", " ").replace("\u00a0", " ").replace("’", "'")


def test_a_flat_street_has_no_busiest_hour(streets: SimpleNamespace) -> None:
    """Noise alone makes a headline at most once in twenty days."""
    false = 0
    for number in range(REPEATS):
        street = streets.Street()
        day = streets.PARIS.day(streets.NOW_S)
        streets.add(street, f"s{number}", day, now_s=day.end_s, busy=0.0, streams=("footfall",))
        story = FRENCH.today(seen(streets, street, f"s{number}/footfall", day, day.end_s), "Ici", "c0")
        assert story.chart is not None
        false += "On ne peut pas dire" not in story.chart.finding
    assert false <= MOST_FALSE


def test_a_busy_afternoon_is_found(today: dict[str, Story]) -> None:
    """Where the figures do tell hours apart, the finding names them."""
    chart = today["station/footfall"].chart
    assert chart is not None and plain(chart.finding).startswith("Le plus de passages entre 1")


def test_the_number_carries_its_interval(today: dict[str, Story]) -> None:
    """One sentence: number, unit, interval, period."""
    story = today["plaza/footfall"]
    sentence = plain(f"{story.number} {story.detail}")
    assert sentence.endswith("19 fois sur 20) de minuit à 15 h 15")
    assert " passages (entre 1 " in sentence


def test_holes_are_told_by_reason(today: dict[str, Story], week: dict[str, Story]) -> None:
    """Each reason has its words and its hours; nothing is called zero."""
    notes = plain(" ".join(today["station/noise"].notes))
    assert "Pas de chiffre, 2 h – 5 h 15 : aucun chiffre vérifié n'est arrivé du boîtier (cause inconnue)." in notes
    assert "Pas de chiffre, 9 h – 11 h : le capteur est resté muet plus de la moitié du temps." in notes
    assert "Mesuré pendant 9 h 45 sur 15 h ; ce qui manque n'est pas estimé." in notes
    assert "Pas de chiffre, lun. 16, 21 h – mar. 17, 19 h ; sam. 21, 2 h – 5 h 15 : aucun chiffre vérifié" in plain(
        " ".join(week["station/footfall"].notes)
    )


def test_a_series_without_a_figure_has_a_reason_and_no_chart(today: dict[str, Story], week: dict[str, Story]) -> None:
    """Nothing is drawn where nothing was published; the page says why."""
    for stories in (today, week):
        story = stories["alley/pm2_5"]
        assert (story.number, story.detail, story.chart) == ("pas de chiffre", "", None)
        assert plain(story.notes[0]).endswith(" : publication suspendue par décision.")


def test_hours_that_are_mostly_noise_are_drawn_by_days(week: dict[str, Story]) -> None:
    """A week of noise would look like news: the alley and the air are drawn by days, the busy place by hours."""
    titles = {stream: story.chart.title for stream, story in week.items() if story.chart}
    assert titles["plaza/footfall"].startswith("Passages par heure")
    assert titles["alley/footfall"].startswith("Passages par jour")
    assert titles["plaza/pm2_5"].startswith("Particules PM2,5, moyenne par jour")


def test_tables_have_at_most_24_rows(streets: SimpleNamespace, today: dict[str, Story]) -> None:
    """On the day of 25 hours the steps are longer, so that the table holds all of it; it says what is in the file."""
    day = streets.PARIS.day(1_792_900_000)
    street = streets.Street()
    streets.add(street, "plaza", day, now_s=day.end_s, streams=("footfall",))
    chart = FRENCH.today(seen(streets, street, "plaza/footfall", day, day.end_s), "Ici", "c0").chart
    assert chart is not None and len(chart.table.rows) == 13
    assert plain(chart.table.caption).endswith("Par tranches de 2 heures ; heure par heure dans le fichier CSV.")
    assert plain(chart.table.rows[0][0]) == "0 h – 2 h" and plain(chart.table.rows[-1][0]) == "23 h – 24 h"
    assert [tick.hours for tick in chart.ticks] == [7, 6, 6, 6]
    assert all(len(story.chart.table.rows) <= 24 for story in today.values() if story.chart)


def test_the_table_says_what_the_chart_draws(
    streets: SimpleNamespace, archive: object, today: dict[str, Story]
) -> None:
    """Each row of the table is the figure of its hour, rounded outward."""
    day = streets.PARIS.day(streets.NOW_S)
    source = seen(streets, archive, "plaza/footfall", day, streets.NOW_S)
    chart = today["plaza/footfall"].chart
    assert chart is not None
    slots = [slot for slot in source.slots(day) if slot.amount]
    assert len(slots) == len(chart.table.rows) == 15
    for slot, row in zip(slots, chart.table.rows, strict=True):
        said = plain(row[1])
        amount = slot.amount
        assert amount is not None
        if said.startswith("moins de"):
            assert amount.estimate < 1 and amount.high < float(said.split()[-1])
            continue
        estimate, interval = said.split(" (")
        low, high = interval.rstrip(")").split(" à ")
        assert abs(Decimal(estimate.replace(",", ".")) - Decimal(amount.estimate)) <= Decimal("0.5")
        assert float(low) <= max(amount.low, 0) and amount.high <= float(high)


def test_the_description_says_figures(today: dict[str, Story]) -> None:
    """Who does not see the picture gets its highest, its lowest and its holes in a sentence."""
    chart = today["station/footfall"].chart
    assert chart is not None
    said = plain(chart.description)
    assert said.startswith("12 intervalles avec une valeur, 3 sans. Plus haute estimation : 4")
    assert "Plus basse estimation : " in said


def test_laeq_is_shown_only_where_it_says_something(streets: SimpleNamespace, week: dict[str, Story]) -> None:
    """A level whose interval has no lower end, or is wider than 3 dB to a side, is named instead of shown."""
    chart = week["station/noise"].chart
    assert chart is not None
    cells = [plain(row[2]) for row in chart.table.rows]
    assert chart.table.columns[2] == "LAeq,75 du jour (dB)"
    assert cells[-1] == "après minuit" and "–" in cells, "today, and the day whose node was lost"
    assert "trop imprécis, brouillage trop fort" in cells
    assert any(re.fullmatch(r"\d\d,\d \(\d\d,\d à \d\d,\d\)", cell) for cell in cells)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (57.1, 62.9, "60 (57 à 63)"),
        (56.9, 62.9, "trop imprécis, marge de plus de 3 dB"),
        (57.1, 63.1, "trop imprécis, marge de plus de 3 dB"),
        (None, 62.9, "trop imprécis, brouillage trop fort"),
    ],
)
def test_a_margin_of_3_db_is_the_most_that_is_shown(
    streets: SimpleNamespace, archive: object, low: float | None, high: float, said: str
) -> None:
    """Both ends of the interval must lie within 3 dB of the estimate, and exist."""
    window = streets.week_of(streets.NOW_S)
    source = seen(streets, archive, "plaza/noise", window, streets.NOW_S)
    day = streets.PARIS.day(window.start_s)
    energy = next(f for f in source.figures if f.level == "1d" and f.indicator == "energy_mean")
    level = replace(energy, indicator="laeq_db", unit="dB", estimate=60.0, low=low, high=high)
    assert plain(FRENCH.laeq(replace(source, figures=(energy, level)), day)) == said


def test_before_the_first_policy_nothing_is_missing(streets: SimpleNamespace) -> None:
    """A sensor that is two days old has no gap of five days; the page says since when it measures."""
    window = streets.week_of(streets.NOW_S)
    start_s = window.start_s + 5 * 86_400
    street = streets.Street()
    streets.add(street, "new", Window(start_s, window.end_s), version=1, valid_from="2026-11-20")
    source = seen(streets, street, "new/footfall", window, streets.NOW_S)
    story = FRENCH.week(source, "Ici", "c0")
    assert story.notes == ()
    assert plain(story.detail).endswith("depuis le début de la mesure, vendredi 20 novembre 2026")
    assert story.chart is not None and not story.chart.gaps
    assert [row[1] for row in story.chart.table.rows[:5]] == ["Avant la première mesure"] * 5
    later = streets.Street()
    streets.add(later, "new", Window(start_s, window.end_s), version=2, valid_from="2026-11-20")
    story = FRENCH.week(seen(streets, later, "new/footfall", window, streets.NOW_S), "Ici", "c0")
    assert any(plain(note).startswith("Pas de chiffre, dim. 15, 0 h – jeu. 19, 24 h : ") for note in story.notes)


def test_hours_of_noise_are_called_so(today: dict[str, Story]) -> None:
    """Where the protective noise prevails hour by hour, the page sends the reader to the figure of the day."""
    said = {stream: plain(" ".join(story.notes)) for stream, story in today.items()}
    assert "le brouillage l'emporte" in said["alley/footfall"] and "le brouillage l'emporte" in said["plaza/pm2_5"]
    assert "le brouillage l'emporte" not in said["plaza/footfall"] + said["alley/pm2_5"]


def test_many_holes_are_counted_not_listed(streets: SimpleNamespace) -> None:
    """A sentence names four periods and counts the others; the file has them all."""
    day = streets.PARIS.day(streets.NOW_S)
    off = [Window(day.start_s + hour * 3600, day.start_s + (hour + 1) * 3600) for hour in range(1, 15, 2)]
    street = streets.Street()
    streets.add(street, "plaza", day, silent=off, streams=("footfall",))
    notes = FRENCH.today(seen(streets, street, "plaza/footfall", day, streets.NOW_S), "Ici", "c0").notes
    said = "Pas de chiffre, 1 h – 2 h, 3 h – 4 h, 5 h – 6 h, 7 h – 8 h, et 3 autres périodes : "
    assert any(plain(note).startswith(said) for note in notes)


def test_beside_a_figure_stands_how_long_the_sensor_was_silent(
    streets: SimpleNamespace, today: dict[str, Story]
) -> None:
    """Means say what silent moments count as, counts that they are not counted; where nothing was missed, nothing is
    said. Of 11 h 45 that were covered, one hour's 25 minutes (present 11 of 20) are at most 3.83 %."""
    air, count = today["station/pm2_5"], today["alley/footfall"]
    assert plain(air.notes[0]) == (
        "Capteur muet au plus 4 % du temps ; ces moments sont comptés comme 50 µg/m³, et l'intervalle en tient compte."
    )
    # Ten minutes of a quarter-hour are at most 14/20 of it, of 61 quarter-hours 1.15 %.
    assert plain(count.notes[0]) == "Capteur muet au plus 2 % du temps : les passages d'alors ne sont pas comptés."
    assert not any("muet" in note for name in ("plaza/footfall", "plaza/pm2_5") for note in today[name].notes)


def test_the_table_says_which_hours_were_partly_silent(
    streets: SimpleNamespace, archive: object, today: dict[str, Story]
) -> None:
    """Each row says it of its own figure, and the row's interval is that of the source, widened."""
    chart = today["station/pm2_5"].chart
    assert chart is not None
    silent = {row[0]: plain(row[1]) for row in chart.table.rows if "muet" in row[1]}
    assert [plain(hours) for hours in silent] == ["12 h – 13 h"]
    (said,) = silent.values()
    found = re.fullmatch(r"(?:\S+ \((\S+) à (\S+)\)|moins de (\S+)), muet 45 % au plus", said)
    assert found is not None
    day = streets.PARIS.day(streets.NOW_S)
    slot = seen(streets, archive, "station/pm2_5", day, streets.NOW_S).slots(day)[12]
    assert slot.amount is not None and slot.amount.absent == pytest.approx(0.45)
    assert slot.amount.high - slot.amount.low >= 2 * 0.45 * 50
    assert slot.amount.high <= float((found[2] or found[3]).replace(",", "."))


def test_the_latest_figure_says_that_it_was_partly_silent(streets: SimpleNamespace) -> None:
    """The latest hour has its own share."""
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.Street()
    mute = {"footfall": (Window(day.start_s + 14 * 3600, day.start_s + 14 * 3600 + 900),)}
    streets.add(street, "plaza", day, mute=mute, streams=("footfall",))
    story = FRENCH.today(seen(streets, street, "plaza/footfall", day, streets.NOW_S), "Ici", "c0")
    assert "Le capteur y a été muet au plus 25 % du temps." in [plain(note) for note in story.notes]


def test_days_and_weeks_name_the_hours_that_were_withheld(streets: SimpleNamespace) -> None:
    """The day has its figure, the hour has its reason, and both pages say so in both languages."""
    window = streets.week_of(streets.NOW_S)
    gone = Window(window.start_s + 7 * 3600, window.start_s + 8 * 3600)
    street = streets.Street()
    streets.add(street, "plaza", window, now_s=window.end_s, mute={"pm2_5": (gone,)}, streams=("pm2_5",))
    source = seen(streets, street, "plaza/pm2_5", window, window.end_s)
    week = FRENCH.week(source, "Ici", "c0")
    notes = [plain(note) for note in week.notes]
    assert "Capteur muet au plus 0,6 % du temps" in notes[0]
    assert "Pas de chiffre, dim. 15, 7 h – 8 h : le capteur est resté muet plus de la moitié du temps." in notes
    assert week.chart is not None and plain(week.chart.table.rows[0][1]).endswith(", muet 5 % au plus")
    day = streets.PARIS.day(window.start_s)
    today = Teller(language("en")).today(seen(streets, street, "plaza/pm2_5", day, day.end_s), "Here", "c0")
    assert plain(today.notes[0]) == (
        "Sensor silent at most 5% of the time; those moments count as 50 µg/m³, and the interval allows for it."
    )
    assert any(
        "07:00 – 08:00: the sensor was silent more than half of the time." in plain(note) for note in today.notes
    )
    assert today.chart is not None
    (row,) = (row for row in today.chart.table.rows if row[0].startswith("07:00"))
    assert row[1].startswith("no figure: ")


def test_a_level_says_what_silence_counts_as_twice(streets: SimpleNamespace) -> None:
    """The mean level takes the middle of the bounds, the LAeq the lower one; a LAeq that is not shown needs no word."""
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.Street()
    streets.add(street, "plaza", day, now_s=day.end_s, mute={"noise": (Window(day.start_s, day.start_s + 60),)})
    source = seen(streets, street, "plaza/noise", day, day.end_s)
    level = next(f for f in source.figures if f.level == "1d" and f.indicator == "energy_mean")
    laeq = replace(level, indicator="laeq_db", unit="dB", estimate=60.0, low=59.0, high=61.0, fill=35.0)
    assert laeq.absent > 0
    for shown, said in ((laeq, True), (replace(laeq, high=64.0), False), (replace(laeq, low=None), False)):
        notes = FRENCH.today(replace(source, figures=(level, shown)), "Ici", "c0").notes
        assert "ces moments sont comptés comme 60 dB" in plain(notes[0])
        sentence = "Pour le LAeq, les moments muets sont comptés comme 35 dB, et l'intervalle en tient compte."
        assert (sentence in [plain(note) for note in notes]) == said


def test_bounds_that_changed_are_both_named(streets: SimpleNamespace) -> None:
    """A week over which a policy changed its bounds has two middles."""
    window = streets.week_of(streets.NOW_S)
    street, other = streets.Street(), streets.Street()
    mute = {"noise": tuple(Window(window.start_s + d * 86_400, window.start_s + d * 86_400 + 600) for d in range(7))}
    middle_s = window.start_s + 3 * 86_400
    for one, part, high_db in (
        (street, Window(window.start_s, middle_s), 85),
        (other, Window(middle_s, window.end_s), 75),
    ):
        streets.add(one, "plaza", part, now_s=window.end_s, mute=mute, streams=("noise",), high_db=high_db)
    street.nodes["plaza/noise"] += other.nodes["plaza/noise"]
    street.signed |= other.signed
    story = FRENCH.week(seen(streets, street, "plaza/noise", window, window.end_s), "Ici", "c0")
    assert "ces moments sont comptés comme 55 dB ou 60 dB, et" in plain(story.notes[0])


def at_epsilon(epsilon: str) -> tuple[tuple[str, str]]:
    """Returns the swap that gives the noise stream another epsilon."""
    nodes = 'nodes = { "1h" = 1, "1d" = 24 }\nbounds_db'
    return ((f"epsilon = 1.0\n{nodes}", f"epsilon = {epsilon}\n{nodes}"),)


def test_hours_that_have_the_same_reason_for_no_figure_are_one_row(
    streets: SimpleNamespace, today: dict[str, Story]
) -> None:
    """Nobody has to hear fifteen times that an hour is too imprecise; hours with a figure stay hours, and what lies
    between two of them stays there."""
    noise, crossings, away = (today[f"{stream}"].chart for stream in ("plaza/noise", "plaza/footfall", "station/pm2_5"))
    assert noise is not None and crossings is not None and away is not None
    assert [tuple(map(plain, row)) for row in noise.table.rows] == [
        ("0 h – 15 h", "trop imprécis, marge de plus de 3 dB")
    ]
    assert len(crossings.table.rows) == 15
    assert [plain(row[0]) for row in away.table.rows[1:4]] == ["1 h – 2 h", "2 h – 5 h", "5 h – 6 h"]


def test_a_level_that_is_too_uncertain_is_never_printed(streets: SimpleNamespace) -> None:
    """At a small epsilon the hours have a margin above 3 dB: the pages say so, draw their interval, print no estimate
    of them; the day, which is surer, keeps its number. The file has every estimate, with its interval beside it."""
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.Street()
    streets.add(street, "plaza", day, now_s=day.end_s, streams=("noise",), swap=at_epsilon("0.3"))
    source = seen(streets, street, "plaza/noise", day, day.end_s)
    slots = source.slots(day)
    assert all(slot.amount and not slot.amount.publishable for slot in slots)
    story = FRENCH.today(source, "Ici", "c0")
    assert re.match(r"\d\d,?\d? dB", plain(story.number))
    assert story.chart is not None
    assert {plain(row[1]) for row in story.chart.table.rows} == {"trop imprécis, marge de plus de 3 dB"}
    assert not story.chart.line, "a legend names only what is drawn"
    assert plain(story.chart.description) == (
        "24 intervalles sont trop imprécis pour être donnés (marge de plus de 3 dB)."
    )
    assert 'class="band"' in story.chart.svg and 'class="line"' not in story.chart.svg
    hours = [row for row in rows(source, Rules(street)) if row[5:7] == ("1h", "level_db_mean")]
    assert len(hours) == 24 and all(row[8] and row[9] and row[10] for row in hours)
    early = day.start_s + 5 * 3600
    so_far = seen(streets, street, "plaza/noise", day, early)
    first = seen(streets, street, "plaza/noise", day, day.start_s + 3600)
    assert plain(" ".join(FRENCH.key(first, day, "so_far"))) == (
        "pas de chiffre (la mesure est trop imprécise pour être donnée)"
    )
    last = FRENCH.today(so_far, "Ici", "c0").notes
    assert "De 4 h à 5 h, la mesure est trop imprécise pour être donnée." in [plain(note) for note in last]
    english = Teller(language("en")).key(first, day, "so_far")
    assert plain(" ".join(english)) == "no figure (the measurement is too imprecise to be given)"


def test_some_hours_too_uncertain_are_counted_apart(streets: SimpleNamespace) -> None:
    """A silence of some minutes widens one hour beyond 3 dB: the others keep their numbers."""
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.Street()
    mute = {"noise": (Window(day.start_s + 3600, day.start_s + 3600 + 900),)}
    streets.add(street, "plaza", day, now_s=day.end_s, streams=("noise",), mute=mute, swap=at_epsilon("3.0"))
    story = FRENCH.today(seen(streets, street, "plaza/noise", day, day.end_s), "Ici", "c0")
    assert story.chart is not None
    cells = [plain(row[1]) for row in story.chart.table.rows]
    assert [cell.startswith("trop imprécis") for cell in cells] == [False, True, *[False] * 22]
    assert "1 intervalle est trop imprécis pour être donné (marge de plus de 3 dB)." in plain(story.chart.description)
