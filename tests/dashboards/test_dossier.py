"""The file for the data protection officer: its numbers are those of the other pages, its proofs exist, and what nobody
has decided is said to be open."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from html import unescape
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from murmure.cli import build_parser, main
from murmure_dashboards import dossier, dossier_facts, maker_privacy
from murmure_dashboards.config import City
from murmure_dashboards.dossier_facts import Settings
from murmure_dashboards.wording import LANGUAGES, Language, language
from murmure_ingest import gateways
from murmure_ingest.archive import Archive
from murmure_ingest.config import IngestConfig
from murmure_ingest.intake import Intake
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.plan import plan
from murmure_privacy.policy import parse
from murmure_privacy.preview import ladder, sheet, site_ladder
from murmure_privacy.release import Message, Outcome
from murmure_privacy.window import utc
from pypdf import PdfReader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
OWN_CHECKS = (HERE / "own_checks.js").read_text(encoding="utf-8")
CITY = HERE / "city.toml"
JUDGES = Path(sys.prefix) / "pages-judges" / "node_modules"
PLACEHOLDER = re.compile(r"\{[^}]*\}|\bTODO\b|\bXXX\b|\bN/A\b|_{3,}|\.{4,}|\[\s*\]|\bNone\b|[Ll]orem")
TABLE = r'<caption id="{name}">.*?</table>'


@pytest.fixture(scope="module")
def filed(streets: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the town, each place with its gateway; `station` has been silent for two days, and a stranger has
    written rubbish."""
    folder = tmp_path_factory.mktemp("filed")
    config = IngestConfig(data_dir=folder)
    archive = Archive.open(config.archive)
    steward, public = wire.new_key()
    intake = Intake(archive, RuleBook(archive), lambda: 1 << 40)
    town, now_s = streets.town(), streets.NOW_S
    for signed in town.policies():
        site = signed.site
        quartier = next(info.quartier for info in town.infos if info.site == site)
        gateways.enrol_local(
            archive,
            config,
            folder / site,
            gateway=f"gw-{site}",
            site=site,
            quartier=quartier,
            stewards=[public],
            policies=[wire.seal_policy(signed.toml, [("s", steward)])],
        )
        secret = bytes.fromhex((folder / site / "data" / "record.key").read_text())
        until_s = now_s - (2 * 86_400 if site == "station" else 0)
        closing: dict[int, list[Outcome]] = {}
        for info in town.infos:
            for one in town.outcomes(info.stream, 0, until_s) if info.site == site else ():
                if one.node.end_s <= until_s:
                    closing.setdefault(one.node.end_s, []).append(one)
        before = wire.FIRST_PREVIOUS
        for seq, (end_s, members) in enumerate(sorted(closing.items()), 1):
            sealed = wire.seal_message(
                Message(f"gw-{site}", quartier, site, 1, seq, before, end_s, tuple(members)), secret
            )
            before = wire.digest(sealed)
            intake.accept(f"murmure/v1/{quartier}/gw-{site}/release", sealed)
    intake.accept_many([("murmure/v1/x/gw-nobody/release", b"rubbish")] * 37)
    archive.close()
    return config.archive


@pytest.fixture(scope="module")
def read(filed: Path) -> Iterator[Archive]:
    archive = Archive.open(filed, read_only=True)
    yield archive
    archive.close()


SETTINGS = Settings({"refused_days": 90, "health_days": 365}, "series.example")


@pytest.fixture(scope="module")
def facts(read: Archive, city: City, site: Path, streets: Any) -> dossier_facts.Facts:
    return dossier_facts.look(read, city, streets.NOW_S, SETTINGS, site)


@pytest.fixture(scope="module")
def written(
    read: Archive, city: City, site: Path, streets: Any, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, str]:
    """The file in each language."""
    out = tmp_path_factory.mktemp("dossier")
    paths, _ = dossier.build(read, city, out, streets.NOW_S, SETTINGS, site)
    assert [path.name for path in paths] == ["dossier.fr.html", "dossier.en.html"]
    return {code: path.read_text("utf-8") for code, path in zip(LANGUAGES, paths, strict=True)}


def text_of(page: str) -> str:
    """Returns what is read on a page."""
    body = re.sub(r"(?s)<style>.*?</style>", " ", page)
    plain = unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))
    return re.sub(r" +", " ", plain.replace("\u00a0", " ").replace("\u202f", " "))


