"""The outbox folder: a copy of the table, whole files only, never a reason to stop."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from murmure_edge import outbox
from murmure_edge.outbox import Outbox, materialise, name_of, remove, seq_of


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
    box_of(gateway, ROWS).start(3, 5)
    assert content(gateway.config.outbox) == expected(ROWS)


def test_start_makes_the_folder_equal_to_the_table(gateway, tmp_path):
    """Missing, altered, strange and dangerous things: after a start the folder is the table, and health stays."""
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
    box_of(gateway, ROWS).start(3, 5)
    assert content(folder) == expected(ROWS) | {"health.cose": b"health"}
    assert secret.read_bytes() == b"do not touch"


def test_a_right_file_is_left_alone(gateway):
    """What is already right is not written again: a start costs a flash card nothing."""
    materialise(gateway.config.outbox, 3, ROWS[3])
    before = (gateway.config.outbox / name_of(3)).stat()
    box_of(gateway, ROWS).start(3, 5)
    after = (gateway.config.outbox / name_of(3)).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_directory_in_a_messages_place_gives_way(gateway):
    """Even a folder with the name of a message is removed at start."""
    (gateway.config.outbox / name_of(3) / "deep").mkdir(parents=True)
    box_of(gateway, ROWS).start(3, 5)
    assert content(gateway.config.outbox) == expected(ROWS)


def box_of(
    gateway: Any, rows: dict[int, bytes], say: Callable[[str], None] = pytest.fail, room: int = outbox.ROOM
) -> Outbox:
    return Outbox(gateway.config.outbox, say, rows.get, room)


def test_a_folder_that_is_a_link_or_gone_is_one_line_and_the_table_waits(gateway, tmp_path):
    """`sense` goes on without the folder, says so once, and makes everything good when it is back."""
    said: list[str] = []
    folder = gateway.config.outbox
    folder.rmdir()
    folder.symlink_to(tmp_path)
    rows = ROWS | {6: b"message 6"}
    box = box_of(gateway, rows, said.append)
    box.start(3, 5)
    box.put(6)
    box.put_health(b"health")
    box.settle(4, ())
    box.retry()
    assert len(said) == 1 and "gateway.db" in said[0] and box.owed == {4, 5, 6}
    folder.unlink()
    folder.mkdir()
    box.retry()
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
    box = Outbox(small_disk, said.append, rows.get)
    for seq in rows:
        box.put(seq)
    assert len(said) == 1 and "No space left" in said[0]
    first_owed = min(box.owed)
    assert box.owed == set(range(first_owed, 40)) and first_owed > 5
    whole = {name_of(seq): rows[seq] for seq in range(1, first_owed)}
    assert content(small_disk) == whole
    # While nothing is settled a retry changes nothing, and says nothing.
    box.retry()
    assert len(said) == 1 and content(small_disk) == whole
    box.settle(first_owed, ())
    assert content(small_disk).keys() >= {name_of(first_owed), name_of(first_owed + 5)}
    box.settle(35, ())
    assert content(small_disk) == {name_of(seq): rows[seq] for seq in range(35, 40)}
    assert len(said) == 2


def test_start_on_a_full_disk_owes_what_does_not_fit(small_disk: Path):
    """The oldest messages are there, the rest is owed."""
    rows = {seq: bytes([seq]) * 4096 for seq in range(1, 40)}
    said: list[str] = []
    box = Outbox(small_disk, said.append, rows.get)
    box.start(1, 39)
    assert len(said) == 1 and box.owed and min(box.owed) > 5
    assert min(content(small_disk)) == name_of(1)


def test_a_message_that_cannot_be_taken_away_is_said_and_harms_nobody(gateway):
    """Root may have left a folder in its place: a line, and the next start clears it away."""
    said: list[str] = []
    box = box_of(gateway, ROWS, said.append)
    box.start(3, 5)
    stuck = gateway.config.outbox / name_of(3)
    stuck.unlink()
    (stuck / "deep").mkdir(parents=True)
    box.settle(4, ())
    assert len(said) == 2 and "directory" in said[0]
    box.start(4, 5)
    assert content(gateway.config.outbox) == {name_of(seq): ROWS[seq] for seq in (4, 5)}


def test_the_folder_holds_the_oldest_and_refills_as_receipts_come(gateway):
    """A year of messages is not a year of files: at most `room` of them, in order, also after a restart."""
    rows = {seq: b"message %d" % seq for seq in range(1, 101)}
    box = box_of(gateway, rows, room=10)
    for seq in rows:
        box.put(seq)
        assert len(content(gateway.config.outbox)) == min(seq, 10)
    first = 1
    for settled in (3, 4, 30, 95, 100):
        box.settle(settled + 1, ())
        first = settled + 1
        inside = {seq: rows[seq] for seq in range(first, min(first + 10, 101))}
        assert content(gateway.config.outbox) == expected(inside)
        box = box_of(gateway, rows, room=10)
        box.start(first, 100)
        assert content(gateway.config.outbox) == expected(inside) and box.owed == frozenset()
    assert first == 101


def test_a_start_with_a_year_of_messages_reads_those_of_the_folder_only(gateway):
    """What the table is asked for is bounded, whatever waits in it."""
    asked: list[int] = []

    def fetch(seq: int) -> bytes:
        asked.append(seq)
        return b"message"

    box = Outbox(gateway.config.outbox, pytest.fail, fetch, room=50)
    box.start(1, 8760)
    assert asked == list(range(1, 51))
    box.start(1, 8760)
    assert sorted(asked[50:]) == list(range(1, 51)), "compared once each"
    box.put(8761)
    assert len(asked) == 100


def test_what_the_centre_asks_for_again_lies_there_as_it_was(gateway):
    """Settled and kept messages come before what waits, with their old bytes, until nobody asks any more."""
    rows = {seq: b"message %d" % seq for seq in range(1, 31)}
    box = box_of(gateway, rows, room=10)
    box.start(21, 30)
    box.settle(21, (4, 5, 9))
    assert content(gateway.config.outbox) == expected({seq: rows[seq] for seq in (4, 5, 9, *range(21, 28))})
    box.settle(24, (9,))
    assert content(gateway.config.outbox) == expected({seq: rows[seq] for seq in (9, *range(24, 31))})
    box.settle(24, range(1, 10**12))
    assert content(gateway.config.outbox) == expected({seq: rows[seq] for seq in range(1, 11)}), "bounded too"
    box.settle(31, ())
    assert content(gateway.config.outbox) == {}


def test_a_row_that_is_not_in_the_table_is_no_debt(gateway):
    """Whatever was asked for and is gone cannot be put there, and is not tried for ever."""
    box = box_of(gateway, {2: b"two"})
    box.settle(2, (1,))
    box.put(2)
    assert content(gateway.config.outbox) == expected({2: b"two"}) and box.owed == frozenset()


def test_a_health_report_replaces_the_last(gateway):
    """health.cose is one file; a start leaves it."""
    box = box_of(gateway, {})
    box.put_health(b"one")
    box.put_health(b"two")
    box.start(1, 0)
    assert content(gateway.config.outbox) == {outbox.HEALTH: b"two"}
