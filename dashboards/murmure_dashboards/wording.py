"""Numbers, instants and sentences in two languages. A number is as fine as its interval bears."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date as CivilDay
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any
from zoneinfo import ZoneInfo

from murmure_privacy.errors import ConfigError

NARROW, FIXED, MINUS = "\u202f", "\u00a0", "\u2212"
LANGUAGES = ("fr", "en")
_UNIT = re.compile(r"(?<=[\d}]) (?=(?:%|dB|µg/m³|[KMG]o|h|min|ms|s|km|m|cm|mm|k?Hz|°C|€)(?![\w'\u2019]))")
_MINUTES = re.compile(rf"(?<=\d{FIXED}h) (?=\d)")
_THOUSANDS = re.compile(r"(?<=\d)(?<!\d{4}) (?=\d{3}(?!\d))")  # « en 2026 350 personnes » are two numbers
_NUMERO = re.compile(r"\b([Nn]°) ")
_PHONE = re.compile(r"(?<![\w,.])(?:\(?\+\d{1,3}\)?(?: ?\(0\) ?\d)?|0\d{0,3})(?: \d{1,4}){2,6}(?!\d)")


@dataclass(frozen=True, slots=True)
class Rounded:
    """What may honestly be printed: `[low, high]` contains the interval it came from, and `estimate` lies in it."""

    estimate: Decimal
    low: Decimal
    high: Decimal
    step: Decimal


def rounded(estimate: float, low: float, high: float, finest: int) -> Rounded:
    """Returns an estimate and its interval in steps that the interval supports.

    The step is the first figure of the half-width (the second where the first is 1), and never below 10^`finest`.
    The interval is rounded outward and is never a single point. Needs low <= estimate <= high, all finite.
    """
    return _rounded(estimate + 0.0, low + 0.0, high + 0.0, finest)  # -0.0 and 0.0 are one key of the cache


@lru_cache(maxsize=4096)  # each language, each page and each table says the same numbers
def _rounded(estimate: float, low: float, high: float, finest: int) -> Rounded:
    half = (Decimal(high) - Decimal(low)) / 2
    exponent = finest
    if half > 0:
        exponent = max(finest, half.adjusted() - (half.as_tuple().digits[0] == 1))
    step = Decimal(1).scaleb(exponent)

    def snap(value: float, rounding: str) -> Decimal:
        return (Decimal(value) / step).to_integral_value(rounding) * step

    bottom, top = snap(low, ROUND_FLOOR), snap(high, ROUND_CEILING)
    if bottom == top:
        bottom, top = bottom - step, top + step
    return Rounded(snap(estimate, ROUND_HALF_EVEN), bottom, top, step)


class Language:
    """One language: its dictionary, its numbers, its dates. `code` is the BCP 47 tag."""

    def __init__(self, code: str, texts: Mapping[str, Any]) -> None:
        self.code = code
        self.months: tuple[str, ...] = tuple(texts["calendar"]["months"])
        self.days: tuple[str, ...] = tuple(texts["calendar"]["days"])
        self.short_days: tuple[str, ...] = tuple(texts["calendar"]["short_days"])
        self.short_months: tuple[str, ...] = tuple(texts["calendar"]["short_months"])
        self.texts = dict(_flat(texts))
        set_as = self.typeset if code == "fr" else _set_signs
        self._set = {key: set_as(text) for key, text in self.texts.items()}

    def __call__(self, key: str, **values: object) -> str:
        """Returns the sentence under this key with its places filled. A key that is missing is a KeyError."""
        text = self._set[key]
        return text.format(**values) if values or "{" in text else text

    def counted(self, key: str, count: float, **values: object) -> str:
        """Returns the sentence in the singular (`key_one`) or plural (`key_other`) that this language wants."""
        one = abs(count) < 2 if self.code == "fr" else count == 1
        return self(f"{key}_{'one' if one else 'other'}", **values)

    def number(self, value: Decimal | float | int) -> str:
        """Returns a number with this language's separators, all its decimals, and a true minus sign."""
        return _number(self.code, str(value))  # 5.0 equals 5, and is said with its decimal

    def amount(self, quantity: str, estimate: float, low: float, high: float) -> tuple[str, str]:
        """Returns (number with its unit, interval in words), e.g. (`1 240 passages`, `entre 1 221 et 1 259`).

        What cannot be negative is not printed so: where nothing but the noise is left, the number is `moins de N` and
        the interval is empty. The open data keep the values as they are.
        """
        said, between = self._said(quantity, estimate, low, high)
        with_unit = self.counted(f"unit.{quantity}", float(said), number=self.number(said))
        if between is None:
            return self("number.less_than", amount=with_unit), ""
        return with_unit, self("number.between", low=self.number(between[0]), high=self.number(between[1]))

    def cell(self, quantity: str, estimate: float, low: float, high: float) -> str:
        """Returns a number and its interval as short as a table wants them, the unit left to the caption."""
        said, between = self._said(quantity, estimate, low, high)
        if between is None:
            return self("number.less_than", amount=self.number(said))
        return self(
            "number.cell", estimate=self.number(said), low=self.number(between[0]), high=self.number(between[1])
        )

    def _said(
        self, quantity: str, estimate: float, low: float, high: float
    ) -> tuple[Decimal, tuple[Decimal, Decimal] | None]:
        r = rounded(estimate, low, high, finest=0 if quantity == "footfall" else -1)
        if quantity == "noise":
            return r.estimate, (r.low, r.high)
        if r.estimate <= 0:
            return max((Decimal(high) / r.step).to_integral_value(ROUND_FLOOR) + 1, Decimal(1)) * r.step, None
        return r.estimate, (max(r.low, Decimal(0)), r.high)

    def half(self, quantity: str, estimate: float, low: float, high: float) -> str:
        """Returns half of the interval as it is printed, with its unit and rounded up, e.g. `± 19 passages`."""
        r = rounded(estimate, low, high, finest=0 if quantity == "footfall" else -1)
        half = ((r.high - r.low) / 2 / r.step).to_integral_value(ROUND_CEILING) * r.step
        return f"±{FIXED}" + self.counted(f"unit.{quantity}", float(half), number=self.number(half))

    def once(self, between: str) -> str:
        """Returns an interval in words without how often it holds: the page says that elsewhere."""
        return between.removesuffix(self("number.often")).removesuffix(", ")

    def reading(self, quantity: str, value: float) -> str:
        """Returns a value that has no interval of its own, such as a limit, with its unit."""
        exact = Decimal(str(round(value, 1))).normalize()
        return self.counted(f"unit.{quantity}", value, number=self.number(exact))

    def share(self, most: float) -> str:
        """Returns a share that is an upper bound, rounded up: whole percents, tenths below one, e.g. `5 %`."""
        exact = Decimal(round(most * 100, 6))
        step = Decimal("0.1") if exact < 1 else Decimal(1)
        said = max(exact.quantize(step, ROUND_CEILING), step).normalize()
        return self("number.percent", number=self.number(said))

    def least_share(self, least: float) -> str:
        """Returns a share that is a lower bound, in whole percents rounded down, e.g. `97 %`."""
        whole = int(round(least * 100, 6))
        if whole < 1:
            return self("number.less_than", amount=self("number.percent", number=self.number(1)))
        return self("number.percent", number=self.number(whole))

    def short_date(self, at_s: int, zone: ZoneInfo, weekday: bool = False) -> str:
        """Returns e.g. `21 nov.`, or `sam. 21 nov.`."""
        when = _civil(at_s, zone)
        number = self("calendar.first") if when.day == 1 else str(when.day)
        said = f"{number}{FIXED}{self.short_months[when.month - 1]}"
        return f"{self.short_days[when.weekday()]} {said}" if weekday else said

    def date(self, at_s: int, zone: ZoneInfo) -> str:
        """Returns e.g. `samedi 21 novembre 2026`."""
        when = _civil(at_s, zone)
        day = self("calendar.first") if when.day == 1 else str(when.day)
        return self(
            "calendar.date",
            weekday=self.days[when.weekday()],
            day=day,
            month=self.months[when.month - 1],
            year=when.year,
        )

    def civil(self, on: CivilDay) -> str:
        """Returns a day without its weekday, e.g. `21 novembre 2026`."""
        number = self("calendar.first") if on.day == 1 else str(on.day)
        return f"{number} {self.months[on.month - 1]} {on.year}"

    def month(self, at_s: int, zone: ZoneInfo) -> str:
        """Returns e.g. `novembre 2026`."""
        when = _civil(at_s, zone)
        return f"{self.months[when.month - 1]} {when.year}"

    def day(self, at_s: int, zone: ZoneInfo, short: bool = False) -> str:
        """Returns e.g. `samedi 21`, or `sam. 21`."""
        when = _civil(at_s, zone)
        return f"{(self.short_days if short else self.days)[when.weekday()]}{FIXED}{when.day}"

    def duration(self, seconds: int) -> str:
        """Returns hours and minutes, e.g. `13 h 15` or `13 h 15 min`."""
        hours, minutes = seconds // 3600, seconds % 3600 // 60
        if not minutes:
            return f"{hours}{FIXED}h"
        return f"{hours}{FIXED}h{FIXED}{minutes:02d}" + (f"{FIXED}min" if self.code == "en" else "")

    def hour(self, at_s: int, zone: ZoneInfo, midnight_is_24: bool = False) -> str:
        """Returns e.g. `15 h 15` or `15:15`; the end of a day may be said `24 h`."""
        when = _civil(at_s, zone)
        hour = 24 if midnight_is_24 and when.hour == when.minute == 0 else when.hour
        if self.code == "fr":
            return f"{hour}{FIXED}h" + (f"{FIXED}{when.minute:02d}" if when.minute else "")
        return f"{hour:02d}:{when.minute:02d}"

    def clock(self, at_s: int, zone: ZoneInfo) -> str:
        """Returns the time of an event, e.g. `15 h 15` or `minuit`."""
        when = _civil(at_s, zone)
        return self.hour(at_s, zone) if when.hour or when.minute else self("calendar.midnight")

    def hours(self, start_s: int, end_s: int, zone: ZoneInfo) -> str:
        """Returns e.g. `14 h – 15 h`."""
        return f"{self.hour(start_s, zone)} – {self.hour(end_s, zone, midnight_is_24=True)}"

    def size(self, octets: int) -> str:
        """Returns a file's size in kilo-octets, rounded up."""
        return self("number.size", number=self.number(-(-octets // 1000)))

    def typeset(self, text: str) -> str:
        """Returns a text with true apostrophes and with spaces that do not break in « ε = 1 », before : ; ! ?, inside
        « », within numbers, before their units and after n°: people type ordinary ones. What a town and its stewards
        typed is French on the pages of any language."""
        text = _set_signs(text)
        for sign in ";!?":
            text = text.replace(f" {sign}", f"{NARROW}{sign}")
        text = text.replace(" :", f"{FIXED}:").replace("« ", f"«{FIXED}").replace(" »", f"{FIXED}»")
        text = _PHONE.sub(lambda found: self.phone(found[0]), text)
        text = _MINUTES.sub(FIXED, _UNIT.sub(FIXED, _THOUSANDS.sub(NARROW, text)))
        return _NUMERO.sub(rf"\1{FIXED}", text)

    def phone(self, number: str) -> str:
        """Returns a telephone number that no line ends within."""
        return number.replace(" ", FIXED)


@lru_cache(maxsize=4096)  # levels and passages of all streams of a town are often the same
def _number(code: str, value: str) -> str:
    exact = Decimal(value)
    exponent = exact.as_tuple().exponent
    decimals = -exponent if isinstance(exponent, int) and exponent < 0 else 0
    text = f"{exact:,.{decimals}f}"
    if code == "fr":
        text = text.replace(",", NARROW).replace(".", ",")
    return text.replace("-", MINUS)


@lru_cache(maxsize=4096)  # all streams of a town speak of the same hours
def _civil(at_s: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_s, zone)


def _set_signs(text: str) -> str:
    text = text.replace("'", "\u2019")
    for sign in "εδ":
        text = text.replace(f"{sign} = ", f"{sign}{FIXED}={FIXED}")
    return text


def _flat(texts: Mapping[str, Any], head: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in texts.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{head}{key}.")
        elif isinstance(value, str):
            found.append((f"{head}{key}", value))
    return found


def capital(text: str) -> str:
    """Returns a text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def catalogue(folder: Traversable) -> dict[str, Any]:
    """Returns what all `*.toml` of a folder say, as one: a table may be spread over files. Raises ConfigError where a
    key stands in two of them."""
    texts: dict[str, Any] = {}
    homes: dict[str, str] = {}
    for file in sorted(folder.iterdir(), key=lambda one: one.name):
        if file.name.endswith(".toml"):
            _merge(texts, tomllib.loads(file.read_text(encoding="utf-8")), f"{folder.name}/{file.name}", "", homes)
    return texts


def _merge(into: dict[str, Any], more: Mapping[str, Any], file: str, head: str, homes: dict[str, str]) -> None:
    for key, value in more.items():
        known = homes.setdefault(f"{head}{key}", file)
        if isinstance(value, Mapping) and isinstance(into.setdefault(key, {}), Mapping):
            _merge(into[key], value, file, f"{head}{key}.", homes)
        elif key in into:
            raise ConfigError(file, f"{head}{key}", f"stands in {known} too", "keep one of the two")
        else:
            into[key] = value


@cache
def language(code: str) -> Language:
    """Returns French (`fr`) or English (`en`), read from `locale/CODE/`."""
    return Language(code, catalogue(resources.files("murmure_dashboards").joinpath("locale", code)))
