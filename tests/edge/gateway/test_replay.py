"""`murmure edge replay`: recorded readings through the gateway's own code, as an outside program sees it."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from murmure.cli import main
from murmure_edge import replay
from murmure_edge.gateway_db import GatewayDb
from murmure_privacy.errors import MurmureError
from murmure_privacy.window import parse_utc, utc

HEADER = "timestamp_utc,site,metric,value,unit"
FIELDS = {
    "gateway", "site", "stream", "quantity", "node", "start", "end", "covered", "present", "status", "noise", "seq",
    "policy",
}  # fmt: skip
DAY_S, HOUR_S = 86_400, 3600
START_S = parse_utc("2026-03-01T23:00:00Z")  # midnight in Paris
SIGMAS = 6

POLICY = """\
policy = 1
site = "plaza"
version = 3
timezone = "Europe/Paris"
decision = "Délibération 2026-11-03 n° 42"
reason = "Mesurer."
valid_from = {valid_from}
valid_until = 2026-12-31

[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = 1.0
nodes = {{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }}

[[stream]]
id = "plaza/noise"
quantity = "noise"
protects = {{ seconds = 15 }}
readings = {{ cadence_ms = {noise_ms}, tail = 11 }}
epsilon = 1.0
nodes = {{ "1h" = 1, "1d" = 24 }}
bounds_db = [35, 85]

[[stream]]
id = "plaza/pm2_5"
quantity = "pm2_5"
protects = {{ seconds = 60 }}
readings = {{ cadence_ms = {dust_ms}, tail = 2 }}
epsilon = 1.0
nodes = {{ "1h" = 1, "1d" = 24 }}
bounds = [0, 100]
"""


class Replay:
    """A folder with a policy, and the command as a user types it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out.jsonl"
        self.write_policy()

    def write_policy(self, valid_from: str = "2026-01-01", noise_ms: int = 60_000, dust_ms: int = 60_000) -> None:
        text = POLICY.format(valid_from=valid_from, noise_ms=noise_ms, dust_ms=dust_ms)
        (self.folder / "policy.toml").write_text(text, "utf-8")

    def write_readings(self, rows: Iterable[tuple[int, str, str, object]], zipped: bool = False) -> Path:
        """Rows of (second, site, metric, value)."""
        lines = [HEADER, *(f"{utc(at_s)},{site},{metric},{value},u" for at_s, site, metric, value in rows)]
        data = ("\n".join(lines) + "\n").encode()
        path = self.folder / "readings.csv"
        path.write_bytes(gzip.compress(data) if zipped else data)
        return path

    def command(self, *more: str, stream: str = "footfall") -> list[str]:
        return [
            sys.executable, "-m", "murmure.cli", "edge", "replay", "--policy", str(self.folder / "policy.toml"),
            "--readings", str(self.folder / "readings.csv"), "--stream", f"plaza/{stream}", "--out", str(self.out),
            *more,
        ]  # fmt: skip

    def run(self, *more: str, stream: str = "footfall") -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*more, stream=stream), capture_output=True, text=True, check=False)

    def nodes(self, *more: str, stream: str = "footfall") -> list[dict[str, Any]]:
        """Runs in this process, and returns what was printed."""
        options = dict(zip(more[::2], more[1::2], strict=True))
        replay.run(
            self.folder / "policy.toml",
            self.folder / "readings.csv",
            f"plaza/{stream}",
            self.out,
            options.get("--site"),
            options.get("--metric"),
            Path(options["--db"]) if "--db" in options else None,
        )
        return self.printed()

    def printed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def refused(self, *more: str, stream: str = "footfall") -> str:
        """The one line with which the command ends with status 2."""
        out, err, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
        with redirect_stdout(out), redirect_stderr(err):
            status = main(self.command(*more, stream=stream)[3:])
        signal.signal(signal.SIGTERM, before)
        said = err.getvalue()
        assert (status, out.getvalue(), said.count("\n")) == (2, "", 1), said
        assert said.startswith("murmure: ")
        return said


@pytest.fixture
def here(tmp_path: Path) -> Replay:
    return Replay(tmp_path)


