"""`murmure edge …`: the commands of a gateway. Handlers import what they need when they run."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from murmure_edge.gateway_cli import add_commands


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the group `edge`."""
    group = groups.add_parser(
        "edge",
        help="the gateway: sensors in, sealed releases out",
        description="The gateway: sensors in, sealed releases out.",
        epilog="example: murmure edge decode --device sds011 capture.bin",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    _add_decode(commands)
    add_commands(commands)


def _add_decode(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "decode",
        help="a sensor's bytes to JSON lines",
        description="Prints one JSON object for each frame that the sensor sent, and at last a summary: frames,\n"
        "rejected (frames that began and did not hold) and discarded_bytes (all bytes in no good frame).",
        epilog='example: echo "aa c0 d4 04 3a 0a a1 60 1d ab" | murmure edge decode --device sds011 --hex',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--device", required=True, metavar="NAME", help="such as sds011; any other word is answered with the list"
    )
    parser.add_argument("--hex", action="store_true", help="the input is hexadecimal text, blanks allowed")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the bytes (default: standard input)")
    parser.set_defaults(handler=_decode)


def _decode(args: argparse.Namespace) -> int:
    from murmure_privacy.errors import ConfigError

    from murmure_edge.decode import decoded_lines, from_hex, until_stopped
    from murmure_edge.sensors import require_known
    from murmure_edge.sensors.base import SettingError

    if args.device == "nsrt_mk3":
        raise ConfigError(
            "edge decode", "--device", "nsrt_mk3 has no framing, its bytes cannot be told apart", "name another"
        )
    try:
        require_known(args.device)
    except SettingError as error:
        raise ConfigError("edge decode", "--device", error.problem, error.mend) from error
    file = "stdin" if args.file is None else str(args.file)
    if args.file is None and sys.stdin is None:
        raise ConfigError(file, "FILE", "standard input is closed", "name a file, or pipe bytes in")
    try:
        with ExitStack() as stack:
            fd = sys.stdin.fileno() if args.file is None else stack.enter_context(args.file.open("rb")).fileno()
            chunks = until_stopped(fd)
            for line in decoded_lines(args.device, from_hex(chunks, file) if args.hex else chunks):
                print(line, flush=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        problem = error.strerror or "cannot be read"
        raise ConfigError(file, "FILE", problem, "name a file with a sensor's bytes, or leave it out") from error
    return 0
