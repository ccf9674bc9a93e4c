"""The whole pipeline through Debian's NATS, by configuration alone: `mqtt = 4` at the gateways and at the centre. And
the page that says how: who may do what with a certificate of ours."""

from __future__ import annotations

import os
import pwd
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from murmure_ingest import broker
from murmure_ingest.broker_files import WINDOW
from murmure_ingest.certificates import Authority, new_private_key
from murmure_ingest.config import IngestConfig
from murmure_ingest.embedded_broker import free_port
from murmure_privacy.release import Outcome, Release
from paho.mqtt.enums import CallbackAPIVersion

from murmure import city

PAGE = Path(__file__).resolve().parents[2] / "docs" / "nats.md"
TOPIC = "murmure/v1/centre/{}/{}"
PATIENCE_S = 60.0
HOURS = 3
NODES = 3 * (4 * HOURS + HOURS + 3 * HOURS)  # three sites: footfall at two levels, and three of noise and dust


@pytest.mark.long
@pytest.mark.nats
def test_a_street_reaches_its_archive_through_nats(
    lay_out: Callable[..., city.City],
    to_the_end: Callable[..., None],
    outcomes: Callable[[city.City], dict[tuple[str, str, int], Outcome]],
    brokers: Any,
) -> None:
    """Three hours of three sites cross `send`, NATS, which is killed on the way, and `ingest run`; every node is there
    once and the archive is sound."""
    made = lay_out(HOURS)
    for settings in (made.root / "centre" / "ingest.toml", *made.root.glob("gateways/*/gateway.toml")):
        text = settings.read_text("utf-8").replace("mqtt = 5\n", "")
        settings.write_text(text.replace("[broker]\n", "[broker]\nmqtt = 4\n"), "utf-8")
    broker = brokers.nats(made.root / "nats", made.broker_port)
    with city.Running(made, lambda _: None, broker) as running:
        killed: list[int] = []

        def kill_once() -> None:
            if not killed and outcomes(made):
                killed.append(broker.pid)
                broker.kill()
                broker.start()

        to_the_end(running, kill_once)
        assert killed
    nodes = outcomes(made)
    assert len(nodes) == NODES and all(isinstance(outcome, Release) for outcome in nodes.values())
    verify = [sys.executable, "-m", "murmure.cli", "ingest", "verify", "--archive", str(made.ingest.archive)]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0


class Town:
    """The page's configuration with certificates of ours, for `gw-plaza`, its neighbour `gw-park` and the centre."""

    def __init__(self, folder: Path, brokers: ModuleType) -> None:
        self.folder, self.port, self.clients = folder, free_port(), free_port()
        config = IngestConfig(folder / "centre")
        me = pwd.getpwuid(os.geteuid()).pw_name
        settings = broker.Settings(str(folder / "broker"), listen="127.0.0.1", port=self.port, user=me)
        broker.prepare(config, settings, [], datetime.now(UTC))
        authority = Authority(config.data_dir, datetime.now(UTC))
        self.files = config.data_dir / "broker"
        for name in ("gw-plaza", "gw-park", "gw-stranger"):
            key = new_private_key()
            (self.files / f"{name}.key").write_text(key)
            (self.files / f"{name}.crt").write_text(authority.issue_client(key, name, datetime.now(UTC)))
        self.trust = config.data_dir / "authority.crt"
        self.config = folder / "nats.conf"
        self.config.write_text(self.text())
        words = [brokers.program("nats-server"), "-c", str(self.config)]
        self.broker = brokers.Broker(words, self.port, folder / "nats.log", tls=True)

    def text(self) -> str:
        """Returns the page's file, with this test's places and a second gateway."""
        (found,) = re.findall(r"^```\n(server_name.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        text = found.replace("/var/lib/murmure-broker", f"{self.folder}/broker")
        text = text.replace("/var/lib/nats", f"{self.folder}/kept").replace("4222", str(self.clients))
        text = text.replace("    port: 8883\n", f'    listen: "127.0.0.1:{self.port}"\n')
        (plaza,) = re.findall(r'^        \{\n            user: "CN=gw-plaza".*?^        \}\n', text, re.M | re.S)
        assert f"max_ack_pending: {WINDOW}\n" in text  # as with mosquitto
        assert str(self.port) in text and str(self.clients) in text
        return str(text.replace(plaza, plaza + plaza.replace("gw-plaza", "gw-park")))

    def rewrite(self, line: str, other: str) -> None:
        """Changes the file, and lets NATS read it again."""
        text, count = re.subn(line, other, self.config.read_text())
        assert count == 1
        self.config.write_text(text)
        before = self.broker.log.read_text().count("Reloaded server configuration")
        self.broker.reload()
        until(lambda: self.broker.log.read_text().count("Reloaded server configuration") > before)

    def context(self, name: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.trust))
        if name:
            context.load_cert_chain(self.files / f"{name}.crt", self.files / f"{name}.key")
        return context


