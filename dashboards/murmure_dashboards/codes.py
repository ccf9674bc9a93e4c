"""The short codes of what pages show, by which `murmure verify` leads to what a gateway has signed."""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Self

from murmure_privacy.codes import code
from murmure_privacy.estimate import Figure
from murmure_privacy.window import Window, parse_utc, utc

from murmure_dashboards.facts import shown_level
from murmure_dashboards.opendata import HEADER, cell
from murmure_dashboards.packed import joined, segment
from murmure_dashboards.views import StreamView

_OF_DAYS = ("code", "start_utc", "node", "stream", "indicator")
_SHOWN = ("start_utc", "end_utc", "stream", "node", "indicator", "value", "estimate", "unit", "status")


def file(slug: str) -> str:
    """Returns the file with the short code of every value of a neighbourhood's week."""
    return f"donnees/{slug}-codes.csv"


def year_file(slug: str) -> str:
    """Returns the file with the short codes of what a neighbourhood's month and year are made of."""
    return f"donnees/{slug}-codes-annee.csv"


def year_table(days: Iterable[str]) -> bytes:
    """Returns that file. `days`: the lines of each, as `day_lines` gives them."""
    return joined([segment(f"{','.join(_OF_DAYS)}\r\n{''.join(days)}".encode())])


def day_lines(view: StreamView, span: Window) -> str:
    """Returns the codes of the nodes that a day is made of, a line each of a CSV file; also those of their LAeq."""
    levels = {(one.level, one.start_s): one for one in view.figures if one.indicator == "laeq_db"}
    lines = []
    for node in Nodes.of(view).tiling(span):
        for one in filter(None, (node, levels.get((node.level, node.start_s)))):
            lines.append(f"{code_of(one)},{utc(one.start_s)},{one.level},{cell(one.stream)},{one.indicator}\r\n")
    return "".join(lines)


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


def code_of(figure: Figure) -> str:
    """Returns the code of a node's figure."""
    return code(figure.stream, figure.level, figure.start_s, figure.end_s, figure.indicator)


def of_day(view: StreamView, day: Window) -> str:
    """Returns the code of the node of a day, where its figure alone is what a page shows of the day; else ""."""
    level = shown_level(view, day)
    node = level if level is not None else view.scalar.get(("1d", day.start_s))
    whole = node is not None and (node.covered_from_s, node.end_s) == (day.start_s, day.end_s)
    return code_of(node) if node is not None and whole else ""


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of a stream that have a figure, by what they cover: of those that begin together the longest first."""

    known: Sequence[Figure]
    begins: Sequence[int]

    @classmethod
    def of(cls, view: StreamView) -> Self:
        """Returns those of a view."""
        known = sorted(view.scalar.values(), key=lambda one: (one.covered_from_s, -one.end_s, -one.start_s))
        return cls(known, [one.covered_from_s for one in known])

    def tiling(self, span: Window) -> list[Figure]:
        """Returns the fewest that cover together what was observed of a span, in order: what its figure comes from.
        Nodes lie within each other or apart."""
        found: list[Figure] = []
        at_s = span.start_s
        for one in self.known[bisect_left(self.begins, span.start_s) : bisect_left(self.begins, span.end_s)]:
            if one.covered_from_s >= at_s and one.end_s <= span.end_s:
                found.append(one)
                at_s = one.end_s
        return found

    def codes(self, span: Window) -> list[str]:
        """Returns the codes of these."""
        return [code_of(one) for one in self.tiling(span)]
