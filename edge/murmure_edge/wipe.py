"""`murmure edge wipe`: takes a gateway's keys, ledger and messages off its card, before it is given away.

Nothing on the card was ever a reading; what could be misused are the keys. Each file is overwritten where it lies,
synced, renamed and removed. A flash card may keep old copies of what it moved inside itself: the revocation in the
register is what ends a gateway, and the last line says so.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from murmure_privacy.errors import ConfigError, MurmureError

from murmure_edge.config import GatewayConfig, load

_BLOCK = 1 << 20


class WipeError(MurmureError):
    """Something could not be removed: the line says what is still there."""


def what_is_there(config_path: Path) -> list[Path]:
    """Returns the files that `wipe` would remove. Raises ConfigError if there is no gateway."""
    return list(_all_files(load(config_path)))


def wipe(config_path: Path, free_space: bool = False, progress: Callable[[int], None] = lambda _: None) -> list[Path]:
    """Removes everything that `gateway.toml` names and itself. Returns what was removed.

    `free_space`: then fills the free space of their file systems with zeros, where files lay that were removed earlier
    (settled messages, journals of the database); ext4 keeps up to two hundredths of it to itself. `progress` is told
    how many bytes that were so far.

    Raises ConfigError if there is no gateway or if `sense` runs, WipeError if something stays.
    """
    config = load(config_path)
    with _alone(config):
        removed, left = [], []
        for path in list(_all_files(config)):
            try:
                overwrite(path)
                removed.append(path)
            except OSError as error:
                left.append(f"{path} ({error.strerror})")
        for folder in _folders(config):
            shutil.rmtree(folder, ignore_errors=True)
            # A folder of the installation may stay for its owner; what was in it is gone.
            if folder.is_dir() and any(folder.iterdir()):
                left.append(str(folder))
        if free_space:
            os.sync()  # a journal gives blocks back only once it has committed what freed them
            for folder in {_mount(path): path for path in (*_folders(config), config.file.parent)}.values():
                _fill(folder, progress)
        if left:
            raise WipeError(f"edge wipe: still there: {', '.join(left)}; run it as root, with both processes stopped")
        return removed


@contextmanager
def _alone(config: GatewayConfig) -> Iterator[None]:
    """Keeps `sense` from running meanwhile, as another `sense` would. Raises ConfigError if it runs."""
    lock = config.data / "gateway.db.lock"
    if not lock.exists():
        yield
        return
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mend = "stop murmure-sense and murmure-send first"
            raise ConfigError(str(config.data / "gateway.db"), "file", "`sense` is running", mend) from None
        yield


def _folders(config: GatewayConfig) -> tuple[Path, ...]:
    return config.data, config.outbox, config.inbox, config.send_data


def _all_files(config: GatewayConfig) -> Iterator[Path]:
    for folder in _folders(config):
        for parent, _, names in os.walk(folder):
            yield from (Path(parent, name) for name in names)
    for path in (config.trust, config.file):  # gateway.toml last: without it nobody would know what is left
        if path.exists():
            yield path


def overwrite(path: Path) -> None:
    """Writes zeros over a file where it lies, gives it a name that says nothing, and removes it. Raises OSError."""
    if not path.is_symlink() and path.is_file():
        with path.open("r+b", buffering=0) as file:
            left = os.fstat(file.fileno()).st_size
            while left > 0:
                left -= file.write(bytes(min(left, _BLOCK)))
            os.fsync(file.fileno())
    nameless = path.with_name(f".{'0' * 12}")
    path.rename(nameless)
    nameless.unlink()


def _standing(path: Path) -> Path:
    """Returns the path, or the folder above it that is still there."""
    while not path.is_dir():
        path = path.parent
    return path


def _mount(path: Path) -> int:
    return _standing(path).stat().st_dev


def _fill(path: Path, progress: Callable[[int], None]) -> None:
    filler = _standing(path) / ".murmure-wipe"
    written = 0
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (_BLOCK, 4096, 1):  # the last free corner, too
                try:
                    while True:
                        written += file.write(bytes(size))
                        progress(written)
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise WipeError(f"{filler}: {error.strerror}; free space was not overwritten") from error
            with suppress(OSError):
                os.fsync(file.fileno())
    finally:
        filler.unlink(missing_ok=True)
