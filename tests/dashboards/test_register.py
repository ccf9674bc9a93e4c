"""The register: what each place says of its sensors, what hangs on the pole, and what becomes of an objection."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import segno
from murmure_dashboards import maker_privacy, maker_register, maker_statements, qr
from murmure_dashboards.config import City, Request
from murmure_dashboards.maker import Build
from murmure_dashboards.wording import language
from murmure_privacy import policy as policies
from murmure_privacy.release import Health

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&lt;"
MOST_ELEMENTS = 430
VOID = ("meta", "link", "path", "br", "img")


class Elements(HTMLParser):
    """What a page is made of."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.french: list[str] = []
        self.other: list[str] = []
        self._open: list[bool] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(("lang", "fr") in attrs or (bool(self._open) and self._open[-1]))
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        (self.french if self._open and self._open[-1] else self.other).append(data)


def text_of(page: bytes) -> str:
    """Returns a page's words, all spaces alike."""
    return re.sub(r"\s+", " ", Elements(page).text)


@pytest.fixture(scope="module")
def made(given: Callable[..., Build], archive: Any, city: City) -> dict[str, bytes]:
    """The register of the town."""
    return dict(maker_register.files(given(archive, city)))


@pytest.mark.parametrize("root", ["", "en/"])
def test_a_place_says_all_that_the_register_knows(made: dict[str, bytes], root: str) -> None:
    """Purpose, owner, contact, legal basis, decision, rule, dates, and for each quantity what the box does with it and
    what leaves it."""
    said = text_of(made[f"{root}capteurs/plaza/index.html"])
    for known in (
        "Mesurer la fréquentation" if not root else "Measure how busy",
        "service de l’espace public",
        "espace-public@demo.example",
        "Mission d’intérêt public, délibération 2026-11-03 n° 42",
        "Délibération 2026-11-03 n° 42",
        "version 7",
        "30 novembre 2027" if not root else "30 November 2027",
        "Des distances, puis des passages.",
        "Des nombres de passages, brouillés.",
    ):
        assert known in said, known
    say = language("en" if root else "fr")
    inside, outside = (re.sub(r"\s+", " ", say(f"sensor.{one}")) for one in ("computes", "leaves"))
    assert said.count(inside) == said.count(outside) == 3


HEALTH = {
    "gateway": ("le boîtier", "the box"),
    "quartier": ("à la ville", "the town"),
    "at_s": ("l’heure", "the time"),
    "uptime_s": ("depuis quand il marche", "for how long it has run"),
    "boot": ("combien de fois il a démarré", "how often it has started"),
    "software": ("son logiciel", "its software"),
    "ports": ("l’état de ses prises", "the state of its ports"),
    "outbox_depth": ("combien de messages attendent", "how many messages wait"),
    "clock": ("et de son horloge", "and of its clock"),
    "temperature_c": ("sa température", "its temperature"),
    "free_storage_mb": ("la place qui reste sur sa carte", "the space left on its card"),
    "log": ("la longueur du journal de la ville qu’il connaît", "the length of the town’s log that it knows"),
}
"""By what words a resident is told of each field of the health report."""


@pytest.mark.parametrize("root", ["", "en/"])
def test_a_place_says_all_that_leaves_the_box_besides_figures(made: dict[str, bytes], root: str) -> None:
    """Every field of the health report, one that is added later too: figures are not all that a box sends."""
    assert set(HEALTH) == {field.name for field in fields(Health)}
    said = text_of(made[f"{root}capteurs/plaza/index.html"]).replace("'", "’")
    assert [name for name, words in HEALTH.items() if words[bool(root)] not in said] == []


def test_a_place_without_devices_in_the_register_says_so(made: dict[str, bytes]) -> None:
    """What is measured is told from the archive; which device does it is not known."""
    said = text_of(made["capteurs/station/index.html"])
    assert said.count("Le registre ne dit pas encore quel appareil mesure ici.") == 3


def test_the_short_address_is_the_same_page(made: dict[str, bytes]) -> None:
    """Whoever types the code of a pole reads what stands in the register."""
    for root in ("", "en/"):
        long, short = made[f"{root}capteurs/plaza/index.html"], made[f"{root}c/A17/index.html"]
        assert text_of(long) == text_of(short)
    assert "c/A17/index.html" in made and not any(path.startswith("c/") and "alley" in path for path in made)


def test_the_sign_has_code_and_address_only_where_the_town_has_one(
    made: dict[str, bytes], given: Callable[..., Build], archive: Any, city: City
) -> None:
    """Without `address` in city.toml nobody could follow them."""
    sign = made["capteurs/plaza/affiche/index.html"]
    assert "svg" in Elements(sign).tags and "capteurs.demo.example/c/A17/" in text_of(sign)
    assert "capteurs.demo.example/capteurs/alley/" in text_of(made["capteurs/alley/affiche/index.html"])
    bare = dict(maker_register.files(given(archive, replace(city, address=""))))["capteurs/plaza/affiche/index.html"]
    assert "svg" not in Elements(bare).tags and "c/A17" not in text_of(bare)
    assert "espace-public@demo.example" in text_of(bare)


