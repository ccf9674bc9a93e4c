"""Health messages say nothing of the street: an empty one and a crowded one cannot be told apart by any field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
    """reports(name, street, leaky field) -> for each of three gateways what its health messages said."""

    def run(name: str, street: Mapping[str, Mapping[str, float]], leaky: str = "") -> list[list[dict[str, Any]]]:
        def change(scenario: dict[str, Any]) -> None:
            for gateway in scenario["gateways"]:
                for port in gateway["ports"]:
                    port["set"] = {**port.get("set", {}), **street[port["device"]]}

        made = lay_out(HOURS, name, change)
        sense = [*composition("told_sense"), *(["--leaky", leaky] if leaky else [])]
        with city.Running(made, lambda _: None, NoBroker(), sense=sense) as running:
            to_the_end(running, settled=False)
        return [
            [json.loads(line) for line in (made.gateway_dir(place) / "health.jsonl").read_text().splitlines()]
            for place in city.SITES
        ]

    return run


def differences(empty: list[list[dict[str, Any]]], crowded: list[list[dict[str, Any]]]) -> list[str]:
    """Returns the fields by which the two streets can be told apart: every report of every run is compared exactly,
    which no permutation of the runs could do better."""
    found = []
    for name in empty[0][0]:
        series = [[report[name] for report in run] for run in (*empty, *crowded)]
        shortest = min(map(len, series))
        assert shortest >= 4 * HOURS - 2
        if any(one[:shortest] != series[0][:shortest] for one in series):
            found.append(name)
    return found


@pytest.mark.long
def test_no_field_tells_a_busy_street_from_an_empty_one(reports: Callable[..., Any]) -> None:
    """Twelve hours of nobody and of 150 crossings a minute, of 38 and of 95 dB, of clean air and of smoke: every
    field of every report is equal, and so is the size of gateway.db. The board's own warmth stands still."""
    assert differences(reports("empty", EMPTY), reports("crowded", CROWDED)) == []


@pytest.mark.long
@pytest.mark.parametrize("field", ["outbox_depth", "temperature_c"])
def test_a_health_message_that_counts_people_is_caught(reports: Callable[..., Any], field: str) -> None:
    """The twin adds a thousandth of the crossings to one field."""
    assert differences(reports("empty", EMPTY, field), reports("crowded", CROWDED, field)) == [field]
