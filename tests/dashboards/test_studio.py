"""The steward's page, `murmure policy studio`: checked as the public pages, with the numbers of `policy preview`."""

from __future__ import annotations

import ast
import csv
import importlib.util
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import cache
from html import unescape
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
from murmure.cli import main
from murmure.studio import answers, draft, page, week
from murmure.studio.desk import DRAWS, Desk, begin, deployments
from murmure.studio.form import DETAIL, LETTERS, REFUSALS, Unmet, scenario, weighted
from murmure.studio.server import Answer, Studio, StudioServer, is_loopback
from murmure_dashboards import pages
from murmure_dashboards.packed import compressed
from murmure_dashboards.wording import LANGUAGES, language
from murmure_edge import replay
from murmure_privacy import accountant
from murmure_privacy.decide import FLOOR, Accept, Ceiling, Signed, decide
from murmure_privacy.errors import ConfigError
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import IndicatorPlan, Plan, plan
from murmure_privacy.policy import parse
from murmure_privacy.preview import habit_rho_micro, site_price, standard_errors
from murmure_privacy.release import Release
from murmure_privacy.window import Calendar, utc

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "privacy" / "policy.example.toml"
OWN_CHECKS = (Path(__file__).parent / "own_checks.js").read_text(encoding="utf-8")
LEAST = {"text": 4.5, "graphic": 3.0, "target": 24}
JUDGES = Path(sys.prefix) / "pages-judges" / "node_modules"
OPEN = "document.querySelectorAll('details').forEach(one => one.open = true)"
FIELDS = """() => [...document.querySelectorAll('input:not([type=hidden]), select, button')].map(e => {
  const box = e.getBoundingClientRect(), style = getComputedStyle(e);
  e.focus();
  const ring = getComputedStyle(e);
  return [e.outerHTML.slice(0, 90), Math.min(box.width, box.height), ring.outlineStyle, parseFloat(ring.outlineWidth),
          e.tagName === 'BUTTON' || e.labels.length > 0];
})"""

COUNTS = {"partir": "marge", "a": "40", "b": "15", "c": "8", "plafond": ""}
LEVELS = {"serie": "plaza/noise", "noeud": "night", "a": "0,5", "b": "1", "c": "2", "plafond": "30", "lieux": "2"}
FAULTY = {"a": "beaucoup", "passages": "0", "seuil": "-3", "garder": "b"}
SITE = {"a1": "0,5", "b1": "1", "c1": "", "limite": "2", "lieux": "2"}
FAULTY_SITE = {"a1": "much", "b1": "", "b2": "", "b3": "", "garder": "b"}
BOTH = frozenset({"mayor", "clerk"})
CEILING = Ceiling(FLOOR.rho_micro)
FRENCH, ENGLISH = page.PATH, f"en/{page.PATH}"
MOST_OCTETS = 30_000  # as in test_site
PAGES = {
    "numbers": f"en/{page.NUMBERS}?{urlencode(COUNTS)}",
    "numbers-levels": f"{page.NUMBERS}?{urlencode(LEVELS)}",
    "faulty-numbers": f"{page.NUMBERS}?{urlencode(FAULTY)}",
    "site": f"{page.WHOLE}?{urlencode(SITE)}",
    "faulty-site": f"en/{page.WHOLE}?{urlencode(FAULTY_SITE)}",
    "counts": f"{FRENCH}?{urlencode(COUNTS)}",
    "levels": f"{ENGLISH}?{urlencode(LEVELS)}",
    "faulty": f"{FRENCH}?{urlencode(FAULTY)}",
}


