"""How many crossings the sensors count beside how many there are, street by street, all of it simulated.

People walk as described below; what they do to a radar and to a beam becomes bytes, the bytes go through the drivers
of the gateway, and what comes out is compared with the truth. The sensors' physics are models of ours, written from
data sheets and from what users report: a street that was filmed and counted would be better, and there is none here.

    python benchmarks/footfall_accuracy.py              a shorter run
    python benchmarks/footfall_accuracy.py --write      the full one; writes the table of docs/accuracy.md and
                                                        docs/accuracy.json
"""

from __future__ import annotations

import argparse
import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

from murmure_edge.reading import Reading
from murmure_edge.sensors import make_driver
from murmure_edge.sensors.base import Driver
from murmure_edge.sensors.two_beams import TwoBeams
from murmure_firmware_sim.devices.ld2450 import Ld2450
from murmure_firmware_sim.people import People

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
START_MS = 1_763_683_200_000
DOCS = Path(__file__).resolve().parent.parent / "docs"

# The street: s along it (the line is at 0), w across it, in mm.
WIDTH_MM, OUT_OF_SIGHT_MM, AWAY_MM = 3000, 7000, 500
BODY_DEPTH_MM, BODY_WIDTH_MM = 360, 440
TICKS = 100  # a second: what the fastest beam sees


class Walk:
    """One person: (second, s, w) at each turn, straight and steady between them."""

    def __init__(self, turns: Sequence[tuple[float, float, float]]) -> None:
        self.turns = turns
        self.times = [at for at, _, _ in turns]
        self.begins, self.ends = self.times[0], self.times[-1]

    def at(self, second: float) -> tuple[float, float]:
        """Returns (s, w) while the person is there."""
        leg = min(max(bisect_right(self.times, second), 1), len(self.turns) - 1)
        (t0, s0, w0), (t1, s1, w1) = self.turns[leg - 1], self.turns[leg]
        part = (second - t0) / (t1 - t0)
        return s0 + part * (s1 - s0), w0 + part * (w1 - w0)

    def crossings(self) -> int:
        """Returns how often the person goes from a metre before the line to a metre behind it."""
        side, count = 0, 0
        for (_, s0, _), (_, s1, _) in pairwise(self.turns):
            for s in (s0, s1):
                here = 0 if abs(s) < AWAY_MM else (1 if s > 0 else -1)
                count += bool(here and side and here != side)
                side = here or side
        return count


def straight(begins: float, speed: float, w: float, direction: int, offset_s: float = 0.0) -> Walk:
    """Walks through, at `speed` in m/s."""
    far = direction * OUT_OF_SIGHT_MM
    lasts = 2 * OUT_OF_SIGHT_MM / (1000 * speed)
    return Walk([(begins, -far + offset_s, w), (begins + lasts, far + offset_s, w)])


def pace_of(rng: Random) -> float:
    """Returns an ordinary walking speed, m/s."""
    return min(max(rng.gauss(1.25, 0.2), 0.7), 1.6)


def way(rng: Random) -> int:
    """Sixty of a hundred go one way."""
    return 1 if rng.random() < 0.6 else -1


