"""A card that was cloned, or restored from a backup: two gateways with one key, before a real centre."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import murmure_edge.sense
import pytest
from murmure_edge.gateway_db import DiskFull, Told
from murmure_edge.inbox import OlderCopy, Refused, decide_receipt
from murmure_edge.outbox import name_of
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_ingest.intake import Intake, Word
from murmure_ingest.receipts import receipt
from murmure_ingest.rules import RuleBook
from murmure_privacy.errors import LedgerDamaged
from murmure_privacy.ledger import Charge
from murmure_privacy.plan import plan
from murmure_privacy.policy import parse
from murmure_privacy.release import Release
from murmure_privacy.window import parse_utc
from murmure_privacy.wire import digest, open_receipt, public_key

MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")
HOUR_S = 3600
NODES = '{ "1h" = 1, "1d" = 24 }'
TOPIC = "murmure/v1/centre/gw-plaza/release"
DUST = 'name = "dust"\ndevice = "sds011"\npath = "/nowhere/dust"\nstreams = { pm2_5 = "plaza/dust" }'


@dataclass
class Centre:
    """A real archive with its door, and the hands of `send`: letters go when the test says so."""

    archive: Archive
    intake: Intake
    enrolment: Enrolment
    secret: bytes

    def take(self, gateway: Any) -> list[Word]:
        """Everything that lies in a gateway's outbox, oldest first; it stays there until the receipt has come."""
        folder = gateway.enrolled.folder / "spool" / "outbox"
        return self.intake.accept_many([(TOPIC, path.read_bytes()) for path in sorted(folder.glob("0*.cose"))])

    def answer(self, gateway: Any) -> None:
        """What the broker retains for whoever has this name."""
        gateway.enrolled.drop("receipt.cose", receipt(self.archive, self.enrolment, self.secret))

    def values(self) -> dict[tuple[str, str, int], list[tuple[int, ...]]]:
        """Every value that is published, by node."""
        found: dict[tuple[str, str, int], list[tuple[int, ...]]] = {}
        for outcome in self.archive.outcomes("plaza/dust", 0, 1 << 40):
            if isinstance(outcome, Release):
                found.setdefault(outcome.node.key, []).append(outcome.noised[0].integers)
        return found


@pytest.fixture
def centre(
    tmp_path_factory: pytest.TempPathFactory, enrolled: Any, gateway_secret: bytes, write_policy: Callable[..., bytes]
) -> Iterator[Centre]:
    """The centre that the gateway was enrolled with, and policy 1 published."""
    archive = Archive.open(tmp_path_factory.mktemp("centre") / "archive.db")
    toml = write_policy(nodes=NODES)
    line = Enrolment("gw-plaza", "centre", "plaza", public_key(gateway_secret), (public_key(enrolled.steward),), 1)
    with archive.transaction():
        line = archive.enrol(line)
        archive.put_policy(StoredPolicy(digest(toml), "plaza", 1, toml, enrolled.policy(toml)))
    yield Centre(archive, Intake(archive, RuleBook(archive), lambda: 1 << 40), line, enrolled.centre)
    archive.close()


class Cards:
    """Gateways on cards, and copies of cards. No two of them ever draw one number."""

    def __init__(self, turned_kind: Any, numbered: Callable[[int], Any], folder: Callable[[str], Path]) -> None:
        self._kind, self._numbered, self._folder = turned_kind, numbered, folder
        self.gateways: list[Any] = []

    def start(self, card: Any) -> Any:
        first_draw = 1 + 10**6 * len(self.gateways)
        self.gateways.append(self._kind(card, self._numbered(first_draw), DUST))
        return self.gateways[-1]

    def copied(self, gateway: Any) -> Any:
        """The card as it is now. The gateway is switched off for it and on again."""
        gateway.db.close()
        folder = self._folder("copy") / "card"
        shutil.copytree(gateway.enrolled.folder, folder)
        gateway.start()
        return replace(gateway.enrolled, folder=folder)


@pytest.fixture
def cards(
    tmp_path_factory: pytest.TempPathFactory, turned_kind: Any, numbered: Callable[[int], Any]
) -> Iterator[Cards]:
    """Closes what it started."""
    made = Cards(turned_kind, numbered, tmp_path_factory.mktemp)
    yield made
    for gateway in made.gateways:
        gateway.db.close()


@pytest.fixture
def first(cards: Cards, enrolled: Any, write_policy: Callable[..., bytes]) -> Any:
    """The gateway itself, two hours after midnight."""
    gateway = cards.start(enrolled)
    enrolled.drop("policy-1.cose", enrolled.policy(write_policy(nodes=NODES)))
    gateway.batch("dust", MIDNIGHT_S)
    gateway.live(MIDNIGHT_S, MIDNIGHT_S + 2 * HOUR_S)
    return gateway


