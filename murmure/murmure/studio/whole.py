"""The whole site in three scenarios: what its streams cost together, and over the sites that one person passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from murmure_privacy import accountant
from murmure_privacy.decide import FLOOR_EPSILON
from murmure_privacy.errors import ConfigError
from murmure_privacy.levels import NORMAL_95
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import DEFAULT_DELTA, Policy, parse
from murmure_privacy.preview import LARGEST_EPSILON, cap_days, site_ladder, site_price, standard_errors

from murmure.studio import draft
from murmure.studio.answers import own_indicator
from murmure.studio.form import LETTERS, RULE, Fields, Form, Unmet, head, head_defaults, mistake_of

_LEAST = Decimal("0.001")
_FACTORS = (Decimal("0.5"), Decimal(1), Decimal(2))  # of the policy's epsilons, before anybody types


@dataclass(frozen=True, slots=True)
class AskedWhole:
    """A question about a site without a mistake. `epsilons`: by scenario, one for each stream of the policy that the
    studio begins with, None where the stream is not measured. `ceiling`: an epsilon at delta 1e-6, None for none."""

    epsilons: tuple[tuple[Decimal | None, ...], ...]
    places: int
    ceiling: Decimal | None
    head: draft.Head


@dataclass(frozen=True, slots=True)
class Together:
    """One scenario of a site. `margins`: by stream and level, the 95 % margin of the figure that a page shows;
    `cap_days`: by stream, how many days fit under its cap. `price`: one unit in each stream together, as `policy
    preview` has it, `passed` the same over the sites that one person passes, `elsewhere` over this one and all others
    that the studio has open. `right`: how often, 0 to 1, somebody guesses right who had no idea before. `under`:
    whether the ceiling allows it, None without one."""

    letter: str
    planned: Plan
    margins: Mapping[str, Mapping[str, float]]
    cap_days: Mapping[str, int | None]
    price: Mapping[str, Any]
    passed: Decimal
    elsewhere: Decimal
    right: Decimal
    ladder: Sequence[Mapping[str, Any]]
    under: bool | None


def field(letter: str, number: int) -> str:
    """Returns the field of a stream, numbered from 1, in a scenario."""
    return f"{letter}{number}"


def read_whole(query: Mapping[str, str], base: Policy, version: int) -> Form[AskedWhole]:
    """Returns what an address asks of a whole site; see `form.read_form`."""
    typed = {name: query.get(name, default) for name, default in _defaults(base, version).items()}
    fields = Fields(typed)
    fields.choice(RULE, [base.site])
    numbers = range(1, len(base.streams) + 1)
    epsilons = tuple(tuple(_epsilon(fields, field(letter, number)) for number in numbers) for letter in LETTERS)
    for letter, chosen in zip(LETTERS, epsilons, strict=True):
        if all(epsilon is None for epsilon in chosen):
            fields.wrong(field(letter, 1), "no_stream")
    ceiling = fields.number("limite", _LEAST, Decimal(FLOOR_EPSILON)) if typed["limite"].strip() else None
    save = query.get("garder", "")
    save = save if save in LETTERS else ""
    above = head(fields, base, bool(save))
    asked = AskedWhole(epsilons, fields.whole("lieux", 1, 1000), ceiling, above)
    return Form(typed, fields.mistakes, None if fields.mistakes else asked, save)


def _epsilon(fields: Fields, name: str) -> Decimal | None:
    return fields.number(name, _LEAST, Decimal(LARGEST_EPSILON)) if fields.typed[name].strip() else None


def _defaults(base: Policy, version: int) -> dict[str, str]:
    epsilons = {
        field(letter, number): draft.plain(min(max(stream.epsilon * factor, _LEAST), Decimal(LARGEST_EPSILON)))
        for letter, factor in zip(LETTERS, _FACTORS, strict=True)
        for number, stream in enumerate(base.streams, 1)
    }
    return {RULE: base.site, **epsilons, "lieux": "3", "limite": "", **head_defaults(base, version)}


def proposal(asked: AskedWhole, base: Policy, letter: str) -> Plan:
    """Returns the policy of a scenario, planned. Raises Unmet."""
    chosen = asked.epsilons[LETTERS.index(letter)]
    streams = [
        (stream, draft.epsilon_line(epsilon))
        for stream, epsilon in zip(base.streams, chosen, strict=True)
        if epsilon is not None
    ]
    try:
        return plan(parse(draft.written(asked.head, streams, base.paused), letter.upper()), letter.upper())
    except ConfigError as error:
        number = next((n for n, one in enumerate(base.streams, 1) if f"stream {one.id}:" in error.key), 1)
        name, mistake = mistake_of(error, field(letter, number))
        raise Unmet(name if name in ("raison", "debut") else field(letter, number), mistake) from error


def look(asked: AskedWhole, base: Policy, others: Sequence[Plan]) -> tuple[Together, ...]:
    """Returns the three scenarios. `others`: the policies of the other sites that the studio has open. Raises Unmet."""
    return tuple(_together(asked, proposal(asked, base, letter), letter, others) for letter in LETTERS)


def _together(asked: AskedWhole, planned: Plan, letter: str, others: Sequence[Plan]) -> Together:
    price = site_price(planned)
    rho_micro, delta = price["rho_micro"], Decimal(str(price["delta"]))
    epsilon = accountant.epsilon(Decimal(rho_micro) / accountant.MICRO, delta)
    everywhere = rho_micro + sum(site_price(one)["rho_micro"] for one in others)
    margins = {}
    for name, made in planned.streams.items():
        errors, indicator = standard_errors(made), own_indicator(made)
        margins[name] = {level: NORMAL_95 * error for (level, of), error in errors.items() if of == indicator}
    return Together(
        letter=letter,
        planned=planned,
        margins=margins,
        cap_days={name: cap_days(made) for name, made in planned.streams.items()},
        price=price,
        passed=accountant.epsilon(Decimal(rho_micro * asked.places) / accountant.MICRO, delta),
        elsewhere=accountant.epsilon(Decimal(everywhere) / accountant.MICRO, delta),
        right=accountant.right_guesses(epsilon, delta),
        ladder=site_ladder(planned),
        under=None if asked.ceiling is None else rho_micro <= accountant.rho_micro(asked.ceiling, DEFAULT_DELTA),
    )
