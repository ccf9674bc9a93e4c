"""The open data: the files of the months, what they cost, what describes them, and the page that explains them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from murmure_privacy import publication
from murmure_privacy.publication import RUNNING
from murmure_privacy.release import Outcome
from murmure_privacy.window import Calendar, Window

from murmure_dashboards import catalogue, months, opendata, parquet
from murmure_dashboards.blocks import Blocks
from murmure_dashboards.catalogue import Catalogue, File
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.months import FOLDER, Edition, Month, Rows, Shelf
from murmure_dashboards.packed import Content, Pieces, pieces, segment, stored
from murmure_dashboards.pages import Link
from murmure_dashboards.store import version
from murmure_dashboards.wording import LANGUAGES, Language, language

POLICIES = publication.POLICIES
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
    kept = ctx.store.seen if ctx.store else None
    now = months.since(ctx.archive, everywhere, streams, ctx.calendar, ctx.now_s, before, kept)

    day = ctx.calendar.day(ctx.now_s)  # the one that runs, unless it has yet to begin
    running = {info.stream: ctx.blocks.on(info, day) for info in infos} if day.start_s < ctx.now_s else {}
    spent_in: dict[int, list[bytes]] = {}

    def table(window: Window, row: int | None, at_s: int) -> Rows:
        over, blocks = _over(ctx.calendar, window, at_s), {info.stream: ctx.blocks for info in infos}
        held = [(info, ctx.blocks.together(info, over)) for info in infos]
        if row is not None:  # asked once they are worked out: something may come meanwhile
            then = Blocks(_AsOf(ctx.archive, row), ctx.rules, ctx.calendar, at_s, None)
            grown = dict.fromkeys(_grown(ctx.archive, row, streams, months.around(ctx.calendar, window)), then)
            blocks |= grown
            held = [(info, then.together(info, over) if info.stream in grown else one) for info, one in held]
        today = running if row is None and day.start_s in window else {}
        begun = any(one.begun for _, one in held) or any(block.packed for block in today.values())
        if row is None:
            spent_in[window.start_s] = [
                part for info, one in held for part in (one.ledger, today[info.stream].ledger if today else b"")
            ]
        name = ctx.calendar.civil_day(window.start_s).strftime("%Y-%m")
        made_by = version(), parquet.edition(), *(catalogue.about(ctx.city, name, number, None) for number in (1, 2))
        told = repr((made_by, begun, over.end_s)).encode()
        of = hashlib.sha256(b"".join((told, *(one.sum for _, one in held)))).hexdigest()

        def made() -> Pieces:
            packed = [block.packed for info in infos for block in blocks[info.stream].of(info, over) if block.packed]
            return pieces([_HEADER, *packed] if begun else ())

        return Rows(made, over.end_s, of)

    def columnar(edition: Edition, content: bytes) -> bytes:
        last_day = months.last_day(edition, ctx.calendar)
        about = catalogue.about(ctx.city, edition.month, edition.number, last_day)
        return stored(parquet.table(catalogue.columns("releases"), content, about))

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
    if found:
        yield RUNNING, pieces([_HEADER, *(block.packed for block in running.values() if block.packed)])
    spent = b"".join(ledger)
    ctx.ledger.extend(spent.splitlines())
    yield months.LEDGER, spent
    yield months.SUMS, months.sums(ctx.editions)
    yield months.STATE, months.state(now, found, spent)
    for policy in ctx.archive.policies():  # of sites that are not listed, too: the log names them, and residents look
        yield f"{POLICIES}{policy.hash.hex()}.toml", policy.toml
        yield f"{POLICIES}{policy.hash.hex()}.cose", policy.sealed


def prepare(ctx: Build, before: Shelf) -> None:
    """Works out what the files of months that are not closed yet have of some neighbourhoods, and keeps it. `before`:
    what the site before has."""
    streams = [info.stream for info in ctx.streams]
    for window in months.unclosed(ctx.archive, streams, ctx.calendar, ctx.now_s, before):
        for info in ctx.streams:
            ctx.blocks.together(info, _over(ctx.calendar, window, ctx.now_s))


def _over(calendar: Calendar, month: Window, at_s: int) -> Window:
    """Returns the days of a month that are over at an instant."""
    ends_s = (day.end_s for day in calendar.days(month) if day.end_s <= at_s)
    return Window(month.start_s, max([month.start_s, *ends_s]))


def _grown(archive: months.OrderedArchive, row: int, streams: Sequence[str], wide: Window) -> Iterator[str]:
    """Yields the streams of which something has come after a month was closed at a row: `wide`, all that it is
    estimated from, was over by then, so that of the others it is as it was."""
    for stream in streams:
        if archive.rows_after(row, (stream,), wide.start_s, wide.end_s):
            yield stream


class _AsOf:
    """The archive as it was at a row."""

    def __init__(self, archive: months.OrderedArchive, row: int) -> None:
        self._archive, self._row = archive, row

    def outcomes(self, stream: str, from_s: int, to_s: int) -> Sequence[Outcome]:
        """Returns the nodes of a stream that intersect `[from_s, to_s)` and had come by then."""
        return self._archive.outcomes_by(self._row, stream, from_s, to_s)

    def began_s(self, stream: str) -> int | None:
        """Returns when the first node of a stream that ends ends, whenever it came."""
        return self._archive.began_s(stream)


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the descriptors, and the page in each language."""
    began = ctx.editions[0].month if ctx.editions else None
    period = None if began is None else Window(ctx.calendar.midnight(months.first_day(began)), ctx.now_s)
    beside = [File(opendata.ANNOTATIONS, ctx.octets[opendata.ANNOTATIONS], "annotations")]
    if ctx.editions:
        beside.append(File(RUNNING, ctx.octets[RUNNING], "releases"))
        beside.append(File(months.LEDGER, ctx.octets[months.LEDGER], "ledger"))
    told = Catalogue(ctx.city, ctx.editions, beside, period, ctx.calendar)
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
        running=(RUNNING, say("data.running", size=say.size(sizes[RUNNING]))) if newest else None,
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
    last_day = months.last_day(edition, ctx.calendar)
    if edition.closed_s is not None:
        state = say("data.closed", date=say.civil(ctx.calendar.civil_day(edition.closed_s)))
    elif last_day is None:
        state = say("data.open")
    elif last_day < months.first_day(edition.month):
        state = say("data.begun")
    else:
        state = say("data.until", date=say.civil(last_day))
    return f"CSV, {say.size(edition.octets)}, {state}"


def _columnar(ctx: Build, say: Language, edition: Edition) -> str:
    return say("data.twin", month=_name(ctx, say, edition), size=say.size(edition.columnar_octets))
