"""The pages of a neighbourhood: its day, its week, its month and its year."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from murmure_privacy.window import PARTS, Window

from murmure_dashboards import codes as codes_of
from murmure_dashboards.bulletin import sheets
from murmure_dashboards.charts import Chart, Table
from murmure_dashboards.chronicle import Chronicler, Span, groups_of, joined
from murmure_dashboards.config import Site
from murmure_dashboards.due import next_day
from murmure_dashboards.kept import sum_of_days
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.opendata import ANNOTATIONS, quartier_file
from murmure_dashboards.pages import link_elements, story
from murmure_dashboards.promises import promises
from murmure_dashboards.room import no_data_elements, of_span
from murmure_dashboards.spans import stretches, windows
from murmure_dashboards.stories import Shown, Streams
from murmure_dashboards.story import Story
from murmure_dashboards.stretch import Stretch
from murmure_dashboards.usual import WEEKS
from murmure_dashboards.wording import LANGUAGES, Language, capital, language

MOST_CODES = 700
"""Of a month: a page with more leaves them to their file. Some six kilo-octets, compressed."""
MOST_JOINT = 24
"""More rows than these are cut into several tables: nobody reads a longer one."""
SPANS: Mapping[Span, str] = {"month": "mois/", "year": "annee/"}
PERIODS = (("page.today", ""), ("page.week", "semaine/"), ("page.of_month", "mois/"), ("page.of_year", "annee/"))
_HOURS_S = (WEEKS + 1) * 7 * 86_400  # what is usual on each day of a week
# What sensors of each kind cannot know, first of all; the page of each place has the rest.
_FIRST = (("count", "footfall_who"), ("level", "noise_said"), ("mean", "air_indicative"))


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the pages of each neighbourhood in each language."""
    for quartier in ctx.quartiers:
        streams = Streams(ctx, quartier)
        # How each is told comes first, since it works out the days that the others are made of; then the pages of the
        # month and of the year, since those of the day and of the week lead to the codes of the weeks before.
        shown = streams.shown
        yield from ctx.unless_kept(f"long {quartier.slug}", _made_of(streams), _spans(streams))
        for code in LANGUAGES:
            for week, of_page in shown.items():
                yield _neighbourhood(streams, language(code), week, of_page)


def _spans(streams: Streams) -> Iterator[tuple[str, bytes]]:
    """Yields the pages of the month and of the year, and the codes of what they are made of."""
    ctx, quartier = streams.ctx, streams.quartier
    long = _long(streams)
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
            yield _of_span(streams, language(code), span, long)


def _hours(ctx: Build, long: _Long) -> Iterator[str]:
    """Yields the codes of the hours of the weeks that tell what is usual, and of those that Lden and Ln are made of."""
    recent_s = long.windows["year"].end_s - _HOURS_S
    for one in long.streams["year"]:
        for day in one.days:
            if day.hours and day.of.start_s >= recent_s:
                yield codes_of.run_lines(one.stream, one.quantity.printed, day.hours)
            if day.energies:
                yield codes_of.run_lines(one.stream, "energy_mean", day.energies)


def _made_of(streams: Streams) -> Mapping[str, object] | None:
    """Returns all that these follow from, by name, None while some of it can still change without a node."""
    ctx, infos = streams.ctx, [info for _, info in streams.infos]
    of = windows(ctx)
    whole = Window(min(window.start_s for window in of.values()), of["year"].end_s)
    days = [(info.stream, info.quantity, sum_of_days(ctx.days, info, whole)) for info in infos]
    if any(found is None for _, _, found in days):
        return None
    marks = [mark for mark in ctx.marks if mark.stream in {info.stream for info in infos}]
    policies = [policy.hash for site in streams.sites for policy in ctx.policies(site.id)]
    return {
        "windows": of,
        "days": days,
        "marks": marks,
        "octets": marks and ctx.octets[ANNOTATIONS],
        "policies": policies,
        "coded": ctx.coded,
        "next day": _next_day(streams),
    }


