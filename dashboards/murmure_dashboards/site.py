"""Writes the whole site beside the old one, then switches: nobody ever sees half a site.

`OUT` is a symbolic link to a folder `OUT.new-…` next to it. A build fills another folder and renames a new link over
the old one, which POSIX makes atomic. The folder that was current before stays until the next switch, so that a reader
who has just followed the link still finds every file. The one before that is what the next build fills: most of its
files are those of today's site, and to make five thousand folders and to delete them took a town's build longer than
its pages. What stands in it decides nothing: each file is linked from the current site or written anew, never into a
file that another folder shares, and what is left over is removed before the switch. Who still reads that site began
before the last switch but one; if the last was just now, the build fills an empty folder.
"""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import cast

from murmure_privacy.annotation import in_force
from murmure_privacy.errors import MurmureError
from murmure_privacy.policies import Rules
from murmure_privacy.stream import QUANTITIES
from murmure_privacy.window import Calendar, Window
from murmure_privacy.wordings import Wordings

from murmure_dashboards import (
    blocks,
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
    remembered,
    usual,
)
from murmure_dashboards import kept as kept_of
from murmure_dashboards.config import City
from murmure_dashboards.kept import Kept
from murmure_dashboards.maker import Build, Glance, Maker
from murmure_dashboards.packed import Content, compressed, joined, segment
from murmure_dashboards.pdf import Press
from murmure_dashboards.store import Store, version
from murmure_dashboards.views import ArchiveReader
from murmure_dashboards.wording import LANGUAGES, language

WEEK_DAYS = 7
KEPT_DAYS = 70
"""For how long nodes and rows stay in the store: a month, and the weeks that tell what is usual."""
FIGURE_DAYS = 15
"""For how long the figures of each node do: a week, and the week that one of its days may belong to."""
_FORGOT = "forgot"
"""In the store: on which day it was last gone through for that."""
SELDOM = (1_000_000, 50, 100)
"""Objects, and collections of younger ones, between two collections of each generation."""
PATIENCE_S = 600
"""How long the last switch must be ago for a build to fill a folder again."""
WRITTEN_INTO = 1 << 20
"""Octets: a longer file is not written into. Whoever fetches this much for longer than that has given up."""
LEAST_APART = 8
"""Neighbourhoods: with fewer, what another process would save is less than a second."""
_TEMPLATES = (
    "base.html",
    "figure.html",
    "long.html",
    "no_data.html",
    "periods.html",
    "quartier.html",
    "story.html",
    "why.html",
)
"""Of the pages of neighbourhoods."""
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


@dataclass(frozen=True, slots=True)
class Crew:
    """Processes that make the pages of neighbourhoods beside this one, which makes all else. `reopen` gives each the
    archive: a connection must not cross a fork."""

    reopen: Callable[[], ArchiveReader]
    workers: int


