"""The wire: what is sealed opens unchanged, and nothing else opens at all."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy import log, wire
from murmure_privacy.annotation import CAUSES, Annotation, Note, Withdrawal
from murmure_privacy.errors import WireError
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import (
    REASONS,
    Health,
    Message,
    Node,
    Noised,
    Outcome,
    Receipt,
    Release,
    Withheld,
)

SECRET = bytes(range(32))
PUBLIC = wire.public_key(SECRET)
OTHER_SECRET, OTHER_PUBLIC = wire.new_key()
START_S = 1_790_000_100
NODE = Node("plaza/footfall", "footfall", "1h", START_S, START_S + 3600, START_S, 20, 1000, (0, 0), bytes(32))
MESSAGE = Message(
    "gw-a",
    "centre",
    "plaza",
    1,
    7,
    bytes(32),
    START_S + 3600,
    (
        Release(NODE, (Noised("crossings", (-3,), 9458, 5590),)),
        Withheld(dataclasses.replace(NODE, level="1d", end_s=START_S + 86_400, present=3), "sensor_absent"),
    ),
)
RECEIPT = Receipt("gw-a", "centre", 812, bytes(range(32)), ((3, "refused"), (9, "quarantined")), 5590, 2, b"log")
HEALTH = Health("gw-a", "centre", START_S, 60, 1, "murmure 0.1.0", (("beam", "ok"),), 0, "ok", 25, 1024)
TOML = 'policy = 1\ndecision = "Délibération"\n'.encode()

Sealer = Callable[[Any, bytes], bytes]
Opener = Callable[[bytes, bytes], Any]
KINDS: dict[str, tuple[Any, Sealer, Opener]] = {
    "release": (MESSAGE, wire.seal_message, wire.open_message),
    "receipt": (RECEIPT, wire.seal_receipt, wire.open_receipt),
    "health": (HEALTH, wire.seal_health, wire.open_health),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def refused(opener: Opener, sealed: bytes, public: bytes = PUBLIC) -> str:
    with pytest.raises(WireError) as error:
        opener(sealed, public)
    return error.value.reason


def fields_of(sealed: bytes) -> dict[int, Any]:
    fields: dict[int, Any] = cbor2.loads(cbor2.loads(sealed[1:])[2])
    return fields


def signed(payload: bytes, kid: str = "gw-a", secret: bytes = SECRET) -> bytes:
    """Returns any payload under a true signature: what a gateway gone bad could send."""
    return wire._seal1(payload, secret, kid)


def encoded(value: object) -> bytes:
    return cbor2.dumps(value, canonical=True)


# --- round trips -----------------------------------------------------------------------------------------------------

BIG = (1 << 53) - 1
name = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=16)
integer = st.integers(-(1 << 63), (1 << 63) - 1)


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    start = draw(st.integers(0, 1 << 31))
    length = draw(st.integers(1, 1 << 30))
    return Node(
        stream=draw(name),
        quantity=draw(st.sampled_from(["footfall", "noise", "pm10"])),
        level=draw(st.sampled_from(wire.LEVEL_CODES)),
        start_s=start,
        end_s=start + length,
        covered_from_s=start + draw(st.integers(0, length - 1)),
        present=draw(st.integers(0, 20)),
        cadence_ms=draw(st.integers(1, 3_600_000)),
        bounds=(draw(st.integers(-10_000, 100_000)), draw(st.integers(-10_000, 100_000))),
        policy=draw(st.binary(min_size=32, max_size=32)),
    )


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    node = draw(nodes())
    if draw(st.booleans()):
        return Withheld(node, draw(st.sampled_from(REASONS)))
    noised = st.builds(
        Noised,
        st.sampled_from(wire.INDICATOR_CODES),
        st.lists(integer, min_size=1, max_size=12).map(tuple),
        st.integers(1, wire.SIGMA_LIMIT),
        st.integers(1, BIG),
    )
    return Release(node, tuple(draw(st.lists(noised, min_size=1, max_size=3))))


def apart(pairs: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Returns ranges that ascend and do not touch: of (first, length) pairs those that fit behind the ones before."""
    found: list[tuple[int, int]] = []
    for first, length in sorted(pairs):
        if first + length <= BIG and (not found or first > found[-1][1] + 1):
            found.append((first, first + length))
    return tuple(found)


messages = st.builds(
    Message,
    gateway=name,
    quartier=name,
    site=name,
    boot=st.integers(0, BIG),
    seq=st.integers(1, BIG),
    previous=st.binary(min_size=32, max_size=32),
    closing_s=st.integers(0, 1 << 32),
    outcomes=st.lists(outcomes(), min_size=1, max_size=4).map(tuple),
)
receipts = st.builds(
    Receipt,
    gateway=name,
    quartier=name,
    settled_seq=st.integers(0, BIG),
    settled_hash=st.binary(min_size=32, max_size=32),
    exceptions=st.lists(st.tuples(st.integers(1, BIG), st.sampled_from(wire.SETTLED_BADLY)), max_size=256).map(tuple),
    charged_rho_micro=st.integers(0, BIG),
    policy_version=st.integers(0, BIG),
    checkpoint=st.binary(max_size=200),
    again=st.lists(st.tuples(st.integers(1, BIG), st.integers(0, 99)), max_size=wire.AGAIN_LIMIT).map(apart),
)
healths = st.builds(
    Health,
    gateway=name,
    quartier=name,
    at_s=st.integers(0, 1 << 32),
    uptime_s=st.integers(0, BIG),
    boot=st.integers(0, BIG),
    software=name,
    ports=st.lists(st.tuples(name, st.sampled_from(wire.PORT_STATES)), max_size=32).map(tuple),
    outbox_depth=st.integers(0, BIG),
    clock=st.sampled_from(wire.CLOCK_STATES),
    temperature_c=st.none() | st.integers(-100, 200),
    free_storage_mb=st.integers(0, BIG),
    log=st.none() | st.integers(0, BIG),
)


@given(messages)
def test_a_message_opens_as_it_was_sealed(message: Message) -> None:
    """Every field of a message and of each node comes back; nodes of one stream that stand together stay together."""
    assert wire.open_message(wire.seal_message(message, SECRET), PUBLIC) == message


@given(receipts)
def test_a_receipt_opens_as_it_was_sealed(receipt: Receipt) -> None:
    """Every field of a receipt comes back."""
    assert wire.open_receipt(wire.seal_receipt(receipt, SECRET), PUBLIC) == receipt


