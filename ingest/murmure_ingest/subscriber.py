"""MQTT in, receipts and policies out; a message is acknowledged to the broker only after the archive's commit.

paho's own thread reads the network and puts what arrives on one queue; the thread that calls `run` hands it to the
processes that open it (openers.py), judges, commits, acknowledges and answers. Receipts wait until nothing else does,
at most fifteen seconds: one then settles all that a gateway has sent meanwhile. An acknowledgement belongs to a
connection: after a reconnection the broker delivers the unacknowledged again, the archive answers Duplicate, and what
was queued from the old connection is not acknowledged on the new one.
"""

from __future__ import annotations

import os
import secrets
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from math import inf
from queue import Empty, SimpleQueue
from threading import Event

import paho.mqtt.client as mqtt
from murmure_privacy.errors import MurmureError, WireError
from murmure_privacy.release import Message
from murmure_privacy.wire import CONTENT_TYPE, open_message
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from murmure_ingest.archive import ArchiveFull, ArchiveWaits, Enrolment
from murmure_ingest.bulk_mqtt import PACKET_BYTES, BulkClient, Delivered
from murmure_ingest.certificates import client_context
from murmure_ingest.config import BrokerConfig, IngestConfig
from murmure_ingest.gateways import policies_for
from murmure_ingest.intake import Arrival, Conflict, Heard, Intake, Refused, Word
from murmure_ingest.meter import Meter
from murmure_ingest.openers import UNSURE, Bundle, Openers, Opening
from murmure_ingest.proofs import Proofs
from murmure_ingest.receipts import receipt
from murmure_ingest.store import Register, Store

RELEASES = "murmure/v1/+/+/release"
_WATCH_S = 1.0
_RECEIPT_WAIT_S = 15.0  # at a full queue; each costs what it costs to file two messages
_RECEIPTS_A_TURN = 200
_OPENED_TOGETHER = 50  # messages that go from process to process in one piece
_OPENED_AHEAD = 1.5  # batches that each process has before it, so that it has work as long as one is filed
_RETRY_FULL_S = 5.0
_RETRY_EARLY_S = 900.0
_RETRY_BEHIND_S = 600.0
_REPEAT_S = 60.0  # a reason is told once in this time, per gateway or for all strangers; it is counted always
_RETRY_BROKER_S = (1, 30)
_OTHER_NAME = (62, 64)  # OpenSSL's verdicts on a certificate: other host, other address; then: past its date
_PAST = 10
_WINDOW_BATCHES = 3  # unacknowledged messages in flight, in batches: filed, being opened, and to be opened by who waits

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Bundle:
    """What came together. `mids`: the numbers to acknowledge, which are good on one connection only."""

    arrivals: Sequence[tuple[str, bytes]]
    mids: Sequence[int]
    connection: int


@dataclass(frozen=True, slots=True)
class _Connected:
    connection: int


