"""The gateway's own commands: `edge run`, `sense`, `send`, `ledger`, `export`, `enrol`, `forget`, `wipe`, `doctor`
and `replay`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds this file's commands to the group `edge`."""
    for name, help_text, handler in (
        ("run", "run the gateway: both processes", _run),
        ("sense", "run the process that has the sensors and no network", _sense),
        ("send", "run the process that has the network and no sensor", _send),
        ("ledger", "show what was charged, when and for what", _ledger),
    ):
        parser = _parser(commands, name, help_text, f"example: murmure edge {name} --config gateway.toml")
        parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gateway's gateway.toml")
        parser.set_defaults(handler=handler)
        if name == "ledger":
            parser.add_argument("--at", metavar="TIME", help="what is spent and left at this instant, in UTC with a Z")
            parser.add_argument("--json", action="store_true", help="one JSON line per charge; with --at one document")
    export = _parser(
        commands,
        "export",
        "exchange messages for receipts and policies with a USB stick",
        "example: murmure edge export /media/stick --config gateway.toml",
    )
    export.add_argument("folder", type=Path, metavar="DIR", help="where the stick is mounted, or a folder on it")
    _place(export)
    export.add_argument("--json", action="store_true", help="print what was exchanged as JSON")
    export.set_defaults(handler=_export)
    enrol = _parser(
        commands,
        "enrol",
        "make this gateway's keys and register it with a claim code",
        "example: murmure edge enrol HV89C-9VRBG-V6Z47-WSFAV-2S6V0-00G40-R40M3-0F8HW --centre murmure.example.org",
    )
    enrol.add_argument(
        "code", metavar="CODE", help="eight groups, as 'murmure gateway enrol' prints them; or its QR's text"
    )
    enrol.add_argument("--centre", metavar="HOST[:PORT]", help="where the centre is; the QR's text holds it")
    enrol.add_argument(
        "--rotate",
        action="store_true",
        help="new keys for a gateway that is enrolled, with a code of 'murmure gateway rotate'; stop `sense` first",
    )
    _place(enrol)
    enrol.add_argument("--json", action="store_true", help="print gateway, site and the six words as JSON")
    enrol.set_defaults(handler=_enrol)
    forget = _parser(
        commands,
        "forget",
        "forget how far the centre's log had come, after the town has lost it",
        "example: murmure edge forget --config gateway.toml --yes",
    )
    _place(forget)
    forget.add_argument("--yes", action="store_true", help="do it; without this it only says what is remembered")
    forget.set_defaults(handler=_forget_log)
    wipe = _parser(
        commands,
        "wipe",
        "remove this gateway's keys, ledger and messages for good",
        "example: murmure edge wipe --config gateway.toml --yes",
    )
    _place(wipe)
    wipe.add_argument("--yes", action="store_true", help="do it; without this it only says what it would remove")
    wipe.add_argument(
        "--free-space", action="store_true", help="then fill the card's free space with zeros, where older files lay"
    )
    wipe.set_defaults(handler=_wipe)
    _add_doctor(commands)
    replay = _parser(
        commands,
        "replay",
        "put recorded readings through the real windows, gate, ledger and outbox",
        "example: murmure edge replay --policy policy.toml --readings counts.csv --stream plaza/footfall --out o.jsonl",
    )
    replay.add_argument("--policy", type=Path, required=True, metavar="FILE", help="the policy as TOML")
    replay.add_argument("--readings", type=Path, required=True, metavar="FILE", help="CSV, also gzip")
    replay.add_argument("--site", metavar="S", help="site in the recording, if it has several")
    replay.add_argument("--metric", metavar="M", help="metric in the recording, if not the quantity's own")
    replay.add_argument("--stream", required=True, metavar="ID", help="stream of the policy, e.g. plaza/footfall")
    replay.add_argument(
        "--out", type=Path, required=True, metavar="FILE.jsonl", help="one JSON object per node; - for stdout"
    )
    replay.add_argument(
        "--db", type=Path, metavar="FILE", help="keep ledger and outbox here; a second run draws nothing"
    )
    replay.add_argument("--dates", action="store_true", help="judge the policy's valid_from and valid_until")
    replay.add_argument("--json", action="store_true", help="print the summary as JSON")
    replay.set_defaults(handler=_replay)


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = _parser(
        commands,
        "doctor",
        "say what is wrong with ports, sensors and machine, each with one gesture",
        "example: murmure edge doctor --config gateway.toml\n"
        "         murmure edge doctor --port /dev/serial/by-path/... --device sds011\n"
        "         murmure edge doctor --watch",
    )
    doctor.add_argument("--config", type=Path, metavar="FILE", help="gateway.toml (here or installed, if not said)")
    doctor.add_argument("--port", metavar="PATH", default="", help="one sensor alone, without gateway.toml")
    doctor.add_argument("--device", metavar="NAME", default="", help="what is at --port; it guesses, if not said")
    doctor.add_argument("--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="its settings")
    doctor.add_argument(
        "--json", action="store_true", help="one JSON document, without values (--watch: a line a second)"
    )
    doctor.add_argument("--watch", action="store_true", help="a live page of all sensors; q ends it")
    doctor.add_argument(
        "--lang", choices=("fr", "en"), default="", help="the language (that of the locale, if not said)"
    )
    doctor.add_argument(
        "--seconds", type=int, metavar="S", help="how long to hear each sensor (a stuck one takes 60 to 600)"
    )
    doctor.add_argument("--scan", action="store_true", help="ask the addresses 1 to 16 of each Modbus line")
    doctor.add_argument("--fix", action="store_true", help="say what it could mend by itself")
    doctor.add_argument("--yes", action="store_true", help="with --fix: do it; without, nothing is changed")
    doctor.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="look at /sys, /proc, /etc there (for exercises)"
    )
    doctor.set_defaults(handler=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from murmure_privacy.errors import ConfigError

    from murmure_edge.doctor.command import Wish, main, parse_settings

    for option, wrong, needs in (
        ("--device", args.device and not args.port, "--port"),
        ("--set", args.set and not args.device, "--device"),
        ("--yes", args.yes and not args.fix, "--fix"),
    ):
        if wrong:
            raise ConfigError("edge doctor", option, f"stands without {needs}", f"add {needs}, or leave it out")
    if args.seconds is not None and not 1 <= args.seconds <= 3600:
        raise ConfigError("edge doctor", "--seconds", f"{args.seconds} is out of range", "write 1 to 3600")
    return main(
        Wish(
            config=args.config,
            port=args.port,
            device=args.device,
            settings=parse_settings(args.set),
            language=args.lang,
            as_json=args.json,
            watch=args.watch,
            scan=args.scan,
            fix=args.fix,
            yes=args.yes,
            hear_s=args.seconds,
            root=args.root,
        )
    )


def _parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, example: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--config", type=Path, default=Path("gateway.toml"), metavar="FILE", help="gateway.toml (here, if not said)"
    )
    place.add_argument("--system", action="store_true", help="the installed gateway's: /etc/murmure and /var/lib")