@given(healths)
def test_a_health_report_opens_as_it_was_sealed(health: Health) -> None:
    """Every field of a health report comes back."""
    assert wire.open_health(wire.seal_health(health, SECRET), PUBLIC) == health


def test_a_receipt_keeps_its_newest_exceptions() -> None:
    """A receipt has room for 256 exceptions, keeps the newest, and still fits a message."""
    many = dataclasses.replace(RECEIPT, exceptions=tuple((seq, "refused") for seq in range(BIG - 300, BIG)))
    sealed = wire.seal_receipt(many, SECRET)
    assert wire.open_receipt(sealed, PUBLIC).exceptions == many.exceptions[-256:]


def test_the_fullest_receipt_fits_a_message() -> None:
    """As many exceptions and ranges as there may be, with the longest names and numbers; older ranges go first."""
    again = tuple((BIG - 3 * n, BIG - 3 * n + 1) for n in range(wire.AGAIN_LIMIT + 5, 0, -1))
    exceptions = tuple((BIG - n, "forked") for n in range(256, 0, -1))
    full = Receipt("x" * 40, "y" * 40, BIG, bytes(32), exceptions, BIG, BIG, bytes(32), again)
    sealed = wire.seal_receipt(full, SECRET)
    assert len(sealed) <= wire.MESSAGE_LIMIT
    assert wire.open_receipt(sealed, PUBLIC) == dataclasses.replace(full, again=again[: wire.AGAIN_LIMIT])


PROVED = bytes(32) + log.growth_bytes(
    log.Growth(log.Checkpoint(log.LARGEST_SIZE, bytes(32)), log.LARGEST_SIZE - 1, (bytes(32),) * log.PROOF_LIMIT)
)


@pytest.mark.parametrize(("largest", "kept"), [((1 << 32) - 1, 256), (BIG, 164)])
def test_the_fullest_receipt_with_the_longest_proof_fits_a_message(largest: int, kept: int) -> None:
    """All of it up to number 2^32, which a gateway reaches after a hundred thousand years; above that the newest
    exceptions that fit, to the last byte that would hold one more."""
    again = tuple((largest - 3 * n, largest - 3 * n + 1) for n in range(wire.AGAIN_LIMIT, 0, -1))
    exceptions = tuple((largest - n, "forked") for n in range(256, 0, -1))
    full = Receipt("x" * 40, "y" * 40, largest, bytes(32), exceptions, BIG, BIG, PROVED, again)
    sealed = wire.seal_receipt(full, SECRET)
    assert len(sealed) <= wire.MESSAGE_LIMIT
    assert kept == 256 or len(sealed) > wire.MESSAGE_LIMIT - len(encoded([largest, 2])) - 3
    assert wire.open_receipt(sealed, PUBLIC) == dataclasses.replace(full, exceptions=exceptions[-kept:])


def test_a_report_of_before_has_no_log_and_one_after_has_nothing_else() -> None:
    """The field is optional: a gateway of before is heard. It is an integer, and the only one that may follow."""
    old = fields_of(wire.seal_health(HEALTH, SECRET))
    assert max(old) == 12 and wire.open_health(signed(encoded(old)), PUBLIC).log is None
    assert wire.open_health(signed(encoded({**old, 13: 7})), PUBLIC) == dataclasses.replace(HEALTH, log=7)
    changes: list[dict[int, Any]] = [{13: -1}, {13: BIG + 2}, {13: b"7"}, {13: []}, {14: 7}, {13: 7, 14: 7}]
    for wrong in changes:
        assert refused(wire.open_health, signed(encoded({**old, **wrong}))) == "malformed"


def test_the_form_is_looked_at_before_the_signature() -> None:
    """Whoever signed: a payload that has another form is told from one that was signed by another key."""
    _, public = wire.new_key()
    fields = fields_of(wire.seal_message(MESSAGE, SECRET))
    turned = cbor2.dumps(dict(reversed(fields.items())))
    assert refused(wire.open_message, signed(turned), public) == "not_canonical"
    assert refused(wire.open_message, signed(encoded(fields)), public) == "bad_signature"
    assert refused(wire.open_message, signed(encoded({**fields, 99: 0})), public) == "bad_signature"
    assert refused(wire.open_message, signed(encoded({**fields, 99: 0}))) == "malformed"


@pytest.mark.parametrize("kid", ["gw-a", "gw-b", "gw-\u00e9", "\x00"])
def test_an_envelope_says_whose_key_to_try_and_no_more(kid: str) -> None:
    """It is unwrapped whoever sealed it; only the key that signed opens it, and only in the name it signs for."""
    envelope = wire.unwrap(signed(wire._message_payload(MESSAGE), kid))
    assert envelope.speaker.isascii() or kid == "gw-\u00e9"
    assert (envelope.speaker == "gw-a") == (kid == "gw-a")
    with pytest.raises(WireError, match="bad_signature"):
        wire.open_envelope(envelope, wire.new_key()[1])
    if kid == "gw-a":
        assert wire.open_envelope(envelope, PUBLIC) == MESSAGE
    else:
        with pytest.raises(WireError, match="malformed"):
            wire.open_envelope(envelope, PUBLIC)


@pytest.mark.parametrize(
    "again",
    [
        *([], [[]], [[1]], [[1, 2, 3]], [1, 2], [["1", 2]], {}, b"", 0),
        *([[0, 1]], [[3, 2]], [[1, 1 << 54]], [[1, 2], [3, 4]], [[5, 6], [1, 2]]),
        [[3 * n + 1, 3 * n + 2] for n in range(wire.AGAIN_LIMIT + 1)],
    ],
)
def test_what_is_asked_for_again_has_one_form(again: object) -> None:
    """Ranges of numbers that are empty, touch, turn back, or are more than fit: refused; the field is left out or
    asks for something."""
    fields = {**fields_of(wire.seal_receipt(RECEIPT, SECRET)), 10: again}
    assert refused(wire.open_receipt, signed(encoded(fields))) == "malformed"
    right = {**fields, 10: [[1, 1], [3, 9]]}
    assert wire.open_receipt(signed(encoded(right)), PUBLIC).again == ((1, 1), (3, 9))


# --- lengths ---------------------------------------------------------------------------------------------------------


@given(messages, st.data())
def test_length_is_independent_of_values(message: Message, data: st.DataObject) -> None:
    """Whatever the released integers are, the sealed bytes are equally many."""
    other = tuple(
        outcome
        if isinstance(outcome, Withheld)
        else dataclasses.replace(
            outcome,
            noised=tuple(
                dataclasses.replace(n, integers=tuple(data.draw(integer) for _ in n.integers)) for n in outcome.noised
            ),
        )
        for outcome in message.outcomes
    )
    changed = dataclasses.replace(message, outcomes=other)
    assert len(wire.seal_message(changed, SECRET)) == len(wire.seal_message(message, SECRET))


