"""What the archive says of the fleet at one instant."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from murmure_ingest import archive_watch
from murmure_ingest.archive import Archive, StoredPolicy
from murmure_ingest.archive_watch import GatewayState, Overview, StreamState, Watch
from murmure_ingest.gateways import publish_policy, revoke
from murmure_privacy import ledger, wire
from murmure_privacy.ledger import Ledger
from murmure_privacy.release import Release

MONDAY_S = 1_795_392_000  # 2026-11-23 00:00 UTC, 01:00 in Paris
QUARTER_S = 900
HOUR_S = 3600


def look(centre: Any, now_s: int) -> Overview:
    return Watch(centre.archive).look(now_s)


def gateway_of(seen: Overview, name: str = "gw-plaza") -> GatewayState:
    return next(one for one in seen.gateways if one.gateway == name)


def stream_of(seen: Overview, name: str) -> StreamState:
    return next(one for one in seen.streams if one.stream == name)


def feed(centre: Any, gateway: Any, quarters: int) -> None:
    for topic, sealed in gateway.history(quarters):
        centre.accept(topic, sealed)


def test_a_healthy_gateway_is_settled_heard_and_on_time(centre: Any) -> None:
    """Heard by its last node, nothing missing, the next node due a quarter-hour after it."""
    gateway = centre.gateway()
    feed(centre, gateway, 8)
    now_s = MONDAY_S + 8 * QUARTER_S + 60
    seen = look(centre, now_s)
    one = gateway_of(seen)
    assert (one.state, one.settled_seq, one.missing, one.heard_s) == ("active", 8, 0, MONDAY_S + 8 * QUARTER_S)
    assert one.health is None and one.outbox_age_s is None
    footfall, air = stream_of(seen, "plaza/footfall"), stream_of(seen, "plaza/pm2_5")
    assert footfall.due_s == MONDAY_S + 9 * QUARTER_S and footfall.late_s(now_s) == 0
    assert air.due_s == MONDAY_S + 3 * HOUR_S
    assert seen.newest_end_s == MONDAY_S + 2 * HOUR_S and seen.messages == 8


def test_a_silent_stream_grows_late_by_the_second(centre: Any) -> None:
    """Late is counted from the end of the node that did not come, stream by stream."""
    feed(centre, centre.gateway(), 8)
    now_s = MONDAY_S + 5 * HOUR_S
    seen = look(centre, now_s)
    assert stream_of(seen, "plaza/footfall").late_s(now_s) == 5 * HOUR_S - 9 * QUARTER_S
    assert stream_of(seen, "plaza/pm2_5").late_s(now_s) == 2 * HOUR_S


def test_a_stream_that_never_spoke_is_late_once_its_gateway_has_spoken(centre: Any) -> None:
    """Before a gateway is heard its streams are not awaited; then from its start on, even without one node."""
    gateway = centre.gateway()
    now_s = MONDAY_S + 6 * HOUR_S
    assert look(centre, now_s).streams == ()
    centre.accept(*gateway.health(HOUR_S, at_s=MONDAY_S + 5 * HOUR_S))
    seen = look(centre, now_s)
    assert stream_of(seen, "plaza/footfall").late_s(now_s) == 2 * HOUR_S - QUARTER_S
    assert stream_of(seen, "plaza/footfall").newest_end_s is None


def test_nothing_is_awaited_of_a_revoked_gateway_or_an_ended_policy(centre: Any) -> None:
    """Who was revoked is not silent, and what is not to be published any more is not late."""
    gateway = centre.gateway()
    feed(centre, gateway, 4)
    after_end_s = MONDAY_S + 400 * 86400
    assert stream_of(look(centre, after_end_s), "plaza/footfall").due_s is None
    revoke(centre.archive, gateway.name)
    seen = look(centre, MONDAY_S + 5 * HOUR_S)
    assert gateway_of(seen).state == "revoked"
    assert stream_of(seen, "plaza/footfall").due_s is None


def test_holes_are_counted(centre: Any) -> None:
    """Messages that are missing before the last one that came, wherever the holes are."""
    gateway = centre.gateway()
    arrivals = gateway.history(12)
    for number, (topic, sealed) in enumerate(arrivals, 1):
        if number not in (3, 4, 9):
            centre.accept(topic, sealed)
    one = gateway_of(look(centre, MONDAY_S + 12 * QUARTER_S))
    assert (one.settled_seq, one.missing) == (2, 3)
    missing = sum(last - first + 1 for first, last in centre.archive.missing(gateway.name))
    assert missing == one.missing


def test_a_clone_is_seen(centre: Any) -> None:
    """Two messages with one number quarantine the gateway, and only that one."""
    gateway, other = centre.gateway(), centre.gateway("gw-park", "park")
    feed(centre, gateway, 3)
    feed(centre, other, 3)
    twin = centre_twin(gateway)
    centre.accept(gateway.topic, twin)
    seen = look(centre, MONDAY_S + 3 * QUARTER_S)
    assert gateway_of(seen).state == "quarantined" and gateway_of(seen, "gw-park").state == "active"
    assert seen.conflicts == 1 and seen.refused == {"sequence_conflict": 1}


def centre_twin(gateway: Any) -> bytes:
    message = gateway.message(
        MONDAY_S + 3 * QUARTER_S,
        seq=3,
        previous=wire.digest(gateway.sealed[1]),
        outcomes=gateway.outcomes(MONDAY_S + 3 * QUARTER_S, value=9),
    )
    return wire.seal_message(message, gateway.secret)


def test_an_outbox_is_as_old_as_what_has_not_come(centre: Any) -> None:
    """Empty: 0; else what waits is younger than the newest node that came."""
    gateway = centre.gateway()
    feed(centre, gateway, 4)
    now_s = MONDAY_S + 3 * HOUR_S
    centre.accept(*gateway.health(600, at_s=MONDAY_S + 2 * HOUR_S, outbox_depth=0))
    assert gateway_of(look(centre, now_s)).outbox_age_s == 0
    centre.accept(*gateway.health(7200, at_s=MONDAY_S + 3 * HOUR_S, outbox_depth=8))
    one = gateway_of(look(centre, now_s))
    assert one.outbox_age_s == 2 * HOUR_S and one.heard_s == MONDAY_S + 3 * HOUR_S


def test_a_clock_that_is_ahead_does_not_keep_a_gateway_alive(centre: Any) -> None:
    """A report of tomorrow says nothing of today."""
    gateway = centre.gateway()
    feed(centre, gateway, 4)
    centre.accept(*gateway.health(600, at_s=MONDAY_S + 90 * 86400))
    assert gateway_of(look(centre, MONDAY_S + 9 * HOUR_S)).heard_s == MONDAY_S + HOUR_S


def test_a_report_is_opened_once(centre: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature costs more than all the rest: the same bytes are not verified again."""
    gateway = centre.gateway()
    centre.accept(*gateway.health(600))
    opened: list[bytes] = []
    real = wire.open_health

    def counted(sealed: bytes, key: bytes) -> Any:
        opened.append(sealed)
        return real(sealed, key)

    monkeypatch.setattr(archive_watch, "open_health", counted)
    watch = Watch(centre.archive)
    assert watch.look(MONDAY_S + 60).gateways == watch.look(MONDAY_S + 60).gateways and len(opened) == 1
    centre.accept(*gateway.health(1200))
    watch.look(MONDAY_S + 60)
    assert len(opened) == 2


