"""The real kernel, often: policy -> plan -> OpenWindows -> OpenDP -> estimate, with as many draws as are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from murmure_privacy.aggregate import Aggregate
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import IndicatorPlan, Plan, StreamPlan, plan
from murmure_privacy.policy import parse
from murmure_privacy.release import Noised, Release
from murmure_privacy.window import Window
from murmure_privacy.windowing import OpenWindows

from .recorded import Readings

EPSILONS = ("0.1", "0.25", "0.5", "1", "2")
DELTA = "1e-6"
STREAM = "here/stream"
_DRAWN_AT_ONCE = 1 << 16

FOOTFALL = """quantity = "footfall"
protects = {{ crossings = {crossings} }}
nodes = {nodes}"""
NOISE = """quantity = "noise"
protects = {{ seconds = 15{up_to} }}
readings = {{ cadence_ms = 1000, tail = 11 }}
nodes = {nodes}
indicators = {indicators}
bounds_db = {bounds}"""
AIR = """quantity = "pm2_5"
protects = {{ seconds = 60{up_to} }}
readings = {{ cadence_ms = {cadence_ms}, tail = {tail} }}
nodes = {nodes}
bounds = {bounds}"""


def planned(stream: str, epsilon: str, timezone: str) -> Plan:
    """Returns the plan of a policy with one stream, given as the TOML of that stream without id and epsilon."""
    text = f"""policy = 1
site = "here"
version = 1
timezone = "{timezone}"
decision = "none"
reason = "benchmark"
valid_from = 2026-01-01
valid_until = 2026-12-31
[[stream]]
id = "{STREAM}"
epsilon = {epsilon}
{stream}
"""
    return plan(parse(text.encode(), "utility"), "utility")


@dataclass(frozen=True, slots=True)
class Span:
    """The exact aggregates of one whole day or week."""

    window: Window
    aggregates: tuple[Aggregate, ...]


def observed(made: Plan, readings: Readings, wanted: Sequence[Window]) -> list[Span]:
    """Returns the aggregates of the wanted periods, in order and whole, as the gateway's windows close them."""
    found: list[Span] = []
    at = 0
    windows: OpenWindows | None = None
    for window in wanted:
        if windows is None or windows.opened_s > window.start_s or found[-1].window.end_s != window.start_s:
            windows = OpenWindows(made, window.start_s)  # a gap between wanted periods is a gateway switched off
        first = at
        while first < len(readings) and readings[first][0] < window.start_s * 1000:
            first += 1
        at = first
        while at < len(readings) and readings[at][0] < window.end_s * 1000:
            at += 1
        windows.add(STREAM, readings[first:at])
        closed = windows.close_due(window.end_s)
        found.append(Span(window, tuple(aggregate for _, members in closed for aggregate in members)))
    return found


def releases(
    spans: Sequence[Span],
    stream: StreamPlan,
    mechanism: DiscreteGaussian,
    repeats: int,
    only: Sequence[str] | None = None,
) -> Iterator[list[Release]]:
    """Yields, for each span and repeat, its released nodes with fresh noise. `only`: the indicators wanted.

    Noise is drawn from OpenDP many numbers at a time, with the sigma of the plan: for one stream of all spans and
    repeats, nodes of a level and an indicator share one vector measurement.
    """
    drawn: dict[tuple[str, str], Iterator[int]] = {}
    for node in stream.nodes:
        for planned_indicator in node.indicators:
            name = planned_indicator.indicator
            exact = [
                value
                for span in spans
                for _ in range(repeats)
                for aggregate in span.aggregates
                if aggregate.node.level == node.level and (only is None or name in only)
                for value in aggregate.sums[name]
            ]
            drawn[node.level, name] = iter(draw(exact, planned_indicator, mechanism))
    for span in spans:
        for _ in range(repeats):
            yield [_release(aggregate, stream, drawn, only) for aggregate in span.aggregates]


def draw(exact: Sequence[int], indicator: IndicatorPlan, mechanism: DiscreteGaussian) -> list[int]:
    """Returns the integers with noise of the indicator's sigma on each; OpenDP draws a vector faster than its parts."""
    found: list[int] = []
    for at in range(0, len(exact), _DRAWN_AT_ONCE):
        part = tuple(exact[at : at + _DRAWN_AT_ONCE])
        found.extend(mechanism.draw(part, replace(indicator, width=len(part))))
    return found


def _release(
    aggregate: Aggregate,
    stream: StreamPlan,
    drawn: Mapping[tuple[str, str], Iterator[int]],
    only: Sequence[str] | None,
) -> Release:
    level = stream.node(aggregate.node.level)
    assert level is not None
    noised = tuple(
        Noised(
            indicator.indicator,
            tuple(next(drawn[level.level, indicator.indicator]) for _ in range(indicator.width)),
            indicator.sigma_milli,
            indicator.rho_micro,
        )
        for indicator in level.indicators
        if only is None or indicator.indicator in only
    )
    return Release(aggregate.node, noised)


def blank(span: Span, stream: StreamPlan) -> list[Release]:
    """Returns the nodes of a span released as zeros: standard errors depend on nothing that is in them."""
    zeros = {(node.level, one.indicator): iter(lambda: 0, 1) for node in stream.nodes for one in node.indicators}
    return [_release(aggregate, stream, zeros, None) for aggregate in span.aggregates]
