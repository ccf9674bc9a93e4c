"""How much of a neighbourhood's pages there is room for: each keeps within its budget of elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from murmure_dashboards.pages import MOST_ELEMENTS
from murmure_dashboards.story import MOST_MARKS, MOST_ROWS
from murmure_dashboards.stretch import MONTH_DAYS

LEAST_ROWS = 2
# What the page of a month or of a year is made of: around everything, a site with its tables, a stream.
_LONG_ELEMENTS, _LONG_SITE_ELEMENTS, _LONG_STREAM_ELEMENTS = 54, 21, 41
# What a neighbourhood page is made of: around everything, a site, a stream of a day or a week, a row of a table.
_AROUND_ELEMENTS, _SITE_ELEMENTS, _DAY_ELEMENTS, _WEEK_ELEMENTS, _ROW_ELEMENTS = 67, 7, 38, 41, 3.08
_NO_DATA_ELEMENTS = 3
# Of annotations: the file of all, the legend of a marked chart; one with its paragraph, what stands out, its language.
_LINK_ELEMENTS, _MARKED_ELEMENTS, _MARK_ELEMENTS = 2, 1, 3


@dataclass(frozen=True, slots=True)
class Room:
    """`rows`: how long a table may be; `brief`: whether annotations are told without the stewards' sentences."""

    rows: int
    brief: bool

    @property
    def crowded(self) -> bool:
        """Returns whether there is no room even for a table's second row: one list of codes and one legend are then
        for all."""
        return self.rows < LEAST_ROWS


def of_page(sites: int, marks: Sequence[int], week: bool, foot: int) -> Room:
    """Returns the room of a page of a day or of a week. `marks`: how many annotations each stream has; `foot`: the
    elements of the links there."""
    full, short = annotated(marks)
    rows = table_rows(sites, len(marks), week, foot + full)
    if full and rows < LEAST_ROWS:
        return Room(table_rows(sites, len(marks), week, foot + short), brief=True)
    return Room(rows, brief=False)


def of_span(sites: int, marks: Sequence[int], foot: int) -> Room:
    """Returns the same of the page of a month or of a year, whose rows are those of all streams of a place together."""
    full, short = annotated(marks)
    rows = joint_rows(sites, len(marks), foot + full)
    if full and rows < LEAST_ROWS:
        return Room(joint_rows(sites, len(marks), foot + short), brief=True)
    return Room(rows, brief=False)


def annotated(marks: Sequence[int]) -> tuple[int, int]:
    """Returns how many elements annotations take, with the stewards' sentences and without. `marks`: how many of them
    each stream has."""
    told = [min(MOST_MARKS, of_one) for of_one in marks if of_one]
    if not told:
        return 0, 0
    full = _LINK_ELEMENTS + sum(_MARKED_ELEMENTS + _MARK_ELEMENTS * of_one for of_one in told)
    return full, _LINK_ELEMENTS + (1 + _MARKED_ELEMENTS) * len(told)


def no_data_elements(sites: int) -> int:
    """Returns how many elements the places take from which nothing has come yet; a crowded page has their names alone,
    which take no more for many than for one."""
    return _NO_DATA_ELEMENTS + sites if sites else 0


def joint_rows(sites: int, streams: int, others: int) -> int:
    """Returns how many rows the tables of a month or a year may have together, for each place, so that the page stays
    within its budget of elements. `others`: elements that annotations and the links of the foot take."""
    left = MOST_ELEMENTS - _LONG_ELEMENTS - _LONG_SITE_ELEMENTS * sites - _LONG_STREAM_ELEMENTS * streams - others
    return max(1, min(MONTH_DAYS, left // max(1, 2 * sites + streams)))


def table_rows(sites: int, streams: int, week: bool, others: int = 0) -> int:
    """Returns how many rows a table may have so that the page stays within its budget of elements; the rest is in the
    CSV file. Twenty-four as long as a neighbourhood has at most three streams; beyond eight not one row fits.
    `others`: elements that annotations and the links of the foot take."""
    stream = _WEEK_ELEMENTS if week else _DAY_ELEMENTS
    left = MOST_ELEMENTS - _AROUND_ELEMENTS - _SITE_ELEMENTS * sites - stream * streams - others
    return max(1, min(MOST_ROWS, int(left / (_ROW_ELEMENTS * max(1, streams)))))
