"""The privacy pages: every figure follows from published files, and whoever redoes the sums finds the same."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import accounts, maker_privacy
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build
from murmure_dashboards.site import render
from murmure_privacy import policy as policies
from murmure_privacy.plan import plan
from murmure_privacy.preview import habit_rho_micro
from murmure_privacy.window import Window

TODAY, LAST = date(2026, 11, 21), date(2026, 11, 20)
MOST_LINES = 100
ROW = re.compile(r'<tr><th scope="row">[^<]*</th><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td></tr>')
SEVERAL = re.compile(
    r"(?:Deux fois|Deux fois plus long) : on devine juste ([^.]*)\. Quatre fois : ([^.]*)\. Dix fois : ([^.]*)\."
)
TOGETHER = re.compile(r"<li>[^<]*ε = ([^,]*(?:,\d+)?), on devine juste ([^.<]*)\.</li>")


@pytest.fixture(scope="module")
def recompute() -> ModuleType:
    """Anyone's own sums."""
    spec = importlib.util.spec_from_file_location("recompute", Path(__file__).parent / "recompute.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def number(text: str) -> float:
    """Reads a French number back."""
    return float(text.replace("\u202f", "").replace("\xa0", "").replace(",", "."))


def share(text: str) -> int:
    """Reads back how many guesses in a hundred are right; beyond 99 the page writes words."""
    return 100 if text == "presque toujours" else int(text.split()[0])


def wrong(pages: Path, told: dict[str, Any]) -> Iterator[str]:
    """Yields each figure of the pages that is not what somebody else's sums say, rounded up."""
    for site, streams in told.items():
        text = (pages / "vie-privee" / site / "index.html").read_text(encoding="utf-8").replace("\u00a0", " ")
        rows, several = ROW.findall(text), SEVERAL.findall(text)
        own = [lines for name, lines in streams.items() if name != "together"]
        assert len(rows) == 4 * len(own) and len(several) == len(own), site
        for place, lines in enumerate(own):
            for span, (allowed, spent, right) in enumerate(lines[:4]):
                row = rows[4 * place + span]
                for shown, true in ((row[0], allowed), (row[1], spent)):
                    if not up(number(shown), true):
                        yield f"{site} {span}: {shown} for {true}"
                if not whole(share(row[2]), right):
                    yield f"{site} {span}: {row[2]} for {right}"
            for shown, right in zip(several[place], lines[4], strict=True):
                if not whole(share(shown), right):
                    yield f"{site}: {shown} for {right}"
        sums = TOGETHER.findall(text)
        assert len(sums) == (4 if len(own) > 1 else 0)
        for (shown, right), (true, often) in zip(sums, streams["together"] if sums else (), strict=True):
            if not up(number(shown), true) or not whole(share(right), often):
                yield f"{site}: together {shown}, {right} for {true}, {often}"


def up(shown: float, true: float) -> bool:
    """Whether a figure is rounded up to three figures."""
    slack = 1e-9 + 1e-7 * true
    return true - slack <= shown <= true + (10.0 ** Decimal(true).adjusted() / 100 if true else 0) + slack


def whole(shown: int, right: float) -> bool:
    """Whether a share is rounded up; one beyond 99 is as good as all."""
    return shown == 100 if right > 99 else right - 1e-4 <= shown < right + 1.02


def test_every_figure_can_be_redone_from_the_published_files(site: Path, recompute: ModuleType) -> None:
    """Allowed, spent, right guesses, several at once and all series together, of every place."""
    told = recompute.figures(site / "donnees", TODAY, LAST)
    assert len(told) == 3
    assert list(wrong(site, told)) == []


def test_a_ledger_with_one_charge_more_is_found(site: Path, recompute: ModuleType, tmp_path: Path) -> None:
    """The check of the figures sees a tenth more on one day of one stream."""
    shutil.copytree(site / "donnees", tmp_path / "donnees")
    ledger = tmp_path / "donnees" / "ledger.jsonl"
    lines = ledger.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if '"day":"2026-11-20"' in line and '"plaza/noise"' in line)
    lines[at] = re.sub(r'"spent_rho_micro":(\d+)', lambda m: f'"spent_rho_micro":{int(m[1]) * 11 // 10}', lines[at])
    ledger.write_text("\n".join(lines))
    assert any(one.startswith("plaza") for one in wrong(site, recompute.figures(tmp_path / "donnees", TODAY, LAST)))


