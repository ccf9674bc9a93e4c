"""What the sensors cannot know: each line names tests that are there and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from murmure_dashboards.cannot import proofs
from murmure_dashboards.wording import language
from murmure_edge.reading import Reading
from murmure_privacy.release import Node, Noised, Release, Withheld

ROOT = Path(__file__).resolve().parents[2]
WATCH = """
NEVER = {"skip", "skipif", "xfail", "long"}

def pytest_collection_modifyitems(items):
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        print(f"RUNS {item.nodeid.partition('[')[0]}" if not marks & NEVER else f"SKIPS {item.nodeid}")
"""


def that_run(tests: Sequence[str], folder: Path) -> set[str]:
    """Returns which of these tests `make test` collects and does not skip, by asking pytest."""
    (folder / "watch_collection.py").write_text(WATCH)
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "watch_collection", *tests],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return set(re.findall(r"^RUNS (\S+)$", done.stdout, re.MULTILINE))


HERE = "tests/dashboards/test_cannot.py"
SKIPPED = """import pytest

@pytest.mark.skip
def test_one(): ...

@pytest.mark.long
def test_two(): ...

def test_three(): ...
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The tests that run, of all files that a line names and of one whose tests do not."""
    folder = tmp_path_factory.mktemp("collected")
    (folder / "test_skipped.py").write_text(SKIPPED)
    files = {test.partition("::")[0] for tests in proofs().values() for test in tests}
    return that_run([*sorted(file for file in files if (ROOT / file).is_file()), f"{folder}/test_skipped.py"], folder)


def unproved(named: Mapping[str, Sequence[str]], runs: set[str]) -> set[str]:
    """Returns the lines of which a test is missing or does not run."""
    return {key for key, tests in named.items() if not tests or not set(tests) <= runs}


def test_each_line_is_backed_by_tests_that_run(runs: set[str]) -> None:
    """Every line of the catalogue names its tests, and each of them is collected."""
    lines = {key.removeprefix("cannot.") for key in language("fr").texts if key.startswith("cannot.")} - {"head"}
    assert set(proofs()) == lines
    assert unproved(proofs(), runs) == set()


def test_a_line_without_its_test_is_found(runs: set[str]) -> None:
    """A name that was changed, a file that is gone, a test that is skipped or only long, and no name at all."""
    named = {  # pytest calls what lies outside the checkout by its name alone
        "renamed": [f"{HERE}::test_a_reading_is_an_instant_and_a_whole_numbr"],
        "gone": ["tests/dashboards/test_gone.py::test_one"],
        "skipped": ["::test_one"],
        "long": ["::test_two"],
        "unnamed": [],
        "there": [f"{HERE}::test_a_reading_is_an_instant_and_a_whole_number", "::test_three"],
    }
    assert unproved(named, runs) == set(named) - {"there"}


def test_a_reading_is_an_instant_and_a_whole_number() -> None:
    """What a driver hands on has no place for a sound, a picture, a name or where something came from."""
    assert get_type_hints(Reading) == {"time_ms": int, "value": int}


def test_what_leaves_a_gateway_has_no_place_for_anything_else() -> None:
    """A node, a reason, and integers with their noise: that is all that a release can say."""
    assert {field.name for field in fields(Node)} == {
        *("stream", "quantity", "level", "start_s", "end_s", "covered_from_s"),
        *("present", "cadence_ms", "bounds", "policy"),
    }
    assert {field.name: field.type for field in fields(Noised)} == {
        "indicator": "str",
        "integers": "tuple[int, ...]",
        "sigma_milli": "int",
        "rho_micro": "int",
    }
    assert {field.name for field in fields(Release)} == {"node", "noised"}
    assert {field.name for field in fields(Withheld)} == {"node", "reason"}


@pytest.mark.parametrize("code", ["fr", "en"])
def test_no_page_says_that_a_norm_is_kept_or_broken(code: str) -> None:
    """No sentence of any page calls a measured level legal or illegal; the statement on accessibility is of a
    site, and `murmure verify` answers of what was signed."""
    words = re.compile(r"infraction|illégal|légal\b|conform(?!ém)|violat|illegal|unlawful|complian", re.IGNORECASE)
    texts = language(code).texts
    said = {key for key, text in texts.items() if words.search(text)}
    answer = {"fr": "« conforme »", "en": "“conforming”"}[code]
    before, quoted, after = texts["privacy.verify_answer"].partition(answer)
    assert quoted and not words.search(before + after), "the quoted answer is the only such word in that sentence"
    assert {key for key in said if not key.startswith("access.")} <= {
        "page.accessibility",
        "privacy.verify_answer",
        "register.legal_basis",
    }
