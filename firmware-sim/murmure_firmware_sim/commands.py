"""What the commands of `murmure sim` do. A composition root: the clocks are read and handed on here."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from .console import Console, Switch, parse_command
from .devices import DEVICES
from .devices.base import AIR
from .errors import SimError
from .faults import FaultyDevice, parse_fault
from .host import check_host
from .live import LiveDevice
from .pty_port import PtyPort
from .replay import Replay, Series, load, played_metrics
from .scenario import DeviceScenario, PortPlan, build_device, check_settings, read_device_scenario, steady_source
from .street import Street

_WHERE = "sim device"


def play_device(args: argparse.Namespace) -> int:
    """`murmure sim device`: plays until SIGTERM or Ctrl-C, then returns 0. Raises SimError for a wrong option."""
    if args.name not in DEVICES:
        raise SimError(_WHERE, "NAME", f"{args.name!r} is unknown", f"write one of {', '.join(DEVICES)}")
    speed = _number("--speed", args.speed)
    if not 0 < speed <= 1_000_000:  # not a number is neither
        raise SimError(_WHERE, "--speed", f"{args.speed} is not above 0", "write 1, or 60 for a minute a second")
    told = _scenario(args)
    link = Path(args.link)
    if not link.parent.is_dir():
        raise SimError(_WHERE, "--link", f"{link.parent} is no directory", "make it first, or name another")
    if link.exists() and not link.is_symlink():
        raise SimError(_WHERE, "--link", f"{link} exists and is no link", "name another path")
    source = told.source or steady_source(told.settings) or Street(told.seed)
    start_ms = source.start_ms if isinstance(source, Replay) else int(time.time() * 1000)
    plan = PortPlan(_WHERE, link, args.name, told.settings, told.faults, source, told.seed, told.passive)
    device = build_device(plan, start_ms)
    port = PtyPort(link, device.baud)
    live = LiveDevice(device, port, start_ms, speed, time.monotonic, time.sleep, partial(_switches, device, Console(0)))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: live.stop())
    # In the background of a terminal a read would stop the process; this way it fails, and nothing is heard.
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    print(link, flush=True)
    live.run()
    return 0


def _scenario(args: argparse.Namespace) -> DeviceScenario:
    """Returns what the scenario file and the other options say together."""
    told = DeviceScenario({}, (), None, 0, False)
    if args.scenario is not None:
        told = read_device_scenario(Path(args.scenario), args.name)
        if args.seed is not None:
            raise SimError(_WHERE, "--seed", "stands beside --scenario", "write seed = N into the file")
    elif args.seed is not None:
        told = replace(told, seed=int(_number("--seed", args.seed)))
    settings = {**told.settings, **_settings(args.name, args.set)}
    faults = tuple(parse_fault(text, _WHERE, "--fault") for text in args.fault)
    for fault in faults:
        check_host(_WHERE, fault, bench=False)
    source = told.source
    if args.replay is not None:
        source = _replay(args, told.seed)
    elif args.site is not None or args.metric:
        raise SimError(_WHERE, "--site/--metric", "stands without --replay", "add --replay FILE")
    if source is not None and (steady_source(settings) is not None or source is not told.source is not None):
        what = "--replay" if args.replay is not None else "--set"
        raise SimError(_WHERE, what, "stands beside other values", "leave one of them out")
    return replace(
        told, settings=settings, faults=told.faults + faults, source=source, passive=told.passive or args.passive
    )


def _switches(device: FaultyDevice, console: Console) -> Iterator[Switch]:
    """Yields what is told on standard input; each is repeated on standard output once it is done."""
    for line in console.lines():
        try:
            switch = parse_command(line, device)
        except SimError as error:
            print(f"murmure: {error}", file=sys.stderr, flush=True)
            continue
        yield switch
        print(line, flush=True)


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
