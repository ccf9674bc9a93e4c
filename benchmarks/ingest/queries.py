"""A day of one series, and a month of fifty, out of an archive of ten million nodes."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from murmure_ingest.archive import Archive

from .fleet import MIDNIGHT_S, Gateway, Sealer, lay_out

ROWS = 10_000_000
SERIES = 3_000
FIFTY = 50
DAY_S = 86_400
MONTH_D = 30
Query = Callable[[Archive], int]


@dataclass(frozen=True, slots=True)
class Times:
    """Medians in milliseconds. `disk`: the archive was just opened, and nothing of the file was in memory. `cold`: just
    opened, as by a command. `warm`: asked again, and `cpu` what this process has worked for it. `signed`: the same
    nodes by opening their messages, whose signatures are checked again."""

    disk: float
    cold: float
    warm: float
    cpu: float
    signed: float


@dataclass(frozen=True, slots=True)
class Answers:
    """`month_rows`: how many nodes a month of the fifty has. `archive_bytes`: of the file, per row of the index."""

    rows: int
    fill_s: float
    archive_bytes: float
    day: Times
    month: Times
    month_rows: int


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

        def lean(streams: list[str], to_s: int) -> Query:
            return lambda archive: sum(len(archive.nodes(stream, "1h", from_s, to_s)) for stream in streams)

        def signed(streams: list[str], to_s: int) -> Query:
            return lambda archive: sum(len(archive.outcomes(stream, from_s, to_s)) for stream in streams)

        day = _times(path, *([how([stream], from_s + DAY_S) for stream in streams] for how in (lean, signed)))
        month = _times(path, [lean(streams, to_s)] * 5, [signed(streams, to_s)])
        archive = Archive.open(path, read_only=True)
        found, month_rows = archive.node_count(), lean(streams, to_s)(archive)
        archive.close()
        return Answers(found, fill_s, path.stat().st_size / found, day, month, month_rows)


def _times(path: Path, lean: list[Query], signed: list[Query]) -> Times:
    """Returns how long these questions take, each of an archive that was just opened."""
    found: dict[str, list[float]] = {"disk": [], "cold": [], "warm": [], "cpu": [], "signed": []}
    for question in lean:
        _drop(path)
        for kind in ("disk", "cold"):
            archive = Archive.open(path, read_only=True)
            found[kind].append(_ms(question, archive))
            began_s = time.process_time()
            found["warm"].append(_ms(question, archive))
            found["cpu"].append(1000 * (time.process_time() - began_s))
            archive.close()
    for question in signed:
        archive = Archive.open(path, read_only=True)
        found["signed"].append(_ms(question, archive))
        archive.close()
    return Times(**{kind: statistics.median(times) for kind, times in found.items()})


def _drop(path: Path) -> None:
    """Has the machine forget what it holds of the file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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
    (model,) = archive._rows("SELECT * FROM nodes WHERE quantity = 'pm2_5' AND reason IS NULL LIMIT 1")
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
