"""All ports of all gateways in one process, serving the time lines of docs/simulated-time.md.

Time is not waited for: each gateway is given marks as far as its slowest port's DONE plus the skew, and never beyond
the pace. One thread and one epoll; nothing here blocks on a pseudo-terminal. This is a composition root: the monotonic
clock is read here, for the pace and for the progress line, and the wall clock once, so that a living city never runs
ahead of it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from .console import Console, Switch
from .devices.base import Piece
from .errors import SimError
from .faults import PLUGS, SETTING, Fault, parse_fault
from .host import Host, check_host
from .pty_port import PtyPort, resampled
from .scenario import GatewayPlan, PortPlan, Scenario, build_device, check_values, read_scenario, steady_source
from .timeline import PortMarks, TimelineMap, listen

_TICK_S = 0.02
_PROGRESS_S = 1.0
_SETTLING_MS, _SETTLING_SKEW_MS = 10_000, 1_000
_LONGEST_LINE = 256
_FOREVER_MS = 1 << 62
_COMMANDS = (
    'write {"hold_ms": MS or null}, {"port": "GATEWAY/PORT", "fault": "NAME", "on": true} or {..., "set": {...}}'
)


class _Port:
    """One emulated port: its device, its pseudo-terminal, its marks, and the edge's connection while there is one.

    An `unplug` fault makes two plug events, at which the port waits for DONE: pulled out at the first, back at the
    second. From the first until the edge's first request after the second the device is off and says nothing. Both may
    be told while it runs.
    """

    def __init__(self, plan: PortPlan, marks: PortMarks, bench: Bench) -> None:
        start_ms = bench.scenario.start_ms
        self.name = plan.name
        self.device = build_device(plan, start_ms)
        self.pty = PtyPort(plan.link, self.device.baud)
        self.marks = marks
        self.connection: socket.socket | None = None
        self.on_events: Callable[[int], None] = lambda _: None
        self.plug_ms = list(self.device.unplugged())
        self.host = Host(self.pty, plan.seed)
        self._pulled: Fault | None = None
        self.off = False
        self._bench = bench
        self._client_baud = self.device.baud
        self._sent_bytes = 0
        self._waiting: list[tuple[bytes, int, int]] = []
        self._unsent = b""
        self._deaf = False

    @property
    def polled(self) -> bool:
        """Whether it speaks only when asked, as long as it keeps the mode that it is in."""
        device = self.device
        return device.polled_only or (device.has_passive_mode and device.is_quiet(self.marks.last_ms // 1000 + 1))

    @property
    def done_ms(self) -> int:
        """How far the edge is. A device that is only polled has no marks to read, so there the asker's time counts."""
        marks = self.marks
        if self.polled and marks.ask_count:
            return max(marks.done_ms, marks.ask_ms)
        return marks.done_ms

    def start(self, start_ms: int, clock_ms: int) -> None:
        """Begins an epoch: nothing pending, offsets from 0, the device at `start_ms`, the host's clock so far ahead."""
        self.device.seek(start_ms)
        self.marks.start(start_ms, clock_ms)
        self.pty.drain()
        self._listen()

    def stop(self) -> None:
        """Ends an epoch; what was not taken is lost, as bytes are that nobody reads."""
        self._waiting.clear()
        self._unsent = b""
        self.connection = None
        self._bench.forget(self.pty.master)

    def on_pty(self, events: int, limit_ms: int) -> bool:
        """Takes requests and room to write. Returns whether the credit should be looked at."""
        if events & select.EPOLLOUT:
            self._flush()
        if not events & select.EPOLLIN:
            if events & select.EPOLLHUP:
                self._bench.forget(self.pty.master)  # a hung-up one would wake the bench for ever
                self._deaf = True
            return False
        data = self.pty.read()
        if not data:
            return False
        marks = self.marks
        ask_ms, deadline_ms = (marks.ask_ms, marks.ask_deadline_ms) if marks.ask_count else (marks.last_ms,) * 2
        if ask_ms > limit_ms or self._waiting or self.plug_ms or self.off:
            self._waiting.append((data, ask_ms, deadline_ms))
            return True
        self._answer(data, ask_ms, deadline_ms)
        return False

    def serve(self, limit_ms: int, least_ms: int) -> None:
        """Issues what credit allows: answers that had to wait, what the device says by itself, silence.

        Nothing new is said for less than `least_ms` of it, unless the limit is one that will not move by itself.
        """
        self._flush()
        if self._deaf and self.pty.heard():
            self._listen()
        if self.device.has_faults:
            self.host.look(partial(self.device.fault, now_ms=self.done_ms))
        hard_ms = self._bench.hard_limit_ms()
        if self.plug_ms:
            hard_ms = min(hard_ms, self.plug_ms[0])
            if self.done_ms >= self.plug_ms[0]:
                self._turn_plug()
        self._answer_waiting(limit_ms)
        stop_ms = min(limit_ms, self.plug_ms[0] if self.plug_ms else _FOREVER_MS)
        wait_until_ms = self.marks.wait_until_ms
        if self.polled or self.off:
            # Silent unless asked, or unplugged: as far as the edge waits and no further, so that its next request
            # comes at the same instant, and finds the device at the same instant, at any speed.
            # In steps where the credit is shorter than the wait: DONE has to move for it to grow.
            self.device.seek(self.marks.last_ms)
            step_ms = min(stop_ms, wait_until_ms)
            if step_ms - self.marks.last_ms >= _SETTLING_SKEW_MS or step_ms in (wait_until_ms, hard_ms):
                self._fall_silent_until(step_ms)
            return
        if stop_ms <= self.marks.last_ms or (stop_ms - self.marks.last_ms < least_ms and stop_ms != hard_ms):
            return
        self._look_at_speed()
        if self._speak(stop_ms) and stop_ms == hard_ms:
            self._fall_silent_until(stop_ms)

    def switch(self, switch: Switch) -> int:
        """Lets a fault begin or end where the port has got to; returns that instant (ms)."""
        at_ms = self.device.switch(switch.fault, switch.on, self.marks.last_ms)
        if switch.fault.name in PLUGS:
            self.plug_ms = [each for each in self.device.unplugged() if each >= at_ms]
        return at_ms

    def counters(self) -> dict[str, int]:
        """What it has sent: bytes put on marks, whole frames, dips of the beam, crossings the beam could not show."""
        return {
            "sent_bytes": self._sent_bytes,
            "frames": self.device.frames,
            "crossings": self.device.crossings,
            "over_capacity": self.device.over_capacity,
        }

    def _listen(self) -> None:
        self._deaf = False
        self._bench.watch(self.pty.master, self.on_events, select.EPOLLIN)
        self._look_at_speed()

    def _look_at_speed(self) -> None:
        self._client_baud = self.device.baud if self.device.usb else self.pty.client_baud()

    def _turn_plug(self) -> None:
        at_ms = self.plug_ms.pop(0)
        pulled = next((fault for name in PLUGS if (fault := self.device.fault(name, at_ms)) is not None), None)
        if pulled is not None and self._pulled is None:
            self._waiting.clear()
            self._unsent = b""
            self.off = True
            self._bench.forget(self.pty.master)
            self.pty.unplug()
        elif pulled is None and self._pulled is not None:
            self.device.power_cycle(at_ms)
            if self._pulled.name == "unplug_renamed":
                self.pty.rename()
            self.pty.plug()
            self._listen()
        self._pulled = pulled

    def _answer_waiting(self, limit_ms: int) -> None:
        while self._waiting and self._waiting[0][1] <= limit_ms:
            data, ask_ms, deadline_ms = self._waiting.pop(0)
            if self.off:
                self.off = False
                self.device.seek(max(ask_ms, self.marks.last_ms))
                self._look_at_speed()
            self._answer(data, ask_ms, deadline_ms)

    def _answer(self, data: bytes, ask_ms: int, deadline_ms: int) -> None:
        baud = self.device.baud
        if self._client_baud != baud:
            data = resampled(data, self._client_baud, baud)
        pieces = self.device.receive(data, ask_ms)
        if len(pieces) == 1 and self._client_baud == baud:
            said, time_ms = pieces[0]
            self.marks.issue_one(len(said), time_ms)
            self._send(said)
        elif pieces:
            self._issue(pieces)
        elif self.polled:
            self._fall_silent_until(deadline_ms)

    def _speak(self, limit_ms: int) -> bool:
        """Says what there is up to the limit; returns False if the ring of marks had no room for all of it."""
        room_until_ms = self.marks.last_ms + self.marks.room() // self.device.marks_per_s * 1000
        pieces = self.device.advance(min(limit_ms, room_until_ms))
        if pieces:
            self._issue(pieces)
        return limit_ms <= room_until_ms

    def _fall_silent_until(self, time_ms: int) -> None:
        if time_ms > self.marks.last_ms:
            self.marks.issue_one(0, time_ms)
            self._ring()

    def _issue(self, pieces: list[Piece]) -> None:
        baud = self.device.baud
        if self._client_baud != baud:
            pieces = [(resampled(said, baud, self._client_baud), time_ms) for said, time_ms in pieces]
        offset, last_ms = self.marks.offset, self.marks.last_ms
        words = array("q")
        for said, time_ms in pieces:
            offset += len(said)
            if time_ms > last_ms:
                last_ms = time_ms
            words.append(offset)
            words.append(last_ms)
        self.marks.issue(words)
        said = b"".join([said for said, _ in pieces])
        if said:
            self._send(said)
        if not pieces[-1][0]:
            self._ring()

    def _send(self, said: bytes) -> None:
        self._sent_bytes += len(said)
        if self._unsent:
            self._unsent += said
            return
        taken = self.pty.write(said)
        if taken < len(said):
            self._unsent = said[taken:]
            self._bench.modify(self.pty.master, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self) -> None:
        if self._unsent:
            self._unsent = self._unsent[self.pty.write(self._unsent) :]
            if not self._unsent:
                self._bench.modify(self.pty.master, select.EPOLLIN)

    def _ring(self) -> None:
        if self.connection is not None:
            # A full socket holds bells enough to wake for; a broken one is reported by epoll.
            with suppress(OSError):
                self.connection.send(b"!")


