"""Release, receipt, health, policy and annotation as signed bytes: the only serialiser and parser. See docs/wire.md.

How the format may change: fields are added as optional with a new key, never removed, never re-meant; an unknown
version, type or key is refused, never guessed. Data never names code.

A message is COSE_Sign1 (RFC 9052, tag 18), what stewards sign COSE_Sign (tag 98), both Ed25519. Payloads are
deterministically encoded CBOR (RFC 8949 section 4.2.1); that of a policy is its TOML. Maps have small integer keys
only, so that length-first and bytewise order agree.
What is read is first looked through for anything but integers, strings, lists and maps, then decoded, encoded again
and compared: duplicate keys, long forms and trailing bytes all fail there.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from murmure_privacy.annotation import CAUSES, Annotation, Note, Withdrawal
from murmure_privacy.errors import WireError
from murmure_privacy.frozen import quick
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
from murmure_privacy.stream import QUANTITIES
from murmure_privacy.window import PARTS, QUARTER_S

if TYPE_CHECKING:
    from murmure_privacy.plan import Plan, StreamPlan  # plan imports policy, which takes its limit and digest from here

VERSION = 1
CONTENT_TYPE = "application/cose"
MESSAGE_LIMIT = 4096
POLICY_LIMIT = 16384
TEXT_LIMIT = 64  # characters of an id or a name
AGAIN_LIMIT = 32  # ranges of numbers that a receipt can ask for; with 256 exceptions it still fits a message
SEALED_POLICY_LIMIT = 20480  # sixteen KiB of text, and its signatures
ANNOTATION_LIMIT = 2560
SEALED_ANNOTATION_LIMIT = 6144
SENTENCE_LIMIT = 200  # characters of what an annotation tells residents
SIGNATURES_LIMIT = 8
FIRST_PREVIOUS = bytes(32)

LEVEL_CODES = ("15min", "1h", "6h", "1d", "1w", "day", "evening", "night")
INDICATOR_CODES = ("crossings", "histogram", "mean", "energy")
SETTLED_BADLY = ("refused", "quarantined", "forked")
PORT_STATES = ("absent", "opening", "warming", "ok", "degraded", "stalled", "wrong-device", "denied")
CLOCK_STATES = ("ok", "unsynced", "behind", "stepped")

_TYPE_RELEASE, _TYPE_RECEIPT, _TYPE_HEALTH, _TYPE_ANNOTATION, _TYPE_WITHDRAWAL = 1, 2, 3, 4, 5
_SIGN1, _SIGN = 18, 98
_TAGS = {_SIGN1: b"\xd2", _SIGN: b"\xd8\x62"}
_EDDSA = -8
_ANNOTATION = cbor2.dumps({3: "application/vnd.murmure.annotation+cbor"}, canonical=True)
"""The protected body header of an annotation: content type, RFC 9052 section 3.1. That of a policy is empty."""
_TIME_LIMIT = 1 << 32  # the year 2106: every reader has a calendar for it
_BIG = 1 << 53
SIGMA_LIMIT = (1 << 63) - 1  # thousandths; noise of this size still fits the eight bytes of an integer


# --- keys ------------------------------------------------------------------------------------------------------------


def new_key() -> tuple[bytes, bytes]:
    """Returns a fresh Ed25519 key as (secret, public), 32 bytes each."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def public_key(secret: bytes) -> bytes:
    """Returns the public half of a 32-byte secret."""
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def sign(secret: bytes, said: bytes) -> bytes:
    """Returns the Ed25519 signature of a 32-byte secret over bytes that no document of this file holds."""
    return Ed25519PrivateKey.from_private_bytes(secret).sign(said)


def require_signature(public: bytes, signature: bytes, said: bytes) -> None:
    """Raises WireError `bad_signature` unless `public` (32 bytes) made `signature` (64 bytes) over these bytes."""
    _check(public, signature, said)


def digest(sealed: bytes) -> bytes:
    """Returns the SHA-256 by which a sealed message or a policy's bytes are named."""
    return hashlib.sha256(sealed).digest()


# --- COSE ------------------------------------------------------------------------------------------------------------


def _encode(value: object) -> bytes:
    return cbor2.dumps(value, canonical=True)


def _plain(data: bytes) -> None:
    """Refuses tags, floats, simple values and open lengths, head by head. A decoder must not even see a tag: shared
    references let two hundred bytes unfold without end, before any signature is checked."""
    at = 0
    while at < len(data):
        major, short = data[at] >> 5, data[at] & 31
        at += 1
        if major > 5:
            raise WireError("malformed", "a tag, float or simple value where none may stand")
        if short > 27:
            raise WireError("not_canonical", "a length is left open")
        argument = short
        if short >= 24:
            width = 1 << (short - 24)
            argument = int.from_bytes(data[at : at + width], "big")
            at += width
        if major in (2, 3):
            at += argument


def _decode(data: bytes, limit: int) -> Any:
    if len(data) > limit:
        raise WireError("oversized", f"{len(data)} bytes where {limit} are allowed")
    _plain(data)
    try:
        value = cbor2.loads(data)
        canonical = _encode(value)
    except Exception as error:  # whatever a decoder says of hostile bytes, the answer is the same refusal
        raise WireError("malformed", "not CBOR") from error
    if canonical != data:
        raise WireError("not_canonical", "encoding it again gives other bytes")
    return value


