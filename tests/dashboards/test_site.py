"""The folder that is published: whole at every instant, light, complete in both languages, true to its open data."""

from __future__ import annotations

import csv
import gc
import gzip
import os
import posixpath
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import maker_home, maker_register
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.opendata import ANNOTATIONS, HEADER
from murmure_dashboards.pages import Link
from murmure_dashboards.site import MAKERS, BuildReport, Crew, SiteError, beside, build, put
from murmure_dashboards.wording import LANGUAGES, language
from murmure_privacy.errors import MurmureError
from murmure_privacy.release import Release
from murmure_privacy.window import utc

MOST_ELEMENTS = 430
MOST_OCTETS = 30_000
CONTRACT_HEADER = (
    "start_utc,end_utc,site,stream,quantity,node,indicator,value,estimate,ci95_low,ci95_high,unit,state,sigma,mechanism,"
    "rho_micro,epsilon,delta,protects,policy,status,reason"
)
SPANS = ("", "semaine/", "mois/", "annee/")
QUARTIERS = [f"quartiers/{slug}/{span}" for slug in ("centre", "gare", "parc") for span in SPANS]
PATHS = ("", *QUARTIERS, "capteurs/", "donnees/", "vie-privee/", "methode/", "accessibilite/", "empreinte/")


class Page(HTMLParser):
    """What the tests ask of a page: elements outside SVG, links, ids, text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements, self.inside_svg = 0, False
        self.links: list[dict[str, str | None]] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.language: str | None = None
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "html":
            self.language = known.get("lang")
        self.inside_svg = self.inside_svg or tag == "svg"
        self.elements += not self.inside_svg or tag == "svg"
        if "id" in known:
            self.ids.append(str(known["id"]))
        if "href" in known or "src" in known:
            self.links.append(known)

    def handle_endtag(self, tag: str) -> None:
        self.inside_svg = self.inside_svg and tag != "svg"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def all_pages(site: Path) -> Iterator[Path]:
    return (path for path in sorted(site.resolve().rglob("*.html")))


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def of_town(site: Path) -> list[dict[str, str]]:
    """The rows of the month, and those of the day that runs."""
    return [row for name in ("2026-11", "jour-en-cours") for row in rows(site / f"donnees/releases-{name}.csv")]


def test_every_address_of_the_contract_is_there_in_both_languages(site: Path) -> None:
    """French at the root, English under /en/, the same paths below; the page says its language."""
    for path in PATHS:
        assert Page(site / path / "index.html").language == "fr"
        assert Page(site / "en" / path / "index.html").language == "en"


def test_no_link_is_dead(site: Path) -> None:
    """Each address on each page is a file of the site; pages of later days are not announced."""
    root = site.resolve()
    for file in all_pages(site):
        here = file.relative_to(root).parent.as_posix()
        page = Page(file)
        for link in page.links:
            target = str(link.get("href") or link.get("src"))
            assert not re.match(r"[a-z]+:|//", target), target
            path, _, fragment = target.partition("#")
            path = path.partition("?")[0]
            found = root / posixpath.normpath(posixpath.join(here, path))
            leads = file if not path else found / "index.html" if path.endswith("/") else found
            assert leads.is_file(), (here, target)
            if fragment:
                assert fragment in (page if leads == file else Page(leads)).ids, (here, target)


def test_a_page_is_linked_from_the_foot_of_all_once_somebody_makes_it(
    brief: Any, city: City, tmp_path: Path, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A maker brings its page and the link to it, so that no foot announces what nobody makes; a page knows itself."""

    def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
        assert ctx.octets["index.html"] > 0, "what was made before has its size"
        for code in LANGUAGES:
            yield ctx.page("base.html", language(code), "essai/", title="")

    monkeypatch.setattr(site_module, "MAKERS", (*MAKERS, Maker(files, (Link("page.home", "essai/"),))))
    build(brief, city, tmp_path / "site", streets.NOW_S)
    test_no_link_is_dead(tmp_path / "site")
    test_a_page_is_light(tmp_path / "site")
    for file in all_pages(tmp_path / "site"):
        foot = file.read_text(encoding="utf-8").partition("<footer>")[2]
        assert foot.count("essai/") == 1
        assert ('essai/" aria-current="page"' in foot) == (file.parent.name == "essai")


def test_every_file_is_made_once(archive: Any, city: City, streets: SimpleNamespace) -> None:
    """Of two makers of one file, the second would undo the first."""
    made = [path for path, _ in site_module.render(archive, city, streets.NOW_S)]
    assert len(made) > 20 and sorted(set(made)) == sorted(made)


