"""What was once worked out of finished periods, so that a month or a year is not estimated again at every build.

A throw-away SQLite file beside the site. It holds nothing that the archive does not give again: whoever deletes it
changes no byte of the site, only the time that the next build takes. A row is what somebody (`kind`) made of the nodes
of one stream that intersect `[from_s, to_s)`, once nothing more was to come for them in ordinary life. It is valid as
long as no such node has come since: the file remembers how far the archive had come, by the row of the last message
and the running sum over all of them, and by the messages that had waited before they were filed. What has come since
takes the rows that it touches with it; another archive, another timezone, other rules of it or another version of
Murmure takes all. A row that is not what its own sum says is not there, and a file that is no store is made anew.

Not in a row may be what changes without a node: annotations, `city.toml`, catalogues, whatever depends on the instant.

One process opens it with `Store.open`, which looks at what has come; others that work beside it make a `Store` of the
same path each: a connection must not cross a fork. Rows are written by `flush`, all at once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
import zoneinfo
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, Self

from murmure_privacy.window import Window

_FORMAT = 1
_PATIENCE_S = 30.0
_PACKAGES = ("murmure_privacy", "murmure_ingest", "murmure_dashboards")
"""The kernel, whoever reads the archive, the pages."""
_MOST_KEPT = 2000  # rows that wait for `flush` before they are written all the same
_TABLES = (
    """CREATE TABLE IF NOT EXISTS periods (
  kind TEXT NOT NULL, stream TEXT NOT NULL, start_s INTEGER NOT NULL, from_s INTEGER NOT NULL, to_s INTEGER NOT NULL,
  sum INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, stream, start_s)
) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS stamp (told TEXT NOT NULL)",
)


class Grown(Protocol):
    """What an archive says of how it grew: `murmure_ingest.archive.order` says what each returns."""

    def newest_row(self) -> int: ...
    def head_at(self, row: int) -> bytes | None: ...
    def told_after(self, row: int) -> Iterator[tuple[str, int, int]]: ...
    def told_by(self, row: int) -> Iterator[tuple[str, int, int]]: ...
    def filed_late(self) -> set[int]: ...