@dataclass
class Served:
    """A studio on a free port, and the same without one."""

    desk: Desk
    studio: Studio
    url: str

    def get(self, path: str) -> Answer:
        return self.studio.answer(f"/{path}")

    def text(self, path: str) -> str:
        return self.get(path).content.decode()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A studio that begins with the example policy."""
    desk = begin(EXAMPLE, None, None, DiscreteGaussian())
    studio = Studio([desk], tmp_path_factory.mktemp("drafts"))
    with StudioServer(studio, 0, "127.0.0.1", anywhere=False) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield Served(desk, studio, f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
        thread.join()


@pytest.fixture
def opened(browser: Browser, served: Served) -> Iterator[Any]:
    """Opens one of PAGES with the given settings."""
    pages: list[Page] = []

    def opening(name: str, width: int = 1280, **settings: Any) -> Page:
        one = browser.new_page(viewport={"width": width, "height": 800}, **settings)
        one.set_default_timeout(120_000)  # fifteen weeks are drawn for it, on a machine that does other things
        pages.append(one)
        one.goto(f"{served.url}/{PAGES[name]}")
        return one

    yield opening
    for one in pages:
        one.context.close()


# The page as a page

LONG = pytest.mark.long  # a week of a sound meter is many readings
IN_LONG = [(name, scheme) for name in ("levels", "numbers-levels") for scheme in ("light", "dark")]
IN_LONG += [("counts", "dark"), ("site", "dark")]
SCHEMES = [
    ("counts", "light"),
    ("numbers", "light"),
    ("numbers", "dark"),
    ("faulty-numbers", "light"),
    ("faulty", "dark"),
    ("site", "light"),
    ("faulty-site", "dark"),
    *(pytest.param(*one, marks=LONG) for one in IN_LONG),
]


@pytest.mark.browser
@pytest.mark.parametrize(("name", "scheme"), SCHEMES)
def test_axe_finds_nothing(opened: Any, name: str, scheme: str) -> None:
    """No violation of WCAG 2.2 AA that axe knows, in both themes and languages, and on a form with mistakes."""
    from axe_playwright_python.sync_playwright import Axe

    one = opened(name, color_scheme=scheme, bypass_csp=True)
    one.evaluate(OPEN)
    found = Axe().run(one)
    assert found.violations_count == 0, found.generate_report()
    assert [each["id"] for each in found.response["incomplete"]] == []


@pytest.mark.browser
@pytest.mark.parametrize(("name", "scheme"), SCHEMES)
def test_our_own_checks_find_nothing(opened: Any, name: str, scheme: str) -> None:
    """On the smallest telephone: captions, names with figures, contrasts, targets, languages, headings, width."""
    one = opened(name, width=320, color_scheme=scheme)
    one.evaluate(OPEN)
    assert one.evaluate(OWN_CHECKS, LEAST) == []


@pytest.fixture(scope="module")
def every() -> ModuleType:
    """What every public page is held against."""
    spec = importlib.util.spec_from_file_location("every_page", Path(__file__).parent / "test_every_page.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.browser
@pytest.mark.parametrize("name", [pytest.param(one, marks=LONG if "levels" in one else ()) for one in PAGES])
def test_what_holds_for_every_public_page_holds_here(
    browser: Browser, served: Served, every: ModuleType, name: str
) -> None:
    """Elements, three requests to one host, no complaint, no cookie, width at 320 px and with text spaced, the keyboard
    from field to field, print, and our own checks in both themes: by the very functions."""
    assert served.get(PAGES[name]).status == HTTPStatus.OK  # is drawn before a browser waits for it
    visits = {name: every.visited(browser, served.url, PAGES[name])}
    every.test_our_own_checks_find_nothing(visits)
    every.test_a_page_asks_its_own_host_three_times_and_no_more(visits, served.url)
    every.test_nothing_scrolls_sideways(visits)
    every.test_the_keyboard_goes_down_the_page_and_shows_where_it_is(visits)
    every.test_paper_shows_what_a_screen_folds_away(visits)


def loaded(answer: Answer, served: Served) -> tuple[int, int, int]:
    """Elements outside the pictures, octets that travel with sheet and icon, and requests."""
    html = answer.content.decode()
    heads = [re.search(r'href="([^"]+)"', one) for one in re.findall(r"<link[^>]*>", html) if "alternate" not in one]
    files = {found[1].lstrip("./").partition("?")[0] for found in heads if found}
    contents = [answer.content, *(served.get(file).content for file in files)]
    elements = len(re.findall(r"<[a-z]", re.sub(r"(?s)(<svg[^>]*>).*?</svg>", r"\1", html)))
    return elements, sum(len(compressed(content)) for content in contents), len(contents)


@pytest.mark.parametrize("name", [pytest.param(one, marks=LONG if "levels" in one else ()) for one in PAGES])
def test_a_page_is_light(served: Served, name: str) -> None:
    """At most 430 elements outside the pictures, 30 KB compressed with sheet and icon, three requests; and what the
    page says that it weighs is what a browser that takes gzip gets."""
    answer = served.get(PAGES[name])
    elements, octets, requests = loaded(answer, served)
    assert 20 < elements <= pages.MOST_ELEMENTS and octets <= MOST_OCTETS and requests == 3
    url = urlsplit(served.url)
    assert url.hostname
    connection = HTTPConnection(url.hostname, url.port, timeout=120)
    connection.request("GET", f"/{PAGES[name]}", headers={"Accept-Encoding": "gzip"})
    got = connection.getresponse()
    content = got.read()
    assert got.headers["Content-Encoding"] == "gzip" and len(content) == len(compressed(answer.content))
    said = re.search(r"(?:pèse|weighs)[\s\u00a0]+(\d+)", unescape(answer.content.decode()))
    assert said and int(said[1]) == -(-len(content) // 1000)


BUSY = """
[[stream]]
id = "{site}/noise-{number}"
quantity = "noise"
protects = {{ seconds = 15, up_to_db = 75 }}
readings = {{ cadence_ms = 60000, tail = 1 }}
epsilon = 6.0
nodes = {{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1, "1w" = 1 }}
indicators = {{ histogram = 6, mean = 3, energy = 1 }}
bounds_db = [35, 85]
cap = {{ units_per_day = 1, span = "1y", epsilon = 30 }}
"""


@LONG
def test_the_fullest_page_is_light_too(served: Served, tmp_path: Path) -> None:
    """Three years of eight capped streams with all nodes that nest, above the floor, at two sites that are open: still
    at most 430 elements on each page, and all that was left out is said to be left out."""
    head = EXAMPLE.read_text("utf-8").partition("[[stream]]")[0].replace("2027-11-30", "2029-11-30")
    desks = []
    for site in ("plaza", "market"):
        text = head.replace('"plaza"', f'"{site}"') + "".join(BUSY.format(site=site, number=n) for n in range(8))
        desks.append(Desk(parse(text.encode(), "busy"), 2, {}, DiscreteGaussian()))
    studio = Studio(desks, tmp_path)
    query = urlencode({"noeud": "1h", "a": "6", "b": "12", "c": "18", "plafond": "100"})
    for place in (page.PATH, page.NUMBERS, page.WHOLE):
        answer = studio.answer(f"/{place}?{query}")
        elements, octets, _ = loaded(answer, served)
        assert 250 < elements <= pages.MOST_ELEMENTS and octets <= MOST_OCTETS, (place, elements)
    rows = cells(studio.answer(f"/{page.PATH}?{query}").content.decode(), "ensemble")
    assert len(rows) == page.MOST_SERIES + 1 + 3 and rows[page.MOST_SERIES][0] == "Encore 2 séries"


@pytest.mark.browser
@pytest.mark.parametrize("name", ["counts", "site"])
def test_every_field_has_its_name_its_size_and_its_ring(opened: Any, name: str) -> None:
    """Each field has a label, is large enough to be touched, and shows that the keyboard is there."""
    one = opened(name, width=320)
    one.keyboard.press("Tab")  # the keyboard is at work
    found = one.evaluate(FIELDS)
    assert len(found) > 18
    assert [what for what, size, *_ in found if size < LEAST["target"]] == []
    assert [what for what, _, style, width, _ in found if style != "solid" or width < 2] == []
    assert [what for what, *_, named in found if not named] == []


@pytest.mark.browser
def test_the_keyboard_alone_changes_a_scenario_without_javascript(opened: Any) -> None:
    """Tab to a field, type, Enter: the answer has an address of its own that holds what was typed."""
    one = opened("counts", java_script_enabled=False)
    one.locator("#f-lieux").focus()
    one.keyboard.press("Control+A")
    one.keyboard.type("7")
    one.keyboard.press("Enter")
    one.wait_for_url(re.compile("lieux=7"))
    assert "a=40" in one.url and "garder" not in one.url
    assert one.locator("text=7 lieux comme celui-ci").is_visible()
    assert one.locator("svg").count() == len(LETTERS) and one.locator("#f-lieux").input_value() == "7"
    one.locator("text=Les chiffres derrière ces images").click()
    one.wait_for_url(re.compile(r"/chiffres\?.*lieux=7"))
    assert one.locator("table").first.is_visible() and one.locator("#jours").is_visible()
    one.locator("text=Revenir aux trois scénarios").click()
    one.wait_for_url(re.compile(r"/scenarios\?.*lieux=7"))


@LONG
@pytest.mark.browser
def test_the_page_can_be_looked_at(opened: Any, tmp_path: Path) -> None:
    """Pictures of the page on a phone and on a desk; MURMURE_PICTURES=FOLDER keeps them there."""
    kept = os.environ.get("MURMURE_PICTURES")
    folder = Path(kept) if kept else tmp_path
    for name in PAGES:
        for width in (320, 1280):
            opened(name, width=width).screenshot(path=folder / f"studio-{name}-{width}.png", full_page=True)
    assert all(picture.stat().st_size > 10_000 for picture in folder.glob("studio*.png"))


@pytest.mark.browser
def test_three_requests_to_one_host(browser: Browser, served: Served) -> None:
    """Page, sheets and icon from this machine; no complaint on the console, no cookie, no script."""
    one = browser.new_page()
    one.set_default_timeout(120_000)
    asked: list[str] = []
    said: list[str] = []
    one.on("request", lambda request: asked.append(request.url))
    one.on("console", lambda message: said.append(message.text))
    one.goto(f"{served.url}/{PAGES['counts']}")
    assert len(asked) <= 3 and all(url.startswith(served.url) for url in asked)
    assert said == [] and one.context.cookies() == [] and one.locator("script").count() == 0
    one.context.close()


def test_html_validate_finds_nothing(served: Served, tmp_path: Path) -> None:
    """Other people's judge of HTML finds no fault in the page, with and without mistakes, and finds one that is
    planted."""
    for name, path in PAGES.items():
        if name.endswith("levels"):
            continue  # the same template
        (tmp_path / f"{name}.html").write_bytes(served.get(path).content)
    twin = (tmp_path / "faulty.html").read_text("utf-8").replace("</fieldset>", "", 1)
    (tmp_path / "twin.html").write_text(twin, "utf-8")
    config = Path(__file__).parent / "html-validate.mjs"
    node = (f"{sys.prefix}/bin/node", f"{JUDGES}/html-validate/bin/html-validate.mjs", "--config", str(config))
    files = sorted(map(str, tmp_path.glob("*.html")))
    done = subprocess.run([*node, "-f", "text", *files], capture_output=True, text=True, timeout=120)
    told = done.stdout.splitlines()
    assert [line for line in told if line and "twin.html" not in line and ".html:" in line] == []
    assert done.returncode == 1 and any("close-order" in line for line in told)


@LONG
@pytest.mark.java
def test_the_nu_checker_finds_nothing(served: Served, tmp_path: Path) -> None:
    """Nor does the checker of the W3C."""
    for name, path in PAGES.items():
        (tmp_path / f"{name}.html").write_bytes(served.get(path).content)
    own = pages.static(pages.STUDIO_SHEET)  # what stands before it in the sheet is judged with the public pages
    assert served.get(f"static/{pages.STUDIO_SHEET}").content.endswith(own)
    (tmp_path / "studio.css").write_bytes(own)
    java = ("java", "-Xss4m", "-jar", f"{JUDGES}/vnu-jar/build/dist/vnu.jar", "--also-check-css")
    done = subprocess.run([*java, *map(str, tmp_path.iterdir())], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == ""


# The numbers are those of the command


def cells(html: str, name: str) -> list[list[str]]:
    """Returns the rows of a table, by its name, as they are read."""
    table = re.search(rf'<caption id="{name}">.*?</table>', html, re.DOTALL)
    assert table, name
    rows = re.findall(r"<tr>(.*?)</tr>", table[0], re.DOTALL)
    return [[unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows][1:]


def told(number: float) -> str:
    return f"±\u00a0{language('en').number(Decimal(f'{number:.3g}'))}"


@pytest.mark.parametrize("name", ["counts", pytest.param("levels", marks=LONG)])
def test_numbers_are_those_of_policy_preview(
    served: Served, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Margins and prices on the page are those that `murmure policy preview` prints for the proposal of each scenario,
    which `policy check` accepts."""
    query = COUNTS if name == "counts" else LEVELS
    html = served.text(f"{ENGLISH}?{urlencode(query)}")
    others = cells(served.text(f"en/{page.NUMBERS}?{urlencode(query)}"), "indices") if name == "levels" else []
    figures, ladder, together = cells(html, "chiffres"), cells(html, "habitudes"), cells(html, "ensemble")
    assert len(set(figures[0][1:])) == len(LETTERS), "each scenario has margins of its own"
    for column, letter in enumerate(LETTERS, 1):
        more = {"decision": "Délibération n° 1", "raison": "Un « essai »", "garder": letter}
        answer = served.get(f"{FRENCH}?{urlencode({**query, **more})}")
        assert "attachment" in answer.fields["Content-Disposition"]
        file = tmp_path / "proposal.toml"
        file.write_bytes(answer.content)
        assert main(["policy", "check", str(file)]) == 0
        capsys.readouterr()
        assert main(["policy", "preview", str(file), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        [stream] = [one for one in found["streams"] if one["id"] == query.get("serie", "plaza/footfall")]
        rows = [one for one in stream["nodes"] if one["indicator"] not in page._HIDDEN]
        rows = [one for one in rows if one["at"] in (None, "busy street")]
        own = {"crossings", "level_db_mean"}
        rows.sort(key=lambda one: one["indicator"] not in own)
        assert len(rows) == len(figures) + len(others) > 3 and {one["indicator"] for one in rows[: len(figures)]} < own
        for row, line in zip(rows, [*figures, *others], strict=True):
            if row["indicator"].startswith("share_"):
                assert f"{100 * row['error_95']:.3g}" in line[column]
            elif row["error_95"] is None:
                assert line[column] == "no number, not shown"
            else:
                assert told(row["error_95"]) in line[column].split(":")[0].replace("\u00a0dB", "")
                assert ("not shown" in line[column]) == (row["publishable"] is False)
        habits = [cell.split("\n")[column - 1] for line in ladder for cell in line[1:]]
        for rung, said in zip(stream["ladder"], habits, strict=True):
            start, _, price = said.partition(": ")
            assert start == letter.upper()
            assert float(price.split(" ")[0].rstrip(":").replace(",", "")) == pytest.approx(rung["epsilon"], rel=0.01)
            assert said.endswith(" (–)") == (rung["odds"] is None)
        assert float(together[-2][column].split(" ")[0]) == pytest.approx(found["site"]["epsilon"], rel=0.01)
        for one in found["streams"]:  # a line each, at the node that is told first; of others the policy's own
            level = {"footfall": "1h", "noise": "night", "pm2_5": "1d"}[one["id"].rpartition("/")[2]]
            [line] = [line for line in together if f"({one['id']})" in line[0]]
            [row] = [row for row in one["nodes"] if row["node"] == level and row["indicator"] in {*own, "pm2_5_ug_m3"}]
            assert told(row["error_95"]) in line[column if one is stream else 1]
            assert len(line) == (4 if one is stream else 2)


def test_a_margin_is_solved_as_policy_preview_solves_it(served: Served) -> None:
    """A wanted margin gives the epsilon that `target` gives, and the other way: that epsilon has that margin."""
    asked = served.desk.form(COUNTS).asked
    assert asked
    look = served.desk.look(asked)
    for shown, wanted in zip(look.shown, (40, 15, 8), strict=True):
        assert wanted * 0.98 < shown.margins["1h"] <= wanted
    back = {**COUNTS, "partir": "epsilon", **{s.scenario.letter: str(s.made.stream.epsilon) for s in look.shown}}
    again = served.desk.form(back).asked
    assert again
    assert [s.margins["1h"] for s in served.desk.look(again).shown] == [s.margins["1h"] for s in look.shown]


def test_a_week_costs_what_was_typed(served: Served) -> None:
    """Where a week is protected, the epsilon typed is that of seven days, and the policy writes that of one: the
    largest of three digits that fits."""
    query = {"qui": "semaine", "passages": "2", "partir": "epsilon", "a": "1", "b": "2", "c": "4"}
    asked = served.desk.form(query).asked
    assert asked and asked.stream.protects == ("crossings", 2)
    for letter, typed in zip(LETTERS, (Decimal(1), Decimal(2), Decimal(4)), strict=True):
        policy = scenario(asked, served.desk.base, letter).policy
        stream = plan(policy).streams["plaza/footfall"]
        limit = accountant.rho_micro(typed, stream.stream.delta)
        assert habit_rho_micro(stream, 7) <= limit
        dearer = replace(policy, streams=(replace(stream.stream, epsilon=stream.stream.epsilon * Decimal("1.01")),))
        assert habit_rho_micro(plan(dearer).streams["plaza/footfall"], 7) > limit


# The whole site


def test_a_site_costs_what_policy_preview_says(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of each scenario: the sum over the streams is that of the proposal, which has the streams with an epsilon and no
    others; each margin is the preview's; n sites cost n times its rho; the ceiling and the ladder are of the sum."""
    html = served.text(f"en/{page.WHOLE}?{urlencode(SITE)}")
    streams, together, ladder = cells(html, "series"), cells(html, "ensemble"), cells(html, "habitudes")
    cards = re.findall(r"<article>(.*?)</article>", html, re.DOTALL)
    base = served.desk.base.streams
    for column, letter in enumerate(LETTERS, 1):
        more = {"decision": "D", "raison": "R", "garder": letter}
        answer = served.get(f"{page.WHOLE}?{urlencode({**SITE, **more})}")
        assert "attachment" in answer.fields["Content-Disposition"]
        file = tmp_path / f"{letter}.toml"
        file.write_bytes(answer.content)
        assert main(["policy", "check", str(file)]) == 0
        capsys.readouterr()
        made = plan(parse(answer.content, "proposal"))
        factor = {"a": Decimal("0.5"), "b": Decimal(1), "c": Decimal(2)}[letter]
        assert [(stream.id, stream.epsilon) for stream in made.policy.streams] == [
            (one.id, one.epsilon * factor) for number, one in enumerate(base) if number or letter != "c"
        ]
        price = site_price(made)
        rho, delta = price["rho_micro"], Decimal(str(price["delta"]))
        assert rho == sum(one.rho_micro for one in made.streams.values())
        said = [row[column].split(" ")[0].rstrip(":").replace(",", "") for row in (*together, *ladder)]
        for text, micro in zip(said[:2], (rho, 2 * rho), strict=False):
            assert float(text) == pytest.approx(float(accountant.epsilon(Decimal(micro) / 10**6, delta)), rel=0.01)
        for text, (days, units) in zip(said[2:], [(d, n) for d in (1, 7, 30, 365) for n in (1, 2, 4, 10)], strict=True):
            micro = units**2 * sum(habit_rho_micro(one, days) for one in made.streams.values())
            assert float(text) == pytest.approx(float(accountant.epsilon(Decimal(micro) / 10**6, delta)), rel=0.01)
        under = rho <= accountant.rho_micro(Decimal(2), Decimal("0.000001"))
        assert ("under the site's ceiling" in unescape(cards[column - 1]).replace("’", "'")) == under
        assert "72 against 28" not in cards[column - 1] or letter == "a"
        margins = {row[0]: row[column] for row in streams}
        for one in base:
            name = f"{language('en')(f'quantity.{one.quantity.name}')} ({one.id})"
            if one.id not in made.streams:
                assert {text for head, text in margins.items() if one.id in head} == {"not measured"}
                continue
            for (level, indicator), error in standard_errors(made.streams[one.id]).items():
                if indicator in ("crossings", "mean"):
                    head = f"{name}: margin, {language('en')(f'studio.node_{level}')}"
                    assert told(float(f"{1.96 * error:.6g}"))[:5] in margins[head]
    assert "not measured" in html and "above the site" in html


def test_the_whole_site_and_one_of_its_series_lead_to_each_other(served: Served) -> None:
    """With the same three epsilons: there and back gives the address that one came from."""
    query = {"serie": "plaza/pm2_5", "partir": "marge", "a": "0.6", "b": "0.3", "c": "0.2", "noeud": "1d"}
    html = served.text(f"{FRENCH}?{urlencode(query)}")
    [link] = re.findall(r'href="(lieu[^"]*)"', html)
    there = served.text(f"gestion/{unescape(link)}")
    known = served.desk.form(query).asked
    assert known
    epsilons = [str(shown.made.stream.epsilon) for shown in served.desk.look(known).shown]
    typed = [re.search(rf'id="f-{letter}3"[^>]* value="([^"]*)"', there) for letter in LETTERS]
    assert [float(found[1]) for found in typed if found] == [float(one) for one in epsilons]
    back = re.findall(r'<th scope="row"><a href="(scenarios[^"]*)"', there)
    assert len(back) == len(served.desk.base.streams)
    query = dict(pair.split("=") for pair in unescape(back[2]).partition("?")[2].split("&"))
    assert [float(query[letter]) for letter in LETTERS] == [float(one) for one in epsilons]


@cache
def coarse_studio(part: int) -> Studio:
    """A studio that begins with one stream of the example, with fewer nodes: a week is closed once for all cases."""
    text = EXAMPLE.read_bytes().split(b"[[stream]]")
    coarse = text[part].replace(b'"15min" = 1, "1h" = 1, ', b"").replace(b'"1h" = 1, "1d"', b'"6h" = 1, "1d"')
    assert coarse != text[part], "as it is, it is dearer to draw"
    base = parse(b"[[stream]]".join((text[0], coarse)), "example")
    return Studio([Desk(base, 2, {}, DiscreteGaussian())], Path("nowhere"))


ONE_COUNT = {"partir": "epsilon", "a": "0.5", "b": "1", "c": "2"}
ONE_MEAN = {**ONE_COUNT, "noeud": "1d"}


@pytest.mark.parametrize(
    ("part", "query", "linked"),
    [
        (1, ONE_COUNT, True),
        (1, {**ONE_COUNT, "qui": "jour", "passages": "20"}, False),
        (3, ONE_MEAN, True),
        (3, {**ONE_MEAN, "secondes": "40"}, False),
        (3, {**ONE_MEAN, "jusqua": "45"}, False),
        (3, {**ONE_MEAN, "detail": "2"}, False),
        (3, {**ONE_MEAN, "plafond": "30"}, False),
    ],
)
def test_the_whole_site_keeps_the_policy_that_led_there(part: int, query: dict[str, str], linked: bool) -> None:
    """What a scenario's page saves and what the page of the site saves that it leads to are one file; where that page
    would take something from the base that the scenario has changed, nothing leads to it, and why is said."""
    studio = coarse_studio(part)
    html = studio.answer(f"/{FRENCH}?{urlencode(query)}").content.decode()
    links = re.findall(r'href="(lieu[^"]*)"', html)
    assert (len(links) == 1, language("fr")("studio.whole_no_link") in html) == (linked, not linked)
    keep = urlencode({"decision": "D", "raison": "R", "garder": "b"})
    ways = [f"{FRENCH}?{urlencode(query)}", *(f"gestion/{unescape(link)}" for link in links)]
    saved = [studio.answer(f"/{way}&{keep}") for way in ways]
    assert all("attachment" in answer.fields["Content-Disposition"] for answer in saved)
    assert len({answer.content for answer in saved}) == 1


def wide_policy(site: str, count: int) -> bytes:
    """A policy of so many counters."""
    head, footfall = EXAMPLE.read_bytes().decode().split("[[stream]]")[:2]
    streams = [footfall.replace("plaza/footfall", f"plaza/door-{number}") for number in range(count)]
    return "[[stream]]".join((head, *streams)).replace("plaza", site).encode()


def test_a_large_site_stays_within_what_a_page_may_hold() -> None:
    """At most 430 elements, as the public pages, with a dozen capped streams; with few each level has its margin."""
    for count, rows in ((4, 4 * 6), (12, 12)):
        desk = Desk(parse(wide_policy("plaza", count), "wide"), 2, {}, DiscreteGaussian())
        html = Studio([desk], Path("nowhere")).answer(f"/{page.WHOLE}").content.decode()
        assert len(cells(html, "series")) == rows
        assert len(re.findall(r"<\w", html)) <= pages.MOST_ELEMENTS


def test_several_policies_are_open_side_by_side() -> None:
    """Each site has its own address; somebody who passes all of them pays the sum; a site that is not open is said."""
    texts = [wide_policy(site, count) for site, count in (("plaza", 1), ("market", 2))]
    desks = [Desk(parse(text, "given"), 2, {}, DiscreteGaussian()) for text in texts]
    studio = Studio(desks, Path("nowhere"))
    first, second = (studio.answer(f"/en/{page.WHOLE}{query}").content.decode() for query in ("", "?regle=market"))
    assert "plaza/door-0" in first and "market/" not in first.replace('value="market"', "")
    assert "market/door-1" in second and "plaza/door" not in second
    rho = sum(one.rho_micro for desk in desks for one in desk.planned.streams.values())
    for html in (first, second):
        row = cells(html, "ensemble")[-1]
        assert float(row[2].split(" ")[0]) == pytest.approx(
            float(accountant.epsilon(Decimal(rho) / 10**6, Decimal("1e-6"))), rel=0.01
        )
    wrong = studio.answer(f"/en/{page.WHOLE}?regle=elsewhere").content.decode()
    assert 'id="e-regle"' in wrong and "Choose one of the answers offered." in wrong
    kept = re.findall(r'name="regle" value="market"', second)
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ({"a1": "much"}, "a1", "Write a number"),
        ({"b2": "101"}, "b2", "between 0.001 and 100"),
        ({"c1": "", "c2": "", "c3": ""}, "c1", "Write at least one ε"),
        ({"a2": "0.001"}, "a2", "too little budget"),
        ({"limite": "11"}, "limite", "between 0.001 and 10"),
        ({"garder": "a"}, "decision", "required"),
    ],
)
def test_a_mistake_of_a_site_stands_beside_its_field(
    served: Served, query: dict[str, str], field: str, said: str
) -> None:
    """In words, tied to the field, which keeps what was typed."""
    html = served.text(f"en/{page.WHOLE}?{urlencode(query)}")
    [words] = re.findall(rf'<strong class="wrong" id="e-{field}">(.*?)</strong>', html)
    assert said in unescape(words) and 'id="ensemble"' not in html
    shown = re.search(rf'<input id="f-{field}"[^>]* value="([^"]*)"', html)
    assert shown and unescape(shown[1]) == query.get(field, "")


# The week and its draws are those of a gateway


def test_draws_are_those_of_edge_replay(served: Served, tmp_path: Path) -> None:
    """The same recording through `murmure edge replay` gives the same nodes, noise scales and charges, and figures as
    far apart as two draws are."""
    asked = served.desk.form(COUNTS).asked
    assert asked
    look = served.desk.look(asked)
    shown = look.shown[1]
    policy, readings, out = (tmp_path / name for name in ("policy.toml", "week.csv", "out.jsonl"))
    policy.write_bytes(shown.scenario.policy.text)
    rows = [f"{utc(at // 1000)},plaza,pedestrians,{value},1" for at, value in look.week.rows.rows]
    readings.write_text("\n".join(["timestamp_utc,site,metric,value,unit", *rows]) + "\n")
    replay.run(policy, readings, "plaza/footfall", out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    replayed = {
        (line["node"], line["start"], line["end"]): (line["noise"][0]["sigma"], line["noise"][0]["rho_micro"])
        for line in lines
        if line["status"] == "released"
    }
    mine = {
        (one.node.level, utc(one.node.start_s), utc(one.node.end_s)): one.noised[0]
        for one in shown.outcomes
        if isinstance(one, Release)
    }
    assert len(mine) == 7 * (96 + 24 + 4 + 1)
    assert replayed == {key: (one.sigma_milli / 1000, one.rho_micro) for key, one in mine.items()}
    values = {(line["node"], line["start"], line["end"]): line["values"]["crossings"] for line in lines}
    gaps = [abs(values[key] - one.integers[0]) * 1000 / one.sigma_milli for key, one in mine.items()]
    assert 0 < max(gaps) < 9 and len(set(gaps)) > 10


def test_three_scenarios_see_one_week_and_five_draws_that_differ(served: Served) -> None:
    """The exact week is the same for the three; no two draws are equal; the same address shows the same draws."""
    asked = served.desk.form(COUNTS).asked
    assert asked
    look = served.desk.look(asked)
    draws = [draw for shown in look.shown for draw in shown.draws]
    assert len(draws) == 3 * DRAWS and len(set(draws)) == len(draws)
    assert len(look.points) == 7 * 24 and len(look.days) == 7
    again = served.desk.look(asked)
    assert [shown.draws for shown in again.shown] == [shown.draws for shown in look.shown]


class Asked(DiscreteGaussian):
    """Keeps all noise that it gives, by sigma, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[int, list[int]] = {}
        self.times = 0

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        drawn = super().draw(exact, indicator)
        self.times += 1
        self.given.setdefault(indicator.sigma_milli, []).extend(a - b for a, b in zip(drawn, exact, strict=True))
        return drawn


def test_noise_that_is_drawn_together_is_used_once_and_is_that_of_the_plan() -> None:
    """For five thousand integers OpenDP is asked some twenty times; what is added to them is what it gave, no integer
    of it twice, and as large as the plan says: its mean square lies within five standard errors of sigma squared."""
    mechanism = Asked()
    noise = week.Ahead(mechanism)
    for width, sigma_milli in ((1, 8000), (20, 300_000)):
        asked = IndicatorPlan("any", width, 1, sigma_milli, 10**6)
        exact = tuple(range(width))
        added = [a - b for _ in range(5000 // width) for a, b in zip(noise.draw(exact, asked), exact, strict=True)]
        assert Counter(added) <= Counter(mechanism.given[sigma_milli])
        squares = sum(one * one for one in added) / len(added) / (sigma_milli / 1000) ** 2
        assert abs(squares - 1) < 5 * (2 / len(added)) ** 0.5
    assert mechanism.times <= 2 * 21


def test_the_draws_of_a_question_are_made_together() -> None:
    """For 2 600 figures a question asks OpenDP less than thirty times."""
    mechanism = Asked()
    desk = begin(EXAMPLE, None, None, mechanism)
    asked = desk.form({"serie": "plaza/pm2_5"}).asked
    assert asked
    released = [one for shown in desk.look(asked).shown for one in shown.outcomes if isinstance(one, Release)]
    assert len(released) * DRAWS > 2600 and mechanism.times < 30


def test_pictures_show_what_was_drawn(served: Served) -> None:
    """Each picture holds the true line, the band and five thin lines; its table has each day's true count."""
    html = served.text(PAGES["counts"])
    pictures = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(pictures) == 3
    for picture in pictures:
        [thin] = re.findall(r'class="draw"[^>]* d="([^"]+)"', picture)
        [line] = re.findall(r'class="line"[^>]* d="([^"]+)"', picture)
        assert thin.count("M") == DRAWS and line.count("M") == 1
    words = "plaza/footfall\u00a0: passages en une heure"  # of what it is: beside each, and in its name
    assert html.count(words) == 6 and all(words in picture for picture in pictures)
    asked = served.desk.form(COUNTS).asked
    assert asked
    look = served.desk.look(asked)
    rows = cells(served.text(PAGES["numbers"]), "jours")
    number = language("en").number
    for day, row in zip(look.days, rows, strict=True):
        assert row[1] == number(round(day.value))
        for shown, cell in zip(look.shown, row[2:], strict=True):
            drawn = [p.value for draw in shown.draws for p in draw if (p.level, p.start_s) == (day.level, day.start_s)]
            assert len(drawn) == DRAWS and cell == f"{number(round(min(drawn)))}\u00a0– {number(round(max(drawn)))}"


@pytest.mark.parametrize("level", ["day", "evening", "night"])
def test_the_numbers_of_a_part_of_the_day_are_those_of_its_pictures(served: Served, level: str) -> None:
    """And not of the nights, where the pictures are of days or evenings."""
    asked = {**LEVELS, "noeud": level}
    table = served.text(f"{page.NUMBERS}?{urlencode(asked)}")
    say, form = language("fr"), served.desk.form(asked).asked
    assert form
    points = served.desk.look(form).points
    assert {point.level for point in points} == {level}
    assert [row[1] for row in cells(table, "jours")] == [say.number(Decimal(f"{point.value:.1f}")) for point in points]
    name = say(f"studio.node_{level}")
    assert f"{name[:1].upper()}{name[1:]}\u00a0: valeur vraie" in table


def test_a_recording_is_tried_on_its_weekdays(tmp_path: Path) -> None:
    """A public recording takes the place of the made-up week, each day on its weekday, in the policy's own time."""
    file = tmp_path / "street.csv"
    start = Calendar("Europe/Paris").midnight(date(2025, 6, 4))  # a Wednesday
    rows = [f"{utc(start + 900 * n)},x,pedestrians,{n % 7},1" for n in range(8 * 96)]
    file.write_text("\n".join(["timestamp_utc,site,metric,value,unit", *rows]) + "\n")
    desk = begin(EXAMPLE, file, None, DiscreteGaussian())
    assert desk.streets["plaza/footfall"][0] == week.RECORDED and week.RECORDED not in desk.streets["plaza/noise"]
    asked = desk.form({"b": "15"}).asked
    assert asked and asked.street == week.RECORDED
    calendar = Calendar("Europe/Paris")
    tried = week.recorded(desk.readings["plaza/footfall"], calendar, desk.monday_s)
    days = [
        point.value
        for point in answers.exact(week.closed(tried, plan(desk.base), "plaza/footfall"), ["1d"], "crossings")
    ]
    assert days == [sum(n % 7 for n in range(96 * day, 96 * day + 96)) for day in range(7)]
    first = calendar.civil_day(tried.window.start_s)
    assert first.weekday() == 2 and first >= desk.base.valid_from


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "192.0.2.1"], "--open-to-others"),
        (["--policy", "nowhere.toml"], "give a readable policy"),
        (["--site", "x"], "name the recording too"),
        (["--policy", str(EXAMPLE), "--policy", str(EXAMPLE)], "give one policy for each site"),
        (["--policy", "a", "--policy", "b", "--readings", "c"], "give the policy of its site alone"),
        (["--port", "99999"], "name a free port"),
    ],
)
def test_a_studio_that_cannot_be_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with the command is said in one line, with the mend; others are let in only when told so."""
    monkeypatch.chdir(tmp_path)
    assert main(["policy", "studio", *arguments, "--lang", "en"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and said in told.err
    assert main(["policy", "studio", *arguments, "--lang", "fr"]) == 2
    french = capsys.readouterr().err
    assert french.count("\n") == 1 and " ; " in french and said not in french.replace("--open-to-others", "")


def test_the_command_serves_the_page_leaves_nothing_and_ends_cleanly(tmp_path: Path) -> None:
    """`murmure policy studio` says where the page is, answers there, ends with 0 at SIGTERM, and has written nothing
    where it was started."""
    command = [sys.executable, "-m", "murmure.cli", "policy", "studio", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = urlsplit(process.stdout.readline().strip())
        try:
            assert url.hostname == "127.0.0.1" and url.path == f"/{page.PATH}" and url.port
            connection = HTTPConnection(url.hostname, url.port, timeout=120)
            connection.request("GET", f"/{FRENCH}?a=rien")
            answer = connection.getresponse()
            assert answer.status == 200 and "corriger" in answer.read().decode()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert list(tmp_path.iterdir()) == []


# Mistakes stand beside their field


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ({"a": "beaucoup"}, "a", "Write a number, for example 15."),
        ({"b": "0"}, "b", "Write a number between 0.001 and 1,000,000."),
        ({"a": "-4"}, "a", "Write a number between 0.001 and 1,000,000."),
        ({"seuil": "-3"}, "seuil", "Write a number between 0"),
        ({"b": "0.01"}, "b", "This margin takes an ε above 100: accept a wider one."),
        ({"c": "200", "partir": "epsilon"}, "c", "between 0.001 and 100"),
        ({"passages": "1.5"}, "passages", "Write a whole number between 1 and 1,000."),
        ({"lieux": ""}, "lieux", "Write a whole number"),
        ({"qui": "tous"}, "qui", "Choose one of the answers offered."),
        ({"noeud": "1y"}, "noeud", "Choose one"),
        ({"serie": "nowhere"}, "serie", "Choose one"),
        ({"semaine": "../../etc"}, "semaine", "Choose one"),
        ({"detail": "9"}, "detail", "between -3 and 3"),
        ({"seuil": "<b>"}, "seuil", "Write a number"),
        ({"plafond": "0.001"}, "plafond", "no day would be published"),
        ({"a": "0.001", "partir": "epsilon"}, "a", "too little budget"),
        ({"serie": "plaza/noise", "jusqua": "20"}, "jusqua", "between 36 and 140"),
        ({"serie": "plaza/noise", "secondes": "0"}, "secondes", "between 1 and 3,600"),
        ({"garder": "a"}, "decision", "this field is public and required"),
        ({"garder": "a", "decision": "D", "raison": "R", "debut": "7 décembre"}, "debut", "2026-12-07"),
        ({"garder": "a", "decision": "D", "raison": "R", "fin": "2020-01-01"}, "fin", "before the beginning"),
        ({"garder": "a", "decision": "D", "raison": "R", "fin": "2090-01-01"}, "fin", "ten years"),
    ],
)
def test_a_mistake_stands_beside_its_field(served: Served, query: dict[str, str], field: str, said: str) -> None:
    """In words and in the page's language, tied to the field, which keeps what was typed; so do all others."""
    html = served.text(f"{ENGLISH}?{urlencode({'lieux': '5', **query})}").replace("−", "-")
    [words] = re.findall(rf'<strong class="wrong" id="e-{field}">(.*?)</strong>', html)
    assert said in unescape(words)
    assert re.search(rf'aria-describedby="e-{field}[ "][^>]*aria-invalid="true"', html)
    assert 'class="wrong summary"' in html and "<svg" not in html
    for name, typed in {"lieux": "5", **query}.items():
        if name in ("serie", "qui", "noeud", "semaine", "garder", "detail", "partir"):
            continue  # chosen among what there is
        shown = re.search(rf'<input id="f-{name}"[^>]* value="([^"]*)"', html)
        assert shown and unescape(shown[1]) == typed


