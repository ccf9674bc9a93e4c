"""The short codes of what pages show, by which `murmure verify` leads to what a gateway has signed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Self

from murmure_privacy.codes import code
from murmure_privacy.estimate import Figure
from murmure_privacy.window import LEVELS, PARTS, Window, parse_utc, utc

from murmure_dashboards.facts import shown_level
from murmure_dashboards.opendata import HEADER, cell
from murmure_dashboards.opendata import lines as as_lines
from murmure_dashboards.packed import joined, segment
from murmure_dashboards.views import StreamView

_OF_DAYS = ("code", "start_utc", "node", "stream", "indicator")
Run = tuple[str, int, int, int]
"""Nodes of one level and length that follow each other: the level, when the first begins (seconds UTC), how long each
is, and how many they are."""
_SHOWN = ("start_utc", "end_utc", "stream", "node", "indicator", "value", "estimate", "unit", "status")
_shown: Callable[[Sequence[str]], tuple[str, ...]] = itemgetter(*map(HEADER.index, _SHOWN))
_instant = lru_cache(maxsize=1024)(parse_utc)  # the day's, which all indicators and streams share


def file(slug: str) -> str:
    """Returns the file with the short code of every value of a neighbourhood's week."""
    return f"donnees/{slug}-codes.csv"


def year_file(slug: str) -> str:
    """Returns the file with the short codes of what a neighbourhood's month and year are made of."""
    return f"donnees/{slug}-codes-annee.csv"


def hours_file(slug: str) -> str:
    """Returns the file with the short codes of the hours that « as usual », Lden and Ln of a neighbourhood are made
    of."""
    return f"donnees/{slug}-codes-heures.csv"


def year_table(days: Iterable[str]) -> bytes:
    """Returns that file, or that of the hours. `days`: the lines of each, as `day_lines` and `run_lines` give them."""
    return joined([segment(f"{','.join(_OF_DAYS)}\r\n{''.join(days)}".encode())])


def day_lines(view: StreamView, span: Window) -> str:
    """Returns the codes of the nodes that a day is made of, a line each of a CSV file; also those of their LAeq."""
    levels = {(one.level, one.start_s): one for one in view.figures if one.indicator == "laeq_db"}
    lines = []
    for node in Nodes.of(view).tiling(span):
        for one in filter(None, (node, levels.get((node.level, node.start_s)))):
            lines.append(f"{code_of(one)},{utc(one.start_s)},{one.level},{cell(one.stream)},{one.indicator}\r\n")
    return "".join(lines)


def codes_in(lines: str, indicator: str) -> list[str]:
    """Returns the codes of an indicator in lines as `day_lines` gives them."""
    return [line.partition(",")[0] for line in lines.splitlines() if line.endswith(f",{indicator}")]


def runs(nodes: Iterable[Figure]) -> tuple[Run, ...]:
    """Returns nodes, in order, as runs: a day of hours is one."""
    found: list[Run] = []
    end_s = None
    for one in nodes:
        length_s = one.end_s - one.start_s
        if found and one.start_s == end_s and (one.level, length_s) == (found[-1][0], found[-1][2]):
            level, start_s, _, count = found.pop()
            found.append((level, start_s, length_s, count + 1))
        else:
            found.append((one.level, one.start_s, length_s, 1))
        end_s = one.end_s
    return tuple(found)


_utc = lru_cache(maxsize=16_384)(utc)  # the hours of a year, which all neighbourhoods share


def run_lines(stream: str, indicator: str, nodes: Iterable[Run]) -> str:
    """Returns the codes of an indicator of these nodes of a stream, a line each of a CSV file."""
    lines, about = [], f"{cell(stream)},{indicator}\r\n"
    for level, first_s, length_s, count in nodes:
        for at_s in range(first_s, first_s + count * length_s, length_s):
            lines.append(f"{code(stream, level, at_s, at_s + length_s, indicator)},{_utc(at_s)},{level},{about}")
    return "".join(lines)


def hours(view: StreamView, span: Window) -> tuple[Run, ...]:
    """Returns the nodes of a span that its table shows, of the finest level from an hour on, if that is no whole day;
    and what else the total of the span comes from, where one of these is missing, or where there are none and it is no
    single figure of the whole span, which has its code beside it."""
    levels = {level for level, _ in view.scalar}
    finest = next((level for level in LEVELS[1:-2] if level in levels), "")
    shown = PARTS if finest in PARTS else (finest,)
    inside = [one for one in view.scalar.values() if one.level in shown and one.start_s in span]
    total = Nodes.of(view).tiling(span)
    if inside or [(one.covered_from_s, one.end_s) for one in total] != [(span.start_s, span.end_s)]:
        inside += [one for one in total if one not in inside and _beyond(one, inside)]
    return runs(sorted(inside, key=lambda one: (one.start_s, one.end_s)))


def _beyond(node: Figure, others: Iterable[Figure]) -> bool:
    """Returns whether a node covers more than others do together that lie within it and apart."""
    within = [one for one in others if node.covered_from_s <= one.covered_from_s and one.end_s <= node.end_s]
    return sum(one.end_s - one.covered_from_s for one in within) < node.end_s - node.covered_from_s


def table(rows: Iterable[tuple[str, ...]]) -> bytes:
    """Returns, for rows of open data, the code by which `murmure verify` finds what a gateway has signed for each."""
    found: list[tuple[str, ...]] = [("code", *_SHOWN)]
    for row in rows:
        start_utc, end_utc, stream, node, indicator, *_ = shown = _shown(row)
        found.append((code(stream, node, _instant(start_utc), _instant(end_utc), indicator), *shown))
    return as_lines(found)


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
        """Returns those of a view, of the quantity's own indicator."""
        return cls._sorted(view.scalar.values())

    @classmethod
    def of_indicator(cls, view: StreamView, indicator: str) -> Self:
        """Returns those that begin in the window of a view, of another indicator."""
        return cls._sorted(one for one in view.figures if one.indicator == indicator)

    @classmethod
    def _sorted(cls, figures: Iterable[Figure]) -> Self:
        known = sorted(figures, key=lambda one: (one.covered_from_s, -one.end_s, -one.start_s))
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
