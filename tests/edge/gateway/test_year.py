"""A year without network: what it takes on the card, and what the next start costs. Figures: benchmarks/year.py."""

from __future__ import annotations

import runpy
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.outbox import ROOM, Outbox
from murmure_privacy.window import parse_utc

MIDNIGHT_S, HOUR_S = parse_utc("2026-01-14T23:00:00Z"), 3600
YEAR_DAYS, LIMIT_MB = 365, 40
PROBE_DAYS = 12
START_LIMIT_BYTES = 4_000_000  # of memory, for rows of 12 MB


@pytest.fixture(scope="module")
def year() -> Iterator[dict[str, Any]]:
    """The benchmark's own functions: one filling of a year for figures and for tests."""
    yield runpy.run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "year.py"))


def test_six_hourly_streams_stay_far_below_the_years_share(year: dict[str, Any], quick_folder: Path) -> None:
    """Twelve days, charges, messages and an unfolded log included, are less than twelve days of 40 MB a year."""
    lengths = year["fill"](quick_folder / "data", PROBE_DAYS)
    assert len(lengths) == 24 * PROBE_DAYS and max(lengths) > 1000
    assert year["size_mb"](quick_folder / "data") < LIMIT_MB * PROBE_DAYS / YEAR_DAYS


def test_a_start_does_not_read_the_messages_into_memory(quick_folder: Path) -> None:
    """3,000 large messages wait: each is verified, none is held, and the folder gets its thousand."""
    path, outbox = quick_folder / "data" / "gateway.db", quick_folder / "outbox"
    outbox.mkdir()
    db = GatewayDb.open(path)
    with db.transaction():
        for seq in range(1, 3001):
            db.put(seq, bytes([seq % 256]) * 4000)
    db.close()
    tracemalloc.start()
    db = GatewayDb.open(path)
    Outbox(outbox, pytest.fail, db.message).start(db.settled + 1, db.next_message()[0] - 1)
    _, peak = tracemalloc.get_traced_memory()
    assert peak < START_LIMIT_BYTES
    assert len(list(outbox.iterdir())) == ROOM
    rows = db.rows()
    assert tracemalloc.get_traced_memory()[1] > START_LIMIT_BYTES, "all of them at once would be seen"
    tracemalloc.stop()
    assert len(rows) == 3000
    db.close()


def test_a_window_costs_the_card_one_commit(turned: Callable[..., Any], write_policy: Callable[..., bytes]) -> None:
    """A day of hourly messages, each with its receipt an hour later: as many commits as messages."""
    gateway = turned()
    gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(write_policy(nodes='{ "1h" = 1, "1d" = 24 }')))
    gateway.batch("dust", MIDNIGHT_S)
    gateway.enrolled.drop("receipt.cose", gateway.enrolled.receipt(0, b""))
    gateway.live(MIDNIGHT_S, MIDNIGHT_S + 60)
    commits: list[str] = []
    gateway.db._db.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
    for hour in range(24):
        gateway.live(MIDNIGHT_S + hour * HOUR_S + 60, MIDNIGHT_S + (hour + 1) * HOUR_S + 60)
        following, _ = gateway.db.next_message()
        gateway.enrolled.drop(
            "receipt.cose", gateway.enrolled.receipt(following - 1, gateway.db.message(following - 1))
        )
    assert following == 25 and len(commits) == 24
    assert gateway.db.settled == 23


@pytest.mark.long
def test_a_year_of_six_hourly_streams_fits_into_forty_megabytes(year: dict[str, Any], quick_folder: Path) -> None:
    """365 days, none settled: a database below 40 MB, a folder of a thousand files, a start below 100 MiB."""
    lengths = year["fill"](quick_folder / "data", YEAR_DAYS)
    assert len(lengths) == 24 * YEAR_DAYS
    outbox = quick_folder / "outbox"
    outbox.mkdir()
    _, peak_mib = year["start"](quick_folder / "data" / "gateway.db", outbox)
    database = year["size_mb"](quick_folder / "data")
    print(f"gateway.db {database:.1f} MB, outbox {year['size_mb'](outbox):.1f} MB, start {peak_mib:.0f} MiB")
    assert database < LIMIT_MB and len(list(outbox.iterdir())) == ROOM and peak_mib < 100
