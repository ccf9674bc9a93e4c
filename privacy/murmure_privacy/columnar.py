"""The rows of a Parquet file, for who has pyarrow: it is none of the packages that a check needs. The only file of the
kernel that knows it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from murmure_privacy.window import parse_utc

_ROWS = 10_000  # that are decoded at once
_MOST_AT_ONCE = 1 << 24  # octets of these rows in a column: theirs are some hundred thousand
_LARGEST = 1 << 30

Reader = Callable[[bytes], Iterator[dict[str, Any]]]


@lru_cache(maxsize=1)
def reader() -> Reader | None:
    """Returns what yields the rows of a Parquet file, and raises ValueError for what is none; None where pyarrow is not
    installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return None

    def rows(data: bytes) -> Iterator[dict[str, Any]]:
        try:
            file = parquet.ParquetFile(io.BytesIO(data))
            groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
            if sum(group.total_byte_size for group in groups) > _LARGEST:
                raise ValueError("too large")
            for batch in file.iter_batches(batch_size=_ROWS):
                names = batch.schema.names
                for cells in zip(*map(_cells, batch.columns), strict=True):
                    yield dict(zip(names, cells, strict=True))
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{error}") from error

    return rows


def _cells(column: Any) -> Iterator[Any]:
    """Yields the cells of a column. A value that stands in many rows is made once: that takes longer than all else, and
    a long text may stand in all of them. Of a dictionary with more values than rows only those that stand there are,
    and long texts that differ, which a small file can have, are made one after the other."""
    if column.nbytes > _MOST_AT_ONCE:
        return (cell.as_py() for cell in column)
    coded = column.dictionary_encode()
    if len(coded.dictionary) > _ROWS:
        return (cell.as_py() for cell in column)
    values = [*coded.dictionary.to_pylist(), None]
    places = coded.indices.cast("int32").fill_null(len(values) - 1)
    return map(values.__getitem__, memoryview(places.buffers()[1]).cast("i")[places.offset :][: len(places)])


def same(row: Mapping[str, Any], text: Mapping[str, str]) -> bool:
    """Returns whether a row with types says what the cells of a CSV file say: an empty cell is nothing, an instant is
    UTC. Raises ValueError for a cell that is no number or instant where the other is one."""
    return row.keys() == text.keys() and all(_same(row[name], cell) for name, cell in text.items())


def _same(value: object, cell: str | None) -> bool:
    return _known(value, cell) if isinstance(value, int | float | datetime) else _alike(value, cell)


def _alike(value: object, cell: str | None) -> bool:
    if value is None or not cell:
        return value is None and not cell
    if isinstance(value, datetime):
        return value == datetime.fromtimestamp(parse_utc(cell), UTC)
    if isinstance(value, int | float):
        return value == float(cell)
    return value == cell


_known = lru_cache(maxsize=64, typed=True)(_alike)  # a few rows: most cells are those of the row before
