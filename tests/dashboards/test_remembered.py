"""The nodes of days that are over, each signed message opened once: the same nodes as the archive's, and no late one
missed."""

from __future__ import annotations

import marshal
import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import remembered as remembered_module
from murmure_dashboards import views as views_module
from murmure_dashboards.remembered import remembered
from murmure_dashboards.store import Store
from murmure_dashboards.views import ArchiveReader, view
from murmure_privacy.policies import Rules
from murmure_privacy.release import Outcome
from murmure_privacy.window import Window

WEEKLY = ('nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }', 'nodes = { "15min" = 1, "1h" = 1, "1w" = 1 }')
PARTS = ('nodes = { "1h" = 1, "1d" = 24 }', 'nodes = { "1h" = 1, "day" = 4, "evening" = 4, "night" = 8 }')
STREAMS = ("plaza/footfall", "plaza/noise", "plaza/pm2_5")


class Watched:
    """An archive that tells which spans it was asked to open."""

    def __init__(self, archive: Any) -> None:
        self.archive, self.asked = archive, list[tuple[str, int, int]]()

    def __getattr__(self, name: str) -> object:
        return getattr(self.archive, name)

    def outcomes(self, stream: str, from_s: int, to_s: int) -> Sequence[Outcome]:
        self.asked.append((stream, from_s, to_s))
        found: list[Outcome] = self.archive.outcomes(stream, from_s, to_s)
        return found


@pytest.fixture(scope="module")
def street(streets: SimpleNamespace) -> Any:
    """A week whose nodes reach over midnights: weeks, nights, and a day that was lost."""
    made, week = streets.Street(), streets.week_of(streets.NOW_S)
    wide = Window(streets.PARIS.day(week.start_s - 5 * 86_400).start_s, week.end_s)
    silent = (Window(week.start_s + 80_100, week.start_s + 190_800),)
    streets.add(made, "plaza", wide, silent=silent, swap=(WEEKLY, PARTS))
    return made


def reader(street: Any, path: Path | None, streets: SimpleNamespace) -> tuple[ArchiveReader, Store]:
    store = Store.open(path, street, "Europe/Paris")
    return remembered(street, store, streets.PARIS, streets.NOW_S), store


