"""A gateway with all eight devices: memory, processor, start, decoding beside PyPMS, and a day's memory slope.

1. Live: eight emulated devices at their real rates on pseudo-terminals, `sense` and `send` as two processes, a broker;
   processor time and resident memory of each over two minutes, and how long each port takes to its first reading.
2. Decoding: each driver's frames a second; for the three devices that PyPMS knows, PyPMS on the same bytes.
3. Soak: a simulated day of the same eight through time lines, and the slope of the memory of `sense` over it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from itertools import combinations
from pathlib import Path

from murmure_edge import config as edge_config
from murmure_edge.folders import prepare_folders, write_whole
from murmure_edge.inbox import policy_name
from murmure_edge.sensors import DRIVERS, make_driver
from murmure_edge.sensors.base import Driver, PolledDriver
from murmure_firmware_sim.devices import DEVICES
from murmure_firmware_sim.street import Street
from murmure_ingest import gateways
from murmure_ingest.archive import Archive
from murmure_ingest.config import load as load_centre
from murmure_ingest.embedded_broker import EmbeddedBroker, free_port
from murmure_privacy.window import utc
from murmure_privacy.wire import new_key, seal_policy
from pms.core import Sensor

STREAMS = {
    "sds011": ("pm2_5", "pm10"),
    "pmsx003": ("pm1", "pm2_5", "pm10"),
    "sps30": ("pm1", "pm2_5", "pm10"),
    "modbus_noise": ("noise",),
    "nsrt_mk3": ("noise",),
    "uart_decibel_bbaa": ("noise",),
    "ld2450": ("footfall",),
    "tfluna": ("footfall",),
}
TAIL = 60  # as much as the slowest of them remembers
LIMITS = {"sense": 100.0, "send": 50.0}  # MB resident
CPU_LIMIT = 5.0  # percent of one core
SETTLING_S, LIVE_S = 45, 120
SOAK_HOURS, SOAK_FROM_HOURS = 24, 4  # the first hours fill caches that are bounded
SLOPE_LIMIT = 1.0  # MB a day
FRAMES = 20_000
PYPMS = {"sds011": "SDS011", "pmsx003": "PMS5003", "sps30": "SPS30"}
START_MS = 1_763_683_200_000


def stream(device: str, quantity: str) -> str:
    return f"bench/{quantity}_{device}" if quantity != "footfall" else f"bench/{device}"


def policy_toml(first: date) -> bytes:
    """Returns a policy with every stream of the eight devices."""
    text = (
        'policy = 1\nsite = "bench"\nversion = 1\ntimezone = "Europe/Paris"\ndecision = "D"\nreason = "R"\n'
        f"valid_from = {first}\nvalid_until = {first.replace(year=first.year + 1)}\n"
    )
    for device, quantities in STREAMS.items():
        for quantity in quantities:
            text += f'\n[[stream]]\nid = "{stream(device, quantity)}"\nquantity = "{quantity}"\nepsilon = 1.0\n'
            if quantity == "footfall":
                text += 'protects = { crossings = 1 }\nnodes = { "1h" = 1, "1d" = 1 }\n'
                continue
            bounds = "bounds_db = [35, 85]" if quantity == "noise" else "bounds = [0, 100]"
            text += f"protects = {{ seconds = 15 }}\nreadings = {{ cadence_ms = 1000, tail = {TAIL} }}\n"
            text += f'{bounds}\nnodes = {{ "1h" = 1 }}\n'
    return text.encode()


def enrolled(home: Path, broker_port: int, first: date) -> Path:
    """Makes a gateway with eight ports; returns its gateway.toml."""
    (home / "centre").mkdir()
    (home / "ports").mkdir()
    file = home / "centre" / "ingest.toml"
    file.write_text(f'data_dir = "data"\n[broker]\nport = {broker_port}\n')
    centre = load_centre(file)
    centre.data_dir.mkdir()
    secret, steward = new_key()
    sealed = seal_policy(policy_toml(first), [("steward", secret)])
    ports = [
        gateways.Port(
            device.replace("_", "-"), device, str(home / "ports" / device), {q: stream(device, q) for q in qs}, {}
        )
        for device, qs in STREAMS.items()
    ]
    archive = Archive.open(centre.archive)
    folder = home / "gw"
    gateways.enrol_local(
        archive, centre, folder, gateway="gw-bench", site="bench", quartier="centre", stewards=[steward], ports=ports,
        policies=[sealed], simulated=True,
    )  # fmt: skip
    archive.close()
    local = edge_config.load(folder / "gateway.toml")
    prepare_folders(local)
    write_whole(local.inbox, policy_name(sealed), sealed)
    return folder / "gateway.toml"


def cpu_s(pid: int) -> float:
    """Returns the processor time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int, kind: str = "VmRSS") -> float:
    """Returns what a process has in memory, in MB (10^6 bytes)."""
    found = re.search(rf"{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


@contextmanager
def devices(home: Path) -> Iterator[None]:
    """Eight emulated devices, each a process of its own, at their real rates."""
    running = []
    try:
        for device in STREAMS:
            command = [
                sys.executable,
                "-m",
                "murmure.cli",
                "sim",
                "device",
                device,
                "--link",
                str(home / "ports" / device),
            ]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running.append(process)
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def live(home: Path) -> None:
    """Prints memory, processor and start of both processes beside their limits."""
    port = free_port()
    toml = enrolled(home, port, date.today())
    # This machine may have neither NTP nor a clock of its own: what is measured is the same.
    toml.write_text('clock = "any"\n' + toml.read_text())
    with ExitStack() as stack:
        stack.enter_context(EmbeddedBroker(port))
        stack.enter_context(devices(home))
        log = (home / "sense.log").open("w+")
        started_s = time.monotonic()
        both = {
            name: subprocess.Popen(
                [sys.executable, "-m", "murmure.cli", "edge", name, "--config", str(toml)],
                stderr=log if name == "sense" else subprocess.DEVNULL,
            )
            for name in LIMITS
        }
        first: dict[str, float] = {}
        while time.monotonic() - started_s < SETTLING_S:
            time.sleep(0.1)
            said = (home / "sense.log").read_text()
            for name in re.findall(r"sense: ([a-z0-9-]+): (?:warming|ok)", said):
                first.setdefault(name, time.monotonic() - started_s)
        before = {name: cpu_s(process.pid) for name, process in both.items()}
        time.sleep(LIVE_S)
        for name, process in both.items():
            percent = 100 * (cpu_s(process.pid) - before[name]) / LIVE_S
            now, peak = resident_mb(process.pid), resident_mb(process.pid, "VmHWM")
            cpu = f"{percent:.1f} % of a core, {percent / CPU_LIMIT:.2f} of {CPU_LIMIT:g} %"
            memory = f"{now:.0f} MB resident, peak {peak:.0f}: {peak / LIMITS[name]:.2f} of {LIMITS[name]:g} MB"
            print(f"{name}: {memory}; {cpu}")
        for process in both.values():
            process.terminate()
        for process in both.values():
            process.wait()
        missing = [device for device in STREAMS if device.replace("_", "-") not in first]
        if not first:
            raise SystemExit((home / "sense.log").read_text())
        print(
            f"first frame after the start of sense: {min(first.values()):.1f} to {max(first.values()):.1f} s on "
            f"{len(first)} ports" + (f"; none on {', '.join(missing)}" if missing else "")
        )


def spoken(device: str) -> tuple[Driver, list[bytes]]:
    """Returns a driver that has opened its device, and what that says then in 200 seconds of a street."""
    made = DEVICES[device](Street(7, "plaza"))
    made.seek(START_MS)
    driver = make_driver(device, {})
    now_ms = START_MS
    for command in driver.opening():
        for answer, _ in made.receive(command, now_ms):
            driver.feed(answer, now_ms)
        now_ms += 200
    pieces: list[bytes] = []
    while len(pieces) < 200:
        now_ms += 1000
        if isinstance(driver, PolledDriver):
            answers = [answer for answer, _ in made.receive(driver.request(), now_ms)]
        else:
            answers = [piece for piece, _ in made.advance(now_ms) if piece]
        for answer in answers:
            driver.feed(answer, now_ms)
        pieces += answers
    return driver, pieces


def decoding() -> None:
    """Prints each driver's rate, and PyPMS's on the same bytes."""
    for device in STREAMS:
        driver, pieces = spoken(device)
        polled = driver if isinstance(driver, PolledDriver) else None
        counted = driver.counters.frames
        before_s, now_ms = time.process_time(), START_MS + 3_600_000
        for number in range(FRAMES):
            if polled is not None:
                polled.request()
            now_ms += 1000
            driver.feed(pieces[number % len(pieces)], now_ms)
        rate = (driver.counters.frames - counted) / (time.process_time() - before_s)
        beside = ""
        if device in PYPMS:
            theirs = pypms_rate(PYPMS[device], pieces)
            beside = f"; PyPMS {theirs:,.0f}: {rate / theirs:.1f} times as fast"
        print(f"{device}: {rate:,.0f} frames/s{beside}")


def pypms_rate(name: str, pieces: list[bytes]) -> float:
    """Returns how many of the same frames PyPMS decodes a second."""
    sensor = Sensor[name]
    good = []
    for piece in pieces:
        try:
            sensor.decode(piece)
            good.append(piece)
        except Exception:  # a stuffed frame of the SPS30, which it reads at a fixed length
            continue
    before_s = time.process_time()
    for number in range(FRAMES):
        sensor.decode(good[number % len(good)])
    return FRAMES / (time.process_time() - before_s)


def slope_mb_a_day(samples: list[tuple[float, float]]) -> float:
    """Returns the Theil-Sen slope of (hours, MB): the median of the slopes of all pairs."""
    return 24 * statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(samples, 2) if b[0] > a[0])


