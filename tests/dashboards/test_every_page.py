"""Every kind of page that the site has, in Debian's chromium: what holds for one holds for all, also for a new one.

The kinds are looked for in the built site. The quick run visits the longest French page of each, in both themes, and
one in English, which has the same templates; the long one visits all pages in both languages.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from murmure_dashboards.config import City
from murmure_dashboards.maker_statements import kind
from murmure_dashboards.server import serve
from murmure_dashboards.site import build

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

LEAST = {"text": 4.5, "graphic": 3.0, "target": 24}
MOST_ELEMENTS, MOST_REQUESTS = 430, 3
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
OWN_CHECKS = (Path(__file__).parent / "own_checks.js").read_text(encoding="utf-8")
OPEN = "document.querySelectorAll('details').forEach(one => one.open = true)"
ELEMENTS = "document.querySelectorAll('*').length - document.querySelectorAll('svg *').length"
# WCAG 1.4.12. A sheet of the page's own making: the site's policy forbids one that is written into the page.
SPACED = """() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`p { margin-bottom: 2em !important; }
    * { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important; }`);
  document.adoptedStyleSheets = [sheet];
}"""
# What cannot be read: text that its box cuts off, and lines of text that lie on each other. Not what is there for
# screen readers alone, nor letters of a picture, which stand where it has them.
UNREADABLE = """() => {
  const told = e => e.outerHTML.slice(0, 90), found = [];
  for (const e of document.querySelectorAll('body *:not(svg, svg *)')) {
    const style = getComputedStyle(e), cut = value => ['hidden', 'clip'].includes(value);
    if (e.clientWidth <= 1 || e.clientHeight <= 1 || !e.innerText?.trim()) continue;
    if ((cut(style.overflowX) && e.scrollWidth > e.clientWidth + 1)
        || (cut(style.overflowY) && e.scrollHeight > e.clientHeight + 1)) found.push('cut off: ' + told(e));
  }
  const lines = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest('svg') || !parent.checkVisibility({visibilityProperty: true})) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) if (box.width > 1 && box.height > 1) lines.push([box, parent]);
  }
  lines.sort((one, other) => one[0].top - other[0].top);
  lines.forEach(([one, of], number) => {
    for (const [other, by] of lines.slice(number + 1)) {
      if (other.top >= one.bottom) break;
      const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const high = Math.min(one.bottom, other.bottom) - other.top;
      if (wide > 2 && high > Math.min(one.height, other.height) / 3)
        found.push('on each other: ' + told(of) + ' ' + told(by));
    }
  });
  return found.slice(0, 5);
}"""
WIDTH = "document.documentElement.scrollWidth"
# Of what a screen shows with everything unfolded, paper hides only what leads elsewhere, what is to be filled in (the
# steward's desk), and heads of narrow tables.
FOLDED = """() => [...document.querySelectorAll('main :is(tr, li, p, dd)')]
  .filter(e => !e.closest('nav, .trail, form, .keep, .buttons, .narrow thead, [aria-hidden=true]'))
  .filter(e => e.getBoundingClientRect().height === 0)
  .map(e => e.outerHTML.slice(0, 120))"""
STOPS = """() => window.stops = [...document.querySelectorAll(`a[href], summary, [tabindex], select, button,
    input:not([type=hidden]):not([type=radio]:not(:checked))`)]
  .filter(e => e.tabIndex >= 0 && (e.getClientRects().length > 0))"""
STOP = """() => {
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
  const ring = style.outlineStyle === 'solid' && parseFloat(style.outlineWidth) >= 2;
  const seen = box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
  return [window.stops.indexOf(e), ring, seen];
}"""


@dataclass(frozen=True)
class Visit:
    """What was seen of one page. `asked`: every address; `said`: on the console; `own`: by theme, what our own checks
    find, tables open, on the smallest telephone; `widths`: how wide the page is on screens of some widths, and with
    text spaced as WCAG 1.4.12 asks; `unreadable`: what is cut off there, or lies on other text; `stops`: where each Tab
    leads: its place among what can take the focus, whether it has a ring, whether it is on the screen; `folded`: what
    paper does not show."""

    asked: Sequence[str]
    said: Sequence[str]
    cookies: int
    elements: int
    own: Mapping[str, Sequence[str]]
    widths: Sequence[tuple[int, int]]
    unreadable: Sequence[str]
    stops: Sequence[Sequence[Any]]
    many: int
    folded: Sequence[str]


def visited(browser: Browser, address: str, path: str) -> Visit:
    """Returns what a reader's browser makes of a page."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{address}/{path}")
    asked_first, elements = list(asked), page.evaluate(ELEMENTS)
    page.emulate_media(media="print")
    folded = page.evaluate(FOLDED)
    page.emulate_media(media="screen")
    many = len(page.evaluate(f"({STOPS})().map(() => 1)"))
    stops = []
    for _ in range(many):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(STOP))
    page.evaluate(OPEN)
    page.set_viewport_size({"width": 320, "height": 800})
    own, widths, unreadable = {}, [(320, page.evaluate(WIDTH))], list(page.evaluate(UNREADABLE))
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        own[theme] = page.evaluate(OWN_CHECKS, LEAST)
    page.evaluate(SPACED)
    for width in (320, 640):  # 1280 at four times and at twice its size
        page.set_viewport_size({"width": width, "height": 800})
        widths.append((width, page.evaluate(WIDTH)))
        unreadable += page.evaluate(UNREADABLE)
    cookies = len(page.context.cookies())
    page.context.close()
    return Visit(asked_first, said, cookies, elements, own, widths, unreadable, stops, many, folded)


