"""Process 2 of a gateway: carries sealed messages from the outbox folder to the broker, and letters to the inbox.

It has the network and nothing worth stealing: it reads the outbox, writes the inbox and keeps `send.db`, and never
opens gateway.db, a sensor or the record key. It retries for ever. A message goes out again over each new connection (a
broker may have lost what it acknowledged) and after `resend_s`, each time after a longer wait, until `sense` has taken
its file away because the centre's receipt came.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.files import names, opened, read_regular
from murmure_privacy.wire import MESSAGE_LIMIT, digest

from murmure_edge import inbox, outbox
from murmure_edge.allowance import Allowance, cost_bytes
from murmure_edge.config import Broker, GatewayConfig, Trust, load, load_trust
from murmure_edge.folders import prepare_folders, write_whole
from murmure_edge.supervisor import Supervisor
from murmure_edge.uplink import WINDOW, Acknowledged, Arrived, Topics, Uplink, UplinkLost

POLL_S = 0.2  # how soon a new message is noticed
_FIRST_RETRY_S = 0.5
_STEADY_S = 10.0  # a connection that lived this long was a good one: the next pause is short again
_ACK_PATIENCE_S = 30.0
_LOOK_S = 5.0  # how often the folder is read although its time stamp, which has steps, has not changed
_REPEAT_S = 2  # the first wait before a new connection carries a message again: a flapping line must not pay each flap
_LONGEST_S = 21_600
_BEAT_S = 1.0  # how often the service manager may hear that a pause is one
_HEALTH_SHARE = 8  # this part of a short allowance health may take before releases
_DAY_S = 86_400
_POLICIES_KEPT = 2  # only the newest can still be news to sense


class SentLog:
    """When each message was last acknowledged by a broker, and how often: `send.db`. Losing it costs a resend and
    nothing else, so trouble with it is said once and the log goes on in memory."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._file, self._say = folder / "send.db", say
        self._sent: dict[int, tuple[int, int]] = {}
        self._db: sqlite3.Connection | None = None
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._forget(error)

    def _open(self) -> None:
        self._db = sqlite3.connect(self._file, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # a flash card need not pay for what may be lost
        self._db.execute("CREATE TABLE IF NOT EXISTS sent (seq INTEGER PRIMARY KEY, sent_s INTEGER, times INTEGER)")
        rows = self._db.execute("SELECT seq, sent_s, times FROM sent")
        self._sent = {seq: (sent_s, times) for seq, sent_s, times in rows}

    def _forget(self, error: sqlite3.DatabaseError) -> None:
        self.close()
        self._say(f"{self._file}: {error}; going on without it, some messages may be sent twice")
        # A full disk says OperationalError; anything else is a damaged file, and the next start makes a fresh one.
        if not isinstance(error, sqlite3.OperationalError):
            for suffix in ("", "-wal", "-shm"):
                with suppress(OSError):
                    Path(f"{self._file}{suffix}").unlink()

    def last(self, seq: int) -> tuple[int, int] | None:
        """Returns when `seq` was last acknowledged (UTC seconds) and how often in all, None if never."""
        return self._sent.get(seq)

    def note(self, seq: int, at_s: int) -> None:
        """Records that a broker has acknowledged `seq` at `at_s`."""
        _, times = self._sent.get(seq, (0, 0))
        self._sent[seq] = (at_s, times + 1)
        self._write("INSERT OR REPLACE INTO sent VALUES (?, ?, ?)", [(seq, at_s, times + 1)])

    def keep(self, seqs: set[int]) -> None:
        """Forgets every message that is not in `seqs`: its file has gone."""
        gone = self._sent.keys() - seqs
        for seq in gone:
            del self._sent[seq]
        self._write("DELETE FROM sent WHERE seq = ?", [(seq,) for seq in gone])

    def _write(self, statement: str, rows: list[tuple[int, ...]]) -> None:
        if self._db is None or not rows:
            return
        try:
            self._db.execute("BEGIN")
            self._db.executemany(statement, rows)
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._forget(error)

    def close(self) -> None:
        """Lets the file go; the log goes on in memory."""
        if self._db is not None:
            self._db.close()
            self._db = None


class PostOffice:
    """What `send` does while a connection lives, and what it remembers from one to the next."""

    def __init__(
        self,
        config: GatewayConfig,
        topics: Topics,
        log: SentLog,
        now_s: Callable[[], int],
        monotonic: Callable[[], float],
        say: Callable[[str], None],
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._alive = alive
        self._config, self._broker, self._topics, self._log = config, required_broker(config), topics, log
        self._now_s, self._monotonic, self._say = now_s, monotonic, say
        self._allowance = Allowance(self._broker.bytes_per_day, monotonic)
        self._undelivered: dict[str, bytes] = {}
        self._complaints: dict[str, str] = {}
        self._health_first_s = monotonic()  # from when on a new health report goes before releases
        self._begin()

    def _begin(self) -> None:
        """Forgets what belongs to one connection."""
        self._carried: set[int] = set()
        self._in_flight: dict[int, tuple[int | None, float]] = {}
        self._health: bytes | None = None
        self._health_waits = False
        self._due: deque[int] = deque()
        self._looked: tuple[int, float] | None = None
        self._next_due_s = 0

    def serve(self, uplink: Uplink, stop: threading.Event) -> None:
        """Carries post over `uplink` until `stop`. Raises UplinkLost."""
        self._begin()
        while not stop.is_set():
            self._alive()
            self._publish(uplink)
            for event in uplink.turn(POLL_S):
                self._take(event)
            self.deliver()
            oldest = min((since for _, since in self._in_flight.values()), default=None)
            if oldest is not None and self._monotonic() - oldest > _ACK_PATIENCE_S:
                raise UplinkLost("the broker acknowledges nothing")

    def _publish(self, uplink: Uplink) -> None:
        try:
            with opened(self._config.outbox) as at:
                looked = self._look(at)
                if looked and self._monotonic() >= self._health_first_s:
                    # Releases must not keep it back for good: it leads the centre to what this gateway can believe,
                    # and until then no receipt settles any of them.
                    self._health_waits = not self._publish_health(uplink, at)
                while self._due and not self._health_waits and len(self._in_flight) < WINDOW:
                    seq = self._due[0]
                    sealed = read_regular(at, outbox.name_of(seq), MESSAGE_LIMIT)
                    if sealed is not None and not self._carry(uplink, self._topics.release, sealed, seq):
                        break
                    self._due.popleft()
                if looked and not self._due and not self._health_waits:  # health has what releases leave as well
                    self._publish_health(uplink, at)
            self._well(f"{self._config.outbox}")
        except OSError as error:
            self._complain(f"{self._config.outbox}", error.strerror or str(error))

    def _look(self, at: int) -> bool:
        """Reads the folder if it has changed or a message falls due again. Returns whether it did."""
        changed_ns, now, now_s = os.fstat(at).st_mtime_ns, self._monotonic(), self._now_s()
        if (
            self._looked is not None
            and self._looked[0] == changed_ns
            and now - self._looked[1] < _LOOK_S
            and now_s < self._next_due_s
        ):
            return False
        self._looked = (changed_ns, now)
        seqs = {seq for name in names(at) if (seq := outbox.seq_of(name)) is not None}
        self._log.keep(seqs)
        self._carried &= seqs
        waiting = seqs - {seq for seq, _ in self._in_flight.values()}
        due_s = {seq: self._due_s(seq, now_s) for seq in waiting}
        self._due = deque(sorted(seq for seq in waiting if due_s[seq] <= now_s))
        self._next_due_s = min((at_s for at_s in due_s.values() if at_s > now_s), default=now_s + _LONGEST_S)
        return True

    def _due_s(self, seq: int, now_s: int) -> int:
        last = self._log.last(seq)
        if last is None or last[0] > now_s:  # never sent, or the clock was put back and says nothing
            return now_s
        resend_s = self._broker.resend_s
        return last[0] + repeat_after_s(last[1], resend_s, new_connection=seq not in self._carried)

    def _publish_health(self, uplink: Uplink, at: int) -> bool:
        """Publishes a health report that this connection has not carried. Returns whether none is left to carry."""
        sealed = read_regular(at, outbox.HEALTH, MESSAGE_LIMIT)
        if sealed is None or sealed == self._health:
            return True
        if not self._carry(uplink, self._topics.health, sealed, None):
            return False
        self._health = sealed
        if self._broker.bytes_per_day:
            cost = cost_bytes(self._topics.health, len(sealed))
            self._health_first_s = self._monotonic() + cost * _HEALTH_SHARE * _DAY_S / self._broker.bytes_per_day
        return True

    def _carry(self, uplink: Uplink, topic: str, sealed: bytes, seq: int | None) -> bool:
        """Publishes if the day's allowance has room for it. Returns whether it did."""
        if not self._allowance.take(cost_bytes(topic, len(sealed))):
            return False
        self._in_flight[uplink.publish(topic, sealed)] = (seq, self._monotonic())
        return True

    def _take(self, event: Acknowledged | Arrived) -> None:
        if isinstance(event, Arrived):
            name = inbox.RECEIPT if event.topic == self._topics.receipt else inbox.policy_name(event.payload)
            self._undelivered[name] = event.payload
            return
        seq, _ = self._in_flight.pop(event.token)
        if event.refusal is None:
            self._well("broker")
        else:
            self._complain("broker", f"it takes no message of ours: {event.refusal}")
        # A refused message waits like one without a receipt: asking at once would get the same answer.
        if seq is not None:
            now_s = self._now_s()
            self._carried.add(seq)
            self._log.note(seq, now_s)
            self._next_due_s = min(self._next_due_s, self._due_s(seq, now_s))

    def deliver(self) -> None:
        """Puts what has come into the inbox; what does not fit on the disk is tried again at the next turn."""
        try:
            for name, payload in list(self._undelivered.items()):
                write_whole(self._config.inbox, name, payload)
                del self._undelivered[name]
                if name != inbox.RECEIPT:
                    self._drop_old_policies(name)
            self._well(f"{self._config.inbox}")
        except OSError as error:
            self._complain(f"{self._config.inbox}", error.strerror or str(error))

    def _drop_old_policies(self, newest: str) -> None:
        with opened(self._config.inbox) as at:
            policies = [name for name in names(at) if name.startswith("policy-")]
            # Time stamps have steps: of several policies within one, the one just written is the newest.
            policies.sort(
                key=lambda name: (name == newest, os.stat(name, dir_fd=at, follow_symlinks=False).st_mtime_ns)
            )
            for name in policies[:-_POLICIES_KEPT]:
                os.unlink(name, dir_fd=at)

    def _complain(self, what: str, problem: str) -> None:
        if self._complaints.get(what) != problem:
            self._complaints[what] = problem
            self._say(f"{what}: {problem}; trying again")

    def _well(self, what: str) -> None:
        if self._complaints.pop(what, None) is not None:
            self._say(f"{what}: well again")


def required_broker(config: GatewayConfig) -> Broker:
    """Returns where to connect. Raises ConfigError in a white zone: there is nobody to send to."""
    if config.broker is None:
        mend = "write a table [broker] with a host, or carry messages with 'murmure edge export'"
        raise ConfigError(str(config.file), "broker", "is missing", mend)
    return config.broker


def repeat_after_s(times: int, resend_s: int, new_connection: bool) -> int:
    """Returns how long a message that was acknowledged `times` times waits for its receipt before it goes again:
    `resend_s`, doubling; over a new connection less, since a broker that came back may have lost it."""
    longer: int = 2 ** min(times - 1, 20)
    same_s = min(resend_s * longer, max(resend_s, _LONGEST_S))
    return min(_REPEAT_S * longer, same_s) if new_connection else same_s


def pause_s(attempt: int, cap_s: int, gateway: str) -> float:
    """Returns how long to wait before attempt number `attempt` (from 0) to connect: doubling, at most `cap_s`, and
    shortened by up to a quarter that differs between gateways, lest a town connect in the same second."""
    full_s = min(float(cap_s), _FIRST_RETRY_S * 2.0 ** min(attempt, 20))
    return full_s * (1 - digest(gateway.encode())[0] / 1024)


def run(
    config: GatewayConfig,
    trust: Trust,
    stop: threading.Event,
    now_s: Callable[[], int],
    monotonic: Callable[[], float],
    say: Callable[[str], None],
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Carries post until `stop` is set. `now_s`: UTC seconds; `monotonic`: seconds; `say`: one line for the journal,
    at changes of state only; `alive`: called in every turn, with or without a broker."""
    topics = Topics.of(trust.quartier, trust.gateway)
    broker = required_broker(config)
    where = f"broker {broker.host}:{broker.port}"
    with closing(SentLog(config.send_data, say)) as log:
        office = PostOffice(config, topics, log, now_s, monotonic, say, alive)
        attempt = 0
        up: bool | None = None
        while not stop.is_set():
            began = monotonic()
            try:
                with closing(Uplink(broker, trust.gateway, topics, monotonic, stop)) as uplink:
                    if up is not True:
                        say(f"{where}: connected")
                    up, began = True, monotonic()
                    office.serve(uplink, stop)
            except UplinkLost as error:
                if up is not False:
                    say(f"{where}: {error}; trying again for ever")
                if up and monotonic() - began > _STEADY_S:
                    attempt = 0
                up = False
            office.deliver()
            left_s = pause_s(attempt, broker.retry_cap_s, trust.gateway)
            while left_s > 0 and not stop.wait(min(left_s, _BEAT_S)):
                left_s -= _BEAT_S
                alive()
            attempt += 1


def main(config_path: Path) -> int:
    """`murmure edge send`: runs until SIGTERM or Ctrl-C. Returns 0. Raises ConfigError."""
    config = load(config_path)
    trust = load_trust(config)
    required_broker(config)
    prepare_folders(config)
    with _alone(config.send_data):
        return _serve(config, trust)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps a second `send`, and `edge wipe`, away meanwhile. Raises MurmureError if there is one.

    Without room for a lock file it goes on: two that send cost data, and nothing else.
    """
    with ExitStack() as held:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = os.open(folder / "send.lock", flags, 0o600)
            held.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MurmureError(f"{folder}: another process has it; stop the other `send` first") from None
        except OSError as error:
            _say(f"{folder}: no lock file: {error.strerror}")
        yield


def _serve(config: GatewayConfig, trust: Trust) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    supervisor = Supervisor(os.environ)
    supervisor.ready()
    alive = lambda: supervisor.alive(time.monotonic())  # noqa: E731
    run(config, trust, stop, lambda: int(time.time()), time.monotonic, _say, alive)
    return 0


def _say(line: str) -> None:
    print(f"murmure: send: {line}", file=sys.stderr, flush=True)
