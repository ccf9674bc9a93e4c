"""The city's page of the day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from murmure_dashboards import citymap, months
from murmure_dashboards.answers import Answerer
from murmure_dashboards.config import Quartier
from murmure_dashboards.facts import Fact
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.opendata import ANNOTATIONS
from murmure_dashboards.pages import link_elements
from murmure_dashboards.paging import parts
from murmure_dashboards.story import Teller
from murmure_dashboards.wording import LANGUAGES, Language, capital, language

_HOME_ELEMENTS = 378
MONTHS_SHOWN = 2
MOST_TOLD = 60  # neighbourhoods; of more, a page only names them and says their state
NAMES_A_PAGE = 150


@dataclass(frozen=True, slots=True)
class Listed:
    """A neighbourhood in the list beside the map. `number`: the one that the map shows, "" where it shows names.
    `brief`: the answer in short; `state`: what the map shows, in words; `places`: of each site its name and its lines.
    """

    quartier: Quartier
    number: str
    brief: str
    state: str
    places: Sequence[tuple[str, Sequence[tuple[str, str, str, str, str]]]]


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the pages in each language."""
    made = None
    for code in LANGUAGES:
        say = language(code)
        answerer = Answerer(say, ctx.thresholds, ctx.calendar.zone, ctx.calendar.civil_day(ctx.today.start_s))
        known = {quartier.slug: _facts(ctx, say, quartier) for quartier in ctx.city.quartier}
        states = {slug: answerer.state(_told(found)) for slug, found in known.items()}
        made = made or _map(ctx, states)  # the same in every language
        yield from _home(ctx, answerer, known, states, made)


MAKER = Maker(files)


def _facts(ctx: Build, say: Language, quartier: Quartier) -> list[tuple[str, Fact | None]]:
    """Returns what is known of each stream of a quartier, by its name in a sentence."""
    sites = ctx.city.sites_of(quartier.slug)
    found = []
    for site in sites:
        for view in ctx.of_today.get(site.id, ()):
            name = say(f"quantity.{view.quantity.name}")
            name = name if name[1:2].isupper() else f"{name[:1].lower()}{name[1:]}"  # PM10 stays
            found.append((f"{name} ({site.name})" if len(sites) > 1 else name, ctx.facts.get(view.stream)))
    return found


def _told(known: Sequence[tuple[str, Fact | None]]) -> list[Fact]:
    return [fact for _, fact in known if fact]


def _home(
    ctx: Build,
    answerer: Answerer,
    known: Mapping[str, Sequence[tuple[str, Fact | None]]],
    states: Mapping[str, str],
    drawn: citymap.Map | None,
) -> Iterator[tuple[str, bytes]]:
    city, day, zone, say = ctx.city, ctx.today, ctx.calendar.zone, answerer.say
    period = "day" if ctx.now_s >= day.end_s else "so_far"
    short = len(city.quartier) > MOST_TOLD
    listed = [
        Listed(
            quartier,
            say("map.number", number=number) if drawn and drawn.numbered else "",
            answerer.brief(known[quartier.slug]),
            say(f"map.{states[quartier.slug]}"),
            () if short else _places(ctx, Teller(say, often=False), quartier, period),
        )
        for number, quartier in enumerate(city.quartier, 1)
    ]
    counts = {state: list(states.values()).count(state) for state in citymap.STATES}
    legend = [
        (state, citymap.sign(state), say.counted("map.line", count, words=say(f"map.{state}"), number=count))
        for state, count in counts.items()
        if count
    ]
    elements = (
        5
        + 2 * len(legend)
        + sum(4 + sum(1 + sum(3 + bool(line[-1]) for line in lines) for _, lines in one.places) for one in listed)
    )
    date = say.date(day.start_s, zone)
    next_s = _next_s(ctx)
    coming = f" {say('page.home_next', hour=say.clock(next_s, zone))}" if next_s is not None else ""
    for part in parts("", listed, NAMES_A_PAGE if short else len(listed)):
        title = say("page.home_title", city=city.city, date=date)
        yield ctx.page(
            "home.html",
            say,
            part.path,
            title=title
            if part.number == 1
            else f"{title}{say('register.numbered', number=part.number, of=len(part.of))}",
            head=say("page.home_day", date=date) if period == "day" else say("page.home_head"),
            answer=answerer.city([_told(found) for found in known.values()]) if part.number == 1 else "",
            written=f"{capital(say('page.written', date=date, hour=say.clock(ctx.now_s, zone)))}{coming}",
            part=part,
            map=drawn.svg if drawn and part.number == 1 else "",
            legend=legend,
            short=short,
            compact=elements + link_elements(ctx.links) > _HOME_ELEMENTS,
            months=[
                (path, say("page.month", month=say.month(at_s, zone), size=say.size(ctx.octets[path])))
                for at_s, path in months.newest(ctx.editions, ctx.calendar, MONTHS_SHOWN)
            ],
            faults=(ANNOTATIONS, say("page.faults", size=say.size(ctx.octets[ANNOTATIONS]))),
        )


def _places(
    ctx: Build, teller: Teller, quartier: Quartier, period: str
) -> list[tuple[str, list[tuple[str, str, str, str, str]]]]:
    """Returns what each stream of a neighbourhood says of today, by site."""
    day = ctx.today
    return [
        (
            site.name,
            [
                (
                    teller.say(f"quantity.{view.quantity.name}"),
                    *teller.key(view, day, period),
                    teller.silence(view, day),
                    teller.faults(view),
                )
                for view in ctx.of_today.get(site.id, ())
            ],
        )
        for site in ctx.city.sites_of(quartier.slug)
    ]


def _next_s(ctx: Build) -> int | None:
    """Returns when the next figure can be there (seconds UTC), None where no rule says so."""
    rules = {view.rule[1] for views in ctx.of_today.values() for view in views if view.rule}
    levels = {level for part in rules for level, _ in part.nodes}
    return min((ctx.calendar.node(level, ctx.now_s).end_s for level in levels), default=None)


def _map(ctx: Build, states: Mapping[str, str]) -> citymap.Map | None:
    """Returns the map, None where the town has told no borders."""
    grounds = {area.slug: area for area in ctx.city.geojson}
    cells = [
        citymap.Cell(quartier.slug, quartier.name, number, states[quartier.slug], f"quartiers/{quartier.slug}/")
        for number, quartier in enumerate(ctx.city.quartier, 1)
        if quartier.slug in grounds
    ]
    return citymap.draw([grounds[cell.slug] for cell in cells], cells) if cells else None
