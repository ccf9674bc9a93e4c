"""Writes an archive as SQL: `python tests/ingest/archives/dump.py archive.db > tests/ingest/archives/vN.sql`.

Run it with the last code of version N, before a step to N + 1 is added (ingest/murmure_ingest/migrations.py).
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path


def dump(path: Path) -> Iterator[str]:
    """Yields the lines that make the archive again, its marks included."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        for mark in ("application_id", "user_version"):
            yield f"PRAGMA {mark} = {db.execute(f'PRAGMA {mark}').fetchone()[0]};"
        yield from db.iterdump()


if __name__ == "__main__":
    for line in dump(Path(sys.argv[1])):
        print(line)
