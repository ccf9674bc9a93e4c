"""As usual, more or less: only what neither the noise nor the ordinary scatter of the weeks can have made."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards.answers import Answerer
from murmure_dashboards.config import City
from murmure_dashboards.facts import Fact, of_day
from murmure_dashboards.limits import load
from murmure_dashboards.store import Store
from murmure_dashboards.usual import STUDENT_95, WEEKS, Past, Usual, expected
from murmure_dashboards.views import view
from murmure_dashboards.wording import language
from murmure_privacy.annotation import Annotation
from murmure_privacy.policies import Rules
from murmure_privacy.window import Window

DAY_S = 86_400
TRIALS, FALSE_AT_MOST = 4000, 260  # one in twenty would be 200; above 260 once in 100,000


def weeks(
    streets: SimpleNamespace, busy: list[float], which: tuple[str, ...] = ("footfall", "pm2_5"), **last: Any
) -> Any:
    """A street whose Saturdays, oldest first, are as busy as this; the last one is today, until midnight."""
    day = streets.PARIS.day(streets.NOW_S)
    street = streets.Street()
    for back, level in enumerate(reversed(busy)):
        one = streets.PARIS.day(day.start_s + 43_200 - 7 * DAY_S * back)
        part = streets.Street()
        more = last if back == 0 else {}
        streets.add(part, "plaza", one, now_s=day.end_s, busy=level, streams=which, **more)
        street.infos = part.infos
        street.signed |= part.signed
        for stream, nodes in part.nodes.items():
            street.nodes[stream] = [*nodes, *street.nodes.get(stream, [])]
    return street


def known(
    streets: SimpleNamespace,
    street: Any,
    city: City,
    now_s: int | None = None,
    marks: Any = (),
    stream: str = "footfall",
) -> Fact:
    day = streets.PARIS.day(streets.NOW_S)
    at_s = day.end_s if now_s is None else now_s
    info = next(info for info in street.infos if info.stream == f"plaza/{stream}")
    seen = view(street, Rules(street), marks, info, day, streets.PARIS, at_s)
    found = of_day(seen, city.site[0], Past(street, Rules(street), marks, streets.PARIS, at_s))
    assert found is not None
    return found


def test_what_a_day_gave_until_each_quarter_hour_is_kept(
    streets: SimpleNamespace, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first store, from the one that was written and without any, the same; days before are opened once."""
    street, day = weeks(streets, [1.0, 1.1, 0.9, 1.05, 1.0, 1.2, 1.0]), streets.PARIS.day(streets.NOW_S)
    asked: list[int] = []
    real = street.outcomes

    def watched(stream: str, from_s: int, to_s: int) -> Any:
        asked.append(from_s)
        return real(stream, from_s, to_s)

    monkeypatch.setattr(street, "outcomes", watched)
    for info in street.infos:
        for at_s in (day.start_s + 9 * 3600, streets.NOW_S, streets.NOW_S + 900, day.end_s):
            seen = view(street, Rules(street), (), info, day, streets.PARIS, at_s)
            expected_fact = of_day(seen, city.site[0], Past(street, Rules(street), (), streets.PARIS, at_s))
            assert expected_fact is not None and expected_fact.usual is not None and expected_fact.usual.low is not None
            for _ in range(2):
                store = Store.open(tmp_path / "store", street, "Europe/Paris")
                asked.clear()
                past = Past(street, Rules(street), (), streets.PARIS, at_s, store)
                assert of_day(seen, city.site[0], past) == expected_fact
                store.close()
            assert all(from_s < day.start_s - 45 * DAY_S for from_s in asked), "before the street was measured"


def said(streets: SimpleNamespace, fact: Fact, code: str = "fr") -> str:
    day = streets.PARIS.day(streets.NOW_S)
    answerer = Answerer(language(code), load(None), streets.PARIS.zone, streets.PARIS.civil_day(day.start_s))
    return answerer.usual(fact).replace("\u00a0", " ").replace("\u202f", " ")


def test_only_an_interval_wholly_outside_is_unusual() -> None:
    """Touching is as usual, and without weeks nothing is known."""
    usual = Usual(8, 100.0, 200.0)
    assert [usual.place(*ends) for ends in ((201, 210), (90, 99), (199, 210), (90, 101), (120, 130))] == [
        "more",
        "less",
        "usual",
        "usual",
        "usual",
    ]
    assert Usual(3, None, None).place(0, 1) == "unknown"


@pytest.mark.parametrize("number", range(4, WEEKS + 1))
def test_one_ordinary_day_in_twenty_lies_outside(number: int) -> None:
    """The next value after 4 to 8 of a normal law is in the interval 19 times out of 20; without the factor for a
    single new value, or with the normal law instead of Student's, it is not."""
    draw = random.Random(number)
    outside, naive = 0, 0
    for _ in range(TRIALS):
        values = [draw.gauss(500, 40) for _ in range(number)]
        usual, new = expected(values), draw.gauss(500, 40)
        assert usual.low is not None and usual.high is not None
        outside += not usual.low <= new <= usual.high
        middle = (usual.low + usual.high) / 2
        half = (usual.high - middle) / STUDENT_95[number - 4] * NormalDist().inv_cdf(0.975)
        naive += abs(new - middle) > half
    assert outside <= FALSE_AT_MOST
    assert naive > outside