@pytest.fixture(scope="module")
def kinds(site: Path) -> Mapping[str, str]:
    """The path of the longest French page of each kind, by kind."""
    found: dict[str, tuple[int, str]] = {}
    root = site.resolve()
    for page in root.rglob("*.html"):
        file = page.relative_to(root).as_posix()
        of = kind(file)
        if of is not None:
            found[of] = max(found.get(of, (0, "")), (page.stat().st_size, file.removesuffix("index.html")))
    return {of: path for of, (_, path) in sorted(found.items())}


@pytest.fixture(scope="module")
def paths(kinds: Mapping[str, str]) -> Sequence[str]:
    """What the quick run visits."""
    return [*kinds.values(), f"en/{kinds['quartiers/*/']}"]


@pytest.fixture(scope="module")
def visits(browser: Browser, address: str, paths: Sequence[str]) -> Mapping[str, Visit]:
    """A visit to each of them."""
    return {path: visited(browser, address, path) for path in paths}


@pytest.fixture(scope="module")
def axe(browser: Browser, address: str) -> Iterator[Callable[[str, str], list[str]]]:
    """Gives what axe finds on a page in a theme, and what it is not sure of; every table is open. In the dark, where
    nothing else changes, it looks at colours."""
    from axe_playwright_python.sync_playwright import Axe

    pages: dict[str, Page] = {}

    def looked(path: str, theme: str) -> list[str]:
        page = pages.get(path)
        if page is None:
            for old in pages.values():
                old.context.close()
            pages.clear()
            page = pages[path] = browser.new_page(bypass_csp=True)  # the policy of the site forbids axe, too
            page.goto(f"{address}/{path}")
            page.evaluate(OPEN)
        page.emulate_media(color_scheme="light" if theme == "light" else "dark")
        options: dict[str, Any] = {"resultTypes": ["violations", "incomplete"]}
        if theme == "dark":
            options["runOnly"] = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
        # Of letters on a picture axe never knows the ground; our own check holds those of the map against their halo.
        said = Axe().run(page, {"exclude": [[".map text"]]}, options).response
        assert said["passes"], "it has looked at something"
        wrong = [f"{one['id']}: {node['html'][:120]}" for one in said["violations"] for node in one["nodes"]]
        return wrong + [f"unsure of {one['id']}" for one in said["incomplete"]]

    yield looked
    for page in pages.values():
        page.context.close()


def test_every_kind_of_page_is_visited(kinds: Mapping[str, str], site: Path) -> None:
    """Of each template that is a page of its own there is one, and of each address of the contract."""
    contract = {"", "quartiers/*/", "quartiers/*/semaine/", "quartiers/*/bulletin.html", "capteurs/", "donnees/"}
    contract |= {"vie-privee/", "methode/", "accessibilite/", "empreinte/"}
    assert contract <= set(kinds) and len(kinds) >= 18
    french = {page for page in site.resolve().rglob("*.html") if "en" not in page.relative_to(site.resolve()).parts[:1]}
    assert {kind(page.relative_to(site.resolve()).as_posix()) for page in french} == set(kinds)


def test_axe_finds_nothing(paths: Sequence[str], axe: Callable[[str, str], list[str]]) -> None:
    """No violation of WCAG 2.2 AA that axe knows and nothing that it is unsure of, in both themes."""
    found = {f"/{path} {theme}": axe(path, theme) for path in paths for theme in ("light", "dark")}
    assert {where: wrong for where, wrong in found.items() if wrong} == {}


def test_our_own_checks_find_nothing(visits: Mapping[str, Visit]) -> None:
    """Captions, scopes, names with figures, contrasts, targets, focus, languages, headings, skip link, zoom, width."""
    found = {f"/{path} {theme}": wrong for path, visit in visits.items() for theme, wrong in visit.own.items()}
    assert {where: wrong for where, wrong in found.items() if wrong} == {}


