"""The store: it only grows, keeps a batch whole or not at all, and says in one line what is wrong with its file."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from murmure_ingest.archive import Archive, ArchiveDamaged, ArchiveError, ArchiveFull, charge_of
from murmure_ingest.gateways import publish_policy
from murmure_ingest.intake import Intake, Stored
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.errors import ConfigError
from murmure_privacy.wire import LEVEL_CODES

MONDAY_S = 1_795_392_000
DAY_S = 86_400


def spent(gateway: Any, *numbers: int) -> list[tuple[str, int, int, int]]:
    """What the gateway's messages with these indices cost, each node for itself."""
    return sorted(
        (outcome.node.stream, outcome.node.covered_from_s, outcome.node.end_s, charge_of(outcome))
        for number in numbers
        for outcome in wire.open_message(gateway.sealed[number], wire.public_key(gateway.secret)).outcomes
        if charge_of(outcome)
    )


def test_what_was_put_aside_was_spent_all_the_same(centre: Any) -> None:
    """Signed, charged and sent: what came under an unknown policy, after a fork, as a second message of a number or of
    a node counts as what is filed does, each message once, and only at its own site."""
    gateway, other = centre.gateway(published=False), centre.gateway("gw-other", "other")
    centre.accept(other.topic, other.seal(MONDAY_S + 900))
    centre.intake.accept_many(gateway.history(2))
    assert sorted(centre.archive.charges("plaza", 0)) == spent(gateway, 0, 1), "it waits for its policy"
    publish_policy(centre.archive, centre.signed(gateway.policy))
    centre.intake.reconsider()
    assert sorted(centre.archive.charges("plaza", 0)) == spent(gateway, 0, 1), "it is filed"
    centre.accept(gateway.topic, gateway.seal(MONDAY_S + 1800))
    assert sorted(centre.archive.charges("plaza", 0)) == spent(gateway, 0, 1, 2), "it has a node again"
    centre.accept(gateway.topic, gateway.seal(MONDAY_S + 3600, seq=2))
    centre.accept(gateway.topic, gateway.seal(MONDAY_S + 4500))
    assert centre.archive.cloned("gw-plaza")
    assert sorted(centre.archive.charges("plaza", 0)) == spent(gateway, 0, 1, 2, 3, 4)
    assert sorted(centre.archive.charges("plaza", MONDAY_S + 3600)) == [
        line for line in spent(gateway, 0, 1, 2, 3, 4) if line[2] > MONDAY_S + 3600
    ]
    assert sorted(centre.archive.charges("other", 0)) == spent(other, 0)
    line = centre.archive.enrolment("gw-plaza")
    with centre.archive.transaction():
        centre.archive.enrol(replace(line, record_key=wire.new_key()[1]))
    assert sorted(centre.archive.charges("plaza", 0)) == spent(gateway, 0, 1, 2, 3, 4), "under a new key, too"


def test_what_is_found_to_have_its_node_later_counts_once(centre: Any) -> None:
    """It waited for a policy, and became evidence when that came: the same message lies in two tables."""
    gateway = centre.gateway(published=False)
    gateway.seal(MONDAY_S + 900)
    gateway.seal(MONDAY_S + 900)
    centre.intake.accept_many([(gateway.topic, sealed) for sealed in gateway.sealed])
    publish_policy(centre.archive, centre.signed(gateway.policy))
    assert [getattr(word, "reason", "filed") for word in centre.intake.reconsider()] == ["filed", "node_conflict"]
    assert sorted(centre.archive.charges("plaza", 0)) == spent(gateway, 0, 1)


def test_a_thief_carries_no_stream_of_another_site(centre: Any) -> None:
    """Evidence is judged by nobody: what it says of another place, or for another site, is no spending of this one."""
    gateway, other = centre.gateway(), centre.gateway("gw-other", "other")
    centre.accept(gateway.topic, gateway.seal(MONDAY_S + 900))
    for changes, reason in (
        ({"outcomes": other.outcomes(MONDAY_S + 900)}, "sequence_conflict"),
        ({"site": "other", "quartier": "nord"}, "wrong_site"),
    ):
        sealed = wire.seal_message(gateway.message(MONDAY_S + 1800, seq=1, **changes), gateway.secret)
        assert centre.accept(gateway.topic, sealed).reason == reason
    assert sorted(centre.archive.charges("plaza", 0)) == spent(gateway, 0)


