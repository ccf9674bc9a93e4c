"""The pages of a neighbourhood: its day, its week, its month and its year."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from murmure_privacy.window import Window

from murmure_dashboards import codes as codes_of
from murmure_dashboards.answers import Answerer
from murmure_dashboards.bulletin import sheets
from murmure_dashboards.charts import Chart
from murmure_dashboards.chronicle import Chronicler, Span, groups_of, joined
from murmure_dashboards.config import Quartier, Site
from murmure_dashboards.due import due, next_day
from murmure_dashboards.kept import sum_of_days
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.opendata import ANNOTATIONS, quartier_file
from murmure_dashboards.pages import MOST_ELEMENTS, link_elements
from murmure_dashboards.promises import promises
from murmure_dashboards.story import MOST_MARKS, MOST_ROWS, Story, Teller
from murmure_dashboards.stretch import MONTH_DAYS, Stretch, stretch
from murmure_dashboards.usual import WEEKS
from murmure_dashboards.views import StreamView
from murmure_dashboards.wording import LANGUAGES, Language, capital, language

LEAST_ROWS = 2
MOST_CODES = 700
"""Of a month: a page with more leaves them to their file. Some six kilo-octets, compressed."""
MOST_JOINT = 24
"""More rows than these are cut into several tables: nobody reads a longer one."""
SPANS: Mapping[Span, str] = {"month": "mois/", "year": "annee/"}
PERIODS = (("page.today", ""), ("page.week", "semaine/"), ("page.of_month", "mois/"), ("page.of_year", "annee/"))
_BEFORE_S = (WEEKS * 7 + 1) * 86_400  # what is usual on the first day of a span
_HOURS_S = (WEEKS + 1) * 7 * 86_400  # what is usual on each day of a week
# What the page of a month or of a year is made of: around everything, a site with its tables, a stream.
_LONG_ELEMENTS, _LONG_SITE_ELEMENTS, _LONG_STREAM_ELEMENTS = 54, 21, 41
# What sensors of each kind cannot know, first of all; the page of each place has the rest.
_FIRST = (("count", "footfall_who"), ("level", "noise_said"), ("mean", "air_indicative"))
# What a neighbourhood page is made of: around everything, a site, a stream of a day or a week, a row of a table.
_AROUND_ELEMENTS, _SITE_ELEMENTS, _DAY_ELEMENTS, _WEEK_ELEMENTS, _ROW_ELEMENTS = 67, 7, 38, 41, 3.08
# Of annotations: the file of all, the legend of a marked chart; one with its paragraph, what stands out, its language.
_LINK_ELEMENTS, _MARKED_ELEMENTS, _MARK_ELEMENTS = 2, 1, 3


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the pages of each neighbourhood in each language."""
    for quartier in ctx.quartiers:
        long = _long(ctx, quartier, ("week",))
        # Before the pages of the day and of the week, which lead to the codes of the weeks before.
        yield from ctx.unless_kept(f"long {quartier.slug}", _made_of(ctx, quartier), _spans(ctx, quartier))
        for code in LANGUAGES:
            for week in (False, True):
                yield _neighbourhood(ctx, language(code), quartier, week, long)


def _spans(ctx: Build, quartier: Quartier) -> Iterator[tuple[str, bytes]]:
    """Yields the pages of the month and of the year, and the codes of what they are made of."""
    long = _long(ctx, quartier, SPANS)
    if ctx.coded:
        codes = codes_of.year_table(
            day.codes
            for one in long.streams["year"]
            for day in (*(one.before if one.change is not None else ()), *one.days)
        )
        hours = codes_of.year_table(_hours(ctx, long))
        long = replace(long, codes=len(codes), hours=len(hours))
        yield codes_of.year_file(quartier.slug), codes
        yield codes_of.hours_file(quartier.slug), hours
    for code in LANGUAGES:
        for span in SPANS:
            yield _of_span(ctx, language(code), quartier, span, long)


def _hours(ctx: Build, long: _Long) -> Iterator[str]:
    """Yields the codes of the hours of the weeks that tell what is usual, and of those that Lden and Ln are made of."""
    recent_s = long.windows["year"].end_s - _HOURS_S
    for one in long.streams["year"]:
        for day in one.days:
            if day.hours and day.of.start_s >= recent_s:
                yield codes_of.run_lines(one.stream, one.quantity.printed, day.hours, ctx.calendar)
            if day.energies:
                yield codes_of.run_lines(one.stream, "energy_mean", day.energies, ctx.calendar)