def test_nothing_comes_from_another_host_and_nothing_runs(site: Path) -> None:
    """No script, no style in the page, no address with a host in page or sheet."""
    for file in all_pages(site):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"<script|<style|<iframe|<form|\son\w+=|\sstyle=|http-equiv|https?://", text), file
    sheet = (site / "static/murmure.css").read_text()
    assert not re.search(r"url\(|@import|@font-face|https?:", sheet)


def test_a_page_is_light(site: Path) -> None:
    """At most 430 elements outside the pictures, 30 KB compressed with sheet and icon, three requests."""
    for file in all_pages(site):
        page = Page(file)
        assert page.elements <= MOST_ELEMENTS, (file, page.elements)
        loaded = {str(link["href"]) for link in page.links if link.get("rel") in ("stylesheet", "icon")}
        assert len(loaded) + 1 <= 3
        shared = [(file.parent / address.partition("?")[0]).resolve() for address in loaded]
        assert sum(Path(f"{one}.gz").stat().st_size for one in (file, *shared)) <= MOST_OCTETS
        assert len(set(page.ids)) == len(page.ids)


@pytest.mark.parametrize(("sites", "streams"), [(1, 3), (2, 6), (3, 8)])
def test_a_quartier_with_many_streams_stays_light(
    streets: SimpleNamespace, city: City, tmp_path: Path, sites: int, streams: int
) -> None:
    """More streams, up to eight, shorten the tables, never break the budget; the whole day stays in the file."""
    street = streets.Street()
    day = streets.PARIS.day(streets.NOW_S)
    for number in range(sites):
        few = ("footfall", "noise") if number == 2 else ("footfall", "noise", "pm2_5")
        streets.add(street, f"s{number}", streets.week_of(day.end_s), now_s=day.end_s, streams=few)
    assert len(street.infos) == streams
    one = replace(
        city,
        quartier=city.quartier[:1],
        site=tuple(replace(city.site[0], id=f"s{number}", name=f"Place {number}") for number in range(sites)),
    )
    build(street, one, tmp_path / "site", day.end_s)
    assert Page(tmp_path / "site/quartiers/centre/semaine/index.html").elements <= MOST_ELEMENTS
    page = Page(tmp_path / "site/quartiers/centre/index.html")
    assert page.elements <= MOST_ELEMENTS
    hours = [re.fullmatch(r"(\d+)\u00a0h – (\d+)\u00a0h", text) for text in page.text]
    rows = [(int(found[1]), int(found[2])) for found in hours if found]
    assert sum(start == 0 for start, _ in rows) == sum(end == 24 for _, end in rows) == streams
    assert sum(end - start for start, end in rows) == 24 * streams, "the night is in the table too"
    assert (rows[0] == (0, 1)) == (sites == 1), "hour by hour, where there is room for it"


def test_a_large_city_page_stays_light(
    given: Callable[..., Build], streets: SimpleNamespace, city: City, tmp_path: Path
) -> None:
    """Sixty quartiers are told in one paragraph each."""
    street = streets.Street()
    day = streets.PARIS.day(streets.NOW_S)
    streets.add(street, "s0", day, now_s=streets.NOW_S)
    for number in range(1, 60):
        for info in street.infos[:3]:
            stream = info.stream.replace("s0/", f"s{number}/")
            street.infos.append(replace(info, site=f"s{number}", stream=stream))
            street.nodes[stream] = street.nodes[info.stream]
    large = replace(
        city,
        quartier=tuple(replace(city.quartier[0], slug=f"q{n}", name=f"Quartier {n}") for n in range(60)),
        site=tuple(replace(city.site[0], id=f"s{n}", quartier=f"q{n}") for n in range(60)),
    )
    links = [link for maker in MAKERS for link in maker.links]
    ctx = replace(given(street, large), octets={ANNOTATIONS: 99}, links=links)
    (tmp_path / "index.html").write_bytes(dict(maker_home.files(ctx))["index.html"])
    page = Page(tmp_path / "index.html")
    assert page.elements <= MOST_ELEMENTS
    assert sum(part.count("(entre ") for part in page.text) >= 60
    assert sum("19 fois sur 20" in part for part in page.text) == 2, "once above, once in the end"


def test_the_compressed_twin_is_the_file(site: Path) -> None:
    """Every file has a .gz beside it with the same bytes, the same on every build."""
    files = [path for path in site.resolve().rglob("*") if path.is_file() and path.suffix != ".gz"]
    assert files
    for path in files:
        packed = path.with_name(f"{path.name}.gz").read_bytes()
        assert gzip.decompress(packed) == path.read_bytes()
        assert packed[4:8] == bytes(4)


