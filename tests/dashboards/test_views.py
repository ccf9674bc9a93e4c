"""What a page may say of a stream: sums with honest margins, and every hole with its own reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards.cannot import cannot
from murmure_dashboards.config import City
from murmure_dashboards.promises import promises
from murmure_dashboards.story import Teller
from murmure_dashboards.views import SignedPolicy, StreamView, view
from murmure_dashboards.wording import language as spoken
from murmure_privacy.annotation import in_force
from murmure_privacy.policies import Rules
from murmure_privacy.window import Window

REPEATS = 60
MOST_OUTSIDE = 9  # of 60 intervals of 95 %: a fair one has more than 9 outside once in 1,700 runs
HOUR_S = 3600


def seen(
    streets: SimpleNamespace,
    archive: Any,
    stream: str,
    window: Window,
    now_s: int,
    signed: Sequence[SignedPolicy] = (),
) -> StreamView:
    info = next(info for info in archive.streams() if info.stream == stream)
    marks = in_force([one.note for one in archive.annotations()], now_s)
    return view(archive, Rules(archive), marks, info, window, streets.PARIS, now_s, signed)


def test_the_sum_since_midnight_holds_the_truth_19_times_in_20(streets: SimpleNamespace) -> None:
    """Six-hour blocks, hours and quarter-hours that are added overlap nowhere and their margins add as variances."""
    now_s = streets.NOW_S
    day = streets.PARIS.day(now_s)
    outside, first = 0, day.start_s - REPEATS // 2 * 86_400
    street = streets.Street()
    for number in range(REPEATS):
        at_s = first + number * 86_400
        one = streets.PARIS.day(at_s + 12 * HOUR_S)
        now = one.start_s + 15 * HOUR_S + 900
        street = streets.Street()
        streets.add(street, f"s{number}", one, now_s=now, streams=("footfall",))
        amount = seen(streets, street, f"s{number}/footfall", one, now).amount(one)
        exact = sum(
            street.exact[f"s{number}/footfall", "15min", quarter_s] for quarter_s in range(one.start_s, now, 900)
        )
        assert amount is not None and amount.covered_s == now - one.start_s
        outside += not amount.low <= exact <= amount.high
    assert outside <= MOST_OUTSIDE


def test_a_day_with_a_hole_adds_what_was_observed(streets: SimpleNamespace, archive: object) -> None:
    """The day of a restart is the hours before it and the partial day after it, nothing twice, nothing invented."""
    day = streets.PARIS.day(streets.NOW_S)
    one = seen(streets, archive, "station/footfall", day, streets.NOW_S)
    amount = one.amount(day)
    assert amount is not None
    assert amount.covered_s == 2 * HOUR_S + (15 * HOUR_S + 900 - 5 * HOUR_S - 900)
    assert one.amount(Window(day.start_s + 2 * HOUR_S, day.start_s + 5 * HOUR_S)) is None


def test_every_hole_has_its_own_state(streets: SimpleNamespace, archive: object) -> None:
    """Gap, withheld, late beginning, awaited: four different things, none of them zero."""
    day = streets.PARIS.day(streets.NOW_S)
    slots = seen(streets, archive, "station/noise", day, streets.NOW_S).slots(day)
    states = [slot.state for slot in slots]
    assert len(slots) == 24
    assert states[2:5] == ["gap"] * 3
    assert states[9:11] == ["sensor_absent"] * 2
    assert states[15:] == ["awaited"] * 9
    assert slots[5].state == "figure" and slots[5].covered_from_s == slots[5].start_s + 900
    assert [slot.missing for slot in slots].count(True) == 5


def test_a_node_is_awaited_for_a_quarter_of_an_hour(streets: SimpleNamespace) -> None:
    """The hour that has just ended may be on its way: it is a gap only when it is late."""
    street = streets.Street()
    day = streets.PARIS.day(streets.NOW_S)
    streets.add(street, "plaza", day, now_s=day.start_s + 13 * HOUR_S)
    for late_s, state in ((0, "awaited"), (899, "awaited"), (900, "gap")):
        now_s = day.start_s + 14 * HOUR_S + late_s
        slots = seen(streets, street, "plaza/footfall", day, now_s).slots(day)
        assert (slots[12].state, slots[13].state) == ("figure", state)


def test_a_withheld_hour_shows_its_reason_and_never_a_figure(streets: SimpleNamespace) -> None:
    """Also once the day's own node would determine it; the hours beside it keep theirs."""
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.Street()
    gone = Window(day.start_s + 7 * HOUR_S, day.start_s + 8 * HOUR_S)
    streets.add(street, "plaza", day, now_s=day.end_s, mute={"pm2_5": (gone,), "footfall": (gone,), "noise": (gone,)})
    for stream in ("plaza/pm2_5", "plaza/footfall", "plaza/noise"):
        one = seen(streets, street, stream, day, day.end_s)
        slots = one.slots(day)
        assert [slot.state for slot in slots] == ["figure"] * 7 + ["sensor_absent"] + ["figure"] * 16
        assert slots[7].amount is None and slots[7].missing
        assert not any(f.start_s == gone.start_s and f.level == "1h" for f in one.figures)


