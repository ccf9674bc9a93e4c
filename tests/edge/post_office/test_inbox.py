"""The inbox: hostile bytes in a hostile folder, judged with pinned keys."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge.inbox import (
    LIMITS,
    Inbox,
    Letter,
    NewPolicy,
    OlderCopy,
    OutboxState,
    Refused,
    SamePolicy,
    Settled,
    decide_policy,
    decide_receipt,
    drop_receipts,
    policy_name,
    read,
)
from murmure_privacy import log, policy, wire
from murmure_privacy.log import Checkpoint, Growth

SENT = {seq: b"message %d" % seq for seq in range(4, 9)}
HASHES = {seq: wire.digest(sealed) for seq, sealed in SENT.items()}
CHARGED = 5000
STATE = OutboxState(8, HASHES.get, CHARGED)


def drop(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


# --- clearing --------------------------------------------------------------------------------------------------------


def test_every_receipt_that_could_be_read_is_dropped_and_nothing_else(gateway):
    """So that after a log was forgotten none of its receipts tells of it again. Policies stay, and so does a folder."""
    folder = gateway.config.inbox
    for name in ("receipt.cose", "receipt-2.cose", "policy-1.cose", "receipt.txt"):
        drop(folder, name, b"letter")
    (folder / "receipt-3.cose").mkdir()
    drop_receipts(folder)
    assert sorted(names_in(folder)) == ["policy-1.cose", "receipt-3.cose", "receipt.txt"]
    drop_receipts(folder)
    assert [letter.kind for letter in read(folder)] == ["policy"]


# --- reading ---------------------------------------------------------------------------------------------------------


def test_letters_are_read_receipts_first(gateway):
    """Known names of regular files come as they are, receipts before policies, names in order."""
    folder = gateway.config.inbox
    for name in ("policy-0b.cose", "receipt.cose", "policy-0a.cose", "receipt-2.cose"):
        drop(folder, name, name.encode())
    assert read(folder) == [
        Letter("receipt-2.cose", "receipt", b"receipt-2.cose"),
        Letter("receipt.cose", "receipt", b"receipt.cose"),
        Letter("policy-0a.cose", "policy", b"policy-0a.cose"),
        Letter("policy-0b.cose", "policy", b"policy-0b.cose"),
    ]


def test_what_is_no_letter_is_removed_and_never_followed(gateway, tmp_path):
    """Links, pipes, sockets, folders, huge files, strange names: gone, and what links point at is untouched."""
    folder = gateway.config.inbox
    secret = tmp_path / "secret"
    secret.write_bytes(b"do not touch")
    for name in ("policy-1.cose", "receipt.cose", "link"):
        (folder / name).symlink_to(secret)
    (folder / "policy-2.cose").symlink_to("/dev/zero")
    (folder / "policy-loop.cose").symlink_to("policy-loop.cose")
    os.mkfifo(folder / "policy-3.cose")
    os.mkfifo(folder / "receipt-1.cose")
    (folder / "policy-4.cose").mkdir()
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(folder / "policy-5.cose"))
    for name, size in (("policy-6.cose", LIMITS["policy"] + 1), ("receipt-6.cose", 1 << 40), ("huge", 1 << 40)):
        with (folder / name).open("wb") as file:
            file.truncate(size)
    for name in ("Policy-1.cose", "policy-.cose", "policy-1.cose\n", "policy-A.cose", "é", "-rf", "gateway.db"):
        drop(folder, name, b"x")
    drop(folder, "policy-7.cose", b"x" * LIMITS["policy"])
    drop(folder, "receipt-7.cose", b"x" * LIMITS["receipt"])
    began = time.monotonic()
    assert [letter.name for letter in read(folder)] == ["receipt-7.cose", "policy-7.cose"]
    assert time.monotonic() - began < 1
    assert sorted(names_in(folder)) == ["policy-7.cose", "receipt-7.cose"]
    assert secret.read_bytes() == b"do not touch"


def test_a_file_that_is_being_written_is_left_alone(gateway):
    """The name under which `send` writes is no rubbish, up to a number that no honest `send` needs."""
    folder = gateway.config.inbox
    drop(folder, ".receipt.cose.tmp", b"half a rec")
    assert read(folder) == [] and names_in(folder) == [".receipt.cose.tmp"]
    for number in range(100):
        drop(folder, f".policy-{number:03d}.cose.tmp", b"")
    read(folder)
    assert len(names_in(folder)) == 24


def test_a_folder_that_cannot_be_emptied_harms_nobody(gateway):
    """A directory with something in it stays; the letters beside it are read."""
    folder = gateway.config.inbox
    (folder / "policy-1.cose" / "deep").mkdir(parents=True)
    drop(folder, "receipt.cose", b"r")
    assert [letter.name for letter in read(folder)] == ["receipt.cose"]


def test_beyond_the_quota_the_oldest_names_go(gateway):
    """48 policies and 16 receipts a turn at most, the receipt always among them; the rest is deleted unread."""
    folder = gateway.config.inbox
    for number in range(100):
        drop(folder, f"policy-{number:08d}.cose", b"%d" % number)
        drop(folder, f"receipt-{number:08d}.cose", b"%d" % number)
    drop(folder, "receipt.cose", b"r")
    letters = read(folder)
    assert [letter.data for letter in letters] == [
        *(b"%d" % number for number in range(85, 100)),
        b"r",
        *(b"%d" % number for number in range(52, 100)),
    ]
    assert sorted(names_in(folder)) == sorted(letter.name for letter in letters) and len(letters) == 64


def test_a_flood_costs_turns_and_nothing_else(gateway, monkeypatch):
    """Each turn looks at a bounded number of names, the receipt is never hidden, and the folder ends up clean."""
    monkeypatch.setattr("murmure_edge.inbox.SCAN_LIMIT", 128)
    folder = gateway.config.inbox
    drop(folder, "receipt.cose", b"r")
    drop(folder, "policy-00000001.cose", b"p")
    for number in range(1000):
        drop(folder, f"rubbish-{number}", b"")
    seen = []
    for _ in range(1000 // 128 + 2):
        before = len(names_in(folder))
        letters = read(folder)
        assert letters[0].data == b"r" and before - len(names_in(folder)) <= 128
        seen += letters
    assert "policy-00000001.cose" in [letter.name for letter in seen]
    assert sorted(names_in(folder)) == ["policy-00000001.cose", "receipt.cose"]


def test_each_letter_is_handed_on_once_until_its_bytes_change(gateway):
    """The same bytes come once, other bytes under the same name come again; a new reader starts afresh."""
    folder = gateway.config.inbox
    box = Inbox(folder, pytest.fail)
    assert box.new() == []
    drop(folder, "receipt.cose", b"one")
    assert [letter.data for letter in box.new()] == [b"one"]
    drop(folder, "policy-1.cose", b"p")
    assert [letter.data for letter in box.new()] == [b"p"]
    drop(folder, "receipt.cose", b"two")
    assert [letter.data for letter in box.new()] == [b"two"]
    assert box.new() == []
    assert len(Inbox(folder, pytest.fail).new()) == 2


def test_a_missing_folder_is_one_line_and_no_letters(gateway):
    """`sense` lives without an inbox, says so once, and reads again when it is back."""
    said: list[str] = []
    box = Inbox(gateway.config.inbox, said.append)
    gateway.config.inbox.rmdir()
    assert box.new() == [] == box.new() and len(said) == 1
    gateway.config.inbox.mkdir()
    drop(gateway.config.inbox, "receipt.cose", b"r")
    assert len(box.new()) == 1 and len(said) == 1


# --- receipts --------------------------------------------------------------------------------------------------------


def test_a_receipt_settles_all_up_to_its_number(gateway):
    """The messages that still wait, up to and including the settled one, may go."""
    settled = decide_receipt(gateway.receipt(6, SENT[6]), gateway.trust, STATE)
    assert isinstance(settled, Settled) and settled.up_to == 6


def test_an_old_receipt_settles_nothing(gateway):
    """Replayed, or the first of all: true, and without effect."""
    for seq, sealed in ((0, b""), (3, b"long gone")):
        settled = decide_receipt(gateway.receipt(seq, sealed), gateway.trust, STATE)
        assert isinstance(settled, Settled) and settled.up_to == seq


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda g: g.receipt(6, SENT[6], gateway="gw-other"), "other_gateway"),
        (lambda g: g.receipt(6, SENT[6], quartier="other"), "other_gateway"),
        (lambda g: g.receipt(6, SENT[6])[:-1], "malformed"),
        (lambda g: g.receipt(6, SENT[6]) + b"\0", "not_canonical"),
        (lambda g: b"", "malformed"),
        (lambda g: b"\x81" * 4096, "malformed"),
        (lambda g: bytes(5000), "oversized"),
        (lambda g: g.policy(1), "malformed"),
    ],
)
def test_a_receipt_that_is_not_for_our_messages_is_refused(gateway, make, reason: str):
    """For another gateway, cut, padded, or no receipt at all."""
    verdict = decide_receipt(make(gateway), gateway.trust, STATE)
    assert isinstance(verdict, Refused) and verdict.reason == reason and "\n" not in verdict.detail


@pytest.mark.parametrize(
    ("make", "detail"),
    [
        (lambda g: g.receipt(9, b"never sent"), "the centre has settled message 9, and 8 is the newest here"),
        (lambda g: g.receipt(1 << 52, SENT[8]), "the centre has settled message 4503599627370496, and 8 is the newest"),
        (lambda g: g.receipt(6, b"something else"), "the centre has settled another message 6 than the one here"),
        (lambda g: g.receipt(6, SENT[7]), "the centre has settled another message 6 than the one here"),
        (
            lambda g: g.receipt(8, SENT[8], exceptions=((5, "refused"), (6, "forked"), (7, "quarantined"))),
            "the centre holds a message 6 that does not follow from the one before it",
        ),
        (
            lambda g: g.receipt(6, SENT[6], again=((7, 8),)),
            "the centre holds a message after 8, and 8 is the newest here",
        ),
        (
            lambda g: g.receipt(6, SENT[6], charged_rho_micro=CHARGED + 1),
            "the centre has filed releases for 5001 micro-rho, and 5000 are all that was ever charged here",
        ),
    ],
)
def test_a_receipt_for_what_we_never_sent_shows_an_older_copy(gateway, make, detail: str):
    """Nobody but a card with our key can have sent it: a number beyond ours, another message, a fork, more charges."""
    verdict = decide_receipt(make(gateway), gateway.trust, STATE)
    assert isinstance(verdict, OlderCopy) and verdict.detail.startswith(detail)
    for stranger in (wire.new_key()[0], gateway.steward):
        gateway.centre = stranger
        assert isinstance(decide_receipt(make(gateway), gateway.trust, STATE), Refused)


def test_a_receipt_may_charge_and_ask_for_what_is_ours(gateway):
    """The whole of our ledger and no more, numbers below our newest and no later."""
    sealed = gateway.receipt(3, b"long gone", charged_rho_micro=CHARGED, again=((1, 2), (5, 7)))
    verdict = decide_receipt(sealed, gateway.trust, STATE)
    assert isinstance(verdict, Settled) and verdict.receipt.again == ((1, 2), (5, 7))


LEAVES = [log.leaf_hash(bytes([number])) for number in range(12)]
FORK = [*LEAVES[:4], log.leaf_hash(b"other"), *LEAVES[5:]]
HERE = Checkpoint(5, log.root(LEAVES[:5]))


def grown(size, since=0, leaves=LEAVES):
    """A log of so many entries, with the proof from `since`."""
    proof = log.consistency_proof(leaves[:size], since) if since else []
    return Growth(Checkpoint(size, log.root(leaves[:size])), since, tuple(proof))


def of_log(gateway, known, told, settled=6):
    """Judges a receipt that names a log, `known` being the log of those before, which settled all up to 5."""
    field = bytes(32) if told is None else bytes(32) + log.growth_bytes(told)
    sealed = gateway.receipt(settled, SENT[settled], checkpoint=field)
    return decide_receipt(sealed, gateway.trust, replace(STATE, settled=5, log=known))


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (None, None),
        (None, grown(5)),
        (None, grown(9, 7)),
        (HERE, grown(5)),
        (HERE, grown(5, 3)),
        (HERE, grown(6, 5)),
        (HERE, grown(12, 5)),
        (Checkpoint(0, log.EMPTY_ROOT), grown(3)),
    ],
)
def test_a_receipt_of_the_log_grown_longer_is_believed(gateway, known, told):
    """The first that names a log, one that names none before that, the same log, and a longer one with its proof."""
    assert isinstance(of_log(gateway, known, told), Settled)


@pytest.mark.parametrize(
    "told",
    [
        grown(4),
        Growth(Checkpoint(0, bytes(32))),
        grown(5, leaves=FORK),
        grown(9, 5, FORK),
        replace(grown(9, 5), here=Checkpoint(9, log.root(FORK[:9]))),
        replace(grown(9, 5), proof=grown(9, 5).proof[:-1]),
    ],
)
def test_a_receipt_of_a_log_that_shrank_or_forked_is_refused(gateway, told):
    """Fewer entries, another root above as many, or more of which those that are known are not the beginning: the
    centre shows another log than before, and settles nothing."""
    verdict = of_log(gateway, HERE, told)
    assert isinstance(verdict, Refused) and verdict.reason == "other_log" and "the log has" in verdict.detail


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (grown(9), "it has no proof"),
        (grown(9, 4), "its proof starts from 4"),
        (grown(9, 6), "its proof starts from 6"),
        (grown(9, 4, FORK), "its proof starts from 4"),
    ],
)
def test_a_longer_log_without_the_proof_is_not_believed_yet(gateway, told, why):
    """One without a proof, or from another size than ours, may be the same log: the reason tells it from a fork."""
    verdict = of_log(gateway, HERE, told)
    expected = f"the log has 9 entries, 5 are known, and {why}"
    assert verdict == Refused("no_proof", expected)


@pytest.mark.parametrize("known", [None, HERE])
@pytest.mark.parametrize("size", [log.LARGEST_SIZE + 1, 1 << 62, (1 << 64) - 1])
def test_a_receipt_of_a_log_that_nobody_could_have_written_is_refused(gateway, known, size):
    """Believed once, it would make every honest log a shorter one, or be a number that no database holds. The largest
    that can be is believed."""
    verdict = of_log(gateway, known, Growth(Checkpoint(size, bytes(32))))
    assert isinstance(verdict, Refused) and verdict.reason == "other_log" and f"a log of {size}" in verdict.detail
    assert isinstance(of_log(gateway, None, Growth(Checkpoint(log.LARGEST_SIZE, bytes(32)))), Settled)


def test_a_receipt_from_before_is_no_log_that_shrank(gateway):
    """What lies on a stick for a month names the log of then, and settles nothing new; a fork is one at any time. One
    from before the log names none."""
    assert isinstance(of_log(gateway, HERE, grown(4), settled=5), Settled)
    assert isinstance(of_log(gateway, HERE, None, settled=5), Settled)
    assert isinstance(of_log(gateway, HERE, grown(5, leaves=FORK), settled=5), Refused)


def test_a_receipt_that_names_no_log_any_more_settles_nothing(gateway):
    """Else a centre that has another log would only have to leave it out."""
    assert of_log(gateway, HERE, None) == Refused("other_log", "it names no log, and one of 5 entries is known")


def test_a_receipt_by_anybody_but_the_centre_is_refused(gateway):
    """A steward's, a stranger's and the gateway's own signature count for nothing."""
    for secret in (gateway.steward, wire.new_key()[0]):
        gateway.centre = secret
        verdict = decide_receipt(gateway.receipt(6, SENT[6]), gateway.trust, STATE)
        assert isinstance(verdict, Refused) and verdict.reason == "bad_signature"


