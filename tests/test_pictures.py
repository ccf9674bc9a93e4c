"""The pictures of the steward's handbook are what its commands print today, each in the language of its page."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"


@pytest.fixture(scope="module")
def steward() -> ModuleType:
    spec = importlib.util.spec_from_file_location("steward", PICTURES / "steward.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_a_picture_is_what_its_command_prints(steward: ModuleType, lang: str) -> None:
    """Typed again as the page says, the commands print what was drawn; whoever changes page or words draws it again:
    python docs/pictures/steward.py."""
    drawn = steward.pictures(lang)
    assert len(drawn) == len(steward.SHOWN)
    assert {file: (PICTURES / file).read_text("utf-8") for file in drawn} == drawn
    page = steward.PAGES[lang].read_text("utf-8")
    assert [file for file in drawn if f"(../docs/pictures/{file})" not in page] == []


def test_a_page_shows_no_picture_of_the_other_language(steward: ModuleType) -> None:
    """English pictures end in .en.svg or .en.png; each stands on one page only."""
    for lang, path in steward.PAGES.items():
        shown = re.findall(r"^!\[[^\]]*\]\(\.\./docs/pictures/([^)]+)\)", path.read_text("utf-8"), re.MULTILINE)
        assert len(shown) > 2 and {".en." in file for file in shown} == {lang == "en"}
