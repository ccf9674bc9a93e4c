"""Each driver's memory against a step response: a sound, a puff, a passer-by switched on and off before the simulator.

Readings of a street with the event and without it, through the emulated device and the real driver, may differ in no
more slots than the policy counts: n = ceil(1000 s / cadence) + 1 + tail, with the memory that the driver declares as
tail. Neither the phase of the event, nor when a reading arrives in its slot, nor a clock of the sensor's own that the
gateway's outruns by up to a second may change that.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil, log
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_edge.port import Port
from murmure_edge.reading import PortBatch
from murmure_edge.sensors import DRIVERS, make_driver
from murmure_edge.sensors.base import Decoded, Driver, PolledDriver
from murmure_edge.sensors.tfluna import TfLuna
from murmure_edge.timeline import TimelineLink
from murmure_firmware_sim.devices import DEVICES
from murmure_firmware_sim.memory import Memory
from murmure_privacy.policy import parse

MINUTE = 29_900_000
MS_PER_S, S_PER_MINUTE = 1000, 60
START_S = MINUTE * S_PER_MINUTE
BEGIN_S = START_S + 20
QUIET_TENTHS = {"noise": 300, "air": 80}  # 30 dB, 8 ug/m3
LOUDEST_TENTHS = {"noise": 1000, "air": 9000}  # on top of it: 100 dB, 900 ug/m3
SLOTS_MS = 400  # of the emulated beam
POLICY = """
policy = 1
site = "plaza"
version = 1
timezone = "Europe/Paris"
decision = "D"
reason = "R"
valid_from = 2026-01-01
valid_until = 2026-12-31
[[stream]]
id = "plaza/it"
quantity = "{quantity}"
protects = {{ seconds = {seconds} }}
readings = {{ cadence_ms = 1000, tail = {tail} }}
epsilon = 1.0
nodes = {{ "1h" = 1 }}
{bounds} = [35, 85]
"""
Readings = dict[str, list[tuple[int, int]]]


@dataclass
class Case:
    """A driver with its settings, and the emulated sensor's memory that these settings describe."""

    settings: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)


# Every driver of the table needs its line here: a new one fails `test_every_driver_has_its_step`.
METER = [
    Case({}, {"time_constant_ms": 360}),
    *(Case({"time_constant_ms": ms}, {"time_constant_ms": ms}) for ms in (125, 500, 1000, 1500)),
]
CASES: dict[str, list[Case]] = {
    "modbus_noise": METER,
    "nsrt_mk3": [Case()],
    "uart_decibel_bbaa": METER,
    "sds011": [
        Case({}, {"average_ms": 1000}),
        *(Case({"average_s": s}, {"average_ms": 1000 * s}) for s in (2, 10)),
    ],
    "pmsx003": [Case({}, {"average_ms": 10_000}), Case({"average_s": 3}, {"average_ms": 3000})],
    "sps30": [Case({}, {"average_ms": 30_000}), Case({"average_s": 1}, {"average_ms": 1000})],
    "tfluna": [Case()],
    "ld2450": [Case()],  # a count as well: that a walker is one reading, tests/edge/test_ld2450.py shows
}
STEPPED = [
    (device, case)
    for device, cases in CASES.items()
    if device in DRIVERS and "footfall" not in DRIVERS[device].QUANTITIES
    for case in cases
]


class Street:
    """A steady street with one event, `extra_tenths` louder or dustier for `seconds`. Implements `Source`."""

    over_capacity = 0

    def __init__(self, quiet_tenths: int, extra_tenths: int, seconds: int, dips: Iterable[int] = ()) -> None:
        self._quiet = quiet_tenths
        self._extra = extra_tenths
        self._event = range(BEGIN_S, BEGIN_S + seconds)
        self._dips = set(dips)

    def level_tenths(self, minute: int) -> Sequence[int | None]:
        first = minute * S_PER_MINUTE
        return [self._quiet + self._extra * (s in self._event) for s in range(first, first + S_PER_MINUTE)]

    def pm_tenths(self, minute: int) -> Sequence[tuple[int, int] | None]:
        return [(value, value) for value in self.level_tenths(minute) if value is not None]

    def dip_slots(self, minute: int) -> Sequence[int]:
        return sorted(slot for slot in self._dips if minute == MINUTE)


@dataclass(frozen=True)
class Clocks:
    """How instants lie, slot by slot; lists are held at their last.

    The sensor's value is of `phase_ms` into its own second. A polled reading comes `arrivals_ms` after its slot's
    begin. The gateway's clock is ahead of the sensor's by `ahead_ms` or behind it, and gains on it by less than a
    second in all.
    """

    phase_ms: int = 500
    arrivals_ms: Sequence[int] = (0,)
    ahead_ms: Sequence[int] = (0,)

    def arrival(self, slot: int) -> int:
        return self.arrivals_ms[min(slot, len(self.arrivals_ms) - 1)]

    def ahead(self, slot: int) -> int:
        return self.ahead_ms[min(slot, len(self.ahead_ms) - 1)]


