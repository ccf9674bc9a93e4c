"""The pages of a neighbourhood: its day and its week."""

from __future__ import annotations

from collections.abc import Iterator

from murmure_dashboards.answers import Answerer
from murmure_dashboards.config import Quartier, Site
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.opendata import ANNOTATIONS, quartier_file
from murmure_dashboards.pages import MOST_ELEMENTS, link_elements
from murmure_dashboards.promises import promises
from murmure_dashboards.story import MOST_MARKS, MOST_ROWS, Story, Teller
from murmure_dashboards.wording import LANGUAGES, Language, capital, language

LEAST_ROWS = 2
# What sensors of each kind cannot know, first of all; the page of each place has the rest.
_FIRST = (("count", "footfall_who"), ("level", "noise_said"), ("mean", "air_indicative"))
# What a neighbourhood page is made of: around everything, a site, a stream of a day or a week, a row of a table.
_AROUND_ELEMENTS, _SITE_ELEMENTS, _DAY_ELEMENTS, _WEEK_ELEMENTS, _ROW_ELEMENTS = 60, 7, 37, 40, 3.1
# Of annotations: the file of all, the legend of a marked chart; one with its paragraph, what stands out, its language.
_LINK_ELEMENTS, _MARKED_ELEMENTS, _MARK_ELEMENTS = 2, 1, 3


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the pages of each neighbourhood in each language."""
    for code in LANGUAGES:
        for quartier in ctx.city.quartier:
            for week in (False, True):
                yield _neighbourhood(ctx, language(code), quartier, week)


MAKER = Maker(files)


def _neighbourhood(ctx: Build, say: Language, quartier: Quartier, week: bool) -> tuple[str, bytes]:
    zone, window, views = ctx.calendar.zone, ctx.today, ctx.of_today
    if week:
        window, views = ctx.week, ctx.of_week
    csv = quartier_file(quartier.slug, week)
    sites = ctx.city.sites_of(quartier.slug)
    shown = [view for site in sites for view in views.get(site.id, ())]
    marks = [min(MOST_MARKS, len(view.marks)) for view in shown if view.marks]
    full = _LINK_ELEMENTS + sum(_MARKED_ELEMENTS + _MARK_ELEMENTS * of_one for of_one in marks) if marks else 0
    foot = link_elements(ctx.links)
    rows, brief = table_rows(len(sites), len(shown), week, foot + full), False
    if marks and rows < LEAST_ROWS:
        short = _LINK_ELEMENTS + (1 + _MARKED_ELEMENTS) * len(marks)
        rows, brief = table_rows(len(sites), len(shown), week, foot + short), True
    teller = Teller(say, rows, brief)
    answerer = Answerer(say, ctx.thresholds, zone, ctx.calendar.civil_day(window.end_s - 1))
    places: list[tuple[Site, list[Story]]] = []
    for site in sites:
        stories = []
        for view in views.get(site.id, ()):
            name = f"c{shown.index(view)}"
            fact = ctx.facts.get(view.stream)
            answers = answerer.all(fact, site.dominant) if fact else ()
            stories.append(teller.week(view, site.name, name) if week else teller.today(view, site.name, name, answers))
        places.append((site, stories))
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
        week=week,
        written=written,
        state=say(f"page.{'week_' if week else ''}{'final' if over else 'provisional'}"),
        places=places,
        cannot=[say(f"cannot.{key}") for kind, key in _FIRST if any(view.quantity.kind == kind for view in shown)],
        promises=promises(say, [(site, view) for site in sites for view in views.get(site.id, ())]),
        csv=csv,
        csv_size=say.size(ctx.octets[csv]),
        faults=(ANNOTATIONS, say("page.faults", size=say.size(ctx.octets[ANNOTATIONS])))
        if any(story.marks for _, stories in places for story in stories)
        else None,
    )


def table_rows(sites: int, streams: int, week: bool, others: int = 0) -> int:
    """Returns how many rows a table may have so that the page stays within its budget of elements; the rest is in the
    CSV file. Twenty-four as long as a neighbourhood has at most three streams; beyond eight not one row fits.
    `others`: elements that annotations and the links of the foot take."""
    stream = _WEEK_ELEMENTS if week else _DAY_ELEMENTS
    left = MOST_ELEMENTS - _AROUND_ELEMENTS - _SITE_ELEMENTS * sites - stream * streams - others
    return max(1, min(MOST_ROWS, int(left / (_ROW_ELEMENTS * max(1, streams)))))
