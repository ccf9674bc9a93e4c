"""A gateway whose enrolment pinned roles and a ceiling judges for itself: nobody who holds the centre can loosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from murmure_edge import ledger_view
from murmure_edge.candidates import Candidates
from murmure_edge.gateway_db import DiskFull, GatewayDb
from murmure_edge.publisher import Publisher
from murmure_privacy import decide
from murmure_privacy.accountant import rho_micro
from murmure_privacy.errors import ConfigError, LedgerDamaged
from murmure_privacy.wire import new_key, seal_policy

DAY_S, STEP_S = 86_400, 6 * 3600
CEILING = rho_micro(Decimal(3), Decimal("1e-6"))
MIDNIGHT_S = 1_768_431_600  # 2026-01-15 in Paris
DUST = 'name = "dust"\ndevice = "sds011"\npath = "/nowhere/dust"\nstreams = { pm2_5 = "plaza/dust" }'
SOUND = 'name = "sound"\ndevice = "modbus_noise"\npath = "/nowhere/sound"\nstreams = { noise = "plaza/sound" }'
NODES = '{ "6h" = 1 }'

Write = Callable[..., bytes]


class Ruled:
    """A gateway with a steward and a data protection officer, under policy 1 since midnight; epsilon 3 at most."""

    def __init__(self, turned: Callable[..., Any], enrolled: Any, write: Write) -> None:
        self.steward, steward = new_key()
        self.dpo, dpo = new_key()
        trust = enrolled.folder / "trust.toml"
        lines = [line for line in trust.read_text().splitlines() if not line.startswith("stewards")]
        lines += [f'stewards = ["{steward.hex()}", "{dpo.hex()}"]', 'roles = ["steward", "dpo"]']
        trust.write_text("\n".join([*lines, f"ceiling_rho_micro = {rho_micro(Decimal(3), Decimal('1e-6'))}"]) + "\n")
        self.write, self.letters = write, 0
        self.turned = turned(DUST, SOUND)
        self.now_s = MIDNIGHT_S
        self.tell(1)
        self.turned.batch("sound", MIDNIGHT_S)
        self.turned.batch("dust", MIDNIGHT_S)

    def tell(self, version: int, who: str = "both", **text: Any) -> str:
        """Drops a policy; returns the name of its letter."""
        text = {"streams": ("dust", "sound"), "nodes": NODES, "valid": ("2026-01-01", "2026-12-31"), **text}
        signers = {"steward": [("s", self.steward)], "dpo": [("d", self.dpo)]}
        signers["both"] = signers["steward"] + signers["dpo"]
        self.letters += 1
        name = f"policy-{self.letters}.cose"
        self.turned.enrolled.drop(name, seal_policy(self.write(version, **text), signers[who]))
        return name

    def until(self, at_s: int, value: int = 200) -> None:
        """Lives until then, a reading each quarter-hour."""
        self.turned.live(self.now_s, at_s, "sound", "noise", 600)
        self.turned.live(self.now_s, at_s, "dust", "pm2_5", value)
        self.turned.batch("dust", at_s)  # one more look around, at that instant
        self.now_s = at_s

    def restart(self) -> None:
        self.turned.restart()
        self.turned.batch("sound", self.now_s)
        self.turned.batch("dust", self.now_s)

    def versions(self) -> list[int]:
        return [item.version for item in self.turned.db.policies()]

    def blocks(self, stream: str, from_s: int, until_s: int) -> set[str]:
        """What became of a stream's six hours in a span: "released", or the reason."""
        return {
            getattr(outcome, "reason", "released")
            for message in self.turned.messages()
            for outcome in message.outcomes
            if outcome.node.stream == f"plaza/{stream}" and outcome.node.level == "6h"
            if from_s <= outcome.node.start_s < until_s
        }


@pytest.fixture
def ruled(turned: Callable[..., Any], enrolled: Any, write_policy: Write) -> Ruled:
    """See Ruled."""
    gateway = Ruled(turned, enrolled, write_policy)
    assert gateway.versions() == [1]
    return gateway


