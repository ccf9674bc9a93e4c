"""The gateway's own commands: `edge run`, `sense`, `send`, `ledger` and `replay`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
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

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is committed stays
    summary = replay.run(
        args.policy, args.readings, args.stream, args.out, args.site, args.metric, args.db, judge_dates=args.dates
    )
    # With --out - the nodes are on stdout: the summary must not stand among them.
    to = sys.stderr if str(args.out) == "-" else sys.stdout
    if args.json:
        print(json.dumps({"nodes": summary.nodes, "released": summary.released, "drawn": summary.drawn}), file=to)
    else:
        print(f"{summary.nodes} nodes, {summary.released} released, of which {summary.drawn} drawn now", file=to)
        if summary.ignored:
            print(f"ignored in the recording: {', '.join(summary.ignored)}", file=to)
    return 0