class Client:
    """Somebody at the broker: what was let, and what was sent to them."""

    def __init__(self, town: Town, name: str | None, says_to_be: str | None = None) -> None:
        self.let_in, self.ended, self.granted, self.said = False, False, list[bool](), 0
        self.got: list[tuple[str, bytes]] = []
        self._mqtt = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{name}{says_to_be or ''}",
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        self._mqtt.tls_set_context(town.context(name))
        if says_to_be:
            self._mqtt.username_pw_set(says_to_be)
        self._mqtt.on_connect = lambda _c, _d, _f, reason, _p: setattr(self, "let_in", not reason.is_failure)
        self._mqtt.on_disconnect = lambda *_: setattr(self, "ended", True)
        self._mqtt.on_subscribe = lambda _c, _d, _m, codes, _p: self.granted.extend(not c.is_failure for c in codes)
        self._mqtt.on_message = lambda _c, _d, message: self.got.append((message.topic, bytes(message.payload)))
        self._mqtt.on_publish = lambda *_: setattr(self, "said", self.said + 1)
        try:
            self._mqtt.connect("localhost", town.port)
        except OSError:
            self.ended = True
        self._mqtt.loop_start()
        until(lambda: self.let_in or self.ended)

    def listen(self, topic: str) -> bool:
        """Returns whether that was granted."""
        before = len(self.granted)
        self._mqtt.subscribe(topic, 1)
        until(lambda: len(self.granted) > before or self.ended)
        return self.granted[-1]

    def say(self, name: str, kind: str, payload: bytes) -> None:
        before = self.said
        self._mqtt.publish(TOPIC.format(name, kind), payload, qos=1, retain=kind in ("policy", "receipt"))
        until(lambda: self.said > before or self.ended)

    def close(self) -> None:
        self._mqtt.disconnect()
        self._mqtt.loop_stop()


def until(true: Callable[[], object]) -> None:
    patience = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < patience
        time.sleep(0.02)


@pytest.fixture
def town(tmp_path: Path, brokers: ModuleType) -> Iterator[Town]:
    made = Town(tmp_path, brokers)
    with made.broker:
        yield made


@pytest.fixture
def join(town: Town) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(name: str | None, says_to_be: str | None = None) -> Client:
        clients.append(Client(town, name, says_to_be))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.mark.long
@pytest.mark.nats
def test_rights_are_those_of_the_certificate(town: Town, join: Callable[..., Client]) -> None:
    """Judged by what is delivered: one's own topics and no other's, whatever name is given beside the certificate."""
    centre, plaza, park = join("ingest"), join("gw-plaza"), join("gw-park")
    assert centre.listen("murmure/v1/+/+/release") and centre.listen("murmure/v1/+/+/health")
    plaza.say("gw-plaza", "release", b"own")
    park.say("gw-plaza", "release", b"forged")
    park.say("gw-plaza", "receipt", b"forged")
    liar = join("gw-park", "CN=ingest")
    if liar.let_in:
        liar.say("gw-plaza", "receipt", b"forged")
    park.say("gw-park", "health", b"last")
    until(lambda: len(centre.got) == 2)
    assert centre.got == [(TOPIC.format("gw-plaza", "release"), b"own"), (TOPIC.format("gw-park", "health"), b"last")]
    for topic in ("murmure/v1/#", "#", TOPIC.format("gw-plaza", "policy"), TOPIC.format("gw-plaza", "release")):
        assert not park.listen(topic), topic
    centre.say("gw-plaza", "policy", b"true")
    late = join("gw-plaza")
    assert late.listen(TOPIC.format("gw-plaza", "policy")) and late.listen(TOPIC.format("gw-plaza", "receipt"))
    centre.say("gw-plaza", "receipt", b"true")
    until(lambda: len(late.got) == 2)
    assert {payload for _, payload in late.got} == {b"true"}

    # The broken twin: with a right too many the same forgery is delivered.
    town.rewrite(r'publish: \["murmure\.v1\.centre\.gw-park\..*\]', 'publish: ["murmure.v1.>"]')
    join("gw-park").say("gw-plaza", "release", b"forged")
    until(lambda: centre.got[-1] == (TOPIC.format("gw-plaza", "release"), b"forged"))


@pytest.mark.long
@pytest.mark.nats
def test_who_has_no_name_in_the_file_is_not_let_in(town: Town, join: Callable[..., Client]) -> None:
    """Nobody without a certificate, nor one of the authority's whom the file does not name, at either door; and who is
    taken out of the file is out at once, the others stay."""
    assert not join(None).let_in and not join("gw-stranger").let_in
    with socket.create_connection(("127.0.0.1", town.clients), timeout=20) as line:
        assert b'"tls_verify":true' in line.recv(4096)
    plaza, park = join("gw-plaza"), join("gw-park")
    assert plaza.let_in and park.let_in
    town.rewrite('"CN=gw-park"', '"CN=gone"')
    until(lambda: park.ended)
    assert not join("gw-park").let_in and not plaza.ended
