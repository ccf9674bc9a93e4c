"""Last part of a check: files that say again what the tables say are no other than these, and as their sums say."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from itertools import zip_longest

from murmure_privacy import codes, columnar
from murmure_privacy.publication import DAY_S, EDITIONS, Publication, rows_of, table_file
from murmure_privacy.verify_log import Book
from murmure_privacy.verify_tables import Tables
from murmure_privacy.window import parse_utc

FOLDER = "donnees/"
SUMS = f"{FOLDER}SHA256SUMS"
_BESIDE = ("jour", "semaine", "codes", "codes-annee", "codes-heures")
_OF_A_WEEK = ("jour", "codes")


class Files:
    """The files beside the tables: sums, Parquet, and those of each neighbourhood of the log."""

    def __init__(self, published: Publication, book: Book, tables: Tables) -> None:
        self.report = book.report
        self._read, self._published, self._book, self._tables = published.read, published, book, tables

    def sums(self, line: int | None = None) -> None:
        """Every file of the months that were read has the SHA-256 that the site tells of it, and no edition is without;
        a Parquet twin has the rows of its table, where pyarrow can read them. `line`: see `verify.verify`."""
        expected = self._expected()
        twins = [table_file(month, 1 + n, "parquet") for month, of in self._tables.editions.items() for n in range(of)]
        sizes = sum(self._published.size(twin) or 0 for twin in twins) if line is not None else 0
        if line is not None and self._published.used() + sizes > line:
            self.report.left_columnar = self._tables.months
        self.report.columnar = 0 if columnar.reader() is not None else None
        for month in self._tables.months:
            names = {name for name in expected if name.startswith(f"releases-{month}.")}
            for number in range(1, self._tables.editions.get(month, 0) + 1):
                names |= {f"releases-{month}{'' if number == 1 else f'.{number}'}{end}" for end in (".csv", ".parquet")}
            for name in sorted(names):
                if self.report.left_columnar and name.endswith(".parquet"):
                    continue
                data = self._read(f"{FOLDER}{name}")
                if data is None or expected.get(name) != {sha256(data).hexdigest()}:
                    self.report.add("sum_wrong", name)
                else:
                    self.report.sums += 1
                if data is not None and name.endswith(".parquet") and not self._same_rows(name, data):
                    self.report.add("columnar_wrong", name)

    def _expected(self) -> dict[str, set[str]]:
        """Returns the sums of files by their names: of closed ones by SHA256SUMS, of all by `editions.json`."""
        found: dict[str, set[str]] = {}
        for line in (self._read(SUMS) or b"").decode("utf-8", "replace").splitlines():
            digest, _, name = line.partition("  ")
            found.setdefault(name, set()).add(digest)
        try:
            for month, editions in json.loads(self._read(EDITIONS) or b"{}").get("months", {}).items():
                for one in editions:
                    stem = f"releases-{month}{'' if one['number'] == 1 else '.' + str(one['number'])}"
                    found.setdefault(f"{stem}.csv", set()).add(str(one["sha256"]))
                    found.setdefault(f"{stem}.parquet", set()).add(str(one["columnar_sha256"]))
        except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
            self.report.add("sum_wrong", EDITIONS.removeprefix(FOLDER))
        return found

    def _same_rows(self, name: str, data: bytes) -> bool:
        """Returns whether a Parquet file has the rows of its CSV file, one for one; True where nobody can read it."""
        read = columnar.reader()
        twin = self._read(f"{FOLDER}{name.removesuffix('.parquet')}.csv")
        if read is None:
            return True
        try:
            for row, other in zip_longest(read(data), rows_of(twin or b"")):
                if row is None or other is None or not columnar.same(row, other):
                    return False
                self.report.columnar = (self.report.columnar or 0) + 1
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError):
            return False
        return True

    def quartiers(self, unread: Collection[int]) -> None:
        """Each row of a neighbourhood's day and week, and each of its codes, is a row of the tables, and a code leads
        to the figure beside which it stands."""
        for slug in sorted({gateway.quartier for gateway in self._book.gateways.values()}):
            for what in _BESIDE:
                # Of a large town, the rows of the week are the tables here, and codes of a year are hardly about days
                # that were read.
                if self._tables.week and what not in _OF_A_WEEK:
                    continue
                name = f"{slug}-{what}.csv"
                for row in self._rows(name):
                    try:
                        kind = self._objection(row, unread)
                    except (KeyError, ValueError, AttributeError, OverflowError):
                        self.report.add("quartier_row", name)
                        continue
                    if kind is not None:
                        where = f"{row['stream']} {row['node']} {row['start_utc']} {row['indicator']}"
                        self.report.add(kind, f"{name}: {where}")

    def _objection(self, row: Mapping[str, str], unread: Collection[int]) -> str | None:
        """Returns what is wrong with a row: one of KINDS, None for nothing, or where nobody read its day, which the row
        names, or its code. Raises KeyError, ValueError, AttributeError, OverflowError for what is no row."""
        key = row["stream"], row["node"], parse_utc(row["start_utc"]), row["indicator"]
        table = self._tables.rows.get(key)
        ends = row.get("end_utc") or (table or {}).get("end_utc", "")
        end_s = parse_utc(ends) if ends else None
        if table is None and (codes.read(row["code"])[1] if end_s is None else (end_s - 1) // DAY_S) in unread:
            return None
        self.report.beside += 1
        if "code" in row and end_s is not None and row["code"] != codes.code(*key[:3], end_s, key[3]):
            return "code_wrong"
        told = dict(row)
        told.pop("code", None)
        return None if table is not None and told.items() <= table.items() else "quartier_row"

    def _rows(self, name: str) -> Iterator[Mapping[str, str]]:
        if self._published.rows is not None:
            yield from rows_of(self._read(f"{FOLDER}{name}") or b"")
