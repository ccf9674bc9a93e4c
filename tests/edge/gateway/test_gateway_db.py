"""`gateway.db` is one process's alone, says when it is not what was written, and loses nothing that was committed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from murmure_edge.gateway_db import DiskFull, GatewayDb, Told, _connect, _translated
from murmure_edge.publisher import Identity, Publisher
from murmure_privacy.errors import LedgerDamaged, MurmureError
from murmure_privacy.log import Checkpoint
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy
from murmure_privacy.window import parse_utc
from murmure_privacy.wire import digest

MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")
HOUR_S = 3600
FLIPS, MANY_FLIPS = 400, 10_000
KILLS = 6


@pytest.fixture
def path(quick_folder: Path) -> Path:
    return quick_folder / "data" / "gateway.db"


@pytest.fixture
def lived(rig: Callable[..., Any], make_policy: Callable[..., Policy]) -> Path:
    """A file with charges, withheld nodes, messages with and without receipt and two policies, closed in order."""
    gateway = rig()
    gateway.publisher.start(MIDNIGHT_S)
    gateway.publisher.adopt(make_policy(1, streams=("dust", "sound")), MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + 3 * HOUR_S)
    gateway.db.settle(3)
    gateway.publisher.adopt(make_policy(2, epsilon="0.5"), MIDNIGHT_S + 3 * HOUR_S)
    gateway.publisher.heed(2)
    gateway.db.close()
    path: Path = gateway.path
    return path


def everything(db: GatewayDb) -> tuple[Any, ...]:
    """All that a gateway goes by, less the number of starts."""
    marks = db.next_message(), db.ledger.high_water_s(["plaza/dust"])
    return list(db.ledger.lines()), db.rows(), db.policies(), db.told(), *marks


# --- one process -----------------------------------------------------------------------------------------------------


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    """Mode 0600 for all that belongs to it, whatever the umask."""
    old = os.umask(0)
    try:
        db = GatewayDb.open(path)
    finally:
        os.umask(old)
    files = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert files == dict.fromkeys(["gateway.db", "gateway.db-shm", "gateway.db-wal", "gateway.db.lock"], 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    db.close()


def test_what_a_commit_has_said_is_synced(path: Path) -> None:
    """Write-ahead log and full synchronisation, as asked of SQLite itself."""
    db = GatewayDb.open(path)
    ask = [db._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert ask == ["wal", 2]
    db.close()


def test_a_second_process_is_refused_with_one_line(path: Path) -> None:
    """Two ledgers of one gateway would spend twice; when the first has ended, the second may start."""
    db = GatewayDb.open(path)
    code = (
        "import sys; from pathlib import Path; from murmure_edge.gateway_db import GatewayDb\n"
        "from murmure_privacy.errors import MurmureError\n"
        "try: GatewayDb.open(Path(sys.argv[1]))\n"
        "except MurmureError as error: sys.exit(str(error))\n"
    )
    second = [sys.executable, "-c", code, str(path)]
    refused = subprocess.run(second, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr == f"{path}: another process has it; stop the other `sense` first\n"
    with pytest.raises(MurmureError, match="another process has it"):
        GatewayDb.open(path)
    db.close()
    assert subprocess.run(second, check=False).returncode == 0


def test_who_asks_whether_it_is_in_use_keeps_no_sense_from_starting(path: Path) -> None:
    """`edge export` holds the lock for an instant; who keeps it longer is another `sense`."""
    GatewayDb.open(path).close()
    asking = path.with_name("gateway.db.lock").open("rb")
    fcntl.flock(asking, fcntl.LOCK_SH | fcntl.LOCK_NB)
    waited: list[float] = []
    with pytest.raises(MurmureError, match="another process has it"):
        GatewayDb.open(path, pause=waited.append)
    assert 0 < sum(waited) < 1
    db = GatewayDb.open(path, pause=lambda _: asking.close())
    assert db.boot() == 2, "not one start more is counted"
    db.close()


def test_two_ledgers_that_slip_past_the_lock_draw_no_node_twice(
    rig: Callable[..., Any], make_policy: Callable[..., Policy], broken_promise: Callable[..., str | None]
) -> None:
    """On a disk that ignores locks the table itself holds: a node that one process has closed, the other leaves alone;
    and no later start accepts a file that two have written."""
    policy = make_policy(streams=("dust",))
    one = rig()
    one.publisher.start(MIDNIGHT_S)
    one.publisher.adopt(policy, MIDNIGHT_S)
    other = copy(one)
    other.messages, other.db = [], GatewayDb(_connect(one.path), str(one.path))
    other.publisher = other.new_publisher()
    other.publisher.start(MIDNIGHT_S)
    for hour in range(6):
        for gateway in (one, other) if hour % 2 else (other, one):
            gateway.fill(MIDNIGHT_S + hour * HOUR_S, MIDNIGHT_S + (hour + 1) * HOUR_S)
    keys = [outcome.node.key for gateway in (one, other) for outcome in gateway.outcomes()]
    assert keys and len(set(keys)) == len(keys)
    assert all(gateway.messages for gateway in (one, other))
    spent = one.db.ledger.spent_rho_micro("plaza/dust", 0, 1 << 40)
    assert spent <= plan(policy).streams["plaza/dust"].rho_micro
    assert broken_promise(one.db, {policy.hash: policy}) is not None
    other.db.close()
    one.db.close()
    with pytest.raises(LedgerDamaged, match="does not follow"):
        GatewayDb.open(one.path)


def test_a_refused_start_leaves_the_file_free(lived: Path) -> None:
    """A start that fails lets go of the lock: mended, the same file opens in the same process."""
    good = lived.read_bytes()
    lived.write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerDamaged):
        GatewayDb.open(lived)
    lived.write_bytes(good)
    GatewayDb.open(lived).close()


def test_a_place_that_cannot_be_used_is_named_in_one_line(path: Path) -> None:
    """A file where the folder should be, and a folder where the file should be."""
    path.parent.write_text("")
    with pytest.raises(MurmureError, match=r"gateway\.db: cannot be opened: .*; mend the folder's rights or room"):
        GatewayDb.open(path)
    path.parent.unlink()
    path.mkdir(parents=True)
    with pytest.raises(MurmureError, match="is no file; name a file that may be made there"):
        GatewayDb.open(path)


def test_a_file_that_somebody_else_writes_to_stops_with_one_line(lived: Path) -> None:
    """Another program that holds the file is named as such, and nothing is called damaged."""
    db = GatewayDb.open(lived)
    db._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(lived, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(MurmureError, match="database is locked; stop what else uses it") as caught:
        db.remember(Told(3))
    assert not isinstance(caught.value, LedgerDamaged | DiskFull)
    other.close()
    db.remember(Told(3))
    db.close()


class Judging(sqlite3.Connection):
    """A connection whose integrity check says, or raises, what it is told."""

    verdict: str | sqlite3.DatabaseError = "ok"

    def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
        if "integrity_check" not in sql:
            return super().execute(sql, *rest)
        if isinstance(self.verdict, sqlite3.DatabaseError):
            raise self.verdict
        return super().execute("SELECT ?", (self.verdict,))


def judging(verdict: str | int) -> Callable[[Path], Judging]:
    """Returns what connects so; a number: a code of SQLite that it raises."""

    def connect(path: Path) -> Judging:
        connection = sqlite3.connect(path, isolation_level=None, factory=Judging)
        connection.verdict = verdict if isinstance(verdict, str) else sqlite3.OperationalError("so")
        if isinstance(connection.verdict, sqlite3.Error) and isinstance(verdict, int):
            connection.verdict.sqlite_errorcode = verdict
        return connection

    return connect


@pytest.mark.parametrize(
    ("verdict", "damaged"),
    [
        ("*** in database main ***\nPage 11: unable to get the page. error code=8458", False),
        ("*** in database main ***\nTree 3 page 7: unable to get the page. error code=7", False),
        ("*** in database main ***\nPage 7: unable to get the page. error code=266", False),
        ("*** in database main ***\nFreelist: failed to get page 12", False),
        ("*** in database main ***\nPage 11: unable to get the page. error code=11", True),
        ("*** in database main ***\nPage 11: btreeInitPage() returns error code 10", True),
        ("row 10 missing from index charges_by_end", True),
        *((code, False) for code in (sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT)),
        *((code, False) for code in (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY_RECOVERY)),
        *((code, True) for code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)),
    ],
)
def test_a_page_that_was_not_read_is_no_damage(lived: Path, verdict: str | int, damaged: bool) -> None:
    """It ends with status 1, and systemd starts again; damage ends with 2, and stays down until somebody looks."""
    with pytest.raises(MurmureError) as caught:
        GatewayDb.open(lived, judging(verdict))
    assert isinstance(caught.value, LedgerDamaged) == damaged
    assert caught.value.exit_status == (2 if damaged else 1)
    assert "\n" not in str(caught.value)
    GatewayDb.open(lived).close()


def test_each_start_is_counted(path: Path) -> None:
    """The boot count grows by one with every opening, and a replay in memory has none."""
    for boot in (1, 2, 3):
        db = GatewayDb.open(path)
        assert db.boot() == boot
        db.close()
    assert GatewayDb.in_memory().boot() == 0


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing(lived: Path) -> None:
    """An error inside takes back everything, and the ledger's chain goes on from what is stored."""
    db = GatewayDb.open(lived)
    before = everything(db)
    with pytest.raises(ZeroDivisionError), db.transaction():
        db.put(13, b"message")
        db._db.execute("DELETE FROM policies")
        raise ZeroDivisionError
    assert everything(db) == before
    db.close()


