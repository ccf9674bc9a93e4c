"""The one command `murmure`: a group per folder, each mounted from the folder that owns it."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

GROUPS = (
    "murmure_firmware_sim.cli",
    "murmure_edge.cli",
    "murmure_privacy.cli",
    "murmure_privacy.verify_cli",
    "murmure_ingest.cli",
    "murmure_dashboards.cli",
    "murmure_dashboards.grafana_cli",
    "murmure.audit_cli",
    "murmure.demo_cli",
    "murmure.studio_cli",
    "murmure.dossier_cli",
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line, as every other operator's mistake."""

    def error(self, message: str) -> NoReturn:
        """Ends with status 2. Subcommands inherit this class, and with it their own name in the line."""
        name = self.prog.removeprefix("murmure").strip() or "command line"
        self.exit(2, f"murmure: {name}: {message}; see '{self.prog} --help'\n")


_MENDS = {
    errno.EACCES: "; see who may read and write it, and as whom you run this",
    errno.EROFS: "; the disk is read-only: mend it, and mount it for writing",
    errno.ENOSPC: "; make room there",
    errno.EFBIG: "; a limit on the size of files is set: lift it, or make room",
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the whole command tree; cheap, since no command's own imports have run yet."""
    parser = Parser(
        prog="murmure",
        description="Street sensors for towns, with differential privacy drawn on the lamp post.",
        epilog="example: murmure demo --once --days 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    groups = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in GROUPS:
        importlib.import_module(name).register(groups)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0 done, 1 failed, 2 usage or configuration wrong (one line on stderr)."""
    args = build_parser().parse_args(argv)
    try:
        status: int = args.handler(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        # A gateway has the whole house, and of the libraries only its own six.
        if error.name is None or error.name.startswith("murmure"):
            raise
        print(f"murmure: {error.name}: is not installed here; this command runs at the centre", file=sys.stderr)
        return 2
    except OSError as error:
        mend = _MENDS.get(error.errno or 0, "")
        print(f"murmure: {error.filename or 'system'}: {error.strerror or error}{mend}", file=sys.stderr)
        return 1
    except Exception as error:
        exit_status = getattr(error, "exit_status", None)
        if exit_status is None:
            raise
        print(f"murmure: {error}", file=sys.stderr)
        return int(exit_status)


if __name__ == "__main__":
    sys.exit(main())
