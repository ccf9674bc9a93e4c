"""Policies as the studio writes them: TOML that `murmure policy check` reads, an epsilon or a margin in each stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from murmure_privacy.policy import Policy, StreamPolicy


@dataclass(frozen=True, slots=True)
class Head:
    """What a policy says above its streams."""

    site: str
    version: int
    timezone: str
    decision: str
    reason: str
    valid_from: date
    valid_until: date


def head_of(policy: Policy) -> Head:
    """Returns the head of a policy."""
    return Head(
        policy.site,
        policy.version,
        policy.timezone,
        policy.decision,
        policy.reason,
        policy.valid_from,
        policy.valid_until,
    )


def epsilon_line(epsilon: Decimal) -> str:
    """Returns the line that states an epsilon."""
    return f"epsilon = {plain(epsilon)}"


def target_line(node: str, error_95: Decimal) -> str:
    """Returns the line that asks for a 95 % margin instead, as `murmure policy preview` solves it."""
    return f"target = {{ node = {_text(node)}, error_95 = {plain(error_95)} }}"


def written(head: Head, streams: Sequence[tuple[StreamPolicy, str]], paused: bool = False) -> bytes:
    """Returns the file of a policy: its head, and each stream with the line of its budget."""
    lines = [
        "policy = 1",
        f"site = {_text(head.site)}",
        f"version = {head.version}",
        f"timezone = {_text(head.timezone)}",
        f"decision = {_text(head.decision)}",
        f"reason = {_text(head.reason)}",
        f"valid_from = {head.valid_from}",
        f"valid_until = {head.valid_until}",
        *["paused = true"] * paused,
    ]
    for stream, line in streams:
        lines += ["", *_stream(stream, line)]
    return ("\n".join(lines) + "\n").encode()


def _stream(stream: StreamPolicy, budget: str) -> list[str]:
    kind, size = stream.protects
    per_unit = stream.quantity.per_unit
    level = stream.quantity.kind == "level"
    suffix = "_db" if level else ""
    up_to = "" if stream.up_to is None else f", up_to{suffix} = {stream.up_to // per_unit}"
    lines = [
        "[[stream]]",
        f"id = {_text(stream.id)}",
        f"quantity = {_text(stream.quantity.name)}",
        f"protects = {{ {kind} = {size}{up_to} }}",
    ]
    if stream.quantity.kind != "count":
        lines.append(f"readings = {{ cadence_ms = {stream.cadence_ms}, tail = {stream.tail} }}")
    lines += [budget, f"delta = {plain(stream.delta)}", f"nodes = {_weights(stream.nodes)}"]
    if level:
        lines.append(f"indicators = {_weights(stream.indicators)}")
    if stream.quantity.kind != "count":
        low, high = stream.bounds
        lines.append(f"bounds{suffix} = [{low // per_unit}, {high // per_unit}]")
    if stream.cap is not None:
        cap = stream.cap
        units = f"units_per_day = {cap.units_per_day}, span = {_text(cap.span)}, epsilon = {plain(cap.epsilon)}"
        lines.append(f"cap = {{ {units} }}")
    return [*lines, *["paused = true"] * stream.paused]


def _weights(pairs: Sequence[tuple[str, Decimal]]) -> str:
    return "{ " + ", ".join(f"{_text(name)} = {plain(weight)}" for name, weight in pairs) + " }"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def plain(value: Decimal) -> str:
    """Returns a number without an exponent."""
    return f"{value.normalize():f}"
