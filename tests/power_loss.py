"""A disk in memory that loses what was not synced, and SQLite on top of it through apsw.

Every write, truncation, creation and deletion goes into a journal of operations. The power can be cut after any of
them, and after the fact: `Disk.cut` answers what the next start may find. That is all that was synced, and of the rest
whatever the disk had happened to write: nothing, all of it, the beginning, or any of it in any order, some of it torn
at a byte or by sectors, with zeros or old rubbish in the holes. (A. Pillai et al., All File Systems Are Not Created
Equal, OSDI 2014.)

What the model grants is what SQLite's `unix` VFS relies on: a sync that has returned is true, bytes beside a write are
left alone (`POWERSAFE_OVERWRITE`), and SQLite syncs the folder after it made a log or deleted one.
"""

from __future__ import annotations

import itertools
import multiprocessing
import sqlite3
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import apsw
from murmure_privacy.errors import MurmureError

SECTOR_BYTES = 512
SAY_EVERY_S = 5
CUTS_IN_A_LIFE = 6
EARLY_OPERATIONS = 30
_LOGS = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
_numbers = itertools.count()  # VFS names are global in SQLite

Image = dict[str, bytes]
State = tuple[object, ...]
Synchronous = Literal["FULL", "NORMAL", "OFF"]


@dataclass(frozen=True, slots=True)
class Operation:
    """`create` and `delete` concern `name`; the others a file by its number, since a name may be given again."""

    kind: Literal["create", "delete", "sync folder", "write", "truncate", "sync"]
    file: int = -1
    name: str = ""
    offset: int = 0
    data: bytes = b""


class Disk:
    """One folder of files. `journal` is everything that was done to it since `image`."""

    def __init__(self, image: Mapping[str, bytes] | None = None) -> None:
        self.image = dict(image or {})
        self.journal: list[Operation] = []
        self._names = {name: file for file, name in enumerate(self.image)}
        self._files = [bytearray(data) for data in self.image.values()]

    def live(self) -> Image:
        """Returns what a process sees, synced or not."""
        return {name: bytes(self._files[file]) for name, file in self._names.items()}

    def file(self, name: str | None) -> int:
        """Returns the number of a file, made if need be; without a name it is temporary."""
        if name is None or name not in self._names:
            self._files.append(bytearray())
            if name is None:
                return len(self._files) - 1
            self._names[name] = len(self._files) - 1
            self.journal.append(Operation("create", self._names[name], name))
        return self._names[name]

    def holds(self, name: str) -> bool:
        """Returns whether a file is there and not empty, which is what SQLite's `unix` VFS calls existing."""
        return name in self._names and len(self._files[self._names[name]]) > 0

    def delete(self, name: str) -> None:
        self.journal.append(Operation("delete", self._names.pop(name), name))

    def sync_folder(self) -> None:
        self.journal.append(Operation("sync folder"))

    def read(self, file: int, size: int, offset: int) -> bytes:
        return bytes(self._files[file][offset : offset + size])

    def size(self, file: int) -> int:
        return len(self._files[file])

    def write(self, file: int, data: bytes, offset: int) -> None:
        self._do(Operation("write", file, offset=offset, data=data))

    def truncate(self, file: int, size: int) -> None:
        self._do(Operation("truncate", file, offset=size))

    def sync(self, file: int) -> None:
        self.journal.append(Operation("sync", file))

    def _do(self, operation: Operation) -> None:
        self.journal.append(operation)
        _apply(self._files[operation.file], operation)

    def cut(self, after: int, draw: Random) -> Image:
        """Returns what may be found when the power went after that many operations."""
        names = {name: file for file, name in enumerate(self.image)}
        files = defaultdict(bytearray, enumerate(map(bytearray, self.image.values())))
        entries: dict[str, list[Operation]] = defaultdict(list)
        pending: dict[int, list[Operation]] = defaultdict(list)
        for operation in self.journal[:after]:
            if operation.kind == "sync":
                for one in pending.pop(operation.file, []):
                    _apply(files[operation.file], one)
            elif operation.kind == "sync folder":
                for one in itertools.chain(*entries.values()):
                    _enter(names, one)
                entries.clear()
            elif operation.kind in ("create", "delete"):
                entries[operation.name].append(operation)
            else:
                pending[operation.file].append(operation)
        for waiting in entries.values():
            for one in waiting[: draw.randint(0, len(waiting))]:
                _enter(names, one)
        for file, writes in pending.items():
            rubbish = draw if draw.random() < 0.5 else None
            for one in _survivors(writes, draw):
                _apply(files[file], one, rubbish)
        return {name: bytes(files[file]) for name, file in names.items()}