# --- policies --------------------------------------------------------------------------------------------------------


def parsed(gateway, version: int) -> policy.Policy:
    return policy.parse(wire.policy_bytes(gateway.policy(version)), "test")


def test_a_policy_is_taken_when_its_version_has_grown(gateway):
    """The first one, and any newer one, with the very bytes that were signed."""
    for current in (None, parsed(gateway, 6)):
        sealed = gateway.policy(7)
        verdict = decide_policy(sealed, gateway.trust, current)
        assert isinstance(verdict, NewPolicy) and verdict.sealed == sealed
        assert verdict.policy.version == 7 and verdict.policy.text == wire.policy_bytes(sealed)


def test_the_policy_in_force_is_no_news(gateway):
    """The broker retains it and says it at each connection: nothing to do and nothing to refuse."""
    assert decide_policy(gateway.policy(7), gateway.trust, parsed(gateway, 7)) == SamePolicy()


def test_an_old_policy_is_refused(gateway):
    """Replayed by whoever kept it, or another text under the number in force."""
    current = parsed(gateway, 7)
    other = wire.policy_bytes(gateway.policy(7)).replace(b"epsilon = 1.0", b"epsilon = 9.0")
    for sealed in (gateway.policy(6), wire.seal_policy(other, [("steward", gateway.steward)])):
        verdict = decide_policy(sealed, gateway.trust, current)
        assert isinstance(verdict, Refused) and verdict.reason == "old_policy"