@pytest.mark.parametrize("stream", ["footfall", "noise", "pm2_5"])
def test_intervals_hold_the_truth_though_the_sensor_was_silent(streets: SimpleNamespace, stream: str) -> None:
    """An hour withheld and minutes missed: hours and days hold the unbroken mean, or the count of what was heard, at
    least 19 times in 20; of a day with silence that much more is said."""
    first = streets.PARIS.day(streets.NOW_S).start_s - REPEATS // 2 * 86_400
    outside = {"hour": 0, "day": 0}
    for number in range(REPEATS):
        day = streets.PARIS.day(first + number * 86_400 + 12 * HOUR_S)
        mute = (
            Window(day.start_s + 3 * HOUR_S, day.start_s + 4 * HOUR_S),
            Window(day.start_s + 9 * HOUR_S, day.start_s + 9 * HOUR_S + 400),
        )
        street = streets.Street()
        streets.add(street, f"m{number}", day, now_s=day.end_s, streams=(stream,), mute={stream: mute})
        one = seen(streets, street, f"m{number}/{stream}", day, day.end_s)
        amounts = {"hour": one.slots(day)[9].amount, "day": one.amount(day)}
        for name, level, start_s in (("hour", "1h", day.start_s + 9 * HOUR_S), ("day", "1d", day.start_s)):
            amount = amounts[name]
            assert amount is not None and amount.absent >= {"hour": 400, "day": 4000}[name] / amount.covered_s
            assert amount.fills == {"footfall": (), "noise": (60.0,), "pm2_5": (50.0,)}[stream]
            outside[name] += not amount.low <= street.exact[f"m{number}/{stream}", level, start_s] <= amount.high
    assert max(outside.values()) <= MOST_OUTSIDE


def test_what_silence_hid_adds_up_and_noise_partly_cancels(streets: SimpleNamespace) -> None:
    """A mean over nodes is widened by the mean of their silence, however many; its margin is of noise alone."""
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.Street()
    mute = tuple(Window(day.start_s + h * HOUR_S, day.start_s + h * HOUR_S + 360) for h in range(24))
    streets.add(street, "plaza", day, now_s=streets.NOW_S, streams=("pm2_5",), mute={"pm2_5": mute})
    one = seen(streets, street, "plaza/pm2_5", day, streets.NOW_S)
    amount, hour = one.amount(day), one.slots(day)[0].amount
    assert amount is not None and hour is not None
    assert amount.absent == pytest.approx(0.1) and hour.absent == pytest.approx(0.1)
    assert amount.margin == pytest.approx(hour.margin / 15**0.5)
    for a in (amount, hour):
        assert a.high - a.estimate == pytest.approx(a.margin + 0.1 * 50)
        assert a.estimate - a.low == pytest.approx(a.margin + 0.1 * 50)


