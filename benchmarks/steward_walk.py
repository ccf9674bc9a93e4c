"""A steward's walk, timed: from an empty folder to a signed policy that runs, and to a site that `murmure verify` calls
conforme.

Every step is the command that a person would type, on a centre that runs: Debian's mosquitto as `broker init` writes
it, with TLS, `ingest run`, a gateway enrolled with a code. Only the sensor is emulated, and its half-hour passes as
fast as it is read: a real gateway begins at the next quarter-hour and tells of it a quarter-hour later. What a person
reads, thinks and types in between is not in it. Peer: so many starts of the program that do nothing.

Needs mosquitto. Nothing stays: the folder and every process end with the walk.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

from murmure_ingest.archive import Archive
from murmure_ingest.embedded_broker import free_port
from murmure_privacy.window import QUARTER_S, Calendar

PATIENCE_S = 600.0
SITE, GATEWAY, ZONE = "plaza", "gw-plaza", "Europe/Paris"
MURMURE = (sys.executable, "-m", "murmure.cli")
_CITY = """\
city = "Murmure"
timezone = "{zone}"
help = "Mairie, 1 place de la République"
simulated = true
[[quartier]]
slug = "centre"
name = "Centre"
[[site]]
id = "{site}"
name = "Place de la République"
quartier = "centre"
purpose = "Compter avant et après la piétonnisation."
owner = "Ville de Murmure"
contact = "capteurs@murmure.example"
until = {until}
"""
_INGEST = """\
data_dir = "data"
[broker]
host = "localhost"
port = {broker}
authority = "data/authority.crt"
certificate = "data/broker/ingest.crt"
key = "data/broker/ingest.key"
[enrolment]
host = "127.0.0.1"
port = {door}
name = "localhost"
broker_host = "localhost"
[deciding]
ceiling = 3
[deciding.roles]
"""


@dataclass(frozen=True, slots=True)
class Step:
    """What was done, the command for it, and how long it took by the clock, in seconds."""

    step: str
    command: str
    seconds: float


class Walk:
    """The steps so far, in one folder; leaves no process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[Step] = []
        self.typed = 0
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @contextmanager
    def timed(self, step: str, command: str) -> Iterator[None]:
        """Times what happens inside as one step."""
        began = time.monotonic()
        yield
        self.steps.append(Step(step, command, round(time.monotonic() - began, 2)))

    def type(self, step: str, command: str) -> str:
        """Types one command of `murmure`, as a step; returns what it printed. Raises RuntimeError if it failed."""
        with self.timed(step, f"murmure {command}"):
            self.typed += 1
            done = subprocess.run(
                [*MURMURE, *_words(command)], cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE_S
            )
        if done.returncode:
            raise RuntimeError(f"murmure {command}: {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def start(self, name: str, words: Sequence[str]) -> None:
        """Starts a program that goes on running; NAME.log holds what it says."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                words, cwd=self.folder, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def said(self, name: str) -> str:
        """Returns what a program has said so far."""
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def until(self, what: str, good: Callable[[], object]) -> None:
        """Waits until something is so. Raises RuntimeError if it never is, or a program has ended meanwhile."""
        patience = time.monotonic() + PATIENCE_S
        while not good():
            ended = [name for name, process in self._running.items() if process.poll() not in (None, 0)]
            if ended or time.monotonic() > patience:
                logs = "\n".join(f"{name}:\n{self.said(name)}" for name in ended or self._running)
                raise RuntimeError(f"{what}: is not so\n{logs}")
            time.sleep(0.02)

    def stop(self, *names: str) -> None:
        """Ends programs, all if none is named."""
        for name in names or tuple(self._running):
            process = self._running.pop(name)
            process.terminate()
            assert process.stdin
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _words(command: str) -> list[str]:
    return [word.strip("'") for word in re.findall(r"'[^']*'|\S+", command)]


def walk(on: Walk) -> None:
    """Does it all. Raises RuntimeError where a step fails."""
    folder, calendar = on.folder, Calendar(ZONE)
    end_s = int(time.time() - 120) // QUARTER_S * QUARTER_S  # all of it lies behind us
    first_s = end_s - 2 * QUARTER_S
    first = calendar.civil_day(first_s)
    until = first + timedelta(days=364)

    # Choosing
    on.type(
        "write a policy",
        f"policy new --site {SITE} --stream footfall --target footfall=1h:15 --from {first} --until {until} "
        "--decision 'Délibération 42' --reason 'Compter avant et après.' --out policy.toml",
    )
    on.type("check it", "policy check policy.toml")
    on.type("preview it", "policy preview policy.toml")
    port = free_port()
    for step, path in (("studio: the whole site", "gestion/lieu"), ("studio: three scenarios", "gestion/scenarios")):
        with on.timed(step, f"murmure policy studio --policy policy.toml, then /{path}"):
            if path == "gestion/lieu":
                on.typed += 1
                on.start("studio", [*MURMURE, "policy", "studio", "--policy", "policy.toml", "--port", str(port)])
                on.until("the studio", lambda: "http://" in on.said("studio"))
            with urlopen(f"http://127.0.0.1:{port}/{path}", timeout=PATIENCE_S) as answer:
                page = answer.read().decode()
        if "ε" not in page or answer.status != 200:
            raise RuntimeError(f"/{path}: is no page of the studio")
    on.stop("studio")

    # The centre, which an operator sets up
    on.type("steward's key", "policy key --out steward.key --role steward")
    on.type("second role's key", "policy key --out dpo.key --role dpo")
    broker, door = free_port(), free_port()
    roles = "".join(
        f'"{(folder / f"{role}.key.pub").read_text("ascii").split()[0]}" = "{role}"\n' for role in ("steward", "dpo")
    )
    (folder / "ingest.toml").write_text(_INGEST.format(broker=broker, door=door) + roles, "utf-8")
    on.type("broker's settings", f"broker init mqtt --listen 127.0.0.1 --port {broker} --user {getpass.getuser()}")
    with on.timed("broker and centre run", "mosquitto; murmure ingest run"):
        on.typed += 1
        search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
        on.start("mosquitto", [shutil.which("mosquitto", path=search) or "mosquitto", "-c", "mqtt/mosquitto.conf"])
        on.start("ingest", [*MURMURE, "ingest", "run", "--config", "ingest.toml"])
        on.until("the centre", lambda: "connected" in on.said("ingest"))

    # A gateway
    (folder / "gw" / "ports").mkdir(parents=True)
    offered = on.type(
        "offer a gateway its place",
        f"gateway enrol --gateway {GATEWAY} --site {SITE} --quartier centre --steward steward.key.pub "
        f"--steward dpo.key.pub --port name=beam,device=tfluna,path={folder}/gw/ports/beam,footfall={SITE}/footfall "
        "--simulated --json",
    )
    code = json.loads(offered)["code"]
    on.type("enrol the gateway", f"edge enrol {code} --centre localhost:{door} --config gw/gateway.toml")
    shown = on.steps[-1]
    on.steps[-1] = Step(shown.step, shown.command.replace(code, "CODE"), shown.seconds)

    # Deciding
    on.type("first signature", "policy sign policy.toml --key steward.key --out policy.cose")
    on.type("second signature", "policy sign policy.toml --key dpo.key --out policy.cose")
    on.type("publish", "policy publish policy.cose")
    with on.timed("the gateway has it", "murmure edge send"):
        on.typed += 1
        on.start("send", [*MURMURE, "edge", "send", "--config", "gw/gateway.toml"])
        on.until("the policy at the gateway", lambda: list(folder.glob("gw/**/inbox/*policy*")))
    timeline = folder / "gw" / "timeline"
    timeline.mkdir(mode=0o700)
    beam: dict[str, object] = {"name": "beam", "link": f"{folder}/gw/ports/beam", "device": "tfluna"}
    beam["source"] = {"kind": "street", "seed": 11, "profile": "plaza"}
    (folder / "scenario.json").write_text(
        json.dumps(
            {
                "start_ms": (first_s - 60) * 1000,
                "end_ms": (end_s + 60) * 1000,
                "fast_until_ms": None,
                "speed": None,
                "gateways": [{"gateway": GATEWAY, "dir": str(timeline), "ports": [beam]}],
            }
        ),
        "utf-8",
    )
    with on.timed("it takes the policy up", "murmure edge sense (sensor and time emulated)"):
        on.typed += 1
        on.start("bench", [sys.executable, "-m", "murmure_firmware_sim.bench", "scenario.json"])
        on.until("the sensor", lambda: (timeline / "timeline.sock").exists() and any((folder / "gw/ports").iterdir()))
        sense = [sys.executable, "-m", "murmure.simulated_sense"]
        on.start("sense", [*sense, "--config", "gw/gateway.toml", "--timeline", str(timeline)])
        on.until("the policy", lambda: "policy 1: accepted" in on.said("sense"))
    with on.timed("its first release is filed", "(the half-hour passes, then seal, broker, archive)"):
        on.until("a release", lambda: _filed(folder / "data" / "archive.db"))
    on.stop("send", "sense", "bench")

    # Proving
    (folder / "city.toml").write_text(_CITY.format(zone=ZONE, site=SITE, until=until), "utf-8")
    on.type("build the site", "site build --archive data/archive.db --city city.toml --out site")
    said = on.type("verify it", "verify site --all --lang fr")
    if "conforme" not in said.lower() or "non conforme" in said.lower():
        raise RuntimeError(f"murmure verify does not say conforme:\n{said}")


def _filed(archive: Path) -> bool:
    held = Archive.open(archive, read_only=True)
    try:
        return any(integers for *_, integers in held.nodes(f"{SITE}/footfall", "15min", 0, 1 << 40))
    finally:
        held.close()


def main() -> int:
    """Runs the walk and prints its table; exit status 1 where a step fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="murmure-walk-") as name:
        on = Walk(Path(name))
        try:
            walk(on)
        except RuntimeError as error:
            print(f"steward_walk: {error}", file=sys.stderr)
            return 1
        finally:
            on.stop()
    began = time.monotonic()
    subprocess.run([*MURMURE, "--help"], check=True, stdout=subprocess.DEVNULL)
    bare_s = time.monotonic() - began
    total_s = sum(step.seconds for step in on.steps)
    found = {
        "steps": [asdict(step) for step in on.steps],
        "seconds": round(total_s, 1),
        "commands": on.typed,
        "bare_start_s": round(bare_s, 2),
        "of_bare_starts": round(total_s / (on.typed * bare_s), 1),
    }
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    width = max(len(step.step) for step in on.steps)
    for step in on.steps:
        print(f"{step.seconds:7.2f} s  {step.step:<{width}}  {step.command.replace(name, '…')[:90]}")
    print(f"{total_s:7.1f} s  in all, {on.typed} commands; {found['of_bare_starts']} of so many bare starts")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
