"""Anyone's own sums of the privacy pages: the published ledger and signed rules in, every figure out.

Written from the method page alone, with the standard library alone; it knows nothing of Murmure's own code.
"""

import json
import math
import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

SPANS = (1, 7, 30, 365)


def epsilon(rho: float, delta: float) -> float:
    """The least, over all alpha > 1, of the method page's third line."""

    def bound(log_beyond: float) -> float:
        beyond = math.exp(log_beyond)
        alpha = 1 + beyond
        return rho * alpha + (-math.log(delta) + alpha * math.log1p(-1 / alpha) - log_beyond) / beyond

    if rho <= 0:
        return 0.0
    low, high = -20.0, 30.0
    for _ in range(200):
        third = (high - low) / 3
        low, high = (low, high - third) if bound(low + third) < bound(high - third) else (low + third, high)
    return max(0.0, bound((low + high) / 2))


def allowance(limit: float, delta: float) -> int:
    """The largest whole number of millionths of rho that fits."""
    found = 0
    for bit in reversed(range(40)):
        found += 2**bit if epsilon((found + 2**bit) / 1e6, delta) <= limit * (1 + 1e-12) else 0
    return found


def guesses(found: float, delta: float) -> float:
    """How many right guesses in a hundred."""
    return 100 * (1 + delta * math.exp(-found)) / (1 + math.exp(-found)) if found else 50.0


def spent(ledger: Path, last: date) -> tuple[dict[str, list[int]], dict[tuple[str, str], int]]:
    """By stream: millionths of rho over each span that ends with a day. By stream and rule: what a week costs, as its
    Monday says once one is published. Whoever is there on n days of such a week is in its node n times: n² its part."""
    most, weeks = dict[tuple[str, date], int](), dict[tuple[str, date], int]()
    price, sums = dict[tuple[str, str], int](), dict[str, list[int]]()
    for line in ledger.read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        at = told["stream"], date.fromisoformat(told["day"])
        most[at] = told["spent_rho_micro"]
        for node in told["nodes"]:
            if node["node"] == "1w" and node["released"]:
                weeks[at] = weeks.get(at, 0) + node["rho_micro"]
                price[told["stream"], told["policy"]] = node["rho_micro"] // node["released"]
    for (stream, day), rho in most.items():
        held = sums.setdefault(stream, [0] * len(SPANS))
        for number, days in enumerate(SPANS):
            inside = [last - timedelta(days) < day + timedelta(n) <= last for n in range(7)]
            held[number] += rho * inside[0] + (sum(inside) ** 2 - sum(inside)) * weeks.get((stream, day), 0)
    return sums, price


def rules(folder: Path, today: date) -> dict[str, dict[str, Any]]:
    """By site: the newest signed rule that has begun."""
    found: dict[str, dict[str, Any]] = {}
    for file in folder.glob("*.toml"):
        rule = tomllib.loads(file.read_text(encoding="utf-8"))
        newest = found.get(rule["site"], {"version": 0})
        if rule["valid_from"] <= today and rule["version"] > newest["version"]:
            found[rule["site"]] = rule | {"hash": f"sha256:{file.stem}"}
    return found


def figures(data: Path, today: date, last: date) -> dict[str, dict[str, list[tuple[float, ...]]]]:
    """By site, then by stream and "together": per span epsilon allowed, epsilon spent, right guesses in a hundred; then
    one line with the right guesses at two, four and ten units in one day."""
    sums, price = spent(data / "ledger.jsonl", last)
    found: dict[str, dict[str, list[tuple[float, ...]]]] = {}
    for site, rule in rules(data / "politiques", today).items():
        told: dict[str, list[tuple[float, ...]]] = {}
        together = [0] * len(SPANS)
        for stream in rule["stream"]:
            limit, delta = float(stream["epsilon"]), float(stream.get("delta", 1e-6))
            day, used = allowance(limit, delta), sums.get(stream["id"], [0] * len(SPANS))
            week = price.get((stream["id"], rule["hash"]), 0)
            together = [one + other for one, other in zip(together, used, strict=True)]
            lines: list[tuple[float, ...]] = []
            for days, shown in zip(SPANS, (epsilon(rho / 1e6, delta) for rho in used), strict=True):
                most = days * (day - week) + (days // 7 * 49 + (days % 7) ** 2) * week
                lines.append((epsilon(most / 1e6, delta) if days > 1 else limit, shown, guesses(shown, delta)))
            lines.append(tuple(guesses(epsilon(n * n * day / 1e6, delta), delta) for n in (2, 4, 10)))
            told[stream["id"]] = lines
        worst = max(float(stream.get("delta", 1e-6)) for stream in rule["stream"])
        told["together"] = [(one, guesses(one, worst)) for one in (epsilon(rho / 1e6, worst) for rho in together)]
        found[site] = told
    return found
