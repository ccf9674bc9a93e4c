"""How fast bytes become readings, beside what the same bytes and the same machine allow at the most.

1. Decoding: a TF-Luna's frames through the driver (checksums, crossings, signs of life), against only cutting the same
   bytes into frames.
2. Simulated time: a square's three sensors through real pseudo-terminals, against bare round trips of eight bytes over
   one between two processes, which is what the poll of one second costs at least.
"""

from __future__ import annotations

import json
import os
import queue
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tty
from pathlib import Path

from murmure_edge.port import Port
from murmure_edge.reading import PortBatch
from murmure_edge.sensors import make_driver
from murmure_edge.sensors.footfall import SETTLE_MS
from murmure_edge.timeline import TimelineLink

START_MS = 1_763_683_200_000
DEVICES = {"beam": "tfluna", "dust": "sds011", "noise": "modbus_noise"}
PIECES, ROUND_TRIPS, SIMULATED_HOURS = 20_000, 10_000, 2.0
WEEK_S = 7 * 86_400


def _frame(distance_cm: int) -> bytes:
    body = b"YY" + distance_cm.to_bytes(2, "little") + b"\xdc\x05\xc8\x08"
    return body + bytes([sum(body) & 0xFF])


def decoding() -> None:
    """Prints frames a second of the driver and of the bare cut, and their ratio."""
    rng = random.Random(1)
    pieces = [b"".join(_frame(180 + rng.choice((-1, 0, 1))) for _ in range(10)) for _ in range(PIECES)]
    driver = make_driver("tfluna", {"rate_hz": 10})
    before_s = time.process_time()
    for second, piece in enumerate(pieces):
        driver.feed(piece, START_MS + 1000 * second + 999)
    driver_s = time.process_time() - before_s
    cut = struct.Struct("9s" * 10).unpack
    before_s = time.process_time()
    for piece in pieces:
        cut(piece)
    cut_s = time.process_time() - before_s
    print(
        f"decoding: {10 * PIECES / driver_s:,.0f} frames/s; only cutting them {10 * PIECES / cut_s:,.0f}; "
        f"ratio {cut_s / driver_s:.2f}; a week of three beams at 10 Hz {3 * WEEK_S * driver_s / PIECES:.0f} CPU-s"
    )


def round_trips() -> float:
    """Returns bare round trips a second: eight bytes out and seven back between two processes."""
    master, slave = os.openpty()
    tty.setraw(slave)
    if os.fork() == 0:
        for _ in range(ROUND_TRIPS):
            os.read(master, 8)
            os.write(master, b"1234567")
        os._exit(0)
    before_s = time.monotonic()
    for _ in range(ROUND_TRIPS):
        os.write(slave, b"12345678")
        os.read(slave, 7)
    passed_s = time.monotonic() - before_s
    os.wait()
    os.close(slave)
    os.close(master)
    return ROUND_TRIPS / passed_s


def simulated(names: list[str], home: Path) -> tuple[float, float]:
    """Plays SIMULATED_HOURS of the ports named; returns simulated seconds per second, and per CPU second here."""
    end_ms = START_MS + int(SIMULATED_HOURS * 3_600_000)
    source = {"kind": "street", "seed": 7, "profile": "plaza"}
    ports = [{"name": n, "link": str(home / n), "device": DEVICES[n], "source": source} for n in names]
    gateway = {"gateway": "gw-1", "dir": str(home / "gw-1"), "ports": ports}
    file = home / "bench.json"
    file.write_text(json.dumps({"start_ms": START_MS, "end_ms": end_ms, "gateways": [gateway]}))
    command = [sys.executable, "-m", "murmure_firmware_sim.bench", str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None and bench.stdin is not None
        bench.stdout.readline()
        stop, batches = threading.Event(), queue.Queue[PortBatch](64)
        wall_s, cpu_s = time.monotonic(), time.process_time()
        for index, name in enumerate(names):
            driver = make_driver(DEVICES[name], {})
            link = TimelineLink(home / "gw-1", index, name, str(home / name), driver.baud, stop)
            port = Port(name, link, driver, batches.put, batch_ms=60_000, stop=stop)
            threading.Thread(target=port.run, daemon=True).start()
        horizons: dict[str, int] = {}
        while len(horizons) < len(names) or min(horizons.values()) < end_ms - SETTLE_MS:
            batch = batches.get()
            horizons[batch.port] = batch.horizon_ms
        wall_s, cpu_s = time.monotonic() - wall_s, time.process_time() - cpu_s
        stop.set()
        bench.stdin.close()
        bench.stdout.read()
    return SIMULATED_HOURS * 3600 / wall_s, SIMULATED_HOURS * 3600 / cpu_s


def main() -> None:
    """Prints both comparisons."""
    decoding()
    limit = round_trips()
    print(f"bare round trips over a pseudo-terminal: {limit:,.0f}/s")
    for names in (["noise"], ["beam", "dust"], list(DEVICES)):
        with tempfile.TemporaryDirectory() as home:
            speed, cpu_speed = simulated(names, Path(home))
        beside = f"; of the bare round trips {speed / limit:.2f}" if "noise" in names else ""
        print(f"{'+'.join(names)}: {speed:,.0f} simulated s/s, {cpu_speed:,.0f} per CPU-s of the gateway{beside}")


if __name__ == "__main__":
    main()