def loosened_early(gateway: Ruled, restarts: bool = False) -> str | None:
    """Returns what is wrong with a gateway that is given a looser policy in the morning, None if nothing: it
    holds seven days later, not a second before, and takes over at the midnight after; the old one goes on meanwhile."""
    gateway.until(MIDNIGHT_S + STEP_S)
    gateway.tell(2, epsilon="1.2")
    gateway.turned.enrolled.drop(
        "receipt.cose", gateway.turned.enrolled.receipt(1, gateway.turned.db.rows()[1], policy_version=2)
    )
    seen_s = MIDNIGHT_S + STEP_S
    gateway.until(seen_s + 10)
    if "loosens" not in gateway.turned.said[-1] or gateway.versions() != [1]:
        return f"it does not wait: {gateway.turned.said[-1]}"
    gateway.until(MIDNIGHT_S + 5 * DAY_S)
    if restarts:
        gateway.restart()
    gateway.tell(2, epsilon="1.2")  # the broker says it again at each connection
    gateway.until(seen_s + 7 * DAY_S - 1)
    if gateway.versions() != [1]:
        return "it holds too early"
    gateway.until(seen_s + 7 * DAY_S)
    if gateway.versions() != [1, 2]:
        return "it does not hold after its notice"
    gateway.until(MIDNIGHT_S + 9 * DAY_S)
    before = gateway.blocks("dust", MIDNIGHT_S + STEP_S, MIDNIGHT_S + 5 * DAY_S)
    after = gateway.blocks("dust", MIDNIGHT_S + 8 * DAY_S, MIDNIGHT_S + 9 * DAY_S)
    return None if before == {"released"} == after else f"blocks are {before}, then {after}"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_loosening_is_known_here_for_seven_days_before_it_holds(ruled: Ruled, restarts: bool) -> None:
    """Counted from when this gateway first saw it, through restarts, however often it comes again. What is told of it
    silences nobody: it is known, and the policy in force goes on."""
    assert loosened_early(ruled, restarts) is None


@pytest.mark.parametrize("twin", ["no notice", "forgets with the power", "silent while it waits"])
def test_a_gateway_with_another_notice_is_caught(ruled: Ruled, monkeypatch: pytest.MonkeyPatch, twin: str) -> None:
    """The twins: none at all, one that begins anew at each start, one that takes a known policy for an unknown one."""
    if twin == "no notice":
        monkeypatch.setattr(decide, "NOTICE_S", 0)
    elif twin == "forgets with the power":
        monkeypatch.setattr(GatewayDb, "candidates", lambda _: [])
    else:
        monkeypatch.setattr(Publisher, "awaited", property(lambda self: 2 if self.newest_told == 2 else None))
    assert loosened_early(ruled, restarts=True) is not None


@pytest.mark.parametrize(
    ("text", "who", "reason"),
    [
        ({"epsilon": "1.2"}, "steward", "roles"),
        ({"epsilon": "1.2"}, "dpo", "roles"),
        ({"epsilon": "9"}, "both", "ceiling"),
        ({"valid": ("2026-01-01", "2027-12-31")}, "steward", "roles"),
        ({"extra": "paused = true", "skips": 1}, "steward", "roles"),
    ],
)
def test_what_is_looser_than_it_may_be_is_not_believed(
    ruled: Ruled, text: dict[str, Any], who: str, reason: str
) -> None:
    """One line says why; the policy in force goes on as if nothing had come."""
    ruled.until(MIDNIGHT_S + STEP_S)
    ruled.tell(2 + text.pop("skips", 0), who, **text)
    ruled.until(MIDNIGHT_S + 2 * STEP_S)
    assert f"is not believed ({reason}): " in ruled.turned.said[-1]
    ruled.until(MIDNIGHT_S + 9 * DAY_S)
    assert ruled.versions() == [1] and ruled.blocks("dust", MIDNIGHT_S, MIDNIGHT_S + 9 * DAY_S) == {"released"}