def test_receipts_settle_messages_and_never_charges(lived: Path) -> None:
    """A settled message waits no longer; what it cost stays, the next number is unchanged, and it can be asked for."""
    db = GatewayDb.open(lived)
    lines, rows, _, _, following, _ = everything(db)
    assert (db.settled, db.depth(), sorted(rows)) == (3, 9, list(range(4, 13)))
    assert (db.message(4), db.message(99)) == (rows[4], None)
    db.settle(12)
    assert (db.depth(), db.rows(), list(db.ledger.lines())) == (0, {}, lines)
    assert db.next_message() == following == (13, digest(rows[12]))
    assert (db.oldest(), db.message(12), db.hash_of(12)) == (1, rows[12], digest(rows[12]))
    db.settle(5)
    assert db.depth() == 0, "an old receipt takes nothing back"
    assert db.charged_rho_micro() == sum(line.rho_micro for line in lines) > 0
    db.close()


def test_what_is_settled_is_written_with_the_next_message(lived: Path) -> None:
    """A window costs the card one commit. Until then a start finds the messages waiting, as before the receipt."""
    db = GatewayDb.open(lived)
    size = written(lived)
    db.settle(10)
    assert written(lived) == size
    db.close()
    db = GatewayDb.open(lived)
    assert db.settled == 3
    db.settle(10)
    with db.transaction():
        db.put(13, b"message")
    db.close()
    db = GatewayDb.open(lived)
    assert (db.settled, sorted(db.rows())) == (10, [11, 12, 13])
    db.close()


