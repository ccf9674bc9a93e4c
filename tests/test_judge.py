"""The wire before two judges: COSE libraries of strangers, in an environment of their own
(docs/decisions/0015-cbor2.md)."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest
from murmure_edge import replay
from murmure_edge.gateway_db import GatewayDb
from murmure_privacy import wire
from murmure_privacy.annotation import Annotation, Withdrawal
from murmure_privacy.release import Health, Message, Node, Noised, Receipt, Release, Withheld
from murmure_privacy.window import parse_utc, utc

Verdicts = Callable[..., list[bytes | None]]

ROOT = Path(__file__).resolve().parent.parent
JUDGE = Path(sys.prefix) / "judge" / "bin" / "python"
# Each reads {"sealed": hex, "kid": text, "public": hex} a line; answers with the payload it verified, or "refused".
# RFC 9053: key type OKP, EdDSA, curve Ed25519.
JUDGES = {
    "cwt": """
import json, sys
from cwt import COSE, COSEKey
from cwt.exceptions import VerifyError
for line in sys.stdin:
    case = json.loads(line)
    key = COSEKey.new({1: 1, 3: -8, -1: 6, -2: bytes.fromhex(case["public"]), 2: case["kid"].encode()})
    try:
        print(COSE.new().decode(bytes.fromhex(case["sealed"]), key).hex())
    except VerifyError:
        print("refused")
""",
    "pycose": """
import json, sys
from pycose.headers import KID
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import CoseMessage, SignMessage
for line in sys.stdin:
    case = json.loads(line)
    message = CoseMessage.decode(bytes.fromhex(case["sealed"]))
    verified = False
    for signed in message.signers if isinstance(message, SignMessage) else [message]:
        signed.key = OKPKey(crv=Ed25519, x=bytes.fromhex(case["public"]))
        named = signed.phdr[KID] == case["kid"].encode()
        verified = verified or (named and signed.verify_signature())
    print(message.payload.hex() if verified else "refused")
""",
}


@pytest.fixture(scope="module", autouse=True)
def judge() -> None:
    if not JUDGE.exists():
        if os.environ.get("MURMURE_PACKAGES_REQUIRED") == "1":
            pytest.fail(f"no judge at {JUDGE}; make install makes it", pytrace=False)
        pytest.skip("no judge of the wire in this environment; make install makes it")


@pytest.fixture(params=JUDGES)
def verdicts(request: pytest.FixtureRequest) -> Verdicts:
    """Asks one judge: for each (sealed, key id, public key) the payload that it verified, or None."""

    def verdicts(*cases: tuple[bytes, str, bytes]) -> list[bytes | None]:
        asked = "\n".join(
            json.dumps({"sealed": sealed.hex(), "kid": kid, "public": public.hex()}) for sealed, kid, public in cases
        )
        command = [str(JUDGE), "-c", JUDGES[request.param]]
        ran = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
        return [None if line == "refused" else bytes.fromhex(line) for line in ran.stdout.splitlines()]

    return verdicts


def speech(kind: str, secret: bytes) -> bytes:
    """Returns one sealed message of each kind that a single key signs."""
    if kind == "receipt":
        return wire.seal_receipt(Receipt("gw-a", "centre", 7, bytes(32), ((3, "refused"),), 5590, 2, b""), secret)
    if kind == "health":
        ports = (("beam", "ok"),)
        return wire.seal_health(
            Health("gw-a", "centre", 1_700_000_000, 60, 1, "murmure 0.1.0", ports, 0, "ok", 25, 1024), secret
        )
    start_s = 1_700_000_100
    node = Node("plaza/footfall", "footfall", "15min", start_s, start_s + 900, start_s, 20, 1000, (0, 0), bytes(32))
    release = Release(node, (Noised("crossings", (-3,), 9458, 5590),))
    message = Message("gw-a", "centre", "plaza", 1, 1, bytes(32), start_s + 900, (release, Withheld(node, "paused")))
    return wire.seal_message(message, secret)


@pytest.mark.parametrize("kind", ["message", "receipt", "health"])
def test_a_stranger_verifies_what_one_key_signed(verdicts: Verdicts, kind: str) -> None:
    """A COSE_Sign1 of ours opens with another library, and only with the right key and unchanged."""
    secret, public = wire.new_key()
    _, other = wire.new_key()
    sealed = speech(kind, secret)
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    payload, *refused = verdicts((sealed, "gw-a", public), (sealed, "gw-a", other), (changed, "gw-a", public))
    assert payload
    assert refused == [None, None]


def test_a_stranger_verifies_each_signature_under_a_policy(verdicts: Verdicts) -> None:
    """A COSE_Sign of ours gives the policy's exact bytes to whoever knows one of its signers."""
    text = 'policy = 1\ndecision = "Délibération"\n'.encode()
    (first, first_public), (second, second_public) = wire.new_key(), wire.new_key()
    sealed = wire.seal_policy(text, [("maire", first), ("habitants", second)])
    cases = [(sealed, "maire", first_public), (sealed, "habitants", second_public), (sealed, "maire", second_public)]
    assert verdicts(*cases) == [text, text, None]


