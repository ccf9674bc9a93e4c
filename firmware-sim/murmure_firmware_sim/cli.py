"""`murmure sim`: one emulated device behind a pseudo-terminal."""

from __future__ import annotations

import argparse

_EPILOG = """\
settings: sds011 pmsx003     pm2_5 pm10 (ug/m3) average_ms
          sps30              pm2_5 pm10 average_ms measuring
          modbus_noise       level_db baud slave time_constant_ms
          nsrt_mk3           level_db time_constant_ms
          uart_decibel_bbaa  level_db time_constant_ms
          ld2450             crossings_per_min baud bluetooth
          tfluna             distance_cm body_cm rate_hz offset_cm crossings_per_min

example: murmure sim device sds011 --link /tmp/dust --set pm2_5=12.3 pm10=26.1
         murmure sim device modbus_noise --link /tmp/noise --replay rec.csv --site plaza --metric laeq_1s
         murmure sim device tfluna --link /tmp/beam --fault bit_flip:0.001 unplug:60/10
         murmure sim device ld2450 --link /tmp/radar --scenario groups.toml
"""


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the group `sim`."""
    sim = groups.add_parser(
        "sim",
        help="emulated sensors",
        description="Emulated sensors on pseudo-terminals.",
        epilog="example: murmure sim device tfluna --link /tmp/beam",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = sim.add_subparsers(metavar="COMMAND", required=True)
    device = commands.add_parser(
        "device",
        help="one emulated device behind a link",
        description="Plays one device on a pseudo-terminal linked at PATH, on the wall clock, until stopped; prints\n"
        "PATH once it is there. Without --set, --replay or --scenario it plays plausible values. Standard input takes\n"
        "`fault NAME[:ARG] on`, `fault NAME off`, `set KEY=VALUE` and `set off`, one a line.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    device.add_argument("name", metavar="NAME", help="the device's name")
    device.add_argument("--link", metavar="PATH", required=True, help="where to put the link to the port")
    device.add_argument(
        "--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="constant values and settings"
    )
    device.add_argument("--replay", metavar="FILE", help="a recording to play, from its first row on")
    device.add_argument("--site", metavar="S", help="the site in the recording")
    device.add_argument(
        "--metric", metavar="M", nargs="+", action="extend", default=[], help="the metric (in out: both, added)"
    )
    device.add_argument("--speed", metavar="X", default="1", help="simulated seconds a second; bytes are paced at 1")
    device.add_argument(
        "--fault", metavar="NAME[:ARG]", nargs="+", action="extend", default=[], help="what goes wrong (see README)"
    )
    device.add_argument("--scenario", metavar="FILE", help="settings, source and what happens when, in TOML")
    device.add_argument("--passive", action="store_true", help="speaks only when asked (sds011, pmsx003, tfluna)")
    device.add_argument("--seed", metavar="N", help="another street, other faults")
    device.set_defaults(handler=_device)


def _device(args: argparse.Namespace) -> int:
    from .commands import play_device

    return play_device(args)
