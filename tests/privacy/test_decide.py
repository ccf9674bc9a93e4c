"""Which policy may follow which: the order, the judgement, and every short sequence that could get round it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import lru_cache, partial
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy import decide as module
from murmure_privacy.accountant import rho_micro
from murmure_privacy.decide import (
    FLOOR,
    NOTICE_S,
    UNDECIDED,
    Accept,
    Ceiling,
    Difference,
    Docket,
    Floor,
    HoldUntil,
    LogWord,
    Refuse,
    Signed,
    Waiting,
    compare,
    decide,
    due,
    hear,
    loosens,
)
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import Cap, Policy, StreamPolicy
from murmure_privacy.stream import QUANTITIES

Write = Callable[..., Policy]
DAY_S = 86_400
NOW_S = 1_800_000_000
TWO = frozenset({"steward", "dpo"})
HIGH = Ceiling(FLOOR.rho_micro)


def changed(policy: Policy, **fields: Any) -> Policy:
    """Returns a policy with other fields, of the whole or of its first stream."""
    whole = {key: fields.pop(key) for key in list(fields) if key in Policy.__slots__}
    streams = (replace(policy.streams[0], **fields), *policy.streams[1:])
    return replace(policy, **{"streams": streams, **whole})


def ways(old: Policy, new: Policy) -> set[tuple[str, str]]:
    """Returns (what, way) of each difference."""
    return {(one.what, one.way) for one in compare(plan(old), plan(new))}


# --- the order -------------------------------------------------------------------------------------------------------

NOISE = [
    ({"epsilon": Decimal("0.5")}, {("epsilon", "tighter"), ("scale", "tighter")}),
    ({"epsilon": Decimal("1.5")}, {("epsilon", "looser"), ("scale", "looser")}),
    ({"delta": Decimal("1e-9")}, {("delta", "tighter"), ("scale", "tighter")}),
    ({"delta": Decimal("1e-5")}, {("delta", "looser"), ("scale", "looser")}),
    ({"protects": ("seconds", 30)}, {("seconds", "tighter"), ("scale", "tighter")}),
    ({"protects": ("seconds", 10)}, {("seconds", "looser"), ("scale", "looser")}),
    ({"tail": 12}, {("tail", "tighter"), ("scale", "tighter")}),
    ({"tail": 2}, {("tail", "looser"), ("scale", "looser")}),
    ({"cadence_ms": 500}, {("cadence_ms", "unlike"), ("scale", "tighter")}),
    ({"nodes": (("1d", Decimal(24)),)}, {("figure", "tighter"), ("scale", "looser")}),
    ({"indicators": (("mean", Decimal(1)),)}, {("figure", "tighter"), ("scale", "looser")}),
    ({"nodes": (("1h", Decimal(2)), ("1d", Decimal(24)))}, {("scale", "tighter"), ("scale", "looser")}),
    ({"bounds": (400, 800)}, {("bounds", "tighter"), ("scale", "looser")}),
    ({"bounds": (300, 900)}, {("bounds", "looser"), ("scale", "tighter")}),
    ({"bounds": (300, 800)}, {("bounds", "unlike"), ("scale", "looser")}),
    ({"bounds": (400, 900)}, {("bounds", "unlike"), ("scale", "tighter")}),
    ({"bounds": (350, 800)}, {("bounds", "tighter"), ("scale", "looser")}),
    ({"bounds": (400, 850)}, {("bounds", "tighter"), ("scale", "looser")}),
    ({"bounds": (350, 900)}, {("bounds", "looser"), ("scale", "tighter")}),
    ({"bounds": (300, 850)}, {("bounds", "looser"), ("scale", "tighter")}),
    (
        {"nodes": (("1h", Decimal(1)), ("6h", Decimal(1)), ("1d", Decimal(24)))},
        {("figure", "looser"), ("scale", "tighter")},
    ),
    ({"paused": True}, {("paused", "tighter")}),
    ({"cap": Cap(1, "1y", Decimal(30))}, {("cap", "tighter")}),
    ({"quantity": QUANTITIES["pm10"], "indicators": (("mean", Decimal(1)),)}, {("quantity", "unlike")}),
    ({"valid_until": date(2028, 12, 30)}, {("valid_until", "tighter")}),
    ({"valid_until": date(2029, 1, 1)}, {("valid_until", "looser")}),
    ({"valid_from": date(2026, 1, 2)}, {("valid_from", "tighter")}),
    ({"valid_from": date(2025, 12, 31)}, {("valid_from", "looser")}),
    ({"timezone": "Europe/London"}, {("timezone", "unlike")}),
    ({"version": 2}, set()),
    ({"version": 3}, {("version", "unlike")}),
    ({"decision": "D 2", "reason": "R 2"}, {("decision", "same"), ("reason", "same")}),
    ({"paused": True, "streams": ()}, {("stream", "tighter")}),
]


@pytest.mark.parametrize(("change", "expected"), NOISE)
def test_each_way_in_which_policies_differ_has_its_direction(
    write_policy: Write, change: dict[str, Any], expected: set[tuple[str, str]]
) -> None:
    """Each dimension alone, both ways; less noise on any figure is looser, whatever made room for it."""
    assert ways(write_policy("noise"), changed(write_policy("noise"), **change)) == expected


CAP = Cap(2, "30d", Decimal(30))
CAPS = [
    (None, {("cap", "looser")}),
    (replace(CAP, epsilon=Decimal(20)), {("cap.epsilon", "tighter")}),
    (replace(CAP, epsilon=Decimal(40)), {("cap.epsilon", "looser")}),
    (replace(CAP, units_per_day=3), {("cap.units_per_day", "tighter")}),
    (replace(CAP, units_per_day=1), {("cap.units_per_day", "looser")}),
    (replace(CAP, span="1y"), {("cap.days", "tighter")}),
    (replace(CAP, span="1w"), {("cap.days", "looser")}),
]


@pytest.mark.parametrize(("cap", "expected"), CAPS)
def test_a_weaker_cap_is_looser(write_policy: Write, cap: Cap | None, expected: set[tuple[str, str]]) -> None:
    """None at all, a larger tank, fewer units a day or a shorter span."""
    policy = changed(write_policy("footfall"), cap=CAP)
    assert ways(policy, changed(policy, cap=cap)) == expected


def test_a_level_below_which_events_are_protected_is_looser_the_lower_it_is(write_policy: Write) -> None:
    """Any sound, sounds up to 80 dB, up to 70 dB: each protects fewer sounds than the one before it."""
    levels = (None, 800, 700)
    for (i, old), (j, new) in product(enumerate(levels), repeat=2):
        found = compare(*(plan(changed(write_policy("noise"), up_to=level)) for level in (old, new)))
        assert [one.way for one in found if one.what == "up_to"] == (["looser"] if i < j else ["tighter"] * (i > j))
    [said] = [
        one
        for one in compare(*(plan(changed(write_policy("noise"), up_to=level)) for level in (None, 750)))
        if one.what == "up_to"
    ]
    assert said == Difference("plaza/noise", "up_to", "looser", "", "75")


def test_a_stream_that_is_new_renamed_or_split_is_looser(write_policy: Write) -> None:
    """The name is the stream: under another one a gateway would measure what nobody has decided."""
    one, two = write_policy("footfall"), write_policy("footfall", "pm2_5")
    assert ways(two, one) == {("stream", "tighter")} and ways(one, two) == {("stream", "looser")}
    renamed = changed(one, id="plaza/steps")
    assert ways(one, renamed) == {("stream", "tighter"), ("stream", "looser")}
    half = replace(one.streams[0], epsilon=Decimal("0.5"))
    split = replace(one, streams=(half, replace(half, id="plaza/steps")))
    assert ("stream", "looser") in ways(one, split)


def test_a_pause_of_the_whole_is_a_pause_of_each_stream(write_policy: Write) -> None:
    """Pausing is tighter, taking it back is looser, and how it is written makes no difference."""
    plain = write_policy("footfall", "pm2_5")
    whole = replace(plain, paused=True)
    each = replace(plain, streams=tuple(replace(stream, paused=True) for stream in plain.streams))
    assert ways(whole, each) == set() == ways(each, whole)
    assert ways(plain, whole) == {("paused", "tighter")} and ways(each, plain) == {("paused", "looser")}


SAID: list[tuple[dict[str, Any], list[tuple[str, ...]]]] = [
    (
        {"valid_from": date(2026, 1, 2), "valid_until": date(2029, 1, 1), "timezone": "Europe/London", "version": 3},
        [
            ("", "timezone", "Europe/Paris", "Europe/London", ""),
            ("", "valid_from", "2026-01-01", "2026-01-02", ""),
            ("", "valid_until", "2028-12-31", "2029-01-01", ""),
            ("", "version", "1", "3", ""),
        ],
    ),
    (
        {"decision": "D 2", "reason": "R 2"},
        [("", "decision", "Délibération n° 42", "D 2", ""), ("", "reason", "Essai", "R 2", "")],
    ),
    ({"paused": True}, [("plaza/noise", "paused", "false", "true", "")]),
    (
        {"quantity": QUANTITIES["pm10"], "indicators": (("mean", Decimal(1)),)},
        [("plaza/noise", "quantity", "noise", "pm10", "")],
    ),
    (
        {"cadence_ms": 500, "tail": 12, "protects": ("seconds", 30), "delta": Decimal("1e-5")},
        [
            ("plaza/noise", "seconds", "15", "30", ""),
            ("plaza/noise", "cadence_ms", "1000", "500", ""),
            ("plaza/noise", "tail", "11", "12", ""),
            ("plaza/noise", "delta", "0.000001", "0.00001", ""),
        ],
    ),
    ({"epsilon": Decimal(2)}, [("plaza/noise", "epsilon", "1.0", "2", "")]),
    ({"up_to": 755}, [("plaza/noise", "up_to", "", "75.5", "")]),
    ({"bounds": (305, 900)}, [("plaza/noise", "bounds", "[35, 85]", "[30.5, 90]", "")]),
    ({"cap": Cap(2, "30d", Decimal(30))}, [("plaza/noise", "cap", "", "30 / 30d", "")]),
    (
        {"nodes": (("6h", Decimal(1)), ("1d", Decimal(24))), "indicators": (("mean", Decimal(1)),)},
        [
            ("plaza/noise", "figure", "1h histogram", "", "1h histogram"),
            ("plaza/noise", "figure", "1h mean", "", "1h mean"),
            ("plaza/noise", "figure", "1h energy", "", "1h energy"),
            ("plaza/noise", "figure", "1d histogram", "", "1d histogram"),
            ("plaza/noise", "figure", "1d energy", "", "1d energy"),
            ("plaza/noise", "figure", "", "6h mean", "6h mean"),
        ],
    ),
    (
        {"id": "plaza/din"},
        [("plaza/noise", "stream", "plaza/noise", "", ""), ("plaza/din", "stream", "", "plaza/din", "")],
    ),
]


@pytest.mark.parametrize(("change", "expected"), SAID)
def test_what_differs_is_said_as_it_stands_in_the_file(
    write_policy: Write, change: dict[str, Any], expected: list[tuple[str, ...]]
) -> None:
    """Stream, key, what was and what is now, and the node and the figure where there are several; and turned round for
    who goes back. What changes with it is the noise, which is said in thousandths."""
    old, new = write_policy("noise"), changed(write_policy("noise"), **change)
    there = compare(plan(old), plan(new))
    told = [(one.stream, one.what, one.was, one.now, one.at) for one in there if one.what != "scale"]
    assert told == expected
    for one in there:
        if one.what == "scale":
            level, indicator = one.at.split()
            scales = []
            for policy in (old, new):
                [figure] = [
                    figure
                    for node in plan(policy).streams["plaza/noise"].nodes
                    for figure in node.indicators
                    if (node.level, figure.indicator) == (level, indicator)
                ]
                scales.append(str(figure.sigma_milli))
            assert (one.stream, one.was, one.now) == ("plaza/noise", *scales)
    if "version" not in change:
        back = compare(plan(new), plan(old))
        assert {(one.what, one.now, one.was, one.at) for one in back} == {
            (one.what, one.was, one.now, one.at) for one in there
        }


def test_what_differs_in_a_cap_is_said_key_by_key(write_policy: Write) -> None:
    """A span by its days; one that is taken away as a whole."""
    policy = changed(write_policy("footfall"), cap=CAP)
    for cap, expected in (
        (Cap(3, "1w", Decimal(20)), [("epsilon", "30", "20"), ("units_per_day", "2", "3"), ("days", "30", "7")]),
        (None, [("cap", "30 / 30d", "")]),
    ):
        found = compare(plan(policy), plan(changed(policy, cap=cap)))
        assert [(one.what.removeprefix("cap."), one.was, one.now) for one in found] == expected
        assert {(one.stream, one.at) for one in found} == {("plaza/footfall", "")}


TOP: dict[str, st.SearchStrategy[Any]] = {
    "valid_until": st.sampled_from([date(2028, 12, 31), date(2029, 6, 30)]),
    "timezone": st.sampled_from(["Europe/Paris", "Europe/Paris", "Europe/London"]),
    "paused": st.booleans(),
}
STREAM: dict[str, st.SearchStrategy[Any]] = {
    "epsilon": st.sampled_from([Decimal("0.5"), Decimal(1), Decimal(2)]),
    "tail": st.sampled_from([2, 11]),
    "protects": st.sampled_from([("seconds", 15), ("seconds", 30)]),
    "up_to": st.sampled_from([None, 700, 750]),
    "bounds": st.sampled_from([(350, 850), (400, 800), (300, 800)]),
    "nodes": st.sampled_from(
        [(("1h", Decimal(1)),), (("1h", Decimal(1)), ("1d", Decimal(24))), (("1h", Decimal(1)), ("1d", Decimal(1)))]
    ),
    "cap": st.sampled_from([None, Cap(1, "1y", Decimal(60)), Cap(1, "30d", Decimal(60))]),
    "paused": st.booleans(),
}


@st.composite
def policies(draw: st.DrawFn, base: Policy) -> Plan:
    """Policies of one site with one or two streams of noise."""
    names = draw(st.sampled_from([("a",), ("b",), ("a", "b")]))
    streams = tuple(
        replace(base.streams[0], id=f"plaza/{name}", **draw(st.fixed_dictionaries(STREAM))) for name in names
    )
    return plan(replace(base, streams=streams, **draw(st.fixed_dictionaries(TOP))))


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_order_is_one(write_policy: Write, data: st.DataObject) -> None:
    """Nothing is looser than itself; what two steps of tightening reach is tighter than the first; and where neither of
    two policies is looser, nothing of what may be learned differs."""
    one, two, three = (data.draw(policies(write_policy("noise"))) for _ in range(3))
    assert compare(one, one) == ()
    step, next_step, both = loosens(compare(one, two)), loosens(compare(two, three)), loosens(compare(one, three))
    assert step or next_step or not both
    assert (step or loosens(compare(two, one))) == any(found.way != "same" for found in compare(one, two))


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_no_tightening_spends_more(write_policy: Write, data: st.DataObject) -> None:
    """What is no loosening has no stream, no node and no rho that was not there before."""
    old, new = (data.draw(policies(write_policy("noise"))) for _ in range(2))
    if not loosens(compare(old, new)):
        for name, word in new.streams.items():
            assert word.rho_micro <= old.streams[name].rho_micro
            assert {node.level for node in word.nodes} <= {node.level for node in old.streams[name].nodes}
            assert word.stream.unit_readings >= old.streams[name].stream.unit_readings


# --- the judgement ---------------------------------------------------------------------------------------------------


def signed(policy: Policy, signatures: int = 2, roles: frozenset[str] = TWO) -> Signed:
    return Signed(plan(policy), signatures, roles)


def ruled(current: Policy | None, candidate: Signed, ceiling: Ceiling = HIGH, since_s: int | None = None) -> Any:
    """Returns the verdict in a word."""
    log = None if since_s is None else LogWord(since_s)
    verdict = decide(None if current is None else plan(current), candidate, ceiling, FLOOR, log, NOW_S)
    if isinstance(verdict, Refuse):
        return verdict.reason
    return "accept" if verdict == Accept() else verdict


def test_a_tightening_needs_one_signature_and_acts_at_once(write_policy: Write) -> None:
    """Also a pause, and what changes nothing; under any ceiling, for it is under what holds."""
    was = write_policy("footfall")
    for change in ({"epsilon": Decimal("0.5")}, {"paused": True}, {"decision": "D 2"}):
        alone = signed(changed(was, version=2, **change), 1, frozenset({"steward"}))
        assert ruled(was, alone, Ceiling(1)) == "accept"
    assert ruled(was, signed(changed(was, version=2), 0, frozenset())) == "signatures"


def test_a_loosening_needs_two_roles_and_seven_days(write_policy: Write) -> None:
    """Counted from now where nobody knows since when it is known, to the second."""
    was = write_policy("footfall")
    wide = changed(was, version=2, epsilon=Decimal(2))
    assert ruled(was, signed(wide, 1, frozenset({"steward"}))) == "roles"
    assert ruled(was, signed(wide, 2, frozenset({"steward"}))) == "roles"  # two keys of one role
    assert ruled(was, signed(wide)) == HoldUntil(NOW_S + NOTICE_S)
    assert ruled(was, signed(wide), since_s=NOW_S - NOTICE_S + 1) == HoldUntil(NOW_S + 1)
    assert ruled(was, signed(wide), since_s=NOW_S - NOTICE_S) == "accept"


def test_what_is_above_the_ceiling_is_refused_however_long_it_is_known(write_policy: Write) -> None:
    """The sum over the streams counts, not each of them; to the last micro-rho; also for a first policy."""
    was, two = write_policy("footfall"), replace(write_policy("footfall", "pm2_5"), version=2)
    costs = 2 * rho_micro(Decimal(1), Decimal("1e-6"))
    for current in (was, None):
        assert ruled(current, signed(two), Ceiling(costs), since_s=0) == "accept"
        assert ruled(current, signed(two), Ceiling(costs - 1), since_s=0) == "ceiling"


def test_no_ceiling_goes_below_the_floor_of_the_release(write_policy: Write) -> None:
    """Epsilon 10 for all streams together, delta 1e-5; whoever signs."""
    was, endless = write_policy("footfall"), Ceiling(1 << 60)
    most = {"epsilon": Decimal(10), "version": 2}
    assert ruled(was, signed(changed(was, **most)), endless, since_s=0) == "accept"
    assert ruled(was, signed(changed(was, **{**most, "epsilon": Decimal("10.01")})), endless, since_s=0) == "floor"
    for delta, verdict in (("0.00001", "accept"), ("0.000011", "floor")):
        wide = changed(was, version=2, delta=Decimal(delta))
        assert ruled(was, signed(wide), endless, since_s=0) == verdict
        beside = changed(replace(write_policy("footfall", "pm2_5"), version=2), delta=Decimal(delta))
        assert ruled(was, signed(beside), endless, since_s=0) == verdict  # the other stream has 1e-6


def test_the_first_policy_needs_two_roles_and_waits_only_if_it_is_newer_than_the_enrolment(write_policy: Write) -> None:
    """All of it is new; but the ceiling was set for it. Where it is noted what the site had at the enrolment, a newer
    one waits like any that loosens, since what lies between was never seen; else its version may be any."""
    first = write_policy("footfall")
    assert ruled(None, signed(first)) == "accept" == ruled(None, signed(replace(first, version=7)))
    assert ruled(None, signed(first, 1, frozenset({"steward"}))) == "roles"
    assert ruled(None, signed(first, 1, frozenset({"key"})), Ceiling(HIGH.rho_micro, 1, 1)) == "accept"
    enrolled = {known: replace(HIGH, policy_version=known) for known in (0, 1, 6, 7)}
    for known, version, at_once in ((0, 1, True), (0, 2, False), (1, 1, True), (6, 7, False), (7, 7, True)):
        verdict = ruled(None, signed(replace(first, version=version)), enrolled[known])
        assert verdict == ("accept" if at_once else HoldUntil(NOW_S + NOTICE_S)), (known, version)
    newer = signed(replace(first, version=7))
    assert ruled(None, newer, enrolled[6], since_s=NOW_S - NOTICE_S) == "accept"
    nobody = decide(None, signed(first, 1, frozenset()), HIGH, FLOOR, None, NOW_S)
    assert isinstance(nobody, Refuse) and "the first policy" in nobody.detail and "by nobody" in nobody.detail


def test_versions_grow_by_one_and_name_their_decision(write_policy: Write) -> None:
    """An old one, another text of the same number, another site's, one without a decision: refused, however it is
    signed. One that skips is a loosening, whatever it says."""
    was = replace(write_policy("footfall"), version=5)
    for version in (1, 4, 5):
        assert ruled(was, signed(replace(was, version=version)), since_s=0) == "old_policy"
    assert ruled(was, signed(replace(was, version=6, site="market")), since_s=0) == "other_site"
    assert ruled(was, signed(replace(was, version=6, decision="  ")), since_s=0) == "no_decision"
    skips = changed(was, version=7, paused=True)
    assert ruled(was, signed(skips, 1, frozenset({"steward"}))) == "roles"
    assert ruled(was, signed(skips)) == HoldUntil(NOW_S + NOTICE_S)


def test_the_notice_and_the_floor_are_those_that_were_promised() -> None:
    """Seven days; epsilon 10 for all streams of a site, at delta 1e-6, and no delta above 1e-5; and what stands
    instead of a decision in a file of `policy new`, which no later release may take for one."""
    assert NOTICE_S == 604_800 and UNDECIDED == "à compléter"
    assert Floor(rho_micro(Decimal(10), Decimal("0.000001")), Decimal("0.00001")) == FLOOR


def test_a_refusal_says_what_is_wrong_and_its_mend(write_policy: Write) -> None:
    """To the word, for a steward acts on it."""
    was = replace(write_policy("footfall"), version=5)
    costs = rho_micro(Decimal(1), Decimal("1e-6"))
    wide = changed(was, version=6, valid_until=date(2029, 6, 30))
    high = Ceiling(FLOOR.rho_micro + costs)

    def said(candidate: Signed, ceiling: Ceiling = HIGH, current: Policy | None = was) -> str:
        verdict = decide(None if current is None else plan(current), candidate, ceiling, FLOOR, None, NOW_S)
        assert isinstance(verdict, Refuse)
        return f"{verdict.reason}: {verdict.detail}"

    assert said(signed(replace(wide, site="market"))) == "other_site: it is for 'market', not 'plaza'"
    old = "old_policy: it is version 5, and 5 is known: write version = 6"
    assert said(signed(replace(wide, version=5))) == old
    named = "no_decision: no decision is named: write decision = the reference of the deliberation"
    assert said(signed(replace(wide, decision=" "))) == named
    few = "signatures: 1 of 2 signatures are there: let more of the pinned stewards sign it"
    assert said(signed(wide, 1), Ceiling(HIGH.rho_micro, signatures=2)) == few
    one = "roles: {} needs signatures of 2 different roles, and it is signed by {}: let another role sign it too"
    assert said(signed(wide, 2, frozenset({"dpo"}))) == one.format("a loosening", "dpo")
    assert said(signed(wide, 2, frozenset()), current=None) == one.format("the first policy", "nobody")
    three = replace(HIGH, roles=3)
    assert "by dpo, steward: " in said(signed(wide), three)
    above = f"ceiling: its streams cost {costs} micro-rho together, and {costs - 1} are the ceiling"
    assert said(signed(wide), Ceiling(costs - 1)) == f"{above} that was set at the enrolment: lower an epsilon"
    dear = changed(wide, epsilon=Decimal("10.01"))
    spent, most = rho_micro(Decimal("10.01"), Decimal("1e-6")), FLOOR.rho_micro
    above = f"floor: its streams cost {spent} micro-rho together, and {most} are the floor of this release"
    assert said(signed(dear), high) == f"{above}: lower an epsilon"
    risky = changed(wide, delta=Decimal("0.000011"))
    above = "floor: delta 0.000011 is above 0.00001, the floor of this release: lower it"
    assert said(signed(risky), high) == above


def test_an_expired_policy_is_no_excuse(write_policy: Write) -> None:
    """A year later the next one is still judged beside it: a longer validity is a loosening, an older policy is old."""
    was = replace(write_policy("footfall"), version=2, valid_until=date(2026, 6, 30))
    assert ruled(was, signed(replace(was, version=3, valid_until=date(2027, 6, 30)))) == HoldUntil(NOW_S + NOTICE_S)
    assert ruled(was, signed(replace(was, version=1, valid_until=date(2027, 6, 30)))) == "old_policy"


def test_what_waits_is_dropped_when_a_newer_release_has_a_higher_floor(write_policy: Write) -> None:
    """And what came after it is judged beside what holds."""
    was = write_policy("footfall")
    wide, narrow = changed(was, version=2, epsilon=Decimal(3)), changed(was, version=3, epsilon=Decimal("0.5"))
    docket, _ = hear(Docket(plan(was)), signed(wide), HIGH, FLOOR, NOW_S)
    docket, _ = hear(docket, signed(narrow), HIGH, FLOOR, NOW_S + 1)
    higher = Floor(rho_micro(Decimal(2), Decimal("1e-6")), FLOOR.delta)
    later, held = due(docket, HIGH, higher, NOW_S + 2)
    assert held == () and [one.signed.plan.policy for one in later.waiting] == [narrow]
    assert due(later, HIGH, higher, NOW_S + 1 + NOTICE_S)[0].current == plan(narrow)


def test_stewards_who_regret_a_loosening_take_it_back_before_it_holds(write_policy: Write) -> None:
    """The next version goes back to what holds: both are in force together on the day of the first, none before."""
    was = write_policy("footfall")
    docket, _ = hear(Docket(plan(was)), signed(changed(was, version=2, epsilon=Decimal(3))), HIGH, FLOOR, NOW_S)
    regret = signed(replace(was, version=3), 1, frozenset({"dpo"}))
    docket, verdict = hear(docket, regret, HIGH, FLOOR, NOW_S + DAY_S)
    assert verdict == Accept() and docket.newest == regret.plan
    assert due(docket, HIGH, FLOOR, NOW_S + NOTICE_S - 1) == (docket, ())
    docket, held = due(docket, HIGH, FLOOR, NOW_S + NOTICE_S)
    assert [one.signed.plan.policy.version for one in held] == [2, 3] and docket == Docket(regret.plan)


# --- every short sequence --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Content:
    """What a policy of the model allows: by stream epsilon and whether it publishes; until when. An order of its own,
    beside that of the module: a figure of one is allowed by another if it is not less there."""

    name: str
    streams: tuple[tuple[str, str, bool], ...]
    until: int = 2028

    def allowed_by(self, other: Content) -> bool:
        theirs = {name: (Decimal(epsilon), live) for name, epsilon, live in other.streams}
        return self.until <= other.until and all(
            name in theirs and Decimal(epsilon) <= theirs[name][0] and live <= theirs[name][1]
            for name, epsilon, live in self.streams
        )


BASE = Content("base", (("a", "1", True),))
CONTENTS = (
    BASE,
    Content("tight", (("a", "0.5", True),)),
    Content("wide", (("a", "2", True),)),
    Content("renamed", (("b", "1", True),)),
    Content("split", (("a", "0.5", True), ("b", "0.5", True))),
    Content("late", (("a", "1", True),), 2029),
    Content("paused", (("a", "1", False),)),
    Content("huge", (("a", "9", True),)),
)
ALONE, BOTH = (1, frozenset({"steward"})), (2, TWO)
CEILING = Ceiling(rho_micro(Decimal(3), Decimal("1e-6")), policy_version=1)
WAITS_S = (3 * DAY_S, 4 * DAY_S, 7 * DAY_S)


@lru_cache
def built(base: StreamPolicy, top: Policy, content: Content, version: int) -> Plan:
    streams = tuple(
        replace(base, id=f"plaza/{name}", epsilon=Decimal(epsilon), paused=not live)
        for name, epsilon, live in content.streams
    )
    return plan(replace(top, version=version, valid_until=date(content.until, 12, 31), streams=streams))


@dataclass(frozen=True)
class State:
    """A docket at an instant, with what the model itself has seen: what was heard, and what holds under which number.
    `heard`: (version, content, whether both roles signed it, when), of what was believed and does not hold yet."""

    docket: Docket
    now_s: int
    heard: tuple[tuple[int, Content, bool, int], ...] = ()
    holds: Content = BASE
    version: int = 1

    @property
    def key(self) -> object:
        """Two states with the same one have the same future."""
        waiting = tuple((id(one.signed.plan), one.signed.roles, one.seen_s - self.now_s) for one in self.docket.waiting)
        heard = tuple((*head, max(at_s - self.now_s, -NOTICE_S)) for *head, at_s in self.heard)
        return id(self.docket.current), waiting, heard


def sequences(top: Policy, length: int, contents: tuple[Content, ...]) -> Iterator[str]:
    """Plays every sequence of policies and waits of that length; yields what went wrong. It begins under version 1, or
    enrolled while version 1 was the site's newest and not told of any; that one is then the only one of its number."""
    make = partial(built, top.streams[0], top)
    words = list(product(contents, (ALONE, BOTH), (-1, 0, 1, 2)))
    states = [State(Docket(make(BASE, 1)), NOW_S), State(Docket(), NOW_S, version=0)]
    for _ in range(length):
        following: dict[object, State] = {}
        for state in states:
            moves = [replace(state, now_s=state.now_s + wait_s) for wait_s in WAITS_S]
            newest = state.docket.newest
            for content, (count, roles), grows in words:
                version = (1 if newest is None else newest.policy.version) + grows
                if version < 1 or (version == 1 and newest is None and content is not BASE):
                    continue
                docket, verdict = hear(
                    state.docket, Signed(make(content, version), count, roles), CEILING, FLOOR, state.now_s
                )
                if not isinstance(verdict, Refuse):
                    heard = (*state.heard, (version, content, roles == TWO, state.now_s))
                    moves.append(replace(state, docket=docket, heard=heard))
            for move in moves:
                docket, held = due(move.docket, CEILING, FLOOR, move.now_s)
                holds, before, heard = move.holds, move.version, move.heard
                for (version, content, both, at_s), _ in zip(heard, held, strict=False):
                    notice = both and at_s <= move.now_s - NOTICE_S
                    if version <= before or (version > before + 1 and not notice):
                        yield f"version {version} after {before}"
                    if not content.allowed_by(holds) and not notice:
                        yield f"{content.name} after {holds.name} without two roles and seven days"
                    if content.name == "huge":
                        yield "above the ceiling"
                    holds, before = content, version
                after = replace(move, docket=docket, heard=heard[len(held) :], holds=holds, version=before)
                following.setdefault(after.key, after)
        states = list(following.values())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model compares the same few plans very often: each pair once."""
    known: dict[tuple[int, int], tuple[Difference, ...]] = {}
    slow = module.compare

    def once(old: Plan, new: Plan) -> tuple[Difference, ...]:
        key = id(old), id(new)
        if key not in known:
            known[key] = slow(old, new)
        return known[key]

    monkeypatch.setattr(module, "compare", once)


QUICK, WHOLE = 3, 4


@pytest.mark.parametrize("length", [QUICK, pytest.param(WHOLE, marks=pytest.mark.long)])
def test_no_sequence_of_policies_gets_round(write_policy: Write, quick: None, length: int) -> None:
    """Every sequence: whatever holds allows no more than what held before it, or both roles have signed it and it was
    known for seven days; its version was the next one, or both roles have signed the skip; never above the ceiling.
    Two steps that each look harmless, a loosening after a tightening, streams dropped and added again, renamed or
    split, an old policy played again: they are all among them."""
    assert list(sequences(write_policy("footfall"), length, CONTENTS)) == []


def blind_to(*what: str) -> Callable[[pytest.MonkeyPatch], None]:
    """An order that does not look at some dimensions."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        right = module.compare
        patch.setattr(module, "compare", lambda old, new: tuple(one for one in right(old, new) if one.what not in what))

    return broken


