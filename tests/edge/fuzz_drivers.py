"""What no bytes may do to a driver, and a program that tries millions of them: `--runs 1000000`.

`check` is also what the quick tests call. The program hunts with atheris, which follows the branches that an input
takes; it runs each driver in a process of its own, prints how fast that was, and exits 1 after showing an input that
fails.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import TypeGuard

from murmure_edge.sensors import DRIVERS, make_driver
from murmure_edge.sensors.base import CACHE_FRAMES, Counters, Driver, PolledDriver

NOW_MS = 1_700_000_000_500
CAPTURES = {path.stem: json.loads(path.read_text("utf-8")) for path in Path(__file__).parent.glob("captures/*.json")}
LONGEST_BYTES = {name: int(capture["frame_bytes"][1]) for name, capture in CAPTURES.items()}
FRAMES = {name: bytes.fromhex(capture["frame"]) for name, capture in CAPTURES.items()}
FRAMED = {name for name, capture in CAPTURES.items() if "check_byte" in capture}

POLLED = {name for name in DRIVERS if isinstance(make_driver(name, {}), PolledDriver)}


def is_polled(driver: Driver | PolledDriver) -> TypeGuard[PolledDriver]:
    """Asks by name: by protocol it would take a third of all the time."""
    return driver.NAME in POLLED


def pieces(name: str, genes: bytes) -> Iterator[bytes]:
    """Yields what comes over the line: random bytes, or good frames that were cut, flipped, doubled and filled up."""
    frame, at = FRAMES[name], 1
    if not genes or genes[0] % 2:
        yield genes[1:]
        return
    while at < len(genes):
        what, where = genes[at] % 6, genes[at + 1] if at + 1 < len(genes) else 0
        at += 2
        if what == 0:
            yield frame
        elif what == 1:
            yield frame[: where % len(frame)]
        elif what == 2:
            yield frame[where % len(frame) :]
        elif what == 3:
            spoiled = bytearray(frame)
            spoiled[where % len(frame)] ^= 1 << where % 8
            yield bytes(spoiled)
        elif what == 4:
            yield frame[: where % len(frame)] + bytes((where,)) + frame[where % len(frame) :]
        else:
            yield genes[at : at + where % 16]
            at += where % 16


def check(name: str, genes: bytes) -> None:
    """Raises if a driver raises, keeps more than its longest frame, loses count of a byte, prints what is no JSON, or
    does not find its frames again within one frame's length."""
    driver, fed_bytes = make_driver(name, {}), 0
    commands = iter(driver.opening()) if genes[:1] > b"\x80" else iter(())
    for piece in pieces(name, genes):
        if next(commands, None) is None and is_polled(driver):
            driver.request()
        for _, reading in driver.feed(piece, NOW_MS):
            assert isinstance(reading.value, int) and reading.time_ms <= NOW_MS
        fed_bytes += len(piece)
    keeps_little(driver)  # what it keeps on the way, it keeps at the end of a shorter input
    assert 0 <= driver.counters.discarded_bytes <= fed_bytes
    if is_polled(driver):
        wanted = driver.request()
    found = driver.counters.frames
    if name in FRAMED:
        frame, longest = FRAMES[name], LONGEST_BYTES[name]
        may_be_lost = -(-longest // len(frame))
        for _ in range(may_be_lost + 1):
            driver.feed(frame, NOW_MS)
        assert driver.counters.frames > found, "not found again within one frame's length"
    else:  # its answer is known by the length that was asked for
        driver.feed(FRAMES[name][: int.from_bytes(wanted[8:12], "little")], NOW_MS)
        assert driver.counters.frames == found + 1, "an answer of the length that was asked for was not taken"
    described(name, genes)


def keeps_little(driver: Driver) -> None:
    """Raises if a driver, or a part of it, keeps more bytes than its longest frame, or a cache without a limit."""
    for held in _parts(driver):
        if isinstance(held, bytes):
            assert len(held) <= max(LONGEST_BYTES[driver.NAME], 32), "it keeps what is no frame"
        elif isinstance(held, dict | list | tuple | set | deque):
            assert len(held) <= CACHE_FRAMES, "it keeps more and more"


def names_of(owner: object) -> list[str]:
    """Returns the names of an object's own fields, slots included."""
    slots = [name for kind in type(owner).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(owner, name)]
    return [*getattr(owner, "__dict__", {}), *slots]


def _parts(owner: object) -> Iterator[object]:
    """Yields what an object keeps, and what the objects of ours among it keep."""
    for name in names_of(owner):
        held = getattr(owner, name)
        yield held
        if type(held).__module__.startswith("murmure_edge"):
            yield from _parts(held)


def described(name: str, genes: bytes) -> None:
    """Raises if a good frame cannot be printed as JSON."""
    scanner = DRIVERS[name].scanner(Counters())
    for frame in scanner.feed(b"".join(pieces(name, genes))) + scanner.finish():
        json.dumps(DRIVERS[name].describe(frame), allow_nan=False)


def _hunt(name: str, runs: int, folder: str) -> None:
    """Never returns: libFuzzer ends the process, with a status other than 0 after a finding."""
    atheris = importlib.import_module("atheris")
    helpers = [f"murmure_edge.sensors.{part}" for part in ("base", "footfall", "tracking")]
    for module in (*helpers, DRIVERS[name].__module__):
        parts = [each for each in vars(sys.modules[module]).values() if getattr(each, "__module__", "") == module]
        for part in parts + [each for made in parts if isinstance(made, type) for each in vars(made).values()]:
            function = getattr(part, "__func__", part)
            if isinstance(function, FunctionType):
                atheris.instrument_func(function)
    old = make_driver(name, {})  # one that lives through the whole campaign

    def one(genes: bytes) -> None:
        check(name, genes)
        if is_polled(old):
            old.request()
        old.feed(b"".join(pieces(name, genes)), NOW_MS)
        keeps_little(old)

    atheris.Setup([sys.argv[0], f"-runs={runs}", f"-artifact_prefix={folder}/", "-max_len=64", "-verbosity=0"], one)
    atheris.Fuzz()


def main() -> int:
    """Returns 1 if a driver failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs a driver")
    parser.add_argument("--device", choices=sorted(DRIVERS), help="this driver only")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the folder for findings: this is a child
    args = parser.parse_args()
    if args.one:
        _hunt(args.device, args.runs, args.one)
    failed = 0
    for name in [args.device] if args.device else sorted(DRIVERS):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--device", name, "--runs", str(args.runs), "--one", folder]
            began_s = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            took_s = time.monotonic() - began_s
            findings = [path.read_bytes().hex() for path in Path(folder).iterdir()]
        print(
            f"{name:<18} {args.runs:>9} inputs {args.runs / took_s:>8.0f} a second, {len(findings)} findings",
            flush=True,
        )
        if done.returncode or findings:
            failed += 1
            print("\n".join(f"  genes {each}" for each in findings), done.stdout, done.stderr, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
