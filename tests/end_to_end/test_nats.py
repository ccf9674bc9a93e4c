"""The whole pipeline through Debian's NATS, by configuration alone: `mqtt = 4` at the gateways and at the centre."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from murmure_privacy.release import Outcome, Release

from murmure import city

HOURS = 3
NODES = 3 * (4 * HOURS + HOURS + 3 * HOURS)  # three sites: footfall at two levels, and three of noise and dust


@pytest.mark.long
@pytest.mark.nats
def test_a_street_reaches_its_archive_through_nats(
    lay_out: Callable[..., city.City],
    to_the_end: Callable[..., None],
    outcomes: Callable[[city.City], dict[tuple[str, str, int], Outcome]],
    brokers: Any,
) -> None:
    """Three hours of three sites cross `send`, NATS, which is killed on the way, and `ingest run`; every node is there
    once and the archive is sound."""
    made = lay_out(HOURS)
    for settings in (made.root / "centre" / "ingest.toml", *made.root.glob("gateways/*/gateway.toml")):
        text = settings.read_text("utf-8").replace("mqtt = 5\n", "")
        settings.write_text(text.replace("[broker]\n", "[broker]\nmqtt = 4\n"), "utf-8")
    broker = brokers.nats(made.root / "nats", made.broker_port)
    with city.Running(made, lambda _: None, broker) as running:
        killed: list[int] = []

        def kill_once() -> None:
            if not killed and outcomes(made):
                killed.append(broker.pid)
                broker.kill()
                broker.start()

        to_the_end(running, kill_once)
        assert killed
    nodes = outcomes(made)
    assert len(nodes) == NODES and all(isinstance(outcome, Release) for outcome in nodes.values())
    verify = [sys.executable, "-m", "murmure.cli", "ingest", "verify", "--archive", str(made.ingest.archive)]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