# What the kernel refuses reaches the page in the page's language

OF_THE_FILE = {
    *("begins with a byte order mark", "no policy in it", "a format this version does not know", " is not a name"),
    *("earlier than valid_from", "more than ten years after valid_from", " streams", "[stream] in single brackets"),
    *("not TOML: 11", "not a table", "solved by `policy preview` and `policy new` only, never signed"),
    *(" is not SITE/NAME", " is unknown", " is no small probability", "empty", " does not divide a quarter-hour"),
    *(" uses ", " is no pair of whole numbers", " is not within 0 and  ", " is not below ", "unknown key"),
    *(" does not hold whole bins of 5 dB", "missing", " is not ", "empty, too long or not printable"),
    *("has a time of day", " is not of this time", " is no finite number", " is not between  and ", " stands twice"),
    *("not UTF-8 at byte 1", "is for the whole policy", "is none of , ", "does not nest with , ", "a count has none"),
    *(" has one indicator only", "the sum of  would not fit 64 bits", "does not stand on a line of its own"),
    *("is not a node and an error_95", "is no node of the stream", "is no positive number", "stands beside epsilon"),
}
"""What is refused of the file with which the studio begins, or by the form itself before: what is typed cannot bring it
about. As it is written out in the sources."""
OF_A_NODE = {" is not above ", " is too large"}  # of weights, which the slider moves; the key is not written out
REACHED = {
    "margin": ({"b": "0.01"}, ""),
    "no_mean": ({"serie": "plaza/noise", "partir": "marge"}, "indicators = { histogram = 6 }"),
    "tiny": ({"a": "0.001", "partir": "epsilon"}, ""),
    "cap": ({"plafond": "0.001"}, ""),
    "noise": ({"serie": "plaza/noise", "secondes": "3600", "jusqua": "140", "a": "0.1"}, ""),
    "timezone": (
        {"garder": "a", "decision": "D", "raison": "R", "debut": "2015-01-01", "fin": "2016-01-01"},
        'timezone = "Asia/Pyongyang"',
    ),
    "long": ({"garder": "a", "decision": "𝛅" * 1000, "raison": "𝛅" * 1000}, "long"),
    "weight": ({"detail": "3"}, 'nodes = { "15min" = 900000, "1h" = 900000 }'),
}
"""By sentence: what to type for it, and a line of the policy to begin with."""