def lives_on(gateway: Any, from_s: int) -> bool:
    """Whether a gateway to whom the centre's receipt has come publishes anything more, now or after a restart."""
    folder = gateway.enrolled.folder
    before = gateway.db.next_message()
    for life in range(3):
        start_s = from_s + life * 3 * HOUR_S
        try:
            if life:
                gateway.restart()
            gateway.batch("dust", start_s)
            gateway.live(start_s, start_s + 3 * HOUR_S)
        except LedgerDamaged as end:
            assert "is an older copy, or has a clone" in str(end) and "enrol the gateway anew" in str(end)
            assert "\n" not in str(end)
        (folder / "spool" / "inbox" / "receipt.cose").unlink(missing_ok=True)  # `send` may lose it now
    return bool(gateway.db.next_message() != before or gateway.enrolled.outbox())


def test_of_two_clones_nothing_new_is_filed_and_both_fall_silent(first: Any, cards: Cards, centre: Centre) -> None:
    """Side by side: the first message of a number stays, the second is evidence, and both cards say no more."""
    second = cards.start(cards.copied(first))
    for gateway in (first, second):
        gateway.batch("dust", MIDNIGHT_S + 2 * HOUR_S)
        gateway.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 3 * HOUR_S)
    centre.take(first)
    kept = centre.values()
    words = centre.take(second)
    assert [getattr(word, "reason", "known") for word in words] == ["known"] * 2 + ["sequence_conflict"]
    assert [reason for *_, reason in centre.archive.conflicts()] == ["sequence_conflict"]
    assert centre.values() == kept and all(len(values) == 1 for values in kept.values())
    assert centre.archive.exceptions("gw-plaza", 3) == [(3, "forked")]
    for gateway in (first, second):
        centre.answer(gateway)
        assert not lives_on(gateway, MIDNIGHT_S + 3 * HOUR_S)


def test_clones_that_speak_in_turns_are_put_aside_whole(first: Any, cards: Cards, centre: Centre) -> None:
    """Unheard by the centre's receipts, they go on: from the first contradiction on all is kept and nothing filed."""
    second = cards.start(cards.copied(first))
    at_s = {id(first): MIDNIGHT_S + 2 * HOUR_S, id(second): MIDNIGHT_S + 2 * HOUR_S}
    kept = None
    for turn in range(6):
        gateway = (first, second)[turn % 2]
        now_s = at_s[id(gateway)]
        gateway.batch("dust", now_s)
        gateway.live(now_s, now_s + 2 * HOUR_S)
        at_s[id(gateway)] = now_s + 2 * HOUR_S
        centre.take(gateway)
        kept = kept or centre.values()
    assert centre.values() == kept, "what was filed before the second card spoke, and nothing else"
    assert all(len(values) == 1 for values in kept.values())
    words = {reason for _, _, _, reason in centre.archive.conflicts()}
    words |= {message.reason for message in centre.archive.messages("gw-plaza")}
    assert words == {"", "sequence_conflict", "cloned"}
    assert centre.archive.cloned("gw-plaza")


def test_a_centre_that_files_on_is_caught(
    first: Any, cards: Cards, centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: without the quarantine a stolen card fills in what the true one has not said yet."""
    monkeypatch.setattr(Archive, "cloned", lambda *_: False)
    second = cards.start(cards.copied(first))
    for gateway, hours in ((first, 3), (second, 4)):
        gateway.batch("dust", MIDNIGHT_S + 2 * HOUR_S)
        gateway.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + hours * HOUR_S)
    centre.take(first)
    kept = centre.values()
    centre.take(second)
    second.batch("dust", MIDNIGHT_S + 4 * HOUR_S)
    second.live(MIDNIGHT_S + 4 * HOUR_S, MIDNIGHT_S + 6 * HOUR_S)
    centre.take(second)
    assert centre.values() != kept


@pytest.mark.parametrize("lost", [1, 2])
def test_a_restored_card_is_known_though_a_message_is_still_on_its_way(
    first: Any, cards: Cards, centre: Centre, lost: int
) -> None:
    """The receipt stands before the card's end, number and hash agree: what was charged, or asked for, does not."""
    card = cards.copied(first)
    first.batch("dust", MIDNIGHT_S + 2 * HOUR_S)
    first.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 5 * HOUR_S)
    (first.enrolled.folder / "spool" / "outbox" / name_of(lost)).unlink()
    centre.take(first)
    restored = cards.start(card)
    sealed = receipt(centre.archive, centre.enrolment, centre.secret)
    said = open_receipt(sealed, public_key(centre.secret))
    assert (said.settled_seq, said.again) == (lost - 1, ((lost, lost),))
    restored.enrolled.drop("receipt.cose", sealed)
    assert not lives_on(restored, MIDNIGHT_S + 6 * HOUR_S)
    told = restored.db.told().older_copy or ""
    assert ("micro-rho" in told, "after 2" in told) == (lost == 1, lost == 2)
    first.enrolled.drop("receipt.cose", sealed)
    assert lives_on(first, MIDNIGHT_S + 6 * HOUR_S), "the card itself goes on"


