"""Each consumer in turn on a queue of its own that was filled before: how long until all is done.

A centre is done when its receipts have said of every gateway that its last message is settled: verified, audited,
committed with FULL, acknowledged and receipted. Its start is not counted, as that of `mosquitto_sub` is not: the
clock runs from its connection.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from murmure_privacy import wire

from .broker import RECEIPTS, RELEASES
from .fleet import CENTRE_SECRET, Load
from .mqtt import EXPIRY_S, Client

PATIENCE_S = 300.0
_POLL_S = 0.01
_FILED = "SELECT coalesce(max(id), 0) FROM messages"


@dataclass(frozen=True, slots=True)
class Drained:
    """One consumer's round."""

    seconds: float
    messages: int
    nodes: int
    cpu_s: float
    receipts: int = 0

    @property
    def messages_per_s(self) -> float:
        """Returns messages a second."""
        return self.messages / self.seconds

    @property
    def nodes_per_s(self) -> float:
        """Returns nodes a second."""
        return self.nodes / self.seconds


def limit(port: int, session: str, load: Load, options: Sequence[str] = ()) -> Drained:
    """Drains the queue of a session with `mosquitto_sub > /dev/null`."""
    command = [
        "mosquitto_sub",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-i",
        session,
        "-c",
        "-q",
        "1",
        "-t",
        RELEASES,
        "-V",
        "5",
    ]
    command += ["-x", str(EXPIRY_S), "-C", str(len(load.arrivals)), *options]
    began_cpu_s, began_s = os.times().children_user + os.times().children_system, time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=PATIENCE_S)
    seconds = time.monotonic() - began_s
    cpu_s = os.times().children_user + os.times().children_system - began_cpu_s
    return Drained(seconds, len(load.arrivals), load.nodes, cpu_s)


def settings(folder: Path, laid_out: Path, port: int, session: str, extra: str = "") -> Path:
    """Returns the settings of a centre on `folder/centre`, a copy of the one that was laid out."""
    if not (folder / "centre").exists():
        shutil.copytree(laid_out, folder / "centre")
    path = folder / f"{session}.toml"
    path.write_text(f'data_dir = "centre"\n[broker]\nport = {port}\nclient_id = "{session}"\n{extra}')
    return path


@contextmanager
def centre(config: Path, *options: str, core: int | None = None) -> Iterator[tuple[subprocess.Popen[str], float]]:
    """Runs a centre, on one core alone if it is named; yields its process and the instant at which it was connected."""
    command = [sys.executable, "-m", "benchmarks.ingest.centre", str(config), *options]
    if core is not None:
        command = ["taskset", "--cpu-list", str(core), *command]  # which becomes the centre, under the same number
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        while "connected" not in (line := process.stderr.readline()):
            if not line:
                raise RuntimeError("the centre has ended before it was connected")
        yield process, time.monotonic()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


class Receipts:
    """Watches what centres say to each gateway."""

    def __init__(self, port: int) -> None:
        self._client = Client(port, "watcher")
        self._client.subscribe([RECEIPTS])
        self._unread: dict[str, tuple[float, bytes]] = {}
        self._public = wire.public_key(CENTRE_SECRET)
        self.count = 0

    def wait(self, last_seq: dict[str, int], archives: Sequence[Path]) -> float:
        """Returns the instant at which the last gateway was told that all is settled."""
        until_s, messages = time.monotonic() + PATIENCE_S, sum(last_seq.values())
        waiting, done_s = dict(last_seq), 0.0
        readers = [sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) for path in archives]
        while waiting and time.monotonic() < until_s:
            time.sleep(_POLL_S)
            self._listen()
            if sum(reader.execute(_FILED).fetchone()[0] for reader in readers) < messages:
                continue  # whatever has been said until then is not the last word on everything
            for gateway, (at_s, payload) in self._unread.items():
                if wire.open_receipt(payload, self._public).settled_seq == waiting.get(gateway):
                    del waiting[gateway]
                    done_s = max(done_s, at_s)
            self._unread.clear()
        for reader in readers:
            reader.close()
        if waiting:
            raise TimeoutError(f"{len(waiting)} gateways have not heard that all is settled")
        return done_s

    def close(self) -> None:
        """Ends the watch."""
        self._client.close()

    def _listen(self) -> None:
        for at_s, topic, payload in self._client.heard():
            self._unread[topic.decode().split("/")[3]] = (at_s, payload)
            self.count += 1


def full(
    port: int,
    load: Load,
    laid_out: Path,
    folder: Path,
    options: Sequence[str] = (),
    session: str = "murmure-ingest",
    extra: str = "",
    watched: int = 0,
) -> Drained:
    """Drains the queue of a session with one centre."""
    folder.mkdir()
    receipts = Receipts(watched or port)
    config = settings(folder, laid_out, port, session, extra)
    with centre(config, *options) as (process, began_s):
        started_cpu_s = _cpu_s(process.pid)
        done_s = receipts.wait(load.last_seq, [folder / "centre" / "archive.db"])
        cpu_s = _cpu_s(process.pid) - started_cpu_s
    receipts.close()
    return Drained(done_s - began_s, len(load.arrivals), load.nodes, cpu_s, receipts.count)


def several(
    port: int,
    load: Load,
    laid_out: Path,
    folder: Path,
    shares: dict[str, Sequence[str]],
    *,
    one_archive: bool,
    core_each: bool = False,
) -> Drained:
    """Drains the queues of several sessions, each with a centre that hears its share of the quartiers; on a core of its
    own, all that it does there, or wherever there is room."""
    folder.mkdir()
    receipts = Receipts(port)
    homes = {session: folder if one_archive else folder / session for session in shares}
    with ExitStack() as stack:
        began_s, pids = 0.0, []
        cores = cycle(sorted(os.sched_getaffinity(0)))
        for session, quartiers in shares.items():
            core = next(cores) if core_each else None
            homes[session].mkdir(exist_ok=True)
            config = settings(homes[session], laid_out, port, session, f"quartiers = {json.dumps(list(quartiers))}\n")
            process, connected_s = stack.enter_context(centre(config, core=core))
            began_s = began_s or connected_s
            pids.append(process.pid)
        archives = sorted({home / "centre" / "archive.db" for home in homes.values()})
        done_s = receipts.wait(load.last_seq, archives)
        cpu_s = sum(map(_cpu_s, pids))
    receipts.close()
    return Drained(done_s - began_s, len(load.arrivals), load.nodes, cpu_s, receipts.count)


def _cpu_s(pid: int) -> float:
    """Returns the CPU seconds of a process and of those that it has started and that are there."""
    folder = Path(f"/proc/{pid}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    children = [int(child) for file in folder.glob("task/*/children") for child in file.read_text().split()]
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(map(_cpu_s, children))
