"""What the signed policies protect, said from the policies alone."""

from __future__ import annotations

from collections.abc import Sequence

from murmure_privacy.policy import StreamPolicy

from murmure_dashboards.config import Site
from murmure_dashboards.views import StreamView
from murmure_dashboards.wording import Language


def protected(say: Language, part: StreamPolicy) -> str:
    """Returns the unit of privacy of a stream in words, with the level up to which it holds."""
    kind, size = part.protects
    family = kind if kind == "crossings" else f"seconds_{'noise' if part.quantity.kind == 'level' else 'air'}"
    unit = say.counted(f"promise.{family}", size, number=say.number(size))
    if part.up_to is None:
        return unit
    return unit + say(f"promise.up_to_{part.quantity.kind}", limit=say.number(part.up_to // part.quantity.per_unit))


def promises(say: Language, views: Sequence[tuple[Site, StreamView]]) -> list[str]:
    """Returns, for each site, exactly what its signed policy protects and with which epsilon and delta."""
    lines: list[str] = []
    held: dict[tuple[str, int, str], list[str]] = {}
    for site, view in views:
        quantity = say(f"quantity.{view.quantity.name}")
        if view.rule is None:
            lines.append(say("promise.unknown", place=site.name, quantity=quantity))
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
        lines.append(say("promise.place", place=place, version=version, decision=decision, streams=said))
    limits = dict.fromkeys(
        (view.quantity.kind, view.rule[1].up_to // view.quantity.per_unit)
        for _, view in views
        if view.rule is not None and view.rule[1].up_to is not None
    )
    return [*lines, *(say(f"promise.above_{kind}", limit=say.number(limit)) for kind, limit in limits)]
