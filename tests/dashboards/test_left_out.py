"""A stream that a newer policy leaves out: nothing of it is missing, and every page says whose decision that is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from html import unescape
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import daily, maker_home, maker_quartier, maker_register, spoken, stories
from murmure_dashboards.config import City
from murmure_dashboards.days import Days
from murmure_dashboards.due import due
from murmure_dashboards.feed import feed
from murmure_dashboards.left_out import FOR_EVER_S, LeftOut, history
from murmure_dashboards.maker import Build
from murmure_dashboards.opendata import ANNOTATIONS
from murmure_dashboards.store import Store
from murmure_dashboards.story import Teller
from murmure_dashboards.views import StreamView, view
from murmure_dashboards.wording import language
from murmure_privacy import policy as policies
from murmure_privacy.policies import Rules
from murmure_privacy.window import Calendar, Window

PARIS = Calendar("Europe/Paris")
HOUR_S = 3600
THURSDAY = date(2026, 11, 19)
TODAY = date(2026, 11, 21)
WITHOUT = "Délibération 2026-11-10 n° 7"
TAKEN_UP = "Délibération 2026-11-18 n° 9"
FR = language("fr")
ANSWERED = "Tous les capteurs ont répondu"


def plain(text: str) -> str:
    return unescape(text).replace("\u00a0", " ").replace("\u202f", " ").replace("\u2019", "'")


def noise_block() -> str:
    return """[[stream]]
id = "plaza/noise"
quantity = "noise"
protects = { seconds = 15 }
readings = { cadence_ms = 1000, tail = 2 }
epsilon = 1.0
nodes = { "1h" = 1, "1d" = 24 }
bounds_db = [35, 85]

