"""The bench keeps the promises of docs/simulated-time.md to an edge that was written from the same page."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from murmure_firmware_sim.bench import Bench
from murmure_firmware_sim.devices.base import Device
from murmure_firmware_sim.devices.nsrt_mk3 import NsrtMk3
from murmure_firmware_sim.devices.pmsx003 import Pmsx003
from murmure_firmware_sim.devices.sds011 import Sds011
from murmure_firmware_sim.devices.sps30 import Sps30
from murmure_firmware_sim.devices.tfluna import TfLuna
from murmure_firmware_sim.devices.uart_decibel_bbaa import UartDecibelBbaa
from murmure_firmware_sim.memory import Memory
from murmure_firmware_sim.scenario import parse_scenario
from murmure_firmware_sim.street import Street

Make = Callable[..., dict[str, Any]]
START_MS = 1_794_600_000_000
HOUR_MS = 3_600_000
REQUEST = bytes.fromhex("01 03 00 00 00 01 84 0a")


def expected_pieces(device: Device, until_ms: int, from_ms: int = START_MS) -> list[tuple[bytes, int]]:
    """What the device says, computed without a port."""
    device.seek(from_ms)
    return [piece for piece in device.advance(until_ms) if piece[0]]


def level_answers(edge: Any) -> list[tuple[int, int]]:
    """(second, level) of each answer of the noise port."""
    return [
        ((time_ms - 20 - START_MS) // 1000, int.from_bytes(said[3:5])) for said, time_ms in edge.pieces("noise") if said
    ]


@pytest.mark.parametrize("skew_ms", [1_000, 120_000, 900_000])
def test_every_byte_and_stamp_is_the_devices_own_at_any_skew(start_bench: Any, scenario: Make, skew_ms: int) -> None:
    """An hour of three ports arrives byte for byte, stamp for stamp, as the devices compute it alone."""
    hours = 0.2 if skew_ms == 1_000 else 1
    bench = start_bench(scenario("beam", "noise", "dust", hours=hours, skew_ms=skew_ms))
    edge = bench.edge()
    end_ms = bench.config["end_ms"]
    edge.run(end_ms)
    street = Memory(Street(0, "plaza"))
    assert edge.pieces("beam") == expected_pieces(TfLuna(street), end_ms)
    assert edge.pieces("dust") == expected_pieces(Sds011(street), end_ms)
    levels = [level for m in range(60) for level in street.level_tenths(START_MS // 60_000 + m)]
    seconds = int(3600 * hours)
    assert level_answers(edge) == list(enumerate(levels[:seconds]))
    counters = bench.await_event("end")["ports"]
    for name in ("beam", "noise", "dust"):
        sent = sum(len(said) for said, _ in edge.pieces(name))
        assert counters[f"gw-0/{name}"]["sent_bytes"] == sent
    slots = sum(len(street.dip_slots(START_MS // 60_000 + m)) for m in range(seconds // 60))
    assert counters["gw-0/beam"]["crossings"] == slots
    assert counters["gw-0/dust"]["frames"] == seconds
    edge.close()


def test_memories_stuffing_and_usb_arrive_the_same_on_a_time_line(start_bench: Any, scenario: Make) -> None:
    """A quarter of an hour of the other ports, two speaking and two asked, byte for byte as computed alone; the meter
    on USB is read at 9600 baud."""
    bench = start_bench(scenario("plantower", "module", "sps", "meter", hours=0.25))
    edge = bench.edge()
    end_ms = bench.config["end_ms"]
    edge.run(end_ms)
    street = Street(0, "plaza")
    assert edge.pieces("plantower") == expected_pieces(Pmsx003(Memory(street, average_ms=10_000)), end_ms)
    assert edge.pieces("module") == expected_pieces(UartDecibelBbaa(Memory(street)), end_ms)
    polled = {"sps": Sps30(Memory(street, average_ms=30_000), measuring=1), "meter": NsrtMk3(street)}
    for name, device in polled.items():
        request = edge.ports[name].request
        asked_ms = range(START_MS, end_ms, 1000)
        assert edge.pieces(name) == [device.receive(request, at_ms)[0] for at_ms in asked_ms]
    edge.close()


def test_silence_is_told_and_not_waited_for(start_bench: Any, scenario: Make) -> None:
    """A silent polled device costs no wall time: 2,000 time-outs, each a bare mark at its deadline."""
    bench = start_bench(scenario("noise", port={"faults": ["silent"]}))
    edge = bench.edge()
    port = edge.ports["noise"]
    before_s = time.monotonic()
    for k in range(2000):
        at_ms = START_MS + 1000 * k
        assert port.ask(REQUEST, at_ms, at_ms + 130) == (b"", at_ms + 130)
    assert time.monotonic() - before_s < 10
    edge.close()


def test_late_answer_stays_in_line_for_the_next_read(start_bench: Any, scenario: Make) -> None:
    """A late answer is a time-out first, then lies in front of the next answer."""
    bench = start_bench(scenario("noise", port={"faults": ["late:1500"]}))
    edge = bench.edge()
    port = edge.ports["noise"]
    assert port.ask(REQUEST, START_MS, START_MS + 200) == (b"", START_MS + 200)
    assert port.ask(REQUEST, START_MS + 1000, START_MS + 1200) == (b"", START_MS + 1200)
    first, at_ms = port.ask(REQUEST, START_MS + 2000, START_MS + 2200)
    assert at_ms == START_MS + 1520
    assert first[:3] == bytes.fromhex("01 03 02")
    edge.close()


def test_command_to_a_speaking_device_is_answered_in_line(start_bench: Any, scenario: Make) -> None:
    """An answer's mark is never earlier than the last one; the stream changes after it."""
    bench = start_bench(scenario("dust"))
    edge = bench.edge()
    port = edge.ports["dust"]
    edge.run(START_MS + 5000)
    query_mode = bytes.fromhex("aa b4 02 01 01 00 00 00 00 00 00 00 00 00 00 ff ff 02 ab")
    said = b""
    while said[:3] != b"\xaa\xc5\x02":
        said, time_ms = (
            port.ask(query_mode, port.now_ms, port.now_ms + 5000) if not said else port.await_piece(port.now_ms + 5000)
        )
    edge.run(time_ms + 60_000)
    assert not [piece for piece in port.pieces if piece[0] and piece[1] > time_ms]
    edge.close()


