"""The centre on another disk, and back: the archive while it is written to, and every other file of `data_dir`.

A backup is a folder named by its time that appears whole or not at all: `archive.db`, which holds nothing secret;
`keys/`, all else of `data_dir`, for the owner alone; and `backup.json`, which has the SHA-256 of each file and the
archive's running hash.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from murmure_privacy.errors import ConfigError, MurmureError

from murmure_ingest.archive import FIRST_HEAD, ArchiveDamaged, next_head
from murmure_ingest.certificates import ISSUED, mark_restored
from murmure_ingest.config import IngestConfig
from murmure_ingest.snapshot import sha256_of, snapshot, sync

MANIFEST = "backup.json"
_ARCHIVE, _KEYS = "archive.db", "keys"
_NAME = re.compile(r"\d{8}T\d{6}Z")
_SQLITE = b"SQLite format 3\x00"
_REMAINS = ("-wal", "-shm", "-journal", ".new", ".lock")  # part of a database beside them, not finished, or empty


class BackupError(MurmureError):
    """Nothing was copied, or nothing was put back: mend what the line names and run it again."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup: its folder, how many messages it has, and the archive's running hash over them."""

    folder: Path
    messages: int
    head: bytes


def name_of(now: datetime) -> str:
    """Returns what a backup begun at this instant (UTC) is called; a second has room for one."""
    return f"{now:%Y%m%dT%H%M%SZ}"


def back_up(config: IngestConfig, folder: Path, now: datetime, *, keep: int, keys: bool = True) -> Backup:
    """Copies the centre into a new folder of `folder`, named by `now` (UTC), and removes the oldest beyond `keep`.

    The centre may run. Without `keys` only the archive is copied: restored, it is an archive and no centre.
    Raises ConfigError where there is nothing to copy or no folder, BackupError where there is no room, ArchiveDamaged
    if the copy does not read.
    """
    if not config.archive.is_file():
        raise ConfigError(str(config.archive), "archive", "there is no such file", "give the ingest.toml of a centre")
    try:
        config.archive.open("rb").close()
    except OSError as error:
        mend = "run it as the user of the centre (murmure-centre)"
        raise ConfigError(str(config.archive), "archive", error.strerror or str(error), mend) from error
    if not folder.is_dir():
        # Making it would put the backup onto the very disk that may die, if the other one is not mounted.
        raise ConfigError(str(folder), "DIR", "there is no such folder", "mount its disk, or create it")
    if folder.resolve().is_relative_to(config.data_dir.resolve()):
        raise ConfigError(str(folder), "DIR", "it lies in data_dir itself", "give a folder on another disk")
    name = name_of(now)
    made, beside = folder / name, folder / f".{name}.new"
    with _explained(folder):
        if made.exists():
            raise ConfigError(str(made), "DIR", "this second has its backup", "run it again")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(mode=0o700)
        try:
            found = _fill(config, beside, keys)
            sync(beside)
            beside.rename(made)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        sync(folder)
        _prune(folder, keep)
    return Backup(made, *found)


def _fill(config: IngestConfig, into: Path, keys: bool) -> tuple[int, bytes]:
    if keys:  # before the archive, so that it knows of every certificate here whose key it is
        (into / _KEYS).mkdir(mode=0o700)
        for source in _others(config.data_dir):
            target = into / _KEYS / source.relative_to(config.data_dir)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _copy(source, target)
            target.chmod(0o600)
    found: list[tuple[int, bytes]] = []
    snapshot(config.archive, into / _ARCHIVE, lambda copy: found.append(_read_through(copy)))
    messages, head = found[0]
    files = {str(path.relative_to(into)): sha256_of(path) for path in _files(into)}
    manifest = {"backup": 1, "messages": messages, "head": head.hex(), "files": files}
    _write(into / MANIFEST, json.dumps(manifest, indent=1).encode())
    return messages, head


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _others(data_dir: Path) -> list[Path]:
    """Returns what a centre keeps beside its archive, without copies and remains."""
    return [path for path in _files(data_dir) if not path.name.startswith(_ARCHIVE) and not _remains(path)]


def _remains(path: Path) -> bool:
    return path.name.endswith(_REMAINS)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        if file.read(len(_SQLITE)) == _SQLITE:
            return snapshot(source, target)
    shutil.copyfile(source, target)
    return sync(target)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    sync(path)


