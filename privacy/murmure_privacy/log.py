"""The transparency log: a Merkle tree after RFC 6962 over entries that can only be added, and its signed checkpoint.

An entry is one line of JSON, and a leaf of the tree is the hash of that very line. Nothing in it depends on a measured
value. Whoever has all entries computes the root; whoever remembers a checkpoint sees whether a later log is the same
one, grown longer. A checkpoint is a signed note (C2SP), three lines and a signature. docs/log.md has it in words.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from murmure_privacy import wire
from murmure_privacy.errors import WireError

EMPTY_ROOT = hashlib.sha256(b"").digest()
ENTRY_LIMIT = 16_384
NOTE_LIMIT = 1024
LARGEST_SIZE = 1 << 40
"""Of a log that anybody could have written: one entry each second for 34 000 years. A larger size is no log's."""
PROOF_LIMIT = 41
"""Hashes of a consistency proof: no log up to `LARGEST_SIZE` needs more, one for each halving and one."""
_HASH_BYTES = 32
_SIZE_BYTES = 8


# --- the tree, RFC 6962 section 2.1 ----------------------------------------------------------------------------------


def leaf_hash(entry: bytes) -> bytes:
    """Returns the hash of an entry: the first byte tells it from a hash of hashes."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Returns the hash of two subtrees side by side."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """Returns the largest power of two below a size of at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def root(leaves: Sequence[bytes]) -> bytes:
    """Returns the root of a tree with these leaf hashes, in order."""
    peaks: list[bytes] = []
    for place, leaf in enumerate(leaves, 1):
        peaks.append(leaf)
        for _ in range((place & -place).bit_length() - 1):
            right = peaks.pop()
            peaks[-1] = node_hash(peaks[-1], right)
    return _joined(peaks)


def _joined(peaks: Sequence[bytes]) -> bytes:
    """Returns the root above perfect subtrees, the largest and leftmost first."""
    if not peaks:
        return EMPTY_ROOT
    found = peaks[-1]
    for peak in reversed(peaks[:-1]):
        found = node_hash(peak, found)
    return found


def peak(entry: bytes, place: int, peak_at: Callable[[int], bytes]) -> bytes:
    """Returns the hash of the largest perfect subtree that ends with this entry, which is the `place`-th (from 1).
    `peak_at` gives those of earlier places: whoever keeps one hash beside each entry adds the next in a few steps."""
    return _perfect(entry, place, place & -place, peak_at)


def _perfect(entry: bytes, place: int, span: int, peak_at: Callable[[int], bytes]) -> bytes:
    """Returns the hash of the perfect subtree of `span` entries that ends with this one, the `place`-th."""
    found, width = leaf_hash(entry), 1
    while width < span:
        found = node_hash(peak_at(place - width), found)
        width *= 2
    return found


def root_by_peaks(size: int, peak_at: Callable[[int], bytes]) -> bytes:
    """Returns the root of the first `size` entries from what `peak` gave for each."""
    return _range_by_peaks(0, size, peak_at)


def _range_by_peaks(begin: int, end: int, peak_at: Callable[[int], bytes]) -> bytes:
    peaks: list[bytes] = []
    while end > begin:
        peaks.insert(0, peak_at(end))
        end &= end - 1
    return _joined(peaks)


def inclusion_proof(leaves: Sequence[bytes], place: int) -> list[bytes]:
    """Returns the audit path of the leaf at `place` (from 0), the lowest hash first. Raises IndexError."""
    if not 0 <= place < len(leaves):
        raise IndexError(place)
    if len(leaves) == 1:
        return []
    at = _split(len(leaves))
    if place < at:
        return [*inclusion_proof(leaves[:at], place), root(leaves[at:])]
    return [*inclusion_proof(leaves[at:], place - at), root(leaves[:at])]


