"""What a town may have to delete after a time: everything that is no release. Releases, register and policies stay.

Of what a gateway has signed and was put aside, only the bytes go: number, hash and reason stay, so that the chain, the
receipts and the full check stay whole. It counts as spent for as long as a cap can look back, and is not dropped
before that.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from math import inf
from pathlib import Path

from murmure_privacy import wire
from murmure_privacy.errors import MurmureError, WireError

from murmure_ingest import migrations
from murmure_ingest.archive import Archive
from murmure_ingest.config import IngestConfig, RetentionConfig
from murmure_ingest.enrolment import Claims
from murmure_ingest.snapshot import sync

_DAY_S = 86_400
_PATIENCE_S = 10.0
_ZEROS = bytes(1 << 20)


class RetentionError(MurmureError):
    """Something could not be forgotten: mend what the line names and run it again."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many of each were dropped."""

    refused: int = 0
    health: int = 0
    aside: int = 0
    copies: int = 0


def forget(archive: Archive, config: IngestConfig, now_s: int, *, copies: bool = False) -> Forgotten:
    """Drops what is older than `[retention]` says, and the claims that ended; with `copies` all copies of before an
    upgrade, however young. The centre may run.

    What was put aside is as old as the last instant that it speaks of, a copy as old as its file. Raises
    RetentionError, ArchiveError.
    """
    days = config.retention or RetentionConfig()
    claims = Claims(config.data_dir)
    claims.forget(now_s)
    claims.close()
    health = aside = 0
    with archive.wiping(), archive.transaction():
        if days.health_days is not None:
            health = archive.forget_health_before(now_s - days.health_days * _DAY_S)
        if days.aside_days is not None:
            aside = _forget_aside(archive, now_s - days.aside_days * _DAY_S, now_s)
    refused = 0 if days.refused_days is None else _forget_refused(config, now_s - days.refused_days * _DAY_S)
    removed = 0
    if copies or days.copies_days is not None:
        removed = _forget_copies(config.archive, inf if copies else now_s - (days.copies_days or 0) * _DAY_S)
    return Forgotten(refused, health, aside, removed)


def _forget_aside(archive: Archive, before_s: int, now_s: int) -> int:
    keys: dict[str, list[bytes]] = {}
    for line in archive.enrolment_lines():
        keys.setdefault(line.gateway, []).append(line.record_key)
    count = 0
    for table, row, gateway, message_hash, reason, sealed in archive.aside():
        if _last_s(sealed, keys.get(gateway, [])) < before_s:
            archive.forget(table, row, message_hash, reason, now_s)
            count += 1
    return count


def _last_s(sealed: bytes, keys: list[bytes]) -> int:
    """Returns the last instant that a message speaks of; of one that does not open, which is damage, none yet."""
    for key in keys:
        try:
            message = wire.open_message(sealed, key)
        except WireError:
            continue
        return max(message.closing_s, *(outcome.node.end_s for outcome in message.outcomes))
    return 1 << 62


def _forget_copies(archive: Path, before_s: float) -> int:
    """Overwrites the copies that were made by an instant, and removes them."""
    old = [copy for copy in migrations.copies(archive) if copy.stat().st_mtime <= before_s]
    for copy in old:
        try:
            with copy.open("r+b") as file:
                for _ in range(0, copy.stat().st_size, len(_ZEROS)):
                    file.write(_ZEROS)
            sync(copy)
            copy.unlink()
            sync(copy.parent)
        except OSError as error:
            raise RetentionError(
                f"{copy}: retention: {error.strerror or error}; it still holds what is to be forgotten: remove it"
            ) from error
    return len(old)


def _forget_refused(config: IngestConfig, before_s: int) -> int:
    if not config.quarantine.is_file():
        return 0
    try:
        with closing(sqlite3.connect(config.quarantine, isolation_level=None, timeout=_PATIENCE_S)) as db:
            db.execute("PRAGMA secure_delete = ON")
            count = db.execute("DELETE FROM refused WHERE last_s < ?", (before_s,)).rowcount
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return count
    except sqlite3.Error as error:
        raise RetentionError(
            f"{config.quarantine}: quarantine: {error}; or remove the file, no release is in it"
        ) from error
