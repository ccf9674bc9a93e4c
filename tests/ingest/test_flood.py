"""Whoever has a gateway's key cannot fill the archive: what is not filed of one gateway is bounded, and told."""

from __future__ import annotations

from typing import Any

import pytest
from murmure_ingest.archive import Archive, Unfiled
from murmure_ingest.gateways import publish_policy
from murmure_ingest.inspection import inspect
from murmure_ingest.intake import MOST_UNFILED, Intake, Refused, Stored
from murmure_ingest.receipts import receipt
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire

MONDAY_S = 1_795_392_000
FEW = Unfiled(messages=60, aside_bytes=4096)


def bounded(centre: Any, archive: Archive | None = None) -> Intake:
    """An intake with the centre's archive, of which little may be filled."""
    archive = archive or centre.archive
    return Intake(archive, RuleBook(archive), lambda: centre.now_s, most_unfiled=FEW)


def kept(archive: Archive, gateway: str) -> int:
    return sum(len(message.sealed or b"") for message in archive.messages(gateway))


def flood(gateway: Any, count: int) -> list[tuple[str, bytes]]:
    """Messages that follow from nothing, each signed with the gateway's key."""
    first = len(gateway.sealed) + 1
    return [
        (gateway.topic, gateway.seal(MONDAY_S + 900 * seq, previous=bytes([seq % 251]) * 32))
        for seq in range(first, first + count)
    ]


RICH = """policy = 1
site = "plaza"
version = 1
timezone = "Europe/Paris"
decision = "Délibération n° 1"
reason = "Essai."
valid_from = 2026-11-01
valid_until = 2027-11-30
""" + "".join(
    f"""
[[stream]]
id = "plaza/{name}"
quantity = "{quantity}"
protects = {protects}
{rest}
epsilon = 1.0
nodes = {{ "15min" = 1, "1h" = 1, "1d" = 24 }}
"""
    for name, quantity, protects, rest in (
        *((f"footfall_{n}", "footfall", "{ crossings = 1 }", "") for n in (1, 2)),
        *(
            (
                f"noise_{n}",
                "noise",
                "{ seconds = 15 }",
                "readings = { cadence_ms = 1000, tail = 11 }\nbounds_db = [35, 85]",
            )
            for n in (1, 2, 3)
        ),
        *(
            (name, name, "{ seconds = 60 }", "readings = { cadence_ms = 1000, tail = 2 }\nbounds = [0, 100]")
            for name in ("pm1", "pm2_5", "pm10")
        ),
    )
)


def test_an_honest_year_is_kept_whole(releases: Any) -> None:
    """The bound leaves room for what one gateway says in a year, also with eight streams, three of them sound with all
    its indicators, each released every quarter-hour; and for 170 days of the largest messages that there can be."""
    gateway = releases.Gateway("gw-plaza", "centre", "plaza", wire.new_key()[0], RICH.encode())
    day = [sealed for _, sealed in gateway.history(96)]
    assert MOST_UNFILED.messages > 2 * 366 * len(day)
    assert 366 * 1000 * len(day) < 366 * sum(map(len, day)) < MOST_UNFILED.aside_bytes
    assert MOST_UNFILED.aside_bytes >= 170 * 96 * wire.MESSAGE_LIMIT


def the_flood_is_bounded(centre: Any, archive: Archive) -> None:
    """Of a hundred messages some are kept whole, some by their hash, the rest are only counted."""
    gateway = centre.gateway()
    intake = bounded(centre, archive)
    intake.accept_many(gateway.history(2))
    words = intake.accept_many(flood(gateway, 100))
    assert kept(archive, gateway.name) <= FEW.aside_bytes + sum(map(len, gateway.sealed[:2]))
    assert archive.message_count() == 2 + FEW.messages
    fates = [word.fate for word in words if isinstance(word, Refused)]
    assert fates[60:] == ["counted"] * 40
    assert fates[0] == "quarantined" and fates[59] == "refused" and "counted" not in fates[:60]


def test_a_flood_fills_a_bounded_part_of_the_archive(centre: Any) -> None:
    """In bytes and in rows; each refusal says so by its own word, and is counted by it."""
    the_flood_is_bounded(centre, centre.archive)
    full = centre.refused()["aside_full"]
    assert full == 100 - centre.refused()["chain_broken"] > 40
    assert centre.archive.cloned("gw-plaza"), "what is known by a hash alone tells of the fork all the same"