def heard(
    device: str, driver: Driver, street: Street, memory: dict[str, int], clocks: Clocks, seconds: int
) -> Readings:
    """Returns the readings of `seconds` slots, by quantity, with the gateway's stamps."""
    sensor = DEVICES[device](Memory(street, phase_ms=clocks.phase_ms, **memory) if memory else street)
    found: Readings = {quantity: [] for quantity in driver.QUANTITIES}

    def take(decoded: Sequence[Decoded]) -> None:
        for quantity, reading in decoded:
            found[quantity].append((reading.time_ms, reading.value))

    opened_ms = START_S * MS_PER_S - driver.warm_up_ms
    for command in driver.opening():
        for answer, _ in sensor.receive(command, opened_ms):
            driver.feed(answer, opened_ms)
    if isinstance(driver, PolledDriver):
        for number in range(seconds):
            now_ms = (START_S + number) * MS_PER_S + clocks.arrival(number)
            sensor_ms = now_ms - clocks.ahead(number)
            if memory:
                # It holds the value of its last tick, `phase_ms` into each of its own seconds.
                sensor_ms -= (sensor_ms - clocks.phase_ms) % MS_PER_S + clocks.phase_ms
            for answer, _ in sensor.receive(driver.request(), sensor_ms):
                take(driver.feed(answer, now_ms))
        return found
    sensor.seek(START_S * MS_PER_S)
    for number, (said, time_ms) in enumerate(sensor.advance((START_S + seconds) * MS_PER_S)):
        take(driver.feed(said, time_ms + clocks.ahead(number)))
    return found