def test_the_picture_is_the_code(made: dict[str, bytes]) -> None:
    """The modules that the path draws are those of the address, with the border that readers need."""
    found = re.search(r'stroke="#000" d="([^"]*)"', made["capteurs/plaza/affiche/index.html"].decode())
    assert found
    code = qr.code("https://capteurs.demo.example/c/A17/")
    assert found[1] == code.path
    drawn = {
        (int(x) + step, int(y))
        for x, y, length in re.findall(r"M(\d+) (\d+)\.5h(\d+)", code.path)
        for step in range(int(length))
    }
    modules = segno.make_qr("https://capteurs.demo.example/c/A17/", error="q", mask=3, boost_error=False).matrix
    dark = {(x + 4, y + 4) for y, row in enumerate(modules) for x, module in enumerate(row) if module}
    assert drawn == dark and code.side == len(modules) + 8


def test_the_form_names_address_deadline_and_number(
    made: dict[str, bytes], given: Any, archive: Any, city: City
) -> None:
    """Where to send it, how long the town takes, and the place for the public number; a town without a deadline says
    that, too."""
    said = text_of(made["demandes/formulaire/index.html"])
    for known in ("Mairie, 1 place de la République, 00000 Démo", "30 jours", "Numéro public", "Je m’oppose"):
        assert known in said, known
    slow = dict(maker_register.files(given(archive, replace(city, answer_days=None))))
    assert "n’a pas encore dit en combien de jours" in text_of(slow["demandes/formulaire/index.html"])


def test_requests_stand_with_number_state_and_answer(made: dict[str, bytes]) -> None:
    """All of them in one list, those of a place on its page."""
    said = text_of(made["demandes/index.html"])
    assert "2026-001, opposition reçue le 5 novembre 2026, Place de la République. Réponse le 12 novembre 2026." in said
    assert "Le boîtier ne garde aucun son." in said
    assert "2026-002, demande d’un capteur, reçue le 18 novembre 2026. Réponse attendue le 18 décembre 2026" in said
    assert "2026-001" in text_of(made["capteurs/plaza/index.html"])
    assert "2026-001" not in text_of(made["capteurs/station/index.html"])


def test_a_request_that_waits_too_long_is_late(given: Callable[..., Build], archive: Any, city: City) -> None:
    """On the day of the deadline it is not, on the next it is, and it says so aloud."""
    for received, late in ((date(2026, 10, 22), False), (date(2026, 10, 21), True)):
        asked = (Request("2026-009", received, "plaza", "objection", "open", None, ""),)
        page = dict(maker_register.files(given(archive, replace(city, request=asked))))["demandes/index.html"]
        assert ("<strong>En retard" in page.decode()) == late


def test_a_pause_is_told_before_any_node_tells_it(
    given: Callable[..., Build], streets: SimpleNamespace, city: City
) -> None:
    """As soon as the newest policy pauses a stream, register and privacy pages say that it is suspended, by which
    decision; of the others they do not."""
    street = streets.town()
    signed = street.policies("plaza")[0].toml
    assert b"suspendu" not in b"".join(dict(maker_register.files(given(street, city))).values())
    paused = signed.replace(b"version = 7", b"version = 8").replace(
        b'quantity = "noise"', b'quantity = "noise"\npaused = true'
    )
    street.signed[policies.parse(paused, "test").hash] = paused
    ctx = given(street, city)
    page = text_of(dict(maker_register.files(ctx))["capteurs/plaza/index.html"])
    assert "Niveau sonore : suspendu par décision." in page and page.count("suspendu par décision") == 1
    assert "La règle 8 le dit : Délibération 2026-11-03 n° 42." in page
    pages = dict(maker_privacy.files(ctx))
    assert "la règle 8 arrête la publication" in text_of(pages["vie-privee/plaza/index.html"])
    assert "Une partie est suspendue par décision." in text_of(pages["vie-privee/index.html"])


def test_a_rule_that_is_over_says_so(given: Callable[..., Build], streets: SimpleNamespace, city: City) -> None:
    """Publication has stopped by itself, and the page says since when."""
    street = streets.Street()
    swap = [("valid_until = 2027-11-30", "valid_until = 2026-11-19")]
    streets.add(street, "plaza", streets.week_of(streets.NOW_S), swap=swap)
    page = text_of(dict(maker_register.files(given(street, city)))["capteurs/plaza/index.html"])
    assert "arrivée à son terme le 19 novembre 2026" in page


