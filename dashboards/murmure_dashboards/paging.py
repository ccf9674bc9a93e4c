"""Lists that may be longer than a page bears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Part(Generic[Item]):
    """One page of a list: `number` counts from 1, `of` are the paths of all its pages."""

    number: int
    path: str
    items: Sequence[Item]
    of: Sequence[str]


def parts(path: str, items: Sequence[Item], most: int) -> list[Part[Item]]:
    """Returns a list cut so that each page has at most `most` items: the first at `path`, the others below it, where no
    slug can lead. An empty list has one page."""
    count = max(1, -(-len(items) // most))
    paths = [path, *(f"{path}liste/{number}/" for number in range(2, count + 1))]
    return [Part(number, at, items[(number - 1) * most : number * most], paths) for number, at in enumerate(paths, 1)]
