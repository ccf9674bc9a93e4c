"""Sentences that are so on ordinary days, held against the states in which they were not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import daily, maker_home, maker_quartier, spoken
from murmure_dashboards import site as site_module
from murmure_dashboards.bulletin import bulletin
from murmure_dashboards.codes import file as codes_file
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build
from murmure_dashboards.opendata import ANNOTATIONS, quartier_file
from murmure_dashboards.stories import Streams
from murmure_dashboards.wording import LANGUAGES, language
from murmure_privacy.window import Calendar, Window

PARIS = Calendar("Europe/Paris")
HOUR_S = 3600
FR = language("fr")
MISSING = "Il manque des mesures"
NODES = '"15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1'
Made = Callable[..., Build]


def plain(text: str) -> str:
    return unescape(text).replace("\u00a0", " ").replace("\u202f", " ").replace("\u2019", "'")


@pytest.fixture
def made(given: Callable[..., Build], city: City) -> Made:
    """Gives what the makers of pages are given of the first neighbourhood, with one place, and of the last, without."""

    def build(street: Any, now_s: int) -> Build:
        sites = tuple(one for one in city.site if one.id == "plaza")
        two = (city.quartier[0], city.quartier[-1])
        ctx = given(street, replace(city, quartier=two, site=sites, geojson=(), request=()), now_s)
        files = [file(slug) for slug in (one.slug for one in two) for file in (codes_file, *_TABLES)]
        return replace(ctx, octets=dict.fromkeys([ANNOTATIONS, *files], 99))

    return build


_TABLES = (lambda slug: quartier_file(slug, False), lambda slug: quartier_file(slug, True))


def home(ctx: Build) -> str:
    return plain(dict(maker_home.files(ctx))["index.html"].decode())


def page(ctx: Build, week: bool, code: str = "fr", quartier: int = 0) -> str:
    streams = Streams(ctx, ctx.quartiers[quartier])
    _, content = maker_quartier._neighbourhood(streams, language(code), week, streams.shown[week])
    return plain(re.sub(r"<[^>]*>", "", content.decode()))


def test_on_the_first_day_of_a_place_nobody_says_that_it_has_no_sensor(made: Made, streets: SimpleNamespace) -> None:
    """Paper, telephone and message tell of days that are over, and there is none yet."""
    street, day = streets.Street(), PARIS.day(streets.NOW_S)
    first = str(PARIS.civil_day(day.start_s))
    streets.add(street, "plaza", day, streams=("footfall",), version=1, valid_from=first)
    ctx = made(street, streets.NOW_S)
    with_place, without = ctx.quartiers
    over = ctx.days_over[0]
    for quartier, why, on_paper in (
        (with_place, "aucun jour n'est encore fini", "Aucun jour n'est encore fini depuis le début de la mesure."),
        (without, "pas de capteur dans ce quartier", "Ce quartier n'a pas encore de capteur."),
    ):
        found = daily.said(ctx, FR, quartier, over)
        assert found == []
        assert why in plain(spoken.message(ctx, FR, quartier, over, found))
        assert why in plain(spoken.telephone(ctx, FR, quartier, over, found, "")[0]).replace("Aucun", "aucun").replace(
            "Pas de", "pas de"
        )
        sheets = dict(bulletin(ctx, FR, quartier, over, found, "", {}))
        assert on_paper in plain(next(iter(sheets.values())).decode())
    nothing = made(streets.Street(), streets.NOW_S)
    assert "rien n'est encore arrivé" in plain(spoken.message(nothing, FR, with_place, None, []))


@pytest.mark.parametrize(
    ("hour", "nodes", "missing"),
    [(0.2, NODES, False), (1.1, NODES, False), (13.0, '"1d" = 1', False), (7.0, NODES, True)],
)
def test_what_is_awaited_is_not_missing(
    made: Made, streets: SimpleNamespace, hour: float, nodes: str, missing: bool
) -> None:
    """Just after midnight, before the first hour has come, and all day long of a stream with days alone; a box that has
    said nothing since midnight is missing in the morning."""
    midnight = PARIS.day(streets.NOW_S).start_s
    now_s = midnight + int(hour * HOUR_S)
    street = streets.Street()
    heard_s = midnight if missing else now_s - 600
    swap = [(NODES, nodes)]
    week = streets.week_of(now_s)
    streets.add(street, "plaza", week, now_s=heard_s, streams=("footfall", "noise"), swap=swap)
    said = home(made(street, now_s))
    if missing:
        assert "Aucun chiffre pour cette journée" in said
    else:
        assert MISSING not in said and "Aucun chiffre pour cette journée" not in said


def test_the_answer_of_a_day_does_not_miss_what_a_week_will_bring(made: Made, streets: SimpleNamespace) -> None:
    """On paper, of the day before: crossings came, the level's own node is that of the week."""
    week = PARIS.node("1w", streets.NOW_S)
    street = streets.Street()
    swap = [('"1h" = 1, "1d" = 24 }\nbounds_db', '"1w" = 1 }\nbounds_db')]
    streets.add(street, "plaza", week, swap=swap)
    ctx = made(street, streets.NOW_S)
    quartier, day = ctx.quartiers[0], ctx.days_over[0]
    brief = plain(daily.in_brief(ctx, FR, quartier, day, daily.known(ctx, ctx.views(day))))
    assert MISSING not in brief and "Il ne manque aucun chiffre attendu." in brief


