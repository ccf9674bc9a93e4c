"""Nodes tile time: aligned, without gap or overlap, whatever the clocks of a town do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_privacy import ledger, plan
from murmure_privacy.window import (
    LEVELS,
    ORDINARY_QUARTERS,
    PARTS,
    QUARTER_S,
    SHARE_QUARTERS,
    BadTimezone,
    Calendar,
    Window,
    next_quarter,
    parse_utc,
    utc,
)

# Zones with whole hours: without and with a clock change, at 1:00 UTC, at midnight, backward over midnight, far east.
ZONES = [
    "UTC",
    "Europe/Paris",
    "America/Havana",
    "Africa/Cairo",
    "Pacific/Auckland",
    "America/Santiago",
    "Pacific/Apia",
]
FROM_S, UNTIL_S = 1_735_689_600, 1_861_920_000  # 2025 to 2028
CHANGES = [date(2026, 3, 29), date(2026, 10, 25), date(2027, 3, 28), date(2027, 10, 31)]
NESTED = ("15min", "1h", "6h", "1d", "1w")
LENGTH_S = {"15min": 900, "1h": 3600}
instants = st.integers(FROM_S, UNTIL_S)


@given(st.sampled_from(ZONES), st.sampled_from(NESTED), instants)
def test_nodes_tile_time(zone: str, level: str, at_s: int) -> None:
    """Each instant is in the node that is asked for, and the node after it begins where it ends."""
    node = Calendar(zone).node(level, at_s)
    assert at_s in node and node.start_s % QUARTER_S == node.end_s % QUARTER_S == 0
    assert Calendar(zone).node(level, node.end_s).start_s == node.end_s
    assert Calendar(zone).node(level, node.start_s - 1).end_s == node.start_s
    assert Calendar(zone).node(level, node.start_s) == Calendar(zone).node(level, node.end_s - 1) == node
    assert node.start_s not in Window(node.start_s - 1, node.start_s)


@given(st.sampled_from(ZONES), instants)
def test_parts_tile_the_day(zone: str, at_s: int) -> None:
    """An instant is in one part of the day; asked for another part, the calendar answers the next one; the parts follow
    each other at 06, 18 and 22 by the clocks on site, and fill the span from 06 to 06."""
    calendar = Calendar(zone)
    nodes = {part: calendar.node(part, at_s) for part in PARTS}
    (now,) = [part for part, node in nodes.items() if at_s in node]
    hour = datetime.fromtimestamp(at_s, ZoneInfo(zone)).hour
    assert now == ("day" if 6 <= hour < 18 else "evening" if 18 <= hour < 22 else "night")
    order = [now, *(part for part in (*PARTS, *PARTS)[PARTS.index(now) + 1 :])][:3]
    for before, after in pairwise(order):
        assert nodes[before].end_s == nodes[after].start_s
    whole = calendar.period(PARTS, at_s)
    assert at_s in whole and calendar.period(PARTS, whole.end_s).start_s == whole.end_s
    inside = [calendar.node(part, whole.start_s) for part in PARTS]
    assert (inside[0].start_s, inside[-1].end_s) == (whole.start_s, whole.end_s)


@given(st.sampled_from(ZONES), instants)
def test_a_week_begins_on_monday(zone: str, at_s: int) -> None:
    """Seven civil days from Monday's midnight, of 167, 168 or 169 hours, are also the period of a stream with weeks."""
    calendar = Calendar(zone)
    week = calendar.node("1w", at_s)
    days = calendar.days(week)
    assert [calendar.civil_day(day.start_s).weekday() for day in days] == list(range(7))
    assert (days[0].start_s, days[-1].end_s) == (week.start_s, week.end_s)
    assert (week.end_s - week.start_s) // 3600 in (167, 168, 169)
    assert calendar.period(("15min", "1w"), at_s) == week
    assert calendar.period(("15min", "6h"), at_s) == calendar.day(at_s)


def test_no_week_is_longer_than_the_ledger_looks_ahead() -> None:
    """Over every zone there is, the clocks go back by two hours at most: a week has 170 hours and a day 26."""
    longest = {"1w": 0, "1d": 0}
    for zone in sorted(available_timezones()):
        calendar, at_s = Calendar(zone), parse_utc("2026-01-01T00:00:00Z")
        while at_s < parse_utc("2028-01-01T00:00:00Z"):
            week = calendar.node("1w", at_s)
            longest["1w"] = max(longest["1w"], week.end_s - week.start_s)
            if week.end_s - week.start_s > 168 * 3600:
                longest["1d"] = max(longest["1d"], *(day.end_s - day.start_s for day in calendar.days(week)))
            at_s = week.end_s
    assert longest == {"1w": 170 * 3600, "1d": 26 * 3600}
    assert longest["1w"] < ledger._LONGEST_S
    assert (longest["1w"], longest["1d"]) == (plan._LONGEST_HOURS["1w"] * 3600, plan._LONGEST_DAY_HOURS * 3600)


