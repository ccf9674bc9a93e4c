"""The outbox: sealed messages on their way, as rows in gateway.db and as files that `send` may read.

The table is the truth and commits with the charge; the folder is a copy of its oldest part, re-made at start. A message
stays until the centre's signed receipt for it has come, since a broker's PUBACK promises nothing.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from murmure_privacy.files import names, opened, read_regular
from murmure_privacy.wire import MESSAGE_LIMIT

from murmure_edge.folders import write_whole

HEALTH = "health.cose"
ROOM = 1000  # messages in the folder: 4 MB in blocks of 4 KiB
_NAME = re.compile(r"[0-9]{12}\.cose")


def name_of(seq: int) -> str:
    """Returns the file name of message `seq`; names sort as the messages do."""
    return f"{seq:012d}.cose"


def seq_of(name: str) -> int | None:
    """Returns the message's number, or None if `name` is not that of a message."""
    return int(name[:12]) if _NAME.fullmatch(name) else None


def materialise(folder: Path, seq: int, sealed: bytes) -> None:
    """Puts message `seq` where `send` reads it, whole and on disk. Raises OSError (the disk is full): try later."""
    write_whole(folder, name_of(seq), sealed)


def remove(folder: Path, seq: int) -> None:
    """Takes message `seq` away; it need not be there. Raises OSError."""
    with opened(folder) as at, suppress(FileNotFoundError):
        os.unlink(name_of(seq), dir_fd=at)


def sync(folder: Path, wanted: Collection[int], fetch: Callable[[int], bytes | None]) -> set[int]:
    """Takes away what is not `wanted` or not what the table says; `fetch` reads the table.

    Returns the numbers of the messages that are there, whole and right. Raises OSError if the folder cannot be used.
    """
    right = set()
    with opened(folder) as at:
        for name in names(at):
            seq = seq_of(name)
            if seq is not None and seq in wanted and read_regular(at, name, MESSAGE_LIMIT) == fetch(seq):
                right.add(seq)
            elif name != HEALTH:
                _clear_away(folder, at, name)
    return right


def _clear_away(folder: Path, at: int, name: str) -> None:
    """Removes whatever stands there; a thing that will not go stays, and hurts nobody but its own message."""
    try:
        os.unlink(name, dir_fd=at)
    except OSError:
        shutil.rmtree(folder / name, ignore_errors=True)


class Outbox:
    """The folder as `sense` keeps it: never fails, says once what is wrong and makes it good when it can.

    It holds the oldest `room` messages of those that wait; the others follow as receipts come. A year without network
    would otherwise fill the card twice, in blocks, and make `send` look at thousands of names each time.
    """

    def __init__(
        self, folder: Path, say: Callable[[str], None], fetch: Callable[[int], bytes | None], room: int = ROOM
    ) -> None:
        """`fetch` reads the table: the sealed bytes of a message, None for one that it does not hold."""
        self._folder, self._say, self._fetch, self._room = folder, say, fetch, room
        self._again: tuple[int, ...] = ()
        self._first, self._newest = 1, 0
        self._placed: set[int] = set()
        self._complained = False

    @property
    def owed(self) -> frozenset[int]:
        """Returns the messages that should be in the folder and could not be put there yet."""
        return frozenset(self._wanted()) - self._placed

    def start(self, first: int, newest: int) -> None:
        """Makes the folder equal to the table, in which `first` to `newest` wait (none if `first` is beyond)."""
        self._again, self._first, self._newest, self._placed = (), first, newest, set()
        try:
            self._placed = sync(self._folder, frozenset(self._wanted()), self._fetch)
        except OSError as error:
            self._complain(error)
        self.retry()

    def put(self, seq: int) -> None:
        """Message `seq`, the one after the newest, is in the table: it goes into the folder if it is its turn."""
        self._newest = seq
        self.retry()

    def put_health(self, sealed: bytes) -> None:
        """Puts the gateway's health; an older one is replaced. A failure is not made good: the next report comes."""
        try:
            write_whole(self._folder, HEALTH, sealed)
        except OSError as error:
            self._complain(error)

    def settle(self, first: int, again: Iterable[int]) -> None:
        """Only what is `first` or later waits now, and before it go the settled ones that the centre asks for `again`
        (ascending). What cannot be taken away now goes at the next start."""
        self._first, self._again = first, tuple(islice(again, self._room))
        for seq in sorted(self._placed.difference(self._wanted())):
            self._placed.discard(seq)
            try:
                remove(self._folder, seq)
            except OSError as error:
                self._complain(error)
        self.retry()

    def retry(self) -> None:
        """Puts what should be there and is not, oldest first, until one cannot be put."""
        for seq in self._wanted():
            if seq in self._placed:
                continue
            sealed = self._fetch(seq)
            try:
                if sealed is not None:
                    materialise(self._folder, seq, sealed)
            except OSError as error:
                return self._complain(error)
            self._placed.add(seq)
        if self._complained:
            self._complained = False
            self._say(f"{self._folder}: every message is in its place again")
        return None

    def _wanted(self) -> Iterator[int]:
        return islice(chain(self._again, range(self._first, self._newest + 1)), self._room)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            problem = error.strerror or error
            self._say(f"{self._folder}: {problem}; messages wait in gateway.db, make room")
