"""SIGKILL at any moment: no node with two values, no charge without its release, nothing lost but what was open."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from murmure_privacy.release import Outcome, Release

from murmure import city

QUIET: Callable[[str], None] = lambda _: None  # noqa: E731
CAMPAIGN = os.environ.get("MURMURE_CAMPAIGN") == "1"


class Killer:
    """Kills `sense` and `send` of random gateways at random moments and starts them again at once."""

    def __init__(self, running: city.Running, kills_each: int, seed: int) -> None:
        self.running, self.draw = running, random.Random(seed)
        self.left = [kind for kind in ("sense", "send") for _ in range(kills_each)]
        self.draw.shuffle(self.left)
        self.next_at = time.monotonic() + 1.0
        self.killed: list[str] = []

    def turn(self) -> None:
        if not self.left or time.monotonic() < self.next_at or self.running.bench.ended is not None:
            return
        kind = self.left.pop()
        place = self.draw.choice(city.SITES)
        name = f"{kind}-{place.id}"
        process = self.running.city.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.killed.append(name)
        (self.running.start_sense if kind == "sense" else self.running.start_send)(place)
        self.next_at = time.monotonic() + self.draw.uniform(0.3, 2.0)


def check_after_kills(made: city.City, nodes: dict[tuple[str, str, int], Outcome]) -> None:
    """What must hold after any kills, from the ledgers and the archive alone."""
    for place in city.SITES:
        with sqlite3.connect(made.gateway_dir(place) / "data" / "gateway.db") as db:
            charges = db.execute("SELECT stream, level, start_s, rho_micro, reason FROM charges").fetchall()
        assert len({row[:3] for row in charges}) == len(charges)
        for stream, level, start_s, rho_micro, reason in charges:
            outcome = nodes.pop((stream, level, start_s))
            released = isinstance(outcome, Release)
            assert released == (rho_micro > 0) == (reason is None)
            if isinstance(outcome, Release):
                assert sum(noised.rho_micro for noised in outcome.noised) == rho_micro
    assert not nodes, "the archive holds nodes that no ledger has charged"
    verdict = subprocess.run(
        [sys.executable, "-m", "murmure.cli", "ingest", "verify", "--archive", str(made.ingest.archive)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def play(
    lay_out: Callable[..., city.City],
    to_the_end: Callable[..., None],
    outcomes: Callable[..., Any],
    hours: float,
    kills_each: int,
) -> tuple[city.City, dict[tuple[str, str, int], Outcome], list[str]]:
    made = lay_out(hours, change=lambda scenario: scenario.update(speed=hours * 3600 / (kills_each * 3.2)))
    with city.Running(made, QUIET) as running:
        killer = Killer(running, kills_each, seed=int(hours) + kills_each)
        to_the_end(running, killer.turn)
    assert not killer.left, "the replay was over before all kills"
    return made, outcomes(made), killer.killed


def test_a_killed_gateway_loses_only_what_was_open(
    lay_out: Callable[..., city.City], to_the_end: Callable[..., None], outcomes: Callable[..., Any]
) -> None:
    """Four kills of each process in a simulated day: ledgers and archive agree, and the day has its partial figure."""
    made, nodes, killed = play(lay_out, to_the_end, outcomes, 24, 4)
    assert len(killed) == 8
    days = [key for key in nodes if key[1] == "1d" and key[0].endswith("/footfall")]
    assert len(days) == len(city.SITES)
    check_after_kills(made, nodes)


@pytest.mark.long
def test_many_kills_lose_only_what_was_open(
    lay_out: Callable[..., city.City], to_the_end: Callable[..., None], outcomes: Callable[..., Any]
) -> None:
    """Twenty kills of each process (two hundred in a campaign), at random."""
    kills = 200 if CAMPAIGN else 20
    made, nodes, killed = play(lay_out, to_the_end, outcomes, 240 if CAMPAIGN else 48, kills)
    assert len(killed) == 2 * kills
    assert {key for key in nodes if key[1] == "1d" and key[0].endswith("/footfall")}
    check_after_kills(made, nodes)
