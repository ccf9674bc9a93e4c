"""The city's page says why a neighbourhood has no figure: in its list, long or short, and beside its map."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from murmure_dashboards import maker_home
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build
from murmure_dashboards.opendata import ANNOTATIONS
from murmure_dashboards.wording import LANGUAGES, language
from murmure_privacy.annotation import Annotation
from murmure_privacy.release import REASONS
from murmure_privacy.window import Window

Pages = Callable[..., Mapping[str, str]]
CASES = {
    "gap": "aucun chiffre vérifié n'est arrivé du boîtier, on ne sait pas pourquoi",
    "paused": "publication suspendue par décision",
    "expired": "la règle signée est arrivée à son terme",
    "clock": "l'horloge du boîtier n'était pas sûre",
    "sensor_absent": "le capteur est resté muet plus de la moitié du temps",
    "cap": "le budget de vie privée de la période est atteint",
    "no_policy": "la dernière règle signée ne le prévoit pas, ou le boîtier ne l'a pas encore",
}


@pytest.fixture
def pages(given: Callable[..., Build], streets: Any, city: City, monkeypatch: pytest.MonkeyPatch) -> Pages:
    """Gives the pages of a town whose sites are, by quartier, without figures for a reason ("": all is well).
    `short`: as of a town with more neighbourhoods than a page tells of."""

    def made(reasons: Mapping[str, str], short: bool = False, marks: tuple[Annotation, ...] = ()) -> Mapping[str, str]:
        street, week = streets.Street(), streets.week_of(streets.NOW_S)
        today = streets.PARIS.day(streets.NOW_S)
        sites = []
        for slug, reason in reasons.items():
            if reason == "no_site":
                continue
            sites.append(replace(city.site[0], id=f"s-{slug}", quartier=slug, name=f"Lieu {slug}", code="", sensor=()))
            if reason == "no_stream":
                continue
            silent = (Window(today.start_s, today.end_s),) if reason == "gap" else ()
            withheld = (lambda stream, node, why=reason: why) if reason not in ("", "gap") else (lambda *_: None)
            streets.add(
                street, f"s-{slug}", week, silent=silent, withheld=withheld, quartier=slug, streams=("footfall",)
            )
        quartiers = tuple(replace(city.quartier[0], slug=slug, name=slug.capitalize()) for slug in reasons)
        grounds = tuple(replace(city.geojson[n % 3], slug=slug) for n, slug in enumerate(reasons))
        town = replace(city, quartier=quartiers, site=tuple(sites), geojson=grounds, request=())
        monkeypatch.setattr(maker_home, "MOST_TOLD", 0 if short else 60)
        ctx = replace(given(street, town), octets={ANNOTATIONS: 99}, marks=marks)
        return {
            path: re.sub("[\u00a0\u202f]", " ", page.decode()).replace("’", "'") for path, page in maker_home.files(ctx)
        }

    return made


def of(page: str, slug: str) -> str:
    """Returns what the list says of a neighbourhood, without its tags."""
    found = re.search(rf'(?s)<li>(?:(?!<li>).)*quartiers/{slug}/"(.*?)</li>', page)
    assert found, slug
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found[0]))


def legend(page: str, state: str) -> str:
    """Returns what stands beside the map of a state."""
    return "".join(re.findall(rf'<li class="of-{state}"><span aria-hidden="true">[^<]*</span> ([^<]*)</li>', page))


@pytest.mark.parametrize("short", [False, True])
def test_every_reason_stands_in_the_list_in_words(pages: Pages, short: bool) -> None:
    """Of each cause for which a gateway or a sensor gives nothing, in the long list and in the short one."""
    page = pages({**{reason.replace("_", "-"): reason for reason in CASES}, "sain": ""}, short)["index.html"]
    for reason, words in CASES.items():
        said = of(page, reason.replace("_", "-"))
        assert (f"pas de mesure : {words}" if short else f"pas de chiffre : {words}") in said, said
    assert "pas de" not in of(page, "sain")


def test_what_has_never_measured_is_told_from_what_has_stopped(pages: Pages) -> None:
    """No sensor, nothing come yet, and a gateway that fell silent are three things."""
    page = pages({"vide": "no_site", "neuf": "no_stream", "muet": "gap"}, short=True)["index.html"]
    assert of(page, "vide").endswith("pas de mesure : pas encore de capteur ")
    assert of(page, "neuf").endswith("pas de mesure : rien n'est encore arrivé de ce lieu ")
    assert of(page, "muet").endswith(f"pas de mesure : {CASES['gap']} ")


def test_the_map_says_why_in_words_beside_it(pages: Pages) -> None:
    """One reason of all stands alone, several with how many have each, the most frequent first."""
    assert (
        legend(pages({"a": "paused", "b": ""})["index.html"], "none")
        == f"pas de mesure : 1 quartier ({CASES['paused']})"
    )
    many = legend(pages({"a": "no_site", "b": "paused", "c": "paused", "d": ""})["index.html"], "none")
    assert many == f"pas de mesure : 3 quartiers ({CASES['paused']} : 2 ; pas encore de capteur : 1)"
    english = legend(pages({"a": "no_site", "b": "paused", "c": "paused"})["en/index.html"], "none")
    assert english == "no measurement: 3 neighbourhoods (publication suspended by decision: 2; no sensor yet: 1)"
    every = {reason.replace("_", "-"): reason for reason in CASES}
    assert legend(pages(every)["index.html"], "none").endswith("; autres causes : 3)")


@pytest.mark.parametrize("cause", ["device_fault", "moved"])
def test_a_faulty_measurement_is_why_nothing_is_concluded(pages: Pages, streets: Any, cause: str) -> None:
    """The figure stays, and the list says that it is faulty and why; nobody says that it is too early to tell."""
    day = streets.PARIS.day(streets.NOW_S)
    mark = Annotation("s-a", 1, day.start_s, "Panne.", "s-a/footfall", day.start_s, day.end_s, cause)
    words = language("fr")(f"cause.{cause}").replace("’", "'")
    page = pages({"a": "", "b": ""}, True, (mark,))["index.html"]
    assert of(page, "a").endswith(f"on ne peut pas conclure : mesure faussée, {words} ")
    assert of(page, "b").endswith("on ne peut pas conclure ")
    page = pages({"a": "", "b": ""}, False, (mark,))["index.html"]
    unknown = "On ne peut pas dire si c'est comme d'habitude."
    assert "La mesure est faussée : on ne la compare à rien." in of(page, "a") and unknown not in of(page, "a")
    assert unknown in of(page, "b") and legend(page, "cannot").startswith("on ne peut pas conclure : 2 quartiers")


def codes_of(page: str) -> list[str]:
    """Returns the lines of the list of codes."""
    found = re.search(r'(?s)<pre class="codes">(.*?)</pre>', page)
    return found[1].splitlines() if found else []


def test_each_figure_has_its_codes_or_as_many_as_there_is_room_for(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, else as many of each, with how many more there are and a sentence that says where; without room for
    one of each, and where the page has no figures, the sentence alone."""
    lines = codes_of(pages({"a": "", "b": "paused"})["index.html"])
    assert [line for line in lines if line[:1] != " "] == ["Codes de ces chiffres", "A, Lieu a, Passages"]
    whole = " ".join(lines[2:]).split()
    assert len(whole) == len(set(whole)) == 6  # two times six hours, three hours, a quarter-hour
    monkeypatch.setattr(maker_home, "MOST_CODES", 7)
    page = pages({"a": "", "b": ""})["index.html"]
    lines = codes_of(page)
    assert lines[1:5] == ["A, Lieu a, Passages", f"  {' '.join(whole[:2])}", f"  {whole[2]}", "  et 3 autres"]
    assert "Il y a ici au plus 3 codes par chiffre : la page du quartier a les autres." in page
    short = "Les chiffres et leurs codes sont sur la page de chaque quartier."
    assert short not in page and "Here each figure has at most 3 codes" in pages({"a": "", "b": ""})["en/index.html"]
    monkeypatch.setattr(maker_home, "MOST_CODES", 1)
    for page in (pages({"a": "", "b": ""})["index.html"], pages({"a": ""}, short=True)["index.html"]):
        assert codes_of(page) == [] and short in page and "vie-privee/#verifier" in page
    for of in (False, True):  # nobody has a figure yet, or any more
        assert short not in pages({"a": "paused", "b": "no_site"}, short=of)["index.html"]


def test_every_reason_has_words_in_both_languages() -> None:
    """Of a gateway, and of what the pages find missing themselves."""
    for code in LANGUAGES:
        for reason in (*REASONS, "gap", "awaited", "before", "left"):
            assert {f"state.{reason}", f"absent.{reason}"} & language(code).texts.keys(), reason
