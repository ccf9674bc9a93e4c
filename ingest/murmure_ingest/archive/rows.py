"""What the archive's rows say, and how an outcome stands in the index of nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from murmure_privacy.annotation import Note
from murmure_privacy.release import Outcome, Release, Withheld

from murmure_ingest.integers import packed

FIRST_HEAD = bytes(32)

Disposition = Literal["filed", "refused", "quarantined"]
NodeKey = tuple[str, str, int]
"""Stream, level and aligned start: what a node has one place by, for ever."""
Turn = tuple[int, bytes, Collection[bytes]]
"""What the next message of a gateway has to be: its number, the SHA-256 of the one before it; and the policies that the
gateway has used so far."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One line of the register: who may speak. Keys are 32-byte Ed25519 public keys. The newest line of a gateway
    holds; a message stays bound to the line (`id`) under which it was accepted."""

    gateway: str
    quartier: str
    site: str
    record_key: bytes
    stewards: tuple[bytes, ...]
    signatures_required: int
    status: Literal["active", "revoked"] = "active"
    id: int = 0


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of the archive and the gateway that spoke of it last."""

    gateway: str
    quartier: str
    site: str
    stream: str
    quantity: str


@dataclass(frozen=True, slots=True)
class Holding:
    """What is held of one stream: nodes with values (`released`) and without (`withheld`), from the earliest instant
    that one covers to the latest end (seconds UTC)."""

    from_s: int
    until_s: int
    released: int
    withheld: int


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One settled message. `sealed` is None for a refused one, of which only the hash is remembered, and empty for one
    that was put aside and forgotten since; `disposition` and `reason` are the newest word on it. `nodes`: how many
    nodes it carries."""

    id: int
    gateway: str
    seq: int
    hash: bytes
    previous: bytes
    disposition: Disposition
    reason: str
    nodes: int
    enrolment: int
    head: bytes
    sealed: bytes | None


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """One signed policy: `hash` is the SHA-256 of `toml`, `sealed` carries the signatures."""

    hash: bytes
    site: str
    version: int
    toml: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class StoredAnnotation:
    """What stewards said of a period of a stream, or took back. `sealed` carries their signatures, `enrolment` is the
    line of the register whose stewards they are."""

    note: Note
    sealed: bytes
    enrolment: int


@dataclass(frozen=True, slots=True)
class StoredHealth:
    """The last health report of a gateway, as it was signed."""

    gateway: str
    boot: int
    uptime_s: int
    at_s: int
    sealed: bytes


class Unfiled(NamedTuple):
    """What is settled of a gateway and not filed: how many messages, and how many bytes of them are kept."""

    messages: int
    aside_bytes: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What a receipt says of a gateway: all of 1..settled_seq is settled; the sum of rho filed, in micro-rho."""

    settled_seq: int
    settled_hash: bytes
    charged_rho_micro: int


def index_row(outcome: Outcome, message: int, place: int) -> tuple[Any, ...]:
    """Returns how an outcome stands in the index of nodes, all but the row of its scale: row `message`, `place` within
    it."""
    node = outcome.node
    return (
        node.stream,
        node.level,
        node.start_s,
        node.end_s,
        node.covered_from_s,
        node.quantity,
        node.present,
        outcome.reason if isinstance(outcome, Withheld) else None,
        charge_of(outcome),
        message,
        place,
        packed(outcome),
    )


def charge_of(outcome: Outcome) -> int:
    """Returns what a node cost, in micro-rho."""
    return sum([n.rho_micro for n in outcome.noised]) if isinstance(outcome, Release) else 0


def next_head(head: bytes, message_hash: bytes) -> bytes:
    """Returns the running hash after one more message."""
    return hashlib.sha256(head + message_hash).digest()
