"""`city.toml`: what the archive does not know about the city. Parsed once; unknown keys are refused."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any

from murmure_privacy.errors import ConfigError
from murmure_privacy.window import BadTimezone, Calendar

from murmure_dashboards import citymap

# Names of folders and parts of addresses: short enough for any disk, and no step upwards.
_SLUG = re.compile(r"(?=.{1,64}$)[a-z0-9]+(-[a-z0-9]+)*")
_CODE = re.compile(r"[A-Z0-9]{2,8}")
_NUMBER = re.compile(r"(?=.{1,64}$)[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_ADDRESS = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?(/(?!\.\.?/)[A-Za-z0-9._~-]+)*/")

LICENCES = ("etalab-2.0", "ODbL-1.0")
"""What French law lets a town publish its data under (décret 2017-638), by SPDX name; the first unless it says so."""
NOISE_SOURCES = ("road", "rail", "high_speed_rail", "aircraft", "industry")
"""What may make most of a place's noise: limits are set for each alone."""
REQUEST_KINDS = ("objection", "sensor", "question")
REQUEST_STATES = ("open", "granted", "refused", "answered")


@dataclass(frozen=True, slots=True)
class Quartier:
    """A neighbourhood: `slug` is its address and its name in MQTT topics, `name` what people call it."""

    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class Sensor:
    """One sensor in the public register. `calibrated`: the day it was last held against a reference, by `method`; None
    if it never was, and then `method` is "". `computes`: what the box makes of what it sees; `leaves`: what of it
    leaves the box; `checked`: the day when somebody last looked whether it works."""

    stream: str
    device: str
    calibrated: date | None
    method: str
    computes: str = ""
    leaves: str = ""
    checked: date | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """A place with sensors and its entry in the public register. `id` is the archive's name for it; `until` is the
    last day for which the sensors are allowed, None where no end is decided. `lat` and `lon`: degrees, coarse on
    purpose, None where the place is not told. `code`: what stands on the pole. `dominant`: one of NOISE_SOURCES, ""
    where nobody has said what makes most of the noise; then noise is compared with no limit."""

    id: str
    name: str
    quartier: str
    purpose: str
    owner: str
    contact: str
    purpose_en: str
    until: date | None
    sensor: tuple[Sensor, ...]
    lat: float | None = None
    lon: float | None = None
    street: str = ""
    legal_basis: str = ""
    installed: date | None = None
    code: str = ""
    dominant: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asked about the sensors: no name, a public `number`. `received`: when it came; `site`: the sensors
    that it is about, "" where it asks for one that is not there. `kind` is one of REQUEST_KINDS, `state` of
    REQUEST_STATES; `answered` and `answer` are None and "" while it is open."""

    number: str
    received: date
    site: str
    kind: str
    state: str
    answered: date | None
    answer: str


@dataclass(frozen=True, slots=True)
class City:
    """The whole file. `help`: where a person gets an answer without the internet. `simulated`: every page says so.
    `address`: where the public finds the home page, with "/" at its end, "" where that is not known: then nothing that
    needs a whole address is made. `licence`: one of LICENCES. `answer_days`: within how many days a request is
    answered. `aasqa`: the association that measures the air by law. `geojson`: the ground of each
    quartier, none without a file of it. `thresholds`: the town's own file of limits, None where it has none."""

    city: str
    timezone: str
    help: str
    simulated: bool
    quartier: tuple[Quartier, ...]
    site: tuple[Site, ...]
    address: str = ""
    publisher: str = ""
    licence: str = LICENCES[0]
    answer_days: int | None = None
    postal: str = ""
    phone: str = ""
    aasqa: str = ""
    geojson: tuple[citymap.Area, ...] = ()
    thresholds: Path | None = None
    request: tuple[Request, ...] = ()
    _by_quartier: dict[str, tuple[Site, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for site in self.site:
            self._by_quartier[site.quartier] = (*self._by_quartier.get(site.quartier, ()), site)

    def sites_of(self, slug: str) -> tuple[Site, ...]:
        """Returns the sites of one quartier, in the order of the file."""
        return self._by_quartier.get(slug, ())


class _Table:
    """One table of the file; says precisely what is wrong with it."""

    def __init__(self, file: str, where: str, table: Mapping[str, Any], known: type) -> None:
        self.file, self.where, self.table = file, where, table
        names = tuple(one.name for one in fields(known) if one.init)
        for key in table:
            if key not in names:
                raise self.fail(key, "unknown key", f"write one of {', '.join(names)}")

    def fail(self, key: str, problem: str, mend: str) -> ConfigError:
        return ConfigError(self.file, f"{self.where}{key}", problem, mend)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.table.get(key, default)
        if value is None:
            raise self.fail(key, "missing", "write a text in quotes")
        if not isinstance(value, str) or len(value) > 1000 or not (value.isprintable() and (value or default == "")):
            raise self.fail(key, f"{value!r} is not one line of text", "write a text in quotes")
        return value

    def slug(self, key: str) -> str:
        return self.shaped(key, _SLUG, "is no slug", "write small letters, digits and single hyphens, 64 signs at most")

    def shaped(self, key: str, shape: re.Pattern[str], problem: str, mend: str, default: str | None = None) -> str:
        value = self.text(key, default)
        if value != default and not shape.fullmatch(value):
            raise self.fail(key, f"{value!r} {problem}", mend)
        return value

    def one_of(self, key: str, known: tuple[str, ...], default: str | None = None) -> str:
        value = self.text(key, default)
        if value not in (*known, default):
            raise self.fail(key, f"{value!r} is unknown", f"write one of {', '.join(known)}")
        return value

    def flag(self, key: str) -> bool:
        value = self.table.get(key, False)
        if not isinstance(value, bool):
            raise self.fail(key, f"{value!r} is neither true nor false", "write true or false")
        return value

    def day(self, key: str) -> date | None:
        value = self.table.get(key)
        if value is not None and (not isinstance(value, date) or isinstance(value, datetime)):
            raise self.fail(key, f"{value!r} is not a date", "write a date such as 2027-11-30, or leave the key out")
        return value

    def days(self, key: str) -> int | None:
        value = self.table.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 365):
            raise self.fail(key, f"{value!r} is no number of days", "write a whole number from 1 to 365")
        return value

    def degrees(self, key: str, most: int) -> float | None:
        value = self.table.get(key)
        if value is None:
            return None
        if not isinstance(value, float) or not -most <= value <= most:
            raise self.fail(key, f"{value!r} is not between -{most}.0 and {most}.0", "write degrees such as 47.219")
        if value != round(value, 3):
            raise self.fail(key, f"{value!r} is finer than a street", "write at most three decimals")
        return value

    def file_named(self, key: str) -> Path | None:
        value = self.text(key, "")
        path = Path(self.file).parent / value
        if value and not path.is_file():
            raise self.fail(key, f"{value!r} is no file", "name one that lies beside this, or leave the key out")
        return path if value else None

    def tables(self, key: str, of: type, least: int = 1) -> list[_Table]:
        entries = self.table.get(key, [])
        if not isinstance(entries, list) or len(entries) < least or not all(isinstance(e, dict) for e in entries):
            raise self.fail(key, "missing or no list of tables", f"write at least one [[{key}]]")
        where = f"{self.where}{key}"
        return [_Table(self.file, f"{where} {number}: ", entry, of) for number, entry in enumerate(entries, 1)]

    def once(self, key: str, values: list[str]) -> None:
        for value in values:
            if values.count(value) > 1:
                raise self.fail(key, f"{value!r} stands twice", "give each its own")


def load(path: Path) -> City:
    """Returns the city that a file describes. Raises ConfigError (one line: file, key, problem, mend)."""
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(str(path), "file", error.strerror or "unreadable", "name a city.toml that exists") from error


def parse(data: bytes, source: str) -> City:
    """Returns the city in these bytes; `source` names the file in errors. Raises ConfigError."""
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(source, "file", f"not TOML: {error}", "mend that line") from error
    top = _Table(source, "", table, City)
    timezone = top.text("timezone")
    try:
        Calendar(timezone)
    except BadTimezone as error:
        raise top.fail("timezone", f"{timezone!r} is unknown", "write a name such as Europe/Paris") from error
    quartiers = tuple(Quartier(read.slug("slug"), read.text("name")) for read in top.tables("quartier", Quartier))
    top.once("quartier", [quartier.slug for quartier in quartiers])
    slugs = [quartier.slug for quartier in quartiers]
    sites = []
    for read in top.tables("site", Site):
        slug = read.text("quartier")
        if slug not in slugs:
            raise read.fail("quartier", f"{slug!r} is no slug of a [[quartier]]", f"write one of {', '.join(slugs)}")
        lat, lon = read.degrees("lat", 90), read.degrees("lon", 180)
        if (lat is None) != (lon is None):
            raise read.fail("lat" if lat is None else "lon", "missing", "write both lat and lon, or neither")
        sites.append(
            Site(
                id=read.slug("id"),
                name=read.text("name"),
                quartier=slug,
                purpose=read.text("purpose"),
                owner=read.text("owner"),
                contact=read.text("contact"),
                purpose_en=read.text("purpose_en", ""),
                until=read.day("until"),
                sensor=tuple(map(_sensor, read.tables("sensor", Sensor, least=0))),
                lat=lat,
                lon=lon,
                street=read.text("street", ""),
                legal_basis=read.text("legal_basis", ""),
                installed=read.day("installed"),
                code=read.shaped("code", _CODE, "is no code", "write 2 to 8 capital letters and digits", ""),
                dominant=read.one_of("dominant", NOISE_SOURCES, ""),
            )
        )
    ids = [site.id for site in sites]
    top.once("site", ids)
    top.once("site", [site.code for site in sites if site.code])
    requests = tuple(_request(read, ids) for read in top.tables("request", Request, least=0))
    top.once("request", [request.number for request in requests])
    borders = top.file_named("geojson")
    return City(
        city=top.text("city"),
        timezone=timezone,
        help=top.text("help"),
        simulated=top.flag("simulated"),
        quartier=quartiers,
        site=tuple(sites),
        address=top.shaped(
            "address", _ADDRESS, "is no address of a home page", 'write such as "https://capteurs.example/"', ""
        ),
        publisher=top.text("publisher", ""),
        licence=top.one_of("licence", LICENCES, LICENCES[0]),
        answer_days=top.days("answer_days"),
        postal=top.text("postal", ""),
        phone=top.text("phone", ""),
        aasqa=top.text("aasqa", ""),
        geojson=citymap.load(borders, slugs) if borders else (),
        thresholds=top.file_named("thresholds"),
        request=requests,
    )


def _sensor(read: _Table) -> Sensor:
    calibrated = read.day("calibrated")
    return Sensor(
        stream=read.text("stream"),
        device=read.text("device"),
        calibrated=calibrated,
        method=read.text("method", "" if calibrated is None else None),
        computes=read.text("computes", ""),
        leaves=read.text("leaves", ""),
        checked=read.day("checked"),
    )


def _request(read: _Table, ids: list[str]) -> Request:
    came, site = read.day("received"), read.text("site", "")
    if came is None:
        raise read.fail("received", "missing", "write the day when it came, such as 2026-11-30")
    if site not in (*ids, ""):
        raise read.fail("site", f"{site!r} is no id of a [[site]]", f"write one of {', '.join(ids)}")
    state, answered = read.one_of("state", REQUEST_STATES), read.day("answered")
    if (state == "open") != (answered is None):
        raise read.fail("answered", f"does not go with the state {state!r}", "write a day unless it is open")
    if answered is not None and answered < came:
        raise read.fail("answered", f"{answered} is before it came", "write the day of the answer")
    return Request(
        number=read.shaped("number", _NUMBER, "is no number", 'write letters and digits, such as "2026-003"'),
        received=came,
        site=site,
        kind=read.one_of("kind", REQUEST_KINDS),
        state=state,
        answered=answered,
        answer=read.text("answer", "" if answered is None else None),
    )
