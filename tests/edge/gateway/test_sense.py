"""The main thread of a gateway, turn by turn: starts, clocks, letters, full disks. Ports are played by the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import murmure_edge.publisher
import murmure_edge.sense
import pytest
from murmure_edge.gateway_db import DiskFull, GatewayDb
from murmure_edge.inbox import decide_policy
from murmure_edge.outbox import name_of
from murmure_edge.publisher import Publisher
from murmure_edge.reading import PortBatch, PortHealth, PortState, Reading
from murmure_edge.sense import Sense
from murmure_privacy import log
from murmure_privacy.errors import ConfigError, LedgerDamaged, MurmureError
from murmure_privacy.log import Checkpoint, Growth
from murmure_privacy.policy import Policy
from murmure_privacy.release import Health
from murmure_privacy.window import parse_utc
from murmure_privacy.wire import open_health, public_key

MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")
HOUR_S = 3600
DUST = 'name = "dust"\ndevice = "sds011"\npath = "/nowhere/dust"\nstreams = { pm2_5 = "plaza/dust" }'
BEAM = 'name = "beam"\ndevice = "tfluna"\npath = "/nowhere/beam"\nstreams = { footfall = "plaza/steps" }'
SOUND = 'name = "sound"\ndevice = "modbus_noise"\npath = "/nowhere/sound"\nstreams = { noise = "plaza/sound" }'


@pytest.fixture
def running(turned: Callable[..., Any], write_policy: Callable[..., bytes]) -> Any:
    """A dust sensor since midnight under policy 1 (hours and days)."""
    gateway = turned()
    gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(write_policy(nodes='{ "1h" = 1, "1d" = 24 }')))
    gateway.batch("dust", MIDNIGHT_S)
    return gateway


# --- start -----------------------------------------------------------------------------------------------------------


def test_nothing_is_decided_before_every_port_has_spoken(
    turned: Callable[..., Any], write_policy: Callable[..., bytes]
) -> None:
    """The boot's first instant is the earliest from which all ports listen; then windows open."""
    gateway = turned(DUST, SOUND)
    gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(write_policy(streams=("dust", "sound"))))
    gateway.live(MIDNIGHT_S, MIDNIGHT_S + 5)
    assert gateway.sense._publisher.policy is None
    gateway.batch("sound", MIDNIGHT_S + 7)
    assert gateway.sense._publisher.policy is not None
    gateway.live(MIDNIGHT_S + 5, MIDNIGHT_S + 2 * HOUR_S)
    assert gateway.nodes() == []  # the other port is not there yet
    gateway.live(MIDNIGHT_S + 7, MIDNIGHT_S + 2 * HOUR_S, "sound", "noise", 600)
    assert ("1h", 1.0, 2.0, "released") in gateway.nodes()
    assert len(gateway.messages()) == 7  # from 0:15 on


@pytest.mark.parametrize("governed", [False, True])
def test_a_gateway_without_a_policy_says_that_it_is_a_silent_test(
    turned: Callable[..., Any], write_policy: Callable[..., bytes], governed: bool
) -> None:
    """A technician must not take "nothing is published" for a fault; with a policy there is no such line."""
    gateway = turned()
    if governed:
        gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(write_policy()))
    gateway.batch("dust", MIDNIGHT_S)
    line = "policy: none yet; a silent test: it measures and publishes nothing"
    assert (line in gateway.said) is not governed


def test_what_a_port_says_of_itself_is_said_once(running: Any) -> None:
    """One line when a state changes, with what to do about it."""
    health = PortHealth(PortState.ABSENT, advice="/nowhere/dust: is it plugged in?")
    for second in range(3):
        running.sense._batches.put(PortBatch("dust", {}, (MIDNIGHT_S + second) * 1000, health))
        running.sense._turn()
    assert [line for line in running.said if line.startswith("dust")] == [
        "dust: ok",
        "dust: absent; /nowhere/dust: is it plugged in?",
    ]
    assert running.sense.port_health()["dust"].state is PortState.ABSENT


def test_readings_of_time_that_was_lived_already_are_not_counted_again(
    turned: Callable[..., Any], write_policy: Callable[..., bytes]
) -> None:
    """With the clock put back, what falls before the horizon was read once: it is dropped, and time waits."""
    gateway = turned(BEAM)
    policy = gateway.enrolled.policy(write_policy(streams=("steps",), nodes='{ "1h" = 1 }'))
    gateway.enrolled.drop("policy-1.cose", policy)
    gateway.batch("beam", MIDNIGHT_S)
    alive = [Reading((MIDNIGHT_S + second) * 1000, 0) for second in range(HOUR_S)]
    passes = [Reading((MIDNIGHT_S + second) * 1000, 1) for second in (300, 301, 1700)]
    gateway.batch("beam", MIDNIGHT_S + 1800, {"footfall": [*alive[:1800], *passes]})
    gateway.batch("beam", MIDNIGHT_S + 900, {"footfall": [*alive[:900], *passes[:2]]})
    gateway.batch("beam", MIDNIGHT_S + HOUR_S, {"footfall": [*alive[1800:], *passes[2:]]})
    (message,) = gateway.messages()
    assert message.outcomes[0].noised[0].integers == (3,)