@settings(max_examples=max(20, settings().max_examples // 5))
@given(
    chosen=st.lists(st.sampled_from(["footfall", "noise", "pm2_5"]), unique=True, min_size=1),
    gateway=st.integers(1, 40),
    seq=st.integers(1, BIG),
    boot=st.integers(0, BIG),
    value=integer,
    data=st.data(),
)
def test_largest_message_is_an_upper_bound(
    write_policy: Callable[..., Policy],
    chosen: list[str],
    gateway: int,
    seq: int,
    boot: int,
    value: int,
    data: st.DataObject,
) -> None:
    """No message of a plan, whatever closes and whoever speaks (ids up to 40 characters), is longer than was said."""
    made = plan(write_policy(*chosen))
    closing: list[Outcome] = []
    for stream in made.streams.values():
        for level in stream.nodes:
            which = data.draw(st.sampled_from(["released", "withheld", "open"]))
            quantity, cadence_ms = stream.stream.quantity.name, stream.stream.cadence_ms
            node = dataclasses.replace(
                NODE,
                stream=stream.stream.id,
                quantity=quantity,
                level=level.level,
                cadence_ms=cadence_ms,
                bounds=stream.stream.bounds,
                policy=made.policy.hash,
            )
            if which == "withheld":
                closing.append(Withheld(node, data.draw(st.sampled_from(REASONS))))
            elif which == "released":
                noised = (Noised(i.indicator, (value,) * i.width, i.sigma_milli, i.rho_micro) for i in level.indicators)
                closing.append(Release(node, tuple(noised)))
    if closing:
        message = Message("g" * gateway, "q" * gateway, "plaza", boot, seq, bytes(32), START_S, tuple(closing))
        assert len(wire.seal_message(message, SECRET)) <= wire.largest_message(made) <= wire.MESSAGE_LIMIT


def test_a_message_beyond_four_kib_is_not_sealed() -> None:
    """What would not be accepted is not signed; and what is too long is refused before it is read."""
    crowd = tuple(
        Release(dataclasses.replace(NODE, start_s=START_S - n), (Noised("histogram", (0,) * 100, 1, 1),))
        for n in range(6)
    )
    with pytest.raises(WireError, match="oversized"):
        wire.seal_message(dataclasses.replace(MESSAGE, outcomes=crowd), SECRET)
    assert refused(wire.open_message, wire.seal_message(MESSAGE, SECRET) + bytes(4096)) == "oversized"
    assert refused(wire.open_message, bytes(4097)) == "oversized"


# --- forgeries -------------------------------------------------------------------------------------------------------


@kinds
def test_one_flipped_bit_is_refused(kind: str) -> None:
    """Every single bit of a sealed message matters."""
    what, seal, opener = KINDS[kind]
    sealed = seal(what, SECRET)
    assert opener(sealed, PUBLIC) == what
    for at in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[at // 8] ^= 1 << at % 8
        refused(opener, bytes(changed))


@kinds
def test_a_cut_or_longer_message_is_refused(kind: str) -> None:
    """A message is refused at every shorter length and with anything after it."""
    what, seal, opener = KINDS[kind]
    sealed = seal(what, SECRET)
    for length in range(len(sealed)):
        refused(opener, sealed[:length])
    for tail in (b"\x00", b"\xff", sealed):
        refused(opener, sealed + tail)


@kinds
def test_another_key_is_refused(kind: str) -> None:
    """Only the expected key opens; neither another one nor something that is no key."""
    what, seal, opener = KINDS[kind]
    assert refused(opener, seal(what, SECRET), OTHER_PUBLIC) == "bad_signature"
    assert refused(opener, seal(what, OTHER_SECRET)) == "bad_signature"
    assert refused(opener, seal(what, SECRET), b"short") == "bad_signature"


@kinds
def test_a_document_is_of_one_type(kind: str) -> None:
    """A receipt is no release, a release is no health report: no opener takes another's document."""
    what, seal, _ = KINDS[kind]
    for other, (_, _, opener) in KINDS.items():
        if other != kind:
            assert refused(opener, seal(what, SECRET)) == "malformed"
    with pytest.raises(WireError):
        wire.open_policy(seal(what, SECRET), [PUBLIC], 1)


def sealed_parts(kind: str) -> list[Any]:
    what, seal, _ = KINDS[kind]
    parts: list[Any] = cbor2.loads(seal(what, SECRET)[1:])
    return parts


def resigned(protected: bytes, payload: bytes) -> bytes:
    """Returns a message under this protected header, truly signed."""
    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    signature = key.sign(encoded(["Signature1", protected, b"", payload]))
    return b"\xd2" + encoded([protected, {}, payload, signature])


HEADERS: dict[str, object] = {
    "another algorithm": {1: -7, 4: b"gw-a"},
    "no algorithm": {4: b"gw-a"},
    "no key id": {1: -8},
    "one field more": {1: -8, 4: b"gw-a", 5: b""},
    "text as key id": {1: -8, 4: "gw-a"},
    "a float for the algorithm": {1: -8.0, 4: b"gw-a"},
    "no map": [1, -8],
    "another speaker": {1: -8, 4: b"gw-b"},
    "not UTF-8": {1: -8, 4: b"gw-\xff"},
}


@pytest.mark.parametrize("header", HEADERS)
def test_the_protected_header_is_exactly_ours(header: str) -> None:
    """Algorithm and key id, nothing else, and the key id is the speaker: truly signed or not, all else is refused."""
    payload = sealed_parts("receipt")[2]
    assert wire.open_receipt(resigned(encoded({1: -8, 4: b"gw-a"}), payload), PUBLIC) == RECEIPT
    assert refused(wire.open_receipt, resigned(encoded(HEADERS[header]), payload)) == "malformed"


def test_a_key_id_is_compared_as_bytes() -> None:
    """A key id that is not UTF-8 is not read as the replacement character that a name may contain."""
    odd = dataclasses.replace(RECEIPT, gateway="gw-\ufffd")
    payload = fields_of(wire.seal_receipt(odd, SECRET))
    assert refused(wire.open_receipt, resigned(encoded({1: -8, 4: b"gw-\xff"}), encoded(payload))) == "malformed"


STRUCTURES: dict[str, Callable[[list[Any]], object]] = {
    "a non-empty unprotected header": lambda parts: [parts[0], {4: b"gw-a"}, *parts[2:]],
    "a list as unprotected header": lambda parts: [parts[0], [], *parts[2:]],
    "three parts": lambda parts: parts[:3],
    "five parts": lambda parts: [*parts, b""],
    "a map": lambda parts: dict(enumerate(parts)),
    "a text as payload": lambda parts: [*parts[:2], "payload", parts[3]],
    "a number as header": lambda parts: [1, *parts[1:]],
    "a list as signature": lambda parts: [*parts[:3], []],
    "a detached payload": lambda parts: [*parts[:2], None, parts[3]],
}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_cose_structure_is_exactly_ours(structure: str) -> None:
    """Four parts of their types, the second an empty map; all else is refused before any key is used."""
    assert refused(wire.open_receipt, b"\xd2" + encoded(STRUCTURES[structure](sealed_parts("receipt")))) == "malformed"


@pytest.mark.parametrize("head", [b"", b"\xd1", b"\xd8\x12", b"\xd8\x62", b"\xd9\x00\x12"])
def test_the_tag_is_ours_in_its_one_form(head: bytes) -> None:
    """No tag, another tag, or tag 18 written long: refused."""
    sealed = wire.seal_receipt(RECEIPT, SECRET)
    assert refused(wire.open_receipt, head + sealed[1:]) == "malformed"


PAYLOADS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "map of open length": (lambda data: b"\xbf" + data[1:] + b"\xff", "not_canonical"),
    "key written long": (lambda data: data[:1] + b"\x18\x00" + data[2:], "not_canonical"),
    "value written long": (lambda data: data[:2] + b"\x18\x01" + data[3:], "not_canonical"),
    "key twice": (lambda data: bytes([data[0] + 1]) + b"\x00\x01" + data[1:], "not_canonical"),
    "keys out of order": (lambda data: data[:1] + data[3:5] + data[1:3] + data[5:], "not_canonical"),
    "something after it": (lambda data: data + b"\x00", "not_canonical"),
    "a float as version": (lambda data: data[:2] + b"\xf9\x3c\x00" + data[3:], "malformed"),
    "true as version": (lambda data: data[:2] + b"\xf5" + data[3:], "malformed"),
    "a big number as version": (lambda data: data[:2] + b"\xc2\x41\x01" + data[3:], "malformed"),
    "a length beyond its end": (lambda data: data[:2] + b"\x5b" + b"\x7f" * 8 + data[3:], "malformed"),
    "nothing": (lambda data: b"", "malformed"),
    "a list": (lambda data: encoded([1, 2]), "malformed"),
    "text keys": (lambda data: encoded({"0": 1}), "malformed"),
    "version 2": (lambda data: data[:2] + b"\x02" + data[3:], "unknown_version"),
    "type 4": (lambda data: data[:4] + b"\x04" + data[5:], "malformed"),
}


@pytest.mark.parametrize("payload", PAYLOADS)
@kinds
def test_a_payload_has_one_form(kind: str, payload: str) -> None:
    """Whatever is not the one deterministic encoding of a known version is refused, true signature or not."""
    opener = KINDS[kind][2]
    right = sealed_parts(kind)[2]
    assert right[1:3] == b"\x00\x01"
    change, reason = PAYLOADS[payload]
    assert refused(opener, signed(change(right))) == reason


def mutations(kind: str) -> list[tuple[str, dict[int, Any]]]:
    """Returns payloads with one field missing, added, or of another type or range."""
    what, seal, _ = KINDS[kind]
    fields = fields_of(seal(what, SECRET))
    found = [("one more", {**fields, len(fields): -1})]
    wrong: list[Any] = [-1, 1 << 64, "", "x" * 65, "\n", b"", [], [[]], [0] * 300, {}, b"x" * 31]
    for key in fields:
        found.append((f"{key} missing", {k: value for k, value in fields.items() if k != key}))
        found += [(f"{key} {value!r:.20}", {**fields, key: value}) for value in wrong if value != fields[key]]
    return found


# A field whose type allows some of the wrong values above.
ALLOWED: dict[tuple[str, int], list[Any]] = {
    ("receipt", 6): [[]],
    ("receipt", 9): [b"", b"x" * 31],
    ("health", 8): [[]],
    ("health", 11): [[]],
}


@kinds
def test_every_field_has_its_type_and_range(kind: str) -> None:
    """A missing or further field, a wrong type, a number out of range, an empty or unprintable text: refused."""
    _, _, opener = KINDS[kind]
    for label, fields in mutations(kind):
        key = int(label.split()[0]) if label[0].isdigit() else -1
        if key in fields and fields[key] in ALLOWED.get((kind, key), []):
            continue
        assert refused(opener, signed(encoded(fields))) in {"malformed", "unknown_version"}, label


def with_group(change: Callable[[list[Any]], object]) -> bytes:
    """Returns the message with its group [stream, quantity, cadence, bounds, policy, nodes] changed."""
    fields = fields_of(wire.seal_message(MESSAGE, SECRET))
    group = fields[10][0]
    replaced = change(group)
    fields[10] = [group if replaced is None else replaced]
    return signed(encoded(fields))


def put(place: int, value: object) -> Callable[[list[Any]], object]:
    return lambda group: [*group[:place], value, *group[place + 1 :]]


def put_in_node(place: int, value: object) -> Callable[[list[Any]], object]:
    def change(group: list[Any]) -> object:
        node = group[5][0]
        return [*group[:5], [[*node[:place], value, *node[place + 1 :]], *group[5][1:]]]

    return change


GROUPS: dict[str, Callable[[list[Any]], object]] = {
    "five parts": lambda group: group[:5],
    "no list": lambda group: 7,
    "an unknown quantity": put(1, "radon"),
    "a number as stream": put(0, 1),
    "a cadence of zero": put(2, 0),
    "three bounds": put(3, [0, 0, 0]),
    "a bound out of range": put(3, [0, 100_001]),
    "a policy that is not listed": put(4, 1),
    "no node": put(5, []),
    "too many nodes": lambda group: [*group[:5], group[5] * 65],
    "a node of six parts": lambda group: [*group[:5], [group[5][0][:6]]],
    "an unknown level": put_in_node(0, 8),
    "an end before the start": put_in_node(2, START_S),
    "a start beyond time": put_in_node(1, 1 << 41),
    "a cover before the start": put_in_node(3, START_S - 1),
    "a cover from the end": put_in_node(3, START_S + 3600),
    "presence above twenty": put_in_node(4, 21),
    "an unknown reason": put_in_node(5, 7),
    "a reason with values": put_in_node(5, 1),
    "a release without values": put_in_node(6, []),
    "an indicator of three parts": put_in_node(6, [[0, bytes(8), 1]]),
    "an unknown indicator": put_in_node(6, [[4, bytes(8), 1, 1]]),
    "no integer": put_in_node(6, [[0, b"", 1, 1]]),
    "an integer of seven bytes": put_in_node(6, [[0, bytes(7), 1, 1]]),
    "a number as integer": put_in_node(6, [[0, 5, 1, 1]]),
    "no noise": put_in_node(6, [[0, bytes(8), 0, 1]]),
    "noise beyond 64 bits": put_in_node(6, [[0, bytes(8), 1 << 63, 1]]),
    "no charge": put_in_node(6, [[0, bytes(8), 1, 0]]),
    "nine indicators": put_in_node(6, [[0, bytes(8), 1, 1]] * 9),
}


@pytest.mark.parametrize("group", GROUPS)
def test_every_part_of_a_node_has_its_type_and_range(group: str) -> None:
    """Codes are known, times are in order, integers have eight bytes, a release has values and a withheld none."""
    assert wire.open_message(with_group(lambda group: None), PUBLIC) == MESSAGE
    assert refused(wire.open_message, with_group(GROUPS[group])) == "malformed"


def test_a_message_without_policies_or_groups_is_refused() -> None:
    """A node names a policy of the message's list, and a message has at least one node."""
    fields = fields_of(wire.seal_message(MESSAGE, SECRET))
    assert refused(wire.open_message, signed(encoded({**fields, 9: []}))) == "malformed"
    assert refused(wire.open_message, signed(encoded({**fields, 10: []}))) == "malformed"


def test_the_same_nodes_have_one_form() -> None:
    """A policy listed for nothing or twice, a group that is split or empty: refused, though every field is right."""
    fields = fields_of(wire.seal_message(MESSAGE, SECRET))
    (group,) = fields[10]
    split = [[*group[:5], [node]] for node in group[5]]
    unused = [bytes(32), b"p" * 32]
    for changed in ({9: unused}, {9: [bytes(32)] * 2}, {10: split}, {10: [group, [*group[:5], []]]}):
        assert refused(wire.open_message, signed(encoded({**fields, **changed}))) == "not_canonical"


# --- hostile bytes ---------------------------------------------------------------------------------------------------

tags = st.integers(0, 300)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.integers(-3, 12) | st.text(max_size=3) | st.binary(max_size=3), inner, max_size=5)
        | st.builds(cbor2.CBORTag, tags, inner)
    ),
    max_leaves=12,
)


