"""What the signed policies protect, said from the policies alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.stream import Quantity

from murmure_dashboards.config import Site
from murmure_dashboards.wording import Language


class Promised(Protocol):
    """A stream of which something is published: `rule` is the newest signed policy and its part for the stream."""

    @property
    def quantity(self) -> Quantity: ...
    @property
    def rule(self) -> tuple[Policy, StreamPolicy] | None: ...
    @property
    def published(self) -> bool: ...


def protected(say: Language, part: StreamPolicy) -> str:
    """Returns the unit of privacy of a stream in words, with the level up to which it holds."""
    kind, size = part.protects
    family = kind if kind == "crossings" else f"seconds_{'noise' if part.quantity.kind == 'level' else 'air'}"
    unit = say.counted(f"promise.{family}", size, number=say.number(size))
    if part.up_to is None:
        return unit
    return unit + say(f"promise.up_to_{part.quantity.kind}", limit=say.number(part.up_to // part.quantity.per_unit))


_FRENCH = "\ue000"  # of a private area: no text has it
Parts = Sequence[tuple[str, bool]]
"""A line in pieces: text, and whether it is French whatever the language of the page."""


def promises(say: Language, views: Sequence[tuple[Site, Promised]]) -> list[Parts]:
    """Returns, for each site, exactly what its signed policy protects and with which epsilon and delta."""
    lines: list[str] = []
    held: dict[tuple[str, int, str], list[str]] = {}
    for site, view in views:
        quantity = say(f"quantity.{view.quantity.name}")
        if view.rule is None and not view.published:
            continue  # nothing is published of it here, so that nothing is promised either
        if view.rule is None:
            lines.append(say("promise.unknown", place=_french(site.name), quantity=quantity))
            continue
        policy, part = view.rule
        held.setdefault((site.name, policy.version, policy.decision), []).append(
            say(
                "promise.stream",
                quantity=quantity,
                unit=protected(say, part),
                epsilon=say.number(part.epsilon.normalize()),
                delta=say.number(part.delta.normalize()),
            )
        )
    for (place, version, decision), streams in held.items():
        said = say("key.apart").join(streams)
        who = {"place": _french(place), "decision": _french(say.typeset(decision))}
        lines.append(say("promise.place", version=version, streams=said, **who))
    limits = dict.fromkeys(
        (view.quantity.kind, view.rule[1].up_to // view.quantity.per_unit)
        for _, view in views
        if view.rule is not None and view.rule[1].up_to is not None
    )
    lines += [say(f"promise.above_{kind}", limit=say.number(limit)) for kind, limit in limits]
    return [[(text, bool(at % 2)) for at, text in enumerate(line.split(_FRENCH)) if text] for line in lines]


def _french(text: str) -> str:
    return f"{_FRENCH}{text}{_FRENCH}"
