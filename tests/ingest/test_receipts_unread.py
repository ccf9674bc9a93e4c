"""The alert on a gateway that no receipt reaches, or that believes none: it looks back over two days, and Prometheus'
own `promtool` lets it look at ten. Streams may be as slow as a week, links as rare as a stick."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from murmure_dashboards.unread import Receipts
from murmure_ingest.archive_watch import GatewayState, Overview
from murmure_privacy.release import Health

RULES = Path(__file__).parents[2] / "ingest" / "prometheus" / "alerts.yml"
ALERT = "MurmureReceiptsUnread"
QUARTERS = 96  # a day has
DAYS = 10

Known = Callable[[int], float | None]


@dataclass(frozen=True)
class Life:
    """What `/metrics` shows each quarter-hour: the gateway's log, newest node and uptime, and the centre's log."""

    log: Known
    node: Known = lambda quarter: quarter * 900
    uptime: Known = lambda quarter: quarter * 900 + 60
    centre: Known = lambda quarter: 100 + quarter // QUARTERS  # one account a day


def stepped(every: int, value: Known) -> Known:
    """What is heard every so many quarters only, as it then was."""
    return lambda quarter: value(quarter - quarter % every)


def at_centre(quarter: int) -> float | None:
    return 100 + quarter // QUARTERS


def gone(first: int, last: int, value: Known) -> Known:
    """What stays as it was from `first` to `last`: nothing came."""
    return lambda quarter: value(first if first <= quarter < last else quarter)


WEEK = 7 * QUARTERS
WELL = {
    # The report tells what the receipt before said.
    "hourly": Life(lambda quarter: at_centre(max(0, quarter - 4)), node=stepped(4, lambda quarter: quarter * 900)),
    # Each Monday one message; its receipt is the first to tell of the week's accounts.
    "weekly": Life(stepped(WEEK, at_centre), node=stepped(WEEK, lambda quarter: quarter * 900)),
    "away for five days": Life(
        gone(2 * QUARTERS, WEEK, at_centre),
        node=gone(2 * QUARTERS, WEEK, lambda quarter: quarter * 900),
        uptime=gone(2 * QUARTERS, WEEK, lambda quarter: quarter * 900),
    ),
    # A report with each visit, each second day: the receipt of its messages comes with the visit after.
    "by stick": Life(
        stepped(2 * QUARTERS, lambda quarter: at_centre(max(0, quarter - 4 * QUARTERS))),
        node=stepped(2 * QUARTERS, lambda quarter: quarter * 900),
        uptime=stepped(2 * QUARTERS, lambda quarter: quarter * 900),
    ),
    "reports no log": Life(lambda quarter: None),
    # The log is lost and begun anew, and the gateway has forgotten the one before.
    "begun anew": Life(
        lambda quarter: 100 if quarter < 5 * QUARTERS else 10,
        centre=lambda quarter: 100 if quarter < 5 * QUARTERS else 10,
    ),
    "messages, and no report since": Life(lambda quarter: 50, uptime=lambda quarter: 60),
}
STUCK = {
    # It knew 103 entries when the centre came back with 101, which it then passed.
    "after a restore": Life(lambda quarter: min(103, at_centre(quarter) or 0)),
    "weekly": Life(lambda quarter: 100, node=stepped(WEEK, lambda quarter: quarter * 900)),
}


def firing(folder: Path, life: Life, rules: str) -> set[int]:
    """Returns the quarters at which the alert fires."""
    (folder / "alerts.yml").write_text(rules.replace("interval: 1m", "interval: 15m"), "utf-8")
    gateway = 'gateway="gw-a",site="a",job="murmure",instance="c"'
    series = {
        f"murmure_gateway_log_entries{{{gateway}}}": life.log,
        f"murmure_gateway_newest_node_timestamp_seconds{{{gateway}}}": life.node,
        f"murmure_gateway_uptime_seconds{{{gateway}}}": life.uptime,
        'murmure_log_entries{job="murmure",instance="c"}': life.centre,
    }

    def values(known: Known) -> str:
        told = (known(quarter) for quarter in range(DAYS * QUARTERS))
        return " ".join("_" if value is None else str(value) for value in told)

    alerts = f'ALERTS{{alertname="{ALERT}",alertstate="firing",gateway="gw-a"}}'
    asked = [
        {"expr": f"count({alerts})", "eval_time": f"{quarter * 15}m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for quarter in range(0, DAYS * QUARTERS, 4)
    ]
    test = {
        "interval": "15m",
        "input_series": [{"series": name, "values": values(known)} for name, known in series.items()],
        "promql_expr_test": asked,
    }
    tests = folder / "tests.yml"
    tests.write_text(json.dumps({"rule_files": ["alerts.yml"], "evaluation_interval": "15m", "tests": [test]}), "utf-8")
    program = shutil.which("promtool")
    assert program
    ran = subprocess.run(
        [program, "test", "rules", str(tests)], capture_output=True, text=True, timeout=120, check=False
    )
    # Each quarter at which it does not fire lacks the sample that was asked for, and is named.
    silent = re.findall(r"time: (\w+),\s+exp:.*?\s+got:\s*nil", ran.stdout + ran.stderr)
    assert ran.returncode in (0, 1) and (silent or ran.returncode == 0), ran.stdout + ran.stderr
    return set(range(0, DAYS * QUARTERS, 4)) - {_quarter(one) for one in silent}


def _quarter(duration: str) -> int:
    seconds = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
    return sum(int(number) * seconds[unit] for number, unit in re.findall(r"(\d+)([wdhms])", duration)) // 900


def told(folder: Path, life: Life) -> set[int]:
    """Returns the quarters at which the operators' page names it; each look is by a process of its own."""
    named = set()
    for quarter in range(DAYS * QUARTERS):
        node, log, uptime, centre = (known(quarter) for known in (life.node, life.log, life.uptime, life.centre))
        assert node is not None and uptime is not None and centre is not None
        entries = None if log is None else int(log)
        report = Health("gw-a", "centre", int(uptime), int(uptime), 1, "0.1", (), 0, "ok", None, 1, entries)
        one = GatewayState("gw-a", "centre", "a", "active", 1, 0, quarter * 900, int(node), 0, report)
        seen = Overview(quarter * 900, (one,), (), 1, 0, int(centre), 0, {}, {}, {})
        receipts = Receipts(folder / "operations.receipts")
        if receipts.unread(seen):
            named.add(quarter)
        receipts.keep()
    return named


