"""A gateway's life in any order: days, crashes, clocks, policies, full disks; the promise holds throughout."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from murmure_edge.publisher import Publisher
from murmure_ingest.intake import is_early
from murmure_privacy.audit import check
from murmure_privacy.errors import LedgerDamaged
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Message
from murmure_privacy.succession import Uses
from murmure_privacy.window import parse_utc
from murmure_privacy.wire import digest

START_S = parse_utc("2026-03-27T23:00:00Z")  # Paris: a day before the clock change
HOUR_S = 3600
EARLY = (Phase.generate,)  # found is found: no need to make it small
STATEMENTS = ["BEGIN", "INSERT INTO charges", "INSERT INTO outbox", "UPDATE head", "COMMIT"]
POLICIES = st.fixed_dictionaries(
    {
        "epsilon": st.sampled_from(["0.5", "1.0", "2.0"]),
        "streams": st.sampled_from([("dust",), ("dust", "sound"), ("sound",)]),
        "nodes": st.sampled_from(
            [
                '{ "1h" = 1, "1d" = 24 }',
                '{ "15min" = 1, "6h" = 4 }',
                '{ "6h" = 1, "1d" = 1 }',
                '{ "1h" = 1, "1d" = 1, "1w" = 1 }',
                '{ "1h" = 1, day = 1, evening = 1, night = 1 }',
            ]
        ),
        "in_stream": st.sampled_from(["", "", 'cap = { units_per_day = 1, span = "1w", epsilon = 3.5 }']),
        "valid": st.sampled_from([("2026-01-01", "2026-12-31")] * 4 + [("2026-03-30", "2026-04-01")]),
        "extra": st.sampled_from(["", "", "", "paused = true"]),
        "timezone": st.sampled_from(["Europe/Paris", "Europe/Paris", "Europe/Lisbon"]),
    }
)


class Register:
    """A centre that hears one gateway, message by message, and knows its policies."""

    def __init__(self, policies: dict[bytes, Policy]) -> None:
        self._plan_of = cache(lambda policy: plan(policies[policy]))
        self._uses = Uses(self._plan_of)

    def hear(self, message: Message, now_s: int) -> str | None:
        """Returns what stands against a message by a clock that says what the gateway's does; else it keeps it."""
        objection = "too early" if is_early(message, now_s) else self._uses.objection(message)
        for outcome in message.outcomes:
            made = self._plan_of(outcome.node.policy)
            objection = objection or check(outcome, made, made.calendar)
        if objection is None:
            self._uses.add(message)
        return objection


class PowerCut(BaseException):
    """Not an error that anybody may catch."""


