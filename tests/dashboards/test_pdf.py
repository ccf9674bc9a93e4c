"""The sheet as PDF, read back by pypdf: tagged for who listens, one page for who pins it up, made once."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pypdf
import pytest
from murmure_dashboards.config import City
from murmure_dashboards.pdf import PACKAGES, Press
from murmure_dashboards.site import render
from murmure_ingest.archive import Archive
from pypdf.generic import IndirectObject

SHEETS = [
    f"{start}quartiers/{slug}/{name}.pdf"
    for start in ("", "en/")
    for slug in ("centre", "gare", "parc")
    for name in ("bulletin", "bulletin-grand")
]
A4 = (595, 842)
ROOT = Path(__file__).resolve().parents[2]
CITY = Path(__file__).parent / "city.toml"
NOW = "2026-11-21T14:15:00Z"
SHEET = """<!doctype html><html lang="fr"><head><title>Essai</title></head><body><main><h1>Un</h1><h2>Deux</h2>
<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><title>Un trait</title><path d="M0,0h9"/></svg>
<table><caption>Table</caption><thead><tr><th scope="col">Heure</th><th scope="col">Passages</th></tr></thead>
<tbody><tr><th scope="row">0 h</th><td>12</td></tr></tbody></table></main></body></html>"""


def reader(pdf: bytes) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(pdf))


def root(pdf: bytes) -> Any:
    return reader(pdf).trailer["/Root"]


def elements(of: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Yields kind, element and the kinds above it of every structure element, in the order of reading."""
    of = of.get_object() if isinstance(of, IndirectObject) else of
    if isinstance(of, list):
        for one in of:
            yield from elements(one, above)
    elif isinstance(of, dict) and "/S" in of:
        kind = str(of["/S"])
        yield kind, of, above
        yield from elements(of.get("/K", []), (*above, kind))


def faults(pdf: bytes) -> list[str]:
    """Returns what a listener would miss: title, language, order of headings, names of figures, headers of cells."""
    top = root(pdf)
    found = []
    if not top.get("/MarkInfo", {}).get("/Marked"):
        found.append("not tagged")
    if not top.get("/Lang") or not top.get("/ViewerPreferences", {}).get("/DisplayDocTitle"):
        found.append("no language, or no title shown")
    if b'pdfuaid:part="1"' not in top["/Metadata"].get_object().get_data():
        found.append("no PDF/UA")
    if "/Title" not in (reader(pdf).metadata or ()):
        found.append("no title")
    read = list(elements(top["/StructTreeRoot"]["/K"]))
    levels = [int(kind[2:]) for kind, _, _ in read if re.fullmatch("/H[1-6]", kind)]
    if levels[:1] != [1] or levels.count(1) != 1 or any(b > a + 1 for a, b in pairwise(levels)):
        found.append(f"headings {levels}")
    found += ["a figure without a name" for kind, one, _ in read if kind == "/Figure" and not one.get("/Alt")]
    heads = {one["/ID"] for kind, one, _ in read if kind == "/TH"}
    for kind, one, above in read:
        if kind in ("/TH", "/TD") and "/Table" not in above:
            found.append("a cell outside a table")
        if kind == "/TD":
            named = one.get("/A", {}).get("/Headers", [])
            if len(named) < 2 or not set(named) <= heads:
                found.append("a cell without its headers")
    tables = sum(kind == "/Table" for kind, _, _ in read)
    if tables != sum(kind == "/Caption" and above[-1] == "/Table" for kind, _, above in read):
        found.append("a table without a caption")
    return found


@pytest.mark.parametrize("path", SHEETS)
def test_a_sheet_is_tagged_and_of_its_pages(printed: Mapping[str, bytes], path: str) -> None:
    """Of each quartier, in both languages: exactly one A4 page, two at most in large print; title and language are
    those of the page; what a listener needs is there."""
    pdf = printed[path]
    page = printed[path.replace(".pdf", ".html")].decode()
    assert faults(pdf) == []
    pages = reader(pdf).pages
    assert len(pages) == 1 if path.endswith("/bulletin.pdf") else 1 <= len(pages) <= 2
    assert all((round(one.mediabox.width), round(one.mediabox.height)) == A4 for one in pages)
    assert root(pdf)["/Lang"] == ("en" if path.startswith("en/") else "fr")
    title = re.search("<title>(.*)</title>", page)
    about = reader(pdf).metadata
    assert title and about and about.title == unescape(title[1])
    assert (about.author, about.subject) == ("Ville de Démo", "Licence Ouverte 2.0")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<title>Un trait</title>", "", "a figure without a name"),
        ("<h2>Deux</h2>", "<h3>Deux</h3>", "headings [1, 3]"),
        ("<h1>Un</h1>", "<p>Un</p>", "headings [2]"),
        ('<th scope="row">0 h</th>', "<td>0 h</td>", "a cell without its headers"),
        ("<caption>Table</caption>", "", "a table without a caption"),
        ('lang="fr"', "", "no language, or no title shown"),
        ("<title>Essai</title>", "", "no title"),
    ],
)
def test_what_a_listener_would_miss_is_found(tmp_path: Path, printed: object, old: str, new: str, said: str) -> None:
    """The twins: one thing less in the page that is printed, and it is named."""
    press = Press(tmp_path)
    whole = press.sheet("a", b"whole", 1, lambda: iter([SHEET]))
    assert whole and faults(whole) == []
    less = press.sheet("a", b"less", 1, lambda: iter([SHEET.replace(old, new)]))
    assert less and said in faults(less)


