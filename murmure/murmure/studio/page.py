"""The page `/gestion/scenarios`: answers in words, pictures and tables. It computes nothing that `desk` has not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any
from urllib.parse import quote, urlencode

from murmure_dashboards import charts, pages
from murmure_dashboards.charts import Axis, Chart, Step, Tick
from murmure_dashboards.config import City
from murmure_dashboards.promises import protected
from murmure_dashboards.wording import FIXED, Language, capital, language
from murmure_privacy import accountant
from murmure_privacy.decide import FLOOR, FLOOR_EPSILON
from murmure_privacy.levels import WIDEST_MARGIN_DB
from murmure_privacy.policy import DEFAULT_DELTA, Policy, StreamPolicy
from murmure_privacy.window import ORDINARY_QUARTERS, PARTS, Calendar

from murmure.studio import draft
from murmure.studio.answers import APART, matched
from murmure.studio.desk import DRAWS, Look, Shown, deployments
from murmure.studio.form import LETTERS, RULE, Asked, Form, Mistake, usual_level
from murmure.studio.whole import field

PATH = "gestion/scenarios"
WHOLE = "gestion/lieu"
NUMBERS = "gestion/chiffres"
DRAFTS = "gestion/brouillon"
DRAFT_QUARTIER = "essai"
MOST_SERIES = 6
"""So many series of a site stand on the page of one of them; the page of the whole site has all."""

UNITS = {"1": "", "dB": f"{FIXED}dB", "ug/m3": f"{FIXED}µg/m³"}
_HIDDEN = ("histogram_s", "energy_mean")  # of no use to a reader: levels are read off them
_USE_OF_COUNT = 0.5  # of the usual value, beyond which a margin leaves nothing to read


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table; `grey` where what it says would not be shown, `link` to where it can be read, `span`: of so
    many columns."""

    text: str
    grey: bool = False
    link: str = ""
    span: int = 1


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, the head of each column, rows of which the first cell names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What somebody else has chosen, and where that can be read."""

    text: str
    source: str
    link: str


@dataclass(frozen=True, slots=True)
class Card:
    """What stands in a scenario's column."""

    letter: str
    head: str
    lines: tuple[str, ...]
    chart: Chart | None
    draft: str


def render(
    form: Form[Asked],
    look: Look | None,
    base: Policy,
    weeks: Sequence[str],
    query: Mapping[str, str],
    code: str,
    policies: Sequence[str] = (),
) -> bytes:
    """Returns the page of an address in one language. `look` is None where the form has mistakes; `weeks`: those that
    can be tried on; `query`: the address as it was read; `policies`: the sites of those that the studio has open."""
    say = language(code)
    kept = {name: value for name, value in query.items() if name in form.typed}
    stream = base.stream(form.typed["serie"]) or base.streams[0]
    return pages.filled(
        "scenarios.html",
        say,
        f"{PATH}?{urlencode(kept)}" if kept else PATH,
        city(say, base),
        home=PATH,
        policies=policies,
        title=say("studio.title", site=base.site),
        action=PATH.rpartition("/")[2],
        quantity=say(f"quantity.{stream.quantity.name}"),
        kind=stream.quantity.kind,
        typed=form.typed,
        wrong={name: said(say, mistake) for name, mistake in form.mistakes.items()},
        series=[(one.id, named(say, one)) for one in base.streams],
        levels=[(level, say(f"studio.node_{level}")) for level, _ in stream.nodes],
        weeks=[(name, say(f"studio.week_{name}_{stream.quantity.kind}")) for name in weeks],
        letters=LETTERS,
        site=base.site,
        told=Told(say, look, base, kept) if look else None,
        elsewhere=_elsewhere(say),
    )


def city(say: Language, base: Policy) -> City:
    """Returns what stands at the head and foot of the studio's pages."""
    return City(say("studio.brand"), base.timezone, say("studio.help"), simulated=False, quartier=(), site=())


def said(say: Language, mistake: Mistake) -> str:
    """Returns a mistake in words."""
    shown = {
        name: say.number(value) if isinstance(value, (int, Decimal)) else value
        for name, value in mistake.places.items()
    }
    return say(mistake.key, **shown)


