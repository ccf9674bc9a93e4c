"""What a port's thread relies on, asked of the real link and of the simulated one alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from murmure_edge.link import Link, LinkLost
from murmure_edge.serial_link import SerialLink
from murmure_edge.timeline import TimelineLink


class Rig:
    """A link, its device, and how that device speaks `after_ms` from the link's now on."""

    def __init__(self, link: Link, port: Any, say: Callable[[bytes, int], None]) -> None:
        self.link, self.port, self._say = link, port, say

    def says(self, data: bytes, after_ms: int = 10) -> None:
        self._say(data, self.link.now_ms() + after_ms)


@pytest.fixture(params=["wall", "timeline"])
def rig(request: pytest.FixtureRequest, tiny_port: Any) -> Iterator[Rig]:
    """An open link to a tiny device."""
    stop = threading.Event()
    if request.param == "wall":
        link: Link = SerialLink(str(tiny_port.link), 115200, stop)
        rig = Rig(link, tiny_port, lambda data, _: tiny_port.say(data) if data else None)
    else:
        bench = request.getfixturevalue("tiny_bench")
        link = TimelineLink(bench.directory, 0, "beam", str(tiny_port.link), 115200, stop)
        rig = Rig(link, tiny_port, bench.say)
    link.open()
    yield rig
    link.close()


def _read_all(rig: Rig, size: int) -> bytes:
    data, deadline_ms = b"", rig.link.now_ms() + 5_000
    while len(data) < size:
        piece, now_ms = rig.link.read(deadline_ms)
        assert now_ms < deadline_ms
        data += piece
    return data


def test_bytes_come_whole_and_in_order_with_their_instant(rig: Rig) -> None:
    """All bytes of the device, each piece with an instant that is the link's new now."""
    before_ms = rig.link.now_ms()
    rig.says(bytes(range(256)))
    assert _read_all(rig, 256) == bytes(range(256))
    assert before_ms < rig.link.now_ms() + 1


def test_silence_ends_at_the_deadline(rig: Rig) -> None:
    """Without bytes a read gives none, at the deadline, and never a later instant."""
    deadline_ms = rig.link.now_ms() + 50
    rig.says(b"", after_ms=50)
    while (answer := rig.link.read(deadline_ms)) != (b"", deadline_ms):
        assert answer[0] == b"" and answer[1] < deadline_ms
    assert rig.link.now_ms() >= deadline_ms


def test_what_is_written_reaches_the_device_and_its_answer_comes_back(rig: Rig) -> None:
    """A request goes out as it is; the answer is read before its deadline."""
    rig.link.write(b"\x01\x03\x11\x13", rig.link.now_ms() + 5_000)
    assert rig.port.heard(4) == b"\x01\x03\x11\x13"
    rig.says(b"answer")
    assert _read_all(rig, 6) == b"answer"


def test_a_late_answer_is_dropped_and_counted(rig: Rig, eventually: Callable[..., None]) -> None:
    """What arrived before a request is dropped, counted, and not read; what comes later is."""
    rig.says(b"late", after_ms=10)
    rig.link.wait(rig.link.now_ms() + 200)
    dropped = 0

    def all_dropped() -> bool:
        nonlocal dropped
        dropped += rig.link.discard_input()
        return dropped >= 4

    eventually(all_dropped)
    assert dropped == 4 and rig.link.discard_input() == 0
    rig.says(b"fresh")
    assert _read_all(rig, 5) == b"fresh"


def test_an_unplugged_device_is_lost_and_found_again(rig: Rig) -> None:
    """Pulled out: LinkLost from reading. Back at another pseudo-terminal: open again and read on."""
    rig.port.pull_out()
    with pytest.raises(LinkLost):
        for _ in range(20):
            rig.link.read(rig.link.now_ms() + 1_000)
    rig.link.close()
    with pytest.raises(LinkLost):
        rig.link.open()
    rig.port.plug_in()
    rig.link.open()
    rig.says(b"again")
    assert _read_all(rig, 5) == b"again"


def test_writing_to_an_unplugged_device_is_a_loss_too(rig: Rig) -> None:
    """A request to a device that is gone raises LinkLost, not an error of the system."""
    rig.port.pull_out()
    with pytest.raises(LinkLost):
        for _ in range(20):
            rig.link.write(b"\x00", rig.link.now_ms() + 100)


def test_time_passes_for_a_closed_link(rig: Rig) -> None:
    """While the device is away the link still waits, so that back-off and batches go on."""
    rig.port.pull_out()
    rig.link.close()
    until_ms = rig.link.now_ms() + 60
    rig.says(b"", after_ms=60)
    rig.link.wait(until_ms)
    assert rig.link.now_ms() >= until_ms


def test_closing_twice_is_closing(rig: Rig) -> None:
    """Close may be called at any time, and again."""
    rig.link.close()
    rig.link.close()
    rig.link.open()
