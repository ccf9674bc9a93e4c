"""Whoever follows a link arrives: on pages, in feeds, in descriptors, from one language to the other and back."""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ADDRESS = "https://capteurs.demo.example/"
# Short addresses for poles: they are typed or scanned, no page has to lead there.
TYPED = re.compile(r"(en/)?c/[A-Z0-9]+/index\.html")
LANGUAGES = {"fr": "en", "en": "fr"}


class Page(HTMLParser):
    """Links with their attributes, ids, and the text by its language."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[dict[str, str]] = []
        self.ids: set[str] = set()
        self.said: dict[str, list[str]] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        speaks = known.get("lang") or (self._open[-1][1] if self._open else "")
        if tag not in ("meta", "link", "br", "img", "path"):
            self._open.append((tag, speaks))
        self.ids |= {known["id"]} if "id" in known else set()
        if "href" in known or "src" in known:
            self.links.append(known | {"tag": tag, "to": known.get("href", known.get("src", ""))})

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.said.setdefault(self._open[-1][1], []).append(data)


def published(site: Path) -> dict[str, bytes]:
    """Returns every file of the site but the compressed twins, by its path."""
    root = site.resolve()
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".gz")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def target(here: str, to: str) -> tuple[str, str]:
    """Returns the file that an address leads to from the file `here`, and the fragment in it."""
    path, _, fragment = to.partition("#")
    path = path.partition("?")[0]
    found = posixpath.normpath(posixpath.join(posixpath.dirname(here), path)) if path else here
    return (f"{found}/index.html" if path.endswith("/") else found).removeprefix("./"), fragment


@cache
def read(content: bytes) -> Page:
    return Page(content.decode())


def pages(files: Mapping[str, bytes]) -> dict[str, Page]:
    return {path: read(content) for path, content in files.items() if path.endswith(".html")}


def dead(files: Mapping[str, bytes]) -> list[str]:
    """Returns the links of pages that lead to no file, or to no place in it, or to a folder by its bare name."""
    known, found = pages(files), []
    for path, page in known.items():
        for link in page.links:
            file, fragment = target(path, link["to"])
            missing = file not in files or (fragment and fragment not in known[file].ids)
            if re.match(r"[a-z]+:|/", link["to"]) or missing:
                found.append(f"{path}: {link['to']}")
    return found


def dead_in_feeds(files: Mapping[str, bytes]) -> list[str]:
    """Returns the links of feeds that lead to no file of the site, and feeds that call themselves something else."""
    found = []
    for path, content in files.items():
        if not path.endswith(".xml"):
            continue
        for link in ElementTree.fromstring(content).iter("{http://www.w3.org/2005/Atom}link"):
            href = link.attrib["href"]
            file, _ = target("index.html", href.removeprefix(ADDRESS) or "./")
            if not href.startswith(ADDRESS) or file not in files or (link.attrib["rel"] == "self" and file != path):
                found.append(f"{path}: {href}")
    return found


def dead_in_descriptors(files: Mapping[str, bytes]) -> list[str]:
    """Returns the files that descriptors of the open data name and that are not there."""

    def named(told: Any) -> Iterator[str]:
        if isinstance(told, list):
            for one in told:
                yield from named(one)
        elif isinstance(told, dict):
            for key, value in told.items():
                if isinstance(value, str) and key in ("@id", "path", "url", "schema"):
                    yield value
                else:
                    yield from named(value)

    found = []
    for path in ("donnees/datapackage.json", "donnees/csv-metadata.json", "donnees/catalogue.jsonld"):
        for name in named(json.loads(files[path])):
            away = re.match(r"[a-z]+:", name) and not name.startswith(ADDRESS)
            file, _ = target(*(("index.html", name.removeprefix(ADDRESS) or "./") if ":" in name else (path, name)))
            if not away and file not in files:
                found.append(f"{path}: {name}")
    return found


def one_way(files: Mapping[str, bytes]) -> list[str]:
    """Returns the pages whose language does not lead to the same page in the other one and back, for programs and for
    people alike."""
    found, known = [], pages(files)
    for path, page in known.items():
        mine = "en" if path.startswith("en/") else "fr"
        other = f"en/{path}" if mine == "fr" else path.removeprefix("en/")
        for tag in ("link", "a"):
            leads = [link for link in page.links if link["tag"] == tag and "hreflang" in link]
            if [(link["hreflang"], target(path, link["to"])[0]) for link in leads] != [(LANGUAGES[mine], other)]:
                found.append(f"{path}: {tag}")
        if other not in files:
            found.append(f"{path}: not in the other language")
    return found


def unreachable(files: Mapping[str, bytes]) -> set[str]:
    """Returns the pages and texts that no way of links leads to from the home page."""
    known, seen, todo = pages(files), set[str](), ["index.html"]
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += [target(path, link["to"])[0] for link in known[path].links] if path in known else []
    wanted = {path for path in files if re.search(r"\.(html|txt|xml|pdf|csv)$", path) and not TYPED.fullmatch(path)}
    return wanted - seen


def sentences(code: str) -> dict[str, str]:
    """Returns the texts of a catalogue by file and key; those of operators have pages of their own."""

    def flat(table: Mapping[str, Any], head: str) -> Iterator[tuple[str, str]]:
        for key, value in table.items():
            if isinstance(value, Mapping):
                yield from flat(value, f"{head}{key}.")
            elif isinstance(value, str):
                yield f"{head}{key}", value

    folder = resources.files("murmure_dashboards").joinpath("locale", code)
    files = [file for file in folder.iterdir() if file.name.endswith(".toml") and file.name != "operations.toml"]
    return {
        f"{file.name} {key}": text
        for file in files
        for key, text in flat(tomllib.loads(file.read_text(encoding="utf-8")), "")
    }


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[\u00a0\u202f]", " ", text)).replace("’", "'")


@cache
def foreign(code: str) -> re.Pattern[str]:
    """Returns what finds words of the other language's catalogue, four at least, that this one has not."""
    mine, others = sentences(code), sentences(LANGUAGES[code])
    texts = (plain(text) for key, text in others.items() if mine[key] != text)
    pieces = {piece.strip() for text in texts for piece in re.split(r"\{[^}]*\}", text) if len(piece.split()) > 3}
    return re.compile("|".join(map(re.escape, sorted(pieces))))


