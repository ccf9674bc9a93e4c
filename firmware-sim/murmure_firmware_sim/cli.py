"""`murmure sim`: one emulated device behind a pseudo-terminal."""

from __future__ import annotations

import argparse


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the group `sim`."""
    sim = groups.add_parser("sim", help="emulated sensors", description="Emulated sensors on pseudo-terminals.")
    commands = sim.add_subparsers(metavar="COMMAND", required=True)
    device = commands.add_parser(
        "device",
        help="one emulated device behind a link",
        description="Plays one device on a pseudo-terminal linked at PATH, on the wall clock, until stopped.",
        epilog="example: murmure sim device sds011 --link /tmp/dust --set pm2_5=12.3 --set pm10=26.1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    device.set_defaults(handler=_device)


def _device(args: argparse.Namespace) -> int:
    raise NotImplementedError
