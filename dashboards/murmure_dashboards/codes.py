"""The short codes of what pages show, by which `murmure verify` leads to what a gateway has signed."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from io import StringIO

from murmure_privacy.codes import code
from murmure_privacy.window import parse_utc

from murmure_dashboards.opendata import HEADER, cell

_SHOWN = ("start_utc", "end_utc", "stream", "node", "indicator", "value", "estimate", "unit", "status")


def file(slug: str) -> str:
    """Returns the file with the short code of every value of a neighbourhood's week."""
    return f"donnees/{slug}-codes.csv"


def table(rows: Iterable[tuple[str, ...]]) -> bytes:
    """Returns, for rows of open data, the code by which `murmure verify` finds what a gateway has signed for each."""
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(("code", *_SHOWN))
    for row in rows:
        told = dict(zip(HEADER, row, strict=True))
        start_s, end_s = parse_utc(told["start_utc"]), parse_utc(told["end_utc"])
        found = code(told["stream"], told["node"], start_s, end_s, told["indicator"])
        writer.writerow((found, *(cell(told[name]) for name in _SHOWN)))
    return text.getvalue().encode()
