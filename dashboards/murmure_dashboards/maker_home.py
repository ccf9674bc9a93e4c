"""The city's page of the day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from murmure_privacy.publication import RUNNING
from murmure_privacy.window import Window

from murmure_dashboards import citymap, months
from murmure_dashboards.answers import Answerer
from murmure_dashboards.config import Quartier
from murmure_dashboards.daily import answered
from murmure_dashboards.facts import Fact
from murmure_dashboards.left_out import short as left_out
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.opendata import ANNOTATIONS
from murmure_dashboards.pages import link_elements
from murmure_dashboards.paging import parts
from murmure_dashboards.story import Teller, key_codes
from murmure_dashboards.views import StreamView
from murmure_dashboards.wording import LANGUAGES, Language, capital, language

_HOME_ELEMENTS = 376
_CODES_ELEMENTS, _A_LINE = 5, 2
MOST_CODES = 700
"""Of a page: some six kilo-octets, compressed."""
MONTHS_SHOWN = 2
MOST_TOLD = 60  # neighbourhoods; of more, a page only names them and says their state
NAMES_A_PAGE = 150
MOST_REASONS = 4


@dataclass(frozen=True, slots=True)
class Listed:
    """A neighbourhood in the list beside the map. `number`: the one that the map shows, "" where it shows names.
    `brief`: the answer in short; `state`: what the map shows, in words, and why where there is no figure; `codes`: of
    each figure its name, with that of its place, and its codes; `places`: of each site its name and its lines.
    """

    quartier: Quartier
    number: str
    brief: str
    state: str
    codes: Sequence[tuple[str, Sequence[str]]]
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
    """Returns what is known of each stream of a quartier that has figures, or should have, by its name."""
    sites = ctx.city.sites_of(quartier.slug)
    found = []
    for site in sites:
        for info in ctx.streams_of(site.id):
            name = say(f"quantity.{info.quantity}")
            name = name if name[1:2].isupper() else f"{name[:1].lower()}{name[1:]}"  # PM10 stays
            glance = ctx.glance(site, info)
            if glance.expected:
                found.append((f"{name} ({site.name})" if len(sites) > 1 else name, glance.fact))
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
    reasons = {slug: _reason(ctx, say, slug, state) for slug, state in states.items()}
    listed = [
        Listed(
            quartier,
            say("map.number", number=number) if drawn and drawn.numbered else "",
            answerer.brief(known[quartier.slug], answered(ctx, quartier, len(known[quartier.slug]))),
            _because(say, say(f"map.{states[quartier.slug]}"), reasons[quartier.slug]),
            () if short or not ctx.coded else list(_codes(ctx, say, quartier, period)),
            () if short else _places(ctx, Teller(say, often=False), quartier, period),
        )
        for number, quartier in enumerate(city.quartier, 1)
    ]
    counts = {state: list(states.values()).count(state) for state in citymap.STATES}
    legend = [
        (state, citymap.sign(state), say.counted("map.line", count, words=say(f"map.{state}"), number=count) + why)
        for state, count in counts.items()
        if count
        for why in [_shared(say, [reasons[slug] for slug, of in states.items() if of == state])]
    ]
    elements = (
        5
        + 2 * len(legend)
        + sum(4 + sum(1 + sum(3 + bool(line[-1]) for line in lines) for _, lines in one.places) for one in listed)
    )
    codes, most = _listing(say, [line for one in listed for line in one.codes])
    elements += _CODES_ELEMENTS * bool(codes)
    figured = any(_told(found) for found in known.values())  # just after midnight there is none yet
    date = say.date(day.start_s, zone)
    next_s = _next_s(ctx)
    coming = f" {say('page.next', hour=say.clock(next_s, zone))}" if next_s is not None else ""
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
            codes=codes,
            codes_rest=say("codes.home_rest", number=most) if most else "",
            codes_short=say("codes.home_short") if ctx.coded and not codes and figured else "",
            compact=elements + link_elements(ctx.links) > _HOME_ELEMENTS,
            months=list(_tables(ctx, say)),
            faults=(ANNOTATIONS, say("page.faults", size=say.size(ctx.octets[ANNOTATIONS]))),
        )


def _tables(ctx: Build, say: Language) -> Iterator[tuple[str, str]]:
    """Yields the files with all values of the city, newest first, and what a link to each says: of a month that goes
    on, until when."""
    if ctx.editions:
        yield RUNNING, say("page.running", size=say.size(ctx.octets[RUNNING]))
    for edition in months.newest(ctx.editions, MONTHS_SHOWN):
        first, last = months.first_day(edition.month), months.last_day(edition, ctx.calendar)
        month = say.month(ctx.calendar.midnight(first), ctx.calendar.zone)
        size = say.size(ctx.octets[edition.path])
        if last is None:
            yield edition.path, say("page.month", month=month, size=size)
        elif last >= first:
            yield edition.path, say("page.month_until", date=say.civil(last), size=size)


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
                    *_figure(teller, view, day, period),
                    teller.silence(view, day),
                    teller.faults(view),
                )
                for view in ctx.shown(site.id)
            ],
        )
        for site in ctx.city.sites_of(quartier.slug)
    ]


def _codes(ctx: Build, say: Language, quartier: Quartier, period: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Yields the name of each figure of a neighbourhood, and the codes of what it comes from."""
    teller, day = Teller(say, often=False), ctx.today
    for site in ctx.city.sites_of(quartier.slug):
        for view in ctx.shown(site.id):
            number, detail = teller.key(view, day, period)
            if detail and number != say("key.none"):
                about = f"{quartier.name}, {site.name}, {say(f'quantity.{view.quantity.name}')}"
                yield about, key_codes(view, day, period)


