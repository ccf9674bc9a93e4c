"""Debian's mosquitto on a free port of the loopback, without limits on queues, and the queues of its sessions."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from murmure_ingest.embedded_broker import answers, free_port

from .mqtt import Client

RELEASES = "murmure/v1/+/+/release"
HEALTH = "murmure/v1/+/+/health"
RECEIPTS = "murmure/v1/+/+/receipt"
_CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
log_type error
"""


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """Runs a broker and yields its port."""
    program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        raise SystemExit("benchmarks.ingest: needs Debian's mosquitto and mosquitto-clients")
    port = free_port()
    config = folder / f"mosquitto-{port}.conf"
    config.write_text(_CONFIG.format(port=port))
    process = subprocess.Popen([program, "-c", str(config)])
    try:
        for _ in range(200):
            try:
                answers(port)
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def reserve(port: int, session: str, topics: Sequence[str] = (RELEASES, HEALTH)) -> None:
    """Makes a session that the broker keeps, as a consumer that was there before leaves it."""
    client = Client(port, session, lasting=True)
    client.subscribe(topics)
    client.close()


def preload(port: int, arrivals: Sequence[tuple[str, bytes]]) -> None:
    """Fills the queue of every session that is subscribed."""
    client = Client(port, "preload")
    client.publish(arrivals)
    client.close()
