"""The archive, copied to a time-series database: what can change no more, and each sample with one value for ever.

VictoriaMetrics keeps any of the values that one sample was given, not the last (seen in version 1.79.5: of two, either;
later ones keep the greatest). So nothing is sent that might be sent otherwise later: what left the gateway, `value` and
`sigma`, at once; what comes from all nodes of a period together, `estimate` and its interval, once the gateway has
nothing more to say of that period. Sending twice is then harmless, and every doubt is settled by sending again. So too
what stewards say of a period: its begin and its end when they mark it, and one sample more when they take that back.

How far the database has got is kept in `mirror.db`: which messages it has, which periods still wait for their end, and
which of the stewards' notes it has. An acknowledged batch counts as kept after `SETTLED_S` in which the database ran
without a break. Until then the place in the file is the one before it, and from there everything is sent again when the
database, or the mirror, starts anew.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Protocol
from urllib.parse import quote

from murmure_privacy import wire
from murmure_privacy.annotation import Annotation
from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.estimate import Series
from murmure_privacy.policies import Rules
from murmure_privacy.published import divisor, number, printed_name
from murmure_privacy.release import Outcome, Release
from murmure_privacy.stream import QUANTITIES
from murmure_privacy.window import Calendar, Window

from murmure_ingest.archive import Archive, StoredAnnotation

SETTLED_S = 30.0  # VictoriaMetrics is seen to lose the last seven seconds
MESSAGES = 2000  # of one batch
_LINES = 5000  # of one request
_LOOK_S = 1.0  # how often the archive is asked for news
_RETRY_S = (1.0, 60.0)
_TELL_S = 10.0
MARKS = "murmure_annotation"
_MEASUREMENTS = {"count": "murmure_footfall", "level": "murmure_noise", "mean": "murmure_air"}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS place (target TEXT PRIMARY KEY, message INTEGER NOT NULL, head BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS late (message INTEGER PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS periods (
  stream TEXT NOT NULL, start_s INTEGER NOT NULL, end_s INTEGER NOT NULL, PRIMARY KEY (stream, start_s, end_s)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (hash BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
"""

Say = Callable[[str], None]
Period = tuple[str, Window]


class Target(Protocol):
    """What the mirror asks of a database; `murmure_ingest.influx.Database` is one."""

    @property
    def name(self) -> str:
        """What people know it by."""

    def write(self, lines: Sequence[str]) -> None:
        """Returns once the lines are acknowledged. Raises DatabaseError."""

    def run(self) -> str | None:
        """Returns what tells this run of it from any other, None if it does not say. Raises DatabaseError."""


class DatabaseError(MurmureError):
    """The database did not take the samples: keep them, wait, send them again."""


class MirrorError(MurmureError):
    """The place of the mirror cannot be read or written; the archive is not concerned."""


