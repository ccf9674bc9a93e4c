"""A week of which six days were worked out before says what the whole of it says, and says it anew when it must."""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import maker_data, maker_quartier, weeks
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build
from murmure_dashboards.site import build
from murmure_dashboards.spans import stretches
from murmure_dashboards.store import Store
from murmure_dashboards.stories import Streams, amounts
from murmure_dashboards.story import Story, Teller
from murmure_dashboards.views import StreamInfo, StreamView
from murmure_dashboards.wording import LANGUAGES, language
from murmure_privacy.annotation import Annotation
from murmure_privacy.policies import Rules
from murmure_privacy.release import Release
from murmure_privacy.window import Window

HABITS = {"fr": "Comme les autres semaines.", "en": "As in other weeks."}
FOOTFALL = '"15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1'


def laid(town: Build, info: StreamInfo) -> StreamView | None:
    """Returns a week of which the days before today were worked out apart, written and read again."""
    window = Window(town.week.start_s, town.today.start_s)
    final = amounts(stretches(town, info, ("week",))["week"], town.now_s)
    days = weeks.before(town.view(info, window), town.rules, final, HABITS)
    if days is None:
        return None
    again = weeks.read("key", window, weeks.written("key", days))
    assert again == days
    return weeks.week(days, town.seen(info), town.marks)


def told(view: StreamView) -> Sequence[Story]:
    """Returns all that a page says of it."""
    return [
        Teller(language(code), rows, brief, coded=True).week(view, "Place", "c0")
        for code in LANGUAGES
        for rows, brief in ((24, False), (1, True))
    ]


@pytest.mark.parametrize("site", ["plaza", "station", "alley"])
@pytest.mark.parametrize("marked", [False, True])
def test_a_week_of_kept_days_tells_what_the_whole_tells(
    archive: Any, streets: SimpleNamespace, city: City, given: Callable[..., Build], site: str, marked: bool
) -> None:
    """Word for word, with codes and picture; also where a box was off over midnight, a sensor silent, a stream paused,
    and where a period that stewards marked begins on one of these days and ends today."""
    midnight = streets.PARIS.day(streets.NOW_S).start_s
    marks = [
        Annotation(site, 1, streets.NOW_S, "", info.stream, at_s, at_s + 7200, "moved")
        for info in archive.streams()
        for at_s in (midnight - 2 * 86_400 + 900, midnight - 3600)
        if marked
    ]
    town = replace(given(archive, city), marks=marks)
    found = 0
    for info in town.streams_of(site):
        if not weeks.can_be_laid_before(town.seen(info)):
            continue
        found += 1
        whole, week = town.view(info, town.week), laid(town, info)
        assert week is not None and told(week) == told(whole)
        assert (week.rule, week.levels, week.first_s, week.marks) == (
            *(whole.rule, whole.levels, whole.first_s),
            whole.marks,
        )
        assert week.published == whole.published and week.slots(town.week) == whole.slots(town.week)
        one, other = week.amount(town.week), whole.amount(town.week)
        assert one is not None and other is not None
        assert [one.estimate, one.low, one.high, one.absent, one.margin] == pytest.approx(
            [other.estimate, other.low, other.high, other.absent, other.margin], rel=1e-12
        )
        assert (one.covered_s, one.fills, one.faulty_s) == (other.covered_s, other.fills, other.faulty_s)
        assert bool(one.faulty_s) == marked
    assert found == len(town.streams_of(site)) - (site == "alley"), "a stream that is paused has nothing of today"


def test_days_that_depend_on_each_other_are_found_out(
    archive: Any, city: City, given: Callable[..., Build], monkeypatch: pytest.MonkeyPatch, streets: SimpleNamespace
) -> None:
    """The twin: the last day's noise counted as its own and as the others' makes another interval."""
    monkeypatch.setattr(weeks, "total", lambda parts: replace(parts[0], estimate=sum(one.estimate for one in parts)))
    with pytest.raises(AssertionError):
        test_a_week_of_kept_days_tells_what_the_whole_tells(archive, streets, city, given, "plaza", False)


