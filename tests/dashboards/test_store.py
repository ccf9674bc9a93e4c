"""The store of finished periods: it saves time and nothing else; what has come since, or is damaged, is made again."""

from __future__ import annotations

import sqlite3
import zoneinfo
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import store as store_module
from murmure_dashboards.store import Store
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_privacy import wire
from murmure_privacy.policy import parse
from murmure_privacy.window import Window

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
nodes = { "15min" = 1, "1h" = 1 }
"""
MONDAY_S = 1_795_392_000
QUARTER_S, HOUR_S = 900, 3600
STREAM = "plaza/footfall"


class Centre:
    """A real archive with one gateway."""

    def __init__(self, folder: Path, releases: ModuleType) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.archive = Archive.open(folder / "archive.db")
        self.archive._db.execute("PRAGMA synchronous = OFF")
        secret, public = wire.new_key()
        steward, _ = wire.new_key()
        with self.archive.transaction():
            self.line = self.archive.enrol(Enrolment("gw-plaza", "centre", "plaza", public, (bytes(32),), 1))
            sealed = wire.seal_policy(POLICY, [("s", steward)])
            self.archive.put_policy(StoredPolicy(parse(POLICY, "test").hash, "plaza", 1, POLICY, sealed))
        self.gateway: Any = releases.Gateway("gw-plaza", "centre", "plaza", secret, POLICY)

    def seal(self, quarter: int) -> bytes:
        return bytes(self.gateway.seal(MONDAY_S + (quarter + 1) * QUARTER_S))

    def put(self, sealed: bytes, disposition: Any = "filed") -> None:
        message = wire.open_message(sealed, self.line.record_key)
        with self.archive.transaction():
            self.archive.put(message, sealed, self.line, disposition, "" if disposition == "filed" else "no_policy")

    def bring(self, quarters: range) -> None:
        for quarter in quarters:
            self.put(self.seal(quarter))


@pytest.fixture
def centre(tmp_path: Path, releases: ModuleType) -> Centre:
    """The archive of a Monday of which four hours have come."""
    found = Centre(tmp_path / "centre", releases)
    found.bring(range(16))
    return found


def hour(number: int) -> Window:
    return Window(MONDAY_S + number * HOUR_S, MONDAY_S + (number + 1) * HOUR_S)


def filled(path: Path, centre: Centre, timezone: str = "Europe/Paris") -> None:
    """Keeps a row for each of the four hours."""
    store = Store.open(path, centre.archive, timezone)
    for number in range(4):
        store.keep("hours", STREAM, hour(number).start_s, hour(number), b"%d" % number)
    store.close()


def left(path: Path, centre: Centre, timezone: str = "Europe/Paris") -> list[bytes]:
    store = Store.open(path, centre.archive, timezone)
    found = store.read("hours", STREAM, Window(0, 1 << 40))
    store.close()
    return [found[start_s] for start_s in sorted(found)]


ALL = [b"0", b"1", b"2", b"3"]


def test_what_was_kept_is_there_for_the_next_build(centre: Centre, tmp_path: Path) -> None:
    """Of its kind and stream and within the span; also before it is written, and in memory."""
    path = tmp_path / "store"
    filled(path, centre)
    assert left(path, centre) == ALL
    store = Store.open(None, centre.archive, "Europe/Paris")
    store.keep("hours", STREAM, hour(1).start_s, hour(1), b"one")
    assert store.read("hours", STREAM, hour(1)) == {hour(1).start_s: b"one"}
    assert store.read("hours", STREAM, hour(2)) == store.read("days", STREAM, hour(1)) == {}
    assert store.read("hours", "plaza/other", hour(1)) == {}
    store.close()


def test_a_store_that_another_process_writes_for_long_is_not_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads meanwhile does without it: a file that is made anew below the other one's hands loses its rows."""
    monkeypatch.setattr(store_module, "_PATIENCE_S", 0.05)
    one, other = Store(tmp_path / "store"), Store(tmp_path / "store")
    one.keep("t", STREAM, 0, Window(0, 1), b"kept")
    one.flush()
    one._db.execute("BEGIN EXCLUSIVE")
    assert other.read("t", STREAM, Window(0, 1)) == {}
    one._db.execute("COMMIT")
    assert other.read("t", STREAM, Window(0, 1)) == {0: b"kept"}


def test_what_is_old_is_forgotten_and_nothing_else(centre: Centre, tmp_path: Path) -> None:
    """By kind, and by when it was over: a store does not grow for ever."""
    path = tmp_path / "store"
    filled(path, centre)
    store = Store.open(path, centre.archive, "Europe/Paris")
    store.forget(("days",), hour(9).end_s)
    store.forget(("hours",), hour(1).end_s + 1)
    store.close()
    assert left(path, centre) == [b"2", b"3"]


