"""A gateway changes its keys over a real TLS line: its life goes on wherever the power is cut, and the old key ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_dashboards import journal
from murmure_edge import enrol as edge
from murmure_edge import rotate as edge_rotate
from murmure_edge import send
from murmure_edge.config import load, load_record_key, load_trust
from murmure_edge.folders import prepare_folders
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.outbox import Outbox
from murmure_edge.publisher import Identity, Publisher
from murmure_edge.uplink import Acknowledged, Topics, Uplink, UplinkLost
from murmure_ingest.adoption import adopt
from murmure_ingest.archive import Archive
from murmure_ingest.backup import back_up, restore
from murmure_ingest.broker import catch_up
from murmure_ingest.certificates import Authority
from murmure_ingest.config import BrokerConfig, Tls
from murmure_ingest.gateways import publish_policy
from murmure_ingest.intake import Duplicate, Intake, Stored
from murmure_ingest.receipts import centre_key
from murmure_ingest.rotation import unsigned_changes
from murmure_ingest.rules import RuleBook
from murmure_ingest.subscriber import Subscriber
from murmure_privacy import wire
from murmure_privacy.enrolment import WAITING_LIMIT, canonical, proof, read_rotation
from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.policy import parse
from murmure_privacy.release import Health, Message
from murmure_privacy.sources import Site

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
WRITES = 6  # new keys, words, TLS key, its copy, record key, done: a cut may come before each, and before clearing up


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
    yield Office(archive, Intake(archive, RuleBook(archive), lambda: 1 << 40))
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
    certificate = (gateway.home / "send" / "gateway.crt").read_bytes()
    assert (gateway.home / "send" / "gateway.key").read_bytes().endswith(certificate)
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
    assert (gateway.secret != old) == (writes > 4)
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
    "cut after the switch": [("rotate", 5), ("live", 1), ("send", [1, 1, 0]), ("rotate", 6), ("thief", 0)],
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


def test_sense_is_stopped_meanwhile(centre: Any, gateway: Gateway) -> None:
    """While it holds the ledger nothing is asked and nothing is changed: it would seal what the list does not have."""
    code = centre.offer_rotation().text
    before = gateway.secret
    with (
        closing(GatewayDb.open(gateway.home / "data" / "gateway.db")),
        pytest.raises(MurmureError, match="stop the other `sense` first"),
    ):
        gateway.rotate(centre, code)
    assert gateway.secret == before and not (gateway.home / "data" / "rotation.json").exists()
    gateway.rotate(centre, code)


def test_no_secret_crosses_the_line(centre: Any, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request holds neither the code nor any key's secret, old or new; the new files are their owner's alone."""
    seen: list[bytes] = []
    real = centre.door.answer
    monkeypatch.setattr(centre.door, "answer", lambda request: seen.append(request) or real(request))  # type: ignore[func-returns-value]
    old, claim = gateway.secret, centre.offer_rotation()
    gateway.rotate(centre, claim.text)
    (request,) = seen
    tls_key = gateway.home / "send" / "gateway.key"
    key_lines = tls_key.read_bytes().partition(b"-----END")[0].splitlines()[1:]
    secrets = [old.hex().encode(), gateway.secret.hex().encode(), claim.secret.hex().encode(), *key_lines]
    assert not any(secret in request for secret in secrets) and claim.text.encode() not in request
    modes = {path.stat().st_mode & 0o777 for path in (tls_key, gateway.home / "data" / "record.key")}
    assert modes == {0o600}


def test_a_code_on_the_wrong_gateway_is_not_spent(centre: Any, gateway: Gateway, tmp_path: Path) -> None:
    """Another gateway of the same centre is refused, with its keys as they were; then the right one uses the code."""
    other = Gateway(tmp_path / "other").enrol(centre, "gw-other")
    code, before = centre.offer_rotation().text, other.secret
    with pytest.raises(edge.EnrolError, match="the request is not gw-plaza's; give each gateway its own code"):
        other.rotate(centre, code)
    assert other.secret == before
    gateway.rotate(centre, code)


def test_each_code_is_for_its_own_purpose(centre: Any, gateway: Gateway, tmp_path: Path) -> None:
    """A code for new keys enrols nobody, a code for a new gateway changes no keys, and neither is spent by the try."""
    rotation, enrolment = centre.offer_rotation().text, centre.offer("gw-new").text
    layout = edge.Layout.beside(tmp_path / "new" / "gateway.toml")
    with pytest.raises(edge.EnrolError, match="for new keys of gw-plaza, which is enrolled already: type it there"):
        edge.enrol(rotation, centre.address, layout, "0.1.0")
    with pytest.raises(edge.EnrolError, match="it is for a new gateway, gw-new; to change this one's keys"):
        gateway.rotate(centre, enrolment)
    gateway.rotate(centre, rotation)
    edge.enrol(enrolment, centre.address, layout, "0.1.0")
    with pytest.raises(ConfigError, match="is not there"):
        edge_rotate.rotate(rotation, centre.address, tmp_path / "nowhere" / "gateway.toml", "0.1.0")