def try_all(data: bytes) -> None:
    """Offers bytes to every opener; a WireError is the only answer they may have."""
    for opener in (wire.open_message, wire.open_receipt, wire.open_health):
        refused(opener, data)
    for attempt in (
        lambda: wire.open_policy(data, [PUBLIC, OTHER_PUBLIC], 1),
        lambda: wire.add_signature(data, "maire", SECRET),
    ):
        with pytest.raises(WireError):
            attempt()


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xd2", b"\xd2\x84", b"\xd8\x62", b"\xd8\x62\x84\x40\xa0"]))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes, head: bytes) -> None:
    """Arbitrary bytes, also behind the beginning of a true message, are refused and nothing else."""
    try_all(head + data)


@given(st.lists(anything, min_size=3, max_size=5), anything)
def test_no_cbor_raises_anything_but_a_refusal(parts: list[Any], payload: Any) -> None:
    """Arbitrary CBOR in any place, truly signed or not, is refused and nothing else."""
    for tag in (18, 98):
        try_all(cbor2.dumps(cbor2.CBORTag(tag, parts)))
    try_all(signed(cbor2.dumps(payload)))
    fields = fields_of(wire.seal_message(MESSAGE, SECRET))
    for key in (3, 9, 10):
        refused(wire.open_message, signed(cbor2.dumps({**fields, key: [payload]}, canonical=True)))