class _Link:
    """One paho client: connects for ever, counts connections, says once what changed."""

    def __init__(
        self,
        broker: BrokerConfig,
        client_id: str,
        *,
        source: str,
        lasting: bool,
        window: int,
        topics: list[str],
        say: Say,
        together: int = 1,
    ):
        self.arrivals: SimpleQueue[_Bundle | _Connected] = SimpleQueue()
        self.received = self.taken = 0  # messages, of all connections; taken by whoever reads `arrivals`
        self.connection = 0
        self.connected = False
        self._answered = False  # a CONNACK came on this connection, whatever it says
        self._broker, self._lasting, self._window = broker, lasting, window
        self._topics, self._say, self._was = topics, say, ""
        self._together = together
        self._five = broker.mqtt == 5
        self._content: Properties | None = None
        if self._five:
            self._content = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            self._content.ContentType = CONTENT_TYPE
        self._client = BulkClient(
            CallbackAPIVersion.VERSION2,
            on_bulk=self._on_bulk,
            client_id=client_id,
            protocol=mqtt.MQTTv5 if self._five else mqtt.MQTTv311,
            clean_session=None if self._five else not lasting,
            manual_ack=True,
        )
        self._tls: ssl.SSLContext | None = None
        if broker.tls is not None:
            self._tls = client_context(broker.tls, source, datetime.now(UTC))
            self._client.tls_set_context(self._tls)
        self._client.reconnect_delay_set(*_RETRY_BROKER_S)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect

    def start(self) -> None:
        properties = None
        if self._five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = self._broker.session_expiry_s if self._lasting else 0
            properties.ReceiveMaximum = min(65535, self._window)
            properties.MaximumPacketSize = PACKET_BYTES
        self._client.connect_async(
            self._broker.host,
            self._broker.port,
            keepalive=self._broker.keepalive_s,
            clean_start=not self._lasting if self._five else mqtt.MQTT_CLEAN_START_FIRST_ONLY,
            properties=properties,
        )
        self._client.loop_start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def acknowledge(self, bundles: Iterable[_Bundle]) -> None:
        if self.connected:  # else the next connection would say it, of numbers that may mean other messages there
            self._client.acknowledge(
                [mid for bundle in bundles if bundle.connection == self.connection for mid in bundle.mids]
            )

    def publish(self, topic: str, payload: bytes) -> None:
        """Retained, at least once. While there is no connection nothing is queued: all is said again on the next."""
        if not self._client.is_connected():
            return
        self._client.publish(topic, payload, qos=1, retain=True, properties=self._content)

    def _tell(self, text: str) -> None:
        if text != self._was:
            self._was = text
            self._say(text)

    def _where(self) -> str:
        return f"broker {self._broker.host}:{self._broker.port}"

    def _on_connect(self, _client: object, _data: object, _flags: object, reason: object, _properties: object) -> None:
        self._answered = True
        if getattr(reason, "is_failure", False):
            self._tell(f"{self._where()}: refused the connection ({reason}); trying again")
            return
        self._tell(f"{self._where()}: connected")
        self.connection += 1
        self.connected = True
        self._client.subscribe([(topic, 1) for topic in self._topics])
        self.arrivals.put(_Connected(self.connection))

    def _on_connect_fail(self, _client: object, _data: object) -> None:
        self._tell(f"{self._where()}: {self._reason(sys.exception())}; trying again")
        self._reread()

    def _on_disconnect(
        self, _client: object, _data: object, _flags: object, reason: object, _properties: object
    ) -> None:
        self.connected = False
        answered, self._answered = self._answered, False
        if getattr(reason, "is_failure", False):
            if answered:
                why = f"connection lost ({reason})"
            elif self._tls is None:
                why = f"it ends the connection unasked ({reason}); if it speaks TLS, name certificate and key"
            else:
                why = (
                    f"it ends the connection before it accepts it ({reason}): this certificate was taken back, or the "
                    "broker's revocation list is past its date; see 'murmure broker check DIR'"
                )
            self._tell(f"{self._where()}: {why}; trying again")
        self._reread()

    def _reason(self, error: BaseException | None) -> str:
        """Returns why no connection came about. paho calls back while it handles the error, and keeps it to itself."""
        if isinstance(error, ssl.SSLCertVerificationError):
            if error.verify_code in _OTHER_NAME:
                renew = f"run 'murmure broker init DIR --name {self._broker.host}' and reload the broker"
                return f"its certificate is not for {self._broker.host}; {renew}"
            if error.verify_code == _PAST:
                return "its certificate is past its date; run 'murmure broker init DIR' and reload the broker"
            authority = self._broker.tls.authority if self._broker.tls else ""
            return f"its certificate is not from {authority}; another broker answers, or that file is another town's"
        if isinstance(error, ssl.SSLError):
            return f"it does not speak TLS as we do ({error.reason or 'no reason'}); check the port"
        return "no answer"

    def _reread(self) -> None:
        """Takes a renewed certificate for the next connection; while its files are changing, the old one does."""
        if self._tls is not None and self._broker.tls is not None:
            with suppress(OSError, ssl.SSLError):
                self._tls.load_cert_chain(self._broker.tls.certificate, self._broker.tls.key)

    def _on_bulk(self, delivered: list[Delivered]) -> None:
        if self.received - self.taken >= self._window:
            # What is not acknowledged nobody bounds but us: whoever floods so loses it, and the centre no memory.
            delivered = [one for one in delivered if one.mid]
        for at in range(0, len(delivered), self._together):
            part = delivered[at : at + self._together]
            # A topic that is no text is none that a gateway has: the intake says so.
            arrivals = [(one.topic.decode("utf-8", "replace"), one.payload) for one in part]
            self._put(arrivals, [one.mid for one in part if one.mid])

    def _put(self, arrivals: Sequence[tuple[str, bytes]], mids: Sequence[int]) -> None:
        self.received += len(arrivals)
        self.arrivals.put(_Bundle(arrivals, mids, self.connection))


