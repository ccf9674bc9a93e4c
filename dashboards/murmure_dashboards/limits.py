"""Limits of the law and of the World Health Organization, and whether a figure may be held against one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

from murmure_privacy.errors import ConfigError

from murmure_dashboards.config import NOISE_SOURCES
from murmure_dashboards.usual import LEAST_COVERAGE

Verdict = Literal["above", "below", "cannot tell"]
_QUANTITIES = ("pm2_5", "pm10", "lden", "ln")
_AVERAGINGS = ("1d", "1y")
_BY = ("law", "who")


@dataclass(frozen=True, slots=True)
class Threshold:
    """One limit. `value` in the printed unit of `quantity`, for a mean over `averaging`: `1d` or `1y`. `by`: `law`, or
    `who` for what is advised. `dominant`: the source of noise that it is for, "" for air. `days_allowed`: how many days
    of a year the law lets it be exceeded. `verified`: whether the value was found at `source` or twice in copies of it
    that agree, on the day `read`; one that was not is never loaded. By `review` it is to be read again."""

    id: str
    quantity: str
    value: float
    averaging: str
    by: str
    in_force_from: date
    source: str
    address: str
    verified: Literal[True]
    read: date
    review: date
    dominant: str = ""
    days_allowed: int | None = None


class Compared(Protocol):
    """What is held against a limit."""

    @property
    def quantity(self) -> str: ...
    @property
    def averaging(self) -> str: ...
    @property
    def widest(self) -> tuple[float, float]: ...


def verdict(fact: Compared, threshold: Threshold, coverage: float) -> Verdict | None:
    """Returns where the whole interval of a fact, its sensor's own error within, lies beside a limit.

    None where the two are no pair: another quantity or another averaging time. `coverage`: the share of the time that
    was measured; with less than LEAST_COVERAGE nothing can be told.
    """
    if (fact.quantity, fact.averaging) != (threshold.quantity, threshold.averaging):
        return None
    low, high = fact.widest
    if coverage < LEAST_COVERAGE:
        return "cannot tell"
    return "above" if low > threshold.value else "below" if high < threshold.value else "cannot tell"


def applying(
    thresholds: Sequence[Threshold], quantity: str, averaging: str, on: date, dominant: str = ""
) -> dict[str, Threshold]:
    """Returns the newest limit that is in force on a day, by who set it."""
    known = [t for t in thresholds if (t.quantity, t.averaging, t.dominant) == (quantity, averaging, dominant)]
    return {t.by: t for t in sorted(known, key=lambda t: t.in_force_from) if t.in_force_from <= on}


def coming(thresholds: Sequence[Threshold], quantity: str, averaging: str, on: date) -> Threshold | None:
    """Returns the next limit of the law that is not yet in force."""
    later = [t for t in thresholds if (t.quantity, t.averaging, t.by) == (quantity, averaging, "law")]
    return min((t for t in later if t.in_force_from > on), key=lambda t: t.in_force_from, default=None)


def overdue(thresholds: Sequence[Threshold], on: date) -> list[Threshold]:
    """Returns those that should have been read again before a day."""
    return [threshold for threshold in thresholds if threshold.review < on]


def load(path: Path | None) -> tuple[Threshold, ...]:
    """Returns the limits of a town's own file, or those that come with Murmure. Raises ConfigError."""
    if path is None:
        own = resources.files("murmure_dashboards").joinpath("thresholds.toml")
        return parse(own.read_bytes(), "thresholds.toml")
    return parse(path.read_bytes(), str(path))


def parse(data: bytes, source: str) -> tuple[Threshold, ...]:
    """Returns the limits in these bytes; `source` names the file in errors. Raises ConfigError."""
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(source, "file", f"not TOML: {error}", "mend that line") from error
    entries = table.get("threshold")
    if table.keys() != {"threshold"} or not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ConfigError(source, "threshold", "missing, or beside other keys", "write [[threshold]] tables only")
    found = tuple(_threshold(entry, f"threshold {number}: ", source) for number, entry in enumerate(entries, 1))
    for threshold in found:
        if sum(one.id == threshold.id for one in found) > 1:
            raise ConfigError(source, "threshold", f"{threshold.id!r} stands twice", "give each its own id")
    return found


def _threshold(entry: Mapping[str, Any], where: str, source: str) -> Threshold:
    def fail(key: str, mend: str) -> ConfigError:
        return ConfigError(source, f"{where}{key}", f"{entry.get(key)!r} is not what it should be", mend)

    names = [one.name for one in fields(Threshold)]
    for key in entry:
        if key not in names:
            raise ConfigError(source, f"{where}{key}", "unknown key", f"write one of {', '.join(names)}")
    for key in ("id", "source", "address"):
        text = entry.get(key)
        if not isinstance(text, str) or not text or not text.isprintable():
            raise fail(key, "write a text in quotes")
    for key, known in (("quantity", _QUANTITIES), ("averaging", _AVERAGINGS), ("by", _BY)):
        if entry.get(key) not in known:
            raise fail(key, f"write one of {', '.join(known)}")
    if entry.get("verified") is not True:
        raise fail("verified", "read the value at its source, then write true; or leave the limit out")
    for key in ("in_force_from", "read", "review"):
        if not isinstance(entry.get(key), date) or isinstance(entry.get(key), datetime):
            raise fail(key, "write a date such as 2026-11-21")
    value, allowed = entry.get("value"), entry.get("days_allowed", 1)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1000:
        raise fail("value", "write a number above 0")
    if not isinstance(allowed, int) or isinstance(allowed, bool) or not 1 <= allowed <= 366:
        raise fail("days_allowed", "write a number of days, or leave the key out")
    noise = entry["quantity"] in ("lden", "ln")
    if entry.get("dominant", "") not in (NOISE_SOURCES if noise else ("",)):
        raise fail("dominant", f"for noise write one of {', '.join(NOISE_SOURCES)}; for air leave it out")
    if noise and entry["averaging"] != "1y":
        raise fail("averaging", "limits of noise are of a year: write 1y")
    return Threshold(**{**entry, "value": float(value)})
