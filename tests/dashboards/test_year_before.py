"""A year beside the one before: the same months, measured for long enough in both, with the margins of both."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from functools import cache
from math import sqrt
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards.chronicle import Chronicler
from murmure_dashboards.config import City
from murmure_dashboards.days import Day
from murmure_dashboards.stretch import Change, Stretch, stretch
from murmure_dashboards.views import Amount
from murmure_dashboards.wording import language
from murmure_privacy import policy as policies
from murmure_privacy.annotation import Annotation
from murmure_privacy.estimate import Figure
from murmure_privacy.window import Calendar, Window

PARIS = Calendar("Europe/Paris")
FIRST = date(2025, 11, 21)
YEAR = Window(PARIS.midnight(FIRST), PARIS.midnight(date(2026, 11, 21)))
BEFORE = Window(PARIS.midnight(date(2024, 11, 21)), YEAR.start_s)
SPANS = [[(span, PARIS.civil_day(span.start_s)) for span in PARIS.days(window)] for window in (BEFORE, YEAR)]
NOW_S = YEAR.end_s + 86_400
POLICY = b"""policy = 1
site = "plaza"
version = 1
timezone = "Europe/Paris"
decision = "D"
reason = "R."
valid_from = 2024-11-01
valid_until = 2027-11-30