LOG = Checkpoint(7, bytes(range(32)))


@pytest.fixture
def logged(lived: Path) -> Path:
    """The same file, which has forgotten one log and remembers another."""
    db = GatewayDb.open(lived)
    for seq, here in ((13, replace(LOG, size=9)), (14, LOG)):
        db.forget_log(MIDNIGHT_S)
        db.follow(here)
        with db.transaction():
            db.put(seq, b"message")
    db.close()
    return lived


def test_a_log_is_forgotten_for_good_and_the_next_one_followed(logged: Path) -> None:
    """A smaller one too. That it was forgotten, which one and when, stays written, and nothing else has changed."""
    db = GatewayDb.open(logged)
    before = everything(db)
    assert (db.log, db.forgotten()) == (LOG, [(MIDNIGHT_S, replace(LOG, size=9))])
    db.forget_log(MIDNIGHT_S + HOUR_S)
    db.forget_log(MIDNIGHT_S + 2 * HOUR_S)  # there is none any more
    db.close()
    db = GatewayDb.open(logged)
    assert (db.log, everything(db)) == (None, before)
    assert db.forgotten() == [(MIDNIGHT_S, replace(LOG, size=9)), (MIDNIGHT_S + HOUR_S, LOG)]
    db.follow(replace(LOG, size=2))
    assert db.log == replace(LOG, size=2)
    db.close()


def test_how_far_the_log_had_come_is_kept_without_a_message(logged: Path) -> None:
    """In a commit of its own, in which nothing else changes; and none where nothing is new."""
    db = GatewayDb.open(logged)
    before, size = everything(db), written(logged)
    db.keep_log()
    assert not db.follow(replace(LOG, size=LOG.size - 1)) and not db.follow(LOG)
    db.keep_log()
    assert written(logged) == size
    longer = replace(LOG, size=LOG.size + 1)
    assert db.follow(longer)
    assert written(logged) == size
    db.keep_log()
    db.close()
    db = GatewayDb.open(logged)
    assert (db.log, everything(db)) == (longer, before)
    db.forget_log(MIDNIGHT_S)
    db.keep_log()
    assert db.log is None
    db.close()


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM forgotten",
        "UPDATE forgotten SET size = 8",
        "UPDATE forgotten SET at_s = at_s + 1",
        "DELETE FROM journal",
        "UPDATE journal SET size = 1",
        "DROP TABLE forgotten",
    ],
)
def test_what_was_forgotten_cannot_be_taken_out(logged: Path, change: str) -> None:
    """Nor the log that is remembered be changed, with an editor: the next start stops."""
    other = sqlite3.connect(logged)
    other.executescript(change)
    other.close()
    with pytest.raises(LedgerDamaged):
        GatewayDb.open(logged)


def written(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir())


def put_all(db: GatewayDb, first: int, last: int, settled: bool) -> None:
    for seq in range(first, last + 1):
        with db.transaction():
            db.put(seq, b"message %d" % seq)
        if settled:
            db.settle(seq)


def test_settled_messages_stay_for_as_long_as_there_is_room(path: Path) -> None:
    """The newest `keep` are there, after a start too; what waits stays beyond that, however much it is."""
    db = GatewayDb.open(path, keep=5)
    put_all(db, 1, 20, settled=True)
    assert (db.oldest(), db.message(16), db.message(15)) == (16, b"message 16", None)
    assert (db.hash_of(16), db.hash_of(15), db.hash_of(0)) == (digest(b"message 16"), None, None)
    put_all(db, 21, 40, settled=False)
    db.close()
    db = GatewayDb.open(path, keep=5)
    assert (db.oldest(), db.settled, db.depth()) == (21, 20, 20)
    assert list(db.rows()) == list(range(21, 41))
    db.close()


