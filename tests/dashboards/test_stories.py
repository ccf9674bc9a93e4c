"""Streams that are told as a build before has told them: the pages are those of a build from nothing, whatever has
changed, and whenever."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import pages, stories
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build
from murmure_dashboards.room import Room
from murmure_dashboards.site import build
from murmure_dashboards.spans import stretches
from murmure_dashboards.store import Store
from murmure_dashboards.stories import KIND, Streams, amounts
from murmure_dashboards.wording import language
from murmure_privacy.annotation import Annotation
from murmure_privacy.window import Window

pytestmark = pytest.mark.usefixtures("quartiers_alone")

HOUR_S = 3600
ALL = {"plaza/footfall", "plaza/noise", "plaza/pm2_5"}
HOURLY = ALL - {"plaza/footfall"}


@dataclass
class Builds:
    """Builds of one site after the other. `told`: the streams that the last one told anew."""

    out: Path
    told: set[str]
    beside: int = 0

    def first(self, street: Any, centre: City, now_s: int) -> None:
        """Builds."""
        self.told.clear()
        build(street, centre, self.out, now_s)

    def again(self, street: Any, centre: City, now_s: int) -> set[str]:
        """Builds once more, and beside it from nothing: every file is the same. Returns the streams told anew."""
        self.first(street, centre, now_s)
        told = set(self.told)
        self.beside += 1
        nothing = self.out.with_name(f"nothing-{self.beside}")
        build(street, centre, nothing, now_s)
        assert contents(self.out) == contents(nothing)
        return told


def contents(out: Path) -> dict[str, bytes]:
    root = out.resolve()
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builds:
    """A site that is built again and again."""
    made, told = Builds(tmp_path / "site", set()), Streams._told

    def noted(streams: Streams, number: int, site: Any, info: Any) -> Any:
        made.told.add(info.stream)
        return told(streams, number, site, info)

    monkeypatch.setattr(Streams, "_told", noted)
    return made


def test_between_its_hours_a_stream_is_told_as_before(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace
) -> None:
    """At a quarter past, all is told; until the next hour only what closes quarter-hours, also a second time; then all
    again, and at an earlier instant as well."""
    at_s = streets.NOW_S
    builds.first(street, centre, at_s)
    assert builds.told == ALL
    assert builds.again(street, centre, at_s + 60) == ALL - HOURLY
    assert builds.again(street, centre, at_s + 1800) == ALL - HOURLY
    assert builds.again(street, centre, at_s - 60) == ALL
    builds.first(street, centre, at_s)
    assert builds.again(street, centre, at_s + 2700) == ALL
    assert builds.again(street, centre, at_s + 86_400) == ALL


def test_without_a_store_nothing_is_told_otherwise(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace
) -> None:
    """It is told anew."""
    builds.first(street, centre, streets.NOW_S)
    builds.out.with_name("site.store").unlink()
    assert builds.again(street, centre, streets.NOW_S + 900) == ALL


def test_an_hour_that_does_not_come_is_a_gap_in_time(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace
) -> None:
    """At five past it is awaited, at twenty past it is missing: nothing came between."""
    four = streets.NOW_S + 2700
    builds.first(street, centre, four + 300)
    assert builds.again(street, centre, four + 1200) == ALL
    assert builds.again(street, centre, four + 2400) == ALL - HOURLY


def test_a_clock_that_awaits_nothing_is_found_out(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: neither by its levels nor by its intervals."""
    monkeypatch.setattr(stories, "_awaited", lambda *of: False)
    monkeypatch.setattr(stories, "_shows_late", lambda *of: False)
    with pytest.raises(AssertionError):
        test_an_hour_that_does_not_come_is_a_gap_in_time(builds, street, centre, streets)


NODES_NOISE = '"1h" = 1, "1d" = 24 }\nbounds_db'
COARSE = ('"1d" = 1', '"6h" = 1, "1d" = 4', '"day" = 1, "evening" = 1, "night" = 1')


