"""What the open data say of themselves to programs: Data Package 2 with Table Schema, CSVW, GeoJSON, DCAT-AP 3.

Each names licence, publisher, period and language. The sentences are those of the page `/donnees/`. Addresses are those
of `city.address`; without one they are relative, and so resolve wherever the files stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from murmure_privacy.stream import QUANTITIES
from murmure_privacy.window import LEVELS, Calendar, Window, utc

from murmure_dashboards.config import City
from murmure_dashboards.months import FOLDER, Edition, first_day, last_day
from murmure_dashboards.wording import LANGUAGES, Language, language

SITES, LICENCE = f"{FOLDER}sites.geojson", f"{FOLDER}LICENCE.txt"
_TABLES = ("releases", "annotations", "ledger")
_NAMED = {
    "etalab-2.0": (
        "Licence Ouverte 2.0",
        "https://www.etalab.gouv.fr/wp-content/uploads/2017/04/ETALAB-Licence-Ouverte-v2.0.pdf",
    ),
    "ODbL-1.0": ("Open Database License 1.0", "https://opendatacommons.org/licenses/odbl/1-0/"),
}
_EU = "http://publications.europa.eu/resource/authority"
_EU_LANGUAGES = {"fr": f"{_EU}/language/FRA", "en": f"{_EU}/language/ENG"}
_EU_TYPES = {
    "csv": "CSV",
    "jsonl": "JSON",
    "json": "JSON",
    "geojson": "GEOJSON",
    "jsonld": "JSON_LD",
    "parquet": "PARQUET",
}
_MEDIA = {
    "csv": "text/csv",
    "jsonl": "application/jsonl",
    "json": "application/json",
    "geojson": "application/geo+json",
    "jsonld": "application/ld+json",
    "parquet": "application/vnd.apache.parquet",
}
_MAIL = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_WORDS = "[a-z_]+"
_PLACE = "[A-Za-z0-9][A-Za-z0-9_-]*"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, or a member of each line of the ledger. `kind`: a type of Table Schema. `pattern` and
    `among` bound its texts, `least` its numbers; `required`: never empty."""

    name: str
    kind: str = "string"
    required: bool = False
    pattern: str = ""
    among: tuple[str, ...] = ()
    least: int | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file of the open data beside the months, with its size. `table`: which columns it has, "" for no table."""

    path: str
    octets: int
    table: str = ""

    @property
    def name(self) -> str:
        """Returns its name in the folder."""
        return self.path.removeprefix(FOLDER)


_TYPED: Mapping[str, Sequence[Column]] = {
    "releases": (
        Column("start_utc", "datetime", required=True),
        Column("end_utc", "datetime", required=True),
        Column("site", required=True, pattern=_PLACE),
        Column("stream", required=True, pattern=f"{_PLACE}/{_PLACE}"),
        Column("quantity", required=True, among=tuple(QUANTITIES)),
        Column("node", required=True, among=LEVELS),
        Column("indicator", required=True, pattern="[a-z0-9_]+"),
        Column("value", "number"),
        Column("estimate", "number"),
        Column("ci95_low", "number"),
        Column("ci95_high", "number"),
        Column("unit", required=True),
        Column("state", among=("provisional", "final")),
        Column("sigma", "number", least=0),
        Column("mechanism", among=("discrete_gaussian",)),
        Column("rho_micro", "integer", least=1),
        Column("epsilon", "number", least=0),
        Column("delta", "number", least=0),
        Column("protects"),
        Column("policy", pattern="sha256:[0-9a-f]{64}"),
        Column("status", required=True, among=("released", "withheld")),
        Column("reason", pattern=_WORDS),
    ),
    "annotations": (
        Column("site", required=True, pattern=_PLACE),
        Column("number", "integer", required=True, least=1),
        Column("issued_utc", "datetime", required=True),
        Column("in_force", among=("yes", "no")),
        Column("stream", pattern=f"{_PLACE}/{_PLACE}"),
        Column("start_utc", "datetime"),
        Column("end_utc", "datetime"),
        Column("cause", pattern=_WORDS),
        Column("withdraws", "integer", least=1),
        Column("sentence_fr"),
        Column("sentence_en"),
        Column("cose_base64", required=True, pattern="[A-Za-z0-9+/]+={0,2}"),
    ),
    "ledger": (
        Column("day", "date", required=True),
        Column("start_utc", "datetime", required=True),
        Column("end_utc", "datetime", required=True),
        Column("site", required=True, pattern=_PLACE),
        Column("stream", required=True, pattern=f"{_PLACE}/{_PLACE}"),
        Column("policy", pattern="sha256:[0-9a-f]{64}"),
        Column("protects"),
        Column("epsilon", pattern="[0-9.]+"),
        Column("delta", pattern="[0-9.]+"),
        Column("nodes", "array", required=True),
        Column("charged_rho_micro", "integer", required=True, least=0),
        Column("spent_rho_micro", "integer", required=True, least=0),
    ),
}
_KEYS = {
    "releases": ("stream", "node", "start_utc", "indicator"),
    "annotations": ("site", "number"),
}


@dataclass(frozen=True)
class Catalogue:
    """Everything that the descriptors tell of: the editions of months, the other files, and the span that they cover
    (None where there is no figure yet). `calendar`: of the town."""

    city: City
    editions: Sequence[Edition]
    files: Sequence[File]
    period: Window | None
    calendar: Calendar

    @property
    def publisher(self) -> str:
        """Returns who publishes: the town, unless it names somebody."""
        return publisher(self.city)

    @property
    def licence(self) -> tuple[str, str]:
        """Returns the name and the address of the licence."""
        return licence(self.city)

    def descriptors(self) -> dict[str, bytes]:
        """Returns all of them by their path below the site's root, the same bytes for the same data."""
        sites = _written(self._sites())
        whole = replace(self, files=[*self.files, File(SITES, len(sites))])
        made: dict[str, Any] = {f"{table}.schema.json": self._table_schema(table) for table in _TABLES}
        made |= {
            "datapackage.json": whole._package(),
            "csv-metadata.json": self._csvw(),
            "catalogue.jsonld": whole._dcat(),
        }
        found = {f"{FOLDER}{name}": _written(told) for name, told in made.items()}
        return found | {SITES: sites, LICENCE: self._licence_text()}

    def _address(self, path: str) -> str:
        return f"{self.city.address}{path}" if self.city.address else f"../{path}"

    def _said(self, say: Language, key: str) -> str:
        text = say(f"opendata.{key}", city=self.city.city, publisher=self.publisher)
        return f"{text} {say('page.simulated')}" if self.city.simulated and key == "description" else text

    def _span(self) -> dict[str, str]:
        return {} if self.period is None else {"start": utc(self.period.start_s), "end": utc(self.period.end_s)}

    # --- Data Package 2 -----------------------------------------------------------------------------------------------

    def _package(self) -> dict[str, Any]:
        say = language(LANGUAGES[0])
        title, path = self.licence
        licences = [{"name": self.city.licence, "title": title, "path": path}]
        return {
            "$schema": "https://datapackage.org/profiles/2.0/datapackage.json",
            "name": "murmure",
            "title": self._said(say, "title"),
            "description": self._said(say, "description"),
            **({"homepage": self.city.address} if self.city.address else {}),
            "licenses": licences,
            "contributors": [{"title": self.publisher, "roles": ["publisher"]}],
            "languages": list(LANGUAGES),
            "temporal": self._span(),
            "keywords": ["bruit", "air", "passages", "confidentialité différentielle"],
            "resources": [
                *(
                    {
                        "name": edition.path.removeprefix(FOLDER).removesuffix(".csv"),
                        "path": edition.path.removeprefix(FOLDER),
                        "type": "table",
                        "title": self._of_month(say, edition),
                        "format": "csv",
                        "mediatype": _MEDIA["csv"],
                        "encoding": "utf-8",
                        "bytes": edition.octets,
                        "hash": f"sha256:{edition.sha256}",
                        "closed": edition.closed_s is not None,
                        **_until(edition),
                        "licenses": licences,
                        "schema": "releases.schema.json",
                    }
                    for edition in self.editions
                ),
                *(
                    {
                        "name": f"{edition.path.removeprefix(FOLDER).removesuffix('.csv')}-parquet",
                        "path": edition.columnar.removeprefix(FOLDER),
                        "type": "file",
                        "title": f"{self._of_month(say, edition)} (Parquet)",
                        "format": "parquet",
                        "mediatype": _MEDIA["parquet"],
                        "bytes": edition.columnar_octets,
                        "hash": f"sha256:{edition.columnar_sha256}",
                        "closed": edition.closed_s is not None,
                        **_until(edition),
                        "licenses": licences,
                    }
                    for edition in self.editions
                ),
                *(
                    {
                        "name": file.name.rpartition(".")[0],
                        "path": file.name,
                        **({"type": "table", "schema": f"{file.table}.schema.json"} if file.table else {}),
                        "title": self._said(say, f"file_{file.name.partition('.')[0]}"),
                        "format": _kind(file),
                        "mediatype": _MEDIA[_kind(file)],
                        "encoding": "utf-8",
                        "bytes": file.octets,
                        "licenses": licences,
                    }
                    for file in self.files
                ),
            ],
        }

    @staticmethod
    def _table_schema(table: str) -> dict[str, Any]:
        say = language(LANGUAGES[0])
        fields = []
        for column in _TYPED[table]:
            bounds: dict[str, Any] = {"required": True} if column.required else {}
            if column.pattern:
                bounds["pattern"] = column.pattern
            if column.among:
                bounds["enum"] = list(column.among)
            if column.least is not None:
                bounds["minimum"] = column.least
            field: dict[str, Any] = {
                "name": column.name,
                "type": column.kind,
                "description": say(f"{table}_column.{column.name}"),
            }
            if column.kind == "datetime":
                field["format"] = "%Y-%m-%dT%H:%M:%SZ"
            fields.append(field | ({"constraints": bounds} if bounds else {}))
        return {
            "$schema": "https://datapackage.org/profiles/2.0/tableschema.json",
            "fields": fields,
            "missingValues": [""],
            **({"primaryKey": list(_KEYS[table])} if table in _KEYS else {}),
        }

    # --- CSV on the Web -----------------------------------------------------------------------------------------------

    def _csvw(self) -> dict[str, Any]:
        say = language(LANGUAGES[0])
        files = [(edition.path.removeprefix(FOLDER), "releases") for edition in self.editions]
        files += [(file.name, file.table) for file in self.files if _kind(file) == "csv"]
        return {
            "@context": ["http://www.w3.org/ns/csvw", {"@language": LANGUAGES[0]}],
            "dc:title": self._said(say, "title"),
            "dc:publisher": self.publisher,
            "dc:license": {"@id": self.licence[1]},
            "dc:language": list(LANGUAGES),
            "dc:temporal": "/".join(self._span().values()),
            "tables": [{"url": name, "tableSchema": self._csvw_schema(table)} for name, table in files],
        }

    @staticmethod
    def _csvw_schema(table: str) -> dict[str, Any]:
        columns = []
        for column in _TYPED[table]:
            kind: dict[str, Any] = {"base": "dateTime" if column.kind == "datetime" else column.kind}
            if column.kind == "datetime":
                kind["format"] = "yyyy-MM-ddTHH:mm:ssX"
            elif column.pattern or column.among:
                kind["format"] = column.pattern or "|".join(column.among)
            elif column.least is not None:
                kind["minimum"] = column.least
            told = {lang: language(lang)(f"{table}_column.{column.name}") for lang in LANGUAGES}
            columns.append(
                {
                    "name": column.name,
                    "titles": column.name,
                    "dc:description": [{"@value": text, "@language": lang} for lang, text in told.items()],
                    "datatype": kind,
                    **({"required": True} if column.required else {}),
                }
            )
        return {"columns": columns, "primaryKey": list(_KEYS[table])}

    # --- GeoJSON (RFC 7946) -------------------------------------------------------------------------------------------

    def _sites(self) -> dict[str, Any]:
        names = {quartier.slug: quartier.name for quartier in self.city.quartier}
        return {
            "type": "FeatureCollection",
            "title": self._said(language(LANGUAGES[0]), "file_sites"),
            "license": self.city.licence,
            "license_url": self.licence[1],
            "publisher": self.publisher,
            "language": LANGUAGES[0],
            "temporal": self._span(),
            "features": [
                {
                    "type": "Feature",
                    "id": site.id,
                    "geometry": None
                    if site.lat is None or site.lon is None
                    else {"type": "Point", "coordinates": [site.lon, site.lat]},
                    "properties": {
                        "site": site.id,
                        "name": site.name,
                        "quartier": site.quartier,
                        "quartier_name": names[site.quartier],
                        "purpose": site.purpose,
                        "owner": site.owner,
                        "contact": site.contact,
                        "until": site.until.isoformat() if site.until else None,
                        "streams": [sensor.stream for sensor in site.sensor],
                    },
                }
                for site in self.city.site
            ],
        }

    # --- DCAT-AP 3 ----------------------------------------------------------------------------------------------------

    def _dcat(self) -> dict[str, Any]:
        here = self._address(f"{FOLDER}catalogue.jsonld")
        licence = {"@id": self.licence[1], "@type": "dct:LicenseDocument", "dct:title": self.licence[0]}
        publisher = {"@id": f"{here}#publisher", "@type": "foaf:Agent", "foaf:name": self.publisher}
        contact = next((site.contact for site in self.city.site), self.city.help)
        dataset: dict[str, Any] = {
            "@id": f"{here}#donnees",
            "@type": "dcat:Dataset",
            "dct:title": self._both("title"),
            "dct:description": self._both("description"),
            "dct:publisher": {"@id": publisher["@id"]},
            "dct:language": [{"@id": _EU_LANGUAGES[code]} for code in LANGUAGES],
            "dct:accrualPeriodicity": {"@id": f"{_EU}/frequency/UPDATE_CONT"},
            "dcat:theme": [{"@id": f"{_EU}/data-theme/{theme}"} for theme in ("ENVI", "TRAN")],
            "dcat:keyword": [{"@value": word, "@language": "fr"} for word in ("bruit", "air", "passages")],
            "dcat:contactPoint": {
                "@type": "vcard:Kind",
                "vcard:fn": self.publisher,
                **(
                    {"vcard:hasEmail": {"@id": f"mailto:{contact}"}}
                    if _MAIL.fullmatch(contact)
                    else {"vcard:note": contact}
                ),
            },
            "dcat:landingPage": {"@id": self._address(FOLDER)},
            "dcat:distribution": [
                *(
                    self._distribution(path, kind, octets, licence)
                    | {
                        "dct:title": [
                            {"@value": self._of_month(language(code), edition), "@language": code} for code in LANGUAGES
                        ],
                        "spdx:checksum": {
                            "@type": "spdx:Checksum",
                            "spdx:algorithm": {"@id": "spdx:checksumAlgorithm_sha256"},
                            "spdx:checksumValue": {"@value": sha256, "@type": "xsd:hexBinary"},
                        },
                    }
                    for kind, forms in (("csv", _as_csv), ("parquet", _as_parquet))
                    for edition, (path, octets, sha256) in ((one, forms(one)) for one in self.editions)
                ),
                *(
                    self._distribution(file.path, _kind(file), file.octets, licence)
                    | {"dct:title": self._both(f"file_{file.name.partition('.')[0]}")}
                    for file in self.files
                ),
            ],
        }
        if self.period is not None:
            dataset["dct:temporal"] = {
                "@type": "dct:PeriodOfTime",
                "dcat:startDate": {"@value": utc(self.period.start_s), "@type": "xsd:dateTime"},
                "dcat:endDate": {"@value": utc(self.period.end_s), "@type": "xsd:dateTime"},
            }
        catalogue = {
            "@id": f"{here}#catalogue",
            "@type": "dcat:Catalog",
            "dct:title": self._both("catalogue"),
            "dct:description": self._both("description"),
            "dct:publisher": {"@id": publisher["@id"]},
            "dct:language": dataset["dct:language"],
            "dct:license": {"@id": licence["@id"]},
            "foaf:homepage": {"@id": self._address("")},
            "dcat:dataset": {"@id": dataset["@id"]},
        }
        return {
            "@context": {
                "dcat": "http://www.w3.org/ns/dcat#",
                "dct": "http://purl.org/dc/terms/",
                "foaf": "http://xmlns.com/foaf/0.1/",
                "spdx": "http://spdx.org/rdf/terms#",
                "vcard": "http://www.w3.org/2006/vcard/ns#",
                "xsd": "http://www.w3.org/2001/XMLSchema#",
            },
            "@graph": [catalogue, dataset, publisher, licence],
        }

    def _of_month(self, say: Language, edition: Edition) -> str:
        return of_month(say, edition.month, edition.number, last_day(edition, self.calendar))

    def _both(self, key: str) -> list[dict[str, str]]:
        return [{"@value": self._said(language(code), key), "@language": code} for code in LANGUAGES]

    def _distribution(self, path: str, kind: str, octets: int, licence: Mapping[str, str]) -> dict[str, Any]:
        address = self._address(path)
        return {
            "@id": f"{self._address(f'{FOLDER}catalogue.jsonld')}#{path.removeprefix(FOLDER)}",
            "@type": "dcat:Distribution",
            "dcat:accessURL": {"@id": address},
            "dcat:downloadURL": {"@id": address},
            "dct:license": {"@id": licence["@id"]},
            "dct:format": {"@id": f"{_EU}/file-type/{_EU_TYPES[kind]}"},
            "dcat:mediaType": {"@id": f"https://www.iana.org/assignments/media-types/{_MEDIA[kind]}"},
            "dcat:byteSize": {"@value": str(octets), "@type": "xsd:nonNegativeInteger"},
        }

    def _licence_text(self) -> bytes:
        name, address = self.licence
        said = [
            language(code)("opendata.licence", licence=name, publisher=self.publisher, city=self.city.city)
            + (f" {language(code)('opendata.alike')}" if self.city.licence == "ODbL-1.0" else "")
            for code in LANGUAGES
        ]
        return ("\n\n".join([*said, f"{self.city.licence} {address}"]) + "\n").encode()


