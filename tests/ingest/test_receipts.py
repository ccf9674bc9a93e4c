"""What the centre's signed word says, and what it never says."""

from __future__ import annotations

from typing import Any

import pytest
from murmure_ingest import gateways
from murmure_ingest.receipts import receipt
from murmure_privacy import log, wire
from murmure_privacy.log import Growth
from murmure_privacy.release import Receipt

QUARTERS = 8
MONDAY_S = 1_795_392_000


def said(centre: Any, name: str = "gw-plaza") -> Receipt:
    sealed = receipt(centre.archive, centre.archive.enrolment(name), centre.secret)
    assert len(sealed) <= wire.MESSAGE_LIMIT
    return wire.open_receipt(sealed, wire.public_key(centre.secret))


def test_a_gateway_that_was_never_heard_is_told_so(centre: Any) -> None:
    """Nothing settled, nothing charged, and the version of the policy that it should have."""
    centre.gateway()
    here = centre.archive.log_checkpoint()
    assert here.size == 2, "it was enrolled, and has a policy"
    of_log = bytes(32) + log.growth_bytes(Growth(here))
    assert said(centre) == Receipt("gw-plaza", "centre", 0, bytes(32), (), 0, 1, of_log)


@pytest.mark.parametrize("missing", range(QUARTERS))
def test_settled_never_passes_a_hole(centre: Any, missing: int) -> None:
    """While one message is missing the receipt stays before it; once it has come, everything is settled."""
    gateway = centre.gateway()
    history = gateway.history(QUARTERS)
    centre.intake.accept_many(history[:missing] + history[missing + 1 :])
    before = said(centre)
    assert before.settled_seq == missing
    assert before.settled_hash == (wire.digest(gateway.sealed[missing - 1]) if missing else bytes(32))
    centre.accept(*history[missing])
    after = said(centre)
    assert (after.settled_seq, after.settled_hash) == (QUARTERS, wire.digest(gateway.sealed[-1]))
    assert after.checkpoint != before.checkpoint


def test_what_was_charged_is_the_sum_of_what_was_filed(centre: Any) -> None:
    """Withheld nodes, refused messages and duplicates cost nothing here."""
    gateway = centre.gateway()
    history = gateway.history(QUARTERS)
    centre.intake.accept_many(history * 2)
    filed = [
        n
        for s in centre.archive.streams()
        for o in centre.archive.outcomes(s.stream, 0, 1 << 40)
        for n in getattr(o, "noised", ())
    ]
    assert said(centre).charged_rho_micro == sum(n.rho_micro for n in filed) > 0


def test_the_newest_exceptions_fit_a_receipt(centre: Any) -> None:
    """With more refused messages than a receipt can carry, the newest are listed and the message stays within 4 KiB."""
    gateway = centre.gateway()
    arrivals = [(gateway.topic, gateway.seal(MONDAY_S + 900 * n, site="other")) for n in range(300)]
    centre.intake.accept_many(arrivals)
    exceptions = said(centre).exceptions
    assert exceptions == tuple((seq, "refused") for seq in range(45, 301))


def test_a_receipt_is_for_one_gateway(centre: Any) -> None:
    """What one gateway sent is not settled for another of the same site."""
    first, second = centre.gateway("gw-a"), centre.gateway("gw-b")
    centre.intake.accept_many(first.history(2))
    assert (said(centre, "gw-a").settled_seq, said(centre, "gw-b").settled_seq) == (2, 0)
    gateways.revoke(centre.archive, second.name)
    assert said(centre, "gw-a").settled_seq == 2


def test_what_is_missing_is_asked_for_by_number(centre: Any) -> None:
    """Every hole below the highest number is in the receipt, the oldest first, until it is filled."""
    gateway = centre.gateway()
    history = gateway.history(12)
    assert said(centre).again == ()
    centre.intake.accept_many([history[seq - 1] for seq in (3, 4, 7, 12)])
    assert said(centre).again == ((1, 2), (5, 6), (8, 11))
    centre.intake.accept_many(history[:5])
    assert said(centre).again == ((6, 6), (8, 11))
    centre.intake.accept_many(history)
    assert said(centre).again == () and said(centre).settled_seq == 12


def test_as_many_holes_as_fit_are_asked_for(centre: Any) -> None:
    """Every second message lost: the oldest ranges come first, the others when these are filled."""
    gateway = centre.gateway()
    history = gateway.history(100)
    centre.intake.accept_many(history[1::2])
    assert said(centre).again == tuple((seq, seq) for seq in range(1, 2 * wire.AGAIN_LIMIT, 2))
    centre.intake.accept_many(history[: 2 * wire.AGAIN_LIMIT])
    assert said(centre).again[0] == (2 * wire.AGAIN_LIMIT + 1, 2 * wire.AGAIN_LIMIT + 1)


def test_a_number_with_two_messages_is_told_to_both_cards(centre: Any) -> None:
    """The first stays filed, and yet the receipt calls its number forked: which card stands there is not known."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(2))
    other = wire.seal_message(gateway.message(MONDAY_S + 7200, seq=2, previous=bytes(32)), gateway.secret)
    centre.accept(gateway.topic, other)
    assert said(centre).exceptions == ((2, "forked"),)
    assert said(centre).settled_hash == wire.digest(gateway.sealed[1])
