"""A publisher on a real `gateway.db` with noise sources that only a test may have, and time told by the test."""

from __future__ import annotations

import itertools
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from murmure_edge.config import load, load_trust
from murmure_edge.folders import prepare_folders
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.publisher import Identity, Publisher
from murmure_edge.reading import PortBatch, PortHealth, PortState, Reading
from murmure_edge.sense import Sense
from murmure_privacy.errors import LedgerDamaged
from murmure_privacy.ledger import Charge, Ledger
from murmure_privacy.plan import IndicatorPlan, Plan, plan
from murmure_privacy.policy import Policy, parse
from murmure_privacy.release import Message, Outcome, Receipt, Release, Withheld
from murmure_privacy.window import parse_utc
from murmure_privacy.wire import FIRST_PREVIOUS, digest, new_key, open_message, public_key, seal_policy, seal_receipt

QUARTER_S = 900

STREAMS = {
    # One slot a quarter-hour: a day of readings is 96 numbers.
    "dust": 'quantity = "pm2_5"\nprotects = { seconds = 60 }\nreadings = { cadence_ms = 900000, tail = 2 }\n'
    "bounds = [0, 100]\n",
    "sound": 'quantity = "noise"\nprotects = { seconds = 15 }\nreadings = { cadence_ms = 900000, tail = 11 }\n'
    "bounds_db = [35, 85]\n",
    "steps": 'quantity = "footfall"\nprotects = { crossings = 1 }\n',
}


def policy_text(
    version: int = 1,
    streams: tuple[str, ...] = ("dust",),
    epsilon: str = "1.0",
    nodes: str = '{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 24 }',
    timezone: str = "Europe/Paris",
    valid: tuple[str, str] = ("2026-01-01", "2026-12-31"),
    extra: str = "",
    in_stream: str = "",
) -> bytes:
    """A policy of the site `plaza`, as a steward would write it."""
    tables = "".join(
        f'[[stream]]\nid = "plaza/{name}"\nepsilon = {epsilon}\nnodes = {nodes}\n{STREAMS[name]}{in_stream}\n'
        for name in streams
    )
    return (
        f'policy = 1\nsite = "plaza"\nversion = {version}\ntimezone = "{timezone}"\ndecision = "D 1"\nreason = "R"\n'
        f"valid_from = {valid[0]}\nvalid_until = {valid[1]}\n{extra}\n{tables}"
    ).encode()


@pytest.fixture(scope="session")
def write_policy() -> Callable[..., bytes]:
    """write_policy(version, streams, epsilon, nodes, timezone, valid, extra, in_stream) -> the bytes of its TOML."""
    return policy_text


@pytest.fixture(scope="session")
def make_policy() -> Callable[..., Policy]:
    """The same, parsed."""
    return lambda *args, **named: parse(policy_text(*args, **named), "policy")


class Exact:
    """Adds nothing."""

    def prepare(self, indicator: IndicatorPlan) -> None:
        """Every scale will do."""

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        return exact


class Numbered:
    """Answers each draw with numbers never given before, so that a draw can be followed to where it was published."""

    def __init__(self, first: int = 1) -> None:
        self._next = itertools.count(first)

    def prepare(self, indicator: IndicatorPlan) -> None:
        """Every scale will do."""

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        return tuple(next(self._next) for _ in exact)


@pytest.fixture
def exact() -> Exact:
    """A mechanism that adds nothing."""
    return Exact()


@pytest.fixture(scope="session")
def numbered() -> type[Numbered]:
    """numbered(first) -> a mechanism whose draws can be told apart."""
    return Numbered


SECRET = new_key()[0]
WHO = Identity("gw-plaza", "centre", "plaza", SECRET)


@lru_cache(maxsize=4096)
def opened(sealed: bytes) -> Message:
    """Verified as the centre would, once."""
    return open_message(sealed, public_key(SECRET))


