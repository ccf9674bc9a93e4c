"""A gateway under a real systemd: installed, enrolled, confined, killed, hung, broken, updated and cut from its power.

The machine is a clean Debian with the archive of `make gateway-bundle`. At the other end of its line stands a centre
with Debian's broker, both as an operator prepares them. Its sensor is a simulated SDS011 behind a real serial terminal.
What is missing of a lamp post: a boot loader, a card, and a network time service, whose word (a file) the test says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("murmure-sense", "murmure-send")
PORT = "/run/dust"
OTHER_ADDRESS = "192.0.2.7"  # of documentation; the broker's second one
INGEST = """\
data_dir = "centre"
[broker]
host = "localhost"
port = 8883
authority = "centre/authority.crt"
certificate = "centre/broker/ingest.crt"
key = "centre/broker/ingest.key"
[enrolment]
host = "127.0.0.1"
name = "localhost"
broker_host = "localhost"
"""
# The udev rule gives a serial port to its group; this one is no device of udev's.
SENSOR = f"""\
rm -f {PORT}
until command -v murmure; do sleep 0.2; done  # until it is installed
murmure sim device sds011 --link {PORT} &
until [ -e {PORT} ]; do sleep 0.1; done
chgrp murmure-serial "$(readlink -f {PORT})"
chmod 660 "$(readlink -f {PORT})"
wait
"""
ADD_ADDRESS = (
    "import fcntl, socket, struct; fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8916, "
    f"struct.pack('16sHH4s8x', b'lo:1', socket.AF_INET, 0, socket.inet_aton('{OTHER_ADDRESS}')))"
)

pytestmark = [pytest.mark.long, pytest.mark.broker, pytest.mark.debootstrap]


class Pole:
    """A machine with Murmure on it, and the centre that it speaks to."""

    def __init__(self, machine: Any, folder: Path) -> None:
        self.machine, self.folder = machine, folder
        self.toml = machine.root / "etc/murmure/gateway.toml"
        self._running: list[subprocess.Popen[bytes]] = []

    def switch_on(self) -> None:
        """Boots it, with its sensor plugged in, the centre in reach and the time known."""
        self.machine.boot()
        self.beside(sys.executable, "-c", ADD_ADDRESS)
        self.machine.run("mknod", "/dev/ttyUSB0", "c", "188", "0")  # to be seen or not: nothing is behind it
        self._begin("sensor", "sh", "-ec", SENSOR)
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/sbin:/bin")
        assert program is not None
        self._begin("broker", program, "-c", str(self.folder / "broker/mosquitto.conf"), beside=True)
        config = str(self.folder / "ingest.toml")
        self._begin("centre", sys.executable, "-m", "murmure.cli", "ingest", "run", "--config", config, beside=True)
        timesync = self.machine.root.joinpath("etc/tmpfiles.d/timesync.conf")
        timesync.write_text("f /run/systemd/timesync/synchronized\n")
        self.machine.run("systemd-tmpfiles", "--create", "timesync.conf")

    def switch_off(self) -> None:
        """A power cut, and nobody at the other end."""
        self.machine.cut()
        for process in self._running:
            process.kill()
            process.wait()
        self._running.clear()

    def murmure(self, *arguments: str) -> str:
        """Runs a command of the centre and returns what it prints."""
        config = [] if arguments[0] == "policy" and arguments[1] != "publish" else ["--config", "ingest.toml"]
        return self.beside(sys.executable, "-m", "murmure.cli", *arguments, *config)

    def beside(self, *command: str) -> str:
        """Runs a command of this machine at the other end of the line."""
        enter = ["nsenter", f"--net=/proc/{self.machine.first}/ns/net"] if self.machine.first else []
        done = subprocess.run([*enter, *command], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _begin(self, name: str, *command: str, beside: bool = False) -> None:
        self._running.append(self.machine.start(*command, log=self.folder / f"{name}.log", beside=beside))

    def pid(self, unit: str) -> str:
        """Returns the main process of a unit, as a number of the machine's; "0" if there is none."""
        return str(self.machine.show(unit, "MainPID")["MainPID"])

    def heard(self) -> str:
        """Returns when the centre has heard of the gateway last; empty for never."""
        found = re.search(r" heard (\S+) ", self.murmure("gateway", "list"))
        return found[1] if found else ""

    def until_it_works(self) -> None:
        """Waits until both services run and the sensor is read."""
        for unit in UNITS:
            self.machine.until(
                lambda unit=unit: self.machine.show(unit, "SubState")["SubState"] == "running", self.said
            )
        self.machine.until(lambda: re.search(r"dust: (warming|ok)", self.machine.journal("murmure-sense")), self.said)

    def said(self) -> str:
        """Returns what everybody has said."""
        logs = "".join(f"== {path}\n{path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log")))
        return logs + "".join(f"== {unit}\n{self.machine.journal(unit)[-1500:]}" for unit in UNITS)

    def change(self, unit: str, lines: str) -> Path:
        """Adds lines to a unit, as a drop-in, and returns its file."""
        path: Path = self.machine.root / f"etc/systemd/system/{unit}.service.d/test.conf"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"[Service]\n{lines}\n")
        self.machine.run("systemctl", "daemon-reload")
        return path

    def restore(self, path: Path) -> None:
        """Takes lines away again."""
        path.unlink()
        self.machine.run("systemctl", "daemon-reload")

    def confinement(self, unit: str) -> dict[str, object]:
        """Returns what the kernel says of what a unit's process may do."""
        folder = self.machine.path(self.pid(unit))
        status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
        limits = {line[:26].strip(): line[26:].split()[0] for line in (folder / "limits").read_text().splitlines()}
        net = Path("/proc", self.machine.first, "ns", "net").readlink()
        return {
            "filtered": status["Seccomp"].strip(),
            "no new privileges": status["NoNewPrivs"].strip(),
            "capabilities": int(status["CapBnd"], 16) | int(status["CapEff"], 16),
            "root": status["Uid"].split()[0] == "0",
            "core dump": limits["Max core file size"],
            "network of the machine": (folder / "ns/net").readlink() == net,
            "serial devices": (folder / "root/dev/ttyUSB0").exists(),
            "users of its own": (folder / "uid_map").read_text().split() != ["0", "0", "4294967295"],
        }


