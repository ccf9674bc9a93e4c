"""The power goes at any write of `gateway.db`, and again while the next start recovers: the promise holds throughout.

The real GatewayDb, Publisher, gate, ledger and OpenDP, on a disk that loses what was not synced (tests/power_loss.py).
A life is a chain of power cuts. Each ends a run of the agent somewhere, perhaps in its first writes, and the next run
begins with what the disk then happens to hold.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from murmure_edge import publisher
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.publisher import Identity, Publisher
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy, parse
from murmure_privacy.release import Message, Outcome, Release
from murmure_privacy.window import parse_utc
from murmure_privacy.wire import FIRST_PREVIOUS, digest, open_message, public_key

START_S = parse_utc("2026-03-27T23:00:00Z")  # Paris: a day before the clock change
QUARTER_S, HOUR_S = 900, 3600
QUICK_CUTS, LONG_CUTS, CAMPAIGN_CUTS = 40, 300, 10_000
TWIN_CUTS = 120  # the rarest of them is found about once in 25 cuts; seeds are fixed
CAMPAIGN = os.environ.get("MURMURE_CAMPAIGN") == "1"
OFF_S = [0, 60, 3 * HOUR_S, 10 * HOUR_S, -2 * HOUR_S]  # how long the power is away; a clock may come back behind
MEMORY_DISK = Path("/dev/shm")
planned = cache(plan)
MECHANISM = DiscreteGaussian()  # it builds each measurement once

State = tuple[object, ...]
UNBORN: State = ((0, FIRST_PREVIOUS),)


def state_by(rows: Callable[..., State]) -> Callable[[Any], State]:
    """Returns what tells the state of a gateway.db: all but the number of its starts."""

    def state(connection: Any) -> State:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'head'").fetchone()
        heads = connection.execute("SELECT seq, hash FROM head").fetchall() if known else []
        return (*rows(connection, "head"), *(heads or UNBORN))

    return state


class Life:
    """One gateway through its power cuts. What outlives a cut here is what the world outside has seen."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        disks: ModuleType,
        make_policy: Callable[..., Policy],
        secret: bytes,
        synchronous: str = "FULL",
        kind: type[Publisher] = Publisher,
    ) -> None:
        self.chain = disks.Chain(seed, "gateway.db", state_by(disks.rows), UNBORN, synchronous)
        self.broken, self.draw = disks.Broken, self.chain.draw
        self.folder, self.make_policy, self.kind = folder, make_policy, kind
        self.who, self.public = Identity("gw-plaza", "centre", "plaza", secret), public_key(secret)
        self.now_s = START_S
        self.sent: dict[int, tuple[Message, bytes]] = {}  # every message ever handed over, by number
        self.outcomes: dict[tuple[str, str, int], Outcome] = {}
        self.receipted = 0
        self.budgets: dict[tuple[bytes, str], int] = {}

    def whole(self) -> tuple[int, str | None]:
        """Returns the number of cuts and what broke."""
        cuts, broke = self.chain.live(self._run, self._see)
        return int(cuts), broke

    # --- one run of the agent ------------------------------------------------------------------------------------

    def _run(self) -> None:
        self.handed: list[tuple[int, Message, bytes]] = []  # (operations until then, message, sealed)
        self.settled: list[tuple[int, int]] = []  # (operations until then, number up to which the centre has them)
        if self.chain.cuts:
            self.now_s += self.draw.choice(OFF_S)
        self._start()
        self._judge()
        self.chain.started()
        if not self.chain.cuts:
            self._adopt()
        for _ in range(self.draw.randint(0, 5)):
            self.draw.choice([self._live] * 4 + [self._adopt, self._settle, self._restart])()

    def _start(self) -> None:
        for stale in self.folder.iterdir():
            stale.unlink()
        for name, data in self.chain.disk.live().items():
            (self.folder / name).write_bytes(data)
        lock = self.chain.disk.file("gateway.db.lock")
        self.db = GatewayDb.open(self.folder / "gateway.db", lambda _: self.chain.connect())
        self.chain.disk.write(lock, b"1", 0)
        self.publisher = self.kind(self.db, self.who, MECHANISM, self._hand_over, lambda _: None)
        for seq, sealed in self.db.rows().items():
            if seq not in self.sent:
                self._hand_over(open_message(sealed, self.public), sealed)
        self.publisher.start(self.now_s)

    def _hand_over(self, message: Message, sealed: bytes) -> None:
        self.handed.append((len(self.chain.disk.journal), message, sealed))

    def _live(self) -> None:
        until_s = self.now_s + self.draw.choice([QUARTER_S, QUARTER_S, HOUR_S, 2 * HOUR_S])
        first_s = -(-self.now_s // QUARTER_S) * QUARTER_S
        rows = [(at_s * 1000, self.draw.randint(0, 900)) for at_s in range(first_s, until_s, QUARTER_S)]
        self.publisher.add("plaza/dust", rows)
        self.publisher.advance(until_s)
        self.now_s = until_s

    def _adopt(self) -> None:
        newest = self.publisher.policy
        policy = self.make_policy(newest.version + 1 if newest else 1, epsilon=self.draw.choice(["0.5", "1.0", "2.0"]))
        self.budgets |= {(policy.hash, name): part.rho_micro for name, part in planned(policy).streams.items()}
        self.publisher.adopt(policy, self.now_s)

    def _settle(self) -> None:
        """A receipt: the centre has the oldest messages, and knows of this policy or of a newer one."""
        policy = self.publisher.policy
        if policy is not None:
            self.publisher.heed(policy.version + self.draw.choice([0, 0, 0, 1]))
        waiting = sorted(self.db.rows())
        settled = waiting[: self.draw.randint(0, len(waiting))]
        if settled:
            self.settled.append((len(self.chain.disk.journal), settled[-1]))
            self.db.settle(settled[-1])

    def _restart(self) -> None:
        """An orderly end, at which SQLite folds its log into the database."""
        self.db.close()
        self.now_s += self.draw.choice(OFF_S)
        self._start()

    # --- what may follow from the cut ----------------------------------------------------------------------------

    def _see(self, after: int) -> None:
        """Somebody has read what was handed over until then: from now on it must stay as it is."""
        self.receipted = max([self.receipted, *(seq for at, seq in self.settled if at <= after)])
        for message, sealed in [(message, sealed) for at, message, sealed in self.handed if at <= after]:
            seq, previous = message.seq, self.sent.get(message.seq - 1)
            if self.sent.setdefault(seq, (message, sealed))[1] != sealed:
                raise self.broken(f"two messages have the number {seq}")
            if message.previous != (digest(previous[1]) if previous else FIRST_PREVIOUS) or (not previous and seq > 1):
                raise self.broken(f"message {seq} does not follow from the one before it")
            for outcome in message.outcomes:
                if self.outcomes.setdefault(outcome.node.key, outcome) != outcome:
                    raise self.broken(f"{outcome.node.key} has two values")

    def _judge(self) -> None:
        """What a start after a cut has found, against what the world has seen."""
        rows = self.db.rows()
        for seq, (message, sealed) in self.sent.items():
            if rows.get(seq, sealed) != sealed or (seq not in rows and seq > self.receipted):
                raise self.broken(f"message {seq} was handed over and is not there")
            if message.boot >= self.db.boot():
                raise self.broken(f"start {message.boot} comes a second time")
        new = [open_message(sealed, self.public) for seq, sealed in rows.items() if seq not in self.sent]
        outcomes = [*self.outcomes.values(), *(outcome for message in new for outcome in message.outcomes)]
        lines = list(self.db.ledger.lines())
        if Counter(map(_price, outcomes)) != Counter(
            (line.stream, line.level, line.start_s, line.rho_micro) for line in lines
        ):
            raise self.broken("what is charged is not what was or will be handed over")
        for line in lines:
            spent = self.db.ledger.spent_rho_micro(line.stream, line.covered_from_s, line.end_s)
            if line.rho_micro and spent > self.budgets[line.policy, line.stream]:
                raise self.broken(f"{line.stream}: {spent} micro-rho are spent")


def _price(outcome: Outcome) -> tuple[object, ...]:
    return *outcome.node.key, sum(n.rho_micro for n in outcome.noised) if isinstance(outcome, Release) else 0


@pytest.fixture
def cut(
    tmp_path: Path,
    power_loss: ModuleType,
    make_policy: Callable[..., Policy],
    gateway_secret: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """cut(cuts, synchronous=…, kind=…) -> the tally of lives with that many cuts."""
    # Half the time would go into reading the same few policies at every start.
    monkeypatch.setattr(publisher, "parse", cache(parse))
    monkeypatch.setattr(publisher, "plan", planned)

    def run(cuts: int, **how: Any) -> Any:
        told = {key: how.pop(key) for key in ("workers", "say", "only_one") if key in how}

        def live(seed: int) -> tuple[int, str | None]:
            memory = MEMORY_DISK if os.access(MEMORY_DISK, os.W_OK) else tmp_path
            with tempfile.TemporaryDirectory(dir=memory) as folder:
                return Life(seed, Path(folder), power_loss, make_policy, gateway_secret, **how).whole()

        return power_loss.campaign(live, cuts, **told)

    return run


def test_no_power_cut_breaks_the_promise(cut: Callable[..., Any]) -> None:
    """What was handed over stays, charged once and chained; a start finds the last commit or the next, no damage."""
    tally = cut(QUICK_CUTS)
    assert tally.broken == []
    assert tally.cuts >= QUICK_CUTS


@pytest.mark.long
def test_no_power_cut_of_many_breaks_the_promise(cut: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The same for 300 cuts, or 10,000 in a campaign, which says how far it is."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"  {line}", flush=True)

    cuts, workers = (CAMPAIGN_CUTS, os.cpu_count() or 1) if CAMPAIGN else (LONG_CUTS, 1)
    tally = cut(cuts, workers=workers, say=say)
    assert tally.broken == []
    assert tally.cuts >= cuts


def test_half_a_first_page_is_no_damage(quick_folder: Path, power_loss: ModuleType) -> None:
    """The power goes in the very first write of a new gateway's file: the next start takes it back and begins anew."""
    path, disk = quick_folder / "gateway.db", power_loss.Disk()
    GatewayDb.open(path, lambda _: power_loss.Connection(disk, path.name)).close()
    first = next(
        at for at, done in enumerate(disk.journal) if done.kind == "write" and done.file == disk.file(path.name)
    )
    image = disk.cut(first, Random(0)) | {path.name: bytes(512) + disk.journal[first].data[512:]}
    (quick_folder / "gateway.db.lock").unlink()
    for name, data in image.items():
        (quick_folder / name).write_bytes(data)
    disk = power_loss.Disk(image)
    again = GatewayDb.open(path, lambda _: power_loss.Connection(disk, path.name))
    assert again.boot() == 1
    again.close()


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_settings_that_lose_commits_are_found_out(cut: Callable[..., Any], synchronous: str) -> None:
    """The control: the same lives with weaker settings lose what was handed over, and the test sees it."""
    assert cut(TWIN_CUTS, only_one=True, synchronous=synchronous).broken


class Careless(Publisher):
    """Broken on purpose: what it hands over is not committed yet."""

    def _commit(self, closing: Any) -> Any:
        with self._db.transaction():
            outcomes = closing.decide()
            done = self._seal(closing.closing_s, outcomes) if outcomes else None
            if done is not None:
                self._committed(*done)
        return None


class Hasty(Publisher):
    """Broken on purpose: the charge is one commit and the message another."""

    def _commit(self, closing: Any) -> Any:
        with self._db.transaction():
            outcomes = closing.decide()
        with self._db.transaction():
            return self._seal(closing.closing_s, outcomes) if outcomes else None


@pytest.mark.parametrize("kind", [Careless, Hasty])
def test_publishers_with_the_wrong_order_are_found_out(cut: Callable[..., Any], kind: type[Publisher]) -> None:
    """The twins: with the right settings and the wrong order, a cut in between is seen."""
    assert cut(TWIN_CUTS, only_one=True, kind=kind).broken
