"""What the site says of itself: easy to read, its method, how accessible it is, and what it weighs, measured."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser

from murmure_privacy.stream import QUANTITIES

from murmure_dashboards import months
from murmure_dashboards.cannot import proofs
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.pages import Link, static
from murmure_dashboards.wording import LANGUAGES, Language, language

EASY, METHOD, ACCESS, FOOTPRINT = "facile/", "methode/", "accessibilite/", "empreinte/"
CONFORMITY = "not_audited"
"""The only state there is until people have audited the site: no test by a machine may say more."""
_OF_EACH = ("quartiers", "capteurs", "vie-privee", "c")  # folders with a page for each of something
_KINDS = ("count", "level", "mean")
# The sentences of the easy-to-read page, by section; one that begins with a kind stands there where it is measured.
_EASY: Mapping[str, Sequence[str]] = {
    "measure": ("1", "2", "level", "mean", "count_1", "count_2", "3", "4", "5", "6"),
    "not": ("count_1", "count_2", "count_3", "level_1", "level_2", "mean_1"),
    "protect": tuple(map(str, range(1, 12))),
    "decide": tuple(map(str, range(1, 7))),
    "ask": tuple(map(str, range(1, 8))),
    "see": ("1", "2"),
    "checked": tuple(map(str, range(1, 7))),
}
_EASY_LINKS: Mapping[str, Sequence[tuple[str, str]]] = {
    "protect": (("protect_link", "vie-privee/"),),
    "decide": (("decide_link", "capteurs/"),),
    "ask": (("ask_link", "demandes/formulaire/"),),
    "see": (("see_link", ""), ("see_paper", "suivre/")),
}
_SECTIONS = {"figures": 5, "margins": 4, "levels": 3, "missing": 3}  # sentences of the method
_FORMULAS = 6


def kind(path: str) -> str | None:
    """Returns what kind of page stands at a path: its address with `*` for whatever it is about; None for no page, and
    for pages in another language, which have the same kinds."""
    if not path.endswith(".html") or path.startswith(f"{LANGUAGES[1]}/"):
        return None
    folders = path.removesuffix("index.html").split("/")
    if folders[0] in _OF_EACH and len(folders) > 2:
        folders[1] = "*"
    return "/".join("*" if re.fullmatch(r"[\d-]+", folder) else folder for folder in folders)


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the pages in each language."""
    heavy = [_weighed(name, page) for name, page in sorted(ctx.heaviest.items())]
    for code in LANGUAGES:
        say = language(code)
        yield _easy(ctx, say)
        yield _method(ctx, say)
        yield _access(ctx, say)
        yield _footprint(ctx, say, heavy)


MAKER = Maker(
    files,
    (
        Link("easy.link", EASY),
        Link("method.link", METHOD),
        Link("access.link", ACCESS),
        Link("footprint.link", FOOTPRINT),
    ),
)


def _easy(ctx: Build, say: Language) -> tuple[str, bytes]:
    """The easy-to-read page: of what this town measures, and of nothing else."""
    kinds = {QUANTITIES[info.quantity].kind for info in ctx.streams}
    days, help_in_french = ctx.city.answer_days, say.code != LANGUAGES[0]
    answered = say("easy.ask_no_days") if days is None else say("easy.ask_days", days=say.number(days))
    sections = []
    for section, parts in _EASY.items():
        told = [
            (say(f"easy.{section}_{part}"), False)
            for part in parts
            if part.partition("_")[0] in kinds or not part.startswith(_KINDS)
        ]
        if section == "measure" and not kinds:
            told = [(say("easy.measure_none"), False)]
        if section == "ask":
            told[5:5] = [(say.typeset(ctx.city.help), help_in_french)]
            told.append((answered, False))
        if told:
            links = [(say(f"easy.{key}"), path) for key, path in _EASY_LINKS.get(section, ())]
            sections.append((section, say(f"easy.{section}_head"), told, links))
    return ctx.page(
        "easy.html",
        say,
        EASY,
        title=say("easy.page_title", city=ctx.city.city),
        intro=[say(f"easy.intro_{number}") for number in (1, 2)],
        sections=sections,
    )


def _method(ctx: Build, say: Language) -> tuple[str, bytes]:
    bounds = {"low": "…", "high": "…"}
    return ctx.page(
        "method.html",
        say,
        METHOD,
        title=say("method.page_title", city=ctx.city.city),
        sections=[
            (say(f"method.{name}_head"), [say(f"method.{name}_{number}") for number in range(1, count + 1)])
            for name, count in _SECTIONS.items()
        ],
        formulas=[say(f"method.privacy_{number}") for number in range(1, _FORMULAS + 1)],
        proofs=[(say(f"cannot.{key}", **bounds).partition(".")[0], tests) for key, tests in proofs().items()],
        ledger=months.LEDGER,
    )


def _access(ctx: Build, say: Language) -> tuple[str, bytes]:
    return ctx.page(
        "access.html",
        say,
        ACCESS,
        title=say("access.page_title", city=ctx.city.city),
        owner=ctx.city.publisher or ctx.city.city,
        state=say(f"access.{CONFORMITY}"),
        written=say.civil(ctx.calendar.civil_day(ctx.now_s - 1)),
    )


@dataclass(frozen=True, slots=True)
class Weight:
    """A page as it travels: its compressed size in octets, its elements outside pictures, and how many requests a
    browser makes for it."""

    name: str
    octets: int
    elements: int
    requests: int


class _Counter(HTMLParser):
    """Counts elements outside SVG, and the files that a browser fetches with the page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements, self.requests, self._inside = 0, 1, False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = self._inside or tag == "svg"
        self.elements += not self._inside or tag == "svg"
        known = dict(attrs)
        self.requests += "src" in known or (tag == "link" and known.get("rel") in ("stylesheet", "icon"))

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "svg"


def _weighed(name: str, page: bytes) -> Weight:
    counted = _Counter(page)
    return Weight(name, len(gzip.compress(page, mtime=0)), counted.elements, counted.requests)


def _footprint(ctx: Build, say: Language, heavy: list[Weight]) -> tuple[str, bytes]:
    shared = sum(len(gzip.compress(static(name), mtime=0)) for name in ("murmure.css", "murmure.svg"))
    return ctx.page(
        "footprint.html",
        say,
        FOOTPRINT,
        title=say("footprint.page_title", city=ctx.city.city),
        rows=[
            (f"/{one.name}", *map(say.number, (-(-one.octets // 1000), one.elements, one.requests))) for one in heavy
        ],
        heaviest=say("footprint.heaviest", size=say.size(max((one.octets for one in heavy), default=0))),
        shared=say("footprint.shared", size=say.size(shared)),
        total=say("footprint.total", files=say.number(len(ctx.octets)), size=say.size(sum(ctx.octets.values()))),
    )
