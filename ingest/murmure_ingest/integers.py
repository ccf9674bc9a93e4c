"""The released integers as they stand in the index of nodes, so that many are read without opening what was signed.

`nodes.integers` holds the integers of a release one after the other, each in as many bytes (1, 2, 4 or 8, two's
complement, the highest first) as the widest of them needs. What they are the integers *of* is the same for every node
of a level under a policy, and stands once, in `scales`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from struct import Struct
from typing import Any, NamedTuple

from murmure_privacy.release import Outcome, Release

Part = tuple[str, int, int, int]
"""An indicator, how many integers it has, the sigma of the noise on each in thousandths, and its micro-rho."""

_FORMATS = {1: "b", 2: "h", 4: "i", 8: "q"}
_COLUMNS = "policy, cadence_ms, low, high, parts"


class Scale(NamedTuple):
    """What the integers of a node are: `policy` is the SHA-256 of the bytes, `bounds` are in reading units, `parts`
    none for a node that was withheld."""

    policy: bytes
    cadence_ms: int
    bounds: tuple[int, int]
    parts: tuple[Part, ...]

    @property
    def width(self) -> int:
        """Returns how many integers a node has."""
        return sum(width for _, width, _, _ in self.parts)


NodeRow = tuple[int, int, int, int, str | None, int, tuple[int, ...]]
"""One node, a plain tuple since there are many: start, end and begin of what was observed (seconds UTC), presence in
twentieths, the reason why it was withheld (None for a release), its scale, and its integers in the order of
`Archive.scale(scale).parts`."""


def scale_of(outcome: Outcome) -> Scale:
    """Returns the scale of an outcome."""
    node = outcome.node
    noised = outcome.noised if isinstance(outcome, Release) else ()
    parts = tuple([(one.indicator, len(one.integers), one.sigma_milli, one.rho_micro) for one in noised])
    return Scale(node.policy, node.cadence_ms, node.bounds, parts)


def packed(outcome: Outcome) -> bytes | None:
    """Returns the integers of a release as the index holds them, None for what was withheld."""
    if not isinstance(outcome, Release):
        return None
    if len(outcome.noised) == 1:
        return packed_integers(outcome.noised[0].integers)
    return packed_integers([integer for one in outcome.noised for integer in one.integers])


def packed_integers(integers: Sequence[int]) -> bytes:
    """Returns the integers of one release, at least one, as the index holds them."""
    least = integers[0]
    if len(integers) == 1:  # a count, a mean: what there is most of
        bits = (~least if least < 0 else least).bit_length()
        return least.to_bytes(1 if bits < 8 else 2 if bits < 16 else 4 if bits < 32 else 8, "big", signed=True)
    bits = max(max(integers), ~min(integers)).bit_length()
    return _struct(len(integers), 1 if bits < 8 else 2 if bits < 16 else 4 if bits < 32 else 8).pack(*integers)


def unpacking(width: int, length: int) -> Callable[[bytes], tuple[int, ...]]:
    """Returns what reads `width` integers out of `length` bytes. Raises ValueError if no such bytes are ours."""
    size, rest = divmod(length, width) if width else (0, length)
    if rest or size not in _FORMATS:
        raise ValueError(f"{length} bytes are not {width} integers")
    return _struct(width, size).unpack


@cache
def _struct(width: int, size: int) -> Struct:
    return Struct(f">{width}{_FORMATS[size]}")


def keep_scale(db: sqlite3.Connection, scale: Scale) -> int:
    """Returns the row of a scale, which is added if it is new (within a transaction)."""
    parts = ";".join(" ".join(map(str, part)) for part in scale.parts)
    values = (scale.policy, scale.cadence_ms, *scale.bounds, parts)
    found = db.execute(f"SELECT id FROM scales WHERE ({_COLUMNS}) = (?, ?, ?, ?, ?)", values).fetchone()
    if found is None:
        cursor = db.execute(f"INSERT INTO scales ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)", values)
        return int(cursor.lastrowid or 0)
    return int(found[0])


def read_scale(row: tuple[Any, ...]) -> Scale:
    """Returns a scale from policy, cadence_ms, low, high and parts of its row. Raises ValueError if it is none."""
    policy, cadence_ms, low, high, text = row
    parts = []
    for part in text.split(";") if text else ():
        indicator, width, sigma_milli, rho_micro = part.split(" ")
        parts.append((indicator, int(width), int(sigma_milli), int(rho_micro)))
    return Scale(policy, cadence_ms, (low, high), tuple(parts))
