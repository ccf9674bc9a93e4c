"""A whole visit: how long it takes, what it leaves behind, what it says while `sense` runs, what it refuses."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from murmure_edge.config import PortConfig
from murmure_edge.doctor.command import Doctor, Surroundings
from murmure_edge.doctor.examine import driver_of, examine
from murmure_edge.doctor.fixes import RULES
from murmure_edge.doctor.modbus_scan import ANSWERS, EXCEPTION, OTHER, SILENT, SPOILED, verdict
from murmure_edge.link import LinkDenied
from murmure_edge.sensors import DRIVERS
from murmure_edge.serial_link import SerialLink
from murmure_privacy.errors import ConfigError
from murmure_privacy.release import Health
from murmure_privacy.wire import new_key, seal_health

SDS_IS_IT_ASLEEP = bytes.fromhex("aab406000000000000000000000000ffff04ab")
LD2450_CONFIGURE = bytes.fromhex("fdfcfbfa0400ff00010004030201")
LD2450_SINGLE = bytes.fromhex("fdfcfbfa0200800004030201")
LD2450_END = bytes.fromhex("fdfcfbfa0200fe0004030201")


def test_a_healthy_sensor_is_known_within_ten_seconds(clinic: Any) -> None:
    """From the start of the command to its verdict, everything included."""
    link = clinic.start("sds011")
    words = [sys.executable, "-m", "murmure.cli", "edge", "doctor", "--port", str(link), "--device", "sds011", "--json"]
    before_s = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert time.monotonic() - before_s < 10
    told = {finding["code"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert told["sensor.ok"]["about"]["identity"] == "device_id a160, firmware 2015-07-10", done.stdout
    assert done.returncode == int(any(finding["severity"] == "failure" for finding in told.values()))


@pytest.fixture(scope="module")
def healthy(large_clinic: Any) -> dict[str, dict[str, Any]]:
    """What is found on a gateway with all eight sensors in order."""
    links = [(name, name, large_clinic.start(f"{name} {WELL.get(name, '')}")) for name in DRIVERS]
    _, printed = large_clinic.visit(f"--config {large_clinic.gateway(*links)} --json")
    for _, _, link in links:
        large_clinic.sensors.stop(link)
    return {name: {"found": [f for f in json.loads(printed)["findings"] if f["port"] == name]} for name in DRIVERS}


WELL = {"ld2450": "--set bluetooth=0"}


@pytest.mark.parametrize("device", DRIVERS)
def test_a_sensor_in_order_is_told_so(device: str, healthy: dict[str, dict[str, Any]]) -> None:
    """All eight at once: one finding each, that it works, and who it is."""
    (found,) = healthy[device]["found"]
    assert found["code"] == "sensor.ok"
    assert found["about"]["frames"] >= 2 and found["about"]["rejected"] == 0


def _asked(link: Path, command: bytes, baud: int = 9600, for_s: float = 1.5) -> bytes:
    with serial.Serial(str(link), baud, timeout=for_s) as port:
        port.reset_input_buffer()
        if command:
            port.write(command)
        return bytes(port.read(4096)) if baud < 200_000 else bytes(port.read(40))


def _is_asleep(link: Path) -> bool:
    return b"\xaa\xc5\x06\x00\x00" in _asked(link, SDS_IS_IT_ASLEEP)


class Lossy(SerialLink):
    """A line on which the answer to the first question is lost."""

    asked = False

    def __init__(self, path: str, baud: int, stop: threading.Event) -> None:
        super().__init__(path, baud, stop)
        self._deaf_until_ms = 0

    def write(self, data: bytes, answer_by_ms: int) -> None:
        if data == SDS_IS_IT_ASLEEP and not Lossy.asked:
            Lossy.asked, self._deaf_until_ms = True, answer_by_ms
        super().write(data, answer_by_ms)

    def read(self, deadline_ms: int) -> tuple[bytes, int]:
        data, now_ms = super().read(deadline_ms)
        return (b"", now_ms) if now_ms < self._deaf_until_ms else (data, now_ms)


def test_a_lost_answer_puts_no_sensor_to_sleep(clinic: Any) -> None:
    """One that speaks is awake, whatever became of its answer: it is neither called asleep nor left so."""
    link = clinic.start("sds011")
    assert "sensor.ok" in clinic.findings(f"--port {link} --device sds011", make_link=Lossy)
    assert Lossy.asked and not _is_asleep(link)


@pytest.mark.long
def test_a_sensor_is_left_as_it_was_found_unless_told_to_mend(clinic: Any) -> None:
    """One that slept sleeps, one that spoke speaks, a radar's Bluetooth stays on; with --fix --yes it is otherwise."""
    dust, plantower, radar = clinic.start("sds011 --fault sleeping"), clinic.start("pmsx003"), clinic.start("ld2450")
    gateway = clinic.gateway(("dust", "sds011", dust), ("plantower", "pmsx003", plantower), ("radar", "ld2450", radar))
    codes = {
        (finding["port"], finding["code"])
        for finding in json.loads(clinic.visit(f"--config {gateway} --json --fix")[1])["findings"]
    }
    assert {("dust", "sensor.asleep"), ("plantower", "sensor.ok"), ("radar", "privacy.bluetooth")} <= codes
    assert _is_asleep(dust)
    assert b"\x42\x4d\x00\x1c" in _asked(plantower, b"")
    _, printed = clinic.visit(f"--config {gateway} --json --fix --yes")
    told = json.loads(printed)
    assert {(fix["fix"], fix["port"], fix["done"]) for fix in told["fixes"]} == {
        ("wake", "dust", True),
        ("set", "radar", True),
    }
    codes = {(finding["port"], finding["code"]) for finding in told["findings"]}
    assert {("dust", "sensor.ok"), ("plantower", "sensor.ok"), ("radar", "sensor.ok")} <= codes
    assert not _is_asleep(dust)


