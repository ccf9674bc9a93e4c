"""One stream over a month or a year: days, months of days, and what all of them say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from itertools import groupby
from math import hypot, log10, sqrt
from typing import Literal

from murmure_privacy.annotation import Annotation
from murmure_privacy.estimate import Figure, equivalent_level, lden, night_level
from murmure_privacy.frozen import quick
from murmure_privacy.policies import Rules
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.stream import QUANTITIES, Quantity
from murmure_privacy.window import Calendar, Window

from murmure_dashboards.days import Day, together
from murmure_dashboards.left_out import LeftOut
from murmure_dashboards.usual import LEAST_COVERAGE, Place, Usual, expected, same_weekdays
from murmure_dashboards.views import LATE_S, Amount, Slot, StreamInfo, faulty, marks_of

MONTH_DAYS = 30
_SIDES: tuple[Literal["low", "high"], ...] = ("low", "high")
TOO_WIDE = "wide"
"""The state of an interval whose level has no lower end: nothing is left beside the noise."""


@dataclass(frozen=True, slots=True)
class Change:
    """How a year differs from the one before, over those `months` of the year (1 to 12) of which both were measured for
    long enough; where there are none, all else is 0. `now` and `before`: the means of a day, each month with the days
    that it has in the year; `low` to `high` is where their difference lies 19 times out of 20, by the noise and the
    silent moments of both years."""

    months: tuple[int, ...]
    now: float
    before: float
    low: float
    high: float

    @property
    def estimate(self) -> float:
        """Returns the difference."""
        return self.now - self.before


_slot, _amount = quick(Slot), quick(Amount)


@dataclass(frozen=True)
class Stretch:
    """One stream over a window of whole civil days that are over. `days`: all of them, `before`: those of the weeks
    before. `indicator`: what is told of it, `laeq_db` where that can be said of most days of a level, else the
    quantity's own. `rule`: the newest signed policy that the days name, and its part; `same_bounds`: whether readings
    were held between the same bounds on all of them. `marks`: the annotations that hold; `left`: when the policies left
    the stream out."""

    site: str
    stream: str
    quantity: Quantity
    window: Window
    days: tuple[Day, ...]
    before: tuple[Day, ...]
    indicator: str
    rule: tuple[Policy, StreamPolicy] | None
    clamps: dict[bytes, tuple[int, int]]
    marks: tuple[Annotation, ...]
    left: tuple[LeftOut, ...]
    calendar: Calendar
    now_s: int

    @cached_property
    def measured(self) -> tuple[Day, ...]:
        """Returns the days since the measurement began."""
        return tuple(day for day in self.days if day.state != "before")

    @cached_property
    def first_s(self) -> int:
        """Returns when the measurement began, the window's begin if it had begun before; its end if it has not."""
        first = next(iter(self.measured), None)
        if first is None:
            return self.window.end_s
        return first.span.start_s if first.first_s == first.of.start_s else first.first_s

    @cached_property
    def covered_s(self) -> int:
        """Returns how much of the window was observed."""
        return sum(day.covered_s for day in self.days)

    def expected_s(self, days: Sequence[Day]) -> int:
        """Returns how much of some days was to be in their figures: neither what is in a longer figure alone, nor a
        night that may still come."""
        return sum(max(day.covered_s, day.expected_s - self._open_s(day)) for day in days if day.state != "across")

    def _open_s(self, day: Day) -> int:
        """Returns how much of a day from six to six is of a night that is on, or has just ended."""
        night = self.calendar.node("night", day.of.end_s - 1)
        if day.of.end_s != night.end_s or night.end_s + LATE_S <= self.now_s:
            return 0
        return night.end_s - max(night.start_s, day.first_s)

    @property
    def coverage(self) -> float:
        """Returns the share of the window that was observed."""
        return self.covered_s / (self.window.end_s - self.window.start_s)

    @property
    def same_bounds(self) -> bool:
        """Returns whether all days were measured between the same bounds."""
        return len({self.clamps.get(day.policy) for day in self.days if day.policy}) <= 1

    @property
    def clamped(self) -> int | None:
        """Returns the level, in the printed unit, above which readings count as that one; None where nothing does."""
        if self.rule is None or self.rule[1].up_to is not None:
            return None
        return self.rule[1].bounds[1] // self.quantity.per_unit

    def faulty(self, span: Window) -> tuple[Window, ...]:
        """Returns what of a span stewards marked as faulty: apart from each other, in order."""
        return faulty(self.marks, span)

    def figure(self, days: Sequence[Day]) -> Figure | None:
        """Returns the figure of some days: a sum of counts, else a mean; None where there is none."""
        if self.indicator == "laeq_db":
            energy = together([day.energy for day in days])
            return equivalent_level(energy) if energy else None
        return together([day.amount for day in days])

    def amount(self, days: Sequence[Day]) -> Amount | None:
        """Returns the figure of some days that follow each other as a page shows it; None also for a level without a
        lower end."""
        return self._once(days, lambda: self.as_amount(self.figure(days), days))

    def _once(self, days: Sequence[Day], made: Callable[[], Amount | None], each: bool = False) -> Amount | None:
        """The same days are asked for often, and in each language."""
        if not any(day.amount for day in days):
            return None
        key = (days[0].span.start_s, days[-1].span.start_s, each)
        if key not in self._known:
            self._known[key] = made()
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[int, int, bool], Amount | None]:
        return {}

    def per_day(self, days: Sequence[Day]) -> Amount | None:
        """Returns the mean of one day: of counts over those that were wholly observed."""
        if self.quantity.kind != "count":
            return self.amount(days)
        return self._once(days, lambda: self._per_day([day for day in days if day.whole]), each=True)

    def _per_day(self, whole: Sequence[Day]) -> Amount | None:
        figure = self.figure(whole)
        if figure is None or figure.low is None or figure.high is None:
            return None
        ends = (figure.estimate, figure.low, figure.high, figure.standard_error)
        estimate, low, high, error = (end / len(whole) for end in ends)
        return self.as_amount(replace(figure, estimate=estimate, low=low, high=high, standard_error=error), whole)

    def slot(self, days: Sequence[Day], amount: Callable[[Sequence[Day]], Amount | None]) -> Slot:
        """Returns some days that follow each other as one interval, with its amount or why it has none."""
        start_s, end_s, found = days[0].span.start_s, days[-1].span.end_s, amount(days)
        if found is not None:
            return _slot(start_s, end_s, "figure", start_s, found)
        states = Counter(day.state for day in days if day.state != "before")
        state = states.most_common(1)[0][0] if states else "before"
        return _slot(start_s, end_s, TOO_WIDE if state == "figure" else state, start_s, None)

    def months(self) -> list[tuple[Day, ...]]:
        """Returns the days since the measurement began by civil month."""
        return by_month(self.measured, self.calendar)

    @cached_property
    def lden(self) -> tuple[Figure | None, int]:
        """Returns Lden over the days of which day, evening and following night were measured whole, and how many these
        are."""
        parts = [part for day in self.days for part in day.parts]
        starts = {
            level: {part.start_s: part for part in parts if part.level == level} for level in ("evening", "night")
        }
        whole = 0
        for part in parts:
            evening = starts["evening"].get(part.end_s) if part.level == "day" else None
            whole += evening is not None and evening.end_s in starts["night"]
        return lden(parts), whole

    @cached_property
    def night(self) -> tuple[Figure | None, int]:
        """Returns Ln over the nights that were measured whole, and how many these are."""
        nights = [part for day in self.days for part in day.parts if part.level == "night"]
        return night_level(nights), len(nights)

    @cached_property
    def places(self) -> tuple[tuple[Day, Place], ...]:
        """Returns where each day that can be compared lies beside what is usual, in order."""
        found = []
        for day in self.days:
            usual, amount = self.usual(day), self.amount([day])
            if usual is not None and amount is not None:
                found.append((day, usual.place(amount.low, amount.high)))
        return tuple(found)

    @cached_property
    def change(self) -> Change | None:
        """Returns how the window, a year, differs from the year before it; None where nothing was measured then. A
        month is compared with the same dates a year earlier; the 29th of February has none. Counts are those of days
        wholly observed; marked days, and those measured between other bounds than the last, count as not measured.

        Levels are weighed as energies, and each year is turned into dB once. Noise is independent from node to node and
        adds up by its squares, also between the two years, each end's own (Zou and Donner 2008, where an interval is
        not even); what silent moments leave open may lie on the same side every day, and adds up as it is."""
        if not any(day.amount for day in self.before):
            return None
        last = next((day for day in reversed(self.days) if day.amount), None)
        pairs: dict[int, list[tuple[Day, Day]]] = {}
        for day in self.days:
            on = self.calendar.civil_day(day.span.start_s)
            then = None if (on.month, on.day) == (2, 29) else self._on(on.replace(year=on.year - 1))
            if then is not None:
                pairs.setdefault(on.month, []).append((day, then))
        compared: list[tuple[int, int, Amount, Amount]] = []
        for month, days in pairs.items():
            of_now, of_before = (self._month([pair[side] for pair in days], last) for side in (0, 1))
            if of_now is not None and of_before is not None:
                compared.append((month, len(days), of_now, of_before))
        if not compared:
            return Change((), 0.0, 0.0, 0.0, 0.0)
        weights = [count / sum(count for _, count, _, _ in compared) for _, count, _, _ in compared]
        now, before = (
            _weighed(weights, amounts, self.indicator == "laeq_db")
            for amounts in ([amount for _, _, amount, _ in compared], [amount for _, _, _, amount in compared])
        )
        middle = now.middle - before.middle
        low = middle - hypot(now.noise_down, before.noise_up) - now.down - before.up
        high = middle + hypot(now.noise_up, before.noise_down) + now.up + before.down
        months = tuple(sorted(month for month, _, _, _ in compared))
        return Change(months, now.middle, before.middle, low, high)

    def _on(self, day: date) -> Day | None:
        return self._by_start.get(self.calendar.midnight(day))

    def _month(self, days: Sequence[Day], like: Day | None) -> Amount | None:
        """Returns the mean of a day over those of a month that can be compared, None where these are too few: the mean
        energy where LAeq is told."""
        bounds = self.clamps.get(like.policy) if like else None
        held = [
            day
            for day in days
            if day.amount and day.over(self.now_s) and self.clamps.get(day.policy) == bounds and not self.faulty(day.of)
            if day.whole or self.quantity.kind != "count"
        ]
        if sum(day.covered_s for day in held) < LEAST_COVERAGE * sum(day.length_s for day in days):
            return None
        counted = self.quantity.kind == "count"
        found = self._per_day(held) if counted else self.as_amount(self.figure(held), held)
        if found is None or not found.publishable:
            return None
        energy = self.indicator == "laeq_db"
        return self.as_amount(together([day.energy for day in held]), held) if energy else found

    def usual(self, day: Day) -> Usual | None:
        """Returns what the same weekday of the eight weeks before leads to expect of a day; None where the day itself
        cannot be compared: faulty, not final, or with holes. Readings that are held otherwise make another mean."""
        if not self._comparable(day):
            return None
        values = []
        for span in same_weekdays(self.calendar, day.span):
            then = self._by_start.get(span.start_s) if span else None
            if then and self._comparable(then) and self.clamps.get(then.policy) == self.clamps.get(day.policy):
                values.append(self.amount([then]))
        return expected([amount.estimate for amount in values if amount])

    @cached_property
    def _by_start(self) -> dict[int, Day]:
        return {day.span.start_s: day for day in (*self.before, *self.days)}

    def _comparable(self, day: Day) -> bool:
        least = 1.0 if self.quantity.kind == "count" else LEAST_COVERAGE
        if day.amount is None or day.covered_s < least * day.length_s or not day.over(self.now_s):
            return False
        amount = self.amount([day])
        return amount is not None and amount.publishable and not self.faulty(day.of)

    def as_amount(self, figure: Figure | None, days: Sequence[Day]) -> Amount | None:
        """Returns a figure of some days as a page shows it, None for one whose interval has no two ends."""
        if figure is None or figure.low is None or figure.high is None:
            return None
        of_days = figure.unit != "dB" or figure.indicator == self.quantity.printed
        fills = {fill for day in days for fill in day.fills} if of_days else {figure.fill}
        spans = [span for day in days for span in day.covered]
        return _amount(
            *(figure.estimate, figure.low, figure.high),
            sum(span.end_s - span.start_s for span in spans),
            figure.absent,
            tuple(sorted(fill for fill in fills if fill is not None)) if figure.absent else (),
            *(figure.margin, figure.publishable),
            sum(part.end_s - part.start_s for span in spans for part in self.faulty(span)) if self.marks else 0,
        )


