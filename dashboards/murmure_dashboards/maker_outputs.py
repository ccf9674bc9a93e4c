"""What a neighbourhood says elsewhere than on its pages: in a feed, on paper, by telephone."""

from __future__ import annotations

from collections.abc import Iterator

from murmure_dashboards import daily
from murmure_dashboards.bulletin import STYLE, bulletin, style
from murmure_dashboards.feed import feed
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.pages import Link, address
from murmure_dashboards.paging import parts
from murmure_dashboards.spoken import message, telephone
from murmure_dashboards.wording import LANGUAGES, language

FOLLOW = "suivre/"
QUARTIERS_A_PAGE = 50


def outputs(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the outputs of each neighbourhood in each language."""
    days = daily.days_over(ctx)
    day = next(iter(days), None)
    views = ctx.views(day) if day else {}
    facts = daily.known(ctx, views)
    yield STYLE, style()
    for code in LANGUAGES:
        say = language(code)
        for quartier in ctx.city.quartier:
            folder = address(code, f"quartiers/{quartier.slug}/")
            told = {one: daily.said(ctx, say, quartier, one) for one in days}
            found = told[day] if day else []
            brief = daily.in_brief(ctx, say, quartier, day, facts) if day and found else ""
            yield f"{folder}atom.xml", feed(ctx, say, quartier, told)
            yield f"{folder}message.txt", f"{message(ctx, say, quartier, day, found)}\n".encode()
            yield (
                f"{folder}telephone.txt",
                ("\n\n".join(telephone(ctx, say, quartier, day, found, brief)) + "\n").encode(),
            )
            for large in (False, True):
                yield from bulletin(ctx, say, quartier, day, found, brief, views, large)


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the pages that lead to the outputs."""
    for code in LANGUAGES:
        say = language(code)
        title = say("bulletin.page_title", city=ctx.city.city)
        for part in parts(FOLLOW, ctx.city.quartier, QUARTIERS_A_PAGE):
            numbered = say("register.numbered", number=part.number, of=len(part.of)) if part.number > 1 else ""
            yield ctx.page("follow.html", say, part.path, title=f"{title}{numbered}", part=part)


OUTPUTS = Maker(outputs)
MAKER = Maker(files, (Link("bulletin.link", FOLLOW),))
