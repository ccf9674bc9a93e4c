"""The open data: the files of the months, what they cost, what describes them, and the page that explains them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from murmure_privacy.release import Outcome
from murmure_privacy.window import Window

from murmure_dashboards import catalogue, months, opendata, parquet
from murmure_dashboards.blocks import Blocks
from murmure_dashboards.catalogue import Catalogue, File
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.months import FOLDER, Edition, Month, Rows, Shelf
from murmure_dashboards.packed import Content, joined, pieces, segment, stored
from murmure_dashboards.pages import Link
from murmure_dashboards.store import version
from murmure_dashboards.wording import LANGUAGES, Language, language

POLICIES = f"{FOLDER}politiques/"
_READ = 6  # sentences on how to read a file
_SUMS_SHOWN = 60  # more editions than these, and the page leaves the sums to SHA256SUMS
_NEWEST = 12  # editions that stand open on the page
_MOST_POLICIES = 20  # more than these, and the page says where they are
_HEADER = segment(opendata.table(()))
_DESCRIBING = ("datapackage.json", "csv-metadata.json", "catalogue.jsonld")


def data(ctx: Build, before: Shelf, keep: Callable[[str], None]) -> Iterator[tuple[str, Content]]:
    """Yields the files that follow from the archive alone, and fills `ctx.editions` and `ctx.ledger`.
    `before`: what the site before has; `keep` is told of what stands there and will not change."""
    sites = sorted(site.id for site in ctx.city.site)
    infos = [info for site in sites for info in ctx.streams if info.site == site]
    streams, everywhere = [info.stream for info in infos], [info.stream for info in ctx.streams]
    before = months.fitting(ctx.archive, streams, before)
    now = months.since(ctx.archive, everywhere, streams, ctx.calendar, ctx.now_s, before)

    spent_in: dict[int, list[bytes]] = {}

    def table(window: Window, row: int | None, at_s: int) -> Rows:
        blocks = ctx.blocks
        if row is not None:
            blocks = Blocks(_AsOf(ctx.archive, row), ctx.rules, ctx.calendar, at_s, None)
        days = [day for day in ctx.calendar.days(window) if day.start_s < at_s]
        until_s = max([window.start_s, *(day.end_s for day in days if day.end_s <= at_s)])
        found = [pair for info in infos for pair in zip(days, blocks.of(info, window), strict=True)]
        if row is None:
            spent_in[window.start_s] = [block.ledger for _, block in found]
        packed = [block.packed for _, block in found if block.packed]
        over = [block.packed for day, block in found if day.end_s <= until_s]
        name = ctx.calendar.civil_day(window.start_s).strftime("%Y-%m")
        made_by = version(), parquet.edition(), *(catalogue.about(ctx.city, name, number) for number in (1, 2))
        of = hashlib.sha256(b"".join((repr((made_by, until_s)).encode(), *over))).hexdigest()
        return Rows(pieces([_HEADER, *packed] if packed else ()), lambda: joined([_HEADER, *over]), until_s, of)

    def columnar(month: str, number: int, content: bytes) -> bytes:
        made = parquet.table(catalogue.columns("releases"), content, catalogue.about(ctx.city, month, number))
        return stored(made)

    found: list[Month] = []
    ledger: list[bytes] = []
    for month in months.written(ctx.archive, streams, ctx.calendar, ctx.now_s, before, now, table, columnar):
        found.append(month)
        ctx.editions.extend(month.editions)
        for edition in month.editions:
            for path in (edition.path, edition.columnar):
                if path in month.contents:
                    yield path, month.contents[path]
                else:
                    keep(path)
        if month.kept and month.name in before.spent:
            ledger.append(before.spent[month.name])
            continue
        if month.window.start_s in spent_in:
            ledger += spent_in[month.window.start_s]
        else:
            ledger += [block.ledger for info in infos for block in ctx.blocks.of(info, month.window)]
    spent = b"".join(ledger)
    ctx.ledger.extend(spent.splitlines())
    yield months.LEDGER, spent
    yield months.SUMS, months.sums(ctx.editions)
    yield months.STATE, months.state(now, found, spent)
    for site in sites:
        for policy in ctx.archive.policies(site):
            yield f"{POLICIES}{policy.hash.hex()}.toml", policy.toml
            yield f"{POLICIES}{policy.hash.hex()}.cose", policy.sealed


class _AsOf:
    """The archive as it was at a row."""

    def __init__(self, archive: months.OrderedArchive, row: int) -> None:
        self._archive, self._row = archive, row

    def outcomes(self, stream: str, from_s: int, to_s: int) -> Sequence[Outcome]:
        """Returns the nodes of a stream that intersect `[from_s, to_s)` and had come by then."""
        return self._archive.outcomes_by(self._row, stream, from_s, to_s)


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the descriptors, and the page in each language."""
    began = ctx.editions[0].month if ctx.editions else None
    period = None if began is None else Window(ctx.calendar.midnight(months.first_day(began)), ctx.now_s)
    beside = [File(opendata.ANNOTATIONS, ctx.octets[opendata.ANNOTATIONS], "annotations")]
    if ctx.editions:
        beside.append(File(months.LEDGER, ctx.octets[months.LEDGER], "ledger"))
    told = Catalogue(ctx.city, ctx.editions, beside, period)
    made = told.descriptors()
    yield from made.items()
    sizes = {path: len(content) for path, content in made.items()} | {file.path: file.octets for file in beside}
    for code in LANGUAGES:
        yield _page(ctx, language(code), told, sizes)