@pytest.mark.parametrize("current", [None, 5])
def test_a_policy_older_than_a_receipt_has_told_is_refused(gateway, current: int | None):
    """A looser one, signed once, is refused where the newest is known by number only; that one is taken."""
    known = None if current is None else parsed(gateway, current)
    verdict = decide_policy(gateway.policy(6), gateway.trust, known, newest_told=7)
    assert isinstance(verdict, Refused) and verdict.reason == "old_policy"
    assert verdict.detail == "it is version 6, and the centre's newest is 7"
    for version in (7, 8):
        assert isinstance(decide_policy(gateway.policy(version), gateway.trust, known, 7), NewPolicy)


def test_a_policy_for_another_site_or_by_a_stranger_is_refused(gateway):
    """Only the pinned stewards, only our site."""
    verdict = decide_policy(gateway.policy(7, site="market"), gateway.trust, None)
    assert isinstance(verdict, Refused) and verdict.reason == "other_site"
    for secret in (wire.new_key()[0], gateway.centre):
        verdict = decide_policy(gateway.policy(7, secret=secret), gateway.trust, None)
        assert isinstance(verdict, Refused) and verdict.reason == "bad_signature"


@pytest.mark.parametrize(
    "text", [b"", b"\xff", b"policy = 1", b"a = = 1", b"x" * 16_384, b"[" * 5000, b"a=" + b"[" * 5000]
)
def test_a_signed_text_that_is_no_policy_is_refused(gateway, text: bytes):
    """A steward's mistake is one line, not the end of `sense`."""
    verdict = decide_policy(wire.seal_policy(text, [("steward", gateway.steward)]), gateway.trust, None)
    assert isinstance(verdict, Refused) and verdict.reason == "not_a_policy" and "\n" not in verdict.detail


