"""`--watch`: all sensors at once for as long as somebody looks, each read as `sense` would read it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from murmure_edge.config import PortConfig
from murmure_edge.doctor import manners
from murmure_edge.doctor.ears import Values
from murmure_edge.doctor.examine import OpenAt, Session, driver_of
from murmure_edge.link import LinkError

RATE_MS = 10_000  # over which rates are told


@dataclass(frozen=True, slots=True)
class Row:
    """One sensor at one instant. `frames_per_s`, `bad_percent`, `age_s`: None while nothing is known. `recent`,
    `verdicts`: words about its values, and `values`, what it said last: for the technician's own screen alone."""

    port: str
    device: str
    state: str
    advice: str = ""
    frames_per_s: float | None = None
    bad_percent: float | None = None
    age_s: float | None = None
    recent: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    values: Values = field(default_factory=Values)

    def as_json(self) -> dict[str, object]:
        """Returns everything but what was measured and what is thought of it: from one second to the next, a word
        about values tells of whoever passes."""
        return {
            "port": self.port,
            "device": self.device,
            "state": self.state,
            "frames_per_s": None if self.frames_per_s is None else round(self.frames_per_s, 1),
            "bad_percent": None if self.bad_percent is None else round(self.bad_percent, 1),
            "age_s": None if self.age_s is None else round(self.age_s, 1),
        }


class _Watched:
    def __init__(self, port: PortConfig, open_at: OpenAt, stop: threading.Event) -> None:
        self.port = port
        self._open_at = open_at
        self._baud = driver_of(port).baud
        self.session = Session(port, open_at(self._baud, stop), stop)
        self._link = open_at(self._baud, stop)
        self._past: deque[tuple[int, int, int]] = deque()
        self.thread = threading.Thread(target=self._run, name=port.name)

    def _run(self) -> None:
        found = manners.Found()
        try:
            found = manners.meet(self._link, self.session.driver)
        except LinkError:
            found = manners.Found()  # it may come yet: the session tries for ever
        finally:
            self._link.close()
        try:
            self.session.run()
        finally:
            manners.leave(self._open_at(self._baud, threading.Event()), found)

    def row(self) -> Row:
        session, health = self.session, self.session.health
        now_ms = session.tapped.now_ms()
        bad = health.rejected + health.timeouts
        past = self._past
        past.append((now_ms, health.frames, bad))
        while len(past) > 2 and now_ms - past[0][0] > RATE_MS:
            past.popleft()
        then_ms, frames, then_bad = past[0]
        rate = percent = None
        if now_ms > then_ms:
            good, spoiled = health.frames - frames, bad - then_bad
            rate = 1000 * good / (now_ms - then_ms)
            percent = 100 * spoiled / (good + spoiled) if good + spoiled else None
        return Row(
            port=self.port.name,
            device=self.port.device,
            state=str(health.state),
            advice=health.advice,
            frames_per_s=rate,
            bad_percent=percent,
            age_s=None if health.last_good_ms is None else max(0, now_ms - health.last_good_ms) / 1000,
            recent=tuple(session.judge.recent),
            verdicts=tuple(kind for kind, _ in session.judge.verdicts()),
            values=session.values,
        )


class Watch:
    """Reads all ports from `start` to `end`; `rows` says how they are. Sensors are left as they were found."""

    def __init__(self, ports: Sequence[PortConfig], open_ports: Sequence[OpenAt]) -> None:
        self._stop = threading.Event()
        self._watched = [_Watched(port, open_at, self._stop) for port, open_at in zip(ports, open_ports, strict=True)]

    def start(self) -> None:
        """Begins to read."""
        for watched in self._watched:
            watched.thread.start()

    def end(self) -> None:
        """Stops, and returns when every sensor has been left."""
        self._stop.set()
        for watched in self._watched:
            watched.thread.join()

    def rows(self) -> list[Row]:
        """Returns a row for each port."""
        return [watched.row() for watched in self._watched]
