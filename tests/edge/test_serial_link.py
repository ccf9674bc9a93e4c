"""The real link on real pseudo-terminals: rights, rivals, and reading from another machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from murmure_edge.link import LinkDenied, LinkLost
from murmure_edge.serial_link import SerialLink

NOBODY = 65534


def _link(address: object) -> SerialLink:
    return SerialLink(str(address), 9600, threading.Event())


def test_a_missing_port_is_lost_and_said_in_one_line(tmp_path: Path) -> None:
    """No such device: LinkLost, whose advice names the path and asks for the plug."""
    with pytest.raises(LinkLost) as refused:
        _link(tmp_path / "nothing").open()
    assert refused.value.advice == (
        f"{tmp_path}/nothing: cannot be opened (No such file or directory); is it plugged in?"
    )


def test_what_is_no_terminal_is_lost(tmp_path: Path) -> None:
    """A plain file under the path is no serial port, and no traceback."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LinkLost):
        _link(tmp_path / "file").open()


def test_two_programs_cannot_share_a_port(tiny_port: Any) -> None:
    """A second exclusive open is denied, and the advice says that another program holds it."""
    first, second = _link(tiny_port.link), _link(tiny_port.link)
    first.open()
    with pytest.raises(LinkDenied, match="another program holds it"):
        second.open()
    first.close()
    second.open()
    second.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody without rights")
def test_without_rights_the_owning_group_is_named(tiny_port: Any) -> None:
    """A service user outside the device's group learns which group that is, whatever the system calls it."""
    device = tiny_port.link.resolve()
    device.chmod(0o600)
    program = (
        "import os, sys, threading\n"
        "from murmure_edge.link import LinkDenied\n"
        "from murmure_edge.serial_link import SerialLink\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try:\n    SerialLink(sys.argv[1], 9600, threading.Event()).open()\n"
        "except LinkDenied as error:\n    print(error.advice)\n"
    )
    command = [sys.executable, "-c", program, str(device)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "not allowed; the device belongs to group " in done.stdout
    assert done.stdout.endswith(": add this service's user to it\n")


def test_a_burst_is_one_read_or_two(tiny_port: Any) -> None:
    """Bytes that trickle in within a few milliseconds are read together, not one by one."""
    link = _link(tiny_port.link)
    link.open()

    def trickle() -> None:
        for byte in range(30):
            tiny_port.say(bytes([byte]))
            time.sleep(0.0005)

    speaker = threading.Thread(target=trickle)
    speaker.start()
    pieces: list[bytes] = []
    while len(b"".join(pieces)) < 30:
        pieces.append(link.read(link.now_ms() + 2_000)[0])
    speaker.join()
    assert len(pieces) <= 15
    link.close()


def test_who_asks_to_stop_is_heard_while_waiting(tiny_port: Any) -> None:
    """A wait of half a minute ends at once when the stop event is set."""
    stop = threading.Event()
    link = SerialLink(str(tiny_port.link), 9600, stop)
    threading.Timer(0.1, stop.set).start()
    before = time.monotonic()
    link.wait(link.now_ms() + 30_000)
    assert time.monotonic() - before < 5


def test_a_port_of_another_machine_is_read_over_the_network() -> None:
    """socket://host:port (as ser2net offers) works like a device path."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = _link(f"socket://127.0.0.1:{server.getsockname()[1]}")
        link.open()
        peer, _ = server.accept()
        peer.sendall(b"far away")
        data = b""
        while len(data) < 8:
            data += link.read(link.now_ms() + 2_000)[0]
        assert data == b"far away"
        peer.close()
        with pytest.raises(LinkLost):
            for _ in range(20):
                link.read(link.now_ms() + 500)
        link.close()


def test_an_unknown_address_is_lost_not_a_defect() -> None:
    """A misspelt URL is told as a port that cannot be opened."""
    with pytest.raises(LinkLost, match="cannot be opened"):
        _link("rfc2271://nowhere:1").open()
