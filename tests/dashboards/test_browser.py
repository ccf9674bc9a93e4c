"""The pages in Debian's chromium: axe in both themes, and by our own checks what axe does not see."""

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

HOME, TODAY, WEEK, GAPS = "", "quartiers/centre/", "quartiers/centre/semaine/", "quartiers/gare/"
BARE = "quartiers/parc/"  # no sensor yet
FRENCH = [HOME, TODAY, WEEK, GAPS]
SHEETS = ["capteurs/plaza/affiche/", "demandes/formulaire/"]  # each is to be printed on one
TRUST = [*("capteurs/", "capteurs/plaza/", "demandes/", "vie-privee/", "vie-privee/plaza/"), *SHEETS]
TRUST += ["methode/", "accessibilite/", "empreinte/"]
# English has the same templates: one page of it in the quick run, all of them in the long one.
EVERY = [*FRENCH, f"en/{GAPS}", *(pytest.param(f"en/{path}", marks=pytest.mark.long) for path in (HOME, TODAY, WEEK))]
EVERY += [pytest.param(f"{root}{path}", marks=pytest.mark.long) for root in ("", "en/") for path in TRUST]
LEAST = {"text": 4.5, "graphic": 3.0, "target": 24}
MOST_REQUESTS = 3

OPEN = "document.querySelectorAll('details').forEach(one => one.open = true)"
OWN_CHECKS = (Path(__file__).parent / "own_checks.js").read_text(encoding="utf-8")
RING = """() => {
  const e = document.activeElement, s = getComputedStyle(e);
  return [s.outlineStyle, parseFloat(s.outlineWidth), e === document.body ? '' : e.outerHTML];
}"""
PLOT = """() => {
  const plot = document.querySelector('.plot'), box = e => e.getBoundingClientRect();
  const picture = box(plot.querySelector('svg')), labels = q => [...plot.querySelectorAll(q)].map(box);
  return {top: picture.top, bottom: picture.bottom, left: picture.left, width: picture.width,
          y: labels('.y span').map(b => (b.top + b.bottom) / 2), x: labels('.x span').map(b => b.left)};
}"""
SPACED = """* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important; }
p { margin-bottom: 2em !important; }"""
ELEMENTS = "document.querySelectorAll('*').length - document.querySelectorAll('svg *').length"


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


@pytest.mark.parametrize(
    ("path", "scheme"),
    [
        *((path, "light") for path in (*FRENCH, *TRUST)),
        (GAPS, "dark"),
        (f"en/{GAPS}", "light"),
        *(pytest.param(path, "dark", marks=pytest.mark.long) for path in (*FRENCH[:3], *TRUST)),
        *(pytest.param(f"en/{path}", "light", marks=pytest.mark.long) for path in (*FRENCH[:3], *TRUST)),
    ],
)
def test_axe_finds_nothing(opened: Any, path: str, scheme: str) -> None:
    """No violation of WCAG 2.2 AA that axe knows, with every table open, in both themes."""
    from axe_playwright_python.sync_playwright import Axe

    page = opened(path, color_scheme=scheme, bypass_csp=True)  # the policy of the site forbids axe, too
    page.evaluate(OPEN)
    # Of letters on a picture axe never knows the ground; our own check holds those of the map against their halo.
    found = Axe().run(page, context={"exclude": [[".map text"]]})
    assert found.violations_count == 0, found.generate_report()
    unsure = [one["id"] for one in found.response["incomplete"]]
    assert unsure == []


@pytest.mark.parametrize(
    ("path", "scheme"),
    [*((path, "light") for path in (*FRENCH, BARE, *TRUST)), (GAPS, "dark"), (f"en/{GAPS}", "light")],
)
def test_our_own_checks_find_nothing(opened: Any, path: str, scheme: str) -> None:
    """Captions, scopes, names with figures, contrasts, targets, focus, languages, headings, skip link, zoom, width."""
    page = opened(path, width=320, color_scheme=scheme)
    page.evaluate(OPEN)
    assert page.evaluate(OWN_CHECKS, LEAST) == []


@pytest.mark.parametrize("path", EVERY)
def test_nothing_scrolls_sideways(opened: Any, path: str) -> None:
    """On the smallest telephone, and at 200 % zoom of a small screen, tables open, text spaced as WCAG 1.4.12 asks."""
    page = opened(path, width=320, bypass_csp=True)
    page.evaluate(OPEN)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.add_style_tag(content=SPACED)
    for width in (320, 640):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", EVERY)
def test_every_page_works_without_javascript(opened: Any, path: str) -> None:
    """Text, pictures, tables and links are all there before any script could run."""
    page = opened(path, java_script_enabled=False)
    assert page.locator("h1").is_visible()
    if "quartiers" in path:
        assert page.locator("svg").first.is_visible()
        page.locator("figure summary").first.click()
        assert page.locator("table").first.is_visible()
        page.locator(".periods a").nth(1).click()
        assert page.url.endswith("semaine/")


@pytest.mark.parametrize("path", EVERY)
def test_three_requests_to_one_host(browser: Browser, address: str, path: str) -> None:
    """Page, sheet and icon; nothing else, nowhere else, no complaint on the console, no cookie."""
    page = browser.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{address}/{path}")
    assert len(asked) <= MOST_REQUESTS and all(url.startswith(address) for url in asked)
    assert said == [] and page.context.cookies() == []
    assert page.evaluate(ELEMENTS) <= 430
    page.context.close()


def test_the_keyboard_shows_where_it_is(opened: Any) -> None:
    """The first Tab shows the skip link; every stop has a visible ring; Enter on the skip link leads into the page."""
    page = opened(TODAY)
    page.keyboard.press("Tab")
    skip = page.evaluate("(({left, top}) => [left, top])(document.activeElement.getBoundingClientRect())")
    assert page.evaluate("document.activeElement.className") == "skip" and min(skip) >= 0
    stops = set()
    for _ in range(30):
        style, width, stop = page.evaluate(RING)
        if not stop:
            break
        assert style == "solid" and width >= 2, stop
        stops.add(stop)
        page.keyboard.press("Tab")
    assert len(stops) >= 8
    page.goto(page.url)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "contenu"


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


def test_pages_can_be_looked_at(opened: Any, tmp_path: Path) -> None:
    """Pictures of the pages on a phone and on a desk; MURMURE_PICTURES=FOLDER keeps all of them there."""
    kept = os.environ.get("MURMURE_PICTURES")
    folder = Path(kept) if kept else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*FRENCH, *TRUST, *(f"en/{path}" for path in (*FRENCH, *TRUST))] if kept else [TODAY]:
        for width in (320, 1280):
            for scheme in ("light", "dark") if kept else ("light",):
                page = opened(path, width=width, color_scheme=scheme)
                name = path.strip("/").replace("/", "-") or "accueil"
                page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
    assert all(picture.stat().st_size > 10_000 for picture in folder.glob("*.png"))
