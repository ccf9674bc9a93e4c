"""What the site says of itself is measured, or says that nobody has measured it."""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from murmure_dashboards import maker_statements, pages
from murmure_dashboards.cannot import proofs
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build
from murmure_dashboards.story import Teller
from murmure_dashboards.views import view
from murmure_dashboards.wording import LANGUAGES, language
from murmure_privacy.policies import Rules
from murmure_privacy.release import Withheld
from murmure_privacy.window import Window


def everything(site: Path) -> list[Path]:
    return sorted(site.resolve().rglob("*.html"))


def test_every_page_tells_its_own_weight(site: Path) -> None:
    """The number at its foot is the size of its compressed twin, in kilo-octets rounded up."""
    for page in everything(site):
        found = re.search(r"(?:Cette page pèse|This page weighs) (\d+)\s(?:Ko|kB)\.", page.read_text(encoding="utf-8"))
        assert found is not None, page
        octets = Path(f"{page}.gz").stat().st_size
        assert int(found[1]) == -(-octets // 1000), page


@pytest.mark.parametrize("filling", range(0, 4000, 61))
def test_a_weight_at_the_edge_is_not_too_small(filling: int) -> None:
    """Whatever a digit more does to the compression, the page never weighs more than it says."""
    text = "".join(chr(33 + (number * number * 7919 + number) % 90) for number in range(filling))
    page = pages.weighed(f"{text} pèse \ue000 Ko")
    said = int(page.decode().split("pèse ")[1].split()[0])
    assert len(gzip.compress(page, mtime=0)) <= 1000 * said <= len(gzip.compress(page, mtime=0)) + 1010


@pytest.mark.parametrize("filling", range(850, 1400, 7))
def test_a_page_says_the_same_whatever_was_weighed_before(filling: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compressed once if it weighs what the last one of its length did; that decides nothing that it says."""
    text = "".join(chr(33 + (number * number * 7919 + number) % 90) for number in range(filling)) + " pèse \ue000 Ko"
    monkeypatch.setattr(pages, "_weights", known := dict[int, str]())
    first = pages.weighed(text)
    for guess in ("0", "1", "2", "3", "10", "100"):
        known.update(dict.fromkeys(range(5), guess))
        assert pages.weighed(text) == first, guess


def test_the_footprint_is_measured_on_the_pages(site: Path) -> None:
    """Weight, elements and requests of each kind of page are those of its largest page, and all kinds are there."""
    text = (site / "empreinte" / "index.html").read_text(encoding="utf-8")
    rows = re.findall(r'<th scope="row">/([^<]*)</th><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td>', text)
    kinds: dict[str, list[Path]] = {}
    for page in everything(site):
        kind = maker_statements.kind(page.relative_to(site.resolve()).as_posix())
        if kind is not None and kind not in ("facile/", "methode/", "accessibilite/", "empreinte/"):
            kinds.setdefault(kind, []).append(page)
    assert {row[0] for row in rows} == set(kinds) and len(rows) >= 11
    for name, weight, elements, requests in rows:
        largest = max(kinds[name], key=lambda page: page.stat().st_size)
        octets = Path(f"{largest}.gz").stat().st_size
        markup = re.sub(r"<svg.*?</svg>", "<svg>", largest.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert weight == str(-(-octets // 1000)), name
        assert int(elements) == len(re.findall(r"<[a-z]", markup)), name
        assert int(requests) == 1 + len(re.findall(r'<link rel="(?:stylesheet|icon)"|\ssrc=', markup)) <= 3


# Which line of what the sensors cannot know, with its tests, bears each line that the easy-to-read page says of it.
BORNE = {
    "count_1": "footfall_who",
    "count_2": "footfall_who",
    "count_3": "footfall_who",
    "level_1": "noise_said",
    "level_2": "noise_said",
    "mean_1": "air_source",
}


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_easy_page_says_all_that_it_has_to_and_claims_no_reader(site: Path, code: str) -> None:
    """What is measured, what not, who decides, how to ask, each with a picture that the words repeat; that nobody
    concerned has read it yet, and no logo."""
    say = language(code)
    text = (site / pages.address(code, "facile/index.html")).read_text(encoding="utf-8")
    for key, sentence in say.texts.items():
        if key.startswith("easy.") and "{" not in sentence and not key.endswith(("no_days", "measure_none")):
            assert f">{html.escape(say.typeset(sentence))}<" in text, key
    assert say("easy.checked_3") in text and say("easy.checked_4") in text
    sections = re.findall(r"(?s)<section>\n(.*?)</section>", text)
    assert len(sections) == 7
    for section in sections:
        assert section.startswith('<svg class="picture" viewBox="0 0 64 64" aria-hidden="true" focusable="false"><')
        assert "<text" not in section and "<h2>" in section
    assert "<img" not in text and "inclusion-europe" not in text.lower()
    assert f'href="{"../" * (2 - (code == "fr"))}{pages.address(code, "demandes/formulaire/")}"' in text
    assert "tél. 01\u00a000\u00a000\u00a000\u00a000" in text and "30 " in text.partition("formulaire")[0]


def test_every_line_of_the_easy_page_on_what_sensors_cannot_know_is_borne_by_tests() -> None:
    """It says no more than the page of a place does."""
    said = {key.removeprefix("easy.not_") for key in language("fr").texts if key.startswith("easy.not_")} - {"head"}
    assert said == BORNE.keys() and set(BORNE.values()) <= proofs().keys()


def test_the_easy_page_speaks_of_what_the_town_measures(given: Callable[..., Build], streets: Any, city: City) -> None:
    """Of nothing that no sensor measures, and of no deadline that the town has not set."""
    street = streets.Street()
    streets.add(street, "plaza", streets.week_of(streets.NOW_S), streams=("noise",))
    for archive, kinds in ((street, {"level"}), (streets.Street(), set[str]())):
        made = dict(maker_statements.files(given(archive, replace(city, answer_days=None))))
        text = made["facile/index.html"].decode()
        for kind in ("count", "level", "mean"):
            lines = [key for key in language("fr").texts if re.fullmatch(rf"easy\.(measure|not)_{kind}(_\d)?", key)]
            assert lines and {language("fr")(key) in text for key in lines} == {kind in kinds}
        assert (language("fr")("easy.not_head") in text) == bool(kinds)
        assert language("fr")("easy.ask_no_days") in text
        lines = [key for key in language("fr").texts if re.fullmatch(r"easy\.measure_\d", key)]
        assert lines and {language("fr")(key) in text for key in lines} == {bool(kinds)}
        assert (html.escape(language("fr")("easy.measure_none")) in text) == (not kinds)


@pytest.mark.parametrize(
    ("code", "said", "kept"),
    [
        ("fr", "Un jour garde le chiffre de ses heures mesurées ; la page dit combien.", "6 h sur 24 h"),
        ("en", "A day keeps the figure of its measured hours; the page says how many.", "6 h of 24 h"),
    ],
)
def test_a_day_keeps_the_figure_of_its_measured_hours(streets: Any, code: str, said: str, kept: str) -> None:
    """As the method says: hours in which the sensor was silent have no figure; their day, of which the gateway has
    withheld its own sum, has that of its other hours, and the page of the week says how many."""
    window, street = streets.week_of(streets.NOW_S), streets.Street()
    day = streets.PARIS.day(streets.NOW_S - 2 * 86_400)
    gone = Window(day.start_s, day.start_s + 18 * 3600)
    streets.add(street, "plaza", window, mute={"footfall": (gone,)}, streams=("footfall",))
    withheld = [one.node for one in street.nodes["plaza/footfall"] if isinstance(one, Withheld)]
    assert [node.start_s for node in withheld if node.level == "1d"] == [day.start_s]
    [info] = street.streams()
    seen = view(street, Rules(street), (), info, window, streets.PARIS, streets.NOW_S)
    assert {slot.amount for slot in seen.slots(gone)} == {None}
    chart = Teller(language(code)).week(seen, "Ici", "c0").chart
    assert chart is not None
    days = [row[1].replace("\u00a0", " ") for row in chart.table.rows]
    [partial] = [told for told in days if told.endswith(f", {kept}")]
    assert re.match(r"\d+ \(", partial)
    assert language(code)("method.missing_2").replace("\u202f", " ").endswith(said)


def test_nobody_claims_an_audit_that_has_not_been(site: Path) -> None:
    """The statement says "non conforme : audit à faire" in the French form, and no page says more."""
    statement = (site / "accessibilite" / "index.html").read_text(encoding="utf-8")
    heads = (f"{name}_head" for name in ("state", "results", "content", "made", "contact", "remedy"))
    for part in ("not_audited", *heads):
        assert language("fr")(f"access.{part}") in statement
    assert maker_statements.CONFORMITY == "not_audited"
    for page in everything(site):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(totalement|partiellement) conforme|(fully|partially) compliant", text, re.IGNORECASE)


def test_the_method_names_every_proof(site: Path) -> None:
    """Each line of what the sensors cannot know stands there with its tests."""
    text = (site / "methode" / "index.html").read_text(encoding="utf-8")
    assert all(test in text for tests in proofs().values() for test in tests)
