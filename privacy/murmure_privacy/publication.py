"""What a town has published of its figures, as bytes, for anybody to check (`murmure_privacy.verify`)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from murmure_privacy import log
from murmure_privacy.window import calendar, parse_utc, utc

DAY_S = 86_400
ANNOTATIONS = "donnees/annotations.csv"
POLICIES = "donnees/politiques/"
RUNNING = "donnees/releases-jour-en-cours.csv"
"""The table of the day that is not over: those of the months end before it."""
EDITIONS = "donnees/editions.json"
"""What a build says of itself and of the tables of the months."""
FORMAT = 1
"""Of what a site publishes and `verify` checks, told in EDITIONS as `published_format`. One more with each change after
which a check of the version before would accuse a site that this one has built, or the other way round."""
LAST_DAY = 73_049  # 2170-01-01: whatever is dated later is rubbish


@dataclass(frozen=True, slots=True)
class Day:
    """The sealed messages with a node that ends on one day (since 1970, UTC). `read` may raise WireError."""

    day: int
    messages: int
    octets: int
    read: Callable[[], Sequence[bytes]]


def _nothing(_path: str) -> None:
    return None


def _free() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Made:
    """What a site says of how it was made. `format`: see FORMAT; `software`: which Murmure has built it. `timezone`: by
    the days of which its newest figures are estimated and its ledger is told; `timezones`: the same of each edition of
    a month, by month and number. None where it does not say it: the days are then those of the policies."""

    format: int | None = None
    software: str = ""
    timezone: str | None = None
    timezones: Mapping[tuple[str, int], str | None] = field(default_factory=dict)

    def every(self) -> list[str | None]:
        """Returns the timezones by which any of it was made, that of the newest figures first."""
        return list(dict.fromkeys((self.timezone, *self.timezones.values())))

    def require_known(self) -> None:
        """Raises BadTimezone for a timezone that this machine does not know."""
        for timezone in self.every():
            if timezone is not None:
                calendar(timezone)


def made(data: bytes | None) -> Made:
    """Returns what EDITIONS says of how a site was made; nothing where it is none."""
    try:
        told = json.loads(data or b"{}")
        timezones = {
            (month, one["number"]): one.get("timezone") for month, of in told.get("months", {}).items() for one in of
        }
        found = Made(told.get("published_format"), str(told.get("software", "")), told.get("timezone"), timezones)
        if not all(isinstance(one, str | None) for one in found.every()):
            return Made()
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return Made()
    return found


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published, as bytes. `policies`: sealed, by the SHA-256 of their text; `annotations`: sealed; `closing`:
    the last message of each account; `rows`: the rows of the tables of a month such as `2026-11`, by the number of
    their edition, from 1; it returns None for an edition that is not there, and is None where a source has no tables.
    `months`: those that are said to have tables. `read`: any other file by its path below the root, None where there is
    none. `made`: what it says of how it was made. `size`: how many bytes such a file is on its way, None where there is
    none or nobody says it; `used`: how many came already."""

    note: bytes
    centre: bytes
    entries: Sequence[bytes]
    policies: Mapping[bytes, bytes]
    annotations: Sequence[bytes]
    closing: Sequence[bytes]
    days: Sequence[Day]
    rows: Callable[[str, int], Iterable[Mapping[str, str]] | None] | None
    months: Sequence[str] = ()
    made: Made = field(default_factory=Made)
    read: Callable[[str], bytes | None] = _nothing
    size: Callable[[str], int | None] = _nothing
    used: Callable[[], int] = _free


def days_of(published: Publication) -> list[int]:
    """Returns the days that have messages or, by the log, an account, the newest first: whoever serves the files can
    leave out a file, but not an entry."""
    found = {day.day for day in published.days}
    for entry in published.entries:
        try:
            told = log.read_entry(entry)
            if told["kind"] == "spend":
                found.add(day_of(told["day"]))
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError):
            continue
    return sorted(found, reverse=True)


def day_of(date: str) -> int:
    """Returns a day such as `2026-11-23` since 1970 (UTC). Raises ValueError."""
    day = parse_utc(f"{date}T00:00:00Z") // DAY_S
    if not 0 <= day < LAST_DAY:
        raise ValueError(f"{date} is no day of ours")
    return day


def date_of(day: int) -> str:
    """Returns the date of a day since 1970 (UTC)."""
    return utc(day * DAY_S)[:10]


def table_file(month: str, edition: int, ending: str = "csv") -> str:
    """Returns the path of the table of a month such as `2026-11`, or of its Parquet twin."""
    return f"donnees/releases-{month}{'' if edition == 1 else f'.{edition}'}.{ending}"


def rows_of(data: bytes) -> Iterator[dict[str, str]]:
    """Yields the rows of a CSV file up to where it is none: what cannot be read is a row without anything, and so is a
    file in which two columns have one name, of which readers would take one or the other."""
    rows = csv.DictReader(io.StringIO(data.decode("utf-8", "replace"), newline=""))
    try:
        names = rows.fieldnames or ()
        if len(set(names)) != len(names):
            yield {}
            return
        yield from rows
    except csv.Error:
        yield {}