def based_on(line: str) -> Desk:
    """A desk that begins with the example, one of its lines another."""
    text = EXAMPLE.read_text("utf-8")
    if line == "long":
        text = re.sub(r"(?m) *#.*$", "", wide_policy("plaza" * 8, 32).decode())
    elif line:
        text = re.sub(rf"(?m)^{re.escape(line.split(' ')[0])} .*$", line, text)
    return Desk(parse(text.encode(), "base"), 2, {}, DiscreteGaussian())


@pytest.mark.parametrize("key", [refusal.key for refusal in REFUSALS])
def test_each_refusal_of_the_kernel_is_said_in_the_language_of_the_page(key: str) -> None:
    """Every entry of REFUSALS can be met, and has its own sentence in French and English beside a field that the page
    has; what the program says in English stands nowhere."""
    query, line = REACHED[key]
    desk = based_on(line)
    form = desk.form(query)
    assert form.asked, form.mistakes
    with pytest.raises(Unmet) as met:
        scenario(form.asked, desk.base, form.save or next(one for one in LETTERS if one in query or one == "c"))
    assert met.value.mistake.key == f"studio.error_{key}"
    cause = met.value.__cause__
    assert isinstance(cause, ConfigError)
    for code in LANGUAGES:
        html = unescape(page.render(form.with_mistake(met.value), None, desk.base, ("animee",), {}, code).decode())
        [words] = re.findall(rf'<strong class="wrong" id="e-{met.value.field}">(.*?)</strong>', html)
        assert words == page.said(language(code), met.value.mistake)
        assert cause.problem not in html and cause.mend not in html
    assert language("fr").texts[f"studio.error_{key}"] != language("en").texts[f"studio.error_{key}"]


