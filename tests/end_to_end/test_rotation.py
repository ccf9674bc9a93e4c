"""A gateway changes its keys over a real TLS line: its life goes on wherever the power is cut, and the old key ends."""

from __future__ import annotations

import sqlite3
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_edge import enrol as edge
from murmure_edge import rotate as edge_rotate
from murmure_edge.config import load, load_record_key, load_trust
from murmure_edge.folders import prepare_folders
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.outbox import Outbox
from murmure_edge.publisher import Identity, Publisher
from murmure_ingest.archive import Archive
from murmure_ingest.gateways import publish_policy
from murmure_ingest.intake import Duplicate, Intake, Stored
from murmure_ingest.rotation import unsigned_changes
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.policy import parse
from murmure_privacy.release import Health, Message

MIDNIGHT_S = 1_795_734_000  # 2026-11-27 00:00 in Paris, half a day after the centre's clock
QUARTER_S = 900
MECHANISM = DiscreteGaussian()
POLICY = """policy = 1
site = "plaza"
version = 1
timezone = "Europe/Paris"
decision = "Délibération n° 1"
reason = "Essai."
valid_from = 2026-11-01
valid_until = 2027-11-30

[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = { crossings = 1 }
epsilon = 1.0
nodes = { "15min" = 1 }
""".encode()
WRITES = 5  # new keys, words, TLS, record key, done: a cut may come before each of them, and before the clearing up


class PowerCut(BaseException):
    """Nothing after it is done."""


@dataclass
class Gateway:
    """An enrolled gateway: the real ledger, gate, seal and outbox of `sense`, fed by hand."""

    home: Path
    at_s: int = MIDNIGHT_S

    @property
    def secret(self) -> bytes:
        return load_record_key(self.home / "data" / "record.key")

    def enrol(self, centre: Any, name: str = "gw-plaza") -> Gateway:
        edge.enrol(centre.offer(name).text, centre.address, edge.Layout.beside(self.home / "gateway.toml"), "0.1.0")
        return self

    def live(self, quarters: int) -> None:
        """Starts, seals one message for each quarter-hour, and stops."""
        config = load(self.home / "gateway.toml")
        trust = load_trust(config)
        prepare_folders(config)
        with closing(GatewayDb.open(config.data / "gateway.db")) as db:
            outbox = Outbox(config.outbox, print, db.message)
            identity = Identity(trust.gateway, trust.quartier, trust.site, self.secret)
            publisher = Publisher(db, identity, MECHANISM, lambda message, _: outbox.put(message.seq), print)
            outbox.start(db.settled + 1, db.next_message()[0] - 1)
            publisher.start(self.at_s)
            if publisher.policy is None:
                publisher.adopt(parse(POLICY, "policy"), self.at_s)
            for _ in range(quarters):
                publisher.add("plaza/footfall", [((self.at_s + at) * 1000, 0) for at in range(0, QUARTER_S, 60)])
                self.at_s += QUARTER_S
                publisher.advance(self.at_s)

    def messages(self) -> list[bytes]:
        """Everything that it has sealed; nothing is dropped so soon."""
        with closing(sqlite3.connect(self.home / "data" / "gateway.db")) as db:
            return [sealed for (sealed,) in db.execute("SELECT sealed FROM outbox ORDER BY seq")]

    def take_receipt(self, settled_seq: int) -> None:
        """Lets what is settled go, as a receipt does."""
        with closing(GatewayDb.open(self.home / "data" / "gateway.db")) as db, db.transaction():
            db.settle(settled_seq)
            db._renew_head()

    def rotate(self, centre: Any, code: str) -> edge.Enrolled:
        return edge_rotate.rotate(code, centre.address, self.home / "gateway.toml", "0.1.0")

    def require_able_to_speak(self) -> None:
        """Its record key and its TLS files can be used as they lie."""
        assert len(self.secret) == 32
        broker = load(self.home / "gateway.toml").broker
        assert broker is not None and broker.tls is not None
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(broker.tls.certificate, broker.tls.key)


@dataclass
class Office:
    """The centre's archive and intake."""

    archive: Archive
    intake: Intake

    def hear(self, sealed: bytes, kind: str = "release") -> Any:
        return self.intake.accept(f"murmure/v1/centre/gw-plaza/{kind}", sealed)

    def key(self) -> bytes:
        line = self.archive.enrolment("gw-plaza")
        assert line is not None
        return line.record_key


@contextmanager
def opened(centre: Any) -> Iterator[Office]:
    archive = centre.archive()
    yield Office(archive, Intake(archive, RuleBook(archive)))
    archive.close()


def publish(centre: Any) -> None:
    with opened(centre) as office:
        publish_policy(office.archive, wire.seal_policy(POLICY, [("steward", centre.steward[0])]))


