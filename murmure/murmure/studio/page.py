"""The page `/gestion/scenarios`: answers in words, pictures and tables. It computes nothing that `desk` has not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any
from urllib.parse import quote, urlencode

from murmure_dashboards import charts, pages
from murmure_dashboards.charts import Axis, Chart, Step, Tick
from murmure_dashboards.config import City
from murmure_dashboards.promises import protected
from murmure_dashboards.wording import FIXED, Language, language
from murmure_privacy import accountant
from murmure_privacy.levels import NORMAL_95
from murmure_privacy.policy import Policy
from murmure_privacy.window import QUARTER_S, Calendar

from murmure.studio.answers import APART, Message, Month, Point
from murmure.studio.desk import DRAWS, Deployment, Look, Shown
from murmure.studio.form import LETTERS, Asked, Form, Mistake

PATH = "gestion/scenarios"
DRAFTS = "gestion/brouillon"
DRAFT_QUARTIER = "essai"
MOST_MONTHS = 24
_UNITS = {"1": "", "dB": f"{FIXED}dB", "ug/m3": f"{FIXED}µg/m³"}
_HIDDEN = ("histogram_s", "energy_mean")  # of no use to a reader: levels are read off them
_USE_OF_COUNT = 0.5  # of the usual value, beyond which a margin leaves nothing to read


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table; `grey` where what it says would not be shown."""

    text: str
    grey: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, the head of each column, rows of which the first cell names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Card:
    """What stands in a scenario's column."""

    letter: str
    head: str
    lines: tuple[str, ...]
    chart: Chart | None
    draft: str


def render(form: Form, look: Look | None, base: Policy, query: Mapping[str, str], code: str, today: Any) -> bytes:
    """Returns the page of an address in one language. `look` is None where the form has mistakes. `today`: the day on
    which sources are looked at."""
    say = language(code)
    asked_for = {name: value for name, value in query.items() if name != "garder"}
    path = PATH + ("?" + urlencode(asked_for) if asked_for else "")
    stream = look.asked.stream if look else base.stream(form.typed["serie"]) or base.streams[0]
    quantity = say(f"quantity.{stream.quantity.name}")
    told = _Told(say, look, query) if look else None
    return pages.filled(
        "scenarios.html",
        say,
        path,
        _city(say, base),
        home=PATH,
        title=say("studio.title", site=base.site),
        quantity=quantity,
        kind=stream.quantity.kind,
        unit=_UNITS[stream.quantity.unit].strip() or say("unit.of_footfall"),
        typed=form.typed,
        wrong={name: _said(say, mistake) for name, mistake in form.mistakes.items()},
        series=[(one.id, f"{say(f'quantity.{one.quantity.name}')} ({one.id})") for one in base.streams],
        levels=[(level, say(f"studio.node_{level}")) for level, _ in stream.nodes],
        weeks=[(name, say(f"studio.week_{name}")) for name in query.get("_weeks", "").split()],
        letters=LETTERS,
        told=told,
        due=today,
    )


def _city(say: Language, base: Policy) -> City:
    return City(
        city=say("studio.brand"),
        timezone=base.timezone,
        help=say("studio.help"),
        simulated=True,
        quartier=(),
        site=(),
    )


def _said(say: Language, mistake: Mistake) -> str:
    shown = {
        name: say.number(value) if isinstance(value, (int, Decimal)) else value
        for name, value in mistake.places.items()
    }
    return say(mistake.key, **shown)
