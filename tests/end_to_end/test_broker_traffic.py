"""The town's broker and its centre under hostile traffic: a stolen day, a flood, a reader who does not read.

The day is a real one: `edge replay` drew its noise and sealed its messages.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from murmure.cli import main
from murmure_edge import replay
from murmure_edge.gateway_db import GatewayDb
from murmure_ingest import gateways
from murmure_ingest.archive import Archive, Enrolment
from murmure_ingest.certificates import Authority, new_private_key
from murmure_ingest.embedded_broker import free_port
from murmure_ingest.quarantine import TOTAL_BYTES
from murmure_privacy import wire
from paho.mqtt.enums import CallbackAPIVersion

pytestmark = pytest.mark.broker

ME = pwd.getpwuid(os.geteuid()).pw_name
VICTIM, THIEF, DEAF = replay.GATEWAY, "gw-thief", "gw-deaf"
TOPIC = "murmure/v1/replay/{}/{}"
PATIENCE_S = 60.0
POLICY = """policy = 1
site = "plaza"
version = 1
timezone = "Europe/Paris"
decision = "Essai"
reason = "Essai."
valid_from = 2026-01-01
valid_until = 2026-12-31
[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = { crossings = 1 }
epsilon = 1.0
nodes = { "15min" = 1, "1h" = 1 }
"""


def until(true: Callable[[], object], what: str) -> None:
    patience = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < patience, what
        time.sleep(0.05)


@dataclass
class Speaker:
    """One gateway's connection, with its own certificate; keeps what it is sent."""

    port: int
    context: ssl.SSLContext
    got: list[tuple[str, bytes]] = field(default_factory=list)
    answered: int = 0
    opened: bool = False

    def __post_init__(self) -> None:
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="x", protocol=mqtt.MQTTv5)
        self.client.tls_set_context(self.context)
        self.client.on_connect = lambda *_: setattr(self, "opened", True)
        self.client.on_message = lambda _c, _d, message: self.got.append((message.topic, bytes(message.payload)))
        self.client.on_publish = self._answer
        self.client.connect_async("localhost", self.port, keepalive=60)
        self.client.loop_start()
        until(lambda: self.opened, "not connected")

    def _answer(self, *_: object) -> None:
        self.answered += 1

    def say(self, *arrivals: tuple[str, bytes]) -> None:
        """Publishes all, and returns when the broker has answered each."""
        before = self.answered
        for topic, payload in arrivals:
            self.client.publish(topic, payload, qos=1)
        until(lambda: self.answered >= before + len(arrivals), "the broker does not answer")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Town:
    """A centre, a broker by `broker init`, three gateways' certificates, and one day that one of them has sealed."""

    def __init__(self, folder: Path, brokers: ModuleType) -> None:
        self.folder, self.port = folder, free_port()
        self.toml = folder / "ingest.toml"
        self.toml.write_text(
            f'data_dir = "centre"\n[broker]\nhost = "localhost"\nport = {self.port}\n'
            f'authority = "{folder}/centre/authority.crt"\ncertificate = "{folder}/centre/broker/ingest.crt"\n'
            f'key = "{folder}/centre/broker/ingest.key"\n'
        )
        listen = ("--listen", "127.0.0.1", "--port", str(self.port), "--workers", "2")
        self.command("broker", "init", str(folder / "broker"), *listen)
        self.archive = folder / "centre" / "archive.db"
        self.day = self._register(*self._sealed())
        self.contexts = {name: self._context(name) for name in (VICTIM, THIEF, DEAF)}
        self.contexts["ingest-2"] = self._client(folder / "centre" / "broker" / "ingest-2")
        self._broker = brokers.mosquitto_on(folder / "broker" / "mosquitto.conf", self.port, folder / "log")

    def command(self, *words: str) -> None:
        words = (*words, "--config", str(self.toml), *(("--user", ME) if words[0] == "broker" else ()))
        assert main(words) == 0

    def _sealed(self) -> tuple[bytes, list[bytes]]:
        """Returns the public key and the messages of a day that `edge replay` played."""
        rows = [f"2026-03-10T{n // 4:02}:{n % 4 * 15:02}:00Z,plaza,pedestrians,{n * 7 % 90},1" for n in range(96)]
        readings, policy, db = (self.folder / name for name in ("readings.csv", "policy.toml", "gateway.db"))
        readings.write_text("timestamp_utc,site,metric,value,unit\n" + "\n".join(rows) + "\n")
        policy.write_text(POLICY)
        replay.run(policy, readings, "plaza/footfall", self.folder / "out.jsonl", db_file=db)
        kept = GatewayDb.open(db)
        try:
            return wire.public_key(kept.kept_secret(bytes(32))), list(kept.rows().values())
        finally:
            kept.close()

    def _register(self, record_key: bytes, sealed: list[bytes]) -> list[bytes]:
        secret, steward = wire.new_key()
        archive = Archive.open(self.archive)
        with archive.transaction():
            archive.enrol(Enrolment(VICTIM, "replay", "plaza", record_key, (steward,), 1))
            for name in (THIEF, DEAF):
                archive.enrol(Enrolment(name, "replay", name[3:], wire.new_key()[1], (steward,), 1))
        gateways.publish_policy(archive, wire.seal_policy(POLICY.encode(), [("s", secret)]))
        archive.close()
        return sealed

    def _context(self, name: str) -> ssl.SSLContext:
        now = datetime.now(UTC)
        authority, key = Authority(self.folder / "centre", now), new_private_key()
        (self.folder / f"{name}.key").write_text(key)
        (self.folder / f"{name}.crt").write_text(authority.issue_client(key, name, now - timedelta(hours=1)))
        return self._client(self.folder / name)

    def _client(self, path: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "centre" / "authority.crt"))
        context.load_cert_chain(path.with_name(f"{path.name}.crt"), path.with_name(f"{path.name}.key"))
        return context

    def start(self) -> None:
        self._broker.start()
        run = [sys.executable, "-m", "murmure.cli", "ingest", "run", "--config", str(self.toml)]
        with (self.folder / "log").open("ab") as log:
            self._centre = subprocess.Popen(run, stdout=log, stderr=log)
        until(lambda: ": connected" in (self.folder / "log").read_text(), "the centre does not connect")

    def stop(self) -> None:
        self._centre.terminate()
        self._centre.wait()
        self._broker.stop()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.archive}?mode=ro", uri=True, timeout=30)) as db:
            return db.execute(query).fetchall()

    def filed(self) -> list[tuple[Any, ...]]:
        """All that a stranger must not change: messages, nodes, evidence, register, sums."""
        tables = ("messages", "nodes", "conflicts", "enrolments", "policies", "amendments", "totals", "streams")
        return [row for table in tables for row in self.ask(f"SELECT '{table}', * FROM {table}")]

    def counted(self, name: str) -> int:
        rows = self.ask(f"SELECT value FROM counters WHERE name = '{name}'")
        return int(rows[0][0]) if rows else 0


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, brokers: ModuleType) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("town"), brokers)
    town.start()
    yield town
    town.stop()


