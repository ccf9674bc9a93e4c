"""Nothing lost, nothing twice: broker, centre, mirror and database die at random under load, over a bad network.

Each gateway does what `send` does: it says again what no signed receipt has settled. In the end the archive is, byte
for byte, that of a run in which nothing happened, and so is the mirror. `make campaign-ingest` kills 500 times.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from murmure_ingest.archive import Archive
from murmure_ingest.embedded_broker import free_port
from murmure_ingest.inspection import inspect
from murmure_ingest.rules import RuleBook
from murmure_privacy import log, wire
from murmure_privacy.errors import WireError
from murmure_privacy.window import parse_utc
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).resolve().parents[2]
CAMPAIGN = os.environ.get("MURMURE_CAMPAIGN") == "1"
KILLS = 500 if CAMPAIGN else 25
GATEWAYS = 12
PER_KILL = 4  # messages that each gateway seals between two kills: 500 kills end before today, as the mirror wants it
WINDOW = 20  # messages that a gateway has under way
PATIENCE_S = 300.0
AGAIN_S = 1.0
FILED = (
    *("messages", "nodes", "conflicts", "enrolments", "policies", "amendments", "totals", "streams", "uses"),
    *("annotations", "rotations", "health", "forgotten", "log"),
)
OTHERWISE = {
    "scales": "by the nodes that name them: they are numbered as they come",
    "checkpoints": "how often the centre signs depends on when it runs: `proved` holds each against the log",
    "counters": "they count what the network did, too: what came twice, what was spoiled",
}
"""The tables that are not compared row by row, and what is done instead."""


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fleet = load("murmure_test_fleet", ROOT / "benchmarks" / "ingest" / "fleet.py")
brokers = load("murmure_test_brokers", ROOT / "tests" / "brokers.py")
proxies = load("murmure_test_mqtt_proxy", ROOT / "tests" / "mqtt_proxy.py")

BAD = proxies.Faults(twice=0.05, late=0.1, flipped=0.03, cut=0.0005)
GOOD = proxies.Faults()


@dataclass
class Gateway:
    """What one gateway has sealed, and how far the centre has settled it."""

    topic: str
    port: int
    centre: bytes
    sealed: list[bytes] = field(default_factory=list)
    settled: int = 0
    said: int = 0
    said_at: float = 0.0

    def __post_init__(self) -> None:
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self.topic.split("/")[3], protocol=mqtt.MQTTv5)
        self.client.reconnect_delay_set(1, 1)
        self.client.max_queued_messages_set(2 * WINDOW)
        self.client.on_connect = self._connected
        self.client.on_message = self._receipt
        self.client.connect_async("127.0.0.1", self.port, keepalive=10)
        self.client.loop_start()

    def _connected(self, *_: object) -> None:
        self.client.subscribe(self.topic.replace("/release", "/receipt"), qos=1)
        self.said = self.settled

    def _receipt(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        try:
            receipt = wire.open_receipt(bytes(message.payload), self.centre)
        except WireError:
            return  # the network spoiled it; another one comes
        assert receipt.exceptions == ()
        self.settled = max(self.settled, receipt.settled_seq)

    def turn(self, now: float, last: int) -> None:
        """Says what is next, up to number `last`; all that is not settled again when nothing has moved for a while."""
        if self.said > self.settled and now - self.said_at > AGAIN_S:
            self.said = self.settled
        upto = min(last, self.settled + WINDOW)
        if self.said < upto and self.client.is_connected():
            for sealed in self.sealed[self.said : upto]:
                self.client.publish(self.topic, sealed, qos=1)
            self.said, self.said_at = upto, now

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@dataclass
class Process:
    """A program that is started again whenever it was killed."""

    words: list[str]
    log: Path
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as written:
            self.running = subprocess.Popen(self.words, stdout=written, stderr=written)

    def kill(self) -> None:
        assert self.running is not None
        assert self.running.poll() is None, f"it ended by itself: {self.log.read_text()[-2000:]}"
        self.running.kill()
        self.running.wait()
        self.start()

    def stop(self) -> None:
        if self.running is not None:
            self.running.send_signal(signal.SIGTERM)
            self.running.wait(60)
            self.running = None


class Centre:
    """Broker, ingest and mirror as processes of their own, and a network of some quality around the broker."""

    def __init__(self, folder: Path, gateways: list[Any], faults: Any, seed: int, mirror_url: str | None) -> None:
        self.folder = folder
        self.data = folder / "centre"
        fleet.lay_out(self.data, gateways)
        broker_port = free_port()
        (folder / "state").mkdir()
        (folder / "mosquitto.conf").write_text(
            f"listener {broker_port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {folder}/state/\nautosave_interval 1\nmax_inflight_messages 2000\nuser root\n"
        )
        self._stack = ExitStack()
        self.up = self._stack.enter_context(proxies.Proxy(broker_port, faults, seed))
        self.down = self._stack.enter_context(proxies.Proxy(broker_port, faults, seed + 1))
        toml = f'data_dir = "centre"\n[broker]\nhost = "127.0.0.1"\nport = {self.down.port}\n'
        if mirror_url:
            toml += f'[mirror]\nurl = "{mirror_url}"\n'
        (folder / "ingest.toml").write_text(toml)
        told = folder / "log"
        self.processes = {
            "broker": Process([brokers.program("mosquitto"), "-c", str(folder / "mosquitto.conf")], told),
            "ingest": Process(self.command("ingest", "run"), told),
        }
        if mirror_url:
            self.processes["mirror"] = Process(self.command("ingest", "mirror"), told)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "murmure.cli", *words, "--config", str(self.folder / "ingest.toml")]

    def __enter__(self) -> Centre:
        for process in self.processes.values():
            process.start()
            self._stack.callback(process.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def catch_up(self) -> None:
        """Lets the mirror end when its database has everything; one that was just started may not answer yet."""
        self.processes["mirror"].stop()
        patience = time.monotonic() + PATIENCE_S
        while True:
            words = [*self.command("ingest", "mirror"), "--once"]
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
            if done.returncode == 0:
                return
            assert time.monotonic() < patience, done.stderr

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.data / 'archive.db'}?mode=ro", uri=True, timeout=30)) as db:
            return db.execute(query).fetchall()


def content(centre: Centre) -> bytes:
    """Returns a hash over everything that an archive holds, but for the order in which it came."""
    numbers = {row[0]: f"{row[1]} {row[2]}" for row in centre.ask("SELECT id, gateway, seq FROM messages")}
    scales = {row[0]: row[1:] for row in centre.ask("SELECT id, policy, cadence_ms, low, high, parts FROM scales")}
    told = hashlib.sha256()
    tables = {row[0] for row in centre.ask("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {*FILED, *OTHERWISE}
    for table in FILED:
        names = [row[1] for row in centre.ask(f"SELECT * FROM pragma_table_info('{table}')")]
        rows, places = [], dict[str, int]()
        for row in centre.ask(f"SELECT * FROM {table}" + (" ORDER BY id" if table == "log" else "")):
            cells = dict(zip(names, row, strict=True))
            if table == "messages":
                del cells["id"], cells["head"]
            if table == "streams":
                del cells["since"]
            if table == "log":
                # Each gateway's days follow each other; which gateway comes first is a matter of arrival, and the hash
                # of all entries up to one follows from that.
                del cells["peak"]
                place = places[cells["subject"]] = places.get(cells["subject"], 0) + 1
                cells["id"] = place
            if "message" in cells:
                cells["message"] = numbers[cells["message"]]
            if "scale" in cells:
                cells["scale"] = scales[cells["scale"]]
            rows.append(repr(sorted(cells.items())))
        told.update(json.dumps([table, sorted(rows)]).encode())
    return told.digest()


def proved(centre: Centre) -> None:
    """Goes through the whole archive as `murmure ingest verify` does, and holds every checkpoint that was ever signed
    against the log: whoever has kept one finds it at the beginning of what is there now."""
    archive = Archive.open(centre.data / "archive.db", read_only=True)
    try:
        report = inspect(archive, RuleBook(archive))
        entries = list(archive.log_entries())
    finally:
        archive.close()
    assert (report.findings, report.left_out, report.gaps) == ([], 0, {})
    leaves = [log.leaf_hash(entry) for entry in entries]
    public = wire.public_key(fleet.CENTRE_SECRET)
    signed = centre.ask("SELECT size, signed FROM checkpoints ORDER BY size")
    for size, note in signed:
        assert log.open_checkpoint(note, public) == log.Checkpoint(size, log.root(leaves[:size]))
    spent = [entry for entry in map(log.read_entry, entries) if entry["kind"] == "spend"]
    assert signed and spent, "there is something to prove"


def run(centre: Centre, sealed: dict[str, list[bytes]], each_turn: Callable[[int], int]) -> list[Gateway]:
    """Lets the gateways speak until all that they have sealed is settled; `each_turn` is given how many messages are
    settled, and says up to which number each may speak for now."""
    public = wire.public_key(fleet.CENTRE_SECRET)
    gateways = [Gateway(topic, centre.up.port, public, messages) for topic, messages in sealed.items()]
    whole = max(map(len, sealed.values()))
    patience = time.monotonic() + PATIENCE_S
    settled = -1
    try:
        while any(gateway.settled < len(gateway.sealed) for gateway in gateways):
            now = time.monotonic()
            last = each_turn(sum(gateway.settled for gateway in gateways))
            for gateway in gateways:
                gateway.turn(now, min(last, whole))
            if settled < (settled := sum(gateway.settled for gateway in gateways)):
                patience = now + PATIENCE_S
            assert now < patience, f"nothing moves any more: {(centre.folder / 'log').read_text()[-2000:]}"
            time.sleep(0.02)
    finally:
        for gateway in gateways:
            gateway.stop()
    return gateways


@pytest.mark.long
@pytest.mark.broker
@pytest.mark.victoria
def test_whatever_dies_the_archive_is_that_of_a_quiet_run(tmp_path: Path, victoria: Any) -> None:
    """0 lost, 0 stored twice, the archive byte-identical, the mirror that of its archive."""
    gateways = fleet.fleet(GATEWAYS)
    (tmp_path / "bad").mkdir()
    dice = random.Random(int(os.environ.get("MURMURE_SEED", "1")))
    sealer = fleet.Sealer(gateways)
    sealed: dict[str, list[bytes]] = {gateway.topic: [] for gateway in gateways}
    closing_s = parse_utc("2026-10-31T23:00:00Z")
    for _ in range(KILLS * PER_KILL):
        closing_s += 900
        for topic, payload in sealer.closing(closing_s)[0]:
            sealed[topic].append(payload)
    kills: list[str] = []
    with Centre(tmp_path / "bad", gateways, BAD, 1, victoria.url) as centre:
        names = [*centre.processes, "database"]

        def disturb(settled: int) -> int:
            """Kills somebody each time that the fleet has come so much further; some when a commit is under way."""
            if len(kills) < KILLS and settled >= len(kills) * PER_KILL * GATEWAYS:
                name = dice.choice(names)
                time.sleep(dice.uniform(0, 0.1))
                if name == "database":
                    victoria.kill()
                    victoria.start()
                else:
                    centre.processes[name].kill()
                kills.append(name)
                if len(kills) % 25 == 0:
                    print(f"  {len(kills)} of {KILLS} kills, {settled} messages settled", file=sys.stderr, flush=True)
            return (len(kills) + 1) * PER_KILL

        run(centre, sealed, disturb)
        assert len(kills) == KILLS and set(kills) == set(names)
        assert all(centre.up.did[fault] and centre.down.did[fault] for fault in ("twice", "late", "flipped"))
        assert centre.up.did["cut"] + centre.down.did["cut"] > 0
        centre.catch_up()
        disturbed = content(centre)
        proved(centre)
        messages = sum(map(len, sealed.values()))
        assert centre.ask("SELECT count(*), count(DISTINCT hash) FROM messages WHERE disposition = 'filed'") == [
            (messages, messages)
        ]
        mirrored = victoria.samples()
    victoria.kill()
    victoria.empty()
    victoria.start()
    (tmp_path / "quiet").mkdir()
    with Centre(tmp_path / "quiet", gateways, GOOD, 1, victoria.url) as centre:
        run(centre, sealed, lambda _: KILLS * PER_KILL)
        assert content(centre) == disturbed
        proved(centre)
        centre.catch_up()
        assert victoria.samples() == mirrored
