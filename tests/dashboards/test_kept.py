"""Pages that are linked and not made again: the site is that of a build from nothing, whatever has changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from copy import copy
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import blocks, maker_quartier
from murmure_dashboards import days as days_module
from murmure_dashboards import kept as kept_module
from murmure_dashboards import site as site_module
from murmure_dashboards import store as store_module
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build
from murmure_dashboards.opendata import ANNOTATIONS
from murmure_dashboards.packed import compressed
from murmure_dashboards.pages import Link
from murmure_dashboards.site import build
from murmure_dashboards.store import Store
from murmure_dashboards.stories import Streams
from murmure_privacy import policy as policies
from murmure_privacy.annotation import Annotation
from murmure_privacy.release import Withheld
from murmure_privacy.window import Window

pytestmark = pytest.mark.usefixtures("quartiers_alone")

LONG = [f"{root}quartiers/centre/{span}/index.html" for root in ("", "en/") for span in ("mois", "annee")]


def contents(out: Path) -> dict[str, bytes]:
    root = out.resolve()
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def linked(out: Path, street: Any, centre: City, now_s: int, again: Path) -> set[str]:
    """Builds once more, as from nothing, and returns which pages of a month or a year were linked."""
    before = {path: (out / path).stat().st_ino for path in LONG}
    report = build(street, centre, out, now_s)
    build(street, centre, again, now_s)
    found = contents(out)
    assert found == contents(again)
    assert report.files == len(found) and report.octets == sum(map(len, found.values()))
    assert report.pages == sum(path.endswith(".html") for path in found)
    return {path for path in LONG if (out / path).stat().st_ino == before[path]}


def test_a_quarter_hour_later_the_month_and_the_year_are_linked(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """With their twins; the day is written anew. On the next day all are."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, centre, out, now_s)
    assert linked(out, street, centre, now_s + 900, tmp_path / "one") == set(LONG)
    assert linked(out, street, centre, now_s + 86_400, tmp_path / "two") == set()
    assert linked(out, street, centre, now_s, tmp_path / "three") == set(), "an earlier instant knows less"


def _node(street: Any, streets: SimpleNamespace) -> Any:
    """Takes a node of the day before yesterday away, and returns it."""
    nodes = street.nodes["plaza/footfall"]
    missing = next(one for one in nodes if one.node.start_s > streets.NOW_S - 2 * 86_400)
    street.nodes["plaza/footfall"] = [one for one in nodes if one is not missing]
    return missing


def _comes_late(street: Any, one: Any) -> None:
    """It comes after all others, as the archive's next row."""
    street.late[one.node.key] = street.newest_row() + 1
    nodes = [*street.nodes["plaza/footfall"], one]
    street.nodes["plaza/footfall"] = sorted(nodes, key=lambda outcome: outcome.node.end_s)


def _marked(street: Any, centre: City, streets: SimpleNamespace) -> City:
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
    return centre


def _renamed(street: Any, centre: City, streets: SimpleNamespace) -> City:
    return replace(centre, help="Mairie, 02 00 00 00 00")


def _ruled(street: Any, centre: City, streets: SimpleNamespace) -> City:
    (text,) = (one for one in street.signed.values() if b'"plaza"' in one)
    street.signed = street.signed | _signed(text.replace(b"version = 7", b"version = 8"))
    return centre


def _signed(text: bytes) -> dict[bytes, bytes]:
    return {policies.parse(text, "test").hash: text}


@pytest.mark.parametrize("change", [_marked, _renamed, _ruled])
def test_what_has_changed_is_written_anew(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, change: Callable[..., City]
) -> None:
    """Annotations, the town's own words, a new policy."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, centre, out, now_s)
    changed = change(street, centre, streets)
    assert linked(out, street, changed, now_s + 900, tmp_path / "again") == set()


def test_what_is_old_is_forgotten_once_a_day(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the first build of a day, which goes through all rows; the others leave that."""
    asked: list[str] = []
    forget = store_module.Store.forget

    def watched(store: store_module.Store, kinds: Collection[str], before_s: int) -> None:
        asked.extend(kinds)
        forget(store, kinds, before_s)

    monkeypatch.setattr(store_module.Store, "forget", watched)
    for later_s, all_of_them in ((0, True), (900, False), (86_400, True)):
        asked.clear()
        build(street, centre, tmp_path / "site", streets.NOW_S + later_s)
        assert (kept_module.WORDS in asked) is all_of_them and (blocks.KIND in asked) is all_of_them


