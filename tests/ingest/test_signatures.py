"""One verdict on a signature, whichever library gives it: where two differ, the centre is with the stricter one."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from murmure_ingest import signatures
from murmure_privacy import wire
from murmure_privacy.errors import WireError

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)
SECRET = bytes(range(32))
PUBLIC = wire.public_key(SECRET)
KEY = Ed25519PrivateKey.from_private_bytes(SECRET)

Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """The sum of two points of the curve (RFC 8032, section 5.1.4)."""
    cross = D * a[0] * b[0] * a[1] * b[1]
    return (
        (a[0] * b[1] + a[1] * b[0]) * pow(1 + cross, -1, P) % P,
        (a[1] * b[1] + a[0] * b[0]) * pow(1 - cross, -1, P) % P,
    )


def times(number: int, point: Point) -> Point:
    result = (0, 1)
    while number:
        if number & 1:
            result = add(result, point)
        point, number = add(point, point), number >> 1
    return result


def x_of(y: int, odd: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    return P - x if x % 2 != odd and x else x


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def small_points() -> list[Point]:
    """All points whose order divides eight."""
    y = 2
    while True:
        x = x_of(y, 0)
        if x is not None:
            point = times(ORDER, (x, y))
            if times(4, point) != (0, 1):
                return [times(number, point) for number in range(8)]
        y += 1


BASE_Y = 4 * pow(5, -1, P) % P
BASE = (x_of(BASE_Y, 0) or 0, BASE_Y)
SMALL = small_points()
# Encodings of the y of a small point by y + p, where 255 bits hold it, and each with the other sign of a zero x.
SECOND = [(y + P | sign << 255).to_bytes(32, "little") for y in (0, 1) for sign in (0, 1)]
SECOND += [(y | 1 << 255).to_bytes(32, "little") for y in (1, P - 1)]
SMALL_KEYS = [encoded(point) for point in SMALL] + SECOND


def verdict(check: wire.Check, public: bytes, signature: bytes, signed: bytes) -> bool:
    try:
        check(public, signature, signed)
    except WireError as error:
        assert error.reason == "bad_signature"
        return False
    return True


def verdicts(public: bytes, signature: bytes, signed: bytes) -> tuple[bool, bool]:
    """What libsodium and what OpenSSL say."""
    return verdict(signatures.check, public, signature, signed), verdict(wire._check, public, signature, signed)


def expanded() -> tuple[int, bytes]:
    digest = hashlib.sha512(SECRET).digest()
    return int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254, digest[32:]


def challenge(r: bytes, public: bytes, signed: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + public + signed).digest(), "little") % ORDER


def sign(signed: bytes, torsion: Point = (0, 1)) -> bytes:
    """A signature whose R carries a part of small order, by our key: right but for that part."""
    scalar, prefix = expanded()
    nonce = int.from_bytes(hashlib.sha512(prefix + signed).digest(), "little") % ORDER
    r = encoded(add(times(nonce, BASE), torsion))
    return r + ((nonce + challenge(r, PUBLIC, signed) * scalar) % ORDER).to_bytes(32, "little")


@given(st.binary(max_size=200))
def test_what_our_key_signs_is_believed_by_both(signed: bytes) -> None:
    """A true signature is true for libsodium and for OpenSSL."""
    assert verdicts(PUBLIC, KEY.sign(signed), signed) == (True, True)


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_changed_byte_is_believed_by_neither(signed: bytes, data: st.DataObject) -> None:
    """Key, signature and text: any byte of any of them changed, both refuse."""
    parts = [bytearray(PUBLIC), bytearray(KEY.sign(signed)), bytearray(signed)]
    part = data.draw(st.sampled_from(parts))
    part[data.draw(st.integers(0, len(part) - 1))] ^= data.draw(st.integers(1, 255))
    public, signature, text = map(bytes, parts)
    assert verdicts(public, signature, text) == (False, False)


def test_the_arithmetic_below_is_that_of_the_curve() -> None:
    """What we compute by hand is what a library signs; or the cases below would be refused for another reason."""
    assert sign(b"text") == KEY.sign(b"text")


@pytest.mark.parametrize("times_order", range(1, 16))
def test_a_signature_has_one_form(times_order: int) -> None:
    """S + L says the same to who does not look: both look."""
    signature = sign(b"text")
    larger = int.from_bytes(signature[32:], "little") + times_order * ORDER
    if larger < 1 << 256:
        assert verdicts(PUBLIC, signature[:32] + larger.to_bytes(32, "little"), b"text") == (False, False)


@pytest.mark.parametrize("torsion", SMALL[1:], ids=range(1, 8))
def test_a_part_of_small_order_is_believed_by_neither(torsion: Point) -> None:
    """Who multiplies by eight would accept these; both compare the point itself, byte by byte."""
    assert verdicts(PUBLIC, sign(b"text", torsion), b"text") == (False, False)


def test_keys_of_small_order_are_where_the_two_differ() -> None:
    """OpenSSL lets keys of small order sign anything; libsodium refuses them. Nothing is the other way round."""
    found = {
        verdicts(public, r + bytes(32), b"text %d" % number)
        for public in SMALL_KEYS
        for r in SMALL_KEYS
        for number in range(8)
    }
    assert found == {(False, True), (False, False)}


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64), st.sampled_from(SMALL_KEYS))
def test_libsodium_is_never_the_more_lenient(public: bytes, signature: bytes, small: bytes) -> None:
    """Whatever the bytes are, a mixture with points of small order included."""
    mixtures = [(public, signature), (small, signature), (small, small + signature[32:]), (PUBLIC, small + bytes(32))]
    for key, made in mixtures:
        ours, theirs = verdicts(key, made, b"text")
        assert theirs or not ours


@pytest.mark.parametrize(("key", "signature"), [(31, 64), (33, 64), (0, 64), (32, 63), (32, 65), (32, 0)])
def test_other_lengths_are_believed_by_neither(key: int, signature: int) -> None:
    """Bytes that are no key or no signature are refused, never an error of another kind."""
    public, made = PUBLIC + bytes(2), sign(b"text") + bytes(2)
    assert verdicts(public[:key], made[:signature], b"text") == (False, False)