def test_the_same_archive_gives_the_same_site(archive: Any, city: City, site: Path, tmp_path: Path) -> None:
    """A site is a function of archive, city.toml and instant."""
    build(archive, city, tmp_path / "again", site_module_now(site))
    one, two = site.resolve(), (tmp_path / "again").resolve()
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert [file for file in files if (one / file).read_bytes() != (two / file).read_bytes()] == []


def site_module_now(site: Path) -> int:
    """The instant of the session's site."""
    found = re.search(r"page écrite à (\d+)\u00a0h\u00a0(\d+)", (site / "index.html").read_text(encoding="utf-8"))
    assert found is not None
    return 1_795_215_600 + int(found[1]) * 3600 + int(found[2]) * 60


def test_open_data_has_the_columns_of_the_contract(site: Path) -> None:
    """Header, one line for each figure and each withheld node, negative values as they are."""
    assert ",".join(HEADER) == CONTRACT_HEADER
    others = ("annotations.csv", "-codes.csv", "-codes-annee.csv", "-codes-heures.csv")
    files = sorted(file for file in (site / "donnees").glob("*.csv") if not file.name.endswith(others))
    assert [file.name for file in files] == [
        "centre-jour.csv",
        "centre-semaine.csv",
        "gare-jour.csv",
        "gare-semaine.csv",
        "parc-jour.csv",
        "parc-semaine.csv",
        "releases-2026-11.csv",
        "releases-jour-en-cours.csv",
    ]
    for file in files:
        assert file.read_bytes().partition(b"\r\n")[0].decode() == CONTRACT_HEADER
    month = of_town(site)
    crossings = [row for row in month if row["indicator"] == "crossings" and row["status"] == "released"]
    assert all(re.fullmatch(r"-?\d+", row["value"]) for row in crossings)
    assert any(row["value"].startswith("-") for row in crossings)
    assert any(float(row["ci95_low"]) < 0 for row in crossings)
    one = next(row for row in crossings if row["site"] == "plaza" and row["node"] == "1h")
    assert (one["unit"], one["mechanism"], one["epsilon"], one["delta"]) == (
        "1",
        "discrete_gaussian",
        "1.0",
        "0.000001",
    )
    assert one["protects"] == "1 crossings" and one["policy"].startswith("sha256:") and int(one["rho_micro"]) > 0
    withheld = {row["reason"] for row in month if row["status"] == "withheld"}
    assert withheld == {"sensor_absent", "paused"}
    assert all(row["value"] == "" for row in month if row["status"] == "withheld")


def test_open_data_are_the_releases_of_the_archive(site: Path, archive: Any) -> None:
    """Every released count is in the file with its own value; final days say so."""
    month = {
        (row["stream"], row["node"], row["start_utc"]): row for row in of_town(site) if row["indicator"] == "crossings"
    }
    seen = 0
    for info in archive.streams():
        for outcome in archive.outcomes(info.stream, 0, 1 << 40):
            if info.quantity == "footfall" and isinstance(outcome, Release):
                row = month[info.stream, outcome.node.level, utc(outcome.node.start_s)]
                assert int(row["value"]) == outcome.noised[0].integers[0]
                assert row["state"] == ("provisional" if row["start_utc"] >= "2026-11-20T23" else "final")
                seen += 1
    assert seen == len([row for row in month.values() if row["status"] == "released"])


def test_the_figure_on_the_page_is_the_estimate_of_the_open_data(site: Path) -> None:
    """The busiest full day of the week table is the `1d` estimate of the file, to the printed step."""
    day = next(
        row
        for row in rows(site / "donnees/centre-semaine.csv")
        if row["indicator"] == "crossings" and row["node"] == "1d" and row["start_utc"].startswith("2026-11-18")
    )
    text = (site / "quartiers/centre/semaine/index.html").read_text(encoding="utf-8").replace("\u202f", "")
    cell = re.search(r"jeudi 19</th><td>(\d+) \((\d+) à (\d+)\)</td>", text)
    assert cell is not None
    assert abs(int(cell[1]) - float(day["estimate"])) <= 0.5
    assert int(cell[2]) <= float(day["ci95_low"]) and float(day["ci95_high"]) <= int(cell[3])


def test_a_withheld_node_has_a_reason_and_no_figure_in_the_file(site: Path) -> None:
    """No value, no estimate, no interval: one row with the reason."""
    for file in (site / "donnees").glob("*-*.csv"):
        for row in rows(file) if "codes" not in file.name else ():
            if row["status"] == "withheld":
                assert row["reason"]
                assert {row[key] for key in ("value", "estimate", "ci95_low", "ci95_high", "sigma", "state")} == {""}