def test_hours_of_quarters_that_are_dropped_are_found_out(
    archive: Any, city: City, given: Callable[..., Build], monkeypatch: pytest.MonkeyPatch, streets: SimpleNamespace
) -> None:
    """The twin: where an hour is missing, its quarters tell how its day was, and their codes stand on the page."""
    monkeypatch.setattr(weeks, "_within", lambda *of: True)
    with pytest.raises(AssertionError):
        test_a_week_of_kept_days_tells_what_the_whole_tells(
            _without_hours(archive), streets, city, given, "plaza", False
        )


def _without_hours(archive: Any) -> Any:
    """The town, of whose plaza the afternoon before lost all but its quarter-hours."""
    town = type(archive)()
    town.__dict__.update(archive.__dict__)
    last = max(one.node.end_s for one in archive.nodes["plaza/footfall"])
    of = Window(last - 30 * 3600, last - 18 * 3600)
    town.nodes = {
        stream: [
            one
            for one in nodes
            if one.node.level == "15min" or one.node.end_s <= of.start_s or one.node.start_s >= of.end_s
        ]
        for stream, nodes in archive.nodes.items()
    }
    return town


def test_quarters_stand_in_for_hours_that_did_not_come(
    archive: Any, streets: SimpleNamespace, city: City, given: Callable[..., Build]
) -> None:
    """Word for word."""
    town = given(_without_hours(archive), city)
    (info,) = [one for one in town.streams_of("plaza") if one.quantity == "footfall"]
    week = laid(town, info)
    assert week is not None and told(week) == told(town.view(info, town.week))


def _footfall(streets: SimpleNamespace, city: City, given: Callable[..., Build], **of: Any) -> tuple[Build, StreamInfo]:
    street = streets.Street()
    streets.add(street, "plaza", streets.week_of(streets.NOW_S), streams=("footfall",), **of)
    town = given(street, city)
    return town, town.streams_of("plaza")[0]


@pytest.mark.parametrize(
    "nodes",
    [
        '"15min" = 1',
        '"15min" = 1, "6h" = 1',
        '"1h" = 1, "1w" = 1',
        '"day" = 1, "evening" = 1, "night" = 1',
        '"night" = 1',
    ],
)
def test_nodes_that_reach_over_midnight_are_looked_at_whole(
    streets: SimpleNamespace, city: City, given: Callable[..., Build], nodes: str
) -> None:
    """And a stream of quarter-hours alone, whose hours are drawn from them."""
    town, info = _footfall(streets, city, given, swap=((FOOTFALL, nodes),))
    assert not weeks.can_be_laid_before(town.seen(info))
    assert laid(town, info) is None


def test_a_policy_that_is_not_known_keeps_nothing(
    streets: SimpleNamespace, city: City, given: Callable[..., Build]
) -> None:
    """It may come without a node."""
    town, info = _footfall(streets, city, given)
    assert laid(town, info) is not None
    street: Any = town.archive
    street.signed.clear()
    assert laid(replace(town, rules=Rules(street)), info) is None


@pytest.mark.parametrize("days", [0, 3])
def test_readings_held_between_other_bounds_are_not_added(
    streets: SimpleNamespace, city: City, given: Callable[..., Build], days: int
) -> None:
    """Neither today's, nor some of the days before: what silence may hide has another width then."""
    street, now_s = streets.Street(), streets.NOW_S
    week, turn_s = streets.week_of(now_s), streets.PARIS.day(now_s - days * 86_400).start_s
    for high_db, of in ((85, Window(week.start_s, turn_s)), (75, Window(turn_s, week.end_s))):
        streets.add(street, "plaza", of, high_db=high_db, streams=("noise",), version=90 - high_db)
        street.nodes[f"of {high_db}"] = street.nodes.pop("plaza/noise")
    street.nodes["plaza/noise"] = [one for high_db in (85, 75) for one in street.nodes.pop(f"of {high_db}")]
    street.infos = street.infos[:1]
    town = given(street, city)
    (info,) = town.streams_of("plaza")
    assert weeks.can_be_laid_before(town.seen(info))
    assert laid(town, info) is None