@dataclass(frozen=True, slots=True)
class _Mean:
    """A year, and how far its interval reaches: what noise makes of it, and what silent moments add."""

    middle: float
    noise_down: float
    noise_up: float
    down: float
    up: float


def _weighed(weights: Sequence[float], amounts: Sequence[Amount], as_level: bool) -> _Mean:
    """Returns the mean of months. `as_level`: in dB, of mean energies whose intervals all lie above zero."""
    parts = list(zip(weights, amounts, strict=True))
    middle = sum(w * one.estimate for w, one in parts)
    noise = sqrt(sum((w * one.margin) ** 2 for w, one in parts))
    down, up = (sum(w * _beyond(one, side) for w, one in parts) for side in _SIDES)
    ends = (middle - noise - down, middle - noise, middle, middle + noise, middle + noise + up)
    low, noise_low, level, noise_high, high = (10 * log10(end) for end in ends) if as_level else ends
    return _Mean(level, level - noise_low, noise_high - level, noise_low - low, high - noise_high)


def _beyond(amount: Amount, side: Literal["low", "high"]) -> float:
    """Returns how much farther than the noise alone an interval reaches to one side."""
    reach = amount.estimate - amount.low if side == "low" else amount.high - amount.estimate
    return max(0.0, reach - amount.margin)