"""


@pytest.fixture
def left(streets: SimpleNamespace) -> Callable[..., Any]:
    """Gives a place whose level is left out from Thursday on, and taken up again on a day, if any."""

    def made(now_s: int = streets.NOW_S, again: date | None = None, nodes: str = "") -> Any:
        street, week = streets.Street(), streets.week_of(now_s)
        changed = [date(2026, 1, 1), THURSDAY, *([again] if again else [])]
        edges = [week.start_s, *(PARIS.midnight(day) for day in changed[1:]), week.end_s]
        found: dict[str, list[Any]] = {}
        for number, (start_s, end_s) in enumerate(pairwise(edges)):
            out = [(noise_block(), "")] if number == 1 else []
            swap = [*out, ("Délibération 2026-11-03 n° 42", ["D", WITHOUT, TAKEN_UP][number])]
            span = Window(start_s, end_s)
            valid = str(changed[number])
            streets.add(street, "plaza", span, now_s=now_s, version=1 + number, valid_from=valid, swap=swap)
            for stream, came in street.nodes.items():
                found.setdefault(stream, []).extend(came)
            street.nodes = {}
        street.infos = list({info.stream: info for info in street.infos}.values())
        street.nodes = found
        return street

    return made


@pytest.fixture
def made(given: Callable[..., Build], city: City, streets: SimpleNamespace) -> Callable[..., Build]:
    """Gives what the makers of its pages are given."""

    def build(street: Any, now_s: int = streets.NOW_S) -> Build:
        sites = tuple(one for one in city.site if one.id == "plaza")
        alone = replace(city, quartier=city.quartier[:1], site=sites, geojson=(), request=())
        ctx = given(street, alone, now_s)
        return replace(ctx, octets={ANNOTATIONS: 99})

    return build


def noise(ctx: Build, window: Window) -> StreamView:
    info = next(info for info in ctx.streams if info.quantity == "noise")
    return ctx.view(info, window)


def told(ctx: Build) -> Iterator[str]:
    """Yields, as plain text, what day and week say of the level, in French."""
    shown = stories.Streams(ctx, ctx.quartiers[0]).shown
    for of_page in shown.values():
        yield re.sub(r"\s+", " ", plain(re.sub(r"<[^>]*>", " ", of_page["plaza/noise"].pieces["fr"])))


def test_the_policies_tell_when_a_stream_is_left_out(left: Callable[..., Any]) -> None:
    """From the first day of the first policy without it to the first day of one with it again."""
    for again, end_s in ((None, FOR_EVER_S), (TODAY, PARIS.midnight(TODAY))):
        street = left(again=again)
        found = history(Rules(street), street.policies("plaza"), "plaza/noise", PARIS)
        assert [(one.span, one.policy.version) for one in found.left] == [(Window(PARIS.midnight(THURSDAY), end_s), 2)]
        assert found.first_s == PARIS.midnight(date(2026, 1, 1))
        assert history(Rules(street), street.policies("plaza"), "plaza/footfall", PARIS).left == ()


def test_a_policy_that_cannot_be_read_hides_what_was_before_it(left: Callable[..., Any]) -> None:
    """It may have taken the stream up again; and whether a first version is held is said only of all of them."""
    street = left(again=TODAY)
    newest = max(street.signed, key=lambda one: policies.parse(street.signed[one], "t").version)
    signed = street.policies("plaza")
    rules = Rules(SimpleNamespace(policy=lambda one: b"policy = 2" if one == newest else street.policy(one)))
    found = history(rules, signed, "plaza/noise", PARIS)
    assert found.left == () and found.first_s is None and found.in_force == ()
    assert history(Rules(street), [signed[0], signed[2]], "plaza/noise", PARIS).first_s is None
    assert history(Rules(street), signed[1:], "plaza/noise", PARIS).left == (), "nobody knows that it was there"


def test_nothing_of_it_is_missing(left: Callable[..., Any], made: Callable[..., Build]) -> None:
    """From the day on it has no gaps; the days before keep their figures."""
    ctx = made(left())
    for window in (ctx.today, ctx.week):
        one = noise(ctx, window)
        slots = one.slots(window)
        since = [slot for slot in slots if slot.start_s >= PARIS.midnight(THURSDAY)]
        assert since and {slot.state for slot in since} == {"left"} and not any(slot.missing for slot in slots)
        assert all(slot.amount for slot in slots if slot.end_s <= PARIS.midnight(THURSDAY))
    assert one.day_slot(ctx.today).state == "left" and list(due(noise(ctx, ctx.today))) == []


def test_day_and_week_name_the_rule_and_its_decision(left: Callable[..., Any], made: Callable[..., Build]) -> None:
    """They say since when, and never that the box sent nothing."""
    ctx = made(left())
    said = f"La ville ne publie plus cette mesure. Règle 2, à partir du 19 novembre 2026 : {WITHOUT}."
    day, week = told(ctx)
    for page in (day, week):
        assert said in page
        assert plain(FR("state.gap")) not in page and "Mesuré pendant" not in page
    assert "publication arrêtée" in day
    assert "après minuit" not in week, "no level of the day will come"
    assert "Publication arrêtée" in week and re.search(r"\d dB", week), "the days before have their figures"


def test_a_stream_taken_up_again_says_when_it_was_not_published(
    left: Callable[..., Any], made: Callable[..., Build]
) -> None:
    """The week has two days without, and counts them as not measured by nobody's fault."""
    ctx = made(left(again=TODAY))
    day, week = told(ctx)
    said = f"La ville n'a pas publié cette mesure du 19 novembre 2026 au 20 novembre 2026. Règle 2 : {WITHOUT}."
    assert said in week and said not in day and "Mesuré pendant" not in week
    assert not any(slot.missing for slot in noise(ctx, ctx.week).slots(ctx.week))