def test_no_refusal_of_the_kernel_is_without_a_sentence() -> None:
    """Every place in the kernel that refuses a policy, read from its sources: either its words are among REFUSALS, or
    only another file can bring it about. A new refusal has to be put in one of the two."""
    never, told = set(), set()
    for module in ("policy", "plan", "preview"):
        tree = ast.parse((ROOT / "privacy" / "murmure_privacy" / f"{module}.py").read_text("utf-8"))
        for call in ast.walk(tree):
            name = getattr(call.func, "id", getattr(call.func, "attr", "")) if isinstance(call, ast.Call) else ""
            if not isinstance(call, ast.Call) or name not in ("ConfigError", "fail") or len(call.args) < 3:
                continue
            key, problem = map(literal, call.args[-3:-1])
            if not problem and key in ("", "line 2"):
                continue  # hands on what another place refuses
            met = [one.key for one in REFUSALS if one.said in f"{key}: {problem}"]
            if met or problem in OF_A_NODE:
                told.add(met[0] if met else "weight")
                never |= {problem} & OF_THE_FILE  # of the file itself, as well: " bytes" is not
            else:
                never.add(problem)
    assert never - OF_THE_FILE == set(), "put each into OF_THE_FILE, or a sentence for it among REFUSALS"
    assert OF_THE_FILE - never == set() and told == {one.key for one in REFUSALS}