def test_a_day_of_25_hours_has_25_slots(streets: SimpleNamespace) -> None:
    """Days begin and end at civil midnight whatever the clocks do."""
    day = streets.PARIS.day(1_792_900_000)
    street = streets.Street()
    streets.add(street, "plaza", day, now_s=day.end_s)
    one = seen(streets, street, "plaza/footfall", day, day.end_s)
    assert len(one.slots(day)) == 25
    amount = one.amount(day)
    assert amount is not None and amount.covered_s == 25 * HOUR_S


def test_a_stream_without_hours_is_cut_at_its_finest_level(streets: SimpleNamespace) -> None:
    """A policy may publish six-hour blocks only; the page then has four slots a day, no gaps."""
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.Street()
    streets.add(street, "plaza", day, now_s=day.end_s, streams=("footfall",))
    coarse = [o for o in street.nodes["plaza/footfall"] if o.node.level in ("6h", "1d")]
    street.nodes["plaza/footfall"] = coarse
    slots = seen(streets, street, "plaza/footfall", day, day.end_s).slots(day)
    assert [slot.state for slot in slots] == ["figure"] * 4


@pytest.mark.parametrize("nodes", ['"15min" = 1', '"15min" = 1, "1d" = 1'])
def test_a_stream_of_quarter_hours_is_cut_at_hours_that_are_made_of_them(streets: SimpleNamespace, nodes: str) -> None:
    """An hour that came is no gap because nobody publishes it as one; what is missing, withheld or late still is."""
    now_s = streets.NOW_S
    day = streets.PARIS.day(now_s)
    street = streets.Street()
    streets.add(
        street,
        "plaza",
        day,
        streams=("footfall",),
        swap=[('"15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1', nodes)],
        silent=(Window(day.start_s + 3 * HOUR_S + 1800, day.start_s + 5 * HOUR_S + 900),),
        withheld=lambda stream, node: (
            "paused" if node.start_s in Window(day.start_s, day.start_s + 2 * HOUR_S) else None
        ),
    )
    one = seen(streets, street, "plaza/footfall", day, now_s)
    slots = one.slots(day)
    states = ["paused"] * 2 + ["figure"] + ["gap"] * 2 + ["figure"] * 10 + ["awaited"] * 9
    assert [slot.state for slot in slots] == states
    assert [slot.end_s - slot.start_s for slot in slots] == [HOUR_S] * 24
    assert slots[5].covered_from_s == slots[5].start_s + 900
    amount = slots[6].amount
    quarters = [one.scalar["15min", slots[6].start_s + 900 * n] for n in range(4)]
    assert amount is not None and amount.covered_s == HOUR_S
    assert amount.estimate == pytest.approx(sum(quarter.estimate for quarter in quarters))


@pytest.mark.parametrize("text", [None, b"policy = 2\n"])
def test_a_policy_that_cannot_be_read_is_no_rule(streets: SimpleNamespace, text: bytes | None) -> None:
    """A page claims only what the signed policy in the archive says."""
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.Street()
    policy = streets.add(street, "plaza", day)
    street.signed = {} if text is None else {policy.hash: text}
    assert seen(streets, street, "plaza/footfall", day, streets.NOW_S).rule is None


