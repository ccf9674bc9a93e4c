"""`send` taken over by an attacker, under its own uid, against the folders that `prepare_folders` makes.

It may lose or delay messages and nothing else. These tests need root, since they act as three different users; the
numbers need no names in /etc/passwd.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from murmure_edge import inbox, outbox
from murmure_edge.folders import Owners, prepare_folders
from murmure_privacy import wire

OWNERS = Owners(sense_uid=61_001, sense_gid=61_001, send_uid=61_002, send_gid=61_002, spool_gid=61_003)
PATIENCE_S = 60
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # ten thousand files are made faster there

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="acting as other users needs root")


# An interpreter in root's home cannot be started by others: everything is loaded first, then the rights are dropped.
DROP = """
import contextlib, itertools, json, os, pathlib, socket, sys, time
from murmure_edge import config, folders, inbox, outbox, send
from murmure_edge.inbox import Inbox, OutboxState, Settled, NewPolicy, decide_policy, decide_receipt
from murmure_privacy import policy, wire
import zoneinfo; zoneinfo.ZoneInfo("Europe/Paris")
uid, gid, spool = map(int, sys.argv[1:4])
del sys.argv[1:4]
os.setgroups([spool])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
def attempt(action):
    try: action()
    except OSError as error: return type(error).__name__
    return "done"
"""


def acting(uid: int, gid: int, code: str, *arguments: object) -> list[str]:
    """Returns the command line that runs `code` as a user who is in the spool group."""
    return [sys.executable, "-c", DROP + code, *map(str, (uid, gid, OWNERS.spool_gid, *arguments))]


@dataclass
class House:
    """A gateway whose two processes are two users."""

    gateway: Any
    folder: Path

    def act(self, uid: int, gid: int, code: str, *arguments: object) -> object:
        """Returns the JSON that `code` prints."""
        done = subprocess.run(
            acting(uid, gid, code, *arguments), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def as_send(self, code: str, *arguments: object) -> object:
        return self.act(OWNERS.send_uid, OWNERS.send_gid, code, *arguments)

    def as_sense(self, code: str, *arguments: object) -> object:
        return self.act(OWNERS.sense_uid, OWNERS.sense_gid, code, *arguments)


@pytest.fixture
def house(enrol: Callable[[Path], Any]) -> Iterator[House]:
    # pytest's own folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="murmure-hostile-", dir=MEMORY))
    folder.chmod(0o755)
    gateway = enrol(folder)
    prepare_folders(gateway.config, OWNERS)
    for name, content in (("gateway.db", b"the ledger"), ("record.key", b"ab" * 32)):
        file = gateway.config.data / name
        file.write_bytes(content)
        file.chmod(0o600)
        os.chown(file, OWNERS.sense_uid, OWNERS.sense_gid)
    house = House(gateway, folder)
    house.as_sense(
        "for seq in (1, 2, 3): outbox.materialise(pathlib.Path(sys.argv[1]), seq, b'message %d' % seq)\n"
        "print(json.dumps(None))",
        gateway.config.outbox,
    )
    yield house
    shutil.rmtree(folder)


def test_the_folders_have_the_owners_and_modes_of_the_table(house):
    """What docs/gateway.md says is what `prepare_folders` makes; a second time changes nothing."""
    config = house.gateway.config
    expected = {
        config.data: (OWNERS.sense_uid, OWNERS.sense_gid, 0o700),
        config.outbox: (OWNERS.sense_uid, OWNERS.spool_gid, 0o2750),
        config.inbox: (OWNERS.sense_uid, OWNERS.spool_gid, 0o2770),
        config.send_data: (OWNERS.send_uid, OWNERS.send_gid, 0o700),
        config.outbox.parent: (0, 0, 0o755),
    }
    for _ in range(2):
        for folder, wanted in expected.items():
            status = folder.stat()
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == wanted
        prepare_folders(config, OWNERS)
    page = (Path(__file__).resolve().parents[3] / "docs" / "gateway.md").read_text()
    for mode in ("0700", "2750", "2770"):
        assert mode in page


def test_each_process_at_start_leaves_the_other_users_folders_alone(house):
    """`prepare_folders` without owners, as either user, neither fails nor changes anything."""
    config = house.gateway.config
    before = [(path, path.stat().st_uid, path.stat().st_mode) for path in (config.data, config.outbox, config.inbox)]
    code = "folders.prepare_folders(config.load(pathlib.Path(sys.argv[1])))\nprint(json.dumps('done'))"
    assert house.as_send(code, config.file) == house.as_sense(code, config.file) == "done"
    assert before == [(path, path.stat().st_uid, path.stat().st_mode) for path, _, _ in before]


def test_send_can_do_its_work(house):
    """Read the outbox, write the inbox, keep send.db: as its own user."""
    config = house.gateway.config
    found = house.as_send(
        "out, box, data = map(pathlib.Path, sys.argv[1:])\n"
        "folders.write_whole(box, 'receipt.cose', b'a receipt')\n"
        "log = send.SentLog(data, print)\nlog.note(1, 5)\nlog.close()\n"
        "print(json.dumps({path.name: path.read_text() for path in out.iterdir()}))",
        config.outbox,
        config.inbox,
        config.send_data,
    )
    assert found == {outbox.name_of(seq): f"message {seq}" for seq in (1, 2, 3)}
    letters = house.as_sense(
        "print(json.dumps([letter.data.decode() for letter in inbox.read(pathlib.Path(sys.argv[1]))]))",
        config.inbox,
    )
    assert letters == ["a receipt"]


def test_send_can_neither_read_the_secrets_nor_touch_the_outbox(house):
    """Whatever it tries on ledger, key, messages and folders is refused by the kernel."""
    config = house.gateway.config
    before = {path.name: path.read_bytes() for path in config.outbox.iterdir()}
    answers = house.as_send(
        """