def literal(node: ast.AST) -> str:
    """What is written out in an expression."""
    return "".join(str(one.value) for one in ast.walk(node) if isinstance(one, ast.Constant))


def test_refusals_beside_the_page_are_in_both_languages(served: Served) -> None:
    """An address that is none, or too long, a draft that cannot be, another method, another name."""
    draft_of_nothing = f"{page.DRAFTS}/{urlencode({**COUNTS, 'b': 'x', 'lettre': 'b'})}/x"
    told = {404: served.get("nowhere"), 414: served.get("x" * 9000)}
    assert served.get(draft_of_nothing).content == told[404].content
    url = urlsplit(served.url)
    assert url.hostname
    connection = HTTPConnection(url.hostname, url.port, timeout=60)
    for status, method, fields in ((405, "POST", {}), (421, "GET", {"Host": "attacker.example"})):
        connection.request(method, f"/{FRENCH}", headers=fields)
        answer = connection.getresponse()
        told[status] = Answer(HTTPStatus(answer.status), dict(answer.getheaders()), answer.read())
        connection.close()
    for status, one in told.items():
        assert int(one.status) == status and "charset=utf-8" in {**one.fields}["Content-Type"].lower()
        assert one.content.decode().splitlines() == [language(code)(f"studio.status_{status}") for code in LANGUAGES]


def test_rubbish_gets_an_answer(served: Served) -> None:
    """Whatever the address: an answer, never a traceback; too long a one is refused; only GET and HEAD are served."""
    for path in (
        f"{FRENCH}?%ff=%00&a=%00",
        f"{FRENCH}?{'lieux=x&' * 800}",
        "gestion/brouillon/x",
        "gestion/brouillon/x/../..",
        "%",
    ):
        assert served.get(path).status in (200, 404)
    assert served.get(f"{FRENCH}?a={'9' * 9000}").status == 414
    assert served.get("").fields["Location"] == f"/{FRENCH}"
    url = urlsplit(served.url)
    assert url.hostname
    connection = HTTPConnection(url.hostname, url.port, timeout=60)
    connection.request("POST", f"/{FRENCH}", body=b"a=1")
    assert connection.getresponse().status == 405


def test_a_name_that_leads_here_from_elsewhere_is_refused(served: Served) -> None:
    """A page of another site that has its own name lead to this machine reads nothing; headers are the site's."""
    url = urlsplit(served.url)
    assert url.hostname
    for host, status in (("attacker.example", 421), (f"localhost:{url.port}", 200), (f"[::1]:{url.port}", 200)):
        connection = HTTPConnection(url.hostname, url.port, timeout=60)
        connection.request("GET", f"/{FRENCH}?a=rien", headers={"Host": host})
        answer = connection.getresponse()
        assert answer.status == status
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "form-action 'self'" in policy and "unsafe" not in policy
        answer.read()
    assert (
        is_loopback("127.3.2.1") and is_loopback("::1") and not is_loopback("0.0.0.0") and not is_loopback("a.example")
    )


# What is hidden, in words

SIZES = {
    "plaza/footfall": {"qui": "jour", "passages": "3", "noeud": "1h"},
    "plaza/noise": {"secondes": "20", "jusqua": "70", "noeud": "night"},
    "plaza/pm2_5": {"secondes": "45", "jusqua": "", "noeud": "1d"},
}
HIDDEN = {
    ("plaza/footfall", "fr"): (
        "Samira passe 3 fois devant le compteur le mardi",
        "Pas caché : plus de passages que cela",
    ),
    ("plaza/footfall", "en"): ("Samira passes the counter 3 times on Tuesday", "Not hidden: more crossings than that"),
    ("plaza/noise", "fr"): ("Samira parle 20 secondes sous le capteur", "Pas caché : un bruit plus long que cela"),
    ("plaza/noise", "en"): ("Samira talks for 20 seconds under the sensor", "Not hidden: a noise longer than that"),
    ("plaza/pm2_5", "fr"): ("la fumée de Samira passe 45 secondes", "Pas caché : une fumée plus longue que cela"),
    ("plaza/pm2_5", "en"): ("Samira's smoke is in the sensor for 45 seconds", "Not hidden: smoke for longer than that"),
}
ODDS = {  # of a pair of guesses in a hundred
    "fr": ("il devine juste au plus {} fois sur 100", "il peut arriver au plus à {} contre {}."),
    "en": ("they guess right at most {} times out of 100", "they can get to {} to {} at most."),
}


def plainly(html: str) -> str:
    """Returns a text as it is read, with plain spaces and apostrophes."""
    return re.sub(r"[\u00a0\u202f]", " ", unescape(html)).replace("’", "'")


def spoken(html: str) -> tuple[list[str], list[str]]:
    """Returns the sentences on what is hidden and what is not, and the text of each card, of a page."""
    words = re.search(r"</form>\s*<h2>.*?<ul>(.*?)</ul>", html[html.index('id="question"') :], re.DOTALL)
    assert words
    lines = re.findall(r"<li>(.*?)</li>", words[1], re.DOTALL)
    return [plainly(line) for line in lines], [
        plainly(one) for one in re.findall(r"<article>.*?</article>", html, re.S)
    ]


def guessed(stream: Any) -> int:
    """Returns how often of a hundred times one guesses right about one unit of privacy, rounded up: what one of mean 0
    and one of mean 1 differ in under this stream's noise, by the odds of its epsilon and delta."""
    rho = Decimal(plan(stream).streams[stream.streams[0].id].rho_micro) / 10**6
    part = stream.streams[0]
    share = 100 * accountant.right_guesses(accountant.epsilon(rho, part.delta), part.delta)
    return int(share.to_integral_value("ROUND_CEILING"))


@pytest.mark.parametrize(("serie", "code"), HIDDEN)
def test_what_is_hidden_is_said_with_an_example_and_what_is_left_out(quick: Served, serie: str, code: str) -> None:
    """Of counts, sound and air, in both languages: the size that was asked for in the example, what is not hidden, and
    of each scenario how often one guesses right, which is that of its own epsilon."""
    query = {"serie": serie, "partir": "epsilon", "a": "0.3", "b": "1", "c": "3", "plafond": "", **SIZES[serie]}
    lines, cards = spoken(quick.text(f"{FRENCH if code == 'fr' else ENGLISH}?{urlencode(query)}"))
    example, left = HIDDEN[serie, code]
    asked = quick.desk.form(query).asked
    assert asked
    guesses = []
    for letter in LETTERS:
        policy = scenario(asked, quick.desk.base, letter).policy
        [stream] = [one for one in policy.streams if one.id == serie]
        guesses.append(guessed(replace(policy, streams=(stream,))))
    assert sorted(set(guesses)) == guesses and guesses[0] > 50 and guesses[-1] < 100, "each scenario has its own"
    assert example in lines[0] and left in lines[2]
    assert ODDS[code][0].format(guesses[1]) in lines[1]
    for card, guess in zip(cards, guesses, strict=True):
        assert ODDS[code][1].format(guess, 100 - guess) in card
    assert len(lines) == (4 if serie == "plaza/noise" else 3)
    assert ("70" in lines[-1]) == (serie == "plaza/noise")


# Would the message change?


def shares(text: str) -> list[float]:
    """Returns the numbers of a cell, the expected one and those that were drawn."""
    return [float(one) for one in re.findall(r"-?\d+(?:\.\d+)?", text)]


