"""Pages that are linked and not made again: the site is that of a build from nothing, whatever has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import kept as kept_module
from murmure_dashboards import maker_quartier
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City
from murmure_dashboards.site import build
from murmure_privacy.annotation import Annotation

LONG = [f"{root}quartiers/centre/{span}/index.html" for root in ("", "en/") for span in ("mois", "annee")]


@pytest.fixture(autouse=True)
def quartiers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other pages than those of neighbourhoods, and no wait for the disk."""
    monkeypatch.setattr(site_module, "MAKERS", (maker_quartier.MAKER,))
    monkeypatch.setattr("os.sync", lambda: None)


@pytest.fixture
def street(archive: Any, streets: SimpleNamespace) -> Any:
    """An archive of which something can come late."""
    made = streets.Street()
    made.__dict__.update(archive.__dict__ | {"nodes": dict(archive.nodes)})
    return made


@pytest.fixture
def city(city: City) -> City:
    """One neighbourhood of the town."""
    return replace(city, quartier=city.quartier[:1], site=tuple(one for one in city.site if one.quartier == "centre"))


def contents(out: Path) -> dict[str, bytes]:
    root = out.resolve()
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def linked(out: Path, street: Any, city: City, now_s: int, again: Path) -> set[str]:
    """Builds once more, as from nothing, and returns which pages of a month or a year were linked."""
    before = {path: (out / path).stat().st_ino for path in LONG}
    report = build(street, city, out, now_s)
    build(street, city, again, now_s)
    found = contents(out)
    assert found == contents(again)
    assert report.files == len(found) and report.octets == sum(map(len, found.values()))
    assert report.pages == sum(path.endswith(".html") for path in found)
    return {path for path in LONG if (out / path).stat().st_ino == before[path]}


def test_a_quarter_hour_later_the_month_and_the_year_are_linked(
    street: Any, city: City, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """With their twins; the day is written anew. On the next day all are."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, city, out, now_s)
    assert linked(out, street, city, now_s + 900, tmp_path / "one") == set(LONG)
    assert linked(out, street, city, now_s + 86_400, tmp_path / "two") == set()
    assert linked(out, street, city, now_s, tmp_path / "three") == set(), "an earlier instant knows less"


def _late(street: Any, city: City, streets: SimpleNamespace) -> City:
    """A node of the day before yesterday was missing, and is there."""
    nodes = street.nodes["plaza/footfall"]
    missing = next(one for one in nodes if one.node.start_s > streets.NOW_S - 2 * 86_400)
    street.nodes["plaza/footfall"] = [one for one in nodes if one is not missing]
    return city


def _marked(street: Any, city: City, streets: SimpleNamespace) -> City:
    when = streets.PARIS.day(streets.NOW_S - 2 * 86_400)
    note = Annotation(
        site="plaza",
        number=1,
        issued_s=streets.NOW_S - 900,
        stream="plaza/noise",
        from_s=when.start_s,
        to_s=when.start_s + 7200,
        cause="device_fault",
        sentence="Le capteur était couvert.",
        sentence_en="",
    )
    street.notes = street.annotate(note).notes
    return city


def _renamed(street: Any, city: City, streets: SimpleNamespace) -> City:
    return replace(city, help="Mairie, 02 00 00 00 00")


@pytest.mark.parametrize("change", [_late, _marked, _renamed])
def test_what_has_changed_is_written_anew(
    street: Any, city: City, streets: SimpleNamespace, tmp_path: Path, change: Callable[..., City]
) -> None:
    """Annotations, late nodes, the town's own words."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, city, out, now_s)
    changed = change(street, city, streets)
    assert linked(out, street, changed, now_s + 900, tmp_path / "again") == set()


@pytest.mark.parametrize("name", [LONG[0], f"{LONG[1]}.gz"])
def test_a_file_that_was_damaged_is_made_again(
    street: Any, city: City, streets: SimpleNamespace, tmp_path: Path, name: str
) -> None:
    """Page or twin, cut or gone."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, city, out, now_s)
    whole = (out / name).read_bytes()
    (out.resolve() / name).write_bytes(whole[:-1])
    assert linked(out, street, city, now_s, tmp_path / "one") == set()
    (out.resolve() / name).unlink()
    build(street, city, out, now_s)
    assert (out / name).read_bytes() == whole


def test_another_murmure_makes_all_again(
    street: Any, city: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code, templates, catalogues, the packages that pages are written with."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, city, out, now_s)
    monkeypatch.setattr(kept_module, "_made_with", lambda: "another")
    assert linked(out, street, city, now_s, tmp_path / "again") == set()


def test_the_sum_of_what_pages_are_made_with_is_that_of_every_file() -> None:
    """A template, a catalogue and a table of limits are among them."""
    package = resources.files("murmure_dashboards")
    held, folder = b"".join(kept_module._contents(package)), Path(str(package))
    for name in ("templates/long.html", "locale/fr/long.toml", "thresholds.toml", "static/murmure.css"):
        assert (folder / name).read_bytes() in held
