"""The command `murmure ingest mirror`."""

from __future__ import annotations

import argparse

from murmure_ingest.cli import _config, _json, _leaf


def register(ingest: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the group `ingest`."""
    mirror = _leaf(
        ingest,
        "mirror",
        _mirror,
        "copy the archive to its mirror, a time-series database, until stopped",
        "murmure ingest mirror --config ingest.toml",
    )
    mirror.add_argument("--once", action="store_true", help="end when the database has everything for good, or fails")
    mirror.add_argument("--rebuild", action="store_true", help="begin from nothing: the database is new or was emptied")
    _config(mirror)
    _json(mirror, "at the end, one JSON document on stdout")


def _mirror(args: argparse.Namespace) -> int:
    import json
    import signal
    import sys
    import time
    from contextlib import closing
    from pathlib import Path
    from threading import Event

    from murmure_privacy.errors import ConfigError

    from murmure_ingest.archive import Archive
    from murmure_ingest.config import load
    from murmure_ingest.influx import Database, read_token
    from murmure_ingest.mirror import Cursor, Mirror

    config = load(Path(args.config))
    if config.mirror is None:
        raise ConfigError(
            config.source, "mirror", "no database is named", "write a table [mirror] as in ingest.example.toml"
        )
    token = read_token(config.mirror.token_file)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    target = f"{config.mirror.url} {config.mirror.org} {config.mirror.bucket}"
    with (
        closing(Archive.open(config.archive, read_only=True)) as archive,
        closing(Cursor(config.data_dir, target)) as cursor,
        closing(Database(config.mirror, token)) as database,
    ):
        if args.rebuild:
            cursor.forget()
        mirror = Mirror(archive, database, cursor, say, time.monotonic)
        mirror.run(stop, args.once)
    told = {"messages": mirror.messages, "samples": mirror.samples, "kept": mirror.kept}
    if args.json:
        print(json.dumps(told))
    elif args.once:
        print(f"{mirror.messages:,} messages, {mirror.samples:,} samples sent")
    return 0
