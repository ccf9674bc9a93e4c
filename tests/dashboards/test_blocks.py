"""The days of streams in the open data: the same bytes whether they were kept or are made now, each compressed once."""

from __future__ import annotations

import csv
import gzip
import hashlib
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import blocks as blocks_module
from murmure_dashboards import codes, opendata
from murmure_dashboards.blocks import Block, Blocks, Together
from murmure_dashboards.packed import compressed, content_of, joined, pieces, segment
from murmure_dashboards.store import Store
from murmure_dashboards.views import StreamView, view
from murmure_privacy.policies import Rules
from murmure_privacy.window import Window

WEEKLY = ('nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }', 'nodes = { "15min" = 1, "1h" = 1, "1w" = 1 }')


def made_by(archive: Any, streets: SimpleNamespace, store: Store | None, now_s: int = 0) -> Blocks:
    return Blocks(archive, Rules(archive), streets.PARIS, now_s or streets.NOW_S, store)


def made(archive: Any, streets: SimpleNamespace, store: Store | None, now_s: int = 0) -> list[Block]:
    week, blocks = streets.week_of(streets.NOW_S), made_by(archive, streets, store, now_s)
    return [block for info in archive.streams() for block in blocks.of(info, week)]


@pytest.fixture(scope="module")
def weekly(streets: SimpleNamespace) -> Any:
    """A place whose counts have weekly nodes."""
    street = streets.Street()
    streets.add(street, "plaza", streets.week_of(streets.NOW_S), swap=(WEEKLY,))
    return street


def test_days_side_by_side_are_the_rows_of_the_week(archive: Any, weekly: Any, streets: SimpleNamespace) -> None:
    """With bins in the file of the month, without them in that of the neighbourhood."""
    week = streets.week_of(streets.NOW_S)
    for street in (archive, weekly):
        rules = Rules(street)
        for info in street.streams():
            whole = view(street, rules, (), info, week, streets.PARIS, streets.NOW_S)
            days = list(made_by(street, streets, None).of(info, week))
            assert len(days) == 7
            for bins, found in (
                (True, b"".join(content_of(day.packed) for day in days)),
                (False, b"".join(day.rows for day in days)),
            ):
                assert found == opendata.lines(opendata.rows(whole, rules, bins=bins))


def together(archive: Any, streets: SimpleNamespace, store: Store | None, now_s: int = 0) -> list[Together]:
    """The six days before today."""
    week = streets.week_of(streets.NOW_S)
    over, blocks = (
        Window(week.start_s, streets.PARIS.day(streets.NOW_S).start_s),
        made_by(archive, streets, store, now_s),
    )
    return [blocks.together(info, over) for info in archive.streams()]


def read_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of the store, by kind."""
    kinds: list[str] = []
    read = Store.read

    def watched(self: Store, kind: str, stream: str, span: Window) -> dict[int, bytes]:
        kinds.append(kind)
        return read(self, kind, stream, span)

    monkeypatch.setattr(Store, "read", watched)
    return kinds


def test_days_together_are_those_of_each(
    archive: Any, weekly: Any, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their ledger, whether there is a row, and a sum that is another with one day less; once nothing of them changes,
    no day is read for it."""
    week, today = streets.week_of(streets.NOW_S), streets.PARIS.day(streets.NOW_S)
    for street, settled in ((archive, True), (weekly, False)):
        place, streams = tmp_path / f"store-{settled}", len(street.streams())
        expected, blocks = together(street, streets, None), made_by(street, streets, None)
        for info, one in zip(street.streams(), expected, strict=True):
            days = [blocks.on(info, day) for day in streets.PARIS.days(Window(week.start_s, today.start_s))]
            assert one.ledger == b"".join(day.ledger for day in days) != b""
            assert one.begun == any(day.packed for day in days)
            fewer = blocks.together(info, Window(week.start_s, today.start_s - 86_400))
            assert fewer.sum != one.sum and one.ledger.startswith(fewer.ledger)
            assert blocks.together(info, Window(week.start_s, week.start_s)).begun is False
        kinds = read_of(monkeypatch)
        for again in (False, True):
            with closing(Store.open(place, street, "Europe/Paris")) as store:
                kinds.clear()
                assert together(street, streets, store) == expected
                assert kinds.count(blocks_module.KIND) == ((0 if settled else 1) if again else streams)
        with closing(Store(place)) as store:  # of an instant at which they were not settled, nothing is taken
            kinds.clear()
            together(street, streets, store, today.start_s)
            assert kinds.count(blocks_module.KIND) == streams


