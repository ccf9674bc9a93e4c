"""The pages in a text browser, as who hears or feels them gets them: w3m's rendering of each kind of page is kept.

`MURMURE_GOLDEN=renew` writes the files anew; read what changed before you commit it.
"""

from __future__ import annotations

import os
import re
import subprocess
from difflib import unified_diff
from pathlib import Path

import pytest
from murmure_dashboards.maker_statements import kind

pytestmark = pytest.mark.w3m

GOLDEN = Path(__file__).parent / "golden"
COLUMNS = 80
RENEW = "MURMURE_GOLDEN=renew .venv/bin/pytest tests/dashboards/test_text_browser.py"
SHOWN = ("centre", "plaza", "A17")  # of pages about something, those about these
# Beside one French page of each kind: the same in English, and what a quartier says that lacks measurements.
ENGLISH = ("", "quartiers/centre/", "quartiers/centre/semaine/")
HOLES = ("quartiers/gare/", "quartiers/gare/semaine/", "quartiers/parc/")


def paths(site: Path) -> list[str]:
    """Returns the path of each page that has a golden file: of each kind that the site has, and those beside."""
    found: dict[str, str] = {}
    for file in sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html")):
        of = kind(file)
        if of is not None and (of not in found or any(f"/{name}/" in f"/{file}" for name in SHOWN)):
            found[of] = file
    beside = [*(f"en/{path}" for path in ENGLISH), *HOLES]
    return [*found.values(), *(f"{path}index.html" for path in beside)]


def name(path: str) -> str:
    """Returns the name of the golden file of a page."""
    return path.removesuffix(".html").removesuffix("index").strip("/").replace("/", "-") or "accueil"


def rendered(page: str) -> str:
    """Returns what w3m makes of a page in 80 columns. N stands for sizes and sums: they are another test's, and differ
    with the last digit of a machine's figures and with its compressor."""
    page = re.sub(r"\d[\d\u202f,]*(?=[\s\u00a0](?:Ko|kB|Mo|MB)\b)", "N", page)
    page = re.sub(r"\b[0-9a-f]{64}\b", "N", page)
    if '<th scope="row">/' in page:  # the page about weights
        page = re.sub(r"(?<=<td>)[\d\u202f,]+(?=</td>)|[\d\u202f,]+(?=[\s\u00a0](?:fichiers|files)\b)", "N", page)
    command = ("w3m", "-dump", "-cols", str(COLUMNS), "-T", "text/html", "-I", "UTF-8", "-O", "UTF-8")
    shown = subprocess.run(command, input=page.encode(), capture_output=True, check=True, timeout=60).stdout.decode()
    return "\n".join(line.rstrip() for line in shown.splitlines()).strip() + "\n"


def differences(path: str, kept: str, shown: str) -> str:
    """Returns how a page differs from its golden file, as a patch would say it; nothing where it does not."""
    lines = unified_diff(kept.splitlines(), shown.splitlines(), f"golden/{name(path)}.txt", f"now {path}", lineterm="")
    return "\n".join(lines)


def test_each_kind_of_page_reads_as_it_did(site: Path) -> None:
    """What a text browser shows changes only with somebody who has read it; no file is kept of a page that is gone."""
    shown = {path: rendered((site / path).read_text(encoding="utf-8")) for path in paths(site.resolve())}
    if os.environ.get("MURMURE_GOLDEN") == "renew":
        GOLDEN.mkdir(exist_ok=True)
        for file in GOLDEN.glob("*.txt"):
            file.unlink()
        for path, text in shown.items():
            (GOLDEN / f"{name(path)}.txt").write_text(text, encoding="utf-8")
    kept = {file.stem: file.read_text(encoding="utf-8") for file in GOLDEN.glob("*.txt")}
    assert len({name(path) for path in shown}) == len(shown)
    changed = [differences(path, kept.get(name(path), ""), text) for path, text in shown.items()]
    changed += [f"golden/{gone}.txt: no page" for gone in sorted(kept.keys() - set(map(name, shown)))]
    told = "\n\n".join(one for one in changed if one)
    if told:
        pytest.fail(f"{told}\n\nRead it; if it reads well: {RENEW}", pytrace=False)


def test_a_changed_word_is_shown_as_a_patch(site: Path) -> None:
    """One figure, one link or one row more is a difference, with the lines around it; weights are none."""
    page = (site / "quartiers/centre/index.html").read_text(encoding="utf-8")
    before = rendered(page)
    row = re.search(r'(<tr><th scope="row">)([^<]*)(</th><td>)\d', page)
    assert row is not None
    for edited in (page.replace(row[0], f"{row[0]}9"), page.replace("</h1>", "</h1><a href='/'>ici</a>")):
        told = differences("quartiers/centre/index.html", before, rendered(edited))
        assert re.search(r"(?m)^\+(?!\+).*\S", told) and "\n@@ " in told
    lighter = re.sub(r"pèse \d+", "pèse 3", page)
    assert lighter != page or "pèse 3" in page
    assert differences("quartiers/centre/index.html", before, rendered(lighter)) == ""


def test_a_page_of_a_new_kind_needs_a_golden_file(site: Path, tmp_path: Path) -> None:
    """The pages are looked for in the site, so that nobody has to remember a list."""
    (tmp_path / "essai").mkdir()
    for path in paths(site.resolve()):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((site / path).read_bytes())
    before = paths(tmp_path)
    (tmp_path / "essai/index.html").write_bytes((site / "index.html").read_bytes())
    assert set(paths(tmp_path)) - set(before) == {"essai/index.html"}
