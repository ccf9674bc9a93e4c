"""What `murmure policy check` and `policy preview` print, in French and English."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from itertools import groupby
from typing import Any

from murmure_privacy import accountant
from murmure_privacy.french import french
from murmure_privacy.levels import EXCEEDED
from murmure_privacy.policy import Policy
from murmure_privacy.policy_words import Lang
from murmure_privacy.stream import HISTOGRAM_STEP_TENTHS

WORDS: Mapping[str, tuple[str, str]] = {
    # Both commands
    "way_looser": ("après la règle {was}, c'est un assouplissement :", "after policy {was} it is a loosening:"),
    "way_tighter": ("après la règle {was}, c'est un durcissement :", "after policy {was} it is a tightening:"),
    "way_same": (
        "après la règle {was}, rien ne change pour les habitants :",
        "after policy {was} it is no change for residents:",
    ),
    "warning": ("attention : {text}", "warning: {text}"),
    "after": (
        "si une règle est en vigueur : --after ANCIENNE dit ce que celle-ci assouplit, et retient avant de commencer",
        "where a policy is in force: --after OLDER says what this one loosens, and withholds before it begins",
    ),
    # check
    "complete": (
        "{source} : complète. Règle {version} de {site}, sha256:{hash}…",
        "{source}: complete. Policy {version} of {site}, sha256:{hash}…",
    ),
    "stream": (
        "{id} : epsilon {epsilon} (delta {delta}) pour une unité protégée",
        "{id}: epsilon {epsilon} (delta {delta}) for one unit of privacy",
    ),
    "site": (
        "tous les flux ensemble : epsilon {epsilon} ; le plus long message a {largest} octets sur {limit}",
        "all streams together: epsilon {epsilon}; largest message {largest} of {limit} bytes",
    ),
    # preview
    "head": (
        "Règle {version} de {site}, du {first} au {last}",
        "Policy {version} of {site}, {first} to {last}",
    ),
    "crossing": ("{size} passage compté", "{size} counted crossing"),
    "crossings": ("{size} passages comptés", "{size} counted crossings"),
    "seconds": ("tout évènement de {size} secondes", "any {size} seconds"),
    "up_to": (
        " pendant lequel aucune lecture ne dépasse {level} {unit}",
        " during which no reading is above {level} {unit}",
    ),
    "protects": (
        "{id} : epsilon {epsilon}, delta {delta}, pour {what}",
        "{id}: epsilon {epsilon}, delta {delta}, for {what}",
    ),
    "target": (
        "pour ± {error} ({node}), écrivez : {line}",
        "for ± {error} at {node}, write: {line}",
    ),
    "cap": (
        "plafond : {units} par jour peuvent coûter epsilon {epsilon} sur {span} :",
        "cap: {units} a day may cost epsilon {epsilon} over {span}:",
    ),
    "cap_days": ("assez pour {days} jours", "enough for {days} days of it"),
    "span_1d": ("un jour", "one day"),
    "span_1w": ("une semaine", "a week"),
    "span_30d": ("30 jours", "30 days"),
    "span_1y": ("un an", "a year"),
    "together": (
        "Tous les flux ensemble : epsilon {epsilon}, delta {delta}",
        "All streams together: epsilon {epsilon}, delta {delta}",
    ),
    "column_node": ("intervalle", "node"),
    "column_figure": ("chiffre", "figure"),
    "column_margin": ("marge ±", "margin ±"),
    "column_unit": ("unité", "unit"),
    "column_sigma": ("sigma", "sigma"),
    "column_sensor": ("capteur ±", "sensor ±"),
    "column_cost": ("micro-rho", "micro-rho"),
    "not_shown": ("non montré", "not shown"),
    "margin_notes": (
        "marge : 19 chiffres sur 20 sont dedans, un jour sans trou, tous les intervalles pris ensemble",
        "margin: 19 figures out of 20 are within it, on days without a gap, from all nodes together",
    ),
    "sensor": ("capteur : {source}", "sensor: {source}"),
    "usual_level": ("LAeq {level} dB", "LAeq {level} dB"),
    "usual_mean": ("moyenne {mean} {unit}", "mean {mean} {unit}"),
    "street": ("{at} : {usual} ; {says}", "{at}: {usual}; {says}"),
    "margin_db": ("marge ± dB", "margin ± dB"),
    "monthly": ("moyenne de 30 jours", "mean of 30 days"),
    "no": ("non", "no"),
    "no_notes": (
        "non : plus de 3 dB, dans la plupart des intervalles de ce genre ; ce n'est alors pas montré en nombre",
        "no: above 3 dB, on most nodes of the kind; it is then not shown as a number",
    ),
    "half": (
        "L10, L50, L90 : dits par le milieu d'une tranche ; ± {half} dB en est la moitié, quel que soit l'epsilon",
        "l10, l50, l90: told as the middle of a bin; ± {half} dB is half its width, whatever the epsilon",
    ),
    "bounds": (
        "≤, ≥ : au plus, au moins tant de dB : la première et la dernière tranche contiennent aussi ce qui est au-delà",
        "≤, ≥: at most, at least so many dB: the first and the last bin hold what is beyond the bounds too",
    ),
    "units": ("unités par jour", "units a day"),
    "habits": (
        "ce que coûtent les habitudes, en epsilon (* : plus rien de sérieux n'est promis) :",
        "what habits cost, as epsilon (*: nothing worth the name is promised):",
    ),
    "right": (
        "une unité, un jour : qui hésitait à 50 contre 50 devine ensuite juste au plus {right} fois sur 100",
        "one unit on one day: who held it for as likely as not before is right at most {right}% of the time after",
    ),
    "fit": (
        "{at} : niveaux pour {key}, avec {share} % du budget pour {what} :",
        "{at}: levels for {key}, with {share}% of the budget for {what}:",
    ),
    "column_events": ("évènements laissés", "events left out"),
    "column_louder": ("lectures au-dessus", "readings above"),
    "column_fit": ("marge ± {unit}", "margin ± {unit}"),
    "event": (
        "un évènement est {count} lectures de suite : {seconds} secondes, et ce dont le capteur se souvient ; une "
        "seule lecture au-dessus du niveau le laisse de côté",
        "an event is {count} readings in a row: {seconds} seconds and what the sensor remembers of them; one reading "
        "above the level leaves it out",
    ),
    "at_most": ("jusqu'à {share}", "up to {share}"),
    "at_most_notes": (
        "jusqu'à : au pire, car une rue décrite ne dit pas ce qui suit quoi ; --readings compte les évènements",
        "up to: at worst, for a described street does not say what follows on what; --readings counts events",
    ),
    "clamped": (
        "sans lui, une lecture au-dessus de {high} {unit} compte comme {high} : {figure} {bias} {unit}, marge {margin}",
        "without it, readings above {high} {unit} count as {high}: {figure} {bias} {unit}, margin {margin}",
    ),
    "of_policy": ("la règle a {step}", "the policy has {step}"),
    "proposed": (
        "proposé, le plus bas qui laisse de côté au plus 1 % des évènements : {step}",
        "proposed, the lowest that leaves out at most 1 % of events: {step}",
    ),
    "highest": ("le plus haut avec lequel c'est montré : {step}", "the highest with which it is shown: {step}"),
    "step": (
        "{key} = {level} : {what} {shown} ; {events} des évènements laissés de côté",
        "{key} = {level}: {what} {shown}; {events} of events left out",
    ),
    "mean": ("moyenne", "mean"),
    "percent": ("{share} %", "{share}%"),
}

FIGURES: Mapping[str, str] = {
    "crossings": "passages",
    "histogram": "histogramme",
    "mean": "moyenne",
    "energy": "énergie",
    "histogram_s": "histogramme",
    "level_db_mean": "niveau moyen",
    "energy_mean": "énergie moyenne",
    "share_over_65_db": "part > 65 dB",
    "l10_db": "L10",
    "l50_db": "L50",
    "l90_db": "L90",
    "laeq_db": "LAeq",
    "ln_db": "Ln",
    "lden_db": "Lden",
    "pm1_ug_m3": "PM1 moyen",
    "pm2_5_ug_m3": "PM2,5 moyen",
    "pm10_ug_m3": "PM10 moyen",
}
"""The French names of figures; in English they are called as in the document for programs."""
NODES: Mapping[str, str] = {
    "15min": "15 min",
    "1h": "1 h",
    "6h": "6 h",
    "1d": "jour",
    "1w": "semaine",
    "day": "journée",
    "evening": "soirée",
    "night": "nuit",
    "day+evening+night": "24 heures",
}
UNITS: Mapping[str, str] = {"ug/m3": "µg/m³", "1": ""}
_POINT = re.compile(r"(?<=\d)\.(?=\d)")
_DECIMAL = str.maketrans(",.", "\u202f,")


@dataclass(frozen=True, slots=True)
class Teller:
    """Says things in one language."""

    lang: Lang

    def __call__(self, key: str, /, **places: object) -> str:
        return WORDS[key][self.lang == "en"].format(**places)

    def number(self, text: str) -> str:
        """Returns a number that is written the English way as the language writes it."""
        return text if self.lang == "en" else text.translate(_DECIMAL)

    def figure(self, name: str) -> str:
        """Returns what a figure is called."""
        return name if self.lang == "en" else FIGURES[name]

    def node(self, level: str) -> str:
        """Returns what a node is called."""
        return level if self.lang == "en" else NODES[level]

    def unit(self, unit: str) -> str:
        """Returns a unit."""
        return unit if self.lang == "en" else UNITS.get(unit, unit)

    def kernel(self, text: str) -> str:
        """Returns what the kernel says of a street or a sensor; a recorded street has its own name."""
        said = None if self.lang == "en" else french(text)
        return text if said is None else _POINT.sub(",", said)


def checked(
    document: Mapping[str, Any], policy: Policy, source: str, limit: int, change: Iterable[str], lang: Lang
) -> Iterator[str]:
    """Yields the lines of `policy check`. `document`: what it says to programs; `limit`: of a message, in bytes;
    `change`: what it changes, and the warnings."""
    say = Teller(lang)
    yield say("complete", source=source, version=policy.version, site=policy.site, hash=policy.hash.hex()[:16])
    for stream in document["streams"]:
        epsilon, delta = (say.number(f"{stream[key]:g}") for key in ("epsilon", "delta"))
        yield "  " + say("stream", id=stream["id"], epsilon=epsilon, delta=delta)
        for node in stream["nodes"]:
            what = f"{say.node(node['node']):>7}  {say.figure(node['indicator']):<11}"
            sigma = say.number(f"{node['sigma']:,g}")
            yield f"    {what}  sigma {sigma:>14} {say.unit(node['unit']):<5}  {node['rho_micro']} micro-rho"
    epsilon = say.number(f"{document['site']['epsilon']:g}")
    yield "  " + say("site", epsilon=epsilon, largest=document["largest_message"], limit=limit)
    yield from (f"  {line}" for line in change)


def sheet(policy: Policy, found: Mapping[str, Any], change: Iterable[str], lang: Lang) -> Iterator[str]:
    """Yields the lines of the preview that a steward reads; `change`: those of what it changes, and the warnings."""
    say = Teller(lang)
    yield say("head", version=policy.version, site=policy.site, first=policy.valid_from, last=policy.valid_until)
    for stream, planned in zip(found["streams"], policy.streams, strict=True):
        kind, size = planned.protects
        what = say("crossing" if (kind, size) == ("crossings", 1) else kind, size=size)
        if planned.up_to is not None:
            level = say.number(f"{planned.up_to / planned.quantity.per_unit:g}")
            what += say("up_to", level=level, unit=say.unit(planned.quantity.unit))
        yield ""
        epsilon, delta = (say.number(f"{stream[key]:g}") for key in ("epsilon", "delta"))
        yield say("protects", id=stream["id"], epsilon=epsilon, delta=delta, what=what)
        if stream["target"]:
            wanted = stream["target"]
            error = say.number(_short(wanted["error_95"]))
            yield "  " + say("target", error=error, node=say.node(wanted["node"]), line=wanted["line"])
        yield from _errors(say, stream)
        for street in stream["streets"]:
            yield from _on(say, stream, street, planned.quantity.unit)
        yield from _habits(say, stream, planned.delta)
        for fit in stream["up_to"]:
            yield from _fit(say, fit, size)
        if stream["cap"]:
            cap = stream["cap"]
            epsilon = say.number(f"{cap['epsilon']:g}")
            yield "  " + say("cap", units=cap["units_per_day"], epsilon=epsilon, span=say(f"span_{cap['span']}"))
            yield "    " + say("cap_days", days=cap["days"])
    site = found["site"]
    yield ""
    epsilon, delta = (say.number(f"{site[key]:g}") for key in ("epsilon", "delta"))
    yield say("together", epsilon=epsilon, delta=delta)
    yield from change


def _errors(say: Teller, stream: Mapping[str, Any]) -> Iterator[str]:
    columns = ("node", "figure", "margin", "unit", "sigma", "sensor", "cost")
    rows = [(*(say(f"column_{column}") for column in columns), "")]
    for row in stream["nodes"]:
        if row["at"] is None:
            error, sigma, sensor = (say.number(_short(row[key])) for key in ("error_95", "sigma", "sensor_error"))
            cost = str(row["rho_micro"] or "-")
            said = say("not_shown") if row["publishable"] is False else ""
            figure = say.node(row["node"]), say.figure(row["indicator"])
            rows.append((*figure, error, say.unit(row["unit"]), sigma, sensor, cost, said))
    yield from _table(rows, left=(0, 1, 3, 7))
    yield "    " + say("margin_notes")
    if stream["sensor"]:
        yield "    " + say("sensor", source=say.kernel(stream["sensor"]["source"]))


def _on(say: Teller, stream: Mapping[str, Any], street: Mapping[str, Any], unit: str) -> Iterator[str]:
    """Yields what a street is and the margins of what depends on the street: a line an indicator, a column a node."""
    if "laeq_db" in street:
        usual = say("usual_level", level=say.number(f"{street['laeq_db']:.1f}"))
    else:
        usual = say("usual_mean", mean=say.number(_short(street["mean"])), unit=say.unit(unit))
    yield "  " + say("street", at=say.kernel(street["at"]), usual=usual, says=say.kernel(street["says"]))
    if "laeq_db" not in street:
        return
    told: set[str] = set()
    cells: list[str] = []
    for rows, title in ((stream["nodes"], say("margin_db")), (stream["monthly"], say("monthly"))):
        of = {(row["indicator"], row["node"]): row for row in rows if row["at"] == street["at"]}
        nodes = list(dict.fromkeys(node for _, node in of))
        lines = [(title, *map(say.node, nodes))]
        for name in dict.fromkeys(name for name, _ in of):
            lines.append((say.figure(name), *(_margin(say, of.get((name, node))) for node in nodes)))
            told.add(name)
            cells += lines[-1][1:]
        yield from _table(lines, left=(0,))
    yield "    " + say("no_notes")
    if not EXCEEDED.keys().isdisjoint(told):
        yield "    " + say("half", half=say.number(f"{HISTOGRAM_STEP_TENTHS / 20:g}"))
    if any(cell.startswith(("≤", "≥")) for cell in cells):
        yield "    " + say("bounds")


def _margin(say: Teller, row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    for key, sign in (("at_most_db", "≤"), ("at_least_db", "≥")):
        if row.get(key) is not None:
            return f"{sign} {say.number(f'{row[key]:g}')}"
    return say("no") if row["publishable"] is False else say.number(_short(row["error_95"]))


def _habits(say: Teller, stream: Mapping[str, Any], delta: Decimal) -> Iterator[str]:
    rungs = stream["ladder"]
    rows = [(say("units"), *(say(f"span_{span}") for span in dict.fromkeys(rung["span"] for rung in rungs)))]
    in_order = sorted(rungs, key=lambda rung: int(rung["units"]))
    for units, group in groupby(in_order, key=lambda rung: int(rung["units"])):
        cells = (say.number(_rounded_up(rung["epsilon"])) + " *"[rung["odds"] is None] for rung in group)
        rows.append((str(units), *cells))
    yield "  " + say("habits")
    yield from _table(rows)
    right = accountant.right_guesses(Decimal(str(rungs[0]["epsilon"])), delta)
    # Rounded up, as on the public pages: the line says "at most".
    yield "    " + say("right", right=str((100 * right).to_integral_value(ROUND_CEILING)))


def _fit(say: Teller, fit: Mapping[str, Any], seconds: int) -> Iterator[str]:
    what = _what(say, fit)
    unit, key = say.unit(fit["unit"]), next(iter(fit["proposed"]))
    share = f"{fit['share_of_budget']:.0%}".removesuffix("%")
    yield "  " + say("fit", at=say.kernel(fit["at"]), key=key, share=share, what=what)
    rows = [(key, say("column_events"), say("column_louder"), say("column_fit", unit=unit))]
    rows += [
        (str(step[key]), _events(say, step, fit), _percent(say, step["louder"]), _margin(say, step))
        for step in fit["steps"]
    ]
    yield from _table(rows)
    yield "    " + say("event", count=fit["unit_readings"], seconds=seconds)
    if not fit["events_exact"]:
        yield "    " + say("at_most_notes")
    clamped, suffix = fit["clamped"], key.removeprefix("up_to")
    high, bias = clamped[f"high{suffix}"], say.number(f"{clamped[f'bias{suffix}']:+.2f}")
    figure = "LAeq" if fit["unit"] == "dB" else say("mean")
    yield "    " + say("clamped", high=high, unit=unit, figure=figure, bias=bias, margin=_margin(say, clamped))
    if fit["of_policy"]:
        yield "    " + say("of_policy", step=_said(say, fit["of_policy"], fit))
    yield "    " + say("proposed", step=_said(say, fit["proposed"], fit))
    highest = fit["highest_publishable"]
    if highest and not fit["proposed"]["publishable"]:
        yield "    " + say("highest", step=_said(say, highest, fit))


def _what(say: Teller, fit: Mapping[str, Any]) -> str:
    return f"{say.figure(fit['indicator'])} ({say.node(fit['node'])})"


def _events(say: Teller, step: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    share = _percent(say, step["events"])
    return share if fit["events_exact"] or not step["events"] else say("at_most", share=share)


def _percent(say: Teller, share: float) -> str:
    """Returns a share to a hundredth of a percent; less than that is not said to be none."""
    told = "< 0.01" if 0 < share < 0.0001 else f"{share:.2%}".removesuffix("%")
    return say("percent", share=say.number(told))


def _said(say: Teller, step: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    key = next(iter(step))
    shown = say("not_shown")
    if step["publishable"] is not False:
        shown = f"± {say.number(_short(step['error_95']))} {say.unit(fit['unit'])}"
    return say("step", key=key, level=step[key], what=_what(say, fit), shown=shown, events=_events(say, step, fit))


def _rounded_up(epsilon: float) -> str:
    """Returns three digits of a price, never below it."""
    three = Decimal(str(epsilon)).normalize(Context(prec=3, rounding=ROUND_CEILING))
    return f"{three:,f}"


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _table(rows: Sequence[Sequence[str]], left: Iterable[int] = ()) -> Iterator[str]:
    """Yields the rows in aligned columns, to the right but for those named."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    aligned = set(left)
    for row in rows:
        cells = (
            cell.ljust(width) if column in aligned else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"    {'  '.join(cells)}".rstrip()