def test_clones_that_went_on_unheard_all_fall_silent(first: Any, cards: Cards, centre: Centre) -> None:
    """Once the second has sent two messages, its own is the last that is settled: the fork itself is told to both."""
    second = cards.start(cards.copied(first))
    for gateway, hours in ((first, 3), (second, 4)):
        gateway.batch("dust", MIDNIGHT_S + 2 * HOUR_S)
        gateway.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + hours * HOUR_S)
    centre.take(first)
    kept = centre.values()
    centre.take(second)
    assert centre.values() == kept
    assert centre.archive.totals("gw-plaza").settled_hash == digest(second.db.rows()[4])
    assert centre.archive.exceptions("gw-plaza", 4) == [(3, "forked"), (4, "forked")]
    for gateway in (first, second):
        centre.answer(gateway)
        assert not lives_on(gateway, MIDNIGHT_S + 4 * HOUR_S)


@pytest.mark.parametrize("lost", ["ahead", "another message"])
def test_a_restored_card_falls_silent_at_the_first_receipt(first: Any, cards: Cards, centre: Centre, lost: str) -> None:
    """A backup of yesterday: the centre knows more messages than the card, or others under the same numbers."""
    card = cards.copied(first)
    first.batch("dust", MIDNIGHT_S + 2 * HOUR_S)
    first.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 5 * HOUR_S)
    centre.take(first)
    restored = cards.start(card)
    restored.batch("dust", MIDNIGHT_S + 6 * HOUR_S)
    if lost == "another message":
        restored.live(MIDNIGHT_S + 6 * HOUR_S, MIDNIGHT_S + 12 * HOUR_S)
    centre.answer(restored)
    assert not lives_on(restored, MIDNIGHT_S + 12 * HOUR_S)


def test_a_gateway_that_disbelieves_such_receipts_is_caught(
    first: Any, cards: Cards, centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what the centre says of a fork is one more letter that is not believed."""

    def gullible(*letter: Any) -> Any:
        verdict = decide_receipt(*letter)
        return Refused("other_message", verdict.detail) if isinstance(verdict, OlderCopy) else verdict

    monkeypatch.setattr(murmure_edge.sense, "decide_receipt", gullible)
    card = cards.copied(first)
    first.batch("dust", MIDNIGHT_S + 2 * HOUR_S)
    first.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 5 * HOUR_S)
    centre.take(first)
    restored = cards.start(card)
    centre.answer(restored)
    assert lives_on(restored, MIDNIGHT_S + 6 * HOUR_S)


def test_what_a_receipt_has_shown_holds_on_a_full_disk(first: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room to remember it the gateway stops all the same, and the receipt says it again."""

    def full(_: Told) -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(first.db, "remember", full)
    first.enrolled.drop("receipt.cose", first.enrolled.receipt(9, b"never sent"))
    with pytest.raises(LedgerDamaged, match="the centre has settled message 9, and 2 is the newest here"):
        first.batch("dust", MIDNIGHT_S + 2 * HOUR_S + 1)
    assert first.enrolled.outbox() == []
    monkeypatch.undo()
    first.restart()
    with pytest.raises(LedgerDamaged, match="older copy"):
        first.batch("dust", MIDNIGHT_S + 3 * HOUR_S)


# --- what both lives cost --------------------------------------------------------------------------------------------


def largest_spend(lives: list[list[Charge]]) -> int:
    """Returns the largest sum of micro-rho at any instant, over the lines of several lives; what they share is one."""
    lines = {line for life in lives for line in life if line.rho_micro}
    return max(
        sum(line.rho_micro for line in lines if line.covered_from_s <= at_s < line.end_s)
        for at_s in {line.covered_from_s for line in lines}
    )


@pytest.mark.parametrize(("behind_s", "within"), [(0, True), (3 * HOUR_S, False)], ids=["right", "three hours behind"])
def test_a_backup_of_the_same_day_spends_nothing_twice_while_the_clock_is_right(
    first: Any, cards: Cards, write_policy: Callable[..., bytes], behind_s: int, within: bool
) -> None:
    """No receipt comes at all, and both lives publish: what they have in common is no instant. (The twin: a clock that
    went back with the card, which the restored ledger cannot know, pays for the same hours again.)"""
    card = cards.copied(first)
    first.batch("dust", MIDNIGHT_S + 2 * HOUR_S)
    first.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 6 * HOUR_S + 60)
    restored = cards.start(card)
    start_s = MIDNIGHT_S + 6 * HOUR_S + 600 - behind_s
    restored.batch("dust", start_s)
    restored.live(start_s, MIDNIGHT_S + 30 * HOUR_S)
    budget = plan(parse(write_policy(nodes=NODES), "policy")).streams["plaza/dust"].rho_micro
    spent = largest_spend([list(gateway.db.ledger.lines()) for gateway in (first, restored)])
    assert (spent <= budget) == within
    assert spent > budget // 2
