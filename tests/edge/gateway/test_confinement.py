"""`sense` at work where the kernel refuses it the network, and what its unit refuses beside that."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SILENT = (sys.executable, str(ROOT / "tests" / "confined.py"), "silent")
UNIT = ROOT / "edge" / "systemd" / "murmure-sense.service"
Eventually = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], Path]]]:
    """run(*command) -> the process and the file with what it says; ended with the test."""
    made: list[subprocess.Popen[str]] = []

    def start(*command: str) -> tuple[subprocess.Popen[str], Path]:
        log = tmp_path / f"{len(made)}.log"
        with log.open("w") as file:
            made.append(subprocess.Popen(command, stdout=file, stderr=file, text=True))
        return made[-1], log

    yield start
    for process in made:
        process.kill()
        process.wait()


@pytest.fixture
def street(enrolled: Any, run: Any, tmp_path: Path, eventually: Eventually) -> Path:
    """The configuration of a gateway with a beam and a dust sensor on pseudo-terminals."""
    murmure = (sys.executable, "-m", "murmure.cli")
    ports = []
    for name, device, quantity in (("beam", "tfluna", "footfall"), ("dust", "sds011", "pm10")):
        run(*murmure, "sim", "device", device, "--link", str(tmp_path / name))
        ports.append(
            f'name = "{name}"\ndevice = "{device}"\npath = "{tmp_path / name}"\n'
            f'streams = {{ {quantity} = "plaza/{name}" }}'
        )
    eventually(lambda: all((tmp_path / name).exists() for name in ("beam", "dust")), "the devices")
    config: Path = enrolled.write(*ports)
    return config


def at_work(log: Path, enrolled: Any, eventually: Eventually) -> None:
    """Waits until it reads both sensors and has told of itself."""
    for line in ("murmure: sense: beam: ok", "murmure: sense: dust: warming"):
        eventually(lambda line=line: line in log.read_text(), line)
    eventually((enrolled.folder / "spool" / "outbox" / "health.cose").exists, "the report")


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"])
def test_the_filter_kills_whoever_asks_for_a_network(family: str) -> None:
    """What the test below stands on: no family but AF_UNIX, and no memory that is written and run."""
    ask = f"import socket; socket.socket(socket.AF_UNIX); print('unix', flush=True); socket.socket(socket.{family})"
    told = subprocess.run([*SILENT, sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (-signal.SIGSYS, "unix\n"), told.stderr
    run_it = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"
    told = subprocess.run([*SILENT, sys.executable, "-c", run_it], capture_output=True, text=True, check=False)
    assert "PermissionError" in told.stderr


def test_sense_works_where_a_socket_would_kill_it(
    street: Path, enrolled: Any, run: Any, eventually: Eventually
) -> None:
    """The real process behind the kernel's filter, and where the user may make one in a network namespace without an
    interface: it reads, it reports, and SIGTERM ends it with 0."""
    sense, log = run(*SILENT, sys.executable, "-m", "murmure.cli", "edge", "sense", "--config", str(street))
    at_work(log, enrolled, eventually)
    status = Path(f"/proc/{sense.pid}/status").read_text()
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE) and re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    # A container's root may lack the right to leave the network; the filter stands all the same.
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0:
        assert Path(f"/proc/{sense.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        interfaces = Path(f"/proc/{sense.pid}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] in ([], ["lo"])
    sense.terminate()
    assert sense.wait(30) == 0


def system_calls(group: str) -> set[str]:
    """Returns the names in one of systemd's groups, and in those that it names."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    found: set[str] = set()
    for name in re.findall(r"^    ([@\w-]+)$", listed.stdout, re.MULTILINE):
        found |= system_calls(name) if name.startswith("@") else {name}
    return found


def filtered(unit: Path) -> set[str]:
    """Returns the system calls that a unit's SystemCallFilter= lets through."""
    allowed = system_calls("@default")
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit.read_text(), re.MULTILINE):
        named: set[str] = set()
        for name in line.removeprefix("~").split():
            named |= system_calls(name) if name.startswith("@") else {name}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


@pytest.mark.strace
@pytest.mark.systemd
def test_sense_makes_no_system_call_that_its_unit_refuses(
    street: Path, enrolled: Any, run: Any, eventually: Eventually, tmp_path: Path
) -> None:
    """From the interpreter's start to SIGTERM, seen from the kernel: the unit's filter lets all of it through."""
    strace = shutil.which("strace")
    assert strace is not None
    trace = [strace, "-D", "-f", "-qq", "-o", str(tmp_path / "calls")]
    sense, log = run(*trace, sys.executable, "-m", "murmure.cli", "edge", "sense", "--config", str(street))
    at_work(log, enrolled, eventually)
    sense.terminate()
    assert sense.wait(30) == 0
    used = set(re.findall(r"^\d+ +(\w+)\(", (tmp_path / "calls").read_text(), re.MULTILINE))
    assert {"openat", "futex", "prctl", "ioctl"} <= used
    # Root alone makes SQLite give its files an owner; the allocator does without mbind, as the test above shows.
    assert used - filtered(UNIT) - {"fchown", "mbind"} == set()
    assert "clock_settime" not in filtered(UNIT) and "read" in filtered(UNIT)