def named(say: Language, stream: StreamPolicy) -> str:
    """Returns what a stream measures, with its id."""
    return f"{capital(say(f'quantity.{stream.quantity.name}'))} ({stream.id})"


def _elsewhere(say: Language) -> list[Elsewhere]:
    return [
        Elsewhere(
            say(
                "studio.elsewhere_line",
                what=say(f"studio.elsewhere_{one.id}", year=one.year),
                epsilon=say.number(one.epsilon),
            ),
            say("studio.elsewhere_read", source=one.source, day=say.civil(one.read)),
            one.address,
        )
        for one in deployments()
    ]


class Told:
    """A look in one language: sentences, tables and pictures, as the template asks for them."""

    def __init__(self, say: Language, look: Look, base: Policy, query: Mapping[str, str]) -> None:
        self._say, self._look, self._base, self._query = say, look, base, query
        self._stream = look.asked.stream
        self._kind = self._stream.quantity.kind
        self._calendar = Calendar(look.shown[0].scenario.policy.timezone)

    @property
    def series(self) -> str:
        """Returns of what the pictures and the margins are."""
        return named(self._say, self._stream)

    @property
    def numbers(self) -> str:
        """Returns the address of the numbers behind this page."""
        return _with(NUMBERS, self._query)

    @property
    def pictured(self) -> bool:
        """Returns whether there are pictures, and so numbers behind them."""
        return bool(self._look.points)

    @property
    def delta(self) -> str:
        """Returns at which delta the epsilons of this stream are told."""
        return self._say("studio.delta", delta=self._say.number(self._stream.delta))

    @property
    def site_delta(self) -> str:
        """Returns at which delta those of the whole site are told, "" where it is the stream's own."""
        delta = self._largest_delta()
        return "" if delta == self._stream.delta else self._say("studio.delta_site", delta=self._say.number(delta))

    def _largest_delta(self) -> Decimal:
        return max(one.delta for one in self._look.shown[0].scenario.policy.streams)

    # Who is protected

    @property
    def promise(self) -> str:
        """Returns the unit of privacy in words."""
        unit = protected(self._say, self._stream)
        return self._say("studio.promise_week" if self._look.asked.who == "semaine" else "studio.promise", unit=unit)

    @property
    def examples(self) -> list[str]:
        """Returns a worked example of what is hidden, then what is left out."""
        say, size = self._say, self._stream.protects[1]
        lines = [say.counted(f"studio.example_{self._kind}", size, size=say.number(size))]
        middle = self._look.shown[1]
        lines.append(say("studio.odds_example", guess=of_hundred(middle.right)))
        lines.append(say(f"studio.left_{self._kind}"))
        if self._stream.up_to is not None:
            limit = say.number(self._stream.up_to // self._stream.quantity.per_unit)
            lines.append(say(f"promise.above_{self._kind}", limit=limit))
        return lines

    # The three scenarios

    @property
    def cards(self) -> list[Card]:
        """Returns the three, their pictures on one axis."""
        scale = self._axis()
        return [self._card(shown, scale) for shown in self._look.shown]

    def _card(self, shown: Shown, scale: Axis | None) -> Card:
        say, made = self._say, shown.made
        letter = shown.scenario.letter
        epsilon = told_epsilon(say, made.stream.epsilon)
        lines = []
        if self._look.asked.who == "semaine":
            week = next(rung for rung in shown.sheet["ladder"] if (rung["span"], rung["units"]) == ("1w", 1))
            lines.append(say("studio.of_week", week=told_epsilon(say, week["epsilon"]), day=epsilon))
        node = self._look.asked.node
        if node in shown.margins:
            unit = self._unit()
            where = say(f"studio.in_{node}")
            lines.append(say("studio.margin", margin=self._about(shown.margins[node]) + unit, where=where))
        guess = of_hundred(shown.right)
        lines.append(say("studio.odds", right=guess, rest=100 - guess))
        lines += below_the_floor(say, shown.site)
        chart = self._chart(shown, scale) if scale else None
        return Card(letter, self.card_head(shown), tuple(lines), chart, self._draft(letter))

    def card_head(self, shown: Shown) -> str:
        """Returns the letter of a scenario and its epsilon."""
        epsilon = told_epsilon(self._say, shown.made.stream.epsilon)
        return self._say("studio.card", letter=shown.scenario.letter.upper(), epsilon=epsilon)

    def _draft(self, letter: str) -> str:
        key = quote(urlencode({**self._query, "lettre": letter}), safe="=&%+")
        return f"{DRAFTS}/{key}/" + pages.address(self._say.code, f"quartiers/{DRAFT_QUARTIER}/semaine/")

    def _axis(self) -> Axis | None:
        edges = [
            edge
            for shown in self._look.shown
            for point in self._look.points
            for edge in (point.value - shown.margins[point.level], point.value + shown.margins[point.level])
        ]
        edges += [p.value for shown in self._look.shown for d in shown.draws for _, p in matched(self._look.points, d)]
        return charts.axis(edges, from_zero=self._kind != "level") if edges else None

    def _chart(self, shown: Shown, scale: Axis) -> Chart:
        say, look = self._say, self._look
        margins = shown.margins
        steps = [
            Step(p.start_s, p.end_s, p.value, p.value - margins[p.level], p.value + margins[p.level])
            for p in look.points
        ]
        draws = [[Step(a.start_s, a.end_s, b.value, 0, 0) for a, b in matched(look.points, d)] for d in shown.draws]
        zone = self._calendar.zone
        ticks = [
            Tick(say.short_days[self._calendar.civil_day(day.start_s).weekday()], (day.end_s - day.start_s) // 3600)
            for day in self._calendar.days(look.week.window)
        ]
        highest = max(look.points, key=lambda point: point.value)
        both = [pair for draw in shown.draws for pair in matched(look.points, draw)]
        inside = sum(abs(a.value - b.value) <= margins[a.level] for a, b in both)
        level = look.points[0].level
        share = _percent(say, inside / max(1, len(both)))
        description = say(
            "studio.description",
            count=len(look.points),
            draws=DRAWS,
            highest=self._number(highest.value) + self._unit(),
            when=f"{say.day(highest.start_s, zone)}, {say.hours(highest.start_s, highest.end_s, zone)}",
            inside=share,
        )
        return charts.draw(
            title=say(
                f"studio.chart_{self._kind}", series=self._stream.id, node=say(f"studio.node_{level}"), draws=DRAWS
            ),
            finding=say("studio.finding", inside=share),
            unit=say(f"unit.of_{self._stream.quantity.name}"),
            description=description,
            table=charts.Table("", (), ()),  # stands on the page of the numbers
            steps=steps,
            gaps=(),
            faulty=(),
            window=look.week.window,
            ticks=ticks,
            from_zero=self._kind != "level",
            name=f"s-{shown.scenario.letter}",
            scale=scale,
            draws=draws,
        )

    # Every figure

    @property
    def figures(self) -> Table | None:
        """Returns the margins of the figure that the pictures show, None where the policy leaves it out."""
        own = self._look.shown[0].made.stream.quantity.printed
        return self._figures(self._say("studio.figures_caption"), lambda row: row["indicator"] == own)

    def _figures(self, caption: str, wanted: Callable[[Mapping[str, Any]], bool]) -> Table | None:
        say, rows = self._say, []
        sheets = [shown.sheet["nodes"] for shown in self._look.shown]
        for place, row in enumerate(sheets[0]):
            if row["indicator"] in _HIDDEN or not wanted(row):
                continue
            name = say(f"studio.figure_{row['indicator']}")
            head = say("studio.figure", name=name, node=say(f"studio.node_{row['node']}"))
            rows.append((Cell(head), *(self._figure(sheet[place]) for sheet in sheets)))
        return self._table(caption, say("studio.figure_column"), rows) if rows else None

    def _figure(self, row: Mapping[str, Any]) -> Cell:
        say = self._say
        for key, sign in (("at_most_db", "≤"), ("at_least_db", "≥")):
            if row.get(key) is not None:
                return Cell(f"{sign}{FIXED}{say.number(row[key])}{UNITS['dB']}")
        if row["error_95"] is None:
            return Cell(say("studio.grey_none"), grey=True)
        shown = f"±{FIXED}{three_digits(say, row['error_95'])}{UNITS.get(row['unit'], '')}"
        if row["indicator"].startswith("share_"):
            shown = say("studio.points", number=three_digits(say, 100 * row["error_95"]))
        reason = self._too_wide(row)
        return Cell(say("studio.grey", margin=shown, why=reason), grey=True) if reason else Cell(shown)

    def _too_wide(self, row: Mapping[str, Any]) -> str:
        """Returns why a figure with this margin is of no use, "" where it is of some."""
        if row["publishable"] is False:
            return self._say("studio.grey_db")
        if self._kind == "mean" and row["sensor_error"] is not None and row["error_95"] > row["sensor_error"]:
            return self._say("studio.grey_sensor", number=self._say.number(row["sensor_error"]))
        usual = self._usual(row["node"]) if self._kind == "count" else 0.0
        if usual and row["error_95"] > _USE_OF_COUNT * usual:
            return self._say("studio.grey_count", usual=self._number(usual))
        return ""

    def _usual(self, level: str) -> float:
        """Returns the mean count of a node of the week that was tried."""
        return self._look.usual * ORDINARY_QUARTERS[level]

    @property
    def shares(self) -> str:
        """Returns how the budget of scenario B is shared out; the parts of a day have one share, each of them whole."""
        say = self._say
        named = {
            say("studio.node_parts" if level in PARTS else f"studio.node_{level}"): share
            for level, share in self._look.shares.items()
        }
        parts = [say("studio.share", node=node, share=_percent(say, share)) for node, share in named.items()]
        return say("studio.shares", shares=", ".join(parts))

    # Would the message change?

    @property
    def message(self) -> Table | None:
        """Returns how often what a page says of the week would be wrong."""
        say, look = self._say, self._look
        if not look.points:
            return None
        rows: list[tuple[Cell, ...]] = []
        for name in ("seen", "missed", "invented"):
            rows.append(self._row(f"studio.message_{name}", [self._counted(shown, name) for shown in look.shown]))
        wrong = [
            say("studio.message_none")
            if self._hidden(shown) or not shown.message
            else _percent(say, shown.message.wrong)
            for shown in look.shown
        ]
        rows.append(self._row("studio.message_wrong", wrong))
        if look.days:
            pairs = [shown.swapped for shown in look.shown]
            head = say("studio.message_swapped", pairs=pairs[0][1] if pairs[0] else 0)
            cells = [
                Cell(say("studio.expected", number=_tenths(say, pair[0]), drawn=_list(say, shown.swapped_in)))
                for pair, shown in zip(pairs, look.shown, strict=True)
                if pair
            ]
            rows.append((Cell(head), *cells))
            apart = say(
                f"studio.apart_{self._kind}",
                number=say.number(round(APART[self._kind] * (1 if self._kind == "level" else 100))),
            )
            order = [_percent(say, shown.wrong_order or 0.0) for shown in look.shown]
            rows.append((Cell(say("studio.message_order", apart=apart)), *(Cell(text) for text in order)))
        first = look.shown[0].message
        caption = say(
            "studio.message_caption",
            above=first.above if first else 0,
            of=len(look.points),
            node=say(f"studio.node_{look.points[0].level}"),
            limit=say.counted(
                f"unit.{self._stream.quantity.name}", float(look.threshold), number=say.number(_plain(look.threshold))
            ),
        )
        return self._table(caption, say("studio.message_column"), rows)

    def _hidden(self, shown: Shown) -> bool:
        """Returns whether a page would show none of these intervals: a level whose margin is above 3 dB."""
        widest = max(shown.margins[point.level] for point in self._look.points)
        return self._kind == "level" and widest > WIDEST_MARGIN_DB

    def _counted(self, shown: Shown, name: str) -> str:
        if self._hidden(shown):
            return self._say("studio.message_none")
        expected: float = getattr(shown.message, name)
        drawn = [int(getattr(one, name)) for one in shown.counted]
        return self._say("studio.expected", number=_tenths(self._say, expected), drawn=_list(self._say, drawn))

    # Habits, and several places

    @property
    def ladder(self) -> Table:
        """Returns what habits cost, and how often one then guesses right: a row a span, the scenarios in each cell."""
        say, delta = self._say, self._stream.delta
        rungs = self._look.shown[0].sheet["ladder"]
        places = {(rung["span"], rung["units"]): place for place, rung in enumerate(rungs)}
        spans, units = (list(dict.fromkeys(rung[key] for rung in rungs)) for key in ("span", "units"))
        heads = [say.counted(f"studio.units_{self._kind}", number, number=number) for number in units]
        rows = []
        for span in spans:
            cells = []
            for number in units:
                ladders = [shown.sheet["ladder"][places[span, number]] for shown in self._look.shown]
                prices = (price(say, one["epsilon"], one["odds"], delta, "studio.no_guess") for one in ladders)
                cells.append(Cell(_each(say, prices)))
            rows.append((Cell(capital(say(f"privacy.span_{span}"))), *cells))
        return Table(say("studio.ladder_caption"), (say("studio.habit_column"), *heads), tuple(rows))

    def _margins(self) -> Iterator[tuple[Cell, ...]]:
        """Yields a line for each stream of the site with its margin at the node that is told first."""
        say, streams = self._say, self._look.shown[0].scenario.policy.streams
        for stream in streams[:MOST_SERIES]:
            level = usual_level(stream)
            head = Cell(say("studio.whole_row", name=named(say, stream), what=say(f"studio.margin_{level}")))
            if stream.id == self._stream.id:
                yield head, *(self._beside(stream, shown.margins.get(level)) for shown in self._look.shown)
            else:
                yield head, replace(self._beside(stream, self._look.beside[stream.id]), span=len(LETTERS))
        more = len(streams) - MOST_SERIES
        if more > 0:
            said = say.counted("studio.site_more", more, number=more)
            yield Cell(said), Cell(say("studio.site_more_where"), span=len(LETTERS))

    def _beside(self, stream: StreamPolicy, margin: float | None) -> Cell:
        say = self._say
        if stream.paused:
            return Cell(say("studio.site_paused"), grey=True)
        if margin is None:
            return Cell(say("studio.whole_no_margin"), grey=True)
        return margin_cell(say, stream, margin)

    @property
    def together(self) -> Table:
        """Returns the margin of each stream of the site, and the sum of their prices, also over the places that one
        person passes."""
        say, shown, places = self._say, self._look.shown, self._look.asked.places
        delta = self._largest_delta()

        def row(head: str, epsilons: Iterable[float | Decimal]) -> tuple[Cell, ...]:
            return (Cell(head), *(Cell(price(say, float(e), odds_of(e, delta), delta)) for e in epsilons))

        rows = [
            *self._margins(),
            row(say("studio.this_series"), [one.made.stream.epsilon for one in shown]),
            row(
                say("studio.whole_site", count=len(shown[0].scenario.policy.streams)),
                [one.site["epsilon"] for one in shown],
            ),
            row(say.counted("studio.places", places, number=places), [one.passed for one in shown]),
        ]
        return self._table(say("studio.site_caption"), say("studio.together_column"), rows)

    @property
    def whole(self) -> str:
        """Returns the address of the whole site with these three settings, its other streams as they are; "" where it
        would be another policy, since that page takes from the base all but the epsilons."""
        own = self._base.stream(self._stream.id)
        if own is None or replace(self._stream, epsilon=own.epsilon) != own:
            return ""
        policies = [shown.scenario.policy for shown in self._look.shown]
        values = {
            field(shown.scenario.letter, number): draft.plain(stream.epsilon)
            for shown, policy in zip(self._look.shown, policies, strict=True)
            for number, stream in enumerate(policy.streams, 1)
        }
        rule = {RULE: self._query[RULE]} if RULE in self._query else {}
        return _with(WHOLE, {**rule, **values, "lieux": self._look.asked.places})

    # The cap

    @property
    def cap(self) -> str:
        """Returns what happens when a yearly cap is reached; "" without one."""
        say, shown = self._say, self._look.shown
        if not shown[0].months:
            return ""
        days = [one.sheet["cap"]["days"] for one in shown]
        fits = ", ".join(
            say("studio.fit", letter=one.scenario.letter.upper(), number=say.number(count))
            for one, count in zip(shown, days, strict=True)
        )
        return say("studio.cap", fits=fits)

    # Numbers

    def _table(self, caption: str, head: str, rows: Sequence[tuple[Cell, ...]]) -> Table:
        return Table(caption, (head, *(letter.upper() for letter in LETTERS)), tuple(rows))

    def _row(self, key: str, cells: Iterable[str]) -> tuple[Cell, ...]:
        return (Cell(self._say(key)), *(Cell(text) for text in cells))

    def _unit(self) -> str:
        return UNITS[self._stream.quantity.unit]

    def _margin(self, margin: float) -> str:
        return f"±{FIXED}{three_digits(self._say, margin)}"

    def _about(self, margin: float) -> str:
        """Returns a margin as people say it: two digits, rounded up."""
        exact = Decimal(margin).normalize(Context(prec=2, rounding=ROUND_CEILING))
        return f"±{FIXED}{self._say.number(_plain(exact))}"

    def _number(self, value: float) -> str:
        step = Decimal(1) if self._kind == "count" else Decimal("0.1")
        return self._say.number(Decimal(value).quantize(step))


def below_the_floor(say: Language, site: Mapping[str, Any]) -> Iterator[str]:
    """Yields why no gateway takes a site at this price (see `site_price`), unless it tightens what holds there."""
    if site["rho_micro"] > FLOOR.rho_micro:
        yield say("studio.floor", most=FLOOR_EPSILON, delta=say.number(DEFAULT_DELTA))
    if Decimal(str(site["delta"])) > FLOOR.delta:
        yield say("studio.floor_delta", most=say.number(FLOOR.delta))


def price(say: Language, epsilon: float, odds: float | None, delta: Decimal, nothing: str = "studio.no_promise") -> str:
    """Returns what something costs, and how often of 100 one then guesses right; `odds`: None where nothing is
    promised, and then it is said with `nothing`."""
    if odds is None:
        return say(nothing, epsilon=told_epsilon(say, epsilon))
    guess = of_hundred(accountant.right_guesses(Decimal(str(epsilon)), delta))
    return say("studio.price", epsilon=told_epsilon(say, epsilon), guess=guess)


def of_hundred(share: Decimal) -> int:
    """Returns a share in hundredths, rounded up."""
    return min(100, int((share * 100).to_integral_value(ROUND_CEILING)))


def odds_of(epsilon: float | Decimal, delta: Decimal) -> float | None:
    """Returns the odds at an epsilon, None where nothing is promised."""
    found = accountant.odds(Decimal(str(epsilon)), delta)
    return None if found is None else float(found)


def told_epsilon(say: Language, epsilon: float | Decimal) -> str:
    """Returns three digits, never below what it costs."""
    exact = Decimal(str(epsilon)).normalize(Context(prec=3, rounding=ROUND_CEILING))
    return say.number(_plain(exact))


def three_digits(say: Language, value: float) -> str:
    """Returns three digits, as `policy preview` prints them."""
    return say.number(
        Decimal(f"{value:,.0f}".replace(",", "")) if abs(value) >= 1000 else Decimal(f"{Decimal(f'{value:.3g}'):f}")
    )


def margin_cell(say: Language, stream: StreamPolicy, margin: float) -> Cell:
    """Returns a margin in the stream's unit, grey with the reason where a page would not show the figure."""
    shown = f"±{FIXED}{three_digits(say, margin)}{UNITS[stream.quantity.unit]}"
    if stream.quantity.kind == "level" and margin > WIDEST_MARGIN_DB:
        return Cell(say("studio.grey", margin=shown, why=say("studio.grey_db")), grey=True)
    return Cell(shown)


def _with(path: str, query: Mapping[str, object]) -> str:
    """Returns the address of a page beside this one."""
    name = path.rpartition("/")[2]
    return f"{name}?{urlencode(query)}" if query else name


def _each(say: Language, texts: Iterable[str]) -> str:
    """Returns what the three scenarios say, a line each; the sheet keeps the lines."""
    said = (say("studio.each", letter=letter.upper(), text=text) for letter, text in zip(LETTERS, texts, strict=True))
    return "\n".join(said)


def _plain(value: Decimal) -> Decimal:
    """Returns the same number, written without an exponent."""
    return Decimal(f"{value:f}")


def _tenths(say: Language, value: float) -> str:
    return say.number(Decimal(value).quantize(Decimal("0.1")))


def _percent(say: Language, share: float) -> str:
    return say(
        "number.percent",
        number=say.number(Decimal(share * 100).quantize(Decimal("0.1") if share < 0.1 else Decimal(1))),
    )


def _list(say: Language, values: Iterable[int]) -> str:
    return ", ".join(say.number(value) for value in values)
