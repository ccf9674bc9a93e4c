"""Writes the whole site beside the old one, then switches: nobody ever sees half a site.

`OUT` is a symbolic link to a folder `OUT.new-…` next to it. A build fills a fresh folder and renames a new link over
the old one, which POSIX makes atomic. The folder that was current before stays until the next build, so that a reader
who has just followed the link still finds every file.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from murmure_privacy.annotation import in_force
from murmure_privacy.errors import MurmureError
from murmure_privacy.policies import Rules
from murmure_privacy.stream import QUANTITIES
from murmure_privacy.window import Calendar, Window

from murmure_dashboards import (
    codes,
    decision_feed,
    journal,
    maker_data,
    maker_home,
    maker_outputs,
    maker_privacy,
    maker_quartier,
    maker_register,
    maker_statements,
    months,
    opendata,
    pages,
)
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.packed import compressed
from murmure_dashboards.pdf import Press
from murmure_dashboards.remembered import remembered
from murmure_dashboards.store import Store
from murmure_dashboards.views import ArchiveReader

WEEK_DAYS = 7
# Who makes the pages, one line each, in the order of the links at their foot. Each sees the sizes of what was made
# before its turn, open data first; pages lead to those sheets of paper that are there.
MAKERS: tuple[Maker, ...] = (
    maker_outputs.OUTPUTS,
    maker_home.MAKER,
    maker_quartier.MAKER,
    maker_register.MAKER,
    maker_privacy.MAKER,
    decision_feed.MAKER,
    maker_data.MAKER,
    maker_outputs.MAKER,
    maker_statements.MAKER,
)


class SiteError(MurmureError):
    """The site cannot be put where it should go: name another folder, or make room."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build wrote: `pages` in both languages, `files` with data, pictures and compressed twins, `octets` of all
    files. `unlisted`: sites of the archive that city.toml does not name, and which therefore have no page."""

    pages: int
    files: int
    octets: int
    unlisted: tuple[str, ...]


def build(archive: ArchiveReader, city: City, out: Path, now_s: int, press: Press | None = None) -> BuildReport:
    """Writes the site as of `now_s` (seconds UTC) and makes `out` lead to it.

    Today is the civil day that contains `now_s - 1`: at midnight the pages still show the whole day that has ended.
    `press` prints bulletins as PDF, those that it has no time for when its `rest` is called; without it there are none.
    Raises SiteError where `out` is something else than a site or an empty folder, OSError where the disk refuses.
    """
    listed = {site.id for site in city.site}
    with beside(out) as folder:
        before, journal_before = months.shelf(out), journal.shelf(out)
        count, pages_written, octets = 0, 0, 0

        def keep(path: str) -> None:
            nonlocal count, octets
            for name in (path, f"{path}.gz"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(out / name, folder / name)
                count, octets = count + 1, octets + (folder / name).stat().st_size

        with closing(Store.open(out.with_name(f"{out.name}.store"), archive, city.timezone)) as store:
            for path, content in render(archive, city, now_s, before, keep, press, store, journal_before):
                pages_written += path.endswith(".html")
                for name, data in ((path, content), (f"{path}.gz", compressed(content))):
                    write(folder / name, data)
                    count, octets = count + 1, octets + len(data)
    return BuildReport(
        pages=pages_written,
        files=count,
        octets=octets,
        unlisted=tuple(sorted({info.site for info in archive.streams()} - listed)),
    )


@contextmanager
def beside(out: Path, durable: bool = True) -> Iterator[Path]:
    """Gives a fresh folder to fill, then makes `out` lead to it. One build at a time: a second waits.

    `durable`: whether a power cut just afterwards leaves one of the two whole; it costs a sync of the disk."""
    parent = out.parent
    parent.mkdir(parents=True, exist_ok=True)
    if not out.is_symlink() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SiteError(f"{out}: --out: holds something that is no site; name a new or empty folder")
    with (parent / f"{out.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = out.readlink().name if out.is_symlink() else None
        folder = Path(tempfile.mkdtemp(prefix=f"{out.name}.new-", dir=parent))
        try:
            folder.chmod(0o755)
            yield folder
            if durable:
                os.sync()  # a link that survives a power cut must not lead to empty files
            link = parent / f"{out.name}.link"
            link.unlink(missing_ok=True)
            link.symlink_to(folder.name)
            if before is None and out.is_dir():
                out.rmdir()
            link.replace(out)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        for old in parent.iterdir():
            if old.name.startswith(f"{out.name}.new-") and old.name not in (folder.name, before):
                shutil.rmtree(old, ignore_errors=True)


def render(
    archive: ArchiveReader,
    city: City,
    now_s: int,
    before: months.Shelf = months.NOTHING,
    keep: Callable[[str], None] = lambda path: None,
    press: Press | None = None,
    store: Store | None = None,
    journal_before: journal.Shelf = journal.NOTHING,
) -> Iterator[tuple[str, bytes]]:
    """Yields every file of the site as (path below its root, content), but for those that the site before has already
    for good (`before` its months, `journal_before` its journal): `keep` is told of them."""
    calendar = Calendar(city.timezone)
    today = calendar.day(now_s - 1)
    listed = [site.id for site in city.site]
    notes = [one for one in archive.annotations() if one.note.site in listed and one.note.issued_s <= now_s]
    marks = in_force([one.note for one in notes], now_s)
    store = store or Store(None)
    known = remembered(archive, store, calendar, now_s)
    octets: dict[str, int] = {}
    heaviest: dict[str, bytes] = {}
    ctx = Build(
        archive=known,
        city=city,
        rules=Rules(known),
        calendar=calendar,
        now_s=now_s,
        today=today,
        week=week_to(calendar, today),
        streams=sorted(archive.streams(), key=lambda info: (info.site, _order(info.quantity), info.stream)),
        marks=marks,
        editions=[],
        ledger=[],
        octets=octets,
        heaviest=heaviest,
        links=[link for maker in MAKERS for link in maker.links],
        press=press,
        store=store,
    )

    def data() -> Iterator[tuple[str, bytes]]:
        for name in pages.STATIC:
            yield f"static/{name}", pages.static(name)
        for quartier in city.quartier:
            sites = [site.id for site in city.sites_of(quartier.slug)]
            infos = [info for site in sites for info in ctx.streams if info.site == site]
            for week, window in ((False, ctx.today), (True, ctx.week)):
                rows = (block.rows for info in infos for block in ctx.blocks.of(info, window))
                yield opendata.quartier_file(quartier.slug, week), b"".join((opendata.table(()), *rows))
            if archive.signed_checkpoint() is not None:
                told = (
                    row for site in sites for one in ctx.of_week.get(site, ()) for row in opendata.rows(one, ctx.rules)
                )
                yield codes.file(quartier.slug), codes.table(told)
        yield opendata.ANNOTATIONS, opendata.faults(notes, marks)
        yield from maker_data.data(ctx, before, keep)
        yield from journal.files(archive, journal_before, keep)
        octets.update((edition.path, edition.octets) for edition in ctx.editions)

    def made() -> Iterator[tuple[str, bytes]]:
        yield from data()
        for maker in MAKERS:
            yield from maker.files(ctx)

    for path, content in made():
        octets[path] = len(content)
        kind = maker_statements.kind(path)
        if kind is not None and len(content) > len(heaviest.get(kind, b"")):
            heaviest[kind] = content
        yield path, content


def _order(quantity: str) -> int:
    return list(QUANTITIES).index(quantity)


def week_to(calendar: Calendar, today: Window) -> Window:
    """Returns the seven civil days that end with a day."""
    first = today
    for _ in range(WEEK_DAYS - 1):
        first = calendar.day(first.start_s - 1)
    return Window(first.start_s, today.end_s)


def write(path: Path, content: bytes) -> None:
    """Writes a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
