"""The printed form of a node (contract 5): what `tail --json`, `edge replay` and the open data show.

A pure function of the released integers; nothing here has seen an exact value.
"""

from __future__ import annotations

from itertools import accumulate
from math import log10
from typing import Any

from murmure_privacy.release import Message, Node, Noised, Outcome, Release
from murmure_privacy.stream import HISTOGRAM_STEP_TENTHS, QUANTITIES, histogram_edges_tenths
from murmure_privacy.window import utc

_LOUD_TENTHS = 650


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


def printed_values(node: Node, noised: Noised) -> list[float]:
    """Returns the released figures of one indicator in printed units; counts stay whole numbers."""
    by = divisor(node, noised.indicator)
    if by == 1:
        return list(noised.integers)
    return [round(value / by, 6) for value in noised.integers]


def level_exceeded(seconds: list[float], edges_db: list[float], share: float) -> float | None:
    """Returns the level exceeded during `share` of the time, read off a noised histogram, or None if it is empty.

    Negative seconds, which noise can make, count as none here only; within a bin time is spread evenly.
    """
    held = [max(0.0, value) for value in seconds]
    whole = sum(held)
    if whole <= 0:
        return None
    below = [0.0, *accumulate(held)]
    wanted = (1 - share) * whole
    at = next(index for index, value in enumerate(below[1:]) if value >= wanted)
    within = (wanted - below[at]) / held[at] if held[at] else 0.0
    return edges_db[at] + within * (edges_db[at + 1] - edges_db[at])


def _derived(node: Node, values: dict[str, Any]) -> dict[str, float | None]:
    derived: dict[str, float | None] = {}
    if "histogram_s" in values:
        seconds, edges = values["histogram_s"], values["histogram_edges_db"]
        for name, share in (("l10_db", 0.1), ("l50_db", 0.5), ("l90_db", 0.9)):
            level = level_exceeded(seconds, edges, share)
            derived[name] = None if level is None else round(level, 1)
        low, high = node.bounds
        if low <= _LOUD_TENTHS < high and (_LOUD_TENTHS - low) % HISTOGRAM_STEP_TENTHS == 0:
            first = (_LOUD_TENTHS - low) // HISTOGRAM_STEP_TENTHS
            covered_s = node.end_s - node.covered_from_s
            derived["share_over_65_db"] = round(sum(seconds[first:]) / covered_s, 4)
    if "energy_mean" in values:
        energy = values["energy_mean"]
        derived["laeq_db"] = round(10 * log10(energy), 1) if energy > 0 else None
    return derived


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
        derived = _derived(node, values)
        if derived:
            printed["derived"] = derived
    else:
        printed["reason"] = outcome.reason
    printed["noise"] = noise
    printed["seq"] = message.seq
    printed["policy"] = f"sha256:{node.policy.hex()}"
    return printed