def proves_inclusion(leaf: bytes, place: int, size: int, proof: Sequence[bytes], expected: bytes) -> bool:
    """Returns whether a path proves that a leaf stands at `place` in the tree with `size` leaves and this root.

    RFC 9162 section 2.1.3.2.
    """
    if not 0 <= place < size:
        return False
    at, last, found = place, size - 1, leaf
    for beside in proof:
        if not last:
            return False
        if at & 1 or at == last:
            found = node_hash(beside, found)
            while not at & 1:  # neither is 0 here: halving ends
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, beside)
        at, last = at >> 1, last >> 1
    return not last and found == expected


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Returns what proves that the first `old_size` leaves are still the beginning. Raises IndexError."""
    return _consistency(old_size, len(leaves), lambda begin, end: root(leaves[begin:end]))


def consistency_by_peaks(
    old_size: int, size: int, peak_at: Callable[[int], bytes], entry_at: Callable[[int], bytes]
) -> list[bytes]:
    """Returns the same proof for the first `size` entries from what `peak` gave for each, and the entries, both by
    place (from 1). Asks for some hundred of them in a log of a million. Raises IndexError."""

    def root_of(begin: int, end: int) -> bytes:
        span = end - begin
        if span & (span - 1) or span == end & -end:
            return _range_by_peaks(begin, end, peak_at)
        return _perfect(entry_at(end), end, span, peak_at)  # what is kept at this place is of a larger subtree

    return _consistency(old_size, size, root_of)


def _consistency(old_size: int, size: int, root_of: Callable[[int, int], bytes]) -> list[bytes]:
    """RFC 6962 section 2.1.2, from the root down to the old tree's last subtree. `root_of` gives the root of the
    leaves from one place (from 0) up to another."""
    if not 0 < old_size <= size:
        raise IndexError(old_size)
    found: list[bytes] = []
    begin, end = 0, size
    while old_size < end:
        at = begin + _split(end - begin)
        if old_size <= at:
            found.insert(0, root_of(at, end))
            end = at
        else:
            found.insert(0, root_of(begin, at))
            begin = at
    return [root_of(begin, end), *found] if begin else found


def proves_consistency(old_size: int, old_root: bytes, size: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Returns whether a proof shows that the tree with `size` leaves begins with the one that had `old_size`.

    RFC 9162 section 2.1.4.2.
    """
    if not 0 < old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == new_root
    path = list(proof)
    if not old_size & (old_size - 1):
        path.insert(0, old_root)
    if not path:
        return False
    at, last = old_size - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    was = now = path[0]
    for beside in path[1:]:
        if not last:
            return False
        if at & 1 or at == last:
            was, now = node_hash(beside, was), node_hash(beside, now)
            while not at & 1:  # neither is 0 here: halving ends
                at, last = at >> 1, last >> 1
        else:
            now = node_hash(now, beside)
        at, last = at >> 1, last >> 1
    return not last and was == old_root and now == new_root


# --- entries ---------------------------------------------------------------------------------------------------------


def entry(fields: Mapping[str, object]) -> bytes:
    """Returns an entry in its one form: JSON on one line, keys in order, no blanks, UTF-8."""
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def read_entry(line: bytes) -> dict[str, Any]:
    """Returns the fields of an entry. Raises ValueError for what is not in that form, or longer than 16 KiB."""
    if len(line) > ENTRY_LIMIT:
        raise ValueError("too long")
    try:
        fields = json.loads(line)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not isinstance(fields, dict) or entry(fields) != line:
        raise ValueError("not in its one form")
    return fields


# --- checkpoints -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a log has come: the number of its entries, and the root above them."""

    size: int
    root: bytes


def origin(public: bytes) -> str:
    """Returns the name of the log that a centre with this key keeps."""
    return f"murmure/{public.hex()[:16]}"


def _key_hash(public: bytes) -> bytes:
    return hashlib.sha256(f"{origin(public)}\n".encode() + b"\x01" + public).digest()[:4]


def seal_checkpoint(checkpoint: Checkpoint, secret: bytes) -> bytes:
    """Returns a checkpoint as a note that the centre's key has signed. C2SP signed-note and tlog-checkpoint."""
    public = wire.public_key(secret)
    text = _text(checkpoint, public)
    signature = base64.b64encode(_key_hash(public) + wire.sign(secret, text)).decode()
    return text + f"\n— {origin(public)} {signature}\n".encode()


def _text(checkpoint: Checkpoint, public: bytes) -> bytes:
    return f"{origin(public)}\n{checkpoint.size}\n{base64.b64encode(checkpoint.root).decode('ascii')}\n".encode()


