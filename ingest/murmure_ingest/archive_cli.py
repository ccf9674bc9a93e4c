"""What an operator does with an archive as a whole: `ingest verify`, `backup`, `restore`, `adopt`, `export`, `forget`,
and the half of `import` that takes an export."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from murmure_ingest.cli import _config, _json, _leaf

if TYPE_CHECKING:
    from datetime import datetime

    from murmure_ingest.archive import Archive
    from murmure_ingest.transfer import Transferred

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
    adopt = _leaf(
        ingest,
        "adopt",
        _adopt,
        "after a restore: go on from the log that the town has published, with what it has published beside it",
        "murmure ingest adopt /var/lib/murmure-site/public --config ingest.toml",
    )
    adopt.add_argument("source", metavar="SITE", help="the folder or the address of the town's site as it was")
    adopt.add_argument(
        "--or-nothing",
        action="store_true",
        help="end with 0 also if the log there has nothing beyond the archive's: where an upgrade is taken back",
    )
    _config(adopt)
    _json(adopt)
    export = _leaf(
        ingest,
        "export",
        _export,
        "write an archive as JSON lines with a list of sums, for any program",
        "murmure ingest export --archive archive.db town-2026 --from 2026-01-01T00:00:00Z --to 2027-01-01T00:00:00Z",
    )
    export.add_argument("--archive", required=True, metavar="FILE", help="the archive.db of a centre")
    export.add_argument(
        "folder", metavar="DIR", help="a new folder; without a span 'ingest import' makes the archive of it"
    )
    export.add_argument(
        "--from", dest="from_", metavar="T", help="only what was released of nodes that end after T, UTC"
    )
    export.add_argument("--to", metavar="T", help="and not after this T")
    _json(export)
    forget = _leaf(
        ingest,
        "forget",
        _forget,
        "drop what is older than [retention] allows; releases stay",
        "murmure ingest forget --config ingest.toml",
    )
    _config(forget)
    forget.add_argument(
        "--copies", action="store_true", help="also remove every copy of before an upgrade: there is no way back then"
    )
    _json(forget)


def _verify(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict
    from pathlib import Path

    from murmure_ingest.archive import Archive
    from murmure_ingest.inspection import inspect
    from murmure_ingest.rules import RuleBook

    archive = Archive.open(Path(args.archive), read_only=True)
    report = inspect(archive, RuleBook(archive), _progress(args))
    if args.json:
        print(json.dumps({"archive": args.archive, "sound": not report.findings, **asdict(report)}))
    else:
        print(
            f"{report.messages} messages, {report.nodes} nodes, {report.policies} policies, "
            f"{report.annotations} annotations"
        )
        if report.forgotten:
            print(f"{report.forgotten} put aside and forgotten since: hash and reason are left")
        for gateway, missing in report.gaps.items():
            print(f"{gateway}: {missing} messages have not come yet; each receipt asks for them again")
        for finding in report.findings:
            print(finding)
        if report.left_out:
            print(f"… and {report.left_out} more")
        print("sound" if not report.findings else "not sound: restore this file from a backup")
    return 1 if report.findings else 0


def _progress(args: argparse.Namespace) -> Callable[[int, int], None]:
    """Returns who is told how far a check is: a person before a terminal, or nobody."""
    from murmure_ingest.enrolment import utc_now

    return _Progress(utc_now).told if sys.stderr.isatty() and not args.json else lambda _done, _total: None


class _Progress:
    """A line on the terminal that grows."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._began = self._told = now()

    def told(self, done: int, total: int) -> None:
        """Shows how far it is, now and then, and leaves the line when all is done."""
        now = self._now()
        if done < total and (now - self._told).total_seconds() < _TOLD_EVERY_S:
            return
        self._told = now
        pace = done / max((now - self._began).total_seconds(), 0.001)
        left = f"{done / total:4.0%} of {total:,} messages, {pace:,.0f} a second"
        print(f"\r{left}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _backup(args: argparse.Namespace) -> int:
    import json
    from pathlib import Path
    from threading import Event

    from murmure_privacy.errors import ConfigError

    from murmure_ingest.backup import back_up, name_of
    from murmure_ingest.config import load
    from murmure_ingest.enrolment import utc_now

    if args.keep < 1:
        raise ConfigError("ingest backup", "--keep", f"{args.keep} would leave none", "write 1 or more")
    config, folder, now = load(Path(args.config)), Path(args.folder), utc_now()
    while (folder / name_of(now)).exists():
        Event().wait(0.1)
        now = utc_now()
    made = back_up(config, folder, now, keep=args.keep, keys=not args.no_keys)
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
        print("before the centre is started: 'murmure ingest adopt SITE' takes over what the town has published since")
        if not (config.data_dir / "centre.key").is_file():
            print("no centre.key came with it: gateways believe no receipt until you put it beside archive.db")
    return 0


def _adopt(args: argparse.Namespace) -> int:
    import json
    from collections import Counter
    from pathlib import Path

    from murmure_privacy import wire
    from murmure_privacy.sources import Site

    from murmure_ingest import adoption
    from murmure_ingest.archive import Archive
    from murmure_ingest.config import load
    from murmure_ingest.enrolment import utc_now
    from murmure_ingest.intake import Intake
    from murmure_ingest.quarantine import Quarantine
    from murmure_ingest.receipts import load_secret
    from murmure_ingest.rules import RuleBook

    def now_s() -> float:
        return utc_now().timestamp()

    config = load(Path(args.config))
    centre = wire.public_key(load_secret(config.data_dir / "centre.key"))
    published = Site(args.source, now_s).published()
    archive = Archive.open(config.archive)
    done = adoption.adopt(archive, published, centre, args.source)
    keep = Quarantine(config.quarantine, utc_now, lambda text: print(text, file=sys.stderr))
    if not args.json:
        print(f"{done.entries} entries of the log taken over; it has {done.size}")
        print(f"{done.register} lines of the register came with them")
        for line in done.lacking:
            print(line, flush=True)  # before the messages, of which there may be many
    back = adoption.bring_back(archive, published, Intake(archive, RuleBook(archive), now_s, keep))
    keep.close()
    kinds = Counter(type(word).__name__.lower() for word in back.words)
    if args.json:
        told = {"entries": done.entries, "log": done.size, "register": done.register, "messages": kinds}
        print(json.dumps({**told, "lacking": done.lacking, "unread": back.unread}))
    else:
        print(f"{len(back.words)} messages: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
        for line in back.unread:
            print(line)
    nothing = not done.entries and not args.or_nothing
    if nothing:
        print(
            f"murmure: {args.source}: the log there has nothing beyond the archive's. That is right at a second run, "
            "or if nothing was logged since the backup; it is wrong if the site was built from the restored archive, "
            "which replaced the longer log: then look for a copy of the site as it was before you start the centre",
            file=sys.stderr,
        )
    return 1 if done.lacking or back.unread or nothing else 0


def _export(args: argparse.Namespace) -> int:
    from pathlib import Path

    from murmure_ingest.archive import Archive
    from murmure_ingest.transfer import export

    archive = Archive.open(Path(args.archive), read_only=True)
    bounds = (("--from", args.from_), ("--to", args.to))
    span = [None if text is None else instant("ingest export", key, text) for key, text in bounds]
    return _told(args, args.folder, export(archive, Path(args.folder), *span))


def instant(command: str, key: str, text: str) -> int:
    """Returns an instant that was given to a command, in seconds UTC. Raises ConfigError if it is none."""
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.window import parse_utc

    try:
        return parse_utc(text)
    except ValueError as error:
        raise ConfigError(command, key, f"{text!r} is no instant", "write 2026-11-21T00:00:00Z") from error


def import_whole(args: argparse.Namespace, archive: Archive) -> int:
    """The half of `ingest import` that takes an export."""
    from pathlib import Path

    from murmure_ingest.transfer import import_export

    return _told(args, str(archive.path), import_export(Path(args.folder), archive, _progress(args)))


def _forget(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict
    from pathlib import Path

    from murmure_privacy.errors import ConfigError

    from murmure_ingest.archive import Archive
    from murmure_ingest.config import load
    from murmure_ingest.enrolment import utc_now
    from murmure_ingest.migrations import copies
    from murmure_ingest.retention import forget

    config = load(Path(args.config))
    if config.retention is None and not args.copies:
        raise ConfigError(
            config.source, "retention", "there is no such table", "write [retention] and what it may keep, or --copies"
        )
    archive = Archive.open(config.archive)
    dropped = forget(archive, config, int(utc_now().timestamp()), copies=args.copies)
    left = [copy.name for copy in copies(config.archive)]
    if args.json:
        print(json.dumps(asdict(dropped) | {"copies_left": left}))
        return 0
    counts = f"{dropped.refused} refused, {dropped.health} health reports, {dropped.aside} put aside"
    print(f"dropped: {counts}, {dropped.copies} copies of before an upgrade")
    for name in left:
        print(f"{name} still holds what was dropped since it was made; --copies removes it, and with it the way back")
    return 0


def _told(args: argparse.Namespace, where: str, told: Transferred) -> int:
    import json

    head = told.head.hex() if told.head else None
    if args.json:
        print(json.dumps({"folder": args.folder, "head": head, "rows": told.rows}))
    else:
        print(f"{where}: {told.rows['messages']} messages, " + (f"head {head[:16]}" if head else "of a span of time"))
    return 0