def test_a_smaller_room_is_reached_step_by_step(path: Path) -> None:
    """With `keep` lowered, or after a full disk, each new message drops a bounded number of old ones; none is left
    but the newest, whose hash is known even so."""
    db = GatewayDb.open(path)
    put_all(db, 1, 200, settled=True)
    db.close()
    db = GatewayDb.open(path, keep=0)
    for oldest in (65, 129, 193, 204, 205):
        put_all(db, db.next_message()[0], db.next_message()[0], settled=True)
        assert db.oldest() == oldest
        assert db.hash_of(db.settled) is not None
    db.close()
    GatewayDb.open(path, keep=0).close()


def test_a_full_disk_takes_the_room_of_what_was_settled(path: Path) -> None:
    """New messages go before copies of old ones."""
    db = GatewayDb.open(path)
    put_all(db, 1, 30, settled=True)
    db._db.execute(f"PRAGMA max_page_count = {db._db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(DiskFull), db.transaction():
        db.put(31, bytes(4096 * 4))
    with db.transaction():
        db.put(31, b"message 31")
    assert db.oldest() == 31
    db.close()


def test_a_waiting_message_is_not_kept_away_by_a_right_mark(lived: Path) -> None:
    """Even whoever can compute the marks cannot make a start without all that waits: 4 to 12 follow each other."""
    with sqlite3.connect(lived) as db:
        db.execute("DELETE FROM outbox WHERE seq <= 5")
    connection = sqlite3.connect(lived, isolation_level=None)
    unverified = object.__new__(GatewayDb)
    unverified._db, unverified.settled = connection, 3
    unverified._renew_head()
    connection.close()
    with pytest.raises(LedgerDamaged, match="a row is not what was written"):
        GatewayDb.open(lived)


def test_a_replay_keeps_its_key_and_leaves_a_gateways_ledger_alone(path: Path, lived: Path) -> None:
    """The key of the first run is that of every later one; the ledger of a real gateway is refused."""
    db = GatewayDb.open(path)
    assert db.kept_secret(b"first") == b"first"
    assert db.kept_secret(b"second") == b"first"
    db._db.execute("UPDATE replay_key SET secret = ?", (b"other",))
    with pytest.raises(LedgerDamaged, match="not what was written"):
        db.kept_secret(b"third")
    db.close()
    gateways = GatewayDb.open(lived)
    with pytest.raises(MurmureError, match="the ledger of a gateway"):
        gateways.kept_secret(b"first")
    gateways.close()


# --- damage ----------------------------------------------------------------------------------------------------------


def flipped(good: bytes, at: int, bit: int) -> bytes:
    return good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at + 1 :]


def sweep(path: Path, places: Iterator[tuple[int, int]]) -> tuple[int, int]:
    """Flips a bit at each place in turn; returns how often that was refused and how often it changed nothing."""
    good = path.read_bytes()
    sound = GatewayDb.open(path)
    wanted = everything(sound)
    sound.close()
    refused = unused = 0
    for at, bit in places:
        for beside in path.parent.iterdir():
            if beside.suffix != ".lock":
                beside.unlink()
        path.write_bytes(flipped(good, at, bit))
        try:
            db = GatewayDb.open(path)
        except MurmureError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        found = everything(db)
        db.close()
        assert found == wanted, f"bit {bit} of byte {at} changed what the gateway goes by"
        unused += 1
    path.write_bytes(good)
    return refused, unused


def test_a_flipped_bit_is_refused_or_changes_nothing(lived: Path) -> None:
    """Wherever one bit of the file turns, the gateway stops with one line, or that bit is of no use to it."""
    random = Random(8)
    size = lived.stat().st_size
    refused, unused = sweep(lived, ((random.randrange(size), random.randrange(8)) for _ in range(FLIPS)))
    assert refused > FLIPS // 5  # each table has a page of its own, and some have a row or none in it
    assert refused + unused == FLIPS


