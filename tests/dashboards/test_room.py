"""As many streams as a neighbourhood may have, where they need the most room: each page keeps within its budget."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import pytest
from murmure_dashboards import maker_quartier
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City
from murmure_dashboards.pages import MOST_ELEMENTS, story
from murmure_dashboards.site import render
from murmure_privacy.annotation import Annotation

PLACES, MARKS = 8, 4
_ROW = re.compile(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td></tr>')


def made(
    streets: SimpleNamespace, city: City, monkeypatch: pytest.MonkeyPatch, empty: int = 0, meters: int = PLACES
) -> Mapping[str, str]:
    """The pages of a neighbourhood with a noise meter at each of eight places (`meters`), each marked four times
    without English words, and with more places from which nothing has come (`empty`); with the links that each foot
    has."""
    makers = [one if one is maker_quartier.MAKER else replace(one, files=lambda ctx: ()) for one in site_module.MAKERS]
    monkeypatch.setattr(site_module, "MAKERS", tuple(makers))
    street, at_s = streets.Street(), streets.PARIS.day(streets.NOW_S).start_s
    for number in range(meters):
        streets.add(street, f"s{number}", streets.week_of(streets.NOW_S), streams=("noise",))
    notes = [
        Annotation(info.site, mark + 1, streets.NOW_S, "Panne.", info.stream, from_s, from_s + 7200, "moved")
        for info in street.infos
        for mark, from_s in enumerate(at_s - 3600 - mark * 86_400 for mark in range(MARKS))
    ]
    places = tuple(replace(city.site[0], id=f"s{number}", name=f"Place {number}") for number in range(meters + empty))
    one = replace(city, quartier=city.quartier[:1], site=places, request=(), simulated=True)
    files = dict(render(street.annotate(*notes), one, streets.NOW_S))
    return {path: page.decode() for path, page in files.items() if path.endswith("index.html")}


@pytest.fixture(params=[0])
def crowded(
    request: pytest.FixtureRequest, streets: SimpleNamespace, city: City, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, str]:
    """These pages, with so many places from which nothing has come."""
    return made(streets, city, monkeypatch, request.param)


def elements_of(page: str) -> int:
    """Outside pictures."""
    return len(re.findall(r"<[a-z]", re.sub(r"(?s)<svg.*?</svg>", "<svg>", page)))


@pytest.mark.parametrize("crowded", [0, 1, 40], indirect=True)
def test_the_worst_that_can_be_configured_keeps_within_the_budget(crowded: Mapping[str, str]) -> None:
    """Day, week, month and year in both languages; two sheets as PDF would be four elements more."""
    assert len(crowded) == 8
    for path, page in crowded.items():
        of_days = not path.endswith(("mois/index.html", "annee/index.html"))
        assert elements_of(page) <= MOST_ELEMENTS - (4 if of_days else 0), path
        assert len(re.findall('class="faulty"', re.sub(r"(?s)<svg.*?</svg>", "", page))) == PLACES, path


@pytest.mark.parametrize(("root", "level"), [("", "LAeq,85 du jour (dB) : après minuit"), ("en/", "after midnight")])
def test_a_crowded_week_has_one_table(crowded: Mapping[str, str], root: str, level: str) -> None:
    """A row for each stream: its last day as the page of the day has it, and its level of regulations."""
    week, day = (crowded[f"{root}quartiers/centre/{span}index.html"] for span in ("semaine/", ""))
    rows = _ROW.findall(week)
    assert week.count("<table") == 1 and len(rows) == PLACES
    today = re.findall(r'<p class="key"><strong>([\d.,]+)', day)
    assert len(today) == PLACES
    for number, ((name, cell), figure) in enumerate(zip(rows, today, strict=True)):
        assert name.startswith(f"Place {number}, ") and name.endswith(" (dB)")
        assert cell.startswith(f"{figure} (")
        assert level in cell.replace("\u00a0", " ")


def test_a_table_for_each_would_be_too_much(
    streets: SimpleNamespace, city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: so many one-row tables break the budget of the week."""
    monkeypatch.setattr(maker_quartier, "story", lambda say, one, legend, table: story(say, one, legend))
    pages = made(streets, city, monkeypatch)
    with pytest.raises(AssertionError):
        test_the_worst_that_can_be_configured_keeps_within_the_budget(pages)


@pytest.mark.parametrize(("meters", "empty"), [(0, 3), (4, 20), (PLACES, 3)])
def test_places_without_data_are_named_in_one_paragraph(
    streets: SimpleNamespace, city: City, monkeypatch: pytest.MonkeyPatch, meters: int, empty: int
) -> None:
    """Each of them, with a link to its page where there is room for links; and no place with data."""
    for path, page in made(streets, city, monkeypatch, empty, meters).items():
        assert elements_of(page) <= MOST_ELEMENTS
        head = "No data yet" if path.startswith("en/") else "Encore sans données"
        (paragraph,) = re.findall(rf'<h2>{head}</h2>\s*<p lang="fr">(.*?)</p>', page)
        names = [f"Place {number}" for number in range(meters, meters + empty)]
        assert re.sub("<[^>]*>", "", paragraph).split(", ") == names, path
        links = re.findall(r'href="[./]*(?:en/)?capteurs/(\w+)/"', paragraph)
        assert links == ([] if meters == PLACES else [f"s{number}" for number in range(meters, meters + empty)]), path
        assert page.count('<section class="site">') == meters + 1


def test_a_section_for_each_place_without_data_would_be_too_much(
    streets: SimpleNamespace, city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: four of them break the budget."""
    monkeypatch.setattr(maker_quartier, "_parted", lambda streams: (list(streams.sites), []))
    pages = made(streets, city, monkeypatch, 4)
    with pytest.raises(AssertionError):
        test_the_worst_that_can_be_configured_keeps_within_the_budget(pages)
