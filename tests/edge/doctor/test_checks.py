"""What the machine says of itself, on planted machines: the edges that the exercises do not show."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_edge import clock
from murmure_edge.config import PortConfig, load
from murmure_edge.doctor import checks
from murmure_edge.doctor.machine import Machine

NOW_MS = 1_795_000_000_000
USERS = {
    "etc/passwd": "root:x:0:0::/:/bin/sh\nmurmure-sense:x:990:990::/:/bin/false\n",
    "etc/group": "root:x:0:\nplugdev:x:46:anna\nmurmure-serial:x:991:murmure-sense\ndialout:x:20:\n",
}
DEVICES = {
    "sys/devices/usb1/1-1/idVendor": "0403",
    "sys/devices/usb1/1-1/idProduct": "6001",
    "sys/devices/usb1/1-1/serial": "A1",
    "sys/devices/usb1/1-1/1-1:1.0/bInterfaceNumber": "00",
    "sys/class/tty/ttyUSB0/device": "-> ../../../devices/usb1/1-1/1-1:1.0",
    "sys/class/tty/ttyS0/type": "0",
    "sys/class/tty/ttyS0/device/x": "",
    "sys/class/tty/tty7/x": "",
    "dev/ttyUSB0": "",
    "dev/serial/by-path/pci-1": "-> ../../ttyUSB0",
    "dev/serial/by-id/usb-FTDI_A1": "-> ../../ttyUSB0",
}


def _port(path: str, device: str = "sds011") -> PortConfig:
    return PortConfig("dust", device, path, {}, None, {})


def _place(machine: Machine, *ports: PortConfig, config: Any = None, now_ms: int = NOW_MS, ntp: bool = False) -> Any:
    return checks.Place(machine, config, ports, lambda: ntp, lambda: now_ms)


def _codes(found: Any) -> list[str]:
    return [finding.code for finding in found]


def test_a_port_is_listed_with_everything_that_names_it(clinic: Any) -> None:
    """USB numbers, serial, by-id, by-path, owner, group, and who holds it; places without hardware are left out."""
    files = DEVICES | USERS | {"proc/4711/comm": "minicom\n", "proc/4711/fd/5": "-> /dev/ttyUSB0"}
    (port,) = clinic.machine(files).serial_ports()
    told = port.as_json()
    assert (told["node"], told["usb"], told["serial"]) == ("/dev/ttyUSB0", "0403:6001", "A1")
    assert told["by_id"] == ["/dev/serial/by-id/usb-FTDI_A1"] and told["by_path"] == ["/dev/serial/by-path/pci-1"]
    assert told["held_by"] == [{"pid": 4711, "program": "minicom"}]
    assert port.interface == "00"


@pytest.mark.parametrize(
    ("gid", "mode", "unit", "code"),
    [
        (991, 0o660, "", None),
        (46, 0o660, "", "rights.group"),
        (20, 0o660, "dialout", None),
        (20, 0o660, "", "rights.group"),
        (991, 0o640, "", "rights.mode"),
        (46, 0o600, "", "rights.mode"),
        (46, 0o666, "", None),
    ],
)
def test_rights_are_those_of_the_service(clinic: Any, gid: int, mode: int, unit: str, code: str | None) -> None:
    """By the device's real group, whichever it is on this system, and with the groups that the unit adds."""
    files = USERS | {"dev/ttyACM0": ""}
    if unit:
        files |= {"etc/systemd/system/murmure-sense.service": f"[Service]\nSupplementaryGroups={unit}\n"}
    owned = SimpleNamespace(st_uid=0, st_gid=gid, st_mode=0o20000 | mode)
    machine = clinic.machine(files, stat=lambda path: owned)
    found = list(checks.rights(_place(machine, _port("/dev/ttyACM0")), uid=0))
    assert _codes(found) == ([code] if code else [])
    if code == "rights.group":
        assert found[0].about["group"] == {46: "plugdev", 20: "dialout"}[gid]
        assert found[0].about["user"] == "murmure-sense"