def test_time_alone_can_be_asked_for(start_bench: Any, scenario: Make) -> None:
    """A polled port passes time by `wait_until_ms`; a stale bell is no request."""
    bench = start_bench(scenario("noise", skew_ms=5_000))
    edge = bench.edge()
    port = edge.ports["noise"]
    port.ring()
    port.wait_until(START_MS + 700)
    port.ring()
    said, time_ms = port.ask(REQUEST, START_MS + 1000, START_MS + 1200)
    assert (len(said), time_ms) == (7, START_MS + 1020)
    port.wait_until(START_MS + 600_000)  # longer than any credit
    edge.close()


def test_wrong_speed_of_the_client_is_rubbish_both_ways(start_bench: Any, scenario: Make) -> None:
    """At 4800 instead of 9600 no frame arrives and no request is understood, and time goes on."""
    bench = start_bench(scenario("dust", "noise", hours=0.1))
    edge = bench.edge(client_baud=4800)
    edge.run(START_MS + 60_000)
    said = b"".join(piece for piece, _ in edge.pieces("dust"))
    assert len(said) > 100
    frames = b"".join(piece for piece, _ in expected_pieces(Sds011(Memory(Street(0, "plaza"))), START_MS + 60_000))
    assert frames[:10] not in said
    assert level_answers(edge) == []
    edge.close()


def test_killed_edge_rejoins_later_and_the_others_notice_nothing(start_bench: Any, scenario: Make) -> None:
    """After a death time stands still, then all ports of the gateway start together at the furthest mark issued."""
    bench = start_bench(scenario("beam", "noise", "dust", gateways=2, downtime_ms=5_000))
    other = bench.edge(1)
    first = bench.edge(0)
    first.run(START_MS + 300_000)
    first.close()
    other.run(START_MS + HOUR_MS)
    street = Street(1, "plaza")
    assert other.pieces("beam") == expected_pieces(TfLuna(street, seed=1), START_MS + HOUR_MS)
    second = bench.edge(0)
    assert START_MS + 304_000 < second.start_ms <= START_MS + 300_000 + 120_000 + 6_000
    assert second.start_ms % 1000 == 0
    second.run(second.start_ms + 120_000)
    alone = expected_pieces(TfLuna(Street(0, "plaza")), second.start_ms + 120_000, second.start_ms)
    assert second.pieces("beam")[: len(alone)] == alone
    assert second.ports["beam"].words[2] == 2
    second.close()
    other.close()