@given(st.sampled_from(list(KINDS)), st.integers(0, 10**6), st.binary(min_size=1, max_size=8), st.booleans())
def test_a_payload_with_bytes_exchanged_is_refused_or_another(kind: str, at: int, fresh: bytes, insert: bool) -> None:
    """A signer's own nonsense is refused, or it is a document in its one form: it seals to the very same bytes."""
    _, seal, opener = KINDS[kind]
    right = sealed_parts(kind)[2]
    at %= len(right)
    sealed = signed(right[:at] + fresh + right[at + (0 if insert else len(fresh)) :])
    try:
        opened = opener(sealed, PUBLIC)
    except WireError:
        return
    assert seal(opened, SECRET) == sealed


def bomb(levels: int) -> bytes:
    """Returns a list whose members refer twice to the one before (CBOR tags 28 and 29)."""
    members = [b"\xd8\x1c\x82\x00\x00"]
    for before in range(levels - 1):
        reference = b"\xd8\x1d" + encoded(before)
        members.append(b"\xd8\x1c\x82" + reference * 2)
    return b"\x98" + bytes([levels]) + b"".join(members)


NESTED_S = 2.0
"""Far above what a refusal takes, far below what unfolding two hundred doublings would."""


@pytest.mark.parametrize(
    "data",
    [
        bomb(200),
        b"\x81" * 4000,
        b"\xa1\x00" * 2000,
        b"\x9b" + b"\x7f" * 8,
        b"\xbb" + b"\x7f" * 8,
        b"\x9f" * 4000,
        b"\xd8\x1c" * 2000 + b"\x00",
        b"\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01",
    ],
    ids=["shared references", "lists", "maps", "long list", "long map", "open lists", "tags", "exponent"],
)
def test_a_bomb_is_refused_at_once(data: bytes) -> None:
    """Bytes made to unfold, to nest or to allocate are refused before any decoder works on them for long."""
    begun = time.monotonic()
    for head in (b"\xd2", b"\xd2\x84", b"\xd8\x62", b"\xd8\x62\x84"):
        try_all(head + data)
    try_all(signed(data[:3500]))
    assert time.monotonic() - begun < NESTED_S


# --- policy ----------------------------------------------------------------------------------------------------------

SIGNERS = [wire.new_key() for _ in range(3)]
KIDS = ["maire", "dpo", "habitants"]


def policy_by(*who: int) -> bytes:
    return wire.seal_policy(TOML, [(KIDS[number], SIGNERS[number][0]) for number in who])


