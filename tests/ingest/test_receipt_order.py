"""What a running centre says on the wire it has on the disk, as the kernel sees both: `ingest run` under strace."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from murmure_privacy import wire

pytestmark = pytest.mark.strace
MESSAGES = 4
_PROCESS = """
import argparse, os, sys
from murmure_ingest import cli
from murmure_ingest.archive import Archive, database
{sabotage}
print(os.getpid(), flush=True)
parser = argparse.ArgumentParser()
cli.register(parser.add_subparsers())
args = parser.parse_args(sys.argv[1:])
sys.exit(args.handler(args))
"""
# Broken on purpose: what is committed is committed when the next transaction begins.
LATE = """
connect = database.connect
class Late:
    def __init__(self, db):
        self._db, self._owes = db, False
    def execute(self, sql, *values):
        if sql == "COMMIT":
            self._owes = True
            return None
        if self._owes and sql.startswith("BEGIN"):
            self._owes = False
            self._db.execute("COMMIT")
        return self._db.execute(sql, *values)
    def __getattr__(self, name):
        return getattr(self._db, name)
database.connect = lambda *where: Late(connect(*where))
"""
# Broken on purpose: the commit is made, and nobody waits for the disk.
UNSYNCED = """
sound = Archive.require_sound
def unsynced(self):
    sound(self)
    self._db.execute("PRAGMA synchronous = OFF")
Archive.require_sound = unsynced
"""
# With -y and -xx: process, call, its file's name and its bytes, both in hexadecimal.
_CALL = re.compile(r'^(\d+) +(\w+)\(\d+<([^>]*)>(?:, (?:\{.*)?"([^"]*)")?.*')
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>")
_SYNCS, _PUBACK = {"fsync", "fdatasync"}, 0x40


@pytest.fixture
def traced(
    tmp_path: Path, make_centre: Callable[..., Any], broker: Any, connect: Any, until: Any
) -> Callable[[str], tuple[list[str], list[bytes]]]:
    """traced(sabotage) -> the calls of a centre that is sent messages one by one, and their hashes."""

    def traced(sabotage: str) -> tuple[list[str], list[bytes]]:
        program = shutil.which("strace")
        assert program is not None
        centre = make_centre(tmp_path, port=broker.port, mqtt=broker.mqtt)
        broker.start()
        gateway, calls = centre.gateway(), tmp_path / "calls"
        history = gateway.history(MESSAGES)
        watched = "trace=write,pwrite64,fdatasync,fsync,sendto,sendmsg"
        command = [program, "-f", "-y", "-xx", "-s", "70000", "-o", str(calls), "-e", watched, sys.executable, "-c"]
        command += [_PROCESS.format(sabotage=sabotage), "ingest", "run", "--config", centre.config.source]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        inner = int(process.stdout.readline())
        try:
            peer = connect(gateway, broker)
            until(lambda: peer.settled(centre) == 0)
            for number, arrival in enumerate(history):
                peer.publish(arrival)
                until(lambda wanted=number + 1: peer.settled(centre) == wanted)
        finally:
            os.kill(inner, signal.SIGTERM)
            process.wait(30)
            centre.archive.close()
        return calls.read_text("ascii").splitlines(), [wire.digest(sealed) for _, sealed in history]

    return traced


def events(calls: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yields what matters of a trace, in order: bytes `written` to the archive's log, log `synced`, bytes `sent`."""
    syncing = set[str]()  # processes whose sync of the log is not over
    for line in calls:
        resumed, match = _RESUMED.match(line), _CALL.match(line)
        if resumed and resumed[2] in _SYNCS and resumed[1] in syncing:
            syncing.remove(resumed[1])
            yield "synced", b""
        if match is None:
            continue
        process, call, file, data = match[1], match[2], _text(match[3]), _text(match[4] or "")
        if call in _SYNCS and file.endswith(b"archive.db-wal"):
            if line.endswith("<unfinished ...>"):
                syncing.add(process)
            else:
                yield "synced", b""
        elif file.endswith(b"archive.db-wal"):
            yield "written", data
        elif file.startswith(b"socket:"):
            yield "sent", data


def _text(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


def early(calls: list[str], hashes: list[bytes]) -> list[str]:
    """Returns what the centre said of a message before that was safe."""
    written, safe, acknowledged, said, wrong = set[bytes](), set[bytes](), 0, set[bytes](), []
    for kind, data in events(calls):
        if kind == "written":
            written |= {one for one in hashes if one in data}
        elif kind == "synced":
            safe |= written
        else:
            if data[0] == _PUBACK:
                acknowledged += 1
                if hashes[acknowledged - 1] not in safe:
                    wrong.append(f"message {acknowledged} was acknowledged")
            told = {one for one in hashes if one in data}
            said |= told
            wrong += [f"message {hashes.index(one) + 1} is settled in a receipt" for one in told - safe]
    assert acknowledged == MESSAGES and said == set(hashes), "the trace does not show what happened"
    return wrong


@pytest.mark.parametrize("broker", ["iotcore-5"], indirect=True)
def test_nothing_is_said_before_it_is_on_the_disk(traced: Callable[[str], tuple[list[str], list[bytes]]]) -> None:
    """Neither an acknowledgement to the broker nor a receipt to the gateway leaves before the log with the message is
    written and synced."""
    assert early(*traced("")) == []


@pytest.mark.parametrize("broker", ["iotcore-5"], indirect=True)
@pytest.mark.parametrize("sabotage", [LATE, UNSYNCED], ids=["before the commit", "without a sync"])
def test_a_centre_that_speaks_too_early_is_found_out(
    traced: Callable[[str], tuple[list[str], list[bytes]]], sabotage: str
) -> None:
    """The twins: one answers before it commits, one commits and does not sync."""
    wrong = early(*traced(sabotage))
    assert "message 1 was acknowledged" in wrong and "message 1 is settled in a receipt" in wrong
