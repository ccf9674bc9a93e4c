"""`/metrics` with 2,000 gateways beside the interval at which it is asked, and what asking does to intake.

Two days of nodes of 6,000 streams stand in the archive's index (as rows only: a scrape reads no message), each gateway
has a signed report, each site a signed policy. Intake files messages of one more gateway meanwhile, with and without
somebody who asks sixty times as often as Prometheus does.
"""

from __future__ import annotations

import http.client
import sqlite3
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_ingest.config import IngestConfig, OperationsConfig
from murmure_ingest.intake import Intake
from murmure_ingest.integers import Scale, keep_scale
from murmure_ingest.meter import Meter
from murmure_ingest.metrics import metrics_open
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.plan import plan
from murmure_privacy.policy import parse
from murmure_privacy.release import Health, Message, Node, Noised, Release
from murmure_privacy.window import Calendar, parse_utc

GATEWAYS = 2000
INTERVAL_S = 60.0
REPORTED_S = 900.0
NOW_S = parse_utc("2026-11-26T12:00:00Z")
DAYS_S = 2 * 86400
MESSAGES, BATCH = 4000, 200
SCRAPES = 15

POLICY = """policy = 1
site = "{site}"
version = 1
timezone = "Europe/Paris"
decision = "Mesure"
reason = "Mesure."
valid_from = 2026-11-01
valid_until = 2027-11-30
""" + "".join(
    f"""
[[stream]]
id = "{{site}}/{quantity}"
quantity = "{quantity}"
protects = {{{{ seconds = 60 }}}}
readings = {{{{ cadence_ms = 1000, tail = 2 }}}}
epsilon = 1.0
nodes = {{{{ "15min" = 1, "1h" = 1, "1d" = 24 }}}}
bounds = [0, 100]
"""
    for quantity in ("pm1", "pm2_5", "pm10")
)


def report(name: str, secret: bytes, at_s: int) -> bytes:
    ports = (("beam", "ok"), ("dust", "ok"), ("meter", "ok"))
    health = Health(name, "centre", at_s, 86400 + at_s - NOW_S, 1, "murmure 0.1", ports, 1, "ok", 30, 4096)
    return wire.seal_health(health, secret)


def fill(archive: Archive, steward: bytes, public: bytes) -> dict[str, bytes]:
    """Registers the fleet with its policies and writes two days of nodes; returns the secrets by gateway."""
    secrets = {}
    calendar = Calendar("Europe/Paris")
    db = sqlite3.connect(archive.path, isolation_level=None)
    for number in range(GATEWAYS + 1):
        name, site = f"gw-{number}", f"s{number}"
        text = POLICY.format(site=site).encode()
        secrets[name], key = wire.new_key()
        with archive.transaction():
            archive.enrol(Enrolment(name, "centre", site, key, (public,), 1))
            archive.put_policy(StoredPolicy(wire.digest(text), site, 1, text, wire.seal_policy(text, [("s", steward)])))
    levels = {
        level.level: level.rho_micro
        for level in plan(parse(POLICY.format(site="s0").encode(), "x")).streams["s0/pm1"].nodes
    }
    spans = []
    for level in levels:
        at_s = NOW_S - DAYS_S
        while (window := calendar.node(level, at_s)).end_s <= NOW_S:
            spans.append((level, window.start_s, window.end_s, levels[level]))
            at_s = window.end_s
    db.execute("BEGIN")
    scale = keep_scale(db, Scale(bytes(32), 1000, (0, 0), (("mean", 1, 1, 1),)))  # nobody asks what was released
    for number in range(GATEWAYS):
        for quantity in ("pm1", "pm2_5", "pm10"):
            stream = f"s{number}/{quantity}"
            db.execute(
                "INSERT INTO streams VALUES (?, ?, 'centre', ?, ?, 1)", (stream, f"gw-{number}", f"s{number}", quantity)
            )
            db.executemany(
                "INSERT INTO nodes (stream, level, start_s, end_s, covered_from_s, quantity, present, rho_micro, "
                "message, place, integers, scale) VALUES (?, ?, ?, ?, ?, ?, 20, ?, 1, 0, x'07', ?)",
                [
                    (stream, level, start_s, end_s, start_s, quantity, rho, scale)
                    for level, start_s, end_s, rho in spans
                ],
            )
    db.execute("COMMIT")
    db.close()
    return secrets


