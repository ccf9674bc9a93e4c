"""The short answers of the home page."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards.answers import Answered, Answerer
from murmure_dashboards.config import City
from murmure_dashboards.facts import Fact
from murmure_dashboards.limits import load
from murmure_dashboards.sensors import own_error
from murmure_dashboards.site import render
from murmure_dashboards.usual import Usual
from murmure_dashboards.wording import language
from murmure_privacy.window import Calendar, Window

DAY = Window(1_795_215_600, 1_795_215_600 + 86_400)
FRENCH = Answerer(language("fr"), load(None), Calendar("Europe/Paris").zone, date(2026, 11, 21))
USUAL, MORE, LESS, EARLY = (Usual(8, low, high) for low, high in ((0.0, 99.0), (0.0, 5.0), (50.0, 99.0), (None, None)))


def fact(usual: Usual | None = USUAL, **other: Any) -> Fact:
    known: dict[str, Any] = {
        "quantity": "pm10",
        "indicator": "mean",
        "span": DAY,
        "averaging": "1d",
        "estimate": 20.0,
        "low": 19.0,
        "high": 21.0,
        "error": own_error("pm10", 20),
        "off": None,
        "absent": 0.0,
        "coverage": 1.0,
        "faulty": False,
        "publishable": True,
        "usual": usual,
    }
    return Fact(**known | other)


def brief(*facts: Fact | None) -> str:
    named = [(f"série {number}", one) for number, one in enumerate(facts, 1)]
    return FRENCH.brief(named).replace("\u00a0", " ").replace("\u202f", " ")


BELOW = "Air : au-dessous des repères pour un jour."
WHOLE = "Tous les capteurs ont répondu."


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ((fact(), fact()), f"Tout est comme d’habitude. {BELOW} {WHOLE}"),
        ((fact(MORE), fact()), f"Plus que d’habitude : série 1. Le reste est comme d’habitude. {BELOW} {WHOLE}"),
        ((fact(LESS), fact(EARLY)), f"Moins que d’habitude : série 1. {BELOW} {WHOLE}"),
        ((fact(EARLY), fact(None)), f"On ne peut pas dire si c’est comme d’habitude. {BELOW} {WHOLE}"),
        ((fact(), fact(EARLY)), f"Comme d’habitude : série 1. {BELOW} {WHOLE}"),
        ((fact(coverage=0.9),), f"Tout est comme d’habitude. {BELOW} Il manque des mesures : série 1."),
        ((fact(), None), f"Comme d’habitude : série 1. {BELOW} Il manque des mesures : série 2."),
        ((fact(averaging=""),), f"Tout est comme d’habitude. {WHOLE}"),
        ((fact(faulty=True, usual=None),), f"La mesure est faussée : on ne la compare à rien. {WHOLE}"),
        (
            (fact(faulty=True, usual=None), fact(EARLY)),
            f"On ne peut pas dire si c’est comme d’habitude. {BELOW} {WHOLE}",
        ),
        ((None, None), "Aucun chiffre pour cette journée."),
        ((), ""),
    ],
)
def test_a_neighbourhood_answers_in_some_short_sentences(facts: tuple[Fact | None, ...], said: str) -> None:
    """What is more, what is less, the air beside its limits of a day, what is missing: nothing that is not known."""
    assert brief(*facts) == said


def test_what_is_not_published_is_in_no_answer_for_all() -> None:
    """Where a sensor's figures are not published, or due later, nobody knows whether it answered or is as usual; of one
    from which nothing has ever come, figures may be expected."""
    named = [("passages", fact())]
    came, never = "Il ne manque aucun chiffre attendu.", "D’un capteur au moins, rien n’est encore arrivé."
    cases: tuple[tuple[Answered, str], ...] = (
        ("whole", f"Tout est comme d’habitude. {BELOW} {WHOLE}"),
        ("came", f"Comme d’habitude : passages. {BELOW} {came}"),
        ("never", f"Comme d’habitude : passages. {BELOW} {never}"),
    )
    for answered, said in cases:
        assert FRENCH.brief(named, answered).replace("\u00a0", " ") == said


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ((), "none"),
        ((fact(EARLY, averaging=""),), "cannot"),
        ((fact(EARLY, low=44.0, high=46.0),), "cannot"),
        ((fact(EARLY),), "cannot"),  # below the limits of a day, which does not tell what is usual
        ((fact(averaging=""), fact(EARLY, averaging="")), "usual"),
        ((fact(), fact(LESS)), "less"),
        ((fact(LESS), fact(MORE)), "more"),
        ((fact(), fact(EARLY, low=90.0, high=92.0)), "more"),  # above a limit, though nobody knows what is usual
    ],
)
def test_the_map_has_one_word_for_a_neighbourhood(facts: tuple[Fact, ...], state: str) -> None:
    """What is higher goes before what is lower, and neither is said of what cannot be told."""
    assert FRENCH.state(facts) == state


def test_the_worst_of_the_air_is_said() -> None:
    """One figure above a limit is not hidden by others below."""
    assert "au-dessus d’un repère pour un jour" in brief(fact(), fact(low=90.0, high=92.0))
    assert "on ne peut pas dire si un repère" in brief(fact(), fact(low=44.0, high=46.0))


def test_the_city_counts_its_neighbourhoods() -> None:
    """As usual, not so, or too early to say."""
    assert FRENCH.city([[fact()], [fact(), fact(EARLY)], []]) == "2 quartiers sur 2 sont comme d’habitude."
    assert FRENCH.city([[fact()], [fact(MORE)]]).startswith("1 quartier sur 2 est comme d’habitude. Quartiers où cela")
    assert FRENCH.city([[fact(EARLY)]]) == "On ne peut pas dire si la ville est comme d’habitude."
    assert FRENCH.city([]) == FRENCH.city([[]]) == ""


def test_the_home_page_answers_first(site: Path) -> None:
    """A sentence for the city, then one for each neighbourhood that has sensors, in both languages."""
    for path, city, brief_of in (
        ("", "On ne peut pas dire si la ville", "On ne peut pas dire si c’est comme"),
        ("en/", "Whether the city", "Whether this is as usual"),
    ):
        text = (site / path / "index.html").read_text(encoding="utf-8")
        assert text.index(city) < text.index("<ul class")
        assert len(re.findall(f'<p class="answer">{brief_of}', text)) == 2, "the park has no sensor"
        assert "Place de la République)" not in text, "where there is one place, nothing is said of it"


def test_a_sensor_that_has_fallen_silent_is_missing_until_now(streets: SimpleNamespace, city: City) -> None:
    """Three hours without a figure are a hole, also if nothing has come after them."""
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.Street()
    gone = [Window(day.start_s + 12 * 3600, day.end_s)]
    streets.add(street, "plaza", day, silent=gone, streams=("footfall",))
    home = dict(render(street, replace(city, site=city.site[:1]), streets.NOW_S))["index.html"].decode()
    assert "Il manque des mesures\u00a0: passages." in home
