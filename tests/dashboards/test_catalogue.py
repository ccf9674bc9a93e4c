"""What the open data say of themselves holds for every file, by the rules of each format.

The rules are written down here, from the published specifications; the formats' own validators judge as well
(`frictionless`, `csvw`, `rdflib`).
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_dashboards import catalogue, maker_data, opendata
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City
from murmure_dashboards.months import LEDGER, Edition
from murmure_dashboards.pages import MOST_ELEMENTS
from murmure_dashboards.site import build, render
from murmure_dashboards.wording import LANGUAGES, language
from murmure_privacy.annotation import Annotation
from murmure_privacy.plan import plan
from murmure_privacy.policy import parse
from murmure_privacy.publication import RUNNING
from murmure_privacy.release import Release
from murmure_privacy.window import parse_utc

LICENCE = "https://www.etalab.gouv.fr/wp-content/uploads/2017/04/ETALAB-Licence-Ouverte-v2.0.pdf"
EU = "http://publications.europa.eu/resource/authority/"
HOSTILE = '=HYPERLINK("x")</script><script>alert(1)</script>'

# Data Package 2: what a package, a resource, a licence and a contributor must be.
PACKAGE = {
    "type": "object",
    "required": ["resources", "name", "licenses", "title"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9._-]+$"},
        "licenses": {"$ref": "#/$defs/licenses"},
        "contributors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["title"],
                "properties": {"roles": {"type": "array", "minItems": 1, "items": {"type": "string"}}},
            },
        },
        "resources": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "path", "licenses", "bytes", "format", "mediatype"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-z0-9._-]+$"},
                    "path": {"type": "string", "pattern": "^(?!.*\\.\\.)[^/~][^:]*$"},
                    "type": {"enum": ["table", "file"]},
                    "encoding": {"const": "utf-8"},
                    "bytes": {"type": "integer", "minimum": 0},
                    "hash": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
                    "schema": {"type": "string", "pattern": "^[a-z]+\\.schema\\.json$"},
                    "licenses": {"$ref": "#/$defs/licenses"},
                },
                "dependentRequired": {"schema": ["type"]},
                "if": {"properties": {"type": {"const": "table"}}, "required": ["type"]},
                "then": {"required": ["schema"]},
            },
        },
    },
    "$defs": {
        "licenses": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "required": ["name", "title", "path"]},
        }
    },
}
# Table Schema: the types that we use, and which constraints each may have.
TABLE = {
    "type": "object",
    "required": ["fields", "missingValues"],
    "properties": {
        "fields": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "type", "description"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "description": {"type": "string", "minLength": 8},
                    "type": {"enum": ["string", "number", "integer", "datetime", "date", "array"]},
                    "format": {"const": "%Y-%m-%dT%H:%M:%SZ"},
                    "constraints": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "required": {"const": True},
                            "pattern": {"type": "string", "format": "regex"},
                            "enum": {"type": "array", "minItems": 1, "uniqueItems": True},
                            "minimum": {"type": "number"},
                        },
                    },
                },
            },
        }
    },
}
# RFC 7946.
GEOJSON = {
    "type": "object",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "geometry", "properties"],
                "properties": {
                    "type": {"const": "Feature"},
                    "properties": {"type": "object"},
                    "geometry": {
                        "oneOf": [
                            {"type": "null"},
                            {
                                "type": "object",
                                "required": ["type", "coordinates"],
                                "properties": {
                                    "type": {"const": "Point"},
                                    "coordinates": {
                                        "type": "array",
                                        "prefixItems": [
                                            {"type": "number", "minimum": -180, "maximum": 180},
                                            {"type": "number", "minimum": -90, "maximum": 90},
                                        ],
                                        "minItems": 2,
                                        "maxItems": 2,
                                    },
                                },
                            },
                        ]
                    },
                },
            },
        },
    },
}
# CSVW (tabular metadata): a group of tables whose columns are named and typed.
CSVW = {
    "type": "object",
    "required": ["@context", "tables", "dc:license", "dc:publisher", "dc:language"],
    "properties": {
        "@context": {"type": "array", "prefixItems": [{"const": "http://www.w3.org/ns/csvw"}]},
        "tables": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["url", "tableSchema"],
                "properties": {
                    "tableSchema": {
                        "type": "object",
                        "required": ["columns", "primaryKey"],
                        "properties": {
                            "columns": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["name", "titles", "datatype", "dc:description"],
                                    "properties": {
                                        "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_]*$"},
                                        "datatype": {
                                            "type": "object",
                                            "properties": {
                                                "base": {"enum": ["string", "number", "integer", "dateTime", "date"]}
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    }
                },
            },
        },
    },
}
# DCAT-AP 3: what is mandatory of each class, and what we promise beyond it.
DCAT = {
    "dcat:Catalog": {"dct:title", "dct:description", "dct:publisher", "dcat:dataset", "dct:license", "dct:language"},
    "dcat:Dataset": {
        *("dct:title", "dct:description", "dct:publisher", "dcat:contactPoint", "dcat:distribution", "dcat:theme"),
        *("dct:language", "dct:temporal", "dct:accrualPeriodicity", "dcat:keyword", "dcat:landingPage"),
    },
    "dcat:Distribution": {
        *("dcat:accessURL", "dcat:downloadURL", "dct:license", "dct:format", "dcat:mediaType", "dcat:byteSize"),
        "dct:title",
    },
    "foaf:Agent": {"foaf:name"},
    "dct:LicenseDocument": {"dct:title"},
    "dct:PeriodOfTime": {"dcat:startDate", "dcat:endDate"},
}


@pytest.fixture(scope="module")
def folder(archive: Any, city: City, streets: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The open data of the town, with a mark of its stewards."""
    out = tmp_path_factory.mktemp("data") / "site"
    begun_s = streets.NOW_S - 86_400
    note = Annotation(
        site="plaza",
        number=1,
        issued_s=streets.NOW_S - 900,
        sentence="Travaux à côté.",
        sentence_en="Works nearby.",
        stream="plaza/noise",
        from_s=begun_s - begun_s % 900,
        to_s=begun_s - begun_s % 900 + 3600,
        cause="works",
    )
    build(archive.annotate(note), city, out, streets.NOW_S)
    return (out / "donnees").resolve()


