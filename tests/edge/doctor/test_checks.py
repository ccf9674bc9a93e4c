"""What the machine says of itself, on planted machines: the edges that the exercises do not show."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from murmure_edge import clock
from murmure_edge.config import PortConfig, load
from murmure_edge.doctor import checks
from murmure_edge.doctor.machine import Machine
from murmure_edge.gateway_db import GatewayDb, Told

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


def _radio(number: int, **says: str) -> dict[str, str]:
    return {f"sys/class/rfkill/rfkill{number}/{name}": text for name, text in says.items()}


WIFI = {"type": "wlan", "name": "phy0"}


@pytest.mark.parametrize(
    ("files", "radios"),
    [
        ({}, None),
        (_radio(0, **WIFI, soft="0", hard="0"), "wlan phy0"),
        (_radio(0, **WIFI, soft="1", hard="0"), None),
        (_radio(0, **WIFI, soft="0", hard="1"), None),
        (_radio(0, **WIFI, state="1") | _radio(1, type="bluetooth", name="hci0", state="2"), "wlan phy0"),
        (_radio(3, type="bluetooth", name="hci0", soft="0", hard="0", state="1"), "bluetooth hci0"),
        (_radio(0, type="wwan", soft="0", hard="0"), "wwan rfkill0"),
        (_radio(0, type="gps", name="gps0", soft="0", hard="0"), None),
        ({"sys/class/net/wlan0/phy80211/x": "", "sys/class/bluetooth/hci0/x": ""}, "wlan wlan0, bluetooth hci0"),
        (_radio(0, **WIFI, soft="1", hard="0") | {"sys/class/net/wlan0/phy80211/x": ""}, None),
    ],
)
def test_a_white_zone_is_told_of_each_radio_that_is_on(clinic: Any, files: dict[str, str], radios: str | None) -> None:
    """Neither switched off by a program nor by a button; what only listens is none. With a broker it is no white zone,
    and before the enrolment nobody knows."""
    white, wired = load(clinic.gateway()), load(clinic.gateway(more='[broker]\nhost = "127.0.0.1"\n'))
    machine = clinic.machine(files)
    found = list(checks.radios(_place(machine, config=white)))
    assert [(finding.code, finding.about["radios"]) for finding in found] == (
        [("privacy.radio", radios)] if radios else []
    )
    assert _codes(checks.radios(_place(machine, config=wired))) == _codes(checks.radios(_place(machine))) == []


DAY_MS = 86_400_000


def _certificate(until_ms: int) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw-x")])
    until = datetime.fromtimestamp(until_ms / 1000, UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(until - timedelta(days=1095)).not_valid_after(until)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (private + made.sign(key, hashes.SHA256()).public_bytes(pem)).decode()


@pytest.mark.parametrize(
    ("left_ms", "code"),
    [
        (0, "certificate.ended"),
        (1000, "certificate.ends"),
        (90 * DAY_MS - 1000, "certificate.ends"),
        (90 * DAY_MS, "certificate.ok"),
        (None, "certificate.unreadable"),
    ],
)
def test_a_certificate_is_renewed_in_time(clinic: Any, left_ms: int | None, code: str) -> None:
    """Three months before its end, which is two visits; from the file as an enrolment leaves it, key and certificate in
    one. A gateway without a broker, or with a plain line, has none."""
    file = clinic.folder / "gateway.key"
    if left_ms is not None:
        file.write_text(_certificate(NOW_MS + left_ms))
    line = f'[broker]\nhost = "127.0.0.1"\nauthority = "a.crt"\ncertificate = "{file}"\nkey = "{file}"\n'
    (found,) = checks.certificate(_place(clinic.machine({}), config=load(clinic.gateway(more=line))))
    assert found.code == code
    assert all("gw-x" in found.texts(language)[1] for language in ("fr", "en")) == (code != "certificate.ok")
    for more in ("", '[broker]\nhost = "127.0.0.1"\n'):
        assert _codes(checks.certificate(_place(clinic.machine({}), config=load(clinic.gateway(more=more))))) == []


def _spoiled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:4196] = bytes(100)
    path.write_bytes(data)


def _older(path: Path) -> None:
    with closing(GatewayDb.open(path)) as db:
        db.remember(Told(0, "the centre has message 9"))


def _emptied(path: Path) -> None:
    for left in path.parent.glob("gateway.db*"):
        if left.suffix != ".lock":
            left.unlink()
    path.touch()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda path: None, "ledger.ok"),
        (_spoiled, "ledger.damaged"),
        (lambda path: path.write_bytes(b"x" * 5000), "ledger.damaged"),
        (_emptied, "ledger.damaged"),
        (_older, "ledger.older_copy"),
    ],
)
def test_a_ledger_is_read_as_sense_would_read_it(clinic: Any, spoil: Callable[[Path], None], code: str) -> None:
    """What keeps `sense` down is said with what to do; looking changes no byte, and makes no file."""
    path = clinic.folder / "data" / "gateway.db"
    GatewayDb.open(path).close()
    spoil(path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert _codes(checks.ledger(path.parent)) == [code]
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    assert code in clinic.findings(f"--root {clinic.machine({}).root} --config {clinic.gateway()}")


def test_what_a_power_cut_left_in_the_log_counts(tmp_path: Path) -> None:
    """The newest commits stand beside the file until the next start: without them an older copy would pass."""
    there, cut = tmp_path / "gateway.db", tmp_path / "cut"
    cut.mkdir()
    with closing(GatewayDb.open(there)) as db:
        db.remember(Told(0, "the centre has message 9"))
        for file in tmp_path.glob("gateway.db*"):
            (cut / file.name).write_bytes(file.read_bytes())
    assert (cut / "gateway.db-wal").stat().st_size > 0
    assert _codes(checks.ledger(cut)) == ["ledger.older_copy"]


def test_a_gateway_that_never_ran_has_no_ledger_yet(tmp_path: Path) -> None:
    """Nothing is said of it, and none is made."""
    assert list(checks.ledger(tmp_path)) == [] and not list(tmp_path.iterdir())


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
