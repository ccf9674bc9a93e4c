"""A consistency proof of the transparency log from what stands beside its entries, beside the same from all leaves.

The archive has the log of 2,000 gateways after a year. Each receipt that tells a gateway of new entries needs one such
proof, and each gateway checks it.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from murmure_ingest import logbook
from murmure_ingest.archive import Archive
from murmure_privacy import log

ENTRIES = 730_000
GATEWAYS = 2000
ASKED = 300


def entry(number: int) -> bytes:
    """Returns an account as those of a gateway with one stream at four levels are."""
    nodes = {"15min": [92, 4, 658_904], "1h": [24, 0, 134_160], "6h": [4, 0, 9_900], "1d": [1, 0, 1_100]}
    return log.entry(
        {
            "kind": "spend",
            "gateway": f"gw-{number % GATEWAYS:04}",
            "day": "2026-11-23",
            "last": 96 * (number // GATEWAYS + 1),
            "hash": f"{number:064x}",
            "streams": [{"stream": f"site-{number % GATEWAYS:04}/footfall", "policy": 1, "nodes": nodes}],
        }
    )


def fill(archive: Archive) -> list[bytes]:
    """Writes the entries into an archive's log. Returns their leaf hashes."""
    peaks: list[bytes] = []
    rows = []
    for place in range(1, ENTRIES + 1):
        line = entry(place)
        peaks.append(log.peak(line, place, lambda at: peaks[at - 1]))
        rows.append((place, "spend", f"gw-{place % GATEWAYS:04}", place, line, peaks[-1]))
    with archive.transaction():
        archive._db.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", rows)
    return [log.leaf_hash(row[4]) for row in rows]


def timed(what: Callable[[int], object], asked: list[int]) -> tuple[float, float]:
    """Returns the mean and the longest CPU time of one call, in milliseconds."""
    took = []
    for since in asked:
        began = time.process_time()
        what(since)
        took.append((time.process_time() - began) * 1e3)
    return statistics.fmean(took), max(took)


def main() -> None:
    draw = random.Random(20261128)
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive.open(Path(folder) / "archive.db")
        leaves = fill(archive)
        far = [draw.randrange(1, ENTRIES) for _ in range(ASKED)]
        night = [ENTRIES - draw.randrange(1, GATEWAYS) for _ in range(ASKED)]
        for name, asked in (("any size before", far), ("the last 2,000 entries", night)):
            mean_ms, most_ms = timed(lambda since: logbook.proof(archive._db, since, ENTRIES), asked)
            hashes = statistics.fmean(len(logbook.proof(archive._db, since, ENTRIES)) for since in asked)
            print(f"proof from {name}: {mean_ms:.2f} ms, {most_ms:.2f} at the most, {hashes:.1f} hashes")
        whole_ms, _ = timed(lambda since: log.consistency_proof(leaves, since), far[:3])
        mean_ms, _ = timed(lambda since: logbook.proof(archive._db, since, ENTRIES), far[:3])
        print(f"the same from all leaves in memory: {whole_ms:.0f} ms; {mean_ms / whole_ms:.5f} of it")
        top = log.root(leaves)
        cases = [(since, log.root(leaves[:since]), logbook.proof(archive._db, since, ENTRIES)) for since in far[:20]]
        began = time.process_time()
        for since, was, proof in cases * 50:
            assert log.proves_consistency(since, was, ENTRIES, top, proof)
        print(f"checked: {(time.process_time() - began) / len(cases) / 50 * 1e6:.0f} us")
        archive.close()


if __name__ == "__main__":
    main()