@pytest.fixture(scope="module")
def small(streets: SimpleNamespace) -> Any:
    """One place, one series, one day."""
    street = streets.Street()
    streets.add(street, "plaza", streets.PARIS.day(streets.NOW_S), streams=("footfall",))
    return street


def told(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text("utf-8"))


def faults(lines: Iterable[Mapping[str, Any]], schema: Mapping[str, Any]) -> list[str]:
    """What of a table is not as its Table Schema says: types, constraints, keys."""
    found: list[str] = []
    keys = set()
    for number, line in enumerate(lines, 2):
        if list(line) != [field["name"] for field in schema["fields"]]:
            return [f"{number}: other columns"]
        for field in schema["fields"]:
            value, bounds = line[field["name"]], field.get("constraints", {})
            if value in (*schema["missingValues"], None):
                found += [f"{number}: {field['name']} is missing"] * bounds.get("required", False)
                continue
            try:
                read = READ[field["type"]](value)
            except (ValueError, TypeError):
                found.append(f"{number}: {field['name']} {value!r} is no {field['type']}")
                continue
            if "pattern" in bounds and not re.fullmatch(bounds["pattern"], value):
                found.append(f"{number}: {field['name']} {value!r} is not {bounds['pattern']}")
            if "enum" in bounds and value not in bounds["enum"]:
                found.append(f"{number}: {field['name']} {value!r} is none of {bounds['enum']}")
            if "minimum" in bounds and read < bounds["minimum"]:
                found.append(f"{number}: {field['name']} {value!r} is too small")
        key = tuple(line[name] for name in schema.get("primaryKey", ()))
        found += [f"{number}: {key} stands twice"] * (bool(key) and key in keys)
        keys.add(key)
    return found


def _list(value: Any) -> int:
    if not isinstance(value, list):
        raise TypeError
    return len(value)


READ: dict[str, Callable[[Any], Any]] = {
    "string": str,
    "number": float,
    "integer": lambda value: int(value, 10) if isinstance(value, str) else int(value),
    "datetime": lambda value: datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").timestamp(),
    "date": lambda value: datetime.strptime(value, "%Y-%m-%d").timestamp(),
    "array": _list,
}


