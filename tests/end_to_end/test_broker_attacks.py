"""Attempts on the town's broker, a test each: what `murmure broker init` wrote, Debian's mosquitto, and certificates.

What was tried is judged by what is *delivered*: mosquitto grants subscriptions that it never serves. Where a setting
is what keeps somebody out, the same attempt is made without it and succeeds.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from murmure_ingest import broker
from murmure_ingest.certificates import Authority, CertificateError, new_private_key
from murmure_ingest.config import IngestConfig
from murmure_ingest.embedded_broker import free_port
from paho.mqtt.enums import CallbackAPIVersion

pytestmark = pytest.mark.broker

ME = pwd.getpwuid(os.geteuid()).pw_name
PATIENCE_S = 30.0
UP, DOWN = "murmure/v1/centre/{}/release", "murmure/v1/centre/{}/policy"
PLUGIN = "mosquitto_dynamic_security.so"
Change = Callable[[str], str]


def utc_now() -> datetime:
    return datetime.now(UTC)


def until(true: Callable[[], object], what: str) -> None:
    patience = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < patience, what
        time.sleep(0.02)


def mint(
    authority: Authority, name: str, purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH
) -> tuple[str, str]:
    """Returns key and certificate (PEM) with whatever common name, signed by the authority's own key: what no door of
    ours gives out."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority._certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(days=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
        .sign(authority._key, hashes.SHA256())
    )
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret.decode(), certificate.public_bytes(pem).decode()


class Lab:
    """A prepared broker's folder, certificates by name, and mosquitto on it, as it is or changed."""

    def __init__(self, folder: Path, brokers: ModuleType) -> None:
        self.folder, self._brokers = folder, brokers
        self.config = IngestConfig(folder / "centre")
        settings = broker.Settings(str(folder / "broker"), listen="127.0.0.1", port=free_port(), user=ME)
        self.settings, self.port = settings, settings.port
        broker.prepare(self.config, settings, [], utc_now())
        self.authority = Authority(self.config.data_dir, utc_now())
        folder.joinpath("own").mkdir()
        for name in ("gw-a", "gw-b"):
            key = new_private_key()
            self.keep(name, key, self.authority.issue_client(key, name, utc_now()))
        for name in ("ingest", "tail"):
            for suffix in (".key", ".crt"):
                shutil.copy(self.config.data_dir / "broker" / (name + suffix), folder / "own")

    def keep(self, name: str, key: str, certificate: str) -> None:
        (self.folder / "own" / f"{name}.key").write_text(key)
        (self.folder / "own" / f"{name}.crt").write_text(certificate)

    def context(self, name: str | None) -> ssl.SSLContext:
        """TLS as that name, or with nobody's certificate."""
        context = ssl.create_default_context(cafile=str(self.config.data_dir / "authority.crt"))
        if name is not None:
            context.load_cert_chain(self.folder / "own" / f"{name}.crt", self.folder / "own" / f"{name}.key")
        return context

    @contextmanager
    def mosquitto(self, change: Change = lambda text: text) -> Iterator[Any]:
        """Debian's broker on the configuration, which `change` may edit, on a port and a state of its own."""
        port = free_port()
        own = self.folder / f"changed-{port}"
        state = own / "state"
        state.mkdir(parents=True)
        text = (self.folder / "broker" / "mosquitto.conf").read_text()
        text = text.replace(f"listener {self.port}", f"listener {port}")
        text = text.replace(f"{self.folder}/broker/state", str(state))
        (own / "mosquitto.conf").write_text(change(text))
        with self._brokers.mosquitto_on(own / "mosquitto.conf", port, own / "log") as running:
            yield running