def test_a_calibration_is_added_to_each_reading_before_it_is_clamped(
    turned: Callable[..., Any], write_policy: Callable[..., bytes]
) -> None:
    """1.5 ug/m3 too much: every reading counts for as much less, one at the lower bound for the bound itself."""
    gateway = turned(f'{DUST}\noffset = {{ pm2_5 = -1.5 }}\ncalibrated = 2026-10-01\nmethod = "co-location"')
    gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(write_policy(nodes='{ "1h" = 1 }')))
    gateway.batch("dust", MIDNIGHT_S)
    rows = [Reading((MIDNIGHT_S + 900 * slot) * 1000, value) for slot, value in enumerate((200, 10, 0, 1200))]
    gateway.batch("dust", MIDNIGHT_S + HOUR_S, {"pm2_5": rows})
    (message,) = gateway.messages()
    assert message.outcomes[0].noised[0].integers == (185 + 0 + 0 + 1000,)


def test_a_quantity_that_no_stream_has_is_left_out(running: Any) -> None:
    """The sensor gives PM10 as well; nobody asked for it."""
    running.batch("dust", MIDNIGHT_S + HOUR_S, {"pm10": [Reading(MIDNIGHT_S * 1000, 1)]})
    assert [reason for *_, reason in running.nodes()] == ["sensor_absent"]


@pytest.mark.parametrize("state", [state for state in PortState if state is not PortState.OK])
def test_a_dead_sensor_stops_no_other(
    turned: Callable[..., Any], write_policy: Callable[..., bytes], state: PortState
) -> None:
    """Whatever is the matter with the meter, the dust sensor's hours are released and the meter's are withheld."""
    gateway = turned(DUST, SOUND)
    policy = write_policy(streams=("dust", "sound"), nodes='{ "1h" = 1 }')
    gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(policy))
    for hour in range(3):
        gateway.batch("sound", MIDNIGHT_S + hour * HOUR_S, state=state)
        gateway.live(MIDNIGHT_S + max(0, hour - 1) * HOUR_S, MIDNIGHT_S + hour * HOUR_S)
    assert gateway.nodes() == [
        ("1h", 0, 1, "released"),
        ("1h", 0, 1, "sensor_absent"),
        ("1h", 1, 2, "released"),
        ("1h", 1, 2, "sensor_absent"),
    ]


def test_a_port_that_has_to_stop_stops_the_gateway(running: Any) -> None:
    """A defect in one port's thread would otherwise be shown as an empty street."""
    running.sense._batches.put(PortBatch("dust", {}, 0, PortHealth(PortState.OK), "a defect stopped the thread"))
    with pytest.raises(MurmureError, match="dust: a defect stopped the thread; nothing more is released"):
        running.sense._turn()


def test_the_queue_between_ports_and_windows_is_bounded(turned: Callable[..., Any]) -> None:
    """A port that is faster than the main thread waits; nothing piles up and nothing is dropped."""
    gateway = turned()
    done = threading.Event()

    def post_many() -> None:
        for second in range(200):
            gateway.sense._post(PortBatch("dust", {}, (MIDNIGHT_S + second) * 1000, PortHealth(PortState.OK)))
        done.set()

    threading.Thread(target=post_many, daemon=True).start()
    assert not done.wait(0.3)
    assert gateway.sense._batches.full()
    for _ in range(200):
        gateway.sense._turn()
    assert done.wait(5)
    assert gateway.sense._now_s == MIDNIGHT_S + 199


# --- clock -----------------------------------------------------------------------------------------------------------


def test_a_clock_put_forward_withholds_what_was_open_and_begins_anew(running: Any) -> None:
    """Forty days forward: one message of open nodes, none for the days that were never lived."""
    running.live(MIDNIGHT_S, MIDNIGHT_S + HOUR_S + 60)
    forward_s = MIDNIGHT_S + 40 * 24 * HOUR_S
    stale = PortBatch("dust", {}, (MIDNIGHT_S + HOUR_S + 61) * 1000, PortHealth(PortState.OK))
    for _ in range(3):
        running.sense._batches.put(stale)
    running.clock.stepped, running.clock.wall_s = True, forward_s
    running.sense._turn()
    # A port may have read its clock before the step and post only now: it would open windows forty days ago.
    running.sense._batches.put(stale)
    running.sense._turn()
    running.live(forward_s, forward_s + 60)
    running.live(forward_s + 60, forward_s + 2 * HOUR_S)
    days = 40 * 24
    assert running.nodes() == [
        ("1h", 0, 1, "released"),
        ("1h", 1, 2, "clock"),
        ("1d", 0, 24, "clock"),
        ("1h", days + 0.25, days + 1, "released"),
        ("1h", days + 1, days + 2, "released"),
    ]
    assert "clock: put forward; what was open is withheld" in running.said