def _read_through(path: Path) -> tuple[int, bytes]:
    """Returns number and running hash of the messages of an archive of any version, once every page of it was read
    and the hash was computed again. Raises ArchiveDamaged."""
    messages, head = 0, FIRST_HEAD
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as db:
        damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise ArchiveDamaged(f"{path}: archive: the copy is damaged ({damage}); check both disks and try again")
        for message_hash, stored in db.execute("SELECT hash, head FROM messages ORDER BY id"):
            messages, head = messages + 1, next_head(head, message_hash)
            if stored != head:
                raise ArchiveDamaged(
                    f"{path}: archive: the running hash breaks at message {messages}; "
                    "see 'murmure ingest verify', and use the backup before"
                )
    return messages, head


def _prune(folder: Path, keep: int) -> None:
    complete = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name) and (path / MANIFEST).is_file())
    for path in complete[:-keep]:
        # It loses its name first: one that is half removed is no backup.
        path.rename(folder / f".{path.name}.new")
    for path in folder.glob(".*.new"):
        if _NAME.fullmatch(path.name[1:-4]):
            shutil.rmtree(path)


def newest(folder: Path) -> Path:
    """Returns `folder` if it is a backup, else the newest backup in it. Raises ConfigError."""
    if (folder / MANIFEST).is_file():
        return folder
    found = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}") if _NAME.fullmatch(path.parent.name))
    if not found:
        raise ConfigError(str(folder), "DIR", "no backup in it", "give the DIR of 'murmure ingest backup'")
    return found[-1]


def restore(folder: Path, config: IngestConfig) -> Backup:
    """Puts a backup (or the newest in `folder`) into a `data_dir` that has no archive. The archive comes last, so that
    a centre starts on the whole of it; what was cut short is done again.

    Raises ConfigError if there is no backup or if `data_dir` is somebody's, BackupError if the backup is not as it was
    written, ArchiveDamaged.
    """
    source = newest(folder)
    with _explained(config.data_dir):
        files, messages, head = _manifest(source)
        targets = {name: _target(name, source, config) for name in files}
        if config.data_dir.exists():
            strangers = {path for path in _files(config.data_dir) if not _remains(path)} - set(targets.values())
            if config.archive.exists() or strangers:
                problem = f"it is not empty ({min(strangers, default=config.archive).name} is there)"
                raise ConfigError(str(config.data_dir), "data_dir", problem, "move it aside first, or name another")
        for name, digest in files.items():
            if not (source / name).is_file() or sha256_of(source / name) != digest:
                raise _spoiled(source / name)
        if _read_through(source / _ARCHIVE) != (messages, head):
            raise _spoiled(source / _ARCHIVE)
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: name == _ARCHIVE):
            targets[name].parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = targets[name].with_name(f".{targets[name].name}.new")
            beside.unlink(missing_ok=True)
            beside.touch(mode=0o600)
            shutil.copyfile(source / name, beside)
            if targets[name] == config.data_dir / ISSUED:
                mark_restored(beside)
            if name == _ARCHIVE:  # keys stay the owner's, whatever the disk between made of their rights
                shutil.copymode(source / name, beside)
            sync(beside)
            beside.replace(targets[name])
            sync(targets[name].parent)
    return Backup(source, messages, head)


def _spoiled(path: Path) -> BackupError:
    return BackupError(f"{path}: backup: it is not as it was written; use the backup before it")


def _manifest(source: Path) -> tuple[dict[str, str], int, bytes]:
    """Returns the SHA-256 of each file, and number and running hash of the messages."""
    try:
        told = json.loads((source / MANIFEST).read_bytes())
        if told["backup"] == 1 and _ARCHIVE in told["files"]:
            return dict(told["files"]), int(told["messages"]), bytes.fromhex(told["head"])
    except (ValueError, KeyError, TypeError):
        pass
    raise _spoiled(source / MANIFEST)


def _target(name: str, source: Path, config: IngestConfig) -> Path:
    """Returns where a file of a backup belongs. A name that leads out of data_dir is not one that we wrote."""
    if name == _ARCHIVE:
        return config.archive
    first, *rest = Path(name).parts
    if first != _KEYS or not rest or ".." in rest:
        raise _spoiled(source / MANIFEST)
    return config.data_dir.joinpath(*rest)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error, shutil.Error) as error:
        problem = getattr(error, "strerror", None) or str(error)
        where = getattr(error, "filename", None) or folder
        raise BackupError(
            f"{where}: {problem}; see whether there is room and who may write, then run it again"
        ) from error
