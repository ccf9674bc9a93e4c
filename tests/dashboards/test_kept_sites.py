"""The pages of a site, in the register and on privacy, are linked while the same is so of it: a quarter-hour more of
figures changes none of them."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import maker_privacy, maker_register
from murmure_dashboards import site as site_module
from murmure_dashboards.accounts import spent
from murmure_dashboards.config import City
from murmure_dashboards.decisions import decisions
from murmure_dashboards.maker import Build
from murmure_dashboards.pauses import by_site
from murmure_dashboards.site import build
from murmure_privacy import policy as policies
from murmure_privacy.release import Withheld

OF_A_SITE = {
    f"{root}{path}index.html"
    for root in ("", "en/")
    for path in ("capteurs/plaza/", "capteurs/plaza/affiche/", "c/A17/", "vie-privee/plaza/")
}


@pytest.fixture(autouse=True)
def sites_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other pages than those of sites, and no wait for the disk."""
    monkeypatch.setattr(site_module, "MAKERS", (maker_register.MAKER, maker_privacy.MAKER))
    monkeypatch.setattr("os.sync", lambda: None)


@pytest.fixture
def city(city: City) -> City:
    """One place of the town."""
    return replace(city, quartier=city.quartier[:1], site=tuple(one for one in city.site if one.id == "plaza"))


def contents(out: Path) -> dict[str, bytes]:
    root = out.resolve()
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def linked(out: Path, street: Any, city: City, now_s: int, again: Path) -> set[str]:
    """Builds once more, as from nothing, and returns which pages of the site were linked."""
    before = {path: (out / path).stat().st_ino for path in OF_A_SITE}
    build(street, city, out, now_s)
    build(street, city, again, now_s)
    assert contents(out) == contents(again)
    return {path for path in OF_A_SITE if (out / path).stat().st_ino == before[path]}


def test_a_quarter_hour_later_all_are_linked(street: Any, city: City, streets: SimpleNamespace, tmp_path: Path) -> None:
    """On the next day none is."""
    out, now_s = tmp_path / "site", streets.NOW_S - 900
    build(street, city, out, now_s)
    assert linked(out, street, city, now_s + 900, tmp_path / "one") == OF_A_SITE
    assert linked(out, street, city, now_s + 86_400, tmp_path / "two") == set()


def _ruled(street: Any) -> Any:
    """Nobody has gone by it yet."""
    ruled = copy(street)
    (text,) = (one for one in ruled.signed.values() if b'"plaza"' in one)
    text = text.replace(b"version = 7", b"version = 8")
    ruled.signed = ruled.signed | {policies.parse(text, "test").hash: text}
    return ruled


def _paused(street: Any, since_s: int) -> Any:
    """The last nodes of today are not released any more."""
    paused: Any = copy(street)
    paused.nodes = {
        stream: [one if one.node.end_s <= since_s else Withheld(one.node, "paused") for one in nodes]
        for stream, nodes in street.nodes.items()
    }
    return paused


def test_what_is_decided_and_paused_is_told(street: Any, city: City, streets: SimpleNamespace, tmp_path: Path) -> None:
    """At the next build: a policy, then a pause (of what was not released before), the town's own words."""
    out, now_s = tmp_path / "site", streets.NOW_S - 1800
    build(street, city, out, now_s)
    ruled = _ruled(street)
    assert linked(out, ruled, city, now_s + 900, tmp_path / "one") == set()
    paused = _paused(ruled, now_s + 900)
    assert linked(out, paused, city, now_s + 1800, tmp_path / "two") == set()
    other = replace(city, help="Mairie, 02 00 00 00 00")
    assert linked(out, paused, other, now_s + 1800, tmp_path / "three") == set()


def keys(ctx: Build) -> dict[str, object]:
    """Returns what both makers say that the pages of the site follow from."""
    (site,) = ctx.city.site
    today = ctx.calendar.civil_day(ctx.now_s - 1)
    stopped = by_site(ctx.ledger).get(site.id, {})
    held = decisions(ctx.archive, ctx.rules, site.id)
    of_register = maker_register._made_of(ctx, site, stopped, today)
    last = ctx.calendar.civil_day(ctx.today.start_s - 1)
    of_privacy = maker_privacy._made_of(ctx, site, held, spent(ctx.ledger), stopped, today, last)
    return {
        **{f"register {name}": value for name, value in of_register.items()},
        **{f"privacy {name}": value for name, value in of_privacy.items()},
    }


def changed(before: Build, after: Build) -> set[str]:
    was, now = keys(before), keys(after)
    assert was.keys() == now.keys()
    return {name for name in was if repr(was[name]) != repr(now[name])}


def test_each_element_of_the_keys_is_needed(
    street: Any, city: City, streets: SimpleNamespace, given: Callable[..., Build]
) -> None:
    """What changes changes one of them, and no other would tell of it; what the day that runs has spent, none."""
    ctx = given(street, city)
    assert changed(given(street, city, streets.NOW_S - 900), ctx) == set()
    assert changed(ctx, replace(ctx, archive=_ruled(street))) == {"register policies", "privacy policies"}
    assert changed(ctx, replace(ctx, archive=street, streams=ctx.streams[1:])) >= {"register streams"}
    cut = [line for line in ctx.ledger if b'"2026-11-20"' not in line]
    assert changed(ctx, replace(ctx, ledger=cut)) == {"privacy spent"}
    paused = given(_paused(street, ctx.now_s - 7200), city)
    assert changed(ctx, paused) == {"register paused", "privacy paused"}
    midnight_s = ctx.today.end_s
    assert changed(replace(ctx, streams=(), now_s=midnight_s - 1), replace(ctx, streams=(), now_s=midnight_s)) == {
        "register dates"
    }, "a sensor is a month older"


def test_the_bounds_by_which_is_measured_are_those_of_the_policy_that_holds(
    street: Any, city: City, streets: SimpleNamespace, given: Callable[..., Build]
) -> None:
    """A policy is signed first, and the gateway goes by it later."""
    ruled = _ruled(street)
    newest = max(ruled.policies("plaza"), key=lambda one: one.version).hash
    followed: Any = copy(ruled)
    followed.nodes = {
        stream: [
            replace(one, node=replace(one.node, policy=newest)) if one.node.end_s > streets.NOW_S - 7200 else one
            for one in nodes
        ]
        for stream, nodes in street.nodes.items()
    }
    before = given(ruled, city)
    assert changed(before, replace(before, archive=followed)) == {"register rules"}
