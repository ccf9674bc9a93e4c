"""`murmure edge wipe`: takes a gateway's keys, ledger and messages off its card, before it is given away.

Nothing on the card was ever a reading; what could be misused are the keys. Each file is overwritten where it lies,
synced, renamed and removed. A flash card may keep old copies of what it moved inside itself: the revocation in the
register is what ends a gateway, and the last line says so.

It runs as root in folders of other users, one of whom may have been taken over: everything below a folder goes by the
descriptor of what was opened without following a link, so that nothing outside is touched, whoever swaps what.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.files import names, opened

from murmure_edge.config import load

_BLOCK = 1 << 20
_DEEPEST = 16  # folders in folders: a gateway makes none
_SIGNS = ("record.key", "enrolment.json", "gateway.db")  # only a gateway's data folder has one of them
_LOCKS = (("gateway.db.lock", "sense"), ("send.lock", "send"))


class WipeError(MurmureError):
    """Something could not be removed: the line says what is still there."""


@dataclass(frozen=True, slots=True)
class _Gateway:
    """What is to go. `folders`: of sense, outbox, inbox and of send, whole; `files`: single ones, in this order."""

    folders: tuple[Path, Path, Path, Path]
    files: tuple[Path, ...]


def what_is_there(config_path: Path) -> list[Path]:
    """Returns the files that `wipe` would remove. Raises ConfigError if there is no gateway."""
    gateway = _gateway(config_path)
    found = []
    for folder in gateway.folders:
        with suppress(OSError), opened(folder) as at:
            found += [path for _, path, is_folder in _entries(at, folder) if not is_folder]
    return [*found, *(path for path in gateway.files if os.path.lexists(path))]


def wipe(config_path: Path, free_space: bool = False, progress: Callable[[int], None] = lambda _: None) -> list[Path]:
    """Removes everything that `gateway.toml` names and itself. Returns what was removed.

    A gateway without a gateway.toml (its enrolment was cut short) or with one that cannot be read is known by what
    lies where the enrolment puts it: in /var/lib for /etc/murmure/gateway.toml, else beside the file. The authority's
    certificate stays if it lies elsewhere: it is public and may be the whole machine's.

    `free_space`: then fills the free space of their file systems with zeros, where files lay that were removed earlier
    (settled messages, journals of the database); ext4 keeps up to two hundredths of it to itself. `progress` is told
    how many bytes that were so far.

    Raises ConfigError if there is no gateway or if `sense` or `send` runs, WipeError if something stays.
    """
    gateway = _gateway(config_path)
    with _alone(gateway):
        removed: list[Path] = []
        left: list[str] = []
        for folder in gateway.folders:
            _empty(folder, removed, left)
        for path in gateway.files:
            with _noted(path, left), opened(path.parent.resolve()) as at:
                overwrite_at(at, path.name)
                removed.append(path)
        if free_space:
            os.sync()  # a journal gives blocks back only once it has committed what freed them
            for folder in {_mount(path): path for path in (*gateway.folders, config_path.absolute().parent)}.values():
                _fill(folder, progress)
        if left:
            raise WipeError(f"edge wipe: still there: {', '.join(left)}; run it as root, with both processes stopped")
        return removed


def _gateway(config_path: Path) -> _Gateway:
    """Returns what belongs to the gateway. Raises ConfigError if there is none."""
    try:
        config = load(config_path)
    except ConfigError:
        gateway = _half_enrolled(config_path)
        if gateway is None:
            raise
        return gateway
    folders = (config.data, config.outbox, config.inbox, config.send_data)
    tls = config.broker.tls if config.broker else None
    named = [config.trust, *((tls.certificate, tls.key) if tls else ())]
    outside = [path for path in named if not any(path.is_relative_to(folder) for folder in folders)]
    # gateway.toml last: without it nobody would know what is left.
    # One file may be named twice, as that of the TLS key and of its certificate.
    files = dict.fromkeys(path for link in (*outside, config.file) for path in _with_target(link))
    return _Gateway(folders, tuple(files))


def _with_target(path: Path) -> tuple[Path, ...]:
    """Returns the file to which a link leads, which holds what the link does not, and the link."""
    return (Path(os.path.realpath(path)), path) if path.is_symlink() else (path,)


def _half_enrolled(config_path: Path) -> _Gateway | None:
    """Returns the gateway that lies where the enrolment puts it, None if there is no sign of one: nobody else's folder
    that happens to be called `data` is touched."""
    from murmure_edge.enrol import Layout  # it takes `overwrite` from here

    layout = Layout.installed()
    if config_path.absolute() != layout.config:
        layout = Layout.beside(config_path)
    if not any(os.path.lexists(layout.data / name) for name in _SIGNS):
        return None
    folders = (layout.data, layout.spool / "outbox", layout.spool / "inbox", layout.send_data)
    return _Gateway(folders, (layout.config.with_name("trust.toml"), layout.config))


@contextmanager
def _alone(gateway: _Gateway) -> Iterator[None]:
    """Keeps `sense` and `send` from running meanwhile, as another of them would. Raises ConfigError if one runs."""
    with ExitStack() as held:
        for folder, (lock, process) in zip((gateway.folders[0], gateway.folders[3]), _LOCKS, strict=True):
            try:
                with opened(folder) as at:
                    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                    descriptor = os.open(lock, flags, dir_fd=at)
                    held.callback(os.close, descriptor)
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                mend = "stop murmure-sense and murmure-send first"
                raise ConfigError(str(folder / lock), "file", f"`{process}` is running", mend) from None
            except PermissionError:
                raise ConfigError(str(folder), "folder", "may not be looked into", "run it as root") from None
            except OSError:
                continue  # no lock file: it has never run, or has lost what it had
        yield


@contextmanager
def _noted(path: Path, left: list[str]) -> Iterator[None]:
    """Notes a path that could not be removed; one that is not there has gone."""
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        left.append(f"{path} ({error.strerror})")


def _entries(at: int, path: Path, depth: int = 0) -> Iterator[tuple[int, Path, bool]]:
    """Yields what lies below `path`, the folder with descriptor `at`, as (descriptor of its folder, path, whether it is
    a folder): folders first, each after what is in it, so that all can be removed on the way."""
    found = [(not _is_folder(at, name), name) for name in names(at)]
    for is_file, name in sorted(found):
        if not is_file and depth < _DEEPEST:
            with suppress(OSError), opened(name, within=at) as inner:
                yield from _entries(inner, path / name, depth + 1)
        yield at, path / name, not is_file


def _is_folder(at: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _empty(folder: Path, removed: list[Path], left: list[str]) -> None:
    with _noted(folder, left), opened(folder) as at:
        for within, path, is_folder in _entries(at, folder):
            with _noted(path, left):
                if is_folder:
                    os.rmdir(path.name, dir_fd=within)
                else:
                    overwrite_at(within, path.name)
                    removed.append(path)
    # A folder of the installation may stay for its owner; what was in it is gone.
    with suppress(OSError):
        folder.rmdir()


def overwrite(path: Path) -> None:
    """Writes zeros over a file where it lies, gives it a name that says nothing, and removes it. Raises OSError."""
    with opened(path.parent.resolve()) as at:
        overwrite_at(at, path.name)


def overwrite_at(at: int, name: str) -> None:
    """Does that with `name` in the folder with descriptor `at`. What is no file is only removed, and so is another
    name of somebody else's file: whoever owns a folder can make one in it."""
    found = os.stat(name, dir_fd=at, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISREG(found.st_mode) and (found.st_nlink == 1 or found.st_uid == os.fstat(at).st_uid):
        descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            opened_now = os.fstat(descriptor)
            if (opened_now.st_dev, opened_now.st_ino) != (found.st_dev, found.st_ino):
                raise OSError(errno.ESTALE, "was swapped meanwhile")
            left = opened_now.st_size
            while left > 0:
                left -= file.write(bytes(min(left, _BLOCK)))
            os.fsync(descriptor)
    nameless = f".{'0' * 12}"
    os.rename(name, nameless, src_dir_fd=at, dst_dir_fd=at)
    os.unlink(nameless, dir_fd=at)


def _standing(path: Path) -> Path:
    """Returns the path, or the folder above it that is still there."""
    while not path.is_dir():
        path = path.parent
    return path


def _mount(path: Path) -> int:
    return _standing(path).stat().st_dev


def _fill(path: Path, progress: Callable[[int], None]) -> None:
    folder, name = _standing(path), ".murmure-wipe"
    written = 0
    with opened(folder.resolve()) as at:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=at)
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=at)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                for size in (_BLOCK, 4096, 1):  # the last free corner, too
                    try:
                        while True:
                            written += file.write(bytes(size))
                            progress(written)
                    except OSError as error:
                        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                            line = f"{folder / name}: {error.strerror}; free space was not overwritten"
                            raise WipeError(line) from error
                with suppress(OSError):
                    os.fsync(descriptor)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=at)
