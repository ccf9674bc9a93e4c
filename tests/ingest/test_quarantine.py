"""Refused bytes are kept for a person to look at, within a bound, and nobody's rubbish drives out anybody else's."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from murmure_ingest import quarantine
from murmure_ingest.intake import Intake, Kept, Refused
from murmure_ingest.quarantine import KEPT_BYTES, RING_BYTES, RING_MESSAGES, Quarantine, items
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.release import Release

FIRST_S = 1_795_392_900
SMALL = 64 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quarantine.db"


@pytest.fixture
def keep(path: Path) -> Iterator[Quarantine]:
    """A quarantine whose clock goes on by a second at each call, and which must never complain."""
    said: list[str] = []
    clock = iter(range(FIRST_S, FIRST_S * 2))
    keep = Quarantine(path, lambda: datetime.fromtimestamp(next(clock), UTC), said.append)
    yield keep
    keep.close()
    assert said == []


def rubbish(number: int, reason: str = "malformed", gateway: str | None = None, length: int = 100) -> Kept:
    return Kept(reason, gateway, "murmure/v1/centre/gw-plaza/release", b"%08d" % number + bytes(length - 8))


def held(path: Path) -> dict[tuple[str, str], list[int]]:
    """Returns by reason and gateway the numbers of the rubbish that is kept."""
    found: dict[tuple[str, str], list[int]] = {}
    for one in items(path):
        found.setdefault((one.reason, one.gateway), []).append(int(one.bytes[:8]))
    return found


def test_what_was_refused_is_kept_as_it_came(centre: Any, path: Path) -> None:
    """Bytes, topic, reason and signer; what is filed, waits in the archive or is evidence there is not kept twice."""
    gateway = centre.gateway()
    keep = Quarantine(path, lambda: datetime.fromtimestamp(FIRST_S, UTC), print)
    intake = Intake(centre.archive, RuleBook(centre.archive), lambda: 1 << 40, keep)
    good = gateway.seal(FIRST_S)
    forged = good[:-1] + bytes([good[-1] ^ 1])
    (outcome,) = gateway.outcomes(FIRST_S + 900)
    assert isinstance(outcome, Release)
    dropped = Release(outcome.node, (outcome.noised[0].__class__("crossings", (7,), 1, 1),))
    wrong = gateway.seal(FIRST_S + 900, outcomes=(dropped,))
    other = wire.seal_message(gateway.message(FIRST_S + 900, seq=1, previous=bytes(32)), gateway.secret)
    for sealed in (good, good, forged, wrong, other):
        intake.accept(gateway.topic, sealed)
    intake.accept(None, b"")
    keep.close()
    assert [(one.reason, one.gateway, one.topic, one.bytes) for one in items(path)] == [
        ("bad_signature", "", gateway.topic, forged),
        ("not_in_policy", "gw-plaza", gateway.topic, wrong),
        ("malformed", "", None, b""),
    ]
    assert all(one.hash == wire.digest(one.bytes) and one.length == len(one.bytes) for one in items(path))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_ring_holds_so_many_and_the_oldest_go(path: Path, keep: Quarantine) -> None:
    """However many come, in one batch or in many."""
    for start in range(0, 5 * RING_MESSAGES, 37):
        keep([rubbish(number) for number in range(start, start + 37)])
    assert held(path) == {("malformed", ""): list(range(start + 37 - RING_MESSAGES, start + 37))}
    keep([rubbish(number) for number in range(10_000, 20_000)])
    assert held(path) == {("malformed", ""): list(range(20_000 - RING_MESSAGES, 20_000))}


def test_a_ring_holds_so_many_bytes(path: Path, keep: Quarantine) -> None:
    """Of a huge message the beginning is kept, with the length and the hash of the whole."""
    keep([rubbish(number, "oversized", length=1 << 20) for number in range(50)])
    kept = list(items(path))
    assert 1 < len(kept) < 50
    assert all(len(one.bytes) == KEPT_BYTES and one.length == 1 << 20 for one in kept)
    assert sum(len(one.bytes) for one in kept) <= RING_BYTES
    assert kept[-1].hash == wire.digest(rubbish(49, length=1 << 20).sealed)


def work_of(path: Path, batch: list[Kept]) -> int:
    """Returns how many steps of SQLite a batch takes; no clock is asked."""
    keep = Quarantine(path, lambda: datetime.fromtimestamp(FIRST_S, UTC), print)
    keep([rubbish(0, "bad_topic")])  # so that the file is open
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    assert keep._db is not None
    keep._db.set_progress_handler(step, 10)
    keep(batch)
    keep.close()
    return steps


def fill(path: Path) -> None:
    """Fills rings of many gateways."""
    keep = Quarantine(path, lambda: datetime.fromtimestamp(FIRST_S, UTC), print)
    for gateway in range(60):
        keep([rubbish(number, gateway=f"gw-{gateway}") for number in range(RING_MESSAGES)])
    keep.close()
    assert sum(1 for _ in items(path)) == 60 * RING_MESSAGES


def full_as_empty(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty.db", tmp_path / "full.db"
    fill(full)
    batch = [rubbish(number, "wrong_site", gateway=f"gw-{number}") for number in range(20)]
    assert work_of(full, batch) <= 3 * work_of(empty, batch)


def test_a_batch_costs_as_little_in_a_full_quarantine(tmp_path: Path) -> None:
    """Nothing is counted again: a flood of rubbish does not slow down the intake of the rest."""
    full_as_empty(tmp_path)


def test_counting_again_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin adds everything up at each batch."""
    monkeypatch.setattr(quarantine, "_trim", lambda db, *_: db.execute("SELECT sum(size) FROM refused").fetchone())
    with pytest.raises(AssertionError):
        full_as_empty(tmp_path)


