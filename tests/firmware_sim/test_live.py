"""`murmure sim device`: a device on a real pseudo-terminal and the wall clock."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import serial
from murmure_firmware_sim.devices import DEVICES
from murmure_firmware_sim.devices.sds011 import Sds011
from murmure_firmware_sim.errors import SimError
from murmure_firmware_sim.faults import FaultyDevice
from murmure_firmware_sim.live import LiveDevice
from murmure_firmware_sim.scenario import check_settings
from murmure_firmware_sim.steady import Steady

SimDevice = Callable[..., Path]
HEADER = "timestamp_utc,site,metric,value,unit\n"


def test_frames_come_at_their_rate_and_bytes_at_the_lines_pace(sim_device: SimDevice) -> None:
    """10 frames a second; at 9600 baud the ten bytes of a frame take ten milliseconds."""
    with serial.Serial(str(sim_device("tfluna")), 115200, timeout=3) as port:
        port.read(9)
        before_s = time.monotonic()
        assert port.read(90).count(b"YY") >= 9
        assert 0.7 < time.monotonic() - before_s < 3
    with serial.Serial(str(sim_device("sds011")), 9600, timeout=3) as port:
        spans_s = []
        for _ in range(3):
            port.read(1)
            before_s = time.monotonic()
            port.read(9)
            spans_s.append(time.monotonic() - before_s)
        assert 0.006 < max(spans_s) < 0.5


class Wire:
    """A port without a terminal, on a clock of its own: `command` is written to it `at_ms`, `said` is what it says."""

    master = -1

    def __init__(self, command: bytes, at_ms: float) -> None:
        self.now_s, self.said = 0.0, b""
        self._command, self._at_s = command, at_ms / 1000

    def read(self) -> bytes:
        if self.now_s < self._at_s:
            return b""
        command, self._command = self._command, b""
        return command

    def write(self, data: bytes) -> None:
        self.said += data

    def wait(self, seconds: float) -> bool:
        self.now_s += max(seconds, 1e-5)
        return True

    def client_baud(self) -> int:
        return 9600

    def heard(self) -> bool:
        return True

    def close(self) -> None:
        pass


@pytest.mark.parametrize("at_ms", range(440, 520, 2))
def test_nothing_comes_in_the_midst_of_a_frame_or_an_answer(at_ms: int) -> None:
    """The sensor has one wire: whenever it is asked, the measurement of that second and the answer are both whole."""
    wire = Wire(bytes.fromhex("aab407000000000000000000000000ffff05ab"), at_ms)
    device = FaultyDevice(Sds011(Steady((123, 261), 0, 1)), (), 0, 0)

    def end_in_time() -> tuple[()]:
        if wire.now_s >= 0.99:
            live.stop()
        return ()

    live = LiveDevice(device, wire, 0, 1, lambda: wire.now_s, lambda _: None, end_in_time)  # type: ignore[arg-type]
    live.run()
    frames = [wire.said[at : at + 10] for at in range(0, len(wire.said), 10)]
    assert sorted(frame[1] for frame in frames) == [0xC0, 0xC5], wire.said.hex()
    assert all(frame[0] == 0xAA and frame[9] == 0xAB and frame[8] == sum(frame[2:8]) & 0xFF for frame in frames)


def test_bytes_are_lost_while_nobody_listens(sim_device: SimDevice) -> None:
    """A client that comes late finds no old frames: at most what was said in the moment of opening."""
    link = sim_device("tfluna", "--set", "rate_hz=100")
    time.sleep(2.0)  # 1,800 bytes
    with link.open("rb", buffering=0) as port:
        first = port.read(4096)
    assert first is not None
    assert len(first) < 900


def test_passive_devices_speak_only_when_asked(sim_device: SimDevice) -> None:
    """Query mode and trigger mode at start."""
    with serial.Serial(str(sim_device("sds011", "--passive")), 9600, timeout=1.2) as port:
        assert port.read(1) == b""
        port.write(bytes.fromhex("aa b4 04 00 00 00 00 00 00 00 00 00 00 00 00 ff ff 02 ab"))
        assert port.read(10)[:2] == b"\xaa\xc0"
    with serial.Serial(str(sim_device("tfluna", "--passive")), 115200, timeout=0.5) as port:
        assert port.read(1) == b""
        port.write(bytes.fromhex("5a 04 04 62"))
        assert port.read(9)[:2] == b"YY"


def test_unplugged_device_hangs_up_and_comes_back(sim_device: SimDevice) -> None:
    """The link goes after a second and is back half a second later, with a device behind it."""
    link = sim_device("sds011", "--fault", "unplug:1/0.5")
    with serial.Serial(str(link), 9600, timeout=5) as port, pytest.raises(serial.SerialException):
        while True:
            port.read(100)
    until_s = time.monotonic() + 5
    while not link.is_symlink():
        assert time.monotonic() < until_s
        time.sleep(0.02)
    with serial.Serial(str(link), 9600, timeout=3) as port:
        assert len(port.read(10)) == 10


def test_recording_is_played_from_its_first_row(sim_device: SimDevice, tmp_path: Path) -> None:
    """At 600 times its speed a recording of PM shows its rows one after the other, and then silence."""
    file = tmp_path / "r.csv"
    rows = [
        f"2020-01-01T00:{m:02}:00Z,here,{k},{v + m},u\n" for m in range(10) for k, v in (("pm2_5", 10), ("pm10", 20))
    ]
    file.write_text(HEADER + "".join(rows))
    options = ("--replay", str(file), "--site", "here", "--metric", "pm2_5", "--speed", "200")
    with serial.Serial(str(sim_device("sds011", *options)), 9600, timeout=1) as port:
        seen = set()
        while len(frame := port.read(10)) == 10:
            seen.add((int.from_bytes(frame[2:4], "little") // 10, int.from_bytes(frame[4:6], "little") // 10))
    assert seen <= {(10 + m, 20 + m) for m in range(10)}
    assert len(seen) >= 4


@pytest.mark.parametrize("name", DEVICES)
def test_help_names_every_device_with_its_settings(name: str) -> None:
    """What `--set` takes is what `--help` lists, in the same words."""
    command = [sys.executable, "-m", "murmure.cli", "sim", "device", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    listed = said.partition("settings:")[2].partition("example:")[0]
    (line,) = [line for line in listed.splitlines() if name in line.split()]
    with pytest.raises(SimError) as refused:
        check_settings("", "", name, {"nonsense": 1})
    settings = refused.value.mend.removeprefix("write one of ").split(", ")
    assert set(line.split()) - set(DEVICES) - {"(ug/m3)"} == set(settings)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["sds012", "--link", "x"], f"NAME: 'sds012' is unknown; write one of {', '.join(DEVICES)}"),
        (["sds011", "--link", "/nowhere/x"], "--link: /nowhere is no directory"),
        (["sds011", "--link", "x", "--set", "level_db=3"], "--set level_db: is no setting of sds011"),
        (["sds011", "--link", "x", "--set", "pm2_5"], "--set pm2_5: '' is no number"),
        (["sds011", "--link", "x", "--speed", "0"], "--speed"),
        (["sds011", "--link", "x", "--fault", "gremlin"], "--fault: fault 'gremlin' is unknown"),
        (
            ["sds011", "--link", "x", "--replay", "none.csv", "--site", "a", "--metric", "pm2_5"],
            "none.csv: file: No such",
        ),
        (["sds011", "--link", "x", "--replay", "none.csv"], "--replay: stands without --site and --metric"),
        (["sds011", "--link", "x", "--site", "a"], "add --replay FILE"),
        (["tfluna", "--link", "x", "--replay", "n.csv", "--site", "a", "--metric", "co2"], "tfluna cannot play 'co2'"),
    ],
)
def test_wrong_option_is_one_line_with_the_mend(tmp_path: Path, options: list[str], said: str) -> None:
    """Exit status 2, one line on stderr, nothing on stdout, no link left."""
    run = subprocess.run(
        [sys.executable, "-m", "murmure.cli", "sim", "device", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("murmure: ")
    assert said in run.stderr
    assert run.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