def test_request_of_a_dead_edge_is_not_answered_to_the_next(start_bench: Any, scenario: Make) -> None:
    """What was written and not read when the edge died is gone at the next START."""
    bench = start_bench(scenario("noise"))
    first = bench.edge()
    port = first.ports["noise"]
    first.close()
    fd = os.open(port.link, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    os.write(fd, REQUEST)
    second = bench.edge()
    at_ms = second.start_ms + 1000
    said, _ = second.ports["noise"].ask(REQUEST, at_ms, at_ms + 200)
    assert len(said) == 7
    time.sleep(0.05)
    assert not second.ports["noise"].poll()
    second.close()
    os.close(fd)


def test_many_deaths_leave_a_bench_that_still_serves(start_bench: Any, scenario: Make) -> None:
    """Edges that die while attaching, before GO, and in the middle: the next one is served as the first."""
    bench = start_bench(scenario("beam", "dust"))
    directory = Path(bench.config["gateways"][0]["dir"])
    for line in (
        b"ATTACH beam\n",
        b"ATTACH nothing\n",
        b"GO\n",
        b"rubbish" * 100,
        b"\xff\n" * 9,
        b"ATTACH beam\nGO\n",
        b"",
    ):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(directory / "timeline.sock"))
            connection.sendall(line)
    starts = []
    for _ in range(5):
        edge = bench.edge()
        starts.append(edge.start_ms)
        edge.run(edge.start_ms + 20_000)
        edge.close()
    assert starts == sorted(set(starts))


def test_no_mark_goes_beyond_the_hold_until_it_is_released(start_bench: Any, scenario: Make) -> None:
    """Held at T every port's last mark is T itself, bytes before it all there; released, time goes on."""
    hold_ms = START_MS + 100_000
    bench = start_bench(scenario("beam", "noise", "dust", hours=0.1, hold_ms=hold_ms))
    edge = bench.edge()
    edge.run(hold_ms)
    assert bench.await_event("held")["sim_ms"] == hold_ms
    assert {edge.ports[name].now_ms for name in ("beam", "dust")} == {hold_ms}
    time.sleep(0.1)
    assert not edge.ports["beam"].poll()
    bench.tell({"hold_ms": None})
    edge.run(bench.config["end_ms"])
    assert edge.pieces("dust") == expected_pieces(Sds011(Memory(Street(0, "plaza"))), bench.config["end_ms"])
    edge.close()


def test_scheduled_death_at_the_hold_restarts_exactly_there(start_bench: Any, scenario: Make) -> None:
    """Killed at the hold, the gateway restarts at T plus the down time, whenever the edge comes back."""
    hold_ms = START_MS + 60_000
    bench = start_bench(scenario("beam", "dust", hold_ms=hold_ms, downtime_ms=30_000))
    edge = bench.edge()
    edge.run(hold_ms)
    bench.await_event("held")
    edge.close()
    bench.tell({"hold_ms": None})
    again = bench.edge()
    assert again.start_ms == hold_ms + 30_000
    again.close()


def test_unplugged_device_loses_nothing_before_and_comes_back_on_time(start_bench: Any, scenario: Make) -> None:
    """Pulled at 100 s, back at 160 s: all bytes before arrive; after, those since the first request."""
    bench = start_bench(scenario("dust", hours=0.1, port={"faults": ["unplug:100/60"]}))
    edge = bench.edge()
    port = edge.ports["dust"]
    back_ms = START_MS + 160_000
    edge.run(START_MS + 100_000)
    port.wait_until(back_ms)
    edge.run(back_ms)
    expected = expected_pieces(Sds011(Memory(Street(0, "plaza"))), START_MS + 100_000)
    assert edge.pieces("dust") == expected
    until_s = time.monotonic() + 5
    while not port.link.is_symlink():
        assert time.monotonic() < until_s
        time.sleep(0.005)
    port.open()
    query = bytes.fromhex("aa b4 04 00 00 00 00 00 00 00 00 00 00 00 00 ff ff 02 ab")
    port.wait_until(back_ms + 3000)
    edge.run(back_ms + 3000)
    asked_ms = port.now_ms
    answer, _ = port.ask(query, asked_ms, asked_ms + 5_000)
    while not answer:
        answer, _ = port.await_piece(port.now_ms + 5_000)
    assert answer[:2] == b"\xaa\xc0"
    edge.run(bench.config["end_ms"])
    after = [time_ms for _, time_ms in edge.pieces("dust")[len(expected) :]]
    assert after[0] <= asked_ms + 3000
    assert after[-1] - after[0] == 1000 * (len(after) - 1)
    edge.close()