def _config_of(args: argparse.Namespace) -> Path:
    from murmure_edge.enrol import Layout

    config: Path = Layout.installed().config if args.system else args.config
    return config


def _pause_aloud() -> Callable[[float], None]:
    """Returns what waits, and says so the first time: who stands there with a stick must not pull it out."""
    from murmure_edge import clock

    said = False

    def pause(seconds: float) -> None:
        nonlocal said
        if not said:
            print("murmure: waits for `sense` to report, 75 seconds at most: leave the stick in", file=sys.stderr)
        said = True
        clock.pause(seconds)

    return pause


def _export(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from murmure_edge.courier import export

    visit = export(_config_of(args), args.folder, _pause_aloud())
    if args.json:
        print(json.dumps(asdict(visit)))
        return 0
    if visit.own_disk:
        print(f"murmure: {args.folder}: lies on the gateway's own disk; is the stick mounted there?", file=sys.stderr)
    print(
        f"{visit.written} messages written, {visit.present} were there already; {visit.letters} letters of the centre "
        f"taken, settled up to {visit.settled_seq}, {visit.removed} settled messages cleared from the stick"
    )
    return 0


def _enrol(args: argparse.Namespace) -> int:
    from importlib.metadata import version

    from murmure_privacy.errors import ConfigError

    from murmure_edge.enrol import Layout, enrol
    from murmure_edge.rotate import rotate

    code, _, scanned = args.code.partition("@")
    centre = args.centre or scanned
    if not centre:
        raise ConfigError("edge enrol", "--centre", "is missing", "write --centre HOST, or give the text of the QR")
    layout = Layout.installed() if args.system else Layout.beside(args.config)
    if args.rotate:
        done = rotate(code, centre, layout.config, version("murmure"))
    else:
        done = enrol(code, centre, layout, version("murmure"))
    if args.json:
        print(json.dumps({"gateway": done.gateway, "site": done.site, "words": done.words}))
        return 0
    what = "has new keys" if args.rotate else f"is enrolled at {done.site}"
    print(f"{done.gateway} {what}. Compare these six words with those at the centre:")
    print(f"\n    {done.words}\n")
    if args.rotate:
        print(
            "If they differ, tell the centre to revoke it. Start `sense` and restart `send`: the old keys end with the"
        )
        print("first word of the new ones.")
        return 0
    print("If they differ, tell the centre to revoke it. Until the steward's policy comes, nothing is published:")
    print(
        "a silent test. 'murmure edge doctor' says how the sensors are; values show on this gateway's own screen only."
    )
    return 0


def _forget_log(args: argparse.Namespace) -> int:
    from murmure_privacy.errors import MurmureError

    from murmure_edge.gateway_db import DiskFull

    try:
        return _forgotten_log(args)
    except DiskFull as error:
        where = str(error).partition(": ")[0]
        raise MurmureError(f"{where}: no room on the disk, and nothing was forgotten; make room, then again") from error


def _forgotten_log(args: argparse.Namespace) -> int:
    import base64
    from contextlib import closing

    from murmure_privacy.errors import ConfigError
    from murmure_privacy.log import Checkpoint
    from murmure_privacy.window import utc

    from murmure_edge import inbox
    from murmure_edge.clock import wall_ms
    from murmure_edge.config import load
    from murmure_edge.gateway_db import GatewayDb, copied

    def words(log: Checkpoint) -> str:
        return f"{log.size} entries, root {base64.b64encode(log.root).decode()}"

    config = load(_config_of(args))
    path = config.data / "gateway.db"
    if not path.is_file():
        raise ConfigError(str(path), "data", "there is no such file", "give the gateway.toml of an enrolled gateway")
    # Who only asks changes nothing: an opened file would count one start more.
    opened = closing(GatewayDb.open(path, keep=config.keep_messages)) if args.yes else copied(path)
    with opened as db:
        for at_s, log in db.forgotten():
            print(f"forgotten at {utc(at_s)}: {words(log)}")
        known = db.log
        if args.yes:
            try:
                inbox.drop_receipts(config.inbox)  # before, or what they tell would be known again at the next start
            except OSError as error:
                mend = "run it as sense's user"
                raise ConfigError(str(config.inbox), "inbox", error.strerror or "cannot be used", mend) from error
            db.forget_log(wall_ms() // 1000)
    if known is None:
        print("No log is remembered: the next receipt that names one is believed.")
    elif args.yes:
        print(f"forgotten, and written down for good: {words(known)}")
    else:
        print(f"remembered: {words(known)}")
        print("With --yes this gateway forgets it, and believes whatever log it is told of next, a forked one too.")
        print("Do so only if the town has lost its published log, and says so in public.")
    return 0


def _wipe(args: argparse.Namespace) -> int:
    from murmure_edge.wipe import what_is_there, wipe

    config = _config_of(args)
    if not args.yes:
        for path in what_is_there(config):
            print(path)
        print("With --yes all of this is removed for good. Let the centre revoke the gateway as well.")
        return 0
    removed = wipe(config, args.free_space, _overwritten)
    print(
        f"{len(removed)} files removed. A card may keep old copies inside: let the centre revoke the gateway as well."
    )
    return 0


def _overwritten(size: int) -> None:
    if sys.stderr.isatty() and size % (64 << 20) == 0:
        print(f"\r{size >> 20} MiB of free space overwritten", end="", file=sys.stderr, flush=True)


def _sense(args: argparse.Namespace) -> int:
    from murmure_edge import sense

    return sense.main(args.config)


def _send(args: argparse.Namespace) -> int:
    from murmure_edge import send

    return send.main(args.config)


def _run(args: argparse.Namespace) -> int:
    from murmure_edge import both

    return both.main(args.config)


def _ledger(args: argparse.Namespace) -> int:
    from murmure_edge import ledger_view

    if args.at is not None:
        return ledger_view.show_at(args.config, args.at, as_json=args.json)
    return ledger_view.show(args.config, as_json=args.json)


def _replay(args: argparse.Namespace) -> int:
    from murmure_edge import replay

    asked = threading.Event()

    def end(number: int, frame: object) -> None:
        """Asks for the end, at the second time at once. An exception that a signal raised in the middle of a library
        could be swallowed there: it was, within OpenDP, and the replay went on."""
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        summary = replay.run(
            *(args.policy, args.readings, args.stream, args.out, args.site, args.metric, args.db),
            judge_dates=args.dates,
            stopped=asked.is_set,
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    # With --out - the nodes are on stdout: the summary must not stand among them.
    to = sys.stderr if str(args.out) == "-" else sys.stdout
    if args.json:
        print(json.dumps({"nodes": summary.nodes, "released": summary.released, "drawn": summary.drawn}), file=to)
    else:
        print(f"{summary.nodes} nodes, {summary.released} released, of which {summary.drawn} drawn now", file=to)
        if summary.ignored:
            print(f"ignored in the recording: {', '.join(summary.ignored)}", file=to)
    return 0