@pytest.mark.parametrize("kind", ["annotation", "withdrawal"])
def test_two_strangers_verify_each_signature_under_an_annotation(verdicts: Verdicts, kind: str) -> None:
    """The body header is part of what is signed, for other libraries too: they find the payload with a signer's key,
    and nothing with another key or where a policy's signature stands under an annotation."""
    (first, first_public), (second, second_public) = wire.new_key(), wire.new_key()
    note = (
        Annotation("plaza", 1, 1_700_001_000, "Essai.", "plaza/noise", 1_699_999_200, 1_700_000_100, "works")
        if kind == "annotation"
        else Withdrawal("plaza", 2, 1_700_001_000, "Essai.", 1, "Test.")
    )
    sealed = wire.seal_annotation(note, [("maire", first), ("habitants", second)])
    body, payload, _ = parts_of(sealed)
    under_a_policy = parts_of(wire.seal_policy(payload, [("maire", first)]))[2]
    confused = wire._sealed(body, payload, under_a_policy)
    cases = [
        (sealed, "maire", first_public),
        (sealed, "habitants", second_public),
        (sealed, "maire", wire.new_key()[1]),
        (confused, "maire", first_public),
    ]
    assert verdicts(*cases) == [payload, payload, None, None]


def parts_of(sealed: bytes) -> tuple[bytes, bytes, list[list[Any]]]:
    """Returns body header, payload and signatures of what several sign."""
    body, _, payload, signatures = cbor2.loads(sealed[2:])
    return body, payload, signatures


def test_a_stranger_verifies_the_published_vectors(verdicts: Verdicts) -> None:
    """Every document of docs/wire-vectors.json opens with each of its keys and gives the payload that stands there; one
    that is refused for its signature is refused by the judge."""
    page = json.loads((ROOT / "docs" / "wire-vectors.json").read_text("utf-8"))
    public = {name: bytes.fromhex(key["public"]) for name, key in page["keys"].items()}
    asked = [(vector, signature) for vector in page["accepted"] for signature in vector["signatures"]]
    assert len(asked) > len(page["accepted"])
    cases = [
        (
            bytes.fromhex(vector["sealed"]),
            cbor2.loads(bytes.fromhex(signature["protected"]))[4].decode(),
            public[signature["signer"]],
        )
        for vector, signature in asked
    ]
    assert verdicts(*cases) == [bytes.fromhex(vector["payload"]) for vector, _ in asked]
    forged = [vector for vector in page["refused"] if vector["reason"] == "bad_signature"]
    assert len(forged) >= 2
    cases = [(bytes.fromhex(vector["sealed"]), vector["key"], public[vector["key"]]) for vector in forged]
    assert verdicts(*cases) == [None] * len(cases)


def test_a_stranger_verifies_what_a_gateway_has_sent(verdicts: Verdicts, tmp_path: Path) -> None:
    """A day of readings through the real windows, gate, ledger and outbox: every message in the outbox opens with the
    gateway's key and is chained to the one before it, as the judge reads them."""
    policy, readings, db_file = tmp_path / "policy.toml", tmp_path / "day.csv", tmp_path / "gateway.db"
    policy.write_text(
        'policy = 1\nsite = "plaza"\nversion = 1\ntimezone = "Europe/Paris"\ndecision = "D"\nreason = "R"\n'
        'valid_from = 2026-01-01\nvalid_until = 2026-12-31\n[[stream]]\nid = "plaza/footfall"\n'
        'quantity = "footfall"\nprotects = { crossings = 1 }\nepsilon = 1.0\nnodes = { "1h" = 1, "1d" = 1 }\n',
        "utf-8",
    )
    start_s = parse_utc("2026-05-04T22:00:00Z")
    with readings.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp_utc", "site", "metric", "value", "unit"])
        rows.writerows([utc(start_s + 900 * n), "plaza", "pedestrians", n % 7, "1"] for n in range(96))
    replay.run(policy, readings, "plaza/footfall", tmp_path / "out.jsonl", db_file=db_file)
    db = GatewayDb.open(db_file)
    secret = db.kept_secret(wire.new_key()[0])
    sent = [sealed for _, sealed in sorted(db.rows().items())]
    db.close()
    assert len(sent) == 24
    public, (_, other) = wire.public_key(secret), wire.new_key()
    payloads = verdicts(*((sealed, replay.GATEWAY, public) for sealed in sent))
    hashes = [wire.FIRST_PREVIOUS, *map(wire.digest, sent)]
    assert all(payload and before in payload for payload, before in zip(payloads, hashes, strict=False))
    assert verdicts(*((sealed, replay.GATEWAY, other) for sealed in sent)) == [None] * 24
