"""A figure beside a limit: the same quantity over the same time, the whole interval, the sensor's error within."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from importlib import resources
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_dashboards.answers import Answerer
from murmure_dashboards.facts import Fact
from murmure_dashboards.limits import Threshold, applying, coming, load, overdue, parse, verdict
from murmure_dashboards.sensors import own_error
from murmure_dashboards.wording import language
from murmure_privacy.errors import ConfigError
from murmure_privacy.preview import SENSORS
from murmure_privacy.window import Calendar, Window

OURS = load(None)
TODAY = date(2026, 11, 26)
PARIS = Calendar("Europe/Paris")
DAY = Window(1_795_215_600, 1_795_215_600 + 86_400)


@dataclass(frozen=True)
class Held:
    """What is held against a limit."""

    quantity: str
    averaging: str
    widest: tuple[float, float]


def limit(name: str) -> Threshold:
    return next(one for one in OURS if one.id == name)


def fact(quantity: str, estimate: float, margin: float, **other: Any) -> Fact:
    known: dict[str, Any] = {
        "quantity": quantity,
        "indicator": "mean",
        "span": DAY,
        "averaging": "1d",
        "estimate": estimate,
        "low": estimate - margin,
        "high": estimate + margin,
        "error": own_error(quantity, estimate),
        "off": None,
        "absent": 0.0,
        "coverage": 1.0,
        "faulty": False,
        "publishable": True,
        "usual": None,
    }
    return Fact(**known | other)


def answerer(code: str = "fr", thresholds: tuple[Threshold, ...] = OURS, on: date = TODAY) -> Answerer:
    return Answerer(language(code), thresholds, PARIS.zone, on)


def told(one: Fact, dominant: str = "", **other: Any) -> str:
    return " ".join(answerer(**other).limit(one, dominant)).replace("\u00a0", " ").replace("\u202f", " ")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (10, 44.9, "below"),
        (45.1, 60, "above"),
        (44, 46, "cannot tell"),
        (10, 45, "cannot tell"),
        (45, 60, "cannot tell"),
    ],
)
def test_only_a_whole_interval_is_above_or_below(low: float, high: float, said: str) -> None:
    """An end that touches the limit, or goes beyond it, leaves the question open."""
    assert verdict(Held("pm10", "1d", (low, high)), limit("who_pm10_1d"), 1.0) == said
    assert verdict(Held("pm10", "1d", (low, high)), limit("who_pm10_1d"), 0.74) == "cannot tell", (
        "too little of the day"
    )


@given(
    st.sampled_from(["footfall", "noise", "pm1", "pm2_5", "pm10", "lden", "ln"]),
    st.sampled_from(["", "15min", "1h", "6h", "1d", "1w", "1y"]),
    st.floats(-1e3, 1e3),
)
def test_no_other_quantity_and_no_other_time_is_ever_compared(quantity: str, averaging: str, low: float) -> None:
    """A limit of a year is never beside an hour or a day, and one of noise never beside dust."""
    for threshold in OURS:
        pair = (quantity, averaging) == (threshold.quantity, threshold.averaging)
        found = verdict(Held(quantity, averaging, (low, low + 1)), threshold, 1.0)
        assert (found is not None) == pair


def test_the_error_of_the_sensor_is_in_the_verdict() -> None:
    """40 with a small margin is below 45 only for a sensor without error."""
    assert verdict(fact("pm10", 40, 1), limit("who_pm10_1d"), 1.0) == "cannot tell"
    assert verdict(fact("pm10", 40, 1, error=0.0), limit("who_pm10_1d"), 1.0) == "below"


@given(st.sampled_from(sorted(SENSORS)), st.floats(0, 500))
def test_a_sensor_is_never_better_than_its_data_sheet(quantity: str, value: float) -> None:
    """What the steward is told of a quantity's usual sensor is the least that the page says."""
    assert own_error(quantity, value) >= SENSORS[quantity].error


def test_every_limit_is_sourced_dated_and_in_force_or_to_come() -> None:
    """The file that comes with Murmure: no limit without its source, none read after its review, one of each kind."""
    assert len({one.id for one in OURS}) == len(OURS) == 26
    for one in OURS:
        assert one.source and one.address.startswith("http") and one.read < one.review
    kinds = [(one.quantity, one.averaging, one.by, one.dominant, one.in_force_from) for one in OURS]
    assert len(set(kinds)) == len(kinds)
    assert {by: one.value for by, one in applying(OURS, "pm10", "1d", TODAY).items()} == {"who": 45, "law": 50}
    assert {by: one.value for by, one in applying(OURS, "pm2_5", "1d", TODAY).items()} == {"who": 15}
    assert applying(OURS, "pm1", "1d", TODAY) == {}


