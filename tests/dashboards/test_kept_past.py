"""Feeds, messages, texts for the telephone and bulletins tell of days that are over, and are linked while these stay as
they are: the site is that of a build from nothing, whatever has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import maker_data, maker_outputs
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City
from murmure_dashboards.kept import Words
from murmure_dashboards.maker import Build
from murmure_dashboards.pdf import Press
from murmure_dashboards.site import build
from murmure_privacy import policy as policies
from murmure_privacy.annotation import Annotation, Withdrawal

NAMES = ("atom.xml", "message.txt", "telephone.txt", "bulletin.html", "bulletin-grand.html")
PAST = {f"{root}quartiers/centre/{name}" for root in ("", "en/") for name in NAMES}


@pytest.fixture(autouse=True)
def outputs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else than these files and those with values, and no wait for the disk."""
    monkeypatch.setattr(site_module, "MAKERS", (maker_outputs.OUTPUTS,))
    monkeypatch.setattr(maker_data, "data", lambda *of: iter(()))
    monkeypatch.setattr("os.sync", lambda: None)


def contents(out: Path) -> dict[str, bytes]:
    root = out.resolve()
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def linked(out: Path, street: Any, centre: City, now_s: int, again: Path, press: Any = None) -> set[str]:
    """Builds once more, as from nothing, and returns which files were linked."""
    before = {path: (out / path).stat().st_ino for path in PAST}
    report = build(street, centre, out, now_s, press)
    build(street, centre, again, now_s, press)
    found = contents(out)
    assert found == contents(again)
    assert report.files == len(found) and report.octets == sum(map(len, found.values()))
    return {path for path in PAST if (out / path).stat().st_ino == before[path]}


