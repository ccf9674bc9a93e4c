"""Claim codes survive being typed on a ladder, and proofs hold for one code, one line and one message."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_privacy.enrolment import (
    MESSAGE_LIMIT,
    SECRET_BYTES,
    WAITING_LIMIT,
    WORDS,
    Claim,
    ClaimError,
    Rotation,
    canonical,
    new_claim,
    parse_claim,
    proof,
    proves,
    read_rotation,
    six_words,
)

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
FINGERPRINT = bytes(range(32))
claims = st.builds(Claim, st.binary(min_size=15, max_size=15), st.binary(min_size=8, max_size=8))


@given(claims)
def test_a_code_is_read_as_it_was_written(claim: Claim) -> None:
    """Eight groups of five, and back; also in small letters, with blanks, with O for 0 and I or L for 1."""
    assert [len(group) for group in claim.text.split("-")] == [5] * 8
    careless = claim.text.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert parse_claim(claim.text) == parse_claim(careless) == parse_claim(careless.replace("l", "I")) == claim


@given(claims, st.integers(0, 39), st.sampled_from(LETTERS))
def test_one_wrong_letter_is_found(claim: Claim, at: int, letter: str) -> None:
    """Any single letter typed wrong is found before anything is sent, but for two in a hundred thousand."""
    digits = claim.text.replace("-", "")
    typed = digits[:at] + letter + digits[at + 1 :]
    if letter == digits[at]:
        assert parse_claim(typed) == claim
        return
    try:
        read = parse_claim(typed)
    except ClaimError as error:
        assert "one of its letters is wrong" in str(error)
    else:  # the check has 16 bits
        assert read != claim


def test_single_wrong_letters_and_swaps_of_one_code_are_all_found() -> None:
    """Of the 1,240 codes one letter away, and of the swaps of neighbours, none is taken for a code."""
    digits = Claim(bytes(range(15)), bytes(8)).text.replace("-", "")
    wrong = {digits[:at] + letter + digits[at + 1 :] for at in range(40) for letter in LETTERS}
    wrong |= {digits[:at] + digits[at + 1] + digits[at] + digits[at + 2 :] for at in range(39)}
    wrong.remove(digits)
    taken = 0
    for typed in wrong:
        try:
            parse_claim(typed)
            taken += 1
        except ClaimError:
            pass
    assert len(wrong) > 1240 and taken == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 letters and digits where 40 belong"),
        ("HV89C-9VRBG", "10 letters and digits where 40 belong"),
        ("HV89C!", "'!' is in no code"),
        ("UUUUU", "'U' is in no code"),
        ("é", "'É' is in no code"),
    ],
)
def test_what_is_no_code_is_told_in_one_line(text: str, says: str) -> None:
    """Too short, or with a sign that no code has."""
    with pytest.raises(ClaimError, match=says):
        parse_claim(text)


def test_claims_are_all_different_and_carry_the_centre() -> None:
    """10,000 codes: no repeats, each letter in each of the secret's places, the same pin."""
    made = [new_claim(os.urandom(SECRET_BYTES), FINGERPRINT) for _ in range(10_000)]
    assert len({claim.secret for claim in made}) == len({claim.name for claim in made}) == 10_000
    assert {claim.pin for claim in made} == {FINGERPRINT[:8]}
    assert all(len({claim.text[at] for claim in made}) == 32 for at in (0, 1, 10, 20))


def test_the_name_of_a_claim_tells_nothing_of_its_secret() -> None:
    """The name travels before anything is proven: it is not part of the code, nor of the proofs' key."""
    claim = new_claim(os.urandom(SECRET_BYTES), FINGERPRINT)
    assert bytes.fromhex(claim.name) not in claim.secret + claim.key and claim.secret not in claim.key


@given(
    claims, claims, st.sampled_from(["gateway", "centre"]), st.binary(max_size=40), st.binary(min_size=1, max_size=40)
)
def test_a_proof_holds_for_one_code_one_end_one_line_and_one_message(
    claim: Claim, other: Claim, who: str, message: bytes, more: bytes
) -> None:
    """Another code, the other end, another certificate, another message or another cut of it: no proof."""
    given_proof = proof(claim.key, who, FINGERPRINT, message, more)
    assert proves(given_proof, claim.key, who, FINGERPRINT, message, more)
    assert proves(given_proof, other.key, who, FINGERPRINT, message, more) == (other.secret == claim.secret)
    assert not proves(given_proof, claim.key, "centre" if who == "gateway" else "gateway", FINGERPRINT, message, more)
    assert not proves(given_proof, claim.key, who, bytes(32), message, more)
    assert not proves(given_proof, claim.key, who, FINGERPRINT, message + more)
    assert not proves(given_proof, claim.key, who, FINGERPRINT, message + more[:1], more[1:])
    assert not proves(given_proof[:-1] + "é", claim.key, who, FINGERPRINT, message, more)
    assert not proves(None, claim.key, who, FINGERPRINT, message, more)