def test_one_steward_pauses_at_once_and_both_lift_it_after_seven_days(ruled: Ruled) -> None:
    """Protecting better waits for nobody; taking it back is a loosening, also on the same day."""
    ruled.until(MIDNIGHT_S + STEP_S)
    ruled.tell(2, "steward", extra="paused = true")
    ruled.until(MIDNIGHT_S + 2 * STEP_S)
    assert ruled.versions() == [1, 2]
    ruled.tell(3, "dpo")
    ruled.until(MIDNIGHT_S + 3 * STEP_S)
    assert ruled.versions() == [1, 2]
    ruled.tell(3)
    ruled.until(MIDNIGHT_S + 3 * STEP_S + 7 * DAY_S)
    assert ruled.versions() == [1, 2, 3]
    ruled.until(MIDNIGHT_S + 9 * DAY_S)
    assert ruled.blocks("dust", MIDNIGHT_S + STEP_S, MIDNIGHT_S + 8 * DAY_S) == {"paused"}
    assert ruled.blocks("dust", MIDNIGHT_S + 8 * DAY_S, MIDNIGHT_S + 9 * DAY_S) == {"released"}


def tightened_in_part(gateway: Ruled) -> dict[str, set[str]]:
    """Returns what becomes of six days while a policy waits that gives one stream more epsilon, and has
    no other any more."""
    gateway.until(MIDNIGHT_S + STEP_S)
    gateway.tell(2, streams=("dust",), epsilon="1.2")
    gateway.until(MIDNIGHT_S + 2 * STEP_S)
    gateway.until(MIDNIGHT_S + 6 * DAY_S)
    return {
        stream: gateway.blocks(stream, MIDNIGHT_S + 2 * STEP_S, MIDNIGHT_S + 6 * DAY_S) for stream in ("dust", "sound")
    }


def test_what_a_waiting_policy_tightens_counts_at_once(ruled: Ruled) -> None:
    """Only what it loosens has to wait: the stream that it drops is withheld from the start."""
    assert tightened_in_part(ruled) == {"dust": {"released"}, "sound": {"no_policy"}}


