"""Exact summaries of what was observed. They never leave the gateway's memory: no text, no pickle, no file."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from functools import cache
from typing import NoReturn

from murmure_privacy.release import Node


@cache
def energy(level_tenths: int) -> int:
    """Returns 10^(L/10) for a level in tenths of a decibel, rounded: monotone, the same on every machine."""
    with localcontext(Context(prec=40)):
        return int((Decimal(10) ** (Decimal(level_tenths) / 100)).to_integral_value())


class Secret:
    """Base of what must stay in memory: it has no readable text and cannot be pickled or copied to a file."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} withheld>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an exact value does not leave the gateway's memory")


class Aggregate(Secret):
    """The exact summary of one closed node: integers by indicator, to be noised by the gate and then forgotten."""

    __slots__ = ("node", "sums")

    def __init__(self, node: Node, sums: dict[str, tuple[int, ...]]) -> None:
        self.node = node
        self.sums = sums


class Cell(Secret):
    """What one stream brought in one quarter-hour: sums over its slots, at most one reading a slot."""

    __slots__ = ("bins", "energy_sum", "last_slot", "present", "total")

    def __init__(self, bins: int) -> None:
        self.total = 0
        self.energy_sum = 0
        self.bins = [0] * bins
        self.present = 0
        self.last_slot = -1
