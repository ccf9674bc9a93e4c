"""What certain pages do in Debian's chromium; what holds for every page is in test_every_page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

TODAY = "quartiers/centre/"
SHEETS = ["capteurs/plaza/affiche/", "demandes/formulaire/"]  # each is to be printed on one

PLOT = """() => {
  const plot = document.querySelector('.plot'), box = e => e.getBoundingClientRect();
  const picture = box(plot.querySelector('svg')), labels = q => [...plot.querySelectorAll(q)].map(box);
  return {top: picture.top, bottom: picture.bottom, left: picture.left, width: picture.width,
          y: labels('.y span').map(b => (b.top + b.bottom) / 2), x: labels('.x span').map(b => b.left)};
}"""

UNITS = """() => {
  document.querySelectorAll('details').forEach(one => { one.open = true; });
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (texts.nextNode())
    for (const unit of texts.currentNode.data.matchAll('µg/m³')) {
      const range = document.createRange();
      range.setStart(texts.currentNode, unit.index);
      range.setEnd(texts.currentNode, unit.index + unit[0].length);
      found.push(new Set([...range.getClientRects()].map(box => box.top)).size);
    }
  return found;
}"""
"""On how many lines each unit of a page stands."""


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Any]:
    """Opens a path of the site in a fresh page with the given settings."""
    pages: list[Page] = []

    def opening(path: str, width: int = 1280, **settings: Any) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 800}, **settings)
        pages.append(page)
        page.goto(f"{address}/{path}")
        return page

    yield opening
    for page in pages:
        page.context.close()


def test_a_page_opens_its_tables_and_leads_on_without_javascript(opened: Any) -> None:
    """What is folded opens by a click, and week, month and year are one click further."""
    page = opened(TODAY, java_script_enabled=False)
    assert page.locator("svg").first.is_visible()
    page.locator("figure summary").first.click()
    assert page.locator("table").first.is_visible()
    for number, span in ((1, "semaine/"), (2, "mois/"), (3, "annee/")):
        page.locator(".periods a").nth(number).click()
        assert page.url.endswith(span)


def test_the_first_tab_shows_a_way_past_the_links(opened: Any) -> None:
    """It stands where it can be seen, and Enter leads into the page."""
    page = opened(TODAY)
    page.keyboard.press("Tab")
    skip = page.evaluate("(({left, top}) => [left, top])(document.activeElement.getBoundingClientRect())")
    assert page.evaluate("document.activeElement.className") == "skip" and min(skip) >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "contenu"


def test_no_unit_is_broken_on_the_smallest_telephone(opened: Any) -> None:
    """In both languages, on pages and on the sheet, with the tables open, and with text spaced as WCAG 1.4.12 asks. In
    a column of one letter it is found out."""
    spans = ("", "semaine/", "mois/", "annee/", "bulletin.html")
    found: list[int] = []
    for path in (
        "methode/",
        "en/methode/",
        *(f"{start}quartiers/gare/{span}" for start in ("", "en/") for span in spans),
    ):
        page = opened(path, width=320)
        found += page.evaluate(UNITS)
        page.evaluate("Object.assign(document.body.style, {letterSpacing: '.12em', wordSpacing: '.16em'})")
        found += page.evaluate(UNITS)
    assert len(found) > 100 and max(found) == 1
    page.evaluate("for (const one of document.querySelectorAll('p')) one.style.width = '1em'")
    assert max(page.evaluate(UNITS)) > 1


def test_print_shows_the_tables(opened: Any) -> None:
    """On paper nothing is folded away and the navigation is gone."""
    page = opened(TODAY)
    page.emulate_media(media="print")
    assert page.evaluate("document.querySelector('figure tbody tr').getBoundingClientRect().height") > 0
    assert not page.locator(".periods").is_visible()


@pytest.mark.parametrize("path", SHEETS)
def test_what_is_to_be_printed_is_one_sheet(opened: Any, path: str) -> None:
    """The sign for the pole and the form fit an A4 page, and what only a screen needs is gone."""
    page = opened(path)
    sheets = re.findall(rb"/Type /Page\b", page.pdf(format="A4", prefer_css_page_size=True))
    assert len(sheets) == 1
    page.emulate_media(media="print")
    assert not page.locator("footer").is_visible() and page.locator("h1").is_visible()


def test_labels_stand_where_the_picture_says(opened: Any) -> None:
    """The label of the top line is level with the top of the picture, that of the bottom with its bottom, and noon is
    half way along."""
    page = opened(TODAY)
    box = page.evaluate(PLOT)
    assert abs(box["y"][0] - box["bottom"]) <= 1.5 and abs(box["y"][-1] - box["top"]) <= 1.5
    for hour, left in zip((0, 6, 12, 18), box["x"], strict=True):
        assert abs(left - (box["left"] + box["width"] * hour / 24)) <= 1.5


def test_pages_can_be_looked_at(opened: Any, site: Path, tmp_path: Path) -> None:
    """Pictures of the pages on a phone and on a desk; MURMURE_PICTURES=FOLDER keeps all of them there."""
    kept = os.environ.get("MURMURE_PICTURES")
    folder = Path(kept) if kept else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    every = sorted(page.relative_to(site.resolve()).as_posix() for page in site.resolve().rglob("*.html"))
    for path in [file.removesuffix("index.html") for file in every] if kept else [TODAY]:
        for width in (320, 1280):
            for scheme in ("light", "dark") if kept else ("light",):
                page = opened(path, width=width, color_scheme=scheme)
                name = path.strip("/").replace("/", "-") or "accueil"
                page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
    assert all(picture.stat().st_size > 10_000 for picture in folder.glob("*.png"))
