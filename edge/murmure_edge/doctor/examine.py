"""One sensor on its line: opened as `sense` opens it, heard for a few seconds, judged, and left as it was found.

The sensor's own driver works in the supervisor that `sense` gives it (`murmure_edge.port`); the doctor only listens in.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from murmure_edge.config import PortConfig
from murmure_edge.doctor import manners, modbus_scan, probe
from murmure_edge.doctor.ears import Ears, TappedLink, Values, calibrated
from murmure_edge.doctor.findings import Finding
from murmure_edge.doctor.machine import Holder
from murmure_edge.doctor.plausibility import FLOOR, LEAST_FRAMES, Judge
from murmure_edge.link import Link, LinkDenied, LinkError
from murmure_edge.port import Port
from murmure_edge.reading import PortBatch, PortHealth, PortState
from murmure_edge.sensors import make_driver
from murmure_edge.sensors.base import Driver, PolledDriver
from murmure_edge.sensors.ld2450 import Ld2450
from murmure_edge.sensors.modbus_noise import ModbusNoise
from murmure_edge.sensors.pmsx003 import DEAF
from murmure_edge.sensors.sps30 import STATUS_BITS

HEAR_MS = 2_500  # two periods of what speaks once a second
HEAR_AGAIN_MS = 8_000  # where a frame was spoiled or missing, until a rate can be told
LONGEST_MS = 20_000  # before the first good frame: more than any driver takes to set its sensor up
_BATCH_MS = 100
_AIR = ("pm1", "pm2_5", "pm10")
_HEARS_NOTHING = ("uart_decibel_bbaa",)
"""Devices that take no command, so that their silence to one says nothing about the wires."""
_SPOILED_PERCENT = 1
_NO_MEASUREMENTS = ("ack", "reply", "other_model")
"""Kinds of frames that tell of the sensor itself."""
_SPOKEN_PER_S = {"sds011": 1.0, "uart_decibel_bbaa": 1000 / 300, "ld2450": 10.0}
OpenAt = Callable[[int, threading.Event], Link]
"""Makes a line at a speed, not yet open; the event ends its waiting early."""


def driver_of(port: PortConfig) -> Driver | PolledDriver:
    """Returns a new driver for a port. Raises SettingError."""
    return make_driver(port.device, port.options if port.baud is None else {**port.options, "baud": port.baud})


@dataclass(slots=True)
class Examined:
    """What came of one sensor. `frames`, `rejected` (spoiled or missing) and `frames_per_s` are those of the
    time since its first good frame; `recent`: the verdicts on its last frames, words without values. `values`:
    what it said last, for the technician's own screen alone, and therefore in nothing that is written or sent."""

    port: PortConfig
    findings: list[Finding] = field(default_factory=list)
    state: str = "opening"
    frames: int = 0
    rejected: int = 0
    discarded_bytes: int = 0
    frames_per_s: float = 0.0
    identity: dict[str, str] = field(default_factory=dict)
    recent: tuple[str, ...] = ()
    values: Values = field(default_factory=Values)

    def find(self, code: str, private: bool = False, **about: str | int | float) -> None:
        """Adds a finding about this port."""
        self.findings.append(
            Finding(code, self.port.name, {"device": self.port.device, "path": self.port.path, **about}, private)
        )

    def as_json(self) -> dict[str, object]:
        """Returns everything but what was measured."""
        return {
            "port": self.port.name,
            "device": self.port.device,
            "path": self.port.path,
            "state": self.state,
            "frames": self.frames,
            "rejected": self.rejected,
            "discarded_bytes": self.discarded_bytes,
            "frames_per_s": round(self.frames_per_s, 1),
            "identity": self.identity,
        }


