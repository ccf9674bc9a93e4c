"""`city.toml`: what the archive does not know about the city. Parsed once; unknown keys are refused."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any

from murmure_privacy.errors import ConfigError
from murmure_privacy.window import BadTimezone, Calendar

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Quartier:
    """A neighbourhood: `slug` is its address and its name in MQTT topics, `name` what people call it."""

    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class Sensor:
    """One sensor in the public register. `calibrated`: the day it was last held against a reference, by `method`; None
    if it never was, and then `method` is ""."""

    stream: str
    device: str
    calibrated: date | None
    method: str


@dataclass(frozen=True, slots=True)
class Site:
    """A place with sensors and its entry in the public register. `id` is the archive's name for it; `until` is the
    last day for which the sensors are allowed, None where no end is decided."""

    id: str
    name: str
    quartier: str
    purpose: str
    owner: str
    contact: str
    purpose_en: str
    until: date | None
    sensor: tuple[Sensor, ...]


@dataclass(frozen=True, slots=True)
class City:
    """The whole file. `help`: where a person gets an answer without the internet. `simulated`: every page says so."""

    city: str
    timezone: str
    help: str
    simulated: bool
    quartier: tuple[Quartier, ...]
    site: tuple[Site, ...]

    def sites_of(self, slug: str) -> tuple[Site, ...]:
        """Returns the sites of one quartier, in the order of the file."""
        return tuple(site for site in self.site if site.quartier == slug)


class _Table:
    """One table of the file; says precisely what is wrong with it."""

    def __init__(self, file: str, where: str, table: Mapping[str, Any], known: type) -> None:
        self.file, self.where, self.table = file, where, table
        names = tuple(field.name for field in fields(known))
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
        value = self.text(key)
        if not _SLUG.fullmatch(value):
            raise self.fail(key, f"{value!r} is no slug", "write small letters, digits and single hyphens")
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
        sites.append(
            Site(
                id=read.text("id"),
                name=read.text("name"),
                quartier=slug,
                purpose=read.text("purpose"),
                owner=read.text("owner"),
                contact=read.text("contact"),
                purpose_en=read.text("purpose_en", ""),
                until=read.day("until"),
                sensor=tuple(map(_sensor, read.tables("sensor", Sensor, least=0))),
            )
        )
    top.once("site", [site.id for site in sites])
    return City(
        city=top.text("city"),
        timezone=timezone,
        help=top.text("help"),
        simulated=top.flag("simulated"),
        quartier=quartiers,
        site=tuple(sites),
    )


def _sensor(read: _Table) -> Sensor:
    calibrated = read.day("calibrated")
    return Sensor(
        stream=read.text("stream"),
        device=read.text("device"),
        calibrated=calibrated,
        method=read.text("method", "" if calibrated is None else None),
    )