def test_a_gateway_that_does_not_hear_what_waits_is_caught(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin publishes on for a week what the stewards have dropped."""
    monkeypatch.setattr(Publisher, "waiting", property(lambda _: (), lambda *_: None), raising=False)
    assert tightened_in_part(ruled)["sound"] == {"released"}


def test_a_tightening_behind_a_loosening_holds_with_it(ruled: Ruled) -> None:
    """Stewards think better of it: what was announced never begins, and the next version goes back to what holds."""
    ruled.until(MIDNIGHT_S + STEP_S)
    ruled.tell(2, epsilon="1.2")
    ruled.until(MIDNIGHT_S + 2 * STEP_S)
    ruled.tell(3, "dpo")
    ruled.until(MIDNIGHT_S + 3 * STEP_S)
    assert [one.version for one in ruled.turned.db.candidates()] == [2, 3]
    ruled.until(MIDNIGHT_S + 2 * STEP_S + 7 * DAY_S + 1)
    assert ruled.versions() == [1, 2, 3] and ruled.turned.db.candidates() == []
    assert ruled.turned.sense._publisher.policy is not None and ruled.turned.sense._publisher.policy.version == 3


def test_versions_that_come_late_are_taken_in_their_order(ruled: Ruled) -> None:
    """A receipt tells of policy 3 before 2 and 3 have come: nothing is published meanwhile, and both are taken."""
    ruled.until(MIDNIGHT_S + STEP_S)
    enrolled = ruled.turned.enrolled
    enrolled.drop("receipt.cose", enrolled.receipt(1, ruled.turned.db.rows()[1], policy_version=3))
    ruled.until(MIDNIGHT_S + 2 * STEP_S)
    ruled.until(MIDNIGHT_S + 3 * STEP_S)
    assert ruled.blocks("dust", MIDNIGHT_S + 2 * STEP_S, MIDNIGHT_S + 3 * STEP_S) == {"no_policy"}
    ruled.tell(2, "steward", epsilon="0.9")
    ruled.tell(3, "steward", epsilon="0.8")
    ruled.until(MIDNIGHT_S + 4 * STEP_S)
    assert ruled.versions() == [1, 2, 3]


def test_a_first_policy_needs_both_roles_and_begins_at_once(
    turned: Callable[..., Any], enrolled: Any, write_policy: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is new; but it waits for nothing, under the ceiling of the enrolment."""
    monkeypatch.setattr(Ruled, "tell", lambda *_, **__: "")
    gateway = Ruled(turned, enrolled, write_policy)
    monkeypatch.undo()
    gateway.tell(1, "steward")
    gateway.until(MIDNIGHT_S + 1)
    assert (
        gateway.versions() == [] and "the first policy needs signatures of 2 different roles" in gateway.turned.said[-1]
    )
    gateway.tell(1)
    gateway.until(MIDNIGHT_S + 2)
    assert gateway.versions() == [1]


def test_a_fresh_gateway_begins_with_no_policy_that_was_old_at_its_enrolment(
    turned: Callable[..., Any], enrolled: Any, write_policy: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has told it anything yet; what the site had then stands in its own file."""
    trust = enrolled.folder / "trust.toml"
    trust.write_text(trust.read_text() + "policy_version = 3\n")
    monkeypatch.setattr(Ruled, "tell", lambda *_, **__: "")
    gateway = Ruled(turned, enrolled, write_policy)
    monkeypatch.undo()
    for version, versions in ((2, []), (3, [3])):
        gateway.tell(version)
        gateway.until(gateway.now_s + 1)
        assert gateway.versions() == versions


@pytest.mark.parametrize(
    ("enrolled_with", "first", "waits"), [(0, 1, False), (0, 2, True), (3, 3, False), (3, 4, True)]
)
def test_a_fresh_gateway_waits_for_a_first_policy_that_is_newer_than_its_enrolment(
    turned: Callable[..., Any],
    enrolled: Any,
    write_policy: Write,
    monkeypatch: pytest.MonkeyPatch,
    enrolled_with: int,
    first: int,
    waits: bool,
) -> None:
    """It may loosen what was published meanwhile, and was never seen here: seven days, lived, also across a restart."""
    trust = enrolled.folder / "trust.toml"
    trust.write_text(trust.read_text() + f"policy_version = {enrolled_with}\n")
    monkeypatch.setattr(Ruled, "tell", lambda *_, **__: "")
    gateway = Ruled(turned, enrolled, write_policy)
    monkeypatch.undo()
    gateway.tell(first)
    gateway.until(gateway.now_s + 1)
    assert gateway.versions() == ([] if waits else [first])
    if waits:
        assert "is newer than this enrolment, and may hold from" in gateway.turned.said[-1]
        heard_s = gateway.now_s
        gateway.until(heard_s + DAY_S)
        gateway.restart()
        gateway.until(heard_s + 7 * DAY_S - STEP_S)
        assert gateway.versions() == []
        gateway.until(heard_s + 7 * DAY_S + STEP_S)
        assert gateway.versions() == [first]


def test_a_policy_that_cannot_be_kept_waits_as_well_and_then_silences(ruled: Ruled) -> None:
    """Its sensors are judged when it would hold; from then on nothing is published, also after a restart, until one
    comes that can be kept; that one is judged beside it, not beside what was before."""
    ruled.until(MIDNIGHT_S + STEP_S)
    ruled.tell(2, "steward", epsilon="0.9", valid=("2026-01-01", "2026-12-30"), in_stream="", streams=("dust",))
    ruled.until(MIDNIGHT_S + 2 * STEP_S)
    assert ruled.versions() == [1, 2]
    short = ruled.write
    ruled.write = lambda *args, **named: short(*args, **named).replace(b"tail = 2", b"tail = 1")
    ruled.tell(3, epsilon="0.9", valid=("2026-01-01", "2026-12-30"), streams=("dust",))
    ruled.write = short
    ruled.until(MIDNIGHT_S + 3 * STEP_S)
    assert "loosens" in ruled.turned.said[-1]
    ruled.until(MIDNIGHT_S + 3 * STEP_S + 7 * DAY_S + 1)
    assert ruled.turned.said[-1].startswith("policy 3: refused: plaza/dust: the sds011 remembers 2 readings")
    silent_s = ruled.now_s
    ruled.restart()
    ruled.until(silent_s + 2 * STEP_S)
    assert ruled.blocks("dust", silent_s, silent_s + STEP_S) == {"no_policy"} and ruled.versions() == [1, 2]
    ruled.tell(4, "steward", epsilon="0.9", valid=("2026-01-01", "2026-12-30"), streams=("dust",))
    ruled.until(silent_s + 3 * STEP_S)
    assert ruled.versions() == [1, 2, 4] and ruled.turned.db.candidates() == []


def without_a_plan(gateway: Ruled) -> str | None:
    """Returns what is wrong with a gateway that one officer sends a policy of which no plan can be made, under a large
    number, None if nothing: one line says why, and it goes on as if nothing had come, also after a restart."""
    gateway.until(MIDNIGHT_S + STEP_S)
    gateway.tell(900, "dpo", epsilon="0.0001", nodes='{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 24 }')
    gateway.until(MIDNIGHT_S + STEP_S + 1)
    said = gateway.turned.said[-1]
    gateway.until(MIDNIGHT_S + DAY_S)
    gateway.restart()
    gateway.tell(2, "steward", epsilon="0.9")
    gateway.until(MIDNIGHT_S + 3 * DAY_S)
    if gateway.versions() != [1, 2]:
        return "the next version is not taken"
    blocks = gateway.blocks("dust", MIDNIGHT_S, MIDNIGHT_S + 3 * DAY_S)
    if blocks != {"released"}:
        return f"blocks are {blocks}"
    return None if said.startswith("policy 900: is not believed (no_plan): policy: stream plaza/dust: ") else said


def test_a_policy_without_a_plan_silences_nobody(ruled: Ruled) -> None:
    """Whoever signed it, it could not have been published by anybody: it is no policy that is awaited."""
    assert without_a_plan(ruled) is None


def test_a_gateway_that_awaits_what_nobody_can_plan_is_caught(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin takes its number for the newest that there is, and publishes nothing any more."""
    right = Candidates._signed

    def heeds(candidates: Candidates, sealed: bytes) -> Any:
        try:
            return right(candidates, sealed)
        except ConfigError:
            candidates._publisher.heed(900)
            raise

    monkeypatch.setattr(Candidates, "_signed", heeds)
    assert without_a_plan(ruled) is not None


def test_a_full_disk_forgets_no_notice_and_hastens_none(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A looser policy that cannot be noted is not known yet; one that cannot be stored does not hold yet, and neither
    does the one behind it."""
    connection = ruled.turned.db._db

    def pages(more: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0] + more}")

    long = " # " + "x" * 9000
    ruled.until(MIDNIGHT_S + STEP_S)
    pages(0)
    ruled.tell(2, epsilon="1.2", extra=long)
    ruled.until(MIDNIGHT_S + STEP_S + 1)
    assert "waits" in ruled.turned.said[-1] and ruled.turned.db.candidates() == []
    pages(1000)
    ruled.until(MIDNIGHT_S + STEP_S + 2)
    ruled.tell(3, "dpo", epsilon="1.1", extra=long)
    ruled.until(MIDNIGHT_S + STEP_S + 3)
    assert [one.version for one in ruled.turned.db.candidates()] == [2, 3]
    due_s = MIDNIGHT_S + STEP_S + 2 + 7 * DAY_S
    ruled.until(due_s - 2)
    right = GatewayDb.store_policy

    def half(db: GatewayDb, version: int, *rest: Any) -> None:
        if version == 3:
            raise DiskFull("no room")
        right(db, version, *rest)

    monkeypatch.setattr(GatewayDb, "store_policy", half)
    ruled.until(due_s + 10)
    assert ruled.versions() == [1, 2] and [one.version for one in ruled.turned.db.candidates()] == [3]
    monkeypatch.setattr(GatewayDb, "store_policy", right)
    ruled.until(due_s + 20)
    assert ruled.versions() == [1, 2, 3]


@pytest.mark.parametrize("touch", ["candidates SET seen_s = 0", "lived SET until_s = 0"])
def test_a_candidate_that_was_touched_stops_the_gateway(ruled: Ruled, touch: str) -> None:
    """An earlier first sight would be an earlier beginning, and so would be more that was lived."""
    ruled.tell(2, epsilon="1.2")
    ruled.until(MIDNIGHT_S + 1)
    ruled.turned.db._db.execute(f"UPDATE {touch}")
    with pytest.raises(LedgerDamaged):
        ruled.restart()


def test_what_is_left_at_an_instant_heeds_what_waits(ruled: Ruled, capsys: pytest.CaptureFixture[str]) -> None:
    """`edge ledger --at` says of each stream what the publisher does: what waits silences no stream that it has."""
    ruled.until(MIDNIGHT_S + STEP_S)
    ruled.tell(2, streams=("dust",), epsilon="1.2")
    enrolled = ruled.turned.enrolled
    enrolled.drop("receipt.cose", enrolled.receipt(1, ruled.turned.db.rows()[1], policy_version=2))
    ruled.until(MIDNIGHT_S + 2 * STEP_S)
    assert ledger_view.show_at(enrolled.file, "2026-01-15T01:00:00Z", as_json=True) == 0
    streams = json.loads(capsys.readouterr().out)["streams"]
    assert {one["stream"]: one["withheld"] for one in streams} == {"plaza/dust": None, "plaza/sound": "no_policy"}


def test_without_roles_each_key_counts_and_the_notice_is_the_same(ruled: Ruled) -> None:
    """An enrolment that named no roles: a loosening takes as many keys as any policy, and seven days."""
    trust = ruled.turned.enrolled.folder / "trust.toml"
    trust.write_text("".join(line for line in trust.open() if not line.startswith("roles")))
    ruled.restart()
    ruled.tell(2, "steward", epsilon="1.2")
    ruled.until(MIDNIGHT_S + 1)
    assert "loosens" in ruled.turned.said[-1]
    ruled.until(MIDNIGHT_S + 7 * DAY_S + 2)
    assert ruled.versions() == [1, 2]


def test_a_gateway_that_was_enrolled_before_takes_what_is_signed(ruled: Ruled) -> None:
    """Its file has no ceiling: what enough stewards have signed holds as soon as it comes, as it always did."""
    trust = ruled.turned.enrolled.folder / "trust.toml"
    trust.write_text("".join(line for line in trust.open() if not line.startswith(("roles", "ceiling"))))
    ruled.restart()
    ruled.tell(2, "steward", epsilon="1.2")
    ruled.until(MIDNIGHT_S + 1)
    assert ruled.versions() == [1, 2]


def test_a_policy_that_came_before_its_turn_is_judged_again(ruled: Ruled) -> None:
    """One steward's tightening of a loosening that is still on its way skips it, and is not believed; once that one has
    come, it follows it, and nobody has to send it again."""
    ruled.until(MIDNIGHT_S + STEP_S)
    ruled.tell(3, "dpo", epsilon="1.1")
    ruled.until(MIDNIGHT_S + STEP_S + 1)
    assert "policy 3: is not believed (roles)" in ruled.turned.said[-1]
    ruled.tell(2, epsilon="1.2")
    ruled.until(MIDNIGHT_S + STEP_S + 2)
    assert [one.version for one in ruled.turned.db.candidates()] == [2, 3]
    ruled.until(MIDNIGHT_S + STEP_S + 2 + 7 * DAY_S)
    assert ruled.versions() == [1, 2, 3]


class Moved:
    """A gateway whose clock somebody sets while a loosening waits that it first saw a minute after midnight."""

    def __init__(self, gateway: Ruled) -> None:
        self.gateway = gateway
        gateway.until(MIDNIGHT_S + 10 * DAY_S)

    def starts(self, at_s: int) -> None:
        self.gateway.turned.restart()
        self.reads(at_s)

    def steps(self, to_s: int) -> None:
        clock = self.gateway.turned.clock
        clock.stepped, clock.wall_s = True, to_s
        self.reads(to_s)
        self.reads(to_s + 10)

    def reads(self, at_s: int) -> None:
        for port in ("sound", "dust", "dust"):
            self.gateway.turned.batch(port, at_s)
        self.gateway.now_s = at_s


def hastened(gateway: Ruled, how: str) -> str | None:
    """Returns what is wrong with a gateway whose clock is set so that eight days seem to have passed, None if nothing:
    the loosening waits on, and holds once seven days were lived."""
    clock, now_s = Moved(gateway), MIDNIGHT_S + 10 * DAY_S
    if how == "started behind, and put right":
        clock.starts(now_s - 8 * DAY_S)
    gateway.tell(2, epsilon="1.2")
    gateway.until(gateway.now_s + 20)
    if how == "put forward":
        clock.steps(gateway.now_s + 8 * DAY_S)
    elif how == "started behind, and put right":
        clock.steps(now_s)
    elif how == "started again with a later clock":
        clock.starts(gateway.now_s + 8 * DAY_S)
    else:
        clock.steps(gateway.now_s + 8 * DAY_S)
        clock.starts(now_s + 300)
    gateway.until(gateway.now_s + 60)
    if gateway.versions() != [1]:
        return "what the clock has leapt counts as waited"
    gateway.tell(3, "steward", epsilon="1.19")
    gateway.until(gateway.now_s + 60)
    if gateway.versions() != [1]:
        return "one who waits behind it overtakes it"
    lived_s = gateway.now_s
    gateway.until(lived_s + 7 * DAY_S - 1000)
    early = gateway.versions()
    gateway.until(lived_s + 7 * DAY_S)
    return None if (early, gateway.versions()) == ([1], [1, 2, 3]) else "it does not hold after seven days"


CLOCKS = ("put forward", "started behind, and put right", "started again with a later clock", "forward, and back again")


@pytest.mark.parametrize("how", CLOCKS)
def test_nobody_who_sets_the_clock_shortens_a_notice(ruled: Ruled, how: str) -> None:
    """Only what `sense` has lived counts, by a clock that nobody can set; nor does a later clock make it longer."""
    assert hastened(ruled, how) is None


@pytest.mark.parametrize("how", CLOCKS)
def test_a_gateway_that_asks_the_clock_alone_is_caught(ruled: Ruled, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The twin takes what the clock has leapt for time in which everybody could have heard of it."""
    monkeypatch.setattr(Candidates, "_leap_s", lambda *_: 0)
    assert hastened(ruled, how) is not None


def test_a_notice_that_was_begun_by_an_older_release_begins_anew(ruled: Ruled) -> None:
    """Its file does not say how long it was lived."""
    ruled.tell(2, epsilon="1.2")
    ruled.until(MIDNIGHT_S + 6 * DAY_S)
    db = ruled.turned.db
    with db.transaction():
        db._db.execute("DELETE FROM lived")
        db._renew_head()
    ruled.restart()
    ruled.until(MIDNIGHT_S + 12 * DAY_S)
    assert ruled.versions() == [1]
    ruled.until(MIDNIGHT_S + 13 * DAY_S)
    assert ruled.versions() == [1, 2]