def test_a_page_asks_its_own_host_three_times_and_no_more(visits: Mapping[str, Visit], address: str) -> None:
    """Page, sheet and icon; nothing else, nowhere else, no complaint on the console, no cookie."""
    for path, visit in visits.items():
        assert 1 <= len(visit.asked) <= MOST_REQUESTS, (path, visit.asked)
        assert all(url.startswith(f"{address}/") for url in visit.asked), path
        assert (visit.said, visit.cookies) == ([], 0), path
        assert visit.elements <= MOST_ELEMENTS, path


def test_no_text_is_cut_off_or_lies_on_another(visits: Mapping[str, Visit]) -> None:
    """On the smallest telephone with tables open, and there and at 200 % with text spaced as WCAG 1.4.12 asks."""
    found = {f"/{path}": visit.unreadable for path, visit in visits.items()}
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def test_nothing_scrolls_sideways(visits: Mapping[str, Visit]) -> None:
    """On the smallest telephone, at 200 % and at 400 %, with tables open and text spaced as WCAG 1.4.12 asks."""
    found = {f"/{path}": visit.widths for path, visit in visits.items()}
    assert {path: widths for path, widths in found.items() if any(wide > width for width, wide in widths)} == {}


def test_the_keyboard_goes_down_the_page_and_shows_where_it_is(visits: Mapping[str, Visit]) -> None:
    """Each Tab leads to the next thing that can take the focus, in the order of the text; it is on the screen, with a
    ring around it, the skip link too."""
    for path, visit in visits.items():
        places = [place for place, _, _ in visit.stops]
        # What begins with the focus on it, as `main` does after the skip link, has its turn where it stands.
        assert places == list(range(visit.many)) and visit.many >= 3, (path, places)
        assert all(ring and seen for _, ring, seen in visit.stops), (path, visit.stops)


def test_paper_shows_what_a_screen_folds_away(visits: Mapping[str, Visit]) -> None:
    """No row, no line of a list and no paragraph is lost in print."""
    assert {path: visit.folded for path, visit in visits.items() if visit.folded} == {}


def test_every_kind_of_page_works_without_javascript(browser: Browser, address: str, kinds: Mapping[str, str]) -> None:
    """Its heading, its links and its pictures are there before any script could run."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for path in kinds.values():
        page.goto(f"{address}/{path}")
        assert page.locator("h1").is_visible() and page.locator("main").is_visible(), path
        assert page.locator("a:visible").count() >= 3, path
    context.close()


def test_every_kind_of_page_comes_with_a_policy_without_exceptions(address: str, kinds: Mapping[str, str]) -> None:
    """Nothing from elsewhere, nothing in the page, no frame, no form; and no cookie is set."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    for path in kinds.values():
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.headers["Content-Security-Policy"]) == (200, POLICY), path
        assert answer.headers["Set-Cookie"] is None, path
    connection.close()
    assert "unsafe" not in POLICY and "*" not in POLICY and ":" not in POLICY


# By a sheet of styles: what is then to be said of which element.
CROWDED = {
    "h1 { height: .5em; overflow: hidden; }": "cut off: <h1",
    "figcaption { width: 5em; white-space: nowrap; overflow: clip; }": "cut off: <figcaption",
    "h3 { margin-bottom: -2em; }": " <h3",
    ".lede { position: absolute; top: 0; }": '<p class="lede"',
    "p { line-height: .4 !important; }": "on each other: <p",
}


def test_text_that_cannot_be_read_is_found(browser: Browser, address: str, kinds: Mapping[str, str]) -> None:
    """Broken twins: boxes that are too small for their text, lines that are moved or set too near to each other."""
    page = browser.new_page(viewport={"width": 320, "height": 800})
    for sheet, said in CROWDED.items():
        page.goto(f"{address}/{kinds['quartiers/*/']}")
        assert page.evaluate(UNREADABLE) == []
        planted = "text => { const s = new CSSStyleSheet(); s.replaceSync(text); document.adoptedStyleSheets = [s]; }"
        page.evaluate(planted, sheet)
        found = page.evaluate(UNREADABLE)
        assert any(said in one for one in found), (sheet, found)
    page.context.close()


TWINS = {
    "asked": ("<footer>", '<img src="http://127.0.0.2:9/x" alt=""><footer>'),
    "said": ("<footer>", "<script>console.log('x')</script><footer>"),
    "order": ('<a class="language"', '<a tabindex="3" class="language"'),
    "folded": ("</h1>", "</h1><details><summary>x</summary><ul hidden><li>lost</li></ul></details>"),
    "wide": ("<footer>", "<p>" + "W" * 300 + "</p><footer><pre>" + "W" * 300 + "</pre>"),
}