def _topics(quartiers: Sequence[str]) -> list[str]:
    return [f"murmure/v1/{quartier}/+/{kind}" for quartier in quartiers or ["+"] for kind in ("release", "health")]


class Subscriber:
    """The centre at work: one link to the broker, one intake, one archive, used from the thread that calls `run`."""

    def __init__(
        self,
        config: IngestConfig,
        archive: Store,
        intake: Intake,
        secret: bytes,
        say: Say,
        meter: Meter | None = None,
    ) -> None:
        self._config, self._archive, self._intake, self._secret, self._say = config, archive, intake, secret, say
        self._meter = meter or Meter()
        window = _WINDOW_BATCHES * config.batch.messages
        self._together = min(_OPENED_TOGETHER, config.batch.messages)
        self._openers = Openers(len(os.sched_getaffinity(0)) - 1, int(_OPENED_AHEAD * config.batch.messages), say)
        self._ahead: deque[tuple[_Bundle, Bundle]] = deque()  # taken from the queue, and being opened
        self._link = _Link(
            config.broker,
            config.broker.client_id,
            source=config.source,
            lasting=True,
            window=window,
            topics=_topics(config.broker.quartiers),
            say=say,
            together=self._together,
        )
        self._meter.queued = lambda: self._link.received - self._link.taken
        self._published: dict[str, bytes] = {}  # policy hash by gateway, on this connection
        self._behind: dict[str, tuple[float, int]] = {}  # who may lack an older policy; when to say which of them
        self._mark = -1
        self._early_at = inf  # when to look again at what waits for its time
        self._register_mark = -1
        self._owed: dict[str, float] = {}  # gateways that wait for a receipt, and since when
        self._proofs = Proofs(archive, time.monotonic)
        self._told_at: dict[str, float] = {}  # by gateway and reason: when it may be told again

    def run(self, stop: Event) -> None:
        """Works until `stop` is set. Raises ArchiveDamaged; a full disk and an absent broker are waited for."""
        self._reread_register()
        self._link.start()
        watch_at = 0.0
        try:
            while not stop.is_set():
                batch = self._gather()
                self._meter.connected, self._meter.connections = self._link.connected, self._link.connection
                if batch:
                    begun = time.monotonic()
                    words = self._file(batch, stop)
                    if words is None:
                        return
                    self._meter.committed(words, time.monotonic() - begun)
                    self._link.acknowledge(bundle for bundle, _ in batch)
                    self._answer(words)
                now = time.monotonic()
                self._pay(now, idle=not batch)
                if now >= watch_at:
                    watch_at = now + _WATCH_S
                    self._watch()
        finally:
            self._link.stop()
            self._openers.stop()

    def _gather(self) -> list[tuple[_Bundle, Bundle]]:
        """Returns what arrived: at most a batch, at most `wait_ms` after its first. What has come beyond it is opened
        meanwhile."""
        batch: list[tuple[_Bundle, Bundle]] = []
        wait_s = self._config.batch.wait_ms / 1000
        until = time.monotonic() + (wait_s if self._owed else _WATCH_S / 4)
        count = 0
        while not batch or count + self._together <= self._config.batch.messages:
            if not self._ahead and not self._take(max(0.0, until - time.monotonic())):
                break
            while self._take(0.0):
                pass
            if not self._ahead:
                continue
            if not batch:
                until = time.monotonic() + wait_s
            batch.append(self._ahead.popleft())
            count += len(batch[-1][0].arrivals)
        self._link.taken += count
        return batch

    def _take(self, wait_s: float) -> bool:
        """Takes one thing from the queue, if there is one by then."""
        try:
            item = self._link.arrivals.get(timeout=wait_s) if wait_s else self._link.arrivals.get_nowait()
        except Empty:
            return False
        if isinstance(item, _Connected):
            # A broker may have lost its memory: everything that it should retain is said again.
            self._published.clear()
            self._mark = -1
            self._owe(enrolment.gateway for enrolment in self._own())
        else:
            self._ahead.append((item, self._openers.submit(item.arrivals)))
        return True

    def _file(self, batch: list[tuple[_Bundle, Bundle]], stop: Event) -> list[Word] | None:
        """Returns the words on a batch once they are durable; None if asked to stop before that."""
        arrivals: list[Arrival] = [arrival for _, bundle in batch for arrival in bundle.arrivals]
        opened = [one for _, bundle in batch for one in self._openers.result(bundle)]
        waits: ArchiveWaits | None = None
        while True:
            try:
                words = self._intake.file(arrivals, self._known_now(arrivals, opened))
            except ArchiveWaits as error:
                if type(error) is not type(waits):
                    self._say(str(error))
                waits = error
                self._meter.writable = not isinstance(error, ArchiveFull)
                if stop.wait(_RETRY_FULL_S):
                    return None
            else:
                self._meter.writable = True
                if waits:
                    over = "there is room again" if isinstance(waits, ArchiveFull) else "filing again"
                    self._say(f"{self._archive.path}: archive: {over}")
                return words

    def _known_now(self, arrivals: Sequence[Arrival], opened: Opening) -> Opening:
        """Returns what was opened; what no key opened is tried once more with every key of the register as it is."""
        self._reread_register()
        return [
            self._intake.open(arrival) if isinstance(one, Refused) and one.reason in UNSURE else one
            for arrival, one in zip(arrivals, opened, strict=True)
        ]

    def _reread_register(self) -> None:
        mark = self._archive.newest_line()  # that of a key that has just taken over is our own: no change_mark tells it
        if mark != self._register_mark:
            self._register_mark = mark
            self._openers.keys = {line.gateway: line.record_key for line in self._archive.enrolments()}

    def _own(self) -> list[Enrolment]:
        """Returns the lines of the gateways that this centre speaks to."""
        quartiers = self._config.broker.quartiers
        return [line for line in self._archive.enrolments() if not quartiers or line.quartier in quartiers]

    def _answer(self, words: list[Word]) -> None:
        for word in words:
            if isinstance(word, Refused | Conflict):
                self._tell(word)
            elif isinstance(word, Heard):
                self._proofs.heard(word.gateway, word.log)
        if self._behind:
            self._remind(word.gateway for word in words)
        # What anybody may have carried here again is no reason to speak to its gateway.
        self._owe(
            word.gateway
            for word in words
            if word.gateway and not (isinstance(word, Heard) or (isinstance(word, Refused) and word.fate == "counted"))
        )

    def _owe(self, gateways: Iterable[str]) -> None:
        now = time.monotonic()
        for gateway in gateways:
            self._owed.setdefault(gateway, now)

    def _pay(self, now: float, *, idle: bool) -> None:
        """Sends the receipts that have waited long enough, some at a time."""
        due = [
            gateway
            for gateway, since in islice(self._owed.items(), _RECEIPTS_A_TURN)
            if idle or now - since >= _RECEIPT_WAIT_S
        ]
        if due:
            with suppress(ArchiveWaits):  # a receipt names the log as it is; its checkpoint is signed with a later one
                self._archive.sign_log(self._secret)
        for gateway in due:
            del self._owed[gateway]
            self._send_receipt(gateway)

    def _tell(self, word: Refused | Conflict) -> None:
        now = time.monotonic()
        subject = f"{word.gateway} {word.reason}" if word.seq else word.reason
        if now < self._told_at.get(subject, now):
            return
        self._told_at[subject] = now + _REPEAT_S
        who = f"{word.gateway} seq {word.seq}" if word.seq else word.gateway or "a message"
        fate = word.fate if isinstance(word, Refused) else "conflict"
        self._say(f"{who}: {fate}: {word.reason}: {word.detail}")

    def _send_receipt(self, gateway: str) -> None:
        enrolment = self._archive.enrolment(gateway)
        if enrolment is not None and enrolment.status == "active":
            topic = f"murmure/v1/{enrolment.quartier}/{gateway}/receipt"
            self._link.publish(topic, receipt(self._archive, enrolment, self._secret, self._proofs.say(enrolment)))

    def _send_policies(self, enrolment: Enrolment) -> None:
        """The broker keeps the last, which is the newest. Who lacks others is told of one of them before it, and of the
        next one once it has spoken again: a gateway's inbox holds two."""
        gateway, policies = enrolment.gateway, policies_for(self._archive, enrolment)
        at = self._behind.pop(gateway, (0.0, 0))[1] % max(len(policies) - 1, 1)
        if len(policies) > 1:
            self._behind[gateway] = (time.monotonic() + _RETRY_BEHIND_S, at + 1)
        for policy in dict.fromkeys((policies[at], policies[-1])):
            self._link.publish(f"murmure/v1/{enrolment.quartier}/{gateway}/policy", policy.sealed)

    def _remind(self, gateways: Iterable[str | None]) -> None:
        """A gateway that was away heard of the newest policy only. It has just spoken: another one is said."""
        now = time.monotonic()
        for gateway in self._behind.keys() & set(gateways):
            enrolment = self._archive.enrolment(gateway)
            if now >= self._behind[gateway][0] and enrolment is not None and enrolment.status == "active":
                self._send_policies(enrolment)

    def _watch(self) -> None:
        """Publishes policies that are new on this connection, and files what waited for them, or for its time; answers
        who has reported that it lacks a proof."""
        self._owe(self._proofs.due())
        mark, now = self._archive.change_mark(), time.monotonic()
        if mark == self._mark and now < self._early_at:
            return
        self._mark = mark
        for enrolment in self._own():
            newest = self._archive.newest_policy(enrolment.site)
            if enrolment.status != "active" or newest is None:
                continue
            if self._published.get(enrolment.gateway) != newest.hash:
                self._send_policies(enrolment)
                self._published[enrolment.gateway] = newest.hash
                self._owe([enrolment.gateway])
        try:
            words = self._intake.reconsider()
        except ArchiveWaits:
            self._mark = -1  # the next batch says it; what waits goes on waiting
            return
        self._early_at = now + _RETRY_EARLY_S if self._intake.left_early else inf
        self._meter.judged(words)
        self._answer(words)


