"""Codes on pages: each leads to what a gateway has signed, and together they make the figure that they stand for."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from murmure.cli import main
from murmure_dashboards import codes as page_codes
from murmure_dashboards.config import City
from murmure_dashboards.site import build
from murmure_dashboards.views import view
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_privacy import codes, wire
from murmure_privacy.policies import Rules
from murmure_privacy.publication import RUNNING
from murmure_privacy.release import Noised, Outcome, Release
from murmure_privacy.sources import Site
from murmure_privacy.verify import find, verify
from murmure_privacy.verify_tables import figures
from murmure_privacy.window import utc

MONDAY_S = 1_795_392_000  # 2026-11-23 00:00 UTC
QUARTERS = 2 * 96 + 14 * 4 - 3  # until Wednesday 14:15 in Paris
SECRET, PUBLIC = wire.new_key()
GATEWAY, GATEWAY_PUBLIC = wire.new_key()
POLICY = b"""policy = 1
site = "plaza"
version = 1
timezone = "Europe/Paris"
decision = "D"
reason = "R."
valid_from = 2026-11-01
valid_until = 2027-11-30

[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = { crossings = 1 }
epsilon = 1.0
nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }

[[stream]]
id = "plaza/noise"
quantity = "noise"
protects = { seconds = 15 }
readings = { cadence_ms = 1000, tail = 2 }
epsilon = 6.0
nodes = { "1h" = 1, "1d" = 4 }
bounds_db = [35, 85]
indicators = { mean = 1, energy = 2 }