def test_a_day_that_is_not_final_keeps_nothing(
    streets: SimpleNamespace, city: City, given: Callable[..., Build]
) -> None:
    """Of a day that has figures, an amount must be known."""
    town, info = _footfall(streets, city, given)
    window = Window(town.week.start_s, town.today.start_s)
    final = dict(amounts(stretches(town, info, ("week",))["week"], town.now_s))
    seen = town.view(info, window)
    assert weeks.before(seen, town.rules, final.items(), HABITS) is not None
    final.popitem()
    assert weeks.before(seen, town.rules, final.items(), HABITS) is None


def test_a_week_that_has_just_begun_is_told(streets: SimpleNamespace, city: City, given: Callable[..., Build]) -> None:
    """Days before the measurement have no amount; with none but those, nothing is kept."""
    of_all = streets.week_of(streets.NOW_S)
    for days, kept in ((2, True), (0, False)):
        street, start_s = streets.Street(), streets.PARIS.day(streets.NOW_S - days * 86_400).start_s
        on = streets.PARIS.civil_day(start_s).isoformat()
        streets.add(street, "plaza", Window(start_s, of_all.end_s), streams=("footfall",), version=1, valid_from=on)
        town = given(street, city)
        (info,) = town.streams_of("plaza")
        week = laid(town, info)
        assert (week is not None) == kept
        if week is not None:
            assert told(week) == told(town.view(info, town.week))


@pytest.mark.parametrize(
    ("after_s", "can"), [(0, False), (600, False), (900, True), (86_400 - 1, True), (86_400, False)]
)
def test_days_are_over_a_quarter_of_an_hour_after_midnight(
    archive: Any, city: City, given: Callable[..., Build], streets: SimpleNamespace, after_s: int, can: bool
) -> None:
    """And today is told with them until it is over itself."""
    today = given(archive, city).seen(archive.streams()[0])
    assert weeks.can_be_laid_before(replace(today, now_s=today.window.start_s + after_s)) == can
    withheld = tuple(one for one in today.outcomes if not isinstance(one, Release))
    assert not weeks.can_be_laid_before(replace(today, outcomes=withheld)), "nothing was released"


def test_a_row_is_read_for_what_it_was_written_for(
    streets: SimpleNamespace, city: City, given: Callable[..., Build]
) -> None:
    """Another key, other days, a row that was cut or is of another form."""
    town, info = _footfall(streets, city, given)
    window = Window(town.week.start_s, town.today.start_s)
    final = amounts(stretches(town, info, ("week",))["week"], town.now_s)
    days = weeks.before(town.view(info, window), town.rules, final, HABITS)
    assert days is not None
    row = weeks.written("key", days)
    assert weeks.read("key", window, row) == days
    assert weeks.read("other", window, row) is None
    assert weeks.read("key", Window(window.start_s - 86_400, window.end_s - 86_400), row) is None
    for damaged in (b"", row[:-9], zlib.compress(b"x"), zlib.compress(marshal.dumps(("key",)))):
        assert weeks.read("key", window, damaged) is None


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other pages than those of neighbourhoods, no files of months, and no wait for the disk."""
    monkeypatch.setattr(site_module, "MAKERS", (maker_quartier.MAKER,))
    monkeypatch.setattr(maker_data, "data", lambda *of: iter(()))
    monkeypatch.setattr("os.sync", lambda: None)


def contents(out: Path) -> Mapping[str, bytes]:
    root = out.resolve()
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _one(city: City) -> City:
    return replace(city, quartier=city.quartier[:1], site=tuple(one for one in city.site if one.quartier == "centre"))


def test_days_are_worked_out_once(
    alone: None, street: Any, city: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter-hour later, the six days are read; the files are those of a build from nothing."""
    town, made, before = _one(city), list[str](), weeks.before

    def noted(seen: StreamView, *of: Any) -> Any:
        made.append(seen.stream)
        return before(seen, *of)

    monkeypatch.setattr(weeks, "before", noted)
    build(street, town, tmp_path / "site", streets.NOW_S)
    assert sorted(made) == ["plaza/footfall", "plaza/noise", "plaza/pm2_5"]
    made.clear()
    build(street, town, tmp_path / "site", streets.NOW_S + 900)
    assert made == []
    build(street, town, tmp_path / "nothing", streets.NOW_S + 900)
    assert contents(tmp_path / "site") == contents(tmp_path / "nothing")


