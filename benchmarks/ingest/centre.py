"""The whole centre as a process of its own, as `murmure ingest run` is; and the same without its signature check.

Only this file knows how to leave the check out, so that what honesty costs can be seen: the product has no such switch.
"""

from __future__ import annotations

import argparse
import cProfile
import faulthandler
import pstats
import signal
import sys
from pathlib import Path

from murmure_ingest import cli, opener, openers, signatures


def _believe(public: bytes, signature: bytes, signed: bytes) -> None:
    """Stands where the signature check stands."""


def main() -> int:
    """Runs `ingest run` on the settings that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", nargs="?")
    parser.add_argument("--unsigned", action="store_true")
    parser.add_argument("--opener", action="store_true", help="open for a centre that leaves the check out")
    parser.add_argument("--profile", type=Path)
    asked = parser.parse_args()
    faulthandler.register(signal.SIGUSR1)
    if asked.unsigned:
        signatures.check = _believe
        openers._PROGRAM = ("-m", "benchmarks.ingest.centre", "--unsigned", "--opener")
    if asked.opener:
        opener.main()
        return 0
    command = argparse.ArgumentParser()
    cli.register(command.add_subparsers())
    args = command.parse_args(["ingest", "run", "--config", asked.config])
    if asked.profile is None:
        return int(args.handler(args))
    profile = cProfile.Profile()
    status = int(profile.runcall(args.handler, args))
    pstats.Stats(profile).dump_stats(asked.profile)
    return status


if __name__ == "__main__":
    sys.exit(main())