def _until(edition: Edition) -> dict[str, str]:
    """Returns before when all rows of an edition that can still change begin."""
    return {} if edition.until_s is None else {"until": utc(edition.until_s)}


def _as_csv(edition: Edition) -> tuple[str, int, str]:
    return edition.path, edition.octets, edition.sha256


def _as_parquet(edition: Edition) -> tuple[str, int, str]:
    return edition.columnar, edition.columnar_octets, edition.columnar_sha256


def _written(told: dict[str, Any]) -> bytes:
    return (json.dumps(told, ensure_ascii=False, indent=1) + "\n").encode()


def _kind(file: File) -> str:
    return file.name.rpartition(".")[2]


def publisher(city: City) -> str:
    """Returns who publishes: the town, unless it names somebody."""
    return city.publisher or city.city


def licence(city: City) -> tuple[str, str]:
    """Returns the name and the address of the licence of everything that a town publishes."""
    return _NAMED[city.licence]


def of_month(say: Language, month: str, number: int, last: date | None) -> str:
    """Returns the title of an edition of a month such as `2026-11`. `last`: see `months.last_day`."""
    if last is not None:
        return say("opendata.begun" if last < first_day(month) else "opendata.until", month=month, date=last)
    return say("opendata.month" if number == 1 else "opendata.edition", month=month, number=number)


def about(city: City, month: str, number: int, last: date | None) -> dict[str, str]:
    """Returns what a file of a month says of itself, where its format has a place for it. `last`: see
    `months.last_day`."""
    name, path = licence(city)
    return {
        "title": of_month(language(LANGUAGES[0]), month, number, last),
        "source": f"{city.city}, {publisher(city)}",
        "license": f"{name} ({city.licence})",
        "license_url": path,
        "homepage": city.address,
        "language": LANGUAGES[0],
    }


def columns(table: str) -> Sequence[Column]:
    """Returns the columns of `releases`, `annotations` or `ledger`, in their order."""
    return _TYPED[table]
