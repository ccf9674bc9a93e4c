"""`murmure grafana …`: dashboards for technicians, written to files or pushed to a server."""

from __future__ import annotations

import argparse
import json
import stat
from pathlib import Path

_ADAPTERS = ("grafana-client", "grafana-api")


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the group `grafana`."""
    group = groups.add_parser(
        "grafana",
        help="dashboards for technicians, for towns that run a Grafana",
        description="Dashboards for technicians, for towns that run a Grafana.",
        epilog="example: murmure grafana build dashboards/grafana",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    build = commands.add_parser(
        "build",
        help="write the dashboards as JSON",
        description="Writes each dashboard in French and in English, to be imported by hand or by provisioning.",
        epilog="example: murmure grafana build dashboards/grafana",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("out", type=Path, metavar="DIR", help="where the files go")
    build.set_defaults(handler=_build)
    push = commands.add_parser(
        "push",
        help="put folder, data source and dashboards into a Grafana",
        description="Puts folder, data source and dashboards into a Grafana; again, and they are renewed.",
        epilog="example: murmure grafana push http://127.0.0.1:3000 --token-file grafana.token "
        "--metrics http://127.0.0.1:8428",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    push.add_argument("url", metavar="URL", help="the address of Grafana")
    push.add_argument(
        "--token-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="a service account's token, alone in a file (0600)",
    )
    push.add_argument(
        "--metrics", required=True, metavar="URL", help="the Prometheus or VictoriaMetrics, as Grafana reaches it"
    )
    push.add_argument("--language", choices=("fr", "en"), default="fr", help="of the dashboards (fr)")
    push.add_argument(
        "--through", choices=_ADAPTERS, default=_ADAPTERS[0], help="the library that talks to Grafana (grafana-client)"
    )
    push.add_argument("--json", action="store_true", help="one JSON document on stdout")
    push.set_defaults(handler=_push)


def _build(args: argparse.Namespace) -> int:
    from murmure_privacy.errors import ConfigError

    from murmure_dashboards.grafana import LANGUAGES, dashboards

    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for language in LANGUAGES:
            for name, text in dashboards(language):
                (args.out / name).write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(
            str(args.out), "DIR", f"cannot be written ({error.strerror})", "give another folder"
        ) from error
    print(f"{args.out}: dashboards in {', '.join(LANGUAGES)}")
    return 0


def _push(args: argparse.Namespace) -> int:
    from murmure_privacy.errors import ConfigError

    from murmure_dashboards.grafana import dashboards
    from murmure_dashboards.grafana_push import ADAPTERS, Grafana

    for key, url in (("URL", args.url), ("--metrics", args.metrics)):
        if not url.startswith(("http://", "https://")):
            raise ConfigError("grafana push", key, f"{url!r} is no address", "write http://HOST:PORT or https://…")
    token = _token(args.token_file)
    try:
        send = ADAPTERS[args.through](args.url, token)
    except ImportError as error:
        raise ConfigError(
            "grafana push", "--through", f"{args.through} is not installed", f"run 'pip install {args.through}'"
        ) from error
    grafana = Grafana(send)
    version = grafana.version()
    grafana.put_folder("Murmure")
    grafana.put_data_source(args.metrics)
    put = {name: grafana.put_dashboard(json.loads(text)) for name, text in dashboards(args.language)}
    if args.json:
        print(json.dumps({"version": version, "dashboards": put}))
    else:
        print(
            f"Grafana {version}: {len(put)} dashboards, at "
            + ", ".join(args.url.rstrip("/") + at for at in put.values())
        )
    return 0


def _token(path: Path) -> str:
    from murmure_privacy.errors import ConfigError

    try:
        token = path.read_text("ascii").strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), "--token-file", "cannot be read", "write the token into it") from error
    if not token or any(character.isspace() for character in token):
        raise ConfigError(str(path), "--token-file", "holds no token", "write the token into it, and nothing else")
    if mode & 0o077:
        raise ConfigError(str(path), "--token-file", "others may read this secret", f"run 'chmod 600 {path}'")
    return token