@dataclass(slots=True)
class _Place:
    """How far a database has got: the last message in the order of filing and the archive's running hash there, those
    messages before it that were filed after they had waited, the periods whose estimates are not sent yet, and the
    SHA-256 of the stewards' notes that are."""

    message: int = 0
    head: bytes = b""
    late: set[int] = field(default_factory=set)
    periods: set[Period] = field(default_factory=set)
    notes: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Lines to send, and how the place changes by them."""

    lines: list[str]
    message: int
    head: bytes
    messages: int
    late: frozenset[int]
    begun: frozenset[Period]
    ended: frozenset[Period]
    notes: frozenset[bytes]

    def changes(self, place: _Place) -> bool:
        return self.message != place.message or bool(self.late or self.begun or self.ended or self.notes)

    def apply(self, place: _Place) -> None:
        place.message, place.head = self.message, self.head
        place.late |= self.late
        place.periods = (place.periods | self.begun) - self.ended
        place.notes |= self.notes


class Cursor:
    """`mirror.db`: the place that a database has reached for good. `target`: which database; another begins anew."""

    def __init__(self, data_dir: Path, target: str) -> None:
        self.path, self._target = data_dir / "mirror.db", target
        self._lock = (data_dir / "mirror.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self._explained():
                self._db = sqlite3.connect(self.path, isolation_level=None)
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.executescript(_SCHEMA)
        except BlockingIOError as error:
            self._lock.close()
            raise ConfigError(str(data_dir), "mirror", "another mirror runs on it", "stop that one first") from error
        except MirrorError:
            self._lock.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._db.close()
        self._lock.close()

    def forget(self) -> None:
        """Begins from nothing."""
        with self._transaction():
            for table in ("place", "late", "periods", "notes"):
                self._db.execute(f"DELETE FROM {table}")

    def load(self, archive: Archive) -> _Place:
        """Returns the place, or the beginning: for another database, or if the archive is not the one that was mirrored
        (one restored from a backup has other messages under the same numbers)."""
        with self._explained():
            row = self._db.execute("SELECT message, head FROM place WHERE target = ?", (self._target,)).fetchone()
            late = {row for (row,) in self._db.execute("SELECT message FROM late")}
            notes = {note_hash for (note_hash,) in self._db.execute("SELECT hash FROM notes")}
            periods = {
                (stream, Window(start_s, end_s))
                for stream, start_s, end_s in self._db.execute("SELECT stream, start_s, end_s FROM periods")
            }
        if row is not None and (row[0] == 0 or row[1] == _head_at(archive, row[0])):
            return _Place(row[0], row[1], late, periods, notes)
        self.forget()
        return _Place()

    def keep(self, batches: Iterable[_Batch]) -> None:
        """Moves the place on, durably. Raises MirrorError, and then it stays where it was."""
        with self._transaction():
            for batch in batches:
                self._db.execute(
                    "INSERT INTO place VALUES (?, ?, ?) ON CONFLICT (target) DO UPDATE SET "
                    "message = excluded.message, head = excluded.head",
                    (self._target, batch.message, batch.head),
                )
                self._db.executemany("INSERT OR IGNORE INTO late VALUES (?)", [(row,) for row in batch.late])
                self._db.executemany("INSERT OR IGNORE INTO notes VALUES (?)", [(note,) for note in batch.notes])
                self._db.executemany("INSERT OR IGNORE INTO periods VALUES (?, ?, ?)", _rows(batch.begun))
                self._db.executemany(
                    "DELETE FROM periods WHERE stream = ? AND start_s = ? AND end_s = ?", _rows(batch.ended)
                )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                mend = "remove it and its companions, and the mirror begins from nothing"
            else:
                mend = "make room, or see who may write there; the mirror sends the rest again later"
            raise MirrorError(f"{self.path}: mirror: {error}; {mend}") from error


def mirrored(data_dir: Path) -> int | None:
    """Returns up to which row of the archive's messages a database has everything for good, None without a mirror.

    Only looks: a mirror that works beside is not disturbed, and a file that cannot be read is as good as none."""
    path = data_dir / "mirror.db"
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as db:
            (message,) = db.execute("SELECT max(message) FROM place").fetchone()
    except sqlite3.Error:
        return None
    return None if message is None else int(message)


def _rows(periods: Iterable[Period]) -> list[tuple[str, int, int]]:
    return [(stream, window.start_s, window.end_s) for stream, window in periods]


def _head_at(archive: Archive, row: int) -> bytes | None:
    found = next(archive.messages(after=row - 1), None)
    return found.head if found is not None and found.id == row else None


class Mirror:
    """Follows one archive into one database. Use from one thread.

    `clock`: seconds of a clock that never steps. `settled_s`: see SETTLED_S.
    """

    def __init__(
        self,
        archive: Archive,
        target: Target,
        cursor: Cursor,
        say: Say,
        clock: Callable[[], float],
        settled_s: float = SETTLED_S,
    ) -> None:
        self._archive, self._target, self._cursor = archive, target, cursor
        self._say, self._clock, self._settled_s = say, clock, settled_s
        self._rules = Rules(archive)
        self._calendars: dict[str, Calendar] = {}
        self._was: dict[str, str] = {}
        self._told_at = clock()
        self._run: str | None = None
        self._acknowledged: deque[tuple[float, _Batch]] = deque()
        self.messages, self.samples = 0, 0
        """What was sent so far, again included."""
        self._begin()

    def _begin(self) -> None:
        """Stands where the database has everything for good."""
        self._acknowledged.clear()
        self._place = self._cursor.load(self._archive)
        self._ends: dict[str, int] = {}  # up to where each stream has been read; unknown is as good as everything
        self._mark = -1

    @property
    def kept(self) -> bool:
        """Returns whether everything that was sent is in the database for good."""
        return not self._acknowledged

    def run(self, stop: Event, once: bool = False) -> None:
        """Mirrors until `stop` is set; with `once` until the database has everything for good, or does not take it.

        Raises DatabaseError with `once` only; otherwise waits for the database, ever longer, and says once what is
        wrong. Raises MirrorError if the place cannot be read."""
        wait_s = _RETRY_S[0]
        while not stop.is_set():
            try:
                busy = self.step()
            except DatabaseError as error:
                if self._run is None:
                    self._begin()  # it may have been another run that took the last batches
                if once:
                    raise
                self._tell("database", str(error))
                stop.wait(wait_s)
                wait_s = min(2 * wait_s, _RETRY_S[1])
                continue
            wait_s = _RETRY_S[0]
            if not busy:
                if once and self.kept:
                    return
                stop.wait(_LOOK_S)

    def step(self) -> bool:
        """Sends one batch, if there is something new. Returns whether there may be more at once."""
        mark = self._archive.change_mark()
        if not self._acknowledged and mark == self._mark:
            return False
        # Before each batch: what the run that answers now takes is lost only if another answers at the next look.
        if self._anew():
            return True
        if mark == self._mark:
            return False
        batch = self._gather()
        for at in range(0, len(batch.lines), _LINES):
            self._target.write(batch.lines[at : at + _LINES])
        if batch.changes(self._place):
            self._acknowledged.append((self._clock(), batch))
            batch.apply(self._place)
        self.messages += batch.messages
        self.samples += sum(map(_fields, batch.lines))
        if batch.messages == MESSAGES:
            self._progress()
            return True
        self._mark = mark
        self._tell("database", f"database {self._target.name}: has everything of the archive")
        return False

    def _anew(self) -> bool:
        """Sees whether another run of the database answers, and goes back then; else keeps the place that is safe."""
        run = self._target.run()
        before, self._run = self._run, run
        if before not in (None, run):
            self._tell("database", f"database {self._target.name}: was started anew; sending what it may have lost")
            self._begin()
            return True
        safe = [batch for at, batch in self._acknowledged if self._clock() - at >= self._settled_s]
        if safe:
            try:
                self._cursor.keep(safe)
            except MirrorError as error:
                self._tell("cursor", str(error))
                return False
            self._tell("cursor", "")
            for _ in safe:
                self._acknowledged.popleft()
        return False

    def _tell(self, subject: str, text: str) -> None:
        """Says what is new of a subject; nothing is the ordinary state."""
        if text != self._was.get(subject, ""):
            self._was[subject] = text
            self._say(text or f"{subject}: in order again")

    def _progress(self) -> None:
        if self._clock() - self._told_at >= _TELL_S:
            self._told_at = self._clock()
            self._say(f"database {self._target.name}: {self.messages:,} messages, {self.samples:,} samples sent")

    # --- from messages to lines --------------------------------------------------------------------------------------

    def _gather(self) -> _Batch:
        place = self._place
        stored = list(islice(self._archive.messages(after=place.message), MESSAGES))
        last = stored[-1] if stored else None
        message = last.id if last else place.message
        late = {row for row in self._archive.filed_late() if row <= message} - place.late
        again = [
            one
            for row in sorted(late)
            if row <= place.message
            for one in islice(self._archive.messages(after=row - 1), 1)
        ]
        lines: list[str] = []
        begun: set[Period] = set()
        for outcome in (outcome for one in (*again, *stored) for outcome in self._archive.opened(one)):
            node = outcome.node
            begun.add((node.stream, self._period(node.stream, [outcome], node.covered_from_s)))
            self._ends[node.stream] = max(node.end_s, self._ends.get(node.stream, 0))
            if isinstance(outcome, Release):
                lines += _own(outcome)
        ended = set[Period]()
        for stream, window in sorted(place.periods | begun):
            if self._ends.get(stream, window.end_s) < window.end_s:
                continue
            if not self._archive.complete_until(stream, window.end_s):
                continue
            wide, outcomes, levels = self._whole(stream, window)
            if wide != window and not self._archive.complete_until(stream, wide.end_s):
                continue
            ended.add((stream, window))
            lines += self._estimates(stream, wide, outcomes, levels)
        notes = {wire.digest(row[3]): row[0] for row in self._archive.annotation_rows()}
        new = notes.keys() - place.notes
        for site in sorted({notes[note] for note in new}):
            lines += _marks(self._archive.annotations(site), new)
        return _Batch(
            lines=list(dict.fromkeys(lines)),
            message=message,
            head=last.head if last else place.head,
            messages=len(stored),
            late=frozenset(late),
            begun=frozenset(begun),
            ended=frozenset(ended),
            notes=frozenset(new),
        )

    def _period(self, stream: str, outcomes: Sequence[Outcome], at_s: int) -> Window:
        return self._calendar(stream, outcomes).period(self._rules.levels(stream, outcomes), at_s)

    def _calendar(self, stream: str, outcomes: Sequence[Outcome]) -> Calendar:
        """That of the policy which the nodes name. A node without a policy has no figure, but its silence is part of
        those of the others: it stands in the calendar of its site's newest policy."""
        named = next((o.node.policy for o in outcomes if self._rules.of(o.node.policy)), b"")
        policy = self._rules.of(named)
        if policy is None:
            newest = self._archive.newest_policy(_site(stream))
            policy = self._rules.of(newest.hash) if newest else None
        timezone = policy.timezone if policy else "UTC"
        return self._calendars.setdefault(timezone, Calendar(timezone))

    def _whole(self, stream: str, window: Window) -> tuple[Window, list[Outcome], frozenset[str]]:
        """Returns what nodes share observations with those of a window: the window, or the weeks around it where the
        stream has weeks; its outcomes and levels."""
        seen = self._archive.outcomes(stream, window.start_s, window.end_s)
        levels = self._rules.levels(stream, seen)
        calendar = self._calendar(stream, seen)
        first, last = calendar.period(levels, window.start_s), calendar.period(levels, window.end_s - 1)
        wide = Window(first.start_s, last.end_s)
        if wide != window:
            seen = self._archive.outcomes(stream, wide.start_s, wide.end_s)
        return wide, [outcome for outcome in seen if outcome.node.covered_from_s in wide], levels

    def _estimates(
        self, stream: str, window: Window, outcomes: Sequence[Outcome], levels: frozenset[str]
    ) -> Iterator[str]:
        timezone = self._calendar(stream, outcomes).timezone
        for figure in Series(outcomes, timezone, levels).figures(window.end_s):
            # What was read off an energy has its own value too, but only where it has an estimate.
            value = figure.value if figure.sigma is None else None
            estimate = None if figure.bound else figure.estimate
            fields = {"value": value, "estimate": estimate, "ci95_low": figure.low, "ci95_high": figure.high}
            yield from _line(figure.quantity, stream, figure.level, figure.indicator, figure.start_s, fields)


