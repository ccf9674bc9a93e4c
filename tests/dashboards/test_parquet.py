"""The Parquet file of a month: the rows of its CSV file, each cell with its type, and the licence in it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from murmure_dashboards import catalogue, opendata, parquet
from murmure_privacy.window import utc

COLUMNS = catalogue.columns("releases")
TYPES = {
    "datetime": pa.timestamp("ms", tz="UTC"),
    "number": pa.float64(),
    "integer": pa.int64(),
    "string": pa.dictionary(pa.int32(), pa.string()),
}


@pytest.fixture(scope="module")
def month(site: Path, streets: SimpleNamespace) -> tuple[list[dict[str, str]], bytes]:
    """The rows of the month as text, and its Parquet file."""
    midnight = utc(streets.PARIS.day(streets.NOW_S).start_s)
    with (site / "donnees/releases-2026-11.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert all(row["start_utc"] < midnight for row in rows), "today has a file of its own"
    return rows, (site / "donnees/releases-2026-11.parquet").read_bytes()


def differing(rows: list[dict[str, str]], content: bytes) -> list[tuple[int, str]]:
    """Returns the cells of a Parquet file that do not say what the CSV says: number of the row and column."""
    table = pq.read_table(io.BytesIO(content))
    if table.column_names != list(opendata.HEADER) or table.num_rows != len(rows):
        return [(0, "shape")]
    found = []
    for column in COLUMNS:
        for number, value in enumerate(table.column(column.name).to_pylist()):
            text = rows[number][column.name]
            expected: object = text
            if text == "":
                expected = None
            elif column.kind == "datetime":
                value = (
                    utc(int(value.timestamp())) if value.tzinfo and value.utcoffset().total_seconds() == 0 else value
                )
            elif column.kind in ("number", "integer"):
                expected = float(text) if column.kind == "number" else int(text)
            if value != expected:
                found.append((number, column.name))
    return found


def test_every_cell_is_that_of_the_csv_file(month: tuple[list[dict[str, str]], bytes]) -> None:
    """Row by row, column by column: the same number to its last bit, empty as null, instants in UTC."""
    rows, content = month
    assert len(rows) > 4000 and any(row["value"].startswith("-") for row in rows), "negative values stay"
    assert differing(rows, content) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [("estimate", "12.5"), ("status", "kept"), ("rho_micro", ""), ("end_utc", "2026-11-21T15:00:01Z")],
)
def test_another_cell_is_found(month: tuple[list[dict[str, str]], bytes], column: str, value: str) -> None:
    """The twin: one cell otherwise, or a row less, and the files no longer agree."""
    rows, content = month
    number = next(n for n, row in enumerate(rows) if row[column] not in ("", value))
    assert differing([*rows[:number], {**rows[number], column: value}, *rows[number + 1 :]], content) == [
        (number, column)
    ]
    assert differing(rows[1:], content) == [(0, "shape")]


def test_columns_have_their_types(month: tuple[list[dict[str, str]], bytes]) -> None:
    """No text where a number or an instant is meant: whoever opens it computes at once."""
    schema = pq.read_schema(io.BytesIO(month[1]))
    assert {field.name: field.type for field in schema} == {column.name: TYPES[column.kind] for column in COLUMNS}


def test_the_file_says_its_title_its_source_and_its_licence(month: tuple[list[dict[str, str]], bytes]) -> None:
    """In its key-value metadata, where every reader of Parquet finds them."""
    told = {key.decode(): value.decode() for key, value in pq.read_metadata(io.BytesIO(month[1])).metadata.items()}
    assert told["title"] == "Toutes les valeurs de 2026-11, du premier jour au 2026-11-20 compris"
    assert "Ville de Démo" in told["source"]
    assert told["license"] == "Licence Ouverte 2.0 (etalab-2.0)" and told["license_url"].endswith("v2.0.pdf")


def test_the_same_csv_gives_the_same_bytes(site: Path) -> None:
    """Twice made, byte for byte; with another title, others."""
    content = (site / "donnees/releases-2026-11.csv").read_bytes()
    about = {"title": "un"}
    once = parquet.table(COLUMNS, content, about)
    assert once == parquet.table(COLUMNS, content, about) != parquet.table(COLUMNS, content, {"title": "deux"})


def test_a_month_of_which_no_day_is_over_has_its_columns() -> None:
    """On the first of a month: no row, and every column with its type."""
    schema = pq.read_table(io.BytesIO(parquet.table(COLUMNS, opendata.table(()), {}))).schema
    assert {field.name: field.type for field in schema} == {column.name: TYPES[column.kind] for column in COLUMNS}


def test_a_cell_that_is_not_of_its_type_is_refused() -> None:
    """Never a null, never a text instead."""
    line = dict.fromkeys(opendata.HEADER, "") | {"start_utc": "2026-11-21T14:00:00Z", "value": "12"}
    assert pq.read_table(io.BytesIO(parquet.table(COLUMNS, opendata.table([tuple(line.values())]), {}))).num_rows == 1
    for wrong in ({"value": "a few"}, {"start_utc": "yesterday"}, {"rho_micro": "1.5"}):
        with pytest.raises(ValueError):
            parquet.table(COLUMNS, opendata.table([tuple((line | wrong).values())]), {})
