"""What a policy will show and cost, before anybody signs it: errors of figures, prices of habits, levels that fit.

Everything follows from the policy and, for levels, from a street that is described or was recorded; nothing is drawn.
The document returned is the JSON of contract 6.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_CEILING, Decimal
from math import inf, isfinite, sqrt
from typing import Any

from murmure_privacy import accountant
from murmure_privacy.errors import ConfigError
from murmure_privacy.levels import (
    EXCEEDED,
    LOUD_DB,
    NORMAL_95,
    SHARE_OVER,
    WIDEST_MARGIN_DB,
    Histogram,
    equivalent,
    margin,
)
from murmure_privacy.plan import Plan, StreamPlan, plan
from murmure_privacy.policy import Policy, StreamPolicy, parse
from murmure_privacy.policy_words import LANGS, Both
from murmure_privacy.published import divisor, histogram, printed_name, unit
from murmure_privacy.release import Node
from murmure_privacy.stream import histogram_edges_tenths
from murmure_privacy.street import Levels, Street, binned, laeq_db, louder, mean_energy
from murmure_privacy.tree import Forest, Observation
from murmure_privacy.window import ORDINARY_QUARTERS, PARTS, QUARTER_S, Calendar, Window
from murmure_privacy.wire import MESSAGE_LIMIT, largest_message

LEFT_OUT_AT_MOST = 0.01
"""A level is proposed for `up_to_db` or `up_to` if at most this share of events is left out of the promise, since they
touch a reading that is higher. Events count, not moments: one loud second takes all events around it out."""

MONTH_DAYS = 30
STEP_TENTHS = 50

_MONDAY_NOON_S = 4 * 86_400 + 43_200
_ALL_PARTS = "+".join(PARTS)
_SHOWN = Decimal("0.0001")  # what is told of an epsilon, rounded up
_MONTHLY = ("node", "indicator", "error_95", "unit", "publishable", "at_most_db", "at_least_db", "at")
_LDEN = {"day": 12 / 24, "evening": 4 * 10**0.5 / 24, "night": 8 * 10 / 24}
_TARGET = re.compile(r"^([ \t]*)target[ \t]*=[ \t]*\{[^{}\n]*\}", re.MULTILINE)
LARGEST_EPSILON = 100
GRID = 6 * 900 + 1  # decimals of three digits from 0.0001 to LARGEST_EPSILON


@dataclass(frozen=True, slots=True)
class Sensor:
    """The error that a quantity's usual sensor has without any noise of ours, in the quantity's unit."""

    error: float
    source: str


SENSORS: Mapping[str, Sensor] = {
    "noise": Sensor(
        1.4, "data sheet of a class 2 meter (CEM DT-8852: 94 dB, 1 kHz); of RS-485 modules 3 %, about 2 dB"
    ),
    "pm1": Sensor(10, "data sheets of PMS5003 and SPS30, below 100 ug/m3; above it 10 %"),
    "pm2_5": Sensor(10, "data sheet of the SDS011: the larger of 10 ug/m3 and 15 %"),
    "pm10": Sensor(10, "data sheet of the SDS011: the larger of 10 ug/m3 and 15 %"),
}
"""Errors at ordinary street values. How many passers-by a beam or a radar misses is a share of the count, and of that
device: docs/accuracy.md measures it."""


def preview(policy: Policy, source: str, streets: Sequence[Street], today: date) -> dict[str, Any]:
    """Returns the preview of a policy: streams, site and warnings. `streets`: where levels are tried.

    Raises ConfigError for a policy that cannot be planned.
    """
    made = plan(policy, source)
    return {
        "policy": f"sha256:{policy.hash.hex()}",
        "streams": [sheet(policy, stream, streets) for stream in made.streams.values()],
        "site": site_price(made),
        "largest_message": largest_message(made),
        "warnings": [one["en"] for one in warnings(policy, made, today)],
    }


def site_price(made: Plan) -> dict[str, Any]:
    """Returns what one unit of privacy in each stream costs together."""
    rho_micro = sum(stream.rho_micro for stream in made.streams.values())
    delta = max(stream.delta for stream in made.policy.streams)
    epsilon = accountant.epsilon(Decimal(rho_micro) / accountant.MICRO, delta)
    return {"rho_micro": rho_micro, "epsilon": float(epsilon.quantize(_SHOWN, ROUND_CEILING)), "delta": float(delta)}


_WARNED: dict[str, tuple[str, str]] = {
    "past": (
        "valid_until {day} est passé : rien ne serait publié",
        "valid_until {day} is past: nothing would be published",
    ),
    "to_come": ("valid_from {day} est encore à venir", "valid_from {day} is still to come"),
    "largest": (
        "le plus long message a {largest} octets sur {limit} : check la refuse ; retirez un intervalle",
        "the largest message has {largest} bytes of {limit}: check refuses it; drop a node",
    ),
    "paused": ("suspendue : rien ne serait publié", "paused: nothing would be published"),
    "stream_paused": (
        "{stream} : suspendu : rien n'en serait publié",
        "{stream}: paused: nothing of it would be published",
    ),
    "cap": (
        "{stream} : plafond : il dure {holds} des {days} jours de sa période ; les jours suivants sont retenus",
        "{stream}: cap: lasts for {holds} of the {days} days of its span; later days are withheld",
    ),
    "cap_after": (
        "{stream} : plafond : il dure {holds} des {days} jours de sa période ; la règle finit avant, après {validity}",
        "{stream}: cap: lasts for {holds} of the {days} days of its span; the policy ends before, after {validity}",
    ),
    "cap_week": (
        "{stream} : plafond : il compte chaque jour pour lui-même ; qui est là chaque jour d'une semaine est sept fois "
        "dans son intervalle 1w, sur {span} epsilon {epsilon}",
        "{stream}: cap: it counts each day for itself; who is in every day of a week is in its 1w node seven times, "
        "over {span} epsilon {epsilon}",
    ),
    "up_to": (
        "{stream} : up_to_db : ne rend pas un histogramme meilleur ; retirez-le et protégez tous les sons",
        "{stream}: up_to_db: makes a histogram no better; leave it out and protect every sound",
    ),
}


def _warned(key: str, **places: object) -> Both:
    return {lang: words.format(**places) for lang, words in zip(LANGS, _WARNED[key], strict=True)}


def dates(policy: Policy, today: date) -> list[Both]:
    """Returns what is odd about the validity of a policy on this day."""
    found = []
    if policy.valid_until < today:
        found.append(_warned("past", day=policy.valid_until))
    if policy.valid_from > today:
        found.append(_warned("to_come", day=policy.valid_from))
    return found


def ordinary(stream: StreamPolicy, level: str) -> Node:
    """Returns a whole node of an ordinary day, for the units in which its figures are printed."""
    return Node(
        stream=stream.id,
        quantity=stream.quantity.name,
        level=level,
        start_s=0,
        end_s=QUARTER_S * ORDINARY_QUARTERS[level],
        covered_from_s=0,
        present=20,
        cadence_ms=stream.cadence_ms,
        bounds=stream.bounds,
        policy=bytes(32),
    )


def significant(value: float) -> float:
    """Returns a figure with six digits, as the command prints it."""
    return float(f"{value:.6g}")


def standard_errors(made: StreamPlan) -> dict[tuple[str, str], float]:
    """Returns, by level and indicator, the standard error of the final estimate of a node on complete ordinary days, in
    the unit in which the figure is printed (of a histogram: of each bin).

    It is the exact one of weighted least squares over all nodes of the period. Where nodes of a level differ (hours of
    a day and of an evening), the largest.
    """
    calendar = Calendar("UTC")
    period = calendar.period([node.level for node in made.nodes], _MONDAY_NOON_S)
    errors: dict[tuple[str, str], float] = {}
    for indicator, _ in made.stream.indicators:
        seen: list[tuple[str, Observation]] = []
        for node in made.nodes:
            [planned] = [one for one in node.indicators if one.indicator == indicator]
            for window in _tiles(calendar, node.level, period):
                seen.append((node.level, Observation(window, (0.0,), (planned.sigma_milli / 1000) ** 2)))
        estimates = Forest([observation for _, observation in seen]).estimates
        for (level, _), (_, variance) in zip(seen, estimates, strict=True):
            error = sqrt(variance) / divisor(ordinary(made.stream, level), indicator)
            errors[level, indicator] = max(error, errors.get((level, indicator), 0.0))
    return errors


def _tiles(calendar: Calendar, level: str, period: Window) -> list[Window]:
    found, at_s = [], period.start_s
    while (window := calendar.node(level, at_s)).start_s < period.end_s:
        found.append(window)
        at_s = window.end_s
    return found


def sheet(policy: Policy, made: StreamPlan, streets: Sequence[Street]) -> dict[str, Any]:
    """Returns the preview of one stream of a policy."""
    stream = made.stream
    loud = stream.quantity.kind == "level"
    tried = [street for street in streets if street.stream == stream.id or (street.stream is None and loud)]
    errors = standard_errors(made)
    sensor = SENSORS.get(stream.quantity.name)
    return {
        "id": stream.id,
        "epsilon": float(stream.epsilon),
        "delta": float(stream.delta),
        "rho_micro": made.rho_micro,
        "nodes": [
            *(row for node in made.nodes for row in _released(made, node.level, errors)),
            *(row for street in tried for row in _on_street(made, street, errors)),
        ],
        "monthly": [row for street in tried for row in _monthly(made, street, errors)],
        "ladder": ladder(made),
        "sensor": None
        if sensor is None
        else {"error": sensor.error, "unit": stream.quantity.unit} | {"source": sensor.source},
        "streets": [
            {"at": street.name, "says": street.says}
            | (
                {"laeq_db": round(laeq_db(street.whole), 1)}
                if loud
                else {"mean": significant(_mean(street.whole) / stream.quantity.per_unit)}
            )
            for street in tried
        ],
        "up_to": [found for street in tried if (found := fit(policy, stream, street)) is not None],
        "cap": _cap(made),
    }


def _row(
    made: StreamPlan,
    level: str,
    indicator: str,
    shown_unit: str,
    error_95: float,
    *,
    sigma: float | None = None,
    rho_micro: int = 0,
    at: str | None = None,
) -> dict[str, Any]:
    """One figure. What is derived has no sigma, and costs nothing beyond the figures it is derived from."""
    sensor = SENSORS.get(made.stream.quantity.name)
    compared = sensor is not None and shown_unit == made.stream.quantity.unit
    return {
        "node": level,
        "indicator": indicator,
        "sigma": None if sigma is None else significant(sigma),
        "error_95": significant(error_95) if isfinite(error_95) else None,
        "unit": shown_unit,
        "rho_micro": rho_micro,
        "sensor_error": sensor.error if sensor and compared else None,
        "publishable": error_95 <= WIDEST_MARGIN_DB if shown_unit == "dB" else None,
        "at": at,
    }


def _released(made: StreamPlan, level: str, errors: Mapping[tuple[str, str], float]) -> list[dict[str, Any]]:
    planned = made.node(level)
    node = ordinary(made.stream, level)
    rows = []
    for one in planned.indicators if planned else ():
        name = one.indicator
        error_95 = NORMAL_95 * errors[level, name]
        sigma = one.sigma_milli / 1000 / divisor(node, name)
        shown = printed_name(node, name), unit(node, name)
        rows.append(_row(made, level, *shown, error_95, sigma=sigma, rho_micro=one.rho_micro))
        if name == "histogram":
            over = _held(made.stream, level, {made.stream.bounds[0]: 1.0}, errors[level, name]).share_over(LOUD_DB)
            if over is not None:
                rows.append(_row(made, level, SHARE_OVER, "1", NORMAL_95 * over.standard_error))
    return rows


def _held(stream: StreamPolicy, level: str, street: Levels, sigma_s: float) -> Histogram:
    node = ordinary(stream, level)
    seconds = [share * node.end_s for share in binned(street, histogram_edges_tenths(*stream.bounds))]
    return histogram(node, seconds, sigma_s, node.end_s, 0.0)


@dataclass(frozen=True, slots=True)
class _Told:
    """What can be told of a level on one node: its 95 % margin, infinite where it is no number, and what it is then at
    most or at least, in dB, where it lies in an end bin of the histogram."""

    margin: float
    at_most_db: float | None = None
    at_least_db: float | None = None


def _margins(
    stream: StreamPolicy, level: str, errors: Mapping[tuple[str, str], float]
) -> dict[str, Callable[[Levels, float], _Told]]:
    """Returns, by indicator that depends on the street, what can be told of it on a street with noise scaled so."""
    found: dict[str, Callable[[Levels, float], _Told]] = {}
    if (level, "histogram") in errors:
        for name, share in EXCEEDED.items():

            def exceeded(street: Levels, scale: float, share: float = share) -> _Told:
                held = _held(stream, level, street, scale * errors[level, "histogram"])
                read = held.exceeded(share)
                return _Told(margin(read.value, read.low, read.high), *held.bound(share))

            found[name] = exceeded
    if (level, "energy") in errors:
        found["laeq_db"] = lambda street, scale: _Told(
            _level_margin(mean_energy(street, *stream.clamp), scale * errors[level, "energy"])
        )
    return found


def _level_row(made: StreamPlan, level: str, indicator: str, at: str, told: Sequence[_Told]) -> dict[str, Any]:
    """The row of an indicator in dB that depends on the street: the margin on its median node, and a bound where that
    is what can be told of most nodes."""
    margins = [one.margin for one in told]
    bounds = [(one.at_most_db, one.at_least_db) for one in told]
    most = max(bounds, key=bounds.count)
    at_most_db, at_least_db = most if bounds.count(most) * 2 > len(bounds) else (None, None)
    return _row(made, level, indicator, "dB", _median(margins), at=at) | {
        "at_most_db": at_most_db,
        "at_least_db": at_least_db,
        "share_publishable": significant(sum(one <= WIDEST_MARGIN_DB for one in margins) / len(margins)),
    }


def _level_margin(energy: float, error: float) -> float:
    """Returns the 95 % margin in dB of the level of a mean energy."""
    read = equivalent(energy, error, energy - NORMAL_95 * error, energy + NORMAL_95 * error)
    return inf if read is None else margin(read.value, read.low, read.high)


def _on_street(made: StreamPlan, street: Street, errors: Mapping[tuple[str, str], float]) -> list[dict[str, Any]]:
    """Rows of what depends on the street: the margin on its median node of each level."""
    rows = []
    for node in made.nodes:
        levels = street.nodes(node.level)
        for name, of in _margins(made.stream, node.level, errors).items():
            rows.append(_level_row(made, node.level, name, street.name, [of(one, 1.0) for one in levels]))
    if _has_lden(errors):
        lden = _Told(_lden_margin(made, street, errors, 1))
        rows.append(_level_row(made, _ALL_PARTS, "lden_db", street.name, [lden]))
    return rows


def _median(margins: Sequence[float]) -> float:
    return sorted(margins)[len(margins) // 2]


def _monthly(made: StreamPlan, street: Street, errors: Mapping[tuple[str, str], float]) -> list[dict[str, Any]]:
    """Rows of thirty days' means of what is in dB: the longest nodes share no observation, so errors fall by a root."""
    rows = []
    levels = [node.level for node in made.nodes]
    for level in [level for level in levels if level in PARTS] or levels[-1:]:
        in_days = ORDINARY_QUARTERS[level] / ORDINARY_QUARTERS["1d"]
        count = MONTH_DAYS if level in PARTS else max(1, int(MONTH_DAYS / in_days))
        mixed = _mixed(street.nodes(level))
        for name, of in _margins(made.stream, level, errors).items():
            shown = "ln_db" if (level, name) == ("night", "laeq_db") else name
            rows.append(_level_row(made, level, shown, street.name, [of(mixed, 1 / sqrt(count))]))
    if _has_lden(errors):
        lden = _Told(_lden_margin(made, street, errors, MONTH_DAYS))
        rows.append(_level_row(made, _ALL_PARTS, "lden_db", street.name, [lden]))
    return [{"days": MONTH_DAYS} | {key: row[key] for key in _MONTHLY} for row in rows]


