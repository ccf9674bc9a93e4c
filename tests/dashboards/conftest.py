"""A week of a small town as the archive would hold it: real policies and noise scales, made-up streets.

Three sites: `plaza` (all three quantities), `station` (a day without a gateway, a broken sensor, one that falls silent
for a while, a late start after a restart) and `alley` (hardly anyone passes: estimates go below zero; one series is
paused).
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from itertools import pairwise
from math import cos, pi
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from murmure_dashboards import maker_data, maker_quartier, spending
from murmure_dashboards import site as site_module
from murmure_dashboards.config import City, load
from murmure_dashboards.maker import Build
from murmure_dashboards.pdf import PACKAGES, Press
from murmure_dashboards.server import serve
from murmure_dashboards.site import build, render
from murmure_privacy import policy as policies
from murmure_privacy.aggregate import energy
from murmure_privacy.annotation import Note
from murmure_privacy.log import EMPTY_ROOT, Checkpoint, seal_checkpoint
from murmure_privacy.plan import StreamPlan, plan
from murmure_privacy.policies import Rules
from murmure_privacy.policy import Policy
from murmure_privacy.release import Node, Noised, Outcome, Release, Withheld
from murmure_privacy.stream import histogram_edges_tenths
from murmure_privacy.window import QUARTER_S, Calendar, Window
from murmure_privacy.wire import public_key, seal_annotation, seal_policy

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PARIS = Calendar("Europe/Paris")
NOW_S = PARIS.midnight(date(2026, 11, 21)) + 15 * 3600 + 900
SEED = 20261121
STEWARD = bytes(range(32))

POLICY = """policy = 1
site = "{site}"
version = {version}
timezone = "Europe/Paris"
decision = "Délibération 2026-11-03 n° 42"
reason = "Mesurer la place."
valid_from = {valid_from}
valid_until = 2027-11-30

[[stream]]
id = "{site}/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = 1.0
nodes = {{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }}

[[stream]]
id = "{site}/noise"
quantity = "noise"
protects = {{ seconds = 15 }}
readings = {{ cadence_ms = 1000, tail = 2 }}
epsilon = 1.0
nodes = {{ "1h" = 1, "1d" = 24 }}
bounds_db = [35, {high_db}]

