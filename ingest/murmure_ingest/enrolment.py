"""The centre's half of an enrolment: claims that wait for their gateway, and the door at which it comes.

A claim is kept apart from the archive (`claims.db`, 0600): until it is used, it holds the key of both proofs. The first
request that proves the code binds the claim for ever; the same request again, after a cut line, gets the same answer.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import socketserver
import sqlite3
import ssl
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from murmure_privacy import wire
from murmure_privacy.decide import FLOOR
from murmure_privacy.enrolment import (
    HOLDS_S,
    MESSAGE_LIMIT,
    SECRET_BYTES,
    Claim,
    canonical,
    new_claim,
    proof,
    proves,
    six_words,
)
from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.window import QUARTER_S

from murmure_ingest.archive import Archive, Enrolment
from murmure_ingest.broker import turn_away
from murmure_ingest.certificates import Authority, enrolment_door, holds_key
from murmure_ingest.config import EnrolmentConfig, IngestConfig
from murmure_ingest.gateways import (
    Pinned,
    Port,
    RegisterError,
    begin,
    notice_until_s,
    pinned_versions,
    ports_toml,
    require_slot,
    trust_toml,
)
from murmure_ingest.intake import AHEAD_S
from murmure_ingest.receipts import centre_key
from murmure_ingest.rotation import file_rotation, require_changeable

VERSION = 1
_NAME = re.compile(r"[0-9a-f]{16}")
_AT_ONCE, _OF_ONE = 16, 2  # connections, all and from one address; one more is closed at once
_PATIENCE_S = 10.0
_HANDSHAKE_S = 3.0
_DAY_S = 86_400
_CAP_DAYS = 372  # the longest span of a cap, and the week that its first day may lie in
_LINES = 1000  # of what was spent, and of what is closed, in one answer
_AHEAD_S, _SPAN_S, _MOST = 2 * _DAY_S, 373 * _DAY_S, 1 << 40  # beyond it no gateway believes what it is told
_TOLD_S = 3600  # for so long a code that is too old is told as such
_LOOK_S = 0.1  # how soon `stop` is heard

_SCHEMA = """
CREATE TABLE IF NOT EXISTS claims (
  name TEXT PRIMARY KEY, gateway TEXT NOT NULL UNIQUE, key BLOB NOT NULL, until_s INTEGER NOT NULL,
  slot TEXT NOT NULL, request BLOB, answer BLOB, words TEXT
) STRICT;
"""


class Refusal(MurmureError):
    """The centre does not enrol this: one line for the technician."""


class ClaimsError(MurmureError):
    """The claims cannot be read or written; the archive is not concerned."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What a gateway will be when it comes. `replaces`: the gateway whose right to speak ends then. `rotates`: it is
    registered, and comes with new keys."""

    gateway: str
    site: str
    quartier: str
    stewards: tuple[bytes, ...]
    signatures_required: int
    ports: tuple[Port, ...]
    simulated: bool = False
    replaces: str | None = None
    rotates: bool = False
    pinned: Pinned = field(default_factory=Pinned)


class Claims:
    """The claims of one centre, in `claims.db` of its data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "claims.db"
        self._lock = threading.Lock()
        try:
            self._path.touch(mode=0o600)
        except OSError as error:
            raise ClaimsError(f"{self._path}: claims: {error.strerror}; see who may write there") from error
        with self._explained():
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=_PATIENCE_S)
        try:
            with self._explained():
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA secure_delete = ON")
                self._db.execute(_SCHEMA)
        except ClaimsError:
            self._db.close()
            raise

    def put(self, claim: Claim, slot: Slot, now_s: int) -> None:
        """Keeps a claim for a gateway. It has one at a time: an older one ends."""
        with self._writing() as db:
            db.execute("DELETE FROM claims WHERE gateway = ?", (slot.gateway,))
            db.execute(
                "INSERT INTO claims (name, gateway, key, until_s, slot) VALUES (?, ?, ?, ?, ?)",
                (claim.name, slot.gateway, claim.key, now_s + HOLDS_S, _slot_text(slot)),
            )

    def find(self, name: str) -> tuple[bytes, int, Slot, bytes | None, bytes | None] | None:
        """Returns key, end, slot, and the request and answer that bound the claim, or None."""
        rows = self._rows("SELECT key, until_s, slot, request, answer FROM claims WHERE name = ?", name)
        return None if not rows else (rows[0][0], rows[0][1], _slot(rows[0][2]), rows[0][3], rows[0][4])

    def bind(self, name: str, request: bytes, earlier: bytes | None = None) -> bool:
        """Binds a claim to the request that uses it. Returns whether it was free, bound to the same one, or to the
        `earlier` one, in whose place this one comes."""
        with self._writing() as db:
            cursor = db.execute(
                "UPDATE claims SET request = ? WHERE name = ? AND (request IS NULL OR request IN (?, ?))",
                (request, name, request, earlier),
            )
        return cursor.rowcount == 1

    def answered(self, name: str, answer: bytes, words: str) -> None:
        """Keeps the answer of a claim that is registered: it is the same for ever."""
        with self._writing() as db:
            db.execute("UPDATE claims SET answer = ?, words = ? WHERE name = ?", (answer, words, name))

    def cancel(self, gateway: str) -> bool:
        """Ends a gateway's claim, used or not. Returns whether there was one."""
        with self._writing() as db:
            return db.execute("DELETE FROM claims WHERE gateway = ?", (gateway,)).rowcount > 0

    def words(self, gateway: str) -> str | None:
        """Returns the six words of a gateway's enrolment, None if it has not come."""
        rows = self._rows("SELECT words FROM claims WHERE gateway = ?", gateway)
        return None if not rows else rows[0][0]

    def expected(self) -> list[tuple[Slot, int]]:
        """Returns the gateways that may still come, and until when (seconds since 1970)."""
        rows = self._rows("SELECT slot, until_s FROM claims WHERE request IS NULL ORDER BY gateway")
        return [(_slot(text), until_s) for text, until_s in rows]

    def forget(self, now_s: int) -> None:
        """Drops what nobody can use any more, keys first of all."""
        with self._writing() as db:
            db.execute("DELETE FROM claims WHERE until_s <= ?", (now_s,))

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, self._explained():
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Everything inside is kept together, durably, or not at all."""
        with self._lock, self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                mend = "remove it, and make the offers that nobody has used anew ('murmure gateway enrol')"
            else:
                mend = "make room, or see who may read and write there, and try again"
            raise ClaimsError(f"{self._path}: claims: {error}; {mend}") from error

    def close(self) -> None:
        """Closes the file."""
        self._db.close()


def offer(archive: Archive, config: IngestConfig, claims: Claims, slot: Slot, now: datetime) -> Claim:
    """Makes the claim of a gateway that will come. Raises ConfigError for bad names, RegisterError if the id was ever
    given away or if the gateway to be replaced is unknown or of another site."""
    require_slot(archive, slot.gateway, slot.site, slot.quartier, slot.stewards, slot.signatures_required)
    if slot.replaces is not None:
        _replaced(archive, slot)
    return _claimed(config, claims, slot, now)


def offer_rotation(
    archive: Archive, config: IngestConfig, claims: Claims, gateway: str, now: datetime
) -> tuple[Claim, Slot]:
    """Makes the claim with which a registered gateway may change its keys. Raises RegisterError if it may not."""
    line = require_changeable(archive, gateway)
    slot = Slot(gateway, line.site, line.quartier, line.stewards, line.signatures_required, ports=(), rotates=True)
    return _claimed(config, claims, slot, now), slot


def _claimed(config: IngestConfig, claims: Claims, slot: Slot, now: datetime) -> Claim:
    _, fingerprint = enrolment_door(config.data_dir, now)
    claim = new_claim(secrets.token_bytes(SECRET_BYTES), fingerprint)
    claims.forget(int(now.timestamp()))
    claims.put(claim, slot, int(now.timestamp()))
    return claim


def _replaced(archive: Archive, slot: Slot) -> None:
    """Raises RegisterError if the gateway that a slot replaces is not one that speaks for its site."""
    old = archive.enrolment(slot.replaces or "")
    if old is None or old.site != slot.site or old.status != "active":
        raise RegisterError(
            f"gateway {slot.replaces}: no active gateway of site {slot.site} has this id; see 'murmure gateway list'"
        )


def spent_before(
    archive: Archive, site: str, now_s: int, streams: Iterable[str] = ()
) -> list[tuple[str, int, int, int]]:
    """Returns what a site's gateways have spent in the past year, as (stream, from, until, micro-rho): in each of these
    days (UTC) at most so much at any instant. Days that are alike stand together, and all of a stream's where they are
    too many to be told; the last one ends now, or with the newest node if this clock is behind.

    Who has stolen a key writes nodes of any instant and price: what a new gateway would not believe is cut to what it
    does, or the thief could keep the site without one. Nor can he hide what was spent behind them: up to the last day
    of which not all is kept that gateways signed, an unknown past counts as fully spent, in each stream that is known
    of the site or named in `streams`."""
    first_s, limit_s, last_s = (now_s // _DAY_S - _CAP_DAYS) * _DAY_S, now_s + _AHEAD_S, now_s
    # By quarter-hour, so that no flood of nodes needs more memory than this.
    steps: dict[str, array[int]] = {}
    for stream, begin_s, end_s, rho in _charges(archive, site, first_s, now_s, streams):
        if begin_s < limit_s:
            if stream not in steps:
                steps[stream] = array("q", bytes(8 * ((limit_s - first_s) // QUARTER_S + 2)))
            own = steps[stream]
            own[max(0, begin_s - first_s) // QUARTER_S] += min(_MOST, rho)
            own[-((first_s - min(end_s, limit_s)) // QUARTER_S)] -= min(_MOST, rho)
            last_s = max(last_s, min(end_s, limit_s))
    found: list[tuple[str, int, int, int]] = []
    for stream in sorted(steps):
        spent = list(accumulate(steps[stream]))
        for at in range(0, len(spent), _DAY_S // QUARTER_S):
            most = min(_MOST, max(spent[at : at + _DAY_S // QUARTER_S]))
            if not most:
                continue
            start_s = first_s + at * QUARTER_S
            end_s = min(start_s + _DAY_S, last_s)
            alike = found and found[-1][0] == stream and found[-1][2:] == (start_s, most)
            if alike and end_s - found[-1][1] <= _SPAN_S:
                found[-1] = (stream, found[-1][1], end_s, most)
            else:
                found.append((stream, start_s, end_s, most))
    if len(found) > _LINES:
        together = []
        for stream in sorted(steps):
            own_spans = [span for span in found if span[0] == stream]
            first, last = min(a for _, a, _, _ in own_spans), max(b for _, _, b, _ in own_spans)
            most = max(most for *_, most in own_spans)
            together += [(stream, a, min(a + _SPAN_S, last), most) for a in range(first, last, _SPAN_S)]
        return together
    return found


def _charges(
    archive: Archive, site: str, first_s: int, now_s: int, streams: Iterable[str]
) -> Iterator[tuple[str, int, int, int]]:
    """Yields stream, begin, end and micro-rho of what was charged at a site, or can have been."""
    known = {*streams, *archive.streams_of(site)}
    for charge in archive.charges(site, first_s, streams):
        known.add(charge[0])
        yield charge
    unkept_s = archive.unkept_until(site)
    if unkept_s is not None and unkept_s > first_s:
        # Clocks may differ by as much as the intake allows.
        yield from ((stream, first_s, min(unkept_s, now_s) + AHEAD_S, _MOST) for stream in known)


def require_unspent(archive: Archive, site: str, now_s: int) -> None:
    """Raises RegisterError if gateways have spent at a site: one that is made here would begin with an empty ledger."""
    if spent_before(archive, site, now_s):
        raise RegisterError(
            f"site {site}: gateways before this one have spent there within the year, and one made with --local knows "
            "nothing of it; leave --local out: with a claim code it begins with what was spent"
        )


class Door:
    """Judges requests: `answer(request)` returns the bytes that go back."""

    def __init__(
        self,
        config: IngestConfig,
        claims: Claims,
        open_archive: Callable[[], Archive],
        now: Callable[[], datetime],
        say: Callable[[str], None],
    ) -> None:
        self._config, self._claims, self._open_archive = config, claims, open_archive
        self._now, self._say = now, say
        self._settings = config.enrolment or EnrolmentConfig()
        self._authority = Authority(config.data_dir, now())
        self.identity, self.fingerprint = enrolment_door(config.data_dir, now())
        self._turn = threading.Lock()  # one enrolment at a time: they are rare, and ids must not race

    def answer(self, request: bytes) -> bytes:
        """Returns the signed answer, or an error that says what to do. Nothing is registered but by a proven code."""
        try:
            with self._turn:
                self._claims.forget(int(self._now().timestamp()) - _TOLD_S)
                return self._enrol(request)
        except MurmureError as error:
            self._say(f"enrolment refused: {error}")
            return canonical({"v": VERSION, "error": str(error)})

    def _enrol(self, request: bytes) -> bytes:
        fields = _fields(request)
        now = self._now()
        found = self._claims.find(fields["claim"])
        if found is None:
            raise Refusal("claim code: this centre knows no such code; ask it for a new one")
        key, until_s, slot, bound, known_answer = found
        given = fields.pop("proof", None)
        if not proves(given, key, "gateway", self.fingerprint, canonical(fields)):
            raise Refusal("claim code: the code is not proven, or somebody is on the line; try again from the gateway")
        if known_answer is not None and bound == request:
            return known_answer
        if bound is None and now.timestamp() >= until_s:
            raise Refusal("claim code: it is older than 72 hours; ask the centre for a new one")
        self._require_kind(slot, fields)
        record_key = self._record_key(fields)
        # After a power cut a gateway may have sealed more with its old key before it asks again with the same new one.
        again = slot.rotates and bound is not None and _fields(bound)["record_key"] == fields["record_key"]
        used = Refusal(
            f"claim code: it was used already, for {slot.gateway}; if not by you, tell the centre to revoke that "
            "gateway, and ask for a new code"
        )
        if bound not in (None, request) and not again:
            raise used
        if slot.rotates:
            self._rotate(slot.gateway, record_key, fields)  # before the code is bound: no other gateway can spend it
        else:
            slot = replace(slot, pinned=self._pinned(slot, now))
        certificate = self._authority.issue(str(fields.get("csr")), slot.gateway, now)
        if not self._claims.bind(fields["claim"], request, bound):
            raise used
        if slot.rotates:
            body = {"v": VERSION, "gateway": slot.gateway, "certificate": certificate, "authority": self._authority.pem}
            return self._answered(key, request, body, f"{slot.gateway} has named its new key")
        enrolment = Enrolment(
            slot.gateway, slot.quartier, slot.site, record_key, slot.stewards, slot.signatures_required
        )
        # From here on the same request ends well whenever it comes again. What was spent is told once the forerunner
        # can spend no more.
        spent, closed = self._register(enrolment, slot, int(now.timestamp()))
        if slot.replaces is not None:
            for line in turn_away(self._config, slot.replaces, now):
                self._say(f"{slot.replaces}: {line}")
        body = {
            "v": VERSION,
            "gateway": slot.gateway,
            "trust_toml": trust_toml(
                enrolment, wire.public_key(centre_key(self._config.data_dir)), slot.simulated, slot.pinned
            ),
            "ports_toml": ports_toml(slot.ports),
            "spent": spent,
            "closed": closed,
            "broker": {
                "host": self._settings.broker_host or self._config.broker.host,
                "port": self._settings.broker_port or self._config.broker.port,
                "mqtt": self._config.broker.mqtt,
            },
            "certificate": certificate,
            "authority": self._authority.pem,
        }
        return self._answered(key, request, body, f"enrolled {slot.gateway} at {slot.site}")

    def _answered(self, key: bytes, request: bytes, body: dict[str, object], done: str) -> bytes:
        """Returns the answer to a request that is registered, and keeps it: it is the same for ever."""
        signed = {**body, "proof": proof(key, "centre", self.fingerprint, request, canonical(body))}
        answer = canonical(signed)
        words = six_words(self.fingerprint, request, answer)
        self._claims.answered(_fields(request)["claim"], answer, words)
        self._say(f"{done}; its six words: {words}")
        return answer

    def _require_kind(self, slot: Slot, fields: dict[str, Any]) -> None:
        if slot.rotates and "rotation" not in fields:
            raise Refusal(
                f"claim code: it is for new keys of {slot.gateway}, which is enrolled already: type it there, with "
                "--rotate; for a new gateway ask for a code of 'murmure gateway enrol'"
            )
        if not slot.rotates and "rotation" in fields:
            raise Refusal(
                f"claim code: it is for a new gateway, {slot.gateway}; to change this one's keys ask for a code of "
                "'murmure gateway rotate'"
            )

    def _rotate(self, gateway: str, record_key: bytes, fields: dict[str, Any]) -> None:
        """Files the gateway's word, signed by its old key, that `record_key` will speak for it."""
        try:
            statement, signature = str(fields["rotation"]).encode("ascii"), bytes.fromhex(str(fields.get("signed")))
        except ValueError as error:
            raise Refusal("rotation: the request cannot be read; bring both to the same version") from error
        archive = self._open_archive()
        try:
            with archive.transaction():
                file_rotation(archive, gateway, record_key, statement, signature)
        finally:
            archive.close()

    def _record_key(self, fields: dict[str, Any]) -> bytes:
        """Returns the gateway's record key, which it has shown that it holds."""
        possession = fields.pop("possession", None)
        try:
            key, signature = bytes.fromhex(str(fields.get("record_key"))), bytes.fromhex(str(possession))
        except ValueError:
            key = signature = b""
        if not holds_key(key, signature, self.fingerprint + canonical(fields)):
            raise Refusal("enrolment: the gateway does not show that its record key is its own; update the gateway")
        return key

    def _pinned(self, slot: Slot, now: datetime) -> Pinned:
        """Returns what the gateway is told to judge by: with the site's newest policy of its first contact, as the log
        has it after a cut line. What loosens and was published since the offer waits."""
        archive = self._open_archive()
        try:
            told = pinned_versions(archive).get(slot.gateway)
            if told is not None:
                return replace(slot.pinned, policy_version=told)
            if now.timestamp() < notice_until_s(archive, slot.site):
                return slot.pinned
            return begin(archive, slot.site, slot.stewards, slot.signatures_required, slot.pinned)
        finally:
            archive.close()

    def _register(
        self, enrolment: Enrolment, slot: Slot, now_s: int
    ) -> tuple[list[tuple[str, int, int, int]], list[tuple[str, str, int, int]]]:
        """Writes the line of the register and ends the gateway that is replaced, in one transaction. Then returns what
        the site has spent and which nodes of it are closed before their end. A line that is there already must be this
        gateway's own."""
        archive = self._open_archive()
        try:
            with archive.transaction():
                known = archive.enrolment(slot.gateway)
                if known is not None and known.record_key != enrolment.record_key:
                    raise RegisterError(
                        f"gateway {slot.gateway}: the register has another key for this id; ask for a new code"
                    )
                if known is None:
                    if any(line.record_key == enrolment.record_key for line in archive.enrolment_lines()):
                        raise RegisterError("record key: another gateway has it; wipe this gateway and enrol it anew")
                    if slot.replaces is not None:
                        _replaced(archive, slot)
                        old = archive.enrolment(slot.replaces)
                        if old is not None:
                            archive.enrol(replace(old, status="revoked"))
                    archive.enrol(enrolment, slot.pinned.logged)
            # Whoever was there, replaced or revoked before, can add nothing from that commit on: what they left is read
            # as of one later instant, and nobody waits meanwhile. Opening what a thief had put aside may take minutes.
            with archive.reading():
                # Clocks may differ by as much as the intake allows.
                closed = archive.closed_after(slot.site, now_s - AHEAD_S, _LINES)
                streams = [stream for port in slot.ports for stream in dict(port.streams).values()]
                return spent_before(archive, slot.site, now_s, streams), closed
        finally:
            archive.close()


