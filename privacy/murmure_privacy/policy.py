"""The steward's document: parsed at the wall into frozen data, trusted inside. Format: contract 6."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from murmure_privacy.errors import ConfigError
from murmure_privacy.stream import HISTOGRAM_STEP_TENTHS, INDICATORS, QUANTITIES, Quantity
from murmure_privacy.window import LEVELS, PARTS, QUARTER_S, BadTimezone, Calendar
from murmure_privacy.wire import POLICY_LIMIT, TEXT_LIMIT, digest

DEFAULT_DELTA = Decimal("0.000001")
DEFAULT_INDICATORS = {"histogram": Decimal(6), "mean": Decimal(3), "energy": Decimal(1)}
PRESENCE_CADENCE_MS = 1000  # the slot by which a counter's presence is measured
_LEAST = Decimal("1e-30")  # of an epsilon or a weight; far below, exact arithmetic would have no end

SPANS = {"1d": 1, "1w": 7, "30d": 30, "1y": 365}
"""Spans over which costs are told and capped, in civil days."""

_AT_LINE = re.compile(r"(.*) \(at line (\d+), column \d+\)", re.DOTALL)
_SINGLE = re.compile(r"^[ \t]*\[stream\]", re.MULTILINE)
_SLIPS = (
    (re.compile(r"=\s*[+-]?\d+,\d"), "write numbers with a point, e.g. 1.0"),
    (re.compile(r"\d[/.]\d\d?[/.]\d"), "write dates as 2026-12-01"),
    (re.compile(r"=\s*\w*[^\W\d]\w*\s*(#|$)"), "write true, false or a text in quotes"),
)
"""What people write where TOML wants something else, and what to write instead."""

_NOT_WITH_PARTS = ("6h", "1d", "1w")

_TOP = ("policy", "site", "version", "timezone", "decision", "reason", "valid_from", "valid_until", "paused", "stream")
_STREAM = (
    *("id", "quantity", "protects", "epsilon", "delta", "nodes", "readings"),
    *("indicators", "bounds_db", "bounds", "paused", "cap"),
)


@dataclass(frozen=True, slots=True)
class Cap:
    """A tank that empties: over any `span`, the squared units times each day's largest spend stay within (`epsilon`,
    delta); a day that would exceed it is withheld whole. So who gives `units_per_day` every day is protected by it,
    unless the stream has `1w`: days of one week then share a node, and such a habit costs more (`policy preview`)."""

    units_per_day: int
    span: str
    epsilon: Decimal

    @property
    def days(self) -> int:
        """Returns the span in consecutive civil days."""
        return SPANS[self.span]


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """One stream's part. `protects`: ("crossings", n) or ("seconds", k). `bounds`: clamping bounds in reading units,
    for the histogram and for slots without a reading; for means and energies too, unless `up_to` is set.

    `up_to`: None protects any event of k seconds. Else it is a level in reading units: protected is an event under
    which every reading that it touches, memory included, is at most that high, with the event and without it; means
    and energies then need no upper clamp. Weights are exact decimals.
    """

    id: str
    quantity: Quantity
    protects: tuple[str, int]
    up_to: int | None
    epsilon: Decimal
    delta: Decimal
    nodes: tuple[tuple[str, Decimal], ...]
    indicators: tuple[tuple[str, Decimal], ...]
    cadence_ms: int
    tail: int
    bounds: tuple[int, int]
    paused: bool
    cap: Cap | None

    @property
    def unit_readings(self) -> int:
        """Returns how many readings one protected unit can change: ceil(1000 s / cadence) + 1 + tail, or crossings."""
        kind, size = self.protects
        return size if kind == "crossings" else -(-1000 * size // self.cadence_ms) + 1 + self.tail

    @property
    def highest(self) -> int:
        """Returns the highest reading that one protected unit can bring or take away: `up_to`, or the upper bound."""
        return self.bounds[1] if self.up_to is None else self.up_to

    @property
    def clamp(self) -> tuple[int, int]:
        """Returns between what a reading is held before it enters a mean or an energy."""
        return self.bounds if self.up_to is None else (self.bounds[0], self.quantity.ceiling)


@dataclass(frozen=True, slots=True)
class Policy:
    """One site's signed policy. `hash` is the SHA-256 of the exact bytes, which `text` holds."""

    site: str
    version: int
    timezone: str
    decision: str
    reason: str
    valid_from: date
    valid_until: date
    paused: bool
    streams: tuple[StreamPolicy, ...]
    hash: bytes
    text: bytes

    def stream(self, stream_id: str) -> StreamPolicy | None:
        """Returns the stream's part, or None where the policy has none."""
        return next((stream for stream in self.streams if stream.id == stream_id), None)


def is_line(text: str) -> bool:
    """Returns whether a text may stand in a policy: one line, and not an endless one."""
    return bool(text) and len(text) <= 1000 and text.isprintable()