def untrue(rows: list[list[str]], served: Served, query: dict[str, str]) -> list[str]:
    """Returns which rows of the table on the message do not say what follows from the week, the margins and the draws,
    computed here from these alone."""
    asked = served.desk.form(query).asked
    assert asked
    look = served.desk.look(asked)
    kind, limit, found = asked.stream.quantity.kind, float(look.threshold), []
    for column, shown in enumerate(look.shown, 1):
        made = plan(shown.scenario.policy).streams[asked.stream.id]
        indicator = "crossings" if kind == "count" else "mean"
        errors = {level: error for (level, name), error in standard_errors(made).items() if name == indicator}
        due = answers.expected(look.points, errors, limit)
        drawn = [answers.counted(look.points, draw, limit) for draw in shown.draws]
        days = [[point for point in draw if point.level == look.days[0].level] for draw in shown.draws]
        apart = answers.apart_error(made, look.days[0].level, indicator)
        wanted = [[due.seen, *(one.seen for one in drawn)], [due.missed, *(one.missed for one in drawn)]]
        wanted += [[due.invented, *(one.invented for one in drawn)], [100 * due.wrong]]
        wanted.append([answers.swapped(look.days, apart)[0], *(answers.swapped_in(look.days, one) for one in days)])
        wanted.append([100 * answers.wrong_order(look.days, apart, kind)])
        for number, (row, numbers) in enumerate(zip(rows, wanted, strict=True)):
            said = shares(row[column])
            room = 0.51 if number in (3, 5) and numbers[0] >= 10 else 0.051  # percents from ten on have no decimal
            if len(said) != len(numbers) or any(abs(a - b) > room for a, b in zip(said, numbers, strict=True)):
                found.append(row[0])
    return found


ROWS = ["Above the mark, and seen", "Above the mark, and missed", "Wrongly said to be above"]
MESSAGES = {
    "counts": {"partir": "epsilon", "a": "0,05", "b": "0,2", "c": "1", "plafond": "", "noeud": "1h"},
    "air": {"serie": "plaza/pm2_5", "noeud": "1h", "partir": "epsilon", "a": "1", "b": "2", "c": "4", "plafond": ""},
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_table_says_how_often_the_message_would_change(quick: Served, name: str) -> None:
    """Seen, missed and invented stand in this order, each the expectation and then what five draws counted; with them
    the share told wrong, the order of days, and that of two neighbourhoods."""
    rows = cells(quick.text(f"{ENGLISH}?{urlencode(MESSAGES[name])}"), "message")
    assert [row[0] for row in rows[:3]] == ROWS and len(rows) == 6
    assert "wrong order" in rows[4][0] and "wrong way round" in rows[5][0] and "5%" in rows[5][0]
    for column in (1, 2, 3):
        assert len({shares(row[column])[0] for row in rows[:3]}) == 3, "none could stand for another"
    assert untrue(rows, quick, MESSAGES[name]) == []


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [(1, 2, {1, 2}), (0, 1, {0, 1}), (3, 5, {3, 5})],
    ids=["missed and invented", "seen and missed", "told wrong and two neighbourhoods"],
)
def test_a_table_with_two_rows_exchanged_is_found(quick: Served, first: int, second: int, found: set[int]) -> None:
    """Broken twin: under each of the two heads stands what belongs under the other."""
    rows = cells(quick.text(f"{ENGLISH}?{urlencode(MESSAGES['counts'])}"), "message")
    rows[first][1:], rows[second][1:] = rows[second][1:], rows[first][1:]
    assert set(untrue(rows, quick, MESSAGES["counts"])) == {rows[number][0] for number in found}


# What is of no use is grey


def greyed(html: str, name: str) -> dict[str, list[bool]]:
    """Returns by the head of each row of a table which of its cells are grey."""
    table = re.search(rf'<caption id="{name}">.*?</table>', html, re.DOTALL)
    assert table
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', table[0], re.DOTALL)
    return {head: [' class="grey"' in one for one in re.findall(r"<td([^>]*)>", cells)] for head, cells in rows}


@pytest.mark.parametrize(
    ("serie", "level", "reasons"),
    [
        ("plaza/footfall", "1h", ("plus de la moitié de la valeur habituelle", "more than half of the usual value")),
        ("plaza/pm2_5", "1h", ("plus que l'erreur de l'appareil", "more than the sensor's own error")),
    ],
)
def test_a_margin_that_leaves_nothing_to_read_is_grey_with_the_reason(
    quick: Served, serie: str, level: str, reasons: tuple[str, str]
) -> None:
    """On both sides of each limit, half of the usual count and the sensor's own error: with a margin that is just above
    it the figure is grey and says why, with one just below it is not."""
    first = quick.desk.form({"serie": serie, "noeud": level, "plafond": ""}).asked
    assert first
    look = quick.desk.look(first)
    [error] = {row["sensor_error"] for row in look.shown[0].sheet["nodes"] if row["node"] == level}
    limit = 0.5 * 4 * look.usual if serie == "plaza/footfall" else error
    assert limit and limit > 1
    above, below, far = limit * 1.03, limit * 0.999, limit * 0.5  # a margin is met to 2 % from below
    query = {"serie": serie, "noeud": level, "partir": "marge", "plafond": ""}
    query |= {letter: f"{one:.6g}" for letter, one in zip(LETTERS, (above, below, far), strict=True)}
    asked = quick.desk.form(query).asked
    assert asked
    margins = [shown.margins[level] for shown in quick.desk.look(asked).shown]
    assert limit < margins[0] < 1.04 * limit and 0.97 * limit < margins[1] <= limit
    for start, reason in zip((FRENCH, ENGLISH), reasons, strict=True):
        html = quick.text(f"{start}?{urlencode(query)}")
        heads = [head for head in greyed(html, "chiffres") if head.endswith((", une heure", ", an hour"))]
        assert len(heads) == 1
        assert greyed(html, "chiffres")[heads[0]] == [True, False, False]
        [row] = [row for row in cells(html, "chiffres") if row[0] == unescape(heads[0])]
        assert [reason in plainly(cell) for cell in row[1:]] == [True, False, False]


# The draft of the public page, the slider, the cap, elsewhere


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A studio whose meters read seldom: its weeks are soon drawn, and its pages say what all say."""
    text = EXAMPLE.read_text("utf-8")
    for cadence in ("900000", "60000"):  # of sound, of air
        text = text.replace("cadence_ms = 1000", f"cadence_ms = {cadence}", 1)
    desk = Desk(parse(text.encode(), "example"), 2, {}, DiscreteGaussian())
    return Served(desk, Studio([desk], tmp_path_factory.mktemp("quick")), "")


DRAFTED = {"noeud": "1d", "partir": "epsilon", "a": "0,5", "b": "1", "c": "2", "plafond": ""}


@pytest.mark.parametrize("letter", LETTERS)
def test_the_draft_is_the_public_page_with_the_figures_of_the_first_draw(quick: Served, letter: str) -> None:
    """The link of each scenario leads, in each language, to the site's own page of the week, made of what was drawn for
    it and not for another one; it says simulated."""
    asked = quick.desk.form(DRAFTED).asked
    assert asked
    column = LETTERS.index(letter)
    shown = quick.desk.look(asked).shown[column]
    due = {
        (utc(o.node.start_s), o.node.level): o.noised[0].integers[0] for o in shown.outcomes if isinstance(o, Release)
    }
    for code, start, simulated in (("fr", FRENCH, "Données simulées"), ("en", ENGLISH, "Simulated data")):
        html = quick.text(f"{start}?{urlencode(DRAFTED)}")
        links = re.findall(rf'href="((?:\.\./)+{page.DRAFTS}/[^"]+)"', html)
        assert len(links) == len(LETTERS)
        path = urljoin(f"/{start}", unescape(links[column])).removeprefix("/")
        answer = quick.get(path)
        assert answer.status == 200
        text = unescape(answer.content.decode())
        assert simulated in text
        week = quick.text(f"{path.partition('/quartiers/')[0].removesuffix('/en')}/donnees/essai-semaine.csv")
        rows = [row for row in csv.DictReader(io.StringIO(week, newline="")) if row["value"]]
        assert {(row["start_utc"], row["node"]): int(row["value"]) for row in rows} == due and len(due) > 800
        [sunday] = [point for point in shown.draws[0] if point.level == "1d"][-1:]
        margin = shown.margins["1d"]
        said, _ = language(code).amount("footfall", sunday.value, sunday.value - margin, sunday.value + margin)
        assert plainly(said.split("\u00a0")[0].split(" ")[0]) in plainly(text)
        sheet = re.search(r'href="([^"]*murmure\.css)', text)
        assert sheet
        assert quick.get(urljoin(f"/{path}", sheet[1]).removeprefix("/")).status == 200


def test_what_no_gateway_takes_is_said() -> None:
    """Where the streams of the place are together above the floor of this release, the card of the scenario says so on
    both pages, with the exception of `decide`: a tightening is taken there too."""
    head, *_, air = EXAMPLE.read_bytes().split(b"[[stream]]")  # the cheapest to draw
    base = parse(head + b"[[stream]]" + air, "example")
    studio = Studio([Desk(base, 2, {}, DiscreteGaussian())], Path("nowhere"))
    query = urlencode({"partir": "epsilon", "a": "1", "b": "9", "c": "11", "plafond": "", "noeud": "1d"})
    html = studio.answer(f"/{ENGLISH}?{query}").content.decode()
    cards = re.findall(r"<article>(.*?)</article>", html, re.DOTALL)
    said = language("en")("studio.floor", most=10, delta="0.000001")
    assert [said in card for card in cards] == [False, False, True]
    html = studio.answer(f"/en/{page.WHOLE}?a1=1&b1=9&c1=11").content.decode()
    assert [said in card for card in re.findall(r"<article>(.*?)</article>", html, re.DOTALL)] == [False, False, True]

    def planned(epsilon: str, version: int) -> Plan:
        return plan(replace(base, version=version, streams=(replace(base.streams[0], epsilon=Decimal(epsilon)),)))

    taken = {  # the newer costs 11, above the floor, and loosens or tightens what holds
        was: isinstance(decide(planned(was, 1), Signed(planned("11", 2), 2, BOTH), CEILING, FLOOR, None, 0), Accept)
        for was in ("1", "20")
    }
    assert taken == {"1": False, "20": True} and "unless it protects better" in said


@pytest.mark.parametrize(("delta", "refused"), [("0.000001", False), ("0.00001", False), ("0.0001", True)])
def test_a_site_is_compared_at_the_delta_of_the_ceiling(delta: str, refused: bool) -> None:
    """Where the streams have another delta than the ceiling, the card says the epsilon at both; where it is above that
    of the floor, that no gateway takes a loosening to it."""
    head, *_, air = EXAMPLE.read_bytes().split(b"[[stream]]")
    base = parse(head + b"[[stream]]" + air, "example")
    base = replace(base, streams=(replace(base.streams[0], delta=Decimal(delta)),))
    studio = Studio([Desk(base, 2, {}, DiscreteGaussian())], Path("nowhere"))
    html = plainly(studio.answer(f"/en/{page.WHOLE}?a1=0.5&b1=2&c1=4&limite=3").content.decode())
    cards = re.findall(r"<article>(.*?)</article>", html, re.DOTALL)
    for card, typed in zip(cards, ("0.5", "2", "4"), strict=True):
        made = plan(replace(base, streams=(replace(base.streams[0], epsilon=Decimal(typed)),)))
        compared = accountant.epsilon(Decimal(site_price(made)["rho_micro"]) / accountant.MICRO, Decimal("0.000001"))
        told = re.search(r"told at δ = ([\d.]+)\. At δ = 0\.000001, that of the site is ([\d.]+)\.", card)
        assert (told is None) == (delta == "0.000001")
        if told:
            assert told[1] == delta and float(told[2]) == pytest.approx(float(compared), rel=0.01)
        key = "under" if compared <= 3 else "above"
        assert f"{key} the site's ceiling, ε = 3 at δ = 0.000001" in card
        assert ("The δ of a series of the place is above 0.00001:" in card) == refused


def test_the_slider_moves_weights_by_powers_and_keeps_the_middle() -> None:
    """At the middle the weights are the policy's; at the ends the longest nodes weigh 64 times more, or less."""
    nodes = parse(EXAMPLE.read_bytes(), "example").streams[0].nodes
    assert weighted(nodes, 0) == nodes
    fine, whole = dict(weighted(nodes, -3)), dict(weighted(nodes, 3))
    assert [float(whole[level]) for level, _ in nodes] == [1, 4, 16, 64]
    assert [float(fine[level]) for level, _ in nodes] == [64, 16, 4, 1]


