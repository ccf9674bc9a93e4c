"""city.toml: what is wrong is said in one line that names file, key, problem and mend."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from datetime import date
from pathlib import Path

import pytest
from murmure_dashboards.config import City, load, parse
from murmure_privacy.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "dashboards" / "city.example.toml"
GOOD = EXAMPLE.read_text(encoding="utf-8")


def test_the_example_is_a_city() -> None:
    """Whoever copies the example has a working file, and finds every key in it."""
    city = load(EXAMPLE)
    assert city.city == "Ville de Démo" and city.simulated and city.geojson == ()
    assert [quartier.slug for quartier in city.quartier] == ["centre", "gare"]
    assert city.sites_of("centre")[0].until == date(2027, 11, 30)
    written = tomllib.loads(re.sub(r"(?m)^# (?=\w+ = )", "", GOOD))
    assert set(written) == {one.name for one in fields(city) if one.init}
    assert set().union(*written["site"]) == set(city.site[0].__dataclass_fields__)
    sensors = [sensor for site in written["site"] for sensor in site.get("sensor", [])]
    assert set().union(*sensors) == set(city.site[0].sensor[0].__dataclass_fields__)
    assert set().union(*written["request"]) == set(city.request[0].__dataclass_fields__)
    assert set().union(*written["quartier"]) == set(city.quartier[0].__dataclass_fields__)


@pytest.mark.parametrize(
    ("old", "new", "key", "mend"),
    [
        ("city = ", "town = ", "town", "write one of city,"),
        ('city = "Ville de Démo"\n', "", "city", "write a text in quotes"),
        ('city = "Ville de Démo"', "city = 3", "city", "write a text in quotes"),
        ('city = "Ville de Démo"', 'city = ""', "city", "write a text in quotes"),
        ("Europe/Paris", "Europe/Pari", "timezone", "write a name such as Europe/Paris"),
        ("simulated = true", 'simulated = "yes"', "simulated", "write true or false"),
        ('slug = "gare"', 'slug = "../etc"', "quartier 2: slug", "write small letters, digits and single hyphens"),
        ('slug = "gare"', 'slug = "centre"', "quartier", "give each its own"),
        ('quartier = "gare"', 'quartier = "gara"', "site 2: quartier", "write one of centre, gare"),
        ('id = "station"', 'id = "plaza"', "site", "give each its own"),
        ("until = 2027-11-30  ", 'until = "soon" ', "site 1: until", "write a date such as 2027-11-30"),
        ('stream = "plaza/noise"', 'strem = "plaza/noise"', "site 1: sensor 1: strem", "write one of stream,"),
        ('device = "SM7901B"', "", "site 1: sensor 1: device", "write a text in quotes"),
        ("calibrated = 2026-10-01", "calibrated = 2026", "site 1: sensor 1: calibrated", "write a date such as"),
        ('method = "94 dB"', "", "site 1: sensor 1: method", "write a text in quotes"),
        ("[[site.sensor]]", "[site.sensor]", "site 1: sensor", "write at least one [[sensor]]"),
        ('id = "station"', 'id = "gare/nord"', "site 2: id", "write small letters, digits and single hyphens"),
        ('"https://capteurs.demo.example/"', '"https://capteurs.demo.example"', "address", "write such as"),
        ('"https://capteurs.demo.example/"', '"javascript:alert(1)/"', "address", "write such as"),
        ('licence = "etalab-2.0"', 'licence = "MIT"', "licence", "write one of etalab-2.0, ODbL-1.0"),
        ("answer_days = 30", "answer_days = 0", "answer_days", "write a whole number from 1 to 365"),
        ("answer_days = 30", "answer_days = true", "answer_days", "write a whole number from 1 to 365"),
        ('# geojson = "quartiers.geojson"', 'geojson = "nowhere"', "geojson", "name one that lies beside this"),
        ("lat = 47.219", "lat = 147.219", "site 1: lat", "write degrees such as 47.219"),
        ("lat = 47.219", "lat = nan", "site 1: lat", "write degrees such as 47.219"),
        ("lat = 47.219", "lat = 47.21937", "site 1: lat", "write at most three decimals"),
        ("lon = -1.554\n", "", "site 1: lon", "write both lat and lon, or neither"),
        ('code = "A17"', 'code = "../x"', "site 1: code", "write 2 to 8 capital letters and digits"),
        ('dominant = "road"', 'dominant = "bar"', "site 1: dominant", "write one of road, rail,"),
        ('id = "station"', 'id = "station"\ncode = "A17"', "site", "give each its own"),
        ('number = "2026-001"', 'number = "2026/001"', "request 1: number", "write letters and digits"),
        ("received = 2026-11-05\n", "", "request 1: received", "write the day when it came"),
        ('site = "plaza" ', 'site = "plazza" ', "request 1: site", "write one of plaza, station"),
        ('kind = "objection"', 'kind = "rant"', "request 1: kind", "write one of objection, sensor, question"),
        ('state = "answered"', 'state = "lost"', "request 1: state", "write one of open, granted, refused, answered"),
        ('state = "answered"', 'state = "open"', "request 1: answered", "write a day unless it is open"),
        ("answered = 2026-11-12", "answered = 2026-11-01", "request 1: answered", "write the day of the answer"),
        ("answer = ", "reply = ", "request 1: reply", "write one of number,"),
        ("[[site]]", "[[sites]]", "sites", "write one of city,"),
        ("[[quartier]]", "[[quartier", "file", "mend that line"),
    ],
)
def test_a_wrong_city_is_refused_in_one_line(old: str, new: str, key: str, mend: str) -> None:
    """Unknown keys, missing keys and wrong values name the place and the mend."""
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(old, new).encode(), "city.toml")
    assert (caught.value.file, caught.value.key) == ("city.toml", key)
    assert caught.value.mend.startswith(mend)
    assert "\n" not in caught.value.problem


def test_a_city_without_the_newer_keys_still_loads(city: City) -> None:
    """What a town wrote before there were public addresses, requests and the like is a city, under the open licence."""
    optional = {
        *("address", "publisher", "licence", "answer_days", "postal", "phone", "aasqa"),
        *("lat", "lon", "street", "legal_basis", "installed", "code", "dominant", "computes", "leaves", "checked"),
    }
    kept = "".join(
        line for line in GOOD.partition("[[request]]")[0].splitlines(True) if line.partition(" ")[0] not in optional
    )
    old = parse(kept.encode(), "city.toml")
    assert (old.licence, old.address, old.answer_days, old.request) == ("etalab-2.0", "", None, ())
    assert (old.site[0].lat, old.site[0].code, old.site[0].sensor[0].checked) == (None, "", None)
    assert [area.slug for area in city.geojson] == [quartier.slug for quartier in city.quartier]


def test_a_number_is_given_once() -> None:
    """Who was told a number finds one request under it."""
    twice = GOOD + GOOD[GOOD.index("[[request]]") :]
    with pytest.raises(ConfigError, match=r"request: '2026-001' stands twice"):
        parse(twice.encode(), "city.toml")


def test_a_city_needs_a_quartier_and_a_site() -> None:
    """An empty city is a mistake, not an empty site."""
    head = GOOD.partition("[[quartier]]")[0]
    with pytest.raises(ConfigError, match=r"quartier: missing .*write at least one \[\[quartier\]\]"):
        parse(head.encode(), "city.toml")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """No traceback for a wrong name."""
    with pytest.raises(ConfigError, match=r"city\.toml: file: No such file.*; name a city\.toml that exists"):
        load(tmp_path / "city.toml")