def group(rng: Random, begins: float, size: int) -> list[Walk]:
    """Two abreast, ranks behind each other, in step."""
    speed, direction = pace_of(rng), way(rng)
    walks, middle = [], rng.uniform(700, WIDTH_MM - 700) if size > 1 else rng.uniform(300, WIDTH_MM - 300)
    for at in range(size):
        abreast = rng.gauss(325, 40) * (1 if at % 2 else -1) if size > 1 else 0.0
        behind = (at // 2) * rng.gauss(1000, 100) + (rng.gauss(0, 150) if size > 1 else 0.0)
        walks.append(straight(begins, speed, middle + abreast, direction, -direction * behind))
    return walks


def ordinary(rng: Random, seconds: float, an_hour: float) -> list[Walk]:
    """Groups of one to four; a minute's groups are negative binomial, so that people come in bursts."""
    sizes, weights = (1, 2, 3, 4), (62, 25, 9, 4)
    mean_size = sum(size * weight for size, weight in zip(sizes, weights, strict=True)) / sum(weights)
    a_minute, spread = an_hour / 60 / mean_size, 0.3
    walks: list[Walk] = []
    for minute in range(int(seconds / 60)):
        expected = rng.gammavariate(a_minute / spread, spread)
        at = rng.expovariate(expected / 60) if expected > 0 else math.inf
        while at < 60:
            walks += group(rng, 60 * minute + at, rng.choices(sizes, weights)[0])
            at += rng.expovariate(expected / 60)
    return walks


def doorway(rng: Random, seconds: float, an_hour: float) -> list[Walk]:
    """One after the other, never two at once, at least 0.8 s apart: a gate, a corridor, a narrow door."""
    walks, at = [], 0.0
    mean = max(3600 / an_hour - 0.8, 0.0)
    speed = 1.1
    while at < seconds:
        at += 0.8 + (rng.expovariate(1 / mean) if mean else 0.0)
        begins = at - OUT_OF_SIGHT_MM / 1000 / speed
        walks.append(straight(begins, speed, rng.uniform(1300, 1700), way(rng)))
    return [walk for walk in walks if walk.begins >= 0]


def abreast(size: int) -> Callable[[Random, float], list[Walk]]:
    def make(rng: Random, begins: float) -> list[Walk]:
        speed, direction, first = pace_of(rng), way(rng), rng.uniform(300, 600)
        return [
            straight(begins, speed, first + at * rng.gauss(650, 60), direction, rng.gauss(0, 120)) for at in range(size)
        ]

    return make


def meeting(rng: Random, begins: float) -> list[Walk]:
    """Two who pass each other at the line, an arm's length apart."""
    one, other = pace_of(rng), pace_of(rng)
    apart = rng.uniform(500, 1000)
    w = rng.uniform(500, WIDTH_MM - 500 - apart)
    meets = begins + 12.0 + rng.gauss(0, 0.3)
    return [
        straight(begins + 12.0 - OUT_OF_SIGHT_MM / 1000 / one, one, w, 1),
        straight(meets - OUT_OF_SIGHT_MM / 1000 / other, other, w + apart, -1),
    ]


def runner(rng: Random, begins: float) -> list[Walk]:
    return [straight(begins, rng.uniform(2.5, 4.5), rng.uniform(500, 2500), way(rng))]


def slow(rng: Random, begins: float) -> list[Walk]:
    return [straight(begins, rng.uniform(0.35, 0.7), rng.uniform(500, 2500), way(rng))]


def bystander(rng: Random, seconds: float) -> list[Walk]:
    """An ordinary street in which somebody stands on the line, at its middle, again and again."""
    walks = ordinary(rng, seconds, 300)
    for at in range(300, int(seconds) - 900, 1800):
        turns = [(0.0, -OUT_OF_SIGHT_MM), (6.0, 0.0), (606.0, 0.0), (612.0, OUT_OF_SIGHT_MM)]
        walks.append(Walk([(at + later, float(s), 1500.0) for later, s in turns]))
    return walks


def _stroll(rng: Random, begins: float, stops: Sequence[tuple[float, float]], w: float) -> Walk:
    """From far away through (s, seconds of rest) to far away."""
    turns, at, s, speed = [(begins, -float(OUT_OF_SIGHT_MM), w)], begins, -float(OUT_OF_SIGHT_MM), pace_of(rng)
    for stop, rest in stops:
        at += abs(stop - s) / 1000 / speed + 1e-6
        turns.append((at, stop, w))
        if rest:
            at += rest
            turns.append((at, stop, w))
        s = stop
    return Walk(turns)


def pacing(rng: Random, begins: float) -> list[Walk]:
    """Somebody who waits: six times over the line and back, two metres to either side."""
    stops = [((-1) ** at * rng.uniform(1500, 2300), rng.uniform(0, 1.5)) for at in range(12)]
    return [_stroll(rng, begins, [*stops, (OUT_OF_SIGHT_MM, 0)], rng.uniform(800, 2200))]


def _swaying(rng: Random, begins: float, about: float, reach: float, seconds: float, leaves: float) -> Walk:
    w, speed = rng.uniform(800, 2200), pace_of(rng)
    arrives = begins + (OUT_OF_SIGHT_MM + about) / 1000 / speed
    turns = [(begins, -float(OUT_OF_SIGHT_MM), w)]
    period, at = rng.uniform(2, 4), 0.0
    while at < seconds:
        turns.append((arrives + at, about + reach * math.sin(2 * math.pi * at / period), w))
        at += 0.2
    turns.append((arrives + seconds + abs(leaves - about) / 1000 / speed, leaves, w))
    return Walk(turns)


def sway(rng: Random, begins: float) -> list[Walk]:
    """Somebody who stands on the line for a minute, sways by 15 to 25 cm, and goes on."""
    return [_swaying(rng, begins, 0.0, rng.uniform(150, 250), 60.0, OUT_OF_SIGHT_MM)]


def loiter(rng: Random, begins: float) -> list[Walk]:
    """Somebody who stands up to a metre from the line for some minutes, and goes on or turns back."""
    leaves = OUT_OF_SIGHT_MM if rng.random() < 0.5 else -OUT_OF_SIGHT_MM
    return [_swaying(rng, begins, rng.uniform(-1000, 1000), 80.0, rng.uniform(60, 240), leaves)]


# What is no person: (generator, where people are) -> (s, w) of each.
Ghost = Callable[[Random, Sequence[tuple[float, float]]], Iterable[tuple[float, float]]]


def fan(rng: Random, _: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """A fan just behind the line, seen three times in five, never twice at the same place."""
    if rng.random() < 0.6:
        yield 150 + rng.gauss(0, 150), 2600 + rng.gauss(0, 150)


def glass(rng: Random, bodies: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """A shop window along the pavement: four times in five everybody has a mirror image behind it."""
    for s, w in bodies:
        if rng.random() < 0.8:
            yield s, 2 * (WIDTH_MM + 300) - w


@dataclass(frozen=True)
class Physics:
    """What a radar does to people: see docs/accuracy.md for why these numbers."""

    noise_mm: float = 150.0
    merged_mm: float = 400.0
    nearest: bool = True  # which three it reports of more: the nearest, or any


@dataclass(frozen=True)
class Scenario:
    """`reach`: whether the installer ends the radar's line before what mirrors. `beams`: whether beams see of it."""

    name: str
    people: Callable[[Random, float], list[Walk]]
    hours: float
    ghost: Ghost | None = None
    reach: bool = False
    beams: bool = True
    physics: Physics = Physics()


class Radar:
    """Targets of an LD2450: what it sees of (s, w), as 30 bytes. See the page for each number."""

    SEEN, SEEN_BEHIND, BEHIND_MM = 0.95, 0.6, 250
    LOST_A_REPORT, FOUND_A_REPORT, SWAPS = 0.005, 0.25, 0.1
    FARTHEST_MM, WIDEST = 6000, math.radians(60)

    def __init__(self, place: Callable[[float, float], tuple[float, float]], physics: Physics, rng: Random) -> None:
        self.place, self.physics, self.rng = place, physics, rng
        self.lost: set[int] = set()
        self.order = [0, 1, 2]

    def report(self, bodies: Sequence[tuple[int, float, float]], ghosts: Sequence[tuple[float, float]]) -> bytes:
        """Takes (person, s, w) of everybody, and ghosts."""
        if not bodies and not ghosts:
            return EMPTY
        rng, apart_mm, noise_mm = self.rng, self.physics.merged_mm, self.physics.noise_mm
        places = [(person, *self.place(s, w)) for person, s, w in bodies]
        places += [(-1 - number, *self.place(s, w)) for number, (s, w) in enumerate(ghosts)]
        in_view = [one for one in places if self._in_view(*one[1:])]
        in_view.sort(key=lambda one: math.hypot(one[1], one[2]))
        seen: list[tuple[float, float]] = []
        for at, (person, x, y) in enumerate(in_view):
            if person >= 0 and not self._is_seen(person, x, y, in_view[:at]):
                continue
            merged = next((k for k, (x2, y2) in enumerate(seen) if math.hypot(x - x2, y - y2) < apart_mm), None)
            if merged is None:
                seen.append((x, y))
            else:
                seen[merged] = (seen[merged][0] + x) / 2, (seen[merged][1] + y) / 2
        if not self.physics.nearest:
            rng.shuffle(seen)
        if rng.random() < self.SWAPS:
            rng.shuffle(self.order)
        slots = [bytes(8)] * 3
        for slot, (x, y) in zip(self.order, seen, strict=False):
            slots[slot] = target(x + rng.gauss(0, noise_mm), y + rng.gauss(0, noise_mm))
        return HEAD + b"".join(slots) + TAIL

    def _in_view(self, x: float, y: float) -> bool:
        return y > 300 and abs(math.atan2(x, y)) <= self.WIDEST and math.hypot(x, y) <= self.FARTHEST_MM

    def _is_seen(self, person: int, x: float, y: float, nearer: Sequence[tuple[int, float, float]]) -> bool:
        rng = self.rng
        if person in self.lost:
            if rng.random() < self.FOUND_A_REPORT:
                self.lost.discard(person)
        elif rng.random() < self.LOST_A_REPORT:
            self.lost.add(person)
        if person in self.lost:
            return False
        far = math.hypot(x, y)
        behind = any(other >= 0 and abs(x * y2 - y * x2) / far < self.BEHIND_MM for other, x2, y2 in nearer)
        return rng.random() < (self.SEEN_BEHIND if behind else self.SEEN)


HEAD, TAIL = b"\xaa\xff\x03\x00", b"\x55\xcc"
EMPTY = HEAD + bytes(24) + TAIL


def word(value: float) -> bytes:
    """A sign and a magnitude; the sign bit set is positive."""
    whole = max(min(round(value), 0x7FFF), -0x7FFF)
    return (whole | 0x8000 if whole >= 0 else -whole).to_bytes(2, "little")


def target(x_mm: float, y_mm: float) -> bytes:
    return word(x_mm) + word(y_mm) + word(0) + (320).to_bytes(2, "little")


@cache
def luna(distance_cm: int) -> bytes:
    body = b"YY" + distance_cm.to_bytes(2, "little") + (1200).to_bytes(2, "little") + b"\xc8\x08"
    return body + bytes([sum(body) & 0xFF])


class Beam:
    """A TF-Luna at `s`, 30 cm before the pavement, that looks at a wall 50 cm behind it."""

    def __init__(self, s: float, rng: Random) -> None:
        self.s, self.rng = s, rng

    def frame(self, bodies: Sequence[tuple[float, float]]) -> bytes:
        """Takes (s, w) of everybody."""
        near = [w - BODY_WIDTH_MM / 2 for s, w in bodies if abs(s - self.s) < BODY_DEPTH_MM / 2]
        distance_mm = 300 + min(near, default=WIDTH_MM + 500)
        return luna(round(max(distance_mm, 200) / 10 + self.rng.uniform(-1.5, 1.5)))


@dataclass(frozen=True)
class Mount:
    """Where a radar hangs: from (s, w) to its (x, y), the settings that go with it, and with a shop window behind."""

    name: str
    place: Callable[[float, float], tuple[float, float]]
    settings: dict[str, object]
    reach: dict[str, object]


MOUNTS = (
    Mount("facing", lambda s, w: (w - WIDTH_MM / 2, 3000 + s), {}, {"reach_to_mm": 1800}),
    Mount("beside", lambda s, w: (s, w + 1000), {"line_x_mm": 0}, {"reach_to_mm": 4300}),
)
RATES = (10, 100)
BEAMS_APART_MM = 300
COLUMNS = (
    *(f"ld2450, {mount.name}" for mount in MOUNTS),
    *(f"tfluna, {kind}, {rate} Hz" for kind in ("one beam", "two beams") for rate in RATES),
)


@dataclass
class Row:
    """A scenario's hours, true crossings, and what each sensor counted (none: not played before it)."""

    scenario: str
    hours: float
    true: int
    counted: dict[str, int]


class Counter:
    """A driver and what it has counted."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.counted = 0

    def feed(self, data: bytes, now_ms: int) -> list[Reading]:
        readings = [reading for _, reading in self.driver.feed(data, now_ms)]
        self.counted += sum(reading.value for reading in readings)
        return readings


class Site:
    """Every sensor before one street, a second at a time."""

    def __init__(self, scenario: Scenario, rng: Random) -> None:
        self.scenario, self.rng = scenario, rng
        self.radars = [
            (
                Radar(mount.place, scenario.physics, Random(rng.random())),
                Counter(make_driver("ld2450", mount.settings | (mount.reach if scenario.reach else {}))),
            )
            for mount in MOUNTS
        ]
        self.beams = [Beam(s, Random(rng.random())) for s in (-BEAMS_APART_MM / 2, BEAMS_APART_MM / 2)]
        self.lunas = {rate: [Counter(make_driver("tfluna", {"rate_hz": rate})) for _ in self.beams] for rate in RATES}
        self.pairs = {rate: TwoBeams("street", "0", "1") for rate in RATES}
        self.passages = dict.fromkeys(RATES, 0)

    def second(self, second: int, there: Sequence[tuple[int, Walk]]) -> None:
        """Shows one second of the street to every sensor."""
        now_ms = START_MS + 1000 * second + 999
        reports: list[list[bytes]] = [[] for _ in self.radars]
        shown: list[list[bytes]] = [[] for _ in self.beams]
        ticks = TICKS if there else RATES[0]
        for tick in range(ticks):
            at = second + tick / ticks
            bodies = [(person, *walk.at(at)) for person, walk in there if walk.begins <= at < walk.ends]
            places = [(s, w) for _, s, w in bodies]
            if self.scenario.beams:
                for beam, frames in zip(self.beams, shown, strict=True):
                    frames += [beam.frame(places)] * (TICKS // ticks)
            if tick * RATES[0] % ticks == 0:
                ghosts = list(self.scenario.ghost(self.rng, places)) if self.scenario.ghost else []
                for (radar, _), frames in zip(self.radars, reports, strict=True):
                    frames.append(radar.report(bodies, ghosts))
        for (_, counter), frames in zip(self.radars, reports, strict=True):
            counter.feed(b"".join(frames), now_ms)
        for rate, counters in self.lunas.items() if self.scenario.beams else ():
            for number, counter in enumerate(counters):
                readings = counter.feed(b"".join(shown[number][:: TICKS // rate]), now_ms)
                paired = self.pairs[rate].add(str(number), readings, counter.driver.settled_ms(now_ms))
                self.passages[rate] += sum(reading.value for reading in paired)

    def counted(self) -> dict[str, int]:
        """Returns what each sensor has counted, by column."""
        counts = [counter.counted for _, counter in self.radars]
        if self.scenario.beams:
            counts += [self.lunas[rate][0].counted for rate in RATES] + [self.passages[rate] for rate in RATES]
        return dict(zip(COLUMNS, counts, strict=False))


def measure(scenario: Scenario, share: float) -> Row:
    """Plays `share` of a scenario's hours before every sensor."""
    rng = Random(scenario.name)
    hours = scenario.hours * share
    walks = sorted(scenario.people(rng, 3600 * hours), key=lambda walk: walk.begins)
    site, there, waiting = Site(scenario, rng), list[tuple[int, Walk]](), list(enumerate(walks))[::-1]
    for second in range(int(max([3600 * hours, *(walk.ends for walk in walks)])) + 5):
        there = [one for one in there if one[1].ends > second]
        while waiting and waiting[-1][1].begins < second + 1:
            there.append(waiting.pop())
        site.second(second, there)
    return Row(scenario.name, hours, sum(walk.crossings() for walk in walks), site.counted())


def flow(make: Callable[[Random, float, float], list[Walk]], an_hour: float) -> Callable[[Random, float], list[Walk]]:
    return lambda rng, seconds: make(rng, seconds, an_hour)


def again(every_s: float, make: Callable[[Random, float], list[Walk]]) -> Callable[[Random, float], list[Walk]]:
    """The same scene again and again."""

    def people(rng: Random, seconds: float) -> list[Walk]:
        walks: list[Walk] = []
        at = 5.0
        while at < seconds:
            walks += make(rng, at)
            at += every_s * rng.uniform(0.8, 1.2)
        return walks

    return people


def nobody(_: Random, __: float) -> list[Walk]:
    return []


FLOWS = ((100, 15.0), (300, 8.0), (500, 6.0), (1000, 3.0), (1500, 2.0), (3000, 1.0))
STREET, DOORWAY, RADAR = "ordinary street", "doorway", "other radars than ours"
SCENES: dict[str, tuple[Scenario, ...]] = {
    STREET: tuple(Scenario(f"{an_hour} an hour", flow(ordinary, an_hour), hours) for an_hour, hours in FLOWS),
    DOORWAY: tuple(
        Scenario(f"{an_hour} an hour, one by one", flow(doorway, an_hour), hours) for an_hour, hours in FLOWS
    ),
    "people who walk otherwise": (
        Scenario("two abreast", again(20, abreast(2)), 3.0),
        Scenario("three abreast", again(20, abreast(3)), 2.0),
        Scenario("four abreast", again(20, abreast(4)), 2.0),
        Scenario("two who pass each other at the line", again(20, meeting), 3.0),
        Scenario("runners, 2.5 to 4.5 m/s", again(12, runner), 2.0),
        Scenario("slow walkers, 0.35 to 0.7 m/s", again(40, slow), 5.0),
        Scenario("pacing: six times to and fro", again(90, pacing), 2.0),
        Scenario("swaying on the line for a minute", again(100, sway), 6.0),
        Scenario("loitering up to a metre from the line", again(260, loiter), 15.0),
        Scenario("300 an hour, and somebody stands on the line for ten minutes of each half hour", bystander, 5.0),
    ),
    "what is no person": (
        Scenario("nobody, and a fan at the line", nobody, 6.0, fan),
        Scenario("100 an hour, and a fan at the line", flow(ordinary, 100), 10.0, fan),
        Scenario("300 an hour, and a shop window", flow(ordinary, 300), 4.0, glass, beams=False),
        Scenario(
            "the same, the line ended before the window", flow(ordinary, 300), 4.0, glass, reach=True, beams=False
        ),
    ),
    RADAR: tuple(
        Scenario(f"ordinary street, 300 an hour: {name}", flow(ordinary, 300), 4.0, beams=False, physics=physics)
        for name, physics in (
            ("noise of 8 cm instead of 15", Physics(noise_mm=80)),
            ("noise of 25 cm", Physics(noise_mm=250)),
            ("bodies nearer than 80 cm are one target, instead of 40", Physics(merged_mm=800)),
            ("any three of more are reported, not the nearest", Physics(nearest=False)),
        )
    ),
}


EMULATED_SCENES = (
    *(("ordinary", per_min) for per_min in (2, 8, 25)),
    *((scene, 4) for scene in ("groups", "pacing", "loitering", "meeting", "ghosts", "runners", "crowd")),
)
EMULATED = "the emulated ld2450"
SCENE_MINUTES = 300


def measure_emulated(scene: str, per_min: float, share: float) -> Row:
    """Plays a scene of the emulated device, which was written from the byte tables without a look at the driver."""
    people = People(1, scene, per_min)
    device, driver = Ld2450(people), make_driver("ld2450", {})
    first, minutes = START_MS // 60_000 + 1, round(SCENE_MINUTES * share)
    device.seek(60_000 * first)
    count = 0
    for data, now_ms in device.advance(60_000 * (first + minutes + 1)):
        count += sum(reading.value for _, reading in driver.feed(data, now_ms)) if data else 0
    true = sum(sum(people.crossings(minute)) for minute in range(first, first + minutes))
    return Row(f"{scene}, {per_min:g} a minute", minutes / 60, true, {COLUMNS[0]: count})


LIMIT_PERCENT = 3.0
OWN_UP_TO = 500
DEVICES = {"ld2450": COLUMNS[:2], "tfluna": COLUMNS[2:]}


def off_percent(row: Row, column: str) -> float:
    """Returns by how much a sensor counts too many (or, negative, too few), in percent."""
    return 100 * (row.counted[column] / row.true - 1)


def sensors_own(scenes: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, float]]:
    """Returns each device's own error, in percent, on a street and in a doorway of up to `OWN_UP_TO` an hour: the
    largest of the rows and of the ways to mount it, rounded up to half a percent."""
    found: dict[str, dict[str, float]] = {}
    for device, columns in DEVICES.items():
        for where in (STREET, DOORWAY):
            rows = [row for row, (an_hour, _) in zip(scenes[where], FLOWS, strict=True) if an_hour <= OWN_UP_TO]
            worst = max(abs(off_percent(row, column)) for row in rows for column in columns)
            found.setdefault(device, {})[where] = max(math.ceil(2 * worst) / 2, 0.5)
    return found


def cell(row: Row, column: str) -> str:
    if column not in row.counted:
        return ""
    if not row.true:
        return f"{row.counted[column] / row.hours:.1f} an hour"
    return f"{row.counted[column]:,} ({off_percent(row, column):+.1f} %)".replace("-", "−")


def table(rows: Sequence[Row]) -> str:
    """Returns a table in Markdown: true and counted."""
    columns = [column for column in COLUMNS if any(column in row.counted for row in rows)]
    lines = [
        ["", "true", *columns],
        ["---"] * (len(columns) + 2),
        *([row.scenario, f"{row.true:,}", *(cell(row, column) for column in columns)] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(scenes: Mapping[str, Sequence[Row]]) -> str:
    """Returns the generated part of docs/accuracy.md."""
    return "\n\n".join(f"### {name[0].upper()}{name[1:]}\n\n{table(rows)}" for name, rows in scenes.items())


def write(scenes: Mapping[str, Sequence[Row]]) -> None:
    """Writes docs/accuracy.json, and the part of docs/accuracy.md between the two marks."""
    document = {
        "up_to_an_hour": OWN_UP_TO,
        "sensors_own": sensors_own(scenes),
        "scenes": {name: [*map(asdict, rows)] for name, rows in scenes.items()},
    }
    (DOCS / "accuracy.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    page = DOCS / "accuracy.md"
    text = page.read_text("utf-8")
    head, tail = text.index(BEGIN) + len(BEGIN), text.index(END)
    page.write_text(f"{text[:head]}\n\n{section(scenes)}\n\n{text[tail:]}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="all hours; writes docs/accuracy.md and .json")
    arguments = parser.parse_args()
    share = 1.0 if arguments.write else 0.1
    scenes: dict[str, list[Row]] = {}
    for name, scenarios in SCENES.items():
        print(name)
        for scenario in scenarios:
            row = measure(scenario, share)
            scenes.setdefault(name, []).append(row)
            counted = "  ".join(f"{cell(row, column):>18}" for column in row.counted)
            print(f"  {scenario.name:58.58} {row.true:6,}  {counted}", flush=True)
    print(EMULATED)
    for scene, per_min in EMULATED_SCENES:
        row = measure_emulated(scene, per_min, share)
        scenes.setdefault(EMULATED, []).append(row)
        print(f"  {row.scenario:58.58} {row.true:6,}  {cell(row, COLUMNS[0]):>18}", flush=True)
    for device, own in sensors_own(scenes).items():
        for where, error in own.items():
            print(
                f"{device}: within {error} % ({where}, up to {OWN_UP_TO} an hour), "
                f"{error / LIMIT_PERCENT:.1f} times the target of {LIMIT_PERCENT} %"
            )
    if arguments.write:
        write(scenes)


if __name__ == "__main__":
    main()