def by_month(days: Sequence[Day], calendar: Calendar) -> list[tuple[Day, ...]]:
    """Returns days by civil month."""
    groups = groupby(days, key=lambda day: calendar.civil_day(day.span.start_s).replace(day=1))
    return [tuple(members) for _, members in groups]


def stretch(
    info: StreamInfo,
    days: Sequence[Day],
    window: Window,
    rules: Rules,
    marks: Iterable[Annotation],
    calendar: Calendar,
    now_s: int,
    months: bool = False,
    left: Iterable[LeftOut] = (),
) -> Stretch:
    """Returns a stream over a window. `days`: those of the window, and of eight weeks before it as far as known.
    `months`: whether it is told by months, else by days; `left`: when its policies leave it out."""
    quantity = QUANTITIES[info.quantity]
    inside = tuple(day for day in days if day.span.start_s in window)
    clamps, rule = {}, None
    for day in days:
        policy = rules.of(day.policy) if day.policy else None
        part = policy.stream(info.stream) if policy else None
        if policy and part:
            clamps[day.policy] = part.clamp
            rule = (policy, part) if day.span.start_s in window else rule
    whole = by_month(inside, calendar) if months else [(day,) for day in inside]
    groups = [days for days in whole if any(day.amount for day in days)]
    energies = [together([day.energy for day in days]) for days in groups]
    levels = [level for energy in energies if energy and (level := equivalent_level(energy))]
    told = sum(level.publishable for level in levels) * 2 >= len(groups)
    held = Window(days[0].span.start_s, window.end_s) if days else window
    return Stretch(
        site=info.site,
        stream=info.stream,
        quantity=quantity,
        window=window,
        days=inside,
        before=tuple(day for day in days if day.span.end_s <= window.start_s),
        indicator="laeq_db" if levels and told else quantity.printed,
        rule=rule,
        clamps=clamps,
        marks=marks_of(marks, info.stream, held),
        left=tuple(one for one in left if one.span.start_s < window.end_s and one.span.end_s > window.start_s),
        calendar=calendar,
        now_s=now_s,
    )
