"""Numbers and sentences: honest steps, whole intervals, two complete languages."""

from __future__ import annotations

import string
from decimal import Decimal
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_dashboards.wording import LANGUAGES, catalogue, language, rounded
from murmure_privacy.errors import ConfigError
from murmure_privacy.stream import QUANTITIES
from murmure_privacy.window import Calendar

FRENCH, ENGLISH = language("fr"), language("en")
PARIS = Calendar("Europe/Paris").zone
values = st.floats(-1e7, 1e7, allow_nan=False)
halves = st.floats(0, 1e6, allow_nan=False)


@given(values, halves, halves, st.integers(-2, 1))
def test_a_printed_interval_holds_the_true_one_and_is_never_a_point(
    estimate: float, below: float, above: float, finest: int
) -> None:
    """Rounding goes outward, the estimate stays inside, and there is always a margin to see."""
    low, high = estimate - below, estimate + above
    r = rounded(estimate, low, high, finest)
    assert r.low <= Decimal(low) and Decimal(high) <= r.high
    assert r.low <= r.estimate <= r.high
    assert r.low < r.high


@given(values, st.floats(1e-3, 1e6), st.integers(-2, 1))
def test_a_number_is_as_fine_as_its_interval_bears(estimate: float, half: float, finest: int) -> None:
    """The step is at most the margin, at least a twentieth of it unless the quantity has no finer step."""
    r = rounded(estimate, estimate - half, estimate + half, finest)
    least = Decimal(1).scaleb(finest)
    assert r.step >= least
    assert r.step == least or Decimal(half) / 21 <= r.step <= Decimal(half) * Decimal("1.001")


@given(st.sampled_from(sorted(QUANTITIES)), values, halves, st.sampled_from(LANGUAGES))
def test_no_sentence_says_plus_or_minus_zero_or_less_than_nothing(
    quantity: str, estimate: float, half: float, code: str
) -> None:
    """Whatever the figures, an interval has two different ends, and counts and air are never printed below zero."""
    say = language(code)
    number, between = say.amount(quantity, estimate, estimate - half, estimate + half)
    cell = say.cell(quantity, estimate, estimate - half, estimate + half)
    assert "±" not in number + between + cell
    if quantity != "noise":
        assert "−" not in number + between + cell
        assert not number.startswith(("0\u00a0", "-"))
    if between:
        words = (
            between.split(", 19")[0]
            .replace("entre ", "")
            .replace("between ", "")
            .split(" et " if code == "fr" else " and ")
        )
        assert words[0] != words[1]


def test_the_sentence_of_the_issue_is_said_as_it_was_asked() -> None:
    """1 240 passages (entre 1 221 et 1 259, 19 fois sur 20)."""
    number, between = FRENCH.amount("footfall", 1240.2, 1221.4, 1258.9)
    assert f"{number} ({between})" == "1\u202f240 passages (entre 1\u202f221 et 1\u202f259, 19 fois sur 20)"
    number, between = ENGLISH.amount("footfall", 1240.2, 1221.4, 1258.9)
    assert f"{number} ({between})" == "1,240 crossings (between 1,221 and 1,259, 19 times out of 20)"


@pytest.mark.parametrize(
    ("estimate", "low", "high", "said"),
    [
        (-3.2, -18.4, 12.1, "moins de 13 passages"),
        (0.4, -14.0, 15.0, "moins de 16 passages"),
        (-40.0, -55.0, -25.0, "moins de 1 passage"),
        (1.4, 0.2, 2.6, "1 passage"),
    ],
)
def test_next_to_nothing_is_said_as_less_than(estimate: float, low: float, high: float, said: str) -> None:
    """Where the estimate is not positive, the page says below which number the count is, in the right number."""
    assert FRENCH.amount("footfall", estimate, low, high)[0] == said


def test_a_level_may_be_below_zero_but_not_silently() -> None:
    """Decibels are not counts: what is negative is printed with a true minus sign."""
    assert FRENCH.cell("noise", -1.5, -2.5, -0.5) == "−1,5 (−2,5 à −0,5)"