def test_nothing_begins_before_the_time_is_trusted(turned: Callable[..., Any], eventually: Callable[..., None]) -> None:
    """No port is opened and no window while nobody vouches for the time; one line says why, one that it is over."""
    gateway = turned()
    gateway.clock.vouched = False
    opened: list[bool] = []
    gateway.sense._ports = [SimpleNamespace(name="dust", run=lambda: opened.append(gateway.clock.begun))]

    def technician() -> None:
        eventually(lambda: gateway.said, "the line")
        time.sleep(0.2)
        opened.append(gateway.clock.begun)
        gateway.clock.vouched = True
        eventually(lambda: len(opened) == 2, "the port")
        gateway.sense.stop()

    thread = threading.Thread(target=technician)
    thread.start()
    gateway.sense.run()
    thread.join()
    assert opened == [False, True]
    assert [line.partition(":")[0] for line in gateway.said] == ["clock", "clock"]
    assert 'clock = "any"' in gateway.said[0] and gateway.said[1] == "clock: trusted"


def test_who_asks_to_stop_is_heard_while_the_time_is_awaited(turned: Callable[..., Any]) -> None:
    """A gateway that waits for the time ends as any other."""
    gateway = turned()
    gateway.clock.vouched = False
    gateway.sense._ports = [SimpleNamespace(name="dust", run=lambda: None)]
    gateway.sense.stop()
    gateway.sense.run()
    assert not gateway.clock.begun and gateway.sense._boot_s is None


def test_health_tells_that_nobody_vouches_for_the_time_any_more(running: Any) -> None:
    """A gateway that has begun goes on without the network; its reports say that its clock runs free."""

    def clock() -> str:
        return reported(running).clock

    assert clock() == "ok"
    running.clock.vouched = False
    running.live(MIDNIGHT_S, MIDNIGHT_S + 900)
    running.live(MIDNIGHT_S + 900, MIDNIGHT_S + 901)
    assert clock() == "unsynced"


def test_a_step_before_the_start_is_waited_for(turned: Callable[..., Any]) -> None:
    """A board without a clock gets its time from the network while the gateway starts: it starts in the new time."""
    gateway = turned(DUST, SOUND)
    gateway.batch("dust", 1000)
    gateway.clock.stepped = True
    gateway.batch("sound", MIDNIGHT_S)
    gateway.batch("sound", MIDNIGHT_S + 1)
    assert gateway.sense._boot_s is None
    gateway.batch("dust", MIDNIGHT_S + 2)
    assert gateway.sense._boot_s == MIDNIGHT_S + 1


def test_a_fault_that_waits_in_the_queue_is_not_lost_with_a_step(running: Any) -> None:
    """Batches of before the step go; the word that a port has died stays."""
    running.sense._batches.put(PortBatch("dust", {}, 0, PortHealth(PortState.OK)))
    running.sense._batches.put(PortBatch("dust", {}, 0, PortHealth(PortState.OK), "a defect stopped the thread"))
    running.clock.stepped = True
    with pytest.raises(MurmureError, match="a defect stopped the thread"):
        running.sense._turn()


# --- letters ---------------------------------------------------------------------------------------------------------


def test_a_receipt_clears_rows_and_files(running: Any) -> None:
    """What the centre has settled goes from the table and the folder; the charges stay."""
    running.live(MIDNIGHT_S, MIDNIGHT_S + 5 * HOUR_S)
    assert running.enrolled.outbox() == [name_of(seq) for seq in range(1, 6)]
    rows = running.db.rows()
    running.enrolled.drop("receipt.cose", running.enrolled.receipt(4, rows[4]))
    running.live(MIDNIGHT_S + 5 * HOUR_S, MIDNIGHT_S + 5 * HOUR_S + 1)
    assert running.enrolled.outbox() == [name_of(5)]
    assert list(running.db.rows()) == [5]
    assert len(list(running.db.ledger.lines())) == 5
    running.restart()
    running.live(MIDNIGHT_S + 5 * HOUR_S + 1, MIDNIGHT_S + 5 * HOUR_S + 2)
    assert running.enrolled.outbox() == [name_of(5)], "the receipt lies there still and says it again"


LEAVES = [log.leaf_hash(bytes([number])) for number in range(9)]
FORK = [log.leaf_hash(b"other"), *LEAVES[1:]]


def reported(running: Any) -> Health:
    sealed = (running.enrolled.folder / "spool" / "outbox" / "health.cose").read_bytes()
    return open_health(sealed, public_key(running.secret))


