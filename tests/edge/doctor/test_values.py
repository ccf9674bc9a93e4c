"""A value that was measured is for the technician's own screen: not for JSON, a log, a file or a remote shell."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from murmure_edge.doctor import command
from murmure_edge.doctor.ears import Values
from murmure_edge.doctor.examine import Examined
from murmure_edge.doctor.privacy import is_local

FINE, COARSE = 123.4, 567.8
SAYS = f"sds011 --set pm2_5={FINE} pm10={COARSE}"
SIGNS = re.compile(r"123[.,]?4|567[.,]?8|d2\s?04|2e\s?16", re.IGNORECASE)
"""The values in decimals, in tenths, and in the bytes of the frame."""
ON_A_PTY = """
import sys
from pathlib import Path
from murmure_edge.doctor.command import Doctor, Surroundings, Wish, _ended_by_signals
from murmure_edge.doctor.machine import Machine
around = Surroundings(here=Machine(Path(sys.argv[2])))
with _ended_by_signals(around.stop):
    sys.exit(Doctor(Wish(port=sys.argv[1], device="sds011", watch=sys.argv[3] == "watch", language="en"), around).run())
"""


def _clean(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SSH_")}
    return {**kept, "TERM": "xterm", "COLUMNS": "160", "LINES": "30", **more}


def _log_in(terminal: int) -> None:
    """Makes it the controlling terminal of a new session, with stderr left as it is."""
    stderr = os.dup(2)
    os.login_tty(terminal)
    os.dup2(stderr, 2)


class Terminal:
    """A doctor on a real pseudo-terminal."""

    def __init__(self, link: Path, machine: Path, what: str, environ: dict[str, str]) -> None:
        self.master, slave = os.openpty()
        self.before = termios.tcgetattr(slave)
        termios.tcsetwinsize(slave, (30, 160))
        arguments = [sys.executable, "-c", ON_A_PTY, str(link), str(machine), what]
        self.process = subprocess.Popen(
            arguments, stderr=subprocess.DEVNULL, env=environ, preexec_fn=lambda: _log_in(slave)
        )
        self.slave = slave
        self.said = ""

    def read(self, until: str, timeout_s: float) -> bool:
        """Reads until a text has come; returns whether it has."""
        patience = time.monotonic() + timeout_s
        while until not in self.said and time.monotonic() < patience:
            if select.select([self.master], [], [], 0.2)[0]:
                self.said += os.read(self.master, 65536).decode("utf-8", "replace")
            elif self.process.poll() is not None:
                break
        return until in self.said

    def end(self, key: bytes = b"") -> int:
        if key:
            os.write(self.master, key)
        patience = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < patience:
            self.read("\0", 0.2)  # a terminal that nobody reads would hold it up
        status = self.process.wait(1)
        self.after = termios.tcgetattr(self.slave)
        os.close(self.slave)
        os.close(self.master)
        return status


@pytest.mark.parametrize(("environ", "shown"), [({}, True), ({"SSH_TTY": "/dev/pts/7"}, False)])
def test_a_visit_shows_values_on_a_local_terminal_only(clinic: Any, environ: dict[str, str], shown: bool) -> None:
    """The same command, once at the gateway and once over SSH."""
    terminal = Terminal(clinic.start(SAYS), clinic.machine({}).root, "once", _clean(**environ))
    assert terminal.read("point(s) in order", 30)
    terminal.end()
    assert "sensor.ok" in terminal.said
    assert bool(SIGNS.search(terminal.said)) is shown


@pytest.mark.parametrize(
    ("environ", "key", "shown"),
    [({}, b"q", True), ({"SSH_TTY": "/dev/pts/7"}, b"\x03", False)],
)
def test_the_live_page_shows_values_on_a_local_terminal_only(
    clinic: Any, environ: dict[str, str], key: bytes, shown: bool
) -> None:
    """Frames a second and state for everybody; q or Ctrl-C ends it, and the terminal is as before."""
    terminal = Terminal(clinic.start(SAYS), clinic.machine({}).root, "watch", _clean(**environ))
    assert terminal.read("good, good, good" if shown else "warming", 30)
    for words in ("frames/s", "plausibility", "warming", "sds011", "q: quit"):
        assert words in terminal.said
    assert bool(SIGNS.search(terminal.said)) is shown
    assert ("own screen only" in terminal.said) is not shown
    assert ("good" in terminal.said) is shown
    assert termios.tcgetattr(terminal.slave) != terminal.before
    assert terminal.end(key) == 0
    assert terminal.after == terminal.before


@pytest.mark.parametrize(("device", "values"), [("ld2450", ((0, 150))), ("nsrt_mk3", (20, 80))])
def test_no_document_tells_whether_anybody_is_there(clinic: Any, device: str, values: tuple[int, int]) -> None:
    """A visit and the live documents of an empty and of a crowded street have the same words, but for counts of frames
    and ages; only the technician's own screen tells more."""
    setting = "crossings_per_min" if device == "ld2450" else "level_db"
    told = []
    for value in values:
        link = clinic.start(f"{device} --set {setting}={value}")
        words = [
            sys.executable,
            "-m",
            "murmure.cli",
            "edge",
            "doctor",
            "--port",
            str(link),
            "--device",
            device,
            "--json",
        ]
        watch = subprocess.Popen([*words, "--watch"], env=_clean(), stdout=subprocess.PIPE, text=True)
        assert watch.stdout is not None
        rows = [json.loads(watch.stdout.readline())["ports"][0]]
        while rows[-1]["state"] == "opening":
            rows.append(json.loads(watch.stdout.readline())["ports"][0])
        watch.terminate()
        watch.wait(20)
        watch.stdout.close()
        told.append({key: rows[-1][key] for key in rows[-1].keys() - {"port", "frames_per_s", "bad_percent", "age_s"}})
        assert {"plausibility", "verdicts", "values"}.isdisjoint(rows[-1])
        assert rows[-1]["state"] == "ok"
    assert told[0] == told[1]


