"""Debian's mosquitto on a free port of the loopback, without limits on queues, and the queues of its sessions."""

from __future__ import annotations

import getpass
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
user {user}
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
log_type error
listener {port} 127.0.0.1
"""


_TLS = """\
listener {port} 127.0.0.1
cafile {folder}/broker.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
"""


def certify(folder: Path) -> None:
    """Makes `broker.crt` and `broker.key` of a broker on the loopback, its own authority."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(folder / "broker.key"), "-out", str(folder / "broker.crt"), "-days", "2"]
    command += ["-subj", "/CN=murmure-ingest", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "broker.key").chmod(0o600)


@contextmanager
def mosquitto(folder: Path, tls_port: int = 0) -> Iterator[int]:
    """Runs a broker and yields its port; with `tls_port` it listens there too, with what `certify` made."""
    program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        raise SystemExit("benchmarks.ingest: needs Debian's mosquitto and mosquitto-clients")
    port = free_port()
    config = folder / f"mosquitto-{port}.conf"
    more = _TLS.format(port=tls_port, folder=folder) if tls_port else ""
    config.write_text(_CONFIG.format(port=port, user=getpass.getuser()) + more)
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