def _enter(names: dict[str, int], operation: Operation) -> None:
    if operation.kind == "create":
        names[operation.name] = operation.file
    else:
        names.pop(operation.name, None)


def _apply(file: bytearray, operation: Operation, rubbish: Random | None = None) -> None:
    end = operation.offset + len(operation.data)
    if operation.kind == "truncate":
        del file[operation.offset :]
    if len(file) < end:
        hole = max(0, operation.offset - len(file))
        file.extend(rubbish.randbytes(hole) if rubbish else bytes(hole))
    if operation.kind == "write":
        file[operation.offset : end] = operation.data


def _survivors(writes: Sequence[Operation], draw: Random) -> Iterator[Operation]:
    """Yields what of the un-synced writes has reached the disk, in the order in which it did."""
    order = draw.choice(["nothing", "all", "beginning", "some", "any order"])
    chosen = list(writes)
    if order == "nothing":
        return
    if order == "beginning":
        chosen = chosen[: draw.randint(0, len(chosen))]
    if order in ("some", "any order"):
        chosen = [one for one in chosen if draw.random() < 0.5]
    if order == "any order":
        draw.shuffle(chosen)
    for number, one in enumerate(chosen):
        last = order == "beginning" and number == len(chosen) - 1
        yield from _torn(one, draw) if last or draw.random() < 1 / (1 + len(chosen)) else [one]


def _torn(one: Operation, draw: Random) -> Iterator[Operation]:
    if one.kind == "truncate":
        return
    if draw.random() < 0.5:
        yield Operation("write", one.file, offset=one.offset, data=one.data[: draw.randint(0, len(one.data))])
        return
    start = one.offset
    while start < one.offset + len(one.data):
        end = min(start - start % SECTOR_BYTES + SECTOR_BYTES, one.offset + len(one.data))
        if draw.random() < 0.5:
            yield Operation("write", one.file, offset=start, data=one.data[start - one.offset : end - one.offset])
        start = end


