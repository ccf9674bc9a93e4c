"""Debian's brokers on the loopback, as processes that a test starts, kills and starts again (fixture `brokers`)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from murmure_ingest.embedded_broker import answers, free_port

PATIENCE_S = 60.0
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


class Broker:
    """A broker's program on a port of 127.0.0.1, not started yet. `mqtt`: 5, or 4 for MQTT 3.1.1; `tls`: it speaks to
    nobody without a certificate, so that an open port has to do for an answer. As a context manager it runs meanwhile.
    """

    def __init__(self, words: Sequence[str], port: int, log: Path, mqtt: int = 5, tls: bool = False) -> None:
        self.port, self.mqtt, self.log = port, mqtt, log
        self._words, self._tls = list(words), tls
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        """Starts it on what it has kept, and returns once it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=log)
        patience = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < patience, self.log.read_text()
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        try:
            if self._tls:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            else:
                answers(self.port, self.mqtt)
        except OSError:
            return False
        return True

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def reload(self) -> None:
        """Lets it read its configuration again."""
        os.kill(self.pid, signal.SIGHUP)

    def kill(self) -> None:
        """Ends it as a power cut does; safe to call twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ends it in order; safe to call twice, and after it has ended by itself."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def program(name: str) -> str:
    """Returns where a program of Debian's is; its test has the marker that says it is there."""
    found = shutil.which(name, path=SEARCH_PATH)
    assert found is not None, name
    return found


def mosquitto(
    folder: Path, port: int | None = None, mqtt: int = 5, lines: str = "allow_anonymous true\npersistence false\n"
) -> Broker:
    """Returns a mosquitto on a plain line, whose configuration is the port and `lines`. By default it forgets
    everything when it ends."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\n{lines}")
    return Broker([program("mosquitto"), "-c", str(config)], port, folder / "mosquitto.log", mqtt)


def mosquitto_on(config: Path, port: int, log: Path) -> Broker:
    """Returns a mosquitto on a configuration that is there, with TLS."""
    return Broker([program("mosquitto"), "-c", str(config)], port, log, tls=True)


NATS = """\
server_name: murmure
listen: "127.0.0.1:{clients}"
jetstream {{ store_dir: "{folder}/kept" }}
mqtt {{ listen: "127.0.0.1:{port}", ack_wait: "60s", max_ack_pending: 2000 }}
"""


def nats(folder: Path, port: int | None = None) -> Broker:
    """Returns a NATS with JetStream and its gateway for MQTT 3.1.1, which keeps on disk what it has acknowledged."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nats.conf"
    config.write_text(NATS.format(clients=free_port(), port=port, folder=folder))
    return Broker([program("nats-server"), "-c", str(config)], port, folder / "nats.log", mqtt=4)
