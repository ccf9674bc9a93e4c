"""One key follows another: what the centre believes of each, and that whoever stole the old one has stolen nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from murmure_ingest import rotation
from murmure_ingest.broker import changed_in
from murmure_ingest.courier import import_folder
from murmure_ingest.enrolment import Claims, offer_rotation
from murmure_ingest.gateways import RegisterError, revoke
from murmure_ingest.inspection import inspect
from murmure_ingest.intake import Conflict, Duplicate, Heard, Stored
from murmure_ingest.rotation import file_rotation, unsigned_changes
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.enrolment import CHANGES_KEY, Rotation

MONDAY_S = 1_795_392_000
QUARTERS = 6


def word(gateway: Any, new: bytes, first: int = 1) -> Rotation:
    """Returns what a gateway says when it changes its key: all that it sealed from number `first` on still waits."""
    waiting = tuple(wire.digest(sealed) for sealed in gateway.sealed[first - 1 :])
    return Rotation(gateway.name, wire.public_key(gateway.secret), new, first, waiting)


def named(centre: Any, gateway: Any, change: Rotation, secret: bytes | None = None) -> None:
    """Files it, as the door does."""
    signature = Ed25519PrivateKey.from_private_bytes(secret or gateway.secret).sign(CHANGES_KEY + change.statement)
    with centre.archive.transaction():
        file_rotation(centre.archive, gateway.name, change.new, change.statement, signature)


def changed(centre: Any, gateway: Any, first: int = 1) -> Any:
    """Returns the gateway with a new key, which the centre knows of and has not heard yet."""
    secret, public = wire.new_key()
    named(centre, gateway, word(gateway, public, first))
    return replace(gateway, secret=secret)


def quarter(gateway: Any) -> bytes:
    """Seals the next quarter-hour's message."""
    sealed: bytes = gateway.seal(MONDAY_S + (len(gateway.sealed) + 1) * 900)
    return sealed


def key_of(centre: Any) -> bytes:
    key: bytes = centre.archive.enrolment("gw-plaza").record_key
    return key


@pytest.mark.parametrize("kind", ["release", "health"])
def test_the_new_key_takes_over_with_its_first_word(centre: Any, kind: str) -> None:
    """Until then the old one speaks; from then on nothing but what waited, and the register has one line more."""
    old = centre.gateway()
    old.history(2)
    new = changed(centre, old)
    assert isinstance(centre.accept(old.topic, quarter(old)), Stored), "nobody knows whether it got the answer"
    assert key_of(centre) == wire.public_key(old.secret) and changed_in(centre.config) == []
    centre.accept(*new.health(60)) if kind == "health" else centre.accept(new.topic, quarter(new))
    assert key_of(centre) == wire.public_key(new.secret) and changed_in(centre.config) == ["gw-plaza"]
    assert len(centre.archive.lines_of("gw-plaza")) == 2 and list(unsigned_changes(centre.archive)) == []
    assert [type(centre.accept(old.topic, sealed)) for sealed in old.sealed[:2]] == [Stored] * 2
    assert isinstance(centre.accept(old.topic, old.sealed[2]), Duplicate), "settled, though no word lists it"
    late = wire.seal_message(old.message(MONDAY_S + 9000), old.secret)
    assert centre.accept(old.topic, late).reason == "retired_key"


def test_what_waited_is_filed_weeks_later_in_any_order(centre: Any) -> None:
    """The new key has spoken long since; the old one's messages come by courier, the newest first."""
    old = centre.gateway()
    old.history(QUARTERS)
    new = changed(centre, old)
    for _ in range(QUARTERS):
        assert isinstance(centre.accept(new.topic, quarter(new)), Stored)
    for sealed in reversed(new.sealed[:QUARTERS]):
        assert isinstance(centre.accept(old.topic, sealed), Stored)
    assert centre.archive.totals("gw-plaza").settled_seq == 2 * QUARTERS
    assert [m.sealed for m in centre.archive.messages("gw-plaza")] == new.sealed
    assert len(centre.archive.outcomes("plaza/footfall", MONDAY_S, MONDAY_S + 86_400)) > 2 * QUARTERS
    report = inspect(centre.archive, RuleBook(centre.archive))
    assert (report.findings, report.messages) == ([], 2 * QUARTERS)


def test_a_courier_carries_both_keys_messages(centre: Any, tmp_path: Path) -> None:
    """A stick has no topics: whoever signed is found by either key, and gets one receipt."""
    old = centre.gateway()
    old.history(2)
    new = changed(centre, old)
    quarter(new)
    (tmp_path / "stick" / "outbox").mkdir(parents=True)
    (tmp_path / "stick" / "inbox").mkdir()
    for number, sealed in enumerate(reversed(new.sealed)):
        (tmp_path / "stick" / "outbox" / f"{number}.cose").write_bytes(sealed)
    words = import_folder(tmp_path / "stick", centre.archive, centre.intake, centre.secret)
    assert [type(one) for one in words] == [Stored] * 3
    receipt = wire.open_receipt(
        (tmp_path / "stick" / "inbox" / "receipt.cose").read_bytes(), wire.public_key(centre.secret)
    )
    assert receipt.settled_seq == 3


