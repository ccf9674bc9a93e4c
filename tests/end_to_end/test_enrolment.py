"""A gateway is enrolled by one code over a real TLS line: keys made on the device, proofs both ways."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from murmure_edge import enrol as edge
from murmure_edge.config import load, load_record_key, load_trust
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.uplink import Acknowledged, Topics, Uplink, UplinkLost
from murmure_ingest.archive import Archive, database
from murmure_ingest.certificates import enrolment_door
from murmure_ingest.enrolment import receive
from murmure_ingest.gateways import Pinned, RegisterError, pinned_versions, publish_policy, revoke
from murmure_privacy import enrolment, wire
from murmure_privacy.enrolment import Claim, ClaimError, canonical, proof
from murmure_privacy.errors import ConfigError

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def enrol(code: str, address: str, folder: Path) -> edge.Enrolled:
    return edge.enrol(code, address, edge.Layout.beside(folder / "gateway.toml"), "0.1.0")


def test_one_code_makes_a_complete_gateway(centre: Any, tmp_path: Path) -> None:
    """Its files load, its record key is the one in the register, both ends have the same six words."""
    claim = centre.offer()
    done = enrol(claim.text, centre.address, tmp_path / "gw")
    config = load(tmp_path / "gw" / "gateway.toml")
    trust = load_trust(config)
    assert (done.gateway, done.site, trust.quartier) == ("gw-plaza", "plaza", "centre")
    assert config.broker is not None and config.broker.port == 18883
    assert trust.stewards == (centre.steward[1],) and config.ports[0].device == "tfluna"
    archive = centre.archive()
    line, told = archive.enrolment("gw-plaza"), json.loads(next(archive.log_entries()))
    archive.close()
    assert trust.ceiling is not None and told["ceiling_rho_micro"] == trust.ceiling.rho_micro
    assert line is not None and line.record_key == wire.public_key(load_record_key(config.data / "record.key"))
    assert centre.claims.words("gw-plaza") == done.words
    assert not (config.data / "enrolment.json").exists()


def test_private_files_are_private(centre: Any, tmp_path: Path) -> None:
    """Keys can be read by their owner alone, on both sides; certificates by all."""
    enrol(centre.offer().text, centre.address, tmp_path / "gw")
    home = tmp_path / "gw"
    modes = {
        path.name: path.stat().st_mode & 0o777
        for path in (home / "data" / "record.key", home / "send" / "gateway.key", home / "send" / "gateway.crt")
    }
    assert modes == {"record.key": 0o600, "gateway.key": 0o600, "gateway.crt": 0o644}
    data = centre.config.data_dir
    assert {(data / name).stat().st_mode & 0o777 for name in ("authority.key", "enrolment.key", "claims.db")} == {0o600}


def test_no_secret_crosses_the_line(centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request holds neither the code, nor the record key's secret, nor the TLS key's."""
    seen: list[bytes] = []
    real = centre.door.answer
    monkeypatch.setattr(centre.door, "answer", lambda request: seen.append(request) or real(request))  # type: ignore[func-returns-value]
    claim = centre.offer()
    enrol(claim.text, centre.address, tmp_path / "gw")
    home = tmp_path / "gw"
    (request,) = seen
    key_lines = (home / "send" / "gateway.key").read_bytes().partition(b"-----END")[0].splitlines()[1:]
    secrets = [(home / "data" / "record.key").read_bytes().strip(), claim.secret.hex().encode(), *key_lines]
    assert not any(secret in request for secret in secrets) and claim.text.encode() not in request


