"""A broker from a Python wheel, for the demonstration and for tests.

It keeps everything in memory: what it acknowledged is gone when it stops. Nothing of Murmure relies on a broker's
memory, so that this costs a re-send and no more. It has no access rules per topic: loopback only. A town runs
mosquitto.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from types import TracebackType

from iotcore import Broker
from murmure_privacy.errors import MurmureError

_PAYLOAD_LIMIT = 24_576  # a sealed policy, 20 KiB, and its headers
_ANSWER_S = 5.0
_START_S = 20.0

_RUMQTTD = """\
id = 0
[router]
id = 0
max_connections = 10000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v{mqtt}.1]
name = "v{mqtt}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v{mqtt}.1.connections]
connection_timeout_ms = 60000
max_payload_size = {limit}
max_inflight_count = 500
dynamic_filters = true
"""


class BrokerError(MurmureError):
    """The embedded broker did not start: its port is taken, or its package is broken."""


def free_port() -> int:
    """Returns a TCP port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedBroker:
    """A broker on 127.0.0.1 in a child process, which ends with this one. One protocol per listener: `mqtt` 5, or 4
    for MQTT 3.1.1. Use as a context manager, or `start` and `stop`. Raises BrokerError for any other address: it knows
    no certificates and no rights."""

    def __init__(self, port: int, mqtt: int = 5, listen: str = "127.0.0.1") -> None:
        if listen != "127.0.0.1":
            raise BrokerError(
                f"embedded broker: {listen}: it is for the demonstration, on 127.0.0.1 only; a town runs mosquitto, "
                "see 'murmure broker init --help'"
            )
        self.port, self.mqtt = port, mqtt
        self._broker: Broker | None = None

    def start(self) -> EmbeddedBroker:
        """Starts the broker and returns once it has answered a CONNECT: an open port alone proves nothing.

        Raises BrokerError, one line.
        """
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "rumqttd.toml"
            config.write_text(_RUMQTTD.format(mqtt=self.mqtt, port=self.port, limit=_PAYLOAD_LIMIT))
            # Its own default is 0.0.0.0, which `listen` in the file above overrides.
            broker = Broker(config_path=str(config), port=self.port, listen="127.0.0.1")
            try:
                broker.start(timeout=_START_S)
                answers(self.port, self.mqtt)
                _require_loopback(self.port)
            except (OSError, RuntimeError) as error:
                broker.stop()
                raise BrokerError(
                    f"embedded broker: 127.0.0.1:{self.port}: it did not start ({error}); choose another port"
                ) from error
        self._broker = broker
        return self

    @property
    def pid(self) -> int:
        """The child's process id: what a test kills. Raises BrokerError if it is not running."""
        if self._broker is None or self._broker._process is None:
            raise BrokerError(f"embedded broker: 127.0.0.1:{self.port}: it is not running; start it")
        return int(self._broker._process.pid)

    def stop(self) -> None:
        """Ends the broker and frees its port; safe to call twice."""
        if self._broker is not None:
            self._broker.stop()
            self._broker = None

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def _require_loopback(port: int) -> None:
    """Raises OSError if anybody listens on this port beyond the loopback: a setting that was ignored shows here."""
    own = f":{port:04X}"
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            local, state = line.split()[1], line.split()[3]
            if state == "0A" and local.endswith(own) and local != f"0100007F{own}":
                raise OSError("it listens beyond 127.0.0.1")


def answers(port: int, mqtt: int = 5) -> None:
    """Connects to the broker on 127.0.0.1 and waits for its CONNACK. Raises OSError without one."""
    properties = b"\x00" if mqtt == 5 else b""
    client_id = b"murmure-probe"
    body = b"\x00\x04MQTT" + bytes([mqtt, 2, 0, 10]) + properties + len(client_id).to_bytes(2, "big") + client_id
    with socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_S) as link:
        link.sendall(bytes([0x10, len(body)]) + body)
        if link.recv(1) != b"\x20":
            raise OSError("no CONNACK came back")
        link.sendall(b"\xe0\x00")