@dataclass
class Peer:
    """One connection with a certificate: what it was sent, and what became of what it did."""

    port: int
    context: ssl.SSLContext
    client_id: str = "anything"
    username: str | None = None
    will: tuple[str, bytes] | None = None
    reconnects: bool = False
    got: list[tuple[str, bytes]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    granted: list[str] = field(default_factory=list)
    connects: int = 0
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=self.reconnects,
        )
        self.client.tls_set_context(self.context)
        if self.username is not None:
            self.client.username_pw_set(self.username, "secret")
        if self.will is not None:
            self.client.will_set(*self.will, qos=1)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = self._connected
        self.client.on_disconnect = lambda _c, _d, _f, reason, _p: self.ended.append(str(reason))
        self.client.on_message = lambda _c, _d, message: self.got.append((message.topic, bytes(message.payload)))
        self.client.on_publish = lambda _c, _d, _mid, reason, _p: self.answers.append(str(reason))
        self.client.on_subscribe = lambda _c, _d, _mid, reasons, _p: self.granted.extend(map(str, reasons))

    def _connected(self, _c: object, _d: object, _f: object, reason: Any, _p: object) -> None:
        if not reason.is_failure:
            self.connects += 1

    def open(self) -> Peer:
        self.client.connect_async("localhost", self.port, keepalive=30)
        self.client.loop_start()
        until(lambda: self.connects, f"not connected: {self.ended}")
        return self

    def listen(self, *topics: str) -> Peer:
        self.client.subscribe([(topic, 1) for topic in topics])
        until(lambda: len(self.granted) >= len(topics), "no answer to a subscription")
        return self

    def say(self, topic: str, payload: bytes) -> str:
        """Publishes, and returns what the broker answers."""
        before = len(self.answers)
        self.client.publish(topic, payload, qos=1)
        until(lambda: len(self.answers) > before or self.ended, "no answer to a message")
        return self.answers[-1] if len(self.answers) > before else self.ended[-1]

    def drop(self) -> None:
        """The socket goes, as when a cable is cut: no farewell."""
        opened = self.client.socket()
        assert opened is not None
        with suppress(OSError):
            socket.socket.shutdown(opened, socket.SHUT_RDWR)  # type: ignore[arg-type]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def connack(port: int, context: ssl.SSLContext | None, client_id: bytes = b"x") -> int | None:
    """Returns the reason code with which the broker answers a CONNECT (0: welcome), None if it hangs up instead. With
    TLS 1.3 a client learns only then that its certificate was refused."""
    body = b"\x00\x04MQTT\x05\x02\x00\x1e\x00" + struct.pack(">H", len(client_id)) + client_id
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
        try:
            used = context.wrap_socket(plain, server_hostname="localhost") if context is not None else plain
            used.sendall(bytes([0x10, len(body)]) + body)
            answer = used.recv(64)
        except (OSError, ssl.SSLError):
            return None
        return answer[3] if len(answer) > 3 and answer[0] == 0x20 else None


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, brokers: ModuleType) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), brokers)


@pytest.fixture(scope="module")
def port(lab: Lab) -> Iterator[int]:
    """The broker exactly as `broker init` wrote it, but for where it listens and keeps its state."""
    with lab.mosquitto() as running:
        yield running.port


@pytest.fixture
def peer(lab: Lab) -> Iterator[Callable[..., Peer]]:
    """Makes peers by the name of their certificate, and closes them."""
    opened: list[Peer] = []

    def make(port: int, name: str, **settings: Any) -> Peer:
        opened.append(Peer(port, lab.context(name), **settings))
        return opened[-1].open()

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def ingest(port: int, peer: Callable[..., Peer]) -> Peer:
    """Hears whatever is delivered of what gateways may say."""
    made: Peer = peer(port, "ingest")
    return made.listen("murmure/v1/+/+/release", "murmure/v1/+/+/health")


Join = Callable[..., Peer]


def after(ingest: Peer, speaker: Peer, name: str, mark: bytes) -> list[tuple[str, bytes]]:
    """Returns what came to the centre before a mark that the speaker then says on its own topic: the broker keeps a
    connection's order, so what was not delivered by then never is."""
    assert speaker.say(UP.format(name), mark) == "Success"
    until(lambda: (UP.format(name), mark) in ingest.got, "the mark did not come")
    return ingest.got[: ingest.got.index((UP.format(name), mark))]


def test_row_01_a_gateway_speaks_on_its_own_topic(port: int, peer: Join, ingest: Peer) -> None:
    """Accepted and delivered."""
    a = peer(port, "gw-a")
    assert a.say(UP.format("gw-a"), b"row 1") == "Success"
    assert after(ingest, a, "gw-a", b"row 1 is over") == [(UP.format("gw-a"), b"row 1")]


def test_row_02_it_speaks_for_nobody_else_and_writes_no_policy(port: int, peer: Join, ingest: Peer) -> None:
    """The broker says Not authorized, and neither the centre nor the other gateway is delivered anything."""
    a, b = peer(port, "gw-a"), peer(port, "gw-b").listen(DOWN.format("gw-b"))
    for topic in (UP.format("gw-b"), DOWN.format("gw-a"), DOWN.format("gw-b"), "murmure/v1/centre/gw-b/receipt"):
        assert a.say(topic, b"row 2") == "Not authorized", topic
    assert after(ingest, a, "gw-a", b"row 2 is over") == []
    assert ingest.say(DOWN.format("gw-b"), b"true") == "Success"
    until(lambda: b.got, "the policy did not come")
    assert b.got == [(DOWN.format("gw-b"), b"true")]


