"""Each alert fires for its fault and stays silent for a healthy centre: Debian's vmalert over our own `/metrics`. And
each query of the dashboard of the fleet finds what it is there for.

Three centres live through the same three hours: `well`; `fleet`, each gateway but one of it has a fault of its own;
and `sick`, where nothing works. What they serve goes into a real VictoriaMetrics, over which vmalert replays the rules.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from murmure_ingest.archive import Unfiled
from murmure_ingest.certificates import Authority, new_private_key
from murmure_ingest.config import MirrorConfig, OperationsConfig
from murmure_ingest.gateways import publish_policy
from murmure_ingest.intake import REASONS
from murmure_ingest.meter import Meter
from murmure_ingest.metrics import metrics_open
from murmure_privacy import wire

pytestmark = pytest.mark.victoria

RULES = Path(__file__).parents[2] / "ingest" / "prometheus" / "alerts.yml"
FLEET_BOARD = Path(__file__).parents[2] / "dashboards" / "grafana" / "fleet.en.json"
MONDAY_S = 1_795_392_000
QUARTER_S, HOUR_S, DAY_S = 900, 3600, 86400
BEGIN_S, FAULT_S, END_S = MONDAY_S, MONDAY_S + HOUR_S, MONDAY_S + 3 * HOUR_S
STEP_S = 120

FLEET = {
    "gw-well": set(),
    "gw-silent": {"MurmureGatewaySilent", "MurmureStreamLate"},
    "gw-stuck": {"MurmureOutboxOld", "MurmureStreamLate"},
    "gw-hole": {"MurmureMessagesMissing"},
    "gw-port": {"MurmurePortFailed"},
    "gw-clock": {"MurmureClockWrong"},
    "gw-ahead": {"MurmureLogBehind"},
    "gw-ending": {"MurmurePolicyEnds"},
    "gw-renewed": set(),
    "gw-clone": {"MurmureCloneQuarantined", "MurmureStreamLate"},
}
POLICIES: dict[str, dict[str, Any]] = {  # their last days are 29 days after MONDAY_S at most
    "gw-ending": {"until": "2026-12-22"},
    "gw-renewed": {"until": "2026-12-01"},
}
FAULTS: dict[str, dict[str, Any]] = {
    "gw-stuck": {"outbox_depth": 12},
    "gw-port": {"ports": (("beam", "stalled"), ("dust", "warming"))},
    "gw-clock": {"clock": "unsynced"},
    "gw-ahead": {"log": 1000},
}
SICK = {
    "MurmureGatewaySilent",
    "MurmureStreamLate",
    "MurmureCertificateEnds",
    "MurmureBudgetPassed",
    "MurmureTankNearlyFull",
    "MurmureCentreDown",
    "MurmureBrokerLost",
    "MurmureLag",
    "MurmureRefused",
    "MurmureAsideFull",
    "MurmureRubbish",
    "MurmureWaitsForPolicy",
    "MurmureDiskFull",
    "MurmureDiskLow",
    "MurmureCrlEnds",
    "MurmureBackupOld",
    "MurmureMirrorBehind",
}
SLOW = {"MurmureReceiptsUnread"}  # looks back over two days: test_receipts_unread.py


def rules() -> set[str]:
    return set(re.findall(r"- alert: (\w+)", RULES.read_text("utf-8")))


@dataclass
class Life:
    """One centre through the two hours: what happens at an instant, and the text that it then serves."""

    name: str
    centre: Any
    meter: Meter
    folder: Path
    port: int = 0
    now_s: float = BEGIN_S
    up: int = 1
    altered: dict[str, float] = field(default_factory=dict)

    def serve(self, stack: ExitStack) -> None:
        backups = self.folder / "backups"
        backups.mkdir()
        (backups / "archive.db").touch()
        operations = OperationsConfig(port=0, crl=self.folder / "crl.pem", backups=backups)
        config = replace(self.centre.config, operations=operations, mirror=MirrorConfig("http://127.0.0.1:1"))
        port = stack.enter_context(metrics_open(config, self.meter, lambda _: None, lambda: self.now_s))
        assert port
        self.port = port

    def dated(self, issued_s: float, backup_s: float, mirrored: int) -> None:
        """Sets the age of what grows old by itself."""
        data = self.centre.config.data_dir
        authority = Authority(data, datetime.fromtimestamp(issued_s, UTC))
        (self.folder / "crl.pem").write_bytes(authority.crl(datetime.fromtimestamp(issued_s, UTC)))
        os.utime(self.folder / "backups" / "archive.db", (backup_s, backup_s))
        with sqlite3.connect(data / "mirror.db") as db:
            db.execute("CREATE TABLE IF NOT EXISTS place (target TEXT PRIMARY KEY, message INTEGER, head BLOB)")
            db.execute("INSERT OR REPLACE INTO place VALUES ('x', ?, x'')", (mirrored,))

    def certified(self, name: str, issued_s: float) -> None:
        when = datetime.fromtimestamp(issued_s, UTC)
        Authority(self.centre.config.data_dir, when).issue_client(new_private_key(), name, when)

    def text(self) -> str:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        line.request("GET", "/metrics")
        answer = line.getresponse()
        assert answer.status == 200
        text = answer.read().decode()
        line.close()
        for series, value in self.altered.items():
            text, count = re.subn(rf"^({series}(?:{{[^}}]*}})?) \S+$", rf"\1 {value}", text, flags=re.MULTILINE)
            assert count, series
        return text.replace("# EOF\n", f"up {self.up}\n")


def speak(life: Life, gateways: dict[str, Any], at_s: int, faults: bool) -> None:
    """Lets each gateway close its quarter-hour: the message, then its report, as its fault has it."""
    for name, gateway in gateways.items():
        mute = faults and name in ("gw-silent", "gw-sick")
        sealed = gateway.seal(at_s)
        hole = name == "gw-hole" and len(gateway.sealed) == 6
        if not mute and not hole and not (faults and name == "gw-stuck"):
            life.meter.committed([life.centre.accept(gateway.topic, sealed)], 0.02)
        if mute:
            continue
        changes = {"log": life.centre.archive.log_checkpoint().size, **(FAULTS.get(name, {}) if faults else {})}
        life.meter.committed([life.centre.accept(*gateway.health(at_s - BEGIN_S + 60, at_s=at_s, **changes))], 0.02)


def clone(gateway: Any, at_s: int) -> bytes:
    previous = wire.digest(gateway.sealed[-2])
    other = gateway.outcomes(at_s, value=99)
    return wire.seal_message(
        gateway.message(at_s, seq=len(gateway.sealed), previous=previous, outcomes=other), gateway.secret
    )


def lived(
    folder: Path, make_centre: Callable[..., Any], policy_text: Callable[..., bytes], stack: ExitStack
) -> Iterator[tuple[str, int, str]]:
    """Yields name, instant and text of every scrape of the three centres."""
    lives: dict[str, tuple[Life, dict[str, Any]]] = {}
    names = {"well": ["gw-a", "gw-b"], "fleet": list(FLEET), "sick": ["gw-sick"]}
    for name, members in names.items():
        (folder / name).mkdir()
        centre = make_centre(folder / name)
        stack.callback(centre.archive.close)
        gateways = {one: centre.gateway(one, one.removeprefix("gw-"), **POLICIES.get(one, {})) for one in members}
        if name == "fleet":
            renewal = policy_text("renewed", version=2).replace(b"valid_from = 2026-11-01", b"valid_from = 2026-12-02")
            publish_policy(centre.archive, centre.signed(renewal), now_s=BEGIN_S)
        life = Life(name, centre, Meter(connected=True), folder / name)
        life.serve(stack)
        life.certified("gw-a", BEGIN_S - DAY_S)
        life.dated(BEGIN_S - DAY_S, BEGIN_S - HOUR_S, 0)
        lives[name] = life, gateways
    sick, of_sick = lives["sick"]
    unruled = sick.centre.gateway("gw-unruled", "unruled", published=False)
    for now_s in range(BEGIN_S + QUARTER_S, END_S, STEP_S):
        closing_s = now_s - now_s % QUARTER_S
        for life, gateways in lives.values():
            life.now_s = now_s
            if now_s - STEP_S < closing_s:
                speak(life, gateways, closing_s, closing_s > FAULT_S)
            if life is not sick:
                life.dated(BEGIN_S - DAY_S, BEGIN_S - HOUR_S, life.centre.archive.tallies()[0])
        if FAULT_S + STEP_S <= now_s < FAULT_S + 2 * STEP_S:
            twin = clone(lives["fleet"][1]["gw-clone"], closing_s)
            lives["fleet"][0].centre.accept(lives["fleet"][1]["gw-clone"].topic, twin)
            sick.meter.connected, sick.meter.writable, sick.up = False, False, 0
            sick.dated(FAULT_S - 5 * DAY_S, FAULT_S - 3 * DAY_S, 1)
            sick.certified("gw-old", FAULT_S - 3 * 365 * DAY_S + 10 * DAY_S)
            sick.altered = {
                "murmure_stream_spent_rho": 1.0,
                "murmure_disk_free_bytes": 10.0,
            }
            stray = wire.seal_message(
                of_sick["gw-sick"].message(closing_s, site="elsewhere"), of_sick["gw-sick"].secret
            )
            sick.centre.accept(of_sick["gw-sick"].topic, stray)
            sick.centre.intake.accept_many([("murmure/v1/x/gw-x/release", b"rubbish")] * 150)
            sick.centre.accept(unruled.topic, unruled.seal(closing_s))
            sick.centre.intake._most_unfiled = Unfiled(100, 1)
            sick.centre.accept(unruled.topic, unruled.seal(closing_s + QUARTER_S))
        for life, _ in lives.values():
            text = life.text()
            if life is sick and sick.altered:
                text += 'murmure_stream_cap_spent_ratio{stream="sick/footfall",site="sick",quantity="footfall"} 0.95\n'
            yield life.name, now_s, text


@pytest.fixture(scope="module")
def scraped(
    tmp_path_factory: pytest.TempPathFactory,
    make_centre: Callable[..., Any],
    policy_text: Callable[..., bytes],
    victorias: Any,
) -> Iterator[Any]:
    """A VictoriaMetrics with every scrape of the three centres."""
    folder = tmp_path_factory.mktemp("alerts")
    with victorias(folder) as database:
        with ExitStack() as stack:
            for name, now_s, text in lived(folder, make_centre, policy_text, stack):
                query = f"timestamp={now_s * 1000}&extra_label=instance={name}&extra_label=job=murmure"
                body = Request(f"{database.url}/api/v1/import/prometheus?{query}", text.encode(), method="POST")
                with urlopen(body, timeout=20):
                    pass
        database.get("/internal/force_flush")
        yield database


@pytest.fixture(scope="module")
def firing(tmp_path_factory: pytest.TempPathFactory, scraped: Any) -> set[tuple[str, str, str]]:
    """Every alert that fired: (centre, alert, gateway or site or nothing)."""
    program = shutil.which("vmalert")
    assert program
    # A replay takes a pause longer than the interval for an end of the fault: as often as samples here.
    slower = tmp_path_factory.mktemp("rules") / "alerts.yml"
    slower.write_text(RULES.read_text("utf-8").replace("interval: 1m", f"interval: {STEP_S}s"), "utf-8")
    subprocess.run(
        [
            program,
            f"-rule={slower}",
            f"-datasource.url={scraped.url}",
            f"-datasource.queryStep={STEP_S}s",
            f"-remoteWrite.url={scraped.url}",
            f"-replay.timeFrom={stamp(BEGIN_S + QUARTER_S)}",
            f"-replay.timeTo={stamp(END_S)}",
            "-replay.rulesDelay=1ms",
            "-replay.disableProgressBar",
            "-loggerLevel=ERROR",
        ],
        check=True,
        timeout=300,
    )
    scraped.get("/internal/force_flush")
    lines = scraped.get('/api/v1/export?match[]=ALERTS{alertstate="firing"}').splitlines()
    found = [json.loads(line)["metric"] for line in lines]
    return {(one.get("instance", ""), one["alertname"], one.get("gateway", one.get("site", ""))) for one in found}


def stamp(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def board() -> list[tuple[str, str, bool]]:
    """Returns title, query, and whether it is asked for one instant, of all that the fleet's dashboard asks."""
    panels = json.loads(FLEET_BOARD.read_text("utf-8"))["panels"]
    return [
        (panel["title"], query["expr"], query.get("instant", False))
        for panel in panels
        for query in panel.get("targets", ())
    ]