def publics(*who: int) -> list[bytes]:
    return [SIGNERS[number][1] for number in who]


@pytest.mark.parametrize(
    ("signers", "known", "required", "accepted"),
    [
        ((0,), (0,), 1, True),
        ((0, 1), (0, 1), 2, True),
        ((0, 1), (1, 2), 1, True),
        ((0,), (0, 1), 2, False),
        ((0, 0), (0, 1), 2, False),
        ((0, 0), (0, 0), 2, False),
        ((2,), (0, 1), 1, False),
        ((0,), (), 1, False),
        ((), (0,), 1, False),
        ((0,), (0,), 0, False),
    ],
)
def test_required_signatures_are_of_different_keys(
    signers: tuple[int, ...], known: tuple[int, ...], required: int, accepted: bool
) -> None:
    """A policy holds if enough different known keys signed; a key that signs or is listed twice counts once."""
    sealed = policy_by(*signers)
    if accepted:
        assert wire.open_policy(sealed, publics(*known), required) == TOML
    else:
        with pytest.raises(WireError, match="bad_signature"):
            wire.open_policy(sealed, publics(*known), required)


def test_who_signed_a_policy_is_known_by_the_keys_alone() -> None:
    """Of the keys that are asked for, those that signed, once each; a broken signature is nobody's."""
    assert wire.policy_signers(policy_by(0, 1, 1), publics(1, 2, 0, 1)) == tuple(publics(1, 0))
    assert wire.policy_signers(policy_by(0), publics(2)) == ()
    with pytest.raises(WireError):
        wire.policy_signers(b"", publics(0))


def test_one_flipped_bit_voids_a_policy() -> None:
    """With all signatures required, every bit of a sealed policy matters."""
    sealed = policy_by(0, 1)
    for at in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(WireError):
            wire.open_policy(bytes(changed), publics(0, 1), 2)


def test_a_signature_can_be_added() -> None:
    """A second steward adds a signature; the same key id signs again in place of its older signature."""
    both = wire.add_signature(policy_by(0), KIDS[1], SIGNERS[1][0])
    assert wire.open_policy(both, publics(0, 1), 2) == TOML
    assert both == policy_by(0, 1)
    assert wire.add_signature(both, KIDS[0], SIGNERS[0][0]) == policy_by(1, 0)
    assert wire.policy_bytes(both) == TOML


def test_a_signature_counts_for_its_role_alone() -> None:
    """A key's signature on a message, or over another policy, is none on this one."""
    parts = cbor2.loads(policy_by(0)[2:])
    header = parts[3][0][0]
    other = Ed25519PrivateKey.from_private_bytes(SIGNERS[0][0]).sign(encoded(["Signature1", header, b"", TOML]))
    sealed = b"\xd8\x62" + encoded([b"", {}, TOML, [[header, {}, other]]])
    with pytest.raises(WireError, match="bad_signature"):
        wire.open_policy(sealed, publics(0), 1)
    moved = b"\xd8\x62" + encoded([b"", {}, TOML + b"\n", parts[3]])
    with pytest.raises(WireError, match="bad_signature"):
        wire.open_policy(moved, publics(0), 1)


def policy_with(change: Callable[[list[Any]], object]) -> bytes:
    parts = cbor2.loads(policy_by(0)[2:])
    return b"\xd8\x62" + encoded(change(parts))


POLICIES: dict[str, Callable[[list[Any]], object]] = {
    "a protected body header": lambda p: [encoded({1: -8}), *p[1:]],
    "an unprotected body header": lambda p: [p[0], {1: 1}, *p[2:]],
    "an unprotected signature header": lambda p: [*p[:3], [[p[3][0][0], {4: b"x"}, p[3][0][2]]]],
    "a signature of two parts": lambda p: [*p[:3], [p[3][0][:2]]],
    "a header that is no map": lambda p: [*p[:3], [[encoded([]), {}, p[3][0][2]]]],
    "nine signatures": lambda p: [*p[:3], p[3] * 9],
    "no list of signatures": lambda p: [*p[:3], b""],
    "more than 16 KiB": lambda p: [*p[:2], TOML + bytes(16384), p[3]],
}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_structure_of_a_policy_is_exactly_ours(policy: str) -> None:
    """An empty body header, at most eight signatures of three parts, at most 16 KiB; all else is refused."""
    with pytest.raises(WireError, match="malformed"):
        wire.open_policy(policy_with(POLICIES[policy]), publics(0), 1)


def test_a_long_policy_is_not_sealed() -> None:
    """Sixteen KiB are the limit of a policy, and twenty that of what is read as one."""
    longest = b"#" * wire.POLICY_LIMIT
    sealed = wire.seal_policy(longest, [(kid, key[0]) for kid, key in zip(KIDS, SIGNERS, strict=True)])
    assert wire.open_policy(sealed, publics(0, 1, 2), 3) == longest
    with pytest.raises(WireError, match="oversized"):
        wire.seal_policy(longest + b"#", [])
    with pytest.raises(WireError, match="oversized"):
        wire.policy_bytes(bytes(wire.SEALED_POLICY_LIMIT + 1))


# --- annotation ------------------------------------------------------------------------------------------------------

MARK = Annotation(
    site="plaza",
    number=2,
    issued_s=1_790_100_000,
    sentence="Un échafaudage cachait le capteur.",
    stream="plaza/footfall",
    from_s=1_790_000_100,
    to_s=1_790_010_000,
    cause="obstructed",
    sentence_en="Scaffolding hid the sensor.",
)
TAKEN_BACK = Withdrawal("plaza", 3, 1_790_200_000, "Le capteur visé était celui de la gare.", 2)
NOTES: dict[str, Note] = {"annotation": MARK, "withdrawal": TAKEN_BACK}
notes = pytest.mark.parametrize("name", NOTES)


def note_by(note: Note, *signers: int) -> bytes:
    return wire.seal_annotation(note, [(KIDS[signer], SIGNERS[signer][0]) for signer in signers])


def note_refused(sealed: bytes, *known: int, required: int = 1) -> str:
    with pytest.raises(WireError) as error:
        wire.open_annotation(sealed, publics(*known), required)
    return error.value.reason


def note_fields(note: Note) -> dict[int, Any]:
    fields: dict[int, Any] = cbor2.loads(cbor2.loads(note_by(note)[2:])[2])
    return fields


def note_signed(payload: bytes, body: bytes | None = None) -> bytes:
    """Returns any payload under a true signature of a steward: what a program gone bad could make of it."""
    header = wire._ANNOTATION if body is None else body
    signature = wire._signature(header, payload, KIDS[0], SIGNERS[0][0])
    return wire._sealed(header, payload, [signature])