class Session:
    """One driver at work on one line, with the doctor listening in, until `enough` or `stop`."""

    def __init__(self, port: PortConfig, link: Link, stop: threading.Event, lasting: bool = False) -> None:
        self.driver = driver_of(port)
        self.ears = Ears(self.driver)
        self.judge = Judge(self.driver.PLAUSIBLE)
        self.values = Values()
        self.health = PortHealth(PortState.OPENING)
        self.first_ms: int | None = None
        """When the sensor had been set up and gave its first good frame."""
        self.first = self.health
        self.opened_ms = link.now_ms()
        self.now_ms = self.opened_ms
        self.enough: Callable[[], bool] = lambda: False
        self.tapped = TappedLink(link, self.ears, self._heard, lasting)
        self._stop = stop
        self._offsets = port.calibration.offsets
        self._measured = 0, 0, 0  # the first one's time, the last one's, how many
        self.last_kind: object = None
        """What kind of frame came last, in the words of `describe`."""
        self._warm_ms: int | None = None
        self._cold = self.driver.warm_up_ms > 0  # the judge has seen a warm-up, and must forget it
        self._port = Port(port.name, self.tapped, self.driver, self._post, batch_ms=_BATCH_MS, stop=stop)

    def run(self) -> None:
        """Works until stopped; the line is closed when it returns."""
        self._port.run()

    def rate_per_s(self) -> float:
        """Returns how many frames with a measurement came in a second, over the time since the first of them."""
        first_ms, last_ms, count = self._measured
        due_ms = 1000 / _due_per_s(self.driver)
        if self.now_ms - last_ms > 2 * due_ms:  # it has fallen silent since
            return 1000 * count / max(1, self.now_ms - first_ms)
        return 1000 * (count - 1) / (last_ms - first_ms) if last_ms > first_ms else 0.0

    def heard(self) -> tuple[int, int]:
        """Returns how many frames were good and how many spoiled or missing since the first good one. Of a frame whose
        head is spoiled only the bytes tell."""
        first, health = self.first, self.health
        frames = health.frames - first.frames
        rejected = health.rejected - first.rejected + health.timeouts - first.timeouts
        good_bytes = self.ears.bytes - health.discarded_bytes
        length = max(1, good_bytes // max(1, health.frames))
        return frames, max(rejected, (health.discarded_bytes - first.discarded_bytes) // length)

    @property
    def warm(self) -> bool:
        """Returns whether the sensor's warm-up is over."""
        return self._warm_ms is not None and self.now_ms >= self._warm_ms

    def _heard(self, frames: list[dict[str, object]], now_ms: int) -> None:
        self.now_ms = now_ms
        if self._cold and self.warm:
            self._cold = False
            self.judge.forget()
        for described in frames:
            self.last_kind = described.get("kind")
            if self.first_ms is not None and self.last_kind not in _NO_MEASUREMENTS:
                first_ms, _, count = self._measured
                self._measured = first_ms or now_ms, now_ms, count + 1
            seen = self.judge.frames
            self.judge.see(described, now_ms)
            if self.judge.frames > seen:
                self.values = calibrated(described, self._offsets)
                if isinstance(self.driver, Ld2450):
                    self.values |= {"away": self.driver.directions[1], "back": self.driver.directions[-1]}

    def _post(self, batch: PortBatch) -> None:
        self.health = batch.health
        self.now_ms = self.tapped.now_ms()
        if self.first_ms is None and batch.health.state in (PortState.WARMING, PortState.OK, PortState.DEGRADED):
            self.first_ms, self.first = self.now_ms, batch.health
            self._warm_ms = self.now_ms + self.driver.warm_up_ms
        if self.enough():
            self._stop.set()


def examine(
    port: PortConfig,
    open_at: OpenAt,
    holders: Callable[[], Sequence[Holder]],
    *,
    stop: threading.Event,
    hear_ms: int = HEAR_MS,
    mend: bool = False,
    tell: Callable[[str, str], None] = lambda port, doing: None,
) -> Examined:
    """Examines one sensor. `open_at(baud, stop)`: its line, not yet open. `holders()`: who else has it open. `hear_ms`:
    for how long it is heard once it speaks. `mend`: what lasts may be set, and it is left awake. `tell(port, doing)`
    is told what goes on, in one word. `stop` ends all of it early. Raises SettingError for settings it has not."""
    done = threading.Event()
    driver = driver_of(port)
    result = Examined(port)
    others = holders()
    if others:
        result.state = PortState.DENIED
        result.find("port.taken", program=others[0].program, pid=others[0].pid)
        return result
    link = open_at(driver.baud, done)
    found = manners.Found()
    tell(port.name, "open")
    try:
        found = manners.meet(link, driver)
        link.close()
        session = Session(port, link, done, lasting=mend)
        _listen(session, stop, hear_ms, lambda doing: tell(port.name, doing))
    except LinkError as error:
        _say_why(result, error)
        return result
    finally:
        if not mend:
            manners.leave(open_at(driver.baud, threading.Event()), found)
        link.close()
    _sum_up(result, session)
    tell(port.name, "judge")
    if session.health.state in (PortState.ABSENT, PortState.DENIED):
        result.find("port.lost")
    elif session.first_ms is None:
        _explain_silence(result, session, open_at, stop, lambda doing: tell(port.name, doing))
    else:
        _judge(result, session, found, mend)
    return result


def _listen(session: Session, stop: threading.Event, hear_ms: int, tell: Callable[[str], None]) -> None:
    """Lets the driver work until enough is known."""

    def enough() -> bool:
        if stop.is_set():
            return True
        now_ms, first_ms, state = session.now_ms, session.first_ms, session.health.state
        if first_ms is None:
            tell("set up")
            gone = state in (PortState.WRONG_DEVICE, PortState.ABSENT, PortState.DENIED)
            silent = state is PortState.STALLED and not session.health.frames
            return gone or silent or now_ms - session.opened_ms > LONGEST_MS
        heard_ms = now_ms - first_ms
        if heard_ms < hear_ms:
            tell("listen")
            return False
        if session.judge.at_floor and session.driver.warm_up_ms and not _judged_warm(session):
            tell("warm up")  # zeros are what it says until then
            return False
        tell("listen")
        return heard_ms >= HEAR_AGAIN_MS or not _is_doubtful(session, heard_ms)

    session.enough = enough
    session.run()


def _judged_warm(session: Session) -> bool:
    return session.warm and session.judge.frames >= LEAST_FRAMES


def _is_doubtful(session: Session, heard_ms: int) -> bool:
    """Returns whether a rate of spoiled or missing frames must be told, for which a few seconds are too short."""
    frames, spoiled = session.heard()
    few = frames * 1000 < _due_per_s(session.driver) * heard_ms / 2
    return spoiled > 0 or few or 0 < session.judge.frames < LEAST_FRAMES


def _due_per_s(driver: Driver | PolledDriver) -> float:
    if isinstance(driver, PolledDriver):
        return 1000 / driver.period_ms
    return _SPOKEN_PER_S.get(driver.NAME, float(getattr(driver, "rate_hz", 1)))


def _sum_up(result: Examined, session: Session) -> None:
    health = session.health
    result.state = str(health.state)
    result.identity = dict(session.driver.told.identity)
    result.recent = tuple(session.judge.recent)
    result.values = session.values
    result.discarded_bytes = health.discarded_bytes
    if session.first_ms is not None:
        result.frames, result.rejected = session.heard()
        result.frames_per_s = session.rate_per_s()


def _say_why(result: Examined, error: LinkError) -> None:
    number = getattr(error.__cause__, "errno", None)
    result.state = PortState.DENIED if isinstance(error, LinkDenied) else PortState.ABSENT
    if number in (errno.EAGAIN, errno.EBUSY):
        result.find("port.taken", program="?", pid=0)
    elif isinstance(error, LinkDenied):
        result.find("port.denied")
    else:
        result.find("port.absent")


def _explain_silence(
    result: Examined,
    session: Session,
    open_at: OpenAt,
    stop: threading.Event,
    tell: Callable[[str], None],
) -> None:
    """Not one good frame that could be used: says which of the many reasons it is."""
    driver, raw, told = session.driver, session.ears.raw, session.driver.told
    slave = driver.slave if isinstance(driver, ModbusNoise) else 1
    if told.mismatch:
        _say_mismatch(result, session)
    elif session.ears.frames:
        result.find("sensor.late")
    elif isinstance(driver, ModbusNoise) and modbus_scan.verdict(raw, driver.slave) == modbus_scan.OTHER:
        result.find("modbus.other_slave", slave=driver.slave)
    else:
        tell("try other speeds")
        bauds = (driver.baud, *(baud for baud in probe.USUAL_BAUDS if baud != driver.baud))
        done = threading.Event()
        seen = probe.probe(lambda baud: open_at(baud, done), bauds, slave, stop.is_set)
        if seen is not None and seen.device != driver.NAME:
            result.find("sensor.wrong_device", seen=seen.device, seen_baud=seen.baud, baud=driver.baud)
        elif seen is not None and seen.baud != driver.baud:
            result.find("sensor.wrong_baud", seen_baud=seen.baud, baud=driver.baud)
        elif seen is not None:
            result.find("sensor.late")  # it does answer, but not its driver in time
        elif isinstance(driver, ModbusNoise):
            result.find("modbus.crc" if raw else "modbus.silent", slave=driver.slave)
        else:
            result.find("sensor.no_frames" if raw else "sensor.silent", baud=driver.baud)


def _say_mismatch(result: Examined, session: Session) -> None:
    said = session.driver.told.mismatch
    if said == DEAF:
        result.find("sensor.deaf")
    elif session.tapped.withheld:
        result.find("sensor.settings")
    else:
        result.find("sensor.mismatch", said=said)


def _judge(result: Examined, session: Session, found: manners.Found, mend: bool) -> None:
    """It speaks: says what is wrong with what and how it speaks, or that all is well."""
    driver, told = session.driver, session.driver.told
    if told.mismatch:
        _say_mismatch(result, session)
    if told.identity.get("bluetooth") == "on":
        result.find("privacy.bluetooth")
    if found.asleep and not mend:
        result.find("sensor.asleep")
    elif found.asked_only and not mend:
        result.find("sensor.asked_only")
    whole = _judge_stream(result, session)
    # Where frames get lost, its answers to orders may be lost as well.
    if whole and not told.identity and not told.mismatch and driver.NAME not in _HEARS_NOTHING:
        result.find("sensor.deaf")
    _judge_values(result, session)
    if all(finding.private or finding.code == "sensor.asleep" for finding in result.findings):
        result.find(
            "sensor.ok",
            frames=result.frames,
            rejected=result.rejected,
            rate=f"{result.frames_per_s:.1f}",
            identity=", ".join(f"{key} {value}" for key, value in told.identity.items()) or "-",
        )


def _judge_stream(result: Examined, session: Session) -> bool:
    """Says how frames come; returns whether all do."""
    driver, health = session.driver, session.health
    refused = health.refused - session.first.refused
    heard_ms = session.now_ms - (session.first_ms or 0)
    if refused and 2 * refused >= result.frames:
        if isinstance(driver, ModbusNoise) and session.last_kind == "exception":
            result.find("modbus.exception", slave=driver.slave)
        else:
            result.find("sensor.no_value")
    if result.rejected * 100 > _SPOILED_PERCENT * (result.frames + result.rejected):
        percent = round(100 * result.rejected / (result.frames + result.rejected))
        late = health.timeouts - session.first.timeouts >= result.rejected / 2
        lateness = "sensor.late_some" if result.frames else "sensor.late"
        result.find(lateness if late else "sensor.errors", percent=percent)
    elif result.frames * 1000 < _due_per_s(driver) * heard_ms / 2:
        result.find("sensor.slow", rate=f"{result.frames_per_s:.1f}", due=f"{_due_per_s(driver):.1f}")
    else:
        return True
    return False


def _judge_values(result: Examined, session: Session) -> None:
    driver = session.driver
    status = session.driver.told.identity.get("status", "")
    for bit, says in STATUS_BITS.items():
        if says in status:
            result.find("sensor.laser" if bit == 1 << 5 else "sensor.fan")
    is_air = any(quantity in _AIR for quantity in driver.QUANTITIES)
    counts = "footfall" in driver.QUANTITIES
    for kind, names in session.judge.verdicts():
        code = f"sensor.{kind}"
        if kind == FLOOR and is_air:
            code = "sensor.fan"
        if all(finding.code != code for finding in result.findings):
            # What a counter of people sees is out of range only if there is somebody.
            result.find(code, private=counts, names=", ".join(names))


def guess(port: PortConfig, open_at: OpenAt, stop: threading.Event) -> Examined:
    """Says which device is on a line of which nothing is known."""
    result = Examined(port)
    try:
        link = open_at(probe.USUAL_BAUDS[0], stop)
        link.open()
        link.close()
    except LinkError as error:
        _say_why(result, error)
        return result
    seen = probe.probe(lambda baud: open_at(baud, stop), probe.USUAL_BAUDS, 1, stop.is_set)
    if seen is None:
        result.find("port.unknown")
    else:
        result.port = replace(result.port, device=seen.device)
        result.find("port.looks_like", seen=seen.device, seen_baud=seen.baud)
    return result
