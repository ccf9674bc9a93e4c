"""After a theft: the gateway that comes next says nothing of what the thief has closed, and everything else is filed.

Real keys, enrolments, ledger, publisher, intake and archive; the clock stands where the test puts it.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from murmure_edge import enrol as edge
from murmure_edge.config import load_record_key
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.publisher import Identity, Publisher
from murmure_ingest.archive import Archive
from murmure_ingest.gateways import publish_policy, revoke
from murmure_ingest.inspection import inspect
from murmure_ingest.intake import AHEAD_S, Intake, Stored, Word
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.policy import parse
from murmure_privacy.release import Withheld

HOUR_S, DAYS = 3600, 6
POLICY = b"""policy = 1
site = "plaza"
version = 1
timezone = "Europe/Paris"
decision = "D 1"
reason = "R"
valid_from = 2026-11-01
valid_until = 2027-11-30

[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = { crossings = 1 }
epsilon = 1.0
nodes = { "1h" = 1, "6h" = 1, "1d" = 1, "1w" = 1 }
"""
LEVELS = 4


def enrolled(centre: Any, folder: Path, name: str, **changes: Any) -> Path:
    """Enrols a gateway. Returns the folder of its key and ledger."""
    code = centre.offer(name, **changes).text
    edge.enrol(code, centre.address, edge.Layout.beside(folder / name / "gateway.toml"), "0.1.0")
    return folder / name / "data"


def burn(intake: Intake, thief: Any, now_s: int) -> int:
    """Withholds for the clock every node that a stolen key can close at an instant. Returns how many."""
    ends_s = range(now_s + HOUR_S, now_s + DAYS * 24 * HOUR_S, HOUR_S)
    sealed: list[tuple[str, bytes]] = []
    for outcome in (outcome for end_s in ends_s for outcome in thief.outcomes(end_s)):
        held = (Withheld(outcome.node, "clock"),)
        message = thief.message(now_s, seq=1000 + 2 * len(sealed), previous=b"x" * 32, outcomes=held)
        sealed.append((thief.topic, wire.seal_message(message, thief.secret)))
    return sum(isinstance(word, Stored) for word in intake.accept_many(sealed))


def lives(data: Path, intake: Intake, now_s: int) -> list[Word]:
    """A gateway's next days, until after the end of the week, and what the centre says of each of its messages."""
    sent: list[tuple[str, bytes]] = []
    with closing(GatewayDb.open(data / "gateway.db")) as db:
        who = Identity("gw-next", "centre", "plaza", load_record_key(data / "record.key"))
        publisher = Publisher(
            db,
            who,
            DiscreteGaussian(),
            lambda _, sealed: sent.append(("murmure/v1/centre/gw-next/release", sealed)),
            pytest.fail,
        )
        publisher.start(now_s)
        publisher.adopt(parse(POLICY, "policy"), now_s)
        for at_s in range(now_s, now_s + DAYS * 24 * HOUR_S, HOUR_S):
            publisher.add("plaza/footfall", [(second * 1000, 0) for second in range(at_s, at_s + HOUR_S)])
            publisher.advance(at_s + HOUR_S)
    return intake.accept_many(sent)


def after_a_theft(centre: Any, folder: Path, releases: ModuleType) -> tuple[list[Word], list[str]]:
    """A key is stolen and used; it is revoked, and the next gateway comes. Returns what the centre says of that one's
    messages, and what a full check finds in the end."""
    now_s = int(centre.now[0].timestamp()) + 60
    data = enrolled(centre, folder, "gw-first")
    with closing(centre.archive()) as archive:
        publish_policy(archive, wire.seal_policy(POLICY, [("steward", centre.steward[0])]))
        intake = Intake(archive, RuleBook(archive), lambda: clock_s)
        thief = releases.Gateway("gw-first", "centre", "plaza", load_record_key(data / "record.key"), POLICY)
        clock_s = now_s
        assert burn(intake, thief, now_s - now_s % HOUR_S) == LEVELS
        revoke(archive, "gw-first")
        data = enrolled(centre, folder, "gw-next")
        clock_s += DAYS * 24 * HOUR_S + AHEAD_S
        return lives(data, intake, now_s), inspect(archive, RuleBook(archive)).findings


def test_nothing_of_the_next_gateway_is_lost(centre: Any, tmp_path: Path, releases: ModuleType) -> None:
    """Each of its messages is filed, in the week of the theft too; no node has two words, and the archive is sound."""
    words, findings = after_a_theft(centre, tmp_path, releases)
    assert len(words) == DAYS * 24 - 1 and {type(word) for word in words} == {Stored}
    assert findings == []


def test_a_centre_that_does_not_say_what_is_closed_is_found_out(
    centre: Any, tmp_path: Path, releases: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: whatever else closes at the same instants is lost with what the thief has taken."""
    monkeypatch.setattr(Archive, "closed_after", lambda *_: [])
    words, _ = after_a_theft(centre, tmp_path, releases)
    refused = [word.reason for word in words if not isinstance(word, Stored)]  # type: ignore[union-attr]
    assert refused == ["node_conflict"] * LEVELS