def _own(release: Release) -> Iterator[str]:
    """What left the gateway. Of a histogram there is no single number."""
    node = release.node
    for noised in release.noised:
        if noised.indicator != "histogram":
            by = divisor(node, noised.indicator)
            fields = {"value": noised.integers[0] / by, "sigma": noised.sigma_milli / 1000 / by}
            name = printed_name(node, noised.indicator)
            yield from _line(node.quantity, node.stream, node.level, name, node.start_s, fields)


def _line(
    quantity: str, stream: str, level: str, indicator: str, start_s: int, fields: Mapping[str, float | None]
) -> Iterator[str]:
    """One line of InfluxDB's protocol (contract 8), none without a field. Names are those that policies allow, of which
    none needs escaping; numbers are those of the open data."""
    text = ",".join(f"{name}={number(value)}" for name, value in fields.items() if value is not None)
    if text:
        tags = f"site={_site(stream)},stream={stream},node={level},indicator={indicator}"
        yield f"{_MEASUREMENTS[QUANTITIES[quantity].kind]},{tags} {text} {start_s}"


def _marks(notes: Sequence[StoredAnnotation], new: Collection[bytes]) -> Iterator[str]:
    """What the new ones among a site's notes say. A mark is 1 from where it begins and 0 where it ends; what takes it
    back stands beside its begin. Causes are words of a closed list, and need no escaping."""
    marks = {stored.note.number: stored.note for stored in notes if isinstance(stored.note, Annotation)}
    for stored in notes:
        if wire.digest(stored.sealed) not in new:
            continue
        note = stored.note
        mark = note if isinstance(note, Annotation) else marks[note.withdraws]
        tags = f"{MARKS},site={mark.site},stream={mark.stream},number={mark.number},cause={mark.cause}"
        if note is mark:
            yield f"{tags} faulty=1 {mark.from_s}"
            yield f"{tags} faulty=0 {mark.to_s}"
        else:
            yield f"{tags} withdrawn=1 {mark.from_s}"


def _fields(line: str) -> int:
    return line.split(" ", 2)[1].count("=")


def _site(stream: str) -> str:
    """A stream is named by its site first; policies see to it."""
    return stream.partition("/")[0]
