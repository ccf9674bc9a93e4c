"""What the files of the months hold of histograms, and that whatever is published says its licence."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pypdf
import pytest
from murmure_dashboards import maker_data, opendata
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build
from murmure_privacy.publication import RUNNING
from murmure_privacy.release import Release
from murmure_privacy.window import utc

Row = dict[str, str]
BIN = re.compile(r"histogram_s_(\d+)_(\d+)_db")
MONTH = "donnees/releases-2026-11.csv"
LICENCE = "Licence Ouverte 2.0"
LICENCE_PATH = "https://www.etalab.gouv.fr/wp-content/uploads/2017/04/ETALAB-Licence-Ouverte-v2.0.pdf"


@pytest.fixture(scope="module")
def nodes(site: Path) -> Mapping[tuple[str, str, str], list[Row]]:
    """The rows of the month, and of the day that runs, by stream, node and begin."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for path in (MONTH, RUNNING):
        with (site / path).open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                found.setdefault((row["stream"], row["node"], row["start_utc"]), []).append(row)
    return found


def bins(rows: list[Row]) -> list[tuple[int, int, Row]]:
    """Returns the bins of a node, by their edges."""
    found = [(int(edges[1]), int(edges[2]), row) for row in rows if (edges := BIN.fullmatch(row["indicator"]))]
    return sorted(found, key=lambda one: one[:2])


def test_every_released_histogram_is_in_its_month(
    archive: Any, nodes: Mapping[tuple[str, str, str], list[Row]]
) -> None:
    """Bin by bin what left the gateway, negative times too, with the noise that was drawn and what it cost; edges
    without a gap between the bounds of the policy."""
    released = [one for one in archive.outcomes("plaza/noise", 0, 1 << 40) if isinstance(one, Release)]
    negative = 0
    for one in released:
        drawn = next(noised for noised in one.noised if noised.indicator == "histogram")
        mine = bins(nodes["plaza/noise", one.node.level, utc(one.node.start_s)])
        assert [(low, high) for low, high, _ in mine] == [(low, low + 5) for low in range(35, 85, 5)]
        assert [float(row["value"]) for _, _, row in mine] == list(drawn.integers)  # a reading a second
        for _, _, row in mine:
            assert (row["unit"], row["mechanism"], row["status"]) == ("s", "discrete_gaussian", "released")
            assert float(row["sigma"]) == pytest.approx(drawn.sigma_milli / 1000)
            assert int(row["rho_micro"]) == drawn.rho_micro and row["policy"] and row["protects"] == "15 seconds"
            assert float(row["ci95_low"]) < float(row["estimate"]) < float(row["ci95_high"])
            negative += row["value"].startswith("-")
    assert len(released) > 150 and negative > 0
    assert not any(bins(rows) for (stream, _, _), rows in nodes.items() if not stream.endswith("/noise"))


def test_what_is_read_off_a_histogram_follows_from_its_bins(nodes: Mapping[tuple[str, str, str], list[Row]]) -> None:
    """Whoever has the file finds the share over 65 dB, and the length of the node, from the estimates of the bins; with
    the noise cut off at zero nobody would."""
    told, cut = 0, 0
    for (stream, level, _), rows in nodes.items():
        share = next((row for row in rows if row["indicator"] == "share_over_65_db" and row["estimate"]), None)
        if stream != "plaza/noise" or share is None:
            continue
        mine = [(low, float(row["estimate"])) for low, _, row in bins(rows)]
        whole_s = {"1h": 3600, "1d": 86_400}[level]
        assert sum(seconds for _, seconds in mine) == pytest.approx(whole_s, abs=1e-3)
        over = sum(seconds for low, seconds in mine if low >= 65) / whole_s
        assert over == pytest.approx(float(share["estimate"]), abs=1e-5)
        told += 1
        cut += abs(sum(max(0, seconds) for _, seconds in mine) - whole_s) > 1
    assert told > 150 and cut > 100


def test_pages_that_show_no_histogram_have_none_in_their_file(site: Path) -> None:
    """The file of a page has the values of that page."""
    for name in ("centre-jour", "centre-semaine"):
        assert "histogram_s" not in (site / f"donnees/{name}.csv").read_text("utf-8")


