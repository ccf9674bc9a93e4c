"""`python -m benchmarks.ingest`: drains the same queue with each consumer, at least five times, and prints ratios."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from murmure_ingest.embedded_broker import free_port
from murmure_privacy.window import QUARTER_S

from . import day, drains, fleet, queries, stages
from .broker import certify, mosquitto, preload, reserve
from .drains import Drained

ROUNDS = 5
GATEWAYS = 2_000
MESSAGES = 100_000
# From a quarter past eight on, twelve hours and a half have 1.76 nodes a message; a whole day has 1.82.
MORNING_S = fleet.MIDNIGHT_S + 33 * QUARTER_S

Consumer = Callable[[int, fleet.Load, Path, Path], Drained]


def say(text: str) -> None:
    """Tells on stderr what is going on."""
    print(f"[{time.monotonic() - _BEGAN_S:5.0f} s] {text}", file=sys.stderr, flush=True)


_BEGAN_S = time.monotonic()


def one_round(load: fleet.Load, laid_out: Path, folder: Path, consumers: dict[str, Consumer]) -> dict[str, Drained]:
    """Returns what each consumer did with the queue of its own session at one broker."""
    found: dict[str, Drained] = {}
    for name, consumer in consumers.items():
        with mosquitto(folder) as port:
            reserve(port, name.replace(" ", "-"))
            preload(port, load.arrivals)
            found[name] = consumer(port, load, laid_out, folder / name.replace(" ", "-"))
            say(f"{name}: {found[name].messages_per_s:.0f} messages a second")
    return found


def _limit(name: str) -> Consumer:
    return lambda port, load, laid_out, folder: drains.limit(port, name.replace(" ", "-"), load)


def _full(name: str, *options: str) -> Consumer:
    session = name.replace(" ", "-")
    return lambda port, load, laid_out, folder: drains.full(port, load, laid_out, folder, options, session)


def measure(load: fleet.Load, laid_out: Path, rounds: int, names: dict[str, tuple[str, ...]]) -> None:
    """Runs the rounds and prints medians and ratios."""
    consumers: dict[str, Consumer] = {"limit": _limit("limit")}
    consumers |= {name: _full(name, *options) for name, options in names.items()}
    consumers["limit again"] = _limit("limit again")
    runs: list[dict[str, Drained]] = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        with tempfile.TemporaryDirectory() as folder:
            runs.append(one_round(load, laid_out, Path(folder), consumers))
    limits = [(run["limit"].messages_per_s + run["limit again"].messages_per_s) / 2 for run in runs]
    print(
        f"  mosquitto_sub   {statistics.median(limits):8.0f} messages a second ({min(limits):.0f} to {max(limits):.0f})"
    )
    for name in names:
        each = [run[name] for run in runs]
        by_message = [run.messages_per_s / most for run, most in zip(each, limits, strict=True)]
        by_node = [run.nodes_per_s / most for run, most in zip(each, limits, strict=True)]
        print(
            f"  {name:15} {statistics.median(run.messages_per_s for run in each):8.0f} messages, "
            f"{statistics.median(run.nodes_per_s for run in each):8.0f} nodes a second; "
            f"{statistics.median(by_node):.3f} a node ({min(by_node):.3f} to {max(by_node):.3f}), "
            f"{statistics.median(by_message):.3f} a message; "
            f"{1e6 * statistics.median(run.cpu_s / run.messages for run in each):.0f} us of CPU a message, "
            f"{statistics.median(run.receipts / run.messages for run in each):.2f} receipts a message"
        )


def workers(gateways: list[fleet.Gateway], load: fleet.Load, laid_out: Path, rounds: int) -> None:
    """Prints what two centres that share the quartiers do, beside one that hears all of them: first wherever there is
    room, where one already spreads over all cores, then with one core for each."""
    names = [f"quartier-{number}" for number in range(fleet.QUARTIERS)]
    halves: dict[str, Sequence[str]] = {"worker-1": names[::2], "worker-2": names[1::2]}
    one: dict[str, Sequence[str]] = {"worker": names}
    cases = {
        "one": (one, True, False),
        "two on one archive": (halves, True, False),
        "two, an archive each": (halves, False, False),
        "one, on one core": (one, True, True),
        "two on one archive, a core each": (halves, True, True),
        "two, an archive and a core each": (halves, False, True),
    }
    found: dict[str, list[Drained]] = {name: [] for name in cases}
    for number in range(rounds):
        for name, (shares, one_archive, core_each) in cases.items():
            with tempfile.TemporaryDirectory() as folder, mosquitto(Path(folder)) as port:
                for session, quartiers in shares.items():
                    kinds = ("release", "health")
                    reserve(port, session, [f"murmure/v1/{one}/+/{kind}" for one in quartiers for kind in kinds])
                preload(port, load.arrivals)
                run = Path(folder) / "run"
                found[name].append(
                    drains.several(port, load, laid_out, run, shares, one_archive=one_archive, core_each=core_each)
                )
            say(f"round {number + 1}, {name}: {found[name][-1].messages_per_s:.0f} messages a second")
    for name, runs in found.items():
        alone = found["one, on one core" if cases[name][2] else "one"]
        ratio = statistics.median(a.messages_per_s / b.messages_per_s for a, b in zip(runs, alone, strict=True))
        rate = statistics.median(run.messages_per_s for run in runs)
        cpu_us = 1e6 * statistics.median(run.cpu_s / run.messages for run in runs)
        print(f"  {name:31} {rate:8.0f} messages a second, {ratio:.2f} of one; {cpu_us:.0f} us of CPU a message")


def _plain_and_tls(load: fleet.Load, laid_out: Path, folder: Path) -> dict[str, Callable[[int, int], Drained]]:
    """Returns what drains a queue, given the broker's plain port and its TLS port."""
    files = "".join(f'{key} = "{folder}/{file}"\n' for key, file in _FILES.items())
    trusted = ("--cafile", str(folder / "broker.crt"))
    centre = partial(drains.full, load=load, laid_out=laid_out, session="drain")
    return {
        "mosquitto_sub": lambda plain, _: drains.limit(plain, "drain", load),
        "mosquitto_sub, TLS": lambda _, port: drains.limit(port, "drain", load, trusted),
        "full": lambda plain, _: centre(plain, folder=folder / "plain"),
        "full, TLS": lambda plain, port: centre(port, folder=folder / "tls", extra=files, watched=plain),
    }