@pytest.mark.long
def test_of_many_flipped_bits_none_is_believed(lived: Path) -> None:
    """The same for so many that hardly a cell of a page is left out."""
    random = Random(9)
    size = lived.stat().st_size
    refused, unused = sweep(lived, ((random.randrange(size), random.randrange(8)) for _ in range(MANY_FLIPS)))
    assert refused > MANY_FLIPS // 5
    assert refused + unused == MANY_FLIPS


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE policies SET toml = CAST(replace(CAST(toml AS TEXT), 'epsilon = 0.5', 'epsilon = 9.5') AS BLOB)",
        "UPDATE policies SET from_s = from_s - 3600 WHERE version = 2",
        "UPDATE head SET seq = seq - 1",
        "UPDATE head SET boot = boot - 1",
        "UPDATE head SET hash = zeroblob(32)",
        "DELETE FROM head",
        "UPDATE outbox SET sealed = zeroblob(99) WHERE seq = 5",
        "UPDATE head SET settled = settled + 1",
        "UPDATE head SET settled = 0",
        "DELETE FROM outbox WHERE seq = 1",
        "DELETE FROM outbox WHERE seq = 2",
        "DELETE FROM outbox WHERE seq <= 4",
        "UPDATE outbox SET sealed = x'00' WHERE seq = 2",
        "UPDATE outbox SET seq = 99 WHERE seq = 12",
        "DELETE FROM outbox WHERE seq = 5",
        "DELETE FROM outbox WHERE seq = 12",
        "DROP TRIGGER charges_keep; DELETE FROM charges WHERE line = (SELECT max(line) FROM charges) - 1",
        "DROP TRIGGER charges_stay; UPDATE charges SET rho_micro = 1 WHERE line = 3",
        "DROP TRIGGER charges_keep; DELETE FROM charges WHERE line = (SELECT max(line) FROM charges)",
        "DELETE FROM outbox",
        "DELETE FROM policies WHERE version = 2",
        "UPDATE told SET policy_version = 1",
        "UPDATE told SET older_copy = 'so it seems'",
        "DELETE FROM told",
        "DROP TABLE charges",
        "DROP TABLE policies",
        "DROP TABLE head",
        "DROP TABLE told",
    ],
)
def test_a_row_that_was_changed_behind_its_back_is_found(lived: Path, change: str) -> None:
    """Not only bits: whatever somebody with an editor did, the next start stops with one line."""
    other = sqlite3.connect(lived)
    other.executescript(change)
    other.commit()
    other.close()
    with pytest.raises(LedgerDamaged) as caught:
        GatewayDb.open(lived)
    assert "\n" not in str(caught.value)


def test_the_newest_message_must_be_the_one_that_the_head_names(lived: Path) -> None:
    """A row whose mark is right, and which is yet another message than the one that was sent, is found."""
    from murmure_edge.gateway_db import _mark

    other = sqlite3.connect(lived)
    other.execute("UPDATE outbox SET sealed = ?, mark = ? WHERE seq = 12", (b"x", _mark(12, b"x")))
    other.commit()
    other.close()
    with pytest.raises(LedgerDamaged, match="not what was written"):
        GatewayDb.open(lived)