[[stream]]
id = "{site}/pm2_5"
quantity = "pm2_5"
protects = {{ seconds = 60 }}
readings = {{ cadence_ms = 1000, tail = 2 }}
epsilon = 1.0
nodes = {{ "1h" = 1, "1d" = 24 }}
bounds = [0, 100]
"""


@dataclass(frozen=True)
class Info:
    """What the archive says of a stream."""

    gateway: str
    quartier: str
    site: str
    stream: str
    quantity: str


@dataclass(frozen=True)
class Signed:
    """A policy as stewards signed it."""

    hash: bytes
    site: str
    version: int
    toml: bytes
    sealed: bytes


@dataclass(frozen=True)
class Noted:
    """A note of stewards as it was signed."""

    note: Note
    sealed: bytes


class Unlogged:
    """An archive whose centre has signed nothing of its log yet."""

    log: Sequence[bytes] = ()

    def signed_checkpoint(self) -> tuple[int, bytes, bytes] | None:
        """Returns that there is none: nothing else is asked then."""
        return None

    def log_root(self, size: int) -> bytes:
        """Returns the root of a log without an entry."""
        assert size == 0
        return EMPTY_ROOT

    def log_entries(self, up_to: int | None = None) -> Iterator[bytes]:
        """Yields the entries of the log."""
        yield from self.log

    def sealed_at(self, gateway: str, seq: int) -> bytes | None:
        raise AssertionError(gateway, seq)

    def days_with_nodes(self, row: int) -> list[int]:
        raise AssertionError(row)

    def sealed_on(self, day: int, row: int) -> list[bytes]:
        raise AssertionError(day, row)


@lru_cache(maxsize=256)  # each build asks for them many times
def _signed(text: bytes) -> Signed:
    policy = policies.parse(text, "test")
    return Signed(policy.hash, policy.site, policy.version, text, seal_policy(text, [("steward", STEWARD)]))


class Street(Unlogged):
    """An archive in memory, with the truth beside it: `exact[stream, level, start_s]` in printed units.
    The centre has signed its log, so that figures have codes; of messages there is none. `late`: the rows of nodes that
    came after later ones, by their key."""

    def __init__(self) -> None:
        self.infos: list[Info] = []
        self.nodes: dict[str, list[Outcome]] = {}
        self.signed: dict[bytes, bytes] = {}
        self.exact: dict[tuple[str, str, int], float] = {}
        self.notes: list[Noted] = []
        self.late: dict[tuple[str, str, int], int] = {}

    def signed_checkpoint(self) -> tuple[int, bytes, bytes] | None:
        """Returns the signed checkpoint of a log without an entry."""
        return 0, public_key(STEWARD), seal_checkpoint(Checkpoint(0, EMPTY_ROOT), STEWARD)

    def days_with_nodes(self, row: int) -> list[int]:
        """Returns no day."""
        return []

    def sealed_on(self, day: int, row: int) -> list[bytes]:
        """Returns no message."""
        return []

    def streams(self) -> Sequence[Info]:
        """Returns the streams."""
        return self.infos

    def outcomes(self, stream: str, from_s: int, to_s: int) -> list[Outcome]:
        """Returns the nodes that intersect an interval."""
        return [o for o in self.nodes.get(stream, []) if o.node.end_s > from_s and o.node.start_s < to_s]

    def policy(self, policy_hash: bytes) -> bytes | None:
        """Returns a policy's bytes."""
        return self.signed.get(policy_hash)

    def policies(self, site: str | None = None) -> list[Signed]:
        """Returns the policies (of a site), oldest version first, signed by one steward."""
        every = [replace(_signed(text), hash=policy_hash) for policy_hash, text in self.signed.items()]
        return sorted((one for one in every if site in (one.site, None)), key=lambda one: (one.site, one.version))

    def charges(self, site: str, from_s: int) -> list[tuple[str, int, int, int]]:
        """Returns stream, begin, end and micro-rho of what was released at a site and ends after an instant."""
        return sorted(
            (info.stream, one.node.covered_from_s, one.node.end_s, sum(part.rho_micro for part in one.noised))
            for info in self.infos
            if info.site == site
            for one in self.nodes[info.stream]
            if isinstance(one, Release) and one.node.end_s > from_s
        )

    def complete_until(self, stream: str, at_s: int) -> bool:
        """Returns whether a node that ends then or later is there: its gateway sends in order."""
        return any(one.node.end_s >= at_s for one in self.nodes.get(stream, []))

    # In the order in which it ends, everything comes, but for what is late: the row of a node is its end.

    def _row(self, one: Outcome) -> int:
        return self.late.get(one.node.key, one.node.end_s) if self.late else one.node.end_s

    def newest_row(self) -> int:
        """Returns the last row."""
        return max((self._row(one) for nodes in self.nodes.values() for one in nodes), default=0)

    def head_at(self, row: int) -> bytes | None:
        """Returns a sum over all nodes up to a row."""
        keys = [one.node.key for nodes in self.nodes.values() for one in nodes if self._row(one) <= row]
        return hashlib.sha256(repr(sorted(keys)).encode()).digest()

    def told_by(self, row: int) -> Iterator[tuple[str, int, int]]:
        """Yields the nodes of a row."""
        for stream, nodes in self.nodes.items():
            yield from ((stream, one.node.start_s, one.node.end_s) for one in nodes if self._row(one) == row)

    def began_s(self, stream: str) -> int | None:
        """Returns when the first node ends."""
        return min(map(attrgetter("node.end_s"), self.nodes.get(stream, [])), default=None)

    def first_to_tell(self, streams: Sequence[str], instants: Sequence[int]) -> list[int | None]:
        """Returns the first row that tells of each instant."""
        ends_s = {one.node.end_s for stream in streams for one in self.nodes.get(stream, [])}
        return [min((end_s for end_s in ends_s if end_s >= at_s), default=None) for at_s in instants]

    def outcomes_by(self, row: int, stream: str, from_s: int, to_s: int) -> list[Outcome]:
        """Returns the nodes up to a row that intersect an interval."""
        return [one for one in self.outcomes(stream, from_s, to_s) if self._row(one) <= row]

    def rows_after(self, row: int, streams: Sequence[str], from_s: int, to_s: int) -> list[int]:
        """Returns the rows beyond one of nodes that intersect an interval."""
        return sorted(
            {self._row(one) for name in streams for one in self.outcomes(name, from_s, to_s) if self._row(one) > row}
        )

    def told_after(self, row: int) -> Iterator[tuple[str, int, int]]:
        """Yields stream, begin and end of the nodes beyond a row."""
        for stream, nodes in self.nodes.items():
            yield from ((stream, one.node.start_s, one.node.end_s) for one in nodes if self._row(one) > row)

    def delivered(self, row: int, streams: Sequence[str], since_s: int, end_s: int) -> bool:
        """Returns that nobody is late."""
        return True

    def waits(self, row: int, streams: Sequence[str], from_s: int, to_s: int) -> bool:
        """Returns that nothing waits."""
        return False

    def filed_late(self) -> set[int]:
        """Returns that nothing has waited."""
        return set()

    def annotations(self) -> list[Noted]:
        """Returns what stewards annotated."""
        return self.notes

    def annotate(self, *notes: Note) -> Street:
        """Returns the same street with these notes as well, signed by one steward."""
        marked = copy(self)
        marked.notes = [*self.notes, *(Noted(note, seal_annotation(note, [("steward", STEWARD)])) for note in notes)]
        return marked


