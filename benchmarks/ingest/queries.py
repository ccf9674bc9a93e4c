"""A day of one series, and a month of fifty, out of an archive of ten million nodes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from murmure_ingest.archive import Archive, index_row
from murmure_privacy.release import Release

from .fleet import MIDNIGHT_S, Gateway, Sealer, lay_out

ROWS = 10_000_000
SERIES = 3_000
FIFTY = 50
DAY_S = 86_400
MONTH_D = 30
_INDEX = (
    "SELECT start_s, end_s, reason, rho_micro FROM nodes WHERE stream = ? AND level = ? AND start_s BETWEEN ? AND ?"
)


@dataclass(frozen=True, slots=True)
class Answers:
    """Medians in milliseconds. `index`: rows of the index of nodes alone. `cold`, `warm`: released values, each message
    opened and its signature checked again, or remembered from an answer before."""

    rows: int
    fill_s: float
    index_day: float
    index_month: float
    cold_day: float
    warm_day: float
    cold_month: float
    warm_month: float


def _ms(work: Callable[..., object], *on: object) -> float:
    began_s = time.perf_counter()
    work(*on)
    return 1000 * (time.perf_counter() - began_s)


def ask(gateways: list[Gateway], rows: int = ROWS) -> Answers:
    """Returns how long each answer takes. The first fifty series hold real messages, a month of them; all others only
    rows of the index, as many as make `rows` together."""
    with tempfile.TemporaryDirectory() as name:
        lay_out(Path(name) / "centre", gateways[:FIFTY])
        path = Path(name) / "centre" / "archive.db"
        archive = Archive.open(path)
        began_s = time.monotonic()
        streams = [f"{gateway.site}/pm2_5" for gateway in gateways[:FIFTY]]
        _fill_real(archive, gateways[:FIFTY])
        _fill_index(archive, rows)
        fill_s = time.monotonic() - began_s
        archive.close()
        from_s, to_s = MIDNIGHT_S, MIDNIGHT_S + MONTH_D * DAY_S

        def index(archive: Archive, stream: str, end_s: int) -> object:
            return archive._rows(_INDEX, stream, "1h", from_s, end_s - 1)

        cold_day, warm_day, index_day = [], [], []
        for stream in streams:
            archive = Archive.open(path, read_only=True)
            cold_day.append(_ms(archive.outcomes, stream, from_s, from_s + DAY_S))
            warm_day.append(_ms(archive.outcomes, stream, from_s, from_s + DAY_S))
            index_day.append(_ms(index, archive, stream, from_s + DAY_S))
            archive.close()
        archive = Archive.open(path, read_only=True)
        index_month = statistics.median(
            _ms(lambda: [index(archive, stream, to_s) for stream in streams]) for _ in range(5)
        )
        cold_month = _ms(lambda: [archive.outcomes(stream, from_s, to_s) for stream in streams])
        warm_month = _ms(lambda: [archive.outcomes(stream, from_s, to_s) for stream in streams])
        found = archive.node_count()
        archive.close()
    return Answers(
        *(found, fill_s, statistics.median(index_day), index_month),
        *(statistics.median(cold_day), statistics.median(warm_day), cold_month, warm_month),
    )


def _fill_real(archive: Archive, gateways: list[Gateway]) -> None:
    """Files a month of hourly messages of the fifty, as the intake would."""
    sealer = Sealer(gateways)
    lines = {line.gateway: line for line in archive.enrolments()}
    for hour in range(1, 24 * MONTH_D + 1):
        with archive.transaction():
            for message, sealed in sealer.messages(MIDNIGHT_S + 3600 * hour):
                archive.put(message, sealed, lines[message.gateway], "filed")


def _fill_index(archive: Archive, rows: int) -> None:
    """Adds rows of the index for series that nobody asks for, without the triggers that look at each."""
    (like,) = archive._rows("SELECT message FROM nodes LIMIT 1")
    outcome = archive._outcomes_of(like[0])[0]
    assert isinstance(outcome, Release)
    model = index_row(outcome, like[0], 0)
    for (trigger,) in archive._rows("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'nodes'"):
        archive._db.execute(f"DROP TRIGGER {trigger}")
    each = (rows - archive.node_count()) // SERIES
    marks = ", ".join("?" * len(model))
    for number in range(SERIES):
        stream = f"other-{number:05d}/pm2_5"
        with archive.transaction():
            archive._db.executemany(
                f"INSERT INTO nodes VALUES ({marks})",
                (
                    (stream, "1h", MIDNIGHT_S + 3600 * hour, MIDNIGHT_S + 3600 * (hour + 1), *model[4:])
                    for hour in range(each)
                ),
            )