MAKER = Maker(files, (Link("data.link", FOLDER),))


def _page(ctx: Build, say: Language, told: Catalogue, sizes: Mapping[str, int]) -> tuple[str, bytes]:
    newest = sorted(ctx.editions, key=lambda one: (one.month, one.number), reverse=True)
    others = [opendata.ANNOTATIONS, months.LEDGER, catalogue.SITES, *(f"{FOLDER}{name}" for name in _DESCRIBING)]
    policies = [
        (
            say("data.policy", site=site.name, version=policy.version),
            *(f"{POLICIES}{policy.hash.hex()}.{kind}" for kind in ("toml", "cose")),
        )
        for site in ctx.city.site
        for policy in ctx.archive.policies(site.id)
    ]
    return ctx.page(
        "data.html",
        say,
        FOLDER,
        title=say("data.page_title", city=ctx.city.city),
        licence=say(f"data.licence_{ctx.city.licence}", licence=told.licence[0]),
        licence_path=catalogue.LICENCE,
        editions=[(one, _name(ctx, say, one), _about(ctx, say, one), _columnar(ctx, say, one)) for one in newest],
        sums=months.SUMS,
        show_sums=len(newest) <= _SUMS_SHOWN,
        others=[
            (path, f"{say('data.other_' + path.removeprefix(FOLDER).partition('.')[0])} {say.size(sizes[path])}")
            for path in others
            if path in sizes
        ],
        policies=policies,
        reading=[say(f"data.read_{number}") for number in range(1, _READ + 1)],
        newest=_NEWEST,
        many=len(policies) > _MOST_POLICIES,
        columns=[(one.name, say(f"releases_column.{one.name}")) for one in catalogue.columns("releases")],
    )


def _name(ctx: Build, say: Language, edition: Edition) -> str:
    month = say.month(ctx.calendar.midnight(months.first_day(edition.month)), ctx.calendar.zone)
    return month if edition.number == 1 else f"{month}, {say('data.edition', number=edition.number)}"


def _about(ctx: Build, say: Language, edition: Edition) -> str:
    if edition.closed_s is None:
        state = say("data.open")
    else:
        state = say("data.closed", date=say.civil(ctx.calendar.civil_day(edition.closed_s)))
    return f"CSV, {say.size(edition.octets)}, {state}"


def _columnar(ctx: Build, say: Language, edition: Edition) -> str:
    return say("data.twin", month=_name(ctx, say, edition), size=say.size(edition.columnar_octets))