@pytest.mark.parametrize(
    ("language", "unit", "outside", "floor"),
    [
        ("fr", "tant que l’appareil ne montre pas plus de 75 dB", "Ce qui n’est pas protégé", "Les niveaux sous 35 dB"),
        ("en", "as long as the meter shows at most 75 dB", "What is not protected", "Levels below 35 dB"),
    ],
)
def test_a_unit_bounded_by_a_level_is_said_with_what_it_leaves_out(
    streets: SimpleNamespace, city: City, language: str, unit: str, outside: str, floor: str
) -> None:
    """The page speaks of what the meter shows, says what the rule does not protect, and claims no upper clamp."""
    say = spoken(language)
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.Street()
    streets.add(street, "plaza", day)
    view = seen(streets, street, "plaza/noise", day, streets.NOW_S)
    assert view.rule is not None
    bounded = replace(view, rule=(view.rule[0], replace(view.rule[1], up_to=750)))
    site = city.site[0]
    told = ["".join(text for text, _ in line) for line in promises(say, [(site, bounded)])]
    first, *rest = (line.replace("\u00a0", " ") for line in told)
    assert unit in first and [line.startswith(outside) for line in rest] == [True]
    assert len(promises(say, [(site, view)])) == 1
    said = " ".join(cannot(say, [bounded])).replace("\u00a0", " ")
    assert floor in said and "85 dB" in said
    assert floor not in " ".join(cannot(say, [view])).replace("\u00a0", " ")


WEEKS = (('"1d" = 1 }', '"1d" = 1, "1w" = 1 }'),)
PARTS_OF_A_DAY = (('"1h" = 1, "1d" = 24 }\nbounds_db', '"1h" = 1, "day" = 4, "evening" = 4, "night" = 4 }\nbounds_db'),)


def test_a_week_with_its_own_node_moves_its_days(streets: SimpleNamespace) -> None:
    """A day's figure is provisional until Sunday is over, and comes from the week's node too; seven days are that."""
    week = streets.PARIS.node("1w", streets.NOW_S)
    street = streets.Street()
    streets.add(street, "plaza", week, now_s=week.end_s, streams=("footfall",), swap=WEEKS)
    day = streets.PARIS.day(week.start_s + 40 * HOUR_S)
    before = seen(streets, street, "plaza/footfall", day, week.end_s - 900)
    after = seen(streets, street, "plaza/footfall", day, week.end_s)
    assert {f.state for f in before.figures} == {"provisional"} and {f.state for f in after.figures} == {"final"}
    early, late = (one.amount(day) for one in (before, after))
    assert early is not None and late is not None and late.margin < early.margin
    assert late.covered_s == 24 * HOUR_S and len(after.slots(day)) == 24
    assert all(figure.start_s in day for figure in after.figures)
    whole = seen(streets, street, "plaza/footfall", week, week.end_s)
    amount = whole.amount(week)
    node = next(f for f in whole.figures if f.level == "1w")
    assert amount is not None and (amount.estimate, amount.margin) == pytest.approx((node.estimate, node.margin))
    # Days of such a week lean on each other: their sum is surer than if they did not.
    six = whole.amount(Window(week.start_s, week.end_s - 24 * HOUR_S))
    days = [f for f in whole.figures if f.level == "1d"][:6]
    assert six is not None and six.estimate == pytest.approx(sum(f.estimate for f in days))
    assert six.margin < sum(f.margin**2 for f in days) ** 0.5


def test_the_figures_of_a_page_are_those_of_the_whole_period(streets: SimpleNamespace) -> None:
    """A day seen alone, in its week or in its month has the same figures."""
    week = streets.PARIS.node("1w", streets.NOW_S)
    street = streets.Street()
    streets.add(street, "plaza", week, now_s=week.end_s, streams=("footfall",), swap=WEEKS)
    day = streets.PARIS.day(week.start_s + 64 * HOUR_S)
    alone = seen(streets, street, "plaza/footfall", day, week.end_s).figures
    beside = seen(streets, street, "plaza/footfall", week, week.end_s).figures
    assert set(alone) == {figure for figure in beside if figure.start_s in day}


