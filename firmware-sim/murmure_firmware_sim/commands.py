"""What the commands of `murmure sim` do. A composition root: the clocks are read and handed on here."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path

from .devices import DEVICES
from .devices.base import AIR, Source
from .errors import SimError
from .faults import parse_fault
from .live import LiveDevice
from .pty_port import PtyPort
from .replay import Replay, Series, load, played_metrics
from .scenario import PortPlan, build_device, check_settings, steady_source
from .street import Street

_WHERE = "sim device"


def play_device(args: argparse.Namespace) -> int:
    """`murmure sim device`: plays until SIGTERM or Ctrl-C, then returns 0. Raises SimError for a wrong option."""
    if args.name not in DEVICES:
        raise SimError(_WHERE, "NAME", f"{args.name!r} is unknown", f"write one of {', '.join(DEVICES)}")
    speed = _number("--speed", args.speed)
    seed = int(_number("--seed", args.seed))
    if not 0 < speed <= 1_000_000:  # not a number is neither
        raise SimError(_WHERE, "--speed", f"{args.speed} is not above 0", "write 1, or 60 for a minute a second")
    settings = _settings(args.name, args.set)
    faults = tuple(parse_fault(text, _WHERE, "--fault") for text in args.fault)
    steady = steady_source(settings)
    start_ms = int(time.time() * 1000)
    source: Source
    if args.replay is not None:
        if steady is not None:
            raise SimError(_WHERE, "--replay", "stands beside values of --set", "leave one of them out")
        source = replay = _replay(args, seed)
        start_ms = replay.start_ms
    elif args.site is not None or args.metric:
        raise SimError(_WHERE, "--site/--metric", "stands without --replay", "add --replay FILE")
    else:
        source = steady or Street(seed)
    link = Path(args.link)
    if not link.parent.is_dir():
        raise SimError(_WHERE, "--link", f"{link.parent} is no directory", "make it first, or name another")
    if link.exists() and not link.is_symlink():
        raise SimError(_WHERE, "--link", f"{link} exists and is no link", "name another path")
    plan = PortPlan(_WHERE, link, args.name, settings, faults, source, seed, args.passive)
    device = build_device(plan, start_ms)
    port = PtyPort(link, device.baud)
    live = LiveDevice(device, port, start_ms, speed, time.monotonic, time.sleep)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: live.stop())
    print(link, flush=True)
    live.run()
    return 0


def _settings(device: str, pairs: list[str]) -> dict[str, float]:
    settings = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        settings[key] = _number(f"--set {key}", value)
    check_settings(_WHERE, "--set ", device, settings)
    return settings


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SimError(_WHERE, key, f"{text!r} is no number", "write a number") from None


def _replay(args: argparse.Namespace, seed: int) -> Replay:
    if args.site is None or not args.metric:
        raise SimError(_WHERE, "--replay", "stands without --site and --metric", "add both")
    quantity = DEVICES[args.name].quantity
    fitting = played_metrics(quantity)
    for metric in args.metric:
        if metric not in fitting:
            raise SimError(
                _WHERE, "--metric", f"{args.name} cannot play {metric!r}", f"write one of {', '.join(fitting)}"
            )
    file = Path(args.replay)
    metrics = list(args.metric)
    if quantity == AIR and (args.site, "pm10") in load(file) and "pm10" not in metrics:
        metrics.append("pm10")  # the frame has room for both
    return Replay(Series(file, args.site, tuple(metrics)), seed)
