"""What the published ledger and the signed policies say together: how much of the budget is allowed, and spent.

Nothing else is read, so that whoever has these files can say the same (the method page has the formulas).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

from murmure_privacy import accountant
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.preview import habit_rho_micro

SPANS: Mapping[str, int] = accountant.SPAN_DAYS


@dataclass(frozen=True, slots=True)
class Risk:
    """What rho says to people. `epsilon`: rounded up to three figures; `guesses`: how many times in a hundred, at most
    and rounded up, somebody is right who guesses with all that is published whether it happened."""

    epsilon: Decimal
    guesses: int


@lru_cache(maxsize=4096)  # places with the same rules spend the same
def risk(rho_micro: int, delta: Decimal) -> Risk:
    """Returns what a charge of so many micro-rho says, with this delta."""
    if not rho_micro:
        return Risk(Decimal(0), 50)
    shown = accountant.epsilon(Decimal(rho_micro) / accountant.MICRO, delta)
    step = Decimal(1).scaleb(shown.adjusted() - 2)
    share = accountant.right_guesses(shown, delta) * 100
    return Risk(shown.quantize(step, ROUND_CEILING).normalize(), min(100, int(share.to_integral_value(ROUND_CEILING))))


@dataclass(frozen=True, slots=True)
class Spent:
    """What one stream spent, by civil day: `most` micro-rho at one instant of the day. `weekly`: what of it stood in a
    weekly node, by the Monday that begins it."""

    most: Mapping[date, int]
    weekly: Mapping[date, int]

    def habit(self, last: date, days: int) -> int:
        """Returns the micro-rho that one unit of privacy a day, always at the same hour, has cost in so many days.

        Charges of different days add. A weekly node has seven units in it at once, and n of them cost it n² times."""
        first = last - timedelta(days - 1)
        total = sum(spent for day, spent in self.most.items() if first <= day <= last)
        for monday, charge in self.weekly.items():
            inside = sum(first <= monday + timedelta(day) <= last for day in range(7))
            total += (inside * inside - inside) * charge
        return total


def spent(ledger: Iterable[bytes]) -> dict[str, Spent]:
    """Returns what each stream of a ledger spent."""
    most: dict[str, dict[date, int]] = {}
    weekly: dict[str, dict[date, int]] = {}
    for line in ledger:
        told = json.loads(line)
        day, stream = date.fromisoformat(told["day"]), told["stream"]
        most.setdefault(stream, {})[day] = told["spent_rho_micro"]  # the same on each line of a stream's day
        held = weekly.setdefault(stream, {})
        for node in told["nodes"]:
            if node["node"] == "1w":
                held[day] = held.get(day, 0) + node["rho_micro"]
    return {stream: Spent(days, weekly[stream]) for stream, days in most.items()}


@lru_cache(maxsize=1024)
def planned(policy: Policy) -> Plan:
    """Returns the plan of a policy."""
    return plan(policy)


def allowed(policy: Policy, part: StreamPolicy, days: int) -> int:
    """Returns the micro-rho that a policy allows one unit of privacy a day to cost in so many days."""
    return habit_rho_micro(planned(policy).streams[part.id], days)
