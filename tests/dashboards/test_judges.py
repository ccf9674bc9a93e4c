"""Other people's judges of the pages: html-validate and the Nu checker find nothing in any file of the built site."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

JUDGES = Path(sys.prefix) / "pages-judges" / "node_modules"
# It looks once and ends: what a machine learns of long runs costs more than it saves. The checker wants a deep stack.
SOON = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xss4m")
CONFIG = Path(__file__).parent / "html-validate.mjs"
WEEK = "quartiers/gare/semaine/index.html"
# What the Nu checker says and is wrong about: its judge of style has not heard of this property of SVG 2, which draws
# the halo of a letter behind the letter.
MISTAKEN = {"static/murmure.css": {"CSS: “paint-order”: Property “paint-order” doesn't exist."}}
LONG = "Le quartier des grandes tanneries de Murmure-sur-Loire, jour après jour"

# By file: what is edited in it, and what each judge says of that, "" where it does not look for it.
FAULTS = {
    "unclosed.html": (WEEK, r"</section>", "", "close-order", "Unclosed element “section”"),
    "twice.html": (WEEK, r"<footer>", '<footer id="contenu">', "no-dup-id", "Duplicate ID “contenu”"),
    "style.html": (WEEK, r"<h1>", '<h1 style="color: red">', "no-inline-style", ""),
    "title.html": (WEEK, r"<title>[^<]*", f"<title>{LONG}", "long-title", ""),
    "doctype.html": (WEEK, r"<!DOCTYPE html>", "", "missing-doctype", "without seeing a doctype"),
    "role.html": (WEEK, r"<figure>", '<figure role="group">', "", "role"),
    "skip.html": (WEEK, r"(?s)<h2([^>]*)>(.*?)</h2>", r"<h5\1>\2</h5>", "heading-level", "heading"),
    "sheet.css": ("static/murmure.css", r"\Z", "main { colour: red; }", "", "colour"),
    "icon.svg": ("static/murmure.svg", r"<svg ", '<svg onlod="1" ', "", "onlod"),
}


@dataclass(frozen=True)
class Judged:
    """What a judge says, by file: rules or sentences. `ours`: of the site as it was built; `twins`: of copies with a
    fault, and `known`: what it is to say of each of them. A file that nothing is said of is not there."""

    ours: dict[str, set[str]]
    twins: dict[str, set[str]]
    known: dict[str, str]


def judge(site: Path, folder: Path, kinds: Sequence[str], of: int, command: Sequence[str]) -> Judged:
    """Returns what a judge, the `of`th, says of every file of these kinds and of a folder of broken twins, in one run:
    each takes longer to begin than to look."""
    assert JUDGES.is_dir(), "no pages-judges in the environment: make install"
    root, twins, known = site.resolve(), folder / "twins", {}
    twins.mkdir()
    for file, (source, pattern, into, *verdicts) in FAULTS.items():
        text = (root / source).read_text(encoding="utf-8")
        edited, times = re.subn(pattern, into, text, count=1)
        assert times == 1 and edited != text, "the fault was not planted"
        if verdicts[of]:
            (twins / file).write_text(edited, encoding="utf-8")
            known[file] = verdicts[of]
    files = sorted(path for path in root.rglob("*") if path.suffix in kinds)
    assert {root / "index.html", root / "en/index.html"} < set(files)
    # A program on Node that ends by itself loses what a pipe has not taken yet.
    with (folder / "said").open("w+", encoding="utf-8") as out:
        argv = [*command, *map(str, files), *(str(twins / file) for file in known)]
        done = subprocess.run(argv, stdout=out, stderr=subprocess.PIPE, text=True, timeout=600)
        assert done.returncode == 1, f"it found no fault: {done.stderr}"
        out.seek(0)
        said = json.load(out)
    verdicts_of = nu_verdicts(said) if isinstance(said, dict) else html_validate_verdicts(said)
    found: dict[Path, dict[str, set[str]]] = {root: {}, twins: {}}
    for path, words in verdicts_of:
        top = root if path.is_relative_to(root) else twins
        found[top].setdefault(path.relative_to(top).as_posix(), set()).add(words)
    return Judged(found[root], found[twins], known)


def html_validate_verdicts(said: list[dict[str, Any]]) -> Iterator[tuple[Path, str]]:
    """Yields each file with each rule that it breaks."""
    for one in said:
        yield from ((Path(one["filePath"]), message["ruleId"]) for message in one["messages"])


def nu_verdicts(said: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yields each file with each sentence on it, warnings too."""
    for message in said["messages"]:
        yield Path(message["url"].removeprefix("file:")), message["message"]


@pytest.fixture(scope="module")
def html_validate(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """All that html-validate says."""
    node = (f"{sys.prefix}/bin/node", f"{JUDGES}/html-validate/bin/html-validate.mjs")
    command = (*node, "--config", str(CONFIG), "--formatter", "json")
    return judge(site, tmp_path_factory.mktemp("html-validate"), (".html",), 0, command)


@pytest.fixture(scope="module")
def nu(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """All that the Nu checker says."""
    java = ("java", *SOON, "-jar", f"{JUDGES}/vnu-jar/build/dist/vnu.jar")
    command = (*java, "--stdout", "--format", "json", "--also-check-css", "--also-check-svg")
    return judge(site, tmp_path_factory.mktemp("nu"), (".html", ".css", ".svg"), 1, command)


def test_html_validate_finds_nothing(html_validate: Judged) -> None:
    """No rule that its authors recommend is broken by any page, in either language."""
    assert html_validate.ours == {}


def test_html_validate_refuses_what_is_planted(html_validate: Judged) -> None:
    """Each fault that it knows, in a page of ours, is found under its own name: it does look."""
    lost = {file: rule for file, rule in html_validate.known.items() if rule not in html_validate.twins.get(file, ())}
    assert len(html_validate.known) >= 6 and lost == {}, html_validate.twins


@pytest.mark.java
def test_the_nu_checker_finds_nothing(nu: Judged) -> None:
    """No error and no warning in any page, sheet or icon, in either language, but for what it is wrong about."""
    assert nu.ours == MISTAKEN


@pytest.mark.java
def test_the_nu_checker_refuses_what_is_planted(nu: Judged) -> None:
    """Each fault that it knows, in a page, sheet or icon of ours, is found: it does look."""
    lost = {file for file, words in nu.known.items() if not any(words in said for said in nu.twins.get(file, ()))}
    assert len(nu.known) >= 6 and lost == set(), nu.twins
