"""Anyone's check of what a town has published: signatures, the log, the policies, every node, every row.

Pure: what was published comes as bytes (`Publication`), and out comes a report. Nobody is believed but the key of the
centre, which has signed the checkpoint of the log: the log says which gateways there are and which stewards sign for a
site, these have signed everything else, and each policy says what its figures may cost and how much noise is on them.
Nothing here has seen an exact value. docs/log.md says what this proves, and what not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from math import inf
from typing import Any

from murmure_privacy import codes, decide, log, wire
from murmure_privacy.audit import Auditor
from murmure_privacy.errors import ConfigError, WireError
from murmure_privacy.levels import EXCEEDED, SHARE_OVER, decibels
from murmure_privacy.log import Checkpoint
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import parse
from murmure_privacy.published import divisor, number, printed_name, printed_values, protects
from murmure_privacy.release import Message, Node, Noised, Outcome, Release
from murmure_privacy.stream import QUANTITIES, histogram_edges_tenths
from murmure_privacy.succession import Uses
from murmure_privacy.window import calendar, parse_utc, utc

DAY_S = 86_400
AHEAD_S = 900
"""How far a gateway's clock may be ahead of the centre's."""

KINDS = (
    *("checkpoint", "log_short", "log_root", "log_shrunk", "log_forked", "entry"),
    *("policy_missing", "policy_signature", "policy_order", "policy_backdated", "policy_looser"),
    *("annotation_missing", "annotation_unlogged", "annotation_signature"),
    *("account_order", "account_spend", "account_missing", "account_wrong", "account_message"),
    *("stranger", "signature", "revoked", "place", "forked", "hole", "chain"),
    *("policy_unknown", "stream", "sigma", "not_in_policy", "policy_over", "duplicate", "overspent", "reused_noise"),
    *("row_missing", "row_unsigned", "row_twice", "row_value", "row_sigma", "row_reason", "row_policy"),
    *("row_column", "row_estimate"),
)
"""What a finding can be, in the order of the checks."""

_FINDINGS_LISTED = 100
LAST_DAY = 73_049  # 2170-01-01: whatever is dated later is rubbish
_ON_ITS_WAY = 7
"""How many days a message may be on its way while later ones are there."""
_NOT_ALWAYS = ("laeq_db", SHARE_OVER)
"""Read off where that can be done alone: no level of an energy that noise made negative, no share without a bin."""
_SIGMAS, _ROUNDED = 8.0, 2e-6
_NOISY, _HITS = 4.0, 8
"""A sum of independent noise of this standard deviation, in integers, is 0 one time in ten; eight times and more often
than not it never is."""


def plain(text: str) -> str:
    """Returns a text that a terminal shows and does not obey."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


@dataclass(frozen=True, slots=True)
class Day:
    """The sealed messages with a node that ends on one day (since 1970, UTC). `read` may raise WireError."""

    day: int
    messages: int
    octets: int
    read: Callable[[], Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published, as bytes. `policies`: sealed, by the SHA-256 of their text; `annotations`: sealed; `closing`:
    the last message of each account; `rows`: the rows of the tables of a month such as `2026-11`, by the number of
    their edition, from 1; it returns None for an edition that is not there, and is None where a source has no tables.
    `months`: those that are said to have tables."""

    note: bytes
    centre: bytes
    entries: Sequence[bytes]
    policies: Mapping[bytes, bytes]
    annotations: Sequence[bytes]
    closing: Sequence[bytes]
    days: Sequence[Day]
    rows: Callable[[str, int], Iterable[Mapping[str, str]] | None] | None
    months: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was promised: one of KINDS, and what it is about."""

    kind: str
    where: str


@dataclass(slots=True)
class Report:
    """What a check saw. `checkpoint`: how far the log has come; `days`: those of which every message was checked;
    `untold`: sites with figures on these days and not one row in the tables."""

    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(0, log.EMPTY_ROOT))
    policies: int = 0
    annotations: int = 0
    accounts: int = 0
    messages: int = 0
    nodes: int = 0
    rows: int = 0
    days: list[int] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    left_out: int = 0

    def add(self, kind: str, where: str) -> None:
        """Notes a finding, or counts it when there are too many to list."""
        assert kind in KINDS
        found = Finding(kind, plain(where))
        if found in self.findings:
            return
        if len(self.findings) < _FINDINGS_LISTED:
            self.findings.append(found)
        else:
            self.left_out += 1


@dataclass(frozen=True, slots=True)
class _Policy:
    """A policy of the log. `notice_s`: nothing may be released under it that was observed before; 0 if it is no
    loosening, or nobody knows when it was published."""

    site: str
    version: int
    plan: Plan
    auditor: Auditor
    notice_s: int