@pytest.mark.parametrize("name", WELL)
def test_the_page_names_nobody_who_reads_its_receipts(name: str, tmp_path: Path) -> None:
    """Whom the alert spares the operators' page spares too, though it asks no Prometheus."""
    assert told(tmp_path, WELL[name]) == set()


def test_a_receipt_of_a_log_that_was_lost_is_awaited_no_more(tmp_path: Path) -> None:
    """The log is begun anew, and forgotten, between a message and the report that would have told of its receipt."""
    last = 5 * QUARTERS
    hourly = WELL["hourly"]
    life = Life(
        lambda quarter: hourly.log(quarter) if quarter <= last else 10,
        hourly.node,
        centre=lambda quarter: at_centre(quarter) if quarter <= last else 10,
    )
    assert told(tmp_path, life) == set()


@pytest.mark.parametrize(("name", "first_day"), [("after a restore", 5), ("weekly", 8)])
def test_the_page_names_who_believes_no_receipt(name: str, first_day: int, tmp_path: Path) -> None:
    """From a day after the receipt that it should have believed, never later than the alert, and until it has."""
    assert told(tmp_path, STUCK[name]) == set(range(first_day * QUARTERS, DAYS * QUARTERS))
    forgot = Life(lambda quarter: STUCK[name].log(quarter) if quarter < 9 * QUARTERS else at_centre(quarter))
    (tmp_path / "operations.receipts").write_text("spoiled")
    named = told(tmp_path, Life(forgot.log, STUCK[name].node))
    assert named == set(range(first_day * QUARTERS, 9 * QUARTERS))


@pytest.mark.prometheus
@pytest.mark.parametrize("name", WELL)
def test_who_reads_its_receipts_wakes_nobody(name: str, tmp_path: Path) -> None:
    """Slow streams, dead lines, sticks, and a log that was begun anew: not one alert in ten days."""
    assert firing(tmp_path, WELL[name], RULES.read_text("utf-8")) == set()


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("name", "first_day"),
    [
        ("after a restore", 6),  # the log passes what it remembers on the fourth day; two more until that is certain
        ("weekly", 8),  # the receipt of Monday, a day later
    ],
)
def test_who_believes_no_receipt_is_told(name: str, first_day: int, tmp_path: Path) -> None:
    """For as long as messages come, or a day after each of a slow stream."""
    fired = firing(tmp_path, STUCK[name], RULES.read_text("utf-8"))
    last_day = DAYS if name != "weekly" else first_day + 1
    assert fired == set(range(first_day * QUARTERS, last_day * QUARTERS, 4))


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("name", "part", "twin"),
    [
        ("hourly", "min_over_time(murmure_log_entries[2d])", "murmure_log_entries"),
        ("begun anew", "min_over_time(murmure_log_entries[2d])", "(murmure_log_entries offset 2d)"),
        ("weekly", "and murmure_gateway_newest_node_timestamp_seconds offset 1d > ", "and 0 * "),
        ("messages, and no report since", "and changes(murmure_gateway_uptime_seconds[1d]) > 1", ""),
        ("by stick", "and changes(murmure_gateway_uptime_seconds[1d]) > 1", ""),
    ],
)
def test_each_part_of_the_rule_keeps_somebody_quiet(name: str, part: str, twin: str, tmp_path: Path) -> None:
    """Without it the alert is a false one."""
    rules = RULES.read_text("utf-8")
    assert rules.count(part) == 1
    assert firing(tmp_path, WELL[name], rules.replace(part, twin))