def test_what_could_be_mended_is_named_and_not_done(clinic: Any) -> None:
    """--fix alone says it; --yes writes the rules, and nothing else on the machine changes."""
    rights = {"dev/ttyUSB0": "", "etc/passwd": "murmure-sense:x:64990:64990::/:/bin/false"}
    usb = {"sys/devices/usb1/1-1.2/idVendor": "1a86", "sys/devices/usb1/1-1.2/tty/x": ""}
    usb |= {"sys/class/tty/ttyUSB0/device": "-> ../../../devices/usb1/1-1.2/tty"}
    machine = clinic.machine(rights | usb, {"dev/ttyUSB0": "600"})
    ask = "--port /dev/ttyUSB0 --device sds011 --lang en --fix"
    _, printed = clinic.visit(ask, machine=machine)
    assert f"--yes: -: write {RULES} and reload udev" in printed
    assert not machine.at(RULES).exists()
    clinic.visit(f"{ask} --yes", machine=machine)
    assert machine.at(RULES).read_text().splitlines()[1] == (
        'SUBSYSTEM=="tty", KERNELS=="1-1.2", SYMLINK+="murmure/ttyUSB0", GROUP="murmure-serial", MODE="0660"'
    )


@pytest.mark.long
def test_a_radar_with_settings_of_another_use(clinic: Any) -> None:
    """One target only, kept in its flash: told, and changed only when asked."""
    link = clinic.start("ld2450 --set bluetooth=0 baud=115200")
    with serial.Serial(str(link), 115200, timeout=0.3) as port:
        for command in (LD2450_CONFIGURE, LD2450_SINGLE, LD2450_END):
            port.write(command)
            port.read(64)
    ask = f"--port {link} --device ld2450 --set baud=115200"
    assert "sensor.settings" in clinic.findings(ask)
    told = json.loads(clinic.visit(f"{ask} --json --fix --yes")[1])
    assert [(fix["fix"], fix["done"]) for fix in told["fixes"]] == [("set", True)]  # it was as before until then
    assert "sensor.ok" in {finding["code"] for finding in told["findings"]}


class Parrot:
    """A sensor whose RX wire is broken: it says the same every second and hears nothing."""

    def __init__(self, link: Path, frame: bytes) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        link.symlink_to(os.ttyname(slave))
        os.close(slave)
        self._frame, self._stop = frame, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        while not self._stop.wait(0.5):
            if not any(event & select.POLLHUP for _, event in poll.poll(0)):
                os.write(self.master, self._frame)

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self.master)


@pytest.mark.long
@pytest.mark.parametrize(
    ("device", "frame"),
    [
        ("sds011", "aac0d4043a0aa1601dab"),
        ("pmsx003", "424d001c0008000c000d0008000c000d06ae01d9004c000a000200029700034f"),
    ],
)
def test_a_sensor_that_hears_nothing(clinic: Any, device: str, frame: str) -> None:
    """It speaks and obeys no order: the wire to its RX."""
    data = bytearray.fromhex(frame)
    if device == "pmsx003":
        data[-2:] = sum(data[:-2]).to_bytes(2, "big")
    parrot = Parrot(clinic.folder / "parrot", bytes(data))
    try:
        assert "sensor.deaf" in clinic.findings(f"--port {clinic.folder / 'parrot'} --device {device}")
    finally:
        parrot.end()


def test_a_port_that_may_not_be_opened() -> None:
    """Whoever has no right gets the sentence for it, root or not."""

    class Denied(SerialLink):
        def open(self) -> None:
            raise LinkDenied("no") from PermissionError(13, "no")

    port = PortConfig("dust", "sds011", "/dev/x", {}, None, {})
    result = examine(port, lambda baud, stop: Denied("/dev/x", baud, stop), tuple, stop=threading.Event())
    assert [finding.code for finding in result.findings] == ["port.denied"]
    assert driver_of(port).NAME == "sds011"


REPLY, EXCEPTION_REPLY = "0103020218b92e", "018302c0f1"


@pytest.mark.parametrize(
    ("raw", "address", "what"),
    [
        (REPLY, 1, ANSWERS),
        (EXCEPTION_REPLY, 1, EXCEPTION),
        (REPLY, 2, OTHER),
        ("0103020218b92f", 1, SPOILED),
        ("00ff00", 1, SPOILED),
        ("", 1, SILENT),
        ("ff" + REPLY, 1, ANSWERS),
    ],
)
def test_each_answer_on_a_modbus_line_has_its_class(raw: str, address: int, what: str) -> None:
    """No answer, spoiled, refused, of another address, or right."""
    assert verdict(bytes.fromhex(raw), address) == what


