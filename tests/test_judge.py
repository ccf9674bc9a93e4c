"""The wire before a judge: a COSE library of strangers, in an environment of its own (docs/decisions/0015-cbor2.md)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cbor2
import pytest
from murmure_privacy import wire
from murmure_privacy.annotation import Annotation, Withdrawal
from murmure_privacy.release import Health, Message, Node, Noised, Receipt, Release, Withheld

JUDGE = Path(sys.prefix) / "judge" / "bin" / "python"
# Reads {"sealed": hex, "kid": text, "public": hex} a line; answers with the payload it verified, or "refused".
VERDICT = """
import json, sys
from cwt import COSE, COSEKey
from cwt.exceptions import VerifyError
for line in sys.stdin:
    case = json.loads(line)
    # RFC 9053: key type OKP, EdDSA, curve Ed25519.
    key = COSEKey.new({1: 1, 3: -8, -1: 6, -2: bytes.fromhex(case["public"]), 2: case["kid"].encode()})
    try:
        print(COSE.new().decode(bytes.fromhex(case["sealed"]), key).hex())
    except VerifyError:
        print("refused")
"""


@pytest.fixture(scope="module", autouse=True)
def judge() -> None:
    if not JUDGE.exists():
        if os.environ.get("MURMURE_PACKAGES_REQUIRED") == "1":
            pytest.fail(f"no judge at {JUDGE}; make install makes it", pytrace=False)
        pytest.skip("no judge of the wire in this environment; make install makes it")


def verdicts(*cases: tuple[bytes, str, bytes], verdict: str = VERDICT) -> list[bytes | None]:
    """Returns for each (sealed, key id, public key) the payload that the judge verified, or None."""
    asked = "\n".join(
        json.dumps({"sealed": sealed.hex(), "kid": kid, "public": public.hex()}) for sealed, kid, public in cases
    )
    ran = subprocess.run([JUDGE, "-c", verdict], input=asked, capture_output=True, text=True, check=True)
    return [None if line == "refused" else bytes.fromhex(line) for line in ran.stdout.splitlines()]


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
def test_a_stranger_verifies_what_one_key_signed(kind: str) -> None:
    """A COSE_Sign1 of ours opens with another library, and only with the right key and unchanged."""
    secret, public = wire.new_key()
    _, other = wire.new_key()
    sealed = speech(kind, secret)
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    payload, *refused = verdicts((sealed, "gw-a", public), (sealed, "gw-a", other), (changed, "gw-a", public))
    assert payload
    assert refused == [None, None]


def test_a_stranger_verifies_each_signature_under_a_policy() -> None:
    """A COSE_Sign of ours gives the policy's exact bytes to whoever knows one of its signers."""
    text = 'policy = 1\ndecision = "Délibération"\n'.encode()
    (first, first_public), (second, second_public) = wire.new_key(), wire.new_key()
    sealed = wire.seal_policy(text, [("maire", first), ("habitants", second)])
    cases = [(sealed, "maire", first_public), (sealed, "habitants", second_public), (sealed, "maire", second_public)]
    assert verdicts(*cases) == [text, text, None]


# The same with another library, for what several sign: each signer is asked about, with the key that is given.
SIGNERS_VERDICT = """
import json, sys
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import CoseMessage
for line in sys.stdin:
    case = json.loads(line)
    message = CoseMessage.decode(bytes.fromhex(case["sealed"]))
    verified = False
    for signer in message.signers:
        signer.key = OKPKey(crv=Ed25519, x=bytes.fromhex(case["public"]))
        verified = verified or signer.verify_signature()
    print(message.payload.hex() if verified else "refused")
"""


@pytest.mark.parametrize("verdict", [VERDICT, SIGNERS_VERDICT], ids=["cwt", "pycose"])
@pytest.mark.parametrize("kind", ["annotation", "withdrawal"])
def test_two_strangers_verify_each_signature_under_an_annotation(kind: str, verdict: str) -> None:
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
    assert verdicts(*cases, verdict=verdict) == [payload, payload, None, None]


def parts_of(sealed: bytes) -> tuple[bytes, bytes, list[list[Any]]]:
    """Returns body header, payload and signatures of what several sign."""
    body, _, payload, signatures = cbor2.loads(sealed[2:])
    return body, payload, signatures
