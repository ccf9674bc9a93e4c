"""From a policy to noise scales: which nodes are released, with what sigma, at what cost.

Shares follow the closed form of privacy.md 2.3: for nested levels of L_1 < L_2 < ... leaves with weights w on the mean
squared error of the printed figure, share_i is proportional to (sqrt(lambda_i) - sqrt(lambda_{i-1})) / L_i, where
lambda_i sums w_j L_j^2 for counts and w_j for means. For aligned nodes no unbiased linear Gaussian mechanism has a
smaller weighted error. All arithmetic is exact: roots are integer roots of scaled integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import isqrt

from murmure_privacy import accountant
from murmure_privacy.aggregate import energy
from murmure_privacy.errors import ConfigError
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.stream import histogram_edges_tenths
from murmure_privacy.window import SHARE_QUARTERS, Calendar, calendar
from murmure_privacy.wire import SIGMA_LIMIT

_ROOT_SCALE = 10**40
# With the two hours by which Troll in Antarctica puts its clocks back; one hour elsewhere.
_LONGEST_HOURS = {"1w": 170}
_LONGEST_DAY_HOURS = 26
VALUE_LIMIT = 1 << 61  # of an exact sum: far enough from the end of 64 bits for any planned noise


@dataclass(frozen=True, slots=True)
class IndicatorPlan:
    """`width` released integers, noise of `sigma_milli` thousandths on each, costing `rho_micro` together for one
    protected unit that changes them by at most the square root of `sensitivity_sq` in L2."""

    indicator: str
    width: int
    sensitivity_sq: int
    sigma_milli: int
    rho_micro: int


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One level of one stream."""

    level: str
    indicators: tuple[IndicatorPlan, ...]

    @property
    def rho_micro(self) -> int:
        """Returns what one node of this level charges."""
        return sum(indicator.rho_micro for indicator in self.indicators)


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """One stream. `rho_micro` is the policy's budget for one protected unit; its nodes never charge more together.
    `cap_rho_micro`: what the units of the policy's cap may cost over its span, None without one."""

    stream: StreamPolicy
    rho_micro: int
    cap_rho_micro: int | None
    nodes: tuple[NodePlan, ...]

    def node(self, level: str) -> NodePlan | None:
        """Returns the plan of a level, or None where the policy has no such node."""
        return next((node for node in self.nodes if node.level == level), None)


@dataclass(frozen=True, slots=True)
class Plan:
    """All streams of a policy."""

    policy: Policy
    calendar: Calendar
    streams: dict[str, StreamPlan]