def judging(change: Callable[[Plan | None, Signed, Ceiling], tuple[Plan | None, Signed, Ceiling]]) -> Any:
    """A judge that is told something else."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        right = module.decide
        patch.setattr(module, "decide", lambda a, b, c, *rest: right(*change(a, b, c), *rest))

    return broken


def renumbered(candidate: Signed, version: int) -> Signed:
    made = candidate.plan
    return replace(candidate, plan=replace(made, policy=replace(made.policy, version=version)))


def at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "NOTICE_S", 0)


def dated_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "LogWord", lambda _: LogWord(0))


def all_together(patch: pytest.MonkeyPatch) -> None:
    """What waits holds with the first of them."""
    right = module.due

    def eager(docket: Docket, *rest: Any) -> tuple[Docket, tuple[Waiting, ...]]:
        later, held = right(docket, *rest)
        return (Docket(later.newest), (*held, *later.waiting)) if held else (later, held)

    patch.setitem(globals(), "due", eager)


TWINS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no notice": at_once,
    "whoever is enrolled takes any first policy": judging(lambda a, b, c: (a, b, replace(c, policy_version=None))),
    "a log that was dated back is believed": dated_back,
    "one role is enough": judging(lambda a, b, c: (a, b, replace(c, roles=1))),
    "no ceiling": judging(lambda a, b, c: (a, b, replace(c, rho_micro=FLOOR.rho_micro))),
    "old ones are taken": judging(lambda a, b, c: (a, renumbered(b, a.policy.version + 1) if a is not None else b, c)),
    "skips are no matter": blind_to("version"),
    "streams may be added": blind_to("stream"),
    "a pause is taken back by one": blind_to("paused"),
    "days are not looked at": blind_to("valid_until"),
    "epsilons are not looked at": blind_to("epsilon", "scale"),
    "all that waits holds with the first": all_together,
}
LONGER = ("all that waits holds with the first",)  # two policies, and days before and after the second


@pytest.mark.parametrize("twin", TWINS)
def test_a_judge_with_one_rule_missing_is_caught(
    write_policy: Write, quick: None, monkeypatch: pytest.MonkeyPatch, twin: str
) -> None:
    """Some short sequence gets round each of them."""
    TWINS[twin](monkeypatch)
    contents, length = ((BASE, *CONTENTS[2:6:3]), 4) if twin in LONGER else (CONTENTS, QUICK)
    assert any(sequences(write_policy("footfall"), length, contents))


def test_a_policy_that_comes_again_is_seen_no_earlier_and_no_later(write_policy: Write) -> None:
    """Played a hundred times, with a clock that was put back: what counts is when it was first seen."""
    was = write_policy("footfall")
    wide = signed(changed(was, version=2, epsilon=Decimal(2)))
    docket, _ = hear(Docket(plan(was)), wide, HIGH, FLOOR, NOW_S)
    for now_s in (NOW_S + DAY_S, NOW_S - 30 * DAY_S):
        again, verdict = hear(docket, wide, HIGH, FLOOR, now_s)
        assert again == docket and isinstance(verdict, Refuse) and verdict.reason == "old_policy"
        assert due(docket, HIGH, FLOOR, now_s) == (docket, ())
