"""The wire before a judge: a COSE library of strangers, in an environment of its own (docs/decisions/0015-cbor2.md)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from murmure_privacy import wire
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


def verdicts(*cases: tuple[bytes, str, bytes]) -> list[bytes | None]:
    """Returns for each (sealed, key id, public key) the payload that the judge verified, or None."""
    asked = "\n".join(
        json.dumps({"sealed": sealed.hex(), "kid": kid, "public": public.hex()}) for sealed, kid, public in cases
    )
    ran = subprocess.run([JUDGE, "-c", VERDICT], input=asked, capture_output=True, text=True, check=True)
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