class Life(RuleBasedStateMachine):
    """`now_s` is true time. `shift_s` is what the gateway's clock is wrong by."""

    gateway_kind: type[Any]
    make_policy: Callable[..., Policy]
    broken: Callable[..., str | None]
    publisher_kind: type[Publisher] = Publisher

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.gateway = self.gateway_kind(Path(self.folder.name) / "gateway.db", kind=self.publisher_kind)
        self.clock_s = START_S
        self.version = 0
        self.policies: dict[bytes, Policy] = {}
        self.sent: dict[int, bytes] = {}
        self.told, self.paid_when_told = 0, 0
        self.register, self.heard = Register(self.policies), 0
        self.gateway.publisher.start(self.clock_s)

    @initialize(policy=POLICIES)
    def first_policy(self, policy: dict[str, Any]) -> None:
        self.adopt(policy)

    @rule(policy=POLICIES)
    def adopt(self, policy: dict[str, Any]) -> None:
        self.version += 1
        made = self.make_policy(self.version, **policy)
        self.policies[made.hash] = made
        self.gateway.publisher.adopt(made, self.clock_s)

    @rule(seconds=st.sampled_from([60, 900, 4000, 6 * HOUR_S, 24 * HOUR_S, 60 * HOUR_S]), value=st.integers(-50, 1500))
    def live(self, seconds: int, value: int) -> None:
        """Time passes with readings."""
        until_s = self.clock_s + seconds
        self.gateway.fill(self.clock_s, until_s, value, ("dust", "sound"))
        self.clock_s = until_s

    @rule(seconds=st.sampled_from([900, 5 * HOUR_S]))
    def live_without_a_sensor(self, seconds: int) -> None:
        self.clock_s += seconds
        self.gateway.publisher.advance(self.clock_s)

    @rule()
    def a_receipt_tells_of_a_newer_policy(self) -> None:
        """Which comes with the next `adopt`, if it comes."""
        self.told, self.paid_when_told = self.version + 1, self.paid()
        self.gateway.publisher.heed(self.told)

    def paid(self) -> int:
        return sum(line.rho_micro > 0 for line in self.gateway.db.ledger.lines())

    @rule(pause_s=st.sampled_from([0, 30, 3 * HOUR_S, -2 * HOUR_S, -30 * HOUR_S]))
    def restart(self, pause_s: int) -> None:
        """The power goes and comes; the clock may be behind afterwards."""
        self.clock_s += pause_s
        self.gateway.restart(self.clock_s)

    @rule(before=st.sampled_from(STATEMENTS), nth=st.integers(1, 2), seconds=st.sampled_from([2 * HOUR_S, 6 * HOUR_S]))
    def power_cut_while_committing(self, before: str, nth: int, seconds: int) -> None:
        """Ends before a statement of the next closings; what was drawn there was never seen."""
        db, left = self.gateway.db, [nth]
        real = db._db

        class Dying:
            def execute(self, *args: Any) -> Any:
                left[0] -= args[0].startswith(before)
                if left[0] == 0:
                    raise PowerCut
                return real.execute(*args)

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        db._db = db.ledger._db = Dying()
        try:
            self.live(seconds, 300)
        except PowerCut:
            self.clock_s += seconds
        db._db = db.ledger._db = real
        self.gateway.restart(self.clock_s)

    @rule(forward_s=st.sampled_from([6, 2000, 5 * HOUR_S, 40 * HOUR_S]))
    def clock_put_forward(self, forward_s: int) -> None:
        self.gateway.publisher.withhold_open()
        self.clock_s += forward_s
        self.gateway.publisher.start(self.clock_s)

    @rule(seconds=st.sampled_from([900, 7 * HOUR_S]))
    def live_on_a_full_disk(self, seconds: int) -> None:
        connection = self.gateway.db._db
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        self.live(seconds, 100)
        connection.execute("PRAGMA max_page_count = 1000000")

    @invariant()
    def the_promise_holds(self) -> None:
        assert self.broken(self.gateway.db, self.policies) is None

    @invariant()
    def what_was_handed_over_stays_as_it_was(self) -> None:
        """No number ever names two messages, whatever was cut off behind it."""
        for message, sealed in self.gateway.messages:
            assert self.sent.setdefault(message.seq, digest(sealed)) == digest(sealed)
        assert {seq: digest(sealed) for seq, sealed in self.gateway.db.rows().items()}.items() >= self.sent.items()

    @invariant()
    def what_is_withheld_or_paused_costs_nothing(self) -> None:
        for line in self.gateway.db.ledger.lines():
            assert (line.rho_micro > 0) == (line.reason is None)

    @invariant()
    def nothing_is_released_while_a_newer_policy_is_awaited(self) -> None:
        if self.told > self.version:
            assert self.paid() == self.paid_when_told

    @invariant()
    def the_centre_finds_every_policy_in_its_place_and_nothing_too_early(self) -> None:
        """In the order of the numbers; `teardown` asks again in another."""
        new = self.gateway.messages[self.heard :]
        self.heard += len(new)
        assert [word for word in (self.register.hear(message, self.clock_s) for message, _ in new) if word] == []

    @precondition(lambda self: self.gateway.publisher.owes)
    @rule()
    def room_again(self) -> None:
        self.gateway.publisher.advance(self.clock_s)
        assert not self.gateway.publisher.owes

    def teardown(self) -> None:
        backwards = Register(self.policies)
        messages = [message for message, _ in self.gateway.messages[::-1]]
        assert [word for word in (backwards.hear(message, 1 << 40) for message in messages) if word] == []
        self.gateway.db.close()
        self.folder.cleanup()


@pytest.fixture
def life(
    gateway_kind: type[Any], make_policy: Callable[..., Policy], broken_promise: Callable[..., str | None]
) -> type[Life]:
    """A machine with this folder's gateway."""

    class Here(Life):
        pass

    Here.gateway_kind, Here.make_policy = gateway_kind, staticmethod(make_policy)
    Here.broken = staticmethod(broken_promise)
    return Here


def test_no_order_of_events_breaks_the_promise(life: type[Life]) -> None:
    """One line a node, one message a charge, one draw a node, never over budget, whatever happens when."""
    run_state_machine_as_test(life, settings=settings(max_examples=10, stateful_step_count=12))


@pytest.mark.long
def test_no_long_order_of_events_breaks_the_promise(life: type[Life]) -> None:
    """The same for longer lives and more of them (a campaign: many more)."""
    max_examples = settings.default.max_examples // 2 if settings.default else 50
    run_state_machine_as_test(life, settings=settings(max_examples=max_examples, stateful_step_count=25))


class Careless(Publisher):
    """Broken on purpose: what it hands over it has not committed yet."""

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


class Forgetful(Publisher):
    """Broken on purpose: what a receipt has told is forgotten with the power."""

    def heed(self, version: int) -> None:
        self.newest_told = version


@pytest.mark.parametrize("kind", [Careless, Hasty, Forgetful])
def test_broken_publishers_are_found_out(life: type[Life], kind: type[Publisher]) -> None:
    """The twins: the same machine finds each of them."""
    life.publisher_kind = kind
    with pytest.raises((AssertionError, LedgerDamaged)):
        run_state_machine_as_test(
            life, settings=settings(max_examples=40, stateful_step_count=12, report_multiple_bugs=False, phases=EARLY)
        )
