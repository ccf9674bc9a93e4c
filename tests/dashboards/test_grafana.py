"""The dashboards for technicians: generated, stable, in both languages, and of the form that Grafana publishes.

That form is read from the models of grafana-foundation-sdk, which are generated from Grafana's own schemas: a
dashboard goes through them and back, and each value is compared with its published type.
"""

from __future__ import annotations

import enum
import json
import re
import types
import typing
import warnings
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from murmure_dashboards.grafana import LANGUAGES, LOG_BEHIND, RECEIPTS_UNREAD, dashboards

COMMITTED = Path(__file__).resolve().parents[2] / "dashboards" / "grafana"
TEXTS = {name: text for language in LANGUAGES for name, text in dashboards(language)}
NUMBERS = {float: (int, float), int: (int,)}


def wrong(value: object, wanted: Any, where: str) -> list[str]:
    """Returns where a value is not of its published type."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any or wanted is object:
        return []
    if origin in (typing.Union, types.UnionType):
        found = [wrong(value, each, where) for each in inner]
        return [] if [] in found else found[0]
    if origin is typing.Literal:
        return [] if value in inner else [f"{where}: {value!r} is none of {inner}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{where}: no list"]
        return [line for at, each in enumerate(value) for line in wrong(each, inner[0], f"{where}[{at}]")]
    if origin is dict:
        if not isinstance(value, dict):
            return [f"{where}: no object"]
        return [line for key, each in value.items() for line in wrong(each, inner[1], f"{where}.{key}")]
    if wanted is type(None):
        return [] if value is None else [f"{where}: {value!r} is not null"]
    if issubclass(wanted, enum.Enum):
        return [] if value in list(wanted) else [f"{where}: {value!r} is no {wanted.__name__}"]
    if wanted in (str, bool, int, float):
        fits = isinstance(value, NUMBERS.get(wanted, (wanted,))) and (wanted is bool or not isinstance(value, bool))
        return [] if fits else [f"{where}: {value!r} is no {wanted.__name__}"]
    if isinstance(value, dict) and hasattr(wanted, "from_json"):  # the models leave a few parts as they came
        part = wanted.from_json(value)
        return wrong(part, wanted, where) if encoded(part) == value else [f"{where}: a field is not known"]
    if not isinstance(value, wanted):
        return [f"{where}: {type(value).__name__} is no {wanted.__name__}"]
    hints = typing.get_type_hints(type(value))
    return [line for name, hint in hints.items() for line in wrong(getattr(value, name), hint, f"{where}.{name}")]


def encoded(model: object) -> Any:
    return json.loads(json.dumps(model, cls=JSONEncoder))


def objections(text: str) -> list[str]:
    """Returns what Grafana's published schema has against a dashboard: unknown fields, values of another type."""
    register_default_plugins()
    document = json.loads(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the later form, which only Grafana 12 and up reads
        model = Dashboard.from_json(document)
    lost = [] if encoded(model) == document else ["it does not come back as it went in: a field is not known"]
    return lost + wrong(model, Dashboard, "dashboard")


def panels(text: str) -> list[dict[str, Any]]:
    return list(json.loads(text)["panels"])


def test_the_committed_files_are_what_the_code_makes() -> None:
    """`make grafana` changes nothing: the files are stable, and nobody edits them by hand."""
    assert {path.name: path.read_text("utf-8") for path in COMMITTED.glob("*.json")} == TEXTS


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_a_dashboard_is_of_the_published_form(name: str) -> None:
    """Every field is known to Grafana's schema and has its type."""
    assert objections(TEXTS[name]) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("panels", 0, "gridPos", "w"), "wide"),
        (("panels", 0, "colour"), "red"),
        (("panels", 0, "fieldConfig", "defaults", "unit"), 7),
        (("panels", 6, "transformations", 0, "id"), None),
        (("templating", "list", 0, "type"), "datasourcery"),
    ],
)
def test_the_judge_of_the_form_has_teeth(place: tuple[Any, ...], value: object) -> None:
    """A broken twin each: a field that Grafana does not know, a value of another type."""
    document = json.loads(TEXTS["fleet.en.json"])
    at = document
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    assert objections(json.dumps(document)) != []


def test_every_panel_has_its_place_and_asks_the_chosen_source() -> None:
    """No two panels overlap, the grid of 24 columns is kept, and no data source's own name is written down."""
    for name, text in TEXTS.items():
        taken: dict[tuple[int, int], str] = {}
        for panel in panels(text):
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24, name
            cells = [(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
            assert [taken[cell] for cell in cells if cell in taken] == [], (name, panel["title"])
            taken |= dict.fromkeys(cells, panel["title"])
            assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}


def test_receipts_that_are_not_believed_are_told_as_the_alerts_tell_them() -> None:
    """The table of the fleet asks with the very rules of the two alerts."""
    rules = " ".join((COMMITTED.parents[1] / "ingest" / "prometheus" / "alerts.yml").read_text("utf-8").split())
    (table,) = [one for one in panels(TEXTS["fleet.en.json"]) if one["title"] == "Receipts that are not believed"]
    for alert, rule, query in zip(
        ("MurmureLogBehind", "MurmureReceiptsUnread"), (LOG_BEHIND, RECEIPTS_UNREAD), table["targets"], strict=True
    ):
        assert re.search(rf"alert: {alert} expr: (?:\|- )?{re.escape(rule)} (?:for|labels):", rules), alert
        assert query["expr"] == f"max by (gateway, site) ({rule})"


def test_both_languages_ask_the_same() -> None:
    """French and English differ in their words alone: same panels, same places, same queries."""
    for board in ("fleet", "figures"):
        french, english = (panels(TEXTS[f"{board}.{language}.json"]) for language in ("fr", "en"))
        asked = [[[query["expr"] for query in panel["targets"]] for panel in each] for each in (french, english)]
        assert asked[0] == asked[1]
        assert [panel["gridPos"] for panel in french] == [panel["gridPos"] for panel in english]
        differs = [(a["title"], b["title"]) for a, b in zip(french, english, strict=True) if a["title"] == b["title"]]
        assert differs in ([], [("air (µg/m³)", "air (µg/m³)")])
