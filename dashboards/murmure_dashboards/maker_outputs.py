"""What a neighbourhood says elsewhere than on its pages: in a feed, on paper, by telephone."""

from __future__ import annotations

from collections.abc import Iterator

from murmure_dashboards import daily
from murmure_dashboards.feed import feed
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.pages import address
from murmure_dashboards.spoken import message, telephone
from murmure_dashboards.wording import LANGUAGES, language


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the outputs of each neighbourhood in each language."""
    day = next(iter(daily.days_over(ctx)), None)
    for code in LANGUAGES:
        say = language(code)
        for quartier in ctx.city.quartier:
            folder = address(code, f"quartiers/{quartier.slug}/")
            yield f"{folder}atom.xml", feed(ctx, say, quartier)
            yield f"{folder}message.txt", f"{message(ctx, say, quartier, day)}\n".encode()
            yield f"{folder}telephone.txt", ("\n\n".join(telephone(ctx, say, quartier, day)) + "\n").encode()


MAKER = Maker(files)
