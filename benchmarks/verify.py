"""`murmure ingest verify` on an archive of 50 gateways, beside reading the same file and beside its signatures alone.

Two days by default; `--days 365` makes and checks a year (1.8 million messages, a quarter of an hour of making it).
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from murmure_ingest.archive import Archive
from murmure_ingest.inspection import inspect
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire

GATEWAYS = 50
ROUNDS = 5
QUARTERS_A_DAY = 96
ROOT = Path(__file__).resolve().parent.parent


def fill(folder: Path, days: int) -> Path:
    """Makes an archive with every message of the fleet over these days. Returns its file."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.ingest.fleet import MIDNIGHT_S, Sealer, fleet, lay_out

    gateways = fleet(GATEWAYS)
    lay_out(folder, gateways)
    archive = Archive.open(folder / "archive.db")
    lines = {line.gateway: line for line in archive.enrolments()}
    sealer = Sealer(gateways)
    for day in range(days):
        with archive.transaction():
            for quarter in range(1, QUARTERS_A_DAY + 1):
                for topic, sealed in sealer.closing(MIDNIGHT_S + (day * QUARTERS_A_DAY + quarter) * 900)[0]:
                    line = lines[topic.split("/")[3]]
                    archive.put(wire.open_message(sealed, line.record_key), sealed, line, "filed")
    archive.close()
    return folder / "archive.db"


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Returns the median CPU time of some work, in seconds, that of its processes included."""
    taken = []
    for _ in range(rounds):
        began = sum(os.times()[:4])
        work()
        taken.append(sum(os.times()[:4]) - began)
    return median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=2)
    args = parser.parse_args()
    rounds = ROUNDS if args.days <= 7 else 1
    with tempfile.TemporaryDirectory() as folder:
        path = fill(Path(folder) / "centre", args.days)
        archive = Archive.open(path, read_only=True)
        signed = [
            (m.sealed or b"", line.record_key) for m in archive.messages() if (line := archive.enrolment(m.gateway))
        ]
        report = inspect(archive, RuleBook(archive))
        assert not report.findings and report.messages == GATEWAYS * QUARTERS_A_DAY * args.days, report

        def integrity() -> None:
            with sqlite3.connect(path) as db:
                db.execute("PRAGMA integrity_check").fetchall()

        whole = seconds(lambda: inspect(archive, RuleBook(archive)), rounds)
        peers = {
            "sha256sum": seconds(lambda: subprocess.run(["sha256sum", path], check=True, capture_output=True), rounds),
            "PRAGMA integrity_check": seconds(integrity, rounds),
            "opening its messages": seconds(lambda: [wire.open_message(*one) for one in signed], rounds),
        }
        megabytes = path.stat().st_size / 1e6
        pace = report.messages / whole
        print(
            f"verify           {pace:,.0f} messages a CPU second, {report.nodes / whole:,.0f} nodes, {megabytes:.0f} MB"
        )
        print(f"a year of them   {GATEWAYS * QUARTERS_A_DAY * 365 / pace / 60:.0f} CPU minutes")
        for name, taken in peers.items():
            print(f"beside {name:23} {whole / taken:6.1f} of its time ({taken:.2f} s)")
        archive.close()


if __name__ == "__main__":
    main()