def test_long_lists_are_cut_and_lose_nobody(given: Callable[..., Build], streets: SimpleNamespace, city: City) -> None:
    """Two hundred places and as many requests: each is linked or told once, and no page is too large."""
    many = tuple(replace(city.site[2], id=f"s{number}") for number in range(200))
    asked = tuple(Request(f"2026-{n}", date(2026, 11, 2), f"s{n}", "question", "open", None, "") for n in range(200))
    ctx = given(streets.Street(), replace(city, site=many, request=asked))
    for maker, path, each in (
        (maker_register, "capteurs/", "capteurs/{}/"),
        (maker_privacy, "vie-privee/", "vie-privee/{}/"),
    ):
        pages = [page for at, page in maker.files(ctx) if re.fullmatch(f"{path}(liste/[0-9]+/)?index.html", at)]
        links = [link.removeprefix("../../../").removeprefix("../") for page in pages for link in Elements(page).links]
        assert len(pages) == 3 and all(links.count(each.format(f"s{number}")) == 1 for number in range(200))
        assert max(len(Elements(page).tags) for page in pages) <= MOST_ELEMENTS - 12  # the foot's links come on top
    told = [page for at, page in maker_register.files(ctx) if re.fullmatch(r"demandes/(liste/\d+/)?index.html", at)]
    numbers = re.findall(r"<strong>2026-(\d+)</strong>", b"".join(told).decode())
    assert sorted(map(int, numbers)) == list(range(200))


def test_what_towns_and_stewards_type_is_inert(
    given: Callable[..., Build], streets: SimpleNamespace, city: City
) -> None:
    """Markup in names, purposes, answers, decisions and reasons is text on every page of ours."""
    street = streets.Street()
    typed = MARKUP.replace('"', "'").replace("\\", "")
    swap = [("Délibération 2026-11-03 n° 42", typed), ("Mesurer la place.", typed)]
    streets.add(street, "plaza", streets.week_of(streets.NOW_S), swap=swap)
    words: dict[str, Any] = dict.fromkeys(
        ("name", "purpose", "purpose_en", "owner", "contact", "street", "legal_basis"), MARKUP
    )
    sensor = replace(city.site[0].sensor[0], device=MARKUP, computes=MARKUP, leaves=MARKUP)
    asked = (Request("2026-1", date(2026, 11, 2), "plaza", "question", "answered", date(2026, 11, 3), MARKUP),)
    told: dict[str, Any] = dict.fromkeys(("publisher", "postal", "phone", "help"), MARKUP)
    town = replace(city, **told, site=(replace(city.site[0], **words, sensor=(sensor,)),), request=asked)
    ctx = given(street, town)
    for maker in (maker_register, maker_privacy, maker_statements):
        for path, page in maker.files(ctx):
            found = Elements(page)
            assert not {"script", "img"} & set(found.tags) and "onerror" not in found.attributes, path
    assert "<script>" in Elements(dict(maker_register.files(ctx))["capteurs/plaza/index.html"]).text


def test_english_pages_mark_what_the_town_wrote_in_french(site: Path) -> None:
    """A decision, a reason, an owner, an answer, an address: each in its own language for whoever has pages read."""
    written = ("Délibération", "Mesurer la place", "service de l’espace", "Le boîtier ne garde", "Mairie, 1 place")
    seen = set()
    for file in sorted((site / "en").rglob("*.html")):
        page = Elements(file.read_bytes())
        aloud = [text for text in page.other if "without the internet" not in text]
        assert not [text for text in aloud if any(one in text for one in written)], file
        seen |= {one for one in written if any(one in text for text in page.french)}
    assert seen == set(written)


def test_the_first_sentence_says_what_is_not_recorded(site: Path) -> None:
    """Who fears to be listened to reads that first, then how long a message is at most."""
    text = (site / "capteurs/plaza/index.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    after = text[text.index("</h1>") :]
    assert re.findall(r"<p>([^<]*)</p>", after)[0].startswith(
        "Il n’enregistre aucun son. Il ne sait pas ce qui se dit."
    )
    assert "Il ne prend pas d’image." in after and "de 4 Ko au plus" in after
    assert "n’enregistre aucun son" not in (site / "capteurs/alley/index.html").read_text(encoding="utf-8")


def test_the_form_asks_for_a_code_only_where_signs_have_one(
    given: Callable[..., Build], archive: Any, city: City
) -> None:
    """Without the town's address no sign prints a code, nor where no place has one."""
    bare = replace(city, site=tuple(replace(site, code="") for site in city.site))
    for town, coded in ((city, True), (replace(city, address=""), False), (bare, False)):
        page = dict(maker_register.files(given(archive, town)))["demandes/formulaire/index.html"].decode()
        assert ("code écrit sur le poteau" in page) == coded and ("Lieu" in page)