def test_row_03_another_name_in_connect_changes_nothing(port: int, peer: Join, ingest: Peer) -> None:
    """Who it is says the certificate alone."""
    a = peer(port, "gw-a", username="gw-b")
    assert a.say(UP.format("gw-b"), b"row 3") == "Not authorized"
    assert after(ingest, a, "gw-a", b"row 3 is over") == []


def test_row_04_it_hears_nothing_but_its_own(port: int, peer: Join, ingest: Peer) -> None:
    """Subscriptions to everything are granted in words and serve nothing but its own policy."""
    a = peer(port, "gw-a").listen("#", "$SYS/#", UP.format("gw-b"), DOWN.format("gw-b"), "murmure/v1/#")
    b = peer(port, "gw-b")
    assert b.say(UP.format("gw-b"), b"row 4") == "Success"
    assert ingest.say(DOWN.format("gw-b"), b"row 4") == "Success"
    assert ingest.say(DOWN.format("gw-a"), b"mine") == "Success"
    until(lambda: a.got, "its own policy did not come")
    assert {topic for topic, _ in a.got} == {DOWN.format("gw-a")}


def test_row_05_without_the_line_a_client_id_throws_out(lab: Lab, peer: Join) -> None:
    """The twin of the next row: where the client id is anybody's choice, the other gateway is disconnected."""
    with lab.mosquitto(lambda text: text.replace("use_username_as_clientid true", "")) as running:
        port = running.port
        b = peer(port, "gw-b", client_id="gw-b")
        peer(port, "gw-a", client_id="gw-b")
        until(lambda: b.ended, "the other was not thrown out")


def test_row_06_with_the_line_nobody_is_thrown_out(port: int, peer: Join, ingest: Peer) -> None:
    """The same attempt: the other stays, and is heard."""
    b = peer(port, "gw-b", client_id="gw-b")
    a = peer(port, "gw-a", client_id="gw-b")
    assert a.say(UP.format("gw-a"), b"row 6") == "Success"
    assert b.say(UP.format("gw-b"), b"row 6") == "Success"
    assert (b.ended, b.connects) == ([], 1)


@pytest.mark.parametrize("who", ["nobody", "plain", "another-town", "server-only", "revoked", "ended"])
def test_row_07_who_has_no_good_certificate_is_not_let_in(lab: Lab, who: str, tmp_path: Path) -> None:
    """No certificate, no TLS, another authority's with the name of ours, a server's, a revoked one: not even CONNACK.
    The good one is let in by the very same broker."""
    if who == "another-town":
        (tmp_path / "other").mkdir()
        lab.keep(who, *mint(Authority(tmp_path / "other", utc_now()), "gw-b"))
    elif who == "server-only":
        lab.keep(who, *mint(lab.authority, "gw-b", ExtendedKeyUsageOID.SERVER_AUTH))
    elif who == "revoked":
        key = new_private_key()
        lab.keep(who, key, lab.authority.issue_client(key, "gw-c", utc_now()))
        broker.prepare(lab.config, lab.settings, ["gw-c"], utc_now())
    elif who == "ended":
        key = new_private_key()
        lab.keep(who, key, lab.authority.issue_client(key, "gw-d", utc_now() - timedelta(days=4 * 365)))
    with lab.mosquitto() as running:
        port = running.port
        context = None if who == "plain" else lab.context(None if who == "nobody" else who)
        assert connack(port, context) is None
        assert connack(port, lab.context("gw-a")) == 0


@pytest.mark.parametrize("name", ["+", "#", "gw-+"])
def test_row_08_a_wildcard_for_a_name_has_no_rights(lab: Lab, port: int, peer: Join, ingest: Peer, name: str) -> None:
    """No door of ours issues it; minted with the authority's own key it may say nothing and hears nothing."""
    with pytest.raises(CertificateError):
        lab.authority.issue_client(new_private_key(), name, utc_now())
    lab.keep("wild", *mint(lab.authority, name))
    wild = peer(port, "wild")
    for topic in (UP.format("gw-a"), UP.format(name).replace("+", "x").replace("#", "x"), DOWN.format("gw-a")):
        assert wild.say(topic, b"row 8") == "Not authorized"
    wild.listen("#", DOWN.format("gw-a"))
    a = peer(port, "gw-a").listen(DOWN.format("gw-a"))
    assert ingest.say(DOWN.format("gw-a"), b"row 8") == "Success"
    until(lambda: a.got, "the policy did not come")
    assert after(ingest, a, "gw-a", b"row 8 is over") == []
    assert wild.got == []