def told_in(name: str, content: bytes) -> str:
    """Returns what a file says of itself, where its kind has a place for it."""
    if name.endswith(".parquet"):
        return str(pq.read_metadata(io.BytesIO(content)).metadata)
    if name.endswith(".pdf"):
        return str(pypdf.PdfReader(io.BytesIO(content)).metadata)
    return content.decode() if name.endswith((".json", ".jsonld", ".geojson", ".txt", ".html")) else ""


def unlicensed(files: Mapping[str, bytes]) -> list[str]:
    """Returns the files of data, and the sheets, that say their licence neither themselves nor through a descriptor."""
    package = json.loads(files["donnees/datapackage.json"])
    named = {
        resource["path"]
        for resource in package["resources"]
        if {one["title"]: one["path"] for one in resource["licenses"]} == {LICENCE: LICENCE_PATH}
    }
    catalogue = json.loads(files["donnees/catalogue.jsonld"])
    dataset = next(node for node in catalogue["@graph"] if node["@type"] == "dcat:Dataset")
    listed = {
        one["dcat:downloadURL"]["@id"].rpartition("/")[2]
        for one in dataset["dcat:distribution"]
        if one["dct:license"]["@id"] == LICENCE_PATH
    }
    whole = LICENCE in told_in("LICENCE.txt", files["donnees/LICENCE.txt"])
    found = []
    for path, content in files.items():
        folder, _, name = path.rpartition("/")
        if not path.startswith("donnees/") and not path.endswith(".pdf"):
            continue
        itself = any(text in told_in(name, content) for text in (LICENCE, LICENCE_PATH))
        described = folder == "donnees" and name in named & listed
        # What a page offers beside the months, and what checks or describes them, is under LICENCE.txt of its folder.
        beside = whole and path.startswith("donnees/") and not name.startswith("releases-")
        if not (itself or described or beside):
            found.append(path)
    return found


def test_every_published_file_says_its_licence(printed: Mapping[str, bytes]) -> None:
    """Months as CSV and as Parquet, ledger, places, annotations, sheets: in the file where its kind has a place for it,
    in both descriptors else; LICENCE.txt speaks for all that lies in its folder. The twins: one place less."""
    assert unlicensed(printed) == []
    kinds = {path.rpartition(".")[2] for path in printed if path.startswith("donnees/")}
    assert {"csv", "parquet", "json", "jsonld", "geojson", "jsonl", "txt", "toml", "cose", "html"} <= kinds
    for path in ("donnees/releases-2026-11.parquet", "quartiers/centre/bulletin.pdf", "donnees/sites.geojson"):
        assert any(text in told_in(path, printed[path]) for text in (LICENCE, LICENCE_PATH)), path
    package = json.loads(printed["donnees/datapackage.json"])
    package["resources"][0]["licenses"] = []
    assert unlicensed({**printed, "donnees/datapackage.json": json.dumps(package).encode()}) == [MONTH]
    assert "donnees/annotations.csv" not in unlicensed(printed)
    bare = {**printed, "donnees/LICENCE.txt": b"Tous droits"}
    assert f"donnees/{opendata.quartier_file('centre', False).rpartition('/')[2]}" in unlicensed(bare)


@pytest.mark.parametrize(("licence", "alike"), [("etalab-2.0", False), ("ODbL-1.0", True)])
def test_what_a_licence_asks_is_said_and_nothing_else(
    given: Callable[..., Build], archive: Any, city: City, licence: str, alike: bool
) -> None:
    """On the page and beside the files: a database made of ours keeps its licence only where that is asked."""
    ctx = replace(given(archive, replace(city, licence=licence)), octets={opendata.ANNOTATIONS: 99})
    made = dict(maker_data.files(ctx))
    for path, words in (
        ("donnees/index.html", "garde la même licence"),
        ("en/donnees/index.html", "keeps the same licence"),
        ("donnees/LICENCE.txt", "garde la même licence"),
        ("donnees/LICENCE.txt", "keeps the same licence"),
    ):
        assert (words in made[path].decode()) == alike, path