class Store:
    """Rows of finished periods by kind, stream and begin. `path` None: in memory, for one build. `seen`: how far the
    archive had come when these were gone through, by its newest row and by how many messages had waited before they
    were filed; None where `open` did not."""

    def __init__(self, path: Path | None) -> None:
        self._new: dict[tuple[str, str], dict[int, tuple[int, int, bytes]]] = {}
        self._waiting = 0
        self._path = path
        self.seen: tuple[int, int] | None = None
        self._db = self._connected()

    @classmethod
    def open(cls, path: Path | None, archive: Grown, timezone: str) -> Self:
        """Returns the store of an archive, without the rows that what has come since may have changed."""
        store = cls(path)
        try:
            store._catch_up(archive, timezone)
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError, AttributeError):
            store._begin_anew()
            store._catch_up(archive, timezone)
        return store

    def read(self, kind: str, stream: str, span: Window) -> dict[int, bytes]:
        """Returns the values of the rows that begin in a span, by their begin (seconds UTC)."""
        found = {}
        try:
            for start_s, from_s, to_s, held, value in self._db.execute(
                "SELECT start_s, from_s, to_s, sum, value FROM periods "
                "WHERE kind = ? AND stream = ? AND start_s >= ? AND start_s < ?",
                (kind, stream, span.start_s, span.end_s),
            ):
                if isinstance(value, bytes) and held == _sum(kind, stream, start_s, from_s, to_s, value):
                    found[int(start_s)] = value
        except sqlite3.DatabaseError as error:
            # Another process writes, and its rows are whole; Python's own errors have no code.
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
                self._begin_anew()
            found = {}
        new = self._new.get((kind, stream), {})
        return found | {start_s: row[2] for start_s, row in new.items() if start_s in span}

    def keep(self, kind: str, stream: str, start_s: int, of: Window, value: bytes) -> None:
        """Remembers what was made of a stream's nodes that intersect `of`, from the next `flush` on for others."""
        self._new.setdefault((kind, stream), {})[start_s] = of.start_s, of.end_s, value
        self._waiting += 1
        if self._waiting >= _MOST_KEPT:
            self.flush()

    def forget(self, kinds: Collection[str], before_s: int) -> None:
        """Drops the rows of some kinds about what was over before an instant."""
        try:
            with self._db:
                for kind in kinds:
                    self._db.execute("DELETE FROM periods WHERE kind = ? AND to_s < ?", (kind, before_s))
        except sqlite3.DatabaseError:
            return

    def flush(self) -> None:
        """Writes what is to be kept. Where the disk refuses, it is left: the site does not need it."""
        rows = [
            (*key, start_s, from_s, to_s, _sum(*key, start_s, from_s, to_s, value), value)
            for key, of in self._new.items()
            for start_s, (from_s, to_s, value) in of.items()
        ]
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO periods VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.DatabaseError:
            return
        self._new.clear()
        self._waiting = 0

    def close(self) -> None:
        """Writes what is to be kept and lets go of the file."""
        self.flush()
        self._db.close()

    def _catch_up(self, archive: Grown, timezone: str) -> None:
        row, late = archive.newest_row(), archive.filed_late()
        before = self._db.execute("SELECT told FROM stamp").fetchone()
        told = json.loads(before[0]) if before else {}
        made = {"format": _FORMAT, "made": version(), "timezone": timezone, "rules": zone_sum(timezone)}
        known = {key: told.get(key) for key in made} == made
        if known and told["row"] <= row and told["head"] == _head(archive, told["row"]):
            waited = sorted(late - set(told["late"]))
            touched = {one for at in waited for one in archive.told_by(at)}
            touched |= set(archive.told_after(told["row"])) if told["row"] < row else set()
        else:
            touched = None
        stamp = json.dumps({**made, "row": row, "head": _head(archive, row), "late": sorted(late)})
        with self._db:
            if touched is None:
                self._db.execute("DELETE FROM periods")
            else:
                spans = list(_spans(touched))
                for kind in self._kinds():  # without it each span would be looked for in the whole file
                    self._db.executemany(
                        "DELETE FROM periods WHERE kind = ? AND stream = ? AND from_s < ? AND to_s > ?",
                        ((kind, stream, end_s, start_s) for stream, start_s, end_s in spans),
                    )
            self._db.execute("DELETE FROM stamp")
            self._db.execute("INSERT INTO stamp VALUES (?)", (stamp,))
        self.seen = row, len(late)

    def _kinds(self) -> Iterator[str]:
        """Yields the kinds that there are, each found in the key and not row by row."""
        kind = ""
        while (
            found := self._db.execute("SELECT min(kind) FROM periods WHERE kind > ?", (kind,)).fetchone()[0]
        ) is not None:
            yield (kind := found)

    def _connected(self) -> sqlite3.Connection:
        try:
            return self._prepared()
        except sqlite3.DatabaseError:
            if self._path is None:
                raise
            _remove(self._path)
            return self._prepared()

    def _prepared(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path or ":memory:", timeout=_PATIENCE_S)
        db.execute("PRAGMA synchronous = OFF")  # what a power cut takes is made again
        for table in _TABLES:
            db.execute(table)
        return db

    def _begin_anew(self) -> None:
        self._db.close()
        if self._path is not None:
            _remove(self._path)
        self._db = self._connected()


def _spans(touched: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, int, int]]:
    """Yields what nodes touch, each stream's overlapping and adjoining spans as one."""
    last: tuple[str, int, int] | None = None
    for stream, start_s, end_s in sorted(touched):
        if last and last[0] == stream and start_s <= last[2]:
            last = stream, last[1], max(last[2], end_s)
            continue
        if last:
            yield last
        last = stream, start_s, end_s
    if last:
        yield last


def _head(archive: Grown, row: int) -> str | None:
    head = archive.head_at(row)
    return None if head is None else head.hex()


def _sum(kind: str, stream: str, start_s: int, from_s: int, to_s: int, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(f"{kind} {stream} {start_s} {from_s} {to_s}".encode()))


def _remove(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}-journal")):
        name.unlink(missing_ok=True)


def zone_sum(timezone: str) -> str:
    """Returns the sum of the rules of a timezone, of the file that `zoneinfo` reads: the system's, else tzdata's."""
    files: list[Traversable] = [Path(folder, timezone) for folder in zoneinfo.TZPATH]
    if find_spec("tzdata"):
        files.append(resources.files("tzdata").joinpath("zoneinfo", timezone))
    content = next((file.read_bytes() for file in files if file.is_file()), b"")
    return hashlib.sha256(content).hexdigest()


@cache
def version() -> str:
    """Returns the sum of all that figures are made with."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            for file in sorted(Path(folder).rglob("*.py")):
                digest.update(file.read_bytes())
    return digest.hexdigest()
