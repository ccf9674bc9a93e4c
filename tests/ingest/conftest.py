"""A centre in a temporary folder, with its gateways and its broker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from murmure_ingest import gateways
from murmure_ingest.archive import Archive
from murmure_ingest.config import IngestConfig, load
from murmure_ingest.embedded_broker import EmbeddedBroker, free_port
from murmure_ingest.intake import Intake, Word
from murmure_ingest.receipts import centre_key
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.release import Receipt
from paho.mqtt.enums import CallbackAPIVersion

_NUMBERS = count()  # client ids of peers: one id twice would throw the first one out


def _policy_text(site: str, version: int = 1, epsilon: str = "1.0", until: str = "2027-11-30") -> bytes:
    return f"""policy = 1
site = "{site}"
version = {version}
timezone = "Europe/Paris"
decision = "Délibération n° 1"
reason = "Essai."
valid_from = 2026-11-01
valid_until = {until}

[[stream]]
id = "{site}/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = {epsilon}
nodes = {{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }}

[[stream]]
id = "{site}/pm2_5"
quantity = "pm2_5"
protects = {{ seconds = 60 }}
readings = {{ cadence_ms = 1000, tail = 2 }}
epsilon = 1.0
nodes = {{ "1h" = 1, "1d" = 24 }}
bounds = [0, 100]
""".encode()


@dataclass
class Centre:
    """One centre: its settings, archive and intake, and a steward who signs whatever is asked."""

    folder: Path
    config: IngestConfig
    archive: Archive
    intake: Intake
    secret: bytes
    steward: tuple[bytes, bytes]
    releases: ModuleType
    gateways: list[Any] = field(default_factory=list)
    now_s: int = 1 << 40  # by the intake's clock: later than anything that is said, unless a test is about that

    def signed(self, toml: bytes, *signers: bytes) -> bytes:
        return wire.seal_policy(toml, [(f"s{n}", key) for n, key in enumerate(signers or (self.steward[0],))])

    def gateway(
        self,
        name: str = "gw-plaza",
        site: str = "plaza",
        quartier: str = "centre",
        published: bool = True,
        **policy: Any,
    ) -> Any:
        toml = _policy_text(site, **policy)
        folder = self.folder / name
        gateways.enrol_local(
            self.archive,
            self.config,
            folder,
            gateway=name,
            site=site,
            quartier=quartier,
            stewards=[self.steward[1]],
            policies=[self.signed(toml)] if published else [],
        )
        secret = bytes.fromhex((folder / "data" / "record.key").read_text())
        return self.releases.Gateway(name, quartier, site, secret, toml)

    def accept(self, topic: str, payload: bytes) -> Word:
        return self.intake.accept(topic, payload)

    def refused(self) -> dict[str, int]:
        counted: dict[str, int] = self.archive.counts()["refused"]
        return counted

    def content(self) -> tuple[object, ...]:
        """What the archive holds, whatever the order in which it came."""
        messages = [
            (m.gateway, m.seq, m.hash, m.previous, m.disposition, m.reason, m.nodes, m.sealed)
            for line in self.archive.enrolments()
            for m in self.archive.messages(line.gateway)
        ]
        nodes = [(s.stream, self.archive.outcomes(s.stream, 0, 1 << 40)) for s in self.archive.streams()]
        totals = [self.archive.totals(line.gateway) for line in self.archive.enrolments()]
        return messages, nodes, totals, self.archive.conflicts()


def _make_centre(releases: ModuleType, folder: Path, port: int = 1883, mqtt: int = 5) -> Centre:
    path = folder / "ingest.toml"
    path.write_text(f'data_dir = "centre"\n[broker]\nport = {port}\nmqtt = {mqtt}\n')
    config = load(path)
    config.data_dir.mkdir(exist_ok=True)
    archive = Archive.open(config.archive)
    intake = Intake(archive, RuleBook(archive), lambda: made.now_s)
    made = Centre(folder, config, archive, intake, centre_key(config.data_dir), wire.new_key(), releases)
    return made


@pytest.fixture
def kill_broker() -> Callable[[Any], None]:
    """Returns what ends a broker as a power cut does."""

    def kill(broker: Any) -> None:
        os.kill(broker.pid, signal.SIGKILL)
        broker.stop()

    return kill


@pytest.fixture(params=["iotcore-5", pytest.param("mosquitto-5", marks=pytest.mark.broker)])
def broker(request: pytest.FixtureRequest, tmp_path: Path, brokers: Any) -> Iterator[Any]:
    """Each broker that we name, not started yet, on a port of its own; on demand `iotcore-4` (MQTT 3.1.1) and `nats-4`,
    which alone keeps on disk what it has acknowledged."""
    kind, mqtt = request.param.split("-")
    if kind == "iotcore":
        broker = EmbeddedBroker(free_port(), int(mqtt))
    else:
        broker = {"mosquitto": brokers.mosquitto, "nats": brokers.nats}[kind](tmp_path / "broker")
    yield broker
    broker.stop()


class Peer:
    """A gateway's half of the link, with paho: publishes what it is given, keeps what it is sent."""

    def __init__(self, gateway: Any, broker: Any) -> None:
        self.gateway = gateway
        self.got: list[tuple[str, bytes, bool, str | None]] = []
        five = broker.mqtt == 5
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{gateway.name}-{next(_NUMBERS)}",
            protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
            clean_session=None if five else True,
        )
        self._base = f"murmure/v1/{gateway.quartier}/{gateway.name}"
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._subscribe
        self._client.on_message = self._keep
        self._client.connect_async("127.0.0.1", broker.port, keepalive=10)
        self._client.loop_start()

    def _subscribe(self, *_: object) -> None:
        self._client.subscribe([(f"{self._base}/receipt", 1), (f"{self._base}/policy", 1)])

    def _keep(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        kind = getattr(message.properties, "ContentType", None) if message.properties else None
        self.got.append((message.topic.rsplit("/", 1)[1], bytes(message.payload), message.retain, kind))

    def publish(self, *arrivals: tuple[str, bytes]) -> None:
        for topic, payload in arrivals:
            self._client.publish(topic, payload, qos=1)

    def receipts(self, centre: Centre) -> list[Receipt]:
        public = wire.public_key(centre.secret)
        return [wire.open_receipt(payload, public) for kind, payload, *_ in self.got if kind == "receipt"]

    def settled(self, centre: Centre) -> int:
        found = self.receipts(centre)
        return found[-1].settled_seq if found else -1

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def connect() -> Iterator[Callable[[Any, Any], Peer]]:
    """Connects a gateway to a broker."""
    peers: list[Peer] = []

    def connect(gateway: Any, broker: Any) -> Peer:
        peers.append(Peer(gateway, broker))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.stop()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Waits until something is true, 20 s at most."""

    def until(true: Callable[[], object]) -> None:
        for _ in range(400):
            if true():
                return
            time.sleep(0.05)
        raise AssertionError("it did not happen within 20 s")

    return until


@pytest.fixture(scope="session")
def policy_text() -> Callable[..., bytes]:
    """Writes a site's policy: `policy_text(site, version, epsilon=…)`."""
    return _policy_text


@pytest.fixture(scope="session")
def make_centre(releases: ModuleType) -> Callable[..., Centre]:
    """Makes a centre in an existing folder: `make_centre(folder, port=…, mqtt=…)`; whoever asks closes its archive."""
    return partial(_make_centre, releases)


@pytest.fixture
def centre(tmp_path: Path, make_centre: Callable[..., Centre]) -> Iterator[Centre]:
    """One centre in the test's own folder."""
    centre = make_centre(tmp_path)
    yield centre
    centre.archive.close()