def test_without_the_service_the_rights_are_those_of_who_asks(clinic: Any) -> None:
    """Before installation the doctor looks with the eyes of its own user."""
    files = {"etc/passwd": "anna:x:1000:1000::/:/bin/sh\n", "etc/group": "plugdev:x:46:anna\n", "dev/ttyUSB0": ""}
    owned = SimpleNamespace(st_uid=0, st_gid=20, st_mode=0o20660)
    machine = clinic.machine(files, stat=lambda path: owned)
    (found,) = checks.rights(_place(machine, _port("/dev/ttyUSB0")), uid=1000)
    assert (found.code, found.about["user"], found.about["group"]) == ("rights.group", "anna", "20")


def test_a_console_elsewhere_is_no_trouble(clinic: Any) -> None:
    """The kernel may write to a line on which no sensor is."""
    machine = clinic.machine({"dev/ttyAMA0": "", "dev/ttyUSB0": "", "proc/cmdline": "console=ttyAMA0,115200"})
    assert _codes(checks.board_uart(_place(machine, _port("/dev/ttyUSB0")))) == []
    assert _codes(checks.board_uart(_place(machine, _port("/dev/ttyAMA0")))) == ["uart.console"]


@pytest.mark.parametrize(
    ("model", "overlay", "node", "codes"),
    [
        ("Raspberry Pi 4 Model B", "disable-bt", "ttyAMA0", []),
        ("Raspberry Pi 4 Model B", "vc4-kms-v3d", "ttyAMA0", ["uart.bluetooth"]),
        ("Raspberry Pi 5 Model B", "", "ttyAMA0", []),
        ("Raspberry Pi Zero 2 W", "", "ttyS0", ["uart.mini"]),
        ("Radxa ROCK 4", "", "ttyS0", []),
    ],
)
def test_the_uart_of_a_raspberry(clinic: Any, model: str, overlay: str, node: str, codes: list[str]) -> None:
    """Bluetooth has the good UART of most, until an overlay takes it away."""
    files = {"proc/device-tree/model": model, "boot/firmware/config.txt": f"dtoverlay={overlay}\n", f"dev/{node}": ""}
    assert _codes(checks.board_uart(_place(clinic.machine(files), _port(f"/dev/{node}")))) == codes


RTC = "sys/class/rtc/rtc0/since_epoch"


