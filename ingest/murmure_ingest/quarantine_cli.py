"""Commands for what was refused: `ingest status` counts, `ingest quarantine` shows the bytes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from murmure_ingest.config import IngestConfig
    from murmure_ingest.quarantine import Item

_SHOWN_BYTES = 16  # in one line of a dump


def register(ingest: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `status` and the group `quarantine` to the group `ingest`."""
    from murmure_ingest.cli import _config, _json, _leaf

    status = _leaf(
        ingest, "status", _status, "count what came in, by the word on it", "murmure ingest status --config ingest.toml"
    )
    _config(status)
    _json(status)
    group = ingest.add_parser(
        "quarantine",
        help="the bytes of what was refused",
        description="The bytes of what was refused. Nothing is decoded but what a registered gateway has signed.",
        epilog="example: murmure ingest quarantine list --reason not_in_policy",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).add_subparsers(metavar="COMMAND", required=True)
    listing = _leaf(
        group,
        "list",
        _list,
        "show what is kept, oldest first",
        "murmure ingest quarantine list --gateway gw-plaza",
    )
    listing.add_argument("--reason", metavar="WORD", help="only what was refused for it, e.g. bad_signature")
    listing.add_argument("--gateway", metavar="GW", help="only what this gateway has signed")
    _config(listing)
    _json(listing)
    show = _leaf(group, "show", _show, "show one as hexadecimal", "murmure ingest quarantine show 17")
    export = _leaf(
        group, "export", _export, "write one to a file, as it came", "murmure ingest quarantine export 17 --out 17.cose"
    )
    export.add_argument("--out", required=True, metavar="FILE", help="a file that does not exist yet")
    for command in (show, export):
        command.add_argument("number", type=int, metavar="NUMBER", help="its number in the list")
        _config(command)


def _config_of(args: argparse.Namespace) -> IngestConfig:
    from pathlib import Path

    from murmure_ingest.config import load

    return load(Path(args.config))


def _status(args: argparse.Namespace) -> int:
    import json
    from contextlib import closing

    from murmure_ingest.archive import Archive
    from murmure_ingest.quarantine import items

    config = _config_of(args)
    with closing(Archive.open(config.archive, read_only=True)) as archive:
        counts = archive.counts()
        counts["cloned"] = sorted(archive.all_cloned())
    counts["refused_bytes_kept"] = sum(1 for _ in items(config.quarantine))
    if args.json:
        print(json.dumps(counts))
        return 0
    print(f"stored     {counts['stored']} nodes, and {counts['withheld']} withheld, in {counts['messages']} messages")
    print(f"duplicate  {counts['duplicates']} nodes came again")
    print(f"conflict   {sum(counts['conflicting'].values())} messages{_by_reason(counts['conflicting'])}")
    print(f"refused    {sum(counts['refused'].values())} messages{_by_reason(counts['refused'])}")
    print(f"waiting    {counts['quarantined']} messages put aside whole, for a policy or for a person")
    print(f"kept       {counts['refused_bytes_kept']} refused messages, see 'murmure ingest quarantine list'")
    for gateway in counts["cloned"]:
        print(f"{gateway}: two cards have spoken with its key; revoke it and enrol the gateway anew")
    return 0


def _by_reason(counts: dict[str, int]) -> str:
    return "".join(f", {reason} {number}" for reason, number in sorted(counts.items()))


def _entry(one: Item) -> dict[str, Any]:
    from murmure_privacy.window import utc

    return {
        "number": one.id,
        "reason": one.reason,
        "signed_by": one.gateway or None,
        "topic": one.topic,
        "length": one.length,
        "sha256": one.hash.hex(),
        "first": utc(one.first_s),
        "last": utc(one.last_s),
        "times": one.times,
    }


def _list(args: argparse.Namespace) -> int:
    import json

    from murmure_ingest.quarantine import items

    entries = [_entry(one) for one in items(_config_of(args).quarantine, args.reason, args.gateway)]
    if args.json:
        print(json.dumps(entries))
        return 0
    for entry in entries:
        print(
            f"{entry['number']:>6}  {entry['last']}  {entry['reason']}  "
            f"{'signed by ' + entry['signed_by'] if entry['signed_by'] else 'by anybody'}  {entry['length']} bytes"
            + (f"  {entry['times']} times" if entry["times"] > 1 else "")
        )
    if not entries:
        print("nothing is kept")
    return 0


def _show(args: argparse.Namespace) -> int:
    from murmure_ingest.quarantine import item

    config = _config_of(args)
    one = item(config.quarantine, args.number)
    for name, value in _entry(one).items():
        # A stranger chose the topic: what a terminal would obey is shown as text.
        print(f"{name:<10} {ascii(value) if name == 'topic' and value else value}")
    for line in _said(config, one):
        print(line)
    for at in range(0, len(one.bytes), _SHOWN_BYTES):
        row = one.bytes[at : at + _SHOWN_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        print(f"{at:08x}  {row.hex(' '):<47}  {text}")
    if one.length > len(one.bytes):
        print(f"… and {one.length - len(one.bytes)} more bytes that were not kept")
    return 0


def _said(config: IngestConfig, one: Item) -> list[str]:
    """Returns what a signed message says of itself; never a figure, which may be one without its noise."""
    from contextlib import closing

    from murmure_privacy.release import Message, Release
    from murmure_privacy.window import utc
    from murmure_privacy.wire import digest

    from murmure_ingest.archive import Archive
    from murmure_ingest.intake import Opened, open_sealed
    from murmure_ingest.rotation import known_keys

    if not one.gateway:
        return []
    with closing(Archive.open(config.archive, read_only=True)) as archive:
        opened = open_sealed((one.topic, one.bytes), lambda gateway: known_keys(archive, gateway))
    if digest(one.bytes) != one.hash or not isinstance(opened, Opened) or not isinstance(opened.said, Message):
        return []
    message = opened.said
    lines = [f"seq {message.seq}, boot {message.boot}, closed {utc(message.closing_s)}, for {message.site}"]
    for outcome in message.outcomes:
        node = outcome.node
        word = "released" if isinstance(outcome, Release) else f"withheld: {outcome.reason}"
        lines.append(f"  {node.stream} {node.level} {utc(node.start_s)} policy {node.policy.hex()[:8]} {word}")
    return lines


def _export(args: argparse.Namespace) -> int:
    import os
    from pathlib import Path

    from murmure_privacy.errors import ConfigError

    from murmure_ingest.quarantine import item

    one = item(_config_of(args).quarantine, args.number)
    try:
        handle = os.open(Path(args.out), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        problem = error.strerror or str(error)
        raise ConfigError(args.out, "--out", problem, "name a new file in a folder of yours") from error
    with os.fdopen(handle, "wb") as file:
        file.write(one.bytes)
    print(f"{args.out}: {len(one.bytes)} of {one.length} bytes")
    return 0
