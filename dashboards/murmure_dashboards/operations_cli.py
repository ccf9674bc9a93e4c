"""`murmure site operations`: the operators' pages, written once or kept fresh and served on the loopback."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `operations` to the group `site`."""
    operations = commands.add_parser(
        "operations",
        help="the operators' page: fleet, lag, refusals, spending; not for the public",
        description="Writes DIR/exploitation/; with --serve keeps it fresh and serves it on 127.0.0.1 until stopped.",
        epilog="example: murmure site operations --archive archive.db --city city.toml --out operations --serve",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    operations.add_argument("--archive", type=Path, required=True, metavar="FILE", help="the centre's, only read")
    operations.add_argument("--city", type=Path, required=True, metavar="FILE", help="names of sites: city.toml")
    operations.add_argument("--out", type=Path, required=True, metavar="DIR", help="never within the public site")
    operations.add_argument("--now", metavar="T", help="the instant of the page, UTC with Z (default: this machine's)")
    operations.add_argument("--serve", action="store_true", help="draw it again each half minute, and serve it here")
    operations.add_argument("--port", type=int, default=8081, help="port on 127.0.0.1, with --serve (default 8081)")
    operations.set_defaults(handler=_operations)


def _operations(args: argparse.Namespace) -> int:
    from murmure_privacy.errors import ConfigError

    from murmure_dashboards.cli import instant, serve_until_stopped
    from murmure_dashboards.config import load
    from murmure_dashboards.operations import FOLDER, draw_once, kept_fresh

    city = load(args.city)
    if not args.serve:
        count = draw_once(args.archive, city, args.out, instant("site operations", args.now))
        print(f"{args.out / FOLDER}: {count} pages")
        return 0
    if args.now:
        raise ConfigError("site operations", "--now", "a page that is kept fresh has none", "leave out one of the two")

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with kept_fresh(args.archive, city, args.out, lambda: instant("site operations", None), say):
        serve_until_stopped("site operations", args.out, args.port, FOLDER)
    return 0