@pytest.mark.parametrize(
    ("white", "files", "ntp", "now_ms", "codes"),
    [
        (True, {}, True, NOW_MS, ["clock.no_rtc"]),
        (True, {"sys/class/rtc/rtc0/name": "x"}, False, NOW_MS, ["clock.no_rtc"]),
        (True, {RTC: str(NOW_MS // 1000)}, False, NOW_MS, []),
        (False, {}, True, NOW_MS, []),
        (False, {}, False, NOW_MS, ["clock.unsynced"]),
        (False, {RTC: str(NOW_MS // 1000)}, False, NOW_MS, ["clock.by_rtc"]),
        (False, {RTC: str(NOW_MS // 1000 + 60)}, True, NOW_MS, ["clock.rtc_off"]),
        (False, {}, True, clock.EARLIEST_MS - 1, ["clock.unset"]),
    ],
)
def test_who_knows_the_time(
    clinic: Any, white: bool, files: dict[str, str], ntp: bool, now_ms: int, codes: list[str]
) -> None:
    """A white zone needs a clock with a battery that goes; elsewhere the network's time is enough."""
    config = load(clinic.gateway(more="" if white else '[broker]\nhost = "127.0.0.1"\n'))
    assert _codes(checks.time(_place(clinic.machine(files), config=config, now_ms=now_ms, ntp=ntp))) == codes


@pytest.mark.parametrize(
    ("free_mb", "codes"), [(50, ["storage.full"]), (199, ["storage.full"]), (700, ["storage.low"]), (1000, [])]
)
def test_a_disk_that_fills_up(clinic: Any, free_mb: int, codes: list[str]) -> None:
    """Below 200 MB messages are in danger, below 1 GB somebody should come."""
    disk = SimpleNamespace(f_bavail=free_mb, f_frsize=1_000_000)
    assert _codes(checks.storage(_place(clinic.machine({}, statvfs=lambda path: disk)))) == codes


def test_what_the_kernel_says_of_power(clinic: Any) -> None:
    """vcgencmd where the file is missing; an under-voltage that only the log has kept; two plugs are no trouble."""
    said = {("vcgencmd", "get_throttled"): "throttled=0x50005\n", ("dmesg",): "usb 1-1: USB disconnect\n" * 2}
    assert _codes(checks.power(_place(clinic.machine({}, output=said.get)))) == ["power.low"]
    said = {("journalctl", "-k", "-b", "--no-pager", "-q"): "hwmon hwmon1: Undervoltage detected!\n"}
    assert _codes(checks.power(_place(clinic.machine({}, output=said.get)))) == ["power.was_low"]


def test_a_microphone_counts_before_its_driver_is_loaded(clinic: Any) -> None:
    """An interface of the audio class on the same plug is enough; a headset on another plug is nobody's business."""
    meter = DEVICES | {"sys/devices/usb1/1-1/1-1:1.2/bInterfaceClass": "01"}
    headset = DEVICES | {"sys/devices/usb1/1-2/1-2:1.0/sound/card1/pcmC1D0c/x": ""}
    for files, codes in ((meter, ["privacy.microphone"]), (headset, [])):
        assert _codes(checks.privacy(_place(clinic.machine(files), _port("/dev/ttyUSB0", "nsrt_mk3")))) == codes


@pytest.mark.parametrize(
    ("swaps", "unit", "cgroup", "codes"),
    [
        ("/dev/zram0 partition 1 0 100", "", False, []),
        ("/var/swap file 1 0 -2", "", False, ["privacy.swap"]),
        ("/var/swap file 1 0 -2", "MemorySwapMax=0", True, []),
        ("/var/swap file 1 0 -2", "MemorySwapMax=0", False, ["privacy.swap"]),
    ],
)
def test_swap_on_a_disk(clinic: Any, swaps: str, unit: str, cgroup: bool, codes: list[str]) -> None:
    """Compressed memory is memory; a disk is not, unless the unit may not use it and the kernel heeds that."""
    files = {"proc/swaps": f"Filename Type Size Used Priority\n{swaps}\n"}
    if unit:
        files |= {"usr/lib/systemd/system/murmure-sense.service": f"[Service]\n{unit}\n"}
    if cgroup:
        files |= {"sys/fs/cgroup/cgroup.controllers": "memory"}
    assert _codes(checks.privacy(_place(clinic.machine(files)))) == codes


def test_files_of_a_gateway_that_look_like_recordings(clinic: Any) -> None:
    """Traces and core dumps where its files lie are named; its own files are not."""
    config = load(clinic.gateway())
    files = {f"{clinic.folder}/data/{name}".lstrip("/"): "" for name in ("gateway.db", "core.12", "dust.trace")}
    (found,) = checks.privacy(_place(clinic.machine(files), config=config))
    assert found.code == "privacy.trace"
    assert found.about["files"] == f"{clinic.folder}/data/dust.trace, {clinic.folder}/data/core.12"


def test_the_living_machine_is_looked_at_without_harm() -> None:
    """Every check runs on whatever machine this is, and finds something to say."""
    place = checks.Place(Machine(), None, (), clock.kernel_synchronised, clock.wall_ms)
    found = list(checks.everything(place))
    assert len(found) >= 5
    assert all(finding.texts("fr") and finding.texts("en") for finding in found)
    assert Machine().real("/dev/null") == "/dev/null" and Path(f"/proc/{os.getpid()}").exists()