def test_a_thief_carries_no_years_and_no_streams_without_number(centre: Any) -> None:
    """What no policy could have asked for was not spent under one: the next gateway is told of what can have been."""
    gateway = centre.gateway()
    centre.accept(gateway.topic, gateway.seal(MONDAY_S + 900))
    (honest,) = (outcome for outcome in gateway.outcomes(MONDAY_S + 1800) if outcome.node.level == "15min")
    named = [
        replace(honest, node=replace(honest.node, policy=bytes(32), stream=f"plaza/{number}")) for number in range(90)
    ]
    long = replace(honest, node=replace(honest.node, policy=bytes(32), end_s=1 << 32))
    for outcomes in (named[:30], named[30:60], named[60:], [long]):
        sealed = gateway.seal(MONDAY_S + 1800, outcomes=tuple(outcomes))
        assert centre.accept(gateway.topic, sealed).reason == "unknown_policy"
    charges = sorted(centre.archive.charges("plaza", 0))
    assert len({stream for stream, *_ in charges} | centre.archive.streams_of("plaza")) == 60
    assert "plaza/footfall" in {stream for stream, *_ in charges}
    assert max(end_s for _, _, end_s, _ in charges) == MONDAY_S + 1800


@pytest.mark.parametrize("table", ["enrolments", "policies", "messages", "amendments", "nodes", "conflicts"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET rowid = rowid + 1"])
def test_rows_are_never_changed_nor_deleted(centre: Any, table: str, statement: str) -> None:
    """Whoever opens the file with another program is refused by the file itself."""
    gateway = centre.gateway(published=False)
    centre.intake.accept_many(gateway.history(4))
    publish_policy(centre.archive, centre.signed(gateway.policy))
    assert len(centre.intake.reconsider()) == 4
    centre.intake.accept_many([(gateway.topic, gateway.seal(MONDAY_S, seq=1))])
    if table == "nodes":
        statement = statement.replace("rowid", "place")
    with sqlite3.connect(centre.config.archive) as db, pytest.raises(sqlite3.IntegrityError, match="only grows"):
        db.execute(statement.format(table))


def test_outcomes_are_those_that_touch_the_span_by_end_then_level(centre: Any) -> None:
    """[from, to) is half-open; nodes come by their end, shorter levels first."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(96))
    everything = centre.archive.outcomes("plaza/footfall", 0, 1 << 40)
    keys = [(o.node.end_s, LEVEL_CODES.index(o.node.level)) for o in everything]
    assert keys == sorted(keys)
    assert {o.node.level for o in everything} == {"15min", "1h", "6h", "1d"}
    quarter = centre.archive.outcomes("plaza/footfall", MONDAY_S + 900, MONDAY_S + 1800)
    assert [(o.node.level, o.node.start_s - MONDAY_S) for o in quarter] == [
        ("15min", 900),
        ("1h", 0),
        ("6h", -3600),
    ] + [("1d", -3600)] * (len(quarter) - 3)
    assert centre.archive.outcomes("plaza/footfall", MONDAY_S + 900, MONDAY_S + 900) == []
    assert centre.archive.outcomes("plaza/nothing", 0, 1 << 40) == []


def test_streams_name_who_spoke_last(centre: Any) -> None:
    """A gateway that replaces another becomes the one that the stream is listed under."""
    first = centre.gateway("gw-a")
    centre.intake.accept_many(first.history(4))
    second = centre.gateway("gw-b", published=False)
    second.policy = first.policy
    centre.accept(second.topic, second.seal(MONDAY_S + DAY_S))
    assert [(s.stream, s.gateway, s.site, s.quartier, s.quantity) for s in centre.archive.streams()] == [
        ("plaza/footfall", "gw-b", "plaza", "centre", "footfall"),
        ("plaza/pm2_5", "gw-b", "plaza", "centre", "pm2_5"),
    ]


def test_a_reader_reads_while_the_writer_writes(centre: Any) -> None:
    """A read-only archive follows the file and can change nothing."""
    gateway = centre.gateway()
    reader = Archive.open(centre.config.archive, read_only=True)
    mark = reader.change_mark()
    centre.intake.accept_many(gateway.history(4))
    assert reader.change_mark() != mark
    assert replace(centre, archive=reader).content() == centre.content()
    assert reader.policy(next(iter(reader.policies())).hash) == gateway.policy
    with pytest.raises(ArchiveError, match="readonly"), reader.transaction():
        reader.count("visitors")
    reader.close()


def test_a_reader_needs_no_right_to_write(make_centre: Any) -> None:
    """An archive at rest is read by another user, in a folder where that user can make nothing."""
    with TemporaryDirectory() as folder:
        centre = make_centre(Path(folder))
        centre.gateway()
        centre.archive.close()
        for path in (Path(folder), centre.config.data_dir):
            path.chmod(0o555)
        child = os.fork()
        if child == 0:
            if os.geteuid() == 0:
                os.setuid(65534)
            try:
                os._exit(len(Archive.open(centre.config.archive, read_only=True).enrolments()))
            except BaseException:
                os._exit(99)
        _, status = os.waitpid(child, 0)
        for path in (Path(folder), centre.config.data_dir):
            path.chmod(0o755)
        assert os.waitstatus_to_exitcode(status) == 1


def test_a_file_that_is_no_archive_is_named_in_one_line(tmp_path: Path) -> None:
    """Missing, foreign, newer or text files are refused before anything is read from them, and are left alone."""
    with pytest.raises(ConfigError, match="there is no such file"):
        Archive.open(tmp_path / "none.db", read_only=True)
    with pytest.raises(ConfigError, match="there is no such folder"):
        Archive.open(tmp_path / "none" / "archive.db")
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE recipes (name)")
    for read_only in (True, False):
        with pytest.raises(ConfigError, match="not an archive of Murmure"):
            Archive.open(foreign, read_only=read_only)
    newer = tmp_path / "newer.db"
    Archive.open(newer).close()
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="another version"):
        Archive.open(newer)
    text = tmp_path / "text.db"
    text.write_text("Dear archive, " * 100)
    with pytest.raises(ArchiveDamaged, match=r"^[^\n]*the file is damaged[^\n]*$"):
        Archive.open(text)
    assert text.read_text().startswith("Dear archive")


def test_a_damaged_file_stops_the_writer_at_the_door(centre: Any) -> None:
    """Pages overwritten on the disk are found before a centre begins to write, in one line."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(96))
    centre.archive.require_sound()
    centre.archive.close()
    size = centre.config.archive.stat().st_size
    with centre.config.archive.open("r+b") as file:
        for page in range(8, size // 4096, 2):
            file.seek(page * 4096)
            file.write(os.urandom(2048))
    with pytest.raises(ArchiveDamaged, match=r"^[^\n]*restore it from a backup[^\n]*$"):
        Archive.open(centre.config.archive).require_sound()


def test_bytes_changed_by_another_program_are_not_believed(centre: Any) -> None:
    """A reader opens what it shows with the gateway's key: an edited message is damage, not news."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(2))
    with sqlite3.connect(centre.config.archive) as db:
        db.execute("DROP TRIGGER messages_no_update")
        db.execute(
            "UPDATE messages SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || x'ff' AS BLOB) WHERE seq = 1"
        )
    db.close()
    reader = Archive.open(centre.config.archive, read_only=True)
    with pytest.raises(ArchiveDamaged, match="message 1: bad_signature"):
        reader.outcomes("plaza/footfall", 0, 1 << 40)
    reader.close()


def test_a_full_file_keeps_nothing_of_the_batch(centre: Any) -> None:
    """At SQLite's own limit the batch is refused in one line; with room again it goes through."""
    gateway = centre.gateway()
    history = gateway.history(96)
    centre.intake.accept_many(history[:8])
    before = centre.content()
    pages = centre.archive._pragma("page_count")
    centre.archive._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(ArchiveFull, match=r"^[^\n]*the disk is full[^\n]*$"):
        centre.intake.accept_many(history)
    assert centre.content() == before
    centre.archive._db.execute("PRAGMA max_page_count = 1000000")
    assert [type(word) for word in centre.intake.accept_many(history[8:])] == [Stored] * 88


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB. Skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_keeps_nothing_of_the_batch(small_disk: Path, make_centre: Any) -> None:
    """On a real full disk: one line, nothing half-written, and everything is filed once there is room."""
    filler = small_disk / "filler"
    centre = make_centre(small_disk)
    gateway = centre.gateway()
    history = gateway.history(60)
    centre.intake.accept_many(history[:4])
    before = centre.content()
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    with pytest.raises(ArchiveFull, match=r"^[^\n]*make room[^\n]*$"):
        centre.intake.accept_many(history)
    assert centre.content() == before
    centre.archive.close()
    filler.unlink()
    archive = Archive.open(centre.config.archive)
    assert replace(centre, archive=archive).content() == before
    words = Intake(archive, RuleBook(archive), lambda: 1 << 40).accept_many(history[:12])
    assert sum(isinstance(word, Stored) for word in words) == 8
    archive.close()


def test_a_killed_writer_leaves_whole_batches(centre: Any) -> None:
    """The file as it lies on the disk in the middle of a transaction opens as it was before that transaction."""
    gateway = centre.gateway()
    history = gateway.history(8)
    centre.intake.accept_many(history[:4])
    before = centre.content()
    with pytest.raises(KeyboardInterrupt), centre.archive.transaction():
        centre.intake.judge(map(centre.intake.open, history[4:]))
        copy = centre.folder / "copy"
        shutil.copytree(centre.config.data_dir, copy)
        raise KeyboardInterrupt
    assert centre.content() == before
    archive = Archive.open(copy / "archive.db")
    assert replace(centre, archive=archive).content() == before
    archive.close()