def _mixed(nodes: Sequence[Levels]) -> Levels:
    mixed: Levels = {}
    for node in nodes:
        for level, share in node.items():
            mixed[level] = mixed.get(level, 0.0) + share / len(nodes)
    return mixed


def _has_lden(errors: Mapping[tuple[str, str], float]) -> bool:
    return all((part, "energy") in errors for part in PARTS)


def _lden_margin(made: StreamPlan, street: Street, errors: Mapping[tuple[str, str], float], days: int) -> float:
    energy = sum(w * mean_energy(_mixed(street.nodes(part)), *made.stream.clamp) for part, w in _LDEN.items())
    error = sqrt(sum((weight * errors[part, "energy"]) ** 2 for part, weight in _LDEN.items()) / days)
    return _level_margin(energy, error)


def fit(policy: Policy, stream: StreamPolicy, street: Street) -> dict[str, Any] | None:
    """Returns how levels for `up_to_db` (air: `up_to`) fit a street, and which one is proposed; None for a stream whose
    figures no such level would change.

    Levels are tried in steps of 5 dB, for air 1, 2, 5, 10, 20, 50, ... Of each, `events` is the share of events of the
    protected length that touch a higher reading and so are left out of the promise (at most so many where
    `events_exact` is false), `louder` the share of readings that are higher. Proposed is the smallest step that leaves
    out at most LEFT_OUT_AT_MOST of events: the least noise among those that keep the promise to nearly all.
    `highest_publishable` is the highest step that keeps the margin in dB of the longest node (the median one) within
    3 dB, `of_policy` the level that the policy names.
    """
    names = [name for name, _ in stream.indicators]
    name = "energy" if "energy" in names else "mean" if "mean" in names else None
    if name is None:
        return None
    quantity = stream.quantity
    in_db, per_unit = quantity.kind == "level", quantity.per_unit
    suffix = "_db" if in_db else ""
    level = max((level for level, _ in stream.nodes), key=lambda level: ORDINARY_QUARTERS[level])
    whole = street.whole
    nodes = street.nodes(level)
    low, high = stream.bounds
    energies = (
        {clamp: [mean_energy(node, *clamp) for node in nodes] for clamp in ((low, high), (low, quantity.ceiling))}
        if name == "energy"
        else {}
    )

    def error_95(up_to: int | None) -> float:
        unit_of = replace(stream, up_to=up_to, cap=None)
        try:
            made = plan(replace(policy, streams=(unit_of,))).streams[stream.id]
        except ConfigError:  # a sum beyond 64 bits
            return inf
        error = standard_errors(made)[level, name]
        if name == "mean":
            return NORMAL_95 * error
        return _median([_level_margin(one, error) for one in energies[unit_of.clamp]])

    def step(up_to: int) -> dict[str, Any]:
        found = {
            f"up_to{suffix}": up_to // per_unit,
            "events": significant(street.left_out(up_to, stream.unit_readings)),
            "louder": significant(louder(whole, up_to)),
        }
        return found | _shown(error_95(up_to), in_db)

    def bias(*clamp: int) -> float:
        read = laeq_db if in_db else _mean
        return round((read(whole, *clamp) - read(whole)) / (1 if in_db else per_unit), 2)

    steps = [step(up_to) for up_to in _steps(stream, max(whole))]
    weights = dict(stream.indicators)
    return {
        "at": street.name,
        "node": level,
        "indicator": "laeq_db" if name == "energy" else quantity.printed,
        "unit": quantity.unit,
        "unit_readings": stream.unit_readings,
        "events_exact": street.events is not None,
        "share_of_budget": significant(float(weights[name] / sum(weights.values()))),
        "steps": steps,
        "proposed": next(one for one in steps if one["events"] <= LEFT_OUT_AT_MOST or one is steps[-1]),
        "highest_publishable": next((one for one in reversed(steps) if one["publishable"]), None),
        "of_policy": None if stream.up_to is None else step(stream.up_to),
        f"floor_bias{suffix}": bias(low),
        "clamped": {f"high{suffix}": high // per_unit, f"bias{suffix}": bias(low, high)}
        | _shown(error_95(None), in_db),
    }


def _steps(stream: StreamPolicy, highest: int) -> list[int]:
    """Returns the levels to try above the floor, in reading units, up to the first that nothing exceeds."""
    ceiling = stream.quantity.ceiling
    if stream.quantity.kind == "level":
        every = list(range(stream.bounds[0] // STEP_TENTHS * STEP_TENTHS + STEP_TENTHS, ceiling + 1, STEP_TENTHS))
    else:
        every = [digit * 10**power for power in range(1, 6) for digit in (1, 2, 5)]
    above = [level for level in every if stream.bounds[0] < level <= ceiling]
    return [level for level, below in zip(above, [0, *above], strict=False) if below < highest] or above[:1]


def _mean(levels: Levels, low: int = 0, high: int = 100_000) -> float:
    """Returns the mean of readings held between `low` and `high` first."""
    return sum(share * min(max(level, low), high) for level, share in levels.items())


def _shown(error_95: float, in_db: bool) -> dict[str, Any]:
    return {
        "error_95": significant(error_95) if isfinite(error_95) else None,
        "publishable": error_95 <= WIDEST_MARGIN_DB if in_db else None,
    }


def habit_rho_micro(made: StreamPlan, days: int) -> int:
    """Returns what one unit of privacy on each of so many days in a row costs, in the dearest alignment.

    Charges of different days add, but units in one weekly node are there at once: seven in one week cost it 49 times.
    """
    week = made.node("1w")
    if week is None:
        return days * made.rho_micro
    weeks, rest = divmod(days, 7)
    return days * (made.rho_micro - week.rho_micro) + (weeks * 49 + rest * rest) * week.rho_micro


def ladder(made: StreamPlan) -> list[dict[str, Any]]:
    """Returns the prices of habits: 1, 2, 4 and 10 units on each day of a day, a week, thirty days and a year."""
    return _ladder([made], made.stream.delta)


def site_ladder(made: Plan) -> list[dict[str, Any]]:
    """Returns the prices of habits of somebody who is in every stream of a site, so many units in each."""
    return _ladder([*made.streams.values()], max(stream.delta for stream in made.policy.streams))


def _ladder(streams: Sequence[StreamPlan], delta: Decimal) -> list[dict[str, Any]]:
    rungs = [
        rung
        for span, days in accountant.SPAN_DAYS.items()
        for rung in accountant.ladder(sum(habit_rho_micro(made, days) for made in streams), delta, span_days={span: 1})
    ]
    return [
        {
            "units": rung.units,
            "span": rung.span,
            "epsilon": float(rung.epsilon),
            "odds": None if rung.odds is None else float(rung.odds),
        }
        for rung in rungs
    ]


def _cap(made: StreamPlan) -> dict[str, Any] | None:
    cap, limit = made.stream.cap, made.cap_rho_micro
    if cap is None or limit is None:
        return None
    return {
        "units_per_day": cap.units_per_day,
        "span": cap.span,
        "epsilon": float(cap.epsilon),
        "rho_micro": limit,
        "days": cap_days(made),
    }


def cap_days(made: StreamPlan) -> int | None:
    """Returns how many days fit under a stream's cap within its span, None without a cap."""
    cap, limit = made.stream.cap, made.cap_rho_micro
    if cap is None or limit is None:
        return None
    return min(cap.days, limit // (cap.units_per_day**2 * made.rho_micro))


def warnings(policy: Policy, made: Plan, today: date) -> list[Both]:
    """Returns what a steward should know before anybody signs, each in both languages."""
    found = dates(policy, today)
    largest = largest_message(made)
    if largest > MESSAGE_LIMIT:
        found.append(_warned("largest", largest=largest, limit=MESSAGE_LIMIT))
    if policy.paused:
        found.append(_warned("paused"))
    validity = (policy.valid_until - policy.valid_from).days + 1
    for stream in made.streams.values():
        name, cap = stream.stream.id, stream.stream.cap
        if stream.stream.paused:
            found.append(_warned("stream_paused", stream=name))
        holds = (_cap(stream) or {}).get("days", 0)
        if cap is not None and holds < cap.days:
            key = "cap" if holds < validity else "cap_after"
            found.append(_warned(key, stream=name, holds=holds, days=cap.days, validity=validity))
        if cap is not None and stream.node("1w") is not None:
            habit = habit_rho_micro(stream, cap.days) * cap.units_per_day**2
            epsilon = accountant.epsilon(Decimal(habit) / accountant.MICRO, stream.stream.delta)
            found.append(_warned("cap_week", stream=name, span=cap.span, epsilon=f"{epsilon:.3g}"))
        if stream.stream.up_to is not None and all(name == "histogram" for name, _ in stream.stream.indicators):
            found.append(_warned("up_to", stream=name))
    return found


@dataclass(frozen=True, slots=True)
class Target:
    """The 95 % margin that a steward wants at a node instead of an epsilon, and the epsilon it takes."""

    node: str
    error_95: float
    epsilon: Decimal

    @property
    def line(self) -> str:
        """Returns the line to write in its place."""
        return f"epsilon = {_plain(self.epsilon)}"


def read(data: bytes, source: str) -> tuple[Policy, dict[str, Target]]:
    """Returns the policy in a file, and by stream the targets it held, solved: the policy is the one with those lines
    written as `epsilon`. Raises ConfigError naming file, key and the mend.
    """
    try:
        text = data.decode()
        table = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError):
        return parse(data, source), {}  # which says what is wrong
    entries = table.get("stream")
    wanted = [one for one in entries if isinstance(one, dict) and "target" in one] if isinstance(entries, list) else []
    if not wanted:
        return parse(data, source), {}
    for entry in wanted:
        if "epsilon" in entry:
            raise ConfigError(source, f"{_where(entry)}target", "stands beside epsilon", "leave one of the two out")
    draft = parse(_written(text, table, [Decimal(1)] * len(wanted), source), source)
    solved = {str(entry["id"]): _solved(draft, entry, source) for entry in wanted}
    final = _written(text, table, [target.epsilon for target in solved.values()], source)
    return parse(final, source), solved


def _where(entry: Mapping[str, Any]) -> str:
    name = entry.get("id")
    return f"stream {name if isinstance(name, str) and name.isprintable() else '?'}: "


def _written(text: str, table: Mapping[str, Any], epsilons: Sequence[Decimal], source: str) -> bytes:
    """Returns the file with an epsilon in the place of each target, and makes sure that nothing else has changed."""
    left = iter(epsilons)
    filled = _TARGET.sub(lambda found: f"{found[1]}epsilon = {_plain(next(left, Decimal(1)))}", text)
    left = iter(epsilons)
    meant = [
        {key: value for key, value in entry.items() if key != "target"} | {"epsilon": next(left)}
        if isinstance(entry, dict) and "target" in entry
        else entry
        for entry in table["stream"]
    ]
    if tomllib.loads(filled, parse_float=Decimal) != {**table, "stream": meant}:
        raise ConfigError(
            source, "target", "does not stand on a line of its own", 'write target = { node = "1h", error_95 = 15 }'
        )
    return filled.encode()


def _solved(draft: Policy, entry: Mapping[str, Any], source: str) -> Target:
    stream = draft.stream(entry["id"])
    key, target = f"{_where(entry)}target", entry["target"]
    mend = 'write target = { node = "1h", error_95 = 15 }'
    if stream is None or not isinstance(target, dict) or set(target) != {"node", "error_95"}:
        raise ConfigError(source, key, "is not a node and an error_95", mend)
    names = [level for level, _ in stream.nodes]
    if target["node"] not in names:
        raise ConfigError(source, f"{key}.node", "is no node of the stream", f"write one of {', '.join(names)}")
    most = target["error_95"]
    if isinstance(most, bool) or not isinstance(most, (int, Decimal)) or not Decimal(most).is_finite() or most <= 0:
        raise ConfigError(source, f"{key}.error_95", "is no positive number", mend)
    wanted = float(most)
    indicators = [name for name, _ in stream.indicators]
    indicator = "mean" if "mean" in indicators else indicators[0]
    if indicator not in ("mean", "crossings"):
        raise ConfigError(source, key, "levels have an error of their own only as means", "give indicators a mean")

    def error_95(epsilon: Decimal) -> float:
        trial = replace(draft, streams=(replace(stream, epsilon=epsilon, cap=None),))
        made = plan(trial, source).streams[stream.id]
        return NORMAL_95 * standard_errors(made)[target["node"], indicator]

    if error_95(Decimal(LARGEST_EPSILON)) > wanted:
        raise ConfigError(
            source, f"{key}.error_95", f"{most} takes an epsilon above {LARGEST_EPSILON}", "ask for a larger error"
        )

    def fits(epsilon: Decimal) -> bool:
        try:
            return error_95(epsilon) <= wanted
        except ConfigError:  # less budget than can be shared out
            return False

    low, high = 0, GRID - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(three_digits(middle)) else (middle + 1, high)
    return Target(target["node"], wanted, three_digits(low))


def three_digits(number: int) -> Decimal:
    """Returns the decimals of three digits in order, GRID of them from 0.0001 to 100."""
    power, mantissa = divmod(number, 900)
    return Decimal(100 + mantissa).scaleb(power - 6)


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"
