"""An enrolled gateway with all its keys, brokers that must behave alike, a centre that listens, `send` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import paho.mqtt.client as mqtt
import pytest
from murmure_edge.config import GatewayConfig, Trust, load, load_trust
from murmure_edge.folders import prepare_folders
from murmure_ingest.embedded_broker import EmbeddedBroker, free_port
from murmure_privacy import wire
from murmure_privacy.release import Receipt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

POLICY = """\
policy = 1
site = "{site}"
version = {version}
timezone = "Europe/Paris"
decision = "Délibération 2026-11-03 n° 42"
reason = "Mesurer la fréquentation de la place."
valid_from = 2026-01-01
valid_until = 2027-11-30

[[stream]]
id = "{site}/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = 1.0
nodes = {{ "1h" = 1, "1d" = 1 }}
"""

GATEWAY_TOML = """\
gateway = "gw-plaza"
data = "data"
outbox = "spool/outbox"
inbox = "spool/inbox"
send_data = "send"
trust = "trust.toml"
[broker]
host = "127.0.0.1"
port = {port}
mqtt = {mqtt}
retry_cap_s = 1
resend_s = {resend_s}
"""


@dataclass
class Gateway:
    """An enrolled gateway in a folder, and the secrets of those whom it trusts."""

    folder: Path
    centre: bytes
    steward: bytes
    config: GatewayConfig
    trust: Trust

    def receipt(self, seq: int, sealed: bytes, **other: object) -> bytes:
        fields = {
            "gateway": "gw-plaza",
            "quartier": "centre",
            "settled_seq": seq,
            "settled_hash": wire.digest(sealed),
            "exceptions": (),
            "charged_rho_micro": 0,
            "policy_version": 0,
            "checkpoint": bytes(32),
        }
        return wire.seal_receipt(Receipt(**cast(Any, fields | other)), self.centre)

    def policy(self, version: int, site: str = "plaza", secret: bytes | None = None) -> bytes:
        text = POLICY.format(version=version, site=site).encode()
        return wire.seal_policy(text, [("steward", secret or self.steward)])

    def write(self, port: int = 1883, mqtt: int = 5, resend_s: int = 600) -> Path:
        file = self.folder / "gateway.toml"
        file.write_text(GATEWAY_TOML.format(port=port, mqtt=mqtt, resend_s=resend_s))
        return file


def enrolled(folder: Path) -> Gateway:
    centre, centre_public = wire.new_key()
    steward, steward_public = wire.new_key()
    (folder / "trust.toml").write_text(
        f'gateway = "gw-plaza"\nquartier = "centre"\nsite = "plaza"\ncentre = "{centre_public.hex()}"\n'
        f'stewards = ["{steward_public.hex()}"]\nsignatures_required = 1\n'
    )
    file = folder / "gateway.toml"
    file.write_text(GATEWAY_TOML.format(port=1883, mqtt=5, resend_s=600))
    config = load(file)
    prepare_folders(config)
    return Gateway(folder, centre, steward, config, load_trust(config))


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """Lies in memory where it can: every message is synced, and a busy disk would be all that these tests measure."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield enrolled(Path(folder))


@pytest.fixture(scope="session")
def enrol() -> Callable[[Path], Gateway]:
    """Enrols a gateway in a folder of the test's own choice."""
    return enrolled


def wait_for(condition: Callable[[], object], what: str, patience_s: float = 20.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience_s} s in vain for {what}")
        time.sleep(0.02)


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_for


class Iotcore:
    """The broker from a wheel: everything in memory."""

    def __init__(self, mqtt_version: int) -> None:
        self.port, self.mqtt = free_port(), mqtt_version
        self._broker = EmbeddedBroker(self.port, mqtt_version)

    def start(self) -> None:
        self._broker.start()

    def kill(self) -> None:
        os.kill(self._broker.pid, signal.SIGKILL)
        self._broker.stop()


