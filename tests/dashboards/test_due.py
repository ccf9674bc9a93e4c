"""When figures are said to come: only where a policy still holds then, and nothing has stopped the stream."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import pytest
from murmure_dashboards import due as due_module
from murmure_dashboards import maker_home, maker_quartier
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build
from murmure_dashboards.opendata import ANNOTATIONS
from murmure_dashboards.stories import Streams
from murmure_dashboards.wording import LANGUAGES, language

HOUR_S = 3600
Made = Callable[..., Build]


@pytest.fixture
def town(given: Callable[..., Build], streets: SimpleNamespace, city: City) -> Made:
    """Gives a town of one place. `heard_s`: until when its gateway was heard; `stopped`: from when on, and why, nothing
    is released; `until`: the last day of its policy."""

    def made(
        now_s: int = streets.NOW_S,
        heard_s: int | None = None,
        stopped: tuple[int, str] | None = None,
        until: str = "2027-11-30",
        streams: tuple[str, ...] = ("footfall",),
        swap: tuple[tuple[str, str], ...] = (),
    ) -> Build:
        street = streets.Street()
        streets.add(
            street,
            "plaza",
            streets.week_of(now_s),
            now_s=now_s if heard_s is None else heard_s,
            withheld=lambda stream, node: stopped[1] if stopped and node.end_s > stopped[0] else None,
            streams=streams,
            swap=[("valid_until = 2027-11-30", f"valid_until = {until}"), *swap],
        )
        sites = tuple(one for one in city.site if one.id == "plaza")
        ctx = given(street, replace(city, quartier=city.quartier[:1], site=sites, geojson=(), request=()), now_s)
        return replace(ctx, octets={ANNOTATIONS: 99})

    return made


def hours(ctx: Build) -> list[str]:
    """Returns what the pages of the town and of its neighbourhood say of the next figures, in each language."""
    shown, found = list(Streams(ctx, ctx.quartiers[0]).shown[False].values()), list[str]()
    home = dict(maker_home.files(ctx))
    for code in LANGUAGES:
        say = language(code)
        words = re.escape(say("page.next", hour="@")).replace("@", r"([^,]*)")
        page = home["index.html" if code == "fr" else "en/index.html"].decode()
        on_home = re.findall(words, page)
        beside = re.findall(words, " ".join(maker_quartier._fresh(ctx, say, shown)))
        assert on_home == beside, "both pages say the same"
        found += on_home
    assert bool(found) == (maker_home._next_s(ctx) is not None)
    return [one.replace("\u00a0", " ") for one in found]


def comes(ctx: Build) -> bool:
    return maker_quartier._next_day(Streams(ctx, ctx.quartiers[0]))


def test_the_open_node_that_ends_first_is_named(town: Made) -> None:
    """Of all streams; on both pages in the same words, with the reserve."""
    assert hours(town()) == ["15 h 30", "15:30"]
    assert hours(town(streams=("noise",))) == ["16 h", "16:00"]
    assert "si les boîtiers et le centre fonctionnent" in language("fr")("page.next", hour="")


@pytest.mark.parametrize("reason", due_module.STOPPED)
def test_nothing_is_expected_of_what_was_stopped(town: Made, streets: SimpleNamespace, reason: str) -> None:
    """Since this morning, or since yesterday: neither figures of today nor a next day."""
    midnight = streets.PARIS.day(streets.NOW_S).start_s
    for from_s in (midnight + 10 * HOUR_S, midnight - 5 * HOUR_S):
        ctx = town(stopped=(from_s, reason))
        assert hours(ctx) == [] and not comes(ctx)
    # Of a stream with days alone, today says nothing yet: what stopped yesterday tells.
    days = (('nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }', 'nodes = { "1d" = 1 }'),)
    assert not comes(town(stopped=(midnight - 5 * HOUR_S, reason), swap=days))
    assert comes(town(swap=days))


def test_a_sensor_that_was_silent_is_expected_again(town: Made, streets: SimpleNamespace) -> None:
    """That may end by itself."""
    ctx = town(stopped=(streets.NOW_S - 4 * HOUR_S, "sensor_absent"))
    assert hours(ctx) == ["15 h 30", "15:30"] and comes(ctx)


def test_nothing_is_expected_beyond_the_policy(town: Made, streets: SimpleNamespace) -> None:
    """Its last day has figures up to midnight, and is the last that is to come."""
    midnight = streets.PARIS.midnight(date(2026, 11, 22))
    last = town(now_s=midnight - 1000, until="2026-11-21")
    assert hours(last) == ["23 h 45", "23:45"] and comes(last)
    assert hours(town(now_s=midnight - 100, until="2026-11-21")) == ["minuit", "midnight"]
    over = town(now_s=midnight + 8 * HOUR_S, heard_s=midnight, until="2026-11-21")
    assert hours(over) == [] and not comes(over)


def test_no_day_is_expected_of_a_gateway_that_was_silent_all_day(town: Made, streets: SimpleNamespace) -> None:
    """Nor of a place of which nothing has come."""
    midnight = streets.PARIS.day(streets.NOW_S).start_s
    assert not comes(town(heard_s=midnight - 86_400))
    assert comes(town(heard_s=midnight - HOUR_S)), "it was heard yesterday"
    nobody = town()
    assert not comes(replace(nobody, streams=()))


def test_what_has_just_ended_is_awaited_until_it_has_come(town: Made, streets: SimpleNamespace) -> None:
    """At 15:01 the hour before may come at once; once it is there, or is late, the next one is named."""
    three = streets.PARIS.day(streets.NOW_S).start_s + 15 * HOUR_S
    for now_s, heard_s, said in (
        (three + 60, three - 1, "15 h"),
        (three, three - 1, "15 h"),
        (three + 60, three, "16 h"),
        (three + 899, three - 1, "15 h"),
        (three + 900, three - 1, "16 h"),
    ):
        assert hours(town(now_s=now_s, heard_s=heard_s, streams=("noise",)))[0] == said


def test_the_page_of_a_month_says_so_only_where_a_day_is_to_come(town: Made, streets: SimpleNamespace) -> None:
    """And of a year; what it says is in the key of the page that is kept."""
    for ctx, said in ((town(), True), (town(stopped=(streets.NOW_S - HOUR_S, "paused")), False)):
        streams = Streams(ctx, ctx.quartiers[0])
        pages = [page.decode() for path, page in maker_quartier._spans(streams) if path.endswith("index.html")]
        assert len(pages) == 4
        for code, page in zip(("fr", "fr", "en", "en"), pages, strict=True):
            assert (language(code)("page.next_day") in page) == said
        made = maker_quartier._made_of(streams)
        assert made is not None and made["next day"] == said


def test_a_page_that_did_not_look_at_pauses_is_found_out(
    town: Made, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin."""
    monkeypatch.setattr(due_module, "_stopped", lambda one: False)
    with pytest.raises(AssertionError):
        test_nothing_is_expected_of_what_was_stopped(town, streets, "paused")


def test_a_page_that_skipped_what_has_just_ended_is_found_out(
    town: Made, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin."""
    monkeypatch.setattr(due_module, "LATE_S", 0)
    with pytest.raises(AssertionError):
        test_what_has_just_ended_is_awaited_until_it_has_come(town, streets)
