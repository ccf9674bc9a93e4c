"""What can be wrong with the archive's file, each kind as the line that an operator can act on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from murmure_privacy.errors import MurmureError


class ArchiveError(MurmureError):
    """The archive cannot be read or written: nothing of the present batch was kept."""


class ArchiveWaits(ArchiveError):
    """Nothing is wrong with the file: worth trying again; nothing was lost, since nothing was acknowledged."""


class ArchiveFull(ArchiveWaits):
    """No space for the commit: make room."""


class ArchiveBusy(ArchiveWaits):
    """Another process has been writing for longer than anybody waits in one go."""


class ArchiveDamaged(ArchiveError):
    """The file does not read as it was written: stop, and restore it from a backup."""


def damage_text(path: Path, detail: str) -> str:
    return f"{path}: archive: the file is damaged ({detail}); restore it from a backup, gateways send the rest again"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise explanation(path, error) from error


def explanation(path: Path, error: sqlite3.Error) -> ArchiveError:
    """Returns what SQLite says as one line that an operator can act on."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return ArchiveFull(f"{path}: archive: the disk is full; make room, nothing was lost")
    if code == sqlite3.SQLITE_IOERR:
        # Not waited for: what was written may be forgotten after a failed sync, and a file system that turned read-only
        # is mended only once nobody holds its files. Whoever starts the process again reads from the disk.
        return ArchiveError(
            f"{path}: archive: the disk refused ({error}): full, read-only or failing; nothing was lost"
        )
    if code == sqlite3.SQLITE_BUSY:
        return ArchiveBusy(f"{path}: archive: another process has been writing to it for long; trying again")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return ArchiveDamaged(damage_text(path, str(error)))
    return ArchiveError(f"{path}: archive: {error}; check who may read and write this file and its folder")
