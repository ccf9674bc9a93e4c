"""The transparency log: hashes and proofs as RFC 6962 has them, entries in one form, checkpoints that one key signs."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_privacy import log, wire
from murmure_privacy.errors import WireError
from murmure_privacy.log import Checkpoint, Growth

# The eight leaves and roots that implementations of RFC 6962 are tried with (certificate-transparency-go, tests).
LEAVES = [bytes.fromhex(leaf) for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")] + [
    bytes.fromhex("606162636465666768696a6b6c6d6e6f")
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
SECRET, PUBLIC = wire.new_key()
HERE = Checkpoint(5, bytes.fromhex(ROOTS[4]))
MOST = 40  # leaves of a tree whose every proof is tried

Verifier = Callable[..., bool]


def hashes(count: int) -> list[bytes]:
    return [log.leaf_hash(str(number).encode()) for number in range(count)]


def test_roots_are_those_of_the_rfc() -> None:
    """The empty tree, and the trees of one to eight leaves that every implementation is tried with."""
    assert log.root([]) == log.EMPTY_ROOT == sha256(b"").digest()
    assert [log.root([log.leaf_hash(leaf) for leaf in LEAVES[:size]]).hex() for size in range(1, 9)] == list(ROOTS)


def test_roots_and_proofs_are_those_of_another_implementation() -> None:
    """pymerkle gives the same root, audit path and consistency path for every tree of up to MOST leaves."""
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    leaves = hashes(MOST)
    for size in range(1, MOST + 1):
        assert tree.append_entry(str(size - 1).encode()) == size
        assert tree.get_root() == log.root(leaves[:size])
    for place in range(MOST):
        assert tree.prove_inclusion(place + 1).path[1:] == log.inclusion_proof(leaves, place)
    for old in range(1, MOST):
        pymerkle.verify_consistency(tree.get_root(old), tree.get_root(), tree.prove_consistency(old, MOST))


def every_inclusion(proves: Verifier) -> bool:
    """Whether all true paths are believed and no other: of another leaf, place, size or root, shortened, lengthened."""
    for size in range(1, 12):
        leaves = hashes(size)
        top = log.root(leaves)
        for place in range(size):
            proof = log.inclusion_proof(leaves, place)
            if not proves(leaves[place], place, size, proof, top):
                return False
            wrong = [
                (log.leaf_hash(b"other"), place, size, proof, top),
                (leaves[place], place + size, size, proof, top),
                (leaves[place], -1, size, proof, top),
                (leaves[place], place, size, proof, bytes(32)),
                (leaves[place], place, size, [*proof, bytes(32)], top),
                *((leaves[place], place, size, proof[:-1], top) for _ in proof[:1]),
                *((leaves[place], other, size, proof, top) for other in range(size) if other != place),
            ]
            if any(proves(*case) for case in wrong):
                return False
    return True


def every_consistency(proves: Verifier) -> bool:
    """Whether all true proofs are believed and none of a shrunk or forked log, nor one too short or too long."""
    for size in range(1, 12):
        leaves = hashes(size)
        top = log.root(leaves)
        for old in range(1, size + 1):
            proof, was = log.consistency_proof(leaves, old), log.root(leaves[:old])
            if not proves(old, was, size, top, proof):
                return False
            forked = [log.leaf_hash(b"other"), *leaves[1:]]
            wrong = [
                (old, log.root(forked[:old]), size, top, proof),
                (old, was, size, log.root(forked), proof),
                (old, was, size, log.root(forked), log.consistency_proof(forked, old)),
                (old, was, size, top, [*proof, bytes(32)]),
                *((old, was, size, top, proof[:-1]) for _ in proof[:1]),
                (0, log.EMPTY_ROOT, size, top, proof),
                (size + 1, was, size, top, proof),
            ]
            if any(proves(*case) for case in wrong):
                return False
    return True


def test_a_path_proves_one_place_and_nothing_else() -> None:
    """Every true path of small trees is believed; a changed leaf, place, root, or a hash more or fewer is not."""
    assert every_inclusion(log.proves_inclusion)


def test_a_consistency_proof_holds_for_the_same_log_grown_longer() -> None:
    """Every true proof of small trees is believed; no fork, no shrinking, no hash more or fewer is."""
    assert every_consistency(log.proves_consistency)


@pytest.mark.parametrize(
    "believes",
    [
        lambda leaf, place, size, proof, top: True,
        lambda leaf, place, size, proof, top: log.proves_inclusion(leaf, place % size, size, proof, top),
        lambda leaf, place, size, proof, top: log.proves_inclusion(leaf, place, size, proof[:3], top),
    ],
)
def test_a_verifier_of_paths_that_looks_less_closely_is_found(believes: Verifier) -> None:
    """The trial above fails for one that believes anything, wraps places around, or cuts a path."""
    assert not every_inclusion(believes)


@pytest.mark.parametrize(
    "believes",
    [
        lambda old, was, size, top, proof: True,
        lambda old, was, size, top, proof: log.proves_consistency(old, was, size, top, proof) or old == 1,
        lambda old, was, size, top, proof: old == size or log.proves_consistency(old, was, size, top, proof),
    ],
)
def test_a_verifier_of_growth_that_looks_less_closely_is_found(believes: Verifier) -> None:
    """The trial above fails for one that believes anything, believes the first entry blindly, or never compares equal
    sizes."""
    assert not every_consistency(believes)


def test_a_path_is_as_long_as_its_tree_is_high() -> None:
    """A root of four entries is none of eight, and one hash above the true root is none either, though the hashes agree
    to the last."""
    leaves, beside = hashes(8), bytes(range(32))
    four, eight = log.root(leaves[:4]), log.root(leaves)
    path = log.inclusion_proof(leaves[:4], 0)
    assert log.proves_inclusion(leaves[0], 0, 4, path, four)
    assert not log.proves_inclusion(leaves[0], 0, 8, path, four)
    assert not log.proves_inclusion(leaves[0], 0, 4, [*path, beside], log.node_hash(beside, four))
    grown = log.consistency_proof(leaves[:4], 2)
    assert log.proves_consistency(2, log.root(leaves[:2]), 4, four, grown)
    assert not log.proves_consistency(2, log.root(leaves[:2]), 8, four, grown)
    was, proof = log.root(leaves[:3]), log.consistency_proof(leaves, 3)
    assert log.proves_consistency(3, was, 8, eight, proof)
    above = log.node_hash(beside, was), log.node_hash(beside, eight)
    assert not log.proves_consistency(3, above[0], 8, above[1], [*proof, beside])


@pytest.mark.parametrize(("size", "place"), [(0, 0), (3, 3), (3, -1)])
def test_no_path_leads_to_a_leaf_that_is_not_there(size: int, place: int) -> None:
    """Asking for one is a mistake of the program."""
    with pytest.raises(IndexError):
        log.inclusion_proof(hashes(size), place)


@pytest.mark.parametrize("old", [0, 4])
def test_nothing_is_consistent_with_a_log_that_never_was(old: int) -> None:
    """Asking for the proof is a mistake of the program."""
    with pytest.raises(IndexError):
        log.consistency_proof(hashes(3), old)


def test_a_proof_without_a_hash_proves_no_growth() -> None:
    """Three entries that became five need a path."""
    leaves = hashes(5)
    assert not log.proves_consistency(3, log.root(leaves[:3]), 5, log.root(leaves), [])


@given(st.integers(0, 300))
def test_one_hash_beside_each_entry_is_enough_to_add_the_next(size: int) -> None:
    """Roots from what was kept beside the entries are those of the whole tree."""
    kept: list[bytes] = []
    for place in range(1, size + 1):
        kept.append(log.peak(str(place - 1).encode(), place, lambda at: kept[at - 1]))
    assert log.root_by_peaks(size, lambda at: kept[at - 1]) == log.root(hashes(size))


@given(st.data())
def test_a_proof_from_what_was_kept_leads_to_the_roots_of_another_implementation(data: st.DataObject) -> None:
    """For any two sizes: the proof made from one hash beside each entry is that from all leaves, holds between the
    roots that pymerkle gives, and pymerkle takes them for consistent."""
    size = data.draw(st.integers(1, 200))
    old = data.draw(st.integers(1, size))
    entries = [str(number).encode() for number in range(size)]
    kept: list[bytes] = []
    for place, entry in enumerate(entries, 1):
        kept.append(log.peak(entry, place, lambda at: kept[at - 1]))
    proof = log.consistency_by_peaks(old, size, lambda at: kept[at - 1], lambda at: entries[at - 1])
    assert proof == log.consistency_proof(hashes(size), old)
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for entry in entries:
        tree.append_entry(entry)
    was, now = tree.get_root(old), tree.get_root()
    pymerkle.verify_consistency(was, now, tree.prove_consistency(old, size))
    assert log.proves_consistency(old, was, size, now, proof)


@given(st.data())
def test_no_planted_fork_is_proved(data: st.DataObject) -> None:
    """One entry of those that were known is another one in the longer log: neither its own proof nor the true log's
    passes, and the true log's passes for the true log."""
    size = data.draw(st.integers(2, 300))
    old = data.draw(st.integers(1, size - 1))
    leaves = hashes(size)
    at = data.draw(st.integers(0, old - 1))
    forked = [*leaves[:at], log.leaf_hash(b"other"), *leaves[at + 1 :]]
    known = Checkpoint(old, log.root(leaves[:old]))
    for proof in (log.consistency_proof(forked, old), log.consistency_proof(leaves, old)):
        fork = Growth(Checkpoint(size, log.root(forked)), old, tuple(proof))
        assert not log.is_proved(known, fork) and "not their beginning" in str(log.objection(known, fork))
    true = Growth(Checkpoint(size, log.root(leaves)), old, tuple(log.consistency_proof(leaves, old)))
    assert log.is_proved(known, true) and log.objection(known, true) is None