def test_a_quarter_hour_later_all_are_linked(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """With their twins. On the next day, and at an earlier instant, none is; nor without the store, which changes no
    byte."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, centre, out, now_s)
    assert linked(out, street, centre, now_s + 900, tmp_path / "one") == PAST
    assert linked(out, street, centre, now_s + 1800, tmp_path / "two") == PAST, "also from what was linked"
    (tmp_path / "site.store").unlink()
    assert linked(out, street, centre, now_s + 1800, tmp_path / "three") == set()
    assert linked(out, street, centre, now_s + 86_400, tmp_path / "four") == set()
    assert linked(out, street, centre, now_s, tmp_path / "five") == set()


def _missing(street: Any, streets: SimpleNamespace, back_days: int) -> Any:
    """Takes a node of so many days ago away, and returns it."""
    nodes = street.nodes["plaza/footfall"]
    day = streets.PARIS.day(streets.NOW_S - back_days * 86_400)
    missing = next(one for one in nodes if one.node.start_s in day and one.node.level == "1h")
    street.nodes["plaza/footfall"] = [one for one in nodes if one is not missing]
    return missing


def _comes_late(street: Any, one: Any) -> None:
    """It comes after all others, as the archive's next row."""
    street.late[one.node.key] = street.newest_row() + 1
    nodes = [*street.nodes["plaza/footfall"], one]
    street.nodes["plaza/footfall"] = sorted(nodes, key=lambda outcome: outcome.node.end_s)


def _before(street: Any, streets: SimpleNamespace, back_days: int) -> Any:
    """Returns a node of so many days before yesterday."""
    yesterday = streets.PARIS.day(streets.NOW_S - 86_400)
    one = next(one for one in street.nodes["plaza/footfall"] if one.node.start_s in yesterday)
    moved = {name: getattr(one.node, name) - back_days * 86_400 for name in ("start_s", "end_s", "covered_from_s")}
    return replace(one, node=replace(one.node, **moved))


@pytest.mark.parametrize("back_days", [1, 6])
def test_a_late_node_is_told(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, back_days: int
) -> None:
    """Of yesterday, and of the first day that a feed tells."""
    out, now_s, one = tmp_path / "site", streets.NOW_S - 900, _missing(street, streets, back_days)
    build(street, centre, out, now_s)
    _comes_late(street, one)
    assert linked(out, street, centre, now_s + 900, tmp_path / "again") == set()


def test_a_key_without_the_words_is_found_out(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what came late would not be told."""
    monkeypatch.setattr(Words, "of", lambda self, stream: "always the same")
    with pytest.raises(AssertionError):
        test_a_late_node_is_told(street, centre, streets, tmp_path, 1)


def test_what_comes_late_of_the_weeks_that_tell_what_is_usual_is_told(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """A node of the same weekday eight weeks ago, when it was measured already."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    _comes_late(street, _before(street, streets, 70))
    build(street, centre, out, now_s)
    before = {path: (out / path).stat().st_ino for path in PAST}
    _comes_late(street, _before(street, streets, 56))
    build(street, centre, out, now_s + 900)
    assert [path for path in PAST if (out / path).stat().st_ino == before[path]] == []


def test_a_word_that_reaches_less_far_back_is_found_out(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what is usual would be that of before."""
    monkeypatch.setattr(maker_outputs, "_BEFORE_S", 49 * 86_400)
    with pytest.raises(AssertionError):
        test_what_comes_late_of_the_weeks_that_tell_what_is_usual_is_told(street, centre, streets, tmp_path)


def _note(streets: SimpleNamespace) -> Annotation:
    when = streets.PARIS.day(streets.NOW_S - 2 * 86_400)
    about = ("plaza/noise", when.start_s, when.start_s + 7200, "device_fault")
    return Annotation("plaza", 1, streets.NOW_S - 1800, "Le capteur était couvert.", *about)


def _marked(street: Any, centre: City, streets: SimpleNamespace) -> City:
    street.notes = street.annotate(_note(streets)).notes
    return centre


def _renamed(street: Any, centre: City, streets: SimpleNamespace) -> City:
    return replace(centre, help="Mairie, 02 00 00 00 00")


def _ruled(street: Any, centre: City, streets: SimpleNamespace) -> City:
    (text,) = (one for one in street.signed.values() if b'"plaza"' in one)
    text = text.replace(b"version = 7", b"version = 8")
    street.signed = street.signed | {policies.parse(text, "test").hash: text}
    return centre


def _unsigned(street: Any, centre: City, streets: SimpleNamespace) -> City:
    street.signed_checkpoint = lambda: None
    return centre


def _waited(street: Any, centre: City, streets: SimpleNamespace) -> City:
    """Of another place: it tells another order in which all came."""
    street.filed_late = lambda: {7}
    street.told_by = lambda row: iter(())
    return centre


def _begun(street: Any, centre: City, streets: SimpleNamespace) -> City:
    """Of long before the weeks that a word tells of: the first day of the week is none on which measuring began."""
    _comes_late(street, _before(street, streets, 70))
    return centre


@pytest.mark.parametrize("change", [_marked, _renamed, _ruled, _unsigned, _waited, _begun])
def test_what_has_changed_is_written_anew(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path, change: Callable[..., City]
) -> None:
    """Annotations, the town's own words, a new policy, codes, what had waited."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, centre, out, now_s)
    changed = change(street, centre, streets)
    assert linked(out, street, changed, now_s + 900, tmp_path / "again") == set()


def test_what_stewards_take_back_is_written_anew(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """No mark holds, before and after: but a feed dates what was said of a day."""
    out, now_s, note = tmp_path / "site", streets.NOW_S - 900, _note(streets)
    build(street, centre, out, now_s)
    street.notes = street.annotate(note, Withdrawal("plaza", 2, note.issued_s + 60, "Il ne l'était pas.", 1)).notes
    assert linked(out, street, centre, now_s + 900, tmp_path / "again") == set()


ELEMENTS = ("everywhere", "words", "began", "notes", "policies")


@pytest.mark.parametrize(
    ("name", "change"),
    [("everywhere", _waited), ("everywhere", _unsigned), ("began", _begun), ("notes", _marked), ("policies", _ruled)],
)
def test_each_element_of_the_key_is_needed(
    street: Any,
    centre: City,
    streets: SimpleNamespace,
    given: Callable[..., Build],
    name: str,
    change: Callable[..., City],
) -> None:
    """What changes changes one of them, and no other would tell; late nodes are in the words alone."""

    def key() -> Any:
        class One:
            def of(self, stream: str) -> str:
                return stream

        ctx: Any = given(street, centre)
        words: Any = One()
        return maker_outputs._Told(ctx, ctx.quartiers[0], words, maker_outputs._everywhere(ctx)).made_of

    before = key()
    change(street, centre, streets)
    after = key()
    assert tuple(before) == ELEMENTS
    assert [element for element in before if repr(before[element]) != repr(after[element])] == [name]


def test_a_day_that_is_just_over_is_not_kept_before_all_has_come(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """At a quarter past midnight nothing tells yet that the day is over: its feed comes with the next quarter-hour."""
    out, midnight_s = tmp_path / "site", streets.PARIS.day(streets.NOW_S).start_s
    whole = street.nodes
    street.nodes = {stream: [one for one in nodes if one.node.end_s <= midnight_s] for stream, nodes in whole.items()}
    build(street, centre, out, midnight_s + 900)
    before = (out / "quartiers/centre/atom.xml").read_bytes()
    street.nodes = whole
    assert linked(out, street, centre, midnight_s + 1800, tmp_path / "again") == set()
    assert (out / "quartiers/centre/atom.xml").read_bytes() != before
    assert linked(out, street, centre, midnight_s + 2700, tmp_path / "third") == PAST


class Slow:
    """A press that prints each sheet only after the build that asked for it."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.spared: set[str] = set()

    def sheet(self, name: str, content: bytes, most: int, forms: Callable[[], Iterator[str]]) -> bytes | None:
        known = name in self.asked
        self.asked.add(name)
        return b"%PDF" if known else None

    def spare(self, name: str) -> None:
        self.spared.add(name)


def test_a_bulletin_is_kept_once_its_sheet_is_printed(
    street: Any, centre: City, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """Until then it is made again, so that it leads to the sheet as soon as that is there; afterwards the press
    spares it."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    press: Any = Slow()
    paper = {path for path in PAST if path.endswith(".html")}
    build(street, centre, out, now_s, press)
    assert not list(out.resolve().rglob("*.pdf"))
    assert linked(out, street, centre, now_s + 900, tmp_path / "one", press) == PAST - paper
    assert linked(out, street, centre, now_s + 1800, tmp_path / "two", press) == PAST
    assert len(list(out.resolve().rglob("*.pdf"))) == len(paper) == len(press.spared)
    assert linked(out, street, centre, now_s + 1800, tmp_path / "three") == PAST - paper, (
        "without a press there is none"
    )


def test_a_press_spares_what_stands_in_the_site(tmp_path: Path) -> None:
    """What was printed under a name, unless that name is asked for with another content; all else is forgotten."""
    press = Press(tmp_path, at_once=0)
    press.sheet("a.pdf", b"1", 1, lambda: iter(()))
    press.sheet("b.pdf", b"1", 1, lambda: iter(()))
    files = {name: tmp_path / f"{name}" for name in press._known}
    for file in files.values():
        file.write_bytes(b"%PDF")
    later = Press(tmp_path, at_once=0)
    later.spare("a.pdf")
    later.rest()
    assert [file.name.partition("-")[0] for file in tmp_path.iterdir()] == [_stem(press, "a.pdf")]
    changed = Press(tmp_path, at_once=0)
    changed.spare("a.pdf")
    assert changed.sheet("a.pdf", b"2", 1, lambda: iter(())) is None
    changed.missing = "pango"
    changed.rest()
    assert not list(tmp_path.iterdir())


def _stem(press: Press, name: str) -> str:
    probe = Press(press._folder / "none", at_once=0)
    probe.sheet(name, b"", 1, lambda: iter(()))
    (known,) = probe._known
    return known.partition("-")[0]