@pytest.fixture
def gateway(centre: Any, tmp_path: Path) -> Gateway:
    """An enrolled gateway of a centre that has published its policy."""
    made = Gateway(tmp_path / "gw").enrol(centre)
    publish(centre)
    return made


@contextmanager
def power_cut_after(writes: int) -> Iterator[None]:
    """The power goes after so many files were written, or, with WRITES, before the last clearing up."""
    done = 0
    real = edge.write_private

    def write(path: Path, text: str, mode: int = 0o600) -> None:
        nonlocal done
        if done == writes:
            raise PowerCut
        done += 1
        real(path, text, mode)

    def cut(*_: object) -> None:
        raise PowerCut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge, "write_private", write)
        patch.setattr(edge_rotate, "write_private", write)
        patch.setattr(edge_rotate, "overwrite", cut)
        try:
            yield
        except PowerCut:
            return
        raise AssertionError("it was not so far")


@contextmanager
def line_cut(centre: Any) -> Iterator[None]:
    """The centre hears the request, and its answer is lost."""
    real = centre.door.answer

    def answer(request: bytes) -> bytes:
        real(request)
        raise EOFError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(centre.door, "answer", answer)
        with pytest.raises(edge.EnrolError, match="try again with the same code"):
            yield


def forged(secret: bytes, like: bytes, **changes: Any) -> bytes:
    """Returns another message than `like`, whoever signed that, signed with a stolen key."""
    envelope = wire.unwrap(like)
    message = replace(wire.open_envelope(envelope, b"", lambda *_: None), boot=77)
    assert isinstance(message, Message)
    return wire.seal_message(replace(message, **changes), secret)


def test_a_gateway_goes_on_under_new_keys(centre: Any, gateway: Gateway) -> None:
    """Both keys are new; id, ledger, numbers and chain are the same, and all is filed once."""
    gateway.live(3)
    before = {name: (gateway.home / name).read_bytes() for name in ("data/record.key", "send/gateway.key")}
    done = gateway.rotate(centre, centre.offer_rotation().text)
    assert (done.gateway, done.words) == ("gw-plaza", centre.claims.words("gw-plaza"))
    assert all((gateway.home / name).read_bytes() != old for name, old in before.items())
    assert not (gateway.home / "data" / "rotation.json").exists()
    gateway.require_able_to_speak()
    gateway.live(2)
    with opened(centre) as office:
        assert [type(office.hear(sealed)) for sealed in gateway.messages()] == [Stored] * 5
        assert office.key() == wire.public_key(gateway.secret)
        assert office.archive.totals("gw-plaza").settled_seq == 5 and not office.archive.cloned("gw-plaza")
        assert list(unsigned_changes(office.archive)) == []


def test_the_old_key_speaks_until_the_new_one_has(centre: Any, gateway: Gateway) -> None:
    """The centre knows of the new key, the gateway was cut off before it: what it seals meanwhile is filed."""
    code = centre.offer_rotation().text
    with line_cut(centre):
        gateway.rotate(centre, code)
    gateway.live(2)
    with opened(centre) as office:
        assert [type(office.hear(sealed)) for sealed in gateway.messages()] == [Stored] * 2
    gateway.live(1)
    gateway.rotate(centre, code)
    gateway.live(1)
    with opened(centre) as office:
        *_, third, fourth = gateway.messages()
        assert isinstance(office.hear(fourth), Stored), "the new key speaks first"
        assert isinstance(office.hear(third), Stored), "and what the old one had sealed by then is still filed"


@pytest.mark.parametrize("writes", range(WRITES + 1))
def test_a_power_cut_leaves_a_gateway_that_speaks(centre: Any, gateway: Gateway, writes: int) -> None:
    """Wherever it falls: the gateway goes on with the old or the new key, and the same command mends the rest."""
    gateway.live(1)
    code = centre.offer_rotation().text
    old = gateway.secret
    with power_cut_after(writes):
        gateway.rotate(centre, code)
    gateway.require_able_to_speak()
    assert (gateway.secret != old) == (writes > 3)
    gateway.live(1)
    done = gateway.rotate(centre, code)
    assert gateway.rotate(centre, code) == done and done.words == centre.claims.words("gw-plaza")
    assert gateway.secret != old and not (gateway.home / "data" / "rotation.json").exists()
    gateway.live(1)
    with opened(centre) as office:
        assert [type(office.hear(sealed)) for sealed in reversed(gateway.messages())] == [Stored] * 3


steps = st.lists(
    st.one_of(
        st.tuples(st.just("live"), st.integers(1, 3)),
        st.tuples(st.just("rotate"), st.integers(0, WRITES)),
        st.tuples(st.just("rotate"), st.none()),
        st.tuples(st.just("line"), st.none()),
        st.tuples(st.just("send"), st.lists(st.integers(0, 30), max_size=8)),
        st.tuples(st.just("receipt"), st.none()),
        st.tuples(st.just("thief"), st.integers(0, 30)),
    ),
    max_size=12,
)