def test_row_09_what_is_too_large_ends_the_connection(port: int, peer: Join, ingest: Peer) -> None:
    """20 KiB is the end: "Packet too large", nothing delivered; a policy of the largest size still passes."""
    a = peer(port, "gw-a")
    assert a.say(UP.format("gw-a"), bytes(20_480)) == "Packet too large"
    b = peer(port, "gw-b").listen(DOWN.format("gw-b"))
    assert ingest.say(DOWN.format("gw-b"), bytes(20_000)) == "Success"
    until(lambda: b.got, "the policy did not come")
    assert after(ingest, b, "gw-b", b"row 9 is over") == []


def test_what_a_gateway_has_heaped_up_goes_with_the_state(lab: Lab, peer: Join) -> None:
    """Nothing bounds how much one gateway has retained, in quartiers that do not exist. A restart brings it back; it
    goes with `mosquitto.db`, as the manual says."""
    heard = []
    with lab.mosquitto() as running:
        state = lab.folder / f"changed-{running.port}" / "state" / "mosquitto.db"
        a = peer(running.port, "gw-a")
        for number in range(30):
            a.client.publish(f"murmure/v1/nowhere-{number}/gw-a/release", bytes(18_000), qos=1, retain=True)
        until(lambda: len(a.answers) == 30, "not all were answered")
        assert set(a.answers) == {"No matching subscribers"}
        for forgets in (False, True):
            running.stop()
            if forgets:
                state.unlink()
            running.start()
            ingest = peer(running.port, "ingest").listen("murmure/v1/+/+/release")
            heard.append(len(after(ingest, peer(running.port, "gw-b"), "gw-b", b"that was all")))
    assert heard == [30, 0]


@pytest.mark.parametrize(("whose", "delivered"), [("gw-b", False), ("gw-a", True)])
def test_row_10_a_last_will_has_no_more_rights(
    port: int, peer: Join, ingest: Peer, whose: str, delivered: bool
) -> None:
    """Left on another's topic it is not delivered when the connection drops; on its own it is."""
    a = peer(port, "gw-a", will=(UP.format(whose), b"row 10"))
    a.drop()
    until(lambda: a.ended, "the connection stands")
    again = peer(port, "gw-a")
    came = after(ingest, again, "gw-a", f"row 10 of {whose} is over".encode())
    assert [payload for _, payload in came if payload == b"row 10"] == ([b"row 10"] if delivered else [])


def test_row_11_after_a_revocation_nothing_more_is_delivered(lab: Lab, peer: Join) -> None:
    """List and rights rebuilt and read anew (SIGHUP): no new connection; the open one says Not authorized at each
    message. (With the list alone it went on publishing: trust.md, and the twin below.)

    Whether the list was read is asked with another revoked certificate: as long as it was not, the broker lets the
    asker in, in the place of the open connection of that name."""
    for name in ("gw-e", "gw-f"):
        key = new_private_key()
        lab.keep(name, key, lab.authority.issue_client(key, name, utc_now()))
    with lab.mosquitto() as running:
        port = running.port
        ingest, e = peer(port, "ingest").listen("murmure/v1/+/+/release"), peer(port, "gw-e")
        assert e.say(UP.format("gw-e"), b"before") == "Success"
        for name in ("gw-e", "gw-f"):
            lab.authority.revoke(name, utc_now())
        (lab.folder / "broker" / broker.CRL).write_bytes(lab.authority.crl(utc_now()))
        running.reload()
        until(lambda: connack(port, lab.context("gw-f")) is None, "the list was not read anew")
        assert connack(port, lab.context("gw-e")) is None
        assert e.say(UP.format("gw-e"), b"by the list alone") == "Success"
        broker.prepare(lab.config, lab.settings, ["gw-c", "gw-e"], utc_now())
        running.reload()
        until(lambda: e.say(UP.format("gw-e"), b"perhaps") == "Not authorized", "the rights were not read anew")
        seen = len(ingest.got)
        assert e.say(UP.format("gw-e"), b"after") == "Not authorized"
        a = peer(port, "gw-a")
        assert after(ingest, a, "gw-a", b"row 11 is over")[seen:] == []


