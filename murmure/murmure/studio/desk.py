"""Answers to what the form asks: the previews of three policies, and what five draws of each make of one week."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from murmure_privacy import accountant, recording, street
from murmure_privacy.aggregate import Aggregate
from murmure_privacy.errors import ConfigError
from murmure_privacy.gate import Mechanism
from murmure_privacy.levels import NORMAL_95
from murmure_privacy.plan import Plan, StreamPlan, plan
from murmure_privacy.policy import Policy, StreamPolicy, parse
from murmure_privacy.preview import sheet, site_price, standard_errors
from murmure_privacy.recording import Recording
from murmure_privacy.release import Outcome
from murmure_privacy.street import Street
from murmure_privacy.window import QUARTER_S

from murmure.studio import answers, week
from murmure.studio.answers import Message, Month, Point
from murmure.studio.form import DETAIL, LETTERS, Asked, Form, Scenario, Unmet, read_form, scenario, usual_level
from murmure.studio.week import Week

DRAWS = 5
_KEPT = 60  # results of each kind: some twenty addresses
# Which described street of the preview a made-up week is like.
_LIKE = {"animee": "busy street", "calme": "quiet street"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One scenario and all that is said of it. `sheet`: its stream in the JSON of `policy preview`, and `site`: its
    site. `right`: how often, 0 to 1 at most, somebody guesses right who had no idea before. `draws`: the figures of
    each draw, `outcomes` those of the first as they left the gate. What depends on a figure of its own is None where
    the policy has none. `margins`: by level, the 95 % margin of that figure."""

    scenario: Scenario
    made: StreamPlan
    sheet: Mapping[str, Any]
    site: Mapping[str, Any]
    right: Decimal
    passed: Decimal
    margins: Mapping[str, float]
    draws: tuple[tuple[Point, ...], ...]
    outcomes: tuple[Outcome, ...]
    message: Message | None
    counted: tuple[Message, ...]
    swapped: tuple[float, int] | None
    swapped_in: tuple[int, ...]
    wrong_order: float | None
    months: tuple[Month, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """The answer to one question. `points` and `days`: the exact figures of the week, of the intervals of which a page
    tells and of its days; `usual`: what is counted in a quarter-hour of it; `like`: the street of the preview that is
    like it. `slider`: for each position the margin at each level, at the epsilon or the margin of scenario B; `shares`:
    what each level then gets of the budget. `beside`: of each other stream of the site, the margin at the level that is
    told first, as the policy has it that the studio begins with; None where it depends on the street."""

    asked: Asked
    week: Week
    like: str
    threshold: Decimal
    usual: float
    points: tuple[Point, ...]
    days: tuple[Point, ...]
    shown: tuple[Shown, ...]
    slider: tuple[tuple[int, Mapping[str, float]], ...]
    shares: Mapping[str, float]
    beside: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A setting that somebody published, with its source; `read`: when, `review`: when it has to be read again."""

    id: str
    year: int
    epsilon: float
    source: str
    address: str
    read: date
    review: date


def deployments() -> list[Deployment]:
    """Returns the settings in deployments.toml."""
    text = resources.files("murmure.studio").joinpath("deployments.toml").read_text("utf-8")
    return [Deployment(**entry) for entry in tomllib.loads(text)["deployment"]]


class Desk:
    """What one studio knows: the policy it begins with, and public recordings by stream. One question at a time; what
    was computed or drawn is kept for the next address that needs it."""

    def __init__(
        self,
        base: Policy,
        version: int,
        readings: Mapping[str, Recording],
        mechanism: Mechanism,
    ) -> None:
        self.base, self.version, self.readings = base, version, readings
        self._mechanism = mechanism
        self.planned = plan(base)
        self._calendar = self.planned.calendar
        self.monday_s = week.monday_from(self._calendar, self._calendar.midnight(base.valid_from))
        self.streets = {
            one.id: ((week.RECORDED,) if one.id in readings else ()) + week.INVENTED for one in base.streams
        }
        self._known: dict[tuple[Hashable, ...], Any] = {}
        self._lock = threading.Lock()

    def form(self, query: Mapping[str, str]) -> Form[Asked]:
        """Returns the form of an address."""
        return read_form(query, self.base, self.streets, self.version)

    def look(self, asked: Asked) -> Look:
        """Returns the answer to a question. Raises Unmet for a scenario that makes no policy."""
        with self._lock:
            found: Look = self._kept(("look", asked), lambda: self._look(asked))
            return found

    def proposal(self, asked: Asked, letter: str) -> Policy:
        """Returns the policy of a scenario. Raises Unmet."""
        return scenario(asked, self.base, letter).policy

    def _look(self, asked: Asked) -> Look:
        scenarios = [scenario(asked, self.base, letter) for letter in LETTERS]
        plans = [plan(one.policy) for one in scenarios]
        stream_id = asked.stream.id
        made = plans[0].streams[stream_id]
        tried = self._week(asked)
        aggregates = self._closed(tried, plans[0], stream_id)
        indicator = answers.own_indicator(made)
        level, day_level = answers.told_level(made, asked.node), answers.day_level(made)
        points = answers.exact(aggregates, [level], indicator) if indicator else []
        finest = answers.exact(aggregates, [made.nodes[0].level], indicator) if indicator else []
        days = answers.exact(aggregates, [day_level], indicator) if indicator and day_level else []
        limit = asked.threshold or (answers.threshold(points) if points else Decimal(0))
        shown = [
            self._shown(asked, one, made, aggregates, points, days, float(limit))
            for one, made in zip(scenarios, plans, strict=True)
        ]
        middle = plan(scenarios[1].policy).streams[stream_id]
        return Look(
            asked=asked,
            week=tried,
            like=tried.rows.site if tried.name == week.RECORDED else _LIKE[tried.name],
            threshold=limit,
            usual=sum(point.value for point in finest) / max(1, sum(p.end_s - p.start_s for p in finest) / QUARTER_S),
            points=tuple(points),
            days=tuple(days),
            shown=tuple(shown),
            slider=tuple(self._slider(asked, indicator)) if indicator else (),
            shares={node.level: node.rho_micro / middle.rho_micro for node in middle.nodes},
            beside={
                name: self._kept(("margin", name), partial(_margin, made)) for name, made in self._others(stream_id)
            },
        )

    def _others(self, stream_id: str) -> list[tuple[str, StreamPlan]]:
        return [(name, made) for name, made in self.planned.streams.items() if name != stream_id]

    def _shown(
        self,
        asked: Asked,
        one: Scenario,
        planned: Plan,
        aggregates: Sequence[Aggregate],
        points: Sequence[Point],
        days: Sequence[Point],
        limit: float,
    ) -> Shown:
        made = planned.streams[asked.stream.id]
        indicator = answers.own_indicator(made)
        streets = self.previewed_on(one.policy)
        told = self._kept(("sheet", made.stream.id, one.policy.text), lambda: sheet(one.policy, made, streets))
        span = "1w" if asked.who == "semaine" else "1d"
        rung = next(rung for rung in told["ladder"] if rung["span"] == span and rung["units"] == 1)
        site = site_price(planned)
        delta = Decimal(str(site["delta"]))
        outcomes = self._draws(asked, planned, aggregates)
        levels = sorted({point.level for point in (*points, *days)})
        draws = [answers.published(each, made, one.policy.timezone, levels) if indicator else [] for each in outcomes]
        errors = {level: e for (level, name), e in standard_errors(made).items() if name == indicator}
        apart = answers.apart_error(made, days[0].level, indicator) if days and indicator else None
        cap = told["cap"]
        head = one.policy
        return Shown(
            scenario=one,
            made=made,
            sheet=told,
            site=site,
            right=accountant.right_guesses(Decimal(str(rung["epsilon"])), made.stream.delta),
            passed=accountant.epsilon(Decimal(site["rho_micro"] * asked.places) / accountant.MICRO, delta),
            margins={level: NORMAL_95 * error for level, error in errors.items()},
            draws=tuple(tuple(each) for each in draws),
            outcomes=tuple(outcomes[0]),
            message=answers.expected(points, errors, limit) if points else None,
            counted=tuple(answers.counted(points, each, limit) for each in draws) if points else (),
            swapped=answers.swapped(days, apart) if apart else None,
            swapped_in=tuple(answers.swapped_in(days, each) for each in draws) if apart else (),
            wrong_order=answers.wrong_order(days, apart, made.stream.quantity.kind) if apart else None,
            months=tuple(
                answers.calendar_of(cap["days"], made.stream.cap.days, head.valid_from, head.valid_until)
                if cap and made.stream.cap
                else ()
            ),
        )

    def _slider(self, asked: Asked, indicator: str) -> list[tuple[int, Mapping[str, float]]]:
        found: list[tuple[int, Mapping[str, float]]] = []
        for detail in DETAIL:
            try:
                policy = scenario(asked, self.base, "b", detail).policy
            except Unmet:  # a margin that this position cannot reach
                continue
            errors = standard_errors(plan(policy).streams[asked.stream.id])
            found.append((detail, {node: NORMAL_95 * e for (node, name), e in errors.items() if name == indicator}))
        return found

    def previewed_on(self, policy: Policy) -> list[Street]:
        """Returns the streets on which a preview is made, as `policy preview` chooses them."""
        loud = [one for one in policy.streams if one.quantity.kind != "count" and one.id in self.readings]
        return [self._street(one, policy.timezone) for one in loud] or street.described()

    def _street(self, stream: StreamPolicy, timezone: str) -> Street:
        key = ("street", stream.id, stream.unit_readings, stream.cadence_ms)
        found: Street = self._kept(key, lambda: street.recorded(self.readings[stream.id], stream, timezone))
        return found

    def _week(self, asked: Asked) -> Week:
        rows = self.readings.get(asked.stream.id)

        def made() -> Week:
            if asked.street == week.RECORDED and rows is not None:
                return week.recorded(rows, self._calendar, self.monday_s)
            return week.invented(asked.street, asked.stream, self._calendar, self.monday_s)

        found: Week = self._kept(("week", asked.stream.id, asked.street), made)
        return found

    def _closed(self, tried: Week, planned: Plan, stream_id: str) -> list[Aggregate]:
        """Budget, cap and weights change no exact node."""
        measured = _measured(planned.streams[stream_id].stream)
        key = ("closed", tried.name, measured)
        found: list[Aggregate] = self._kept(key, lambda: week.closed(tried, planned, stream_id))
        return found

    def _draws(self, asked: Asked, planned: Plan, aggregates: Sequence[Aggregate]) -> list[list[Outcome]]:
        opened = week.under(aggregates, planned)
        key = ("draws", asked.stream.id, asked.street, planned.policy.text)

        def made() -> list[list[Outcome]]:
            noise = week.Ahead(self._mechanism)
            return [week.drawn(opened, planned, noise) for _ in range(DRAWS)]

        found: list[list[Outcome]] = self._kept(key, made)
        return found

    def _kept(self, key: tuple[Hashable, ...], make: Callable[[], Any]) -> Any:
        if key not in self._known:
            of_kind = [known for known in self._known if known[0] == key[0]]
            for old in of_kind[: max(0, len(of_kind) - _KEPT + 1)]:
                del self._known[old]
            self._known[key] = make()
        return self._known[key]


def _margin(made: StreamPlan) -> float | None:
    error = standard_errors(made).get((usual_level(made.stream), answers.own_indicator(made) or ""))
    return None if error is None else NORMAL_95 * error


def _measured(stream: StreamPolicy) -> StreamPolicy:
    one = Decimal(1)
    return replace(
        stream,
        epsilon=one,
        delta=one,
        protects=(stream.protects[0], 1),
        nodes=tuple((level, one) for level, _ in stream.nodes),
        indicators=tuple((name, one) for name, _ in stream.indicators),
        up_to=None if stream.up_to is None else 1,  # whether there is an upper clamp, not where the promise ends
        cap=None,
    )


def begin(policy_file: Path | None, readings: Path | None, site: str | None, mechanism: Mechanism) -> Desk:
    """Returns a desk that begins with a policy in a file, or with the streams of base.toml, and with a recording's
    series for those streams that it has something for. Raises ConfigError."""
    if policy_file is None:
        base, version = parse(resources.files("murmure.studio").joinpath("base.toml").read_bytes(), "base.toml"), 1
    else:
        try:
            data = policy_file.read_bytes()
        except OSError as error:
            mend = "give a readable policy"
            raise ConfigError(str(policy_file), "file", error.strerror or str(error), mend) from error
        base = parse(data, str(policy_file))
        plan(base, str(policy_file))
        version = base.version + 1
    found: dict[str, Recording] = {}
    nothing: recording.NoMetric | None = None
    if readings is not None:
        for stream in base.streams:
            try:
                found[stream.id] = recording.read(readings, stream, site, None)
            except recording.NoMetric as error:  # a recording of noise has nothing for the air, and need not
                nothing = error
    elif site is not None:
        raise ConfigError("policy studio", "--site", "without --readings", "name the recording too")
    if nothing is not None and not found:
        raise nothing
    desk = Desk(base, version, found, mechanism)
    for rows in found.values():
        week.recorded(rows, desk.planned.calendar, desk.monday_s)  # says now what is wrong with it, not on the page
    return desk
