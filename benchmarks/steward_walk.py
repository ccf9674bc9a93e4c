"""A steward's walk, timed: the commands of the handbook as they stand there, from an empty folder to a signed policy
that runs, and to a site that `murmure verify` calls conforme.

The steward's commands are read from privacy/README.md (or `--page privacy/LISEZMOI.md`) and typed in their order;
REPLACED says which words of them are others here. Between them stand the operator's and the technician's commands,
written below: a centre that runs (Debian's mosquitto as `broker init` writes it, with TLS, `ingest run`), a gateway
enrolled with a code. Only the sensors are emulated, and their half-hour passes as fast as it is read: a real gateway
begins at the next quarter-hour and tells of it a quarter-hour later. What a person reads, thinks and types in between
is not in it. Peer: so many starts of the program that do nothing.

The walk begins where Murmure is installed. `--install` begins before: `.ci/venv` makes a new environment, which takes
minutes and the network, and that one does all the rest. Debian's packages are there before either.

Needs mosquitto. Nothing stays: the folder and every process end with the walk.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from urllib.request import urlopen

from murmure_ingest.archive import Archive
from murmure_ingest.embedded_broker import free_port
from murmure_privacy.window import QUARTER_S, Calendar

PATIENCE_S = 600.0
SITE, GATEWAY, ZONE = "plaza", "gw-plaza", "Europe/Paris"
SENSORS = (("beam", "tfluna", "footfall"), ("meter", "modbus_noise", "noise"))
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "privacy" / "README.md"
PARTS = ("looking", "writing", "deciding", "year", "afterwards", "proving")
# What the page says, and what is typed here for it: names that only a reader's town can have.
REPLACED = {
    "murmure policy studio": "murmure policy studio --port {port}",  # one that is free
    "--from 2026-12-01 --until 2027-11-30": "--from {first} --until {until}",  # a year that holds today
    "--from 2027-12-01 --until 2028-11-30": "--from {next} --until {end}",  # the year after it
    "https://capteurs.example.org": "site",  # the folder that is built here
}
CITY = """\
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
    """What was done, by whom, the command for it, and how long it took by the clock, in seconds.

    `who`: "steward" for a command of the handbook; "operator", "technician"; "gateway" for what nobody types."""

    who: str
    step: str
    command: str
    seconds: float