def open_checkpoint(note: bytes, public: bytes) -> Checkpoint:
    """Returns the checkpoint in a note that this key has signed; signatures of others, witnesses, may stand beside it.

    Raises WireError `malformed` for what is no such note, `bad_signature` where the key did not sign it.
    """
    if len(note) > NOTE_LIMIT:
        raise WireError("oversized", f"a checkpoint has at most {NOTE_LIMIT} bytes")
    try:
        head, _, signatures = note.decode().partition("\n\n")
        lines = signatures.splitlines()
        _, size, told = head.split("\n")
        found = Checkpoint(int(size), base64.b64decode(told))  # the one form of both is asked below
        signed = [(dash, name, base64.b64decode(text, validate=True)) for dash, name, text in map(str.split, lines)]
    except (ValueError, binascii.Error) as error:
        raise WireError("malformed", "not a checkpoint") from error
    text = head.encode() + b"\n"
    if text != _text(found, public) or not 0 <= found.size <= LARGEST_SIZE or len(found.root) != _HASH_BYTES:
        raise WireError("malformed", "not a checkpoint of this log")
    if {dash for dash, _, _ in signed} - {"—"}:
        raise WireError("malformed", "a signature begins with a dash")
    for _, name, one in signed:
        if name == origin(public) and one[:4] == _key_hash(public):
            wire.require_signature(public, one[4:], text)
            return found
    raise WireError("bad_signature", "the centre's key did not sign it")


@dataclass(frozen=True, slots=True)
class Growth:
    """How far a log has come, and from where that is proved: `proof` shows that the log of `since` entries is its
    beginning. 0 and no hash: nothing is proved."""

    here: Checkpoint
    since: int = 0
    proof: tuple[bytes, ...] = ()


def growth_bytes(growth: Growth) -> bytes:
    """Returns what a receipt says of the log: size (8 bytes) and root; then, with a proof, where it starts (8 bytes)
    and its hashes."""
    start = growth.since.to_bytes(_SIZE_BYTES, "big") if growth.proof else b""
    return growth.here.size.to_bytes(_SIZE_BYTES, "big") + growth.here.root + start + b"".join(growth.proof)


def of_receipt(field: bytes) -> Growth | None:
    """Returns what the field `checkpoint` of a receipt says of the log, after the archive's running hash; None where it
    says nothing in this form, as with a centre before the log."""
    whole = 2 * _HASH_BYTES + _SIZE_BYTES
    proof, rest = divmod(len(field) - whole - _SIZE_BYTES, _HASH_BYTES)
    if len(field) != whole and (rest or not 1 <= proof <= PROOF_LIMIT):
        return None
    size = int.from_bytes(field[_HASH_BYTES : _HASH_BYTES + _SIZE_BYTES], "big")
    here = Checkpoint(size, field[_HASH_BYTES + _SIZE_BYTES : whole])
    hashes = field[whole + _SIZE_BYTES :]  # without a proof neither these nor where it starts: 0
    return Growth(
        here,
        int.from_bytes(field[whole : whole + _SIZE_BYTES], "big"),
        tuple(hashes[at : at + _HASH_BYTES] for at in range(0, len(hashes), _HASH_BYTES)),
    )


def objection(known: Checkpoint | None, told: Growth) -> str | None:
    """Returns why a log cannot be the one that was known, grown longer; None if it can. Of one that is longer this says
    something only where its proof starts from what was known: see `is_proved`.

    A size above `LARGEST_SIZE` is none: who believed it once would call every honest log shorter afterwards.
    """
    here = told.here
    if here.size > LARGEST_SIZE:
        return f"a log of {here.size} entries is none: {LARGEST_SIZE} are the most"
    if known is None or here == known:
        return None
    if here.size < known.size:
        return f"the log has {here.size} entries, and had {known.size}"
    if here.size == known.size:
        return f"the log has another root than before above the same {known.size} entries"
    if told.since != known.size or is_proved(known, told):
        return None
    return f"the log has {here.size} entries, and the {known.size} that were known are not their beginning"


def is_proved(known: Checkpoint | None, told: Growth) -> bool:
    """Returns whether a log is certainly the one that was known: that one, or grown longer with a proof. Of a log that
    has no entry, or of which nothing was known, every other is a continuation."""
    if known is None or not known.size or told.here == known:
        return True
    return told.since == known.size and proves_consistency(
        known.size, known.root, told.here.size, told.here.root, told.proof
    )