def test_spending_is_what_a_ledger_says(centre: Any) -> None:
    """For any interval the archive finds the same largest spend as the gateway's own ledger over the same nodes."""
    gateway = centre.gateway()
    feed(centre, gateway, 110)  # past midnight in Paris: a day's node too
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(ledger.SCHEMA)
    book = Ledger(db)
    for outcome in centre.archive.outcomes("plaza/footfall", 0, 1 << 40):
        if isinstance(outcome, Release):
            book.charge(outcome.node, sum(n.rho_micro for n in outcome.noised), 10**9)
    spans = [(0, 1), (0, 96), (10, 11), (90, 96), (92, 110), (95, 200), (-20, 0), (-20, 400)]
    for first, last in spans:
        interval = MONDAY_S + first * QUARTER_S, MONDAY_S + last * QUARTER_S
        found = centre.archive.largest_spend("plaza/footfall", *interval)
        assert found == book.spent_rho_micro("plaza/footfall", *interval), (first, last)
    assert centre.archive.largest_spend("plaza/footfall", MONDAY_S, MONDAY_S + 86400) > 0


def test_spending_stands_beside_its_budget(centre: Any) -> None:
    """What a stream spent yesterday and today is within its policy's rho, and most of it on a whole day."""
    feed(centre, centre.gateway(), 110)
    one = stream_of(look(centre, MONDAY_S + 110 * QUARTER_S), "plaza/footfall")
    assert one.budget_rho_micro and one.spent_rho_micro
    assert 0.9 * one.budget_rho_micro < one.spent_rho_micro <= one.budget_rho_micro
    assert one.cap_share is None