def _made_of(ctx: Build, quartier: Quartier) -> Mapping[str, object] | None:
    """Returns all that these follow from, by name, None while some of it can still change without a node."""
    sites = [site.id for site in ctx.city.sites_of(quartier.slug)]
    infos = [info for info in ctx.streams if info.site in sites]
    windows = _windows(ctx)
    whole = Window(min(window.start_s for window in windows.values()), windows["year"].end_s)
    days = [(info.stream, info.quantity, sum_of_days(ctx.days, info, whole)) for info in infos]
    if any(found is None for _, _, found in days):
        return None
    marks = [mark for mark in ctx.marks if mark.stream in {info.stream for info in infos}]
    policies = [policy.hash for site in sites for policy in ctx.archive.policies(site)]
    return {
        "windows": windows,
        "days": days,
        "marks": marks,
        "octets": marks and ctx.octets[ANNOTATIONS],
        "policies": policies,
        "coded": ctx.coded,
        "next day": _next_day(ctx, quartier),
    }


def _next_day(ctx: Build, quartier: Quartier) -> bool:
    """Returns whether any stream of a neighbourhood is to have figures of the day after those that are over."""
    last = ctx.calendar.day(_windows(ctx)["year"].end_s - 1)
    views = {one.stream: one for site in ctx.city.sites_of(quartier.slug) for one in ctx.of_today.get(site.id, ())}
    return any(
        next_day(views[info.stream], day, ctx.rules)
        for info in ctx.streams
        if info.stream in views
        for day in ctx.days.of(info, last)
    )


@dataclass(frozen=True, slots=True)
class _Long:
    """The streams of a neighbourhood over spans of days that are over, by the name of the span. `codes` and
    `hours`: the sizes of the files with the codes of the days and of the hours, 0 where there is none."""

    windows: Mapping[str, Window]
    streams: Mapping[str, Sequence[Stretch]]
    codes: int = 0
    hours: int = 0


MAKER = Maker(files, apart=True)


def _windows(ctx: Build) -> Mapping[str, Window]:
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


def _long(ctx: Build, quartier: Quartier, spans: Collection[str]) -> _Long:
    windows = _windows(ctx)
    year, year_before = windows["year"], windows["year before"]
    sites = {site.id for site in ctx.city.sites_of(quartier.slug)}
    first_s = min(ctx.calendar.day(windows[span].start_s - _BEFORE_S).start_s for span in spans)
    known_from = Window(max(year.start_s, first_s), year.end_s)
    found: dict[str, list[Stretch]] = {span: [] for span in spans}
    for info in ctx.streams:
        if info.site in sites:
            days = ctx.days.of(info, known_from)
            began_s = ctx.archive.began_s(info.stream)
            told = "year" in spans and began_s is not None and began_s < year_before.end_s
            before = ctx.days.of(info, year_before) if told else ()
            for span in spans:
                window = windows[span]
                known = [day for day in days if day.span.start_s >= window.start_s - _BEFORE_S]
                known = [*before, *known] if span == "year" else known
                made = stretch(info, known, window, ctx.rules, ctx.marks, ctx.calendar, ctx.now_s, span == "year")
                found[span].append(made)
    return _Long(windows, found)


def _year_before(day: date) -> date:
    """Returns the same day of the year before, the 28th for a 29th of February."""
    return day.replace(year=day.year - 1, day=min(day.day, 28) if day.month == 2 else day.day)


