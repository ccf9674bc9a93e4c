"""A box that is mounted at noon: the measurement began then, nothing is missing before, and every page says so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from html import unescape
from itertools import groupby
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import days as days_module
from murmure_dashboards import maker_data, maker_home, maker_outputs, maker_quartier
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City
from murmure_dashboards.days import Day
from murmure_dashboards.site import build, render
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_privacy import wire
from murmure_privacy.policy import parse
from murmure_privacy.window import Calendar, Window

PARIS = Calendar("Europe/Paris")
HOUR_S = 3600
MOUNTED = date(2026, 11, 21)
MORNING = Window(PARIS.midnight(MOUNTED), PARIS.midnight(MOUNTED) + 12 * HOUR_S + 900)
"""Of the day on which it is mounted: until a quarter past noon."""
HOLES = ("La mesure a des trous", "Pas de chiffre", "Mesuré pendant", "Il manque des mesures", "pas de donnée")


class Mounted:
    """A real archive, and a box of which it has what a real one would have sent since it was mounted."""

    def __init__(self, path: Path, releases: ModuleType, streets: SimpleNamespace, city: City) -> None:
        self.archive, self.streets = Archive.open(path), streets
        self.archive._db.execute("PRAGMA synchronous = OFF")
        (secret, public), (self.steward, _) = wire.new_key(), wire.new_key()
        with self.archive.transaction():
            self.line = self.archive.enrol(Enrolment("gw-plaza", "centre", "plaza", public, (bytes(32),), 1))
        self.gateway: Any = releases.Gateway("gw-plaza", "centre", "plaza", secret, b"")
        self.city = replace(city, quartier=city.quartier[:1], site=city.site[:1], geojson=(), request=())

    def seals(self, span: Window, silent: Window, version: int, valid_from: date, **of: Any) -> list[bytes]:
        """Returns what it seals of some days by one policy, which the archive has from then on."""
        street, until_s = self.streets.Street(), span.end_s
        of = {"now_s": until_s, "silent": (silent,), "version": version, "valid_from": str(valid_from), **of}
        self.streets.add(street, "plaza", span, **of)
        (text,) = street.signed.values()
        self.gateway.policy = text
        policy = StoredPolicy(
            parse(text, "t").hash, "plaza", version, text, wire.seal_policy(text, [("s", self.steward)])
        )
        if self.archive.policy(policy.hash) is None:
            with self.archive.transaction():
                self.archive.put_policy(policy)
        came = sorted((one for nodes in street.nodes.values() for one in nodes), key=lambda one: one.node.end_s)
        together = groupby(came, key=lambda one: one.node.end_s)
        return [self.gateway.seal(end_s, outcomes=tuple(outcomes)) for end_s, outcomes in together]

    def files(self, sealed: list[bytes]) -> None:
        with self.archive.transaction():
            for one in sealed:
                self.archive.put(wire.open_message(one, self.line.record_key), one, self.line, "filed")

    def pages(self, now_s: int) -> dict[str, str]:
        """Returns the pages as plain text, by their path."""
        made = render(self.archive, self.city, now_s)
        return {path: plain(content.decode()) for path, content in made if path.endswith(".html")}

    def site(self, out: Path, now_s: int) -> Mapping[str, bytes]:
        """Builds a site, with all that is kept of the one before, and returns its files."""
        build(self.archive, self.city, out, now_s)
        root = out.resolve()
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def plain(text: str) -> str:
    text = unescape(re.sub(r"<[^>]*>", " ", text)).replace("\u00a0", " ").replace("\u202f", " ").replace("\u2019", "'")
    return re.sub(r"\s+", " ", text)


@pytest.fixture
def mounted(
    tmp_path: Path, releases: ModuleType, streets: SimpleNamespace, city: City, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mounted]:
    """Of the site, what tells of figures is made: the home page, neighbourhoods, bulletins, telephone and feeds."""
    monkeypatch.setattr(site_module, "MAKERS", (maker_outputs.OUTPUTS, maker_home.MAKER, maker_quartier.MAKER))
    monkeypatch.setattr(maker_data, "data", lambda *of: iter(()))
    monkeypatch.setattr("os.sync", lambda: None)
    made = Mounted(tmp_path / "archive.db", releases, streets, city)
    yield made
    made.archive.close()


def whole(first: date, last: date) -> Window:
    return Window(PARIS.midnight(first), PARIS.day(PARIS.midnight(last)).end_s)


@pytest.mark.parametrize("valid_from", [MOUNTED, date(2026, 11, 17), date(2026, 1, 1)])
@pytest.mark.parametrize("nodes", ["", '"6h" = 1, "1d" = 1'])
def test_a_box_that_is_mounted_at_noon_has_no_hole_in_the_morning(
    mounted: Mounted, valid_from: date, nodes: str
) -> None:
    """Whether its policy came into force on that day, in that week or long ago: day, week and home page tell since when
    it measures."""
    now_s = MORNING.start_s + 19 * HOUR_S
    swap = [('"15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1', nodes)] if nodes else []
    span = Window(MORNING.start_s, PARIS.day(MORNING.start_s).end_s)
    mounted.files(mounted.seals(span, MORNING, 1, valid_from, now_s=now_s, swap=swap))
    pages = mounted.pages(now_s)
    until = "18 h" if nodes else "19 h"
    for path in ("index.html", "quartiers/centre/index.html", "quartiers/centre/semaine/index.html"):
        assert not [hole for hole in HOLES if hole in pages[path]]
        if "semaine" not in path:
            assert f"depuis le début de la mesure, de 12 h 15 à {until}" in pages[path]
            assert "Tous les capteurs ont répondu." in pages["index.html"]
    assert "La mesure a commencé dans la journée" in pages["quartiers/centre/index.html"]
    assert "Avant la première mesure" in pages["quartiers/centre/index.html"]
    assert "depuis le début de la mesure, samedi 21 novembre 2026" in pages["quartiers/centre/semaine/index.html"]
    assert "since measuring began, from 12:15 to" in pages["en/quartiers/centre/index.html"]


def test_the_evening_of_that_day_is_held_against_no_limit(mounted: Mounted) -> None:
    """When the day is over, too: half of one is no day, and there is nothing to wait for. Its level is not said to be
    of the day."""
    day = PARIS.day(MORNING.start_s)
    mounted.files(mounted.seals(day, MORNING, 1, MOUNTED))
    pages = mounted.pages(day.end_s)
    page = pages["quartiers/centre/index.html"]
    assert "moins des trois quarts du jour sont mesurés" in page and "On compare quand le jour est fini" not in page
    assert "depuis le début de la mesure, de 12 h 15 à 24 h" in page and "sur la journée" not in page
    assert not [hole for hole in HOLES if hole in page]


def test_a_newer_policy_hides_no_hole(mounted: Mounted) -> None:
    """The box stood still over the midnight at which the second version came into force, until noon."""
    renewed = date(2026, 11, 19)
    still = Window(PARIS.midnight(renewed) - HOUR_S, PARIS.midnight(renewed) + 12 * HOUR_S)
    first = whole(date(2026, 11, 17), date(2026, 11, 18))
    mounted.files(mounted.seals(first, still, 1, date(2026, 11, 17), high_db=80))
    mounted.files(mounted.seals(whole(renewed, MOUNTED), still, 2, renewed))
    now_s = still.end_s + 7 * HOUR_S
    pages = mounted.pages(now_s)
    assert "La mesure a des trous" in pages["quartiers/centre/index.html"]
    assert "La mesure a commencé" not in pages["quartiers/centre/index.html"]
    assert "Pas de chiffre, 0 h – 12 h : aucun chiffre" in pages["quartiers/centre/index.html"]
    assert "Pas de chiffre, mer. 18, 23 h – jeu. 19, 12 h" in pages["quartiers/centre/semaine/index.html"]


PARTS = ('"1h" = 1, "1d" = 24 }\nbounds_db', '"day" = 1, "evening" = 1, "night" = 1 }\nbounds_db')
LONG = ("quartiers/centre/mois/index.html", "quartiers/centre/annee/index.html")


def by_parts(mounted: Mounted, at: float, **of: Any) -> None:
    """Files two days of a box mounted at an hour, which sends a level of the parts of the day alone."""
    silent = Window(MORNING.start_s, MORNING.start_s + int(at * HOUR_S))
    span = whole(MOUNTED, date(2026, 11, 24))
    mounted.files(mounted.seals(span, silent, 1, MOUNTED, streams=("noise",), swap=[PARTS], **of))


def test_a_night_that_began_with_the_measurement_is_of_the_day_on_which_it_began(mounted: Mounted) -> None:
    """Its figure ends on the next day. Month and year begin with the day of mounting, and have the figure; the week has
    none of that day, and does not say that the box sent nothing, or that measuring had not begun."""
    by_parts(mounted, 22.5)
    pages = mounted.pages(MORNING.start_s + 31 * HOUR_S)
    for path in LONG:
        assert "depuis le 21 novembre 2026" in pages[path] and "7 h 30 sur 24 h" in pages[path]
        assert not [hole for hole in HOLES if hole in pages[path]]
    week = pages["quartiers/centre/semaine/index.html"]
    assert "vendredi 20 Avant la première mesure – samedi 21 Mesuré, mais seulement dans un chiffre plus long" in week
    assert "depuis le début de la mesure, samedi 21 novembre 2026" in week and "Estimation" in week
    assert not [hole for hole in (*HOLES, "Aucune valeur") if hole in week]
    assert "Niveau sonore moyen par période" in week and "par jour, Place" not in week
    assert (
        "Saturday 21 Measured, but only as part of a longer figure" in pages["en/quartiers/centre/semaine/index.html"]
    )


def test_an_evening_without_a_figure_says_why(mounted: Mounted) -> None:
    """The box was paused by decision until ten: that is no unknown reason, in the week as in the month."""
    ten_s = MORNING.start_s + 22 * HOUR_S
    by_parts(mounted, 21.75, withheld=lambda stream, node: "paused" if node.end_s <= ten_s else None)
    pages = mounted.pages(MORNING.start_s + 43 * HOUR_S)
    assert "Mesure incomplète, 21 novembre : publication suspendue par décision" in pages[LONG[0]]
    assert "8 h sur 24 h" in pages[LONG[0]] and "Mesuré 96 % du temps" in pages[LONG[0]]
    week = pages["quartiers/centre/semaine/index.html"]
    assert "samedi 21 pas de chiffre : publication suspendue par décision" in week and "cause inconnue" not in week


def test_a_night_that_is_on_is_not_missing(mounted: Mounted) -> None:
    """A quarter of an hour of the first evening came, and nothing else was to come before six."""
    by_parts(mounted, 21.75)
    for hour in (25, 29):
        pages = mounted.pages(MORNING.start_s + hour * HOUR_S)
        for path in LONG:
            assert "0 h 15 sur 24 h" in pages[path]
            assert not [hole for hole in (*HOLES, "du temps ; ce qui manque") if hole in pages[path]]


def test_a_day_that_lacks_is_said_while_its_night_is_on(mounted: Mounted) -> None:
    """Of the same day, from six to six: only the night may still come."""
    by_parts(mounted, 21.75, withheld=lambda stream, node: "paused" if node.level == "day" else None)
    for hour in (24 + 24 + 3, 24 + 24 + 7):
        pages = mounted.pages(MORNING.start_s + hour * HOUR_S)
        assert [path for path in LONG if "du temps ; ce qui manque" not in pages[path]] == []


def test_the_days_of_a_first_week_are_told_by_its_figure(mounted: Mounted) -> None:
    """Of weeks alone: from the day of mounting on, each is in the figure of the week, and nothing of it is missing."""
    swap = [(PARTS[0], '"1w" = 1 }\nbounds_db')]
    first = date(2026, 11, 16)
    silent = Window(PARIS.midnight(first), MORNING.end_s)
    span = whole(first, date(2026, 11, 29))
    mounted.files(mounted.seals(span, silent, 1, first, streams=("noise",), swap=swap))
    pages = mounted.pages(PARIS.midnight(date(2026, 11, 23)) + 7 * HOUR_S)
    assert [path for path in pages if "cause inconnue" in pages[path]] == []
    assert [path for path in LONG if "n'ont pas de chiffre à eux" not in pages[path]] == []
    week = pages["quartiers/centre/semaine/index.html"]
    assert "vendredi 20 Avant la première mesure" in week
    assert "samedi 21 Mesuré, mais seulement dans un chiffre plus long" in week


TWO = ("footfall", "noise")
"""A count and a level: a third quantity begins as these do."""


def compared(mounted: Mounted, tmp_path: Path, hours: tuple[int, ...], then: Callable[[int], None]) -> None:
    """Builds a site one instant after the other, hours after the day of mounting began, and holds each against one that
    is built from nothing. `then`: what happens before each."""
    for number, hour in enumerate(hours):
        now_s = MORNING.start_s + hour * HOUR_S + 1200
        then(number)
        found, nothing = mounted.site(tmp_path / "site", now_s), mounted.site(tmp_path / f"nothing{number}", now_s)
        assert found.keys() == nothing.keys()
        assert [path for path in found if found[path] != nothing[path]] == []


def test_what_is_kept_tells_the_same_beginning(mounted: Mounted, tmp_path: Path) -> None:
    """A week of which days are kept, on the day itself, after it, and as it leaves the week."""
    span = whole(MOUNTED, date(2026, 11, 29))
    sealed = iter(mounted.seals(span, MORNING, 1, date(2026, 11, 17), streams=TWO))
    hours = (13, 19, 24, 31, 32, 49, 168, 169, 192)

    def come(number: int) -> None:
        until_s = MORNING.start_s + hours[number] * HOUR_S
        came: list[bytes] = []
        while not came or wire.open_message(came[-1], mounted.line.record_key).closing_s < until_s:
            came.append(next(sealed))
        mounted.files(came)

    compared(mounted, tmp_path, hours, come)


def days_late(mounted: Mounted, tmp_path: Path) -> None:
    """The box measured two days before what came first of it, and these come last."""
    first = date(2026, 11, 19)
    still = Window(PARIS.midnight(first), PARIS.midnight(first) + 12 * HOUR_S + 900)
    late = mounted.seals(whole(first, date(2026, 11, 20)), still, 1, date(2026, 11, 17), streams=TWO)
    mounted.files(mounted.seals(whole(MOUNTED, date(2026, 11, 24)), MORNING, 1, date(2026, 11, 17), streams=TWO))
    compared(mounted, tmp_path, (56, 57, 80), lambda number: mounted.files(late) if number == 1 else None)


def test_a_beginning_that_comes_late_is_told_anew(mounted: Mounted, tmp_path: Path) -> None:
    """Also of the day that began at noon until then, of which itself nothing new has come."""
    days_late(mounted, tmp_path)
    months = [
        plain((tmp_path / site / "quartiers/centre/mois/index.html").read_text()) for site in ("nothing0", "site")
    ]
    assert ["Mesure incomplète, 21 novembre" in month for month in months] == [False, True]


def test_a_day_that_is_kept_too_long_is_found_out(
    mounted: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: a day that would be said to have begun at noon for ever."""

    def kept(days: Any, info: Any, span: Window, value: bytes | None, began_s: int | None) -> Day | None:
        day = days_module._read(info, span, value) if value is not None else None
        return day if day is not None and day.over(days.now_s) else None

    monkeypatch.setattr(days_module.Days, "_kept", kept)
    with pytest.raises(AssertionError):
        days_late(mounted, tmp_path)
