"""An archive as files that any program reads, and an archive from such files. Format: docs/archive-export.md.

Every table is a file of JSON lines, and SHA256SUMS lists them all. The same archive gives the same bytes. What comes
back is believed as little as any archive: it is filed together with the full check, or not at all.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.window import utc

from murmure_ingest.archive import Archive
from murmure_ingest.inspection import Progress, inspect
from murmure_ingest.migrations import STEPS
from murmure_ingest.rules import RuleBook
from murmure_ingest.snapshot import sha256_of, sync

MARK = "export.json"
SUMS = "SHA256SUMS"
FORMAT = 1

# What a span of time has: who spoke, under which policies, and what. The rest is of the archive as a whole.
_OF_A_SPAN = (
    *("enrolments", "rotations", "policies", "annotations", "messages", "amendments", "nodes", "scales"),
    *("log", "checkpoints"),
)
_LINE_LIMIT = 1 << 20


class TransferError(MurmureError):
    """The files are not an export that can be filed: nothing was."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """What was written or read: rows by table, and the running hash (None for a span of time)."""

    rows: dict[str, int]
    head: bytes | None


def export(archive: Archive, folder: Path, from_s: int | None = None, to_s: int | None = None) -> Transferred:
    """Writes the archive into `folder`, which must not exist; with an instant, the filed messages that have a node
    ending in (from_s, to_s], with everything to verify them.

    Raises ConfigError if the folder is there or cannot be made, TransferError where there is no room.
    """
    whole = from_s is None and to_s is None
    span = None if whole else (from_s or 0, to_s if to_s is not None else 1 << 62)
    beside = folder.with_name(f".{folder.name}.new")
    if folder.exists():
        raise ConfigError(str(folder), "DIR", "it is there already", "name a new folder")
    if not folder.parent.is_dir():
        raise ConfigError(str(folder.parent), "DIR", "there is no such folder", "create it first")
    with _explained(folder):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        try:
            with archive.reading():
                rows = {
                    table: _write(beside / f"{table}.jsonl", archive.rows_of(table, span))
                    for table in archive.tables()
                    if whole or table in _OF_A_SPAN
                }
                head = archive.head() if whole else None
            mark = {
                "murmure_export": FORMAT,
                "schema": len(STEPS),
                "from": None if from_s is None else utc(from_s),
                "to": None if to_s is None else utc(to_s),
                "head": head.hex() if head else None,
                "rows": rows,
            }
            (beside / MARK).write_text(json.dumps(mark, indent=1) + "\n", "utf-8")
            names = sorted([MARK, *(f"{table}.jsonl" for table in rows)])
            (beside / SUMS).write_text("".join(f"{sha256_of(beside / name)}  {name}\n" for name in names), "ascii")
            for name in (*names, SUMS):
                sync(beside / name)
            sync(beside)
            beside.rename(folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        sync(folder.parent)
    return Transferred(rows, head)


def is_export(folder: Path) -> bool:
    """Returns whether this is an export, and not a gateway's messages."""
    return (folder / MARK).is_file()


def import_export(folder: Path, archive: Archive, progress: Progress = lambda _done, _total: None) -> Transferred:
    """Files an export into an archive that holds nothing yet, in one commit, after the full check of what came.

    Raises ConfigError if the archive holds something or the export is a span or of another version, TransferError if
    its files are not as they were written or not sound.
    """
    with _explained(folder):
        mark = _marked(folder)
        with archive.transaction():
            if any(archive.row_count(table) for table in archive.tables()):
                raise ConfigError(str(archive.path), "archive", "it holds something", "import into a new data_dir")
            rows = {table: archive.refill(table, _read(folder, table)) for table in archive.tables()}
            if rows != mark["rows"] or archive.head().hex() != mark["head"]:
                raise TransferError(f"{folder}: export: it is not whole; take another copy of it")
            findings = inspect(archive, RuleBook(archive), progress).findings
            if findings:
                raise TransferError(f"{folder}: export: not sound: {findings[0]}; nothing was filed")
    return Transferred(rows, archive.head())


def _marked(folder: Path) -> dict[str, Any]:
    """Returns what an export says of itself, once every file of it was read."""
    try:
        sums = [line.split("  ", 1) for line in (folder / SUMS).read_text("ascii").splitlines()]
        mark = json.loads((folder / MARK).read_text("utf-8"))
        if mark["murmure_export"] != FORMAT or mark["schema"] != len(STEPS):
            problem = "it was written by another version of Murmure"
            raise ConfigError(str(folder / MARK), "export", problem, "import it with that version and upgrade")
        if mark["from"] is not None or mark["to"] is not None:
            problem = "it is a span of time, which makes no archive"
            raise ConfigError(str(folder / MARK), "export", problem, "export without --from and --to")
        expected = sorted([MARK, *(f"{table}.jsonl" for table in mark["rows"])])
        if [name for _, name in sums] == expected and all(sha256_of(folder / name) == digest for digest, name in sums):
            return dict(mark)
    except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError):
        pass
    raise TransferError(f"{folder}: export: its files are not those of {SUMS}; take another copy of it")


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            count += 1
            told = {key: _text(value) if isinstance(value, bytes) else value for key, value in row.items()}
            file.write(json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n")
    return count


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _read(folder: Path, table: str) -> Iterator[dict[str, Any]]:
    with (folder / f"{table}.jsonl").open(encoding="utf-8") as file:
        while line := file.readline(_LINE_LIMIT):
            try:
                row = json.loads(line)
            except RecursionError as error:
                raise ValueError("too deep") from error
            if not isinstance(row, dict):
                raise ValueError("not an object")
            yield row


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise TransferError(f"{where}: {error.strerror or error}; see if there is room and who may write") from error
    except ValueError as error:
        raise TransferError(f"{folder}: export: a line of it is none of ours ({error}); nothing was filed") from error