@given(data=st.binary(max_size=300), flip=st.integers(0, 10_000), cut=st.integers(0, 10_000))
def test_no_bytes_at_all_bring_the_judges_down(gateway_for_all, data: bytes, flip: int, cut: int):
    """Random bytes, one bit flipped, cut anywhere: always a refusal, never an exception and never belief."""
    gateway = gateway_for_all
    receipt, sealed_policy = gateway.receipt(6, SENT[6]), gateway.policy(7)
    for whole in (receipt, sealed_policy):
        bit = flip % (8 * len(whole))
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        for candidate in (data, whole[: cut % len(whole)], bytes(flipped), whole + data if data else b""):
            assert isinstance(decide_receipt(candidate, gateway.trust, STATE), Refused)
            assert isinstance(decide_policy(candidate, gateway.trust, None), Refused)


@pytest.fixture(scope="module")
def gateway_for_all(tmp_path_factory: pytest.TempPathFactory, enrol):
    return enrol(tmp_path_factory.mktemp("gateway"))


def test_a_policys_file_name_is_that_of_a_letter(gateway):
    """What `send` writes is what `sense` reads."""
    sealed = gateway.policy(3)
    drop(gateway.config.inbox, policy_name(sealed), sealed)
    assert read(gateway.config.inbox) == [Letter(policy_name(sealed), "policy", sealed)]
