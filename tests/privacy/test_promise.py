"""The page of the promise names the tests that back it, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "privacy-promise.md").read_text(encoding="utf-8")
BACKED = (
    "The unit",
    "The mechanism",
    "Composition",
    "What else leaves",
    "Rules of time",
    "Twelve invariants",
    "Who can check",
)
HAZARDS = PAGE.partition("## Against the hazards")[2]


def named() -> list[tuple[str, str]]:
    """Returns (file, test) for every test that the page names."""
    found = []
    for file, tests in re.findall(r"`(tests/[\w/]+\.py)`:\s+((?:`test_\w+`[,\s]*)+)", PAGE):
        found += [(file, test) for test in re.findall(r"`(test_\w+)`", tests)]
    return found


@pytest.mark.parametrize(("file", "test"), sorted(set(named())))
def test_a_named_test_is_there(file: str, test: str) -> None:
    """Each test that the page names is a function of that file, with its rule as docstring."""
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {node.name: node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}
    assert test in functions and ast.get_docstring(functions[test])


def test_each_line_of_the_promise_names_a_test() -> None:
    """Each item of the sections that promise something names at least one test, and no name is overlooked."""
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    for title, text in sections.items():
        if title.startswith(BACKED):
            items = re.split(r"^- ", text, flags=re.MULTILINE)[1:]
            assert items and [item for item in items if "`tests/" not in item] == [], title
    assert sorted(test for _, test in named()) == sorted(re.findall(r"`(test_\w+)`", PAGE.replace(HAZARDS, "")))
    assert sum(title.startswith(BACKED) for title in sections) == len(BACKED)


def test_each_hazard_names_what_shows_its_mend() -> None:
    """Each line of the check-list names a test that is there, an invariant or a page, or says that it has none."""
    rows = [line.split("|")[1:-1] for line in HAZARDS.splitlines() if line.startswith("| ")][2:]
    functions = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(rows) >= 12
    for hazard, *_, shown in rows:
        tests = re.findall(r"`(test_\w+)`", shown)
        assert set(tests) <= functions, hazard
        assert tests or "invariant" in shown or "assumption" in shown or shown.strip() == "–", hazard
        assert all(1 <= int(number) <= 12 for number in re.findall(r"invariants? (\d+)", shown)), hazard
