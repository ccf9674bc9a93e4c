"""The archive of `make gateway-bundle`, from its bytes to a day of releases on a clean Debian that has no network."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from murmure_privacy.release import Outcome, Release
from packaging.requirements import Requirement

from murmure import city

ROOT = Path(__file__).resolve().parents[2]
INSTALLER = ROOT / "edge" / "bundle" / "install.sh"
SIX = {"paho-mqtt", "pyserial", "opendp", "cryptography", "cbor2", "rich"}
HOURS = 24
PATIENCE_S = 300.0
# What stands in for systemd, whose place a chroot does not have: it notes what it is told, and starts no new version.
SYSTEMCTL = """\
#!/bin/sh
echo "$(readlink /opt/murmure) $*" >>/var/log/systemctl
case "$1 $(readlink /opt/murmure)" in "try-restart /opt/murmure-9."*) exit 1 ;; esac
"""
# A process space, a network without even a loopback, and terminals of its own; what ends with the first process.
ENTER = """\
mount -t proc proc "$1/proc"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$1/dev/pts"
mount --bind "$1/dev/pts/ptmx" "$1/dev/ptmx"
exec chroot "$@"
"""
# The bench first: a gateway whose time is the bench's cannot start before it. It listens to a pipe, as beside the demo.
DAY = """\
cd "$1"
gateway=gateways/$2
python=/opt/murmure/bin/python
tail -f /dev/null | $python -m murmure_firmware_sim.bench scenario.json >bench.log 2>&1 &
until [ -S "$gateway/timeline/timeline.sock" ] && [ -e "$gateway/ports/dust" ]; do sleep 0.1; done
$python -m murmure.simulated_sense --config "$gateway/gateway.toml" --timeline "$gateway/timeline" >sense.log 2>&1 &
sense=$!
until [ -e over ]; do sleep 0.1; done
kill -TERM $sense
wait $sense
murmure edge export /media/stick --config "$gateway/gateway.toml" --json
"""


@dataclass
class Street:
    """A clean Debian in a folder, and an unpacked archive on its USB stick."""

    root: Path
    unpacked: Path

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command inside, without any network."""
        return subprocess.run(self.enter(*command), env=ENVIRONMENT | environment, **CAPTURED)

    def enter(self, *command: str) -> list[str]:
        apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
        return [*apart, "sh", "-ec", ENTER, "enter", str(self.root), *command]

    def install(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the archive's install.sh inside."""
        return self.run("sh", f"/{(self.unpacked / 'install.sh').relative_to(self.root)}", *arguments, **environment)

    def wait_until_dark(self) -> None:
        """Waits until no process of a killed install.sh is left, as after a power cut: they end one by one."""
        with (self.root / "run" / "murmure-install.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)


ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
CAPTURED: dict[str, Any] = {"capture_output": True, "text": True, "check": False, "timeout": PATIENCE_S}


@pytest.fixture(scope="module")
def street(archive: Path, debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    """A clean Debian on which the archive was installed."""
    root = tmp_path_factory.mktemp("street") / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", str(debian), str(root)], check=True)
    stick = root / "media" / "stick"
    stick.mkdir()
    subprocess.run(["tar", "-xf", str(archive), "-C", str(stick)], check=True)
    (unpacked,) = stick.iterdir()
    installed = Street(root, unpacked).install()
    assert installed.returncode == 0, installed.stdout + installed.stderr
    yield Street(root, unpacked)
    shutil.rmtree(root)  # a gigabyte, which pytest would keep for three runs


def test_a_gateway_has_six_direct_dependencies() -> None:
    """What `murmure[edge]` asks for is what the town has agreed to carry on a lamp post, and no more."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["edge"]]
    assert {Requirement(line).name for line in asked} == SIX


def test_the_installer_speaks_both_languages() -> None:
    """Its usage and its errors are French where the technician's system is, one line each, and name the mend."""
    run: dict[str, Any] = {"capture_output": True, "text": True, "check": False}
    for language, word in (("fr_FR.UTF-8", "usage : "), ("C.UTF-8", "usage: ")):
        told = subprocess.run(["sh", str(INSTALLER), "--help"], env=ENVIRONMENT | {"LANG": language}, **run)
        assert (told.returncode, told.stdout[: len(word)]) == (0, word)
    unknown = subprocess.run(["sh", str(INSTALLER), "--force"], env=ENVIRONMENT, **run)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    text = INSTALLER.read_text("utf-8")
    pairs = re.findall(r'\b(?:say|stop \d) "([^"]*)"(?:\s|\\)+"([^"]*)"', text)
    assert len(pairs) == len(re.findall(r'\b(?:say|stop \d) "', text))
    assert all(english != french for english, french in pairs)


@pytest.mark.long
def test_two_builds_give_the_same_bytes(archive: Path, machines: ModuleType, tmp_path: Path) -> None:
    """Whoever builds the same commit at another hour and in another folder gets the archive that others have."""
    assert sha256(machines.bundle(tmp_path)) == sha256(archive)


@pytest.mark.long
def test_an_archive_says_what_it_is_made_of(machines: ModuleType, tmp_path: Path) -> None:
    """For ARM as well: a component a wheel with licence and hash, the six that we ask for, nothing unasked for."""
    with tarfile.open(machines.bundle(tmp_path, "aarch64")) as packed:
        files = {
            member.name.partition("/")[2]: packed.extractfile(member).read()  # type: ignore[union-attr]
            for member in packed
            if member.isfile()
        }
    listed = files.pop("SHA256SUMS").decode().splitlines()
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert sorted(listed) == sorted(f"{digest}  {name}" for name, digest in sums.items())
    for guide in ("README.md", "LISEZMOI.md"):
        links = re.findall(r"\]\(([^)#:\s]+)\)", files[f"edge/{guide}"].decode())
        assert [link for link in links if os.path.normpath(f"edge/{link}") not in files] == []
    bom = json.loads(files["sbom.cdx.json"])
    wheels = {name.partition("/")[2] for name in files if name.startswith("wheels/")}
    assert all(re.search(r"-(any|manylinux\w+_aarch64(\.manylinux\w+_aarch64)*)\.whl$", name) for name in wheels)
    components = {each["bom-ref"]: each for each in bom["components"]}
    assert {reference.partition("file_name=")[2] for reference in components} == wheels
    assert {each["hashes"][0]["content"] for each in components.values()} == {sums[f"wheels/{name}"] for name in wheels}
    assert all(each["licenses"][0] for each in components.values())
    asks = {each["ref"]: each["dependsOn"] for each in bom["dependencies"]}
    (own,) = asks["murmure-gateway"]
    assert {components[reference]["name"] for reference in asks[own]} == SIX
    reached, waiting = set[str](), [own]
    while waiting:
        reference = waiting.pop()
        if reference not in reached:
            reached.add(reference)
            waiting += asks[reference]
    assert {components[reference]["name"] for reference in components.keys() - reached} == {"pip"}


@pytest.mark.long
@pytest.mark.debootstrap
def test_a_clean_debian_takes_the_archive_without_network(street: Street) -> None:
    """Software, users, folders and units are there; no service runs or will run before the gateway is enrolled."""
    program = street.run("murmure", "edge", "--help")
    assert program.returncode == 0, program.stderr
    for unit in ("murmure-sense.service", "murmure-send.service"):
        assert (street.root / "etc/systemd/system" / unit).read_text() == (ROOT / "edge/systemd" / unit).read_text()
    assert not list(street.root.glob("etc/systemd/system/*.wants/murmure*"))
    modes = street.run("stat", "-c", "%a %U %n", "/var/lib/murmure", "/var/lib/murmure-spool/outbox")
    assert modes.stdout.split("\n")[:2] == [
        "700 murmure-sense /var/lib/murmure",
        "2750 murmure-sense /var/lib/murmure-spool/outbox",
    ]
    again = street.install(LANG="fr_FR.UTF-8")
    assert (again.returncode, "murmure edge enrol CODE --centre MACHINE --system" in again.stdout) == (0, True)
    elsewhere = street.run("murmure", "demo", "--once")
    assert (elsewhere.returncode, elsewhere.stderr.count("\n"), "at the centre" in elsewhere.stderr) == (2, 1, True)


@pytest.mark.long
@pytest.mark.debootstrap
def test_the_doctor_runs_on_a_clean_debian(street: Street) -> None:
    """Straight after the installation, with nothing plugged in: findings as JSON, no traceback."""
    told = street.run("murmure", "edge", "doctor", "--json")
    assert told.returncode in (0, 1), told.stderr
    assert json.loads(told.stdout)
    assert "Traceback" not in told.stderr


@pytest.mark.long
@pytest.mark.debootstrap
def test_a_simulated_day_reaches_the_centre_by_stick(
    street: Street, lay_out: Callable[..., city.City], outcomes: Callable[..., dict[tuple[str, str, int], Outcome]]
) -> None:
    """Three sensors of a street, the installed `sense`, a stick: every node of a day is released once and verifies."""
    made = lay_out(HOURS)
    place = city.SITES[0]
    scenario = json.loads(made.scenario.read_text())
    scenario["gateways"] = scenario["gateways"][:1]
    made.scenario.write_text(json.dumps(scenario))
    inside = street.root / made.root.relative_to("/")
    shutil.copytree(made.root, inside)
    day = subprocess.Popen(
        street.enter("sh", "-ec", DAY, "day", str(made.root), place.gateway),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    database = inside / "gateways" / place.gateway / "data" / "gateway.db"
    patience = time.monotonic() + PATIENCE_S
    while not closed(database, made.span.last_s):
        assert day.poll() is None and time.monotonic() < patience, said(inside)
        time.sleep(0.2)
    (inside / "over").touch()
    visit = json.loads(day.communicate(timeout=PATIENCE_S)[0])
    assert (day.returncode, visit["written"] > 0, visit["settled_seq"]) == (0, True, 0), said(inside)
    centre = ["--config", str(made.root / "centre" / "ingest.toml")]
    arrived = murmure("ingest", "import", str(street.root / "media" / "stick"), *centre)
    assert (arrived["stored"], arrived["reasons"]) == (visit["written"], {})
    nodes = outcomes(made)
    hours = HOURS + 1
    expected = {"footfall": 4 * HOURS + HOURS + 4 + 1, "noise": hours, "pm2_5": hours, "pm10": hours}
    for quantity, count in expected.items():
        assert sum(key[0] == f"{place.id}/{quantity}" for key in nodes) == count
    assert all(isinstance(outcome, Release) for outcome in nodes.values())
    murmure("ingest", "verify", "--archive", str(made.ingest.archive))
    config = str(made.root / "gateways" / place.gateway / "gateway.toml")
    second = street.run("murmure", "edge", "export", "/media/stick", "--config", config, "--json")
    assert json.loads(second.stdout)["settled_seq"] == visit["written"]


def closed(database: Path, last_s: int) -> bool:
    """Returns whether a gateway has released the last node of its day."""
    if not database.exists():
        return False
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as db:
        tables = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'charges'").fetchone()[0]
        end_s = db.execute("SELECT max(end_s) FROM charges").fetchone()[0] if tables else None
    return end_s is not None and end_s >= last_s


def said(folder: Path) -> str:
    return "".join(path.read_text("utf-8", "replace")[-2000:] for path in sorted(folder.glob("*.log")))


def murmure(*arguments: str) -> Any:
    """Runs a command of the centre, on this machine, and returns the JSON that it prints."""
    done = subprocess.run([sys.executable, "-m", "murmure.cli", *arguments, "--json"], **CAPTURED)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.debootstrap
def test_what_is_wrong_is_one_line_and_changes_nothing(street: Street) -> None:
    """A damaged archive, another machine's archive, a version that fails its self-test: what was there goes on."""
    before = (street.root / "opt/murmure").readlink()
    readings = street.unpacked / "selftest" / "readings.csv"
    whole = readings.read_text()
    readings.write_text(whole.replace("pedestrians,3,", "pedestrians,4,", 1))
    damaged = street.install()
    assert (damaged.returncode, damaged.stderr.count("\n")) == (1, 1)
    assert damaged.stderr.startswith("murmure: install.sh: the archive is damaged")
    readings.write_text(whole.splitlines()[0] + "\n")
    resum(street.unpacked)
    untested = street.install(LANG="fr_FR.UTF-8")
    assert (untested.returncode, "échoue à son autotest" in untested.stderr) == (1, True)
    readings.write_text(whole)
    facts = street.unpacked / "BUNDLE"
    right = facts.read_text()
    facts.write_text(right.replace(platform.machine(), "riscv64"))
    resum(street.unpacked)
    foreign = street.install()
    assert (foreign.returncode, foreign.stderr.count("\n")) == (2, 1)
    assert "the archive is for riscv64" in foreign.stderr
    facts.write_text(right)
    resum(street.unpacked)
    assert (street.root / "opt/murmure").readlink() == before
    assert street.run("murmure", "edge", "--help").returncode == 0


@pytest.mark.long
@pytest.mark.debootstrap
def test_an_update_leaves_one_that_works_whenever_the_power_fails(street: Street) -> None:
    """Cut at any moment, the link shows a whole version; finished, the one before stays for --rollback."""
    link = street.root / "opt/murmure"
    before = link.readlink()
    facts = street.unpacked / "BUNDLE"
    facts.write_text(facts.read_text().replace("version=", "version=9."))
    resum(street.unpacked)
    for cut_s in (0.5, 2.0, 5.0):
        cut = subprocess.Popen(
            street.enter("sh", f"/{(street.unpacked / 'install.sh').relative_to(street.root)}"),
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(cut_s)
        cut.kill()
        cut.wait()
        street.wait_until_dark()
        assert street.run(f"{link.readlink()}/bin/murmure", "edge", "--help").returncode == 0
    half, foreign = (street.root / "opt" / name for name in ("murmure-0.0.9-0123abcd", "murmure-of-mine"))
    for folder in (half, foreign):
        (folder / "lib").mkdir(parents=True)
    assert street.install().returncode == 0
    assert (link.readlink() != before, (street.root / "opt/murmure.previous").readlink()) == (True, before)
    assert (half.exists(), foreign.exists()) == (False, True)
    shutil.rmtree(foreign)
    assert street.install("--rollback").returncode == 0
    assert link.readlink() == before
    assert street.run("murmure", "edge", "--help").returncode == 0


@pytest.mark.long
@pytest.mark.debootstrap
def test_a_version_that_does_not_start_gives_way_to_the_one_before(street: Street) -> None:
    """Where services run the new version is started and fails: the old one is started again, and status 1 says so."""
    link = street.root / "opt/murmure"
    before = link.readlink()
    systemctl = street.root / "usr/bin/systemctl"
    kept = systemctl.rename(systemctl.with_name("systemctl.kept"))
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    running = street.root / "run/systemd/system"
    running.mkdir(parents=True)
    try:
        done = street.install()
    finally:
        running.rmdir()
        kept.replace(systemctl)
    assert (done.returncode, done.stderr.startswith("murmure: install.sh: the new version does not start")) == (1, True)
    assert link.readlink() == before
    told = (street.root / "var/log/systemctl").read_text().splitlines()
    restarts = [line.split()[0] for line in told if " try-restart " in line]
    assert (restarts[0].startswith("/opt/murmure-9."), restarts[-1], len(restarts)) == (True, str(before), 2)


@pytest.mark.long
@pytest.mark.debootstrap
def test_a_system_that_changed_its_python_is_mended_by_the_same_archive(street: Street) -> None:
    """An upgrade of Debian takes the old interpreter away: install.sh makes the same version anew, in its place."""
    facts = street.unpacked / "BUNDLE"
    facts.write_text(facts.read_text().replace("version=9.", "version="))
    resum(street.unpacked)
    folder = (street.root / "opt/murmure").readlink().relative_to("/")
    python = street.root / folder / "bin" / "python3"
    python.unlink()
    python.symlink_to("/usr/bin/python3.10")
    assert street.run("murmure", "edge", "--help").returncode != 0
    assert street.install().returncode == 0
    assert street.run("murmure", "edge", "--help").returncode == 0


@pytest.mark.long
@pytest.mark.debootstrap
def test_uninstalling_leaves_keys_and_nothing_else(street: Street) -> None:
    """Software, units, rules and links are gone; what `murmure edge wipe` is for stays. Last: it empties the root."""
    key = street.root / "var/lib/murmure/record.key"
    key.write_bytes(bytes(32))
    installer = "/opt/murmure/share/murmure/install.sh"
    allowed = street.run("sh", installer, "--allow", "192.0.2.7", "2001:db8::/64")
    drop_in = street.root / "etc/systemd/system/murmure-send.service.d/network.conf"
    assert (allowed.returncode, drop_in.read_text()) == (0, "[Service]\nIPAddressAllow=192.0.2.7 2001:db8::/64\n")
    assert street.run("sh", installer, "--allow", "broker.example.org").returncode == 2
    (street.root / "opt/murmure-0.0.9-0123abcd/lib").mkdir(parents=True)  # what a cut removal leaves
    done = street.run("sh", installer, "--uninstall")
    assert done.returncode == 0, done.stderr
    left = [
        path
        for pattern in ("opt/murmure*", "etc/**/*murmure*", "usr/local/bin/*", "usr/share/doc/murmure")
        for path in street.root.glob(pattern)
    ]
    assert (left, key.exists()) == ([], True)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def resum(folder: Path) -> None:
    """Writes SHA256SUMS anew, as a build would."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256(folder / file)}  {file}\n" for file in files if file != "SHA256SUMS"]
    (folder / "SHA256SUMS").write_text("".join(lines))
