"""A message in its usual form is read in one pass: whatever the bytes are, it comes to the word of the careful way."""

from __future__ import annotations

import dataclasses
import marshal
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from murmure_privacy import wire
from murmure_privacy.errors import WireError
from murmure_privacy.release import REASONS, Health, Message, Node, Noised, Outcome, Release, Withheld
from murmure_privacy.stream import QUANTITIES

SECRET = bytes(range(32))
PUBLIC = wire.public_key(SECRET)
NAMES = st.text("abcé-1", min_size=1, max_size=40)
SIZES = st.sampled_from([0, 1, 23, 24, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, 1 << 53])
START_S = 1_790_000_100


@st.composite
def outcomes(draw: Any) -> Outcome:
    """Any node that the wire can carry, of few streams, so that some follow each other."""
    start_s = draw(st.integers(0, (1 << 32) - 2) | st.sampled_from([0, 65_535, 65_536, START_S]))
    end_s = draw(st.integers(start_s + 1, 1 << 32))
    node = Node(
        stream=draw(st.sampled_from(["plaza/footfall", "plaza/noise"])),
        quantity=draw(st.sampled_from(sorted(QUANTITIES))),
        level=draw(st.sampled_from(wire.LEVEL_CODES)),
        start_s=start_s,
        end_s=end_s,
        covered_from_s=draw(st.integers(start_s, end_s - 1)),
        present=draw(st.integers(0, 20)),
        cadence_ms=draw(st.sampled_from([1, 23, 1000, 3_600_000])),
        bounds=draw(st.sampled_from([(0, 0), (350, 850), (-100, 500)])),
        policy=draw(st.sampled_from([bytes(32), bytes(range(32))])),
    )
    if draw(st.booleans()):
        return Withheld(node, draw(st.sampled_from(REASONS)))
    noised = st.builds(
        Noised,
        st.sampled_from(wire.INDICATOR_CODES),
        st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=40).map(tuple),
        SIZES.filter(bool),
        SIZES.filter(bool),
    )
    return Release(node, tuple(draw(st.lists(noised, min_size=1, max_size=3))))


MESSAGES = st.builds(
    Message,
    NAMES,
    NAMES,
    NAMES,
    SIZES,
    SIZES.filter(bool),
    st.binary(min_size=32, max_size=32),
    SIZES.filter(lambda size: size <= 1 << 32),
    st.lists(outcomes(), min_size=1, max_size=4).map(tuple),
).filter(lambda message: len(wire._message_payload(message)) < 3000)


def word(unwrap: Any, sealed: bytes) -> object:
    """What comes of the bytes: a message, or the reason against them."""
    try:
        return wire.open_envelope(unwrap(sealed), PUBLIC)
    except WireError as error:
        return error.reason


def message(**node: Any) -> Message:
    """A message of one released node and one withheld, both in the usual form unless `node` changes the first."""
    usual = Node("plaza/noise", "noise", "1h", START_S, START_S + 3600, START_S, 20, 1000, (350, 800), bytes(32))
    released = Release(dataclasses.replace(usual, **node), (Noised("histogram", tuple(range(-9, 9)), 9458, 5590),) * 2)
    withheld = Withheld(dataclasses.replace(usual, level="1d", end_s=START_S + 86_400, present=3), "sensor_absent")
    return Message("gw-a", "centre", "plaza", 1, 812, bytes(32), START_S + 3600, (released, withheld))


def spoilt(payload: bytes) -> bytes:
    """A payload, whatever it is, under a true signature: what a gateway gone bad could send."""
    return wire._seal1(payload, SECRET, "gw-a")


@given(MESSAGES)
def test_a_message_reads_the_same_both_ways(sealed_from: Message) -> None:
    """What a gateway can seal opens to what it was, whichever way it is read."""
    sealed = wire.seal_message(sealed_from, SECRET)
    assert word(wire.unwrap, sealed) == word(wire._unwrap, sealed) == sealed_from


HEALTHS = st.builds(
    Health,
    NAMES,
    NAMES,
    SIZES.filter(lambda size: size <= 1 << 32),
    SIZES,
    SIZES,
    NAMES,
    st.lists(st.tuples(NAMES, st.sampled_from(wire.PORT_STATES)), max_size=3).map(tuple),
    SIZES,
    st.sampled_from(wire.CLOCK_STATES),
    st.none() | st.integers(-100, 200),
    SIZES,
    st.none() | SIZES,
)


@given(MESSAGES | HEALTHS)
@example(message())
def test_what_is_opened_in_another_process_is_the_same(said: Message | Health) -> None:
    """As plain tuples, through the bytes between two processes, everything stays what it was, and of its own class."""
    sealed = wire.seal_message(said, SECRET) if isinstance(said, Message) else wire.seal_health(said, SECRET)
    flat = marshal.loads(marshal.dumps(wire.open_flat(wire.unwrap(sealed), PUBLIC), 2))
    assert flat == wire.flatten(said)
    assert wire.unflatten(flat) == said
    assert repr(wire.unflatten(flat)) == repr(said)  # == on dataclasses asks for the class itself, its parts may not be