def test_an_archive_that_another_process_holds_is_told_in_one_line(
    centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The technician hears what to do, and the same code ends well later."""
    claim = centre.offer()
    archive = centre.archive()
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.1)
    with (
        archive.transaction(),
        pytest.raises(edge.EnrolError, match=r"refuses: [^\n]*trying again$"),
    ):
        enrol(claim.text, centre.address, tmp_path / "gw")
    archive.close()
    enrol(claim.text, centre.address, tmp_path / "gw")
    assert centre.registered() == ["gw-plaza"]


def test_a_code_serves_one_gateway(centre: Any, tmp_path: Path) -> None:
    """A second gateway with the same code is refused, is told so, and has no files but keys of its own."""
    claim = centre.offer()
    enrol(claim.text, centre.address, tmp_path / "one")
    with pytest.raises(edge.EnrolError, match="it was used already, for gw-plaza; if not by you"):
        enrol(claim.text, centre.address, tmp_path / "two")
    assert not (tmp_path / "two" / "gateway.toml").exists() and centre.registered() == ["gw-plaza"]


def test_a_lost_answer_is_asked_for_again(centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is cut after the centre has registered it: the same command again ends well, with the same keys."""
    claim = centre.offer()
    real = centre.door.answer

    def cut(request: bytes) -> bytes:
        real(request)
        raise EOFError

    with monkeypatch.context() as patch:
        patch.setattr(centre.door, "answer", cut)
        with pytest.raises(edge.EnrolError, match="try again with the same code"):
            enrol(claim.text, centre.address, tmp_path / "gw")
    done = enrol(claim.text, centre.address, tmp_path / "gw")
    assert centre.claims.words("gw-plaza") == done.words and centre.registered() == ["gw-plaza"]
    archive = centre.archive()
    assert len(archive.enrolment_lines()) == 1
    archive.close()


def test_a_power_cut_between_claim_and_register_is_made_good(
    centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code is bound and the register knows nothing: the gateway's next try registers it."""
    claim = centre.offer()

    def dies(*_: object) -> None:
        raise EOFError

    with monkeypatch.context() as patch:
        patch.setattr(centre.door, "_register", dies)
        with pytest.raises(edge.EnrolError):
            enrol(claim.text, centre.address, tmp_path / "gw")
    assert centre.registered() == []
    enrol(claim.text, centre.address, tmp_path / "gw")
    assert centre.registered() == ["gw-plaza"]


POLICY = """policy = 1
site = "plaza"
version = {version}
timezone = "Europe/Paris"
decision = "D 1"
reason = "R"
valid_from = 2026-11-01
valid_until = 2027-11-30

[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = {epsilon}
nodes = {{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }}
"""


def publish(centre: Any, version: int, epsilon: str, *others: bytes) -> None:
    """Publishes a policy of the site, signed by the centre's steward and others."""
    signers = [(f"s{number}", secret) for number, secret in enumerate((centre.steward[0], *others))]
    archive = centre.archive()
    sealed = wire.seal_policy(POLICY.format(version=version, epsilon=epsilon).encode(), signers)
    publish_policy(archive, sealed, now_s=int(centre.now[0].timestamp()))
    archive.close()


def pinned(folder: Path) -> int:
    return load_trust(load(folder / "gateway.toml")).policy_version


def pinned_after(centre: Any, folder: Path) -> list[int]:
    """Returns which version a gateway is told of whose code was offered at version 1: after a tightening, and after a
    loosening, that was published before it came."""
    enrol(centre.offer("gw-first").text, centre.address, folder / "first")
    publish(centre, 1, "1")
    found = []
    for version, epsilon in ((2, "0.5"), (3, "0.9")):
        claim = centre.offer(f"gw-{version}", pinned=Pinned(policy_version=version - 1))
        publish(centre, version, epsilon)
        enrol(claim.text, centre.address, folder / str(version))
        found.append(pinned(folder / str(version)))
    return found


def test_a_gateway_begins_with_the_newest_policy_of_its_first_contact(centre: Any, tmp_path: Path) -> None:
    """One that tightened after the offer holds at once; one that loosened is in its notice, and waits there too."""
    assert pinned_after(centre, tmp_path) == [2, 2]


@pytest.mark.parametrize("forgotten", ["first contact", "notice"])
def test_a_door_that_pins_at_another_instant_is_caught(
    centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    """One twin pins what was the newest at the offer, the other does not ask whether that is in its notice."""
    if forgotten == "first contact":
        monkeypatch.setattr(centre.door, "_pinned", lambda slot, now: slot.pinned)
    else:
        monkeypatch.setattr("murmure_ingest.enrolment.notice_until_s", lambda *_: 0)
    assert pinned_after(centre, tmp_path) == ([1, 2] if forgotten == "first contact" else [2, 3])


def test_what_was_pinned_before_the_line_was_cut_stays(
    centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says it already: a policy that is published before the gateway asks again changes nothing of it."""
    enrol(centre.offer("gw-first").text, centre.address, tmp_path / "first")
    publish(centre, 1, "1")
    claim = centre.offer()

    def dies(*_: object) -> None:
        raise EOFError

    with monkeypatch.context() as patch:
        patch.setattr(centre.door, "_answered", dies)
        with pytest.raises(edge.EnrolError):
            enrol(claim.text, centre.address, tmp_path / "gw")
    publish(centre, 2, "0.5")
    enrol(claim.text, centre.address, tmp_path / "gw")
    archive = centre.archive()
    assert pinned(tmp_path / "gw") == pinned_versions(archive)["gw-plaza"] == 1
    archive.close()


def test_the_door_is_shut_to_a_gateway_that_would_refuse_the_newest_policy(centre: Any, tmp_path: Path) -> None:
    """Its stewards sign too little of what the site has: the next version opens it, with the same code."""
    enrol(centre.offer("gw-first").text, centre.address, tmp_path / "first")
    second = wire.new_key()
    claim = centre.offer(stewards=(centre.steward[1], second[1]), signatures_required=2)
    publish(centre, 1, "1")
    with pytest.raises(edge.EnrolError, match=r"would refuse version 1, the newest, .* publish version = 2 that"):
        enrol(claim.text, centre.address, tmp_path / "gw")
    assert centre.registered() == ["gw-first"]
    publish(centre, 2, "1", second[0])
    enrol(claim.text, centre.address, tmp_path / "gw")
    assert pinned(tmp_path / "gw") == 2


@pytest.mark.parametrize(("after", "ends_well"), [(timedelta(hours=71.99), True), (timedelta(hours=72), False)])
def test_a_code_holds_for_72_hours(centre: Any, tmp_path: Path, after: timedelta, ends_well: bool) -> None:
    """And not for a second more."""
    claim = centre.offer()
    centre.now[0] = NOW + after
    if ends_well:
        enrol(claim.text, centre.address, tmp_path / "gw")
        return
    with pytest.raises(edge.EnrolError, match="older than 72 hours; ask the centre for a new one"):
        enrol(claim.text, centre.address, tmp_path / "gw")
    assert centre.registered() == []


def test_a_newer_code_ends_the_older_one(centre: Any, tmp_path: Path) -> None:
    """A gateway has one claim at a time: the paper that was lost is worth nothing."""
    first, second = centre.offer(), centre.offer()
    with pytest.raises(edge.EnrolError, match="knows no such code"):
        enrol(first.text, centre.address, tmp_path / "gw")
    enrol(second.text, centre.address, tmp_path / "gw")
    with pytest.raises(RegisterError, match="ids are never used twice"):
        centre.offer()


def test_guessing_gets_nobody_in(centre: Any, tmp_path: Path) -> None:
    """A code of the right form that was never given, and a known claim with the wrong proof, are refused alike."""
    claim = centre.offer()
    with pytest.raises(edge.EnrolError, match="knows no such code"):
        enrol(enrolment.new_claim(os.urandom(15), centre.door.fingerprint).text, centre.address, tmp_path / "a")
    fields = {"v": 1, "claim": claim.name, "record_key": wire.new_key()[1].hex(), "csr": "", "software": "x"}
    wrong = proof(bytes(32), "gateway", centre.door.fingerprint, canonical(fields))
    for given in ({"proof": wrong}, {"proof": None}, {}):
        assert b"not proven" in centre.door.answer(canonical({**fields, **given}))
    assert centre.registered() == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        *(b"", b"{}", b"[]", b"null", b"\xff", b'{"v":2}', b'{"v":1, "claim":"x"}', b"[" * 20_000, b'{"v":1,"v":1}'),
        *(b'{"claim":"\\ud800","v":1}', b'{"claim":7,"v":1}', b'{"claim":"0123","v":1}'),
    ],
    ids=range(12),
)
def test_what_is_no_request_is_refused(centre: Any, request_bytes: bytes) -> None:
    """Rubbish gets one line and changes nothing."""
    assert "error" in json.loads(centre.door.answer(request_bytes))
    assert centre.registered() == []


def test_another_centre_is_told_nothing(centre: Any, tmp_path: Path) -> None:
    """Whoever has another certificate than the code says is sent no byte of the request."""
    other = tmp_path / "other"
    other.mkdir()
    identity, _ = enrolment_door(other, NOW)
    heard: list[bytes] = []
    with (
        listening(identity, lambda line: heard.append(line.recv(4096))) as address,
        pytest.raises(edge.EnrolError, match=r"is not the centre that gave this code; .*; nothing was sent"),
    ):
        enrol(centre.offer().text, address, tmp_path / "gw")
    assert heard in ([b""], [])


def test_who_has_the_paper_but_not_the_claim_is_found_out(centre: Any, tmp_path: Path) -> None:
    """A centre's certificate and no knowledge of the code: its answer proves nothing, and nothing is written."""

    def lie(line: ssl.SSLSocket) -> None:
        line.recv(65536)
        answer = canonical({"v": 1, "gateway": "gw-evil", "proof": "00" * 32})
        line.sendall(len(answer).to_bytes(4, "big") + answer)

    with (
        listening(centre.door.identity, lie) as address,
        pytest.raises(edge.EnrolError, match="does not know the code: somebody is on the line"),
    ):
        enrol(centre.offer().text, address, tmp_path / "gw")
    assert not (tmp_path / "gw" / "gateway.toml").exists()


def test_words_differ_where_somebody_with_the_code_is_between(centre: Any, tmp_path: Path) -> None:
    """Who photographed the paper can register a key of his own and play the centre to the gateway: both ends end well,
    with other words. The twin is given a certificate of the same pin by hand, as 2^64 tries would."""
    claim = centre.offer()
    folder = tmp_path / "between"
    folder.mkdir()
    identity, fingerprint = enrolment_door(folder, NOW)

    def between(line: ssl.SSLSocket) -> None:
        request = receive(line)
        fields = json.loads(request)
        del fields["proof"], fields["possession"]
        thief = ed25519.Ed25519PrivateKey.generate()
        fields["record_key"] = thief.public_key().public_bytes_raw().hex()
        fields["possession"] = thief.sign(centre.door.fingerprint + canonical(fields)).hex()
        to_centre = {**fields, "proof": proof(claim.key, "gateway", centre.door.fingerprint, canonical(fields))}
        body = json.loads(centre.door.answer(canonical(to_centre)))
        del body["proof"]
        answer = canonical({**body, "proof": proof(claim.key, "centre", fingerprint, request, canonical(body))})
        line.sendall(len(answer).to_bytes(4, "big") + answer)

    with listening(identity, between) as address:
        done = enrol(Claim(claim.secret, fingerprint[:8]).text, address, tmp_path / "gw")
    words = centre.claims.words("gw-plaza")
    assert words is not None and done.words != words


def test_typing_errors_are_found_before_anything_is_sent(tmp_path: Path) -> None:
    """No line is opened for a code that cannot be right."""
    text = enrolment.new_claim(os.urandom(15), bytes(32)).text
    typed = ("Z" if text[0] != "Z" else "Y") + text[1:]
    with pytest.raises(ClaimError, match="one of its letters is wrong"):
        enrol(typed, "127.0.0.1:1", tmp_path / "gw")
    assert not (tmp_path / "gw").exists()


def test_an_enrolled_gateway_is_not_enrolled_over(centre: Any, tmp_path: Path) -> None:
    """Its files stay as they are; the mend is to wipe it first."""
    enrol(centre.offer().text, centre.address, tmp_path / "gw")
    before = (tmp_path / "gw" / "data" / "record.key").read_bytes()
    with pytest.raises(ConfigError, match="enrolled already; keep it, or take it away with 'murmure edge wipe'"):
        enrol(centre.offer("gw-other").text, centre.address, tmp_path / "gw")
    assert (tmp_path / "gw" / "data" / "record.key").read_bytes() == before


def test_a_replacement_ends_the_old_gateway_when_it_comes(centre: Any, tmp_path: Path) -> None:
    """The old one may speak until the new one has enrolled, and not after; the site's streams are the same."""
    enrol(centre.offer().text, centre.address, tmp_path / "old")
    claim = centre.offer("gw-new", replaces="gw-plaza")
    assert centre.registered() == ["gw-plaza"]
    enrol(claim.text, centre.address, tmp_path / "new")
    assert centre.registered() == ["gw-new"]
    streams = [load(tmp_path / name / "gateway.toml").ports[0].streams for name in ("old", "new")]
    assert streams[0] == streams[1] == {"footfall": "plaza/footfall"}
    for nobody in ("gw-nobody", "gw-plaza"):
        with pytest.raises(RegisterError, match="no active gateway of site plaza has this id"):
            centre.offer("gw-third", replaces=nobody)


def test_a_replacement_begins_with_what_its_site_has_spent(
    centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ledger counts the old gateway's days, opens nothing before them, and owes the centre none of it."""
    enrol(centre.offer().text, centre.address, tmp_path / "old")
    day_s = int(NOW.timestamp()) // 86_400 * 86_400
    charges = [("plaza/footfall", day_s - 86_400, day_s + 3600, 24_355)]
    monkeypatch.setattr(Archive, "charges", lambda *_: charges)
    enrol(centre.offer("gw-new", replaces="gw-plaza").text, centre.address, tmp_path / "new")
    db = GatewayDb.open(tmp_path / "new" / "data" / "gateway.db")
    assert db.ledger.spent_rho_micro("plaza/footfall", day_s - 1, day_s) == 24_355
    assert db.ledger.high_water_s(["plaza/footfall"]) == int(NOW.timestamp())
    assert db.charged_rho_micro() == 0
    db.close()
    assert not (tmp_path / "old" / "data" / "gateway.db").exists()


def test_a_gateway_after_a_revoked_one_begins_with_what_its_site_has_spent(
    centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that was cloned is revoked first, and then nobody can be replaced: the cap of the site's year goes on."""
    enrol(centre.offer().text, centre.address, tmp_path / "old")
    day_s = int(NOW.timestamp()) // 86_400 * 86_400
    monkeypatch.setattr(Archive, "charges", lambda *_: [("plaza/footfall", day_s - 86_400, day_s + 3600, 24_355)])
    archive = Archive.open(centre.config.archive)
    revoke(archive, "gw-plaza")
    archive.close()
    enrol(centre.offer("gw-new").text, centre.address, tmp_path / "new")
    db = GatewayDb.open(tmp_path / "new" / "data" / "gateway.db")
    assert db.ledger.spent_rho_micro("plaza/footfall", day_s - 1, day_s) == 24_355
    db.close()


@pytest.mark.parametrize("streams", [1, 60])
def test_a_thief_cannot_keep_a_site_without_a_new_gateway(
    streams: int, centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes of any instant and at any price, signed with the stolen key, are no reason to disbelieve the centre."""
    enrol(centre.offer().text, centre.address, tmp_path / "old")
    now_s = int(NOW.timestamp())
    charges = [
        (f"plaza/{number}", at_s, end_s, 1 << 53)
        for number in range(streams)
        for at_s, end_s in ((now_s - 372 * 86_400, now_s), (now_s, 1 << 32), (1 << 31, 1 << 32))
    ]
    charges += [(f"plaza/{n}", now_s - d * 86_400, now_s, d) for n in range(streams) for d in range(2, 40, 2)]
    monkeypatch.setattr(Archive, "charges", lambda *_: charges)
    enrol(centre.offer("gw-new", replaces="gw-plaza").text, centre.address, tmp_path / "new")
    assert centre.registered() == ["gw-new"]
    db = GatewayDb.open(tmp_path / "new" / "data" / "gateway.db")
    assert db.ledger.spent_rho_micro("plaza/0", now_s - 1, now_s) == 1 << 40, "more than any budget"
    db.close()


def test_two_claims_to_replace_one_gateway_end_in_one(centre: Any, tmp_path: Path) -> None:
    """Whoever comes second is refused: the gateway it was to take over from has ended."""
    enrol(centre.offer().text, centre.address, tmp_path / "old")
    first, second = (centre.offer(name, replaces="gw-plaza") for name in ("gw-one", "gw-two"))
    enrol(first.text, centre.address, tmp_path / "one")
    with pytest.raises(edge.EnrolError, match="no active gateway of site plaza has this id"):
        enrol(second.text, centre.address, tmp_path / "two")
    assert centre.registered() == ["gw-one"]


def test_what_was_spent_is_told_after_the_forerunner_can_spend_no_more(
    centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The register fails at first and the old gateway goes on for an hour: the answer holds that hour as well."""
    enrol(centre.offer().text, centre.address, tmp_path / "old")
    day_s = int(NOW.timestamp()) // 86_400 * 86_400
    charges = [("plaza/footfall", day_s, day_s + 3600, 100)]
    monkeypatch.setattr(Archive, "charges", lambda *_: charges)
    claim = centre.offer("gw-new", replaces="gw-plaza")
    with monkeypatch.context() as patch:
        patch.setattr(Archive, "enrol", lambda *_: (_ for _ in ()).throw(EOFError))
        with pytest.raises(edge.EnrolError):
            enrol(claim.text, centre.address, tmp_path / "new")
    assert centre.registered() == ["gw-plaza"]
    charges.append(("plaza/footfall", day_s, day_s + 7200, 900))
    enrol(claim.text, centre.address, tmp_path / "new")
    db = GatewayDb.open(tmp_path / "new" / "data" / "gateway.db")
    assert db.ledger.spent_rho_micro("plaza/footfall", day_s, day_s + 1) == 1000
    db.close()


def test_nobody_waits_while_what_lies_aside_is_read(
    centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The register is written and let go before anything is opened: another process may write, and finds the forerunner
    revoked. What it writes then belongs to a later instant than everything that is told."""
    enrol(centre.offer().text, centre.address, tmp_path / "old")
    now_s = int(NOW.timestamp())
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.0)
    real, met = Archive.charges, []

    def charges(self: Archive, site: str, from_s: int, also: Any = ()) -> Iterator[tuple[str, int, int, int]]:
        before = self.unkept_until(site)
        beside = Archive.open(centre.config.archive)
        with beside.transaction():
            met.append({line.gateway: line.status for line in beside.enrolments()})
            beside.note_unkept("gw-plaza", now_s)
        assert beside.unkept_until(site) != before
        beside.close()
        yield from real(self, site, from_s, also)

    monkeypatch.setattr(Archive, "charges", charges)
    enrol(centre.offer("gw-new", replaces="gw-plaza").text, centre.address, tmp_path / "new")
    assert met == [{"gw-plaza": "revoked", "gw-new": "active"}]
    db = GatewayDb.open(tmp_path / "new" / "data" / "gateway.db")
    assert db.ledger.spent_rho_micro("plaza/footfall", now_s - 1, now_s) == 0
    db.close()


def test_a_ledger_that_has_lived_is_not_given_to_another_id(centre: Any, tmp_path: Path) -> None:
    """gateway.toml is lost and the data are there: enrolling is refused, and nothing of the ledger is touched."""
    enrol(centre.offer().text, centre.address, tmp_path / "gw")
    home = tmp_path / "gw"
    db = GatewayDb.open(home / "data" / "gateway.db")
    with db.transaction():
        db.put(1, b"sealed")
    db.close()
    (home / "gateway.toml").unlink()
    before = (home / "data" / "gateway.db").stat().st_size
    with pytest.raises(ConfigError, match="the ledger of another life of this gateway; if it is not needed any more"):
        enrol(centre.offer("gw-new", replaces="gw-plaza").text, centre.address, home)
    db = GatewayDb.open(home / "data" / "gateway.db")
    assert db.message(1) == b"sealed" and (home / "data" / "gateway.db").stat().st_size >= before
    db.close()


def test_the_same_code_tells_the_same_words_again(centre: Any, tmp_path: Path) -> None:
    """Whoever missed the words types the code again; a power cut just before the end leaves no key in a second file."""
    claim = centre.offer()
    done = enrol(claim.text, centre.address, tmp_path / "gw")
    pending = tmp_path / "gw" / "data" / "enrolment.json"
    pending.write_text("keys")
    assert enrol(claim.text, "127.0.0.1:1", tmp_path / "gw") == done
    assert not pending.exists()


def test_an_offer_can_be_taken_back(centre: Any, tmp_path: Path) -> None:
    """A lost paper is worth nothing once its gateway is revoked; and `enrol --local` ends an offer of its id."""
    ingest_toml = str(tmp_path / "centre" / "ingest.toml")
    claim = centre.offer()
    said = murmure("gateway", "revoke", "gw-plaza", "--config", ingest_toml)
    assert said.returncode == 0 and "not expected any more" in said.stdout
    with pytest.raises(edge.EnrolError, match="knows no such code"):
        enrol(claim.text, centre.address, tmp_path / "gw")
    claim = centre.offer()
    local = murmure(
        "gateway", "enrol", "--local", str(tmp_path / "local"), "--gateway", "gw-plaza", "--site", "plaza",
        "--quartier", "centre", "--steward", centre.steward[1].hex(), "--config", ingest_toml,
    )  # fmt: skip
    assert local.returncode == 0
    with pytest.raises(edge.EnrolError, match="knows no such code"):
        enrol(claim.text, centre.address, tmp_path / "gw")


def test_a_record_key_must_be_ones_own(centre: Any, tmp_path: Path) -> None:
    """With a true code: another's public key, no signature, and a point under which any signature holds are refused."""
    claim = centre.offer()
    honest = ed25519.Ed25519PrivateKey.generate()
    others = [
        (wire.new_key()[1], honest.sign),
        (honest.public_key().public_bytes_raw(), lambda _: b""),
        (bytes([1]) + bytes(31), lambda _: bytes([1]) + bytes(63)),
        (bytes([1]) + bytes(30) + b"\x80", lambda _: bytes([1]) + bytes(63)),
    ]
    for key, sign in others:
        fields: dict[str, Any] = {"v": 1, "claim": claim.name, "record_key": key.hex(), "csr": "", "software": "x"}
        fields["possession"] = sign(centre.door.fingerprint + canonical(fields)).hex()
        fields["proof"] = proof(claim.key, "gateway", centre.door.fingerprint, canonical(fields))
        assert b"does not show that its record key is its own" in centre.door.answer(canonical(fields))
    assert centre.registered() == []
    enrol(claim.text, centre.address, tmp_path / "gw")


def test_a_key_of_the_register_is_not_registered_twice(centre: Any, tmp_path: Path) -> None:
    """A card that was copied and enrols under another id with the same keys is refused."""
    enrol(centre.offer().text, centre.address, tmp_path / "one")
    claim = centre.offer("gw-two")
    keys = edge.Keys(load_record_key(tmp_path / "one" / "data" / "record.key"), "", "")
    fresh = edge.new_keys(tmp_path / "fresh.json", claim)
    (tmp_path / "two" / "data").mkdir(parents=True)
    kept = {"claim": claim.name, "record_secret": keys.record_secret.hex(), "tls_key": fresh.tls_key_pem}
    (tmp_path / "two" / "data" / "enrolment.json").write_text(json.dumps({**kept, "csr": fresh.csr_pem}))
    with pytest.raises(edge.EnrolError, match="record key: another gateway has it"):
        enrol(claim.text, centre.address, tmp_path / "two")
    assert centre.registered() == ["gw-plaza"]


@pytest.mark.parametrize(
    "change",
    [
        {"spent": [["plaza/footfall", 0, 1 << 60, 5]]},
        {"spent": [["plaza/footfall", 4_102_444_800, 4_102_448_400, 5]]},
        {"spent": [["plaza/footfall", 10, 5, 5]]},
        {"spent": [["plaza/footfall", 5, 10, True]]},
        {"spent": 3},
        {"spent": None},
        {"closed": [["plaza/footfall", "2h", 0, 7200]]},
        {"closed": [["plaza/footfall", ["1h"], 0, 3600]]},
        {"closed": [["plaza/footfall", "1h", 3600, 3600]]},
        {"closed": [["plaza/footfall", "1h", 0, 3600]] * 2},
        {"closed": 3},
        {"gateway": 7},
        {"trust_toml": "\ud800"},
        {"certificate": "hello"},
        {"authority": "\0"},
        {"ports_toml": "resend_s = 1\n"},
        {"broker": None},
        {"broker": {"host": "h", "port": 0, "mqtt": 5}},
        {"broker": {"host": "h", "port": 1883}},
    ],
    ids=range(19),
)
def test_a_centre_that_answers_what_cannot_be_changes_nothing(
    centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """With a right proof: one line, and no file but the keys for the next try."""
    claim = centre.offer()
    monkeypatch.setattr(centre.door, "answer", answering(centre, claim, lambda body: body | change))
    with pytest.raises(edge.EnrolError, match="the centre's answer is not whole or cannot be"):
        enrol(claim.text, centre.address, tmp_path / "gw")
    written = {path.name for path in (tmp_path / "gw").rglob("*") if path.is_file()}
    assert written == {"enrolment.json"}


def test_a_centre_of_before_says_nothing_of_closed_nodes(
    centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field that is not there yet is no reason to disbelieve the others."""
    claim = centre.offer()
    older = answering(centre, claim, lambda body: {key: body[key] for key in body if key != "closed"})
    monkeypatch.setattr(centre.door, "answer", older)
    assert enrol(claim.text, centre.address, tmp_path / "gw").gateway == "gw-plaza"


def answering(
    centre: Any, claim: Claim, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> Callable[[bytes], bytes]:
    """Returns a door that says something else than this centre, with a right proof."""
    real = centre.door.answer

    def answer(request: bytes) -> bytes:
        body = change(json.loads(real(request)))
        del body["proof"]
        said = json.dumps(body, sort_keys=True, separators=(",", ":")).encode("ascii")
        signed = {**body, "proof": proof(claim.key, "centre", centre.door.fingerprint, request, said)}
        return json.dumps(signed, sort_keys=True, separators=(",", ":")).encode("ascii")

    return answer


def test_a_centre_that_drips_is_given_up(centre: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps nobody on the ladder for longer than the patience for the whole."""
    monkeypatch.setattr(edge, "_PATIENCE_S", 2.0)

    def drip(line: ssl.SSLSocket) -> None:
        line.recv(65536)
        line.sendall(b"\0\0\4\0")
        for _ in range(40):
            line.sendall(b"x")
            time.sleep(0.2)

    began = time.monotonic()
    with listening(centre.door.identity, drip) as address, pytest.raises(edge.EnrolError, match="cannot be reached"):
        enrol(centre.offer().text, address, tmp_path / "gw")
    assert time.monotonic() - began < 20


def test_one_host_cannot_keep_the_others_out(centre: Any, tmp_path: Path) -> None:
    """Thirty idle lines of one address take two places; who comes from another one is served."""
    idle = [socket.create_connection(("127.0.0.1", centre.server.port)) for _ in range(30)]
    real = socket.create_connection
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                socket, "create_connection", lambda to, timeout=20: real(to, timeout, source_address=("127.0.0.2", 0))
            )
            enrol(centre.offer().text, centre.address, tmp_path / "gw")
    finally:
        for line in idle:
            line.close()


def test_strangers_at_the_door_change_nothing(centre: Any, tmp_path: Path) -> None:
    """Silence, rubbish, a huge length and half a message: the door stays open for the next."""
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", centre.server.port), timeout=5) as line:
            line.sendall(said)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for said in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x10half"):
        plain = socket.create_connection(("127.0.0.1", centre.server.port), timeout=5)
        with context.wrap_socket(plain) as line:
            line.sendall(said)
            if said[0]:
                assert line.recv(1) == b""
    enrol(centre.offer().text, centre.address, tmp_path / "gw")


@pytest.mark.broker
def test_the_broker_knows_a_gateway_by_its_certificate(
    centre: Any, tmp_path: Path, tls_mosquitto: Callable[..., Any]
) -> None:
    """Debian's mosquitto lets the enrolled gateway in under its id, over TLS, and nobody without a certificate."""
    enrol(centre.offer().text, centre.address, tmp_path / "gw")
    config = load(tmp_path / "gw" / "gateway.toml")
    assert config.broker is not None and config.broker.tls is not None
    with tls_mosquitto(centre.config, tmp_path / "broker") as running:
        broker = replace(config.broker, host="localhost", port=running.port)
        topics = Topics.of("centre", "gw-plaza")
        stop = threading.Event()
        link = Uplink(broker, "gw-plaza", topics, time.monotonic, stop)
        token = link.publish(topics.health, b"hello")
        assert answer_of(link) == Acknowledged(token, None)
        # The same certificate may not speak on another gateway's topic: its name is all its rights.
        token = link.publish(Topics.of("centre", "gw-other").health, b"hello")
        assert answer_of(link) == Acknowledged(token, "Not authorized")
        link.close()
        with pytest.raises(UplinkLost):
            Uplink(replace(broker, tls=None), "gw-plaza", topics, time.monotonic, stop)


def test_both_commands_from_the_outside(centre: Any, tmp_path: Path) -> None:
    """`gateway enrol --json` gives a code, `edge enrol` takes it from its QR's text; errors are one line and no
    traceback."""
    ingest_toml = tmp_path / "centre" / "ingest.toml"
    ingest_toml.write_text(ingest_toml.read_text() + f"port = {centre.server.port}\n")
    steward = tmp_path / "steward.pub"
    steward.write_text(centre.steward[1].hex() + "\n")
    offered = murmure(
        "gateway", "enrol", "--site", "plaza", "--quartier", "centre", "--steward", str(steward), "--json",
        "--config", str(ingest_toml),
    )  # fmt: skip
    slot = json.loads(offered.stdout)
    assert slot["gateway"].startswith("gw-") and slot["qr"] == f"{slot['code']}@{centre.address}"
    listed = murmure("gateway", "list", "--config", str(ingest_toml))
    assert f"{slot['gateway']}  centre/plaza  expected until" in listed.stdout
    toml = tmp_path / "gw" / "gateway.toml"
    centre.now[0] = datetime.now(UTC)
    done = murmure("edge", "enrol", slot["qr"], "--config", str(toml), "--json")
    assert json.loads(done.stdout)["gateway"] == slot["gateway"] and done.returncode == 0
    listed = murmure("gateway", "list", "--config", str(ingest_toml))
    assert f"words: {json.loads(done.stdout)['words']}" in listed.stdout
    for words, status, says in (
        (("edge", "enrol", "HELLO", "--centre", "127.0.0.1"), 2, "letters and digits where 40 belong"),
        (("edge", "enrol", slot["code"]), 2, "--centre: is missing"),
        (("edge", "enrol", slot["code"], "--centre", "a:99999"), 2, "is no address"),
        (("edge", "enrol", slot["code"], "--centre", "127.0.0.1:1", "--config", f"{tmp_path}/g.toml"), 1, "refused"),
    ):  # fmt: skip
        failed = murmure(*words)
        assert failed.returncode == status and says in failed.stderr and "Traceback" not in failed.stderr, words
        assert failed.stderr.startswith("murmure: ") and failed.stderr.count("\n") == 1, failed.stderr


def test_the_code_is_shown_with_a_qr(centre: Any, tmp_path: Path) -> None:
    """People get the code in groups, a QR made of blocks, and the next two gestures."""
    ingest_toml = tmp_path / "centre" / "ingest.toml"
    printed = murmure(
        "gateway", "enrol", "--site", "plaza", "--quartier", "centre", "--steward", centre.steward[1].hex(),
        "--config", str(ingest_toml),
    )  # fmt: skip
    assert printed.returncode == 0 and "murmure edge enrol " in printed.stdout and "█" in printed.stdout


# --- helpers ---------------------------------------------------------------------------------------------------------


def murmure(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "murmure.cli", *words], capture_output=True, text=True, timeout=60, check=False
    )


def answer_of(link: Uplink) -> object:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for event in link.turn(0.1):
            return event
    raise AssertionError("the broker says nothing")


@contextlib.contextmanager
def listening(identity: Path, talk: Callable[[ssl.SSLSocket], object]) -> Iterator[str]:
    """A TLS server for one connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                plain, _ = server.accept()
                plain.settimeout(10)
                with context.wrap_socket(plain, server_side=True) as line:
                    talk(line)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(15)