def lines(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_package_and_its_schemas_are_of_their_formats(folder: Path) -> None:
    """datapackage.json and every Table Schema that it names, by the rules of Data Package 2."""
    package = told(folder, "datapackage.json")
    jsonschema.validate(package, PACKAGE)
    assert len({resource["name"] for resource in package["resources"]}) == len(package["resources"])
    schemas = {resource["schema"] for resource in package["resources"] if "schema" in resource}
    assert schemas == {"releases.schema.json", "annotations.schema.json", "ledger.schema.json"}
    for schema in schemas:
        jsonschema.validate(told(folder, schema), TABLE)


def test_every_table_is_as_its_schema_says(folder: Path) -> None:
    """Each cell of each table of the package: type, bounds, words, keys."""
    for resource in told(folder, "datapackage.json")["resources"]:
        if "schema" in resource:
            table = lines(folder / resource["path"])
            assert table and faults(table, told(folder, resource["schema"])) == []


def test_every_file_has_the_size_and_the_sum_that_the_package_tells(folder: Path) -> None:
    """`bytes` of all, `hash` of the months."""
    resources = told(folder, "datapackage.json")["resources"]
    assert {r["path"] for r in resources} == {
        *("releases-2026-11.csv", "releases-2026-11.parquet"),
        *("annotations.csv", "ledger.jsonl", "sites.geojson", "releases-jour-en-cours.csv"),
    }
    for resource in resources:
        content = (folder / resource["path"]).read_bytes()
        assert len(content) == resource["bytes"]
        assert resource.get("hash", "") in ("", f"sha256:{hashlib.sha256(content).hexdigest()}")
    assert sum("hash" in resource for resource in resources) == 2


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("value", "a few", "is no number"),
        ("rho_micro", "0", "is too small"),
        ("policy", "sha1:00", "is not sha256"),
        ("status", "kept", "is none of"),
        ("start_utc", "2026-11-21 14:00", "is no datetime"),
        ("unit", "", "is missing"),
        ("site", "=1+1", "is not"),
    ],
)
def test_a_cell_that_does_not_fit_is_found(folder: Path, column: str, value: str, said: str) -> None:
    """The twins: one cell otherwise, and the table is not as its schema says; and so is a row that stands twice."""
    table = lines(folder / "releases-2026-11.csv")[:400]
    schema = told(folder, "releases.schema.json")
    assert faults(table, schema) == []
    assert any("stands twice" in fault for fault in faults([*table, table[7]], schema))
    table[7] = {**table[7], column: value}
    assert any(said in fault for fault in faults(table, schema))


def test_the_schemas_have_the_columns_of_the_files(folder: Path) -> None:
    """In their order; every column in one sentence, in both languages."""
    for table, header in (("releases", opendata.HEADER), ("annotations", opendata.ANNOTATIONS_HEADER)):
        assert tuple(column.name for column in catalogue.columns(table)) == header
    for table in ("releases", "annotations", "ledger"):
        names = [column.name for column in catalogue.columns(table)]
        for code in LANGUAGES:
            assert all(language(code)(f"{table}_column.{name}").endswith(".") for name in names)


def test_csv_on_the_web_describes_every_table(folder: Path) -> None:
    """The W3C's metadata at the place where its readers look: columns of the file, typed, with their sentences."""
    group = told(folder, "csv-metadata.json")
    jsonschema.validate(group, CSVW)
    assert [table["url"] for table in group["tables"]] == [
        *("releases-2026-11.csv", "annotations.csv", "releases-jour-en-cours.csv")
    ]
    for table in group["tables"]:
        header = (folder / table["url"]).read_text("utf-8").splitlines()[0].split(",")
        assert [column["titles"] for column in table["tableSchema"]["columns"]] == header
        assert set(table["tableSchema"]["primaryKey"]) <= set(header)
    assert group["dc:license"] == {"@id": LICENCE}


def test_the_places_are_geojson(folder: Path, city: City) -> None:
    """One feature a site; longitude first; a site whose place is not told has no geometry."""
    places = told(folder, "sites.geojson")
    jsonschema.validate(places, GEOJSON)
    assert [feature["id"] for feature in places["features"]] == [site.id for site in city.site]
    for site, feature in zip(city.site, places["features"], strict=True):
        at = feature["geometry"] and feature["geometry"]["coordinates"]
        assert at == (None if site.lat is None else [site.lon, site.lat])
    wrong = {"type": "Point", "coordinates": [48.0, 200.0]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**places, "features": [{**places["features"][0], "geometry": wrong}]}, GEOJSON)