@pytest.mark.parametrize("number", range(len(OURS)))
def test_a_row_that_nobody_verified_is_refused(number: int) -> None:
    """Whichever row of the file loses the word, nothing of the file is loaded: no page shows a limit on trust."""
    text = resources.files("murmure_dashboards").joinpath("thresholds.toml").read_text(encoding="utf-8")
    parts = text.split("verified = true\n")
    assert len(parts) == len(OURS) + 1
    lacking = "verified = true\n".join(parts[: number + 1]) + "verified = true\n".join(parts[number + 1 :])
    with pytest.raises(ConfigError, match=rf"threshold {number + 1}: verified"):
        parse(lacking.encode(), "thresholds.toml")


def test_the_rows_are_those_that_were_collected(shared: Path) -> None:
    """Value, averaging, source of noise and day: as they were collected beside the sources, verified there, too."""
    collected = {one["id"]: one for one in json.loads((shared / "thresholds.json").read_text(encoding="utf-8"))}
    for one in OURS:
        row = collected[one.id]
        assert row["verified"] is True, one.id
        assert (row["quantity"], row["value"]) == (one.quantity, one.value), one.id
        assert row["averaging"].startswith({"1d": "1d", "1y": ("1y", "year")}[one.averaging]), one.id
        # Of some advice only the year is known.
        assert one.in_force_from.isoformat().startswith(row["in_force_from"]), one.id
        assert row["kind"].startswith("legal") == (one.by == "law"), one.id


def test_a_limit_of_2030_is_not_in_force_before() -> None:
    """It is announced with its year, and takes the place of the old one on its day."""
    later = coming(OURS, "pm2_5", "1d", TODAY)
    assert later is not None and (later.value, later.in_force_from.year) == (25, 2030)
    assert "la loi fixera 25 µg/m³ à partir de 2030" in told(fact("pm2_5", 8, 1))
    assert applying(OURS, "pm10", "1d", date(2030, 1, 1))["law"].value == 45
    assert coming(OURS, "pm2_5", "1d", date(2030, 1, 1)) is None


def test_law_and_who_are_named_together_and_each_state_has_its_words() -> None:
    """Below, above, between, and what cannot be told."""
    named = "Pour un jour, la loi fixe au plus 50 µg/m³ et l’OMS conseille au plus 45 µg/m³. "
    assert told(fact("pm10", 20, 2)) == f"{named}Ce jour est au-dessous des deux, même avec l’erreur de l’appareil."
    assert told(fact("pm10", 45, 2)) == f"{named}Avec l’erreur de l’appareil, on ne peut pas conclure."
    over = told(fact("pm10", 90, 2))
    assert (
        over == f"{named}Ce jour est au-dessus des deux, même avec l’erreur de l’appareil. "
        "La loi admet 35 jours au-dessus par an."
    )
    apart = told(fact("pm10", 48, 1, error=0.5))
    assert apart.endswith("ce jour : au-dessous du repère pour la loi, au-dessus du repère pour l’OMS.")
    assert "La loi admet" not in apart


def test_a_day_that_is_not_over_or_not_whole_is_not_compared() -> None:
    """Neither a morning, nor a day of 17 hours, nor a faulty one is above or below anything."""
    for one, said in (
        (fact("pm10", 20, 2, averaging=""), "On compare quand le jour est fini."),
        (fact("pm10", 20, 2, coverage=17 / 24), "moins des trois quarts du jour sont mesurés."),
        (fact("pm10", 20, 2, faulty=True), "on ne la compare à rien."),
    ):
        assert told(one).endswith(said)
        assert "au-dessous" not in told(one)


def test_limits_of_noise_are_named_as_those_of_a_year_and_never_compared() -> None:
    """Only where one source is declared to make most of the noise are they named at all."""
    loud = fact("noise", 90, 0.1, indicator="laeq_db")
    assert told(loud, "road") == (
        "Les limites de bruit de la route portent sur une année (68 dB dans la loi, 53 dB pour l’OMS). "
        "On n’y compare ni une heure ni un jour."
    )
    for dominant in ("", "industry", "high_speed_rail"):  # of these the WHO says nothing
        assert "dB" not in told(loud, dominant) and "ni un jour" in told(loud, dominant)


