"""Days worked out once: the figures of the pages, from the store or without it, and late data taken in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import days as days_module
from murmure_dashboards import maker_data, maker_quartier
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City
from murmure_dashboards.days import KIND, Day, Days, together
from murmure_dashboards.facts import day_level
from murmure_dashboards.site import build
from murmure_dashboards.store import Store
from murmure_dashboards.views import LATE_S, view
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_privacy import wire
from murmure_privacy.policies import Rules
from murmure_privacy.policy import parse
from murmure_privacy.window import Calendar, Window

PARIS = Calendar("Europe/Paris")
DAY_S = 86_400
PARTS = ('nodes = { "1h" = 1, "1d" = 24 }\nbounds_db', "nodes = { day = 1, evening = 1, night = 1 }\nbounds_db")


def giver(archive: Any, now_s: int, store: Store | None = None) -> Days:
    return Days(archive, Rules(archive), PARIS, now_s, store or Store(None))


def info_of(archive: Any, stream: str) -> Any:
    return next(info for info in archive.streams() if info.stream == stream)


def test_a_day_is_what_the_page_of_the_week_says_of_it(archive: Any, streets: SimpleNamespace) -> None:
    """Amount, interval and coverage of every series of the town, with holes, silences and pauses; of levels the LAeq of
    the day's node where that covers all of it."""
    week, now_s, levels = streets.week_of(streets.NOW_S), streets.NOW_S, 0
    for info in archive.streams():
        seen = view(archive, Rules(archive), (), info, week, PARIS, now_s)
        for day in giver(archive, now_s).of(info, week):
            amount = seen.amount(day.span)
            assert (day.state == "figure") == (amount is not None)
            if amount is None or day.amount is None:
                continue
            assert (day.amount.estimate, day.amount.low, day.amount.high) == (amount.estimate, amount.low, amount.high)
            assert day.covered_s == amount.covered_s and day.fills == amount.fills
            late = day.of.end_s + LATE_S > now_s
            assert day.amount.absent == amount.absent and bool(day.hole) == (
                day.covered_s < day.expected_s and not late
            )
            level = day_level(seen, day.span)
            if level is not None and day.whole:
                assert day.laeq is not None and day.laeq.estimate == pytest.approx(level.estimate, abs=1e-9)
                levels += 1
    assert levels >= 6


def test_a_day_without_a_figure_has_its_reason(archive: Any, streets: SimpleNamespace) -> None:
    """Paused, nothing sent, not yet: the commonest reason of its nodes; what began later was not missing before."""
    week, midnight = streets.week_of(streets.NOW_S), PARIS.day(streets.NOW_S - 1).start_s
    paused = giver(archive, streets.NOW_S).of(info_of(archive, "alley/pm2_5"), week)
    assert {day.state for day in paused} == {"paused"} and {day.covered_s for day in paused} == {0}
    station = giver(archive, streets.NOW_S).of(info_of(archive, "station/footfall"), week)
    holes = [day.hole for day in station]
    assert [day.span.start_s for day in station if day.hole][:2] == [midnight - 5 * DAY_S, midnight - 4 * DAY_S]
    assert holes[1] == holes[2] == "gap" and holes[0] == ""
    wide = Window(week.start_s - 3 * DAY_S, week.end_s)
    assert [day.state for day in giver(archive, streets.NOW_S).of(info_of(archive, "plaza/footfall"), wide)][:4] == [
        *["before"] * 3,
        "figure",
    ]


def test_a_stream_with_parts_of_the_day_counts_from_six_to_six(streets: SimpleNamespace) -> None:
    """Its day is whole when the night is over, and has the levels of day, evening and the night that ends on it."""
    day, street = PARIS.day(streets.NOW_S - 1), streets.Street()
    window = Window(day.start_s - 2 * DAY_S, day.end_s)
    streets.add(street, "plaza", window, now_s=day.end_s, streams=("noise",), swap=(PARTS,))
    first, second, last = giver(street, day.end_s).of(street.infos[0], window)
    assert second.of == Window(second.span.start_s + 6 * 3600, second.span.end_s + 6 * 3600) and second.whole
    assert [part.level for part in second.parts] == ["day", "evening", "night"]
    assert second.parts[2].end_s == second.parts[0].start_s == second.of.start_s
    assert [part.level for part in first.parts] == ["day", "evening"]
    assert not last.whole and not last.over(day.end_s) and second.over(day.end_s)
    assert together([first.energy, second.energy, None]) is not None and together([None]) is None


