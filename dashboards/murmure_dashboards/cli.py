"""`murmure site …`: the public site."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from murmure_dashboards import operations_cli

if TYPE_CHECKING:
    from murmure_dashboards.config import City
    from murmure_dashboards.pdf import Press
    from murmure_dashboards.site import BuildReport
    from murmure_dashboards.views import ArchiveReader


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the group `site`."""
    site = groups.add_parser(
        "site",
        help="the public site",
        description="Static pages and open data, drawn from the archive.",
        epilog="example: murmure site build --archive archive.db --city city.toml --out site",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = site.add_subparsers(metavar="COMMAND", required=True)
    build = commands.add_parser(
        "build",
        help="write the whole site and switch to it at once",
        description="Writes every page and data file beside the old site, then makes OUT lead to the new one.",
        epilog="example: murmure site build --archive archive.db --city city.toml --out site",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("--archive", type=Path, required=True, metavar="FILE", help="the centre's archive, only read")
    build.add_argument("--city", type=Path, required=True, metavar="FILE", help="names and register: city.toml")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the site stands (a link)")
    build.add_argument("--now", metavar="T", help="the instant of the pages, UTC with Z (default: this machine's)")
    build.add_argument(
        "--replace-log",
        action="store_true",
        help="also where the log that OUT has published would be lost: gateways and residents remember it",
    )
    build.add_argument("--json", action="store_true", help="one JSON object on stdout")
    build.set_defaults(handler=_build)
    serve = commands.add_parser(
        "serve",
        help="serve a built site to browsers on this machine",
        description="A small static server: GET and HEAD, compressed files, strict headers, 127.0.0.1 only.",
        epilog="example: murmure site serve site --port 8080",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("directory", type=Path, metavar="DIR", help="the --out of `site build`")
    serve.add_argument("--port", type=int, default=8080, help="port on 127.0.0.1 (default 8080)")
    serve.set_defaults(handler=_serve)
    operations_cli.register(commands)


def _build(args: argparse.Namespace) -> int:
    from murmure_ingest.archive import Archive
    from murmure_privacy.window import Calendar

    from murmure_dashboards.config import load
    from murmure_dashboards.limits import load as load_limits
    from murmure_dashboards.limits import overdue
    from murmure_dashboards.pdf import PACKAGES, Press
    from murmure_dashboards.site import LEAST_APART, Crew, build

    now_s = instant("site build", args.now)
    city = load(args.city)
    press = Press(args.out.parent / f"{args.out.name}.sheets")
    archive = Archive.open(args.archive, read_only=True)
    try:
        cores = len(os.sched_getaffinity(0))
        beside = cores if cores > 1 and len(city.quartier) >= LEAST_APART else 0  # this process soon waits for them
        crew = Crew(partial(Archive.open, args.archive, read_only=True), beside)
        told = partial(_told, args, press)
        report = build(archive, city, args.out, now_s, press, crew, args.replace_log, told)
        elsewhere = list(_elsewhere(archive, city))
    finally:
        archive.close()
    press.rest()
    if press.missing:
        get = f"apt-get install {' '.join(PACKAGES)}"
        print(f"murmure: {args.out}: PDF: none printed, {press.missing}; {get}", file=sys.stderr)
    for sheet in press.refused:
        print(
            f"murmure: {args.out}: {sheet}: has no room on its pages; shorten names and help in city.toml",
            file=sys.stderr,
        )
    for site in report.unlisted:
        print(f"murmure: {args.city}: site: {site!r} has data and no entry; add a [[site]]", file=sys.stderr)
    for name, zone in elsewhere:
        said = f"is {city.timezone}, and {zone} in the newest policy of {name!r}"
        mend = "figures are estimated by these days and released by the policy's: less exact; write the same in both"
        print(f"murmure: {args.city}: timezone: {said}; {mend}", file=sys.stderr)
    due = overdue(load_limits(city.thresholds), Calendar(city.timezone).civil_day(now_s))
    if due:
        first, names = min(one.review for one in due), ", ".join(one.id for one in due)
        file = city.thresholds or "thresholds.toml"
        print(f"murmure: {file}: review: {names}: to be read again by {first}; read, then date anew", file=sys.stderr)
    return 0


def _told(args: argparse.Namespace, press: Press, report: BuildReport) -> None:
    """Says what was built, as soon as it is there."""
    if args.json:
        print(json.dumps(asdict(report)))
    else:
        print(f"{args.out}: {report.pages} pages, {report.files} files, {-(-report.octets // 1000)} kB")
    if press.waiting and not press.missing:
        print(f"murmure: {args.out}: {press.waiting} PDF sheets are printed now, for the next build", file=sys.stderr)
    sys.stdout.flush()


def _elsewhere(archive: ArchiveReader, city: City) -> Iterator[tuple[str, str]]:
    """Yields the sites of city.toml whose newest policy has another timezone than the town, each with that timezone."""
    from murmure_privacy.policies import Rules

    rules, common = Rules(archive), f'\ntimezone = "{city.timezone}"\n'.encode()
    newest = {signed.site: signed for signed in archive.policies()}
    for site in city.site:
        signed = newest.get(site.id)
        if signed is None or common in signed.toml:  # nearly all: to read each would cost every build
            continue
        policy = rules.of(signed.hash)
        if policy is not None and policy.timezone != city.timezone:
            yield site.id, policy.timezone


def instant(command: str, text: str | None) -> int:
    """Returns the instant of `--now` in seconds UTC, this machine's without one. Raises ConfigError."""
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.window import parse_utc

    try:
        return parse_utc(text) if text else int(time.time())
    except ValueError as error:
        raise ConfigError(command, "--now", f"{text!r} is no instant", "write 2026-11-21T15:15:00Z") from error


def _serve(args: argparse.Namespace) -> int:
    from murmure_privacy.errors import ConfigError

    if not (args.directory / "index.html").is_file():
        raise ConfigError(str(args.directory), "DIR", "holds no site", "name the --out of `murmure site build`")
    serve_until_stopped("site serve", args.directory, args.port)
    return 0


def serve_until_stopped(command: str, directory: Path, port: int, page: str = "") -> None:
    """Serves a folder on the loopback and says where `page` is. Raises ConfigError where the port cannot be used."""
    from murmure_privacy.errors import ConfigError

    from murmure_dashboards.server import serve

    try:
        server = serve(directory, port)
    except (OSError, OverflowError) as error:
        raise ConfigError(command, "--port", f"{port} cannot be used ({error})", "name a free port") from error
    with server:
        print(f"http://127.0.0.1:{server.server_address[1]}/{page}", flush=True)

        def end(number: int, frame: object) -> None:
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, end)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
