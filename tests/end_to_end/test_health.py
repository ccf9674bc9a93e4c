"""Health messages say nothing of the street: an empty one and a crowded one cannot be told apart by any field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random
from types import TracebackType
from typing import Any

import pytest

from murmure import city

HOURS = 12
EMPTY: Mapping[str, Mapping[str, float]] = {
    "tfluna": {"crossings_per_min": 0},
    "modbus_noise": {"level_db": 38},
    "sds011": {"pm2_5": 2, "pm10": 3},
}
CROWDED: Mapping[str, Mapping[str, float]] = {
    "tfluna": {"crossings_per_min": 150},
    "modbus_noise": {"level_db": 95},
    "sds011": {"pm2_5": 900, "pm10": 990},
}
# What the board and the wall clock move, and so cannot be equal: judged by their means, over permutations of the runs.
NOISY = ("temperature_c", "free_storage_mb")
PERMUTATIONS, RISK = 2000, 0.001


class NoBroker:
    """Nobody listens: every message stays, and what has not been settled depends on the schedule alone."""

    def __enter__(self) -> NoBroker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return


@pytest.fixture
def reports(
    lay_out: Callable[..., city.City], to_the_end: Callable[..., None], composition: Callable[[str], list[str]]
) -> Callable[..., list[list[dict[str, Any]]]]:
    """reports(name, street, leaky) -> for each of three gateways what its health messages said in twelve hours."""

    def run(name: str, street: Mapping[str, Mapping[str, float]], leaky: bool = False) -> list[list[dict[str, Any]]]:
        def change(scenario: dict[str, Any]) -> None:
            for gateway in scenario["gateways"]:
                for port in gateway["ports"]:
                    port["set"] = {**port.get("set", {}), **street[port["device"]]}

        made = lay_out(HOURS, name, change)
        sense = [*composition("told_sense"), *(["--leaky"] if leaky else [])]
        with city.Running(made, lambda _: None, NoBroker(), sense=sense) as running:
            to_the_end(running, settled=False)
        return [
            [json.loads(line) for line in (made.gateway_dir(place) / "health.jsonl").read_text().splitlines()]
            for place in city.SITES
        ]

    return run


def differences(empty: list[list[dict[str, Any]]], crowded: list[list[dict[str, Any]]]) -> list[str]:
    """Returns the fields by which the two streets can be told apart."""
    found = []
    names = empty[0][0].keys()
    for name in names - set(NOISY):
        series = [[report[name] for report in run] for run in (*empty, *crowded)]
        shortest = min(map(len, series))
        assert shortest >= 4 * HOURS - 2
        if any(one[:shortest] != series[0][:shortest] for one in series):
            found.append(name)
    draw = Random(1)
    for name in NOISY:
        means = [sum(report[name] or 0 for report in run) / len(run) for run in (*empty, *crowded)]
        apart = abs(sum(means[: len(empty)]) - sum(means[len(empty) :]))
        larger = sum(
            abs(sum(shuffled[: len(empty)]) - sum(shuffled[len(empty) :])) >= apart
            for shuffled in (draw.sample(means, len(means)) for _ in range(PERMUTATIONS))
        )
        if (larger + 1) / (PERMUTATIONS + 1) < RISK:
            found.append(name)
    return found


@pytest.mark.long
def test_no_field_tells_a_busy_street_from_an_empty_one(reports: Callable[..., Any]) -> None:
    """Twelve hours of nobody and of 150 crossings a minute, of 38 and of 95 dB, of clean air and of smoke: every
    report is equal but for the board's own temperature and room, whose means a permutation test cannot tell apart."""
    assert differences(reports("empty", EMPTY), reports("crowded", CROWDED)) == []


@pytest.mark.long
def test_a_health_message_that_counts_people_is_caught(reports: Callable[..., Any]) -> None:
    """The twin adds a thousandth of the crossings to the depth of its outbox."""
    assert differences(reports("empty", EMPTY, True), reports("crowded", CROWDED, True)) == ["outbox_depth"]
