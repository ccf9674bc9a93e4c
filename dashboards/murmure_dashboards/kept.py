"""Pages that would be made of the same as in the build before are not made again: the files are linked.

What a group of files is made of is summed up by whoever makes them (`of`), besides what all files are made with: this
package, the city, its limits and links. The sum stands in the store beside the site, with those of the files. A file
that is not what its sum says is made again: each is read through once a day, and whenever the file system says that it
was touched. Without the store, all of them are made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path

from murmure_privacy.window import Window

from murmure_dashboards import days as days_of
from murmure_dashboards.days import Days
from murmure_dashboards.packed import compressed, stands
from murmure_dashboards.store import Store, version
from murmure_dashboards.views import LATE_S, StreamInfo

PAGES, PAST, WORDS, WHOLE, SUMS = "pages", "past", "words", "whole", "sums"
"""In the store: of pages; of files that tell of days that are over alone; what `Words` gives; what was read through;
what `sum_of_days` gives, by the end of the days."""
_LATEST_S = 9 * 86_400  # a day is final with its week
EVER = Window(0, 1 << 40)


@dataclass(frozen=True, slots=True)
class Kept:
    """The site before, and what is known of its files. `take`: links a file with its twin into the new site, and takes
    it down. `draw`: gives so many random octets.

    A file is read through by the first build of a day (UTC) that keeps it; after that only where the file system says
    that it is another, or was touched (as in `Whole`). Once it stands in each of the three folders, builds make and
    delete no link of it, so that its time of change stays."""

    before: Path
    store: Store
    now_s: int
    take: Callable[[str], None]
    draw: Callable[[int], bytes]

    def files(
        self,
        group: str,
        of: object,
        made: Iterable[tuple[str, bytes]],
        kind: str = PAGES,
        lasts: Callable[[Collection[str]], bool] = lambda paths: True,
    ) -> Iterator[tuple[str, bytes]]:
        """Yields what `made` gives, or nothing where the site before has it: those files are linked. `of`: what they
        are made of; its `repr` says all of it. `group`: names them for ever, within a `kind`. `lasts` is asked once
        they are made, and given their paths: whether the same will follow from the same at any later instant."""
        told = key(of)
        found = self._unchanged(kind, group, told)
        if found is not None:
            for path in found:
                self.take(path)
            return
        sums = {}
        for path, content in made:
            sums[path] = _sum(content, compressed(content))
            yield path, content
        if lasts(sums):
            row = json.dumps({"of": told, "now_s": self.now_s, "files": sums}).encode()
            self.store.keep(kind, group, 0, EVER, row)

    def _unchanged(self, kind: str, group: str, told: str) -> Collection[str] | None:
        row = self.store.read(kind, group, Window(0, 1)).get(0)
        known = json.loads(row) if row is not None else {}
        # What is over by now need not have been over at an earlier instant.
        if known.get("of") != told or known["now_s"] > self.now_s:
            return None
        files, now, today = known["files"], {}, self.now_s // 86_400
        # What a disk loses without a write, nothing else would find.
        before = known["seen"] if known.get("day") == today else None
        try:
            for path, held in files.items():
                now[path] = _touched(self.before, path)
                if before is None or before.get(path) != now[path]:
                    content, twin = ((self.before / name).read_bytes() for name in (path, f"{path}.gz"))
                    if _sum(content, twin) != held:
                        return None
        except OSError:
            return None
        if now != before:
            self.store.keep(kind, group, 0, EVER, json.dumps({**known, "day": today, "seen": now}).encode())
        return list(files)


@dataclass(frozen=True, slots=True)
class Words:
    """A word for what the archive has of a stream since an instant: the same as before as long as nothing has come that
    touches what was made of it. The store forgets the word with whatever else it had made of that, and the next one is
    another. `draw`: as in `Kept`."""

    store: Store
    from_s: int
    draw: Callable[[int], bytes]

    def of(self, stream: str) -> str:
        """Returns the word, a new one where the store has none."""
        found = self.store.read(WORDS, stream, Window(self.from_s, self.from_s + 1)).get(self.from_s)
        return found.decode() if found is not None else self.draw(16).hex()

    def keep(self, stream: str, word: str, until_s: int) -> None:
        """Remembers a word of what the archive has until an instant."""
        self.store.keep(WORDS, stream, self.from_s, Window(self.from_s, until_s), word.encode())


@dataclass(frozen=True, slots=True)
class Whole:
    """Which files of the site before are what their sums say, and have their compressed twins. `found`: those of one
    build with their sums, and what the file system said of both.

    A file is read through once; after that, while the store remembers it, only if it is another file than then, or
    somebody has touched one of the two: by device, inode, size, time of writing and time of change. The last is set by
    the system alone, so that it also tells of a copy that was given the old time of writing; but links set it, too, and
    it is asked for when a build has made and deleted all of its links. So a build does not read the months of all
    years, of which nothing is new. What a disk loses without a write is found by SHA256SUMS alone."""

    found: dict[str, tuple[str, list[list[int]]]] = field(default_factory=dict)

    def stands(self, store: Store, out: Path, path: str, digest: str) -> bool:
        """Returns whether a file is what its SHA-256 says (hexadecimal), and has its twin."""
        try:
            now = _touched(out, path)
        except OSError:
            return False
        if store.read(WHOLE, path, Window(0, 1)).get(0) != _said(digest, now) and not stands(out, path, digest):
            return False
        self.found[path] = digest, now
        return True

    def remember(self, store: Store, out: Path) -> None:
        """Remembers the files that the new site has from the one before, once there are no other links to be made."""
        for path, (digest, then) in self.found.items():
            with suppress(OSError):
                now = _touched(out, path)
                if [of[:-1] for of in now] == [of[:-1] for of in then]:
                    store.keep(WHOLE, path, 0, EVER, _said(digest, now))


def _touched(out: Path, path: str) -> list[list[int]]:
    """Returns what the file system says of a file and its twin, the time of change (ns) at the end of each."""
    seen = [os.stat(f"{out}/{path}{end}") for end in ("", ".gz")]  # noqa: PTH116 - a path object for each takes longer
    return [[one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns] for one in seen]


def _said(digest: str, touched: list[list[int]]) -> bytes:
    return repr((digest, touched)).encode()


def sum_of_days(days: Days, info: StreamInfo, window: Window) -> str | None:
    """Returns the sum of all that is kept of the days of a stream in a window of whole days, None while one of them
    can still change. It is kept itself: to sum up a year of each stream took longer than to say what is new of it."""
    calendar, now_s, store = days.calendar, days.now_s, days.store
    began_s = days.archive.began_s(info.stream)
    first_s = window.end_s if began_s is None else max(window.start_s, calendar.day(began_s - 1).start_s)
    first_s = min(first_s, window.end_s)
    kept = store.read(SUMS, info.stream, Window(window.end_s, window.end_s + 1)).get(window.end_s)
    from_s, over_s, told = json.loads(kept) if kept is not None else (None, 0, "")
    if from_s == first_s:
        return told if over_s + LATE_S <= now_s else None
    # The first node may have begun days before the one on which it ended.
    kept_s = max(window.start_s, first_s - _LATEST_S)
    held = sorted(store.read(days_of.KIND, info.stream, Window(kept_s, window.end_s)).items())
    since = sum(start_s >= first_s for start_s, _ in held)
    if since != (calendar.civil_day(window.end_s) - calendar.civil_day(first_s)).days:
        return None
    digest, over_s = hashlib.sha256(b"%d" % first_s), window.end_s
    for start_s, value in held:
        if start_s >= window.end_s - _LATEST_S:
            of, until_s, *_ = json.loads(value)
            over_s = max(over_s, of[1], until_s)
        digest.update(b"%d %d " % (start_s, len(value)) + value)
    if over_s + LATE_S > now_s:
        return None
    row = json.dumps((first_s, over_s, digest.hexdigest())).encode()
    store.keep(SUMS, info.stream, window.end_s, Window(first_s - _LATEST_S, over_s), row)
    return digest.hexdigest()


def key(of: object) -> str:
    """Returns the sum of all that something of a page is made of: of what it is made with, and of `of`, whose `repr`
    says all of it."""
    return hashlib.sha256(repr((_made_with(), of)).encode()).hexdigest()


def _sum(content: bytes, twin: bytes) -> str:
    return hashlib.sha256(b"%d " % len(content) + content + twin).hexdigest()


@cache
def _made_with() -> str:
    """Returns the sum of all that pages are made with, whatever they tell; with other rules of the timezone, the store
    has no sum of the site before."""
    digest = hashlib.sha256(repr((version(), sys.version, zlib.ZLIB_RUNTIME_VERSION)).encode())
    digest.update(metadata.version("jinja2").encode())
    for content in _contents(resources.files("murmure_dashboards")):
        digest.update(content)
    return digest.hexdigest()


def _contents(folder: Traversable) -> Iterator[bytes]:
    """Yields templates, catalogues and other texts, each with its name; `version` has the code."""
    for one in sorted(folder.iterdir(), key=lambda one: one.name):
        if one.is_dir() and one.name != "__pycache__":
            yield from _contents(one)
        elif one.is_file() and not one.name.endswith((".py", ".pyc")):
            yield one.name.encode() + b"\0" + one.read_bytes()
