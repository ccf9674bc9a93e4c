"""Weeks without network, a power cut every seven hours, then a narrow and forgetful line: nothing is lost or doubled.

Six hourly streams through the real Sense, GatewayDb, Outbox, Inbox, PostOffice, Intake and Archive, in one process and
in simulated time. `gateway.db` lies on a disk that loses what was not synced (tests/power_loss.py); draws are numbered,
so that each can be followed from the ledger to the archive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, cast

import murmure_edge.sense
import pytest
from murmure_edge.allowance import cost_bytes
from murmure_edge.config import load, load_trust
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.inbox import decide_receipt
from murmure_edge.outbox import Outbox, name_of
from murmure_edge.publisher import Publisher
from murmure_edge.reading import PortBatch, PortHealth, PortState, Reading
from murmure_edge.send import PostOffice, SentLog
from murmure_edge.uplink import Acknowledged, Arrived, Event, Topics, Uplink, UplinkLost
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_ingest.intake import Duplicate, Heard, Intake, Stored
from murmure_ingest.proofs import Proofs
from murmure_ingest.receipts import receipt
from murmure_ingest.rules import RuleBook
from murmure_privacy.errors import LedgerDamaged
from murmure_privacy.policy import parse
from murmure_privacy.release import Release
from murmure_privacy.window import Calendar, parse_utc
from murmure_privacy.wire import digest, new_key, open_message, open_receipt, public_key, seal_message, seal_receipt

START_S = parse_utc("2026-03-06T23:00:00Z")  # midnight in Paris; the clocks change on the 23rd day
STEP_S, HOUR_S, DAY_S = 900, 3600, 86_400
CUT_EVERY_S = 7 * HOUR_S
OUTAGE_DAYS, SHORT_DAYS = 30, 2
BYTES_PER_DAY = 400_000
TOPICS = Topics.of("centre", "gw-plaza")

PORTS = (
    'name = "beam"\ndevice = "tfluna"\npath = "/nowhere/beam"\nstreams = { footfall = "plaza/steps" }',
    'name = "sound"\ndevice = "modbus_noise"\npath = "/nowhere/sound"\nstreams = { noise = "plaza/sound" }',
    *(
        f'name = "{name}"\ndevice = "sds011"\npath = "/nowhere/{name}"\n'
        f'streams = {{ pm2_5 = "plaza/{name}-2", pm10 = "plaza/{name}-10" }}'
        for name in ("street", "yard")
    ),
)
_AIR = "protects = { seconds = 60 }\nreadings = { cadence_ms = 900000, tail = 2 }\nbounds = [0, 100]"
STREAMS = {
    "steps": ("footfall", "protects = { crossings = 1 }"),
    "sound": (
        "noise",
        "protects = { seconds = 15 }\nreadings = { cadence_ms = 900000, tail = 11 }\nbounds_db = [35, 85]\n"
        "indicators = { histogram = 6, mean = 3, energy = 1 }",
    ),
    **{
        f"{name}-{size}": (f"pm{size}".replace("pm2", "pm2_5"), _AIR) for name in ("street", "yard") for size in (2, 10)
    },
}
POLICY = (
    'policy = 1\nsite = "plaza"\nversion = 1\ntimezone = "Europe/Paris"\ndecision = "D 1"\nreason = "R"\n'
    "valid_from = 2026-01-01\nvalid_until = 2026-12-31\n"
    + "".join(
        f'[[stream]]\nid = "plaza/{name}"\nquantity = "{quantity}"\nepsilon = 1.0\nnodes = {{ "1h" = 1, "1d" = 24 }}\n'
        f"{rest}\n"
        for name, (quantity, rest) in STREAMS.items()
    )
).encode()
CALENDAR = Calendar("Europe/Paris")


@dataclass(frozen=True)
class Run:
    """One life between two power cuts: from when to when time was lived."""

    boot_s: int
    end_s: int


class Gateway:
    """A `Sense` whose power is cut. What it has handed over is what the world may have seen."""

    def __init__(self, turned_kind: Any, enrolled: Any, mechanism: Any, disks: ModuleType, seed: int) -> None:
        self.disks, self.disk, self.draw = disks, disks.Disk(), Random(seed)
        self.handed: dict[int, bytes] = {}
        self.fresh: list[tuple[int, int, bytes]] = []  # (operations until then, number, bytes) of this run
        self.runs: list[Run] = []
        self.now_s = START_S
        gateway = self

        class OnThisDisk(turned_kind):  # type: ignore[misc]
            def opened(self, path: Path) -> GatewayDb:
                connect: Any = lambda _: disks.Connection(gateway.disk, "gateway.db")  # noqa: E731
                return GatewayDb.open(path, connect)

        self.turned = OnThisDisk(enrolled, mechanism, *PORTS)
        self.begin()

    @property
    def db(self) -> GatewayDb:
        return cast(GatewayDb, self.turned.db)

    def begin(self) -> None:
        """Every port says from when on it listens; then it is as before the cut."""
        self.boot_s = self.now_s
        committed = self.turned.sense._publisher._committed

        def hand_over(message: Any, sealed: bytes) -> None:
            self.fresh.append((len(self.disk.journal), message.seq, sealed))
            committed(message, sealed)

        self.turned.sense._publisher._committed = hand_over
        for name in ("beam", "sound", "street", "yard"):
            self.post(name, self.now_s, {})

    def post(self, port: str, until_s: int, readings: dict[str, list[Reading]]) -> None:
        self.turned.sense._batches.put(
            PortBatch(port, readings, until_s * 1000, PortHealth(PortState.OK, frames=1), None)
        )
        self.turned.sense._turn()

    def step(self) -> None:
        """A quarter-hour, or what is left of it."""
        from_s, until_s = self.now_s, self.now_s - self.now_s % STEP_S + STEP_S
        # Half the seconds and some are enough for a count; one slot a quarter-hour is all that the others have.
        steps = [Reading(at_s * 1000, int(self.draw.random() < 0.05)) for at_s in range(from_s, until_s) if at_s % 3]
        slot = [Reading(from_s * 1000, self.draw.randint(100, 800))] if from_s % STEP_S == 0 else []
        self.post("beam", until_s, {"footfall": steps})
        self.post("sound", until_s, {"noise": slot})
        for name in ("street", "yard"):
            self.post(name, until_s, {"pm2_5": slot, "pm10": slot})
        self.now_s = until_s

    def cut(self, from_operation: int) -> None:
        """The power goes somewhere after that operation; it comes back a minute to forty minutes later, perhaps in the
        middle of a minute."""
        whole = len(self.disk.journal)
        after = self.draw.choice([whole, self.draw.randint(from_operation, whole)])
        image = self.disk.cut(after, self.draw)
        self.db.close()
        outbox = self.turned.enrolled.folder / "spool" / "outbox"
        for at, seq, sealed in self.fresh:
            file = outbox / name_of(seq)
            if at <= after:
                self.handed[seq] = sealed
                if self.draw.random() < 0.1:
                    file.unlink(missing_ok=True)
            else:
                file.unlink(missing_ok=True)
        (outbox / ".000000000001.cose.tmp").write_bytes(b"half")
        self.runs.append(Run(self.boot_s, self.now_s))
        self.fresh = []
        self.disk = self.disks.Disk(image)
        self.now_s += self.draw.choice([60, 600, 2400]) + self.draw.randint(0, 59)
        self.turned.start()
        self.begin()

    def see_all(self) -> None:
        self.handed |= {seq: sealed for _, seq, sealed in self.fresh}
        self.fresh = []


class Line:
    """A broker that acknowledges everything and loses some of it, and the centre behind it; for `send` its uplink.

    Each turn without news is a quarter-hour, in which `sense` works too. After seven hours the power goes.
    """

    def __init__(self, gateway: Gateway, centre: Centre, until_s: int) -> None:
        self.gateway, self.centre, self.until_s = gateway, centre, until_s
        self._events: list[Event] = []
        self._token = 0
        self.operations = len(gateway.disk.journal)

    def publish(self, topic: str, payload: bytes) -> int:
        self._token += 1
        self.centre.paid.append((self.gateway.now_s, cost_bytes(topic, len(payload))))
        self._events.append(Acknowledged(self._token, None))
        times = self.gateway.draw.choice([0, 1, 1, 1, 1, 1, 1, 2])
        if topic == TOPICS.release and times:
            self.centre.take(payload, times)
            self._events.append(Arrived(TOPICS.receipt, self.centre.answer()))
        if topic == TOPICS.health and times:
            self.centre.hear(payload)
            self._events += [Arrived(TOPICS.receipt, self.centre.answer()) for _ in self.centre.proofs.due()]
        return self._token

    def turn(self, timeout_s: float) -> list[Event]:
        events, self._events = self._events, []
        if not events:
            if self.gateway.now_s >= self.until_s:
                raise UplinkLost("the power goes")
            self.operations = len(self.gateway.disk.journal)
            self.gateway.step()
        return events


class Centre:
    """The archive and its door; it counts what comes."""

    def __init__(self, path: Path, enrolled: Any, secret: bytes) -> None:
        self.archive = Archive.open(path)
        self.intake = Intake(self.archive, RuleBook(self.archive), lambda: 1 << 40)
        self.secret = enrolled.centre
        line = Enrolment("gw-plaza", "centre", "plaza", public_key(secret), (public_key(enrolled.steward),), 1)
        with self.archive.transaction():
            self.line = self.archive.enrol(line)
            self.archive.put_policy(StoredPolicy(digest(POLICY), "plaza", 1, POLICY, enrolled.policy(POLICY)))
        self.proofs = Proofs(self.archive, lambda: float(self.now_s()))
        self.now_s: Callable[[], int] = lambda: START_S
        self.duplicates = 0
        self.order: list[int] = []
        self.paid: list[tuple[int, int]] = []

    def take(self, sealed: bytes, times: int) -> None:
        for word in self.intake.accept_many([(TOPICS.release, sealed)] * times):
            self.duplicates += isinstance(word, Duplicate)
            if isinstance(word, Stored):
                self.order.append(word.seq)

    def hear(self, report: bytes) -> None:
        word = self.intake.accept(TOPICS.health, report)
        if isinstance(word, Heard):
            self.proofs.heard(word.gateway, word.log)

    def answer(self) -> bytes:
        return receipt(self.archive, self.line, self.secret, self.proofs.say(self.line))


class Outage:
    """The whole story, told once: `days` without network, then the line until everything is settled."""

    def __init__(self, gateway: Gateway, centre: Centre, days: int) -> None:
        self.gateway, self.centre = gateway, centre
        self.end_s = START_S + days * DAY_S
        centre.now_s = lambda: gateway.now_s

    def without_network(self) -> None:
        gateway = self.gateway
        gateway.turned.enrolled.drop("policy-1.cose", gateway.turned.enrolled.policy(POLICY))
        cut_s = START_S + CUT_EVERY_S
        while gateway.now_s < self.end_s:
            operations = len(gateway.disk.journal)
            gateway.step()
            if gateway.now_s >= cut_s:
                cut_s += CUT_EVERY_S
                gateway.cut(operations)
        gateway.see_all()

    def with_network(self, patience_days: int = 20) -> None:
        """Power cuts go on while the backlog drains; `send` begins anew with each, with what `send.db` has."""
        gateway, enrolled = self.gateway, self.gateway.turned.enrolled
        config = load(enrolled.file)
        assert config.broker is not None
        config = replace(config, broker=replace(config.broker, bytes_per_day=BYTES_PER_DAY, resend_s=600))
        patience_s = gateway.now_s + patience_days * DAY_S
        while gateway.now_s < patience_s:
            line = Line(gateway, self.centre, gateway.now_s + CUT_EVERY_S)
            with closing(SentLog(config.send_data, pytest.fail)) as log, suppress(UplinkLost):
                now: Callable[[], int] = lambda: gateway.now_s  # noqa: E731
                office = PostOffice(config, TOPICS, log, now, lambda: float(gateway.now_s), pytest.fail)
                office.serve(cast(Uplink, line), threading.Event())
            if gateway.db.depth() <= 1:
                break
            gateway.cut(line.operations)
        gateway.see_all()

    def judge(self) -> str | None:
        """Returns what is not in the archive as it was handed over, None if nothing. The newest may be on its way."""
        archive, gateway = self.centre.archive, self.gateway
        counts = archive.counts()
        if counts["conflicts"] or counts["refused"] or counts["quarantined"]:
            return f"the centre objects: {counts['refused']}"
        stored = {message.seq: message.sealed for message in archive.messages("gw-plaza")}
        settled = archive.totals("gw-plaza").settled_seq
        before_newest = len(gateway.handed) - 1
        lost = [seq for seq in gateway.handed if seq <= before_newest and seq not in stored]
        if lost or settled < before_newest:
            return f"messages are lost: {lost[:5]}"
        if any(gateway.handed[seq] != sealed for seq, sealed in stored.items()):
            return "a message arrived that was not handed over so"
        return None


@pytest.fixture
def outage(
    turned_kind: Any,
    enrolled: Any,
    numbered: type,
    power_loss: ModuleType,
    gateway_secret: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[int], Outage]]:
    """outage(days) -> one that has not begun."""
    made: list[Outage] = []

    def make(days: int) -> Outage:
        gateway = Gateway(turned_kind, enrolled, numbered(), power_loss, seed=days)
        centre = Centre(tmp_path_factory.mktemp("centre") / "archive.db", enrolled, gateway_secret)
        made.append(Outage(gateway, centre, days))
        return made[-1]

    yield make
    for one in made:
        one.gateway.db.close()
        one.centre.archive.close()


def days_are_told(story: Outage) -> int:
    """Asserts that each day whose end was lived has its one figure, from the last start on. Returns how many have."""
    told, runs = 0, [*story.gateway.runs, Run(story.gateway.boot_s, story.gateway.now_s)]
    found = {
        outcome.node.key: outcome.node
        for name in STREAMS
        for outcome in story.centre.archive.outcomes(f"plaza/{name}", 0, 1 << 40)
        if isinstance(outcome, Release) and outcome.node.level == "1d"
    }
    day = CALENDAR.node("1d", START_S)
    while day.end_s <= story.end_s:
        # The run in which the day ended, well before its own end: what was closing at a cut may be lost with it.
        alive = [run for run in runs if run.boot_s + STEP_S < day.end_s < run.end_s - STEP_S]
        for name in STREAMS:
            node = found.get((f"plaza/{name}", "1d", day.start_s))
            if alive:
                opened_s = -(-alive[0].boot_s // STEP_S) * STEP_S
                assert node is not None and node.covered_from_s == max(day.start_s, opened_s)
        told += bool(alive)
        day = CALENDAR.node("1d", day.end_s)
    return told


def whole_story(story: Outage, broken_promise: Callable[..., str | None]) -> None:
    """Asserts all of it."""
    story.without_network()
    gateway, centre = story.gateway, story.centre
    assert broken_promise(gateway.db, {parse(POLICY, "p").hash: parse(POLICY, "p")}) is None
    waiting = gateway.db.rows()
    assert {seq: waiting[seq] for seq in gateway.handed} == gateway.handed
    # A commit that the cut came after, and whose hand-over it came before, is known from the next start on.
    gateway.handed = dict(waiting)
    story.with_network()
    gateway.handed |= gateway.db.rows()
    assert story.judge() is None
    assert centre.duplicates > 0, "the line has doubled and the gateway repeated something"
    released = [
        n.integers
        for name in STREAMS
        for outcome in centre.archive.outcomes(f"plaza/{name}", 0, 1 << 40)
        if isinstance(outcome, Release)
        for n in outcome.noised
    ]
    draws = [value for integers in released for value in integers]
    assert len(set(draws)) == len(draws), "a draw was filed twice"
    unsent = sum(
        n.rho_micro
        for sealed in gateway.db.rows().values()
        for outcome in open_message(sealed, public_key(gateway.turned.secret)).outcomes
        if isinstance(outcome, Release) and centre.archive.taken([outcome]) is None
        for n in outcome.noised
    )
    assert centre.archive.totals("gw-plaza").charged_rho_micro + unsent == gateway.db.charged_rho_micro()
    first = [seq for seq in centre.order if seq <= len(waiting)]
    late = sum(later < sooner for sooner, later in pairwise(first))
    assert late < len(first) / 5, "the oldest go first, but for those that the broker has lost"


def test_a_short_outage_with_power_cuts_loses_and_doubles_nothing(
    outage: Callable[[int], Outage], broken_promise: Callable[..., str | None]
) -> None:
    """Two days without network and four on a narrow line, the power gone every seven hours."""
    story = outage(SHORT_DAYS)
    whole_story(story, broken_promise)
    assert days_are_told(story) >= 1


@pytest.mark.long
def test_thirty_days_without_network_and_a_power_cut_every_seven_hours(
    outage: Callable[[int], Outage], broken_promise: Callable[..., str | None]
) -> None:
    """All that was released arrives once, in the bytes of then; each draw is published once, each charge is one
    release; every day has its figure from the last start on; no 24 hours of the line carry more than they may."""
    story = outage(OUTAGE_DAYS)
    whole_story(story, broken_promise)
    told = days_are_told(story)
    paid = story.centre.paid
    most = max(sum(n for at_s, n in paid if first <= at_s < first + DAY_S) for first, _ in paid)
    cuts = len(story.gateway.runs)
    print(
        f"{cuts} power cuts, {len(story.gateway.handed)} messages, {story.centre.duplicates} duplicates, "
        f"{told} of {OUTAGE_DAYS} days with their figure, at most {most} bytes in 24 hours"
    )
    assert cuts > 100 and told >= OUTAGE_DAYS - 4 and most <= BYTES_PER_DAY


def test_a_second_draw_after_a_resend_is_found_out(
    outage: Callable[[int], Outage], monkeypatch: pytest.MonkeyPatch, gateway_secret: bytes
) -> None:
    """The twin: an outbox that is made again with other noise contradicts itself; the centre sees it, and so does the
    gateway at the next receipt."""

    class Redrawing(Outbox):
        def start(self, first: int, newest: int) -> None:
            kept, again = self._fetch, self.__class__.starts
            self.__class__.starts += 1

            def redrawn(seq: int) -> bytes | None:
                sealed = kept(seq)
                if sealed is None or not again:
                    return sealed
                message = open_message(sealed, public_key(gateway_secret))
                outcomes = tuple(
                    replace(o, noised=tuple(replace(n, integers=tuple(v + 1 for v in n.integers)) for n in o.noised))
                    if isinstance(o, Release)
                    else o
                    for o in message.outcomes
                )
                return seal_message(replace(message, outcomes=outcomes), gateway_secret)

            self._fetch = redrawn
            super().start(first, newest)

        starts = 0

    monkeypatch.setattr(murmure_edge.sense, "Outbox", Redrawing)
    story = outage(SHORT_DAYS)
    story.without_network()
    with pytest.raises(LedgerDamaged, match="has a clone"):
        story.with_network()
    assert story.judge() is not None


def test_a_receipt_from_a_stranger_is_found_out(
    outage: Callable[[int], Outage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: a gateway that settles on anybody's word, and has no room to keep what was settled, loses messages."""
    stranger, public = new_key()
    story = outage(SHORT_DAYS)
    enrolled = story.gateway.turned.enrolled
    trust = load_trust(load(enrolled.file))
    story.without_network()
    waiting = dict(story.gateway.db.rows())
    half = len(waiting) // 2
    enrolled.drop("receipt.cose", enrolled.receipt(half, waiting[half]))
    genuine = (enrolled.folder / "spool" / "inbox" / "receipt.cose").read_bytes()
    forged = seal_receipt(open_receipt(genuine, trust.centre), stranger)
    enrolled.drop("receipt.cose", forged)
    story.gateway.step()
    assert story.gateway.db.settled == 0, "nobody but the centre settles anything"
    monkeypatch.setattr(
        murmure_edge.sense,
        "decide_receipt",
        lambda data, _, state: decide_receipt(data, replace(trust, centre=public), state),
    )
    enrolled.drop("receipt-2.cose", forged)
    story.gateway.db._keep = 0
    for _ in range(HOUR_S // STEP_S):
        story.gateway.step()
    story.gateway.handed = waiting | story.gateway.db.rows()
    assert (story.gateway.db.settled, story.gateway.db.oldest()) == (half, half + 1)
    monkeypatch.undo()
    story.with_network(patience_days=2)
    assert story.judge() is not None


def test_a_gateway_that_hands_over_before_its_commit_is_found_out(
    outage: Callable[[int], Outage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what has left and is not in the table after a cut would be drawn again; the next start sees it lie in
    the outbox and stops."""

    def hasty(self: Any, closing_: Any) -> Any:
        with self._db.transaction():
            outcomes = closing_.decide()
            done = self._seal(closing_.closing_s, outcomes) if outcomes else None
            if done is not None:
                self._committed(*done)
        return None

    monkeypatch.setattr(Publisher, "_commit", hasty)
    with pytest.raises(LedgerDamaged, match="is newer than all that"):
        outage(SHORT_DAYS).without_network()
