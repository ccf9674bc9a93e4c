"""A year without network: how large does a gateway become, and what does its next start cost?

Six hourly streams with a day each, for 365 days, through the real windows, gate, noise, ledger and wire into a
`gateway.db`, of which no message is ever settled. Air and noise have one slot a quarter-hour here instead of one a
second: messages are as long, and a year is filled in a minute.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from murmure_edge.gateway_db import GatewayDb
from murmure_edge.publisher import Identity, Publisher
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.policy import parse
from murmure_privacy.window import parse_utc
from murmure_privacy.wire import new_key

DAYS = 365
LIMIT_MB = 40.0
START_S = parse_utc("2025-12-31T23:00:00Z")  # midnight in Paris
AIR = "protects = { seconds = 60 }\nreadings = { cadence_ms = 900000, tail = 2 }\nbounds = [0, 100]\n"
NOISE = (
    "protects = { seconds = 15 }\nreadings = { cadence_ms = 900000, tail = 11 }\nbounds_db = [35, 85]\n"
    "indicators = { histogram = 6, mean = 3, energy = 1 }\n"
)
STREAMS = {
    "street": ("noise", NOISE),
    "yard": ("noise", NOISE),
    "pm1": ("pm1", AIR),
    "pm2_5": ("pm2_5", AIR),
    "pm10": ("pm10", AIR),
    "pm10-yard": ("pm10", AIR),
}
POLICY = (
    'policy = 1\nsite = "plaza"\nversion = 1\ntimezone = "Europe/Paris"\ndecision = "D 1"\nreason = "R"\n'
    "valid_from = 2026-01-01\nvalid_until = 2027-12-31\n"
    + "".join(
        f'[[stream]]\nid = "plaza/{name}"\nquantity = "{quantity}"\nepsilon = 1.0\n'
        f'nodes = {{ "1h" = 1, "1d" = 24 }}\n{rest}'
        for name, (quantity, rest) in STREAMS.items()
    )
).encode()

START = """
import sys, time
from pathlib import Path
from murmure_edge import sense
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.outbox import Outbox
began = time.process_time()
db = GatewayDb.open(Path(sys.argv[1]))
Outbox(Path(sys.argv[2]), print, db.message).start(db.settled + 1, db.next_message()[0] - 1)
print(time.process_time() - began)
print(Path("/proc/self/status").read_text())
"""


def fill(folder: Path, days: int) -> list[int]:
    """Makes `folder/gateway.db` with that many days of messages. Returns their lengths in bytes."""
    lengths: list[int] = []
    db = GatewayDb.open(folder / "gateway.db")
    who = Identity("gw-plaza", "centre", "plaza", new_key()[0])
    publisher = Publisher(db, who, DiscreteGaussian(), lambda _, sealed: lengths.append(len(sealed)), print)
    publisher.start(START_S)
    publisher.adopt(parse(POLICY, "policy"), START_S)
    for hour in range(24 * days):
        begins_s = START_S + 3600 * hour
        for name in STREAMS:
            publisher.add(f"plaza/{name}", [((begins_s + 900 * quarter) * 1000, 500) for quarter in range(4)])
        publisher.advance(begins_s + 3600)
    db.close()
    return lengths


def size_mb(folder: Path) -> float:
    """Returns what the files of a folder take on a disk with blocks of 4 KiB, in MB (10^6 bytes)."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file()) / 1e6


def start(database: Path, outbox: Path) -> tuple[float, float]:
    """Returns CPU seconds and peak memory (MiB) of a process that starts as `sense` does, up to the filled outbox."""
    command = [sys.executable, "-c", START, str(database), str(outbox)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    peak = re.search(r"VmHWM:\s+(\d+) kB", said)
    assert peak is not None
    return float(said.splitlines()[0]), int(peak[1]) / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        year, fresh = Path(name) / "year", Path(name) / "fresh"
        for folder in (year, fresh):
            (folder / "outbox").mkdir(parents=True)
        began_s = time.process_time()
        lengths = fill(year / "data", DAYS)
        filled_s = time.process_time() - began_s
        print(f"{len(lengths)} messages of {min(lengths)} to {max(lengths)} bytes in {filled_s:.0f} CPU s")
        database = size_mb(year / "data")
        print(f"gateway.db: {database:.1f} MB, {database / LIMIT_MB:.2f} of the {LIMIT_MB:.0f} MB it may take")
        peaks = {folder: start(folder / "data" / "gateway.db", folder / "outbox") for folder in (fresh, year)}
        print(
            f"outbox folder: {size_mb(year / 'outbox'):.1f} MB; as one file a message {4096 * len(lengths) / 1e6:.0f}"
        )
        (_, small), (cpu_s, large) = peaks[fresh], peaks[year]
        print(
            f"the next start: {cpu_s:.1f} CPU s, {large:.0f} MiB peak, {large / small:.2f} of a fresh one's {small:.0f}"
        )


if __name__ == "__main__":
    main()
