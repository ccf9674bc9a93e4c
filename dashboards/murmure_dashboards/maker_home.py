"""The city's page of the day."""

from __future__ import annotations

from collections.abc import Iterator

from murmure_dashboards import months
from murmure_dashboards.answers import Answerer
from murmure_dashboards.config import Quartier
from murmure_dashboards.facts import Fact
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.opendata import ANNOTATIONS
from murmure_dashboards.pages import link_elements
from murmure_dashboards.story import Teller
from murmure_dashboards.wording import LANGUAGES, Language, capital, language

_HOME_ELEMENTS = 378
MONTHS_SHOWN = 2


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the page in each language."""
    for code in LANGUAGES:
        yield _home(ctx, language(code))


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


def _home(ctx: Build, say: Language) -> tuple[str, bytes]:
    city, day, zone = ctx.city, ctx.today, ctx.calendar.zone
    teller = Teller(say, often=False)
    period = "day" if ctx.now_s >= day.end_s else "so_far"
    answerer = Answerer(say, ctx.thresholds, zone, ctx.calendar.civil_day(day.start_s))
    known = {quartier.slug: _facts(ctx, say, quartier) for quartier in city.quartier}
    quartiers = [
        (
            quartier,
            answerer.brief(known[quartier.slug]),
            [
                (
                    site.name,
                    [
                        (
                            say(f"quantity.{view.quantity.name}"),
                            *teller.key(view, day, period),
                            teller.silence(view, day),
                            teller.faults(view),
                        )
                        for view in ctx.of_today.get(site.id, ())
                    ],
                )
                for site in city.sites_of(quartier.slug)
            ],
        )
        for quartier in city.quartier
    ]
    elements = sum(
        4 + sum(1 + sum(3 + bool(line[-1]) for line in lines) for _, lines in places) for _, _, places in quartiers
    )
    date = say.date(day.start_s, zone)
    return ctx.page(
        "home.html",
        say,
        "",
        title=say("page.home_title", city=city.city, date=date),
        head=say("page.home_day", date=date) if period == "day" else say("page.home_head"),
        answer=answerer.city([[fact for _, fact in facts if fact] for facts in known.values()]),
        written=capital(say("page.written", date=date, hour=say.clock(ctx.now_s, zone))),
        quartiers=quartiers,
        compact=elements + link_elements(ctx.links) > _HOME_ELEMENTS,
        months=[
            (path, say("page.month", month=say.month(at_s, zone), size=say.size(ctx.octets[path])))
            for at_s, path in months.newest(ctx.editions, ctx.calendar, MONTHS_SHOWN)
        ],
        faults=(ANNOTATIONS, say("page.faults", size=say.size(ctx.octets[ANNOTATIONS]))),
    )