[[stream]]
id = "plaza/pm2_5"
quantity = "pm2_5"
protects = { seconds = 60 }
readings = { cadence_ms = 1000, tail = 2 }
epsilon = 2.0
nodes = { "1h" = 1 }
bounds = [0, 100]
"""
CODE = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}\b")
DAY, WEEK = "quartiers/centre/index.html", "quartiers/centre/semaine/index.html"
PAGES = (DAY, WEEK, f"en/{DAY}", f"en/{WEEK}")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, releases: ModuleType, city: City) -> Iterator[Path]:
    """The site of a town with an archive whose log is signed: two days and a half, and an hour that never came."""
    folder, draw = tmp_path_factory.mktemp("signed"), random.Random(20261127)
    archive = Archive.open(folder / "archive.db")
    gateway = releases.Gateway("gw-plaza", "centre", "plaza", GATEWAY, POLICY)
    with archive.transaction():
        line = archive.enrol(Enrolment("gw-plaza", "centre", "plaza", GATEWAY_PUBLIC, (PUBLIC,), 1))
        sealed = wire.seal_policy(POLICY, [("s", SECRET)])
        archive.put_policy(StoredPolicy(wire.digest(POLICY), "plaza", 1, POLICY, sealed))
        for number in range(1, QUARTERS + 1):
            at_s = MONDAY_S + number * 900
            outcomes = tuple(drawn(one, draw) for one in gateway.outcomes(at_s))
            # On Monday an hour was not released, and with it not its day.
            outcomes = tuple(one for one in outcomes if not lost(one))
            if outcomes:
                message = gateway.seal(at_s, outcomes=outcomes)
                archive.put(wire.open_message(message, GATEWAY_PUBLIC), message, line, "filed")
    archive.sign_log(SECRET)
    build(archive, replace(city, site=city.site[:1]), folder / "site", MONDAY_S + QUARTERS * 900)
    archive.close()
    yield folder / "site"


def drawn(outcome: Outcome, draw: random.Random) -> Outcome:
    """A truth that adds up, and noise; all were measured."""
    node = replace(outcome.node, present=20)
    seconds = node.end_s - node.start_s
    truth = {"crossings": seconds // 10, "mean": node.slots * 600, "energy": node.slots * 1_000_000}
    if not isinstance(outcome, Release):  # the last quarter of each hour, which the gateway of the tests withholds
        return replace(outcome, node=replace(node, present=3))
    return Release(
        node,
        tuple(
            Noised(
                one.indicator,
                (truth[one.indicator] + round(draw.gauss(0, one.sigma_milli / 1000)),),
                one.sigma_milli,
                one.rho_micro,
            )
            for one in outcome.noised
        ),
    )


def lost(outcome: Outcome) -> bool:
    node = outcome.node
    at_noon = MONDAY_S + 11 * 3600
    return node.start_s <= at_noon < node.end_s and node.end_s <= MONDAY_S + 86_400


def text_of(site: Path, page: str) -> str:
    return unescape((site / page).read_text(encoding="utf-8"))


def known(site: Path) -> dict[str, tuple[Any, str]]:
    """Returns node and indicator of every figure of the signed messages, by code."""
    found = {}
    for day in Site(str(site)).published().days:
        for sealed in day.read():
            for outcome in wire.open_message(sealed, GATEWAY_PUBLIC).outcomes:
                node = outcome.node
                for indicator in figures(outcome):
                    code = codes.code(node.stream, node.level, node.start_s, node.end_s, indicator)
                    found[code] = (outcome, indicator)
    return found


def test_every_code_of_every_page_leads_to_what_was_signed(signed: Path) -> None:
    """Whatever a page, sheet, feed, message or file of the site calls a code; the whole site conforms."""
    published = Site(str(signed)).published()
    assert verify(published).findings == []
    there, seen = known(signed), dict[str, set[str]]()
    for file in sorted(signed.resolve().rglob("*")):
        if file.suffix in (".html", ".txt", ".xml", ".csv") and "politiques" not in file.parts:
            found = set(CODE.findall(file.read_text(encoding="utf-8")))
            if found:
                seen[file.relative_to(signed.resolve()).as_posix()] = found
            assert found <= there.keys(), file
    assert {*PAGES, "quartiers/centre/bulletin.html", "quartiers/centre/atom.xml"} < seen.keys()
    assert {"donnees/centre-codes.csv", "donnees/centre-codes-annee.csv"} < seen.keys()
    assert len(seen[DAY]) > 40 and seen[DAY] == seen[f"en/{DAY}"] and seen[WEEK] == seen[f"en/{WEEK}"]
    for page in (DAY, WEEK, "quartiers/centre/bulletin.html"):
        code = min(seen[page])
        report, matches = find(published, code)
        assert (report.findings, [match.differs for match in matches]) == ([], [None])


@pytest.mark.parametrize("page", [DAY, WEEK])
def test_the_codes_of_a_row_make_its_figure(signed: Path, page: str) -> None:
    """Each row of a table has a line of codes; the estimates of their rows in the open data add up to its count."""
    with (signed / "donnees/centre-codes.csv").open(newline="", encoding="utf-8") as lines:
        estimates = {row["code"]: float(row["estimate"]) for row in csv.DictReader(lines) if row["estimate"]}
    compared = 0
    for story in text_of(signed, page).split("<h3>")[1:]:
        rows = dict(re.findall(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)', story))
        listed = re.search(r'<pre class="codes">[^\n]*\n(.*?)</pre>', story, re.S)
        assert listed is not None
        _, *told = (re.split("  +", line) for line in re.sub(r"\n +", " ", listed[1]).splitlines())
        figured = [name for name, cell in rows.items() if re.match(r"\d", cell)]
        assert [name for name, _ in told] == figured
        if story.startswith("Passages"):
            for name, found in told:
                number = re.match(r"[\d\s]+", rows[name])
                assert number, rows[name]
                printed = re.sub(r"\s", "", number[0])
                step = 10 ** (len(printed) - len(printed.rstrip("0")))
                together = sum(estimates[code] for code in found.split())
                assert abs(together - int(printed)) <= step / 2 + 1e-6, (name, printed, together)
                compared += 1
    assert compared >= (3 if page == WEEK else 14)


def test_the_number_above_has_its_codes_too(signed: Path) -> None:
    """Of a day so far the fewest nodes that make it, or all that follow; of a level the day's own LAeq."""
    footfall, noise, air = text_of(signed, DAY).split("<h3>")[1:4]
    listed = re.search(r"Depuis minuit((?: +\S+-\S+\n)+)", footfall)
    there = known(signed)
    assert listed is not None
    levels = [there[code][0].node.level for code in listed[1].split()]
    assert levels == ["6h", "6h", "1h", "1h", "15min"]
    assert "Depuis minuit  tous les codes qui suivent" in air and "Depuis minuit  tous les codes" in noise
    tuesday = re.search(r"mardi.24 +(\S+)\n +LAeq (\S+)", text_of(signed, WEEK).split("<h3>")[2])
    assert tuesday is not None
    assert [there[code][1] for code in tuesday.groups()] == ["level_db_mean", "laeq_db"]


