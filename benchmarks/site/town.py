"""A town of many neighbourhoods that never was, one site with three streams in each: its archive and its city.toml.

Policies are the demo's, messages are sealed by the kernel with real plans, and filed as the intake would. What they say
has the rhythm of a street and the noise of its policy, so that pages are as long and as varied as real ones.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from math import cos, pi
from pathlib import Path

from murmure.city import policy_toml
from murmure_ingest.archive import Archive, Enrolment
from murmure_privacy import wire
from murmure_privacy.aggregate import energy
from murmure_privacy.plan import StreamPlan, plan
from murmure_privacy.policy import parse
from murmure_privacy.release import Message, Node, Noised, Outcome, Release
from murmure_privacy.stream import histogram_edges_tenths
from murmure_privacy.window import QUARTER_S, Calendar, Window

from benchmarks.ingest.fleet import Gateway, lay_out

CALENDAR = Calendar("Europe/Paris")
LAST_DAY = date(2026, 11, 21)
NOW_S = CALENDAR.midnight(LAST_DAY) + 15 * 3600 + 900
"""A Saturday afternoon at a quarter past three, when an hour has just been filed."""
QUANTITIES = ("footfall", "noise", "pm2_5")
_COLUMNS = 25
_SIDE = 0.004  # degrees


@dataclass(frozen=True, slots=True)
class Town:
    """A folder with an archive and a city.toml."""

    folder: Path
    quartiers: int
    days: int

    @property
    def archive(self) -> Path:
        """Returns the archive's file."""
        return self.folder / "centre" / "archive.db"

    @property
    def city(self) -> Path:
        """Returns the town's description."""
        return self.folder / "city.toml"


def town(folder: Path, quartiers: int, days: int) -> Town:
    """Returns a town whose archive reaches to NOW_S from the midnight before so many days; it is made once."""
    found = Town(folder / f"town-{quartiers}-{days}", quartiers, days)
    if not (found.folder / "whole").is_file():
        _make(found)
    Archive.open(found.archive).close()  # one of before may be of an earlier version
    return found


def gateways(quartiers: int, first: date) -> list[Gateway]:
    """Returns one gateway a neighbourhood."""
    made = []
    for number in range(quartiers):
        site = f"site-{number:03d}"
        toml = policy_toml(site, first, QUANTITIES)
        secret = hashlib.sha256(f"gw-{number:03d}".encode()).digest()
        made.append(
            Gateway(f"gw-{number:03d}", f"quartier-{number:03d}", site, secret, toml, plan(parse(toml, "policy")))
        )
    return made


class Speaker:
    """One gateway that speaks at every quarter-hour. `cells`: what each quarter-hour of the day brought, by begin."""

    def __init__(self, gateway: Gateway, line: Enrolment, seq: int, previous: bytes) -> None:
        self.gateway, self.line, self.seq, self.previous = gateway, line, seq, previous
        self.draw = random.Random(gateway.name)
        self.busy = self.draw.uniform(0.3, 1.8)
        self.cells: dict[int, tuple[int, int, int]] = {}

    def speak(self, closing_s: int) -> tuple[Message, bytes]:
        """Returns what is said at an instant, and its sealed bytes."""
        at_s = closing_s - QUARTER_S
        midnight_s = CALENDAR.day(at_s).start_s
        if at_s == midnight_s:
            self.cells.clear()
        for missing_s in range(midnight_s, closing_s, QUARTER_S):
            if missing_s not in self.cells:
                self.cells[missing_s] = self._cell(missing_s)
        self.seq += 1
        message = Message(
            gateway=self.gateway.name,
            quartier=self.gateway.quartier,
            site=self.gateway.site,
            boot=1,
            seq=self.seq,
            previous=self.previous,
            closing_s=closing_s,
            outcomes=tuple(
                self._released(stream, level, window)
                for stream in self.gateway.plan.streams.values()
                for level in (node.level for node in stream.nodes)
                if (window := CALENDAR.node(level, at_s)).end_s == closing_s
            ),
        )
        sealed = wire.seal_message(message, self.gateway.secret)
        self.previous = wire.digest(sealed)
        return message, sealed

    def _cell(self, at_s: int) -> tuple[int, int, int]:
        """Crossings, and the mean level and dust in tenths, of a quarter-hour."""
        level, draw = _rhythm(at_s - CALENDAR.day(at_s).start_s) * self.busy, self.draw
        crossings = max(0, round(draw.gauss(62 * level, (62 * level) ** 0.5)))
        return crossings, int(430 + 150 * level**0.7 + draw.gauss(0, 8)), int(90 + 60 * level + draw.gauss(0, 5))

    def _released(self, stream: StreamPlan, level: str, window: Window) -> Outcome:
        of = stream.stream
        node = Node(
            stream=of.id,
            quantity=of.quantity.name,
            level=level,
            start_s=window.start_s,
            end_s=window.end_s,
            covered_from_s=window.start_s,
            present=20,
            cadence_ms=of.cadence_ms,
            bounds=of.bounds,
            policy=self.gateway.plan.policy.hash,
        )
        cells = [self.cells[at_s] for at_s in range(window.start_s, window.end_s, QUARTER_S)]
        planned = next(one for one in stream.nodes if one.level == level)
        return Release(
            node,
            tuple(
                Noised(
                    one.indicator,
                    tuple(
                        value + round(self.draw.gauss(0, one.sigma_milli / 1000))
                        for value in _sums(one.indicator, cells, node)
                    ),
                    one.sigma_milli,
                    one.rho_micro,
                )
                for one in planned.indicators
            ),
        )