@pytest.fixture(scope="module")
def pole(archive: Path, debian: Path, machines: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pole]:
    """A gateway that was installed and enrolled by the commands of the field guide, its services enabled."""
    folder = tmp_path_factory.mktemp("pole")
    (folder / "centre").mkdir()
    (folder / "ingest.toml").write_text(INGEST)
    subprocess.run(["cp", "-a", "--reflink=auto", str(debian), str(folder / "root")], check=True)
    (folder / "root/etc/hosts").write_text("127.0.0.1 localhost\n")
    subprocess.run(["tar", "-xf", str(archive), "-C", str(folder / "root/media")], check=True)
    machine = machines.Machine(folder / "root")
    pole = Pole(machine, folder)
    steward(pole)
    pole.murmure("broker", "init", "broker")
    settings = folder / "broker/mosquitto.conf"
    settings.write_text(settings.read_text().replace("user mosquitto", f"user {os.environ.get('USER', 'root')}"))
    try:
        pole.switch_on()
        installed = machine.run("sh", "-c", "sh /media/*/install.sh")
        assert installed.returncode == 0, installed.stdout + installed.stderr
        offer = json.loads(
            pole.murmure(
                *("gateway", "enrol", "--gateway", "gw-plaza", "--site", "plaza", "--quartier", "centre", "--json"),
                *("--steward", "steward.key.pub", "--port", f"name=dust,device=sds011,path={PORT},pm2_5=plaza/pm2_5"),
            )
        )
        machine.until(lambda: "gateways enrol at" in (folder / "centre.log").read_text(), pole.said)
        enrolled = machine.run("murmure", "edge", "enrol", offer["code"], "--centre", offer["centre"], "--system")
        assert enrolled.returncode == 0, enrolled.stderr + pole.said()
        pole.murmure("policy", "publish", "plaza.cose")
        enabled = machine.run("systemctl", "enable", "--now", *UNITS)
        assert enabled.returncode == 0, enabled.stderr + pole.said()
        yield pole
    finally:
        pole.switch_off()
        shutil.rmtree(folder / "root")  # a gigabyte, which pytest would keep for three runs