class Uncounted(Archive):
    """Broken on purpose: it does not know what it keeps."""

    def unfiled(self, gateway: str) -> Unfiled:
        return Unfiled(0, 0)


def test_an_archive_without_a_bound_is_found_out(centre: Any) -> None:
    """The twin keeps all hundred."""
    archive = Uncounted.open(centre.config.archive)
    with pytest.raises(AssertionError):
        the_flood_is_bounded(centre, archive)
    archive.close()


def test_a_flood_of_one_gateway_touches_no_other(centre: Any) -> None:
    """The neighbour's broken chain is still put aside whole."""
    loud, other = centre.gateway(), centre.gateway("gw-other", "other")
    intake = bounded(centre)
    intake.accept_many(flood(loud, 100))
    word = intake.accept(other.topic, other.seal(MONDAY_S + 900, previous=bytes(32 * [1])))
    assert isinstance(word, Refused) and (word.reason, word.fate) == ("chain_broken", "quarantined")
    assert kept(centre.archive, other.name) == len(other.sealed[0])


def test_what_is_settled_is_told_and_the_archive_stays_sound(centre: Any) -> None:
    """A receipt settles what is kept by its hash, as a fork; what was counted only it does not settle. The full check
    finds nothing, and a second centre that opens the file keeps to the same bound."""
    gateway = centre.gateway()
    bounded(centre).accept_many(flood(gateway, 100))
    told = wire.open_receipt(
        receipt(centre.archive, centre.archive.enrolment(gateway.name), centre.secret), wire.public_key(centre.secret)
    )
    assert (told.settled_seq, dict(told.exceptions)[60]) == (60, "forked")
    assert inspect(centre.archive, RuleBook(centre.archive)).findings == []
    second = Archive.open(centre.config.archive)
    word = bounded(centre, second).accept(*flood(gateway, 1)[0])
    assert isinstance(word, Refused) and (word.reason, word.fate) == ("aside_full", "counted")
    second.close()


def test_what_was_not_kept_is_never_filed(centre: Any) -> None:
    """The policy comes at last: what waited whole is filed, what is known by its hash stays refused, and its number is
    taken."""
    gateway = centre.gateway(published=False)
    intake = bounded(centre)
    arrivals = gateway.history(40)
    words = intake.accept_many(arrivals)
    whole = sum(isinstance(word, Refused) and word.fate == "quarantined" for word in words)
    assert 0 < whole < 40
    publish_policy(centre.archive, centre.signed(gateway.policy))
    assert [type(word) for word in intake.reconsider()] == [Stored] * whole
    assert intake.reconsider() == []
    found = centre.archive.find(gateway.name, 40)
    assert (found.disposition, found.reason, found.sealed) == ("refused", "unknown_policy", None)
    again = intake.accept(*arrivals[39])
    assert not isinstance(again, (Stored, Refused))
    assert len(centre.archive.outcomes("plaza/footfall", 0, 1 << 40)) < 40
    assert inspect(centre.archive, RuleBook(centre.archive)).findings == []


@pytest.mark.parametrize("beside", [False, True], ids=["in the same process", "in another"])
def test_room_comes_back(centre: Any, beside: bool) -> None:
    """Once what waited is forgotten, there is room for what must wait next."""
    gateway = centre.gateway(published=False)
    intake = bounded(centre)
    arrivals = gateway.history(41)
    intake.accept_many(arrivals[:38])
    archive = Archive.open(centre.config.archive) if beside else centre.archive
    for arrival in arrivals[38:40]:
        with archive.transaction():
            archive.count("duplicates")  # so that the other one has to look what has changed
        word = intake.accept(*arrival)
        assert isinstance(word, Refused) and word.fate == "refused"
    with archive.transaction():
        for table, row, _, message_hash, reason, _ in archive.aside():
            archive.forget(table, row, message_hash, reason, MONDAY_S)
    word = intake.accept(*arrivals[40])
    assert isinstance(word, Refused) and (word.reason, word.fate) == ("unknown_policy", "quarantined")
    if beside:
        archive.close()