@given(st.sampled_from(ZONES), st.sampled_from([NESTED, ("15min", "1h", "day"), ("15min", "1h", "night")]), instants)
def test_levels_nest(zone: str, levels: tuple[str, ...], at_s: int) -> None:
    """A node lies within the node of the next level, on days of 23, 24 and 25 hours."""
    calendar = Calendar(zone)
    at_s = max(at_s, calendar.node(levels[-1], at_s).start_s)
    nodes = [calendar.node(level, at_s) for level in levels]
    for inner, outer in pairwise(nodes):
        assert outer.start_s <= inner.start_s and inner.end_s <= outer.end_s


def test_every_level_has_its_length() -> None:
    """Shares of the budget and the ordinary day know every level; parts of a day share their mean length."""
    assert list(SHARE_QUARTERS) == list(ORDINARY_QUARTERS) == list(LEVELS)
    calendar = Calendar("Europe/Paris")
    monday_s = calendar.midnight(date(2026, 6, 8))
    for level in LEVELS:
        node = calendar.node(level, monday_s + 6 * 3600)
        assert node.end_s - node.start_s == ORDINARY_QUARTERS[level] * QUARTER_S
    assert sum(ORDINARY_QUARTERS[part] for part in PARTS) == sum(SHARE_QUARTERS[part] for part in PARTS) == 96


@given(st.sampled_from(ZONES), instants)
def test_nodes_are_aligned(zone: str, at_s: int) -> None:
    """Quarter-hours and hours in UTC; six hours at 00, 06, 12 and 18 and days at midnight, by the clocks on site."""
    calendar = Calendar(zone)
    for level, length_s in LENGTH_S.items():
        node = calendar.node(level, at_s)
        assert node.start_s % length_s == 0 and node.end_s - node.start_s == length_s
    here = datetime.fromtimestamp(at_s, ZoneInfo(zone))
    day, block = calendar.day(at_s), calendar.node("6h", at_s)
    assert calendar.civil_day(at_s) == here.date()
    first, last = (datetime.fromtimestamp(s, ZoneInfo(zone)) for s in (block.start_s, block.end_s - 1))
    assert first.date() == last.date() == here.date()
    assert first.hour // 6 == last.hour // 6 == here.hour // 6
    assert day.start_s == calendar.midnight(here.date())
    assert day.end_s == calendar.midnight(here.date() + timedelta(days=1))
    assert {calendar.civil_day(s) for s in range(day.start_s, day.end_s, 1800)} == {here.date()}


@pytest.mark.parametrize(("day", "hours"), list(zip(CHANGES, [23, 25, 23, 25], strict=True)))
def test_days_with_a_clock_change(day: date, hours: int) -> None:
    """In Paris the day has 23 or 25 hours and its first block 5 or 7; the other blocks have six."""
    calendar = Calendar("Europe/Paris")
    whole = calendar.day(calendar.midnight(day))
    assert (whole.end_s - whole.start_s) // 3600 == hours
    blocks, at_s = [], whole.start_s
    while at_s < whole.end_s:
        block = calendar.node("6h", at_s)
        blocks.append((block.end_s - block.start_s) // 3600)
        at_s = block.end_s
    assert blocks == [hours - 18, 6, 6, 6]


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide", "America/St_Johns"])
def test_half_hours_are_refused(zone: str) -> None:
    """A timezone whose offset is not whole hours would not nest with hours in UTC."""
    with pytest.raises(BadTimezone, match="not whole hours from UTC on 2026-01-01"):
        Calendar(zone).require_whole_hours(date(2026, 1, 1), date(2026, 12, 31))


def test_a_zone_is_refused_for_its_dates_only() -> None:
    """Half hours that begin later in the year refuse the policy whose days they touch, and no other."""
    island = Calendar("Australia/Lord_Howe")
    island.require_whole_hours(date(2026, 1, 1), date(2026, 3, 31))
    with pytest.raises(BadTimezone, match="2026-04-05"):
        island.require_whole_hours(date(2026, 1, 1), date(2026, 4, 30))
    Calendar("Europe/Paris").require_whole_hours(date(2026, 1, 1), date(2027, 12, 31))


@pytest.mark.parametrize("zone", ["Europe/Lutetia", "", "../etc/passwd", "/etc/passwd", "Europe", "a\0b"])
def test_unknown_names_are_refused(zone: str) -> None:
    """A name that is no timezone is refused in one line."""
    with pytest.raises(BadTimezone, match="is unknown; write a name such as Europe/Paris") as error:
        Calendar(zone)
    assert error.value.exit_status == 2 and str(error.value).isprintable()


@given(instants)
def test_the_next_quarter_is_not_earlier(at_s: int) -> None:
    """The first quarter-hour that is not earlier; a quarter-hour is its own."""
    found = next_quarter(at_s)
    assert found % QUARTER_S == 0 and 0 <= found - at_s < QUARTER_S
    assert next_quarter(found) == found


@given(instants)
def test_instants_are_written_in_utc(at_s: int) -> None:
    """Text and instant are two forms of one thing."""
    assert parse_utc(utc(at_s)) == at_s
    assert utc(at_s) == datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("text", ["2026-11-21T14:00:00", "2026-11-21T14:00:00+01:00", "noonZ", ""])
def test_instants_without_z_are_refused(text: str) -> None:
    """A time of which the zone is not said is no instant."""
    with pytest.raises(ValueError, match=r"."):
        parse_utc(text)