def test_a_visit_sees_what_is_planted(browser: Browser, site: Path) -> None:
    """Broken twins: another host, a script, another order, a wide line; the page as it was built has none of them."""
    from playwright.sync_api import Route

    real = (site / "index.html").read_text(encoding="utf-8")
    edited = ""

    def answer(route: Route) -> None:
        path = route.request.url.partition("town.test/")[2].partition("?")[0]
        headers = {"Content-Security-Policy": POLICY, "Content-Type": "text/html; charset=utf-8"}
        if not route.request.url.startswith("http://town.test/"):
            route.abort()
        elif path:
            route.fulfill(path=site / path)
        else:
            route.fulfill(body=edited, headers=headers)

    class Intercepted:
        """A browser whose pages are answered by the edited copy."""

        @staticmethod
        def new_page(**settings: Any) -> Page:
            page = browser.new_page(**settings)
            page.route("**/*", answer)
            return page

    def seen(text: str) -> Visit:
        nonlocal edited
        edited = text
        return visited(Intercepted(), "http://town.test", "")  # type: ignore[arg-type]

    plain = seen(real)
    assert len(plain.asked) <= MOST_REQUESTS and (plain.said, plain.cookies) == ([], 0)
    assert all(wide <= width for width, wide in plain.widths) and plain.folded == []
    twins = {}
    for name, (old, new) in TWINS.items():
        assert old in real
        twins[name] = seen(real.replace(old, new, 1))
    assert any("Content Security Policy" in one for one in twins["said"].said)
    assert any("127.0.0.2" in one for one in (*twins["asked"].asked, *twins["asked"].said))
    assert [place for place, _, _ in twins["order"].stops] != list(range(twins["order"].many))
    assert any(wide > width for width, wide in twins["wide"].widths)
    assert twins["folded"].folded == ["<li>lost</li>"]


@pytest.mark.long
@pytest.mark.parametrize("root", ["", "en/"])
def test_every_page_is_as_good_as_the_longest(
    browser: Browser, address: str, site: Path, axe: Callable[[str, str], list[str]], root: str
) -> None:
    """All pages of a language: axe in both themes, our own checks, width, keyboard, print, requests."""
    files = sorted(page.relative_to(site.resolve()).as_posix() for page in site.resolve().rglob("*.html"))
    all_of_it = [file.removesuffix("index.html") for file in files if file.startswith("en/") == (root == "en/")]
    assert len(all_of_it) >= 30
    for path in all_of_it:
        visit = visited(browser, address, path)
        test_our_own_checks_find_nothing({path: visit})
        test_a_page_asks_its_own_host_three_times_and_no_more({path: visit}, address)
        test_nothing_scrolls_sideways({path: visit})
        test_no_text_is_cut_off_or_lies_on_another({path: visit})
        test_the_keyboard_goes_down_the_page_and_shows_where_it_is({path: visit})
        test_paper_shows_what_a_screen_folds_away({path: visit})
        for theme in ("light", "dark"):
            assert axe(path, theme) == [], (path, theme)


def test_a_place_with_four_series_fits_a_small_telephone(
    browser: Browser, streets: SimpleNamespace, city: City, tmp_path: Path
) -> None:
    """The joint tables of a month and of a year have five columns then, unfolded too."""
    street = streets.Street()
    pm10 = '[[stream]]\nid = "plaza/pm10"\nquantity = "pm10"\nprotects = { seconds = 60 }\nbounds = [0, 100]\n'
    pm10 += 'readings = { cadence_ms = 1000, tail = 2 }\nepsilon = 1.0\nnodes = { "1h" = 1, "1d" = 24 }\n'
    streams = ("footfall", "noise", "pm2_5", "pm10")
    end = "bounds = [0, 100]\n"
    streets.add(street, "plaza", streets.week_of(streets.NOW_S), streams=streams, swap=[(end, f"{end}\n{pm10}")])
    centre = replace(city, quartier=city.quartier[:1], site=city.site[:1], request=())
    build(street, centre, tmp_path / "site", streets.NOW_S)
    with serve(tmp_path / "site", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        page = browser.new_page(viewport={"width": 320, "height": 800})
        for path in ("mois", "annee"):
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/quartiers/centre/{path}/")
            page.evaluate(OPEN)
            assert page.locator(".tables thead th").count() == 5
            assert page.evaluate(WIDTH) <= 320, path
        page.context.close()
        server.shutdown()
        thread.join()
