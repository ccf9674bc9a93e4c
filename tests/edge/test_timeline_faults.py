"""Beside the real bench: whatever goes wrong on the line, readings and stamps are the same at any speed.

Each case runs the same simulated minutes twice, with ports far ahead of each other and nearly in step, and compares
every reading. The bench is a program of its own and shares no code with the gateway.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from murmure_edge.port import Port
from murmure_edge.reading import PortBatch, PortHealth, Reading
from murmure_edge.sensors import make_driver
from murmure_edge.sensors.footfall import SETTLE_MS
from murmure_edge.timeline import TimelineLink

START_MS = 1_763_683_200_000
SECONDS = 420
DEVICES = {"beam": "tfluna", "dust": "sds011", "noise": "modbus_noise"}
SETTINGS: dict[str, dict[str, object]] = {"modbus_noise": {"profile": "renke", "baud": 9600}}  # asks for no model
# What a device sends for each good frame, and the shorter replies of a TF-Luna to its five opening commands.
FRAME_BYTES = {"beam": 9, "dust": 10, "noise": 7}
OPENING_SHORTFALL = {"beam": 5 * 9 - 28, "dust": 0, "noise": 0}


@dataclass
class Run:
    """All that came of one run: readings by quantity, the last health and the bytes sent by port."""

    readings: dict[str, list[Reading]] = field(default_factory=lambda: defaultdict(list))
    health: dict[str, PortHealth] = field(default_factory=dict)
    sent_bytes: dict[str, int] = field(default_factory=dict)
    crossings: int = 0


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """play(faults by port, skew_ms, batch_ms) -> Run: SECONDS of a simulated square through all three ports."""
    benches: list[subprocess.Popen[str]] = []

    def run(faults: dict[str, list[str]], skew_ms: int, batch_ms: int) -> Run:
        home = tmp_path / f"run{len(benches)}"
        home.mkdir()
        end_ms = START_MS + SECONDS * 1000
        ports = [
            {
                "name": name,
                "link": str(home / name),
                "device": device,
                "faults": faults.get(name, []),
                "source": {"kind": "street", "seed": 7, "profile": "plaza"},
            }
            for name, device in DEVICES.items()
        ]
        gateway = {"gateway": "gw-1", "dir": str(home / "gw-1"), "ports": ports}
        config: dict[str, Any] = {"start_ms": START_MS, "end_ms": end_ms, "skew_ms": skew_ms}
        (home / "bench.json").write_text(json.dumps({**config, "gateways": [gateway]}))
        command = [sys.executable, "-m", "murmure_firmware_sim.bench", str(home / "bench.json")]
        bench = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        benches.append(bench)
        assert bench.stdout is not None
        bench.stdout.readline()  # its first line of progress: everything is open

        stop, batches = threading.Event(), queue.Queue[PortBatch](64)
        threads = []
        for index, (name, device) in enumerate(DEVICES.items()):
            driver = make_driver(device, SETTINGS.get(device, {}))
            link = TimelineLink(home / "gw-1", index, name, str(home / name), driver.baud, stop)
            port = Port(name, link, driver, batches.put, batch_ms=batch_ms, stop=stop)
            threads.append(threading.Thread(target=port.run, daemon=True))
            threads[-1].start()
        result = Run()
        horizons: dict[str, int] = {}
        while len(horizons) < len(DEVICES) or min(horizons.values()) < end_ms - SETTLE_MS:
            batch = batches.get(timeout=30)
            assert batch.fault is None
            for quantity, readings in batch.readings.items():
                assert all(reading.time_ms >= horizons.get(batch.port, 0) for reading in readings)
                result.readings[quantity] += [each for each in readings if each.time_ms < end_ms - SETTLE_MS]
            horizons[batch.port] = batch.horizon_ms
            result.health[batch.port] = batch.health
        event: dict[str, Any] = {"event": "progress"}
        while event["event"] != "end":
            event = json.loads(bench.stdout.readline())
        stop.set()
        while any(thread.is_alive() for thread in threads):
            try:
                batch = batches.get(timeout=0.05)
            except queue.Empty:
                continue
            result.health[batch.port] = batch.health
        for name in DEVICES:
            counters = event["ports"][f"gw-1/{name}"]
            result.sent_bytes[name] = counters["sent_bytes"]
            result.crossings += counters["crossings"]
        return result

    yield run
    for bench in benches:
        bench.kill()
        bench.communicate()


@pytest.mark.parametrize(
    ("port", "fault", "missing"),
    [
        ("beam", None, 0),
        ("noise", "late:400", SECONDS),
        ("noise", "split", 0),
        ("noise", "bit_flip:0.01", None),
        ("noise", "unplug:100/100", None),
        ("beam", "unplug:100/100", None),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                ("noise", "silent@100-200", 100),
                ("dust", "silent@100-200", None),
                ("noise", "late:1500", SECONDS),
                ("beam", "split", 0),
                ("noise", "echo", 0),
                ("noise", "exception@100-200", 100),
                ("noise", "insert:0.01", None),
                ("beam", "drop:0.005", None),
                ("beam", "reset:100", None),
                ("dust", "unplug:100/100", None),
            )
        ),
    ],
)
def test_a_fault_has_the_same_result_at_any_speed(
    play: Callable[..., Run], port: str, fault: str | None, missing: int | None
) -> None:
    """Far ahead or nearly in step, in batches of a minute or of seconds: each reading and its stamp are the same."""
    faults = {port: [fault]} if fault else {}
    ahead = play(faults, 120_000, 60_000)
    in_step = play(faults, 3_000, 7_000)
    assert {q: sorted(r) for q, r in ahead.readings.items()} == {q: sorted(r) for q, r in in_step.readings.items()}
    health = ahead.health[port]
    if fault and "unplug" in fault:
        assert health.lost_links == 1
    else:
        # Every byte sent is in a good frame or discarded.
        assert health.lost_links == health.overruns == 0
        counted = FRAME_BYTES[port] * health.frames + health.discarded_bytes - 2 * health.refused
        assert counted - OPENING_SHORTFALL[port] == ahead.sent_bytes[port]
    if missing is not None:
        quantity = {"beam": "footfall", "dust": "pm10", "noise": "noise"}[port]
        seconds = {reading.time_ms // 1000 for reading in ahead.readings[quantity]}
        opening_s = 1 if port == "beam" else 0  # five commands, and nothing is taken before they are through
        assert abs(SECONDS - missing - len(seconds)) <= SETTLE_MS // 1000 + opening_s
    if fault is None:
        assert sum(reading.value for reading in ahead.readings["footfall"]) == ahead.crossings
        assert health.rejected == health.discarded_bytes == 0