def test_a_stream_with_hours_has_the_parts_of_its_days_too(archive: Any, streets: SimpleNamespace) -> None:
    """Lden needs them: what the hours of 06 to 18, 18 to 22 and 22 to 06 say together, where all of them came."""
    week, info = streets.week_of(streets.NOW_S), info_of(archive, "plaza/noise")
    second = giver(archive, streets.NOW_S).of(info, week)[1]
    assert [part.level for part in second.parts] == ["day", "evening", "night"]
    both = Window(second.span.start_s - DAY_S, second.span.end_s)
    seen = view(archive, Rules(archive), (), info, both, PARIS, streets.NOW_S)
    for part in second.parts:
        figure = seen.series.over("energy_mean", [Window(part.start_s, part.end_s)], streets.NOW_S)
        assert figure is not None and (part.estimate, part.low, part.high) == (figure.estimate, figure.low, figure.high)
    station = giver(archive, streets.NOW_S).of(info_of(archive, "station/noise"), week)
    assert [len(day.parts) for day in station] == [2, 2, 0, 3, 3, 3, 0], "the first night, from 21 to 19, tonight"


def test_the_store_gives_the_very_same_days(archive: Any, streets: SimpleNamespace, tmp_path: Path) -> None:
    """Written and read again, every field; only days that are over, and had their time to arrive, are kept."""
    week, now_s = streets.week_of(streets.NOW_S), streets.NOW_S
    store = Store.open(tmp_path / "store", archive, PARIS.timezone)
    fresh = {info.stream: giver(archive, now_s, store).of(info, week) for info in archive.streams()}
    store.close()
    again = Store.open(tmp_path / "store", archive, PARIS.timezone)
    for info in archive.streams():
        kept = again.read(KIND, info.stream, week)
        assert sorted(kept) == [day.span.start_s for day in fresh[info.stream]][:6], "today is not over"
        assert giver(archive, now_s, again).of(info, week) == fresh[info.stream]
    midnight = PARIS.day(now_s - 1).start_s
    info = info_of(archive, "plaza/footfall")
    for at_s, over in ((midnight + LATE_S - 1, 5), (midnight + LATE_S, 6)):
        empty = Store(None)
        giver(archive, at_s, empty).of(info, Window(week.start_s, midnight))
        assert len(empty.read(KIND, info.stream, week)) == over
    again.close()


@pytest.mark.parametrize("value", [b"", b"{}", b"[1]", b"[[0, 1], 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]", b"\xff"])
def test_a_row_that_says_something_else_is_worked_out_again(
    archive: Any, streets: SimpleNamespace, value: bytes
) -> None:
    """Whatever stands there under a right sum."""
    week, info = streets.week_of(streets.NOW_S), info_of(archive, "plaza/footfall")
    store, fresh = Store(None), giver(archive, streets.NOW_S).of(info, week)
    store.keep(KIND, info.stream, week.start_s, week, value)
    assert giver(archive, streets.NOW_S, store).of(info, week) == fresh


def test_another_instant_is_not_shown_later_days(archive: Any, streets: SimpleNamespace) -> None:
    """A site drawn as of an earlier instant takes nothing from the store that was not over then."""
    week, info, store = streets.week_of(streets.NOW_S), info_of(archive, "plaza/footfall"), Store(None)
    early_s = week.start_s + 3 * DAY_S + 3600
    giver(archive, streets.NOW_S, store).of(info, week)
    shown = Window(week.start_s, week.start_s + 4 * DAY_S)
    assert giver(archive, early_s, store).of(info, shown) == giver(archive, early_s).of(info, shown)