sentences = st.builds(str.__add__, st.characters(codec="utf-8", categories=["L", "N"]), name)
quarters = st.integers(0, (1 << 31) // 900)


@st.composite
def any_note(draw: st.DrawFn) -> Note:
    number = draw(st.integers(2, BIG))
    english = draw(st.one_of(st.just(""), sentences))
    if draw(st.booleans()):
        taken = draw(st.integers(1, number - 1))
        return Withdrawal(draw(name), number, draw(st.integers(0, 1 << 32)), draw(sentences), taken, english)
    first, length = draw(quarters), draw(st.integers(1, 1 << 20))
    ends_s = 900 * (first + length)
    issued_s = draw(st.integers(ends_s, 1 << 32))
    cause = draw(st.sampled_from(CAUSES))
    return Annotation(draw(name), number, issued_s, draw(sentences), draw(name), 900 * first, ends_s, cause, english)


@given(any_note())
def test_an_annotation_opens_as_it_was_sealed(note: Note) -> None:
    """Nothing is lost or changed on the way, and what nobody has signed yet can be shown."""
    assert wire.open_annotation(note_by(note, 0, 1), publics(1), 1) == note
    assert wire.read_annotation(note_by(note)) == note


@notes
@pytest.mark.parametrize(
    ("signers", "known", "required", "accepted"),
    [
        ((0,), (0,), 1, True),
        ((0, 1), (0, 1), 2, True),
        ((0,), (0, 1), 2, False),
        ((0, 0), (0, 1), 2, False),
        ((2,), (0, 1), 1, False),
        ((), (0,), 1, False),
        ((0,), (0,), 0, False),
    ],
)
def test_an_annotation_holds_as_a_policy_does(
    name: str, signers: tuple[int, ...], known: tuple[int, ...], required: int, accepted: bool
) -> None:
    """It counts if enough different known keys signed it; none at all is not enough."""
    sealed = note_by(NOTES[name], *signers)
    if accepted:
        assert wire.open_annotation(sealed, publics(*known), required) == NOTES[name]
    else:
        assert note_refused(sealed, *known, required=required) == "bad_signature"


@notes
def test_a_signature_can_be_added_to_an_annotation(name: str) -> None:
    """A second steward adds a signature; the same key id signs again in place of its older signature."""
    note = NOTES[name]
    both = wire.sign_annotation(wire.sign_annotation(note_by(note), KIDS[0], SIGNERS[0][0]), KIDS[1], SIGNERS[1][0])
    assert both == note_by(note, 0, 1)
    assert wire.sign_annotation(both, KIDS[0], SIGNERS[0][0]) == note_by(note, 1, 0)
    assert note_refused(note_by(dataclasses.replace(note, number=9), 0)[:-1], 0) == "malformed"


@notes
def test_one_flipped_bit_voids_an_annotation(name: str) -> None:
    """With all signatures required, every bit of a sealed annotation matters."""
    sealed = note_by(NOTES[name], 0, 1)
    for at in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[at // 8] ^= 1 << at % 8
        note_refused(bytes(changed), 0, 1, required=2)


def test_what_a_steward_signed_as_a_policy_is_no_annotation() -> None:
    """The very same bytes, signed as the one, are refused as the other, however the signatures are packed; were the
    body header not part of what is signed, they would be taken."""
    payload = encoded(note_fields(MARK))
    as_policy = wire.seal_policy(payload, [(KIDS[0], SIGNERS[0][0])])
    assert wire.open_policy(as_policy, publics(0), 1) == payload, "a policy is any bytes to the wire"
    as_note = note_by(MARK, 0)
    assert note_refused(as_policy, 0) == "malformed"
    with pytest.raises(WireError, match="malformed"):
        wire.open_policy(as_note, publics(0), 1)
    for reader in (wire.policy_bytes, wire.read_annotation):
        with pytest.raises(WireError, match="malformed"):
            reader(as_note if reader is wire.policy_bytes else as_policy)
    policy_parts, note_parts = cbor2.loads(as_policy[2:]), cbor2.loads(as_note[2:])
    repacked = wire._sealed(wire._ANNOTATION, payload, policy_parts[3])
    assert note_refused(repacked, 0) == "bad_signature"
    with pytest.raises(WireError, match="bad_signature"):
        wire.open_policy(wire._sealed(b"", payload, note_parts[3]), publics(0), 1)
    # The twin without the context: one signature that is both.
    bare = wire._signature(b"", payload, KIDS[0], SIGNERS[0][0])
    wire._require(b"", payload, [bare], publics(0), 1)
    assert bare == policy_parts[3][0] != note_parts[3][0]


def test_a_gateways_signature_is_none_of_a_steward() -> None:
    """A COSE_Sign1 of the same key over the same payload has another context, too."""
    payload, header = encoded(note_fields(MARK)), cbor2.loads(note_by(MARK, 0)[2:])[3][0][0]
    alone = Ed25519PrivateKey.from_private_bytes(SIGNERS[0][0]).sign(encoded(["Signature1", header, b"", payload]))
    assert note_refused(wire._sealed(wire._ANNOTATION, payload, [[header, {}, alone]]), 0) == "bad_signature"


BODIES: dict[str, Callable[[list[Any]], object]] = {
    "no body header": lambda p: [b"", *p[1:]],
    "another content type": lambda p: [encoded({3: "application/cbor"}), *p[1:]],
    "an unprotected body header": lambda p: [p[0], {1: 1}, *p[2:]],
    "an unprotected signature header": lambda p: [*p[:3], [[p[3][0][0], {4: b"x"}, p[3][0][2]]]],
    "a signature of two parts": lambda p: [*p[:3], [p[3][0][:2]]],
    "nine signatures": lambda p: [*p[:3], p[3] * 9],
}


@pytest.mark.parametrize("body", BODIES)
def test_the_structure_of_an_annotation_is_exactly_ours(body: str) -> None:
    """Its own body header, at most eight signatures of three parts; all else is refused."""
    parts = cbor2.loads(note_by(MARK, 0)[2:])
    assert note_refused(b"\xd8\x62" + encoded(BODIES[body](parts)), 0) == "malformed"


LONG = "x" * (wire.SENTENCE_LIMIT + 1)
ANNOTATION_FIELDS: dict[str, tuple[int, list[object]]] = {
    "a type that is none": (1, [1, 3, 6, "4"]),
    "the other type": (1, [5]),
    "a site": (2, ["", "x" * 65, 1, "a\nb"]),
    "a number": (3, [0, -1, (1 << 53) + 1, "1"]),
    "an instant of issue": (4, [-1, (1 << 32) + 1, MARK.to_s - 1, "1"]),
    "a sentence": (5, ["", LONG, "a\nb", "a\u202eb", "a\x1bb", "=1+1", "-1", " x", "@x", "+x", b"x"]),
    "a stream": (6, ["", "x" * 65, 1]),
    "a beginning": (7, [-900, MARK.from_s + 1, MARK.to_s, MARK.to_s + 900, "1"]),
    "an end": (8, [MARK.from_s, MARK.to_s + 1, MARK.to_s + 90_900, (1 << 32) + 900, "1"]),
    "a cause": (9, [-1, len(CAUSES), "works"]),
    "a sentence in English": (10, ["", LONG, "a\nb", "=1"]),
}
WITHDRAWAL_FIELDS: dict[str, tuple[int, list[object]]] = {
    "the other type": (1, [4]),
    "what is withdrawn": (6, [0, 3, 4, "2"]),
    "a sentence in English": (7, ["", LONG, "=1"]),
}
FIELDS = [
    *((MARK, label, key, value) for label, (key, values) in ANNOTATION_FIELDS.items() for value in values),
    *((TAKEN_BACK, label, key, value) for label, (key, values) in WITHDRAWAL_FIELDS.items() for value in values),
]


@pytest.mark.parametrize(("note", "label", "key", "value"), FIELDS)
def test_every_field_of_an_annotation_has_its_type_and_range(note: Note, label: str, key: int, value: object) -> None:
    """Quarter-hours, over when issued, one printable sentence that no spreadsheet runs: all else is refused, truly
    signed or not."""
    assert note_refused(note_signed(encoded({**note_fields(note), key: value})), 0) == "malformed", label


@notes
def test_an_annotation_has_all_its_fields_and_no_other(name: str) -> None:
    """One missing, one more, another version, a list, a payload that is too long or not in its one form: refused."""
    fields = note_fields(NOTES[name])
    optional = {"annotation": 10, "withdrawal": 7}[name]
    for key in fields:
        without = note_signed(encoded({k: v for k, v in fields.items() if k != key}))
        if key == optional:
            assert wire.open_annotation(without, publics(0), 1).sentence_en == ""
        else:
            assert note_refused(without, 0) == ("unknown_version" if key == 0 else "malformed")
    assert note_refused(note_signed(encoded({**fields, 11: 0})), 0) == "malformed"
    assert note_refused(note_signed(encoded({**fields, 0: 2})), 0) == "unknown_version"
    assert note_refused(note_signed(encoded([1])), 0) == "malformed"
    assert note_refused(note_signed(encoded(fields) + b"\x00"), 0) == "not_canonical"
    assert note_refused(note_signed(encoded({**fields, 5: "x" * wire.ANNOTATION_LIMIT})), 0) == "oversized"
    assert note_refused(bytes(wire.SEALED_ANNOTATION_LIMIT + 1), 0) == "oversized"


@pytest.mark.parametrize(
    "changes",
    [
        {"cause": "weather"},
        {"sentence": ""},
        {"sentence": "=cmd"},
        {"from_s": MARK.to_s},
        {"to_s": MARK.to_s + 60},
        {"issued_s": MARK.to_s - 1},
        {"number": 0},
    ],
)
def test_what_could_not_be_opened_is_not_sealed(changes: dict[str, Any]) -> None:
    """A steward's mistake ends before anybody signs it."""
    with pytest.raises(WireError, match="malformed"):
        note_by(dataclasses.replace(MARK, **changes))
    with pytest.raises(WireError, match="malformed"):
        note_by(dataclasses.replace(TAKEN_BACK, withdraws=3))


def test_the_longest_annotation_fits() -> None:
    """Two sentences of the longest letters, the longest names and eight signatures stay within the limits."""
    letter = "\U0001d538"  # a letter of four bytes
    most = dataclasses.replace(
        MARK,
        site=letter * wire.TEXT_LIMIT,
        stream=letter * wire.TEXT_LIMIT,
        sentence=letter * wire.SENTENCE_LIMIT,
        sentence_en=letter * wire.SENTENCE_LIMIT,
    )
    keys = [wire.new_key() for _ in range(wire.SIGNATURES_LIMIT)]
    sealed = wire.seal_annotation(most, [(f"steward-{public.hex()[:16]}", secret) for secret, public in keys])
    assert len(sealed) > 3000
    assert wire.open_annotation(sealed, [public for _, public in keys], len(keys)) == most


# --- keys ------------------------------------------------------------------------------------------------------------


def test_keys_are_fresh_and_belong_together() -> None:
    """Each new key is another one, and its public half can be had from its secret."""
    (one, one_public), (two, two_public) = wire.new_key(), wire.new_key()
    assert len({one, two, one_public, two_public}) == 4
    assert wire.public_key(one) == one_public and len(one) == len(one_public) == 32


def test_signing_is_deterministic() -> None:
    """The same message under the same key is the same bytes: a retry cannot differ."""
    assert wire.seal_message(MESSAGE, SECRET) == wire.seal_message(MESSAGE, SECRET)


def test_messages_one_after_the_other_come_apart_as_they_were_sealed() -> None:
    """A file of sealed messages needs no frame: each says where it ends. Whatever is not such a row is refused."""
    parts = [b"a" * 3, b"", b"b" * 24, b"c" * 300, b"d" * 64]
    sealed = [
        wire._encode(cbor2.CBORTag(18, [protected, {}, payload, bytes(64)])) for protected in parts for payload in parts
    ]
    row = b"".join(sealed)
    assert wire.messages_in(row) == sealed
    assert wire.messages_in(b"") == []
    wide = wire._encode(cbor2.CBORTag(18, [b"", {}, bytes(70_000), b""]))
    for wrong in (row[:-1], row + b"\x00", row + b"\xd2\x84", row + b"\xd2\x84\x60", row + b"\xd2\x84\x58", wide):
        with pytest.raises(WireError, match="malformed"):
            wire.messages_in(wrong)


def test_bytes_beside_the_documents_are_signed_as_these_are() -> None:
    """Signature and check of what no document holds, such as a checkpoint."""
    secret, public = wire.new_key()
    wire.require_signature(public, wire.sign(secret, b"said"), b"said")
    with pytest.raises(WireError, match="bad_signature"):
        wire.require_signature(public, wire.sign(secret, b"said"), b"other")