def _listing(say: Language, figures: Sequence[tuple[str, Sequence[str]]]) -> tuple[str, int]:
    """Returns the codes of figures, by the name of each, and how many each has at most: 0 where all are there. ""
    where there is no room for one of each."""
    most = max((len(codes) for _, codes in figures), default=0)
    whole = most
    while most and sum(min(most, len(codes)) for _, codes in figures) > MOST_CODES:
        most -= 1
    if not most:
        return "", 0
    lines = []
    for name, codes in figures:
        shown, rest = codes[:most], len(codes) - most
        lines += [name, *(f"  {' '.join(shown[at : at + _A_LINE])}" for at in range(0, len(shown), _A_LINE))]
        if rest > 0:
            lines.append(f"  {say.counted('codes.others', rest, number=rest)}")
    return "\n".join(lines), most if most < whole else 0


def _figure(teller: Teller, view: StreamView, day: Window, period: str) -> tuple[str, str]:
    """Returns the number of a stream and the rest of its sentence: why there is none, where there is none."""
    number, detail = teller.key(view, day, period)
    if detail:
        return number, detail
    if _state(view, day) == "left":
        return number, left_out(teller.say, view.left)
    return teller.say("absent.number"), _why(teller.say, view, day)


def _state(view: StreamView, day: Window) -> str:
    """Returns why a stream has no figure of a day, as its last interval has it."""
    slots = view.slots(day)
    return next((slot.state for slot in reversed(slots) if slot.missing), slots[-1].state)


def _why(say: Language, view: StreamView, day: Window) -> str:
    state = _state(view, day)
    return say(f"absent.{state}" if f"absent.{state}" in say.texts else f"state.{state}")


def _reason(ctx: Build, say: Language, slug: str, state: str) -> str:
    """Returns why the map shows no figure of a neighbourhood, or why it compares none that stewards marked as faulty;
    "" where the state says all."""
    sites, day = ctx.city.sites_of(slug), ctx.today
    facts = [fact for site in sites for info in ctx.streams_of(site.id) if (fact := ctx.glance(site, info).fact)]
    if state == "cannot" and all(fact.faulty for fact in facts):
        views = [view for site in sites for view in ctx.shown(site.id)]
        marks = [mark for view in views for mark in view.marks if mark.to_s > day.start_s and mark.from_s < day.end_s]
        said = [say("absent.faulty", cause=say(f"cause.{mark.cause}")) for mark in marks]
    elif state == "none":
        views = [view for site in sites for view in ctx.shown(site.id)]
        said = [_why(say, view, day) for view in views] or [say("absent.no_stream" if sites else "absent.no_site")]
    else:
        said = []
    return f" {say('number.and')} ".join(dict.fromkeys(said))


def _because(say: Language, state: str, reason: str) -> str:
    return say("absent.because", state=state, reason=reason) if reason else state


def _shared(say: Language, reasons: Sequence[str]) -> str:
    """Returns the reasons of all neighbourhoods of a state, the most frequent first, with how many have each."""
    found = Counter(filter(None, reasons)).most_common()
    if not found:
        return ""
    if found == [(found[0][0], len(reasons))]:
        return say("absent.all", reason=found[0][0])
    shown = [say("absent.some", reason=reason, number=count) for reason, count in found[:MOST_REASONS]]
    rest = sum(count for _, count in found[MOST_REASONS:])
    return say(
        "absent.all", reason=say("key.apart").join([*shown, *([say("absent.rest", number=rest)] if rest else [])])
    )


def _next_s(ctx: Build) -> int | None:
    """Returns when the next figure can be there (seconds UTC), None where nothing is expected."""
    glances = (ctx.glance(site, info) for site in ctx.city.site for info in ctx.streams_of(site.id))
    return min((end_s for one in glances for end_s in one.due), default=None)


def _map(ctx: Build, states: Mapping[str, str]) -> citymap.Map | None:
    """Returns the map, None where the town has told no borders."""
    grounds = {area.slug: area for area in ctx.city.geojson}
    cells = [
        citymap.Cell(quartier.slug, quartier.name, number, states[quartier.slug], f"quartiers/{quartier.slug}/")
        for number, quartier in enumerate(ctx.city.quartier, 1)
        if quartier.slug in grounds
    ]
    return citymap.draw([grounds[cell.slug] for cell in cells], cells) if cells else None
