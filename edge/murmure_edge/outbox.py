"""The outbox: sealed messages on their way, as rows in gateway.db and as files that `send` may read.

The table is the truth and commits with the charge; the folder is a copy of it, re-made at start. A message stays until
the centre's signed receipt for it has come, since a broker's PUBACK promises nothing.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from murmure_privacy.wire import MESSAGE_LIMIT

from murmure_edge.folders import names, opened, read_regular, write_whole

HEALTH = "health.cose"
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


def sync(folder: Path, rows: Mapping[int, bytes]) -> list[int]:
    """Makes the folder equal to the table: strangers go, what is missing or differs is made again.

    Returns the numbers of the messages that could not be put there, oldest first. Raises OSError if the folder itself
    cannot be used.
    """
    right = set()
    with opened(folder) as at:
        for name in names(at):
            seq = seq_of(name)
            if seq is not None and seq in rows and read_regular(at, name, MESSAGE_LIMIT) == rows[seq]:
                right.add(seq)
            elif name != HEALTH:
                _clear_away(folder, at, name)
    owed = []
    for seq in sorted(rows.keys() - right):
        try:
            materialise(folder, seq, rows[seq])
        except OSError:
            owed.append(seq)
    return owed


def _clear_away(folder: Path, at: int, name: str) -> None:
    """Removes whatever stands there; a thing that will not go stays, and hurts nobody but its own message."""
    try:
        os.unlink(name, dir_fd=at)
    except OSError:
        shutil.rmtree(folder / name, ignore_errors=True)


class Outbox:
    """The folder as `sense` keeps it: never fails, says once what is wrong and makes it good when it can."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._owed: set[int] = set()
        self._complained = False

    @property
    def owed(self) -> frozenset[int]:
        """Returns the messages that are in the table and could not be put into the folder yet."""
        return frozenset(self._owed)

    def start(self, rows: Mapping[int, bytes]) -> None:
        """Makes the folder equal to the table."""
        try:
            self._owed = set(sync(self._folder, rows))
            if not self._owed:
                return
            problem = "no room for every message"
        except OSError as error:
            self._owed, problem = set(rows), error.strerror or str(error)
        self._complain(problem)

    def put(self, seq: int, sealed: bytes) -> bool:
        """Puts one message, or remembers that it is owed. Returns whether it is in its place."""
        try:
            materialise(self._folder, seq, sealed)
        except OSError as error:
            self._owed.add(seq)
            self._complain(error.strerror or str(error))
            return False
        self._owed.discard(seq)
        return True

    def put_health(self, sealed: bytes) -> None:
        """Puts the gateway's health; an older one is replaced. A failure is not made good: the next report comes."""
        try:
            write_whole(self._folder, HEALTH, sealed)
        except OSError as error:
            self._complain(error.strerror or str(error))

    def clear(self, seqs: Iterable[int]) -> None:
        """Takes settled messages away. What cannot be taken away now goes at the next start."""
        for seq in seqs:
            self._owed.discard(seq)
            try:
                remove(self._folder, seq)
            except OSError as error:
                self._complain(error.strerror or str(error))

    def retry(self, fetch: Callable[[int], bytes | None]) -> None:
        """Tries the oldest owed messages again; `fetch` reads the table, None for a row that has gone."""
        for seq in sorted(self._owed):
            sealed = fetch(seq)
            if sealed is None:
                self._owed.discard(seq)
            elif not self.put(seq, sealed):
                return
        if self._complained and not self._owed:
            self._complained = False
            self._say(f"{self._folder}: every message is in its place again")

    def _complain(self, problem: str) -> None:
        if not self._complained:
            self._complained = True
            self._say(f"{self._folder}: {problem}; messages wait in gateway.db, make room")