def make_broker(name: str, folder: Path, brokers: Any) -> Iterator[Any]:
    """A mosquitto is without persistence: it forgets as much as the other one."""
    kind, _, version = name.partition("-")
    broker = Iotcore(int(version)) if kind == "iotcore" else brokers.mosquitto(folder, mqtt=int(version))
    yield broker
    with suppress(Exception):  # it was never started, or the test has killed it already
        broker.kill()


# Each broker once and each protocol once for every day; the other pairs in the long run.
PAIRS = ["iotcore-4", pytest.param("mosquitto-5", marks=pytest.mark.broker)]
OTHER_PAIRS = [
    pytest.param("iotcore-5", marks=pytest.mark.long),
    pytest.param("mosquitto-4", marks=[pytest.mark.broker, pytest.mark.long]),
]


@pytest.fixture(params=[*PAIRS, *OTHER_PAIRS])
def every_broker(request: pytest.FixtureRequest, tmp_path: Path, brokers: Any) -> Iterator[Any]:
    """Each broker with each protocol in turn, not started yet."""
    yield from make_broker(request.param, tmp_path, brokers)


@pytest.fixture(params=PAIRS)
def broker(request: pytest.FixtureRequest, tmp_path: Path, brokers: Any) -> Iterator[Any]:
    """Two of them, not started yet."""
    yield from make_broker(request.param, tmp_path, brokers)


@pytest.fixture
def mosquitto(tmp_path: Path, brokers: Any) -> Iterator[Callable[[str], Any]]:
    """Makes a mosquitto with lines of configuration of the test's own."""
    made: list[Any] = []

    def make(lines: str) -> Any:
        made.append(brokers.mosquitto(tmp_path, lines=lines))
        return made[-1]

    yield make
    for broker in made:
        broker.kill()


@dataclass
class Centre:
    """Listens to everything that gateways say, and speaks to them. Reconnects by itself."""

    port: int
    mqtt: int
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    content_types: set[str | None] = field(default_factory=set)
    ready: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        five = self.mqtt == 5
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        )
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe("murmure/v1/#", 1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_disconnect = lambda *_: self.ready.clear()
        self.client.on_message = self._on_message

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        if message.topic.endswith(("/release", "/health")):
            self.content_types.add(getattr(message.properties, "ContentType", None))
            self.heard.append((message.topic, message.payload))

    def listen(self) -> None:
        self.client.connect_async("127.0.0.1", self.port)
        self.client.loop_start()
        assert self.ready.wait(20)

    def say(self, topic: str, payload: bytes) -> None:
        self.client.publish(f"murmure/v1/centre/gw-plaza/{topic}", payload, qos=1, retain=True).wait_for_publish(10)

    def releases(self) -> list[bytes]:
        return [payload for topic, payload in self.heard if topic == "murmure/v1/centre/gw-plaza/release"]

    def health(self) -> list[bytes]:
        return [payload for topic, payload in self.heard if topic == "murmure/v1/centre/gw-plaza/health"]


@pytest.fixture
def centre() -> Iterator[Callable[[Any], Centre]]:
    """Makes a listening centre at a broker that runs."""
    made: list[Centre] = []

    def make(broker: Any) -> Centre:
        made.append(Centre(broker.port, broker.mqtt))
        made[-1].listen()
        return made[-1]

    yield make
    for one in made:
        one.client.disconnect()
        one.client.loop_stop()


class Sender:
    """`send` as a process of its own."""

    def __init__(self, config: Path, prefix: tuple[str, ...] = ()) -> None:
        code = "import sys, pathlib; from murmure_edge import send; sys.exit(send.main(pathlib.Path(sys.argv[1])))"
        self.log = config.parent / "send.log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen([*prefix, sys.executable, "-c", code, str(config)], stderr=log)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def sender() -> Iterator[Callable[..., Sender]]:
    """Starts `send` with a gateway.toml; what still runs at the end is killed."""
    made: list[Sender] = []

    def start(config: Path, prefix: tuple[str, ...] = ()) -> Sender:
        made.append(Sender(config, prefix))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.kill()
