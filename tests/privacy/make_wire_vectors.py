"""Writes docs/wire-vectors.json: `python tests/privacy/make_wire_vectors.py`. Signing is deterministic, so a second run
gives the same file; a test compares it with what is committed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
from murmure_privacy import log, wire
from murmure_privacy.annotation import Annotation, Withdrawal
from murmure_privacy.release import Health, Message, Node, Noised, Receipt, Release, Withheld

PAGE = Path(__file__).resolve().parents[2] / "docs" / "wire-vectors.json"
# RFC 8032 section 7.1, tests 1 to 3 and 1024: known to everyone, never to be used.
KEYS = {
    "gw-test": "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "maire": "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "habitants": "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    "centre": "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
}
POLICY = """policy = 1
site = "plaza"
version = 1
timezone = "Europe/Paris"
decision = "Délibération 2026-11-03 n° 42"
reason = "Essai"
valid_from = 2026-12-01
valid_until = 2027-11-30

[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = { crossings = 1 }
epsilon = 1.0
nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }
""".encode()
START_S = 1_796_108_400  # 2026-12-01T07:00:00Z
MARK = Annotation(
    site="plaza",
    number=1,
    issued_s=START_S + 7200,
    sentence="Un échafaudage cachait le capteur.",
    stream="plaza/footfall",
    from_s=START_S,
    to_s=START_S + 3600,
    cause="obstructed",
    sentence_en="Scaffolding hid the sensor.",
)
TAKEN_BACK = Withdrawal("plaza", 2, START_S + 9000, "L'échafaudage était sur une autre place.", 1)


def secret(name: str) -> bytes:
    return bytes.fromhex(KEYS[name])


def footfall(level: str, seconds: int, **changes: Any) -> Node:
    fields: dict[str, Any] = {
        "stream": "plaza/footfall",
        "quantity": "footfall",
        "level": level,
        "start_s": START_S + 3600 - seconds,
        "end_s": START_S + 3600,
        "covered_from_s": START_S + 3600 - seconds,
        "present": 20,
        "cadence_ms": 1000,
        "bounds": (0, 0),
        "policy": wire.digest(POLICY),
    }
    return Node(**fields | changes)


def documents() -> dict[str, tuple[str, bytes, str]]:
    """Returns for each name: type, sealed bytes, and what it shows."""
    counts = (
        Release(footfall("15min", 900), (Noised("crossings", (-3,), 8356, 7162),)),
        Release(footfall("1h", 3600), (Noised("crossings", (211,), 9458, 5590),)),
    )
    first = wire.seal_message(
        Message("gw-test", "centre", "plaza", 1, 1, wire.FIRST_PREVIOUS, START_S + 3600, counts), secret("gw-test")
    )
    noise = footfall(
        "1h", 3600, stream="plaza/noise", quantity="noise", bounds=(350, 850), covered_from_s=START_S + 900
    )
    several = (
        Withheld(footfall("1h", 3600, present=7), "sensor_absent"),
        Release(
            noise,
            (
                Noised("histogram", (0, 12, 300, 900, 800, 400, 200, 80, 9, -1), 312_000, 12_523),
                Noised("mean", (1_406_700,), 110_000_000, 6_261),
                Noised("energy", (270_000_000_000,), 120_000_000_000_000, 2_087),
            ),
        ),
    )
    second = wire.seal_message(
        Message("gw-test", "centre", "plaza", 2, 2, wire.digest(first), START_S + 3600, several), secret("gw-test")
    )
    receipt = wire.seal_receipt(
        Receipt("gw-test", "centre", 2, wire.digest(second), ((1, "refused"),), 26_461, 1, b""), secret("centre")
    )
    leaves = [log.leaf_hash(entry) for entry in (b"entry", b"second", b"third")]
    here = bytes(32) + log.growth_bytes(log.Growth(log.Checkpoint(1, leaves[0])))
    longer = log.Growth(log.Checkpoint(3, log.root(leaves)), 1, tuple(log.consistency_proof(leaves, 1)))
    asking = wire.seal_receipt(
        Receipt("gw-test", "centre", 2, wire.digest(second), (), 26_461, 1, here, ((3, 3), (5, 9))),
        secret("centre"),
    )
    proving = wire.seal_receipt(
        Receipt(
            *("gw-test", "centre", 2, wire.digest(second), (), 26_461, 1),
            checkpoint=bytes(32) + log.growth_bytes(longer),
        ),
        secret("centre"),
    )
    report = Health("gw-test", "centre", START_S, 86_400, 2, "murmure 0.1.0", (("beam", "ok"),), 0, "ok", 25, 1024)
    health = wire.seal_health(report, secret("gw-test"))
    remembering = wire.seal_health(replace(report, log=1), secret("gw-test"))
    signers = [(name, secret(name)) for name in ("maire", "habitants")]
    return {
        "first message": ("release", first, "two levels of one stream, a negative count, no message before it"),
        "second message": (
            "release",
            second,
            "a withheld node, a partial node of three indicators, chained to the first",
        ),
        "receipt": ("receipt", receipt, "two messages settled, one of them refused"),
        "receipt that asks": (
            "receipt",
            asking,
            "messages 3 and 5 to 9 are missing and asked for again; the log has one entry",
        ),
        "receipt that proves": (
            "receipt",
            proving,
            "the log has three entries, and two hashes prove that its first is the one of before",
        ),
        "health": ("health", health, "one port"),
        "health that remembers": ("health", remembering, "the log of one entry is remembered"),
        "policy": ("policy", wire.seal_policy(POLICY, signers), "two signatures over the bytes of a TOML file"),
        "annotation": ("annotation", wire.seal_annotation(MARK, signers), "two signatures; sentences in two languages"),
        "withdrawal": ("annotation", wire.seal_annotation(TAKEN_BACK, signers[:1]), "takes the annotation back"),
    }


def refusals(first: bytes) -> dict[str, tuple[bytes, str]]:
    """Returns messages that must be refused although their signature is true, unless the name says otherwise."""
    protected, _, payload, signature = cbor2.loads(first[1:])
    fields = cbor2.loads(payload)

    def signed(changed: bytes) -> bytes:
        return wire._seal1(changed, secret("gw-test"), "gw-test")

    return {
        "one bit of the signature flipped": (first[:-1] + bytes([first[-1] ^ 1]), "bad_signature"),
        "signed by another key": (wire._seal1(payload, secret("centre"), "gw-test"), "bad_signature"),
        "a byte after the end": (first + b"\x00", "not_canonical"),
        "a key id in the unprotected header": (
            b"\xd2" + cbor2.dumps([protected, {4: b"gw-test"}, payload, signature], canonical=True),
            "malformed",
        ),
        "version 2": (signed(cbor2.dumps({**fields, 0: 2}, canonical=True)), "unknown_version"),
        "an integer written long": (signed(payload[:2] + b"\x18\x01" + payload[3:]), "not_canonical"),
        "a map of open length": (signed(b"\xbf" + payload[1:] + b"\xff"), "not_canonical"),
        "a float for an integer": (signed(payload[:2] + b"\xf9\x3c\x00" + payload[3:]), "malformed"),
        "an unknown field": (signed(cbor2.dumps({**fields, 11: 0}, canonical=True)), "malformed"),
        "another speaker than the key id": (
            signed(cbor2.dumps({**fields, 2: "gw-other"}, canonical=True)),
            "malformed",
        ),
    }


def confusions() -> dict[str, tuple[str, str, bytes, str]]:
    """Returns what a steward signed as one kind of document, shown as the other: type it is read as, signer, bytes and
    why it is refused."""
    signer = [("maire", secret("maire"))]
    note = wire.seal_annotation(MARK, signer)
    body, _, payload, signatures = cbor2.loads(note[2:])
    as_policy = wire.seal_policy(payload, signer)

    def packed(header: bytes, entries: object) -> bytes:
        return b"\xd8\x62" + cbor2.dumps([header, {}, payload, entries], canonical=True)

    return {
        "a policy shown as an annotation": ("annotation", "maire", as_policy, "malformed"),
        "a policy's signature under the body header of an annotation": (
            "annotation",
            "maire",
            packed(body, cbor2.loads(as_policy[2:])[3]),
            "bad_signature",
        ),
        "an annotation shown as a policy": ("policy", "maire", note, "malformed"),
        "an annotation's signature under the body header of a policy": (
            "policy",
            "maire",
            packed(b"", signatures),
            "bad_signature",
        ),
    }


def vectors() -> dict[str, Any]:
    """Returns the whole file."""
    accepted = []
    for name, (kind, sealed, shows) in documents().items():
        several = kind in ("policy", "annotation")
        parts = cbor2.loads(sealed[2 if several else 1 :])
        signatures = [[entry[0], entry[2]] for entry in parts[3]] if several else [[parts[0], parts[3]]]
        context = ["Signature", parts[0]] if several else ["Signature1"]
        accepted.append(
            {
                "name": name,
                "type": kind,
                "shows": shows,
                "sealed": sealed.hex(),
                "sha256": wire.digest(sealed).hex(),
                "payload": parts[2].hex(),
                "signatures": [
                    {
                        "signer": "centre" if kind == "receipt" else cbor2.loads(protected)[4].decode(),
                        "protected": protected.hex(),
                        "to_be_signed": cbor2.dumps([*context, protected, b"", parts[2]], canonical=True).hex(),
                        "signature": signature.hex(),
                    }
                    for protected, signature in signatures
                ],
            }
        )
    refused = refusals(documents()["first message"][1])
    return {
        "about": "Test vectors of docs/wire.md. The keys are those of RFC 8032 section 7.1: never to be used.",
        "keys": {
            name: {"secret": value, "public": wire.public_key(secret(name)).hex()} for name, value in KEYS.items()
        },
        "accepted": accepted,
        "refused": [
            {"name": name, "type": kind, "key": key, "reason": reason, "sealed": sealed.hex()}
            for name, (kind, key, sealed, reason) in (
                {name: ("release", "gw-test", *said) for name, said in refused.items()} | confusions()
            ).items()
        ],
    }


def text() -> str:
    """Returns the file as it is committed."""
    return json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
