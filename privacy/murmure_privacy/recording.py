"""Recorded readings (`timestamp_utc,site,metric,value,unit`; CSV, also gzip) as the readings of one stream."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise, repeat
from pathlib import Path
from statistics import median_low

from murmure_privacy.errors import ConfigError
from murmure_privacy.policy import StreamPolicy

HEADER = ["timestamp_utc", "site", "metric", "value", "unit"]
_FOOTFALL = (("in", "out"), ("pedestrians",), ("bicycles",))
_NOISE = (("laeq_1s",), ("laeq_1min",), ("laeq_1h",))
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_BATCH_MS = 3_600_000
_NAMED_MS = {"laeq_1s": 1000, "laeq_1min": 60_000, "laeq_1h": 3_600_000}
_YEARS = range(1970, 2100)
_LARGEST = Decimal(1_000_000)
_LONGEST_STEP_MS = 7 * 86_400_000  # rows further apart than the coarsest node are no series: there is a hole between


class NoMetric(ConfigError):
    """A recording that has nothing for the quantity of a stream."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Rows of one stream: (start in ms UTC, value in reading units), sorted; the median step between them."""

    site: str
    rows: list[tuple[int, int]]
    step_ms: int
    metrics: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def start_ms(self) -> int:
        """Returns the first row's instant."""
        return self.rows[0][0]

    @property
    def end_ms(self) -> int:
        """Returns the end of the last row's interval."""
        return self.rows[-1][0] + self.step_ms


def read(path: Path, stream: StreamPolicy, site: str | None, metric: str | None) -> Recording:
    """Returns the rows of `path` that feed `stream`.

    `site` may be left out if the file has one; `metric` names one where the quantity's own choice is not wanted.
    A row that stands there twice counts once. Raises ConfigError naming file, key and the mend, also for two rows of
    one instant that differ and for a count that nobody can have counted; NoMetric where the site has no metric of the
    stream's quantity.
    """
    where = str(path)
    by_site: dict[str, dict[str, list[tuple[int, Decimal, int]]]] = {}
    for number, instant_ms, row_site, row_metric, value in _rows(path):
        by_site.setdefault(row_site, {}).setdefault(row_metric, []).append((instant_ms, value, number))
    if not by_site:
        raise ConfigError(where, "file", "no rows", "give a recording with rows")
    if site is None:
        if len(by_site) > 1:
            raise ConfigError(
                where, "site", f"{len(by_site)} sites", f"add --site with one of {', '.join(sorted(by_site))}"
            )
        site = next(iter(by_site))
    if site not in by_site:
        raise ConfigError(where, "site", f"{site!r} is not there", f"write one of {', '.join(sorted(by_site))}")
    found = by_site[site]
    metrics = _choose(where, stream, found, metric)
    summed: dict[int, Decimal] = {}
    for name in metrics:
        for instant_ms, value in _once(where, found[name], counting=stream.quantity.kind == "count").items():
            summed[instant_ms] = summed.get(instant_ms, Decimal(0)) + value
    rows = [(instant_ms, _integer(value, stream)) for instant_ms, value in sorted(summed.items())]
    steps = [after - before for (before, _), (after, _) in pairwise(rows)]
    step_ms = median_low(steps) if steps else _NAMED_MS.get(metrics[0], stream.cadence_ms)
    step_ms = min(step_ms, _LONGEST_STEP_MS)
    return Recording(site, rows, step_ms, metrics, tuple(sorted(set(found) - set(metrics))))


def _once(where: str, rows: list[tuple[int, Decimal, int]], counting: bool) -> dict[int, Decimal]:
    """Returns each instant's value. Two files in one, or a clock put back, would else be counted twice."""
    values: dict[int, Decimal] = {}
    for instant_ms, value, number in rows:
        if counting and not 0 <= value <= _LARGEST:
            mend = f"write how many passed, 0 to {_LARGEST}, or leave the row out"
            raise ConfigError(where, f"line {number}", f"the value {value:g} is no count", mend)
        if values.setdefault(instant_ms, value) != value:
            mend = "leave one of the two out"
            raise ConfigError(where, f"line {number}", "another row has the same instant and another value", mend)
    return values


