"""A centre that lost messages asks for them by number, and gets the bytes of then: nothing is drawn or signed anew.

The real archive, intake and receipts, and a gateway whose turns the test takes; the test is `send`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import murmure_edge.sense
import pytest
from murmure_edge.outbox import Outbox, name_of
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_ingest.intake import Intake, Refused, Stored, Word
from murmure_ingest.receipts import receipt
from murmure_ingest.rules import RuleBook
from murmure_privacy.window import parse_utc
from murmure_privacy.wire import digest, open_message, open_receipt, public_key, seal_message, seal_receipt

MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")
HOUR_S = 3600
NODES = '{ "1h" = 1, "1d" = 24 }'
TOPIC = "murmure/v1/centre/gw-plaza/release"


class Centre:
    """One archive that can be put back to an earlier day."""

    def __init__(self, folder: Path, line: Enrolment, secret: bytes) -> None:
        self.path, self.line, self.secret = folder / "archive.db", line, secret
        self.archive = Archive.open(self.path)

    def take(self, gateway: Any) -> list[Word]:
        """Everything in the outbox folder, oldest first."""
        folder = gateway.enrolled.folder / "spool" / "outbox"
        sealed = [path.read_bytes() for path in sorted(folder.glob("0*.cose"))]
        return Intake(self.archive, RuleBook(self.archive), lambda: 1 << 40).accept_many(
            [(TOPIC, one) for one in sealed]
        )

    def answer(self, gateway: Any) -> None:
        gateway.enrolled.drop("receipt.cose", receipt(self.archive, self.line, self.secret))

    def settled(self) -> int:
        return self.archive.totals("gw-plaza").settled_seq

    def backup(self) -> Path:
        self.archive.close()
        copy = Path(shutil.copy(self.path, self.path.with_suffix(".backup")))
        self.archive = Archive.open(self.path)
        return copy

    def restore(self, copy: Path) -> None:
        self.archive.close()
        shutil.copy(copy, self.path)
        self.archive = Archive.open(self.path)


@pytest.fixture
def centre(
    tmp_path: Path, enrolled: Any, gateway_secret: bytes, write_policy: Callable[..., bytes]
) -> Iterator[Centre]:
    """The centre that the gateway was enrolled with, and policy 1 published."""
    (tmp_path / "centre").mkdir()
    line = Enrolment("gw-plaza", "centre", "plaza", public_key(gateway_secret), (public_key(enrolled.steward),), 1)
    made = Centre(tmp_path / "centre", line, enrolled.centre)
    toml = write_policy(nodes=NODES)
    with made.archive.transaction():
        made.line = made.archive.enrol(line)
        made.archive.put_policy(StoredPolicy(digest(toml), "plaza", 1, toml, enrolled.policy(toml)))
    yield made
    made.archive.close()


@pytest.fixture
def gateway(turned: Callable[..., Any], write_policy: Callable[..., bytes]) -> Any:
    """A dust sensor since midnight."""
    made = turned()
    made.enrolled.drop("policy-1.cose", made.enrolled.policy(write_policy(nodes=NODES)))
    made.batch("dust", MIDNIGHT_S)
    return made


def lost_and_found(gateway: Any, centre: Centre) -> tuple[dict[int, bytes], list[Word]]:
    """Ten hours, of which the centre has six in its backup; all of them settled; the backup comes back. Returns the
    messages as they were first sent, and the words on what the gateway brings then."""
    gateway.live(MIDNIGHT_S, MIDNIGHT_S + 6 * HOUR_S)
    sent = gateway.db.rows()
    centre.take(gateway)
    copy = centre.backup()
    centre.answer(gateway)
    gateway.live(MIDNIGHT_S + 6 * HOUR_S, MIDNIGHT_S + 10 * HOUR_S)
    sent |= gateway.db.rows()
    centre.take(gateway)
    centre.answer(gateway)
    gateway.live(MIDNIGHT_S + 10 * HOUR_S, MIDNIGHT_S + 10 * HOUR_S + 60)
    assert gateway.enrolled.outbox() == [] and centre.settled() == 10
    centre.restore(copy)
    assert centre.settled() == 6
    # The next hour shows the hole, the receipt names it, the gateway fills it.
    gateway.live(MIDNIGHT_S + 10 * HOUR_S + 60, MIDNIGHT_S + 11 * HOUR_S)
    sent |= gateway.db.rows()
    centre.take(gateway)
    centre.answer(gateway)
    said = open_receipt((gateway.enrolled.folder / "spool/inbox/receipt.cose").read_bytes(), public_key(centre.secret))
    assert (said.settled_seq, said.again) == (6, ((7, 10),))
    gateway.live(MIDNIGHT_S + 11 * HOUR_S, MIDNIGHT_S + 11 * HOUR_S + 60)
    return sent, centre.take(gateway)


def test_a_restored_centre_gets_back_what_it_lost(gateway: Any, centre: Centre) -> None:
    """Byte for byte what was sent the first time, filed as if nothing had been; then nobody asks any more."""
    lines = None
    sent, words = lost_and_found(gateway, centre)
    assert gateway.enrolled.outbox() == [name_of(seq) for seq in (7, 8, 9, 10, 11)]
    lines = list(gateway.db.ledger.lines())
    assert [type(word) for word in words[:4]] == [Stored] * 4
    assert {message.seq: message.sealed for message in centre.archive.messages("gw-plaza")} == sent
    centre.answer(gateway)
    gateway.live(MIDNIGHT_S + 11 * HOUR_S + 60, MIDNIGHT_S + 11 * HOUR_S + 120)
    assert gateway.enrolled.outbox() == [] and centre.settled() == 11
    assert list(gateway.db.ledger.lines()) == lines, "nothing was charged for it"


def test_it_is_asked_again_after_a_restart_and_before_it_nothing_goes(gateway: Any, centre: Centre) -> None:
    """The request is in the retained receipt, not in a memory: a restart in between changes nothing."""
    sent, _ = lost_and_found(gateway, centre)
    gateway.restart()
    gateway.batch("dust", MIDNIGHT_S + 11 * HOUR_S + 300)
    again = {seq: sent[seq] for seq in (7, 8, 9, 10)}
    folder = gateway.enrolled.folder / "spool" / "outbox"
    assert {seq: (folder / name_of(seq)).read_bytes() for seq in again} == again


def test_what_is_not_kept_any_more_is_said_once(gateway: Any, centre: Centre) -> None:
    """A card with less room has dropped the oldest: one line names them, the others go."""
    gateway.db._keep = 2
    sent, words = lost_and_found(gateway, centre)
    assert gateway.enrolled.outbox() == [name_of(seq) for seq in (10, 11)] and len(sent) == 11
    assert [type(word).__name__ for word in words] == ["Stored", "Duplicate"]
    for minute in (2, 3):
        centre.answer(gateway)
        gateway.live(MIDNIGHT_S + 11 * HOUR_S + 60 * minute, MIDNIGHT_S + 11 * HOUR_S + 60 * minute + 30)
    line = "the centre asks for message 7 again, which is not kept any more: 10 is the oldest"
    assert gateway.said.count(line) == 1


def test_a_stranger_can_ask_for_nothing(gateway: Any, centre: Centre, gateway_secret: bytes) -> None:
    """A request that the centre has not signed moves no message: it would be a way to make a metered line pay."""
    gateway.live(MIDNIGHT_S, MIDNIGHT_S + 3 * HOUR_S)
    centre.take(gateway)
    true = open_receipt(receipt(centre.archive, centre.line, centre.secret), public_key(centre.secret))
    centre.answer(gateway)
    gateway.live(MIDNIGHT_S + 3 * HOUR_S, MIDNIGHT_S + 3 * HOUR_S + 60)
    for secret in (gateway.enrolled.steward, gateway_secret):
        gateway.enrolled.drop("receipt-2.cose", seal_receipt(replace(true, again=((1, 2),)), secret))
        gateway.live(MIDNIGHT_S + 3 * HOUR_S + 60, MIDNIGHT_S + 3 * HOUR_S + 120)
    assert gateway.enrolled.outbox() == []
    gateway.enrolled.drop("receipt-2.cose", seal_receipt(replace(true, again=((1, 2),)), centre.secret))
    gateway.live(MIDNIGHT_S + 3 * HOUR_S + 120, MIDNIGHT_S + 3 * HOUR_S + 180)
    assert gateway.enrolled.outbox() == [name_of(1), name_of(2)]


def test_a_gateway_that_signs_anew_is_caught(
    gateway: Any, centre: Centre, gateway_secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: the same figures sealed again under the present start are other bytes, and break the chain."""

    class Resigning(Outbox):
        def settle(self, first: int, again: Any) -> None:
            kept = self._fetch

            def anew(seq: int) -> bytes | None:
                sealed = kept(seq)
                if sealed is None or seq >= first:
                    return sealed
                message = open_message(sealed, public_key(gateway_secret))
                return seal_message(replace(message, boot=message.boot + 1), gateway_secret)

            self._fetch = anew
            super().settle(first, again)
            self._fetch = kept

    monkeypatch.setattr(murmure_edge.sense, "Outbox", Resigning)
    gateway.restart()
    gateway.batch("dust", MIDNIGHT_S)
    _, words = lost_and_found(gateway, centre)
    assert "chain_broken" in {word.reason for word in words if isinstance(word, Refused)}
    assert centre.archive.cloned("gw-plaza")