def cells(page: str, name: str) -> list[list[str]]:
    """Returns the rows of a table, cell by cell."""
    found = re.search(TABLE.format(name=name), page, re.DOTALL)
    assert found, name
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", found[0], re.DOTALL)
    return [[text_of(one).strip() for one in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows]


def up(value: Decimal) -> Decimal:
    """Returns a number rounded up to three figures."""
    return value.quantize(Decimal(1).scaleb(value.adjusted() - 2), ROUND_CEILING).normalize()


def said(say: Language, value: Decimal) -> str:
    return say.number(value).replace("\u202f", " ")


def loaded(name: str) -> ModuleType:
    """Returns a file of tests beside this one, for what it can do."""
    spec = importlib.util.spec_from_file_location(f"dossier_{name}", HERE / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# --- numbers ----------------------------------------------------------------------------------------------------------


def wrong_rungs(
    rows: Sequence[Sequence[str]], rungs: Sequence[Mapping[str, Any]], first: str, say: Language
) -> list[str]:
    """Returns the cells of a table that do not say the epsilon of `policy preview`, rounded up to three figures;
    `first` is what the cell of one unit on one day says."""
    shown = [cell.partition(":")[0].strip() for row in rows[1:] for cell in row[1:]]
    true = [said(say, up(Decimal(str(rung["epsilon"])))) for rung in rungs]
    return [f"{cell} for {value}" for cell, value in zip(shown, [first, *true[1:]], strict=True) if cell != value]


@pytest.mark.parametrize("code", LANGUAGES)
def test_ladders_say_what_preview_and_studio_say(
    written: Mapping[str, str], facts: dossier_facts.Facts, code: str
) -> None:
    """Each epsilon of each table is that of the one ladder, for the series alone and for a place together."""
    say, page = language(code), written[code]
    policy = facts.live["plaza"]
    made = plan(policy)
    for group in facts.groups:
        first = said(say, group.part.epsilon.normalize())
        assert wrong_rungs(cells(page, "t-0"), ladder(group.plan), first, say) == []
    together = site_ladder(made)
    assert wrong_rungs(cells(page, "t-1"), together, said(say, up(Decimal(str(together[0]["epsilon"])))), say) == []
    assert 'id="t-2"' not in page
    # Broken twin: one weight more in the policy, and the table is no longer right.
    other = plan(replace(policy, streams=(replace(policy.streams[0], epsilon=Decimal("1.1")), *policy.streams[1:])))
    assert len(wrong_rungs(cells(page, "t-1"), site_ladder(other), "", say)) == 16


def test_what_is_allowed_and_spent_is_what_the_privacy_page_says(written: Mapping[str, str], site: Path) -> None:
    """The first column of the table is the page's « Permis »; what was spent together stands there word for word."""
    page = written["fr"]
    alone = [row[1] for row in cells(page, "t-0")[1:]]
    public = (site / "vie-privee" / "plaza" / "index.html").read_text("utf-8")
    rows = re.findall(r'<tr><th scope="row">[^<]*</th><td>([^<]*)</td><td>[^<]*</td><td>[^<]*</td></tr>', public)
    assert [cell.partition(" :")[0] for cell in alone] == [text_of(one) for one in rows[:4]]
    lines = re.findall(r"<li>[^<]*ε\s=\s([^<]*?), on devine juste ([^.<]*)\.</li>", public)
    assert len(lines) == 4
    told = next(row for row in cells(page, "t-depense") if row[0] == "Place de la République")
    assert told[1:] == [f"{text_of(epsilon)} : {text_of(words)}" for epsilon, words in lines]


def test_a_place_with_two_series_of_one_quantity_is_named_once(facts: dossier_facts.Facts) -> None:
    """Both are counted and what the town says of both devices stands there; the others are not told to have them."""
    policy = facts.live["plaza"]
    footfall = next(part for part in policy.streams if part.quantity.name == "footfall")
    two = replace(policy, streams=(*policy.streams, replace(footfall, id="plaza/footfall_2")))
    noise_alone = replace(facts.live["station"], streams=facts.live["station"].streams[1:2])
    sites = []
    for one in facts.city.site:
        sensors = one.sensor
        if one.id == "plaza":
            first = next(sensor for sensor in sensors if sensor.stream == "plaza/footfall")
            sensors = (*sensors, replace(first, stream="plaza/footfall_2", leaves="Un second compte."))
        sites.append(replace(one, sensor=sensors))
    city = replace(facts.city, site=tuple(sites))
    live = {"plaza": two, "station": noise_alone}
    groups = dossier_facts._groups(city, live)
    page = dossier.Told(language("fr"), replace(facts, city=city, live=live, groups=groups)).page().decode()
    rows = {row[0]: row[1:] for row in cells(page, "t-series")[1:]}
    assert rows["Passages"][0] == "Place de la République"
    assert "Un second compte." in rows["Passages"][2] and "brouillés" in rows["Passages"][2]
    assert "Tous les lieux" not in text_of(page)
    assert "5 séries" in text_of(page)


def test_margins_are_those_of_preview(written: Mapping[str, str], facts: dossier_facts.Facts) -> None:
    """The printed figure of each interval, rounded up."""
    shown = [row[3] for row in cells(written["en"], "t-marges")[1:]]
    true = [
        node["error_95"]
        for group in facts.groups
        for node in sheet(group.policy, group.plan, ())["nodes"]
        if node["indicator"] == group.quantity.printed
    ]
    assert len(shown) == len(true) > 6
    for cell, value in zip(shown, true, strict=True):
        number = float(cell.split()[1])
        assert value <= number <= value * 1.01, (cell, value)


def test_the_day_is_counted_as_the_archive_has_it(
    written: Mapping[str, str], read: Archive, streets: Any, facts: dossier_facts.Facts
) -> None:
    """Place by place: who spoke, series, messages, figures with and without values; a silent place has none."""
    now_s = streets.NOW_S
    rows = {row[0]: row[1:] for row in cells(written["en"], "t-carte")[1:]}
    for site, name in (("plaza", "Place de la République"), ("alley", "Passage des Tanneurs")):
        inside = [
            one
            for stream, of in facts.site_of.items()
            if of == site
            for one in read.outcomes(stream, now_s - 2 * 86_400, now_s)
            if now_s - 86_400 < one.node.end_s <= now_s
        ]
        withheld = sum(hasattr(one, "reason") for one in inside)
        last = read.progress()[f"gw-{site}"][0]
        assert rows[name] == [
            "1 of 1",
            str(len({one.node.stream for one in inside})),
            str(len({one.node.end_s for one in inside})),
            str(len(inside) - withheld),
            str(withheld),
            str(last),
            "0",
        ]
    assert rows["Parvis de la gare"][:5] == ["0 of 1", "0", "0", "0", "0"]
    text = text_of(written["en"])
    assert "2 spoke, of 3" in text and "Messages refused since the beginning: 37." in text
    held = {tuple(row[:1]): row[1:] for row in cells(written["en"], "t-garde")[1:]}
    assert sum(int(row[2].replace(",", "")) + int(row[3]) for row in held.values()) == read.node_count()


def test_the_criteria_count_the_cells_that_promise_nothing(facts: dossier_facts.Facts) -> None:
    """So many cells of all tables say « presque toujours », one table for each series and each place."""
    told = dossier.Told(language("fr"), facts)
    ladders = [told._rungs([group.rule]) for group in facts.groups] + [told._rungs(one) for one, _ in told._together()]
    every = [risk.guesses for rungs in ladders for row in rungs for risk in row]
    lost = sum(one > maker_privacy.NEARLY_ALL for one in every)
    assert 0 < lost < len(every) and len(every) == 16 * len(ladders)
    assert f"dans {lost} cases sur {len(every)} des tableaux" in text_of(told.page().decode())
    strict = replace(facts, groups=[replace(facts.groups[0], part=replace(facts.groups[0].part, epsilon=Decimal(1)))])
    assert "Le critère n’est pas tenu" in text_of(dossier.Told(language("fr"), strict).page().decode())


# --- what is said, and what is left open ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_place_is_left_to_fill(written: Mapping[str, str], code: str) -> None:
    """Nor does a cell say nothing: what the town has to decide is said in words."""
    page = written[code]
    assert PLACEHOLDER.findall(text_of(page)) == []
    for name in re.findall(r'<caption id="([^"]+)">', page):
        rows = cells(page, name)
        assert len({len(row) for row in rows}) == 1, name
        empty = [row for row in rows for cell in (row[:-1] if name in ("t-fiche", "t-risques") else row) if not cell]
        assert empty == [], name
    assert "brouillon" in text_of(page) if code == "fr" else "no legal advice" in text_of(page)


def test_a_place_to_fill_is_found() -> None:
    """Broken twins of the search."""
    for text in ("ε = {epsilon}", "à compléter : ____", "TODO", "Contact : None", "nom : ......"):
        assert PLACEHOLDER.search(text), text


def test_both_languages_tell_the_same(written: Mapping[str, str]) -> None:
    """The same tables with as many rows, the same numbers in them."""
    names = [re.findall(r'<caption id="([^"]+)">', written[code]) for code in LANGUAGES]
    assert names[0] == names[1] and len(names[0]) >= 10
    for name in names[0]:
        french, english = (cells(written[code], name) for code in LANGUAGES)
        assert [len(row) for row in french] == [len(row) for row in english], name
    numbers = [[re.sub(r"\D", "", cell) for row in cells(written[code], "t-1") for cell in row] for code in LANGUAGES]
    assert numbers[0][5:] == numbers[1][5:]


def test_what_is_undecided_is_said(read: Archive, city: City, streets: Any) -> None:
    """What city.toml and ingest.toml lack is on the list by name; what they have is not."""
    look = dossier_facts.look(read, city, streets.NOW_S, None, None)
    keys = dict(dossier_facts.undecided(look))
    assert keys["basis"] == ["Parvis de la gare", "Passage des Tanneurs"] and keys["end"] == ["Passage des Tanneurs"]
    assert "config" in keys and not {"rule", "unlisted", "answer", "postal", "kept"} & set(keys)
    text = text_of(dossier.Told(language("en"), look).page().decode())
    assert 'The command has not read "ingest.toml".' in text and "give the folder of the site with --site" in text
    poor = replace(city, site=city.site[:1], answer_days=None, postal="", phone="")
    settings = Settings({}, "")
    bare = dossier_facts.look(read, poor, streets.NOW_S, settings, None)
    keys = dict(dossier_facts.undecided(bare))
    assert keys["unlisted"] == ["alley", "station"] and {"answer", "postal", "kept"} <= set(keys)
    text = text_of(dossier.Told(language("en"), bare).page().decode())
    assert "No mirror is set" in text and "Refused messages: for ever." in text and PLACEHOLDER.findall(text) == []


def test_a_rule_that_is_over_is_no_rule(read: Archive, city: City, streets: Any) -> None:
    """After its last day nothing of it is promised: the file says that it is over, and what the town has to do."""
    late = dossier_facts.look(read, city, streets.NOW_S + 2 * 366 * 86_400, None, None)
    assert late.groups == [] and dict(dossier_facts.undecided(late))["rule"] == [one.name for one in city.site]
    text = text_of(dossier.Told(language("en"), late).page().decode())
    assert "policy 7, ended on 30 November 2027: nothing is published any more" in text
    assert PLACEHOLDER.findall(text) == [] and "No policy is in force" in text


def test_a_rule_that_is_to_come_is_told_as_such(read: Archive, city: City, streets: Any) -> None:
    """Officers ask before it begins: its numbers are there, and the file says from when on it holds."""
    early = dossier_facts.look(read, city, streets.NOW_S - 366 * 86_400, None, None)
    assert set(early.live) == {one.id for one in city.site} and "rule" not in dict(dossier_facts.undecided(early))
    text = text_of(dossier.Told(language("en"), early).page().decode())
    assert "policy 7, to come: from 1 January 2026 to 30 November 2027" in text and "policy 7: from" not in text
    assert PLACEHOLDER.findall(text) == []


def test_a_policy_with_a_limit_and_a_pause_says_so(facts: dossier_facts.Facts, city: City) -> None:
    """Sounds above `up_to` are named among what is not protected; a pause stands beside the place."""
    noise = next(group for group in facts.groups if group.quantity.kind == "level")
    limited = replace(noise, part=replace(noise.part, up_to=750))
    paused = replace(facts.held["plaza"].policies[0], paused=True)
    held = {**facts.held, "plaza": replace(facts.held["plaza"], policies=(paused,))}
    text = text_of(dossier.Told(language("fr"), replace(facts, groups=[limited], held=held)).page().decode())
    assert "tout son pendant que l’appareil montre plus de 75 dB" in text and "suspendu par la règle 7" in text


def test_what_towns_and_stewards_type_is_inert(facts: dossier_facts.Facts) -> None:
    """A name with markup is a name."""
    evil = "<script>alert(1)</script>\"&'"
    first = replace(facts.city.site[0], name=evil, owner=evil, contact=evil, purpose=evil, legal_basis=evil, until=None)
    city = replace(facts.city, city=evil, publisher=evil, help=evil, postal=evil, site=(first, *facts.city.site[1:]))
    policy = replace(facts.held["plaza"].policies[0], decision=evil, reason=evil)
    held = {**facts.held, "plaza": replace(facts.held["plaza"], policies=(policy,))}
    groups = [replace(one, sites=[first]) for one in facts.groups]
    for code in LANGUAGES:
        page = dossier.Told(language(code), replace(facts, city=city, held=held, groups=groups)).page().decode()
        assert "<script" not in page and page.count("&lt;script&gt;") > 8


# --- evidence ---------------------------------------------------------------------------------------------------------


def commands() -> set[str]:
    """Returns every command that there is."""
    found: set[str] = set()

    def walk(parser: Any) -> None:
        found.add(parser.prog)
        for action in parser._actions:
            for one in getattr(action, "choices", None) or ():
                if hasattr(action.choices, "items"):
                    walk(action.choices[one])

    walk(build_parser())
    return found


def unproved(named: Mapping[str, Mapping[str, Sequence[str]]], runs: set[str], site: Path) -> set[str]:
    """Returns the claims with a proof that is not there, or without a test."""
    known = commands()
    return {
        key
        for key, shown in named.items()
        if not shown.get("tests")
        or not set(shown["tests"]) <= runs
        or not set(shown.get("commands", ())) <= known
        or not all((ROOT / file).is_file() for file in shown.get("documents", ()))
        or not all(
            (site / page[1:]).is_file() or (site / page[1:] / "index.html").is_file() for page in shown.get("pages", ())
        )
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The tests that run, of all files that a claim names."""
    files = {test.partition("::")[0] for shown in dossier.evidence().values() for test in shown["tests"]}
    found: set[str] = loaded("test_cannot").that_run(sorted(files), tmp_path_factory.mktemp("collected"))
    return found


def test_each_claim_has_proofs_that_exist(runs: set[str], site: Path, written: Mapping[str, str]) -> None:
    """Tests that are collected, commands, pages of the built site, documents; every claim of the catalogue, no other,
    and each is led to."""
    claims = {key.removeprefix("dossier.claim_") for key in language("fr").texts if key.startswith("dossier.claim_")}
    assert set(dossier.evidence()) == claims and unproved(dossier.evidence(), runs, site) == set()
    links = re.findall(r'href="#([^"]+)"', written["fr"])
    assert [link for link in links if f'id="{link}"' not in written["fr"]] == []


def test_a_proof_that_is_not_there_is_found(runs: set[str], site: Path) -> None:
    """A test with another name, no test, a command, a page and a document that nobody has."""
    good = dossier.evidence()["sums"]
    broken: dict[str, Mapping[str, Sequence[str]]] = {
        "renamed": {**good, "tests": ["tests/dashboards/test_privacy_page.py::test_gone"]},
        "none": {**good, "tests": []},
        "command": {**good, "commands": ["murmure policy swear"]},
        "page": {**good, "pages": ["/serment/"]},
        "document": {**good, "documents": ["docs/oath.md"]},
    }
    assert unproved({**broken, "good": good}, runs, site) == set(broken)


# --- the command ------------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    status = main(["policy", "dossier", *map(str, args)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_writes_both_and_tells_programs(
    filed: Path, site: Path, streets: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the settings of a centre and its site; a second time it writes the same."""
    settings = tmp_path / "ingest.toml"
    settings.write_text(
        f'data_dir = "{filed.parent}"\n[broker]\nhost = "127.0.0.1"\nport = 1883\n[retention]\nrefused_days = 90\n'
        '[mirror]\nurl = "http://127.0.0.1:8428"\n'
    )
    args = ("--archive", filed, "--city", CITY, "--out", tmp_path / "out", "--now", utc(streets.NOW_S))
    more = ("--config", settings, "--site", site)
    status, out, err = run(capsys, *args, *more)
    files = [tmp_path / "out" / f"dossier.{code}.html" for code in LANGUAGES]
    assert (status, out.split(), err) == (0, [str(file) for file in files], "")
    before = [file.read_bytes() for file in files]
    status, out, err = run(capsys, *args, *more, "--json")
    told = json.loads(out)
    assert told["files"] == [str(file) for file in files] and {"role", "due", "basis"} <= set(told["undecided"])
    assert [file.read_bytes() for file in files] == before
    text = text_of(before[0].decode())
    assert "Messages refusés : 90 jours." in text and "mêmes chiffres brouillés : 127.0.0.1." in text


def test_what_is_missing_is_one_line(
    filed: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No archive, no description of the town, no site, no policy, a folder that is public."""
    good = {"--archive": filed, "--city": CITY, "--out": tmp_path / "out", "--lang": "en"}
    Archive.open(tmp_path / "empty.db").close()
    for option, value, words, status in (
        ("--archive", tmp_path / "none.db", "there is no such file", 2),
        ("--archive", tmp_path / "empty.db", "policies: none; publish one first", 1),
        ("--city", tmp_path / "none.toml", "none.toml", 2),
        ("--config", tmp_path / "none.toml", "none.toml", 2),
        ("--site", tmp_path, "holds no published site", 2),
        ("--now", "tomorrow", "is no instant", 2),
        ("--out", site / "dossier", "is the public site", 1),
    ):
        args = [part for pair in (good | {option: value}).items() for part in pair]
        found, out, err = run(capsys, *args)
        assert (found, out) == (status, ""), (option, err)
        assert err.startswith("murmure: ") and err.count("\n") == 1 and words in err, err
    assert not (tmp_path / "out").exists()
    bare = good | {"--archive": tmp_path / "empty.db", "--lang": "fr"}
    _, _, err = run(capsys, *(part for pair in bare.items() for part in pair))
    assert "règles : aucune ; publiez-en une d'abord" in err


FRENCH = [
    ("--archive", "none.db", "", "none.db : archive : ce fichier n'existe pas ; donnez l'archive.db du data_dir"),
    ("--archive", "text.db", "no database", "archive : le fichier est abîmé (file is not a database) ; restaurez-le"),
    ("--city", "none.toml", "", "none.toml : fichier : ce fichier n'existe pas ; donnez un city.toml qui existe"),
    ("--city", "c.toml", "city = 1", "c.toml : timezone : manque ; écrivez un texte entre guillemets droits"),
    ("--city", "c.toml", "city = ", "c.toml : fichier : ce n'est pas du TOML ; corrigez cette ligne"),
    ("--city", "c.toml", "citi = 1", "c.toml : citi : clé inconnue ; écrivez l'un de city, timezone, help"),
    ("--config", "none.toml", "", "none.toml : fichier : ce fichier n'existe pas ; copiez ingest.example.toml"),
    ("--config", "i.toml", "", "i.toml : data_dir : il manque un dossier ; écrivez data_dir = "),
    (
        "--config",
        "i.toml",
        'data_dir = "x"\n[retention]\nrefused_days = 0',
        "retention.refused_days : 0 ne convient pas",
    ),
    ("--now", "demain", "", "policy dossier : --now : 'demain' n'est pas un instant ; écrivez 2026-11-21T15:15:00Z"),
]


@pytest.mark.parametrize(("option", "value", "text", "line"), FRENCH, ids=[str(at) for at in range(len(FRENCH))])
def test_what_is_wrong_with_a_town_s_files_is_one_french_line(
    filed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, text: str, line: str
) -> None:
    """Unless English was asked for: whoever writes the file for the officer is no programmer."""
    if text or value == "i.toml":
        (tmp_path / value).write_text(text, "utf-8")
    given = value if option == "--now" else tmp_path / value
    args = {"--archive": filed, "--city": CITY, "--out": tmp_path / "out", "--lang": "fr"} | {option: given}
    _, out, err = run(capsys, *(part for pair in args.items() for part in pair))
    assert out == "" and err.count("\n") == 1 and line in err, err
    args["--lang"] = "en"
    assert line not in run(capsys, *(part for pair in args.items() for part in pair))[2]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('timezone = "Europe/Paris"', 'timezone = "x"', " : timezone : 'x' est inconnu ; écrivez un nom comme Europe"),
        (
            'slug = "centre"',
            'slug = "Le Centre"',
            " : quartier 1 : slug : 'Le Centre' n'est pas un nom court ; écrivez",
        ),
        ('quartier = "centre"', 'quartier = "x"', " : site 1 : quartier : 'x' n'est le nom court (slug) d'aucun [["),
        ("lat = 47.219", "lat = 47.21987", " : site 1 : lat : 47.21987 est plus précis qu'une rue ; écrivez au plus"),
        (
            'device = "TF-Luna"',
            "device = 5",
            " : site 1 : sensor 1 : device : 5 n'est pas une ligne de texte ; écrivez",
        ),
        ("until = 2027-11-30", 'until = "x"', " : site 1 : until : 'x' n'est pas une date ; écrivez une date comme"),
    ],
)
def test_what_is_wrong_in_city_toml_is_said_in_french(
    filed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, line: str
) -> None:
    """With the place in the file, what is wrong and what to write."""
    text = CITY.read_text("utf-8")
    assert old in text
    (tmp_path / "c.toml").write_text(text.replace(old, new, 1), "utf-8")
    args = ("--archive", filed, "--city", tmp_path / "c.toml", "--out", tmp_path / "out", "--lang", "fr")
    status, out, err = run(capsys, *args)
    assert (status, out) == (2, "") and err.startswith(f"murmure: {tmp_path / 'c.toml'}{line}"), err


# --- the draft of a policy ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def draft(read: Archive) -> bytes:
    """The next policy of plaza: half the epsilon of its footfall."""
    [published] = read.policies("plaza")
    text = published.toml.decode().replace("version = 7", "version = 8", 1).replace("epsilon = 1.0", "epsilon = 0.5", 1)
    assert text.encode() != published.toml and "version = 8" in text
    return text.encode()


def drafted(read: Archive, city: City, now_s: int, toml: bytes, site: Path | None = None) -> dossier_facts.Facts:
    given = dossier_facts.Draft(parse(toml, "draft.toml"), "draft.toml")
    return dossier_facts.look(read, city, now_s, SETTINGS, site, given)


def test_a_draft_is_told_as_one_wherever_its_numbers_stand(
    read: Archive, city: City, site: Path, streets: Any, draft: bytes, facts: dossier_facts.Facts
) -> None:
    """Its margins and odds are there, beside the policy in force, and what was kept and spent is as it was."""
    found = drafted(read, city, streets.NOW_S, draft, site)
    assert dict(dossier_facts.undecided(found))["draft"] == ["Place de la République"]
    assert "draft" not in dict(dossier_facts.undecided(facts))
    for code, said_of in (
        (
            "fr",
            ("Avec un projet de règle, qui n’est pas publié.", "projet de règle 8, non publié : du", "règle 7 : du"),
        ),
        ("en", ("With the draft of a policy, which is not published.", "draft of policy 8, not pub", "policy 7: from")),
    ):
        page = dossier.Told(language(code), found).page().decode()
        before = dossier.Told(language(code), facts).page().decode()
        text, plain = text_of(page), text_of(before)
        assert all(sentence in text for sentence in said_of), code
        assert said_of[0] not in plain and said_of[1] not in plain
        assert PLACEHOLDER.findall(text) == []
        for name in ("t-depense", "t-garde", "t-carte"):
            assert cells(page, name) == cells(before, name)
        assert cells(page, "t-marges") != cells(before, "t-marges")
        assert page.count("@top-center") == 1 and "@top-center" not in before
    names = [
        re.findall(r'<caption id="([^"]+)">', dossier.Told(language(code), found).page().decode()) for code in LANGUAGES
    ]
    assert names[0] == names[1]


def test_a_draft_that_pauses_says_so(read: Archive, city: City, streets: Any, draft: bytes) -> None:
    """It stops publication when it is published, and is no pause yet."""
    pausing = re.sub(rb"(?m)^paused = false", b"paused = true", draft)
    pausing = pausing if pausing != draft else draft.replace(b"version = 8", b"version = 8\npaused = true", 1)
    text = text_of(dossier.Told(language("fr"), drafted(read, city, streets.NOW_S, pausing)).page().decode())
    assert "projet de règle 8, non publié : il suspend la publication" in text and "suspendu par la règle" not in text


def test_before_the_first_policy_there_is_a_file_of_its_draft(
    city: City, streets: Any, draft: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The officer reads it before it is signed; the file of what is published is another one, and is not touched."""
    Archive.open(tmp_path / "archive.db").close()
    file, out = tmp_path / "plaza-8.toml", tmp_path / "out"
    file.write_bytes(draft)
    args = ("--archive", tmp_path / "archive.db", "--city", CITY, "--out", out, "--now", utc(streets.NOW_S))
    status, said, err = run(capsys, *args, "--policy", file, "--json")
    told = json.loads(said)
    assert (status, err) == (0, "") and told["undecided"][0] == "draft"
    assert told["files"] == [str(out / f"dossier-projet.{code}.html") for code in LANGUAGES]
    assert sorted(path.name for path in out.iterdir()) == ["dossier-projet.en.html", "dossier-projet.fr.html"]
    text = (out / "dossier-projet.fr.html").read_text("utf-8")
    assert 'href="dossier-projet.en.html"' in text and "projet de règle 8, non publié" in text_of(text)
    signed = tmp_path / "plaza-8.cose"
    signed.write_bytes(wire.seal_policy(draft, [("s", wire.new_key()[0])]))
    assert run(capsys, *args, "--policy", signed)[0] == 0 and (out / "dossier-projet.fr.html").read_text() == text


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("version = 8", "version = 7", "version : 7 ne vient pas après 7 ; écrivez version = 8"),
        ('"plaza', '"square', " : site : 'square' n'est l'id d'aucun [[site]] ; écrivez l'un de plaza, station, alley"),
        (
            "valid_until = 2027-11-30",
            "valid_until = 2026-11-20",
            "valid_until : 2026-11-20 est passé ; écrivez une date",
        ),
        ("epsilon", "epsilom", "clé inconnue"),
    ],
)
def test_a_draft_that_cannot_be_the_next_policy_is_refused(
    filed: Path,
    streets: Any,
    draft: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    line: str,
) -> None:
    """One line, in the steward's language, and no file."""
    (tmp_path / "d.toml").write_text(draft.decode().replace(old, new), "utf-8")
    args = ("--archive", filed, "--city", CITY, "--out", tmp_path / "out", "--now", utc(streets.NOW_S), "--lang", "fr")
    status, out, err = run(capsys, *args, "--policy", tmp_path / "d.toml")
    assert (status, out) == (2, "") and err.startswith(f"murmure: {tmp_path / 'd.toml'} : ") and line in err, err
    assert not (tmp_path / "out").exists()


def test_a_policy_that_is_published_is_no_draft(
    filed: Path, read: Archive, streets: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of what is published tells it."""
    (tmp_path / "d.toml").write_bytes(read.policies("plaza")[0].toml)
    args = ("--archive", filed, "--city", CITY, "--out", tmp_path / "out", "--now", utc(streets.NOW_S), "--lang", "fr")
    err = run(capsys, *args, "--policy", tmp_path / "d.toml")[2]
    assert err.endswith("d.toml : version : la version 7 est déjà publiée ; retirez --policy\n")


@pytest.mark.browser
@pytest.mark.parametrize("code", LANGUAGES)
def test_each_sheet_of_a_draft_says_that_it_is_one(
    browser: Browser, read: Archive, city: City, streets: Any, draft: bytes, tmp_path: Path, code: str
) -> None:
    """Sheets are read apart from each other, in a folder of papers."""
    found = drafted(read, city, streets.NOW_S, draft)
    (tmp_path / "d.html").write_bytes(dossier.Told(language(code), found).page())
    page = browser.new_page()
    page.goto(f"file://{tmp_path}/d.html")
    (tmp_path / "d.pdf").write_bytes(page.pdf(prefer_css_page_size=True))
    page.context.close()
    sheets = [re.sub(r"\s+", " ", sheet.extract_text()) for sheet in PdfReader(tmp_path / "d.pdf").pages]
    sentence = language(code)("dossier.each_sheet")
    assert len(sheets) > 5 and all(re.sub(r"\s+", " ", sentence) in sheet for sheet in sheets)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_html_validate_finds_nothing(written: Mapping[str, str], tmp_path: Path) -> None:
    """Other people's judge of HTML finds no fault in it, and finds one that is planted."""
    assert JUDGES.is_dir(), "no pages-judges in the environment: make install"
    for code, text in written.items():
        (tmp_path / f"{code}.html").write_text(text, "utf-8")
    (tmp_path / "twin.html").write_text(written["fr"].replace("</section>", "", 1), "utf-8")
    node = (f"{sys.prefix}/bin/node", f"{JUDGES}/html-validate/bin/html-validate.mjs")
    config = ("--config", str(HERE / "html-validate.mjs"), "-f", "text")
    files = sorted(map(str, tmp_path.glob("*.html")))
    done = subprocess.run([*node, *config, *files], capture_output=True, text=True, timeout=120, check=False)
    told = [line for line in done.stdout.splitlines() if ".html:" in line]
    assert [line for line in told if "twin.html" not in line] == []
    assert done.returncode == 1 and any("close-order" in line for line in told)


@pytest.fixture
def opened(browser: Browser, written: Mapping[str, str], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the file of a language from the disk."""
    found: list[Any] = []
    for code, text in written.items():
        (tmp_path / f"dossier.{code}.html").write_text(text, "utf-8")

    def opening(code: str, width: int = 1280, **settings: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, **settings)
        found.append(page)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"file://{tmp_path}/dossier.{code}.html")
        assert len(asked) == 1, asked
        return page

    yield opening
    for page in found:
        page.context.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("code", LANGUAGES)
def test_axe_and_our_own_checks_find_nothing(opened: Any, code: str, scheme: str) -> None:
    """No violation of WCAG 2.2 AA that axe knows, and the checks of the public pages, in both themes."""
    from axe_playwright_python.sync_playwright import Axe

    page = opened(code, color_scheme=scheme)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate(OWN_CHECKS, {"text": 4.5, "graphic": 3.0, "target": 24}) == []
    heads = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1])")
    assert heads.count(1) == 1 and all(after <= before + 1 for before, after in pairwise(heads))


@pytest.mark.browser
@pytest.mark.parametrize("code", LANGUAGES)
def test_it_fits_a_phone_and_a_sheet_of_paper(opened: Any, code: str) -> None:
    """At 320 px tables scroll in their own box, not the page; on A4 nothing is cut."""
    page = opened(code, width=320)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.evaluate("[...document.querySelectorAll('.wide')].every(e => e.tabIndex === 0)")
    page.set_viewport_size({"width": 688, "height": 1000})  # what the margins of A4 leave
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    cut = "[...document.querySelectorAll('.wide')].filter(e => getComputedStyle(e).overflowX !== 'visible').length"
    assert page.evaluate(cut) == 0
