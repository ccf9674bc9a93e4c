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
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.publisher import Identity, Publisher
from murmure_privacy.errors import MurmureError
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Message, Outcome, Release
from murmure_privacy.window import parse_utc
from murmure_privacy.wire import FIRST_PREVIOUS, digest, open_message, public_key

START_S = parse_utc("2026-03-27T23:00:00Z")  # Paris: a day before the clock change
QUARTER_S, HOUR_S = 900, 3600
CUTS_IN_A_LIFE = 6
EARLY_OPERATIONS = 30
QUICK_CUTS, LONG_CUTS, CAMPAIGN_CUTS = 40, 300, 10_000
TWIN_CUTS = 120  # the rarest of them is found in one cut of NNN
CAMPAIGN = os.environ.get("MURMURE_CAMPAIGN") == "1"
OFF_S = [0, 60, 3 * HOUR_S, 10 * HOUR_S, -2 * HOUR_S]  # how long the power is away; a clock may come back behind
MEMORY_DISK = Path("/dev/shm")
MECHANISM = DiscreteGaussian()  # it builds each measurement once

State = tuple[object, ...]
UNBORN: State = ((0, FIRST_PREVIOUS),)


class Broken(Exception):
    """Something that was promised is not so."""


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
        self.draw, self.folder, self.disks, self.make_policy = Random(seed), folder, disks, make_policy
        self.synchronous, self.kind = synchronous, kind
        self.who = Identity("gw-plaza", "centre", "plaza", secret)
        self.public = public_key(secret)
        self.now_s = START_S
        self.cuts = 0
        self.allowed: list[State] = [UNBORN]  # what the next start may find
        self.sent: dict[int, tuple[Message, bytes]] = {}  # every message ever handed over, by number
        self.outcomes: dict[tuple[str, str, int], Outcome] = {}
        self.receipted = 0
        self.budgets: dict[tuple[bytes, str], int] = {}
        self.disk = disks.Disk()

    def whole(self) -> tuple[int, str | None]:
        """Lives through all its cuts and one more start. Returns the number of cuts and what broke."""
        where = "first run"
        try:
            for _ in range(CUTS_IN_A_LIFE):
                self._run()
                where = self._cut()
            self._run()
            self._see_until(len(self.disk.journal))
            self.connection.close()
        except (Broken, MurmureError) as broken:
            return self.cuts, f"{where}: {broken}"
        return self.cuts, None

    # --- one run of the agent ------------------------------------------------------------------------------------

    def _run(self) -> None:
        self.handed: list[tuple[int, Message, bytes]] = []  # (operations until then, message, sealed)
        self.settled: list[tuple[int, int]] = []  # (operations until then, number up to which the centre has them)
        self.states: list[tuple[int, State]] = []
        self.checkpoint_pages = self.draw.choice([2, 10, 40, 1000])
        self._start(first=True)
        if not self.cuts:
            self._adopt()
        for _ in range(self.draw.randint(0, 5)):
            self.draw.choice([self._live] * 4 + [self._adopt, self._settle, self._restart])()

    def _start(self, first: bool = False) -> None:
        for stale in self.folder.iterdir():
            stale.unlink()
        for name, data in self.disk.live().items():
            (self.folder / name).write_bytes(data)
        lock = self.disk.file("gateway.db.lock")
        self.db = GatewayDb.open(self.folder / "gateway.db", self._connect)
        self.disk.write(lock, b"1", 0)
        if first:
            self.states.insert(0, (0, self._state()))
            self._judge(self._state())
        self.publisher = self.kind(self.db, self.who, MECHANISM, self._hand_over, lambda _: None)
        for seq, sealed in self.db.rows().items():
            if seq not in self.sent:
                self._hand_over(open_message(sealed, self.public), sealed)
        self.publisher.start(self.now_s)

    def _connect(self, path: Path) -> Any:
        self.connection = self.disks.Connection(
            self.disk, path.name, self.synchronous, self.checkpoint_pages, self._committed
        )
        return self.connection

    def _committed(self) -> None:
        self.states.append((len(self.disk.journal), self._state()))

    def _state(self) -> State:
        """What is stored, but for the number of starts."""
        ask = self.connection.execute
        tables = [name for (name,) in ask("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1").fetchall()]
        if "head" not in tables:
            return UNBORN
        tables.remove("head")
        rows = [(name, *row) for name in tables for row in ask(f"SELECT * FROM {name} ORDER BY 1").fetchall()]
        return (*rows, *(ask("SELECT seq, hash FROM head").fetchall() or UNBORN))

    def _hand_over(self, message: Message, sealed: bytes) -> None:
        self.handed.append((len(self.disk.journal), message, sealed))

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
        self.budgets |= {(policy.hash, name): part.rho_micro for name, part in plan(policy).streams.items()}
        self.publisher.adopt(policy, self.now_s)

    def _settle(self) -> None:
        """The centre has the oldest of them."""
        waiting = sorted(self.db.rows())
        settled = waiting[: self.draw.randint(0, len(waiting))]
        if settled:
            self.settled.append((len(self.disk.journal), settled[-1]))
            self.db.clear(settled)

    def _restart(self) -> None:
        """An orderly end, at which SQLite folds its log into the database."""
        self.db.close()
        self.now_s += self.draw.choice(OFF_S)
        self._start()

    # --- the cut and what may follow from it ---------------------------------------------------------------------

    def _cut(self) -> str:
        self.cuts += 1
        whole = len(self.disk.journal)
        # Every other cut comes early: while SQLite recovers from the one before.
        after = self.draw.randint(0, min(EARLY_OPERATIONS, whole) if self.draw.random() < 0.5 else whole)
        image = self.disk.cut(after, self.draw)
        self.connection.close()
        self._see_until(after)
        before = [state for at, state in self.states if at <= after]
        begun = [state for at, state in self.states if at > after]
        self.allowed = [before[-1], *begun[:1]]
        self.disk = self.disks.Disk(image)
        self.now_s += self.draw.choice(OFF_S)
        return f"cut {self.cuts} after operation {after} of {whole}"

    def _see_until(self, after: int) -> None:
        """Somebody has read what was handed over until then: from now on it must stay as it is."""
        self.receipted = max([self.receipted, *(seq for at, seq in self.settled if at <= after)])
        for message, sealed in [(message, sealed) for at, message, sealed in self.handed if at <= after]:
            seq, previous = message.seq, self.sent.get(message.seq - 1)
            if self.sent.setdefault(seq, (message, sealed))[1] != sealed:
                raise Broken(f"two messages have the number {seq}")
            if (previous is None and seq > 1) or (
                digest(previous[1]) if previous else FIRST_PREVIOUS
            ) != message.previous:
                raise Broken(f"message {seq} does not follow from the one before it")
            for outcome in message.outcomes:
                if self.outcomes.setdefault(outcome.node.key, outcome) != outcome:
                    raise Broken(f"{outcome.node.key} has two values")

    def _judge(self, found: State) -> None:
        """What a start after a cut has found, against what the world has seen."""
        if found not in self.allowed:
            raise Broken("the database is neither as after the last commit nor as after the next")
        rows = self.db.rows()
        for seq, (message, sealed) in self.sent.items():
            if rows.get(seq, sealed) != sealed or (seq not in rows and seq > self.receipted):
                raise Broken(f"message {seq} was handed over and is not there")
            if message.boot >= self.db.boot():
                raise Broken(f"start {message.boot} comes a second time")
        new = [open_message(sealed, self.public) for seq, sealed in rows.items() if seq not in self.sent]
        outcomes = [*self.outcomes.values(), *(outcome for message in new for outcome in message.outcomes)]
        lines = list(self.db.ledger.lines())
        if Counter(map(_price, outcomes)) != Counter(
            (line.stream, line.level, line.start_s, line.rho_micro) for line in lines
        ):
            raise Broken("what is charged is not what was or will be handed over")
        for line in lines:
            spent = self.db.ledger.spent_rho_micro(line.stream, line.covered_from_s, line.end_s)
            if line.rho_micro and spent > self.budgets[line.policy, line.stream]:
                raise Broken(f"{line.stream}: {spent} micro-rho are spent")


def _price(outcome: Outcome) -> tuple[object, ...]:
    return *outcome.node.key, sum(n.rho_micro for n in outcome.noised) if isinstance(outcome, Release) else 0


@pytest.fixture
def cut(
    tmp_path: Path, power_loss: ModuleType, make_policy: Callable[..., Policy], gateway_secret: bytes
) -> Callable[..., Any]:
    """cut(cuts, synchronous=…, kind=…) -> the tally of lives with that many cuts."""

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
