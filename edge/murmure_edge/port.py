"""The supervisor of one port: one thread that opens it, drives its sensor and hands readings on, and never dies."""

from __future__ import annotations

import threading
from collections.abc import Callable

from murmure_edge.link import BenchGone, Link, LinkDenied, LinkError, LinkLost
from murmure_edge.reading import PortBatch, PortHealth, PortState, Reading
from murmure_edge.sensors.base import Driver, PolledDriver, Told

FIRST_BACK_OFF_MS, LONGEST_BACK_OFF_MS = 500, 30_000
COMMAND_GAP_MS = 200  # a sensor answers one command before it is given the next
LONGEST_SILENCE_MS = 60_000  # between two tries to wake a sensor that stays silent, or to meet the right one
SPOILED_PER_GOOD = 100  # degraded: more than one spoiled frame among so many good ones
JUDGED_EVERY_MS = 60_000  # over at least so long, lest one lorry's spark make a state


class Port:
    """Reads one sensor for as long as its thread runs: `threading.Thread(target=port.run)`.

    `post` takes each batch and may block (a bounded queue's `put`). A batch is posted at every whole multiple of
    `batch_ms` of the link's own time, and at the start: the first one's horizon tells when this port began, and none
    is earlier but with the wall clock. When a batch is posted and how far it reaches never depends on its readings.
    What comes before an opening is through, while a sensor is not the one that was asked for, and in the driver's fixed
    warm-up after each opening is read and dropped, whatever it says.
    `stop` is the event given to the link as well; after it is set `run` posts what it has and returns.
    """

    def __init__(
        self,
        name: str,
        link: Link,
        driver: Driver | PolledDriver,
        post: Callable[[PortBatch], None],
        *,
        batch_ms: int,
        stop: threading.Event,
    ) -> None:
        self.name = name
        self._link = link
        self._driver = driver
        self._post = post
        self._batch_ms = batch_ms
        self._stop = stop
        self._state = PortState.OPENING
        self._advice = ""
        self._readings: dict[str, list[Reading]] = {quantity: [] for quantity in driver.QUANTITIES}
        self._horizon_ms = 0
        self._began_ms: int | None = None
        self._batch_from_ms = self._hand_on_ms = 0
        self._opened_ms = 0
        self._last_good_ms: int | None = None
        self._wake_ms = 0  # when a silent sensor, or a wrong one, is given its opening commands again
        self._warm_until_ms = 0
        self._verified = False  # the opening has been gone through: who answers is known
        self._timeouts = self._overruns = self._lost_links = 0
        self._counted = (0, 0, 0)  # good frames, spoiled ones, discarded bytes, at `_judged_ms`
        self._judged_ms = 0
        self._degraded = False

    def run(self) -> None:
        """Runs until `stop` is set, or in simulated time until the bench is gone (then the batch has `fault`)."""
        fault: str | None = "a defect stopped the thread of this port"
        try:
            self._supervise()
            fault = None
        except BenchGone as error:
            fault = None if self._stop.is_set() else error.advice
        finally:
            self._link.close()
            self._hand_on(fault)

    def _supervise(self) -> None:
        back_off_ms = FIRST_BACK_OFF_MS
        while not self._stop.is_set():
            frames = self._driver.counters.frames
            try:
                self._session()
            except LinkLost as error:
                self._lose(PortState.ABSENT, error)
            except LinkDenied as error:
                self._lose(PortState.DENIED, error)
            if self._driver.counters.frames > frames:
                back_off_ms = FIRST_BACK_OFF_MS
            self._rest(back_off_ms)
            back_off_ms = min(2 * back_off_ms, LONGEST_BACK_OFF_MS)

    def _session(self) -> None:
        """One time from opening the port to losing it."""
        self._link.open()
        now_ms = self._link.now_ms()
        self._state, self._advice = PortState.OPENING, ""
        self._opened_ms = self._judged_ms = now_ms
        self._hand_on(None)
        self._send_opening()
        if isinstance(self._driver, PolledDriver):
            self._poll(self._driver)
        else:
            self._listen()

    def _lose(self, state: PortState, error: LinkError) -> None:
        if self._opened_ms and self._state not in (PortState.ABSENT, PortState.DENIED):
            self._lost_links += 1
        self._state, self._advice = state, error.advice
        self._link.close()
        self._driver.reset()
        self._driver.told = Told()
        self._hand_on(None)

    def _rest(self, back_off_ms: int) -> None:
        """Waits before the next try; time and batches go on, so that no window waits for this port."""
        now_ms = self._link.now_ms()
        until_ms = now_ms + back_off_ms
        while now_ms < until_ms and not self._stop.is_set():
            self._link.wait(min(until_ms, self._hand_on_ms))
            now_ms = self._link.now_ms()
            until_ms = min(until_ms, now_ms + back_off_ms)  # the wall clock may have been set back
            if now_ms >= self._hand_on_ms or now_ms < self._batch_from_ms:
                self._hand_on(None)

    def _send_opening(self) -> None:
        """Sets the sensor up and asks who it is, one command after the other; what it answers to one has been taken in
        before the driver is asked for the next."""
        link, driver = self._link, self._driver
        begins_ms = link.now_ms()
        was_silent = begins_ms - self._heard_ms() > driver.silence_ms
        driver.told, self._verified = Told(), False
        self._warm_until_ms = begins_ms + driver.warm_up_ms
        for command in driver.opening():
            if isinstance(driver, PolledDriver):
                driver.counters.discarded_bytes += link.discard_input()
            now_ms = link.now_ms()
            gap_ends_ms = now_ms + COMMAND_GAP_MS
            link.write(command, gap_ends_ms)
            while now_ms < gap_ends_ms and not self._stop.is_set():
                data, now_ms = link.read(gap_ends_ms)
                self._take_in(data, now_ms)
                if data and isinstance(driver, PolledDriver):
                    link.expect(gap_ends_ms)  # it has answered, and will say nothing that would bring the time there
                if now_ms >= self._hand_on_ms or now_ms < self._batch_from_ms:
                    self._hand_on(None)
                    gap_ends_ms = min(gap_ends_ms, now_ms + COMMAND_GAP_MS)  # the wall clock may have been set back
        self._verified = True
        now_ms = link.now_ms()
        silent_ms = now_ms - self._heard_ms()
        if driver.told.mismatch:
            self._wake_ms = now_ms + LONGEST_SILENCE_MS
        elif was_silent and self._heard_ms() >= begins_ms:
            self._wake_ms = now_ms  # it came to life in the midst of it, and may have missed the first commands
        else:
            # The longer it is silent the rarer it is woken: a sensor that is gone needs no commands.
            self._wake_ms = now_ms + min(max(driver.silence_ms, silent_ms), LONGEST_SILENCE_MS)

    def _take_in(self, data: bytes, now_ms: int) -> None:
        """Feeds the driver. The path of an ordinary second is short: a replayed week takes it a million times."""
        driver = self._driver
        frames = driver.counters.frames
        decoded = driver.feed(data, now_ms)
        if driver.counters.frames != frames:
            came_back = now_ms - self._heard_ms() > driver.silence_ms
            self._last_good_ms = now_ms
            if came_back:
                # It may have lost its settings with its power, or be another one: it is set up again at once.
                self._wake_ms, self._warm_until_ms = now_ms, now_ms + driver.warm_up_ms
            elif not driver.told.mismatch:
                self._wake_ms = now_ms + driver.silence_ms
        if decoded and self._verified and now_ms >= self._warm_until_ms and not driver.told.mismatch:
            for quantity, reading in decoded:
                self._readings[quantity].append(reading)

    def _listen(self) -> None:
        """A sensor that speaks by itself. The loop is what a simulated second costs: a few microseconds."""
        link, stopped, take_in = self._link, self._stop.is_set, self._take_in
        while not stopped():
            hand_on_ms, wake_ms = self._hand_on_ms, self._wake_ms
            data, now_ms = link.read(hand_on_ms if hand_on_ms < wake_ms else wake_ms)
            if data:
                take_in(data, now_ms)
            if now_ms >= hand_on_ms or not data or now_ms < self._batch_from_ms:
                self._hand_on(None)
            if now_ms >= self._wake_ms:
                self._send_opening()

    def _poll(self, driver: PolledDriver) -> None:
        """A sensor that is asked at every whole multiple of its period; what is missed is skipped and counted."""
        link, stopped, period_ms = self._link, self._stop.is_set, driver.period_ms
        due_ms = -(-link.now_ms() // period_ms) * period_ms
        while True:
            link.wait(due_ms)
            if stopped():
                return
            now_ms = link.now_ms()
            if now_ms < due_ms:  # the wall clock was set back
                due_ms = min(due_ms, -(-now_ms // period_ms) * period_ms)
                continue
            if now_ms >= self._hand_on_ms or now_ms < self._batch_from_ms:
                self._hand_on(None)
            if now_ms >= self._wake_ms:
                self._send_opening()
                now_ms = link.now_ms()
            dropped = link.discard_input()
            if dropped:
                driver.counters.discarded_bytes += dropped
            now_ms = self._ask(driver, now_ms + driver.timeout_ms)
            due_ms += period_ms
            if driver.awaiting and now_ms < due_ms:
                now_ms = self._let_pass(driver, due_ms)
            if due_ms < now_ms:
                skipped = -(-(now_ms - due_ms) // period_ms)
                self._overruns += skipped
                due_ms += skipped * period_ms

    def _let_pass(self, driver: PolledDriver, until_ms: int) -> int:
        """Drops what still comes for a question that was given up: read after the next one, it would answer that."""
        link = self._link
        link.expect(until_ms)
        while True:
            data, now_ms = link.read(until_ms)
            driver.counters.discarded_bytes += len(data)
            if now_ms >= until_ms or now_ms < self._batch_from_ms or self._stop.is_set():
                return now_ms
            if not data:
                self._hand_on(None)

    def _ask(self, driver: PolledDriver, deadline_ms: int) -> int:
        """One request and its answer, if it comes in time; returns the instant then."""
        link = self._link
        link.write(driver.request(), deadline_ms)
        while True:
            data, now_ms = link.read(deadline_ms)
            if data:
                self._take_in(data, now_ms)
                if not driver.awaiting:
                    return now_ms
                link.expect(deadline_ms)  # spoiled, or half of it: the rest may come or not
            elif now_ms >= deadline_ms:
                self._timeouts += 1
                return now_ms
            else:
                self._hand_on(None)
                if self._stop.is_set():
                    return now_ms

    def _hand_on(self, fault: str | None) -> None:
        """Posts what there is, and sets the instant of the next batch."""
        now_ms = self._link.now_ms()
        if now_ms < self._batch_from_ms:
            # The wall clock was set back: nothing that was noted may lie ahead of it.
            self._opened_ms = self._judged_ms = now_ms
            self._wake_ms = now_ms + self._driver.silence_ms
            self._warm_until_ms = min(self._warm_until_ms, now_ms + self._driver.warm_up_ms)
            self._last_good_ms = None if self._last_good_ms is None else now_ms
        self._began_ms = now_ms if self._began_ms is None else min(self._began_ms, now_ms)
        self._batch_from_ms = now_ms
        self._hand_on_ms = (now_ms // self._batch_ms + 1) * self._batch_ms
        horizon_ms = max(self._began_ms, self._driver.settled_ms(now_ms))
        readings = {quantity: values for quantity, values in self._readings.items() if values}
        if horizon_ms == self._horizon_ms and fault is None and not (readings and self._stop.is_set()):
            return  # nothing can close: readings wait for the next batch, and do not make one
        self._horizon_ms = horizon_ms
        self._judge(now_ms)
        for quantity in readings:
            self._readings[quantity] = []
        counters = self._driver.counters
        health = PortHealth(
            state=self._state,
            frames=counters.frames,
            rejected=counters.rejected,
            discarded_bytes=counters.discarded_bytes,
            refused=counters.refused,
            timeouts=self._timeouts,
            overruns=self._overruns,
            lost_links=self._lost_links,
            last_good_ms=self._last_good_ms,
            advice=self._advice,
        )
        self._post(PortBatch(self.name, readings, horizon_ms, health, fault))

    def _judge(self, now_ms: int) -> None:
        """Sets the state of an open port, and what an operator can do about it."""
        if self._state in (PortState.ABSENT, PortState.DENIED):
            return
        if self._state is PortState.WRONG_DEVICE and not self._verified:
            return  # it is being asked again
        counters = self._driver.counters
        counted = (counters.frames, counters.rejected + self._timeouts, counters.discarded_bytes)
        good, spoiled, discarded = (new - old for new, old in zip(counted, self._counted, strict=True))
        if now_ms - self._judged_ms >= JUDGED_EVERY_MS:
            self._judged_ms, self._counted = now_ms, counted
            self._degraded = spoiled * SPOILED_PER_GOOD > good
        silent_ms = now_ms - self._heard_ms()
        self._advice = self._driver.told.mismatch
        if self._driver.told.mismatch:
            self._state = PortState.WRONG_DEVICE
        elif silent_ms > self._driver.silence_ms:
            self._state = PortState.STALLED
            self._advice = (
                "bytes come but no frame: check the device's name and its baud rate"
                if discarded
                else "nothing comes: check power, cable and address"
            )
        elif not self._verified or self._last_good_ms is None or self._last_good_ms < self._opened_ms:
            self._state = PortState.OPENING
        elif now_ms < self._warm_until_ms:
            self._state = PortState.WARMING
        elif self._degraded:
            self._state = PortState.DEGRADED
            self._advice = "spoiled frames: check cable, earthing and baud rate"
        else:
            self._state = PortState.OK

    def _heard_ms(self) -> int:
        """When the sensor last gave a good frame, or when the port was opened, if that is later."""
        return self._opened_ms if self._last_good_ms is None else max(self._last_good_ms, self._opened_ms)
