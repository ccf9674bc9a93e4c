"""What a neighbourhood says elsewhere than on its pages: in a feed, on paper, by telephone."""

from __future__ import annotations

from collections.abc import Iterator

from murmure_dashboards.feed import feed
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.pages import address
from murmure_dashboards.wording import LANGUAGES, language


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the outputs of each neighbourhood in each language."""
    for code in LANGUAGES:
        say = language(code)
        for quartier in ctx.city.quartier:
            yield f"{address(code, f'quartiers/{quartier.slug}/')}atom.xml", feed(ctx, say, quartier)


MAKER = Maker(files)