def test_pictures_say_in_words_what_they_show(printed: Mapping[str, bytes]) -> None:
    """As many as the page has, each with the description of the page's."""
    for start in ("", "en/"):
        page = printed[f"{start}quartiers/centre/bulletin.html"].decode()
        told = [unescape(text) for text in re.findall(r"<desc[^>]*>([^<]*)", page)]
        tags = elements(root(printed[f"{start}quartiers/centre/bulletin.pdf"])["/StructTreeRoot"]["/K"])
        names = [str(one["/Alt"]) for kind, one, _ in tags if kind == "/Figure"]
        assert len(told) == 3 and all(name.endswith(text) for name, text in zip(names, told, strict=True))


def test_a_sheet_is_read_in_its_order(printed: Mapping[str, bytes]) -> None:
    """Town, neighbourhood with the day, in brief, place, figures, how to read them, whom to ask."""
    text = " ".join(page.extract_text() for page in reader(printed["quartiers/centre/bulletin.pdf"]).pages)
    order = [
        "Ville de Démo",
        "Centre",
        "vendredi 20 novembre 2026",
        "On ne peut pas dire",
        "Place de la République",
        "Passages",
    ]
    order += ["Niveau sonore", "Particules PM2,5", "Pour lire ces chiffres", "Une question", "Mairie", "capteurs.demo"]
    at = [text.index(words) for words in order]
    assert at == sorted(at), text


def test_all_is_black(printed: Mapping[str, bytes]) -> None:
    """No operator sets another colour: a copier loses nothing."""
    colours = set()
    for path in SHEETS:
        for page in reader(printed[path]).pages:
            content = page.get_contents()
            assert content is not None
            for operands, operator in content.operations:
                if operator in (b"rg", b"RG", b"g", b"G", b"k", b"K", b"sc", b"SC", b"scn", b"SCN"):
                    colours.add(tuple(map(float, operands)))
    assert colours and colours <= {(0.0,), (0.0, 0.0, 0.0)}


def test_pages_lead_to_the_sheets_that_are_there(printed: Mapping[str, bytes], site: Path) -> None:
    """From the bulletin and from the page of the neighbourhood, with format and size; without a press, no such link."""
    for path in SHEETS:
        assert f'href="{path.rpartition("/")[2]}"' in printed[path.replace(".pdf", ".html")].decode()
        size = f"{-(-len(printed[path]) // 1000)}"
        assert re.search(rf"\(?PDF[^<]*{size}\s(?:Ko|kB|KB)", printed[path.replace(".pdf", ".html")].decode())
    for folder in ("quartiers/centre", "en/quartiers/centre"):
        page = printed[f"{folder}/index.html"].decode()
        without = (site / folder / "index.html").read_text(encoding="utf-8")
        for name in ("bulletin", "bulletin-grand"):
            assert f'{name}.pdf"' in page and f'{name}.pdf"' not in without
            assert f'{name}.html"' in page and f'{name}.html"' in without
    assert not list(site.resolve().rglob("*.pdf"))


def test_a_sheet_is_printed_once(
    archive: Any, city: City, streets: SimpleNamespace, printed: Mapping[str, bytes], tmp_path: Path
) -> None:
    """What a build has no time for is printed after it and stands in the next, which prints nothing; the page leads to
    it as soon as it is there. Sheets that nobody asked for are forgotten."""
    centre = replace(city, quartier=city.quartier[:1], site=city.site[:1])
    mine = [path for path in SHEETS if "/centre/" in f"/{path}"]
    first = Press(tmp_path, at_once=1)
    files = dict(render(archive, centre, streets.NOW_S, press=first))
    assert [path for path in mine if path in files] == mine[:1] and first.waiting == len(mine) - 1
    assert 'bulletin.pdf"' not in files["en/quartiers/centre/bulletin.html"].decode()
    (tmp_path / "of-yesterday.pdf").write_bytes(b"")
    first.rest()
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(kept) == len(mine) and first.waiting == 0
    second = Press(tmp_path, at_once=0)
    again = dict(render(archive, centre, streets.NOW_S + 900, press=second))
    assert {path: again[path] for path in mine} == {path: printed[path] for path in mine}, "the same bytes"
    second.rest()
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == kept
    tomorrow = Press(tmp_path, at_once=0)
    assert tomorrow.sheet("a", b"another figure", 1, lambda: iter([SHEET])) is None and tomorrow.waiting == 1