def _sums(indicator: str, cells: list[tuple[int, int, int]], node: Node) -> tuple[int, ...]:
    if indicator == "crossings":
        return (sum(crossings for crossings, _, _ in cells),)
    slots = QUARTER_S * 1000 // node.cadence_ms
    values = [level if node.quantity == "noise" else dust for _, level, dust in cells]
    if indicator == "mean":
        return (slots * sum(values),)
    if indicator == "energy":
        return (slots * sum(map(_energy, values)),)
    edges = histogram_edges_tenths(*node.bounds)
    counts = [0] * (len(edges) - 1)
    for value in values:
        at = max(0, min(len(counts) - 1, sum(edge <= value for edge in edges) - 1))
        for place, share in ((at - 1, 4), (at, 2), (at + 1, 4)):
            counts[max(0, min(len(counts) - 1, place))] += slots // share
    return tuple(counts)


@cache
def _energy(tenths: int) -> int:
    return energy(tenths)


def _rhythm(since_midnight_s: int) -> float:
    """How busy an instant is, 0 by night to 1 at the peak of the afternoon."""
    hour = since_midnight_s / 3600
    by_day = max(0.0, -cos((hour - 4) / 20 * 2 * pi)) if hour >= 4 else 0.0
    return 0.06 + 0.94 * float(by_day**1.3)


def _make(of: Town) -> None:
    first = LAST_DAY - timedelta(of.days)
    of.folder.mkdir(parents=True)
    fleet = gateways(of.quartiers, first)
    lay_out(of.folder / "centre", fleet)
    _describe(of, fleet)
    archive = Archive.open(of.archive)
    lines = {line.gateway: line for line in archive.enrolments()}
    speakers = [Speaker(gateway, lines[gateway.name], 0, wire.FIRST_PREVIOUS) for gateway in fleet]
    for closing_s in range(CALENDAR.midnight(first) + QUARTER_S, NOW_S + 1, QUARTER_S):
        _file(archive, speakers, closing_s)
    archive.close()
    (of.folder / "whole").touch()


def close_once_more(of: Town, path: Path) -> int:
    """Has every gateway of a copy of the town's archive speak once more, and returns when that was."""
    archive = Archive.open(path)
    first = LAST_DAY - timedelta(of.days)
    lines = {line.gateway: line for line in archive.enrolments()}
    speakers = []
    for gateway in gateways(of.quartiers, first):
        last = archive.find(gateway.name, (NOW_S - CALENDAR.midnight(first)) // QUARTER_S)
        assert last is not None, "whoever made the archive had everything said until now"
        speakers.append(Speaker(gateway, lines[gateway.name], last.seq, last.hash))
    _file(archive, speakers, NOW_S + QUARTER_S)
    archive.close()
    return NOW_S + QUARTER_S


def _file(archive: Archive, speakers: list[Speaker], closing_s: int) -> None:
    with archive.transaction():
        for speaker in speakers:
            message, sealed = speaker.speak(closing_s)
            archive.put(message, sealed, speaker.line, "filed")


def _describe(of: Town, fleet: list[Gateway]) -> None:
    lines = [
        'city = "Grande Ville"',
        'timezone = "Europe/Paris"',
        'help = "Mairie, 1 place de la République, 02 00 00 00 00"',
        "simulated = true",
        'address = "https://grande.example/"',
        'publisher = "Ville de Grande Ville"',
        'geojson = "quartiers.geojson"',
    ]
    borders = []
    for number, gateway in enumerate(fleet):
        lines += ["", "[[quartier]]", f'slug = "{gateway.quartier}"', f'name = "Quartier {number:03d}"']
        west, south = -1.6 + _SIDE * (number % _COLUMNS), 47.2 + _SIDE * (number // _COLUMNS)
        ring = [(west + _SIDE * x, south + _SIDE * y) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
        borders.append(
            {
                "type": "Feature",
                "properties": {"slug": gateway.quartier},
                "geometry": {"type": "Polygon", "coordinates": [[[round(x, 3), round(y, 3)] for x, y in ring]]},
            }
        )
    for number, gateway in enumerate(fleet):
        lines += [
            *("", "[[site]]", f'id = "{gateway.site}"', f'name = "Place {number:03d}"'),
            *(f'quartier = "{gateway.quartier}"', 'purpose = "Mesurer la place."', 'purpose_en = "Measure the place."'),
            *('owner = "Grande Ville"', 'contact = "donnees@grande.example"', "until = 2027-11-30"),
            *(f'code = "A{number:03d}"', 'dominant = "road"'),
        ]
        for quantity, device in zip(QUANTITIES, ("TF-Luna", "SM7901B", "SDS011"), strict=True):
            lines += ["", "[[site.sensor]]", f'stream = "{gateway.site}/{quantity}"', f'device = "{device}"']
    of.city.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (of.folder / "quartiers.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": borders}), encoding="utf-8"
    )