def test_a_file_cut_short_is_refused_and_an_empty_one_too(lived: Path) -> None:
    """Half a file, or none of it, is not a gateway without a past."""
    good = lived.read_bytes()
    for size in (len(good) - 1, len(good) // 2, 4096, 513, 512, 100, 1, 0):
        lived.write_bytes(good[:size])
        with pytest.raises(LedgerDamaged, match=r"nothing .*is published"):
            GatewayDb.open(lived)


def test_a_flipped_bit_in_the_log_of_a_crash_loses_its_end_at_most(
    rig: Callable[..., Any], make_policy: Callable[..., Policy], tmp_path: Path
) -> None:
    """SQLite forgets a log from its first spoiled page on: what is left is a state that was, and never no past."""
    gateway = rig()
    states = []
    for version, hour in enumerate(range(4), 1):
        now_s = MIDNIGHT_S + hour * HOUR_S
        gateway.publisher.start(now_s)
        gateway.publisher.adopt(make_policy(version), now_s)
        states.append(everything(gateway.db))
        for quarter_s in range(now_s, now_s + HOUR_S, 900):
            gateway.fill(quarter_s, quarter_s + 900)
            states.append(everything(gateway.db))
        if hour == 1:
            gateway.restart(now_s + HOUR_S)
    crashed = {file.name: file.read_bytes() for file in gateway.path.parent.iterdir() if file.suffix != ".db-shm"}
    random, log = Random(10), crashed["gateway.db-wal"]
    for place in range(120):
        for name, data in crashed.items():
            (tmp_path / name).write_bytes(data)
        at = place if place < 40 else random.randrange(len(log))
        (tmp_path / "gateway.db-wal").write_bytes(flipped(log, at, random.randrange(8)))
        (tmp_path / "gateway.db-shm").unlink(missing_ok=True)
        db = GatewayDb.open(tmp_path / "gateway.db")
        assert everything(db) in states
        db.close()


def test_a_log_that_held_everything_and_is_gone_is_missed(path: Path, tmp_path: Path) -> None:
    """A crash in the first session and a log that cannot be read: the gateway had a past and says so."""
    db = GatewayDb.open(path)
    (tmp_path / "gateway.db").write_bytes(path.read_bytes())
    (tmp_path / "gateway.db.lock").write_bytes(path.with_name("gateway.db.lock").read_bytes())
    db.close()
    with pytest.raises(LedgerDamaged, match="its tables are gone"):
        GatewayDb.open(tmp_path / "gateway.db")


def test_a_first_start_that_was_cut_short_goes_on(path: Path) -> None:
    """An empty file whose tables were never made is a new one."""
    path.parent.mkdir()
    path.write_bytes(b"")
    path.with_name("gateway.db.lock").write_bytes(b"")
    db = GatewayDb.open(path)
    assert db.next_message() == (1, bytes(32))
    db.close()


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "murmure-test", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_nothing_and_goes_on_by_itself(
    small_disk: Path,
    gateway_kind: type[Any],
    make_policy: Callable[..., Policy],
    broken_promise: Callable[..., str | None],
) -> None:
    """A day on a disk that is full from its second hour: closed nodes wait in memory, then all are there."""
    gateway = gateway_kind(small_disk / "data" / "gateway.db")
    policy = make_policy()
    gateway.publisher.start(MIDNIGHT_S)
    gateway.publisher.adopt(policy, MIDNIGHT_S)
    gateway.fill(MIDNIGHT_S, MIDNIGHT_S + HOUR_S)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    gateway.fill(MIDNIGHT_S + HOUR_S, MIDNIGHT_S + 24 * HOUR_S)
    assert gateway.publisher.owes
    with pytest.raises(DiskFull, match="no room on the disk"):
        gateway.publisher.adopt(make_policy(2), MIDNIGHT_S + 24 * HOUR_S)
    assert gateway.publisher.policy == policy
    filler.unlink()
    gateway.publisher.advance(MIDNIGHT_S + 24 * HOUR_S)
    assert not gateway.publisher.owes
    assert len(gateway.outcomes()) == 96 + 24 + 4 + 1
    assert [line.split(": ")[1].split(";")[0] for line in gateway.said] == [
        "no room on the disk",
        "there is room again",
    ]
    assert broken_promise(gateway.db, {policy.hash: policy}) is None
    gateway.db.close()


def test_a_start_on_a_full_disk_says_so(small_disk: Path) -> None:
    """One line, and the lock is free again."""
    (small_disk / "filler").write_bytes(bytes((8 << 20) - 4096))
    for _ in range(2):
        with pytest.raises(MurmureError, match=r"no room on the disk|cannot be opened"):
            GatewayDb.open(small_disk / "gateway.db")


READ_ERRORS = 3, 4, 6, 8, 12


@pytest.mark.strace
@pytest.mark.parametrize("when", READ_ERRORS)
def test_one_read_that_fails_at_the_start_is_tried_again(lived: Path, when: int) -> None:
    """Whichever page it was of, and however SQLite tells of it."""
    program = shutil.which("strace")
    assert program is not None
    fault = ["-f", "-o", "/dev/null", "-P", str(lived), "-e", f"inject=pread64:error=EIO:when={when}"]
    start = "from pathlib import Path; from murmure_edge import gateway_db; gateway_db.GatewayDb.open(Path({!r}))"
    command = [program, *fault, sys.executable, "-c", start.format(str(lived))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert f"MurmureError: {lived}: " in done.stderr and "start again, and replace the card" in done.stderr
    GatewayDb.open(lived).close()


# --- the power -------------------------------------------------------------------------------------------------------

GATEWAY_DAY = """
import sys
from pathlib import Path
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.publisher import Identity, Publisher
from murmure_privacy.policy import parse

class Constant:
    def prepare(self, indicator): pass
    def draw(self, exact, indicator): return exact

path, policy, start_s = Path(sys.argv[1]), parse(Path(sys.argv[2]).read_bytes(), "policy"), int(sys.argv[3])
db = GatewayDb.open(path)
publisher = Publisher(db, Identity("gw-plaza", "centre", "plaza", bytes.fromhex(sys.argv[4])), Constant(),
    lambda message, sealed: print(message.seq, sealed.hex(), flush=True), lambda line: None)
now_s = max(start_s, db.ledger.high_water_s([stream.id for stream in policy.streams]))
publisher.start(now_s)
if publisher.policy is None:
    publisher.adopt(policy, now_s)
print("ready", flush=True)
while True:
    publisher.add("plaza/dust", [(now_s * 1000, 100 + now_s // 900 % 7)])
    now_s += 900
    publisher.advance(now_s)
"""


def cut_short(command: list[str], after_lines: int) -> dict[int, bytes]:
    """Kills the process after it has handed over so many messages; returns those, by number."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    said = {}
    for line in process.stdout:
        if " " in line:
            seq, sealed = line.split()
            said[int(seq)] = bytes.fromhex(sealed)
        if len(said) == after_lines:
            os.killpg(process.pid, signal.SIGKILL)  # with strace there are two
            break
    for line in process.stdout:  # what it had said before it died
        if line.endswith("\n") and " " in line:
            seq, sealed = line.split()
            said[int(seq)] = bytes.fromhex(sealed)
    process.wait()
    process.stdout.close()
    return said


def killed_again_and_again(
    tmp_path: Path, policy: bytes, secret: bytes, kills: int, prefix: Callable[[int], list[str]] = lambda _: []
) -> GatewayDb:
    """One gateway, killed so often; after each death all that was handed over is in the file, unchanged."""
    random = Random(kills)
    path = tmp_path / "data" / "gateway.db"
    (tmp_path / "policy.toml").write_bytes(policy)
    command = [
        sys.executable, "-c", GATEWAY_DAY, str(path), str(tmp_path / "policy.toml"), str(MIDNIGHT_S), secret.hex(),
    ]  # fmt: skip
    handed_over: dict[int, bytes] = {}
    for number in range(kills):
        handed_over |= cut_short([*prefix(number), *command], random.randrange(1, 60))
        db = GatewayDb.open(path)
        rows = db.rows()
        db.close()
        assert handed_over.items() <= rows.items()
        assert len(rows) - len(handed_over) <= number + 1
        handed_over = rows
    return GatewayDb.open(path)


def test_whenever_it_is_killed_nothing_that_was_handed_over_is_lost(
    tmp_path: Path,
    gateway_secret: bytes,
    write_policy: Callable[..., bytes],
    make_policy: Callable[..., Policy],
    broken_promise: Callable[..., str | None],
) -> None:
    """Real processes, real kills: the file goes on from each of them, and the promise holds over all."""
    db = killed_again_and_again(tmp_path, write_policy(), gateway_secret, KILLS)
    assert broken_promise(db, {make_policy().hash: make_policy()}, drawn=False) is None
    db.close()


COMMITS = """
import sqlite3, sys
from murmure_edge.gateway_db import GatewayDb
db = GatewayDb(sqlite3.connect(sys.argv[1], isolation_level=None), "test")
db._db.execute(f"PRAGMA synchronous = {sys.argv[2]}")
print("begin", flush=True)
for number in range(10):
    with db.transaction():
        db.put(number + 1, b"message")
print("end", flush=True)
"""


@pytest.mark.strace
@pytest.mark.parametrize(("synchronous", "synced"), [("FULL", True), ("NORMAL", False)])
def test_every_commit_is_synced_before_it_returns(path: Path, synchronous: str, synced: bool, tmp_path: Path) -> None:
    """Ten commits are ten syncs at least, as the kernel counts them; with the quicker setting they would not be."""
    program = shutil.which("strace")
    assert program is not None
    path.parent.mkdir()
    calls = tmp_path / "calls"
    subprocess.run(
        [program, "-f", "-o", str(calls), "-e", "trace=fdatasync,fsync,write", sys.executable, "-c", COMMITS,
         str(path), synchronous],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    between = calls.read_text().split('"begin')[1].split('"end')[0]
    assert (between.count("sync(") >= 10) == synced


@pytest.mark.strace
def test_after_a_sync_that_failed_nothing_more_is_published(
    tmp_path: Path, gateway_secret: bytes, write_policy: Callable[..., bytes]
) -> None:
    """What a second sync would call written may be lost: the process stops, and all it handed over is in the file."""
    program = shutil.which("strace")
    assert program is not None
    path, policy = tmp_path / "data" / "gateway.db", tmp_path / "policy.toml"
    policy.write_bytes(write_policy())
    fault = ["-f", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=25"]
    gateway = [sys.executable, "-c", GATEWAY_DAY, str(path), str(policy), str(MIDNIGHT_S), gateway_secret.hex()]
    done = subprocess.run([program, *fault, *gateway], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f"MurmureError: {path}: disk I/O error; start again, and replace the card" in done.stderr
    handed_over = {int(line.split()[0]): bytes.fromhex(line.split()[1]) for line in done.stdout.splitlines()[1:]}
    assert 0 < len(handed_over) < 25
    db = GatewayDb.open(path)
    assert handed_over.items() <= db.rows().items()
    db.close()


@pytest.mark.long
def test_however_often_it_is_killed_nothing_is_lost(
    tmp_path: Path,
    gateway_secret: bytes,
    write_policy: Callable[..., bytes],
    make_policy: Callable[..., Policy],
    broken_promise: Callable[..., str | None],
) -> None:
    """The same, a hundred times on one file."""
    db = killed_again_and_again(tmp_path, write_policy(), gateway_secret, 100)
    assert broken_promise(db, {make_policy().hash: make_policy()}, drawn=False) is None
    db.close()


@pytest.mark.long
@pytest.mark.strace
def test_killed_inside_any_write_or_sync_nothing_is_lost(
    tmp_path: Path,
    gateway_secret: bytes,
    write_policy: Callable[..., bytes],
    make_policy: Callable[..., Policy],
    broken_promise: Callable[..., str | None],
) -> None:
    """The kernel kills the process at its n-th write or sync of the database, for n from 1 on."""
    program = shutil.which("strace")
    assert program is not None

    def prefix(number: int) -> list[str]:
        call, nth = ("pwrite64", "fdatasync")[number % 2], number // 2 + 1
        return [program, "-f", "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={nth}"]

    db = killed_again_and_again(tmp_path, write_policy(), gateway_secret, 40, prefix)
    assert broken_promise(db, {make_policy().hash: make_policy()}, drawn=False) is None
    db.close()


# --- what gateways before this one spent -----------------------------------------------------------------------------


def test_what_was_carried_counts_as_spent_and_stays(tmp_path: Path) -> None:
    """A line a day, seen from its first to its last second, also after a restart; the own charges are told apart."""
    db = GatewayDb.open(tmp_path / "gateway.db")
    day_s = 86_400
    db.carry([("plaza/dust", 10 * day_s, 300 * day_s + 500, 7), ("plaza/steps", 299 * day_s, 300 * day_s + 500, 9)])
    db.close()
    db = GatewayDb.open(tmp_path / "gateway.db")
    spans = [(10 * day_s, 10 * day_s + 1), (150 * day_s, 151 * day_s), (300 * day_s + 499, 300 * day_s + 500)]
    assert [db.ledger.spent_rho_micro("plaza/dust", *span) for span in spans] == [7, 7, 7]
    assert db.ledger.spent_rho_micro("plaza/dust", 300 * day_s + 500, 10**9) == 0
    assert db.ledger.high_water_s(["plaza/steps"]) == 300 * day_s + 500
    assert len(list(db.ledger.lines())) == 291 + 2
    assert db.charged_rho_micro() == 0 and db.next_message()[0] == 1
    db.close()


def test_a_node_that_another_gateway_closed_gets_no_second_word(
    tmp_path: Path, exact: Any, make_policy: Callable[..., Policy], gateway_secret: bytes
) -> None:
    """Neither when it ends nor when the clock is put forward, also after a restart; all others are as ever, and it
    tells nothing of how late it is. The twin that carries nothing speaks of it."""
    start_s = parse_utc("2026-01-14T23:00:00Z")
    policy = make_policy(nodes='{ "15min" = 1, "1h" = 1, "1d" = 1 }')
    closed = [("plaza/dust", "1h", start_s, start_s + 3600), ("plaza/dust", "1d", start_s, start_s + 86_400)]
    for carried in (closed, []):
        path = tmp_path / f"gw{len(carried)}.db"
        db = GatewayDb.open(path)
        db.carry([], carried)
        db.close()
        db = GatewayDb.open(path)
        assert db.ledger.high_water_s(["plaza/dust"]) == 0 and db.charged_rho_micro() == 0
        messages: list[Any] = []
        who = Identity("gw-plaza", "centre", "plaza", gateway_secret)
        publisher = Publisher(db, who, exact, lambda *sent, to=messages: to.append(sent[0]), lambda _: None)
        publisher.start(start_s)
        publisher.adopt(policy, start_s)
        publisher.advance(start_s + 7200)
        publisher.withhold_open()
        levels = [outcome.node.level for message in messages for outcome in message.outcomes]
        assert levels.count("15min") == 9 and len(levels) - levels.count("15min") == (2 if carried else 4)
        db.close()


def test_a_cap_counts_what_was_carried(
    tmp_path: Path, exact: Any, make_policy: Callable[..., Policy], gateway_secret: bytes
) -> None:
    """A new gateway on a site whose tank is empty publishes nothing; the twin without the carried days does."""
    start_s = parse_utc("2026-01-14T23:00:00Z")
    cap = 'cap = { units_per_day = 1, span = "1w", epsilon = 1.45 }'
    policy = make_policy(nodes='{ "15min" = 1 }', in_stream=cap)
    spent = plan(policy).streams["plaza/dust"].rho_micro
    for carried, reasons in (([("plaza/dust", start_s - 86_400, start_s, spent)], {"cap"}), ([], {None})):
        db = GatewayDb.open(tmp_path / f"gw{len(carried)}.db")
        db.carry(carried)
        messages: list[Any] = []
        who = Identity("gw-plaza", "centre", "plaza", gateway_secret)
        publisher = Publisher(db, who, exact, lambda *sent, to=messages: to.append(sent[0]), lambda _: None)
        publisher.start(start_s)
        publisher.adopt(policy, start_s)
        publisher.add("plaza/dust", [((start_s + at_s) * 1000, 200) for at_s in range(0, 3600, 900)])
        publisher.advance(start_s + 3600)
        outcomes = [outcome for message in messages for outcome in message.outcomes]
        assert {getattr(outcome, "reason", None) for outcome in outcomes} == reasons and outcomes
        db.close()


@pytest.mark.parametrize("blocks", [0, 4, 9])
def test_a_start_without_room_says_so_and_accuses_no_card(small_disk: Path, blocks: int) -> None:
    """Neither room for the file beside the database, nor for a part of it, nor for the start itself."""
    path, filler = small_disk / "gateway.db", small_disk / "filler"
    GatewayDb.open(path).close()
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, filler.stat().st_size - 4096 * blocks)
    with pytest.raises(DiskFull, match="no room on the disk"):
        GatewayDb.open(path)
    filler.unlink()
    db = GatewayDb.open(path)
    assert db.boot() == 2
    db.close()


def test_a_disk_that_fails_with_room_is_no_full_one(tmp_path: Path) -> None:
    """The file beside the database cannot grow for another reason: then it may be the card."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    for where in (str(tmp_path), str(tmp_path / "gone" / "gateway.db")):
        told = _translated(where, error)
        assert not isinstance(told, DiskFull) and "replace the card if this comes back" in str(told)
