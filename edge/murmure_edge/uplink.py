"""One connection to the broker: the only user of paho at the edge.

An `Uplink` lives from CONNECT to the first trouble and is then thrown away. It has no thread and no memory of its own:
paho's queues would be a second, forgetful outbox. The caller turns it, and every wait ends.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import paho.mqtt.client as mqtt
from murmure_privacy.wire import CONTENT_TYPE, SEALED_POLICY_LIMIT
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from murmure_edge.config import Broker

WINDOW = 16  # messages in flight: enough for a long line, few enough to come again after a cut
_PATIENCE_S = 10.0  # how long a broker may take to accept a connection
_PACKET_LIMIT = SEALED_POLICY_LIMIT + 1024


class UplinkLost(Exception):
    """The connection is gone or never came: wait, and connect again. The text says why."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The four topics of one gateway (contract 4)."""

    release: str
    health: str
    policy: str
    receipt: str

    @classmethod
    def of(cls, quartier: str, gateway: str) -> Topics:
        """Returns the topics of `gateway`, which was enrolled in `quartier`."""
        base = f"murmure/v1/{quartier}/{gateway}"
        return cls(f"{base}/release", f"{base}/health", f"{base}/policy", f"{base}/receipt")


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker's PUBACK for the publication `token`. `refusal`: why it did not take it, None if it did."""

    token: int
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message on one of our own two topics, as it came."""

    topic: str
    payload: bytes


Event = Acknowledged | Arrived


class Uplink:
    """A live connection. Every method raises UplinkLost once it is not."""

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        topics: Topics,
        monotonic: Callable[[], float],
        stop: threading.Event,
    ) -> None:
        """Connects and subscribes to the gateway's own policy and receipt; returns when the broker has accepted, or
        gives up when `stop` is set.

        The session starts clean: what we have to say is in the outbox, and what the broker has to say is retained.
        """
        self._topics = topics
        self._monotonic, self._stop = monotonic, stop
        self._events: list[Event] = []
        self._accepted = False
        self._lost: str | None = None
        self._client = self._make(broker, client_id)
        try:
            self._open(broker)
        except BaseException:
            self.close()
            raise

    def _make(self, broker: Broker, client_id: str) -> mqtt.Client:
        five = broker.mqtt == 5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if five else True,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _PATIENCE_S
        if broker.tls is not None:
            files = broker.tls
            try:
                context = ssl.create_default_context(cafile=str(files.authority))
                context.hostname_checks_common_name = False  # a broker is known by its subject alternative names
                context.load_cert_chain(str(files.certificate), str(files.key))
                client.tls_set_context(context)
            except (OSError, ssl.SSLError) as error:
                # Renewed files may be half there: the next attempt reads them again.
                raise UplinkLost(f"TLS files: {files.certificate}: cannot be used ({error}); enrol again") from error
        client.max_inflight_messages_set(WINDOW)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _open(self, broker: Broker) -> None:
        properties = None
        if broker.mqtt == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = _PACKET_LIMIT
        try:
            self._client.connect(broker.host, broker.port, broker.keepalive_s, properties=properties)
        except (OSError, ValueError) as error:
            raise UplinkLost(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
        # A broker may accept the TCP connection and never answer: only a CONNACK counts.
        deadline = self._monotonic() + _PATIENCE_S
        while not self._accepted:
            if self._stop.is_set() or self._monotonic() > deadline:
                raise UplinkLost("the broker does not answer")
            self._turn(0.1)
        code, _ = self._client.subscribe([(self._topics.policy, 1), (self._topics.receipt, 1)])
        self._check(code)

    def publish(self, topic: str, payload: bytes) -> int:
        """Sends `payload` with QoS 1. Returns the token under which it will be acknowledged."""
        properties = None
        if self._client.protocol == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ContentType = CONTENT_TYPE
        info = self._client.publish(topic, payload, qos=1, properties=properties)
        self._check(info.rc)
        return info.mid

    def turn(self, timeout_s: float) -> list[Event]:
        """Returns what has come from the broker, after at most `timeout_s`."""
        if not self._events:
            self._turn(timeout_s)
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Says goodbye if anybody listens, and lets the socket go."""
        self._client.on_disconnect = None
        with suppress(OSError):
            self._client.disconnect()
        # paho closes the socket once the goodbye is written, which on a dead line is never.
        if (socket := self._client.socket()) is not None:
            socket.close()

    def _turn(self, timeout_s: float) -> None:
        try:
            code = self._client.loop(timeout_s)
        except Exception as error:  # paho's parser raises many kinds at bytes that are no MQTT; the answer is one
            raise UplinkLost(f"the broker sends what is no MQTT ({type(error).__name__})") from error
        self._check(code)

    def _check(self, code: MQTTErrorCode) -> None:
        if self._lost is not None or code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise UplinkLost(self._lost or mqtt.error_string(code))

    def _on_connect(
        self, client: mqtt.Client, data: object, flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._lost = f"the broker refuses: {reason}"
        else:
            self._accepted = True

    def _on_disconnect(
        self, client: mqtt.Client, data: object, flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._lost = self._lost or f"the connection ended: {reason}"

    def _on_publish(
        self, client: mqtt.Client, data: object, token: int, reason: ReasonCode, properties: Properties
    ) -> None:
        self._events.append(Acknowledged(token, str(reason) if reason.is_failure else None))

    def _on_message(self, client: mqtt.Client, data: object, message: mqtt.MQTTMessage) -> None:
        own = (self._topics.policy, self._topics.receipt)
        if message.topic in own and len(message.payload) <= SEALED_POLICY_LIMIT:
            self._events.append(Arrived(message.topic, bytes(message.payload)))