def rhythm(at_s: int) -> float:
    """Returns how busy an instant is, 0 by night to 1 at the peak of the afternoon."""
    hour = (at_s % 86400) / 3600 + 1
    by_day = max(0.0, -cos((hour - 4) / 20 * 2 * pi)) if 4 <= hour < 24 else 0.0
    return 0.06 + 0.94 * float(by_day**1.3)


def add(
    street: Street,
    site: str,
    window: Window,
    *,
    now_s: int = NOW_S,
    busy: float = 1.0,
    high_db: int = 85,
    silent: Sequence[Window] = (),
    withheld: Callable[[str, Node], str | None] = lambda stream, node: None,
    mute: Mapping[str, Sequence[Window]] = MappingProxyType({}),
    quartier: str = "centre",
    streams: Sequence[str] = ("footfall", "noise", "pm2_5"),
    version: int = 7,
    valid_from: str = "2026-01-01",
    swap: Sequence[tuple[str, str]] = (),
) -> Policy:
    """Adds one site with all nodes that ended by `now_s`. `silent`: the gateway is off; afterwards every level opens a
    partial node. `withheld`: gives the reason for which a node is not released. `mute`: by stream, when the sensor says
    nothing: its slots take the public constant, and a node with less than half of them is withheld. `swap`: (old, new)
    texts of the policy."""
    draw = random.Random(f"{SEED}{site}")
    words = POLICY.format(site=site, high_db=high_db, version=version, valid_from=valid_from)
    for old, new in swap:
        words = words.replace(old, new)
    text = words.encode()
    policy = policies.parse(text, "test")
    street.signed[policy.hash] = text
    for stream_id, planned in plan(policy).streams.items():
        if stream_id.partition("/")[2] not in streams:
            continue
        street.infos.append(Info(f"gw-{site}", quartier, site, stream_id, planned.stream.quantity.name))
        street.nodes[stream_id] = sorted(
            _nodes(
                street,
                planned,
                policy,
                window,
                now_s,
                busy,
                silent,
                withheld,
                mute.get(stream_id.partition("/")[2], ()),
                draw,
            ),
            key=lambda outcome: outcome.node.end_s,
        )
    return policy


def _nodes(
    street: Street,
    planned: StreamPlan,
    policy: Policy,
    window: Window,
    now_s: int,
    busy: float,
    silent: Sequence[Window],
    withheld: Callable[[str, Node], str | None],
    mute: Sequence[Window],
    draw: random.Random,
) -> list[Outcome]:
    stream = planned.stream
    outcomes: list[Outcome] = []
    cells = {
        at_s: _cell(stream.quantity.kind, at_s, busy, draw) for at_s in range(window.start_s, window.end_s, QUARTER_S)
    }
    for node_plan in planned.nodes:
        at_s = window.start_s
        while at_s < window.end_s:
            span = PARIS.node(node_plan.level, at_s)
            at_s = span.end_s
            if span.start_s not in window or span.end_s > window.end_s:
                continue
            # A node open when the gateway stops is lost; its last part begins when it runs again.
            covered_from_s = max([span.start_s, *(off.end_s for off in silent if off.end_s in span)])
            cut = any(off.start_s < span.end_s and off.end_s > covered_from_s for off in silent)
            if cut or span.end_s > now_s:
                continue
            quarters = range(covered_from_s, span.end_s, QUARTER_S)
            mine = [(cells[s], _heard_s(s, mute)) for s in quarters]
            node = Node(
                stream=stream.id,
                quantity=stream.quantity.name,
                level=node_plan.level,
                start_s=span.start_s,
                end_s=span.end_s,
                covered_from_s=covered_from_s,
                present=20 * sum(heard_s for _, heard_s in mine) // (span.end_s - covered_from_s),
                cadence_ms=stream.cadence_ms,
                bounds=stream.bounds,
                policy=policy.hash,
            )
            reason = withheld(stream.id, node) or ("sensor_absent" if node.present < 10 else None)
            if reason:
                outcomes.append(Withheld(node, reason))
                continue
            street.exact[node.key] = (
                _sums("crossings", mine, node)[0]
                if stream.quantity.kind == "count"
                else sum(cell for cell, _ in mine) / len(mine) / stream.quantity.per_unit
            )
            noised = []
            for one in node_plan.indicators:
                integers = _sums(one.indicator, mine, node)
                noisy = tuple(value + round(draw.gauss(0, one.sigma_milli / 1000)) for value in integers)
                noised.append(Noised(one.indicator, noisy, one.sigma_milli, one.rho_micro))
            outcomes.append(Release(node, tuple(noised)))
    return outcomes


