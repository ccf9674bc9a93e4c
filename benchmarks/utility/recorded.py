"""The recordings, as the readings that `edge replay` would make of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from murmure_privacy import recording
from murmure_privacy.policy import StreamPolicy
from murmure_privacy.window import Calendar, Window

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("MURMURE_SHARED", ROOT.parent / "shared"))

Readings = list[tuple[int, int]]
"""(time in ms UTC, value in the quantity's reading unit), in order."""


@dataclass(frozen=True, slots=True)
class Source:
    """One series of a recording: file below data/, site, metric (None: the quantity's own), civil timezone."""

    file: str
    site: str
    metric: str | None
    timezone: str

    @property
    def path(self) -> Path:
        """Returns the file."""
        return SHARED / "data" / f"{self.file}.csv.gz"


def _series(file: str, timezone: str, *sites: str, metric: str | None = None) -> tuple[Source, ...]:
    return tuple(Source(file, site, metric, timezone) for site in sites)


ZURICH = _series(
    "footfall/zurich_hardbruecke_5min_2020-01_02",
    "Europe/Zurich",
    "zurich-hardbruecke-ost-nord",
    "zurich-hardbruecke-ost-sbb",
    "zurich-hardbruecke-west-sued",
    "zurich-hardbruecke-west-vbz",
)
MUENSTER = _series(
    "footfall/muenster_bicycles_15min_2025-03_05",
    "Europe/Berlin",
    "muenster-neutor",
    "muenster-promenade-salzstrasse",
    "muenster-wolbecker-str",
)
ABERDEEN = _series(
    "air/aberdeen_sds011_150s_2019-04",
    "Europe/London",
    "aberdeen-sds011-a",
    "aberdeen-sds011-b",
    "aberdeen-sds011-c",
)
COLOCATED = _series(
    "air/colocated_sds011_71s_day1",
    "UTC",  # the source does not say which clock it wrote; its own day is kept
    "colocated-sds011-38cf",
    "colocated-sds011-4600",
    "colocated-sds011-5fae",
)
QUIET_1S = Source("noise/monitor_m1_laeq1s_2025-03-22_am", "monitor-m1", None, "UTC")
QUIET_1MIN = Source("noise/monitor_m1_laeq1min_2025-03-27_04-01", "monitor-m1", None, "UTC")
LOUD_1S = Source("noise/basel_roadside_1s_2016-02-24", "basel-roadside", "laeq_1s", "UTC")
DUBLIN = _series(
    "noise/dublin_laeq1h_2018_2019",
    "Europe/Dublin",
    "dublin-ballymun",
    "dublin-bull-island",
    "dublin-chancery-park",
    "dublin-navan-road",
)


def read(source: Source, stream: StreamPolicy) -> recording.Recording:
    """Returns the rows of a series in the stream's reading units."""
    return recording.read(source.path, stream, source.site, source.metric)


def held(rows: recording.Recording, stream: StreamPolicy) -> Readings:
    """Returns one reading a slot, each row held until the next for at most 1.5 median steps."""
    return [reading for _, batch in recording.batches(rows, stream) for reading in batch]


def periods(calendar: Calendar, levels: Sequence[str], start_ms: int, end_ms: int) -> Iterator[Window]:
    """Yields the whole days, weeks, or days from 06 to 06 within the recording, as the policy's levels have them."""
    at = calendar.period(levels, -(-start_ms // 1000))
    while at.end_s * 1000 <= end_ms:
        if at.start_s * 1000 >= start_ms:
            yield at
        at = calendar.period(levels, at.end_s)
