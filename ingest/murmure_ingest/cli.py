"""Commands of the centre: ingest, gateway, tail, and the stewards' `policy key|sign|publish`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from murmure_privacy.enrolment import Claim

    from murmure_ingest.archive import Archive
    from murmure_ingest.config import IngestConfig
    from murmure_ingest.enrolment import Slot
    from murmure_ingest.gateways import Port

Handler = Callable[[argparse.Namespace], int]


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the groups `ingest` and `gateway`, the command `tail`, and the signing half of the group `policy`."""
    ingest = _group(groups, "ingest", "the centre: files releases, signs receipts")
    run = _leaf(ingest, "run", _run, "file what arrives until stopped", "murmure ingest run --config ingest.toml")
    _config(run)
    courier = _leaf(
        ingest,
        "import",
        _import,
        "file a copy of a gateway's outbox, or a whole archive from 'ingest export'",
        "murmure ingest import /media/key --config ingest.toml",
    )
    courier.add_argument(
        "folder", metavar="DIR", help="folder of *.cose files, one that holds outbox/ and inbox/, or an export"
    )
    _config(courier)
    _json(courier)
    gateway = _group(groups, "gateway", "the register: who may speak")
    enrol = _leaf(
        gateway,
        "enrol",
        _enrol,
        "offer a gateway its place: prints a claim code for 'murmure edge enrol'",
        "murmure gateway enrol --site plaza --quartier centre --steward steward.key.pub "
        "--port name=beam,device=tfluna,path=/dev/serial/by-path/…,footfall=plaza/footfall",
    )
    enrol.add_argument("--local", metavar="DIR", help="do both halves here: DIR becomes the gateway's folder")
    enrol.add_argument("--gateway", metavar="GW", help="its id, gw-…; never given twice (default: a new one)")
    enrol.add_argument(
        "--replaces", metavar="GW", help="its site's gateway that it takes over from; that one is revoked when it comes"
    )
    enrol.add_argument("--site", required=True, metavar="SITE", help="the one site it serves")
    enrol.add_argument(
        "--quartier", required=True, metavar="QUARTIER", help="slug of the neighbourhood, part of its topics"
    )
    enrol.add_argument(
        "--steward",
        required=True,
        action="append",
        metavar="KEY",
        help="public key of a steward: hex, or a .pub file; repeat",
    )
    enrol.add_argument(
        "--signatures", type=int, default=1, metavar="N", help="how many stewards must sign a policy (1)"
    )
    enrol.add_argument(
        "--port", action="append", default=[], metavar="KEY=VALUE,…", help="a sensor's port for gateway.toml; repeat"
    )
    enrol.add_argument(
        "--policy", action="append", default=[], metavar="FILE.cose", help="publish this signed policy; repeat"
    )
    enrol.add_argument(
        "--simulated", action="store_true", help="the gateway's readings are invented: say so everywhere"
    )
    _config(enrol)
    _json(enrol)
    rotate = _leaf(
        gateway,
        "rotate",
        _rotate,
        "let a gateway change its keys: print the claim code for it",
        "murmure gateway rotate gw-plaza --config ingest.toml",
    )
    rotate.add_argument("gateway", metavar="GW", help="its id")
    _config(rotate)
    _json(rotate)
    listing = _leaf(gateway, "list", _list, "show the register", "murmure gateway list --config ingest.toml --json")
    _config(listing)
    _json(listing)
    revoke = _leaf(
        gateway,
        "revoke",
        _revoke,
        "refuse a gateway from now on",
        "murmure gateway revoke gw-plaza --config ingest.toml",
    )
    revoke.add_argument("gateway", metavar="GW", help="its id")
    _config(revoke)

    tail = _leaf(groups, "tail", _tail, "show releases as they pass", "murmure tail --config ingest.toml --json")
    _config(tail)
    _json(tail, "one JSON object per node, one per line")

    from murmure_ingest import (
        annotation_cli,
        archive_cli,
        broker_cli,
        mirror_cli,
        policy_cli,
        quarantine_cli,
        series_cli,
    )

    archive_cli.register(ingest)
    mirror_cli.register(ingest)
    quarantine_cli.register(ingest)
    series_cli.register(ingest)
    broker_cli.register(groups)
    annotation_cli.register(groups)

    # The group is the kernel's; without it (a test of this file alone) it is made here.
    policy = getattr(groups, "murmure_policy", None) or _group(groups, "policy", "the steward's document")
    policy_cli.register(policy)