def tail(config: IngestConfig, archive: Register, show: Callable[[Message], None], stop: Event, say: Say) -> None:
    """Shows every message that passes and that its registered gateway signed, until `stop` is set.

    Listens beside the centre, with a name of its own, and changes nothing. A message that does not verify is skipped.
    """
    client_id = f"murmure-tail-{secrets.token_hex(6)}"
    link = _Link(
        _of_tail(config),
        client_id,
        source=config.source,
        lasting=False,
        window=1000,
        topics=[RELEASES],
        say=say,
    )
    link.start()
    try:
        while not stop.is_set():
            try:
                item = link.arrivals.get(timeout=0.25)
            except Empty:
                continue
            if isinstance(item, _Connected):
                continue
            link.acknowledge([item])
            link.taken += len(item.arrivals)
            for topic, payload in item.arrivals:
                # None in a topic that was too long to be handed on.
                _, _, quartier, gateway, *_ = [*topic.split("/"), "", "", "", ""]
                enrolment = archive.enrolment(gateway)
                try:
                    if enrolment is None or enrolment.quartier != quartier:
                        raise WireError("unknown_gateway", "not in the register")
                    message = open_message(payload, enrolment.record_key)
                except MurmureError as error:
                    say(f"skipped: {error}")
                    continue
                show(message)
    finally:
        link.stop()


def _of_tail(config: IngestConfig) -> BrokerConfig:
    """Returns the broker as `tail` uses it: with the centre's own certificate it would take the centre's place."""
    tls = config.broker.tls
    if tls is None:
        return config.broker
    own = replace(tls, certificate=tls.certificate.with_name("tail.crt"), key=tls.key.with_name("tail.key"))
    return replace(config.broker, tls=own)
