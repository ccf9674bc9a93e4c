"""One connection: what a caller may rely on, with each broker."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from murmure_edge.config import Broker
from murmure_edge.uplink import Acknowledged, Arrived, Topics, Uplink, UplinkLost

TOPICS = Topics.of("centre", "gw-plaza")


def connect(port: int, mqtt: int = 5, monotonic: Callable[[], float] = time.monotonic) -> Uplink:
    return Uplink(Broker("127.0.0.1", port, mqtt, 60, 1, 600), "gw-plaza", TOPICS, monotonic, threading.Event())


def events(uplink: Uplink, wanted: int) -> Iterator[Acknowledged | Arrived]:
    found: list[Acknowledged | Arrived] = []
    deadline = time.monotonic() + 10
    while len(found) < wanted and time.monotonic() < deadline:
        found += uplink.turn(0.1)
    return iter(found)


def test_the_topics_are_those_of_the_contract():
    """murmure/v1/QUARTIER/GATEWAY/ and four words."""
    base = "murmure/v1/centre/gw-plaza/"
    assert Topics(base + "release", base + "health", base + "policy", base + "receipt") == TOPICS


def test_a_publication_is_acknowledged_under_its_token(every_broker):
    """Every publish gets one PUBACK, told apart by its token."""
    every_broker.start()
    uplink = connect(every_broker.port, every_broker.mqtt)
    tokens = [uplink.publish(TOPICS.release, b"x" * 4096) for _ in range(5)]
    acknowledged = list(events(uplink, 5))
    assert acknowledged == [Acknowledged(token, None) for token in tokens]
    uplink.close()


def test_only_our_own_policy_and_receipt_arrive(every_broker, centre):
    """What is said to another gateway, or is larger than any policy, never reaches the caller."""
    every_broker.start()
    listener = centre(every_broker)
    listener.client.publish("murmure/v1/centre/gw-other/policy", b"not ours", qos=1)
    listener.say("policy", b"policy")
    uplink = connect(every_broker.port, every_broker.mqtt)
    assert list(events(uplink, 1)) == [Arrived(TOPICS.policy, b"policy")]
    listener.say("receipt", b"receipt")
    assert list(events(uplink, 1)) == [Arrived(TOPICS.receipt, b"receipt")]
    uplink.close()


def test_a_policy_above_the_limit_does_not_arrive(broker, centre):
    """20 KiB and a byte are dropped at the door."""
    broker.start()
    listener = centre(broker)
    uplink = connect(broker.port, broker.mqtt)
    listener.say("policy", b"x" * 20_481)
    listener.say("policy", b"x" * 20_480)
    assert [len(event.payload) for event in events(uplink, 1) if isinstance(event, Arrived)] == [20_480]
    uplink.close()


def test_a_killed_broker_is_noticed(every_broker):
    """After the broker's death the next turns raise, and so does a publish; closing is harmless, also twice."""
    every_broker.start()
    uplink = connect(every_broker.port, every_broker.mqtt)
    every_broker.kill()
    with pytest.raises(UplinkLost):
        for _ in range(50):
            uplink.turn(0.1)
    with pytest.raises(UplinkLost):
        uplink.publish(TOPICS.release, b"too late")
    uplink.close()
    uplink.close()


def test_no_broker_is_a_reason_in_words():
    """A refused connection and a name that does not exist say so."""
    with pytest.raises(UplinkLost, match="refused"):
        connect(1)
    broker = Broker("no.such.host.invalid", 1883, 5, 60, 1, 600)
    with pytest.raises(UplinkLost, match=r"\w+"):
        Uplink(broker, "gw-plaza", TOPICS, time.monotonic, threading.Event())


def test_an_open_port_without_a_connack_is_no_broker():
    """A broker that takes the connection and never answers is given up after ten seconds of the caller's clock."""
    ticks = count()
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(UplinkLost, match="does not answer"):
        connect(server.getsockname()[1], monotonic=lambda: float(next(ticks)))


@pytest.mark.broker
def test_a_refused_connection_says_why(mosquitto):
    """A broker that wants a password tells MQTT 5 clients so."""
    broker = mosquitto("allow_anonymous false\n")
    broker.start()
    with pytest.raises(UplinkLost, match="Not authorized"):
        connect(broker.port)
