"""A table of the open data as Parquet, from its CSV file: the same rows and columns, typed. The only file that knows
pyarrow. The same file gives the same bytes, with the same version of pyarrow."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib import metadata

from murmure_dashboards.catalogue import Column


def edition() -> str:
    """Returns what the bytes of a file depend on besides its content: the version of pyarrow."""
    return metadata.version("pyarrow")


def table(columns: Sequence[Column], content: bytes, about: Mapping[str, str]) -> bytes:
    """Returns a CSV file (UTF-8, with its header) as Parquet. Instants are UTC, in milliseconds; numbers of 64 bits;
    texts have dictionaries; an empty cell is null. `about` stands in the file's key-value metadata. Raises ValueError
    where a cell is not of its column's type."""
    # A second to load, and most builds that change no month of a small town never ask for it twice.
    import pyarrow as pa
    from pyarrow import csv
    from pyarrow import parquet as pq

    types = {
        "datetime": pa.timestamp("ms", tz="UTC"),
        "number": pa.float64(),
        "integer": pa.int64(),
        "string": pa.dictionary(pa.int32(), pa.string()),
    }
    read = csv.read_csv(
        io.BytesIO(content),
        read_options=csv.ReadOptions(use_threads=False, block_size=len(content) + 1),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types={column.name: types[column.kind] for column in columns},
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    found = io.BytesIO()
    pq.write_table(
        read.replace_schema_metadata(dict(about)),
        found,
        version="2.6",
        compression="zstd",
        use_dictionary=[column.name for column in columns if column.kind != "number"],  # hardly two are equal
        coerce_timestamps="ms",
    )
    return found.getvalue()