def nodes_of(value: Any) -> Iterable[dict[str, Any]]:
    """Every typed node of a JSON-LD document."""
    if isinstance(value, list):
        for one in value:
            yield from nodes_of(one)
    elif isinstance(value, dict):
        if "@type" in value and "@value" not in value:
            yield value
        for one in value.values():
            yield from nodes_of(one)


def test_the_catalogue_has_what_dcat_ap_asks(folder: Path) -> None:
    """Each class with its mandatory properties; codes of the European lists; the language of every text; no address
    without a host where the town has one."""
    document = told(folder, "catalogue.jsonld")
    nodes = list(nodes_of(document["@graph"]))
    assert {node["@type"] for node in nodes} == {*DCAT, "vcard:Kind", "spdx:Checksum"}
    for node in nodes:
        assert DCAT.get(node["@type"], set()) <= set(node), node["@type"]
    dataset = next(node for node in nodes if node["@type"] == "dcat:Dataset")
    paths = [one["dcat:downloadURL"]["@id"].rpartition("/")[2] for one in dataset["dcat:distribution"]]
    assert paths == [resource["path"] for resource in told(folder, "datapackage.json")["resources"]]
    assert {one["@language"] for one in dataset["dct:title"]} == set(LANGUAGES)
    assert dataset["dct:accrualPeriodicity"]["@id"].startswith(f"{EU}frequency/")
    known = {node["@id"] for node in nodes if "@id" in node}
    prefixes = set(document["@context"])
    for node in nodes:
        for key, value in node.items():
            assert key.startswith("@") or key.partition(":")[0] in prefixes
            if key in ("dct:license", "dct:publisher", "dcat:dataset"):
                assert value["@id"] in known
    assert all(address.startswith("https://") for address in known)


def test_without_an_address_the_catalogue_has_relative_ones(small: Any, city: City, streets: SimpleNamespace) -> None:
    """They resolve from where the file stands; nothing is made up."""
    files = dict(render(small, replace(city, address=""), streets.NOW_S))
    document = json.loads(files["donnees/catalogue.jsonld"])
    addresses = [node["dcat:downloadURL"]["@id"] for node in nodes_of(document) if "dcat:downloadURL" in node]
    assert addresses and all(address.startswith("../donnees/") for address in addresses)
    assert "homepage" not in json.loads(files["donnees/datapackage.json"])


@pytest.mark.parametrize("name", ["datapackage.json", "csv-metadata.json", "sites.geojson", "catalogue.jsonld"])
def test_each_descriptor_names_licence_publisher_period_and_language(folder: Path, name: str) -> None:
    """Whoever finds only one of them knows what may be done with the data, whose they are, and of when."""
    text = (folder / name).read_text("utf-8")
    assert LICENCE in text and "Ville de Démo" in text and "2026-10-31T23:00:00" in text
    assert '"fr"' in text or f"{EU}language/FRA" in text
    assert "Licence Ouverte 2.0" in (folder / "LICENCE.txt").read_text("utf-8")


def test_a_town_with_another_licence_says_so_everywhere(small: Any, city: City, streets: SimpleNamespace) -> None:
    """ODbL in city.toml, and no word of the Licence Ouverte is left."""
    files = dict(render(small, replace(city, licence="ODbL-1.0"), streets.NOW_S))
    texts = {path: content for path, content in files.items() if path.startswith(("donnees/", "en/donnees/"))}
    assert not any(b"etalab" in content or b"Licence Ouverte" in content for content in texts.values())
    assert "Open Database License 1.0" in texts["en/donnees/index.html"].decode()


def test_names_with_markup_and_formulas_are_inert(small: Any, city: City, streets: SimpleNamespace) -> None:
    """Whatever stands in city.toml: no script on the page, valid JSON, and no cell that a spreadsheet would run."""
    hostile = replace(
        city,
        city=HOSTILE,
        publisher=HOSTILE,
        help=HOSTILE,
        site=tuple(replace(site, name=HOSTILE, purpose=HOSTILE, contact=HOSTILE) for site in city.site),
    )
    for path, content in render(small, hostile, streets.NOW_S):
        text = "" if path.endswith((".cose", ".parquet")) else content.decode()
        if path.endswith("donnees/index.html"):
            assert "<script" not in text and "=HYPERLINK(" in text
        elif path.endswith((".json", ".geojson", ".jsonld")):
            json.loads(text)
        elif path.endswith(".csv"):
            for row in csv.reader(text.splitlines()):
                assert not any(value[:1] in tuple("=+@\t\r") or re.match(r"-(?![0-9.]+$)", value) for value in row)


