"""`murmure edge sense` and `edge run` as processes on real pseudo-terminals and the wall clock, for a few seconds."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from murmure_edge import shutters
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.publisher import Identity, Publisher
from murmure_privacy.policy import parse
from murmure_privacy.wire import open_health, public_key

CANARY = 471_147  # a reading that would be recognised anywhere
PR_GET_DUMPABLE = 3
Eventually = Callable[..., None]


class Process:
    """A command of ours that runs until it is stopped; what it says goes to a file."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("w") as file:
            self.running = subprocess.Popen(arguments, stdout=file, stderr=subprocess.STDOUT)

    def said(self) -> str:
        return self.log.read_text()

    def ends(self, number: int = signal.SIGTERM) -> int:
        self.running.send_signal(number)
        return self.running.wait(30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a command of murmure; what is still running at the end is killed."""
    made: list[Process] = []

    def run(*arguments: str) -> Process:
        command = (sys.executable, "-m", "murmure.cli", *arguments)
        made.append(Process(tmp_path / f"{len(made)}.log", *command))
        return made[-1]

    yield run
    for one in made:
        if one.running.poll() is None:
            one.running.kill()
            one.running.wait()


def port(name: str, device: str, path: Path, streams: str) -> str:
    return f'name = "{name}"\ndevice = "{device}"\npath = "{path}"\nstreams = {{ {streams} }}'


def valid_now() -> tuple[str, str]:
    today = datetime.now(UTC)
    return f"{today - timedelta(days=300):%Y-%m-%d}", f"{today + timedelta(days=300):%Y-%m-%d}"


class Held:
    """A pseudo-terminal that another program holds, as a forgotten terminal program does."""

    def __init__(self, link: Path) -> None:
        self.master, self.slave = os.openpty()
        fcntl.flock(self.slave, fcntl.LOCK_EX)
        link.symlink_to(os.ttyname(self.slave))

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


def test_ports_that_are_missing_held_pulled_out_or_babbling_stop_nobody(
    enrolled: Any, start: Callable[..., Process], tmp_path: Path, eventually: Eventually
) -> None:
    """Each port says what is the matter with it, the others go on, and health tells; SIGTERM ends it all with 0."""
    held = Held(tmp_path / "held")
    start("sim", "device", "tfluna", "--link", str(tmp_path / "beam"))
    pulled = start("sim", "device", "sds011", "--link", str(tmp_path / "dust"))
    start("sim", "device", "tfluna", "--link", str(tmp_path / "babble"), "--fault", "wrong_baud")
    config = enrolled.write(
        port("beam", "tfluna", tmp_path / "beam", 'footfall = "plaza/steps"'),
        port("dust", "sds011", tmp_path / "dust", 'pm2_5 = "plaza/dust"'),
        port("babble", "tfluna", tmp_path / "babble", 'footfall = "plaza/babble"'),
        port("gone", "modbus_noise", tmp_path / "nowhere", 'noise = "plaza/sound"'),
        port("held", "sds011", tmp_path / "held", 'pm10 = "plaza/coarse"'),
    )
    eventually(lambda: all((tmp_path / name).exists() for name in ("beam", "dust", "babble")), "the devices")
    sense = start("edge", "sense", "--config", str(config))
    for line in ("beam: ok", "dust: warming", "gone: absent; ", "held: denied; ", "babble: stalled; bytes come but no"):
        eventually(lambda line=line: f"murmure: sense: {line}" in sense.said(), line)
    assert pulled.ends() == 0
    eventually(lambda: "murmure: sense: dust: absent; " in sense.said(), "the unplugged port")
    start("sim", "device", "sds011", "--link", str(tmp_path / "dust"))
    eventually(lambda: sense.said().count("murmure: sense: dust: warming") == 2, "the port that was plugged in again")
    assert (tmp_path / "spool" / "outbox" / "health.cose").exists()
    assert sense.running.poll() is None
    assert sense.ends() == 0
    assert "Traceback" not in sense.said() and "beam: absent" not in sense.said()
    held.close()


def test_letters_come_in_while_it_runs_and_a_second_one_is_refused(
    enrolled: Any,
    start: Callable[..., Process],
    write_policy: Callable[..., bytes],
    gateway_secret: bytes,
    exact: Any,
    tmp_path: Path,
    eventually: Eventually,
) -> None:
    """Messages of before lie in the folder, a receipt clears them, a policy is taken, an old one is not."""
    now_s = int(time.time()) // 3600 * 3600 - 7200
    policy = parse(write_policy(valid=valid_now(), timezone="Etc/UTC"), "policy")
    db = GatewayDb.open(tmp_path / "data" / "gateway.db")
    who = Identity("gw-plaza", "centre", "plaza", gateway_secret)
    publisher = Publisher(db, who, exact, lambda *_: None, lambda _: None)
    publisher.start(now_s)
    publisher.adopt(policy, now_s)
    publisher.advance(now_s + 3600)
    rows = db.rows()
    db.close()
    config = enrolled.write(port("dust", "sds011", tmp_path / "nowhere", 'pm2_5 = "plaza/dust"'))
    sense = start("edge", "sense", "--config", str(config))
    eventually(lambda: len(enrolled.outbox()) == len(rows) == 4, "the messages of before")
    second = subprocess.run(
        [sys.executable, "-m", "murmure.cli", "edge", "sense", "--config", str(config)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.endswith("gateway.db: another process has it; stop the other `sense` first\n")
    assert second.stderr.count("\n") == 1
    enrolled.drop("receipt.cose", enrolled.receipt(3, rows[3]))
    eventually(lambda: enrolled.outbox() == ["000000000004.cose"], "the receipt to be obeyed")
    text = write_policy(2, valid=valid_now(), timezone="Etc/UTC", epsilon="0.5")
    enrolled.drop("policy-2.cose", enrolled.policy(text))
    eventually(lambda: "policy 2: accepted" in sense.said(), "the policy")
    enrolled.drop("policy-1.cose", enrolled.policy(policy.text))
    eventually(lambda: "inbox: policy-1.cose is not believed (old_policy)" in sense.said(), "the old policy")
    short = text.replace(b"version = 2", b"version = 3").replace(b"tail = 2", b"tail = 1")
    enrolled.drop("policy-3.cose", enrolled.policy(short))
    eventually(lambda: "policy 3: refused: plaza/dust: the sds011 remembers 2 readings" in sense.said(), "the refusal")
    assert sense.ends(signal.SIGINT) == 0


def test_memory_stays_out_of_files(enrolled: Any, start: Callable[..., Process], tmp_path: Path) -> None:
    """No core dump and no reading by others of the same user, as the kernel says itself."""
    config = enrolled.write(port("dust", "sds011", tmp_path / "nowhere", 'pm2_5 = "plaza/dust"'))
    code = (
        "import ctypes, resource, sys\nfrom murmure_edge.sense import close_the_shutters\nclose_the_shutters()\n"
        f"print(ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "0 (0, 0)\n"
    sense = start("edge", "sense", "--config", str(config))
    deadline = time.monotonic() + 30
    while "absent" not in sense.said() and time.monotonic() < deadline:
        time.sleep(0.02)
    limits = Path(f"/proc/{sense.running.pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)
    assert sense.ends() == 0


CORES = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT])
def test_a_process_that_crashes_leaves_no_core(
    enrolled: Any, tmp_path: Path, eventually: Eventually, number: int
) -> None:
    """Where the machine writes cores and the limit allows them, `sense` leaves none, whatever kills it; a twin with
    open shutters does, where this kernel writes cores into the working folder."""
    for twin in (False, True):
        folder = tmp_path / f"twin{twin}"
        folder.mkdir()
        config = enrolled.write(port("dust", "sds011", tmp_path / "nowhere", 'pm2_5 = "plaza/dust"'))
        close = "" if not twin else "from murmure_edge import sense; sense.close_the_shutters = lambda: None; "
        code = f"{CORES}; {close}from murmure.cli import main; main(['edge', 'sense', '--config', '{config}'])"
        with (folder / "said").open("w") as log:
            process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stderr=log)
        eventually(lambda folder=folder: "absent" in (folder / "said").read_text(), "the port")
        process.send_signal(number)
        assert process.wait(60) == -number
        left = [path.name for path in folder.iterdir() if path.name != "said"]
        if not twin:
            assert left == []
        elif Path("/proc/sys/kernel/core_pattern").read_text().strip() == "core":
            assert [name.partition(".")[0] for name in left] == ["core"]


# --- swap ------------------------------------------------------------------------------------------------------------


def test_what_sense_touches_is_locked_in_memory_and_costs_none(
    enrolled: Any, start: Callable[..., Process], tmp_path: Path, eventually: Eventually
) -> None:
    """Where the unit's limit or root's right allows it, all of its address space is locked, and what is only mapped is
    not loaded for it: it stays below 100 MB."""
    if not shutters._may_lock_all():
        pytest.skip("this user may not lock memory")
    sense = start(
        "edge",
        "sense",
        "--config",
        str(enrolled.write(port("dust", "sds011", tmp_path / "no", 'pm2_5 = "plaza/dust"'))),
    )
    eventually(lambda: "absent" in sense.said(), "the port")
    status = Path(f"/proc/{sense.running.pid}/status").read_text()
    sizes = {name: int(kib) / 1024 for name, kib in re.findall(r"^(Vm\w+):\s+(\d+) kB$", status, re.MULTILINE)}
    assert sizes["VmLck"] > 0.9 * sizes["VmSize"] > 2 * sizes["VmRSS"]
    assert sizes["VmRSS"] < 100
    assert "memory" not in sense.said() and sense.ends() == 0


@pytest.mark.parametrize(
    ("swaps", "said"),
    [
        ("Filename Type Size Used Priority\n", ""),
        ("Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n", ""),
        ("Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n/swapfile file 1 0 -2\n", "/swapfile"),
        (None, "unknown"),
    ],
)
def test_swap_that_could_hold_a_reading_is_told(
    swaps: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory cannot be locked: no swap and swap in memory are fine, any other is one line with the mend."""
    monkeypatch.setattr(shutters, "_may_lock_all", lambda: False)
    if swaps is not None:
        (tmp_path / "swaps").write_text(swaps)
    line = shutters.lock_memory(tmp_path / "swaps")
    assert (said in line and "swapoff" in line) if said else line == ""


DEFECT = f"""
import sys, threading
from murmure_edge.sense import close_the_shutters
close_the_shutters()
def fail(): raise ValueError("level {CANARY}")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
try:
    fail()
except ValueError as error:
    raise RuntimeError(f"reading {{error}}") from error
"""

DEFECT_IN_A_DRIVER = f"""
import sys
from murmure.cli import main
from murmure_edge.sensors.sds011 import Sds011
def feed(self, data, now_ms): raise ValueError("reading {CANARY}")
Sds011.feed = feed
sys.exit(main(["edge", "sense", "--config", sys.argv[1]]))
"""


def test_a_defect_prints_no_value() -> None:
    """What a failing program would print could quote a reading: place and kind are said, never the text."""
    told = subprocess.run([sys.executable, "-c", DEFECT], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert re.fullmatch(
        r"murmure: sense: defect at <string>:5: ValueError\nmurmure: sense: defect at <string>:12: RuntimeError\n",
        told.stderr,
    )


def test_a_defect_in_a_driver_stops_the_gateway_and_prints_no_value(
    enrolled: Any, start: Callable[..., Process], tmp_path: Path, eventually: Eventually
) -> None:
    """The real process, a real device, a driver that fails on its first byte: status 1, no canary anywhere."""
    start("sim", "device", "sds011", "--link", str(tmp_path / "dust"))
    eventually((tmp_path / "dust").exists, "the device")
    config = enrolled.write(port("dust", "sds011", tmp_path / "dust", 'pm2_5 = "plaza/dust"'))
    command = [sys.executable, "-c", DEFECT_IN_A_DRIVER, str(config)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 1
    assert "murmure: dust: a defect stopped the thread of this port; nothing more is released\n" in told.stderr
    assert str(CANARY) not in told.stdout + told.stderr and "Traceback" not in told.stderr
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size < 10**7]
    assert not [data for data in kept if str(CANARY).encode() in data]


def test_a_damaged_database_stops_it_with_one_line(enrolled: Any, tmp_path: Path) -> None:
    """Nothing is published, and the status is the one with which the unit stays down (edge/systemd)."""
    db = tmp_path / "data" / "gateway.db"
    GatewayDb.open(db).close()
    data = bytearray(db.read_bytes())
    data[4096:4196] = bytes(100)
    db.write_bytes(data)
    config = enrolled.write(port("dust", "sds011", tmp_path / "nowhere", 'pm2_5 = "plaza/dust"'))
    command = [sys.executable, "-m", "murmure.cli", "edge", "sense", "--config", str(config)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert "gateway.db: damaged (" in told.stderr and "nothing is published" in told.stderr
    assert list((tmp_path / "spool" / "outbox").iterdir()) == []


def test_health_is_signed_by_the_gateways_key(
    enrolled: Any, start: Callable[..., Process], gateway_secret: bytes, tmp_path: Path, eventually: Eventually
) -> None:
    """A port that is not there is told of in the first report already."""
    config = enrolled.write(port("dust", "sds011", tmp_path / "nowhere", 'pm2_5 = "plaza/dust"'))
    sense = start("edge", "sense", "--config", str(config))
    report = tmp_path / "spool" / "outbox" / "health.cose"
    eventually(report.exists, "the report")
    health = open_health(report.read_bytes(), public_key(gateway_secret))
    assert (health.gateway, health.boot, health.clock) == ("gw-plaza", 1, "ok")
    assert sense.ends() == 0


# --- both ------------------------------------------------------------------------------------------------------------


def children(process: Process) -> list[int]:
    listed = Path(f"/proc/{process.running.pid}/task/{process.running.pid}/children").read_text().split()
    return [int(number) for number in listed]


def gone(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def both(enrolled: Any, start: Callable[..., Process], tmp_path: Path, eventually: Eventually) -> Process:
    """`edge run` with both processes at work; no broker answers."""
    config = enrolled.write(port("dust", "sds011", tmp_path / "nowhere", 'pm2_5 = "plaza/dust"'))
    process = start("edge", "run", "--config", str(config))
    eventually(lambda: "sense: dust: absent" in process.said(), "sense")
    eventually(lambda: len(children(process)) == 2, "two processes")
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_both_processes_and_the_status_is_0(both: Process, number: int) -> None:
    """Nobody is left behind."""
    ids = children(both)
    assert both.ends(number) == 0
    assert all(gone(child) for child in ids)


def test_if_one_process_dies_the_other_is_ended_and_the_status_is_1(both: Process) -> None:
    """Half a gateway is worse than one that is started again by its supervisor."""
    ids = children(both)
    os.kill(ids[0], signal.SIGKILL)
    assert both.running.wait(30) == 1
    assert all(gone(child) for child in ids)


def test_a_wrong_file_is_one_line_and_not_one_of_each_process(enrolled: Any, start: Callable[..., Process]) -> None:
    """The configuration is read before anything is started."""
    (enrolled.folder / "trust.toml").write_text("")
    process = start("edge", "run", "--config", str(enrolled.file))
    assert process.running.wait(30) == 2
    assert process.said().count("\n") == 1 and process.said().startswith("murmure: ")