def _rows(path: Path) -> Iterator[tuple[int, int, str, str, Decimal]]:
    where = str(path)
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if zipped else raw as binary:
                lines = csv.reader(io.TextIOWrapper(binary, encoding="utf-8-sig", newline=""))
                header = next(lines, [])
                if header != HEADER:
                    raise ConfigError(where, "line 1", "not the header of a recording", f"write {','.join(HEADER)}")
                for line in lines:
                    if line:
                        yield _row(where, lines.line_num, line)
    except OSError as error:
        raise ConfigError(where, "file", error.strerror or str(error), "give a readable recording") from error
    except UnicodeDecodeError as error:
        raise ConfigError(where, "file", "is not UTF-8 text", "save it as UTF-8") from error
    except (EOFError, csv.Error, zlib.error) as error:
        raise ConfigError(where, "file", f"cannot be read: {error}", "give a whole CSV or gzip file") from error


def _row(where: str, number: int, line: list[str]) -> tuple[int, int, str, str, Decimal]:
    try:
        if line == HEADER:
            raise ValueError("a second header, as of two recordings in one file")
        if len(line) != len(HEADER):
            raise ValueError(f"{len(line)} columns where there are {len(HEADER)}")
        text, site, metric, value, _ = line
        if not text.endswith("Z"):
            raise ValueError("time without Z")
        instant = datetime.fromisoformat(text)
        if not _NUMBER.fullmatch(value):
            raise ValueError(f"value {value!r} is not a number")
        if instant.year not in _YEARS:
            raise ValueError(f"the year {instant.year} is not one of a recording")
        return number, round(instant.timestamp() * 1000), site, metric, Decimal(value)
    except ValueError as error:
        raise ConfigError(
            where, f"line {number}", f"{error}", "write TIME with Z, site, metric, value, unit"
        ) from error


def _choose(where: str, stream: StreamPolicy, found: Mapping[str, object], metric: str | None) -> tuple[str, ...]:
    if metric is not None:
        if metric not in found:
            raise ConfigError(where, "metric", f"{metric!r} is not there", f"write one of {', '.join(sorted(found))}")
        return (metric,)
    choices = {"count": _FOOTFALL, "level": _NOISE}.get(stream.quantity.kind, ((stream.quantity.name,),))
    for names in choices:
        present = tuple(name for name in names if name in found)
        if present:
            return present
    raise NoMetric(
        where,
        "metric",
        f"nothing for {stream.quantity.name} among {', '.join(sorted(found))}",
        "give another file, or --metric",
    )


def _integer(value: Decimal, stream: StreamPolicy) -> int:
    # Only keeps absurd numbers from being held; clamping to the policy's bounds comes with the windows.
    value = max(-_LARGEST, min(_LARGEST, value))
    return int((value * stream.quantity.per_unit).to_integral_value())


def batches(recording: Recording, stream: StreamPolicy) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yields (horizon_ms, slot readings before it), about an hour at a time; the last horizon is the recording's end.

    A row is held until the next one, at most 1.5 median steps, and gives one reading to each slot that begins while it
    is held. A count's row counts where it starts; the slots it is held for say only that the counter was alive.
    """
    cadence_ms = stream.cadence_ms
    counting = stream.quantity.kind == "count"
    longest_ms = recording.step_ms * 3 // 2
    next_starts = [*(start_ms for start_ms, _ in recording.rows[1:]), recording.end_ms]
    made: list[tuple[int, int]] = []
    due_ms = recording.start_ms + _BATCH_MS
    for (start_ms, value), next_ms in zip(recording.rows, next_starts, strict=True):
        if start_ms >= due_ms:
            yield start_ms, made
            made = []
            due_ms = start_ms + _BATCH_MS
        made.append((start_ms, value))
        if counting:
            made.append((start_ms, 0))  # the slot in which it starts has its sign of life too
        held = 0 if counting else value
        first_slot_ms = (start_ms // cadence_ms + 1) * cadence_ms
        made.extend(zip(range(first_slot_ms, min(next_ms, start_ms + longest_ms), cadence_ms), repeat(held)))
    yield recording.end_ms, made
