"""What the pages of a month and of a year say of one stream: its number with the interval, how it stands beside what is
usual and beside the limits of the same averaging time, its chart, the table behind it, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from murmure_privacy.annotation import Annotation
from murmure_privacy.estimate import Figure
from murmure_privacy.window import Window

from murmure_dashboards.answers import Answerer
from murmure_dashboards.charts import Table, Tick, draw
from murmure_dashboards.codes import codes_in
from murmure_dashboards.config import Site
from murmure_dashboards.counters import off
from murmure_dashboards.days import Day
from murmure_dashboards.facts import Fact
from murmure_dashboards.limits import Threshold, Verdict, applying, coming, verdict
from murmure_dashboards.sensors import own_error
from murmure_dashboards.story import MOST_MARKS, Story, Teller, Told, among_the_highest, holes, listing, steps
from murmure_dashboards.stretch import TOO_WIDE, Change, Stretch
from murmure_dashboards.usual import LEAST_COVERAGE, LEAST_WEEKS
from murmure_dashboards.views import Amount, Slot
from murmure_dashboards.wording import FIXED, Language, rounded

MOST_NAMED = 3
"""How many days a sentence names; more are counted."""
Span = Literal["month", "year"]
_KINDS = {"crossings": "footfall", "laeq_db": "laeq"}
_TICKS: dict[Span, int] = {"month": 6, "year": 4}


@dataclass(frozen=True, slots=True)
class Held:
    """A figure as a limit sees it."""

    quantity: str
    averaging: str
    widest: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Counted:
    """How many days lie on each side of a limit of one day, and of how many that cannot be told."""

    above: int
    below: int
    unknown: int


def beside(one: Stretch, threshold: Threshold) -> Counted:
    """Returns where the days that were measured for long enough, and that nobody marked as faulty, lie beside a limit
    of one day, the sensor's own error within."""
    found: Counter[Verdict | None] = Counter()
    for day in one.days:
        amount = one.amount([day])
        if amount is None or day.covered_s < LEAST_COVERAGE * day.length_s or one.faulty(day.of):
            continue
        held = Held(one.quantity.name, "1d", _widest(one.quantity.name, amount))
        found[verdict(held, threshold, day.covered_s / day.length_s)] += 1
    return Counted(found["above"], found["below"], found["cannot tell"])


def allowed(days: Counted, most: int, of: int) -> Verdict:
    """Returns where a year lies beside a limit that may be exceeded on so many of its days; any day of which nothing is
    known may have been one of them. `of`: how many days the year has."""
    if days.above > most:
        return "above"
    return "below" if of - days.below <= most else "cannot tell"


def _widest(quantity: str, amount: Amount | Figure) -> tuple[float, float]:
    assert amount.low is not None and amount.high is not None
    error = own_error(quantity, amount.estimate)
    return amount.low - error, amount.high + error


