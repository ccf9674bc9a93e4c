"""Every row out, and in again: copies of an archive as files."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from murmure_ingest.archive.database import Database, Remembered
from murmure_ingest.archive.errors import explained


class Copies(Database):
    """What `murmure_ingest.transfer` writes and reads."""

    def tables(self) -> list[str]:
        """Returns the names of all tables."""
        rows = self._rows(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
        )
        return [name for (name,) in rows]

    def row_count(self, table: str) -> int:
        """Returns how many rows one of `tables` has."""
        return int(self._rows(f"SELECT count(*) FROM {table}")[0][0])

    def rows_of(self, table: str, span: tuple[int, int] | None = None) -> Iterator[dict[str, Any]]:
        """Yields the rows of one of `tables` by its key; of messages, and what hangs on them, only those filed with a
        node that ends in the span (from, to], if there is one."""
        columns = self._columns(table)
        on = {"messages": "id", "amendments": "message", "nodes": "message"}.get(table) if span else None
        where = f"WHERE {on} IN (SELECT message FROM nodes WHERE end_s > ? AND end_s <= ?)" if on else ""
        keys = ", ".join(name for name, _, place in sorted(columns, key=lambda column: column[2]) if place)
        names = [name for name, _, _ in columns]
        with explained(self.path):
            found = self._db.execute(
                f"SELECT {', '.join(names)} FROM {table} {where} ORDER BY {keys}", span if on and span else ()
            )
            for row in found:
                yield dict(zip(names, row, strict=True))

    def refill(self, table: str, rows: Iterable[dict[str, Any]]) -> int:
        """Puts back rows of one of `tables`, blobs in base64 (within a transaction). Returns how many.

        Raises ValueError for a row that the table does not take.
        """
        self._db.execute("PRAGMA defer_foreign_keys = ON")
        self._remembered = Remembered()
        columns = self._columns(table)
        blobs = {name for name, kind, _ in columns if kind == "BLOB"}
        statement = f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})"
        count = 0
        for row in rows:
            if row.keys() != {name for name, _, _ in columns}:
                raise ValueError(f"{table}: other columns")
            try:
                values = [
                    base64.b64decode(row[name], validate=True) if name in blobs and row[name] is not None else row[name]
                    for name, _, _ in columns
                ]
                self._db.execute(statement, values)
            except (sqlite3.IntegrityError, sqlite3.ProgrammingError, OverflowError, TypeError) as error:
                raise ValueError(f"{table}: {error}") from error
            count += 1
        return count

    def _columns(self, table: str) -> list[tuple[str, str, int]]:
        """Returns name, type and place in the key (from 1; 0: none) of each column of one of `tables`."""
        return [(row[1], row[2], row[5]) for row in self._rows(f"PRAGMA table_info({table})")]
