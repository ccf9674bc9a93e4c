"""city.toml: what is wrong is said in one line that names file, key, problem and mend."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path

import pytest
from murmure_dashboards.config import load, parse
from murmure_privacy.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "dashboards" / "city.example.toml"
GOOD = EXAMPLE.read_text(encoding="utf-8")


def test_the_example_is_a_city() -> None:
    """Whoever copies the example has a working file, and finds every key in it."""
    city = load(EXAMPLE)
    assert city.city == "Ville de Démo" and city.simulated
    assert [quartier.slug for quartier in city.quartier] == ["centre", "gare"]
    assert city.sites_of("centre")[0].until == date(2027, 11, 30)
    written = tomllib.loads(GOOD)
    assert set(written) == set(city.__dataclass_fields__)
    assert set().union(*written["site"]) == set(city.site[0].__dataclass_fields__)
    sensors = [sensor for site in written["site"] for sensor in site.get("sensor", [])]
    assert set().union(*sensors) == set(city.site[0].sensor[0].__dataclass_fields__)
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


def test_a_city_needs_a_quartier_and_a_site() -> None:
    """An empty city is a mistake, not an empty site."""
    head = GOOD.partition("[[quartier]]")[0]
    with pytest.raises(ConfigError, match=r"quartier: missing .*write at least one \[\[quartier\]\]"):
        parse(head.encode(), "city.toml")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """No traceback for a wrong name."""
    with pytest.raises(ConfigError, match=r"city\.toml: file: No such file.*; name a city\.toml that exists"):
        load(tmp_path / "city.toml")
