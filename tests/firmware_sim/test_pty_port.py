"""The emulated port loses, garbles and hangs up as a wire does."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st
from murmure_firmware_sim.pty_port import PtyPort, resampled


@pytest.fixture
def port(tmp_path: Path) -> Iterator[PtyPort]:
    made = PtyPort(tmp_path / "dust", 9600)
    yield made
    made.close()


def test_client_without_settings_finds_the_devices_speed_and_raw_bytes(port: PtyPort) -> None:
    """A plain open reads and writes control characters as they are, nothing is echoed."""
    fd = os.open(port.link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        assert port.client_baud() == 9600
        every_byte = bytes(range(256))
        assert port.write(every_byte) == 256
        assert every_byte == os.read(fd, 4096)
        os.write(fd, every_byte)
        assert every_byte == port.read()
        assert port.read() == b""
    finally:
        os.close(fd)


@pytest.mark.parametrize("baud", [4800, 9600, 115200, 256000])
def test_speed_of_the_client_is_seen(port: PtyPort, baud: int) -> None:
    """Whatever speed the client sets can be read on the device's side."""
    with serial.Serial(str(port.link), baud):
        assert baud == port.client_baud()


def test_it_knows_whether_anybody_listens(port: PtyPort) -> None:
    """Open is heard, closed is not."""
    assert not port.heard()
    with serial.Serial(str(port.link)):
        assert port.heard()
    assert not port.heard()


def test_full_port_takes_no_more_and_does_not_block(port: PtyPort) -> None:
    """A reader that does not read cannot stop the simulator."""
    with serial.Serial(str(port.link)):
        taken = [port.write(bytes(4000)) for _ in range(20)]
        assert taken[-1] == 0
        assert sum(taken) < 80_000


def test_pulled_plug_hangs_up_and_the_link_comes_back_elsewhere(port: PtyPort) -> None:
    """Unplugged: the link is gone and the reader is told; plugged: the link names a living port again."""
    with serial.Serial(str(port.link), timeout=2) as client:
        port.unplug()
        assert not port.link.is_symlink()
        assert port.write(b"x") == 0
        assert port.read() == b""
        with pytest.raises(serial.SerialException):
            client.read(1)
    port.plug()
    with serial.Serial(str(port.link), timeout=2) as client:
        port.write(b"y")
        assert client.read(1) == b"y"


def test_link_is_replaced_as_one_act(port: PtyPort) -> None:
    """Whoever looks at the link during many replugs finds it, and finds no half-made name beside it."""
    seen = set()
    for _ in range(50):
        port.plug()
        seen.add(port.link.readlink())
        assert [port.link.name] == [entry.name for entry in port.link.parent.iterdir()]
    assert seen


def test_wrong_speed_is_rubbish_in_both_directions() -> None:
    """Bytes sent at one speed and read at another are others, and other in number."""
    frame = bytes.fromhex("aa c0 d4 04 3a 0a a1 60 1d ab")
    assert frame == resampled(frame, 9600, 9600)
    for sent, heard in ((9600, 4800), (9600, 115200), (115200, 9600), (9600, 19200)):
        garbled = resampled(frame, sent, heard)
        assert garbled != frame
        assert frame not in garbled
    assert len(resampled(frame, 9600, 115200)) > len(frame) > len(resampled(frame, 115200, 9600))


@given(st.binary(min_size=1, max_size=40))
def test_small_difference_of_speed_is_no_difference(data: bytes) -> None:
    """As on a wire, 2 % between two clocks is bridged by the start bit of each byte."""
    assert data == resampled(data, 9600, 9792)
    assert data == resampled(data, 9600, 9408)


def test_nobody_waits_for_a_port_that_nobody_has_open(port: PtyPort) -> None:
    """A hung-up pseudo-terminal is always ready, so waiting on it would spin: it says so instead."""
    assert not port.wait(1.0)
    with serial.Serial(str(port.link)) as client:
        before_s = time.monotonic()
        assert port.wait(0.05)
        assert time.monotonic() - before_s >= 0.04
        client.write(b"x")
        assert port.wait(5.0)
        assert select.select([port.master], [], [], 1)[0]