def _shown(value: object) -> str:
    """Returns a value as it may stand in an error line: one line, not long, whatever it is."""
    try:
        text = str(value) if isinstance(value, Decimal) else ascii(value)
    except ValueError:  # Python refuses to write integers of thousands of digits
        return "a number without end"
    return text if len(text) <= 80 else f"{text[:80]}…"


class _Reader:
    """Reads one table of the file and says precisely what is wrong with it."""

    def __init__(self, file: str, where: str, table: Mapping[str, Any]) -> None:
        self.file, self.where, self.table = file, where, table

    def fail(self, key: str, problem: str, mend: str) -> ConfigError:
        # A quoted key may hold anything, line breaks and commands to a terminal included.
        return ConfigError(self.file, f"{self.where}{key if key.isprintable() else ascii(key)}", problem, mend)

    def only(self, known: tuple[str, ...]) -> None:
        for key in self.table:
            if key not in known:
                raise self.fail(key, "unknown key", f"write one of {', '.join(known)}")

    def get(self, key: str, wanted: type | tuple[type, ...], what: str) -> Any:
        if key not in self.table:
            raise self.fail(key, "missing", f"write {what}")
        value = self.table[key]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise self.fail(key, f"{_shown(value)} is not {what}", f"write {what}")
        return value

    def text(self, key: str) -> str:
        value: str = self.get(key, str, "a text in quotes")
        if not is_line(value):
            raise self.fail(key, "empty, too long or not printable", "write one line of text")
        return value

    def day(self, key: str) -> date:
        value: date = self.get(key, date, "a date such as 2026-12-01")
        if isinstance(value, datetime):
            raise self.fail(key, "has a time of day", "write a date such as 2026-12-01")
        if not 2000 <= value.year <= 2099:
            raise self.fail(key, f"{value} is not of this time", "write a date such as 2026-12-01")
        return value

    def positive(self, key: str, limit: int, default: Decimal | None = None) -> Decimal:
        if default is not None and key not in self.table:
            return default
        value = Decimal(self.get(key, (int, Decimal), "a positive number"))
        if not value.is_finite():
            raise self.fail(key, f"{_shown(value)} is no finite number", "write a number such as 1.0")
        if value < _LEAST:
            least = 0 if value <= 0 else _LEAST
            raise self.fail(key, f"{_shown(value)} is not above {least}", "write a positive number, e.g. 1.0")
        if value > limit:
            raise self.fail(key, f"{_shown(value)} is too large", f"write at most {limit}")
        return value

    def whole(self, key: str, low: int, high: int) -> int:
        value: int = self.get(key, int, "a whole number")
        if not low <= value <= high:
            raise self.fail(
                key, f"{_shown(value)} is not between {low} and {high}", "write a whole number in that range"
            )
        return value

    def flag(self, key: str) -> bool:
        return bool(self.get(key, bool, "true or false")) if key in self.table else False

    def sub(self, key: str, what: str) -> _Reader:
        return _Reader(self.file, f"{self.where}{key}.", self.get(key, dict, what))


def parse(data: bytes, source: str) -> Policy:
    """Returns the policy in these bytes. `source` names the file in errors.

    Raises ConfigError (file, key, problem, mend) for anything that is not a complete policy of format 1.
    """
    if len(data) > POLICY_LIMIT:
        raise ConfigError(source, "file", f"{len(data)} bytes", f"keep a policy within {POLICY_LIMIT} bytes")
    if data.startswith(b"\xef\xbb\xbf"):
        raise ConfigError(source, "file", "begins with a byte order mark", "save it as UTF-8 without one")
    try:
        table = tomllib.loads(data.decode("utf-8"), parse_float=Decimal)
    except UnicodeDecodeError as error:
        raise ConfigError(source, "file", f"not UTF-8 at byte {error.start + 1}", "save it as UTF-8") from error
    except (ValueError, ArithmeticError, RecursionError) as error:  # not TOML, or a number or nesting too long
        raise _not_toml(source, data.decode("utf-8"), str(error)) from error
    if not table:
        raise ConfigError(source, "file", "no policy in it", "begin with policy = 1, as in privacy/policy.example.toml")
    top = _Reader(source, "", table)
    top.only(_TOP)
    if top.get("policy", int, "policy = 1") != 1:
        raise top.fail("policy", "a format this version does not know", "write policy = 1")
    site = top.text("site")
    if not _is_name(site):
        raise top.fail("site", f"{site!r} is not a name", "use letters, digits and hyphens")
    valid_from, valid_until = top.day("valid_from"), top.day("valid_until")
    if valid_until < valid_from:
        raise top.fail("valid_until", "earlier than valid_from", "write a later date")
    if valid_until - valid_from > timedelta(days=3660):
        raise top.fail("valid_until", "more than ten years after valid_from", "write an earlier date")
    timezone = top.text("timezone")
    try:
        Calendar(timezone).require_whole_hours(valid_from, valid_until)
    except BadTimezone as error:
        problem, _, mend = str(error).partition("; ")
        raise top.fail("timezone", problem, mend) from error
    entries = top.get("stream", list, "at least one [[stream]]")
    if not 0 < len(entries) <= 32:
        raise top.fail("stream", f"{len(entries)} streams", "write 1 to 32 [[stream]] tables")
    streams = tuple(_stream(source, site, number, entry) for number, entry in enumerate(entries, 1))
    names = [stream.id for stream in streams]
    for name in names:
        if names.count(name) > 1:
            raise top.fail("stream", f"{name!r} stands twice", "give each stream one table")
    return Policy(
        site=site,
        version=top.whole("version", 1, 1 << 31),
        timezone=timezone,
        decision=top.text("decision"),
        reason=top.text("reason"),
        valid_from=valid_from,
        valid_until=valid_until,
        paused=top.flag("paused"),
        streams=streams,
        hash=digest(data),
        text=data,
    )


