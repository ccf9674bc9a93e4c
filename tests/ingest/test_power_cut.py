"""The power of the centre goes at any write of `archive.db`: what a receipt or an acknowledgement has said stays true.

The real Archive, Intake and receipts, on a disk that loses what was not synced (tests/power_loss.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy, database
from murmure_ingest.intake import Arrival, Duplicate, Heard, Intake, Stored, Word
from murmure_ingest.receipts import receipt
from murmure_ingest.rules import PolicyRules
from murmure_privacy import log, wire
from murmure_privacy.release import Receipt

QUARTERS = 60  # messages of one gateway, sealed before the first cut
QUICK_CUTS, LONG_CUTS, CAMPAIGN_CUTS = 40, 300, 10_000
TWIN_CUTS = 120  # the rarest of them is found about once in 10 cuts; seeds are fixed
CAMPAIGN = os.environ.get("MURMURE_CAMPAIGN") == "1"
CENTRE_SECRET, CENTRE_PUBLIC = wire.new_key()
rules = cache(PolicyRules)


class Hasty(Intake):
    """Broken on purpose: it answers inside the commit."""

    answer: Callable[[list[Word]], None]

    def accept_many(self, arrivals: Iterable[Arrival]) -> list[Word]:
        with self._archive.transaction():
            words = self.judge(map(self.open, arrivals))
            self.answer(words)
        return words


class Life:
    """One archive through its power cuts. What outlives a cut here is what was acknowledged to a gateway."""

    def __init__(
        self, seed: int, folder: Path, disks: ModuleType, gateway: Any, synchronous: str = "FULL", hasty: bool = False
    ) -> None:
        self.chain = disks.Chain(seed, "archive.db", disks.rows, (), synchronous)
        self.broken, self.draw = disks.Broken, self.chain.draw
        self.folder, self.gateway, self.hasty = folder, gateway, hasty
        self.uptime_s = 0
        self.acknowledged: set[int] = set()
        self.receipts: list[Receipt] = []

    def whole(self) -> tuple[int, str | None]:
        """Returns the number of cuts and what broke."""
        cuts, broke = self.chain.live(self._run, self._see)
        return int(cuts), broke

    def _run(self) -> None:
        self.said: list[tuple[int, set[int], Receipt]] = []  # (operations until then, acknowledged, receipt)
        self._start()
        self._judge()
        self.chain.started()
        self._enrol()
        for _ in range(self.draw.randint(0, 6)):
            self.draw.choice([self._receive] * 5 + [self._hear, self._restart])()

    def _start(self) -> None:
        self.archive = Archive.open(self.folder / "archive.db")
        self.archive.require_sound()
        self.intake = Intake(self.archive, self._rules_of, lambda: 1 << 40)
        if self.hasty:
            self.intake = Hasty(self.archive, self._rules_of, lambda: 1 << 40)
            self.intake.answer = self._answer

    def _rules_of(self, policy: bytes) -> PolicyRules | None:
        toml = self.archive.policy(policy)
        return None if toml is None else rules(toml)

    def _enrol(self) -> None:
        who = self.gateway
        if self.archive.enrolment(who.name) is None:
            with self.archive.transaction():
                key = wire.public_key(who.secret)
                self.archive.enrol(Enrolment(who.name, who.quartier, who.site, key, (key,), 1))
                self.archive.put_policy(StoredPolicy(wire.digest(who.policy), who.site, 1, who.policy, b"signed"))

    def _receive(self) -> None:
        """A few messages come: the next ones, perhaps with some again or some too early; then the receipt goes."""
        settled = self.archive.totals(self.gateway.name).settled_seq
        first = max(0, settled - self.draw.randint(0, 2) + self.draw.choice([0, 0, 0, 2]))
        batch = self.gateway.sealed[first : first + self.draw.randint(1, 5)]
        words = self.intake.accept_many([(self.gateway.topic, sealed) for sealed in batch])
        if not all(isinstance(word, Stored | Duplicate) for word in words):
            raise self.broken(f"an honest message was answered with {words}")
        self._answer(words)

    def _answer(self, words: list[Word]) -> None:
        acknowledged = {word.seq for word in words if isinstance(word, Stored | Duplicate)}
        enrolment = self.archive.enrolment(self.gateway.name)
        assert enrolment
        word = wire.open_receipt(receipt(self.archive, enrolment, CENTRE_SECRET), CENTRE_PUBLIC)
        self.said.append((len(self.chain.disk.journal), acknowledged, word))

    def _hear(self) -> None:
        self.uptime_s += 60
        word = self.intake.accept(*self.gateway.health(self.uptime_s))
        assert isinstance(word, Heard)

    def _restart(self) -> None:
        """An orderly end, at which SQLite folds its log into the database."""
        self.archive.close()
        self._start()

    def _see(self, after: int) -> None:
        for at, acknowledged, word in self.said:
            if at <= after:
                self.acknowledged |= acknowledged
                self.receipts.append(word)

    def _judge(self) -> None:
        """What a start after a cut has found, against what the gateway was told."""
        stored = {message.seq: message for message in self.archive.messages(self.gateway.name)}
        told = max((word.settled_seq for word in self.receipts), default=0)
        for seq in self.acknowledged | set(range(1, told + 1)):
            if seq not in stored or stored[seq].sealed != self.gateway.sealed[seq - 1]:
                raise self.broken(f"message {seq} was acknowledged and is not there")
        heads = {message.head for message in stored.values()}
        totals = self.archive.totals(self.gateway.name)
        leaves = [log.leaf_hash(entry) for entry in self.archive.log_entries()]
        for word in self.receipts:
            if word.settled_seq and word.settled_hash != stored[word.settled_seq].hash:
                raise self.broken(f"the receipt up to {word.settled_seq} names another message")
            if word.settled_seq and word.checkpoint[:32] not in heads:
                raise self.broken(f"the checkpoint of the receipt up to {word.settled_seq} is in no history")
            here = log.of_receipt(word.checkpoint)
            if here is None or here.here.root != log.root(leaves[: here.here.size]):
                raise self.broken(
                    f"the log of the receipt up to {word.settled_seq} is not the beginning of what is kept"
                )
            if word.charged_rho_micro > totals.charged_rho_micro:
                raise self.broken("more was charged before than now")


@pytest.fixture
def cut(tmp_path: Path, power_loss: ModuleType, centre: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """cut(cuts, synchronous=…) -> the tally of lives with that many cuts."""
    gateway = centre.gateway()
    gateway.history(QUARTERS)

    def run(cuts: int, **how: Any) -> Any:
        told = {key: how.pop(key) for key in ("workers", "say", "only_one") if key in how}

        def live(seed: int) -> tuple[int, str | None]:
            life = Life(seed, tmp_path, power_loss, gateway, **how)
            monkeypatch.setattr(database, "connect", lambda _: life.chain.connect())
            return life.whole()

        return power_loss.campaign(live, cuts, **told)

    return run


def test_no_power_cut_takes_back_a_receipt(cut: Callable[..., Any]) -> None:
    """What was acknowledged is stored byte for byte; a start finds the last commit or the next, and no damage."""
    tally = cut(QUICK_CUTS)
    assert tally.broken == []
    assert tally.cuts >= QUICK_CUTS


@pytest.mark.long
def test_no_power_cut_of_many_takes_back_a_receipt(cut: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The same for 300 cuts, or 10,000 in a campaign, which says how far it is."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"  {line}", flush=True)

    cuts, workers = (CAMPAIGN_CUTS, os.cpu_count() or 1) if CAMPAIGN else (LONG_CUTS, 1)
    tally = cut(cuts, workers=workers, say=say)
    assert tally.broken == []
    assert tally.cuts >= cuts


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_settings_that_lose_commits_are_found_out(cut: Callable[..., Any], synchronous: str) -> None:
    """The control: the same lives with weaker settings lose what was acknowledged, and the test sees it."""
    assert cut(TWIN_CUTS, only_one=True, synchronous=synchronous).broken


def test_an_intake_that_answers_before_the_commit_is_found_out(cut: Callable[..., Any]) -> None:
    """The twin: with the right settings and the wrong order, a cut in between is seen."""
    assert cut(TWIN_CUTS, only_one=True, hasty=True).broken
