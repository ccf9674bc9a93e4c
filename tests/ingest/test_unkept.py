"""Whoever floods the archive with a stolen key hides nothing behind it: what is not kept counts as fully spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from murmure_ingest.archive import CONFLICTS_KEPT, Archive, Unfiled, charge_of
from murmure_ingest.enrolment import spent_before
from murmure_ingest.gateways import publish_policy
from murmure_ingest.inspection import inspect
from murmure_ingest.intake import Intake, Stored
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.release import Withheld

MONDAY_S = 1_795_392_000
DAY_S = 86_400
TUESDAY_S = MONDAY_S + DAY_S
NOW_S = TUESDAY_S + 7 * 3600


def free_of_charge(gateway: Any, count: int, **changes: Any) -> list[tuple[str, bytes]]:
    """What a thief signs with the gateway's key, each message another, none of which costs anything."""
    (node,) = (one.node for one in gateway.outcomes(MONDAY_S + 900) if one.node.level == "15min")
    return [
        (
            gateway.topic,
            wire.seal_message(
                gateway.message(
                    MONDAY_S + 900 + number,
                    outcomes=(Withheld(node, "sensor_absent"),),
                    **{"seq": 500 + number, "previous": bytes(32), **changes},
                ),
                gateway.secret,
            ),
        )
        for number in range(count)
    ]


def beyond_the_bytes(centre: Any, gateway: Any, archive: Archive) -> Intake:
    """The room for what is put aside is full."""
    intake = Intake(archive, RuleBook(archive), lambda: NOW_S, most_unfiled=Unfiled(10_000, 4096))
    intake.accept_many(free_of_charge(gateway, 40))
    return intake


def beyond_the_number(centre: Any, gateway: Any, archive: Archive) -> Intake:
    """There are so many that not even hashes are kept any more."""
    intake = Intake(archive, RuleBook(archive), lambda: NOW_S, most_unfiled=Unfiled(30, 1 << 24))
    intake.accept_many(free_of_charge(gateway, 40))
    return intake


def beyond_the_evidence(centre: Any, gateway: Any, archive: Archive) -> Intake:
    """The gateway's next numbers are taken, and a hundred other messages have one of them already."""
    intake = Intake(archive, RuleBook(archive), lambda: NOW_S)
    for seq in (3, 4, 5):
        intake.accept_many(free_of_charge(gateway, 1, seq=seq))
    intake.accept_many(free_of_charge(gateway, CONFLICTS_KEPT + 1, seq=3))
    return intake


def under_a_newer_policy(centre: Any, gateway: Any, archive: Archive) -> Intake:
    """The thief is the first to use the policy that was published last: the gateway's own is over then."""
    newer = gateway.policy.replace(b"version = 1", b"version = 2")
    publish_policy(centre.archive, centre.signed(newer))
    thief = replace(gateway, policy=newer, sealed=list(gateway.sealed))
    intake = Intake(archive, RuleBook(archive), lambda: NOW_S)
    outcomes = tuple(one for one in thief.outcomes(TUESDAY_S + 1800) if one.node.level == "15min")
    sealed = wire.seal_message(thief.message(TUESDAY_S + 1800, seq=500, outcomes=outcomes), thief.secret)
    assert isinstance(intake.accept(gateway.topic, sealed), Stored)
    return intake


WAYS = [beyond_the_bytes, beyond_the_number, beyond_the_evidence, under_a_newer_policy]
Way = Callable[[Any, Any, Archive], Intake]


def nothing_is_hidden(centre: Any, way: Way, kind: type[Archive]) -> None:
    """Three messages of the honest card come after the thief's: whatever became of them, the next gateway is told of
    no less than their nodes cost, and of what it believes."""
    gateway, archive = centre.gateway(), kind.open(centre.config.archive)
    try:
        centre.intake.accept_many(gateway.history(2))
        intake = way(centre, gateway, archive)
        words = [intake.accept(gateway.topic, gateway.seal(TUESDAY_S + hour * 3600)) for hour in (4, 5, 6)]
        assert not any(isinstance(word, Stored) for word in words)
        told = spent_before(archive, "plaza", NOW_S)
    finally:
        archive.close()
    for stream, from_s, until_s, most in told:
        assert 0 < until_s - from_s <= 373 * DAY_S and until_s <= NOW_S + 900 and 0 < most <= 1 << 40, stream
    charges = [
        (outcome.node.stream, outcome.node.covered_from_s, outcome.node.end_s, charge_of(outcome))
        for sealed in gateway.sealed
        for outcome in wire.open_message(sealed, wire.public_key(gateway.secret)).outcomes
        if charge_of(outcome)
    ]
    for name in ("plaza/footfall", "plaza/pm2_5"):
        own = [charge for charge in charges if charge[0] == name]
        assert own
        for _, at_s, _, _ in own:
            spent = sum(rho for _, begin_s, end_s, rho in own if begin_s <= at_s < end_s)
            most = sum(rho for stream, begin_s, end_s, rho in told if stream == name and begin_s <= at_s < end_s)
            assert spent <= most, "hidden"