def test_who_has_the_paper_alone_gets_nothing(centre: Any, gateway: Gateway, tmp_path: Path) -> None:
    """A photograph of the code and no old key: refused, and the gateway can still use it."""
    claim, thief = centre.offer_rotation(), Gateway(tmp_path / "thief")
    shutil.copytree(gateway.home, thief.home)
    edge.write_private(thief.home / "data" / "record.key", wire.new_key()[0].hex())
    with pytest.raises(edge.EnrolError, match="not signed by the key that speaks for gw-plaza"):
        thief.rotate(centre, claim.text)
    gateway.rotate(centre, claim.text)
    with pytest.raises(edge.EnrolError, match="it was used already, for gw-plaza"):
        thief.rotate(centre, claim.text)


def test_a_recorded_request_is_worth_nothing(centre: Any, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had seen inside the line and says the same again, or an earlier request, changes nothing."""
    seen: list[bytes] = []
    real = centre.door.answer
    monkeypatch.setattr(centre.door, "answer", lambda request: seen.append(request) or real(request))  # type: ignore[func-returns-value]
    code = centre.offer_rotation().text
    with power_cut_after(2):
        gateway.rotate(centre, code)
    gateway.live(2)
    gateway.rotate(centre, code)
    earlier, used = seen
    with opened(centre) as office:
        lines, words = office.archive.enrolment_lines(), centre.claims.words("gw-plaza")
        assert json.loads(real(used))["gateway"] == "gw-plaza", "the same answer, as after a cut line"
        assert "a later request already" in json.loads(real(earlier))["error"]
        gateway.live(1)
        for sealed in reversed(gateway.messages()):
            assert isinstance(office.hear(sealed), Stored)
        assert "not signed by the key that speaks" in json.loads(real(earlier))["error"]
        assert len(office.archive.enrolment_lines()) == len(lines) + 1
        assert centre.claims.words("gw-plaza") == words


def test_too_much_that_waits_is_sent_first(centre: Any, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list has an end; one message less and it goes."""
    gateway.live(3)
    monkeypatch.setattr(edge_rotate, "WAITING_LIMIT", 2)
    code = centre.offer_rotation().text
    with pytest.raises(edge.EnrolError, match=r"3 messages wait .* at most 2 may .* nothing was changed"):
        gateway.rotate(centre, code)
    gateway.take_receipt(1)
    gateway.rotate(centre, code)


def test_the_longest_list_fits_into_a_request(centre: Any, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six weeks of quarter-hours wait: the request is taken, and the last of them is filed."""
    gateway.live(1)
    last = {WAITING_LIMIT: gateway.messages()[0]}
    rows = {seq: bytes([seq % 256]) for seq in range(1, WAITING_LIMIT)} | last
    monkeypatch.setattr(GatewayDb, "rows", lambda _: rows)
    monkeypatch.setattr(GatewayDb, "next_message", lambda _: (WAITING_LIMIT + 1, bytes(32)))
    gateway.rotate(centre, centre.offer_rotation().text)
    with opened(centre) as office:
        (new,) = office.archive.named_keys("gw-plaza")
        ((statement, _),) = office.archive.rotations("gw-plaza", new)
        assert read_rotation(statement).lists(WAITING_LIMIT, wire.digest(last[WAITING_LIMIT]))


def test_a_wrong_answer_changes_no_key(centre: Any, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of another authority or for another gateway, with a right proof: the old keys stay, and speak."""
    claim = centre.offer_rotation()
    real = centre.door.answer
    other = centre.config.data_dir.parent / "other"
    other.mkdir()
    strange = Authority(other, centre.now[0])

    def lie(request: bytes, change: dict[str, str]) -> bytes:
        body = {**json.loads(real(request)), **change}
        del body["proof"]
        return canonical(
            {**body, "proof": proof(claim.key, "centre", centre.door.fingerprint, request, canonical(body))}
        )

    before = gateway.secret
    for change in (
        lambda request: {"gateway": "gw-other"},
        lambda request: {"certificate": strange.issue(json.loads(request)["csr"], "gw-plaza", centre.now[0])},
        lambda request: {
            "certificate": strange.issue(json.loads(request)["csr"], "gw-plaza", centre.now[0]),
            "authority": strange.pem,
        },
        lambda request: {"certificate": "hello"},
    ):
        with monkeypatch.context() as patch:
            patch.setattr(centre.door, "answer", lambda request, change=change: lie(request, change(request)))
            with pytest.raises(edge.EnrolError, match="the centre's answer is not whole or cannot be"):
                gateway.rotate(centre, claim.text)
        assert gateway.secret == before
        gateway.require_able_to_speak()
    gateway.rotate(centre, claim.text)


def test_a_gateway_without_a_network_of_its_own_changes_its_record_key(centre: Any, gateway: Gateway) -> None:
    """In a white zone there is no broker and no TLS key: in the workshop it gets a new record key all the same."""
    toml = gateway.home / "gateway.toml"
    before, _, after = toml.read_text().partition("[broker]")
    toml.write_text(before + "[[port]]" + after.partition("[[port]]")[2])
    old = gateway.secret
    gateway.rotate(centre, centre.offer_rotation().text)
    assert gateway.secret != old


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_leaves_no_file_of_its_own(centre: Any, gateway: Gateway) -> None:
    """The technician is root, the folders are of the two users: wherever the power is cut, each finds its own files."""
    for name, user in (("data", 1111), ("send", 2222)):
        for path in (gateway.home / name, *(gateway.home / name).iterdir()):
            os.chown(path, user, user)
    for writes in range(WRITES):
        with power_cut_after(writes):
            gateway.rotate(centre, centre.offer_rotation().text)
        for name, user in (("data", 1111), ("send", 2222)):
            readable = [path for path in (gateway.home / name).iterdir() if not path.name.endswith(".new")]
            assert {path.stat().st_uid for path in readable} == {user}


def test_the_command_from_the_outside(centre: Any, gateway: Gateway, tmp_path: Path) -> None:
    """`gateway rotate --json` gives a code, `edge enrol --rotate` takes it; mistakes are one line and no traceback."""
    ingest_toml = tmp_path / "centre" / "ingest.toml"
    ingest_toml.write_text(ingest_toml.read_text() + f"port = {centre.server.port}\n")
    offered = murmure("gateway", "rotate", "gw-plaza", "--config", str(ingest_toml), "--json")
    slot = json.loads(offered.stdout)
    assert (slot["gateway"], slot["site"]) == ("gw-plaza", "plaza")
    listed = murmure("gateway", "list", "--config", str(ingest_toml))
    assert "gw-plaza  centre/plaza  may change its keys until" in listed.stdout
    toml = str(gateway.home / "gateway.toml")
    centre.now[0] = datetime.now(UTC)
    done = murmure("edge", "enrol", slot["qr"], "--rotate", "--config", toml)
    words = centre.claims.words("gw-plaza")
    assert done.returncode == 0 and "gw-plaza has new keys" in done.stdout and words in done.stdout
    failed = murmure("edge", "enrol", slot["qr"], "--rotate", "--config", "no.toml")
    assert failed.returncode == 2 and "is not there" in failed.stderr and failed.stderr.count("\n") == 1
    printed = murmure("gateway", "rotate", "gw-plaza", "--config", str(ingest_toml))
    assert "--rotate" in printed.stdout and "█" in printed.stdout


@pytest.mark.broker
def test_the_broker_lets_both_certificates_in_until_the_new_key_has_spoken(
    centre: Any, gateway: Gateway, tmp_path: Path, tls_mosquitto: Callable[..., Any]
) -> None:
    """Over Debian's mosquitto and the real `send`: what waited and what is new arrive and are settled; then the
    certificate before stands in the revocation list, and whoever kept its key is not let in any more."""
    gateway.live(2)
    kept = tmp_path / "stolen.key"
    shutil.copy(gateway.home / "send" / "gateway.key", kept)
    with tls_mosquitto(centre.config, tmp_path / "broker") as running:
        toml = gateway.home / "gateway.toml"
        toml.write_text(toml.read_text().replace("port = 18883", f"port = {running.port}\nresend_s = 1"))
        gateway.rotate(centre, centre.offer_rotation().text)
        gateway.live(1)
        with connected(centre, running.port), sending(gateway):
            until(lambda: settled(centre) == 3, "all is filed")
        broker = load(toml).broker
        assert broker is not None and broker.tls is not None
        stolen = replace(broker, tls=replace(broker.tls, certificate=kept, key=kept))
        Uplink(stolen, "gw-plaza", Topics.of("centre", "gw-plaza"), time.monotonic, threading.Event()).close()
    told = catch_up(centre.config, centre.now[0])  # of a folder that is in order: none that a backup has put back
    assert told is not None and "authority.crl: certificates of before a change of keys that are taken back: 1" in told
    with tls_mosquitto(centre.config, tmp_path / "broker") as running:  # prepared anew, as every day
        stop, topics = threading.Event(), Topics.of("centre", "gw-plaza")
        with pytest.raises(UplinkLost):
            Uplink(replace(stolen, port=running.port), "gw-plaza", topics, time.monotonic, stop)
        Uplink(replace(broker, port=running.port), "gw-plaza", topics, time.monotonic, stop).close()


@pytest.mark.broker
@pytest.mark.parametrize("what", ["the whole centre", "the archive alone"])
def test_a_key_that_changed_after_the_backup_is_over_for_the_broker_too(
    centre: Any, gateway: Gateway, tmp_path: Path, tls_mosquitto: Callable[..., Any], what: str
) -> None:
    """The register has the change back from the published log, and the broker lets the present certificate in, which no
    restored table knows, and not the one before. Where the archive alone was put back, the table knows both."""
    gateway.live(2)
    kept = tmp_path / "stolen.key"
    shutil.copy(gateway.home / "send" / "gateway.key", kept)
    with opened(centre) as office:
        for sealed in gateway.messages():
            office.hear(sealed)
    (tmp_path / "disk").mkdir()
    back_up(centre.config, tmp_path / "disk", centre.now[0], keep=1)
    gateway.rotate(centre, centre.offer_rotation().text)
    gateway.live(1)
    secret = centre_key(centre.config.data_dir)
    with opened(centre) as office:
        for sealed in gateway.messages():
            office.hear(sealed)
        office.archive.sign_log(secret)
        for path, data in journal.files(office.archive, journal.NOTHING, lambda _: None):
            (tmp_path / "site" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "site" / path).write_bytes(data)

    config = replace(centre.config, data_dir=tmp_path / "restored")
    restore(tmp_path / "disk", config)
    if what == "the archive alone":
        shutil.copy(centre.config.data_dir / "certificates.db", config.data_dir)
    with closing(Archive.open(config.archive)) as archive:
        done = adopt(archive, Site(str(tmp_path / "site")).published(), wire.public_key(secret), "site")
    assert done.register == 1
    toml = gateway.home / "gateway.toml"
    for _ in range(2):  # and so it stays on the next day
        with tls_mosquitto(config, tmp_path / "broker") as running:
            toml.write_text(re.sub(r"port = \d+", f"port = {running.port}", toml.read_text()))
            broker = load(toml).broker
            assert broker is not None and broker.tls is not None
            stop, topics = threading.Event(), Topics.of("centre", "gw-plaza")
            stolen = replace(broker, tls=replace(broker.tls, certificate=kept, key=kept))
            with pytest.raises(UplinkLost):
                Uplink(stolen, "gw-plaza", topics, time.monotonic, stop)
            link = Uplink(broker, "gw-plaza", topics, time.monotonic, stop)
            token = link.publish(topics.release, b"mine")
            heard = (event for _ in range(600) for event in link.turn(0.1))
            assert next(heard) == Acknowledged(token, None)  # it has its rights, too
            link.close()


# --- helpers ---------------------------------------------------------------------------------------------------------


def murmure(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "murmure.cli", *words], capture_output=True, text=True, timeout=60, check=False
    )


def until(true: Callable[[], object], what: str) -> None:
    patience = time.monotonic() + 60
    while not true():
        assert time.monotonic() < patience, what
        time.sleep(0.05)


def settled(centre: Any) -> int:
    with closing(centre.archive()) as archive:
        seq: int = archive.totals("gw-plaza").settled_seq
    return seq


@contextmanager
def connected(centre: Any, port: int) -> Iterator[None]:
    """The centre listens at the broker, over TLS, on a thread."""
    folder = centre.config.data_dir / "broker"
    tls = Tls(centre.config.data_dir / "authority.crt", folder / "ingest.crt", folder / "ingest.key")
    config = replace(centre.config, broker=BrokerConfig("localhost", port, tls=tls))
    stop = threading.Event()

    def run() -> None:
        with closing(Archive.open(config.archive)) as archive:
            intake = Intake(archive, RuleBook(archive), lambda: 1 << 40)
            Subscriber(config, archive, intake, centre_key(config.data_dir), print).run(stop)

    yield from _while_running(run, stop)


@contextmanager
def sending(gateway: Gateway) -> Iterator[None]:
    """The gateway's `send` on a thread."""
    config = load(gateway.home / "gateway.toml")
    stop = threading.Event()

    def run() -> None:
        send.run(config, load_trust(config), stop, lambda: int(time.time()), time.monotonic, print)

    yield from _while_running(run, stop)


def _while_running(run: Callable[[], None], stop: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
