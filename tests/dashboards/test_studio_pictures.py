"""The studio's pictures in the steward's handbook, each beside the words that stood in it when it was taken.

MURMURE_PICTURES=docs/pictures pytest -m long tests/dashboards/test_studio_pictures.py takes pictures and words anew.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from murmure.studio import page
from murmure.studio.desk import begin
from murmure.studio.server import Studio, StudioServer
from murmure_dashboards import pages
from murmure_privacy.mechanism import DiscreteGaussian

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "pictures"
# Of each picture, which shows the three scenarios of a page: the page, and what is asked of it.
TAKEN = {
    "studio": (page.PATH, {"partir": "marge", "a": "40", "b": "15", "c": "8", "plafond": ""}),
    "studio-site": (page.WHOLE, {"limite": "2", "lieux": "2"}),
}
EACH = [(name, lang) for name in TAKEN for lang in ("fr", "en")]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """A studio that begins with the example policy, as one that is given none."""
    desk = begin(ROOT / "privacy" / "policy.example.toml", None, None, DiscreteGaussian())
    return Studio([desk], tmp_path_factory.mktemp("drafts"))


@pytest.fixture(scope="module")
def url(studio: Studio) -> Iterator[str]:
    with StudioServer(studio, 0, "127.0.0.1", anywhere=False) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def address(name: str, lang: str) -> str:
    path, query = TAKEN[name]
    return f"/{pages.address(lang, path)}?{urlencode(query)}"


def words(html: str) -> str:
    """Returns what is read in a picture, a line each, without what is drawn anew each time: curves and their share."""
    seen = html.partition('<div class="cards">')[2].partition("</article>\n</div>")[0]
    told = re.sub(r"<(strong|svg)\b.*?</\1>|<div class=\"[xy]\".*?</div>", "", seen, flags=re.DOTALL)
    lines = (unescape(re.sub(r"<[^>]+>", " ", line)) for line in told.splitlines())
    return "".join(f"{line}\n" for line in (" ".join(line.split()) for line in lines) if line)


def file(name: str, lang: str, kind: str) -> str:
    return f"{name}.{'en.' if lang == 'en' else ''}{kind}"


@pytest.mark.parametrize(("name", "lang"), EACH)
def test_a_picture_is_not_older_than_its_page(studio: Studio, name: str, lang: str) -> None:
    """The page says today the words that it said when the picture was taken, which is in its handbook."""
    said = words(studio.answer(address(name, lang)).content.decode())
    assert said == (KEPT / file(name, lang, "txt")).read_text("utf-8"), "take it again, as the head of this file says"
    assert said.count("ε") >= 3 and (KEPT / file(name, lang, "png")).stat().st_size < 200_000
    handbook = (ROOT / "privacy" / ("README.md" if lang == "en" else "LISEZMOI.md")).read_text("utf-8")
    assert f"(../docs/pictures/{file(name, lang, 'png')})" in handbook


@pytest.mark.long
@pytest.mark.browser
def test_the_pictures_of_the_handbook(browser: Browser, studio: Studio, url: str, tmp_path: Path) -> None:
    """A browser shows what they are taken of; MURMURE_PICTURES=FOLDER keeps them there."""
    folder = Path(os.environ.get("MURMURE_PICTURES", tmp_path))
    for name, lang in EACH:
        one = browser.new_page(viewport={"width": 1280, "height": 800})
        one.set_default_timeout(120_000)
        one.goto(url + address(name, lang))
        assert one.locator("html").get_attribute("lang") == lang
        picture = folder / file(name, lang, "png")
        one.locator(".cards").screenshot(path=picture)
        (folder / file(name, lang, "txt")).write_text(
            words(studio.answer(address(name, lang)).content.decode()), "utf-8"
        )
        one.context.close()
        assert picture.stat().st_size > 10_000
