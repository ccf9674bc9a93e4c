"""The pictures of the steward's handbook are what its commands say today, each in the language of its page."""

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
    assert len(drawn) == len(steward.SHOWN) + len(steward.DRAWN)
    assert {file: (PICTURES / file).read_text("utf-8") for file in drawn} == drawn
    page = steward.PAGES[lang].read_text("utf-8")
    assert [file for file in drawn if f"(../docs/pictures/{file})" not in page] == []


def test_a_page_shows_no_picture_of_the_other_language(steward: ModuleType) -> None:
    """English pictures end in .en.svg or .en.png; each stands on one page only."""
    for lang, path in steward.PAGES.items():
        shown = re.findall(r"^!\[[^\]]*\]\(\.\./docs/pictures/([^)]+)\)", path.read_text("utf-8"), re.MULTILINE)
        assert len(shown) > 2 and {".en." in file for file in shown} == {lang == "en"}


def test_a_picture_says_the_same_in_black_and_white(steward: ModuleType) -> None:
    """Ink, white and greys alone; a name for who cannot see it, and beside it the words of the page."""
    for lang, path in steward.PAGES.items():
        for picture in (*(one.name for one in steward.SHOWN), *steward.DRAWN):
            drawn = (PICTURES / steward.name(picture, lang)).read_text("utf-8")
            colours = set(re.findall(r"#[0-9a-f]{6}", drawn))
            assert (
                colours and {colour for colour in colours if len({colour[1:3], colour[3:5], colour[5:]}) > 1} == set()
            )
            assert re.search(r'role="img"[^>]*><title>[^<]{20,}</title>', drawn)
        alone = re.findall(r"^!\[([^\]]*)\]", path.read_text("utf-8"), re.MULTILINE)
        assert len(alone) == 7 and min(map(len, alone)) > 40
