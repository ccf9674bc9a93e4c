"""The broker from a wheel: on the loopback, ready when it says so, gone when it is stopped."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from murmure_ingest import embedded_broker
from murmure_ingest.embedded_broker import BrokerError, EmbeddedBroker, answers, free_port


@pytest.mark.parametrize("mqtt", [4, 5])
def test_started_means_that_it_answers(mqtt: int) -> None:
    """After start a CONNECT is answered; after stop, safe to call twice, the port is free again."""
    port = free_port()
    with EmbeddedBroker(port, mqtt) as broker:
        answers(port, mqtt)
        assert Path(f"/proc/{broker.pid}").exists()
    broker.stop()
    with pytest.raises(OSError):
        answers(port, mqtt)
    with pytest.raises(BrokerError, match="not running"):
        _ = broker.pid
    with EmbeddedBroker(port, mqtt):
        answers(port, mqtt)


def test_it_listens_on_the_loopback_only() -> None:
    """Nothing of this machine's network can reach it: the package's own default would be every address."""
    with EmbeddedBroker(free_port()) as broker:
        listening = [
            line.split()[1]
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            if line.split()[1].endswith(f":{broker.port:04X}") and line.split()[3] == "0A"
        ]
        assert listening == [f"0100007F:{broker.port:04X}"]


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "192.0.2.1", "localhost", ""])
def test_no_other_address_is_accepted(listen: str) -> None:
    """It knows no certificates and no rights: asked to listen anywhere else, it refuses and says what a town runs."""
    with pytest.raises(BrokerError, match=r"^[^\n]*on 127\.0\.0\.1 only; a town runs mosquitto[^\n]*$"):
        EmbeddedBroker(free_port(), listen=listen)


def test_a_package_that_listens_elsewhere_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the package heeds neither of our two settings, what it started is ended and told."""
    port = free_port()
    monkeypatch.setattr(embedded_broker, "_RUMQTTD", embedded_broker._RUMQTTD.replace('"127.0.0.1:', '"0.0.0.0:'))
    with pytest.raises(BrokerError, match=r"it listens beyond 127\.0\.0\.1"):
        EmbeddedBroker(port).start()
    with pytest.raises(OSError):
        answers(port)


def test_only_the_demonstration_has_it() -> None:
    """Of the product's modules one starts this broker: the city of `murmure demo`."""
    root = Path(__file__).resolve().parents[2]
    packages = ("murmure/murmure", "privacy", "edge", "ingest", "dashboards", "firmware-sim")
    users = {
        path.relative_to(root).as_posix()
        for package in packages
        for path in (root / package).rglob("*.py")
        if "EmbeddedBroker(" in path.read_text("utf-8")
    }
    assert users == {"murmure/murmure/city.py"}


def test_a_taken_port_is_one_line() -> None:
    """The mend is another port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BrokerError, match=r"^[^\n]*choose another port$"):
            EmbeddedBroker(taken.getsockname()[1]).start()


def test_a_port_that_only_accepts_is_no_broker() -> None:
    """An open port proves nothing: a broker that is stuck still accepts connections."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        mute.settimeout(5)
        port = mute.getsockname()[1]
        child = os.fork()
        if child == 0:
            link, _ = mute.accept()
            link.recv(100)
            link.sendall(b"HTTP/1.1 400 Bad Request\r\n")
            os._exit(0)
        with pytest.raises(OSError, match="no CONNACK"):
            answers(port)
        os.waitpid(child, 0)


def test_a_killed_broker_can_be_started_again() -> None:
    """After a kill -9 the same object starts a new broker on the same port."""
    broker = EmbeddedBroker(free_port()).start()
    os.kill(broker.pid, signal.SIGKILL)
    broker.stop()
    broker.start()
    answers(broker.port)
    broker.stop()
