"""A year beside the one before: the same months, measured for long enough in both, with the margins of both."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from functools import cache
from math import log10, sqrt
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from murmure_dashboards import stretch as stretch_module
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

[[stream]]
id = "plaza/noise"
quantity = "noise"
protects = { seconds = 15 }
readings = { cadence_ms = 1000, tail = 2 }
epsilon = 1.0
nodes = { "1h" = 1, "1d" = 24 }
bounds_db = [35, 85]
"""
OTHER = POLICY.replace(b"version = 1\n", b"version = 2\n").replace(b"[0, 100]", b"[0, 200]")
RULES: Any = SimpleNamespace(of={one.hash: one for one in (policies.parse(t, "test") for t in (POLICY, OTHER))}.get)
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


def level_of(span: Window, db: float, noise: float = 0.0, share: float = 0.02, beyond: float = 0.0) -> Day:
    """Returns a day of a level. `noise`: what was drawn, in errors; `share`: how large an error is beside the energy;
    `beyond`: how much farther than its noise the interval goes upward, as a share as well."""
    exact = 10 ** (db / 10)
    error = share * exact
    value = exact + noise * error
    ends = value, error, value - 1.959964 * error, value + 1.959964 * error + beyond * exact
    about = ("plaza/noise", "noise", "1d", span.start_s, span.end_s, span.start_s)
    energy = Figure(*about, "energy_mean", "", None, None, *ends, "final", 0.1 if beyond else 0.0, None)
    # The arithmetic mean of the readings, which says nothing of LAeq.
    amount = Figure(*about, "level_db_mean", "dB", None, None, 50.0, 0.2, 49.6, 50.4, "final", 0.0, None)
    found = day_of(span, "pm2_5", 0.0)
    return replace(found, amount=amount, energy=energy)


def levels(now: Callable[[date], Any], before: Callable[[date], Any]) -> Stretch:
    """Returns a level whose days are what is said of them: what `level_of` takes, None for a day without figure."""
    days = [
        level_of(span, **said) if (said := of(on)) is not None else gap(span, "pm2_5")
        for of, spans in ((before, SPANS[0]), (now, SPANS[1]))
        for span, on in spans
    ]
    info: Any = SimpleNamespace(site="plaza", stream="plaza/noise", quantity="noise")
    return stretch(info, days, YEAR, RULES, (), PARIS, NOW_S, True)


def leq(of: Callable[[date], float], spans: Sequence[tuple[Window, date]]) -> float:
    """Returns the level of the mean energy of all days, written out here once more."""
    return 10 * log10(fmean(10 ** (of(on) / 10) for _, on in spans))


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
    info: Any = SimpleNamespace(site="plaza", stream=f"plaza/{quantity}", quantity=quantity)
    return stretch(info, days, YEAR, RULES, marks, PARIS, NOW_S, True)


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
    info: Any = SimpleNamespace(site="plaza", stream="plaza/footfall", quantity="footfall")
    one = stretch(info, days, leap, RULES, (), PARIS, leap.end_s + 86_400, True)
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
    assert "La moyenne est plus haute de 12,0 µg/m³ (entre" in rise and "on ne peut pas conclure" in rise
    assert "C'est au-dessus de l'année d'avant" in sentence(told(flat(60.0), flat(20.0), "pm2_5"), city)