@pytest.fixture
def without_noise(monkeypatch: pytest.MonkeyPatch, exact: object) -> None:
    """The real path with a mechanism that adds nothing: only a test may do so."""
    monkeypatch.setattr(replay, "DiscreteGaussian", lambda: exact)


def counts(from_s: int, until_s: int, step_s: int = 300, value: int = 5) -> list[tuple[int, str, str, object]]:
    return [(at_s, "gate", "pedestrians", value) for at_s in range(from_s, until_s, step_s)]


def by_key(nodes: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(node["node"], node["start"]): node for node in nodes}


# --- what is printed -------------------------------------------------------------------------------------------------


def test_the_command_prints_nodes_as_the_contract_writes_them(here: Replay) -> None:
    """Exactly these keys, released and withheld; the summary stands apart."""
    here.write_readings(counts(START_S, START_S + DAY_S // 2) + counts(START_S + 18 * HOUR_S, START_S + DAY_S))
    done = here.run()
    assert (done.returncode, done.stderr) == (0, "")
    nodes = here.printed()
    assert done.stdout == f"{len(nodes)} nodes, {sum(n['status'] == 'released' for n in nodes)} released, of which " + (
        f"{sum(n['status'] == 'released' for n in nodes)} drawn now\n"
    )
    assert Counter(node["node"] for node in nodes) == {"15min": 96, "1h": 24, "6h": 4, "1d": 1}
    for node in nodes:
        if node["status"] == "released":
            assert set(node) == FIELDS | {"values"}
            assert type(node["values"]["crossings"]) is int
            (noise,) = node["noise"]
            assert set(noise) == {"of", "unit", "mechanism", "sigma", "rho_micro"}
            assert (noise["of"], noise["unit"], noise["mechanism"]) == ("crossings", "1", "discrete_gaussian")
            assert noise["sigma"] > 0 and noise["rho_micro"] > 0
        else:
            assert set(node) == FIELDS | {"reason"}
            assert (node["reason"], node["noise"]) == ("sensor_absent", [])
        assert (node["gateway"], node["site"], node["stream"]) == ("gw-replay", "plaza", "plaza/footfall")
        assert node["policy"].startswith("sha256:") and len(node["policy"]) == 71
        assert node["covered"] == [node["start"], node["end"]]
    found = by_key(nodes)
    assert found["6h", "2026-03-02T11:00:00Z"]["status"] == "withheld"
    assert found["1d", "2026-03-01T23:00:00Z"]["present"] == 15
    assert [node["seq"] for node in nodes] == sorted(node["seq"] for node in nodes)


def test_levels_are_printed_with_their_histogram_and_what_follows_from_it(here: Replay, without_noise: None) -> None:
    """Each indicator has its entry in `noise`, and what is derived stands apart."""
    here.write_readings((START_S + n * 60, "mast", "laeq_1min", 50 + n % 20) for n in range(24 * 60))
    day = next(node for node in here.nodes(stream="noise") if node["node"] == "1d")
    assert set(day["values"]) == {"histogram_s", "histogram_edges_db", "level_db_mean", "energy_mean"}
    assert [entry["of"] for entry in day["noise"]] == ["histogram_s", "level_db_mean", "energy_mean"]
    assert [entry["unit"] for entry in day["noise"]] == ["s", "dB", "1"]
    assert set(day["derived"]) == {"l10_db", "l50_db", "l90_db", "laeq_db", "share_over_65_db"}
    assert day["values"]["level_db_mean"] == 59.5
    assert sum(day["values"]["histogram_s"]) == DAY_S
    assert day["values"]["histogram_s"][3:7] == [DAY_S / 4] * 4
    assert day["derived"]["share_over_65_db"] == 0.25


def test_dust_is_printed_as_a_mean(here: Replay, without_noise: None) -> None:
    """Clamped to the bounds, divided by the covered slots; slots that brought nothing count as the middle."""
    minutes = [n for n in range(120) if n < 60 or n >= 80]
    here.write_readings((START_S + n * 60, "lab", "pm2_5", 10.4 if n % 2 else 180) for n in minutes)
    first, second = here.nodes(stream="pm2_5")
    assert (first["values"], first["present"]) == ({"pm2_5_ug_m3": 55.2}, 20)
    # The row before the hole is held for a minute and a half: one slot more begins in that.
    assert second["present"] == 20 * 41 // 60
    assert second["values"] == {"pm2_5_ug_m3": round((40 * 55.2 + 10.4 + 19 * 50) / 60, 6)}


def test_the_summary_can_be_json_and_the_nodes_can_go_to_stdout(here: Replay) -> None:
    """With `--out -` stdout has nodes only, with `--json` the summary is one object."""
    here.write_readings([*counts(START_S, START_S + HOUR_S), (START_S, "gate", "rain", 1)])
    done = here.run("--json")
    assert json.loads(done.stdout) == {"nodes": 5, "released": 5, "drawn": 5}
    assert here.run().stdout.endswith("ignored in the recording: rain\n")
    stdout = here.run("--out", "-", "--json")
    assert [json.loads(line)["node"] for line in stdout.stdout.splitlines()].count("15min") == 4
    assert json.loads(stdout.stderr)["nodes"] == 5


# --- time ------------------------------------------------------------------------------------------------------------


def test_it_boots_at_the_first_row_and_drops_what_is_open_at_the_end(here: Replay, without_noise: None) -> None:
    """From 10:05 on: nodes are covered from 10:15, and the day that the recording does not finish is not printed."""
    first_s = START_S + 10 * HOUR_S + 300
    here.write_readings(counts(first_s, START_S + 20 * HOUR_S))
    nodes = here.nodes()
    found = by_key(nodes)
    assert found["1h", utc(START_S + 10 * HOUR_S)]["covered"] == [
        utc(START_S + 10 * HOUR_S + 900),
        utc(START_S + 11 * HOUR_S),
    ]
    assert found["1h", utc(START_S + 10 * HOUR_S)]["values"] == {"crossings": 9 * 5}
    assert found["6h", utc(START_S + 6 * HOUR_S)]["values"] == {"crossings": 21 * 5}
    assert max(node["end"] for node in nodes) == utc(START_S + 20 * HOUR_S)
    assert not [node for node in nodes if node["node"] == "1d"]


def test_in_and_out_are_added(here: Replay, without_noise: None) -> None:
    """Who goes in crosses and who comes out crosses; an instant that only one of them has counts as well."""
    rows: list[tuple[int, str, str, object]] = [
        (at_s, "gate", metric, 2) for at_s in range(START_S, START_S + HOUR_S, 300) for metric in ("in", "out")
    ]
    here.write_readings([row for row in rows if row[1:3] != ("gate", "out") or row[0] != START_S])
    assert by_key(here.nodes())["1h", utc(START_S)]["values"] == {"crossings": 46}
    assert by_key(here.nodes("--metric", "in"))["1h", utc(START_S)]["values"] == {"crossings": 24}


def test_a_coarse_row_counts_where_it_starts(here: Replay, without_noise: None) -> None:
    """An hour's count stands in the quarter-hour in which the hour begins, and is spread over nothing."""
    here.write_readings(counts(START_S, START_S + DAY_S, 3600, 40))
    found = by_key(here.nodes())
    quarters = [found["15min", utc(START_S + n * 900)]["values"]["crossings"] for n in range(4)]
    assert quarters == [40, 0, 0, 0]
    assert found["1d", utc(START_S)]["values"] == {"crossings": 960}
    assert found["15min", utc(START_S + 900)]["present"] == 20


def test_a_coarse_level_is_held_and_a_hole_stays_a_hole(here: Replay, without_noise: None) -> None:
    """A row is held until the next one, at most 1.5 median steps; then nothing is present."""
    here.write_policy(noise_ms=900_000)
    rows = [(START_S + n * HOUR_S, "mast", "laeq_1h", 60) for n in range(24) if n not in (5, 6, 7)]
    here.write_readings(rows)
    found = by_key(here.nodes(stream="noise"))
    assert [found["1h", utc(START_S + n * HOUR_S)]["present"] for n in range(4, 9)] == [20, 10, 0, 0, 20]
    assert [found["1h", utc(START_S + n * HOUR_S)]["status"] for n in (5, 6)] == ["released", "withheld"]
    assert found["1h", utc(START_S + 4 * HOUR_S)]["values"]["level_db_mean"] == 60
    assert found["1d", utc(START_S)]["present"] == 20 * (21 * 4 + 2) // 96


@pytest.mark.parametrize(("options", "first"), [((), "2026-03-01T23:00:00Z"), (("--dates",), "2026-03-02T23:00:00Z")])
def test_validity_is_judged_with_dates_only(here: Replay, options: tuple[str, ...], first: str) -> None:
    """A policy valid from the second day on: a replay ignores that unless it is asked not to."""
    here.write_policy(valid_from="2026-03-03")
    here.write_readings(counts(START_S, START_S + 2 * DAY_S))
    assert here.run(*options).returncode == 0
    assert min(node["start"] for node in here.printed()) == first


def test_an_expired_policy_withholds_with_dates(here: Replay) -> None:
    """All nodes are withheld as `expired`, and nothing is charged."""
    at_s = parse_utc("2027-06-01T00:00:00Z")
    here.write_readings(counts(at_s, at_s + HOUR_S))
    assert here.run("--dates").returncode == 0
    assert {node.get("reason") for node in here.printed()} == {"expired"}
    assert here.run().returncode == 0
    assert {node["status"] for node in here.printed()} == {"released"}


# --- again -----------------------------------------------------------------------------------------------------------


def test_a_second_run_on_the_same_ledger_prints_the_same_and_draws_nothing(here: Replay) -> None:
    """The same bytes; and without a ledger other noise each time."""
    here.write_readings(counts(START_S, START_S + DAY_S))
    db = ("--db", str(here.folder / "gw.db"))
    assert json.loads(here.run(*db, "--json").stdout)["drawn"] == 125
    first = here.out.read_bytes()
    assert json.loads(here.run(*db, "--json").stdout) == {"nodes": 125, "released": 125, "drawn": 0}
    assert here.out.read_bytes() == first
    here.run()
    assert here.out.read_bytes() != first


def test_two_streams_can_share_a_ledger(here: Replay) -> None:
    """Each prints its own nodes, then and later; messages are numbered together."""
    db = ("--db", str(here.folder / "gw.db"))
    here.write_readings(counts(START_S, START_S + DAY_S))
    walked = here.nodes(*db)
    here.write_readings((START_S + n * 60, "mast", "laeq_1min", 60) for n in range(24 * 60))
    heard = here.nodes(*db, stream="noise")
    assert {node["stream"] for node in heard} == {"plaza/noise"}
    assert min(node["seq"] for node in heard) > max(node["seq"] for node in walked)
    here.write_readings(counts(START_S, START_S + DAY_S))
    assert here.nodes(*db) == walked


def test_killed_in_the_middle_and_run_again_no_node_has_two_values(here: Replay) -> None:
    """kill -9 at any moment: what was committed is printed again as it was, the rest follows."""
    here.write_readings(counts(START_S, START_S + 4 * DAY_S))
    db = here.folder / "gw.db"
    known: dict[tuple[str, str], Any] = {}
    for lines in (5, 250):
        process = subprocess.Popen(here.command("--db", str(db)), stdout=subprocess.DEVNULL)
        patience = time.monotonic() + 60
        while process.poll() is None and charged(db) < lines and time.monotonic() < patience:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        for key, value in committed(here, db).items():
            assert known.setdefault(key, value) == value
    assert here.run("--db", str(db)).returncode == 0
    nodes = here.printed()
    values = {(node["node"], node["start"]): node.get("values") for node in nodes}
    assert len(values) == len(nodes)
    assert known.items() <= values.items()
    assert len([node for node in nodes if node["node"] == "15min"]) == 4 * 96
    assert here.run("--db", str(db)).returncode == 0
    assert here.printed() == nodes


def charged(db: Path) -> int:
    try:
        with sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True, timeout=0.1) as connection:
            return int(connection.execute("SELECT count(*) FROM charges").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def committed(here: Replay, db: Path) -> dict[tuple[str, str], Any]:
    """What a run with one row only prints: all that is stored."""
    whole = (here.folder / "readings.csv").read_bytes()
    here.write_readings(counts(START_S, START_S + 300))
    nodes = here.nodes("--db", str(db))
    (here.folder / "readings.csv").write_bytes(whole)
    return {(node["node"], node["start"]): node.get("values") for node in nodes}


def test_ctrl_c_and_sigterm_end_it_cleanly(here: Replay) -> None:
    """Status 0, nothing said, and what was committed stays."""
    here.write_readings(counts(START_S, START_S + 200 * DAY_S))
    for number, name in ((signal.SIGTERM, "term.db"), (signal.SIGINT, "int.db")):
        db = here.folder / name
        process = subprocess.Popen(here.command("--db", str(db)), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        while process.poll() is None and charged(db) < 5:
            time.sleep(0.005)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, b"", b"")
        assert charged(db) >= 5


def test_a_full_disk_ends_it_with_one_line(here: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that could not be committed are not passed over in silence, and a later run has them all."""
    here.write_readings(counts(START_S, START_S + DAY_S))
    db = ("--db", str(here.folder / "gw.db"))

    def open_small(path: Path) -> GatewayDb:
        opened = GatewayDb.open(path)
        opened._db.execute("PRAGMA max_page_count = 14")
        return opened

    with monkeypatch.context() as patch:
        patch.setattr(replay, "GatewayDb", SimpleNamespace(open=open_small))
        with pytest.raises(MurmureError, match=r"gw\.db: no room on the disk; make room and run it again") as caught:
            here.nodes(*db)
    assert caught.value.exit_status == 1
    written = by_key(here.printed())
    assert 0 < len(written) < 125
    whole = by_key(here.nodes(*db))
    assert Counter(level for level, _ in whole) == {"15min": 96, "1h": 24, "6h": 4, "1d": 1}
    assert {key: whole[key] for key in written} == written


# --- choosing --------------------------------------------------------------------------------------------------------


def test_a_recording_of_several_sites_needs_a_site(here: Replay) -> None:
    """One line that names them; with one of them it runs."""
    here.write_readings([*counts(START_S, START_S + HOUR_S), (START_S, "door", "pedestrians", 1)])
    assert "readings.csv: site: 2 sites; add --site with one of door, gate\n" in here.refused()
    assert "site: 'moon' is not there; write one of door, gate\n" in here.refused("--site", "moon")
    assert here.run("--site", "gate").returncode == 0


def test_a_metric_that_is_not_there_is_refused(here: Replay) -> None:
    """Named on the command line, or not fit for the stream's quantity."""
    here.write_readings(counts(START_S, START_S + HOUR_S))
    assert "metric: 'laeq_1s' is not there; write one of pedestrians\n" in here.refused("--metric", "laeq_1s")
    assert "metric: nothing for noise among pedestrians; " in here.refused(stream="noise")


def test_a_gzipped_recording_is_read_whatever_its_name(here: Replay, without_noise: None) -> None:
    """The first two bytes say what it is."""
    rows = counts(START_S, START_S + HOUR_S)
    here.write_readings(rows)
    plain = here.nodes()
    here.write_readings(rows, zipped=True)
    for one, other in zip(here.nodes(), plain, strict=True):
        assert one["values"] == other["values"]


def test_a_huge_value_is_held_within_reason(here: Replay, without_noise: None) -> None:
    """A number of a thousand digits is a number, and the bounds are the bounds."""
    here.write_readings((START_S + n * 60, "lab", "pm2_5", ("" if n else "-") + "9" * 1000) for n in range(60))
    (hour,) = here.nodes(stream="pm2_5")
    assert hour["values"]["pm2_5_ug_m3"] == round(59 * 100 / 60, 6)


def test_what_is_wrong_with_files_and_options_is_said_in_one_line(here: Replay) -> None:
    """Policy, recording, stream, output: each is named."""
    readings = here.write_readings(counts(START_S, START_S + HOUR_S))
    assert "policy.toml: stream: no 'plaza/rain'; write one of plaza/footfall, plaza/noise" in here.refused(
        stream="rain"
    )
    assert "nowhere.toml: file: No such file" in here.refused("--policy", str(here.folder / "nowhere.toml"))
    assert f"{here.folder}: file: Is a directory" in here.refused("--readings", str(here.folder))
    bad = here.folder / "bad.toml"
    bad.write_text("policy = 2\n")
    assert "bad.toml: policy: a format this version does not know; " in here.refused("--policy", str(bad))
    assert "where.jsonl: --out: No such file" in here.refused("--out", str(here.folder / "no" / "where.jsonl"))
    before = sorted(path.name for path in here.folder.iterdir())
    assert "readings.csv: --db: no ledger of a replay, or damaged; " in here.refused("--db", str(readings))
    assert "gw.db: --db: its folder is not there; " in here.refused("--db", str(here.folder / "no" / "gw.db"))
    assert sorted(path.name for path in here.folder.iterdir()) == before
    usage = subprocess.run(here.command()[:-2], capture_output=True, text=True, check=False)
    assert usage.returncode == 2 and "--out" in usage.stderr


def test_a_ledger_of_another_policy_is_refused(here: Replay) -> None:
    """What one policy has charged another does not go on with."""
    db = ("--db", str(here.folder / "gw.db"))
    here.write_readings(counts(START_S, START_S + HOUR_S))
    assert here.run(*db).returncode == 0
    here.write_policy(valid_from="2026-01-02")
    assert "policy: plaza/footfall was charged under another one; give a fresh --db" in here.refused(*db)


# --- the truth -------------------------------------------------------------------------------------------------------


def quarter_of(rows: dict[int, int], from_s: int, until_s: int) -> int:
    return sum(value for at_s, value in rows.items() if from_s <= at_s < until_s)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start_min=st.integers(0, 3 * 1440),
    step_min=st.sampled_from([1, 5, 15, 60]),
    values=st.lists(st.one_of(st.none(), st.integers(0, 300)), min_size=3, max_size=150),
)
def test_counts_are_those_of_the_rows(
    here: Replay, without_noise: None, start_min: int, step_min: int, values: list[int | None]
) -> None:
    """Without noise each node holds the sum of the rows that start in its covered part, and presence as defined."""
    first_s = START_S + start_min * 60
    rows = {first_s + n * step_min * 60: value for n, value in enumerate(values) if value is not None}
    if not rows:
        return
    here.write_readings((at_s, "gate", "pedestrians", value) for at_s, value in rows.items())
    instants = sorted(rows)
    steps = sorted(after - before for before, after in itertools.pairwise(instants))
    step_s = steps[(len(steps) - 1) // 2] if steps else 1
    end_s = instants[-1] + step_s
    alive: set[int] = set()
    for at_s, next_s in zip(instants, [*instants[1:], end_s], strict=True):
        alive.update(range(at_s, min(next_s, at_s + step_s * 3 // 2)))
    boot_s = -(-instants[0] // 900) * 900
    zone = ZoneInfo("Europe/Paris")
    for node in here.nodes():
        from_s, until_s = (parse_utc(instant) for instant in node["covered"])
        assert from_s == max(boot_s, parse_utc(node["start"])) and until_s <= end_s
        seconds = sum(at_s in alive for at_s in range(from_s, until_s))
        assert node["present"] == 20 * seconds // (until_s - from_s)
        if node["status"] == "released":
            assert node["values"]["crossings"] == quarter_of(rows, from_s, until_s)
        else:
            assert node["present"] < 10
        if node["node"] == "1d":
            assert datetime.fromtimestamp(parse_utc(node["start"]), zone).hour == 0


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(levels=st.lists(st.one_of(st.none(), st.integers(200, 1000)), min_size=60, max_size=130))
def test_levels_are_those_of_the_rows(here: Replay, without_noise: None, levels: list[int | None]) -> None:
    """Without noise mean, histogram and energy are those of clamped readings, with the constants for empty slots."""
    rows = {START_S + n * 60: level for n, level in enumerate(levels) if level is not None}
    if not rows:
        return
    here.write_readings((at_s, "mast", "laeq_1min", level / 10) for at_s, level in rows.items())
    instants = sorted(rows)
    steps = sorted(after - before for before, after in itertools.pairwise(instants))
    step_s = steps[(len(steps) - 1) // 2] if steps else 60
    boot_s = -(-instants[0] // 900) * 900
    for node in here.nodes(stream="noise"):
        if node["status"] != "released":
            continue
        from_s, until_s = max(boot_s, parse_utc(node["start"])), parse_utc(node["end"])
        slots: list[int | None] = [None] * ((until_s - from_s) // 60)
        for at_s, next_s in zip(instants, [*instants[1:], instants[-1] + step_s], strict=True):
            for slot_s in range(at_s, min(next_s, at_s + step_s * 3 // 2), 60):
                if from_s <= slot_s < until_s:
                    slots[(slot_s - from_s) // 60] = min(850, max(350, rows[at_s]))
        held = [600 if slot is None else slot for slot in slots]
        energy = [10 ** (3.5 if slot is None else slot / 100) for slot in slots]
        assert node["values"]["level_db_mean"] == pytest.approx(sum(held) / len(held) / 10, abs=1e-6)
        assert node["values"]["energy_mean"] == pytest.approx(sum(energy) / len(energy), rel=1e-3)
        bins = Counter(min((slot - 350) // 50, 9) for slot in held)
        assert node["values"]["histogram_s"] == [bins[n] * 60 for n in range(10)]


def recorded(path: Path, site: str, metrics: tuple[str, ...]) -> dict[int, float]:
    """The recording itself, read by other code than the gateway's."""
    rows: dict[int, float] = {}
    with gzip.open(path) as file:
        for row in csv.DictReader(io.TextIOWrapper(file, "utf-8")):
            if row["site"] == site and row["metric"] in metrics:
                at_s = int(datetime.fromisoformat(row["timestamp_utc"]).astimezone(UTC).timestamp())
                rows[at_s] = rows.get(at_s, 0) + float(row["value"])
    return rows


@pytest.mark.shared
def test_a_recorded_station_gives_daily_totals_within_the_noise(here: Replay, shared: Path) -> None:
    """A week of real counts: every released figure lies within six sigma of the recording, and none is exact."""
    site = "zurich-hardbruecke-ost-nord"
    truth = recorded(shared / "data/footfall/zurich_hardbruecke_5min_2020-01_02.csv.gz", site, ("in", "out"))
    until_s = min(truth) + 7 * DAY_S
    truth = {at_s: value for at_s, value in truth.items() if at_s < until_s}
    here.write_readings((at_s, "gate", "pedestrians", int(value)) for at_s, value in sorted(truth.items()))
    released = [node for node in here.nodes() if node["status"] == "released"]
    off = []
    for node in released:
        from_s, end_s = (parse_utc(instant) for instant in node["covered"])
        want = sum(value for at_s, value in truth.items() if from_s <= at_s < end_s)
        off.append((node["values"]["crossings"] - want) / node["noise"][0]["sigma"])
    assert sum(node["node"] == "1d" for node in released) >= 5
    assert max(map(abs, off)) < SIGMAS
    # The mean square of n standard normals is 1 give or take sqrt(2 / n).
    assert abs(sum(x * x for x in off) / len(off) - 1) < SIGMAS * (2 / len(off)) ** 0.5


@pytest.mark.shared
def test_a_recorded_noise_monitor_gives_hourly_levels_within_the_noise(here: Replay, shared: Path) -> None:
    """Half a day of one level a second, from the file as it is."""
    source = shared / "data/noise/monitor_m1_laeq1s_2025-03-22_am.csv.gz"
    truth = recorded(source, "monitor-m1", ("laeq_1s",))
    here.write_policy(noise_ms=1000)
    (here.folder / "readings.csv").write_bytes(source.read_bytes())
    nodes = here.nodes(stream="noise")
    assert len(nodes) >= 11
    for node in nodes:
        from_s, end_s = (parse_utc(instant) for instant in node["covered"])
        held = [min(85.0, max(35.0, truth[at_s])) for at_s in range(from_s, end_s)]
        sigma = next(entry["sigma"] for entry in node["noise"] if entry["of"] == "level_db_mean")
        assert abs(node["values"]["level_db_mean"] - sum(held) / len(held)) < SIGMAS * sigma