def test_every_page_with_a_silent_sensor_says_so(site: Path) -> None:
    """Home, day and week, in both languages; a neighbourhood whose sensors never fell silent says nothing."""
    for path, words in (("", "Capteur muet au plus"), ("en/", "Sensor silent at most")):
        for page in ("", "quartiers/gare/", "quartiers/gare/semaine/"):
            text = (site / path / page / "index.html").read_text(encoding="utf-8")
            assert text.count(words) == 2, (path, page)
            assert "50\u00a0µg/m³" in text or "50 µg/m³" in text
        assert words not in (site / path / "quartiers/centre/index.html").read_text(encoding="utf-8")


def test_the_page_says_that_a_person_is_not_always_a_count(site: Path) -> None:
    """Among what the sensors cannot know: swaying, standing in the beam, the learned wall."""
    french = (site / "capteurs/plaza/index.html").read_text(encoding="utf-8")
    assert "compter plusieurs fois" in french and "La distance au mur est apprise" in french
    english = (site / "en/capteurs/plaza/index.html").read_text(encoding="utf-8")
    assert "can count several times" in english and "The distance to the wall is learned" in english


def test_a_simulated_city_says_so_on_every_page(site: Path, archive: Any, city: City, streets: SimpleNamespace) -> None:
    """The banner is on every page of a simulated city and on none of a real one."""
    for file in all_pages(site):
        words = "Simulated data" if "/en/" in file.as_posix() else "Données simulées"
        assert words in file.read_text(encoding="utf-8")
    real = dict(site_module.render(archive, replace(city, simulated=False), streets.NOW_S))
    assert not any(b'class="simulated"' in content for path, content in real.items() if path.endswith(".html"))