def test_a_tank_fills_with_the_days(centre: Any, policy_text: Callable[..., bytes]) -> None:
    """A stream with a cap tells how full it is: each day that spent adds the same share."""
    gateway = centre.gateway(published=False)
    text = policy_text("plaza").replace(
        b'quantity = "footfall"', b'quantity = "footfall"\ncap = { units_per_day = 1, span = "30d", epsilon = 12 }'
    )
    publish_policy(centre.archive, centre.signed(text))
    gateway.policy = text
    feed(centre, gateway, 280)
    day = stream_of(look(centre, MONDAY_S + 20 * HOUR_S), "plaza/footfall").cap_share
    days = stream_of(look(centre, MONDAY_S + 68 * HOUR_S), "plaza/footfall").cap_share
    assert day and days and 2.5 * day < days < 1


def test_a_reader_sees_the_same(centre: Any) -> None:
    """A look through a read-only connection, as `/metrics` has it."""
    feed(centre, centre.gateway(), 4)
    reader = Archive.open(centre.config.archive, read_only=True)
    now_s = MONDAY_S + 2 * HOUR_S
    assert Watch(reader).look(now_s) == look(centre, now_s)
    reader.close()


@pytest.mark.parametrize(
    ("later", "last_day"),
    [
        ([], "2026-12-10"),
        ([("2026-12-11", "2027-12-10")], "2027-12-10"),  # it follows on the next day
        ([("2026-12-01", "2026-12-20")], "2026-12-20"),  # it takes over before
        ([("2026-12-12", "2027-12-10")], "2026-12-10"),  # a day lies between
        ([("2026-11-20", "2026-11-30")], "2026-11-30"),  # it has begun, and stops earlier
        ([("2026-12-01", "2026-12-05")], "2026-12-05"),  # it will, and the one before does not come back
        ([("2026-12-11", "2027-01-31"), ("2027-02-01", "2027-06-30")], "2027-06-30"),
        ([("2027-02-01", "2027-06-30"), ("2026-12-11", "2027-01-31")], "2027-01-31"),  # the last word is the newest
        ([("2026-12-11", "2027-06-30"), ("2026-12-11", "2027-01-31")], "2027-01-31"),
    ],
)
def test_the_end_of_the_policies_counts_what_is_announced(
    centre: Any, policy_text: Callable[..., bytes], later: list[tuple[str, str]], last_day: str
) -> None:
    """Until the midnight in Paris after the last day that a policy covers; a hole of one day is an end."""
    centre.gateway(until="2026-12-10")
    for version, (first, last) in enumerate(later, 2):
        toml = policy_text("plaza", version, until=last).replace(b"2026-11-01", first.encode())
        with centre.archive.transaction():
            centre.archive.put_policy(StoredPolicy(wire.digest(toml), "plaza", version, toml, b""), MONDAY_S)
    end_s = int(datetime.fromisoformat(f"{last_day}T23:00:00+00:00").timestamp())
    summer_s = 3600 if last_day[5:7] == "06" else 0
    assert look(centre, MONDAY_S).policy_ends == {"plaza": end_s - summer_s}


def test_only_a_place_that_is_served_has_an_end(centre: Any, policy_text: Callable[..., bytes]) -> None:
    """A place that was given up ends nothing, nor does one without a policy; one whose day is over stays there."""
    centre.gateway("gw-bare", "bare", published=False)
    centre.gateway("gw-gone", "gone")
    revoke(centre.archive, "gw-gone")
    centre.gateway(until="2026-11-10")
    assert look(centre, MONDAY_S).policy_ends == {"plaza": 1_794_351_600}