def test_fewer_than_four_weeks_say_that_it_is_too_early(streets: SimpleNamespace, city: City) -> None:
    """Three Saturdays are no habit; the page says how many there are."""
    fact = known(streets, weeks(streets, [1.0] * 4), city)
    assert fact.usual == Usual(3, None, None)
    assert said(streets, fact) == (
        "On ne peut pas dire si c’est comme d’habitude (3 semaines comparables, il en faut 4)."
    )


def test_a_day_like_the_others_is_as_usual_and_a_fete_is_more(streets: SimpleNamespace, city: City) -> None:
    """In both languages, with what was to be expected in numbers."""
    assert said(streets, known(streets, weeks(streets, [1.0, 1.02, 0.98, 1.01, 0.99, 1.0]), city)) == (
        "C’est comme d’habitude pour un samedi."
    )
    fete = known(streets, weeks(streets, [1.0, 1.02, 0.98, 1.01, 0.99, 2.0]), city)
    assert said(streets, fete).startswith("C’est plus que d’habitude : un samedi, on s’attend à un nombre entre 1 ")
    assert said(streets, fete, "en").startswith("This is more than usual: a Saturday is expected between 1,")
    quiet = known(streets, weeks(streets, [1.0, 1.02, 0.98, 1.01, 0.99, 0.5]), city)
    assert said(streets, quiet).startswith("C’est moins que d’habitude : un samedi,")


def test_until_now_is_beside_the_same_hours(streets: SimpleNamespace, city: City) -> None:
    """At a quarter past three the day so far stands beside other Saturdays up to then, not beside whole ones."""
    fact = known(streets, weeks(streets, [1.0, 1.02, 0.98, 1.01, 0.99, 1.0]), city, streets.NOW_S)
    assert fact.averaging == "" and fact.usual is not None and fact.usual.weeks == 5
    assert said(streets, fact) == "C’est comme d’habitude pour un samedi jusqu’à la même heure."


def test_faulty_weeks_and_weeks_with_holes_are_left_out(streets: SimpleNamespace, city: City) -> None:
    """A marked Saturday does not count; nor does today, if it is marked or has a hole."""
    street = weeks(streets, [1.0, 1.02, 0.98, 1.01, 0.99, 1.0])
    day = streets.PARIS.day(streets.NOW_S)
    mark = Annotation(
        site="plaza",
        number=1,
        issued_s=day.end_s,
        sentence="Travaux.",
        stream="plaza/footfall",
        from_s=day.start_s - 7 * DAY_S + 3600,
        to_s=day.start_s - 7 * DAY_S + 7200,
        cause="works",
        sentence_en="",
    )
    fact = known(streets, street, city, marks=(mark,))
    assert fact.usual is not None and fact.usual.weeks == 4
    today = replace(mark, from_s=day.start_s + 3600, to_s=day.start_s + 7200)
    marked = known(streets, street, city, marks=(today,))
    assert marked.usual is None and said(streets, marked) == "La mesure est faussée : on ne la compare à rien."
    hole = Window(day.start_s + 3600, day.start_s + 7200)
    holed = known(streets, weeks(streets, [1.0] * 6, silent=[hole]), city)
    assert holed.usual is None and said(streets, holed) == (
        "La mesure a des trous : on ne la compare pas aux autres semaines."
    )
    assert known(streets, weeks(streets, [1.0] * 6, silent=[hole]), city, stream="pm2_5").usual is not None


def test_weeks_under_another_bound_are_no_habit(streets: SimpleNamespace, city: City) -> None:
    """Where the signed rule now holds levels below 75 dB instead of 85, the mean is another one: nothing is said of it
    until there are weeks under the new rule."""
    same = known(streets, weeks(streets, [1.0] * 6, ("noise",)), city, stream="noise")
    assert same.usual is not None and same.usual.weeks == 5
    other = known(streets, weeks(streets, [1.0] * 6, ("noise",), high_db=75), city, stream="noise")
    assert other.usual == Usual(0, None, None)


def test_what_is_not_final_yet_is_no_habit(streets: SimpleNamespace, city: City) -> None:
    """With nodes of a week, last Saturday's figures move until its Sunday is over: all that is used is."""
    street = weeks(streets, [1.0, 1.02, 0.98, 1.01, 0.99, 1.0])
    day = streets.PARIS.day(streets.NOW_S)
    info = next(info for info in street.infos if info.stream == "plaza/footfall")
    seen = view(street, Rules(street), (), info, day, streets.PARIS, day.end_s)
    span = Window(day.start_s, day.end_s)
    late = Past(street, Rules(street), (), streets.PARIS, day.end_s)
    assert late.usual(seen, "crossings", span).weeks == 5
    early = replace(late, now_s=day.start_s - 14 * DAY_S)  # before two of the Saturdays are over
    assert early.usual(seen, "crossings", span).weeks == 3