@pytest.mark.parametrize("text", ["=1+1", "+33 1", "-2+3", "@SUM(A1)", "\tx", "\r=1", '=cmd|" /C calc"!A0'])
def test_a_cell_that_a_spreadsheet_would_run_is_text(text: str) -> None:
    """An apostrophe stands before it; numbers and ordinary texts stay as they are."""
    assert opendata.cell(text) == f"'{text}"
    for kept in ("-5", "-0.25", "12", "", "Travaux = bruit", "sha256:00"):
        assert opendata.cell(kept) == kept


@given(st.lists(st.lists(st.text(" ,\"'=+-@|%.1a\t\r\n", max_size=4), min_size=3, max_size=3), max_size=4))
def test_a_line_is_written_as_the_csv_module_would(lines: list[list[str]]) -> None:
    """Whatever its cells are: quotes where they are needed, an apostrophe before a formula, and the same cells read."""
    text = io.StringIO()
    csv.writer(text).writerows([["a", "b", "c"], *(map(opendata.cell, line) for line in lines)])
    assert opendata._csv(("a", "b", "c"), map(tuple, lines)).decode() == text.getvalue()


def test_the_ledger_is_what_the_archive_charged(folder: Path, archive: Any) -> None:
    """Every charged node once, on the day on which it begins, and no other; the costs of the files of releases."""
    ledger = lines(folder / "ledger.jsonl")
    for info in archive.streams():
        mine = [line for line in ledger if line["stream"] == info.stream]
        outcomes = archive.outcomes(info.stream, 0, 1 << 40)
        cost = sum(noised.rho_micro for one in outcomes if isinstance(one, Release) for noised in one.noised)
        assert sum(line["charged_rho_micro"] for line in mine) == cost
        assert sum(node["rho_micro"] for line in mine for node in line["nodes"]) == cost
        counted = [sum(node[kind] for line in mine for node in line["nodes"]) for kind in ("released", "withheld")]
        assert counted == [sum(isinstance(o, Release) is released for o in outcomes) for released in (True, False)]
    rows = [*lines(folder / "releases-2026-11.csv"), *lines(folder / "releases-jour-en-cours.csv")]
    footfall = sum(int(row["rho_micro"] or 0) for row in rows if row["stream"] == "plaza/footfall")
    assert footfall == sum(line["charged_rho_micro"] for line in ledger if line["stream"] == "plaza/footfall")


def test_what_a_person_has_spent_is_the_most_of_any_instant(folder: Path, archive: Any) -> None:
    """Of each day: the largest sum over its quarter-hours, and never more than the signed policy allows."""
    for line in lines(folder / "ledger.jsonl"):
        start_s, end_s = (parse_utc(line[key]) for key in ("start_utc", "end_utc"))
        outcomes = archive.outcomes(line["stream"], start_s, end_s)
        most = max(
            sum(
                noised.rho_micro
                for one in outcomes
                if isinstance(one, Release) and one.node.covered_from_s <= at_s < one.node.end_s
                for noised in one.noised
            )
            for at_s in range(start_s, end_s, 900)
        )
        assert line["spent_rho_micro"] == most
        policy = parse((folder / f"politiques/{line['policy'].removeprefix('sha256:')}.toml").read_bytes(), "test")
        assert most <= plan(policy).streams[line["stream"]].rho_micro


def test_the_signed_policies_are_the_files_that_the_rows_name(folder: Path) -> None:
    """The SHA-256 of each file is its name, and each `policy` of a row has its file and its signatures."""
    named = {row["policy"].removeprefix("sha256:") for row in lines(folder / "releases-2026-11.csv")}
    for digest in named:
        assert hashlib.sha256((folder / f"politiques/{digest}.toml").read_bytes()).hexdigest() == digest
        assert (folder / f"politiques/{digest}.cose").read_bytes()[:2] == b"\xd8\x62"


