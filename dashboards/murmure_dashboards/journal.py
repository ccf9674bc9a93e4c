"""What lets anybody check the figures: the transparency log, and the messages as the gateways sealed them.

docs/log.md names the files. What is full or over is linked from the site before: of a year of messages a build writes
those of the days for which something has come.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

from murmure_privacy import log
from murmure_privacy.errors import WireError

from murmure_dashboards.packed import stands

FOLDER = "donnees/journal/"
CHECKPOINT, CENTRE = f"{FOLDER}checkpoint.txt", f"{FOLDER}centre.txt"
MESSAGES = "donnees/messages/"
INDEX = f"{MESSAGES}index.json"
SHARD = 4096
"""Entries in a file of the log: it never changes once it is full."""
_FORMAT = 2
_DAY_S = 86_400


class LoggedArchive(Protocol):
    """What the journal needs of `murmure_ingest.archive`, which says what each returns."""

    def newest_row(self) -> int: ...
    def head_at(self, row: int) -> bytes | None: ...
    def signed_checkpoint(self) -> tuple[int, bytes, bytes] | None: ...
    def log_root(self, size: int) -> bytes: ...
    def log_entries(self, up_to: int | None = None) -> Iterator[bytes]: ...
    def sealed_at(self, gateway: str, seq: int) -> bytes | None: ...
    def days_with_nodes(self, row: int) -> list[int]: ...
    def sealed_on(self, day: int, row: int) -> list[bytes]: ...
    def told_after(self, row: int) -> Iterator[tuple[str, int, int]]: ...
    def filed_late(self) -> set[int]: ...


@dataclass(frozen=True, slots=True)
class Made:
    """One file. `of`: what it was made of, if that says when it has to be made again; `messages`: how many it has."""

    path: str
    of: str
    messages: int
    octets: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """What the site before had: the last row of the archive with the running sum over all of them (hexadecimal), how
    many messages were filed after they had waited, and the files by path."""

    seen: int = 0
    head: str = ""
    late: int = 0
    files: Mapping[str, Made] = field(default_factory=dict)


NOTHING = Shelf()
"""What there is before the first build."""


def shelf(out: Path, stands: Callable[[Path, str, str], bool] = stands) -> Shelf:
    """Returns what a site has of the journal: nothing where it is none, or of another version, or `stands` refuses a
    file."""
    try:
        told = json.loads((out / INDEX).read_text("utf-8"))
        files = {one["path"]: Made(**one) for one in told["files"]}
        whole = all(stands(out, made.path, made.sha256) for made in files.values())
        if told["format"] == _FORMAT and whole:
            return Shelf(told["seen"], told["head"], told["late"], files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return NOTHING


def broken_off(archive: LoggedArchive, out: Path) -> str | None:
    """Returns why the archive's log is not that of a site grown longer, None if it is, or the site has none that
    anybody could have checked."""
    try:
        centre = bytes.fromhex((out / CENTRE).read_text("ascii").strip())
        told = log.open_checkpoint((out / CHECKPOINT).read_bytes(), centre)
    except (OSError, ValueError, WireError):
        return None
    signed = archive.signed_checkpoint()
    size = signed[0] if signed else 0
    if size < told.size:
        return f"it has {told.size} entries, the archive's {size}"
    return None if archive.log_root(told.size) == told.root else f"its {told.size} entries are not the archive's first"


def files(archive: LoggedArchive, before: Shelf, keep: Callable[[str], None]) -> Iterator[tuple[str, bytes]]:
    """Yields the files of the journal; `keep` is told of those that the site before has as they would be made. Before
    the centre has signed anything there are none."""
    signed = archive.signed_checkpoint()
    if signed is None:
        return
    size, centre, note = signed
    made: list[Made] = []

    def renewed(path: str, of: str, content: Callable[[], list[bytes]]) -> Iterator[tuple[str, bytes]]:
        was = before.files.get(path)
        if was is not None and was.of == of:
            made.append(was)
            keep(path)
            return
        parts = content()
        data = b"".join(parts)
        made.append(Made(path, of, len(parts), len(data), _sum(data)))
        yield path, data

    yield CHECKPOINT, note
    yield CENTRE, f"{centre.hex()}\n".encode("ascii")
    accounts: dict[str, dict[tuple[str, str], int]] = {}
    entries, number = archive.log_entries(size), 0
    while shard := [entry + b"\n" for entry in islice(entries, SHARD)]:
        yield from renewed(f"{FOLDER}entries-{number:05}.jsonl", _sum(b"".join(shard)), partial(list, shard))
        number += 1
        for told in (json.loads(entry) for entry in shard if b'"kind":"spend"' in entry):
            accounts.setdefault(told["day"][:7], {})[told["day"], told["gateway"]] = told["last"]
    for month, of_month in sorted(accounts.items()):
        of = _sum(repr(sorted(of_month.items())).encode())
        yield from renewed(f"{FOLDER}days-{month}.cose", of, partial(_closing, archive, of_month))
    row, late = archive.newest_row(), len(archive.filed_late())
    # What had waited was filed somewhere among the rows that were seen, and an archive that was restored has others in
    # their place: then every day is looked at.
    same = late == before.late and before.head == _head(archive, before.seen)
    since = before if before.files and same else NOTHING
    days = _touched(archive, since.seen) if since.seen else archive.days_with_nodes(row)
    for path, was in since.files.items():
        if path.startswith(MESSAGES) and path not in map(_path, days):
            made.append(was)
            keep(path)
    for day in days:
        content = archive.sealed_on(day, row)
        yield from renewed(_path(day), _sum(b"".join(content)), partial(list, content))
    head, of_files = _head(archive, row), [asdict(one) for one in sorted(made, key=_by_path)]
    state = {"format": _FORMAT, "seen": row, "head": head, "late": late, "files": of_files}
    yield INDEX, json.dumps(state, indent=0).encode() + b"\n"


def _head(archive: LoggedArchive, row: int) -> str:
    return (archive.head_at(row) or b"").hex()


def _by_path(made: Made) -> str:
    return made.path


def _path(day: int) -> str:
    return f"{MESSAGES}{datetime.fromtimestamp(day * _DAY_S, UTC):%Y-%m-%d}.cose"


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _closing(archive: LoggedArchive, accounts: Mapping[tuple[str, str], int]) -> list[bytes]:
    """Returns the message that each of these accounts ends with."""
    found = (archive.sealed_at(gateway, seq) for (_, gateway), seq in sorted(accounts.items()))
    return [sealed for sealed in found if sealed is not None]


def _touched(archive: LoggedArchive, row: int) -> list[int]:
    """Returns the days on which a node of the messages beyond a row ends."""
    return sorted({(end_s - 1) // _DAY_S for _, _, end_s in archive.told_after(row)})