def test_a_sensor_from_which_nothing_has_come_has_not_answered(made: Made, streets: SimpleNamespace) -> None:
    """Of a place of three sensors two have figures: nobody says that all have answered, nor that all is as usual, nor
    that nothing is missing, since its signed policy has the third one, too."""
    for streams, said in (
        (("footfall", "noise", "pm2_5"), "Tous les capteurs ont répondu."),
        (("footfall", "noise"), "D'un capteur au moins, rien n'est encore arrivé."),
    ):
        street = streets.Street()
        streets.add(street, "plaza", streets.week_of(streets.NOW_S), streams=streams)
        assert said in home(made(street, streets.NOW_S))


def test_a_day_of_twenty_five_hours_is_not_too_early_to_compare(made: Made, streets: SimpleNamespace) -> None:
    """No other Sunday is as long: there is nothing to compare it with, however long a place was measured."""
    now_s = PARIS.midnight(date(2026, 10, 26)) - HOUR_S
    street = streets.Street()
    span = Window(PARIS.midnight(date(2026, 8, 1)), now_s)
    streets.add(street, "plaza", span, now_s=now_s, streams=("pm2_5",))
    for at_s in (now_s, now_s - 7 * 86_400):
        said = page(made(street, at_s), week=False)
        assert "Trop tôt" not in said
        assert ("On ne peut pas dire si c'est comme d'habitude (0 semaine comparable" in said) == (at_s == now_s)


@pytest.mark.parametrize(
    ("nodes", "kind"),
    [
        ('"1h" = 1, "1d" = 24', ""),
        ('"1h" = 1, "day" = 1, "evening" = 1, "night" = 1', "_night"),
        ('"1h" = 1, "1w" = 24', "_week"),
    ],
)
def test_figures_are_provisional_for_as_long_as_they_can_move(
    made: Made, streets: SimpleNamespace, nodes: str, kind: str
) -> None:
    """Those of a stream with weeks until Sunday, of one with nights until six; also at midnight, when the day is
    over."""
    street, midnight = streets.Street(), PARIS.day(streets.NOW_S).start_s
    swap = [('"1h" = 1, "1d" = 24 }\nbounds_db', f"{nodes} }}\nbounds_db")]
    monday = PARIS.node("1w", streets.NOW_S)
    streets.add(street, "plaza", Window(monday.start_s - 7 * 86_400, monday.end_s), streams=("noise",), swap=swap)
    for code in LANGUAGES:
        say = language(code)
        now = made(street, streets.NOW_S)
        assert plain(say(f"page.provisional{kind}")) in page(now, False, code)
        assert plain(say(f"page.week_provisional{kind}")) in page(now, True, code)
        over = page(made(street, midnight), False, code)
        assert (plain(say("page.final")) in over) == (kind == "")
        assert (plain(say(f"page.provisional{kind}")) in over) == (kind != "")


def test_on_sunday_at_midnight_a_night_is_not_over_with_the_week_of_another_stream(
    made: Made, streets: SimpleNamespace
) -> None:
    """A week ends then, and the night at six: the page is provisional for as long as one of its streams is."""
    street, monday = streets.Street(), PARIS.node("1w", streets.NOW_S)
    swap = [
        (NODES, '"1h" = 1, "1w" = 1'),
        ('"1h" = 1, "1d" = 24 }\nbounds_db', '"1h" = 1, "day" = 1, "evening" = 1, "night" = 1 }\nbounds_db'),
    ]
    span = Window(monday.start_s - 7 * 86_400, monday.end_s)
    streets.add(street, "plaza", span, streams=("footfall", "noise"), now_s=monday.start_s, swap=swap)
    for week in (False, True):
        said = page(made(street, monday.start_s), week)
        assert plain(FR(f"page.{'week_' if week else ''}provisional_night")) in said
        assert plain(FR("page.week_final")) not in said