@lru_cache(maxsize=4)  # a centre signs thousands of receipts with one key, and half the work is to read it
def _signer(secret: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(secret)


def _seal1(payload: bytes, secret: bytes, kid: str) -> bytes:
    protected = _encode({1: _EDDSA, 4: kid.encode()})
    signature = _signer(secret).sign(_encode(["Signature1", protected, b"", payload]))
    return _encode(cbor2.CBORTag(_SIGN1, [protected, {}, payload, signature]))


def _parts(sealed: bytes, limit: int, tag: int, last: type) -> list[Any]:
    # The tag comes off as bytes, since cbor2 from 6 on freezes lists and maps that stand inside a tag.
    head = _TAGS[tag]
    if len(sealed) <= limit and not sealed.startswith(head):
        raise WireError("malformed", f"no COSE structure with tag {tag}")
    parts = _decode(sealed[len(head) :], limit - len(head))
    if not isinstance(parts, list) or len(parts) != 4 or parts[1] != {} or not isinstance(parts[1], dict):
        raise WireError("malformed", "a COSE structure has four parts, the second an empty map")
    if not isinstance(parts[0], bytes) or not isinstance(parts[2], bytes) or not isinstance(parts[3], last):
        raise WireError("malformed", "a part of the COSE structure has the wrong type")
    return parts


def _kid(protected: bytes) -> bytes:
    header = _decode(protected, 256)
    if not isinstance(header, dict) or set(header) != {1, 4} or header[1] != _EDDSA:
        raise WireError("malformed", "the protected header holds EdDSA and a key id, nothing else")
    return _bytes(header[4], None)


Check = Callable[[bytes, bytes, bytes], None]
"""Takes public key, signature and signed bytes; raises WireError `bad_signature` unless the one made the other."""


def _check(public: bytes, signature: bytes, signed: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    except (InvalidSignature, ValueError) as error:
        raise WireError("bad_signature", "the signature is not by the expected key") from error


@dataclass(frozen=True, slots=True)
class Envelope:
    """A COSE_Sign1 in canonical form, its payload included, NOT believed: whoever wrote it may be anybody.

    `kid`: the key id, which names the gateway that is said to have signed (`speaker` is its text). `signed`: what
    the signature covers. `payload`: a map, or as tuples what the usual form of a message was read as.
    """

    kid: bytes
    signed: bytes
    signature: bytes
    payload: Any

    @property
    def speaker(self) -> str:
        """Returns whose key to try; a text that no gateway has for one that cannot be."""
        return self.kid.decode("ascii", "replace")


def unwrap(sealed: bytes) -> Envelope:
    """Returns the parts of a message. Asks nobody and believes nothing; what is inside is looked at by `open_envelope`.

    Raises WireError `oversized`, `malformed` or `not_canonical`, in that order, for what no key can make right.
    """
    try:
        return _usual_envelope(sealed)
    except (ValueError, LookupError, struct.error, WireError):
        return _unwrap(sealed)  # the careful way says what it is, and if it is wrong, why


def _unwrap(sealed: bytes) -> Envelope:
    protected, _, payload, signature = _parts(sealed, MESSAGE_LIMIT, _SIGN1, bytes)
    signed = _encode(["Signature1", protected, b"", payload])
    return Envelope(_kid(protected), signed, signature, _decode(payload, MESSAGE_LIMIT))


def messages_in(data: bytes) -> list[bytes]:
    """Returns the sealed messages that stand one after the other in a file (a CBOR sequence, RFC 8742), unopened.

    Raises WireError `malformed` for what is no such row.
    """
    found, at = [], 0
    while at < len(data):
        begin, at = at, at + 2
        if data[begin:at] != b"\xd2\x84":
            raise WireError("malformed", "no COSE_Sign1 begins here")
        for _ in range(4):
            if data[at : at + 1] == b"\xa0":
                at += 1
                continue
            major, short = divmod(data[at], 32) if at < len(data) else (0, 0)
            width = 1 << (short - 24) if short >= 24 else 0
            if major != 2 or width > 2:
                raise WireError("malformed", "a part of a COSE_Sign1 is a byte string")
            at += 1 + width
            at += int.from_bytes(data[at - width : at], "big") if width else short
        if at > len(data):
            raise WireError("malformed", "it ends within a message")
        found.append(data[begin:at])
    return found


def open_envelope(envelope: Envelope, public: bytes, check: Check | None = None) -> Message | Health:
    """Returns what a gateway with this key has said. Raises WireError: `bad_signature` before it looks at a field.

    `check` stands in for the check of the signature, for who has a faster one or has asked it already.
    """
    if isinstance(envelope.payload, tuple):
        (check or _check)(public, envelope.signature, envelope.signed)
        return _unflattened(envelope.payload)
    fields = _believed(envelope, public, check)
    return _health(fields) if fields.get(1) == _TYPE_HEALTH else _message(fields)


def open_flat(envelope: Envelope, public: bytes, check: Check | None = None) -> Flat:
    """Returns what `flatten` makes of what `open_envelope` returns, without the way between where there is a shorter
    one. Raises as it does."""
    if isinstance(envelope.payload, tuple):
        (check or _check)(public, envelope.signature, envelope.signed)
        return envelope.payload
    return flatten(open_envelope(envelope, public, check))


def _believed(envelope: Envelope, public: bytes, check: Check | None = None) -> dict[int, Any]:
    (check or _check)(public, envelope.signature, envelope.signed)
    fields = _map(envelope.payload)
    if _text(fields.get(2)).encode() != envelope.kid:
        raise WireError("malformed", "the key id is not that of the speaker")
    return fields


def _open1(sealed: bytes, public: bytes) -> dict[int, Any]:
    return _believed(_unwrap(sealed), public)


def _fields(payload: bytes, limit: int) -> dict[int, Any]:
    return _map(_decode(payload, limit))


def _map(fields: object) -> dict[int, Any]:
    if not isinstance(fields, dict) or not all(type(key) is int for key in fields):
        raise WireError("malformed", "the payload is not a map with integer keys")
    if fields.get(0) != VERSION:
        raise WireError("unknown_version", "this program reads version 1")
    return fields


# --- checked reading -------------------------------------------------------------------------------------------------


def _int(value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise WireError("malformed", f"an integer from {low} to {high} was expected")
    return value


def _text(value: object, limit: int = TEXT_LIMIT) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
        raise WireError("malformed", f"a text of at most {limit} printable characters was expected")
    return value


def _bytes(value: object, length: int | None) -> bytes:
    if not isinstance(value, bytes) or (length is not None and len(value) != length):
        raise WireError("malformed", f"{length} bytes were expected")
    return value


def _list(value: object, limit: int, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or len(value) > limit or (length is not None and len(value) != length):
        raise WireError("malformed", "a list of another length was expected")
    return value


def _code(value: object, table: Sequence[str]) -> str:
    return table[_int(value, 0, len(table) - 1)]


def _keys(fields: dict[int, Any], wanted: int, optional: int = 0) -> None:
    """`optional`: how many keys after the `wanted` ones need not be there."""
    if not set(range(wanted)) <= set(fields) <= set(range(wanted + optional)):
        raise WireError("malformed", "fields are missing or unknown")


# --- release ---------------------------------------------------------------------------------------------------------


def _integers(values: Iterable[int]) -> bytes:
    """Fixed width: the length of a message must not depend on a value."""
    return b"".join(value.to_bytes(8, "big", signed=True) for value in values)


def _outcome_fields(outcome: Outcome) -> list[Any]:
    node = outcome.node
    head = [LEVEL_CODES.index(node.level), node.start_s, node.end_s, node.covered_from_s, node.present]
    if isinstance(outcome, Withheld):
        return [*head, REASONS.index(outcome.reason) + 1, []]
    return [
        *head,
        0,
        [
            [INDICATOR_CODES.index(n.indicator), _integers(n.integers), n.sigma_milli, n.rho_micro]
            for n in outcome.noised
        ],
    ]


def _message_payload(message: Message) -> bytes:
    groups: list[list[Any]] = []
    policies: list[bytes] = []
    for outcome in message.outcomes:
        node = outcome.node
        if node.policy not in policies:
            policies.append(node.policy)
        head = [node.stream, node.quantity, node.cadence_ms, list(node.bounds), policies.index(node.policy)]
        if not groups or groups[-1][:5] != head:
            groups.append([*head, []])
        groups[-1][5].append(_outcome_fields(outcome))
    return _encode(
        {
            0: VERSION,
            1: _TYPE_RELEASE,
            2: message.gateway,
            3: message.quartier,
            4: message.site,
            5: message.boot,
            6: message.seq,
            7: message.previous,
            8: message.closing_s,
            9: policies,
            10: groups,
        }
    )


def seal_message(message: Message, secret: bytes) -> bytes:
    """Returns the signed bytes of a message, at most 4 KiB. Raises WireError `oversized` beyond."""
    sealed = _seal1(_message_payload(message), secret, message.gateway)
    if len(sealed) > MESSAGE_LIMIT:
        raise WireError("oversized", f"{len(sealed)} bytes where {MESSAGE_LIMIT} are allowed")
    return sealed


def largest_message(*plans: Plan) -> int:
    """Returns the length of the longest message that plans can give: every level of every stream closing at once.

    With several plans each stream may be under any one of them, as while policies change.
    """
    by_stream: dict[str, list[list[Outcome]]] = {}
    for plan in plans:
        for stream in plan.streams.values():
            by_stream.setdefault(stream.stream.id, []).append(_fullest(stream, plan.policy.hash))
    longest = [
        max(choices, key=lambda outcomes: len(_encode([_outcome_fields(outcome) for outcome in outcomes])))
        for choices in by_stream.values()
    ]
    outcomes = tuple(outcome for choice in longest for outcome in choice)
    name = "x" * 40
    message = Message(name, name, plans[0].policy.site, _BIG, _BIG, FIRST_PREVIOUS, _TIME_LIMIT, outcomes)
    # Only the payload's length is wanted; the key signs nothing that leaves.
    return len(_seal1(_message_payload(message), new_key()[0], name))


def _fullest(stream: StreamPlan, policy: bytes) -> list[Outcome]:
    """Returns each level of a stream as one message may hold it, with the longest numbers; of parts of a day, one."""
    outcomes: list[Outcome] = []
    parts = [level for level in stream.nodes if level.level in PARTS]
    for level in [level for level in stream.nodes if level not in parts[1:]]:
        node = Node(
            stream=stream.stream.id,
            quantity=stream.stream.quantity.name,
            level=level.level,
            start_s=_TIME_LIMIT - 2,
            end_s=_TIME_LIMIT,
            covered_from_s=_TIME_LIMIT - 2,
            present=20,
            cadence_ms=stream.stream.cadence_ms,
            bounds=stream.stream.bounds,
            policy=policy,
        )
        noised = tuple(Noised(i.indicator, (0,) * i.width, i.sigma_milli, i.rho_micro) for i in level.indicators)
        outcomes.append(Release(node, noised))
    return outcomes


def _noised(item: object) -> Noised:
    indicator, packed, sigma, rho = _list(item, 4, 4)
    data = _bytes(packed, None)
    if not data or len(data) % 8:
        raise WireError("malformed", "released integers have eight bytes each")
    integers = tuple(int.from_bytes(data[at : at + 8], "big", signed=True) for at in range(0, len(data), 8))
    return Noised(_code(indicator, INDICATOR_CODES), integers, _int(sigma, 1, SIGMA_LIMIT), _int(rho, 1, _BIG))


def _outcome(item: object, head: Callable[..., Node]) -> Outcome:
    level, start, end, covered, present, status, noised = _list(item, 7, 7)
    start_s, end_s = _int(start, 0, _TIME_LIMIT), _int(end, 0, _TIME_LIMIT)
    if start_s >= end_s:
        raise WireError("malformed", "a node ends after it starts")
    node = head(
        level=_code(level, LEVEL_CODES),
        start_s=start_s,
        end_s=end_s,
        covered_from_s=_int(covered, start_s, end_s - 1),
        present=_int(present, 0, 20),
    )
    items = [_noised(entry) for entry in _list(noised, 8)]
    if _int(status, 0, len(REASONS)):
        if items:
            raise WireError("malformed", "a withheld node has no values")
        return Withheld(node, REASONS[status - 1])
    if not items:
        raise WireError("malformed", "a released node has values")
    return Release(node, tuple(items))


# A message in its usual form is read in one pass, in which only the shortest form of each head is known, so that what
# is read needs no encoding again. A byte that is not where it usually is ends it, without a verdict: the careful way,
# which knows every form and names what is wrong, begins from the start. What gateways say anew each time (who they are,
# which stream it is) is read once and known by its bytes.
_WIDTHS = {24: (1, 24), 25: (2, 1 << 8), 26: (4, 1 << 16), 27: (8, 1 << 32)}  # of a head, and the least that needs it
_MIDDLE = struct.Struct(">3s32s2sI4s32s2B")  # previous, closing, the one policy, list of groups
_NUMBER = rb"([\x00-\x17]|\x18.|\x19..|\x1a....)"
_GROUP = re.compile(rb"\x86([ -\xff]+)" + _NUMBER + rb"\x82" + _NUMBER + _NUMBER + rb"\x00([\x81-\x97])", re.DOTALL)
_OUTCOME = struct.Struct(">BBBIBIBIBBB")  # list of seven, level, start, end, covered, present, status, list of values
_PROTECTED_LIMIT = 256
_KNOWN = 1 << 14  # the same gateways speak of the same streams, all day

Flat = tuple[Any, ...]
"""What a gateway has said as tuples of plain values, in the order of the classes' fields (`flatten`)."""


def _head(data: bytes, at: int, major: int) -> tuple[int, int]:
    """Returns the argument of the head at `at`, and where the next byte is. Raises LookupError or ValueError."""
    short = data[at] - (major << 5)
    if 0 <= short < 24:
        return short, at + 1
    width, least = _WIDTHS[short]
    argument = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    if argument < least:
        raise ValueError
    return argument, at + 1 + width


def _string(data: bytes, at: int, major: int) -> tuple[bytes, int]:
    length, at = _head(data, at, major)
    return data[at : at + length], at + length


@lru_cache(maxsize=_KNOWN)
def _kid_of(protected: bytes) -> bytes:
    """Returns the key id of a protected header in its one form."""
    kid, end = _string(protected, 4, 2)
    if (protected[:4], end) != (b"\xa2\x01\x27\x04", len(protected)) or end > _PROTECTED_LIMIT:
        raise ValueError
    return kid


@lru_cache(maxsize=_KNOWN)
def _who(data: bytes) -> tuple[bytes, str, str, str]:
    """Returns the speaker's key id, and gateway, quartier and site, from how a payload begins."""
    gateway, quartier_at = _string(data, 6, 3)
    quartier, site_at = _string(data, quartier_at + 1, 3)
    site, end = _string(data, site_at + 1, 3)
    keys = data[:6] + bytes([data[quartier_at], data[site_at]])
    if (keys, end) != (b"\xab\x00\x01\x01\x01\x02\x03\x04", len(data)):
        raise ValueError
    return gateway, _text(gateway.decode()), _text(quartier.decode()), _text(site.decode())


@lru_cache(maxsize=_KNOWN)
def _which(data: bytes) -> tuple[str, str, int, tuple[int, int], int]:
    """Returns stream, quantity, cadence, bounds and the number of nodes, from how a group begins."""
    found = _GROUP.fullmatch(data)
    assert found is not None  # it is how `data` was found
    texts, *numbers, nodes = found.groups()
    stream, at = _string(texts, 0, 3)
    quantity, end = _string(texts, at, 3)
    cadence_ms, low, high = (_head(number, 0, 0)[0] for number in numbers)
    if end != len(texts):
        raise ValueError
    bounds = _int(low, 0, 100_000), _int(high, 0, 100_000)
    name = QUANTITIES[quantity.decode()].name
    return _text(stream.decode()), name, _int(cadence_ms, 1, 3_600_000), bounds, nodes[0] - 0x80


def _usual_envelope(sealed: bytes) -> Envelope:
    protected, middle = _string(sealed, 2, 2)
    payload, end = _string(sealed, middle + 1, 2)
    kid = _kid_of(protected)
    if (
        (sealed[:2], sealed[middle], sealed[end : end + 2]) != (b"\xd2\x84", 0xA0, b"\x58\x40")
        or len(sealed) != end + 66
        or len(sealed) > MESSAGE_LIMIT
    ):
        raise ValueError
    fields = _usual_message(payload, kid)
    signed = b"\x84\x6aSignature1" + sealed[2:middle] + b"\x40" + sealed[middle + 1 : end]
    return _quick_envelope(kid, signed, sealed[-64:], fields)


def _usual_message(data: bytes, kid: bytes) -> Flat:
    """Returns the message of a payload under one policy."""
    at = data.index(5, 6)  # the key of `boot`: no name has such a byte, nor the head of one
    speaker, gateway, quartier, site = _who(data[:at])
    boot, at = _head(data, at + 1, 0)
    key_of_seq = data[at]
    seq, at = _head(data, at + 1, 0)
    seven, previous, eight, closing_s, nine, policy, ten, groups = _MIDDLE.unpack_from(data, at)
    at += _MIDDLE.size
    if (
        (key_of_seq, seven, eight, nine, ten) != (6, b"\x07\x58\x20", b"\x08\x1a", b"\x09\x81\x58\x20", 10)
        or not (0x81 <= groups <= 0x97 and 0 < seq <= _BIG >= boot and closing_s >= 1 << 16)
        or speaker != kid
    ):
        raise ValueError
    outcomes: list[Flat] = []
    before: object = None
    for _ in range(groups - 0x80):
        found = _GROUP.match(data, at)
        if found is None:
            raise ValueError
        *which, nodes = _which(found[0])
        if which == before:
            raise ValueError
        before = which
        at = _usual_nodes(data, found.end(), nodes, (*which, policy), outcomes)
    if at != len(data):
        raise ValueError
    return gateway, quartier, site, boot, seq, previous, closing_s, tuple(outcomes)


def _usual_nodes(data: bytes, at: int, nodes: int, which: Flat, outcomes: list[Flat]) -> int:
    """Adds the nodes of one stream; returns where the next begins."""
    stream, quantity, cadence_ms, bounds, policy = which
    for _ in range(nodes):
        listed, level, start_w, start_s, end_w, end_s, covered_w, covered_s, present, status, items = (
            _OUTCOME.unpack_from(data, at)
        )
        at += _OUTCOME.size
        if (
            not (listed == 0x87 and start_w == end_w == covered_w == 0x1A)
            or not (1 << 16 <= start_s <= covered_s < end_s and present <= 20)
            or not (0x80 < items <= 0x88 if status == 0 else items == 0x80)
        ):
            raise ValueError
        node = stream, quantity, LEVEL_CODES[level], start_s, end_s, covered_s, present, cadence_ms, bounds, policy
        if status:
            outcomes.append((node, REASONS[status - 1]))
            continue
        noised = []
        for _ in range(items - 0x80):
            four, indicator = data[at], data[at + 1]
            packed, at = _string(data, at + 2, 2)
            sigma, at = _head(data, at, 0)
            rho, at = _head(data, at, 0)
            integers = struct.unpack(f">{len(packed) // 8}q", packed)
            if not (four == 0x84 and integers and 0 < sigma <= SIGMA_LIMIT and 0 < rho <= _BIG):
                raise ValueError
            noised.append((INDICATOR_CODES[indicator], integers, sigma, rho))
        outcomes.append((node, tuple(noised)))
    return at


# --- what was opened, from one process to another of the same program ------------------------------------------------

_quick_message, _quick_node, _quick_noised = quick(Message), quick(Node), quick(Noised)
_quick_envelope, _quick_release, _quick_withheld = quick(Envelope), quick(Release), quick(Withheld)


_HEALTH_FIELDS = len(fields(Health))
_plain_message, _plain_health, _plain_node, _plain_noised = (
    attrgetter(*(field.name for field in fields(cls))) for cls in (Message, Health, Node, Noised)
)


def flatten(said: Message | Health) -> Flat:
    """Returns what was opened as tuples of integers, texts and bytes only, for another process of the same program."""
    if isinstance(said, Health):
        return _plain_health(said)
    *head, outcomes = _plain_message(said)
    plain = [
        (
            _plain_node(outcome.node),
            tuple(map(_plain_noised, outcome.noised)) if isinstance(outcome, Release) else outcome.reason,
        )
        for outcome in outcomes
    ]
    return *head, tuple(plain)


def unflatten(flat: Flat) -> Message | Health:
    """Returns what `flatten` was given. Looks at nothing: whoever made the tuples has opened it, in this program."""
    return Health(*flat) if is_health(flat) else _unflattened(flat)


def is_health(flat: Flat) -> bool:
    """Returns whether a health report was flattened, not a message: the two have not the same number of fields."""
    return len(flat) == _HEALTH_FIELDS


def _unflattened(flat: Flat) -> Message:
    outcomes = tuple(
        [
            _quick_withheld(_quick_node(*node), said)
            if isinstance(said, str)
            else _quick_release(_quick_node(*node), tuple([_quick_noised(*one) for one in said]))
            for node, said in flat[-1]
        ]
    )
    return _quick_message(*flat[:-1], outcomes)


def open_message(sealed: bytes, public: bytes) -> Message:
    """Returns the message that `public` signed. Raises WireError for anything else whatever the bytes are."""
    found = open_envelope(unwrap(sealed), public)
    if not isinstance(found, Message):
        raise WireError("malformed", "not a release message")
    return found


def _message(fields: dict[int, Any]) -> Message:
    if fields.get(1) != _TYPE_RELEASE:
        raise WireError("malformed", "not a release message")
    _keys(fields, 11)
    policies = [_bytes(item, 32) for item in _list(fields[9], 16)]
    outcomes: list[Outcome] = []
    for group in _list(fields[10], 64):
        stream, quantity, cadence, bounds, policy, nodes = _list(group, 6, 6)
        low, high = _list(bounds, 2, 2)
        name = _text(quantity)
        if name not in QUANTITIES:
            raise WireError("malformed", "an unknown quantity")
        policy_hash = policies[_int(policy, 0, len(policies) - 1)] if policies else b""
        fixed = {
            "stream": _text(stream),
            "quantity": name,
            "cadence_ms": _int(cadence, 1, 3_600_000),
            "bounds": (_int(low, -10_000, 100_000), _int(high, -10_000, 100_000)),
            "policy": _bytes(policy_hash, 32),
        }
        outcomes.extend(_outcome(item, lambda fixed=fixed, **own: Node(**fixed, **own)) for item in _list(nodes, 128))
    if not outcomes:
        raise WireError("malformed", "a message without a node")
    message = Message(
        gateway=_text(fields[2]),
        quartier=_text(fields[3]),
        site=_text(fields[4]),
        boot=_int(fields[5], 0, _BIG),
        seq=_int(fields[6], 1, _BIG),
        previous=_bytes(fields[7], 32),
        closing_s=_int(fields[8], 0, _TIME_LIMIT),
        outcomes=tuple(outcomes),
    )
    # One message has one form: no split group, no policy named twice or for nothing.
    if _message_payload(message) != _encode(fields):
        raise WireError("not_canonical", "the same nodes have a shorter form")
    return message


# --- receipt ---------------------------------------------------------------------------------------------------------


def seal_receipt(receipt: Receipt, secret: bytes) -> bytes:
    """Returns the signed bytes of a receipt; at most the 256 newest exceptions and the 32 oldest ranges that are asked
    for are kept. With numbers above 2^32 and a long proof fewer exceptions fit: the newest ones."""
    exceptions = [[seq, SETTLED_BADLY.index(reason)] for seq, reason in receipt.exceptions[-256:]]
    fields: dict[int, object] = {
        0: VERSION,
        1: _TYPE_RECEIPT,
        2: receipt.gateway,
        3: receipt.quartier,
        4: receipt.settled_seq,
        5: receipt.settled_hash,
        6: exceptions,
        7: receipt.charged_rho_micro,
        8: receipt.policy_version,
        9: receipt.checkpoint,
    }
    if receipt.again:
        fields[10] = [list(numbers) for numbers in receipt.again[:AGAIN_LIMIT]]
    sealed = _seal1(_encode(fields), secret, receipt.gateway)
    excess = len(sealed) - MESSAGE_LIMIT
    if excess <= 0:
        return sealed
    while excess > 0 and exceptions:
        excess -= len(_encode(exceptions.pop(0)))
    return _seal1(_encode(fields), secret, receipt.gateway)


def open_receipt(sealed: bytes, public: bytes) -> Receipt:
    """Returns the receipt that the centre's key signed. Raises WireError for anything else."""
    fields = _open1(sealed, public)
    if fields.get(1) != _TYPE_RECEIPT:
        raise WireError("malformed", "not a receipt")
    _keys(fields, 10, optional=1)
    exceptions = [_list(item, 2, 2) for item in _list(fields[6], 256)]
    return Receipt(
        gateway=_text(fields[2]),
        quartier=_text(fields[3]),
        settled_seq=_int(fields[4], 0, _BIG),
        settled_hash=_bytes(fields[5], 32),
        exceptions=tuple((_int(seq, 1, _BIG), _code(reason, SETTLED_BADLY)) for seq, reason in exceptions),
        charged_rho_micro=_int(fields[7], 0, _BIG),
        policy_version=_int(fields[8], 0, _BIG),
        checkpoint=_bytes(fields[9], None),
        again=_ranges(fields[10]) if 10 in fields else (),
    )


def _ranges(value: object) -> tuple[tuple[int, int], ...]:
    """Returns (first, last) ranges: at least one, ascending, a hole between two, so that one set has one form."""
    found: list[tuple[int, int]] = []
    low = 1
    for item in _list(value, AGAIN_LIMIT):
        first, last = _list(item, 2, 2)
        first = _int(first, low, _BIG)
        found.append((first, _int(last, first, _BIG)))
        low = last + 2
    if not found:
        raise WireError("malformed", "who asks for nothing leaves the field out")
    return tuple(found)


# --- health ----------------------------------------------------------------------------------------------------------


def seal_health(health: Health, secret: bytes) -> bytes:
    """Returns the signed bytes of a health report."""
    fields: dict[int, object] = {
        0: VERSION,
        1: _TYPE_HEALTH,
        2: health.gateway,
        3: health.quartier,
        4: health.at_s,
        5: health.uptime_s,
        6: health.boot,
        7: health.software,
        8: [[name, PORT_STATES.index(state)] for name, state in health.ports],
        9: health.outbox_depth,
        10: CLOCK_STATES.index(health.clock),
        11: [] if health.temperature_c is None else [health.temperature_c],
        12: health.free_storage_mb,
    }
    if health.log is not None:
        fields[13] = health.log
    return _seal1(_encode(fields), secret, health.gateway)


def open_health(sealed: bytes, public: bytes) -> Health:
    """Returns the health report that `public` signed. Raises WireError for anything else."""
    return _health(_open1(sealed, public))


def _health(fields: dict[int, Any]) -> Health:
    if fields.get(1) != _TYPE_HEALTH:
        raise WireError("malformed", "not a health report")
    _keys(fields, 13, optional=1)
    ports = [_list(item, 2, 2) for item in _list(fields[8], 32)]
    temperature = _list(fields[11], 1)
    return Health(
        gateway=_text(fields[2]),
        quartier=_text(fields[3]),
        at_s=_int(fields[4], 0, _TIME_LIMIT),
        uptime_s=_int(fields[5], 0, _BIG),
        boot=_int(fields[6], 0, _BIG),
        software=_text(fields[7]),
        ports=tuple((_text(name), _code(state, PORT_STATES)) for name, state in ports),
        outbox_depth=_int(fields[9], 0, _BIG),
        clock=_code(fields[10], CLOCK_STATES),
        temperature_c=_int(temperature[0], -100, 200) if temperature else None,
        free_storage_mb=_int(fields[12], 0, _BIG),
        log=_int(fields[13], 0, _BIG) if 13 in fields else None,
    )


# --- what several stewards sign --------------------------------------------------------------------------------------


def _document(sealed: bytes, limit: int, body: bytes) -> tuple[bytes, list[list[Any]]]:
    """Returns payload and signatures of a COSE_Sign with exactly this protected body header, nothing believed yet.

    The body header is in what each signature covers and differs by kind of document, so that no signature over one
    kind is one over another.
    """
    protected, _, payload, signatures = _parts(sealed, limit, _SIGN, list)
    if protected != body:
        raise WireError("malformed", "the body header is that of another kind of document")
    return payload, [_list(entry, 3, 3) for entry in _list(signatures, SIGNATURES_LIMIT)]


def _sealed(body: bytes, payload: bytes, signatures: Sequence[list[Any]]) -> bytes:
    return _encode(cbor2.CBORTag(_SIGN, [body, {}, payload, list(signatures)]))


def _signed(body: bytes, protected: bytes, payload: bytes) -> bytes:
    return _encode(["Signature", body, protected, b"", payload])


def _signature(body: bytes, payload: bytes, kid: str, secret: bytes) -> list[Any]:
    protected = _encode({1: _EDDSA, 4: kid.encode()})
    signature = Ed25519PrivateKey.from_private_bytes(secret).sign(_signed(body, protected, payload))
    return [protected, {}, signature]


def _with_signature(sealed: bytes, limit: int, body: bytes, kid: str, secret: bytes) -> bytes:
    payload, entries = _document(sealed, limit, body)
    others = [entry for entry in entries if _kid(_bytes(entry[0], None)) != kid.encode()]
    return _sealed(body, payload, [*others, _signature(body, payload, kid, secret)])


def _signers(body: bytes, payload: bytes, entries: Sequence[list[Any]], publics: Iterable[bytes]) -> tuple[bytes, ...]:
    """Returns those of `publics` that signed, each once. Signatures by keys that are not known here are ignored; a
    broken one by a known key id is simply not counted."""
    signed_by = []
    for public in dict.fromkeys(publics):
        for header, unprotected, signature in entries:
            if unprotected != {}:
                raise WireError("malformed", "an unprotected header is not empty")
            _kid(_bytes(header, None))
            try:
                _check(public, _bytes(signature, None), _signed(body, header, payload))
            except WireError:
                continue
            signed_by.append(public)
            break
    return tuple(signed_by)


def _require(
    body: bytes, payload: bytes, entries: Sequence[list[Any]], publics: Iterable[bytes], required: int
) -> None:
    """Raises WireError unless at least `required` different keys of `publics` signed."""
    signed_by = len(_signers(body, payload, entries, publics))
    if required < 1 or signed_by < required:
        raise WireError("bad_signature", f"{signed_by} of the {required} signatures required are there")


# --- policy ----------------------------------------------------------------------------------------------------------


def seal_policy(toml: bytes, signers: Sequence[tuple[str, bytes]]) -> bytes:
    """Returns a policy's exact bytes signed by each (key id, secret). Raises WireError `oversized` above 16 KiB."""
    if len(toml) > POLICY_LIMIT:
        raise WireError("oversized", f"a policy of {len(toml)} bytes where {POLICY_LIMIT} are allowed")
    return _sealed(b"", toml, [_signature(b"", toml, kid, secret) for kid, secret in signers])


def add_signature(sealed: bytes, kid: str, secret: bytes) -> bytes:
    """Returns a sealed policy with one more signature; the one under the same key id, if any, is replaced."""
    return _with_signature(sealed, SEALED_POLICY_LIMIT, b"", kid, secret)


def policy_bytes(sealed: bytes) -> bytes:
    """Returns the bytes inside a sealed policy WITHOUT believing them; for adding a signature and for display."""
    return _document(sealed, SEALED_POLICY_LIMIT, b"")[0]


def open_policy(sealed: bytes, publics: Iterable[bytes], required: int) -> bytes:
    """Returns the policy's exact bytes if at least `required` different keys of `publics` signed them.

    Raises WireError otherwise. Signatures by keys that are not known here are ignored; a broken one by a known key id
    is simply not counted.
    """
    toml, entries = _document(sealed, SEALED_POLICY_LIMIT, b"")
    if len(toml) > POLICY_LIMIT:
        raise WireError("malformed", "a policy has at most 16 KiB")
    _require(b"", toml, entries, publics, required)
    return toml


def policy_signers(sealed: bytes, publics: Iterable[bytes]) -> tuple[bytes, ...]:
    """Returns which of these keys signed a sealed policy, in the order given. Raises WireError for what is none."""
    toml, entries = _document(sealed, SEALED_POLICY_LIMIT, b"")
    return _signers(b"", toml, entries, publics)


# --- annotation ------------------------------------------------------------------------------------------------------


def seal_annotation(note: Note, signers: Sequence[tuple[str, bytes]]) -> bytes:
    """Returns a note of a steward signed by each (key id, secret); by nobody yet, if there is none.

    Raises WireError for what could not be opened again: a period that does not end after it begins or is not of whole
    quarter-hours or not over when it was issued, an unknown cause, a sentence that is empty, too long or unprintable.
    """
    fields: dict[int, object] = {0: VERSION, 2: note.site, 3: note.number, 4: note.issued_s, 5: note.sentence}
    if isinstance(note, Annotation):
        if note.cause not in CAUSES:
            raise WireError("malformed", f"the cause is one of {', '.join(CAUSES)}")
        fields |= {1: _TYPE_ANNOTATION, 6: note.stream, 7: note.from_s, 8: note.to_s, 9: CAUSES.index(note.cause)}
    else:
        fields |= {1: _TYPE_WITHDRAWAL, 6: note.withdraws}
    if note.sentence_en:
        fields[len(fields)] = note.sentence_en
    payload = _encode(fields)
    _note(payload)
    return _sealed(_ANNOTATION, payload, [_signature(_ANNOTATION, payload, kid, secret) for kid, secret in signers])


def sign_annotation(sealed: bytes, kid: str, secret: bytes) -> bytes:
    """Returns a sealed note with one more signature; the one under the same key id, if any, is replaced."""
    return _with_signature(sealed, SEALED_ANNOTATION_LIMIT, _ANNOTATION, kid, secret)


def read_annotation(sealed: bytes) -> Note:
    """Returns the note inside WITHOUT believing it; for adding a signature and for display. Raises WireError."""
    return _note(_document(sealed, SEALED_ANNOTATION_LIMIT, _ANNOTATION)[0])


def open_annotation(sealed: bytes, publics: Iterable[bytes], required: int) -> Note:
    """Returns the note if at least `required` different keys of `publics` signed it, as for a policy. Raises WireError
    otherwise."""
    payload, entries = _document(sealed, SEALED_ANNOTATION_LIMIT, _ANNOTATION)
    _require(_ANNOTATION, payload, entries, publics, required)
    return _note(payload)


def _note(payload: bytes) -> Note:
    fields = _fields(payload, ANNOTATION_LIMIT)
    kind = _int(fields.get(1), _TYPE_ANNOTATION, _TYPE_WITHDRAWAL)
    wanted = 10 if kind == _TYPE_ANNOTATION else 7
    _keys(fields, wanted, optional=1)
    site, number, issued_s = _text(fields[2]), _int(fields[3], 1, _BIG), _int(fields[4], 0, _TIME_LIMIT)
    sentence = _sentence(fields[5])
    english = _sentence(fields[wanted]) if wanted in fields else ""
    if kind == _TYPE_WITHDRAWAL:
        return Withdrawal(site, number, issued_s, sentence, _int(fields[6], 1, number - 1), english)
    from_s, to_s = _int(fields[7], 0, _TIME_LIMIT), _int(fields[8], 0, _TIME_LIMIT)
    if from_s % QUARTER_S or to_s % QUARTER_S or not from_s < to_s <= issued_s:
        raise WireError("malformed", "a faulty period has whole quarter-hours and is over when it is marked")
    return Annotation(
        site, number, issued_s, sentence, _text(fields[6]), from_s, to_s, _code(fields[9], CAUSES), english
    )


def _sentence(value: object) -> str:
    """A sentence begins with a letter or a figure, so that no spreadsheet takes it for a formula."""
    sentence = _text(value, SENTENCE_LIMIT)
    if not sentence[0].isalnum():
        raise WireError("malformed", "a sentence begins with a letter or a figure")
    return sentence