def test_the_page_tells_of_every_file(folder: Path) -> None:
    """Months with their size and sum, the other files, licence, columns, in both languages."""
    for page in (folder / "index.html", folder.parent / "en/donnees/index.html"):
        text = page.read_text("utf-8")
        files = [
            path.name
            for path in folder.iterdir()
            if path.suffix in (".csv", ".parquet", ".jsonl", ".geojson", ".jsonld")
        ]
        of_quartier = ("-jour.csv", "-semaine.csv", "-codes.csv", "-codes-annee.csv", "-codes-heures.csv")
        quartiers = {name for name in files if name.endswith(of_quartier)}
        for name in {*files, "datapackage.json", "csv-metadata.json", "LICENCE.txt", "SHA256SUMS"} - quartiers:
            assert f'donnees/{name}"' in text, name
        assert hashlib.sha256((folder / "releases-2026-11.csv").read_bytes()).hexdigest() in text
        assert all(f"<dt>{name}</dt>" in text for name in opendata.HEADER)
        for policy in (folder / "politiques").glob("*.toml"):
            assert policy.name in text and policy.with_suffix(".cose").name in text


def test_the_validators_agree(folder: Path) -> None:
    """frictionless finds the whole package valid, csvw every table, geojson the places; rdflib reads the catalogue."""
    frictionless = importlib.import_module("frictionless")
    report = frictionless.validate(str(folder / "datapackage.json"))
    assert report.valid, report.flatten(["rowNumber", "fieldNumber", "type", "message"])
    csvw = importlib.import_module("csvw")
    assert csvw.CSVW(str(folder / "csv-metadata.json")).is_valid
    geojson = importlib.import_module("geojson")
    places = geojson.loads((folder / "sites.geojson").read_text("utf-8"))
    assert isinstance(places, geojson.FeatureCollection) and places.errors() == []
    rdflib = importlib.import_module("rdflib")
    graph = rdflib.Graph().parse(str(folder / "catalogue.jsonld"), format="json-ld")
    assert {"Catalog", "Dataset", "Distribution"} <= {
        str(kind).rpartition("#")[2] for kind in graph.objects(predicate=rdflib.RDF.type)
    }


@pytest.mark.parametrize(("key", "wrong"), [("type", "Pont"), ("coordinates", [2.3]), ("coordinates", ["2.3", "48.1"])])
def test_the_validator_of_places_refuses_what_is_planted(folder: Path, key: str, wrong: object) -> None:
    """A geometry of no kind, a position of one number, one of letters: geojson does look."""
    geojson = importlib.import_module("geojson")
    places = told(folder, "sites.geojson")
    placed = next(feature for feature in places["features"] if feature["geometry"])
    placed["geometry"][key] = wrong
    try:
        found = geojson.loads(json.dumps(places)).errors()
    except ValueError as error:
        found = [error]
    assert found


def test_the_page_stays_light_with_years_of_months_and_many_policies(
    small: Any, city: City, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten years with a second edition now and then, and a hundred versions of a policy: at most 430 elements, every
    month linked."""
    months = [f"{2017 + at // 12}-{at % 12 + 1:02d}" for at in range(118)]
    editions = [Edition(month, 1, 9, streets.NOW_S - 86_400, 5000, "0" * 64, 900, "2" * 64) for month in months]
    editions += [Edition(month, 2, 9, None, 5000, "1" * 64, 900, "3" * 64) for month in months[::11]]
    editions.sort(key=lambda one: (one.month, one.number))

    def data(ctx: Any, *_: object) -> Iterable[tuple[str, bytes]]:
        ctx.editions.extend(editions)
        return [(RUNNING, b""), (LEDGER, b"")]

    monkeypatch.setattr(maker_data, "data", data)
    signed = small.policies("plaza") * 100
    monkeypatch.setattr(small, "policies", lambda site=None: signed if site == "plaza" else [])
    monkeypatch.setattr(site_module, "MAKERS", (maker_data.MAKER,))
    page = dict(render(small, city, streets.NOW_S))["donnees/index.html"].decode()
    assert len(re.findall(r"<[a-z]", page)) <= MOST_ELEMENTS
    assert all(f'{edition.path}"' in page for edition in editions)
