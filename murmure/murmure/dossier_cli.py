"""`murmure policy dossier`: the file for the data protection officer and the authority."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from murmure_privacy.speaking import add_lang, speaking


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `dossier` to the group `policy`, which the kernel's commands have made."""
    commands = groups.murmure_policy  # type: ignore[attr-defined]  # as in murmure_privacy.cli
    dossier = commands.add_parser(
        "dossier",
        help="write the file for the data protection officer: record, impact assessment, evidence",
        description=(
            "Writes DIR/dossier.fr.html and DIR/dossier.en.html, each one page to print: the entry for the record of\n"
            "processing, a draft of the impact assessment with the three criteria of anonymisation, what is kept and\n"
            "what has travelled in the last 24 hours, and where each claim can be checked. It reads city.toml, the\n"
            "signed policies and the archive, and says what the town has yet to decide. No legal advice.\n\n"
            "With --policy DRAFT, a policy that is not published, as TOML or signed, is told as if it were in force:\n"
            "the first one of a place, or a looser one. The files are dossier-projet.fr.html and\n"
            "dossier-projet.en.html, and say at their head and on each sheet that it is a draft."
        ),
        epilog=(
            "example: murmure policy dossier --archive archive.db --city city.toml --out dossier\n"
            "example: murmure policy dossier --archive archive.db --city city.toml --out dossier --config ingest.toml "
            "--site site\n"
            "example: murmure policy dossier --archive archive.db --city city.toml --out dossier --policy plaza-8.toml"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    dossier.add_argument("--archive", type=Path, required=True, metavar="FILE", help="the centre's archive, only read")
    dossier.add_argument("--city", type=Path, required=True, metavar="FILE", help="names and register: city.toml")
    dossier.add_argument("--out", type=Path, required=True, metavar="DIR", help="never within the public site")
    dossier.add_argument("--config", type=Path, metavar="FILE", help="ingest.toml, for retention and mirror")
    dossier.add_argument("--site", type=Path, metavar="DIR", help="the --out of `site build`, for what was spent")
    dossier.add_argument(
        "--policy", type=Path, metavar="DRAFT", help="a policy that is not published yet, told as a draft"
    )
    dossier.add_argument("--now", metavar="T", help="the instant of the file, UTC with Z (default: this machine's)")
    dossier.add_argument("--json", action="store_true", help="one JSON object on stdout: files, and what is undecided")
    add_lang(dossier)
    dossier.set_defaults(handler=speaking(_dossier))


def _dossier(args: argparse.Namespace) -> int:
    from dataclasses import asdict
    from urllib.parse import urlsplit

    from murmure_dashboards.cli import instant
    from murmure_dashboards.config import load
    from murmure_dashboards.dossier import build
    from murmure_dashboards.dossier_facts import Draft, Settings
    from murmure_ingest import config
    from murmure_ingest.archive import Archive
    from murmure_privacy.policy_cli import plan_in

    now_s = instant("policy dossier", args.now)
    city = load(args.city)
    settings = None
    if args.config:
        centre = config.load(args.config)
        settings = Settings(
            kept_days=asdict(centre.retention) if centre.retention else {},
            mirror=urlsplit(centre.mirror.url).hostname or "" if centre.mirror else "",
        )
    draft = Draft(plan_in(args.policy).policy, str(args.policy)) if args.policy else None
    archive = Archive.open(args.archive, read_only=True)
    try:
        paths, undecided = build(archive, city, args.out, now_s, settings, args.site, draft)
    finally:
        archive.close()
    if args.json:
        print(json.dumps({"files": [str(path) for path in paths], "undecided": undecided}))
    else:
        for path in paths:
            print(path)
    return 0