def soak(home: Path, hours: float, tell: Callable[[str], None]) -> None:
    """Prints the memory of `sense` over a simulated day with eight devices."""
    from datetime import UTC, datetime

    port = free_port()
    first = datetime.fromtimestamp(START_MS / 1000, UTC).date()
    toml = enrolled(home, port, first)
    timeline = toml.parent / "timeline"
    timeline.mkdir(mode=0o700)
    end_ms = START_MS + int(hours * 3_600_000)
    source = {"kind": "street", "seed": 7, "profile": "plaza"}
    ports = [
        {"name": d.replace("_", "-"), "link": str(home / "ports" / d), "device": d, "source": source} for d in STREAMS
    ]
    scenario = {
        "start_ms": START_MS,
        "end_ms": end_ms,
        "gateways": [{"gateway": "gw-bench", "dir": str(timeline), "ports": ports}],
    }
    (home / "bench.json").write_text(json.dumps(scenario))
    bench = subprocess.Popen(
        [sys.executable, "-m", "murmure_firmware_sim.bench", str(home / "bench.json")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert bench.stdout is not None and bench.stdin is not None
    bench.stdout.readline()
    sense = subprocess.Popen(
        [sys.executable, "-m", "murmure.simulated_sense", "--config", str(toml), "--timeline", str(timeline)],
        stdout=subprocess.DEVNULL,
        stderr=(home / "sense.log").open("w"),
    )
    samples: list[tuple[float, float]] = []
    began_s = time.monotonic()
    for line in bench.stdout:
        event = json.loads(line)
        if event["event"] == "end":
            break
        if event["event"] == "progress":
            hours_in = (event["sim_ms"] - START_MS) / 3_600_000
            tell(f"soak: {utc(event['sim_ms'] // 1000)}, {hours_in:.1f} of {hours:g} h")
            if hours_in >= min(SOAK_FROM_HOURS, hours / 4):
                samples.append((hours_in, resident_mb(sense.pid)))
    took_s = time.monotonic() - began_s
    sense.terminate()
    status = sense.wait()
    bench.stdin.close()
    bench.wait()
    slope = slope_mb_a_day(samples)
    print(
        f"soak: {hours:g} simulated hours of eight devices in {took_s:.0f} s, {len(samples)} samples from "
        f"{samples[0][1]:.1f} to {samples[-1][1]:.1f} MB: {slope:+.2f} MB a day, {slope / SLOPE_LIMIT:+.2f} of "
        f"{SLOPE_LIMIT:g} MB; sense ended with {status}"
    )


def main() -> None:
    """Prints all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("live", "decoding", "soak"), help="one of the three")
    parser.add_argument("--hours", type=float, default=SOAK_HOURS, help="length of the soak")
    args = parser.parse_args()

    def tell(line: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    assert set(STREAMS) == set(DRIVERS), "a device is missing"
    parts: dict[str, Callable[[Path], None]] = {
        "live": live,
        "decoding": lambda _: decoding(),
        "soak": lambda home: soak(home, args.hours, tell),
    }
    for name, part in parts.items():
        if args.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                part(Path(folder))


if __name__ == "__main__":
    main()