def _cell(kind: str, at_s: int, busy: float, draw: random.Random) -> int:
    """What one quarter-hour brought: crossings, or the mean reading in tenths."""
    level = rhythm(at_s) * busy
    if kind == "count":
        mean = 62 * level
        return max(0, round(draw.gauss(mean, mean**0.5)))
    if kind == "level":
        return int(430 + 190 * level**0.7 + draw.gauss(0, 8))
    return int(90 + 60 * level + draw.gauss(0, 5))


def _heard_s(quarter_s: int, mute: Sequence[Window]) -> int:
    """How much of a quarter-hour the sensor was heard, in seconds."""
    ends_s = quarter_s + QUARTER_S
    return QUARTER_S - sum(max(0, min(m.end_s, ends_s) - max(m.start_s, quarter_s)) for m in mute)


def _sums(indicator: str, cells: Sequence[tuple[int, int]], node: Node) -> tuple[int, ...]:
    """What the gateway would sum over (value, seconds heard): slots without a reading take the public constant."""
    if indicator == "crossings":
        return (sum(cell * heard_s // QUARTER_S for cell, heard_s in cells),)
    low, high = node.bounds
    slots_a_second = 1000 // node.cadence_ms
    held = [(cell, heard_s * slots_a_second) for cell, heard_s in cells]
    silent = sum(QUARTER_S - heard_s for _, heard_s in cells) * slots_a_second
    if indicator == "mean":
        return (sum(cell * slots for cell, slots in held) + silent * ((low + high) // 2),)
    if indicator == "energy":
        return (sum(energy(cell) * slots for cell, slots in held) + silent * energy(low),)
    held.append(((low + high) // 2, silent))
    edges = histogram_edges_tenths(low, high)
    return tuple(sum(slots for cell, slots in held if at <= cell < until) for at, until in pairwise(edges))


def week_of(now_s: int) -> Window:
    """Returns the seven civil days that end with today."""
    day = PARIS.day(now_s - 1)
    first = day
    for _ in range(6):
        first = PARIS.day(first.start_s - 1)
    return Window(first.start_s, day.end_s)


def town(now_s: int = NOW_S) -> Street:
    """Returns the archive that most tests read."""
    street = Street()
    window = week_of(now_s)
    midnight = PARIS.day(now_s - 1).start_s
    add(street, "plaza", window, now_s=now_s)

    add(
        street,
        "station",
        window,
        now_s=now_s,
        busy=1.8,
        high_db=75,
        silent=(
            Window(midnight - 4 * 86400 - 3 * 3600, midnight - 3 * 86400 - 5 * 3600),
            Window(midnight + 2 * 3600, midnight + 5 * 3600 + QUARTER_S),
        ),
        mute={
            # The sound meter was unplugged this morning; the dust sensor was away for a while.
            "noise": (Window(midnight + 9 * 3600, midnight + 11 * 3600),),
            "pm2_5": (Window(midnight + 12 * 3600, midnight + 12 * 3600 + 1500),),
        },
        quartier="gare",
    )
    add(
        street,
        "alley",
        window,
        now_s=now_s,
        busy=0.02,
        withheld=lambda stream, node: "paused" if stream.endswith("/pm2_5") else None,
        mute={"footfall": (Window(midnight + 10 * 3600, midnight + 10 * 3600 + 600),)},
        quartier="gare",
        streams=("footfall", "pm2_5"),
    )
    return street


FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


@pytest.fixture(scope="session")
def streets() -> SimpleNamespace:
    """What builds an archive in memory: `Street`, `add`, `town`, `week_of`, and the instant `NOW_S`."""
    return SimpleNamespace(Street=Street, add=add, town=town, week_of=week_of, NOW_S=NOW_S, PARIS=PARIS)


@pytest.fixture(scope="session")
def archive() -> Street:
    """The town on a Saturday afternoon."""
    return town()


@pytest.fixture
def street(archive: Street) -> Street:
    """An archive of its own, of which something can come late."""
    made = Street()
    made.__dict__.update(archive.__dict__ | {"nodes": dict(archive.nodes), "late": {}})
    return made


@pytest.fixture(scope="session")
def brief() -> Street:
    """One quantity at each place on the day that runs: where it matters which files there are, not what they tell."""
    street, day = Street(), PARIS.day(NOW_S)
    for site, quartier, stream in (
        ("plaza", "centre", "footfall"),
        ("station", "gare", "noise"),
        ("alley", "gare", "pm2_5"),
    ):
        add(street, site, day, quartier=quartier, streams=(stream,))
    return street


@pytest.fixture(scope="session")
def city() -> City:
    """Its description: the third quartier has no site yet."""
    return load(Path(__file__).parent / "city.toml")


@pytest.fixture
def centre(city: City) -> City:
    """The same town with one neighbourhood, of one place."""
    return replace(city, quartier=city.quartier[:1], site=tuple(one for one in city.site if one.quartier == "centre"))


@pytest.fixture
def quartiers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site has no other pages than those of neighbourhoods, no files of months, and is written without waiting for
    the disk."""
    monkeypatch.setattr(site_module, "MAKERS", (maker_quartier.MAKER,))
    monkeypatch.setattr(maker_data, "data", lambda *of: iter(()))
    monkeypatch.setattr("os.sync", lambda: None)


@lru_cache(maxsize=64)
def _ledger(archive: Street, now_s: int) -> tuple[bytes, ...]:
    """The ledger of a week, which many tests want of the same street."""
    rules, week = Rules(archive), week_of(now_s)
    return tuple(
        line
        for info in archive.streams()
        for line in spending.lines(
            info.site,
            info.stream,
            archive.outcomes(info.stream, week.start_s, now_s),
            Window(week.start_s, now_s),
            rules,
            PARIS,
        )
    )


@pytest.fixture(scope="session")
def given() -> Callable[..., Build]:
    """Gives what the makers of pages are given, the ledger of the week in it, for (archive, city) at an instant."""

    def made(archive: Street, city: City, now_s: int = NOW_S) -> Build:
        rules, week, day = Rules(archive), week_of(now_s), PARIS.day(now_s - 1)
        return Build(
            archive=archive,
            city=city,
            rules=rules,
            calendar=PARIS,
            now_s=now_s,
            today=day,
            week=week,
            streams=archive.streams(),
            marks=(),
            editions=[],
            ledger=list(_ledger(archive, now_s)),
            octets={},
            heaviest={},
            links=(),
        )

    return made


@pytest.fixture(scope="session")
def site(archive: Street, city: City, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site of the town; tests only read it."""
    out = tmp_path_factory.mktemp("site") / "site"
    build(archive, city, out, NOW_S)
    return out


@pytest.fixture(scope="session")
def printed(archive: Street, city: City, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """Every file of the same site with its bulletins as PDF; needs Debian's pango."""
    press = Press(tmp_path_factory.mktemp("sheets"))
    files = dict(render(archive, city, NOW_S, press=press))
    if press.missing and os.environ.get("MURMURE_PACKAGES_REQUIRED") != "1":
        pytest.skip(f"{press.missing} (Debian packages {' '.join(PACKAGES)})")
    assert (press.missing, press.refused, press.waiting) == ("", [], 0)
    return files


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    with serve(site, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        yield chromium
        chromium.close()


def _contrast(one: str, other: str) -> float:
    """WCAG 2 contrast of two colours as the browser prints them."""

    def luminance(text: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", text)[:3]]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture(scope="session")
def contrast() -> Callable[[str, str], float]:
    """Gives the WCAG 2 contrast of two colours as the browser prints them."""
    return _contrast