@dataclass(slots=True)
class _Made:
    """What was written so far: the size of each file by its path, and what of all files together is reported.
    `like`: what files in the folder must look like to be written into, as `probed` says. `heaviest`: the longest French
    page of each kind."""

    folder: Path | None
    like: os.stat_result | None = None
    octets: dict[str, int] = field(default_factory=dict)
    heaviest: dict[str, bytes] = field(default_factory=dict)
    pages: int = 0
    files: int = 0
    total: int = 0
    _folders: set[str] = field(default_factory=set)
    _standing: list[tuple[str, list[str], list[str]]] | None = None

    def note(self, path: str, content: Content) -> None:
        """Takes down a file."""
        self.octets[path] = len(content)
        kind = maker_statements.kind(path)
        if kind is not None and isinstance(content, bytes) and len(content) > len(self.heaviest.get(kind, b"")):
            self.heaviest[kind] = content

    def write(self, path: str, content: Content) -> None:
        """Writes a file and its compressed twin."""
        assert self.folder is not None, "whoever only renders writes nothing"
        self.pages += path.endswith(".html")
        target = self._place(path)
        both = ([content], [compressed(content)]) if isinstance(content, bytes) else (content.parts, content.gz)
        for name, parts in zip((target, f"{target}.gz"), both, strict=True):
            put(name, parts, self.like)
            self.files, self.total = self.files + 1, self.total + sum(map(len, parts))

    def link(self, before: Path, path: str) -> int:
        """Links a file of the site before, and its compressed twin; returns its size."""
        assert self.folder is not None, "whoever only renders links nothing"
        self.pages += path.endswith(".html")
        target, sizes = self._place(path), []
        for end in ("", ".gz"):
            sizes.append(_linked(f"{before}/{path}{end}", f"{target}{end}"))
        self.files, self.total = self.files + len(sizes), self.total + sum(sizes)
        return sizes[0]

    def _place(self, path: str) -> str:
        """Returns where a file is to stand, in a folder that is there."""
        target = f"{self.folder}/{path}"
        above = target.rpartition("/")[0]
        self._ensure(above)
        return target

    def _ensure(self, above: str) -> None:
        """Has a folder be there: one of its own, no link that leads to another site."""
        if above in self._folders or above == str(self.folder):
            return
        self._ensure(above.rpartition("/")[0])
        folder = Path(above)
        try:
            folder.mkdir()
        except FileExistsError:
            if not S_ISDIR(folder.lstat().st_mode):  # a version before had a file of that name
                with suppress(FileNotFoundError, IsADirectoryError):  # another process was faster
                    folder.unlink()
                folder.mkdir(exist_ok=True)
        self._folders.add(above)

    def look(self) -> None:
        """Takes down what stands in the folder, which takes a while: others may still write there."""
        assert self.folder is not None, "whoever only renders has no folder"
        self._standing = [*os.walk(self.folder, topdown=False, onerror=_refuse)]

    def sweep(self) -> None:
        """Removes what stood in the folder and is not of this build."""
        if self._standing is None:
            self.look()
        own = {f"{self.folder}/{path}" for path in self.octets}
        above = own
        while above := {path.rpartition("/")[0] for path in above} - {str(self.folder)}:
            self._folders |= above
        for folder, folders, files in self._standing or ():
            for path in (f"{folder}/{name}" for name in files):
                if path not in own and path.removesuffix(".gz") not in own and path not in self._folders:
                    with suppress(FileNotFoundError, NotADirectoryError):  # it was in the way of a page
                        os.unlink(path)  # noqa: PTH108
            for other in (Path(folder, name) for name in folders if f"{folder}/{name}" not in self._folders):
                if other.is_symlink():
                    other.unlink()
                else:
                    with suppress(OSError):  # a page has its name, or it is gone
                        other.rmdir()

    def kept(self, before: Path, store: Store, now_s: int) -> Kept:
        """Returns what gives the files of the site before that are the same now."""

        def take(path: str) -> None:
            self.octets[path] = octets = self.link(before, path)
            kind = maker_statements.kind(path)
            if kind is not None and octets > len(self.heaviest.get(kind, b"")):
                self.heaviest[kind] = (before / path).read_bytes()

        return Kept(before, store, now_s, take, os.urandom)

    def add(self, other: _Made) -> None:
        """Takes down what another process wrote of later neighbourhoods."""
        self.octets |= other.octets
        for kind, content in other.heaviest.items():
            if len(content) > len(self.heaviest.get(kind, b"")):
                self.heaviest[kind] = content
        self.pages, self.files, self.total = (
            self.pages + other.pages,
            self.files + other.files,
            self.total + other.total,
        )


@dataclass(frozen=True, slots=True)
class _Order:
    """What another process makes: what belongs to some neighbourhoods. `place`: where the store is; `before`: the site
    of the build before, and `shelf` what it has of the months."""

    place: Path
    before: Path
    shelf: months.Shelf
    city: City
    now_s: int
    only: Collection[str]
    folder: Path
    like: os.stat_result | None = None


@dataclass(frozen=True, slots=True)
class _Hand:
    """A process that works on an order, forked while this one has no other threads, and its end of the pipe."""

    process: ForkProcess
    pipe: Connection

    @classmethod
    def at_work(cls, order: _Order, reopen: Callable[[], ArchiveReader]) -> _Hand:
        """Has it begin: with the files with values, then it waits for the word to make the pages."""
        context = get_context("fork")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(order, reopen, here, there), daemon=True)
        process.start()
        there.close()
        return cls(process, here)

    def told(self) -> object:
        """Returns what it says next. Raises what it has met, SiteError where it was killed."""
        try:
            said = self.pipe.recv()
        except EOFError:
            raise SiteError("site build: a process that made pages was killed; is there memory left?") from None
        if isinstance(said, BaseException):
            raise said
        return said

    def dismiss(self) -> None:
        """Ends it, wherever it is."""
        self.process.terminate()
        self.process.join()
        self.pipe.close()


