"""A counter's own error: the page says what the simulation of docs/accuracy.md found, and nothing better."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from murmure_dashboards.counters import COUNTERS, UP_TO_AN_HOUR, off

MEASURED = json.loads((Path(__file__).parents[2] / "docs" / "accuracy.json").read_text("utf-8"))


def test_the_page_says_what_was_measured() -> None:
    """Each share is that of docs/accuracy.json, to the half percent."""
    assert MEASURED["up_to_an_hour"] == UP_TO_AN_HOUR
    said = {name: {"ordinary street": 100 * own.street, "doorway": 100 * own.doorway} for name, own in COUNTERS.items()}
    assert said == MEASURED["sensors_own"]


@pytest.mark.parametrize(
    ("device", "name"),
    [("TF-Luna", "tfluna"), ("Benewake TF-Luna ×2", "tfluna"), ("HLK-LD2450", "ld2450"), ("SM7901B", None)],
)
def test_a_counter_is_known_by_the_name_on_its_box(device: str, name: str | None) -> None:
    """However it is written; what is no counter has no such error."""
    assert off(device) == (COUNTERS[name] if name else None)