def test_no_log_that_can_be_needs_a_longer_proof() -> None:
    """A log of 2^k entries or fewer has proofs of at most k + 1 hashes, and the limit is that of the largest log."""
    for power in range(1, 7):
        sizes = range(1, (1 << power) + 1)
        longest = max(len(log.consistency_proof(hashes(size), old)) for size in sizes for old in range(1, size + 1))
        assert longest <= power + 1
    assert 1 << (log.PROOF_LIMIT - 1) == log.LARGEST_SIZE


def every_growth(proves: Callable[[Checkpoint | None, Growth], bool]) -> bool:
    """Whether exactly those logs are taken for proved that are the known one, or have their proof from there."""
    for size in range(2, 10):
        leaves = hashes(size)
        top = Checkpoint(size, log.root(leaves))
        for old in range(1, size):
            known = Checkpoint(old, log.root(leaves[:old]))
            other = Checkpoint(old, log.leaf_hash(b"other"))
            proof = tuple(log.consistency_proof(leaves, old))
            beside = old - 1 or old + 1
            right = [
                proves(known, Growth(top, old, proof)),
                proves(top, Growth(top, old, proof)),
                proves(top, Growth(top)),
                proves(None, Growth(top)),
                proves(Checkpoint(0, log.EMPTY_ROOT), Growth(top)),
            ]
            wrong = [
                proves(known, Growth(top)),
                proves(known, Growth(top, beside, tuple(log.consistency_proof(leaves, beside)))),
                proves(known, Growth(top, beside, proof)),
                proves(other, Growth(top, old, proof)),
                proves(known, Growth(Checkpoint(size, log.leaf_hash(b"other")), old, proof)),
                proves(top, Growth(known, old, proof)),
            ]
            if not all(right) or any(wrong):
                return False
    return True