@pytest.fixture
def join(town: Town) -> Iterator[Callable[[str], Speaker]]:
    speakers: list[Speaker] = []

    def join(name: str) -> Speaker:
        speakers.append(Speaker(town.port, town.contexts[name]))
        return speakers[-1]

    yield join
    for each in speakers:
        each.close()


Join = Callable[[str], Speaker]


def test_a_flood_of_one_gateway_keeps_nobody_waiting_for_ever(town: Town, join: Join) -> None:
    """Ten times the day of another, half rubbish and half stolen, while that one speaks: its day is filed whole, the
    rest is counted, and what is kept of it is bounded."""
    flood, victim = join(THIEF), join(VICTIM)
    rubbish = [random.randbytes(900) for _ in range(5 * len(town.day))]
    stolen = [sealed for sealed in town.day for _ in range(5)]
    own = TOPIC.format(THIEF, "release")
    for each in rubbish + stolen:
        flood.client.publish(own, each, qos=1)
    victim.say(*((TOPIC.format(VICTIM, "release"), sealed) for sealed in town.day))
    until(lambda: town.ask("SELECT count(*) FROM messages WHERE disposition = 'filed'")[0][0] == len(town.day), "lost")
    refused = ("malformed", "not_canonical", "wrong_topic")
    until(lambda: sum(town.counted(f"refused:{reason}") for reason in refused) == 10 * len(town.day), "not counted")
    assert (town.folder / "centre" / "quarantine.db").stat().st_size < 2 * TOTAL_BYTES


def test_a_stolen_day_is_worth_nothing(town: Town, join: Join, capsys: pytest.CaptureFixture[str]) -> None:
    """Captured and said again: by another gateway on its own topic and on the victim's, then by the victim's own
    certificate, twice over and in any order. The archive stays as it was, byte for byte."""
    until(lambda: len(town.ask("SELECT 1 FROM messages")) == len(town.day), "the day is not filed")
    before = town.filed()
    thief = join(THIEF)
    wrong = town.counted("refused:wrong_topic")
    thief.say(*((TOPIC.format(name, "release"), sealed) for name in (THIEF, VICTIM) for sealed in town.day))
    until(lambda: town.counted("refused:wrong_topic") == wrong + len(town.day), "not refused on its own topic")
    known = town.counted("duplicates")
    again = town.day * 2
    random.shuffle(again)
    join(VICTIM).say(*((TOPIC.format(VICTIM, "release"), sealed) for sealed in again))
    nodes = len(town.ask("SELECT 1 FROM nodes"))
    until(lambda: town.counted("duplicates") == known + 2 * nodes, "not known as duplicates")
    assert town.filed() == before
    assert main(["ingest", "verify", "--archive", str(town.archive), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sound"]


def test_a_reader_who_does_not_read_holds_nobody_up(town: Town, join: Join) -> None:
    """A gateway subscribes and then never reads its socket, while far more is said to it than any buffer holds: others
    are heard and get their receipts."""
    with socket.create_connection(("127.0.0.1", town.port), timeout=PATIENCE_S) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf = town.contexts[DEAF].wrap_socket(plain, server_hostname="localhost")
        connect = b"\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01x"
        deaf.sendall(bytes([0x10, len(connect)]) + connect)
        assert deaf.recv(64)[:1] == b"\x20"
        topic = TOPIC.format(DEAF, "policy").encode()
        subscribe = b"\x00\x01\x00" + len(topic).to_bytes(2, "big") + topic + b"\x01"
        deaf.sendall(bytes([0x82, len(subscribe)]) + subscribe)
        assert deaf.recv(64)[:1] == b"\x90"
        join("ingest-2").say(*[(topic.decode(), bytes(16_000))] * 2000)
        victim = join(VICTIM)
        victim.client.subscribe(TOPIC.format(VICTIM, "receipt"), qos=1)
        until(lambda: victim.got, "no receipt was retained")
        seen = len(victim.got)
        victim.say((TOPIC.format(VICTIM, "release"), town.day[0]))
        until(lambda: len(victim.got) > seen, "no receipt for the others")
