"""What was spent at an instant is the sum of the charges that contain it, whatever their order and length."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from murmure_ingest.budgets import Budgets, first_excess, spending
from murmure_ingest.rules import PolicyRules
from murmure_privacy.release import Node

DAY_S = 86_400
MONDAY_S = 1_795_392_000 - 3600  # midnight in Paris


def test_spending_is_the_sum_at_every_instant() -> None:
    """Against counting instant by instant, on 200 drawn histories; spans with no charge are left out."""
    draw = Random(5)
    for _ in range(200):
        charges = sorted(
            (begin, begin + draw.randint(1, 12), draw.randint(1, 9))
            for begin in draw.choices(range(40), k=draw.randint(0, 9))
        )
        found = {at: spent for begin, end, spent in spending(charges) for at in range(begin, end)}
        for at in range(60):
            assert found.get(at, 0) == sum(rho for begin, end, rho in charges if begin <= at < end)


def test_spans_do_not_touch_twice() -> None:
    """Each instant is in one span at most, in the order of time."""
    spans = list(spending([(0, 9, 1), (2, 4, 5), (4, 5, 5), (20, 21, 2)]))
    assert spans == [(0, 2, 1), (2, 4, 6), (4, 5, 6), (5, 9, 1), (20, 21, 2)]


def held(spans: list[tuple[int, int, int]], instant: int) -> list[int]:
    """What holds at an instant."""
    return [rho for begin, end, rho in spans if begin <= instant < end]


def test_what_new_charges_cost_is_asked_at_every_instant() -> None:
    """Against counting instant by instant, on 400 drawn cases: the first at which old and new together are above the
    largest budget that holds there, with what they cost."""
    draw = Random(7)
    said = []
    for _ in range(400):
        old, new = (
            [(at, at + draw.randint(1, 9), draw.randint(1, 4)) for at in draw.choices(range(20), k=draw.randint(1, 4))]
            for _ in range(2)
        )
        limits = [(begin, end, draw.randint(4, 9)) for begin, end, _ in new] + [(3, 12, 6)]

        def spent(from_s: int, until_s: int, charges: list[tuple[int, int, int]] = old) -> int:
            return max(sum(held(charges, instant)) for instant in range(from_s, until_s))

        over = [
            (instant, sum(held(old, instant)) + sum(held(new, instant)), max(held(limits, instant)))
            for instant in range(40)
            if held(new, instant) and sum(held(old, instant)) + sum(held(new, instant)) > max(held(limits, instant))
        ]
        found = first_excess(new, limits, spent)
        said.append(found is None)
        assert (found is None) == (not over)
        # An instant of the same span: nothing of what is new, and no budget, changes in between.
        assert found is None or (found[0] <= over[0][0] and found[2] == over[0][2] and found[1] >= over[0][1])
    assert 40 < sum(said) < 360


@pytest.fixture
def capped(policy_text: Any) -> Any:
    """A stream of days with a cap of a week, and what a day and the cap may cost."""
    levels = b'{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }'
    cap = b'{ "1d" = 1 }\ncap = { units_per_day = 2, span = "1w", epsilon = 4 }'
    rules = PolicyRules(policy_text("plaza").replace(levels, cap))
    stream = rules.plan.streams["plaza/footfall"]
    return rules, stream.nodes[0].rho_micro, stream.cap_rho_micro


def node_of(day: int, policy: bytes = b"p") -> Node:
    start_s = MONDAY_S + day * DAY_S
    return Node("plaza/footfall", "footfall", "1d", start_s, start_s + DAY_S, start_s, 20, 0, (0, 0), policy)


def excesses(days: list[int], rules: Any, rho: int) -> list[int]:
    budgets = Budgets()
    for day in days:
        budgets.note(node_of(day), rules.plan)
    charges = [(node_of(day).covered_from_s, node_of(day).end_s, rho) for day in days]
    return [(at_s - MONDAY_S) // DAY_S for at_s, _ in budgets.excesses("plaza/footfall", charges)]


def test_a_cap_counts_consecutive_days(capped: Any) -> None:
    """As many days fit into any seven as the cap can pay, units squared, and one more does not; days without a release
    let it recover."""
    rules, rho, limit = capped
    fits = limit // (4 * rho)
    assert 1 <= fits < 6
    assert excesses(list(range(fits)), rules, rho) == []
    assert excesses(list(range(fits + 1)), rules, rho) == [fits]
    assert excesses([*range(fits), 7, 8], rules, rho) == []


def test_a_stream_that_the_policy_does_not_know_has_no_budget(capped: Any) -> None:
    """The audit of the node says so; here it is not a stream at all."""
    budgets = Budgets()
    rules, *_ = capped
    stranger = Node("plaza/voices", "footfall", "1d", 0, 1, 0, 20, 0, (0, 0), b"p")
    budgets.note(stranger, rules.plan)
    assert budgets.streams() == []


def test_what_no_policy_covers_is_too_much(capped: Any) -> None:
    """A charge outside the time of every policy has a budget of nothing."""
    rules, rho, _ = capped
    budgets = Budgets()
    budgets.note(node_of(0), rules.plan)
    outside = node_of(3)
    found = list(budgets.excesses("plaza/footfall", [(outside.covered_from_s, outside.end_s, rho)]))
    assert found == [(outside.covered_from_s, f"spent {rho} micro-rho of 0")]
