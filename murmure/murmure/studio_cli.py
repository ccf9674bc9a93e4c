"""`murmure policy studio`: the page on which a steward chooses, on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from murmure_privacy.speaking import add_lang, speaking

DEFAULT_PORT = 8082
LOOPBACK = "127.0.0.1"


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `studio` to the group `policy`, which the kernel's commands have made."""
    commands = groups.murmure_policy  # type: ignore[attr-defined]  # as in murmure_privacy.cli
    studio = commands.add_parser(
        "studio",
        help="choose a policy by its consequences, on a page in the browser",
        description=(
            "Serves the page /gestion/scenarios on this machine: who is protected, which margin is wanted, three\n"
            "scenarios on one week that is made up or recorded, the draft of each public page, and a proposal to\n"
            "download; /gestion/lieu adds up the streams of a whole site. It reads no sensor, no gateway and no\n"
            "archive, spends nothing and publishes nothing. Give with --readings only a recording that is public."
        ),
        epilog=(
            "example: murmure policy studio\n"
            "example: murmure policy studio --policy policy.toml --readings street.csv\n"
            "example: murmure policy studio --policy plaza.toml --policy market.toml"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    studio.add_argument("--port", type=int, default=DEFAULT_PORT, metavar="N", help="port (default 8082)")
    studio.add_argument(
        "--policy",
        type=Path,
        action="append",
        metavar="FILE",
        help="where to begin; repeat for several sites (else three streams of a square)",
    )
    studio.add_argument("--readings", type=Path, metavar="FILE", help="a public recording to try on (CSV, also gzip)")
    studio.add_argument("--site", metavar="SITE", help="the site in the recording, if it has several")
    studio.add_argument("--host", default=LOOPBACK, metavar="ADDRESS", help="address to listen on (default 127.0.0.1)")
    studio.add_argument("--open-to-others", action="store_true", help="needed for a --host that others can reach")
    add_lang(studio)
    studio.set_defaults(handler=speaking(_studio))


def _studio(args: argparse.Namespace) -> int:
    import signal
    import tempfile

    from murmure_privacy.errors import ConfigError
    from murmure_privacy.mechanism import DiscreteGaussian

    from murmure.studio import page
    from murmure.studio.desk import begin
    from murmure.studio.server import Studio, StudioServer, is_loopback

    if not is_loopback(args.host) and not args.open_to_others:
        raise ConfigError(
            "policy studio",
            "--host",
            f"{args.host} can be reached from other machines, and the page asks nobody who they are",
            "leave it out, or add --open-to-others",
        )
    files: list[Path | None] = args.policy or [None]
    if args.readings is not None and len(files) > 1:
        raise ConfigError("policy studio", "--readings", "beside several policies", "give the policy of its site alone")
    desks = [begin(file, args.readings, args.site, DiscreteGaussian()) for file in files]
    sites = [desk.base.site for desk in desks]
    for file, site in zip(files, sites, strict=True):
        if sites.count(site) > 1:
            raise ConfigError(str(file), "site", f"{site!r} has two policies here", "give one policy for each site")

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    with tempfile.TemporaryDirectory(prefix="murmure-studio-") as folder:
        studio = Studio(desks, Path(folder))
        try:
            server = StudioServer(studio, args.port, args.host, args.open_to_others)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                "policy studio", "--port", f"{args.port} cannot be used ({error})", "name a free port"
            ) from error
        with server:
            print(f"http://{args.host}:{server.server_address[1]}/{page.PATH}", flush=True)
            signal.signal(signal.SIGTERM, end)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return 0
    return 0
