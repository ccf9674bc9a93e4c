"""Process 1 of a gateway: sensors, windows, gate, ledger, outbox. It sees people and has no network.

One thread per port puts batches on one bounded queue; this one thread owns windows, ledger and outbox. Time is that of
the readings: a window closes when every port has passed its end, so that a replayed week and a lived one take the same
path. Nothing begins before somebody vouches for the time (`murmure_edge.clock`).
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NoReturn

from murmure_privacy import log
from murmure_privacy.decide import FLOOR
from murmure_privacy.errors import ConfigError, LedgerDamaged, MurmureError, WireError
from murmure_privacy.files import names, opened, read_regular
from murmure_privacy.gate import Mechanism
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Message
from murmure_privacy.wire import MESSAGE_LIMIT, open_message, public_key, seal_health

from murmure_edge import health
from murmure_edge.candidates import Candidates
from murmure_edge.clock import ANY, STEP_MS, Clock, LiveClock
from murmure_edge.config import GatewayConfig, PortConfig, Trust, load, load_record_key, load_trust
from murmure_edge.folders import prepare_folders
from murmure_edge.gateway_db import DiskFull, GatewayDb
from murmure_edge.inbox import (
    Inbox,
    Letter,
    NewPolicy,
    OlderCopy,
    OutboxState,
    Refused,
    Settled,
    decide_policy,
    decide_receipt,
)
from murmure_edge.link import Link
from murmure_edge.outbox import Outbox, seq_of
from murmure_edge.port import Port
from murmure_edge.publisher import Identity, Publisher
from murmure_edge.reading import PortBatch, PortHealth
from murmure_edge.sensors import make_driver
from murmure_edge.sensors.base import Driver, SettingError
from murmure_edge.sensors.tfluna import TfLuna
from murmure_edge.sensors.two_beams import APART_MS, COUNTED, TwoBeams
from murmure_edge.shutters import close_the_shutters, lock_memory
from murmure_edge.supervisor import NOBODY, Supervisor

LIVE_BATCH_MS = 1000
_QUEUE_BATCHES = 64  # bounds what is in flight; a port that is too fast waits
_TURN_S = 0.25
_PORT_PATIENCE_S = 60.0  # a port hands on once a second; one that hangs for so long hangs for good, and all wait for it
_TIME_S = 1.0  # between two looks whether the time is trusted
_INBOX_S = 1.0


@dataclass(slots=True)
class _PortView:
    """What the main thread knows of a port: streams and calibration by quantity, its newest horizon and state. `pair`:
    what makes one counter of its beam and of another one's."""

    streams: Mapping[str, str]
    offsets: Mapping[str, int]
    pair: TwoBeams | None = None
    horizon_ms: int | None = None
    state: str = "opening"
    heard_s: float = 0.0
    health: PortHealth | None = None