@dataclass(frozen=True, slots=True)
class _Account:
    """What the log says of a gateway and day. `nodes`: released, withheld and micro-rho by stream and version, then by
    level; `without`: ranges of numbers that were settled and not filed."""

    last: int
    hash: bytes
    nodes: Mapping[tuple[str, int], Mapping[str, tuple[int, int, int]]]
    without: Sequence[tuple[int, int]]


@dataclass(slots=True)
class _Gateway:
    """What the log says of a gateway, and what was found of it. `heard`: hash, hash of the message before, and the day
    on which it was closed, by number; `settled`: the number up to which none is missing."""

    quartier: str
    site: str
    keys: list[bytes] = field(default_factory=list)
    last: int | None = None
    settled: int = 0
    accounts: dict[int, _Account] = field(default_factory=dict)
    heard: dict[int, tuple[bytes, bytes, int]] = field(default_factory=dict)


Progress = Callable[[int, int], None]


def verify(
    published: Publication,
    days: Iterable[int] | None = None,
    known: Checkpoint | None = None,
    progress: Progress = lambda _done, _total: None,
    most: int | None = None,
) -> Report:
    """Returns the report of a check. `days`: those of which every message and every row is checked, all if None; the
    log, the policies and the account of every day are checked in any case. `known`: what was remembered of the log.
    `most`: the newest of the days first, until so many bytes of messages are read, at least one day.

    `progress` is told how many of how many messages are done.
    """
    return _checked(published, days, known, progress, most).report


def _checked(
    published: Publication,
    days: Iterable[int] | None,
    known: Checkpoint | None,
    progress: Progress,
    most: int | None = None,
) -> _Check:
    check = _Check(published, Report())
    if check.log(known):
        check.entries()
        check.annotations()
        check.closing()
        every = set(days_of(published))
        check.messages(every if days is None else every.intersection(days), progress, most)
        unread = every.difference(check.report.days)
        check.sequences(whole=not unread)
        check.accounts()
        check.noise()
        check.rows(unread)
    return check


def days_of(published: Publication) -> list[int]:
    """Returns the days that have messages or, by the log, an account, the newest first: whoever serves the files can
    leave out a file, but not an entry."""
    found = {day.day for day in published.days}
    for entry in published.entries:
        try:
            told = log.read_entry(entry)
            if told["kind"] == "spend":
                found.add(_day(told["day"]))
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError):
            continue
    return sorted(found, reverse=True)


