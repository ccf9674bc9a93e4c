"""Rare values planted in the sensors are found nowhere outside the memory of `sense`; a leaky twin is caught."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from murmure_ingest.embedded_broker import EmbeddedBroker, free_port
from murmure_privacy.aggregate import energy

from murmure import city

QUIET: Callable[[str], None] = lambda _: None  # noqa: E731
PM2_5, PM10, LEVEL = 619, 7613, 573  # tenths; the second lies beyond its bounds, so that no figure can come near it
SLOTS = 3600
SUMS = [PM2_5 * SLOTS, LEVEL * SLOTS, energy(LEVEL) * SLOTS]
CANARIES: dict[str, re.Pattern[bytes]] = {
    "a frame": re.compile(re.escape(PM2_5.to_bytes(2, "little") + PM10.to_bytes(2, "little"))),
    "a reading as text": re.compile(rb"(?<![\w.])(?:761\.3|7613)0*(?![\w])"),
    "an exact sum as text": re.compile(rb"(?<![\w.])(?:" + b"|".join(b"%d" % value for value in SUMS) + rb")(?![\w])"),
    "an exact sum as bytes": re.compile(b"|".join(re.escape(value.to_bytes(8, "big")) for value in SUMS)),
    "an exact mean as text": re.compile(rb"(?<![\w.])61\.90*(?![\w])"),
}
# A program's memory has a hundred thousand texts, each behind five zeros and random digits: the three bytes of a
# sum stand there by chance in one run of fifty. `send` has sums as messages have them, in byte strings with a head.
IN_MEMORY = CANARIES | {
    "an exact sum as bytes": re.compile(b"\x48(?:" + CANARIES["an exact sum as bytes"].pattern + b")")
}


def found(data: bytes, canaries: dict[str, re.Pattern[bytes]] = CANARIES) -> set[str]:
    return {name for name, pattern in canaries.items() if pattern.search(data)}


class Tap:
    """A broker behind a relay that keeps every byte that crosses it, both ways."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard = bytearray()
        self.broker = EmbeddedBroker(free_port())

    def __enter__(self) -> Tap:
        self.broker.start()
        self.server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.close()
        self.broker.stop()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.broker.port))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.heard += data
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()


def memory(pid: int) -> Iterator[bytes]:
    """Yields the writable memory of a process."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb") as mem:
        for line in maps:
            span, rights = line.split()[:2]
            start, end = (int(part, 16) for part in span.split("-"))
            if rights.startswith("rw"):
                try:
                    mem.seek(start)
                    yield mem.read(end - start)
                except (OSError, ValueError):
                    continue


def plant(scenario: dict[str, Any]) -> None:
    for gateway in scenario["gateways"]:
        for port in gateway["ports"]:
            port["set"] = {
                "dust": {"pm2_5": PM2_5 / 10, "pm10": PM10 / 10},
                "meter": {"level_db": LEVEL / 10},
                "beam": {"crossings_per_min": 30},
            }[port["name"]]


def sinks(
    lay_out: Callable[..., city.City], to_the_end: Callable[..., None], name: str, sense: list[str]
) -> dict[str, set[str]]:
    """Plays two hours with canaries and returns what was found where: files, log, page, packet, memory of send."""
    made = lay_out(2, name, plant)
    tap = Tap(made.broker_port)
    where: dict[str, set[str]] = {"packet": set(), "memory of send": set(), "log": set(), "page": set(), "file": set()}
    with city.Running(made, QUIET, tap, sense) as running:
        to_the_end(running)
        for place in city.SITES:
            for part in memory(made.processes[f"send-{place.id}"].pid):
                where["memory of send"] |= found(part, IN_MEMORY)
        # Scanned while all run: the write-ahead log and every temporary file are still there.
        city.build_site(made, made.span.last_s)
        for path in made.root.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.name != "scenario.json":
                kind = {"logs": "log", "site": "page"}.get(path.relative_to(made.root).parts[0].split(".")[0], "file")
                where[kind] |= found(path.read_bytes())
    assert len(tap.heard) > 10_000
    where["packet"] = found(bytes(tap.heard))
    return where


def test_planted_values_are_found_nowhere(lay_out: Callable[..., city.City], to_the_end: Callable[..., None]) -> None:
    """No file, log line, packet, page or memory of `send` holds a planted reading or an exact sum of them."""
    where = sinks(lay_out, to_the_end, "real", ["-m", "murmure.simulated_sense"])
    assert where == {name: set() for name in where}


def test_a_leaky_twin_is_caught_in_each_place(
    lay_out: Callable[..., city.City], to_the_end: Callable[..., None], composition: Callable[[str], list[str]]
) -> None:
    """Without noise, and with readings in its log, the same search finds something in every place."""
    where = sinks(lay_out, to_the_end, "twin", composition("leaky_sense"))
    assert where["log"] >= {"a reading as text"}
    assert where["packet"] >= {"an exact sum as bytes"}
    assert where["memory of send"] >= {"an exact sum as bytes"}
    assert where["page"] >= {"an exact mean as text"}
    assert where["file"] >= {"an exact sum as bytes"}