def _tightened(streets: SimpleNamespace, nodes: str, hourly: bool) -> tuple[Any, int]:
    """Returns three days of a stream of these levels, and their end at midnight. `hourly`: of the day that follows a
    signed policy wants hours."""
    street, midnight = streets.Street(), streets.PARIS.midnight(date(2026, 11, 20))
    before = Window(streets.PARIS.midnight(date(2026, 11, 17)), midnight)
    swap = ((NODES_NOISE, f"{nodes} }}\nbounds_db"),)
    streets.add(street, "plaza", before, now_s=midnight, streams=("noise",), swap=swap)
    if hourly:
        streets.add(street, "plaza", before, streams=(), version=8, valid_from="2026-11-20")
    return street, midnight


@pytest.mark.parametrize("nodes", COARSE)
@pytest.mark.parametrize("hourly", [False, True])
def test_what_is_awaited_is_a_gap_only_once_it_is_late(
    builds: Builds, centre: City, streets: SimpleNamespace, nodes: str, hourly: bool
) -> None:
    """A box that has nothing to send before the morning is not silent; one that is to send each hour is, in time,
    though no node names that policy yet. After parts of the day that is from six on, when the night is over."""
    street, midnight = _tightened(streets, nodes, hourly)
    four = midnight + 4 * HOUR_S
    builds.first(street, centre, four + 120)
    for late_s in (960, 1800):
        builds.again(street, centre, four + late_s)
        page = contents(builds.out)["en/quartiers/centre/index.html"].decode()
        late = hourly and "night" not in nodes
        assert ("No figure, 00:00 – 04:00" in page, "No figure" in page) == (late, late)


