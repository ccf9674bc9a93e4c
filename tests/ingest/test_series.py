"""What `ingest series` prints from the index is what was signed, in the units of contract 5."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from murmure.cli import main
from murmure_ingest.archive import Archive
from murmure_ingest.series_cli import printed
from murmure_privacy import wire
from murmure_privacy.published import node_json
from murmure_privacy.wire import LEVEL_CODES

DUMP = Path(__file__).with_name("archives") / "v6.sql"
FROM, TO = "2026-11-23T00:00:00Z", "2026-11-23T01:00:00Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive with counts, levels and means, of any size and sign, that an earlier version has filed."""
    path = tmp_path / "archive.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(DUMP.read_text("utf-8"))
    Archive.open(path).close()
    return path


def as_signed(archive: Archive, stream: str, level: str) -> list[dict[str, Any]]:
    return [
        node_json(message, outcome)
        for message in opened(archive)
        for outcome in message.outcomes
        if (outcome.node.stream, outcome.node.level) == (stream, level)
    ]


def opened(archive: Archive) -> list[Any]:
    lines = {line.id: line.record_key for line in archive.enrolment_lines()}
    filed = [m for m in archive.messages() if m.disposition == "filed"]
    return [wire.open_message(m.sealed or b"", lines[m.enrolment]) for m in filed]


def agrees(path: Path) -> None:
    archive = Archive.open(path, read_only=True)
    seen = 0
    for info in archive.streams():
        for level in LEVEL_CODES:
            signed = sorted(as_signed(archive, info.stream, level), key=lambda one: str(one["start"]))
            told = list(printed(archive, info.stream, info.quantity, level, 0, 1 << 40))
            assert len(told) == len(signed)
            for one, node in zip(told, signed, strict=True):
                assert {key: one[key] for key in ("start", "end", "present", "policy")} == {
                    key: node[key] for key in ("start", "end", "present", "policy")
                }
                assert one["covered_from"] == node["covered"][0] and one["reason"] == node.get("reason")
                assert one["values"] == {k: v for k, v in node.get("values", {}).items() if k != "histogram_edges_db"}
                assert [{**noise, "mechanism": "discrete_gaussian"} for noise in one["noise"]] == node["noise"]
                seen += 1
    assert seen == archive.node_count() > 30
    archive.close()


def test_what_is_printed_is_what_was_signed(path: Path) -> None:
    """Every node of every stream: instants, presence, values, noise, reason and policy."""
    agrees(path)


def test_a_changed_integer_is_seen_beside_what_was_signed(path: Path) -> None:
    """The twin: an index that says otherwise does not agree."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TRIGGER nodes_no_update")
        db.execute("UPDATE nodes SET integers = x'08' WHERE integers = x'07'")
        db.commit()
    with pytest.raises(AssertionError):
        agrees(path)


def test_the_command_prints_csv_and_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each indicator, or an object for each node; a span is half-open."""
    asked = ["ingest", "series", "c/footfall", "--archive", str(path), "--node", "15min"]
    assert main(asked) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["value"], row["reason"]) for row in rows][:4] == [
        ("-3", ""),
        ("200", ""),
        ("7", ""),
        ("", "sensor_absent"),
    ]
    assert main([*asked, "--from", FROM, "--to", "2026-11-23T00:30:00Z", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["values"] for one in told] == [{"crossings": -3}, {"crossings": 200}]
    assert main(["ingest", "series", "c/noise", "--archive", str(path), "--from", FROM, "--to", TO]) == 0
    names = [row["indicator"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert names == ["histogram_s", "level_db_mean", "energy_mean"]


def test_a_question_opens_no_message_and_reads_its_own_rows_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes it fast, seen without a clock: no signature, and one range of the tree of nodes."""
    archive, asked = Archive.open(path, read_only=True), list[str]()
    monkeypatch.setattr(wire, "open_message", lambda *_: pytest.fail("a message was opened"))
    archive._db.set_trace_callback(asked.append)
    assert len(archive.nodes("c/footfall", "15min", 0, 1 << 40)) == 6
    archive._db.set_trace_callback(None)
    plans = [row[3] for question in asked for row in archive._db.execute(f"EXPLAIN QUERY PLAN {question}")]
    nodes = "SEARCH nodes USING PRIMARY KEY (stream=? AND level=? AND start_s>? AND start_s<?)"
    assert plans[0] == nodes and {plan.partition(" (")[0] for plan in plans[1:]} == {
        "SEARCH scales USING INTEGER PRIMARY KEY"
    }
    assert len(plans) == 1 + 3, "a scale is looked up once for each length of integers: here 1, 2 and 8 bytes"
    with pytest.raises(pytest.fail.Exception):
        archive.outcomes("c/footfall", 0, 1 << 40)
    archive.close()


@pytest.mark.parametrize(
    ("stream", "more", "said"),
    [
        ("c/nothing", [], "the archive has no such stream"),
        ("c/footfall", ["--node", "1s"], "write one of 15min, 1h"),
        ("c/footfall", ["--from", "yesterday"], "write 2026-11-21T00:00:00Z"),
    ],
)
def test_a_wrong_question_is_answered_in_one_line(
    path: Path, capsys: pytest.CaptureFixture[str], stream: str, more: list[str], said: str
) -> None:
    """And with status 2."""
    assert main(["ingest", "series", stream, "--archive", str(path), *more]) == 2
    told = capsys.readouterr()
    assert said in told.err and told.err.count("\n") == 1 and told.out == ""


def test_damaged_integers_are_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be no integers of ours, or has no scale, is damage, not a figure."""
    for change in ("integers = x'070707' WHERE integers IS NOT NULL", "scale = 99"):
        with closing(sqlite3.connect(path)) as db:
            db.execute("DROP TRIGGER IF EXISTS nodes_no_update")
            db.execute(f"UPDATE nodes SET {change}")
            db.commit()
        assert main(["ingest", "series", "c/footfall", "--archive", str(path), "--node", "15min"]) == 1
        assert "the file is damaged" in capsys.readouterr().err
