"""What the page asks, as the address of a scenario holds it: read once at the wall, each mistake beside its field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Generic, TypeVar

from murmure_privacy import accountant
from murmure_privacy.errors import ConfigError
from murmure_privacy.plan import plan
from murmure_privacy.policy import Cap, Policy, StreamPolicy
from murmure_privacy.preview import GRID, LARGEST_EPSILON, habit_rho_micro, read, three_digits
from murmure_privacy.window import SHARE_QUARTERS

from murmure.studio import draft

LETTERS = ("a", "b", "c")
DETAIL = range(-3, 4)
"""Positions of the slider between exact details and exact totals; 0 leaves the weights of the policy."""

RULE = "regle"
"""The field that says which of the policies that a studio has open is looked at, by its site."""

WEEK_DAYS = 7
_NUMBER = re.compile(r"-?\d{1,9}([.,]\d{1,6})?")
_WHO = ("passage", "jour", "semaine")
_FROM = ("marge", "epsilon")
_A = TypeVar("_A")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the kernel may refuse of a scenario. `said`: a part of its key and problem; `field`: beside which the page
    says so, "" for that of the scenario; `key`: the sentence `studio.error_…`."""

    said: str
    field: str
    key: str


REFUSALS = (
    Refusal("takes an epsilon above", "", "margin"),
    Refusal("only as means", "", "no_mean"),
    Refusal("less than a micro-rho", "", "tiny"),
    Refusal("no day fits", "plafond", "cap"),
    Refusal("the noise on", "secondes", "noise"),
    Refusal("timezone", "debut", "timezone"),
    Refusal("file: ", "raison", "long"),
    Refusal("nodes.", "detail", "weight"),
)
"""All of it that a form can bring about where the policy it begins with is complete; the first that fits is said."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with a field: the sentence `studio.error_…` and what fills its places."""

    key: str
    places: Mapping[str, object]


class Unmet(Exception):
    """A scenario that makes no policy: the field and the mistake to write beside it."""

    def __init__(self, field: str, mistake: Mistake) -> None:
        super().__init__(field)
        self.field, self.mistake = field, mistake


@dataclass(frozen=True, slots=True)
class Asked:
    """A question without a mistake. `stream`: the one that is looked at, protecting whom the form says, with the
    slider's weights. `who`: `passage`, `jour` or `semaine` for counts, "" for others. `start`: whether `values`, those
    of the scenarios A, B and C, are margins at `node` in the printed unit (`marge`), or epsilons: of a week where `who`
    is `semaine`.
    `threshold`: in the printed unit, None for one that suits the week. `places`: sensors that one person passes."""

    stream: StreamPolicy
    who: str
    start: str
    node: str
    values: tuple[Decimal, ...]
    detail: int
    street: str
    threshold: Decimal | None
    places: int
    head: draft.Head


@dataclass(frozen=True, slots=True)
class Form(Generic[_A]):
    """`typed`: what stands in each field, what was typed or what the studio proposes. `asked` is None where there are
    mistakes. `save`: the letter of the scenario that is to be kept as a proposal, "" for none."""

    typed: Mapping[str, str]
    mistakes: Mapping[str, Mistake]
    asked: _A | None
    save: str

    def with_mistake(self, unmet: Unmet) -> Form[_A]:
        """Returns the same form with what a scenario lacks said beside its field."""
        return replace(self, mistakes={**self.mistakes, unmet.field: unmet.mistake}, asked=None)


class Fields:
    """The fields as they are read; collects what is wrong."""

    def __init__(self, typed: Mapping[str, str]) -> None:
        self.typed = typed
        self.mistakes: dict[str, Mistake] = {}

    def wrong(self, name: str, key: str, **places: object) -> None:
        self.mistakes.setdefault(name, Mistake(f"studio.error_{key}", places))

    def choice(self, name: str, known: Iterable[str]) -> str:
        among = list(known)
        if self.typed[name] not in among:
            self.wrong(name, "choice")
            return among[0]
        return self.typed[name]

    def number(self, name: str, low: Decimal, high: Decimal) -> Decimal:
        text = self.typed[name].strip().replace("\u00a0", "").replace("\u202f", "")
        if not _NUMBER.fullmatch(text):
            self.wrong(name, "number", example="15")
            return high
        value = Decimal(text.replace(",", "."))
        if not low <= value <= high:
            self.wrong(name, "range", low=low, high=high)
            return high
        return value

    def whole(self, name: str, low: int, high: int) -> int:
        try:
            value = int(self.typed[name].strip())
        except ValueError:
            self.wrong(name, "whole", low=low, high=high)
            return low
        if not low <= value <= high:
            self.wrong(name, "range", low=low, high=high)
            return low
        return value

    def text(self, name: str) -> str:
        value = self.typed[name].strip()
        if not value or len(value) > 1000 or not value.isprintable():
            self.wrong(name, "text")
        return value

    def day(self, name: str) -> date:
        try:
            value = date.fromisoformat(self.typed[name].strip())
            if 2000 <= value.year <= 2099:
                return value
        except ValueError:
            pass
        self.wrong(name, "date")
        return date(2099, 12, 31)