def grown(leaves: list[bytes], since: int = 0) -> Growth:
    proof = log.consistency_proof(leaves, since) if since else []
    return Growth(Checkpoint(len(leaves), log.root(leaves)), since, tuple(proof))


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (grown(LEAVES[:6]), "other_log: the log has 6"),
        (grown(FORK[:7]), "other_log: the log has another root"),
        (Growth(Checkpoint((1 << 64) - 1, bytes(32))), "other_log: a log of"),
        (grown(FORK, 7), "other_log: the log has 9"),
        (grown(LEAVES), "no_proof: the log has 9 entries, 7 are known, and it has no proof"),
        (grown(LEAVES, 5), "no_proof: the log has 9 entries, 7 are known, and its proof starts from 5"),
        (None, "other_log: it names no log"),
    ],
)
def test_a_log_that_shrank_or_forked_is_not_believed_also_after_a_restart(
    running: Any, told: Growth | None, word: str
) -> None:
    """What a receipt has told of the log is kept: a later receipt of another log, or of a longer
    one without the proof from there, clears nothing, one line says why, and publishing goes on. The same log grown
    longer is believed."""

    def receipt(seq: int, here: Growth | None) -> bytes:
        field = bytes(32) + (log.growth_bytes(here) if here else b"")
        return bytes(running.enrolled.receipt(seq, running.db.message(seq), checkpoint=field))

    running.live(MIDNIGHT_S, MIDNIGHT_S + 3 * HOUR_S)
    running.enrolled.drop("receipt.cose", receipt(1, grown(LEAVES[:7])))
    running.live(MIDNIGHT_S + 3 * HOUR_S, MIDNIGHT_S + 5 * HOUR_S)
    running.restart()
    waiting = list(running.db.rows())
    running.enrolled.drop("receipt.cose", receipt(3, told))
    running.live(MIDNIGHT_S + 5 * HOUR_S, MIDNIGHT_S + 5 * HOUR_S + 1)
    assert list(running.db.rows()) == waiting and len(waiting) > 2
    assert any(word in line for line in running.said)
    running.live(MIDNIGHT_S + 5 * HOUR_S + 1, MIDNIGHT_S + 7 * HOUR_S)
    assert list(running.db.rows())[: len(waiting)] == waiting and len(running.db.rows()) > len(waiting)
    running.enrolled.drop("receipt.cose", receipt(3, grown(LEAVES, 7)))
    running.live(MIDNIGHT_S + 7 * HOUR_S, MIDNIGHT_S + 7 * HOUR_S + 1)
    assert 3 not in running.db.rows()
    running.live(MIDNIGHT_S + 7 * HOUR_S + 1, MIDNIGHT_S + 7 * HOUR_S + 901)
    assert reported(running).log == 9


@pytest.mark.parametrize("settled", [2, 9])
def test_a_forged_receipt_clears_nothing_and_stops_nothing(running: Any, settled: int) -> None:
    """By any key but the centre's it is nothing, be it for our message or for one from the future: one line says so."""
    running.live(MIDNIGHT_S, MIDNIGHT_S + 2 * HOUR_S)
    running.enrolled.centre = bytes(31) + b"\1"
    running.enrolled.drop("receipt.cose", running.enrolled.receipt(settled, running.db.rows()[2]))
    running.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 2 * HOUR_S + 1)
    assert len(running.db.rows()) == 2
    assert "is not believed" in running.said[-1]


def test_an_old_policy_is_refused_also_after_a_restart(running: Any, write_policy: Callable[..., bytes]) -> None:
    """What was signed once cannot be played again to loosen what was tightened."""
    running.enrolled.drop("policy-2.cose", running.enrolled.policy(write_policy(2, epsilon="0.5")))
    running.live(MIDNIGHT_S, MIDNIGHT_S + 10)
    assert running.said[-1] == "policy 2: accepted"
    running.enrolled.drop("policy-3.cose", running.enrolled.policy(write_policy(1, epsilon="5.0")))
    running.live(MIDNIGHT_S + 10, MIDNIGHT_S + 20)
    assert running.said[-1] == "inbox: policy-3.cose is not believed (old_policy)"
    running.said.clear()
    running.restart()
    running.batch("dust", MIDNIGHT_S + 30)
    assert "inbox: policy-3.cose is not believed (old_policy)" in running.said
    assert [item.version for item in running.db.policies()] == [1, 2]


