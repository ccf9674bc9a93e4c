"""Simulated days per second through `edge replay`, beside reading the same file with the csv module alone."""

from __future__ import annotations

import csv
import math
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from murmure.city import policy_toml
from murmure_edge import replay

DAYS = int(sys.argv[1]) if len(sys.argv) > 1 else 2  # 30: the month of the benchmark table
ROUNDS = 3
START = datetime(2026, 11, 1, tzinfo=UTC)


def write(path: Path, metric: str, step_s: int, value: Callable[[int], float]) -> None:
    """Writes a recording of DAYS days, one row every `step_s` seconds."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp_utc", "site", "metric", "value", "unit"])
        for at_s in range(0, DAYS * 86_400, step_s):
            instant = START + timedelta(seconds=at_s)
            rows.writerow([instant.strftime("%Y-%m-%dT%H:%M:%SZ"), "here", metric, f"{value(at_s):.1f}", ""])


def cpu_s(work: Callable[[], object]) -> float:
    """Returns the least CPU time of some rounds."""
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        policy = root / "policy.toml"
        policy.write_bytes(policy_toml("plaza", START.date()))
        for stream, metric, step_s, value in (
            ("plaza/noise", "laeq_1s", 1, lambda at_s: 58 + 8 * math.sin(at_s / 13_000)),
            ("plaza/footfall", "pedestrians", 300, lambda at_s: at_s // 300 % 40),
        ):
            readings = root / f"{metric}.csv"
            write(readings, metric, step_s, value)

            def bare(readings: Path = readings) -> int:
                with readings.open() as file:
                    return sum(1 for row in csv.reader(file) if row)

            def whole(readings: Path = readings, stream: str = stream) -> replay.Summary:
                return replay.run(policy, readings, stream, root / "out.jsonl")

            whole()  # the first run imports and prepares
            ours_s, bare_s = cpu_s(whole), cpu_s(bare)
            print(
                f"{stream:15} every {step_s:>3} s: {DAYS / ours_s:6.1f} simulated days a CPU second"
                f" (x{DAYS * 86_400 / ours_s:,.0f}), {ours_s / bare_s:.1f} times reading the file with csv alone"
            )


if __name__ == "__main__":
    main()