def test_a_neighbourhood_without_sensors_speaks_of_no_codes(made: Made, streets: SimpleNamespace) -> None:
    """It has no figure, and no table below which a code could stand."""
    street = streets.Street()
    streets.add(street, "plaza", PARIS.day(streets.NOW_S), streams=("footfall",))
    ctx = made(street, streets.NOW_S)
    files = {path: len(content) for path, content in site_module._values(ctx)}
    assert [path for path in files if "codes" in path] == [codes_file(ctx.quartiers[0].slug)]
    ctx = replace(ctx, octets={ANNOTATIONS: 99, **files})
    for week in (False, True):
        assert plain(FR("codes.what")) in page(ctx, week)
        assert "code" not in page(ctx, week, quartier=1)


def test_the_telephone_leads_to_no_codes_that_paper_may_lack(made: Made, streets: SimpleNamespace) -> None:
    """A figure that several nodes make has no code on the bulletin: all are on the site."""
    assert plain(FR("spoken.codes")) == "Les codes de ces chiffres sont sur le site de la ville."
    assert "bulletin" not in language("en")("spoken.codes")


def test_an_epsilon_stays_on_one_line() -> None:
    """In both languages, whatever the sentence."""
    for code in LANGUAGES:
        assert language(code).typeset("un (ε = 1,31, δ = 0)") == "un (ε\u00a0=\u00a01,31, δ\u00a0=\u00a00)"
        assert not [key for key, text in language(code)._set.items() if re.search("[εδ] =|[εδ]\u00a0= ", text)]


def test_a_sum_says_up_to_which_hour_it_counts(made: Made, streets: SimpleNamespace) -> None:
    """Of blocks of six hours that is not now; on the page of the day and on the home page, in both languages."""
    street, now_s = streets.Street(), PARIS.day(streets.NOW_S).start_s + 11 * HOUR_S
    swap = [(NODES, '"6h" = 1, "1d" = 1')]
    streets.add(street, "plaza", streets.week_of(now_s), now_s=now_s, streams=("footfall",), swap=swap)
    ctx = made(street, now_s)
    assert "de minuit à 6 h" in page(ctx, week=False) and "depuis minuit" not in page(ctx, week=False)
    assert "de minuit à 6 h" in home(ctx) and "from midnight to 06:00" in page(ctx, False, "en")


@pytest.mark.parametrize("hour", [19, 23])
def test_a_night_that_began_the_day_before_is_no_hole_of_the_day(
    made: Made, streets: SimpleNamespace, hour: int
) -> None:
    """Of parts of the day alone it is a figure of its own: the day is told from six on, and nothing of it is missing.
    Where the afternoon did not come, that is."""
    street, day = streets.Street(), PARIS.day(streets.NOW_S)
    now_s = day.start_s + hour * HOUR_S
    swap = [('"1h" = 1, "1d" = 24 }\nbounds_db', '"day" = 1, "evening" = 1, "night" = 1 }\nbounds_db')]
    span = Window(day.start_s - 10 * 86_400 + 6 * HOUR_S, day.end_s)
    streets.add(street, "plaza", span, now_s=now_s, streams=("noise",), swap=swap)
    ctx = made(street, now_s)
    until = {19: "18", 23: "22"}[hour]
    said, english, week = page(ctx, False), page(ctx, False, "en"), page(ctx, True)
    assert f"en moyenne de 6 h à {until} h" in said and f"on average from 06:00 to {until}:00" in english
    assert f"en moyenne de 6 h à {until} h" in home(ctx) and MISSING not in home(ctx)
    for text in (said, week):
        assert "Mesuré pendant" not in text and "a des trous" not in text
    fact = ctx.fact(ctx.city.site[0], ctx.streams[0])
    assert fact is not None and fact.whole and fact.coverage < 0.75, "too little of the day to hold it against a limit"
    street.nodes["plaza/noise"] = [
        one
        for one in street.nodes["plaza/noise"]
        if (one.node.level, one.node.start_s) != ("day", day.start_s + 6 * HOUR_S)
    ]
    if hour == 23:
        ctx = made(street, now_s)
        assert "Mesuré pendant 4 h sur 16 h" in page(ctx, False) and MISSING in home(ctx)


def test_a_level_of_the_day_is_promised_only_where_the_policy_has_days(made: Made, streets: SimpleNamespace) -> None:
    """A stream of hours alone has none after midnight."""
    for nodes, promised in (('"1h" = 1, "1d" = 24', True), ('"1h" = 1', False)):
        street = streets.Street()
        swap = [('"1h" = 1, "1d" = 24 }\nbounds_db', f"{nodes} }}\nbounds_db")]
        streets.add(street, "plaza", streets.week_of(streets.NOW_S), streams=("noise",), swap=swap)
        assert ("après minuit" in page(made(street, streets.NOW_S), week=True)) == promised
