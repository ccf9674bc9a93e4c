"""The inbox: what `send` has received for us, read as hostile input and judged with the keys of `trust.toml`.

`send` drops letters as they came; it may be broken or taken over, and the folder may hold anything. So a letter is a
regular file of a known name and size, or it is rubbish; and it counts only if a pinned key has signed it. Whoever
fills this folder can lose or delay letters, and nothing else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from murmure_privacy import log, policy, wire
from murmure_privacy.errors import ConfigError, WireError
from murmure_privacy.files import names, opened, read_regular
from murmure_privacy.log import Checkpoint, Growth
from murmure_privacy.policy import Policy
from murmure_privacy.release import Receipt

from murmure_edge.config import Trust

Kind = Literal["policy", "receipt"]

RECEIPT = "receipt.cose"
QUOTA: dict[Kind, int] = {"policy": 48, "receipt": 16}  # letters that are looked at in one turn
SCAN_LIMIT = 4096  # names that are looked at in one turn: a million files cost many turns, not one long one
LIMITS: dict[Kind, int] = {"policy": wire.SEALED_POLICY_LIMIT, "receipt": wire.MESSAGE_LIMIT}

_LETTER = re.compile(r"(policy|receipt)(-[0-9a-z]{1,32})?\.cose")
_BEING_WRITTEN = re.compile(r"\.(policy|receipt)(-[0-9a-z]{1,32})?\.cose\.tmp")


def policy_name(sealed: bytes) -> str:
    """Returns the file name of a sealed policy."""
    return f"policy-{wire.digest(sealed).hex()[:8]}.cose"


# --- the folder ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Letter:
    """What lay in the inbox under `name`. Nothing about `data` has been checked but its length."""

    name: str
    kind: Kind
    data: bytes


def _kind(name: str) -> Kind | None:
    match = _LETTER.fullmatch(name)
    return None if match is None else "policy" if match[1] == "policy" else "receipt"


def read(folder: Path) -> list[Letter]:
    """Returns the letters of the folder, receipts first, and removes what is none.

    Looks at `SCAN_LIMIT` names and returns at most `QUOTA` letters of each kind; letters beyond are removed, oldest
    names first.
    Raises OSError if the folder itself cannot be used.
    """
    letters: list[Letter] = []
    with opened(folder) as at:
        with os.scandir(at) as entries:
            found = [entry.name for entry in islice(entries, SCAN_LIMIT)]
        room = dict(QUOTA)
        # Newest names first; the receipt's own is known and the last of all, so that no number of others can hide it.
        for name in sorted({*found, RECEIPT}, reverse=True):
            kind = _kind(name)
            if kind is None or not room[kind]:
                continue
            data = read_regular(at, name, LIMITS[kind])
            if data is not None:
                letters.append(Letter(name, kind, data))
                room[kind] -= 1
        rubbish = set(found) - {letter.name for letter in letters}
        # Some being-written names may be of one who died; two dozen of them harm nobody, more are removed.
        beside = sorted(name for name in rubbish if _BEING_WRITTEN.fullmatch(name))
        for name in rubbish.difference(beside[:24]):
            _throw_away(at, name)
    return sorted(letters, key=lambda letter: (letter.kind != "receipt", letter.name))


def drop_receipts(folder: Path) -> None:
    """Removes every receipt that lies in the folder, so that none of before is read again. Raises OSError.

    Nothing is lost with them: what they settle waits and is sent again, and the centre says once more that it has it.
    """
    with opened(folder) as at:
        for name in names(at):
            if _kind(name) == "receipt" and read_regular(at, name, LIMITS["receipt"]) is not None:
                os.unlink(name, dir_fd=at)
        os.fsync(at)


def _throw_away(at: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=at)
        return
    with suppress(OSError):
        os.rmdir(name, dir_fd=at)


class Inbox:
    """The folder as `sense` keeps it: hands each letter on once, says once what is wrong, never fails.

    Letters stay where they are and are recognised by their bytes: taking them away could lose a newer one that comes
    in between, and after a restart all are read again, which changes nothing.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._seen: dict[str, bytes] = {}
        self._complained = False

    def new(self) -> list[Letter]:
        """Returns the letters that came or changed since the last call."""
        try:
            letters = read(self._folder)
        except OSError as error:
            if not self._complained:
                self._say(f"{self._folder}: {error.strerror or error}; receipts and policies cannot come in")
            self._complained = True
            return []
        self._complained = False
        before, self._seen = self._seen, {letter.name: wire.digest(letter.data) for letter in letters}
        return [letter for letter in letters if before.get(letter.name) != self._seen[letter.name]]


# --- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutboxState:
    """What `sense` knows of its own messages: `newest`, the last number it gave; the hash of one by its number, None
    for one that is not kept; and all that it ever charged, in micro-rho. `settled`: up to where the receipts so far
    have settled all, and `log`: how far the centre's log had come by them, None if none has told."""

    newest: int
    hash_of: Callable[[int], bytes | None]
    charged_rho_micro: int
    settled: int = 0
    log: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """A true receipt: all messages up to number `up_to` may go (it may say nothing new), and the centre asks for those
    of its field `again`."""

    receipt: Receipt

    @property
    def up_to(self) -> int:
        """Returns the number up to which the centre has settled everything, 0 for nothing."""
        return self.receipt.settled_seq