def messages(name: str, site: str, secret: bytes) -> list[tuple[str, bytes]]:
    """Seals what intake is to file: one node a message, of the gateway that has no nodes yet."""
    parsed = parse(POLICY.format(site=site).encode(), "x")
    stream = plan(parsed).streams[f"{site}/pm1"]
    level = next(one for one in stream.nodes if one.level == "15min")
    noised = tuple(Noised(i.indicator, (7,) * i.width, i.sigma_milli, i.rho_micro) for i in level.indicators)
    sealed, previous = [], wire.FIRST_PREVIOUS
    begin_s = NOW_S - NOW_S % 900 - 900 * MESSAGES
    for seq in range(1, MESSAGES + 1):
        start_s = begin_s + 900 * (seq - 1)
        node = Node(
            stream.stream.id,
            "pm1",
            "15min",
            start_s,
            start_s + 900,
            start_s,
            20,
            1000,
            stream.stream.bounds,
            parsed.hash,
        )
        message = Message(name, "centre", site, 1, seq, previous, start_s + 900, (Release(node, noised),))
        sealed.append(wire.seal_message(message, secret))
        previous = wire.digest(sealed[-1])
    return [(f"murmure/v1/centre/{name}/release", one) for one in sealed]


def ask(port: int) -> tuple[float, float, int]:
    """Returns how long one question took and how much of the processor, in seconds, and the octets of the answer."""
    began, worked = time.monotonic(), time.process_time()
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    line.request("GET", "/metrics")
    body = line.getresponse().read()
    line.close()
    return time.monotonic() - began, time.process_time() - worked, len(body)


def filed_a_second(intake: Intake, arrivals: list[tuple[str, bytes]]) -> float:
    began = time.monotonic()
    for at in range(0, len(arrivals), BATCH):
        intake.accept_many(arrivals[at : at + BATCH])
    return len(arrivals) / (time.monotonic() - began)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        config = IngestConfig(Path(folder), operations=OperationsConfig(port=0))
        archive = Archive.open(config.archive)
        steward, public = wire.new_key()
        secrets = fill(archive, steward, public)
        intake = Intake(archive, RuleBook(archive), lambda: 1 << 40)

        def reports(numbers: range, at_s: int) -> None:
            intake.accept_many(
                [(f"murmure/v1/centre/gw-{n}/health", report(f"gw-{n}", secrets[f"gw-{n}"], at_s)) for n in numbers]
            )

        reports(range(GATEWAYS), NOW_S - 900)
        clock = [float(NOW_S)]
        port = stack.enter_context(metrics_open(config, Meter(), lambda _: None, lambda: clock[0]))
        assert port
        first_s, first_cpu_s, octets = ask(port)
        asked = []
        share = round(GATEWAYS * INTERVAL_S / REPORTED_S)
        for turn in range(SCRAPES):
            reports(range(turn * share, min(GATEWAYS, (turn + 1) * share)), NOW_S)
            clock[0] += INTERVAL_S
            asked.append(ask(port))
        print(f"{GATEWAYS} gateways, {3 * GATEWAYS} streams, {octets / 1e6:.1f} MB of text")
        usual_s, usual_cpu_s = (statistics.median(one[which] for one in asked) for which in (0, 1))
        for what, took_s, cpu_s in (("each minute", usual_s, usual_cpu_s), ("the first", first_s, first_cpu_s)):
            print(f"{what:12} {took_s:5.2f} s, {took_s / INTERVAL_S:.3f} of the interval; ", end="")
            print(f"processor {cpu_s:.2f} s, {cpu_s / INTERVAL_S:.3f} of one core")

        arrivals = messages(f"gw-{GATEWAYS}", f"s{GATEWAYS}", secrets[f"gw-{GATEWAYS}"])
        quarter = MESSAGES // 4
        stop = threading.Event()

        def asking() -> None:
            while not stop.wait(1.0):
                ask(port)

        rates: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(4):
            thread = threading.Thread(target=asking)
            stop.clear()
            if turn % 2:
                thread.start()
            rates[bool(turn % 2)].append(filed_a_second(intake, arrivals[turn * quarter : (turn + 1) * quarter]))
            stop.set()
            if turn % 2:
                thread.join()
        alone, beside = statistics.mean(rates[False]), statistics.mean(rates[True])
        print(f"intake alone {alone:,.0f} messages a second; asked each second {beside:,.0f}: {beside / alone:.2f}")
        archive.close()


if __name__ == "__main__":
    main()