def asked(database: Any, query: str, instant: bool) -> list[dict[str, Any]]:
    """Returns the series that Grafana would draw: over the whole time, or as a table half an hour after the faults."""
    for name in ("$__rate_interval", "$__interval"):
        query = query.replace(name, f"{4 * STEP_S}s")
    assert "$" not in query
    when = {"time": FAULT_S + HOUR_S // 2} if instant else {"start": BEGIN_S, "end": END_S, "step": STEP_S}
    words = urlencode({"query": query, **when})
    answer = json.loads(database.get(f"/api/v1/query{'' if instant else '_range'}?{words}"))
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def test_a_healthy_centre_wakes_nobody(firing: set[tuple[str, str, str]]) -> None:
    """Two hours without a fault, and not one alert."""
    assert {one for one in firing if one[0] == "well"} == set()


@pytest.mark.parametrize("gateway", FLEET)
def test_each_gateway_is_told_for_its_own_fault(firing: set[tuple[str, str, str]], gateway: str) -> None:
    """Silence, stuck messages, a hole, a port, a clock, a longer log, a policy that ends (and one that
    is renewed), a clone: that alert alone, at that gateway."""
    site = gateway.removeprefix("gw-")
    assert {alert for of, alert, where in firing if of == "fleet" and where in (gateway, site)} == FLEET[gateway]


def test_a_sick_centre_is_told_whole(firing: set[tuple[str, str, str]]) -> None:
    """Each fault of the centre has its alert, and none without a fault."""
    assert {alert for of, alert, _ in firing if of == "sick"} == SICK


def test_every_rule_was_seen_to_fire() -> None:
    """No rule is there that no fault above sets off, or one of those that take days."""
    assert rules() == SICK | set().union(*FLEET.values()) | SLOW


def test_rules_read_what_is_served(centre: Any) -> None:
    """Each series that a rule names is on the page that documents what is served."""
    page = (RULES.parents[2] / "docs" / "metrics.md").read_text("utf-8")
    asked = "\n".join(re.findall(r"expr: (.*(?:\n {10}.*)*)", RULES.read_text("utf-8")))
    named = set(re.findall(r"\bmurmure_[a-z_]+[a-z]\b", asked))
    assert named and [name for name in sorted(named) if f"`{name}`" not in page] == []


def test_every_refusal_is_watched_by_one_rule() -> None:
    """A reason that intake learns has its rule; only a report that comes twice wakes nobody."""
    sets = re.findall(r'reason=~?"([a-z_|]+)"', RULES.read_text("utf-8"))
    assert sorted(reason for one in sets for reason in one.split("|")) == sorted(set(REASONS) - {"stale_health"})


def test_every_alert_says_what_to_do_in_both_languages() -> None:
    """Summary and action, French and English, and a severity."""
    blocks = RULES.read_text("utf-8").split("- alert: ")[1:]
    keys = ("summary_fr:", "summary_en:", "action_fr:", "action_en:", "severity:")
    assert [(block.split("\n")[0], key) for block in blocks for key in keys if key not in block] == []


def test_vmalert_finds_no_mistake_in_the_rules() -> None:
    """Syntax, expressions and templates, checked by the program that runs them."""
    program = shutil.which("vmalert")
    assert program
    told = subprocess.run(
        [program, "-dryRun", f"-rule={RULES}", "-loggerLevel=ERROR"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize(("title", "query", "instant"), board())
def test_each_query_of_the_fleet_finds_its_series(scraped: Any, title: str, query: str, instant: bool) -> None:
    """Numbers, never "no data": every part of it that a constant would hide is asked alone, and misspelled it finds
    nothing."""
    alone = query.replace(" or vector(0)", "").replace("> 7200", f"> {HOUR_S}")
    if "offset 2d" in query:  # of the alert in SLOW, which these hours are too few for; its parts are there
        alone = f"max by (gateway) ({' or '.join(re.findall(r'murmure_gateway_[a-z_]+', query))})"
    found = asked(scraped, alone, instant)
    values = [value for one in found for _, value in one.get("values", [one.get("value")])]
    assert values and "NaN" not in values and "+Inf" not in values
    for name in set(re.findall(r"\bmurmure_[a-z_]+", query)):
        assert asked(scraped, name, False), name
    assert asked(scraped, alone.replace("murmure_", "murmur_"), instant) == []


def test_the_table_of_the_fleet_has_a_line_for_every_gateway(scraped: Any) -> None:
    """Whatever is wrong with it: silent, stuck, a clone or well."""
    columns = [query for title, query, instant in board() if title == "Gateways"]
    assert columns
    for query in columns[:2]:
        named = {one["metric"]["gateway"] for one in asked(scraped, query, True)}
        assert named >= {*FLEET, "gw-a", "gw-b", "gw-sick"}