[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = { crossings = 1 }
epsilon = 1.0
nodes = { "1h" = 1, "1d" = 1 }

[[stream]]
id = "plaza/pm2_5"
quantity = "pm2_5"
protects = { seconds = 60 }
readings = { cadence_ms = 1000, tail = 2 }
epsilon = 1.0
nodes = { "1h" = 1, "1d" = 24 }
bounds = [0, 100]
"""
OTHER = POLICY.replace(b"version = 1\n", b"version = 2\n").replace(b"[0, 100]", b"[0, 200]")
RULES = SimpleNamespace(of={one.hash: one for one in (policies.parse(t, "test") for t in (POLICY, OTHER))}.get)
HASHES = [policies.parse(text, "test").hash for text in (POLICY, OTHER)]
NAMES = {"footfall": "crossings", "pm2_5": "pm2_5_ug_m3"}
ERROR = 12.0
TRIALS, LEAST, MOST = 300, 0.91, 0.985
"""Of 300 intervals that hold 95 times out of 100, 273 to 295 hold but for one time in a thousand."""

Said = Callable[[Window], tuple[float, float]]  # of a day: its value and the share of it that was measured


def day_of(span: Window, quantity: str, value: float, share: float = 1.0, beyond: float = 0.0, rule: int = 0) -> Day:
    """Returns a day of which a share was measured; `beyond`: how much farther than its noise its interval goes."""
    name = NAMES[quantity]
    unit = "crossings" if quantity == "footfall" else "ug/m3"
    covered = Window(span.start_s, span.start_s + int((span.end_s - span.start_s) * share))
    ends = (value, ERROR, value - 1.959964 * ERROR, value + 1.959964 * ERROR + beyond)
    about = (f"plaza/{quantity}", quantity, "1d", span.start_s, span.end_s, span.start_s, name, unit)
    figure = Figure(*about, None, None, *ends, "final", 0.1 if beyond else 0.0, None)
    state = "figure" if share else "gap"
    return Day(
        *(span, span, span.end_s, span.start_s, state, "", HASHES[rule]),
        covered=(covered,) if share else (),
        amount=figure if share else None,
    )


@cache
def gap(span: Window, quantity: str) -> Day:
    return day_of(span, quantity, 0.0, 0.0)


def told(
    now: Callable[[date], Any], before: Callable[[date], Any], quantity: str = "footfall", marks: Sequence[Any] = ()
) -> Stretch:
    """Returns a stream whose days are what is said of them: what `day_of` takes, or None for a day without figure."""
    days = []
    for of, said in ((SPANS[0], before), (SPANS[1], now)):
        for span, on in of:
            one = said(on)
            days.append(gap(span, quantity) if one is None else day_of(span, quantity, **one))
    info = SimpleNamespace(site="plaza", stream=f"plaza/{quantity}", quantity=quantity)
    return stretch(info, days, YEAR, RULES, marks, PARIS, NOW_S, True)  # type: ignore[arg-type]


def flat(value: float, **more: Any) -> Callable[[date], Any]:
    return lambda on: {"value": value, **more}


def change(one: Stretch) -> Change:
    assert one.change is not None
    return one.change


def sentence(one: Stretch, city: City, code: str = "fr", device: str = "TF-Luna") -> str:
    site = city.site[0]
    sensors = tuple(replace(sensor, device=device) for sensor in site.sensor)
    story = Chronicler(language(code)).year(one, replace(site, sensor=sensors), "c0")
    return " ".join(story.answers).replace("\u00a0", " ").replace("\u202f", " ").replace("’", "'")


def test_the_difference_and_its_margin_are_those_of_both_years() -> None:
    """Of whole years: the noise of every day of both by its squares, written out here once more."""
    found = change(told(flat(1100.0), flat(1000.0)))
    assert found.months == tuple(range(1, 13)) and found.estimate == pytest.approx(100)
    margin = 1.959964 * sqrt(2 * 365 * ERROR**2) / 365
    assert (found.low, found.high) == pytest.approx((100 - margin, 100 + margin))


def test_the_interval_holds_as_often_as_it_says() -> None:
    """Years whose days scatter by their noise alone: the true difference lies in the interval 95 times out of 100."""
    draw, held = random.Random(20261127), 0
    for _ in range(TRIALS):
        # Three months are enough, and have the same weights.
        one = told(
            lambda on: {"value": draw.gauss(1030, ERROR)} if on.month in (2, 5, 6) else None,
            lambda on: {"value": draw.gauss(1000, ERROR)} if on.month in (2, 5, 6) else None,
        )
        found = change(one)
        assert found.months == (2, 5, 6)
        held += found.low <= 30 <= found.high
    assert LEAST * TRIALS <= held <= MOST * TRIALS


def test_silent_moments_add_up_as_they_are() -> None:
    """They may lie on the same side every day: of this year above, of the year before below."""
    plain, now, before = (
        change(told(flat(1100.0, beyond=up), flat(1000.0, beyond=down))) for up, down in ((0, 0), (50, 0), (0, 50))
    )
    assert (now.low, now.high) == pytest.approx((plain.low, plain.high + 50), abs=0.2)
    assert (before.low, before.high) == pytest.approx((plain.low - 50, plain.high), abs=0.2)


def test_only_months_measured_for_three_quarters_of_both_years_are_compared() -> None:
    """At 75 % in both it is compared, below in one it is not; what another month has changes nothing."""

    def some(on: date) -> Any:
        return {"value": 9000.0} if on.month != 4 or on.day <= 22 else None  # 22 of 30 days

    def enough(on: date) -> Any:
        return {"value": 1000.0} if on.month != 4 or on.day <= 23 else None

    assert change(told(some, flat(1000.0))).months == (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12)
    assert change(told(flat(1000.0), some)).months == (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12)
    assert change(told(enough, enough)).months == tuple(range(1, 13))
    only_april = change(
        told(flat(1000.0), lambda on: {"value": 900.0 if on.month == 4 else 5000.0} if on.month in (4,) else None)
    )
    assert only_april.months == (4,) and only_april.estimate == pytest.approx(100)


def test_a_month_weighs_by_its_days_in_both_years() -> None:
    """January measured for 80 % of the year before is no less of January: seasons must not look like a change."""

    def seasons(on: date) -> Any:
        return {"value": 2000.0 if on.month == 1 else 1000.0}

    def with_holes(on: date) -> Any:
        return None if on.month == 1 and on.day > 25 else seasons(on)

    assert change(told(seasons, with_holes)).estimate == pytest.approx(0)


@pytest.mark.parametrize("quantity", ["footfall", "pm2_5"])
def test_counts_are_those_of_whole_days_and_means_those_of_what_was_measured(quantity: str) -> None:
    """A day measured for 80 % has no count; its mean is one."""
    one = told(flat(50.0), flat(40.0, share=0.8), quantity)
    assert change(one).months == (() if quantity == "footfall" else tuple(range(1, 13)))


def test_faulty_days_and_other_bounds_are_not_compared() -> None:
    """A month that stewards marked in either year, and all that was measured between other bounds than now."""
    for at in (date(2025, 3, 1), date(2026, 3, 1)):
        begin = PARIS.midnight(at)
        mark = Annotation("plaza", 1, begin, "Bâche.", "plaza/footfall", begin, begin + 20 * 86_400, "obstructed")
        assert 3 not in change(told(flat(1000.0), flat(1000.0), marks=(mark,))).months
    other = told(flat(50.0), lambda on: {"value": 50.0, "rule": int(on < date(2025, 6, 1))}, "pm2_5")
    assert change(other).months == (6, 7, 8, 9, 10)


def test_the_29th_of_february_has_no_year_before() -> None:
    """Nor has it a day that it could be compared with by mistake."""
    leap = Window(PARIS.midnight(date(2027, 3, 1)), PARIS.midnight(date(2028, 3, 1)))
    days = [
        day_of(span, "footfall", 7777.0 if (on.month, on.day) == (2, 29) else 1000.0)
        for span in PARIS.days(Window(PARIS.midnight(date(2026, 3, 1)), leap.end_s))
        if (on := PARIS.civil_day(span.start_s))
    ]
    info = SimpleNamespace(site="plaza", stream="plaza/footfall", quantity="footfall")
    one = stretch(info, days, leap, RULES, (), PARIS, leap.end_s + 86_400, True)  # type: ignore[arg-type]
    assert change(one).months == tuple(range(1, 13)) and change(one).estimate == pytest.approx(0)


@pytest.mark.parametrize(
    ("now", "device", "said"),
    [
        (1100.0, "LD2450", "100 passages de plus par jour"),
        (1100.0, "LD2450", "C'est au-dessus de l'année d'avant, même avec l'erreur de l'appareil."),
        (900.0, "LD2450", "100 passages de moins par jour"),
        (900.0, "LD2450", "C'est au-dessous de l'année d'avant, même avec l'erreur de l'appareil."),
        (1001.0, "LD2450", "On ne peut pas conclure."),
        (1100.0, "TF-Luna", "L'erreur de l'appareil peut être plus grande que cela : on ne peut pas conclure."),
        (900.0, "TF-Luna", "L'erreur de l'appareil peut être plus grande que cela : on ne peut pas conclure."),
        (1500.0, "TF-Luna", "C'est au-dessus de l'année d'avant"),
    ],
)
def test_there_are_three_states(city: City, now: float, device: str, said: str) -> None:
    """More or less only where neither noise nor the device can have made it; a counter may miss a share of the year
    with less of it, 2 % or 30,5 % by what was tried."""
    assert said in sentence(told(flat(now), flat(1000.0)), city, device=device)


def test_dust_is_compared_with_the_error_of_the_sensor_in_both_years(city: City) -> None:
    """± 10 µg/m³ in each year: a rise of 12 shows nothing of the street, one of 30 does; both have their margin."""
    rise = sentence(told(flat(32.0), flat(20.0), "pm2_5"), city)
    assert "12,0 µg/m³ de plus en moyenne (entre" in rise and "on ne peut pas conclure" in rise
    assert "C'est au-dessus de l'année d'avant" in sentence(told(flat(60.0), flat(20.0), "pm2_5"), city)


def test_both_languages_say_how_many_months_and_between_what(city: City) -> None:
    """The sentence as a whole, where the sign is known and where it is not."""
    one = told(flat(1001.0), flat(1000.0))
    assert (
        "On compare à l'année d'avant 12 mois, mesurés à 75 % au moins les deux fois. "
        "C'est entre 1 passage de moins et 3 de plus par jour, avec les marges des deux années. "
        "On ne peut pas conclure."
    ) in sentence(one, city)
    assert "It is between 1 crossing less and 3 more a day, with the margins of both years. Nothing can be" in sentence(
        one, city, "en"
    )


def test_nothing_is_said_where_the_archive_has_no_such_year(city: City) -> None:
    """No word of a year in which nothing was measured; of one that was not measured long enough, that it was not."""
    one = told(flat(1000.0), lambda on: None)
    assert one.change is None and "année d'avant" not in sentence(one, city)
    little = told(flat(1000.0), lambda on: {"value": 1000.0} if on.day < 5 else None)
    assert change(little).months == () and "aucun mois n'est mesuré à 75 % les deux fois" in sentence(little, city)


def test_a_level_too_uncertain_to_be_shown_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page does not show as a number is no number to compare with."""
    one = told(flat(50.0), flat(40.0), "pm2_5")
    made = Stretch.as_amount

    def vague(self: Stretch, figure: Figure | None, days: Sequence[Day]) -> Amount | None:
        found = made(self, figure, days)
        return replace(found, publishable=False) if found else None

    monkeypatch.setattr(Stretch, "as_amount", vague)
    assert change(one).months == ()
    assert fmean([change(one).low, change(one).high, change(one).estimate]) == 0