@dataclass(frozen=True, slots=True)
class _Share:
    """What is left to other processes, part by part: each keeps what it has looked at for its values for its pages."""

    hands: Sequence[_Hand]

    def values(self, made: _Made, ctx: Build) -> None:
        """Waits for the files with values, and takes down their sizes, and what was seen of streams. Each process goes
        on to its pages at once: they tell the size of its own files, and of those that this one has made by now."""
        known, said = dict(made.octets), dict[_Hand, tuple[dict[str, int], dict[str, Glance]]]()
        while waited := {hand.pipe: hand for hand in self.hands if hand not in said}:
            for pipe in wait(list(waited)):
                hand = waited[cast(Connection, pipe)]
                said[hand] = cast(tuple[dict[str, int], dict[str, Glance]], hand.told())
                hand.pipe.send(known)
        for hand in self.hands:  # whoever came first: a site is the same each time
            octets, glances = said[hand]
            made.octets.update(octets)
            ctx.glances.update(glances)

    def finish(self, made: _Made) -> None:
        """Waits for the pages, and takes down what was written. What has to be done with the disk begins meanwhile."""
        made.look()
        os.sync()
        for hand in self.hands:
            made.add(cast(_Made, hand.told()))


def build(
    archive: ArchiveReader,
    city: City,
    out: Path,
    now_s: int,
    press: Press | None = None,
    crew: Crew | None = None,
    replace_log: bool = False,
    told: Callable[[BuildReport], None] = lambda report: None,
) -> BuildReport:
    """Writes the site as of `now_s` (seconds UTC) and makes `out` lead to it.

    Today is the civil day that contains `now_s - 1`: at midnight the pages still show the whole day that has ended.
    `press` prints bulletins as PDF, those that it has no time for when its `rest` is called; without it there are none.
    `crew` works beside this process, on a machine with several cores; the site is the same, byte for byte.
    `replace_log`: also where the log that stands there would be lost, or take another way. `told` is given the report
    as soon as readers have the new site: what is left is to delete what killed builds have left, and to read through
    the files of the months that were written, so that no build has to wait for either.
    Raises SiteError where `out` is something else than a site or an empty folder, or has published a log of which the
    archive's is not the continuation, OSError where the disk refuses.
    """
    listed = {site.id for site in city.site}
    whole, place = kept_of.Whole(), out.with_name(f"{out.name}.store")
    reports: list[BuildReport] = []

    def settled() -> None:
        with closing(Store(place)) as store:
            whole.remember(store, out)  # what was linked; what was written is read through by whoever asks for it
            stands = partial(whole.stands, store)
            months.shelf(out, stands)
            journal.shelf(out, stands)
            whole.remember(store, out)

    with seldom_collected(), beside(out, again=True, switched=lambda: told(reports[0]), settled=settled) as folder:
        broken_off = None if replace_log else journal.broken_off(archive, out)
        if broken_off is not None:
            raise SiteError(
                f"{out}: log: this archive's does not continue the one that is published there ({broken_off}); after "
                f"a restore run 'murmure ingest adopt {out}' first (--replace-log publishes all the same)"
            )
        made = _Made(folder, probed(folder))
        site = out.resolve()  # the link may lead elsewhere before a worker follows it
        keep = partial(made.link, site)
        with closing(Store.open(place, archive, city.timezone)) as store, ExitStack() as stack:
            stands = partial(whole.stands, store)
            before, journal_before = months.shelf(out, stands), journal.shelf(out, stands)
            share = None
            if crew is not None and crew.workers:
                _ready()
                slugs, hands = [quartier.slug for quartier in city.quartier], list[_Hand]()
                size = -(-len(slugs) // crew.workers) or 1
                for at in range(0, len(slugs), size):
                    order = _Order(place, site, before, city, now_s, slugs[at : at + size], folder, made.like)
                    hands.append(_Hand.at_work(order, crew.reopen))
                    stack.callback(hands[-1].dismiss)
                share = _Share(hands)
            kept = made.kept(site, store, now_s)
            for path, content in _rendered(
                archive, city, now_s, before, keep, press, store, journal_before, made, share, kept
            ):
                made.write(path, content)
            made.sweep()
            _forget(store, now_s)
        unlisted = tuple(sorted({info.site for info in archive.streams()} - listed))
        reports.append(BuildReport(pages=made.pages, files=made.files, octets=made.total, unlisted=unlisted))
    return reports[0]


def _forget(store: Store, now_s: int) -> None:
    """Drops what is too old to be asked for again: once a day, since it looks at every row."""
    today, told = b"%d" % (now_s // 86_400), Window(0, 1)
    if store.read(_FORGOT, "", told).get(0) == today:
        return
    store.forget((remembered.KIND, blocks.KIND, blocks.TOGETHER, *usual.KINDS), now_s - KEPT_DAYS * 86_400)
    store.forget((remembered.OF_TODAY, remembered.FIGURES, kept_of.WORDS, kept_of.SUMS), now_s - FIGURE_DAYS * 86_400)
    store.keep(_FORGOT, "", 0, kept_of.EVER, today)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Looks for cyclic garbage seldom, here and in processes that are forked meanwhile: a build makes a million small
    objects that live as long as its pages, and to look through them all again and again took a quarter of its time."""
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def beside(
    out: Path,
    durable: bool = True,
    again: bool = False,
    switched: Callable[[], None] = lambda: None,
    settled: Callable[[], None] = lambda: None,
) -> Iterator[Path]:
    """Gives a folder to fill, then makes `out` lead to it. One build at a time: a second waits.

    `durable`: whether a power cut just afterwards leaves one of the two whole; it costs a sync of the disk. `again`: it
    may be the one that was current two switches ago, with what stands in it, else it is empty. `switched` is called
    when `out` leads there, `settled` last, when what is older is deleted and before another build begins.

    Which that is stands in the file of the lock until a build takes it: clocks are set back, and a folder that a build
    could not fill, or was killed in, is given to no other."""
    parent = out.parent
    parent.mkdir(parents=True, exist_ok=True)
    if not out.is_symlink() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SiteError(f"{out}: --out: holds something that is no site; name a new or empty folder")
    with (parent / f"{out.name}.lock").open("ab+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        last, _, spare = os.fsdecode(lock.read()).partition("\n")
        lock.truncate(0)
        before = out.readlink().name if out.is_symlink() else None
        folder = Path(tempfile.mkdtemp(prefix=f"{out.name}.new-", dir=parent))
        try:
            calm = before is not None and folder.stat().st_mtime - out.lstat().st_mtime >= PATIENCE_S
            if again and calm and spare not in (before, last) and _ours(older := parent / spare, out):
                older.replace(folder)
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
            if not out.is_symlink() or out.readlink().name != folder.name:  # Ctrl-C may come as the link is renamed
                shutil.rmtree(folder, ignore_errors=True)
            raise
        stay = {folder.name, before, *([last] if again else [])}
        if again and before is not None:
            with suppress(OSError):  # a full disk: the next build fills an empty folder
                os.write(lock.fileno(), os.fsencode(f"{before}\n{last}"))
        switched()
        for old in parent.iterdir():
            if old.name.startswith(f"{out.name}.new-") and old.name not in stay:
                shutil.rmtree(old, ignore_errors=True)
        settled()


def _ours(folder: Path, out: Path) -> bool:
    """Returns whether a path is that of a folder of a site beside `out` which this user can fill."""
    if folder.parent != out.parent or not folder.name.startswith(f"{out.name}.new-"):
        return False
    try:
        is_there = folder.lstat()
    except (OSError, ValueError):  # no name at all, from a disk that lost power
        return False
    return S_ISDIR(is_there.st_mode) and is_there.st_uid == os.geteuid()


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):  # it was in the way of another process's page
        raise error


def render(
    archive: ArchiveReader,
    city: City,
    now_s: int,
    before: months.Shelf = months.NOTHING,
    keep: Callable[[str], int] = lambda path: 0,
    press: Press | None = None,
    store: Store | None = None,
    journal_before: journal.Shelf = journal.NOTHING,
) -> Iterator[tuple[str, bytes]]:
    """Yields every file of the site as (path below its root, content), but for those that the site before has already
    for good (`before` its months, `journal_before` its journal): `keep` is told of them, and returns their size."""
    made = _rendered(archive, city, now_s, before, keep, press, store, journal_before, _Made(None), None)
    return ((path, bytes(content)) for path, content in made)


def _rendered(
    archive: ArchiveReader,
    city: City,
    now_s: int,
    before: months.Shelf,
    keep: Callable[[str], int],
    press: Press | None,
    store: Store | None,
    journal_before: journal.Shelf,
    made: _Made,
    share: _Share | None,
    kept_pages: Kept | None = None,
) -> Iterator[tuple[str, Content]]:
    """Yields what `render` does, without what others make of neighbourhoods (`share`), which is taken down in `made` as
    well."""
    ctx, annotations = _given(archive, city, now_s, press, store or Store(None), made, kept=kept_pages)

    def kept(path: str) -> None:
        made.octets[path] = keep(path)

    def files() -> Iterator[tuple[str, Content]]:
        for name in pages.STATIC:
            yield f"static/{name}", pages.static(name)
        yield opendata.ANNOTATIONS, annotations
        yield from () if share else _values(ctx)
        if maker_outputs.OUTPUTS in MAKERS:
            yield from maker_outputs.OUTPUTS.files(ctx)
        if share:
            share.values(made, ctx)
        else:
            yield from _of_quartiers(ctx)
        yield from maker_data.data(ctx, before, kept)
        yield from journal.files(archive, journal_before, kept)
        for maker in MAKERS:
            if share and maker is MAKERS[-1]:
                share.finish(made)
            if not maker.apart and maker is not maker_outputs.OUTPUTS:
                yield from maker.files(ctx)

    for path, content in files():
        made.note(path, content)
        yield path, content


def _given(
    archive: ArchiveReader,
    city: City,
    now_s: int,
    press: Press | None,
    store: Store,
    made: _Made,
    only: Collection[str] | None = None,
    kept: Kept | None = None,
) -> tuple[Build, bytes]:
    """Returns what makers are given, of these neighbourhoods or of all, and the file of annotations."""
    calendar = Calendar(city.timezone)
    today = calendar.day(now_s - 1)
    listed = {site.id for site in city.site if only is None or site.quartier in only}
    # Also of sites that are not listed, and by a machine whose clock is ahead: the log names what stewards signed, and
    # residents look for it.
    notes = archive.annotations()
    every = [one.note for one in notes]
    marks = in_force(every, now_s)
    known = remembered.remembered(archive, store, calendar, now_s)
    annotations = opendata.faults(notes, in_force(every, max([now_s, *(note.issued_s for note in every)])))
    made.octets[opendata.ANNOTATIONS] = len(annotations)
    ctx = Build(
        archive=known,
        city=city,
        rules=Rules(known, Wordings()),
        calendar=calendar,
        now_s=now_s,
        today=today,
        week=week_to(calendar, today),
        streams=sorted(
            (info for info in archive.streams() if only is None or info.site in listed),
            key=lambda info: (info.site, _order(info.quantity), info.stream),
        ),
        marks=marks,
        editions=[],
        ledger=[],
        octets=made.octets,
        heaviest=made.heaviest,
        links=[link for maker in MAKERS for link in maker.links],
        press=press,
        store=store,
        only=only,
        kept=kept,
    )
    return ctx, annotations


def _values(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the files of each neighbourhood with the values of its day and of its week, and their codes if it
    has any."""
    signed = ctx.archive.signed_checkpoint() is not None
    table, coded = segment(opendata.table(())), segment(codes.table(()))
    for quartier in ctx.quartiers:
        sites = [site.id for site in ctx.city.sites_of(quartier.slug)]
        infos = [info for site in sites for info in ctx.streams if info.site == site]
        for week, window in ((False, ctx.today), (True, ctx.week)):
            blocks = [block for info in infos for block in ctx.blocks.of(info, window)]
            yield opendata.quartier_file(quartier.slug, week), joined([table, *(block.shown for block in blocks)])
        if signed and any(block.codes for block in blocks):
            yield codes.file(quartier.slug), joined([coded, *(block.codes for block in blocks)])


def _of_quartiers(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the pages that are made of each neighbourhood alone."""
    for maker in MAKERS:
        if maker.apart:
            yield from maker.files(ctx)


def _ready() -> None:
    """Reads and compiles what pages of neighbourhoods are made with, so that each process need not that is forked."""
    version()
    for code in LANGUAGES:
        language(code)
    pages.compiled(_TEMPLATES)


def _work(order: _Order, reopen: Callable[[], ArchiveReader], far: Connection, pipe: Connection) -> None:
    """Writes the values of some neighbourhoods, works out what the files of the months have of them, and says their
    sizes and what pages of the town tell of their streams; then, once it is told the size of what the first process
    has made, writes their pages, and says what was written. An error is said as well. `far`: the end of whoever waits
    for it, closed here so that this process ends if that one is killed."""
    far.close()
    try:
        made = _Made(order.folder, order.like)
        sites = [site for site in order.city.site if site.quartier in order.only]
        with closing(Store(order.place)) as store:
            kept = made.kept(order.before, store, order.now_s)
            ctx, _ = _given(reopen(), order.city, order.now_s, None, store, made, order.only, kept)
            for path, content in _values(ctx):
                made.note(path, content)
                made.write(path, content)
            maker_data.prepare(ctx, order.shelf)
            store.flush()  # whoever waits reads what this one has kept of today, and of the months
            own = {path: size for path, size in made.octets.items() if path != opendata.ANNOTATIONS}
            infos = [(site, info) for site in sites for info in ctx.streams_of(site.id)]
            pipe.send((own, {info.stream: ctx.glance(site, info) for site, info in infos}))
            made.octets.update(pipe.recv())
            known = set(made.octets)
            for path, content in _of_quartiers(ctx):
                made.note(path, content)
                made.write(path, content)
        own = {path: size for path, size in made.octets.items() if path not in known}
        pipe.send(replace(made, octets=own))
    except BaseException as error:
        error.add_note(traceback.format_exc())
        with suppress(BrokenPipeError):  # nobody waits any more
            pipe.send(error)


def _order(quantity: str) -> int:
    return list(QUANTITIES).index(quantity)


def week_to(calendar: Calendar, today: Window) -> Window:
    """Returns the seven civil days that end with a day."""
    first = today
    for _ in range(WEEK_DAYS - 1):
        first = calendar.day(first.start_s - 1)
    return Window(first.start_s, today.end_s)


def write(path: Path, content: bytes) -> None:
    """Writes a new file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    put(path, [content])


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


# What follows takes texts: a path object for each of tens of thousands of files took a second of a town's build.


def put(path: str | Path, parts: Iterable[bytes], like: os.stat_result | None = None) -> None:
    """Writes a file in a folder that is there. Where a file has its name that no other folder shares, and that is
    `like` a new one, its content is replaced: a page of each quarter-hour, for to make a file and to delete one takes
    ten times as long as to write it. What is shared, or something else, stays as it is elsewhere and is replaced by a
    new file."""
    try:
        file = os.open(path, _NEW, 0o666)
    except FileExistsError:
        own = _own(path, like) if like else None
        if own is None:
            _clear(path)
            own = os.open(path, _NEW, 0o666)
        file = own
    with os.fdopen(file, "wb") as opened:
        opened.writelines(parts)
        opened.truncate()


def probed(folder: Path) -> os.stat_result | None:
    """Returns what a new file in a folder looks like, None where the file system does not count its names."""
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        one = Path(beside, "one")
        put(one, [b""])
        with suppress(OSError):
            Path(beside, "other").hardlink_to(one)
        return one.stat() if one.stat().st_nlink == 2 else None


def _own(path: str | Path, like: os.stat_result) -> int | None:
    """Opens a file that is there and that nobody else has, None where it is another."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    is_file = os.fstat(file)
    alone = S_ISREG(is_file.st_mode) and is_file.st_nlink == 1 and is_file.st_size <= WRITTEN_INTO
    # What an administrator changed of its rights, or a build under another mask, goes with the next one.
    if alone and all(getattr(is_file, of) == getattr(like, of) for of in ("st_mode", "st_uid", "st_gid")):
        return file
    os.close(file)
    return None


def _linked(source: str, target: str) -> int:
    """Has a file stand at another place as well, where it may stand already, and returns its size."""
    is_file = os.stat(source)  # noqa: PTH116
    try:
        if os.path.samestat(is_file, os.lstat(target)):
            return is_file.st_size
        _clear(target)
    except FileNotFoundError:
        pass
    os.link(source, target)
    return is_file.st_size


def _clear(path: str | Path) -> None:
    try:
        os.unlink(path)  # noqa: PTH108
    except IsADirectoryError:
        shutil.rmtree(path)  # which a version before had there