out, box, data = map(pathlib.Path, sys.argv[1:])
first = out / "000000000001.cose"
print(json.dumps({
    "list data": attempt(lambda: os.listdir(data)),
    "read ledger": attempt((data / "gateway.db").read_bytes),
    "read key": attempt((data / "record.key").read_bytes),
    "link key": attempt(lambda: os.link(data / "record.key", box / "policy-1.cose")),
    "write": attempt(lambda: first.write_bytes(b"forged")),
    "append": attempt(lambda: first.open("ab")),
    "truncate": attempt(lambda: os.truncate(first, 0)),
    "unlink": attempt(first.unlink),
    "rename": attempt(lambda: first.rename(out / "000000000009.cose")),
    "replace": attempt(lambda: os.replace(first, box / "policy-2.cose")),
    "create": attempt(lambda: (out / "000000000004.cose").write_bytes(b"forged")),
    "link in": attempt(lambda: os.symlink("/etc/passwd", out / "000000000005.cose")),
    "hard link": attempt(lambda: os.link(first, box / "policy-3.cose")),
    "mode of file": attempt(lambda: first.chmod(0o666)),
    "mode of outbox": attempt(lambda: out.chmod(0o777)),
    "mode of inbox": attempt(lambda: box.chmod(0o000)),
    "owner": attempt(lambda: os.chown(first, os.getuid(), -1)),
    "times": attempt(lambda: os.utime(first, (0, 0))),
    "move outbox": attempt(lambda: out.rename(out.parent / "away")),
    "move inbox": attempt(lambda: box.rename(out.parent / "away")),
    "remove inbox": attempt(box.rmdir),
    "device": attempt(lambda: os.mknod(box / "policy-4.cose", 0o20600, os.makedev(1, 8))),
}))
""",
        config.outbox,
        config.inbox,
        config.data,
    )
    allowed = {action: answer for action, answer in answers.items() if answer != "PermissionError"}
    # A hard link to a message is as harmless as a copy; where the kernel protects links it is refused too.
    allowed.pop("hard link", None)
    assert allowed == {}
    assert before == {path.name: path.read_bytes() for path in config.outbox.iterdir()}


ATTACK = """
box = pathlib.Path(sys.argv[1])
data, forged, old, settled = pathlib.Path(sys.argv[2]), *map(bytes.fromhex, sys.argv[3:])
os.umask(0)
for number in range(10_000):
    os.close(os.open(box / f"{number:05d}", os.O_CREAT | os.O_WRONLY))
for number in range(300):
    (box / f"policy-{number:08x}.cose").write_bytes([forged, old, settled, b"", b"x" * 20_480][number % 5])
    (box / f"receipt-{number:08x}.cose").write_bytes([settled, forged, old, b"x" * 4096][number % 4])
for number, target in enumerate(["/etc/shadow", data / "record.key", data / "gateway.db", "/dev/zero", "/dev/tty",
                                 "/proc/self/mem", "policy-link4.cose", box, "/"]):
    os.symlink(target, box / f"policy-link{number}.cose")
for number in range(50):
    os.mkfifo(box / f"policy-pipe{number}.cose")
for name in ("policy-huge.cose", "huge", "receipt-huge.cose"):
    with (box / name).open("wb") as file:
        file.truncate(1 << 40)
local = socket.socket(socket.AF_UNIX)
local.bind(str(box / "policy-sock.cose"))
(box / "policy-dir.cose").mkdir()
(box / "deep" / "er").mkdir(parents=True)
(box / "closed").mkdir(mode=0)
(box / "policy-closed.cose").write_bytes(forged)
(box / "policy-closed.cose").chmod(0)
for number in range(100):
    (box / f".policy-{number}.cose.tmp").write_bytes(b"x")