def test_row_12_a_list_past_its_date_lets_nobody_in(lab: Lab) -> None:
    """The broker fails closed: every gateway and the centre; with a list of today the same ones are let in."""
    good = (lab.folder / "broker" / broker.CRL).read_bytes()
    old = lab.folder / "old.crl"
    old.write_bytes(lab.authority.crl(utc_now() - timedelta(days=8)))
    changed: Change = lambda text: text.replace(f"{lab.folder}/broker/{broker.CRL}", str(old))  # noqa: E731
    with lab.mosquitto(changed) as running:
        port = running.port
        assert [connack(port, lab.context(name)) for name in ("gw-a", "gw-b", "ingest")] == [None] * 3
        assert broker.crl_alarm(lab.config.data_dir, utc_now()) is None
        assert broker.crl_alarm(lab.config.data_dir, utc_now() + timedelta(days=5)) is not None
        old.write_bytes(good)
        running.reload()
        until(lambda: connack(port, lab.context("gw-a")) == 0, "a good list does not let in")


# --- mosquitto's other way, the plugin of dynamic security: what a town that prefers it would get ---------------------


def role(name: str) -> dict[str, object]:
    allowed = [("publishClientSend", UP.format(name)), ("publishClientSend", "murmure/v1/+/%u/health")]
    acls = [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind, topic in allowed]
    return {"rolename": name, "acls": acls}


def dynamic(gateways: Sequence[str]) -> dict[str, object]:
    """Nobody may anything but by a role of its own, and the centre's."""
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern", "unsubscribePattern")
    everything = [{"acltype": kind, "topic": "#", "priority": 0, "allow": True} for kind in kinds]
    control = {"acltype": "publishClientSend", "topic": "$CONTROL/dynamic-security/#", "priority": 1, "allow": True}
    return {
        "defaultACLAccess": dict.fromkeys(
            ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe"), False
        ),
        "clients": [{"username": name, "roles": [{"rolename": name}]} for name in ("ingest", *gateways)],
        "groups": [],
        "roles": [{"rolename": "ingest", "acls": [*everything, control]}, *(role(name) for name in gateways)],
    }


@pytest.fixture
def plugged(lab: Lab, tmp_path: Path) -> Iterator[int]:
    """The same broker with the plugin in place of the file of rights."""
    (plugin,) = Path("/usr/lib").glob(f"*/{PLUGIN}")
    config = tmp_path / "dynamic.json"
    config.write_text(json.dumps(dynamic(["gw-a"])))
    acl = f"acl_file {lab.folder}/broker/acl"
    change: Change = lambda text: text.replace(acl, f"plugin {plugin}\nplugin_opt_config_file {config}")  # noqa: E731
    with lab.mosquitto(change) as running:
        yield running.port


def test_row_13_the_plugin_refuses_in_words_too(plugged: int, peer: Join) -> None:
    """`#` is refused where it is asked for, and a name that it does not know may nothing."""
    a, b = peer(plugged, "gw-a").listen("#"), peer(plugged, "gw-b")
    assert a.granted == ["Not authorized"]
    assert b.say(UP.format("gw-b"), b"row 13") == "Not authorized"
    peer(plugged, "ingest").listen("murmure/v1/+/+/release")
    assert a.say(UP.format("gw-a"), b"row 13") == "Success"


def test_row_14_the_plugin_knows_no_pattern_for_a_name(plugged: int, peer: Join) -> None:
    """%u in a role is a letter like any other: each gateway needs a role of its own."""
    assert peer(plugged, "gw-a").say("murmure/v1/centre/gw-a/health", b"row 14") == "Not authorized"


@pytest.mark.parametrize(
    ("words", "comes_back_with"),
    [
        ({"command": "disableClient"}, "Success"),
        ({"command": "removeClientRole", "rolename": "gw-a"}, "Not authorized"),
        ({"command": "deleteClient"}, "Not authorized"),
    ],
    ids=["row_15_disabling_does_not_keep_it_out", "row_16_without_its_role", "row_17_deleted"],
)
def test_the_plugin_ends_a_session_which_comes_back(
    plugged: int, peer: Join, words: dict[str, str], comes_back_with: str
) -> None:
    """Each throws the gateway out; with its certificate it comes back. Disabled it then speaks as before: a town must
    take the role away, or delete the client."""
    centre = peer(plugged, "ingest").listen("murmure/v1/+/+/release")
    a = peer(plugged, "gw-a", reconnects=True)
    assert a.say(UP.format("gw-a"), b"before") == "Success"
    told = json.dumps({"commands": [{"username": "gw-a", **words}]}).encode()
    centre.client.publish("$CONTROL/dynamic-security/v1", told, qos=1)
    until(lambda: a.ended, "it was not thrown out")
    until(lambda: a.connects >= 2, "it does not come back")
    before = len(a.answers)
    a.client.publish(UP.format("gw-a"), b"after", qos=1)
    until(lambda: len(a.answers) > before, "no answer")
    assert a.answers[-1] == comes_back_with