def test_a_forged_message_is_not_flattened() -> None:
    """The signature is looked at before anything is handed on."""
    sealed = wire.seal_message(message(), bytes(32))
    with pytest.raises(WireError, match="not by the expected key"):
        wire.open_flat(wire.unwrap(sealed), PUBLIC)


@given(MESSAGES, st.data())
def test_spoilt_bytes_come_to_the_same_word_both_ways(sealed_from: Message, data: Any) -> None:
    """A byte changed, left out or put in, under a true signature or outside it: nothing opens in one way only."""
    whole = data.draw(st.booleans())
    spoil = bytearray(wire.seal_message(sealed_from, SECRET) if whole else wire._message_payload(sealed_from))
    at = data.draw(st.integers(0, len(spoil) - 1))
    length = data.draw(st.integers(0, 2))
    spoil[at : at + length] = data.draw(
        st.binary(max_size=2) | st.sampled_from([b"\x18", b"\x19\x00", b"\x80", b"\xa0"])
    )
    sealed = bytes(spoil) if whole else spoilt(bytes(spoil))
    assert word(wire.unwrap, sealed) == word(wire._unwrap, sealed)


def test_every_byte_of_a_usual_message_is_looked_at() -> None:
    """Each byte of a payload, set to each of a few values, comes to the same word both ways."""
    payload = wire._message_payload(message())
    for at in range(len(payload)):
        for value in {0, 1, payload[at] ^ 1, payload[at] ^ 32, payload[at] ^ 128, 0x18, 0x78, 0xFF}:
            sealed = spoilt(payload[:at] + bytes([value]) + payload[at + 1 :])
            assert word(wire.unwrap, sealed) == word(wire._unwrap, sealed), (at, value)


def test_what_gateways_say_every_day_is_in_the_usual_form() -> None:
    """The quick way is the one that is taken, or the centre would be slow and no other test would tell."""
    envelope = wire.unwrap(wire.seal_message(message(), SECRET))
    assert isinstance(envelope.payload, tuple)
    assert not isinstance(wire._unwrap(wire.seal_message(message(), SECRET)).payload, tuple)


def _split(fields: dict[int, Any]) -> None:
    group = fields[10][0]
    fields[10] = [[*group[:5], group[5][:1]], [*group[:5], group[5][1:]]]


FORMS = {
    "one stream in two groups": (_split, "not_canonical"),
    "a group without a node": (lambda fields: fields[10][0].__setitem__(5, []), "malformed"),
    "no group": (lambda fields: fields.__setitem__(10, []), "malformed"),
    "a released node without values": (lambda fields: fields[10][0][5][0].__setitem__(6, []), "malformed"),
    "a withheld node with values": (
        lambda fields: fields[10][0][5][1].__setitem__(6, fields[10][0][5][0][6]),
        "malformed",
    ),
    "an indicator of no integer": (lambda fields: fields[10][0][5][0][6][0].__setitem__(1, b""), "malformed"),
    "an integer of seven bytes": (lambda fields: fields[10][0][5][0][6][0].__setitem__(1, bytes(7)), "malformed"),
    "a level that is not": (lambda fields: fields[10][0][5][0].__setitem__(0, 8), "malformed"),
    "a name that does not print": (lambda fields: fields.__setitem__(3, "a\n"), "malformed"),
    "another speaker": (lambda fields: fields.__setitem__(2, "gw-b"), "malformed"),
    "a policy for nothing": (lambda fields: fields[9].append(bytes(range(32))), "not_canonical"),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_are_refused_for_the_reason_of_the_careful_way(form: str) -> None:
    """A form that is not the one of its nodes opens in neither way."""
    change, reason = FORMS[form]
    fields = cbor2.loads(wire._message_payload(message()))
    change(fields)
    sealed = spoilt(cbor2.dumps(fields, canonical=True))
    assert word(wire.unwrap, sealed) == word(wire._unwrap, sealed) == reason


@pytest.mark.parametrize(
    "unusual",
    [message(bounds=(-100, 500)), message(policy=bytes(range(32))), message(start_s=5, covered_from_s=5)],
    ids=["bounds below zero", "two policies", "a start that needs fewer bytes"],
)
def test_rare_forms_open_by_the_careful_way(unusual: Message) -> None:
    """What is right and rare is not refused for being rare."""
    sealed = wire.seal_message(unusual, SECRET)
    assert not isinstance(wire.unwrap(sealed).payload, tuple)
    assert wire.open_message(sealed, PUBLIC) == unusual