(box / ("n" * 255)).write_bytes(b"")
(box / "\\udcff\\n\\x1b[2J").write_bytes(b"")
os.mkfifo(box / "receipt.cose")
print(json.dumps("done"))
"""

SENSE = """
gateway = config.load(pathlib.Path(sys.argv[1]))
trust = config.load_trust(gateway)
current = policy.parse(bytes.fromhex(sys.argv[2]), "current")
turns = int(sys.argv[3])
hashes = {seq: wire.digest(b"message %d" % seq) for seq in (1, 2, 3)}
state = OutboxState(3, hashes.get, 0)
box = Inbox(gateway.inbox, lambda line: None)
longest_s, cleared, policies, refused = 0.0, [], [], {}
for _ in range(turns):
    began = time.monotonic()
    for letter in box.new():
        if letter.kind == "receipt":
            verdict = decide_receipt(letter.data, trust, state)
        else:
            verdict = decide_policy(letter.data, trust, current)
        if isinstance(verdict, Settled):
            cleared.append(verdict.up_to)
        elif isinstance(verdict, NewPolicy):
            policies.append(verdict.policy.version)
        else:
            reason = getattr(verdict, "reason", type(verdict).__name__)
            refused[reason] = refused.get(reason, 0) + 1
    longest_s = max(longest_s, time.monotonic() - began)
left = sorted(name for name in os.listdir(gateway.inbox))
print(json.dumps({"longest_s": longest_s, "cleared": cleared, "policies": policies, "refused": refused, "left": left}))
"""


def test_an_inbox_full_of_everything_costs_sense_nothing_but_time(house):
    """Rubbish, links, pipes, 10,000 files, a terabyte, forged and replayed letters: nothing believed, nothing lost."""
    gateway, config = house.gateway, house.gateway.config
    stranger = wire.new_key()[0]
    forged = wire.seal_policy(wire.policy_bytes(gateway.policy(99)), [("steward", stranger)])
    false_receipt = gateway.receipt(3, b"not our message")
    old = gateway.policy(1)
    current = wire.policy_bytes(gateway.policy(5)).hex()
    secrets = {name: (config.data / name).read_bytes() for name in ("gateway.db", "record.key")}
    messages = {path.name: path.read_bytes() for path in config.outbox.iterdir()}
    shadow = Path("/etc/shadow").stat()

    house.as_send(ATTACK, config.inbox, config.data, forged.hex(), old.hex(), false_receipt.hex())
    result = house.as_sense(SENSE, config.file, current, 11_000 // inbox.SCAN_LIMIT + 2)

    assert (result["cleared"], result["policies"]) == ([], [])
    assert {"bad_signature", "old_policy", "OlderCopy"} <= set(result["refused"])
    assert result["longest_s"] < 10
    strangers = [name for name in result["left"] if not name.startswith((".policy-", "policy-", "receipt-"))]
    assert strangers == ["deep"]
    assert len(result["left"]) <= 64 + 24 + 1
    assert secrets == {name: (config.data / name).read_bytes() for name in secrets}
    assert messages == {path.name: path.read_bytes() for path in config.outbox.iterdir()}
    assert (shadow.st_ino, shadow.st_atime_ns) == ((after := Path("/etc/shadow").stat()).st_ino, after.st_atime_ns)

    # And when `send` is itself again, what it brings is read.
    receipt, newer = gateway.receipt(2, b"message 2"), gateway.policy(6)
    house.as_send(
        "folder, receipt, newer = pathlib.Path(sys.argv[1]), *map(bytes.fromhex, sys.argv[2:])\n"
        "folders.write_whole(folder, 'receipt.cose', receipt)\n"
        "folders.write_whole(folder, inbox.policy_name(newer), newer)\n"
        "print(json.dumps('done'))",
        config.inbox,
        receipt.hex(),
        newer.hex(),
    )
    result = house.as_sense(SENSE, config.file, current, 1)
    assert (result["cleared"], result["policies"]) == ([2], [6])


RACE = """
box, key, forged = pathlib.Path(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3])
for number in itertools.count():
    name = ("receipt.cose", "policy-1.cose", "policy-2.cose")[number % 3]
    with contextlib.suppress(OSError):
        beside = box / ".receipt.cose.tmp"
        with contextlib.suppress(OSError):
            beside.unlink()
        kind = number % 5
        if kind == 0:
            os.symlink(key, beside)
        elif kind == 1:
            os.mkfifo(beside)
        elif kind == 2:
            beside.write_bytes(forged)
        elif kind == 3:
            os.symlink("/dev/zero", beside)
        else:
            beside.write_bytes(b"x" * 30_000)
        os.rename(beside, box / name)
"""


def test_a_racing_send_never_stops_or_fools_the_reader(house):
    """While `send` swaps files, links and pipes under the same names, every turn ends and believes nothing false."""
    gateway, config = house.gateway, house.gateway.config
    forged = wire.seal_policy(wire.policy_bytes(gateway.policy(99)), [("steward", wire.new_key()[0])])
    racer = subprocess.Popen(
        acting(OWNERS.send_uid, OWNERS.send_gid, RACE, config.inbox, config.data / "record.key", forged.hex())
    )
    try:
        time.sleep(0.3)
        current = wire.policy_bytes(gateway.policy(5)).hex()
        result = house.as_sense(SENSE, config.file, current, 2000)
    finally:
        racer.kill()
        racer.wait()
    assert (result["cleared"], result["policies"]) == ([], [])
    assert result["refused"].get("bad_signature", 0) > 0
    assert result["longest_s"] < 5