def steward(pole: Pole) -> None:
    """Signs a policy that holds today."""
    pole.murmure("policy", "key", "--out", "steward.key")
    policy, today = (ROOT / "privacy/policy.example.toml").read_text(), datetime.now(UTC).date()
    for key, days in (("valid_from", -5), ("valid_until", 300)):
        policy = re.sub(rf"^{key} .*", f"{key} = {today + timedelta(days)}", policy, flags=re.MULTILINE)
    (pole.folder / "plaza.toml").write_text(policy)
    pole.murmure("policy", "sign", "plaza.toml", "--key", "steward.key", "--out", "plaza.cose")


def test_a_gateway_of_the_field_guide_is_heard_by_its_centre(pole: Pole) -> None:
    """Both services have told systemd that they are ready, the sensor is read, the policy came, a report has gone."""
    pole.until_it_works()
    pole.machine.until(lambda: "policy 1: accepted" in pole.machine.journal("murmure-sense"), pole.said)
    pole.machine.until(pole.heard, pole.said)
    findings = json.loads(pole.machine.run("murmure", "edge", "doctor", "--json").stdout)["findings"]
    assert {"clock.ok", "sense.running", "sense.ok"} <= {finding["code"] for finding in findings}
    assert [finding["code"] for finding in findings if finding["severity"] == "failure"] == []


def test_the_kernel_confines_them_as_their_units_ask(pole: Pole) -> None:
    """No privileges, no core dump, own users; `sense` without the network, `send` without devices. A service without
    those lines is seen to have it all."""
    pole.until_it_works()
    closed = {
        "filtered": "2",
        "no new privileges": "1",
        "capabilities": 0,
        "root": False,
        "core dump": "0",
        "users of its own": True,
    }
    assert pole.confinement("murmure-sense") == closed | {"network of the machine": False, "serial devices": True}
    assert pole.confinement("murmure-send") == closed | {"network of the machine": True, "serial devices": False}
    pole.machine.run("systemd-run", "--unit=open", "sleep", "600")
    seen = pole.confinement("open")
    pole.machine.run("systemctl", "stop", "open")
    assert [name for name in closed if seen[name] == closed[name] and name != "core dump"] == []
    for unit, most in zip(UNITS, (0.6, 1.3), strict=True):
        told = pole.machine.run("systemd-analyze", "security", "--no-pager", unit).stdout
        found = re.search(r"exposure level for \S+: ([\d.]+)", told)
        assert found is not None and float(found[1]) <= most, told


def test_one_that_is_killed_or_hangs_is_started_again(pole: Pole) -> None:
    """SIGKILL, and a process that does not turn its main loop any more: each has a new one soon, by itself."""
    pole.until_it_works()
    for unit in UNITS:
        before, restarts = pole.pid(unit), int(pole.machine.show(unit, "NRestarts")["NRestarts"])
        pole.machine.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", unit)
        pole.machine.until(lambda unit=unit, before=before: pole.pid(unit) not in ("0", before), pole.said)
        assert int(pole.machine.show(unit, "NRestarts")["NRestarts"]) == restarts + 1
    for unit in UNITS:
        changed = pole.change(unit, "WatchdogSec=5")  # sooner than in the street
        pole.machine.run("systemctl", "restart", unit)
        before = pole.pid(unit)
        pole.machine.run("systemctl", "kill", "--signal=STOP", "--kill-who=main", unit)
        pole.machine.until(lambda unit=unit, before=before: pole.pid(unit) not in ("0", before), pole.said)
        assert "Watchdog timeout" in pole.machine.journal(unit)
        pole.restore(changed)
        pole.machine.run("systemctl", "restart", unit)
    pole.until_it_works()


