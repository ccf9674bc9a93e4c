"""The monthly files of open data: a day longer each midnight while a month is open, then closed for ever.

On the 8th of the next month, when weeks and nights that began in a month are over, it is closed if every gateway had
delivered; else on the 8th after that, on the third in any case. What comes later makes a second edition of the month,
a file of its own, closed on the next 8th; the first one stays as it is. An 8th has come when the archive was told of a
later instant: all of this follows from the archive and the order in which it grew, so that a site that is built from
nothing, after a restore, has the same files byte for byte. What the archive does not know is when a site was listed: if
that was after a month was closed, it comes into a second edition of it, and where nothing is left of the first one,
into the first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from murmure_privacy import publication
from murmure_privacy.release import Outcome
from murmure_privacy.window import PARTS, Calendar, Window

from murmure_dashboards.packed import Content, Pieces, stands

FOLDER = "donnees/"
SUMS = f"{FOLDER}SHA256SUMS"
STATE = publication.EDITIONS
LEDGER = f"{FOLDER}ledger.jsonl"
CLOSING_DAY = 8
PATIENCE = 3
"""At which 8th a month is closed although a gateway has not delivered: a month without network is no loss."""
_LONGEST_S = 170 * 3600
"""A node, the longest of which is a week with a clock change."""
_FORMAT = 4
_DAY = b'{"day":"'


class OrderedArchive(Protocol):
    """What closing months needs of `murmure_ingest.archive.order`, which says what each returns."""

    def newest_row(self) -> int: ...
    def head_at(self, row: int) -> bytes | None: ...
    def began_s(self, stream: str) -> int | None: ...
    def first_to_tell(self, streams: Sequence[str], instants: Sequence[int]) -> list[int | None]: ...
    def rows_after(self, row: int, streams: Sequence[str], from_s: int, to_s: int) -> list[int]: ...
    def told_after(self, row: int) -> Iterator[tuple[str, int, int]]: ...
    def delivered(self, row: int, streams: Sequence[str], since_s: int, end_s: int) -> bool: ...
    def outcomes_by(self, row: int, stream: str, from_s: int, to_s: int) -> Sequence[Outcome]: ...
    def waits(self, row: int, streams: Sequence[str], from_s: int, to_s: int) -> bool: ...
    def filed_late(self) -> set[int]: ...


@dataclass(frozen=True, slots=True)
class Closing:
    """An 8th that has come: the instant (seconds UTC), and the last row that the archive had by then."""

    at_s: int
    row: int


@dataclass(frozen=True, slots=True)
class Edition:
    """One file of a month, as CSV and as Parquet with the same rows. `closed_s`: the 8th on which it was closed, with
    the rows that the archive had by then; None while it can still change, and then `row` is 0. `columnar_…`: of the
    Parquet file. `until_s`: it holds the rows that begin before then, the end of the last day of the month that was
    over; None in a file that is closed, which has them all. `of`: while it can still change, what it was made of.
    `added`: it can still change, and was begun for streams that were listed when the edition before was closed
    already. `timezone`: by the days of which its figures were estimated, which a closed one keeps; None where the
    version that made it did not say it."""

    month: str
    number: int
    row: int
    closed_s: int | None
    octets: int
    sha256: str
    columnar_octets: int
    columnar_sha256: str
    of: str = ""
    until_s: int | None = None
    added: bool = False
    timezone: str | None = None

    @property
    def path(self) -> str:
        """Returns the place of the CSV file below the site's root."""
        return f"{FOLDER}releases-{self.month}{'' if self.number == 1 else f'.{self.number}'}.csv"

    @property
    def columnar(self) -> str:
        """Returns the place of the Parquet file below the site's root."""
        return f"{self.path.removesuffix('.csv')}.parquet"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of the days of a month that are over, which begin before `until_s`. `table`: makes the CSV file of them,
    with no row where no day is over yet; nothing where no row begins in the month at all, not today either. `of`: says
    whether it is still the same."""

    table: Callable[[], Pieces]
    until_s: int
    of: str


@dataclass(frozen=True, slots=True)
class Month:
    """A civil month with its editions, oldest first. `contents`: the files to write by their path; the others stand in
    the site before, unchanged, and are to be linked. `kept`: whether nothing at all has come for it since."""

    name: str
    window: Window
    editions: tuple[Edition, ...]
    contents: Mapping[str, Content]
    kept: bool = False


@dataclass(frozen=True)
class Shelf:
    """What the site before had: how far the archive had come (the last row with the running sum over all of them, as
    hexadecimal, and how many messages were filed after they had waited), the streams of the files, the last row before
    each 8th, the closed editions by month where all files are whole, the ledger by month. `still`: of the editions that
    can still change those whose files are whole, by the path of the CSV file. `opened`: the months whose last edition
    can still change, and its `added`. `timezone`: of the days by which this site is made; None of the one before."""

    seen: int = 0
    head: str = ""
    amended: int = 0
    streams: Sequence[str] = ()
    closings: Mapping[str, int] = field(default_factory=dict)
    editions: Mapping[str, tuple[Edition, ...]] = field(default_factory=dict)
    spent: Mapping[str, bytes] = field(default_factory=dict)
    still: Mapping[str, Edition] = field(default_factory=dict)
    opened: Mapping[str, bool] = field(default_factory=dict)
    timezone: str | None = None


NOTHING = Shelf()
"""What there is before the first build."""


def shelf(out: Path, stands: Callable[[Path, str, str], bool] = stands) -> Shelf:
    """Returns what a site has of closed months: nothing where it is none or of another version. A file that `stands`
    refuses is not taken: it is made again from the archive."""
    try:
        told = json.loads((out / STATE).read_text("utf-8"))
        if told["format"] != _FORMAT:
            return Shelf()
        found: dict[str, tuple[Edition, ...]] = {}
        still: dict[str, Edition] = {}
        opened: dict[str, bool] = {}
        for month, editions in told["months"].items():
            read = tuple(Edition(month=month, **edition) for edition in editions)
            shut = tuple(one for one in read if one.closed_s is not None)
            if _stand(out, shut, stands):
                found[month] = shut
            if read and read[-1].closed_s is None:
                opened[month] = read[-1].added
            still |= {one.path: one for one in read if one.closed_s is None and _stand(out, [one], stands)}
        ledger = (out / LEDGER).read_bytes()
        spent = _by_month(ledger) if _digest(ledger) == told["ledger"] else {}
        seen, head, streams = int(told["seen"]), str(told["head"]), [str(one) for one in told["streams"]]
        return Shelf(seen, head, told["amended"], streams, told["closings"], found, spent, still, opened)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Shelf()


def _stand(out: Path, editions: Iterable[Edition], stands: Callable[[Path, str, str], bool]) -> bool:
    files = [(one.path, one.sha256) for one in editions] + [(one.columnar, one.columnar_sha256) for one in editions]
    return all(stands(out, *file) for file in files)


def _by_month(ledger: bytes) -> dict[str, bytes]:
    found: dict[str, list[bytes]] = {}
    for line in ledger.splitlines(keepends=True):
        if not line.startswith(_DAY):  # `spending.lines` begins each so: of years of a town there are a million
            raise ValueError("no line of the ledger")
        found.setdefault(line[len(_DAY) : len(_DAY) + 7].decode(), []).append(line)
    return {month: b"".join(members) for month, members in found.items()}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def state(now: Shelf, months: Sequence[Month], ledger: bytes) -> bytes:
    """Returns what the next build reads with `shelf`, and whoever checks this one by `publication.made`. `now`: as
    `since` returns it."""
    editions = {
        month.name: [{key: value for key, value in asdict(one).items() if key != "month"} for one in month.editions]
        for month in months
    }
    told = {
        "format": _FORMAT,
        "published_format": publication.FORMAT,
        "software": _software(),
        "timezone": now.timezone,
        "seen": now.seen,
        "head": now.head,
        "streams": list(now.streams),
        "amended": now.amended,
        "closings": dict(now.closings),
        "ledger": _digest(ledger),
        "months": editions,
    }
    return (json.dumps(told, indent=1, sort_keys=True) + "\n").encode()


def _software() -> str:
    try:
        return f"murmure {version('murmure')}"
    except PackageNotFoundError:
        return "murmure"


def sums(editions: Sequence[Edition]) -> bytes:
    """Returns SHA256SUMS, as `sha256sum --check` reads it: the closed files only, by name."""
    closed = sorted(
        (path.removeprefix(FOLDER), digest)
        for one in editions
        if one.closed_s is not None
        for path, digest in ((one.path, one.sha256), (one.columnar, one.columnar_sha256))
    )
    return "".join(f"{digest}  {name}\n" for name, digest in closed).encode()


def fitting(archive: OrderedArchive, streams: Sequence[str], before: Shelf) -> Shelf:
    """Returns what holds of a shelf for an archive and the streams of the files: of the ledger nothing for others, and
    of another archive, such as one restored from a backup, which has other messages in the same rows, no row."""
    if before.head != _head(archive, before.seen):
        editions = {
            month: tuple(replace(one, row=0) for one in of_month) for month, of_month in before.editions.items()
        }
        before = replace(before, seen=0, head="", closings={}, spent={}, editions=editions)
    return before if list(before.streams) == list(streams) else replace(before, spent={})


def _head(archive: OrderedArchive, row: int) -> str:
    return (archive.head_at(row) or b"").hex() if row else ""


def since(
    archive: OrderedArchive,
    everywhere: Sequence[str],
    streams: Sequence[str],
    calendar: Calendar,
    now_s: int,
    before: Shelf,
    kept: tuple[int, int] | None = None,
) -> Shelf:
    """Returns the shelf with how far the archive has come now, and with the closings that have come. `everywhere`: all
    streams that the archive has, `streams`: those of the files; `before`: as `fitting` returns it. `kept`: how far the
    archive had come when what is kept was gone through (`Store.seen`): what has come since is left to the next build,
    as kept days lack it."""
    newest, amended = kept or (archive.newest_row(), len(archive.filed_late()))
    began = [at_s for at_s in map(archive.began_s, everywhere) if at_s is not None]
    days: list[date] = []
    if began:
        day = calendar.civil_day(min(began) - 1).replace(day=CLOSING_DAY)
        while calendar.midnight(day) <= now_s:
            days.append(day)
            day = _next_month(day)
    unknown = [day for day in days if day.isoformat() not in before.closings]
    # What tells of a later instant than this site's is looked at again by the next: a restored archive may not have it.
    *first, later = archive.first_to_tell(everywhere, [*map(calendar.midnight, unknown), now_s + 1])
    closings = {name: before.closings[name] for name in map(date.isoformat, days) if name in before.closings}
    closings |= {day.isoformat(): row - 1 for day, row in zip(unknown, first, strict=True) if row and row <= newest}
    seen = newest if later is None else min(newest, later - 1)
    head, timezone = _head(archive, seen), calendar.timezone
    return Shelf(seen, head, amended, streams, closings, before.editions, still=before.still, timezone=timezone)


def written(
    archive: OrderedArchive,
    streams: Sequence[str],
    calendar: Calendar,
    now_s: int,
    before: Shelf,
    shelf_now: Shelf,
    table: Callable[[Window, int | None, int], Rows],
    columnar: Callable[[Edition, bytes], bytes],
) -> Iterator[Month]:
    """Yields every month that has a node of these streams, oldest first.

    `before`, `shelf_now`: as `fitting` and then `since` return them. `table`: the rows of a month as the archive was at
    a row (None: as it is), at an instant. `columnar`: a CSV file as Parquet, of the edition and the file.
    """
    closings = [
        Closing(calendar.midnight(date.fromisoformat(day)), row) for day, row in sorted(shelf_now.closings.items())
    ]
    wanted, unlisted = set(streams), sorted({*streams}.difference(before.streams))
    since_then = before.seen > 0 and before.amended == shelf_now.amended
    news = archive.told_after(before.seen) if before.editions and since_then else ()
    told = [(start_s, end_s) for stream, start_s, end_s in news if stream in wanted]
    for name in sorted({*before.editions, *_names(archive, streams, calendar, now_s)}):
        window = _month(calendar, name)
        wide = around(calendar, window)
        kept = before.editions.get(name, ())
        added = before.opened.get(name, False) or any(
            row <= before.seen
            for stream in (unlisted if kept else ())
            for row in archive.rows_after(0, (stream,), window.start_s, window.end_s)[:1]
        )
        untouched = since_then and not added and name not in before.opened
        untouched = untouched and not any(end_s > wide.start_s and at_s < wide.end_s for at_s, end_s in told)
        if not (kept and untouched) and any(
            archive.rows_after(0, (stream,), window.start_s, window.end_s) for stream in streams
        ):
            month = Month(name, window, (), {})
            if not all(one.row for one in kept):
                kept = tuple(_found_again(archive, streams, calendar, kept, closings, window, table))
            added = added and bool(kept)
            passed = [calendar.midnight(date.fromisoformat(day)) for day in before.closings] if added else None
            cuts = _cuts(archive, streams, calendar, window, closings, kept, passed)
            yield from _renewed(cuts, now_s, kept, month, before.still, added, table, columnar, calendar.timezone)
        elif kept:  # also where the archive has lost the month: what was closed is not taken away
            yield Month(name, window, kept, {}, kept=True)


def _found_again(
    archive: OrderedArchive,
    streams: Sequence[str],
    calendar: Calendar,
    kept: Sequence[Edition],
    closings: Sequence[Closing],
    month: Window,
    table: Callable[[Window, int | None, int], Rows],
) -> Iterator[Edition]:
    """Yields closed editions with their rows in this archive, 0 where it does not give the same file again."""
    cuts = {cut.at_s: cut for cut in _cuts(archive, streams, calendar, month, closings) if cut}
    for one in kept:
        cut = cuts.get(one.closed_s or 0)
        same = cut is not None and table(month, cut.row, cut.at_s).table().sha256 == one.sha256
        yield replace(one, row=cut.row if cut is not None and same else 0)


def _renewed(
    cuts: Iterator[Closing | None],
    now_s: int,
    kept: Sequence[Edition],
    month: Month,
    still: Mapping[str, Edition],
    added: bool,
    table: Callable[[Window, int | None, int], Rows],
    columnar: Callable[[Edition, bytes], bytes],
    timezone: str,
) -> Iterator[Month]:
    """Yields a month for which something has come, or that is open: what is closed, and what comes after it."""
    editions = [*kept]
    contents: dict[str, Content] = {}
    for cut in cuts:
        rows = table(month.window, cut.row if cut else None, cut.at_s if cut else now_s)
        row, closed_s = (cut.row, cut.at_s) if cut else (0, None)
        one = Edition(month.name, len(editions) + 1, row, closed_s, 0, "", 0, "", timezone=timezone)
        if cut is None:
            one = replace(one, of=rows.of, until_s=rows.until_s, added=added)
            same = still.get(one.path)
            if same is not None and same.of == one.of and not (editions and editions[-1].sha256 == same.sha256):
                editions.append(replace(same, added=added, timezone=timezone))
                continue
        content = rows.table()
        if not content or (editions and editions[-1].sha256 == content.sha256):
            continue  # nothing begins in it, or what came changed nothing
        twin = columnar(one, bytes(content))
        contents |= {one.path: content, one.columnar: twin}
        one = replace(one, octets=len(content), sha256=content.sha256)
        editions.append(replace(one, columnar_octets=len(twin), columnar_sha256=_digest(twin)))
    if editions:
        yield replace(month, editions=tuple(editions), contents=contents)


def unclosed(
    archive: OrderedArchive, streams: Sequence[str], calendar: Calendar, now_s: int, before: Shelf
) -> Iterator[Window]:
    """Yields the months of these streams that the site before has not closed, oldest first."""
    for name in _names(archive, streams, calendar, now_s):
        if name in before.opened or name not in before.editions:
            yield _month(calendar, name)


def _month(calendar: Calendar, name: str) -> Window:
    first = first_day(name)
    return Window(calendar.midnight(first), calendar.midnight(_next_month(first)))


def _names(archive: OrderedArchive, streams: Sequence[str], calendar: Calendar, now_s: int) -> Iterator[str]:
    """Yields the months that may have a node."""
    began = [at_s for at_s in map(archive.began_s, streams) if at_s is not None]
    if began:
        first = calendar.civil_day(min(began) - _LONGEST_S).replace(day=1)
        while calendar.midnight(first) < now_s:
            yield first.strftime("%Y-%m")
            first = _next_month(first)


def _cuts(
    archive: OrderedArchive,
    streams: Sequence[str],
    calendar: Calendar,
    month: Window,
    closings: Sequence[Closing],
    kept: Sequence[Edition] = (),
    passed: Collection[int] | None = None,
) -> Iterator[Closing | None]:
    """Yields what each edition of a month holds beyond those that are closed (`kept`): all that had come by a closing,
    or all that there is. `passed`: if streams were added, the closings (seconds UTC) that had come before that."""
    wide = around(calendar, month)
    left = [closing for closing in closings if closing.at_s > month.end_s]
    if kept:
        left = [one for one in left if one.at_s > (kept[-1].closed_s or 0) and one.at_s not in (passed or ())]
        last = kept[-1].row
    else:
        place = next(
            (
                at
                for at, closing in enumerate(left[:PATIENCE])
                if at == PATIENCE - 1 or archive.delivered(closing.row, streams, month.start_s - _LONGEST_S, wide.end_s)
            ),
            None,
        )
        if place is None:
            yield None
            return
        left = left[place:]
        last = left[0].row
    due = not kept or passed is not None
    late = archive.rows_after(last, streams, wide.start_s, wide.end_s)
    for closing in left:
        if not due and not any(last < row <= closing.row for row in late):
            continue
        if archive.waits(closing.row, streams, wide.start_s, wide.end_s):
            yield None  # its word is not said yet, and nobody knows later when it was
            return
        yield closing
        last, due = closing.row, False
    if due or any(row > last for row in late):
        yield None


def around(calendar: Calendar, month: Window) -> Window:
    """Returns the spans that a month's figures are estimated from: whole weeks, and days from 06:00 to 06:00."""
    last_s = month.end_s - 1
    ends_s = max(calendar.period(levels, last_s).end_s for levels in (("1w",), PARTS))
    return Window(min(calendar.period(levels, month.start_s).start_s for levels in (("1w",), PARTS)), ends_s)


def _next_month(day: date) -> date:
    return day.replace(year=day.year + day.month // 12, month=day.month % 12 + 1)


def newest(editions: Sequence[Edition], most: int) -> list[Edition]:
    """Returns the last edition of each of the last months, newest first."""
    last = {edition.month: edition for edition in editions}
    return [edition for _, edition in sorted(last.items(), reverse=True)[:most]]


def last_day(edition: Edition, calendar: Calendar) -> date | None:
    """Returns the last day of an edition that has not all days of its month: the day before the first where it has none
    at all. None for one that has all."""
    first = first_day(edition.month)
    if edition.until_s is None or edition.until_s >= calendar.midnight(_next_month(first)):
        return None
    return calendar.civil_day(edition.until_s - 1)


def first_day(month: str) -> date:
    """Returns the first day of a month such as `2026-11`."""
    return date.fromisoformat(f"{month}-01")