def test_a_late_node_is_on_the_month_and_the_year(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """It has a later row than all others: what the store has of the pages stays, and is not theirs any more."""
    out, now_s, one = tmp_path / "site", streets.NOW_S - 900, _node(street, streets)
    build(street, centre, out, now_s)
    _comes_late(street, one)
    assert linked(out, street, centre, now_s + 900, tmp_path / "again") == set()


def test_a_key_without_the_days_is_found_out(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: pages without what came late would be linked."""
    sums = kept_module.sum_of_days
    monkeypatch.setattr(maker_quartier, "sum_of_days", lambda *of: sums(*of) and "x")
    with pytest.raises(AssertionError):
        test_a_late_node_is_on_the_month_and_the_year(street, centre, streets, tmp_path)


def test_the_sum_of_days_is_kept_until_something_comes_of_them(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, given: Callable[..., Build]
) -> None:
    """And at no instant at which one of them was not over."""
    place = tmp_path / "a.store"

    def told(now_s: int, worked_out: bool = True) -> str | None:
        with closing(Store.open(place, street, centre.timezone)) as store:
            ctx = replace(given(street, centre), now_s=now_s, store=store)
            (info,) = (one for one in ctx.streams if one.stream == "plaza/footfall")
            window = Window(ctx.today.start_s - 40 * 86_400, ctx.today.start_s)
            if worked_out:
                ctx.days.of(info, window)
            return kept_module.sum_of_days(ctx.days, info, window)

    def anew(now_s: int) -> str | None:
        place.unlink()
        return told(now_s)

    one, now_s = _node(street, streets), streets.NOW_S
    first = told(now_s)
    assert first is not None and first == told(now_s) == anew(now_s)
    with closing(Store(place)) as store:
        store.forget((days_module.KIND,), now_s)
    assert told(now_s, worked_out=False) == first, "the days are summed up once"
    midnight_s = streets.PARIS.day(now_s - 1).start_s
    assert told(midnight_s) is None
    _comes_late(street, one)
    late = told(now_s)
    assert late not in (None, first) and late == anew(now_s)


def test_the_sum_of_days_has_the_evening_of_the_first_night(
    street: Any, centre: City, streets: SimpleNamespace, given: Callable[..., Build]
) -> None:
    """A box that was mounted in the evening has a day before the one on which its first node ended."""
    sums = []
    for evening in (None, "as it was told first", "as it was told after something came late"):
        with closing(Store.open(None, street, centre.timezone)) as store:
            ctx = replace(given(street, centre), store=store)
            (info,) = (one for one in ctx.streams if one.stream == "plaza/footfall")
            window = Window(ctx.today.start_s - 400 * 86_400, ctx.today.start_s)
            ctx.days.of(info, window)
            began_s = ctx.archive.began_s(info.stream)
            assert began_s is not None and window.start_s + 2 * 86_400 < began_s
            eve = ctx.calendar.day(ctx.calendar.day(began_s - 1).start_s - 1)
            if evening is not None:
                row = json.dumps([[eve.start_s, eve.end_s], eve.end_s, evening]).encode()
                store.keep(days_module.KIND, info.stream, eve.start_s, eve, row)
            sums.append(kept_module.sum_of_days(ctx.days, info, window))
    assert None not in sums and len(set(sums)) == 3


Pair = Callable[[Build, SimpleNamespace], tuple[Build, Build]]


def _days(ctx: Build, streets: SimpleNamespace) -> tuple[Build, Build]:
    without: Any = copy(ctx.archive)
    without.nodes = dict(without.nodes)
    _node(without, streets)
    return replace(ctx, archive=without), ctx


def _windows(ctx: Build, streets: SimpleNamespace) -> tuple[Build, Build]:
    """Of a neighbourhood where nothing is measured, the dates alone."""
    nothing = replace(ctx, streams=())
    tomorrow = streets.PARIS.day(ctx.today.end_s)
    return nothing, replace(nothing, now_s=ctx.now_s + 86_400, today=tomorrow)


def _marks(ctx: Build, streets: SimpleNamespace) -> tuple[Build, Build]:
    """The same size, said otherwise."""
    when = streets.PARIS.day(streets.NOW_S - 2 * 86_400)
    mark = Annotation("plaza", 1, when.end_s, "Une bâche.", "plaza/noise", when.start_s, when.end_s, "obstructed")
    return replace(ctx, marks=(mark,)), replace(ctx, marks=(replace(mark, sentence="Une caisse"),))


def _octets(ctx: Build, streets: SimpleNamespace) -> tuple[Build, Build]:
    """Another place was annotated: the file whose size the page tells is larger."""
    marked, _ = _marks(ctx, streets)
    return marked, replace(marked, octets={ANNOTATIONS: 9999})


def _policies(ctx: Build, streets: SimpleNamespace) -> tuple[Build, Build]:
    ruled = copy(ctx.archive)
    _ruled(ruled, ctx.city, streets)
    return ctx, replace(ctx, archive=ruled)


def _coded(ctx: Build, streets: SimpleNamespace) -> tuple[Build, Build]:
    """The first checkpoint of the log."""
    unsigned: Any = copy(ctx.archive)
    unsigned.signed_checkpoint = lambda: None
    return replace(ctx, archive=unsigned), ctx


def _paused(ctx: Build, streets: SimpleNamespace) -> tuple[Build, Build]:
    """The last nodes of today are not released any more."""
    paused: Any = copy(ctx.archive)
    paused.nodes = {
        stream: [one if one.node.end_s <= ctx.now_s - 7200 else Withheld(one.node, "paused") for one in nodes]
        for stream, nodes in paused.nodes.items()
    }
    return ctx, replace(ctx, archive=paused)


KEY: Mapping[str, Pair] = {
    "windows": _windows,
    "days": _days,
    "marks": _marks,
    "octets": _octets,
    "policies": _policies,
    "coded": _coded,
    "next day": _paused,
}


@pytest.fixture
def ctx(street: Any, centre: City, given: Callable[..., Build]) -> Build:
    """One build of the neighbourhood."""
    return replace(given(street, centre), octets={ANNOTATIONS: 99})


def key(ctx: Build) -> Mapping[str, object]:
    streams = Streams(ctx, ctx.quartiers[0])
    maker_quartier._long(streams)  # as the pages do, which works the days out
    made = maker_quartier._made_of(streams)
    assert made is not None
    return made


@pytest.mark.parametrize("name", KEY)
def test_each_element_of_the_key_is_needed(ctx: Build, streets: SimpleNamespace, name: str) -> None:
    """Whatever changes changes one of them, and no other would tell: without it, the page of before would be linked."""
    before, after = (key(one) for one in KEY[name](ctx, streets))
    assert [element for element in before if repr(before[element]) != repr(after[element])] == [name]
    assert before.keys() == KEY.keys()


@pytest.mark.parametrize("name", KEY)
def test_a_key_without_an_element_is_found_out(
    ctx: Build, streets: SimpleNamespace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twins."""
    made = maker_quartier._made_of

    def without(streams: Streams) -> Mapping[str, object]:
        return {element: said for element, said in (made(streams) or {}).items() if element != name}

    monkeypatch.setattr(maker_quartier, "_made_of", without)
    with pytest.raises(AssertionError):
        test_each_element_of_the_key_is_needed(ctx, streets, name)


def test_limits_links_and_the_town_are_in_the_key_of_all(ctx: Build, tmp_path: Path) -> None:
    """A limit that changes in the same file, a new page that each foot leads to, the town's name."""
    limits = tmp_path / "limits.toml"
    own = resources.files("murmure_dashboards").joinpath("thresholds.toml").read_text(encoding="utf-8")
    limits.write_text(own, encoding="utf-8")
    town = replace(ctx, city=replace(ctx.city, thresholds=limits))
    told = [town._common]
    limits.write_text(own.replace("value = 68", "value = 67"), encoding="utf-8")
    told.append(replace(town)._common)
    told.append(replace(town, links=(Link("page.privacy", "vie-privee/"),))._common)
    told.append(replace(town, city=replace(town.city, city="Ailleurs"))._common)
    assert len(set(told)) == 4


def test_other_rules_of_the_timezone_make_all_again(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same name: the sums of the pages are not in the store any more."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, centre, out, now_s)
    monkeypatch.setattr(store_module, "zone_sum", lambda timezone: "other rules")
    assert linked(out, street, centre, now_s, tmp_path / "again") == set()


@pytest.mark.parametrize("name", [LONG[0], f"{LONG[1]}.gz"])
def test_a_file_that_was_damaged_is_made_again(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, name: str
) -> None:
    """Page or twin, cut or gone."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, centre, out, now_s)
    whole = (out / name).read_bytes()
    (out.resolve() / name).write_bytes(whole[:-1])
    assert linked(out, street, centre, now_s, tmp_path / "one") == set()
    (out.resolve() / name).unlink()
    build(street, centre, out, now_s)
    assert (out / name).read_bytes() == whole


def test_a_page_is_read_through_once_and_whenever_it_was_touched(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where somebody has given it back its length and the time at which it was written."""
    out, now_s, read = tmp_path / "site", streets.NOW_S - 900, Path.read_bytes
    seen: set[str] = set()

    def watched(path: Path) -> bytes:
        seen.add(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", watched)
    monkeypatch.setattr(site_module, "PATIENCE_S", 0)
    for at_s in (0, 60, 120, 180, 240):  # written, twice linked and so touched, then in folders that are filled again
        seen.clear()
        build(street, centre, out, now_s + at_s)
    assert "index.html.gz" not in seen
    monkeypatch.undo()
    page = out.resolve() / LONG[2]
    whole, then = page.read_bytes(), page.stat()
    page.write_bytes(whole.replace(b"</p>", b"</q>"))
    os.utime(page, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert LONG[2] not in linked(out, street, centre, now_s + 3600, tmp_path / "again")


def test_a_kept_page_is_read_through_again_on_each_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a disk has lost without a write, nothing else would find."""
    store, read, seen = Store(None), Path.read_bytes, list[str]()
    (tmp_path / "page.html").write_bytes(b"page")
    (tmp_path / "page.html.gz").write_bytes(compressed(b"page"))

    def watched(path: Path) -> bytes:
        seen.append(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", watched)

    def reads(now_s: int) -> int:
        seen.clear()
        taken: list[str] = []
        kept = kept_module.Kept(tmp_path, store, now_s, taken.append, os.urandom)
        made = list(kept.files("group", "of", [("page.html", b"page")]))
        assert made == ([] if taken else [("page.html", b"page")])
        return seen.count("page.html") if taken else -1

    assert [reads(now_s) for now_s in (0, 60, 120, 86_340, 86_400, 86_460)] == [-1, 1, 0, 0, 1, 0]


def test_another_murmure_makes_all_again(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code, templates, catalogues, the packages that pages are written with."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, centre, out, now_s)
    monkeypatch.setattr(kept_module, "_made_with", lambda: "another")
    assert linked(out, street, centre, now_s, tmp_path / "again") == set()


def test_the_sum_of_what_pages_are_made_with_is_that_of_every_file() -> None:
    """A template, a catalogue and a table of limits are among them."""
    package = resources.files("murmure_dashboards")
    held, folder = b"".join(kept_module._contents(package)), Path(str(package))
    for name in ("templates/long.html", "locale/fr/long.toml", "thresholds.toml", "static/murmure.css"):
        assert (folder / name).read_bytes() in held
