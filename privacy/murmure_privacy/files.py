"""Files that are there whole or not at all, in folders that strangers may write to.

Two processes meet in a folder, and a stick goes through many hands: a name in there may be a symbolic link, a pipe, a
device or a terabyte. Everything goes by the descriptor of an open folder, so that nobody can put another in its place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def opened(folder: Path | str, within: int | None = None) -> Iterator[int]:
    """Yields a descriptor of `folder` (in the folder with descriptor `within`), which is no symbolic link. Raises
    OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder, flags, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def names(at: int) -> list[str]:
    """Returns the names in the folder with descriptor `at`, in no order."""
    with os.scandir(at) as entries:
        return [entry.name for entry in entries]


def put_whole(at: int, name: str, data: bytes, mode: int | None = None) -> None:
    """Puts `data` at `name` in the folder with descriptor `at`: written beside, synced, renamed; the caller syncs the
    folder. `mode`: that of the file; None on a stick, whose file system may know no modes.

    Raises OSError, and then the old file, if there was one, is untouched."""
    beside = f".{name}.tmp"
    # Whatever stands where we write beside was left by a power cut or put there by a stranger.
    with suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=at)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(beside, flags, 0o644 if mode is None else 0o600, dir_fd=at)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if mode is not None:
                os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(beside, name, src_dir_fd=at, dst_dir_fd=at)
    except OSError:
        with suppress(OSError):
            os.unlink(beside, dir_fd=at)
        raise


def read_beginning(at: int, name: str, size: int) -> bytes | None:
    """Returns the first `size` bytes of `name` in the folder with descriptor `at`, all if it is shorter; None if it is
    no regular file that we may read. Follows no link and waits for nothing."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=at)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        data = b""
        while len(data) < size and (piece := os.read(descriptor, size - len(data))):
            data += piece
        return data
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_regular(at: int, name: str, limit: int) -> bytes | None:
    """Returns the bytes of `name` as `read_beginning` does; None also if it has more than `limit` of them."""
    # A size can be a lie a moment later: read one byte beyond the limit at most, whatever comes.
    data = read_beginning(at, name, limit + 1)
    return data if data is not None and len(data) <= limit else None
