"""What the doctor says: a sentence and a gesture for each code, in both languages, and a page of all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from murmure_edge.doctor import checks, command, examine, modbus_scan, plausibility
from murmure_edge.doctor.findings import LANGUAGES, Finding, Severity, catalogue, language_of
from murmure_edge.doctor.page import page

ROOT = Path(__file__).resolve().parents[3]
NAMES = re.compile(r"\{(\w+)\}")
GROUPS = "port|ports|rights|uart|sensor|modbus|clock|power|storage|privacy|trust|certificate|ledger|sense|config"
CODE = re.compile(rf"\"((?:{GROUPS})\.\w+)\"")


@pytest.mark.parametrize("code", catalogue())
def test_a_finding_is_one_sentence_and_one_gesture_in_both_languages(code: str) -> None:
    """Each ends with its only full stop, begins with a capital or a name, and both languages fill in the same names."""
    entry = catalogue()[code]
    for language in LANGUAGES:
        for text in entry.texts[language]:
            plain = re.sub(r"\d\.\d|gateway\.toml|config\.txt|cmdline\.txt|journald\.conf|sysctl\.d|fs\.\w+", "x", text)
            assert plain.endswith(".") and plain.count(". ") == 0 and "!" not in plain, text
            assert text[0].isupper() or text[0] in "{`/«" or text.startswith("gateway.toml"), text
    said = [{name for text in entry.texts[language] for name in NAMES.findall(text)} for language in LANGUAGES]
    assert said[0] == said[1]
    assert entry.texts["fr"] != entry.texts["en"]
    if entry.severity is not Severity.OK:
        assert "Rien à faire." not in entry.texts["fr"][1]


def test_every_code_is_used_and_every_code_that_is_used_has_its_words() -> None:
    """The codes in the sources are those of the catalogue."""
    said = set()
    for module in (checks, command, examine):
        said |= set(CODE.findall(Path(str(module.__file__)).read_text("utf-8")))
    verdicts = (modbus_scan.ANSWERS, modbus_scan.EXCEPTION, modbus_scan.OTHER, modbus_scan.SPOILED, modbus_scan.SILENT)
    said |= {f"modbus.scan_{verdict}" for verdict in verdicts}
    said |= {f"sensor.{kind}" for kind in (plausibility.RANGE, plausibility.ORDER, plausibility.STUCK)}
    said |= {f"sensor.{plausibility.FLOOR}", "sense.ok", "sense.absent", "sense.denied", "sense.stalled"}
    said |= {"sense.wrong_device", "sense.degraded"}
    said |= {f"{group}.ok" for group in ("ports", "clock", "power", "storage", "privacy")}
    said |= {f"certificate.{state}" for state in ("ok", "ends", "ended")}
    assert said == set(catalogue())


def test_the_page_is_made_from_the_catalogue() -> None:
    """docs/doctor.md is what `python -m murmure_edge.doctor.page` prints."""
    assert (ROOT / "docs" / "doctor.md").read_text("utf-8") == page()


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "en_GB.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "fr_BE", "LANG": "C"}, "fr"),
        ({}, "en"),
    ],
)
def test_the_language_is_that_of_the_locale(environ: dict[str, str], language: str) -> None:
    """LC_ALL before LC_MESSAGES before LANG; French if it is French, else English."""
    assert language_of(environ) == language


def test_a_finding_carries_both_languages_to_a_machine() -> None:
    """Code, severity, port and both texts, whatever the language of the screen."""
    told = Finding("rights.group", "dust", {"user": "murmure-sense", "group": "plugdev", "path": "/dev/x"}).as_json()
    assert told["code"] == "rights.group" and told["severity"] == "failure" and told["port"] == "dust"
    assert "plugdev" in str(told["sentence"]) and set(told["gesture"]) == {"fr", "en"}  # type: ignore[call-overload]