def test_marks_never_outrun_the_ring(start_bench: Any, scenario: Make) -> None:
    """A device split into single bytes makes 90 marks a second: none is overwritten before it is read."""
    bench = start_bench(scenario("beam", hours=0.02, port={"faults": ["split"]}))
    edge = bench.edge()
    time.sleep(0.2)
    edge.run(bench.config["end_ms"])
    said = b"".join(piece for piece, _ in edge.pieces("beam"))
    whole = b"".join(piece for piece, _ in expected_pieces(TfLuna(Street(0, "plaza")), bench.config["end_ms"]))
    assert said == whole
    edge.close()


def test_pace_is_kept_after_the_fast_part(start_bench: Any, scenario: Make) -> None:
    """At full speed to `fast_until_ms`, then at 60 simulated seconds a second."""
    config = scenario("beam", "dust", fast_until_ms=START_MS + 600_000, speed=60)
    bench = start_bench(config)
    edge = bench.edge()
    before_s = time.monotonic()
    edge.run(START_MS + 599_000)
    assert time.monotonic() - before_s < 5
    before_s = time.monotonic()
    edge.run(START_MS + 660_000)
    assert 0.7 < time.monotonic() - before_s < 4
    edge.close()


def test_a_living_city_never_runs_ahead_of_the_wall_clock(scenario: Make) -> None:
    """Without an end the pace is the wall clock's at the most, whatever the speed."""
    config = scenario("dust", speed=None)
    config["end_ms"] = None
    wall_s = START_MS / 1000 + 7
    bench = Bench(parse_scenario(config), lambda _: None, wall=lambda: wall_s)
    try:
        assert bench.pace_ms() == START_MS + 7000
    finally:
        bench.stop()
        bench.run()


def test_sigterm_ends_it_cleanly(start_bench: Any, scenario: Make) -> None:
    """SIGTERM: exit status 0, links removed."""
    bench = start_bench(scenario("dust"))
    bench.process.send_signal(signal.SIGTERM)
    assert bench.process.wait(10) == 0


def test_time_line_is_private(start_bench: Any, scenario: Make) -> None:
    """Who can write the time line can move a gateway's clock: the directory is 0700."""
    bench = start_bench(scenario("dust"))
    directory = Path(bench.config["gateways"][0]["dir"])
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "timeline.map").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"skew_ms": 10}, "skew_ms"),
        ({"speed": 0}, "speed"),
        ({"start_ms": "now"}, "start_ms"),
        ({"speeed": 2}, "speeed: is unknown"),
        ({"gateways": [{"gateway": "g", "dir": "/d", "ports": []}]}, "gateways[0].ports"),
        ({"port": {"device": "sds012"}}, "gateways[0].ports[0].device: 'sds012' is unknown; write one of sds011"),
        ({"port": {"faults": ["gremlin"]}}, "fault 'gremlin' is unknown"),
        ({"port": {"set": {"pm2_5": -1}}}, "gateways[0].ports[0].set.pm2_5"),
        ({"port": {"source": {"kind": "street", "profile": "moon"}}}, "'moon'"),
        ({"port": {"source": {"kind": "dream"}}}, "source.kind"),
    ],
)
def test_wrong_configuration_is_one_line(scenario: Make, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """File, key, what is wrong, what to write instead; exit status 2."""
    config = {**scenario("dust", port=change.pop("port", None)), **change}
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "murmure_firmware_sim.bench", str(file)]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("murmure: ")
    assert said in run.stderr
    assert run.stderr.count("\n") == 1