def test_a_wrong_configuration_waits_for_a_person(pole: Pole) -> None:
    """One line that names file and key; no restart until somebody has mended it."""
    right = pole.toml.read_text()
    pole.toml.write_text(right.replace('device = "sds011"', 'device = "sds012"'))
    pole.machine.run("systemctl", "restart", "murmure-sense")
    pole.machine.until(lambda: pole.machine.show("murmure-sense", "ActiveState")["ActiveState"] == "failed", pole.said)
    state = pole.machine.show("murmure-sense", "ExecMainStatus", "NRestarts")
    assert state == {"ExecMainStatus": "2", "NRestarts": "0"}
    said = [line for line in pole.machine.journal("murmure-sense").splitlines() if "sds012" in line]
    assert len(said) == 1 and "gateway.toml" in said[0] and "device" in said[0]
    pole.toml.write_text(right)
    pole.machine.run("systemctl", "restart", "murmure-sense")
    pole.until_it_works()


def test_send_reaches_no_address_that_it_was_not_allowed(pole: Pole) -> None:
    """The broker's other address is closed by the kernel until `install.sh --allow` opens it."""
    right = pole.toml.read_text()
    pole.toml.write_text(right.replace('host = "localhost"', f'host = "{OTHER_ADDRESS}"'))
    answers = "CERTIFICATE_VERIFY_FAILED"  # the broker has shown its own, which is for another name
    pole.machine.run("systemctl", "restart", "murmure-send")
    pole.machine.until(lambda: OTHER_ADDRESS in pole.machine.journal("murmure-send"), pole.said)
    assert answers not in pole.machine.journal("murmure-send")
    installer = "/opt/murmure/share/murmure/install.sh"
    assert pole.machine.run("sh", installer, "--allow", OTHER_ADDRESS).returncode == 0
    pole.machine.until(lambda: answers in pole.machine.journal("murmure-send"), pole.said)
    pole.toml.write_text(right)
    pole.machine.run("systemctl", "restart", "murmure-send")
    pole.until_it_works()


def test_a_power_cut_needs_nobody(pole: Pole) -> None:
    """Cut while everything runs; booted again both services come by themselves, with key, policy and budget."""
    pole.until_it_works()
    identity = (pole.machine.root / "var/lib/murmure/record.key").read_bytes()
    pole.switch_off()
    pole.switch_on()
    pole.until_it_works()
    assert (pole.machine.root / "var/lib/murmure/record.key").read_bytes() == identity
    pole.machine.until(lambda: "connected" in pole.machine.journal("murmure-send"), pole.said)
    assert "accepted" not in pole.machine.journal("murmure-sense")  # it knew its policy already


def test_an_update_that_does_not_start_is_taken_back(pole: Pole) -> None:
    """systemd says that the new version fails: the one before runs again and install.sh ends with 1. Then one that
    starts takes over."""
    link = pole.machine.root / "opt/murmure"
    before = link.readlink()
    (unpacked,) = (pole.machine.root / "media").iterdir()
    facts = unpacked / "BUNDLE"
    facts.write_text(facts.read_text().replace("version=", "version=9."))
    pole.machine.run(
        "sh", "-c", f"cd /media/{unpacked.name} && sha256sum $(cut -c 67- SHA256SUMS) >sums; mv sums SHA256SUMS"
    )
    fails = 'ExecStartPre=/bin/sh -c "! readlink /opt/murmure | grep -q murmure-9"'
    changed = pole.change("murmure-sense", fails)
    failed = pole.machine.run("sh", f"/media/{unpacked.name}/install.sh")
    assert (failed.returncode, link.readlink()) == (1, before), failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("murmure: install.sh: the new version does not start")
    pole.until_it_works()
    assert pole.machine.path(pole.pid("murmure-sense")).joinpath("exe").exists()
    pole.restore(changed)
    assert pole.machine.run("sh", f"/media/{unpacked.name}/install.sh").returncode == 0
    pole.until_it_works()
    command = pole.machine.path(pole.pid("murmure-sense")).joinpath("cmdline").read_text()
    assert link.readlink() != before and str(link.readlink()) in command