@pytest.mark.parametrize("again", [None, TODAY])
def test_a_figure_of_a_week_a_month_a_year_is_of_the_published_days(
    left: Callable[..., Any], made: Callable[..., Build], again: date | None
) -> None:
    """Nothing is missing on the others, so that no sentence says how long was measured: it is no mean of seven or
    thirty days. Of a stream that was published all the time it is."""
    ctx = made(left(again=again))
    streams = stories.Streams(ctx, ctx.quartiers[0])
    for code, of_it, of_others in (
        ("fr", "en moyenne sur les seuls jours publiés", "en moyenne sur 7 jours"),
        ("en", "on average over the published days alone", "on average over 7 days"),
    ):
        level, air = (streams.shown[True][f"plaza/{name}"].pieces[code] for name in ("noise", "pm2_5"))
        assert of_it in plain(level) and of_others not in plain(level)
        assert of_others in plain(air) and of_it not in plain(air)
    pages = dict(maker_quartier._spans(streams))
    for path, count in (
        ("quartiers/centre/mois/index.html", "en moyenne sur les seuls jours publiés"),
        ("quartiers/centre/annee/index.html", "en moyenne sur les seuls jours publiés"),
        ("en/quartiers/centre/mois/index.html", "on average over the published days alone"),
    ):
        assert plain(pages[path].decode()).count(count) == 1


def test_a_count_of_a_week_is_of_the_published_days(streets: SimpleNamespace, left: Callable[..., Any]) -> None:
    """The same of a sum."""
    street, week = left(), streets.week_of(streets.NOW_S)
    (info,) = [one for one in street.infos if one.quantity == "footfall"]
    seen = view(street, Rules(street), (), info, week, PARIS, streets.NOW_S, street.policies("plaza"))
    policy = history(Rules(street), street.policies("plaza"), "plaza/noise", PARIS).left[0]
    assert "en 7 jours" in plain(Teller(FR).key(seen, week, "week")[1])
    street.nodes["plaza/footfall"] = [
        one for one in street.nodes["plaza/footfall"] if one.node.end_s <= policy.span.start_s
    ]
    seen = replace(view(street, Rules(street), (), info, week, PARIS, streets.NOW_S), left=(policy,))
    assert "sur les seuls jours publiés" in plain(Teller(FR).key(seen, week, "week")[1])


def test_month_and_year_know_of_it(left: Callable[..., Any], made: Callable[..., Build]) -> None:
    """Also where its days were kept as gaps before anybody had signed that policy; the share that was measured is of
    the days on which there was something to publish."""
    street = left()
    ctx = made(street)
    streams = stories.Streams(ctx, ctx.quartiers[0])
    pages = {path: plain(page.decode()) for path, page in maker_quartier._spans(streams) if path.endswith("index.html")}
    for path in ("quartiers/centre/mois/index.html", "quartiers/centre/annee/index.html"):
        assert "Règle 2, à partir du 19 novembre 2026" in pages[path]
        assert plain(FR("state.gap")) not in pages[path] and "Mesuré" not in pages[path]
    assert "Publication arrêtée" in pages["quartiers/centre/mois/index.html"]
    info = next(info for info in ctx.streams if info.quantity == "noise")
    store = Store(None)
    before = left()
    del before.signed[next(one for one, text in before.signed.items() if b"version = 2" in text)]
    days = Days(before, Rules(before), PARIS, ctx.now_s, store).of(info, ctx.week)
    assert [day.state for day in days][-3:] == ["gap", "gap", "awaited"]
    days = Days(street, Rules(street), PARIS, ctx.now_s, store).of(info, ctx.week)
    assert [day.state for day in days][-3:] == ["left"] * 3
    assert [day.expected_s for day in days][-3:] == [0] * 3


def test_home_paper_telephone_and_feed_know_of_it(left: Callable[..., Any], made: Callable[..., Build]) -> None:
    """None of them calls it missing; the answer in short leaves it out."""
    ctx = made(left())
    home = plain(dict(maker_home.files(ctx))["index.html"].decode())
    assert "publication arrêtée</strong> (règle 2, à partir du 19 novembre 2026)" in home
    assert "Il manque des mesures" not in home and plain(FR("absent.gap")) not in home
    assert "Il ne manque aucun chiffre attendu." in home and ANSWERED not in home
    both = plain(dict(maker_home.files(made(left(again=TODAY))))["index.html"].decode())
    assert ANSWERED in both and "aucun chiffre attendu" not in both, "it is taken up again"
    quartier, day = ctx.quartiers[0], ctx.days_over[0]
    found = daily.said(ctx, FR, quartier, day)
    (one,) = [one for one in found if one.quantity == "noise"]
    assert one.left and not one.told and plain(one.number) == "publication arrêtée" and WITHOUT in plain(one.notes)
    views = ctx.views(day)
    brief = plain(daily.in_brief(ctx, FR, quartier, day, daily.known(ctx, views)))
    assert "Il ne manque aucun chiffre attendu." in brief and ANSWERED not in brief
    message = plain(spoken.message(ctx, FR, quartier, day, found))
    assert "Bruit: publication arretée." in message, "that alphabet has no ê"
    assert "Bruit : publication arrêtée." in plain(" ".join(spoken.telephone(ctx, FR, quartier, day, found, brief)))
    written = plain(feed(ctx, FR, quartier, {day: found}).decode())
    assert "Niveau sonore : publication arrêtée. La ville ne publie plus cette mesure. Règle 2" in written


