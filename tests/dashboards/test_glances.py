"""What pages of the whole town tell of a stream is kept while nothing of it can be otherwise, and no longer."""

from __future__ import annotations

import marshal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import glances, maker_data, maker_home, maker_quartier
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City
from murmure_dashboards.glances import Glance
from murmure_dashboards.maker import Build
from murmure_dashboards.site import build
from murmure_privacy.annotation import Annotation


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A town whose page of the day names its neighbourhoods and says their state, and no other pages than that and
    theirs, nor files of months."""
    monkeypatch.setattr(maker_home, "MOST_TOLD", 1)
    monkeypatch.setattr(site_module, "MAKERS", (maker_home.MAKER, maker_quartier.MAKER))
    monkeypatch.setattr(maker_data, "data", lambda *of: iter(()))
    monkeypatch.setattr("os.sync", lambda: None)


@pytest.fixture
def few(city: City) -> City:
    """The same town, of whose neighbourhoods two alone have places."""
    return replace(city, site=tuple(one for one in city.site if one.quartier in ("centre", "gare")))


def contents(out: Path) -> dict[str, bytes]:
    root = out.resolve()
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_was_written_is_read(archive: Any, city: City, given: Callable[..., Build]) -> None:
    """Of streams that count, and that do not, with figures of today and without; for its key and its time alone."""
    town = given(archive, city)
    found = [town.glance(site, info) for site in city.site for info in town.streams_of(site.id)]
    assert any(one.fact is None for one in found) and any(one.fact and one.fact.off for one in found)
    assert any(one.fact and one.fact.usual for one in found) and any(one.fact and not one.fact.off for one in found)
    for one in (*found, Glance(None, (), None, False)):
        row = glances.written("key", 100, 200, one)
        assert glances.read("key", 100, row) == glances.read("key", 199, row) == one
        for key, now_s in (("key", 99), ("key", 200), ("other", 150)):
            assert glances.read(key, now_s, row) is None
    for damaged in (b"", row[:-1], marshal.dumps(7), marshal.dumps(("key", 0, 999, {"span": (1, 2)}, (), None, True))):
        assert glances.read("key", 150, damaged) is None


def _looked_at(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    found, seen = set[str](), Build.seen

    def noted(ctx: Build, info: Any) -> Any:
        found.add(info.stream)
        return seen(ctx, info)

    monkeypatch.setattr(Build, "seen", noted)
    return found


def _told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Glance]:
    found, glance = dict[str, Glance](), Build.glance

    def noted(ctx: Build, site: Any, info: Any) -> Glance:
        found[info.stream] = glance(ctx, site, info)
        return found[info.stream]

    monkeypatch.setattr(Build, "glance", noted)
    return found


def test_a_stream_that_closed_nothing_is_not_looked_at(
    large: None, street: Any, few: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two hours, today's nodes of those that close them are not asked for; the files are those of a build from
    nothing, also at the hour, and at an earlier instant."""
    looked_at, told = _looked_at(monkeypatch), _told(monkeypatch)
    instants = ((0, True), (900, False), (1800, False), (2700, True), (3660, True), (-60, True))
    for number, (after_s, of_all) in enumerate(instants):
        looked_at.clear()
        build(street, few, tmp_path / "site", streets.NOW_S + after_s)
        hourly = {stream for stream in looked_at if not stream.endswith("/footfall")}
        assert bool(hourly) == of_all
        before = dict(told)
        build(street, few, tmp_path / f"nothing-{number}", streets.NOW_S + after_s)
        assert before == told and contents(tmp_path / "site") == contents(tmp_path / f"nothing-{number}")


def _changed(name: str, street: Any, streets: SimpleNamespace) -> None:
    if name == "marks":
        day = streets.PARIS.day(streets.NOW_S)
        note = Annotation(
            "plaza", 1, streets.NOW_S, "Une bâche.", "plaza/pm2_5", day.start_s, day.start_s + 7200, "obstructed"
        )
        street.notes = street.annotate(note).notes
    else:
        nodes = street.nodes["plaza/noise"]
        after_s = streets.PARIS.day(streets.NOW_S).start_s + 7 * 3600
        late = next(one for one in nodes if one.node.start_s == after_s and one.node.level == "1h")
        street.late[late.node.key] = street.newest_row() + 1


@pytest.mark.parametrize(("name", "stream"), [("marks", "plaza/pm2_5"), ("late", "plaza/noise")])
def test_a_stream_of_which_something_came_is_looked_at(
    large: None,
    street: Any,
    few: City,
    streets: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    stream: str,
) -> None:
    """A mark of stewards, an hour that comes late."""
    build(street, few, tmp_path / "site", streets.NOW_S)
    _changed(name, street, streets)
    looked_at, told = _looked_at(monkeypatch), _told(monkeypatch)
    build(street, few, tmp_path / "site", streets.NOW_S + 900)
    assert stream in looked_at
    before = dict(told)
    build(street, few, tmp_path / "nothing", streets.NOW_S + 900)
    assert before == told and contents(tmp_path / "site") == contents(tmp_path / "nothing")


def test_a_glance_that_is_kept_too_long_is_found_out(
    large: None, street: Any, few: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twins: for any key, what stewards marked is not told; for any time, an hour that did not come is awaited."""
    read = glances.read
    monkeypatch.setattr(glances, "read", lambda key, now_s, row: read(marshal.loads(row)[0], now_s, row))
    with pytest.raises(AssertionError):
        looked_at = (large, street, few, streets, tmp_path / "one", monkeypatch)
        test_a_stream_of_which_something_came_is_looked_at(*looked_at, "marks", "plaza/pm2_5")
    monkeypatch.setattr(glances, "read", lambda key, now_s, row: read(key, marshal.loads(row)[1], row))
    with pytest.raises(AssertionError):
        test_a_stream_that_closed_nothing_is_not_looked_at(large, street, few, streets, tmp_path / "two", monkeypatch)
