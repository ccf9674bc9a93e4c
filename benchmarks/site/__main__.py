"""`python -m benchmarks.site`: builds a large town's site, draws its charts beside others, serves it beside nginx."""

from __future__ import annotations

import argparse
import pstats
import sys
import tempfile
from pathlib import Path

from . import building, charts, serving
from .town import town

QUARTIERS, DAYS = 500, 35
LIMITS_S = {"rendered again": 45.0, "a quarter-hour later": 15.0}
"""For QUARTIERS neighbourhoods, on two cores; others in proportion."""
PARTS = ("build", "charts", "serve")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.site", description=__doc__)
    parser.add_argument("--quartiers", type=int, default=QUARTIERS, help="neighbourhoods of three streams each")
    parser.add_argument("--days", type=int, default=DAYS, help="days in the archive before today")
    parser.add_argument("--dir", type=Path, help="keep the town here, so that the next run need not make it")
    parser.add_argument("--profile", action="store_true", help="say where the time of rendering again goes")
    parser.add_argument("--only", choices=PARTS, help="one part")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = args.dir or Path(name)
        for part, measure in (("build", _build), ("charts", _charts), ("serve", _serve)):
            if args.only in (None, part):
                measure(args, folder)


def _build(args: argparse.Namespace, folder: Path) -> None:
    print(f"{args.quartiers} neighbourhoods, {args.days} days", file=sys.stderr, flush=True)
    profile = folder / "profile" if args.profile else None
    for name, built in building.builds(town(folder, args.quartiers, args.days), folder / "built", profile).items():
        limit_s = LIMITS_S.get(name)
        beside = ""
        if limit_s is not None:
            limit_s *= args.quartiers / QUARTIERS
            beside = f"; {built.wall_s / limit_s:.2f} of {limit_s:.1f} s"
        print(
            f"{name}: {built.wall_s:.1f} s, {built.cpu_s:.1f} s of CPU, {built.pages} pages "
            f"({built.pages / built.wall_s:.0f} a second), {built.files} files, {built.octets / 1e6:.0f} MB{beside}",
            flush=True,
        )
    if profile:
        pstats.Stats(str(profile)).sort_stats("tottime").print_stats(40)


def _charts(args: argparse.Namespace, folder: Path) -> None:
    found = charts.beside(folder)
    own, _ = found["Murmure"]
    for name, (rate, octets) in found.items():
        print(f"three charts of 168 hours, {name}: {rate:.1f} a CPU second, {octets / 1000:.0f} kB; {rate / own:.3f}")


def _serve(args: argparse.Namespace, folder: Path) -> None:
    site = folder / "built" / "site"
    if not (site / "index.html").is_file():
        found = town(folder, args.quartiers, args.days)
        building.builds(found, folder / "built")
    told = serving.served(site, "quartiers/quartier-000/semaine/")
    if isinstance(told, str):
        print(f"serving: skipped, {told}")
        return
    best = max(told.values())
    for name, rate in told.items():
        print(f"a week's page, {name}: {rate:.0f} requests a second; {rate / best:.3f} of the faster one")


if __name__ == "__main__":
    main()