def test_words_are_told_apart_by_their_first_letters() -> None:
    """256 words, four letters each are enough, and nothing that a telephone could swallow."""
    assert len(WORDS) == len({word[:4] for word in WORDS}) == 256
    assert all(word.isascii() and word.islower() and 2 <= len(word) <= 9 for word in WORDS)


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_six_words_are_those_of_both_messages_and_the_line(request: bytes, answer: bytes) -> None:
    """Another certificate, request or answer gives other words."""
    words = six_words(FINGERPRINT, request, answer)
    assert len(words.split()) == 6
    others = [
        (bytes(32), request, answer),
        (FINGERPRINT, request + b"x", answer),
        (FINGERPRINT, request, answer + b"x"),
    ]
    assert all(six_words(*other) != words for other in others)


def test_a_document_has_one_form() -> None:
    """Keys sorted, no blanks, ASCII."""
    assert canonical({"b": 1, "a": "é"}) == b'{"a":"\\u00e9","b":1}'


hashes = st.binary(min_size=32, max_size=32)
rotations = st.builds(
    Rotation,
    gateway=st.text(max_size=40),
    old=hashes,
    new=hashes,
    first=st.integers(1, 1 << 53),
    waiting=st.lists(hashes, max_size=5).map(tuple),
)


@given(rotations)
def test_a_statement_of_rotation_has_one_form(rotation: Rotation) -> None:
    """What is read is what was said, and it lists each message that waits under its own number only."""
    assert read_rotation(rotation.statement) == rotation
    assert rotation.newest == rotation.first + len(rotation.waiting) - 1
    for at, waiting in enumerate(rotation.waiting):
        assert rotation.lists(rotation.first + at, waiting)
        assert not rotation.lists(rotation.first + at, bytes(31) + b"x")
        assert not rotation.lists(rotation.first + len(rotation.waiting) + at, waiting)
    if rotation.waiting:
        assert not rotation.lists(rotation.first - 1, rotation.waiting[-1])


@given(rotations, st.data())
def test_a_changed_statement_is_another_or_none(rotation: Rotation, data: st.DataObject) -> None:
    """A byte more, less or other: it is refused, or says something else, in the one form of that."""
    statement = bytearray(rotation.statement)
    at = data.draw(st.integers(0, len(statement) - 1))
    statement[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != statement[at]))
    for changed in (bytes(statement), rotation.statement + b" ", rotation.statement[:-1]):
        try:
            read = read_rotation(changed)
        except ValueError:
            continue
        assert read != rotation and read.statement == changed


def _stated(**changes: object) -> bytes:
    fields = {"gateway": "gw-a", "old": "00" * 32, "new": "11" * 32, "first": 1, "waiting": ""}
    return canonical({**fields, **changes})


@pytest.mark.parametrize(
    "statement",
    [
        *(b"", b"{}", b"[]", b"null", b"\xff", b"[" * 20_000, b'{"gateway": "gw-a"}'),
        *(_stated(old="00" * 31), _stated(new="11" * 33), _stated(old=5), _stated(first=0), _stated(first=True)),
        *(_stated(first="1"), _stated(first=1.0), _stated(waiting="AAAA"), _stated(waiting="?"), _stated(waiting=7)),
        *(_stated(more=1), _stated(old="AA" * 32), _stated(waiting=None), _stated(first=None)),
        Rotation("gw-a", bytes(32), bytes(32), 1, (bytes(32),) * (WAITING_LIMIT + 1)).statement,
    ],
    ids=range(22),
)
def test_what_is_no_statement_is_refused(statement: bytes) -> None:
    """Rubbish, missing and extra fields, other lengths, other kinds, too long a list."""
    with pytest.raises(ValueError):
        read_rotation(statement)


def test_the_longest_statement_fits_into_a_request() -> None:
    """With room for keys, certificate request and proof."""
    longest = Rotation("gw-" + "a" * 37, bytes(32), bytes(32), 1 << 53, (bytes(32),) * WAITING_LIMIT).statement
    assert read_rotation(longest).waiting and len(longest) < MESSAGE_LIMIT * 3 // 4