def read_form(
    query: Mapping[str, str], base: Policy, streets: Mapping[str, Iterable[str]], version: int
) -> Form[Asked]:
    """Returns what an address asks. `base`: the policy that the studio begins with; `streets`: by stream the weeks that
    can be tried, the one proposed first; `version`: of a proposal. Unknown parameters are left out; a mistake keeps
    what was typed."""
    ids = [stream.id for stream in base.streams]
    chosen = query.get("serie", ids[0])
    stream = base.stream(chosen) or base.streams[0]
    known = list(streets[stream.id])
    typed = {name: query.get(name, default) for name, default in _defaults(base, stream, known[0], version).items()}
    fields = Fields(typed)
    fields.choice(RULE, [base.site])
    if chosen not in ids:
        fields.wrong("serie", "choice")
    counts = stream.quantity.kind == "count"
    who = fields.choice("qui", _WHO) if counts else ""
    protects, up_to = stream.protects, stream.up_to
    if counts:
        several = fields.whole("passages", 1, 1000)
        protects = ("crossings", 1 if who == "passage" else several)
    else:
        protects = ("seconds", fields.whole("secondes", 1, 3600))
        low, most = stream.bounds[0] // stream.quantity.per_unit, stream.quantity.ceiling // stream.quantity.per_unit
        limit = fields.whole("jusqua", low + 1, most) if typed["jusqua"].strip() else None
        up_to = None if limit is None else limit * stream.quantity.per_unit
    detail = fields.whole("detail", DETAIL[0], DETAIL[-1])
    start = fields.choice("partir", _FROM)
    most_value = Decimal(LARGEST_EPSILON if start == "epsilon" else 1_000_000)
    values = tuple(fields.number(letter, Decimal("0.001"), most_value) for letter in LETTERS)
    node = fields.choice("noeud", [level for level, _ in stream.nodes])
    cap = None
    if typed["plafond"].strip():
        limit_of_cap = fields.number("plafond", Decimal("0.001"), Decimal(10_000))
        cap = replace(stream.cap or Cap(1, "1y", limit_of_cap), epsilon=limit_of_cap)
    save = query.get("garder", "")
    if save not in LETTERS:
        save = ""
    above = head(fields, base, bool(save))
    threshold = fields.number("seuil", Decimal("0.1"), Decimal(1_000_000)) if typed["seuil"].strip() else None
    asked = Asked(
        stream=replace(stream, protects=protects, up_to=up_to, nodes=weighted(stream.nodes, detail), cap=cap),
        who=who,
        start=start,
        node=node,
        values=values,
        detail=detail,
        street=fields.choice("semaine", known),
        threshold=threshold,
        places=fields.whole("lieux", 1, 1000),
        head=above,
    )
    return Form(typed, fields.mistakes, None if fields.mistakes else asked, save)


def usual_level(stream: StreamPolicy) -> str:
    """Returns the level whose margin is told first: hours of counts, nights or days of others."""
    levels = [level for level, _ in stream.nodes]
    first = ("1h",) if stream.quantity.kind == "count" else ("night", "1d")
    return next((level for level in first if level in levels), levels[0])


