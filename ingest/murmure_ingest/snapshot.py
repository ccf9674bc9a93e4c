"""A copy of a database that another process may be writing: whole and on the disk under its name, or not there."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote


def snapshot(source: Path, target: Path, check: Callable[[Path], None] = lambda _: None) -> None:
    """Copies the SQLite file `source`, as it stands at one instant, to `target`, replacing what is there.

    Writers are not held up. `check` is given the copy before it gets its name; what it raises, and sqlite3.Error or
    OSError, leave an older `target` untouched.
    """
    beside = target.with_name(f".{target.name}.new")
    beside.unlink(missing_ok=True)
    try:
        # All pages in one step: in several, every commit of the writer would begin the copy anew.
        with (
            closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as live,
            closing(sqlite3.connect(beside)) as copy,
        ):
            live.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # at rest it is one file, and readable where nobody may write
        beside.chmod(source.stat().st_mode & 0o777)
        check(beside)
        sync(beside)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(target.parent)


def sync(path: Path) -> None:
    """Makes what was written to a file, or the names in a folder, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