def tls(load: fleet.Load, laid_out: Path, rounds: int) -> None:
    """Prints what an encrypted line costs `mosquitto_sub` and the centre."""
    found: dict[str, list[Drained]] = {}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            certify(folder)
            for what, run in _plain_and_tls(load, laid_out, folder).items():
                tls_port = free_port()
                with mosquitto(folder, tls_port) as port:
                    reserve(port, "drain")
                    preload(port, load.arrivals)
                    found.setdefault(what, []).append(run(port, tls_port))
                say(f"round {number + 1}, {what}: {found[what][-1].messages_per_s:.0f} messages a second")
    for what, drained in found.items():
        plain = found[what.removesuffix(", TLS")]
        ratio = statistics.median(a.messages_per_s / b.messages_per_s for a, b in zip(drained, plain, strict=True))
        rate = statistics.median(run.messages_per_s for run in drained)
        print(f"  {what:20} {rate:8.0f} messages a second, {ratio:.2f} of the plain line")


_FILES = {"authority": "broker.crt", "certificate": "broker.crt", "key": "broker.key"}
_PARTS = ("drain", "stages", "workers", "tls", "queries", "day")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--gateways", type=int, default=GATEWAYS)
    parser.add_argument("--rows", type=int, default=queries.ROWS, help="of the archive that is asked")
    parser.add_argument("--only", choices=_PARTS, action="append", help="may be given several times; all without it")
    args = parser.parse_args()
    only = args.only or _PARTS
    say(f"sealing {args.messages} messages of {args.gateways} gateways")
    gateways = fleet.fleet(args.gateways)
    with tempfile.TemporaryDirectory() as name:
        laid_out = Path(name) / "centre"
        fleet.lay_out(laid_out, gateways)
        mixed = fleet.Sealer(gateways).load(args.messages, MORNING_S)
        if "stages" in only:
            print("where a message's time goes, the real mix, one thread")
            print(stages.table(stages.stages(gateways, mixed)))
        if "workers" in only:
            print("two workers that share quartiers")
            workers(gateways, mixed, laid_out, args.rounds)
        if "tls" in only:
            print("an encrypted line")
            tls(mixed, laid_out, args.rounds)
        if "day" in only:
            say(f"a day of {args.gateways} gateways")
            print(f"a day of {args.gateways} gateways: {day.play(gateways, Path(name) / 'day-of')}")
        if "queries" in only:
            say(f"{args.rows:,} nodes")
            print(queries.ask(gateways, args.rows))
        if "drain" not in only:
            return
        single = fleet.Sealer(gateways, one_node=True).load(args.messages, MORNING_S)
        cases: list[tuple[str, fleet.Load, dict[str, tuple[str, ...]]]] = [
            ("the real mix", mixed, {"full": (), "unsigned": ("--unsigned",)}),
            ("one node a message", single, {"full": ()}),
        ]
        for what, load, names in cases:
            print(
                f"{what}: {len(load.arrivals)} messages of {load.mean_bytes:.0f} bytes, "
                f"{load.nodes / len(load.arrivals):.2f} nodes each, {args.gateways} gateways, {args.rounds} rounds"
            )
            measure(load, laid_out, args.rounds, names)


if __name__ == "__main__":
    main()