def test_whoever_asks_for_a_span_is_given_the_nodes_of_the_archive(
    street: Any, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """Whatever it begins and ends with, in the same order; from the first store and from the one that was written."""
    draw, week = random.Random(7), streets.week_of(streets.NOW_S)
    spans = [
        Window(*sorted((draw.randrange(week.start_s - 400_000, week.end_s), draw.randrange(week.start_s, week.end_s))))
        for _ in range(40)
    ]
    spans += [Window(week.start_s, week.end_s), *streets.PARIS.days(week)]
    for _ in range(2):
        known, store = reader(street, tmp_path / "store", streets)
        for stream in STREAMS:
            for span in spans:
                found = list(known.outcomes(stream, span.start_s, span.end_s))
                assert found == street.outcomes(stream, span.start_s, span.end_s)
                assert not found or span.start_s < span.end_s
        store.close()


def test_a_day_that_is_over_is_opened_once(street: Any, streets: SimpleNamespace, tmp_path: Path) -> None:
    """The next build asks the archive for today alone; without the store it asks for all."""
    week = streets.week_of(streets.NOW_S)
    midnight_s = streets.PARIS.day(streets.NOW_S - 1).start_s
    for opened in (6, 0):
        watched = Watched(street)
        known, store = reader(watched, tmp_path / "store", streets)
        for _ in range(2):
            known.outcomes(STREAMS[0], week.start_s, week.end_s)
        store.close()
        assert sum(from_s < midnight_s for _, from_s, _ in watched.asked) == opened


def test_an_hour_of_today_is_opened_once(street: Any, streets: SimpleNamespace, tmp_path: Path) -> None:
    """The next build asks the archive for what came since the last hour that is over."""
    today, now_s = streets.PARIS.day(streets.NOW_S - 1), streets.NOW_S
    for opened in (15, 0):
        watched = Watched(street)
        known, store = reader(watched, tmp_path / "store", streets)
        for stream in STREAMS:
            assert known.outcomes(stream, today.start_s, today.end_s) == street.outcomes(
                stream, today.start_s, today.end_s
            )
        store.close()
        asked = [from_s for stream, from_s, _ in watched.asked if stream == STREAMS[0]]
        assert sum(from_s < now_s - 900 for from_s in asked) == opened
        assert max(asked) == now_s - 900


def test_the_figures_of_what_is_over_are_estimated_once(
    street: Any, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of the archive, to the last bit and in the same order; the next build estimates what is not over
    alone."""
    week, rules, real = streets.week_of(streets.NOW_S), Rules(street), views_module.figures
    calls: list[int] = []

    def watched(outcomes: Any, *others: Any) -> Any:
        calls.append(outcomes[0].node.start_s)
        return real(outcomes, *others)

    expected = [view(street, rules, (), info, week, streets.PARIS, streets.NOW_S) for info in street.infos]
    monkeypatch.setattr(remembered_module, "figures", watched)
    for first in (True, False):
        known, store = reader(street, tmp_path / "store", streets)
        for info, one in zip(street.infos, expected, strict=True):
            found = view(known, rules, (), info, week, streets.PARIS, streets.NOW_S)
            assert (found.figures, found.scalar, found.withheld) == (one.figures, one.scalar, one.withheld)
        store.close()
        assert bool(calls) == first
        calls.clear()


@pytest.mark.parametrize("rubbish", [b"", zlib.compress(marshal.dumps(7)), zlib.compress(marshal.dumps((7, [(1,)])))])
def test_figures_that_cannot_be_read_are_estimated_again(
    street: Any, streets: SimpleNamespace, tmp_path: Path, rubbish: bytes
) -> None:
    """As are those of other levels, or of fewer nodes."""
    info, rules = street.infos[0], Rules(street)
    week, day = streets.week_of(streets.NOW_S), streets.PARIS.day(streets.NOW_S - 6 * 86_400)
    expected = view(street, rules, (), info, week, streets.PARIS, streets.NOW_S).figures
    known, store = reader(street, tmp_path / "store", streets)
    for start_s in (week.start_s, day.start_s, streets.PARIS.period(("1w",), week.start_s).start_s):
        store.keep(remembered_module.FIGURES, info.stream, start_s, day, rubbish)
    assert view(known, rules, (), info, week, streets.PARIS, streets.NOW_S).figures == expected
    few = expected[:1]
    store.keep(
        *(remembered_module.FIGURES, info.stream, streets.PARIS.period(("1w",), week.start_s).start_s, day),
        remembered_module._written_figures((["1h"], 1), few),
    )
    again = remembered(street, store, streets.PARIS, streets.NOW_S)
    assert view(again, rules, (), info, week, streets.PARIS, streets.NOW_S).figures == expected
    store.close()


def test_what_comes_late_is_not_missed(street: Any, streets: SimpleNamespace, tmp_path: Path) -> None:
    """A gateway delivers a node of a day that a build before has read: the next build has it."""
    week, late = streets.week_of(streets.NOW_S), streets.Street()
    late.__dict__.update(street.__dict__ | {"nodes": dict(street.nodes)})
    missing = next(one for one in street.nodes[STREAMS[0]] if one.node.start_s > week.start_s + 300_000)
    late.nodes[STREAMS[0]] = [one for one in street.nodes[STREAMS[0]] if one is not missing]
    late.told_after = lambda row: iter([(STREAMS[0], missing.node.start_s, missing.node.end_s)])
    head = bytes(32)
    late.newest_row, late.head_at = (lambda: 1), (lambda row: head)
    known, store = reader(late, tmp_path / "store", streets)
    assert missing not in known.outcomes(STREAMS[0], week.start_s, week.end_s)
    store.close()
    late.nodes[STREAMS[0]] = street.nodes[STREAMS[0]]
    late.newest_row = lambda: 2
    known, store = reader(late, tmp_path / "store", streets)
    assert missing in known.outcomes(STREAMS[0], week.start_s, week.end_s)
    store.close()


@pytest.mark.parametrize("rubbish", [b"", bytes(40), zlib.compress(marshal.dumps(7)), zlib.compress(b"rubbish")])
def test_a_row_that_cannot_be_read_is_made_again(
    street: Any, streets: SimpleNamespace, tmp_path: Path, rubbish: bytes
) -> None:
    """Another version may have written it."""
    day = streets.PARIS.day(streets.week_of(streets.NOW_S).start_s)
    known, store = reader(street, tmp_path / "store", streets)
    store.keep(remembered_module.KIND, STREAMS[0], day.start_s, day, rubbish)
    assert known.outcomes(STREAMS[0], day.start_s, day.end_s) == street.outcomes(STREAMS[0], day.start_s, day.end_s)
    store.close()
