"""The published vectors, read by a parser by hand and by the wire itself; two COSE libraries do so in test_judge."""

from __future__ import annotations

import json
import runpy
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from murmure_privacy import wire
from murmure_privacy.errors import WireError

DOCS = Path(__file__).resolve().parents[2] / "docs"
GENERATOR = Path(__file__).with_name("make_wire_vectors.py")
VECTORS: dict[str, Any] = json.loads((DOCS / "wire-vectors.json").read_text(encoding="utf-8"))
PUBLIC = {name: bytes.fromhex(key["public"]) for name, key in VECTORS["keys"].items()}
ACCEPTED = {vector["name"]: vector for vector in VECTORS["accepted"]}
REFUSED = {vector["name"]: vector for vector in VECTORS["refused"]}
OPENERS = {"release": wire.open_message, "receipt": wire.open_receipt, "health": wire.open_health}
BODIES = {  # of what several stewards sign: RFC 9052 section 3.1, label 3 is the content type
    "policy": b"",
    "annotation": bytes([0xA1, 3, 0x78, 39]) + b"application/vnd.murmure.annotation+cbor",
}


def opened(kind: str, sealed: bytes, keys: list[bytes]) -> object:
    if kind == "policy":
        return wire.open_policy(sealed, keys, len(keys))
    if kind == "annotation":
        return wire.open_annotation(sealed, keys, len(keys))
    return OPENERS[kind](sealed, keys[0])


accepted = pytest.mark.parametrize("name", ACCEPTED)


def parse(data: bytes, at: int = 0) -> tuple[Any, int]:
    """Returns one CBOR item and where it ends: RFC 8949, the six kinds that the page lists, shortest heads only."""
    major, short = data[at] >> 5, data[at] & 31
    at += 1
    if short < 24:
        argument = short
    else:
        width = {24: 1, 25: 2, 26: 4, 27: 8}[short]
        argument = int.from_bytes(data[at : at + width], "big")
        at += width
        if argument < {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[width]:
            raise ValueError("a longer head than needed")
    if major == 0:
        return argument, at
    if major == 1:
        return -1 - argument, at
    if major in (2, 3):
        content = data[at : at + argument]
        return (content if major == 2 else content.decode("utf-8")), at + argument
    if major == 6:
        item, at = parse(data, at)
        return {"tag": argument, "item": item}, at
    items = []
    for _ in range(argument * (2 if major == 5 else 1)):
        item, at = parse(data, at)
        items.append(item)
    if major == 4:
        return items, at
    if major == 5:
        keys = items[0::2]
        if keys != sorted(set(keys)):
            raise ValueError("keys out of order or twice")
        return dict(zip(keys, items[1::2], strict=True)), at
    raise ValueError("floats and simple values have no place here")


def whole(data: bytes) -> Any:
    item, end = parse(data)
    if end != len(data):
        raise ValueError("something after the end")
    return item


def test_the_committed_vectors_are_fresh() -> None:
    """The generator gives the file as it is committed: signing is deterministic, and the wire has not changed."""
    assert runpy.run_path(str(GENERATOR))["text"]() == (DOCS / "wire-vectors.json").read_text(encoding="utf-8")


@accepted
def test_a_parser_by_hand_agrees(name: str) -> None:
    """Tag, four parts, headers, payload and the bytes that are signed are what the page says, for any Ed25519."""
    vector = ACCEPTED[name]
    sealed = bytes.fromhex(vector["sealed"])
    assert sha256(sealed).hexdigest() == vector["sha256"]
    outer = whole(sealed)
    body, unprotected, payload, last = outer["item"]
    several = vector["type"] in BODIES
    assert outer["tag"] == (98 if several else 18) and unprotected == {}
    assert payload.hex() == vector["payload"]
    signatures = last if several else [[body, {}, last]]
    assert not several or body == BODIES[vector["type"]]
    for said, (protected, empty, signature) in zip(vector["signatures"], signatures, strict=True):
        assert empty == {} and protected.hex() == said["protected"] and signature.hex() == said["signature"]
        assert whole(protected).keys() == {1, 4} and whole(protected)[1] == -8
        signed = bytes.fromhex(said["to_be_signed"])
        context = ["Signature", body, protected] if several else ["Signature1", protected]
        assert whole(signed) == [*context, b"", payload]
        Ed25519PublicKey.from_public_bytes(PUBLIC[said["signer"]]).verify(signature, signed)
    if vector["type"] != "policy":
        assert whole(payload)[0] == 1


@accepted
def test_the_wire_agrees(name: str) -> None:
    """Our own reader opens each vector with its signers' keys."""
    vector = ACCEPTED[name]
    keys = [PUBLIC[signature["signer"]] for signature in vector["signatures"]]
    opened(vector["type"], bytes.fromhex(vector["sealed"]), keys)


@pytest.mark.parametrize("name", REFUSED)
def test_what_must_be_refused_is(name: str) -> None:
    """Each refusal in the file is one of ours, for the reason that it names."""
    vector = REFUSED[name]
    with pytest.raises(WireError) as error:
        opened(vector["type"], bytes.fromhex(vector["sealed"]), [PUBLIC[vector["key"]]])
    assert error.value.reason == vector["reason"]


def test_the_second_message_names_the_first() -> None:
    """Messages are chained by the SHA-256 of the whole sealed message before."""
    second = whole(bytes.fromhex(ACCEPTED["second message"]["payload"]))
    first = whole(bytes.fromhex(ACCEPTED["first message"]["payload"]))
    assert second[7].hex() == ACCEPTED["first message"]["sha256"] and first[7] == bytes(32)
    assert [item for node in first[10][0][5] for item in node[6]] == [
        [0, (-3).to_bytes(8, "big", signed=True), 8356, 7162],
        [0, (211).to_bytes(8, "big"), 9458, 5590],
    ]
