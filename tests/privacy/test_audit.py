"""Anyone can ask whether a node is one that the signed policy allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from murmure_privacy.audit import check
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Node, Noised, Outcome, Release, Withheld
from murmure_privacy.window import Calendar

CALENDAR = Calendar("Europe/Paris")
START_S = 1_790_000_000 - 1_790_000_000 % 3600


@pytest.fixture(scope="module")
def made(write_policy: Callable[..., Policy]) -> Plan:
    return plan(write_policy())


def released(made: Plan, stream_id: str, planned_level: str, **changes: Any) -> Release:
    stream = made.streams[stream_id]
    window = CALENDAR.node(planned_level, START_S)
    node = Node(
        stream_id,
        stream.stream.quantity.name,
        planned_level,
        window.start_s,
        window.end_s,
        window.start_s,
        20,
        stream.stream.cadence_ms,
        stream.stream.bounds,
        made.policy.hash,
    )
    planned = stream.node(planned_level)
    noised = tuple(
        Noised(i.indicator, (0,) * i.width, i.sigma_milli, i.rho_micro) for i in (planned.indicators if planned else ())
    )
    return Release(dataclasses.replace(node, **changes), noised)


@pytest.mark.parametrize(
    ("stream", "level"),
    [("plaza/footfall", level) for level in ("15min", "1h", "6h", "1d")]
    + [("plaza/noise", "1h"), ("plaza/pm2_5", "1d")],
)
def test_what_the_gate_lets_out_is_allowed(made: Plan, stream: str, level: str) -> None:
    """Each planned node passes, released, partial or withheld."""
    whole = released(made, stream, level)
    partial = dataclasses.replace(whole.node, covered_from_s=whole.node.end_s - 900)
    for outcome in (whole, dataclasses.replace(whole, node=partial), Withheld(whole.node, "cap")):
        assert check(outcome, made, CALENDAR) is None


NODES: dict[str, tuple[dict[str, Any], str]] = {
    "another policy": ({"policy": bytes(32)}, "the node names another policy"),
    "another stream": ({"stream": "plaza/none"}, "the policy has no 1h of plaza/none"),
    "another level": ({"level": "1w"}, "the policy has no 1w of plaza/footfall"),
    "another quantity": ({"quantity": "noise"}, "quantity, cadence or bounds are not the policy's"),
    "another cadence": ({"cadence_ms": 2000}, "quantity, cadence or bounds are not the policy's"),
    "other bounds": ({"bounds": (0, 1)}, "quantity, cadence or bounds are not the policy's"),
    "a shifted start": ({"start_s": START_S - 900}, "the node is not aligned"),
    "an early end": ({"end_s": START_S + 900}, "the node is not aligned"),
    "two hours": ({"end_s": START_S + 7200}, "the node is not aligned"),
    "a cover within a quarter": ({"covered_from_s": START_S + 1}, "the covered part does not begin on a quarter-hour"),
}


@pytest.mark.parametrize("what", NODES)
def test_a_node_out_of_its_policy_is_named(made: Plan, what: str) -> None:
    """The first thing that does not fit is said in one line, for releases and for withheld nodes."""
    changes, said = NODES[what]
    wrong = released(made, "plaza/footfall", "1h", **changes)
    for outcome in (wrong, Withheld(wrong.node, "paused")):
        assert check(outcome, made, CALENDAR) == said


def changed(noised: Noised, **changes: Any) -> tuple[Noised, ...]:
    return (dataclasses.replace(noised, **changes),)


def test_no_node_begins_before_the_policys_first_day(write_policy: Callable[..., Policy]) -> None:
    """Neither one that is released nor one that is withheld: whoever steals a key must not fill the years before."""
    for day, said in (("2026-09-21", None), ("2026-09-22", "the node begins before the policy's first day")):
        late = plan(write_policy("footfall", swap=(("valid_from = 2026-01-01", f"valid_from = {day}"),)))
        outcome = released(late, "plaza/footfall", "1h")
        for one in (outcome, Withheld(outcome.node, "sensor_absent")):
            assert check(one, late, CALENDAR) == said


def test_a_release_after_the_policys_last_day_is_named(write_policy: Callable[..., Policy]) -> None:
    """What was published after the last day is not allowed; a withheld node there is, for ever."""
    short = plan(write_policy("footfall", swap=(("2028-12-31", "2026-09-20"),)))
    outside = released(short, "plaza/footfall", "1h")
    assert check(outside, short, CALENDAR) == "the node ends after the policy's last day"
    assert check(Withheld(outside.node, "expired"), short, CALENDAR) is None


@pytest.mark.parametrize("key", ["reason = ", 'id = "plaza/footfall"\n'])
def test_a_release_under_a_pause_is_named(write_policy: Callable[..., Policy], key: str) -> None:
    """What pauses publication, of the site or of one stream, never stands under a release; under a withheld node it
    does."""
    paused = plan(write_policy("footfall", swap=((key, f"paused = true\n{key}"),)))
    outcome = released(paused, "plaza/footfall", "1h")
    assert check(outcome, paused, CALENDAR) == "the policy pauses the stream"
    assert check(Withheld(outcome.node, "paused"), paused, CALENDAR) is None


def test_a_release_without_its_sensor_is_named(made: Plan) -> None:
    """Below half of the slots a node is withheld, and at half it is released."""
    assert check(released(made, "plaza/footfall", "1h", present=10), made, CALENDAR) is None
    absent = released(made, "plaza/footfall", "1h", present=9)
    assert check(absent, made, CALENDAR) == "the sensor was absent for too long"
    assert check(Withheld(absent.node, "sensor_absent"), made, CALENDAR) is None


NOISE: dict[str, Callable[[Noised], tuple[Noised, ...]]] = {
    "another indicator": lambda n: changed(n, indicator="mean"),
    "two integers": lambda n: changed(n, integers=(0, 0)),
    "less noise": lambda n: changed(n, sigma_milli=n.sigma_milli - 1),
    "more noise": lambda n: changed(n, sigma_milli=n.sigma_milli + 1),
    "a smaller charge": lambda n: changed(n, rho_micro=n.rho_micro - 1),
    "an indicator twice": lambda n: (n, n),
}


@pytest.mark.parametrize("what", NOISE)
def test_noise_out_of_its_policy_is_named(made: Plan, what: str) -> None:
    """Indicators, widths, sigma and charge are compared as integers: one off is off."""
    right = released(made, "plaza/footfall", "1h")
    wrong: Outcome = Release(right.node, NOISE[what](right.noised[0]))
    assert check(wrong, made, CALENDAR) == "indicators, sigma or charge are not those of the policy"