def test_the_live_page_ends_with_its_terminal(clinic: Any) -> None:
    """A window that is closed ends the doctor, which gives the port back: no process goes on turning unseen."""
    terminal = Terminal(clinic.start(SAYS), clinic.machine({}).root, "watch", _clean())
    assert terminal.read("q: quit", 30)
    os.close(terminal.slave)
    os.close(terminal.master)
    terminal.process.wait(20)


@pytest.mark.long
def test_no_value_leaves_by_json_or_stderr_or_a_file(clinic: Any) -> None:
    """One visit with --json, and two seconds of --watch --json, in an empty folder that is still empty after."""
    link = clinic.start(SAYS)
    home = clinic.folder / "home"
    home.mkdir()
    environ = _clean(HOME=str(home), TMPDIR=str(home))
    words = [sys.executable, "-m", "murmure.cli", "edge", "doctor", "--port", str(link), "--device", "sds011", "--json"]
    done = subprocess.run(words, cwd=home, env=environ, capture_output=True, text=True, timeout=60, check=False)
    told = json.loads(done.stdout)
    assert [sensor["frames"] >= 2 for sensor in told["sensors"]] == [True]
    assert "sensor.ok" in {finding["code"] for finding in told["findings"]}
    watch = subprocess.Popen([*words, "--watch"], cwd=home, env=environ, stdout=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    lines = [watch.stdout.readline() for _ in range(6)]
    watch.terminate()
    assert watch.wait(20) == 0
    watch.stdout.close()
    assert json.loads(lines[-1])["ports"][0]["state"] in ("opening", "warming")
    assert not SIGNS.search(done.stdout + done.stderr + "".join(lines))
    assert list(home.iterdir()) == []


def test_a_doctor_that_put_values_into_json_would_be_caught(clinic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin: the signs that the tests above look for are found in what it prints."""
    whole = Examined.as_json
    monkeypatch.setattr(Examined, "as_json", lambda self: {**whole(self), "values": dict(self.values.items())})
    _, printed = clinic.visit(f"--port {clinic.start(SAYS)} --device sds011 --json")
    assert SIGNS.search(printed)


def test_values_show_themselves_to_nobody_by_accident() -> None:
    """Neither a format nor a traceback's repr holds one."""
    values = Values({"pm2_5_ug_m3": FINE})
    assert not SIGNS.search(f"{values} {values!r} {Examined.__repr__(_examined(values))}")


def _examined(values: Values) -> Examined:
    from murmure_edge.config import PortConfig

    return Examined(PortConfig("dust", "sds011", "/dev/x", {}, None, {}), values=values)


def _process(name: str, parent: int, environ: str = "") -> dict[str, str]:
    return {"status": f"Name:\t{name}\nPPid:\t{parent}\n", "environ": environ}


@pytest.mark.parametrize(
    ("others", "local"),
    [
        ([("bash", ""), ("login", "")], True),
        ([("sudo", ""), ("bash", ""), ("sshd", "")], False),
        ([("sudo", ""), ("bash", ""), ("sshd-session", "")], False),
        ([("sudo", ""), ("bash", "HOME=/\0SSH_TTY=/dev/pts/3\0"), ("init", "")], False),
        ([("bash", ""), ("tmux: server", "")], False),
        ([("bash", ""), ("mosh-server", "")], False),
    ],
)
def test_sudo_does_not_hide_that_somebody_came_from_elsewhere(
    clinic: Any, others: list[tuple[str, str]], local: bool
) -> None:
    """sudo takes the variables of SSH away; who started it is asked as well, and a shared terminal is no own screen."""
    chain = [("murmure", ""), *others]
    files: dict[str, str] = {}
    for at, (name, environ) in enumerate(chain):
        pid, parent = (os.getpid() if at == 0 else 60_000_000 + at), 60_000_001 + at
        told = _process(name, parent if at + 1 < len(chain) else 0, environ)
        files |= {f"proc/{pid}/{file}": text for file, text in told.items()}
    machine = clinic.machine(files)
    assert is_local(True, {}, machine) is local
    assert not is_local(False, {}, machine)
    assert not is_local(True, {"SSH_CONNECTION": "1"}, machine)


@pytest.mark.long
def test_values_are_hidden_while_sense_may_run(clinic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the best of terminals: not if sense runs, and not if nobody may know whether it does."""
    link = clinic.start(SAYS)
    for runs, shown in ((False, True), (True, False), (None, False)):
        monkeypatch.setattr(command.Doctor, "_ask_sense", lambda self, runs=runs: runs)
        out = clinic.Screen(terminal=True)
        clinic.visit(f"--port {link} --device sds011", out, here=clinic.machine({}), environ={})
        assert bool(SIGNS.search(out.getvalue())) is shown