@pytest.mark.parametrize("way", WAYS)
def test_nobody_hides_what_a_site_has_spent(centre: Any, way: Way) -> None:
    """Whichever bound a thief fills before the honest card speaks."""
    nothing_is_hidden(centre, way, Archive)
    assert inspect(centre.archive, RuleBook(centre.archive)).findings == []


class Forgetful(Archive):
    """Broken on purpose: what is not kept was not spent."""

    def unkept_until(self, site: str) -> int | None:
        return None


@pytest.mark.parametrize("way", WAYS)
def test_an_archive_that_forgets_what_it_did_not_keep_is_found_out(centre: Any, way: Way) -> None:
    """The twin tells the next gateway too little, each time."""
    with pytest.raises(AssertionError, match="hidden"):
        nothing_is_hidden(centre, way, Forgetful)


def flooded(centre: Any) -> list[tuple[str, int, int, int]]:
    gateway = centre.gateway()
    beyond_the_bytes(centre, gateway, centre.archive)
    return spent_before(centre.archive, "plaza", NOW_S, ["plaza/noise"])


def test_what_is_unknown_is_all_that_can_have_been(centre: Any) -> None:
    """In each stream of the site's policies and of the new gateway, for the longest that a cap looks back."""
    told = flooded(centre)
    assert {stream for stream, *_ in told} == {"plaza/footfall", "plaza/noise", "plaza/pm2_5"}
    assert {most for *_, most in told} == {1 << 40}
    assert all(from_s <= NOW_S - 372 * DAY_S and until_s == NOW_S + 900 for _, from_s, until_s, _ in told)


def test_no_other_site_pays_for_it(centre: Any) -> None:
    """Nor does this one for longer than a cap looks back, counted from the day on which something was not kept."""
    centre.gateway("gw-other", "other")
    assert flooded(centre)
    assert spent_before(centre.archive, "other", NOW_S) == []
    last = spent_before(centre.archive, "plaza", NOW_S + 371 * DAY_S)
    assert last and max(until_s for _, _, until_s, _ in last) <= TUESDAY_S + 2 * DAY_S
    assert spent_before(centre.archive, "plaza", NOW_S + 374 * DAY_S) == []


def test_a_flood_adds_a_line_a_day_to_what_is_noted(centre: Any) -> None:
    """However much is not kept."""
    gateway, now_s = centre.gateway(), [NOW_S]
    intake = Intake(centre.archive, RuleBook(centre.archive), lambda: now_s[0], most_unfiled=Unfiled(3, 1 << 24))
    intake.accept_many(free_of_charge(gateway, 50))
    assert len(centre.archive.forgotten()) == 1
    now_s[0] += DAY_S
    intake.accept_many(free_of_charge(gateway, 50))
    assert len(centre.archive.forgotten()) == 2
    assert centre.archive.unkept_until("plaza") == TUESDAY_S + 2 * DAY_S


def test_what_is_put_aside_whole_counts_as_it_is(centre: Any) -> None:
    """As long as all is kept, nothing is unknown: the next gateway begins with what was spent, and no more."""
    gateway = centre.gateway()
    centre.intake.accept_many(free_of_charge(gateway, 3))
    centre.intake.accept(gateway.topic, gateway.seal(TUESDAY_S + 4 * 3600))
    assert centre.archive.cloned(gateway.name) and centre.archive.unkept_until("plaza") is None
    assert 0 < max(most for *_, most in spent_before(centre.archive, "plaza", NOW_S)) < 1 << 30
