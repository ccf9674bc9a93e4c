"""From bytes on pseudo-terminals to pages: the whole pipeline, on both brokers."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from murmure_ingest.archive import Archive
from murmure_privacy.release import Outcome, Release

from murmure import city

QUIET: Callable[[str], None] = lambda _: None  # noqa: E731
HOURS = 6
NODES_A_SITE = {"footfall": 4 * HOURS + HOURS + 1, "noise": HOURS, "pm2_5": HOURS, "pm10": HOURS}


def command(*args: object) -> None:
    """Runs a command that must find nothing wrong."""
    line = [sys.executable, "-m", "murmure.cli", *map(str, args)]
    verdict = subprocess.run(line, capture_output=True, text=True, check=False)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def check_whole(made: city.City, nodes: dict[tuple[str, str, int], Outcome]) -> None:
    """Every node of the span is in the archive, once, released and audited, the pages show the sites, and a resident
    finds everything as it was signed."""
    counted = Counter(key[0] for key in nodes)
    expected = {f"{place.id}/{name}": count for place in city.SITES for name, count in NODES_A_SITE.items()}
    assert counted == expected
    assert all(isinstance(outcome, Release) for outcome in nodes.values())
    command("ingest", "verify", "--archive", made.ingest.archive)
    city.build_site(made, made.span.last_s)
    for place in city.SITES:
        page = (made.root / "site" / "quartiers" / place.quartier / "index.html").read_text("utf-8")
        assert place.name in page
    command("verify", made.root / "site")


def test_a_street_reaches_its_page_through_the_embedded_broker(
    lay_out: Callable[..., city.City], to_the_end: Callable[..., None], outcomes: Callable[..., Any]
) -> None:
    """Six hours of three sites cross ptys, two processes a gateway, iotcore and the archive, to pages, complete."""
    made = lay_out(HOURS)
    with city.Running(made, QUIET) as running:
        to_the_end(running)
    check_whole(made, outcomes(made))


@pytest.mark.broker
def test_a_street_reaches_its_page_through_mosquitto(
    lay_out: Callable[..., city.City], to_the_end: Callable[..., None], outcomes: Callable[..., Any], brokers: Any
) -> None:
    """The same six hours through Debian's broker."""
    made = lay_out(HOURS)
    lines = "allow_anonymous true\nmax_packet_size 20480\n"
    broker = brokers.mosquitto(made.root / "mosquitto", made.broker_port, lines=lines)
    with city.Running(made, QUIET, broker) as running:
        to_the_end(running)
    check_whole(made, outcomes(made))


@pytest.mark.victoria
def test_a_street_reaches_its_mirror(
    lay_out: Callable[..., city.City],
    to_the_end: Callable[..., None],
    outcomes: Callable[..., Any],
    victoria_at: Callable[[int], Any],
) -> None:
    """The city starts VictoriaMetrics by itself, and what left its gateways is there within seconds; it lives on when
    its mirror dies."""
    made = lay_out(1)
    assert made.mirror_port is not None
    with city.Running(made, QUIET) as running:
        database = victoria_at(made.mirror_port)
        to_the_end(running)
        expected = {
            (outcome.node.stream, outcome.node.level, outcome.node.start_s)
            for outcome in outcomes(made).values()
            if isinstance(outcome, Release)
        }
        assert expected
        deadline = time.monotonic() + 60
        while expected != {(key[2], key[3], key[5]) for key in database.samples() if key[0].endswith("_value")}:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        running.city.processes["victoria"].kill()
        running.city.processes["victoria"].wait()
        running.check()
        assert running.mirrored() > len(expected)


def exact(
    lay_out: Callable[..., city.City],
    to_the_end: Callable[..., None],
    outcomes: Callable[..., Any],
    sense: list[str],
    name: str,
    change: Callable[[dict[str, Any]], None],
) -> dict[tuple[str, str, int], list[tuple[int, ...]]]:
    made = lay_out(2, name, change)
    with city.Running(made, QUIET, sense=sense) as running:
        to_the_end(running)
    return {
        key: [noised.integers for noised in outcome.noised] if isinstance(outcome, Release) else [outcome.reason]
        for key, outcome in outcomes(made).items()
    }


def other_seed(scenario: dict[str, Any]) -> None:
    for gateway in scenario["gateways"]:
        for port in gateway["ports"]:
            port["source"].update(seed=99)


@pytest.mark.long
def test_the_same_input_gives_the_same_windows_whatever_the_pace(
    lay_out: Callable[..., city.City],
    to_the_end: Callable[..., None],
    outcomes: Callable[..., Any],
    composition: Callable[[str], list[str]],
) -> None:
    """Exact aggregates, seen by a hook of the tests, are equal with another credit and another pace."""
    sense = composition("exact_sense")
    first = exact(lay_out, to_the_end, outcomes, sense, "a", lambda _: None)
    second = exact(
        lay_out, to_the_end, outcomes, sense, "b", lambda scenario: scenario.update(skew_ms=20_000, speed=2400)
    )
    other_street = exact(
        lay_out,
        to_the_end,
        outcomes,
        sense,
        "c",
        other_seed,
    )
    assert first == second
    assert first != other_street


def test_a_living_demo_shows_operators_their_page(tmp_path: Path) -> None:
    """Without --once it says where both pages are; the operators' one names each gateway, and the site has none."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["demo", "--days", "1", "--port", str(port), "--dir", str(tmp_path / "d")]
    with subprocess.Popen(
        [sys.executable, "-m", "murmure.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout
            where = next(found[0] for line in process.stdout if (found := re.search(r"http\S+/exploitation/", line)))
            with urlopen(where, timeout=60) as answer:
                page = answer.read().decode()
            with pytest.raises(HTTPError, match="404"):
                urlopen(f"http://127.0.0.1:{port}/exploitation/", timeout=60)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=120)
    assert process.returncode == 0
    assert all(place.gateway in page for place in city.SITES)


@pytest.mark.long
def test_the_demo_prints_one_json_object(tmp_path: Path) -> None:
    """`demo --once --json` prints the summary that the contract names, and nothing else, on stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "murmure.cli", "demo", "--once", "--days", "1", "--json", "--dir", str(tmp_path / "d")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["stored"] == summary["releases"] == 600
    assert (summary["withheld"], summary["duplicates"], summary["refused"]) == (0, 0, 0)
    assert summary["readings"] > 3_000_000
    assert set(summary["spent"]) == {f"{p.id}/{q}" for p in city.SITES for q in ("footfall", "noise", "pm2_5", "pm10")}
    assert all(0 < spent <= 88_152 for spent in summary["spent"].values())
    again = subprocess.run(
        [sys.executable, "-m", "murmure.cli", "demo", "--once", "--dir", str(tmp_path / "d")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "holds an earlier run" in again.stderr
    with sqlite3.connect(tmp_path / "d/gateways/gw-place-du-marche/data/gateway.db") as db:
        kept = dict(db.execute("SELECT seq, sealed FROM outbox"))
    archive = Archive.open(tmp_path / "d/centre/data/archive.db", read_only=True)
    assert kept == {message.seq: message.sealed for message in archive.messages("gw-place-du-marche")}
    archive.close()