@pytest.mark.parametrize(
    ("most", "said"),
    [
        (0.05, "5\u00a0%"),
        (0.0501, "6\u00a0%"),
        (1.0, "100\u00a0%"),
        (0.45, "45\u00a0%"),
        (0.00208, "0,3\u00a0%"),
        (1e-9, "0,1\u00a0%"),
    ],
)
def test_a_share_that_is_an_upper_bound_is_rounded_up(most: float, said: str) -> None:
    """At most 5.01 % is at most 6 %, and never at most nothing."""
    assert FRENCH.share(most) == said


def test_both_languages_have_the_same_sentences_with_the_same_places() -> None:
    """A sentence that one language lacks, or fills differently, is a page that breaks in it."""

    def places(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert FRENCH.texts.keys() == ENGLISH.texts.keys()
    assert [key for key in FRENCH.texts if places(FRENCH.texts[key]) != places(ENGLISH.texts[key])] == []
    assert len(FRENCH.months) == len(ENGLISH.months) == 12
    assert len(FRENCH.days) == len(ENGLISH.short_days) == len(FRENCH.short_days) == len(ENGLISH.days) == 7


@pytest.mark.parametrize("second", ['[page]\nhelp = "?"', 'page = "?"', "[page.help]\nhead = 1", "[page]\nhelp = []"])
def test_a_key_stands_in_one_file_of_a_language(tmp_path: Path, second: str) -> None:
    """Tables are spread over files, a sentence is not: the second is refused in one line that names both files."""
    (tmp_path / "common.toml").write_text('[page]\nhelp = "!"\n[calendar]\nmonths = ["May"]\n')
    (tmp_path / "home.toml").write_text('[page]\nhead = "A"\n')
    assert catalogue(tmp_path) == {"page": {"help": "!", "head": "A"}, "calendar": {"months": ["May"]}}
    (tmp_path / "home.toml").write_text(second)
    with pytest.raises(ConfigError, match=r"home\.toml: page(\.help)?: stands in .*/common\.toml too; keep one"):
        catalogue(tmp_path)


def test_both_languages_have_the_same_files() -> None:
    """Who translates a page finds it under the same name."""
    locale = resources.files("murmure_dashboards").joinpath("locale")
    assert len({tuple(sorted(file.name for file in locale.joinpath(code).iterdir())) for code in LANGUAGES}) == 1


def test_every_quantity_has_its_words() -> None:
    """A stream of any quantity can be told in both languages."""
    for say in (FRENCH, ENGLISH):
        for name in QUANTITIES:
            assert say(f"quantity.{name}") and say(f"unit.of_{name}") and say.counted(f"unit.{name}", 2, number="2")


def test_french_sets_its_spaces_and_apostrophes() -> None:
    """No line begins with a colon, and apostrophes are true ones."""
    assert FRENCH.typeset("« l'heure » : quand ?") == "«\u00a0l’heure\u00a0»\u00a0: quand\u202f?"
    assert not any("'" in FRENCH(key) for key, text in FRENCH.texts.items() if "{" not in text)


def test_days_and_hours_are_said_as_people_say_them() -> None:
    """Midnight at the end of a day is 24 h, the first of a month is the first, hours carry no needless zeros."""
    calendar = Calendar("Europe/Paris")
    first_s = 1_793_487_600  # 2026-11-01 00:00 in Paris
    day = calendar.day(first_s)
    assert FRENCH.date(first_s, PARIS) == "dimanche 1er novembre 2026"
    assert ENGLISH.date(first_s, PARIS) == "Sunday 1 November 2026"
    assert FRENCH.hours(day.end_s - 3600, day.end_s, PARIS) == "23\u00a0h – 24\u00a0h"
    assert FRENCH.hour(first_s + 900, PARIS) == "0\u00a0h\u00a015"
    assert ENGLISH.hour(first_s + 900, PARIS) == "00:15"


def test_the_hour_that_summer_time_repeats_is_told_twice_without_lying() -> None:
    """On the day of 25 hours the two hours after 2 h are `2 h – 2 h` and `2 h – 3 h`."""
    calendar = Calendar("Europe/Paris")
    day = calendar.day(1_792_900_000)  # 2026-10-25
    assert day.end_s - day.start_s == 25 * 3600
    labels = [FRENCH.hours(at_s, at_s + 3600, PARIS) for at_s in range(day.start_s, day.end_s, 3600)]
    assert len(set(labels)) == 25
    assert labels[2:4] == ["2\u00a0h – 2\u00a0h", "2\u00a0h – 3\u00a0h"]
