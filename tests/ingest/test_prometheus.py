"""Debian's Prometheus reads the real `/metrics` of a running centre with the rules that we ship, and has nothing
against either: it takes the OpenMetrics form, evaluates every rule, and sees alerts come and go with their mends, of
which Debian's Alertmanager writes a mail.
"""

from __future__ import annotations

import email
import email.policy
import json
import os
import pwd
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from murmure_ingest import broker as broker_folder
from murmure_ingest.config import load
from murmure_ingest.embedded_broker import free_port

pytestmark = pytest.mark.prometheus

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "ingest" / "prometheus" / "alerts.yml"
PAGE = ROOT / "ingest" / "README.md"
BOARDS = sorted((ROOT / "dashboards" / "grafana").glob("*.en.json"))
COMMAND = [sys.executable, "-m", "murmure.cli"]
MENDED = {"MurmureBackupOld", "MurmureCrlEnds"}  # without `for`: they fire as soon as they are looked at
PATIENCE_S = 120.0
CENTRE = """\
data_dir = "centre"
[broker]
port = {broker}
[operations]
port = {port}
crl = "broker/authority.crl"
backups = "backups"
"""


class Mailbox:
    """A mail server of the loopback that keeps what it is given."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        mails = self.mails

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 here\r\n")
                for line in self.rfile:
                    word = line[:4].upper()
                    if word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        text = b"".join(iter(self.rfile.readline, b".\r\n"))
                        mails.append(email.message_from_bytes(text, policy=email.policy.default))
                    self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 good\r\n")

        self.server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def texts(self) -> list[str]:
        """Returns what each mail to the operator says in plain words."""
        bodies = (mail.get_body(("plain",)) for mail in self.mails if mail["To"] == "operator@example.org")
        return [body.get_content() for body in bodies if body]


class Prometheus:
    """Debian's Prometheus on the loopback, with what it scraped in `folder`."""

    def __init__(self, folder: Path, config: str) -> None:
        self._port = free_port()
        (folder / "prometheus.yml").write_text(config)
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'scraped'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--log.level=warn",
                ],
                stderr=log,
            )

    def ask(self, path: str, **words: str) -> Any:
        """Returns the data of an answer. Raises AssertionError where Prometheus finds a mistake in the question."""
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}?{urlencode(words)}", timeout=20) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def targets(self) -> dict[str, tuple[str, str]]:
        """Returns health and last error of each job; nothing while it starts."""
        try:
            found = self.ask("targets")["activeTargets"]
        except (OSError, AssertionError):
            return {}
        return {one["labels"]["job"]: (one["health"], one["lastError"]) for one in found}

    def rules(self) -> list[dict[str, Any]]:
        """Returns every rule as it was last evaluated."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> dict[str, str]:
        """Returns what each alert that fires says in English."""
        alerts = [one for one in self.ask("alerts")["alerts"] if one["state"] == "firing"]
        return {one["labels"]["alertname"]: one["annotations"]["summary_en"] for one in alerts}

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def cut_at() -> Iterator[Callable[[int], int]]:
    """The broken twin of a centre's page: the same text without its last line, at the port that is returned."""
    servers: list[HTTPServer] = []

    def start(of: int) -> int:
        class Cut(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with urlopen(f"http://127.0.0.1:{of}/metrics", timeout=20) as answer:
                    content, kind = answer.read().removesuffix(b"# EOF\n"), answer.headers["Content-Type"]
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Cut))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return int(servers[-1].server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def configuration(port: int, twin: int, rules: Path, alertmanager: int) -> str:
    """Returns what the operator's page has Prometheus or VictoriaMetrics scrape, less its patience, and the twin; and
    whom it tells."""
    (ours,) = re.findall(r"^(scrape_configs:\n.*?)^END$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    hasty = ours.replace("9871", str(port)).replace(": 1m", ": 1s").replace(": 30s", ": 1s")
    assert hasty.count(": 1s") == 2 and str(port) in hasty
    scraped = f'scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{{ targets: ["127.0.0.1:{twin}"] }}]'
    told = f'alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ["127.0.0.1:{alertmanager}"] }}] }}] }}\n'
    return f"{told}rule_files: [{json.dumps(str(rules))}]\n{hasty}  - {{ job_name: twin, {scraped} }}\n"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def alertmanager(tmp_path: Path, mailbox: Mailbox) -> Iterator[int]:
    """Debian's Alertmanager with the page's settings, which has the tests' mail server and no patience; its port."""
    (text,) = re.findall(
        r"^cat >/etc/prometheus/alertmanager.yml <<'END'\n(.*?)^END$", PAGE.read_text("utf-8"), re.M | re.S
    )
    text = re.sub(r"^ +auth_.*\n", "", text, flags=re.MULTILINE)
    here = f"127.0.0.1:{mailbox.server.server_address[1]}\n        require_tls: false"
    hasty = text.replace("mail.example.org:587", here).replace("group_by:", "group_wait: 1s, group_by:")
    assert here in hasty and "group_wait" in hasty
    (tmp_path / "alertmanager.yml").write_text(hasty)
    port = free_port()
    words = ["prometheus-alertmanager", f"--config.file={tmp_path / 'alertmanager.yml'}", "--cluster.listen-address="]
    words += [f"--storage.path={tmp_path / 'alerts'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (tmp_path / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(words, stderr=log)
    yield port
    process.kill()
    process.wait()


def until(good: Callable[[], object]) -> None:
    patience = time.monotonic() + PATIENCE_S
    while not good():
        assert time.monotonic() < patience
        time.sleep(0.2)


def mended(folder: Path, *command: str) -> None:
    """Types the command that an alert names."""
    done = subprocess.run([*COMMAND, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_promtool_finds_no_mistake_in_the_rules(tmp_path: Path) -> None:
    """Syntax, expressions and templates are plain PromQL; a function that only VictoriaMetrics has would be told."""
    other = tmp_path / "alerts.yml"
    other.write_text(RULES.read_text("utf-8").replace("changes(", "increase_pure("), "utf-8")
    done = [subprocess.run(["promtool", "check", "rules", str(of)], capture_output=True) for of in (RULES, other)]
    assert [one.returncode for one in done] == [0, 1], done


@pytest.mark.long
@pytest.mark.alertmanager
@pytest.mark.parametrize("broker", ["iotcore-5"], indirect=True)
def test_prometheus_watches_a_running_centre(
    tmp_path: Path,
    make_centre: Callable[..., Any],
    broker: Any,
    connect: Any,
    cut_at: Callable[[int], int],
    alertmanager: int,
    mailbox: Mailbox,
) -> None:
    """It takes the page and not its broken twin; each rule and each query of the dashboards is evaluated without an
    error; a backup and a revocation list that grew old are told, by mail too, and no more once they were renewed."""
    centre = make_centre(tmp_path, port=broker.port)
    port = free_port()
    (tmp_path / "ingest.toml").write_text(CENTRE.format(broker=broker.port, port=port))
    me = pwd.getpwuid(os.geteuid()).pw_name
    settings = broker_folder.Settings(str(tmp_path / "broker"), listen="127.0.0.1", port=free_port(), user=me)
    broker_folder.prepare(load(tmp_path / "ingest.toml"), settings, [], datetime.now(UTC) - timedelta(days=5))
    (tmp_path / "backups" / "old").mkdir(parents=True)
    os.utime(tmp_path / "backups" / "old", (time.time() - 3 * 86400,) * 2)
    hasty = tmp_path / "alerts.yml"
    hasty.write_text(RULES.read_text("utf-8").replace("interval: 1m", "interval: 1s"), "utf-8")

    broker.start()
    gateway = centre.gateway()
    with (tmp_path / "centre.log").open("wb") as log:
        running = subprocess.Popen([*COMMAND, "ingest", "run", "--config", "ingest.toml"], cwd=tmp_path, stderr=log)
    watching = Prometheus(tmp_path, configuration(port, cut_at(port), hasty, alertmanager))
    try:
        peer = connect(gateway, broker)
        until(lambda: peer.settled(centre) == 0)
        peer.publish(*gateway.history(4))
        stored = 'murmure_intake_messages_total{job="murmure",word="stored"} == 4'
        until(lambda: watching.targets() and watching.ask("query", query=stored)["result"])

        until(lambda: watching.targets()["murmure"][0] == "up" and watching.targets()["twin"][0] == "down")
        told = watching.targets()
        assert told["murmure"] == ("up", "") and "EOF" in told["twin"][1]
        kinds = watching.ask("metadata")
        assert kinds["murmure_intake_messages"][0]["type"] == "counter"
        assert kinds["murmure_intake_commit_seconds"][0]["type"] == "histogram"
        until(lambda: {rule["health"] for rule in watching.rules()} != {"unknown"})
        for board in BOARDS:
            for panel in json.loads(board.read_text("utf-8"))["panels"]:
                for query in panel.get("targets", ()):
                    words = re.sub(r"\$__\w+", "1m", query["expr"])
                    assert "result" in watching.ask("query", query=words), words

        until(lambda: watching.firing().keys() == MENDED)
        assert re.search(r"for 3d 0h \d+m \d+s$", watching.firing()["MurmureBackupOld"])
        until(lambda: len(mailbox.texts()) == 2)
        (mail,) = [text for text in mailbox.texts() if "has not been backed up for 3d 0h" in text]
        assert "murmure ingest backup, with the usual folder, makes one." in mail
        mended(tmp_path, "ingest", "backup", "backups", "--config", "ingest.toml")
        until(lambda: watching.firing().keys() == {"MurmureCrlEnds"})
        mended(tmp_path, "broker", "init", "broker", "--config", "ingest.toml")
        until(lambda: not watching.firing())
        assert {(rule["health"], rule.get("lastError")) for rule in watching.rules()} == {("ok", None)}
        running.terminate()
        assert running.wait(30) == 0
        until(lambda: watching.targets()["murmure"][0] == "down")
    finally:
        watching.stop()
        running.kill()
        running.wait()
        centre.archive.close()
