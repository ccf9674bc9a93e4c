"""The page `/gestion/chiffres`: the numbers behind the pictures of a scenario's page. It computes nothing that `desk`
has not."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from murmure_dashboards import pages
from murmure_dashboards.wording import FIXED, capital, language
from murmure_privacy.policy import Policy
from murmure_privacy.window import PARTS

from murmure.studio import page
from murmure.studio.answers import Month
from murmure.studio.desk import Look
from murmure.studio.form import LETTERS, Asked, Form
from murmure.studio.page import Cell, Table, Told

MOST_MONTHS = 24
MOST_INTERVALS = 12
"""So many intervals are told of a stream that has neither days nor nights."""


def render(form: Form[Asked], look: Look | None, base: Policy, query: Mapping[str, str], code: str) -> bytes:
    """Returns the page of an address in one language; see `page.render`, whose address holds the same question."""
    say = language(code)
    kept = {name: value for name, value in query.items() if name in form.typed}
    asked = f"?{urlencode(kept)}" if kept else ""
    stream = base.stream(form.typed["serie"]) or base.streams[0]
    return pages.filled(
        "numbers.html",
        say,
        page.NUMBERS + asked,
        page.city(say, base),
        home=page.PATH,
        title=say("studio.numbers_title", site=base.site),
        series=page.named(say, stream),
        back=page.PATH.rpartition("/")[2] + asked,
        told=_Numbers(say, look, base, kept) if look else None,
    )


class _Numbers(Told):
    """The same look, number by number."""

    @property
    def scenarios(self) -> list[str]:
        """Returns which scenario has which epsilon."""
        return [self.card_head(shown) for shown in self._look.shown]

    @property
    def days(self) -> Table | None:
        """Returns the numbers behind the pictures: a row a day, or a part of it where the pictures are of that part; of
        hours a row a day (or night), or an interval where there are neither; None without pictures."""
        say, look = self._say, self._look
        pictured = look.points if look.points and look.points[0].level in ("1d", *PARTS) else ()
        points = pictured or look.days or look.points[:MOST_INTERVALS]
        if not points:
            return None
        level, zone = points[0].level, self._calendar.zone
        drawn: list[dict[int, list[float]]] = []
        for shown in look.shown:
            by_start: dict[int, list[float]] = {}
            for one in (one for draw in shown.draws for one in draw if one.level == level):
                by_start.setdefault(one.start_s, []).append(one.value)
            drawn.append(by_start)
        rows = []
        for point in points:
            when = say.day(point.start_s, zone)
            if not look.days:
                when = f"{when}, {say.hours(point.start_s, point.end_s, zone)}"
            cells = (self._between(of.get(point.start_s, [])) for of in drawn)
            rows.append((Cell(capital(when)), Cell(self._number(point.value)), *cells))
        heads = (
            say("studio.days_scenario", letter=letter.upper(), margin=self._margin(shown.margins[level]))
            for letter, shown in zip(LETTERS, look.shown, strict=True)
        )
        unit = say(f"unit.of_{self._stream.quantity.name}")
        caption = say("studio.days_caption", node=capital(say(f"studio.node_{level}")), unit=unit)
        return Table(caption, (say("studio.days_day"), say("studio.days_true"), *heads), tuple(rows))

    def _between(self, values: list[float]) -> Cell:
        if not values:
            return Cell(self._say("studio.days_withheld"), grey=True)
        return Cell(f"{self._number(min(values))}{FIXED}– {self._number(max(values))}")

    @property
    def others(self) -> Table | None:
        """Returns the margin of each other figure, on the street that the week is like; None where there is none."""
        own = self._look.shown[0].made.stream.quantity.printed
        key = {"busy street": "animee", "quiet street": "calme"}.get(self._look.like, "fichier")
        street = self._say(f"studio.week_{key}_{self._kind}")
        caption = self._say("studio.figures_street", street=street)
        return self._figures(caption, lambda row: row["indicator"] != own and row["at"] in (None, self._look.like))

    @property
    def slider(self) -> Table | None:
        """Returns what each position of the slider does to the margins, at scenario B."""
        if not self._look.slider:
            return None
        say, now = self._say, self._look.asked.detail
        levels = list(self._look.slider[0][1])
        rows = [
            (
                Cell(say("studio.slider_now" if detail == now else "studio.slider_at", number=say.number(detail))),
                *(Cell(self._margin(margins[level])) for level in levels),
            )
            for detail, margins in self._look.slider
        ]
        columns = (say("studio.slider_position"), *(say(f"studio.node_{level}") for level in levels))
        return Table(say("studio.slider_caption"), columns, tuple(rows))

    @property
    def calendar(self) -> Table | None:
        """Returns the calendar of a yearly cap; None without one."""
        say, shown = self._say, self._look.shown
        if not shown[0].months:
            return None
        rows = []
        for place, month in enumerate(shown[0].months[:MOST_MONTHS]):
            name = f"{say.months[month.first.month - 1]} {month.first.year}"
            rows.append((Cell(capital(name)), *(self._month(one.months[place]) for one in shown)))
        return self._table(say("studio.cap_caption"), say("studio.cap_column"), rows)

    def _month(self, month: Month) -> Cell:
        if not month.withheld:
            return Cell(self._say("studio.cap_all"))
        return Cell(self._say("studio.cap_some", published=month.published, withheld=month.withheld), grey=True)