@dataclass
class Rig:
    """One gateway's publisher; `messages` are those handed over after their commit, over all restarts."""

    path: Path
    mechanism: Exact | Numbered = field(default_factory=Numbered)
    judge_dates: bool = True
    kind: type[Publisher] = Publisher
    messages: list[tuple[Message, bytes]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.db = GatewayDb.open(self.path)
        self.publisher = self.new_publisher()

    def new_publisher(self) -> Publisher:
        return self.kind(
            self.db, WHO, self.mechanism, lambda *sent: self.messages.append(sent), self.said.append, self.judge_dates
        )

    def restart(self, now_s: int) -> None:
        """As after a power cut: what was in memory is gone."""
        self.db.close()
        self.db = GatewayDb.open(self.path)
        self.publisher = self.new_publisher()
        self.publisher.start(now_s)

    def fill(self, from_s: int, until_s: int, value: int = 200, streams: tuple[str, ...] = ("dust",)) -> None:
        """One reading a slot, then the end of the time."""
        for stream in streams:
            step_s = 1 if stream == "steps" else QUARTER_S
            first_s = -(-from_s // step_s) * step_s
            rows = [(at_s * 1000, value) for at_s in range(first_s, until_s, step_s)]
            self.publisher.add(f"plaza/{stream}", rows)
        self.publisher.advance(until_s)

    def outcomes(self) -> list[Outcome]:
        return [outcome for message, _ in self.messages for outcome in message.outcomes]

    def stored(self) -> list[Message]:
        """What the database holds for the centre, verified as the centre would."""
        return [opened(sealed) for sealed in self.db.rows().values()]


MEMORY_DISK = Path("/dev/shm")


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk in memory where there is one: what is tested there is not whether a sync is slow."""
    if not os.access(MEMORY_DISK, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def gateway_kind() -> type[Rig]:
    """The gateway that `rig` makes, for a test that makes its own."""
    return Rig


@pytest.fixture
def rig(quick_folder: Path) -> Iterator[Callable[..., Any]]:
    """Makes gateways, each with its own file."""
    made: list[Rig] = []

    def make(**named: Any) -> Rig:
        made.append(Rig(quick_folder / f"gw{len(made)}" / "gateway.db", **named))
        return made[-1]

    yield make
    for one in made:
        one.db.close()


def promises_kept(db: GatewayDb, policies: dict[bytes, Policy], drawn: bool = True) -> str | None:
    """Returns what a ledger and its outbox (no receipt has come yet) break of the promise, None if nothing.

    The next start would accept it; one line a node; each charge is one release in one message and the other way round;
    numbers and hashes chain; at no instant is more spent than the policy in force there allows; no draw is published
    twice (`drawn`: they are told apart by their numbers).
    """
    try:
        Ledger(db._db)
        db._verify_marks()
    except LedgerDamaged as damage:
        return str(damage)
    lines = list(db.ledger.lines())
    keys = [(line.stream, line.level, line.start_s) for line in lines]
    if len(set(keys)) != len(keys):
        return "a node has two lines"
    sealed = list(db.rows().values())
    previous, sent = FIRST_PREVIOUS, []
    for seq, one in enumerate(sealed, 1):
        message = opened(one)
        if (message.seq, message.previous) != (seq, previous):
            return f"message {seq} does not follow from the one before it"
        previous = digest(one)
        sent += list(message.outcomes)
    published = [
        (*outcome.node.key, sum(n.rho_micro for n in outcome.noised) if isinstance(outcome, Release) else 0)
        for outcome in sent
    ]
    if published != [(*key, line.rho_micro) for key, line in zip(keys, lines, strict=True)]:
        return "the charges are not those of the messages"
    draws = [value for outcome in sent if isinstance(outcome, Release) for n in outcome.noised for value in n.integers]
    if drawn and len(set(draws)) != len(draws):
        return "a draw was published twice"
    budgets = {
        (hashed, name): part.rho_micro
        for hashed, policy in policies.items()
        for name, part in plan(policy).streams.items()
    }
    for stream in {line.stream for line in lines}:
        paid = [line for line in lines if line.stream == stream and line.rho_micro]
        for at_s in {line.covered_from_s for line in paid}:
            over = [line for line in paid if line.covered_from_s <= at_s < line.end_s]
            spent, allowed = sum(line.rho_micro for line in over), min(budgets[line.policy, stream] for line in over)
            if spent > allowed:
                return f"{stream}: {spent} micro-rho spent at {at_s} where {allowed} are allowed"
        if any(over_cap(db.ledger, plan(policies[line.policy]), line) for line in paid):
            return f"{stream}: more than the cap was spent"
    return None


def over_cap(ledger: Ledger, made: Plan, line: Charge) -> bool:
    """Returns whether a charge lies on a day up to which its policy's cap is passed."""
    stream = made.streams[line.stream]
    cap, limit = stream.stream.cap, stream.cap_rho_micro
    if cap is None or limit is None:
        return False
    levels = [level for level, _ in stream.stream.nodes if level != "1w"]
    at_s = line.covered_from_s
    while at_s < line.end_s:
        day = made.calendar.period(levels, at_s)
        at_s = day.end_s
        total = 0
        for _ in range(cap.days):
            total += cap.units_per_day**2 * ledger.spent_rho_micro(line.stream, day.start_s, day.end_s)
            day = made.calendar.period(levels, day.start_s - 1)
        if total > limit:
            return True
    return False


@pytest.fixture(scope="session")
def gateway_secret() -> bytes:
    """The key that signs for every gateway here."""
    return SECRET


@pytest.fixture(scope="session")
def broken_promise() -> Callable[..., str | None]:
    """See promises_kept."""
    return promises_kept


class Mortal(sqlite3.Connection):
    """A connection that calls `before(n)` before its n-th statement."""

    statements = 0
    before: Callable[[int], None] = staticmethod(lambda _: None)

    def execute(self, *args: Any) -> sqlite3.Cursor:
        self.statements += 1
        self.before(self.statements)
        return super().execute(*args)


@pytest.fixture(scope="session")
def mortal() -> Callable[[Path], tuple[Mortal, GatewayDb]]:
    """mortal(path) -> a connection to break, and the database on it."""

    def make(path: Path) -> tuple[Mortal, GatewayDb]:
        connection = sqlite3.connect(path, isolation_level=None, factory=Mortal)
        return connection, GatewayDb(connection, str(path))

    return make


@dataclass
class Enrolled:
    """A gateway's folder as the enrolment leaves it, and the secrets of those whom it trusts."""

    folder: Path
    centre: bytes
    steward: bytes

    @property
    def file(self) -> Path:
        return self.folder / "gateway.toml"

    def write(self, *ports: str) -> Path:
        """`gateway.toml` with the [[port]] tables given."""
        self.file.write_text(
            'gateway = "gw-plaza"\ndata = "data"\noutbox = "spool/outbox"\ninbox = "spool/inbox"\n'
            'send_data = "send"\ntrust = "trust.toml"\nclock = "any"\n'
            '[broker]\nhost = "127.0.0.1"\nport = 9\nretry_cap_s = 1\n'
            + "".join(f"[[port]]\n{port}\n" for port in ports)
        )
        return self.file

    def drop(self, name: str, sealed: bytes) -> None:
        """What `send` does with what comes for us."""
        inbox = self.folder / "spool" / "inbox"
        beside = inbox / f".{name}.tmp"
        beside.write_bytes(sealed)
        beside.rename(inbox / name)

    def policy(self, text: bytes) -> bytes:
        return seal_policy(text, [("steward", self.steward)])

    def receipt(self, seq: int, sealed: bytes, policy_version: int = 1, checkpoint: bytes = bytes(32)) -> bytes:
        receipt = Receipt("gw-plaza", "centre", seq, digest(sealed), (), 0, policy_version, checkpoint)
        return seal_receipt(receipt, self.centre)

    def outbox(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "spool" / "outbox").glob("0*.cose"))


@pytest.fixture
def enrolled(tmp_path: Path) -> Enrolled:
    """A gateway with keys and folders, and no port yet."""
    (centre, centre_public), (steward, steward_public) = new_key(), new_key()
    (tmp_path / "trust.toml").write_text(
        f'gateway = "gw-plaza"\nquartier = "centre"\nsite = "plaza"\ncentre = "{centre_public.hex()}"\n'
        f'stewards = ["{steward_public.hex()}"]\nsignatures_required = 1\n'
    )
    gateway = Enrolled(tmp_path, centre, steward)
    prepare_folders(load(gateway.write()))
    key = tmp_path / "data" / "record.key"
    key.touch(0o600)
    key.write_text(SECRET.hex())
    return gateway


@pytest.fixture
def eventually() -> Callable[..., None]:
    """eventually(condition, what) waits in wall time, at most 30 s, until the condition holds."""

    def wait(condition: Callable[[], object], what: str) -> None:
        patience = time.monotonic() + 30
        while not condition():
            if time.monotonic() > patience:
                pytest.fail(f"waited in vain for {what}")
            time.sleep(0.02)

    return wait


MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")
HOUR_S = 3600
DUST = 'name = "dust"\ndevice = "sds011"\npath = "/nowhere/dust"\nstreams = { pm2_5 = "plaza/dust" }'


class NoLink:
    """A port that nobody opens: the test posts the batches."""


class ToldClock:
    """Every look at the inbox is due, and the clock is trusted and steps when the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.stepped = False
        self.vouched = True
        self.begun = False
        self.wall_s = 0

    def monotonic(self) -> float:
        self.now_s += 10
        return self.now_s

    def trusted(self) -> bool:
        return self.vouched

    def begin(self) -> None:
        self.begun = True

    def stepped_forward(self) -> bool:
        stepped, self.stepped = self.stepped, False
        return stepped

    def now_ms(self) -> int:
        return self.wall_s * 1000


class Turned:
    """A `Sense` whose turns the test takes one by one."""

    def __init__(self, enrolled: Any, mechanism: Any, *ports: str) -> None:
        self.enrolled, self.mechanism, self.ports = enrolled, mechanism, ports
        self.said: list[str] = []
        self.clock = ToldClock()
        self.start()

    def start(self) -> None:
        config = load(self.enrolled.write(*self.ports))
        self.db = self.opened(config.data / "gateway.db")
        self.secret = bytes.fromhex((config.data / "record.key").read_text())
        no_link: Any = lambda *_: NoLink()  # noqa: E731
        self.sense = Sense(
            config, load_trust(config), self.db, self.secret, no_link, self.clock, self.mechanism, self.said.append
        )
        self.sense._require_whole_past()
        self.sense._outbox.start(self.db.settled + 1, self.db.next_message()[0] - 1)

    def opened(self, path: Path) -> GatewayDb:
        return GatewayDb.open(path)

    def restart(self) -> None:
        self.db.close()
        self.start()

    def batch(
        self, port: str, until_s: int, readings: dict[str, list[Reading]] | None = None, state: str = "ok"
    ) -> None:
        """What the port's thread would hand over, and one turn."""
        self.sense._batches.put(
            PortBatch(port, readings or {}, until_s * 1000, PortHealth(PortState(state), frames=1), None)
        )
        self.sense._turn()

    def live(self, from_s: int, until_s: int, port: str = "dust", quantity: str = "pm2_5", value: int = 200) -> None:
        """One reading a quarter-hour, in one batch."""
        first_s = -(-from_s // 900) * 900
        rows = [Reading(at_s * 1000, value) for at_s in range(first_s, until_s, 900)]
        self.batch(port, until_s, {quantity: rows} if rows else None)

    def messages(self) -> list[Any]:
        return [open_message(sealed, public_key(self.secret)) for sealed in self.db.rows().values()]

    def nodes(self) -> list[tuple[str, float, float, str]]:
        return [
            (
                outcome.node.level,
                (outcome.node.covered_from_s - MIDNIGHT_S) / HOUR_S,
                (outcome.node.end_s - MIDNIGHT_S) / HOUR_S,
                outcome.reason if isinstance(outcome, Withheld) else "released",
            )
            for message in self.messages()
            for outcome in message.outcomes
        ]


@pytest.fixture(scope="session")
def turned_kind() -> type[Turned]:
    """The gateway that `turned` makes, for a test that makes its own."""
    return Turned


@pytest.fixture
def turned(enrolled: Any, exact: Any) -> Iterator[Callable[..., Turned]]:
    """Makes a gateway with the ports given (one dust sensor without)."""
    made: list[Turned] = []

    def make(*ports: str) -> Turned:
        made.append(Turned(enrolled, exact, *(ports or (DUST,))))
        return made[-1]

    yield make
    for one in made:
        one.db.close()