@pytest.fixture(scope="module")
def weekly(streets: SimpleNamespace, city: City, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of one place whose rule publishes weeks, too: one of them is over, and the next one not."""
    street, out = streets.Street(), tmp_path_factory.mktemp("weekly")
    swap = [('"1d" = 1 }', '"1d" = 1, "1w" = 1 }'), ('"1d" = 24 }', '"1d" = 24, "1w" = 168 }')]
    window = Window(streets.PARIS.midnight(date(2026, 11, 9)), streets.PARIS.day(streets.NOW_S).end_s)
    streets.add(street, "plaza", window, swap=swap)
    for path, content in render(street, replace(city, quartier=city.quartier[:1], site=city.site[:1]), streets.NOW_S):
        if path.startswith(("donnees/ledger", "donnees/politiques/", "vie-privee/plaza/")):
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(content)
    return out


def test_a_week_that_is_published_counts_with_each_day_of_it(weekly: Path, recompute: ModuleType) -> None:
    """Its node has all seven days in it: who was there on n of them is in it n times, which costs n²."""
    told = recompute.figures(weekly / "donnees", TODAY, LAST)
    assert len(told) == 1 and list(wrong(weekly, told)) == []
    daily = [line for name, line in told["plaza"].items() if name != "together"]
    assert all(line[1][0] > recompute.epsilon(7 * recompute.allowance(line[0][0], 1e-6) / 1e6, 1e-6) for line in daily)


@pytest.mark.parametrize("instead", ['"node":"1d","released":1', '"node":"1w","released":0'])
def test_a_week_that_nobody_squared_is_found(weekly: Path, recompute: ModuleType, tmp_path: Path, instead: str) -> None:
    """Sums that take a week for a day, or that do not know that it was published, are not those of the page."""
    shutil.copytree(weekly / "donnees", tmp_path / "donnees")
    ledger = tmp_path / "donnees" / "ledger.jsonl"
    text = ledger.read_text()
    assert text.count('"node":"1w","released":1') == 3
    ledger.write_text(text.replace('"node":"1w","released":1', instead))
    assert list(wrong(weekly, recompute.figures(tmp_path / "donnees", TODAY, LAST)))


def test_the_sums_are_short_and_need_nothing(recompute: ModuleType) -> None:
    """A hundred lines at most, and the standard library alone."""
    text = (Path(__file__).parent / "recompute.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    named = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }
    assert named and named <= sys.stdlib_module_names


def test_the_pages_read_ledger_and_policies_alone(given: Callable[..., Build], archive: Any, city: City) -> None:
    """With nothing of the archive but its signed policies and the root of its log, the pages are the same."""
    whole = given(archive, city)
    bare = SimpleNamespace(
        policies=archive.policies, policy=archive.policy, signed_checkpoint=archive.signed_checkpoint
    )
    given_to = [field.name for field in dataclasses.fields(whole) if field.init]
    alone = Build(**{name: getattr(whole, name) for name in given_to} | {"archive": bare})
    assert dict(maker_privacy.files(alone)) == dict(maker_privacy.files(whole))


def test_a_habit_costs_what_the_policy_foresees(streets: SimpleNamespace) -> None:
    """Spent over spans is the sum that `policy preview` allows, weekly nodes squared, when every node is charged."""
    swap = [('"1d" = 1 }}'.replace("}}", "}"), '"1d" = 1, "1w" = 1 }')]
    street = streets.Street()
    policy = streets.add(street, "plaza", streets.PARIS.day(streets.NOW_S), streams=("footfall",), swap=swap)
    made = plan(policy).streams["plaza/footfall"]
    week = made.node("1w")
    assert week is not None
    monday = date(2026, 11, 16)
    most = {date.fromordinal(monday.toordinal() + n): made.rho_micro for n in range(7)}
    own = accounts.Spent(most, {monday: week.rho_micro})
    assert own.habit(date(2026, 11, 22), 7) == habit_rho_micro(made, 7)
    assert own.habit(date(2026, 11, 18), 3) == habit_rho_micro(made, 3)
    assert accounts.Spent(most, {}).habit(date(2026, 11, 22), 7) < habit_rho_micro(made, 7)


def test_what_is_shown_is_never_too_small() -> None:
    """Epsilon and right guesses are rounded up; a budget of nothing tells nothing."""
    delta = Decimal("0.000001")
    assert accounts.risk(0, delta) == accounts.Risk(Decimal(0), 50)
    assert accounts.risk(24_000, delta).epsilon >= Decimal("0.99")
    assert accounts.risk(10_000_000, delta).guesses == 100


def test_decisions_say_what_they_change(streets: SimpleNamespace, given: Callable[..., Build], city: City) -> None:
    """A rule with half the budget is stricter, one that pauses says so, and the newest stands first."""
    street = streets.town()
    old = next(one for one in street.policies("plaza"))
    stricter = old.toml.replace(b"version = 7", b"version = 8").replace(b"epsilon = 1.0", b"epsilon = 0.5", 1)
    paused = stricter.replace(b"version = 8", b"version = 9\npaused = true")
    for text in (stricter, paused):
        street.signed[policies.parse(text, "test").hash] = text
    pages = dict(maker_privacy.files(given(street, city)))
    overview, page = (pages[f"vie-privee/{place}index.html"].decode() for place in ("", "plaza/"))
    assert overview.count("Tout y est suspendu par décision.") == 1 and "Une partie est suspendue" not in overview
    assert page.index("Règle 9") < page.index("Règle 8") < page.index("Règle 7")
    assert (
        "Plus stricte pour\u00a0: Passages (budget ε de 1 à 0,5, plus de brouillage)." in page
        and "Moins stricte" not in page
    )
    assert "Suspend\u00a0: Passages, Niveau sonore, Particules PM2,5." in page
    assert page.count("la règle 9 arrête la publication") == 3


def test_the_root_of_the_log_stands_where_anybody_can_note_it(
    archive: Any, given: Callable[..., Build], city: City
) -> None:
    """Number and root of the signed note, with a link to the file; before anything is signed there is no such line."""
    note = b"murmure/55030a10ef09612e\n1234\nwceEF+xpP04u4XTFQmUTKlqsgtoqFa3SO8Fd/1JHmk4=\n\n\xe2\x80\x94 x y\n"
    signed = copy(archive)
    signed.signed_checkpoint = lambda: (1234, b"", note)
    page = dict(maker_privacy.files(given(signed, city)))["vie-privee/index.html"].decode()
    assert "<code>wceEF+xpP04u4XTFQmUTKlqsgtoqFa3SO8Fd/1JHmk4=</code>" in page and "1\u202f234 lignes" in page
    assert 'href="../donnees/journal/checkpoint.txt"' in page and 'id="verifier"' in page
    signed.signed_checkpoint = lambda: None
    unsigned = dict(maker_privacy.files(given(signed, city)))["vie-privee/index.html"].decode()
    assert "checkpoint" not in unsigned and "murmure verify" not in unsigned
