"""What an operator does with an archive as a whole: `ingest verify`, `backup` and `restore`."""

from __future__ import annotations

import argparse
import sys
import time

from murmure_ingest.cli import _config, _json, _leaf

_KEEP = 7
_TOLD_EVERY_S = 0.5


def register(ingest: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the commands to the group `ingest`."""
    verify = _leaf(
        ingest,
        "verify",
        _verify,
        "prove an archive again: signatures, chains, uniqueness, budgets",
        "murmure ingest verify --archive archive.db",
    )
    verify.add_argument("--archive", required=True, metavar="FILE", help="the archive.db of a centre")
    _json(verify)
    backup = _leaf(
        ingest,
        "backup",
        _backup,
        "copy archive and keys into a new folder of DIR, while the centre runs",
        "murmure ingest backup /mnt/backup --config ingest.toml",
    )
    backup.add_argument("folder", metavar="DIR", help="where the backups are, on another disk")
    backup.add_argument("--keep", type=int, default=_KEEP, metavar="N", help=f"leave the newest N ({_KEEP})")
    backup.add_argument("--no-keys", action="store_true", help="the archive only, nothing secret")
    _config(backup)
    _json(backup)
    restore = _leaf(
        ingest,
        "restore",
        _restore,
        "put a backup into an empty data_dir",
        "murmure ingest restore /mnt/backup --config ingest.toml",
    )
    restore.add_argument("folder", metavar="DIR", help="one backup, or the folder of which the newest is taken")
    _config(restore)
    _json(restore)


def _verify(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict
    from pathlib import Path

    from murmure_ingest.archive import Archive
    from murmure_ingest.inspection import inspect
    from murmure_ingest.rules import RuleBook

    archive = Archive.open(Path(args.archive), read_only=True)
    watched = sys.stderr.isatty() and not args.json
    report = inspect(archive, RuleBook(archive), _Progress().told) if watched else inspect(archive, RuleBook(archive))
    if args.json:
        print(json.dumps({"archive": args.archive, "sound": not report.findings, **asdict(report)}))
    else:
        print(
            f"{report.messages} messages, {report.nodes} nodes, {report.policies} policies, "
            f"{report.annotations} annotations"
        )
        for gateway, missing in report.gaps.items():
            print(f"{gateway}: {missing} messages have not come yet; each receipt asks for them again")
        for finding in report.findings:
            print(finding)
        if report.left_out:
            print(f"… and {report.left_out} more")
        print("sound" if not report.findings else "not sound: restore this file from a backup")
    return 1 if report.findings else 0


class _Progress:
    """A line on the terminal that grows."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()

    def told(self, done: int, total: int) -> None:
        """Shows how far it is, now and then, and leaves the line when all is done."""
        now = time.monotonic()
        if done < total and now < self._told + _TOLD_EVERY_S:
            return
        self._told = now
        pace = done / max(now - self._began, 0.001)
        left = f"{done / total:4.0%} of {total:,} messages, {pace:,.0f} a second"
        print(f"\r{left}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _backup(args: argparse.Namespace) -> int:
    import json
    from datetime import UTC, datetime
    from pathlib import Path

    from murmure_privacy.errors import ConfigError

    from murmure_ingest.backup import back_up
    from murmure_ingest.config import load

    if args.keep < 1:
        raise ConfigError("ingest backup", "--keep", f"{args.keep} would leave none", "write 1 or more")
    made = back_up(load(Path(args.config)), Path(args.folder), datetime.now(UTC), keep=args.keep, keys=not args.no_keys)
    if args.json:
        print(json.dumps({"folder": str(made.folder), "messages": made.messages, "head": made.head.hex()}))
    else:
        print(f"{made.folder}: {made.messages} messages, head {made.head.hex()[:16]}")
        if not args.no_keys:
            print("its keys/ can sign receipts and certificates in the town's name: keep them where nobody else reads")
    return 0


def _restore(args: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from murmure_ingest.backup import restore
    from murmure_ingest.config import load

    config = load(Path(args.config))
    found = restore(Path(args.folder), config)
    if args.json:
        print(json.dumps({"folder": str(found.folder), "messages": found.messages, "head": found.head.hex()}))
    else:
        print(f"{config.data_dir}: {found.messages} messages of {found.folder.name}, head {found.head.hex()[:16]}")
        if not (config.data_dir / "centre.key").is_file():
            print("no centre.key came with it: gateways believe no receipt until you put it beside archive.db")
    return 0
