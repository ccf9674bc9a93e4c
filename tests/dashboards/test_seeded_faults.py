"""Faults planted into our own built pages: each is found by the check that is there for it."""

from __future__ import annotations

import re
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

TODAY = "quartiers/gare/"
LEAST = {"text": 4.5, "graphic": 3.0, "target": 24}
OPEN = "document.querySelectorAll('details').forEach(one => one.open = true)"
OWN_CHECKS = (Path(__file__).parent / "own_checks.js").read_text(encoding="utf-8")
PAGE, SHEET = "page", "sheet"
HEIGHT = 400

# What is edited, what is replaced by what, and what the check says of it.
FAULTS = {
    "svg without name": (PAGE, r' aria-labelledby="[^"]*"', "", "svg without name"),
    "grey text": (SHEET, r"--quiet: #\w+", "--quiet: #a9a9a9", "faint text"),
    "no lang": (PAGE, r"<html[^>]*>", "<html>", "no language"),
    "heading skip": (PAGE, r"(?s)<h2([^>]*)>(.*?)</h2>", r"<h4\1>\2</h4>", "heading skipped"),
    "zoom forbidden": (PAGE, "initial-scale=1", "initial-scale=1, user-scalable=no", "zoom forbidden"),
    "duplicate id": (PAGE, "<footer>", '<footer id="contenu">', "id twice"),
    "table without caption": (PAGE, r"(?s)<caption>.*?</caption>", "", "table without caption"),
    "table without scope": (PAGE, ' scope="row"', "", "th without scope"),
    "band contrast 1.1:1": (SHEET, r"--edge: #\w+", "--edge: #f0efec", "faint line"),
    "link text ici": (PAGE, r'(?s)(class="trail".*?<a [^>]*>)[^<]*', r"\1ici", "vague link"),
    "focus ring removed": (SHEET, r":focus-visible \{[^}]*\}", ":focus-visible { outline: none; }", "no ring of focus"),
    "10 px targets": (SHEET, r"\Z", "summary { min-height: 0; padding: 0; font: 10px/10px serif; }", "small target"),
    "English unmarked": (PAGE, r' lang="en" hreflang', " hreflang", "unmarked language"),
    "no skip link": (PAGE, r'<a class="skip".*?</a>', "", "no skip link"),
    "desc says image": (PAGE, r"(<desc[^>]*>)[^<]*", r"\1image", "description without a figure"),
    "60 rem fixed width": (SHEET, r"\Z", "figure { width: 60rem; }", "wider than the screen"),
}


def planted(text: str, pattern: str, into: str) -> str:
    edited, times = re.subn(pattern, into, text, count=1)
    assert times == 1 and edited != text, "the fault was not planted"
    return edited


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Page:
    """One page for all faults."""
    return browser.new_page(viewport={"width": 320, "height": 800})


@pytest.mark.browser
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_the_check_that_is_there_for_it(site: Path, address: str, tab: Page, fault: str) -> None:
    """The page as it was built has none; with one edit it has that one."""
    where, pattern, into, said = FAULTS[fault]
    file, glob = (
        (site / TODAY / "index.html", f"**/{TODAY}")
        if where == PAGE
        else (
            site / "static/murmure.css",
            "**/murmure.css*",
        )
    )
    edited = planted(file.read_text(encoding="utf-8"), pattern, into)
    kind = "text/html; charset=utf-8" if where == PAGE else "text/css; charset=utf-8"

    def answer(route: Route) -> None:
        route.fulfill(body=edited, content_type=kind)

    tab.route(glob, answer)
    try:
        tab.goto(f"{address}/{TODAY}")
        tab.evaluate(OPEN)
        found = tab.evaluate(OWN_CHECKS, LEAST)
    finally:
        tab.unroute(glob)
    assert any(one.startswith(f"{said}:") for one in found), found
    assert {one.partition(":")[0] for one in found} == {said}


def number(text: str, english: bool) -> Decimal:
    plain = re.sub(r"\s", "", text).replace("−", "-")
    return Decimal(plain.replace(",", "") if english else plain.replace(",", "."))


def strokes(figure: str, english: bool) -> list[tuple[int, int, Decimal, Decimal]]:
    """Returns begin and end in quarter-hours, value and half a unit of the picture of each stroke of the line."""
    labels = re.findall(r"<span>([^<]*)</span>", figure.partition('class="y"')[2].partition("</div>")[0])
    bottom, top = number(labels[0], english), number(labels[-1], english)
    line = re.search(r'class="line"[^>]* d="([^"]*)"', figure)
    found, x, y = [], 0, 0
    for command, first, second in re.findall(r"([Mhv])(-?\d+)(?:,(-?\d+))?", line[1] if line else ""):
        if command == "M":
            x, y = int(first), int(second)
        elif command == "v":
            y += int(first)
        else:
            value = bottom + (1 - Decimal(y) / HEIGHT) * (top - bottom)
            found.append((x, x + int(first), value, (top - bottom) / HEIGHT))
            x += int(first)
    return found


def disagreements(page: str) -> tuple[int, list[str]]:
    """Returns how many rows of the tables of a page have all their hours drawn, and those that say something else than
    the picture, to half the printed step."""
    english, compared, wrong = 'lang="en">' in page[:60], 0, []
    for figure in re.findall(r"(?s)<figure>.*?</figure>", page):
        drawn = strokes(figure, english)
        for head, cell in re.findall(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td>', figure):
            hour = re.fullmatch(r"(\d+)(?:\s*h|:00) – (\d+)(?:\s*h|:00)", unescape(head))
            said = re.match(r"([\d−.,\s]+) \(([\d−.,\s]+) (?:à|to) ([\d−.,\s]+)\)", unescape(cell))
            if not hour or not said:
                continue
            start, end = int(hour[1]) * 4, (int(hour[2]) or 24) * 4
            run = [one for one in drawn if start <= one[0] and one[1] <= end]
            if sum(one[1] - one[0] for one in run) != end - start or any(one[2] <= 0 for one in run):
                continue  # not drawn, not all of it, or cut at zero
            count = 'aria-hidden="true">passages<' in figure or 'aria-hidden="true">crossings<' in figure
            whole = [one[2] * (1 if count else Decimal(one[1] - one[0]) / (end - start)) for one in run]
            value, unit = sum(whole, Decimal(0)), run[0][3] * (len(run) if count else 1)
            estimate, low, high = (number(said[n], english) for n in (1, 2, 3))
            step = next(
                at
                for at in (Decimal(10) ** n for n in range(4, -3, -1))
                if not any(v % at for v in (estimate, low, high))
            )
            compared += 1
            if abs(estimate - value) > step / 2 + unit:
                wrong.append(f"{head}: {cell}, drawn {value:.1f}")
    return compared, wrong


@pytest.mark.parametrize(
    ("path", "least"), [("quartiers/centre/", 20), ("quartiers/gare/", 4), ("en/quartiers/gare/", 4)]
)
def test_the_table_of_a_built_page_agrees_with_its_chart(site: Path, path: str, least: int) -> None:
    """Picture and table are read back from the page as it is published; each of these cells, changed, is found."""
    page = (site / path / "index.html").read_text(encoding="utf-8")
    compared, wrong = disagreements(page)
    assert compared >= least and wrong == []
    cells = [found.end() for found in re.finditer(r"</th><td>(?=\d)", page)]
    assert sum(bool(disagreements(f"{page[:at]}9{page[at:]}")[1]) for at in cells) == compared
