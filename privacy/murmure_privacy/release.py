"""The only things that may leave a gateway. Pure data: the gate and the wire construct them, everyone reads them."""

from __future__ import annotations

from dataclasses import dataclass

REASONS = ("no_policy", "expired", "paused", "clock", "sensor_absent", "cap")
"""Why a node can be withheld. Every one is known from clock, policy, ledger or device health, never from a value."""


@dataclass(frozen=True, slots=True)
class Node:
    """One interval of one stream. Times in seconds UTC; `[start_s, end_s)` is the aligned node, and only
    `[covered_from_s, end_s)` was observed. `present`: twentieths of the covered slots with a valid frame, rounded
    down. `bounds`: the clamping bounds in reading units (tenths), (0, 0) for counts. `policy`: SHA-256 of the bytes."""

    stream: str
    quantity: str
    level: str
    start_s: int
    end_s: int
    covered_from_s: int
    present: int
    cadence_ms: int
    bounds: tuple[int, int]
    policy: bytes

    @property
    def slots(self) -> int:
        """Returns the public number of slots that were covered: the denominator of every mean."""
        return (self.end_s - self.covered_from_s) * 1000 // self.cadence_ms

    @property
    def key(self) -> tuple[str, str, int]:
        """Returns what is charged once, for ever: stream, level and aligned start."""
        return (self.stream, self.level, self.start_s)


@dataclass(frozen=True, slots=True)
class Noised:
    """Released integers of one indicator, the standard deviation of the noise on each (in thousandths of the
    integer's unit, rounded up) and what they cost together in micro-rho."""

    indicator: str
    integers: tuple[int, ...]
    sigma_milli: int
    rho_micro: int


@dataclass(frozen=True, slots=True)
class Release:
    """A noised aggregate: the only kind of value that leaves. Built by the gate and by the wire, nowhere else."""

    node: Node
    noised: tuple[Noised, ...]


@dataclass(frozen=True, slots=True)
class Withheld:
    """The public fact that a node has no release, with a reason known before the data."""

    node: Node
    reason: str


Outcome = Release | Withheld


@dataclass(frozen=True, slots=True)
class Message:
    """Everything of one gateway that closes at one instant. `previous`: SHA-256 of the sealed message before it."""

    gateway: str
    quartier: str
    site: str
    boot: int
    seq: int
    previous: bytes
    closing_s: int
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The centre's word: up to `settled_seq` all messages are filed, refused or quarantined (`exceptions` lists the
    latter two as (seq, word), and as `forked` what was quarantined since it does not follow from the one before it).
    `charged_rho_micro`: the sum filed for this gateway. `policy_version`: the newest. `again`: (first, last) numbers
    that the centre lacks although it holds later ones, and asks for; ascending, never touching."""

    gateway: str
    quartier: str
    settled_seq: int
    settled_hash: bytes
    exceptions: tuple[tuple[int, str], ...]
    charged_rho_micro: int
    policy_version: int
    checkpoint: bytes
    again: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """What a gateway says of itself: an allow-list in which no field depends on a person or on a measured value.
    `log`: how many entries the centre's log had that it remembers, 0 for none; None from a gateway that does not say
    it, and reads no proof."""

    gateway: str
    quartier: str
    at_s: int
    uptime_s: int
    boot: int
    software: str
    ports: tuple[tuple[str, str], ...]
    outbox_depth: int
    clock: str
    temperature_c: int | None
    free_storage_mb: int
    log: int | None = None