def test_the_sums_are_those_of_the_rows(path: Path, keep: Quarantine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes, comes again, is driven out or is forgotten by another program; and in a file from before them."""
    monkeypatch.setattr(quarantine, "TOTAL_BYTES", SMALL)
    draw = random.Random(1)
    for _ in range(60):
        keep([rubbish(draw.randrange(400), draw.choice("ab"), draw.choice(["x", "y", None])) for _ in range(20)])
        with closing(sqlite3.connect(path)) as db:
            sums = db.execute("SELECT * FROM rings ORDER BY 1, 2").fetchall()
            rows = "SELECT reason, gateway, count(*), sum(size) FROM refused GROUP BY 1, 2 ORDER BY 1, 2"
            assert sums == db.execute(rows).fetchall()
            assert db.execute("SELECT * FROM whole").fetchall() == [(sum(row[3] for row in sums),)]
            assert sum(row[3] for row in sums) <= SMALL
            db.execute("DELETE FROM refused WHERE id % 7 = 0")
            db.commit()
    keep.close()
    with closing(sqlite3.connect(path)) as db:
        for name in (
            "TRIGGER refused_more",
            "TRIGGER refused_less",
            "INDEX refused_by_age",
            "TABLE rings",
            "TABLE whole",
        ):
            db.execute(f"DROP {name}")
        db.execute("PRAGMA user_version = 0")
        before = db.execute("SELECT count(*) FROM refused").fetchone()[0]
    keep([rubbish(1000)])
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT sum(messages) FROM rings").fetchone() == (before + 1,)


def test_the_same_again_is_counted_and_takes_no_place(path: Path, keep: Quarantine) -> None:
    """A replay drives nothing out."""
    keep([rubbish(0)])
    for _ in range(10):
        keep([rubbish(number) for number in range(1, 60)])
    assert {one.times for one in items(path)} == {1, 10}
    assert held(path) == {("malformed", ""): list(range(60))}


def test_nobody_drives_out_what_speaks_against_another(
    path: Path, keep: Quarantine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither strangers nor one of the gateways, with whatever they send: theirs gives way first."""
    monkeypatch.setattr(quarantine, "TOTAL_BYTES", SMALL)
    evidence = [rubbish(number, "not_in_policy", "gw-quiet") for number in range(5)]
    keep(evidence)
    source = random.Random(1)
    for number in range(100):
        reason, gateway = source.choice(
            [("malformed", None), ("bad_signature", None), ("oversized", None), ("not_in_policy", "gw-loud")]
        )
        keep([rubbish(1000 * number + n, reason, gateway, 4000) for n in range(source.randint(1, 60))])
    found = held(path)
    assert found["not_in_policy", "gw-quiet"] == list(range(5))
    assert len(found) == 5


def test_all_together_have_a_bound(path: Path, keep: Quarantine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rings, each within its own bound, stay within the bound of the file too, which gives its room back."""
    monkeypatch.setattr(quarantine, "TOTAL_BYTES", SMALL)
    largest = 0
    for number in range(400):
        keep([rubbish(number, "not_in_policy", f"gw-{number % 50}", length=3000)])
        largest = max(largest, path.stat().st_size)
    assert sum(len(one.bytes) for one in items(path)) <= SMALL
    keep.close()
    assert max(largest, path.stat().st_size) < 3 * SMALL


def test_a_quarantine_without_a_bound_is_found_out(
    path: Path, keep: Quarantine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twins: without the trimming of rings, and without the bound of all, the same floods are all kept."""
    monkeypatch.setattr(quarantine, "_trim", lambda *_: None)
    keep([rubbish(number) for number in range(60)])
    keep([rubbish(number) for number in range(60, 120)])
    assert len(held(path)["malformed", ""]) == 120
    monkeypatch.setattr(quarantine, "TOTAL_BYTES", 1 << 40)
    for number in range(100):
        keep([rubbish(number, "not_in_policy", f"gw-{number}", length=3000)])
    assert sum(len(one.bytes) for one in items(path)) > SMALL


@pytest.mark.parametrize("damage", ["a folder in its place", "rubbish in its place", "no room"])
def test_intake_goes_on_without_it(centre: Any, path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once, nothing else changes, and it keeps again when it can."""
    said: list[str] = []
    keep = Quarantine(path, lambda: datetime.fromtimestamp(FIRST_S, UTC), said.append)
    gateway, intake = centre.gateway(), Intake(centre.archive, RuleBook(centre.archive), lambda: 1 << 40, keep)
    if damage == "a folder in its place":
        path.mkdir()
    elif damage == "rubbish in its place":
        path.write_bytes(os.urandom(8192))
    else:
        monkeypatch.setattr(quarantine, "_SUMS", ("PRAGMA max_page_count = 1", *quarantine._SUMS))
    for _ in range(3):
        words = intake.accept_many([(gateway.topic, b"rubbish"), (gateway.topic, gateway.seal(FIRST_S))])
        assert isinstance(words[0], Refused)
        gateway.sealed.clear()
    assert isinstance(intake.accept(gateway.topic, b"rubbish"), Refused)
    assert centre.archive.counts()["stored"] == 1 and centre.refused()["malformed"] == 4
    assert len(said) == 1 and "refused bytes are not kept" in said[0]
    monkeypatch.undo()
    path.rmdir() if path.is_dir() else path.unlink()
    intake.accept(gateway.topic, b"rubbish")
    assert said[1:] == [f"{path}: quarantine: refused bytes are kept again"]
    assert [one.bytes for one in items(path)] == [b"rubbish"]
    keep.close()


def murmure(centre: Any, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "murmure.cli", "ingest", *words, "--config", centre.config.source]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_person_can_look_at_them(centre: Any, tmp_path: Path) -> None:
    """`status` counts by word and reason; `quarantine list`, `show` and `export` show the bytes, and of a message that
    a gateway has signed what it says of itself; figures are shown of none."""
    gateway = centre.gateway()
    keep = Quarantine(centre.config.quarantine, lambda: datetime.fromtimestamp(FIRST_S, UTC), print)
    intake = Intake(centre.archive, RuleBook(centre.archive), lambda: 1 << 40, keep)
    (outcome,) = gateway.outcomes(FIRST_S, value=7_777_777)
    assert isinstance(outcome, Release)
    bare = Release(outcome.node, tuple(type(n)(n.indicator, n.integers, 1, n.rho_micro) for n in outcome.noised))
    wrong = gateway.seal(FIRST_S, outcomes=(bare,))
    intake.accept_many([("evil\x1b[2J", b"\x1b[2Jrubbish"), (gateway.topic, wrong), (gateway.topic, b"\x1b[2Jrubbish")])
    keep.close()
    status = json.loads(murmure(centre, "status", "--json").stdout)
    assert (status["refused"], status["refused_bytes_kept"]) == ({"malformed": 2, "not_in_policy": 1}, 2)
    assert "refused    3 messages, malformed 2, not_in_policy 1" in murmure(centre, "status").stdout
    listed = json.loads(murmure(centre, "quarantine", "list", "--json").stdout)
    assert [(entry["reason"], entry["signed_by"], entry["times"]) for entry in listed] == [
        ("malformed", None, 2),
        ("not_in_policy", "gw-plaza", 1),
    ]
    shown = [murmure(centre, "quarantine", "show", str(entry["number"])) for entry in listed]
    assert [done.returncode for done in shown] == [0, 0]
    assert "\x1b" not in shown[0].stdout and "72 75 62 62" in shown[0].stdout
    assert "plaza/footfall 15min" in shown[1].stdout and "7777777" not in shown[1].stdout
    assert "plaza/footfall 15min" not in shown[0].stdout
    assert murmure(centre, "quarantine", "list", "--gateway", "gw-other").stdout == "nothing is kept\n"
    out = tmp_path / "wrong.cose"
    done = murmure(centre, "quarantine", "export", str(listed[1]["number"]), "--out", str(out))
    assert (done.returncode, out.read_bytes(), out.stat().st_mode & 0o777) == (0, wrong, 0o600)
    for words in (("export", str(listed[1]["number"]), "--out", str(out)), ("show", "99")):
        done = murmure(centre, "quarantine", *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_damaged_quarantine_is_said_in_one_line(centre: Any) -> None:
    """Whoever lists it is told to remove it."""
    centre.config.quarantine.write_bytes(os.urandom(8192))
    done = murmure(centre, "quarantine", "list")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "remove the file" in done.stderr