class Town:
    """A real archive of one site that counts crossings by six hours, with its city of one neighbourhood."""

    POLICY = b"""policy = 1
site = "plaza"
version = 1
timezone = "Europe/Paris"
decision = "D"
reason = "Essai."
valid_from = 2026-01-01
valid_until = 2027-12-31

[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = { crossings = 1 }
epsilon = 1.0
nodes = { "6h" = 1, "1d" = 1 }
"""

    def __init__(self, folder: Path, releases: ModuleType, city: City) -> None:
        self.archive = Archive.open(folder / "archive.db")
        self.archive._db.execute("PRAGMA synchronous = OFF")
        secret, public = wire.new_key()
        with self.archive.transaction():
            self.line = self.archive.enrol(Enrolment("gw-plaza", "centre", "plaza", public, (bytes(32),), 1))
            sealed = wire.seal_policy(self.POLICY, [("s", wire.new_key()[0])])
            self.archive.put_policy(StoredPolicy(parse(self.POLICY, "t").hash, "plaza", 1, self.POLICY, sealed))
        self.gateway: Any = releases.Gateway("gw-plaza", "centre", "plaza", secret, self.POLICY)
        self.city = replace(city, quartier=city.quartier[:1], site=city.site[:1], request=())
        self.late: list[bytes] = []
        self.first_s = PARIS.midnight(PARIS.civil_day(1_795_392_000 - 20 * DAY_S))

    def seals(self, day: int) -> list[bytes]:
        window, found = PARIS.day(self.first_s + day * DAY_S + 43_200), []
        at_s = window.start_s
        while at_s < window.end_s:
            at_s = PARIS.node("6h", at_s).end_s
            found.append(self.gateway.seal(at_s, outcomes=self.gateway.outcomes(at_s, value=7 + day)))
        return found

    def files(self, sealed: list[bytes]) -> None:
        with self.archive.transaction():
            for one in sealed:
                self.archive.put(wire.open_message(one, self.line.record_key), one, self.line, "filed")

    def site(self, out: Path, day: int) -> dict[str, bytes]:
        """Returns the files of a site as it is built on the morning after a day."""
        build(self.archive, self.city, out, PARIS.day(self.first_s + day * DAY_S + 43_200).end_s + 7 * 3600)
        root = out.resolve()
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.fixture
def town(tmp_path: Path, releases: ModuleType, city: City, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """Twelve days, of which the fifth has not come yet: `late` has it. Nothing but a neighbourhood's pages is made."""
    monkeypatch.setattr(site_module, "MAKERS", (maker_quartier.MAKER,))
    monkeypatch.setattr(maker_data, "data", lambda *of: iter(()))
    made = Town(tmp_path, releases, city)
    sealed = [made.seals(day) for day in range(12)]
    for number, day in enumerate(sealed):
        if number != 4:
            made.files(day)
    made.late = sealed[4]
    yield made
    made.archive.close()


def test_deleting_the_store_changes_no_byte(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it nothing is worked out again, without it everything is, and the site is the same; a damaged one too."""
    out, store = tmp_path / "site", tmp_path / "site.store"
    made: list[Window] = []
    real = days_module.worked_out

    def counted(*of: Any) -> tuple[Day, Window]:
        made.append(of[3])
        return real(*of)

    monkeypatch.setattr(days_module, "worked_out", counted)
    first = town.site(out, 11)
    worked = len(made)
    assert worked == 12 and store.is_file()
    assert town.site(out, 11) == first and len(made) == worked, "all days are over and kept"
    store.unlink()
    assert town.site(out, 11) == first and len(made) == 2 * worked
    store.write_bytes(store.read_bytes()[: 3 * 4096 + 100])
    assert town.site(out, 11) == first
    store.write_bytes(b"rubbish" * 999)
    assert town.site(out, 11) == first


def test_late_data_are_taken_in(town: Town, tmp_path: Path) -> None:
    """A day that comes a week late is on the pages of the next build, as on those of a site built from nothing."""
    out = tmp_path / "site"
    town.site(out, 10)
    before = town.site(out, 11)
    town.files(town.late)
    after = town.site(out, 11)
    assert after != before and after == town.site(tmp_path / "other", 11)
    page = after["quartiers/centre/mois/index.html"].decode()
    assert "aucun chiffre vérifié n’est arrivé" in before["quartiers/centre/mois/index.html"].decode()
    assert "aucun chiffre vérifié n’est arrivé" not in page


def test_a_store_that_kept_what_late_data_change_is_found_out(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: the day would be missing for ever."""
    monkeypatch.setattr(Archive, "told_after", lambda self, row: iter(()))
    with pytest.raises(AssertionError):
        test_late_data_are_taken_in(town, tmp_path)


def test_a_day_of_a_week_that_may_still_come_is_no_gap(streets: SimpleNamespace) -> None:
    """Of a stream with weeks alone, days are awaited until theirs is over and late, here as on the page of the week;
    what the store has of them says nothing of it."""
    now_s, this = streets.NOW_S, PARIS.node("1w", streets.NOW_S)
    whole = Window(PARIS.node("1w", this.start_s - 1).start_s, this.end_s)
    street = streets.Street()
    swap = [('"1h" = 1, "1d" = 24 }\nbounds_db', '"1w" = 1 }\nbounds_db')]
    streets.add(street, "plaza", whole, now_s=this.start_s, streams=("noise",), swap=swap)
    info, store, signed = info_of(street, "plaza/noise"), Store(None), street.policies("plaza")
    for at_s, state in ((now_s, "awaited"), (this.end_s + LATE_S - 1, "awaited"), (this.end_s + LATE_S, "gap")):
        for kept in (store, Store(None)):
            days = giver(street, at_s, kept).of(info, Window(this.start_s, this.start_s + 2 * DAY_S))
            assert [day.state for day in days] == [state] * 2
        seen = view(street, Rules(street), (), info, this, PARIS, at_s, signed)
        assert seen.day_slot(PARIS.day(this.start_s)).state == state
