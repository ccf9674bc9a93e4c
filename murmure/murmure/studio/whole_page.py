"""The page `/gestion/lieu`: all streams of a site and their sum. It computes nothing that `whole` has not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from urllib.parse import urlencode

from murmure_dashboards import pages
from murmure_dashboards.wording import Language, language
from murmure_privacy import accountant
from murmure_privacy.policy import DEFAULT_DELTA, Policy, StreamPolicy

from murmure.studio import draft, page
from murmure.studio.form import LETTERS, RULE, Form, usual_level
from murmure.studio.page import Card, Cell, Table
from murmure.studio.whole import AskedWhole, Together, field

_ROWS_EACH = 4  # so many streams at most have the margin of each level on the page, and a row for each figure


def render(
    form: Form[AskedWhole],
    told: Sequence[Together] | None,
    base: Policy,
    query: Mapping[str, str],
    code: str,
    policies: Sequence[str],
) -> bytes:
    """Returns the page of an address in one language. `told` is None where the form has mistakes; `query`: the address
    as it was read; `policies`: the sites of those that the studio has open."""
    say = language(code)
    kept = {name: value for name, value in query.items() if name in form.typed}
    return pages.filled(
        "whole.html",
        say,
        f"{page.WHOLE}?{urlencode(kept)}" if kept else page.WHOLE,
        page.city(say, base),
        home=page.WHOLE,
        policies=policies,
        site=base.site,
        title=say("studio.whole_title", site=base.site),
        action=page.WHOLE.rpartition("/")[2],
        typed=form.typed,
        wrong={name: page.said(say, mistake) for name, mistake in form.mistakes.items()},
        series=[
            (page.named(say, stream), [(field(letter, number), letter) for letter in LETTERS])
            for number, stream in enumerate(base.streams, 1)
        ],
        letters=LETTERS,
        told=_Told(say, form.asked, told, base, policies) if form.asked and told else None,
    )


def _joined(rows: Sequence[Sequence[Cell]]) -> list[Cell]:
    """Returns one row for several; what several of them say alike, that a stream is not measured, once."""
    columns = zip(*rows, strict=True)
    return [Cell(" · ".join(dict.fromkeys(cell.text for cell in cells)), grey=cells[0].grey) for cells in columns]


class _Told:
    """The three scenarios in one language."""

    def __init__(
        self, say: Language, asked: AskedWhole, told: Sequence[Together], base: Policy, policies: Sequence[str]
    ) -> None:
        self._say, self._asked, self._told, self._base, self._policies = say, asked, told, base, policies

    @property
    def cards(self) -> list[Card]:
        """Returns the three in words."""
        return [self._card(one) for one in self._told]

    def _card(self, one: Together) -> Card:
        say, count, places = self._say, len(one.planned.streams), self._asked.places
        epsilon = page.told_epsilon(say, one.price["epsilon"])
        delta = Decimal(str(one.price["delta"]))
        guess = page.of_hundred(one.right)
        lines = [say("studio.odds", right=guess, rest=100 - guess)]
        if page.odds_of(one.price["epsilon"], delta) is None:
            lines = [say("studio.whole_nothing")]
        passed = page.told_epsilon(say, one.passed)
        lines.append(say.counted("studio.whole_passed", places, number=say.number(places), epsilon=passed))
        compared = say.number(DEFAULT_DELTA)
        if delta != DEFAULT_DELTA:
            exact = accountant.epsilon(Decimal(one.price["rho_micro"]) / accountant.MICRO, DEFAULT_DELTA)
            own = say.number(delta)
            lines.append(say("studio.whole_delta", own=own, delta=compared, epsilon=page.told_epsilon(say, exact)))
        if one.under is not None and self._asked.ceiling is not None:
            key = "studio.ceiling_under" if one.under else "studio.ceiling_over"
            lines.append(say(key, most=say.number(self._asked.ceiling), delta=compared))
        elif delta == DEFAULT_DELTA:  # else one of the sentences above has named it
            lines.append(say("studio.whole_at", delta=compared))
        lines += page.below_the_floor(say, one.price)
        head = say.counted("studio.whole_card", count, letter=one.letter.upper(), epsilon=epsilon, number=count)
        return Card(one.letter, head, tuple(lines), None, "")

    @property
    def streams(self) -> Table:
        """Returns epsilon, margins and cap of each stream; where there are many, in one row each."""
        say, rows = self._say, []
        many = len(self._base.streams) > _ROWS_EACH
        for number, stream in enumerate(self._base.streams, 1):
            name = page.named(say, stream)
            chosen = [epsilons[number - 1] for epsilons in self._asked.epsilons]
            of_it = [(say("studio.whole_epsilon"), [self._epsilon(epsilon) for epsilon in chosen])]
            for level in [usual_level(stream)] if many else [level for level, _ in stream.nodes]:
                row = say("studio.whole_margin", node=say(f"studio.node_{level}"))
                of_it.append((row, [self._margin(one, stream, level) for one in self._told]))
            if stream.cap is not None:
                span = say(f"privacy.span_{stream.cap.span}")
                row = say("studio.whole_cap", epsilon=say.number(stream.cap.epsilon), span=span)
                of_it.append((row, [self._cap(one, stream) for one in self._told]))
            if many:
                of_it = [(", ".join(head for head, _ in of_it), _joined([cells for _, cells in of_it]))]
            for place, (head, cells) in enumerate(of_it):
                link = "" if place else self._alone(stream, chosen)
                rows.append((Cell(say("studio.whole_row", name=name, what=head), link=link), *cells))
        return self._table(say("studio.whole_streams_caption"), say("studio.whole_stream"), rows)

    def _alone(self, stream: StreamPolicy, chosen: Sequence[Decimal | None]) -> str:
        """Returns the address of this stream's own page, with the same three epsilons."""
        known = zip(LETTERS, chosen, strict=True)
        values = {letter: draft.plain(epsilon) for letter, epsilon in known if epsilon is not None}
        rule = {RULE: self._base.site} if len(self._policies) > 1 else {}
        query = {**rule, "serie": stream.id, "partir": "epsilon", **values, "lieux": self._asked.places}
        return f"{page.PATH.rpartition('/')[2]}?{urlencode(query)}"

    def _epsilon(self, epsilon: Decimal | None) -> Cell:
        if epsilon is None:
            return Cell(self._say("studio.whole_not"), grey=True)
        return Cell(page.told_epsilon(self._say, epsilon))

    def _margin(self, one: Together, stream: StreamPolicy, level: str) -> Cell:
        margins = one.margins.get(stream.id)
        if margins is None:
            return Cell(self._say("studio.whole_not"), grey=True)
        if level not in margins:
            return Cell(self._say("studio.whole_no_margin"), grey=True)
        return page.margin_cell(self._say, stream, margins[level])

    def _cap(self, one: Together, stream: StreamPolicy) -> Cell:
        days = one.cap_days.get(stream.id)
        if days is None or stream.cap is None:
            return Cell(self._say("studio.whole_not"), grey=True)
        if days >= stream.cap.days:
            return Cell(self._say("studio.whole_cap_never"))
        return Cell(self._say.counted("studio.whole_cap_days", days, number=self._say.number(days)))

    @property
    def together(self) -> Table:
        """Returns the sum over the streams, over several sites like this one, and over those that are open here."""
        say, places = self._say, self._asked.places

        def row(head: str, epsilons: Iterable[float | Decimal]) -> tuple[Cell, ...]:
            deltas = (Decimal(str(one.price["delta"])) for one in self._told)
            prices = (page.price(say, float(e), page.odds_of(e, d), d) for e, d in zip(epsilons, deltas, strict=True))
            return (Cell(head), *map(Cell, prices))

        rows = [
            row(say("studio.whole_all"), [one.price["epsilon"] for one in self._told]),
            row(say.counted("studio.places", places, number=places), [one.passed for one in self._told]),
        ]
        if len(self._policies) > 1:
            names = ", ".join(name for name in self._policies if name != self._base.site)
            rows.append(row(say("studio.whole_others", names=names), [one.elsewhere for one in self._told]))
        return self._table(say("studio.together_caption"), say("studio.together_column"), rows)

    @property
    def ladder(self) -> Table:
        """Returns what habits of somebody in every stream cost."""
        say, rows = self._say, []
        for place, rung in enumerate(self._told[0].ladder):
            units = say.counted("studio.whole_units", rung["units"], number=rung["units"])
            head = say("studio.habit", units=units, span=say(f"privacy.span_{rung['span']}"))
            cells = []
            for one in self._told:
                own = one.ladder[place]
                cells.append(Cell(page.price(say, own["epsilon"], own["odds"], Decimal(str(one.price["delta"])))))
            rows.append((Cell(head), *cells))
        return self._table(say("studio.whole_ladder_caption"), say("studio.habit_column"), rows)

    def _table(self, caption: str, head: str, rows: Sequence[tuple[Cell, ...]]) -> Table:
        return Table(caption, (head, *(letter.upper() for letter in LETTERS)), tuple(rows))