def test_what_comes_late_takes_with_it_what_was_made_without_it(tmp_path: Path, releases: ModuleType) -> None:
    """The second hour comes after the fourth: its row goes, the others stay; what is new of later touches none."""
    path, centre = tmp_path / "store", Centre(tmp_path / "centre", releases)
    sealed = [centre.seal(quarter) for quarter in range(20)]
    for one in (*sealed[:4], *sealed[8:16]):
        centre.put(one)
    filled(path, centre)
    for one in sealed[16:]:
        centre.put(one)
    assert left(path, centre) == ALL
    centre.put(sealed[5])
    assert left(path, centre) == [b"0", b"2", b"3"]


def _comes_late(path: Path, centre: Centre, kinds: tuple[str, ...]) -> dict[str, list[int]]:
    """Returns what is left by kind, of a row for each of four hours, after the second hour has come."""
    sealed = [centre.seal(quarter) for quarter in range(16)]
    for one in (*sealed[:4], *sealed[8:]):
        centre.put(one)
    store = Store.open(path, centre.archive, "Europe/Paris")
    for kind in kinds:
        for number in range(4):
            store.keep(kind, STREAM, hour(number).start_s, hour(number), b"")
    store.close()
    centre.put(sealed[5])
    store = Store.open(path, centre.archive, "Europe/Paris")
    left = {kind: [n for n in range(4) if store.read(kind, STREAM, hour(n))] for kind in kinds}
    store.close()
    return left


KINDS = ("days", "hours", "weeks so far")


def test_what_comes_late_takes_rows_of_every_kind(tmp_path: Path, releases: ModuleType) -> None:
    centre = Centre(tmp_path / "centre", releases)
    assert _comes_late(tmp_path / "store", centre, KINDS) == {kind: [0, 2, 3] for kind in KINDS}