class _Gateway:
    """One gateway's ports and their common epoch. It runs from the last GO until any of its connections closes."""

    def __init__(self, plan: GatewayPlan, bench: Bench) -> None:
        self.name = plan.gateway
        self.timeline = TimelineMap(plan.directory, len(plan.ports))
        self.ports = [_Port(port, PortMarks(self.timeline, i), bench) for i, port in enumerate(plan.ports)]
        for port in self.ports:
            port.on_events = partial(self._on_pty, port)
        self.server = listen(plan.directory)
        bench.watch(self.server.fileno(), self._accept, select.EPOLLIN)
        self.running = False
        self.started = False
        self._bench = bench
        self._start_ms = self._limit_ms = self._look_again_ms = self._reached_ms = bench.scenario.start_ms
        self._lines: dict[socket.socket, bytes] = {}
        self._going: set[str] = set()

    @property
    def done_ms(self) -> int:
        """How far the slowest port is; while nobody is attached, where time stands still."""
        return min(port.done_ms for port in self.ports) if self.running else self._reached_ms

    def close(self) -> None:
        """Stops, and removes the links and the socket."""
        self._stop()
        for connection in list(self._lines):
            self._drop(connection)
        self._bench.forget(self.server.fileno())
        self.server.close()
        for port in self.ports:
            port.host.close()
            port.pty.close()

    def pump(self) -> None:
        """Gives every port the marks that credit and pace allow, in batches of half the skew where it can."""
        if not self.running:
            return
        skew_ms = self._bench.scenario.skew_ms
        pace_ms = self._bench.pace_ms()
        done_ms = min(port.done_ms for port in self.ports)
        if done_ms < self._start_ms + _SETTLING_MS:
            skew_ms = _SETTLING_SKEW_MS
        limit_ms = self._limit_ms = min(done_ms + skew_ms, pace_ms)
        self._look_again_ms = done_ms + skew_ms // 2
        least_ms = skew_ms // 2 if limit_ms < pace_ms else 1
        for port in self.ports:
            port.serve(limit_ms, least_ms)

    def _on_pty(self, port: _Port, events: int) -> None:
        if port.on_pty(events, self._limit_ms) or port.marks.ask_ms >= self._look_again_ms:
            self.pump()

    def _accept(self, _events: int) -> None:
        connection, _ = self.server.accept()
        connection.setblocking(False)
        self._lines[connection] = b""
        self._bench.watch(connection.fileno(), partial(self._hear, connection), select.EPOLLIN)

    def _stop(self) -> None:
        """Ends the epoch: time stands still, its connections close. Those that have not attached yet still may."""
        if self.running:
            self._reached_ms = max(self._reached_ms, *(port.marks.last_ms for port in self.ports))
        self.running = False
        self._going.clear()
        for port in self.ports:
            if port.connection is not None:
                self._drop(port.connection)
            port.stop()

    def _drop(self, connection: socket.socket) -> None:
        del self._lines[connection]
        self._bench.forget(connection.fileno())
        connection.close()

    def _hear(self, connection: socket.socket, _events: int) -> None:
        try:
            data = connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        attached = any(port.connection is connection for port in self.ports)
        if attached and self.running and data:
            self.pump()
            return
        line = self._lines[connection] + data
        if data and len(line) <= _LONGEST_LINE:
            while b"\n" in line and connection in self._lines:
                first, _, line = line.partition(b"\n")
                if not self._obey(connection, first):
                    break
            else:
                if connection in self._lines:
                    self._lines[connection] = line
                return
        # It has left, or speaks another language. One that was attached takes its epoch with it.
        if any(port.connection is connection for port in self.ports):
            self._stop()
        elif connection in self._lines:
            self._drop(connection)

    def _obey(self, connection: socket.socket, line: bytes) -> bool:
        verb, _, name = line.decode("ascii", "replace").partition(" ")
        port = next((port for port in self.ports if connection is port.connection), None)
        if verb == "GO" and port is not None:
            self._going.add(port.name)
            if len(self._going) == len(self.ports):
                self.running = True
                self.pump()
            return True
        asked = next((each for each in self.ports if each.name == name), None)
        if verb != "ATTACH" or port is not None or asked is None:
            return False
        if asked.connection is not None:
            self._stop()  # the one before is dead or as good as dead
        asked.connection = connection
        if all(each.connection is not None for each in self.ports):
            self._start()
        return True

    def _start(self) -> None:
        if self.started:
            self._reached_ms += self._bench.scenario.downtime_ms
        self.started = True
        self._start_ms = self._reached_ms = -(-self._reached_ms // 1000) * 1000
        self._limit_ms = self._look_again_ms = self._start_ms
        clock_ms = self._clock_ms()
        for port in self.ports:
            port.start(self._start_ms, clock_ms)
        epoch = self.timeline.start(self._start_ms + clock_ms)
        for port in self.ports:
            if port.connection is not None:
                with suppress(OSError):  # it has just died; epoll will say so
                    port.connection.send(f"START {epoch} {self._start_ms + clock_ms}\n".encode())

    def _clock_ms(self) -> int:
        """Returns how far ahead the host's clock is at this START, by the faults of its ports."""
        faults = [port.device.fault("clock", self._start_ms) for port in self.ports]
        return int(1000 * sum(fault.arg for fault in faults if fault is not None))


class Bench:
    """The running bench. `run()` returns when `stop()` was called (from a signal handler) or its stdin has ended.

    `say` takes one event (a dict for JSON) at a time: progress every second, `held` when all ports have reached
    `hold_ms`, `end` when all have reached `end_ms`.
    """

    def __init__(
        self,
        scenario: Scenario,
        say: Callable[[dict[str, object]], None],
        commands: TextIO | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.scenario = scenario
        self._epoll = select.epoll()
        self._say = say
        self._console = None if commands is None else Console(commands.fileno())
        self._monotonic = monotonic
        self._wall = wall
        self._hold_ms = scenario.hold_ms
        self._live_since_s: float | None = None
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._stopped = False
        self._held = False
        self.gateways = [_Gateway(plan, self) for plan in scenario.gateways]
        if commands is not None:
            self.watch(commands.fileno(), self._command, select.EPOLLIN)

    def watch(self, fd: int, handler: Callable[[int], None], events: int) -> None:
        """Calls `handler(events)` whenever the descriptor has one of them (select.EPOLL*)."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Changes the events of a descriptor, if it is watched."""
        if fd in self._handlers:
            self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stops watching a descriptor, if it is watched; to be called before it is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def stop(self) -> None:
        """Makes `run` return soon; safe in a signal handler."""
        self._stopped = True

    def hard_limit_ms(self) -> int:
        """Returns the instant beyond which nothing is issued whatever the pace: the end or the hold."""
        limits = [each for each in (self.scenario.end_ms, self._hold_ms) if each is not None]
        return min(limits, default=_FOREVER_MS)

    def pace_ms(self) -> int:
        """Returns the latest instant that the pace, the end and the hold allow."""
        scenario = self.scenario
        pace_ms = self.hard_limit_ms()
        if scenario.end_ms is None:
            # A living city catches up with the wall clock and then keeps to it: nothing is stamped in the future.
            pace_ms = min(pace_ms, int(self._wall() * 1000))
        if scenario.speed is not None:
            live_ms = scenario.start_ms if scenario.fast_until_ms is None else scenario.fast_until_ms
            if self._live_since_s is None:
                # A second's piece ends before the second: the last one before that instant may be a second old.
                if any(g.started and g.done_ms >= min(live_ms, pace_ms) - 1000 for g in self.gateways):
                    self._live_since_s = self._monotonic()
                return min(pace_ms, live_ms)
            live_ms += int(1000 * scenario.speed * (self._monotonic() - self._live_since_s))
            pace_ms = min(pace_ms, live_ms)
        return pace_ms

    def run(self) -> None:
        """Serves until stopped. Everything it opened is closed and every link removed when it returns."""
        handlers = self._handlers
        poll = self._epoll.poll
        next_tick_s = next_progress_s = self._monotonic()
        ended = False
        try:
            while not self._stopped:
                for fd, events in poll(_TICK_S):
                    handler = handlers.get(fd)
                    if handler is not None:
                        handler(events)
                now_s = self._monotonic()
                if now_s < next_tick_s:
                    continue
                next_tick_s = now_s + _TICK_S
                for gateway in self.gateways:
                    gateway.pump()
                if now_s >= next_progress_s:
                    next_progress_s = now_s + _PROGRESS_S
                    self._progress()
                self._tell_hold()
                if not ended and self.scenario.end_ms is not None:
                    ended = self._reached(self.scenario.end_ms)
                    if ended:
                        self._progress()
                        self._say({"event": "end", "ports": self.counters()})
        finally:
            for gateway in self.gateways:
                gateway.close()
            self._epoll.close()

    def counters(self) -> dict[str, dict[str, int]]:
        """Returns the counters of every port, by `gateway/port`."""
        return {f"{g.name}/{port.name}": port.counters() for g in self.gateways for port in g.ports}

    def _progress(self) -> None:
        reached = {gateway.name: gateway.done_ms for gateway in self.gateways}
        self._say({"event": "progress", "sim_ms": min(reached.values(), default=0), "gateways": reached})

    def _tell_hold(self) -> None:
        if self._hold_ms is not None and not self._held and self._reached(self._hold_ms):
            self._held = True
            self._say({"event": "held", "sim_ms": self._hold_ms})

    def _reached(self, instant_ms: int) -> bool:
        return all(gateway.started and gateway.done_ms >= instant_ms for gateway in self.gateways)

    def _command(self, _events: int) -> None:
        if self._console is None:
            return
        for line in self._console.lines():
            try:
                self._obey(json.loads(line))
            except (ValueError, KeyError, TypeError):
                self._say({"event": "refused", "line": line, "mend": _COMMANDS})
            except SimError as error:
                self._say({"event": "refused", "line": line, "mend": str(error)})
        if self._console.ended:
            self.stop()

    def _obey(self, command: dict[str, Any]) -> None:
        if "hold_ms" in command:
            self._hold_ms = command["hold_ms"]
            self._held = False
            return
        port = {f"{g.name}/{port.name}": port for g in self.gateways for port in g.ports}[command["port"]]
        if "fault" in command:
            fault = parse_fault(command["fault"], "stdin", "fault", at_once=True)
            check_host("stdin", fault, bench=True)
            switch = Switch(fault, bool(command["on"]))
        else:
            values = command["set"]
            name = port.device.name
            steady = None if values is None else steady_source(check_values("stdin", "set.", name, values))
            switch = Switch(Fault(SETTING, values=steady), steady is not None)
        self._say({"event": "switched", **command, "sim_ms": port.switch(switch)})


def main(argv: list[str]) -> int:
    """`python -m murmure_firmware_sim.bench CONFIG.json`: events as JSON lines, until SIGTERM or the end of stdin."""
    if len(argv) != 1:
        print("murmure: bench: usage: python -m murmure_firmware_sim.bench CONFIG.json", file=sys.stderr)
        return 2
    try:
        bench = Bench(read_scenario(Path(argv[0])), _print_event, sys.stdin)
    except SimError as error:
        print(f"murmure: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"murmure: {error.filename or argv[0]}: {error.strerror or error}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bench.stop())
    bench.run()
    return 0


def _print_event(event: dict[str, object]) -> None:
    try:
        print(json.dumps(event), flush=True)
    except BrokenPipeError:
        # Whoever wanted to know has gone; the bench lives until its stdin ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
