"""Whole windows from a `sense` that the kernel keeps off every network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from murmure_privacy.release import Outcome, Release

from murmure import city

QUIET: Callable[[str], None] = lambda _: None  # noqa: E731
SILENT = [str(Path(__file__).resolve().parents[1] / "confined.py"), "silent", sys.executable]
HOURS = 2


def test_a_gateway_off_every_network_closes_and_seals_its_windows(
    lay_out: Callable[..., city.City], to_the_end: Callable[..., None], outcomes: Callable[..., Any]
) -> None:
    """Two hours of three sites: `sense` would die at a socket of any family but AF_UNIX; each hour of each stream is
    drawn, sealed, carried by `send` and filed."""
    made = lay_out(HOURS)
    with city.Running(made, QUIET, sense=[*SILENT, "-m", "murmure.simulated_sense"]) as running:
        to_the_end(running)
        for place in city.SITES:
            status = Path(f"/proc/{made.processes[f'sense-{place.id}'].pid}/status").read_text()
            assert "\nSeccomp:\t2\n" in status
    nodes: dict[tuple[str, str, int], Outcome] = outcomes(made)
    hours = [outcome for (_, level, _), outcome in nodes.items() if level == "1h"]
    assert len(hours) == HOURS * 4 * len(city.SITES)
    assert all(isinstance(outcome, Release) for outcome in hours)