def _late_hour(street: Any, city: City, streets: SimpleNamespace, out: Path) -> None:
    """An hour of the day before yesterday comes between two builds."""
    nodes = street.nodes["plaza/footfall"]
    after_s = streets.PARIS.day(streets.NOW_S - 2 * 86_400).start_s + 7 * 3600
    missing = next(one for one in nodes if one.node.start_s == after_s and one.node.level == "1h")
    street.nodes["plaza/footfall"] = [one for one in nodes if one is not missing]
    build(street, _one(city), out, streets.NOW_S)
    street.late[missing.node.key] = street.newest_row() + 1
    street.nodes["plaza/footfall"] = nodes


def _marked(street: Any, city: City, streets: SimpleNamespace, out: Path) -> None:
    """Stewards mark two hours of it."""
    build(street, _one(city), out, streets.NOW_S)
    when = streets.PARIS.day(streets.NOW_S - 2 * 86_400).start_s
    note = Annotation("plaza", 1, streets.NOW_S, "Une bâche.", "plaza/footfall", when, when + 7200, "obstructed")
    street.notes = street.annotate(note).notes


CHANGES = {"late": _late_hour, "marked": _marked}


@pytest.mark.parametrize("name", CHANGES)
def test_days_that_changed_are_worked_out_anew(
    alone: None, street: Any, city: City, streets: SimpleNamespace, tmp_path: Path, name: str
) -> None:
    """What comes late, and what stewards say: the pages are those of a build from nothing."""
    CHANGES[name](street, city, streets, tmp_path / "site")
    build(street, _one(city), tmp_path / "site", streets.NOW_S + 900)
    build(street, _one(city), tmp_path / "nothing", streets.NOW_S + 900)
    assert contents(tmp_path / "site") == contents(tmp_path / "nothing")


@pytest.mark.parametrize("name", CHANGES)
def test_days_that_are_kept_too_long_are_found_out(
    alone: None,
    street: Any,
    city: City,
    streets: SimpleNamespace,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The twins: a row about too little of what it follows from, and a key that nobody looks at."""
    keep, read = Store.keep, weeks.read

    def too_little(store: Store, kind: str, stream: str, start_s: int, of: Window, value: bytes) -> None:
        of = Window(of.end_s - 3600, of.end_s) if kind == weeks.KIND else of
        keep(store, kind, stream, start_s, of, value)

    def of_any_key(key: str, window: Window, value: bytes) -> Any:
        return read(marshal.loads(zlib.decompress(value))[0], window, value)

    if name == "late":
        monkeypatch.setattr(Store, "keep", too_little)
    else:
        monkeypatch.setattr(weeks, "read", of_any_key)
    with pytest.raises(AssertionError):
        test_days_that_changed_are_worked_out_anew(alone, street, city, streets, tmp_path, name)


def test_a_week_of_which_nothing_came_today_is_looked_at_whole(
    streets: SimpleNamespace, city: City, given: Callable[..., Build]
) -> None:
    """A gateway that has been still since midnight: the week is told from its nodes alone."""
    street, midnight = streets.Street(), streets.PARIS.midnight(date(2026, 11, 21))
    streets.add(street, "plaza", Window(streets.week_of(streets.NOW_S).start_s, midnight), streams=("footfall",))
    town = given(street, city)
    (info,) = town.streams_of("plaza")
    streams = Streams(town, town.city.quartier[0])
    assert not weeks.can_be_laid_before(town.seen(info))
    teller = Teller(language("fr"), streams.rooms[True].rows, coded=town.coded)
    (site,) = streams.sites
    week = teller.week(town.view(info, town.week), site.name, "c0", [streams._habits(info)["fr"]])
    assert streams.shown[True][info.stream].stories["fr"] == week
