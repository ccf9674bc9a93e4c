"""Faults begin and end while a device or a bench runs, by hand and by scenario file, and are seen from outside."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from murmure_firmware_sim.errors import SimError
from murmure_firmware_sim.faults import parse_fault
from murmure_firmware_sim.host import Host
from murmure_firmware_sim.people import People
from murmure_firmware_sim.scenario import read_device_scenario

Make = Callable[..., dict[str, Any]]
START_MS = 1_794_600_000_000
README = Path(__file__).parents[2] / "firmware-sim" / "README.md"
PATIENCE_S = 40
REQUEST = bytes.fromhex("01 03 00 00 00 01 84 0a")


class Talking:
    """`murmure sim device` with its standard input in our hand."""

    def __init__(self, link: Path, name: str, *options: str) -> None:
        self.link = link
        command = [sys.executable, "-m", "murmure.cli", "sim", "device", name, "--link", str(link), *options]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{link}\n"

    def tell(self, line: str) -> None:
        """Sends a command and waits until it is repeated: it is done."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == f"{line}\n"

    def refused(self, line: str) -> str:
        """Sends a wrong command and returns what it complains of."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stderr.readline()


@pytest.fixture
def talking(tmp_path: Path) -> Iterator[Callable[..., Talking]]:
    """Starts devices that listen; each must end cleanly and leave no link."""
    running: list[Talking] = []

    def start(name: str, *options: str) -> Talking:
        running.append(Talking(tmp_path / f"{name}-{len(running)}", name, *options))
        return running[-1]

    yield start
    for each in running:
        each.process.terminate()
        each.process.communicate(timeout=10)
        assert each.process.returncode == 0
    assert not [path for path in tmp_path.iterdir() if path.is_symlink()], "a link was left behind"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of a megabyte, where this machine lets us mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a tmpfs here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_silence_and_values_are_switched_by_hand(talking: Callable[..., Talking]) -> None:
    """A level, another level, none, and the first again; its standard input may end, it goes on."""
    noise = talking("modbus_noise", "--set", "level_db=53.6")
    with serial.Serial(str(noise.link), 9600, timeout=0.5) as port:

        def level() -> int | None:
            port.write(REQUEST)
            answer = port.read(7)
            return int.from_bytes(answer[3:5]) if answer else None

        assert level() == 536
        noise.tell("set level_db=72")
        assert level() == 720
        noise.tell("fault silent on")
        assert level() is None
        noise.tell("fault silent off")
        noise.tell("set off")
        assert level() == 536
        assert noise.process.stdin is not None
        noise.process.stdin.close()
        noise.process.stdin = None
        assert level() == 536


def test_plug_is_pulled_by_hand_and_comes_back_elsewhere(talking: Callable[..., Talking]) -> None:
    """Who has it open sees it hang up; under the new name a device answers, the old one stays away."""
    dust = talking("sds011")
    with serial.Serial(str(dust.link), 9600, timeout=3) as port:
        port.read(10)
        dust.tell("fault unplug on")
        with pytest.raises(serial.SerialException):
            while True:
                port.read(100)
    assert not dust.link.is_symlink()
    dust.tell("fault unplug off")
    until(dust.link.is_symlink)
    dust.tell("fault unplug_renamed on")
    until(lambda: not dust.link.is_symlink())
    dust.tell("fault unplug_renamed off")
    renamed = dust.link.with_name(f"{dust.link.name}-2")
    until(renamed.is_symlink)
    assert not dust.link.is_symlink()
    with serial.Serial(str(renamed), 9600, timeout=3) as port:
        assert len(port.read(10)) == 10


def test_forbidden_port_has_no_mode_and_gets_it_back(talking: Callable[..., Talking]) -> None:
    """Mode 000 while the fault lasts, as it was after."""
    dust = talking("sds011")
    before = stat.S_IMODE(dust.link.stat().st_mode)
    dust.tell("fault permission on")
    until(lambda: stat.S_IMODE(dust.link.stat().st_mode) == 0)
    if os.geteuid():
        with pytest.raises(serial.SerialException, match="Permission denied"):
            serial.Serial(str(dust.link))
    dust.tell("fault permission off")
    until(lambda: stat.S_IMODE(dust.link.stat().st_mode) == before)


def test_second_reader_locks_the_port_and_steals_what_comes(talking: Callable[..., Talking]) -> None:
    """An exclusive opening is refused; a plain one misses frames, until the other has gone."""
    beam = talking("tfluna", "--fault", "second_reader:0.9")
    until(lambda: _is_taken(beam.link))
    with serial.Serial(str(beam.link), 115200, timeout=0.05) as port:
        until(lambda: _bytes_in(port, 2) < 120)  # of 180; whoever is quicker has them
        beam.tell("fault second_reader off")
        until(lambda: _bytes_in(port, 2) > 140)
    until(lambda: not _is_taken(beam.link))


def _is_taken(link: Path) -> bool:
    try:
        serial.Serial(str(link), exclusive=True).close()
    except serial.SerialException:
        return True
    return False


def _bytes_in(port: serial.Serial, for_s: float) -> int:
    """Looks every 50 ms for what has come, so that whoever waits for it is quicker, however busy the machine is. As
    pyserial has it, bytes that another took are an error."""
    port.reset_input_buffer()
    got, until_s = 0, time.monotonic() + for_s
    while time.monotonic() < until_s:
        time.sleep(0.05)
        try:
            got += len(port.read(port.in_waiting))
        except serial.SerialException as error:
            assert "multiple access on port" in str(error)
    return got


def test_small_disk_is_full_while_it_lasts(talking: Callable[..., Talking], small_disk: Path) -> None:
    """Not a byte more fits; afterwards nothing is left. Any other folder is refused."""
    dust = talking("sds011")
    dust.tell(f"fault disk_full:{small_disk} on")
    until(lambda: os.statvfs(small_disk).f_bavail == 0)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "more").write_bytes(b"x")
    (small_disk / "more").unlink()
    dust.tell(f"fault disk_full:{small_disk} off")
    until(lambda: not list(small_disk.iterdir()))
    assert "is not where a tmpfs is mounted" in dust.refused("fault disk_full:/etc on")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fault gremlin on", "'gremlin' is unknown; write one of"),
        ("fault silent", "is no command; write fault NAME[:ARG] on|off, or set KEY=VALUE"),
        ("set rate_hz=20", "is no value that tfluna shows; write one of crossings_per_min"),
        ("set crossings_per_min=many", "'many' is no number"),
        ("fault clock:10 on", "is only for simulated time; give it to a bench"),
    ],
)
def test_wrong_command_is_one_line_and_nothing_stops(talking: Callable[..., Talking], line: str, said: str) -> None:
    """It complains on standard error and plays on."""
    beam = talking("tfluna")
    complaint = beam.refused(line)
    assert complaint.startswith("murmure: stdin: ")
    assert said in complaint
    beam.tell("fault split on")


def test_example_of_the_page_is_a_scenario_file(tmp_path: Path) -> None:
    """What stands in the README can be played."""
    (example,) = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    file = tmp_path / "example.toml"
    file.write_text(example)
    scenario = read_device_scenario(file, "ld2450")
    assert isinstance(scenario.source, People)
    assert [(fault.name, fault.arg, fault.from_s, fault.to_s - fault.from_s) for fault in scenario.faults] == [
        ("trickle", 0.2, 60, 30),
        ("new_baud", 115200, 120, 10**9 - 120),
    ]
    assert scenario.seed == 7


def test_scenario_file_is_played_second_by_second(talking: Callable[..., Talking], tmp_path: Path) -> None:
    """Sixty times as fast: values, then others, then silence, then the first, each for its time."""
    file = tmp_path / "evening.toml"
    file.write_text(
        "[set]\npm2_5 = 12.3\npm10 = 26.1\n"
        "[[event]]\nat_s = 60\nfor_s = 60\nset = { pm2_5 = 90 }\n"
        '[[event]]\nat_s = 120\nfor_s = 60\nfault = "silent"\n'
    )
    dust = talking("sds011", "--scenario", str(file), "--speed", "60")
    seen: list[int] = []
    with serial.Serial(str(dust.link), 9600, timeout=0.3) as port:
        until_s = time.monotonic() + 5
        while time.monotonic() < until_s:
            frame = port.read(10)
            value = int.from_bytes(frame[2:4], "little") if len(frame) == 10 else -1
            if seen[-1:] != [value]:
                seen.append(value)
    assert seen[:4] == [123, 900, -1, 123]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = 'x'", "seed: is missing or of another kind; write 0 or more"),
        ("seed =", "TOML: cannot be read"),
        ("speed = 3", "speed: is unknown; leave it out"),
        ("passive = 1", "passive: is of another kind; write true or false"),
        ("[set]\nlevel_db = 3", "set.level_db: is no setting of sds011"),
        ("[[event]]\nfault = 'silent'", "event[0].at_s: is missing or of another kind"),
        ("[[event]]\nat_s = 3", "event[0].fault: stands beside set, or neither is there"),
        ("[[event]]\nat_s = 3\nfault = 'gremlin'", "event[0].fault: fault 'gremlin' is unknown"),
        ("[[event]]\nat_s = 3\nfault = 'silent@3-4'", "has a time of its own; write at_s and for_s"),
        ("[[event]]\nat_s = -3\nfault = 'silent'", "lies before the start"),
        ("[[event]]\nat_s = 3\nset = { average_ms = 9 }", "event[0].set.average_ms: is no value that sds011 shows"),
        ("[[event]]\nat_s = 3\nset = { pm10 = -1 }", "event[0].set.pm10: -1 is out of range"),
        ("[[event]]\nat_s = 3\nfault = 'clock'", "is only for simulated time"),
        ("[source]\nkind = 'dream'", "source.kind: 'dream' is unknown; write street, people or replay"),
        ("[source]\nkind = 'people'\nscene = 'ballet'", "'ballet' is unknown; write one of ordinary"),
        ("[source]\nkind = 'people'\nper_min = 999", "source.per_min: 999 is out of range"),
        ("[set]\npm10 = 3\n[source]\nkind = 'street'", "stands beside values in [set]"),
        ("[source]\nkind = 'people'\n[[event]]\nat_s = 1\nset = { pm10 = 3 }", "has no meaning among people"),
    ],
)
def test_wrong_scenario_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    """File, key, what is wrong, what to write instead."""
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(SimError) as caught:
        read_device_scenario(file, "sds011")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scenario_file_beside_other_options_is_refused(tmp_path: Path) -> None:
    """Two seeds or two sources: exit status 2, one line."""
    file = tmp_path / "s.toml"
    file.write_text("[source]\nkind = 'people'\n")
    for options in (["--seed", "3"], ["--set", "crossings_per_min=3"], ["--scenario", str(tmp_path / "none.toml")]):
        command = [sys.executable, "-m", "murmure.cli", "sim", "device", "ld2450", "--link", str(tmp_path / "x")]
        run = subprocess.run(
            [*command, "--scenario", str(file), *options], capture_output=True, text=True, timeout=20, check=False
        )
        assert (run.returncode, run.stdout) == (2, "")
        assert run.stderr.count("\n") == 1


def test_bench_switches_at_the_hold_exactly(start_bench: Any, scenario: Make) -> None:
    """Held at 100 s: silent from there; released to 200 s and switched off: there it speaks again."""
    bench = start_bench(scenario("dust", hours=0.1, hold_ms=START_MS + 100_000))
    edge = bench.edge()
    edge.run(START_MS + 100_000)
    bench.await_event("held")
    bench.tell({"port": "gw-0/dust", "fault": "silent", "on": True})
    assert bench.await_event("switched")["sim_ms"] == START_MS + 100_000
    bench.tell({"hold_ms": START_MS + 200_000})
    edge.run(START_MS + 200_000)
    bench.tell({"port": "gw-0/dust", "fault": "silent", "on": False})
    bench.tell({"hold_ms": None})
    edge.run(bench.config["end_ms"])
    seconds = [(time_ms - START_MS) // 1000 for _, time_ms in edge.pieces("dust")]
    assert seconds == [*range(100), *range(200, 360)]
    edge.close()


def test_bench_takes_values_and_events(start_bench: Any, scenario: Make) -> None:
    """An event of the configuration, then a value told at the hold, then what was there before."""
    port = {"set": {"level_db": 50}, "events": [{"at_s": 10, "for_s": 10, "set": {"level_db": 60}}]}
    bench = start_bench(scenario("noise", hours=0.1, hold_ms=START_MS + 30_000, port=port))
    edge = bench.edge()
    edge.run(START_MS + 30_000)
    bench.tell({"port": "gw-0/noise", "set": {"level_db": 72}})
    bench.await_event("switched")
    bench.tell({"hold_ms": START_MS + 40_000})
    edge.run(START_MS + 40_000)
    bench.tell({"port": "gw-0/noise", "set": None})
    bench.tell({"hold_ms": None})
    edge.run(START_MS + 50_000)
    levels = [int.from_bytes(said[3:5]) for said, _ in edge.pieces("noise") if said]
    assert levels == [500] * 10 + [600] * 10 + [500] * 10 + [720] * 10 + [500] * 10
    edge.close()


def test_bench_pulls_the_plug_when_told(start_bench: Any, scenario: Make) -> None:
    """Everything before it arrives; then the link is gone, until it is told to put it back."""
    bench = start_bench(scenario("dust", hours=0.1, hold_ms=START_MS + 60_000))
    edge = bench.edge()
    port = edge.ports["dust"]
    edge.run(START_MS + 60_000)
    bench.await_event("held")
    bench.tell({"port": "gw-0/dust", "fault": "unplug_renamed", "on": True})
    until(lambda: not port.link.is_symlink())
    assert len(edge.pieces("dust")) == 60
    bench.tell({"port": "gw-0/dust", "fault": "unplug_renamed", "on": False})
    until(port.link.with_name("gw-0-dust-2").is_symlink)
    edge.close()


@pytest.mark.parametrize("step_s", [3600, -2 * 86_400])
def test_wrong_clock_holds_from_the_next_start(start_bench: Any, scenario: Make, step_s: int) -> None:
    """An hour ahead, two days behind: START, marks and requests by that clock; what is seen is not moved."""
    bench = start_bench(
        scenario("dust", "noise", port={"faults": [f"clock:{step_s}@60-100000"]}, hold_ms=START_MS + 60_000)
    )
    first = bench.edge()
    assert first.start_ms == START_MS
    first.run(START_MS + 60_000)
    bench.await_event("held")
    first.close()
    bench.tell({"hold_ms": None})
    second = bench.edge()
    ahead_ms = 2 * step_s * 1000  # each of the two ports has the fault
    assert second.start_ms == START_MS + 60_000 + ahead_ms
    second.run(second.start_ms + 60_000)
    noise = [(time_ms - second.start_ms) // 1000 for said, time_ms in second.pieces("noise") if said]
    assert noise == list(range(60))
    assert [said for said, _ in first.pieces("dust")] != [said for said, _ in second.pieces("dust")]
    assert {time_ms - second.start_ms for _, time_ms in second.pieces("dust")[:60]} == set(range(500, 60_500, 1000))
    second.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": "gw-0/none", "fault": "silent", "on": True},
        {"port": "gw-0/dust"},
        {"port": "gw-0/dust", "fault": "gremlin", "on": True},
        {"port": "gw-0/dust", "set": {"average_ms": 1}},
        {"port": "gw-0/dust", "fault": "disk_full:/etc", "on": True},
    ],
)
def test_bench_refuses_a_wrong_command_and_goes_on(start_bench: Any, scenario: Make, wrong: dict[str, Any]) -> None:
    """The line and the mend in an event; the next command is heard."""
    bench = start_bench(scenario("dust", hours=0.01))
    bench.tell(wrong)
    refused = bench.await_event("refused")
    assert json.loads(refused["line"]) == wrong
    assert refused["mend"]
    bench.tell({"port": "gw-0/dust", "fault": "silent", "on": True})
    bench.await_event("switched")


def test_nothing_but_a_small_tmpfs_is_ever_filled(tmp_path: Path) -> None:
    """The last look is just before the first byte."""

    class NoPort:
        master = -1

    host = Host(NoPort())  # type: ignore[arg-type]
    fault = parse_fault(f"disk_full:{tmp_path}")
    with pytest.raises(SimError, match="is not where a tmpfs is mounted"):
        host.look({"disk_full": fault}.get)
    assert not list(tmp_path.iterdir())