def test_what_comes_late_makes_days_together_anew(archive: Any, streets: SimpleNamespace, tmp_path: Path) -> None:
    """The store forgets their row with that of the day. The twin: as if they were of no day."""
    for of_days in (True, False):
        street, place = streets.Street(), tmp_path / f"store-{of_days}"
        streets.add(street, "plaza", streets.week_of(streets.NOW_S))
        info = next(one for one in street.streams() if one.stream == "plaza/footfall")
        late = street.nodes[info.stream].pop(40)
        with closing(Store.open(place, street, "Europe/Paris")) as store:
            before = together(street, streets, store)
            if not of_days:
                kept = store.read(blocks_module.TOGETHER, info.stream, Window(0, 1 << 40))
                for start_s, value in kept.items():
                    store.keep(blocks_module.TOGETHER, info.stream, start_s, Window(0, 1), value)
        street.late[late.node.key] = street.newest_row() + 900
        street.nodes[info.stream].append(late)
        with closing(Store.open(place, street, "Europe/Paris")) as store:
            after = together(street, streets, store)
        assert (after == together(street, streets, None)) is of_days
        assert (after == before) is not of_days


def test_what_is_over_is_made_once(
    archive: Any, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next build makes nothing again, and gives the same; without the store it makes all."""
    calls: list[int] = []
    real = view

    def watched(*args: Any) -> StreamView:
        calls.append(args[4].start_s)
        return real(*args)

    monkeypatch.setattr(blocks_module, "view", watched)
    expected = made(archive, streets, None)
    streams = len(archive.streams())
    assert len(calls) == 7 * streams
    for most in (7, 0):
        calls.clear()
        store = Store.open(tmp_path / "store", archive, "Europe/Paris")
        assert made(archive, streets, store) == expected
        assert len(calls) == most * streams
        store.close()


def test_days_that_were_made_are_read_together(
    archive: Any, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A week, and a month that has it, ask the store as often as a day does; what was read is not read again."""
    store = Store.open(tmp_path / "store", archive, "Europe/Paris")
    made(archive, streets, store)
    store.flush()
    asked: list[tuple[str, str]] = []
    read = store.read

    def watched(kind: str, stream: str, span: Window) -> dict[int, bytes]:
        asked.append((kind, stream))
        return read(kind, stream, span)

    monkeypatch.setattr(store, "read", watched)
    info, week = archive.streams()[0], streets.week_of(streets.NOW_S)
    once = [(blocks_module.KIND, info.stream)]
    seen = made_by(archive, streets, store)
    for window in (week, streets.PARIS.day(week.start_s)):
        assert len(list(seen.of(info, window))) in (7, 1)
        assert asked == once
    store.close()


def test_a_day_that_runs_is_not_made_twice(
    archive: Any, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when the quarter-hour after it comes that closed nothing; at an earlier instant it is another."""
    store, day = Store(None), streets.PARIS.day(streets.NOW_S - 1)
    infos, earlier_s, later_s = archive.streams(), streets.NOW_S - 900, streets.NOW_S + 900
    for now_s in (earlier_s, streets.NOW_S, earlier_s, streets.NOW_S):
        found = [made_by(archive, streets, store, now_s).on(info, day) for info in infos]
        assert found == [made_by(archive, streets, None, now_s).on(info, day) for info in infos]
    expected = [made_by(archive, streets, None, later_s).on(info, day) for info in infos]
    monkeypatch.setattr(blocks_module, "view", None)
    assert [made_by(archive, streets, store, streets.NOW_S).on(info, day) for info in infos] == found
    assert [made_by(archive, streets, store, later_s).on(info, day) for info in infos] == expected


def test_a_day_that_ends_without_a_node_is_final(archive: Any, streets: SimpleNamespace) -> None:
    """The gateway stood still since the afternoon: at midnight what was provisional is not any more."""
    store, day = Store(None), streets.PARIS.day(streets.NOW_S - 1)
    silent = streets.Street()
    silent.__dict__.update(
        archive.__dict__
        | {"nodes": {s: [n for n in of if n.node.end_s <= streets.NOW_S] for s, of in archive.nodes.items()}}
    )
    for now_s in (streets.NOW_S, day.end_s - 60, day.end_s, day.end_s + 3600, streets.NOW_S):
        found = [made_by(silent, streets, store, now_s).on(info, day) for info in silent.streams()]
        assert found == [made_by(silent, streets, None, now_s).on(info, day) for info in silent.streams()]


@pytest.mark.parametrize("bound", ["from", "until", "node", "period"])
def test_rows_that_are_kept_too_long_are_found_out(
    archive: Any, streets: SimpleNamespace, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twins: rows that are the same at any earlier instant, at any later one, until a period ends, until a node
    does."""
    same = Blocks._same

    def longer(blocks: Blocks, known: frozenset[str], wide: Any) -> tuple[int, int]:
        from_s, until_s = same(blocks, known, wide)
        return {"from": (0, until_s), "until": (from_s, 1 << 40)}[bound]

    if bound in ("from", "until"):
        monkeypatch.setattr(Blocks, "_same", longer)
    else:
        monkeypatch.setattr(blocks_module, f"_{bound}_ends", lambda *of: set())
    with pytest.raises(AssertionError):
        if bound != "period":
            test_a_day_that_runs_is_not_made_twice(archive, streets, monkeypatch)
        test_a_day_that_ends_without_a_node_is_final(archive, streets)


@pytest.mark.parametrize("back_days", [0, 2])
def test_what_comes_late_is_in_the_rows(archive: Any, streets: SimpleNamespace, tmp_path: Path, back_days: int) -> None:
    """An hour of today, and of the day before yesterday: of its stream that day is made again."""
    street = streets.Street()
    street.__dict__.update(archive.__dict__ | {"nodes": dict(archive.nodes), "late": dict(archive.late)})
    nodes = street.nodes["plaza/noise"]
    at_s = streets.PARIS.day(streets.NOW_S - back_days * 86_400).start_s + 7 * 3600
    missing = next(one for one in nodes if one.node.start_s == at_s and one.node.level == "1h")
    street.nodes["plaza/noise"] = [one for one in nodes if one is not missing]
    for now_s in (streets.NOW_S, streets.NOW_S + 900):
        store = Store.open(tmp_path / "store", street, "Europe/Paris")
        assert made(street, streets, store, now_s) == made(street, streets, None, now_s)
        store.close()
        if missing not in street.nodes["plaza/noise"]:
            street.late[missing.node.key] = street.newest_row() + 1
            street.nodes["plaza/noise"] = nodes


def test_rows_that_nothing_takes_away_are_found_out(
    archive: Any, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what came late would be missing."""
    keep = Store.keep

    def nowhere(store: Store, kind: str, stream: str, start_s: int, of: Window, value: bytes) -> None:
        keep(store, kind, stream, start_s, Window(0, 1), value)

    monkeypatch.setattr(Store, "keep", nowhere)
    with pytest.raises(AssertionError):
        test_what_comes_late_is_in_the_rows(archive, streets, tmp_path, 0)


def test_what_was_looked_at_already_is_not_looked_at_again(
    archive: Any, streets: SimpleNamespace, given: Any, city: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day that runs is on a page, too."""
    ctx = given(archive, city)
    day, rules = ctx.today, Rules(archive)
    expected = [Blocks(archive, rules, streets.PARIS, streets.NOW_S, None).on(info, day) for info in ctx.streams]
    assert [ctx.seen(info).stream for info in ctx.streams] == [info.stream for info in ctx.streams]
    monkeypatch.setattr(blocks_module, "view", None)
    assert [ctx.blocks.on(info, day) for info in ctx.streams] == expected


def test_what_is_not_over_is_not_kept(weekly: Any, streets: SimpleNamespace, tmp_path: Path) -> None:
    """Days of a week are provisional until its Sunday is over; a page of an earlier instant knows no later node."""
    now_s, later_s = streets.NOW_S - 2 * 86_400, streets.NOW_S
    for at_s in (later_s, now_s, later_s):
        store = Store.open(tmp_path / "store", weekly, "Europe/Paris")
        assert made(weekly, streets, store, at_s) == made(weekly, streets, None, at_s)
        store.close()


def test_a_day_whose_policy_is_missing_is_not_kept(archive: Any, streets: SimpleNamespace, tmp_path: Path) -> None:
    """The policy may come, and then its rows say what they are protected by."""
    lost = streets.Street()
    lost.__dict__.update(archive.__dict__ | {"signed": {}})
    store = Store.open(tmp_path / "store", archive, "Europe/Paris")
    assert made(lost, streets, store) != made(archive, streets, None)
    assert store.read(blocks_module.KIND, "plaza/noise", streets.week_of(streets.NOW_S)) == {}
    assert made(archive, streets, store) == made(archive, streets, None)
    store.close()


@pytest.mark.parametrize("rubbish", [b"", b"short"])
def test_a_row_of_another_form_is_made_again(
    archive: Any, streets: SimpleNamespace, tmp_path: Path, rubbish: bytes
) -> None:
    info, day = archive.streams()[0], streets.PARIS.day(streets.week_of(streets.NOW_S).start_s)
    store = Store.open(tmp_path / "store", archive, "Europe/Paris")
    store.keep(blocks_module.KIND, info.stream, day.start_s, day, rubbish)
    (found,) = made_by(archive, streets, store).of(info, day)
    (expected,) = made_by(archive, streets, None).of(info, day)
    assert found == expected
    store.close()


def test_segments_side_by_side_are_one_gzip_file() -> None:
    """Of one member, as every browser reads it; nothing of it depends on when it is made."""
    parts = [b"", b"a,b\r\n", b"a,b\r\n" * 20_000, bytes(range(256)) * 300, b""]
    whole = joined(map(segment, parts))
    assert whole == b"".join(parts) and gzip.decompress(compressed(whole)) == whole
    assert compressed(whole) == compressed(joined(map(segment, parts)))
    assert compressed(whole)[4:8] == bytes(4) and compressed(whole).count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 1
    assert gzip.decompress(compressed(joined([]))) == b""
    assert compressed(b"a page") == gzip.compress(b"a page", mtime=0)


def test_pieces_side_by_side_are_the_same_file() -> None:
    """As `joined` puts together, with the length and the sum of all of it; none at all are nothing."""
    for parts in ([], [b"a,b\r\n"], [b"a,b\r\n" * 900, b"", b"1,2\r\n" * 70_000]):
        held = [segment(part) for part in parts]
        whole, apart = joined(held), pieces(held)
        assert bytes(apart) == whole == b"".join(parts) and b"".join(apart.gz) == compressed(whole)
        assert len(apart) == len(whole) and bool(apart) == bool(whole)
        assert apart.sha256 == hashlib.sha256(whole).hexdigest()


def test_rows_have_the_columns_of_the_contract(archive: Any, streets: SimpleNamespace) -> None:
    """Each of them, of every day; bins are known by their seventh."""
    for block in made(archive, streets, None):
        for row in csv.reader(content_of(block.packed).decode().splitlines()):
            assert len(row) == len(opendata.HEADER)
        assert b"histogram_s_" not in block.rows
    assert any(b"histogram_s_" in content_of(block.packed) for block in made(archive, streets, None))
    assert Block(b"", b"").rows == b""


def test_each_row_that_is_shown_has_its_code(archive: Any, streets: SimpleNamespace, tmp_path: Path) -> None:
    """In the same order, whether it was kept or is made now."""
    for _ in range(2):
        store = Store.open(tmp_path / "store", archive, "Europe/Paris")
        for block in made(archive, streets, store):
            shown = map(tuple, csv.reader(block.rows.decode().splitlines()))
            assert codes.table(()) + content_of(block.codes) == codes.table(shown)
        store.close()
