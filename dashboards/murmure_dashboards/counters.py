"""How far counters of passers-by are off by themselves, without any noise of ours, as docs/accuracy.md measures it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Off:
    """The largest share by which a counter was off: on an ordinary street, and where people go one by one."""

    street: float
    doorway: float


UP_TO_AN_HOUR = 500
"""Crossings an hour up to which the shares hold."""
COUNTERS: Mapping[str, Off] = {"ld2450": Off(street=0.02, doorway=0.005), "tfluna": Off(street=0.305, doorway=0.005)}


def off(device: str) -> Off | None:
    """Returns how far a counter is off, by its name as people write it (`HLK-LD2450`), None for any other device."""
    plain = re.sub(r"[^a-z0-9]", "", device.lower())
    return next((found for name, found in COUNTERS.items() if name in plain), None)