def test_a_month_and_a_year_lead_to_the_codes_of_their_days(signed: Path) -> None:
    """Of a whole day the day's node, of one with a hole all nodes around it, of a level also its LAeq."""
    there = known(signed)
    with (signed / "donnees/centre-codes-annee.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        node, indicator = there[row["code"]][0].node, row["indicator"]
        assert (node.stream, node.level, there[row["code"]][1]) == (row["stream"], row["node"], indicator)
    tuesday = [row for row in rows if row["start_utc"] == "2026-11-23T23:00:00Z" and row["node"] == "1d"]
    assert [(row["stream"], row["indicator"]) for row in tuesday] == [
        ("plaza/footfall", "crossings"),
        ("plaza/noise", "level_db_mean"),
        ("plaza/noise", "laeq_db"),
    ]
    monday = [row["node"] for row in rows if row["start_utc"] < "2026-11-23T23" and row["stream"] == "plaza/footfall"]
    assert "1d" not in monday and {"1h", "6h"} <= set(monday)
    for page in ("mois", "annee"):
        text = text_of(signed, f"quartiers/centre/{page}/index.html")
        assert 'donnees/centre-codes-annee.csv" download' in text and "vie-privee/#verifier" in text


def test_the_hours_that_lden_and_what_is_usual_are_made_of_have_codes(signed: Path) -> None:
    """Of the whole evening of Monday each hour's mean energy, of the part with a hole none; of each stream the hours of
    the weeks before."""
    there = known(signed)
    with (signed / "donnees/centre-codes-heures.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        node, indicator = there[row["code"]][0].node, there[row["code"]][1]
        assert (node.stream, node.level, indicator) == (row["stream"], row["node"], row["indicator"])
    energies = [row["start_utc"] for row in rows if row["indicator"] == "energy_mean"]
    # Monday's day lacks an hour; the evening, the night after it and Tuesday's day are whole.
    assert energies == sorted({*energies}) and energies[0] == "2026-11-23T17:00:00Z"
    assert energies[:4] == [f"2026-11-23T{hour}:00:00Z" for hour in (17, 18, 19, 20)]
    assert len(energies) == 4 + 8 + 12 + 4
    hours = [row for row in rows if row["stream"] == "plaza/footfall"]
    # Six hours of which the first was before the first hour that came, and what is left of the hour that is missing.
    longer = [(row["node"], row["start_utc"]) for row in hours if row["node"] != "1h"]
    assert longer == [("6h", "2026-11-22T23:00:00Z"), *(("15min", f"2026-11-23T11:{at}:00Z") for at in (15, 30))]
    assert len(hours) - len(longer) == 23 - 1 + 24
    for page in ("annee", "mois"):
        assert 'donnees/centre-codes-heures.csv" download' in text_of(signed, f"quartiers/centre/{page}/index.html")
    assert "Lden" in text_of(signed, "quartiers/centre/annee/index.html")


def test_what_a_missing_hour_leaves_to_a_longer_node_has_a_code_too(archive: Any, streets: Any) -> None:
    """With all hours there the hours alone; without one of them also the six hours that its day comes from; without
    any, nothing that is not a part of a day."""
    info = next(info for info in archive.streams() if info.stream == "plaza/footfall")
    day = streets.PARIS.day(streets.NOW_S - 2 * 86_400)
    seen = view(archive, Rules(archive), (), info, day, streets.PARIS, streets.NOW_S)
    assert page_codes.hours(seen, day) == (("1h", day.start_s, 3600, 24),)
    gone = {("1h", day.start_s + 7 * 3600), ("1d", day.start_s)}
    fewer = replace(seen, scalar={key: one for key, one in seen.scalar.items() if key not in gone})
    after = (("6h", day.start_s + 6 * 3600, 6 * 3600, 1), ("1h", day.start_s + 8 * 3600, 3600, 16))
    assert page_codes.hours(fewer, day) == (("1h", day.start_s, 3600, 7), *after)
    lines = page_codes.run_lines(seen.stream, "crossings", page_codes.hours(fewer, day)).splitlines()
    told = {page_codes.code_of(one) for key, one in fewer.scalar.items() if key[0] in ("1h", "6h")}
    assert len(lines) == 24 and {line.partition(",")[0] for line in lines} < told
    alone = replace(seen, scalar={key: one for key, one in seen.scalar.items() if key[0] == "1d"})
    assert page_codes.hours(alone, day) == ()


def test_a_day_without_hours_has_the_codes_of_whatever_it_comes_from(archive: Any, streets: Any) -> None:
    """Of quarter-hours, or of a day that a gateway began late: no code stands beside the number of such a day, and
    sheets, feeds and messages lead to the file of the hours."""
    info = next(info for info in archive.streams() if info.stream == "plaza/footfall")
    day = streets.PARIS.day(streets.NOW_S - 2 * 86_400)
    seen = view(archive, Rules(archive), (), info, day, streets.PARIS, streets.NOW_S)
    quarters = replace(seen, scalar={key: one for key, one in seen.scalar.items() if key[0] == "15min"})
    assert page_codes.hours(quarters, day) == (("15min", day.start_s, 900, 96),)
    late = replace(seen.scalar["1d", day.start_s], covered_from_s=day.start_s + 7 * 3600)
    begun = replace(seen, scalar={("1d", day.start_s): late})
    assert page_codes.of_day(begun, day) == "" and page_codes.hours(begun, day) == (("1d", day.start_s, 86_400, 1),)


@pytest.mark.parametrize("root", ["", "en/"])
def test_the_codes_of_the_home_page_are_verified(signed: Path, capsys: pytest.CaptureFixture[str], root: str) -> None:
    """The command that the page names says « conforme » of each, and the codes of a count add up to its number."""
    page = text_of(signed, f"{root}index.html")
    listed = re.search(r'<pre class="codes">(.*?)</pre>', page, re.S)
    assert listed is not None and "murmure verify CODE" in page and "vie-privee/#verifier" in page
    told = CODE.findall(listed[1])
    counted = CODE.findall(re.split(r"Place de la République", listed[1])[1])
    assert len(told) == len(set(told)) >= 30 and len(counted) == 5
    for code in (*counted, told[-1]):
        assert main(["verify", code, "--site", str(signed)]) == 0
        said = capsys.readouterr().out
        assert said.startswith(code) and "\nCONFORME : le tableau dit ce qui est signé." in said, said
    with (signed / "donnees/centre-codes.csv").open(newline="", encoding="utf-8") as lines:
        estimates = {row["code"]: float(row["estimate"]) for row in csv.DictReader(lines) if row["estimate"]}
    number = re.search(r"<strong>([\d\s,]+)(?:passages|crossings)", page)
    assert number is not None
    assert abs(sum(estimates[code] for code in counted) - int(re.sub(r"\D", "", number[1]))) <= 5


def test_a_code_of_the_home_page_whose_value_was_changed_is_found(
    signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The twin: one figure of the tables is not what was signed."""
    site = tmp_path / "site"
    shutil.copytree(signed.resolve(), site)
    code = CODE.findall(text_of(signed, "index.html"))[0]
    outcome, indicator = known(signed)[code]
    month = site / "donnees/releases-jour-en-cours.csv"
    begin = utc(outcome.node.start_s)
    lines = month.read_text(encoding="utf-8").splitlines(keepends=True)
    at = next(
        number
        for number, line in enumerate(lines)
        if line.startswith(f"{begin},") and f",{outcome.node.level},{indicator}," in line
        if outcome.node.stream in line
    )
    value = lines[at].split(",")[7]
    lines[at] = lines[at].replace(f",{value},", f",{int(float(value)) + 1000},", 1)
    month.write_text("".join(lines), encoding="utf-8", newline="")
    assert main(["verify", code, "--site", str(site)]) == 1
    said = capsys.readouterr().out
    assert said.startswith(code) and "\nCONFORME" not in said, said
    assert "Signé par gw-plaza, message" in said and str(int(float(value)) + 1000) in said, said


@pytest.mark.parametrize("name", ["", "releases-2026-11.csv", "releases-jour-en-cours.csv"])
def test_a_built_site_conforms_and_a_row_less_on_either_side_of_midnight_is_found(
    signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The month as it is built ends at midnight, the day that runs has its own file: all of what was signed stands in
    the two. `name`: the file that loses a row, "" for none."""
    site = tmp_path / "site"
    shutil.copytree(signed.resolve(), site)
    tables = [
        (site / "donnees" / file).read_text("utf-8")
        for file in ("releases-2026-11.csv", RUNNING.removeprefix("donnees/"))
    ]
    days = [{line[:13] for line in table.splitlines()[1:]} for table in tables]
    assert max(days[0]) < "2026-11-24T23" <= min(days[1])
    if name:
        lines = (site / "donnees" / name).read_bytes().splitlines(keepends=True)
        at = next(number for number, line in enumerate(lines) if b",1h,crossings," in line)
        (site / "donnees" / name).write_bytes(b"".join([*lines[:at], *lines[at + 1 :]]))
    status = main(["verify", str(site), "--all", "--json"])
    told = json.loads(capsys.readouterr().out)
    found = {one["kind"] for one in told["findings"]}
    assert status == (1 if name else 0)
    assert found >= ({"row_missing"} if name else set()) and bool(found) == bool(name)


def test_pages_say_what_a_code_is_for_and_how_to_check(signed: Path) -> None:
    """In a sentence on the page, and at length where its link leads."""
    for page in PAGES:
        assert "murmure verify CODE" in text_of(signed, page) and "vie-privee/#verifier" in text_of(signed, page)
    assert '<h2 id="verifier">' in text_of(signed, "vie-privee/index.html")
    bulletin = text_of(signed, "quartiers/centre/bulletin.html")
    assert bulletin.count("(code ") == 2 and "donnees/centre-codes-heures.csv" in bulletin


def test_pages_say_until_when_figures_came_and_when_the_next_may(signed: Path) -> None:
    """And that this hangs on gateways and centre."""
    day = text_of(signed, DAY).replace("\u00a0", " ").replace("\u202f", " ")
    assert "Chiffres reçus jusqu’à 14 h 15. Les prochains chiffres sont attendus après 14 h 30, si les boîtiers" in day
    month = text_of(signed, "quartiers/centre/mois/index.html")
    assert "Le jour suivant est attendu après minuit" in month
