"""What the sensors of a page cannot know of anyone."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

from murmure_dashboards.promises import Promised
from murmure_dashboards.wording import Language


def cannot(say: Language, views: Sequence[Promised]) -> list[str]:
    """Returns what the sensors on the page cannot know, one sentence each."""
    lines: list[str] = []
    for kind, keys, bounds in (
        ("count", ("footfall_who", "footfall_again", "footfall_count", "footfall_exact"), None),
        ("level", ("noise_said", "noise_source"), "noise_bounds"),
        ("mean", ("air_source", "air_indicative"), "air_bounds"),
    ):
        mine = [view for view in views if view.quantity.kind == kind]
        if not mine:
            continue
        lines += [say(f"cannot.{key}") for key in keys]
        if bounds:
            held = dict.fromkeys(
                (view.rule[1].bounds, view.rule[1].up_to, view.quantity.per_unit)
                for view in mine
                if view.rule is not None
            )
            lines += [
                say(
                    f"cannot.{bounds if up_to is None else bounds.replace('bounds', 'floor')}",
                    low=say.number(low // per_unit),
                    high=say.number(high // per_unit),
                )
                for (low, high), up_to, per_unit in held
            ]
    return [*lines, say("cannot.fault")] if lines else []


@cache
def proofs() -> Mapping[str, Sequence[str]]:
    """Returns the tests that show each line, by the line's key."""
    table = tomllib.loads(resources.files("murmure_dashboards").joinpath("cannot.toml").read_text(encoding="utf-8"))
    return {key: tuple(tests) for key, tests in table.items()}