@pytest.mark.parametrize("nodes", [nodes for nodes in COARSE if "night" not in nodes])
def test_a_clock_that_does_not_look_at_intervals_is_found_out(
    builds: Builds, centre: City, streets: SimpleNamespace, nodes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin."""
    for looks in ("_shows_late", "_awaited"):
        monkeypatch.setattr(stories, looks, lambda *of: False)
    with pytest.raises(AssertionError):
        test_what_is_awaited_is_a_gap_only_once_it_is_late(builds, centre, streets, nodes, True)


@pytest.fixture
def dusty(streets: SimpleNamespace) -> Any:
    """Seven weeks of dust, and no more than the first hours of the eighth's second day."""
    street, midnight = streets.Street(), streets.PARIS.midnight(date(2026, 11, 20))
    window = Window(streets.PARIS.midnight(date(2026, 10, 1)), midnight)
    streets.add(street, "plaza", window, now_s=midnight, streams=("pm2_5",))
    return street


def test_a_day_is_compared_as_soon_as_it_is_over(
    builds: Builds, dusty: Any, centre: City, streets: SimpleNamespace
) -> None:
    """At five past midnight what ended may still be late, at twenty past it is held against the weeks before."""
    midnight = streets.PARIS.midnight(date(2026, 11, 20))
    builds.first(dusty, centre, midnight + 300)
    assert builds.again(dusty, centre, midnight + 1200) == {"plaza/pm2_5"}


def test_a_clock_that_does_not_look_at_days_is_found_out(
    builds: Builds, dusty: Any, centre: City, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin."""
    monkeypatch.setattr(Streams, "_day_ended", lambda *of: False)
    with pytest.raises(AssertionError):
        test_a_day_is_compared_as_soon_as_it_is_over(builds, dusty, centre, streets)


def test_quarter_hours_are_never_kept(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the hours: a stream of quarter-hours that was told as before would await what is
    late by now."""
    builds.first(street, centre, streets.NOW_S + 600)
    builds.again(street, centre, streets.NOW_S + 2100)
    monkeypatch.setattr(stories, "LEVELS", ("",))
    builds.first(street, centre, streets.NOW_S + 600)
    with pytest.raises(AssertionError):
        builds.again(street, centre, streets.NOW_S + 2100)


@pytest.mark.parametrize("back_days", [0, 2])
def test_what_comes_late_is_told(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace, back_days: int
) -> None:
    """An hour of today, and of the day before yesterday: its stream is told anew, and no other."""
    nodes = street.nodes["plaza/noise"]
    after_s = streets.PARIS.day(streets.NOW_S - back_days * 86_400).start_s + 7 * HOUR_S
    missing = next(one for one in nodes if one.node.start_s == after_s and one.node.level == "1h")
    street.nodes["plaza/noise"] = [one for one in nodes if one is not missing]
    builds.first(street, centre, streets.NOW_S)
    street.late[missing.node.key] = street.newest_row() + 1
    street.nodes["plaza/noise"] = nodes
    assert builds.again(street, centre, streets.NOW_S + 900) == {"plaza/footfall", "plaza/noise"}


def test_a_row_that_reaches_less_far_back_is_found_out(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what comes late would not take it away."""
    keep = Store.keep

    def today_alone(store: Store, kind: str, stream: str, start_s: int, of: Window, value: bytes) -> None:
        keep(store, kind, stream, start_s, Window(of.end_s - 86_400, of.end_s) if kind == KIND else of, value)

    monkeypatch.setattr(Store, "keep", today_alone)
    with pytest.raises(AssertionError):
        test_what_comes_late_is_told(builds, street, centre, streets, 2)


Change = Callable[[Any, City, SimpleNamespace], City]


def _marked(street: Any, centre: City, streets: SimpleNamespace) -> City:
    when = streets.PARIS.day(streets.NOW_S - 2 * 86_400).start_s
    note = Annotation("plaza", 1, streets.NOW_S, "Une bâche.", "plaza/noise", when, when + 7200, "obstructed")
    street.notes = street.annotate(note).notes
    return centre


def _explained(street: Any, centre: City, streets: SimpleNamespace) -> City:
    """The policy that the nodes name, which the archive had not."""
    street.signed = streets.town().signed
    return centre


def _signed(street: Any, centre: City, streets: SimpleNamespace) -> City:
    """The first checkpoint of the log: figures have codes."""
    street.__dict__.pop("signed_checkpoint")
    return centre


def _joined(street: Any, centre: City, streets: SimpleNamespace) -> City:
    """A stream that stands before the others on the page: their pictures have other names."""
    street.infos = streets.town().infos
    return centre


def _begun(street: Any, centre: City, streets: SimpleNamespace) -> City:
    """Something of eleven weeks ago, so that the days before today are holes."""
    first = street.nodes["plaza/noise"][0]
    old_s = 80 * 86_400
    node = replace(
        first.node,
        start_s=first.node.start_s - old_s,
        end_s=first.node.end_s - old_s,
        covered_from_s=first.node.covered_from_s - old_s,
    )
    street.late[node.key] = street.newest_row() + 1
    street.nodes["plaza/noise"] = [replace(first, node=node), *street.nodes["plaza/noise"]]
    return centre


def _renamed(street: Any, centre: City, streets: SimpleNamespace) -> City:
    return replace(centre, site=tuple(replace(one, name="Place Neuve") for one in centre.site))


def _before(name: str, street: Any, streets: SimpleNamespace) -> None:
    """What a change finds."""
    if name == "policies":
        street.signed = {}
    elif name == "coded":
        street.signed_checkpoint = lambda: None
    elif name == "number":
        street.infos = [one for one in street.infos if not one.stream.endswith("plaza/footfall")]
    elif name == "began":
        midnight = streets.PARIS.day(streets.NOW_S).start_s
        street.nodes = {
            stream: [one for one in nodes if one.node.start_s >= midnight] for stream, nodes in street.nodes.items()
        }


KEY: Mapping[str, Change] = {
    "number": _joined,
    "coded": _signed,
    "marks": _marked,
    "policies": _explained,
    "began": _begun,
}


@pytest.mark.parametrize("name", [*KEY, "town"])
def test_what_has_changed_is_told(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace, name: str
) -> None:
    """What stewards say, a policy, the log's first signature, another stream, an old node, the town's own words."""
    _before(name, street, streets)
    builds.first(street, centre, streets.NOW_S)
    changed = KEY.get(name, _renamed)(street, centre, streets)
    assert "plaza/noise" in builds.again(street, changed, streets.NOW_S + 900)


@pytest.mark.parametrize("name", KEY)
def test_a_key_without_an_element_is_found_out(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twins: each element is needed, and no other tells what it tells."""
    made_of = Streams._made_of

    def without(streams: Streams, *of: Any) -> Mapping[str, object]:
        return {element: said for element, said in made_of(streams, *of).items() if element != name}

    monkeypatch.setattr(Streams, "_made_of", without)
    with pytest.raises(AssertionError):
        test_what_has_changed_is_told(builds, street, centre, streets, name)


def test_a_key_without_the_town_is_found_out(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: and without the version of Murmure, its limits and its links."""
    monkeypatch.setattr(Build, "key", lambda ctx, of: repr(of))
    with pytest.raises(AssertionError):
        test_what_has_changed_is_told(builds, street, centre, streets, "town")


def test_a_page_with_less_room_tells_anew(builds: Builds, street: Any, centre: City, streets: SimpleNamespace) -> None:
    """Another place has come: the tables of all are shorter, down to pages that keep nothing."""
    two = replace(
        centre, site=(*centre.site, replace(centre.site[0], id="station"), replace(centre.site[0], id="alley"))
    )
    builds.first(street, centre, streets.NOW_S)
    assert builds.again(street, two, streets.NOW_S + 900) >= ALL
    assert builds.again(street, two, streets.NOW_S + 1800) >= ALL


def test_a_stream_that_was_told_for_another_room_is_found_out(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin. The other place is none of the town's words here."""
    monkeypatch.setattr(Build, "key", lambda ctx, of: repr(of))
    monkeypatch.setattr(Room, "__eq__", lambda one, other: True)
    with pytest.raises((AssertionError, KeyError)):
        test_a_page_with_less_room_tells_anew(builds, street, centre, streets)


def test_a_row_that_cannot_be_read_is_told_anew(
    builds: Builds, street: Any, centre: City, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut, or of another form."""
    for damage in (lambda value: value[:-1], lambda value: b"", lambda value: zlib.compress(b"x")):
        builds.first(street, centre, streets.NOW_S - 86_400)
        with monkeypatch.context() as patch:
            written = stories._written
            patch.setattr(stories, "_written", lambda *of, w=written, d=damage: d(w(*of)))
            builds.first(street, centre, streets.NOW_S)
        assert builds.again(street, centre, streets.NOW_S + 900) == ALL


@pytest.mark.parametrize("site", ["plaza", "station", "alley"])
def test_amounts_of_days_that_were_kept_are_those_of_the_week(
    archive: Any, streets: SimpleNamespace, centre: City, given: Callable[..., Build], site: str
) -> None:
    """To the last bit, also of days with holes, silence and faulty hours."""
    day = streets.PARIS.day(streets.NOW_S - 2 * 86_400)
    marks = [
        Annotation(site, 1, streets.NOW_S, "", info.stream, day.start_s + 900, day.start_s + 5400, "moved")
        for info in archive.streams()
    ]
    town = replace(given(archive, centre), marks=marks)
    for info in town.streams_of(site):
        week = town.view(info, town.week)
        known = dict(amounts(stretches(town, info, ("week",))["week"], town.now_s))
        assert len(known) == 6
        known[town.today] = town.seen(info).amount(town.today)
        assert {span: week.amount(span) for span in known} == known
        assert any(amount and amount.faulty_s for amount in known.values()) == any(known.values())


@pytest.mark.parametrize(
    ("nodes", "final"),
    [('"15min" = 1', 6), ('"1h" = 1, "1w" = 1', 1), ('"day" = 1, "evening" = 1, "night" = 1', 0)],
)
def test_amounts_are_those_of_the_week_whatever_its_levels(
    streets: SimpleNamespace, centre: City, given: Callable[..., Build], nodes: str, final: int
) -> None:
    """Of a stream with weeks, the Sunday before alone is final; a day from 06 to 06 is no civil day."""
    street = streets.Street()
    swap = (('"15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1', nodes),)
    streets.add(street, "plaza", streets.week_of(streets.NOW_S), streams=("footfall",), swap=swap)
    town = given(street, centre)
    (info,) = town.streams_of("plaza")
    known = dict(amounts(stretches(town, info, ("week",))["week"], town.now_s))
    assert len(known) == final and all(known.values())
    known[town.today] = town.seen(info).amount(town.today)
    week = town.view(info, town.week)
    assert {span: week.amount(span) for span in known} == known


def test_a_story_is_escaped(archive: Any, centre: City, given: Callable[..., Build]) -> None:
    """It stands on the page as it was made: what makes it must leave no markup of others in it."""
    named = replace(centre, site=tuple(replace(one, name="<b>Place</b>") for one in centre.site))
    streams = Streams(given(archive, named), named.quartier[0])
    for week in (False, True):
        for shown in streams.shown[week].values():
            assert "&lt;b&gt;Place" in shown.pieces["fr"] and "<b>" not in shown.pieces["fr"]
            assert shown.pieces["fr"] == pages.story(language("fr"), shown.stories["fr"])