FORGERIES: dict[str, Callable[[Any, Any], tuple[str, bytes]]] = {
    "a new number": lambda thief, new: (
        thief.topic,
        wire.seal_message(new.message(MONDAY_S + 90_000), thief.secret),
    ),
    "a number far ahead": lambda thief, new: (
        thief.topic,
        wire.seal_message(new.message(MONDAY_S + 90_000, seq=500), thief.secret),
    ),
    "a number that waits, in other words": lambda thief, new: (
        thief.topic,
        wire.seal_message(thief.message(MONDAY_S + 900, seq=2, previous=wire.digest(new.sealed[0])), thief.secret),
    ),
    "a settled number, in other words": lambda thief, new: (
        thief.topic,
        wire.seal_message(thief.message(MONDAY_S + 90_000, seq=1, previous=wire.FIRST_PREVIOUS), thief.secret),
    ),
    "a node that has its release": lambda thief, new: (
        thief.topic,
        wire.seal_message(new.message(MONDAY_S + 900), thief.secret),
    ),
    "a report": lambda thief, new: thief.health(1 << 40, boot=1 << 20),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_whoever_stole_the_old_key_has_stolen_nothing(centre: Any, forgery: str) -> None:
    """Nothing new is filed, nothing that waits is taken from it, nobody is made a clone, no trace is left; the gateway
    goes on. Before the change, the same forgeries are filed, or condemn the gateway (the next test)."""
    old = centre.gateway()
    old.history(3)
    new = changed(centre, old)
    quarter(new)
    for seq in (1, 4):
        assert isinstance(centre.accept(new.topic, new.sealed[seq - 1]), Stored)
    centre.accept(*new.health(60))
    before = centre.content()
    assert centre.accept(*FORGERIES[forgery](old, new)).reason == "retired_key"
    assert centre.content() == before and not centre.archive.cloned("gw-plaza")
    assert [report.uptime_s for report in centre.archive.health()] == [60]
    assert [type(centre.accept(new.topic, sealed)) for sealed in new.sealed[1:3]] == [Stored] * 2
    assert isinstance(centre.accept(*new.health(120)), Heard)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_without_a_change_a_stolen_key_is_heard(centre: Any, forgery: str) -> None:
    """The test before could fail: with the key still in force each of its forgeries is filed or kept as evidence."""
    gateway = centre.gateway()
    gateway.history(3)
    quarter(gateway)
    for seq in (1, 4):
        centre.accept(gateway.topic, gateway.sealed[seq - 1])
    before = centre.content()
    said = centre.accept(*FORGERIES[forgery](gateway, gateway))
    assert isinstance(said, Heard | Stored | Conflict) or said.fate == "quarantined"
    assert centre.content() != before or isinstance(said, Heard)


def test_a_report_of_the_old_key_keeps_no_later_one_out(centre: Any) -> None:
    """Whoever has the old key dates a report to the end of time before the new key speaks: it goes with the key."""
    old = centre.gateway()
    new = changed(centre, old)
    assert isinstance(centre.accept(*old.health(1 << 40, boot=1 << 20)), Heard)
    assert isinstance(centre.accept(*new.health(1)), Heard)
    assert [report.uptime_s for report in centre.archive.health()] == [1]


def test_a_second_change_before_the_first_word(centre: Any) -> None:
    """Two changes without a network: the messages of all three keys are filed, and the one in between takes over."""
    first = centre.gateway()
    first.history(2)
    second = changed(centre, first)
    quarter(second)
    third = changed(centre, second)
    assert key_of(centre) == wire.public_key(second.secret), "whose word the centre has heard: it named the third"
    quarter(third)
    for sealed in reversed(third.sealed):
        assert isinstance(centre.accept(third.topic, sealed), Stored)
    assert key_of(centre) == wire.public_key(third.secret) and list(unsigned_changes(centre.archive)) == []
    stale = wire.seal_message(third.message(MONDAY_S + 9000), second.secret)
    assert centre.accept(third.topic, stale).reason == "retired_key"


def test_a_change_that_was_given_up_is_void(centre: Any) -> None:
    """The gateway never had the answer and begins anew with another code: only the key that was named last counts."""
    old = centre.gateway()
    given_up, new = changed(centre, old), changed(centre, old)
    stale = wire.seal_message(old.message(MONDAY_S + 900), given_up.secret)
    assert centre.accept(old.topic, stale).reason == "retired_key"
    assert isinstance(centre.accept(new.topic, quarter(new)), Stored)
    assert centre.accept(old.topic, stale).reason == "retired_key"


def test_a_gateway_that_asks_again_lists_more(centre: Any) -> None:
    """After a power cut it went on with the old key; the newer word counts, an older one that comes late does not."""
    old = centre.gateway()
    secret, public = wire.new_key()
    earlier = word(old, public)
    named(centre, old, earlier)
    quarter(old)
    named(centre, old, word(old, public))
    named(centre, old, word(old, public))
    assert len(centre.archive.rotations("gw-plaza", public)) == 2, "the same word again is no second one"
    with pytest.raises(RegisterError, match="a later request already"):
        named(centre, old, earlier)
    new = replace(old, secret=secret)
    assert isinstance(centre.accept(*new.health(60)), Heard)
    assert isinstance(centre.accept(old.topic, old.sealed[0]), Stored)


def test_only_the_key_that_speaks_names_its_successor(centre: Any) -> None:
    """A stranger's signature, another gateway's word, a key that is over, a key that is taken: each is refused."""
    old, other = centre.gateway(), centre.gateway("gw-other", "other")
    stranger, public = wire.new_key()
    true = word(old, public)
    for change, secret, says in (
        (true, stranger, "not signed by the key that speaks"),
        (replace(true, old=wire.public_key(stranger)), stranger, "not signed by the key that speaks"),
        (replace(true, gateway="gw-other"), old.secret, "is not gw-plaza's"),
        (replace(true, new=true.old), old.secret, "stands in the register already"),
        (replace(true, new=wire.public_key(other.secret)), old.secret, "stands in the register already"),
    ):
        with pytest.raises(RegisterError, match=says):
            named(centre, old, change, secret)
    with centre.archive.transaction(), pytest.raises(RegisterError, match="cannot be read"):
        file_rotation(centre.archive, "gw-plaza", public, b"{}", bytes(64))
    with centre.archive.transaction(), pytest.raises(RegisterError, match="is not gw-plaza's"):
        file_rotation(centre.archive, "gw-plaza", wire.new_key()[1], true.statement, bytes(64))
    new = changed(centre, old)
    centre.accept(*new.health(60))
    with pytest.raises(RegisterError, match="not signed by the key that speaks"):
        named(centre, old, word(old, wire.new_key()[1]))
    with pytest.raises(RegisterError, match="stands in the register already"):
        named(centre, new, word(new, wire.public_key(old.secret)))


def test_who_may_not_speak_may_not_change_its_key(centre: Any, tmp_path: Path) -> None:
    """Unknown, revoked, cloned: no code is offered and no word is filed; the line says what to do."""
    gateway = centre.gateway()
    claims = Claims(centre.config.data_dir)

    def refused(says: str, name: str = "gw-plaza") -> None:
        with pytest.raises(RegisterError, match=says):
            offer_rotation(centre.archive, centre.config, claims, name, None)  # type: ignore[arg-type]

    refused("the register does not know it", "gw-nobody")
    quarter(gateway)
    centre.accept(gateway.topic, gateway.sealed[0])
    centre.accept(gateway.topic, wire.seal_message(gateway.message(MONDAY_S + 900, seq=1), gateway.secret))
    refused("two cards have spoken with its key, .* --replaces gw-plaza")
    with pytest.raises(RegisterError, match="two cards have spoken"):
        changed(centre, gateway)
    revoke(centre.archive, "gw-plaza")
    refused("it is revoked; enrol a new one with --replaces gw-plaza")
    claims.close()


def test_a_revoked_gateway_is_silent_under_each_key(centre: Any) -> None:
    """Neither what waited nor a key that was named before lets it speak again."""
    old = centre.gateway()
    old.history(2)
    new = changed(centre, old)
    revoke(centre.archive, "gw-plaza")
    for sealed in (old.sealed[0], quarter(new)):
        assert centre.accept(old.topic, sealed).reason == "revoked_gateway"
    assert centre.accept(*new.health(60)).reason == "revoked_gateway"


def test_a_key_that_nobody_named_is_found(centre: Any) -> None:
    """Whoever can write the archive's file cannot slip in a key: the full check misses the old key's signature."""
    gateway = centre.gateway()
    line = centre.archive.enrolment("gw-plaza")
    with centre.archive.transaction():
        centre.archive.enrol(replace(line, record_key=wire.new_key()[1]))
    (found,) = inspect(centre.archive, RuleBook(centre.archive)).findings
    assert "gw-plaza: line 2 of the register has a key that the one before it did not name" in found
    assert centre.accept(gateway.topic, quarter(gateway)).reason == "retired_key"


def test_the_likeliest_key_is_tried_first(centre: Any) -> None:
    """A gateway that never changed its key costs one look at the register and one check of a signature."""
    old = centre.gateway()
    assert list(rotation.keys_of(centre.archive, centre.archive.enrolment("gw-plaza"))) == [wire.public_key(old.secret)]
    new = changed(centre, old)
    keys = list(rotation.keys_of(centre.archive, centre.archive.enrolment("gw-plaza")))
    assert keys == [wire.public_key(old.secret), wire.public_key(new.secret)]
    centre.accept(*new.health(60))
    assert list(rotation.keys_of(centre.archive, centre.archive.enrolment("gw-plaza"))) == keys[::-1]
