"""What a page says of one stream: its number with the interval, a finding that the noise cannot have made, its chart
with the table behind it, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from murmure_privacy.estimate import NORMAL_95
from murmure_privacy.window import Window

from murmure_dashboards.charts import Chart, Step, Table, Tick, draw
from murmure_dashboards.views import Amount, Slot, StreamView
from murmure_dashboards.wording import FIXED, Language

MOST_ROWS = 24
WIDEST_LAEQ_DB = 3.0
"""A level whose margin is wider says nothing of the street: the page says so instead."""
MOST_PERIODS = 4


@dataclass(frozen=True, slots=True)
class Story:
    """One stream on one page. `number` and `detail` are one sentence; `notes` are sentences of their own."""

    heading: str
    number: str
    detail: str
    notes: tuple[str, ...]
    chart: Chart


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells streams in one language. `place` is the public name of the stream's site; `name` is unique on the page;
    `most_rows` is how long a table may be there."""

    say: Language
    most_rows: int = MOST_ROWS

    def today(self, view: StreamView, place: str, name: str) -> Story:
        """Returns the story of the one day that the view spans."""
        zone, day = view.calendar.zone, view.window
        slots = view.slots(day)
        over = view.now_s >= day.end_s
        number, detail = self.key(view, day, "day" if over else "so_far")
        date = self.say.date(day.start_s, zone)
        notes = [*self._last(view, slots), *self._coverage(view, slots), *self._missing(view, slots, dated=False)]
        rows = tuple(
            (self.say.hours(s.start_s, s.end_s, zone), self._cell(view, s)) for s in slots if not self._blank(s)
        )
        title = self._title(view, slots)
        caption = self.say("table.caption_hours", title=title, unit=self._unit(view))
        if len(rows) > self.most_rows:
            caption += f" {self.say('table.cut', rows=self.most_rows)}"
        chart = draw(
            title=self.say("chart.titled", title=title, place=place, span=date),
            finding=self._peak(view, slots),
            unit=self._unit(view),
            description=self._description(view, slots, dated=False),
            table=Table(
                caption,
                (self.say("table.hour"), self.say(f"quantity.{view.quantity.name}")),
                rows[-self.most_rows :],
            ),
            steps=_steps(slots),
            gaps=_gaps(slots),
            window=day,
            ticks=self._hour_ticks(view, day),
            from_zero=view.quantity.kind != "level",
            name=name,
        )
        return Story(self.say(f"quantity.{view.quantity.name}"), number, detail, tuple(notes), chart)

    def week(self, view: StreamView, place: str, name: str) -> Story:
        """Returns the story of several whole days: a table of days, a chart of hours."""
        zone, window = view.calendar.zone, view.window
        days = days_of(view)
        slots = view.slots(window)
        day_slots = [view.day_slot(day) for day in days]
        number, detail = self.key(view, window, "week")
        notes = [*self._coverage(view, slots), *self._missing(view, slots, dated=True)]
        title = self._title(view, slots)
        header = [self.say("table.day"), self.say(f"quantity.{view.quantity.name}")]
        rows: list[tuple[str, ...]] = [
            (self.say.day(slot.start_s, zone), self._day_cell(view, slot)) for slot in day_slots
        ]
        if view.quantity.kind == "level":
            header.append(self.say("laeq.column"))
            rows = [(*row, self.laeq(view, day)) for row, day in zip(rows, days, strict=True)]
        span = f"{self.say.day(window.start_s, zone)} – {self.say.date(window.end_s - 1, zone)}"
        chart = draw(
            title=self.say("chart.titled", title=title, place=place, span=span),
            finding=self._busiest_days(view, days, day_slots),
            unit=self._unit(view),
            description=self._description(view, slots, dated=True),
            table=Table(
                self.say(
                    "table.caption_days",
                    title=self.say(f"quantity.{view.quantity.name}"),
                    unit=self._unit(view),
                ),
                tuple(header),
                tuple(rows),
            ),
            steps=_steps(slots),
            gaps=_gaps(slots),
            window=window,
            ticks=[Tick(self.say.day(d.start_s, zone, short=True), (d.end_s - d.start_s) // 3600) for d in days],
            from_zero=view.quantity.kind != "level",
            name=name,
        )
        return Story(self.say(f"quantity.{view.quantity.name}"), number, detail, tuple(notes), chart)

    def key(self, view: StreamView, window: Window, period: str) -> tuple[str, str]:
        """Returns the number of a period and the rest of its sentence."""
        amount = view.amount(window)
        if amount is None:
            return self.say("key.none"), ""
        kind = "footfall" if view.quantity.kind == "count" else "mean"
        when = self.say(f"key.{period}_{kind}")
        said, between = self._amount(view, amount)
        return said, f"({between or self.say('number.often')}) {when}"

    def laeq(self, view: StreamView, day: Window) -> str:
        """Returns the day's LAeq with its interval, or why it is not shown."""
        if view.now_s < day.end_s:
            return self.say("laeq.soon")
        node = [f for f in view.figures if f.level == "1d" and f.start_s == day.start_s]
        if not any(f.indicator == "energy_mean" for f in node):
            return self.say("laeq.none")
        level = next((f for f in node if f.indicator == "laeq_db"), None)
        if level is None or level.low is None or level.high is None:
            return self.say("laeq.undefined")
        if level.high - level.estimate >= WIDEST_LAEQ_DB or level.estimate - level.low >= WIDEST_LAEQ_DB:
            return self.say("laeq.wide")
        return self.say.cell("noise", level.estimate, level.low, level.high)

    def duration(self, seconds: int) -> str:
        """Returns hours and quarters, e.g. `13 h 15` or `13 h`."""
        hours, minutes = seconds // 3600, seconds % 3600 // 60
        return f"{hours}{FIXED}h" + (f"{FIXED}{minutes:02d}" if minutes else "")

    def _amount(self, view: StreamView, amount: Amount) -> tuple[str, str]:
        return self.say.amount(view.quantity.name, amount.estimate, amount.low, amount.high)

    def _unit(self, view: StreamView) -> str:
        return self.say(f"unit.of_{view.quantity.name}")

    def _family(self, view: StreamView) -> str:
        return {"count": "footfall", "level": "noise"}.get(view.quantity.kind, "mean")

    def _title(self, view: StreamView, slots: Sequence[Slot]) -> str:
        hourly = all(slot.end_s - slot.start_s == 3600 for slot in slots)
        name = self.say(f"quantity.{view.quantity.name}")
        return self.say(f"chart.{'hourly' if hourly else 'coarse'}_{self._family(view)}", quantity=name)

    def _cell(self, view: StreamView, slot: Slot) -> str:
        if slot.amount is None:
            return self.say(f"state.{slot.state}")
        a = slot.amount
        said = self.say.cell(view.quantity.name, a.estimate, a.low, a.high)
        if slot.covered_from_s > slot.start_s:
            return self.say("table.from", amount=said, hour=self.say.hour(slot.covered_from_s, view.calendar.zone))
        return said

    def _day_cell(self, view: StreamView, slot: Slot) -> str:
        if slot.amount is None:
            return self.say(f"state.{slot.state}")
        a = slot.amount
        said = self.say.cell(view.quantity.name, a.estimate, a.low, a.high)
        if view.now_s < slot.end_s:
            return self.say("table.so_far", amount=said)
        if a.covered_s < slot.end_s - slot.start_s:
            whole = self.duration(slot.end_s - slot.start_s)
            return self.say("table.part", amount=said, covered=self.duration(a.covered_s), expected=whole)
        return said

    def _last(self, view: StreamView, slots: Sequence[Slot]) -> list[str]:
        newest = next((slot for slot in reversed(slots) if slot.amount), None)
        if newest is None or newest.amount is None or view.now_s >= view.window.end_s:
            return []
        said, between = self._amount(view, newest.amount)
        hours = self.say.hours(newest.covered_from_s, newest.end_s, view.calendar.zone)
        if not between:
            return [self.say("key.last", hours=hours, amount=said)]
        return [self.say("key.last_between", hours=hours, amount=said, between=between)]

    def _coverage(self, view: StreamView, slots: Sequence[Slot]) -> list[str]:
        expected_s = sum(slot.end_s - slot.start_s for slot in slots if slot.state != "awaited")
        amount = view.amount(view.window)
        # A quarter-hour may be in the sum before its hour is over.
        if amount is None or amount.covered_s >= expected_s:
            return []
        return [self.say("key.covered", covered=self.duration(amount.covered_s), expected=self.duration(expected_s))]

    def _missing(self, view: StreamView, slots: Sequence[Slot], dated: bool) -> list[str]:
        """One sentence for each reason, with the periods that it is about."""
        periods: dict[str, list[Window]] = {}
        for before, slot in zip([None, *slots], slots, strict=False):
            if not slot.missing:
                continue
            mine = periods.setdefault(slot.state, [])
            if before is not None and before.state == slot.state:
                mine[-1] = Window(mine[-1].start_s, slot.end_s)
            else:
                mine.append(Window(slot.start_s, slot.end_s))
        sentences = []
        for state, windows in periods.items():
            said = [self._period(window, zone_dated=dated, view=view) for window in windows[:MOST_PERIODS]]
            if len(windows) > MOST_PERIODS:
                rest = len(windows) - MOST_PERIODS
                said.append(self.say.counted("key.others", rest, number=rest))
            when = self.say("key.apart" if dated else "key.listed").join(said)
            sentences.append(self.say("key.missing", reason=self.say(f"state.{state}"), when=when))
        return sentences

    def _period(self, window: Window, zone_dated: bool, view: StreamView) -> str:
        zone = view.calendar.zone
        if not zone_dated:
            return self.say.hours(window.start_s, window.end_s, zone)
        first = self.say.day(window.start_s, zone, short=True)
        last = self.say.day(window.end_s - 1, zone, short=True)
        start, end = self.say.hour(window.start_s, zone), self.say.hour(window.end_s, zone, midnight_is_24=True)
        return f"{first}, {start} – {end}" if first == last else f"{first}, {start} – {last}, {end}"

    def _peak(self, view: StreamView, slots: Sequence[Slot]) -> str:
        """The hours among which the highest one is; one-off luck of the noise must not make a headline."""
        zone = view.calendar.zone
        whole = [slot for slot in slots if slot.amount and slot.covered_from_s == slot.start_s]
        if len(whole) < 3:
            return self.say("finding.few")
        highest = _among_the_highest(whole)
        start_s, end_s = highest[0].start_s, highest[-1].end_s
        if (end_s - start_s) * 2 > whole[-1].end_s - whole[0].start_s:
            return self.say(f"finding.flat_{self._family(view)}")
        return self.say(
            f"finding.peak_{self._family(view)}",
            start=self.say.hour(start_s, zone),
            end=self.say.hour(end_s, zone, midnight_is_24=True),
        )

    def _busiest_days(self, view: StreamView, days: Sequence[Window], slots: Sequence[Slot]) -> str:
        whole = [
            slot
            for day, slot in zip(days, slots, strict=True)
            if slot.amount and slot.amount.covered_s == day.end_s - day.start_s
        ]
        if len(whole) < 2:
            return self.say("finding.few")
        highest = _among_the_highest(whole)
        if len(highest) > 2 or len(highest) == len(whole):
            return self.say(f"finding.flat_day_{self._family(view)}")
        names = f" {self.say('number.and')} ".join(self.say.day(s.start_s, view.calendar.zone) for s in highest)
        if len(highest) > 1:
            names = self.say("finding.days_tied", days=names)
        return self.say(f"finding.day_{self._family(view)}", days=names)

    def _description(self, view: StreamView, slots: Sequence[Slot], dated: bool) -> str:
        valued = [(slot.amount.estimate, slot) for slot in slots if slot.amount]
        if not valued:
            return self.say("chart.empty")
        missing = sum(slot.missing for slot in slots)
        parts = [self.say.counted("chart.counted", len(valued), number=len(valued), missing=missing)]
        for key, (_, slot) in (
            ("high", max(valued, key=lambda pair: pair[0])),
            ("low", min(valued, key=lambda pair: pair[0])),
        ):
            if slot.amount is None:
                continue
            said, between = self._amount(view, slot.amount)
            window = Window(slot.covered_from_s, slot.end_s)
            when = self._period(window, zone_dated=dated, view=view)
            parts.append(
                self.say(f"chart.{key}{'_between' if between else ''}", amount=said, between=between, when=when)
            )
        return " ".join([*parts, self.say("chart.in_table")])

    def _hour_ticks(self, view: StreamView, day: Window) -> list[Tick]:
        ticks, at_s = [], day.start_s
        while at_s < day.end_s:
            block = view.calendar.node("6h", at_s)
            ticks.append(Tick(self.say.hour(at_s, view.calendar.zone), (block.end_s - block.start_s) // 3600))
            at_s = block.end_s
        return ticks

    @staticmethod
    def _blank(slot: Slot) -> bool:
        return slot.state == "awaited"


def days_of(view: StreamView) -> list[Window]:
    """Returns the civil days of a view."""
    days, at_s = [], view.window.start_s
    while at_s < view.window.end_s:
        days.append(view.calendar.day(at_s))
        at_s = days[-1].end_s
    return days


def _among_the_highest(slots: Sequence[Slot]) -> list[Slot]:
    """Returns those that the highest may be, with intervals widened so that all hold together 19 times out of 20."""
    widen = NormalDist().inv_cdf(1 - 0.025 / len(slots)) / NORMAL_95
    edges = [
        (slot, a.estimate - widen * (a.estimate - a.low), a.estimate + widen * (a.high - a.estimate))
        for slot in slots
        if (a := slot.amount)
    ]
    floor = max(low for _, low, _ in edges)
    return [slot for slot, _, high in edges if high >= floor]


def _steps(slots: Sequence[Slot]) -> list[Step]:
    return [Step(slot.covered_from_s, slot.end_s, a.estimate, a.low, a.high) for slot in slots if (a := slot.amount)]


def _gaps(slots: Sequence[Slot]) -> list[Window]:
    late = [Window(s.start_s, s.covered_from_s) for s in slots if s.amount and s.covered_from_s > s.start_s]
    return [*(Window(slot.start_s, slot.end_s) for slot in slots if slot.missing), *late]