def test_parts_of_the_day_are_slots(streets: SimpleNamespace) -> None:
    """Day, evening and night, of which the first night began the day before; a policy may name the nights alone."""
    three = Window(
        streets.PARIS.day(streets.NOW_S - 48 * HOUR_S).start_s + 6 * HOUR_S,
        streets.PARIS.day(streets.NOW_S).start_s + 6 * HOUR_S,
    )
    day = streets.PARIS.day(three.start_s + 24 * HOUR_S)
    street = streets.Street()
    streets.add(street, "plaza", three, now_s=three.end_s, streams=("noise",), swap=PARTS_OF_A_DAY)
    hourly = seen(streets, street, "plaza/noise", day, three.end_s)
    assert len(hourly.slots(day)) == 24
    amount = hourly.amount(day)
    assert amount is not None and amount.covered_s == 24 * HOUR_S
    nodes = street.nodes["plaza/noise"]
    for levels, hours in (
        (("day", "evening", "night"), [(-2, 6), (6, 18), (18, 22), (22, 30)]),
        (("night",), [(-2, 6), (22, 30)]),
    ):
        street.nodes["plaza/noise"] = [outcome for outcome in nodes if outcome.node.level in levels]
        street.signed = {}
        slots = seen(streets, street, "plaza/noise", day, three.end_s).slots(day)
        assert [((s.start_s - day.start_s) // HOUR_S, (s.end_s - day.start_s) // HOUR_S) for s in slots] == hours
        assert {slot.state for slot in slots} == {"figure"}


HOURS = '"1h" = 1, "1d" = 24 }\nbounds_db'
POLICY_NOISE = """
quantity = "noise"
protects = { seconds = 15 }
readings = { cadence_ms = 1000, tail = 2 }
epsilon = 1.0
nodes = { "1h" = 1, "1d" = 24 }
bounds_db = [35, 85]

"""


@pytest.mark.parametrize(
    ("nodes", "awaited", "late"),
    [
        ('"1h" = 1, "1d" = 24', (0, 1), (1, 2)),
        ('"6h" = 1, "1d" = 4', (0, 6), (6, 12)),
        ('"1d" = 1', (0, 24), (24, 24)),
        ('"day" = 1, "evening" = 1, "night" = 1', (-2, 6), (6, 18)),
        ('"1w" = 1', (-96, 72), (72, 72)),
        ('"15min" = 1, "6h" = 1', (0, 1), (1, 2)),
    ],
)
def test_where_nothing_came_a_gap_is_what_the_policy_in_force_was_to_bring(
    streets: SimpleNamespace, nodes: str, awaited: tuple[int, int], late: tuple[int, int]
) -> None:
    """A box that has nothing to send before its block, its part of the day, its day or its week is over is not silent.
    Twenty minutes after that it is, until the next is awaited."""
    day = streets.PARIS.day(streets.NOW_S - 24 * HOUR_S)
    street = streets.Street()
    swap = [(HOURS, f"{nodes} }}\nbounds_db")]
    streets.add(street, "plaza", day, now_s=day.start_s, streams=("noise",), swap=swap)
    streets.add(street, "plaza", day, now_s=day.start_s, streams=(), version=8, valid_from="2027-01-01")

    def cut(now_s: int) -> list[tuple[str, int, int]]:
        slots = seen(streets, street, "plaza/noise", day, now_s, street.policies("plaza")).slots(day)
        return [(s.state, (s.start_s - day.start_s) // HOUR_S, (s.end_s - day.start_s) // HOUR_S) for s in slots]

    end_s = day.start_s + awaited[1] * HOUR_S
    for now_s in (day.start_s + 300, min(end_s, day.end_s) - 60, end_s + 899):
        assert cut(now_s)[0] == ("awaited", *awaited)
    slots = cut(end_s + 1200)
    assert slots[0] == ("gap", *awaited)
    assert slots[1:2] == ([("awaited", *late)] if late[0] < late[1] else [])


def test_a_day_of_a_week_that_runs_is_no_gap(streets: SimpleNamespace) -> None:
    """A stream of weeks alone has nothing to say of a Monday before the week is over."""
    week = streets.PARIS.node("1w", streets.NOW_S)
    monday = streets.PARIS.day(week.start_s)
    street = streets.Street()
    swap = [(HOURS, '"1w" = 1 }\nbounds_db')]
    streets.add(street, "plaza", week, now_s=week.start_s, streams=("noise",), swap=swap)
    for now_s, state in ((week.end_s, "awaited"), (week.end_s + 900, "gap")):
        one = seen(streets, street, "plaza/noise", week, now_s, street.policies("plaza"))
        assert one.day_slot(monday).state == state


def test_a_part_that_came_hides_none_that_did_not(streets: SimpleNamespace) -> None:
    """After a night, the day that its policy has as well is due, and missing in time."""
    day = streets.PARIS.day(streets.NOW_S - 24 * HOUR_S)
    street = streets.Street()
    swap = [(HOURS, '"day" = 1, "evening" = 1, "night" = 1 }\nbounds_db')]
    span = Window(day.start_s - 2 * HOUR_S, day.end_s)
    streets.add(street, "plaza", span, now_s=day.start_s + 7 * HOUR_S, streams=("noise",), swap=swap)
    slots = seen(streets, street, "plaza/noise", day, day.start_s + 19 * HOUR_S, street.policies("plaza")).slots(day)
    assert [slot.state for slot in slots] == ["figure", "gap", "awaited", "awaited"]


def test_what_lies_before_a_first_policy_is_no_gap(streets: SimpleNamespace) -> None:
    """Its first night began at ten on the day before, and was looked at from midnight on."""
    day = streets.PARIS.day(streets.NOW_S - 24 * HOUR_S)
    wide = Window(streets.PARIS.day(day.start_s - 1).start_s, day.end_s)
    street = streets.Street()
    swap = [(HOURS, '"day" = 1, "evening" = 1, "night" = 1 }\nbounds_db')]
    first = str(streets.PARIS.civil_day(day.start_s))
    streets.add(street, "plaza", wide, now_s=day.end_s, streams=("noise",), swap=swap, version=1, valid_from=first)
    came = street.nodes["plaza/noise"]
    night = next(one for one in came if one.node.start_s == day.start_s - 2 * HOUR_S)
    for from_s in (day.start_s, day.start_s - 2 * HOUR_S):  # one that was covered before counts
        cut = replace(night, node=replace(night.node, covered_from_s=from_s))
        street.nodes["plaza/noise"] = [cut, *(one for one in came if one.node.start_s >= day.start_s)]
        assert seen(streets, street, "plaza/noise", wide, day.end_s).first_s == from_s


def changed(
    streets: SimpleNamespace, before: Window, after: Window, now_s: int, levels: tuple[str, str], until_s: int
) -> Any:
    """Returns a street whose level is of these levels in one span and the next, heard until an instant."""
    street, nodes = streets.Street(), []
    for version, (span, of) in enumerate(zip((before, after), levels, strict=True), 1):
        swap, valid = [(HOURS, f"{of} }}\nbounds_db")], str(streets.PARIS.civil_day(span.start_s))
        said = min(now_s, until_s)
        streets.add(street, "plaza", span, now_s=said, streams=("noise",), swap=swap, version=version, valid_from=valid)
        nodes += street.nodes["plaza/noise"]
        street.infos = street.infos[:1]
    street.nodes["plaza/noise"] = nodes
    return street


@pytest.mark.parametrize("heard", [True, False])
def test_a_week_is_cut_as_the_policy_of_each_day_has_it(streets: SimpleNamespace, heard: bool) -> None:
    """From hours to days on Thursday: no hour of Thursday is missing, and where the box fell silent with the change,
    each day is."""
    now_s, week = streets.NOW_S, streets.week_of(streets.NOW_S)
    change_s = streets.PARIS.midnight(date(2026, 11, 19))
    until_s = now_s if heard else change_s
    spans = Window(week.start_s, change_s), Window(change_s, week.end_s)
    street = changed(streets, *spans, now_s, ('"1h" = 1, "1d" = 24', '"1d" = 1'), until_s)
    one = seen(streets, street, "plaza/noise", week, now_s, street.policies("plaza"))
    slots = one.slots(week)
    hours = [slot for slot in slots if slot.start_s < change_s]
    days = [slot for slot in slots if slot.start_s >= change_s]
    assert {(slot.state, slot.end_s - slot.start_s) for slot in hours} == {("figure", HOUR_S)}
    assert [slot.end_s - slot.start_s for slot in days] == [24 * HOUR_S] * 3
    state = "figure" if heard else "gap"
    assert [slot.state for slot in days] == [state, state, "awaited"]
    assert [slot.start_s for slot in slots] == sorted({slot.start_s for slot in slots})
    assert all(a.end_s == b.start_s for a, b in pairwise(slots))


def test_a_week_of_hours_and_days_is_drawn_by_days(streets: SimpleNamespace) -> None:
    """A chart whose steps are of an hour first and of a day then would say neither."""
    now_s, week = streets.NOW_S, streets.week_of(streets.NOW_S)
    change_s = streets.PARIS.midnight(date(2026, 11, 19))
    spans = Window(week.start_s, change_s), Window(change_s, week.end_s)
    for levels in (('"1h" = 1, "1d" = 24', '"1d" = 1'), ('"1d" = 1', '"1h" = 1, "1d" = 24')):
        street = changed(streets, *spans, now_s, levels, now_s)
        one = seen(streets, street, "plaza/noise", week, now_s, street.policies("plaza"))
        chart = Teller(spoken("fr")).week(one, "Plaza", "c0").chart
        assert chart is not None and chart.title.startswith("Niveau sonore moyen par jour")
        assert not any(slot.missing for slot in one.slots(week))


def test_a_part_of_a_day_reaches_into_no_day_of_hours(streets: SimpleNamespace) -> None:
    """Parts of the day until six, hours from then on: where one takes over, no node is open, and nothing overlaps."""
    now_s, week = streets.NOW_S, streets.week_of(streets.NOW_S)
    change_s = streets.PARIS.midnight(date(2026, 11, 19)) + 6 * HOUR_S
    spans = Window(week.start_s + 6 * HOUR_S, change_s), Window(change_s, week.end_s)
    parts = '"day" = 1, "evening" = 1, "night" = 1'
    for levels in ((parts, '"1h" = 1, "1d" = 24'), ('"1h" = 1, "1d" = 24', parts), (parts, '"1d" = 1')):
        street = changed(streets, *spans, now_s, levels, now_s)
        one = seen(streets, street, "plaza/noise", week, now_s, street.policies("plaza"))
        slots = one.slots(week)
        assert all(a.end_s == b.start_s for a, b in pairwise(slots))
        assert any(slot.end_s == change_s for slot in slots)


def test_nothing_was_missing_before_a_stream_was_added(streets: SimpleNamespace) -> None:
    """The second policy brings it on Thursday: until then nobody had decided to measure it."""
    now_s, week = streets.NOW_S, streets.week_of(streets.NOW_S)
    change_s = streets.PARIS.midnight(date(2026, 11, 19))
    street = streets.Street()
    swap = [(f'[[stream]]\nid = "plaza/noise"{POLICY_NOISE}', "")]
    streets.add(street, "plaza", week, now_s=now_s, streams=("footfall",), swap=swap, version=1)
    after = Window(change_s, week.end_s)
    streets.add(street, "plaza", after, now_s=now_s, streams=("noise",), version=2, valid_from="2026-11-19")
    signed = street.policies("plaza")
    one = seen(streets, street, "plaza/noise", week, now_s, signed)
    assert one.first_s == change_s and {slot.state for slot in one.slots(week)[:96]} == {"before"}
    assert seen(streets, street, "plaza/noise", week, now_s, signed[1:]).first_s == week.start_s, "who knows"
    earlier = Window(week.start_s, change_s)
    assert seen(streets, street, "plaza/noise", earlier, now_s, signed).first_s == change_s
