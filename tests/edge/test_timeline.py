"""The simulated link: stamps come from marks alone, whatever the scheduler, the chunks or the bench do."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from murmure_edge import timeline
from murmure_edge.link import BenchGone
from murmure_edge.timeline import TimelineLink


def _link(bench: Any, stop: threading.Event | None = None) -> TimelineLink:
    return TimelineLink(bench.directory, 0, "beam", str(bench.device.link), 115200, stop or threading.Event())


def test_time_starts_where_the_bench_says(tiny_bench: Any) -> None:
    """START gives the first instant, and GO tells that this side has set its words."""
    tiny_bench.put(4096 + 16, 99)
    link = _link(tiny_bench)
    link.open()
    assert link.now_ms() == tiny_bench.START_MS
    assert tiny_bench.going.wait(5)
    assert (tiny_bench.get(4096 + 8), tiny_bench.get(4096 + 16)) == (tiny_bench.START_MS, 0)


@pytest.mark.parametrize("seed", range(3))
def test_how_bytes_trickle_changes_no_stamp(tiny_bench: Any, seed: int) -> None:
    """Marks announced in lumps and bytes written in shreds give the pieces and instants of the marks."""
    rng = random.Random(seed)
    pieces = [(rng.randbytes(rng.choice((0, 9, 90, 5000))), 1_000_000 + 1000 * i) for i in range(1, 80)]
    link = _link(tiny_bench)
    link.open()

    def play() -> None:
        tiny_bench.going.wait(5)
        waiting = list(pieces)
        while waiting:
            lump = [waiting.pop(0) for _ in range(min(len(waiting), rng.randrange(1, 9)))]
            for data, at_ms in lump:
                tiny_bench.announce(len(data), at_ms)
            data = b"".join(data for data, _ in lump)
            while data:
                cut = rng.randrange(1, 2000)
                tiny_bench.device.say(data[:cut])
                data = data[cut:]
            tiny_bench.connection.sendall(b"!")

    player = threading.Thread(target=play)
    player.start()
    found: list[tuple[bytes, int]] = []
    while len(found) < sum(1 for data, _ in pieces if data):
        data, now_ms = link.read(2_000_000)
        if data:
            found.append((data, now_ms))
    player.join()
    assert found == [(data, at_ms) for data, at_ms in pieces if data]


def test_a_deadline_before_the_next_mark_costs_no_waiting(tiny_bench: Any) -> None:
    """If the next mark lies beyond the deadline, a thousand time-outs take no wall time, and the mark stays."""
    link = _link(tiny_bench)
    link.open()
    tiny_bench.say(b"later", 5_000_000)
    before = time.monotonic()
    for second in range(1_001, 2_001):
        assert link.read(second * 1000) == (b"", second * 1000)
    assert time.monotonic() - before < 1
    assert link.read(5_000_000) == (b"later", 5_000_000)


def test_an_answer_after_the_deadline_stays_in_line(tiny_bench: Any) -> None:
    """A late answer comes with the next read, at that read's now if its own instant has passed."""
    link = _link(tiny_bench)
    link.open()
    link.write(b"?", link.now_ms() + 100)
    tiny_bench.say(b"late", 1_000_150)
    assert link.read(1_000_100) == (b"", 1_000_100)
    link.wait(1_001_000)
    assert link.read(1_001_100) == (b"late", 1_001_000)


def test_a_request_is_announced_before_its_bytes(tiny_bench: Any) -> None:
    """Instant, deadline and count stand in the map when the bytes arrive; asking for time alone has its own word."""
    link = _link(tiny_bench)
    link.open()
    link.write(b"?", link.now_ms() + 300)
    assert tiny_bench.device.heard() == b"?"
    assert [tiny_bench.get(4096 + at) for at in (16, 24, 32)] == [1, 1_000_000, 1_000_300]
    link.expect(1_000_250)
    assert [tiny_bench.get(4096 + at) for at in (16, 40)] == [1, 1_000_250]
    tiny_bench.connection.settimeout(5)
    assert tiny_bench.connection.recv(1)