def withheld_until_the_newest_comes(gateway: Any, write_policy: Callable[..., bytes]) -> str | None:
    """Returns what a gateway under policy 1 does wrong that hears of policy 3 by a receipt, None if nothing.

    Whoever holds the broker has let no newer policy through, and plays an older, looser one instead.
    """
    gateway.live(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
    gateway.enrolled.drop("receipt.cose", gateway.enrolled.receipt(1, gateway.db.rows()[1], policy_version=3))
    gateway.enrolled.drop("policy-2.cose", gateway.enrolled.policy(write_policy(2, epsilon="9.0", nodes=HOURS)))
    gateway.live(MIDNIGHT_S + HOUR_S, MIDNIGHT_S + 2 * HOUR_S)
    (gateway.enrolled.folder / "spool" / "inbox" / "receipt.cose").unlink()
    gateway.restart()
    gateway.batch("dust", MIDNIGHT_S + 2 * HOUR_S)
    gateway.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 3 * HOUR_S)
    if [item.version for item in gateway.db.policies()] != [1]:
        return "an old policy was adopted"
    gateway.enrolled.drop("policy-3.cose", gateway.enrolled.policy(write_policy(3, nodes=HOURS)))
    gateway.batch("dust", MIDNIGHT_S + 3 * HOUR_S + 1)
    gateway.live(MIDNIGHT_S + 3 * HOUR_S + 1, MIDNIGHT_S + 26 * HOUR_S)
    reasons = [reason for level, *_, reason in gateway.nodes() if level == "1h"]  # the first has its receipt
    # Nobody has seen policy 2, which may have paused the rest of that day.
    if reasons != ["no_policy"] * 23 + ["released"] * 2:
        return f"the hours after the first were {reasons}"
    waits = "policy 3: is the centre's newest and not yet accepted here; nothing is published until it is"
    return None if gateway.said.count(waits) == 2 else "it is not said once in each life"


HOURS = '{ "1h" = 1, "1d" = 24 }'


def test_while_a_newer_policy_is_awaited_nothing_is_published(running: Any, write_policy: Callable[..., bytes]) -> None:
    """It may pause or drop any stream: what is told once holds after a restart, and until that policy has come."""
    assert withheld_until_the_newest_comes(running, write_policy) is None


