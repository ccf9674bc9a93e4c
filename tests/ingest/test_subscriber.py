"""The centre at a real broker: stored, then acknowledged, then receipted; and every order of power cuts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from murmure_dashboards import journal
from murmure_edge.config import load as load_gateway
from murmure_edge.config import load_trust
from murmure_edge.inbox import OutboxState, Refused, Settled, decide_receipt
from murmure_ingest import gateways, logbook, openers, subscriber
from murmure_ingest.adoption import adopt
from murmure_ingest.archive import Archive, ArchiveFull, database
from murmure_ingest.bulk_mqtt import PACKET_BYTES, BulkClient, Delivered
from murmure_ingest.config import BrokerConfig
from murmure_ingest.intake import Intake
from murmure_ingest.rules import RuleBook
from murmure_ingest.snapshot import snapshot
from murmure_ingest.subscriber import Subscriber
from murmure_privacy import log, wire
from murmure_privacy.sources import Site
from paho.mqtt.client import MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

QUARTERS = 6

_PROCESS = """
import argparse, os, sys
from murmure_ingest import cli, intake, subscriber
{sabotage}
parser = argparse.ArgumentParser()
cli.register(parser.add_subparsers())
args = parser.parse_args(sys.argv[1:])
sys.exit(args.handler(args))
"""
SABOTAGE = {
    "before the commit": "intake.Intake.judge = lambda *_: os._exit(9)",
    "after the commit": "subscriber._Link.acknowledge = lambda *_: os._exit(9)",
    "before the receipt": "subscriber.Subscriber._answer = lambda self, words: words and os._exit(9)",
}


class Running:
    """A Subscriber in a thread with an archive connection of its own, as a process would have."""

    def __init__(self, centre: Any) -> None:
        self.said: list[str] = []
        self.error: BaseException | None = None
        self._centre, self._stop = centre, Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        archive = Archive.open(self._centre.config.archive)
        try:
            intake = Intake(archive, RuleBook(archive), lambda: 1 << 40)
            self.subscriber = Subscriber(self._centre.config, archive, intake, self._centre.secret, self.said.append)
            self.subscriber.run(self._stop)
        except BaseException as error:
            self.error = error
        finally:
            archive.close()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self.error:
            raise self.error


@pytest.fixture
def run() -> Iterator[Callable[[Any], Running]]:
    running: list[Running] = []

    def run(centre: Any) -> Running:
        running.append(Running(centre))
        return running[-1]

    yield run
    for one in running:
        one.stop()


@pytest.fixture
def at_broker(tmp_path: Path, make_centre: Callable[..., Any], broker: Any) -> Iterator[Any]:
    """A centre that is told of the broker, which is not started."""
    centre = make_centre(tmp_path, port=broker.port, mqtt=broker.mqtt)
    yield centre
    centre.archive.close()


@pytest.mark.parametrize(
    "broker", ["iotcore-5", "iotcore-4", pytest.param("mosquitto-5", marks=pytest.mark.broker)], indirect=True
)
def test_what_is_published_is_stored_and_receipted(
    at_broker: Any, broker: Any, run: Any, connect: Any, until: Any
) -> None:
    """Messages by MQTT end in the archive; the gateway gets a signed receipt and its policy, both retained."""
    centre = at_broker
    broker.start()
    gateway = centre.gateway()
    run(centre)
    peer = connect(gateway, broker)
    # A first receipt shows that the centre has subscribed: a broker drops what comes before.
    until(lambda: peer.settled(centre) == 0)
    peer.publish(*gateway.history(QUARTERS), gateway.health(60))
    until(lambda: peer.settled(centre) == QUARTERS)
    receipt = peer.receipts(centre)[-1]
    assert receipt.settled_hash == wire.digest(gateway.sealed[-1])
    assert (receipt.exceptions, receipt.policy_version, receipt.gateway) == ((), 1, "gw-plaza")
    assert receipt.charged_rho_micro == centre.archive.totals(gateway.name).charged_rho_micro > 0
    until(lambda: centre.archive.health())
    late = connect(gateway, broker)
    until(lambda: {kind for kind, *_ in late.got} == {"receipt", "policy"})
    assert all(retained for _, _, retained, _ in late.got)
    if broker.mqtt == 5:
        assert {content_type for *_, content_type in late.got} == {"application/cose"}
    sealed = next(payload for kind, payload, *_ in late.got if kind == "policy")
    assert wire.open_policy(sealed, [centre.steward[1]], 1) == gateway.policy


def test_rubbish_is_acknowledged_and_counted(at_broker: Any, broker: Any, run: Any, connect: Any, until: Any) -> None:
    """What cannot be filed does not stop what can, and is not delivered for ever; QoS 0 is taken as well."""
    centre = at_broker
    broker.start()
    gateway = centre.gateway()
    running = run(centre)
    peer = connect(gateway, broker)
    until(lambda: peer.settled(centre) == 0)
    for number in range(300):
        peer.publish((gateway.topic, b"rubbish %d" % number))
    sealed = gateway.seal(1_795_392_900)
    peer._client.publish(gateway.topic, sealed, qos=0)
    until(lambda: peer.settled(centre) == 1)
    until(lambda: centre.refused() == {"malformed": 300})
    assert sum("malformed" in line for line in running.said) == 1


def test_a_killed_opener_costs_the_centre_nothing(
    at_broker: Any, broker: Any, run: Any, connect: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While messages come, the process that opens them is killed again and again: each is filed once, in order."""
    monkeypatch.setattr(openers, "_WORTH_A_PROCESS", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    centre = at_broker
    broker.start()
    gateway = centre.gateway()
    running = run(centre)
    peer = connect(gateway, broker)
    until(lambda: peer.settled(centre) == 0)
    killed = set[int]()
    for number, message in enumerate(gateway.history(QUARTERS), 1):
        peer.publish(message)
        until(lambda number=number: peer.settled(centre) == number)
        for pid in set(running.subscriber._openers.pids) - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    assert centre.archive.counts()["messages"] == QUARTERS
    assert running.said.count("a process that opens messages has ended; another takes its place") >= 2
    (last,) = running.subscriber._openers.pids or [0]
    running.stop()
    assert not Path(f"/proc/{last}").exists()


@pytest.mark.parametrize("mqtt", [4, 5])
@pytest.mark.parametrize("broker", [pytest.param("mosquitto-5", marks=pytest.mark.broker)], indirect=True)
def test_a_mebibyte_does_not_stop_what_comes_after_it(
    tmp_path: Path, make_centre: Callable[..., Any], broker: Any, run: Any, connect: Any, until: Any, mqtt: int
) -> None:
    """A broker that lets huge messages through does not hurt the centre (the embedded one cuts the sender off): with
    MQTT 5 it is told what it may send, and with 3.1.1 a huge message is one more refusal, delivered once."""
    centre = make_centre(tmp_path, port=broker.port, mqtt=mqtt)
    broker.start()
    gateway = centre.gateway()
    running = run(centre)
    peer = connect(gateway, broker)
    until(lambda: peer.settled(centre) == 0)
    peer.publish((gateway.topic, bytes(1 << 20)), (gateway.topic, gateway.seal(1_795_392_900)))
    until(lambda: peer.settled(centre) == 1)
    assert centre.refused() == ({} if mqtt == 5 else {"oversized": 1})
    assert sum("connected" in line for line in running.said) == 1
    centre.archive.close()


@pytest.mark.parametrize("broker", [pytest.param("mosquitto-5", marks=pytest.mark.broker)], indirect=True)
def test_no_property_of_a_message_ends_the_connection(
    at_broker: Any, broker: Any, run: Any, connect: Any, until: Any
) -> None:
    """Any gateway chooses the properties of what it publishes; the broker lets a text through that paho does not."""
    centre = at_broker
    broker.start()
    gateway = centre.gateway()
    running = run(centre)
    peer = connect(gateway, broker)
    until(lambda: peer.settled(centre) == 0)
    for qos in (0, 1):
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = ("k", "mark \ufeff")
        peer._client.publish(gateway.topic, gateway.seal(1_795_392_900 + 900 * qos), qos=qos, properties=properties)
    until(lambda: peer.settled(centre) == 2)
    assert sum("connected" in line for line in running.said) == 1
    assert not any("lost" in line for line in running.said)


def link(window: int) -> subscriber._Link:
    return subscriber._Link(
        BrokerConfig(), "ingest", source="", lasting=True, window=window, topics=[], say=lambda _: None, together=25
    )


def test_what_nobody_acknowledges_takes_no_memory_without_end() -> None:
    """The broker holds back QoS 1 at the window; a flood at QoS 0 is dropped there, and nothing that is numbered is."""
    one = link(window=100)
    flood = [Delivered(b"t", b"x", 0)] * 50
    for number in range(1, 41):
        one._on_bulk([*flood, Delivered(b"t", b"x", number)])
    assert one.received <= 100 + 50 + 40
    bundles = [one.arrivals.get_nowait() for _ in range(one.arrivals.qsize())]
    assert [mid for bundle in bundles if isinstance(bundle, subscriber._Bundle) for mid in bundle.mids] == list(
        range(1, 41)
    )
    one.taken = one.received
    one._on_bulk(flood)
    assert one.arrivals.qsize() == 2, "there is room again"


def test_nothing_is_acknowledged_between_two_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is queued while there is none goes out on the next, on which a broker without memory counts anew."""
    said: list[int] = []
    monkeypatch.setattr(BulkClient, "acknowledge", lambda _self, mids: said.extend(mids))
    monkeypatch.setattr(BulkClient, "subscribe", lambda *_: None)
    one = link(window=100)
    one._on_connect(None, None, None, None, None)
    one._on_bulk([Delivered(b"t", b"x", 7)])
    _, bundle = one.arrivals.get_nowait(), one.arrivals.get_nowait()
    assert isinstance(bundle, subscriber._Bundle)
    one._on_disconnect(None, None, None, None, None)
    one.acknowledge([bundle])
    one._on_connect(None, None, None, None, None)
    one.acknowledge([bundle])
    assert said == []


def test_a_packet_that_is_wrong_within_ends_the_connection_at_once() -> None:
    """Only a length that is not whole waits for more bytes: a PUBLISH shorter than its own topic is no half packet."""
    client = BulkClient(CallbackAPIVersion.VERSION2, on_bulk=lambda _: None, protocol=MQTTv5)
    assert client._take(b"\x32") == client._take(b"\x32\x80") == MQTTErrorCode.MQTT_ERR_SUCCESS
    assert client._take(b"\x32\x02\x00\x09") == MQTTErrorCode.MQTT_ERR_PROTOCOL
    assert client._take(b"\x90\x00") == MQTTErrorCode.MQTT_ERR_PROTOCOL  # a SUBACK without a word


def number(rest: int) -> bytes:
    """A number of MQTT's variable length."""
    written = bytearray()
    while rest or not written:
        rest, low = divmod(rest, 128)
        written.append(low | (128 if rest else 0))
    return bytes(written)


def publish(payload: bytes, mid: int, topic: bytes = b"t", properties: bytes | None = None) -> bytes:
    """A PUBLISH at QoS 1, with `properties` of MQTT 5, without them of MQTT 3.1.1."""
    body = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big")
    if properties is not None:
        body += number(len(properties)) + properties
    body += payload
    return b"\x32" + number(len(body)) + body


@pytest.mark.parametrize("piece", [1_000, 1 << 16])
def test_a_huge_packet_takes_neither_memory_nor_time(piece: int) -> None:
    """A PUBLISH of 8 MiB that comes in pieces is cut off and passed over, and what follows it is whole; of another
    packet that long nothing is waited for."""
    found: list[Delivered] = []
    client = BulkClient(CallbackAPIVersion.VERSION2, on_bulk=found.extend, protocol=MQTTv311)
    sent = publish(b"before", 1) + publish(b"x" * (8 << 20), 2) + publish(b"after", 3)
    for at in range(0, len(sent), piece):
        assert client._take(client._unread + sent[at : at + piece]) == MQTTErrorCode.MQTT_ERR_SUCCESS
        assert len(client._unread) < PACKET_BYTES + 8
    assert [one.mid for one in found] == [1, 2, 3]
    assert wire.MESSAGE_LIMIT < len(found[1].payload) <= PACKET_BYTES
    assert (found[0].payload, found[2].payload) == (b"before", b"after")
    assert client._take(b"\x90" + sent[14:18] + bytes(PACKET_BYTES + 8)) == MQTTErrorCode.MQTT_ERR_PROTOCOL


LONG_HEADS: dict[str, tuple[int, bytes, bytes | None]] = {
    "topic": (MQTTv311, b"t" * 21_000, None),
    "topic as long as a packet": (MQTTv311, b"t" * (PACKET_BYTES - 4), None),
    "longest topic": (MQTTv5, b"t" * 65_535, b""),
    "properties": (MQTTv5, b"t", b"p" * 30_000),
    "both": (MQTTv5, b"t" * 65_535, b"p" * 100_000),
}


def heads(kind: type[BulkClient], name: str, piece: int) -> list[Delivered]:
    """Returns what is delivered of a PUBLISH with a long head, and of one before and behind it, in pieces."""
    protocol, topic, properties = LONG_HEADS[name]
    short = None if properties is None else b""
    found: list[Delivered] = []
    client = kind(CallbackAPIVersion.VERSION2, on_bulk=found.extend, protocol=protocol)
    long = publish(b"x" * 500, 2, topic, properties)
    sent = publish(b"before", 1, properties=short) + long + publish(b"after", 3, properties=short)
    for at in range(0, len(sent), piece):
        if client._take(client._unread + sent[at : at + piece]) != MQTTErrorCode.MQTT_ERR_SUCCESS:
            break
        assert len(client._unread) < (1 << 16) + PACKET_BYTES
    return found


@pytest.mark.parametrize("piece", [1_000, 1 << 20])
@pytest.mark.parametrize("name", LONG_HEADS)
def test_a_head_that_is_too_long_is_acknowledged_like_any_rubbish(name: str, piece: int) -> None:
    """A broker without bounds would send it again on every connection; empty, it is refused like any rubbish."""
    found = heads(BulkClient, name, piece)
    assert [one.mid for one in found] == [1, 2, 3]
    assert (found[0].payload, found[2].payload) == (b"before", b"after")
    if name != "topic as long as a packet":
        assert found[1] == Delivered(b"", b"", 2)


class Whole(BulkClient):
    """Broken on purpose: of a packet that is cut off, all that stands before the payload must be there."""

    def _delivered(self, data: bytes, begin: int, end: int, whole: int, numbered: int) -> Delivered:
        end = min(end, begin + PACKET_BYTES)
        return super()._delivered(data[:end], begin, end, end, numbered)


@pytest.mark.parametrize("name", sorted(LONG_HEADS.keys() - {"topic as long as a packet"}))
def test_a_client_that_wants_whole_heads_is_found_out(name: str) -> None:
    """The twin: the connection ends, and would end again."""
    assert [one.mid for one in heads(Whole, name, 1_000)] == [1]


def test_a_head_that_is_longer_than_its_packet_ends_the_connection() -> None:
    """No broker lets that through: it is one that does not speak MQTT."""
    client = BulkClient(CallbackAPIVersion.VERSION2, on_bulk=lambda _: pytest.fail("delivered"), protocol=MQTTv5)
    body = b"\x00\x01t\x00\x01" + number(30_000) + bytes(PACKET_BYTES)
    assert client._take(b"\x32" + number(len(body)) + body) == MQTTErrorCode.MQTT_ERR_PROTOCOL


def test_who_listens_passes_over_what_has_no_topic(centre: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tail` goes on to the next message."""
    gateway, stop = centre.gateway(), Event()
    passing = [Delivered(b"", b"", 1), Delivered(gateway.topic.encode(), gateway.seal(1_795_392_900), 2)]
    monkeypatch.setattr(subscriber._Link, "start", lambda self: self._on_bulk(passing))
    said: list[str] = []
    subscriber.tail(centre.config, centre.archive, lambda _: stop.set(), stop, said.append)
    assert [line.split(":")[0] for line in said] == ["skipped"]


def register_of(centre: Any, kind: type[Subscriber]) -> list[bytes]:
    """Returns the key that openers are given for a gateway, before and after the centre itself has put another."""
    gateway = centre.gateway()
    one = kind(centre.config, centre.archive, centre.intake, centre.secret, print)
    keys = []
    for renewed in (False, True):
        if renewed:
            with centre.archive.transaction():
                centre.archive.enrol(replace(centre.archive.enrolment(gateway.name), record_key=wire.new_key()[1]))
        one._reread_register()
        keys.append(one._openers.keys[gateway.name])
    return keys


def test_openers_hear_of_a_key_that_has_just_taken_over(centre: Any) -> None:
    """The line that it adds is the centre's own, so that no other process is to be waited for."""
    first, second = register_of(centre, Subscriber)
    assert second == centre.archive.enrolment("gw-plaza").record_key != first


class Deaf(Subscriber):
    """Broken on purpose: it looks again when another process has written."""

    def _reread_register(self) -> None:
        mark, before = self._archive.change_mark(), self.__dict__.get("mark")
        self.__dict__["mark"] = mark
        if mark != before:
            super()._reread_register()


def test_a_centre_that_does_not_hear_itself_is_found_out(centre: Any) -> None:
    """The twin: openers go on with the key of before."""
    first, second = register_of(centre, Deaf)
    assert first == second


def test_a_damaged_archive_stops_the_centre_in_one_line(tmp_path: Path, make_centre: Callable[..., Any]) -> None:
    """`ingest run` reads the file before it connects: exit 1 and what to do."""
    centre = make_centre(tmp_path)
    centre.intake.accept_many(centre.gateway().history(96))
    centre.archive.close()
    with centre.config.archive.open("r+b") as file:
        for page in range(8, centre.config.archive.stat().st_size // 4096, 2):
            file.seek(page * 4096)
            file.write(os.urandom(2048))
    command = [sys.executable, "-m", "murmure.cli", "ingest", "run", "--config", centre.config.source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "restore it from a backup" in done.stderr


def test_a_killed_broker_costs_a_resend_and_nothing_else(
    at_broker: Any,
    broker: Any,
    run: Any,
    connect: Any,
    until: Any,
    kill_broker: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker comes back empty: policies and receipts are said again, and what was sent again is a duplicate."""
    monkeypatch.setattr(subscriber, "_RETRY_BROKER_S", (1, 1))  # each try would else wait twice as long as the last
    centre = at_broker
    gateway = centre.gateway()
    running = run(centre)  # the broker is not there yet: the centre waits for it
    until(lambda: any("no answer" in line for line in running.said))
    broker.start()
    peer = connect(gateway, broker)
    history = gateway.history(QUARTERS)
    until(lambda: peer.settled(centre) == 0)
    peer.publish(*history[:3])
    until(lambda: peer.settled(centre) == 3)
    kill_broker(broker)
    peer.publish(*history[3:])
    broker.start()
    # A broker without a memory drops what comes before the centre is back: a gateway sends until it has a receipt.
    until(lambda: peer.publish(*history) or peer.settled(centre) == QUARTERS)
    newcomer = connect(gateway, broker)
    until(lambda: {kind for kind, *_ in newcomer.got} == {"receipt", "policy"})
    assert centre.archive.counts()["messages"] == QUARTERS
    assert centre.refused() == {}
    assert sum("connected" in line for line in running.said) == 2


def test_a_published_policy_reaches_the_gateway_within_seconds(
    at_broker: Any, broker: Any, run: Any, connect: Any, until: Any
) -> None:
    """`policy publish` beside a running centre: the new policy goes out retained, and what waited for it is filed."""
    centre = at_broker
    broker.start()
    gateway = centre.gateway(published=False)
    run(centre)
    peer = connect(gateway, broker)
    until(lambda: peer.settled(centre) == 0)
    peer.publish(*gateway.history(QUARTERS))
    until(lambda: peer.settled(centre) == QUARTERS)
    assert peer.receipts(centre)[-1].exceptions == tuple((n + 1, "quarantined") for n in range(QUARTERS))
    gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
    until(lambda: any(kind == "policy" for kind, *_ in peer.got))
    until(lambda: peer.receipts(centre)[-1].exceptions == ())
    assert peer.receipts(centre)[-1].policy_version == 1
    assert centre.archive.counts()["quarantined"] == 0


@pytest.mark.parametrize("broker", ["iotcore-5"], indirect=True)
@pytest.mark.parametrize("deaf", [False, True])
def test_a_gateway_that_was_away_is_sent_what_came_before_the_newest(
    at_broker: Any, broker: Any, run: Any, connect: Any, until: Any, policy_text: Any, monkeypatch: Any, deaf: bool
) -> None:
    """It judges each policy beside the one before, and the broker keeps the newest only: whenever it has spoken, one of
    those that came since the one that it uses is said, in order, and then the newest. The twin never says it."""
    if deaf:
        monkeypatch.setattr(Subscriber, "_remind", lambda *_: None)
    monkeypatch.setattr("murmure_ingest.subscriber._RETRY_BEHIND_S", 0.0)
    centre = at_broker
    broker.start()
    gateway = centre.gateway()
    messages = gateway.history(QUARTERS)
    centre.intake.accept_many(messages[:1])
    texts = [policy_text("plaza", version) for version in (2, 3, 4)]
    for text in texts:
        gateways.publish_policy(centre.archive, centre.signed(text))
    running = run(centre)
    until(lambda: hasattr(running, "subscriber") and "gw-plaza" in running.subscriber._published)
    peer = connect(gateway, broker)
    until(lambda: peer.settled(centre) == 1)

    def said() -> list[bytes]:
        return [wire.policy_bytes(payload) for kind, payload, *_ in peer.got if kind == "policy"]

    until(lambda: said()[-1:] == texts[-1:])
    for seq, message in enumerate(messages[1:4], 2):
        peer.publish(message)
        until(lambda seq=seq: peer.settled(centre) == seq)
    if deaf:
        assert set(said()) <= {texts[0], texts[-1]}
        return
    until(lambda: {*texts} <= {*said()})
    assert said()[-1] == texts[-1]


@pytest.mark.parametrize("cut", SABOTAGE)
def test_a_power_cut_of_the_centre_loses_nothing(
    at_broker: Any, broker: Any, run: Any, connect: Any, until: Any, cut: str
) -> None:
    """Killed at any point around the commit, a second centre is delivered the same messages and settles them once."""
    centre = at_broker
    broker.start()
    gateway = centre.gateway()
    command = [sys.executable, "-c", _PROCESS.format(sabotage=SABOTAGE[cut]), "ingest", "run", "--config"]
    process = subprocess.Popen([*command, centre.config.source], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "connected" in process.stderr.readline()
    peer = connect(gateway, broker)
    history = gateway.history(2)
    until(lambda: peer.settled(centre) == 0)  # the link stands: the subscription is in place
    peer.publish(*history)
    assert process.wait(20) == 9
    stored = centre.archive.counts()["messages"]
    assert (stored == 0) == (cut == "before the commit")
    run(centre)
    # The publisher does nothing more: the broker's session still holds what was not acknowledged. Only the last cut
    # comes after the acknowledgement: there the receipt is said again because the new centre connects.
    until(lambda: peer.settled(centre) == 2)
    counts = centre.archive.counts()
    assert (counts["messages"], counts["conflicts"], counts["refused"]) == (2, 0, {})


def test_nothing_is_acknowledged_while_the_disk_is_full(
    at_broker: Any, broker: Any, run: Any, connect: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is said once and waited for; the same batch is filed once there is room, and none is lost."""
    centre = at_broker
    broker.start()
    gateway = centre.gateway()
    monkeypatch.setattr(subscriber, "_RETRY_FULL_S", 0.05)
    file, room = Intake.file, Event()
    acknowledge, acknowledged = BulkClient.acknowledge, list[int]()

    def noted(self: BulkClient, mids: list[int]) -> None:
        acknowledged.extend(mids)
        acknowledge(self, mids)

    monkeypatch.setattr(BulkClient, "acknowledge", noted)

    def full(self: Intake, arrivals: Any, opened: Any) -> Any:
        if not room.is_set():
            raise ArchiveFull("archive.db: archive: the disk is full; make room, nothing was lost")
        return file(self, arrivals, opened)

    monkeypatch.setattr(Intake, "file", full)
    running = run(centre)
    peer = connect(gateway, broker)
    until(lambda: peer.settled(centre) == 0)
    peer.publish(*gateway.history(QUARTERS))
    until(lambda: any("the disk is full" in line for line in running.said))
    assert not acknowledged
    room.set()
    until(lambda: peer.settled(centre) == QUARTERS)
    assert len(acknowledged) == QUARTERS
    assert [line for line in running.said if "archive" in line][1:] == [
        f"{centre.config.archive}: archive: there is room again"
    ]


def test_a_writer_that_takes_long_does_not_stop_the_centre(
    at_broker: Any, broker: Any, run: Any, connect: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forgetting may hold the file for minutes: what comes then, and what waits, is filed after it."""
    centre = at_broker
    broker.start()
    gateway = centre.gateway(published=False)
    monkeypatch.setattr(subscriber, "_RETRY_FULL_S", 0.05)
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.1)
    centre.intake.accept_many(gateway.history(1))
    running = run(centre)
    peer = connect(gateway, broker)
    until(lambda: peer.settled(centre) == 1)
    tried, reconsider = list[int](), Intake.reconsider

    def noted(self: Intake) -> Any:
        tried.append(1)
        return reconsider(self)

    monkeypatch.setattr(Intake, "reconsider", noted)
    with centre.archive.transaction():
        tried.clear()
        running.subscriber._mark = -1  # as after a reconnection: what waits for a policy is looked at
        until(lambda: tried)
        peer.publish((gateway.topic, gateway.seal(1_795_392_900 + 900)))
        until(lambda: any("another process has been writing" in line for line in running.said))
        assert running.subscriber._meter.writable, "whoever reads /metrics is not told of a full disk"
    until(lambda: peer.settled(centre) == 2)
    assert any(line.endswith("archive: filing again") for line in running.said)
    gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
    until(lambda: centre.archive.counts()["quarantined"] == 0)


def test_a_stop_ends_the_process_cleanly(at_broker: Any, broker: Any, connect: Any, until: Any) -> None:
    """SIGTERM ends `ingest run` with 0; a second one on the same folder is refused with one line and 2."""
    centre = at_broker
    broker.start()
    command = [sys.executable, "-c", _PROCESS.format(sabotage=""), "ingest", "run", "--config", centre.config.source]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    assert "connected" in first.stderr.readline()
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert "another ingest runs on it" in second.stderr
    assert second.returncode != 0
    os.kill(first.pid, signal.SIGTERM)
    assert first.wait(20) == 0


@pytest.mark.parametrize("broker", ["iotcore-5", pytest.param("mosquitto-5", marks=pytest.mark.broker)], indirect=True)
def test_two_cards_that_speak_at_once_are_both_put_aside(
    at_broker: Any, broker: Any, run: Any, connect: Any, until: Any
) -> None:
    """Two gateways with one identity, both connected: nothing of either is filed once one of them has contradicted the
    other, both are told so, and another gateway goes on."""
    centre = at_broker
    broker.start()
    card, other = centre.gateway(), centre.gateway("gw-other", "other")
    run(centre)
    card.history(2)
    clone = replace(card, sealed=list(card.sealed))
    peers = [connect(card, broker), connect(clone, broker)]
    until(lambda: all(peer.settled(centre) == 0 for peer in peers))
    peers[0].publish(*[(card.topic, sealed) for sealed in card.sealed])
    peers[1].publish(*[(card.topic, sealed) for sealed in clone.sealed])
    until(lambda: all(peer.settled(centre) == 2 for peer in peers))
    assert not centre.archive.cloned(card.name)
    for quarter in (3, 4, 5):
        closing_s = 1_795_392_000 + 900 * quarter
        for number, (peer, gateway) in enumerate(zip(peers, (card, clone), strict=True)):
            peer.publish((card.topic, gateway.seal(closing_s, outcomes=gateway.outcomes(closing_s, value=number))))
        until(lambda: centre.archive.cloned(card.name))
    until(lambda: all(peer.settled(centre) == 5 for peer in peers))
    until(lambda: all("forked" in {word for _, word in peer.receipts(centre)[-1].exceptions} for peer in peers))
    assert not centre.archive.cloned(other.name)
    filed = [message.seq for message in centre.archive.messages(card.name) if message.disposition == "filed"]
    assert filed == [1, 2, 3]  # the first to have a number keeps it
    listed = subprocess.run(
        [sys.executable, "-m", "murmure.cli", "gateway", "list", "--json", "--config", centre.config.source],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    status = {entry["gateway"]: entry["status"] for entry in json.loads(listed.stdout)}
    assert status == {"gw-plaza": "quarantined", "gw-other": "active"}
    peers.append(connect(other, broker))
    peers[2].publish(*other.history(QUARTERS))
    until(lambda: peers[2].settled(centre) == QUARTERS)
    assert peers[2].receipts(centre)[-1].exceptions == ()


class Remembering:
    """A gateway's judgement of the receipts that a peer got: what `sense` keeps of them, and decides by it."""

    def __init__(self, centre: Any, peer: Any) -> None:
        self._trust = load_trust(load_gateway(centre.folder / peer.gateway.name / "gateway.toml"))
        self._peer, self._read = peer, 0
        self.known: log.Checkpoint | None = None
        self.settled, self.refused = 0, list[str]()

    def read(self) -> int:
        """Judges what has come since, and returns up to which number it believes that all is settled."""
        receipts = [payload for kind, payload, *_ in self._peer.got if kind == "receipt"]
        hashes = {seq: wire.digest(sealed) for seq, sealed in enumerate(self._peer.gateway.sealed, 1)}
        for payload in receipts[self._read :]:
            state = OutboxState(len(hashes), hashes.get, 1 << 53, self.settled, self.known)
            verdict = decide_receipt(payload, self._trust, state)
            if isinstance(verdict, Settled):
                told = log.of_receipt(verdict.receipt.checkpoint)
                assert told is not None
                self.settled, self.known = max(self.settled, verdict.up_to), told.here
            else:
                assert isinstance(verdict, Refused)
                self.refused.append(verdict.reason)
        self._read = len(receipts)
        return self.settled


def fork(archive: Archive) -> None:
    """Gives the log another first entry, by hand, and two entries more."""
    rows = list(archive.log_rows())
    names = [one for (one,) in archive._db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
    for name in names:
        archive._db.execute(f'DROP TRIGGER "{name}"')
    entries = [(*rows[0][1:4], log.entry({**log.read_entry(rows[0][4]), "quartier": "other"}))]
    entries += [row[1:5] for row in [*rows[1:], rows[-1], rows[-1]]]
    with archive.transaction():
        archive._db.execute("DELETE FROM log")
        archive._db.execute("DELETE FROM checkpoints")
        for kind, subject, number, entry in entries:
            logbook._insert(archive._db, kind, subject, number, entry)


@pytest.mark.parametrize("broker", [pytest.param("mosquitto-5", marks=pytest.mark.broker)], indirect=True)
def test_a_gateway_refuses_a_forked_log_and_believes_the_one_that_was_adopted(
    at_broker: Any, broker: Any, run: Any, connect: Any, until: Any, tmp_path: Path
) -> None:
    """As the log grows, and the gateway reports what it read, every receipt is believed. A longer log with another
    beginning is refused, also with its proof, and settles nothing. After a restore of an old backup nothing is believed
    until the published log was adopted; then what had waited is settled."""
    centre, path = at_broker, at_broker.config.archive
    broker.start()
    gateway = centre.gateway()
    history = gateway.history(QUARTERS)
    running, peer = run(centre), connect(gateway, broker)
    memory = Remembering(centre, peer)
    until(lambda: peer.settled(centre) == 0)
    peer.publish(gateway.health(60, log=0))
    snapshot(path, tmp_path / "backup.db")
    for number, message in enumerate(history[:-1], 1):
        centre.gateway(f"gw-{number}", site="alley", published=False)
        peer.publish(message)
        until(lambda number=number: memory.read() == number)
        assert memory.known is not None
        peer.publish(gateway.health(60 + number, log=memory.known.size))
    assert memory.known == centre.archive.log_checkpoint() and memory.refused == []
    centre.archive.sign_log(centre.secret)
    for name, data in journal.files(centre.archive, journal.NOTHING, lambda _: None):
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_bytes(data)
    known = memory.known
    assert known is not None
    running.stop()

    def put(source: Path) -> None:
        centre.archive.close()
        for left in path.parent.glob(f"{path.name}*"):
            left.unlink()
        shutil.copy(source, path)
        centre.archive = Archive.open(path)

    fork(centre.archive)
    running = run(centre)
    peer.publish(history[-1], gateway.health(120, log=known.size))
    until(lambda: memory.read() >= 0 and "other_log" in memory.refused)
    assert (memory.settled, memory.known) == (QUARTERS - 1, known)
    running.stop()
    put(tmp_path / "backup.db")
    running = run(centre)
    before = len(memory.refused)
    peer.publish(*history, gateway.health(180, log=known.size))
    until(lambda: memory.read() >= 0 and len(memory.refused) > before)
    assert (memory.settled, memory.known) == (QUARTERS - 1, known)
    running.stop()
    put(tmp_path / "backup.db")
    published = Site(str(tmp_path / "site")).published()
    adopt(centre.archive, published, wire.public_key(centre.secret), "site")
    before = len(memory.refused)
    running = run(centre)
    peer.publish(*history, gateway.health(240, log=known.size))
    until(lambda: memory.read() == QUARTERS)
    assert memory.known == known == centre.archive.log_checkpoint()
    assert memory.refused[before:] == []
    running.stop()
