"""Frozen objects in a quarter of the time, for who makes thousands a second of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, make_dataclass
from typing import Any, TypeVar, cast

_T = TypeVar("_T")


def quick(cls: type[_T]) -> Callable[..., _T]:
    """Returns the constructor of a frozen dataclass with slots, from all its fields in order.

    Its own constructor goes around the lock field by field; this one fills an open object of the same layout and then
    locks it.
    """
    names = [field.name for field in fields(cast(Any, cls))]
    opened = make_dataclass(cls.__name__, names, slots=True)

    def make(*values: Any) -> Any:
        made = opened(*values)
        made.__class__ = cls
        return made

    return make