_EXAMPLES = {
    "ingest": "example: murmure ingest run --config ingest.toml",
    "gateway": "example: murmure gateway list --config ingest.toml",
    "annotation": "example: murmure annotation list --config ingest.toml",
    "broker": "example: murmure broker check /var/lib/murmure-broker",
    "policy": "example: murmure policy publish policy.cose --config ingest.toml",
}


def _group(
    groups: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    parser = groups.add_parser(
        name,
        help=text,
        description=text.capitalize() + ".",
        epilog=_EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser.add_subparsers(metavar="COMMAND", required=True)


def _leaf(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, handler: Handler, text: str, example: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=text.capitalize() + ".",
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler)
    return parser


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="ingest.toml", metavar="FILE", help="the centre's settings (ingest.toml)")


def _json(parser: argparse.ArgumentParser, text: str = "one JSON document on stdout") -> None:
    parser.add_argument("--json", action="store_true", help=text)


def _opened(args: argparse.Namespace, *, exists: bool = False) -> tuple[IngestConfig, Archive]:
    """Returns the settings and the archive, which is made if need be, unless it must exist."""
    from pathlib import Path

    from murmure_privacy.errors import ConfigError

    from murmure_ingest.archive import Archive
    from murmure_ingest.config import load

    config = load(Path(args.config))
    if exists and not config.archive.exists():
        mend = "see whether the path is right; the first 'murmure gateway enrol' or 'ingest run' makes an archive"
        raise ConfigError(config.source, "data_dir", f"there is no {config.archive}", mend)
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return config, Archive.open(config.archive)


def _run(args: argparse.Namespace) -> int:
    import fcntl
    import gc
    import os
    import signal
    import sys
    import time
    from threading import Event

    from murmure_privacy.errors import ConfigError
    from murmure_privacy.wordings import Wordings

    from murmure_ingest.archive import Archive
    from murmure_ingest.broker import watch_crl
    from murmure_ingest.enrolment import enrolment_open, utc_now
    from murmure_ingest.intake import Intake
    from murmure_ingest.meter import Meter
    from murmure_ingest.metrics import metrics_open
    from murmure_ingest.opener import GARBAGE_AT
    from murmure_ingest.quarantine import Quarantine
    from murmure_ingest.receipts import centre_key
    from murmure_ingest.rules import RuleBook
    from murmure_ingest.subscriber import Subscriber

    gc.set_threshold(GARBAGE_AT)
    config, archive = _opened(args)
    folder = os.open(config.data_dir, os.O_RDONLY)
    try:
        # Two centres with one broker session would take turns throwing each other out.
        fcntl.flock(folder, (fcntl.LOCK_SH if config.broker.quartiers else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        own = os.open(config.data_dir / f"{config.broker.client_id}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(config.source, "data_dir", "another ingest runs on it", "stop that one first") from error
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    archive.require_sound()
    secret = centre_key(config.data_dir)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    intake = Intake(archive, RuleBook(archive, Wordings()), time.time, Quarantine(config.quarantine, utc_now, say))
    meter = Meter()
    watch_crl(config, utc_now, stop, say)
    with enrolment_open(config, lambda: Archive.open(config.archive), say), metrics_open(config, meter, say):
        Subscriber(config, archive, intake, secret, say, meter).run(stop)
    archive.close()
    return 0


def _import(args: argparse.Namespace) -> int:
    import json
    import sys
    import time
    from collections import Counter
    from pathlib import Path

    from murmure_ingest.courier import import_folder
    from murmure_ingest.enrolment import utc_now
    from murmure_ingest.intake import Conflict, Intake, Refused
    from murmure_ingest.quarantine import Quarantine
    from murmure_ingest.receipts import centre_key
    from murmure_ingest.rules import RuleBook
    from murmure_ingest.transfer import is_export

    config, archive = _opened(args)
    if is_export(Path(args.folder)):
        from murmure_ingest.archive_cli import import_whole

        return import_whole(args, archive)
    keep = Quarantine(config.quarantine, utc_now, lambda text: print(text, file=sys.stderr))
    intake = Intake(archive, RuleBook(archive), time.time, keep)
    words = import_folder(Path(args.folder), archive, intake, centre_key(config.data_dir))
    keep.close()
    kinds = Counter(type(word).__name__.lower() for word in words)
    reasons = Counter(word.reason for word in words if isinstance(word, Refused | Conflict))
    if args.json:
        print(json.dumps({"files": len(words), **kinds, "reasons": reasons}))
    else:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        print(f"{len(words)} files: {told}")
        for reason, count in sorted(reasons.items()):
            print(f"  refused: {reason}: {count}")
    return 1 if reasons.keys() - {"stale_health"} else 0  # a stick that comes late brings an older report


def _enrol(args: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from murmure_privacy.errors import ConfigError

    from murmure_ingest.enrolment import Claims, require_unspent, utc_now
    from murmure_ingest.gateways import enrol_local, new_gateway_id, parse_port, parse_public_key, pinned_versions

    ports = [parse_port(text) for text in args.port]
    stewards = [parse_public_key(text) for text in args.steward]
    policies = [Path(name).read_bytes() for name in args.policy]
    gateway = args.gateway or new_gateway_id()
    if args.local is None and policies:
        raise ConfigError("gateway enrol", "--policy", "goes with --local", "use 'murmure policy publish' later")
    if args.local is not None and args.replaces:
        raise ConfigError("gateway enrol", "--replaces", "goes with a claim code", "leave --local out")
    config, archive = _opened(args)
    if args.local is None:
        return _offer(args, config, archive, gateway, stewards, ports)
    require_unspent(archive, args.site, int(utc_now().timestamp()))
    claims = Claims(config.data_dir)
    claims.cancel(gateway)  # an offer of the same id would end in a gateway that nobody believes
    claims.close()
    folder = Path(args.local)
    enrol_local(
        archive,
        config,
        folder,
        gateway=gateway,
        site=args.site,
        quartier=args.quartier,
        stewards=stewards,
        signatures_required=args.signatures,
        ports=ports,
        policies=policies,
        simulated=args.simulated,
        now=utc_now(),
    )
    _say_who_loosens(config, stewards, args.signatures)
    _say_what_is_refused(archive, config, args.site, stewards, args.signatures)
    newest = archive.newest_version(args.site)
    if newest > pinned_versions(archive)[gateway]:
        print(
            f"murmure: gateway enrol: --policy: site {args.site} has a policy already, so that this gateway lets "
            f"version {newest} hold seven days after it first sees it",
            file=sys.stderr,
        )
    archive.close()
    print(f"{gateway} is registered; start it with: murmure edge run --config {folder / 'gateway.toml'}")
    return 0


def _say_who_loosens(config: IngestConfig, stewards: list[bytes], signatures: int) -> None:
    """Says on stderr if one person alone may loosen what was just enrolled."""
    import sys

    from murmure_ingest.gateways import loosening_takes

    if loosening_takes(config.deciding, stewards, signatures) < 2:
        print(
            "murmure: gateway enrol: --steward: one signature alone will loosen policies here, after seven days; "
            "name two keys and give them roles under [deciding.roles] in ingest.toml, or require two --signatures",
            file=sys.stderr,
        )


def _say_what_is_refused(
    archive: Archive, config: IngestConfig, site: str, stewards: list[bytes], signatures: int
) -> None:
    """Says on stderr if the gateway that was just enrolled would refuse the site's newest policy: where another one
    serves the site, it is not enrolled."""
    import sys

    from murmure_ingest.gateways import Pinned, first_refused, require_roles

    pinned = Pinned(require_roles(config.deciding, stewards), config.deciding.ceiling_rho_micro(site))
    problem = first_refused(archive, site, stewards, signatures, pinned)
    if problem is not None:
        print(f"murmure: gateway enrol: {problem}: it holds there seven days after it came", file=sys.stderr)


def _offer(
    args: argparse.Namespace,
    config: IngestConfig,
    archive: Archive,
    gateway: str,
    stewards: list[bytes],
    ports: list[Port],
) -> int:
    from murmure_ingest.enrolment import Claims, Slot, offer, utc_now
    from murmure_ingest.gateways import pinned_now

    door = _door(config, "; or use --local DIR")
    now = utc_now()
    slot = Slot(
        gateway,
        args.site,
        args.quartier,
        tuple(dict.fromkeys(stewards)),
        args.signatures,
        tuple(ports),
        args.simulated,
        args.replaces,
        pinned=pinned_now(archive, config.deciding, args.site, stewards, args.signatures, now),
    )
    claims = Claims(config.data_dir)
    claim = offer(archive, config, claims, slot, now)
    claims.close()
    _say_who_loosens(config, stewards, args.signatures)
    _say_what_is_refused(archive, config, args.site, stewards, args.signatures)
    _show_claim(claim, slot, now, door, args.json)
    return 0


def _rotate(args: argparse.Namespace) -> int:
    from murmure_ingest.enrolment import Claims, offer_rotation, utc_now

    config, archive = _opened(args)
    door = _door(config)
    now = utc_now()
    claims = Claims(config.data_dir)
    claim, slot = offer_rotation(archive, config, claims, args.gateway, now)
    claims.close()
    _show_claim(claim, slot, now, door, args.json, " --rotate")
    return 0


def _door(config: IngestConfig, otherwise: str = "") -> str:
    """Returns where gateways enrol, as HOST:PORT."""
    from murmure_privacy.errors import ConfigError

    if config.enrolment is None:
        raise ConfigError(
            config.source,
            "enrolment",
            "the door is closed, no gateway could come",
            f"write a table [enrolment] as in ingest.example.toml, and restart 'murmure ingest run'{otherwise}",
        )
    return f"{config.enrolment.name or config.enrolment.host}:{config.enrolment.port}"


def _show_claim(claim: Claim, slot: Slot, now: datetime, door: str, as_json: bool, option: str = "") -> None:
    import json

    import segno
    from murmure_privacy.enrolment import HOLDS_S
    from murmure_privacy.window import utc

    until = utc(int(now.timestamp()) + HOLDS_S)
    scanned = f"{claim.text}@{door}"
    if as_json:
        who = {"gateway": slot.gateway, "site": slot.site}
        print(json.dumps({**who, "code": claim.text, "centre": door, "qr": scanned, "until": until}))
        return
    print(f"{slot.gateway}, site {slot.site}: claim code, for one use before {until}\n\n    {claim.text}\n")
    segno.make(scanned, error="m", micro=False).terminal(compact=True)
    print(f"\nOn the gateway: murmure edge enrol {claim.text} --centre {door}{option}")
    print("Then compare six words: they stand there, and here in 'murmure gateway list'.")


def _list(args: argparse.Namespace) -> int:
    import json

    from murmure_privacy.release import Health
    from murmure_privacy.window import utc
    from murmure_privacy.wire import open_health

    from murmure_ingest.certificates import issued
    from murmure_ingest.enrolment import Claims, utc_now
    from murmure_ingest.gateways import loosening_takes

    config, archive = _opened(args, exists=True)
    claims = Claims(config.data_dir)
    reports = {report.gateway: report for report in archive.health()}
    certificates = {certificate.name: certificate for certificate in issued(config.data_dir)}  # the newest holds
    lines = []
    for line in archive.enrolments():
        totals = archive.totals(line.gateway)
        report = reports.get(line.gateway)
        certificate = certificates.get(line.gateway)
        if line.status == "active" and certificate is not None and certificate.restored and certificate.revoked_s:
            certificate = None  # of before a change of key; the present one was made after the backup
        versions = {policy.hash: policy.version for policy in archive.policies(line.site)}
        used = max((versions[use.policy] for use in archive.uses(line.gateway)), default=None)
        health: Health | None = open_health(report.sealed, line.record_key) if report else None
        lines.append(
            {
                "gateway": line.gateway,
                "quartier": line.quartier,
                "site": line.site,
                "status": "quarantined" if line.status == "active" and archive.cloned(line.gateway) else line.status,
                "settled_seq": totals.settled_seq,
                "policy_used": used,
                "policy_newest": max(versions.values(), default=None),
                "record_key": line.record_key.hex(),
                "stewards": [key.hex() for key in line.stewards],
                "signatures_required": line.signatures_required,
                "loosening_takes": loosening_takes(config.deciding, line.stewards, line.signatures_required),
                "heard": utc(health.at_s) if health else None,
                "outbox_depth": health.outbox_depth if health else None,
                "ports": dict(health.ports) if health else {},
                "words": claims.words(line.gateway),
                "certificate_until": utc(certificate.until_s) if certificate else None,
                "certificate_revoked": certificate is not None and certificate.revoked_s is not None,
            }
        )
    claims.forget(int(utc_now().timestamp()))
    expected = claims.expected()
    claims.close()
    if args.json:
        coming = [
            {
                "gateway": slot.gateway,
                "quartier": slot.quartier,
                "site": slot.site,
                "status": "rotating" if slot.rotates else "expected",
                "until": utc(at),
            }
            for slot, at in expected
        ]
        print(json.dumps([*lines, *coming]))
        return 0
    for entry in lines:
        behind = entry["policy_used"] not in (None, entry["policy_newest"])
        print(
            f"{entry['gateway']}  {entry['quartier']}/{entry['site']}  {entry['status']}  "
            f"settled to {entry['settled_seq']}  heard {entry['heard'] or 'never'}"
            + (f"  policy {entry['policy_used']}, newest {entry['policy_newest']}" if behind else "")
            + (f"  certificate until {str(entry['certificate_until'])[:10]}" if entry["certificate_until"] else "")
            + (", taken back" if entry["certificate_revoked"] else "")
            + ("  one signature loosens" if entry["status"] == "active" and entry["loosening_takes"] == 1 else "")
            + (f"  words: {entry['words']}" if entry["words"] else "")
        )
    for slot, until_s in expected:
        what = "may change its keys" if slot.rotates else "expected"
        print(f"{slot.gateway}  {slot.quartier}/{slot.site}  {what} until {utc(until_s)}")
    if not lines and not expected:
        print("no gateway is registered; see 'murmure gateway enrol --help'")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    import sys

    from murmure_ingest.broker import turn_away
    from murmure_ingest.enrolment import Claims, ClaimsError, utc_now
    from murmure_ingest.gateways import revoke

    config, archive = _opened(args)
    try:
        claims = Claims(config.data_dir)
        cancelled = claims.cancel(args.gateway)
        claims.close()
    except ClaimsError as error:
        print(f"murmure: {error}; going on without it", file=sys.stderr)
        cancelled = False
    if cancelled and archive.enrolment(args.gateway) is None:
        print(f"{args.gateway} is not expected any more: its claim code is worth nothing")
        return 0
    revoke(archive, args.gateway)
    archive.close()
    print(f"{args.gateway} is revoked: nothing it sends is filed from now on")
    for line in turn_away(config, args.gateway, utc_now()):
        print(line)
    return 0


def _tail(args: argparse.Namespace) -> int:
    import json
    import signal
    import sys
    from pathlib import Path
    from threading import Event

    from murmure_privacy.published import node_json
    from murmure_privacy.release import Message

    from murmure_ingest.archive import Archive
    from murmure_ingest.config import load
    from murmure_ingest.subscriber import tail

    config = load(Path(args.config))
    archive = Archive.open(config.archive, read_only=True)
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())

    def show(message: Message) -> None:
        for outcome in message.outcomes:
            node = node_json(message, outcome)
            if args.json:
                print(json.dumps(node), flush=True)
                continue
            values = node.get("values") or f"withheld ({node['reason']})"
            print(f"{node['end']}  {node['stream']}  {node['node']}  {values}", flush=True)

    tail(config, archive, show, stop, lambda text: print(text, file=sys.stderr, flush=True))
    return 0
