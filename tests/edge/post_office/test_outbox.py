"""The outbox folder: a copy of the table, whole files only, never a reason to stop."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from murmure_edge import outbox
from murmure_edge.outbox import Outbox, materialise, name_of, remove, seq_of, sync


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def expected(rows: dict[int, bytes]) -> dict[str, bytes]:
    return {name_of(seq): sealed for seq, sealed in rows.items()}


ROWS = {seq: b"message %d" % seq for seq in (3, 4, 5)}


def test_names_sort_as_messages_do():
    """Twelve digits: the order of names is the order of numbers; other names are no message."""
    seqs = [1, 9, 10, 99, 123_456_789_012]
    assert sorted(map(name_of, reversed(seqs))) == [name_of(seq) for seq in seqs]
    assert [seq_of(name_of(seq)) for seq in seqs] == seqs
    for name in ("health.cose", "1.cose", "000000000001.cose.tmp", ".000000000001.cose.tmp", "00000000000１.cose"):
        assert seq_of(name) is None


def test_a_message_is_there_whole_and_readable_for_the_group(gateway):
    """Mode 0640, the exact bytes, nothing beside."""
    before = os.umask(0o077)
    materialise(gateway.config.outbox, 7, b"sealed")
    os.umask(before)
    file = gateway.config.outbox / "000000000007.cose"
    assert content(gateway.config.outbox) == {file.name: b"sealed"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    remove(gateway.config.outbox, 7)
    remove(gateway.config.outbox, 7)
    assert content(gateway.config.outbox) == {}


def test_a_reader_never_sees_half_a_message(gateway, tmp_path):
    """However often the writer is killed, every *.cose is one of the whole messages."""
    code = (
        "import sys, pathlib\nfrom murmure_edge.outbox import materialise\n"
        "print(flush=True)\nfor n in range(10**9): materialise(pathlib.Path(sys.argv[1]), n % 5, bytes([n % 5]) * 4096)"
    )
    for round_ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(gateway.config.outbox)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.02 + 0.013 * round_)
            writer.send_signal(signal.SIGKILL)
        for path in gateway.config.outbox.glob("0*.cose"):
            assert path.read_bytes() == bytes([seq_of(path.name) or 0]) * 4096
    assert sync(gateway.config.outbox, ROWS) == []
    assert content(gateway.config.outbox) == expected(ROWS)


def test_start_makes_the_folder_equal_to_the_table(gateway, tmp_path):
    """Missing, altered, strange and dangerous things: after `sync` the folder is the table, and health stays."""
    folder = gateway.config.outbox
    secret = tmp_path / "secret"
    secret.write_bytes(b"do not touch")
    materialise(folder, 3, b"altered")
    materialise(folder, 2, b"settled long ago")
    (folder / name_of(4)).symlink_to(secret)
    (folder / "to-secret").symlink_to(secret)
    (folder / "nowhere").symlink_to("nowhere")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_bytes(b"x")
    (folder / "deep" / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / name_of(5))
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(folder / "socket"))
    (folder / ".000000000009.cose.tmp").write_bytes(b"half")
    with (folder / "000000000008.cose").open("wb") as huge:
        huge.truncate(1 << 40)
    (folder / "health.cose").write_bytes(b"health")
    assert sync(folder, ROWS) == []
    assert content(folder) == expected(ROWS) | {"health.cose": b"health"}
    assert secret.read_bytes() == b"do not touch"


def test_a_right_file_is_left_alone(gateway):
    """What is already right is not written again: a start costs a flash card nothing."""
    materialise(gateway.config.outbox, 3, ROWS[3])
    before = (gateway.config.outbox / name_of(3)).stat()
    sync(gateway.config.outbox, ROWS)
    after = (gateway.config.outbox / name_of(3)).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_directory_in_a_messages_place_gives_way(gateway):
    """Even a folder with the name of a message is removed at start."""
    (gateway.config.outbox / name_of(3) / "deep").mkdir(parents=True)
    assert sync(gateway.config.outbox, ROWS) == []
    assert content(gateway.config.outbox) == expected(ROWS)


def test_a_folder_that_is_a_link_or_gone_is_one_line_and_the_table_waits(gateway, tmp_path):
    """`sense` goes on without the folder, says so once, and makes everything good when it is back."""
    said: list[str] = []
    folder = gateway.config.outbox
    folder.rmdir()
    folder.symlink_to(tmp_path)
    box = Outbox(folder, said.append)
    box.start(ROWS)
    box.put(6, b"message 6")
    box.put_health(b"health")
    box.clear([3])
    box.retry(ROWS.get)
    assert len(said) == 1 and "gateway.db" in said[0] and box.owed == {4, 5, 6}
    folder.unlink()
    folder.mkdir()
    box.retry((ROWS | {6: b"message 6"}).get)
    assert content(folder) == {name_of(seq): b"message %d" % seq for seq in (4, 5, 6)}
    assert len(said) == 2 and box.owed == frozenset()


@pytest.fixture
def small_disk(gateway) -> Iterator[Path]:
    """The outbox on a disk of 64 KiB."""
    folder = gateway.config.outbox
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=2750", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_made_good_when_there_is_room(small_disk: Path):
    """ENOSPC loses nothing: the table is the truth, the line comes once, the folder follows when it can."""
    rows = {seq: bytes([seq]) * 4096 for seq in range(1, 40)}
    said: list[str] = []
    box = Outbox(small_disk, said.append)
    for seq in rows:
        box.put(seq, rows[seq])
    assert len(said) == 1 and "No space left" in said[0]
    first_owed = min(box.owed)
    assert box.owed == set(range(first_owed, 40)) and first_owed > 5
    whole = {name_of(seq): rows[seq] for seq in range(1, first_owed)}
    assert content(small_disk) == whole
    # While nothing is cleared a retry changes nothing, and says nothing.
    box.retry(rows.get)
    assert len(said) == 1 and content(small_disk) == whole
    settled = range(1, first_owed)
    box.clear(settled)
    box.retry({seq: rows[seq] for seq in rows if seq not in settled}.get)
    assert content(small_disk).keys() >= {name_of(first_owed), name_of(first_owed + 5)}
    box.clear(range(first_owed, 35))
    box.retry({seq: rows[seq] for seq in range(35, 40)}.get)
    assert content(small_disk) == {name_of(seq): rows[seq] for seq in range(35, 40)}
    assert len(said) == 2


def test_start_on_a_full_disk_owes_what_does_not_fit(small_disk: Path):
    """The oldest messages are there, the rest is owed."""
    rows = {seq: bytes([seq]) * 4096 for seq in range(1, 40)}
    said: list[str] = []
    box = Outbox(small_disk, said.append)
    box.start(rows)
    assert len(said) == 1 and box.owed and min(box.owed) > 5
    assert min(content(small_disk)) == name_of(1)


def test_what_is_owed_and_settled_meanwhile_is_forgotten(gateway):
    """A row that has gone from the table is no debt."""
    box = Outbox(gateway.config.outbox / "absent", lambda line: None)
    box.put(1, b"x")
    box.retry(lambda seq: None)
    assert box.owed == frozenset()


def test_a_health_report_replaces_the_last(gateway):
    """health.cose is one file; `outbox.sync` leaves it."""
    box = Outbox(gateway.config.outbox, pytest.fail)
    box.put_health(b"one")
    box.put_health(b"two")
    box.start({})
    assert content(gateway.config.outbox) == {outbox.HEALTH: b"two"}