def handbook(page: Path) -> dict[str, list[list[str]]]:
    """Returns the commands of the page's blocks as they stand there, block by block, for each of PARTS.

    Raises ValueError where other parts of the page have commands."""
    found = []
    for part in re.split(r"^## ", page.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^ *```sh\n(.*?)^ *```", part, re.MULTILINE | re.DOTALL)
        joined = (re.sub(r"\s*\\\n\s*", " ", block) for block in blocks)
        found.append([[line.strip() for line in block.splitlines()] for block in joined])
    parts = [blocks for blocks in found if blocks]
    if len(parts) != len(PARTS):
        raise ValueError(f"{page.name}: {len(parts)} parts with commands instead of {len(PARTS)}: {', '.join(PARTS)}")
    return dict(zip(PARTS, parts, strict=True))


def replaced(page: dict[str, list[list[str]]], by: Mapping[str, object]) -> dict[str, list[list[str]]]:
    """Returns the commands with what REPLACED says. Raises ValueError for a name that the page no longer has."""
    typed = [command for blocks in page.values() for block in blocks for command in block]
    for old in REPLACED:
        if not any(old in command for command in typed):
            raise ValueError(f"REPLACED: {old!r} is not in the handbook")

    def here(command: str) -> str:
        for old, new in REPLACED.items():
            command = command.replace(old, new.format_map(by))
        return command

    return {part: [[here(command) for command in block] for block in blocks] for part, blocks in page.items()}


def dates(first: date) -> dict[str, date]:
    """Returns the days that REPLACED asks for: of a policy of a year, and of the one after it."""
    return {
        name: first + timedelta(days=days) for name, days in (("first", 0), ("until", 364), ("next", 365), ("end", 729))
    }


class Walk:
    """The steps so far, in one folder; leaves no process. `python`: the interpreter that has Murmure."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = sys.executable
        self.steps: list[Step] = []
        self.typed = 0
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def murmure(self) -> tuple[str, ...]:
        """The words that start the program."""
        return (self.python, "-m", "murmure.cli")

    @contextmanager
    def timed(self, who: str, step: str, command: str) -> Iterator[None]:
        """Times what happens inside as one step."""
        began = time.monotonic()
        yield
        self.steps.append(Step(who, step, command, round(time.monotonic() - began, 2)))

    def copy(self, block: Sequence[str]) -> str:
        """Types a block of the handbook, each command a step; returns what all printed."""
        return "".join(self.type("steward", " ".join(command.split()[1:3]), command) for command in block)

    def type(self, who: str, step: str, command: str) -> str:
        """Types one command of `murmure`, as a step; returns what it printed. Raises RuntimeError if it failed."""
        program, *words = shlex.split(command)
        if program != "murmure":
            raise RuntimeError(f"{command}: is no command of murmure")
        with self.timed(who, step, command):
            self.typed += 1
            done = subprocess.run(
                [*self.murmure, *words], cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE_S
            )
        if done.returncode:
            raise RuntimeError(f"{command}: {done.returncode}: {done.stderr or done.stdout}")
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


def walk(on: Walk, page: Path) -> None:
    """Does it all. Raises RuntimeError where a step fails, ValueError where the page has other steps."""
    folder, calendar = on.folder, Calendar(ZONE)
    end_s = int(time.time() - 120) // QUARTER_S * QUARTER_S  # all of it lies behind us
    first_s = end_s - 2 * QUARTER_S
    first = calendar.civil_day(first_s)
    port, days = free_port(), dates(first)
    here = replaced(handbook(page), {"port": port, **days})
    ((studio,),) = here["looking"]
    (writing,) = here["writing"]
    keys, deciding, changing = here["deciding"]
    (prolonging,) = here["year"]
    pausing, history = here["afterwards"]
    ((verify,),) = here["proving"]

    # Choosing
    for path in ("gestion/lieu", "gestion/scenarios"):
        with on.timed("steward", f"policy studio: /{path}", studio):
            if path == "gestion/lieu":
                on.typed += 1
                on.start("studio", [*on.murmure, *shlex.split(studio)[1:]])
                on.until("the studio", lambda: "http://" in on.said("studio"))
            with urlopen(f"http://127.0.0.1:{port}/{path}", timeout=PATIENCE_S) as answer:
                shown = answer.read().decode()
        if "ε" not in shown or answer.status != 200:
            raise RuntimeError(f"/{path}: is no page of the studio")
    on.stop("studio")
    on.copy(writing)
    on.copy(keys)

    # The centre, which an operator sets up
    broker, door = free_port(), free_port()
    roles = "".join(
        f'"{(folder / f"{role}.key.pub").read_text("ascii").split()[0]}" = "{role}"\n' for role in ("steward", "dpo")
    )
    (folder / "ingest.toml").write_text(_INGEST.format(broker=broker, door=door) + roles, "utf-8")
    settings = f"murmure broker init mqtt --listen 127.0.0.1 --port {broker} --user {getpass.getuser()}"
    on.type("operator", "broker's settings", settings)
    with on.timed("operator", "broker and centre run", "mosquitto; murmure ingest run"):
        on.typed += 1
        search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
        on.start("mosquitto", [shutil.which("mosquitto", path=search) or "mosquitto", "-c", "mqtt/mosquitto.conf"])
        on.start("ingest", [*on.murmure, "ingest", "run", "--config", "ingest.toml"])
        on.until("the centre", lambda: "connected" in on.said("ingest"))

    # A gateway with what the policy lets be measured
    ports = folder / "gw" / "ports"
    ports.mkdir(parents=True)
    plugged = "".join(
        f" --port name={name},device={device},path={ports}/{name},{what}={SITE}/{what}"
        for name, device, what in SENSORS
    )
    offered = on.type(
        "operator",
        "offer a gateway its place",
        f"murmure gateway enrol --gateway {GATEWAY} --site {SITE} --quartier centre --steward steward.key.pub "
        f"--steward dpo.key.pub{plugged} --simulated --json",
    )
    code = json.loads(offered)["code"]
    at = f"--centre localhost:{door} --config gw/gateway.toml"
    on.type("technician", "enrol the gateway", f"murmure edge enrol {code} {at}")
    on.steps[-1] = replace(on.steps[-1], command=f"murmure edge enrol CODE {at}")

    # Deciding
    on.copy(deciding)
    with on.timed("gateway", "has the policy", "murmure edge send"):
        on.typed += 1
        on.start("send", [*on.murmure, "edge", "send", "--config", "gw/gateway.toml"])
        on.until("the policy at the gateway", lambda: list(folder.glob("gw/**/inbox/*policy*")))
    timeline = folder / "gw" / "timeline"
    timeline.mkdir(mode=0o700)
    street = {"kind": "street", "seed": 11, "profile": "plaza"}
    emulated = [
        {"name": name, "link": f"{ports}/{name}", "device": device, "source": street} for name, device, _ in SENSORS
    ]
    scenario = {
        "start_ms": (first_s - 60) * 1000,
        "end_ms": (end_s + 60) * 1000,
        "fast_until_ms": None,
        "speed": None,
        "gateways": [{"gateway": GATEWAY, "dir": str(timeline), "ports": emulated}],
    }
    (folder / "scenario.json").write_text(json.dumps(scenario), "utf-8")
    with on.timed("gateway", "takes the policy up", "murmure edge sense (sensors and time emulated)"):
        on.typed += 1
        on.start("bench", [on.python, "-m", "murmure_firmware_sim.bench", "scenario.json"])
        on.until("the sensors", lambda: (timeline / "timeline.sock").exists() and any(ports.iterdir()))
        sense = [on.python, "-m", "murmure.simulated_sense"]
        on.start("sense", [*sense, "--config", "gw/gateway.toml", "--timeline", str(timeline)])
        on.until("the policy", lambda: "policy 1: accepted" in on.said("sense"))
    with on.timed("gateway", "its first release is filed", "(the half-hour passes, then seal, broker, archive)"):
        on.until("a release", lambda: _filed(folder / "data" / "archive.db"))
    on.copy(changing)
    on.stop("send", "sense", "bench")
    on.copy(prolonging)
    on.copy(pausing)
    on.copy(history)

    # Proving
    (folder / "city.toml").write_text(CITY.format(zone=ZONE, site=SITE, until=days["until"]), "utf-8")
    on.type("operator", "build the site", "murmure site build --archive data/archive.db --city city.toml --out site")
    said = on.copy([verify])
    if "conforme" not in said.lower() or "non conforme" in said.lower():
        raise RuntimeError(f"{verify}: does not say conforme:\n{said}")


def _filed(archive: Path) -> bool:
    held = Archive.open(archive, read_only=True)
    try:
        return any(integers for *_, integers in held.nodes(f"{SITE}/footfall", "15min", 0, 1 << 40))
    finally:
        held.close()


def main() -> int:
    """Runs the walk and prints its table; exit status 1 where a step fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="the handbook (privacy/README.md)")
    parser.add_argument("--install", action="store_true", help="install Murmure anew first, with .ci/venv (minutes)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="murmure-walk-") as name:
        on = Walk(Path(name))
        try:
            if args.install:
                with on.timed("operator", "install Murmure", ".ci/venv"):
                    subprocess.run([ROOT / ".ci" / "venv", on.folder / "venv"], check=True, stdout=sys.stderr)
                on.python = str(on.folder / "venv" / "bin" / "python")
            walk(on, args.page)
        except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
            print(f"steward_walk: {error}", file=sys.stderr)
            return 1
        finally:
            on.stop()
        began = time.monotonic()
        subprocess.run([*on.murmure, "--help"], check=True, stdout=subprocess.DEVNULL)
        bare_s = time.monotonic() - began
    walked_s = sum(step.seconds for step in on.steps if step.command != ".ci/venv")
    of = {
        who: round(sum(step.seconds for step in on.steps if step.who == who), 1)
        for who in dict.fromkeys(step.who for step in on.steps)
    }
    found = {
        "steps": [asdict(step) for step in on.steps],
        "seconds": round(walked_s, 1),
        "seconds_of": of,
        "commands": on.typed,
        "bare_start_s": round(bare_s, 2),
        "of_bare_starts": round(walked_s / (on.typed * bare_s), 1),
    }
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    width = max(len(step.step) for step in on.steps)
    for step in on.steps:
        command = step.command.replace(name, "…")[:90]
        print(f"{step.seconds:7.2f} s  {step.who:<10}  {step.step:<{width}}  {command}")
    parts = ", ".join(f"{who} {seconds} s" for who, seconds in of.items())
    print(f"{walked_s:7.1f} s  once installed, {on.typed} commands; {found['of_bare_starts']} of so many bare starts")
    print(f"           of all: {parts}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