def test_only_a_log_with_its_proof_is_the_known_one_grown_longer() -> None:
    """The same log and the first one need none."""
    assert every_growth(log.is_proved)


def lax(known: Checkpoint | None, told: Growth, *, start: bool = True, was: bool = True, now: bool = True) -> bool:
    """`is_proved`, less one of its comparisons: where the proof starts, the root that was, the root that is."""
    if known is None or not known.size or told.here == known:
        return True
    if start and told.since != known.size:
        return False
    roots: set[tuple[bytes, bytes]] = set()

    def verify(old_root: bytes, new_root: bytes) -> bool:
        return log.proves_consistency(known.size, old_root, told.here.size, new_root, told.proof)

    leaves = hashes(told.here.size)
    roots.add((known.root if was else log.root(leaves[: known.size]), told.here.root if now else log.root(leaves)))
    return any(verify(*pair) for pair in roots)


@pytest.mark.parametrize("skipped", ["start", "was", "now"])
def test_one_comparison_fewer_is_found(skipped: str) -> None:
    """The trial above fails for a judge that skips one of them."""
    assert every_growth(lax)
    assert not every_growth(lambda known, told: lax(known, told, **{skipped: False}))


# --- entries and checkpoints -----------------------------------------------------------------------------------------


def test_an_entry_has_one_form() -> None:
    """What is read back is what was written, and no other bytes say the same."""
    fields = {"kind": "policy", "site": "plaza", "reason": "Été", "version": 3}
    line = log.entry(fields)
    assert line == '{"kind":"policy","reason":"Été","site":"plaza","version":3}'.encode()
    assert log.read_entry(line) == fields
    for other in (
        json.dumps(fields).encode(),
        b" " + line,
        b"[1]",
        b"{",
        b'{"a":1,"a":1}',
        b'"' + b"x" * 20_000 + b'"',
        b"[" * 16_000,
    ):
        with pytest.raises(ValueError, match=r".+"):
            log.read_entry(other)


