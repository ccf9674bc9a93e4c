"""From where the centre proves that its log has grown: what a gateway was told last, and what it says it remembers."""

from __future__ import annotations

from typing import Any

import pytest
from murmure_ingest import logbook
from murmure_ingest.proofs import Proofs, growth, remembered
from murmure_ingest.receipts import receipt
from murmure_privacy import log, wire
from murmure_privacy.log import Checkpoint, Growth

MINUTE_S = 60
QUARTER_S = 900


class Clock:
    """Seconds that pass when the test says so."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Talk:
    """A centre that speaks to one gateway, and the log as that gateway remembers it: what is proved to it, it takes."""

    def __init__(self, centre: Any) -> None:
        self.centre, self.clock, self.gateway = centre, Clock(), centre.gateway()
        self.restart()
        self.known: Checkpoint | None = None
        self.uptime_s = 0

    def restart(self) -> None:
        self.proofs = Proofs(self.centre.archive, self.clock)

    def grow(self, entries: int = 1) -> Checkpoint:
        archive = self.centre.archive
        with archive.transaction():
            for _ in range(entries):
                logbook.annotated(archive._db, "plaza", logbook.size(archive._db), b"")
        here: Checkpoint = archive.log_checkpoint()
        return here

    def say(self, after_s: float = MINUTE_S) -> Growth:
        """Returns what a receipt says of the log, some seconds after the one before."""
        self.clock.now_s += after_s
        told = log.of_receipt(bytes(32) + self.proofs.say(self.centre.archive.enrolment("gw-plaza")))
        assert told is not None
        return told

    def hear(self, told: Growth) -> bool:
        """The gateway reads a receipt. Returns whether it believes it."""
        if log.objection(self.known, told) is None and log.is_proved(self.known, told):
            self.known = told.here
            return True
        return False

    def report(self, **changes: Any) -> None:
        """The gateway reports, as one that reads proofs unless told otherwise."""
        self.uptime_s += MINUTE_S
        remembers = {"log": self.known.size if self.known else 0, **changes}
        word = self.centre.accept(*self.gateway.health(self.uptime_s, **remembers))
        self.proofs.heard(word.gateway, word.log)


@pytest.fixture
def talk(centre: Any) -> Talk:
    return Talk(centre)


def test_each_receipt_proves_from_the_one_before(talk: Talk) -> None:
    """The usual case: the gateway reports what it has read, the log grows, and every receipt is believed."""
    talk.report()
    for entries in (1, 1, 3, 0, 7, 1):
        talk.grow(entries)
        assert talk.hear(talk.say())
        talk.report()
    assert talk.known == talk.centre.archive.log_checkpoint()


@pytest.mark.parametrize("reads", [0, 1, 2, 3])
def test_what_is_not_known_to_be_read_is_told_again(talk: Talk, reads: int) -> None:
    """The centre connects anew twice while the log grows and the gateway is away: whichever of the receipts it finds
    when it comes back, or reads in between without a word, it believes."""
    talk.grow(2)
    talk.report()
    assert talk.hear(talk.say())
    talk.report()
    talk.grow()
    receipts = [talk.say()]
    for _ in range(2):
        talk.grow()
        talk.clock.now_s += 3 * 86_400
        receipts.append(talk.say())
    for told in (*receipts[:reads], receipts[-1]):
        assert talk.hear(told)
    talk.report()
    assert talk.proofs.due() == []
    assert talk.hear(talk.say()) and talk.known == talk.centre.archive.log_checkpoint()


def test_what_a_gateway_lost_is_made_good_when_it_reports(talk: Talk) -> None:
    """The gateway lacks again what the newest proof starts from; its report makes a receipt due at once, with a proof
    from what it remembers."""
    talk.grow()
    talk.report()
    talk.hear(talk.say())
    known = talk.known
    talk.report()
    talk.grow()
    talk.hear(talk.say())
    talk.report()
    talk.known = known  # it was restored from a copy of its card
    talk.grow()
    assert not talk.hear(talk.say())
    assert talk.proofs.due() == []
    talk.report()
    assert talk.proofs.due() == ["gw-plaza"] and talk.proofs.due() == []
    assert talk.hear(talk.say(after_s=0))
    assert talk.known == talk.centre.archive.log_checkpoint()


def test_a_centre_that_was_restarted_proves_from_the_report_that_it_keeps(talk: Talk) -> None:
    """It remembers nothing of its own. A gateway that has moved on since says so with its next report."""
    talk.grow()
    talk.report()
    talk.hear(talk.say())
    talk.report()
    talk.grow()
    talk.restart()
    assert talk.hear(talk.say())
    talk.grow()
    talk.restart()
    assert not talk.hear(talk.say())
    talk.report()
    assert talk.proofs.due() == ["gw-plaza"] and talk.hear(talk.say(after_s=0))


def test_reports_make_no_more_receipts_than_they_may(talk: Talk) -> None:
    """A flood of reports, each of another size, makes one receipt in the time of one report; the one that is due in any
    case still proves from what was reported last."""
    talk.grow(5)
    talk.report()
    talk.hear(talk.say())
    talk.grow(3)
    talk.hear(talk.say())
    made = 0
    for number in range(1, 1000):
        talk.clock.now_s += 1
        talk.report(log=1 + number % 4)
        made += len(talk.proofs.due())
    assert made == 2, "in a thousand seconds"
    talk.report(log=3)
    assert talk.say().since == 3


@pytest.mark.parametrize("size", [0, 3, 8])
def test_a_report_that_the_newest_receipt_helps_makes_none(talk: Talk, size: int) -> None:
    """Whoever knows no log believes any, and who is where its proof starts or ends believes it: nothing is due."""
    talk.grow()
    talk.report(log=3)
    talk.grow(5)
    assert (talk.say().since, talk.say().here.size) == (3, 8)
    talk.report(log=size)
    talk.clock.now_s += QUARTER_S
    assert talk.proofs.due() == []
    talk.grow()
    assert (talk.say().since, talk.say().here.size) == ((8, 9) if size == 8 else (3, 8))


def test_who_has_the_newest_needs_no_proof_of_it_any_more(talk: Talk) -> None:
    """The proof is left out once the gateway says that it has come that far."""
    talk.grow()
    talk.report(log=3)
    talk.grow()
    assert talk.say().proof
    talk.report(log=4)
    assert talk.say() == Growth(talk.centre.archive.log_checkpoint())


@pytest.mark.parametrize("heard_first", [True, False])
def test_a_gateway_that_does_not_say_gets_no_proof(talk: Talk, heard_first: bool) -> None:
    """It would take a longer field for one without a log, and compare nothing. After its upgrade it gets one."""
    if heard_first:
        talk.report(log=None)
    for _ in range(3):
        talk.grow()
        assert talk.say() == Growth(talk.centre.archive.log_checkpoint())
        talk.report(log=None)
    talk.known = Checkpoint(3, log.root([log.leaf_hash(entry) for entry in talk.centre.archive.log_entries(3)]))
    talk.report()
    assert talk.proofs.due() == ["gw-plaza"] and talk.hear(talk.say(after_s=0))


def test_who_remembers_more_than_there_is_gets_no_proof(talk: Talk) -> None:
    """A centre that was restored from a backup has nothing to prove with, and makes no receipt for nothing. Once it has
    adopted its log, it has."""
    here = talk.grow()
    talk.report()
    talk.hear(talk.say())
    for _ in range(8):
        talk.clock.now_s += QUARTER_S
        talk.report(log=here.size + 2)
        assert talk.proofs.due() == [] and talk.say() == Growth(here)
    talk.grow(3)
    talk.report(log=here.size + 2)
    assert talk.proofs.due() == ["gw-plaza"] and talk.say().since == here.size + 2


def test_a_stick_brings_a_proof_from_what_was_reported(talk: Talk) -> None:
    """Without a word on the log a receipt is made from the report that is kept, under the key that signed it."""
    line = talk.centre.archive.enrolment("gw-plaza")
    assert remembered(talk.centre.archive, line) is None
    talk.grow()
    talk.report(log=2)
    assert remembered(talk.centre.archive, line) == 2
    word = wire.open_receipt(
        receipt(talk.centre.archive, line, talk.centre.secret), wire.public_key(talk.centre.secret)
    )
    told = log.of_receipt(word.checkpoint)
    assert told == growth(talk.centre.archive, 2) and told.since == 2
    other = talk.centre.gateway("gw-other")
    assert remembered(talk.centre.archive, talk.centre.archive.enrolment(other.name)) is None


def test_a_report_under_an_older_key_says_nothing(talk: Talk) -> None:
    """What cannot be opened with the key of today is no report."""
    talk.report(log=2)
    line = talk.centre.archive.enrolment("gw-plaza")
    other = type(line)(**{**{name: getattr(line, name) for name in line.__slots__}, "record_key": wire.new_key()[1]})
    assert remembered(talk.centre.archive, other) is None


def test_a_proof_is_worked_out_once_for_all(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one place to one size, however many gateways ask; a flood of places keeps some of them and no more."""
    here = talk.grow(400)
    asked: list[tuple[int, int]] = []
    real = logbook.proof

    def counted(db: Any, since: int, entries: int) -> list[bytes]:
        asked.append((since, entries))
        return real(db, since, entries)

    monkeypatch.setattr(logbook, "proof", counted)
    archive = talk.centre.archive
    for _ in range(20):
        assert archive.log_proof(3, here.size) == archive.log_proof(3, here.size)
    assert asked == [(3, here.size)]
    for since in range(1, here.size):
        archive.log_proof(since, here.size)
    assert len(archive._proofs[1]) <= 256
    with pytest.raises(IndexError):
        archive.log_proof(0, here.size)