def test_a_store_that_leaves_out_a_kind_is_found_out(
    tmp_path: Path, releases: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = Store._kinds
    monkeypatch.setattr(Store, "_kinds", lambda store: list(kinds(store))[:-1])
    with pytest.raises(AssertionError):
        test_what_comes_late_takes_rows_of_every_kind(tmp_path, releases)


def test_no_row_is_looked_for_in_the_whole_file(
    tmp_path: Path, releases: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says of every statement about rows that it goes by the key: a large town has a million rows, of which a
    quarter-hour touches a few of each stream."""
    said: list[str] = []
    prepared = Store._prepared

    def watched(store: Store) -> sqlite3.Connection:
        db = prepared(store)
        db.set_trace_callback(said.append)
        return db

    monkeypatch.setattr(Store, "_prepared", watched)
    path = tmp_path / "store"
    _comes_late(path, Centre(tmp_path / "centre", releases), KINDS)
    said = [one for one in said if "periods" in one and not one.startswith("INSERT")]
    assert {one.split()[0] for one in said} == {"SELECT", "DELETE"}
    db = sqlite3.connect(path)
    for one in set(said):
        plan = [step[3] for step in db.execute(f"EXPLAIN QUERY PLAN {one}")]
        assert one == "DELETE FROM periods" or (plan and not any("SCAN" in step for step in plan)), (one, plan)
    db.close()


def test_a_message_that_waited_is_taken_in(centre: Centre, tmp_path: Path) -> None:
    """It was settled before the last build and filed after it: its row is an old one."""
    path = tmp_path / "store"
    waiting = centre.seal(16)
    centre.put(waiting, "quarantined")
    store = Store.open(path, centre.archive, "Europe/Paris")
    store.keep("hours", STREAM, hour(4).start_s, hour(4), b"4")
    store.close()
    filled(path, centre)
    assert left(path, centre) == [*ALL, b"4"]
    stored = centre.archive.find("gw-plaza", 17)
    assert stored is not None
    with centre.archive.transaction():
        centre.archive.amend(stored, wire.open_message(waiting, centre.line.record_key), "filed")
    assert left(path, centre) == ALL, "the fifth hour is made again, the others stay"


def test_another_archive_another_timezone_another_murmure_begin_anew(
    centre: Centre, tmp_path: Path, releases: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that has as many messages, but others; one that was restored to before; a changed estimator."""
    path = tmp_path / "store"
    filled(path, centre)
    assert left(path, centre, "Europe/London") == []
    filled(path, centre)
    other = Centre(tmp_path / "other", releases)
    other.bring(range(16))
    assert left(path, other) == []
    filled(path, centre)
    short = Centre(tmp_path / "short", releases)
    short.bring(range(3))
    assert left(path, short) == []
    filled(path, centre)
    assert left(path, centre) == ALL
    monkeypatch.setattr(store_module, "version", lambda: "another")
    assert left(path, centre) == []


def test_other_rules_of_the_timezone_begin_anew(centre: Centre, tmp_path: Path) -> None:
    """Of the same name: where the clocks are not changed any more, days end at other instants. The system's file counts
    before that of the package, as for `zoneinfo`."""
    path, own = tmp_path / "store", zoneinfo.TZPATH
    zones = [tmp_path / name / "Europe" / "Paris" for name in ("before", "after")]
    for zone, rules in zip(zones, (b"rules", b"other rules"), strict=True):
        zone.parent.mkdir(parents=True)
        zone.write_bytes(rules)
    try:
        zoneinfo.reset_tzpath([str(zones[0].parents[1])])
        filled(path, centre)
        assert left(path, centre) == ALL
        zoneinfo.reset_tzpath([str(zones[1].parents[1]), str(zones[0].parents[1])])
        assert left(path, centre) == []
        zoneinfo.reset_tzpath([])
        nowhere = store_module.zone_sum("Europe/Nowhere")
        assert (store_module.zone_sum("Europe/Paris") == nowhere) == (find_spec("tzdata") is None)
    finally:
        zoneinfo.reset_tzpath(own)


def test_a_store_that_did_not_look_at_the_rules_is_found_out(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: days of before would stay."""
    monkeypatch.setattr(store_module, "zone_sum", lambda timezone: timezone)
    with pytest.raises(AssertionError):
        test_other_rules_of_the_timezone_begin_anew(centre, tmp_path)


def test_a_row_that_is_not_what_its_sum_says_is_not_there(centre: Centre, tmp_path: Path) -> None:
    """One changed octet, in the value or in what it is about; the other rows stay."""
    path = tmp_path / "store"
    for change in ("value = x'39'", "from_s = from_s - 900", "value = 'text'"):
        filled(path, centre)
        with sqlite3.connect(path) as db:
            db.execute(f"UPDATE periods SET {change} WHERE start_s = ?", (hour(1).start_s,))
        db.close()
        assert left(path, centre) == [b"0", b"2", b"3"]


@pytest.mark.parametrize("damage", ["rubbish", "cut", "other tables", "bad stamp", "empty"])
def test_a_damaged_file_is_made_anew(centre: Centre, tmp_path: Path, damage: str) -> None:
    """Whatever stands there: the store is empty, works, and is whole the next time."""
    path = tmp_path / "store"
    filled(path, centre)
    if damage == "rubbish":
        path.write_bytes(b"no database at all" * 500)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        with sqlite3.connect(path) as db:
            if damage == "bad stamp":
                db.execute("UPDATE stamp SET told = '[1, 2]'")
            else:
                db.execute("DROP TABLE periods")
                db.execute("CREATE TABLE periods (other TEXT)")
        db.close()
    assert left(path, centre) == []
    filled(path, centre)
    assert left(path, centre) == ALL


def test_a_store_that_did_not_look_at_what_came_is_found_out(
    centre: Centre, tmp_path: Path, releases: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: rows that a late message touches would stay as they were."""
    monkeypatch.setattr(Archive, "told_by", lambda self, row: iter(()))
    monkeypatch.setattr(Archive, "told_after", lambda self, row: iter(()))
    with pytest.raises(AssertionError, match="b'1'"):
        test_what_comes_late_takes_with_it_what_was_made_without_it(tmp_path / "late", releases)
    with pytest.raises(AssertionError, match="the fifth hour"):
        test_a_message_that_waited_is_taken_in(centre, tmp_path / "centre")


def test_a_change_of_any_package_that_figures_go_through_is_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of the one that reads the archive, which is a folder in its package."""
    files = [
        tmp_path / name
        for name in ("murmure_privacy/wire.py", "murmure_ingest/archive/database.py", "murmure_dashboards/views.py")
    ]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("a = 1")

    def spec(name: str) -> SimpleNamespace:
        return SimpleNamespace(submodule_search_locations=[str(tmp_path / name)])

    monkeypatch.setattr(store_module, "find_spec", spec)
    told = [store_module.version.__wrapped__()]
    for file in files:
        file.write_text("a = 2")
        told.append(store_module.version.__wrapped__())
    assert len(set(told)) == 4
