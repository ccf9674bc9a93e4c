"""`murmure demo`: the whole pipeline on one machine."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT_PORT = 8080


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `demo`."""
    demo = groups.add_parser(
        "demo",
        help="three sites, from simulated sensors to a public page, on this machine",
        description="Simulated sensors on pseudo-terminals, gateways of two processes each, a broker, the centre, its\n"
        "archive and the public site. Without --once the city goes on living and the site is served.",
        epilog="example: murmure demo --once --days 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--days", type=int, metavar="D", help="past days to replay (default: 1, with --once 2)")
    demo.add_argument("--once", action="store_true", help="replay as fast as it can, build the site, summarise, exit")
    demo.add_argument("--port", type=int, default=DEFAULT_PORT, metavar="N", help="where the site is served (8080)")
    demo.add_argument("--dir", type=Path, metavar="DIR", help="where everything is kept (default: demo, made anew)")
    demo.add_argument("--speed", type=float, metavar="X", help="pace after the past days, times real time (60)")
    demo.add_argument("--recordings", type=Path, metavar="DIR", help="play these recordings instead of the generator")
    demo.add_argument("--json", action="store_true", help="with --once: the summary as one JSON object")
    demo.set_defaults(handler=_demo)


def _demo(args: argparse.Namespace) -> int:
    from murmure_privacy.errors import ConfigError

    from murmure import city

    days = args.days if args.days is not None else (2 if args.once else 1)
    for key, wrong, problem, mend in (
        ("--days", not 1 <= days <= 366, f"{days} is out of range", "write 1 to 366"),
        ("--speed", not 0 < (args.speed or 1) <= 1_000_000, f"{args.speed} is no pace", "write a factor above 0"),
        ("--port", not 0 < args.port < 65536, f"{args.port} is out of range", "write 1 to 65535"),
        ("--json", args.json and not args.once, "a living city has no summary", "add --once"),
    ):
        if wrong:
            raise ConfigError("demo", key, problem, mend)
    return city.run(
        city.Settings(
            days=days,
            once=args.once,
            port=args.port,
            directory=args.dir,
            speed=args.speed,
            recordings=args.recordings,
            as_json=args.json,
        )
    )