@dataclass(frozen=True, slots=True)
class OlderCopy:
    """A true receipt for messages of ours that our database does not know, or knows otherwise: another copy of this
    card has spoken since, and ours must fall silent. `detail` says how it shows."""

    detail: str


@dataclass(frozen=True, slots=True)
class NewPolicy:
    """A true policy, newer than the one in force. `sealed` is what to store."""

    policy: Policy
    sealed: bytes


@dataclass(frozen=True, slots=True)
class SamePolicy:
    """The policy in force, once more."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A letter that is not believed. `reason` is one word for the counter, `detail` a line for the technician."""

    reason: str
    detail: str


def decide_receipt(sealed: bytes, trust: Trust, state: OutboxState) -> Settled | OlderCopy | Refused:
    """Returns which messages a receipt settles. Pure; never raises, whatever the bytes are.

    The centre must have signed it, for this gateway. It settles only what our own key has signed: a number that we
    have not given yet, our number with another hash, one that forks the chain, or more charges than we ever made were
    given by a card with the same key. The broker keeps the newest receipt, so that this is the handshake after each
    start too. And its log is the one of before, or that one grown longer, with the proof: what was known is its
    beginning. `other_log`: it is certainly another one; `no_proof`: it may be the same, and a proof may come yet.
    """
    try:
        receipt = wire.open_receipt(sealed, trust.centre)
    except WireError as error:
        return Refused(error.reason, error.detail)
    if (receipt.gateway, receipt.quartier) != (trust.gateway, trust.quartier):
        return Refused("other_gateway", f"it is for {receipt.gateway} in {receipt.quartier}")
    settled = receipt.settled_seq
    forks = [seq for seq, word in receipt.exceptions if word == "forked"]
    if forks:
        return OlderCopy(f"the centre holds a message {forks[0]} that does not follow from the one before it")
    if settled > state.newest:
        return OlderCopy(f"the centre has settled message {settled}, and {state.newest} is the newest here")
    if state.hash_of(settled) not in (None, receipt.settled_hash):
        return OlderCopy(f"the centre has settled another message {settled} than the one here")
    if receipt.again and receipt.again[-1][1] >= state.newest:
        return OlderCopy(
            f"the centre holds a message after {receipt.again[-1][1]}, and {state.newest} is the newest here"
        )
    if receipt.charged_rho_micro > state.charged_rho_micro:
        return OlderCopy(
            f"the centre has filed releases for {receipt.charged_rho_micro} micro-rho, and {state.charged_rho_micro} "
            "are all that was ever charged here"
        )
    refusal = _judge_log(state.log, log.of_receipt(receipt.checkpoint), settled <= state.settled)
    return Settled(receipt) if refusal is None else refusal


def _judge_log(known: Checkpoint | None, told: Growth | None, nothing_new: bool) -> Refused | None:
    """Returns why a receipt is not believed by what it says of the log. One from before, by stick or once more, that
    settles nothing new may be of a shorter log, or of none."""
    if told is None:
        if known is None or nothing_new:
            return None
        return Refused("other_log", f"it names no log, and one of {known.size} entries is known")
    objection = log.objection(known, told)
    if objection is not None:
        return None if known and told.here.size < known.size and nothing_new else Refused("other_log", objection)
    if known is None or log.is_proved(known, told):
        return None
    proof = f"its proof starts from {told.since}" if told.since else "it has no proof"
    return Refused("no_proof", f"the log has {told.here.size} entries, {known.size} are known, and {proof}")


def decide_policy(
    sealed: bytes, trust: Trust, current: Policy | None, newest_told: int = 0
) -> NewPolicy | SamePolicy | Refused:
    """Returns what a sealed policy is to us. Pure; never raises, whatever the bytes are.

    Enough of the pinned stewards must have signed it, for this site, and its version must have grown. It must not be
    older than `newest_told`, the newest of which a receipt has told: an old one could be played again to loosen.
    """
    try:
        text = wire.open_policy(sealed, trust.stewards, trust.signatures_required)
        candidate = policy.parse(text, "policy")
    except WireError as error:
        return Refused(error.reason, error.detail)
    except ConfigError as error:
        return Refused("not_a_policy", str(error))
    if candidate.site != trust.site:
        return Refused("other_site", f"it is for {candidate.site}")
    if current is not None and candidate.hash == current.hash:
        return SamePolicy()
    if current is not None and candidate.version <= current.version:
        return Refused("old_policy", f"it is version {candidate.version}, and {current.version} is in force")
    if candidate.version < newest_told:
        return Refused("old_policy", f"it is version {candidate.version}, and the centre's newest is {newest_told}")
    return NewPolicy(candidate, sealed)
