"""The drawings of the field guide, and their place in both its languages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from murmure_edge.sensors import DRIVERS

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
GUIDES = {"en": ROOT / "edge" / "README.md", "fr": ROOT / "edge" / "LISEZMOI.md"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def wiring() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wiring", PICTURES / "wiring.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_device_has_a_drawing_and_a_place_in_both_guides(wiring: ModuleType) -> None:
    """A driver without a wiring drawing is a sensor that nobody can plug in."""
    assert {drawing.device for drawing in wiring.DRAWINGS} == DRIVERS.keys()
    for guide in GUIDES.values():
        text = guide.read_text("utf-8")
        assert [name for name in DRIVERS if f"### {name}\n\n![" not in text] == []
        assert [name for name in DRIVERS if f"(../docs/pictures/wiring-{name}.svg)" not in text] == []


def test_drawings_are_what_their_tables_say(wiring: ModuleType) -> None:
    """Each committed drawing is its table's, names itself in both languages, and tells its wires to the blind."""
    for drawing in wiring.DRAWINGS:
        text = (PICTURES / f"wiring-{drawing.device}.svg").read_text("utf-8")
        assert text == wiring.svg(drawing)
        root = ElementTree.fromstring(text)
        title, desc = root.findtext(f"{SVG}title", ""), root.findtext(f"{SVG}desc", "")
        assert ("Câblage" in title, "Wiring" in title) == (True, True)
        assert all(wire.pin in desc and wire.to in desc for wire in drawing.wires)


def test_data_lines_cross(wiring: ModuleType) -> None:
    """What a sensor sends ends where the adapter receives, and the other way round; nothing else carries data."""
    for drawing in wiring.DRAWINGS:
        for wire in drawing.wires:
            name = wire.pin.split()[-1]
            if name in ("TX", "TXD") and wire.to:
                assert (wire.kind, wire.to) == (wiring.OUT, "RX")
            if name in ("RX", "RXD") and wire.to:
                assert (wire.kind, wire.to) == (wiring.IN, "TX")