def untranslated(files: Mapping[str, bytes]) -> list[str]:
    """Returns where a page says a sentence of the other language, or four words of it, without saying so."""
    found = []
    for path, page in pages(files).items():
        mine = "en" if path.startswith("en/") else "fr"
        said = foreign(mine).search(plain(" ".join(page.said.get(mine, []))))
        if said:
            found.append(f"{path}: {said[0]}")
    return found


@pytest.fixture(scope="module")
def files(site: Path) -> dict[str, bytes]:
    """The published site."""
    return published(site)


def test_every_link_and_fragment_leads_somewhere(files: Mapping[str, bytes]) -> None:
    """Of each page, in both languages, to a file of the site and to a place that is on the page."""
    assert dead(files) == []
    assert sum(len(page.links) for page in pages(files).values()) > 500


def test_every_link_of_a_feed_leads_to_a_page(files: Mapping[str, bytes]) -> None:
    """Under the town's address, and the feed knows its own."""
    assert dead_in_feeds(files) == [] and sum(path.endswith(".xml") for path in files) >= 6


def test_every_file_that_descriptors_name_is_there(files: Mapping[str, bytes]) -> None:
    """In the Data Package, in CSVW and in DCAT."""
    assert dead_in_descriptors(files) == []


def test_every_page_leads_to_itself_in_the_other_language(files: Mapping[str, bytes]) -> None:
    """And that one leads back: one link for programs, one for people."""
    assert one_way(files) == []


def test_every_page_and_file_is_found_from_the_home_page(files: Mapping[str, bytes]) -> None:
    """No page is published that nobody finds, but for the short addresses on poles."""
    assert unreachable(files) == set()


def test_no_page_says_a_sentence_in_the_other_language(files: Mapping[str, bytes]) -> None:
    """What is French on an English page says so, and the other way round."""
    assert untranslated(files) == []


def test_each_of_these_faults_is_found(files: Mapping[str, bytes]) -> None:
    """Broken twins: a dead link, a dead place, a feed that leads away, a missing file, one language, an orphan, a
    sentence that was not translated."""

    def edited(path: str, old: str, new: str) -> dict[str, bytes]:
        assert old in files[path].decode()
        return {**files, path: files[path].decode().replace(old, new, 1).encode()}

    assert dead(edited("index.html", 'href="./methode/"', 'href="./methodes/"')) == ["index.html: ./methodes/"]
    assert dead(edited("index.html", 'href="./methode/"', 'href="./methode/#nulle-part"')) != []
    assert dead(edited("index.html", 'href="./methode/"', 'href="./methode"')) != []
    assert dead_in_feeds(edited("quartiers/gare/atom.xml", "demo.example/quartiers/gare/", "demo.example/x/")) != []
    data = edited("donnees/datapackage.json", '"ledger.jsonl"', '"ledgers.jsonl"')
    assert dead_in_descriptors(data) == ["donnees/datapackage.json: ledgers.jsonl"]
    assert one_way(edited("en/methode/index.html", 'href="../../methode/"', 'href="../../"')) != []
    assert "not in the other language" in " ".join(one_way({**files, "neu/index.html": files["index.html"]}))
    assert unreachable({**files, "neu/index.html": files["index.html"]}) == {"neu/index.html"}
    assert (
        untranslated(
            edited(
                "en/methode/index.html",
                "<h1>",
                "<p>D’où vient un chiffre, ce qu’il vaut, et comment le vérifier.</p><h1>",
            )
        )
        != []
    )
