"""Every command of the operator's page runs, in its order, on a server of its own: from nothing to a centre that was
upgraded, brought back and restored.

The commands are taken out of ingest/README.md itself. The server is this machine's Debian under a layer that is thrown
away, with a systemd of its own and, but for pip, its own network. What stands in for something here:

- `apt-get` only simulates: what the page installs is there before.
- Timers are not waited for: the page itself starts once what a timer starts later.
- Other machines (`scp`, `ssh`) and an editor are small scripts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from murmure_dashboards.server import HEADERS
from murmure_ingest.migrations import STEPS

ROOT = Path(__file__).resolve().parents[2]
INSTALLER = ROOT / "ingest" / "install.sh"
PAGE = ROOT / "ingest" / "README.md"
FRENCH = ROOT / "ingest" / "LISEZMOI.md"
SOURCE = "/usr/local/src/murmure"
HOST = "murmure.example.org"
ROOTS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE_S = 600.0
HOURS = 30
NOT_COPIED = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "dist", "demo", "tests", "benchmarks")

# Nothing of Murmure is there that this machine may have.
CLEAN = """\
rm -rf /etc/murmure /opt/murmure* /var/lib/murmure* /var/backups/murmure /usr/local/src/murmure
mkdir -p /etc/nginx/sites-available /etc/nginx/sites-enabled
"""
STAND_INS = {
    "apt-get": "[ $1 = update ] || ! ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 || "
    'exec /usr/bin/apt-get.real --simulate "$@"',
    # The dates of a policy that holds now; what an operator edits in city.toml changes no command.
    "editor": f'sed -i "s/^valid_from .*/valid_from = $(date -I -d -5days)/; '
    f's/^valid_until .*/valid_until = $(date -I -d +300days)/; s/^name = .{HOST}./&/" "$1"',
    "scp": 'for word; do case $word in -r) ;; *) set -- "$@" "${word#root@*:}" ;; esac; shift; done; exec cp -r "$@"',
    "ssh": "",
}
IF_MISSING = {
    "curl": "exec /usr/bin/python3 -c 'import sys, urllib.request as u; "
    'sys.stdout.buffer.write(u.urlopen(sys.argv[-1]).read())\' "$@"',
}


class Server:
    """A Debian of its own, and what its operator has typed so far."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        machine.boot()
        self.root: Path = machine.root
        machine.run("sh", "-ec", CLEAN)

    def run(self, script: str, network: bool = False, check: bool = True) -> str:
        """Types lines as root in the checkout and returns what they print; pip alone sees this machine's network."""
        spaces = ["--mount", "--pid", "--root", "--ipc", "--uts", "--cgroup", *([] if network else ["--net"])]
        enter = ["nsenter", f"--target={self._machine.first}", *spaces]
        pips = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
        done = subprocess.run(
            [*enter, "sh", "-euc", f"cd {SOURCE}\n{script}"],
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": str(Path.home()),
                **pips,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        said: str = self._machine.run("journalctl", "--no-pager", "--lines=150").stdout
        return said

    def until(self, script: str, good: Callable[[str], bool]) -> str:
        """Types the same again until the answer is good."""
        patience = time.monotonic() + PATIENCE_S
        while not good(said := self.run(script, check=False)):
            assert time.monotonic() < patience, f"{script}\n{said}\n{self.logs()}"
            time.sleep(0.5)
        return said


@pytest.fixture
def server(machines: ModuleType, tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    machine = machines.Machine(folder, [ROOT])
    try:
        made = Server(machine)
        shutil.copytree(ROOT, made.root / SOURCE[1:], ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
        programs = made.root / "usr/bin"
        shutil.copy(programs / "apt-get", programs / "apt-get.real")
        for name, script in (STAND_INS | {n: s for n, s in IF_MISSING.items() if shutil.which(n) is None}).items():
            (programs / name).unlink(missing_ok=True)
            (programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (programs / name).chmod(0o755)
        for name in ("resolv.conf", "hosts"):
            (made.root / "etc" / name).unlink(missing_ok=True)
            (made.root / "etc" / name).write_text(Path(f"/etc/{name}").read_text() + "\n")
        with (made.root / "etc/hosts").open("a") as hosts:
            hosts.write(f"127.0.0.1 localhost {HOST}\n")
        made.run("systemctl start nginx")
        yield made
    finally:
        machine.cut()


CENTRE = "/var/lib/murmure-centre"
# What each service can do, and what it tries in vain.
CAN = {
    "murmure-ingest": ([f"touch {CENTRE}/probe", f"cat {CENTRE}/centre.key"], ["touch /etc/probe"]),
    "murmure-mirror": (
        [f"touch {CENTRE}/probe", f"cat {CENTRE}/archive.db"],
        ["touch /etc/probe", f"cat {CENTRE}/centre.key", f"cat {CENTRE}/authority.key"],
    ),
    "murmure-site": (
        ["touch /var/lib/murmure-site/probe", f"cat {CENTRE}/archive.db"],
        ["touch /etc/probe", f"touch {CENTRE}/probe", f"cat {CENTRE}/centre.key"],
    ),
}


def probe(server: Server, unit: str) -> None:
    """Starts another program under the unit of a service: it can do what the table says, and no more."""
    can, cannot = CAN[unit]
    tried = [*can, *(f"if {command}; then exit 1; fi" for command in cannot)]
    units = server.root / "etc/systemd/system"
    text = (units / f"{unit}.service").read_text().replace("\\\n", "").replace("Type=exec", "Type=oneshot")
    text = re.sub(r"^Restart.*\n", "", text, flags=re.MULTILINE)  # once is enough
    line = f"ExecStart=/bin/sh -ec '{'; '.join(tried)}'"
    (units / "probe.service").write_text(re.sub(r"^ExecStart=.*$", lambda _: line, text, flags=re.MULTILINE))
    shutil.copytree(units / f"{unit}.service.d", units / "probe.service.d", dirs_exist_ok=True)
    server.run("systemctl daemon-reload && systemctl start probe && rm /var/lib/murmure-*/probe")


def sections() -> dict[str, list[str]]:
    """Returns the blocks of commands of the page, in order, by the number of their section."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^```sh\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
        if blocks:
            found[part.partition(".")[0]] = blocks
    return found


def sealed_day(gateway: Any, until_s: int) -> list[bytes]:
    """Returns what a gateway would have sent in the whole hours before, each figure being 7."""
    end_s = until_s // 3600 * 3600
    begin_s = end_s - HOURS * 3600
    for closing_s in range(begin_s + 900, end_s + 900, 900):
        whole = (outcome for outcome in gateway.outcomes(closing_s) if outcome.node.start_s >= begin_s)
        gateway.seal(closing_s, outcomes=tuple(whole))
    sealed: list[bytes] = gateway.sealed
    return sealed


def test_the_installer_speaks_both_languages() -> None:
    """What it says it says in French where the operator's system is, and its errors name the mend in one line."""
    text = INSTALLER.read_text("utf-8")
    pairs = re.findall(r'\b(?:say|stop \d) "([^"]*)"(?:\s|\\)+"([^"]*)"', text)
    assert len(pairs) == len(re.findall(r'\b(?:say|stop \d) "', text)) > 5
    assert all(english != french and "\n" not in english + french for english, french in pairs)
    for language, word in (("fr_FR.UTF-8", "usage : "), ("C.UTF-8", "usage: ")):
        said = ["env", "-i", f"PATH={ROOTS_PATH}", f"LANG={language}", "sh", str(INSTALLER), "--force"]
        told = subprocess.run(said, capture_output=True, text=True, check=False)
        assert (told.returncode, told.stdout) == (2, "")
        assert told.stderr == f"murmure: install.sh: {word}sh ingest/install.sh [--rollback]\n"


def differences(english: str, french: str) -> list[str]:
    """Returns where one page has another command than the other, or explains what the other does not."""
    found: list[str] = []
    for one, other in zip(*(re.split(r"^## ", page, flags=re.MULTILINE) for page in (english, french)), strict=True):
        where = one.partition("\n")[0]
        fences = [re.findall(r"^```\w*\n.*?^```", part, re.MULTILINE | re.DOTALL) for part in (one, other)]
        found += [f"{where}: commands"] * (fences[0] != fences[1])
        prose = [re.sub(r"^```.*?^```", "", part, flags=re.MULTILINE | re.DOTALL) for part in (one, other)]
        words = [set(re.findall(r"`([^`]+)`", " ".join(part.split()))) for part in prose]
        ours = {"action_fr", "summary_fr"} if where.startswith("7.") else set()  # how to have the mail in French
        found += [f"{where}: names"] * (words[0] != words[1] - ours)
        links = [sorted(re.findall(r"\]\(([^#)]*)(?:#(\d*)[^)]*)?\)", part)) for part in prose]
        links = [[(file.replace("LISEZMOI", "README"), number) for file, number in part] for part in links]
        found += [f"{where}: links"] * (links[0] != links[1])
        for what, mark in (
            ("paragraphs", r"\n\n(?=\S)"),
            ("rows", r"^\|"),
            ("points", r"^- "),
            ("stress", r"\*\*.+?\*\*"),
        ):
            counts = [len(re.findall(mark, part, re.MULTILINE | re.DOTALL)) for part in prose]
            found += [f"{where}: {what} {counts}"] * (counts[0] != counts[1])
    return found


def test_the_french_page_has_the_same_commands_and_explains_the_same() -> None:
    """Section by section the same blocks to the letter, in the same order; so that what is run below is both pages.
    The prose around them names the same files, options and pages, in as many paragraphs, rows and points."""
    english, french = PAGE.read_text("utf-8"), FRENCH.read_text("utf-8")
    assert differences(english, french) == []
    twins = (
        ("systemctl reload nginx", "systemctl restart nginx"),
        ("`--signatures 2`", "`--signatures`"),
        ("(../docs/metrics.md)", "(../docs/wire.md)"),
        ("- **Elle revient vide :**", "**Elle revient vide :**"),
        ("**L'exercice**", "L'exercice"),
    )
    for text, other in twins:
        assert text in french and len(differences(english, french.replace(text, other, 1))) == 1, text


def test_nginx_sends_what_our_own_server_sends() -> None:
    """The headers of the page's web server are those that the pages were tested with."""
    sent = re.findall(r'^    add_header (\S+) "?([^"\n]*?)"? always;$', PAGE.read_text("utf-8"), re.MULTILINE)
    assert dict(sent) == HEADERS


def test_a_centre_has_the_versions_that_were_tested() -> None:
    """Whatever builds and runs at a centre stands with the same version and hashes in constraints.txt."""
    tested = (ROOT / "constraints.txt").read_text("utf-8")
    for file in ("constraints-build.txt", "constraints-centre.txt"):
        pins = re.findall(r"^\S+==.*?(?=^\S|\Z)", (ROOT / file).read_text("utf-8"), re.MULTILINE | re.DOTALL)
        assert len(pins) > 4 and [pin.split()[0] for pin in pins if pin not in tested] == []


@pytest.mark.long
@pytest.mark.server
@pytest.mark.broker
@pytest.mark.systemd
@pytest.mark.victoria
@pytest.mark.nginx
@pytest.mark.alertmanager
def test_an_operator_goes_from_nothing_to_a_centre_by_copying_commands(server: Server, releases: ModuleType) -> None:
    """Install, broker, gateway, pages, backup, alerts, mirror, courier, upgrade and back, keys, restore: as written."""
    page = sections()
    done: list[str] = []

    def copy(number: str, change: Callable[[str], str] = str, network: bool = False) -> str:
        """Copies the commands of a section into the terminal."""
        done.append(number)
        return "".join(server.run(change(block), network) for block in page[number])

    # 2 and 3: a centre that is connected to its broker, over TLS, each as its own user.
    copy("2", network=True)
    copy("3")
    connected = "journalctl --unit murmure-ingest | grep connected"
    server.until(connected, bool)
    users = server.run("for p in /proc/[0-9]*; do echo $(stat -c %U $p) $(tr '\\0' ' ' <$p/cmdline); done")
    assert re.search(r"^mosquitto /usr/sbin/mosquitto", users, re.MULTILINE), users
    assert re.search(r"^murmure-ingest \S*python3? /opt/murmure/bin/murmure ingest run", users, re.MULTILINE), users

    renewal = (server.root / "etc/systemd/system/murmure-broker.service").read_text()
    assert "ExecStart=/usr/local/bin/murmure " in renewal  # the link, which outlives a version

    # 4: the technician is between the blocks.
    steward, offer, published = page["4"]
    server.run(steward)
    said = server.run(offer)
    technician = f"cd / && {sys.executable} -m murmure.cli edge"
    (code,) = re.findall(r"edge enrol (\S+) --centre", said)
    at = "--config /var/tmp/gateway/gateway.toml"
    words = json.loads(server.run(f"mkdir /var/tmp/gateway && {technician} enrol {code} --centre {HOST} {at} --json"))
    assert words["gateway"] == "gw-plaza"
    listed = server.run(published)
    assert "gw-plaza" in listed and "la version 1 de plaza est publiée" in listed  # a machine that names no English
    gateway = "/var/tmp/gateway.log"
    server.run(f"cd / && setsid {sys.executable} -m murmure.cli edge send {at} >{gateway} 2>&1 </dev/null &")
    server.until(f"cat {gateway}", lambda said: f"broker {HOST}:8883: connected" in said)
    server.until("ls /var/tmp/gateway/*/inbox", lambda said: "policy" in said)
    done.append("4")

    # 5 to 8: pages, backups, alerts, the operators' page.
    copy("5")
    assert (server.root / "var/lib/murmure-site/public/index.html").is_file()
    server.until(f"curl --silent http://{HOST}/", lambda said: '<html lang="fr"' in said)
    copy("6")
    assert not list(server.root.glob("var/lib/murmure-drill*"))
    for unit in CAN:
        probe(server, unit)
    copy("7")
    server.until("curl --silent http://127.0.0.1:8880/api/v1/rules", lambda said: "MurmureBackupOld" in said)
    server.until("curl --silent http://127.0.0.1:9093/api/v2/status", lambda said: "operator@example.org" in said)
    told = copy("8")
    assert "murmure_backup_timestamp_seconds" in told and "sound" in told
    server.until("curl --silent http://127.0.0.1:8081/exploitation/", lambda said: "gw-plaza" in said)

    # 9: a stick with thirty hours of releases, and what stands in the archive and in its mirror afterwards.
    policy = (server.root / SOURCE[1:] / "plaza.toml").read_bytes()
    secret = bytes.fromhex(next(server.root.glob("var/tmp/gateway/**/record.key")).read_text())
    stick = server.root / "media/stick/outbox"
    for folder in (stick, stick.with_name("inbox")):
        folder.mkdir(parents=True)
    messages = sealed_day(releases.Gateway("gw-plaza", "centre", "plaza", secret, policy), int(time.time()))
    for number, sealed in enumerate(messages, 1):
        (stick / f"{number:010}.cose").write_bytes(sealed)
    assert f"{len(messages)} files: {len(messages)} stored" in copy("9")
    assert (stick.with_name("inbox") / "receipt.cose").is_file()
    assert not (server.root / "var/tmp/stick").exists()
    count = "curl --silent 'http://127.0.0.1:8428/api/v1/series/count?match[]=murmure_footfall_value'"
    server.until(count, lambda said: "data" in said and json.loads(said)["data"][0] > 0)
    server.run("systemctl start murmure-site murmure-backup murmure-forget")
    assert "plaza/footfall" in "".join(
        p.read_text() for p in server.root.glob("var/lib/murmure-site/public/donnees/r*.csv")
    )

    # 10: the next version has a migration; going back puts the archive of before in its place.
    running = (server.root / "opt/murmure").readlink()
    steps = server.root / SOURCE[1:] / "ingest/murmure_ingest/migrations.py"
    later = re.subn(
        r"^(STEPS\b.*)\)$", r'\1, ("CREATE TABLE later (id INTEGER) STRICT",))', steps.read_text(), flags=re.M
    )
    assert later[1] == 1
    steps.write_text(later[0])
    upgrade, back = page["10"]
    server.run(upgrade, network=True)
    assert (server.root / "opt/murmure").readlink() != running
    copies = [path.name for path in server.root.glob("var/lib/murmure-centre/archive.db.before-v*")]
    assert copies == [f"archive.db.before-v{len(STEPS) + 1}"]
    server.until(f"murmure-centre gateway list && {connected}", bool)
    server.run(re.sub(r"before-v\d+", f"before-v{len(STEPS) + 1}", back))
    assert (server.root / "opt/murmure").readlink() == running
    done.append("10")
    archive = "murmure-centre ingest verify --archive /var/lib/murmure-centre/archive.db"
    assert f"{len(messages)} messages" in server.run(archive)

    # 11: a period of yesterday.
    yesterday = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d")
    assert "plaza/noise" in copy("11", lambda block: block.replace("2026-11-20", yesterday))

    # 12: new keys are offered; then the gateway is turned out, and the broker started again.
    broker = "systemctl show --property MainPID --value mosquitto"
    before = server.run(broker)
    assert re.search("--rotate", copy("12"))
    server.until(
        "systemctl show --property MainPID --value mosquitto", lambda said: said.strip() not in ("0", before.strip())
    )
    server.until("murmure-centre gateway list", lambda said: "revoked" in said)
    server.until(f"tail -n 1 {gateway}", lambda said: "connected" not in said)

    # 13: the broker forgets, and is told again by the centre.
    copy("13")
    server.until("systemctl is-active mosquitto", lambda said: said.strip() == "active")

    # 15 and 16: what was refused; and everything from the backup.
    assert "stored" in copy("15")
    server.run("systemctl start murmure-backup")
    # The site is here, for this machine has no network; and nothing was logged since the backup.
    published = "/var/lib/murmure-site/public --or-nothing"
    copy("16", lambda block: block.replace("https://capteurs.example.org", published))
    server.until(connected, lambda said: said.count("connected") > 1)
    assert f"{len(messages)} messages" in server.run(archive)
    server.run("systemctl start murmure-site murmure-backup")

    # 18: a second worker, with a certificate and a page of its own, beside the first.
    copy("18")
    for log in ("murmure-ingest", "murmure-ingest@2"):
        server.until(f"journalctl --lines 1 --unit {log}", lambda said: "connected" in said)
    server.until("curl --silent http://127.0.0.1:9872/metrics", lambda said: "murmure_broker_connected 1.0" in said)
    assert list(page) == done