def test_another_process_prints_the_same_bytes(printed: object, tmp_path: Path) -> None:
    """Whatever the order of its sets is, and whatever it printed before."""
    script = (
        "import sys, hashlib, pathlib; from murmure_dashboards.pdf import Press; "
        "pdf = Press(pathlib.Path(sys.argv[1])).sheet('a', b'a', 1, lambda: iter([sys.argv[2]])); "
        "print(hashlib.sha256(pdf).hexdigest())"
    )
    here = Press(tmp_path / "here")
    here.sheet("b", b"b", 1, lambda: iter([SHEET.replace("Deux", "Ωμέγα")]))
    pdf = here.sheet("a", b"a", 1, lambda: iter([SHEET]))
    told = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "there"), SHEET],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert pdf and told.stdout.strip() == hashlib.sha256(pdf).hexdigest()


def test_a_sheet_that_does_not_fit_loses_its_blocks_in_order_or_is_refused(printed: object, tmp_path: Path) -> None:
    """The first form that fits is printed; where none does there is no sheet, and its name is told."""
    press = Press(tmp_path)
    long = SHEET.replace("<h2>", "<p>mot</p>" * 200 + "<h2>")
    short = press.sheet("a", b"a", 1, lambda: iter([long, SHEET.replace("Un<", "Court<"), SHEET]))
    assert short and "Court" in reader(short).pages[0].extract_text()
    two = press.sheet("b", b"b", 9, lambda: iter([long, SHEET]))
    assert two and len(reader(two).pages) > 1
    assert press.sheet("c", b"c", 1, lambda: iter([long])) is None and press.refused == ["c"]


def test_a_sheet_fetches_nothing(printed: object, tmp_path: Path) -> None:
    """Neither a file of this machine nor another host, whatever stands in a name."""
    (tmp_path / "secret.css").write_text("h1::after { content: 'secret' }", encoding="utf-8")
    link = f'<link rel="stylesheet" href="file://{tmp_path}/secret.css"></head>'
    inside = f"<style>{(tmp_path / 'secret.css').read_text(encoding='utf-8')}</style></head>"
    for head, seen in ((link, False), (inside, True)):
        forms = [SHEET.replace("</head>", head)]
        pdf = Press(tmp_path / "sheets").sheet("a", head.encode(), 1, forms.__iter__)
        assert pdf and ("secret" in reader(pdf).pages[0].extract_text()) is seen


@pytest.mark.parametrize("there", [True, False])
def test_a_centre_without_pango_has_its_site_without_sheets(printed: object, tmp_path: Path, there: bool) -> None:
    """One line says which library is missing and how to get it; everything else is built, the command has done its
    work, and stdout stays one JSON object. With the library there is no such line, and there are sheets."""
    Archive.open(tmp_path / "archive.db").close()
    blind = (
        "import sys, cffi\nopen_ = cffi.FFI.dlopen\n"
        "def dlopen(self, name, flags=0):\n"
        "    if 'pango' in str(name):\n        raise OSError(f'cannot load library {name!r}: no such file')\n"
        "    return open_(self, name, flags)\n"
    )
    start = "from murmure.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
    script = start if there else f"{blind}cffi.FFI.dlopen = dlopen\n{start}"
    argv = ["site", "build", "--archive", "archive.db", "--city", str(CITY), "--out", "site", "--now", NOW, "--json"]
    done = subprocess.run([sys.executable, "-c", script, *argv], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pages"] > 20
    lines = [line for line in done.stderr.splitlines() if "PDF" in line]
    sheets = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.pdf")}
    if there:
        assert lines == [] and sheets == set(SHEETS)
    else:
        assert len(lines) == 1 and "pango" in lines[0] and f"apt-get install {' '.join(PACKAGES)}" in lines[0]
        assert sheets == set() and (tmp_path / "site/quartiers/centre/bulletin.html").is_file()


@pytest.mark.parametrize("page", ["README.md", "LISEZMOI.md"])
def test_the_operators_page_asks_for_what_printing_needs(page: str) -> None:
    """The packages that the missing line names are those that the centre's page installs, and those of the tests."""
    asked = f"apt-get install --yes {' '.join(PACKAGES)}\n"
    assert asked in (ROOT / "ingest" / page).read_text(encoding="utf-8")
    assert set(PACKAGES) <= set((ROOT / "Makefile").read_text(encoding="utf-8").split())


def test_no_line_of_a_sheet_ends_within_a_unit(tmp_path: Path) -> None:
    """However narrow it is; what is read out or copied from it is the unit, with nothing within."""
    said = "Air\u00a0: 16\u00a0µg/m³ (entre 8 et 23, ±\u00a08\u00a0µg/m³), au plus 15\u00a0µg/m³ par jour."
    narrow = "".join(f'<p style="width: {width}px">{said}</p>' for width in range(90, 260, 5))
    pdf = Press(tmp_path).sheet(
        "a", b"", 9, lambda: iter([SHEET.replace("Un trait", "µg/m³").replace("<h2>", f"{narrow}<h2>")])
    )
    assert pdf is not None and faults(pdf) == []
    text = "".join(page.extract_text() for page in reader(pdf).pages)
    assert text.count("µg/m³") == 3 * narrow.count("<p ") and "\u2060" not in text
    assert not re.search(r"\d\s*\nµg", text)