@dataclass(frozen=True, slots=True)
class Chronicler(Teller):
    """Tells of months and years in one language. `thresholds`: the limits that figures are held against; `block`: how
    many days, or months, a row of a table is about."""

    thresholds: Sequence[Threshold] = ()
    block: int = 1

    def month(self, one: Stretch, site: Site, name: str) -> Story:
        """Returns the story of a month, day by day."""
        amount = one.amount(one.days)
        answers = [[self.usual(one), self._from(one, site, amount)], self._days_beside(one)]
        return self._told(one, site, name, "month", one.indicator, amount, answers)

    def year(self, one: Stretch, site: Site, name: str) -> Story:
        """Returns the story of a year, month by month."""
        level = one.lden[0] if one.quantity.kind == "level" else None
        told = one.as_amount(level, one.days) if level and level.publishable else None
        amount = told or one.per_day(one.days)
        limits = self._noise_beside(one, site) if one.quantity.kind == "level" else self._year_beside(one, amount)
        answers = [[self._from(one, site, amount)], self._change(one, site), *limits]
        return self._told(one, site, name, "year", "lden_db" if told else one.indicator, amount, answers)

    def usual(self, one: Stretch) -> str:
        """Returns which days of a stretch are unlike the same weekday of the weeks before."""
        say = self.say
        names: dict[str, list[str]] = {"more": [], "less": [], "usual": [], "unknown": []}
        for day, place in one.places:
            names[place].append(self._day_in_full(one, day.span.start_s))
        compared = sum(len(names[place]) for place in ("more", "less", "usual"))
        if not compared:
            return say("long.usual_early", least=LEAST_WEEKS) if one.measured else ""
        if compared == len(names["usual"]):
            return say.counted("long.usual_all", compared, number=compared)
        said = [
            say(f"long.usual_{place}", days=_listed(say, names[place]))
            if len(names[place]) <= MOST_NAMED
            else say.counted(f"long.usual_{place}", len(names[place]), number=len(names[place]))
            for place in ("more", "less")
            if names[place]
        ]
        if names["usual"]:
            said.append(say.counted("long.usual_rest", len(names["usual"]), number=len(names["usual"])))
        return " ".join([*said, say("long.usual_chance")])

    def _told(
        self,
        one: Stretch,
        site: Site,
        name: str,
        span: Span,
        indicator: str,
        amount: Amount | None,
        answers: Sequence[Sequence[str]],
    ) -> Story:
        say = self.say
        number, detail = self._long_key(one, span, indicator, amount)
        groups = groups_of(one, span)
        of = one.amount if span == "month" else one.per_day
        slots = [_drawn(one, days, one.slot(days, of), span) for days in groups]
        shown = Window(slots[0].start_s, one.window.end_s) if slots else one.window
        kind = "laeq" if one.indicator == "laeq_db" else self._family(one)
        title = say(f"long.{span}_{kind}", quantity=say(f"quantity.{one.quantity.name}"))
        first, last = (say.civil(one.calendar.civil_day(at_s)) for at_s in (shown.start_s, shown.end_s - 1))
        drawn = first if first == last else f"{first} – {last}"
        rows = tuple(self._row(one, days, span) for days in self._blocks(groups))
        chart = draw(
            title=say("chart.titled", title=title, place=site.name, span=drawn),
            finding=self._highest(one, slots, span),
            unit=self._unit(one),
            description=self._description(one, slots, dated=True),
            table=Table(
                say(f"long.{span}_caption", title=self._measured(one, title)),
                (say(f"long.{span}_column"), self._column(one, kind)),
                rows,
            ),
            steps=steps(slots),
            gaps=[hole for _, hole in holes(slots)],
            faulty=one.faulty(shown),
            window=shown,
            ticks=self._ticks(one, _TICKS[span]),
            from_zero=one.quantity.kind != "level",
            name=name,
        )
        marks = [mark for mark in one.marks if mark.to_s > shown.start_s]
        return Story(
            heading=say(f"quantity.{one.quantity.name}"),
            number=number,
            detail=detail,
            answers=tuple(filter(None, (" ".join(filter(None, said)) for said in answers))) if detail else (),
            marks=self._marks(one, marks[-MOST_MARKS:]),
            more=" ".join(self._others(marks)),
            notes=tuple(self._long_notes(one, span, indicator, amount)),
            chart=chart if any(slot.amount for slot in slots) else None,
            codes=self._day_codes(one, groups) if span == "month" else "",
        )

    def _day_codes(self, one: Stretch, groups: Sequence[tuple[Day, ...]]) -> str:
        """Returns the codes of the days of each row of a month, a line each after its name."""
        if not self.coded:
            return ""
        rows = [(self._row_name(one, days, "month"), days) for days in self._blocks(groups)]
        told = [(name, [code for day in days for code in codes_in(day.codes, one.indicator)]) for name, days in rows]
        return listing([(name, codes) for name, codes in told if codes])

    def _long_key(self, one: Stretch, span: Span, indicator: str, amount: Amount | None) -> tuple[str, str]:
        say = self.say
        if amount is None:
            return self._nothing([one.slot([day], one.amount) for day in one.measured]), ""
        if not amount.publishable:
            return say("key.none"), say("key.wide")
        said, between = self._amount(one, amount)
        over = say(f"long.over_{span}")
        if one.first_s > one.window.start_s:
            over = say("long.over_since", day=say.civil(one.calendar.civil_day(one.first_s)))
        if any(day.state == "left" for day in one.measured):
            over = say("long.over_left")
        kinds = {"crossings": f"footfall_{span}", "laeq_db": "laeq", "lden_db": "lden"}
        when = say(f"long.key_{kinds.get(indicator, 'mean')}", over=over)
        held = self._often(between or say("number.often"))
        return said, self._with_fault(f"({held}) {when}" if held else when, amount.faulty_s, amount.covered_s)

    def _long_notes(self, one: Stretch, span: Span, indicator: str, amount: Amount | None) -> list[str]:
        say, said = self.say, self.left(one)
        if amount is not None and amount.absent:
            share = say.share(amount.absent)
            fill = f" {say('number.or')} ".join(say.reading(one.quantity.name, fill) for fill in amount.fills)
            said.append(say("silent.filled", share=share, fill=fill) if fill else say("silent.count", share=share))
        if one.quantity.kind == "level" and amount is not None:
            if one.indicator != "laeq_db":
                said.append(say("laeq.drawn" if indicator == "lden_db" else "laeq.mean"))
            elif span == "month" and one.clamped is not None:
                said.append(say("laeq.clamped", high=one.clamped))
        if not one.measured:
            said.append(say("long.no_day"))
        if not one.same_bounds:
            said.append(say("long.other_bounds"))
        if any(day.state == "across" for day in one.measured):
            said.append(say("long.across"))
        expected_s = one.expected_s(one.measured)
        if 0 < one.covered_s < expected_s:
            said.append(say("long.covered", share=say.least_share(one.covered_s / expected_s)))
        gaps = [one.slot([day], one.amount) for day in one.measured]
        if span == "year":  # a month may have a level that a day of it has not
            gaps = [slot for slot in gaps if slot.state != TOO_WIDE]
        holed = [replace(one.slot([day], one.amount), state=day.hole, amount=None) for day in one.days if day.hole]
        return [*said, *self._missing(one, gaps, dated=True), *self._missing(one, holed, dated=True, key="long.partly")]

    def _from(self, one: Stretch, site: Site, amount: Amount | None) -> str:
        """What the noise makes of the interval, and what the sensor may add."""
        if amount is None or not amount.publishable:
            return ""
        device = next((sensor.device for sensor in site.sensor if sensor.stream == one.stream), "")
        counted = one.quantity.kind == "count"
        fact = Fact(
            quantity=one.quantity.name,
            indicator=one.indicator,
            span=one.window,
            averaging="",
            estimate=amount.estimate,
            low=amount.low,
            high=amount.high,
            error=None if counted else own_error(one.quantity.name, amount.estimate),
            off=off(device),
            absent=amount.absent,
            coverage=one.coverage,
            faulty=bool(amount.faulty_s),
            publishable=True,
            usual=None,
        )
        return self._answerer(one).margin(fact)

    def _change(self, one: Stretch, site: Site) -> list[str]:
        """How the year stands beside the one before: more or less only where neither the noise of both years nor what
        the device may have been wrong by in each can have made the difference."""
        say, change = self.say, one.change
        if change is None:
            return []
        least = say.least_share(LEAST_COVERAGE)
        if not change.months:
            return [say("before.none", least=least)]
        fall, rise = _device(one, site, change)
        if change.low > rise:
            told = "above"
        elif change.high < -fall:
            told = "below"
        else:
            told = "cannot_device" if change.low > 0 or change.high < 0 else "cannot"
        compared = say.counted("before.months", len(change.months), number=len(change.months), least=least)
        return [compared, self._difference(one, change), say(f"before.{told}")]

    def _difference(self, one: Stretch, change: Change) -> str:
        """Returns a difference with its interval, as finely as this bears; without a number where its sign is not
        known."""
        say, name = self.say, one.quantity.name
        kind = _KINDS.get(one.indicator, "mean")
        r = rounded(change.estimate, change.low, change.high, finest=0 if name == "footfall" else -1)
        if change.low <= 0 <= change.high:
            less = say.counted(f"unit.{name}", float(abs(r.low)), number=say.number(abs(r.low)))
            return say(f"before.between_{kind}", less=less, more=say.number(abs(r.high)))
        number = say.counted(f"unit.{name}", float(abs(r.estimate)), number=say.number(abs(r.estimate)))
        low, high = (say.number(end) for end in sorted((abs(r.low), abs(r.high))))
        return say(f"before.{'more' if change.low > 0 else 'less'}_{kind}", number=number, low=low, high=high)

    def _answerer(self, one: Stretch) -> Answerer:
        on = one.calendar.civil_day(one.window.end_s - 1)
        return Answerer(self.say, self.thresholds, one.calendar.zone, on)

    def _days_beside(self, one: Stretch) -> list[str]:
        """How many days lie above and below each limit of one day; a limit of a year is for a year."""
        if one.quantity.kind == "level":
            return [self.say("long.noise_month")]
        answerer = self._answerer(one)
        set_by = applying(self.thresholds, one.quantity.name, "1d", answerer.on)
        said = [self._count(one, threshold) for _, threshold in sorted(set_by.items())]
        if "law" in set_by and set_by["law"].days_allowed:
            said.append(self.say("long.allowed_month", days=set_by["law"].days_allowed))
        return [*said, *answerer.stale(list(set_by.values()))]

    def _count(self, one: Stretch, threshold: Threshold) -> str:
        say, days = self.say, beside(one, threshold)
        head = say(f"long.{threshold.by}_day", limit=say.reading(one.quantity.name, threshold.value))
        told = days.above + days.below + days.unknown
        key = "none" if not told else "unknown" if days.unknown == told else "below" if days.below == told else "mixed"
        values = {"above": days.above, "below": days.below, "unknown": days.unknown}
        return f"{head} {say.counted(f'long.days_{key}', told, number=told, **values)}"

    def _year_beside(self, one: Stretch, amount: Amount | None) -> list[list[str]]:
        """Where the year lies beside the limits of a year, and how many of its days beside those of one day."""
        answerer, name, say = self._answerer(one), one.quantity.name, self.say
        set_by = applying(self.thresholds, name, "1y", answerer.on)
        if not set_by or amount is None:
            return []
        said = [answerer.named(name, set_by, "1y")]
        later = coming(self.thresholds, name, "1y", answerer.on)
        if later is not None and "law" in set_by:
            said.append(say("long.later", law=say.reading(name, later.value), year=later.in_force_from.year))
        held = Held(name, "1y", _widest(name, amount))
        said.append(self._placed(one, one.coverage, {by: verdict(held, t, one.coverage) for by, t in set_by.items()}))
        daily = applying(self.thresholds, name, "1d", answerer.on)
        counted = [self._count(one, threshold) for _, threshold in sorted(daily.items())]
        law = daily.get("law")
        if law is not None and law.days_allowed:
            found = allowed(beside(one, law), law.days_allowed, len(one.days))
            counted.append(say(f"long.allowed_{found.split()[0]}", days=law.days_allowed))
        return [said, [*counted, *answerer.stale([*set_by.values(), *daily.values()])]]

    def _noise_beside(self, one: Stretch, site: Site) -> list[list[str]]:
        """Where Lden and Ln lie beside the limits for what makes most of the noise there."""
        say, answerer = self.say, self._answerer(one)
        (level, days), (night, nights) = one.lden, one.night
        if level is None or not level.publishable:
            return [[say("long.no_lden" if level is None else "long.wide_lden")]]
        said = [say("long.lden_is")]
        if night is not None and (quiet := one.as_amount(night, one.days)) and night.publishable:
            number, between = self._amount(one, quiet)
            said.append(say("long.ln_is", number=number, between=say.once(between)))
        placed = [
            found
            for name, figure, count in (("lden", level, days), ("ln", night, nights))
            if figure is not None and figure.publishable
            if (found := self._level_beside(one, site, name, figure, min(1.0, count / len(one.days))))
        ]
        if not placed:
            return [said, [say("long.no_source")]]
        limits = applying(self.thresholds, "lden", "1y", answerer.on, site.dominant)
        about = [say("long.clamped", high=one.clamped)] if one.clamped is not None else []
        return [said, *placed, [*about, say("long.facade"), *answerer.stale(list(limits.values()))]]

    def _level_beside(self, one: Stretch, site: Site, name: str, figure: Figure, share: float) -> list[str]:
        say, on = self.say, self._answerer(one).on
        limits = applying(self.thresholds, name, "1y", on, site.dominant) if site.dominant else {}
        if not limits:
            return []
        held = Held(name, "1y", _widest("noise", figure))
        found = {by: verdict(held, limit, share) for by, limit in limits.items()}
        if one.clamped is not None:  # what was louder counts as the bound: the truth may lie above any figure
            found = {by: "cannot tell" if place == "below" else place for by, place in found.items()}
        values = {by: say.reading("noise", limit.value) for by, limit in limits.items()}
        source = say(f"limit.of_{site.dominant}")
        named = say(f"long.{name}_named_{'_'.join(sorted(values))}", source=source, **values)
        return [named, self._placed(one, share, found)]

    def _placed(self, one: Stretch, share: float, verdicts: dict[str, Verdict | None]) -> str:
        say = self.say
        if share < LEAST_COVERAGE:
            return say("long.little", share=say.least_share(share), least=say.least_share(LEAST_COVERAGE))
        if one.faulty(one.window) or not one.same_bounds:
            return say("long.not_held")
        found = {by: place for by, place in verdicts.items() if place}
        if len(set(found.values())) == 1:
            (same,) = set(found.values())
            return say(f"long.placed_{same.split()[0]}_{'all' if len(found) > 1 else 'one'}")
        words = {"above": "limit.above", "below": "limit.below", "cannot tell": "limit.cannot"}
        return say("long.placed_apart", **{by: say(words[place]) for by, place in found.items()})

    def _blocks(self, groups: Sequence[tuple[Day, ...]]) -> list[tuple[Day, ...]]:
        """Returns the days of each row; where one is about several days, they are counted from the last, so that
        streams of one place share their rows."""
        first = len(groups) % self.block - self.block
        rows = [groups[max(at, 0) : at + self.block] for at in range(first, len(groups), self.block)]
        return [tuple(day for days in row for day in days) for row in rows if row]

    def _row(self, one: Stretch, days: Sequence[Day], span: Span) -> tuple[str, str]:
        slot = one.slot(days, one.amount if span == "month" else one.per_day)
        return self._row_name(one, days, span), self._long_cell(one, days, slot)

    def _row_name(self, one: Stretch, days: Sequence[Day], span: Span) -> str:
        say, zone, calendar = self.say, one.calendar.zone, one.calendar
        first_s, last_s = days[0].span.start_s, days[-1].span.start_s
        if len(days) == 1 and span == "month":
            return say.short_date(first_s, zone, weekday=True)
        if span == "month":
            return f"{say.short_date(first_s, zone)} – {say.short_date(last_s, zone)}"
        first, last = calendar.civil_day(first_s), calendar.civil_day(last_s)
        names = [f"{say.short_months[day.month - 1]} {day.year}" for day in (first, last)]
        if names[0] != names[1]:
            return f"{names[0]} – {names[1]}"
        whole = first.day == calendar.civil_day(days[-1].span.end_s).day == 1
        if whole:
            return names[0]
        return f"{first.day}{f'–{last.day}' if last != first else ''} {names[0]}"

    def _long_cell(self, one: Stretch, days: Sequence[Day], slot: Slot) -> str:
        if slot.amount is None:
            return self._without(slot)
        said = self._estimated(one, slot.amount)
        covered_s = sum(day.covered_s for day in days)
        if len(days) > 1:
            share = covered_s / max(covered_s, one.expected_s(days))
            return said if share >= 1 else self.say("long.part", amount=said, share=self.say.least_share(share))
        if covered_s >= days[0].length_s:
            return said
        whole = self.say.duration(days[0].length_s)  # also on the first day, of which only a part was to be measured
        return self.say("table.part", amount=said, covered=self.say.duration(covered_s), expected=whole)

    def _column(self, one: Stretch, kind: str) -> str:
        name = self.say("long.laeq" if kind == "laeq" else f"quantity.{one.quantity.name}")
        return name if one.quantity.kind == "count" else f"{name} ({self._unit(one)})"

    def _highest(self, one: Stretch, slots: Sequence[Slot], span: Span) -> str:
        """The days or months among which the highest one is; one-off luck of the noise must not make a headline."""
        whole = [
            slot
            for slot in slots
            if (a := slot.amount) and a.publishable and (span == "year" or a.covered_s >= slot.end_s - slot.start_s)
        ]
        if len(whole) < 3:
            return self.say("finding.few")
        highest, family = among_the_highest(whole), self._family(one)
        if len(highest) > 2:
            return self._found(self.say(f"long.flat_{span}_{family}"), whole)
        zone = one.calendar.zone
        names = [
            self._day_in_full(one, slot.start_s) if span == "month" else self.say.month(slot.start_s, zone)
            for slot in highest
        ]
        said = _listed(self.say, names)
        if len(highest) > 1:
            said = self.say("finding.days_tied", days=said)
        return self._found(self.say(f"finding.day_{family}", days=said), whole)

    def _day_in_full(self, one: Stretch, at_s: int) -> str:
        return self.say.date(at_s, one.calendar.zone).rpartition(" ")[0]

    def _ticks(self, one: Stretch, most: int) -> list[Tick]:
        """Some dates, each as many days after the one before; what is left for the last may be too little for one."""
        days = one.measured or one.days
        step = -(-len(days) // most)
        ticks = []
        for at in range(0, len(days), step):
            left = min(step, len(days) - at)
            # An ordinary space: on a phone the month may go below the day.
            name = self.say.short_date(days[at].span.start_s, one.calendar.zone).replace(FIXED, " ")
            ticks.append(Tick(name if 2 * left >= step else "", max(1, round(24 * left / step))))
        return ticks

    def _period(self, window: Window, dated: bool, view: Told) -> str:
        """Days without their hours, or a whole month: a day that is missing in part says so in the table."""
        first, last, after = (
            view.calendar.civil_day(at_s) for at_s in (window.start_s, window.end_s - 1, window.end_s)
        )
        if first.day == after.day == 1 and (first.year, first.month) == (last.year, last.month):
            return self.say.month(window.start_s, view.calendar.zone)
        names = [self.say.civil(day).rpartition(" ")[0] for day in (first, last)]
        return names[0] if first == last else f"{names[0]} – {names[1]}"

    def _when(self, view: Told, mark: Annotation) -> str:
        return self._at_length(view, mark)


def _device(one: Stretch, site: Site, change: Change) -> tuple[float, float]:
    """Returns how large a fall and a rise from year to year the device alone can make: a counter by what it may miss in
    the year with less of it, any other by being wrong to one side in one year, to the other in the next."""
    if one.quantity.kind == "count":
        device = next((sensor.device for sensor in site.sensor if sensor.stream == one.stream), "")
        missed = known.street if (known := off(device)) else 0.0
        return change.now * missed / (1 - missed), change.before * missed / (1 - missed)
    both = own_error(one.quantity.name, change.now) + own_error(one.quantity.name, change.before)
    return both, both


def groups_of(one: Stretch, span: Span) -> list[tuple[Day, ...]]:
    """Returns what is drawn: each day, or the days of each month, since the measurement began."""
    return [(day,) for day in one.measured] if span == "month" else one.months()


def _drawn(one: Stretch, days: Sequence[Day], slot: Slot, span: Span) -> Slot:
    """Returns an interval as a chart may show it, without the count of half a day, which would look like a fall."""
    if span == "year" or one.quantity.kind != "count" or days[0].whole or slot.amount is None:
        return slot
    return replace(slot, state=days[0].hole or "before", amount=None)


def joined(stories: Sequence[Story], most: int) -> list[Table]:
    """Returns the tables of the streams of one place as one that has a column for each, cut into as many as it takes
    that none has more than `most` rows."""
    tables = [story.chart.table for story in stories if story.chart]
    if not tables:
        return []
    found = [{row[0]: row[1] for row in table.rows} for table in tables]
    heads = [row[0] for row in max(tables, key=lambda table: len(table.rows)).rows]  # all end on the same day
    rows = [(head, *(cells.get(head, "–") for cells in found)) for head in heads]
    size = -(-len(rows) // -(-len(rows) // most))
    columns = (tables[0].columns[0], *(table.columns[1] for table in tables))
    return [Table(tables[0].caption, columns, tuple(rows[at : at + size])) for at in range(0, len(rows), size)]


def _listed(say: Language, names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{say('key.listed').join(names[:-1])} {say('number.and')} {names[-1]}"