def _fields(request: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(request)
        known = isinstance(fields, dict) and canonical(fields) == request and fields.get("v") == VERSION
    except (ValueError, RecursionError):
        known = False
    if not known or not isinstance(fields.get("claim"), str) or not _NAME.fullmatch(fields["claim"]):
        raise Refusal("enrolment: this centre does not understand the request; bring both to the same version")
    return dict(fields)


class _Places:
    """Who may be served at once: a few, and of one address fewer, lest one host keep all others out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        with self._lock:
            if self._taken.total() >= _AT_ONCE or self._taken[address] >= _OF_ONE:
                return False
            self._taken[address] += 1
            return True

    def give_back(self, address: str) -> None:
        with self._lock:
            self._taken[address] -= 1
            self._taken += Counter()  # drops those that have none


class EnrolmentServer:
    """The TLS door, on a thread of its own: `start`, then `stop`. One request and one answer a connection."""

    def __init__(self, host: str, port: int, door: Door) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(door.identity)
        places = _Places()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                address = str(self.client_address[0])
                if not places.take(address):
                    return
                try:
                    self.request.settimeout(_HANDSHAKE_S)
                    with context.wrap_socket(self.request, server_side=True) as line:
                        line.settimeout(_PATIENCE_S)  # for each step; a request has one deadline as a whole
                        answer = door.answer(receive(line))
                        line.sendall(len(answer).to_bytes(4, "big") + answer)
                except (OSError, EOFError):
                    return  # a stranger, or a line that was cut: the gateway asks again
                finally:
                    places.give_back(address)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 64  # who is to be turned away waits for nobody, nor does anybody wait for him
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Server((host, port), Handler)
        except OSError as error:
            raise ConfigError(
                "ingest.toml", "enrolment.port", f"{host}:{port}: {error.strerror or error}", "choose a free port"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_LOOK_S,), name="enrolment", daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begins to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Ends listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def enrolment_open(
    config: IngestConfig, open_archive: Callable[[], Archive], say: Callable[[str], None]
) -> Iterator[None]:
    """Keeps the door open, if the centre has one."""
    if config.enrolment is None:
        yield
        return
    try:
        claims = Claims(config.data_dir)
        claims.forget(int(utc_now().timestamp()))
    except ClaimsError as error:
        # What gateways send is filed all the same.
        say(f"{error}; until the centre is started again, no gateway can enrol")
        yield
        return
    door = Door(config, claims, open_archive, utc_now, say)
    server = EnrolmentServer(config.enrolment.host, config.enrolment.port, door)
    server.start()
    say(f"gateways enrol at {config.enrolment.host}:{server.port}")
    try:
        yield
    finally:
        server.stop()
        claims.close()


def receive(line: socket.socket) -> bytes:
    """Returns one message: four bytes of length, then so many. Raises EOFError if it is cut short, too long or slow."""
    deadline = time.monotonic() + _PATIENCE_S
    length = int.from_bytes(_exactly(line, 4, deadline), "big")
    if length > MESSAGE_LIMIT:
        raise EOFError("too long")
    return _exactly(line, length, deadline)


def _exactly(line: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        piece = line.recv(size - len(data)) if time.monotonic() < deadline else b""
        if not piece:
            raise EOFError("cut short")
        data += piece
    return data


def _slot_text(slot: Slot) -> str:
    return json.dumps(
        {
            "gateway": slot.gateway,
            "site": slot.site,
            "quartier": slot.quartier,
            "stewards": [key.hex() for key in slot.stewards],
            "signatures_required": slot.signatures_required,
            "ports": [[p.name, p.device, p.path, dict(p.streams), dict(p.options)] for p in slot.ports],
            "simulated": slot.simulated,
            "replaces": slot.replaces,
            "rotates": slot.rotates,
            "pinned": [list(slot.pinned.roles), slot.pinned.ceiling_rho_micro, slot.pinned.policy_version],
        }
    )


def _slot(text: str) -> Slot:
    fields = json.loads(text)
    roles, *rest = fields.pop("pinned", ([], FLOOR.rho_micro, 0))  # an offer of before has none
    return replace(
        Slot(**{**fields, "stewards": (), "ports": ()}),
        pinned=Pinned(tuple(roles), *rest),
        stewards=tuple(bytes.fromhex(key) for key in fields["stewards"]),
        ports=tuple(Port(*port) for port in fields["ports"]),
    )


def utc_now() -> datetime:
    """Returns the present instant; the one look at the clock of enrolments."""
    return datetime.now(UTC)
