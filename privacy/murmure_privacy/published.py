"""The printed form of a node (contract 5): what `tail --json`, `edge replay` and the open data show.

A pure function of the released integers; nothing here has seen an exact value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from murmure_privacy.aggregate import energy
from murmure_privacy.levels import EXCEEDED, LOUD_DB, NORMAL_95, SHARE_OVER, Estimate, Histogram, equivalent
from murmure_privacy.policy import StreamPolicy
from murmure_privacy.release import Message, Node, Noised, Outcome, Release
from murmure_privacy.stream import QUANTITIES, histogram_edges_tenths
from murmure_privacy.window import utc


def printed_name(node: Node, indicator: str) -> str:
    """Returns the key under which an indicator stands in `values`."""
    return {"histogram": "histogram_s", "energy": "energy_mean"}.get(indicator, QUANTITIES[node.quantity].printed)


def divisor(node: Node, indicator: str) -> float:
    """Returns what a released integer is divided by to give the printed figure; public, never data."""
    if indicator == "histogram":
        return 1000 / node.cadence_ms
    if indicator == "energy":
        return node.slots
    if indicator == "mean":
        return node.slots * QUANTITIES[node.quantity].per_unit
    return 1


def unit(node: Node, indicator: str) -> str:
    """Returns the unit of the printed figure."""
    return {"histogram": "s", "energy": "1"}.get(indicator, QUANTITIES[node.quantity].unit)


def number(value: float | None) -> str:
    """Returns a number as open data and mirrors hold it: six decimals at most, no exponent, empty for none."""
    if value is None:
        return ""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def protects(part: StreamPolicy) -> str:
    """Returns the unit of privacy of a stream, in the words of the open data's column."""
    kind, size = part.protects
    quantity = part.quantity
    up_to = "" if part.up_to is None else f" up to {part.up_to // quantity.per_unit} {quantity.unit}"
    return f"{size} {kind}{up_to}"


def printed_values(node: Node, noised: Noised) -> list[float]:
    """Returns the released figures of one indicator in printed units; counts stay whole numbers."""
    by = divisor(node, noised.indicator)
    if by == 1:
        return list(noised.integers)
    return [round(value / by, 6) for value in noised.integers]


def filling(node: Node, indicator: str) -> tuple[float | None, float, float]:
    """Returns, in printed units, what a slot without a reading counts as, and how far below and above it the reading
    may have been: (None, 0, 0) for counts, since nothing bounds who passed.

    The bounds are those of the histogram. Where the policy protects up to a level, mean and energy have no upper clamp;
    what a silent slot may have hidden is said as if they had.
    """
    low, high = node.bounds
    middle, per_unit = (low + high) // 2, QUANTITIES[node.quantity].per_unit
    if indicator == "energy":
        floor = energy(low)
        return float(floor), 0.0, float(energy(high) - floor)
    if indicator == "crossings":
        return None, 0.0, 0.0
    return middle / per_unit, (middle - low) / per_unit, (high - middle) / per_unit


def histogram(node: Node, seconds: Sequence[float], sigma_s: float, covered_s: float, silent_s: float) -> Histogram:
    """Returns the histogram of a node, or of a part of it that is `covered_s` long, with what is public about it."""
    low, high = node.bounds
    edges = [edge / 10 for edge in histogram_edges_tenths(low, high)]
    return Histogram(seconds, sigma_s, edges, covered_s, silent_s, (low + high) // 2 / 10)


def _derived(node: Node, noised: Sequence[Noised]) -> dict[str, float | None]:
    """What follows from one node's own release. A level whose 95 % margin is above 3 dB is None, and so is the LAeq of
    an energy that noise made negative."""
    derived: dict[str, float | None] = {}
    covered_s = node.end_s - node.covered_from_s
    silent = (20 - node.present) / 20
    for one in noised:
        by = divisor(node, one.indicator)
        sigma = one.sigma_milli / 1000 / by
        if one.indicator == "histogram":
            held = histogram(node, [value / by for value in one.integers], sigma, covered_s, silent * covered_s)
            for name, share in EXCEEDED.items():
                derived[name] = _shown(held.exceeded(share))
            over = held.share_over(LOUD_DB)
            if over is not None:
                derived[SHARE_OVER] = round(over.value, 4)
        elif one.indicator == "energy":
            value, margin = one.integers[0] / by, NORMAL_95 * sigma
            _, below, above = filling(node, one.indicator)
            level = equivalent(value, sigma, value - margin - silent * below, value + margin + silent * above)
            derived["laeq_db"] = _shown(level) if level else None
    return derived


def _shown(level: Estimate) -> float | None:
    return round(level.value, 1) if level.publishable else None


def node_json(message: Message, outcome: Outcome) -> dict[str, Any]:
    """Returns one node of a message as the JSON object of contract 5."""
    node = outcome.node
    values: dict[str, Any] = {}
    noise: list[dict[str, Any]] = []
    for noised in outcome.noised if isinstance(outcome, Release) else ():
        name = printed_name(node, noised.indicator)
        figures = printed_values(node, noised)
        values[name] = figures if noised.indicator == "histogram" else figures[0]
        if noised.indicator == "histogram":
            values["histogram_edges_db"] = [edge / 10 for edge in histogram_edges_tenths(*node.bounds)]
        noise.append(
            {
                "of": name,
                "unit": unit(node, noised.indicator),
                "mechanism": "discrete_gaussian",
                "sigma": round(noised.sigma_milli / 1000 / divisor(node, noised.indicator), 9),
                "rho_micro": noised.rho_micro,
            }
        )
    printed: dict[str, Any] = {
        "gateway": message.gateway,
        "site": message.site,
        "stream": node.stream,
        "quantity": node.quantity,
        "node": node.level,
        "start": utc(node.start_s),
        "end": utc(node.end_s),
        "covered": [utc(node.covered_from_s), utc(node.end_s)],
        "present": node.present,
        "status": "released" if isinstance(outcome, Release) else "withheld",
    }
    if isinstance(outcome, Release):
        printed["values"] = values
        derived = _derived(node, outcome.noised)
        if derived:
            printed["derived"] = derived
    else:
        printed["reason"] = outcome.reason
    printed["noise"] = noise
    printed["seq"] = message.seq
    printed["policy"] = f"sha256:{node.policy.hex()}"
    return printed
