"""Without a screen: 160 letters that every telephone shows, and half a minute to listen to."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City
from murmure_dashboards.spoken import GSM_7, MOST_LETTERS, MOST_WORDS, spoken_words

FOLDERS = [f"{start}quartiers/{slug}/" for start in ("", "en/") for slug in ("centre", "gare", "parc")]
NUMBER = re.compile(r"\d[\d,.]* (passages|crossings|dB|ug/m3)(?! \()")


def outputs(archive: Any, city: City, now_s: int) -> dict[str, str]:
    made = site_module.render(archive, city, now_s)
    return {path: text.decode() for path, text in made if path.endswith(".txt") and "quartiers/" in path}


def paragraphs(text: str) -> list[str]:
    return text.strip().split("\n\n")


def wrong(path: str, text: str) -> list[str]:
    """Returns what a message or a text to read out must not do."""
    found = []
    if path.endswith("message.txt"):
        message = text.removesuffix("\n")
        if len(message) > MOST_LETTERS:
            found.append("too long")
        if set(message) - GSM_7 or "?" in message:
            found.append("a letter that no telephone has")
        if NUMBER.search(message.replace("moins de ", "")):
            found.append("a number without its interval")
    else:
        found += ["over half a minute" for one in paragraphs(text) if spoken_words(one) > MOST_WORDS]
    return found


def test_the_alphabet_is_that_of_the_standard() -> None:
    """128 places less the escape and the carriage return; what is in the extension table counts twice and stays out."""
    assert len(GSM_7) == 126 and not GSM_7 & set("€[]{}\\^~|\r\x1b")
    assert set("éèàùìò") <= GSM_7 and not GSM_7 & set("êçôîâ’–µ³\u202f\u00a0")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_day_fits_a_message_and_half_a_minute(site: Path, folder: str) -> None:
    """In both languages, with date, number and interval; simulated data say so."""
    for name in ("message.txt", "telephone.txt"):
        text = (site / folder / name).read_text(encoding="utf-8")
        assert wrong(name, text) == []
        assert "simul" in text.lower()


def test_a_message_says_number_interval_and_day(site: Path, archive: Any, city: City, streets: SimpleNamespace) -> None:
    """One quartier with one place: all three figures and where their codes are; with two places, or where it must say
    that it is a simulation, as much as fits, and where to ask for the rest."""
    real = outputs(archive, replace(city, simulated=False), streets.NOW_S)["quartiers/centre/message.txt"]
    figures = (
        r"Centre ven\. 20/11: \d+ passages \(entre \d+ et \d+\)\. Bruit: [\d,]+ dB \(entre [\d,]+ et [\d,]+\)\. ",
        r"PM2,5: [\d,]+ ug/m3 \(entre [\d,]+ et [\d,]+\)\. ",
    )
    assert re.fullmatch("".join((*figures, r"19 fois sur 20\. Codes: site\.\n")), real), real
    one = (site / "quartiers/centre/message.txt").read_text(encoding="utf-8")
    rest = r"19 fois sur 20\. Codes: site\. Suite: 01 00 00 00 00\n"
    assert re.fullmatch(rf"SIMULATION\. {figures[0]}{rest}", one), one
    two = (site / "quartiers/gare/message.txt").read_text(encoding="utf-8")
    assert "Parvis de la gare: " in two and two.endswith("Suite: 01 00 00 00 00\n")
    assert (
        site / "en/quartiers/parc/message.txt"
    ).read_text() == "SIMULATION. Parc: no sensor in this neighbourhood.\n"


def test_each_paragraph_can_stand_alone(site: Path) -> None:
    """In short first; then place, figures and how often the interval holds: who answers may stop after any. The last
    one says where the codes are."""
    first, *others, last = paragraphs((site / "quartiers/gare/telephone.txt").read_text(encoding="utf-8"))
    assert last == "Les codes de ces chiffres sont sur le site de la ville."
    assert "quartier Gare, vendredi 20 novembre." in first and "on ne peut pas dire si un repère" in first
    for one in others:
        assert "Parvis de la gare." in one or "Passage des Tanneurs." in one
        assert one.endswith("19 fois sur 20.")
        assert "dB" not in one and "µg" not in one and "(" not in one


def test_what_is_too_vague_is_no_number(streets: SimpleNamespace, city: City) -> None:
    """Neither message nor telephone tells a level whose interval is too wide: one cannot tell."""
    street = streets.Street()
    vague = (("seconds = 15", "seconds = 900"),)
    streets.add(street, "plaza", streets.week_of(streets.NOW_S), streams=("noise",), swap=vague)
    made = outputs(street, city, streets.NOW_S)
    assert made["quartiers/centre/message.txt"] == "SIMULATION. Centre ven. 20/11: Bruit: on ne peut pas conclure.\n"
    assert "Noise: we cannot tell." in made["en/quartiers/centre/telephone.txt"]
    assert "19 times" not in made["en/quartiers/centre/telephone.txt"]


def test_names_of_any_length_and_script_stay_inside(streets: SimpleNamespace, city: City) -> None:
    """Twelve streams at places with long and foreign names: whole figures are left out, never the end of one."""
    street = streets.Street()
    streets.add(street, "s0", streets.week_of(streets.NOW_S))
    for number in range(1, 4):
        for info in street.infos[:3]:
            stream = info.stream.replace("s0/", f"s{number}/")
            street.infos.append(replace(info, site=f"s{number}", stream=stream))
            street.nodes[stream] = street.nodes[info.stream]
    name = "Esplanade de l'Île-aux-Cygnes « Ça coûte cœur » – Łódź, 東京 " + "très long " * 40
    large = replace(
        city,
        quartier=(replace(city.quartier[0], name=name),),
        site=tuple(replace(city.site[0], id=f"s{number}", name=f"{number} {name}", code="") for number in range(4)),
    )
    made = outputs(street, large, streets.NOW_S)
    for path, text in made.items():
        assert [one for one in wrong(path, text) if not one.startswith("a letter")] == [], path
        assert path.endswith("telephone.txt") or not set(text) - GSM_7
    french = made["quartiers/centre/message.txt"]
    assert re.search(r" passages \(entre \d+ et \d+\), [0-9A-Z]{5}-[0-9A-Z]{5}\. 19 fois sur 20\. Suite: 01", french)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("telephone.txt", "text/plain; charset=utf-8"), ("atom.xml", "application/atom+xml; charset=utf-8")],
)
def test_the_server_says_what_it_sends(address: str, name: str, kind: str) -> None:
    """Accents are accents in every browser, and a reader of feeds knows a feed."""
    with urlopen(f"{address}/quartiers/centre/{name}") as answer:
        assert answer.headers["Content-Type"] == kind


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("soixante et onze", 3),
        ("mille deux cent quarante passages", 5),
        ("neuf cent quatre-vingt-dix-neuf", 6),
    ],
)
def test_words_are_counted_one_by_one(said: str, words: int) -> None:
    """Hyphens join what is said in one go; no word is left out."""
    assert spoken_words(said.replace("-", " ")) == words


@pytest.mark.parametrize(
    ("figures", "least"),
    [
        ("71", 3),
        ("1 240 passages", 5),
        ("1,240 crossings", 7),
        ("999", 6),
        ("97", 4),
        ("49,9", 4),
        ("0", 1),
        ("100", 1),
    ],
)
def test_a_number_counts_at_least_as_long_as_it_is_said(figures: str, least: int) -> None:
    """In both languages: the bound is never below the words of the number."""
    assert least <= spoken_words(figures) <= 2 * least + 1


def test_a_text_that_is_too_long_or_bare_is_found() -> None:
    """What the other tests ask of a text can fail."""
    assert wrong("message.txt", "x" * 161) == ["too long"]
    assert wrong("message.txt", "Brût") == ["a letter that no telephone has"]
    assert wrong("message.txt", "Centre: 1240 passages. 19 fois sur 20.") == ["a number without its interval"]
    assert wrong("telephone.txt", "un mot " * 33) == ["over half a minute"]
