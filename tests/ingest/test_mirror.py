"""The mirror: the archive sample by sample, whatever is killed, and never at the cost of the intake."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import Request, urlopen

import pytest
from murmure_dashboards import opendata
from murmure_dashboards.views import view
from murmure_ingest.annotations import publish_annotation
from murmure_ingest.archive import Archive
from murmure_ingest.config import MirrorConfig
from murmure_ingest.embedded_broker import free_port
from murmure_ingest.gateways import publish_policy
from murmure_ingest.influx import Database, read_token
from murmure_ingest.intake import Stored
from murmure_ingest.mirror import MARKS, Cursor, DatabaseError, Mirror, MirrorError
from murmure_privacy import wire
from murmure_privacy.annotation import Annotation, Note, Withdrawal
from murmure_privacy.errors import ConfigError
from murmure_privacy.policies import Rules
from murmure_privacy.release import Noised, Outcome, Release
from murmure_privacy.window import Calendar, Window, parse_utc

MIDNIGHT_S = parse_utc("2026-11-01T23:00:00Z")  # in Paris; VictoriaMetrics takes no sample of the future
DAY_S, QUARTER_S = 86_400, 900
PARIS = Calendar("Europe/Paris")
MEASUREMENTS = {"footfall": "murmure_footfall", "noise": "murmure_noise", "pm2_5": "murmure_air"}
GRAFANA = Path(__file__).resolve().parents[2] / "dashboards" / "grafana"
FIELDS = ("value", "sigma", "estimate", "ci95_low", "ci95_high")
NOISE = """
[[stream]]
id = "{site}/noise"
quantity = "noise"
protects = {{ seconds = 15 }}
readings = {{ cadence_ms = 1000, tail = 11 }}
epsilon = 2.0
nodes = {{ "1h" = 1, "1d" = 24 }}
indicators = {{ histogram = 2, mean = 5, energy = 3 }}
bounds_db = [35, 80]
"""
Samples = dict[tuple[str, str, str, str, str, int], list[float]]
AT_S = MIDNIGHT_S + 8 * 3600
SCAFFOLD = Annotation(
    "plaza", 1, AT_S + 7200, "Un échafaudage.", "plaza/footfall", AT_S, AT_S + 1800, "obstructed", "Scaffolding."
)
ELSEWHERE = replace(SCAFFOLD, site="quai", stream="quai/noise", cause="works")
BACK = Withdrawal("plaza", 2, AT_S + 7200, "Il était ailleurs.", 1)
AGAIN = replace(SCAFFOLD, number=3, from_s=AT_S + 900, to_s=AT_S + 3600, cause="other")
MARKED: Samples = {
    ("murmure_annotation_faulty", "plaza", "plaza/footfall", "1", "obstructed", AT_S): [1.0],
    ("murmure_annotation_faulty", "plaza", "plaza/footfall", "1", "obstructed", AT_S + 1800): [0.0],
    ("murmure_annotation_faulty", "quai", "quai/noise", "1", "works", AT_S): [1.0],
    ("murmure_annotation_faulty", "quai", "quai/noise", "1", "works", AT_S + 1800): [0.0],
}
TAKEN_BACK = MARKED | {
    ("murmure_annotation_withdrawn", "plaza", "plaza/footfall", "1", "obstructed", AT_S): [1.0],
    ("murmure_annotation_faulty", "plaza", "plaza/footfall", "3", "other", AT_S + 900): [1.0],
    ("murmure_annotation_faulty", "plaza", "plaza/footfall", "3", "other", AT_S + 3600): [0.0],
}


def varied(outcome: Outcome, dice: random.Random) -> Outcome:
    """The outcome with other integers: counts below zero, energies that noise made negative, histograms of any form."""
    if not isinstance(outcome, Release):
        return outcome
    slots = outcome.node.slots

    def drawn(one: Noised) -> tuple[int, ...]:
        if one.indicator == "crossings":
            return (dice.randint(-8, 400),)
        if one.indicator == "histogram":
            return tuple(dice.randint(-200, 2 * slots // len(one.integers)) for _ in one.integers)
        if one.indicator == "energy":
            return (slots * dice.randint(-1_000_000, 4_000_000),)
        return (slots * dice.randint(300, 800) + dice.randint(0, slots),)

    return replace(outcome, noised=tuple(replace(one, integers=drawn(one)) for one in outcome.noised))


@dataclass
class Town:
    """A centre with gateways that measure everything, and what each of them sends, quarter by quarter."""

    centre: Any
    gateways: list[Any]
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def sealed(self, quarters: int, first: int = 0) -> list[tuple[str, bytes]]:
        """Seals what closes in so many quarter-hours from midnight on, in order."""
        found = []
        for number in range(first, first + quarters):
            closing_s = MIDNIGHT_S + (number + 1) * QUARTER_S
            for gateway in self.gateways:
                outcomes = tuple(varied(outcome, self.dice) for outcome in gateway.outcomes(closing_s))
                found.append((gateway.topic, gateway.seal(closing_s, outcomes=outcomes)))
        return found

    def file(self, arrivals: list[tuple[str, bytes]]) -> None:
        for at in range(0, len(arrivals), 100):
            words = self.centre.intake.accept_many(arrivals[at : at + 100])
            assert all(isinstance(word, Stored) for word in words)

    def say(self, *notes: Note) -> None:
        """What stewards sign, and the centre publishes."""
        for note in notes:
            sealed = wire.seal_annotation(note, [("s", self.centre.steward[0])])
            publish_annotation(self.centre.archive, sealed, "note.cose", note.issued_s)

    def expected(self, complete_s: int) -> Samples:
        """What the open data say, of which before an instant everything is final, after it only what left a gateway."""
        found: Samples = {}
        archive = self.centre.archive
        rules = Rules(archive)
        window = Window(MIDNIGHT_S, MIDNIGHT_S + 7 * DAY_S)
        for info in archive.streams():
            for row in opendata.rows(view(archive, rules, (), info, window, PARIS, window.end_s), rules):
                told = dict(zip(opendata.HEADER, row, strict=True))
                start_s = parse_utc(told["start_utc"])
                key = (told["site"], told["stream"], told["node"], told["indicator"], start_s)
                final = PARIS.day(start_s).end_s <= complete_s
                for name in FIELDS if final else FIELDS[:2] if told["sigma"] else ():
                    if told[name]:
                        found[(f"{MEASUREMENTS[info.quantity]}_{name}", *key)] = [float(told[name])]
        return found

    @contextmanager
    def mirror(self, target: Any, said: list[str] | None = None, **changes: Any) -> Iterator[Mirror]:
        say = (said if said is not None else []).append
        with (
            closing(Archive.open(self.centre.config.archive, read_only=True)) as archive,
            closing(Cursor(self.centre.config.data_dir, target.name)) as cursor,
        ):
            yield Mirror(archive, target, cursor, say, **{"clock": time.monotonic, **changes})


def caught_up(mirror: Mirror) -> None:
    """Sends everything to a database that takes it, and waits for one that has only just started."""
    for _ in range(100):
        with suppress(DatabaseError):
            if not mirror.step():
                return
        time.sleep(0.2)
    raise AssertionError("the mirror does not catch up")


@pytest.fixture
def town(centre: Any, policy_text: Callable[..., bytes]) -> Town:
    gateways = []
    for site in ("plaza", "quai"):
        gateway = centre.gateway(f"gw-{site}", site, published=False)
        gateway.policy = policy_text(site) + NOISE.format(site=site).encode()
        publish_policy(centre.archive, centre.signed(gateway.policy))
        gateways.append(gateway)
    return Town(centre, gateways)


@pytest.fixture
def database(victoria: Any) -> Iterator[Database]:
    with closing(Database(MirrorConfig(victoria.url), "")) as database:
        yield database


# --- against Debian's VictoriaMetrics -------------------------------------------------------------------------------


@pytest.mark.victoria
def test_the_mirror_holds_the_open_data_sample_by_sample(town: Town, victoria: Any, database: Database) -> None:
    """Every figure of a day that is over, with its interval; of today what left the gateways; each once."""
    town.file(town.sealed(96 + 30))
    with town.mirror(database) as mirror:
        caught_up(mirror)
        expected = town.expected(MIDNIGHT_S + DAY_S)
        assert {key[0].rpartition("_")[0] for key in expected} >= set(MEASUREMENTS.values())
        assert any(values[0] < 0 for key, values in expected.items() if key[0] == "murmure_footfall_value")
        assert {key[4] for key in expected} >= {"crossings", "laeq_db", "l10_db", "energy_mean", "pm2_5_ug_m3"}
        assert victoria.samples() == expected
        assert mirror.samples == len(expected)
        town.file(town.sealed(66, 126))
        caught_up(mirror)
    assert victoria.samples() == town.expected(MIDNIGHT_S + 2 * DAY_S)


@pytest.mark.victoria
def test_grafana_finds_every_figure_of_a_finished_day(town: Town, victoria: Any, database: Database) -> None:
    """Each query of the committed dashboard, asked as Grafana asks it, finds one sample a node, and the estimate lies
    in its band; the variables offer what is there."""
    town.file(town.sealed(96))
    with town.mirror(database) as mirror:
        caught_up(mirror)
    victoria.get("/internal/force_flush")
    board = json.loads((GRAFANA / "figures.en.json").read_text("utf-8"))
    asked = {panel["title"]: [query["expr"] for query in panel["targets"]] for panel in board["panels"]}
    indicators = {"footfall": "crossings", "noise": "level_db_mean", "air": "pm2_5_ug_m3"}
    streams = {"footfall": "plaza/footfall", "noise": "plaza/noise", "air": "plaza/pm2_5"}
    for measurement, indicator in indicators.items():
        found = {
            title: [
                ranged(victoria, filled(query, streams[measurement], indicator), MIDNIGHT_S, MIDNIGHT_S + DAY_S)
                for query in queries
            ]
            for title, queries in asked.items()
            if title.startswith(measurement)
        }
        assert len(found) == 2  # the graph and the table beside it
        for high, low, estimate, value in found.values():
            assert high.keys() == low.keys() == estimate.keys() and len(estimate) == 24
            assert all(low[at] <= estimate[at] <= high[at] for at in estimate)
            assert value.keys() == estimate.keys()
    offered = json.loads(victoria.get("/api/v1/label/stream/values"))["data"]
    assert sorted(offered) == [
        f"{site}/{name}" for site in ("plaza", "quai") for name in ("footfall", "noise", "pm2_5")
    ]


@pytest.mark.victoria
def test_grafana_shows_what_stewards_have_marked_until_they_take_it_back(
    town: Town, victoria: Any, database: Database
) -> None:
    """Over the graphs and in a timeline, each from its first instant to its last, on its own stream alone; within a
    long interval the shortest mark is seen. A kill of the database and a rebuild leave the same samples."""
    town.file(town.sealed(96))
    town.say(SCAFFOLD, ELSEWHERE)
    board = json.loads((GRAFANA / "figures.fr.json").read_text("utf-8"))
    (over,) = (each["expr"] for each in board["annotations"]["list"])
    timeline, beside = (panel for panel in board["panels"] if panel["title"].startswith("Périodes marquées"))
    (asked,) = {query["expr"] for panel in (timeline, beside) for query in panel["targets"]}
    words = [
        {int(n): each["text"] for n, each in p["fieldConfig"]["defaults"]["mappings"][0]["options"].items()}
        for p in (timeline, beside)
    ]

    def shown(query: str, stream: str, interval: str, step_s: int) -> dict[str, dict[int, float]]:
        victoria.get("/internal/force_flush")
        text = filled(query, stream, "crossings", interval)
        asked = urlencode({"query": text, "start": MIDNIGHT_S, "end": MIDNIGHT_S + DAY_S - 1, "step": step_s})
        series = json.loads(victoria.get(f"/api/v1/query_range?{asked}"))["data"]["result"]
        return {one["metric"]["number"]: {int(at): float(value) for at, value in one["values"]} for one in series}

    with town.mirror(database) as mirror:
        caught_up(mirror)
        assert victoria.marks() == MARKED
        assert shown(over, "plaza/footfall", "1m", 60) == {"1": dict.fromkeys(range(AT_S, AT_S + 1800, 60), 1.0)}
        assert shown(over, "plaza/noise", "1m", 60) == {}
        ((number, states),) = shown(asked, "plaza/footfall", "15m", QUARTER_S).items()
        assert (number, list(states)) == ("1", [AT_S, AT_S + QUARTER_S])
        assert {words[0][int(value)] for value in states.values()} == {"capteur masqué"} and words[0] == words[1]
        assert shown(asked, "plaza/footfall", "6h", 21_600) != {}
        town.say(BACK, AGAIN)
        victoria.kill()
        victoria.start()
        caught_up(mirror)
    assert victoria.marks() == TAKEN_BACK
    assert shown(over, "plaza/footfall", "1m", 60) == {"3": dict.fromkeys(range(AT_S + 900, AT_S + 3600, 60), 1.0)}
    assert set(shown(asked, "plaza/footfall", "15m", QUARTER_S)) == {"3"}
    (town.centre.config.data_dir / "mirror.db").unlink()
    with town.mirror(database) as mirror:
        caught_up(mirror)
    assert victoria.marks() == TAKEN_BACK


def filled(query: str, stream: str, indicator: str, interval: str = "15m") -> str:
    chosen = {"$stream": stream, "$node": "1h", "$indicator": indicator, "$__interval": interval}
    for name, text in chosen.items():
        query = query.replace(name, text)
    assert "$" not in query
    return query


def ranged(victoria: Any, query: str, start_s: int, end_s: int) -> dict[int, float]:
    """Returns what a graph would draw: value by instant."""
    words = urlencode({"query": query, "start": start_s, "end": end_s - 1, "step": 900})
    series = json.loads(victoria.get(f"/api/v1/query_range?{words}"))["data"]["result"]
    assert len(series) <= 1
    return {int(at): float(value) for each in series for at, value in each["values"]}


@pytest.mark.victoria
@pytest.mark.parametrize("settled_s", [30.0, 0.0])
def test_what_a_killed_database_had_acknowledged_is_sent_again(
    town: Town, victoria: Any, database: Database, settled_s: float
) -> None:
    """VictoriaMetrics loses what it has taken in its last seconds. The twin that believes it has holes."""
    town.file(town.sealed(96))
    with town.mirror(database, settled_s=settled_s) as mirror:
        caught_up(mirror)
        mirror.step()  # keeps what it takes to be safe
        assert mirror.kept == (settled_s == 0)
        victoria.kill()
        victoria.start()
        town.file(town.sealed(1, 96))
        caught_up(mirror)
    assert (victoria.samples() == town.expected(MIDNIGHT_S + DAY_S)) == (settled_s > 0)


class Process:
    """`murmure ingest mirror` as a town runs it."""

    def __init__(self, town: Town, url: str) -> None:
        self._config = Path(town.centre.config.source)
        with self._config.open("a") as file:
            file.write(f'\n[mirror]\nurl = "{url}"\ntimeout_s = 2\n')
        self._process: subprocess.Popen[str] | None = None

    def command(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "murmure.cli", "ingest", "mirror", "--config", str(self._config), "--json", *more]

    def start(self, *more: str) -> None:
        self._process = subprocess.Popen(self.command(*more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def told(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Returns status, stdout and stderr."""
        assert self._process
        self._process.send_signal(number)
        out, err = self._process.communicate(timeout=60)
        return self._process.returncode, out, err


