"""What a page says of one stream: its number with the interval, a finding that the noise cannot have made, its chart
with the table behind it, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Protocol

from murmure_privacy.annotation import Annotation
from murmure_privacy.estimate import Figure
from murmure_privacy.frozen import quick
from murmure_privacy.levels import NORMAL_95
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.stream import Quantity
from murmure_privacy.window import Calendar, Window

from murmure_dashboards.charts import Chart, Step, Table, Tick, draw
from murmure_dashboards.codes import Nodes, code_of
from murmure_dashboards.facts import daily_levels, day_level, shown_level
from murmure_dashboards.left_out import LeftOut
from murmure_dashboards.left_out import told as told_left_out
from murmure_dashboards.views import Amount, Slot, StreamView
from murmure_dashboards.wording import FIXED, Language

MOST_ROWS = 24
BLOCK_HOURS = (1, 2, 3, 4, 6, 12, 24, 25)
"""How long the steps of a table may be, where a row an hour would make the page too heavy."""
MOST_PERIODS = 4
MOST_MARKS = 3
LEAST_APART = 0.2
"""Noise alone puts one interval in twenty beside the common mean; four times as many are a pattern."""


class Told(Protocol):
    """What is told of: one stream over whole days, as `views.StreamView` and `stretch.Stretch` are."""

    @property
    def quantity(self) -> Quantity: ...
    @property
    def window(self) -> Window: ...
    @property
    def rule(self) -> tuple[Policy, StreamPolicy] | None: ...
    @property
    def marks(self) -> tuple[Annotation, ...]: ...
    @property
    def left(self) -> tuple[LeftOut, ...]: ...
    @property
    def calendar(self) -> Calendar: ...
    @property
    def now_s(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Mark:
    """What stewards said of a faulty period: `head` is when and why, `sentence` their own, which is `french` on a page
    of another language if there is no other. Where there is no room for sentences, all heads are one of them."""

    head: str
    sentence: str
    french: bool


@dataclass(frozen=True, slots=True)
class Story:
    """One stream on one page. `number` and `detail` are one sentence; `answers` say whether it is
    as usual, below the limits and how sure; `notes` are sentences of their own; `marks` are
    the faulty periods that figures of the page contain, `more` says how many were left out. There is no chart where
    there is nothing to draw. `codes`: the short codes of what is shown, a line for each row of the table."""

    heading: str
    number: str
    detail: str
    answers: tuple[str, ...]
    marks: tuple[Mark, ...]
    more: str
    notes: tuple[str, ...]
    chart: Chart | None
    codes: str = ""


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells streams in one language. `place` is the public name of the stream's site; `name` is unique on the page;
    `most_rows` is how long a table may be there; `brief`: faulty periods without the stewards' sentences; `often`:
    whether each interval says how often it holds, or the page once for all; `coded`: whether figures have their codes,
    by which anybody can check them once the log is signed."""

    say: Language
    most_rows: int = MOST_ROWS
    brief: bool = False
    often: bool = True
    coded: bool = False

    def today(self, view: StreamView, place: str, name: str, answers: Sequence[str] = ()) -> Story:
        """Returns the story of the one day that the view spans."""
        zone, day = view.calendar.zone, view.window
        slots = view.slots(day)
        over = view.now_s >= day.end_s
        number, detail = self.key(view, day, "day" if over else "so_far")
        date = self.say.date(day.start_s, zone)
        notes = [
            *self.left(view),
            *self._silence(view, day),
            *self._last(view, slots),
            *self._level(view, day),
            *self._coverage(view, slots),
            *self._missing(view, slots, dated=False, first_s=view.first_s),
            *([] if _tell_apart(slots, noise_alone=True) or not detail else [self.say("key.noisy")]),
        ]
        title = self._title(view, slots)
        caption = self.say("table.caption_hours", title=self._measured(view, title))
        rows, hours = self._rows(view, slots)
        coded = [(row[0], span, "") for span, row in rows if span]
        told = [*_newest(view, slots), *_extremes(slots)] if hours else []
        codes = self._codes(view, day, "day" if over else "so_far", coded, told)
        if hours:
            caption = f"{caption} {self.say('table.blocks', hours=hours)}"
        chart = draw(
            title=self.say("chart.titled", title=title, place=place, span=date),
            finding=self._peak(view, slots),
            unit=self._unit(view),
            description=self._description(view, slots, dated=False),
            table=Table(
                caption,
                (self.say("table.hour"), self.say(f"quantity.{view.quantity.name}")),
                tuple(row for _, row in rows),
            ),
            steps=steps(slots),
            gaps=[hole for _, hole in holes(slots, view.first_s)],
            faulty=view.faulty(day),
            window=day,
            ticks=self._hour_ticks(view, day),
            from_zero=view.quantity.kind != "level",
            name=name,
        )
        return self._story(view, slots, number, detail, notes, chart, answers, codes)

    def week(self, view: StreamView, place: str, name: str, answers: Sequence[str] = ()) -> Story:
        """Returns the story of several whole days: a table of days, a chart of hours."""
        zone, window = view.calendar.zone, view.window
        days = days_of(view)
        slots = view.slots(window)
        day_slots = [view.day_slot(day) for day in days]
        number, detail = self.key(view, window, "week")
        notes = [
            *self.left(view),
            *self._silence(view, window),
            *self._level(view, None),
            *self._coverage(view, slots),
            *self._missing(view, slots, dated=True, first_s=view.first_s),
        ]
        drawn: Sequence[Slot] = slots
        title = self._title(view, slots)
        # Steps of an hour and of a day, where the policy went from one to the other, are not drawn beside each other.
        noisy = not _tell_apart(slots) or len({_kind(slot) for slot in slots if slot.amount}) > 1
        if noisy and any(slot.amount for slot in day_slots):
            drawn = _drawn_days(view, day_slots)
            title = self._title(view, day_slots)
        header = [self.say("table.day"), self.say(f"quantity.{view.quantity.name}")]
        rows: list[tuple[str, ...]] = [(self._day_label(view, slot), self._day_cell(view, slot)) for slot in day_slots]
        if view.quantity.kind == "level":
            header.append(self.say("laeq.column", name=_laeq_name(view)))
            rows = [(*row, self.laeq(view, day)) for row, day in zip(rows, days, strict=True)]
        codes = self._codes(
            view,
            window,
            "week",
            [(row[0], day, self._level_code(view, day)) for row, day in zip(rows, days, strict=True)],
            _extremes(slots) if drawn is slots else (),
        )
        span = f"{self.say.day(window.start_s, zone)} – {self.say.date(window.end_s - 1, zone)}"
        chart = draw(
            title=self.say("chart.titled", title=title, place=place, span=span),
            finding=self._busiest_days(view, days, day_slots),
            unit=self._unit(view),
            description=self._description(view, drawn, dated=True),
            table=Table(
                self._cut(
                    self.say(
                        "table.caption_days",
                        title=self._measured(view, self.say(f"quantity.{view.quantity.name}")),
                    ),
                    len(rows),
                ),
                tuple(header),
                tuple(rows[-self.most_rows :]),
            ),
            steps=steps(drawn),
            gaps=[hole for _, hole in holes(drawn, view.first_s)],
            faulty=view.faulty(window),
            window=window,
            ticks=[self._day_tick(view, d) for d in days],
            from_zero=view.quantity.kind != "level",
            name=name,
        )
        return self._story(view, slots, number, detail, notes, chart, answers, codes)

    def _story(
        self,
        view: Told,
        slots: Sequence[Slot],
        number: str,
        detail: str,
        notes: Sequence[str],
        chart: Chart,
        answers: Sequence[str] = (),
        codes: str = "",
    ) -> Story:
        # The first interval may begin before the page does, and its figure with it.
        marks = [mark for mark in view.marks if mark.to_s > slots[0].start_s and mark.from_s < view.window.end_s]
        return Story(
            heading=self.say(f"quantity.{view.quantity.name}"),
            number=number,
            detail=detail,
            answers=tuple(answers),
            marks=self._marks(view, marks[-MOST_MARKS:]),
            more=" ".join(self._others(marks)),
            notes=tuple(notes),
            chart=chart if detail else None,
            codes=codes,
        )

    def _codes(
        self,
        view: StreamView,
        span: Window,
        period: str,
        rows: Sequence[tuple[str, Window, str]],
        others: Sequence[tuple[str, Slot]],
    ) -> str:
        """Returns the codes of a page's figures, a line each: of what is told beside the table, of the number of its
        period, then of the rows of its table, each after the name of the first. `rows`: the name of each, what it is
        about, and the code of its level, "" for none; `others`: intervals that are no rows, and what they are called.
        """
        if not self.coded or not view.scalar:
            return ""
        nodes = Nodes.of(view)
        told = [
            (self.say(f"codes.{key}"), nodes.codes(Window(slot.covered_from_s, slot.end_s)))
            for key, slot in others
            if slot.amount and slot.amount.publishable
        ]
        lines = [(name, nodes.codes(of), level) for name, of, level in rows]
        listed = [code for _, codes, _ in lines for code in codes]
        whole = key_codes(view, span, period, nodes)
        told.append((self.say(f"codes.{period}"), [self.say("codes.all")] if whole == listed else whole))
        for name, codes, level_code in lines:
            told.append((name, [*codes, *([f"LAeq {level_code}"] if level_code else [])]))
        return listing([(name, codes) for name, codes in told if codes])

    def _level_code(self, view: StreamView, day: Window) -> str:
        level = shown_level(view, day)
        return code_of(level) if level is not None and self.coded else ""

    def _marks(self, view: Told, marks: Sequence[Annotation]) -> tuple[Mark, ...]:
        if self.brief and marks:
            return (Mark("", " ".join(self.fault(view, mark) for mark in marks), french=False),)
        told = []
        for mark in marks:
            french = self.say.code != "fr" and not mark.sentence_en
            sentence = mark.sentence if french or self.say.code == "fr" else mark.sentence_en
            told.append(Mark(self.fault(view, mark), self.say.typeset(sentence), french))
        return tuple(told)

    def fault(self, view: Told, mark: Annotation) -> str:
        """Returns when a stream was faulty, and why, in one sentence."""
        return self.say("faulty.head", when=self._when(view, mark), cause=self.say(f"cause.{mark.cause}"))

    def _when(self, view: Told, mark: Annotation) -> str:
        window, span = view.window, Window(mark.from_s, mark.to_s)
        if mark.from_s >= window.start_s and mark.to_s <= window.end_s:
            return self._period(span, dated=len(days_of(view)) > 1, view=view)
        return self._at_length(view, mark)

    def _at_length(self, view: Told, mark: Annotation) -> str:
        zone = view.calendar.zone
        return self.say(
            "faulty.long",
            first=self.say.date(mark.from_s, zone),
            start=self.say.clock(mark.from_s, zone),
            last=self.say.date(mark.to_s, zone),
            end=self.say.clock(mark.to_s, zone),
        )

    def faults(self, view: StreamView) -> str:
        """Returns, in a sentence each, when and why the stream was faulty in the view's window."""
        marks = [mark for mark in view.marks if mark.to_s > view.window.start_s and mark.from_s < view.window.end_s]
        told = [self.fault(view, mark) for mark in marks[-MOST_MARKS:]]
        return " ".join([*told, *self._others(marks)])

    def _others(self, marks: Sequence[Annotation]) -> list[str]:
        left_out = len(marks) - MOST_MARKS
        return [self.say.counted("faulty.others", left_out, number=left_out)] if left_out > 0 else []

    def _with_fault(self, said: str, faulty_s: int, covered_s: int) -> str:
        """Returns a figure with what of it stewards marked as faulty."""
        if not faulty_s:
            return said
        if faulty_s >= covered_s:
            return self.say("faulty.whole", amount=said)
        return self.say("faulty.part", amount=said, duration=self.say.duration(faulty_s))

    def key(self, view: StreamView, window: Window, period: str) -> tuple[str, str]:
        """Returns the number of a period and the rest of its sentence."""
        amount = view.amount(window)
        if amount is None:
            return self._nothing(view.slots(window)), ""
        if period == "day" and (level := shown_level(view, window)) is not None:
            covered = Window(level.covered_from_s, level.end_s)
            number, between = self.say.amount(view.quantity.name, *_ends(level))
            begun = view.first_s > window.start_s
            over = self._begun(view, level.end_s, "level") if begun else self.say("key.day_level")
            detail = f"({self._often(between)}) {over}"
            return number, self._with_fault(detail, view.faulty_s([covered]), covered.end_s - covered.start_s)
        kind = "footfall" if view.quantity.kind == "count" else "mean"
        if view.first_s > window.start_s and period == "week":
            when = self.say(f"key.since_{kind}", day=self.say.date(view.first_s, view.calendar.zone))
        elif view.first_s > window.start_s:
            when = self._begun(view, _until_s(view, window), kind)
        else:
            when = self._so_far(view, window, kind) if period == "so_far" else self.say(f"key.{period}_{kind}")
        if period == "week" and view.left_s(window):  # nothing is missing on the other days, but they are not in it
            when = self.say(f"key.left_{kind}")
        if not amount.publishable:
            return self.say("key.none"), self.say("key.wide")
        said, between = self._amount(view, amount)
        held = self._often(between or self.say("number.often"))
        detail = f"({held}) {when}" if held else when
        return said, self._with_fault(detail, amount.faulty_s, amount.covered_s)

    def _so_far(self, view: StreamView, window: Window, kind: str) -> str:
        """Returns up to which hour a period was observed: that of six hours ends long before the page is written; and
        from which one on, where the night that began before it is a figure of its own."""
        until = self.say.hour(_until_s(view, window), view.calendar.zone, midnight_is_24=True)
        first_s = max([window.start_s, *(one.end_s for one in view.across(window) if one.start_s == window.start_s)])
        if first_s == window.start_s:
            return self.say(f"key.so_far_{kind}", until=until)
        return self.say(f"key.from_{kind}", first=self.say.hour(first_s, view.calendar.zone), until=until)

    def _begun(self, view: StreamView, until_s: int, kind: str) -> str:
        """Returns from which hour on a day was observed, as the measurement began on it, and up to which."""
        hours = (view.first_s, until_s)
        first, until = (self.say.hour(at_s, view.calendar.zone, midnight_is_24=at_s == until_s) for at_s in hours)
        return self.say(f"key.begun_{kind}", first=first, until=until)

    def _nothing(self, slots: Sequence[Slot]) -> str:
        """Returns what stands in place of a number: that there is none, or that there is none any more by decision."""
        return self.say("left.number" if slots and all(slot.state == "left" for slot in slots) else "key.none")

    def left(self, view: Told) -> list[str]:
        """Returns, in a sentence each, by which policies the stream is not published any more, or was not."""
        return [told_left_out(self.say, one, view.calendar, view.now_s) for one in view.left]

    def _often(self, between: str) -> str:
        """Returns an interval in words, without how often it holds where the page says that once for all."""
        return between if self.often else self.say.once(between)

    def silence(self, view: StreamView, window: Window) -> str:
        """Returns how much of a period's number the sensor can have missed and what became of it, or nothing."""
        amount = view.amount(window)
        if amount is None or not amount.absent:
            return ""
        share = self.say.share(amount.absent)
        if not amount.fills:
            return self.say("silent.count", share=share)
        fills = f" {self.say('number.or')} ".join(self.say.reading(view.quantity.name, fill) for fill in amount.fills)
        return self.say("silent.filled", share=share, fill=fills)

    def laeq(self, view: StreamView, day: Window) -> str:
        """Returns the day's LAeq with its interval as a table's cell, or why it is not shown."""
        if view.now_s < day.end_s:
            return self.say("laeq.soon" if view.to_have("1d", day) else "laeq.none")
        if not any(f.indicator == "energy_mean" for f in daily_levels(view, day)):
            return self.say("laeq.none")
        level = day_level(view, day)
        if level is None or level.low is None or level.high is None:
            return self.say("laeq.undefined")
        if not level.publishable:
            return self.say("laeq.wide")
        said = self.say.cell("noise", *_ends(level))
        covered = Window(level.covered_from_s, level.end_s)
        return self._with_fault(said, view.faulty_s([covered]), covered.end_s - covered.start_s)

    def _silence(self, view: StreamView, window: Window) -> list[str]:
        """That of the number, and of the LAeq, which fills its silent moments otherwise."""
        said = [sentence] if (sentence := self.silence(view, window)) else []
        levels = [day_level(view, day) for day in days_of(view) if view.now_s >= day.end_s]
        fills = {f.fill for f in levels if f and f.absent and f.fill is not None and f.publishable}
        return said + [
            self.say("silent.laeq", fill=self.say.reading(view.quantity.name, fill)) for fill in sorted(fills)
        ]

    def _amount(self, view: Told, amount: Amount) -> tuple[str, str]:
        return self.say.amount(view.quantity.name, amount.estimate, amount.low, amount.high)

    def _unit(self, view: Told) -> str:
        return self.say(f"unit.of_{view.quantity.name}")

    def _cut(self, caption: str, rows: int) -> str:
        """Returns a caption that tells what the table leaves to the file."""
        return caption if rows <= self.most_rows else f"{caption} {self.say('table.cut', rows=self.most_rows)}"

    def _measured(self, view: Told, title: str) -> str:
        """Returns a title with its unit; passages are their own."""
        return title if view.quantity.kind == "count" else f"{title}, {self._unit(view)}"

    def _family(self, view: Told) -> str:
        return {"count": "footfall", "level": "noise"}.get(view.quantity.kind, "mean")

    def _title(self, view: StreamView, slots: Sequence[Slot]) -> str:
        each = ("hourly", "coarse", "daily", "coarse")[max(map(_kind, slots))]
        name = self.say(f"quantity.{view.quantity.name}")
        return self.say(f"chart.{each}_{self._family(view)}", quantity=name)

    def _rows(
        self, view: StreamView, slots: Sequence[Slot]
    ) -> tuple[Sequence[tuple[Window | None, tuple[str, str]]], int]:
        """Returns the rows of a day with what of it the figure of each is about, and of how many hours each is: 0 where
        each slot has its own. Where so many do not fit, all of the day is there in longer steps, not a part of it."""
        zone, day = view.calendar.zone, view.window
        told = [slot for slot in slots if slot.state != "awaited"]
        if len(told) <= self.most_rows:
            spans: list[tuple[Window, Window | None, str]] = []
            for slot in told:
                span, said = Window(slot.start_s, slot.end_s), self._cell(view, slot)
                of = Window(slot.covered_from_s, slot.end_s) if slot.amount and slot.amount.publishable else None
                if spans and of is None and spans[-1] == (Window(spans[-1][0].start_s, span.start_s), None, said):
                    span = Window(spans.pop()[0].start_s, span.end_s)  # nobody wants to hear the same hour after hour
                spans.append((span, of, said))
            return [(of, (self.say.hours(*_span(span), zone), said)) for span, of, said in spans], 0
        hours = next(n for n in BLOCK_HOURS if -(-(day.end_s - day.start_s) // (n * 3600)) <= self.most_rows)
        rows: list[tuple[Window | None, tuple[str, str]]] = []
        for start_s in range(day.start_s, told[-1].end_s, hours * 3600):
            block = Window(start_s, min(start_s + hours * 3600, told[-1].end_s))
            amount = view.amount(block)
            slot = Slot(*_span(block), "figure", start_s, amount) if amount else _reason(block, told)
            of = block if amount is not None and amount.publishable else None
            rows.append((of, (self.say.hours(*_span(block), zone), self._day_cell(view, slot))))
        return rows, hours

    def _without(self, slot: Slot) -> str:
        """Returns why an interval has no value, as a table says it."""
        reason = self.say(f"state.{slot.state}")
        return self.say("table.missing", reason=reason) if slot.missing else reason

    def _cell(self, view: StreamView, slot: Slot) -> str:
        if slot.amount is None:
            return self._without(slot)
        a = slot.amount
        said = self._estimated(view, a)
        if slot.covered_from_s > slot.start_s:
            return self.say("table.from", amount=said, hour=self.say.hour(slot.covered_from_s, view.calendar.zone))
        return said

    def _estimated(self, view: Told, amount: Amount) -> str:
        if not amount.publishable:
            said = self.say("laeq.wide")
        else:
            said = self.say.cell(view.quantity.name, amount.estimate, amount.low, amount.high)
            if amount.absent:
                said = self.say("table.silent", amount=said, share=self.say.share(amount.absent))
        return self._with_fault(said, amount.faulty_s, amount.covered_s)

    def _day_cell(self, view: StreamView, slot: Slot) -> str:
        if slot.amount is None:
            return self._without(slot)
        a = slot.amount
        said = self._estimated(view, a)
        if view.now_s < slot.end_s:
            return self.say("table.so_far", amount=said)
        if a.covered_s < slot.end_s - slot.start_s:
            whole = self.say.duration(slot.end_s - slot.start_s)
            return self.say("table.part", amount=said, covered=self.say.duration(a.covered_s), expected=whole)
        return said

    def _last(self, view: StreamView, slots: Sequence[Slot]) -> list[str]:
        newest = next((slot for _, slot in _newest(view, slots)), None)
        if newest is None or newest.amount is None:
            return []
        start_s, end_s, zone = newest.covered_from_s, newest.end_s, view.calendar.zone
        said, between = self._amount(view, newest.amount)
        hours = self.say.hours(start_s, end_s, zone)
        sentences = [self.say(f"key.last{'_between' if between else ''}", hours=hours, amount=said, between=between)]
        if not newest.amount.publishable:
            end = self.say.hour(end_s, zone, midnight_is_24=True)
            sentences = [self.say("key.last_wide", start=self.say.hour(start_s, zone), end=end)]
        if newest.amount.absent:
            sentences.append(self.say("silent.last", share=self.say.share(newest.amount.absent)))
        if newest.amount.faulty_s:
            sentences.append(self.say("faulty.last"))
        return sentences

    def _level(self, view: StreamView, day: Window | None) -> list[str]:
        """What a mean of decibels is, so that nobody takes it for the level of the law; and that level, of a day."""
        if view.quantity.kind != "level" or not view.scalar:
            return []
        if day is None or shown_level(view, day) is None:
            return [self.say("laeq.mean")]
        said = [self.say("laeq.drawn")]
        if view.rule is not None and view.rule[1].up_to is None:
            said.append(self.say("laeq.clamped", high=view.rule[1].bounds[1] // view.quantity.per_unit))
        return said

    def _coverage(self, view: StreamView, slots: Sequence[Slot]) -> list[str]:
        amount = view.amount(view.window)
        if amount is None:
            return []
        # The sum may hold a quarter-hour of an hour that is not over.
        ends = [slot.end_s for slot in slots if slot.state not in ("awaited", "left")] + [
            figure.end_s for figure in view.scalar.values()
        ]
        until_s = min(max(ends), view.window.end_s)
        expected = Window(view.first_s, until_s)
        expected_s = until_s - view.first_s - view.left_s(expected)
        expected_s -= sum(one.end_s - one.start_s for one in view.across(expected))
        if amount.covered_s >= expected_s:
            return []
        told = {"covered": self.say.duration(amount.covered_s), "expected": self.say.duration(expected_s)}
        return [self.say("key.covered", **told)]

    def _missing(
        self, view: Told, slots: Sequence[Slot], dated: bool, key: str = "key.missing", first_s: int = 0
    ) -> list[str]:
        """One sentence for each reason, with the periods that it is about. `first_s`: as in `holes`."""
        periods: dict[str, list[Window]] = {}
        for state, window in holes(slots, first_s):
            mine = periods.setdefault(state, [])
            if mine and mine[-1].end_s == window.start_s:
                mine[-1] = Window(mine[-1].start_s, window.end_s)
            else:
                mine.append(window)
        sentences = []
        for state, windows in periods.items():
            said = [self._period(window, dated=dated, view=view) for window in windows[:MOST_PERIODS]]
            if len(windows) > MOST_PERIODS:
                rest = len(windows) - MOST_PERIODS
                said.append(self.say.counted("key.others", rest, number=rest))
            when = self.say("key.apart" if dated else "key.listed").join(said)
            sentences.append(self.say(key, reason=self.say(f"state.{state}"), when=when))
        return sentences

    def _period(self, window: Window, dated: bool, view: Told) -> str:
        zone = view.calendar.zone
        if not dated:
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
        highest = among_the_highest(whole)
        start_s, end_s = highest[0].start_s, highest[-1].end_s
        if (end_s - start_s) * 3 > whole[-1].end_s - whole[0].start_s:
            return self._found(self.say(f"finding.flat_{self._family(view)}"), whole)
        finding = self.say(
            f"finding.peak_{self._family(view)}",
            start=self.say.hour(start_s, zone),
            end=self.say.hour(end_s, zone, midnight_is_24=True),
        )
        return self._found(finding, whole)

    def _found(self, finding: str, compared: Sequence[Slot]) -> str:
        """Returns a finding, which says if a faulty period took part in the comparison."""
        faulty = any(slot.amount and slot.amount.faulty_s for slot in compared)
        return self.say("faulty.finding", finding=finding) if faulty else finding

    def _busiest_days(self, view: Told, days: Sequence[Window], slots: Sequence[Slot]) -> str:
        whole = [
            slot
            for day, slot in zip(days, slots, strict=True)
            if slot.amount and slot.amount.covered_s == day.end_s - day.start_s
        ]
        if len(whole) < 2:
            return self.say("finding.few")
        highest = among_the_highest(whole)
        if len(highest) > 2 or len(highest) == len(whole):
            return self._found(self.say(f"finding.flat_day_{self._family(view)}"), whole)
        names = f" {self.say('number.and')} ".join(self.say.day(s.start_s, view.calendar.zone) for s in highest)
        if len(highest) > 1:
            names = self.say("finding.days_tied", days=names)
        return self._found(self.say(f"finding.day_{self._family(view)}", days=names), whole)

    def _description(self, view: Told, slots: Sequence[Slot], dated: bool) -> str:
        valued = [slot for slot in slots if slot.amount and slot.amount.publishable]
        vague = sum(slot.amount is not None for slot in slots) - len(valued)
        unsaid = [self.say.counted("chart.vague", vague, number=vague)] if vague else []
        faulty = sum(bool(slot.amount and slot.amount.faulty_s) for slot in slots)
        if faulty:
            unsaid.append(self.say.counted("faulty.drawn", faulty, number=faulty))
        if not valued:
            return " ".join(unsaid) or self.say("chart.empty")
        missing = sum(slot.missing or slot.state == "across" for slot in slots)
        parts = [self.say.counted("chart.counted", len(valued), number=len(valued), missing=missing)]
        for key, slot in _extremes(slots):
            if slot.amount is None:
                continue
            said, between = self._amount(view, slot.amount)
            window = Window(slot.covered_from_s, slot.end_s)
            when = self._period(window, dated=dated, view=view)
            parts.append(
                self.say(f"chart.{key}{'_between' if between else ''}", amount=said, between=between, when=when)
            )
        return " ".join([*parts, *unsaid, self.say("chart.in_table")])

    def _day_label(self, view: StreamView, slot: Slot) -> str:
        # An ordinary space: on a phone the date may go below the weekday.
        return self.say.day(slot.start_s, view.calendar.zone).replace(FIXED, " ")

    def _day_tick(self, view: StreamView, day: Window) -> Tick:
        label = self.say.day(day.start_s, view.calendar.zone, short=True).replace(FIXED, " ")
        return Tick(label, (day.end_s - day.start_s) // 3600)

    def _hour_ticks(self, view: StreamView, day: Window) -> list[Tick]:
        ticks, at_s = [], day.start_s
        while at_s < day.end_s:
            block = view.calendar.node("6h", at_s)
            ticks.append(Tick(self.say.hour(at_s, view.calendar.zone), (block.end_s - block.start_s) // 3600))
            at_s = block.end_s
        return ticks


def _newest(view: StreamView, slots: Sequence[Slot]) -> list[tuple[str, Slot]]:
    """Returns the last interval of a day that is not over, if one has a figure."""
    newest = next((slot for slot in reversed(slots) if slot.amount), None)
    return [("last", newest)] if newest is not None and view.now_s < view.window.end_s else []


def _extremes(slots: Sequence[Slot]) -> list[tuple[str, Slot]]:
    """Returns the intervals with the highest and with the lowest estimate, or the only one that has any."""
    valued = [(slot.amount.estimate, slot) for slot in slots if slot.amount and slot.amount.publishable]
    if len(valued) < 2:
        return [("only", slot) for _, slot in valued]
    return [(key, of(valued, key=lambda pair: pair[0])[1]) for key, of in (("high", max), ("low", min))]


def listing(told: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Returns codes below each other, those of a figure after its name."""
    widest = max((len(name) for name, _ in told), default=0)
    between = "\n" + " " * (widest + 2)  # a line is broken here, and not within a code
    return "\n".join(f"{name:{widest}}  {between.join(codes)}" for name, codes in told)


def key_codes(view: StreamView, span: Window, period: str, nodes: Nodes | None = None) -> list[str]:
    """Returns the codes of what the number of a period comes from: of a day's LAeq its own, else those of the fewest
    nodes that cover it. `nodes`: those of the view, where they are known."""
    level = shown_level(view, span) if period == "day" else None
    return [code_of(level)] if level is not None else (nodes or Nodes.of(view)).codes(span)


def days_of(view: Told) -> list[Window]:
    """Returns the civil days of a view."""
    days, at_s = [], view.window.start_s
    while at_s < view.window.end_s:
        days.append(view.calendar.day(at_s))
        at_s = days[-1].end_s
    return days


def among_the_highest(slots: Sequence[Slot]) -> list[Slot]:
    """Returns those that the highest may be, with intervals widened so that all hold together 19 times out of 20."""
    widen = NormalDist().inv_cdf(1 - 0.025 / len(slots)) / NORMAL_95
    edges = [
        (slot, a.estimate - widen * (a.estimate - a.low), a.estimate + widen * (a.high - a.estimate))
        for slot in slots
        if (a := slot.amount)
    ]
    floor = max(low for _, low, _ in edges)
    return [slot for slot, _, high in edges if high >= floor]


def _tell_apart(slots: Sequence[Slot], noise_alone: bool = False) -> bool:
    """Returns whether the slots show more than their noise, or than noise and silence: enough of their intervals leave
    out the common mean. A week of hours that do not would look like news and be none; it is drawn by days."""
    amounts = [slot.amount for slot in slots if slot.amount]
    if not amounts:
        return False
    mean = sum(amount.estimate for amount in amounts) / len(amounts)
    if noise_alone:
        apart = sum(abs(amount.estimate - mean) > amount.margin for amount in amounts)
    else:
        apart = sum(not amount.low <= mean <= amount.high for amount in amounts)
    return apart >= LEAST_APART * len(amounts)


def _reason(block: Window, slots: Sequence[Slot]) -> Slot:
    """Returns the first interval that a block without a figure has, one that should have had one before any other."""
    inside = [slot for slot in slots if slot.start_s < block.end_s and slot.end_s > block.start_s and not slot.amount]
    inside.append(Slot(block.start_s, block.end_s, "awaited", block.start_s, None))
    return next((slot for slot in inside if slot.missing), inside[0])


def _kind(slot: Slot) -> int:
    """Returns which level a slot is of: an hour, some hours or a part of the day, a day, a week."""
    return sum(slot.end_s - slot.start_s > hours * 3600 for hours in (1, 12, 25))


def _laeq_name(view: Told) -> str:
    """LAeq,85: a level of readings of which those above 85 dB count as 85. Without an upper clamp it is the LAeq."""
    if view.rule is None or view.rule[1].up_to is not None:
        return "LAeq"
    return f"LAeq,{view.rule[1].bounds[1] // view.quantity.per_unit}"


def _ends(level: Figure) -> tuple[float, float, float]:
    """Returns the estimate of a level that has both ends, and these."""
    assert level.low is not None and level.high is not None
    return level.estimate, level.low, level.high


def _span(window: Window) -> tuple[int, int]:
    return window.start_s, window.end_s


_step = quick(Step)


def steps(slots: Sequence[Slot]) -> list[Step]:
    """Returns what a chart draws of some intervals."""
    return [
        _step(slot.covered_from_s, slot.end_s, a.estimate if a.publishable else None, a.low, a.high)
        for slot in slots
        if (a := slot.amount)
    ]


def _drawn_days(view: StreamView, slots: Sequence[Slot]) -> list[Slot]:
    """The days as a chart may show them: today ends with its last node, and the count of half a day, which would look
    like a fall, is left out; of the day on which the measurement began, nothing is missing."""
    last_s = max((figure.end_s for figure in view.scalar.values()), default=view.window.start_s)
    drawn = []
    for slot in slots:
        end_s = min(slot.end_s, max(last_s, slot.start_s))
        half = slot.amount is not None and slot.amount.covered_s < end_s - slot.start_s
        if half and view.quantity.kind == "count":
            begun = slot.amount is not None and slot.amount.covered_s >= end_s - max(slot.start_s, view.first_s)
            slot = replace(slot, state="before" if begun else "gap", amount=None)
        drawn.append(replace(slot, end_s=end_s) if slot.amount else slot)
    return drawn


def holes(slots: Sequence[Slot], first_s: int = 0) -> list[tuple[str, Window]]:
    """What should have been measured and has no value, with the reason: whole slots, and late beginnings. `first_s`:
    when the measurement began; the slot that it began in lacks nothing before."""
    holes = []
    for slot in slots:
        start_s = max(slot.start_s, first_s)
        if slot.missing:
            holes.append((slot.state, Window(start_s, slot.end_s)))
        elif slot.covered_from_s > start_s:
            holes.append(("gap", Window(start_s, slot.covered_from_s)))
    return holes


def _until_s(view: StreamView, window: Window) -> int:
    """Returns up to when a window that has an amount was observed."""
    return max(span.end_s for span in view.series.observed(view.quantity.printed, window))