def _not_toml(source: str, text: str, said: str) -> ConfigError:
    """Returns what is wrong with a file that is no TOML, and the line itself: a parser knows where, not what was meant.
    `said`: the parser's words."""
    single = _SINGLE.search(text)
    if single is not None:
        number = text.count("\n", 0, single.start()) + 1
        return ConfigError(source, f"line {number}", "[stream] in single brackets", "begin each stream with [[stream]]")
    at = _AT_LINE.fullmatch(said)
    if at is None:
        mend = "close the bracket or the quote that is open" if said.endswith("(at end of document)") else "mend it"
        return ConfigError(source, "file", f"not TOML: {_shown(said)[1:-1]}", mend)
    line = text.split("\n")[int(at[2]) - 1].strip()
    if at[1] == "Cannot overwrite a value":
        problem, mend = f"{_shown(line)}: the key stands there twice", "leave one of the two out"
    else:
        problem = f"{_shown(line)}: not TOML: {_shown(at[1])[1:-1]}"
        mend = next((mend for slip, mend in _SLIPS if slip.search(line)), "mend that line")
    return ConfigError(source, f"line {at[2]}", problem, mend)


def _is_name(text: str) -> bool:
    return len(text) <= 40 and text.isascii() and all(c.isalnum() or c in "-_" for c in text)


def _stream(source: str, site: str, number: int, entry: object) -> StreamPolicy:
    if not isinstance(entry, dict):
        raise ConfigError(source, "stream", "not a table", "write [[stream]]")
    name = entry.get("id")
    read = _Reader(source, f"stream {name if isinstance(name, str) and name.isprintable() else number}: ", entry)
    if "target" in entry:
        raise read.fail("target", "solved by `policy preview` and `policy new` only, never signed", "write epsilon = …")
    for key in entry:
        if key in _TOP and key not in _STREAM:
            raise read.fail(key, "is for the whole policy", "write it above the first [[stream]]")
    read.only(_STREAM)
    stream_id = read.text("id")
    head, _, tail_name = stream_id.partition("/")
    if head != site or not tail_name or not _is_name(tail_name) or len(stream_id) > TEXT_LIMIT:
        mend = f'write for example id = "{site}/footfall", at most {TEXT_LIMIT} characters'
        raise read.fail("id", f"{stream_id!r} is not SITE/NAME", mend)
    quantity_name = read.text("quantity")
    quantity = QUANTITIES.get(quantity_name)
    if quantity is None:
        raise read.fail("quantity", f"{quantity_name!r} is unknown", f"write one of {', '.join(QUANTITIES)}")
    protects, up_to, cadence_ms, tail, bounds = _readings(read, quantity)
    return StreamPolicy(
        id=stream_id,
        quantity=quantity,
        protects=protects,
        up_to=up_to,
        epsilon=read.positive("epsilon", 100),
        delta=_delta(read),
        nodes=_nodes(read),
        indicators=_indicators(read, quantity),
        cadence_ms=cadence_ms,
        tail=tail,
        bounds=bounds,
        paused=read.flag("paused"),
        cap=_cap(read),
    )


def _delta(read: _Reader) -> Decimal:
    delta = read.positive("delta", 1, DEFAULT_DELTA)
    if delta > Decimal("0.01"):
        raise read.fail("delta", f"{delta} is no small probability", "write 1e-6, or leave it out")
    return delta