def test_both_languages_say_how_many_months_and_between_what(city: City) -> None:
    """The sentence as a whole, where the sign is known and where it is not."""
    one = told(flat(1001.0), flat(1000.0))
    assert (
        "On compare à l'année d'avant 12 mois, mesurés à 75 % au moins les deux fois. "
        "C'est entre 1 passage de moins et 3 de plus par jour, avec les marges des deux années. "
        "On ne peut pas conclure."
    ) in sentence(one, city)
    assert (
        "That is between 1 crossing fewer and 3 more a day, with the margins of both years. Nothing can be"
        in sentence(one, city, "en")
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


MONTHS = st.lists(st.floats(40, 80), min_size=12, max_size=12)


def _is_the_level_of_both_years(now: Sequence[float], before: Sequence[float]) -> None:
    found = change(levels(lambda on: {"db": now[on.month - 1]}, lambda on: {"db": before[on.month - 1]}))
    years = [leq(lambda on, of=of: of[on.month - 1], spans) for of, spans in ((now, SPANS[1]), (before, SPANS[0]))]  # type: ignore[misc]
    assert (found.now, found.before) == pytest.approx(tuple(years))
    assert found.low < found.estimate < found.high


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(now=MONTHS, before=MONTHS)
@example(now=[62.0] * 12, before=[80.0 if month == 7 else 55.0 for month in range(1, 13)])
def test_levels_are_compared_by_the_energy_of_the_year(now: list[float], before: list[float]) -> None:
    """One loud month makes a loud year: a mean of the months' decibels would tell a rise where the level fell."""
    _is_the_level_of_both_years(now, before)


def test_a_mean_of_decibels_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: July at 80 dB and else 55, against 62 all year, is a fall of 7.4 dB and not a rise of 4.9."""
    weighed, july = stretch_module._weighed, [80.0 if month == 7 else 55.0 for month in range(1, 13)]

    def decibels(weights: Sequence[float], amounts: Sequence[Amount], as_level: bool) -> Any:
        return weighed(weights, [replace(one, estimate=10 * log10(one.estimate)) for one in amounts], False)

    assert change(levels(flat_level(62.0), lambda on: {"db": july[on.month - 1]})).estimate == pytest.approx(
        -7.4, abs=0.1
    )
    monkeypatch.setattr(stretch_module, "_weighed", decibels)
    with pytest.raises(AssertionError):
        _is_the_level_of_both_years([62.0] * 12, july)


def flat_level(db: float, **more: Any) -> Callable[[date], Any]:
    return lambda on: {"db": db, **more}


def test_the_interval_of_levels_holds_as_often_as_it_says() -> None:
    """Energies that scatter by their noise alone, by 60 % a day and 11 % a month: the true difference of the levels
    lies in the interval 95 times out of 100."""
    draw, held = random.Random(20261127), 0
    for _ in range(TRIALS):
        years = [
            lambda on, of=of: {"db": of[on.month], "noise": draw.gauss(0, 1), "share": 0.6} if on.month in of else None
            for of in ({2: 60.0, 5: 66.0, 6: 62.0}, {2: 61.0, 5: 58.0, 6: 58.0})
        ]
        found = change(levels(*years))
        now, before = (
            10 * log10((28 * 10**a + 31 * 10**b + 30 * 10**c) / 89) for a, b, c in ((6.0, 6.6, 6.2), (6.1, 5.8, 5.8))
        )
        assert found.months == (2, 5, 6)
        held += found.low <= now - before <= found.high
    assert LEAST * TRIALS <= held <= MOST * TRIALS


def test_silent_moments_of_levels_lie_on_their_side() -> None:
    """This year's may have been louder than what they count as, and so may the difference be larger; last year's the
    other way round."""
    plain, now, before = (
        change(levels(flat_level(62.0, beyond=up), flat_level(60.0, beyond=down)))
        for up, down in ((0, 0), (0.1, 0), (0, 0.1))
    )
    wider = 10 * log10(1.1)
    assert (now.low, now.high) == pytest.approx((plain.low, plain.high + wider), abs=0.01)
    assert (before.low, before.high) == pytest.approx((plain.low - wider, plain.high), abs=0.01)


def test_every_indicator_has_a_sentence_of_its_own(city: City) -> None:
    """More, less and between, of LAeq, of a mean and of a count, in both languages."""
    wide = {"share": 0.6}
    laeq = [
        levels(flat_level(db, **more), flat_level(60.0, **more)) for db, more in ((64.1, {}), (57.1, {}), (60, wide))
    ]
    mean = [told(flat(value), flat(40.0), "pm2_5") for value in (52.0, 25.0, 40.0)]
    count = [told(flat(value), flat(1000.0)) for value in (1100.0, 900.0, 1000.0)]
    said = {
        "fr": (
            ("Le LAeq est plus haut de 4,1 dB (entre ", "Le LAeq est plus bas de 2,9 dB (entre "),
            ("Le LAeq est entre 0,4 dB plus bas et 0,4 plus haut, avec les marges des deux années."),
            ("La moyenne est plus haute de 12,0 µg/m³ (entre ", "La moyenne est plus basse de 15,0 µg/m³ (entre "),
            ("La moyenne est entre 1,8 µg/m³ plus basse et 1,8 plus haute, avec les marges des deux années."),
            ("C'est 100 passages de plus par jour (entre ", "C'est 100 passages de moins par jour (entre "),
            ("C'est entre 2 passages de moins et 2 de plus par jour, avec les marges des deux années."),
        ),
        "en": (
            ("LAeq is higher by 4.1 dB (between ", "LAeq is lower by 2.9 dB (between "),
            ("LAeq is between 0.4 dB lower and 0.4 higher, with the margins of both years."),
            ("The mean is higher by 12.0 µg/m³ (between ", "The mean is lower by 15.0 µg/m³ (between "),
            ("The mean is between 1.8 µg/m³ lower and 1.8 higher, with the margins of both years."),
            ("That is 100 crossings more a day (between ", "That is 100 crossings fewer a day (between "),
            ("That is between 2 crossings fewer and 2 more a day, with the margins of both years."),
        ),
    }
    for code, words in said.items():
        wanted = [one for group in words for one in ((group,) if isinstance(group, str) else group)]
        for one, text in zip([*laeq, *mean, *count], wanted, strict=True):
            assert text in sentence(one, city, code)
