"""One device on the wall clock, behind one pseudo-terminal: what `murmure sim device` runs.

A composition root: the clocks are handed in by the command. Bytes keep the pace of the line at speed 1, are lost while
nobody has the port open, and are rubbish to a client at another speed.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from .console import Switch
from .devices.base import MS_PER_S
from .faults import PLUGS, Fault, FaultyDevice
from .host import Host
from .pty_port import PtyPort, resampled

_BITS_PER_BYTE = 10
_LONGEST_WAIT_S = 0.02


class LiveDevice:
    """Plays `device` on `port`. Simulated time starts at `start_ms` and goes `speed` times as fast as `monotonic`.

    `switches()` is asked all the time which faults shall begin or end now.
    """

    def __init__(
        self,
        device: FaultyDevice,
        port: PtyPort,
        start_ms: int,
        speed: float,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        switches: Callable[[], Iterable[Switch]] = tuple,
    ) -> None:
        self._device = device
        device.real_reader = True
        self._port = port
        self._host = Host(port)
        self._switches = switches
        self._start_ms = start_ms
        self._speed = speed
        self._monotonic = monotonic
        self._sleep = sleep
        self._started_s = monotonic()
        self._stopped = False
        self._pulled: Fault | None = None
        self._second = start_ms // MS_PER_S
        self._line_free_ms = float(start_ms)
        self._number = itertools.count()
        # What waits for the line: (when it begins, order, bytes, when it ends). Spontaneous frames apart, since a
        # command may change those to come.
        self._frames: list[tuple[float, int, bytes, float]] = []
        self._answers: list[tuple[float, int, bytes, float]] = []
        self._spoken_ms = float(start_ms)
        # What is on the line: (when it has arrived, bytes). One after the other: nothing comes in the midst of it.
        self._line: deque[tuple[float, bytes]] = deque()

    def stop(self) -> None:
        """Makes `run` return soon; safe in a signal handler."""
        self._stopped = True

    def run(self) -> None:
        """Plays until stopped; the link is gone when it returns."""
        self._plan_frames(self._start_ms)
        try:
            while not self._stopped:
                now_ms = self._now_ms()
                for switch in self._switches():
                    self._device.switch(switch.fault, switch.on, int(now_ms))
                    self._frames.clear()
                    self._plan_frames(now_ms)
                self._turn_plug(int(now_ms))
                self._host.look(partial(self._device.fault, now_ms=int(now_ms)))
                self._hear(now_ms)
                while now_ms >= (self._second + 1) * MS_PER_S:
                    self._second += 1
                    self._plan_frames(now_ms - MS_PER_S)
                self._say(now_ms)
                self._wait()
        finally:
            self._host.close()
            self._port.close()

    def _now_ms(self) -> float:
        return self._start_ms + (self._monotonic() - self._started_s) * MS_PER_S * self._speed

    def _plan_frames(self, after_ms: float) -> None:
        for said, time_ms in self._device.frames_of(self._second):
            if time_ms > max(after_ms, self._spoken_ms):
                begins_ms = time_ms - self._on_line_ms(said)
                heapq.heappush(self._frames, (begins_ms, next(self._number), said, time_ms))

    def _on_line_ms(self, said: bytes) -> float:
        return len(said) * _BITS_PER_BYTE * MS_PER_S / self._device.baud

    def _hear(self, now_ms: float) -> None:
        data = self._port.read()
        if not data:
            return
        if not self._device.usb:
            data = resampled(data, self._port.client_baud(), self._device.baud)
        for said, time_ms in self._device.receive(data, int(now_ms)):
            heapq.heappush(self._answers, (time_ms, next(self._number), said, time_ms + self._on_line_ms(said)))
        self._frames.clear()
        self._plan_frames(now_ms)

    def _take_up(self, now_ms: float) -> None:
        """Puts on the line what has waited longest for it, if anything is to begin by now."""
        waiting = [queue for queue in (self._answers, self._frames) if queue and queue[0][0] <= now_ms]
        if not waiting:
            return
        queue = min(waiting, key=lambda queue: queue[0][0])
        begins_ms, _, said, ends_ms = heapq.heappop(queue)
        if queue is self._frames:
            self._spoken_ms = ends_ms
        begins_ms = max(begins_ms, self._line_free_ms)
        self._line_free_ms = begins_ms + self._on_line_ms(said)
        if self._speed != 1:
            self._line.append((self._line_free_ms, said))
            return
        byte_ms = _BITS_PER_BYTE * MS_PER_S / self._device.baud
        self._line.extend((begins_ms + (at + 1) * byte_ms, said[at : at + 1]) for at in range(len(said)))

    def _say(self, now_ms: float) -> None:
        said = b""
        while True:
            if not self._line:
                self._take_up(now_ms)
            if not self._line or self._line[0][0] > now_ms:
                break
            said += self._line.popleft()[1]
        if said and self._port.heard():
            heard_baud = self._device.baud if self._device.usb else self._port.client_baud()
            self._port.write(resampled(said, self._device.baud, heard_baud))
            second = self._device.fault("second_reader", int(now_ms))
            if second is not None:
                self._host.steal(second.arg)

    def _turn_plug(self, now_ms: int) -> None:
        pulled = next((fault for name in PLUGS if (fault := self._device.fault(name, now_ms)) is not None), None)
        if pulled is not None and self._pulled is None:
            self._port.unplug()
        elif pulled is None and self._pulled is not None:
            self._device.power_cycle(now_ms)
            if self._pulled.name == "unplug_renamed":
                self._port.rename()
            self._port.plug()
        self._pulled = pulled

    def _wait(self) -> None:
        waiting = (self._line,) if self._line else (self._answers, self._frames)
        due = [queue[0][0] for queue in waiting if queue]
        due.append((self._second + 1) * MS_PER_S)
        wait_s = min((min(due) - self._now_ms()) / MS_PER_S / self._speed, _LONGEST_WAIT_S)
        if wait_s > 0 and not self._port.wait(wait_s):
            self._sleep(wait_s)