STATES = {"beam": "ok", "noise": "stalled", "dust": "wrong-device", "air": "warming"}


@pytest.fixture
def running(clinic: Any) -> Iterator[Path]:
    """A gateway whose `sense` runs: it holds the lock, and has reported."""
    config: Path = clinic.gateway(*((name, "sds011", clinic.folder / name) for name in STATES))
    data, outbox = clinic.folder / "data", clinic.folder / "spool" / "outbox"
    data.mkdir()
    outbox.mkdir(parents=True)
    secret, _ = new_key()
    (data / "record.key").write_text(secret.hex())
    (data / "record.key").chmod(0o600)
    ports = tuple(STATES.items())
    report = Health("gw-x", "centre", 1_795_000_500, 600, 1, "murmure", ports, 3, "ok", None, 1024)
    (outbox / "health.cose").write_bytes(seal_health(report, secret))
    with (data / "gateway.db.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield config


def test_while_sense_runs_no_port_is_opened(clinic: Any, running: Path) -> None:
    """What it has reported is told, with how to see more."""

    def never(path: str, baud: int, stop: threading.Event) -> SerialLink:
        raise AssertionError(path)

    told = clinic.findings(f"--config {running}", make_link=never)
    assert {"sense.running", "sense.ok", "sense.stalled", "sense.wrong_device"} <= told.keys()
    assert "systemctl stop murmure-sense" in told["sense.running"]["gesture"]["fr"]
    assert told["sense.running"]["about"]["at"] == "2026-11-18 11:15"
    status, text = clinic.visit(f"--config {running} --lang fr", make_link=never)
    assert status == 1 and "Pour `sense`, le capteur noise se tait." in text
    (clinic.folder / "spool" / "outbox" / "health.cose").unlink()
    assert "sense.no_report" in clinic.findings(f"--config {running}", make_link=never)


def test_the_live_page_shows_what_sense_has_said(clinic: Any, running: Path) -> None:
    """States only: it holds the ports."""
    doctor = Doctor(clinic.wish_of(f"--config {running} --watch"), Surroundings())
    assert {row.port: row.state for row in doctor._rows_of_sense()} == STATES


def test_a_lock_that_nobody_holds_is_no_sense(clinic: Any, running: Path) -> None:
    """The file stays when sense ends; only the kernel's list of locks tells."""
    doctor = Doctor(clinic.wish_of(f"--config {running}"), Surroundings())
    assert doctor._ask_sense() is True
    (clinic.folder / "data" / "gateway.db.lock").unlink()
    (clinic.folder / "data" / "gateway.db.lock").touch()
    assert doctor._ask_sense() is False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--device sds011", "edge doctor: --device: stands without --port"),
        ("--port /dev/x --set slave=3", "edge doctor: --set: stands without --device"),
        ("--yes", "edge doctor: --yes: stands without --fix"),
        ("--seconds 0", "edge doctor: --seconds: 0 is out of range"),
        ("--port /dev/x --device sds012", 'edge doctor: --device: "sds012": no such device; write one of'),
        ("--port /dev/x --device sds011 --set slave=3", "edge doctor: --set slave: unknown key; sds011 knows"),
        ("--port /dev/x --device sds011 --set slave", "edge doctor: --set: 'slave' is no setting; write KEY=VALUE"),
        ("--config /nowhere/gateway.toml", "/nowhere/gateway.toml: file: is not there"),
        ("--watch", "edge doctor: --watch: standard output is no terminal; add --json"),
    ],
)
def test_a_mistake_is_one_line(words: str, said: str, tmp_path: Path) -> None:
    """Status 2, and what to write instead."""
    command = [sys.executable, "-m", "murmure.cli", "edge", "doctor", *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.startswith(f"murmure: {said}") and done.stderr.count("\n") == 1


def test_a_setting_in_gateway_toml_that_a_device_does_not_know(clinic: Any) -> None:
    """Named with its place in the file."""
    file = clinic.gateway(("dust", "sds011", "/dev/x"))
    file.write_text(file.read_text() + "slave = 3\n")
    with pytest.raises(ConfigError, match=r"gateway\.toml: port 1\.slave: unknown key; sds011 knows"):
        clinic.visit(f"--config {file}")


def test_ctrl_c_leaves_a_sleeping_sensor_asleep(clinic: Any) -> None:
    """In the midst of a visit: it ends with 0, and the sensor is as it was found."""
    link = clinic.start("sds011 --fault sleeping")
    words = [sys.executable, "-m", "murmure.cli", "edge", "doctor", "--port", str(link), "--device", "sds011"]
    visit = subprocess.Popen([*words, "--seconds", "60"], stdout=subprocess.PIPE)
    time.sleep(4)
    visit.send_signal(2)
    assert visit.wait(20) == 0
    assert visit.stdout is not None and visit.stdout.read() == b""
    visit.stdout.close()
    assert _is_asleep(link)
