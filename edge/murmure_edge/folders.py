"""Files that are there whole or not at all, read without trusting who wrote them; and who owns which folder.

`sense` and `send` meet in two folders as strangers: a name in there may be a symbolic link, a pipe or a terabyte.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from murmure_edge.config import GatewayConfig

FILE_MODE = 0o640  # the other process is in the folder's group: it may read


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Yields a descriptor of `folder`, which is no symbolic link. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def names(at: int) -> list[str]:
    """Returns the names in the folder with descriptor `at`, in no order."""
    with os.scandir(at) as entries:
        return [entry.name for entry in entries]


def write_whole(folder: Path, name: str, data: bytes) -> None:
    """Puts `data` at `folder/name`: written beside, synced, renamed, folder synced. Raises OSError, and then the old
    file, if there was one, is untouched."""
    beside = f".{name}.tmp"
    with opened(folder) as at:
        # Whatever stands where we write beside was left by a power cut or put there by a stranger.
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=at)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=at)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fchmod(descriptor, FILE_MODE)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(beside, name, src_dir_fd=at, dst_dir_fd=at)
        except OSError:
            with suppress(OSError):
                os.unlink(beside, dir_fd=at)
            raise
        os.fsync(at)


def read_regular(at: int, name: str, limit: int) -> bytes | None:
    """Returns the bytes of `name` in the folder with descriptor `at`; None if it is no regular file of at most `limit`
    bytes that we may read. Follows no link and waits for nothing."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=at)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        data = b""
        # A size can be a lie a moment later: read one byte beyond the limit at most, whatever comes.
        while len(data) <= limit and (piece := os.read(descriptor, limit + 1 - len(data))):
            data += piece
        return data if len(data) <= limit else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Owners:
    """The two users of a gateway and the group in which they meet, as numbers."""

    sense_uid: int
    sense_gid: int
    send_uid: int
    send_gid: int
    spool_gid: int


def prepare_folders(config: GatewayConfig, owners: Owners | None = None) -> None:
    """Makes the four folders of a gateway with their owners and modes (docs/gateway.md has the table).

    With `owners` the caller is root and everything is set right. Without, each process calls it at start: what is
    missing is made as the caller's own, and a folder of another user is left as it is. Folders above them that are
    missing are made too and stay with the caller, so that neither process can move a folder away. Raises OSError.
    """
    sense = spool = send = None
    if owners is not None:
        sense, spool = (owners.sense_uid, owners.sense_gid), (owners.sense_uid, owners.spool_gid)
        send = (owners.send_uid, owners.send_gid)
    for folder, owner, mode in (
        (config.data, sense, 0o700),
        (config.outbox, spool, 0o2750),
        # Owned by sense, not by send: whoever owns a folder could lock the other out of it.
        (config.inbox, spool, 0o2770),
        (config.send_data, send, 0o700),
    ):
        folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if owner is None and folder.lstat().st_uid != os.geteuid():
            continue
        with opened(folder) as at:
            if owner is not None:
                os.fchown(at, *owner)
            # A hardened unit may not set the group bit again, and need not.
            if stat.S_IMODE(os.fstat(at).st_mode) != mode:
                os.fchmod(at, mode)
