"""Peak memory of `sense` and `send` after six simulated hours, beside an interpreter that has only their libraries."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from murmure_privacy.window import parse_utc

from murmure import city

HOURS = 6
START_S = parse_utc("2026-11-09T23:00:00Z")
PEERS = {
    "sense": "import opendp.prelude, serial, cryptography.hazmat.primitives.asymmetric.ed25519, cbor2, sqlite3",
    "send": "import paho.mqtt.client, cryptography.hazmat.primitives.asymmetric.ed25519, cbor2, sqlite3",
}


def peak_mib(pid: int) -> float:
    """Returns a process's peak resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def peer_mib(imports: str) -> float:
    """Returns the peak of an interpreter that imports and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{imports}; print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    peak = peak_mib(process.pid)
    process.communicate(b"\n")
    return peak


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = city.Settings(1, True, 0, Path(folder) / "city", None, None, False)
        made = city.lay_out(settings, city.Span(START_S, START_S + HOURS * 3600))
        with city.Running(made, lambda _: None) as running:
            while running.bench.ended is None or not running.settled():
                running.check()
                time.sleep(0.1)
            for kind, imports in PEERS.items():
                peaks = [peak_mib(process.pid) for name, process in made.processes.items() if name.startswith(kind)]
                peer = peer_mib(imports)
                print(f"{kind:6} {max(peaks):5.0f} MiB peak, {max(peaks) / peer:.2f} of its libraries' {peer:.0f} MiB")


if __name__ == "__main__":
    main()