def slots(readings: list[tuple[int, int]]) -> dict[int, int]:
    """Returns the first reading of each slot, as the windows take them."""
    first: dict[int, int] = {}
    for time_ms, value in readings:
        first.setdefault(time_ms // MS_PER_S, value)
    return first


def touched(device: str, case: Case, street: tuple[int, int, int], clocks: Clocks) -> dict[str, int]:
    """Returns in how many slots the event of a street (quiet, extra, seconds) shows, by quantity."""
    seconds = 20 + street[2] + 60
    with_it, without = (
        heard(device, make_driver(device, case.settings), scene, case.memory, clocks, seconds)
        for scene in (Street(*street), Street(street[0], 0, street[2]))
    )
    both = {quantity: (slots(with_it[quantity]), slots(without[quantity])) for quantity in with_it}
    assert all(one.keys() == other.keys() for one, other in both.values()), "neighbours have readings at one time"
    return {quantity: sum(one[at] != other[at] for at in one) for quantity, (one, other) in both.items()}


def counted(quantity: str, seconds: int, tail: int) -> int:
    """Returns n of a policy that protects so many seconds."""
    bounds = "bounds_db" if quantity == "noise" else "bounds"
    text = POLICY.format(quantity=quantity, seconds=seconds, tail=tail, bounds=bounds)
    return parse(text.encode(), "policy").streams[0].unit_readings


def test_every_driver_has_its_step() -> None:
    """A new driver is not trusted before its step response is described here."""
    assert CASES.keys() >= DRIVERS.keys()
    assert all(CASES[device] for device in DRIVERS)


@given(
    which=st.sampled_from(STEPPED),
    seconds=st.integers(1, 90),
    quiet=st.integers(0, 300),
    share=st.integers(1, 1000),
    phase_ms=st.integers(1, 1000),
    arrivals_ms=st.lists(st.sampled_from([0, 1, 500, 998, 999]), min_size=1, max_size=120),
    behind_ms=st.integers(0, 999),
    gains_ms=st.lists(st.integers(0, 999), min_size=1, max_size=120).map(sorted),
)
def test_an_event_touches_no_more_readings_than_its_driver_declares(
    which: tuple[str, Case],
    seconds: int,
    quiet: int,
    share: int,
    phase_ms: int,
    arrivals_ms: list[int],
    behind_ms: int,
    gains_ms: list[int],
) -> None:
    """Whatever its length and height up to the sensor's range, wherever it lies against slots and clocks."""
    device, case = which
    street = (
        QUIET_TENTHS[DEVICES[device].quantity] + quiet,
        LOUDEST_TENTHS[DEVICES[device].quantity] * share // 1000,
        seconds,
    )
    driver = make_driver(device, case.settings)
    declared = driver.memory_readings
    ahead_ms = [gain - behind_ms for gain in gains_ms]
    # A frame that streams comes in the middle of a second, or earlier, and can hold nothing of what comes after.
    if not isinstance(driver, PolledDriver):
        phase_ms = 1 + phase_ms // 2 if device == "sds011" else 1
    clocks = Clocks(phase_ms, arrivals_ms, ahead_ms)
    for quantity, number in touched(device, case, street, clocks).items():
        assert number <= counted(quantity, seconds, declared[quantity])


SLIDING = Clocks(phase_ms=1, arrivals_ms=(999,) * 21 + (0,), ahead_ms=(-500,) * 21 + (499,))
TIGHT = {
    # The sound begins in the middle of a slot, and while it lasts the gateway's clock gains a second.
    "modbus_noise": (Case({}, {"time_constant_ms": 360}), SLIDING),
    "nsrt_mk3": (Case(), SLIDING),
    "sds011": (Case({}, {"average_ms": 3000}), Clocks()),
}


@pytest.mark.parametrize("device", TIGHT)
@pytest.mark.parametrize("seconds", [1, 15, 60])
def test_a_driver_that_declares_one_reading_less_is_caught(device: str, seconds: int) -> None:
    """The declared memory is used to the last reading by the slowest sensor that it covers, at the worst phase: a FAST
    meter three times too slow, an LEQ, a dust sensor that averages 3 s where its clock keeps the gateway's second."""
    case, clocks = TIGHT[device]
    street = (QUIET_TENTHS[DEVICES[device].quantity], LOUDEST_TENTHS[DEVICES[device].quantity], seconds)
    declared = make_driver(device, case.settings).memory_readings
    for quantity, number in touched(device, case, street, clocks).items():
        assert number == counted(quantity, seconds, declared[quantity])
        assert number > counted(quantity, seconds, declared[quantity] - 1)


LONGER = {
    "modbus_noise": {"time_constant_ms": 1000},
    "uart_decibel_bbaa": {"time_constant_ms": 1000},
    "sds011": {"average_ms": 4000},
    "pmsx003": {"average_ms": 20_000},
    "sps30": {"average_ms": 40_000},
}


@pytest.mark.parametrize(("device", "memory"), [each for each in LONGER.items() if each[0] in DRIVERS])
def test_a_sensor_that_remembers_longer_than_its_driver_says_is_caught(device: str, memory: dict[str, int]) -> None:
    """The check fails where the technician has named the wrong memory: a SLOW meter taken for a FAST one, a dust
    sensor that averages longer."""
    street = (QUIET_TENTHS[DEVICES[device].quantity], LOUDEST_TENTHS[DEVICES[device].quantity] * 6 // 10, 15)
    declared = make_driver(device, {}).memory_readings
    for quantity, number in touched(device, Case({}, memory), street, Clocks()).items():
        assert number > counted(quantity, 15, declared[quantity])


@pytest.mark.parametrize(("ms", "readings"), [(125, 5), (360, 11), (500, 15), (1000, 29), (1500, 43)])
def test_a_meters_memory_follows_from_its_time_constant(ms: int, readings: int) -> None:
    """So long until 100 dB over the street are less than half of the last digit, and one reading more."""
    left = 10 ** (0.05 / 10) - 1
    assert readings == ceil(ms / 1000 * log(10**10 / left)) + 1
    assert make_driver("modbus_noise", {"time_constant_ms": ms}).memory_readings == {"noise": readings}


def test_the_usual_sound_is_forgotten_long_before() -> None:
    """60 dB over the street for 15 s: a FAST meter shows it in 2 readings more, a SLOW one in 18 more."""
    street = (QUIET_TENTHS["noise"], 600, 15)
    shown = {
        ms: touched("modbus_noise", Case({}, {"time_constant_ms": ms}), street, Clocks())["noise"] for ms in (125, 1000)
    }
    assert shown == {125: 15 + 2, 1000: 15 + 18}


# --- passers-by ------------------------------------------------------------------------------------------------------


def passed(driver: Driver, dips: Iterable[int]) -> Counter[tuple[int, int]]:
    readings = heard("tfluna", driver, Street(500, 0, 0, dips), {}, Clocks(), S_PER_MINUTE + 10)
    return Counter(readings["footfall"])


class Repeats(TfLuna):
    """Tells of each passer-by again a second later."""

    def feed(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        decoded = list(super().feed(data, now_ms))
        again = [(quantity, each._replace(time_ms=each.time_ms + 1000)) for quantity, each in decoded if each.value]
        return decoded + again


@settings(max_examples=25)
@given(
    dips=st.sets(st.integers(1, 60_000 // SLOTS_MS - 1), max_size=60),
    extra=st.integers(1, 60_000 // SLOTS_MS - 1),
    rate_hz=st.sampled_from([10, 50]),
)
def test_one_passer_by_more_is_one_reading_more(dips: set[int], extra: int, rate_hz: int) -> None:
    """A count has no memory: whoever passed before or after, one body more adds one reading of 1 and alters none."""
    dips.discard(extra)
    without, with_it = (passed(make_driver("tfluna", {"rate_hz": rate_hz}), each) for each in (dips, dips | {extra}))
    more = with_it - without
    assert [value for _, value in more.elements()] == [1]
    assert not without - with_it


def test_a_driver_that_remembers_a_passer_by_is_caught() -> None:
    """Two readings of one body are more than the unit of one crossing pays for."""
    assert sum((passed(Repeats(), [50]) - passed(Repeats(), [])).values()) == 2


# --- through real pseudo-terminals -----------------------------------------------------------------------------------

METRICS = {"noise": ("noise", "laeq_1s", "dB"), "air": ("pm2_5", "pm2_5", "ug/m3")}
PORTS = {device: METRICS[DEVICES[device].quantity] for device, _ in STEPPED}
PTY_SECONDS = 100


def replayed(home: Path, extra_tenths: int) -> dict[str, dict[int, int]]:
    """Returns the slots of every sensor behind pseudo-terminals of a bench, in simulated time."""
    home.mkdir()
    lines = ["timestamp_utc,site,metric,value,unit"]
    for kind, (_, metric, unit) in METRICS.items():
        street = Street(QUIET_TENTHS[kind], extra_tenths, 15)
        values = [value for minute in (MINUTE, MINUTE + 1) for value in street.level_tenths(minute)]
        for number, value in enumerate(values):
            assert value is not None
            lines.append(f"{stamp(START_S + number)},plaza,{metric},{value / 10},{unit}")
    (home / "rec.csv").write_text("\n".join(lines) + "\n")
    ports = [
        {
            "name": device,
            "link": str(home / device),
            "device": device,
            "set": CASES[device][0].memory,
            "source": {"kind": "replay", "file": str(home / "rec.csv"), "site": "plaza", "metrics": [metric]},
        }
        for device, (_, metric, _) in PORTS.items()
    ]
    start_ms, end_ms = START_S * MS_PER_S, (START_S + PTY_SECONDS) * MS_PER_S
    gateway = {"gateway": "gw-1", "dir": str(home / "gw-1"), "ports": ports}
    (home / "bench.json").write_text(json.dumps({"start_ms": start_ms, "end_ms": end_ms, "gateways": [gateway]}))
    command = [sys.executable, "-m", "murmure_firmware_sim.bench", str(home / "bench.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        bench.stdout.readline()  # its first line of progress: everything is open
        stop, batches = threading.Event(), queue.Queue[PortBatch]()
        threads = []
        for index, device in enumerate(PORTS):
            driver = make_driver(device, {})
            link = TimelineLink(home / "gw-1", index, device, str(home / device), driver.baud, stop)
            driver.warm_up_ms = 0  # the steps lie in its first seconds
            port = Port(device, link, driver, batches.put, batch_ms=10_000, stop=stop)
            threads.append(threading.Thread(target=port.run))
            threads[-1].start()
        found: Readings = {device: [] for device in PORTS}
        horizons = dict.fromkeys(PORTS, 0)
        while min(horizons.values()) < end_ms:
            batch = batches.get(timeout=60)
            assert batch.fault is None and batch.health.advice == ""
            horizons[batch.port] = batch.horizon_ms
            readings = batch.readings.get(PORTS[batch.port][0], [])
            found[batch.port] += [(each.time_ms, each.value) for each in readings]
        stop.set()
        for thread in threads:
            thread.join()
        bench.terminate()
    return {device: slots(readings) for device, readings in found.items()}


def stamp(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_sound_and_a_puff_behind_real_ports_touch_what_is_declared(tmp_path: Path) -> None:
    """The same step through pseudo-terminals, the ports' threads and the time line: 60 dB and 60 ug/m3 for 15 s."""
    loud, quiet = replayed(tmp_path / "loud", 600), replayed(tmp_path / "quiet", 0)
    for device, (quantity, _, _) in PORTS.items():
        one, other = loud[device], quiet[device]
        # An opening takes 1.4 s at most, and ends before or after the first slots, as the two processes happen to run.
        both = one.keys() & other.keys()
        assert len(both) >= PTY_SECONDS - 4 and all(at < min(both) + 4 for at in one.keys() ^ other.keys())
        number = sum(one[at] != other[at] for at in both)
        declared = make_driver(device, {}).memory_readings[quantity]
        assert 15 <= number <= counted(quantity, 15, declared)