@pytest.fixture
def process(town: Town) -> Iterator[Callable[[str], Process]]:
    made: list[Process] = []

    def make(url: str) -> Process:
        made.append(Process(town, url))
        return made[-1]

    yield make
    for one in made:
        if one._process and one._process.poll() is None:
            one._process.kill()
            one._process.communicate()


@pytest.mark.victoria
@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=pytest.mark.long)])
def test_kills_of_either_side_while_writing_leave_no_hole(
    town: Town, victoria: Any, process: Callable[[str], Process], kills: int
) -> None:
    """SIGKILL of the database, of the mirror, of both, while gateways speak: in the end the mirror is the archive."""
    mirror = process(victoria.url)
    mirror.start()
    days = 2 if kills < 10 else 6
    arrivals = town.sealed(days * 96 + 10)
    share = -(-len(arrivals) // kills)
    for number in range(kills):
        part = arrivals[number * share : (number + 1) * share]
        for at in range(0, len(part), 20):
            town.file(part[at : at + 20])
            time.sleep(0.02)
        if number == 0:
            town.say(SCAFFOLD, ELSEWHERE)
        if number == kills - 1:
            town.say(BACK, AGAIN)
        time.sleep(town.dice.uniform(0, 3))
        if number % 3 != 1:
            victoria.kill()
        if number % 3 != 0:
            mirror.end(signal.SIGKILL)
            mirror.start()
        if number % 3 != 1:
            victoria.start()
    expected = town.expected(MIDNIGHT_S + days * DAY_S)
    for _ in range(300):
        if len(victoria.samples()) >= len(expected) and len(victoria.marks()) >= len(TAKEN_BACK):
            break
        time.sleep(0.4)
    status, out, err = mirror.end()
    assert (status, json.loads(out or "{}").get("messages", 0) > 0) == (0, True), err
    assert victoria.samples() == expected, err
    assert victoria.marks() == TAKEN_BACK, err


@pytest.mark.victoria
def test_an_empty_database_is_filled_from_nothing(
    town: Town, victoria: Any, process: Callable[[str], Process], until: Callable[[Callable[[], object]], None]
) -> None:
    """`--rebuild` sends everything again. Ctrl-C ends the command with 0 and one JSON document that says how much."""
    town.file(town.sealed(97))
    expected = town.expected(MIDNIGHT_S + DAY_S)
    mirror = process(victoria.url)
    for more in ((), ("--rebuild",)):
        mirror.start(*more)
        until(lambda: victoria.samples() == expected)
        status, out, err = mirror.end(signal.SIGINT)
        assert (status, json.loads(out)) == (0, {"messages": 194, "samples": len(expected), "kept": False})
        assert err.endswith(f"database {victoria.url}: has everything of the archive\n")
        victoria.kill()
        victoria.empty()
        victoria.start()


# --- what waits, and for what ---------------------------------------------------------------------------------------


class Recorded:
    """A target that takes everything, or says why not; `now` is the mirror's clock."""

    name = "recorded"

    def __init__(self) -> None:
        self.now, self.which, self.lines = 0.0, "1", list[str]()
        self.wrong = ""

    def write(self, lines: list[str]) -> None:
        if self.wrong:
            raise DatabaseError(self.wrong)
        self.lines += lines

    def run(self) -> str | None:
        return self.which

    def samples(self) -> Samples:
        """As VictoriaMetrics would export it, but with every value that was ever sent."""
        return self._sent(lambda measurement: measurement != MARKS, "node", "indicator")

    def marks(self) -> Samples:
        """So too, of what stewards have said."""
        return self._sent(lambda measurement: measurement == MARKS, "number", "cause")

    def _sent(self, wanted: Callable[[str], bool], *also: str) -> Samples:
        found: Samples = {}
        for line in self.lines:
            series, fields, at = line.split(" ")
            measurement, *tags = series.split(",")
            if not wanted(measurement):
                continue
            names = dict(tag.split("=") for tag in tags)
            assert list(names) == ["site", "stream", *also]
            for name, value in (one.split("=") for one in fields.split(",")):
                values = found.setdefault((f"{measurement}_{name}", *names.values(), int(at)), [])  # type: ignore[arg-type]
                if float(value) not in values:
                    values.append(float(value))
        return found


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def test_no_sample_ever_gets_a_second_value(town: Town, recorded: Recorded) -> None:
    """Message by message, in any order within two hours, with doubts in between: in the end all samples are there, and
    none was ever sent with another value. (An estimate sent before its day is complete would be another later.)"""
    arrivals = town.sealed(96 + 20)
    for at in range(0, len(arrivals), 16):
        part = arrivals[at : at + 16]
        town.dice.shuffle(part)
        arrivals[at : at + 16] = part
    with town.mirror(recorded, clock=lambda: recorded.now) as mirror:
        for number in range(0, len(arrivals), 2):
            town.file(arrivals[number : number + 2])
            mirror.step()
            if number % 50 == 48:
                recorded.which = str(number)
                caught_up(mirror)
    assert recorded.samples() == town.expected(MIDNIGHT_S + DAY_S)


def test_a_day_is_complete_when_its_gateway_has_nothing_more_to_say_of_it(town: Town, recorded: Recorded) -> None:
    """A message that is missing, though later ones are there, keeps the estimates of its gateway back, no other's."""
    arrivals = town.sealed(98)
    missing = arrivals.pop(2 * 50)
    with town.mirror(recorded) as mirror:
        town.file(arrivals)
        caught_up(mirror)
        estimated = {key[1] for key in recorded.samples() if key[0].endswith("_estimate")}
        assert estimated == {"quai"}
        town.file([missing])
        caught_up(mirror)
    assert recorded.samples() == town.expected(MIDNIGHT_S + DAY_S)


def test_a_stream_with_weeks_is_estimated_when_its_week_is_over(
    town: Town, recorded: Recorded, policy_text: Callable[..., bytes]
) -> None:
    """Until Monday the week's own node can still change every day before it."""
    halle = town.centre.gateway("gw-halle", "halle", published=False)
    weeks = re.sub(rb'nodes = \{ "15min".*\}', b'nodes = { "1h" = 1, "1d" = 1, "1w" = 1 }', policy_text("halle"))
    halle.policy = weeks
    publish_policy(town.centre.archive, town.centre.signed(weeks))
    town.gateways = [halle]
    hours = [arrival for number in range(3, 8 * 96, 4) for arrival in town.sealed(1, number)]
    with town.mirror(recorded) as mirror:
        town.file(hours[:-25])
        caught_up(mirror)
        estimated = {key[4] for key in recorded.samples() if key[0].endswith("_estimate")}
        assert estimated == {"pm2_5_ug_m3"}  # its policy knows no weeks
        town.file(hours[-25:])
        caught_up(mirror)
    found = {key: values for key, values in recorded.samples().items() if key[5] < MIDNIGHT_S + 7 * DAY_S}
    assert found == town.expected(MIDNIGHT_S + 7 * DAY_S)
    assert any(key[3] == "1w" for key in found)


def test_what_waits_to_be_filed_keeps_the_estimates_of_its_day_back(
    town: Town, recorded: Recorded, policy_text: Callable[..., bytes]
) -> None:
    """Settled is not filed: a message of that day which waits for a policy may still change them."""
    plaza = town.gateways[0]
    arrivals = town.sealed(50)
    known, plaza.policy = plaza.policy, policy_text("plaza", 2) + NOISE.format(site="plaza").encode()
    waiting, *others = town.sealed(1, 50)
    plaza.policy = known
    with town.mirror(recorded) as mirror:
        town.file([*arrivals, *others, *town.sealed(47, 51)])
        (word,) = town.centre.intake.accept_many([waiting])
        assert word.reason == "unknown_policy"
        assert town.centre.archive.totals(plaza.name).settled_seq == 98
        caught_up(mirror)
    assert {key[1] for key in recorded.samples() if key[0].endswith("_estimate")} == {"quai"}


def test_what_was_filed_after_it_had_waited_is_mirrored(
    town: Town, recorded: Recorded, policy_text: Callable[..., bytes]
) -> None:
    """Messages under a policy that the centre has only later: the mirror is past their numbers, and takes them then."""
    late = town.centre.gateway("gw-parc", "parc", published=False)
    early, town.gateways = town.gateways, [late]
    waiting = town.sealed(97)
    town.gateways = early
    with town.mirror(recorded) as mirror:
        town.centre.intake.accept_many(waiting)
        town.file(town.sealed(97))
        caught_up(mirror)
        assert {key[1] for key in recorded.samples()} == {"plaza", "quai"}
        publish_policy(town.centre.archive, town.centre.signed(late.policy))
        town.centre.intake.reconsider()
        caught_up(mirror)
    assert recorded.samples() == town.expected(MIDNIGHT_S + DAY_S)
    assert mirror.samples == sum(map(len, recorded.samples().values()))


def test_what_stewards_say_is_sent_once_and_never_otherwise(town: Town, recorded: Recorded) -> None:
    """A mark, and later the word that takes it back: each adds samples and changes none, beside figures that stay as
    they are. A database that has them for good is not told again; another one, or a new run of it, is told all."""
    town.file(town.sealed(40))
    with town.mirror(recorded, clock=lambda: recorded.now) as mirror:
        caught_up(mirror)
        figures = recorded.samples()
        town.say(SCAFFOLD, ELSEWHERE)
        caught_up(mirror)
        assert recorded.marks() == MARKED
        recorded.now = 31.0
        mirror.step()
        assert mirror.kept
        sent = len(recorded.lines)
        town.say(BACK, AGAIN)
        caught_up(mirror)
        assert (recorded.marks(), recorded.samples()) == (TAKEN_BACK, figures)
        assert len(recorded.lines) == sent + 3
        recorded.which = "2"
        caught_up(mirror)
        assert len(recorded.lines) == sent + 6
        recorded.now = 62.0
        mirror.step()
    with town.mirror(recorded) as mirror:
        caught_up(mirror)
        assert len(recorded.lines) == sent + 6
        mirror._cursor.forget()
        mirror._begin()
        caught_up(mirror)
    assert (recorded.marks(), recorded.samples()) == (TAKEN_BACK, figures)
    assert len(recorded.lines) > 2 * sent


def test_the_place_moves_on_when_the_database_ran_long_enough(town: Town, recorded: Recorded) -> None:
    """Acknowledged is not kept: the place in the file follows half a minute later, unless another run answers."""
    town.file(town.sealed(8))
    with town.mirror(recorded, clock=lambda: recorded.now) as mirror:
        caught_up(mirror)
        first = len(recorded.lines)
        recorded.now = 29.9
        mirror.step()
        assert not mirror.kept
    with town.mirror(recorded, clock=lambda: recorded.now) as mirror:
        caught_up(mirror)
        assert len(recorded.lines) == 2 * first  # a mirror that starts anew does not know what is kept
        recorded.now = 59.9
        mirror.step()
        assert mirror.kept
        recorded.which = "2"
        caught_up(mirror)
    with town.mirror(recorded) as mirror:
        caught_up(mirror)
    assert len(recorded.lines) == 2 * first


def test_what_was_not_kept_is_sent_again_to_another_run(town: Town, recorded: Recorded) -> None:
    """And said: the operator learns that the database was started anew."""
    said: list[str] = []
    town.file(town.sealed(8))
    with town.mirror(recorded, said) as mirror:
        caught_up(mirror)
        first = list(recorded.lines)
        recorded.which = "2"
        caught_up(mirror)
    assert recorded.lines == 2 * first
    assert "was started anew" in said[1]


def test_each_sample_is_sent_once_while_catching_up(
    town: Town, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In small batches through days that were over long ago: no day is estimated before all of it was read."""
    monkeypatch.setattr("murmure_ingest.mirror.MESSAGES", 30)
    town.file(town.sealed(2 * 96))
    with town.mirror(recorded) as mirror:
        while mirror.step():
            pass
        expected = town.expected(MIDNIGHT_S + 2 * DAY_S)
        assert recorded.samples() == expected
        assert mirror.samples == len(expected)


def test_a_database_that_does_not_tell_its_runs_is_doubted_after_each_failure(town: Town, recorded: Recorded) -> None:
    """Without a start time a failure may have been a restart: what was not kept yet is sent again."""
    recorded.which = None  # type: ignore[assignment]
    town.file(town.sealed(8))
    stop = threading.Event()
    with town.mirror(recorded) as mirror:
        caught_up(mirror)
        first = len(recorded.lines)
        recorded.wrong = "away"
        town.file(town.sealed(1, 8))
        with pytest.raises(DatabaseError):
            mirror.run(stop, once=True)
        recorded.wrong = ""
        caught_up(mirror)
    assert len(recorded.lines) > 2 * first


def test_an_archive_from_a_backup_is_mirrored_from_its_beginning(town: Town, recorded: Recorded) -> None:
    """After a restore the same numbers are other messages: the place in `mirror.db` says of which archive it was."""
    town.file(town.sealed(20))
    source = town.centre.config.archive
    older = source.with_name("older.db")
    with closing(sqlite3.connect(source)) as db:
        db.execute("VACUUM INTO ?", (str(older),))
    town.file(town.sealed(20, 20))
    with town.mirror(recorded, settled_s=0.0) as mirror:
        mirror.run(threading.Event(), once=True)
    town.centre.archive.close()
    older.replace(source)
    for name in ("archive.db-wal", "archive.db-shm"):
        source.with_name(name).unlink(missing_ok=True)
    recorded.lines.clear()
    with town.mirror(recorded, settled_s=0.0) as mirror:
        mirror.run(threading.Event(), once=True)
        assert mirror.messages == 40
    with town.mirror(recorded) as mirror:
        caught_up(mirror)
        assert mirror.messages == 0
    with town.mirror(SimpleNamespace(name="another", write=recorded.write, run=recorded.run)) as mirror:
        caught_up(mirror)
        assert mirror.messages == 40


def test_two_mirrors_of_one_centre_are_refused(town: Town, recorded: Recorded) -> None:
    """The second says so in one line."""
    with town.mirror(recorded), pytest.raises(ConfigError) as refused, town.mirror(recorded):
        pass
    assert "another mirror runs" in str(refused.value)


def fill(db: sqlite3.Connection) -> None:
    """Leaves no room for one more period in a file that may not grow."""
    pages = "PRAGMA page_count"
    (size,) = db.execute(pages).fetchone()
    for number in range(1000):
        db.execute("BEGIN")
        db.execute("INSERT INTO periods VALUES ('else/where', ?, 0)", (number,))
        grown = db.execute(pages).fetchone()[0] > size
        db.execute("ROLLBACK" if grown else "COMMIT")
        if grown:
            break
    db.execute(f"PRAGMA max_page_count = {size}")


def test_a_place_that_cannot_be_kept_is_told_once_and_tried_again(town: Town, recorded: Recorded) -> None:
    """The disk of `mirror.db` is full: the mirror goes on, and writes its place down when there is room again."""
    said: list[str] = []
    with town.mirror(recorded, said, settled_s=0.0) as mirror:
        fill(mirror._cursor._db)
        for first in range(3):
            town.file(town.sealed(1, first))
            mirror.step()
            mirror.step()
        assert not mirror.kept
        assert [text for text in said if "mirror.db" in text] == [next(text for text in said if "is full" in text)]
        assert recorded.samples() == town.expected(MIDNIGHT_S)
        mirror._cursor._db.execute("PRAGMA max_page_count = 100000")
        mirror.step()
        assert mirror.kept
        assert said[-1] == "cursor: in order again"


def test_a_damaged_place_is_one_line_with_its_mend(town: Town, recorded: Recorded) -> None:
    """It is no loss: without the file the mirror begins from nothing."""
    path = town.centre.config.data_dir / "mirror.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(MirrorError) as refused, town.mirror(recorded):
        pass
    assert "remove it" in str(refused.value) and "\n" not in str(refused.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(MirrorError, match="see who may write there"), town.mirror(recorded):
        pass


# --- against Debian's InfluxDB, a judge of the lines alone ----------------------------------------------------------


def basic(who: str) -> str:
    return f"Basic {b64encode(who.encode()).decode()}"


class Influx:
    """Debian's InfluxDB 1.6. It reads the same lines as its successors, but at another address: a version before 1.8
    knows nothing of `/api/v2/write`. What is asked there of `url` is asked of it under its own name, and a token
    `USER:PASSWORD` is what 1.8 takes it for. It lets in nobody without one."""

    def __init__(self, folder: Path) -> None:
        port, backup = free_port(), free_port()
        self._own = f"http://127.0.0.1:{port}"
        (folder / "influx.conf").write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{backup}"\n[meta]\ndir = "{folder}/meta"\n'
            f'[data]\ndir = "{folder}/data"\nwal-dir = "{folder}/wal"\n[http]\nbind-address = "127.0.0.1:{port}"\n'
            "auth-enabled = true\n"
        )
        with (folder / "influx.log").open("wb") as log:
            words = ["influxd", "-config", str(folder / "influx.conf")]
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        own = self._own

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                words = parse_qs(urlsplit(self.path).query)
                where = urlencode({"db": words["bucket"][0], "precision": words["precision"][0]})
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {"Content-Encoding": self.headers["Content-Encoding"]}
                if token := self.headers.get("Authorization", "").partition("Token ")[2]:
                    headers["Authorization"] = basic(token)
                self.answer(Request(f"{own}/write?{where}", body, headers, method="POST"))

            def do_GET(self) -> None:
                self.answer(Request(own + self.path))

            def answer(self, asked: Request) -> None:
                try:
                    with urlopen(asked, timeout=20) as answer:
                        status, body = answer.status, answer.read()
                except HTTPError as error:
                    status, body = error.code, error.read()
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._door = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._door.server_port}"
        threading.Thread(target=self._door.serve_forever, daemon=True).start()

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Returns the series of an answer; times are seconds."""
        body = urlencode({"q": query, "db": "murmure", "epoch": "s"}).encode()
        asked = Request(f"{self._own}/query", body, {"Authorization": basic("admin:secret")})
        with urlopen(asked, timeout=20) as answer:
            series: list[dict[str, Any]] = json.load(answer)["results"][0].get("series", [])
        return series

    def samples(self) -> Samples:
        """Returns every value of every field, by (metric, site, stream, node, indicator, second)."""
        found: Samples = {}
        for series in self.ask("SELECT * FROM /.*/"):
            for values in series["values"]:
                row = dict(zip(series["columns"], values, strict=True))
                key = (*(row.pop(name) for name in ("site", "stream", "node", "indicator")), row.pop("time"))
                for name, value in row.items():
                    if value is not None:
                        found.setdefault((f"{series['name']}_{name}", *key), []).append(value)
        return found

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._door.shutdown()
        self._door.server_close()


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[Influx]:
    """Running, with an empty database `murmure`."""
    database = Influx(tmp_path)
    for _ in range(600):
        try:
            database.ask("CREATE USER admin WITH PASSWORD 'secret' WITH ALL PRIVILEGES")
            break
        except OSError:
            time.sleep(0.1)
    for statement in ("DATABASE murmure", "USER mirror WITH PASSWORD 'm'", "USER reader WITH PASSWORD 'r'"):
        database.ask(f"CREATE {statement}")
    database.ask("GRANT WRITE ON murmure TO mirror")
    database.ask("GRANT READ ON murmure TO reader")
    yield database
    database.stop()


@pytest.mark.influx
def test_influxdb_itself_says_who_may_not_write(influx: Influx) -> None:
    """Without a token, with a wrong one, one that may only read, to a place that is not there: each its own line."""
    line = ["murmure_footfall,site=plaza value=1 1793602800"]
    for token, bucket, said in (
        ("", "murmure", "status 401: it does not know the token: look at mirror.token_file"),
        ("mirror:wrong", "murmure", "status 401: it does not know the token: look at mirror.token_file"),
        ("reader:r", "murmure", "status 403: the token may not write there: look at mirror.token_file, org and bucket"),
        ("mirror:m", "nowhere", "status 40[34]: .* look at mirror"),
    ):
        config = MirrorConfig(influx.url, bucket=bucket)
        with closing(Database(config, token)) as database, pytest.raises(DatabaseError, match=said) as refused:
            database.write(line)
        assert "\n" not in str(refused.value)
    with closing(Database(MirrorConfig(influx.url), "mirror:m")) as database:
        database.write(line)
    assert influx.ask("SELECT * FROM murmure_footfall")[0]["values"] == [[1793602800, "plaza", 1]]


@pytest.mark.long
@pytest.mark.influx
def test_influxdb_itself_reads_every_line(town: Town, influx: Influx) -> None:
    """What its own parser made of the lines is the open data, sample by sample; what is sent again changes nothing."""
    town.file(town.sealed(96 + 30))
    for _ in range(2):
        with closing(Database(MirrorConfig(influx.url), "mirror:m")) as database, town.mirror(database) as mirror:
            caught_up(mirror)
        (town.centre.config.data_dir / "mirror.db").unlink()
        assert influx.samples() == town.expected(MIDNIGHT_S + DAY_S)
    with (
        closing(Database(MirrorConfig(influx.url), "mirror:m")) as database,
        pytest.raises(DatabaseError, match="status 400"),
    ):
        database.write(["murmure_footfall,site=plaza value=x 1"])


# --- what goes over the line, and what may come back ----------------------------------------------------------------


class Recorder:
    """An HTTP server that writes down what it is asked and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.body, self.metrics = 204, b"", b"process_start_time_seconds 1.7e+09\n"
        self.hang = threading.Event()
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                recorder.requests.append((self.path, dict(self.headers), body))
                while recorder.hang.is_set():
                    time.sleep(0.05)
                self.answer(recorder.status, recorder.body)

            def do_GET(self) -> None:
                self.answer(200 if recorder.metrics else 404, recorder.metrics)

            def answer(self, status: int, body: bytes) -> None:
                with suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.hang.clear()
    recorder.server.shutdown()
    recorder.server.server_close()


def test_the_request_is_that_of_influxdb_2(town: Town, recorder: Recorder) -> None:
    """Path, place, precision, token and compression, to the letter. Not run against InfluxDB itself."""
    town.file(town.sealed(4))
    config = MirrorConfig(f"{recorder.url}/base", "my town", "street&square")
    with closing(Database(config, "s3cret")) as database, town.mirror(database) as mirror:
        caught_up(mirror)
    ((path, headers, body),) = recorder.requests
    assert path == "/base/api/v2/write?org=my+town&bucket=street%26square&precision=s"
    assert headers["Authorization"] == "Token s3cret"
    assert headers["Content-Encoding"] == "gzip"
    lines = gzip.decompress(body).decode().split("\n")
    number = r"-?\d+(\.\d{1,6})?"
    tags = r"site=\w+,stream=\w+/\w+,node=\w+,indicator=\w+"
    form = rf"murmure_(footfall|noise|air),{tags} value={number},sigma={number} \d+"
    assert lines and all(re.fullmatch(form, line) for line in lines)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, b'{"message":"unable to parse murmure_footfall value=41.75"}', "it refuses the samples"),
        (401, b'{"message":"unauthorized access"}', "look at mirror.token_file (.*unauthorized access"),
        (404, b'{"message":"bucket not found"}', "look at mirror.url, org and bucket (.*bucket not found"),
        (500, b"", "status 500: trying again"),
        (429, b"", "status 429: trying again"),
    ],
)
def test_a_database_that_refuses_is_told_in_one_line_and_asked_again(
    town: Town, recorder: Recorder, status: int, body: bytes, said: str
) -> None:
    """Once however often it refuses, without a value, and nothing is lost by it."""
    heard: list[str] = []
    town.file(town.sealed(4))
    recorder.status, recorder.body = status, body
    with closing(Database(MirrorConfig(recorder.url), "")) as database, town.mirror(database, heard) as mirror:
        stop = threading.Event()
        patience = [0.0, 0.0, 0.0]

        def wait(seconds: float) -> bool:
            patience.append(seconds)
            if len(patience) == 10:
                recorder.status, recorder.body = 204, b""
            if len(patience) == 14:
                stop.set()
            return stop.is_set()

        mirror.run(SimpleNamespace(is_set=stop.is_set, wait=wait))  # type: ignore[arg-type]
    assert patience[3:10] == [1, 2, 4, 8, 16, 32, 60]
    assert len(heard) == 2, heard
    assert re.search(said.replace("(.", r"\(.").replace("status 4", "status 4"), heard[0])
    assert "41.75" not in heard[0] and "\n" not in heard[0]
    assert heard[1].endswith("has everything of the archive")
    assert gzip.decompress(recorder.requests[-1][2]) == gzip.decompress(recorder.requests[0][2])


def test_a_database_tells_its_runs_apart_by_their_start(recorder: Recorder) -> None:
    """A run is known by its start once that is older than what whole seconds may confuse; without one, by nothing."""
    with closing(Database(MirrorConfig(recorder.url), "")) as database:
        assert database.run() == "1.7e+09"
        recorder.metrics = f"go_goroutines 7\nprocess_start_time_seconds {int(time.time())}\n".encode()
        with pytest.raises(DatabaseError, match="only just started"):
            database.run()
        for recorder.metrics in (b"go_goroutines 7\n", b""):
            assert database.run() is None


def test_a_database_that_hangs_is_left_alone_after_its_time(town: Town, recorder: Recorder) -> None:
    """A write that is not answered ends after `timeout_s`, and is sent again."""
    town.file(town.sealed(4))
    recorder.hang.set()
    config = MirrorConfig(recorder.url, timeout_s=1)
    with closing(Database(config, "")) as database, town.mirror(database) as mirror:
        with pytest.raises(DatabaseError, match="no answer"):
            mirror.step()
        recorder.hang.clear()
        caught_up(mirror)
    assert len({body for _, _, body in recorder.requests if gzip.decompress(body)}) >= 1
    assert gzip.decompress(recorder.requests[0][2]) == gzip.decompress(recorder.requests[-1][2])


def test_a_database_that_is_not_there_ends_the_command_with_one_line(
    town: Town, process: Callable[[str], Process]
) -> None:
    """`--once` fails with status 1 and says which database does not answer; without a table [mirror] it is status 2."""
    mirror = process("http://127.0.0.1:1")
    done = subprocess.run(mirror.command("--once"), capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "database http://127.0.0.1:1: no answer" in done.stderr
    mirror._config.write_text('data_dir = "centre"\n')
    done = subprocess.run(mirror.command("--once"), capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "[mirror]" in done.stderr


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The file is its owner's alone, and holds one line."""
    file = tmp_path / "mirror.token"
    assert read_token(None) == ""
    for content, mode, problem in (
        (b"s3cret\n", 0o640, "others may read it"),
        (b"\n", 0o600, "holds no token"),
        (b"two\nlines\n", 0o600, "holds no token"),
        (b"\xff\n", 0o600, "cannot be read"),
    ):
        file.write_bytes(content)
        file.chmod(mode)
        with pytest.raises(ConfigError, match=problem):
            read_token(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(tmp_path / "none")
    file.write_bytes(b"s3cret\n")
    file.chmod(0o600)
    assert read_token(file) == "s3cret"


# --- the intake does not know of it ---------------------------------------------------------------------------------


def checkpointed(path: Path) -> bool:
    """Whether nobody holds an old state of the archive: else its journal could only grow."""
    with closing(sqlite3.connect(path, timeout=0)) as db:
        busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return bool(busy == 0)


def test_a_mirror_that_hangs_holds_nothing_of_the_archive(
    town: Town, recorder: Recorder, process: Callable[[str], Process], until: Callable[[Callable[[], object]], None]
) -> None:
    """While its database does not answer, stopped in the middle, the intake files and the journal is emptied."""
    arrivals = town.sealed(60)
    town.file(arrivals[:20])
    recorder.hang.set()
    mirror = process(recorder.url)
    mirror.start()
    until(lambda: recorder.requests)
    mirror.told(signal.SIGSTOP)
    town.file(arrivals[20:])
    assert checkpointed(town.centre.config.archive)
    with closing(sqlite3.connect(town.centre.config.archive)) as reader:  # the twin: who reads while it waits
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        with town.centre.archive.transaction():
            town.centre.archive.count("refused:test")
        assert not checkpointed(town.centre.config.archive)
    mirror.told(signal.SIGCONT)
    recorder.hang.clear()


@pytest.mark.skipif("MURMURE_INFLUX_URL" not in os.environ, reason="MURMURE_INFLUX_URL names no InfluxDB of yours")
def test_an_influxdb_of_yours_takes_the_mirror(town: Town) -> None:
    """Opt-in: MURMURE_INFLUX_URL, _ORG, _BUCKET and _TOKEN name a bucket for trials; what was written is read back."""
    from influxdb_client.client.influxdb_client import InfluxDBClient

    names = {name: os.environ[f"MURMURE_INFLUX_{name}"] for name in ("URL", "ORG", "BUCKET", "TOKEN")}
    town.file(town.sealed(97))
    config = MirrorConfig(names["URL"], names["ORG"], names["BUCKET"])
    with closing(Database(config, names["TOKEN"])) as database, town.mirror(database) as mirror:
        caught_up(mirror)
    query = (
        f'from(bucket: "{names["BUCKET"]}") |> range(start: {MIDNIGHT_S}, stop: {MIDNIGHT_S + 2 * DAY_S})'
        " |> filter(fn: (r) => r._measurement =~ /^murmure_/)"
    )
    client = InfluxDBClient(url=names["URL"], token=names["TOKEN"], org=names["ORG"])
    found = {
        (
            f"{record.values['_measurement']}_{record.get_field()}",
            *(record.values[tag] for tag in ("site", "stream", "node", "indicator")),
            int(record.get_time().timestamp()),
        ): [record.get_value()]
        for table in client.query_api().query(query)
        for record in table.records
    }
    assert found == town.expected(MIDNIGHT_S + DAY_S)
