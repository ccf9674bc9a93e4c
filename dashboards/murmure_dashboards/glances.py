"""What pages of the whole town tell of a stream today, kept as long as nothing of it can be otherwise."""

from __future__ import annotations

import marshal
from dataclasses import dataclass, fields

from murmure_privacy.window import Window

from murmure_dashboards.counters import Off
from murmure_dashboards.facts import Fact
from murmure_dashboards.usual import Usual

KIND = "glances"
"""In the store: of a stream."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What is known of a stream today (None: nothing), when its next figures can be there (seconds UTC), the hash of
    the policy that its newest nodes name (None: none that is known), and whether it has figures, or should have."""

    fact: Fact | None
    due: tuple[int, ...]
    rule: bytes | None
    expected: bool


def written(key: str, from_s: int, until_s: int, one: Glance) -> bytes:
    """Returns it as it is kept, for instants in `[from_s, until_s)`. `key`: the sum of what it follows from besides
    nodes."""
    told = None
    if one.fact is not None:
        known = {field.name: getattr(one.fact, field.name) for field in fields(Fact)}
        for name in ("span", "off", "usual"):
            within = known[name]
            known[name] = within and tuple(getattr(within, field.name) for field in fields(within))
        told = known
    return marshal.dumps((key, from_s, until_s, told, one.due, one.rule, one.expected))


def read(key: str, now_s: int, value: bytes) -> Glance | None:
    """Returns what was written, None where it was for another key or instant, or otherwise."""
    try:
        held, from_s, until_s, told, due, rule, expected = marshal.loads(value)
        if held != key or not from_s <= now_s < until_s:
            return None
        if told is not None:
            told["span"] = Window(*told["span"])
            told["off"] = Off(*told["off"]) if told["off"] else None
            told["usual"] = Usual(*told["usual"]) if told["usual"] else None
        return Glance(Fact(**told) if told is not None else None, due, rule, expected)
    except (ValueError, EOFError, TypeError, KeyError):
        return None