def _nodes(read: _Reader) -> tuple[tuple[str, Decimal], ...]:
    nodes = read.sub("nodes", 'a table such as { "1h" = 1, "1d" = 24 }')
    for level in nodes.table:
        if level not in LEVELS:
            raise nodes.fail(level, f"is none of {', '.join(LEVELS)}", "use those, which nest")
        if level in _NOT_WITH_PARTS and not nodes.table.keys().isdisjoint(PARTS):
            raise nodes.fail(level, f"does not nest with {', '.join(PARTS)}", "name either it or parts of the day")
    if not nodes.table:
        raise read.fail("nodes", "empty", "name at least one of " + ", ".join(LEVELS))
    return tuple((level, nodes.positive(level, 1_000_000)) for level in LEVELS if level in nodes.table)


def _cap(read: _Reader) -> Cap | None:
    if "cap" not in read.table:
        return None
    cap = read.sub("cap", 'a table such as { units_per_day = 1, span = "1y", epsilon = 30 }')
    cap.only(("units_per_day", "span", "epsilon"))
    span = cap.text("span")
    if span not in SPANS:
        raise cap.fail("span", f"{_shown(span)} is unknown", f"write one of {', '.join(SPANS)}")
    return Cap(cap.whole("units_per_day", 1, 1000), span, cap.positive("epsilon", 10_000))


def _indicators(read: _Reader, quantity: Quantity) -> tuple[tuple[str, Decimal], ...]:
    known = INDICATORS[quantity.kind]
    if quantity.kind != "level":
        if "indicators" in read.table:
            raise read.fail("indicators", f"{quantity.name} has one indicator only", "leave the key out")
        return tuple((name, Decimal(1)) for name in known)
    if "indicators" not in read.table:
        return tuple((name, DEFAULT_INDICATORS[name]) for name in known)
    shares = read.sub("indicators", "a table such as { histogram = 6, mean = 3, energy = 1 }")
    shares.only(known)
    if not shares.table:
        raise read.fail("indicators", "empty", "name at least one of " + ", ".join(known))
    return tuple((name, shares.positive(name, 1_000_000)) for name in known if name in shares.table)


def _readings(read: _Reader, quantity: Quantity) -> tuple[tuple[str, int], int | None, int, int, tuple[int, int]]:
    example = "{ crossings = 1 }" if quantity.kind == "count" else "{ seconds = 15 }"
    protects = read.sub("protects", f"a unit of privacy such as {example}")
    if quantity.kind == "count":
        for key in ("readings", "bounds", "bounds_db"):
            if key in read.table:
                raise read.fail(key, "a count has none", "leave the key out")
        protects.only(("crossings",))
        return ("crossings", protects.whole("crossings", 1, 10_000)), None, PRESENCE_CADENCE_MS, 0, (0, 0)
    limit = "up_to_db" if quantity.kind == "level" else "up_to"
    protects.only(("seconds", limit))
    seconds = protects.whole("seconds", 1, 86_400)
    readings = read.sub("readings", "a table such as { cadence_ms = 1000, tail = 2 }")
    readings.only(("cadence_ms", "tail"))
    cadence_ms = readings.whole("cadence_ms", 100, QUARTER_S * 1000)
    if QUARTER_S * 1000 % cadence_ms:
        raise readings.fail("cadence_ms", f"{cadence_ms} does not divide a quarter-hour", "write for example 1000")
    tail = readings.whole("tail", 0, 10_000)
    key, other = ("bounds_db", "bounds") if quantity.kind == "level" else ("bounds", "bounds_db")
    if other in read.table:
        raise read.fail(other, f"{quantity.name} uses {key}", f"write {key} = [low, high]")
    low, high = _bounds(read, key, quantity)
    up_to = None
    if limit in protects.table:
        ceiling = quantity.ceiling // quantity.per_unit
        up_to = protects.whole(limit, low + 1, ceiling) * quantity.per_unit
    return ("seconds", seconds), up_to, cadence_ms, tail, (low * quantity.per_unit, high * quantity.per_unit)


def _bounds(read: _Reader, key: str, quantity: Quantity) -> tuple[int, int]:
    """Returns the bounds in printed units."""
    in_db = quantity.kind == "level"
    example, top = ("[35, 85]", 140) if in_db else ("[0, 100]", 5000)
    pair = read.get(key, list, f"a pair such as {example}")
    said = f"[{', '.join(_shown(bound) for bound in pair[:3])}{', …' if len(pair) > 3 else ''}]"
    if len(pair) != 2 or not all(type(bound) is int for bound in pair):
        raise read.fail(key, f"{said} is no pair of whole numbers", f"write low and high, e.g. {example}")
    low, high = pair
    if min(pair) < 0 or max(pair) > top:
        raise read.fail(key, f"{said} is not within 0 and {top} {quantity.unit}", f"write for example {example}")
    if low >= high:
        raise read.fail(key, f"{low} is not below {high}", f"write the lower bound first, e.g. {example}")
    if in_db and (high - low) * quantity.per_unit % HISTOGRAM_STEP_TENTHS:
        raise read.fail(key, f"{said} does not hold whole bins of 5 dB", f"write for example {example}")
    return low, high