def test_the_claim_is_that_of_the_signed_policy(site: Path) -> None:
    """Unit, epsilon, delta, version and decision are read from the policy in the archive."""
    text = (site / "quartiers/centre/index.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "règle version 7 (Délibération 2026-11-03 n° 42)" in text
    assert "Passages : 1 passage compté, à n’importe quel moment (ε = 1, δ = 0,000001)" in text
    assert "Niveau sonore : tout son d’au plus 15 secondes (ε = 1, δ = 0,000001)" in text
    paused = (site / "quartiers/gare/index.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert paused.count("règle version 7") == 2 and "la règle n’est pas dans l’archive" not in paused
    sensors = (site / "capteurs/plaza/index.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "comptés comme 35 ou 85 dB" in sensors


def test_the_register_tells_how_old_a_calibration_is(
    streets: SimpleNamespace, archive: Any, city: City, given: Callable[..., Build], tmp_path: Path
) -> None:
    """When each sensor was held against a reference, by which method and how long ago; one older than a year is said
    to be too old, one that never was is said so; in both languages. The pages of a quartier lead there."""

    def told(now_s: int, path: str) -> str:
        made = dict(maker_register.files(given(archive, city, now_s)))
        (tmp_path / "index.html").write_bytes(made[f"{path}/index.html"])
        return " ".join("".join(Page(tmp_path / "index.html").text).split())

    day_s = 86_400
    french = told(streets.NOW_S, "capteurs/plaza")
    assert "Capteur TF-Luna (Passages) : jamais étalonné sur place." in french
    assert "SM7901B (Niveau sonore) : étalonné le jeudi 1er octobre 2026, il y a 1 mois. Méthode : 94 dB." in french
    assert "SDS011 (Particules PM2,5) : étalonné le jeudi 20 novembre 2025, il y a plus d’un an. Méthode" in french
    assert french.count("C’est trop ancien") == 1
    assert french.count("Ce compteur oublie des gens : jusqu’à 31 % sur un trottoir, 0,5 % là où l’on passe") == 1
    english = told(streets.NOW_S + 12 * day_s, "en/capteurs/plaza")
    assert (
        "Sensor SM7901B (Sound level): calibrated on Thursday 1 October 2026, 2 months ago. Method: 94 dB." in english
    )
    assert "less than a month ago" in told(streets.NOW_S - 22 * day_s, "en/capteurs/plaza")
    assert "il y a 11 mois" in told(streets.NOW_S - 2 * day_s, "capteurs/plaza")
    assert "jamais étalonné" not in told(streets.NOW_S, "capteurs/station")


@pytest.mark.usefixtures("quartiers_alone")
def test_midnight_still_shows_the_day_that_has_ended(streets: SimpleNamespace, centre: City) -> None:
    """Today is the civil day that contains the second before."""
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.town(day.end_s)
    at_midnight = dict(site_module.render(street, centre, day.end_s))["quartiers/centre/index.html"].decode()
    assert "Samedi 21 novembre 2026, page écrite à minuit. Chiffres définitifs" in at_midnight
    assert '<h1><span lang="fr">Centre</span>, samedi 21 novembre 2026</h1>' in at_midnight
    assert "dans la journée" in at_midnight and "Dernier chiffre" not in at_midnight
    after = dict(site_module.render(street, centre, day.end_s + 1))["quartiers/centre/index.html"].decode()
    assert "Dimanche 22 novembre 2026" in after


def test_a_site_that_city_toml_does_not_name_is_reported(brief: Any, city: City, tmp_path: Path) -> None:
    """Its data are not published under no name; the operator hears of it."""
    report = build(brief, replace(city, site=city.site[:2]), tmp_path / "site", 1_795_270_500)
    assert report.unlisted == ("alley",)
    assert "alley" not in str(of_town(tmp_path / "site"))


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds follow each other in this test as after a quarter of an hour each."""
    monkeypatch.setattr(site_module, "PATIENCE_S", 0)


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the files whose content is replaced where they stand, once they are."""
    found: list[str] = []
    own = site_module._own

    def watched(path: Any, like: os.stat_result) -> int | None:
        file = own(path, like)
        found.extend([str(path)] if file is not None else [])
        return file

    monkeypatch.setattr(site_module, "_own", watched)
    return found


@pytest.mark.long  # twenty builds, each read while it is written
@pytest.mark.usefixtures("calm")
def test_nobody_sees_half_a_site(
    archive: Any, city: City, streets: SimpleNamespace, tmp_path: Path, replaced: list[str]
) -> None:
    """A reader who asks all the time, while the site is built again and again, always finds all files of one build,
    though folders are filled again and pages written into."""
    out = tmp_path / "site"
    build(archive, city, out, streets.NOW_S)
    names = sorted(path.relative_to(out.resolve()) for path in out.resolve().rglob("*") if path.is_file())
    wrong: list[str] = []
    looks = 0
    done = threading.Event()

    def look() -> str | None:
        root = out.resolve()  # as a web server does once for each page
        written = {
            re.sub(r"[:h\u00a0]+", ":", found[1]).rstrip(":")
            for name in names
            if name.suffix == ".html"
            and (found := re.search(r"(?:écrite à|written at) ([\d:h\u00a0]+)", (root / name).read_text()))
        }
        if len(written) != 1:
            return f"pages of {written}"
        there = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
        return None if there == names else f"{len(there)} files"

    def read() -> None:
        nonlocal looks
        while not done.is_set():
            try:
                seen = look()
            except OSError as error:
                seen = str(error)
            if seen:
                wrong.append(seen)
            looks += 1

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for minute in range(1, 6):
            build(archive, city, out, streets.NOW_S + 60 * minute)
    finally:
        done.set()
        reader.join()
    assert wrong == [] and looks >= 3 and replaced
    assert len(list(tmp_path.glob("site.new-*"))) == 3, "the site, the one before it, and the one to be filled next"


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_that_is_filled_again_is_the_site_of_this_build_and_no_other(
    brief: Any, city: City, streets: SimpleNamespace, tmp_path: Path, workers: int
) -> None:
    """Whatever stands in it: pages of a neighbourhood that the town has no more, files with other content, a file where
    a folder is to be and a folder in place of a file. The sites before share files with it; none changes."""
    out, minutes = tmp_path / "site", iter(range(1, 99))

    def all_of(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def built(of: City) -> Path:
        at_s = streets.NOW_S + 60 * next(minutes)
        before = {folder: all_of(folder) for folder in tmp_path.glob("site.new-*")}
        current = out.resolve()
        report = build(brief, of, out, at_s, crew=Crew(lambda: brief, workers))
        kept = [folder for folder in tmp_path.glob("site.new-*") if folder in before]
        assert [folder for folder in kept if all_of(folder) != before[folder]] == []
        assert not before or current in kept, "a reader who has just followed the link finds every file"
        found, nothing = all_of(out.resolve()), tmp_path / f"nothing-{at_s}"
        build(brief, of, nothing, at_s)
        assert found == all_of(nothing.resolve()) and report.files == len(found)
        assert not [path for path in out.resolve().rglob("*") if path.is_dir() and not any(path.iterdir())]
        assert not [path for path in out.resolve().rglob("*") if path.is_symlink()]
        return out.resolve()

    for _ in range(3):
        built(city)
    slug = city.quartier[-1].slug
    sites = tuple(site for site in city.site if site.quartier != slug)
    smaller = replace(city, quartier=city.quartier[:-1], site=sites)
    for _ in range(3):
        assert not (built(smaller) / "quartiers" / slug).exists()
    built(city)
    oldest = tmp_path / (tmp_path / "site.lock").read_text().partition("\n")[2]
    then = oldest.stat()
    page = oldest / "quartiers" / slug / "index.html"
    page.unlink(missing_ok=True)
    page.mkdir(parents=True)
    (page / "inside").write_bytes(b"a folder in place of a page")
    (oldest / "index.html").unlink()
    (oldest / "index.html").write_bytes(b"another page")
    (oldest / "methode" / "index.html").unlink()
    (oldest / "methode" / "index.html.gz").unlink()
    (oldest / "methode").rmdir()
    (oldest / "methode").write_bytes(b"a file in place of a folder")
    (oldest / "static" / "murmure.css").unlink()
    (oldest / "static" / "murmure.css").symlink_to(out.resolve() / "static" / "murmure.svg")
    (oldest / "left over").write_bytes(b"of nobody")
    (oldest / "left behind").symlink_to(out.resolve() / "static")
    for name, leads in (("donnees", out.resolve() / "donnees"), ("suivre", tmp_path / "nowhere")):
        shutil.rmtree(oldest / name)
        (oldest / name).symlink_to(leads)
    assert built(city).stat().st_ino == then.st_ino


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("twin", ["written into", "not swept"])
def test_filling_a_folder_again_carelessly_is_found_out(
    brief: Any, city: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twin: str
) -> None:
    """The twins: a file that another site shares is written into; what is left over stays."""

    def into(path: str, parts: Iterable[bytes], like: os.stat_result | None = None) -> None:
        with Path(path).open("wb") as file:
            file.writelines(parts)

    if twin == "written into":
        monkeypatch.setattr(site_module, "put", into)
    else:
        monkeypatch.setattr(site_module._Made, "sweep", lambda self: None)
    with pytest.raises((AssertionError, OSError)):
        test_a_folder_that_is_filled_again_is_the_site_of_this_build_and_no_other(brief, city, streets, tmp_path, 0)


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("meanwhile", ["nothing", "a clock set back", "builds are killed", "builds fail", "copies"])
def test_a_build_fills_no_folder_that_was_current_at_the_last_switch(tmp_path: Path, meanwhile: str) -> None:
    """By what the switches said: folders say when they were written by a clock that may be wrong, or how they were
    copied, and one that a killed build left says nothing."""
    out, again = tmp_path / "site[1]", 0
    current: list[Path] = []
    for number in range(12):
        with beside(out, durable=False, again=True) as folder:
            again += (folder / "number").exists()
            stay = [(path / "number").read_text() for path in current[-2:]]
            assert stay == [str(before) for before in range(number)][-2:]
            put(folder / "number", [f"{number}".encode()])
        current.append(folder)
        assert out.resolve() == folder and len(list(tmp_path.iterdir())) <= 5, "three folders, the link and the lock"
        if meanwhile == "a clock set back":
            os.utime(folder, (1_000 - number, 1_000 - number))
        elif meanwhile == "builds are killed" and number % 4 == 3:
            child = os.fork()
            if child == 0:
                with beside(out, durable=False, again=True) as folder:
                    put(folder / "other", [b""])
                    os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        elif meanwhile == "builds fail":
            with pytest.raises(ZeroDivisionError), beside(out, durable=False, again=True):
                raise ZeroDivisionError
        elif meanwhile == "copies":
            for folder in tmp_path.glob("*.new-*"):
                shutil.copytree(folder, tmp_path / "copy")
                shutil.rmtree(folder)
                (tmp_path / "copy").rename(folder)
    assert again >= 3 or meanwhile == "builds fail"


@pytest.mark.parametrize("ago_s", [site_module.PATIENCE_S, site_module.PATIENCE_S - 5, 0, -3600])
def test_a_folder_is_filled_again_only_if_nobody_can_still_fetch_what_is_in_it(tmp_path: Path, ago_s: int) -> None:
    """Whoever reads that site began before the last switch but one: if the last was just now, or the clock was set
    back, the build fills an empty folder, and the next one too."""
    out = tmp_path / "site"
    for _ in range(3):
        with beside(out, durable=False, again=True) as folder:
            assert not any(folder.iterdir())
            put(folder / "a page", [b""])
    then_ns = out.lstat().st_mtime_ns - ago_s * 1_000_000_000
    os.utime(out, ns=(then_ns, then_ns), follow_symlinks=False)
    with beside(out, durable=False, again=True) as folder:
        assert any(folder.iterdir()) is (ago_s >= site_module.PATIENCE_S)


def test_a_file_is_written_into_only_where_nobody_else_has_it(tmp_path: Path) -> None:
    """A long one, one of two names, one whose rights somebody has changed, and a link to another are replaced by a new
    one; so is everything where the file system does not count names."""
    page, other, long = tmp_path / "page", tmp_path / "other", b"x" * (site_module.WRITTEN_INTO + 1)
    like = site_module.probed(tmp_path)
    assert like is not None and not any(tmp_path.iterdir())

    def replaces(*parts: bytes, like: os.stat_result | None = like) -> bool:
        before = page.open("rb") if page.is_file() else None  # so that no new file is given its inode
        put(page, parts, like)
        assert page.read_bytes() == b"".join(parts) and not page.is_symlink()
        return before is not None and os.fstat(before.fileno()).st_ino == page.stat().st_ino

    assert not replaces(b"one", b" long")
    assert replaces(b"short")
    assert not replaces(b"a new one", like=None)
    page.chmod(0o600)
    assert not replaces(b"for all") and page.stat().st_mode == like.st_mode
    other.hardlink_to(page)
    assert not replaces(b"of this site") and other.read_bytes() == b"for all"
    assert replaces(long) and not replaces(b"new")
    page.unlink()
    page.symlink_to(other)
    assert not replaces(b"mine") and other.read_bytes() == b"for all"
    page.unlink()
    os.mkfifo(page)
    assert not replaces(b"mine")


def test_no_file_is_written_into_where_names_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems have no hard links, others say 1 of a file with two names."""

    def refused(path: Path, target: Path) -> None:
        raise OSError(1, "Operation not permitted")

    def copied(path: Path, target: Path) -> None:
        path.write_bytes(target.read_bytes())

    for link in (refused, copied):
        monkeypatch.setattr(Path, "hardlink_to", link)
        assert site_module.probed(tmp_path) is None and not any(tmp_path.iterdir())


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("spare", ["cannot be filled", "a file", "a link to nowhere", "a link to another site", "gone"])
def test_a_folder_that_cannot_be_filled_stops_no_build_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: str
) -> None:
    """As one that another user owns, which can neither be filled nor be deleted."""
    out = tmp_path / "site"
    for _ in range(3):
        with beside(out, durable=False, again=True) as folder:
            put(folder / "a page", [b""])
    found, current = tmp_path / (tmp_path / "site.lock").read_text().partition("\n")[2], out.resolve()
    if spare == "cannot be filled":
        monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
        with pytest.raises(PermissionError), beside(out, durable=False, again=True) as folder:
            assert folder.stat().st_ino and (folder / "a page").exists()
            raise PermissionError
    else:
        shutil.rmtree(found)
        if spare == "a file":
            found.write_bytes(b"")
        elif spare != "gone":
            found.symlink_to(current if spare == "a link to another site" else tmp_path / "nowhere")
    for _ in range(2):
        with beside(out, durable=False, again=True) as folder:
            assert not any(folder.iterdir()) or spare != "cannot be filled"
            put(folder / "another", [b""])
        assert out.resolve() == folder and [path.name for path in current.iterdir()] == ["a page"]


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("refused", ["the lock is not written", "a folder is not listed"])
def test_what_the_system_refuses_publishes_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """A disk that is full just after the switch: the site is there, and what is older goes. A folder that cannot be
    looked into: what is in it might be of another build."""
    out, listed = tmp_path / "site", os.scandir

    def full(file: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    def scandir(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    if refused == "the lock is not written":
        monkeypatch.setattr(os, "write", full)
        for _ in range(4):
            with beside(out, durable=False, again=True) as folder:
                put(folder / "a page", [b""])
            assert out.resolve() == folder and len(list(tmp_path.glob("site.new-*"))) <= 2
    else:
        (tmp_path / "closed").mkdir()
        monkeypatch.setattr(os, "scandir", scandir)
        with pytest.raises(PermissionError):
            site_module._Made(tmp_path).sweep()


def test_ctrl_c_as_the_link_is_renamed_deletes_no_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link leads to the new site by then."""
    out, renamed = tmp_path / "site", Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        renamed(self, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), beside(out, durable=False) as folder:
        put(folder / "a page", [b""])
    assert (out / "a page").exists()


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("builds", [1, 3])
def test_a_build_that_fails_leaves_the_site_as_it_was(
    brief: Any,
    city: City,
    streets: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    replaced: list[str],
    builds: int,
) -> None:
    """A full disk in the middle of a build, of one that fills a folder again too: the old site stays with the one
    before it, and the half one is gone."""
    out = tmp_path / "site"
    for minute in range(builds):
        build(brief, city, out, streets.NOW_S + minute)
    before, spare = out.resolve(), (tmp_path / "site.lock").read_text().partition("\n")[2]

    def all_of() -> dict[str, bytes]:
        folders = [folder for folder in tmp_path.glob("site.new-*") if folder.name != spare]
        return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}

    old = all_of()

    def full(path: str | Path, parts: Iterable[bytes], like: os.stat_result | None = None) -> None:
        if str(path).endswith("/index.html") and "/gare/" in str(path):
            raise OSError(28, "No space left on device")
        put(path, parts, like)

    monkeypatch.setattr(site_module, "put", full)
    with pytest.raises(OSError, match="No space left"):
        build(brief, city, out, streets.NOW_S + 60)
    assert out.resolve() == before and all_of() == old and bool(replaced) is (builds > 1)
    assert len(list(tmp_path.glob("site.new-*"))) == min(builds, 2)


def test_cyclic_garbage_is_looked_for_seldom_while_a_site_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """And as often as before afterwards, also where the build fails."""
    before = gc.get_threshold()
    with pytest.raises(OSError, match="full"), site_module.seldom_collected():
        assert gc.get_threshold() == site_module.SELDOM
        raise OSError("full")
    assert gc.get_threshold() == before


def test_a_folder_with_something_else_in_it_is_left_alone(
    brief: Any, city: City, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """A typing error in --out costs nobody their files; an empty folder becomes the site."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear")
    with pytest.raises(SiteError, match="holds something that is no site; name a new or empty folder") as caught:
        build(brief, city, tmp_path / "home", streets.NOW_S)
    assert isinstance(caught.value, MurmureError) and caught.value.exit_status == 1
    assert (tmp_path / "home/letter.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    build(brief, city, tmp_path / "empty", streets.NOW_S)
    assert (tmp_path / "empty/index.html").is_file()


def test_the_site_can_be_moved(site: Path, tmp_path: Path) -> None:
    """The link is relative: the folder that holds it may be copied or mounted elsewhere."""
    assert not site.readlink().is_absolute()


def test_older_months_are_written_once_and_kept(city: City, streets: SimpleNamespace, tmp_path: Path) -> None:
    """A month that was closed stays as it was, also where the archive has lost it; on a first build it is written from
    the archive."""
    street = streets.Street()
    old = streets.PARIS.day(streets.NOW_S - 40 * 86_400)
    streets.add(street, "plaza", old, now_s=streets.NOW_S)
    streets.add(street, "alley", streets.PARIS.day(streets.NOW_S), now_s=streets.NOW_S)
    out = tmp_path / "site"
    build(street, city, out, streets.NOW_S)
    kept = out / "donnees/releases-2026-10.csv"
    first = kept.read_bytes()
    assert first.count(b"\r\n") > 100
    build(streets.Street(), city, out, streets.NOW_S + 900)
    assert kept.read_bytes() == first
    assert (out / "donnees/releases-2026-10.csv.gz").is_file()


def test_a_week_that_ends_in_the_next_month_still_mends_the_last_one(
    city: City, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """The node of a week moves its days until Sunday is over: the file of their month is final on the Monday after."""
    week = streets.PARIS.node("1w", 1_796_140_800)
    street = streets.Street()
    weeks = (('"1d" = 1 }', '"1d" = 1, "1w" = 1 }'),)
    streets.add(street, "plaza", week, now_s=week.end_s, streams=("footfall",), swap=weeks)
    november = tmp_path / "site/donnees/releases-2026-11.csv"
    build(street, city, tmp_path / "site", week.end_s - 900)
    assert {row["state"] for row in rows(november)} == {"provisional"}
    build(street, city, tmp_path / "site", week.end_s + 900)
    assert {row["state"] for row in rows(november)} == {"final"}


def test_an_empty_archive_makes_a_site_that_says_so(city: City, streets: SimpleNamespace, tmp_path: Path) -> None:
    """The day before the first reading there is a page, no error and no zero."""
    report = build(streets.Street(), city, tmp_path / "site", streets.NOW_S)
    assert isinstance(report, BuildReport) and report.pages == len(list(all_pages(tmp_path / "site")))
    text = (tmp_path / "site/quartiers/centre/index.html").read_text(encoding="utf-8")
    assert "<h2>Encore sans données</h2>" in text


def test_a_level_beyond_the_bins_has_a_bound_and_no_estimate_in_the_file(site: Path) -> None:
    """Where L10, L50 or L90 may lie in the first or the last bin, which hold all that is beyond, the interval has no
    such end, and there is no estimate; every other level keeps all three."""
    edges = {"ci95_low": "35", "ci95_high": "85"}
    seen = {"bound": 0, "whole": 0}
    for row in of_town(site):
        if row["indicator"] in ("l10_db", "l50_db", "l90_db"):
            assert all(row[key] != edge for key, edge in edges.items())
            open_ended = "" in (row["ci95_low"], row["ci95_high"])
            assert (row["estimate"] == "") == open_ended
            seen["bound" if open_ended else "whole"] += 1
        elif row["status"] == "released":
            assert row["estimate"] != ""
    assert min(seen.values()) > 0