def test_done_is_what_has_been_dealt_with(tiny_bench: Any) -> None:
    """DONE moves when the caller comes back for more, and a bell tells a bench that is out of credit."""
    link = _link(tiny_bench)
    link.open()
    tiny_bench.say(b"one", 1_001_000)
    assert link.read(1_500_000) == (b"one", 1_001_000)
    assert tiny_bench.get(4096 + 8) == 1_000_000
    assert link.read(1_500_000) == (b"", 1_001_000)
    assert tiny_bench.get(4096 + 8) == 1_001_000
    tiny_bench.connection.settimeout(5)
    assert tiny_bench.connection.recv(1)


def test_bytes_sent_to_nobody_are_lost_and_not_mistaken_for_later_ones(tiny_bench: Any) -> None:
    """Marks that pass while the port is closed take their bytes with them; the count goes on."""
    link = _link(tiny_bench)
    link.open()
    tiny_bench.going.wait(5)
    link.close()
    tiny_bench.announce(9, 1_000_500)
    tiny_bench.say(b"", 1_001_000)
    link.wait(1_001_000)
    assert link.now_ms() == 1_001_000
    link.open()
    tiny_bench.say(b"again", 1_002_000)
    assert link.read(1_003_000) == (b"again", 1_002_000)


def test_a_stopped_link_lets_the_bench_know(tiny_bench: Any) -> None:
    """Closing for good ends the connection, so that the bench stops this gateway's time."""
    stop = threading.Event()
    link = _link(tiny_bench, stop)
    link.open()
    tiny_bench.going.wait(5)
    link.close()
    tiny_bench.connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        tiny_bench.connection.recv(1)
    stop.set()
    link.close()
    assert tiny_bench.connection.recv(1) == b""


def test_a_bench_that_leaves_stops_time(tiny_bench: Any) -> None:
    """When the connection closes the link stops for ever: it never invents time."""
    link = _link(tiny_bench)
    link.open()
    tiny_bench.going.wait(5)
    tiny_bench.leave()
    with pytest.raises(BenchGone, match="has left"):
        for _ in range(20):
            link.read(2_000_000)


def test_announced_bytes_that_never_come_end_the_run(tiny_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark whose bytes stay away for the whole patience means that the bench is gone."""
    monkeypatch.setattr(timeline, "GONE_AFTER_MS", 50)
    link = _link(tiny_bench)
    link.open()
    tiny_bench.going.wait(5)
    tiny_bench.announce(9, 1_001_000)
    with pytest.raises(BenchGone, match="sent none"):
        link.read(2_000_000)


def test_without_a_bench_nothing_starts(tmp_path: Path, tiny_port: Any) -> None:
    """No map, a strange map or nobody at the socket: BenchGone, in one line."""
    link = TimelineLink(tmp_path, 0, "beam", str(tiny_port.link), 115200, threading.Event())
    with pytest.raises(BenchGone, match=r"timeline\.map: no time line"):
        link.open()
    (tmp_path / "timeline.map").write_bytes(bytes(8192))
    with pytest.raises(BenchGone, match="version 1"):
        link.open()
    (tmp_path / "timeline.map").write_bytes(b"MURMURE1" + (1).to_bytes(8, "little") + bytes(40_000))
    with pytest.raises(BenchGone, match="no bench at its time line"):
        link.open()


def test_a_deep_directory_is_no_obstacle(tmp_path: Path, tiny_port: Any, tiny_bench: Any) -> None:
    """The socket is reached though its path is longer than a socket's address may be."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    bench = type(tiny_bench)(deep, tiny_port)
    link = _link(bench)
    link.open()
    assert link.now_ms() == bench.START_MS
    bench.close()


def test_who_stops_while_attaching_is_heard(tmp_path: Path, tiny_port: Any, tiny_bench: Any) -> None:
    """A gateway whose other ports never attach can still be stopped."""
    stop = threading.Event()
    mute = type(tiny_bench)(tmp_path / "mute", tiny_port, starts=False)
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(BenchGone, match="asked to stop"):
        _link(mute, stop).open()
    mute.close()