def test_an_entry_has_at_most_16_kib() -> None:
    """The last byte that fits is read, one more is refused, whatever the program calls the limit."""
    blank = len(log.entry({"a": ""}))
    assert log.read_entry(log.entry({"a": "x" * (16_384 - blank)}))
    with pytest.raises(ValueError, match="too long"):
        log.read_entry(log.entry({"a": "x" * (16_385 - blank)}))


@given(st.integers(0, log.LARGEST_SIZE), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_comes_back_as_it_was_signed(size: int, top: bytes) -> None:
    """In a note of its own, and in the field of a receipt beside the running hash."""
    here = Checkpoint(size, top)
    assert log.open_checkpoint(log.seal_checkpoint(here, SECRET), PUBLIC) == here
    assert log.of_receipt(bytes(32) + log.growth_bytes(Growth(here))) == Growth(here)


@given(st.integers(0, log.LARGEST_SIZE), st.integers(0, (1 << 64) - 1), st.integers(1, log.PROOF_LIMIT))
def test_a_proof_comes_back_from_a_receipt(size: int, since: int, hashes_of: int) -> None:
    """With where it starts; a byte more or fewer, a hash too many or none is no field of ours."""
    proof = tuple(bytes([number] * 32) for number in range(hashes_of))
    told = Growth(Checkpoint(size, bytes(range(32))), since, proof)
    field = bytes(32) + log.growth_bytes(told)
    assert log.of_receipt(field) == told
    too_long = bytes(32) + log.growth_bytes(replace(told, proof=(bytes(32),) * (log.PROOF_LIMIT + 1)))
    for other in (field[:-1], field + b"\0", field[: 72 + 8], too_long, b"", bytes(32), field[:40], field[:71]):
        assert log.of_receipt(other) is None


def test_what_a_receipt_says_of_the_log_is_written_down() -> None:
    """Byte by byte, as docs/wire.md has it: gateways of other versions read it too."""
    top, step = bytes(range(32)), bytes(range(32, 64))
    here = Checkpoint(0x0102030405, top)
    assert log.growth_bytes(Growth(here)) == bytes.fromhex("0000000102030405") + top
    told = Growth(here, 0x0A0B, (step, top))
    field = bytes.fromhex("0000000102030405") + top + bytes.fromhex("0000000000000a0b") + step + top
    assert log.growth_bytes(told) == field
    assert log.of_receipt(bytes(32) + field) == told
    longest = Growth(here, 1, (step,) * 41)
    assert log.of_receipt(bytes(32) + log.growth_bytes(longest)) == longest
    assert log.growth_bytes(Growth(here, 7)) == field[:40]  # without a proof there is nowhere that it starts


def test_a_checkpoint_is_a_note_that_other_tools_read() -> None:
    """The form of C2SP: name, size, root in base64, an empty line, and a signature under four bytes of its key's
    hash."""
    name, size, top, empty, signed = log.seal_checkpoint(HERE, SECRET).decode().splitlines()
    assert (name, size, empty) == (f"murmure/{PUBLIC.hex()[:16]}", "5", "")
    assert base64.b64decode(top) == HERE.root
    dash, signer, signature = signed.split(" ")
    raw = base64.b64decode(signature)
    assert (dash, signer, len(raw)) == ("—", name, 68)
    assert raw[:4] == sha256(f"{name}\n".encode() + b"\x01" + PUBLIC).digest()[:4]
    wire.require_signature(PUBLIC, raw[4:], f"{name}\n{size}\n{top}\n".encode())


def test_a_witness_may_sign_beside_the_centre() -> None:
    """Other signatures are passed over, whoever's they are, also under the centre's own name."""
    note = log.seal_checkpoint(HERE, SECRET)
    other = f"— witness.example {base64.b64encode(bytes(68)).decode()}\n".encode()
    same = f"— {log.origin(PUBLIC)} {base64.b64encode(bytes(68)).decode()}\n".encode()
    head, _, own = note.partition(b"\n\n")
    assert log.open_checkpoint(head + b"\n\n" + other + same + own, PUBLIC) == HERE
    key = base64.b64decode(own.split()[-1])[:4]
    alike = f"— witness.example {base64.b64encode(key + bytes(64)).decode()}\n".encode()
    assert log.open_checkpoint(head + b"\n\n" + alike + own, PUBLIC) == HERE


@pytest.mark.parametrize("size", [0, 1 << 40])
def test_a_log_without_an_entry_and_the_largest_are_logs(size: int) -> None:
    """Their checkpoints are read, and believed by who knew nothing."""
    here = Checkpoint(size, log.EMPTY_ROOT)
    assert log.open_checkpoint(log.seal_checkpoint(here, SECRET), PUBLIC) == here
    assert log.objection(None, Growth(here)) is None


def test_a_note_has_at_most_a_kib() -> None:
    """With its witnesses: the last byte that fits is read, one more is not."""
    note = log.seal_checkpoint(HERE, SECRET)
    line = "— {} {}\n".format("w" * 64, "A" * 88).encode()
    lines = line * ((1024 - len(note)) // len(line))
    room = 1024 - len(note) - len(lines)
    assert room > 10
    for octets, whole in ((room, True), (room + 1, False)):
        last = "— {} AAAA\n".format("w" * (octets - 10)).encode()
        full = note + lines + last
        assert len(full) == 1024 + (not whole)
        if whole:
            assert log.open_checkpoint(full, PUBLIC) == HERE
        else:
            with pytest.raises(WireError) as caught:
                log.open_checkpoint(full, PUBLIC)
            assert caught.value.reason == "oversized"


NOTE = log.seal_checkpoint(HERE, SECRET)


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        (b"", "malformed"),
        (b"\xff", "malformed"),
        (NOTE.replace(b"\n5\n", b"\n05\n"), "malformed"),
        (NOTE.replace(b"\n5\n", b"\n-5\n"), "malformed"),
        (NOTE.replace(b"\n5\n", b"\nfive\n"), "malformed"),
        (log.seal_checkpoint(replace(HERE, root=bytes(31)), SECRET), "malformed"),
        (log.seal_checkpoint(replace(HERE, size=log.LARGEST_SIZE + 1), SECRET), "malformed"),
        (NOTE + b"a witness AAAA\n", "malformed"),
        (NOTE + b"oneword\n", "malformed"),
        (NOTE + "— witness A*AAA\n".encode(), "malformed"),
        (NOTE.replace(b"\n\n", b"*\n\n"), "malformed"),
        (log.seal_checkpoint(replace(HERE, size=-1), SECRET), "malformed"),
        (NOTE.replace(b"\n5\n", b"\n6\n"), "bad_signature"),
        (NOTE.partition(b"\n\n")[0] + b"\n\n", "bad_signature"),
        (log.seal_checkpoint(HERE, wire.new_key()[0]), "malformed"),
        (NOTE + b"x" * 1024, "oversized"),
    ],
)
def test_what_the_centre_did_not_sign_is_no_checkpoint(note: bytes, reason: str) -> None:
    """Another size, another form, another key, too much, or nothing."""
    with pytest.raises(WireError) as caught:
        log.open_checkpoint(note, PUBLIC)
    assert caught.value.reason == reason


def judged(objection: Callable[[Checkpoint | None, Growth], str | None]) -> list[bool]:
    other = replace(HERE, root=bytes(32))
    cases = [
        (None, HERE),
        (HERE, HERE),
        (HERE, Checkpoint(6, other.root)),
        (HERE, Checkpoint(4, HERE.root)),
        (HERE, other),
        (None, replace(HERE, size=log.LARGEST_SIZE + 1)),
    ]
    return [objection(known, Growth(told)) is None for known, told in cases]


def test_a_log_that_shrinks_or_forks_is_told() -> None:
    """A first one, the same one and a longer one are taken; a shorter one, another root and an absurd size are not."""
    assert judged(log.objection) == [True, True, True, False, False, False]
    assert judged(lambda known, told: None) != judged(log.objection)
    assert "has 4 entries, and had 5" in str(log.objection(HERE, Growth(Checkpoint(4, HERE.root))))
    assert "another root" in str(log.objection(HERE, Growth(replace(HERE, root=bytes(32)))))
    # One entry was known, and the longer log brings no proof: that is no objection, and no proof.
    one, longer = Checkpoint(1, bytes.fromhex(ROOTS[0])), Growth(HERE)
    assert log.objection(one, longer) is None and not log.is_proved(one, longer)