class _File:
    """What SQLite asks of an open file (the methods of apsw.VFSFile)."""

    def __init__(self, disk: Disk, file: int, syncs_folder: bool) -> None:
        self._disk, self._file, self._syncs_folder = disk, file, syncs_folder

    def xRead(self, amount: int, offset: int) -> bytes:
        return self._disk.read(self._file, amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.write(self._file, bytes(data), offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.truncate(self._file, newsize)

    def xSync(self, flags: int) -> None:
        self._disk.sync(self._file)
        if self._syncs_folder:
            self._disk.sync_folder()
            self._syncs_folder = False

    def xFileSize(self) -> int:
        return self._disk.size(self._file)

    def xLock(self, level: int) -> None:
        """One connection at a time is all that there is."""

    def xUnlock(self, level: int) -> None:
        """See xLock."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return 4096  # as the `unix` VFS says

    def xDeviceCharacteristics(self) -> int:
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE  # as the `unix` VFS says

    def xClose(self) -> None:
        """Nothing is lost by closing, and nothing is made durable."""


class _Vfs(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        super().__init__(name, "")
        self.name, self._disk = name, disk

    def xFullPathname(self, name: str) -> str:
        return name

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        creates = bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        if text is not None and not creates and text not in self._disk.live():
            raise apsw.CantOpenError(text)
        flags[1] = flags[0]
        return _File(self._disk, self._disk.file(text), creates and bool(flags[0] & _LOGS))

    def xAccess(self, pathname: str, flags: int) -> bool:
        return self._disk.holds(pathname)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if filename not in self._disk.live():
            raise apsw.exception_for(apsw.SQLITE_IOERR_DELETE_NOENT)
        self._disk.delete(filename)
        if syncdir:
            self._disk.sync_folder()


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls into apsw and turns its errors into those of the standard library."""
    try:
        return function(*arguments)
    except apsw.Error as error:
        kind = sqlite3.IntegrityError if isinstance(error, apsw.ConstraintError) else sqlite3.OperationalError
        translated = kind(str(error))
        translated.sqlite_errorcode = getattr(error, "extendedresult", 0)
        raise translated from error


class _Cursor:
    def __init__(self, cursor: apsw.Cursor, rowcount: int, lastrowid: int) -> None:
        self._cursor, self.rowcount, self.lastrowid = cursor, rowcount, lastrowid

    def fetchone(self) -> Any:
        return _call(self._cursor.fetchone)

    def fetchall(self) -> Any:
        return _call(self._cursor.fetchall)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchone, None)


class Connection:
    """What the stores use of `sqlite3.Connection` in autocommit mode, with a database on a Disk.

    `synchronous` is what the statement "synchronous = FULL" becomes; `checkpoint_pages`: how long the log may grow.
    `committed` is called after every statement that has committed something. The index of the log is kept in memory
    (`locking_mode`), as a start after a power cut makes it anew anyway.
    """

    def __init__(
        self,
        disk: Disk,
        name: str,
        synchronous: Synchronous = "FULL",
        checkpoint_pages: int = 1000,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        self._disk, self._synchronous, self._committed = disk, synchronous, committed
        self._vfs = _Vfs(f"power-loss-{next(_numbers)}", disk)
        self._db: apsw.Connection = _call(lambda: apsw.Connection(name, vfs=self._vfs.name))
        own = f"PRAGMA locking_mode = EXCLUSIVE; PRAGMA wal_autocheckpoint = {checkpoint_pages}"
        _call(lambda: self._db.execute(own).fetchall())
        self._seen = len(disk.journal)

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def execute(self, sql: str, values: Sequence[Any] = ()) -> _Cursor:
        return self._done(_call(self._db.execute, self._synced(sql), values))

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> _Cursor:
        cursor, changed = self._db.cursor(), 0
        for row in rows:
            _call(cursor.execute, sql, row)
            changed += self._db.changes()
        return self._done(cursor, changed)

    def executescript(self, script: str) -> None:
        self._done(_call(lambda: self._db.execute(self._synced(script)).fetchall()))

    def close(self) -> None:
        _call(self._db.close)
        self._vfs.unregister()

    def _synced(self, sql: str) -> str:
        return sql.replace("synchronous = FULL", f"synchronous = {self._synchronous}")

    def _done(self, cursor: Any, changed: int | None = None) -> _Cursor:
        changed = self._db.changes() if changed is None else changed
        done = _Cursor(cursor, changed, self._db.last_insert_rowid())
        if len(self._disk.journal) > self._seen and not self._db.in_transaction:
            self._seen = len(self._disk.journal)
            self._committed()
        return done


def rows(connection: Connection, *but: str) -> State:
    """Returns every row of every table but those named, each after the name of its table."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1").fetchall()
    tables = [name for (name,) in names if name not in but]
    return tuple((name, *row) for name in tables for row in connection.execute(f"SELECT * FROM {name}").fetchall())


class Broken(Exception):
    """Something that was promised is not so."""


class Chain:
    """The disk of one store through a chain of power cuts, and what each start may find on it.

    `state` returns what is stored, as far as a start does not change it; `unborn` is the state of a new store.
    """

    def __init__(
        self, seed: int, name: str, state: Callable[[Connection], State], unborn: State, synchronous: Synchronous
    ) -> None:
        self.draw, self.disk = Random(seed), Disk()
        self._name, self._state, self._synchronous = name, state, synchronous
        self._allowed = [unborn]
        self.cuts = 0

    def live(self, run: Callable[[], None], see: Callable[[int], None]) -> tuple[int, str | None]:
        """Runs and cuts CUTS_IN_A_LIFE times, then runs once more. Returns the number of cuts and what broke.

        `see(after)`: what was handed out before that operation of the last run has been seen by the world.
        """
        where = "first run"
        try:
            for _ in range(CUTS_IN_A_LIFE):
                self._run(run)
                after, whole = self._moment(), len(self.disk.journal)
                image = self.disk.cut(after, self.draw)
                self._connection.close()
                self.cuts += 1
                see(after)
                self._allowed = [[state for at, state in self._states if at <= after][-1]]
                self._allowed += [state for at, state in self._states if at > after][:1]
                self.disk = Disk(image)
                where = f"cut {self.cuts} after operation {after} of {whole}"
            self._run(run)
            see(len(self.disk.journal))
            self._connection.close()
        except (Broken, MurmureError) as broken:
            return self.cuts, f"{where}: {broken}"
        return self.cuts, None

    def _run(self, run: Callable[[], None]) -> None:
        self._checkpoint_pages = self.draw.choice([2, 10, 40, 1000])
        self._states: list[tuple[int, State]] = []  # (operations until then, state), after every commit
        run()

    def _moment(self) -> int:
        """Every other cut comes early: while SQLite recovers from the one before."""
        whole = len(self.disk.journal)
        return self.draw.randint(0, min(EARLY_OPERATIONS, whole) if self.draw.random() < 0.5 else whole)

    def connect(self) -> Connection:
        """Returns a connection; the one before is closed or was cut off."""
        self._connection = Connection(self.disk, self._name, self._synchronous, self._checkpoint_pages, self._note)
        return self._connection

    def _note(self) -> None:
        self._states.append((len(self.disk.journal), self._state(self._connection)))

    def started(self) -> None:
        """The first start of this run is done: it must have found the last commit before the cut, or the next."""
        found = self._state(self._connection)
        self._states.insert(0, (0, found))
        if found not in self._allowed:
            raise Broken("what is stored is neither as after the last commit nor as after the next")


@dataclass
class Tally:
    """What a campaign came to: how many cuts, and a line for each that broke something."""

    cuts: int = 0
    broken: list[str] = field(default_factory=list)


def campaign(
    live: Callable[[int], tuple[int, str | None]],
    cuts: int,
    only_one: bool = False,
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Tally:
    """Lives lives, by seeds from 0 on, until there were that many cuts, or (`only_one`) one that broke something.

    `live(seed)` -> (cuts, what broke or None). With more than one worker the lives are spread over processes.
    """
    tally, began_s, next_word_s = Tally(), time.monotonic(), time.monotonic()
    for seed, made, broke in _lives(live, workers):
        tally.cuts += made
        if broke is not None:
            tally.broken.append(f"seed {seed}: {broke}")
        if time.monotonic() > next_word_s:
            next_word_s += SAY_EVERY_S
            rate = tally.cuts / (time.monotonic() - began_s)
            say(f"{tally.cuts} of {cuts} cuts, {len(tally.broken)} broke something, {rate:.0f} cuts/s")
        if tally.cuts >= cuts or (only_one and tally.broken):
            break
    return tally


def _lives(
    live: Callable[[int], tuple[int, str | None]], workers: int
) -> Generator[tuple[int, int, str | None], None, None]:
    if workers == 1:
        for seed in itertools.count():
            try:
                yield (seed, *live(seed))
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise
    forks = multiprocessing.get_context("fork")
    results: Any = forks.SimpleQueue()

    def work(first: int) -> None:
        for seed in itertools.count(first, workers):
            try:
                results.put((seed, *live(seed)))
            except Exception:
                results.put((seed, 1, traceback.format_exc()))

    processes = [forks.Process(target=work, args=(first,), daemon=True) for first in range(workers)]
    for process in processes:
        process.start()
    try:
        while True:
            yield results.get()
    finally:
        for process in processes:
            process.kill()
            process.join()