def _defaults(base: Policy, stream: StreamPolicy, street: str, version: int) -> dict[str, str]:
    counts = stream.quantity.kind == "count"
    size = stream.protects[1]
    return {
        RULE: base.site,
        "serie": stream.id,
        "qui": "jour" if counts and size > 1 else "passage",
        "passages": str(size if counts and size > 1 else 4),
        "secondes": str(size),
        "jusqua": "" if stream.up_to is None else str(stream.up_to // stream.quantity.per_unit),
        "partir": "marge" if counts else "epsilon",
        "noeud": usual_level(stream),
        **dict(zip(LETTERS, ("30", "15", "8") if counts else ("0.5", "1", "2"), strict=True)),
        "detail": "0",
        "semaine": street,
        "seuil": "",
        "lieux": "3",
        "plafond": "" if stream.cap is None else draft.plain(stream.cap.epsilon),
        **head_defaults(base, version),
    }


def head_defaults(base: Policy, version: int) -> dict[str, str]:
    """Returns what the fields of a proposal hold before anybody types: see `head`."""
    return {
        "decision": "",
        "raison": "",
        "version": str(version),
        "debut": str(base.valid_from),
        "fin": str(base.valid_until),
    }


def head(fields: Fields, base: Policy, save: bool) -> draft.Head:
    """Returns what stands above the streams: of the form where it is to be kept, of the base before."""
    found = draft.head_of(base)
    if not save:
        return found
    found = replace(
        found,
        version=fields.whole("version", 1, 1 << 31),
        decision=fields.text("decision"),
        reason=fields.text("raison"),
        valid_from=fields.day("debut"),
        valid_until=fields.day("fin"),
    )
    days = (found.valid_until - found.valid_from).days
    if days < 0:
        fields.wrong("fin", "order")
    elif days > 3660:
        fields.wrong("fin", "ten_years")
    return found


def weighted(nodes: tuple[tuple[str, Decimal], ...], detail: int) -> tuple[tuple[str, Decimal], ...]:
    """Returns the weights at a position of the slider: the longest nodes weigh 4^detail more against the shortest than
    in the policy, those between in equal steps; negative positions favour the shortest."""
    if not detail:
        return nodes
    lengths = sorted({SHARE_QUARTERS[level] for level, _ in nodes})
    last = max(1, len(lengths) - 1)
    found = []
    for level, weight in nodes:
        rank = lengths.index(SHARE_QUARTERS[level])
        steps = rank if detail > 0 else last - rank
        factor = Decimal(4 ** abs(detail)) ** (Decimal(steps) / last)
        found.append((level, (weight * factor).quantize(Decimal("0.01"))))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One of the three: its letter, what was typed for it, and the policy of the whole site that it makes."""

    letter: str
    value: Decimal
    policy: Policy


def scenario(asked: Asked, base: Policy, letter: str, detail: int | None = None) -> Scenario:
    """Returns a scenario's policy: the base with the stream of the question in its place. `detail`: another position of
    the slider, at the same epsilon or margin. Raises Unmet."""
    value = asked.values[LETTERS.index(letter)]
    stream = asked.stream
    if detail is not None:
        original = base.stream(stream.id)
        stream = replace(stream, nodes=weighted(original.nodes if original else stream.nodes, detail))
    try:
        if asked.start == "marge":
            line = draft.target_line(asked.node, value)
        else:
            line = draft.epsilon_line(_of_a_day(stream, base, value) if asked.who == "semaine" else value)
        policy, _ = read(_file(asked.head, base, stream, line), letter.upper())
        plan(policy, letter.upper())
    except ConfigError as error:
        raise Unmet(*mistake_of(error, letter)) from error
    return Scenario(letter, value, policy)


def mistake_of(error: ConfigError, own: str) -> tuple[str, Mistake]:
    """Returns the field and the mistake of what the kernel refused; `own`: the field of the scenario."""
    said = f"{error.key}: {error.problem}"
    found = next((one for one in REFUSALS if one.said in said), Refusal("", "", "refused"))
    return found.field or own, Mistake(f"studio.error_{found.key}", {"most": LARGEST_EPSILON})


def _file(head: draft.Head, base: Policy, stream: StreamPolicy, line: str) -> bytes:
    streams = [
        (stream, line) if one.id == stream.id else (one, draft.epsilon_line(one.epsilon)) for one in base.streams
    ]
    return draft.written(head, streams, base.paused)


def _of_a_day(stream: StreamPolicy, base: Policy, week: Decimal) -> Decimal:
    """Returns the largest epsilon of three digits, for one day, with which seven such days cost at most that of a week.
    Raises ConfigError where even the smallest costs more."""
    most = accountant.rho_micro(week, stream.delta)

    def fits(epsilon: Decimal) -> bool:
        try:
            made = plan(replace(base, streams=(replace(stream, epsilon=epsilon, cap=None),)))
        except ConfigError:
            return True  # too small to be shared out: the next larger one may do
        return habit_rho_micro(made.streams[stream.id], WEEK_DAYS) <= most

    low, high = 0, GRID - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(three_digits(middle)) else (low, middle - 1)
    return three_digits(low)


def parse_query(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns the first value of each parameter, cut to what a field may hold."""
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value[:2000])
    return found