STORIES: dict[str, list[tuple[str, Any]]] = {
    "cut before the switch, and sealed on": [("live", 2), ("rotate", 3), ("live", 1), ("send", [0, 3]), ("live", 1)],
    "cut after the switch": [("rotate", 4), ("live", 1), ("send", [1, 1, 0]), ("rotate", 5), ("thief", 0)],
    "twice, and nothing was sent": [("live", 1), ("rotate", None), ("live", 1), ("rotate", None), ("thief", 1)],
    "an answer lost, receipts meanwhile": [("send", [0]), ("receipt", None), ("line", None), ("live", 2), ("thief", 0)],
    "a thief between": [("rotate", None), ("live", 2), ("send", [2]), ("thief", 0), ("thief", 1), ("send", [0])],
}


@pytest.mark.parametrize("story", STORIES)
def test_every_message_is_filed_once_whatever_is_cut(
    centre_in: Callable[[Path], AbstractContextManager[Any]], story: str
) -> None:
    """What may happen to a change of keys, by example."""
    play(centre_in, STORIES[story])


@pytest.mark.long
@settings(max_examples=60)
@given(steps=steps)
def test_no_order_of_cuts_and_deliveries_loses_or_doubles_a_message(
    centre_in: Callable[[Path], AbstractContextManager[Any]], steps: list[tuple[str, Any]]
) -> None:
    """Whatever is cut, sent late, twice, in any order or not at all at first."""
    play(centre_in, steps)


def play(centre_in: Callable[[Path], AbstractContextManager[Any]], steps: list[tuple[str, Any]]) -> None:
    """In the end every message is filed once. Whoever has a key that is over is refused every time, and leaves nothing
    behind."""
    with TemporaryDirectory() as folder, centre_in(Path(folder, "centre")) as centre:
        gateway = Gateway(Path(folder, "gw")).enrol(centre)
        publish(centre)
        gateway.live(1)
        stolen, code = [gateway.secret], centre.offer_rotation().text
        with opened(centre) as office:
            for step, how in steps:
                if step == "live":
                    gateway.live(how)
                elif step == "send":
                    deliver(office, gateway, how)
                elif step == "receipt":
                    gateway.take_receipt(office.archive.totals("gw-plaza").settled_seq)
                elif step == "thief":
                    steal(office, gateway, stolen, how)
                else:
                    rotate_somehow(centre, gateway, code, step, how)
                    if step == "rotate" and how is None:
                        stolen.append(gateway.secret)
                        code = centre.offer_rotation().text
            gateway.rotate(centre, code)
            gateway.live(1)
            messages = gateway.messages()
            words = [office.hear(sealed) for sealed in reversed(messages)]
            assert all(isinstance(word, Stored | Duplicate) for word in words)
            assert [m.sealed for m in office.archive.messages("gw-plaza")] == messages
            assert office.archive.conflicts() == [] and list(unsigned_changes(office.archive)) == []
            assert office.archive.node_count() == len(messages)
            for secret in stolen:
                assert office.hear(forged(secret, messages[0])).reason == "retired_key"


def rotate_somehow(centre: Any, gateway: Gateway, code: str, step: str, writes: int | None) -> None:
    if step == "line":
        if (gateway.home / "data" / "rotation.json").exists():  # after the switch it needs no line
            return
        with line_cut(centre):
            gateway.rotate(centre, code)
    elif writes is None:
        gateway.rotate(centre, code)
    else:
        try:
            with power_cut_after(writes):
                gateway.rotate(centre, code)
        except AssertionError:
            return  # less was left to write
        gateway.require_able_to_speak()


def deliver(office: Office, gateway: Gateway, which: list[int]) -> None:
    messages = gateway.messages()
    for number in which:
        assert isinstance(office.hear(messages[number % len(messages)]), Stored | Duplicate)


def steal(office: Office, gateway: Gateway, stolen: list[bytes], which: int) -> None:
    """Whoever stole earlier keys says new things, contradicts old ones and reports health, once they are over."""
    messages = gateway.messages()
    like = messages[which % len(messages)]
    past = {line.record_key for line in office.archive.lines_of("gw-plaza")} - {office.key()}
    before = len(list(office.archive.messages()))
    for secret in stolen:
        if wire.public_key(secret) not in past:
            continue
        for sealed in (
            forged(secret, like),
            forged(secret, like, seq=len(messages) + 1, previous=wire.digest(messages[-1])),
            forged(secret, like, seq=len(messages) + 2),
        ):
            assert office.hear(sealed).reason == "retired_key"
        report = Health("gw-plaza", "centre", 0, 1 << 30, 1 << 30, "0.1", (), 0, "ok", None, 1024)
        assert office.hear(wire.seal_health(report, secret), "health").reason == "retired_key"
    assert len(list(office.archive.messages())) == before and office.archive.conflicts() == []