def _next_day(streams: Streams) -> bool:
    """Returns whether any stream of a neighbourhood is to have figures of the day after those that are over."""
    ctx = streams.ctx
    last = ctx.calendar.day(windows(ctx)["year"].end_s - 1)
    return any(
        next_day(*streams.standing(info), day, ctx.calendar, ctx.rules)
        for _, info in streams.infos
        for day in ctx.days.of(info, last)
        if not any(one.holds(ctx.calendar.day(day.span.end_s)) for one in ctx.days.decided(info).left)
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


def _long(streams: Streams) -> _Long:
    found: dict[str, list[Stretch]] = {span: [] for span in SPANS}
    for _, info in streams.infos:
        for span, one in stretches(streams.ctx, info, SPANS).items():
            found[span].append(one)
    return _Long(windows(streams.ctx), found)


def _parted(streams: Streams) -> tuple[list[Site], list[Site]]:
    """Returns the places of a neighbourhood with streams, and those from which nothing has come yet."""
    measured = {site.id for site, _ in streams.infos}
    return (
        [site for site in streams.sites if site.id in measured],
        [site for site in streams.sites if site.id not in measured],
    )


def _of_span(streams: Streams, say: Language, span: Span, long: _Long) -> tuple[str, bytes]:
    """Returns the page of a month or of a year."""
    ctx, quartier = streams.ctx, streams.quartier
    window, shown = long.windows[span], long.streams[span]
    measured, no_data = _parted(streams)
    marks = [len(one.marks) for one in shown]
    room = of_span(len(measured), marks, link_elements(ctx.links) + no_data_elements(len(no_data)))
    longest = max((len(groups_of(one, span)) for one in shown), default=1)
    block = max(1, -(-longest // room.rows))
    teller = Chronicler(say, brief=room.brief, coded=ctx.coded, thresholds=ctx.thresholds, block=block)
    places = []
    for site in measured:
        stories = [
            (teller.month if span == "month" else teller.year)(one, site, f"c{number}")
            for number, one in enumerate(shown)
            if one.site == site.id
        ]
        places.append((site, stories, joined(stories, MOST_JOINT), _listed(stories)))
    listed = ""
    if room.crowded:  # one list for all places
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
        state=" ".join([say(f"page.{span}_state"), *([say("page.next_day")] if _next_day(streams) else [])]),
        places=places,
        no_data=no_data,
        linked=not room.crowded,
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


def _neighbourhood(streams: Streams, say: Language, week: bool, of_page: Mapping[str, Shown]) -> tuple[str, bytes]:
    """Returns the page of a day or of a week."""
    ctx, quartier = streams.ctx, streams.quartier
    zone, window = ctx.calendar.zone, ctx.week if week else ctx.today
    csv, codes = quartier_file(quartier.slug, week), codes_of.file(quartier.slug)
    shown = list(of_page.values())
    measured, no_data = _parted(streams)
    places = [(site, [of_page[info.stream] for info in ctx.streams_of(site.id)]) for site in measured]
    listed, legend, joint = "", None, None
    if streams.rooms[week].crowded:
        stories = [(site, [one.stories[say.code] for one in told]) for site, told in places]
        legend = _legend([one.chart for _, told in stories for one in told if one.chart])
        of_places = [(site.name, _listed(told)) for site, told in stories]
        listed = "\n".join(f"{name}\n{lines}" for name, lines in of_places if lines)
        joint = _joint(say, stories, say.day(window.end_s - 1, zone)) if week else None
        pieces = [
            (site, [story(say, replace(one, codes=""), legend, table=not week) for one in told])
            for site, told in stories
        ]
    else:
        pieces = [(site, [one.pieces[say.code] for one in told]) for site, told in places]
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
        state=" ".join([say(f"page.{'week_' if week else ''}{_final(ctx, window, shown)}"), *_fresh(ctx, say, shown)]),
        places=pieces,
        no_data=no_data,
        linked=not streams.rooms[week].crowded,
        joint=joint,
        cannot=[say(f"cannot.{key}") for kind, key in _FIRST if any(one.quantity.kind == kind for one in shown)],
        promises=promises(say, [(site, one) for site, told in places for one in told]),
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
        if any(one.marked for one in shown)
        else None,
    )


def _final(ctx: Build, window: Window, shown: Sequence[Shown]) -> str:
    """Returns whether the figures of a page can still move, and until when: with the nodes that are open, by the rules
    of its streams."""
    of_each = [{level for level, _ in one.rule[1].nodes} for one in shown if one.rule] or [set[str]()]
    # Each by its own period: on Sunday at midnight a week is over, and the night of another stream is not.
    still = [levels for levels in of_each if ctx.calendar.period(levels, window.end_s - 1).end_s > ctx.now_s]
    levels = set[str]().union(*still)
    if not still:
        return "final"
    return "provisional_week" if "1w" in levels else "provisional" if levels.isdisjoint(PARTS) else "provisional_night"


def _joint(say: Language, places: Sequence[tuple[Site, Sequence[Story]]], day: str) -> Table | None:
    """Returns one table of a crowded week, with the last day of each stream: with a table of one row for each, the page
    would not keep within its budget."""
    rows = []
    for site, stories in places:
        for one in stories:
            if one.chart:
                (_, *more), (_, figure, *levels) = one.chart.table.columns, one.chart.table.rows[-1]
                for column, level in zip(more[1:], levels, strict=True):
                    figure = say("table.and_level", amount=figure, column=column, level=level)
                rows.append((say("table.of", place=site.name, quantity=one.heading, unit=one.chart.unit), figure))
    header = say("table.place"), say("table.figure")
    return Table(say("table.joint", day=day), header, tuple(rows)) if rows else None


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


def _fresh(ctx: Build, say: Language, shown: Sequence[Shown]) -> Iterator[str]:
    """Yields until when there are figures, and after when the next can be there: no promise, since gateways and centre
    may stand still."""
    zone = ctx.calendar.zone
    last_s = max((one.last_s for one in shown if one.last_s is not None), default=None)
    if last_s is not None:
        until = say.hour(last_s, zone, midnight_is_24=True)
        if last_s > ctx.today.start_s:
            yield say("page.fresh", until=until)
        else:
            yield say("page.fresh_on", day=say.date(last_s - 1, zone), until=until)
    next_s = min((end_s for one in shown for end_s in one.due_s), default=None)
    if next_s is not None:
        yield say("page.next", hour=say.clock(next_s, zone))