def _of_span(ctx: Build, say: Language, quartier: Quartier, span: Span, long: _Long) -> tuple[str, bytes]:
    """Returns the page of a month or of a year."""
    window, shown = long.windows[span], long.streams[span]
    sites = ctx.city.sites_of(quartier.slug)
    marks = [min(MOST_MARKS, len(one.marks)) for one in shown if one.marks]
    full = _LINK_ELEMENTS + sum(_MARKED_ELEMENTS + _MARK_ELEMENTS * of_one for of_one in marks) if marks else 0
    foot = link_elements(ctx.links)
    rows, brief = joint_rows(len(sites), len(shown), foot + full), False
    if marks and rows < LEAST_ROWS:
        short = _LINK_ELEMENTS + (1 + _MARKED_ELEMENTS) * len(marks)
        rows, brief = joint_rows(len(sites), len(shown), foot + short), True
    longest = max((len(groups_of(one, span)) for one in shown), default=1)
    block = max(1, -(-longest // rows))
    teller = Chronicler(say, brief=brief, coded=ctx.coded, thresholds=ctx.thresholds, block=block)
    places = []
    for site in sites:
        stories = [
            (teller.month if span == "month" else teller.year)(one, site, f"c{number}")
            for number, one in enumerate(shown)
            if one.site == site.id
        ]
        places.append((site, stories, joined(stories, MOST_JOINT), _listed(stories)))
    listed = ""
    if rows < LEAST_ROWS:  # one list for all places
        listed = "\n".join(f"{site.name}\n{lines}" for site, *_, lines in places if lines)
    if listed or sum(lines.count("\n") for *_, lines in places) > MOST_CODES:
        places = [(site, stories, tables, "") for site, stories, tables, _ in places]
    if listed.count("\n") > MOST_CODES:  # the file has them all
        listed = ""
    ends = say.civil(ctx.calendar.civil_day(window.end_s - 1))
    levels = any(one.quantity.kind == "level" for one in shown)
    return ctx.page(
        "long.html",
        say,
        f"quartiers/{quartier.slug}/{SPANS[span]}",
        title=say(f"page.{span}_title", quartier=quartier.name, date=ends, city=ctx.city.city),
        quartier=quartier,
        head=say(f"page.{span}_head"),
        periods=PERIODS,
        period=SPANS[span],
        written=say(
            "page.long_span",
            first=say.civil(ctx.calendar.civil_day(window.start_s)),
            last=ends,
        ),
        state=" ".join([say(f"page.{span}_state"), *([say("page.next_day")] if _next_day(ctx, quartier) else [])]),
        places=places,
        codes=codes_of.year_file(quartier.slug) if long.codes else "",
        codes_size=say.size(long.codes),
        hours=codes_of.hours_file(quartier.slug),
        hours_size=say.size(long.hours),
        listed=listed,
        hours_say=say("codes.usual") if span == "month" else say("codes.hours") if levels else "",
        faults=(ANNOTATIONS, say("page.faults", size=say.size(ctx.octets[ANNOTATIONS])))
        if any(story.marks for _, stories, *_ in places for story in stories)
        else None,
    )


def _listed(stories: Sequence[Story]) -> str:
    """Returns the codes of the streams of a place as one list."""
    return "\n".join(f"{one.heading}\n{one.codes}" for one in stories if one.codes)


def joint_rows(sites: int, streams: int, others: int) -> int:
    """Returns how many rows the tables of a month or a year may have together, for each place, so that the page stays
    within its budget of elements. `others`: elements that annotations and the links of the foot take."""
    left = MOST_ELEMENTS - _LONG_ELEMENTS - _LONG_SITE_ELEMENTS * sites - _LONG_STREAM_ELEMENTS * streams - others
    return max(1, min(MONTH_DAYS, left // max(1, 2 * sites + streams)))


def _neighbourhood(ctx: Build, say: Language, quartier: Quartier, week: bool, long: _Long) -> tuple[str, bytes]:
    zone, window, views = ctx.calendar.zone, ctx.today, ctx.of_today
    if week:
        window, views = ctx.week, ctx.of_week
    csv, codes = quartier_file(quartier.slug, week), codes_of.file(quartier.slug)
    sites = ctx.city.sites_of(quartier.slug)
    shown = [view for site in sites for view in views.get(site.id, ())]
    marks = [min(MOST_MARKS, len(view.marks)) for view in shown if view.marks]
    full = _LINK_ELEMENTS + sum(_MARKED_ELEMENTS + _MARK_ELEMENTS * of_one for of_one in marks) if marks else 0
    foot = link_elements(ctx.links)
    rows, brief = table_rows(len(sites), len(shown), week, foot + full), False
    if marks and rows < LEAST_ROWS:
        short = _LINK_ELEMENTS + (1 + _MARKED_ELEMENTS) * len(marks)
        rows, brief = table_rows(len(sites), len(shown), week, foot + short), True
    teller = Teller(say, rows, brief, coded=ctx.coded)
    chronicler = Chronicler(say, thresholds=ctx.thresholds)
    answerer = Answerer(say, ctx.thresholds, zone, ctx.calendar.civil_day(window.end_s - 1))
    places: list[tuple[Site, list[Story]]] = []
    for site in sites:
        stories = []
        for view in views.get(site.id, ()):
            name = f"c{shown.index(view)}"
            if week:
                habits = [chronicler.usual(one) for one in long.streams["week"] if one.stream == view.stream]
                stories.append(teller.week(view, site.name, name, [habit for habit in habits if habit]))
                continue
            fact = ctx.facts.get(view.stream)
            answers = answerer.all(fact, site.dominant) if fact else ()
            stories.append(teller.today(view, site.name, name, answers))
        places.append((site, stories))
    listed, legend = "", None
    if rows < LEAST_ROWS:  # no room even for a table's second row: one list of codes and one legend are for all
        legend = _legend([one.chart for _, told in places for one in told if one.chart])
        of_places = [(site.name, _listed(told)) for site, told in places]
        listed = "\n".join(f"{name}\n{lines}" for name, lines in of_places if lines)
        places = [(site, [replace(one, codes="") for one in told]) for site, told in places]
    hours = codes_of.hours_file(quartier.slug)
    date = say.date(window.end_s - 1, zone)
    hour = say.clock(ctx.now_s, zone)
    if week:
        written = say("page.week_span", first=say.day(window.start_s, zone), last=date, hour=hour)
    else:
        written = capital(say("page.written", date=date, hour=hour))
    over = ctx.now_s >= window.end_s
    return ctx.page(
        "quartier.html",
        say,
        f"quartiers/{quartier.slug}/{'semaine/' if week else ''}",
        title=say(
            f"page.{'week' if week else 'today'}_title",
            quartier=quartier.name,
            date=date.partition(" ")[2],
            city=ctx.city.city,
        ),
        quartier=quartier,
        head=date if over and not week else say(f"page.{'week' if week else 'today'}_head"),
        periods=PERIODS,
        period="semaine/" if week else "",
        written=written,
        state=" ".join(
            [say(f"page.{'week_' if week else ''}{'final' if over else 'provisional'}"), *_fresh(ctx, say, shown)]
        ),
        places=places,
        cannot=[say(f"cannot.{key}") for kind, key in _FIRST if any(view.quantity.kind == kind for view in shown)],
        promises=promises(say, [(site, view) for site in sites for view in views.get(site.id, ())]),
        sheets=sheets(ctx, say, quartier),
        csv=csv,
        csv_size=say.size(ctx.octets[csv]),
        codes=codes if codes in ctx.octets else "",
        listed=listed,
        legend=legend,
        codes_say=say("codes.listed" if listed else "codes.what"),
        codes_size=say.size(ctx.octets.get(codes, 0)),
        hours=hours if hours in ctx.octets else "",
        hours_size=say.size(ctx.octets.get(hours, 0)),
        faults=(ANNOTATIONS, say("page.faults", size=say.size(ctx.octets[ANNOTATIONS])))
        if any(story.marks for _, stories in places for story in stories)
        else None,
    )


def _legend(charts: Sequence[Chart]) -> Chart | None:
    """Returns the first chart with whatever its legend has to explain of all, None where there is none."""
    if not charts:
        return None
    return replace(
        charts[0],
        line=any(one.line for one in charts),
        gaps=any(one.gaps for one in charts),
        faulty=any(one.faulty for one in charts),
    )


def _fresh(ctx: Build, say: Language, views: Sequence[StreamView]) -> Iterator[str]:
    """Yields until when there are figures, and after when the next can be there: no promise, since gateways and centre
    may stand still."""
    zone = ctx.calendar.zone
    last_s = max((figure.end_s for one in views for figure in one.scalar.values()), default=None)
    if last_s is not None:
        until = say.hour(last_s, zone, midnight_is_24=True)
        if last_s > ctx.today.start_s:
            yield say("page.fresh", until=until)
        else:
            yield say("page.fresh_on", day=say.date(last_s - 1, zone), until=until)
    next_s = min((end_s for one in views for end_s in due(one)), default=None)
    if next_s is not None:
        yield say("page.next", hour=say.clock(next_s, zone))


def table_rows(sites: int, streams: int, week: bool, others: int = 0) -> int:
    """Returns how many rows a table may have so that the page stays within its budget of elements; the rest is in the
    CSV file. Twenty-four as long as a neighbourhood has at most three streams; beyond eight not one row fits.
    `others`: elements that annotations and the links of the foot take."""
    stream = _WEEK_ELEMENTS if week else _DAY_ELEMENTS
    left = MOST_ELEMENTS - _AROUND_ELEMENTS - _SITE_ELEMENTS * sites - stream * streams - others
    return max(1, min(MOST_ROWS, int(left / (_ROW_ELEMENTS * max(1, streams)))))