def test_what_should_have_been_read_again_says_so() -> None:
    """From the day after its review on, the page warns beside the limit."""
    assert overdue(OURS, date(2026, 12, 12)) == []
    assert {one.quantity for one in overdue(OURS, date(2026, 12, 13))} == {"pm2_5", "pm10"}
    one = fact("pm10", 20, 2)
    assert "devaient être relus avant le samedi 12 décembre 2026" in told(one, on=date(2026, 12, 13))
    assert "relus" not in told(one, on=date(2026, 12, 12))


def test_nobody_is_accused() -> None:
    """Neither the words of a court nor those of an inspector, in any state, in both languages."""
    spans = product(("pm2_5", "pm10", "noise"), (1.0, 15.0, 45.0, 50.0, 200.0), ("1d", ""), ("fr", "en"))
    for quantity, estimate, averaging, code in spans:
        words = told(fact(quantity, estimate, 1, averaging=averaging), "road", code=code).lower()
        for never in ("infraction", "conforme", "violation", "breach", "compliant", "environ", "about"):
            assert never not in words.split()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("value = 50", 'value = "50"', r"threshold 1: value: '50' .* write a number above 0"),
        ('by = "law"', 'by = "mayor"', r"by: 'mayor' .* write one of law, who"),
        (
            "verified = true",
            "",
            "verified: None .* read the value at its source, then write true; or leave the limit out",
        ),
        ("verified = true", "verified = false", "verified: False .* leave the limit out"),
        ("verified = true", 'verified = "true"', "verified: 'true' .* leave the limit out"),
        ("verified = true", "verified = 1", "verified: 1 .* leave the limit out"),
        ("read = 2026-11-21", "", "read: None .* write a date such as"),
        ('averaging = "1d"', 'averaging = "1h"', "averaging: '1h' .* write one of 1d, 1y"),
        ('quantity = "pm10"', 'quantity = "lden"\ndominant = "road"', "limits of noise are of a year: write 1y"),
        ('quantity = "pm10"', 'quantity = "pm10"\ndominant = "road"', "for air leave it out"),
        ("[[threshold]]", "[[threshold]]\nextra = 1", "extra: unknown key; write one of id, quantity"),
        ("[[threshold]]", "[threshold]", "threshold: missing, or beside other keys"),
        ("value = 50", "value =", "file: not TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(old: str, new: str, said: str) -> None:
    """A town's own file is read as strictly as ours: file, key, what is wrong, what to write."""
    text = """[[threshold]]
id = "a"
quantity = "pm10"
value = 50
averaging = "1d"
by = "law"
in_force_from = 2010-10-23
source = "R. 221-1"
address = "https://example.org/"
verified = true
read = 2026-11-21
review = 2026-12-12
"""
    assert len(parse(text.encode(), "town.toml")) == 1
    with pytest.raises(ConfigError, match=said) as caught:
        parse(text.replace(old, new).encode(), "town.toml")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="'a' stands twice"):
        parse(2 * text.encode(), "town.toml")


def test_both_parts_of_the_margin_are_told_apart() -> None:
    """The protection's part, the device's part, and both together, whose ends are the intervals' own."""
    say = answerer()
    one = say.margin(fact("noise", 62.9, 1.45)).replace("\u00a0", " ")
    assert one == (
        "L’intervalle vient du brouillage (± 1,5 dB). "
        "L’appareil peut ajouter ± 2 dB, selon sa notice : avec les deux, entre 59 et 67."
    )
    silent = say.margin(fact("pm10", 30, 4, absent=0.1)).replace("\u00a0", " ")
    assert silent.startswith("L’intervalle vient du brouillage et des moments muets (± 4 µg/m³).")
    count = fact("pm10", 100, 19, error=None)
    count = Fact(**{**{name: getattr(count, name) for name in Fact.__slots__}, "quantity": "footfall"})
    assert "n’a pas été mesuré" in say.margin(count)
    off = SimpleNamespace(street=0.305, doorway=0.005)
    missed = Fact(**{**{name: getattr(count, name) for name in Fact.__slots__}, "off": off})
    assert "oublier jusqu’à 31\u00a0% des passages (essai en simulation)" in say.margin(missed)
