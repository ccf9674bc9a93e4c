"""The steward's handbook on paper, and what it says beside its commands: its numbers are those of the software.

Its commands are typed by tests/end_to_end/test_steward.py, its pictures drawn by tests/test_pictures.py.
MURMURE_PDF=FOLDER keeps the sheets.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import sys
from contextlib import redirect_stdout
from math import sqrt
from pathlib import Path

import pypdf
import pytest
from markdown_it import MarkdownIt
from murmure_dashboards.pdf import PACKAGES
from murmure_privacy.verify_words import SENTENCES

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"en": ROOT / "privacy" / "README.md", "fr": ROOT / "privacy" / "LISEZMOI.md"}
FEWEST, MOST = 9, 11
# Letters as large as 11 pt of Arial or Liberation Sans, which text editors begin with: those of DejaVu, which the tests
# have, are a tenth larger.
STYLE = """
@page { size: A4; margin: 18mm 19mm; @bottom-center { content: counter(page); font: 9pt "DejaVu Sans" } }
body { font: 10pt/1.32 "DejaVu Sans"; hyphens: auto }
h1 { font-size: 19pt; margin: 0 0 6pt } h2 { font-size: 14pt; margin: 12pt 0 4pt }
h3 { font-size: 11pt; margin: 9pt 0 3pt }
h1, h2, h3 { break-after: avoid }
p, ul, ol, table, pre { margin: 5pt 0 } ul, ol { padding-left: 15pt }
code { font: 8.5pt "DejaVu Sans Mono"; hyphens: none }
pre { background: #f2f2f2; padding: 4pt 6pt; white-space: pre-wrap } pre code { font-size: 7.2pt }
table { border-collapse: collapse; width: 100%; font-size: 8.5pt; hyphens: manual } td code { font-size: 7.5pt }
th, td { border: .5pt solid #999; padding: 1.5pt 4pt; text-align: left; vertical-align: top } tr { break-inside: avoid }
img { max-width: 100%; max-height: 70mm; display: block; margin: 4pt auto }
a { color: #000 }
"""


def stewards_part(lang: str) -> str:
    """Returns the handbook without what follows for researchers."""
    return PAGES[lang].read_text("utf-8").partition("\n# The privacy kernel\n")[0]


def anchor(heading: str) -> str:
    """Returns by what a heading can be linked to, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def printed(lang: str) -> bytes:
    """Returns the handbook on sheets of A4, with its pictures. Skips the test where Debian's pango is not there."""
    try:
        with redirect_stdout(io.StringIO()):  # it prints advice
            import weasyprint
    except OSError as error:
        if os.environ.get("MURMURE_PACKAGES_REQUIRED") == "1":
            raise
        pytest.skip(f"{error} (Debian packages {' '.join(PACKAGES)})")
    text = MarkdownIt("commonmark").enable("table").render(stewards_part(lang))
    text = re.sub(r"<h2>(.*?)</h2>", lambda found: f'<h2 id="{anchor(found[1])}">{found[1]}</h2>', text)
    whole = f'<html lang="{lang}"><head><meta charset="utf-8"><title>.</title></head><body>{text}</body></html>'
    pdf: bytes = weasyprint.HTML(string=whole, base_url=str(PAGES[lang])).write_pdf(
        stylesheets=[weasyprint.CSS(string=STYLE)]
    )
    return pdf


@pytest.mark.parametrize("lang", PAGES)
def test_it_is_ten_pages_that_can_be_printed(lang: str, caplog: pytest.LogCaptureFixture) -> None:
    """Ten, give or take one. Each picture can be drawn, and each link within the page leads to a heading."""
    pdf = printed(lang)
    if folder := os.environ.get("MURMURE_PDF"):
        (Path(folder) / f"handbook.{lang}.pdf").write_bytes(pdf)
    sheets = pypdf.PdfReader(io.BytesIO(pdf)).pages
    assert FEWEST <= len(sheets) <= MOST
    # What follows for researchers is not printed.
    assert [told for told in caplog.messages if "#the-privacy-kernel" not in told] == []


@pytest.mark.parametrize("lang", PAGES)
def test_the_worked_example_says_what_the_software_computes(lang: str, tmp_path: Path) -> None:
    """Each row: the epsilon that `policy new` finds for a margin, the most often that a guess is right, and the margins
    of a difference of two hours, and of two means of twenty, whose noise is independent."""
    spec = importlib.util.spec_from_file_location("steward", ROOT / "docs" / "pictures" / "steward.py")
    assert spec and spec.loader
    steward = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = steward  # its dataclasses look themselves up there
    spec.loader.exec_module(steward)
    rows = re.findall(
        r"^\| ± (\d+) \| (\S+) \| (\d+) \w+ 100 \| ± (\S+) \| ± (\S+) \|$", stewards_part(lang), re.MULTILINE
    )
    assert [int(row[0]) for row in rows] == list(steward.MARGINS)
    for margin, *told in rows:
        one = steward.choice(int(margin), str(tmp_path))
        difference = one.error_95 * sqrt(2)
        said = [f"{one.epsilon:g}", f"{one.guesses[0]}", f"{difference:.1f}", f"{difference / sqrt(20):.1f}"]
        assert [cell.replace(",", ".") for cell in told] == said


@pytest.mark.parametrize(("lang", "quoted"), [("en", r'"([^"]+) …"'), ("fr", "« ([^»]+) … »")])
def test_each_line_that_is_explained_is_one_of_verify(lang: str, quoted: str) -> None:
    """And the answers, good, bad and none, are all explained."""
    heads = [str(words[lang == "en"]) for words in SENTENCES.values()]
    told = re.findall(rf"^\| {quoted} \|", stewards_part(lang), re.MULTILINE)
    assert len(told) == 9 and [line for line in told if not any(head.startswith(line) for head in heads)] == []
    assert {SENTENCES[key][lang == "en"].partition(":")[0].strip() for key in ("right", "wrong", "moved")} <= {
        line.removesuffix(":").strip() for line in told
    }


def test_ten_words_are_explained() -> None:
    """No more: who needs more of them needs a shorter page."""
    for lang in PAGES:
        last = stewards_part(lang).rpartition("\n## ")[2]
        assert len(re.findall(r"^\| ", last, re.MULTILINE)) == 2 + 10
