"""The days that are over, as the week, the month and the year of a neighbourhood show them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, timedelta

from murmure_privacy.window import Window

from murmure_dashboards.maker import Build
from murmure_dashboards.stretch import MONTH_DAYS, Stretch, stretch
from murmure_dashboards.usual import WEEKS
from murmure_dashboards.views import StreamInfo

_BEFORE_S = (WEEKS * 7 + 1) * 86_400  # what is usual on the first day of a span


def windows(ctx: Build) -> Mapping[str, Window]:
    """Returns the days that are over of each span, and the year before."""
    end_s = ctx.today.end_s if ctx.now_s >= ctx.today.end_s else ctx.today.start_s
    last = ctx.calendar.civil_day(end_s)
    return {
        "week": Window(min(ctx.week.start_s, end_s), end_s),
        "month": Window(ctx.calendar.midnight(last - timedelta(days=MONTH_DAYS)), end_s),
        "year": Window(ctx.calendar.midnight(_year_before(last)), end_s),
        "year before": Window(
            ctx.calendar.midnight(_year_before(_year_before(last))), ctx.calendar.midnight(_year_before(last))
        ),
    }


def stretches(ctx: Build, info: StreamInfo, spans: Collection[str]) -> Mapping[str, Stretch]:
    """Returns a stream over each of some spans, by its name."""
    of = windows(ctx)
    first_s = min(ctx.calendar.day(of[span].start_s - _BEFORE_S).start_s for span in spans)
    days = ctx.days.of(info, Window(max(of["year"].start_s, first_s), of["year"].end_s))
    began_s = ctx.archive.began_s(info.stream)
    told = "year" in spans and began_s is not None and began_s < of["year before"].end_s
    before = ctx.days.of(info, of["year before"]) if told else ()
    found = {}
    for span in spans:
        known = [day for day in days if day.span.start_s >= of[span].start_s - _BEFORE_S]
        known = [*before, *known] if span == "year" else known
        year, left = span == "year", ctx.days.decided(info).left
        found[span] = stretch(info, known, of[span], ctx.rules, ctx.marks, ctx.calendar, ctx.now_s, year, left)
    return found


def _year_before(day: date) -> date:
    """Returns the same day of the year before, the 28th for a 29th of February."""
    return day.replace(year=day.year - 1, day=min(day.day, 28) if day.month == 2 else day.day)
