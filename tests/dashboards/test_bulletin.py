"""The sheet of paper: one page, black on white, with the figures of the site; two at most in large print."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pypdf
import pytest
from murmure_dashboards import maker_outputs
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build
from murmure_dashboards.pages import MOST_ELEMENTS
from murmure_dashboards.pdf import Press
from murmure_privacy.annotation import Annotation

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FORMS = {"bulletin.html": 1, "bulletin-grand.html": 2}
SLUGS = ("centre", "gare", "parc")
LEAST = {"text": 7.0, "graphic": 7.0, "target": 24}
OWN_CHECKS = (Path(__file__).parent / "own_checks.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 320, "height": 800}, bypass_csp=True)
    yield page
    page.context.close()


def pages_of(tab: Page) -> int:
    """Returns on how many sheets chromium prints what is open."""
    pdf = tab.pdf(prefer_css_page_size=True)
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)).replace("\u2019", "'")


@pytest.mark.browser
@pytest.mark.parametrize("start", ["", "en/"])
@pytest.mark.parametrize("name", FORMS)
def test_a_bulletin_is_one_sheet_and_passes_our_checks(tab: Page, address: str, name: str, start: str) -> None:
    """Of each quartier, in both languages; on a telephone it is a page like any other."""
    for slug in SLUGS:
        tab.goto(f"{address}/{start}quartiers/{slug}/{name}")
        assert 1 <= pages_of(tab) <= FORMS[name], slug
        assert tab.evaluate(OWN_CHECKS, LEAST) == [], slug
    if name == "bulletin.html":
        tab.goto(f"{address}/{start}quartiers/centre/{name}")
        tab.add_style_tag(content="main { padding-bottom: 150mm; }")
        assert pages_of(tab) == 2, "a sheet that overflows is seen"


@pytest.mark.browser
@pytest.mark.parametrize("start", ["", "en/"])
def test_the_page_that_leads_to_all_outputs_passes_our_checks(tab: Page, address: str, start: str) -> None:
    """On a telephone, in both languages."""
    tab.goto(f"{address}/{start}suivre/")
    assert tab.evaluate(OWN_CHECKS, {**LEAST, "text": 4.5}) == []


@pytest.mark.browser
def test_axe_finds_nothing_on_paper(browser: Browser, address: str) -> None:
    """Both forms of the fullest bulletin, and the page that leads to them."""
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(bypass_csp=True)
    for path in (*(f"quartiers/centre/{name}" for name in FORMS), "suivre/"):
        page.goto(f"{address}/{path}")
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    page.context.close()


@pytest.mark.browser
@pytest.mark.parametrize("streams", [3, 6, 12])
def test_more_streams_and_longer_names_still_make_one_sheet(
    streets: SimpleNamespace, city: City, tab: Page, tmp_path: Path, streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures go first, then notes, then the last figures, and the sheet says where the others are."""
    monkeypatch.setattr(site_module, "MAKERS", (maker_outputs.OUTPUTS,))
    street = streets.Street()
    week = streets.week_of(streets.NOW_S)
    mute = {"pm2_5": (replace(week, start_s=week.start_s + 3600, end_s=week.start_s + 5400),)}
    streets.add(street, "s0", week, mute=mute)
    for number in range(1, streams // 3):
        for info in street.infos[:3]:
            stream = info.stream.replace("s0/", f"s{number}/")
            street.infos.append(replace(info, site=f"s{number}", stream=stream))
            street.nodes[stream] = street.nodes[info.stream]
    notes = [
        Annotation(
            number=1,
            site="s0",
            stream=f"s0/{of}",
            from_s=streets.NOW_S - 36 * 3600,
            to_s=streets.NOW_S - 30 * 3600,
            cause="works",
            sentence="Un marteau-piqueur travaille à côté du boîtier.",
            sentence_en="",
            issued_s=streets.NOW_S - 3600,
        )
        for of in ("footfall", "noise")
    ]
    long = "Rue du Général-de-Gaulle et de la Résistance, côté " + "cour " * 20
    large = replace(
        city,
        quartier=(replace(city.quartier[0], name=long),),
        help="Mairie, 1 place de la République, " * 9,
        address=f"https://{'capteurs.' * 9}example/",
        # Its sensors have other streams, of which a sheet would say that nothing has come.
        site=tuple(
            replace(city.site[0], id=f"s{n}", name=f"{n} {long}", code="", sensor=()) for n in range(streams // 3)
        ),
    )
    press = Press(tmp_path / "sheets", at_once=1)
    made = dict(site_module.render(street.annotate(*notes), large, streets.NOW_S, press=press))
    if not press.missing:
        pages = pypdf.PdfReader(io.BytesIO(made["quartiers/centre/bulletin.pdf"])).pages
        printed = pages[0].extract_text()
        assert (
            len(pages) == 1 and ("Les autres chiffres" in printed) == (streams == 12) and "passages (entre" in printed
        )
    for name, most in FORMS.items():
        (tmp_path / "a/b").mkdir(parents=True, exist_ok=True)
        (tmp_path / "static").mkdir(exist_ok=True)
        (tmp_path / "static/bulletin.css").write_bytes(made["static/bulletin.css"])
        (tmp_path / "a/b" / name).write_bytes(made[f"quartiers/centre/{name}"])
        tab.goto(f"file://{tmp_path}/a/b/{name}")
        assert 1 <= pages_of(tab) <= most
        text = plain(made[f"quartiers/centre/{name}"].decode())
        assert ("Les autres chiffres" in text) == (streams == 12)
        assert "passages (entre" in text


def test_all_is_black_on_white() -> None:
    """No colour says anything, and none is there: a copier loses nothing."""
    sheet = (Path(site_module.__file__).parent / "static/bulletin.css").read_text(encoding="utf-8")
    colours = set(re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb|hsl|var\(", sheet))
    assert colours == {"#000", "#fff"}


def test_the_figures_are_those_of_the_last_day_that_is_over(site: Path) -> None:
    """Head, day, state, figures with their intervals, where to ask; nothing of today."""
    text = plain((site / "quartiers/centre/bulletin.html").read_text(encoding="utf-8"))
    assert "vendredi 20 novembre 2026" in text and "samedi 21" not in text
    assert "Chiffres définitifs de la journée." in text and "Données simulées" in text
    assert re.search(r"\d passages \(entre [\d ]+ et [\d ]+\) dans la journée", text)
    assert "On ne peut pas dire si c'est comme d'habitude. Air : on ne peut pas dire si un repère" in text
    assert text.count("Par partie de la journée") + text.count("Moyenne par partie") == 3, "room for three pictures"
    assert "Mairie, 1 place de la République" in text and "capteurs.demo.example" in text
    gare = plain((site / "quartiers/gare/bulletin.html").read_text(encoding="utf-8"))
    assert re.search(r"pas de chiffre Publication suspendue par décision\.", gare), "what is missing has its cause"
    english = plain((site / "en/quartiers/gare/bulletin.html").read_text(encoding="utf-8"))
    assert "Measurements are missing: PM2.5 particles (Passage des Tanneurs)." in english
    assert "pas encore de capteur" in plain((site / "quartiers/parc/bulletin.html").read_text(encoding="utf-8"))


def test_every_output_is_two_links_away(site: Path) -> None:
    """From the foot of each page to the page of outputs, from there to each bulletin, from there to the others."""
    for start in ("", "en/"):
        foot = (site / start / "quartiers/centre/index.html").read_text(encoding="utf-8").partition("<footer>")[2]
        assert 'suivre/"' in foot
        week = (site / start / "quartiers/centre/semaine/index.html").read_text(encoding="utf-8")
        assert 'quartiers/centre/bulletin.html"' in week
        assert re.search(
            r'<link rel="alternate" type="application/atom\+xml" href="[./]*(en/)?quartiers/centre/atom.xml">', week
        )
        list_of_all = (site / start / "suivre/index.html").read_text(encoding="utf-8")
        for slug in SLUGS:
            assert f"quartiers/{slug}/bulletin.html" in list_of_all and f"quartiers/{slug}/atom.xml" in list_of_all
            sheet = (site / start / f"quartiers/{slug}/bulletin.html").read_text(encoding="utf-8")
            assert all(f'href="{name}"' in sheet for name in ("telephone.txt", "message.txt", "bulletin-grand.html"))


def test_every_output_of_a_large_town_is_listed_once(given: Callable[..., Build], streets: Any, city: City) -> None:
    """Bulletin and feed of each of 130 neighbourhoods, page by page, in both languages; each page within its budget."""
    quartiers = tuple(replace(city.quartier[0], slug=f"q{n}", name=f"Quartier {n}") for n in range(1, 131))
    links = [link for maker in site_module.MAKERS for link in maker.links]
    ctx = replace(given(streets.Street(), replace(city, quartier=quartiers, site=(), request=())), links=links)
    made = {path: page.decode() for path, page in maker_outputs.MAKER.files(ctx)}
    for start in ("", "en/"):
        paths = [f"{start}suivre/{below}index.html" for below in ("", "liste/2/", "liste/3/")]
        assert [path for path in made if path.startswith("en/") == bool(start)] == paths
        for name in ("bulletin.html", "atom.xml"):
            told = [slug for path in paths for slug in re.findall(rf"quartiers/([^/]+)/{name}", made[path])]
            assert told == [quartier.slug for quartier in quartiers]
        assert len({re.findall("<title>(.*?)</title>", made[path])[0] for path in paths}) == 3
        for path in paths:
            assert all(f'suivre/{below}"' in made[path] for below in ("", "liste/2/", "liste/3/"))
            assert len(re.findall("<[a-z]", made[path])) <= MOST_ELEMENTS


def test_an_empty_archive_makes_a_sheet_that_says_so(streets: SimpleNamespace, city: City) -> None:
    """The day before the first reading there is a bulletin, no error and no zero."""
    made: dict[str, Any] = dict(site_module.render(streets.Street(), city, streets.NOW_S))
    assert "Aucune donnée n'est encore arrivée" in plain(made["quartiers/centre/bulletin.html"].decode())