def test_the_slider_trades_details_for_totals(served: Served) -> None:
    """At one epsilon, each step towards totals makes days surer and quarter-hours less so; the page shows all steps."""
    asked = served.desk.form({"partir": "epsilon", "a": "0.5", "b": "1", "c": "2"}).asked
    assert asked
    rows = []
    for detail in DETAIL:
        made = plan(scenario(asked, served.desk.base, "b", detail).policy).streams["plaza/footfall"]
        rows.append(standard_errors(made))
    days, quarters = ([row[level, "crossings"] for row in rows] for level in ("1d", "15min"))
    assert len(rows) == 7 and days == sorted(days, reverse=True) and quarters == sorted(quarters)
    assert len(cells(served.text(PAGES["numbers"]), "curseur")) == 7


def test_a_full_cap_withholds_until_the_span_has_passed() -> None:
    """Ten days fit into a span of thirty: ten are published, twenty withheld, and so on."""
    months = answers.calendar_of(10, 30, date(2026, 3, 1), date(2026, 5, 29))
    assert [(m.first.month, m.published, m.withheld) for m in months] == [(3, 11, 20), (4, 10, 20), (5, 9, 20)]
    assert sum(m.published for m in months) == 30


@LONG
def test_the_cap_has_its_calendar(served: Served) -> None:
    """A page with a cap says how many days fit and shows the months; without one it says nothing of it."""
    html = served.text(PAGES["numbers-levels"])
    rows = cells(html, "calendrier")
    assert len(rows) == 12 and rows[0][0] == "Décembre 2026"
    assert any("retenus" in cell for row in rows for cell in row[1:])
    assert "Days published before the cap is full" in served.text(PAGES["levels"])
    for name in ("counts", "numbers"):
        assert "the cap is full" not in served.text(PAGES[name]) and 'id="calendrier"' not in served.text(PAGES[name])


def test_settings_of_others_have_a_source_that_is_not_overdue() -> None:
    """Each names where and when it was read, has words in both languages, and is to be read again in time."""
    assert len({one.address for one in deployments()}) >= 4, "of one publisher alone nothing can be compared"
    for one in deployments():
        assert one.source and one.address.startswith("https://") and one.read < one.review
        assert one.review > date(2026, 11, 26) and one.epsilon > 0
        for code in ("fr", "en"):
            assert language(code)(f"studio.elsewhere_{one.id}", year=one.year)


def test_settings_of_others_stand_on_the_page(quick: Served) -> None:
    """Each with its epsilon and a link to where it was read, in both languages, and what they are not for."""
    for code, start in (("fr", FRENCH), ("en", ENGLISH)):
        html, say = plainly(quick.text(f"{start}?{urlencode({'plafond': ''})}")), language(code)
        items = dict(re.findall(r'<li>([^<]*) <a href="(https:[^"]+)"', html.replace("\n", " ")))
        for one in deployments():
            what = plainly(say(f"studio.elsewhere_{one.id}", year=one.year))
            [text] = [text for text in items if what in text]
            assert items[text] == one.address and f"ε = {say.number(Decimal(str(one.epsilon)))}." in text
        assert plainly(say("studio.elsewhere_notes")) in html


def deltas(html: str) -> list[str]:
    """Returns at which deltas the epsilons of an English page are told, one after the other."""
    return re.findall(r"told at δ = (\d+\.\d+)", plainly(html))


@pytest.mark.parametrize("own", ["0.000001", "0.0000001"])
def test_no_epsilon_stands_without_its_delta(own: str) -> None:
    """On the page of the scenarios and on that of the numbers is the delta of the series; the largest of the site
    beside the sum, where it is another; and on each card of the whole site, beside that of its ceiling or alone."""
    head, *_, air = EXAMPLE.read_bytes().split(b"[[stream]]")  # the cheapest to draw
    air = air.replace(b"cadence_ms = 1000", b"cadence_ms = 60000", 1)
    base = parse(head + b"[[stream]]" + air, "example")
    [one] = base.streams
    base = replace(base, streams=(replace(one, delta=Decimal(own)), replace(one, id="plaza/pm10")))
    studio = Studio([Desk(base, 2, {}, DiscreteGaussian())], Path("nowhere"))
    query = urlencode({"partir": "epsilon", "a": "1", "b": "2", "c": "3", "plafond": "", "noeud": "1d"})
    pages_of = {
        name: deltas(studio.answer(f"/en/{name}?{query}").content.decode()) for name in (page.PATH, page.NUMBERS)
    }
    site = [] if own == "0.000001" else ["0.000001"]
    assert pages_of == {page.PATH: [own, *site], page.NUMBERS: [own]}
    for asked in ("", "&limite=3"):
        html = plainly(studio.answer(f"/en/{page.WHOLE}?a1=1&a2=&b1=2&b2=1&c1=&c2=1{asked}").content.decode())
        told = [set(re.findall(r"δ = (\d+\.\d+)", one)) for one in re.findall(r"<article>(.*?)</article>", html, re.S)]
        assert told == [{own, "0.000001"}, {"0.000001"}, {"0.000001"}], "of the first stream, of both, of the second"


def test_what_is_written_is_what_was_meant() -> None:
    """Every policy of the examples, written by the studio and read again, is the same policy."""
    for text in (EXAMPLE.read_bytes(), (Path(page.__file__).parent / "base.toml").read_bytes()):
        one = parse(text, "given")
        again = parse(
            draft.written(draft.head_of(one), [(s, draft.epsilon_line(s.epsilon)) for s in one.streams], one.paused),
            "written",
        )
        assert again.streams == one.streams and draft.head_of(again) == draft.head_of(one)


def test_a_recording_of_nothing_that_is_measured_is_one_line(tmp_path: Path) -> None:
    """A recording without a series for any stream, or without a whole day, is refused with the mend."""
    file = tmp_path / "street.csv"
    file.write_text("timestamp_utc,site,metric,value,unit\n2025-06-04T00:00:00Z,x,co2,400,ppm\n")
    with pytest.raises(ConfigError, match="co2"):
        begin(EXAMPLE, file, None, DiscreteGaussian())
    file.write_text("timestamp_utc,site,metric,value,unit\n2025-06-04T10:00:00Z,x,pedestrians,4,1\n")
    with pytest.raises(ConfigError, match="no whole day"):
        begin(EXAMPLE, file, None, DiscreteGaussian())


def test_a_port_in_use_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Two studios on one port: the second says so in one line."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["policy", "studio", "--port", str(taken.getsockname()[1]), "--lang", "fr"]) == 2
    assert "ne peut pas servir ; nommez un port libre" in capsys.readouterr().err