class Sense:
    """The main thread's work. `run` returns when `stop` is set or raises MurmureError when it must not go on."""

    def __init__(
        self,
        config: GatewayConfig,
        trust: Trust,
        db: GatewayDb,
        secret: bytes,
        make_link: Callable[[int, PortConfig, int, threading.Event], Link],
        clock: Clock,
        mechanism: Mechanism,
        say: Callable[[str], None],
        batch_ms: int = LIVE_BATCH_MS,
        supervisor: Supervisor = NOBODY,
    ) -> None:
        self._supervisor = supervisor
        self._config, self._trust, self._db, self._clock, self._say = config, trust, db, clock, say
        self._secret = secret
        self._stop = threading.Event()
        self._batches: queue.Queue[PortBatch] = queue.Queue(_QUEUE_BATCHES)
        self._views = {port.name: _PortView(port.streams, port.calibration.offsets) for port in config.ports}
        for port in config.ports:
            if port.second_beam_of:
                first, second = self._views[port.second_beam_of], self._views[port.name]
                first.pair = second.pair = TwoBeams(first.streams[COUNTED], port.second_beam_of, port.name)
        self._drivers = [(port, _driver(config, port)) for port in config.ports]
        self._ports = [
            Port(
                port.name,
                make_link(number, port, port.baud or driver.baud, self._stop),
                driver,
                self._post,
                batch_ms=batch_ms,
                stop=self._stop,
            )
            for number, (port, driver) in enumerate(self._drivers)
        ]
        self._outbox = Outbox(config.outbox, say, db.message)
        self._inbox = Inbox(config.inbox, say)
        self._publisher = Publisher(
            db, Identity(trust.gateway, trust.quartier, trust.site, secret), mechanism, self._committed, say
        )
        self._candidates = Candidates(db, trust, self._publisher, self._unfit, say)
        self._sources = health.board(config.data)
        self._boot_s: int | None = None
        self._health_s: int | None = None
        self._news: set[str] = set()  # what the centre should hear of before the next report is due
        self._early: set[str] = set()  # what made a report in this quarter-hour before the next was due
        self._before_start: list[PortBatch] = []
        self._not_before_ms = 0
        self._waiting_letters: list[Letter] = []  # true ones for which the disk had no room
        self._said_awaited: int | None = None
        self._said_lost: int | None = None
        self._next_look = 0.0
        self._now_s = 0

    def stop(self) -> None:
        """Asks `run` to end; may be called from a signal handler."""
        self._stop.set()

    def port_health(self) -> dict[str, PortHealth]:
        """Returns what each port has counted; never a value that was measured."""
        return {name: view.health for name, view in self._views.items() if view.health is not None}

    def run(self) -> None:
        """Runs until stopped. Open windows are lost with the process, by design: they are in memory only."""
        if not self._ports:
            raise ConfigError(str(self._config.file), "port", "no sensor", "write a [[port]] table for each sensor")
        self._require_whole_past()
        self._outbox.start(self._db.settled + 1, self._db.next_message()[0] - 1)
        self._supervisor.ready()
        self._await_time()
        threads = [threading.Thread(target=port.run, name=port.name, daemon=True) for port in self._ports]
        for view in self._views.values():
            view.heard_s = self._clock.monotonic()
        for thread in threads:
            thread.start()
        try:
            while not self._stop.is_set():
                self._turn()
        finally:
            self._stop.set()
            while any(thread.is_alive() for thread in threads) or not self._batches.empty():
                self._drain()

    def _await_time(self) -> None:
        """Returns when the time can be trusted, or when asked to stop. A wrong one would spend another day's budget."""
        if not self._clock.trusted():
            self._say(
                "clock: nobody vouches for the time (no network time yet, no real-time clock that agrees); nothing is "
                f'measured until then. clock = "{ANY}" in gateway.toml takes the time as it is'
            )
            while not self._clock.trusted():
                self._supervisor.alive(self._clock.monotonic())
                if self._stop.wait(_TIME_S):
                    return
            self._say("clock: trusted")
        self._clock.begin()

    def _require_whole_past(self) -> None:
        """Raises LedgerDamaged if a receipt has shown that this is an older copy, or if the outbox holds a message of
        ours that the database does not know: it lost its end (a damaged log, an older copy), and would give that
        number twice."""
        older_copy = self._db.told().older_copy
        if older_copy is not None:
            self._fall_silent(older_copy)
        newest = self._db.next_message()[0] - 1
        with suppress(OSError), opened(self._config.outbox) as at:
            for name in names(at):
                seq = seq_of(name)
                data = read_regular(at, name, MESSAGE_LIMIT) if seq is not None and seq > newest else None
                if data is not None and self._is_ours(data):
                    raise LedgerDamaged(
                        f"{self._config.outbox / name}: is newer than all that gateway.db knows of; nothing is "
                        "published: keep the card for inspection and enrol the gateway anew"
                    )

    def _fall_silent(self, older_copy: str) -> NoReturn:
        """Takes back what `send` has not sent yet, and ends, now and at every later start."""
        self._outbox.start(1, 0)
        told = self._db.told()
        if told.older_copy is None:
            with suppress(DiskFull):  # then the receipt, which the broker keeps, says it again at the next start
                self._db.remember(replace(told, older_copy=older_copy))
        raise LedgerDamaged(
            f"{self._config.data / 'gateway.db'}: is an older copy, or has a clone ({older_copy}); nothing is "
            "published: keep the card for inspection and enrol the gateway anew"
        )

    def _is_ours(self, sealed: bytes) -> bool:
        try:
            open_message(sealed, public_key(self._secret))
        except WireError:
            return False
        return True

    def _post(self, batch: PortBatch) -> None:
        self._batches.put(batch)

    def _drain(self) -> None:
        """Takes what the ports still hand over while they end; only their counters matter now."""
        try:
            batch = self._batches.get(timeout=0.05)
        except queue.Empty:
            return
        self._views[batch.port].health = batch.health

    def _turn(self) -> None:
        now_s = self._clock.monotonic()
        if now_s - min(view.heard_s for view in self._views.values()) <= _PORT_PATIENCE_S:
            self._supervisor.alive(now_s)
        if now_s >= self._next_look:
            self._next_look = now_s + _INBOX_S
            self._look_around()
        try:
            batch = self._batches.get(timeout=_TURN_S)
        except queue.Empty:
            return
        _require_sound(batch)
        self._views[batch.port].heard_s = now_s
        if self._clock.stepped_forward():
            self._start_over()
            return
        if batch.horizon_ms < self._not_before_ms:
            return
        if self._boot_s is None:
            self._before_start.append(batch)
            self._views[batch.port].horizon_ms = batch.horizon_ms
            self._begin()
        else:
            self._take(batch)

    def _start_over(self) -> None:
        """The clock was put forward: time begins anew with what the ports say from now on, as after a restart."""
        self._say("clock: put forward; what was open is withheld")
        self._publisher.withhold_open()
        with suppress(queue.Empty):
            while True:  # what was stamped before the step would open windows in the past
                _require_sound(self._batches.get_nowait())
        # A port that read its clock just before the step may post later still: its horizon betrays it.
        self._not_before_ms = self._clock.now_ms() - STEP_MS
        self._before_start.clear()
        for view in self._views.values():
            view.horizon_ms = None
            if view.pair is not None:
                view.pair.forget()
        self._boot_s = None

    def _begin(self) -> None:
        """Starts once every port has said from when on it listens: that is this boot's first instant."""
        horizons = [view.horizon_ms for view in self._views.values()]
        if any(horizon_ms is None for horizon_ms in horizons):
            return
        firsts = {batch.port: batch.horizon_ms for batch in reversed(self._before_start)}
        self._boot_s = self._now_s = -(-min(firsts.values()) // 1000)
        self._publisher.start(self._boot_s, self._unfit)
        with suppress(DiskFull):  # then at the first look around, a moment later
            self._candidates.start(self._boot_s)
        self._not_before_ms = 0  # the clock may be put back again
        self._look_around()
        if self._publisher.policy is None:
            self._say("policy: none yet; a silent test: it measures and publishes nothing")
        waiting, self._before_start = self._before_start, []
        for view in self._views.values():
            view.horizon_ms = None
        for batch in waiting:
            self._take(batch)

    def _take(self, batch: PortBatch) -> None:
        view = self._views[batch.port]
        view.health = batch.health
        if view.state != batch.health.state:
            view.state = str(batch.health.state)
            advice = f"; {batch.health.advice}" if batch.health.advice else ""
            self._say(f"{batch.port}: {view.state}{advice}")
        # With the clock put back time is lived twice: what falls before the horizon was read once already.
        passed_ms = view.horizon_ms if view.horizon_ms is not None else 0
        for quantity, readings in batch.readings.items():
            stream = view.streams.get(quantity)
            if stream is not None and view.pair is None:
                offset = view.offsets.get(quantity, 0)
                new = [
                    (reading.time_ms, reading.value + offset) for reading in readings if reading.time_ms >= passed_ms
                ]
                self._publisher.add(stream, new)
        view.horizon_ms = max(passed_ms, batch.horizon_ms)
        if view.pair is not None:
            passes = [reading for reading in batch.readings.get(COUNTED, ()) if reading.time_ms >= passed_ms]
            self._publisher.add(view.pair.stream, view.pair.add(batch.port, passes, view.horizon_ms))
        horizons = [
            other.horizon_ms - (APART_MS if other.pair is not None else 0)
            for other in self._views.values()
            if other.horizon_ms is not None
        ]
        if len(horizons) == len(self._views):
            self._now_s = max(min(horizons) // 1000, self._boot_s or 0)
            self._publisher.advance(self._now_s)

    def _committed(self, message: Message, sealed: bytes) -> None:
        self._outbox.put(message.seq)

    def _look_around(self) -> None:
        """Reads the inbox, makes good what the outbox owes, and reports health: once a second."""
        if self._boot_s is None:
            return
        again, self._waiting_letters = self._waiting_letters, []
        for letter in self._in_order([*again, *self._inbox.new()]):
            try:
                self._judge(letter)
            except DiskFull as error:
                self._waiting_letters.append(letter)
                if letter not in again:
                    self._say(f"inbox: {letter.name} waits: {error}")
        with suppress(DiskFull):  # said where a message waits for room
            self._candidates.turn(self._now_s)
        awaited = self._publisher.awaited
        if awaited not in (None, self._said_awaited, self._candidates.refused):
            self._say(
                f"policy {awaited}: is the centre's newest and not yet accepted here; nothing is published until it is"
            )
        self._said_awaited = awaited
        self._outbox.retry()
        if self._report_is_due(self._boot_s):
            self._health_s = self._now_s
            with suppress(DiskFull):  # then with the next report
                self._db.keep_log()
            report = health.report(
                self._trust,
                self._sources,
                at_s=self._now_s,
                uptime_s=self._now_s - self._boot_s,
                boot=self._db.boot(),
                ports={name: view.state for name, view in self._views.items()},
                outbox_depth=self._db.depth(),
                clock=self._clock_state(),
                log=self._db.log.size if self._db.log else 0,
            )
            self._outbox.put_health(seal_health(report, self._secret))

    def _report_is_due(self, boot_s: int) -> bool:
        """Once a quarter-hour, and where the centre has to know what is remembered of its log: that grew, or could not
        be believed. Each of the two at most once more in a quarter-hour, and never twice in a minute of uptime, by
        which the centre tells reports of a quarter-hour apart."""
        if health.is_due(self._now_s, self._health_s):
            self._early.clear()
        elif not self._news - self._early or health.same_minute(self._now_s - boot_s, (self._health_s or 0) - boot_s):
            return False
        else:
            self._early |= self._news
        self._news.clear()
        return True

    def _clock_state(self) -> str:
        if self._publisher.waits_until_s > self._now_s:
            return "behind"
        return "ok" if self._clock.trusted() else "unsynced"

    def _in_order(self, letters: list[Letter]) -> list[Letter]:
        """Receipts first, then policies as they were written: file names say nothing of which came before which, and a
        pause must not go unread because what lifted it was read first."""

        def version(letter: Letter) -> int:
            verdict = None if letter.kind == "receipt" else decide_policy(letter.data, self._trust, None, 0)
            return verdict.policy.version if isinstance(verdict, NewPolicy) else 0

        return sorted(letters, key=version)

    def _judge(self, letter: Letter) -> None:
        if letter.kind == "receipt":
            newest = self._db.next_message()[0] - 1
            state = OutboxState(newest, self._db.hash_of, self._db.charged_rho_micro(), self._db.settled, self._db.log)
            receipt = decide_receipt(letter.data, self._trust, state)
            if isinstance(receipt, OlderCopy):
                self._fall_silent(receipt.detail)
            elif isinstance(receipt, Settled):
                self._settle(receipt)
                told = log.of_receipt(receipt.receipt.checkpoint)
                if told is not None and self._db.follow(told.here):
                    self._news.add("grew")
                self._publisher.heed(receipt.receipt.policy_version)
            else:
                if receipt.reason == "no_proof":
                    self._news.add("no_proof")
                why = f": {receipt.detail}" if receipt.reason in ("other_log", "no_proof") else ""
                self._say(f"inbox: {letter.name} is not believed ({receipt.reason}{why})")
            return
        verdict = decide_policy(letter.data, self._trust, self._candidates.newest, self._candidates.newest_told)
        if isinstance(verdict, Refused):
            self._say(f"inbox: {letter.name} is not believed ({verdict.reason})")
        elif isinstance(verdict, NewPolicy):
            self._candidates.hear(verdict.policy, verdict.sealed, self._now_s)

    def _settle(self, settled: Settled) -> None:
        """Lets settled messages go, and puts those that the centre has lost into the outbox again, as they are."""
        self._db.settle(settled.up_to)
        kept, first = self._db.oldest(), self._db.settled + 1
        again = [range(max(low, kept), min(high + 1, first)) for low, high in settled.receipt.again]
        self._outbox.settle(first, chain.from_iterable(again))
        lost = [low for low, _ in settled.receipt.again if low < kept]
        if lost and lost[0] != self._said_lost:
            self._say(f"the centre asks for message {lost[0]} again, which is not kept any more: {kept} is the oldest")
        self._said_lost = lost[0] if lost else None

    def _unfit(self, policy: Policy) -> str | None:
        """Returns why a policy cannot be kept here: it cannot be planned or sent, it costs more than this release lends
        itself to, or a sensor remembers too long."""
        try:
            largest = self._publisher.longest_message(policy)
            costs = sum(stream.rho_micro for stream in plan(policy).streams.values())
        except ConfigError as error:
            return str(error)
        if costs > FLOOR.rho_micro:
            return f"its streams cost {costs} micro-rho together, and {FLOOR.rho_micro} are the floor of this release"
        if largest > MESSAGE_LIMIT:
            return f"its largest message would have {largest} bytes where {MESSAGE_LIMIT} are allowed"
        for port, driver in self._drivers:
            for quantity, stream_id in port.streams.items():
                stream = policy.stream(stream_id)
                if stream is None:
                    continue
                if stream.quantity.name != quantity:
                    return f"{stream_id} is {stream.quantity.name}, the port {port.name} gives {quantity}"
                memory = driver.memory_readings.get(quantity, 0)
                if stream.quantity.kind != "count" and stream.tail < memory:
                    return f"{stream_id}: the {port.device} remembers {memory} readings, readings.tail is {stream.tail}"
        return None


def _require_sound(batch: PortBatch) -> None:
    if batch.fault is not None:
        raise MurmureError(f"{batch.port}: {batch.fault}; nothing more is released")


def _driver(config: GatewayConfig, port: PortConfig) -> Driver:
    number = config.ports.index(port) + 1
    try:
        # The speed counts for a polled sensor's time-outs too.
        settings = port.options if port.baud is None else {**port.options, "baud": port.baud}
        driver = make_driver(port.device, settings)
    except SettingError as error:
        raise ConfigError(str(config.file), f"port {number}.{error.key}", error.problem, error.mend) from error
    if port.second_beam_of and not isinstance(driver, TfLuna):
        raise ConfigError(
            str(config.file), f"port {number}.second_beam_of", f"a {port.device} is no beam", "pair two tfluna"
        )
    for quantity in port.streams:
        if quantity not in driver.QUANTITIES:
            raise ConfigError(
                str(config.file),
                f"port {number}.streams",
                f"a {port.device} gives no {quantity}",
                f"write one of {', '.join(driver.QUANTITIES)}",
            )
    return driver


def start(
    config_path: Path,
    make_link: Callable[[int, PortConfig, int, threading.Event], Link],
    clock: Clock,
    batch_ms: int,
    say: Callable[[str], None],
    mechanism: Mechanism | None = None,
    ended: Callable[[Mapping[str, PortHealth]], None] = lambda _: None,
    supervisor: Supervisor = NOBODY,
) -> int:
    """Composes and runs one `sense` until SIGTERM or Ctrl-C. Returns 0. Raises MurmureError with the mend."""
    close_the_shutters()
    warning = lock_memory()
    if warning:
        say(warning)
    config = load(config_path)
    trust = load_trust(config)
    secret = load_record_key(config.data / "record.key")
    prepare_folders(config)
    db = GatewayDb.open(config.data / "gateway.db", keep=config.keep_messages)
    try:
        mechanism = mechanism or DiscreteGaussian()
        sense = Sense(config, trust, db, secret, make_link, clock, mechanism, say, batch_ms, supervisor)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sense.stop())
        sense.run()
        ended(sense.port_health())
    finally:
        db.close()
    return 0


def say(line: str) -> None:
    """Prints one line about the machine; never a value."""
    print(f"murmure: sense: {line}", file=sys.stderr, flush=True)


def main(config_path: Path) -> int:
    """`murmure edge sense`: the gateway's first process on real ports and the wall clock."""
    from murmure_edge.serial_link import SerialLink

    clock = LiveClock(load(config_path).clock)
    return start(
        config_path,
        lambda _, port, baud, stop: SerialLink(port.path, baud, stop, clock.now_ms),
        clock,
        LIVE_BATCH_MS,
        say,
        supervisor=Supervisor(os.environ),
    )