def test_policies_that_come_together_are_taken_in_their_order(
    running: Any, write_policy: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause and what lifts it lie in the inbox after an outage: whatever their files are called, the pause counts.
    The twin that takes them by name never sees it."""
    for twin in (False, True):
        if twin:
            monkeypatch.setattr(Sense, "_in_order", lambda self, letters: letters)
        version = running.db.policies()[-1].version
        running.enrolled.drop(
            f"policy-{twin:d}b.cose", running.enrolled.policy(write_policy(version + 1, extra="paused = true"))
        )
        running.enrolled.drop(f"policy-{twin:d}a.cose", running.enrolled.policy(write_policy(version + 2)))
        running.batch("dust", MIDNIGHT_S + HOUR_S + twin)
        taken = [item.version for item in running.db.policies()]
        assert (version + 1 in taken) == (not twin) and version + 2 in taken


@pytest.mark.parametrize("deaf", ["heed", "awaited", "newest_told", "remember"])
def test_a_gateway_that_is_deaf_to_newer_policies_is_caught(
    running: Any, write_policy: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, deaf: str
) -> None:
    """The twins: not listening, publishing under the old one, adopting an old one, forgetting with the power."""
    if deaf == "heed":
        monkeypatch.setattr(Publisher, "heed", lambda *_: None)
    elif deaf == "awaited":
        monkeypatch.setattr(Publisher, "awaited", None)
    elif deaf == "newest_told":
        credulous = lambda sealed, trust, current, _: decide_policy(sealed, trust, current)  # noqa: E731
        monkeypatch.setattr(murmure_edge.sense, "decide_policy", credulous)
    else:
        monkeypatch.setattr(GatewayDb, "remember", lambda *_: None)
    assert withheld_until_the_newest_comes(running, write_policy) is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            {"streams": ("sound",), "tail": ("tail = 11", "tail = 10")},
            "policy 2: refused: plaza/sound: the modbus_noise remembers 11 readings, readings.tail is 10",
        ),
        (
            {"streams": ("dust",), "tail": ("tail = 2", "tail = 1")},
            "policy 2: refused: plaza/dust: the sds011 remembers 2 readings, readings.tail is 1",
        ),
        (
            {"streams": ("dust",), "tail": ('"pm2_5"', '"pm10"')},
            "policy 2: refused: plaza/dust is pm10, the port dust gives pm2_5",
        ),
        (
            {"streams": ("dust",), "tail": ("epsilon = 1.0", "epsilon = 0.0001")},
            "policy 2: refused: policy: stream plaza/dust: nodes.15min: mean gets less than a micro-rho; ",
        ),
    ],
)
def test_a_policy_whose_promise_these_sensors_cannot_keep_is_refused(
    turned: Callable[..., Any], write_policy: Callable[..., bytes], text: dict[str, Any], said: str
) -> None:
    """One line says why and what follows. It never holds, and under the policy of before nothing is published."""
    gateway = turned(DUST, SOUND)
    gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(write_policy(streams=("dust", "sound"))))
    gateway.batch("dust", MIDNIGHT_S)
    gateway.batch("sound", MIDNIGHT_S)
    before, after = text.pop("tail")
    toml = write_policy(2, **text).replace(before.encode(), after.encode())
    gateway.enrolled.drop("policy-2.cose", gateway.enrolled.policy(toml))
    gateway.batch("dust", MIDNIGHT_S + 1)
    assert gateway.said[-1].startswith(said)
    assert gateway.said[-1].endswith("; nothing is published until it, or a newer one, can be kept")
    assert gateway.sense._publisher.policy is not None and gateway.sense._publisher.policy.version == 1
    lines = len(gateway.said)
    gateway.batch("dust", MIDNIGHT_S + 2)
    assert len(gateway.said) == lines
    gateway.live(MIDNIGHT_S + 2, MIDNIGHT_S + HOUR_S)
    gateway.live(MIDNIGHT_S, MIDNIGHT_S + HOUR_S, "sound", "noise", 600)
    assert {reason for *_, reason in gateway.nodes()} == {"no_policy"}


PAUSED_AND_UNFIT: tuple[dict[str, str], ...] = {"extra": "paused = true"}, {"in_stream": "paused = true"}, {}


def withheld_under_an_unfit_one(gateway: Any, write_policy: Callable[..., bytes], change: dict[str, str]) -> list[str]:
    """Returns why the hours of a gateway are withheld ("released" if they are not) of which policy 2 comes after an
    hour, with a tail too short for its sensor: in the hour after, in that after a restart for which `send` has taken
    the letter away, and in the day after policy 3, which can be kept."""
    gateway.live(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
    short = write_policy(2, nodes=HOURS, **change).replace(b"tail = 2", b"tail = 1")
    gateway.enrolled.drop("policy-2.cose", gateway.enrolled.policy(short))
    gateway.live(MIDNIGHT_S + HOUR_S, MIDNIGHT_S + 2 * HOUR_S)
    (gateway.enrolled.folder / "spool" / "inbox" / "policy-2.cose").unlink()
    gateway.restart()
    gateway.batch("dust", MIDNIGHT_S + 2 * HOUR_S)
    gateway.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 3 * HOUR_S)
    gateway.enrolled.drop("policy-3.cose", gateway.enrolled.policy(write_policy(3, nodes=HOURS)))
    gateway.batch("dust", MIDNIGHT_S + 3 * HOUR_S + 1)
    gateway.live(MIDNIGHT_S + 3 * HOUR_S + 1, MIDNIGHT_S + 26 * HOUR_S)
    return [reason for level, *_, reason in gateway.nodes() if level == "1h"]


@pytest.mark.parametrize("change", PAUSED_AND_UNFIT)
def test_a_pause_counts_also_in_a_policy_that_cannot_be_kept(
    running: Any, write_policy: Callable[..., bytes], change: dict[str, str]
) -> None:
    """The stewards have signed that what was so far is over: what that policy pauses is `paused`, the rest has no
    policy any more, at once, also after a restart; the next one that can be kept begins at its midnight."""
    hours = withheld_under_an_unfit_one(running, write_policy, change)
    assert hours[:2] == ["released", "paused" if change else "no_policy"]
    assert hours[2:] == ["no_policy"] * 22 + ["released"] * 2


@pytest.mark.parametrize("deaf", ["refuse", "_pauses", "remember"])
def test_a_gateway_that_passes_over_a_policy_it_cannot_keep_is_caught(
    running: Any, write_policy: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, deaf: str
) -> None:
    """The twins: going on as before, no word of the pause, forgetting with the power."""
    if deaf == "refuse":
        monkeypatch.setattr(Publisher, "refuse", lambda *_: None)
    elif deaf == "_pauses":
        monkeypatch.setattr(murmure_edge.publisher, "_pauses", lambda *_: False)
    else:
        monkeypatch.setattr(GatewayDb, "remember", lambda *_: None)
    hours = withheld_under_an_unfit_one(running, write_policy, PAUSED_AND_UNFIT[0])
    assert hours != ["released", "paused", *["no_policy"] * 22, *["released"] * 2]


def test_a_policy_whose_largest_message_is_too_large_is_refused(
    turned: Callable[..., Any], write_policy: Callable[..., bytes]
) -> None:
    """It could be sealed on no midnight, so it is not begun on any."""
    gateway = turned()
    gateway.batch("dust", MIDNIGHT_S)
    table = write_policy().split(b"[[stream]]")[1]
    many = b"".join(b"[[stream]]" + table.replace(b"plaza/dust", b"plaza/dust%d" % number) for number in range(20))
    gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(write_policy() + many))
    gateway.batch("dust", MIDNIGHT_S + 1)
    assert gateway.said[-1].startswith("policy 1: refused: its largest message would have ")
    assert gateway.db.policies() == []


def test_a_sensor_with_a_longer_memory_than_the_stored_policy_counts_opens_no_node(
    running: Any, write_policy: Callable[..., bytes]
) -> None:
    """The technician changes a sensor while the gateway is off: nothing is released on a promise it cannot keep."""
    running.live(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
    running.ports = (SOUND.replace('"plaza/sound"', '"plaza/dust"'),)
    running.restart()
    running.batch("sound", MIDNIGHT_S + HOUR_S)
    running.batch("sound", MIDNIGHT_S + 4 * HOUR_S)
    assert len(running.messages()) == 1
    assert "policy 1: no node is opened under it: plaza/dust is pm2_5, the port sound gives noise" in running.said


# --- disk ------------------------------------------------------------------------------------------------------------


def fill_up(gateway: Any) -> None:
    connection = gateway.db._db
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(MurmureError, match="no room"), gateway.db.transaction():
        connection.execute("CREATE TABLE filler (x BLOB)")
        connection.execute("INSERT INTO filler VALUES (zeroblob(100000))")


def test_a_policy_that_comes_while_the_disk_is_full_is_taken_when_there_is_room(
    running: Any, write_policy: Callable[..., bytes]
) -> None:
    """It is said once and tried again at each look, though the letter is an old one by then."""
    running.live(MIDNIGHT_S, MIDNIGHT_S + 10)
    fill_up(running)
    text = write_policy(2).replace(b'reason = "R"', b'reason = "' + b"R" * 1000 + b'"') + b"# " + b"x" * 12_000
    running.enrolled.drop("policy-2.cose", running.enrolled.policy(text))
    for second in range(11, 14):
        running.batch("dust", MIDNIGHT_S + second)
    waits = [line for line in running.said if "waits" in line]
    assert len(waits) == 1 and waits[0].startswith("inbox: policy-2.cose waits: ") and "no room" in waits[0]
    running.db._db.execute("PRAGMA max_page_count = 100000")
    running.batch("dust", MIDNIGHT_S + 14)
    assert running.said[-1] == "policy 2: accepted"
    assert [item.version for item in running.db.policies()] == [1, 2]


# --- the past --------------------------------------------------------------------------------------------------------


def test_a_database_that_is_older_than_its_outbox_is_refused(running: Any) -> None:
    """A copy of last week, or a log that lost its end: numbers would be given twice."""
    running.live(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
    running.db.close()
    file = running.enrolled.folder / "data" / "gateway.db"
    old = file.read_bytes()
    running.start()
    running.batch("dust", MIDNIGHT_S + HOUR_S + 60)
    running.live(MIDNIGHT_S + HOUR_S + 60, MIDNIGHT_S + 3 * HOUR_S)
    assert len(running.enrolled.outbox()) == 3
    running.db.close()
    file.write_bytes(old)
    with pytest.raises(LedgerDamaged, match=r"00000000000[23]\.cose: is newer than all that gateway\.db knows of"):
        running.start()


def test_strangers_in_the_outbox_are_no_past(running: Any) -> None:
    """What another key has signed, or nobody, says nothing of us and is cleared away."""
    outbox = running.enrolled.folder / "spool" / "outbox"
    (outbox / name_of(77)).write_bytes(b"rubbish")
    (outbox / name_of(78)).mkdir()
    (outbox / "notes.txt").write_text("hello")
    running.restart()
    assert list(outbox.glob("[0n]*")) == []


# --- health ----------------------------------------------------------------------------------------------------------


def test_health_tells_of_ports_and_nothing_that_was_measured(running: Any) -> None:
    """A sealed report lies in the outbox from the start, renewed each quarter-hour."""
    running.live(MIDNIGHT_S, MIDNIGHT_S + 1000)
    running.batch("dust", MIDNIGHT_S + 1001, state="stalled")
    running.live(MIDNIGHT_S + 1001, MIDNIGHT_S + HOUR_S)
    health = reported(running)
    assert (health.gateway, [name for name, _ in health.ports], health.at_s % 900) == ("gw-plaza", ["dust"], 0)
    assert health.log == 0, "no receipt has told of one yet"


def say_of_the_log(running: Any, told: Growth) -> None:
    """A receipt that settles nothing and tells of the log."""
    field = bytes(32) + log.growth_bytes(told)
    running.enrolled.drop("receipt.cose", running.enrolled.receipt(0, b"", checkpoint=field))


@pytest.mark.parametrize("governed", [True, False])
def test_what_is_known_of_the_log_is_kept_and_reported_at_once(
    turned: Callable[..., Any], write_policy: Callable[..., bytes], governed: bool
) -> None:
    """Before the next message, without a policy too: a start a minute later knows it, and believes no fork. The report
    is renewed in a later minute than the one before, by which the centre tells that it is newer."""
    gateway = turned()
    if governed:
        gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(write_policy(nodes='{ "1h" = 1, "1d" = 24 }')))
    gateway.batch("dust", MIDNIGHT_S + 30)
    say_of_the_log(gateway, grown(LEAVES[:7]))
    gateway.batch("dust", MIDNIGHT_S + 31)
    gateway.batch("dust", MIDNIGHT_S + 89)
    gateway.batch("dust", MIDNIGHT_S + 89)
    assert reported(gateway).log == 0
    gateway.batch("dust", MIDNIGHT_S + 90)
    gateway.batch("dust", MIDNIGHT_S + 90)
    report = reported(gateway)
    assert (report.log, report.uptime_s, report.at_s) == (7, 60, MIDNIGHT_S)
    assert gateway.db.next_message()[0] == 1, "no message has been made"
    gateway.restart()
    assert gateway.db.log == grown(LEAVES[:7]).here
    say_of_the_log(gateway, grown(FORK, 7))
    gateway.batch("dust", MIDNIGHT_S + 100)
    assert any("other_log" in line for line in gateway.said) and gateway.db.log == grown(LEAVES[:7]).here


def test_a_receipt_without_its_proof_renews_the_report_once_in_a_quarter_hour(running: Any) -> None:
    """The centre is told where its proof has to start, however many receipts it sends; the next quarter-hour once more.
    So it is for a log that grows with each receipt, of which no more is written on the card either."""

    def reports(seconds: int, hear: Callable[[int], Growth]) -> set[tuple[int, int, int | None]]:
        seen, commits = set(), set()
        for second in range(60, seconds, 60):
            say_of_the_log(running, hear(second))
            running.batch("dust", running.sense._now_s + 60)
            report = reported(running)
            seen.add((report.at_s - MIDNIGHT_S, report.uptime_s, report.log))
            commits.add(running.db._db.execute("SELECT size FROM journal").fetchone())
        assert len(commits) <= len(seen) + 1, "with each report, and with the message of the hour"
        return seen

    say_of_the_log(running, grown(LEAVES[:3]))
    running.batch("dust", MIDNIGHT_S + 1)
    running.batch("dust", MIDNIGHT_S + 61)
    running.batch("dust", MIDNIGHT_S + 61)
    assert reported(running).log == 3
    running.batch("dust", MIDNIGHT_S + 900)
    running.batch("dust", MIDNIGHT_S + 900)
    assert reports(1740, lambda second: grown(LEAVES[: 4 + second // 60 % 5], 2)) == {
        (900, 900, 3),
        (900, 960, 3),
        (1800, 1800, 3),
        (1800, 1860, 3),
    }
    running.batch("dust", MIDNIGHT_S + 2700)
    running.batch("dust", MIDNIGHT_S + 2700)
    sizes = iter(range(4, 100))
    leaves = [log.leaf_hash(bytes([number])) for number in range(100)]

    def longer(_: int) -> Growth:
        size = next(sizes)
        return grown(leaves[:size], size - 1)

    found = reports(1740, longer)
    assert [(at_s, uptime_s) for at_s, uptime_s, _ in sorted(found)] == [
        (2700, 2700),
        (2700, 2760),
        (3600, 3600),
        (3600, 3660),
    ]


def test_a_report_waits_for_no_room_on_the_card(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room the log is known in memory, told, and written with a later report."""
    say_of_the_log(running, grown(LEAVES[:7]))

    def full(self: GatewayDb) -> None:
        raise DiskFull("no room")

    with monkeypatch.context() as without_room:
        without_room.setattr(GatewayDb, "keep_log", full)
        running.batch("dust", MIDNIGHT_S + 1)
        running.batch("dust", MIDNIGHT_S + 61)
        running.batch("dust", MIDNIGHT_S + 61)
        assert reported(running).log == 7
    running.batch("dust", MIDNIGHT_S + 900)
    running.batch("dust", MIDNIGHT_S + 900)
    running.restart()
    assert running.db.log == grown(LEAVES[:7]).here


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "said"),
    [
        (DUST + "\nspeed = 3", "port 1.speed: unknown key; sds011 knows baud"),
        (DUST.replace("sds011", "thermometer"), 'port 1.device: "thermometer": no such device; write one of '),
        (DUST.replace("pm2_5 =", "noise ="), "port 1.streams: a sds011 gives no noise; write one of pm2_5, pm10"),
    ],
)
def test_a_wrong_port_is_refused_in_one_line(turned: Callable[..., Any], port: str, said: str) -> None:
    """File, key, and what to write instead."""
    with pytest.raises(ConfigError) as caught:
        turned(port)
    assert f"gateway.toml: {said}" in str(caught.value)


def test_a_gateway_without_a_sensor_is_refused(enrolled: Any, exact: Any, turned_kind: Any) -> None:
    """There is nothing to do."""
    gateway = turned_kind(enrolled, exact)
    with pytest.raises(ConfigError, match=r"gateway\.toml: port: no sensor; write a \[\[port\]\] table"):
        gateway.sense.run()
    gateway.db.close()


def test_the_policy_in_force_is_the_stored_one_after_a_restart(running: Any, make_policy: Any) -> None:
    """No letter is needed: the database has it."""
    running.live(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
    for letter in (running.enrolled.folder / "spool" / "inbox").iterdir():
        letter.unlink()
    running.restart()
    running.batch("dust", MIDNIGHT_S + HOUR_S)
    running.live(MIDNIGHT_S + HOUR_S, MIDNIGHT_S + 2 * HOUR_S)
    want: Policy = make_policy(nodes='{ "1h" = 1, "1d" = 24 }')
    assert running.sense._publisher.policy == want
    assert running.nodes()[-1] == ("1h", 1, 2, "released")