class _Check:
    """One check, step by step; each trusts what those before it have found right."""

    def __init__(self, published: Publication, report: Report) -> None:
        self.report = report
        self._published = published
        self._entries: list[dict[str, Any]] = []
        self._gateways: dict[str, _Gateway] = {}
        self._stewards: dict[str, list[tuple[list[bytes], int]]] = defaultdict(list)
        self._policies: dict[bytes, _Policy] = {}
        self._versions: dict[tuple[str, int], _Policy] = {}
        self._notes: dict[bytes, str] = {}
        self.nodes: dict[tuple[str, str, int], tuple[str, int, Outcome]] = {}
        self.tables: dict[tuple[str, str, str, str], Mapping[str, str]] = {}

    # --- the log -----------------------------------------------------------------------------------------------------

    def log(self, known: Checkpoint | None) -> bool:
        """Returns whether there is a log that can be read: the centre has signed exactly these entries."""
        found, entries = self.report, self._published.entries
        try:
            here = log.open_checkpoint(self._published.note, self._published.centre)
        except WireError as error:
            found.add("checkpoint", error.detail)
            return False
        found.checkpoint = here
        leaves = [log.leaf_hash(entry) for entry in entries]
        if known is not None:
            if here.size < known.size:
                found.add("log_shrunk", f"{here.size} < {known.size}")
            elif log.root(leaves[: known.size]) != known.root:
                found.add("log_forked", f"{known.size}")
        if len(entries) < here.size:
            found.add("log_short", f"{len(entries)} < {here.size}")
        elif log.root(leaves[: here.size]) != here.root:
            found.add("log_root", f"{here.size}")
        for place, entry in enumerate(entries[: here.size], 1):
            try:
                self._entries.append(log.read_entry(entry))
            except ValueError:
                found.add("entry", f"{place}")
        return True

    def entries(self) -> None:
        """Goes through the log in its order: who may speak, what stewards signed, what was spent."""
        latest_s = 0
        kinds: dict[str, Callable[[dict[str, Any]], None]] = {
            "enrolment": self._enrolment,
            "revocation": self._revocation,
            "annotation": self._annotation,
        }
        for place, told in enumerate(self._entries, 1):
            try:
                if told["kind"] == "policy":
                    latest_s = self._policy(told, latest_s)
                elif told["kind"] == "spend":
                    ends_s = self._spend(told)
                    after = self._entries[place] if place < len(self._entries) else {}
                    # The account of a gateway that says no more is closed before its day is over.
                    open_ = (after.get("kind"), after.get("gateway")) == ("revocation", told["gateway"])
                    latest_s = max(latest_s, 0 if open_ else ends_s)
                else:
                    kinds[told["kind"]](told)
            except (LookupError, ValueError, TypeError, AttributeError, OverflowError):
                self.report.add("entry", f"{place}")

    def _enrolment(self, told: dict[str, Any]) -> None:
        stewards, site = [bytes.fromhex(key) for key in told["stewards"]], str(told["site"])
        self._stewards[site].append((stewards, int(told["signatures_required"])))
        gateway = self._gateways.setdefault(str(told["gateway"]), _Gateway(str(told["quartier"]), site))
        gateway.keys.insert(0, bytes.fromhex(told["record_key"]))

    def _revocation(self, told: dict[str, Any]) -> None:
        self._gateways[told["gateway"]].last = int(told["last"])

    def _annotation(self, told: dict[str, Any]) -> None:
        self._notes[bytes.fromhex(told["sealed"])] = f"{told['site']} {told['number']}"

    def _policy(self, told: dict[str, Any], latest_s: int) -> int:
        """Returns the latest instant that the log tells of by now."""
        site, version, policy_hash = str(told["site"]), int(told["version"]), bytes.fromhex(told["hash"])
        where = f"{site} {version}"
        at_s = None if told["published"] is None else parse_utc(told["published"])
        if at_s is None and latest_s:  # a log that knows instants by now knows this one
            self.report.add("policy_backdated", f"{where}: null > {utc(latest_s)}")
        # Nothing ends, and no account is closed, more than a quarter-hour after the centre's clock.
        if at_s is not None and at_s + AHEAD_S < latest_s:
            self.report.add("policy_backdated", f"{where}: {utc(at_s)} < {utc(latest_s)}")
        before = max((one for one in self._versions.values() if one.site == site), key=_version, default=None)
        if before is not None and version <= before.version:
            self.report.add("policy_order", f"{where} <= {before.version}")
        sealed = self._published.policies.get(policy_hash)
        if sealed is None or wire.digest(sealed).hex() != told["sealed"]:
            self.report.add("policy_missing", where)
            return max(latest_s, at_s or 0)
        self.report.policies += 1
        try:
            text = self._signed(sealed, site)
            made = plan(parse(text, where), where)
        except (WireError, ConfigError):
            self.report.add("policy_signature", where)
            return max(latest_s, at_s or 0)
        if wire.digest(text) != policy_hash or (made.policy.site, made.policy.version) != (site, version):
            self.report.add("policy_missing", where)
            return max(latest_s, at_s or 0)
        notice_s = self._notice(before, made, latest_s if at_s is None else at_s)
        kept = _Policy(site, version, made, Auditor(made, made.calendar), notice_s)
        self._policies[policy_hash] = self._versions[site, version] = kept
        return max(latest_s, at_s or 0)

    def _notice(self, before: _Policy | None, made: Plan, at_s: int) -> int:
        """Returns from when on a policy may be used that was published at an instant, 0 for at once. A loosening waits
        for its own notice, and what follows on one that still waits is compared with what nobody uses yet: it waits at
        least as long. At 0, before the log knows instants, nobody knows."""
        if before is None or at_s == 0:
            return 0
        own_s = at_s + decide.NOTICE_S if decide.loosens(decide.compare(before.plan, made)) else 0
        return max(own_s, before.notice_s)

    def _signed(self, sealed: bytes, site: str) -> bytes:
        """Returns the text of a policy that stewards of its site have signed, those of any line of the register."""
        refusal = WireError("bad_signature", "no gateway has this site")
        for stewards, required in self._stewards[site]:
            try:
                return wire.open_policy(sealed, stewards, required)
            except WireError as error:
                refusal = error
        raise refusal

    def _spend(self, told: dict[str, Any]) -> int:
        """Returns the end of the day that an account is of."""
        name, day = str(told["gateway"]), _day(told["day"])
        where, gateway, end_s = f"{name} {told['day']}", self._gateways[name], (day + 1) * DAY_S
        account = _account(told)
        self.report.accounts += 1
        newest = max(gateway.accounts, default=None)
        if newest is not None and (
            (day < newest and day not in gateway.accounts)
            or (day > newest and account.last < gateway.accounts[newest].last)
        ):
            self.report.add("account_order", where)
        if gateway.last is not None and account.last > gateway.last:
            self.report.add("revoked", where)
        gateway.accounts[day] = account
        for (stream, version), levels in account.nodes.items():
            if version == 0:
                # Nothing is released under a policy that the centre has not.
                if any(released or rho_micro or withheld < 0 for released, withheld, rho_micro in levels.values()):
                    self.report.add("account_spend", f"{where}: {stream}")
                continue
            policy = self._versions.get((gateway.site, version))
            if policy is None:
                self.report.add("policy_backdated", f"{where}: {gateway.site} {version}")
                continue
            if policy.notice_s >= end_s and any(released for released, _, _ in levels.values()):
                self.report.add("policy_looser", f"{gateway.site} {version}: {told['day']}")
            for level, (released, withheld, rho_micro) in levels.items():
                costs = _charge(policy.plan, stream, level)
                if costs is None or rho_micro != released * costs or min(released, withheld) < 0:
                    self.report.add("account_spend", f"{where}: {stream} {level}")
        return end_s

    def annotations(self) -> None:
        """Every annotation is signed by stewards of its site and in the log, and none of the log is missing."""
        found = set()
        for sealed in self._published.annotations:
            self.report.annotations += 1
            try:
                note = wire.read_annotation(sealed)
            except WireError:
                self.report.add("annotation_signature", "?")
                continue
            where, digest = f"{note.site} {note.number}", wire.digest(sealed)
            if not any(_opens(sealed, *stewards) for stewards in self._stewards[note.site]):
                self.report.add("annotation_signature", where)
            elif digest not in self._notes:
                self.report.add("annotation_unlogged", where)
            found.add(digest)
        for digest, where in self._notes.items():
            if digest not in found:
                self.report.add("annotation_missing", where)

    # --- the messages ------------------------------------------------------------------------------------------------

    def closing(self) -> None:
        """The last message of each account is there, its gateway has signed it, and its nodes are those of its policy;
        by the chain of hashes it stands for all before it."""
        by_hash = {wire.digest(sealed): sealed for sealed in self._published.closing}
        for name, gateway in self._gateways.items():
            for day, account in gateway.accounts.items():
                where = f"{name} {_date(day)}"
                sealed = by_hash.get(account.hash)
                message = None if sealed is None else self._opened(sealed, where)
                if sealed is None or (message is not None and (message.gateway, message.seq) != (name, account.last)):
                    self.report.add("account_message", where)
                elif message is not None:
                    self._judged(message)

    def messages(self, days: Collection[int], progress: Progress, most: int | None) -> None:
        """Every message of these days is signed by its gateway, and every node of it is one of its policy, once; no day
        is without its file."""
        files: dict[int, list[Day]] = {day: [] for day in days}
        for one in self._published.days:
            files.get(one.day, []).append(one)
        total, done, octets = sum(one.messages for found in files.values() for one in found), 0, 0
        seen: set[bytes] = set()
        uses = {name: Uses(lambda policy: self._policies[policy].plan) for name in self._gateways}
        for day in sorted(files, reverse=True) if most is not None else sorted(files):
            if most is not None and octets > most:
                break
            self.report.days.append(day)
            row: list[bytes] = []
            try:
                row += [sealed for one in files[day] for sealed in one.read()]
            except WireError:
                self.report.add("account_missing", _date(day))
            if not files[day]:
                self.report.add("account_missing", _date(day))
            for sealed in row:
                octets += len(sealed)
                done += 1
                if done % 500 == 0 or done == total:
                    progress(done, total)
                digest = wire.digest(sealed)
                message = None if digest in seen else self._opened(sealed, f"{_date(day)} {done}")
                seen.add(digest)
                if message is not None:
                    self._heard(message, digest, uses[message.gateway])

    def _opened(self, sealed: bytes, where: str) -> Message | None:
        """Returns what a gateway of the log has signed."""
        try:
            envelope = wire.unwrap(sealed)
        except WireError:
            self.report.add("signature", where)
            return None
        gateway = self._gateways.get(envelope.speaker)
        if gateway is None:
            self.report.add("stranger", f"{where}: {envelope.speaker!a}")
            return None
        for key in gateway.keys:
            try:
                said = wire.open_envelope(envelope, key)
            except WireError:
                continue
            if isinstance(said, Message):
                return said
        self.report.add("signature", f"{where}: {envelope.speaker}")
        return None

    def _heard(self, message: Message, digest: bytes, uses: Uses) -> None:
        self.report.messages += 1
        gateway, where = self._gateways[message.gateway], _name(message)
        before = gateway.heard.setdefault(message.seq, (digest, message.previous, (message.closing_s - 1) // DAY_S))
        if before[0] != digest:
            self.report.add("forked", where)
        right = self._judged(message)
        for outcome in message.outcomes:
            self.report.nodes += 1
            if outcome.node.key in self.nodes:
                self.report.add("duplicate", f"{where}: {_node(outcome)}")
            else:
                self.nodes[outcome.node.key] = message.gateway, message.seq, outcome
        objection = uses.objection(message) if right else None
        if objection is not None:
            self.report.add("policy_over", f"{where}: {objection}")
        elif right:
            uses.add(message)

    def _judged(self, message: Message) -> bool:
        """Returns whether a message is of its place, and each of its nodes of its policy, that holds for it."""
        gateway, where, right = self._gateways[message.gateway], _name(message), True
        if gateway.last is not None and message.seq > gateway.last:
            self.report.add("revoked", where)
        if (message.quartier, message.site) != (gateway.quartier, gateway.site):
            self.report.add("place", where)
        for outcome in message.outcomes:
            node, policy = outcome.node, self._policies.get(outcome.node.policy)
            objection = None if policy is None else policy.auditor.check(outcome)
            kind = None
            if policy is None:
                kind = "policy_unknown"
            elif policy.site != message.site or node.stream not in policy.plan.streams:
                kind = "stream"
            elif objection is not None:
                kind = "sigma" if "sigma" in objection else "not_in_policy"
            elif isinstance(outcome, Release) and node.covered_from_s < policy.notice_s:
                kind = "policy_looser"
            if kind is not None:
                right = False
                self.report.add(kind, f"{where}: {_node(outcome)}")
        return right

    def sequences(self, *, whole: bool) -> None:
        """No number is missing that the log does not account for, and each message names the one before it. `whole`:
        every day that was published was looked at, so that the first message is number 1. What a gateway has said since
        the newest account may still be on its way, for some days."""
        days = set(self.report.days)
        first_day = min(days, default=0)
        for name, gateway in self._gateways.items():
            without = _joined(pair for account in gateway.accounts.values() for pair in account.without)
            heard = sorted(gateway.heard)
            before = [account.last for day, account in gateway.accounts.items() if day < first_day]
            closed = [account.last for day, account in gateway.accounts.items() if day in days]
            begin = 0 if whole else max(before, default=heard[0] - 1 if heard else 0)
            last = max([begin, *heard[-1:], *closed])
            accounted, newest = max(closed, default=0), max((day for _, _, day in gateway.heard.values()), default=0)
            gateway.settled = last
            for earlier, seq in pairwise([begin, *(one for one in heard if one > begin), last + 1]):
                missing = _first_missing(earlier + 1, seq, without)
                if missing is None:
                    continue
                gateway.settled = min(gateway.settled, missing - 1)
                if missing <= accounted or newest - gateway.heard[seq][2] >= _ON_ITS_WAY:
                    self.report.add("hole", f"{name} {missing} < {seq}")
            for earlier, seq in pairwise(heard):
                if seq == earlier + 1 and gateway.heard[seq][1] != gateway.heard[earlier][0]:
                    self.report.add("chain", f"{name} {seq}")

    def accounts(self) -> None:
        """The accounts of the days that were looked at are what their nodes add up to, and none is missing; and nobody
        released a node more often than a day has it."""
        due: dict[tuple[str, int], dict[tuple[str, int], dict[str, tuple[int, int, int]]]]
        due = defaultdict(lambda: defaultdict(dict))
        for name, _, outcome in self.nodes.values():
            node, policy = outcome.node, self._policies.get(outcome.node.policy)
            streams = due[name, (node.end_s - 1) // DAY_S][node.stream, policy.version if policy else 0]
            was, kept, rho = streams.get(node.level, (0, 0, 0))
            if isinstance(outcome, Release):
                streams[node.level] = was + 1, kept, rho + sum(noised.rho_micro for noised in outcome.noised)
            else:
                streams[node.level] = was, kept + 1, rho
        released: Counter[tuple[str, int, str, int]] = Counter()
        for name, gateway in self._gateways.items():
            settled = [day for seq, (_, _, day) in gateway.heard.items() if seq <= gateway.settled]
            newest = max([*gateway.accounts, *(day - 1 for day in settled)], default=-1)
            for day, one in gateway.accounts.items():
                if one.last in gateway.heard and gateway.heard[one.last][0] != one.hash:
                    self.report.add("account_message", f"{name} {_date(day)}")
            for day in self.report.days:
                told, where = gateway.accounts.get(day), f"{name} {_date(day)}"
                if told is None and (name, day) in due and day <= newest:
                    self.report.add("account_missing", where)
                elif told is not None and told.nodes != due[name, day]:
                    self.report.add("account_wrong", where)
            for day, told in gateway.accounts.items():
                for (stream, version), levels in told.nodes.items():
                    policy = self._versions.get((gateway.site, version))
                    for level, counts in levels.items():
                        released[stream, version, level, day] += counts[0]
                        if policy and released[stream, version, level, day] > _most(policy.plan, level, day):
                            self.report.add("overspent", f"{name} {_date(day)}: {stream} {level}")

    def noise(self) -> None:
        """A figure over several others of the same stream has noise of its own: it is not always their sum."""
        tried: Counter[tuple[str, str]] = Counter()
        hits: Counter[tuple[str, str]] = Counter()
        by_stream: dict[tuple[str, str], dict[int, Release]] = defaultdict(dict)
        for _, _, outcome in self.nodes.values():
            if isinstance(outcome, Release):
                by_stream[outcome.node.stream, outcome.node.level][outcome.node.start_s] = outcome
        for (stream, level), coarse in by_stream.items():
            for (other, finer), fine in by_stream.items():
                if other != stream or finer == level:
                    continue
                for whole in coarse.values():
                    parts = _tiling(whole, fine)
                    for noised in whole.noised if len(parts) > 1 else ():
                        drawn = [one for part in parts for one in part.noised if _alike(one, noised)]
                        error = sum(one.sigma_milli**2 for one in (noised, *drawn))
                        if len(drawn) == len(parts) and error >= (1000 * _NOISY) ** 2:
                            sums = tuple(map(sum, zip(*(one.integers for one in drawn), strict=True)))
                            tried[stream, level] += 1
                            hits[stream, level] += noised.integers == sums
        for (stream, level), count in hits.items():
            if count >= _HITS and 2 * count > tried[stream, level]:
                self.report.add("reused_noise", f"{stream} {level}")

    # --- the tables --------------------------------------------------------------------------------------------------

    def rows(self, unread: Collection[int]) -> None:
        """Every row of the tables about the days that were looked at is as a gateway has signed it, once an edition;
        in the newest edition none is missing. `unread`: days that were not looked at; rows of all others are."""
        read = self._published.rows
        if read is None:
            return
        days = set(self.report.days)
        wanted = {key: one for key, (_, _, one) in self.nodes.items() if (one.node.end_s - 1) // DAY_S in days}
        months = {utc(at_s + shift)[:7] for _, _, at_s in wanted for shift in (-14 * 3600, 14 * 3600)}
        found: set[tuple[str, str, int, str]] = set()
        for month in sorted(months.union(() if unread else self._published.months)):
            newest: set[tuple[str, str, int, str]] = set()
            number = 1
            while (rows := read(month, number)) is not None:
                newest, number = self._edition(month, rows, wanted, unread), number + 1
            found |= newest
        told = {self._site(key[:3]) for key in found}
        if wanted and not told:
            self.report.add("row_missing", " ".join(sorted(months)))
            return
        for key, outcome in sorted(wanted.items(), key=_first):
            if self._site(key) not in told:
                self.report.untold = sorted({*self.report.untold, self._site(key)})
                continue
            for indicator in figures(outcome):
                if indicator not in _NOT_ALWAYS and (*key, indicator) not in found:
                    self.report.add("row_missing", f"{key[0]} {key[1]} {utc(key[2])} {indicator}")

    def _edition(
        self,
        month: str,
        rows: Iterable[Mapping[str, str]],
        wanted: Mapping[tuple[str, str, int], Outcome],
        unread: Collection[int],
    ) -> set[tuple[str, str, int, str]]:
        """Judges the rows of one edition, but for those of unread days; returns of which figures they are."""
        found: set[tuple[str, str, int, str]] = set()
        for row in rows:
            try:
                node = row["stream"], row["node"], parse_utc(row["start_utc"])
                ends, indicator = (parse_utc(row["end_utc"]) - 1) // DAY_S, row["indicator"]
            except (KeyError, ValueError, AttributeError, OverflowError):
                self.report.add("row_unsigned", month)
                continue
            outcome = wanted.get(node)
            if outcome is None and ends in unread:
                continue
            self.report.rows += 1
            where = f"{row['stream']} {row['node']} {row['start_utc']} {indicator}"
            kind = "row_unsigned" if outcome is None else self.objection(row, outcome)
            if (*node, indicator) in found:
                kind = "row_twice"
            if kind is not None:
                self.report.add(kind, where)
            if outcome is not None:
                found.add((*node, indicator))
                self.tables[row["stream"], row["node"], row["start_utc"], indicator] = row
        return found

    def _site(self, key: tuple[str, str, int]) -> str:
        return self._gateways[self.nodes[key][0]].site

    def objection(self, row: Mapping[str, str], outcome: Outcome) -> str | None:
        """Returns what of a row of the tables is not as a gateway has signed it, None if all is: one of KINDS."""
        node, known, released = outcome.node, figures(outcome), isinstance(outcome, Release)
        indicator, policy = row["indicator"], self._policies.get(node.policy)
        if indicator not in known:
            return "row_unsigned"
        reason = "" if isinstance(outcome, Release) else outcome.reason
        if (row.get("status"), row.get("reason")) != ("released" if released else "withheld", reason):
            return "row_reason"
        if row.get("policy") != f"sha256:{node.policy.hex()}":
            return "row_policy"
        value, sigma, rho = known[indicator]
        if row.get("value") != value:
            return "row_value"
        if (row.get("sigma"), row.get("rho_micro")) != (sigma, rho):
            return "row_sigma"
        part = None if policy is None else policy.plan.policy.stream(node.stream)
        told = {
            "start_utc": utc(node.start_s),
            "end_utc": utc(node.end_s),
            "site": self._site(node.key),
            "quantity": node.quantity,
            "unit": _unit(node, indicator),
            "mechanism": "discrete_gaussian" if released else "",
            "epsilon": str(part.epsilon) if part else "",
            "delta": f"{part.delta:f}" if part else "",
            "protects": protects(part) if part else "",
        }
        if any(row.get(name) != text for name, text in told.items()):
            return "row_column"
        return None if _plausible(row, value, sigma, released) else "row_estimate"


def _unit(node: Node, indicator: str) -> str:
    """Returns the unit of a figure of the tables."""
    if indicator.startswith("histogram_s_"):
        return "s"
    if indicator in ("energy_mean", SHARE_OVER):
        return "1"
    return "dB" if indicator in EXCEEDED else QUANTITIES[node.quantity].unit


def _plausible(row: Mapping[str, str], value: str, sigma: str, released: bool) -> bool:
    """Returns whether state, estimate and interval may be what all nodes together give; only an estimate anew, which
    needs more than the standard library, says whether they are. An estimate from all nodes is nearer to the truth than
    the release, whose own noise is hardly ever 6 sigma."""
    texts = [row.get(name) for name in ("estimate", "ci95_low", "ci95_high")]
    if not released:
        return [*texts, row.get("state")] == [""] * 4
    try:
        estimate, low, high = (float(text) if text else None for text in texts)
    except ValueError:
        return False
    ends = -inf if low is None else low, inf if high is None else high
    if row.get("state") not in ("provisional", "final") or not ends[0] <= ends[1]:
        return False
    if row["indicator"] in EXCEEDED:
        if low is None or high is None:  # no estimate, but a bound
            return estimate is None
        return estimate is not None and abs(estimate - (low + high) / 2) <= _ROUNDED
    if estimate is None or high is None or (low is None and row["indicator"] != "laeq_db"):
        return False
    if not ends[0] - _ROUNDED <= estimate <= high + _ROUNDED:
        return False
    return not sigma or abs(estimate - float(value)) <= _SIGMAS * float(sigma) + _ROUNDED


def figures(outcome: Outcome) -> dict[str, tuple[str, str, str]]:
    """Returns value, sigma and micro-rho of a node as the tables have them, by indicator; no value for what is read off
    a histogram, and none at all for what was withheld."""
    node = outcome.node
    found: dict[str, tuple[str, str, str]] = {}
    for noised in outcome.noised if isinstance(outcome, Release) else ():
        name, values = printed_name(node, noised.indicator), printed_values(node, noised)
        sigma, rho = number(noised.sigma_milli / 1000 / divisor(node, noised.indicator)), str(noised.rho_micro)
        if noised.indicator == "histogram":
            edges = [edge / 10 for edge in histogram_edges_tenths(*node.bounds)]
            bins = zip(pairwise(edges), values, strict=True)
            found |= {f"{name}_{low:g}_{high:g}_db": (number(value), sigma, rho) for (low, high), value in bins}
            found |= dict.fromkeys((*EXCEEDED, SHARE_OVER), ("", "", rho))
            continue
        found[name] = number(values[0]), sigma, rho
        if noised.indicator == "energy":
            found["laeq_db"] = number(decibels(noised.integers[0] / divisor(node, "energy"))), "", rho
    return found or {QUANTITIES[node.quantity].printed: ("", "", "")}


@dataclass(frozen=True, slots=True)
class Match:
    """A figure that a code leads to: what its gateway signed in its message `seq`, and the row of the tables, None
    where there is none. `differs`: what of the row is not as it was signed, one of KINDS."""

    gateway: str
    seq: int
    outcome: Outcome
    indicator: str
    row: Mapping[str, str] | None
    differs: str | None


def find(
    published: Publication, text: str, progress: Progress = lambda _done, _total: None
) -> tuple[Report, list[Match]]:
    """Returns the report of the day that a code names, and the figures of it that have this code: one, or none, or once
    in a while two. Raises ValueError for what is no code."""
    wanted, day = codes.read(text)
    check = _checked(published, [day], None, progress)
    found = []
    for gateway, seq, outcome in check.nodes.values():
        node = outcome.node
        for indicator in figures(outcome):
            if codes.code(node.stream, node.level, node.start_s, node.end_s, indicator) == wanted:
                at = node.stream, node.level, utc(node.start_s), indicator
                row = check.tables.get(at)
                differs = "row_missing" if row is None else check.objection(row, outcome)
                found.append(Match(gateway, seq, outcome, indicator, row, None if published.rows is None else differs))
    return check.report, found


def _first(pair: tuple[tuple[str, str, int], Outcome]) -> tuple[str, str, int]:
    return pair[0]


def _version(policy: _Policy) -> int:
    return policy.version


def _date(day: int) -> str:
    return utc(day * DAY_S)[:10]


def _day(text: str) -> int:
    """Returns a day (since 1970, UTC). Raises ValueError."""
    day = parse_utc(f"{text}T00:00:00Z") // DAY_S
    if not 0 <= day < LAST_DAY:
        raise ValueError(f"{text} is no day of ours")
    return day


def _account(told: Mapping[str, Any]) -> _Account:
    """Returns what an entry says, with the types that it must have. Raises ValueError, KeyError, TypeError."""
    nodes = {}
    for one in told["streams"]:
        levels = {str(level): (int(a), int(b), int(c)) for level, (a, b, c) in one["nodes"].items()}
        nodes[str(one["stream"]), int(one["policy"])] = levels
    newest = int(told["last"])
    without = [(int(first), int(last)) for first, last in told.get("without", ())]
    if not all(0 < first <= last <= newest for first, last in without):
        raise ValueError("numbers that were not given")
    return _Account(newest, bytes.fromhex(told["hash"]), nodes, without)


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns the same numbers in ranges that are apart from each other, in order."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(set(ranges)):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def _first_missing(at: int, end: int, without: Sequence[tuple[int, int]]) -> int | None:
    """Returns the first number of `[at, end)` that is in none of these ranges, as `_joined` returns them; None if all
    are."""
    place = bisect_right(without, at, key=_begin) - 1
    if place >= 0 and at <= without[place][1]:
        at = without[place][1] + 1
    return at if at < end else None


def _begin(pair: tuple[int, int]) -> int:
    return pair[0]


def _name(message: Message) -> str:
    return f"{message.gateway} {message.seq}"


def _node(outcome: Outcome) -> str:
    return f"{outcome.node.stream} {outcome.node.level} {utc(outcome.node.start_s)}"


def _opens(sealed: bytes, stewards: Sequence[bytes], required: int) -> bool:
    try:
        wire.open_annotation(sealed, stewards, required)
    except WireError:
        return False
    return True


def _charge(made: Plan, stream: str, level: str) -> int | None:
    """Returns what one node of a level costs, in micro-rho; None where the policy has none."""
    part = made.streams.get(stream)
    found = [node for node in part.nodes if node.level == level] if part else []
    return sum(one.rho_micro for one in found[0].indicators) if found else None


def _alike(one: Noised, other: Noised) -> bool:
    return one.indicator == other.indicator and len(one.integers) == len(other.integers)


def _tiling(whole: Release, fine: Mapping[int, Release]) -> list[Release]:
    """Returns the finer releases that tile a coarser one, nothing if they leave a hole."""
    found, at_s = [], whole.node.covered_from_s
    while at_s < whole.node.end_s and at_s in fine and fine[at_s].node.covered_from_s == at_s:
        found.append(fine[at_s])
        at_s = found[-1].node.end_s
    return found if at_s == whole.node.end_s else []


def _most(made: Plan, level: str, day: int) -> int:
    """Returns how many nodes of a level end on a day (since 1970, UTC)."""
    return _ending(made.calendar.timezone, level, day)


@lru_cache(maxsize=65_536)
def _ending(timezone: str, level: str, day: int) -> int:
    dates, at_s, count = calendar(timezone), day * DAY_S, 0
    while (end_s := dates.node(level, at_s).end_s) <= (day + 1) * DAY_S:
        count, at_s = count + 1, end_s
    return count