def test_a_neighbourhood_with_nothing_left_has_no_entries(left: Callable[..., Any], made: Callable[..., Build]) -> None:
    """Nor an answer in short; the list says why."""
    street = left()
    street.infos = [info for info in street.infos if info.quantity == "noise"]
    ctx = made(street)
    quartier, day = ctx.quartiers[0], ctx.days_over[0]
    found = daily.said(ctx, FR, quartier, day)
    assert [one.left for one in found] == [True]
    assert b"<entry>" not in feed(ctx, FR, quartier, {day: found})
    home = plain(dict(maker_home.files(ctx))["index.html"].decode())
    assert "Aucun chiffre pour cette journée" not in home and "publication arrêtée" in home
    assert maker_home._reason(ctx, FR, quartier.slug, "none") == "la ville ne publie plus cette mesure"


def test_the_register_and_the_sign_know_of_it(left: Callable[..., Any], made: Callable[..., Build]) -> None:
    """The list names what is published; the page of the place says by which rule the level is not; where nothing is
    left, neither says that nothing has come."""
    street = left()
    files = {path: plain(page.decode()) for path, page in maker_register.files(made(street))}
    assert "niveau sonore" not in files["capteurs/index.html"] and "passages" in files["capteurs/index.html"]
    page = files["capteurs/plaza/index.html"]
    assert "Niveau sonore : publication arrêtée.</strong> À partir du 19 novembre 2026, la règle 2 ne prévoit" in page
    assert "Rien n'en est publié" not in page, "the days before are"
    assert f'<span lang="fr">{WITHOUT}</span>' in page
    assert "Il mesure : passages, particules PM2,5." in files["capteurs/plaza/affiche/index.html"]
    street.infos = [info for info in street.infos if info.quantity == "noise"]
    files = {path: plain(page.decode()) for path, page in maker_register.files(made(street))}
    for path in ("capteurs/index.html", "capteurs/plaza/affiche/index.html"):
        assert "niveau sonore : publication arrêtée" in files[path]
        assert plain(FR("page.no_stream")) not in files[path] and plain(FR("register.none")) not in files[path]
    assert "niveau sonore" in plain(dict(maker_register.files(made(left(again=TODAY))))["capteurs/index.html"].decode())


def test_no_day_is_expected_after_the_last(left: Callable[..., Any], made: Callable[..., Build]) -> None:
    """On Wednesday's evening nothing of Thursday is to come of the level."""
    now_s = PARIS.midnight(THURSDAY) - HOUR_S
    street = left(now_s)
    street.infos = [info for info in street.infos if info.quantity == "noise"]
    ctx = made(street, now_s)
    assert max(due(noise(ctx, ctx.today))) == PARIS.midnight(THURSDAY)
    after = made(street, PARIS.midnight(THURSDAY) + HOUR_S)
    assert not maker_quartier._next_day(stories.Streams(after, after.quartiers[0]))


def test_pages_that_do_not_look_at_the_policies_are_found_out(
    left: Callable[..., Any], made: Callable[..., Build], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: the box would have sent nothing, nobody knows why."""
    monkeypatch.setattr(LeftOut, "holds", lambda self, interval: False)
    with pytest.raises(AssertionError):
        test_nothing_of_it_is_missing(left, made)