def shares(nodes: tuple[tuple[str, Decimal], ...], counts: bool) -> dict[str, Fraction]:
    """Returns each level's share of the budget. `counts`: weights act on sums, else on means.

    The shares of the levels that contain one instant sum to one: the parts of a day have one share together, which each
    of them has whole.
    """
    levels: dict[int, Fraction] = {}
    for level, weight in nodes:
        levels[SHARE_QUARTERS[level]] = levels.get(SHARE_QUARTERS[level], Fraction(0)) + Fraction(weight)
    total = Fraction(0)
    previous = Fraction(0)
    raw: dict[int, Fraction] = {}
    for length, together in sorted(levels.items()):
        total += together * (length**2 if counts else 1)
        root = Fraction(isqrt(total.numerator * _ROOT_SCALE // total.denominator), isqrt(_ROOT_SCALE))
        raw[length] = (root - previous) / length
        previous = root
    whole = sum(raw.values())
    return {level: raw[SHARE_QUARTERS[level]] / whole for level, _ in nodes}


@lru_cache(maxsize=1024)  # a town writes the same few streams into thousands of policies
def _budgets(
    rho_micro: int, nodes: tuple[tuple[str, Decimal], ...], counts: bool, indicators: tuple[tuple[str, Decimal], ...]
) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
    """Returns for each level, in order, what each indicator of a node may cost, in micro-rho, rounded down."""
    weights = sum(Fraction(weight) for _, weight in indicators)
    return tuple(
        (level, tuple((name, int(rho_micro * part * Fraction(weight) / weights)) for name, weight in indicators))
        for level, part in shares(nodes, counts).items()
    )


@lru_cache(maxsize=4096)
def _noise(squared: int, micro: int) -> tuple[int, int]:
    """Returns the sigma, in thousandths, whose charge fits, and that charge."""
    sigma = accountant.sigma_milli(squared, micro)
    return sigma, accountant.charge_micro(squared, sigma)


def sensitivity_sq(stream: StreamPolicy, indicator: str) -> int:
    """Returns the squared L2 sensitivity, in squared released integers, of one protected unit.

    n readings change: each moves a sum by at most the distance from the floor to the highest reading that the unit can
    bring (`up_to`, or the upper bound, to which readings are then clamped), an energy sum by the difference of their
    energies, and a histogram by one down and one up (sqrt(2) n when they share two bins). A unit split over two nodes
    of a level costs less, since a^2 + b^2 <= (a + b)^2. Proof: docs/sensitivity.md.
    """
    n = stream.unit_readings
    low, high = stream.bounds[0], stream.highest
    if indicator == "crossings":
        return n * n
    if indicator == "histogram":
        return 2 * n * n
    step = energy(high) - energy(low) if indicator == "energy" else high - low
    return (n * step) ** 2


def _largest(stream: StreamPolicy, indicator: str, level: str) -> int:
    """Returns the largest sum that the longest node of a level can have: no value may stop a release. Without an upper
    clamp the sum itself stops at VALUE_LIMIT."""
    slots = _LONGEST_HOURS.get(level, _LONGEST_DAY_HOURS) * 3_600_000 // stream.cadence_ms
    return slots * (energy(stream.bounds[1]) if indicator == "energy" else stream.bounds[1])


def _node(source: str, stream: StreamPolicy, level: str, budgets: tuple[tuple[str, int], ...]) -> NodePlan:
    indicators = []
    for name, micro in budgets:
        if micro < 1:
            raise ConfigError(
                source,
                f"stream {stream.id}: nodes.{level}",
                f"{name} gets less than a micro-rho",
                "raise its weight, or epsilon",
            )
        squared = sensitivity_sq(stream, name)
        sigma, charge = _noise(squared, micro)
        suffix = "_db" if stream.quantity.kind == "level" else ""
        if _largest(stream, name, level) > VALUE_LIMIT:
            raise ConfigError(
                source,
                f"stream {stream.id}: bounds{suffix}",
                f"the sum of {name} would not fit 64 bits",
                "lower the upper bound",
            )
        if sigma > SIGMA_LIMIT:
            # The noise is as large as the highest reading that is protected, which is one bound or the other.
            key = f"bounds{suffix}" if stream.up_to is None else f"protects.up_to{suffix}"
            raise ConfigError(
                source,
                f"stream {stream.id}: {key}",
                f"the noise on {name} would not fit 64 bits",
                f"lower {'the upper bound' if stream.up_to is None else 'it'}, or protect fewer seconds",
            )
        width = len(histogram_edges_tenths(*stream.bounds)) - 1 if name == "histogram" else 1
        indicators.append(IndicatorPlan(name, width, squared, sigma, charge))
    return NodePlan(level, tuple(indicators))


def _cap(source: str, stream: StreamPolicy, budget: int) -> int | None:
    if stream.cap is None:
        return None
    limit = accountant.rho_micro(stream.cap.epsilon, stream.delta)
    if limit < stream.cap.units_per_day**2 * budget:
        raise ConfigError(
            source, f"stream {stream.id}: cap.epsilon", "no day fits: nothing would be published", "raise it"
        )
    return limit


def plan(policy: Policy, source: str = "policy") -> Plan:
    """Returns the noise scales of a policy: the same integers on every machine. `source` names the file in errors.

    Raises ConfigError if a weight leaves a node without budget or if bounds make sums too large for 64 bits.
    """
    streams = {}
    for stream in policy.streams:
        budget = accountant.rho_micro(stream.epsilon, stream.delta)
        levels = _budgets(budget, stream.nodes, stream.quantity.kind == "count", stream.indicators)
        nodes = tuple(_node(source, stream, level, budgets) for level, budgets in levels)
        streams[stream.id] = StreamPlan(stream, budget, _cap(source, stream, budget), nodes)
    return Plan(policy, calendar(policy.timezone), streams)
